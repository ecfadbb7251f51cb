/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cow/base/fusemount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/base/fdpass.h"
#include "cow/base/mounts.h"
#include "cow/base/path.h"

bool fusemount_privileged(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	if (syscall(SYS_capget, &head, data) < 0)
		return false;
	return data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN);
}

int fusemount_direct(const char *target, const char *source, int *ret_fd)
{
	CLEANUP(close_p) int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	char options[160];

	if (fd < 0)
		return -errno;
	/* Other users may look as the modes allow only where root asked: the kernel keeps an
	 * ordinary user's mount to that user. */
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=%u,group_id=%u,default_permissions%s", fd, geteuid(),
		 getegid(), geteuid() == 0 ? ",allow_other" : "");
	if (mount(source, target, MOUNTS_TYPE, MS_RDONLY | MS_NOSUID | MS_NODEV, options) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

#define COMM_FD 3 /* of the helper's: no option of ours has another descriptor */

/* Our environment with the descriptor's number instead of whatever stood there. Borrowed strings. */
static char **helper_environment(char *own)
{
	size_t n = 0, kept = 0;
	char **list;

	while (environ && environ[n])
		n++;
	list = calloc(n + 2, sizeof(*list));
	if (!list)
		return NULL;
	list[kept++] = own;
	for (size_t i = 0; i < n; i++)
		if (strncmp(environ[i], "_FUSE_COMMFD=", 13) != 0)
			list[kept++] = environ[i];
	return list;
}

/* umbrafs has signals blocked and ignored; the helper starts as from a shell. */
static int spawn_helper(char **argv, int comm, char **environment, pid_t *ret)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, fatal;
	int r;

	sigemptyset(&none);
	sigemptyset(&fatal);
	sigaddset(&fatal, SIGPIPE);
	r = posix_spawn_file_actions_init(&files);
	if (r != 0)
		return -r;
	r = posix_spawnattr_init(&attr);
	if (r == 0) {
		if (comm >= 0)
			r = posix_spawn_file_actions_adddup2(&files, comm, COMM_FD);
		if (r == 0)
			r = posix_spawnattr_setsigmask(&attr, &none);
		if (r == 0)
			r = posix_spawnattr_setsigdefault(&attr, &fatal);
		if (r == 0)
			r = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK |
								    POSIX_SPAWN_SETSIGDEF);
		if (r == 0)
			r = posix_spawnp(ret, argv[0], &files, &attr, argv, environment);
		posix_spawnattr_destroy(&attr);
	}
	posix_spawn_file_actions_destroy(&files);
	return -r;
}

/* Run fusermount3; returns its exit status, or -errno. comm -1: none. posix_spawn, since other threads may hold
 * any lock while one forks. */
static int run_helper(char **argv, int comm)
{
	char own[32];
	CLEANUP(free_p) char **environment = NULL;
	int status, r;
	pid_t pid;

	snprintf(own, sizeof(own), "_FUSE_COMMFD=%d", COMM_FD);
	environment = helper_environment(own);
	if (!environment)
		return -ENOMEM;
	r = spawn_helper(argv, comm, environment, &pid);
	if (r < 0)
		return r == -ENOENT ? -ENOPKG : r;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	if (!WIFEXITED(status))
		return -EIO;
	return WEXITSTATUS(status) == 127 ? -ENOPKG : WEXITSTATUS(status);
}

/* fusermount3 reads its connection as a stream of one byte, see libfuse lib/mount.c. */
int fusemount_helper(const char *target, const char *source, int *ret_fd)
{
	CLEANUP(close_p) int ours = -1;
	CLEANUP(close_p) int theirs = -1;
	char options[512], byte;
	char *argv[] = { (char *)"fusermount3", (char *)"-o",	options,
			 (char *)"--",		(char *)target, NULL };
	int pair[2], fd = -1, r;

	r = fdpass_stream_pair(pair);
	if (r < 0)
		return r;
	ours = pair[0];
	theirs = pair[1];
	snprintf(options, sizeof(options),
		 "ro,nosuid,nodev,default_permissions,fsname=%s,subtype=umbra", source);
	r = run_helper(argv, theirs);
	if (r != 0)
		return r < 0 ? r : -EPERM; /* it said why */
	close(TAKE_FD(theirs));
	r = fdpass_receive(ours, &byte, 1, &fd);
	if (r < 0)
		return r;
	if (fd < 0)
		return -EPROTO;
	*ret_fd = fd;
	return 0;
}

int fusemount(const char *target, const char *source, int *ret_fd)
{
	int r = -EPERM;

	if (fusemount_privileged())
		r = fusemount_direct(target, source, ret_fd);
	if (r == -EPERM || r == -EACCES)
		r = fusemount_helper(target, source, ret_fd);
	return r;
}

/* The directory that a mount of Umbra's is in. A mount point cannot be renamed while it is one, what is above it can: so
 * from here its name leads to that mount and to no other. A descriptor of the mount itself would keep it busy. */
static int open_above(const char *target, int *ret_fd)
{
	CLEANUP(mounts_done) struct mounts mounts = { 0 };
	CLEANUP(free_p) char *above = strndup(target, (size_t)(path_last(target) - target));
	CLEANUP(close_p) int dir = above ? open(above, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	CLEANUP(close_p) int root = -1;
	const struct mount *at;
	int r, id;

	if (!above)
		return -ENOMEM;
	root = dir < 0 ? -1
		       : openat(dir, path_last(target),
				O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (root < 0)
		return errno == ENOTDIR ? -EINVAL : -errno;
	id = mounts_id_of(root);
	r = id < 0 ? id : mounts_read(&mounts);
	if (r < 0)
		return r;
	at = mounts_at(&mounts, target);
	if (!at || at->id != id || !mount_is_umbra(at))
		return -EINVAL;
	*ret_fd = TAKE_FD(dir);
	return 0;
}

int fusemount_unmount(const char *target, bool lazy)
{
	CLEANUP(close_p) int above = -1;
	CLEANUP(free_p) char *path = NULL;
	char *argv[6] = { (char *)"fusermount3", (char *)"-u", NULL };
	int n = 2, r;

	r = open_above(target, &above);
	if (r < 0)
		return r;
	if (asprintf(&path, "/proc/self/fd/%d/%s", above, path_last(target)) < 0)
		return -ENOMEM;
	if (umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	argv[n++] = (char *)"-q";
	if (lazy)
		argv[n++] = (char *)"-z";
	argv[n++] = (char *)target;
	argv[n] = NULL;
	r = run_helper(argv, -1);
	return r > 0 ? -EBUSY : r; /* it does not tell; being in use is by far the likeliest */
}
