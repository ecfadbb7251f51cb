/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/nodes.c - node ids; see nodes.h. */
#include "fs/nodes.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cow/base/cleanup.h"

#define ROOT_ID 1u
#define HASH_MIN 1024u
#define LOOK_MAX 4096u

struct fs_place {
	struct fs_place *next;
	struct fs_node *parent; /* counted */
	char name[];
};

struct fs_nodes {
	struct ulock lock; /* rank NODES; guards the fields up to the blank line */
	struct fs_node **hash;
	size_t hash_size; /* a power of two */
	size_t count;
	struct fs_node ring; /* head of the list of all nodes */

	struct fs_node *root;
	void (*release)(void *userdata, struct fs_node *node);
	void *userdata;
};

/* ---- the hash of keys ---- */

static size_t bucket_of(const struct fs_nodes *n, uint8_t kind, uint64_t space, uint64_t ino)
{
	uint64_t h = (ino ^ (space << 17) ^ ((uint64_t)kind << 61)) * UINT64_C(0x9E3779B97F4A7C15);

	return (h >> 20) & (n->hash_size - 1);
}

static struct fs_node *find_locked(struct fs_nodes *n, uint8_t kind, uint64_t space, uint64_t ino)
{
	struct fs_node *node = n->hash[bucket_of(n, kind, space, ino)];

	while (node && (node->ino != ino || node->space != space || node->kind != kind))
		node = node->hash_next;
	return node;
}

/* Failing to grow only makes chains longer. */
static void grow_locked(struct fs_nodes *n)
{
	size_t old_size = n->hash_size;
	struct fs_node **old = n->hash;
	struct fs_node **bigger = calloc(old_size * 2, sizeof(*bigger));

	if (!bigger)
		return;
	n->hash = bigger;
	n->hash_size = old_size * 2;
	for (size_t i = 0; i < old_size; i++) {
		struct fs_node *node = old[i];

		while (node) {
			struct fs_node *next = node->hash_next;
			size_t b = bucket_of(n, node->kind, node->space, node->ino);

			node->hash_next = bigger[b];
			bigger[b] = node;
			node = next;
		}
	}
	free(old);
}

static void hash_locked(struct fs_nodes *n, struct fs_node *node)
{
	size_t b;

	if (n->count > n->hash_size)
		grow_locked(n);
	b = bucket_of(n, node->kind, node->space, node->ino);
	node->hash_next = n->hash[b];
	n->hash[b] = node;
	node->hashed = true;
}

static void unhash_locked(struct fs_nodes *n, struct fs_node *node)
{
	struct fs_node **p = &n->hash[bucket_of(n, node->kind, node->space, node->ino)];

	if (!node->hashed)
		return;
	while (*p != node)
		p = &(*p)->hash_next;
	*p = node->hash_next;
	node->hash_next = NULL;
	node->hashed = false;
}

/* ---- places ---- */

int fs_nodes_prepare_place(const char *name, struct fs_place **ret)
{
	size_t size = strlen(name) + 1;
	struct fs_place *pl = malloc(sizeof(*pl) + size);

	if (!pl)
		return -ENOMEM;
	pl->next = NULL;
	pl->parent = NULL;
	memcpy(pl->name, name, size);
	*ret = pl;
	return 0;
}

static struct fs_place **place_find_locked(struct fs_node *node, const struct fs_node *parent,
					   const char *name)
{
	struct fs_place **p = &node->places;

	while (*p && ((*p)->parent != parent || strcmp((*p)->name, name) != 0))
		p = &(*p)->next;
	return p;
}

/* ---- death: nodes go onto a list, linked by hash_next, and are released without the lock ---- */

static void unref_locked(struct fs_nodes *n, struct fs_node *node, struct fs_node **dead);

static void places_clear_locked(struct fs_nodes *n, struct fs_node *node, struct fs_node **dead)
{
	while (node->places) {
		struct fs_place *pl = node->places;

		node->places = pl->next;
		unref_locked(n, pl->parent, dead);
		free(pl);
	}
}

/* Put a node nobody needs on the list. Its parents may follow: unref_locked walks up without recursion,
 * since the tree may be deeper than the stack. */
static void reap_locked(struct fs_nodes *n, struct fs_node *node, struct fs_node **dead)
{
	if (node->nlookup || node->refs || node->root)
		return;
	unhash_locked(n, node);
	node->ring_prev->ring_next = node->ring_next;
	node->ring_next->ring_prev = node->ring_prev;
	n->count--;
	node->hash_next = *dead;
	*dead = node;
}

