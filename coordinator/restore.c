/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/restore.h"

#include "coordinator/client/client.h"
#include "coordinator/client/document.h"
#include "coordinator/client/texts.h"
#include "coordinator/session_private.h"
#include "cow/base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(*(a)))
#define LIST_MAX 10000 /* entries that one component may get */

struct coord_restore {
	struct coord *core;
	size_t counted;	   /* our share of core->restore_bytes */
	json_t *backup;	   /* the backup document */
	json_t *documents; /* instance id in it -> writer document */
};

void coord_restore_free(struct coord_restore *r)
{
	if (!r)
		return;
	r->core->restore_bytes -= r->counted;
	json_decref(r->backup);
	json_decref(r->documents);
	free(r);
}
DEFINE_CLEANUP(restore_free_p, struct coord_restore *, coord_restore_free)

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

/* ---- the documents ---- */

static enum umbra_error read_failed(int r, const char *what, const char *problem,
				    struct coord_failure *f)
{
	return coord_fail(f, r == -EBADMSG ? UMBRA_E_CORRUPT_DOCUMENT : UMBRA_E_INVALID_DOCUMENT,
			  "%s: %s", what, problem);
}

/* One that belongs to no writer of the backup document is not looked at. */
static enum umbra_error read_writer_document(struct coord_restore *r, const char *text,
					     struct coord_failure *f)
{
	const char *problem;
	json_t *document;
	int e = umbra_document_read_writer(text ? text : "", &document, &problem);

	if (e < 0)
		return read_failed(e, "a writer document", problem, f);
	if (json_object_set_new(r->documents, text_of(document, "instance_id"), document) < 0)
		return coord_no_memory(f);
	return UMBRA_OK;
}

/* what has components has a document. */
static const char *lacks_document(const struct coord_restore *r)
{
	const json_t *writer;
	size_t i;

	json_array_foreach(json_object_get(r->backup, "writers"), i, writer)
		if (json_array_size(json_object_get(writer, "components")) > 0 &&
		    !json_object_get(r->documents, text_of(writer, "instance_id")))
			return text_of(writer, "instance_id");
	return NULL;
}

static enum umbra_error read_documents(struct coord_restore *r, const char *document,
				       const json_t *writer_documents, struct coord_failure *f)
{
	const char *problem, *lacking;
	const json_t *text;
	enum umbra_error e;
	size_t i;
	int n = umbra_document_read_backup(document, &r->backup, &problem);

	if (n < 0)
		return read_failed(n, "the backup document", problem, f);
	r->documents = json_object();
	json_array_foreach((json_t *)writer_documents, i, text) {
		e = read_writer_document(r, json_string_value(text), f);
		if (e != UMBRA_OK)
			return e;
	}
	lacking = lacks_document(r);
	if (lacking)
		return coord_fail(f, UMBRA_E_INVALID_DOCUMENT,
				  "the document of writer %.36s is missing", lacking);
	return UMBRA_OK;
}

static size_t total_bytes(const char *document, const json_t *writer_documents)
{
	size_t bytes = strlen(document), i;
	const json_t *text;

	json_array_foreach((json_t *)writer_documents, i, text)
		bytes += json_string_length(text);
	return bytes;
}

/* S-12: sessions may be many, and each keeps its documents. Those that anybody may have are bounded by
 * the number of connections; longer ones share what there is. */
static enum umbra_error count_documents(struct coord_restore *r, size_t bytes,
					struct coord_failure *f)
{
	if (bytes <= UMBRA_DOCUMENTS_MAX_USER)
		return UMBRA_OK;
	if (bytes > COORD_RESTORE_BYTES_MAX - r->core->restore_bytes)
		return coord_fail(f, UMBRA_E_OUT_OF_MEMORY,
				  "other restores have %zu MiB of documents here, try again later",
				  r->core->restore_bytes >> 20);
	r->core->restore_bytes += bytes;
	r->counted = bytes;
	return UMBRA_OK;
}

