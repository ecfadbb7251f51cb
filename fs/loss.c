/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/loss.c - nodes that lose a name; see loss.h. */
#include "fs/loss.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "fs/locate.h"

void fs_tree_read(struct fs *fs)
{
	rank_enter(RANK_TREE);
	pthread_rwlock_rdlock(&fs->tree);
}

void fs_tree_done(struct fs *fs)
{
	pthread_rwlock_unlock(&fs->tree);
	rank_leave(RANK_TREE);
}

void fs_loss_put(struct fs *fs, struct fs_loss *l)
{
	if (l->fd >= 0) {
		close(l->fd);
		atomic_fetch_sub(&fs->orphans, 1);
	}
	close_p(&l->number_fd);
	fs_nodes_unref(fs->nodes, l->node);
}

/* Will there be no name of it at all? */
static bool loses_last(struct fs *fs, const struct stat *was)
{
	return S_ISDIR(was->st_mode) || was->st_nlink <= 1 ||
	       was->st_nlink - cow_inode_extra_links(fs->store, was->st_ino) <= 1;
}

/* A descriptor of what may be left without a name; somebody may have it open, or as his cwd. */
static void keep_orphan(struct fs *fs, struct fs_loss *l, int *fd, const struct stat *was)
{
	if (l->node->orphan_fd >= 0)
		return;
	if (*fd >= 0 && atomic_fetch_add(&fs->orphans, 1) < fs->orphans_max) {
		l->fd = TAKE_FD(*fd);
		return;
	}
	if (*fd >= 0)
		atomic_fetch_sub(&fs->orphans, 1);
	l->unreachable = loses_last(fs, was);
	if (l->unreachable)
		l->number_fd = TAKE_FD(*fd);
}

int fs_loss_begin(struct fs *fs, struct fs_node *parent, int dirfd, const char *name, bool exchange,
		  struct fs_loss *l)
{
	CLEANUP(close_p) int fd = -1;
	struct stat st;

	/* What is removed is mostly known and has one name: so open it at once, instead of after a look at it. */
	if (!exchange)
		fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && !exchange && errno == ENOENT)
		return -ENOENT;
	/* else no descriptor is to be had: go on without */
	if ((fd >= 0 ? fstat(fd, &st) : fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW)) < 0)
		return -errno;
	l->node = fs_nodes_find(fs->nodes, FS_LIVE, st.st_dev, st.st_ino);
	if (l->node && !exchange && fs_nodes_last_place(fs->nodes, l->node, parent, name))
		keep_orphan(fs, l, &fd, &st);
	return 0;
}

/* The descriptor goes in only now: a node whose removal was refused would have kept it for nothing. Who looks in
 * between finds the name gone, and looks again once the tree lock is free. */
void fs_loss_publish(struct fs *fs, struct fs_loss *l, struct fs_node *parent, const char *name)
{
	if (!l->node)
		return;
	atomic_store_explicit(&l->node->lost_name, true, memory_order_relaxed);
	if (l->fd >= 0 && fs_nodes_set_orphan(fs->nodes, l->node, l->fd))
		l->fd = -1;
	fs_nodes_drop_place(fs->nodes, l->node, parent, name);
	if (l->unreachable)
		fs_nodes_unhash(fs->nodes, l->node);
}
