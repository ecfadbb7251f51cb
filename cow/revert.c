/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reverting by convergence. Newer snapshots go first; then all that differs from the snapshot is on record, and three
 * passes over the records make the live tree what they say. Each step looks at what is there and does what is missing, so
 * that running all of it again, after a crash or a failure, ends at the same:
 *
 *	clear	  for each name on record: whatever it stands for now, and should not, is taken away. What is younger than the
 *		  snapshot is removed. What the snapshot knows, directories with all that is in them too, goes into the
 *		  graveyard, where views find it by its number.
 *	put back  for each name on record: what it should stand for comes back, mostly by one rename out of the graveyard.
 *		  By now nothing is in the way, and no directory can get below itself.
 *	restore	  for each inode on record: content in the clusters on record alone, owner, xattrs, mode, times.
 *
 * A marker in the store says that a revert was begun; it goes when all is done and on disk. */
#include "cow/revert.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/base/log.h"
#include "cow/epoch.h"
#include "cow/file.h"
#include "cow/gate.h"
#include "cow/store_private.h"
#include "cow/touched.h"
#include "cow/view_private.h"

#define MARKER "revert"
#define MARKER_FIRST "umbra-revert 1"
#define MARKER_CUT_OFF "running" /* as long as the other, to be replaced in place */
#define MARKER_STOPPED "stopped"
#define RUN_CLUSTERS 64u      /* 256 KiB compared and written in one pass of the gate */
#define PUNCH_CLUSTERS 16384u /* 64 MiB punched in one */
#define DEPTH_MAX 2048
#define UNLOCK_ROUNDS 64

struct locked { /* a directory whose mode in the snapshot keeps us out: it gets it last */
	uint64_t ino;
	unsigned depth;
};

struct job {
	struct cow_store *st;
	struct cow_view *view;
	uint64_t epoch;
	const struct cow_revert_hooks *hooks;
	struct touched t;
	uint64_t *opened; /* inodes that we gave ourselves permission for */
	size_t n_opened;
	struct locked *locked;
	size_t n_locked;
	struct touched_inode *lost; /* had a name in the snapshot, and no record leads there */
	size_t n_lost;
	bool passed_by; /* a directory that may not be read, when they were looked for; */
	char passed_why[COW_REVERT_WHY_MAX]; /* the first, in words */
	uint8_t *live, *want;		     /* RUN_CLUSTERS each */
	bool shut;			     /* shut() was called, which prepares an epoch */
};

/* ---- telling ---- */

static void set_state(struct cow_store *st, enum cow_revert_state state, const struct epoch *e)
{
	ulock_lock(&st->revert_lock);
	st->revert.state = state;
	if (e) {
		st->revert.epoch = e->id;
		memcpy(st->revert.id, e->snap.id, sizeof(st->revert.id));
	}
	ulock_unlock(&st->revert_lock);
}

static void set_total(struct cow_store *st, uint64_t total)
{
	ulock_lock(&st->revert_lock);
	st->revert.total = total;
	ulock_unlock(&st->revert_lock);
}

static void count_step(struct cow_store *st)
{
	ulock_lock(&st->revert_lock);
	st->revert.done++;
	ulock_unlock(&st->revert_lock);
}

/* A path for people: below the tree's root where the kernel can say it. */
static void path_of(struct cow_store *st, int fd, const char *name, char *buf, size_t size)
{
	char link[32], root[PATH_MAX], path[PATH_MAX];
	const char *p = path;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", st->below_fd);
	n = cow_file_readlinkat(AT_FDCWD, link, root, sizeof(root));
	if (n < 0)
		root[0] = '\0';
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (cow_file_readlinkat(AT_FDCWD, link, path, sizeof(path)) < 0)
		path[0] = '\0';
	n = (ssize_t)strlen(root);
	if (n > 1 && strncmp(path, root, (size_t)n) == 0 && (path[n] == '/' || !path[n]))
		p += path[n] ? n + 1 : n;
	snprintf(buf, size, "%s%s%s", p, *p && *name ? "/" : "", name);
	if (!*buf)
		snprintf(buf, size, "the top directory");
}

static const char *reason(int r)
{
	return r == -ESTALE ? "changed while it was not protected" : strerror(-r);
}

/* One step failed: remember the first, go on with the others. -ECANCELED is no failure of the step: pass it on. Returns 1. */
static int failed(struct job *j, int fd, const char *name, int r)
{
	char path[COW_REVERT_WHY_MAX - 100];
	struct cow_store *st = j->st;

	if (r == -ECANCELED)
		return r;
	path_of(st, fd, name, path, sizeof(path));
	log_debug("revert: %s: %s", LOG_QUOTE(path), strerror(-r));
	ulock_lock(&st->revert_lock);
	if (st->revert.failures++ == 0) {
		st->revert.error = r;
		snprintf(st->revert.why, sizeof(st->revert.why), "%s: %s", path, reason(r));
	}
	ulock_unlock(&st->revert_lock);
	return 1;
}

static uint64_t failures(struct cow_store *st)
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&st->revert_lock);

	(void)held;
	return st->revert.failures;
}

/* What no single path is to blame for. */
static void blame(struct cow_store *st, int r, const char *what)
{
	ulock_lock(&st->revert_lock);
	if (!st->revert.error) {
		st->revert.error = r;
		snprintf(st->revert.why, sizeof(st->revert.why), "%s: %s", what, reason(r));
	}
	ulock_unlock(&st->revert_lock);
}

/* ---- one pass of the gate ---- */

static int enter(struct job *j)
{
	if (atomic_load(&j->st->revert_stop))
		return -ECANCELED;
	gate_enter_wait(j->st);
	return 0;
}

static void leave(struct job *j)
{
	cow_gate_leave(j->st);
}

/* Out of space: snapshots older than ours go, as for any change (F-9). Inside the gate. */
static bool made_room(struct job *j, int r)
{
	return (r == -ENOSPC || r == -EDQUOT) && epoch_drop_oldest(j->st, COW_DROP_FULL);
}

/* I-3, and for records of a later daemon: whatever is touched has its attributes on record first. Inside the gate. */
static int save(struct job *j, uint64_t ino, int fd)
{
	struct cow_inode *ci = cow_inode_get(j->st, ino);
	int r = ci ? preserve_attr(j->st, ci, fd) : -ENOMEM;

	cow_inode_put(j->st, ci);
	return r;
}

static bool born(struct job *j, uint64_t ino)
{
	return touched_born(j->st, ino, j->epoch);
}

