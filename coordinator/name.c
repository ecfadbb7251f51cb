/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/name.h"

#include "cow/base/clock.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <uuid/uuid.h>

static const char *const contexts[] = {
	[COW_CTX_BACKUP] = "backup",
	[COW_CTX_FILE_SHARE_BACKUP] = "file-share-backup",
	[COW_CTX_APP_ROLLBACK] = "app-rollback",
	[COW_CTX_NAS_ROLLBACK] = "nas-rollback",
	[COW_CTX_CLIENT_ACCESSIBLE] = "client-accessible",
	[COW_CTX_CLIENT_ACCESSIBLE_WRITERS] = "client-accessible-writers",
	[COW_CTX_ALL] = "all",
};

static const char *const snapshot_states[] = {
	[COW_SNAP_OPENED] = "opened",
	[COW_SNAP_CREATED] = "created",
	[COW_SNAP_DROPPED] = "dropped",
};

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

static const char *name_of(const char *const *names, size_t n, unsigned number)
{
	return number < n ? names[number] : NULL;
}

static unsigned number_of(const char *const *names, size_t n, const char *name)
{
	for (unsigned i = 1; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return 0;
}

const char *coord_name_context(enum cow_context c)
{
	return name_of(contexts, COUNT(contexts), c);
}

enum cow_context coord_name_to_context(const char *name)
{
	return number_of(contexts, COUNT(contexts), name);
}

const char *coord_name_snapshot_state(enum cow_snapshot_state s)
{
	return name_of(snapshot_states, COUNT(snapshot_states), s);
}

enum cow_snapshot_state coord_name_to_snapshot_state(const char *name)
{
	return number_of(snapshot_states, COUNT(snapshot_states), name);
}

bool coord_context_writers(enum cow_context c)
{
	return c == COW_CTX_BACKUP || c == COW_CTX_APP_ROLLBACK ||
	       c == COW_CTX_CLIENT_ACCESSIBLE_WRITERS;
}

void coord_name_id(char ret[COW_UUID_LEN + 1])
{
	uuid_t id;

	uuid_generate_random(id);
	uuid_unparse_lower(id, ret);
}

bool coord_name_is_id(const char *text)
{
	if (strlen(text) != COW_UUID_LEN)
		return false;
	for (size_t i = 0; i < COW_UUID_LEN; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? text[i] != '-' : !strchr("0123456789abcdef", text[i]))
			return false;
	}
	return true;
}

/* Control characters of both ranges: a name is shown in terminals and listings. */
static bool has_control(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;

	for (; *s; s++)
		if (*s < 0x20 || *s == 0x7f || (s[0] == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0))
			return true;
	return false;
}

const char *coord_name_label_problem(const char *label)
{
	json_t *utf8;

	if (label[0] == 0)
		return "it is empty";
	if (strlen(label) > COW_LABEL_MAX)
		return "it is longer than 127 bytes";
	if (label[0] == '.')
		return "it begins with a dot";
	if (strchr(label, '/'))
		return "it contains a slash";
	if (strncmp(label, "@GMT-", 5) == 0)
		return "names that begin with @GMT- are for client-accessible snapshots";
	if (has_control(label))
		return "it contains control characters";
	utf8 = json_string(label);
	if (!utf8)
		return "it is not UTF-8";
	json_decref(utf8);
	return NULL;
}

/* A second that gmtime cannot express is shown as the first one: names must never be empty. */
static struct tm utc(int64_t real_ns)
{
	time_t seconds = (time_t)(real_ns / (int64_t)CLOCK_NS_PER_SEC);
	struct tm tm;

	if (real_ns < 0 || !gmtime_r(&seconds, &tm))
		gmtime_r(&(time_t){ 0 }, &tm);
	return tm;
}

void coord_name_gmt(char ret[COORD_NAME_GMT_SIZE], int64_t real_ns)
{
	struct tm tm = utc(real_ns);

	strftime(ret, COORD_NAME_GMT_SIZE, "@GMT-%Y.%m.%d-%H.%M.%S", &tm);
}

void coord_name_time(char ret[COORD_NAME_TIME_SIZE], int64_t real_ns)
{
	struct tm tm = utc(real_ns);
	size_t n = strftime(ret, COORD_NAME_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);

	snprintf(ret + n, COORD_NAME_TIME_SIZE - n, ".%09uZ",
		 real_ns < 0 ? 0 : (unsigned)(real_ns % (int64_t)CLOCK_NS_PER_SEC));
}

const char *coord_name_inside(const char *tree, const char *path)
{
	size_t len = strlen(tree);

	if (strcmp(tree, "/") == 0)
		return path + 1;
	if (strncmp(tree, path, len) != 0)
		return NULL;
	if (path[len] == 0)
		return path + len;
	return path[len] == '/' ? path + len + 1 : NULL;
}

bool coord_name_normal_path(char *path)
{
	char *out = path;
	const char *in = path;

	if (*in != '/')
		return false;
	while (*in) {
		const char *end;
		size_t len;

		while (*in == '/')
			in++;
		end = strchrnul(in, '/');
		len = (size_t)(end - in);
		if (len == 2 && in[0] == '.' && in[1] == '.')
			return false;
		if (len > 0 && !(len == 1 && in[0] == '.')) {
			*out++ = '/';
			memmove(out, in, len);
			out += len;
		}
		in = end;
	}
	if (out == path)
		*out++ = '/';
	*out = 0;
	return true;
}
