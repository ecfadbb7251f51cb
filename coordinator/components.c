/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A session's choice of writers and components, and the backup document that tells of them (protocol 9). */
#include "coordinator/session_private.h"

#include "coordinator/client/document.h"
#include "coordinator/name.h"
#include "cow/base/cleanup.h"

#include <stdlib.h>
#include <string.h>

struct coord_party *coord_session_party(struct coord_session *s, struct coord_failure *f)
{
	if (!s->party)
		s->party = coord_party_new(s->core, s->id, s->privileged, s->uid);
	if (!s->party)
		coord_no_memory(f);
	return s->party;
}

enum umbra_error coord_session_enable_writer(struct coord_session *s, const char *id, bool enable,
					     struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, CALL_ENABLE_WRITER, f);

	if (e != UMBRA_OK)
		return e;
	if (!coord_session_party(s, f))
		return f->error;
	return coord_party_select(s->party, id, enable, f);
}

json_t *coord_session_component(const json_t *components, const char *logical_path,
				const char *name)
{
	json_t *one;
	size_t i;

	json_array_foreach((json_t *)components, i, one) {
		if (strcmp(json_string_value(json_object_get(one, "logical_path")), logical_path) ==
			    0 &&
		    strcmp(json_string_value(json_object_get(one, "name")), name) == 0)
			return one;
	}
	return NULL;
}

enum umbra_error coord_session_add_component(struct coord_session *s, const char *instance_id,
					     const char *logical_path, const char *name,
					     struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, CALL_ADD_COMPONENT, f);
	struct coord_participant *pt;
	const json_t *component;

	if (e != UMBRA_OK)
		return e;
	pt = coord_party_find(s->party, instance_id);
	component = pt ? umbra_document_component(coord_participant_document(pt), logical_path,
						  name)
		       : NULL;
	if (!component)
		return coord_fail(f, UMBRA_E_OBJECT_NOT_FOUND, "there is no such %s",
				  pt ? "component of that writer" : "writer in this session");
	if (!umbra_document_may_add(coord_participant_document(pt), logical_path, name))
		return coord_fail(
			f, UMBRA_E_INVALID_ARGUMENT,
			"component %s is not selectable: the one above it brings it in (M-5)",
			name);
	if (coord_session_component(coord_participant_components(pt), logical_path, name))
		return coord_fail(f, UMBRA_E_OBJECT_ALREADY_EXISTS,
				  "component %s was added already", name);
	if (json_array_append_new(coord_participant_components(pt),
				  json_pack("{s:s, s:s, s:O}", "logical_path", logical_path, "name",
					    name, "type", json_object_get(component, "type"))) < 0)
		return coord_no_memory(f);
	return UMBRA_OK;
}

static void mark_all(struct coord_session *s, bool succeeded)
{
	struct coord_participant *pt;
	json_t *one;
	size_t i;

	for (pt = s->party ? coord_party_first(s->party) : NULL; pt;
	     pt = coord_participant_next(pt)) {
		json_array_foreach(coord_participant_components(pt), i, one)
			json_object_set_new(one, "succeeded", json_boolean(succeeded));
	}
}

enum umbra_error coord_session_set_succeeded(struct coord_session *s, bool succeeded,
					     const char *instance_id, const char *logical_path,
					     const char *name, struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, CALL_SET_BACKUP_SUCCEEDED, f);
	struct coord_participant *pt;
	json_t *component = NULL;

	if (e != UMBRA_OK)
		return e;
	if (!instance_id) {
		mark_all(s, succeeded);
		return UMBRA_OK;
	}
	pt = s->party ? coord_party_find(s->party, instance_id) : NULL;
	if (pt)
		component = coord_session_component(coord_participant_components(pt), logical_path,
						    name);
	if (!component)
		return coord_fail(f, UMBRA_E_OBJECT_NOT_FOUND,
				  "that component was not added to the backup");
	json_object_set_new(component, "succeeded", json_boolean(succeeded));
	return UMBRA_OK;
}

/* M-5: who has one component in the backup must have those that nothing above them brings in. The name
 * of one that is missing, or NULL. */
