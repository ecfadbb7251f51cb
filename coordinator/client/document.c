/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/client/document.h"

#include "coordinator/client/client.h"
#include "cow/base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(*(a)))
#define COMPONENTS_MAX                                                                             \
	1000 /* checks compare each with all: a thousand is a moment, ten thousand is not */
#define NAME_BYTES_MAX 4096
#define WRITERS_MAX 1000
#define DEPTH_MAX 40 /* what a message of the coordinator has room for (wire.h) */

static const char *const methods[] = {
	/* */
	"restore-if-not-there",	       "restore-if-can-replace",
	"stop-restore-start",	       "restore-stop-start",
	"to-alternate-location",       "at-reboot",
	"at-reboot-if-cannot-replace", "custom",
};

static const char *const callings[] = { "never", "if-replace-fails", "always" }; /* */

static bool one_of(const char *const *list, size_t n, const char *text)
{
	for (size_t i = 0; text && i < n; i++)
		if (strcmp(list[i], text) == 0)
			return true;
	return false;
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

/* A missing flag has its default. */
static bool flag_of(const json_t *object, const char *key, bool absent)
{
	const json_t *flag = json_object_get(object, key);

	return flag ? json_is_true(flag) : absent;
}

static bool optional(const json_t *object, const char *key, json_type type)
{
	const json_t *value = json_object_get(object, key);

	if (!value || json_is_null(value))
		return true;
	if (type == JSON_TRUE)
		return json_is_boolean(value);
	return json_typeof(value) == type;
}

/* "1.7" is 1. Not a version: 0. */
static long major_version(const json_t *document)
{
	const char *text = text_of(document, "version");
	char *end;
	long major = strtol(text, &end, 10);

	return end != text && (*end == '.' || *end == 0) && major > 0 ? major : 0;
}

/* ---- file sets ---- */

static const char *file_set_problem(const json_t *set)
{
	CLEANUP(free_p) char *path = NULL;
	const char *pattern;

	if (!json_is_object(set))
		return "a file set is not an object";
	path = umbra_json_get_path(set, "path");
	if (!path || path[0] != '/')
		return "a file set needs an absolute path";
	pattern = json_string_value(json_object_get(set, "pattern"));
	if (!pattern || pattern[0] == 0)
		return "a file set needs a pattern";
	if (strchr(pattern, '/')) /* M-3 */
		return "the pattern of a file set has a directory part";
	if (!optional(set, "recursive", JSON_TRUE) ||
	    !optional(set, "alternate_path", JSON_STRING) ||
	    !optional(set, "backup_types", JSON_ARRAY))
		return "a member of a file set has a wrong type";
	return NULL;
}

static const char *file_sets_problem(const json_t *owner, const char *key)
{
	const json_t *list = json_object_get(owner, key), *set;
	size_t i;

	if (!list || json_is_null(list))
		return NULL;
	if (!json_is_array(list))
		return "file sets are not a list";
	json_array_foreach(list, i, set) {
		const char *problem = file_set_problem(set);

		if (problem)
			return problem;
	}
	return NULL;
}

/* Which file set it is, malloc'ed: paths may be any bytes, but the length says where one ends.
 * NULL: none, or out of memory. */
static char *file_set_key(const json_t *set)
{
	CLEANUP(free_p) char *path = umbra_json_get_path(set, "path");
	const char *pattern = text_of(set, "pattern");
	char *key;

	if (!path || asprintf(&key, "%d%zu %s%s", flag_of(set, "recursive", false), strlen(path),
			      path, pattern) < 0)
		return NULL;
	return key;
}

/* The keys of all file sets of all components; NULL: out of memory. */
static json_t *file_set_keys(const json_t *document)
{
	const json_t *components = json_object_get(document, "components"), *component, *set;
	json_t *keys = json_object();
	size_t i, j;

	json_array_foreach(components, i, component)
		json_array_foreach(json_object_get(component, "file_sets"), j, set) {
			CLEANUP(free_p) char *key = file_set_key(set);

			if (!key || json_object_set_new_nocheck(keys, key, json_true()) < 0) {
				json_decref(keys);
				return NULL;
			}
		}
	return keys;
}

static const char *mappings_problem(const json_t *document)
{
	const char *problem = file_sets_problem(document, "alternate_mappings");
	const json_t *mappings = json_object_get(document, "alternate_mappings"), *mapping;
	json_t *keys;
	size_t i;

	if (problem || json_array_size(mappings) == 0)
		return problem;
	keys = file_set_keys(document);
	if (!keys)
		return "there is not enough memory to check it";
	json_array_foreach(mappings, i, mapping) {
		CLEANUP(free_p) char *key = file_set_key(mapping);

		if (!key || !json_object_get(keys, key)) { /* M-4 */
			problem = "an alternate mapping repeats no file set";
			break;
		}
	}
	json_decref(keys);
	return problem;
}

/* ---- components ---- */

static bool is_component(const json_t *component, const char *logical_path, const char *name)
{
	return strcmp(text_of(component, "logical_path"), logical_path) == 0 &&
	       strcmp(text_of(component, "name"), name) == 0;
}

json_t *umbra_document_component(const json_t *document, const char *logical_path, const char *name)
{
	const json_t *components = json_object_get(document, "components");
	json_t *component;
	size_t i;

	json_array_foreach(components, i, component)
		if (is_component(component, logical_path, name))
			return component;
	return NULL;
}

static const char *dependencies_problem(const json_t *component)
{
	const json_t *list = json_object_get(component, "dependencies"), *one;
	size_t i;

	if (list && !json_is_array(list) && !json_is_null(list))
		return "the dependencies of a component are not a list";
	json_array_foreach(list, i, one)
		if (text_of(one, "class_id")[0] == 0 || text_of(one, "name")[0] == 0)
			return "a dependency needs class_id and name";
	return NULL;
}

/* M-2. Names have no slash, so the joined text is one component's alone. */
static const char *note_component(json_t *seen, const char *path, const char *name)
{
	CLEANUP(free_p) char *key = NULL;

	if (asprintf(&key, "%s/%s", path, name) < 0)
		return "there is not enough memory to check it";
	if (json_object_get(seen, key))
		return "two components have the same path and name";
	if (json_object_set_new(seen, key, json_true()) < 0)
		return "there is not enough memory to check it";
	return NULL;
}

/* Those met so far are in `seen`. */
static const char *component_problem(json_t *seen, const json_t *component)
{
	static const char *const types[] = { "database", "file-group" };
	const char *name = text_of(component, "name"), *path = text_of(component, "logical_path");
	const char *problem;

	if (!one_of(types, COUNT(types), text_of(component, "type")))
		return "the type of a component is database or file-group";
	if (name[0] == 0 || strlen(name) > NAME_BYTES_MAX || strlen(path) > NAME_BYTES_MAX)
		return "a component needs a name";
	if (strchr(name, '/'))
		return "the name of a component has a slash: that is for its logical path";
	if (!optional(component, "selectable_for_backup", JSON_TRUE) ||
	    !optional(component, "selectable_for_restore", JSON_TRUE) ||
	    !optional(component, "logical_path", JSON_STRING))
		return "a member of a component has a wrong type";
	problem = note_component(seen, path, name);
	if (!problem)
		problem = dependencies_problem(component);
	return problem ? problem : file_sets_problem(component, "file_sets");
}

static const char *components_problem(const json_t *document)
{
	const json_t *components = json_object_get(document, "components"), *component;
	const char *problem = NULL;
	json_t *seen;
	size_t i;

	if (!json_is_array(components) || json_array_size(components) == 0) /* M-1 */
		return "a writer document needs at least one component";
	if (json_array_size(components) > COMPONENTS_MAX)
		return "a writer document has more than 1000 components";
	seen = json_object();
	json_array_foreach(components, i, component) {
		problem = component_problem(seen, component);
		if (problem)
			break;
	}
	json_decref(seen);
	return problem;
}

static const char *restore_method_problem(const json_t *document)
{
	const json_t *method = json_object_get(document, "restore_method");
	const char *calling = json_string_value(json_object_get(method, "writer_restore"));

	if (!json_is_object(method))
		return "a writer document needs one restore_method"; /* M-1 */
	if (!one_of(methods, COUNT(methods), text_of(method, "method")))
		return "the restore method is none of those there are"; /* */
	if (calling && !one_of(callings, COUNT(callings), calling))
		return "writer_restore is never, if-replace-fails or always"; /* */
	if (strcmp(text_of(method, "method"), "to-alternate-location") == 0 &&
	    json_array_size(json_object_get(document, "alternate_mappings")) == 0)
		return "restoring to an alternate location needs alternate_mappings"; /* */
	return NULL;
}

const char *umbra_document_writer_problem(const json_t *document)
{
	const char *problem;

	if (!json_is_object(document))
		return "a writer document is an object";
	if (major_version(document) != 1) /* M-10 */
		return "the version of the writer document is not 1";
	problem = restore_method_problem(document);
	if (!problem)
		problem = components_problem(document);
	if (!problem)
		problem = file_sets_problem(document, "exclude_files");
	if (!problem)
		problem = file_sets_problem(document, "exclude_from_snapshot");
	return problem ? problem : mappings_problem(document);
}

/* Is `above` on the path to something at `logical_path`? */
static bool is_above(const json_t *above, const char *logical_path)
{
	const char *path = text_of(above, "logical_path"), *name = text_of(above, "name");
	size_t len = strlen(path), name_len = strlen(name);

	if (len > 0) {
		if (strncmp(logical_path, path, len) != 0 || logical_path[len] != '/')
			return false;
		logical_path += len + 1;
	}
	return strncmp(logical_path, name, name_len) == 0 &&
	       (logical_path[name_len] == 0 || logical_path[name_len] == '/');
}

bool umbra_document_is_below(const json_t *component, const char *logical_path)
{
	return is_above(component, logical_path);
}

bool umbra_document_selectable(const json_t *component)
{
	return flag_of(component, "selectable_for_backup", true);
}

bool umbra_document_may_add(const json_t *document, const char *logical_path, const char *name)
{
	const json_t *self = umbra_document_component(document, logical_path, name), *component;
	size_t i;

	if (!self)
		return false;
	json_array_foreach(json_object_get(document, "components"), i, component)
		if (umbra_document_selectable(component) && is_above(component, logical_path))
			return false;
	return true;
}

bool umbra_document_selectable_for_restore(const json_t *component)
{
	return flag_of(component, "selectable_for_restore", false);
}

/* ---- saved documents ---- */

static bool deeper_than(const json_t *value, int levels)
{
	const json_t *child;
	const char *key;
	size_t i;

	if (!json_is_object(value) && !json_is_array(value))
		return false;
	if (levels == 0)
		return true;
	json_object_foreach((json_t *)value, key, child)
		if (deeper_than(child, levels - 1))
			return true;
	json_array_foreach((json_t *)value, i, child)
		if (deeper_than(child, levels - 1))
			return true;
	return false;
}

static const char *explicit_components_problem(const json_t *writer)
{
	const json_t *components = json_object_get(writer, "components"), *component;
	const char *problem = NULL;
	json_t *seen;
	size_t i;

	if (!json_is_array(components))
		return "one of its writers has no components";
	seen = json_object();
	json_array_foreach(components, i, component) {
		const char *name = text_of(component, "name");

		if (name[0] == 0 || strchr(name, '/') ||
		    !json_is_string(json_object_get(component, "logical_path")))
			problem = "one of its components has no name or no logical path";
		else
			problem = note_component(seen, text_of(component, "logical_path"), name);
		if (problem)
			break;
	}
	json_decref(seen);
	return problem;
}

/* instance ids met so far are in `seen`. */
static const char *saved_writer_problem(json_t *seen, const json_t *writer)
{
	const char *id = text_of(writer, "instance_id");

	if (text_of(writer, "class_id")[0] == 0 || id[0] == 0)
		return "one of its writers has no class or no instance";
	if (json_object_get(seen, id))
		return "two of its writers have the same instance";
	if (json_object_set_new(seen, id, json_true()) < 0)
		return "there is not enough memory to check it";
	if (!optional(writer, "instance_name", JSON_STRING))
		return "a member of one of its writers has a wrong type";
	return explicit_components_problem(writer);
}

static const char *backup_problem(const json_t *document)
{
	const json_t *writers = json_object_get(document, "writers"), *writer;
	const char *problem = NULL;
	json_t *seen;
	size_t i;

	if (strcmp(text_of(document, "kind"), UMBRA_BACKUP_DOCUMENT) != 0)
		return "it is no backup document of Umbra";
	if (major_version(document) != 1)
		return "its version is not one that this Umbra reads";
	if (!json_is_array(writers))
		return "its list of writers is missing";
	if (json_array_size(writers) > WRITERS_MAX)
		return "it has more than 1000 writers";
	seen = json_object();
	json_array_foreach(writers, i, writer) {
		problem = saved_writer_problem(seen, writer);
		if (problem)
			break;
	}
	json_decref(seen);
	return problem;
}

static const char *writer_problem(const json_t *document)
{
	const char *problem = umbra_document_writer_problem(document);

	if (!problem && text_of(document, "instance_id")[0] == 0)
		problem = "it does not say which writer it is of";
	return problem;
}

static int read_saved(const char *text, const char *(*find_problem)(const json_t *document),
		      json_t **ret, const char **ret_problem)
{
	json_t *document = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

	if (!document) {
		*ret_problem = "it is damaged: not JSON";
		return -EBADMSG;
	}
	*ret_problem = deeper_than(document, DEPTH_MAX) ? "it is nested too deep"
							: find_problem(document);
	if (*ret_problem) {
		json_decref(document);
		return -EINVAL;
	}
	*ret = document;
	return 0;
}

int umbra_document_read_backup(const char *text, json_t **ret, const char **ret_problem)
{
	return read_saved(text, backup_problem, ret, ret_problem);
}

int umbra_document_read_writer(const char *text, json_t **ret, const char **ret_problem)
{
	return read_saved(text, writer_problem, ret, ret_problem);
}
