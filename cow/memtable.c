/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A treap: a search tree by key that is a heap by a random number, so balanced whatever the order of insertion
 * (expected depth about 2 ln n). Of our own because nothing is ever removed from it: all it needs is the one split
 * below, shorter than the use of a library's macros and one dependency less. */
#include "cow/memtable.h"

#include <stdlib.h>
#include <string.h>

int cow_key_cmp(const void *a, size_t a_len, const void *b, size_t b_len)
{
	size_t n = a_len < b_len ? a_len : b_len;
	int r = n ? memcmp(a, b, n) : 0;

	return r ? r : (a_len > b_len) - (a_len < b_len);
}

static int cmp(const void *key, size_t key_len, const struct cow_entry *e)
{
	return cow_key_cmp(key, key_len, e->bytes, e->key_len);
}

static size_t size_of(const struct cow_entry *e)
{
	return sizeof(*e) + e->key_len + e->val_len;
}

struct cow_entry *cow_entry_new(const void *key, size_t key_len, const void *val, size_t val_len)
{
	struct cow_entry *e = malloc(sizeof(*e) + key_len + val_len);

	if (!e)
		return NULL;
	e->left = e->right = NULL;
	e->prio = 0;
	e->key_len = (uint32_t)key_len;
	e->val_len = (uint32_t)val_len;
	if (key_len)
		memcpy(e->bytes, key, key_len);
	if (val_len)
		memcpy(e->bytes + key_len, val, val_len);
	return e;
}

static uint32_t next_prio(struct cow_memtable *t)
{
	uint32_t x = t->seed ? t->seed : 2463534242u;

	x ^= x << 13; /* xorshift32 (Marsaglia 2003) */
	x ^= x >> 17;
	x ^= x << 5;
	return t->seed = x;
}

/* Cut the tree `at` in two by e's key: the smaller below e->left, the greater below e->right. Returns the entry
 * of that very key, cut out, or NULL. */
static struct cow_entry *split(struct cow_entry *at, struct cow_entry *e)
{
	struct cow_entry **smaller = &e->left, **greater = &e->right, *same = NULL;

	while (at) {
		int r = cmp(e->bytes, e->key_len, at);

		if (r > 0) {
			*smaller = at;
			smaller = &at->right;
			at = at->right;
		} else if (r < 0) {
			*greater = at;
			greater = &at->left;
			at = at->left;
		} else {
			same = at;
			break;
		}
	}
	*smaller = same ? same->left : NULL;
	*greater = same ? same->right : NULL;
	return same;
}

struct cow_entry *cow_memtable_put(struct cow_memtable *t, struct cow_entry *e)
{
	struct cow_entry **link = &t->root, *old = NULL;

	e->prio = next_prio(t);
	while (*link && (*link)->prio >= e->prio) {
		int r = cmp(e->bytes, e->key_len, *link);

		if (r == 0) { /* takes the other's place, and its rank in the heap */
			old = *link;
			e->prio = old->prio;
			e->left = old->left;
			e->right = old->right;
			break;
		}
		link = r < 0 ? &(*link)->left : &(*link)->right;
	}
	if (!old)
		old = split(*link, e);
	*link = e;
	t->entries += old ? 0 : 1;
	t->bytes += size_of(e) - (old ? size_of(old) : 0);
	return old;
}

const struct cow_entry *cow_memtable_ge(const struct cow_memtable *t, const void *key, size_t key_len)
{
	const struct cow_entry *best = NULL, *at = t->root;

	while (at) {
		int r = cmp(key, key_len, at);

		if (r == 0)
			return at;
		if (r < 0)
			best = at;
		at = r < 0 ? at->left : at->right;
	}
	return best;
}

/* The recursions are as deep as the tree: 40 or so for 32,768 entries. */
static int each_below(const struct cow_entry *e, int (*each)(void *, const struct cow_entry *), void *userdata)
{
	int r = 0;

	if (e->left)
		r = each_below(e->left, each, userdata);
	if (r == 0)
		r = each(userdata, e);
	if (r == 0 && e->right)
		r = each_below(e->right, each, userdata);
	return r;
}

int cow_memtable_each(const struct cow_memtable *t, int (*each)(void *, const struct cow_entry *), void *userdata)
{
	return t->root ? each_below(t->root, each, userdata) : 0;
}

static void free_below(struct cow_entry *e)
{
	if (!e)
		return;
	free_below(e->left);
	free_below(e->right);
	free(e);
}

void cow_memtable_done(struct cow_memtable *t)
{
	free_below(t->root);
	*t = (struct cow_memtable){ 0 };
}
