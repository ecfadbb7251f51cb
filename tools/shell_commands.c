/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/shell.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tools/commands.h"
#include "tools/common.h"
#include "tools/exposed.h"
#include "tools/find.h"
#include "tools/print.h"
#include "tools/revert.h"
#include "tools/shell_exec.h"
#include "tools/shell_line.h"
#include "tools/shell_list.h"
#include "tools/shell_restore.h"
#include "tools/text.h"

struct shell_entry {
	const char *words; /* "set context": one or two */
	const char *args;  /* behind them in the help */
	const char *help;  /* NULL: recognised, but not offered */
	int (*run)(struct shell *sh, const struct shell_entry *e, int argc, char **argv);
	int min, max; /* how many arguments; max -1: any number */
};

static bool same(const char *a, const char *b)
{
	return strcasecmp(a, b) == 0;
}

static int usage(const struct shell_entry *e)
{
	log_error("usage: %s%s%s", e->words, *e->args ? " " : "", e->args);
	return TOOL_USAGE;
}

/* Protocol 2.1: what describes a session comes before its set. */
static int must_be(const struct shell *sh, const struct shell_entry *e, enum shell_state state)
{
	static const char *const why[] = {
		[SHELL_OPEN] = "there is no snapshot set yet (try: create)",
		[SHELL_CREATED] = "this session has its snapshot set (try: reset)",
		[SHELL_COMPLETED] = "this session's snapshot set is complete (try: reset)",
		[SHELL_RESTORING] = "this session restores (try: end restore)",
		[SHELL_RESTORED] = "this session's restore is over (try: reset)",
		[SHELL_FAILED] = "this session has failed, and nothing resumes (try: reset)",
	};

	if (sh->session.state == state)
		return 0;
	return tool_error("%s is not possible now: %s", e->words, why[sh->session.state]);
}

/* ---- set */

static int set_context(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	bool writers = argc == 1;
	const char *context;
	int r = must_be(sh, e, SHELL_OPEN);

	if (r != 0)
		return r;
	if (argc == 2 && !same(argv[1], "nowriters"))
		return usage(e);
	context = text_context(argv[0], writers);
	if (!context) {
		log_error("there is no context %s (volatile, persistent, clientaccessible)",
			  LOG_QUOTE(argv[0]));
		return TOOL_USAGE;
	}
	sh->session.context = context;
	return 0;
}

static int set_one_option(struct shell_options *o, const char *word)
{
	const struct {
		const char *word;
		bool *flag;
	} options[] = {
		{ "rollbackrecover", &o->rollback_recovery },
		{ "noautorecover", &o->no_autorecovery },
		{ "differential", &o->differential },
		{ "plex", &o->plex },
		{ "transportable", &o->transportable },
		{ "requirewriters", &o->require_writers },
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		if (same(word, options[i].word)) {
			*options[i].flag = true;
			return 0;
		}
	}
	if (same(word, "txfrecover")) /* C-5 */
		return tool_error("txfrecover is an invalid-argument: there are no transactions of "
				  "a file system here");
	log_error("there is no option %s (try: help set)", LOG_QUOTE(word));
	return TOOL_USAGE;
}

static int set_option(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	struct shell_options options = { 0 }; /* what was said before is replaced */
	int r = must_be(sh, e, SHELL_OPEN);

	for (int i = 0; r == 0 && i < argc; i++)
		r = set_one_option(&options, argv[i]);
	if (r == 0 && options.no_autorecovery && options.rollback_recovery)
		r = tool_error("noautorecover excludes rollbackrecover"); /* C-6 */
	if (r == 0 && options.differential && options.plex)
		r = tool_error("differential excludes plex"); /* C-5 */
	if (r == 0)
		sh->session.options = options;
	return r;
}

static int set_metadata(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	CLEANUP(free_p) char *copy = strdup(argv[0]);
	int r = must_be(sh, e, SHELL_OPEN);

	(void)argc;
	if (r != 0)
		return r;
	if (!copy)
		return tool_no_memory();
	free(sh->session.metadata);
	sh->session.metadata = TAKE(copy);
	return 0;
}

