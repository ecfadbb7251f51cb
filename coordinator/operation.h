/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/operation.h - handles of calls that take time.
 * Job:     what became of one asynchronous call: query, wait.
 * Errors:  none but lack of memory.
 * Threads: the coordinator's one.
 * Rules:   S-7, S-8, E-3. */
#ifndef UMBRA_COORDINATOR_OPERATION_H
#define UMBRA_COORDINATOR_OPERATION_H

#include "coordinator/error.h"
#include "cow/provider.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

struct coord_operation {
	TAILQ_ENTRY(coord_operation) link;
	char id[COW_UUID_LEN + 1];
	const char *call; /* static */
	bool pending;
	bool cancel_asked;
	struct coord_failure failure; /* error UMBRA_OK: finished */
	char **details;		      /* owned */
	size_t ndetails;
	void (*done)(void *data, struct coord_operation *op); /* the one who waits, or NULL */
	void *data;
};

struct coord_operation *coord_operation_new(const char *call);
void coord_operation_free(struct coord_operation *op);

/* "pending", "finished", "cancelled", or an error name. */
const char *coord_operation_status(const struct coord_operation *op);

/* One more line of details; lack of memory loses it (the log has it too). */
void coord_operation_detail(struct coord_operation *op, const char *text);

/* It is over, failure NULL: well. Tells the one who waits. */
void coord_operation_finish(struct coord_operation *op, const struct coord_failure *failure);

/* Be told, once; only while pending. fn NULL: no longer. */
void coord_operation_wait(struct coord_operation *op,
			  void (*fn)(void *data, struct coord_operation *op), void *data);

#endif
