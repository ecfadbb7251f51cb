/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A restore (protocol 8). A row of its list is a component's object with what is said of its writer. */
#include "coordinator/client/requester_private.h"

#include "coordinator/client/documents.h"
#include "cow/base/cleanup.h"
#include "cow/base/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

DEFINE_CLEANUP(json_decref_p, json_t *, json_decref)

static enum umbra_error no_memory(struct umbra_requester *r)
{
	return requester_fail(r, UMBRA_E_OUT_OF_MEMORY, "out of memory");
}

/* ---- the documents ---- */

enum umbra_error umbra_requester_save_document(struct umbra_requester *r,
					       struct umbra_documents **ret)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	CLEANUP(close_p) int fd = -1;
	enum umbra_error e = requester_call_fd(r, "SaveDocument",
					       json_pack("{s:b}", "descriptor", 1), -1, &answer,
					       &fd);
	int n;

	if (e != UMBRA_OK)
		return e;
	n = umbra_documents_from_answer(answer, fd, ret);
	if (n == -ENOMEM)
		return no_memory(r);
	return n == 0 ? UMBRA_OK
		      : requester_fail(r, UMBRA_E_UNEXPECTED,
				       "the coordinator's answer lacks the documents");
}

static enum umbra_error cannot_send(struct umbra_requester *r, int e)
{
	char text[128];

	if (e == -EMSGSIZE || e == -EINVAL)
		return requester_fail(r, UMBRA_E_INVALID_ARGUMENT,
				      "there are more documents than a restore takes (64 MiB)");
	snprintf(text, sizeof(text), "the documents cannot be handed over: %s", err_text(e));
	return requester_fail(r, UMBRA_E_OUT_OF_MEMORY, text);
}

enum umbra_error umbra_requester_initialize_for_restore(struct umbra_requester *r,
							const struct umbra_documents *documents)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	CLEANUP(close_p) int fd = -1;
	enum umbra_error e;
	int n = umbra_documents_to_fd(documents, &fd);

	if (n < 0)
		return cannot_send(r, n);
	e = requester_call_fd(r, "InitializeForRestore", json_object(), fd, &answer, NULL);
	return e == UMBRA_OK ? requester_id(r, answer, "session_id", r->session_id) : e;
}

/* ---- calls about one component ---- */

/* NULL: something is not UTF-8. */
static json_t *component(const char *instance_id, const char *logical_path, const char *name)
{
	return json_pack("{s:s, s:s?, s:s}", "instance_id", instance_id, "logical_path",
			 logical_path, "name", name);
}

/* Takes value; NULL: not UTF-8. */
static enum umbra_error call_with(struct umbra_requester *r, const char *method, json_t *params,
				  const char *key, json_t *value)
{
	if (json_object_set_new(params, key, value) < 0) {
		json_decref(params);
		params = NULL;
	}
	return requester_call(r, method, params, NULL);
}

enum umbra_error umbra_requester_set_selected_for_restore(struct umbra_requester *r,
							  const char *instance_id,
							  const char *logical_path,
							  const char *name, bool selected)
{
	return call_with(r, "SetSelectedForRestore", component(instance_id, logical_path, name),
			 "selected", json_boolean(selected));
}

enum umbra_error umbra_requester_add_restore_subcomponent(
	struct umbra_requester *r, const char *instance_id, const char *logical_path,
	const char *name, const char *sub_logical_path, const char *sub_name)
{
	return requester_call(r, "AddRestoreSubcomponent",
			      json_pack("{s:s, s:s?, s:s, s:s?, s:s}", "instance_id", instance_id,
					"logical_path", logical_path, "name", name,
					"sub_logical_path", sub_logical_path, "sub_name", sub_name),
			      NULL);
}

enum umbra_error umbra_requester_set_restore_options(struct umbra_requester *r,
						     const char *instance_id,
						     const char *logical_path, const char *name,
						     const char *options)
{
	return call_with(r, "SetRestoreOptions", component(instance_id, logical_path, name),
			 "options", json_string(options));
}

/* The paths go as they are: what is below them decides nothing here. */
static enum umbra_error add_move(struct umbra_requester *r, const char *method, json_t *params,
				 const char *path, const char *pattern, bool recursive,
				 const char *destination)
{
	if (params && (umbra_json_set_path(params, "path", path) < 0 ||
		       umbra_json_set_path(params, "destination", destination) < 0)) {
		json_decref(params);
		return no_memory(r);
	}
	if (json_object_set_new(params, "recursive", json_boolean(recursive)) < 0) {
		json_decref(params);
		params = NULL;
	}
	return call_with(r, method, params, "pattern", json_string(pattern));
}

enum umbra_error umbra_requester_add_new_target(struct umbra_requester *r, const char *instance_id,
						const char *logical_path, const char *name,
						const char *path, const char *pattern,
						bool recursive, const char *destination)
{
	return add_move(r, "AddNewTarget", component(instance_id, logical_path, name), path,
			pattern, recursive, destination);
}

enum umbra_error umbra_requester_add_alternate_mapping(struct umbra_requester *r,
						       const char *instance_id,
						       const char *logical_path, const char *name,
						       const char *path, const char *pattern,
						       bool recursive, const char *destination)
{
	return add_move(r, "AddAlternateMapping", component(instance_id, logical_path, name), path,
			pattern, recursive, destination);
}

enum umbra_error umbra_requester_set_file_restore_status(struct umbra_requester *r,
							 const char *instance_id,
							 const char *logical_path, const char *name,
							 enum umbra_restore_status status)
{
	static const char *const names[] = {
		[UMBRA_RESTORE_UNDEFINED] = "undefined",
		[UMBRA_RESTORE_NONE] = "none",
		[UMBRA_RESTORE_ALL] = "all",
		[UMBRA_RESTORE_FAILED] = "failed",
	};

