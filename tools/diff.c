/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra diff: what changed between two snapshots, or a snapshot and now. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow/base/bytes.h"
#include "cow/base/err.h"
#include "cow/base/path.h"
#include "tools/commands.h"
#include "tools/common.h"
#include "tools/find.h"
#include "tools/ns.h"
#include "tools/path.h"
#include "tools/print.h"
#include "tools/snapshot.h"

enum { OPT_FOR = TOOL_OPT_OWN, OPT_STAT, OPT_CONTENT };

struct diff {
	const char *dir, *content;
	bool stat, null;
	json_t *a, *b; /* snapshots; b NULL: the live tree */
};

struct totals {
	uint64_t added, deleted, modified, attributes, renamed, typed;
	int64_t bytes; /* by which sizes grew */
};

static enum print_colour colour_of(char kind)
{
	switch (kind) {
	case 'A':
		return PRINT_GREEN;
	case 'D':
		return PRINT_RED;
	case 'R':
		return PRINT_BOLD;
	}
	return PRINT_YELLOW;
}

static void count(struct totals *t, char kind, const json_t *change)
{
	uint64_t *counter = kind == 'A'	  ? &t->added
			    : kind == 'D' ? &t->deleted
			    : kind == 'R' ? &t->renamed
			    : kind == 'm' ? &t->attributes
			    : kind == 'T' ? &t->typed
					  : &t->modified;

	(*counter)++;
	if (kind != 'm')
		t->bytes += tool_int(change, "new_size") - tool_int(change, "old_size");
}

/* One line for people, or words ended by NUL for programs: KIND, OLD when renamed, PATH. */
static void print_change(const struct diff *d, char kind, const json_t *change)
{
	CLEANUP(free_p)
	char *path = tool_path(change, "path"), *old = tool_path(change, "old_path");

	if (!path)
		return;
	if (d->null) {
		printf("%c%c", kind, '\0');
		if (old)
			printf("%s%c", old, '\0');
		printf("%s%c", path, '\0');
		return;
	}
	printf("%s%c%s", print_colour(colour_of(kind)), kind, print_colour(PRINT_PLAIN));
	printf("%c ", kind == 'R' && tool_bool(change, "modified") ? 'M' : ' ');
	if (old)
		printf("%s -> ", LOG_QUOTE(old));
	printf("%s", LOG_QUOTE(path));
	if (d->stat && kind != 'm')
		printf("  %s -> %s", PRINT_SIZE(tool_int(change, "old_size")),
		       PRINT_SIZE(tool_int(change, "new_size")));
	putchar('\n');
}

static void print_totals(const struct totals *t)
{
	printf("%llu added, %llu deleted, %llu modified, %llu renamed, %llu only attributes, %llu other "
	       "type; %s%s\n",
	       (unsigned long long)t->added, (unsigned long long)t->deleted,
	       (unsigned long long)t->modified, (unsigned long long)t->renamed,
	       (unsigned long long)t->attributes, (unsigned long long)t->typed,
	       t->bytes < 0 ? "-" : "+", PRINT_SIZE(t->bytes < 0 ? -t->bytes : t->bytes));
}

static void begin_json(const struct diff *d)
{
	printf("{\"from\": \"%s\", \"to\": ", tool_str(d->a, "id"));
	if (d->b)
		printf("\"%s\"", tool_str(d->b, "id"));
	else
		printf("null");
	printf(", \"changes\": [");
}

/* One object per line, as the provider writes it; nothing is collected. */
static int print_changes(const struct diff *d, FILE *f)
{
	CLEANUP(free_p) char *line = NULL;
	struct totals totals = { 0 };
	size_t size = 0, n = 0;

	if (tool_opts.json)
		begin_json(d);
	while (getline(&line, &size, f) > 0) {
		CLEANUP(json_decref_p) json_t *change = json_loads(line, 0, NULL);
		char kind = tool_str(change, "kind")[0];

		if (!change || !kind)
			return tool_error(
				"line %zu of the differences is broken (see the log of umbrafs)",
				n + 1);
		line[strcspn(line, "\n")] = '\0';
		count(&totals, kind, change);
		if (tool_opts.json)
			printf("%s\n  %s", n ? "," : "", line);
		else
			print_change(d, kind, change);
		n++;
	}
	if (ferror(f))
		return tool_error("reading the differences: %s", err_text(-errno));
	if (tool_opts.json)
		printf("\n]}\n");
	else if (d->stat && !d->null)
		print_totals(&totals);
	return 0;
}

