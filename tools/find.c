/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/find.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cow/base/err.h"
#include "cow/base/mounts.h"
#include "tools/common.h"
#include "tools/path.h"
#include "tools/text.h"

/* A prefix of an id shorter than this is too likely to be a label somebody mistyped. */
#define LEAST_PREFIX 2

/* ---- trees */

/* Why the coordinator does not know a tree: none, a dead one, another coordinator's. */
static int say_not_protected(const char *path, const char *full)
{
	CLEANUP(mounts_done) struct mounts mounts = { 0 };
	const struct mount *at = mounts_read(&mounts) < 0 ? NULL
							  : mounts_umbra_above(&mounts, full);

	if (at && mount_is_snapshot(at))
		return tool_error("%s is a mounted snapshot, not a protected directory",
				  LOG_QUOTE(path));
	if (at && mounts_is_dead(at->point))
		return tool_error(
			"%s has a dead mount over it, its daemon is gone (try: umbra unprotect "
			"%s; then protect again)",
			LOG_QUOTE(at->point), LOG_QUOTE(at->point));
	if (at)
		return tool_error(
			"%s is protected, but with another coordinator (another user's, or "
			"one that UMBRA_SOCKET has to name)",
			LOG_QUOTE(path));
	return tool_error("%s is not protected (try: umbra protect %s)", LOG_QUOTE(path),
			  LOG_QUOTE(path));
}

static int look_up_tree(struct umbra_client *c, const char *path, bool follow, json_t **ret_tree,
			char **ret_path, char **ret_relative)
{
	CLEANUP(json_decref_p) json_t *params = json_object(), *answer = NULL;
	CLEANUP(free_p) char *full = NULL, *tree_path = NULL, *relative = NULL;
	struct umbra_failure f = { 0 };
	json_t *tree;
	int r;

	r = path_resolve(path, follow, &full);
	if (r < 0)
		return tool_error("%s: %s", LOG_QUOTE(path), err_text(r));
	if (!params || umbra_json_set_path(params, "path", full) < 0)
		return tool_no_memory();
	r = umbra_call(c, "FindTree", TAKE(params), -1, &answer, NULL, &f);
	if (r == -EREMOTEIO && strcmp(f.name, "object-not-found") == 0)
		return say_not_protected(path, full);
	if (r < 0)
		return tool_refused(r, "FindTree", &f);
	tree = json_object_get(answer, "tree");
	tree_path = tool_path(tree, "path");
	relative = tool_path(answer, "relative");
	if (!tree_path || (ret_relative && !relative))
		return tool_error("%s: the coordinator's answer holds no path", LOG_QUOTE(path));
	*ret_tree = json_incref(tree);
	*ret_path = TAKE(tree_path);
	if (ret_relative)
		*ret_relative = TAKE(relative);
	return 0;
}

int find_tree(struct umbra_client *c, const char *path, json_t **ret_tree, char **ret_path,
	      char **ret_relative)
{
	return look_up_tree(c, path, true, ret_tree, ret_path, ret_relative);
}

int find_tree_nofollow(struct umbra_client *c, const char *path, json_t **ret_tree, char **ret_path,
		       char **ret_relative)
{
	return look_up_tree(c, path, false, ret_tree, ret_path, ret_relative);
}

/* ---- lists of snapshots */

int find_compare(const json_t *a, const json_t *b)
{
	uint64_t at = 0, bt = 0;
	int64_t an = tool_int(a, "in_set"), bn = tool_int(b, "in_set");

	(void)text_parse_time(tool_str(a, "created"), &at); /* damaged: as if of 1970 */
	(void)text_parse_time(tool_str(b, "created"), &bt);
	if (at != bt)
		return at < bt ? -1 : 1;
	return an < bn ? -1 : an > bn;
}

static int compare_pointers(const void *a, const void *b)
{
	return find_compare(*(json_t *const *)a, *(json_t *const *)b);
}

/* A new array of the same elements, ordered. */
static json_t *sorted(json_t *list)
{
	size_t n = json_array_size(list);
	CLEANUP(free_p) json_t **items = calloc(n + 1, sizeof(json_t *));
	json_t *out = json_array();

	if (!items || !out) {
		json_decref(out);
		return NULL;
	}
	for (size_t i = 0; i < n; i++)
		items[i] = json_array_get(list, i);
	qsort(items, n, sizeof(json_t *), compare_pointers);
	for (size_t i = 0; i < n; i++)
		json_array_append(out, items[i]);
	return out;
}

int find_all(struct umbra_client *c, const char *path, json_t **ret)
{
	CLEANUP(json_decref_p) json_t *params = json_object(), *answer = NULL, *tree = NULL;
	CLEANUP(free_p) char *tree_path = NULL;
	json_t *list;
	int r;

	if (!params)
		return tool_no_memory();
	if (path) {
		r = find_tree(c, path, &tree, &tree_path, NULL);
		if (r != 0)
			return r;
		if (umbra_json_set_path(params, "tree", tree_path) < 0)
			return tool_no_memory();
	}
	r = tool_call(c, "Query", TAKE(params), &answer);
	if (r != 0)
		return r;
	list = sorted(json_object_get(answer, "snapshots"));
	if (!list)
		return tool_no_memory();
	*ret = list;
	return 0;
}

