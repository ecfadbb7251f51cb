/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A writer's row is one of GetRestoreComponents; what shall be restored of it has "restore": true. */
#include "tools/shell_restore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/common.h"
#include "tools/find.h"
#include "tools/operation.h"
#include "tools/print.h"
#include "tools/shell_metadata.h"
#include "tools/watch.h"

/* How long the writers have for a PostRestore of a restore that is given up. */
#define GIVE_UP_MS 60000

int shell_restore_load(struct shell_session *s, const char *path)
{
	struct umbra_documents *d;
	int r = shell_metadata_load(path, &d);

	if (r != 0)
		return r;
	umbra_documents_free(s->documents);
	s->documents = d;
	return 0;
}

/* ---- what can be restored */

/* Until GatherWriterMetadata, and what there is then. */
static int open_session(struct umbra_client *c, const struct umbra_documents *d, char **ret_id,
			json_t **ret_rows)
{
	CLEANUP(json_decref_p) json_t *begun = NULL, *answer = NULL;
	int r = shell_metadata_restore(c, d, &begun);

	if (r == 0)
		r = operation_run(c, "GatherWriterMetadata");
	if (r == 0)
		r = tool_call(c, "GetRestoreComponents", NULL, &answer);
	if (r != 0)
		return r;
	*ret_id = strdup(tool_str(begun, "session_id"));
	*ret_rows = json_incref(json_object_get(answer, "writers"));
	return *ret_id ? 0 : tool_no_memory();
}

static bool is_there(const json_t *row)
{
	return *tool_str(row, "present_instance_id") != 0;
}

/* As it was, or as it is now. */
static bool is_writer(const json_t *row, const char *name)
{
	return find_is_writer(row, name) || strcmp(tool_str(row, "present_instance_id"), name) == 0;
}

static bool is_excluded(const struct shell_session *s, const json_t *row)
{
	const json_t *name;
	size_t i;

	json_array_foreach(s->exclude, i, name) {
		if (is_writer(row, json_string_value(name)))
			return true;
	}
	return false;
}

/* Mark the components that shall be restored. Returns how many. */
static size_t choose_components(json_t *row, bool excluded)
{
	size_t i, n = 0;
	json_t *one;

	json_array_foreach(json_object_get(row, "components"), i, one) {
		/* M-7: a component that nobody spoke well of has no backup. */
		bool good = tool_bool(one, "succeeded"),
		     restore = good && !excluded && is_there(row);

		if (!good && !excluded)
			log_warn("component %s of writer %s was not backed up well: it is left out",
				 LOG_QUOTE(tool_str(one, "name")),
				 LOG_QUOTE(tool_str(row, "name")));
		json_object_set_new(one, "restore", json_boolean(restore));
		n += restore;
	}
	return n;
}

static void tell_absent(const struct shell_session *s, const json_t *row)
{
	log_warn("writer %s is not there: nothing of it is restored with it",
		 LOG_QUOTE(tool_str(row, "name")));
	json_object_set_new(s->failed_writers, tool_str(row, "instance_id"),
			    json_string("writer-not-responding"));
}

static bool chosen(const json_t *row, const char *name)
{
	bool writer = is_writer(row, name);
	const json_t *one;
	size_t i;

	json_array_foreach(json_object_get(row, "components"), i, one) {
		if (tool_bool(one, "restore") && (writer || find_is_component(one, name)))
			return true;
	}
	return false;
}

/* All writers that a name of "writer verify" stands for go into s->must. */
static int verify_one(struct shell_session *s, const json_t *rows, const char *name)
{
	const json_t *row;
	bool found = false;
	size_t i;

	json_array_foreach(rows, i, row) {
		if (!chosen(row, name))
			continue;
		found = true;
		json_object_set_new(s->must, tool_str(row, "present_instance_id"),
				    json_string(name));
	}
	if (found)
		return 0;
	return tool_error("%s has to be restored (writer verify), but cannot (see: list metadata)",
			  LOG_QUOTE(name));
}

