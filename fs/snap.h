/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/snap.h - snapshots as nodes, and the virtual directory .snapshots.
 * Job:     turn cow_vnodes into entries and attributes of the kernel's. Under .snapshots the inode numbers are mixed
 *	    with the epoch, so that they differ from the live tree's; a served snapshot keeps the original ones (I-10).
 * Errors:  as cow/view.h; -ESTALE for a dropped snapshot.
 * Threads: any. */
#ifndef UMBRA_FS_SNAP_H
#define UMBRA_FS_SNAP_H

#include <sys/stat.h>

#include "fs/fs.h"

#define FS_SNAPDIR_INO UINT64_C(0xFFFFFF0000000001) /* the number shown for .snapshots */

/* The number shown for inode `ino` of a snapshot, never 0. */
uint64_t fs_snap_ino(const struct fs *fs, uint64_t epoch, uint64_t ino);
/* The number shown for a node of a snapshot. */
uint64_t fs_snap_node_ino(const struct fs *fs, const struct fs_node *node);

/* Look up in a directory of a snapshot, or in .snapshots; counts the look-up. */
int fs_snap_lookup(struct fs *fs, struct fs_node *dir, const char *name,
		   struct fuse_entry_param *ret);
/* The entry of .snapshots itself; counts the look-up. */
int fs_snap_enter_dir(struct fs *fs, struct fuse_entry_param *ret);
int fs_snap_stat(struct fs *fs, struct fs_node *node, struct stat *ret);

/* How long the kernel may believe a node's attributes. */
double fs_snap_timeout(const struct fs_node *node);

/* A snapshot went away: the kernel forgets its name under .snapshots. No lock may be held. */
void fs_snap_dropped(struct fs *fs, const char *name);

#endif