static int diff_trees(struct umbra_client *c, const struct diff *d)
{
	CLEANUP(fclose_p) FILE *f = NULL;
	CLEANUP(close_p) int fd = -1;
	json_t *params = json_pack("{ss}", "snapshot_id", tool_str(d->a, "id"));
	int r;

	if (params && d->b)
		json_object_set_new(params, "other", json_string(tool_str(d->b, "id")));
	r = tool_call_fd(c, "Diff", params, -1, NULL, &fd);
	if (r != 0)
		return r;
	if (fd < 0)
		return tool_error("the coordinator sent no differences");
	f = fdopen(fd, "r");
	if (!f)
		return tool_error("fdopen: %s", err_text(-errno));
	TAKE_FD(fd);
	/* A descriptor of a file keeps the place where its writer stopped. */
	(void)fseek(f, 0, SEEK_SET);
	return print_changes(d, f);
}

/* ---- --content */

/* The file at one side; -1 and 0 when it does not exist there. */
static int open_side(struct umbra_client *c, const json_t *snapshot, const char *tree,
		     const char *relative, int *ret_fd)
{
	CLEANUP(close_p) int root = -1;
	int r = ns_open_side(c, snapshot, tree, &root);

	if (r != 0)
		return r;
	*ret_fd = openat(root, relative, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (*ret_fd < 0 && errno != ENOENT && errno != ENOTDIR)
		return tool_error("%s: %s", LOG_QUOTE(relative), err_text(-errno));
	return 0;
}

/* As diff(1) and git do: a NUL near the start means it is no text. */
static bool is_binary(int fd)
{
	char buf[8192];
	ssize_t n = fd < 0 ? 0 : pread(fd, buf, sizeof(buf), 0);

	return n > 0 && memchr(buf, 0, (size_t)n);
}

static void exec_diff(int a, int b, const char *label_a, const char *label_b)
{
	char name_a[40] = "/dev/null", name_b[40] = "/dev/null";

	if (a >= 0) {
		snprintf(name_a, sizeof(name_a), "/dev/fd/%d", a);
		fcntl(a, F_SETFD, 0);
	}
	if (b >= 0) {
		snprintf(name_b, sizeof(name_b), "/dev/fd/%d", b);
		fcntl(b, F_SETFD, 0);
	}
	signal(SIGPIPE, SIG_DFL);
	execlp("diff", "diff", "-u", "--label", label_a, "--label", label_b, name_a, name_b, NULL);
	log_error("diff: %s (install diffutils)", err_text(-errno));
	_exit(2);
}

static int run_diff(const struct diff *d, const char *relative, int a, int b)
{
	char label_a[LOG_QUOTE_SIZE + 64], label_b[LOG_QUOTE_SIZE + 64];
	int status;
	pid_t pid;

	snprintf(label_a, sizeof(label_a), "%s (%.40s)", LOG_QUOTE(relative), snapshot_title(d->a));
	snprintf(label_b, sizeof(label_b), "%s (%.40s)", LOG_QUOTE(relative),
		 d->b ? snapshot_title(d->b) : "live");
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		exec_diff(a, b, label_a, label_b);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (pid < 0)
		return tool_error("fork: %s", err_text(-errno));
	/* diff says 1 for "they differ", which is no failure here. */
	return WIFEXITED(status) && WEXITSTATUS(status) <= 1 ? 0 : TOOL_FAILED;
}

/* FILE below the tree: a path in the live tree, or one relative to the tree's root. */
static int content_path(const struct diff *d, const char *tree, char **ret)
{
	CLEANUP(free_p) char *full = NULL;
	const char *below;
	int r = path_resolve(d->content, false, &full);

	below = r == 0 ? path_below(tree, full) : NULL;
	if (!below && d->content[0] == '/')
		return tool_error("%s is not in %s", LOG_QUOTE(d->content), LOG_QUOTE(tree));
	*ret = strdup(below ? below : d->content);
	return *ret ? 0 : tool_no_memory();
}

static int diff_content(struct umbra_client *c, const struct diff *d)
{
	CLEANUP(free_p) char *tree = tool_path(d->a, "tree_path"), *relative = NULL;
	CLEANUP(close_p) int a = -1;
	CLEANUP(close_p) int b = -1;
	int r;

	if (!tree)
		return tool_no_memory();
	r = content_path(d, tree, &relative);
	if (r == 0)
		r = open_side(c, d->a, tree, relative, &a);
	if (r == 0)
		r = open_side(c, d->b, tree, relative, &b);
	if (r != 0)
		return r;
	if (a < 0 && b < 0)
		return tool_error("%s is on neither side", LOG_QUOTE(d->content));
	if (is_binary(a) || is_binary(b)) {
		printf("%s is binary\n", LOG_QUOTE(relative));
		return 0;
	}
	return run_diff(d, relative, a, b);
}

/* ---- the command line */

static int diff(struct diff *d, const struct find_operand *names, int n)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	int r = tool_connect_manager(&c);

	if (r == 0)
		r = find_snapshot(c, names[0].name, names[0].dir, &d->a);
	if (r == 0 && n == 2)
		r = find_snapshot(c, names[1].name, names[1].dir ? names[1].dir : names[0].dir,
				  &d->b);
	if (r != 0)
		return r;
	if (d->b && strcmp(tool_str(d->a, "tree_id"), tool_str(d->b, "tree_id")) != 0)
		return tool_error("%s and %s are snapshots of different directories",
				  LOG_QUOTE(names[0].name), LOG_QUOTE(names[1].name));
	return d->content ? diff_content(c, d) : diff_trees(c, d);
}

