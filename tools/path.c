/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/path.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "cow/base/cleanup.h"

char *path_join(const char *dir, const char *name)
{
	size_t len = strlen(dir);
	char *p = NULL;

	while (len > 1 && dir[len - 1] == '/')
		len--;
	while (*name == '/')
		name++;
	if (asprintf(&p, "%.*s%s%s", (int)len, dir,
		     !*name || (len && dir[len - 1] == '/') ? "" : "/", name) < 0)
		return NULL;
	return p;
}

/* Where the last part begins; the length of what is before it, without slashes, in *ret_dir_len. */
static const char *split_last(const char *path, size_t *ret_dir_len)
{
	size_t end = strlen(path), start;

	while (end > 1 && path[end - 1] == '/')
		end--;
	start = end;
	while (start && path[start - 1] != '/')
		start--;
	*ret_dir_len = start;
	while (*ret_dir_len > 1 && path[*ret_dir_len - 1] == '/')
		(*ret_dir_len)--;
	return path + start;
}

/* Whether realpath() failed because of something that a path of ours may run into. */
static bool may_be_missing(int r)
{
	return r == -ENOENT || r == -ENOTDIR || r == -ENOTCONN || r == -EACCES || r == -EIO ||
	       r == -ESTALE;
}

static int resolve_missing(const char *path, char **ret)
{
	CLEANUP(free_p) char *dir = NULL, *base = NULL, *above = NULL;
	size_t dir_len;
	const char *last = split_last(path, &dir_len);
	char *joined;
	int r;

	base = strndup(last, strcspn(last, "/"));
	dir = dir_len ? strndup(path, dir_len) : strdup(".");
	if (!base || !dir)
		return -ENOMEM;
	r = path_resolve(dir, true, &above);
	if (r < 0)
		return r;
	if (strcmp(base, "..") == 0) { /* of something that does not exist: by the text */
		split_last(above, &dir_len);
		above[dir_len ? dir_len : 1] = '\0';
		base[0] = '\0';
	} else if (strcmp(base, ".") == 0) {
		base[0] = '\0';
	}
	joined = path_join(above, base);
	if (!joined)
		return -ENOMEM;
	*ret = joined;
	return 0;
}

/* "." or "..", slashes behind it or not. */
static bool is_dots(const char *last)
{
	size_t len = strcspn(last, "/");

	return (len == 1 && last[0] == '.') || (len == 2 && last[0] == '.' && last[1] == '.');
}

int path_resolve(const char *path, bool follow, char **ret)
{
	size_t dir_len;
	const char *last;
	char *p;
	int r;

	if (!*path)
		return -ENOENT;
	last = split_last(path, &dir_len);
	if (!follow && *last && *last != '/' && !is_dots(last))
		return resolve_missing(path, ret);
	p = realpath(path, NULL);
	if (p) {
		*ret = p;
		return 0;
	}
	r = -errno;
	if (!may_be_missing(r) || strcmp(path, "/") == 0 || strcmp(path, ".") == 0)
		return r;
	return resolve_missing(path, ret);
}

int path_split_snapshot(const char *path, char **ret_dir, char **ret_name, const char **ret_rest)
{
	static const char mark[] = "/.snapshots/";
	const char *at = strstr(path, mark), *name, *rest;
	char *dir, *copy;

	if (!at)
		return -EINVAL;
	name = at + strlen(mark);
	rest = name + strcspn(name, "/");
	if (rest == name)
		return -EINVAL;
	dir = at == path ? strdup("/") : strndup(path, (size_t)(at - path));
	copy = strndup(name, (size_t)(rest - name));
	if (!dir || !copy) {
		free(dir);
		free(copy);
		return -ENOMEM;
	}
	while (*rest == '/')
		rest++;
	*ret_dir = dir;
	*ret_name = copy;
	*ret_rest = rest;
	return 0;
}
