/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra backup: a requester's session around a command (K-1), which finds its files in the snapshots (M-9). */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow/base/err.h"
#include "cow/base/fdpass.h"
#include "tools/commands.h"
#include "tools/common.h"
#include "tools/ns.h"
#include "tools/path.h"
#include "tools/print.h"
#include "tools/session.h"
#include "tools/text.h"
#include "tools/trees.h"

/* As shells have it. */
#define STATUS_NOT_RUNNABLE 126
#define STATUS_NOT_FOUND 127
#define STATUS_SIGNAL 128

struct backup {
	struct session_plan plan;
	struct trees trees;
	bool in_place;
	char **command;
};

/* ---- the command's environment */

/* Where the command finds DIR number i: at its own path, or below the snapshot's. malloc'ed. */
static char *seen_path(const struct backup *b, const struct session *s, size_t i)
{
	const struct named_dir *dir = &b->trees.dirs[i];
	CLEANUP(free_p) char *root = NULL;

	if (!b->in_place)
		return strdup(dir->path);
	root = tool_path(json_array_get(s->snapshots, dir->tree), "path");
	return root ? path_join(root, dir->relative) : NULL;
}

static int set_environment(const struct backup *b, const struct session *s)
{
	if (setenv("UMBRA_SET", s->set_id, 1) < 0)
		return tool_no_memory();
	for (size_t i = 0; i < b->trees.dir_count; i++) {
		CLEANUP(free_p) char *path = seen_path(b, s, i);
		char name[40];

		if (!path)
			return tool_error(
				"%s has no directory of snapshots to read from (leave --in-place "
				"out, or protect it with --snapshots hidden)",
				LOG_QUOTE(b->trees.dirs[i].path));
		snprintf(name, sizeof(name), "UMBRA_SNAPSHOT_%zu", i + 1);
		if (setenv(name, path, 1) < 0 ||
		    (i == 0 && setenv("UMBRA_SNAPSHOT_PATH", path, 1) < 0))
			return tool_no_memory();
	}
	return 0;
}

/* ---- the child */

static int compare_paths(const void *a, const void *b)
{
	return strcmp(**(char **const *)a, **(char **const *)b);
}

/* All snapshots over their directories; one inside another comes after it. */
static int mount_all(int sock, const struct backup *b, const struct session *s)
{
	CLEANUP(free_p) char ***order = calloc(b->trees.count, sizeof(*order));
	int r = order ? 0 : -ENOMEM;

	for (size_t i = 0; order && i < b->trees.count; i++)
		order[i] = &b->trees.list[i].path;
	if (order)
		qsort(order, b->trees.count, sizeof(*order), compare_paths);
	for (size_t i = 0; r == 0 && i < b->trees.count; i++) {
		CLEANUP(free_p) char *source = NULL;
		unsigned index = 0;

		while (&b->trees.list[index].path != order[i])
			index++;
		source = ns_source(json_array_get(s->snapshots, index));
		r = source ? ns_mount(sock, index, b->trees.list[index].path, true, source)
			   : -ENOMEM;
	}
	return r;
}

static void child(int sock, const struct backup *b, const struct session *s, const sigset_t *mask)
{
	CLEANUP(free_p) char *cwd = get_current_dir_name();
	const char *what;
	int r;

	if (!b->in_place) {
		r = ns_enter(&what);
		if (r < 0) {
			ns_fail(sock, r, what);
			_exit(STATUS_NOT_RUNNABLE);
		}
		if (mount_all(sock, b, s) < 0)
			_exit(STATUS_NOT_RUNNABLE); /* said where it happened */
		/* The working directory may now lie below a snapshot: look it up again. */
		if (cwd && chdir(cwd) < 0) {
			ns_fail(sock, -errno,
				"the working directory, which the snapshot does not have");
			_exit(STATUS_NOT_RUNNABLE);
		}
	}
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(b->command[0], b->command);
	r = -errno;
	log_error("%s: %s", LOG_QUOTE(b->command[0]), err_text(r));
	_exit(r == -ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_RUNNABLE);
}

/* ---- the parent */

/* Wait for the command; hand signals on that somebody sent to us. Those of the terminal reach it
 * without our help. Returns its wait status. */
static int wait_for_command(pid_t pid, int sigfd)
{
	struct signalfd_siginfo info;
	int status = 0;

	while (read(sigfd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGCHLD) {
			if (waitpid(pid, &status, WNOHANG) == pid)
				return status;
		} else if (info.ssi_code <= 0) { /* SI_USER, SI_QUEUE ...: by a process */
			kill(pid, (int)info.ssi_signo);
		}
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

/* Start the command and wait for it. 0, and its exit status as a shell has it; or an exit status of
 * ours when it could not be started. */
static int run_command(struct backup *b, struct session *s, int *ret_status)
{
	CLEANUP(close_p) int sigfd = -1;
	CLEANUP(close_p) int ours = -1;
	sigset_t signals, before;
	int pair[2], status, r;
	pid_t pid;

	r = set_environment(b, s);
	if (r != 0)
		return r;
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGQUIT);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGUSR2);
	sigprocmask(SIG_BLOCK, &signals, &before);
	if (tool_signal())
		return tool_error("interrupted before the command was started");
	sigfd = signalfd(-1, &signals, SFD_CLOEXEC);
	r = fdpass_pair(pair);
	if (sigfd < 0 || r < 0)
		return tool_error("signals and sockets: %s", err_text(r < 0 ? r : -errno));
	ours = pair[0];
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		close(pair[0]); /* else the child would keep its own connection alive */
		child(pair[1], b, s, &before);
	}
	close(pair[1]);
	if (pid < 0)
		return tool_error("fork: %s", err_text(-errno));
	r = ns_serve(ours, s->client, s->snapshots, b->trees.paths);
	close(TAKE_FD(ours));
	if (r != 0 && !b->in_place)
		log_error(
			"the command was not run (--in-place needs no namespace: the command then reads "
			"$UMBRA_SNAPSHOT_PATH)");
	status = wait_for_command(pid, sigfd);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (r != 0)
		return r;
	*ret_status = WIFSIGNALED(status) ? STATUS_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
	return 0;
}