	if ((unsigned)status >= sizeof(names) / sizeof(*names))
		return requester_fail(r, UMBRA_E_INVALID_ARGUMENT, "no such status");
	return call_with(r, "SetFileRestoreStatus", component(instance_id, logical_path, name),
			 "status", json_string(names[status]));
}

enum umbra_error umbra_requester_set_additional_restores(struct umbra_requester *r,
							 const char *instance_id,
							 const char *logical_path, const char *name,
							 bool additional)
{
	return call_with(r, "SetAdditionalRestores", component(instance_id, logical_path, name),
			 "additional", json_boolean(additional));
}

/* ---- what there is to restore ---- */

/* The text of a value that is JSON of somebody's own; absent and null stay so. */
static json_t *as_text(const json_t *value)
{
	CLEANUP(free_p) char *text = NULL;

	if (!value || json_is_null(value))
		return json_null();
	text = umbra_json_text(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
	return text ? json_string(text) : NULL;
}

/* What all rows of a writer have. NULL: no memory. */
static json_t *about_writer(const json_t *writer)
{
	return json_pack("{s:O*, s:O*, s:O*, s:O*, s:O*, s:o}", "instance_id",
			 json_object_get(writer, "instance_id"), "present_instance_id",
			 json_object_get(writer, "present_instance_id"), "class_id",
			 json_object_get(writer, "class_id"), "writer_name",
			 json_object_get(writer, "name"), "writer_instance_name",
			 json_object_get(writer, "instance_name"), "metadata",
			 as_text(json_object_get(writer, "metadata")));
}

static int add_row(json_t *list, const json_t *of_backup, json_t *common)
{
	CLEANUP(json_decref_p) json_t *row = json_copy((json_t *)of_backup);

	if (json_object_set_new(row, "directed", as_text(json_object_get(row, "directed"))) < 0 ||
	    json_object_update(row, common) < 0)
		return -ENOMEM;
	return json_array_append(list, row) < 0 ? -ENOMEM : 0;
}

static int add_rows(json_t *list, const json_t *writer)
{
	CLEANUP(json_decref_p) json_t *common = about_writer(writer);
	const json_t *one;
	size_t i;

	if (!common)
		return -ENOMEM;
	json_array_foreach(json_object_get(writer, "components"), i, one)
		if (json_is_object(one) && add_row(list, one, common) < 0)
			return -ENOMEM;
	return 0;
}

enum umbra_error umbra_requester_get_restore_components(struct umbra_requester *r,
							struct umbra_restore_components **ret)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	CLEANUP(json_decref_p) json_t *list = json_array();
	enum umbra_error e = requester_call(r, "GetRestoreComponents", json_object(), &answer);
	const json_t *writer;
	size_t i;

	if (e != UMBRA_OK)
		return e;
	json_array_foreach(json_object_get(answer, "writers"), i, writer)
		if (add_rows(list, writer) < 0)
			return no_memory(r);
	if (!list)
		return no_memory(r);
	*ret = (struct umbra_restore_components *)TAKE(list);
	return UMBRA_OK;
}

size_t umbra_restore_components_count(const struct umbra_restore_components *list)
{
	return json_array_size((const json_t *)list);
}

const struct umbra_restore_component *umbra_restore_components_get(
	const struct umbra_restore_components *list, size_t i)
{
	return (const struct umbra_restore_component *)json_array_get((const json_t *)list, i);
}

void umbra_restore_components_free(struct umbra_restore_components *list)
{
	json_decref((json_t *)list);
}

static const char *text(const void *row, const char *key)
{
	return json_string_value(json_object_get((const json_t *)row, key));
}

static const char *some_text(const void *row, const char *key)
{
	const char *value = text(row, key);

	return value ? value : "";
}

static bool flag(const void *row, const char *key)
{
	return json_is_true(json_object_get((const json_t *)row, key));
}

#define ROW(type, member, how)                                                                     \
	type umbra_restore_component_##member(const struct umbra_restore_component *c)             \
	{                                                                                          \
		return how(c, #member);                                                            \
	}

ROW(const char *, instance_id, some_text)
ROW(const char *, present_instance_id, text)
ROW(const char *, class_id, some_text)
ROW(const char *, writer_name, some_text)
ROW(const char *, writer_instance_name, text)
ROW(const char *, metadata, text)
ROW(const char *, logical_path, some_text)
ROW(const char *, name, some_text)
ROW(const char *, type, some_text)
ROW(bool, succeeded, flag)
ROW(bool, selected, flag)
ROW(const char *, options, text)
ROW(const char *, directed, text)
ROW(bool, additional_restores, flag)

const char *umbra_restore_component_target(const struct umbra_restore_component *c)
{
	const char *target = text(c, "target");

	return target ? target : "original"; /* */
}

enum umbra_restore_status umbra_restore_component_status(const struct umbra_restore_component *c)
{
	const char *status = some_text(c, "file_restore_status");

	return strcmp(status, "none") == 0     ? UMBRA_RESTORE_NONE
	       : strcmp(status, "all") == 0    ? UMBRA_RESTORE_ALL
	       : strcmp(status, "failed") == 0 ? UMBRA_RESTORE_FAILED
					       : UMBRA_RESTORE_UNDEFINED;
}

enum umbra_error umbra_requester_pre_restore(struct umbra_requester *r)
{
	return requester_run(r, UMBRA_CALL_PRE_RESTORE);
}

enum umbra_error umbra_requester_post_restore(struct umbra_requester *r)
{
	return requester_run(r, UMBRA_CALL_POST_RESTORE);
}
