/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra status: one screen about everything. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cow/base/bytes.h"
#include "tools/commands.h"
#include "tools/common.h"
#include "tools/print.h"
#include "tools/snapshot.h"
#include "tools/text.h"

#define WATCH_SECONDS 2

static const char *local_time(char buf[TEXT_TIME_SIZE], const char *rfc3339)
{
	uint64_t ns;

	return text_parse_time(rfc3339, &ns) == 0 ? text_format_local(buf, ns) : rfc3339;
}

static void print_coordinator(const json_t *info, const json_t *status)
{
	char time[TEXT_TIME_SIZE];

	printf("%scoordinator%s %s, pid %lld, since %s\n", print_colour(PRINT_BOLD),
	       print_colour(PRINT_PLAIN), tool_str(info, "version"),
	       (long long)tool_int(info, "pid"), local_time(time, tool_str(info, "started")));
	printf("  socket %s, %lld snapshot%s\n", LOG_QUOTE(tool_str(info, "socket")),
	       (long long)tool_int(status, "snapshots"),
	       tool_int(status, "snapshots") == 1 ? "" : "s");
}

static void print_warning(const char *text, enum print_colour colour)
{
	printf("  %s%s%s\n", print_colour(colour), LOG_QUOTE(text), print_colour(PRINT_PLAIN));
}

static bool is_reverting(const json_t *tree)
{
	return json_is_object(json_object_get(tree, "revert"));
}

static const char *revert_state(const json_t *tree)
{
	const char *state = tool_str(json_object_get(tree, "revert"), "state");

	return strcmp(state, "running") == 0 ? "reverting" : "half reverted";
}

/* what it is doing, or why it does not go on. */
static void print_revert(const json_t *tree)
{
	const json_t *rv = json_object_get(tree, "revert");
	const char *state = tool_str(rv, "state"), *why = tool_str(rv, "why");
	CLEANUP(free_p) char *path = tool_path(tree, "path");
	int64_t total = tool_int(rv, "total");

	if (strcmp(state, "running") == 0)
		printf("  %s is being reverted to snapshot %s: %lld of %lld steps\n",
		       path ? LOG_QUOTE(path) : "?", tool_str(rv, "snapshot_id"),
		       (long long)tool_int(rv, "done"), (long long)total);
	else if (strcmp(state, "stopped") == 0)
		printf("  %s%s is reverted in part%s%s (to go on: umbra revert %s)%s\n",
		       print_colour(PRINT_RED), path ? LOG_QUOTE(path) : "?", *why ? ": " : "",
		       LOG_QUOTE(why), tool_str(rv, "snapshot_id"), print_colour(PRINT_PLAIN));
	else
		printf("  %s%s is reverted in part, and its snapshot is gone%s\n",
		       print_colour(PRINT_RED), path ? LOG_QUOTE(path) : "?",
		       print_colour(PRINT_PLAIN));
}

static void print_trees(const json_t *trees)
{
	static const char *const headings[] = { "DIRECTORY", ">USED", ">ALLOCATED", ">MAXIMUM",
						"SNAPSHOTS", "STATE", ">PID" };
	struct table *t = table_new(headings, 7);
	const json_t *tree;
	size_t i;

	json_array_foreach(trees, i, tree) {
		CLEANUP(free_p) char *path = tool_path(tree, "path");
		int64_t max = tool_int(tree, "max_bytes");

		table_row(t, path, PRINT_SIZE(tool_int(tree, "used_bytes")),
			  PRINT_SIZE(tool_int(tree, "allocated_bytes")),
			  max ? PRINT_SIZE(max) : "unlimited", tool_str(tree, "snapshots_shown"),
			  *tool_str(tree, "fault")     ? tool_str(tree, "fault")
			  : is_reverting(tree)	       ? revert_state(tree)
			  : tool_bool(tree, "holding") ? "holding"
						       : "ready",
			  PRINT_NUMBER(tool_int(tree, "pid")));
	}
	putchar('\n');
	table_print(t);
	json_array_foreach(trees, i, tree) {
		const json_t *w;
		size_t k;

		if (is_reverting(tree))
			print_revert(tree);
		json_array_foreach(json_object_get(tree, "warnings"), k, w)
			print_warning(json_string_value(w), PRINT_YELLOW);
	}
}

