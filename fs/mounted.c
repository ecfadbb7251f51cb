/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/mounted.c - what something is mounted on; see mounted.h. */
#include "fs/mounted.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cow/base/cleanup.h"
#include "cow/base/mounts.h"

struct texts {
	char **list;
	size_t count;
};

static void texts_done(struct texts *t)
{
	for (size_t i = 0; i < t->count; i++)
		free(t->list[i]);
	free(t->list);
	*t = (struct texts){ 0 };
}

static int texts_add(struct texts *t, const char *text)
{
	char **grown = reallocarray(t->list, t->count + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	t->list = grown;
	grown[t->count] = strdup(text);
	if (!grown[t->count])
		return -ENOMEM;
	t->count++;
	return 0;
}

static bool texts_have(const struct texts *t, const char *text)
{
	for (size_t i = 0; i < t->count; i++) {
		if (strcmp(t->list[i], text) == 0)
			return true;
	}
	return false;
}

/* ---- one table ---- */

static int add_last(struct texts *names, const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? texts_add(names, slash + 1) : 0;
}

/* Only what lies on a mount of Umbra's. A parent that cannot be reached from the process's root may be one. */
static int add_mount(struct texts *names, const struct mounts *table, const struct mount *m)
{
	const struct mount *on = mounts_of_id(table, m->parent);
	int r;

	if (on && !mount_is_umbra(on))
		return 0;
	r = add_last(names, m->point);
	if (r == 0 && on && strcmp(on->point, m->point) == 0)
		r = add_last(names, on->root); /* a file is bound there, under another name */
	return r;
}

static int add_table(struct texts *names, const struct mounts *table)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < table->count; i++)
		r = add_mount(names, table, &table->list[i]);
	return r;
}

/* ---- all of them ---- */

/* What tables differ by: one shows a namespace as far as it can be reached from the process's root. Reading the links
 * asks no file system, which might be ours, or hang. */
static int key_of(const char *proc, const char *pid, char key[2 * PATH_MAX])
{
	static const char *const links[] = { "ns/mnt", "root" };
	char path[PATH_MAX];

	for (unsigned i = 0; i < 2; i++) {
		ssize_t n;

		if (snprintf(path, sizeof(path), "%s/%s/%s", proc, pid, links[i]) >= PATH_MAX)
			return -ENAMETOOLONG;
		n = readlink(path, key, PATH_MAX - 1);
		if (n < 0)
			return -errno;
		key += n;
		*key = '\0';
	}
	return 0;
}

static int add_process(struct texts *names, struct texts *seen, const char *proc, const char *pid)
{
	CLEANUP(mounts_done) struct mounts table = { 0 };
	char key[2 * PATH_MAX], path[PATH_MAX];
	int r = key_of(proc, pid, key);

	if (r < 0 || texts_have(seen, key))
		return r;
	if (snprintf(path, sizeof(path), "%s/%s/mountinfo", proc, pid) >= PATH_MAX)
		return -ENAMETOOLONG;
	r = mounts_read_from(path, &table);
	if (r == 0)
		r = add_table(names, &table);
	return r < 0 ? r : texts_add(seen, key);
}

/* Else the process has ended, or is not for us to look at. */
static bool is_shortage(int r)
{
	return r == -ENOMEM || r == -EMFILE || r == -ENFILE;
}

static int add_all(struct texts *names, const char *proc)
{
	CLEANUP(closedir_p) DIR *d = opendir(proc);
	CLEANUP(texts_done) struct texts seen = { 0 };
	int r;

	if (!d)
		return -errno;
	r = add_process(names, &seen, proc, "self");
	while (r == 0) {
		const struct dirent *e;

		errno = 0;
		e = readdir(d);
		if (!e)
			return -errno;
		if (isdigit((unsigned char)e->d_name[0]))
			r = add_process(names, &seen, proc, e->d_name);
		if (!is_shortage(r))
			r = 0;
	}
	return r;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int fs_mounted_read(const char *proc, struct fs_mounted *ret)
{
	CLEANUP(texts_done) struct texts names = { 0 };
	int r = add_all(&names, proc);

	if (r < 0)
		return r;
	if (names.count)
		qsort(names.list, names.count, sizeof(*names.list), compare);
	*ret = (struct fs_mounted){ .names = names.list, .count = names.count };
	names = (struct texts){ 0 };
	return 0;
}

void fs_mounted_done(struct fs_mounted *m)
{
	struct texts t = { .list = m->names, .count = m->count };

	texts_done(&t);
	*m = (struct fs_mounted){ 0 };
}

bool fs_mounted_has(const struct fs_mounted *m, const char *name)
{
	return m->count && bsearch(&name, m->names, m->count, sizeof(*m->names), compare);
}