enum umbra_error coord_restore_initialize(struct coord_session *s, const char *document,
					  const json_t *writer_documents, struct coord_failure *f)
{
	enum umbra_error e = coord_session_may_begin(s, CALL_INITIALIZE_FOR_RESTORE, f);
	CLEANUP(restore_free_p) struct coord_restore *r = NULL;

	if (e != UMBRA_OK)
		return e;
	r = calloc(1, sizeof(*r));
	if (!r)
		return coord_no_memory(f);
	r->core = s->core;
	e = count_documents(r, total_bytes(document, writer_documents), f);
	if (e == UMBRA_OK)
		e = read_documents(r, document, writer_documents, f);
	if (e != UMBRA_OK)
		return e;
	s->restore = TAKE(r);
	s->state = SESSION_R_READY;
	return UMBRA_OK;
}

/* ---- who is who ---- */

static bool same_kind(const json_t *a, const char *class_id, const char *instance_name)
{
	return strcmp(text_of(a, "class_id"), class_id) == 0 &&
	       strcmp(text_of(a, "instance_name"), instance_name ? instance_name : "") == 0;
}

static struct coord_participant *nth_of_kind(struct coord_party *party, const json_t *writer,
					     size_t n)
{
	struct coord_participant *pt;

	for (pt = party ? coord_party_first(party) : NULL; pt; pt = coord_participant_next(pt)) {
		const struct coord_writer_info *info = coord_participant_info(pt);

		if (!coord_participant_identified(pt) ||
		    !same_kind(writer, info->class_id, info->instance_name))
			continue;
		if (n-- == 0)
			return pt;
	}
	return NULL;
}

/* The instance of this session for the backup's writer at that place; NULL: none. It may be lost. */
static struct coord_participant *stand_in(const struct coord_session *s, size_t at)
{
	const json_t *writers = json_object_get(s->restore->backup, "writers");
	const json_t *writer = json_array_get(writers, at);
	size_t before = 0;

	for (size_t i = 0; i < at; i++)
		before += same_kind(json_array_get(writers, i), text_of(writer, "class_id"),
				    text_of(writer, "instance_name"));
	return nth_of_kind(s->party, writer, before);
}

/* What a call is about. */
struct subject {
	json_t *writer;		      /* of the backup document */
	const json_t *document;	      /* the writer's own, of the backup */
	struct coord_participant *pt; /* NULL: nobody stands for it */
	json_t *explicit;	      /* of the backup document; NULL: no such component */
	json_t *selected;	      /* NULL: it is not */
};

static bool find(const struct coord_session *s, const struct coord_restore_name *c,
		 struct subject *ret)
{
	json_t *writers = json_object_get(s->restore->backup, "writers"), *writer;
	size_t i;

	json_array_foreach(writers, i, writer) {
		struct coord_participant *pt = stand_in(s, i);

		if (strcmp(text_of(writer, "instance_id"), c->instance_id) != 0 &&
		    (!pt || strcmp(coord_participant_id(pt), c->instance_id) != 0))
			continue;
		*ret = (struct subject){
			.writer = writer,
			.document = json_object_get(s->restore->documents,
						    text_of(writer, "instance_id")),
			.pt = pt,
			.explicit = coord_session_component(json_object_get(writer, "components"),
							    c->logical_path, c->name),
			.selected = pt ? coord_session_component(coord_participant_components(pt),
								 c->logical_path, c->name)
				       : NULL,
		};
		return true;
	}
	return false;
}

/* The call is allowed, and about a component that is selected. */
static enum umbra_error about_selected(struct coord_session *s, enum coord_call call,
				       const struct coord_restore_name *c, struct subject *ret,
				       struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, call, f);

	if (e != UMBRA_OK)
		return e;
	if (!find(s, c, ret) || !ret->selected)
		return coord_fail(f, UMBRA_E_OBJECT_NOT_FOUND,
				  "that component is not selected for restore");
	return UMBRA_OK;
}

static enum umbra_error set_member(json_t *object, const char *key, json_t *value,
				   struct coord_failure *f)
{
	return json_object_set_new(object, key, value) < 0 ? coord_no_memory(f) : UMBRA_OK;
}

/* ---- what is restored ---- */

static void unselect(const struct subject *of)
{
	json_t *list = coord_participant_components(of->pt);

	for (size_t i = 0; i < json_array_size(list); i++)
		if (json_array_get(list, i) == of->selected) {
			json_array_remove(list, i);
			return;
		}
}

