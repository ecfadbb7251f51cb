/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From an inode number to a path that works now, for inodes that are no longer where a snapshot saw them.
 *
 * A removed inode waits in the graveyard under its number. A moved one has a PLACE record, and then so has every
 * directory above it: place_ensure() writes a missing chain from the top down, every rename writes the new place before
 * it is applied, with the old one beside it in case that never happens. Whatever is opened is checked by its number, so a
 * stale record can mislead nobody; and no number is used again while its inode is preserved. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/file.h"
#include "cow/store_private.h"

#define DEPTH_MAX 2048 /* components of a path of PATH_MAX bytes */
#define STEPS_MAX (2 * DEPTH_MAX)

/* One inode on the way up. Where an inode is and where it was may lead round in a circle, or by so many ways that to try
 * all would take for ever, while the gate is held up: an inode met again ends that way, and too many steps end all. */
struct walk {
	const struct walk *below; /* whose directory this is; NULL: what is looked for */
	uint64_t ino;
	unsigned *steps; /* made so far, shared by all ways */
};

static bool on_the_way(const struct walk *w, uint64_t ino)
{
	while (w && w->ino != ino)
		w = w->below;
	return w != NULL;
}

void grave_name(char buf[24], uint64_t ino)
{
	snprintf(buf, 24, "%016llx", (unsigned long long)ino);
}

bool stat_is_ours(const struct cow_store *st, const struct statx *sx)
{
	return sx->stx_dev_major == st->dev_major && sx->stx_dev_minor == st->dev_minor &&
	       (!st->mnt_id || !(sx->stx_mask & STATX_MNT_ID) || sx->stx_mnt_id == st->mnt_id);
}

/* ---- writing ---- */

static int put_place(struct cow_store *st, struct epoch *e, struct cow_place *p)
{
	uint8_t buf[1024];
	ssize_t len;

	ulock_assert_held(&st->loc_lock);
	p->seq = ++st->place_seq;
	len = cow_format_place(buf, st->seed, e->id, p);
	return len < 0 ? (int)len : preserve_put(st, e, buf, (size_t)len);
}

static int get_place(struct cow_store *st, uint64_t ino, struct cow_place *ret)
{
	CLEANUP(cow_buf_done) struct cow_buf buf = { 0 };
	uint8_t key[COW_KEY_MAX];
	int r;

	r = cow_index_get(st->index, key, cow_key_place(key, ino), &buf);
	if (r == 0)
		r = cow_format_get_place(buf.data, buf.len, ret);
	if (r == 0 && ret->era != atomic_load(&st->era))
		r = -ENOENT; /* there was a time without snapshots since, when nobody wrote moves down */
	return r;
}

static bool same_spot(const struct cow_spot *a, const struct cow_spot *b)
{
	return a->parent == b->parent && strcmp(a->name, b->name) == 0;
}

static int open_spot(struct cow_store *st, const struct cow_spot *s, const struct walk *w);

/* Does a record still lead to its inode? A hard link is kept in the record by the name that was there first, since that is
 * one that snapshots know. */
static bool still_there(struct cow_store *st, const struct cow_place *p)
{
	unsigned steps = 0;
	struct walk w = { .ino = p->ino, .steps = &steps };
	CLEANUP(close_p) int fd = open_spot(st, &p->now, &w);

	return fd >= 0;
}

/* A record that names neither where it is nor where it was before a rename now under way is perhaps one of another inode,
 * which had the same number. */
static int ensure_locked(struct cow_store *st, struct epoch *e, uint64_t ino, unsigned depth)
{
	struct cow_place p, known;
	int r;

	if (ino == st->root_ino || depth > DEPTH_MAX || !st->opt.place)
		return 0;
	p = (struct cow_place){ .ino = ino, .era = atomic_load(&st->era) };
	if (st->opt.place(st->opt.userdata, ino, &p.now.parent, p.now.name) < 0)
		return 0; /* nameless by now: it can only be reached by the graveyard */
	r = get_place(st, ino, &known);
	if (r == 0 && (same_spot(&known.now, &p.now) || same_spot(&known.before, &p.now) ||
		       still_there(st, &known)))
		return 0;
	if (r < 0 && r != -ENOENT)
		return r;
	r = ensure_locked(st, e, p.now.parent, depth + 1);
	return r < 0 ? r : put_place(st, e, &p);
}

int place_ensure(struct cow_store *st, struct epoch *e, uint64_t ino)
{
	int r;

	ulock_lock(&st->loc_lock);
	r = ensure_locked(st, e, ino, 0);
	ulock_unlock(&st->loc_lock);
	return r;
}

