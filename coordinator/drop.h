/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/drop.h - deleting snapshots one after another.
 * Job:     a list of snapshot ids, deleted in turn, stopping at the first failure or going on.
 * Errors:  0 or -errno at the start; then a failure at the end.
 * Threads: the coordinator's one. Runs to its end also when nobody waits any more (D-9).
 * Rules:   D-2, D-3 (writers are told nothing), D-11, D-12, D-13. */
#ifndef UMBRA_COORDINATOR_DROP_H
#define UMBRA_COORDINATOR_DROP_H

#include "coordinator/core.h"

struct coord_drop;

struct coord_drop_result {
	size_t deleted;
	const char *first_not_deleted; /* NULL: all were; borrowed */
	struct coord_failure failure;  /* of that one */
};

typedef void (*coord_drop_fn)(void *data, const struct coord_drop_result *result);

enum {
	COORD_DROP_FORCE = 1, /* also while in use (D-12) */
	COORD_DROP_ALL =
		2, /* a failure does not stop the rest (D-8); what is gone already is no failure */
};

/* An empty list of ids. NULL: out of memory. */
struct coord_drop *coord_drop_new(struct coord *core, unsigned flags);
int coord_drop_add(struct coord_drop *d, const char *snapshot_id);
size_t coord_drop_count(const struct coord_drop *d);
void coord_drop_free(struct coord_drop *d); /* only before coord_drop_start */

/* Begin; d is taken. fn is called once, from within if there is nothing to wait for; NULL: nobody
 * wants to know. */
void coord_drop_start(struct coord_drop *d, coord_drop_fn fn, void *data);
/* fn will not be called; the deletions go on. Not after fn was called. */
void coord_drop_forget(struct coord_drop *d);

#endif
