/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/provider_place.c - mount points of exposed snapshots; see provider_place.h. */
#include "fs/provider_place.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/client/client.h"
#include "cow/base/cleanup.h"
#include "cow/base/err.h"
#include "cow/base/fusemount.h"
#include "cow/base/log.h"
#include "cow/base/mounts.h"
#include "cow/base/path.h"

#define PLACE_NAME "exposed" /* directory of default places, beside the coordinator's socket */
#define SHORT_ID 8

int fs_place_fail(int r, char why[FS_EXPOSE_WHY_SIZE], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, FS_EXPOSE_WHY_SIZE, fmt, ap);
	va_end(ap);
	return r;
}

static int no_memory(char why[FS_EXPOSE_WHY_SIZE])
{
	return fs_place_fail(-ENOMEM, why, "out of memory");
}

/* ---- the mount point ---- */

static char *source_of(const char *id)
{
	char *source;

	return asprintf(&source, "%s%s", MOUNTS_EXPOSED_SOURCE, id) < 0 ? NULL : source;
}

/* What lies uppermost at a path: 0 nothing of Umbra's, 1 this snapshot, -EEXIST another one or a tree. */
static int what_is_at(const char *id, const char *path)
{
	CLEANUP(mounts_done) struct mounts mounts = { 0 };
	CLEANUP(free_p) char *source = source_of(id);
	const struct mount *at;
	int r = source ? mounts_read(&mounts) : -ENOMEM;

	if (r < 0)
		return r;
	at = mounts_at(&mounts, path);
	if (!at || !mount_is_umbra(at))
		return 0;
	return strcmp(at->source, source) == 0 ? 1 : -EEXIST;
}

/* A daemon that was killed left its mounts. Nobody but us serves this snapshot, so a dead one is ours. */
static void clear_dead(const char *id, const char *path)
{
	if (what_is_at(id, path) == 1 && mounts_is_dead(path) && fusemount_unmount(path, true) == 0)
		log_info("took away what a daemon that died left at %s", LOG_QUOTE(path));
}