int place_moved(struct cow_store *st, struct epoch *e, uint64_t ino, const struct cow_spot *now,
		const struct cow_spot *before)
{
	struct cow_place p = { .ino = ino, .era = atomic_load(&st->era), .now = *now }, known;
	int r;

	if (before)
		p.before = *before;
	ulock_lock(&st->loc_lock);
	if (before && get_place(st, ino, &known) == 0 && !same_spot(&known.now, before) &&
	    !same_spot(&known.before, before) && still_there(st, &known)) {
		ulock_unlock(&st->loc_lock); /* another of its names moves */
		return 0;
	}
	r = ensure_locked(st, e, now->parent, 0);
	if (r == 0 && before)
		r = ensure_locked(st, e, before->parent, 0);
	if (r == 0)
		r = put_place(st, e, &p);
	ulock_unlock(&st->loc_lock);
	return r;
}

/* ---- reading ---- */

static int open_checked(struct cow_store *st, int dir_fd, const char *name, uint64_t ino)
{
	CLEANUP(close_p) int fd = -1;
	struct statx sx;
	int r;

	fd = cow_file_openat(dir_fd, name, O_PATH | O_NOFOLLOW, 0);
	if (fd < 0) /* its directory's number is by now that of something else */
		return fd == -ENOTDIR ? -ENOENT : fd;
	r = cow_file_statx(fd, "", &sx);
	if (r < 0)
		return r;
	if (sx.stx_ino != ino || !stat_is_ours(st, &sx))
		return -ENOENT;
	return TAKE_FD(fd);
}

static int open_place(struct cow_store *st, uint64_t ino, const struct walk *below,
		      unsigned *steps);

/* What w is about, by one of its spots. */
static int open_spot(struct cow_store *st, const struct cow_spot *s, const struct walk *w)
{
	CLEANUP(close_p) int dir = -1;

	if (!s->parent)
		return -ENOENT;
	dir = place_dir_cached(st, s->parent);
	if (dir < 0) {
		dir = open_place(st, s->parent, w, w->steps);
		if (dir < 0)
			return dir;
		place_dir_cache(st, s->parent, dir);
	}
	return open_checked(st, dir, s->name, w->ino);
}

static int open_place(struct cow_store *st, uint64_t ino, const struct walk *below, unsigned *steps)
{
	struct walk w = { .below = below, .ino = ino, .steps = steps };
	struct cow_place p;
	char grave[24];
	int fd, r;

	if (ino == st->root_ino)
		return cow_file_reopen(st->below_fd, O_PATH);
	if (++*steps > STEPS_MAX || on_the_way(below, ino))
		return -ENOENT;
	if (atomic_load(&st->grave_used)) {
		grave_name(grave, ino);
		fd = open_checked(st, st->grave_fd, grave, ino);
		if (fd != -ENOENT)
			return fd;
	}
	r = get_place(st, ino, &p);
	if (r < 0)
		return r;
	fd = open_spot(st, &p.now, &w);
	return fd >= 0 ? fd : open_spot(st, &p.before, &w);
}

int place_open(struct cow_store *st, uint64_t ino)
{
	unsigned steps = 0;

	return open_place(st, ino, NULL, &steps);
}

/* ---- directories kept open: right wherever they move ---- */

int place_dir_cached(struct cow_store *st, uint64_t ino)
{
	int fd = -ENOENT;

	ulock_lock(&st->dirs_lock);
	for (unsigned i = 0; i < VIEW_DIRS; i++) {
		if (st->dirs[i].fd < 0 || st->dirs[i].ino != ino)
			continue;
		st->dirs[i].used = ++st->dirs_clock;
		fd = fcntl(st->dirs[i].fd, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			fd = -errno;
		break;
	}
	ulock_unlock(&st->dirs_lock);
	return fd;
}

void place_dir_cache(struct cow_store *st, uint64_t ino, int fd)
{
	unsigned victim = 0;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (copy < 0)
		return;
	ulock_lock(&st->dirs_lock);
	for (unsigned i = 0; i < VIEW_DIRS; i++) {
		if (st->dirs[i].fd < 0 || st->dirs[i].ino == ino) {
			victim = i;
			break;
		}
		if (st->dirs[i].used < st->dirs[victim].used)
			victim = i;
	}
	if (st->dirs[victim].fd >= 0)
		close(st->dirs[victim].fd);
	st->dirs[victim].fd = copy;
	st->dirs[victim].ino = ino;
	st->dirs[victim].used = ++st->dirs_clock;
	ulock_unlock(&st->dirs_lock);
}

/* A cached descriptor would keep a directory that left the graveyard, and so its number, alive. */
void place_forget_dirs(struct cow_store *st)
{
	ulock_lock(&st->dirs_lock);
	for (unsigned i = 0; i < VIEW_DIRS; i++) {
		if (st->dirs[i].fd >= 0)
			close(st->dirs[i].fd);
		st->dirs[i].fd = -1;
	}
	ulock_unlock(&st->dirs_lock);
}