static void unref_locked(struct fs_nodes *n, struct fs_node *node, struct fs_node **dead)
{
	assert(node->refs > 0);
	node->refs--;
	reap_locked(n, node, dead);
}

/* Unlock and release; releasing places may make more nodes dead, which join the list. */
static void unlock_and_release(struct fs_nodes *n, struct fs_node *dead)
{
	struct fs_node *released = NULL;

	while (dead) {
		struct fs_node *node = dead;

		dead = node->hash_next;
		places_clear_locked(n, node, &dead);
		node->hash_next = released;
		released = node;
	}
	ulock_unlock(&n->lock);
	while (released) {
		struct fs_node *node = released;

		released = node->hash_next;
		n->release(n->userdata, node);
		free(node);
	}
}

/* ---- birth ---- */

static struct fs_node *node_new(enum fs_kind kind, uint64_t space, uint64_t ino, mode_t mode)
{
	struct fs_node *node = calloc(1, sizeof(*node));

	if (!node)
		return NULL;
	node->kind = kind;
	node->type = (mode & S_IFMT) >> 12;
	node->space = space;
	node->ino = ino;
	node->orphan_fd = -1;
	return node;
}

static void insert_locked(struct fs_nodes *n, struct fs_node *node)
{
	n->count++;
	hash_locked(n, node);
	node->ring_prev = n->ring.ring_prev;
	node->ring_next = &n->ring;
	n->ring.ring_prev->ring_next = node;
	n->ring.ring_prev = node;
}

struct fs_nodes *fs_nodes_new(enum fs_kind root_kind, uint64_t root_space, uint64_t root_ino,
			      struct cow_vnode *root_vnode,
			      void (*release)(void *userdata, struct fs_node *node), void *userdata)
{
	CLEANUP(free_p) struct fs_nodes *n = calloc(1, sizeof(*n));
	struct fs_node *root = node_new(root_kind, root_space, root_ino, S_IFDIR);

	if (n)
		n->hash = calloc(HASH_MIN, sizeof(*n->hash));
	if (!n || !root || !n->hash) {
		if (n)
			free(n->hash);
		free(root);
		return NULL;
	}
	ulock_init(&n->lock, RANK_NODES);
	n->hash_size = HASH_MIN;
	n->ring.ring_next = n->ring.ring_prev = &n->ring;
	n->release = release;
	n->userdata = userdata;
	root->root = true;
	root->nlookup = 1;
	if (root_kind == FS_SNAP)
		root->vnode = root_vnode;
	n->root = root;
	insert_locked(n, root);
	return TAKE(n);
}

void fs_nodes_free(struct fs_nodes *n)
{
	struct fs_node *node;

	if (!n)
		return;
	/* The kernel need not send forgets at the end, so counts mean nothing here. */
	for (node = n->ring.ring_next; node != &n->ring; node = node->ring_next) {
		while (node->places) {
			struct fs_place *pl = node->places;

			node->places = pl->next;
			free(pl);
		}
		n->release(n->userdata, node);
	}
	while ((node = n->ring.ring_next) != &n->ring) {
		n->ring.ring_next = node->ring_next;
		free(node);
	}
	free(n->hash);
	ulock_done(&n->lock);
	free(n);
}

struct fs_node *fs_nodes_root(struct fs_nodes *n)
{
	return n->root;
}

struct fs_node *fs_nodes_from_id(struct fs_nodes *n, uint64_t id)
{
	struct fs_node *node = id == ROOT_ID ? n->root : (struct fs_node *)(uintptr_t)id;

	atomic_store_explicit(&node->used, true, memory_order_relaxed);
	return node;
}

uint64_t fs_nodes_id(const struct fs_node *node)
{
	return node->root ? ROOT_ID : (uint64_t)(uintptr_t)node;
}

/* Newest first; the oldest of too many is forgotten. Takes pl, or frees it when the place is known already. */
static void install_locked(struct fs_nodes *n, struct fs_node *node, struct fs_node *parent,
			   struct fs_place *pl, struct fs_node **dead)
{
	struct fs_place **p = place_find_locked(node, parent, pl->name);
	unsigned count = 0;

