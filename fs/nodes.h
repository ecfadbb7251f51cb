/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/nodes.h - node ids: what the kernel remembers of a mount, and where each thing lives.
 * Job:     find-or-insert by identity, look-up counts, the places (parent, name) of live nodes, which nodes are
 *	    cold. Makes no system call and knows neither FUSE nor the store: what hangs on a node is released by
 *	    the callback of fs_nodes_new.
 * Errors:  NULL or -ENOMEM: out of memory, nothing changed. Everything else cannot fail.
 * Threads: any. One lock, rank NODES; the release callback runs without it.
 * Rules:   one node per inode, so that hard links are one file; memory stays bounded by what the kernel
 *	    remembers (fs/reclaim.c makes it forget). */
#ifndef UMBRA_FS_NODES_H
#define UMBRA_FS_NODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cow/base/lock.h"

#define FS_NODE_NAME_SIZE 256 /* a name and its NUL */
/* Names remembered of one inode; more are forgotten, see fs/locate.h. */
#define FS_NODE_PLACES_MAX 16

struct fs_nodes;
struct fs_file;
struct cow_inode;
struct cow_vnode;

enum fs_kind {
	FS_LIVE,    /* an inode of the directory below */
	FS_SNAP,    /* an inode of a snapshot */
	FS_SNAPDIR, /* the virtual directory .snapshots */
};

struct fs_place;

/* The key fields are constant. What is marked (n) changes under the table's lock, (h) under that of handles.c. */
struct fs_node {
	struct fs_node *hash_next; /* (n) */
	struct fs_node *ring_prev; /* (n) all nodes, oldest first */
	struct fs_node *ring_next; /* (n) */
	uint64_t ino;		   /* below, or in the snapshot */
	uint64_t space;		   /* live: st_dev below; snapshot: the epoch */
	uint64_t nlookup;	   /* (n) references the kernel holds */
	uint32_t refs;		   /* (n) children, handles, requests under way */
	uint8_t kind;		   /* enum fs_kind */
	uint8_t type;		   /* st_mode >> 12 */
	bool hashed : 1;	   /* (n) can be found by its key */
	bool root : 1;
	bool foreign : 1; /* snapshot: a mount in the tree, each look-up a node of its own */

	/* Hints, read and written without a lock: atomics because several threads do; they order nothing. */
	_Atomic bool used;	 /* touched since the last sweep for cold nodes */
	_Atomic bool lost_name;	 /* one of our unlinks or renames took a name of it */
	_Atomic bool privileged; /* had set-id bits when the kernel was last told */

	/* Live: one more than fs->caps_changes was when the inode was found without file capabilities; they come
	 * through us alone, so it has none as long as the count stands still. 0: not known. */
	_Atomic uint32_t no_caps_at;

	/* Set once, under the lock, and read without: what is seen is complete (release, acquire). */
	_Atomic int orphan_fd;	 /* live: O_PATH descriptor, once no name is known; else -1 */
	struct fs_place *places; /* (n) live: names it is known by */
	union {
		struct cow_inode *_Atomic cow; /* live: when first needed */
		struct cow_vnode *vnode;       /* snapshot: owned */
	};
	struct fs_file *file; /* (h) live: its open file, borrowed */
};

/**
 * A table with its root, which lives as long as the table.
 * @release   called for each node that goes, with no lock held: gives back orphan_fd, cow or vnode
 */
struct fs_nodes *fs_nodes_new(enum fs_kind root_kind, uint64_t root_space, uint64_t root_ino,
			      struct cow_vnode *root_vnode,
			      void (*release)(void *userdata, struct fs_node *node),
			      void *userdata);
void fs_nodes_free(struct fs_nodes *n); /* releases whatever is left */

struct fs_node *fs_nodes_root(struct fs_nodes *n);
/* Ids are what travels in requests: 1 the root. A node stays good while the kernel holds a reference to it. */
struct fs_node *fs_nodes_from_id(struct fs_nodes *n, uint64_t id);
uint64_t fs_nodes_id(const struct fs_node *node);

