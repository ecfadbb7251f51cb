/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The first two passes: for each name on record, what it stands for and should not is taken away, what it should stand for is put
 * back. See revert.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/file.h"
#include "cow/revert_private.h"

/* ---- names that go ---- */

enum how { HOW_UNLINK, HOW_RMDIR, HOW_BURY };

static int bury(struct revert_job *j, int dir_fd, const char *name, const struct statx *sx)
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

static int drop_below(struct revert_job *j, uint64_t dir, int dir_fd, const char *name, int fd,
		      const struct statx *sx, enum how how)
{
	int r = revert_save(j, dir, dir_fd);

	if (r == 0 && how == HOW_BURY)
		r = revert_save(j, sx->stx_ino, fd);
	if (r < 0)
		return r;
	if (how == HOW_BURY)
		return bury(j, dir_fd, name, sx);
	return cow_file_unlinkat(dir_fd, name, how == HOW_RMDIR ? AT_REMOVEDIR : 0);
}

/* 0; 1: it failed, and that was said; -ECANCELED. So do all that follow. */
static int drop_name(struct revert_job *j, uint64_t dir, int dir_fd, const char *name,
		     const struct statx *sx, enum how how)
{
	CLEANUP(close_p) int fd = cow_file_openat(dir_fd, name, O_PATH | O_NOFOLLOW, 0);
	const struct cow_revert_hooks *h = j->hooks;
	struct statx now;
	int r = fd < 0 ? fd : cow_file_statx(fd, "", &now);

	if (r == 0 && now.stx_ino != sx->stx_ino)
		r = -ESTALE; /* by somebody below the mount: it is not what we found should go */
	if (r == 0)
		r = revert_enter(j);
	if (r < 0)
		return revert_failed(j, dir_fd, name, r);
	if (h && h->name_goes)
		h->name_goes(h->userdata, dir, dir_fd, name);
	do {
		r = drop_below(j, dir, dir_fd, name, fd, sx, how);
	} while (revert_made_room(j, r));
	if ((r == -EACCES || r == -EPERM) &&
	    (revert_let_in(j, dir_fd) |
	     (how == HOW_BURY && S_ISDIR(sx->stx_mode) && revert_let_in(j, fd))))
		r = drop_below(j, dir, dir_fd, name, fd, sx, how);
	if (h && h->name_gone)
		h->name_gone(h->userdata, dir, name, r);
	revert_leave(j);
	if (h && h->name_changed)
		h->name_changed(h->userdata, dir, name);
	return r < 0 ? revert_failed(j, dir_fd, name, r) : 0;
}

static int take_away(struct revert_job *j, uint64_t dir, int dir_fd, const char *name,
		     const struct statx *sx, unsigned depth);

/* A directory that the snapshot never saw: what is in it goes first. */
static int empty_born_dir(struct revert_job *j, int dir_fd, const char *name, uint64_t ino,
			  unsigned depth)
{
	CLEANUP(close_p)
	int fd = cow_file_openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_DIRECTORY, 0);
	CLEANUP(revert_names_done) struct revert_names l = { 0 };
	struct statx sx;
	int r, all = 0;

	r = fd < 0 ? fd : depth > REVERT_DEPTH_MAX ? -ELOOP : revert_names_read_own(j, fd, &l);
	if (r < 0)
		return revert_failed(j, dir_fd, name, r);
	for (size_t i = 0; i < l.n; i++) {
		r = cow_file_statx(fd, l.names[i], &sx);
		if (r == -ENOENT)
			continue;
		if (r == 0 && !stat_is_ours(j->st, &sx))
			r = -EBUSY; /* something is mounted there, which is not ours to undo */
		r = r < 0 ? revert_failed(j, fd, l.names[i], r)
			  : take_away(j, ino, fd, l.names[i], &sx, depth + 1);
		if (r < 0)
			return r;
		all |= r;
	}
	return all;
}

static int take_away(struct revert_job *j, uint64_t dir, int dir_fd, const char *name,
		     const struct statx *sx, unsigned depth)
{
	int r;

	if (!revert_born(j, sx->stx_ino))
		return drop_name(j, dir, dir_fd, name, sx, HOW_BURY);
	if (!S_ISDIR(sx->stx_mode))
		return drop_name(j, dir, dir_fd, name, sx, HOW_UNLINK);
	r = empty_born_dir(j, dir_fd, name, sx->stx_ino, depth);
	return r ? r : drop_name(j, dir, dir_fd, name, sx, HOW_RMDIR);
}