	if (*p) {
		free(pl);
		pl = *p;
		*p = pl->next;
	} else {
		pl->parent = parent;
		parent->refs++;
	}
	pl->next = node->places;
	node->places = pl;
	for (p = &node->places; *p && count < FS_NODE_PLACES_MAX; p = &(*p)->next)
		count++;
	if (*p) {
		pl = *p;
		*p = pl->next;
		unref_locked(n, pl->parent, dead);
		free(pl);
	}
}

static int add_place_locked(struct fs_nodes *n, struct fs_node *node, struct fs_node *parent,
			    const char *name, struct fs_node **dead)
{
	struct fs_place *pl = node->places;
	int r;

	if (pl && pl->parent == parent && strcmp(pl->name, name) == 0)
		return 0; /* as it was the last time */
	r = fs_nodes_prepare_place(name, &pl);
	if (r == 0)
		install_locked(n, node, parent, pl, dead);
	return r;
}

struct fs_node *fs_nodes_enter_live(struct fs_nodes *n, uint64_t space, uint64_t ino, mode_t mode,
				    struct fs_node *parent, const char *name)
{
	struct fs_node *dead = NULL;
	struct fs_node *node;

	ulock_lock(&n->lock);
	node = find_locked(n, FS_LIVE, space, ino);
	if (node && !node->root && node->type != (mode & S_IFMT) >> 12) {
		unhash_locked(n, node); /* that one is gone, and its number came again */
		node = NULL;
	}
	if (!node) {
		node = node_new(FS_LIVE, space, ino, mode);
		if (node)
			insert_locked(n, node);
	}
	if (node) {
		node->nlookup++;
		if (parent && !node->root && add_place_locked(n, node, parent, name, &dead) < 0) {
			node->nlookup--;
			reap_locked(n, node, &dead);
			node = NULL;
		}
	}
	unlock_and_release(n, dead);
	if (node)
		atomic_store_explicit(&node->used, true, memory_order_relaxed);
	return node;
}

struct fs_node *fs_nodes_enter_snap(struct fs_nodes *n, uint64_t epoch, uint64_t ino, mode_t mode,
				    struct cow_vnode *vnode, bool foreign)
{
	struct fs_node spare = { .kind = FS_SNAP, .orphan_fd = -1, .vnode = vnode };
	struct fs_node *node;

	ulock_lock(&n->lock);
	node = foreign ? NULL : find_locked(n, FS_SNAP, epoch, ino);
	if (!node) {
		node = node_new(FS_SNAP, epoch, ino, mode);
		if (node) {
			node->vnode = vnode;
			node->foreign = foreign;
			spare.vnode = NULL;
			insert_locked(n, node);
			if (foreign)
				unhash_locked(n, node);
		}
	}
	if (node)
		node->nlookup++;
	ulock_unlock(&n->lock);
	if (spare.vnode)
		n->release(n->userdata, &spare);
	if (node)
		atomic_store_explicit(&node->used, true, memory_order_relaxed);
	return node;
}

struct fs_node *fs_nodes_enter_snapdir(struct fs_nodes *n)
{
	struct fs_node *node;

	ulock_lock(&n->lock);
	node = find_locked(n, FS_SNAPDIR, 0, 0);
	if (!node) {
		node = node_new(FS_SNAPDIR, 0, 0, S_IFDIR);
		if (node)
			insert_locked(n, node);
	}
	if (node)
		node->nlookup++;
	ulock_unlock(&n->lock);
	return node;
}

struct fs_node *fs_nodes_find(struct fs_nodes *n, enum fs_kind kind, uint64_t space, uint64_t ino)
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&n->lock);
	struct fs_node *node = find_locked(n, kind, space, ino);

	(void)held;
	if (node)
		node->refs++;
	return node;
}

struct fs_node *fs_nodes_ref(struct fs_nodes *n, struct fs_node *node)
{
	ulock_lock(&n->lock);
	node->refs++;
	ulock_unlock(&n->lock);
	return node;
}

void fs_nodes_unref(struct fs_nodes *n, struct fs_node *node)
{
	struct fs_node *dead = NULL;

	if (!node)
		return;
	ulock_lock(&n->lock);
	unref_locked(n, node, &dead);
	unlock_and_release(n, dead);
}

void fs_nodes_forget(struct fs_nodes *n, struct fs_node *node, uint64_t count)
{
	struct fs_node *dead = NULL;

	ulock_lock(&n->lock);
	if (!node->root) {
		node->nlookup -= count < node->nlookup ? count : node->nlookup;
		reap_locked(n, node, &dead);
	}
	unlock_and_release(n, dead);
}