static int set_verbose(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	(void)sh;
	(void)argc;
	if (!same(argv[0], "on") && !same(argv[0], "off"))
		return usage(e);
	tool_opts.verbose = same(argv[0], "on");
	log_set_level(tool_opts.verbose ? LOG_LEVEL_DEBUG
		      : tool_opts.quiet ? LOG_LEVEL_WARN
					: LOG_LEVEL_INFO);
	return 0;
}

static void print_names(const char *key, const json_t *names)
{
	const json_t *name;
	size_t i;

	json_array_foreach(names, i, name)
		print_fact(key, json_string_value(name));
}

static void print_trees(const json_t *trees)
{
	const json_t *tree;
	size_t i;

	json_array_foreach(trees, i, tree) {
		CLEANUP(free_p) char *path = tool_path(tree, "path");
		const char *alias = tool_str(tree, "alias");
		CLEANUP(free_p) char *text = NULL;

		if (asprintf(&text, "%s%s%s", path ? path : "", *alias ? " alias " : "", alias) >=
		    0)
			print_fact("tree", text);
	}
}

static void print_aliases(const struct shell_aliases *a)
{
	for (size_t i = 0; i < a->count; i++) {
		CLEANUP(free_p) char *text = NULL;

		if (asprintf(&text, "%s = %s", a->list[i].name, a->list[i].value) >= 0)
			print_fact("alias", text);
	}
}

static int show_settings(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	static const char *const states[] = {
		[SHELL_OPEN] = "no snapshot set yet",
		[SHELL_CREATED] = "the snapshot set is there, the backup goes on",
		[SHELL_COMPLETED] = "complete",
		[SHELL_RESTORING] = "a restore has begun",
		[SHELL_RESTORED] = "the restore is over",
		[SHELL_FAILED] = "failed",
	};
	const struct shell_session *s = &sh->session;
	const struct shell_options *o = &s->options;
	char options[128];

	(void)e;
	(void)argc;
	(void)argv;
	snprintf(options, sizeof(options), "%s%s%s%s%s%s",
		 o->rollback_recovery ? " rollbackrecover" : "",
		 o->no_autorecovery ? " noautorecover" : "", o->differential ? " differential" : "",
		 o->plex ? " plex" : "", o->transportable ? " transportable" : "",
		 o->require_writers ? " requirewriters" : "");
	print_fact("context", s->context);
	print_fact("options", *options ? options + 1 : "none");
	print_fact("metadata", s->metadata ? s->metadata : "none");
	print_fact("loaded", s->documents ? "the documents of a backup" : "none");
	print_fact("verbose", tool_opts.verbose ? "on" : "off");
	print_fact("backup", s->begun ? "full, begun" : "copy");
	print_fact("session", states[s->state]);
	print_names("verify", s->verify);
	print_names("exclude", s->exclude);
	print_trees(s->trees);
	print_aliases(&sh->aliases);
	return 0;
}

/* ---- writer */

static int name_writer(struct shell *sh, const struct shell_entry *e, json_t *list,
		       const char *name)
{
	json_t *text;
	int r = must_be(sh, e, SHELL_OPEN);

	if (r != 0)
		return r;
	text = json_string(name);
	if (!text)
		return tool_error("%s cannot be a writer's name: it is not UTF-8", LOG_QUOTE(name));
	return json_array_append_new(list, text) < 0 ? tool_no_memory() : 0;
}

static int writer_verify(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	(void)argc;
	return name_writer(sh, e, sh->session.verify, argv[0]);
}

static int writer_exclude(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	(void)argc;
	return name_writer(sh, e, sh->session.exclude, argv[0]);
}

static int list_writers(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	char *words[] = { (char *)"writers", NULL };

	(void)sh;
	if (argc == 1 && !same(argv[0], "all") && !same(argv[0], "status"))
		return usage(e);
	optind = 0; /* getopt_long(3): begin anew */
	return cmd_writers.run(1, words);
}

/* ---- add */

static int check_alias(const char *name)
{
	if (shell_line_is_name(name))
		return 0;
	log_error("%s cannot be an alias (letters, digits and _, no digit in front)",
		  LOG_QUOTE(name));
	return TOOL_USAGE;
}

