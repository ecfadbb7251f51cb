/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/bench/shots.c - a requester; see shots.h. */
#include "tests/bench/shots.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/client/client.h"
#include "cow/base/cleanup.h"
#include "cow/base/clock.h"
#include "tests/bench/bench.h"

static void decref_p(json_t **j)
{
	json_decref(*j);
}

/* A call that must work; the answer is the caller's. */
static json_t *call(struct umbra_client *c, const char *method, json_t *params)
{
	struct umbra_failure f = { 0 };
	json_t *answer = NULL;
	int r = umbra_call(c, method, params, -1, &answer, NULL, &f);

	if (r < 0)
		bench_die("%s: %s", method, *f.message ? f.message : strerror(-r));
	return answer;
}

static void call_only(struct umbra_client *c, const char *method, json_t *params)
{
	json_decref(call(c, method, params));
}

static struct umbra_client *begin(const char *context)
{
	struct umbra_client *c;
	int r = umbra_connect(NULL, &c);

	if (r < 0)
		bench_die("the coordinator cannot be reached: %s", strerror(-r));
	call_only(c, "InitializeForBackup", NULL);
	call_only(c, "SetContext", json_pack("{ss}", "context", context));
	return c;
}

static void copy_text(char *to, size_t size, const json_t *answer, const char *key)
{
	const char *s = json_string_value(json_object_get(answer, key));

	if (!s || snprintf(to, size, "%s", s) >= (int)size)
		bench_die("the coordinator's answer has no good %s", key);
}

static void wait_for(struct umbra_client *c, const char *operation)
{
	CLEANUP(decref_p)
	json_t *answer = call(c, "WaitOperation", json_pack("{ss}", "operation_id", operation));
	const json_t *op = json_object_get(answer, "operation");
	const char *status = json_string_value(json_object_get(op, "status"));

	if (!status || strcmp(status, "finished") != 0)
		bench_die("a snapshot was not made: %s: %s", status ? status : "?",
			  json_string_value(json_object_get(op, "message")));
}

static void create(struct umbra_client *c, struct shot *s)
{
	CLEANUP(decref_p) json_t *answer = NULL;
	char operation[64];

	s->began_ns = clock_mono_ns();
	answer = call(c, "DoSnapshotSet", NULL);
	copy_text(operation, sizeof(operation), answer, "operation_id");
	wait_for(c, operation);
	s->ended_ns = clock_mono_ns();
}

static struct umbra_client *take(const char *context, const char *const *dirs, size_t n,
				 struct shot *s)
{
	static unsigned taken;
	struct umbra_client *c = begin(context);
	CLEANUP(decref_p) json_t *set = call(c, "StartSnapshotSet", NULL);

	*s = (struct shot){ 0 };
	copy_text(s->set_id, sizeof(s->set_id), set, "set_id");
	snprintf(s->label, sizeof(s->label), "bench-%u", taken++);
	for (size_t i = 0; i < n; i++) {
		CLEANUP(decref_p)
		json_t *answer = call(c, "AddToSnapshotSet",
				      json_pack("{ssss}", "path", dirs[i], "label", s->label));

		copy_text(s->ids[i], sizeof(s->ids[i]), answer, "snapshot_id");
	}
	create(c, s);
	return c;
}

void shots_take(const char *const *dirs, size_t n, struct shot *ret)
{
	struct umbra_client *c = take("nas-rollback", dirs, n, ret);

	call_only(c, "Release", NULL);
	umbra_close(c);
}

void shots_take_volatile(const char *const *dirs, size_t n, struct shot *ret)
{
	ret->client = take("file-share-backup", dirs, n, ret);
}

void shots_end(struct shot *s)
{
	if (!s->client)
		return;
	call_only(s->client, "Release", NULL);
	umbra_close(s->client);
	s->client = NULL;
}

/* One session for all that is not taking. */
static struct umbra_client *manager(void)
{
	static struct umbra_client *c;

	if (!c)
		c = begin("all");
	return c;
}

void shots_delete(const char *id)
{
	CLEANUP(decref_p)
	json_t *answer =
		call(manager(), "DeleteSnapshots", json_pack("{sssb}", "id", id, "force", 1));
	const char *error = json_string_value(json_object_get(answer, "error"));

	if (error)
		bench_die("a snapshot was not deleted: %s", error);
}

void shots_drop(struct shots *s, size_t i)
{
	shots_delete(s->list[i].ids[0]);
	memmove(&s->list[i], &s->list[i + 1], (s->n - i - 1) * sizeof(s->list[0]));
	s->n--;
}

static void add(struct shots *s)
{
	if (s->n == SHOTS_ALIVE_MAX)
		bench_die("too many snapshots");
	shots_take(&s->dir, 1, &s->list[s->n++]);
}

void shots_keep(struct shots *s, size_t n)
{
	while (s->n > n)
		shots_drop(s, 0);
	while (s->n < n)
		add(s);
}

void shots_turn(struct shots *s)
{
	add(s);
	shots_drop(s, 0);
}

const char *shots_path(const char *dir, const struct shot *shot)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/.snapshots/%s", dir, shot->label);
	return path;
}

int shots_daemon(const char *dir)
{
	CLEANUP(decref_p)
	json_t *answer = call(manager(), "FindTree", json_pack("{ss}", "path", dir));

	return (int)json_integer_value(json_object_get(json_object_get(answer, "tree"), "pid"));
}

/* "... snapshot set ID created: N trees, held for U us" */
uint64_t shots_held_ns(const char *log, const char *set_id)
{
	CLEANUP(fclose_p) FILE *f = log ? fopen(log, "re") : NULL;
	CLEANUP(free_p) char *line = NULL;
	size_t size = 0;

	while (f && getline(&line, &size, f) > 0) {
		const char *id = strstr(line, set_id), *held = id ? strstr(id, "held for ") : NULL;

		if (held)
			return strtoull(held + strlen("held for "), NULL, 10) * 1000;
	}
	return 0;
}
