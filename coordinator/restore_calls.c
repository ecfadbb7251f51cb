/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A restore (protocol 8): parameters to restore.h, its result to an answer. */
#include "coordinator/calls_private.h"

#include "coordinator/client/client.h"
#include "coordinator/client/texts.h"
#include "coordinator/restore.h"
#include "cow/base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

DEFINE_CLEANUP(json_decref_p, json_t *, json_decref)

static void initialize_with(struct coord_peer *peer, const char *document, const json_t *writers)
{
	struct coord_session *s = coord_call_session(peer);
	struct coord_failure f;

	if (!s)
		return;
	if (coord_restore_initialize(s, document, writers, &f) == UMBRA_OK)
		coord_peer_reply(peer, json_pack("{s:s}", "session_id", s->id), -1);
	else
		coord_peer_fail(peer, &f);
}

static void refuse_documents(struct coord_peer *peer, int r, size_t max)
{
	struct coord_failure f;

	if (r == -ENOMEM)
		coord_no_memory(&f);
	else if (r == -EMSGSIZE)
		coord_fail(&f, UMBRA_E_INVALID_ARGUMENT,
			   "the documents are longer than the %zu MiB that there may be",
			   max >> 20);
	else if (r == -EBADMSG)
		coord_fail(&f, UMBRA_E_CORRUPT_DOCUMENT,
			   "the documents are damaged: not UTF-8, or cut off");
	else
		coord_fail(&f, UMBRA_E_INVALID_ARGUMENT,
			   "documents come in a memory file that is sealed, %d at most",
			   UMBRA_TEXTS_MAX);
	coord_peer_fail(peer, &f);
}

/* The backup document is the first text, the writers' are the others. */
static void initialize_from(struct coord_peer *peer, int fd)
{
	size_t max = peer->privileged ? UMBRA_DOCUMENTS_MAX : UMBRA_DOCUMENTS_MAX_USER; /* S-12 */
	CLEANUP(json_decref_p) json_t *texts = NULL, *first = NULL;
	int r = umbra_texts_take(fd, max, &texts);

	if (r < 0) {
		refuse_documents(peer, r, max);
		return;
	}
	first = json_incref(json_array_get(texts, 0));
	json_array_remove(texts, 0);
	initialize_with(peer, first ? json_string_value(first) : "", texts);
}

static void initialize_for_restore(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	const char *document;
	const json_t *writers;

	if (peer->call_fd >= 0) {
		/* Not before it is known that they are wanted: they may be long. */
		if (coord_call_allowed(peer, CALL_INITIALIZE_FOR_RESTORE))
			initialize_from(peer, peer->call_fd);
		return;
	}
	document = coord_param_string(&p, "document");
	writers = coord_param_texts(&p, "writer_documents");
	if (!coord_call_refused_params(peer, &p))
		initialize_with(peer, document, writers);
}

static struct coord_restore_name read_component(struct coord_params *p)
{
	const char *logical_path = coord_param_text(p, "logical_path");

	return (struct coord_restore_name){
		.instance_id = coord_param_string(p, "instance_id"),
		.logical_path = logical_path ? logical_path : "",
		.name = coord_param_string(p, "name"),
	};
}

static void set_selected_for_restore(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	struct coord_restore_name c = read_component(&p);
	bool selected = coord_param_bool(&p, "selected");
	struct coord_session *s = coord_call_session_for(peer, &p);
	struct coord_failure f;

	if (s)
		coord_call_answer(peer, coord_restore_select(s, &c, selected, &f), &f);
}

static void add_restore_subcomponent(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	struct coord_restore_name c = read_component(&p);
	const char *path = coord_param_text(&p, "sub_logical_path"),
		   *name = coord_param_string(&p, "sub_name");
	struct coord_session *s = coord_call_session_for(peer, &p);
	struct coord_failure f;

	if (s)
		coord_call_answer(peer,
				  coord_restore_add_subcomponent(s, &c, path ? path : "", name, &f),
				  &f);
}

static void set_restore_options(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	struct coord_restore_name c = read_component(&p);
	const char *options = coord_param_string(&p, "options");
	struct coord_session *s = coord_call_session_for(peer, &p);
	struct coord_failure f;

	if (s)
		coord_call_answer(peer, coord_restore_set_options(s, &c, options, &f), &f);
}

typedef enum umbra_error (*move_fn)(struct coord_session *s, const struct coord_restore_name *c,
				    const struct coord_restore_move *move, struct coord_failure *f);

static void add_move(struct coord_peer *peer, json_t *params, move_fn add)
{
	struct coord_params p = { .object = params };
	struct coord_restore_name c = read_component(&p);
	CLEANUP(free_p) char *path = coord_param_path(&p, "path", true);
	CLEANUP(free_p) char *destination = coord_param_path(&p, "destination", true);
	struct coord_restore_move move = {
		.path = path,
		.pattern = coord_param_string(&p, "pattern"),
		.destination = destination,
		.recursive = coord_param_bool(&p, "recursive"),
	};
	struct coord_session *s = coord_call_session_for(peer, &p);
	struct coord_failure f;

	if (s)
		coord_call_answer(peer, add(s, &c, &move, &f), &f);
}

static void add_new_target(struct coord_peer *peer, json_t *params)
{
	add_move(peer, params, coord_restore_add_target);
}

static void add_alternate_mapping(struct coord_peer *peer, json_t *params)
{
	add_move(peer, params, coord_restore_add_mapping);
}

static void set_file_restore_status(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	struct coord_restore_name c = read_component(&p);
	const char *status = coord_param_string(&p, "status");
	struct coord_session *s = coord_call_session_for(peer, &p);
	struct coord_failure f;

	if (s)
		coord_call_answer(peer, coord_restore_set_status(s, &c, status, &f), &f);
}

static void set_additional_restores(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	struct coord_restore_name c = read_component(&p);
	bool additional = coord_param_bool(&p, "additional");
	struct coord_session *s = coord_call_session_for(peer, &p);
	struct coord_failure f;

	if (s)
		coord_call_answer(peer, coord_restore_set_additional(s, &c, additional, &f), &f);
}

static void get_restore_components(struct coord_peer *peer, json_t *params)
{
	struct coord_session *s = coord_call_session(peer);
	struct coord_failure f;
	json_t *writers;

	(void)params;
	if (!s)
		return;
	if (coord_restore_components(s, &writers, &f) == UMBRA_OK)
		coord_peer_reply(peer, json_pack("{s:o}", "writers", writers), -1);
	else
		coord_peer_fail(peer, &f);
}

const struct coord_method coord_restore_methods[] = {
	{ .name = "io.umbra.InitializeForRestore", .call = initialize_for_restore },
	{ .name = "io.umbra.SetSelectedForRestore", .call = set_selected_for_restore },
	{ .name = "io.umbra.AddRestoreSubcomponent", .call = add_restore_subcomponent },
	{ .name = "io.umbra.SetRestoreOptions", .call = set_restore_options },
	{ .name = "io.umbra.AddNewTarget", .call = add_new_target },
	{ .name = "io.umbra.PreRestore", .start = coord_restore_pre },
	{ .name = "io.umbra.SetFileRestoreStatus", .call = set_file_restore_status },
	{ .name = "io.umbra.SetAdditionalRestores", .call = set_additional_restores },
	{ .name = "io.umbra.AddAlternateMapping", .call = add_alternate_mapping },
	{ .name = "io.umbra.GetRestoreComponents", .call = get_restore_components },
	{ .name = "io.umbra.PostRestore", .start = coord_restore_post },
	{ 0 },
};
