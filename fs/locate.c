/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/locate.c - from a node to a descriptor; see locate.h. */
#include "fs/locate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "fs/handles.h"
#include "fs/idmap.h"

#define TRIES_FREE 4 /* looks without the tree lock before we stop the tree */

void fs_fd_put(struct fs_fd *f)
{
	if (f->own && f->fd >= 0)
		close(f->fd);
	if (f->dir)
		fs_dirfds_put(f->fs->dirfds, f->dir);
	if (f->file)
		fs_file_put(f->fs, f->file);
	*f = (struct fs_fd)FS_FD_NONE;
}

struct fs_proc_path fs_proc_path(int fd)
{
	struct fs_proc_path p;

	snprintf(p.text, sizeof(p.text), "/proc/self/fd/%d", fd);
	return p;
}

/* A descriptor table that is full is the daemon's, not the caller's: EMFILE would mislead. */
static int open_error(void)
{
	return errno == EMFILE ? -ENFILE : -errno;
}

static bool is_node(const struct fs_node *node, const struct stat *st)
{
	return st->st_ino == node->ino && st->st_dev == node->space;
}

/* openat() with O_NOATIME, which only the owner and CAP_FOWNER may use. */
static int open_at(int dirfd, const char *name, int flags)
{
	int fd = -1;

	if (!(flags & O_PATH))
		fd = openat(dirfd, name, flags | O_NOATIME | O_CLOEXEC);
	if (fd < 0 && ((flags & O_PATH) || errno == EPERM))
		fd = openat(dirfd, name, flags | O_CLOEXEC);
	return fd < 0 ? open_error() : fd;
}

/* Open and make sure that it is the node: -ESTALE when the name has another meaning by now. O_NONBLOCK: should
 * the name be a FIFO by now, we must not wait for its other end. */
