/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/ns.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow/base/err.h"
#include "cow/base/fdpass.h"
#include "cow/base/fusemount.h"
#include "cow/base/mounts.h"
#include "cow/base/path.h"
#include "tools/common.h"

static int write_text(const char *path, const char *text)
{
	CLEANUP(close_p) int fd = open(path, O_WRONLY | O_CLOEXEC);
	size_t len = strlen(text);

	if (fd < 0)
		return -errno;
	return write(fd, text, len) == (ssize_t)len ? 0 : -errno;
}

/* The new user namespace knows one user and one group: the caller's, under their own numbers. */
static int map_ids(uid_t uid, gid_t gid)
{
	char line[64];
	int r;

	r = write_text("/proc/self/setgroups", "deny");
	if (r < 0 && r != -ENOENT)
		return r;
	snprintf(line, sizeof(line), "%u %u 1\n", gid, gid);
	r = write_text("/proc/self/gid_map", line);
	if (r < 0)
		return r;
	snprintf(line, sizeof(line), "%u %u 1\n", uid, uid);
	return write_text("/proc/self/uid_map", line);
}

int ns_enter(const char **ret_what)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int r;

	if (!fusemount_privileged() || unshare(CLONE_NEWNS) < 0) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) {
			*ret_what = "private namespaces are not possible here";
			return -errno;
		}
		r = map_ids(uid, gid);
		if (r < 0) {
			*ret_what = "mapping the user into a private namespace";
			return r;
		}
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		*ret_what = "making the mounts private";
		return -errno;
	}
	return 0;
}

void ns_fail(int sock, int error, const char *what)
{
	struct ns_message m = { .kind = NS_FAILED, .error = error };

	snprintf(m.what, sizeof(m.what), "%s", what);
	(void)fdpass_send(sock, &m, sizeof(m), -1); /* a dead parent needs no telling */
}

/* Over what a tree's path leads to in this namespace: the tree, or in it an empty directory of an outer one's snapshot.
 * Anything else is where somebody led it who may rename what is above: he would choose what the command sees there. */
static int mount_in_umbra(const char *target, const char *source, int *ret_fd)
{
	CLEANUP(mounts_done) struct mounts mounts = { 0 };
	CLEANUP(close_p) int dir = -1;
	const struct mount *at;
	char link[40];
	int r = mounts_open(target, &mounts, &at, &dir);

	if (r < 0)
		return r;
	if (!mount_is_trusted(at))
		return -ESTALE;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", dir);
	return fusemount_direct(link, source, ret_fd);
}

int ns_mount(int sock, unsigned index, const char *target, bool over_tree, const char *source)
{
	struct ns_message m = { .kind = NS_MOUNTED, .index = index };
	CLEANUP(close_p) int fd = -1;
	int r, none;
	char served;

	r = over_tree ? mount_in_umbra(target, source, &fd) : fusemount_direct(target, source, &fd);
	if (r < 0) {
		ns_fail(sock, r,
			r == -ESTALE		       ? "the path leads elsewhere by now"
			: r == -EACCES || r == -ENOENT ? "/dev/fuse"
						       : "mounting the snapshot");
		return r;
	}
	r = fdpass_send(sock, &m, sizeof(m), fd);
	if (r < 0)
		return r;
	r = fdpass_receive(sock, &served, 1, &none);
	return r == 1 ? 0 : -ECANCELED; /* it said why */
}

char *ns_source(const json_t *snapshot)
{
	char *p;

	return asprintf(&p, "%s%s", MOUNTS_SNAPSHOT_SOURCE, tool_str(snapshot, "id")) < 0 ? NULL
											  : p;
}

static int serve_one(int sock, struct umbra_client *c, const json_t *snapshot, const char *target,
		     int fd)
{
	json_t *params = json_pack("{ss}", "snapshot_id", tool_str(snapshot, "id"));
	int r;

	if (!params || umbra_json_set_path(params, "mountpoint", target) < 0) {
		json_decref(params);
		return tool_no_memory();
	}
	r = tool_call_fd(c, "ServeSnapshot", params, fd, NULL, NULL);
	if (r == 0 && fdpass_send(sock, "k", 1, -1) < 0)
		return tool_error("the process of the snapshot's namespace is gone");
	return r;
}