/* What shall be restored is marked, who lacks is said. */
static int choose(struct shell_session *s, const json_t *rows)
{
	const json_t *name;
	size_t i, n = 0;
	json_t *row;
	int r = 0;

	json_array_foreach(rows, i, row) {
		bool excluded = is_excluded(s, row);

		n += choose_components(row, excluded);
		if (!excluded && !is_there(row) &&
		    json_array_size(json_object_get(row, "components")) > 0)
			tell_absent(s, row);
	}
	json_array_foreach(s->verify, i, name) {
		if (r == 0)
			r = verify_one(s, rows, json_string_value(name));
	}
	if (r == 0 && n == 0)
		return tool_error(
			"there is nothing that a writer could restore (see: list metadata)");
	return r;
}

/* ---- showing it */

static void print_component(const json_t *one)
{
	const char *path = tool_str(one, "logical_path"), *target = tool_str(one, "target");
	CLEANUP(free_p) char *name = NULL;

	if (asprintf(&name, "%s%s%s", path, *path ? "/" : "", tool_str(one, "name")) < 0)
		name = NULL;
	printf("   Component: '%s'\n", name ? LOG_QUOTE(name) : "");
	printf("      Type: %s\n", LOG_QUOTE(tool_str(one, "type")));
	printf("      Backed up: %s\n", tool_bool(one, "succeeded") ? "yes" : "no");
	if (json_object_get(one, "restore") || tool_bool(one, "selected"))
		printf("      To be restored: %s\n",
		       tool_bool(one, "restore") || tool_bool(one, "selected") ? "yes" : "no");
	if (*target)
		printf("      Target: %s\n", LOG_QUOTE(target));
}

static void print_row(const json_t *row)
{
	const json_t *one;
	size_t i;

	printf("Writer name: '%s%s%s'\n", print_colour(PRINT_BOLD),
	       LOG_QUOTE(tool_str(row, "name")), print_colour(PRINT_PLAIN));
	printf("   Writer Id: {%s}\n", LOG_QUOTE(tool_str(row, "class_id")));
	printf("   Writer Instance Id: {%s}\n", LOG_QUOTE(tool_str(row, "instance_id")));
	if (is_there(row))
		printf("   Now: {%s}\n", LOG_QUOTE(tool_str(row, "present_instance_id")));
	else
		printf("   Now: %snot there%s\n", print_colour(PRINT_RED),
		       print_colour(PRINT_PLAIN));
	if (*tool_str(row, "instance_name"))
		printf("   Instance name: %s\n", LOG_QUOTE(tool_str(row, "instance_name")));
	json_array_foreach(json_object_get(row, "components"), i, one)
		print_component(one);
	putchar('\n');
}

static void print_rows(const json_t *rows)
{
	const json_t *row;
	size_t i;

	if (tool_opts.json) {
		print_json(json_pack("{sO}", "writers", rows));
		return;
	}
	json_array_foreach(rows, i, row)
		print_row(row);
	if (json_array_size(rows) == 0)
		log_info("no writer took part in that backup");
}

/* A session that is only looked at; judge: whether it could be restored. */
static int look(struct shell_session *s, bool judge)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	CLEANUP(json_decref_p) json_t *rows = NULL;
	CLEANUP(free_p) char *id = NULL;
	int r = tool_connect(&c);

	if (r == 0)
		r = open_session(c, s->documents, &id, &rows);
	if (r != 0)
		return r;
	if (judge)
		r = choose(s, rows);
	print_rows(rows);
	return r;
}

int shell_restore_simulate(struct shell_session *s)
{
	int r = look(s, true);

	json_object_clear(s->must);
	return r;
}

/* While it is being restored the session itself knows the targets as well. */
int shell_restore_list(struct shell_session *s)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	int r;

	if (s->state != SHELL_RESTORING && s->state != SHELL_RESTORED)
		return look(s, false);
	r = tool_call(s->client, "GetRestoreComponents", NULL, &answer);
	if (r == 0)
		print_rows(json_object_get(answer, "writers"));
	return r;
}

/* ---- doing it */

