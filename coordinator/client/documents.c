/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/client/documents.h"

#include "coordinator/client/client.h"
#include "coordinator/client/texts.h"
#include "cow/base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_KIND "umbra-metadata"
#define FILE_VERSION "1.0"
#define FILE_MAX                                                                                   \
	((off_t)4 * (off_t)UMBRA_DOCUMENTS_MAX) /* quoted once more, and written with blanks */

DEFINE_CLEANUP(json_decref_p, json_t *, json_decref)

/* ---- from texts, and to them ---- */

/* Both are borrowed. The shape must be right: getters rely on it. */
static int give(json_t *document, json_t *writers, struct umbra_documents **ret)
{
	const json_t *one;
	json_t *o;
	size_t i;

	if (!json_is_string(document) || !json_is_array(writers))
		return -EPROTO;
	json_array_foreach(writers, i, one)
		if (!json_is_string(one))
			return -EPROTO;
	o = json_pack("{s:O, s:O}", "document", document, "writer_documents", writers);
	if (!o)
		return -ENOMEM;
	*ret = (struct umbra_documents *)o;
	return 0;
}

enum umbra_error umbra_documents_new(const char *backup, const char *const *writers, size_t count,
				     struct umbra_documents **ret)
{
	CLEANUP(json_decref_p) json_t *document = json_string(backup), *list = json_array();

	if (!document)
		return UMBRA_E_INVALID_ARGUMENT;
	for (size_t i = 0; i < count; i++) {
		json_t *text = json_string(writers[i]);

		if (!text)
			return UMBRA_E_INVALID_ARGUMENT;
		if (json_array_append_new(list, text) < 0)
			return UMBRA_E_OUT_OF_MEMORY;
	}
	return give(document, list, ret) < 0 ? UMBRA_E_OUT_OF_MEMORY : UMBRA_OK;
}

int umbra_documents_from_answer(const json_t *answer, int fd, struct umbra_documents **ret)
{
	CLEANUP(json_decref_p) json_t *texts = NULL, *first = NULL;
	int r;

	if (fd < 0)
		return give(json_object_get(answer, "document"),
			    json_object_get(answer, "writer_documents"), ret);
	r = umbra_texts_take(fd, UMBRA_DOCUMENTS_MAX, &texts);
	if (r < 0)
		return r == -ENOMEM ? r : -EPROTO;
	first = json_incref(json_array_get(texts, 0));
	json_array_remove(texts, 0);
	return give(first, texts, ret);
}

int umbra_documents_to_fd(const struct umbra_documents *d, int *ret_fd)
{
	const json_t *o = (const json_t *)d;
	CLEANUP(json_decref_p)
	json_t *texts = json_copy(json_object_get(o, "writer_documents"));

	if (!texts || json_array_insert(texts, 0, json_object_get(o, "document")) < 0)
		return -ENOMEM;
	return umbra_texts_put(texts, UMBRA_DOCUMENTS_MAX, ret_fd);
}

const char *umbra_documents_backup(const struct umbra_documents *d)
{
	return json_string_value(json_object_get((const json_t *)d, "document"));
}

const char *umbra_documents_writer(const struct umbra_documents *d, size_t i)
{
	return json_string_value(
		json_array_get(json_object_get((const json_t *)d, "writer_documents"), i));
}

void umbra_documents_free(struct umbra_documents *d)
{
	json_decref((json_t *)d);
}

/* ---- in a file ---- */

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

int umbra_documents_save(const struct umbra_documents *d, const char *path)
{
	CLEANUP(json_decref_p) json_t *file = NULL;
	CLEANUP(free_p) char *text = NULL;

	file = json_pack("{s:s, s:s}", "version", FILE_VERSION, "kind", FILE_KIND);
	if (!file || json_object_update(file, (json_t *)d) < 0)
		return -ENOMEM;
	text = umbra_json_text(file, JSON_INDENT(2));
	return text ? replace(path, text) : -ENOMEM;
}

/* M-10: further members are ignored, a newer major version is not ours. */
static bool is_ours(const json_t *file)
{
	const char *kind = json_string_value(json_object_get(file, "kind"));
	const char *version = json_string_value(json_object_get(file, "version"));

	return kind && strcmp(kind, FILE_KIND) == 0 && version && strncmp(version, "1.", 2) == 0;
}

int umbra_documents_load(const char *path, struct umbra_documents **ret)
{
	CLEANUP(json_decref_p) json_t *file = NULL;
	CLEANUP(close_p) int fd = -1;
	struct stat st;
	int r;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (st.st_size > FILE_MAX)
		return -EFBIG;
	file = json_loadfd(fd, JSON_REJECT_DUPLICATES, NULL);
	if (!file)
		return -EBADMSG;
	if (!is_ours(file))
		return -EINVAL;
	r = give(json_object_get(file, "document"), json_object_get(file, "writer_documents"), ret);
	return r == -EPROTO ? -EBADMSG : r;
}