int fs_nodes_place(struct fs_nodes *n, struct fs_node *node, unsigned i,
		   struct fs_node **ret_parent, char ret_name[FS_NODE_NAME_SIZE])
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&n->lock);
	struct fs_place *pl = node->places;

	(void)held;
	while (pl && i--)
		pl = pl->next;
	if (!pl)
		return -ENOENT;
	pl->parent->refs++;
	*ret_parent = pl->parent;
	strcpy(ret_name, pl->name);
	return 0;
}

int fs_nodes_place_of(struct fs_nodes *n, uint64_t space, uint64_t ino, uint64_t *ret_parent,
		      char ret_name[FS_NODE_NAME_SIZE])
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&n->lock);
	struct fs_node *node = find_locked(n, FS_LIVE, space, ino);

	(void)held;
	if (!node || !node->places)
		return -ENOENT;
	*ret_parent = node->places->parent->ino;
	strcpy(ret_name, node->places->name);
	return 0;
}

int fs_nodes_add_place(struct fs_nodes *n, struct fs_node *node, struct fs_node *parent,
		       const char *name)
{
	struct fs_node *dead = NULL;
	int r;

	ulock_lock(&n->lock);
	r = add_place_locked(n, node, parent, name, &dead);
	unlock_and_release(n, dead);
	return r;
}

void fs_nodes_install_place(struct fs_nodes *n, struct fs_node *node, struct fs_node *parent,
			    struct fs_place *place)
{
	struct fs_node *dead = NULL;

	ulock_lock(&n->lock);
	install_locked(n, node, parent, place, &dead);
	unlock_and_release(n, dead);
}

void fs_nodes_drop_place(struct fs_nodes *n, struct fs_node *node, struct fs_node *parent,
			 const char *name)
{
	struct fs_node *dead = NULL;
	struct fs_place **p;

	ulock_lock(&n->lock);
	p = place_find_locked(node, parent, name);
	if (*p) {
		struct fs_place *pl = *p;

		*p = pl->next;
		unref_locked(n, pl->parent, &dead);
		free(pl);
	}
	unlock_and_release(n, dead);
}

bool fs_nodes_nameless(struct fs_nodes *n, struct fs_node *node)
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&n->lock);

	(void)held;
	return !node->places;
}

bool fs_nodes_last_place(struct fs_nodes *n, struct fs_node *node, struct fs_node *parent,
			 const char *name)
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&n->lock);
	struct fs_place *pl = node->places;

	(void)held;
	return !pl || (!pl->next && pl->parent == parent && strcmp(pl->name, name) == 0);
}

bool fs_nodes_set_orphan(struct fs_nodes *n, struct fs_node *node, int fd)
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&n->lock);

	(void)held;
	if (node->orphan_fd >= 0)
		return false;
	node->orphan_fd = fd;
	return true;
}

void fs_nodes_unhash(struct fs_nodes *n, struct fs_node *node)
{
	ulock_lock(&n->lock);
	unhash_locked(n, node);
	ulock_unlock(&n->lock);
}

struct cow_inode *fs_nodes_set_cow(struct fs_nodes *n, struct fs_node *node, struct cow_inode *cow)
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&n->lock);

	(void)held;
	if (!node->cow)
		node->cow = cow;
	return node->cow;
}

size_t fs_nodes_count(struct fs_nodes *n)
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&n->lock);

	(void)held;
	return n->count;
}

/* A clock: a node used since the last round gets a second chance at the end of the ring. */
size_t fs_nodes_cold(struct fs_nodes *n, size_t max, struct fs_node **ret, size_t *ret_looked)
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&n->lock);
	size_t look = n->count < LOOK_MAX ? n->count : LOOK_MAX;
	size_t found = 0, looked;

	(void)held;
	for (looked = 0; looked < look && found < max; looked++) {
		struct fs_node *node = n->ring.ring_next;
		bool used = atomic_exchange_explicit(&node->used, false, memory_order_relaxed);

		n->ring.ring_next = node->ring_next;
		node->ring_next->ring_prev = &n->ring;
		node->ring_prev = n->ring.ring_prev;
		node->ring_next = &n->ring;
		node->ring_prev->ring_next = node;
		n->ring.ring_prev = node;
		if (used || node->refs || node->root || !node->nlookup || node->kind == FS_SNAPDIR)
			continue;
		node->refs++;
		ret[found++] = node;
	}
	*ret_looked = looked;
	return found;
}
