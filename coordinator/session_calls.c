/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A requester's session (protocol 2.1): parameters to session.h, its result to an answer. */
#include "coordinator/calls_private.h"

#include "coordinator/client/client.h"
#include "coordinator/client/texts.h"
#include "cow/base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

static void initialize_for_backup(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	bool require_writers = coord_param_bool(&p, "require_writers");
	struct coord_session *s;
	struct coord_failure f;
	enum umbra_error e;

	s = coord_call_session_for(peer, &p);
	if (!s)
		return;
	e = coord_session_initialize(s, require_writers, &f);
	if (e == UMBRA_OK)
		coord_peer_reply(peer, json_pack("{s:s}", "session_id", s->id), -1);
	else
		coord_peer_fail(peer, &f);
}

/* C-3, C-4, C-5: attributes that follow from the context or belong to the system, and those of other
 * systems. */
static const char *const foreign_attributes[] = {
	"persistent",	    "auto_release",	 "no_writers",	   "client_accessible",
	"not_surfaced",	    "hardware_assisted", "imported",	   "exposed_locally",
	"exposed_remotely", "txf_recovery",	 "not_transacted",
};

static const char *foreign_attribute(const json_t *params)
{
	for (size_t i = 0; i < COUNT(foreign_attributes); i++)
		if (json_is_true(json_object_get(params, foreign_attributes[i])))
			return foreign_attributes[i];
	return NULL;
}

static void set_context(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	const char *context = coord_param_string(&p, "context");
	bool no_autorecovery = coord_param_bool(&p, "no_autorecovery");
	bool rollback_recovery = coord_param_bool(&p, "rollback_recovery");
	bool plex = coord_param_bool(&p, "plex"),
	     differential = coord_param_bool(&p, "differential");
	bool transportable = coord_param_bool(&p, "transportable");
	struct coord_session *s;
	struct coord_failure f;
	enum umbra_error e;

	s = coord_call_session_for(peer, &p);
	if (!s)
		return;
	if (foreign_attribute(params) || (plex && differential))
		e = coord_fail(&f, UMBRA_E_INVALID_ARGUMENT, "%s cannot be asked for",
			       foreign_attribute(params) ? foreign_attribute(params)
							 : "plex with differential");
	else
		e = coord_session_set_context(s, context, no_autorecovery, rollback_recovery, &f);
	if (e == UMBRA_OK)
		s->hardware = plex || transportable;
	coord_call_answer(peer, e, &f);
}

static void set_backup_state(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	const char *type = coord_param_string(&p, "type");
	bool component_mode = coord_param_bool(&p, "component_mode");
	bool bootable_state = coord_param_bool(&p, "bootable_state");
	bool partial_files = coord_param_bool(&p, "partial_files");
	struct coord_session *s = coord_call_session_for(peer, &p);
	struct coord_failure f;

	if (s)
		coord_call_answer(peer,
				  coord_session_set_backup_state(s, type, component_mode,
								 bootable_state, partial_files, &f),
				  &f);
}

static void start_snapshot_set(struct coord_peer *peer, json_t *params)
{
	struct coord_session *s = coord_call_session(peer);
	struct coord_failure f;

	(void)params;
	if (!s)
		return;
	if (coord_session_start_set(s, &f) == UMBRA_OK)
		coord_peer_reply(peer, json_pack("{s:s}", "set_id", s->set_id), -1);
	else
		coord_peer_fail(peer, &f);
}

static void add_to_snapshot_set(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	CLEANUP(free_p) char *path = coord_param_path(&p, "path", true);
	const char *label = coord_param_text(&p, "label"),
		   *description = coord_param_text(&p, "description");
	const char *id;
	struct coord_session *s = coord_call_session_for(peer, &p);
	struct coord_failure f;

	if (!s)
		return;
	if (coord_session_add(s, path, label, description, &id, &f) == UMBRA_OK)
		coord_peer_reply(peer, json_pack("{s:s}", "snapshot_id", id), -1);
	else
		coord_peer_fail(peer, &f);
}