static int remember_tree(struct shell *sh, const char *path, const char *alias)
{
	CLEANUP(json_decref_p) json_t *tree = json_object();
	const json_t *other;
	size_t i;

	json_array_foreach(sh->session.trees, i, other) {
		CLEANUP(free_p) char *have = tool_path(other, "path");

		if (have && strcmp(have, path) == 0)
			return tool_error("%s is in the snapshot set already", LOG_QUOTE(path));
	}
	if (!tree || umbra_json_set_path(tree, "path", path) < 0 ||
	    (alias && json_object_set_new(tree, "alias", json_string(alias)) < 0) ||
	    json_array_append(sh->session.trees, tree) < 0)
		return tool_no_memory();
	return 0;
}

static int add_tree(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	CLEANUP(json_decref_p) json_t *tree = NULL;
	CLEANUP(free_p) char *path = NULL;
	int r = must_be(sh, e, SHELL_OPEN);

	if (r != 0)
		return r;
	if (argc == 2 || (argc == 3 && !same(argv[1], "alias")))
		return usage(e);
	if (argc == 3)
		r = check_alias(argv[2]);
	if (r == 0)
		r = tool_connect(&c);
	if (r == 0)
		r = find_tree(c, argv[0], &tree, &path, NULL);
	if (r == 0)
		r = remember_tree(sh, path, argc == 3 ? argv[2] : NULL);
	return r;
}

static int add_alias(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	int r = check_alias(argv[0]);

	(void)e;
	(void)argc;
	return r == 0 ? shell_alias_set(&sh->aliases, argv[0], argv[1]) : r;
}

static int add_nothing(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	(void)e;
	(void)argc;
	(void)argv;
	print_trees(sh->session.trees);
	print_aliases(&sh->aliases);
	return 0;
}

/* ---- backup */

static int begin_backup(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	int r = must_be(sh, e, SHELL_OPEN);

	(void)argc;
	(void)argv;
	if (r == 0 && sh->session.begun)
		return tool_error("the backup has begun already");
	if (r == 0)
		sh->session.begun = true;
	return r;
}

static int end_backup(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	int r;

	(void)argc;
	(void)argv;
	if (!sh->session.begun)
		return tool_error("no backup was begun (begin backup comes before create)");
	r = must_be(sh, e, SHELL_CREATED);
	return r == 0 ? shell_session_complete(&sh->session) : r;
}

/* ---- restore */

/* Documents are loaded, and no backup has begun (S-1). */
static int may_restore(const struct shell *sh, const struct shell_entry *e)
{
	int r = must_be(sh, e, SHELL_OPEN);

	if (r == 0 && sh->session.begun)
		return tool_error("%s is not possible now: a backup has begun (try: reset)",
				  e->words);
	if (r == 0 && !sh->session.documents)
		return tool_error("%s needs the documents of a backup (try: load metadata FILE)",
				  e->words);
	return r;
}

static int load_metadata(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	int r = must_be(sh, e, SHELL_OPEN);

	(void)argc;
	return r == 0 ? shell_restore_load(&sh->session, argv[0]) : r;
}

static int list_metadata(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	if (!sh->session.documents)
		return tool_error("%s needs the documents of a backup (try: load metadata FILE)",
				  e->words);
	return shell_restore_list(&sh->session);
}

static int simulate_restore(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	int r = may_restore(sh, e);

	(void)argc;
	(void)argv;
	return r == 0 ? shell_restore_simulate(&sh->session) : r;
}

static int begin_restore(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	int r = may_restore(sh, e);

	(void)argc;
	(void)argv;
	return r == 0 ? shell_restore_begin(&sh->session) : r;
}

static int end_restore(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	static const char *const words[] = { "all", "failed", "none" }; /* */

	if (sh->session.state != SHELL_RESTORING)
		return tool_error("no restore was begun (begin restore comes before it)");
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (same(argc ? argv[0] : "all", words[i]))
			return shell_restore_end(&sh->session, words[i]);
	}
	return usage(e);
}

/* ---- create */

