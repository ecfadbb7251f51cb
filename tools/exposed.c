/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/exposed.h"

#include <errno.h>
#include <string.h>

#include "cow/base/err.h"
#include "tools/common.h"
#include "tools/find.h"
#include "tools/path.h"
#include "tools/snapshot.h"

int exposed_add(struct umbra_client *c, const json_t *snapshot, const char *path,
		const char *subdir, json_t **ret)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	CLEANUP(free_p) char *whole = NULL;
	json_t *params;
	int r = path ? path_resolve(path, true, &whole) : 0;

	if (r < 0)
		return tool_error("%s: %s", LOG_QUOTE(path), err_text(r));
	params = json_pack("{ss}", "snapshot_id", tool_str(snapshot, "id"));
	if (!params || (whole && umbra_json_set_path(params, "path", whole) < 0) ||
	    (subdir && umbra_json_set_path(params, "subdir", subdir) < 0)) {
		json_decref(params);
		return tool_no_memory();
	}
	r = tool_call(c, "Expose", params, &answer);
	if (r == 0)
		*ret = json_incref(json_object_get(answer, "snapshot"));
	return r;
}

int exposed_remove(struct umbra_client *c, const json_t *snapshot, bool force)
{
	return tool_call(c, "Unexpose",
			 json_pack("{sssb}", "snapshot_id", tool_str(snapshot, "id"), "force",
				   (int)force),
			 NULL);
}

int exposed_at(struct umbra_client *c, const char *path, json_t **ret)
{
	CLEANUP(json_decref_p) json_t *all = NULL;
	CLEANUP(free_p) char *whole = NULL;
	json_t *s;
	size_t i;
	int r = path_resolve(path, true, &whole);

	if (r < 0)
		return tool_error("%s: %s", LOG_QUOTE(path), err_text(r));
	r = find_all(c, NULL, &all);
	if (r != 0)
		return r;
	*ret = NULL;
	json_array_foreach(all, i, s) {
		CLEANUP(free_p) char *at = tool_path(s, "exposed_path");

		if (at && strcmp(at, whole) == 0)
			*ret = json_incref(s);
		if (*ret)
			break;
	}
	return 0;
}

/* A path, and none that find_snapshot() could know. */
static bool is_mount_point(const char *name)
{
	CLEANUP(free_p) char *dir = NULL, *entry = NULL;
	const char *rest;

	return strchr(name, '/') && path_split_snapshot(name, &dir, &entry, &rest) == -EINVAL;
}

int exposed_find(struct umbra_client *c, const char *name, const char *dir, json_t **ret)
{
	json_t *at = NULL;
	int r = exposed_at(c, name, &at);

	if (r != 0)
		return r;
	if (!at && is_mount_point(name) && !strchr(name, ':'))
		return tool_error("no snapshot is exposed at %s (see: umbra status)",
				  LOG_QUOTE(name));
	if (!at)
		return find_snapshot(c, name, dir, ret);
	*ret = at;
	return 0;
}
