/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cow/revert.h - the whole live tree becomes a snapshot again.
 * Job:     make the tree below equal to a snapshot, out of the records of what changed since (touched.h), so that the cost
 *	    follows the change; go on after a crash until it is done.
 * Errors:  said at each call; what went wrong with single files is in struct cow_revert_info.
 * Threads: one revert at a time; cow_revert_get, cow_revert_running and cow_revert_stop from any thread.
 * Rules:   X-10 (persistent only, one at a time, continued after a crash), X-11 (newer snapshots go), X-12 (touches only
 *	    what differs); I-3 and I-4 hold for the snapshot all the while, I-6: every step enters the gate by itself. */
#ifndef UMBRA_COW_REVERT_H
#define UMBRA_COW_REVERT_H

#include "cow/cow.h"

enum cow_revert_state {
	COW_REVERT_NONE,    /* the tree is whole */
	COW_REVERT_RUNNING, /* changes of others are to be turned away */
	COW_REVERT_STOPPED, /* partly done; cow_revert with the same epoch goes on */
	COW_REVERT_LOST, /* it was STOPPED and its snapshot went: partly done for good. Until the next revert */
};

#define COW_REVERT_WHY_MAX 512

struct cow_revert_info {
	enum cow_revert_state state;
	uint64_t epoch;		      /* 0 when NONE */
	char id[COW_UUID_LEN + 1];    /* of the snapshot */
	uint64_t done, total;	      /* steps: names and inodes; total 0: not known yet */
	uint64_t failures;	      /* steps that could not be done */
	uint64_t left_out;	      /* when it is over: inodes not found */
	int error;		      /* -errno of the first, 0: none */
	char why[COW_REVERT_WHY_MAX]; /* the first, in words: path and reason; "" none */
};

/* What the side above has in its memory. All are called by the thread that reverts; NULL: not wanted. */
struct cow_revert_hooks {
	/* With the gate closed, when it alone can still refuse: 0, or a -errno that cow_revert answers with. No lock of
	 * ours is held; may not wait. */
	int (*may_begin)(void *userdata);
	/* Nothing can be refused any more: changes of others are turned away from here on. */
	void (*begun)(void *userdata);
	/* Inside the gate, around the call that takes a name away: `dir_fd` is any descriptor of directory `dir`. Each
	 * name_goes is followed by one name_gone, with what the call said. */
	void (*name_goes)(void *userdata, uint64_t dir, int dir_fd, const char *name);
	void (*name_gone)(void *userdata, uint64_t dir, const char *name, int r);
	/* Outside of it, no lock of ours held: a name stands for something else now; an inode changed. May wait. */
	void (*name_changed)(void *userdata, uint64_t dir, const char *name);
	void (*inode_changed)(void *userdata, uint64_t ino);
	void *userdata;
};

/**
 * Revert to a snapshot, or go on with it. Call without having entered the gate; takes as long as there is to do.
 * From the moment that nothing can be refused any more until it returns cow_revert_running() is true; it is set with
 * the gate closed, so that no change of others is inside. Snapshots newer than `epoch` are dropped and reported through
 * on_drop with COW_DROP_REQUEST.
 * @force  also when newer snapshots are in use
 * Returns 0: the tree is the snapshot, on disk, too; info may say what was left out. Refused, nothing touched, state as before:
 * -EINPROGRESS one is running, or one to another snapshot stopped; -ENOENT no such snapshot; -EOPNOTSUPP it is not
 * persistent; -EBUSY a newer one is in use or being created, or what may_begin said; -ESTALE something was changed while no
 * daemon watched, so that what it was is not known (info says what). Anything else: STOPPED, partly done; -ECANCELED by
 * cow_revert_stop.
 */
int cow_revert(struct cow_store *st, uint64_t epoch, bool force,
	       const struct cow_revert_hooks *hooks);

/* Are changes of others to be turned away? Asked inside the gate. */
bool cow_revert_running(struct cow_store *st);

/* The epoch of a revert that is not finished, found at the opening or STOPPED since; 0: none. */
uint64_t cow_revert_pending(struct cow_store *st);

/* The same, but 0 also for one that had ended with failures: the tree was in use since, so that it goes on by nobody's word
 * but a person's. Of the opening. */
uint64_t cow_revert_cut_off(struct cow_store *st);

/* Have a running one stop soon, to go on at the next opening. For closing; later ones stop at once. */
void cow_revert_stop(struct cow_store *st);

void cow_revert_get(struct cow_store *st, struct cow_revert_info *ret);

#endif