static int run(int argc, char **argv)
{
	static const struct option options[] = {
		TOOL_LONG,
		{ "for", 1, NULL, OPT_FOR },
		{ "stat", 0, NULL, OPT_STAT },
		{ "null", 0, NULL, '0' },
		{ "content", 1, NULL, OPT_CONTENT },
		{ 0 },
	};
	struct find_operand what[4];
	struct diff d = { 0 };
	int c, r, n;

	while ((c = getopt_long(argc, argv, TOOL_SHORT "0", options, NULL)) != -1) {
		switch (c) {
		case OPT_FOR:
			d.dir = optarg;
			break;
		case OPT_STAT:
			d.stat = true;
			break;
		case '0':
			d.null = true;
			break;
		case OPT_CONTENT:
			d.content = optarg;
			break;
		default:
			r = tool_option(&cmd_diff, c, argv);
			if (r != TOOL_GO_ON)
				return r;
		}
	}
	n = argc - optind;
	n = n < 1 || n > 4 ? 0 : find_operands(argv + optind, n, d.dir, what);
	if (n < 1 || n > 2)
		return tool_usage(&cmd_diff, "diff needs one snapshot or two");
	r = diff(&d, what, n);
	json_decref(d.a);
	json_decref(d.b);
	return r;
}

const struct command cmd_diff = {
	.name = "diff",
	.args = "[OPTION]... SNAPSHOT [DIR] [SNAPSHOT [DIR]]",
	.summary = "show which paths changed between two snapshots, or since one",
	.help = "  --stat          sizes and totals too\n"
		"  -0, --null      for programs: KIND, OLD PATH if renamed, PATH, each ended by NUL\n"
		"  --content FILE  the lines of one file that differ\n"
		"  --for DIR       the snapshots are those of DIR\n\n"
		"A added, D deleted, M modified, m attributes only, R renamed (RM: and modified),\n"
		"T another type.\n\n"
		"Example: umbra diff latest /srv/db\n",
	.run = run,
};
