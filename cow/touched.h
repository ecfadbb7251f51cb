/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cow/touched.h - what the records of some epochs name: everything that may differ from a snapshot.
 * Job:     read the logs once into two sorted lists, so that comparing (diff.h) and reverting (revert.h) cost what
 *	    changed, not what there is.
 * Errors:  -ENOMEM, -EIO, -EUCLEAN (damage); the lists are to be given back in any case.
 * Threads: any; a struct touched belongs to one. */
#ifndef UMBRA_COW_TOUCHED_H
#define UMBRA_COW_TOUCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cow_store;

struct touched_name {
	uint64_t dir;
	char *name;
};

struct touched_inode {
	uint64_t ino;
	bool data; /* of its content, too */
};

/* Starts as {0}; each name and each inode once, in order. */
struct touched {
	struct touched_name *names;
	size_t n_names;
	struct touched_inode *inodes;
	size_t n_inodes;
};

/* All records labelled from a up to b, b not included; b 0: up to now. Of dropped epochs as well, as long as these are not
 * settled. */
int touched_read(struct cow_store *st, uint64_t a, uint64_t b, struct touched *d);
void touched_done(struct touched *d);
bool touched_has(const struct touched *d, uint64_t dir, const char *name);

/* Was this inode made after the epoch, so that a record of it or in it says nothing of that one? */
bool touched_born(struct cow_store *st, uint64_t ino, uint64_t epoch);

/* Room for one more in an array of n that doubles at powers of two; array_p is the address of the pointer. */
int touched_room(void *array_p, size_t n, size_t size);

#endif
