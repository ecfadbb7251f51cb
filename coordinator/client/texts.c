/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/client/texts.h"

#include "cow/base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEALS (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK)

DEFINE_CLEANUP(json_decref_p, json_t *, json_decref)

/* ---- making one ---- */

static int write_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

static int total_bytes(const json_t *texts, size_t max)
{
	size_t i, bytes = 0;
	const json_t *text;

	if (!json_is_array(texts) || json_array_size(texts) > UMBRA_TEXTS_MAX)
		return -EINVAL;
	json_array_foreach((json_t *)texts, i, text) {
		if (!json_is_string(text))
			return -EINVAL;
		bytes += json_string_length(text) + 1;
	}
	return bytes > max ? -EMSGSIZE : 0;
}

int umbra_texts_put(const json_t *texts, size_t max, int *ret_fd)
{
	CLEANUP(close_p) int fd = -1;
	const json_t *text;
	size_t i;
	int r = total_bytes(texts, max);

	if (r < 0)
		return r;
	fd = memfd_create("umbra-documents", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	json_array_foreach((json_t *)texts, i, text) {
		r = write_all(fd, json_string_value(text), json_string_length(text) + 1);
		if (r < 0)
			return r == -ENOSPC ? -ENOMEM : r;
	}
	if (fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* ---- reading one ---- */

static int read_all(int fd, char *ret, size_t len)
{
	size_t at = 0;

	while (at < len) {
		ssize_t n = pread(fd, ret + at, len - at, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == ENOMEM ? -ENOMEM : -EINVAL;
		if (n == 0)
			return -EINVAL;
		at += (size_t)n;
	}
	return 0;
}

static int split(const char *bytes, size_t len, json_t **ret)
{
	CLEANUP(json_decref_p) json_t *list = json_array();

	if (!list)
		return -ENOMEM;
	for (const char *at = bytes, *end; at < bytes + len; at = end + 1) {
		json_t *text;

		end = memchr(at, 0, (size_t)(bytes + len - at));
		if (!end)
			return -EBADMSG;
		if (json_array_size(list) == UMBRA_TEXTS_MAX)
			return -EINVAL;
		text = json_stringn(at, (size_t)(end - at));
		if (!text)
			return -EBADMSG; /* or no memory: jansson does not say */
		if (json_array_append_new(list, text) < 0)
			return -ENOMEM;
	}
	*ret = TAKE(list);
	return 0;
}

int umbra_texts_take(int fd, size_t max, json_t **ret)
{
	CLEANUP(free_p) char *bytes = NULL;
	struct stat st;
	int r, seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &st) < 0)
		return -EINVAL;
	if ((uintmax_t)st.st_size > max)
		return -EMSGSIZE;
	bytes = malloc((size_t)st.st_size + 1);
	if (!bytes)
		return -ENOMEM;
	r = read_all(fd, bytes, (size_t)st.st_size);
	return r < 0 ? r : split(bytes, (size_t)st.st_size, ret);
}
