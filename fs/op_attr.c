/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/op_attr.c - handlers of attributes: getattr, setattr, readlink, statfs. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/change.h"
#include "cow/view.h"
#include "fs/creds.h"
#include "fs/locate.h"
#include "fs/ops.h"
#include "fs/reply.h"
#include "fs/snap.h"

/* ---- reading ---- */

int fs_stat(struct fs *fs, struct fs_node *node, struct stat *ret)
{
	if (node->kind != FS_LIVE)
		return fs_snap_stat(fs, node, ret);
	return fs_locate_stat(fs, node, ret);
}

static double timeout_of(const struct fs_node *node)
{
	return node->kind == FS_LIVE ? FS_LONG_TIMEOUT : fs_snap_timeout(node);
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct fs_node *node = fs_node_of(fs, ino);
	struct stat st;
	int r = fs_stat(fs, node, &st);

	fs_reply_attr(req, r, &st, timeout_of(node));
}

static int statx_live(struct fs *fs, struct fs_node *node, unsigned flags, unsigned mask,
		      struct statx *ret)
{
	CLEANUP(fs_fd_put) struct fs_fd f = FS_FD_NONE;
	int r = fs_locate(fs, node, &f);

	if (r < 0)
		return r;
	if (statx(f.fd, "",
		  AT_EMPTY_PATH | (int)(flags & (AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC)), mask,
		  ret) < 0)
		return -errno;
	return 0;
}

static int statx_snapdir(struct fs *fs, struct fs_node *node, struct statx *sx)
{
	struct stat st;
	int r = fs_snap_stat(fs, node, &st);

	if (r < 0)
		return r;
	*sx = (struct statx){
		.stx_mask = STATX_BASIC_STATS,
		.stx_ino = st.st_ino,
		.stx_mode = (uint16_t)st.st_mode,
		.stx_nlink = (uint32_t)st.st_nlink,
		.stx_uid = st.st_uid,
		.stx_gid = st.st_gid,
		.stx_blksize = (uint32_t)st.st_blksize,
		.stx_mtime = { .tv_sec = st.st_mtim.tv_sec,
			       .tv_nsec = (uint32_t)st.st_mtim.tv_nsec },
	};
	sx->stx_atime = sx->stx_ctime = sx->stx_mtime;
	return 0;
}

/* The parts that the overlay corrects come from fs_stat, the rest is as it is below. */
static void merge_stat(const struct stat *st, struct statx *sx)
{
	sx->stx_ino = st->st_ino;
	sx->stx_nlink = (uint32_t)st->st_nlink;
	sx->stx_mode = (uint16_t)st->st_mode;
	sx->stx_uid = st->st_uid;
	sx->stx_gid = st->st_gid;
}

int fs_statx(struct fs *fs, struct fs_node *node, unsigned flags, unsigned mask, struct statx *ret)
{
	struct stat st;
	int r;

	if (node->kind == FS_SNAPDIR)
		return statx_snapdir(fs, node, ret);
	if (node->kind == FS_SNAP) {
		r = cow_vnode_stat(node->vnode, ret);
		if (r == 0)
			ret->stx_ino = fs_snap_node_ino(fs, node);
		return r;
	}
	r = statx_live(fs, node, flags, mask | STATX_BASIC_STATS, ret);
	if (r < 0)
		return r;
	st = (struct stat){
		.st_ino = ret->stx_ino,
		.st_nlink = ret->stx_nlink,
		.st_mode = ret->stx_mode,
		.st_uid = ret->stx_uid,
		.st_gid = ret->stx_gid,
	};
	fs_correct_stat(fs, node, &st);
	merge_stat(&st, ret);
	return 0;
}

static ssize_t readlink_live(struct fs *fs, struct fs_node *node, char *buf, size_t size)
{
	CLEANUP(fs_fd_put) struct fs_fd f = FS_FD_NONE;
	ssize_t n;
	int r = fs_locate(fs, node, &f);

	if (r < 0)
		return r;
	n = readlinkat(f.fd, "", buf, size - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return n;
}

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	struct fs_node *node = fs_node_of(fs, ino);
	char buf[PATH_MAX + 1];
	ssize_t n = node->kind == FS_SNAP ? cow_vnode_readlink(node->vnode, buf, sizeof(buf))
					  : readlink_live(fs, node, buf, sizeof(buf));

	if (n < 0)
		fs_reply_status(req, (int)n);
	else
		fuse_reply_readlink(req, buf);
}

static int do_statfs(struct fs *fs, struct fs_node *node, struct statvfs *ret)
{
	CLEANUP(fs_fd_put) struct fs_fd f = FS_FD_NONE;
	int fd = fs->below_fd;

	if (node->kind == FS_LIVE && node->space != fs->below_dev) {
		int r = fs_locate(fs, node, &f);

		if (r < 0)
			return r;
		fd = f.fd;
	}
	return fstatvfs(fd, ret) < 0 ? -errno : 0;
}

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	struct statvfs sv;
	int r = do_statfs(fs, fs_node_of(fs, ino), &sv);

	if (r < 0)
		fs_reply_status(req, r);
	else
		fuse_reply_statfs(req, &sv);
}

/* ---- setattr ---- */

