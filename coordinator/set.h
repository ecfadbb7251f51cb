/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/set.h - one snapshot set, from its start to `created` or removed (protocol 2.3,
 *          3.2).
 * Job:     the sequence O-1 to O-12 over all trees, and undoing it.
 * Errors:  enum umbra_error with a coord_failure; of several the first by time (E-3), all in
 *          the detail list.
 * Threads: the coordinator's one. The done function is called from an answer, a loss or a
 *          timer, or from within coord_set_create / coord_set_abort when there was nothing to
 *          wait for.
 * Rules:   N-1 to N-6, H-2, H-4, O-1 to O-12, T-2, T-3, T-8, C-12.
 *
 *   started --coord_set_add--> started
 *   started --coord_set_create--> preparing -> prepared -> precommitted -> holding -> committed
 *           -> postcommitted -> recovering -> created          (the list of steps in set.c)
 *   any before created --failure, coord_set_abort--> aborted   (holds released, writers told Abort,
 *           epochs dropped) -> removed */
#ifndef UMBRA_COORDINATOR_SET_H
#define UMBRA_COORDINATOR_SET_H

#include "coordinator/core.h"
#include "coordinator/party.h"

enum coord_set_state {
	SET_STARTED,
	SET_PREPARING,
	SET_PREPARED,
	SET_PRECOMMITTED,
	SET_HOLDING,
	SET_COMMITTED,
	SET_POSTCOMMITTED,
	SET_RECOVERING,
	SET_CREATED,
	SET_ABORTED, /* being undone */
	SET_REMOVED,
	SET_STATES
};

struct coord_set;

/* The set is `created` (failure NULL) or removed. It still exists during the call; free it in or
 * after it. */
typedef void (*coord_set_fn)(void *data, const struct coord_failure *failure);

/* session_id: of the session it belongs to, borrowed, as long as the set lives. NULL: out of memory. */
struct coord_set *coord_set_new(struct coord *core, const char *session_id,
				enum cow_context context, coord_set_fn fn, void *data);
/* Only in `started`, `created` and `removed`. */
void coord_set_free(struct coord_set *set);

const char *coord_set_id(const struct coord_set *set);
enum coord_set_state coord_set_state(const struct coord_set *set);
const char *coord_set_state_name(enum coord_set_state s);
size_t coord_set_count(const struct coord_set *set);

/**
 * One more tree (N-2). Only in `started`.
 * @label, @description  copied; NULL: none
 * @ret_id  the snapshot's id, borrowed from the set
 */
enum umbra_error coord_set_add(struct coord_set *set, struct coord_provider *p, const char *label,
			       const char *description, const char **ret_id,
			       struct coord_failure *f);

/**
 * Go through all steps. Only in `started`.
 * @party   who is told the events; borrowed until the done function; NULL: no writers
 * @strict  a writer's failure fails the set
 */
void coord_set_create(struct coord_set *set, struct coord_party *party, bool strict);

/**
 * Undo everything; why: what the done function is told. `created`, `aborted`, `removed`: nothing
 * (N-6).
 * @party   who may hear Abort (as coord_set_create); NULL: nobody
 * @origin  of the Aborts; ORIGIN_NONE: none are sent. From the requester they go to everybody that
 *          is armed, else to those that were told PrepareForSnapshot
 */
void coord_set_abort(struct coord_set *set, const struct coord_failure *why,
		     struct coord_party *party, enum coord_origin origin);

/* A provider is going: forget it, and fail if it takes part in a running creation. */
void coord_set_lost(struct coord_set *set, struct coord_provider *p);

/* [{id, tree_id, tree_path}] for the backup document; a new reference, NULL: out of memory. Not yet
 * after a failure. */
json_t *coord_set_describe(const struct coord_set *set);

/* All failures so far, oldest first (E-3): count, and each; borrowed. */
size_t coord_set_ndetails(const struct coord_set *set);
const char *coord_set_detail(const struct coord_set *set, size_t i);

/* First hold sent to last release answered; 0 if it did not come to that. */
uint64_t coord_set_held_ns(const struct coord_set *set);

#endif