/* ---- command lines */

static bool is_snapshot_path(const char *text)
{
	CLEANUP(free_p) char *full = NULL, *dir = NULL, *name = NULL;
	const char *rest;

	return path_resolve(text, false, &full) == 0 &&
	       path_split_snapshot(full, &dir, &name, &rest) == 0;
}

static bool says_its_dir(const char *name)
{
	return strchr(name, '/') || strchr(name, ':');
}

static bool is_dir_of(const char *name, const char *next)
{
	struct stat st;

	if (says_its_dir(name))
		return false;
	if (strchr(next, '/') || strcmp(next, ".") == 0 || strcmp(next, "..") == 0)
		return !is_snapshot_path(next);
	return (strcmp(name, "latest") == 0 || text_is_gmt_name(name)) && stat(next, &st) == 0 &&
	       S_ISDIR(st.st_mode);
}

int find_operands(char **argv, int n, const char *dir, struct find_operand *ret)
{
	int count = 0;

	for (int i = 0; i < n; i++) {
		ret[count] = (struct find_operand){ .name = argv[i], .dir = dir };
		if (i + 1 < n && is_dir_of(argv[i], argv[i + 1]))
			ret[count].dir = argv[++i];
		count++;
	}
	return count;
}

int find_operand(char **argv, int n, const char *dir, struct find_operand *ret)
{
	if (n < 1 || n > 2 || (n == 2 && (says_its_dir(argv[0]) || is_snapshot_path(argv[1]))))
		return -EINVAL;
	*ret = (struct find_operand){ .name = argv[0], .dir = n == 2 ? argv[1] : dir };
	return 0;
}

/* ---- names */

enum find_fit find_fits(const char *name, const json_t *snapshot)
{
	const char *id = tool_str(snapshot, "id"), *set = tool_str(snapshot, "set_id");
	size_t len = strlen(name);

	if (!*name)
		return FIND_NONE;
	if (strcasecmp(name, id) == 0 || strcmp(name, tool_str(snapshot, "name")) == 0)
		return FIND_EXACT;
	if (strcmp(name, tool_str(snapshot, "label")) == 0)
		return FIND_LABEL;
	if (len < LEAST_PREFIX)
		return FIND_NONE;
	if (strncasecmp(name, id, len) == 0)
		return FIND_PREFIX;
	return strncasecmp(name, set, len) == 0 ? FIND_SET_PREFIX : FIND_NONE;
}

/* Those that fit best. */
static json_t *best(const char *name, json_t *list, bool sets, enum find_fit *ret_fit)
{
	enum find_fit top = FIND_NONE;
	json_t *out = json_array(), *snapshot;
	size_t i;

	json_array_foreach(list, i, snapshot) {
		enum find_fit fit = find_fits(name, snapshot);

		if (fit == FIND_NONE || fit < top || (fit == FIND_SET_PREFIX && !sets))
			continue;
		if (fit > top)
			json_array_clear(out);
		top = fit;
		json_array_append(out, snapshot);
	}
	*ret_fit = top;
	return out;
}

static bool one_set(const json_t *list)
{
	const json_t *snapshot;
	size_t i;

	json_array_foreach(list, i, snapshot) {
		if (strcmp(tool_str(snapshot, "set_id"),
			   tool_str(json_array_get(list, 0), "set_id")) != 0)
			return false;
	}
	return true;
}

static int say_ambiguous(const char *name, const json_t *found)
{
	size_t n = json_array_size(found);
	const json_t *a = json_array_get(found, 0), *b = json_array_get(found, 1);
	CLEANUP(free_p) char *at = tool_path(a, "tree_path"), *bt = tool_path(b, "tree_path");

	return tool_error(
		"%s means %zu snapshots: %.13s of %s, %.13s of %s%s (give the id, or --for DIR)",
		LOG_QUOTE(name), n, tool_str(a, "id"), LOG_QUOTE(at), tool_str(b, "id"),
		LOG_QUOTE(bt), n > 2 ? " ..." : "");
}

static int say_unknown(const char *name, const char *dir)
{
	if (dir)
		return tool_error("there is no snapshot %s of %s (try: umbra list %s)",
				  LOG_QUOTE(name), LOG_QUOTE(dir), LOG_QUOTE(dir));
	return tool_error("there is no snapshot %s (try: umbra list)", LOG_QUOTE(name));
}

static bool one_tree(const json_t *list)
{
	const json_t *snapshot;
	size_t i;

	json_array_foreach(list, i, snapshot) {
		if (strcmp(tool_str(snapshot, "tree_id"),
			   tool_str(json_array_get(list, 0), "tree_id")) != 0)
			return false;
	}
	return true;
}

