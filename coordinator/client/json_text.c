/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/client/client.h"

#include "cow/base/cleanup.h"

#include <stdlib.h>

/* json_dumpb grows no buffer, so there is nothing to lose; the length is asked for first. */
char *umbra_json_text(const json_t *value, size_t flags)
{
	size_t size = json_dumpb(value, NULL, 0, flags);
	CLEANUP(free_p) char *text = size > 0 ? malloc(size + 1) : NULL;

	if (!text || json_dumpb(value, text, size, flags) != size)
		return NULL;
	text[size] = 0;
	return TAKE(text);
}
