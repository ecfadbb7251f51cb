/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra writer hook: a directory of programs, each run for each event (L-2). */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cow/base/clock.h"
#include "cow/base/err.h"
#include "tools/path.h"
#include "tools/writer/child.h"
#include "tools/writer/freezer.h"
#include "tools/writer/hookdir.h"
#include "tools/writer/kinds.h"

#define SHARE_MIN_MS 1000

struct hook {
	struct freezer f; /* first: the handlers get it */
	const char *dir;
};

/* How the programs are run for an event. */
struct round {
	struct umbra_writer *w; /* NULL at the start */
	struct umbra_writer_event e;
	uint64_t deadline_ns;
	bool backwards; /* the last name first */
	bool all;	/* go on after a failure; and a signal to stop does not end it */
};

static int run_one(const struct round *round, const char *path, char **env, int limit_ms)
{
	char *argv[] = { (char *)path, (char *)round->e.name, NULL };
	struct child c = { .argv = argv, .env = env, .input = round->e.arguments };
	char why[CHILD_LINE + 64];
	int r = child_run(&c, limit_ms, !round->all);

	if (r == 0)
		return 0;
	return writer_fail(round->w, child_code(r), "%s %s: %s", LOG_QUOTE(path_last(path)),
			   round->e.name, child_why(&c, r, why, sizeof(why)));
}

/* The time of one program: what is left, and where all of them must have their turn, their share. */
static int share_ms(const struct round *round, size_t left)
{
	int ms = clock_left_ms(round->deadline_ns);

	if (!round->all)
		return ms;
	/* Late or not: what was frozen is thawed. */
	return ms / (int)left > SHARE_MIN_MS ? ms / (int)left : SHARE_MIN_MS;
}

static int run_round(const struct hook *h, const struct round *round)
{
	CLEANUP(hookdir_done) struct hookdir dir = { 0 };
	CLEANUP(strv_free_p) char **env = NULL;
	CLEANUP(free_p) char *bad = NULL;
	int r, failed = 0;

	r = hookdir_read(h->dir, &dir, &bad);
	if (r < 0)
		return writer_fail(round->w, UMBRA_WRITER_NON_RETRYABLE, "%s",
				   bad ? bad : err_text(r));
	env = child_env(round->w, &round->e);
	if (!env)
		return writer_fail(round->w, UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory");
	for (size_t i = 0; i < dir.count; i++) {
		size_t at = round->backwards ? dir.count - 1 - i : i;

		r = run_one(round, dir.paths[at], env, share_ms(round, dir.count - i));
		if (r != 0 && !round->all)
			return r;
		if (r != 0)
			failed = r;
	}
	return failed;
}

static int on_freeze(struct freezer *f, struct umbra_writer *w, const struct umbra_writer_event *e,
		     uint64_t deadline_ns)
{
	struct round round = { .w = w, .e = *e, .deadline_ns = deadline_ns };

	return run_round((struct hook *)f, &round);
}

/* Also for Abort and for a leftover: `thaw` it is, as with qemu-guest-agent, in reverse order. */
static int on_thaw(struct freezer *f, struct umbra_writer *w, const struct umbra_writer_event *e,
		   uint64_t deadline_ns)
{
	struct round round = { .w = w,
			       .e = { .arguments = "{}" },
			       .deadline_ns = deadline_ns,
			       .backwards = true,
			       .all = true };

	if (e)
		round.e = *e;
	round.e.name = "thaw";
	return run_round((struct hook *)f, &round);
}

/* Any other event, under its own name. What tidies up goes on after a failure. */
static int on_event(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	struct hook *h = data;
	struct round round = { .w = w, .e = *e };

	round.deadline_ns = clock_deadline_ms((uint64_t)writer_limit_ms(&h->f.p, e));
	round.all = strncmp(e->name, "prepare-", 8) != 0 && strncmp(e->name, "pre-", 4) != 0;
	return run_round(h, &round);
}

static int on_abort(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	struct hook *h = data;
	struct round round = { .w = w, .e = *e, .backwards = true, .all = true };
	int r;

	round.deadline_ns = clock_deadline_ms((uint64_t)writer_limit_ms(&h->f.p, e));
	r = freezer_on_abort(w, e, data);
	return run_round(h, &round) ? -1 : r;
}

/* Early, so that the words come where somebody reads them. */
static int check_dir(const char *dir)
{
	CLEANUP(hookdir_done) struct hookdir list = { 0 };
	CLEANUP(free_p) char *bad = NULL;
	int r = hookdir_read(dir, &list, &bad);

	if (r < 0 && bad)
		return tool_error("%s: what it runs has my rights", bad);
	if (r < 0)
		return tool_error("%s: %s", LOG_QUOTE(dir), err_text(r));
	if (list.count == 0)
		log_warn("there is nothing to run in %s yet", LOG_QUOTE(dir));
	return 0;
}

int writer_hook_run(int argc, char **argv)
{
	char resolved[PATH_MAX];
	struct hook h = {
		.f = {
			.p = {
				.kind = "hook",
				.args = "DIR",
				.summary = "run the programs of a directory for each event",
				.help = "Each program in DIR is run in the order of their names with the event as its\n"
					"argument: freeze, thaw (in reverse order), and prepare-backup,\n"
					"prepare-for-snapshot, post-snapshot, abort, backup-complete, backup-shutdown,\n"
					"pre-restore, post-restore. Hooks written for qemu-guest-agent work. An exit status\n"
					"other than 0 is a failure, and lets a freeze fail. DIR and all in it must be\n"
					"writable by nobody else.\n\n"
					"Example: umbra writer hook /etc/umbra/hooks.d\n",
			},
			.handlers = {
				.prepare_backup = on_event,
				.prepare_for_snapshot = on_event,
				.post_snapshot = on_event,
				.abort = on_abort,
				.backup_complete = on_event,
				.backup_shutdown = on_event,
				.pre_restore = on_event,
				.post_restore = on_event,
			},
			.freeze = on_freeze,
			.thaw = on_thaw,
		},
	};
	int r;

	if (writer_getopt(&h.f.p, argc, argv) == WRITER_EXIT)
		return h.f.p.status;
	if (argc - optind != 1)
		return writer_usage(&h.f.p, "one directory is needed");
	if (!realpath(argv[optind], resolved))
		return tool_error("%s: %s", LOG_QUOTE(argv[optind]), err_text(-errno));
	h.dir = resolved;
	r = check_dir(h.dir);
	if (r != 0)
		return r;
	if (!h.f.p.instance)
		h.f.p.instance = h.dir;
	return freezer_run(&h.f, h.dir);
}
