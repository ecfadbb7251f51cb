/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>

#include "cow/base/cleanup.h"
#include "tools/path.h"

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int walk_entries(int dir_fd, const char *path, const struct walk_ops *ops, void *ctx)
{
	CLEANUP(closedir_p) DIR *d = NULL;
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	const struct dirent *e;

	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return ops->failed(ctx, path, -errno);
	while (r == 0 && (errno = 0, e = readdir(d))) {
		CLEANUP(free_p) char *below = NULL;

		if (is_dots(e->d_name))
			continue;
		below = *path ? path_join(path, e->d_name) : strdup(e->d_name);
		r = below ? walk(dir_fd, e->d_name, below, ops, ctx)
			  : ops->failed(ctx, path, -ENOMEM);
	}
	if (r == 0 && errno)
		r = ops->failed(ctx, path, -errno);
	return r;
}

static int walk_dir(struct walk_item *it, const struct walk_ops *ops, void *ctx)
{
	CLEANUP(close_p)
	int fd = openat(it->dir_fd, it->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (fd < 0)
		return ops->failed(ctx, it->path, -errno);
	it->fd = fd;
	r = ops->enter(ctx, it);
	if (r == WALK_SKIP)
		return 0;
	if (r == 0)
		r = walk_entries(fd, it->path, ops, ctx);
	if (r == 0 && ops->leave)
		r = ops->leave(ctx, it);
	return r;
}

int walk(int dir_fd, const char *name, const char *path, const struct walk_ops *ops, void *ctx)
{
	struct walk_item it = { .dir_fd = dir_fd, .name = name, .path = path };
	CLEANUP(close_p) int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fstatat(fd, "", &it.st, AT_EMPTY_PATH) < 0)
		return ops->failed(ctx, path, -errno);
	if (S_ISDIR(it.st.st_mode))
		return walk_dir(&it, ops, ctx);
	it.fd = fd;
	return ops->other(ctx, &it);
}

int walk_above(int base, const char *path, int *ret_fd)
{
	CLEANUP(close_p) int fd = openat(base, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(free_p) char *copy = strdup(path + strspn(path, "/"));

	if (fd < 0 || !copy)
		return fd < 0 ? -errno : -ENOMEM;
	for (char *p = copy, *slash; (slash = strchr(p, '/')); p = slash + 1) {
		int next;

		*slash = '\0';
		next = openat(fd, p, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return -errno;
		close(fd);
		fd = next;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}
