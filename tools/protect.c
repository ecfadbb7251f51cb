/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra protect: mount the overlay over a directory. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cow/base/bytes.h"
#include "cow/base/clock.h"
#include "cow/base/err.h"
#include "cow/base/fusemount.h"
#include "cow/base/mounts.h"
#include "cow/base/path.h"
#include "tools/commands.h"
#include "tools/common.h"
#include "tools/path.h"
#include "tools/print.h"

/* The daemon is mounted when it says so; its registration takes one more message. */
#define LIST_TIMEOUT_MS 60000

enum { OPT_STORE = TOOL_OPT_OWN, OPT_MAX, OPT_SNAPSHOTS, OPT_ALLOW_OTHER };

struct protect {
	const char *given; /* DIR as typed, for messages */
	char *dir;	   /* the same, resolved; owned */
	char *store;	   /* resolved, owned; NULL: the default */
	const char *max_store, *snapshots;
	bool allow_other, foreground;
};

/* ---- what can be said before anything is changed */

static int check_mounts(const struct protect *p)
{
	CLEANUP(mounts_done) struct mounts mounts = { 0 };
	const struct mount *above;
	int r = mounts_read(&mounts);

	if (r < 0)
		return tool_error("the mount table: %s", err_text(r));
	above = mounts_umbra_above(&mounts, p->dir);
	if (above && mount_is_snapshot(above))
		return tool_error(
			"%s lies in a mounted snapshot, which never changes (protect the live "
			"directory)",
			LOG_QUOTE(p->given));
	if (above && strstr(p->dir, "/.snapshots/"))
		return tool_error(
			"%s lies in a snapshot, which never changes (protect the live directory)",
			LOG_QUOTE(p->given));
	if (above && strcmp(above->point, p->dir) == 0)
		return tool_error("%s is protected already (see: umbra status)",
				  LOG_QUOTE(p->given));
	if (above)
		return tool_error(
			"%s lies in %s, which is protected already (its snapshots hold it; to "
			"protect it alone: umbra unprotect %s)",
			LOG_QUOTE(p->given), LOG_QUOTE(above->point), LOG_QUOTE(above->point));
	for (size_t i = 0; i < mounts.count; i++) {
		const char *below = path_below(p->dir, mounts.list[i].point);

		if (below && *below && mount_is_umbra(&mounts.list[i]))
			return tool_error(
				"%s holds %s, which Umbra has mounted; protecting would hide it "
				"(unmount that first, protect it again afterwards)",
				LOG_QUOTE(p->given), LOG_QUOTE(mounts.list[i].point));
	}
	return 0;
}

/* Protocol rule N-5: what is mounted below belongs to another file system. */
static void warn_of_mounts(const struct protect *p)
{
	CLEANUP(mounts_done) struct mounts mounts = { 0 };

	if (mounts_read(&mounts) < 0)
		return;
	for (size_t i = 0; i < mounts.count; i++) {
		const char *below = path_below(p->dir, mounts.list[i].point);

		if (below && *below)
			log_warn(
				"%s is mounted below %s: it stays usable, but is in no snapshot",
				LOG_QUOTE(mounts.list[i].point), LOG_QUOTE(p->given));
	}
}

/* First of all, since a dead mount makes every other question fail. */
static int check_alive(const struct protect *p)
{
	struct stat st;

	if (mounts_is_dead(p->dir))
		return tool_error("%s has a dead mount over it, its daemon is gone (try: umbra "
				  "unprotect %s; then protect again)",
				  LOG_QUOTE(p->given), LOG_QUOTE(p->given));
	if (stat(p->dir, &st) < 0)
		return tool_error("%s: %s", LOG_QUOTE(p->given), err_text(-errno));
	if (!S_ISDIR(st.st_mode))
		return tool_error(
			"%s is not a directory (protect the directory that holds it: umbra "
			"protect DIR)",
			LOG_QUOTE(p->given));
	return 0;
}

static int check_rights(const struct protect *p)
{
	if (access(p->dir, R_OK | W_OK | X_OK) < 0)
		return tool_error(
			"%s: %s (you need to read and write it; its owner or root can protect it)",
			LOG_QUOTE(p->given), err_text(-errno));
	if (access("/dev/fuse", R_OK | W_OK) < 0)
		return tool_error(
			"/dev/fuse: %s (load the module: modprobe fuse; or ask for access to it)",
			err_text(-errno));
	return 0;
}

