/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/shell_alias.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/common.h"

static struct shell_alias *find(const struct shell_aliases *a, const char *name)
{
	for (size_t i = 0; i < a->count; i++)
		if (strcmp(a->list[i].name, name) == 0)
			return &a->list[i];
	return NULL;
}

int shell_alias_set(struct shell_aliases *a, const char *name, const char *value)
{
	CLEANUP(free_p) char *copy = strdup(value), *name_copy = NULL;
	struct shell_alias *alias = find(a, name), *list;

	if (!copy)
		return tool_no_memory();
	if (!alias) {
		list = realloc(a->list, (a->count + 1) * sizeof(*list));
		if (list)
			a->list = list;
		name_copy = strdup(name);
		if (!list || !name_copy)
			return tool_no_memory();
		alias = &a->list[a->count++];
		*alias = (struct shell_alias){ .name = TAKE(name_copy) };
	}
	free(alias->value);
	alias->value = TAKE(copy);
	return 0;
}

const char *shell_alias_get(const struct shell_aliases *a, const char *name)
{
	const struct shell_alias *alias = find(a, name);

	return alias ? alias->value : NULL;
}

int shell_alias_export(const struct shell_aliases *a)
{
	for (size_t i = 0; i < a->count; i++)
		if (setenv(a->list[i].name, a->list[i].value, 1) < 0)
			return -errno;
	return 0;
}

void shell_alias_done(struct shell_aliases *a)
{
	for (size_t i = 0; i < a->count; i++) {
		free(a->list[i].name);
		free(a->list[i].value);
	}
	free(a->list);
	*a = (struct shell_aliases){ 0 };
}
