/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cow/base/cleanup.h"

#define CHUNK_BYTES (4u << 20)
#define TRIES 100

#define PROC_FD_SIZE 40

/* A name by which the xattr calls reach what an O_PATH descriptor stands for, links included: the
 * kernel stops at the magic link's own target (proc_pid_fd(5)). */
static char *proc_fd(char buf[PROC_FD_SIZE], int fd)
{
	snprintf(buf, PROC_FD_SIZE, "/proc/self/fd/%d", fd);
	return buf;
}

/* ---- attributes */

/* What a caller without the right, or a file system without the feature, may leave out. */
static bool may_be_left_out(const char *name, int r)
{
	if (r == -EOPNOTSUPP)
		return true;
	return (r == -EPERM || r == -EACCES || r == -EINVAL) && strncmp(name, "user.", 5) != 0;
}

static int list_xattrs(const char *path, char **ret, size_t *ret_len)
{
	for (;;) {
		ssize_t n = listxattr(path, NULL, 0), got;
		char *list;

		if (n < 0 && errno != EOPNOTSUPP)
			return -errno;
		list = malloc(n > 0 ? (size_t)n : 1);
		if (!list)
			return -ENOMEM;
		got = n > 0 ? listxattr(path, list, (size_t)n) : 0;
		if (got >= 0) {
			*ret = list;
			*ret_len = (size_t)got;
			return 0;
		}
		free(list);
		if (errno != ERANGE) /* grew meanwhile */
			return -errno;
	}
}

static bool has_name(const char *list, size_t len, const char *name)
{
	for (const char *p = list; p < list + len; p += strlen(p) + 1) {
		if (strcmp(p, name) == 0)
			return true;
	}
	return false;
}

static int copy_xattr(const char *src, const char *dst, const char *name)
{
	CLEANUP(free_p) char *value = malloc(65536); /* XATTR_SIZE_MAX */
	ssize_t n;

	if (!value)
		return -ENOMEM;
	n = getxattr(src, name, value, 65536);
	if (n < 0)
		return errno == ENODATA || may_be_left_out(name, -errno) ? 0 : -errno;
	if (setxattr(dst, name, value, (size_t)n, 0) < 0 && !may_be_left_out(name, -errno))
		return -errno;
	return 0;
}

static int copy_xattrs(int src_fd, int dst_fd)
{
	CLEANUP(free_p) char *want = NULL, *have = NULL;
	char src[PROC_FD_SIZE], dst[PROC_FD_SIZE];
	size_t want_len, have_len;
	int r;

	proc_fd(src, src_fd);
	proc_fd(dst, dst_fd);
	r = list_xattrs(src, &want, &want_len);
	if (r == 0)
		r = list_xattrs(dst, &have, &have_len);
	if (r < 0)
		return r;
	for (const char *p = have; p < have + have_len; p += strlen(p) + 1) {
		if (!has_name(want, want_len, p) && strncmp(p, "security.selinux", 16) != 0 &&
		    removexattr(dst, p) < 0 && errno != ENODATA && !may_be_left_out(p, -errno))
			return -errno;
	}
	for (const char *p = want; p < want + want_len && r == 0; p += strlen(p) + 1)
		r = copy_xattr(src, dst, p);
	return r;
}

