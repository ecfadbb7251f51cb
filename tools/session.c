/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cow/base/clock.h"
#include "tools/common.h"
#include "tools/find.h"
#include "tools/operation.h"
#include "tools/text.h"
#include "tools/watch.h"

/* ---- making a set */

/* StartSnapshotSet, again and again while another session has the slot and time is left. */
static int start_set(struct session *s)
{
	uint64_t until_ns = clock_deadline_ms((uint64_t)s->plan->retry_min * 60 * 1000);
	bool told = false;

	for (;;) {
		CLEANUP(json_decref_p) json_t *answer = NULL;
		struct umbra_failure f = { 0 };
		struct timespec pause = { .tv_nsec = 500 * 1000 * 1000 };
		int r = umbra_call(s->client, "StartSnapshotSet", NULL, -1, &answer, NULL, &f);

		if (r == 0) {
			s->set_open = true;
			s->set_id = strdup(tool_str(answer, "set_id"));
			return s->set_id ? 0 : tool_no_memory();
		}
		if (r != -EREMOTEIO || strcmp(f.name, "snapshot-set-in-progress") != 0 ||
		    clock_expired(until_ns))
			return tool_refused(r, "StartSnapshotSet", &f);
		if (!told)
			log_info("another snapshot set is being made; waiting for it");
		told = true;
		nanosleep(&pause, NULL);
		if (tool_signal())
			return tool_error("interrupted");
	}
}

static int add_tree(struct session *s, const char *path, json_t *ids)
{
	CLEANUP(json_decref_p) json_t *params = json_object(), *answer = NULL;
	int r;

	if (!params || umbra_json_set_path(params, "path", path) < 0)
		return tool_no_memory();
	if (s->plan->label)
		json_object_set_new(params, "label", json_string(s->plan->label));
	if (s->plan->description)
		json_object_set_new(params, "description", json_string(s->plan->description));
	r = tool_call(s->client, "AddToSnapshotSet", TAKE(params), &answer);
	if (r == 0)
		json_array_append(ids, json_object_get(answer, "snapshot_id"));
	return r;
}

/* ---- which writers */

bool session_writers_add(struct session_writers *list, const char *name)
{
	if (list->count == SESSION_WRITERS_MAX)
		return false;
	list->names[list->count++] = name;
	return true;
}

int session_call_writers(struct umbra_client *c, const json_t *writers, const char *name,
			 const char *method, const char *see)
{
	const json_t *writer;
	bool found = false;
	size_t i;
	int r = 0;

	json_array_foreach(writers, i, writer) {
		if (r != 0 || !find_is_writer(writer, name))
			continue;
		found = true;
		r = tool_call(c, method, json_pack("{ss}", "id", tool_str(writer, "instance_id")),
			      NULL);
	}
	if (r == 0 && !found)
		return tool_error("no writer %s is registered (see them: %s)", LOG_QUOTE(name),
				  see);
	return r;
}

static int choose_one(struct session *s, const json_t *answer, const char *name, const char *method)
{
	return session_call_writers(s->client, json_object_get(answer, "writers"), name, method,
				    "umbra writers");
}

static int choose_writers(struct session *s)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	const struct session_writers *in = &s->plan->include, *out = &s->plan->exclude;
	int r = 0;

	if (in->count == 0 && out->count == 0)
		return 0;
	r = tool_call(s->client, "ListWriters", NULL, &answer);
	for (size_t i = 0; r == 0 && i < in->count; i++)
		r = choose_one(s, answer, in->names[i], "EnableWriter");
	for (size_t i = 0; r == 0 && i < out->count; i++)
		r = choose_one(s, answer, out->names[i], "DisableWriter");
	return r;
}

/* ---- properties */