/* $SHADOW_n is the id of snapshot n, and so is its own alias; $UMBRA_SNAPSHOT_n is where it is read. */
static int name_snapshot(struct shell *sh, size_t at)
{
	const json_t *snapshot = json_array_get(sh->session.snapshots, at);
	const char *alias = tool_str(json_array_get(sh->session.trees, at), "alias");
	const char *id = tool_str(snapshot, "id");
	CLEANUP(free_p) char *path = tool_path(snapshot, "path");
	char name[40];
	int r;

	snprintf(name, sizeof(name), "SHADOW_%zu", at + 1);
	r = shell_alias_set(&sh->aliases, name, id);
	if (r == 0 && *alias)
		r = shell_alias_set(&sh->aliases, alias, id);
	if (r != 0 || !path) /* .snapshots may be switched off */
		return r;
	snprintf(name, sizeof(name), "UMBRA_SNAPSHOT_%zu", at + 1);
	r = shell_alias_set(&sh->aliases, name, path);
	if (r == 0 && at == 0)
		r = shell_alias_set(&sh->aliases, "UMBRA_SNAPSHOT_PATH", path);
	return r;
}

static int name_all(struct shell *sh)
{
	int r = shell_alias_set(&sh->aliases, "SHADOW_SET", sh->session.set_id);

	if (r == 0)
		r = shell_alias_set(&sh->aliases, "UMBRA_SET", sh->session.set_id);
	for (size_t i = 0; r == 0 && i < json_array_size(sh->session.snapshots); i++)
		r = name_snapshot(sh, i);
	return r;
}

static int create(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	struct shell_session *s = &sh->session;
	int r = must_be(sh, e, SHELL_OPEN);

	(void)argc;
	(void)argv;
	if (r != 0)
		return r;
	if (json_array_size(s->trees) == 0)
		return tool_error("create needs a tree (try: add tree DIR)");
	r = shell_session_create(s);
	if (!s->snapshots)
		return r;
	r = tool_worse(r, name_all(sh));
	if (tool_opts.json)
		print_json(json_pack("{sssO}", "set_id", s->set_id, "snapshots", s->snapshots));
	else
		shell_list_snapshots(s->snapshots);
	return r;
}

static int exec_program(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	(void)e;
	(void)argc;
	return shell_exec(argv, &sh->aliases, sh->script_is_stdin);
}

/* ---- snapshots */

/* Which ones words mean: all | tree T | oldest T | set ID | id ID | exposed PATH. -1: they mean nothing. */
static int select_snapshots(struct umbra_client *c, int argc, char **argv, json_t **ret)
{
	if (argc == 0 || (argc == 1 && same(argv[0], "all")))
		return find_all(c, NULL, ret);
	if (argc != 2)
		return -1;
	if (same(argv[0], "tree") || same(argv[0], "volume") || same(argv[0], "oldest"))
		return find_all(c, argv[1], ret);
	if (same(argv[0], "set"))
		return find_snapshots(c, argv[1], NULL, ret);
	if (same(argv[0], "exposed")) {
		CLEANUP(json_decref_p) json_t *one = NULL;
		int r = exposed_at(c, argv[1], &one);

		if (r == 0 && !one)
			return tool_error("object-not-found: no snapshot is exposed at %s",
					  LOG_QUOTE(argv[1]));
		if (r == 0)
			*ret = json_pack("[O]", one);
		return r;
	}
	if (same(argv[0], "id") || same(argv[0], "shadow")) {
		CLEANUP(json_decref_p) json_t *one = NULL;
		int r = find_snapshot(c, argv[1], NULL, &one);

		if (r == 0)
			*ret = json_pack("[O]", one);
		return r;
	}
	return -1;
}

static int list_snapshots(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	CLEANUP(json_decref_p) json_t *list = NULL;
	int r = tool_connect_manager(&c);

	(void)sh;
	if (r == 0 && argc > 0 && same(argv[0], "oldest"))
		return usage(e);
	if (r == 0)
		r = select_snapshots(c, argc, argv, &list);
	if (r == 0)
		shell_list_snapshots(list);
	return r < 0 ? usage(e) : r;
}

