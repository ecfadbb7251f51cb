/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/op_file.c - handlers of open regular files. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/change.h"
#include "cow/view.h"
#include "fs/creds.h"
#include "fs/locate.h"
#include "fs/ops.h"
#include "fs/rawio.h"
#include "fs/reply.h"
#include "fs/snap.h"

#define SPLICE_MIN (32 * 1024) /* smaller reads are cheaper to copy */
/* A hold waits for the system call under way; a short copy is legal (copy_file_range(2)). */
#define COPY_MAX (8u << 20)

static struct cow_vfile *vfile_from(const struct fuse_file_info *fi)
{
	return ((struct fs_held *)(uintptr_t)fi->fh)->vfile;
}

static void snapfile_free(const struct fuse_file_info *fi)
{
	fs_snapfile_free((struct fs_held *)(uintptr_t)fi->fh);
}

static bool wants_write(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

/* What the caller's flags mean for the shared descriptor. */
static unsigned open_how(int flags)
{
	if (!wants_write(flags))
		return 0;
	return FS_OPEN_WRITE | (flags & O_APPEND ? FS_OPEN_APPEND : 0);
}

/* ---- open, release ---- */

static int open_live(struct fs *fs, struct fs_node *node, struct fuse_file_info *fi)
{
	struct fs_file *file;
	int r = fs_file_open(fs, node, open_how(fi->flags), &file);

	if (r == 0)
		fi->fh = (uintptr_t)file;
	return r;
}

static int open_snap(struct fs *fs, struct fs_node *node, struct fuse_file_info *fi)
{
	struct cow_vfile *vf;
	struct fs_held *h;
	int r;

	if (wants_write(fi->flags))
		return -EROFS;
	r = cow_vfile_open(node->vnode, &vf);
	if (r < 0)
		return r;
	h = fs_snapfile_new(fs, vf);
	fi->fh = (uintptr_t)h;
	return h ? 0 : -ENOMEM;
}

static void reply_open(fuse_req_t req, struct fs_node *node, struct fuse_file_info *fi, int r)
{
	struct fs *fs = fs_of(req);

	if (r < 0) {
		/* A name that crossed a rename or was forgotten meanwhile: upon ESTALE the kernel looks it up anew, once. */
		fs_reply_status(req, r == -ENOENT ? -ESTALE : r);
		return;
	}
	fi->keep_cache = 1;
	if (fuse_reply_open(req, fi) != -ENOENT)
		return;
	if (node->kind == FS_SNAP)
		snapfile_free(fi);
	else
		fs_file_put(fs, fs_file_from(fi));
}

static int run_open(struct fs_change *c)
{
	int r = fs_file_open(c->fs, c->node, open_how(c->fi.flags) | FS_OPEN_IN_GATE, &c->file);

	if (r == 0)
		c->fi.fh = (uintptr_t)c->file;
	return r;
}

static void answer_open(struct fs_change *c, int r)
{
	reply_open(c->req, c->node, &c->fi, r);
}

/* Opening is no change, but for what open_unreadable in handles.c does. */
static const struct fs_change_kind kind_open = { .run = run_open, .answer = answer_open };

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct fs_node *node = fs_node_of(fs, ino);
	int r = node->kind == FS_SNAP ? open_snap(fs, node, fi) : open_live(fs, node, fi);

	if (r == -EAGAIN && node->kind == FS_LIVE) {
		struct fs_change c = FS_CHANGE(&kind_open, req, node);

		c.fi = *fi;
		fs_change_submit(&c);
	} else {
		reply_open(req, node, fi, r);
	}
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);

	if (fs_node_of(fs, ino)->kind == FS_SNAP)
		snapfile_free(fi);
	else
		fs_file_put(fs, fs_file_from(fi));
	fs_reply_status(req, 0);
}

/* ---- reading ---- */

/* From the page cache below into the answer by way of a pipe: a quarter less processor time than through memory. */
static void read_spliced(fuse_req_t req, struct fs_file *file, size_t size, off_t off)
{
	struct fuse_bufvec bv = FUSE_BUFVEC_INIT(size);

	bv.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	bv.buf[0].fd = fs_file_fd(file);
	bv.buf[0].pos = off;
	fuse_reply_data(req, &bv, 0);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	bool snap = fs_node_of(fs_of(req), ino)->kind == FS_SNAP;
	char *buf;
	ssize_t n;

	if (!snap && size >= SPLICE_MIN) {
		read_spliced(req, fs_file_from(fi), size, off);
		return;
	}
	buf = fs_scratch(size);
	if (!buf) {
		fs_reply_status(req, -ENOMEM);
		return;
	}
	if (snap) {
		n = cow_vfile_read(vfile_from(fi), buf, size, off);
	} else {
		n = pread(fs_file_fd(fs_file_from(fi)), buf, size, off);
		if (n < 0)
			n = -errno;
	}
	if (n < 0)
		fs_reply_status(req, (int)n);
	else
		fuse_reply_buf(req, buf, (size_t)n);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	off_t r;

	if (whence != SEEK_DATA && whence != SEEK_HOLE) {
		r = -EINVAL;
	} else if (fs_node_of(fs_of(req), ino)->kind == FS_SNAP) {
		r = cow_vfile_seek(vfile_from(fi), off, whence);
	} else {
		/* Moves the shared descriptor's offset, which nobody uses. */
		r = lseek(fs_file_fd(fs_file_from(fi)), off, whence);
		if (r < 0)
			r = -errno;
	}
	if (r < 0)
		fs_reply_status(req, (int)r);
	else
		fuse_reply_lseek(req, r);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fs_file *file = fs_file_from(fi);
	int fd, r = 0;

	if (fs_node_of(fs_of(req), ino)->kind == FS_LIVE) {
		fd = fs_file_wfd(file) >= 0 ? fs_file_wfd(file) : fs_file_fd(file);
		if ((datasync ? fdatasync(fd) : fsync(fd)) < 0)
			r = -errno;
	}
	fs_reply_status(req, r);
}

