/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/support/harness.h - a store on a plain directory, and the part that a file-system side plays for it.
 * Job:     open and close the store; pass the gate; know where each inode lives; take snapshots together with what
 *	    they must show; read a snapshot into a tree and compare.
 * Errors:  0 or -errno.
 * Threads: any, between open and close. */
#ifndef UMBRA_TESTS_SUPPORT_HARNESS_H
#define UMBRA_TESTS_SUPPORT_HARNESS_H

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

#include "cow/change.h"
#include "cow/cow.h"
#include "cow/diff.h"
#include "cow/epoch.h"
#include "cow/gate.h"
#include "cow/view.h"
#include "tests/support/tree.h"

#define HARNESS_PLACES (1u << 16)
#define HARNESS_DROPS 1024u

struct harness_place;

struct harness {
	char dir[PATH_MAX]; /* the directory below */
	int fd;		    /* O_PATH of it */
	struct cow_store *st;
	uint64_t max_bytes;	 /* for the next open */
	const char *store_dir;	 /* likewise */
	char why[256];		 /* of the last failed open */
	atomic_uint names_given; /* to snapshots */
	bool loose_holes;	 /* not all marks below are known */
	bool loose_blocks;	 /* the file system below allocates when it likes */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned gate_opened; /* times */
	struct harness_place *places[HARNESS_PLACES];
	struct {
		uint64_t epoch;
		enum cow_drop_cause cause;
	} drops[HARNESS_DROPS]; /* reported, in order */
	size_t n_drops;
	struct {
		uint64_t ino;
		unsigned marks;
	} marked[HARNESS_PLACES]; /* a hash table */
};

/* A directory of its own below $TMPDIR, or below `base` where that is given. */
int harness_init(struct harness *h, const char *base);
int harness_open(struct harness *h);
int harness_close(struct harness *h, bool remove_empty);
void harness_done(struct harness *h); /* removes the directory */

/* Pass the gate for one change, waiting as a parked request does. */
void harness_enter(struct harness *h);
void harness_leave(struct harness *h);

/* `r` = the change, again whenever a hold wanted to pass first. */
#define HARNESS_CHANGE(h, r, call)                                                                 \
	do {                                                                                       \
		harness_enter(h);                                                                  \
		(r) = (call);                                                                      \
		harness_leave(h);                                                                  \
	} while ((r) == -EAGAIN)

/* Where an inode lives; called inside the gate, together with the change. What is gone is forgotten only if it is the one
 * last known there: once its name is gone its number may be another's, who has a place by then. */
void harness_place_set(struct harness *h, uint64_t ino, uint64_t parent, const char *name);
void harness_place_del(struct harness *h, uint64_t ino, uint64_t parent, const char *name);
/* Learn the places of all that is there, after an open. */
int harness_place_all(struct harness *h);

/* What an inode went through, which some comparisons must know. */
#define HARNESS_UNWRITTEN 1u /* space was preallocated: it shows as holes or, once read, as data */
#define HARNESS_LINKED 2u    /* has, or had, more than one name */
void harness_mark(struct harness *h, uint64_t ino, unsigned mark);
bool harness_marked(struct harness *h, uint64_t ino, unsigned mark);

/* Was it dropped without being asked for? */
bool harness_dropped(struct harness *h, uint64_t epoch, enum cow_drop_cause *ret_cause);
size_t harness_drops(struct harness *h);

/* Hold, open, release, commit. `ref` not NULL: read the live tree while held. */
int harness_snapshot(struct harness *h, enum cow_context context, struct tree *ref,
		     uint64_t *ret_epoch);
int harness_live(struct harness *h, struct tree *ret);

/* Read a snapshot through the view API. `seed`: of the sizes and places of reads. */
int harness_view_tree(struct harness *h, uint64_t epoch, uint64_t seed, struct tree *ret);

/* Is snapshot `epoch` just what `ref` says? Names absent from it are looked up as well, out of `names`. -errno when it
 * cannot be read (-ENOENT, -ESTALE: dropped), 0 the same, 1 not: `why` says. */
int harness_compare(struct harness *h, uint64_t epoch, const struct tree *ref, uint64_t seed,
		    const char *const *names, size_t n_names, char *why, size_t why_len);

/* Entries in a directory of the store, "log", "data", "grave"; -errno. */
int harness_store_entries(struct harness *h, const char *name);

/* One small file of bytes at a path below, through the store. */
int harness_put(struct harness *h, const char *name, const void *bytes, size_t len);

uint64_t harness_random(uint64_t *state);
/* UMBRA_SEED, or one made from the time of day; printed. */
uint64_t harness_seed(const char *test);
unsigned harness_steps(unsigned by_default); /* UMBRA_STEPS */

#endif