/* ---- names on record ---- */

/* What a name should stand for. 0; 1: it says nothing of this snapshot; -errno. */
static int wanted(struct revert_job *j, const struct touched_name *n, uint64_t *ret_ino)
{
	unsigned type;
	int r;

	if (revert_born(j, n->dir))
		return 1;
	r = view_name(j->st, n->dir, n->name, strlen(n->name), j->epoch, ret_ino, &type);
	return r == -ENOENT ? 1 : r;
}

int revert_clear_name(struct revert_job *j, const struct touched_name *n)
{
	CLEANUP(close_p) int dir_fd = -1;
	uint64_t want;
	struct statx sx;
	int r = wanted(j, n, &want);

	if (r != 0)
		return r < 0 ? revert_failed(j, j->st->below_fd, n->name, r) : 0;
	dir_fd = revert_open_inode(j, n->dir);
	r = dir_fd < 0 ? dir_fd : cow_file_statx(dir_fd, n->name, &sx);
	if (r == -ENOENT && dir_fd >= 0)
		return 0;
	if (r < 0)
		return revert_failed(j, dir_fd < 0 ? j->st->below_fd : dir_fd, n->name, r);
	if (sx.stx_ino == want || !stat_is_ours(j->st, &sx))
		return 0;
	return take_away(j, n->dir, dir_fd, n->name, &sx, 0);
}

/* The last of its names that is missing takes the graveyard's link; those before it are links. */
static bool needs_all_links(struct revert_job *j, uint64_t ino, const struct statx *sx)
{
	CLEANUP(cow_buf_done) struct cow_buf buf = { 0 };
	struct cow_attr a;

	return S_ISDIR(sx->stx_mode) || view_attr(j->st, ino, j->epoch, &buf, &a) < 0 ||
	       a.nlink <= sx->stx_nlink;
}

/* Out of the graveyard. The place is on record before, so that older snapshots find what they know by another name. */
static int unbury(struct revert_job *j, const struct touched_name *n, int dir_fd, uint64_t ino,
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

static int put_below(struct revert_job *j, const struct touched_name *n, int dir_fd, uint64_t ino,
		     int fd)
{
	struct statx sx, waiting;
	char grave[24];
	int r;

	grave_name(grave, ino);
	r = revert_save(j, n->dir, dir_fd);
	if (r == 0)
		r = revert_save(j, ino, fd);
	if (r == 0)
		r = cow_file_statx(fd, "", &sx);
	if (r < 0)
		return r;
	if (cow_file_statx(j->st->grave_fd, grave, &waiting) == 0 && waiting.stx_ino == ino &&
	    needs_all_links(j, ino, &sx))
		return unbury(j, n, dir_fd, ino, grave);
	return S_ISDIR(sx.stx_mode) ? -EBUSY : cow_file_link_fd(fd, dir_fd, n->name);
}

int revert_put_back(struct revert_job *j, const struct touched_name *n)
{
	CLEANUP(close_p) int dir_fd = -1;
	CLEANUP(close_p) int fd = -1;
	const struct cow_revert_hooks *h = j->hooks;
	uint64_t want;
	struct statx sx;
	int r = wanted(j, n, &want);

	if (r != 0 || !want)
		return 0; /* a failure was told by clear_name */
	dir_fd = revert_open_inode(j, n->dir);
	if (dir_fd < 0)
		return revert_failed(j, j->st->below_fd, n->name, dir_fd);
	r = cow_file_statx(dir_fd, n->name, &sx);
	if (r == 0 && (sx.stx_ino == want || !stat_is_ours(j->st, &sx)))
		return 0;
	fd = revert_open_inode(j, want);
	r = fd < 0 ? fd : revert_enter(j);
	if (r < 0)
		return revert_failed(j, dir_fd, n->name, r);
	do {
		r = put_below(j, n, dir_fd, want, fd);
	} while (revert_made_room(j, r));
	if ((r == -EACCES || r == -EPERM) && (revert_let_in(j, dir_fd) | revert_let_in(j, fd)))
		r = put_below(j, n, dir_fd, want, fd);
	revert_leave(j);
	if (r == 0 && h && h->name_changed)
		h->name_changed(h->userdata, n->dir, n->name);
	return r < 0 ? revert_failed(j, dir_fd, n->name, r) : 0;
}
