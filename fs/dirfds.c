/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/dirfds.c - cache of directory descriptors; see dirfds.h. */
#include "fs/dirfds.h"

#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/base/lock.h"

#define BUCKETS 1024u

struct fs_dirfds {
	struct ulock lock; /* rank CACHE; guards everything below */
	size_t max, count;
	struct fs_dirfd lru; /* head: next is the most recently used */
	struct fs_dirfd *hash[BUCKETS];
};

static struct fs_dirfd **bucket_of(struct fs_dirfds *c, uintptr_t key)
{
	uint64_t h = (uint64_t)key * UINT64_C(0x9E3779B97F4A7C15);

	return &c->hash[(h >> 40) % BUCKETS];
}

static void unlink_lru(struct fs_dirfd *d)
{
	d->prev->next = d->next;
	d->next->prev = d->prev;
}

static void push_lru(struct fs_dirfds *c, struct fs_dirfd *d)
{
	d->prev = &c->lru;
	d->next = c->lru.next;
	d->next->prev = d;
	c->lru.next = d;
}

static struct fs_dirfd *find_locked(struct fs_dirfds *c, uintptr_t key)
{
	struct fs_dirfd *d = *bucket_of(c, key);

	while (d && d->key != key)
		d = d->hash_next;
	return d;
}

/* Out of the table; closed by the last holder. The cache's own reference is given back. */
static void remove_locked(struct fs_dirfds *c, struct fs_dirfd *d, struct fs_dirfd **ret_dead)
{
	struct fs_dirfd **p = bucket_of(c, d->key);

	while (*p != d)
		p = &(*p)->hash_next;
	*p = d->hash_next;
	unlink_lru(d);
	c->count--;
	d->hash_next = NULL;
	if (--d->refs == 0) {
		d->hash_next = *ret_dead;
		*ret_dead = d;
	}
}

static void bury(struct fs_dirfd *dead)
{
	while (dead) {
		struct fs_dirfd *next = dead->hash_next;

		close(dead->fd);
		free(dead);
		dead = next;
	}
}

struct fs_dirfds *fs_dirfds_new(size_t max)
{
	struct fs_dirfds *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	ulock_init(&c->lock, RANK_CACHE);
	c->max = max ? max : 1;
	c->lru.next = c->lru.prev = &c->lru;
	return c;
}

void fs_dirfds_free(struct fs_dirfds *c)
{
	struct fs_dirfd *dead = NULL;

	if (!c)
		return;
	while (c->lru.next != &c->lru)
		remove_locked(c, c->lru.next, &dead);
	bury(dead);
	ulock_done(&c->lock);
	free(c);
}

struct fs_dirfd *fs_dirfds_get(struct fs_dirfds *c, uintptr_t key)
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&c->lock);
	struct fs_dirfd *d = find_locked(c, key);

	(void)held;
	if (!d)
		return NULL;
	d->refs++;
	if (c->lru.next != d) {
		unlink_lru(d);
		push_lru(c, d);
	}
	return d;
}

struct fs_dirfd *fs_dirfds_add(struct fs_dirfds *c, uintptr_t key, int fd)
{
	struct fs_dirfd *fresh = malloc(sizeof(*fresh));
	struct fs_dirfd *dead = NULL;
	struct fs_dirfd *d;

	if (!fresh) {
		close(fd);
		return NULL;
	}
	*fresh = (struct fs_dirfd){ .fd = fd, .key = key, .refs = 1 };
	ulock_lock(&c->lock);
	d = find_locked(c, key);
	if (!d) {
		d = TAKE(fresh);
		d->hash_next = *bucket_of(c, key);
		*bucket_of(c, key) = d;
		push_lru(c, d);
		c->count++;
		while (c->count > c->max && c->lru.prev != d)
			remove_locked(c, c->lru.prev, &dead);
	}
	d->refs++;
	ulock_unlock(&c->lock);
	bury(dead);
	bury(fresh);
	return d;
}

void fs_dirfds_put(struct fs_dirfds *c, struct fs_dirfd *d)
{
	bool last;

	if (!d)
		return;
	ulock_lock(&c->lock);
	last = --d->refs == 0;
	ulock_unlock(&c->lock);
	if (last)
		bury(d);
}

void fs_dirfds_drop(struct fs_dirfds *c, uintptr_t key)
{
	struct fs_dirfd *dead = NULL;
	struct fs_dirfd *d;

	ulock_lock(&c->lock);
	d = find_locked(c, key);
	if (d)
		remove_locked(c, d, &dead);
	ulock_unlock(&c->lock);
	bury(dead);
}