static int check_store(const struct protect *p)
{
	struct stat st;

	if (!p->store)
		return 0;
	if (stat(p->store, &st) < 0) {
		if (errno != ENOENT) /* umbrafs makes it */
			return tool_error("--store %s: %s", LOG_QUOTE(p->store), err_text(-errno));
		st.st_mode = S_IFDIR;
	}
	if (!S_ISDIR(st.st_mode))
		return tool_error("--store %s is not a directory", LOG_QUOTE(p->store));
	if (path_below(p->dir, p->store))
		return tool_error(
			"--store %s lies in %s itself (leave --store out: the default is a hidden "
			"directory there; or give a place outside)",
			LOG_QUOTE(p->store), LOG_QUOTE(p->given));
	return 0;
}

/* ---- starting */

static int start_coordinator(void)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	CLEANUP(free_p) char *program = NULL;
	char *argv[4] = { 0 }, path[4096];
	int r;

	r = umbra_connect(NULL, &c);
	if (r == 0)
		return 0;
	if (r != -ENOENT && r != -ECONNREFUSED)
		return tool_connect(&c); /* says why */
	r = umbra_socket_path(true, path, sizeof(path));
	if (r < 0)
		return tool_error("the place of the coordinator's socket: %s", err_text(r));
	program = tool_find_program("coordinator", "umbra-coordinator");
	if (!program)
		return tool_error("umbra-coordinator is missing (install it, or put it in PATH)");
	argv[0] = program;
	return tool_start_daemon(argv, 1, NULL);
}

static int start_filesystem(const struct protect *p, pid_t *ret_pid)
{
	CLEANUP(free_p) char *program = tool_find_program("fs", "umbrafs");
	char *argv[16] = { program };
	int n = 1;

	if (!program)
		return tool_error("umbrafs is missing (install it, or put it in PATH)");
	if (p->foreground)
		argv[n++] = (char *)"-f";
	if (p->store) {
		argv[n++] = (char *)"--store";
		argv[n++] = p->store;
	}
	if (p->max_store) {
		argv[n++] = (char *)"--max-store";
		argv[n++] = (char *)p->max_store;
	}
	if (p->snapshots) {
		argv[n++] = (char *)"--snapshots";
		argv[n++] = (char *)p->snapshots;
	}
	if (p->allow_other)
		argv[n++] = (char *)"--allow-other";
	argv[n++] = p->dir;
	/* getopt_long() takes options behind DIR too, so --ready-fd may follow it. */
	return tool_start_daemon(argv, n, p->foreground ? ret_pid : NULL);
}

/* The coordinator's entry for the directory, NULL as long as there is none. */
static int look_for_tree(const struct protect *p, json_t **ret)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	CLEANUP(json_decref_p) json_t *answer = NULL;
	json_t *tree;
	size_t i;
	int r = tool_connect(&c);

	if (r == 0)
		r = tool_call(c, "ListTrees", NULL, &answer);
	if (r != 0)
		return r;
	json_array_foreach(json_object_get(answer, "trees"), i, tree) {
		CLEANUP(free_p) char *path = tool_path(tree, "path");

		if (path && strcmp(path, p->dir) == 0) {
			*ret = json_incref(tree);
			return 0;
		}
	}
	*ret = NULL;
	return 0;
}

static int wait_for_tree(const struct protect *p, json_t **ret)
{
	uint64_t until_ns = clock_deadline_ms(LIST_TIMEOUT_MS);
	struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };

	for (;;) {
		int r = look_for_tree(p, ret);

		if (r != 0 || *ret)
			return r;
		if (clock_expired(until_ns))
			return tool_error(
				"%s is mounted, but the coordinator does not list it (see umbra "
				"status and the log; umbra unprotect %s takes it back)",
				LOG_QUOTE(p->given), LOG_QUOTE(p->given));
		nanosleep(&pause, NULL);
	}
}

