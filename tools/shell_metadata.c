/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/shell_metadata.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cow/base/err.h"
#include "tools/common.h"

static int write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Write, have it on disk, and only then let it take the name's place. */
static int replace(const char *path, const char *text)
{
	CLEANUP(close_p) int fd = -1;
	char beside[PATH_MAX];
	int r;

	if (snprintf(beside, sizeof(beside), "%s.XXXXXX", path) >= (int)sizeof(beside))
		return -ENAMETOOLONG;
	fd = mkostemp(beside, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = write_all(fd, text, strlen(text));
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && close(TAKE_FD(fd)) < 0)
		r = -errno;
	if (r == 0 && rename(beside, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(beside);
	return r;
}

int shell_metadata_save(struct umbra_client *c, const char *path)
{
	CLEANUP(json_decref_p) json_t *answer = NULL, *file = NULL;
	CLEANUP(free_p) char *text = NULL;
	int r = tool_call(c, "SaveDocument", NULL, &answer);

	if (r != 0)
		return r;
	file = json_pack("{sssssOsO}", "version", "1.0", "kind", "umbra-metadata", "document",
			 json_object_get(answer, "document"), "writer_documents",
			 json_object_get(answer, "writer_documents"));
	text = file ? json_dumps(file, JSON_INDENT(2)) : NULL;
	if (!text)
		return tool_no_memory();
	r = replace(path, text);
	if (r < 0)
		return tool_error("the snapshots are there, but their metadata cannot be written "
				  "to %s: %s",
				  LOG_QUOTE(path), err_text(r));
	return 0;
}