static int open_checked(int dirfd, const char *name, struct fs_node *node, int flags)
{
	CLEANUP(close_p) int fd = open_at(dirfd, name, flags | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return fd == -ELOOP || fd == -ENOTDIR ? -ESTALE : fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	return is_node(node, &st) ? TAKE_FD(fd) : -ESTALE;
}

static void tree_lock(struct fs *fs, bool frozen)
{
	if (!frozen)
		return;
	rank_enter(RANK_TREE);
	pthread_rwlock_wrlock(&fs->tree);
}

static void tree_unlock(struct fs *fs, bool frozen)
{
	if (!frozen)
		return;
	pthread_rwlock_unlock(&fs->tree);
	rank_leave(RANK_TREE);
}

/* ---- directories ---- */

static int root_dir(struct fs *fs, struct fs_fd *ret)
{
	*ret = (struct fs_fd){ .fd = fs->below_fd };
	return 0;
}

static int cached_dir(struct fs *fs, struct fs_node *node, struct fs_fd *ret)
{
	struct fs_dirfd *d;

	if (node->root)
		return root_dir(fs, ret);
	d = fs_dirfds_get(fs->dirfds, (uintptr_t)node);
	if (!d)
		return -ENOENT;
	*ret = (struct fs_fd){ .fd = d->fd, .fs = fs, .dir = d };
	return 0;
}

static int keep_dir(struct fs *fs, struct fs_node *node, int fd, struct fs_fd *ret)
{
	struct fs_dirfd *d = fs_dirfds_add(fs->dirfds, (uintptr_t)node, fd);

	if (!d)
		return -ENOMEM;
	*ret = (struct fs_fd){ .fd = d->fd, .fs = fs, .dir = d };
	return 0;
}

/* A directory that was removed while in use (somebody's cwd). */
static int orphan_dir(struct fs *fs, struct fs_node *node, struct fs_fd *ret)
{
	if (node->orphan_fd < 0)
		return -ESTALE;
	*ret = (struct fs_fd){ .fd = node->orphan_fd };
	return 0;
}

static int duplicate(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	return copy < 0 ? open_error() : copy;
}

/* One step down: the topmost directory on the way to `node` that is not in the cache is opened from its parent,
 * which is. Returns 1 when that was `node` itself, 0 for another step, -ESTALE for a name out of date. */
static int step_down(struct fs *fs, struct fs_node *node, struct fs_fd *ret)
{
	struct fs_node *child = fs_nodes_ref(fs->nodes, node);
	int r;

	for (;;) {
		char name[FS_NODE_NAME_SIZE];
		struct fs_fd above = FS_FD_NONE;
		struct fs_node *parent;

		r = fs_nodes_place(fs->nodes, child, 0, &parent, name);
		if (r < 0) {
			r = orphan_dir(fs, child, ret);
			if (r == 0)
				r = duplicate(ret->fd);
			if (r >= 0)
				r = keep_dir(fs, child, r, ret);
			break;
		}
		if (cached_dir(fs, parent, &above) < 0) {
			fs_nodes_unref(fs->nodes, child);
			child = parent;
			continue;
		}
		r = open_checked(above.fd, name, child, O_PATH | O_DIRECTORY);
		fs_fd_put(&above);
		fs_nodes_unref(fs->nodes, parent);
		if (r >= 0)
			r = keep_dir(fs, child, r, ret);
		break;
	}
	if (r == 0 && child == node)
		r = 1;
	else if (r == 0)
		fs_fd_put(ret);
	fs_nodes_unref(fs->nodes, child);
	return r;
}

int fs_locate_dir(struct fs *fs, struct fs_node *node, struct fs_fd *ret)
{
	int stale = 0;
	int r = 0;

	if (node->type != S_IFDIR >> 12)
		return -ENOTDIR;
	if (cached_dir(fs, node, ret) == 0)
		return 0;
	while (stale <= TRIES_FREE) {
		bool frozen = stale == TRIES_FREE;

		tree_lock(fs, frozen);
		do
			r = step_down(fs, node, ret);
		while (r == 0);
		tree_unlock(fs, frozen);
		if (r > 0)
			return 0;
		if (r != -ESTALE && r != -ENOENT)
			return r;
		stale++;
	}
	return orphan_dir(fs, node, ret);
}

/* ---- anything ---- */

typedef int (*at_fn)(struct fs_node *node, int dirfd, const char *name, void *arg);

/* Call fn with a place of the node until one works. fn says -ESTALE or -ENOENT for one that does not. */
static int try_places(struct fs *fs, struct fs_node *node, bool frozen, at_fn fn, void *arg)
{
	for (unsigned i = 0;; i++) {
		CLEANUP(fs_fd_put) struct fs_fd dir = FS_FD_NONE;
		char name[FS_NODE_NAME_SIZE];
		struct fs_node *parent;
		int r;

		if (fs_nodes_place(fs->nodes, node, i, &parent, name) < 0)
			return -ESTALE;
		r = fs_locate_dir(fs, parent, &dir);
		if (r == 0) {
			tree_lock(fs, frozen);
			r = fn(node, dir.fd, name, arg);
			if (frozen && (r == -ESTALE || r == -ENOENT)) {
				/* Nothing moves now, so this name is wrong for good. */
				fs_nodes_drop_place(fs->nodes, node, parent, name);
				i--;
			}
			tree_unlock(fs, frozen);
		}
		fs_nodes_unref(fs->nodes, parent);
		if (r != -ESTALE && r != -ENOENT)
			return r;
	}
}

static int at_place(struct fs *fs, struct fs_node *node, at_fn fn, void *arg)
{
	int r = -ESTALE;

	for (int i = 0; i <= TRIES_FREE && r == -ESTALE; i++)
		r = try_places(fs, node, i == TRIES_FREE, fn, arg);
	return r;
}

static int at_open(struct fs_node *node, int dirfd, const char *name, void *arg)
{
	return open_checked(dirfd, name, node, *(int *)arg);
}

static int at_stat(struct fs_node *node, int dirfd, const char *name, void *arg)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!is_node(node, &st))
		return -ESTALE;
	*(struct stat *)arg = st;
	return 0;
}