enum umbra_error coord_restore_select(struct coord_session *s, const struct coord_restore_name *c,
				      bool selected, struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, CALL_SET_SELECTED_FOR_RESTORE, f);
	static const char *const ours[] = { "options", "target", "directed", "selected" };
	struct subject of;
	json_t *copy, *own;

	if (e != UMBRA_OK)
		return e;
	if (!find(s, c, &of) || !of.explicit)
		return coord_fail(f, UMBRA_E_OBJECT_NOT_FOUND,
				  "the backup document has no such explicit component");
	if (!of.pt || !coord_participant_alive(of.pt))
		return coord_fail(f, UMBRA_E_OBJECT_NOT_FOUND,
				  "the writer of that component is not there");
	if (of.selected && !selected)
		unselect(&of);
	if (of.selected || !selected)
		return UMBRA_OK;
	copy = json_copy(of.explicit);
	own = json_pack("{s:[], s:[], s:[], s:s, s:b}", "subcomponents", "new_targets",
			"alternate_mappings", "file_restore_status", "undefined",
			"additional_restores", 0);
	if (!copy || !own || json_object_update(copy, own) < 0) {
		json_decref(copy);
		copy = NULL;
	}
	json_decref(own);
	for (size_t i = 0; i < COUNT(ours); i++) /* whatever the text of the document had there */
		json_object_del(copy, ours[i]);
	if (!copy || json_array_append_new(coord_participant_components(of.pt), copy) < 0)
		return coord_no_memory(f);
	return UMBRA_OK;
}

enum umbra_error coord_restore_add_subcomponent(struct coord_session *s,
						const struct coord_restore_name *c,
						const char *logical_path, const char *name,
						struct coord_failure *f)
{
	struct subject of;
	enum umbra_error e = about_selected(s, CALL_ADD_RESTORE_SUBCOMPONENT, c, &of, f);
	const json_t *component;
	json_t *list;

	if (e != UMBRA_OK)
		return e;
	component = umbra_document_component(of.document, logical_path, name);
	if (!component || !umbra_document_is_below(of.explicit, logical_path))
		return coord_fail(f, UMBRA_E_OBJECT_NOT_FOUND, "component %s has no such part",
				  c->name);
	if (!umbra_document_selectable_for_restore(component)) /* */
		return coord_fail(f, UMBRA_E_INVALID_ARGUMENT,
				  "component %s cannot be restored by itself", name);
	list = json_object_get(of.selected, "subcomponents");
	if (coord_session_component(list, logical_path, name))
		return coord_fail(f, UMBRA_E_OBJECT_ALREADY_EXISTS,
				  "component %s was added already", name);
	if (json_array_append_new(list, json_pack("{s:s, s:s}", "logical_path", logical_path,
						  "name", name)) < 0)
		return coord_no_memory(f);
	return UMBRA_OK;
}

enum umbra_error coord_restore_set_options(struct coord_session *s,
					   const struct coord_restore_name *c, const char *options,
					   struct coord_failure *f)
{
	struct subject of;
	enum umbra_error e = about_selected(s, CALL_SET_RESTORE_OPTIONS, c, &of, f);

	return e == UMBRA_OK ? set_member(of.selected, "options", json_string(options), f) : e;
}

/* A directory may be written with slashes at its end. */
static bool same_directory(const char *a, const char *b)
{
	size_t la = a ? strlen(a) : 0, lb = strlen(b);

	while (la > 1 && a[la - 1] == '/')
		la--;
	while (lb > 1 && b[lb - 1] == '/')
		lb--;
	return a && la == lb && strncmp(a, b, la) == 0;
}

