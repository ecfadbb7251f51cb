/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The long calls (S-7): begun, waited for, cancelled. */
#include "coordinator/client/requester_private.h"

#include "cow/base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How long one WaitOperation lasts, and so how long another call may have to wait for it. */
#define SLICE_MS 100

static const char *const calls[] = {
	[UMBRA_CALL_GATHER_WRITER_METADATA] = "GatherWriterMetadata",
	[UMBRA_CALL_PREPARE_FOR_BACKUP] = "PrepareForBackup",
	[UMBRA_CALL_DO_SNAPSHOT_SET] = "DoSnapshotSet",
	[UMBRA_CALL_GATHER_WRITER_STATUS] = "GatherWriterStatus",
	[UMBRA_CALL_BACKUP_COMPLETE] = "BackupComplete",
	[UMBRA_CALL_PRE_RESTORE] = "PreRestore",
	[UMBRA_CALL_POST_RESTORE] = "PostRestore",
};

/* ---- how it ends ---- */

static void ended(struct umbra_operation *op, enum umbra_status status, enum umbra_error e)
{
	op->status = status;
	op->error = e;
	op->r->op = NULL;
	op->r = NULL;
}

/* It cannot be asked any more; r has the words. */
static void lost(struct umbra_operation *op)
{
	ended(op, UMBRA_STATUS_FAILED, op->r->error);
}

/* What the coordinator says of it: the answer of WaitOperation or QueryOperation. */
static void take(struct umbra_operation *op, const json_t *answer)
{
	const json_t *o = json_object_get(answer, "operation");
	const char *status = json_string_value(json_object_get(o, "status"));
	const char *message = json_string_value(json_object_get(o, "message"));
	struct umbra_requester *r = op->r;
	json_t *details = json_object_get(o, "details");
	enum umbra_error e;

	if (!status) {
		requester_fail(r, UMBRA_E_UNEXPECTED, "the coordinator's answer lacks a status");
		lost(op);
		return;
	}
	if (strcmp(status, "pending") == 0)
		return;
	json_decref(r->details);
	r->details = json_incref(details);
	e = umbra_error_parse(status);
	if (e != UMBRA_OK)
		requester_fail(r, e, message ? message : status);
	ended(op,
	      e == UMBRA_OK	       ? UMBRA_STATUS_FINISHED
	      : e == UMBRA_E_CANCELLED ? UMBRA_STATUS_CANCELLED
				       : UMBRA_STATUS_FAILED,
	      e);
}

void requester_forget_operation(struct umbra_requester *r)
{
	if (r->op)
		ended(r->op, UMBRA_STATUS_FAILED, UMBRA_E_WRITER_INFRASTRUCTURE);
}

/* ---- waiting, in slices ---- */

void requester_resume(struct umbra_requester *r)
{
	struct umbra_failure f = { .message = "connection to the coordinator lost" };
	json_t *params;
	int e;

	if (!r->op || r->waiting)
		return;
	params = json_pack("{s:s, s:i}", "operation_id", r->op->id, "timeout_ms", SLICE_MS);
	e = params ? umbra_call_begin(r->client, "WaitOperation", params) : -ENOMEM;
	if (e < 0) {
		requester_failed(r, e, &f);
		lost(r->op);
		return;
	}
	r->waiting = true;
}

/* Take the answer of the wait under way. Returns false: none came within timeout_ms. */
static bool take_answer(struct umbra_requester *r, int timeout_ms)
{
	struct umbra_failure f = { .message = "connection to the coordinator lost" };
	json_t *answer = NULL;
	int e = umbra_next(r->client, timeout_ms, &answer, NULL, &f);

	if (e == -EAGAIN)
		return false;
	r->waiting = false;
	if (e < 0)
		requester_failed(r, e, &f);
	if (r->op && e < 0)
		lost(r->op);
	else if (r->op)
		take(r->op, answer);
	json_decref(answer);
	return true;
}

void requester_settle(struct umbra_requester *r)
{
	if (r->waiting)
		take_answer(r, -1);
}

enum umbra_status umbra_operation_wait(struct umbra_operation *op, int timeout_ms)
{
	uint64_t deadline_ns = timeout_ms < 0 ? CLOCK_NEVER
					      : clock_deadline_ms((uint64_t)timeout_ms);

	while (op->status == UMBRA_STATUS_PENDING) {
		requester_resume(op->r);
		if (op->status != UMBRA_STATUS_PENDING ||
		    !take_answer(op->r, clock_left_ms(deadline_ns)))
			break;
	}
	/* The next slice is under way before the caller polls, or it would wait for nothing. */
	if (op->status == UMBRA_STATUS_PENDING)
		requester_resume(op->r);
	return op->status;
}