static int list_trees(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	(void)sh;
	if (argc == 1 && !same(argv[0], "all"))
		return usage(e);
	return shell_list_trees();
}

static int list_providers(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	(void)sh;
	if (argc == 1 && !same(argv[0], "all"))
		return usage(e);
	return shell_list_providers();
}

static int delete_one(struct umbra_client *c, const json_t *snapshot, bool force)
{
	const char *id = tool_str(snapshot, "id");
	struct umbra_failure f = { 0 };
	int r = umbra_call(c, "DeleteSnapshots", json_pack("{sssb}", "id", id, "force", (int)force),
			   -1, NULL, NULL, &f);

	if (r == 0) {
		log_info("deleted %s", id);
		return 0;
	}
	if (r == -EREMOTEIO && strcmp(f.name, "volume-in-use") == 0) {
		log_error("snapshot %s is in use (unmount it and close its files, or say force at "
			  "the end)",
			  id);
		return TOOL_AGAIN;
	}
	return tool_refused(r, "DeleteSnapshots", &f);
}

/* D-11: one after another; the first that cannot be deleted ends it. */
static int delete_listed(struct umbra_client *c, const json_t *list, bool oldest, bool force)
{
	json_t *done = json_array(), *snapshot;
	size_t i;
	int r = 0;

	json_array_foreach(list, i, snapshot) {
		if (oldest && i > 0)
			break;
		r = delete_one(c, snapshot, force);
		if (r != 0)
			break;
		json_array_append(done, snapshot);
	}
	if (tool_opts.json)
		print_json(json_pack("{sOsb}", "snapshots", done, "deleted", 1));
	else if (r == 0 && json_array_size(done) == 0)
		log_info("nothing to delete");
	json_decref(done);
	return r;
}

static int delete_snapshots(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	CLEANUP(json_decref_p) json_t *list = NULL;
	bool force = argc > 1 && same(argv[argc - 1], "force");
	int r;

	(void)sh;
	argc -= force;
	r = tool_connect_manager(&c);
	if (r == 0)
		r = select_snapshots(c, argc, argv, &list);
	if (r == 0)
		r = delete_listed(c, list, same(argv[0], "oldest"), force);
	return r < 0 ? usage(e) : r;
}

/* ---- exposing them (C-10). A session of its own, so that one in the middle of a backup may go on. */

static int expose(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	CLEANUP(json_decref_p) json_t *snapshot = NULL, *exposed = NULL;
	CLEANUP(free_p) char *path = NULL;
	const char *subdir = NULL;
	int r;

	(void)sh;
	if (argc > 2 && same(argv[argc - 2], "subdir")) {
		subdir = argv[argc - 1];
		argc -= 2;
	}
	if (argc > 2)
		return usage(e);
	r = tool_connect_manager(&c);
	if (r == 0)
		r = find_snapshot(c, argv[0], NULL, &snapshot);
	if (r == 0)
		r = exposed_add(c, snapshot, argc > 1 ? argv[1] : NULL, subdir, &exposed);
	if (r != 0)
		return r;
	path = tool_path(exposed, "exposed_path");
	if (tool_opts.json)
		print_json(json_pack("{sO}", "snapshot", exposed));
	else
		printf("exposed %s at %s\n", tool_str(exposed, "id"), path ? LOG_QUOTE(path) : "?");
	return 0;
}

static int unexpose(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	CLEANUP(json_decref_p) json_t *snapshot = NULL;
	bool force = argc > 1 && same(argv[1], "force");
	int r;

	(void)sh;
	if (argc > 1 && !force)
		return usage(e);
	r = tool_connect_manager(&c);
	if (r == 0)
		r = exposed_find(c, argv[0], NULL, &snapshot);
	if (r == 0)
		r = exposed_remove(c, snapshot, force);
	if (r == 0)
		log_info("%s is not exposed any more", tool_str(snapshot, "id"));
	return r;
}

/* The session's own snapshots are revertible like any other persistent one, so a connection apart is used. */
static int revert(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	CLEANUP(json_decref_p) json_t *snapshot = NULL;
	int r;

	(void)sh;
	if (argc > 1 && !same(argv[1], "force"))
		return usage(e);
	r = tool_connect_manager(&c);
	if (r == 0)
		r = find_snapshot(c, argv[0], NULL, &snapshot);
	if (r == 0)
		r = revert_run(c, snapshot, argc > 1);
	if (r == 0)
		log_info("reverted to %s", tool_str(snapshot, "id"));
	return r;
}

