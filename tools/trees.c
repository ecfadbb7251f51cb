/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/trees.h"

#include <stdlib.h>
#include <string.h>

#include "tools/common.h"
#include "tools/find.h"
#include "tools/path.h"

static int add(struct trees *t, struct umbra_client *c, const char *dir)
{
	CLEANUP(json_decref_p) json_t *tree = NULL;
	CLEANUP(free_p) char *path = NULL;
	struct named_dir *named = &t->dirs[t->dir_count];
	size_t i;
	int r;

	r = find_tree(c, dir, &tree, &path, &named->relative);
	if (r != 0)
		return r;
	named->path = path_join(path, named->relative);
	t->dir_count++; /* from here on trees_done() frees it */
	if (!named->path)
		return tool_no_memory();
	for (i = 0; i < t->count && strcmp(t->list[i].path, path) != 0; i++)
		;
	named->tree = i;
	if (i < t->count)
		return 0;
	t->list[i].path = TAKE(path);
	t->list[i].id = strdup(tool_str(tree, "id"));
	t->paths[i] = t->list[i].path;
	t->count++;
	return t->list[i].id ? 0 : tool_no_memory();
}

int trees_find(struct trees *ret, char *const *dirs, int n)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	int r;

	ret->list = calloc((size_t)n + 1, sizeof(*ret->list));
	ret->paths = calloc((size_t)n + 1, sizeof(*ret->paths));
	ret->dirs = calloc((size_t)n + 1, sizeof(*ret->dirs));
	if (!ret->list || !ret->paths || !ret->dirs)
		return tool_no_memory();
	r = tool_connect(&c);
	for (int i = 0; r == 0 && i < n; i++)
		r = add(ret, c, dirs[i]);
	return r;
}

void trees_done(struct trees *t)
{
	for (size_t i = 0; i < t->count; i++) {
		free(t->list[i].path);
		free(t->list[i].id);
	}
	for (size_t i = 0; i < t->dir_count; i++) {
		free(t->dirs[i].path);
		free(t->dirs[i].relative);
	}
	free(t->list);
	free(t->paths);
	free(t->dirs);
	*t = (struct trees){ 0 };
}
