/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra list: the snapshots there are. */
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
#include "tools/trees.h"

/* The snapshots of all trees, or of those that hold the given directories. */
static int collect(struct umbra_client *c, char *const *dirs, int n, json_t **ret)
{
	CLEANUP(trees_done) struct trees trees = { 0 };
	CLEANUP(json_decref_p) json_t *all = json_array();
	int r;

	if (n == 0)
		return find_all(c, NULL, ret);
	r = trees_find(&trees, dirs, n);
	for (size_t i = 0; r == 0 && i < trees.count; i++) {
		CLEANUP(json_decref_p) json_t *some = NULL;

		r = find_all(c, trees.paths[i], &some);
		if (r == 0)
			json_array_extend(all, some);
	}
	if (r == 0)
		*ret = TAKE(all);
	return r;
}

static bool any_exposed(const json_t *all)
{
	const json_t *s;
	size_t i;

	json_array_foreach(all, i, s)
		if (tool_bool(s, "exposed_locally"))
			return true;
	return false;
}

/* One column more only where it says something. */
static void print_table(const json_t *all)
{
	static const char *const headings[] = { "ID",	   "LABEL",  "TIME",   ">AGE", "CONTEXT",
						">UNIQUE", ">TOTAL", ">FILES", "PATH", "EXPOSED" };
	struct table *t = table_new(headings, any_exposed(all) ? 10 : 9);
	const json_t *s;
	size_t i;

	json_array_foreach(all, i, s) {
		CLEANUP(free_p)
		char *path = tool_path(s, "path"), *tree = tool_path(s, "tree_path"),
		     *exposed = snapshot_exposed(s);
		char id[SNAPSHOT_SHORT_ID + 1];

		snprintf(id, sizeof(id), "%s", tool_str(s, "id"));
		table_row(t, id, tool_str(s, "label"), PRINT_LOCAL(snapshot_created_ns(s)),
			  PRINT_AGE(snapshot_age_s(s)), tool_str(s, "context"),
			  PRINT_SIZE(tool_int(s, "stored_bytes")),
			  PRINT_SIZE(snapshot_total_bytes(s, all)),
			  PRINT_NUMBER(tool_int(s, "changed_files")), path ? path : tree,
			  exposed ? exposed : "");
	}
	table_print(t);
}

static void print_as_json(const json_t *all)
{
	json_t *out = json_array();
	const json_t *s;
	size_t i;

	json_array_foreach(all, i, s)
		json_array_append_new(out, snapshot_to_json(s, all));
	print_json(json_pack("{so}", "snapshots", out));
}

/* For completion and scripts: one word a line. */
static void print_names(const json_t *all)
{
	const json_t *s;
	size_t i;

	json_array_foreach(all, i, s) {
		if (*tool_str(s, "label"))
			puts(tool_str(s, "label"));
		puts(tool_str(s, "id"));
	}
}

static int print_dirs(struct umbra_client *c)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	const json_t *tree;
	size_t i;
	int r = tool_call(c, "ListTrees", NULL, &answer);

	if (r != 0)
		return r;
	json_array_foreach(json_object_get(answer, "trees"), i, tree) {
		CLEANUP(free_p) char *path = tool_path(tree, "path");

		if (path)
			puts(path);
	}
	return 0;
}

enum { OPT_NAMES = TOOL_OPT_OWN, OPT_DIRS };

static int run(int argc, char **argv)
{
	static const struct option options[] = {
		TOOL_LONG,
		{ "names", 0, NULL, OPT_NAMES },
		{ "dirs", 0, NULL, OPT_DIRS },
		{ 0 },
	};
	CLEANUP(umbra_close_p) struct umbra_client *client = NULL;
	CLEANUP(json_decref_p) json_t *all = NULL;
	int c, r, what = 0;

	while ((c = getopt_long(argc, argv, TOOL_SHORT, options, NULL)) != -1) {
		if (c == OPT_NAMES || c == OPT_DIRS) {
			what = c;
			continue;
		}
		r = tool_option(&cmd_list, c, argv);
		if (r != TOOL_GO_ON)
			return r;
	}
	r = tool_connect_manager(&client);
	if (r == 0 && what == OPT_DIRS)
		return print_dirs(client);
	if (r == 0)
		r = collect(client, argv + optind, argc - optind, &all);
	if (r != 0)
		return r;
	if (what == OPT_NAMES)
		print_names(all);
	else if (tool_opts.json)
		print_as_json(all);
	else if (json_array_size(all) == 0)
		log_info("there is no snapshot (try: umbra create DIR)");
	else
		print_table(all);
	return 0;
}

const struct command cmd_list = {
	.name = "list",
	.args = "[OPTION]... [DIR]...",
	.summary = "list snapshots, of all protected directories or of those of DIRs",
	.help = "  --names  only labels and ids, one per line, for scripts\n"
		"  --dirs   only the protected directories, one per line\n\n"
		"UNIQUE is what is preserved under this snapshot alone; TOTAL counts also what it\n"
		"shares with newer ones. FILES are those changed since it was taken, until the next.\n\n"
		"Example: umbra list /srv/db\n",
	.run = run,
};
