/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra delete: snapshots by name, or those of a directory by age. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cow/base/bytes.h"
#include "tools/commands.h"
#include "tools/common.h"
#include "tools/find.h"
#include "tools/print.h"
#include "tools/snapshot.h"
#include "tools/text.h"

enum { OPT_FOR = TOOL_OPT_OWN, OPT_OLDEST, OPT_ALL, OPT_OLDER, OPT_FORCE };

struct delete
{
	const char *dir;
	int which; /* 0, OPT_OLDEST, OPT_ALL, OPT_OLDER */
	uint64_t older_s;
	bool yes, only_say, force;
};

/* Those of the directory's snapshots that the options mean. */
static int select_by_age(struct umbra_client *c, const struct delete *opt, json_t *out)
{
	CLEANUP(json_decref_p) json_t *all = NULL;
	json_t *s;
	size_t i;
	int r = find_all(c, opt->dir, &all);

	if (r != 0)
		return r;
	json_array_foreach(all, i, s) {
		if (opt->which == OPT_ALL || (opt->which == OPT_OLDEST && i == 0) ||
		    (opt->which == OPT_OLDER && snapshot_age_s(s) > opt->older_s))
			json_array_append(out, s);
	}
	return 0;
}

static bool contains(const json_t *list, const json_t *snapshot)
{
	const json_t *s;
	size_t i;

	json_array_foreach(list, i, s) {
		if (strcmp(tool_str(s, "id"), tool_str(snapshot, "id")) == 0)
			return true;
	}
	return false;
}

static int select_by_name(struct umbra_client *c, const struct delete *opt, char **names, int n,
			  json_t *out)
{
	CLEANUP(free_p) struct find_operand *what = calloc((size_t)n, sizeof(*what));

	if (!what)
		return tool_no_memory();
	n = find_operands(names, n, opt->dir, what);
	for (int i = 0; i < n; i++) {
		CLEANUP(json_decref_p) json_t *found = NULL;
		json_t *s;
		size_t at;
		int r = find_snapshots(c, what[i].name, what[i].dir, &found);

		if (r != 0)
			return r;
		json_array_foreach(found, at, s) {
			if (!contains(out, s))
				json_array_append(out, s);
		}
	}
	return 0;
}

static void print_line(const char *verb, const json_t *s)
{
	CLEANUP(free_p) char *tree = tool_path(s, "tree_path");

	printf("%s %s%s%s of %s, %s, %s\n", verb, tool_str(s, "id"),
	       *tool_str(s, "label") ? " " : "", LOG_QUOTE(tool_str(s, "label")),
	       tree ? LOG_QUOTE(tree) : "?", PRINT_LOCAL(snapshot_created_ns(s)),
	       PRINT_SIZE(tool_int(s, "stored_bytes")));
}

/* At most: what an older snapshot still needs is kept for it. */
static uint64_t freed_bytes(const json_t *list)
{
	uint64_t sum = 0;
	const json_t *s;
	size_t i;

	json_array_foreach(list, i, s)
		sum += (uint64_t)tool_int(s, "stored_bytes");
	return sum;
}

static void say_only(const json_t *list)
{
	const json_t *s;
	size_t i;

	if (tool_opts.json) {
		print_json(json_pack("{sOsIsb}", "snapshots", list, "free_bytes_at_most",
				     (json_int_t)freed_bytes(list), "deleted", false));
		return;
	}
	json_array_foreach(list, i, s)
		print_line("would delete", s);
	printf("would delete %zu of them and free at most %s\n", json_array_size(list),
	       PRINT_SIZE(freed_bytes(list)));
}

