/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots and writers. A list is the array that the coordinator sent, an element its object:
 * nobody else knows, since the types are never defined. Paths, and writers' documents, are made texts first. */
#include "coordinator/client/requester_private.h"

#include "cow/base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

DEFINE_CLEANUP(json_decref_p, json_t *, json_decref)

static const char *text(const void *object, const char *key)
{
	return json_string_value(json_object_get((const json_t *)object, key));
}

/* Members that are always there, from a coordinator that forgot one. */
static const char *some_text(const void *object, const char *key)
{
	const char *value = text(object, key);

	return value ? value : "";
}

static bool flag(const void *object, const char *key)
{
	return json_is_true(json_object_get((const json_t *)object, key));
}

/* Not below 0. */
static json_int_t number(const void *object, const char *key)
{
	json_int_t n = json_integer_value(json_object_get((const json_t *)object, key));

	return n > 0 ? n : 0;
}

static enum umbra_error no_memory(struct umbra_requester *r)
{
	return requester_fail(r, UMBRA_E_OUT_OF_MEMORY, "out of memory");
}

/* ---- making them ---- */

/* The exact bytes of a path in the place of its text. A path that makes no sense is absent. */
static bool settle_path(json_t *object, const char *key)
{
	CLEANUP(free_p) char *path = umbra_json_get_path(object, key);

	if (!path && errno == ENOMEM)
		return false;
	return json_object_set_new_nocheck(object, key,
					   path ? json_string_nocheck(path) : json_null()) == 0;
}

static bool settle_paths(json_t *list)
{
	json_t *one;
	size_t i;

	json_array_foreach(list, i, one)
		if (json_is_object(one) &&
		    (!settle_path(one, "tree_path") || !settle_path(one, "path") ||
		     !settle_path(one, "exposed_path") || !settle_path(one, "exposed_subdir")))
			return false;
	return true;
}

/* Hand a list out. `list` is borrowed; NULL or what is no array: an empty one. */
static json_t *list_of(json_t *list)
{
	return json_is_array(list) ? json_incref(list) : json_array();
}

static enum umbra_error give_snapshots(struct umbra_requester *r, json_t *list,
				       struct umbra_snapshots **ret)
{
	CLEANUP(json_decref_p) json_t *mine = list_of(list);

	if (!mine || !settle_paths(mine))
		return no_memory(r);
	*ret = (struct umbra_snapshots *)TAKE(mine);
	return UMBRA_OK;
}

/* That of an answer {snapshot}. */
static enum umbra_error give_snapshot(struct umbra_requester *r, const json_t *answer,
				      struct umbra_snapshots **ret)
{
	CLEANUP(json_decref_p) json_t *list = NULL;

	if (!json_is_object(json_object_get(answer, "snapshot")))
		return requester_fail(r, UMBRA_E_UNEXPECTED,
				      "the coordinator's answer lacks the snapshot");
	list = json_pack("[O]", json_object_get(answer, "snapshot"));
	return list ? give_snapshots(r, list, ret) : no_memory(r);
}

enum umbra_error umbra_requester_get_snapshot(struct umbra_requester *r, const char *snapshot_id,
					      struct umbra_snapshots **ret)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	enum umbra_error e = requester_call(r, "GetSnapshotProperties",
					    json_pack("{s:s}", "snapshot_id", snapshot_id),
					    &answer);

	return e == UMBRA_OK ? give_snapshot(r, answer, ret) : e;
}

/* From the snapshot's root on: nothing of ours to look it up in. */
static bool put_subdir(json_t *params, const char *subdir)
{
	return !subdir || umbra_json_set_path(params, "subdir", subdir) == 0;
}

enum umbra_error umbra_requester_expose(struct umbra_requester *r, const char *snapshot_id,
					const char *path, const char *subdir,
					struct umbra_snapshots **ret)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	json_t *params = json_pack("{s:s}", "snapshot_id", snapshot_id);
	enum umbra_error e;

	if (params &&
	    ((path && !requester_put_path(params, "path", path)) || !put_subdir(params, subdir))) {
		json_decref(params);
		return no_memory(r);
	}
	e = requester_call(r, "Expose", params, &answer);
	return e == UMBRA_OK && ret ? give_snapshot(r, answer, ret) : e;
}

enum umbra_error umbra_requester_unexpose(struct umbra_requester *r, const char *snapshot_id,
					  bool force)
{
	return requester_call(r, "Unexpose",
			      json_pack("{s:s, s:b}", "snapshot_id", snapshot_id, "force",
					(int)force),
			      NULL);
}

enum umbra_error umbra_requester_query(struct umbra_requester *r, const char *tree,
				       const char *snapshot_id, const char *set_id,
				       struct umbra_snapshots **ret)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	json_t *params = json_pack("{s:s?, s:s?}", "snapshot_id", snapshot_id, "set_id", set_id);
	enum umbra_error e;

	if (params && tree && !requester_put_path(params, "tree", tree)) {
		json_decref(params);
		return no_memory(r);
	}
	e = requester_call(r, "Query", params, &answer);
	return e == UMBRA_OK ? give_snapshots(r, json_object_get(answer, "snapshots"), ret) : e;
}

