/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cow/diff.h - what differs between two snapshots, or a snapshot and the live tree.
 * Job:     answer from the records of the epochs between, so that the cost follows the change, not the tree.
 * Threads: any; needs no gate. The live side may move on meanwhile: its answer is then of some moment during
 *	    the call, path by path. */
#ifndef UMBRA_COW_DIFF_H
#define UMBRA_COW_DIFF_H

#include "cow/cow.h"

enum cow_diff_kind {
	COW_DIFF_ADDED = 'A',	 /* path is new in b */
	COW_DIFF_REMOVED = 'D',	 /* path is gone in b */
	COW_DIFF_MODIFIED = 'M', /* content (regular file), target (link) or device changed */
	COW_DIFF_META = 'm',	 /* only attributes or xattrs */
	COW_DIFF_RENAMED = 'R',	 /* same inode, old_path in a, path in b; may be modified too */
	COW_DIFF_TYPE = 'T',	 /* path names another type of file */
};

struct cow_diff_entry {
	enum cow_diff_kind kind;
	bool modified;	  /* RENAMED: content changed as well */
	const char *path; /* relative to the tree's root; raw bytes; borrowed during the callback */
	const char *old_path; /* RENAMED only */
	mode_t mode;	      /* in b, or in a for REMOVED */
	uint64_t ino;
	uint64_t old_size, new_size; /* bytes; 0 where absent */
};

/**
 * Report each difference once, sorted by path.
 * @epoch_a    the older snapshot
 * @epoch_b    the newer one, or 0 for the live tree
 * @each       called for each; non-zero ends the call with that value
 * Returns 0; -ENOENT no such snapshot; -EINVAL when b is not newer than a; what `each` said.
 */
int cow_diff(struct cow_store *st, uint64_t epoch_a, uint64_t epoch_b,
	     int (*each)(void *userdata, const struct cow_diff_entry *e), void *userdata);

#endif
