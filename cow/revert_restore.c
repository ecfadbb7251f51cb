/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The third pass: for each inode on record its content and attributes, wherever it is. See revert.c. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/file.h"
#include "cow/revert_private.h"

#define PUNCH_CLUSTERS 16384u /* 64 MiB punched in one */

/* ---- content ---- */

struct content {
	struct revert_job *j;
	struct cow_vfile *want;
	uint64_t ino, size;
	int fd; /* for reading and writing */
};

static int open_to_write(struct revert_job *j, int path_fd)
{
	int fd = cow_file_reopen(path_fd, O_RDWR | O_NONBLOCK), r;

	if (fd != -EACCES)
		return fd;
	r = revert_enter(j);
	if (r < 0)
		return r;
	r = revert_let_in(j, path_fd);
	revert_leave(j);
	return r ? cow_file_reopen(path_fd, O_RDWR | O_NONBLOCK) : fd;
}

static int resize(struct content *c)
{
	struct statx sx;
	int r = revert_enter(c->j);

	if (r < 0)
		return r;
	r = cow_file_statx(c->fd, "", &sx);
	if (r == 0 && sx.stx_size != c->size) {
		r = revert_save(c->j, c->ino, c->fd);
		if (r == 0)
			r = cow_file_truncate(c->fd, (off_t)c->size);
	}
	revert_leave(c->j);
	return r;
}

static int zero_range(int fd, uint8_t *buf, off_t at, off_t end)
{
	int r = 0;

	memset(buf, 0, REVERT_RUN_CLUSTERS * COW_CLUSTER_SIZE);
	for (; r == 0 && at < end; at += REVERT_RUN_CLUSTERS * COW_CLUSTER_SIZE) {
		off_t n = end - at;

		if (n > REVERT_RUN_CLUSTERS * COW_CLUSTER_SIZE)
			n = REVERT_RUN_CLUSTERS * COW_CLUSTER_SIZE;
		r = cow_file_pwrite_all(fd, buf, (size_t)n, at);
	}
	return r;
}

/* [from, to) was a hole, in clusters; data that are there now go. */
static int punch(struct content *c, uint64_t from, uint64_t to)
{
	off_t at = (off_t)(from * COW_CLUSTER_SIZE), end = (off_t)(to * COW_CLUSTER_SIZE), data;
	int r = revert_enter(c->j);

	if (r < 0)
		return r;
	data = cow_file_seek(c->fd, at, SEEK_DATA);
	if (data >= 0 && data < end) {
		r = revert_save(c->j, c->ino, c->fd);
		if (r == 0)
			r = cow_file_fallocate(c->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					       at, end - at);
		if (r == -EOPNOTSUPP) /* no holes below: zeros are as good */
			r = zero_range(c->fd, c->j->live, at,
				       end > (off_t)c->size ? (off_t)c->size : end);
	}
	revert_leave(c->j);
	return r;
}

static int write_below(struct content *c, off_t off, size_t len)
{
	struct revert_job *j = c->j;
	ssize_t n = cow_file_pread(c->fd, j->live, len, off);
	int r;

	if (n < 0)
		return (int)n;
	/* The same bytes already; but zeros may be those of a hole, where there was none. */
	if ((size_t)n == len && memcmp(j->live, j->want, len) == 0) {
		off_t hole = cow_file_seek(c->fd, off, SEEK_HOLE);

		if (hole < 0 || hole >= off + (off_t)len)
			return 0;
	}
	r = revert_save(j, c->ino, c->fd);
	return r < 0 ? r : cow_file_pwrite_all(c->fd, j->want, len, off);
}

