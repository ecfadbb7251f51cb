/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/change.h - one request that changes the live tree: fill it in, submit it.
 * Job:     hold all arguments of any such request; pass the gate or park; run; answer. What each kind does is in
 *	    op_*.c.
 * Threads: run and answer are called by the server thread, or later by a thread of the park.
 * Rules:   H-1 (what is held), H-5 (a killed caller's request is never executed). A handler does: fill, submit. */
#ifndef UMBRA_FS_CHANGE_H
#define UMBRA_FS_CHANGE_H

#include <sys/stat.h>

#include "fs/fs.h"
#include "fs/handles.h"
#include "fs/park.h"

struct fs_change;

struct fs_change_kind {
	/* Preserve, apply, publish, inside the gate. 0 or -errno; -EAGAIN from a LONG one: turned away. */
	int (*run)(struct fs_change *c);
	/* Reply, outside of it; no lock held. */
	void (*answer)(struct fs_change *c, int r);
};

/* Pointers are borrowed from the request until it is parked, then owned copies. */
struct fs_change {
	struct fs_parked parked; /* first: the park sees this */
	const struct fs_change_kind *kind;
	fuse_req_t req;
	struct fs *fs;
	struct fuse_ctx ctx;
	bool may_keep_id; /* set-id bits survive a write by this caller: unless the kernel says
					 * better, root's */

	struct fs_node *node;  /* the subject, or the directory of `name` */
	struct fs_node *other; /* rename, link: the new directory. copy range: the source */
	const char *name, *name2;
	const void *data;
	size_t len;
	struct fuse_file_info fi;
	struct fs_file *file, *file2; /* kept open by the caller's handle */
	struct stat attr;	      /* setattr */
	int to_set;
	mode_t mode;
	dev_t rdev;
	int flags;
	unsigned cmd;
	off_t off, off2;

	struct fuse_entry_param entry; /* results */
	struct stat st;
	size_t count;
};

/* Designated start of a change. */
#define FS_CHANGE(k, r, n)                                                                         \
	{                                                                                          \
		.kind = (k), .req = (r), .fs = fs_of(r), .ctx = *fuse_req_ctx(r), .node = (n),     \
		.may_keep_id = fuse_req_ctx(r)->uid == 0                                           \
	}

/* Run it now, or park a copy of it. In either case exactly one answer follows. */
void fs_change_submit(struct fs_change *c);

/* Is the caller root, or in that group? */
bool fs_change_in_group(const struct fs_change *c, gid_t gid);

/* The queue of a mount, and what opens it: cow_options.on_gate_open. */
struct fs_park *fs_change_park_new(void);

#endif
