/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/ops.c - the table of operations, what we ask of the kernel, and the world's small helpers. */
#include "fs/ops.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cow/view.h"
#include "fs/rawio.h"

#define MAX_WRITE (1024 * 1024)
#define BACKGROUND 64

/* ---- fs.h ---- */

bool fs_reserved_name(const struct fs *fs, const struct fs_node *parent, const char *name)
{
	if (!parent->root || !fs->live || name[0] != '.')
		return false;
	return strcmp(name, COW_STORE_NAME) == 0 ||
	       (fs->shown != FS_SNAPSHOTS_OFF && strcmp(name, FS_SNAPDIR_NAME) == 0);
}

int fs_cow_of(struct fs *fs, struct fs_node *node, struct cow_inode **ret)
{
	struct cow_inode *fresh;

	*ret = node->cow;
	if (*ret || node->space != fs->below_dev)
		return 0;
	fresh = cow_inode_get(fs->store, node->ino);
	if (!fresh)
		return -ENOMEM;
	*ret = fs_nodes_set_cow(fs->nodes, node, fresh);
	if (*ret != fresh)
		cow_inode_put(fs->store, fresh);
	return 0;
}

void fs_release_node(void *userdata, struct fs_node *node)
{
	struct fs *fs = userdata;

	if (node->kind == FS_SNAP)
		cow_vnode_put(node->vnode);
	if (node->kind != FS_LIVE)
		return;
	fs_dirfds_drop(fs->dirfds, (uintptr_t)node);
	cow_inode_put(fs->store, node->cow);
	if (node->orphan_fd >= 0) {
		close(node->orphan_fd);
		atomic_fetch_sub(&fs->orphans, 1);
	}
}

/* ---- what we ask of the kernel ---- */

static void want(struct fuse_conn_info *conn, uint64_t cap, bool on)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	if (on)
		fuse_set_feature_flag(conn, cap);
	else
		fuse_unset_feature_flag(conn, cap);
#else
	if (on)
		conn->want |= conn->capable & (unsigned)cap;
	else
		conn->want &= ~(unsigned)cap;
#endif
}

#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2
static bool has(struct fuse_conn_info *conn, uint64_t cap)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	return fuse_get_feature_flag(conn, cap);
#else
	return conn->want & cap;
#endif
}
#endif

/* Write-back caching would break I-1 and N-3 (a write that returned must be in the daemon: H-6), the old HANDLE_KILLPRIV is not
 * what we do, ATOMIC_O_TRUNC would make an open a change. AUTO_INVAL_DATA would throw a file's pages away after
 * each of its own writes: nobody else changes files below. */
static void ask(struct fs *fs, struct fuse_conn_info *conn)
{
	want(conn, FUSE_CAP_WRITEBACK_CACHE, false);
	want(conn, FUSE_CAP_HANDLE_KILLPRIV, false);
	want(conn, FUSE_CAP_ATOMIC_O_TRUNC, false);
	want(conn, FUSE_CAP_AUTO_INVAL_DATA, false);
	want(conn, FUSE_CAP_EXPORT_SUPPORT, false);
	want(conn, FUSE_CAP_SPLICE_READ, false); /* we take writes from memory */
	want(conn, FUSE_CAP_SPLICE_MOVE, false); /* measured: dearer than copying */
	want(conn, FUSE_CAP_SPLICE_WRITE, true);
	want(conn, FUSE_CAP_EXPLICIT_INVAL_DATA, true);
	want(conn, FUSE_CAP_POSIX_ACL, true);
	want(conn, FUSE_CAP_DONT_MASK, true);
	want(conn, FUSE_CAP_PARALLEL_DIROPS, true);
	want(conn, FUSE_CAP_READDIRPLUS, true);
	want(conn, FUSE_CAP_READDIRPLUS_AUTO, false); /* see below */
	want(conn, FUSE_CAP_CACHE_SYMLINKS, true);
	want(conn, FUSE_CAP_ASYNC_READ, true);
	want(conn, FUSE_CAP_ASYNC_DIO, true);
	want(conn, FUSE_CAP_IOCTL_DIR, true);
#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2
	/* Only where we get to see what a write says about them. */
	want(conn, FUSE_CAP_HANDLE_KILLPRIV_V2,
	     fs->live && (FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18) || fs->raw));
	fs->killpriv_v2 = has(conn, FUSE_CAP_HANDLE_KILLPRIV_V2);
#endif
#ifdef FUSE_CAP_OVER_IO_URING
	want(conn, FUSE_CAP_OVER_IO_URING, true);
#endif
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fs *fs = userdata;

	fs->proto_minor = conn->proto_minor;
	conn->max_write = MAX_WRITE;
	conn->max_background = BACKGROUND;
	conn->congestion_threshold = BACKGROUND * 3 / 4;
	conn->time_gran = 1;
	ask(fs, conn);
}

/* Left out on purpose: flush (nothing to do, ENOSYS once), getlk, setlk and flock (the kernel locks locally, which
 * is right for one machine and blocks nobody here), access (default_permissions), write_buf, poll. */
const struct fuse_lowlevel_ops fs_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.create = op_create,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.release = op_release,
	.fsync = op_fsync,
	.fallocate = op_fallocate,
	.copy_file_range = op_copy_file_range,
	.lseek = op_lseek,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.statfs = op_statfs,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.ioctl = op_ioctl,
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	.tmpfile = op_tmpfile,
#endif
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
	.statx = op_statx,
#endif
};