/* An owner who may not change his own directory lets himself, as he could any time; its mode comes back in the end, since
 * what it was is on record. Inside the gate. True: try again. */
static bool let_in(struct job *j, int fd)
{
	struct statx sx;

	if (cow_file_statx(fd, "", &sx) < 0 || sx.stx_uid != geteuid() ||
	    (sx.stx_mode & 0700) == 0700 || S_ISLNK(sx.stx_mode))
		return false;
	if (save(j, sx.stx_ino, fd) < 0 ||
	    touched_room(&j->opened, j->n_opened, sizeof(*j->opened)) < 0 ||
	    cow_file_chmod(fd, (sx.stx_mode & 07777) | 0700) < 0)
		return false;
	j->opened[j->n_opened++] = sx.stx_ino;
	return true;
}

/* ---- where an inode is ---- */

struct seek {
	struct job *j;
	uint64_t ino;
	int fd;
};

static int try_name(void *arg, const void *key, size_t key_len, const void *val, size_t val_len)
{
	CLEANUP(close_p) int dir_fd = -1;
	CLEANUP(close_p) int fd = -1;
	struct seek *s = arg;
	char name[COW_NAME_MAX_LEN + 1];
	const char *n;
	size_t name_len;
	uint64_t target, dir, label;
	struct statx sx;
	int r;

	(void)val;
	(void)val_len;
	r = cow_key_get_back(key, key_len, &target, &dir, &n, &name_len, &label);
	if (r < 0)
		return r;
	if (label < s->j->epoch)
		return 0;
	memcpy(name, n, name_len);
	name[name_len] = '\0';
	dir_fd = place_open(s->j->st, dir);
	fd = dir_fd < 0 ? dir_fd : cow_file_openat(dir_fd, name, O_PATH | O_NOFOLLOW, 0);
	if (fd < 0 || cow_file_statx(fd, "", &sx) < 0 || sx.stx_ino != s->ino ||
	    !stat_is_ours(s->j->st, &sx))
		return 0;
	s->fd = TAKE_FD(fd);
	return 1;
}

/* By the graveyard, its place, or one of the names that it has in the snapshot. -ENOENT: nowhere. */
static int open_inode(struct job *j, uint64_t ino)
{
	struct seek s = { .j = j, .ino = ino, .fd = -1 };
	uint8_t key[COW_KEY_MAX];
	int fd = place_open(j->st, ino), r;

	if (fd != -ENOENT)
		return fd;
	r = cow_index_scan(j->st->index, key, cow_key_back_prefix(key, ino), NULL, 0, try_name, &s);
	return r == 1 ? s.fd : r < 0 ? r : -ENOENT;
}

/* ---- names that go ---- */

enum how { HOW_UNLINK, HOW_RMDIR, HOW_BURY };

static int bury(struct job *j, int dir_fd, const char *name, const struct statx *sx)
{
	bool is_dir = S_ISDIR(sx->stx_mode);
	char grave[24];
	int r;

	/* A younger link to what has kept all its own names: nobody would take it out of the graveyard. */
	if (!is_dir && sx->stx_nlink > 1 && !reclaim_has_names(j->st, sx->stx_ino))
		return cow_file_unlinkat(dir_fd, name, 0);
	grave_name(grave, sx->stx_ino);
	atomic_store(&j->st->grave_used, true); /* first: a view must not miss it */
	r = cow_file_renameat(dir_fd, name, j->st->grave_fd, grave, RENAME_NOREPLACE);
	if (r == -EEXIST && !is_dir) /* another of its names waits there already */
		r = cow_file_unlinkat(dir_fd, name, 0);
	return r;
}

static int drop_below(struct job *j, uint64_t dir, int dir_fd, const char *name, int fd,
		      const struct statx *sx, enum how how)
{
	int r = save(j, dir, dir_fd);

	if (r == 0 && how == HOW_BURY)
		r = save(j, sx->stx_ino, fd);
	if (r < 0)
		return r;
	if (how == HOW_BURY)
		return bury(j, dir_fd, name, sx);
	return cow_file_unlinkat(dir_fd, name, how == HOW_RMDIR ? AT_REMOVEDIR : 0);
}

/* 0; 1: it failed, and that was said; -ECANCELED. So do all that follow. */
static int drop_name(struct job *j, uint64_t dir, int dir_fd, const char *name,
		     const struct statx *sx, enum how how)
{
	CLEANUP(close_p) int fd = cow_file_openat(dir_fd, name, O_PATH | O_NOFOLLOW, 0);
	const struct cow_revert_hooks *h = j->hooks;
	struct statx now;
	int r = fd < 0 ? fd : cow_file_statx(fd, "", &now);

	if (r == 0 && now.stx_ino != sx->stx_ino)
		r = -ESTALE; /* by somebody below the mount: it is not what we found should go */
	if (r == 0)
		r = enter(j);
	if (r < 0)
		return failed(j, dir_fd, name, r);
	if (h && h->name_goes)
		h->name_goes(h->userdata, dir, dir_fd, name);
	do {
		r = drop_below(j, dir, dir_fd, name, fd, sx, how);
	} while (made_room(j, r));
	if ((r == -EACCES || r == -EPERM) &&
	    (let_in(j, dir_fd) | (how == HOW_BURY && S_ISDIR(sx->stx_mode) && let_in(j, fd))))
		r = drop_below(j, dir, dir_fd, name, fd, sx, how);
	if (h && h->name_gone)
		h->name_gone(h->userdata, dir, name, r);
	leave(j);
	if (h && h->name_changed)
		h->name_changed(h->userdata, dir, name);
	return r < 0 ? failed(j, dir_fd, name, r) : 0;
}

static int take_away(struct job *j, uint64_t dir, int dir_fd, const char *name,
		     const struct statx *sx, unsigned depth);

struct names {
	char **names;
	size_t n;
};

static void names_done(struct names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->names[i]);
	free(l->names);
}