/* What needs no walk: an open file, an orphan, a directory in the cache. */
static int at_hand(struct fs *fs, struct fs_node *node, struct fs_fd *ret)
{
	struct fs_file *file;

	if (node->type == S_IFDIR >> 12)
		return cached_dir(fs, node, ret);
	file = fs_file_of(fs, node);
	if (file && fs_file_fd(file) >= 0) {
		*ret = (struct fs_fd){ .fd = fs_file_fd(file), .fs = fs, .file = file };
		return 0;
	}
	fs_file_put(fs, file); /* only just being opened */
	if (node->orphan_fd < 0)
		return -ENOENT;
	*ret = (struct fs_fd){ .fd = node->orphan_fd };
	return 0;
}

int fs_locate(struct fs *fs, struct fs_node *node, struct fs_fd *ret)
{
	int flags = O_PATH;
	int r;

	if (at_hand(fs, node, ret) == 0)
		return 0;
	if (node->type == S_IFDIR >> 12)
		return fs_locate_dir(fs, node, ret);
	r = at_place(fs, node, at_open, &flags);
	if (r == -ESTALE && at_hand(fs, node, ret) == 0) /* lost its name meanwhile */
		return 0;
	if (r < 0)
		return r;
	*ret = (struct fs_fd){ .fd = r, .own = true };
	return 0;
}

/* Through the descriptor we have: works for what has no name, and for a directory in the cache. */
static int reopen(struct fs *fs, struct fs_node *node, int flags)
{
	CLEANUP(fs_fd_put) struct fs_fd f = FS_FD_NONE;
	int r;

	if (node->type == S_IFDIR >> 12) {
		r = fs_locate_dir(fs, node, &f);
		return r < 0 ? r : open_at(f.fd, ".", flags);
	}
	r = at_hand(fs, node, &f);
	return r < 0 ? r : open_at(AT_FDCWD, fs_proc_path(f.fd).text, flags);
}

int fs_locate_open(struct fs *fs, struct fs_node *node, int flags)
{
	int r;

	if (node->type == S_IFDIR >> 12)
		return reopen(fs, node, flags);
	r = at_place(fs, node, at_open, &flags);
	if (r == -ESTALE)
		r = reopen(fs, node, flags);
	return r == -ENOENT ? -ESTALE : r;
}

int fs_locate_stat(struct fs *fs, struct fs_node *node, struct stat *ret)
{
	CLEANUP(fs_fd_put) struct fs_fd f = FS_FD_NONE;
	int r;

	if (at_hand(fs, node, &f) == 0) {
		r = fstatat(f.fd, "", ret, AT_EMPTY_PATH) < 0 ? -errno : 0;
	} else {
		r = at_place(fs, node, at_stat, ret);
		if (r == -ESTALE) {
			r = fs_locate(fs, node, &f);
			if (r == 0 && fstatat(f.fd, "", ret, AT_EMPTY_PATH) < 0)
				r = -errno;
		}
	}
	if (r == 0)
		fs_correct_stat(fs, node, ret);
	return r;
}

void fs_correct_stat(struct fs *fs, struct fs_node *node, struct stat *st)
{
	atomic_store_explicit(&node->privileged,
			      (st->st_mode & (S_ISUID | S_ISGID)) && S_ISREG(st->st_mode),
			      memory_order_relaxed);
	fs_idmap_show(&st->st_uid, &st->st_gid);
	if (node->space != fs->below_dev)
		return;
	if (S_ISDIR(st->st_mode)) {
		if (node->root && st->st_nlink > 2)
			st->st_nlink--; /* the store's directory (F-3) */
		else if (!node->root &&
			 atomic_load_explicit(&node->lost_name, memory_order_relaxed) &&
			 fs_nodes_nameless(fs->nodes, node))
			st->st_nlink = 0; /* waits in the graveyard */
		return;
	}
	if (st->st_nlink >= 2 || atomic_load_explicit(&node->lost_name, memory_order_relaxed)) {
		unsigned extra = cow_inode_extra_links(fs->store, st->st_ino);

		st->st_nlink -= extra < st->st_nlink ? extra : st->st_nlink;
	}
}
