/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra writer container: podman pause and unpause, or docker's. */
#include <stdio.h>
#include <string.h>

#include "cow/base/clock.h"
#include "tools/path.h"
#include "tools/writer/freezecmd.h"
#include "tools/writer/guard.h"
#include "tools/writer/kinds.h"

struct container {
	struct freezer f; /* first: the handlers get it */
	const char *name, *engine;
};

enum state { GONE, RUNNING, PAUSED, STOPPED, CHANGING };

static int engine(const struct container *c, struct freezecmd *cmd, const char *verb,
		  uint64_t deadline_ns, bool thaws)
{
	const char *argv[] = { c->engine, verb, "--", c->name, NULL };

	return freezecmd_run(cmd, (char *const *)argv, deadline_ns, thaws);
}

/* One member of what `inspect` knows: an answer in cmd, or as freezecmd_run(). */
static int inspect(const struct container *c, struct freezecmd *cmd, const char *format,
		   uint64_t deadline_ns, bool thaws)
{
	const char *argv[] = { c->engine, "container", "inspect", "--format",
			       format,	  "--",	       c->name,	  NULL };

	return freezecmd_run(cmd, (char *const *)argv, deadline_ns, thaws);
}

/* Its state now; GONE with words in cmd->why when it cannot be had. */
static enum state state_of(const struct container *c, struct freezecmd *cmd, uint64_t deadline_ns,
			   bool thaws)
{
	static const struct {
		const char *word;
		enum state state;
	} words[] = { { "running", RUNNING },	  { "paused", PAUSED },	  { "exited", STOPPED },
		      { "created", STOPPED },	  { "stopped", STOPPED }, { "configured", STOPPED },
		      { "initialized", STOPPED }, { "dead", STOPPED } };

	if (inspect(c, cmd, "{{.State.Status}}", deadline_ns, thaws) != 0)
		return GONE;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(cmd->answer, words[i].word) == 0)
			return words[i].state;
	}
	return CHANGING;
}

static int on_is_frozen(struct freezer *f, struct umbra_writer *w,
			const struct umbra_writer_event *e, uint64_t deadline_ns)
{
	struct container *c = (struct container *)f;
	struct freezecmd cmd;

	switch (state_of(c, &cmd, deadline_ns, false)) {
	case GONE:
		return freezecmd_failed(w, &cmd);
	case CHANGING:
		return writer_fail(w, UMBRA_WRITER_RETRYABLE, "container %s is %s",
				   LOG_QUOTE(c->name), LOG_QUOTE(cmd.answer));
	case PAUSED:
		return 1;
	case RUNNING:
	case STOPPED:
		break;
	}
	return 0;
}

static int on_freeze(struct freezer *f, struct umbra_writer *w, const struct umbra_writer_event *e,
		     uint64_t deadline_ns)
{
	struct container *c = (struct container *)f;
	struct freezecmd cmd, after;
	enum state state;

	(void)engine(c, &cmd, "pause", deadline_ns, false);
	/* What counts is what it is now. A stopped one writes nothing. */
	state = state_of(c, &after, deadline_ns, false);
	if (state == PAUSED || state == STOPPED)
		return 0;
	if (cmd.result != 0)
		return freezecmd_failed(w, &cmd);
	if (state == GONE)
		return freezecmd_failed(w, &after);
	return writer_fail(w, UMBRA_WRITER_NON_RETRYABLE, "%s paused %s, but it is %s",
			   LOG_QUOTE(path_last(c->engine)), LOG_QUOTE(c->name),
			   LOG_QUOTE(after.answer));
}

/* Podman and docker have 125 and 1 for "there is none" as for much else: their words tell. */
static bool says_it_is_gone(const struct freezecmd *cmd)
{
	return cmd->result > 0 && strcasestr(cmd->why, "no such");
}

static int on_thaw(struct freezer *f, struct umbra_writer *w, const struct umbra_writer_event *e,
		   uint64_t deadline_ns)
{
	struct container *c = (struct container *)f;
	struct freezecmd cmd, after;

	if (engine(c, &cmd, "unpause", deadline_ns, true) == 0)
		return 0;
	/* It was stopped or removed, or somebody else let it go on. */
	switch (state_of(c, &after, deadline_ns, true)) {
	case RUNNING:
	case STOPPED:
		return 0;
	case GONE:
		if (says_it_is_gone(&after))
			return 0;
		break;
	case PAUSED:
	case CHANGING:
		break;
	}
	return freezecmd_failed(w, &cmd);
}

/* A container that Umbra itself runs in cannot be a writer: 0, TOOL_AGAIN, TOOL_FAILED. One that is
 * not there, or does not run, holds nobody; Freeze looks again. */
static int guard(const struct container *c, struct umbra_writer *w, uint64_t deadline_ns)
{
	CLEANUP(free_p) char *cgroup = NULL, *dir = NULL;
	struct freezecmd cmd;
	int pid = 0;

	if (inspect(c, &cmd, "{{.State.Pid}}", deadline_ns, false) != 0 ||
	    sscanf(cmd.answer, "%d", &pid) != 1 || pid <= 0)
		return 0;
	cgroup = guard_cgroup_of(pid);
	/* With the host's own root as its cgroup there is none of its own. */
	dir = cgroup && strcmp(cgroup, "/") != 0 ? guard_cgroup_dir(cgroup) : NULL;
	return dir ? guard_check(dir, c->name, w) : 0;
}

static int on_prepare(struct freezer *f, struct umbra_writer *w, const struct umbra_writer_event *e,
		      uint64_t deadline_ns)
{
	return guard((struct container *)f, w, deadline_ns);
}

static int before_register(struct writer_program *p, void *data)
{
	return guard(data, NULL, clock_deadline_ms(60000));
}

static bool in_path(const char *program)
{
	const char *argv[] = { program, "--version", NULL };
	struct freezecmd cmd;

	return freezecmd_run(&cmd, (char *const *)argv, clock_deadline_ms(60000), false) == 0;
}

enum { OPT_ENGINE = WRITER_OPT_OWN };

int writer_container_run(int argc, char **argv)
{
	static const struct option options[] = { { "engine", 1, NULL, OPT_ENGINE }, { 0 } };
	struct container u = {
		.f = {
			.p = {
				.kind = "container",
				.args = "NAME",
				.summary = "pause a container while a snapshot is taken",
				.help = "  --engine PROGRAM  podman (the default where it is installed) or docker\n\n"
					"What a snapshot shows is what a sudden power cut would leave: see umbra writer\n"
					"cgroup. A container that does not run is no failure.\n\n"
					"Example: umbra writer container web\n",
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

	while ((c = writer_getopt(&u.f.p, argc, argv)) == OPT_ENGINE)
		u.engine = optarg;
	if (c == WRITER_EXIT)
		return u.f.p.status;
	if (argc - optind != 1 || !*argv[optind])
		return writer_usage(&u.f.p, "one container is needed");
	u.name = argv[optind];
	if (!u.engine)
		u.engine = in_path("podman") ? "podman" : "docker";
	if (!in_path(u.engine))
		return tool_error("%s cannot be run (try --engine PROGRAM)", LOG_QUOTE(u.engine));
	if (!u.f.p.instance)
		u.f.p.instance = u.name;
	if (asprintf(&key, "%s %s", path_last(u.engine), u.name) < 0)
		return tool_no_memory();
	return freezer_run(&u.f, key);
}