/* All names in a directory: a list, so that one descriptor is held for each level below, not two. */
static int names_read(int dir_fd, struct names *ret)
{
	CLEANUP(closedir_p) DIR *d = NULL;
	const struct dirent *e;
	int fd = cow_file_reopen(dir_fd, O_RDONLY | O_DIRECTORY | O_NOATIME), r;

	if (fd == -EPERM)
		fd = cow_file_reopen(dir_fd, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	while (errno = 0, (e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		r = touched_room(&ret->names, ret->n, sizeof(*ret->names));
		if (r < 0)
			return r;
		ret->names[ret->n] = strdup(e->d_name);
		if (!ret->names[ret->n++])
			return -ENOMEM;
	}
	return -errno;
}

/* Only of one that lets us see what its names stand for, too. */
static int names_read_all(int fd, struct names *ret)
{
	struct statx sx;
	int r = cow_file_statx(fd, ".", &sx);

	return r < 0 ? r : names_read(fd, ret);
}

/* The same; an owner lets himself in. */
static int names_read_own(struct job *j, int fd, struct names *ret)
{
	int r = names_read_all(fd, ret), e;

	if (r != -EACCES)
		return r;
	e = enter(j);
	if (e < 0)
		return e;
	e = let_in(j, fd);
	leave(j);
	return e ? names_read_all(fd, ret) : r;
}

/* A directory that the snapshot never saw: what is in it goes first. */
static int empty_born_dir(struct job *j, int dir_fd, const char *name, uint64_t ino, unsigned depth)
{
	CLEANUP(close_p)
	int fd = cow_file_openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_DIRECTORY, 0);
	CLEANUP(names_done) struct names l = { 0 };
	struct statx sx;
	int r, all = 0;

	r = fd < 0 ? fd : depth > DEPTH_MAX ? -ELOOP : names_read_own(j, fd, &l);
	if (r < 0)
		return failed(j, dir_fd, name, r);
	for (size_t i = 0; i < l.n; i++) {
		r = cow_file_statx(fd, l.names[i], &sx);
		if (r == -ENOENT)
			continue;
		if (r == 0 && !stat_is_ours(j->st, &sx))
			r = -EBUSY; /* something is mounted there, which is not ours to undo */
		r = r < 0 ? failed(j, fd, l.names[i], r)
			  : take_away(j, ino, fd, l.names[i], &sx, depth + 1);
		if (r < 0)
			return r;
		all |= r;
	}
	return all;
}

static int take_away(struct job *j, uint64_t dir, int dir_fd, const char *name,
		     const struct statx *sx, unsigned depth)
{
	int r;

	if (!born(j, sx->stx_ino))
		return drop_name(j, dir, dir_fd, name, sx, HOW_BURY);
	if (!S_ISDIR(sx->stx_mode))
		return drop_name(j, dir, dir_fd, name, sx, HOW_UNLINK);
	r = empty_born_dir(j, dir_fd, name, sx->stx_ino, depth);
	return r ? r : drop_name(j, dir, dir_fd, name, sx, HOW_RMDIR);
}

/* ---- names on record ---- */

/* What a name should stand for. 0; 1: it says nothing of this snapshot; -errno. */
static int wanted(struct job *j, const struct touched_name *n, uint64_t *ret_ino)
{
	unsigned type;
	int r;

	if (born(j, n->dir))
		return 1;
	r = view_name(j->st, n->dir, n->name, strlen(n->name), j->epoch, ret_ino, &type);
	return r == -ENOENT ? 1 : r;
}

static int clear_name(struct job *j, const struct touched_name *n)
{
	CLEANUP(close_p) int dir_fd = -1;
	uint64_t want;
	struct statx sx;
	int r = wanted(j, n, &want);

	if (r != 0)
		return r < 0 ? failed(j, j->st->below_fd, n->name, r) : 0;
	dir_fd = open_inode(j, n->dir);
	r = dir_fd < 0 ? dir_fd : cow_file_statx(dir_fd, n->name, &sx);
	if (r == -ENOENT && dir_fd >= 0)
		return 0;
	if (r < 0)
		return failed(j, dir_fd < 0 ? j->st->below_fd : dir_fd, n->name, r);
	if (sx.stx_ino == want || !stat_is_ours(j->st, &sx))
		return 0;
	return take_away(j, n->dir, dir_fd, n->name, &sx, 0);
}

/* The last of its names that is missing takes the graveyard's link; those before it are links. */
static bool needs_all_links(struct job *j, uint64_t ino, const struct statx *sx)
{
	CLEANUP(cow_buf_done) struct cow_buf buf = { 0 };
	struct cow_attr a;

	return S_ISDIR(sx->stx_mode) || view_attr(j->st, ino, j->epoch, &buf, &a) < 0 ||
	       a.nlink <= sx->stx_nlink;
}

/* Out of the graveyard. The place is on record before, so that older snapshots find what they know by another name. */
static int unbury(struct job *j, const struct touched_name *n, int dir_fd, uint64_t ino,
		  const char *grave)
{
	struct epoch *e = epoch_newest(j->st);
	struct cow_spot now = { .parent = n->dir };
	int r;

	strcpy(now.name, n->name);
	r = e ? place_moved(j->st, e, ino, &now, NULL) : 0;
	if (r < 0)
		return r;
	return cow_file_renameat(j->st->grave_fd, grave, dir_fd, n->name, RENAME_NOREPLACE);
}

static int put_below(struct job *j, const struct touched_name *n, int dir_fd, uint64_t ino, int fd)
{
	struct statx sx, waiting;
	char grave[24];
	int r;

	grave_name(grave, ino);
	r = save(j, n->dir, dir_fd);
	if (r == 0)
		r = save(j, ino, fd);
	if (r == 0)
		r = cow_file_statx(fd, "", &sx);
	if (r < 0)
		return r;
	if (cow_file_statx(j->st->grave_fd, grave, &waiting) == 0 && waiting.stx_ino == ino &&
	    needs_all_links(j, ino, &sx))
		return unbury(j, n, dir_fd, ino, grave);
	return S_ISDIR(sx.stx_mode) ? -EBUSY : cow_file_link_fd(fd, dir_fd, n->name);
}

static int put_back(struct job *j, const struct touched_name *n)
{
	CLEANUP(close_p) int dir_fd = -1;
	CLEANUP(close_p) int fd = -1;
	const struct cow_revert_hooks *h = j->hooks;
	uint64_t want;
	struct statx sx;
	int r = wanted(j, n, &want);

	if (r != 0 || !want)
		return 0; /* a failure was told by clear_name */
	dir_fd = open_inode(j, n->dir);
	if (dir_fd < 0)
		return failed(j, j->st->below_fd, n->name, dir_fd);
	r = cow_file_statx(dir_fd, n->name, &sx);
	if (r == 0 && (sx.stx_ino == want || !stat_is_ours(j->st, &sx)))
		return 0;
	fd = open_inode(j, want);
	r = fd < 0 ? fd : enter(j);
	if (r < 0)
		return failed(j, dir_fd, n->name, r);
	do {
		r = put_below(j, n, dir_fd, want, fd);
	} while (made_room(j, r));
	if ((r == -EACCES || r == -EPERM) && (let_in(j, dir_fd) | let_in(j, fd)))
		r = put_below(j, n, dir_fd, want, fd);
	leave(j);
	if (r == 0 && h && h->name_changed)
		h->name_changed(h->userdata, n->dir, n->name);
	return r < 0 ? failed(j, dir_fd, n->name, r) : 0;
}

/* ---- content ---- */

struct content {
	struct job *j;
	struct cow_vfile *want;
	uint64_t ino, size;
	int fd; /* for reading and writing */
};

static int open_to_write(struct job *j, int path_fd)
{
	int fd = cow_file_reopen(path_fd, O_RDWR | O_NONBLOCK), r;

	if (fd != -EACCES)
		return fd;
	r = enter(j);
	if (r < 0)
		return r;
	r = let_in(j, path_fd);
	leave(j);
	return r ? cow_file_reopen(path_fd, O_RDWR | O_NONBLOCK) : fd;
}

static int resize(struct content *c)
{
	struct statx sx;
	int r = enter(c->j);

	if (r < 0)
		return r;
	r = cow_file_statx(c->fd, "", &sx);
	if (r == 0 && sx.stx_size != c->size) {
		r = save(c->j, c->ino, c->fd);
		if (r == 0)
			r = cow_file_truncate(c->fd, (off_t)c->size);
	}
	leave(c->j);
	return r;
}

static int zero_range(int fd, uint8_t *buf, off_t at, off_t end)
{
	int r = 0;

	memset(buf, 0, RUN_CLUSTERS * COW_CLUSTER_SIZE);
	for (; r == 0 && at < end; at += RUN_CLUSTERS * COW_CLUSTER_SIZE) {
		off_t n = end - at;

		if (n > RUN_CLUSTERS * COW_CLUSTER_SIZE)
			n = RUN_CLUSTERS * COW_CLUSTER_SIZE;
		r = cow_file_pwrite_all(fd, buf, (size_t)n, at);
	}
	return r;
}

/* [from, to) was a hole, in clusters; data that are there now go. */
static int punch(struct content *c, uint64_t from, uint64_t to)
{
	off_t at = (off_t)(from * COW_CLUSTER_SIZE), end = (off_t)(to * COW_CLUSTER_SIZE), data;
	int r = enter(c->j);

	if (r < 0)
		return r;
	data = cow_file_seek(c->fd, at, SEEK_DATA);
	if (data >= 0 && data < end) {
		r = save(c->j, c->ino, c->fd);
		if (r == 0)
			r = cow_file_fallocate(c->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					       at, end - at);
		if (r == -EOPNOTSUPP) /* no holes below: zeros are as good */
			r = zero_range(c->fd, c->j->live, at,
				       end > (off_t)c->size ? (off_t)c->size : end);
	}
	leave(c->j);
	return r;
}

static int write_below(struct content *c, off_t off, size_t len)
{
	struct job *j = c->j;
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
	r = save(j, c->ino, c->fd);
	return r < 0 ? r : cow_file_pwrite_all(c->fd, j->want, len, off);
}

/* [from, to) is in the store, at most RUN_CLUSTERS of it. */
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
	r = enter(c->j);
	if (r < 0)
		return r;
	do {
		r = write_below(c, (off_t)off, (size_t)n);
	} while (made_room(c->j, r));
	leave(c->j);
	return r;
}

