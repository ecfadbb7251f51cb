/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/loss.h - what the table of nodes must know when a live name goes.
 * Job:     keep a node that loses its last name reachable, and take the name out of the table together with the change.
 * Errors:  -errno of the look below.
 * Threads: any; inside the gate. Begin, then the change and publish under the tree's lock, then put. */
#ifndef UMBRA_FS_LOSS_H
#define UMBRA_FS_LOSS_H

#include "fs/fs.h"

/* A known node about to lose the name it is reached by. */
struct fs_loss {
	struct fs_node *node; /* referenced, or NULL when the kernel does not know it */
	int fd;		      /* to be kept once the name is gone, or -1; counted in fs->orphans */
	bool unreachable;     /* no descriptor is to spare, and no name will be left */
	int number_fd; /* or -1: keeps the number from coming again until the node is out of the table */
};
#define FS_LOSS_NONE                                                                               \
	{                                                                                          \
		.fd = -1, .number_fd = -1                                                          \
	}

/* The tree's lock, shared: a change of names and its publishing are one for who looks with the lock. */
void fs_tree_read(struct fs *fs);
void fs_tree_done(struct fs *fs);

/* `name` of a directory is about to go. `exchange`: it, or what has it, stays reachable.
 * Returns 0; -ENOENT there is nothing of that name. */
int fs_loss_begin(struct fs *fs, struct fs_node *parent, int dirfd, const char *name, bool exchange,
		  struct fs_loss *l);
/* It went. */
void fs_loss_publish(struct fs *fs, struct fs_loss *l, struct fs_node *parent, const char *name);
void fs_loss_put(struct fs *fs, struct fs_loss *l);

#endif