/* [from, to) is in the store, at most REVERT_RUN_CLUSTERS of it. */
static int write_back(struct content *c, uint64_t from, uint64_t to)
{
	uint64_t off = from * COW_CLUSTER_SIZE, end = to * COW_CLUSTER_SIZE;
	ssize_t n;
	int r;

	if (end > c->size)
		end = c->size;
	n = cow_vfile_read(c->want, c->j->want, end - off, (off_t)off);
	if (n < 0 || (uint64_t)n != end - off)
		return n < 0 ? (int)n : -EIO;
	r = revert_enter(c->j);
	if (r < 0)
		return r;
	do {
		r = write_below(c, (off_t)off, (size_t)n);
	} while (revert_made_room(c->j, r));
	revert_leave(c->j);
	return r;
}

/* How far the store has one cluster after the other. */
static int stored_run(struct content *c, uint64_t from, uint64_t limit, uint64_t *to)
{
	enum vfile_kind kind;
	uint64_t until;
	int r;

	while (*to < limit && *to - from < REVERT_RUN_CLUSTERS) {
		r = vfile_map(c->want, *to, limit, &kind, &until);
		if (r < 0 || kind != VFILE_STORED)
			return r;
		*to = until;
	}
	if (*to - from > REVERT_RUN_CLUSTERS)
		*to = from + REVERT_RUN_CLUSTERS;
	return 0;
}

static int rewrite(struct content *c)
{
	uint64_t limit = (c->size + COW_CLUSTER_SIZE - 1) / COW_CLUSTER_SIZE, at = 0, to;
	enum vfile_kind kind;
	int r = 0;

	while (r == 0 && at < limit) {
		r = vfile_map(c->want, at, limit, &kind, &to);
		if (r < 0)
			return r;
		if (kind == VFILE_HOLE) {
			if (to - at > PUNCH_CLUSTERS)
				to = at + PUNCH_CLUSTERS;
			r = punch(c, at, to);
		} else if (kind == VFILE_STORED) {
			r = stored_run(c, at, limit, &to);
			if (r == 0)
				r = write_back(c, at, to);
		}
		at = to;
	}
	return r;
}

static int restore_content(struct revert_job *j, int path_fd, const struct cow_attr *a, bool data)
{
	CLEANUP(close_p) int fd = -1;
	struct content c = { .j = j, .ino = a->ino, .size = a->size };
	struct statx sx;
	int r = cow_file_statx(path_fd, "", &sx);

	if (r < 0 || (!data && sx.stx_size == a->size))
		return r;
	c.fd = fd = open_to_write(j, path_fd);
	r = fd < 0 ? fd : resize(&c);
	if (r == 0)
		r = vfile_open_inode(j->view, a->ino, a->size, fd, &c.want);
	if (r < 0)
		return r;
	r = rewrite(&c);
	cow_vfile_close(c.want);
	return r;
}

/* ---- attributes ---- */

/* 1, 0, or -EIO: it may have been one of those that were not kept. */
static int find_xattr(const uint8_t *block, size_t len, const char *name, const void **ret_value,
		      size_t *ret_len)
{
	size_t pos = 0, n_len;
	const char *n;
	int r;

	while ((r = cow_format_next_xattr(block, len, &pos, &n, &n_len, ret_value, ret_len)) > 0)
		if (n_len == strlen(name) && memcmp(n, name, n_len) == 0)
			return 1;
	return r < 0 && !cow_format_xattr_is_vital(name) ? r : 0;
}

static int remove_xattrs(int fd, const struct cow_buf *live, const struct cow_attr *a)
{
	char text[COW_NAME_MAX_LEN + 1];
	size_t pos = 0, name_len, len, other_len;
	const void *value, *other;
	const char *name;
	int r;

	while ((r = cow_format_next_xattr(live->data, live->len, &pos, &name, &name_len, &value,
					  &len)) > 0) {
		if (name_len >= sizeof(text))
			continue;
		memcpy(text, name, name_len);
		text[name_len] = '\0';
		if (find_xattr(a->xattrs, a->xattrs_len, text, &other, &other_len) != 0)
			continue;
		r = cow_file_removexattr(fd, text);
		if (r < 0 && r != -ENODATA)
			return r;
	}
	return r;
}