/* How far the store has one cluster after the other. */
static int stored_run(struct content *c, uint64_t from, uint64_t limit, uint64_t *to)
{
	enum vfile_kind kind;
	uint64_t until;
	int r;

	while (*to < limit && *to - from < RUN_CLUSTERS) {
		r = vfile_map(c->want, *to, limit, &kind, &until);
		if (r < 0 || kind != VFILE_STORED)
			return r;
		*to = until;
	}
	if (*to - from > RUN_CLUSTERS)
		*to = from + RUN_CLUSTERS;
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

static int restore_content(struct job *j, int path_fd, const struct cow_attr *a, bool data)
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

static bool find_xattr(const uint8_t *block, size_t len, const char *name, size_t name_len,
		       const void **ret_value, size_t *ret_len)
{
	size_t pos = 0, n_len;
	const char *n;

	while (cow_format_next_xattr(block, len, &pos, &n, &n_len, ret_value, ret_len) > 0)
		if (n_len == name_len && memcmp(n, name, n_len) == 0)
			return true;
	return false;
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
		if (name_len >= sizeof(text) ||
		    find_xattr(a->xattrs, a->xattrs_len, name, name_len, &other, &other_len))
			continue;
		memcpy(text, name, name_len);
		text[name_len] = '\0';
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
		if (name_len >= sizeof(text) ||
		    (find_xattr(live->data, live->len, name, name_len, &other, &other_len) &&
		     len == other_len && (!len || memcmp(value, other, len) == 0)))
			continue;
		memcpy(text, name, name_len);
		text[name_len] = '\0';
		r = cow_file_setxattr(fd, text, value, len, 0);
		if (r < 0)
			return r;
	}
	return r;
}

static bool same_time(const struct statx_timestamp *t, int64_t sec, uint32_t ns)
{
	return t->tv_sec == sec && t->tv_nsec == ns;
}

/* Owner first, since that takes capabilities and set-id bits away; ACLs before the mode, which they change. Times last. */
static int restore_below(struct job *j, int fd, const struct cow_attr *a)
{
	CLEANUP(cow_buf_done) struct cow_buf live = { 0 };
	struct timespec tv[2] = { { a->atime, a->atime_ns }, { a->mtime, a->mtime_ns } };
	struct statx sx;
	int r;

	r = save(j, a->ino, fd);
	if (r == 0)
		r = cow_file_statx(fd, "", &sx);
	if (r == 0 && (sx.stx_uid != a->uid || sx.stx_gid != a->gid))
		r = cow_file_chown(fd, a->uid, a->gid);
	if (r == 0)
		r = preserve_read_xattrs(fd, &live);
	if (r == 0)
		r = remove_xattrs(fd, &live, a);
	if (r == 0)
		r = set_xattrs(fd, &live, a);
	if (r == 0)
		r = cow_file_statx(fd, "", &sx);
	if (r == 0 && !S_ISLNK(a->mode) && (sx.stx_mode & 07777) != (a->mode & 07777))
		r = cow_file_chmod(fd, a->mode & 07777);
	if (r == 0 && (!same_time(&sx.stx_atime, a->atime, a->atime_ns) ||
		       !same_time(&sx.stx_mtime, a->mtime, a->mtime_ns)))
		r = cow_file_utimens(fd, tv);
	return r;
}

