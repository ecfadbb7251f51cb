/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/snap.c - snapshots as nodes; see snap.h. */
#include "fs/snap.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/epoch.h"
#include "cow/view.h"

#define SNAPDIR_TIMEOUT 1.0

/* 24 bits of epoch above 40 bits of inode number. XOR keeps numbers beyond 2^40 distinct within one snapshot. */
uint64_t fs_snap_ino(const struct fs *fs, uint64_t epoch, uint64_t ino)
{
	if (!fs->live)
		return ino;
	ino ^= (epoch % 0xFFFFFE + 1) << 40;
	return ino ? ino : 1;
}

/* Far from the numbers that file systems give, and the same at every look: no other thing's but, at worst, that of
 * another mount in the same directory. */
static uint64_t foreign_ino(struct cow_vnode *vn)
{
	struct cow_vnode *up = cow_vnode_parent(vn);
	uint64_t dir = up ? cow_vnode_ino(up) : 0;

	return (dir * UINT64_C(0x9E3779B97F4A7C15) ^ cow_vnode_ino(vn)) | UINT64_C(1) << 63;
}

uint64_t fs_snap_node_ino(const struct fs *fs, const struct fs_node *node)
{
	return fs_snap_ino(fs, node->space, node->foreign ? foreign_ino(node->vnode) : node->ino);
}

double fs_snap_timeout(const struct fs_node *node)
{
	return node->kind == FS_SNAPDIR ? SNAPDIR_TIMEOUT : FS_EVER_TIMEOUT;
}

static struct timespec to_timespec(struct statx_timestamp t)
{
	return (struct timespec){ .tv_sec = t.tv_sec, .tv_nsec = t.tv_nsec };
}

static void from_statx(struct fs *fs, struct fs_node *node, const struct statx *sx, struct stat *st)
{
	*st = (struct stat){
		.st_ino = fs_snap_node_ino(fs, node),
		.st_mode = sx->stx_mode,
		.st_nlink = sx->stx_nlink,
		.st_uid = sx->stx_uid,
		.st_gid = sx->stx_gid,
		.st_rdev = makedev(sx->stx_rdev_major, sx->stx_rdev_minor),
		.st_size = (off_t)sx->stx_size,
		.st_blksize = (blksize_t)sx->stx_blksize,
		.st_blocks = (blkcnt_t)sx->stx_blocks,
		.st_atim = to_timespec(sx->stx_atime),
		.st_mtim = to_timespec(sx->stx_mtime),
		.st_ctim = to_timespec(sx->stx_ctime),
	};
}

static int stat_snapdir(struct fs *fs, struct stat *st)
{
	struct cow_snapshot *list = NULL;
	size_t n = 0;
	int r = cow_epoch_list(fs->store, false, &list, &n);

	if (r < 0)
		return r;
	*st = (struct stat){
		.st_ino = FS_SNAPDIR_INO,
		.st_mode = S_IFDIR | 0555,
		.st_nlink = 2 + n,
		.st_uid = geteuid(),
		.st_gid = getegid(),
		.st_blksize = 4096,
		.st_mtim.tv_sec = fs->started,
	};
	if (n)
		st->st_mtim = (struct timespec){ .tv_sec = list[n - 1].opened_ns / 1000000000,
						 .tv_nsec = list[n - 1].opened_ns % 1000000000 };
	st->st_atim = st->st_ctim = st->st_mtim;
	cow_snapshots_free(list, n);
	return 0;
}

int fs_snap_stat(struct fs *fs, struct fs_node *node, struct stat *ret)
{
	struct statx sx;
	int r;

	if (node->kind == FS_SNAPDIR)
		return stat_snapdir(fs, ret);
	r = cow_vnode_stat(node->vnode, &sx);
	if (r == 0)
		from_statx(fs, node, &sx, ret);
	return r;
}

/* Takes vn. */
static int enter_vnode(struct fs *fs, uint64_t epoch, struct cow_vnode *vn, double entry_timeout,
		       struct fuse_entry_param *ret)
{
	uint64_t ino = cow_vnode_ino(vn);
	struct fs_node *node;
	struct statx sx;
	int r;

	r = cow_vnode_stat(vn, &sx);
	if (r < 0) {
		cow_vnode_put(vn);
		return r;
	}
	node = fs_nodes_enter_snap(fs->nodes, epoch, ino, sx.stx_mode, vn,
				   cow_vnode_is_foreign(vn));
	if (!node)
		return -ENOMEM;
	*ret = (struct fuse_entry_param){
		.ino = fs_nodes_id(node),
		.attr_timeout = FS_EVER_TIMEOUT,
		.entry_timeout = entry_timeout,
	};
	from_statx(fs, node, &sx, &ret->attr);
	return 0;
}

static int lookup_snapshot(struct fs *fs, const char *name, struct fuse_entry_param *ret)
{
	struct cow_view *view;
	struct cow_vnode *root;
	uint64_t epoch;
	int r;

	r = cow_epoch_find(fs->store, name, &epoch);
	if (r < 0)
		return r;
	r = cow_view_open(fs->store, epoch, false, &view);
	if (r < 0)
		return r;
	r = cow_vnode_root(view, &root);
	cow_view_close(view); /* its vnodes keep it */
	return r < 0 ? r : enter_vnode(fs, epoch, root, FS_EVER_TIMEOUT, ret);
}

int fs_snap_lookup(struct fs *fs, struct fs_node *dir, const char *name,
		   struct fuse_entry_param *ret)
{
	struct cow_vnode *vn;
	int r;

	if (dir->kind == FS_SNAPDIR)
		return lookup_snapshot(fs, name, ret);
	r = cow_vnode_lookup(dir->vnode, name, &vn);
	return r < 0 ? r : enter_vnode(fs, dir->space, vn, FS_EVER_TIMEOUT, ret);
}

int fs_snap_enter_dir(struct fs *fs, struct fuse_entry_param *ret)
{
	struct fs_node *node;
	int r;

	*ret = (struct fuse_entry_param){ .attr_timeout = SNAPDIR_TIMEOUT,
					  .entry_timeout = FS_EVER_TIMEOUT };
	r = stat_snapdir(fs, &ret->attr);
	if (r < 0)
		return r;
	node = fs_nodes_enter_snapdir(fs->nodes);
	if (!node)
		return -ENOMEM;
	ret->ino = fs_nodes_id(node);
	return 0;
}

void fs_snap_dropped(struct fs *fs, const char *name)
{
	struct fs_node *dir = fs_nodes_find(fs->nodes, FS_SNAPDIR, 0, 0);

	rank_assert_free(RANK_NONE + 1);
	if (!dir || !fs->se)
		return;
	fuse_lowlevel_notify_inval_entry(fs->se, fs_nodes_id(dir), name, strlen(name));
	fs_nodes_unref(fs->nodes, dir);
}
