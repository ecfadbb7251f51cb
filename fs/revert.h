/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/revert.h - the tree is reverted while it is mounted.
 * Job:     run cow_revert on a thread of its own, keep the table of nodes and the kernel's memory in step with it,
 *	    tell whoever asked when it is over; go on at the start with one that was cut off.
 * Errors:  0 or -errno.
 * Threads: any. The thread holds neither gate nor lock when it tells the kernel.
 * Rules:   X-10: refused while files are open unless forced; continued after a crash or reboot. */
#ifndef UMBRA_FS_REVERT_H
#define UMBRA_FS_REVERT_H

#include "cow/revert.h"
#include "fs/fs.h"

struct fs_revert;

/* What only the side above knows; called by the thread, no lock held. NULL: not wanted. */
struct fs_revert_hooks {
	/* One has begun, or is over. */
	void (*changed)(void *userdata);
	/* Is that snapshot in use in a way that the store cannot see (D-12)? */
	bool (*in_use)(void *userdata, uint64_t epoch);
	void *userdata;
};

/* `hooks` are copied. NULL: out of memory. */
struct fs_revert *fs_revert_new(struct fs *fs, const struct fs_revert_hooks *hooks);
/* A running one stops soon, to go on at the next start; waits for it. NULL is fine. */
void fs_revert_free(struct fs_revert *rv);

/**
 * Begin, or go on with one that stopped.
 * @force  also while files are open; these go on and see what there is then
 * @done   called once, by the thread: the result of cow_revert, and what it says of itself. -EBUSY: files are open, a
 *	   newer snapshot is in use or something is mounted in the tree; `why` says which of them
 * Returns 0; -EINPROGRESS one is running: then nobody is called.
 */
int fs_revert_start(struct fs_revert *rv, uint64_t epoch, bool force,
		    void (*done)(void *userdata, int r, const struct cow_revert_info *info),
		    void *userdata);

/* One that a former daemon did not finish goes on. Returns when changes are turned away, or it is over. */
void fs_revert_resume(struct fs_revert *rv);

#endif