int ns_serve(int sock, struct umbra_client *c, const json_t *snapshots, char *const *targets)
{
	for (;;) {
		CLEANUP(close_p) int fd = -1;
		struct ns_message m;
		const json_t *snapshot;
		int r = fdpass_receive(sock, &m, sizeof(m), &fd);

		if (r == 0)
			return 0;
		if (r < 0)
			return tool_error("private namespace: %s", err_text(r));
		if (r != sizeof(m))
			return tool_error("private namespace: broken message");
		if (m.kind == NS_FAILED)
			return tool_error("%s: %s", m.what, err_text(m.error));
		snapshot = json_array_get(snapshots, m.index);
		if (!snapshot || fd < 0)
			return tool_error("private namespace: broken message");
		r = serve_one(sock, c, snapshot, targets[m.index], fd);
		if (r != 0)
			return r;
	}
}

/* ---- a snapshot's root without a mount that others see */

/* In the child: mount over any directory, hand the mount's root back, end. The mount then lives on
 * through that descriptor alone, since the namespace it was in is gone. */
static void child_open(int sock, int answer, const char *source)
{
	CLEANUP(close_p) int fd = -1;
	const char *what;
	int r = ns_enter(&what);

	if (r < 0) {
		ns_fail(sock, r, what);
		_exit(1);
	}
	if (ns_mount(sock, 0, "/proc", false, source) < 0)
		_exit(1);
	fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		ns_fail(sock, -errno, "opening the snapshot");
	else
		(void)fdpass_send(answer, "k", 1, fd);
	_exit(0);
}

static int open_private(struct umbra_client *c, const json_t *snapshot, int *ret_fd)
{
	CLEANUP(json_decref_p) json_t *list = json_pack("[O]", (json_t *)snapshot);
	CLEANUP(free_p) char *source = ns_source(snapshot);
	CLEANUP(close_p) int ours = -1;
	CLEANUP(close_p) int answer = -1;
	int work[2], result[2], fd = -1, r;
	char byte, target[] = "/(private)", *targets[] = { target };
	pid_t pid;

	if (!list || !source)
		return tool_no_memory();
	r = fdpass_pair(work);
	if (r < 0)
		return tool_error("socket: %s", err_text(r));
	ours = work[0];
	r = fdpass_pair(result);
	if (r < 0) {
		close(work[1]);
		return tool_error("socket: %s", err_text(r));
	}
	answer = result[0];
	pid = fork();
	if (pid == 0) {
		/* Else the child would keep its own connection alive and never see its end. */
		close(work[0]);
		close(result[0]);
		child_open(work[1], result[1], source);
	}
	close(work[1]);
	close(result[1]);
	if (pid < 0)
		return tool_error("fork: %s", err_text(-errno));
	r = ns_serve(ours, c, list, targets);
	close(TAKE_FD(ours)); /* a child that still waits for its mount gives up */
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (r != 0)
		return r;
	r = fdpass_receive(answer, &byte, 1, &fd);
	if (r < 0 || fd < 0)
		return tool_error("the snapshot could not be opened in a private namespace");
	*ret_fd = fd;
	return 0;
}

/* Below .snapshots of the tree that is meant: others may rename what is above it, so not by the whole path. */
static int open_shown(const json_t *snapshot, const char *path)
{
	CLEANUP(free_p) char *tree = tool_path(snapshot, "tree_path");
	CLEANUP(close_p) int root = -1;
	const char *below = tree ? path_below(tree, path) : NULL;
	int fd, r;

	if (!below || !*below)
		return -ENOENT;
	r = mounts_open_tree(tree, &root);
	if (r < 0)
		return r;
	fd = openat(root, below + strspn(below, "/"),
		    O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int ns_open_snapshot(struct umbra_client *c, const json_t *snapshot, int *ret_fd)
{
	CLEANUP(free_p) char *path = tool_path(snapshot, "path");
	int fd;

	if (path) {
		fd = open_shown(snapshot, path);
		if (fd >= 0) {
			*ret_fd = fd;
			return 0;
		}
		log_debug("%s: %s, so by a private mount", LOG_QUOTE(path), err_text(fd));
	}
	return open_private(c, snapshot, ret_fd);
}

int ns_open_side(struct umbra_client *c, const json_t *snapshot, const char *tree, int *ret_fd)
{
	int r;

	if (snapshot)
		return ns_open_snapshot(c, snapshot, ret_fd);
	r = mounts_open_tree(tree, ret_fd);
	return r < 0 ? tool_error("%s: %s", LOG_QUOTE(tree), err_text(r)) : 0;
}