static int set_xattrs(int fd, const struct cow_buf *live, const struct cow_attr *a)
{
	char text[COW_NAME_MAX_LEN + 1];
	size_t pos = 0, name_len, len, other_len;
	const void *value, *other;
	const char *name;
	int r;

	while ((r = cow_format_next_xattr(a->xattrs, a->xattrs_len, &pos, &name, &name_len, &value,
					  &len)) > 0) {
		if (name_len >= sizeof(text))
			continue;
		memcpy(text, name, name_len);
		text[name_len] = '\0';
		if (find_xattr(live->data, live->len, text, &other, &other_len) == 1 &&
		    len == other_len && (!len || memcmp(value, other, len) == 0))
			continue;
		r = cow_file_setxattr(fd, text, value, len, 0);
		if (r < 0)
			return r;
	}
	return r;
}

/* Where a block lacks some (-EIO) all that can be done is. */
static int restore_xattrs(int fd, const struct cow_attr *a)
{
	CLEANUP(cow_buf_done) struct cow_buf live = { 0 };
	int r, removed;

	r = preserve_read_xattrs(fd, &live);
	if (r < 0)
		return r;
	removed = remove_xattrs(fd, &live, a);
	if (removed < 0 && removed != -EIO)
		return removed;
	r = set_xattrs(fd, &live, a);
	return r < 0 ? r : removed;
}

static bool same_time(const struct statx_timestamp *t, int64_t sec, uint32_t ns)
{
	return t->tv_sec == sec && t->tv_nsec == ns;
}

/* Owner first, since that takes capabilities and set-id bits away; ACLs before the mode, which they change. Times last. */
static int restore_below(struct revert_job *j, int fd, const struct cow_attr *a)
{
	struct timespec tv[2] = { { a->atime, a->atime_ns }, { a->mtime, a->mtime_ns } };
	struct statx sx;
	int r, xattrs = 0;

	r = revert_save(j, a->ino, fd);
	if (r == 0)
		r = cow_file_statx(fd, "", &sx);
	if (r == 0 && (sx.stx_uid != a->uid || sx.stx_gid != a->gid))
		r = cow_file_chown(fd, a->uid, a->gid);
	if (r == 0)
		xattrs = restore_xattrs(fd, a);
	if (xattrs < 0 && xattrs != -EIO)
		r = xattrs;
	if (r == 0)
		r = cow_file_statx(fd, "", &sx);
	if (r == 0 && !S_ISLNK(a->mode) && (sx.stx_mode & 07777) != (a->mode & 07777))
		r = cow_file_chmod(fd, a->mode & 07777);
	if (r == 0 && (!same_time(&sx.stx_atime, a->atime, a->atime_ns) ||
		       !same_time(&sx.stx_mtime, a->mtime, a->mtime_ns)))
		r = cow_file_utimens(fd, tv);
	return r < 0 ? r : xattrs;
}

static int restore_attr(struct revert_job *j, int fd, const struct cow_attr *a)
{
	int r = revert_enter(j);

	if (r < 0)
		return r;
	do {
		r = restore_below(j, fd, a);
	} while (revert_made_room(j, r));
	revert_leave(j);
	return r;
}

/* ---- inodes on record ---- */

static bool keeps_us_out(const struct cow_attr *a)
{
	return S_ISDIR(a->mode) && a->uid == geteuid() && (a->mode & 0700) != 0700 && geteuid();
}

/* How far below the root; by "..", which needs no more than what led there. */
static unsigned depth_of(struct revert_job *j, int fd)
{
	CLEANUP(close_p) int at = cow_file_reopen(fd, O_PATH);
	struct statx sx;
	unsigned depth = 0;

	while (at >= 0 && depth < REVERT_DEPTH_MAX && cow_file_statx(at, "", &sx) == 0 &&
	       sx.stx_ino != j->st->root_ino) {
		int up = cow_file_openat(at, "..", O_PATH, 0);

		close(at);
		at = up;
		depth++;
	}
	return depth;
}

