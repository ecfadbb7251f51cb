/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/shell_metadata.h"

#include <errno.h>

#include "coordinator/client/documents.h"
#include "cow/base/err.h"
#include "tools/common.h"

DEFINE_CLEANUP(umbra_documents_free_p, struct umbra_documents *, umbra_documents_free)

int shell_metadata_save(struct umbra_client *c, const char *path)
{
	CLEANUP(umbra_documents_free_p) struct umbra_documents *d = NULL;
	CLEANUP(json_decref_p) json_t *answer = NULL;
	CLEANUP(close_p) int fd = -1;
	int r = tool_call_fd(c, "SaveDocument", json_pack("{sb}", "descriptor", 1), -1, &answer,
			     &fd);

	if (r != 0)
		return r;
	r = umbra_documents_from_answer(answer, fd, &d);
	if (r == 0)
		r = umbra_documents_save(d, path);
	if (r < 0)
		return tool_error("the snapshots are there, but their metadata cannot be written "
				  "to %s: %s",
				  LOG_QUOTE(path), err_text(r));
	return 0;
}

int shell_metadata_load(const char *path, struct umbra_documents **ret)
{
	int r = umbra_documents_load(path, ret);

	switch (r) {
	case 0:
		return 0;
	case -EBADMSG:
		return tool_error("%s is damaged", LOG_QUOTE(path));
	case -EINVAL:
		return tool_error("%s is no file that set metadata of this umbra wrote",
				  LOG_QUOTE(path));
	}
	return tool_error("%s: %s", LOG_QUOTE(path), err_text(r));
}

int shell_metadata_restore(struct umbra_client *c, const struct umbra_documents *d, json_t **ret)
{
	CLEANUP(close_p) int fd = -1;
	int r = umbra_documents_to_fd(d, &fd);

	if (r == -EMSGSIZE || r == -EINVAL)
		return tool_error("there are more documents than a restore takes (64 MiB)");
	if (r < 0)
		return tool_error("the documents cannot be handed over: %s", err_text(r));
	return tool_call_fd(c, "InitializeForRestore", NULL, fd, ret, NULL);
}