static int set_owner(struct fs_change *c, struct cow_inode *ci, int fd)
{
	int r;

	if (!(c->to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)))
		return 0;
	r = cow_chown(c->fs->store, ci, fd,
		      c->to_set & FUSE_SET_ATTR_UID ? c->attr.st_uid : (uid_t)-1,
		      c->to_set & FUSE_SET_ATTR_GID ? c->attr.st_gid : (gid_t)-1);
	if (r == 0 && c->node->root && c->fs->owner_changed)
		c->fs->owner_changed();
	return r;
}

/* The kernel has taken out of the mode what the caller may not set. */
static int set_mode(struct fs_change *c, struct cow_inode *ci, int fd)
{
	CLEANUP(fs_creds_end) struct fs_creds creds = { 0 };

	if (!(c->to_set & FUSE_SET_ATTR_MODE))
		return 0;
	creds = fs_creds_begin(&c->ctx, fs_creds_keep_mode(c->attr.st_mode));
	return cow_chmod(c->fs->store, ci, fd, c->attr.st_mode & 07777);
}

static int truncate_opened(struct fs_change *c, struct cow_inode *ci, int fd)
{
	CLEANUP(fs_creds_end) struct fs_creds creds = fs_content_creds(c);
	int r;

	(void)creds;
	r = cow_truncate(c->fs->store, ci, fd, c->attr.st_size);
	if (r == 0)
		fs_recheck_privileged(c);
	return r;
}

static int open_to_truncate(struct fs_change *c, struct fs_file **ret)
{
	if (c->node->type != S_IFREG >> 12)
		return c->node->type == S_IFDIR >> 12 ? -EISDIR : -EINVAL;
	return fs_file_open(c->fs, c->node, FS_OPEN_WRITE | FS_OPEN_IN_GATE, ret);
}

static struct timespec time_of(int to_set, int set, int now, struct timespec value)
{
	if (to_set & now)
		return (struct timespec){ .tv_nsec = UTIME_NOW };
	if (to_set & set)
		return value;
	return (struct timespec){ .tv_nsec = UTIME_OMIT };
}

static int set_times(struct fs_change *c, struct cow_inode *ci, int fd)
{
	struct timespec tv[2];

	if (!(c->to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW |
			   FUSE_SET_ATTR_MTIME_NOW)))
		return 0;
	tv[0] = time_of(c->to_set, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW, c->attr.st_atim);
	tv[1] = time_of(c->to_set, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW, c->attr.st_mtim);
	return cow_utimens(c->fs->store, ci, fd, tv);
}

/* Owner before mode, as chown clears set-id bits; times last, as truncation moves them. */
static int set_all(struct fs_change *c, struct fs_file *file)
{
	CLEANUP(fs_fd_put) struct fs_fd f = FS_FD_NONE;
	struct cow_inode *ci;
	int r;

	r = fs_cow_of(c->fs, c->node, &ci);
	if (r == 0)
		r = fs_locate(c->fs, c->node, &f);
	if (r == 0)
		r = set_owner(c, ci, f.fd);
	if (r == 0)
		r = set_mode(c, ci, f.fd);
	if (r == 0 && file)
		r = truncate_opened(c, ci, fs_file_wfd(file));
	if (r == 0)
		r = set_times(c, ci, f.fd);
	return r < 0 ? r : fs_stat(c->fs, c->node, &c->st);
}

/* What is to be truncated is opened first: all that follows finds that descriptor at hand. */
static int run_setattr(struct fs_change *c)
{
	struct fs_file *file = NULL;
	int r = c->to_set & FUSE_SET_ATTR_SIZE ? open_to_truncate(c, &file) : 0;

	if (r == 0)
		r = set_all(c, file);
	fs_file_put(c->fs, file);
	return r;
}

/* Of several steps the first may have been taken: the kernel asks again then. */
static void answer_setattr(struct fs_change *c, int r)
{
	if (r < 0)
		fuse_lowlevel_notify_inval_inode(c->fs->se, fs_nodes_id(c->node), -1, 0);
	fs_reply_attr(c->req, r, &c->st, FS_LONG_TIMEOUT);
}

static const struct fs_change_kind kind_setattr = { .run = run_setattr, .answer = answer_setattr };

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		struct fuse_file_info *fi)
{
	struct fs_change c = FS_CHANGE(&kind_setattr, req, fs_node_of(fs_of(req), ino));

	c.attr = *attr;
	c.to_set = to_set;
	if (c.fs->killpriv_v2 && (to_set & FUSE_SET_ATTR_SIZE))
		c.may_keep_id = !(to_set &
				  FUSE_SET_ATTR_KILL_SUID); /* FATTR_KILL_SUIDGID of the protocol */
	if (c.node->kind != FS_LIVE)
		fs_reply_status(req, -EROFS);
	else
		fs_change_submit(&c);
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
void op_statx(fuse_req_t req, fuse_ino_t ino, int flags, int mask, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct fs_node *node = fs_node_of(fs, ino);
	struct statx sx = { 0 };
	int r = fs_statx(fs, node, (unsigned)flags, (unsigned)mask, &sx);

	if (r < 0)
		fs_reply_status(req, r);
	else
		fuse_reply_statx(req, 0, &sx, timeout_of(node));
}
#endif