/* ---- changing content ---- */

/* Set-gid without group execution is cleared for those outside of the file's group alone (setattr_should_drop_sgid in
 * the kernel's fs/attr.c): be in that group below when the caller is. */
static struct fs_creds group_creds(const struct fs_change *c)
{
	struct fuse_ctx as = c->ctx;
	struct stat st;

	if (fs_locate_stat(c->fs, c->node, &st) < 0 || !(st.st_mode & S_ISGID) ||
	    (st.st_mode & S_IXGRP) || !fs_change_in_group(c, st.st_gid))
		return fs_creds_begin(&c->ctx, 0);
	as.gid = st.st_gid;
	return fs_creds_begin(&as, FS_CREDS_GROUP);
}

/* Changing content clears set-id bits unless the caller may keep them; only worth system calls where there are any. */
struct fs_creds fs_content_creds(const struct fs_change *c)
{
	if (!atomic_load_explicit(&c->node->privileged, memory_order_relaxed))
		return fs_creds_begin(&c->ctx, 0);
	return c->may_keep_id ? fs_creds_begin(&c->ctx, FS_CREDS_KEEP_ID) : group_creds(c);
}

void fs_recheck_privileged(const struct fs_change *c)
{
	struct fs_node *node = c->node;

	if (c->may_keep_id)
		return;
	/* Attributes only (offset -1): takes no lock in the kernel that a request could hold, so that a handler may
	 * send it (fs/fuse/inode.c, fuse_reverse_inval_inode). */
	if (atomic_exchange_explicit(&node->privileged, false, memory_order_relaxed))
		fuse_lowlevel_notify_inval_inode(c->fs->se, fs_nodes_id(node), -1, 0);
}

static void answer_count(struct fs_change *c, int r)
{
	if (r < 0)
		fs_reply_status(c->req, r);
	else
		fuse_reply_write(c->req, c->count);
}

static void answer_status(struct fs_change *c, int r)
{
	fs_reply_status(c->req, r);
}

static int run_write(struct fs_change *c)
{
	CLEANUP(fs_creds_end) struct fs_creds creds = fs_content_creds(c);
	struct cow_inode *ci;
	ssize_t n;
	int r;

	(void)creds;
	r = fs_cow_of(c->fs, c->node, &ci);
	if (r < 0)
		return r;
	n = cow_write(c->fs->store, ci, fs_file_wfd(c->file), c->data, c->len, c->off);
	if (n < 0)
		return (int)n;
	c->count = (size_t)n;
	fs_recheck_privileged(c);
	return 0;
}

static const struct fs_change_kind kind_write = { .run = run_write, .answer = answer_count };

/* FUSE_WRITE_KILL_SUIDGID of the protocol. */
static bool kills_suidgid(const struct fuse_file_info *fi)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
	return fi->kill_suidgid;
#else
	return fs_rawio_kill_suidgid();
#endif
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	      struct fuse_file_info *fi)
{
	struct fs_change c = FS_CHANGE(&kind_write, req, fs_node_of(fs_of(req), ino));

	c.file = fs_file_from(fi);
	c.data = buf;
	c.len = size;
	c.off = off;
	if (c.fs->killpriv_v2)
		c.may_keep_id = !kills_suidgid(fi);
	fs_change_submit(&c);
}

static int run_fallocate(struct fs_change *c)
{
	CLEANUP(fs_creds_end) struct fs_creds creds = fs_content_creds(c);
	struct cow_inode *ci;
	int r;

	(void)creds;
	r = fs_cow_of(c->fs, c->node, &ci);
	if (r == 0)
		r = cow_fallocate(c->fs->store, ci, fs_file_wfd(c->file), c->flags, c->off,
				  c->off2);
	if (r == 0)
		fs_recheck_privileged(c);
	return r;
}

static const struct fs_change_kind kind_fallocate = { .run = run_fallocate,
						      .answer = answer_status };

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		  struct fuse_file_info *fi)
{
	struct fs_change c = FS_CHANGE(&kind_fallocate, req, fs_node_of(fs_of(req), ino));

	c.file = fs_file_from(fi);
	c.flags = mode;
	c.off = off;
	c.off2 = len;
	fs_change_submit(&c);
}

