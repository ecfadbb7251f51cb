/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/extra.h"

#include "cow/base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int coord_extra_print(const char *description, char **ret)
{
	CLEANUP(free_p) char *text = NULL;
	json_t *extra = json_pack("{s:i, s:s*, s:[]}", "version", 1, "description", description,
				  "writers");

	if (!extra)
		return -ENOMEM;
	text = json_dumps(extra, JSON_COMPACT);
	json_decref(extra);
	if (!text)
		return -ENOMEM;
	if (strlen(text) > COORD_EXTRA_MAX)
		return -E2BIG;
	*ret = TAKE(text);
	return 0;
}

int coord_extra_add_writers(const char *extra, json_t *rows, char **ret)
{
	json_t *object = coord_extra_parse(extra), *kept = json_copy(rows);
	char *text = NULL;
	int left_out = 0;

	while (object && kept && json_object_set(object, "writers", kept) == 0) {
		text = json_dumps(object, JSON_COMPACT);
		if (!text || strlen(text) <= COORD_EXTRA_MAX || json_array_size(kept) == 0)
			break;
		free(text);
		text = NULL;
		/* Half of the rest at a time: rows are of much the same size. */
		for (size_t n = (json_array_size(kept) + 1) / 2; n > 0; n--, left_out++)
			json_array_remove(kept, json_array_size(kept) - 1);
		json_object_set_new(object, "writers_left_out", json_integer(left_out));
	}
	json_decref(kept);
	json_decref(object);
	if (!text)
		return -ENOMEM;
	*ret = text;
	return 0;
}

json_t *coord_extra_parse(const char *extra)
{
	json_t *object = extra ? json_loads(extra, 0, NULL) : NULL;

	if (json_is_object(object))
		return object;
	json_decref(object);
	return json_object();
}
