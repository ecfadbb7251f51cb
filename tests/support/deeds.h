/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/support/deeds.h - single changes through the store, and single looks at a snapshot, by path.
 * Job:     what a test of one rule says in one line: deed_write(&h, "d/f", 0, "text"), look_is(&h, s, "d/f", "text").
 * Errors:  a deed that fails fails the test; a look returns 0 or -errno.
 * Threads: one. */
#ifndef UMBRA_TESTS_SUPPORT_DEEDS_H
#define UMBRA_TESTS_SUPPORT_DEEDS_H

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "tests/support/harness.h"

#define DEED __attribute__((unused)) static

struct deed_at {
	struct cow_dir dir;
	const char *name; /* borrowed from the path */
};

/* ---- changes ---- */

DEED uint64_t deed_ino(struct harness *h, const char *path)
{
	struct stat st;

	cr_assert_eq(fstatat(h->fd, path, &st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH), 0, "%s: %s",
		     path, strerror(errno));
	return st.st_ino;
}

DEED struct deed_at deed_begin(struct harness *h, const char *path)
{
	struct deed_at at = { .name = path };
	const char *slash = strrchr(path, '/');
	char parent[PATH_MAX] = ".";

	if (slash) {
		snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path), path);
		at.name = slash + 1;
	}
	at.dir.fd = openat(h->fd, parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(at.dir.fd, 0, "%s: %s", parent, strerror(errno));
	at.dir.inode = cow_inode_get(h->st, deed_ino(h, parent));
	cr_assert(at.dir.inode);
	return at;
}

/* What an entry of a directory came to; its new place is known before anybody else passes the gate. */
DEED void deed_end(struct harness *h, struct deed_at *at)
{
	close(at->dir.fd);
	cow_inode_put(h->st, at->dir.inode);
}

/* Inside the gate as the change itself. */
DEED void deed_places(struct harness *h)
{
	cr_assert_eq(harness_place_all(h), 0);
}

#define DEED_NAMED(h, path, r, call)                                                               \
	do {                                                                                       \
		struct deed_at at = deed_begin(h, path);                                           \
                                                                                                   \
		harness_enter(h);                                                                  \
		(r) = (call);                                                                      \
		deed_places(h);                                                                    \
		harness_leave(h);                                                                  \
		deed_end(h, &at);                                                                  \
	} while (0)

DEED void deed_mkdir(struct harness *h, const char *path)
{
	int r;

	DEED_NAMED(h, path, r, cow_mkdir(h->st, at.dir, at.name, 0755));
	cr_assert_eq(r, 0, "mkdir %s: %d", path, r);
}

DEED void deed_symlink(struct harness *h, const char *path, const char *target)
{
	int r;

	DEED_NAMED(h, path, r, cow_symlink(h->st, at.dir, at.name, target));
	cr_assert_eq(r, 0, "symlink %s: %d", path, r);
}

DEED void deed_mknod(struct harness *h, const char *path, mode_t mode, dev_t rdev)
{
	int r;

	DEED_NAMED(h, path, r, cow_mknod(h->st, at.dir, at.name, mode, rdev));
	cr_assert_eq(r, 0, "mknod %s: %d", path, r);
}

DEED int deed_try_unlink(struct harness *h, const char *path)
{
	int r;

	DEED_NAMED(h, path, r, cow_unlink(h->st, at.dir, at.name));
	return r;
}

DEED void deed_unlink(struct harness *h, const char *path)
{
	uint64_t ino = deed_ino(h, path);
	int r;

	/* its other names, if any, are found again below */
	DEED_NAMED(h, path, r,
		   (cow_unlink(h->st, at.dir, at.name)
			    ?: (harness_place_del(h, ino, cow_inode_number(at.dir.inode), at.name),
				0)));
	cr_assert_eq(r, 0, "unlink %s: %d", path, r);
}

DEED void deed_rmdir(struct harness *h, const char *path)
{
	int r;

	DEED_NAMED(h, path, r, cow_rmdir(h->st, at.dir, at.name));
	cr_assert_eq(r, 0, "rmdir %s: %d", path, r);
}

DEED void deed_rename(struct harness *h, const char *from, const char *to, unsigned flags)
{
	struct deed_at old = deed_begin(h, from);
	int r;

	DEED_NAMED(h, to, r, cow_rename(h->st, old.dir, old.name, at.dir, at.name, flags));
	deed_end(h, &old);
	cr_assert_eq(r, 0, "rename %s to %s: %d", from, to, r);
}