/* {writer, document} becomes the writer with its document as text. */
static json_t *flat_writer(const json_t *from)
{
	CLEANUP(json_decref_p) json_t *writer = json_copy(json_object_get(from, "writer"));
	const json_t *document = json_object_get(from, "document");
	CLEANUP(free_p) char *as_text = NULL;

	if (!json_is_object(writer))
		return NULL;
	if (!json_is_object(document))
		return TAKE(writer);
	as_text = umbra_json_text(document, JSON_INDENT(2));
	if (!as_text || json_object_set_new(writer, "document", json_string(as_text)) < 0)
		return NULL;
	return TAKE(writer);
}

enum umbra_error umbra_requester_get_writer_metadata(struct umbra_requester *r,
						     struct umbra_writers **ret)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	CLEANUP(json_decref_p) json_t *list = json_array();
	enum umbra_error e = requester_call(r, "GetWriterMetadata", json_object(), &answer);
	json_t *one;
	size_t i;

	if (e != UMBRA_OK)
		return e;
	json_array_foreach(json_object_get(answer, "writers"), i, one)
		if (json_array_append_new(list, flat_writer(one)) < 0)
			return no_memory(r);
	if (!list)
		return no_memory(r);
	*ret = (struct umbra_writers *)TAKE(list);
	return UMBRA_OK;
}

enum umbra_error umbra_requester_get_writer_status(struct umbra_requester *r,
						   struct umbra_writers **ret)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	enum umbra_error e = requester_call(r, "GetWriterStatus", json_object(), &answer);
	json_t *list = e == UMBRA_OK ? list_of(json_object_get(answer, "writers")) : NULL;

	if (e != UMBRA_OK)
		return e;
	if (!list)
		return no_memory(r);
	*ret = (struct umbra_writers *)list;
	return UMBRA_OK;
}

/* ---- reading them ---- */

#define LIST(name, element)                                                                        \
	size_t name##_count(const struct name *list)                                               \
	{                                                                                          \
		return json_array_size((const json_t *)list);                                      \
	}                                                                                          \
	const struct element *name##_get(const struct name *list, size_t i)                        \
	{                                                                                          \
		return (const struct element *)json_array_get((const json_t *)list, i);            \
	}                                                                                          \
	void name##_free(struct name *list)                                                        \
	{                                                                                          \
		json_decref((json_t *)list);                                                       \
	}

#define GETTER(type, element, prefix, member, how)                                                 \
	type prefix##_##member(const struct element *e)                                            \
	{                                                                                          \
		return (type)how(e, #member);                                                      \
	}

#define SNAPSHOT(type, member, how) GETTER(type, umbra_snapshot, umbra_snapshot, member, how)
#define WRITER(type, member, how) GETTER(type, umbra_writer_info, umbra_writer_info, member, how)
#define TEXT const char *

LIST(umbra_snapshots, umbra_snapshot)
SNAPSHOT(TEXT, id, some_text)
SNAPSHOT(TEXT, set_id, some_text)
SNAPSHOT(TEXT, tree_id, some_text)
SNAPSHOT(TEXT, tree_path, some_text)
SNAPSHOT(TEXT, context, some_text)
SNAPSHOT(TEXT, label, text)
SNAPSHOT(TEXT, description, text)
SNAPSHOT(TEXT, name, some_text)
SNAPSHOT(TEXT, path, text)
SNAPSHOT(TEXT, created, some_text)
SNAPSHOT(bool, persistent, flag)
SNAPSHOT(bool, auto_release, flag)
SNAPSHOT(unsigned, in_set, number)
SNAPSHOT(uint64_t, stored_bytes, number)
SNAPSHOT(uint64_t, changed_files, number)
SNAPSHOT(unsigned, in_use, number)
SNAPSHOT(bool, exposed_locally, flag)
SNAPSHOT(TEXT, exposed_path, text)
SNAPSHOT(TEXT, exposed_subdir, text)
SNAPSHOT(TEXT, exposed_problem, text)

LIST(umbra_writers, umbra_writer_info)
WRITER(TEXT, class_id, some_text)
WRITER(TEXT, instance_id, some_text)
WRITER(TEXT, name, some_text)
WRITER(TEXT, instance_name, text)
WRITER(TEXT, usage, text)
WRITER(TEXT, source, text)
WRITER(TEXT, level, text)
WRITER(TEXT, document, text)
WRITER(TEXT, session_id, text)
WRITER(TEXT, state, text)
WRITER(TEXT, error, text)
WRITER(TEXT, message, text)
WRITER(bool, aborted, flag)

int64_t umbra_writer_info_frozen_ms(const struct umbra_writer_info *w)
{
	const json_t *ms = json_object_get((const json_t *)w, "frozen_ms");

	return json_is_integer(ms) ? json_integer_value(ms) : -1;
}