static void set_backup_succeeded(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	bool succeeded = coord_param_bool(&p, "succeeded");
	const char *instance_id = coord_param_text(&p, "instance_id"),
		   *logical_path = coord_param_text(&p, "logical_path"),
		   *name = coord_param_text(&p, "name");
	struct coord_session *s = coord_call_session_for(peer, &p);
	struct coord_failure f;

	if (s)
		coord_call_answer(peer,
				  coord_session_set_succeeded(s, succeeded, instance_id,
							      logical_path ? logical_path : "",
							      name ? name : "", &f),
				  &f);
}

/* ---- writers and their components ---- */

static void choose_writer(struct coord_peer *peer, json_t *params, bool enable)
{
	struct coord_params p = { .object = params };
	const char *id = coord_param_string(&p, "id");
	struct coord_session *s = coord_call_session_for(peer, &p);
	struct coord_failure f;

	if (s)
		coord_call_answer(peer, coord_session_enable_writer(s, id, enable, &f), &f);
}

static void enable_writer(struct coord_peer *peer, json_t *params)
{
	choose_writer(peer, params, true);
}

static void disable_writer(struct coord_peer *peer, json_t *params)
{
	choose_writer(peer, params, false);
}

static void add_component(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	const char *instance_id = coord_param_string(&p, "instance_id"),
		   *logical_path = coord_param_text(&p, "logical_path"),
		   *name = coord_param_string(&p, "name");
	struct coord_session *s = coord_call_session_for(peer, &p);
	struct coord_failure f;

	if (s)
		coord_call_answer(peer,
				  coord_session_add_component(s, instance_id,
							      logical_path ? logical_path : "",
							      name, &f),
				  &f);
}

/* One row for each writer of the session that `make` makes one for. */
static void reply_writers(struct coord_peer *peer,
			  json_t *(*make)(const struct coord_participant *pt))
{
	struct coord_party *party = peer->session->party;
	const struct coord_participant *pt;
	json_t *list = json_array();
	int r = 0;

	for (pt = party ? coord_party_first(party) : NULL; pt; pt = coord_participant_next(pt)) {
		json_t *row = make(pt);

		if (row && !json_is_null(row))
			r |= json_array_append_new(list, row);
		else if (!row)
			r = -1;
	}
	if (r == 0) {
		coord_peer_reply(peer, json_pack("{s:o}", "writers", list), -1);
		return;
	}
	json_decref(list);
	coord_peer_reply(peer, NULL, -1);
}

static json_t *metadata_row(const struct coord_participant *pt)
{
	if (!coord_participant_identified(pt))
		return json_null();
	return json_pack("{s:o, s:O?}", "writer", coord_json_participant(pt), "document",
			 coord_participant_document(pt));
}

static json_t *status_row(const struct coord_participant *pt)
{
	const struct coord_writer_row *row = coord_participant_reported(pt);

	if (!row)
		return json_null();
	return coord_json_row(coord_participant_id(pt), coord_participant_info(pt), row);
}

static void get_writer_metadata(struct coord_peer *peer, json_t *params)
{
	(void)params;
	if (coord_call_allowed(peer, CALL_READ_WRITERS))
		reply_writers(peer, metadata_row);
}

static void get_writer_status(struct coord_peer *peer, json_t *params)
{
	(void)params;
	if (coord_call_allowed(peer, CALL_READ_WRITERS))
		reply_writers(peer, status_row);
}

/* Takes both. */
static void reply_documents(struct coord_peer *peer, json_t *document, json_t *writers)
{
	coord_peer_reply(peer,
			 json_pack("{s:o, s:o}", "document", document, "writer_documents", writers),
			 -1);
}