/* M-4: directory, pattern and flag are those of a file set of the component, or of one below it. */
static bool names_file_set(const struct subject *of, const struct coord_restore_move *move)
{
	const json_t *component, *set;
	size_t i, j;

	json_array_foreach(json_object_get(of->document, "components"), i, component) {
		bool self = strcmp(text_of(component, "logical_path"),
				   text_of(of->explicit, "logical_path")) == 0 &&
			    strcmp(text_of(component, "name"), text_of(of->explicit, "name")) == 0;

		if (!self &&
		    !umbra_document_is_below(of->explicit, text_of(component, "logical_path")))
			continue;
		json_array_foreach(json_object_get(component, "file_sets"), j, set) {
			CLEANUP(free_p) char *path = umbra_json_get_path(set, "path");

			if (same_directory(path, move->path) &&
			    strcmp(text_of(set, "pattern"), move->pattern) == 0 &&
			    json_is_true(json_object_get(set, "recursive")) == move->recursive)
				return true;
		}
	}
	return false;
}

/* Room for one more, and of a file set there is. */
static enum umbra_error add_move(const struct subject *of, const char *key,
				 const struct coord_restore_move *move, struct coord_failure *f)
{
	json_t *list = json_object_get(of->selected, key), *one;

	if (!names_file_set(of, move))
		return coord_fail(f, UMBRA_E_OBJECT_NOT_FOUND,
				  "the component has no file set of that path, pattern and depth");
	if (json_array_size(list) >= LIST_MAX)
		return coord_fail(f, UMBRA_E_INVALID_ARGUMENT, "more than %d are too many",
				  LIST_MAX);
	one = json_pack("{s:s, s:b}", "pattern", move->pattern, "recursive", move->recursive);
	if (!one || umbra_json_set_path(one, "path", move->path) < 0 ||
	    umbra_json_set_path(one, "destination", move->destination) < 0) {
		json_decref(one);
		return coord_no_memory(f);
	}
	return json_array_append_new(list, one) < 0 ? coord_no_memory(f) : UMBRA_OK;
}

enum umbra_error coord_restore_add_target(struct coord_session *s,
					  const struct coord_restore_name *c,
					  const struct coord_restore_move *move,
					  struct coord_failure *f)
{
	struct subject of;
	enum umbra_error e = about_selected(s, CALL_ADD_NEW_TARGET, c, &of, f);

	return e == UMBRA_OK ? add_move(&of, "new_targets", move, f) : e;
}

/* ---- what became of it ---- */

enum umbra_error coord_restore_set_status(struct coord_session *s,
					  const struct coord_restore_name *c, const char *status,
					  struct coord_failure *f)
{
	static const char *const words[] = { "none", "all", "failed", "undefined" }; /* */
	struct subject of;
	enum umbra_error e = about_selected(s, CALL_SET_FILE_RESTORE_STATUS, c, &of, f);

	if (e != UMBRA_OK)
		return e;
	for (size_t i = 0; i < COUNT(words); i++)
		if (strcmp(words[i], status) == 0)
			return set_member(of.selected, "file_restore_status", json_string(status),
					  f);
	return coord_fail(f, UMBRA_E_INVALID_ARGUMENT,
			  "the status of a restore is none, all, failed or undefined");
}

enum umbra_error coord_restore_set_additional(struct coord_session *s,
					      const struct coord_restore_name *c, bool additional,
					      struct coord_failure *f)
{
	struct subject of;
	enum umbra_error e = about_selected(s, CALL_SET_ADDITIONAL_RESTORES, c, &of, f);

	return e == UMBRA_OK
		       ? set_member(of.selected, "additional_restores", json_boolean(additional), f)
		       : e;
}

enum umbra_error coord_restore_add_mapping(struct coord_session *s,
					   const struct coord_restore_name *c,
					   const struct coord_restore_move *move,
					   struct coord_failure *f)
{
	struct subject of;
	enum umbra_error e = about_selected(s, CALL_ADD_ALTERNATE_MAPPING, c, &of, f);

	return e == UMBRA_OK ? add_move(&of, "alternate_mappings", move, f) : e;
}

/* ---- listing ---- */

static json_t *list_components(const json_t *writer, struct coord_participant *pt)
{
	json_t *list = json_array(), *component, *selected, *row;
	size_t i;

	json_array_foreach(json_object_get(writer, "components"), i, component) {
		selected = pt ? coord_session_component(coord_participant_components(pt),
							text_of(component, "logical_path"),
							text_of(component, "name"))
			      : NULL;
		row = json_copy(selected ? selected : component);
		if (!row || json_object_set_new(row, "selected", json_boolean(selected)) < 0 ||
		    json_array_append(list, row) < 0) {
			json_decref(row);
			json_decref(list);
			return NULL;
		}
		json_decref(row);
	}
	return list;
}

