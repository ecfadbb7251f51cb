/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cow/cow.h - the copy-on-write store of one protected directory, as its file-system side sees it.
 * Job:     open and close the store; the handle of an inode below. Changing the tree is change.h,
 *          reading a snapshot view.h, holding and epochs gate.h and epoch.h, comparing diff.h.
 * Errors:  0 or -errno, ret_ arguments then untouched. Any call: -ENOMEM, -EIO.
 * Threads: any, at any time between open and close.	     Rules: I-3, I-4, I-5, I-7. */
#ifndef UMBRA_COW_COW_H
#define UMBRA_COW_COW_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cow/provider.h"

#define COW_STORE_NAME ".umbra" /* entry of the directory below that nobody is shown (F-3) */
#define COW_CLUSTER_SIZE 4096u	/* bytes preserved together */

struct cow_store;
struct cow_inode;

#define COW_STORE_MIN_BYTES (1u << 20) /* the least sensible maximum (F-4): callers refuse less */

struct cow_options {
	int below_fd; /* the directory below: open O_RDONLY|O_DIRECTORY or O_PATH; duplicated */
	const char *
		store_dir; /* NULL: COW_STORE_NAME below. Else an existing or new directory elsewhere;
				 * removed files still wait in COW_STORE_NAME/grave below (same file system) */
	uint64_t max_bytes; /* most preserved bytes; 0: unlimited (F-4) */

	/* A snapshot went away unasked. Called from any thread, no lock of ours held; must not call back. */
	void (*on_drop)(void *userdata, const struct cow_snapshot *snap, enum cow_drop_cause cause);
	/* The gate opened again after a hold: changes that were turned away may be tried anew. Called from
	 * any thread, no lock of ours held; must not wait. */
	void (*on_gate_open)(void *userdata);
	/* Where inode `ino` lives in the live tree now: one (parent inode, name) pair of it. Called for inodes
	 * handed to a change and their ancestors, under a lock of ours (rank below NODES): must only look it up.
	 * Returns 0, or -ENOENT when the caller does not know it. */
	int (*place)(void *userdata, uint64_t ino, uint64_t *ret_parent, char ret_name[256]);
	void *userdata;
};

/**
 * Open the store of a directory, making it where there is none; replays what a dead daemon left.
 * Unfinished snapshots are dropped (N-7), and after an unclean boot the not persistent ones.
 * @ret_why  buffer for one clear line on failure, without newline
 * Returns 0; -EBUSY another process has it open; -EPROTONOSUPPORT made by a newer version or with
 * features we do not know; -EUCLEAN damaged beyond its log; -EACCES, -ENOSPC, -EROFS ... as met.
 */
int cow_store_open(const struct cow_options *opt, struct cow_store **ret_st, char *ret_why,
		   size_t why_len);

/**
 * Note that from now on somebody else may change the directory: the overlay is over it no more, or its last change has
 * returned. What is changed later counts as changed while nobody watched (I-4), also by ourselves. The first call counts;
 * cow_store_close makes one, but what it has to write may take long. Any thread; waits some milliseconds for the clock.
 */
void cow_store_unwatched(struct cow_store *st);

/**
 * Close it cleanly. All inodes, views, directories and files of it must have been given back.
 * @remove_empty  when no snapshot is left, take the store away altogether, so that the directory is as if
 *		  we had never been there (ignored for a store elsewhere, whose grave alone goes)
 * Returns 0 or the first error met; the store is closed in any case. Where not all could be put on disk it is at the next
 * boot as after a crash.
 */
int cow_store_close(struct cow_store *st, bool remove_empty);

/* The tree's id (V-1): stays the same as long as the store exists. Borrowed until close. */
const char *cow_store_tree_id(const struct cow_store *st);

struct cow_usage {
	uint64_t used_bytes; /* preserved data */
	uint64_t
		allocated_bytes; /* taken from the disk by the store, graveyard included where cheap to know */
	uint64_t max_bytes; /* 0: unlimited */
};
/* The three numbers of F-8. O(snapshots). */
void cow_store_usage(struct cow_store *st, struct cow_usage *ret);

/**
 * The handle of one inode below, needed by every change of it; shared and counted.
 * An inode number must stay the same thing while a handle is held: keep it open or named.
 * Memory only, no system call. Returns NULL when out of memory.
 */
struct cow_inode *cow_inode_get(struct cow_store *st, uint64_t ino);
void cow_inode_put(struct cow_store *st, struct cow_inode *ci); /* ci may be NULL */
uint64_t cow_inode_number(const struct cow_inode *ci);

/**
 * Links of a live inode that are ours and not the user's: 1 when a removed name of it waits in the
 * graveyard for a snapshot's sake, else 0. Subtract from st_nlink. Only worth asking when the count below
 * is at least 2, or the inode is known to have lost a name. Cheap and answered from memory when nothing waits.
 */
unsigned cow_inode_extra_links(struct cow_store *st, uint64_t ino);

#endif