/* ---- what there is not */

/* C-11: the coordinator says how it refuses. */
static int refuse(const char *method, const char *set_id)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	int r = tool_connect_manager(&c);

	if (r == 0)
		r = tool_call(c, method, set_id ? json_pack("{ss}", "set_id", set_id) : NULL, NULL);
	return r;
}

static int break_set(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	(void)sh;
	(void)e;
	return refuse("BreakSnapshotSet", argc ? argv[argc - 1] : "");
}

static int mask_set(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	(void)sh;
	(void)e;
	return refuse("MaskSnapshots", argc ? argv[argc - 1] : "");
}

static int import_set(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	(void)sh;
	(void)e;
	(void)argc;
	(void)argv;
	return refuse("ImportSnapshots", NULL);
}

/* ---- the shell itself */

static int reset(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	(void)e;
	(void)argc;
	(void)argv;
	return shell_reset(sh);
}

static int leave(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	(void)e;
	(void)argc;
	(void)argv;
	sh->leave = true;
	return 0;
}

static int help(struct shell *sh, const struct shell_entry *e, int argc, char **argv)
{
	(void)sh;
	(void)e;
	return shell_command_help(argc ? argv[0] : NULL);
}

/* Those of two words first: "set" alone is another command. */
static const struct shell_entry entries[] = {
	{ "set context", "volatile|persistent|clientaccessible [nowriters]",
	  "what kind of snapshots; volatile ones go with the session", set_context, 1, 2 },
	{ "set option", "rollbackrecover|noautorecover|differential|requirewriters ...",
	  "how to make them; replaces what was said before", set_option, 1, -1 },
	{ "set metadata", "FILE", "keep the documents of the backup there", set_metadata, 1, 1 },
	{ "set verbose", "on|off", "tell each event of each writer", set_verbose, 1, 1 },
	{ "set", "", "show the settings", show_settings, 0, 0 },
	{ "writer verify", "WRITER|COMPONENT",
	  "it must take part and not fail, else nothing is made", writer_verify, 1, 1 },
	{ "writer exclude", "WRITER", "it is not asked to take part", writer_exclude, 1, 1 },
	{ "writer list", "", "as list writers", list_writers, 0, 0 },
	{ "add tree", "DIR [alias NAME]", "one more protected directory for the set", add_tree, 1,
	  3 },
	{ "add volume", "DIR [alias NAME]", NULL, add_tree, 1, 3 },
	{ "add alias", "NAME VALUE", "from then on %NAME% is VALUE, and so is $NAME in exec",
	  add_alias, 2, 2 },
	{ "add", "", "show trees and aliases", add_nothing, 0, 0 },
	{ "begin backup", "", "a full backup: writers wait for its end", begin_backup, 0, 0 },
	{ "end backup", "", "it succeeded: tell the writers", end_backup, 0, 0 },
	{ "create", "", "make the snapshot set", create, 0, 0 },
	{ "load metadata", "FILE", "the documents of a backup, to restore it", load_metadata, 1,
	  1 },
	{ "list metadata", "", "what is in them, and which writers are there", list_metadata, 0,
	  0 },
	{ "simulate restore", "", "check the writers; they notice nothing", simulate_restore, 0,
	  0 },
	{ "begin restore", "", "tell the writers that their files will be restored", begin_restore,
	  0, 0 },
	{ "end restore", "[all|failed|none]", "tell them how much of them was", end_restore, 0, 1 },
	{ "exec", "PROGRAM [ARGUMENT]...", "run it; if it fails, so does the script", exec_program,
	  1, -1 },
	{ "delete snapshots", "all|tree T|oldest T|set ID|id ID|exposed PATH [force]",
	  "delete them", delete_snapshots, 1, 3 },
	{ "delete shadows", "all|volume T|oldest T|set ID|id ID|exposed PATH [force]", NULL,
	  delete_snapshots, 1, 3 },
	{ "list snapshots", "[all|tree T|set ID|id ID|exposed PATH]", "show them", list_snapshots,
	  0, 2 },
	{ "list shadows", "[all|volume T|set ID|id ID|exposed PATH]", NULL, list_snapshots, 0, 2 },
	{ "list writers", "[all]", "show who takes part", list_writers, 0, 1 },
	{ "list trees", "[all]", "show the protected directories", list_trees, 0, 1 },
	{ "list volumes", "[all]", NULL, list_trees, 0, 1 },
	{ "list providers", "[all]", "show who serves them", list_providers, 0, 1 },
	{ "expose", "SNAPSHOT [PATH] [subdir DIR]",
	  "mount a persistent snapshot for good; without PATH in the runtime directory", expose, 1,
	  4 },
	{ "unexpose", "SNAPSHOT|PATH [force]", "end that; the snapshot stays", unexpose, 1, 2 },
	{ "revert", "SNAPSHOT [force]",
	  "its whole directory becomes what it was; there is no way back", revert, 1, 2 },
	{ "import", "", NULL, import_set, 0, -1 },
	{ "mask", "SET", NULL, mask_set, 0, -1 },
	{ "break", "SET", NULL, break_set, 0, -1 },
	{ "reset", "", "end the session as it is, forget all, begin a new one", reset, 0, 0 },
	{ "exit", "", "end the session and the shell (also: quit)", leave, 0, 0 },
	{ "quit", "", NULL, leave, 0, 0 },
	{ "help", "[COMMAND]", "this", help, 0, 1 },
	{ "?", "", NULL, help, 0, 1 },
};
#define ENTRIES (sizeof(entries) / sizeof(entries[0]))

