/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/client/writer_private.h"

#include "cow/base/cleanup.h"
#include "cow/base/clock.h"

#include <errno.h>
#include <string.h>

uint64_t writer_now_ns(const struct umbra_writer *w)
{
	return w->now_ns ? w->now_ns(w->now_data) : clock_mono_ns();
}

void umbra_writer_set_clock(struct umbra_writer *w, uint64_t (*now_ns)(void *), void *data)
{
	w->now_ns = now_ns;
	w->now_data = data;
}

/* ---- records ---- */

struct writer_session *writer_session_find(const struct umbra_writer *w, const char *id)
{
	for (struct writer_session *s = w->sessions; s && id; s = s->next)
		if (strcmp(s->id, id) == 0)
			return s;
	return NULL;
}

static void trees_free(char **trees, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(trees[i]);
	free(trees);
}

struct writer_session *writer_session_arm(struct umbra_writer *w, const char *id)
{
	struct writer_session *s = writer_session_find(w, id);

	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->id = strdup(id);
	if (!s->id) {
		free(s);
		return NULL;
	}
	s->deadline_ns = CLOCK_NEVER;
	s->next = w->sessions;
	w->sessions = s;
	return s;
}

void writer_session_disarm(struct umbra_writer *w, struct writer_session *s)
{
	struct writer_session **at = &w->sessions;

	if (!s)
		return;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	trees_free(s->trees, s->ntrees);
	free(s->set_id);
	free(s->id);
	free(s);
}

int writer_session_set(struct writer_session *s, const char *set_id)
{
	char *copy = NULL;

	if (set_id && s->set_id && strcmp(set_id, s->set_id) == 0)
		return 0;
	if (set_id) {
		copy = strdup(set_id);
		if (!copy)
			return -ENOMEM;
	}
	free(s->set_id);
	s->set_id = copy;
	return 0;
}

/* ---- trees ---- */

int writer_session_take_trees(struct writer_session *s, const json_t *arguments)
{
	const json_t *from = json_object_get(arguments, "trees");
	size_t n = json_array_size(from); /* 0 for what is no array */
	char **trees;

	if (n == 0) {
		s->has_trees = true;
		return 0;
	}
	trees = calloc(n, sizeof(*trees));
	if (!trees)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		trees[i] = umbra_json_get_path(json_array_get(from, i), "tree_path");
		if (!trees[i]) {
			int r = errno == ENOMEM ? -ENOMEM : -EPROTO;

			trees_free(trees, n);
			return r;
		}
	}
	trees_free(s->trees, s->ntrees);
	s->trees = trees;
	s->ntrees = n;
	s->has_trees = true;
	return 0;
}

void writer_session_drop_trees(struct writer_session *s)
{
	trees_free(s->trees, s->ntrees);
	s->trees = NULL;
	s->ntrees = 0;
	s->has_trees = false;
}

/* ---- the freeze window ---- */

void writer_session_close_window(struct writer_session *s, enum writer_freeze freeze)
{
	s->freeze = freeze;
	s->deadline_ns = CLOCK_NEVER;
}

void writer_session_freeze(struct writer_session *s, uint64_t window_end_ns)
{
	s->freeze = WRITER_FROZEN;
	s->deadline_ns = window_end_ns;
}

bool writer_session_expired(const struct umbra_writer *w, const struct writer_session *s)
{
	return s->freeze == WRITER_FROZEN && writer_now_ns(w) >= s->deadline_ns;
}

bool writer_session_thaw(const struct umbra_writer *w, struct writer_session *s)
{
	if (s->freeze != WRITER_FROZEN || writer_session_expired(w, s))
		return false;
	writer_session_close_window(s, WRITER_RUNNING);
	return true;
}
