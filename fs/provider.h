/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/provider.h - the connection to the coordinator.
 * Job:     register the tree, execute the coordinator's commands on the store, report what happened by itself;
 *	    connect again when the coordinator is gone.
 * Threads: two of its own: one for the connection and whatever is quick, so that a hold waits for nothing; one for
 *	    what may take long (drop, diff, serve). A revert has a thread of its own (revert.h), and so has each exposure that
 *	    is being made or ended (provider_expose.h), what was exposed before the start among them.
 * Rules:   H-3: the end of the connection ends a hold at once. H-2: nothing is logged while one is in force. */
#ifndef UMBRA_FS_PROVIDER_H
#define UMBRA_FS_PROVIDER_H

#include "cow/cow.h"
#include "fs/fs.h"

struct fs_provider;

/* `socket` NULL: the usual one. NULL: out of memory. */
struct fs_provider *fs_provider_start(struct fs *fs, const char *socket);
/* Ends the hold, the connection, every exposure (they stay recorded) and every served snapshot. NULL is fine. Returns true;
 * false: threads are left, as of fs_exposures_free: the process must end by _exit(2). */
bool fs_provider_stop(struct fs_provider *p);

/* cow_options.on_drop. */
void fs_provider_dropped(struct fs_provider *p, const struct cow_snapshot *snap,
			 enum cow_drop_cause cause);

/* fs.owner_changed (S-12): whose tree it is decides who may do what with its snapshots. */
void fs_provider_owner_changed(struct fs_provider *p);

#endif
