/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra versions: every distinct version of one file that there is. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cow/base/bytes.h"
#include "cow/base/clock.h"
#include "cow/base/err.h"
#include "tools/commands.h"
#include "tools/common.h"
#include "tools/find.h"
#include "tools/ns.h"
#include "tools/path.h"
#include "tools/print.h"
#include "tools/snapshot.h"
#include "tools/text.h"

/* What makes two versions the same. The inode number is left out: a snapshot under .snapshots shows
 * numbers of its own (protocol C-12). The change time cannot be set by anybody, so it is enough to
 * tell any two contents apart. */
struct version {
	mode_t type;
	off_t size;
	uint64_t modified_ns, changed_ns;
	unsigned snapshots;	    /* that hold it, one after the other */
	const json_t *first, *last; /* borrowed; NULL: the live one */
	bool live;
};

static struct version version_of(const struct stat *st)
{
	return (struct version){ .type = st->st_mode & S_IFMT,
				 .size = st->st_size,
				 .modified_ns = clock_from_timespec(&st->st_mtim),
				 .changed_ns = clock_from_timespec(&st->st_ctim) };
}

static bool same(const struct version *a, const struct version *b)
{
	return a->type == b->type && a->size == b->size && a->modified_ns == b->modified_ns &&
	       a->changed_ns == b->changed_ns;
}

static json_t *to_json(const struct version *v, const char *relative)
{
	char modified[TEXT_TIME_SIZE], changed[TEXT_TIME_SIZE];
	json_t *o = json_pack("{sssssIsisb}", "modified", text_format_utc(modified, v->modified_ns),
			      "changed", text_format_utc(changed, v->changed_ns), "size",
			      (json_int_t)v->size, "in_snapshots", (int)v->snapshots, "live",
			      v->live);

	if (o && v->last) {
		CLEANUP(free_p) char *root = tool_path(v->last, "path");
		CLEANUP(free_p) char *path = root ? path_join(root, relative) : NULL;

		json_object_set(o, "first_snapshot", json_object_get(v->first, "id"));
		json_object_set(o, "last_snapshot", json_object_get(v->last, "id"));
		if (path)
			(void)umbra_json_set_path(o, "path", path);
	}
	return o;
}

static void add_row(struct table *t, const struct version *v, const char *relative,
		    const char *live)
{
	CLEANUP(free_p) char *root = v->last ? tool_path(v->last, "path") : NULL;
	CLEANUP(free_p) char *path = root ? path_join(root, relative) : NULL;
	char snapshot[64] = "live";

	if (v->last)
		snprintf(snapshot, sizeof(snapshot), "%.40s%s",
			 *tool_str(v->last, "label") ? tool_str(v->last, "label")
						     : tool_str(v->last, "name"),
			 v->live ? ", live" : "");
	table_row(t, PRINT_LOCAL(v->modified_ns), PRINT_SIZE(v->size), PRINT_NUMBER(v->snapshots),
		  snapshot, v->live ? live : path);
}

/* Look into one snapshot, or into the live tree. 0 and *ret_there; an exit status. */
static int look(struct umbra_client *c, const json_t *snapshot, const char *tree,
		const char *relative, struct stat *st, bool *ret_there)
{
	CLEANUP(close_p) int root = -1;
	int r = ns_open_side(c, snapshot, tree, &root);

	if (r != 0)
		return r;
	*ret_there = fstatat(root, *relative ? relative : ".", st, AT_SYMLINK_NOFOLLOW) == 0;
	if (!*ret_there && errno != ENOENT && errno != ENOTDIR)
		log_warn("%s in %s: %s", LOG_QUOTE(relative),
			 snapshot ? LOG_QUOTE(tool_str(snapshot, "name")) : "the live tree",
			 err_text(-errno));
	return 0;
}

/* All versions, oldest first, into list (room for all snapshots and the live one). */
static int collect(struct umbra_client *c, const json_t *all, const char *tree,
		   const char *relative, struct version *list, size_t *ret_count)
{
	size_t n = 0;

	for (size_t i = 0; i <= json_array_size(all); i++) {
		const json_t *snapshot = json_array_get(all, i); /* NULL at the end: live */
		struct version v;
		struct stat st;
		bool there = false;
		int r = look(c, snapshot, tree, relative, &st, &there);

		if (r != 0)
			return r;
		if (!there)
			continue;
		v = version_of(&st);
		if (n == 0 || !same(&list[n - 1], &v)) {
			list[n++] = v;
			list[n - 1].first = snapshot;
		}
		if (snapshot) {
			list[n - 1].last = snapshot;
			list[n - 1].snapshots++;
		} else {
			list[n - 1].live = true;
		}
	}
	*ret_count = n;
	return 0;
}

static void print(const struct version *list, size_t n, const char *relative, const char *live)
{
	static const char *const headings[] = { "MODIFIED", ">SIZE", ">SNAPSHOTS", "NEWEST",
						"PATH" };
	struct table *t;

	if (tool_opts.json) {
		json_t *out = json_array();

		for (size_t i = 0; i < n; i++)
			json_array_append_new(out, to_json(&list[i], relative));
		print_json(json_pack("{so}", "versions", out));
		return;
	}
	t = table_new(headings, 5);
	for (size_t i = 0; i < n; i++)
		add_row(t, &list[i], relative, live);
	table_print(t);
}

static int versions(const char *file)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	CLEANUP(json_decref_p) json_t *tree = NULL, *all = NULL;
	CLEANUP(free_p) char *path = NULL, *relative = NULL, *live = NULL;
	CLEANUP(free_p) struct version *list = NULL;
	size_t n;
	int r = tool_connect_manager(&c);

	if (r == 0)
		r = find_tree_nofollow(c, file, &tree, &path, &relative);
	if (r == 0)
		r = find_all(c, path, &all);
	if (r != 0)
		return r;
	list = calloc(json_array_size(all) + 1, sizeof(*list));
	live = path_join(path, relative);
	if (!list || !live)
		return tool_no_memory();
	r = collect(c, all, path, relative, list, &n);
	if (r != 0)
		return r;
	if (n == 0)
		return tool_error("%s is in no snapshot of %s, and not there now", LOG_QUOTE(file),
				  LOG_QUOTE(path));
	print(list, n, relative, live);
	return 0;
}

static int run(int argc, char **argv)
{
	static const struct option options[] = { TOOL_LONG, { 0 } };
	int c, r;

	while ((c = getopt_long(argc, argv, TOOL_SHORT, options, NULL)) != -1) {
		r = tool_option(&cmd_versions, c, argv);
		if (r != TOOL_GO_ON)
			return r;
	}
	if (argc - optind != 1)
		return tool_usage(&cmd_versions, "versions needs one file");
	return versions(argv[optind]);
}

const struct command cmd_versions = {
	.name = "versions",
	.args = "[OPTION]... FILE",
	.summary = "list every distinct version of one file, oldest first",
	.help = "FILE is where the file is, or was, in the live tree. PATH is where each version can be\n"
		"read; umbra restore brings one back.\n\n"
		"Example: umbra versions /srv/db/config\n",
	.run = run,
};
