/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra create: one snapshot set over some directories. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "tools/commands.h"
#include "tools/common.h"
#include "tools/find.h"
#include "tools/path.h"
#include "tools/print.h"
#include "tools/session.h"
#include "tools/text.h"
#include "tools/trees.h"

struct create {
	struct session_plan plan;
	const char *context;
	bool no_writers, skip_if_empty;
};

/* Whether anything changed in the tree since its newest snapshot; true also without one. */
static int has_changed(struct umbra_client *c, const char *tree, bool *ret)
{
	CLEANUP(json_decref_p) json_t *all = NULL, *answer = NULL;
	CLEANUP(close_p) int fd = -1;
	const json_t *latest;
	int r;

	r = find_all(c, tree, &all);
	if (r != 0)
		return r;
	latest = json_array_get(all, json_array_size(all) - 1);
	if (!latest) {
		*ret = true;
		return 0;
	}
	r = tool_call_fd(c, "Diff", json_pack("{ss}", "snapshot_id", tool_str(latest, "id")), -1,
			 &answer, &fd);
	if (r == 0)
		*ret = tool_int(answer, "count") != 0;
	return r;
}

static int any_changed(const struct trees *trees, bool *ret)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	int r = tool_connect_manager(&c);

	*ret = false;
	for (size_t i = 0; r == 0 && i < trees->count && !*ret; i++)
		r = has_changed(c, trees->list[i].path, ret);
	return r;
}

static void print_result(const struct session *s)
{
	const json_t *snapshot;
	size_t i;

	if (tool_opts.json) {
		print_json(json_pack("{sssO}", "set_id", s->set_id, "snapshots", s->snapshots));
		return;
	}
	json_array_foreach(s->snapshots, i, snapshot) {
		CLEANUP(free_p) char *path = tool_path(snapshot, "path");

		print_path(path ? path : tool_str(snapshot, "id"));
	}
}

static int create(struct create *opt, char **dirs, int n)
{
	CLEANUP(trees_done) struct trees trees = { 0 };
	struct session s;
	bool changed;
	int r;

	r = trees_find(&trees, dirs, n);
	if (r == 0 && opt->skip_if_empty) {
		r = any_changed(&trees, &changed);
		if (r == 0 && !changed) {
			log_info("nothing changed since the latest snapshot: none made");
			if (tool_opts.json)
				print_json(json_pack("{sns[]}", "set_id", "snapshots"));
			return 0;
		}
	}
	if (r != 0)
		return r;
	opt->plan.trees = trees.paths;
	opt->plan.tree_count = trees.count;
	tool_catch_signals();
	r = session_create(&s, &opt->plan);
	if (r == 0)
		r = session_complete(&s);
	if (r == 0) {
		print_result(&s);
		r = session_status(&s);
	}
	session_end(&s);
	return r;
}

enum {
	OPT_CONTEXT = TOOL_OPT_OWN,
	OPT_LABEL,
	OPT_DESCRIPTION,
	OPT_NO_WRITERS,
	OPT_REQUIRE,
	OPT_INCLUDE,
	OPT_EXCLUDE,
	OPT_SKIP,
	OPT_RETRY
};