static int get_properties(struct session *s, const json_t *ids)
{
	CLEANUP(json_decref_p) json_t *list = json_array();
	const json_t *id;
	size_t i;
	int r;

	json_array_foreach(ids, i, id) {
		CLEANUP(json_decref_p) json_t *answer = NULL;

		r = tool_call(s->client, "GetSnapshotProperties",
			      json_pack("{sO}", "snapshot_id", id), &answer);
		if (r != 0)
			return r;
		json_array_append(list, json_object_get(answer, "snapshot"));
	}
	json_decref(s->snapshots);
	s->snapshots = TAKE(list);
	return 0;
}

static int initialise(struct session *s)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	int r = tool_call(s->client, "InitializeForBackup",
			  json_pack("{sb}", "require_writers", s->plan->require_writers), &answer);

	if (r == 0) {
		s->watch = watch_begin(tool_str(answer, "session_id"));
		r = tool_call(s->client, "SetContext",
			      json_pack("{ss}", "context", s->plan->context), NULL);
	}
	if (r == 0)
		r = choose_writers(s);
	if (r == 0 && text_context_has_writers(s->plan->context))
		r = tool_call(s->client, "SetBackupState", json_pack("{ss}", "type", "full"), NULL);
	if (r == 0 && text_context_has_writers(s->plan->context))
		r = operation_run(s->client, "GatherWriterMetadata");
	return r;
}

int session_create(struct session *s, const struct session_plan *plan)
{
	CLEANUP(json_decref_p) json_t *ids = json_array();
	bool writers = text_context_has_writers(plan->context), asked;
	int r;

	*s = (struct session){ .plan = plan, .failed_writers = json_object() };
	r = tool_connect(&s->client);
	if (r == 0)
		r = initialise(s);
	if (r == 0)
		r = start_set(s);
	for (size_t i = 0; r == 0 && i < plan->tree_count; i++)
		r = add_tree(s, plan->trees[i], ids);
	if (r == 0 && writers)
		r = operation_run(s->client, "PrepareForBackup");
	if (r == 0 && writers)
		r = operation_look_at_writers(s->client, s->failed_writers);
	asked = r == 0;
	if (r == 0)
		r = operation_run(s->client, "DoSnapshotSet");
	if (writers && asked) /* which of them it was */
		r = tool_worse(r, operation_look_at_writers(s->client, s->failed_writers));
	if (r == 0)
		r = get_properties(s, ids);
	return r;
}

/* ---- ending */

static int refresh(struct session *s)
{
	CLEANUP(json_decref_p) json_t *ids = json_array();
	const json_t *snapshot;
	size_t i;

	json_array_foreach(s->snapshots, i, snapshot)
		json_array_append(ids, json_object_get(snapshot, "id"));
	return get_properties(s, ids);
}

int session_complete(struct session *s)
{
	int r;

	if (!text_context_has_writers(s->plan->context)) {
		s->set_open = false;
		return 0; /* S-6: nobody to tell */
	}
	r = tool_call(s->client, "SetBackupSucceeded", json_pack("{sb}", "succeeded", true), NULL);
	if (r == 0)
		r = operation_run(s->client, "BackupComplete");
	if (r != 0)
		return r;
	s->set_open = false;
	r = operation_look_at_writers(s->client, s->failed_writers);
	return r == 0 ? refresh(s) : r;
}

void session_end(struct session *s)
{
	if (s->client) {
		/* The connection may be what failed: nothing new to say about that. */
		if (s->set_open &&
		    umbra_call(s->client, "AbortBackup", NULL, -1, NULL, NULL, NULL) < 0)
			log_debug("AbortBackup was refused");
		if (umbra_call(s->client, "Release", NULL, -1, NULL, NULL, NULL) < 0)
			log_debug("Release was refused");
	}
	watch_end(s->watch);
	umbra_close(s->client);
	json_decref(s->snapshots);
	json_decref(s->failed_writers);
	free(s->set_id);
	*s = (struct session){ 0 };
}

int session_status(const struct session *s)
{
	return json_object_size(s->failed_writers) > 0 ? TOOL_WRITER : TOOL_DONE;
}
