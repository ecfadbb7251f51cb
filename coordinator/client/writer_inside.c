/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What handlers may ask and say (the last part of umbra/writer.h). */
#include "coordinator/client/writer_private.h"

#include "coordinator/client/wire.h"
#include "cow/base/cleanup.h"
#include "cow/base/log.h"
#include "cow/base/path.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- what they say ---- */

const char *umbra_writer_code_name(enum umbra_writer_code code)
{
	static const char *const names[] = {
		[UMBRA_WRITER_NO_CODE] = "non-retryable",
		[UMBRA_WRITER_INCONSISTENT_SNAPSHOT] = "inconsistent-snapshot",
		[UMBRA_WRITER_OUT_OF_RESOURCES] = "out-of-resources",
		[UMBRA_WRITER_TIMEOUT] = "timeout",
		[UMBRA_WRITER_RETRYABLE] = "retryable",
		[UMBRA_WRITER_NON_RETRYABLE] = "non-retryable",
		[UMBRA_WRITER_RECOVERY_FAILED] = "recovery-failed",
		[UMBRA_WRITER_PARTIAL_FAILURE] = "partial-failure",
	};

	return names[(unsigned)code < sizeof(names) / sizeof(*names) ? code : UMBRA_WRITER_NO_CODE];
}

void umbra_writer_set_failure(struct umbra_writer *w, enum umbra_writer_code code,
			      const char *message)
{
	struct writer_said *said;

	if (!w->handling || w->handling->identify)
		return;
	said = &w->handling->said;
	said->failure = true;
	/* Sent by name, or `ok` would hide that something went wrong (E-1). */
	said->code = code == UMBRA_WRITER_NO_CODE ? UMBRA_WRITER_NON_RETRYABLE : code;
	said->message[0] = 0;
	if (message) /* anything becomes UTF-8 on one line */
		log_quote(said->message, sizeof(said->message), message);
}

/* Whether arrays and objects are nested deeper than that: both ends of the wire refuse it. */
static bool deeper_than(const json_t *value, size_t levels)
{
	const char *key;
	json_t *child;
	size_t i;

	if (!json_is_object(value) && !json_is_array(value))
		return false;
	if (levels == 0)
		return true;
	json_object_foreach((json_t *)value, key, child)
		if (deeper_than(child, levels - 1))
			return true;
	json_array_foreach(value, i, child)
		if (deeper_than(child, levels - 1))
			return true;
	return false;
}

/* The rest of the answer: its names, and a message of which each byte is escaped. */
#define ANSWER_ROOM 8192
#define ANSWER_DEPTH 2

static int parse(const char *text, json_type type, json_t **ret)
{
	json_t *object;
	int r = 0;

	object = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	if (!object)
		return -EINVAL;
	/* An answer that the coordinator does not take would cost the connection. */
	if (json_typeof(object) != type || deeper_than(object, UMBRA_WIRE_DEPTH - ANSWER_DEPTH))
		r = -EINVAL;
	else if (json_dumpb(object, NULL, 0, JSON_COMPACT) > UMBRA_WIRE_MAX - ANSWER_ROOM)
		r = -EMSGSIZE;
	if (r < 0) {
		json_decref(object);
		return r;
	}
	*ret = object;
	return 0;
}

static int replace(json_t **at, const char *text, json_type type)
{
	json_t *object;
	int r = parse(text, type, &object);

	if (r < 0)
		return r;
	json_decref(*at);
	*at = object;
	return 0;
}

int umbra_writer_set_document(struct umbra_writer *w, const char *json)
{
	if (!w->handling || !w->handling->identify)
		return -EBADF;
	return replace(&w->handling->said.document, json, JSON_OBJECT);
}

int umbra_writer_set_metadata(struct umbra_writer *w, const char *json)
{
	if (!w->handling || !w->handling->keeps_metadata)
		return -EBADF;
	return replace(&w->handling->said.metadata, json, JSON_OBJECT);
}

int umbra_writer_set_targets(struct umbra_writer *w, const char *json)
{
	if (!w->handling || !w->handling->pre_restore)
		return -EBADF;
	return replace(&w->handling->said.targets, json, JSON_ARRAY);
}

/* ---- what they ask ---- */

/* Inside of a handler its own session; outside the one that has trees: no writer is ever part of two
 * creations (W-11). NULL: there are none to know. */
static const struct writer_session *session_with_trees(const struct umbra_writer *w)
{
	const struct writer_session *s = w->handling ? w->handling->session : w->sessions;

	while (s && !s->has_trees)
		s = w->handling ? NULL : s->next;
	return s;
}

const char *umbra_writer_tree(const struct umbra_writer *w, size_t i)
{
	const struct writer_session *s = session_with_trees(w);

	return s && i < s->ntrees ? s->trees[i] : NULL;
}

/* Where a path leads: the longest part of it that exists, without symbolic links; *ret_rest is what is
 * left of it, with a slash before it. Returns a malloc'ed path; NULL with errno. */
static char *existing_part(const char *path, const char **ret_rest)
{
	CLEANUP(free_p) char *part = strdup(path);

	while (part) {
		size_t len = strlen(part);
		char *real = realpath(part, NULL);

		*ret_rest = path + len;
		if (real)
			return real;
		if (errno != ENOENT && errno != ENOTDIR)
			return NULL;
		while (len > 1 && part[len - 1] == '/')
			len--;
		while (len > 1 && part[len - 1] != '/')
			len--;
		part[len > 1 ? len - 1 : 1] = 0; /* "/x" becomes "/" */
	}
	return NULL;
}

/* N-5: what is mounted inside of a tree is no part of it. What cannot be looked at is judged by its name
 * alone. */
static bool on_same_mount(const char *path, const char *tree)
{
	struct stat of_path, of_tree;

	if (stat(path, &of_path) < 0 || stat(tree, &of_tree) < 0)
		return true;
	return of_path.st_dev == of_tree.st_dev;
}

int umbra_writer_path_in_set(const struct umbra_writer *w, const char *path)
{
	const struct writer_session *s = session_with_trees(w);
	CLEANUP(free_p) char *real = NULL;
	CLEANUP(free_p) char *whole = NULL;
	const char *rest;

	if (!s)
		return -EBADF;
	if (path[0] != '/')
		return -EINVAL;
	real = existing_part(path, &rest);
	if (!real)
		return -errno;
	if (asprintf(&whole, "%s/%s", real[1] ? real : "", rest) < 0) {
		whole = NULL; /* undefined after a failure, asprintf(3) */
		return -ENOMEM;
	}
	for (size_t i = 0; i < s->ntrees; i++) {
		const char *tree = s->trees[i];

		if (path_below(tree, whole) &&
		    (!path_below(tree, real) || on_same_mount(real, tree)))
			return 1;
	}
	return 0;
}
