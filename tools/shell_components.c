/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/shell_components.h"

#include <stdlib.h>
#include <string.h>

#include "coordinator/client/document.h"
#include "cow/base/path.h"
#include "tools/common.h"

static bool in_trees(const json_t *trees, const char *path)
{
	const json_t *tree;
	size_t i;

	json_array_foreach(trees, i, tree) {
		CLEANUP(free_p) char *root = tool_path(tree, "path");

		if (root && path_below(root, path))
			return true;
	}
	return false;
}

static bool sets_in_trees(const json_t *component, const json_t *trees)
{
	const json_t *set;
	size_t i;

	json_array_foreach(json_object_get(component, "file_sets"), i, set) {
		CLEANUP(free_p) char *path = tool_path(set, "path");

		if (!path || !in_trees(trees, path))
			return false;
	}
	return true;
}

bool shell_components_covered(const json_t *document, const json_t *component, const json_t *trees)
{
	const json_t *other;
	size_t i;

	if (!sets_in_trees(component, trees))
		return false;
	json_array_foreach(json_object_get(document, "components"), i, other) {
		if (umbra_document_is_below(component, tool_str(other, "logical_path")) &&
		    !sets_in_trees(other, trees))
			return false;
	}
	return true;
}

static bool may_add(const json_t *document, const json_t *component)
{
	return umbra_document_may_add(document, tool_str(component, "logical_path"),
				      tool_str(component, "name"));
}

const json_t *shell_components_missing(const json_t *document, const json_t *trees)
{
	const json_t *one;
	size_t i;

	json_array_foreach(json_object_get(document, "components"), i, one) {
		if (!umbra_document_selectable(one) && may_add(document, one) &&
		    !shell_components_covered(document, one, trees))
			return one;
	}
	return NULL;
}

static int add_one(struct umbra_client *c, const json_t *writer, const json_t *component)
{
	const char *name = tool_str(component, "name");
	int r = tool_call(c, "AddComponent",
			  json_pack("{ssssss}", "instance_id", tool_str(writer, "instance_id"),
				    "logical_path", tool_str(component, "logical_path"), "name",
				    name),
			  NULL);

	if (r == 0)
		log_debug("component %s of writer %s is in the backup", LOG_QUOTE(name),
			  LOG_QUOTE(tool_str(writer, "name")));
	return r;
}

static int add_writer(struct umbra_client *c, const json_t *row, const json_t *trees)
{
	const json_t *writer = json_object_get(row, "writer"), *one;
	const json_t *document = json_object_get(row, "document");
	const json_t *missing = shell_components_missing(document, trees);
	size_t i;
	int r = 0;

	if (missing) {
		log_debug("writer %s has no component in the backup: the files of %s are not all "
			  "in the snapshot set",
			  LOG_QUOTE(tool_str(writer, "name")),
			  LOG_QUOTE(tool_str(missing, "name")));
		return 0;
	}
	json_array_foreach(json_object_get(document, "components"), i, one) {
		if (r == 0 && may_add(document, one) &&
		    shell_components_covered(document, one, trees))
			r = add_one(c, writer, one);
	}
	return r;
}

int shell_components_add(struct umbra_client *c, const json_t *rows, const json_t *trees)
{
	const json_t *row;
	size_t i;
	int r = 0;

	json_array_foreach(rows, i, row) {
		if (r == 0 && json_is_object(json_object_get(row, "document")))
			r = add_writer(c, row, trees);
	}
	return r;
}