/* Of a file that no descriptor can write to (link, device) the same by its name. */
static int copy_attributes_at(int src_fd, const struct stat *st, int dst_dir, const char *name)
{
	CLEANUP(close_p) int fd = openat(dst_dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	const struct timespec times[2] = { st->st_atim, st->st_mtim };
	int r;

	if (fd < 0)
		return -errno;
	if (fchownat(dst_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0 &&
	    errno != EPERM)
		return -errno;
	if (!S_ISLNK(st->st_mode) && fchmodat(dst_dir, name, st->st_mode & 07777, 0) < 0)
		return -errno;
	r = copy_xattrs(src_fd, fd);
	if (r < 0)
		return r;
	return utimensat(dst_dir, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int copy_attributes(int src_fd, const struct stat *st, int dst_fd)
{
	const struct timespec times[2] = { st->st_atim, st->st_mtim };
	mode_t mode = st->st_mode & 07777;
	int r;

	/* The owner first: changing it clears set-id bits and file capabilities. */
	if (fchown(dst_fd, st->st_uid, st->st_gid) < 0) {
		if (errno != EPERM)
			return -errno;
		/* Not ours to give away: nobody must get the rights of another owner by it. */
		if (fchown(dst_fd, (uid_t)-1, st->st_gid) < 0)
			mode &= ~(mode_t)S_ISGID;
		if (st->st_uid != geteuid())
			mode &= ~(mode_t)S_ISUID;
	}
	if (fchmod(dst_fd, mode) < 0)
		return -errno;
	r = copy_xattrs(src_fd, dst_fd);
	if (r < 0)
		return r;
	/* An ACL that went took its mask with it. */
	if (fchmod(dst_fd, mode) < 0)
		return -errno;
	return futimens(dst_fd, times) < 0 ? -errno : 0;
}

/* ---- contents */

static int write_all(int fd, const char *buf, size_t len, off_t at)
{
	while (len) {
		ssize_t n = pwrite(fd, buf, len, at);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			buf += n;
			len -= (size_t)n;
			at += n;
		}
	}
	return 0;
}

/* The bytes of [at, end), which hold data. */
static int copy_range(int src, int dst, off_t at, off_t end, char *buf, copy_progress_fn *progress,
		      void *ctx)
{
	while (at < end) {
		size_t want = end - at < (off_t)CHUNK_BYTES ? (size_t)(end - at) : CHUNK_BYTES;
		ssize_t n = pread(src, buf, want, at);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		r = write_all(dst, buf, (size_t)n, at);
		if (r < 0)
			return r;
		at += n;
		if (progress)
			progress(ctx, (uint64_t)n);
	}
	return 0;
}

static int copy_contents(int src, int dst, off_t size, copy_progress_fn *progress, void *ctx)
{
	CLEANUP(free_p) char *buf = NULL;
	off_t at = 0, data, hole;
	int r;

	if (size == 0)
		return 0;
	if (ioctl(dst, FICLONE, src) == 0) {
		if (progress)
			progress(ctx, (uint64_t)size);
		return 0;
	}
	if (ftruncate(dst, size) < 0)
		return -errno;
	buf = malloc(CHUNK_BYTES);
	if (!buf)
		return -ENOMEM;
	while (at < size) {
		data = lseek(src, at, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			break; /* a hole up to the end */
		if (data < 0)
			data = at; /* cannot tell: everything is data */
		hole = lseek(src, data, SEEK_HOLE);
		if (hole < 0)
			hole = size;
		if (progress)
			progress(ctx, (uint64_t)(data - at));
		r = copy_range(src, dst, data, hole < size ? hole : size, buf, progress, ctx);
		if (r < 0)
			return r;
		at = hole;
	}
	return 0;
}

/* ---- the temporary name */

static void make_name(char name[40])
{
	static unsigned counter;

	snprintf(name, 40, ".umbra-restore.%d.%u", (int)getpid(), counter++);
}

static int fill_file(const struct copy_source *src, int dst, copy_progress_fn *progress, void *ctx)
{
	CLEANUP(close_p) int in = openat(src->dir_fd, src->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (in < 0)
		return -errno;
	r = copy_contents(in, dst, src->st->st_size, progress, ctx);
	if (r == 0)
		r = copy_attributes(in, src->st, dst);
	if (r == 0 && fsync(dst) < 0)
		r = -errno;
	return r;
}

static int make_file(const struct copy_source *src, int dir, const char *name,
		     copy_progress_fn *progress, void *ctx)
{
	CLEANUP(close_p)
	int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return -errno;
	r = fill_file(src, fd, progress, ctx);
	if (close(TAKE_FD(fd)) < 0 && r == 0)
		r = -errno;
	if (r < 0)
		unlinkat(dir, name, 0);
	return r;
}

static int make_symlink(const struct copy_source *src, int dir, const char *name)
{
	CLEANUP(free_p) char *target = malloc(PATH_MAX + 1);
	ssize_t n;

	if (!target)
		return -ENOMEM;
	n = readlinkat(src->dir_fd, src->name, target, PATH_MAX);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	return symlinkat(target, dir, name) < 0 ? -errno : 0;
}

static int make_special(const struct copy_source *src, int dir, const char *name)
{
	int r;

	if (S_ISLNK(src->st->st_mode))
		r = make_symlink(src, dir, name);
	else
		r = mknodat(dir, name, (src->st->st_mode & S_IFMT) | 0600, src->st->st_rdev) < 0
			    ? -errno
			    : 0;
	if (r < 0)
		return r;
	r = copy_attributes_at(src->fd, src->st, dir, name);
	if (r < 0)
		unlinkat(dir, name, 0);
	return r;
}

/* Put the finished temporary in its place. */
static int put(int dir, const char *temporary, const char *name)
{
	int r = renameat(dir, temporary, dir, name) < 0 ? -errno : 0;

	/* Still there after a failure, and when both were names of one file: rename(2) then does
	 * nothing. */
	unlinkat(dir, temporary, 0);
	return r;
}

int copy_replace(const struct copy_source *src, int dst_dir, const char *dst_name,
		 copy_progress_fn *progress, void *ctx)
{
	char temporary[40];
	int r = -EEXIST;

	for (int i = 0; i < TRIES && r == -EEXIST; i++) {
		make_name(temporary);
		r = S_ISREG(src->st->st_mode) ? make_file(src, dst_dir, temporary, progress, ctx)
					      : make_special(src, dst_dir, temporary);
	}
	return r < 0 ? r : put(dst_dir, temporary, dst_name);
}

int copy_link(int link_dir, const char *link_name, int dst_dir, const char *dst_name)
{
	char temporary[40];
	int r = -EEXIST;

	for (int i = 0; i < TRIES && r == -EEXIST; i++) {
		make_name(temporary);
		r = linkat(link_dir, link_name, dst_dir, temporary, 0) < 0 ? -errno : 0;
	}
	return r < 0 ? r : put(dst_dir, temporary, dst_name);
}