/**
 * The live node of (space, ino), made when new, with one look-up counted and the place remembered.
 * A node of another type is not found any more: its inode is gone.
 * @parent  NULL: no name is known (O_TMPFILE); the node should get an open file or an orphan_fd at once
 * Returns NULL when out of memory.
 */
struct fs_node *fs_nodes_enter_live(struct fs_nodes *n, uint64_t space, uint64_t ino, mode_t mode,
				    struct fs_node *parent, const char *name);
/* The same in a snapshot. @vnode is taken, also on failure: handed to the release callback when not needed.
 * @foreign  of a mount in the tree: its number is another file system's, so it is never shared */
struct fs_node *fs_nodes_enter_snap(struct fs_nodes *n, uint64_t epoch, uint64_t ino, mode_t mode,
				    struct cow_vnode *vnode, bool foreign);
/* The one FS_SNAPDIR node, a look-up counted. */
struct fs_node *fs_nodes_enter_snapdir(struct fs_nodes *n);

/* A known node, referenced, or NULL. Counts no look-up. */
struct fs_node *fs_nodes_find(struct fs_nodes *n, enum fs_kind kind, uint64_t space, uint64_t ino);

struct fs_node *fs_nodes_ref(struct fs_nodes *n, struct fs_node *node);
void fs_nodes_unref(struct fs_nodes *n, struct fs_node *node); /* NULL is fine */
/* The kernel gave `count` references back. */
void fs_nodes_forget(struct fs_nodes *n, struct fs_node *node, uint64_t count);

/**
 * Place number `i` of a live node (0 the newest).
 * @ret_parent  referenced: give back with fs_nodes_unref
 * Returns 0, or -ENOENT when there are not so many.
 */
int fs_nodes_place(struct fs_nodes *n, struct fs_node *node, unsigned i,
		   struct fs_node **ret_parent, char ret_name[FS_NODE_NAME_SIZE]);
/* As cow_options.place asks: the parent's inode number and the name, of the newest place. */
int fs_nodes_place_of(struct fs_nodes *n, uint64_t space, uint64_t ino, uint64_t *ret_parent,
		      char ret_name[FS_NODE_NAME_SIZE]);
/* Remember a name, as the newest one. 0 or -ENOMEM. */
int fs_nodes_add_place(struct fs_nodes *n, struct fs_node *node, struct fs_node *parent,
		       const char *name);
/* The same in two steps, of which the second cannot fail. `ret` is free()d when not installed. */
int fs_nodes_prepare_place(const char *name, struct fs_place **ret);
void fs_nodes_install_place(struct fs_nodes *n, struct fs_node *node, struct fs_node *parent,
			    struct fs_place *place);
void fs_nodes_drop_place(struct fs_nodes *n, struct fs_node *node, struct fs_node *parent,
			 const char *name);
/* Is there no name at all? */
bool fs_nodes_nameless(struct fs_nodes *n, struct fs_node *node);
/* Is (parent, name) the only name known? */
bool fs_nodes_last_place(struct fs_nodes *n, struct fs_node *node, struct fs_node *parent,
			 const char *name);

/* Keep `fd` for a node about to lose its names. Returns false when it has one: the caller keeps fd. */
bool fs_nodes_set_orphan(struct fs_nodes *n, struct fs_node *node, int fd);
/* Stop finding the node by its key: the inode is gone and its number may come again. */
void fs_nodes_unhash(struct fs_nodes *n, struct fs_node *node);
/* Set node->cow if it is not set. Returns what it is now; when that is not `cow`, the caller keeps `cow`. */
struct cow_inode *fs_nodes_set_cow(struct fs_nodes *n, struct fs_node *node, struct cow_inode *cow);

size_t fs_nodes_count(struct fs_nodes *n);
/**
 * Nodes not used since they were last looked at, oldest first: known to the kernel, not open, no directory with
 * children, at most `max`. Marks the others as unused on the way, and looks at a few thousand at a time.
 * @ret         referenced: give each back with fs_nodes_unref
 * @ret_looked  how many nodes were looked at
 */
size_t fs_nodes_cold(struct fs_nodes *n, size_t max, struct fs_node **ret, size_t *ret_looked);

#endif