enum umbra_status umbra_operation_dispatch(struct umbra_operation *op)
{
	return umbra_operation_wait(op, 0);
}

int umbra_operation_fd(const struct umbra_operation *op)
{
	return op->r ? umbra_client_fd(op->r->client) : -1;
}

/* ---- the handle ---- */

/* Takes params. */
static enum umbra_error begin(struct umbra_requester *r, const char *call, json_t *params,
			      struct umbra_operation **ret)
{
	struct umbra_operation *op;
	json_t *answer = NULL;
	enum umbra_error e;

	requester_settle(r);
	if (r->op) {
		json_decref(params);
		requester_resume(r);
		return requester_fail(r, UMBRA_E_BAD_STATE, "another operation is pending");
	}
	op = calloc(1, sizeof(*op)); /* before the call: it could not be forgotten after it */
	if (!op || !params) {
		json_decref(params);
		free(op);
		return requester_fail(r, UMBRA_E_OUT_OF_MEMORY, "out of memory");
	}
	e = requester_call(r, call, params, &answer);
	if (e == UMBRA_OK)
		e = requester_id(r, answer, "operation_id", op->id);
	json_decref(answer);
	if (e != UMBRA_OK) {
		free(op);
		return e;
	}
	op->r = r;
	r->op = op;
	requester_resume(r);
	*ret = op;
	return UMBRA_OK;
}

enum umbra_error umbra_requester_begin(struct umbra_requester *r, enum umbra_call call,
				       struct umbra_operation **ret)
{
	if ((unsigned)call >= sizeof(calls) / sizeof(*calls))
		return requester_fail(r, UMBRA_E_INVALID_ARGUMENT, "no such call");
	return begin(r, calls[call], json_object(), ret);
}

enum umbra_error umbra_requester_begin_revert(struct umbra_requester *r, const char *snapshot_id,
					      bool force, struct umbra_operation **ret)
{
	return begin(r, "Revert",
		     json_pack("{s:s, s:b}", "snapshot_id", snapshot_id, "force", (int)force), ret);
}

enum umbra_status umbra_operation_status(const struct umbra_operation *op)
{
	return op->status;
}

enum umbra_error umbra_operation_error(const struct umbra_operation *op)
{
	return op->error;
}

enum umbra_status umbra_operation_cancel(struct umbra_operation *op)
{
	struct umbra_requester *r = op->r;

	if (!r)
		return op->status;
	/* Its answer says only that it was asked; how it ended comes with the next wait. */
	requester_call(r, "CancelOperation", json_pack("{s:s}", "operation_id", op->id), NULL);
	return umbra_operation_wait(op, 0);
}

void umbra_operation_free(struct umbra_operation *op)
{
	if (op && op->r)
		op->r->op = NULL;
	free(op);
}

/* ---- waiting for all of it ---- */

static enum umbra_error finish(struct umbra_operation *op)
{
	enum umbra_error e;

	umbra_operation_wait(op, -1);
	e = op->error;
	umbra_operation_free(op);
	return e;
}

enum umbra_error requester_run(struct umbra_requester *r, enum umbra_call call)
{
	struct umbra_operation *op = NULL;
	enum umbra_error e = umbra_requester_begin(r, call, &op);

	return e == UMBRA_OK ? finish(op) : e;
}

enum umbra_error umbra_requester_revert(struct umbra_requester *r, const char *snapshot_id,
					bool force)
{
	struct umbra_operation *op = NULL;
	enum umbra_error e = umbra_requester_begin_revert(r, snapshot_id, force, &op);

	return e == UMBRA_OK ? finish(op) : e;
}

enum umbra_error umbra_requester_gather_writer_metadata(struct umbra_requester *r)
{
	return requester_run(r, UMBRA_CALL_GATHER_WRITER_METADATA);
}

enum umbra_error umbra_requester_prepare_for_backup(struct umbra_requester *r)
{
	return requester_run(r, UMBRA_CALL_PREPARE_FOR_BACKUP);
}

enum umbra_error umbra_requester_do_snapshot_set(struct umbra_requester *r)
{
	return requester_run(r, UMBRA_CALL_DO_SNAPSHOT_SET);
}

enum umbra_error umbra_requester_gather_writer_status(struct umbra_requester *r)
{
	return requester_run(r, UMBRA_CALL_GATHER_WRITER_STATUS);
}

enum umbra_error umbra_requester_backup_complete(struct umbra_requester *r)
{
	return requester_run(r, UMBRA_CALL_BACKUP_COMPLETE);
}
