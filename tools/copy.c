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
#include "tools/copy_private.h"

#define CHUNK_BYTES (4u << 20)
#define TRIES 100

#define PROC_FD_SIZE 40

/* A name by which calls without a descriptor reach what an O_PATH descriptor stands for, links included:
 * the kernel stops at the magic link's own target (proc_pid_fd(5)). */
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

/* sure: nobody else reaches it by a name. Else an owner who opened it could write to a program that gets capabilities. */
static int copy_xattrs(int src_fd, int dst_fd, bool sure)
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
	for (const char *p = want; p < want + want_len && r == 0; p += strlen(p) + 1) {
		if (sure || strcmp(p, "security.capability") != 0)
			r = copy_xattr(src, dst, p);
	}
	return r;
}

/* By the descriptor alone: at its name there may be something else by now. */
static int set_attributes(int src_fd, const struct stat *st, int dst_fd, bool sure)
{
	const struct timespec times[2] = { st->st_atim, st->st_mtim };
	mode_t mode = st->st_mode & 07777;
	char dst[PROC_FD_SIZE];
	int r;

	proc_fd(dst, dst_fd);
	/* The owner first: changing it clears set-id bits and file capabilities. */
	if (fchownat(dst_fd, "", st->st_uid, st->st_gid, AT_EMPTY_PATH) < 0) {
		if (errno != EPERM)
			return -errno;
		/* Not ours to give away: nobody must get the rights of another owner by it. */
		if (fchownat(dst_fd, "", (uid_t)-1, st->st_gid, AT_EMPTY_PATH) < 0)
			mode &= ~(mode_t)S_ISGID;
		if (st->st_uid != geteuid())
			mode &= ~(mode_t)S_ISUID;
	}
	if (!S_ISLNK(st->st_mode) && chmod(dst, mode) < 0)
		return -errno;
	r = copy_xattrs(src_fd, dst_fd, sure);
	if (r < 0)
		return r;
	/* An ACL that went took its mask with it. */
	if (!S_ISLNK(st->st_mode) && chmod(dst, mode) < 0)
		return -errno;
	return utimensat(AT_FDCWD, dst, times, 0) < 0 ? -errno : 0;
}

