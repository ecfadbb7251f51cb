/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cow/revert_private.h - what the rooms of a revert share: revert.c the run, revert_marker.c that it is not finished,
 * revert_names.c and revert_restore.c its passes, revert_step.c what these have in common.
 * Job:     the struct of a revert and the calls between its rooms; nobody else includes it.
 * Errors:  0 or -errno; where a step may fail and the rest goes on it is said at the call.
 * Threads: the one that reverts; the marker also while there is none. */
#ifndef UMBRA_COW_REVERT_PRIVATE_H
#define UMBRA_COW_REVERT_PRIVATE_H

#include "cow/store_private.h"
#include "cow/touched.h"
#include "cow/view_private.h"

#define REVERT_RUN_CLUSTERS 64u /* 256 KiB compared and written in one pass of the gate */
#define REVERT_DEPTH_MAX 2048

struct revert_locked { /* a directory whose mode in the snapshot keeps us out: it gets it last */
	uint64_t ino;
	unsigned depth;
};

struct revert_job {
	struct cow_store *st;
	struct cow_view *view;
	uint64_t epoch;
	const struct cow_revert_hooks *hooks;
	struct touched t;
	uint64_t *opened; /* inodes that we gave ourselves permission for */
	size_t n_opened;
	struct revert_locked *locked;
	size_t n_locked;
	struct touched_inode *lost; /* had a name in the snapshot, and no record leads there */
	size_t n_lost;
	bool passed_by; /* a directory that may not be read, when they were looked for; */
	char passed_why[COW_REVERT_WHY_MAX]; /* the first, in words */
	uint8_t *live, *want;		     /* REVERT_RUN_CLUSTERS each */
	bool shut;			     /* shut() was called, which prepares an epoch */
};

/* ---- revert_step.c ---- */

/* `e` NULL: of the same snapshot. */
void revert_set_state(struct cow_store *st, enum cow_revert_state state, const struct epoch *e);
void revert_count_step(struct cow_store *st);
/* A path for people: below the tree's root where the kernel can say it. */
void revert_path_of(struct cow_store *st, int fd, const char *name, char *buf, size_t size);
/* What an error means here. */
const char *revert_reason(int r);
/* One step failed: remember the first, go on with the others. -ECANCELED is no failure of the step: pass it on. Returns 1. */
int revert_failed(struct revert_job *j, int fd, const char *name, int r);

/* 0, or -ECANCELED: it was told to stop. May wait for a hold; each enter is followed by a leave. */
int revert_enter(struct revert_job *j);
void revert_leave(struct revert_job *j);
/* Out of space: snapshots older than ours go, as for any change (F-9). Inside the gate. */
bool revert_made_room(struct revert_job *j, int r);
/* I-3, and for records of a later daemon: whatever is touched has its attributes on record first. Inside the gate. */
int revert_save(struct revert_job *j, uint64_t ino, int fd);
/* Was it made after the snapshot? */
bool revert_born(struct revert_job *j, uint64_t ino);
/* An owner who may not change his own directory lets himself, as he could any time; its mode comes back in the end, since
 * what it was is on record. Inside the gate. True: try again. */
bool revert_let_in(struct revert_job *j, int fd);
/* By the graveyard, its place, or one of the names that it has in the snapshot. -ENOENT: nowhere. */
int revert_open_inode(struct revert_job *j, uint64_t ino);

/* Starts as {0}; to be given back in any case. */
struct revert_names {
	char **names;
	size_t n;
};

void revert_names_done(struct revert_names *l);
/* All names in a directory: a list, so that one descriptor is held for each level below, not two. */
int revert_names_read(int dir_fd, struct revert_names *ret);
/* The same, of one that shows what its names stand for, too; an owner lets himself in. -EACCES: it does not. */
int revert_names_read_own(struct revert_job *j, int fd, struct revert_names *ret);

/* ---- revert_names.c: 0; 1: it failed, and that was said; -ECANCELED ---- */

/* What it stands for and should not is taken away. */
int revert_clear_name(struct revert_job *j, const struct touched_name *n);
/* What it should stand for comes back; nothing is in the way by now. */
int revert_put_back(struct revert_job *j, const struct touched_name *n);

/* ---- revert_restore.c ---- */

/* 0, whatever single ones came to, or -ECANCELED. */
int revert_restore_all(struct revert_job *j);

/* ---- revert_marker.c ---- */

/* On failure there is none, unless there was one before (`again`). */
int revert_write_marker(struct cow_store *st, const struct epoch *e, bool again);
/* It ended with failures: not to go on by itself at a start. */
void revert_mark_stopped(struct cow_store *st, const struct epoch *e);
int revert_remove_marker(struct cow_store *st);

#endif
