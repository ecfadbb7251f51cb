/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/writers.h"

#include "coordinator/name.h"
#include "cow/base/cleanup.h"
#include "cow/base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

struct coord_told {
	TAILQ_ENTRY(coord_told) link;
	struct coord_writer *writer;
	uint64_t serial;
	enum coord_writer_event event;
	struct coord_timer limit;
	coord_writer_answer_fn fn;
	void *data;
};

static const char *const level_names[WRITER_LEVELS] = {
	[LEVEL_FRONT_END] = "front-end",
	[LEVEL_BACK_END] = "back-end",
	[LEVEL_SYSTEM] = "system",
};

static const char *const event_names[WRITER_EVENTS] = {
	[EVENT_IDENTIFY] = "identify",
	[EVENT_PREPARE_BACKUP] = "prepare-backup",
	[EVENT_PREPARE_FOR_SNAPSHOT] = "prepare-for-snapshot",
	[EVENT_FREEZE] = "freeze",
	[EVENT_WINDOW_OVER] = "window-over", /* never sent */
	[EVENT_THAW] = "thaw",
	[EVENT_POST_SNAPSHOT] = "post-snapshot",
	[EVENT_BACKUP_COMPLETE] = "backup-complete",
	[EVENT_ABORT] = "abort",
	[EVENT_BACKUP_SHUTDOWN] = "backup-shutdown",
	[EVENT_PRE_RESTORE] = "pre-restore",
	[EVENT_POST_RESTORE] = "post-restore",
};

/* Section 10: all that a writer may send. */
static const char *const codes[] = {
	"inconsistent-snapshot", "out-of-resources", "timeout",		"retryable",
	"non-retryable",	 "recovery-failed",  "partial-failure",
};

static int find_name(const char *const *names, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return (int)i;
	return -1;
}

const char *coord_writer_level_name(enum coord_writer_level level)
{
	assert(level < WRITER_LEVELS);
	return level_names[level];
}

int coord_writer_level_from_name(const char *name)
{
	return find_name(level_names, COUNT(level_names), name);
}

const char *coord_writer_event_name(enum coord_writer_event e)
{
	assert(e < WRITER_EVENTS);
	return event_names[e];
}

int coord_writer_event_from_name(const char *name)
{
	int e = find_name(event_names, COUNT(event_names), name);

	return e == EVENT_WINDOW_OVER ? -1 : e;
}

const char *coord_writer_code(const char *code)
{
	int i = code ? find_name(codes, COUNT(codes), code) : -1;

	return i < 0 ? "non-retryable" : codes[i];
}

/* ---- registrations ---- */

void coord_writers_init(struct coord_writers *reg, struct coord_timers *timers)
{
	TAILQ_INIT(&reg->list);
	reg->timers = timers;
}

void coord_writer_info_done(struct coord_writer_info *info)
{
	free(info->class_id);
	free(info->name);
	free(info->usage);
	free(info->source);
	free(info->instance_name);
	*info = (struct coord_writer_info){ 0 };
}

static bool too_long(const char *text)
{
	return text && strlen(text) > COORD_WRITER_TEXT_MAX;
}

const char *coord_writer_info_problem(const struct coord_writer_info *info)
{
	unsigned must = 1u << EVENT_PREPARE_FOR_SNAPSHOT | 1u << EVENT_FREEZE | 1u << EVENT_THAW |
			1u << EVENT_ABORT;

	if (!coord_name_is_id(info->class_id))
		return "class_id must be a UUID in lower case";
	if (info->name[0] == 0)
		return "a writer needs a name";
	if (too_long(info->name) || too_long(info->instance_name) || too_long(info->usage) ||
	    too_long(info->source))
		return "a name is longer than 256 bytes";
	if (info->window_ms < 1 || info->window_ms > COORD_WINDOW_MAX_MS)
		return "the freeze window must be 1 ms to an hour";
	if ((info->handlers & must) != must) /* W-3 */
		return "a writer needs handlers for prepare-for-snapshot, freeze, thaw and abort";
	return NULL;
}

int coord_writer_new(struct coord_writers *reg, struct coord_writer_info *info, pid_t pid,
		     uid_t uid, int64_t now_ns, const struct coord_writer_transport *transport,
		     void *data, struct coord_writer **ret)
{
	struct coord_writer *w = calloc(1, sizeof(*w));

	if (!w) {
		coord_writer_info_done(info);
		return -ENOMEM;
	}
	w->registry = reg;
	w->info = *info;
	*info = (struct coord_writer_info){ 0 };
	coord_name_id(w->id);
	w->pid = pid;
	w->uid = uid;
	w->since_ns = now_ns;
	w->transport = transport;
	w->transport_data = data;
	TAILQ_INIT(&w->users);
	TAILQ_INIT(&w->told);
	TAILQ_INSERT_TAIL(&reg->list, w, link);
	*ret = w;
	return 0;
}

void coord_told_forget(struct coord_told *t)
{
	if (!t)
		return;
	coord_timer_disarm(t->writer->registry->timers, &t->limit);
	TAILQ_REMOVE(&t->writer->told, t, link);
	free(t);
}

void coord_writer_lost(struct coord_writer *w)
{
	struct coord_writer_user *user;
	struct coord_told *t;

	/* Out of the list first: whoever is told now must not find it any more. */
	TAILQ_REMOVE(&w->registry->list, w, link);
	while ((t = TAILQ_FIRST(&w->told)))
		coord_told_forget(t);
	/* A user that is told may free others: so always the first of what is left. */
	while ((user = TAILQ_FIRST(&w->users))) {
		TAILQ_REMOVE(&w->users, user, link);
		user->lost(user);
	}
	coord_writer_info_done(&w->info);
	free(w);
}

struct coord_writer *coord_writers_find(const struct coord_writers *reg, const char *id)
{
	struct coord_writer *w;

	TAILQ_FOREACH(w, &reg->list, link)
		if (strcmp(w->id, id) == 0 || strcmp(w->info.class_id, id) == 0)
			return w;
	return NULL;
}

/* ---- events ---- */

static void on_limit(void *data)
{
	struct coord_told *t = data;
	struct coord_writer_answer late = { .outcome = OUTCOME_LATE };
	coord_writer_answer_fn fn = t->fn;
	void *fn_data = t->data;

	coord_told_forget(t);
	fn(fn_data, &late);
}

int coord_writer_ask(struct coord_writer *w, struct coord_writer_question *q, uint64_t limit_ms,
		     coord_writer_answer_fn fn, void *data, struct coord_told **ret)
{
	CLEANUP(free_p) struct coord_told *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	q->serial = ++w->serial;
	r = w->transport->send(w->transport_data, q);
	if (r < 0)
		return r;
	t->writer = w;
	t->serial = q->serial;
	t->event = q->event;
	t->fn = fn;
	t->data = data;
	coord_timer_arm(w->registry->timers, &t->limit, limit_ms, on_limit, t);
	TAILQ_INSERT_TAIL(&w->told, t, link);
	*ret = TAKE(t);
	return 0;
}

bool coord_writer_answer(struct coord_writer *w, uint64_t serial,
			 const struct coord_writer_answer *answer)
{
	struct coord_told *t;
	coord_writer_answer_fn fn;
	void *data;

	TAILQ_FOREACH(t, &w->told, link)
		if (t->serial == serial)
			break;
	if (!t)
		return false;
	fn = t->fn;
	data = t->data;
	coord_told_forget(t);
	fn(data, answer);
	return true;
}