static int note_lost(struct revert_job *j, uint64_t ino, bool data)
{
	int r = touched_room(&j->lost, j->n_lost, sizeof(*j->lost));

	if (r < 0)
		return revert_failed(j, j->st->below_fd, "", r);
	j->lost[j->n_lost++] = (struct touched_inode){ ino, data };
	return 0;
}

static int note_locked(struct revert_job *j, uint64_t ino, int fd)
{
	int r = touched_room(&j->locked, j->n_locked, sizeof(*j->locked));

	if (r < 0)
		return revert_failed(j, fd, "", r);
	j->locked[j->n_locked++] = (struct revert_locked){ ino, depth_of(j, fd) };
	return 0;
}

/* Is it what was on record, and no other inode that got the number while nobody watched? Then nobody may look into what comes
 * back whom its mode in the snapshot keeps out. */
static int prepare_inode(struct revert_job *j, int fd, const struct cow_attr *a)
{
	unsigned too_much;
	struct statx sx;
	int r = cow_file_statx(fd, "", &sx);

	if (r < 0)
		return r;
	if ((sx.stx_mode & S_IFMT) != (a->mode & S_IFMT) ||
	    (a->has_btime && sx.stx_mask & STATX_BTIME &&
	     !same_time(&sx.stx_btime, a->btime, a->btime_ns)))
		return -ESTALE;
	too_much = sx.stx_mode & ~a->mode & 0077;
	if (!S_ISREG(a->mode) || !too_much)
		return 0;
	r = revert_enter(j);
	if (r < 0)
		return r;
	r = revert_save(j, a->ino, fd);
	if (r == 0)
		r = cow_file_chmod(fd, sx.stx_mode & 07777 & ~too_much);
	revert_leave(j);
	return r;
}

static int restore_fd(struct revert_job *j, int fd, const struct cow_attr *a, bool data)
{
	const struct cow_revert_hooks *h = j->hooks;
	int r = prepare_inode(j, fd, a);

	if (r == 0 && S_ISREG(a->mode))
		r = restore_content(j, fd, a, data);
	if (r == 0)
		r = restore_attr(j, fd, a);
	if (h && h->inode_changed)
		h->inode_changed(h->userdata, a->ino);
	return r < 0 ? revert_failed(j, fd, "", r) : 0;
}

/* @last  directories that keep us out get their mode now */
static int restore_inode(struct revert_job *j, uint64_t ino, bool data, bool last)
{
	CLEANUP(cow_buf_done) struct cow_buf buf = { 0 };
	CLEANUP(close_p) int fd = -1;
	struct cow_attr a;
	int r;

	if (revert_born(j, ino))
		return 0;
	r = view_attr(j->st, ino, j->epoch, &buf, &a);
	if (r == -ENOENT)
		return 0;
	fd = r < 0 ? r : revert_open_inode(j, ino);
	if (fd == -ENOENT)
		return a.nlink ? note_lost(j, ino, data) : 0;
	if (fd < 0)
		return revert_failed(j, j->st->below_fd, "", fd);
	if (!last && keeps_us_out(&a))
		return note_locked(j, ino, fd);
	return restore_fd(j, fd, &a, data);
}

/* ---- inodes that no record leads to: a name that was on record went, and another, which never changed, is left ---- */

static struct touched_inode *find_lost(struct revert_job *j, uint64_t ino)
{
	for (size_t i = 0; i < j->n_lost; i++)
		if (j->lost[i].ino == ino)
			return &j->lost[i];
	return NULL;
}

static int restore_lost(struct revert_job *j, int dir_fd, const char *name, struct touched_inode *t)
{
	CLEANUP(cow_buf_done) struct cow_buf buf = { 0 };
	CLEANUP(close_p) int fd = cow_file_openat(dir_fd, name, O_PATH | O_NOFOLLOW, 0);
	struct cow_attr a;
	int r = fd < 0 ? fd : view_attr(j->st, t->ino, j->epoch, &buf, &a);

	if (r < 0)
		return revert_failed(j, dir_fd, name, r);
	r = restore_fd(j, fd, &a, t->data);
	*t = j->lost[--j->n_lost];
	return r;
}

