/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra unprotect: unmount the overlay, wait until its daemon has closed the store. */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cow/base/clock.h"
#include "cow/base/err.h"
#include "cow/base/fusemount.h"
#include "cow/base/mounts.h"
#include "cow/base/path.h"
#include "tools/commands.h"
#include "tools/common.h"
#include "tools/path.h"
#include "tools/print.h"

#define ASK_MS 2000 /* a coordinator that is stopped keeps nobody from ending a protection */
#define CLOSE_TIMEOUT_MS (10 * 60 * 1000)
#define POLL_MS 200

/* The daemon of a directory as the coordinator knows it; -1 when it knows none, or does not answer. */
static pid_t ask_for_daemon(const char *dir)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	CLEANUP(json_decref_p) json_t *answer = NULL;
	const json_t *tree;
	size_t i;

	if (umbra_connect_until(NULL, -1, clock_deadline_ms(ASK_MS), &c) < 0 ||
	    umbra_call(c, "ListTrees", NULL, -1, &answer, NULL, NULL) < 0)
		return -1;
	json_array_foreach(json_object_get(answer, "trees"), i, tree) {
		CLEANUP(free_p) char *path = tool_path(tree, "path");

		if (path && strcmp(path, dir) == 0)
			return (pid_t)tool_int(tree, "pid");
	}
	return -1;
}

/* Whether a process is an umbrafs with dir as an argument, which is how umbra protect starts it. Anybody can call himself
 * so; the mount says whose daemon it has. */
static bool serves(const char *pid, uid_t uid, const char *dir)
{
	CLEANUP(fclose_p) FILE *f = NULL;
	CLEANUP(free_p) char *arg = NULL;
	char path[300];
	size_t size = 0;
	bool ours = false;
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%s", pid);
	if (stat(path, &st) < 0 || st.st_uid != uid)
		return false;
	snprintf(path, sizeof(path), "/proc/%s/cmdline", pid);
	f = fopen(path, "re");
	for (int i = 0; f && getdelim(&arg, &size, '\0', f) > 0; i++) {
		if (i == 0 && strcmp(path_last(arg), "umbrafs") != 0)
			return false;
		ours = ours || (i > 0 && strcmp(arg, dir) == 0);
	}
	return ours;
}

/* Without a coordinator, or with one that lost it: look among all processes. */
static pid_t look_for_daemon(const char *dir, uid_t uid)
{
	CLEANUP(closedir_p) DIR *proc = opendir("/proc");
	const struct dirent *e;

	while (proc && (e = readdir(proc))) {
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && serves(e->d_name, uid, dir))
			return atoi(e->d_name);
	}
	return -1;
}

/* As a pidfd, which stays that process; -1 for none. */
static int open_daemon(const char *dir, uid_t uid, pid_t *ret_pid)
{
	*ret_pid = ask_for_daemon(dir);
	if (*ret_pid < 0)
		*ret_pid = look_for_daemon(dir, uid);
	return *ret_pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, *ret_pid, 0);
}

/* Whether a link of /proc/PID points into dir. */
static bool points_into(const char *pid, const char *link, const char *dir)
{
	char path[300], target[PATH_MAX];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%s/%s", pid, link);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = '\0';
	return path_below(dir, target) != NULL;
}

static bool uses(const char *pid, const char *dir)
{
	CLEANUP(closedir_p) DIR *d = NULL;
	const struct dirent *e;
	char path[300];

	if (points_into(pid, "cwd", dir) || points_into(pid, "root", dir) ||
	    points_into(pid, "exe", dir))
		return true;
	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		char link[300];

		snprintf(link, sizeof(link), "fd/%s", e->d_name);
		if (e->d_name[0] != '.' && points_into(pid, link, dir))
			return true;
	}
	return false;
}

/* " by NAME (PID), NAME (PID)": the first processes found that use it, but for its own daemon; ""
 * when none can be seen. */
static void describe_users(const char *dir, pid_t daemon_pid, char *buf, size_t size)
{
	CLEANUP(closedir_p) DIR *proc = opendir("/proc");
	const struct dirent *e;
	size_t len = 0;
	int found = 0;

	buf[0] = '\0';
	while (proc && (e = readdir(proc)) && found < 4) {
		CLEANUP(fclose_p) FILE *f = NULL;
		char path[300], name[32] = "?";

		if (e->d_name[0] < '1' || e->d_name[0] > '9' || atoi(e->d_name) == daemon_pid ||
		    atoi(e->d_name) == getpid() || !uses(e->d_name, dir))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", e->d_name);
		f = fopen(path, "re");
		if (f && fgets(name, sizeof(name), f))
			name[strcspn(name, "\n")] = '\0';
		if (found++ == 3)
			len += (size_t)snprintf(buf + len, size - len, " and others");
		else
			len += (size_t)snprintf(buf + len, size - len, "%s %.16s (%.10s)",
						found == 1 ? " by" : ",", name, e->d_name);
	}
}