static void print_sessions(const json_t *sessions, int64_t own_pid)
{
	static const char *const headings[] = { "SESSION", ">PID",    ">UID",
						"STATE",   "CONTEXT", "SINCE" };
	struct table *t = NULL;
	const json_t *s;
	size_t i;

	json_array_foreach(sessions, i, s) {
		char id[9], time[TEXT_TIME_SIZE];

		if (tool_int(s, "pid") == own_pid)
			continue;
		if (!t)
			t = table_new(headings, 6);
		snprintf(id, sizeof(id), "%s", tool_str(s, "id"));
		table_row(t, id, PRINT_NUMBER(tool_int(s, "pid")), PRINT_NUMBER(tool_int(s, "uid")),
			  tool_str(s, "state"), tool_str(s, "context"),
			  local_time(time, tool_str(s, "since")));
	}
	if (!t)
		return;
	putchar('\n');
	table_print(t);
}

static void print_exposed(const json_t *snapshots)
{
	static const char *const headings[] = { "EXPOSED", "SNAPSHOT", "OF" };
	const json_t *s;
	struct table *t;
	size_t i;

	if (json_array_size(snapshots) == 0)
		return;
	t = table_new(headings, 3);
	json_array_foreach(snapshots, i, s) {
		CLEANUP(free_p)
		char *path = snapshot_exposed(s), *tree = tool_path(s, "tree_path");

		table_row(t, path, snapshot_title(s), tree);
	}
	putchar('\n');
	table_print(t);
}

static void print_text(const json_t *status)
{
	const json_t *trees = json_object_get(status, "trees"), *w;
	size_t i;

	print_coordinator(json_object_get(status, "info"), status);
	if (json_array_size(trees))
		print_trees(trees);
	else
		printf("\nno directory is protected (try: umbra protect DIR)\n");
	print_exposed(json_object_get(status, "exposed"));
	print_sessions(json_object_get(status, "sessions"), getpid());
	json_array_foreach(json_object_get(status, "warnings"), i, w)
		print_warning(json_string_value(w), PRINT_YELLOW);
}

static int show(void)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	CLEANUP(json_decref_p) json_t *status = NULL;
	int r = tool_connect(&c);

	if (r == 0)
		r = tool_call(c, "GetStatus", NULL, &status);
	if (r != 0)
		return r;
	if (tool_opts.json)
		print_json(TAKE(status));
	else
		print_text(status);
	return 0;
}

static int watch(void)
{
	int r = 0;

	tool_catch_signals();
	while (!tool_signal()) {
		if (isatty(STDOUT_FILENO))
			fputs("\033[H\033[2J", stdout);
		r = show();
		fflush(stdout);
		if (ferror(stdout))
			break;
		sleep(WATCH_SECONDS);
	}
	return r;
}

enum { OPT_WATCH = TOOL_OPT_OWN };

static int run(int argc, char **argv)
{
	static const struct option options[] = { TOOL_LONG,
						 { "watch", 0, NULL, OPT_WATCH },
						 { 0 } };
	bool again = false;
	int c, r;

	while ((c = getopt_long(argc, argv, TOOL_SHORT, options, NULL)) != -1) {
		if (c == OPT_WATCH) {
			again = true;
			continue;
		}
		r = tool_option(&cmd_status, c, argv);
		if (r != TOOL_GO_ON)
			return r;
	}
	if (optind < argc)
		return tool_usage(&cmd_status, "status takes no argument");
	return again ? watch() : show();
}

const struct command cmd_status = {
	.name = "status",
	.args = "[OPTION]...",
	.summary = "show the coordinator, protected directories, sessions, sizes and warnings",
	.help = "  --watch  again and again, until interrupted\n\n"
		"Example: umbra status --watch\n",
	.run = run,
};