/* The same in a memory file, as InitializeForRestore takes it back; takes both. */
static void reply_documents_fd(struct coord_peer *peer, json_t *document, json_t *writers)
{
	CLEANUP(close_p) int fd = -1;
	struct coord_failure f;
	int r = json_array_insert_new(writers, 0, document) < 0
			? -ENOMEM
			: umbra_texts_put(writers, UMBRA_DOCUMENTS_MAX, &fd);

	json_decref(writers);
	if (r == 0) {
		coord_peer_reply(peer, json_object(), fd);
		return;
	}
	coord_fail(&f, UMBRA_E_OUT_OF_MEMORY,
		   r == -EMSGSIZE ? "the documents are longer than the %zu MiB that there may be: "
				    "back up fewer writers in one session"
				  : "there is no room for %zu MiB of documents",
		   UMBRA_DOCUMENTS_MAX >> 20);
	f.final = r == -EMSGSIZE;
	coord_peer_fail(peer, &f);
}

static void save_document(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	bool descriptor = coord_param_bool(&p, "descriptor");
	struct coord_session *s;
	json_t *document, *writers;
	struct coord_failure f;

	s = coord_call_session_for(peer, &p);
	if (!s)
		return;
	if (coord_session_save_document(s, &document, &writers, &f) != UMBRA_OK)
		coord_peer_fail(peer, &f);
	else if (descriptor)
		reply_documents_fd(peer, document, writers);
	else
		reply_documents(peer, document, writers);
}

static void cancel_session_wait(struct coord_peer *peer)
{
	coord_session_forget(peer->session);
}

static void on_ended(void *data)
{
	coord_peer_reply(data, json_object(), -1);
}

static void abort_backup(struct coord_peer *peer, json_t *params)
{
	struct coord_session *s = coord_call_session(peer);
	struct coord_failure f;

	(void)params;
	if (!s)
		return;
	peer->cancel = cancel_session_wait;
	if (coord_session_abort(s, on_ended, peer, &f) != UMBRA_OK)
		coord_peer_fail(peer, &f);
}

static void release(struct coord_peer *peer, json_t *params)
{
	struct coord_session *s = coord_call_session(peer);

	(void)params;
	if (!s)
		return;
	peer->cancel = cancel_session_wait;
	coord_session_release(s, on_ended, peer);
}

const struct coord_method coord_session_methods[] = {
	{ .name = "io.umbra.InitializeForBackup", .call = initialize_for_backup },
	{ .name = "io.umbra.SetContext", .call = set_context },
	{ .name = "io.umbra.SetBackupState", .call = set_backup_state },
	{ .name = "io.umbra.GatherWriterMetadata", .start = coord_session_gather_metadata },
	{ .name = "io.umbra.GatherWriterStatus", .start = coord_session_gather_status },
	{ .name = "io.umbra.EnableWriter", .call = enable_writer },
	{ .name = "io.umbra.DisableWriter", .call = disable_writer },
	{ .name = "io.umbra.GetWriterMetadata", .call = get_writer_metadata },
	{ .name = "io.umbra.GetWriterStatus", .call = get_writer_status },
	{ .name = "io.umbra.AddComponent", .call = add_component },
	{ .name = "io.umbra.SaveDocument", .call = save_document },
	{ .name = "io.umbra.StartSnapshotSet", .call = start_snapshot_set },
	{ .name = "io.umbra.AddToSnapshotSet", .call = add_to_snapshot_set },
	{ .name = "io.umbra.PrepareForBackup", .start = coord_session_prepare },
	{ .name = "io.umbra.DoSnapshotSet", .start = coord_session_create },
	{ .name = "io.umbra.SetBackupSucceeded", .call = set_backup_succeeded },
	{ .name = "io.umbra.BackupComplete", .start = coord_session_complete },
	{ .name = "io.umbra.AbortBackup", .call = abort_backup },
	{ .name = "io.umbra.Release", .call = release },
	{ 0 },
};
