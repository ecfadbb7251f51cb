/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/snapshot.h"

#include <stdio.h>
#include <string.h>

#include "cow/base/clock.h"
#include "tools/common.h"
#include "tools/find.h"
#include "tools/text.h"

uint64_t snapshot_created_ns(const json_t *snapshot)
{
	uint64_t ns = 0;

	(void)text_parse_time(tool_str(snapshot, "created"), &ns);
	return ns;
}

uint64_t snapshot_age_s(const json_t *snapshot)
{
	uint64_t now = clock_real_ns(), then = snapshot_created_ns(snapshot);

	return now > then ? (now - then) / CLOCK_NS_PER_SEC : 0;
}

uint64_t snapshot_total_bytes(const json_t *snapshot, const json_t *all)
{
	const char *tree = tool_str(snapshot, "tree_id");
	const json_t *other;
	uint64_t sum = 0;
	size_t i;

	json_array_foreach(all, i, other) {
		if (strcmp(tool_str(other, "tree_id"), tree) == 0 &&
		    find_compare(other, snapshot) >= 0)
			sum += (uint64_t)tool_int(other, "stored_bytes");
	}
	return sum;
}

json_t *snapshot_to_json(const json_t *snapshot, const json_t *all)
{
	json_t *copy = json_copy((json_t *)snapshot);

	if (copy) {
		json_object_set_new(copy, "age_s",
				    json_integer((json_int_t)snapshot_age_s(snapshot)));
		json_object_set_new(copy, "total_bytes",
				    json_integer((json_int_t)snapshot_total_bytes(snapshot, all)));
	}
	return copy;
}

char *snapshot_exposed(const json_t *snapshot)
{
	CLEANUP(free_p) char *path = tool_path(snapshot, "exposed_path");
	char *text;

	if (!path || !*tool_str(snapshot, "exposed_problem"))
		return TAKE(path);
	return asprintf(&text, "%s%s(not mounted)", path, *path ? " " : "") < 0 ? NULL : text;
}

const char *snapshot_title(const json_t *snapshot)
{
	const char *label = tool_str(snapshot, "label");

	return *label ? label : tool_str(snapshot, "id");
}
