/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra restore: copy files and directories back from a snapshot. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cow/base/bytes.h"
#include "cow/base/err.h"
#include "cow/base/mounts.h"
#include "tools/commands.h"
#include "tools/common.h"
#include "tools/copy.h"
#include "tools/find.h"
#include "tools/ns.h"
#include "tools/path.h"
#include "tools/print.h"
#include "tools/walk.h"

/* The first copy of a file with several names: by (dev, ino) in the snapshot. */
struct linked {
	dev_t dev;
	ino_t ino;
	dev_t copy_dev; /* of the copy */
	ino_t copy_ino;
	char *path; /* of the copy, below base; owned */
};

struct restore {
	/* what is asked for */
	const char *snapshot, *for_dir, *to;
	bool dry;

	/* where we are */
	int root;   /* the snapshot's root directory */
	char *tree; /* path of the live tree */
	int base;   /* its root, or DIR of --to; -1: not there (-n) */
	int *dirs;  /* open directories of the destination, outermost first */
	size_t depth, space;
	const char *top_name; /* what the start is called at the destination */
	void *linked;	      /* tsearch(3) tree of struct linked */

	/* what came of it */
	struct progress progress;
	uint64_t files, bytes, failures;
	json_t *actions;       /* --json, else NULL */
	const char *start;     /* the destination of the start below base */
	const char *shown_dst; /* and as a path of the start, for messages */
};

static int fail(struct restore *r, const char *path, int error)
{
	progress_end(&r->progress);
	r->failures++;
	return tool_error("restoring %s: %s", LOG_QUOTE(*path ? path : r->shown_dst),
			  err_text(error));
}

/* What went wrong with one thing does not stop the others. */
static int failed(void *ctx, const char *path, int error)
{
	fail(ctx, path, error);
	return 0;
}

/* ---- how much there is to do */

static int count_enter(void *ctx, const struct walk_item *it)
{
	(void)ctx;
	return tool_signal() ? TOOL_FAILED : 0;
}

static int count_other(void *ctx, const struct walk_item *it)
{
	uint64_t *bytes = ctx;

	if (S_ISREG(it->st.st_mode))
		*bytes += (uint64_t)it->st.st_size;
	return tool_signal() ? TOOL_FAILED : 0;
}

static int count_failed(void *ctx, const char *path, int error)
{
	return 0; /* said when it is to be copied */
}

/* ---- doing it */

static int dst_dir(const struct restore *r)
{
	return r->dirs[r->depth - 1];
}

static const char *dst_name(const struct restore *r, const struct walk_item *it)
{
	return r->depth == 1 ? r->top_name : it->name;
}

static int push_dir(struct restore *r, int fd)
{
	if (r->depth == r->space) {
		int *grown = reallocarray(r->dirs, r->space + 32, sizeof(int));

		if (!grown)
			return -ENOMEM;
		r->dirs = grown;
		r->space += 32;
	}
	r->dirs[r->depth++] = fd;
	return 0;
}

static void pop_dir(struct restore *r)
{
	r->depth--;
	if (r->dirs[r->depth] >= 0)
		close(r->dirs[r->depth]);
}

static void say(struct restore *r, const char *verb, const struct walk_item *it)
{
	CLEANUP(free_p) char *path = path_join(r->shown_dst, it->path);

	if (!path)
		return;
	if (r->actions) {
		json_t *o = json_pack("{sssI}", "action", verb, "size", (json_int_t)it->st.st_size);

		if (o && umbra_json_set_path(o, "path", path) == 0)
			json_array_append_new(r->actions, o);
		else
			json_decref(o);
	} else if (r->dry || tool_opts.verbose) {
		printf("%s%-7s %s%s\n", r->dry ? "would " : "", verb, LOG_QUOTE(path),
		       S_ISDIR(it->st.st_mode) ? "/" : "");
	}
}