static int take_option(struct create *opt, int c, char **argv)
{
	char *end;

	switch (c) {
	case OPT_CONTEXT:
		opt->context = optarg;
		return TOOL_GO_ON;
	case OPT_LABEL:
		if (!*optarg || strchr(optarg, '/') || strcmp(optarg, "latest") == 0 ||
		    optarg[0] == '@' || strcmp(optarg, ".") == 0 || strcmp(optarg, "..") == 0)
			return tool_usage(&cmd_create,
					  "%s cannot be a label (no slash, no @ in front, not "
					  "latest)",
					  LOG_QUOTE(optarg));
		opt->plan.label = optarg;
		return TOOL_GO_ON;
	case OPT_DESCRIPTION:
		opt->plan.description = optarg;
		return TOOL_GO_ON;
	case OPT_NO_WRITERS:
		opt->no_writers = true;
		return TOOL_GO_ON;
	case OPT_REQUIRE:
		opt->plan.require_writers = true;
		return TOOL_GO_ON;
	case OPT_INCLUDE:
	case OPT_EXCLUDE:
		if (session_writers_add(c == OPT_INCLUDE ? &opt->plan.include : &opt->plan.exclude,
					optarg))
			return TOOL_GO_ON;
		return tool_usage(&cmd_create, "more than %d writers are named",
				  SESSION_WRITERS_MAX);
	case OPT_SKIP:
		opt->skip_if_empty = true;
		return TOOL_GO_ON;
	case OPT_RETRY:
		errno = 0;
		opt->plan.retry_min = (unsigned)strtoul(optarg, &end, 10);
		if (errno || *end || end == optarg || optarg[0] == '-' ||
		    opt->plan.retry_min > 10000)
			return tool_usage(&cmd_create, "--autoretry: %s is not a number of minutes",
					  LOG_QUOTE(optarg));
		return TOOL_GO_ON;
	}
	return tool_option(&cmd_create, c, argv);
}

static int run(int argc, char **argv)
{
	static const struct option options[] = {
		TOOL_LONG,
		{ "context", 1, NULL, OPT_CONTEXT },
		{ "label", 1, NULL, OPT_LABEL },
		{ "description", 1, NULL, OPT_DESCRIPTION },
		{ "no-writers", 0, NULL, OPT_NO_WRITERS },
		{ "require-writers", 0, NULL, OPT_REQUIRE },
		{ "include", 1, NULL, OPT_INCLUDE },
		{ "exclude", 1, NULL, OPT_EXCLUDE },
		{ "skip-if-empty", 0, NULL, OPT_SKIP },
		{ "autoretry", 1, NULL, OPT_RETRY },
		{ 0 },
	};
	struct create opt = { .context = "client-accessible-writers" };
	int c, r;

	while ((c = getopt_long(argc, argv, TOOL_SHORT, options, NULL)) != -1) {
		r = take_option(&opt, c, argv);
		if (r != TOOL_GO_ON)
			return r;
	}
	if (optind == argc)
		return tool_usage(&cmd_create, "create needs a directory");
	opt.plan.context = text_context(opt.context, !opt.no_writers);
	if (!opt.plan.context)
		return tool_usage(&cmd_create, "there is no context %s", LOG_QUOTE(opt.context));
	if (text_context_is_volatile(opt.plan.context))
		return tool_usage(&cmd_create,
				  "a snapshot of context %s ends with its session, so it "
				  "needs umbra backup",
				  opt.plan.context);
	if (opt.no_writers && opt.plan.require_writers)
		return tool_usage(&cmd_create,
				  "--no-writers and --require-writers contradict each other");
	if (opt.no_writers && opt.plan.include.count + opt.plan.exclude.count > 0)
		return tool_usage(&cmd_create, "--no-writers leaves nobody to include or exclude");
	return create(&opt, argv + optind, argc - optind);
}

const struct command cmd_create = {
	.name = "create",
	.args = "[OPTION]... DIR...",
	.summary = "take a snapshot of all DIRs at one instant",
	.help = "  --context C         client-accessible-writers (default), client-accessible,\n"
		"                      app-rollback, nas-rollback\n"
		"  --label TEXT        a name for it, to use in place of its id\n"
		"  --description TEXT  anything worth remembering\n"
		"  --no-writers        do not ask applications to pause\n"
		"  --require-writers   fail when an application cannot pause\n"
		"  --include WRITER    ask only this application (name or id); may be repeated\n"
		"  --exclude WRITER    do not ask this one; may be repeated\n"
		"  --skip-if-empty     make none when nothing changed since the latest one\n"
		"  --autoretry MIN     wait so many minutes while another snapshot is being made\n\n"
		"Prints the path of each snapshot.\n\n"
		"Example: umbra create --label before-upgrade /srv/db /srv/files\n",
	.run = run,
};
