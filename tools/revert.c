/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra revert: the whole live tree becomes a snapshot again. */
#include "tools/revert.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cow/base/bytes.h"
#include "tools/commands.h"
#include "tools/common.h"
#include "tools/find.h"
#include "tools/operation.h"
#include "tools/print.h"
#include "tools/snapshot.h"
#include "tools/text.h"

enum { OPT_FOR = TOOL_OPT_OWN, OPT_FORCE };

struct revert {
	const char *dir;
	bool yes, only_say, force;
	json_t *snapshot; /* owned */
	json_t *newer;	  /* owned: those that go with it */
	int64_t changes;  /* paths that differ */
};

int revert_run(struct umbra_client *c, const json_t *snapshot, bool force)
{
	int r = operation_run_with(c, "Revert",
				   json_pack("{sssb}", "snapshot_id", tool_str(snapshot, "id"),
					     "force", (int)force));

	if (r != 0 && tool_signal())
		log_info("the revert goes on without this command (see umbra status)");
	return r;
}

/* All of the tree that are younger; the list is in the order of time. */
static int find_newer(struct umbra_client *c, struct revert *rv)
{
	CLEANUP(free_p) char *tree = tool_path(rv->snapshot, "tree_path");
	CLEANUP(json_decref_p) json_t *all = NULL;
	bool found = false;
	json_t *s;
	size_t i;
	int r;

	if (!tree)
		return tool_no_memory();
	rv->newer = json_array();
	r = find_all(c, tree, &all);
	if (r != 0)
		return r;
	json_array_foreach(all, i, s) {
		if (strcmp(tool_str(s, "tree_id"), tool_str(rv->snapshot, "tree_id")) != 0)
			continue;
		if (found)
			json_array_append(rv->newer, s);
		found |= strcmp(tool_str(s, "id"), tool_str(rv->snapshot, "id")) == 0;
	}
	return 0;
}

static int count_changes(struct umbra_client *c, struct revert *rv)
{
	CLEANUP(json_decref_p) json_t *answer = NULL;
	CLEANUP(close_p) int fd = -1;
	int r = tool_call_fd(c, "Diff",
			     json_pack("{ss}", "snapshot_id", tool_str(rv->snapshot, "id")), -1,
			     &answer, &fd);

	if (r == 0)
		rv->changes = tool_int(answer, "count");
	return r;
}

static void print_newer(const struct revert *rv, const char *verb)
{
	const json_t *s;
	size_t i;

	json_array_foreach(rv->newer, i, s)
		printf("%s %s%s%s, %s\n", verb, tool_str(s, "id"), *tool_str(s, "label") ? " " : "",
		       LOG_QUOTE(tool_str(s, "label")), PRINT_LOCAL(snapshot_created_ns(s)));
}

static void say_only(const struct revert *rv)
{
	CLEANUP(free_p) char *tree = tool_path(rv->snapshot, "tree_path");

	if (tool_opts.json) {
		print_json(json_pack("{sOsIsOsb}", "snapshot", rv->snapshot, "changed_paths",
				     (json_int_t)rv->changes, "deletes", rv->newer, "reverted", 0));
		return;
	}
	print_newer(rv, "would delete");
	printf("would make %s what it was at %s: %lld path%s differ%s\n",
	       tree ? LOG_QUOTE(tree) : "?", PRINT_LOCAL(snapshot_created_ns(rv->snapshot)),
	       (long long)rv->changes, rv->changes == 1 ? "" : "s", rv->changes == 1 ? "s" : "");
}

/* True unless a person at a terminal does not want it: there is no way back. */
static bool confirmed(const struct revert *rv)
{
	CLEANUP(free_p) char *tree = tool_path(rv->snapshot, "tree_path");
	char answer[16];

	if (rv->yes || !isatty(STDIN_FILENO))
		return true;
	print_newer(rv, "delete");
	fflush(stdout);
	fprintf(stderr,
		"%s becomes what it was at %s: %lld path%s differ%s, and what they are now is lost. "
		"Go on? [y/N] ",
		tree ? LOG_QUOTE(tree) : "?", PRINT_LOCAL(snapshot_created_ns(rv->snapshot)),
		(long long)rv->changes, rv->changes == 1 ? "" : "s", rv->changes == 1 ? "s" : "");
	return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static int do_revert(struct umbra_client *c, struct revert *rv)
{
	CLEANUP(free_p) char *tree = tool_path(rv->snapshot, "tree_path");
	int r;

	if (!rv->only_say && !confirmed(rv))
		return tool_error("nothing was reverted");
	if (rv->only_say) {
		say_only(rv);
		return 0;
	}
	r = revert_run(c, rv->snapshot, rv->force);
	if (r != 0)
		return r;
	if (tool_opts.json)
		print_json(json_pack("{sOsOsb}", "snapshot", rv->snapshot, "deletes", rv->newer,
				     "reverted", 1));
	else
		log_info("%s is again what it was at %s", tree ? LOG_QUOTE(tree) : "?",
			 PRINT_LOCAL(snapshot_created_ns(rv->snapshot)));
	return 0;
}

static int revert(struct revert *rv, const struct find_operand *what)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	int r = tool_connect_manager(&c);

	tool_catch_signals();
	if (r == 0)
		r = find_snapshot(c, what->name, what->dir, &rv->snapshot);
	if (r == 0)
		r = find_newer(c, rv);
	if (r == 0 && (rv->only_say || (!rv->yes && isatty(STDIN_FILENO))))
		r = count_changes(c, rv);
	return r == 0 ? do_revert(c, rv) : r;
}

static int run(int argc, char **argv)
{
	static const struct option options[] = {
		TOOL_LONG,
		{ "for", 1, NULL, OPT_FOR },
		{ "yes", 0, NULL, 'y' },
		{ "dry-run", 0, NULL, 'n' },
		{ "force", 0, NULL, OPT_FORCE },
		{ 0 },
	};
	struct find_operand what;
	struct revert rv = { 0 };
	int c, r;

	while ((c = getopt_long(argc, argv, TOOL_SHORT "yn", options, NULL)) != -1) {
		switch (c) {
		case OPT_FOR:
			rv.dir = optarg;
			break;
		case OPT_FORCE:
			rv.force = true;
			break;
		case 'y':
			rv.yes = true;
			break;
		case 'n':
			rv.only_say = true;
			break;
		default:
			r = tool_option(&cmd_revert, c, argv);
			if (r != TOOL_GO_ON)
				return r;
		}
	}
	if (find_operand(argv + optind, argc - optind, rv.dir, &what) < 0)
		return tool_usage(&cmd_revert, "revert needs one snapshot");
	r = revert(&rv, &what);
	json_decref(rv.snapshot);
	json_decref(rv.newer);
	return r;
}

const struct command cmd_revert = {
	.name = "revert",
	.args = "[OPTION]... SNAPSHOT [DIR]",
	.summary = "make a whole directory what it was at a snapshot",
	.help = "  --force        also while files are open or a newer snapshot is in use\n"
		"  -y, --yes      do not ask\n"
		"  -n, --dry-run  only say how much differs and which snapshots would go\n"
		"  --for DIR      the snapshot is one of DIR\n\n"
		"Everything in the directory becomes what it was; newer snapshots of it are deleted. There\n"
		"is no way back: to keep what is there now, copy it first. See umbra restore for single\n"
		"files. While something is mounted below the directory it is refused, with --force too.\n\n"
		"Example: umbra revert -n latest /srv/db\n",
	.run = run,
};
