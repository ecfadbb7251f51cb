/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cow/memtable.h - an ordered table of byte strings in memory, for index.c alone.
 * Job:     put or replace, first key at or after another, visit in order. No single removal: a table is filled,
 *	    written out and thrown away.
 * Errors:  none but -ENOMEM's NULL of entry_new.
 * Threads: none of its own: one writer alone, or any number of readers. */
#ifndef UMBRA_COW_MEMTABLE_H
#define UMBRA_COW_MEMTABLE_H

#include <stddef.h>
#include <stdint.h>

struct cow_entry {
	struct cow_entry *left, *right;
	uint32_t prio;			/* of the heap: no child's is greater */
	uint32_t key_len, val_len;
	unsigned char bytes[];		/* key, value */
};

/* All zero is an empty table; may be moved by assignment. */
struct cow_memtable {
	struct cow_entry *root;
	size_t entries, bytes;		/* bytes: of memory, heads included */
	uint32_t seed;
};

/* LMDB's order: bytes as unsigned numbers, then the shorter first. */
int cow_key_cmp(const void *a, size_t a_len, const void *b, size_t b_len);

static inline const void *cow_entry_val(const struct cow_entry *e)
{
	return e->bytes + e->key_len;
}

/* A new entry with copies of both, in no table yet; NULL without memory. Freed with free(). */
struct cow_entry *cow_entry_new(const void *key, size_t key_len, const void *val, size_t val_len);

/* The table takes `e`. Returns the entry of the same key that it replaced, now the caller's, or NULL. */
struct cow_entry *cow_memtable_put(struct cow_memtable *t, struct cow_entry *e);

/* The entry with the smallest key >= `key`, or NULL; the table's, valid until it is changed. */
const struct cow_entry *cow_memtable_ge(const struct cow_memtable *t, const void *key, size_t key_len);

/* Visit in order; non-zero from `each` ends it with that value. */
int cow_memtable_each(const struct cow_memtable *t, int (*each)(void *userdata, const struct cow_entry *e),
		      void *userdata);

/* Free all entries; the table is empty then. */
void cow_memtable_done(struct cow_memtable *t);

#endif