static const char *missing_component(struct coord_participant *pt)
{
	const json_t *document = coord_participant_document(pt), *one;
	const json_t *added = coord_participant_components(pt);
	size_t i;

	if (json_array_size(added) == 0)
		return NULL;
	json_array_foreach(json_object_get(document, "components"), i, one) {
		const char *name = json_string_value(json_object_get(one, "name"));
		const char *path = json_string_value(json_object_get(one, "logical_path"));

		if (!umbra_document_selectable(one) &&
		    umbra_document_may_add(document, path ? path : "", name) &&
		    !coord_session_component(added, path ? path : "", name))
			return name;
	}
	return NULL;
}

enum umbra_error coord_session_check_components(const struct coord_session *s,
						struct coord_failure *f)
{
	struct coord_participant *pt;

	for (pt = coord_party_first(s->party); pt; pt = coord_participant_next(pt)) {
		const char *missing = missing_component(pt);

		if (missing)
			return coord_fail(f, UMBRA_E_INVALID_ARGUMENT,
					  "component %s of writer %s must be added too (M-5)",
					  missing, coord_participant_info(pt)->name);
	}
	return UMBRA_OK;
}

/* ---- the backup document (M-6) ---- */

static json_t *describe_writers(const struct coord_session *s)
{
	struct coord_participant *pt;
	json_t *list = json_array();

	for (pt = s->party ? coord_party_first(s->party) : NULL; pt;
	     pt = coord_participant_next(pt)) {
		const struct coord_writer_info *info = coord_participant_info(pt);

		if (!coord_participant_takes_part(pt))
			continue;
		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:s, s:s?, s:O, s:O?}", "class_id",
						info->class_id, "instance_id",
						coord_participant_id(pt), "name", info->name,
						"instance_name", info->instance_name, "components",
						coord_participant_components(pt), "metadata",
						coord_participant_metadata(pt)));
	}
	return list;
}

char *coord_session_document(const struct coord_session *s)
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:b, s:O, s:o}", "kind",
			      UMBRA_BACKUP_DOCUMENT, "version", UMBRA_DOCUMENT_VERSION,
			      "session_id", s->id, "set_id", s->set_id, "context",
			      coord_name_context(s->context), "backup_type", s->backup_type,
			      "component_mode", s->component_mode, "bootable_state",
			      s->bootable_state, "partial_files", s->partial_files, "snapshots",
			      s->snapshots, "writers", describe_writers(s));
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

	json_decref(o);
	return text;
}

/* M-1: a document says whose it is; a restore finds it by that. NULL: none, or no memory. */
static char *writer_document(const struct coord_participant *pt)
{
	const struct coord_writer_info *info = coord_participant_info(pt);
	json_t *o = json_pack("{s:s, s:s, s:s, s:s?, s:s, s:s}", "class_id", info->class_id,
			      "instance_id", coord_participant_id(pt), "name", info->name,
			      "instance_name", info->instance_name, "usage", info->usage, "source",
			      info->source);
	json_t *all = json_copy(coord_participant_document(pt));
	char *text = json_object_update(all, o) == 0 ? json_dumps(all, JSON_COMPACT) : NULL;

	json_decref(o);
	json_decref(all);
	return text;
}

static json_t *writer_documents(const struct coord_session *s)
{
	struct coord_participant *pt;
	json_t *list = json_array();

	for (pt = s->party ? coord_party_first(s->party) : NULL; pt;
	     pt = coord_participant_next(pt)) {
		char *text = coord_participant_takes_part(pt) && coord_participant_document(pt)
				     ? writer_document(pt)
				     : NULL;

		if (text)
			json_array_append_new(list, json_string(text));
		free(text);
	}
	return list;
}

enum umbra_error coord_session_save_document(struct coord_session *s, json_t **ret_document,
					     json_t **ret_writers, struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, CALL_SAVE_DOCUMENT, f);
	CLEANUP(free_p) char *text = NULL;

	if (e != UMBRA_OK)
		return e;
	if (!s->document)
		text = coord_session_document(s);
	*ret_document = json_string(s->document ? s->document : text ? text : "");
	*ret_writers = writer_documents(s);
	if ((s->document || text) && *ret_document && *ret_writers)
		return UMBRA_OK;
	json_decref(*ret_document);
	json_decref(*ret_writers);
	return coord_no_memory(f);
}
