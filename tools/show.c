/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra show: everything known of one snapshot and its set. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cow/base/bytes.h"
#include "tools/commands.h"
#include "tools/common.h"
#include "tools/find.h"
#include "tools/print.h"
#include "tools/snapshot.h"
#include "tools/text.h"

static int find_set(struct umbra_client *c, const json_t *snapshot, json_t **ret)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	int r = tool_call(c, "Query", json_pack("{ss}", "set_id", tool_str(snapshot, "set_id")),
			  &answer);

	if (r == 0)
		*ret = json_incref(json_object_get(answer, "snapshots"));
	return r;
}

static void print_writers(const json_t *snapshot)
{
	static const char *const headings[] = { "WRITER", "FAILED IN", "RESULT", ">FROZEN MS",
						"MESSAGE" };
	const json_t *writers = json_object_get(snapshot, "writers"), *w;
	struct table *t;
	size_t i;

	if (json_array_size(writers) == 0)
		return;
	t = table_new(headings, 5);
	json_array_foreach(writers, i, w) {
		const char *state = tool_str(w, "state"), *error = tool_str(w, "error");
		char outcome[TEXT_OUTCOME_SIZE];

		table_row(t, tool_str(w, "name"), *error ? text_writer_event(state) : "",
			  text_writer_outcome(outcome, error),
			  json_is_integer(json_object_get(w, "frozen_ms"))
				  ? PRINT_NUMBER(tool_int(w, "frozen_ms"))
				  : "",
			  tool_str(w, "message"));
	}
	putchar('\n');
	table_print(t);
}

static void print_set(const json_t *snapshot, const json_t *set)
{
	const json_t *s;
	size_t i;

	printf("\nset %s, %lld at creation\n", tool_str(snapshot, "set_id"),
	       (long long)tool_int(snapshot, "in_set"));
	json_array_foreach(set, i, s) {
		CLEANUP(free_p) char *tree = tool_path(s, "tree_path");

		printf("  %s  %s\n", tool_str(s, "id"), tree ? LOG_QUOTE(tree) : "?");
	}
}

static void print_text(const json_t *s, const json_t *set, const json_t *all)
{
	CLEANUP(free_p)
	char *tree = tool_path(s, "tree_path"), *path = tool_path(s, "path"),
	     *exposed = snapshot_exposed(s), *subdir = tool_path(s, "exposed_subdir");
	char number[24];

	print_fact("id", tool_str(s, "id"));
	print_fact("label", tool_str(s, "label"));
	print_fact("description", tool_str(s, "description"));
	print_fact("directory", tree);
	print_fact("path", path);
	print_fact("name", tool_str(s, "name"));
	printf("%-14s %s (%s ago)\n", "taken", PRINT_LOCAL(snapshot_created_ns(s)),
	       PRINT_AGE(snapshot_age_s(s)));
	printf("%-14s %s (%s%s)\n", "context", tool_str(s, "context"),
	       tool_bool(s, "persistent") ? "persistent" : "not persistent",
	       tool_bool(s, "auto_release") ? ", ends with its session" : "");
	print_fact("state", tool_str(s, "state"));
	print_fact("unique", PRINT_SIZE(tool_int(s, "stored_bytes")));
	print_fact("total", PRINT_SIZE(snapshot_total_bytes(s, all)));
	print_fact("changed files", print_number(number, tool_int(s, "changed_files")));
	print_fact("in use by", print_number(number, tool_int(s, "in_use")));
	print_fact("exposed at", exposed);
	print_fact("exposed part", subdir);
	print_fact("not mounted", tool_str(s, "exposed_problem"));
	print_set(s, set);
	print_writers(s);
}

enum { OPT_FOR = TOOL_OPT_OWN };

static int run(int argc, char **argv)
{
	static const struct option options[] = { TOOL_LONG, { "for", 1, NULL, OPT_FOR }, { 0 } };
	CLEANUP(umbra_close_p) struct umbra_client *client = NULL;
	CLEANUP(json_decref_p) json_t *snapshot = NULL, *set = NULL, *all = NULL;
	struct find_operand what;
	const char *dir = NULL;
	int c, r;

	while ((c = getopt_long(argc, argv, TOOL_SHORT, options, NULL)) != -1) {
		if (c == OPT_FOR) {
			dir = optarg;
			continue;
		}
		r = tool_option(&cmd_show, c, argv);
		if (r != TOOL_GO_ON)
			return r;
	}
	if (find_operand(argv + optind, argc - optind, dir, &what) < 0)
		return tool_usage(&cmd_show, "show needs one snapshot");
	r = tool_connect_manager(&client);
	if (r == 0)
		r = find_snapshot(client, what.name, what.dir, &snapshot);
	if (r == 0)
		r = find_set(client, snapshot, &set);
	if (r == 0)
		r = find_all(client, NULL, &all);
	if (r != 0)
		return r;
	if (tool_opts.json)
		print_json(json_pack("{sosO}", "snapshot", snapshot_to_json(snapshot, all), "set",
				     set));
	else
		print_text(snapshot, set, all);
	return 0;
}

const struct command cmd_show = {
	.name = "show",
	.args = "[OPTION]... SNAPSHOT [DIR]",
	.summary = "show everything known of one snapshot, its set and its writers",
	.help = "  --for DIR  the snapshot is one of DIR\n\n"
		"SNAPSHOT is an id, a unique beginning of one, a label, a path under .snapshots,\n"
		"or latest; a DIR behind it says of which directory.\n\n"
		"Example: umbra show latest /srv/db\n",
	.run = run,
};
