/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/locate.h - from a live node to a descriptor of its inode, without a standing descriptor per node.
 * Job:     walk from the nearest directory in the cache, one component at a time, and check (st_dev, st_ino) at
 *	    each step. A node that lost its names is reached through its open file or its orphan descriptor.
 * Errors:  -ESTALE the inode cannot be reached any more; what openat(2) says (-EACCES, -ENFILE for -EMFILE too).
 * Threads: any. May take the tree lock (rank TREE) exclusively for a moment: call with at most the gate held.
 * Rules:   symbolic links are never followed, and all walking starts at below_fd: never into our own mount. */
#ifndef UMBRA_FS_LOCATE_H
#define UMBRA_FS_LOCATE_H

#include <sys/stat.h>

#include "fs/fs.h"

/* A descriptor that may be O_PATH, good until fs_fd_put. */
struct fs_fd {
	int fd;
	bool own; /* close it */
	struct fs *fs;
	struct fs_dirfd *dir; /* or give these back */
	struct fs_file *file;
};
#define FS_FD_NONE                                                                                 \
	{                                                                                          \
		.fd = -1                                                                           \
	}
void fs_fd_put(struct fs_fd *f); /* for CLEANUP() */

/* Any descriptor of the node. */
int fs_locate(struct fs *fs, struct fs_node *node, struct fs_fd *ret);
/* A directory's descriptor (O_PATH), from the cache. -ENOTDIR. */
int fs_locate_dir(struct fs *fs, struct fs_node *node, struct fs_fd *ret);
/* Open the node anew with open(2) flags; O_CLOEXEC, O_NOFOLLOW and, where permitted, O_NOATIME are added.
 * Returns the descriptor, owned by the caller. */
int fs_locate_open(struct fs *fs, struct fs_node *node, int flags);
/* Attributes as the user is to see them: link counts without ours. */
int fs_locate_stat(struct fs *fs, struct fs_node *node, struct stat *ret);
/* Take our links out of an fstat of the node, and owners that this namespace has no number for. */
void fs_correct_stat(struct fs *fs, struct fs_node *node, struct stat *st);

/* Text of /proc/self/fd/N: how an O_PATH descriptor is opened or named again. */
struct fs_proc_path {
	char text[32];
};
struct fs_proc_path fs_proc_path(int fd);

#endif