/* -f: stay until the daemon ends; a signal to us unmounts. */
static int stay(const struct protect *p, pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return tool_error("waiting for umbrafs: %s", err_text(-errno));
		kill(pid, SIGTERM);
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return tool_error("umbrafs of %s ended with %s %d", LOG_QUOTE(p->given),
			  WIFEXITED(status) ? "status" : "signal",
			  WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

static int protect(struct protect *p)
{
	CLEANUP(json_decref_p) json_t *tree = NULL;
	pid_t pid = -1;
	int r;

	r = check_alive(p);
	if (r == 0)
		r = check_mounts(p);
	if (r == 0)
		r = check_rights(p);
	if (r == 0)
		r = check_store(p);
	if (r == 0)
		warn_of_mounts(p);
	if (r == 0)
		r = start_coordinator();
	if (r == 0 && p->foreground)
		tool_catch_signals();
	if (r == 0)
		r = start_filesystem(p, &pid);
	if (r == 0)
		r = wait_for_tree(p, &tree);
	if (r == 0 && tool_opts.json)
		print_json(json_pack("{sO}", "tree", tree));
	else if (r == 0)
		log_info("%s is protected", LOG_QUOTE(p->dir));
	if (pid < 0)
		return r;
	print_finish();
	if (r != 0)
		kill(pid, SIGTERM);
	return tool_worse(r, stay(p, pid));
}

/* ---- the command line */

static int take_option(struct protect *p, int c, char **argv)
{
	uint64_t bytes;
	int r;

	switch (c) {
	case 'f':
		p->foreground = true;
		return TOOL_GO_ON;
	case OPT_ALLOW_OTHER:
		p->allow_other = true;
		return TOOL_GO_ON;
	case OPT_STORE:
		free(p->store);
		p->store = NULL;
		r = path_resolve(optarg, true, &p->store);
		return r < 0 ? tool_error("--store %s: %s", LOG_QUOTE(optarg), err_text(r))
			     : TOOL_GO_ON;
	case OPT_MAX:
		if (bytes_parse_limit(optarg, 100, &bytes) < 0)
			return tool_usage(&cmd_protect,
					  "--max-store: %s is neither a size (20G) nor a per "
					  "cent of the disk (10%%)",
					  LOG_QUOTE(optarg));
		p->max_store = optarg;
		return TOOL_GO_ON;
	case OPT_SNAPSHOTS:
		if (strcmp(optarg, "hidden") != 0 && strcmp(optarg, "visible") != 0 &&
		    strcmp(optarg, "off") != 0)
			return tool_usage(&cmd_protect,
					  "--snapshots is hidden, visible or off, not %s",
					  LOG_QUOTE(optarg));
		p->snapshots = optarg;
		return TOOL_GO_ON;
	}
	return tool_option(&cmd_protect, c, argv);
}

static int run(int argc, char **argv)
{
	static const struct option options[] = {
		TOOL_LONG,
		{ "store", 1, NULL, OPT_STORE },
		{ "max-store", 1, NULL, OPT_MAX },
		{ "snapshots", 1, NULL, OPT_SNAPSHOTS },
		{ "allow-other", 0, NULL, OPT_ALLOW_OTHER },
		{ "foreground", 0, NULL, 'f' },
		{ 0 },
	};
	struct protect p = { 0 };
	int c, r = TOOL_GO_ON;

	while (r == TOOL_GO_ON &&
	       (c = getopt_long(argc, argv, TOOL_SHORT "f", options, NULL)) != -1)
		r = take_option(&p, c, argv);
	if (r == TOOL_GO_ON && argc - optind != 1)
		r = tool_usage(&cmd_protect, "protect needs one directory");
	if (r == TOOL_GO_ON) {
		p.given = argv[optind];
		r = path_resolve(p.given, true, &p.dir);
		r = r < 0 ? tool_error("%s: %s", LOG_QUOTE(p.given), err_text(r)) : protect(&p);
	}
	free(p.dir);
	free(p.store);
	return r;
}

const struct command cmd_protect = {
	.name = "protect",
	.args = "[OPTION]... DIR",
	.summary = "make a directory able to have snapshots, until umbra unprotect",
	.help = "  --store DIR        keep old data there instead of in a hidden directory of DIR\n"
		"  --max-store SIZE   at most so much old data: 20G, or 10% of the disk\n"
		"  --snapshots HOW    DIR/.snapshots is hidden (default: there but not listed),\n"
		"                     visible, or off\n"
		"  --allow-other      other users may use DIR too (as its modes allow)\n"
		"  -f, --foreground   stay; ends with the mount, and a signal ends the mount\n\n"
		"The files stay what and where they are. Starts the coordinator if none runs.\n\n"
		"Example: umbra protect /srv/db\n",
	.run = run,
};