typedef int (*component_fn)(struct shell_session *s, const char *instance_id, const json_t *one,
			    const char *status);

static int for_components(struct shell_session *s, const json_t *rows, const char *mark,
			  component_fn fn, const char *status)
{
	const json_t *row, *one;
	size_t i, j;
	int r = 0;

	json_array_foreach(rows, i, row) {
		json_array_foreach(json_object_get(row, "components"), j, one) {
			if (r == 0 && tool_bool(one, mark))
				r = fn(s, tool_str(row, "instance_id"), one, status);
		}
	}
	return r;
}

static json_t *name_of(const char *instance_id, const json_t *one)
{
	return json_pack("{ssssss}", "instance_id", instance_id, "logical_path",
			 tool_str(one, "logical_path"), "name", tool_str(one, "name"));
}

static int select_one(struct shell_session *s, const char *instance_id, const json_t *one,
		      const char *status)
{
	json_t *params = name_of(instance_id, one);

	(void)status;
	if (!params || json_object_set_new(params, "selected", json_true()) < 0)
		return tool_no_memory();
	return tool_call(s->client, "SetSelectedForRestore", params, NULL);
}

static int report_one(struct shell_session *s, const char *instance_id, const json_t *one,
		      const char *status)
{
	json_t *params = name_of(instance_id, one);

	if (!params || json_object_set_new(params, "status", json_string(status)) < 0)
		return tool_no_memory();
	return tool_call(s->client, "SetFileRestoreStatus", params, NULL);
}

static int begin(struct shell_session *s)
{
	CLEANUP(json_decref_p) json_t *rows = NULL;
	CLEANUP(free_p) char *id = NULL;
	int r = tool_connect(&s->client);

	if (r == 0)
		r = open_session(s->client, s->documents, &id, &rows);
	if (r == 0)
		s->watch = watch_begin(id);
	if (r == 0)
		r = choose(s, rows);
	if (r == 0)
		r = for_components(s, rows, "restore", select_one, NULL);
	if (r != 0)
		return r;
	s->state = SHELL_RESTORING; /* from now on PostRestore is due */
	r = operation_run(s->client, "PreRestore");
	if (r == 0)
		r = operation_look_at_writers(s->client, s->failed_writers);
	if (r == 0)
		r = shell_session_must_not_fail(s);
	return r == 0 ? shell_restore_list(s) : r; /* targets are known now */
}

int shell_restore_begin(struct shell_session *s)
{
	int r = begin(s);

	if (r == 0 && tool_signal())
		r = tool_error("interrupted");
	if (r == 0)
		return 0;
	shell_restore_give_up(s);
	s->state = SHELL_FAILED;
	if (s->client)
		shell_session_release(s);
	return r;
}

static int report_all(struct shell_session *s, const char *status)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	int r = tool_call(s->client, "GetRestoreComponents", NULL, &answer);

	return r == 0 ? for_components(s, json_object_get(answer, "writers"), "selected",
				       report_one, status)
		      : r;
}

int shell_restore_end(struct shell_session *s, const char *status)
{
	int r = report_all(s, status);

	if (r == 0)
		r = operation_run(s->client, "PostRestore");
	if (r != 0)
		return r;
	s->state = SHELL_RESTORED;
	r = operation_look_at_writers(s->client, s->failed_writers);
	return r == 0 ? shell_session_must_not_fail(s) : r;
}

/* Whatever came, a signal too: the writers may have stopped for it. The connection may be what failed. */
void shell_restore_give_up(struct shell_session *s)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;

	if (s->state != SHELL_RESTORING)
		return;
	s->state = SHELL_FAILED;
	if (report_all(s, "failed") != 0 ||
	    umbra_call(s->client, "PostRestore", NULL, -1, &answer, NULL, NULL) < 0 ||
	    umbra_call(s->client, "WaitOperation",
		       json_pack("{sssi}", "operation_id", tool_str(answer, "operation_id"),
				 "timeout_ms", GIVE_UP_MS),
		       -1, NULL, NULL, NULL) < 0)
		log_debug("PostRestore was refused");
}