/* Call something with an open file and its handle. */
#define DEED_OPENED(h, path, flags, r, call)                                                       \
	do {                                                                                       \
		int fd = openat((h)->fd, path, (flags) | O_CLOEXEC);                               \
		struct cow_inode *ci = cow_inode_get((h)->st, deed_ino(h, path));                  \
                                                                                                   \
		cr_assert(fd >= 0 && ci, "%s: %s", path, strerror(errno));                         \
		HARNESS_CHANGE(h, r, call);                                                        \
		cow_inode_put((h)->st, ci);                                                        \
		close(fd);                                                                         \
	} while (0)

DEED void deed_link(struct harness *h, const char *from, const char *to)
{
	struct deed_at at = deed_begin(h, to);
	int r;

	DEED_OPENED(h, from, O_PATH | O_NOFOLLOW, r, cow_link(h->st, ci, fd, at.dir, at.name));
	deed_places(h);
	deed_end(h, &at);
	cr_assert_eq(r, 0, "link %s to %s: %d", from, to, r);
}

DEED void deed_write_bytes(struct harness *h, const char *path, off_t off, const void *bytes,
			   size_t len)
{
	ssize_t r;

	DEED_OPENED(h, path, O_RDWR, r, cow_write(h->st, ci, fd, bytes, len, off));
	cr_assert_eq(r, (ssize_t)len, "write %s: %zd", path, r);
}

DEED void deed_write(struct harness *h, const char *path, off_t off, const char *text)
{
	deed_write_bytes(h, path, off, text, strlen(text));
}

/* Bytes of one value, from `off` on. */
DEED void deed_fill(struct harness *h, const char *path, off_t off, size_t len, int value)
{
	CLEANUP(free_p) char *bytes = malloc(len);

	memset(bytes, value, len);
	deed_write_bytes(h, path, off, bytes, len);
}

DEED void deed_truncate(struct harness *h, const char *path, off_t size)
{
	int r;

	DEED_OPENED(h, path, O_RDWR, r, cow_truncate(h->st, ci, fd, size));
	cr_assert_eq(r, 0, "truncate %s: %d", path, r);
}

DEED void deed_chmod(struct harness *h, const char *path, mode_t mode)
{
	int r;

	DEED_OPENED(h, path, O_RDONLY, r, cow_chmod(h->st, ci, fd, mode));
	cr_assert_eq(r, 0, "chmod %s: %d", path, r);
}

DEED int deed_setxattr(struct harness *h, const char *path, const char *name, const char *value)
{
	int r;

	DEED_OPENED(h, path, O_RDONLY, r,
		    cow_setxattr(h->st, ci, fd, name, value, strlen(value), 0));
	return r;
}

DEED int deed_removexattr(struct harness *h, const char *path, const char *name)
{
	int r;

	DEED_OPENED(h, path, O_RDONLY, r, cow_removexattr(h->st, ci, fd, name));
	return r;
}

/* A new file with this text. */
DEED void deed_create(struct harness *h, const char *path, const char *text)
{
	int fd;

	DEED_NAMED(h, path, fd, cow_create(h->st, at.dir, at.name, O_RDWR, 0644));
	cr_assert_geq(fd, 0, "create %s: %d", path, fd);
	close(fd);
	if (*text)
		deed_write(h, path, 0, text);
}

/* ---- snapshots ---- */

DEED uint64_t deed_snapshot_of(struct harness *h, enum cow_context context)
{
	uint64_t epoch = 0;
	int r = harness_snapshot(h, context, NULL, &epoch);

	cr_assert_eq(r, 0, "snapshot: %d", r);
	return epoch;
}

DEED uint64_t deed_snapshot(struct harness *h)
{
	return deed_snapshot_of(h, COW_CTX_CLIENT_ACCESSIBLE);
}

/* Drop and wait until its space was given back. */
DEED void deed_drop(struct harness *h, uint64_t epoch)
{
	cr_assert_eq(cow_epoch_drop(h->st, epoch, false), 0);
	cow_epoch_settle(h->st);
}

/* Close, and open as the next daemon does. */
DEED void deed_reopen(struct harness *h)
{
	int r = harness_close(h, false);

	cr_assert_eq(r, 0, "close: %d", r);
	r = harness_open(h);
	cr_assert_eq(r, 0, "open: %d, %s", r, h->why);
}

/* ---- looks; what is returned in `ret` is the caller's to put back ---- */