static int backup(struct backup *b, char **dirs, int n)
{
	struct session s;
	int status = 0, r;

	r = trees_find(&b->trees, dirs, n);
	if (r != 0)
		return r;
	b->plan.trees = b->trees.paths;
	b->plan.tree_count = b->trees.count;
	tool_catch_signals();
	r = session_create(&s, &b->plan);
	if (r == 0)
		log_debug("set %s is there", s.set_id);
	if (r == 0)
		r = run_command(b, &s, &status);
	if (r == 0 && status == 0) {
		r = session_complete(&s);
		if (r == 0)
			r = session_status(&s);
	} else if (r == 0) {
		log_warn("%s ended with %d, so the backup does not count", LOG_QUOTE(b->command[0]),
			 status);
	}
	session_end(&s);
	return status ? status : r;
}

/* ---- the command line */

enum {
	OPT_IN_PLACE = TOOL_OPT_OWN,
	OPT_ORIGINAL,
	OPT_CONTEXT,
	OPT_REQUIRE,
	OPT_INCLUDE,
	OPT_EXCLUDE
};

static const struct option options[] = {
	TOOL_LONG,
	{ "in-place", 0, NULL, OPT_IN_PLACE },
	{ "at-original-path", 0, NULL, OPT_ORIGINAL },
	{ "context", 1, NULL, OPT_CONTEXT },
	{ "require-writers", 0, NULL, OPT_REQUIRE },
	{ "include", 1, NULL, OPT_INCLUDE },
	{ "exclude", 1, NULL, OPT_EXCLUDE },
	{ 0 },
};

static int run(int argc, char **argv)
{
	struct backup b = { .plan.context = "backup" };
	int c, r, dashes;

	for (dashes = 1; dashes < argc && strcmp(argv[dashes], "--") != 0; dashes++)
		;
	while ((c = getopt_long(dashes, argv, TOOL_SHORT, options, NULL)) != -1) {
		switch (c) {
		case OPT_IN_PLACE:
			b.in_place = true;
			break;
		case OPT_ORIGINAL:
			b.in_place = false;
			break;
		case OPT_REQUIRE:
			b.plan.require_writers = true;
			break;
		case OPT_INCLUDE:
		case OPT_EXCLUDE:
			if (!session_writers_add(c == OPT_INCLUDE ? &b.plan.include
								  : &b.plan.exclude,
						 optarg))
				return tool_usage(&cmd_backup, "more than %d writers are named",
						  SESSION_WRITERS_MAX);
			break;
		case OPT_CONTEXT:
			b.plan.context = text_context(optarg, true);
			if (!b.plan.context)
				return tool_usage(&cmd_backup, "there is no context %s",
						  LOG_QUOTE(optarg));
			break;
		default:
			r = tool_option(&cmd_backup, c, argv);
			if (r != TOOL_GO_ON)
				return r;
		}
	}
	if (optind == dashes)
		return tool_usage(&cmd_backup, "backup needs a directory");
	if (dashes + 1 >= argc)
		return tool_usage(&cmd_backup, "backup needs a command behind --");
	b.command = argv + dashes + 1;
	r = backup(&b, argv + optind, dashes - optind);
	trees_done(&b.trees);
	return r;
}

const struct command cmd_backup = {
	.name = "backup",
	.args = "[OPTION]... DIR... -- COMMAND [ARGUMENT]...",
	.summary = "run a backup program on snapshots of DIRs, made before and gone afterwards",
	.help = "  --at-original-path  COMMAND sees the snapshots at the DIRs' own paths (default)\n"
		"  --in-place          COMMAND sees the live DIRs and reads $UMBRA_SNAPSHOT_PATH\n"
		"  --context C         backup (default), file-share-backup, app-rollback, ...\n"
		"  --require-writers   fail when an application cannot pause\n"
		"  --include WRITER    pause only this application (name or id); may be repeated\n"
		"  --exclude WRITER    do not pause this one; may be repeated\n\n"
		"COMMAND's exit status is handed on; 0 tells the applications that were paused that the\n"
		"backup succeeded. Its environment has UMBRA_SET, UMBRA_SNAPSHOT_PATH (of the first\n"
		"DIR) and UMBRA_SNAPSHOT_1, UMBRA_SNAPSHOT_2 ... (of each).\n\n"
		"Example: umbra backup /srv/db -- restic backup /srv/db\n",
	.run = run,
};