static int restore_attr(struct job *j, int fd, const struct cow_attr *a)
{
	int r = enter(j);

	if (r < 0)
		return r;
	do {
		r = restore_below(j, fd, a);
	} while (made_room(j, r));
	leave(j);
	return r;
}

/* ---- inodes on record ---- */

static bool keeps_us_out(const struct cow_attr *a)
{
	return S_ISDIR(a->mode) && a->uid == geteuid() && (a->mode & 0700) != 0700 && geteuid();
}

/* How far below the root; by "..", which needs no more than what led there. */
static unsigned depth_of(struct job *j, int fd)
{
	CLEANUP(close_p) int at = cow_file_reopen(fd, O_PATH);
	struct statx sx;
	unsigned depth = 0;

	while (at >= 0 && depth < DEPTH_MAX && cow_file_statx(at, "", &sx) == 0 &&
	       sx.stx_ino != j->st->root_ino) {
		int up = cow_file_openat(at, "..", O_PATH, 0);

		close(at);
		at = up;
		depth++;
	}
	return depth;
}

static int note_lost(struct job *j, uint64_t ino, bool data)
{
	int r = touched_room(&j->lost, j->n_lost, sizeof(*j->lost));

	if (r < 0)
		return failed(j, j->st->below_fd, "", r);
	j->lost[j->n_lost++] = (struct touched_inode){ ino, data };
	return 0;
}

static int note_locked(struct job *j, uint64_t ino, int fd)
{
	int r = touched_room(&j->locked, j->n_locked, sizeof(*j->locked));

	if (r < 0)
		return failed(j, fd, "", r);
	j->locked[j->n_locked++] = (struct locked){ ino, depth_of(j, fd) };
	return 0;
}

/* Is it what was on record, and no other inode that got the number while nobody watched? Then nobody may look into what comes
 * back whom its mode in the snapshot keeps out. */
static int prepare_inode(struct job *j, int fd, const struct cow_attr *a)
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
	r = enter(j);
	if (r < 0)
		return r;
	r = save(j, a->ino, fd);
	if (r == 0)
		r = cow_file_chmod(fd, sx.stx_mode & 07777 & ~too_much);
	leave(j);
	return r;
}

static int restore_fd(struct job *j, int fd, const struct cow_attr *a, bool data)
{
	const struct cow_revert_hooks *h = j->hooks;
	int r = prepare_inode(j, fd, a);

	if (r == 0 && S_ISREG(a->mode))
		r = restore_content(j, fd, a, data);
	if (r == 0)
		r = restore_attr(j, fd, a);
	if (h && h->inode_changed)
		h->inode_changed(h->userdata, a->ino);
	return r < 0 ? failed(j, fd, "", r) : 0;
}

/* @last  directories that keep us out get their mode now */
static int restore_inode(struct job *j, uint64_t ino, bool data, bool last)
{
	CLEANUP(cow_buf_done) struct cow_buf buf = { 0 };
	CLEANUP(close_p) int fd = -1;
	struct cow_attr a;
	int r;

	if (born(j, ino))
		return 0;
	r = view_attr(j->st, ino, j->epoch, &buf, &a);
	if (r == -ENOENT)
		return 0;
	fd = r < 0 ? r : open_inode(j, ino);
	if (fd == -ENOENT)
		return a.nlink ? note_lost(j, ino, data) : 0;
	if (fd < 0)
		return failed(j, j->st->below_fd, "", fd);
	if (!last && keeps_us_out(&a))
		return note_locked(j, ino, fd);
	return restore_fd(j, fd, &a, data);
}

/* ---- inodes that no record leads to: a name that was on record went, and another, which never changed, is left ---- */

static struct touched_inode *find_lost(struct job *j, uint64_t ino)
{
	for (size_t i = 0; i < j->n_lost; i++)
		if (j->lost[i].ino == ino)
			return &j->lost[i];
	return NULL;
}

static int restore_lost(struct job *j, int dir_fd, const char *name, struct touched_inode *t)
{
	CLEANUP(cow_buf_done) struct cow_buf buf = { 0 };
	CLEANUP(close_p) int fd = cow_file_openat(dir_fd, name, O_PATH | O_NOFOLLOW, 0);
	struct cow_attr a;
	int r = fd < 0 ? fd : view_attr(j->st, t->ino, j->epoch, &buf, &a);

	if (r < 0)
		return failed(j, dir_fd, name, r);
	r = restore_fd(j, fd, &a, t->data);
	*t = j->lost[--j->n_lost];
	return r;
}

/* The first of them is named, should something be missing in the end. */
static int pass_by(struct job *j, int dir_fd)
{
	struct cow_store *st = j->st;
	char path[COW_REVERT_WHY_MAX - 100];

	if (j->passed_by)
		return 0;
	j->passed_by = true;
	path_of(st, dir_fd, "", path, sizeof(path));
	snprintf(j->passed_why, sizeof(j->passed_why), "%s: %s", path, reason(-EACCES));
	return 0;
}

/* Through all of the tree: there are few of them, but nothing says where. One that is nowhere had no name in the snapshot
 * either, it was open and no more: a name that went since is on record, and was put back or complained of. A directory that is
 * another's and that we may not read is passed by: trying again would find the same. */
static int search(struct job *j, int dir_fd, unsigned depth)
{
	CLEANUP(names_done) struct names l = { 0 };
	int r = depth > DEPTH_MAX ? -ELOOP : names_read_own(j, dir_fd, &l);

	if (r == -EACCES)
		return pass_by(j, dir_fd);
	if (r < 0)
		return failed(j, dir_fd, "", r);
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
			r = fd < 0 ? failed(j, dir_fd, l.names[i], fd) : search(j, fd, depth + 1);
		}
	}
	return r < 0 ? r : 0;
}

/* what is then still lost may lie in what was passed by. Or it was open and no more; that cannot be told. */
static void leave_out(struct job *j)
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
	const struct locked *a = x, *b = y;

	return a->depth > b->depth ? -1 : a->depth < b->depth;
}