/* 1: it is, 0: something is in it, -errno. */
static int is_empty(const char *path)
{
	CLEANUP(closedir_p) DIR *d = opendir(path);
	const struct dirent *de;

	if (!d)
		return -errno;
	while ((de = readdir(d)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			return 0;
	return 1;
}

/* Its path without links; the text of it may lead anywhere. */
static int resolve(const char *path, char **ret, char why[FS_EXPOSE_WHY_SIZE])
{
	char *real = realpath(path, NULL);
	int r;

	if (real) {
		*ret = real;
		return 0;
	}
	r = -errno;
	if (r == -ENOENT)
		return fs_place_fail(r, why, "%s: there is no such directory (make it first)",
				     LOG_QUOTE(path));
	if (r == -ENOTCONN)
		return fs_place_fail(
			-EEXIST, why,
			"%s has a dead mount over it, its daemon is gone (try: umbra umount %s)",
			LOG_QUOTE(path), LOG_QUOTE(path));
	return fs_place_fail(r, why, "%s cannot be used as a mount point: %s", LOG_QUOTE(path),
			     err_text(r));
}

/* Whether a snapshot may be mounted there: as mount(8) and fusermount3 have it, and never over what would be hidden. */
static int check_point(const struct fs_place_tree *tree, const char *id, const char *path,
		       char why[FS_EXPOSE_WHY_SIZE])
{
	struct stat st;
	int r;

	if (path_below(tree->path, path) || (tree->store_dir && path_below(tree->store_dir, path)))
		return fs_place_fail(
			-EINVAL, why,
			"%s lies in the protected directory itself, or in its store (give a place outside)",
			LOG_QUOTE(path));
	r = what_is_at(id, path);
	if (r == 1 || r == -EEXIST)
		return fs_place_fail(-EEXIST, why,
				     "%s has a snapshot or an overlay mounted already",
				     LOG_QUOTE(path));
	if (r < 0)
		return fs_place_fail(r, why, "the mount table: %s", err_text(r));
	if (lstat(path, &st) < 0)
		return fs_place_fail(-errno, why, "%s: %s", LOG_QUOTE(path), err_text(errno));
	if (!S_ISDIR(st.st_mode))
		return fs_place_fail(-EINVAL, why,
				     "%s is not a directory, so nothing can be mounted there",
				     LOG_QUOTE(path));
	if (geteuid() != 0 &&
	    (access(path, W_OK) < 0 || ((st.st_mode & S_ISVTX) && st.st_uid != geteuid())))
		return fs_place_fail(-EACCES, why,
				     "%s is not yours to mount at (give a directory of your own)",
				     LOG_QUOTE(path));
	r = is_empty(path);
	if (r < 0)
		return fs_place_fail(r, why, "%s: %s", LOG_QUOTE(path), err_text(r));
	if (r == 0)
		return fs_place_fail(
			-EINVAL, why,
			"%s is not empty; what is in it would be hidden (give an empty directory)",
			LOG_QUOTE(path));
	return 0;
}

/* ---- the default place ---- */

/* The directory of default places: ours, and nobody else's to look into (what an upper directory keeps from others
 * must not be seen here). Whoever wants others to see a snapshot names a place. */
static int make_base(const struct fs_place_tree *tree, char **ret, char why[FS_EXPOSE_WHY_SIZE])
{
	CLEANUP(free_p) char *base = NULL;
	char socket[PATH_MAX];
	struct stat st;
	int r = 0;

	if (tree->socket)
		snprintf(socket, sizeof(socket), "%s", tree->socket);
	else
		r = umbra_socket_path(false, socket, sizeof(socket));
	if (r < 0)
		return fs_place_fail(r, why, "the default place for exposed snapshots: %s",
				     err_text(r));
	if (asprintf(&base, "%s/" PLACE_NAME, dirname(socket)) < 0) {
		base = NULL;
		return no_memory(why);
	}
	if (mkdir(base, 0700) < 0 && errno != EEXIST)
		return fs_place_fail(-errno, why, "%s cannot be made: %s (give a mount point)",
				     LOG_QUOTE(base), err_text(errno));
	if (lstat(base, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
	    (st.st_mode & 022))
		return fs_place_fail(
			-EACCES, why,
			"%s is not safe to use: somebody else may write there (give a mount "
			"point)",
			LOG_QUOTE(base));
	*ret = TAKE(base);
	return 0;
}

static int try_place(const struct fs_place_tree *tree, const char *id, const char *path,
		     char **ret_real, bool *ret_made, char why[FS_EXPOSE_WHY_SIZE])
{
	CLEANUP(free_p) char *real = NULL;
	bool made;
	int r;

	clear_dead(id, path);
	made = mkdir(path, 0700) == 0;
	if (!made && errno != EEXIST)
		return fs_place_fail(-errno, why, "%s cannot be made: %s (give a mount point)",
				     LOG_QUOTE(path), err_text(errno));
	r = resolve(path, &real, why);
	if (r == 0)
		r = check_point(tree, id, real, why);
	if (r < 0) {
		if (made)
			rmdir(path);
		return r;
	}
	*ret_real = TAKE(real);
	*ret_made = true; /* in a directory of ours: by us, now or before a crash */
	return 0;
}

/* Under the name that it has in .snapshots, of which there may be another one in another tree. */
static int make_place(const struct fs_place_tree *tree, const struct fs_place_want *want,
		      char **ret_real, bool *ret_made, char why[FS_EXPOSE_WHY_SIZE])
{
	CLEANUP(free_p) char *base = NULL, *path = NULL, *other = NULL;
	int r = make_base(tree, &base, why);

	if (r < 0)
		return r;
	if (asprintf(&path, "%s/%s", base, want->name) < 0 ||
	    asprintf(&other, "%s/%s-%.*s", base, want->name, SHORT_ID, want->id) < 0)
		return no_memory(why);
	r = try_place(tree, want->id, path, ret_real, ret_made, why);
	return r < 0 ? try_place(tree, want->id, other, ret_real, ret_made, why) : r;
}

/* ---- mounting ---- */

static void unmake_place(const char *path, bool made)
{
	if (made)
		rmdir(path); /* another one keeps it from going, or its user */
}

static int mount_failed(int r, const char *path, char why[FS_EXPOSE_WHY_SIZE])
{
	if (r == -ENOPKG)
		return fs_place_fail(-EOPNOTSUPP, why,
				     "mounting at %s needs fusermount3 (install fuse3, or be root)",
				     LOG_QUOTE(path));
	return fs_place_fail(r == -EPERM ? -EACCES : r, why,
			     "mounting at %s: %s (is it yours, and is /dev/fuse there?)",
			     LOG_QUOTE(path), err_text(r));
}

/* What was checked is what is mounted on: by its descriptor, since the path may lead elsewhere a moment later. Whoever needs
 * fusermount3 has it check with his own rights. */
static int mount_at(const char *path, const char *source, int *ret_fd)
{
	CLEANUP(close_p) int at = -1;
	char link[40], real[PATH_MAX];
	ssize_t n;
	int r;

	if (!fusemount_privileged())
		return fusemount(path, source, ret_fd);
	at = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (at < 0)
		return -errno;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", at);
	n = readlink(link, real, sizeof(real) - 1);
	if (n < 0)
		return -errno;
	real[n] = '\0';
	r = strcmp(real, path) == 0 ? is_empty(link) : -ESTALE;
	if (r <= 0)
		return r < 0 ? r : -ENOTEMPTY;
	return fusemount_direct(link, source, ret_fd);
}

/* Where, checked. */
static int find_place(const struct fs_place_tree *tree, const struct fs_place_want *want,
		      char **ret_real, bool *ret_made, char why[FS_EXPOSE_WHY_SIZE])
{
	CLEANUP(free_p) char *real = NULL;
	int r;

	if (!want->path)
		return make_place(tree, want, ret_real, ret_made, why);
	clear_dead(want->id, want->path);
	r = resolve(want->path, &real, why);
	if (r == 0 && strcmp(real, want->path) != 0) /* its owner must not send root elsewhere */
		r = fs_place_fail(-EINVAL, why, "%s was a directory and leads to %s now",
				  LOG_QUOTE(want->path), LOG_QUOTE(real));
	if (r == 0)
		r = check_point(tree, want->id, real, why);
	if (r < 0)
		return r;
	*ret_real = TAKE(real);
	*ret_made = false;
	return 0;
}

int fs_place_mount(const struct fs_place_tree *tree, const struct fs_place_want *want,
		   char **ret_path, bool *ret_made, int *ret_fd, char why[FS_EXPOSE_WHY_SIZE])
{
	CLEANUP(free_p) char *source = source_of(want->id);
	CLEANUP(free_p) char *real = NULL;
	bool made;
	int r;

	if (!source)
		return no_memory(why);
	r = find_place(tree, want, &real, &made, why);
	if (r < 0)
		return r;
	r = mount_at(real, source, ret_fd);
	if (r < 0) {
		unmake_place(real, made);
		return mount_failed(r, real, why);
	}
	*ret_path = TAKE(real);
	*ret_made = made;
	return 0;
}

void fs_place_clear(const char *id, const char *path, bool made)
{
	clear_dead(id, path);
	unmake_place(path, made);
}

int fs_place_settle(const char *id, const char *path, char **ret, char why[FS_EXPOSE_WHY_SIZE])
{
	clear_dead(id, path);
	return resolve(path, ret, why);
}

int fs_place_unmount(const char *id, const char *path, bool made, bool force,
		     char why[FS_EXPOSE_WHY_SIZE])
{
	int r = 0;

	if (what_is_at(id, path) == 1) {
		r = fusemount_unmount(path, force);
		if (r == -EINVAL || r == -ENOENT)
			r = 0; /* somebody was faster */
	}
	if (r == -EBUSY)
		return fs_place_fail(r, why,
				     "%s is in use (leave it and close its files, or use force)",
				     LOG_QUOTE(path));
	if (r < 0)
		return fs_place_fail(r, why, "unmounting %s: %s", LOG_QUOTE(path), err_text(r));
	unmake_place(path, made);
	return 0;
}
