/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/targets.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

static const char *const kinds[] = { "original", "alternate", "directed" }; /* */

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static bool is_kind(const char *text)
{
	for (size_t i = 0; i < COUNT(kinds); i++)
		if (strcmp(kinds[i], text) == 0)
			return true;
	return false;
}

static json_t *find(const json_t *components, const json_t *target)
{
	json_t *component;
	size_t i;

	json_array_foreach((json_t *)components, i, component)
		if (strcmp(text_of(component, "logical_path"), text_of(target, "logical_path")) ==
			    0 &&
		    strcmp(text_of(component, "name"), text_of(target, "name")) == 0)
			return component;
	return NULL;
}

static bool are_objects(const json_t *list)
{
	const json_t *one;
	size_t i;

	json_array_foreach((json_t *)list, i, one)
		if (!json_is_object(one))
			return false;
	return json_is_array(list);
}

const char *coord_targets_problem(const json_t *components, const json_t *targets)
{
	const json_t *target;
	size_t i;

	if (!are_objects(targets))
		return "targets are not a list of objects";
	json_array_foreach((json_t *)targets, i, target) {
		bool directed = strcmp(text_of(target, "target"), "directed") == 0;

		if (!is_kind(text_of(target, "target")))
			return "a target is original, alternate or directed";
		if (!find(components, target))
			return "a target is of a component that is not being restored";
		if (directed && !are_objects(json_object_get(target, "directed")))
			return "a directed target says in directed what goes where";
	}
	return NULL;
}

int coord_targets_apply(json_t *components, const json_t *targets)
{
	const json_t *target;
	size_t i;

	json_array_foreach((json_t *)targets, i, target) {
		json_t *component = find(components, target);

		if (json_object_set(component, "target", json_object_get(target, "target")) < 0)
			return -ENOMEM;
		json_object_del(component, "directed");
		if (strcmp(text_of(target, "target"), "directed") == 0 &&
		    json_object_set(component, "directed", json_object_get(target, "directed")) < 0)
			return -ENOMEM;
	}
	return 0;
}