static int restore_all(struct job *j)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < j->t.n_inodes; i++) {
		r = restore_inode(j, j->t.inodes[i].ino, j->t.inodes[i].data, false);
		count_step(j->st);
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

/* ---- all of it ---- */

/* Directories that somebody closed to their owner, who we are: what is in them could not be reached. One that lets us in may
 * show the next. */
static int unlock_dirs(struct job *j)
{
	bool progress = geteuid() != 0;
	int r = 0;

	for (unsigned round = 0; progress && r >= 0 && round < UNLOCK_ROUNDS; round++) {
		progress = false;
		for (size_t i = 0; r >= 0 && i < j->t.n_inodes; i++) {
			CLEANUP(close_p) int fd = -1;
			struct statx sx;

			if (born(j, j->t.inodes[i].ino))
				continue;
			fd = place_open(j->st, j->t.inodes[i].ino);
			if (fd < 0 || cow_file_statx(fd, "", &sx) < 0 || !S_ISDIR(sx.stx_mode) ||
			    (sx.stx_mode & 0700) == 0700)
				continue;
			r = enter(j);
			if (r < 0)
				continue;
			progress |= let_in(j, fd);
			leave(j);
		}
	}
	return r;
}

static int each_name(struct job *j, int (*step)(struct job *, const struct touched_name *))
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < j->t.n_names; i++) {
		r = step(j, &j->t.names[i]);
		count_step(j->st);
	}
	return r < 0 ? r : 0;
}

static int converge(struct job *j)
{
	int r = touched_read(j->st, j->epoch, 0, &j->t);

	if (r < 0)
		return r;
	set_total(j->st, 2 * j->t.n_names + j->t.n_inodes);
	j->live = malloc((size_t)RUN_CLUSTERS * COW_CLUSTER_SIZE);
	j->want = malloc((size_t)RUN_CLUSTERS * COW_CLUSTER_SIZE);
	if (!j->live || !j->want)
		return -ENOMEM;
	r = unlock_dirs(j);
	if (r >= 0)
		r = each_name(j, clear_name);
	if (r == 0)
		r = each_name(j, put_back);
	return r < 0 ? r : restore_all(j);
}

/* ---- what nobody watched ---- */

static int check_dir(struct job *j, int fd, unsigned depth);

static int check_entry(struct job *j, int dir_fd, const char *name, unsigned depth)
{
	CLEANUP(close_p) int fd = -1;
	struct statx sx;
	int r = cow_file_statx(dir_fd, name, &sx);

	if (r < 0 || !stat_is_ours(j->st, &sx))
		return r == -ENOENT || r == -EACCES ? 0 : r; /* as in check_dir */
	if (!born(j, sx.stx_ino) && view_check_inode(j->view, sx.stx_ino, &sx) < 0)
		return failed(j, dir_fd, name, -ESTALE);
	if (!S_ISDIR(sx.stx_mode))
		return 0;
	fd = cow_file_openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_DIRECTORY, 0);
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR ? 0 : fd; /* removed meanwhile */
	r = check_dir(j, fd, depth + 1);
	return r == -ENOENT ? 0 : r;
}

static int check_dir(struct job *j, int fd, unsigned depth)
{
	CLEANUP(names_done) struct names l = { 0 };
	int r = depth > DEPTH_MAX ? -ELOOP : names_read(fd, &l);

	if (r == -EACCES)
		return 0; /* nobody who is no more than we could change it in the meantime without a trace above */
	for (size_t i = 0; r >= 0 && i < l.n; i++) {
		if (depth == 0 && strcmp(l.names[i], COW_STORE_NAME) == 0)
			continue;
		if (atomic_load(&j->st->revert_stop))
			return -ECANCELED;
		r = check_entry(j, fd, l.names[i], depth);
	}
	return r < 0 ? r : 0;
}

/* What a snapshot of an earlier daemon does not hold itself was perhaps changed before this one came, and nothing on record
 * would tell: look at everything there is. Nothing to do for one of our own. */
static int check_unseen(struct job *j)
{
	struct statx sx;
	int r;

	if (!j->view->e->session_end_ns)
		return 0;
	r = cow_file_statx(j->st->below_fd, "", &sx);
	if (r == 0 && view_check_inode(j->view, sx.stx_ino, &sx) < 0)
		failed(j, j->st->below_fd, "", -ESTALE);
	if (r == 0)
		r = check_dir(j, j->st->below_fd, 0);
	return r < 0 ? r : failures(j->st) ? -ESTALE : 0;
}

/* ---- the marker ---- */

static int marker_text(const struct epoch *e, const char *how, char *buf, size_t size)
{
	return snprintf(buf, size, MARKER_FIRST "\nepoch: %llu\nsnapshot: %s\nstate: %s\n",
			(unsigned long long)e->id, e->snap.id, how);
}

/* On failure there is none, unless there was one before: it would revert at the next start what was refused now. */
static int write_marker(struct cow_store *st, const struct epoch *e, bool again)
{
	CLEANUP(close_p) int fd = -1;
	char text[160];
	int len = marker_text(e, MARKER_CUT_OFF, text, sizeof(text)), r;

	fd = cow_file_openat(st->store_fd, MARKER ".new", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW,
			     0600);
	if (fd < 0)
		return fd;
	r = cow_file_pwrite_all(fd, text, (size_t)len, 0);
	if (r == 0)
		r = cow_file_fsync(fd);
	if (r == 0)
		r = cow_file_renameat(st->store_fd, MARKER ".new", st->store_fd, MARKER, 0);
	if (r < 0) {
		cow_file_unlinkat(st->store_fd, MARKER ".new", 0);
		return r;
	}
	r = cow_file_fsync(st->store_fd);
	if (r < 0 && !again)
		cow_file_unlinkat(st->store_fd, MARKER, 0);
	return r;
}

/* It ended with failures, and the tree is in use again: it goes on when somebody says so, not by itself at a start, which
 * would take away what was done meanwhile. In place, since a full disk may be the cause; but for one that was just removed, which
 * did not get to disk. */
static void mark_stopped(struct cow_store *st, const struct epoch *e)
{
	CLEANUP(close_p)
	int fd = cow_file_openat(st->store_fd, MARKER, O_WRONLY | O_CREAT | O_NOFOLLOW, 0600);
	char text[160];
	int len = marker_text(e, MARKER_STOPPED, text, sizeof(text));
	int r = fd < 0 ? fd : cow_file_pwrite_all(fd, text, (size_t)len, 0);

	if (r == 0)
		r = cow_file_fsync(fd);
	if (r < 0)
		log_error("the unfinished revert goes on at the next start, since that it "
			  "stopped cannot be written down: %s",
			  strerror(-r));
}

