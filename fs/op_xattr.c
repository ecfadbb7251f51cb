/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/op_xattr.c - handlers of extended attributes, access control lists among them. */
#include <errno.h>
#include <linux/limits.h>
#include <linux/xattr.h>
#include <string.h>
#include <sys/xattr.h>

#include "cow/base/cleanup.h"
#include "cow/change.h"
#include "cow/view.h"
#include "fs/creds.h"
#include "fs/locate.h"
#include "fs/ops.h"
#include "fs/reply.h"

/* The kernel asks for file capabilities before the first write and every truncation of a file whose attributes it was
 * told anew (fs/inode.c, dentry_needs_remove_privs), so the usual answer, none, is remembered. */
static bool is_caps(const char *name)
{
	return strcmp(name, XATTR_NAME_CAPS) == 0;
}

static bool known_capless(struct fs *fs, struct fs_node *node)
{
	return atomic_load_explicit(&node->no_caps_at, memory_order_relaxed) ==
	       (uint32_t)(atomic_load(&fs->caps_changes) + 1);
}

static ssize_t get_live(struct fs *fs, struct fs_node *node, const char *name, void *buf,
			size_t size)
{
	CLEANUP(fs_fd_put) struct fs_fd f = FS_FD_NONE;
	uint32_t changes = atomic_load(&fs->caps_changes); /* before we look: see run_setxattr */
	ssize_t n;
	int r;

	if (is_caps(name) && known_capless(fs, node))
		return -ENODATA;
	r = fs_locate(fs, node, &f);
	if (r < 0)
		return r;
	n = getxattr(fs_proc_path(f.fd).text, name, buf, size);
	if (n >= 0)
		return n;
	if (errno == ENODATA && is_caps(name))
		atomic_store_explicit(&node->no_caps_at, changes + 1, memory_order_relaxed);
	return -errno;
}

static ssize_t list_live(struct fs *fs, struct fs_node *node, char *buf, size_t size)
{
	CLEANUP(fs_fd_put) struct fs_fd f = FS_FD_NONE;
	ssize_t n;
	int r = fs_locate(fs, node, &f);

	if (r < 0)
		return r;
	n = listxattr(fs_proc_path(f.fd).text, buf, size);
	return n < 0 ? -errno : n;
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fs *fs = fs_of(req);
	struct fs_node *node = fs_node_of(fs, ino);
	void *buf = size ? fs_scratch(size) : NULL;
	ssize_t n;

	if (size && !buf)
		n = -ENOMEM;
	else if (node->kind == FS_SNAPDIR)
		n = -ENODATA;
	else if (node->kind == FS_SNAP)
		n = cow_vnode_getxattr(node->vnode, name, buf, size);
	else
		n = get_live(fs, node, name, buf, size);
	fs_reply_xattr(req, n, buf, size);
}

/* Names that only root may see (xattr(7)); the file system below leaves them out by our privilege, not the caller's.
 * Returns the length that is left. */
static size_t drop_trusted(char *list, size_t len)
{
	char *to = list;

	for (char *from = list; from < list + len;) {
		size_t n = strlen(from) + 1;

		if (strncmp(from, XATTR_TRUSTED_PREFIX, XATTR_TRUSTED_PREFIX_LEN) != 0) {
			memmove(to, from, n);
			to += n;
		}
		from += n;
	}
	return (size_t)(to - list);
}

/* Read in full even when the length alone was asked for: what is left out does not count. */
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct fs *fs = fs_of(req);
	struct fs_node *node = fs_node_of(fs, ino);
	char *buf = fs_scratch(XATTR_LIST_MAX);
	ssize_t n;

	if (!buf)
		n = -ENOMEM;
	else if (node->kind == FS_SNAPDIR)
		n = 0;
	else if (node->kind == FS_SNAP)
		n = cow_vnode_listxattr(node->vnode, buf, XATTR_LIST_MAX);
	else
		n = list_live(fs, node, buf, XATTR_LIST_MAX);
	if (n > 0 && fuse_req_ctx(req)->uid != 0)
		n = (ssize_t)drop_trusted(buf, (size_t)n);
	if (size && n > (ssize_t)size)
		n = -ERANGE;
	fs_reply_xattr(req, n, buf, size);
}

/* A list of access rights may change the mode below, and then set-gid is for the file's group alone. */
static bool may_keep_mode(const struct fs_change *c)
{
	struct stat st;

	if (strcmp(c->name, "system.posix_acl_access") != 0)
		return true;
	return fs_locate_stat(c->fs, c->node, &st) == 0 &&
	       (!(st.st_mode & S_ISGID) || fs_change_in_group(c, st.st_gid));
}

static int run_setxattr(struct fs_change *c)
{
	CLEANUP(fs_creds_end)
	struct fs_creds creds = fs_creds_begin(&c->ctx, may_keep_mode(c) ? FS_CREDS_KEEP_ID : 0);
	CLEANUP(fs_fd_put) struct fs_fd f = FS_FD_NONE;
	struct cow_inode *ci;
	int r;

	(void)creds;
	r = fs_cow_of(c->fs, c->node, &ci);
	if (r == 0)
		r = fs_locate(c->fs, c->node, &f);
	if (r < 0)
		return r;
	if (!c->data)
		return cow_removexattr(c->fs->store, ci, f.fd, c->name);
	r = cow_setxattr(c->fs->store, ci, f.fd, c->name, c->data, c->len, c->flags);
	/* After the change and before the answer: who looked earlier remembers the count as it was before. */
	if (is_caps(c->name))
		atomic_fetch_add(&c->fs->caps_changes, 1);
	return r;
}

static void answer_setxattr(struct fs_change *c, int r)
{
	fs_reply_status(c->req, r);
}

static const struct fs_change_kind kind_setxattr = { .run = run_setxattr,
						     .answer = answer_setxattr };

static void change_xattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
			 size_t size, int flags)
{
	struct fs_change c = FS_CHANGE(&kind_setxattr, req, fs_node_of(fs_of(req), ino));

	c.name = name;
	c.data = value;
	c.len = size;
	c.flags = flags;
	if (c.node->kind != FS_LIVE)
		fs_reply_status(req, -EROFS);
	else
		fs_change_submit(&c);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
		 int flags)
{
	change_xattr(req, ino, name, value ? value : "", size, flags);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	change_xattr(req, ino, name, NULL, 0, 0);
}