static int run_copy(struct fs_change *c)
{
	CLEANUP(fs_creds_end) struct fs_creds creds = fs_content_creds(c);
	struct cow_inode *ci;
	ssize_t n;
	int r;

	(void)creds;
	r = fs_cow_of(c->fs, c->node, &ci);
	if (r < 0)
		return r;
	n = cow_copy_range(c->fs->store, fs_file_fd(c->file2), c->off2, ci, fs_file_wfd(c->file),
			   c->off, c->len);
	if (n < 0)
		return (int)n;
	c->count = (size_t)n;
	fs_recheck_privileged(c);
	return 0;
}

static const struct fs_change_kind kind_copy = { .run = run_copy, .answer = answer_count };

void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct fs_change c = FS_CHANGE(&kind_copy, req, fs_node_of(fs_of(req), ino_out));

	c.other = fs_node_of(c.fs, ino_in);
	if (c.other->kind != FS_LIVE) {
		fs_reply_status(req, -EXDEV); /* the kernel copies by itself then */
		return;
	}
	c.file = fs_file_from(fi_out);
	c.file2 = fs_file_from(fi_in);
	c.off = off_out;
	c.off2 = off_in;
	c.len = len < COPY_MAX ? len : COPY_MAX;
	fs_change_submit(&c);
}

/* ---- ioctl: the flags that chattr(1) and lsattr(1) know ---- */

static int opened_fd(struct fs *fs, struct fs_node *node, const struct fuse_file_info *fi)
{
	if (node->type == S_IFDIR >> 12)
		return fs_dir_fd(fs, node, fs_dir_from(fi));
	return fs_file_fd(fs_file_from(fi));
}

/* Sizes are those of the calls' real arguments: an int, although the numbers say long (linux/fs.h). */
static size_t ioctl_arg_size(unsigned cmd)
{
	switch (cmd) {
	case FS_IOC_GETFLAGS:
	case FS_IOC_SETFLAGS:
		return sizeof(int);
	case FS_IOC_FSGETXATTR:
	case FS_IOC_FSSETXATTR:
		return sizeof(struct fsxattr);
	default:
		return 0;
	}
}

static int run_setflags(struct fs_change *c)
{
	struct fsxattr arg = { 0 }; /* the larger of the two */
	struct cow_inode *ci;
	int fd, r;

	memcpy(&arg, c->data, c->len);
	r = fs_cow_of(c->fs, c->node, &ci);
	if (r < 0)
		return r;
	fd = opened_fd(c->fs, c->node, &c->fi);
	return fd < 0 ? fd : cow_ioctl(c->fs->store, ci, fd, c->cmd, &arg);
}

/* The change time moved, which the kernel does not expect of an ioctl. Attributes only, so that a handler may say it
 * (as in fs_recheck_privileged), and before the answer, so that the caller sees the new one. */
static void answer_ioctl(struct fs_change *c, int r)
{
	if (r < 0) {
		fs_reply_status(c->req, r);
		return;
	}
	fuse_lowlevel_notify_inval_inode(c->fs->se, fs_nodes_id(c->node), -1, 0);
	fuse_reply_ioctl(c->req, 0, NULL, 0);
}

static const struct fs_change_kind kind_setflags = { .run = run_setflags, .answer = answer_ioctl };

static void getflags(fuse_req_t req, struct fs_node *node, unsigned cmd,
		     const struct fuse_file_info *fi)
{
	size_t size = ioctl_arg_size(cmd);
	struct fsxattr arg = { 0 };
	int fd, r;

	if (node->kind != FS_LIVE) {
		fs_reply_status(req, -ENOTTY);
		return;
	}
	fd = opened_fd(fs_of(req), node, fi);
	r = fd < 0 ? fd : ioctl(fd, cmd, &arg);
	if (r < 0)
		fs_reply_status(req, fd < 0 ? fd : -errno);
	else
		fuse_reply_ioctl(req, 0, &arg, size);
}

void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg,
	      struct fuse_file_info *fi, unsigned flags, const void *in_buf, size_t in_bufsz,
	      size_t out_bufsz)
{
	struct fs_change c = FS_CHANGE(&kind_setflags, req, fs_node_of(fs_of(req), ino));
	size_t size = ioctl_arg_size(cmd);

	if (cmd == FS_IOC_GETFLAGS || cmd == FS_IOC_FSGETXATTR) {
		if (out_bufsz < size)
			fs_reply_status(req, -EINVAL);
		else
			getflags(req, c.node, cmd, fi);
		return;
	}
	if (!size || in_bufsz < size) {
		fs_reply_status(req, size ? -EINVAL : -ENOTTY);
		return;
	}
	if (c.node->kind != FS_LIVE) {
		fs_reply_status(req, -EROFS);
		return;
	}
	c.cmd = cmd;
	c.data = in_buf;
	c.len = size;
	c.fi = *fi;
	fs_change_submit(&c);
}