static int remove_marker(struct cow_store *st)
{
	int r = cow_file_unlinkat(st->store_fd, MARKER, 0);

	if (r < 0 && r != -ENOENT)
		return r;
	return cow_file_fsync(st->store_fd);
}

/* 0 and the epoch, -ENOENT, or -EUCLEAN. */
static int read_marker(struct cow_store *st, uint64_t *ret, bool *ret_stopped)
{
	CLEANUP(close_p) int fd = cow_file_openat(st->store_fd, MARKER, O_RDONLY | O_NOFOLLOW, 0);
	unsigned long long epoch;
	char text[160];
	ssize_t n;

	if (fd < 0)
		return fd;
	n = cow_file_pread(fd, text, sizeof(text) - 1, 0);
	if (n < 0)
		return (int)n;
	text[n] = '\0';
	if (sscanf(text, MARKER_FIRST "\nepoch: %llu\n", &epoch) != 1)
		return -EUCLEAN;
	*ret = epoch;
	*ret_stopped = strstr(text, "\nstate: " MARKER_STOPPED "\n");
	return 0;
}

bool revert_marked(struct cow_store *st)
{
	struct statx sx;

	return cow_file_statx(st->store_fd, MARKER, &sx) == 0;
}

int revert_load(struct cow_store *st)
{
	uint64_t epoch = 0;
	bool stopped = false;
	struct epoch *e;
	int r = read_marker(st, &epoch, &stopped);

	if (r == -ENOENT)
		return 0;
	if (r < 0 && r != -EUCLEAN)
		return r;
	e = r == 0 ? epoch_get(st, epoch) : NULL;
	if (!e) { /* its snapshot went, or nobody can tell which it was */
		set_state(st, COW_REVERT_LOST, NULL);
		return remove_marker(st);
	}
	atomic_store(&st->revert_epoch, epoch);
	st->revert_cut_off = !stopped;
	set_state(st, COW_REVERT_STOPPED, e);
	epoch_unref(e);
	return 0;
}

void revert_dropped(struct cow_store *st, uint64_t epoch)
{
	int r;

	if (atomic_load(&st->reverting) || atomic_load(&st->revert_epoch) != epoch)
		return;
	atomic_store(&st->revert_epoch, 0);
	r = remove_marker(st);
	if (r < 0)
		log_error("the mark of a given up revert could not be removed: %s", strerror(-r));
	set_state(st, COW_REVERT_LOST, NULL);
}

uint64_t revert_pinned(struct cow_store *st)
{
	return atomic_load(&st->reverting) ? atomic_load(&st->revert_epoch) : 0;
}

/* ---- begin and end ---- */

/* May it begin? The list of newer snapshots, newest first, for the caller to free. */
static int check_newer(struct cow_store *st, uint64_t epoch, bool force, bool claim,
		       bool *ret_persistent)
{
	int r = -ENOENT;

	ulock_lock(&st->epochs_lock);
	for (struct epoch *e = st->last; e; e = e->older) {
		if (e->id == epoch && !e->internal && e->snap.state == COW_SNAP_CREATED) {
			*ret_persistent = cow_context_persistent(e->snap.context);
			r = 0;
			if (claim) { /* under the same lock: nobody drops it in between */
				atomic_store(&st->revert_epoch, epoch);
				atomic_store(&st->reverting, true);
			}
			break;
		}
		if (e->id <= epoch)
			break;
		if (!e->internal && (e->snap.state == COW_SNAP_OPENED || (e->uses && !force))) {
			r = -EBUSY;
			break;
		}
	}
	ulock_unlock(&st->epochs_lock);
	return r;
}

/* From here on changes of others are turned away, and no snapshot is opened. */
static int shut(struct job *j, bool force)
{
	const struct cow_revert_hooks *h = j->hooks;
	struct cow_store *st = j->st;
	bool persistent;
	int r;

	r = epoch_prepare_internal(st); /* so that begin_label() is one small append */
	if (r < 0)
		return r;
	gate_exclusive(st);
	r = h && h->may_begin ? h->may_begin(h->userdata) : 0;
	if (r == 0)
		r = check_newer(st, j->epoch, force, true, &persistent);
	gate_exclusive_end(st);
	return r;
}

/* The newest one but ours; 0: none is newer. */
static uint64_t newest_above(struct cow_store *st, uint64_t epoch, struct cow_snapshot *ret)
{
	uint64_t id = 0;

	ulock_lock(&st->epochs_lock);
	for (struct epoch *e = st->last; e && e->id > epoch && !id; e = e->older)
		if (!e->internal) {
			id = e->id;
			*ret = e->snap;
			ret->extra = NULL;
		}
	ulock_unlock(&st->epochs_lock);
	return id;
}

/* Then what they held is settled below ours: what differs from ours is on record under its label or a later one. */
static int drop_newer(struct cow_store *st, uint64_t epoch)
{
	struct cow_snapshot snap;
	uint64_t id;
	int r = 0;

	while (r == 0 && (id = newest_above(st, epoch, &snap))) {
		if (atomic_load(&st->revert_stop))
			return -ECANCELED;
		r = cow_epoch_drop(st, id, true);
		if (r == -ENOENT)
			r = 0;
		else if (r == 0 && st->opt.on_drop)
			st->opt.on_drop(st->opt.userdata, &snap, COW_DROP_REQUEST);
	}
	if (r == 0)
		cow_epoch_settle(st);
	return r;
}

/* What the tree will be made of must not be lost with the power once the tree is changed. */
static int sync_records(struct cow_store *st, uint64_t epoch)
{
	struct epoch **list = NULL;
	size_t n = 0;
	int r = 0;

	r = cow_file_fdatasync(st->control_fd); /* which snapshots there are, ours among them */
	ulock_lock(&st->epochs_lock);
	for (unsigned i = 0; i < 2; i++)
		for (struct epoch *e = i ? st->doomed : st->oldest; e && r == 0; e = e->newer) {
			if (e->id < epoch)
				continue;
			r = touched_room(&list, n, sizeof(struct epoch *));
			if (r == 0)
				list[n++] = epoch_ref(e);
		}
	ulock_unlock(&st->epochs_lock);
	for (size_t i = 0; i < n; i++) {
		if (r == 0 && list[i]->log_fd >= 0)
			r = cow_file_fdatasync(list[i]->log_fd);
		if (r == 0 && list[i]->dat_fd >= 0)
			r = cow_file_fdatasync(list[i]->dat_fd);
		for (size_t h = 0; r == 0 && h < list[i]->n_heirlooms; h++)
			if (list[i]->heirlooms[h].fd >= 0)
				r = cow_file_fdatasync(list[i]->heirlooms[h].fd);
		epoch_unref(list[i]);
	}
	free(list);
	return r;
}