int copy_attributes(int src_fd, const struct stat *st, int dst_fd)
{
	return set_attributes(src_fd, st, dst_fd, true);
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

static void make_name(char name[COPY_NAME_SIZE])
{
	static unsigned counter;

	snprintf(name, COPY_NAME_SIZE, ".umbra-restore.%d.%u", (int)getpid(), counter++);
}

static bool only_ours(const struct stat *st)
{
	return st->st_uid == geteuid() && !(st->st_mode & (S_IWGRP | S_IWOTH));
}

/* Where others may rename and remove, a thing is made in a directory that they cannot enter: until it has its owner, mode
 * and contents nobody can put another in its place, nor open it. What others put in that directory's own place is found
 * out, or is closed to them as well. */
static int enter_place(struct copy_temp *t)
{
	CLEANUP(close_p) int fd = -1;
	struct stat st;

	make_name(t->place);
	if (mkdirat(t->dst_dir, t->place, 0700) < 0)
		return -errno;
	fd = openat(t->dst_dir, t->place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && only_ours(&st) && !(st.st_mode & 077)) {
		t->dir = TAKE_FD(fd);
		t->sure = true;
		return 0;
	}
	/* Somebody interferes, or the file system has owners and modes of its own, like vfat. */
	(void)unlinkat(t->dst_dir, t->place, AT_REMOVEDIR);
	t->place[0] = '\0';
	return 0;
}

static int temp_init(struct copy_temp *t, int dst_dir)
{
	struct stat st;

	*t = (struct copy_temp){ .dst_dir = dst_dir, .dir = dst_dir, .fd = -1 };
	if (fstatat(dst_dir, "", &st, AT_EMPTY_PATH) < 0)
		return -errno;
	make_name(t->name);
	t->sure = only_ours(&st);
	return t->sure ? 0 : enter_place(t);
}

static void temp_done(struct copy_temp *t)
{
	close_p(&t->fd);
	if (!*t->place)
		return;
	close(t->dir);
	/* By its name, so perhaps another's empty one: whoever put it there could have removed that. */
	(void)unlinkat(t->dst_dir, t->place, AT_REMOVEDIR);
}

/* Also what put() left: after a failure, and when both were names of one file, as rename(2) then does nothing. */
static void temp_discard(struct copy_temp *t)
{
	(void)unlinkat(t->dir, t->name, 0);
	temp_done(t);
}

static int put(struct copy_temp *t, const char *dst_name)
{
	int r = renameat(t->dir, t->name, t->dst_dir, dst_name) < 0 ? -errno : 0;

	temp_discard(t);
	return r;
}

/* ---- the thing */

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

/* The descriptor of what was just made. That it is so only a directory closed to others can tell. */
static int open_special(const struct copy_source *src, struct copy_temp *t)
{
	struct stat st;

	t->fd = openat(t->dir, t->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (t->fd < 0 || fstat(t->fd, &st) < 0)
		return -errno;
	return (st.st_mode & S_IFMT) == (src->st->st_mode & S_IFMT) && st.st_nlink == 1 ? 0
											: -ESTALE;
}

static int make_special(const struct copy_source *src, struct copy_temp *t)
{
	mode_t type = src->st->st_mode & S_IFMT;
	int r;

	if (!t->sure)
		return -EPERM;
	if (S_ISLNK(type))
		r = make_symlink(src, t->dir, t->name);
	else
		r = mknodat(t->dir, t->name, type | 0600, src->st->st_rdev) < 0 ? -errno : 0;
	if (r < 0)
		return r;
	r = open_special(src, t);
	if (r < 0)
		(void)unlinkat(t->dir, t->name, 0);
	return r;
}

int copy_make(const struct copy_source *src, int dst_dir, struct copy_temp *ret)
{
	struct copy_temp t;
	int r = temp_init(&t, dst_dir);

	if (r < 0)
		return r;
	if (S_ISREG(src->st->st_mode)) {
		t.fd = openat(t.dir, t.name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			      0600);
		r = t.fd < 0 ? -errno : 0;
	} else {
		r = make_special(src, &t);
	}
	if (r < 0)
		temp_done(&t);
	else
		*ret = t;
	return r;
}

static int fill_file(const struct copy_source *src, const struct copy_temp *t,
		     copy_progress_fn *progress, void *ctx)
{
	CLEANUP(close_p) int in = openat(src->dir_fd, src->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (in < 0)
		return -errno;
	r = copy_contents(in, t->fd, src->st->st_size, progress, ctx);
	if (r == 0)
		r = set_attributes(in, src->st, t->fd, t->sure);
	if (r == 0 && fsync(t->fd) < 0)
		r = -errno;
	return r;
}

int copy_finish(const struct copy_source *src, struct copy_temp *t, const char *dst_name,
		copy_progress_fn *progress, void *ctx, struct stat *ret_made)
{
	struct stat made;
	int r = S_ISREG(src->st->st_mode) ? fill_file(src, t, progress, ctx)
					  : set_attributes(src->fd, src->st, t->fd, t->sure);

	if (r == 0 && fstat(t->fd, &made) < 0)
		r = -errno;
	if (close(TAKE_FD(t->fd)) < 0 && r == 0)
		r = -errno;
	if (r < 0) {
		temp_discard(t);
		return r;
	}
	r = put(t, dst_name);
	if (r == 0 && ret_made)
		*ret_made = made;
	return r;
}

int copy_replace(const struct copy_source *src, int dst_dir, const char *dst_name,
		 copy_progress_fn *progress, void *ctx, struct stat *ret_made)
{
	struct copy_temp t;
	int r = -EEXIST;

	for (int i = 0; i < TRIES && r == -EEXIST; i++)
		r = copy_make(src, dst_dir, &t);
	return r < 0 ? r : copy_finish(src, &t, dst_name, progress, ctx, ret_made);
}

int copy_link(int fd, int dst_dir, const char *dst_name)
{
	char from[PROC_FD_SIZE], temporary[COPY_NAME_SIZE];
	int r = -EEXIST;

	proc_fd(from, fd);
	for (int i = 0; i < TRIES && r == -EEXIST; i++) {
		make_name(temporary);
		r = linkat(AT_FDCWD, from, dst_dir, temporary, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
	}
	if (r < 0)
		return r;
	r = renameat(dst_dir, temporary, dst_dir, dst_name) < 0 ? -errno : 0;
	(void)unlinkat(dst_dir, temporary, 0); /* see temp_discard() */
	return r;
}

/* ---- directories */

static int open_directory(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int move_directory(const struct copy_temp *t, const char *name)
{
	if (renameat2(t->dir, t->name, t->dst_dir, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL) /* not every file system has it; an empty one would be replaced then */
		return -errno;
	return renameat(t->dir, t->name, t->dst_dir, name) < 0 ? -errno : 0;
}

/* As for files: where others cannot reach it, then moved. */
static int make_directory(int dst_dir, const char *name, int *ret_fd)
{
	struct copy_temp t;
	int r = temp_init(&t, dst_dir);

	if (r < 0)
		return r;
	if (!t.sure)
		return mkdirat(dst_dir, name, 0700) < 0 ? -errno : 0;
	r = mkdirat(t.dir, t.name, 0700) < 0 ? -errno : 0;
	if (r == 0) {
		t.fd = open_directory(t.dir, t.name);
		r = t.fd < 0 ? t.fd : move_directory(&t, name);
		if (r < 0)
			(void)unlinkat(t.dir, t.name, AT_REMOVEDIR);
		else
			*ret_fd = TAKE_FD(t.fd);
	}
	temp_done(&t);
	return r < 0 ? r : 1;
}

int copy_directory(int dst_dir, const char *name, int *ret_fd)
{
	int fd = open_directory(dst_dir, name), made = 0;

	for (int i = 0; i < TRIES && fd == -ENOENT; i++) {
		made = make_directory(dst_dir, name, &fd);
		if (made < 0 && made != -EEXIST)
			return made;
		if (made <= 0)
			fd = open_directory(dst_dir, name);
	}
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return made > 0;
}