/* How many of the words this entry takes, 0: it is another one's. */
static int matches(const struct shell_entry *e, int argc, char **argv)
{
	size_t len = strcspn(e->words, " ");

	if (strncasecmp(argv[0], e->words, len) != 0 || argv[0][len])
		return 0;
	if (!e->words[len])
		return 1;
	return argc > 1 && same(argv[1], e->words + len + 1) ? 2 : 0;
}

static bool begins_entry(const struct shell_entry *e, const char *word)
{
	size_t len = strcspn(e->words, " ");

	return strncasecmp(word, e->words, len) == 0 && !word[len];
}

int shell_command_help(const char *word)
{
	bool any = false;

	for (size_t i = 0; i < ENTRIES; i++) {
		const struct shell_entry *e = &entries[i];

		if (!e->help || (word && !begins_entry(e, word)))
			continue;
		any = true;
		printf("  %s%s%s\n      %s\n", e->words, *e->args ? " " : "", e->args, e->help);
	}
	if (!any) {
		log_error("there is no command %s (try: help)", LOG_QUOTE(word));
		return TOOL_USAGE;
	}
	if (!word)
		printf("\nQuotes keep blanks together, # and REM begin comments. See "
		       "umbra-shell(1).\n");
	return 0;
}

int shell_command(struct shell *sh, int argc, char **argv)
{
	for (size_t i = 0; i < ENTRIES; i++) {
		const struct shell_entry *e = &entries[i];
		int n = matches(e, argc, argv), left = argc - n;

		if (n == 0)
			continue;
		if (left >= e->min && (e->max < 0 || left <= e->max))
			return e->run(sh, e, left, argv + n);
		if (n == 2 || left == 0)
			return usage(e);
		break; /* "set nonsense" is not "set" with an argument too many */
	}
	for (size_t i = 0; i < ENTRIES; i++) {
		if (entries[i].help && begins_entry(&entries[i], argv[0])) {
			log_error("%s cannot be followed by this (try: help %s)",
				  LOG_QUOTE(argv[0]), argv[0]);
			return TOOL_USAGE;
		}
	}
	log_error("there is no command %s (try: help)", LOG_QUOTE(argv[0]));
	return TOOL_USAGE;
}

int shell_reset(struct shell *sh)
{
	shell_session_end(&sh->session);
	shell_alias_done(&sh->aliases);
	return shell_session_init(&sh->session);
}
