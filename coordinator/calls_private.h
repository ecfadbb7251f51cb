/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/calls_private.h - what the files of calls share: reading parameters, answering, the tables of methods.
 * Job:     calls.c finds the method and has what is about the coordinator itself; session_calls.c, restore_calls.c
 *          and snapshot_calls.c have the rest of a requester's calls, provider_calls.c and writer_calls.c the others'.
 * Errors:  each function that may answer says so; a call is answered exactly once.
 * Threads: one. */
#ifndef UMBRA_COORDINATOR_CALLS_PRIVATE_H
#define UMBRA_COORDINATOR_CALLS_PRIVATE_H

#include "coordinator/json.h"
#include "coordinator/peer.h"

typedef enum umbra_error (*coord_start_fn)(struct coord_session *s, struct coord_operation **ret,
					   struct coord_failure *f);

struct coord_method {
	const char *name; /* with its interface; NULL: the end of a table */
	void (*call)(struct coord_peer *peer, json_t *params);
	coord_start_fn start; /* call NULL: one without parameters that starts an operation (S-7) */
};

extern const struct coord_method coord_session_methods[];
extern const struct coord_method coord_restore_methods[];
extern const struct coord_method coord_snapshot_methods[];

/* A wrong or missing parameter was answered: true. */
bool coord_call_refused_params(struct coord_peer *peer, const struct coord_params *p);

/* The answer to a call that has no results. */
void coord_call_answer(struct coord_peer *peer, enum umbra_error e, const struct coord_failure *f);
/* The answer to one that started something; op is read on success only. */
void coord_call_answer_operation(struct coord_peer *peer, enum umbra_error e,
				 const struct coord_operation *op, const struct coord_failure *f);

/* One connection is one session (S-1). NULL: answered. */
struct coord_session *coord_call_session(struct coord_peer *peer);
/* The same for a call whose parameters were read. NULL: answered, perhaps that one of them is wrong. */
struct coord_session *coord_call_session_for(struct coord_peer *peer, const struct coord_params *p);

/* The tables decide; false: answered. */
bool coord_call_allowed(struct coord_peer *peer, enum coord_call call);

/* Bring numbers up to date, then call fn(peer); params stay readable as peer->params. only: NULL: of all
 * trees. */
void coord_call_refresh_then(struct coord_peer *peer, json_t *params, enum coord_ask ask,
			     struct coord_provider *only, void (*fn)(void *peer));

/* The same for a call that keeps its params already. */
void coord_call_refresh_again(struct coord_peer *peer, enum coord_ask ask,
			      struct coord_provider *only, void (*fn)(void *peer));

#endif
