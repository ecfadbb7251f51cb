/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/operation.h"

#include "coordinator/name.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct coord_operation *coord_operation_new(const char *call)
{
	struct coord_operation *op = calloc(1, sizeof(*op));

	if (!op)
		return NULL;
	coord_name_id(op->id);
	op->call = call;
	op->pending = true;
	return op;
}

void coord_operation_free(struct coord_operation *op)
{
	if (!op)
		return;
	for (size_t i = 0; i < op->ndetails; i++)
		free(op->details[i]);
	free(op->details);
	free(op);
}

const char *coord_operation_status(const struct coord_operation *op)
{
	return op->pending ? "pending" : umbra_error_name(op->failure.error);
}

void coord_operation_detail(struct coord_operation *op, const char *text)
{
	char **details = reallocarray(op->details, op->ndetails + 1, sizeof(*details));

	if (!details)
		return;
	op->details = details;
	details[op->ndetails] = strdup(text);
	if (details[op->ndetails])
		op->ndetails++;
}

void coord_operation_finish(struct coord_operation *op, const struct coord_failure *failure)
{
	void (*done)(void *data, struct coord_operation *op) = op->done;

	assert(op->pending);
	op->pending = false;
	if (failure)
		op->failure = *failure;
	op->done = NULL;
	if (done)
		done(op->data, op);
}

void coord_operation_wait(struct coord_operation *op,
			  void (*fn)(void *data, struct coord_operation *op), void *data)
{
	assert(op->pending);
	op->done = fn;
	op->data = data;
}