static json_t *writer_row(const json_t *writer, struct coord_participant *pt)
{
	bool alive = pt && coord_participant_alive(pt);
	json_t *metadata = pt ? coord_participant_metadata(pt) : NULL;

	return json_pack("{s:s, s:s?, s:s, s:s, s:s?, s:O?, s:o}", "instance_id",
			 text_of(writer, "instance_id"), "present_instance_id",
			 alive ? coord_participant_id(pt) : NULL, "class_id",
			 text_of(writer, "class_id"), "name", text_of(writer, "name"),
			 "instance_name",
			 json_string_value(json_object_get(writer, "instance_name")), "metadata",
			 metadata ? metadata : json_object_get(writer, "metadata"), "components",
			 list_components(writer, pt));
}

enum umbra_error coord_restore_components(struct coord_session *s, json_t **ret,
					  struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, CALL_GET_RESTORE_COMPONENTS, f);
	json_t *list, *writer;
	size_t i;

	if (e != UMBRA_OK)
		return e;
	list = json_array();
	json_array_foreach(json_object_get(s->restore->backup, "writers"), i, writer)
		if (json_array_append_new(list, writer_row(writer, stand_in(s, i))) < 0) {
			json_decref(list);
			return coord_no_memory(f);
		}
	*ret = list;
	return list ? UMBRA_OK : coord_no_memory(f);
}

/* ---- PreRestore and PostRestore ---- */

/* Of the selected components: `none` and `failed` are files that could not be replaced. */
static bool replace_failed(struct coord_participant *pt)
{
	json_t *component;
	size_t i;

	json_array_foreach(coord_participant_components(pt), i, component) {
		const char *status = text_of(component, "file_restore_status");

		if (strcmp(status, "none") == 0 || strcmp(status, "failed") == 0)
			return true;
	}
	return false;
}

/* A document that does not say so wants to be called. */
static unsigned wanted_events(const struct coord_session *s, const json_t *writer,
			      struct coord_participant *pt)
{
	const json_t *document = json_object_get(s->restore->documents,
						 text_of(writer, "instance_id"));
	const char *wish = text_of(json_object_get(document, "restore_method"), "writer_restore");

	if (strcmp(wish, "never") == 0)
		return 0;
	if (strcmp(wish, "if-replace-fails") == 0 && !replace_failed(pt))
		return 1u << EVENT_PRE_RESTORE;
	return 1u << EVENT_PRE_RESTORE | 1u << EVENT_POST_RESTORE;
}

static void on_done(void *data)
{
	coord_session_end_operation(data, NULL);
}

static enum umbra_error send(struct coord_session *s, enum coord_call call,
			     enum coord_writer_event event, enum coord_session_state next,
			     struct coord_operation **ret, struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, call, f);
	struct coord_participant *pt;
	json_t *writer;
	size_t i;

	if (e != UMBRA_OK)
		return e;
	*ret = coord_session_begin_operation(s, call, f);
	if (!*ret)
		return f->error;
	s->state = next;
	json_array_foreach(json_object_get(s->restore->backup, "writers"), i, writer) {
		pt = stand_in(s, i);
		if (pt)
			coord_participant_restore(pt, writer, wanted_events(s, writer, pt));
	}
	if (!coord_party_restore(s->party, event, on_done, s))
		on_done(s);
	return UMBRA_OK;
}

enum umbra_error coord_restore_pre(struct coord_session *s, struct coord_operation **ret,
				   struct coord_failure *f)
{
	return send(s, CALL_PRE_RESTORE, EVENT_PRE_RESTORE, SESSION_PRE_RESTORED, ret, f);
}

enum umbra_error coord_restore_post(struct coord_session *s, struct coord_operation **ret,
				    struct coord_failure *f)
{
	return send(s, CALL_POST_RESTORE, EVENT_POST_RESTORE, SESSION_POST_RESTORED, ret, f);
}
