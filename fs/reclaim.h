/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/reclaim.h - keep memory bounded when the kernel remembers millions of inodes.
 * Job:     above a number of nodes, make the kernel give up the coldest ones, so that forgets come.
 * Threads: one of its own, since notices must not be sent by a handler thread (deadlock in the kernel). */
#ifndef UMBRA_FS_RECLAIM_H
#define UMBRA_FS_RECLAIM_H

#include "fs/fs.h"

struct fs_reclaim;

struct fs_reclaim *fs_reclaim_start(struct fs *fs, size_t nodes_max);
void fs_reclaim_stop(struct fs_reclaim *rc); /* NULL is fine */

#endif