/* On disk first: after that nobody goes on with it. */
static int finish(struct cow_store *st)
{
	int r = cow_file_syncfs(st->grave_fd);

	if (r == 0 && st->elsewhere)
		r = cow_file_syncfs(st->store_fd);
	return r < 0 ? r : remove_marker(st);
}

/* What we changed is on record for the snapshots there are. A label newer than theirs, which began with this daemon, has the
 * attributes of some of it and not what else there was: for later changes another one begins. That comes before the marker
 * goes, and whoever finds a marker at the start does it again (cow_store_open): no kill leaves changes to the old label. */
static int begin_label(struct cow_store *st)
{
	struct epoch *e;
	int r;

	gate_exclusive(st);
	e = epoch_newest(st);
	r = e && e->internal ? epoch_open_internal(st) : 0;
	if (r < 0)
		r = epoch_open_internal(st);
	gate_exclusive_end(st);
	return r;
}

static void reopen_gate(struct cow_store *st, bool done)
{
	gate_exclusive(st);
	if (done)
		atomic_store(&st->revert_epoch, 0);
	atomic_store(&st->reverting, false);
	gate_exclusive_end(st);
}

static void job_done(struct job *j)
{
	touched_done(&j->t);
	free(j->opened);
	free(j->locked);
	free(j->lost);
	free(j->live);
	free(j->want);
	cow_view_close(j->view);
}

/* With changes turned away. */
static int run(struct job *j, bool again)
{
	struct cow_store *st = j->st;
	int r = 0;

	if (again)
		r = check_unseen(j);
	if (r == 0)
		r = drop_newer(st, j->epoch);
	if (r == 0)
		r = view_alive(j->view);
	if (r == 0)
		r = sync_records(st, j->epoch);
	if (r == 0)
		r = converge(j);
	if (r == 0 && failures(st)) {
		ulock_lock(&st->revert_lock);
		r = st->revert.error;
		ulock_unlock(&st->revert_lock);
	}
	return r;
}

/* The last of it, whatever came out. Without a label of their own later changes might find the one there is wanting, and cost
 * the snapshots that could not be kept true: then it is not over. */
static int end(struct job *j, int r)
{
	struct cow_store *st = j->st;
	int e = begin_label(st);

	if (e < 0)
		log_warn("after a revert: %s", strerror(-e));
	if (r == 0)
		r = e < 0 ? e : finish(st);
	if (r < 0)
		blame(st, r, r == -ECANCELED ? "interrupted" : "the revert");
	if (r < 0 && r != -ECANCELED)
		mark_stopped(st, j->view->e);
	set_state(st, r < 0 ? COW_REVERT_STOPPED : COW_REVERT_NONE, NULL);
	reopen_gate(st, r == 0);
	return r;
}

/* What was said before holds on; but of what was changed unseen the first is told. */
static void refuse(struct cow_store *st, const struct cow_revert_info *before, int r)
{
	struct cow_revert_info now;

	ulock_lock(&st->revert_lock);
	now = st->revert;
	st->revert = *before;
	if (r == -ESTALE) {
		st->revert.error = now.error;
		memcpy(st->revert.why, now.why, sizeof(now.why));
	}
	ulock_unlock(&st->revert_lock);
}

/* 0, and the state is RUNNING; or nothing was touched. */
static int begin(struct job *j, bool force, bool again)
{
	struct cow_store *st = j->st;
	struct cow_revert_info before;
	bool persistent = true;
	int r;

	r = check_newer(st, j->epoch, force, false, &persistent);
	if (r == 0 && !persistent)
		r = -EOPNOTSUPP;
	if (r == 0)
		r = cow_view_open(st, j->epoch, false, &j->view);
	if (r < 0)
		return r;
	ulock_lock(&st->revert_lock);
	before = st->revert;
	st->revert = (struct cow_revert_info){ .state = before.state };
	ulock_unlock(&st->revert_lock);
	if (!again)
		r = check_unseen(j);
	if (r == 0) {
		j->shut = true;
		r = shut(j, force);
	}
	if (r == 0) {
		r = write_marker(st, j->view->e, again);
		if (r < 0)
			reopen_gate(st, !again);
	}
	if (r < 0) {
		refuse(st, &before, r);
		return r;
	}
	set_state(st, COW_REVERT_RUNNING, j->view->e);
	if (j->hooks && j->hooks->begun)
		j->hooks->begun(j->hooks->userdata);
	return 0;
}

static bool claim(struct cow_store *st, uint64_t epoch, bool *ret_again)
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&st->revert_lock);
	uint64_t pending = atomic_load(&st->revert_epoch);

	(void)held;
	if (st->revert_busy || (pending && pending != epoch))
		return false;
	*ret_again = pending == epoch;
	st->revert_busy = true;
	return true;
}

int cow_revert(struct cow_store *st, uint64_t epoch, bool force,
	       const struct cow_revert_hooks *hooks)
{
	struct job j = { .st = st, .epoch = epoch, .hooks = hooks };
	bool again, begun;
	int r;

	if (!claim(st, epoch, &again))
		return -EINPROGRESS;
	r = begin(&j, force, again);
	begun = r == 0;
	if (begun)
		r = end(&j, run(&j, again));
	if (j.shut)
		cow_epoch_unprepare(st);
	job_done(&j);
	ulock_lock(&st->revert_lock);
	if (begun && r == 0) {
		struct cow_revert_info none = { .left_out = st->revert.left_out };

		if (none.left_out) {
			none.error = st->revert.error;
			memcpy(none.why, st->revert.why, sizeof(none.why));
		}
		st->revert = none;
	}
	st->revert_busy = false;
	ulock_unlock(&st->revert_lock);
	return r;
}

bool cow_revert_running(struct cow_store *st)
{
	return atomic_load(&st->reverting);
}

uint64_t cow_revert_pending(struct cow_store *st)
{
	return atomic_load(&st->revert_epoch);
}

uint64_t cow_revert_cut_off(struct cow_store *st)
{
	return st->revert_cut_off ? cow_revert_pending(st) : 0;
}

void cow_revert_stop(struct cow_store *st)
{
	atomic_store(&st->revert_stop, true);
}

void cow_revert_get(struct cow_store *st, struct cow_revert_info *ret)
{
	ulock_lock(&st->revert_lock);
	*ret = st->revert;
	ulock_unlock(&st->revert_lock);
}