/* "create" or "replace"; -errno when what is there must not be replaced. */
static int verb_for(const struct restore *r, const struct walk_item *it, const char **ret)
{
	bool is_dir = S_ISDIR(it->st.st_mode);
	struct stat st;

	*ret = "create";
	if (dst_dir(r) < 0) /* -n, in a directory that is not there yet */
		return 0;
	if (fstatat(dst_dir(r), dst_name(r, it), &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	*ret = "replace";
	if (is_dir && !S_ISDIR(st.st_mode))
		return -ENOTDIR;
	return !is_dir && S_ISDIR(st.st_mode) ? -EISDIR : 0;
}

static int enter_dir(struct restore *r, const struct walk_item *it)
{
	const char *name = dst_name(r, it), *verb;
	int fd, res = verb_for(r, it, &verb);

	if (res < 0)
		return res;
	if (strcmp(verb, "create") == 0)
		say(r, verb, it);
	if (r->dry) {
		fd = dst_dir(r) < 0 ? -1
				    : openat(dst_dir(r), name,
					     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		return push_dir(r, fd);
	}
	res = copy_directory(dst_dir(r), name, &fd);
	if (res < 0)
		return res;
	res = push_dir(r, fd);
	if (res < 0)
		close(fd);
	return res;
}

static int enter(void *ctx, const struct walk_item *it)
{
	struct restore *r = ctx;
	int res;

	if (tool_signal())
		return tool_error("interrupted; what was restored so far is complete");
	res = enter_dir(r, it);
	if (res < 0) {
		fail(r, it->path, res);
		return WALK_SKIP;
	}
	return 0;
}

/* Last, since filling a directory moves its times. */
static int leave(void *ctx, const struct walk_item *it)
{
	struct restore *r = ctx;
	int res = 0;

	if (!r->dry) {
		res = copy_attributes(it->fd, &it->st, dst_dir(r));
		if (res == 0 && fsync(dst_dir(r)) < 0)
			res = -errno;
	}
	pop_dir(r);
	if (res < 0)
		fail(r, it->path, res);
	return 0;
}

static void add_progress(void *ctx, uint64_t bytes)
{
	struct restore *r = ctx;

	r->bytes += bytes;
	progress_add(&r->progress, bytes);
}

static int compare_linked(const void *a, const void *b)
{
	const struct linked *x = a, *y = b;

	if (x->dev != y->dev)
		return x->dev < y->dev ? -1 : 1;
	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static void free_linked(void *p)
{
	free(((struct linked *)p)->path);
	free(p);
}

static const struct linked *find_linked(const struct restore *r, const struct stat *st)
{
	const struct linked key = { .dev = st->st_dev, .ino = st->st_ino };
	void *const *at = tfind(&key, &r->linked, compare_linked);

	return at ? *at : NULL;
}

/* Without memory a later name becomes a file of its own, as with cp without -a. */
static void remember_linked(struct restore *r, const struct walk_item *it, const struct stat *copy)
{
	struct linked *l = calloc(1, sizeof(*l));

	if (!l)
		return;
	l->dev = it->st.st_dev;
	l->ino = it->st.st_ino;
	l->copy_dev = copy->st_dev;
	l->copy_ino = copy->st_ino;
	l->path = path_join(r->start, it->path);
	if (!l->path || !tsearch(l, &r->linked, compare_linked))
		free_linked(l);
}

/* The copy itself, and nothing that was put in its place or leads elsewhere. */
static int open_linked(const struct restore *r, const struct linked *l)
{
	CLEANUP(close_p) int dir = -1;
	CLEANUP(close_p) int fd = -1;
	struct stat st;

	if (walk_above(r->base, l->path, &dir) < 0)
		return -1;
	fd = openat(dir, path_last(l->path), O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_dev != l->copy_dev || st.st_ino != l->copy_ino)
		return -1;
	return TAKE_FD(fd);
}

static int copy_one(struct restore *r, const struct walk_item *it)
{
	struct copy_source src = {
		.dir_fd = it->dir_fd, .name = it->name, .fd = it->fd, .st = &it->st
	};
	const struct linked *l = it->st.st_nlink > 1 ? find_linked(r, &it->st) : NULL;
	CLEANUP(close_p) int linked = l ? open_linked(r, l) : -1;
	struct stat made;
	int res;

	if (linked >= 0 && copy_link(linked, dst_dir(r), dst_name(r, it)) == 0) {
		add_progress(r, S_ISREG(it->st.st_mode) ? (uint64_t)it->st.st_size : 0);
		return 0;
	}
	res = copy_replace(&src, dst_dir(r), dst_name(r, it), add_progress, r, &made);
	if (res == 0 && it->st.st_nlink > 1 && !l)
		remember_linked(r, it, &made);
	return res;
}

static int other(void *ctx, const struct walk_item *it)
{
	struct restore *r = ctx;
	const char *verb;
	int res;

	if (tool_signal())
		return tool_error("interrupted; what was restored so far is complete");
	res = verb_for(r, it, &verb);
	if (res == 0) {
		say(r, verb, it);
		if (!r->dry)
			res = copy_one(r, it);
	}
	if (res < 0)
		fail(r, it->path, res);
	else
		r->files++;
	return 0;
}

static const struct walk_ops count_ops = { .enter = count_enter,
					   .other = count_other,
					   .failed = count_failed };
static const struct walk_ops restore_ops = {
	.enter = enter, .leave = leave, .other = other, .failed = failed
};

/* ---- one PATH */

static int copy_attributes_of(const struct restore *r, const char *path, int dst)
{
	CLEANUP(close_p) int dir = -1;
	CLEANUP(close_p) int src = -1;
	struct stat st;
	int res = walk_above(r->root, path, &dir);

	if (res < 0)
		return res;
	src = openat(dir, path_last(path), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (src < 0 || fstat(src, &st) < 0)
		return -errno;
	return copy_attributes(src, &st, dst);
}

/* Make the directories above a path that are gone from the live tree; with the attributes that the
 * snapshot has. relative "" or without slash: none. */
static int open_parent(struct restore *r, const char *relative, int *ret)
{
	CLEANUP(close_p) int fd = openat(r->base, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(free_p) char *path = strdup(relative);

	if (fd < 0 || !path)
		return fd < 0 ? -errno : -ENOMEM;
	for (char *p = path, *slash; (slash = strchr(p, '/')); p = slash + 1) {
		int next = -1, res;

		*slash = '\0';
		if (r->dry) {
			next = openat(fd, p, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			res = next < 0 ? -errno : 0;
		} else {
			res = copy_directory(fd, p, &next);
		}
		if (res < 0)
			return res;
		close(fd);
		fd = next;
		if (res == 1)
			res = copy_attributes_of(r, path, fd);
		if (res < 0)
			return res;
		*slash = '/';
	}
	*ret = TAKE_FD(fd);
	return 0;
}

/* --to DIR: made when it is not there. */
static int open_to(const struct restore *r, int *ret)
{
	if (!r->dry && mkdir(r->to, 0777) < 0 && errno != EEXIST)
		return -errno;
	*ret = open(r->to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*ret < 0 && !(r->dry && errno == ENOENT))
		return -errno;
	return 0;
}

static int open_base(struct restore *r)
{
	int res = r->to ? open_to(r, &r->base) : mounts_open_tree(r->tree, &r->base);

	if (res == -ESTALE)
		return tool_error("%s leads elsewhere by now, or is not protected any more",
				  LOG_QUOTE(r->tree));
	return res < 0 ? tool_error("restoring to %s: %s", LOG_QUOTE(r->to ? r->to : r->tree),
				    err_text(res))
		       : 0;
}

/* Where the copies of one PATH go; -1 when that would be made. */
static int open_destination(struct restore *r, const char *relative, int *ret)
{
	if (!r->to)
		return open_parent(r, relative, ret);
	*ret = r->base < 0 ? -1 : openat(r->base, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret < 0 && r->base >= 0 ? -errno : 0;
}

/* Everything below a path of the snapshot, in which a link leads nowhere. */
static int walk_snapshot(struct restore *r, const char *relative, const struct walk_ops *ops,
			 void *ctx)
{
	CLEANUP(close_p) int dir = -1;
	int res = walk_above(r->root, relative, &dir);

	return res < 0 ? ops->failed(ctx, "", res)
		       : walk(dir, *relative ? path_last(relative) : ".", "", ops, ctx);
}

static int is_in_snapshot(const struct restore *r, const char *relative)
{
	CLEANUP(close_p) int dir = -1;
	struct stat st;
	int res = walk_above(r->root, relative, &dir);

	if (res == 0 &&
	    fstatat(dir, *relative ? path_last(relative) : ".", &st, AT_SYMLINK_NOFOLLOW) < 0)
		res = -errno;
	return res;
}

static int restore_path(struct restore *r, const char *given, const char *relative)
{
	CLEANUP(free_p) char *shown = NULL;
	int parent = -1, res = is_in_snapshot(r, relative);

	if (res < 0)
		return tool_error("%s is not in the snapshot: %s (see: umbra diff, umbra versions)",
				  LOG_QUOTE(given), err_text(res));
	r->top_name = *relative ? path_last(relative) : r->to ? path_last(r->tree) : ".";
	r->start = r->to ? r->top_name : relative;
	shown = r->to ? path_join(r->to, r->top_name) : path_join(r->tree, relative);
	if (!shown)
		return tool_no_memory();
	r->shown_dst = shown;
	res = open_destination(r, relative, &parent);
	if (res == -ENOENT && r->dry)
		res = 0; /* would be made */
	if (res == 0)
		res = push_dir(r, parent);
	if (res < 0) {
		fail(r, "", res);
		return TOOL_FAILED;
	}
	res = walk_snapshot(r, relative, &restore_ops, r);
	if (!r->dry && parent >= 0)
		(void)fsync(
			parent); /* the name itself; a file system without it has no more to give */
	while (r->depth)
		pop_dir(r);
	return res;
}

/* ---- all of them */

static void report(const struct restore *r, int status)
{
	if (r->actions)
		print_json(json_pack("{sbsOsIsIsI}", "dry_run", r->dry, "actions", r->actions,
				     "files", (json_int_t)r->files, "bytes", (json_int_t)r->bytes,
				     "failures", (json_int_t)r->failures));
	else if (!r->dry && (r->files || (status == 0 && !r->failures))) /* else all was said */
		log_info("restored %llu file%s, %s", (unsigned long long)r->files,
			 r->files == 1 ? "" : "s", PRINT_SIZE(r->bytes));
}

static int restore_all(struct restore *r, char **paths, char **relative, int n)
{
	uint64_t total = 0;
	int status = 0;

	if (!r->dry) {
		for (int i = 0; i < n; i++)
			(void)walk_snapshot(r, relative[i], &count_ops, &total);
	}
	progress_begin(&r->progress, "restoring", total, true);
	for (int i = 0; i < n && !tool_signal(); i++)
		status = tool_worse(status, restore_path(r, paths[i], relative[i]));
	progress_end(&r->progress);
	report(r, status);
	return r->failures ? TOOL_FAILED : tool_signal() ? TOOL_FAILED : status;
}

/* Where PATH lies below its tree; all of one command have to lie in the same. */
static int look_up(struct umbra_client *c, struct restore *r, char **paths, char **relative, int n)
{
	for (int i = 0; i < n; i++) {
		CLEANUP(json_decref_p) json_t *tree = NULL;
		CLEANUP(free_p) char *path = NULL;
		int res = find_tree_nofollow(c, paths[i], &tree, &path, &relative[i]);

		if (res != 0)
			return res;
		if (r->tree && strcmp(r->tree, path) != 0)
			return tool_error(
				"%s and %s lie in different protected directories (restore them one "
				"after the other)",
				LOG_QUOTE(paths[0]), LOG_QUOTE(paths[i]));
		if (!r->tree)
			r->tree = TAKE(path);
	}
	return 0;
}

static int restore(struct restore *r, char **paths, char **relative, int n)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	CLEANUP(json_decref_p) json_t *snapshot = NULL;
	int res = tool_connect_manager(&c);

	if (res == 0)
		res = look_up(c, r, paths, relative, n);
	if (res == 0)
		res = find_snapshot(c, r->snapshot, r->for_dir ? r->for_dir : r->tree, &snapshot);
	if (res == 0)
		res = ns_open_snapshot(c, snapshot, &r->root);
	if (res == 0)
		res = open_base(r);
	if (res != 0)
		return res;
	tool_catch_signals();
	umask(0);
	return restore_all(r, paths, relative, n);
}

enum { OPT_TO = TOOL_OPT_OWN, OPT_FOR };

static const struct option options[] = {
	TOOL_LONG,
	{ "to", 1, NULL, OPT_TO },
	{ "for", 1, NULL, OPT_FOR },
	{ "dry-run", 0, NULL, 'n' },
	{ 0 },
};

static int run(int argc, char **argv)
{
	struct restore r = { .root = -1, .base = -1 };
	char **relative;
	int c, res, n;

	while ((c = getopt_long(argc, argv, TOOL_SHORT "n", options, NULL)) != -1) {
		switch (c) {
		case 'n':
			r.dry = true;
			break;
		case OPT_TO:
			r.to = optarg;
			break;
		case OPT_FOR:
			r.for_dir = optarg;
			break;
		default:
			res = tool_option(&cmd_restore, c, argv);
			if (res != TOOL_GO_ON)
				return res;
		}
	}
	n = argc - optind - 1;
	if (n < 1)
		return tool_usage(&cmd_restore, "restore needs a snapshot and a path");
	r.snapshot = argv[optind];
	relative = calloc((size_t)n, sizeof(*relative));
	if (!relative)
		return tool_no_memory();
	r.actions = tool_opts.json ? json_array() : NULL;
	res = restore(&r, argv + optind + 1, relative, n);
	for (int i = 0; i < n; i++)
		free(relative[i]);
	free(relative);
	tdestroy(r.linked, free_linked);
	free(r.dirs);
	free(r.tree);
	json_decref(r.actions);
	close_p(&r.root);
	close_p(&r.base);
	return res;
}

const struct command cmd_restore = {
	.name = "restore",
	.args = "[OPTION]... SNAPSHOT PATH...",
	.summary = "copy files and directories back from a snapshot",
	.help = "  --to DIR       into DIR instead of where they were\n"
		"  -n, --dry-run  only say what would be created and what replaced\n"
		"  --for DIR      the snapshot is one of DIR (default: the one that holds PATH)\n\n"
		"PATH is where the thing is, or was, in the live tree. Each file is replaced in one\n"
		"step; what a directory has besides stays.\n\n"
		"Example: umbra restore latest /srv/db/config --to /tmp\n",
	.run = run,
};
