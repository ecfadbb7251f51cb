/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra writer systemd: systemctl freeze and thaw (systemd 246 and later). */
#include <stdio.h>
#include <string.h>

#include "cow/base/clock.h"
#include "tools/writer/freezecmd.h"
#include "tools/writer/guard.h"
#include "tools/writer/kinds.h"

struct unit {
	struct freezer f; /* first: the handlers get it */
	const char *name;
	bool user; /* the user's manager */
};

/* systemctl [--user] VERB [-p PROPERTY --value] -- UNIT */
static int systemctl(const struct unit *u, struct freezecmd *c, const char *verb,
		     const char *property, uint64_t deadline_ns, bool thaws)
{
	const char *argv[10];
	int n = 0;

	argv[n++] = "systemctl";
	argv[n++] = verb;
	if (u->user)
		argv[n++] = "--user";
	if (property) {
		argv[n++] = "-p";
		argv[n++] = property;
		argv[n++] = "--value";
	}
	argv[n++] = "--";
	argv[n++] = u->name;
	argv[n] = NULL;
	return freezecmd_run(c, (char *const *)argv, deadline_ns, thaws);
}

static int on_is_frozen(struct freezer *f, struct umbra_writer *w,
			const struct umbra_writer_event *e, uint64_t deadline_ns)
{
	struct unit *u = (struct unit *)f;
	struct freezecmd c;

	if (systemctl(u, &c, "show", "FreezerState", deadline_ns, false) != 0)
		return freezecmd_failed(w, &c);
	return strcmp(c.answer, "frozen") == 0;
}

static int on_freeze(struct freezer *f, struct umbra_writer *w, const struct umbra_writer_event *e,
		     uint64_t deadline_ns)
{
	struct unit *u = (struct unit *)f;
	struct freezecmd c;

	if (systemctl(u, &c, "freeze", NULL, deadline_ns, false) != 0)
		return freezecmd_failed(w, &c);
	/* What it exits with is no proof: a unit whose freezer is missing is left as it is. */
	if (systemctl(u, &c, "show", "FreezerState", deadline_ns, false) != 0)
		return freezecmd_failed(w, &c);
	if (strcmp(c.answer, "frozen") != 0)
		return writer_fail(w, UMBRA_WRITER_NON_RETRYABLE,
				   "systemctl froze %s, but it is %s, not frozen",
				   LOG_QUOTE(u->name), LOG_QUOTE(c.answer));
	return 0;
}

static int on_thaw(struct freezer *f, struct umbra_writer *w, const struct umbra_writer_event *e,
		   uint64_t deadline_ns)
{
	struct unit *u = (struct unit *)f;
	struct freezecmd c, state;

	if (systemctl(u, &c, "thaw", NULL, deadline_ns, true) == 0)
		return 0;
	/* A unit that was stopped or is gone meanwhile cannot be thawed, and need not. */
	if (systemctl(u, &state, "show", "FreezerState", deadline_ns, true) == 0 &&
	    strcmp(state.answer, "running") == 0)
		return 0;
	return freezecmd_failed(w, &c);
}

/* What would be frozen with it: 0, TOOL_AGAIN, TOOL_FAILED. */
static int guard(const struct unit *u, struct umbra_writer *w, uint64_t deadline_ns)
{
	CLEANUP(free_p) char *dir = NULL;
	struct freezecmd c;

	if (systemctl(u, &c, "show", "ControlGroup", deadline_ns, false) != 0) {
		freezecmd_failed(w, &c);
		return TOOL_FAILED;
	}
	if (c.answer[0] != '/') /* not running: it holds nobody */
		return 0;
	dir = guard_cgroup_dir(c.answer);
	return dir ? guard_check(dir, u->name, w) : 0;
}

static int on_prepare(struct freezer *f, struct umbra_writer *w, const struct umbra_writer_event *e,
		      uint64_t deadline_ns)
{
	return guard((struct unit *)f, w, deadline_ns);
}

static int before_register(struct writer_program *p, void *data)
{
	return guard(data, NULL, clock_deadline_ms(60000));
}

enum { OPT_USER = WRITER_OPT_OWN };

int writer_systemd_run(int argc, char **argv)
{
	static const struct option options[] = { { "user", 0, NULL, OPT_USER }, { 0 } };
	struct unit u = {
		.f = {
			.p = {
				.kind = "systemd",
				.args = "UNIT",
				.summary = "stop all processes of a systemd unit while a snapshot is taken",
				.help = "  --user            a unit of the user's own manager\n\n"
					"Uses systemctl freeze and thaw, which need systemd 246 or later. What a snapshot\n"
					"shows is what a sudden power cut would leave: see umbra writer cgroup.\n\n"
					"Example: umbra writer systemd app.service\n",
				.options = options,
				.usage = "system-service",
				.before_register = before_register,
			},
			.prepare = on_prepare,
			.is_frozen = on_is_frozen,
			.freeze = on_freeze,
			.thaw = on_thaw,
		},
	};
	CLEANUP(free_p) char *key = NULL;
	int c;

	while ((c = writer_getopt(&u.f.p, argc, argv)) == OPT_USER)
		u.user = true;
	if (c == WRITER_EXIT)
		return u.f.p.status;
	if (argc - optind != 1 || !*argv[optind])
		return writer_usage(&u.f.p, "one unit is needed");
	u.name = argv[optind];
	if (!u.f.p.instance)
		u.f.p.instance = u.name;
	if (asprintf(&key, "%s%s", u.user ? "user " : "", u.name) < 0)
		return tool_no_memory();
	return freezer_run(&u.f, key);
}