/* True unless a person at a terminal does not want it. */
static bool confirmed(const struct delete *opt, const json_t *list)
{
	const json_t *s;
	char answer[16];
	size_t i;

	if (opt->yes || !isatty(STDIN_FILENO))
		return true;
	json_array_foreach(list, i, s)
		print_line("delete", s);
	fflush(stdout);
	fprintf(stderr, "Delete %zu snapshot%s and free at most %s? [y/N] ", json_array_size(list),
		json_array_size(list) == 1 ? "" : "s", PRINT_SIZE(freed_bytes(list)));
	return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static int delete_one(struct umbra_client *c, const struct delete *opt, const json_t *s)
{
	struct umbra_failure f = { 0 };
	int r = umbra_call(c, "DeleteSnapshots",
			   json_pack("{sssb}", "id", tool_str(s, "id"), "force", opt->force), -1,
			   NULL, NULL, &f);

	if (r == 0)
		return 0;
	if (r == -EREMOTEIO && strcmp(f.name, "volume-in-use") == 0 &&
	    tool_bool(s, "exposed_locally")) {
		log_error(
			"snapshot %s is exposed (try: umbra unexpose %s; or delete it with --force)",
			LOG_QUOTE(snapshot_title(s)), tool_str(s, "id"));
		return TOOL_AGAIN;
	}
	if (r == -EREMOTEIO && strcmp(f.name, "volume-in-use") == 0) {
		log_error(
			"snapshot %s is in use (unmount it and close its files, or delete it with --force)",
			LOG_QUOTE(snapshot_title(s)));
		return TOOL_AGAIN;
	}
	return tool_refused(r, "DeleteSnapshots", &f);
}

static int delete_all(struct umbra_client *c, const struct delete *opt, const json_t *list)
{
	json_t *done = json_array(), *failed = json_array(), *s;
	int status = 0;
	size_t i;

	json_array_foreach(list, i, s) {
		int r = delete_one(c, opt, s);

		status = tool_worse(status, r);
		if (r == 0) {
			json_array_append(done, s);
			log_info("deleted %s", tool_str(s, "id"));
		} else {
			json_array_append(failed, s);
		}
	}
	if (tool_opts.json)
		print_json(json_pack("{sOsOsb}", "snapshots", done, "failed", failed, "deleted",
				     json_array_size(failed) == 0));
	json_decref(done);
	json_decref(failed);
	return status;
}

static int delete (const struct delete *opt, char **names, int n)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	CLEANUP(json_decref_p) json_t *list = json_array();
	int r = tool_connect_manager(&c);

	if (r == 0)
		r = opt->which ? select_by_age(c, opt, list)
			       : select_by_name(c, opt, names, n, list);
	if (r != 0)
		return r;
	if (opt->only_say) {
		say_only(list);
		return 0;
	}
	if (json_array_size(list) == 0) {
		log_info("nothing to delete");
		return 0;
	}
	if (!confirmed(opt, list))
		return tool_error("nothing was deleted");
	return delete_all(c, opt, list);
}

static int take_option(struct delete *opt, int c, char **argv)
{
	switch (c) {
	case 'y':
		opt->yes = true;
		return TOOL_GO_ON;
	case 'n':
		opt->only_say = true;
		return TOOL_GO_ON;
	case OPT_FORCE:
		opt->force = true;
		return TOOL_GO_ON;
	case OPT_FOR:
		opt->dir = optarg;
		return TOOL_GO_ON;
	case OPT_OLDER:
		if (text_parse_age(optarg, &opt->older_s) < 0)
			return tool_usage(&cmd_delete, "%s is not an age (like 12h, 7d, 2w, 3mo)",
					  LOG_QUOTE(optarg));
		/* fall through */
	case OPT_OLDEST:
	case OPT_ALL:
		if (opt->which && opt->which != c)
			return tool_usage(&cmd_delete,
					  "only one of --oldest, --all and --older-than");
		opt->which = c;
		return TOOL_GO_ON;
	}
	return tool_option(&cmd_delete, c, argv);
}

static int run(int argc, char **argv)
{
	static const struct option options[] = {
		TOOL_LONG,
		{ "yes", 0, NULL, 'y' },
		{ "dry-run", 0, NULL, 'n' },
		{ "force", 0, NULL, OPT_FORCE },
		{ "for", 1, NULL, OPT_FOR },
		{ "oldest", 0, NULL, OPT_OLDEST },
		{ "all", 0, NULL, OPT_ALL },
		{ "older-than", 1, NULL, OPT_OLDER },
		{ 0 },
	};
	struct delete opt = { 0 };
	int c, r;

	while ((c = getopt_long(argc, argv, TOOL_SHORT "yn", options, NULL)) != -1) {
		r = take_option(&opt, c, argv);
		if (r != TOOL_GO_ON)
			return r;
	}
	if (opt.which && !opt.dir)
		return tool_usage(&cmd_delete, "--oldest, --all and --older-than need --for DIR");
	if (opt.which && optind < argc)
		return tool_usage(&cmd_delete, "either snapshots or --oldest, --all, --older-than");
	if (!opt.which && optind == argc)
		return tool_usage(&cmd_delete,
				  "delete needs a snapshot, or --for DIR and which of them");
	return delete (&opt, argv + optind, argc - optind);
}

const struct command cmd_delete = {
	.name = "delete",
	.args = "[OPTION]... SNAPSHOT... | --for DIR --oldest|--all|--older-than AGE",
	.summary = "delete snapshots",
	.help = "  --for DIR         those of DIR:\n"
		"    --oldest        the oldest one\n"
		"    --all           all of them\n"
		"    --older-than A  those older than A (90s, 30m, 12h, 7d, 2w, 3mo, 1y)\n"
		"  -y, --yes         do not ask\n"
		"  -n, --dry-run     only say what would go and what that would free\n"
		"  --force           also when in use: open files of it then fail\n\n"
		"SNAPSHOT is an id, a unique beginning of one, a label, a path under .snapshots,\n"
		"latest DIR, or a set's id for all its snapshots.\n\n"
		"Example: umbra delete -n --for /srv/db --older-than 2w\n",
	.run = run,
};
