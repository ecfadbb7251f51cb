/* Documents that writers and requesters hand in (coordinator/client/document.h, coordinator/restore.h,
 * coordinator/targets.h, coordinator/extra.h): what is taken is what the rest of the coordinator relies on.
 * Input: texts separated by a NUL: the first is read as a writer document, as a backup document and as what
 * is kept with a snapshot; together they begin a restore: one backup document, then writer documents. */
#include "coordinator/client/document.h"
#include "coordinator/core.h"
#include "coordinator/extra.h"
#include "coordinator/restore.h"
#include "coordinator/targets.h"
#include "cow/base/log.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(what)                                                                                 \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                 \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static const char *path_of(const json_t *component)
{
	const char *path = json_string_value(json_object_get(component, "logical_path"));

	return path ? path : "";
}

static const char *name_of(const json_t *component)
{
	return json_string_value(json_object_get(component, "name"));
}

/* M-1, M-2, M-5 of one that was found to be right. */
static void use_writer_document(const json_t *document)
{
	const json_t *components = json_object_get(document, "components"), *component;
	bool any = false;
	size_t i;

	MUST(json_array_size(components) > 0);
	json_array_foreach(components, i, component) {
		const char *path = path_of(component), *name = name_of(component);

		MUST(name && name[0]);
		MUST(umbra_document_component(document, path, name) == component);
		any |= umbra_document_may_add(document, path, name);
		(void)umbra_document_selectable_for_restore(component);
		(void)umbra_document_is_below(component, path);
	}
	/* What has nothing selectable above it can be added: there is always such a one. */
	MUST(any);
	MUST(!umbra_document_may_add(document, "", "no such component"));
}

static void read_one(const char *text)
{
	json_t *document = NULL, *rows = json_pack("[{s:s}]", "name", "a writer");
	char *extra = NULL;
	const char *problem = NULL;
	int r = umbra_document_read_writer(text, &document, &problem);

	MUST(r == 0 ? document && !problem : !document && problem);
	if (r == 0)
		use_writer_document(document);
	json_decref(document);
	document = NULL;
	r = umbra_document_read_backup(text, &document, &problem);
	MUST(r == 0 ? document && !problem : !document && problem);
	json_decref(document);
	MUST(coord_extra_add_writers(text, rows, &extra) == 0 && extra);
	document = coord_extra_parse(extra);
	MUST(json_is_object(document));
	json_decref(document);
	document = json_loads(text, JSON_DECODE_ANY, NULL);
	if (document) { /* without reading it from a text: Identify, PreRestore */
		if (!umbra_document_writer_problem(document))
			use_writer_document(document);
		if (!coord_targets_problem(rows, document))
			MUST(coord_targets_apply(rows, document) == 0);
	}
	json_decref(document);
	json_decref(rows);
	free(extra);
}

static uint64_t no_time(void *data)
{
	(void)data;
	return 1;
}

/* Everything that can be asked about a restore without a writer there. */
static void use_restore(struct coord_session *s)
{
	struct coord_operation *op;
	struct coord_failure f;
	json_t *list = NULL, *writer, *component;
	size_t i, j;

	MUST(coord_session_gather_metadata(s, &op, &f) == UMBRA_OK);
	MUST(coord_restore_components(s, &list, &f) == UMBRA_OK);
	json_array_foreach(list, i, writer)
		json_array_foreach(json_object_get(writer, "components"), j, component) {
			struct coord_restore_name c = {
				json_string_value(json_object_get(writer, "instance_id")),
				path_of(component),
				name_of(component),
			};

			MUST(coord_restore_select(s, &c, true, &f) == UMBRA_E_OBJECT_NOT_FOUND);
		}
	json_decref(list);
	MUST(coord_restore_pre(s, &op, &f) == UMBRA_OK);
	MUST(coord_restore_post(s, &op, &f) == UMBRA_OK);
}

static void restore_all(const char *backup, const json_t *writers)
{
	struct coord core;
	struct coord_session *s;
	struct coord_failure f;
	enum umbra_error e;

	coord_core_init(&core);
	coord_timers_init(&core.timers, no_time, NULL);
	s = coord_session_new(&core, 1, 0, true);
	MUST(s);
	e = coord_restore_initialize(s, backup, writers, &f);
	MUST(e == UMBRA_OK || e == UMBRA_E_INVALID_DOCUMENT || e == UMBRA_E_CORRUPT_DOCUMENT);
	MUST((e == UMBRA_OK) == (s->state == SESSION_R_READY));
	if (e == UMBRA_OK)
		use_restore(s);
	coord_session_leave(s);
	coord_core_done(&core);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *end = text + size, *at;
	json_t *writers = json_array();

	log_set_level(LOG_LEVEL_ERROR);
	memcpy(text, data, size);
	*end = 0;
	read_one(text);
	for (at = text + strlen(text) + 1; at < end; at += strlen(at) + 1)
		json_array_append_new(writers, json_string(at)); /* not UTF-8: none */
	restore_all(text, writers);
	json_decref(writers);
	free(text);
	return 0;
}