DEED int look(struct harness *h, uint64_t epoch, const char *path, struct cow_vnode **ret)
{
	char copy[PATH_MAX], *save = NULL;
	struct cow_vnode *vn, *child;
	struct cow_view *v;
	int r = cow_view_open(h->st, epoch, false, &v);

	if (r < 0)
		return r;
	snprintf(copy, sizeof(copy), "%s", path);
	r = cow_vnode_root(v, &vn);
	cow_view_close(v); /* the vnodes count it */
	if (r < 0)
		return r;
	for (char *p = strtok_r(copy, "/", &save); p; p = strtok_r(NULL, "/", &save)) {
		r = cow_vnode_lookup(vn, p, &child);
		cow_vnode_put(vn);
		if (r < 0)
			return r;
		vn = child;
	}
	*ret = vn;
	return 0;
}

DEED int look_stat(struct harness *h, uint64_t epoch, const char *path, struct statx *ret)
{
	struct cow_vnode *vn;
	int r = look(h, epoch, path, &vn);

	if (r < 0)
		return r;
	r = cow_vnode_stat(vn, ret);
	cow_vnode_put(vn);
	return r;
}

/* Is it there at all? 0, -ENOENT, ... */
DEED int look_up(struct harness *h, uint64_t epoch, const char *path)
{
	struct cow_vnode *vn;
	int r = look(h, epoch, path, &vn);

	if (r == 0)
		cow_vnode_put(vn);
	return r;
}

DEED ssize_t look_read(struct harness *h, uint64_t epoch, const char *path, void *buf, size_t len,
		       off_t off)
{
	struct cow_vnode *vn;
	struct cow_vfile *f;
	ssize_t n = look(h, epoch, path, &vn);

	if (n < 0)
		return n;
	n = cow_vfile_open(vn, &f);
	cow_vnode_put(vn);
	if (n < 0)
		return n;
	n = cow_vfile_read(f, buf, len, off);
	cow_vfile_close(f);
	return n;
}

DEED void look_is(struct harness *h, uint64_t epoch, const char *path, const char *text)
{
	char buf[4096];
	ssize_t n = look_read(h, epoch, path, buf, sizeof(buf), 0);

	cr_assert(n == (ssize_t)strlen(text) && memcmp(buf, text, (size_t)n) == 0,
		  "%s at %llu: %zd bytes, %.*s, not %s", path, (unsigned long long)epoch, n,
		  n > 0 ? (int)n : 0, buf, text);
}

/* Is [off, off+len) all of one value? */
DEED void look_filled(struct harness *h, uint64_t epoch, const char *path, off_t off, size_t len,
		      int value)
{
	CLEANUP(free_p) char *buf = malloc(len);
	ssize_t n = look_read(h, epoch, path, buf, len, off);

	cr_assert_eq(n, (ssize_t)len, "%s at %llu: %zd", path, (unsigned long long)epoch, n);
	for (size_t i = 0; i < len; i++)
		cr_assert_eq(buf[i], (char)value, "%s at %llu: byte %zu is %d", path,
			     (unsigned long long)epoch, (size_t)off + i, buf[i]);
}

/* The names of a directory, sorted, each followed by a space. Returns 0 or -errno. */
DEED int look_list(struct harness *h, uint64_t epoch, const char *path, char *ret, size_t size)
{
	char names[64][256], *at = ret;
	struct cow_vnode *vn;
	struct cow_vdir *d;
	struct cow_dirent de;
	uint64_t off = 0;
	size_t n = 0;
	int r = look(h, epoch, path, &vn);

	if (r < 0)
		return r;
	r = cow_vdir_open(vn, &d);
	cow_vnode_put(vn);
	if (r < 0)
		return r;
	while ((r = cow_vdir_read(d, off, &de)) == 1 && n < 64) {
		snprintf(names[n++], sizeof(names[0]), "%s", de.name);
		off = de.next;
	}
	cow_vdir_close(d);
	qsort(names, n, sizeof(names[0]), (int (*)(const void *, const void *))strcmp);
	*ret = '\0';
	for (size_t i = 0; r == 0 && i < n; i++)
		at += snprintf(at, size - (size_t)(at - ret), "%s ", names[i]);
	return r;
}

DEED void look_lists(struct harness *h, uint64_t epoch, const char *path, const char *names)
{
	char got[4096] = "";
	int r = look_list(h, epoch, path, got, sizeof(got));

	cr_assert_eq(r, 0, "%s at %llu: %d", path, (unsigned long long)epoch, r);
	cr_assert_str_eq(got, names, "%s at %llu: %s", path, (unsigned long long)epoch, got);
}

#endif
