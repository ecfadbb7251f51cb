/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/shell_session.h"

#include <stdlib.h>
#include <string.h>

#include "tools/common.h"
#include "tools/find.h"
#include "tools/operation.h"
#include "tools/session.h"
#include "tools/shell_components.h"
#include "tools/shell_metadata.h"
#include "tools/shell_restore.h"
#include "tools/text.h"
#include "tools/watch.h"

int shell_session_init(struct shell_session *s)
{
	*s = (struct shell_session){
		.context = "backup",
		.trees = json_array(),
		.verify = json_array(),
		.exclude = json_array(),
		.must = json_object(),
		.failed_writers = json_object(),
	};
	if (s->trees && s->verify && s->exclude && s->must && s->failed_writers)
		return 0;
	return tool_no_memory();
}

/* ---- writers */

static bool has_component(const json_t *document, const char *name)
{
	const json_t *component;
	size_t i;

	json_array_foreach(json_object_get(document, "components"), i, component) {
		if (find_is_component(component, name))
			return true;
	}
	return false;
}

static int exclude_writers(struct shell_session *s)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	const json_t *name;
	size_t i;
	int r;

	if (json_array_size(s->exclude) == 0)
		return 0;
	r = tool_call(s->client, "ListWriters", NULL, &answer);
	json_array_foreach(s->exclude, i, name) {
		if (r == 0)
			r = session_call_writers(s->client, json_object_get(answer, "writers"),
						 json_string_value(name), "DisableWriter",
						 "list writers");
	}
	return r;
}

/* All writers that a name of "writer verify" stands for go into s->must. */
static int verify_one(struct shell_session *s, const json_t *rows, const char *name)
{
	const json_t *row;
	bool found = false;
	size_t i;

	json_array_foreach(rows, i, row) {
		const json_t *writer = json_object_get(row, "writer");

		if (!find_is_writer(writer, name) &&
		    !has_component(json_object_get(row, "document"), name))
			continue;
		found = true;
		json_object_set_new(s->must, tool_str(writer, "instance_id"), json_string(name));
	}
	if (found)
		return 0;
	return tool_error("%s has to take part (writer verify), but no writer or component of that "
			  "name does (see them: list writers)",
			  LOG_QUOTE(name));
}

/* DisableWriter is about instances: one that registered between ListWriters and Identify slipped through. */
static int stays_out(const json_t *rows, const char *name)
{
	const json_t *row;
	size_t i;

	json_array_foreach(rows, i, row) {
		if (!find_is_writer(json_object_get(row, "writer"), name))
			continue;
		log_error("writer %s, which is excluded, registered just now (try again later)",
			  LOG_QUOTE(name));
		return TOOL_AGAIN;
	}
	return 0;
}

/* Who takes part, and with what. */
static int choose_writers(struct shell_session *s)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	const json_t *name;
	size_t i;
	int r = tool_call(s->client, "GetWriterMetadata", NULL, &answer);

	json_array_foreach(s->exclude, i, name) {
		if (r == 0)
			r = stays_out(json_object_get(answer, "writers"), json_string_value(name));
	}
	json_array_foreach(s->verify, i, name) {
		if (r == 0)
			r = verify_one(s, json_object_get(answer, "writers"),
				       json_string_value(name));
	}
	if (r == 0)
		r = shell_components_add(s->client, json_object_get(answer, "writers"), s->trees);
	return r;
}

int shell_session_must_not_fail(const struct shell_session *s)
{
	const char *id;
	json_t *name;

	json_object_foreach(s->must, id, name) {
		if (!json_object_get(s->failed_writers, id))
			continue;
		log_error("%s must not fail (writer verify), and did (try again later)",
			  LOG_QUOTE(json_string_value(name)));
		return TOOL_AGAIN; /* as unexpected-writer-error */
	}
	return 0;
}

/* ---- the set */

static bool has_writers(const struct shell_session *s)
{
	return text_context_has_writers(s->context);
}

static int set_context(struct shell_session *s)
{
	const struct shell_options *o = &s->options;
	json_t *params = json_pack("{ss}", "context", s->context);

	/* What is not asked for is left out: C-7 refuses modifiers, not their absence. */
	if (params && o->no_autorecovery)
		json_object_set_new(params, "no_autorecovery", json_true());
	if (params && o->rollback_recovery)
		json_object_set_new(params, "rollback_recovery", json_true());
	if (params && o->differential)
		json_object_set_new(params, "differential", json_true());
	if (params && o->plex)
		json_object_set_new(params, "plex", json_true());
	if (params && o->transportable)
		json_object_set_new(params, "transportable", json_true());
	return params ? tool_call(s->client, "SetContext", params, NULL) : tool_no_memory();
}

static int initialise(struct shell_session *s)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	int r = tool_call(s->client, "InitializeForBackup",
			  json_pack("{sb}", "require_writers", (int)s->options.require_writers),
			  &answer);

	if (r != 0)
		return r;
	s->watch = watch_begin(tool_str(answer, "session_id"));
	if (!has_writers(s) && json_array_size(s->verify) + json_array_size(s->exclude) > 0)
		return tool_error("context %s has no writers to verify or to exclude", s->context);
	r = set_context(s);
	if (r != 0 || !has_writers(s))
		return r;
	r = exclude_writers(s);
	if (r == 0)
		r = tool_call(s->client, "SetBackupState",
			      json_pack("{ss}", "type", s->begun ? "full" : "copy"), NULL);
	if (r == 0)
		r = operation_run(s->client, "GatherWriterMetadata");
	return r == 0 ? choose_writers(s) : r;
}

