/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/fs.h - one FUSE session's world, handed to every handler as userdata.
 * Job:     the shared state of the live mount, and (smaller) that of one served snapshot.
 * Threads: set up before the first request, constant afterwards; what it points to locks itself. */
#ifndef UMBRA_FS_FS_H
#define UMBRA_FS_FS_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "cow/cow.h"
#include "fs/dirfds.h"
#include "fs/nodes.h"
#include "fs/turns.h"

#define FS_SNAPDIR_NAME ".snapshots"
#define FS_LONG_TIMEOUT 86400.0 /* seconds: nobody else changes the directory below */
#define FS_EVER_TIMEOUT 1e9	/* seconds: a snapshot never changes */

enum fs_shown { FS_SNAPSHOTS_HIDDEN, FS_SNAPSHOTS_VISIBLE, FS_SNAPSHOTS_OFF };

struct fs_park;
struct fs_held;

struct fs {
	struct cow_store *store; /* borrowed */
	struct fs_nodes *nodes;
	struct fuse_session *se;
	bool live;	       /* the protected directory; false: one snapshot, served by itself */
	unsigned proto_minor;  /* what kernel FUSE speaks; 0 before INIT */
	uint64_t init_unique;  /* rawio.c alone: the INIT request, */
	uint32_t init_flags;   /* what it offered, */
	bool init_done;	       /* and whether it was answered */
	bool raw;	       /* we see raw requests; set before the loop */
	struct fs_turns turns; /* rawio.c alone, if `raw` */
	struct fs_held *held;  /* handles.c alone */

	/* The live mount alone. */
	struct fs_dirfds *dirfds;
	struct fs_park *park;
	int below_fd; /* O_PATH of the directory below, opened before the mount */
	int mount_fd; /* mount.c alone: a copy of it, by which root mounts; or -1 */
	int mount_id; /* mount.c alone: of root's mount; or -1 */
	uint64_t below_dev;
	uint64_t below_ino;
	char *path;	      /* absolute, of the mount point */
	char *store_dir;      /* absolute, or NULL: .umbra below */
	bool store_in_memory; /* a crash of the system loses it, and not the directory (C-9) */
	uint64_t max_bytes;   /* of the store, 0: unlimited */
	enum fs_shown shown;
	time_t started;
	void (*owner_changed)(void); /* told that the root has another owner, inside the gate; or NULL */
	size_t orphans_max;	/* descriptors that nameless nodes may hold */
	_Atomic size_t orphans; /* and hold; a counter, orders nothing */
	size_t files_max;	/* descriptors for open files: the rest is for finding things */
	_Atomic size_t
		open_files;	  /* live files that somebody has open; a counter, orders nothing */
	_Atomic size_t files;	  /* and those in use; a counter, orders nothing */
	_Atomic bool killpriv_v2; /* the kernel leaves clearing of set-id bits to us */
	/* How often somebody gave a file capabilities; see no_caps_at in nodes.h. seq_cst: a change that has been
	 * answered is counted for whoever looks later. */
	_Atomic uint32_t caps_changes;

	/* Shared: renames and unlinks with their publishing. Exclusive: a look at a tree that stands still. */
	pthread_rwlock_t tree; /* rank TREE */
};

/* The handler's world and a request's node. */
static inline struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline struct fs_node *fs_node_of(struct fs *fs, fuse_ino_t ino)
{
	return fs_nodes_from_id(fs->nodes, ino);
}

/* Is (parent, name) one of the two names in the live root that are ours? */
bool fs_reserved_name(const struct fs *fs, const struct fs_node *parent, const char *name);

/* The store's handle of a live node, made when first asked for; borrowed from the node. Returns 0 and NULL in
 * *ret for an inode of another file system; -ENOMEM. */
int fs_cow_of(struct fs *fs, struct fs_node *node, struct cow_inode **ret);

/* Release callback of fs_nodes_new. */
void fs_release_node(void *fs, struct fs_node *node);

#endif
