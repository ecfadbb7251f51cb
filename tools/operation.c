/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/operation.h"

#include <string.h>
#include <unistd.h>

#include "coordinator/client/umbra/error.h"
#include "cow/base/clock.h"
#include "tools/common.h"
#include "tools/text.h"

/* How long one WaitOperation waits: so often a signal is looked for. */
#define SLICE_MS 200

/* ---- operations */

/* The tail of the list of failures that was not shown yet, but for the one that is the result. */
static void show_details(const json_t *operation, size_t *shown)
{
	const json_t *details = json_object_get(operation, "details");
	const char *result = tool_str(operation, "message");

	for (; *shown < json_array_size(details); (*shown)++) {
		const char *text = json_string_value(json_array_get(details, *shown));

		if (text && (!*result || !strstr(text, result)))
			log_warn("%s", text);
	}
}

static int operation_failed(const json_t *op, const char *method)
{
	const char *status = tool_str(op, "status"), *message = tool_str(op, "message");

	if (umbra_error_again(umbra_error_parse(status))) {
		log_error("%s: %s (try again later)", method, *message ? message : status);
		return TOOL_AGAIN;
	}
	return tool_error("%s: %s", method, *message ? message : status);
}

/* Wait for an operation while looking for signals. */
static int wait_operation(struct umbra_client *c, const char *id, const char *method)
{
	uint64_t started_ns = clock_mono_ns();
	size_t shown = 0;
	bool waiting = false;
	int r = 0;

	for (;;) {
		CLEANUP(json_decref_p) json_t *answer = NULL;
		const json_t *op;

		r = tool_call(c, "WaitOperation",
			      json_pack("{sssi}", "operation_id", id, "timeout_ms", SLICE_MS),
			      &answer);
		if (r != 0)
			break;
		op = json_object_get(answer, "operation");
		show_details(op, &shown);
		if (strcmp(tool_str(op, "status"), "finished") == 0)
			break;
		if (strcmp(tool_str(op, "status"), "pending") != 0) {
			r = operation_failed(op, method);
			break;
		}
		if (tool_signal()) {
			r = tool_error("%s was interrupted", method);
			break;
		}
		if (!waiting && clock_mono_ns() - started_ns > CLOCK_NS_PER_SEC &&
		    !tool_opts.quiet && isatty(STDERR_FILENO)) {
			waiting = true;
			log_info("waiting for %s ...", method);
		}
	}
	return r;
}

int operation_run(struct umbra_client *c, const char *method)
{
	return operation_run_with(c, method, NULL);
}

int operation_run_with(struct umbra_client *c, const char *method, json_t *params)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	int r = tool_call(c, method, params, &answer);

	if (r != 0)
		return r;
	r = wait_operation(c, tool_str(answer, "operation_id"), method);
	if (r == 0)
		log_debug("%s is done", method);
	return r;
}

/* ---- writers */

static void tell_failure(const json_t *row)
{
	const char *name = tool_str(row, "name"), *message = tool_str(row, "message");
	char outcome[TEXT_OUTCOME_SIZE];

	log_warn("writer %s: %s: %s%s%s", LOG_QUOTE(name),
		 text_writer_event(tool_str(row, "state")),
		 text_writer_outcome(outcome, tool_str(row, "error")), *message ? ": " : "",
		 *message ? LOG_QUOTE(message) : "");
}

/* W-6, K-2: who failed is told once, and remembered. */
int operation_look_at_writers(struct umbra_client *c, json_t *failed)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	const json_t *row;
	size_t i;
	int r = operation_run(c, "GatherWriterStatus");

	if (r == 0)
		r = tool_call(c, "GetWriterStatus", NULL, &answer);
	if (r != 0)
		return r;
	json_array_foreach(json_object_get(answer, "writers"), i, row) {
		const char *id = tool_str(row, "instance_id");

		if (!*tool_str(row, "error") || json_object_get(failed, id))
			continue;
		tell_failure(row);
		json_object_set(failed, id, json_object_get(row, "error"));
	}
	return 0;
}