/* The first of them is named, should something be missing in the end. */
static int pass_by(struct revert_job *j, int dir_fd)
{
	struct cow_store *st = j->st;
	char path[COW_REVERT_WHY_MAX - 100];

	if (j->passed_by)
		return 0;
	j->passed_by = true;
	revert_path_of(st, dir_fd, "", path, sizeof(path));
	snprintf(j->passed_why, sizeof(j->passed_why), "%s: %s", path, revert_reason(-EACCES));
	return 0;
}

/* Through all of the tree: there are few of them, but nothing says where. One that is nowhere had no name in the snapshot
 * either, it was open and no more: a name that went since is on record, and was put back or complained of. A directory that is
 * another's and that we may not read is passed by: trying again would find the same. */
static int search(struct revert_job *j, int dir_fd, unsigned depth)
{
	CLEANUP(revert_names_done) struct revert_names l = { 0 };
	int r = depth > REVERT_DEPTH_MAX ? -ELOOP : revert_names_read_own(j, dir_fd, &l);

	if (r == -EACCES)
		return pass_by(j, dir_fd);
	if (r < 0)
		return revert_failed(j, dir_fd, "", r);
	for (size_t i = 0; i < l.n && j->n_lost && r >= 0; i++) {
		CLEANUP(close_p) int fd = -1;
		struct touched_inode *t;
		struct statx sx;

		if (atomic_load(&j->st->revert_stop))
			return -ECANCELED;
		if ((depth == 0 && strcmp(l.names[i], COW_STORE_NAME) == 0) ||
		    cow_file_statx(dir_fd, l.names[i], &sx) < 0 || !stat_is_ours(j->st, &sx))
			continue;
		t = find_lost(j, sx.stx_ino);
		if (t) {
			r = restore_lost(j, dir_fd, l.names[i], t);
		} else if (S_ISDIR(sx.stx_mode)) {
			fd = cow_file_openat(dir_fd, l.names[i], O_PATH | O_NOFOLLOW, 0);
			r = fd < 0 ? revert_failed(j, dir_fd, l.names[i], fd)
				   : search(j, fd, depth + 1);
		}
	}
	return r < 0 ? r : 0;
}

/* what is then still lost may lie in what was passed by. Or it was open and no more; that cannot be told. */
static void leave_out(struct revert_job *j)
{
	struct cow_store *st = j->st;

	if (!j->passed_by || !j->n_lost)
		return;
	ulock_lock(&st->revert_lock);
	st->revert.left_out = j->n_lost;
	if (!st->revert.error) {
		st->revert.error = -EACCES;
		memcpy(st->revert.why, j->passed_why, sizeof(st->revert.why));
	}
	ulock_unlock(&st->revert_lock);
}

static int deepest_first(const void *x, const void *y)
{
	const struct revert_locked *a = x, *b = y;

	return a->depth > b->depth ? -1 : a->depth < b->depth;
}

int revert_restore_all(struct revert_job *j)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < j->t.n_inodes; i++) {
		r = restore_inode(j, j->t.inodes[i].ino, j->t.inodes[i].data, false);
		revert_count_step(j->st);
	}
	if (r >= 0 && j->n_lost)
		r = search(j, j->st->below_fd, 0);
	leave_out(j);
	for (size_t i = 0; r >= 0 && i < j->n_opened; i++)
		r = restore_inode(j, j->opened[i], false, false);
	if (j->n_locked)
		qsort(j->locked, j->n_locked, sizeof(*j->locked), deepest_first);
	for (size_t i = 0; r >= 0 && i < j->n_locked; i++)
		r = restore_inode(j, j->locked[i].ino, false, true);
	return r < 0 ? r : 0;
}
