/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/writer/hookdir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/base/log.h"
#include "tools/path.h"

static void say(char **ret_bad, const char *path, const char *what)
{
	char *text;

	if (!*ret_bad && asprintf(&text, "%s %s", LOG_QUOTE(path), what) >= 0)
		*ret_bad = text;
}

/* One thing on the way: 0 or -EPERM. An ACL that lets others write shows in the group's bits. */
static int check_one(const char *path, const struct stat *st, bool above, char **ret_bad)
{
	if (st->st_uid != 0 && st->st_uid != geteuid()) {
		say(ret_bad, path, "belongs to somebody else");
		return -EPERM;
	}
	if ((st->st_mode & 022) && !(above && (st->st_mode & S_ISVTX))) {
		say(ret_bad, path, "may be written by others (try: chmod go-w)");
		return -EPERM;
	}
	return 0;
}

/* A path without links, and all directories above it. */
static int check_path(const char *path, struct stat *ret, char **ret_bad)
{
	CLEANUP(free_p) char *copy = strdup(path);
	struct stat st;
	bool above = false;
	char *slash;
	int r;

	if (!copy)
		return -ENOMEM;
	for (;;) {
		if (lstat(*copy ? copy : "/", &st) < 0)
			return -errno;
		r = check_one(*copy ? copy : "/", &st, above, ret_bad);
		if (r < 0)
			return r;
		if (!above)
			*ret = st;
		above = true;
		slash = strrchr(copy, '/');
		if (!slash || !*copy)
			return 0;
		*slash = '\0';
	}
}

static bool ends_in(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);

	return n > m && strcmp(name + n - m, end) == 0;
}

static bool is_leftover(const char *name)
{
	static const char *const ends[] = { "~",	 ".bak",      ".orig",
					    ".rpmnew",	 ".rpmsave",  ".rpmorig",
					    ".dpkg-old", ".dpkg-new", ".dpkg-dist" };

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		if (ends_in(name, ends[i]))
			return true;
	}
	return name[0] == '.';
}

/* 1: a program that may be run; 0: none of ours. Links are followed: what counts is where the program
 * lies really. */
static int check_program(const char *path, char **ret_bad)
{
	char real[PATH_MAX];
	struct stat st;
	int r;

	if (!realpath(path, real))
		return errno == ENOENT || errno == ELOOP ? 0 : -errno;
	if (stat(real, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || access(real, X_OK) < 0)
		return 0;
	r = check_path(real, &st, ret_bad);
	return r < 0 ? r : 1;
}

static int add(struct hookdir *h, char *path)
{
	char **bigger = realloc(h->paths, (h->count + 1) * sizeof(*bigger));

	if (!bigger) {
		free(path);
		return -ENOMEM;
	}
	h->paths = bigger;
	h->paths[h->count++] = path;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int hookdir_read(const char *dir, struct hookdir *ret, char **ret_bad)
{
	CLEANUP(hookdir_done) struct hookdir h = { 0 };
	CLEANUP(closedir_p) DIR *d = NULL;
	struct dirent *e;
	struct stat st;
	int r;

	r = check_path(dir, &st, ret_bad);
	if (r < 0)
		return r;
	d = opendir(dir);
	if (!d)
		return -errno;
	while (errno = 0, (e = readdir(d))) {
		char *path;

		if (is_leftover(e->d_name))
			continue;
		path = path_join(dir, e->d_name);
		r = path ? check_program(path, ret_bad) : -ENOMEM;
		if (r == 1)
			r = add(&h, path);
		else
			free(path);
		if (r < 0)
			return r;
	}
	if (errno)
		return -errno;
	if (h.count > 1)
		qsort(h.paths, h.count, sizeof(*h.paths), by_name);
	*ret = h;
	h = (struct hookdir){ 0 };
	return 0;
}

void hookdir_done(struct hookdir *h)
{
	for (size_t i = 0; i < h->count; i++)
		free(h->paths[i]);
	free(h->paths);
	*h = (struct hookdir){ 0 };
}