static int unmount(const char *given, const char *dir, pid_t daemon_pid, bool lazy)
{
	char users[200];
	int r = fusemount_unmount(dir, lazy);

	switch (r) {
	case 0:
		return 0;
	case -EBUSY:
		describe_users(dir, daemon_pid, users, sizeof(users));
		return tool_error(
			"%s is in use%s (leave it and close its files, or: umbra unprotect --force "
			"%s)",
			LOG_QUOTE(given), LOG_QUOTE(users), LOG_QUOTE(given));
	case -EPERM:
		return tool_error(
			"%s was protected by somebody else, who has to unprotect it, or root",
			LOG_QUOTE(given));
	case -ENOPKG:
		return tool_error("unmounting %s needs fusermount3 (install fuse3, or be root)",
				  LOG_QUOTE(given));
	default:
		return tool_error("%s: %s", LOG_QUOTE(given), err_text(r));
	}
}

/* A daemon that has closed everything may leave a thread, which waits for somebody else's file system: a mount point of an
 * exposed snapshot that does not answer. The kernel says that such a process has ended when that thread has. */
static bool is_zombie(pid_t pid)
{
	CLEANUP(fclose_p) FILE *f = NULL;
	char path[40], text[512];
	const char *at;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
	text[n] = '\0';
	at = strrchr(text, ')'); /* proc_pid_stat(5): behind the name, which may hold anything */
	return at && strncmp(at, ") Z", 3) == 0;
}

/* As poll(2): 1 it has ended, 0 not yet. */
static int poll_end(int pidfd, pid_t pid, uint64_t until_ns)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int r;

	do
		r = poll(&p, 1, POLL_MS);
	while (r == 0 && !is_zombie(pid) && !clock_expired(until_ns));
	return r == 0 && is_zombie(pid) ? 1 : r;
}

/* Until the daemon has ended, so that the store is closed and DIR can be protected again. */
static int wait_for_end(const char *given, int pidfd, pid_t pid)
{
	int r = poll_end(pidfd, pid, clock_deadline_ms(1000));

	if (r == 0) {
		log_info("waiting until the store of %s is closed ...", LOG_QUOTE(given));
		r = poll_end(pidfd, pid, clock_deadline_ms(CLOSE_TIMEOUT_MS));
	}
	if (r > 0)
		return 0;
	if (r < 0 && errno == EINTR)
		return tool_error("interrupted; %s is unmounted, its daemon still closes the store",
				  LOG_QUOTE(given));
	return tool_error("%s is unmounted, but its daemon has not ended yet (see its log)",
			  LOG_QUOTE(given));
}

static int unprotect(const char *given, bool force)
{
	CLEANUP(mounts_done) struct mounts mounts = { 0 };
	CLEANUP(free_p) char *path = NULL, *dir = NULL;
	CLEANUP(close_p) int pidfd = -1;
	const struct mount *at;
	pid_t pid = -1;
	int r;

	r = path_resolve(given, true, &path); /* stops before a dead mount, see there */
	if (r == 0)
		r = mounts_read(&mounts);
	if (r < 0)
		return tool_error("%s: %s", LOG_QUOTE(given), err_text(r));
	at = mounts_umbra_above(&mounts, path);
	if (!at)
		return tool_error("%s is not protected (see: umbra status)", LOG_QUOTE(given));
	if (mount_is_snapshot(at))
		return tool_error("%s is %s snapshot (try: umbra %s %s)", LOG_QUOTE(given),
				  mount_is_exposed(at) ? "an exposed" : "a mounted",
				  mount_is_exposed(at) ? "unexpose" : "umount",
				  LOG_QUOTE(at->point));
	dir = strdup(at->point);
	if (!dir)
		return tool_no_memory();
	pidfd = open_daemon(dir, at->uid, &pid);
	r = unmount(given, dir, pid, force);
	/* Also where it is in use: its daemon ends whenever the mount is gone from here. */
	if (r == 0 && pidfd >= 0)
		r = wait_for_end(given, pidfd, pid);
	if (r == 0)
		log_info("%s is not protected any more; its files stay as they are",
			 LOG_QUOTE(dir));
	return r;
}

enum { OPT_FORCE = TOOL_OPT_OWN };

static int run(int argc, char **argv)
{
	static const struct option options[] = { TOOL_LONG,
						 { "force", 0, NULL, OPT_FORCE },
						 { 0 } };
	bool force = false;
	int c, r;

	while ((c = getopt_long(argc, argv, TOOL_SHORT, options, NULL)) != -1) {
		if (c == OPT_FORCE) {
			force = true;
			continue;
		}
		r = tool_option(&cmd_unprotect, c, argv);
		if (r != TOOL_GO_ON)
			return r;
	}
	if (argc - optind != 1)
		return tool_usage(&cmd_unprotect, "unprotect needs one directory");
	r = unprotect(argv[optind], force);
	if (r == 0 && tool_opts.json)
		print_json(json_pack("{sb}", "unprotected", true));
	return r;
}

const struct command cmd_unprotect = {
	.name = "unprotect",
	.args = "[OPTION]... DIR",
	.summary = "end the protection of a directory; its files stay as they are",
	.help = "  --force  even while in use: who has it open gets errors\n\n"
		"Persistent snapshots stay in the store and return with the next protect. This also\n"
		"takes away what a daemon that crashed left over a directory.\n\n"
		"Example: umbra unprotect /srv/db\n",
	.run = run,
};