static int add_tree(struct shell_session *s, const json_t *tree, json_t *ids)
{
	CLEANUP(json_decref_p) json_t *params = json_object(), *answer = NULL;
	CLEANUP(free_p) char *path = tool_path(tree, "path");
	int r;

	if (!params || !path || umbra_json_set_path(params, "path", path) < 0)
		return tool_no_memory();
	r = tool_call(s->client, "AddToSnapshotSet", TAKE(params), &answer);
	if (r == 0 && json_array_append(ids, json_object_get(answer, "snapshot_id")) < 0)
		return tool_no_memory();
	return r;
}

static int start_set(struct shell_session *s, json_t *ids)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	const json_t *tree;
	size_t i;
	int r = tool_call(s->client, "StartSnapshotSet", NULL, &answer);

	if (r != 0)
		return r;
	s->abort_due = true; /* not yet a duty, but it frees the slot */
	s->set_id = strdup(tool_str(answer, "set_id"));
	if (!s->set_id)
		return tool_no_memory();
	json_array_foreach(s->trees, i, tree) {
		if (r == 0)
			r = add_tree(s, tree, ids);
	}
	return r;
}

static int get_properties(struct shell_session *s, const json_t *ids)
{
	CLEANUP(json_decref_p) json_t *list = json_array();
	const json_t *id;
	size_t i;

	json_array_foreach(ids, i, id) {
		CLEANUP(json_decref_p) json_t *answer = NULL;
		int r = tool_call(s->client, "GetSnapshotProperties",
				  json_pack("{sO}", "snapshot_id", id), &answer);

		if (r != 0)
			return r;
		if (json_array_append(list, json_object_get(answer, "snapshot")) < 0)
			return tool_no_memory();
	}
	json_decref(s->snapshots);
	s->snapshots = TAKE(list);
	return 0;
}

/* DoSnapshotSet with what surrounds it. Who failed is told in any case. */
static int do_set(struct shell_session *s, const json_t *ids)
{
	bool writers = has_writers(s);
	int r = 0;

	if (writers)
		r = operation_run(s->client, "PrepareForBackup");
	if (r == 0 && writers)
		r = operation_look_at_writers(s->client, s->failed_writers);
	if (r == 0)
		r = shell_session_must_not_fail(s);
	if (r != 0)
		return r;
	r = operation_run(s->client, "DoSnapshotSet");
	if (r == 0)
		s->state = SHELL_CREATED;
	if (writers && !tool_signal())
		r = tool_worse(r, operation_look_at_writers(s->client, s->failed_writers));
	if (r == 0)
		r = shell_session_must_not_fail(s);
	return r;
}

/* AbortBackup where it is due. The connection may be what failed: nothing new to say then. */
static void abort_if_due(struct shell_session *s)
{
	if (s->abort_due && umbra_call(s->client, "AbortBackup", NULL, -1, NULL, NULL, NULL) < 0)
		log_debug("AbortBackup was refused");
	s->abort_due = false;
}

void shell_session_release(struct shell_session *s)
{
	if (umbra_call(s->client, "Release", NULL, -1, NULL, NULL, NULL) < 0)
		log_debug("Release was refused");
	watch_end(TAKE(s->watch));
	umbra_close(TAKE(s->client));
}

/* Nothing is left of a creation that failed. AbortBackup deletes no created set, and neither does
 * the release of a persistent one. */
static void undo(struct shell_session *s)
{
	bool kept = s->state == SHELL_CREATED && !text_context_is_volatile(s->context);

	s->state = SHELL_FAILED;
	if (!s->client)
		return;
	abort_if_due(s);
	if (kept && tool_call(s->client, "DeleteSnapshots",
			      json_pack("{sssb}", "id", s->set_id, "force", 1), NULL) != 0)
		log_error("snapshot set %s is still there (try: delete snapshots set %s)",
			  s->set_id, s->set_id);
	shell_session_release(s);
}

int shell_session_complete(struct shell_session *s)
{
	int r = 0;

	if (has_writers(s)) {
		r = tool_call(s->client, "SetBackupSucceeded", json_pack("{sb}", "succeeded", 1),
			      NULL);
		if (r == 0)
			r = operation_run(s->client, "BackupComplete");
		if (r != 0)
			return r;
	}
	s->abort_due = false;
	s->state = SHELL_COMPLETED;
	if (has_writers(s))
		r = operation_look_at_writers(s->client, s->failed_writers);
	if (r == 0 && s->metadata)
		r = shell_metadata_save(s->client, s->metadata);
	return r;
}

int shell_session_create(struct shell_session *s)
{
	CLEANUP(json_decref_p) json_t *ids = json_array();
	int r = ids ? tool_connect(&s->client) : tool_no_memory();

	if (r == 0)
		r = initialise(s);
	if (r == 0)
		r = start_set(s, ids);
	if (r == 0)
		r = do_set(s, ids);
	if (r == 0 && tool_signal())
		r = tool_error("interrupted");
	if (r != 0) {
		undo(s);
		return r;
	}
	if (!s->begun)
		r = shell_session_complete(s);
	else if (s->metadata)
		r = shell_metadata_save(s->client, s->metadata);
	return tool_worse(r, get_properties(s, ids)); /* they are there, whatever was wrong since */
}

bool shell_session_has_failed_writers(const struct shell_session *s)
{
	return json_object_size(s->failed_writers) > 0;
}

void shell_session_end(struct shell_session *s)
{
	if (s->client) {
		shell_restore_give_up(s);
		abort_if_due(s);
		shell_session_release(s);
	}
	json_decref(s->trees);
	json_decref(s->verify);
	json_decref(s->exclude);
	json_decref(s->must);
	json_decref(s->failed_writers);
	json_decref(s->snapshots);
	umbra_documents_free(s->documents);
	free(s->set_id);
	free(s->metadata);
	*s = (struct shell_session){ 0 };
}
