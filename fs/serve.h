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
 * @subdir   directory of the snapshot that is to be the root, from its root on, without "." and ".."; "" or NULL:
 *	     all of it
 * @fuse_fd  mounted, no request answered yet; taken, also on failure
 * @ret_no   number of this session, never 0, never used again; NULL: not wanted
 * Returns 0; -ENOENT no such snapshot, or no such directory in it; -ENOTDIR; -EXDEV it is a mount in the tree, of which
 * the snapshot has nothing (N-5); -EINVAL bad subdir; -EBADF not a /dev/fuse descriptor.
 */
int fs_serve_start(struct fs_serve *sv, uint64_t epoch, const char *subdir, int fuse_fd,
		   const char *mountpoint, uint64_t *ret_no);

/* Is that session's mount still there? One that was detached lives on for its last user. */
bool fs_serve_lives(struct fs_serve *sv, uint64_t no);

/* Sessions that serve this snapshot. */
unsigned fs_serve_count(struct fs_serve *sv, uint64_t epoch);

#endif