/* "latest": of dir's tree, else of the working directory's, else of the only tree there is. */
static int find_latest(struct umbra_client *c, const char *dir, json_t **ret)
{
	CLEANUP(json_decref_p) json_t *all = NULL, *tree = NULL, *answer = NULL;
	CLEANUP(free_p) char *here = NULL;
	json_t *params;
	size_t n;
	int r;

	if (!dir) {
		here = get_current_dir_name();
		params = json_object();
		if (!params || !here || umbra_json_set_path(params, "path", here) < 0) {
			json_decref(params);
			return tool_no_memory();
		}
		if (umbra_call(c, "FindTree", params, -1, &answer, NULL, NULL) == 0)
			dir = here;
	}
	r = find_all(c, dir, &all);
	if (r != 0)
		return r;
	n = json_array_size(all);
	if (!dir && !one_tree(all))
		return tool_error(
			"latest needs a directory, since there are several (say latest DIR or "
			"--for DIR)");
	if (n == 0)
		return dir ? tool_error("%s has no snapshot (try: umbra create %s)", LOG_QUOTE(dir),
					LOG_QUOTE(dir))
			   : tool_error("there is no snapshot (try: umbra create DIR)");
	*ret = json_pack("[O]", json_array_get(all, n - 1));
	return *ret ? 0 : tool_no_memory();
}

/* By a path under .snapshots. */
static int find_by_path(struct umbra_client *c, const char *path, json_t **ret)
{
	CLEANUP(free_p) char *full = NULL, *dir = NULL, *name = NULL;
	CLEANUP(json_decref_p) json_t *all = NULL, *found = NULL;
	enum find_fit fit;
	const char *rest;
	int r;

	r = path_resolve(path, false, &full);
	if (r == 0)
		r = path_split_snapshot(full, &dir, &name, &rest);
	if (r == -EINVAL)
		return tool_error("%s is not a path of a snapshot (DIR/.snapshots/NAME)",
				  LOG_QUOTE(path));
	if (r < 0)
		return tool_error("%s: %s", LOG_QUOTE(path), err_text(r));
	r = find_all(c, dir, &all);
	if (r != 0)
		return r;
	found = best(name, all, false, &fit);
	if (fit != FIND_EXACT || json_array_size(found) != 1)
		return say_unknown(name, dir);
	*ret = TAKE(found);
	return 0;
}

static int find_by_name(struct umbra_client *c, const char *name, const char *dir, bool sets,
			json_t **ret)
{
	CLEANUP(json_decref_p) json_t *all = NULL, *found = NULL;
	enum find_fit fit;
	int r;

	r = find_all(c, dir, &all);
	if (r != 0)
		return r;
	found = best(name, all, sets, &fit);
	if (!found)
		return tool_no_memory();
	if (json_array_size(found) == 0)
		return say_unknown(name, dir);
	if (json_array_size(found) > 1 && !(fit == FIND_SET_PREFIX && one_set(found)))
		return say_ambiguous(name, found);
	*ret = TAKE(found);
	return 0;
}

static int find(struct umbra_client *c, const char *name, const char *dir, bool sets, json_t **ret)
{
	CLEANUP(free_p) char *head = NULL;
	const char *colon = strchr(name, ':');

	/* "NAME:DIR"; a label may hold a colon too, so only where a path follows. */
	if (colon && (colon[1] == '/' || strncmp(name, "latest:", 7) == 0) && *name != '/') {
		head = strndup(name, (size_t)(colon - name));
		if (!head)
			return tool_no_memory();
		name = head;
		dir = colon + 1;
	}
	if (strcmp(name, "latest") == 0)
		return find_latest(c, dir, ret);
	if (strchr(name, '/'))
		return find_by_path(c, name, ret);
	return find_by_name(c, name, dir, sets, ret);
}

int find_snapshots(struct umbra_client *c, const char *name, const char *dir, json_t **ret)
{
	return find(c, name, dir, true, ret);
}

int find_snapshot(struct umbra_client *c, const char *name, const char *dir, json_t **ret)
{
	CLEANUP(json_decref_p) json_t *found = NULL;
	int r = find(c, name, dir, false, &found);

	if (r == 0)
		*ret = json_incref(json_array_get(found, 0));
	return r;
}

/* ---- writers */

bool find_is_writer(const json_t *writer, const char *name)
{
	return strcmp(tool_str(writer, "name"), name) == 0 ||
	       strcmp(tool_str(writer, "instance_name"), name) == 0 ||
	       strcmp(tool_str(writer, "class_id"), name) == 0 ||
	       strcmp(tool_str(writer, "instance_id"), name) == 0;
}

bool find_is_component(const json_t *component, const char *name)
{
	const char *path = tool_str(component, "logical_path");
	size_t len = strlen(path);

	return strcmp(tool_str(component, "name"), name) == 0 ||
	       (len > 0 && strncmp(name, path, len) == 0 && name[len] == '/' &&
		strcmp(name + len + 1, tool_str(component, "name")) == 0);
}
