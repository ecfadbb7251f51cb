/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/serve.h - snapshots served as file systems of their own.
 * Job:     one more FUSE session per mount of a snapshot, on a /dev/fuse descriptor that somebody else has mounted:
 *	    original inode numbers, read-only, everything cached without limit (I-10).
 * Threads: any. Each session has a thread of its own besides its servers.
 * Rules:   a served snapshot is in use: its view stays open until it is unmounted. */
#ifndef UMBRA_FS_SERVE_H
#define UMBRA_FS_SERVE_H

#include "fs/fs.h"

struct fs_serve;

/* `below_fd` is the directory below, for statfs; borrowed. NULL: out of memory. */
struct fs_serve *fs_serve_new(struct cow_store *store, int below_fd);
/* End every session; their mounts answer ENOTCONN from then on. NULL is fine. */
void fs_serve_free(struct fs_serve *sv);

/**
 * Serve snapshot `epoch` on `fuse_fd`. Returns as soon as requests are taken.
 * @fuse_fd  mounted, no request answered yet; taken, also on failure
 * Returns 0; -ENOENT no such snapshot; -EBADF not a /dev/fuse descriptor.
 */
int fs_serve_start(struct fs_serve *sv, uint64_t epoch, int fuse_fd, const char *mountpoint);

/* Sessions that serve this snapshot. */
unsigned fs_serve_count(struct fs_serve *sv, uint64_t epoch);

#endif
