/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cow/epoch.h - epochs: open, commit, list, drop. A snapshot is the epoch that its opening began.
 * Job:     which epochs live, in what order; not what they save (preserve.h).
 * Threads: any; who must hold the gate is said at each call.	  Rules: I-2, I-7, I-8, N-1, N-4, N-6, D-13. */
#ifndef UMBRA_COW_EPOCH_H
#define UMBRA_COW_EPOCH_H

#include "cow/cow.h"

/**
 * Lay out what the next epoch needs (files, space), so that opening it under the hold is one small append.
 * May be called again; unused preparation is thrown away with cow_epoch_unprepare or the next open.
 * Returns 0; -ENOSPC; -EUSERS when the tree has COW_SNAPSHOTS_MAX snapshots; -EINPROGRESS while a revert is not finished.
 */
int cow_epoch_prepare(struct cow_store *st);
void cow_epoch_unprepare(struct cow_store *st);

/**
 * Open the next epoch: from now on the first change of anything is preserved under its number.
 * O(1) in files, bytes and snapshots (I-7). The gate must be held (else -EINVAL), and stays held.
 * @snap  id, set_id, context, in_set, label, name, extra are taken; copied
 * Returns 0; -ETIMEDOUT the hold ran out (I-6); -EEXIST id or name in use; -ENOSPC; -EINPROGRESS as above: nothing opened.
 */
int cow_epoch_open(struct cow_store *st, const struct cow_snapshot *snap, uint64_t *ret_epoch);

/* The set is `created`: show it from now on. extra: replaces that of the opening; NULL: it stays.
 * Returns 0; -EINVAL extra is longer than COW_EXTRA_MAX; -ENOENT when it was dropped meanwhile, -ENOSPC when that was for
 * want of space (F-12). */
int cow_epoch_commit(struct cow_store *st, uint64_t epoch, const char *extra);

/**
 * Drop a snapshot, in any state and order, and give its space back (in the background for what is slow).
 * At return it can no longer be found or opened; views of it answer -ESTALE. Repeating it is harmless (N-6).
 * @force  also when it is in use (view.h), or the tree was being reverted to it and that stopped: else that is
 *	   -EBUSY (D-12), and it always is while that revert runs
 * Takes the gate for a moment when it is the newest of several: call without having entered it.
 * Returns 0; -ENOENT no such snapshot; -EBUSY.
 */
int cow_epoch_drop(struct cow_store *st, uint64_t epoch, bool force);

/* Wait until everything that was dropped has given its space back. For tests and for close. */
void cow_epoch_settle(struct cow_store *st);

/**
 * All snapshots that live, oldest first, `created` ones only unless `all`.
 * @ret_list  array for the caller to free with cow_snapshots_free
 */
int cow_epoch_list(struct cow_store *st, bool all, struct cow_snapshot **ret_list, size_t *ret_n);
void cow_snapshots_free(struct cow_snapshot *list, size_t n);

/* Find a `created` snapshot by its name under .snapshots. Returns 0 or -ENOENT. */
int cow_epoch_find(struct cow_store *st, const char *name, uint64_t *ret_epoch);

#endif
