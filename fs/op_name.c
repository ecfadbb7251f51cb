/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/op_name.c - handlers that find, make, move and remove names. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/change.h"
#include "fs/creds.h"
#include "fs/locate.h"
#include "fs/loss.h"
#include "fs/ops.h"
#include "fs/reply.h"
#include "fs/snap.h"

/* ---- looking up ---- */

static void fill_entry(struct fs *fs, struct fs_node *node, struct stat *st,
		       struct fuse_entry_param *e)
{
	fs_correct_stat(fs, node, st);
	*e = (struct fuse_entry_param){
		.ino = fs_nodes_id(node),
		.attr = *st,
		.attr_timeout = FS_LONG_TIMEOUT,
		.entry_timeout = FS_LONG_TIMEOUT,
	};
}

static int lookup_live(struct fs *fs, struct fs_node *parent, const char *name,
		       struct fuse_entry_param *e)
{
	CLEANUP(fs_fd_put) struct fs_fd dir = FS_FD_NONE;
	struct fs_node *node;
	struct stat st;
	int r;

	r = fs_locate_dir(fs, parent, &dir);
	if (r < 0)
		return r;
	if (fstatat(dir.fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	node = fs_nodes_enter_live(fs->nodes, st.st_dev, st.st_ino, st.st_mode, parent, name);
	if (!node)
		return -ENOMEM;
	fill_entry(fs, node, &st, e);
	return 0;
}

int fs_entry_lookup(struct fs *fs, struct fs_node *parent, const char *name,
		    struct fuse_entry_param *e)
{
	int r;

	if (parent->kind != FS_LIVE)
		return fs_snap_lookup(fs, parent, name, e);
	if (fs_reserved_name(fs, parent, name))
		return strcmp(name, FS_SNAPDIR_NAME) == 0 ? fs_snap_enter_dir(fs, e) : -ENOENT;
	r = lookup_live(fs, parent, name, e);
	if (r == -ENOENT) {
		/* Names appear through us alone, so that the kernel may remember that there is none. */
		*e = (struct fuse_entry_param){ .entry_timeout = FS_LONG_TIMEOUT };
		r = 0;
	}
	return r;
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e;
	int r = fs_entry_lookup(fs, fs_node_of(fs, parent), name, &e);

	fs_reply_entry(req, r, &e);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	struct fs *fs = fs_of(req);

	fs_nodes_forget(fs->nodes, fs_node_of(fs, ino), nlookup);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fs *fs = fs_of(req);

	for (size_t i = 0; i < count; i++)
		fs_nodes_forget(fs->nodes, fs_node_of(fs, forgets[i].ino), forgets[i].nlookup);
	fuse_reply_none(req);
}

/* ---- what all changes of names share ---- */

struct place_fd {
	struct fs_fd fd;
	struct cow_dir dir;
};
#define PLACE_FD_NONE                                                                              \
	{                                                                                          \
		.fd = FS_FD_NONE                                                                   \
	}

static void place_fd_put(struct place_fd *p)
{
	fs_fd_put(&p->fd);
}

static int place_fd_get(struct fs *fs, struct fs_node *node, struct place_fd *ret)
{
	int r = fs_locate_dir(fs, node, &ret->fd);

	if (r < 0)
		return r;
	ret->dir.fd = ret->fd.fd;
	return fs_cow_of(fs, node, &ret->dir.inode);
}

/* May a name be made, removed or replaced here? Snapshots are read-only, two names in the root are ours. */
static int may_change_name(struct fs *fs, struct fs_node *parent, const char *name)
{
	if (parent->kind != FS_LIVE)
		return -EROFS;
	return fs_reserved_name(fs, parent, name) ? -EPERM : 0;
}

static int publish_made(struct fs_change *c, int dirfd)
{
	struct fs_node *node;
	struct stat st;

	if (fstatat(dirfd, c->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	node = fs_nodes_enter_live(c->fs->nodes, st.st_dev, st.st_ino, st.st_mode, c->node,
				   c->name);
	if (!node)
		return -ENOMEM;
	fill_entry(c->fs, node, &st, &c->entry);
	return 0;
}

static void answer_entry(struct fs_change *c, int r)
{
	fs_reply_entry(c->req, r, &c->entry);
}

static void answer_status(struct fs_change *c, int r)
{
	fs_reply_status(c->req, r);
}

/* ---- mknod, mkdir, symlink ---- */

static int make(struct fs_change *c, struct cow_dir dir)
{
	CLEANUP(fs_creds_end)
	struct fs_creds creds = fs_creds_begin(&c->ctx, FS_CREDS_OWN | fs_creds_keep_mode(c->mode));

	(void)creds;
	switch (c->mode & S_IFMT) {
	case S_IFDIR:
		return cow_mkdir(c->fs->store, dir, c->name, c->mode & 07777);
	case S_IFLNK:
		return cow_symlink(c->fs->store, dir, c->name, c->name2);
	default:
		return cow_mknod(c->fs->store, dir, c->name, c->mode, c->rdev);
	}
}

static int run_make(struct fs_change *c)
{
	CLEANUP(place_fd_put) struct place_fd at = PLACE_FD_NONE;
	int r;

	r = place_fd_get(c->fs, c->node, &at);
	if (r < 0)
		return r;
	r = make(c, at.dir);
	return r < 0 ? r : publish_made(c, at.dir.fd);
}

static const struct fs_change_kind kind_make = { .run = run_make, .answer = answer_entry };

static void submit_make(struct fs_change *c)
{
	int r = may_change_name(c->fs, c->node, c->name);

	if (r < 0)
		answer_entry(c, r);
	else
		fs_change_submit(c);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct fs_change c = FS_CHANGE(&kind_make, req, fs_node_of(fs_of(req), parent));

	c.name = name;
	c.mode = mode;
	c.rdev = rdev;
	submit_make(&c);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fs_change c = FS_CHANGE(&kind_make, req, fs_node_of(fs_of(req), parent));

	c.name = name;
	c.mode = (mode & 07777) | S_IFDIR;
	submit_make(&c);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct fs_change c = FS_CHANGE(&kind_make, req, fs_node_of(fs_of(req), parent));

	c.name = name;
	c.name2 = target;
	c.mode = S_IFLNK;
	submit_make(&c);
}

/* ---- create, tmpfile ---- */

/* A new file's descriptor, which all who open it share: the caller's other flags are not for it (handles.h). */
static int create_below(struct fs_change *c, struct cow_dir dir)
{
	CLEANUP(fs_creds_end)
	struct fs_creds creds = fs_creds_begin(&c->ctx, FS_CREDS_OWN | fs_creds_keep_mode(c->mode));

	(void)creds;
	if (!c->name)
		return cow_tmpfile(c->fs->store, dir, O_RDWR | O_CLOEXEC | (c->fi.flags & O_EXCL),
				   c->mode & 07777);
	return cow_create(c->fs->store, dir, c->name, O_RDWR | O_NOFOLLOW | O_CLOEXEC,
			  c->mode & 07777);
}

/* An unnamed file is closed before the kernel forgets it: its number must not come again as long. */
static void keep_unnamed(struct fs *fs, struct fs_node *node, int fd)
{
	CLEANUP(close_p) int keep = -1;

	if (atomic_fetch_add(&fs->orphans, 1) < fs->orphans_max)
		keep = open(fs_proc_path(fd).text, O_PATH | O_CLOEXEC);
	if (keep >= 0 && fs_nodes_set_orphan(fs->nodes, node, keep)) {
		TAKE_FD(keep);
		return;
	}
	atomic_fetch_sub(&fs->orphans, 1);
}

static int run_create(struct fs_change *c)
{
	CLEANUP(place_fd_put) struct place_fd at = PLACE_FD_NONE;
	CLEANUP(close_p) int fd = -1;
	struct fs_node *node;
	struct stat st;
	int r;

	r = fs_files_room(c->fs);
	if (r == 0)
		r = place_fd_get(c->fs, c->node, &at);
	if (r < 0)
		return r;
	fd = create_below(c, at.dir);
	if (fd < 0)
		return fd == -EMFILE ? -ENFILE : fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	node = fs_nodes_enter_live(c->fs->nodes, st.st_dev, st.st_ino, st.st_mode,
				   c->name ? c->node : NULL, c->name);
	if (!node)
		return -ENOMEM;
	if (!c->name)
		keep_unnamed(c->fs, node, fd);
	r = fs_file_adopt(c->fs, node, TAKE_FD(fd), &c->file);
	if (r < 0) {
		fs_nodes_forget(c->fs->nodes, node, 1);
		return r;
	}
	fill_entry(c->fs, node, &st, &c->entry);
	return 0;
}

static void answer_create(struct fs_change *c, int r)
{
	if (r < 0) {
		fs_reply_status(c->req, r);
		return;
	}
	c->fi.fh = (uintptr_t)c->file;
	c->fi.keep_cache = 1;
	if (fuse_reply_create(c->req, &c->entry, &c->fi) == -ENOENT) {
		fs_file_put(c->fs, c->file);
		fs_nodes_forget(c->fs->nodes, fs_node_of(c->fs, c->entry.ino), 1);
	}
}

static const struct fs_change_kind kind_create = { .run = run_create, .answer = answer_create };

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi)
{
	struct fs_change c = FS_CHANGE(&kind_create, req, fs_node_of(fs_of(req), parent));
	bool tmpfile = (fi->flags & O_TMPFILE) == O_TMPFILE; /* see rawio.h */
	int r;

	c.name = tmpfile ? NULL : name;
	c.mode = mode;
	c.fi = *fi;
	if (tmpfile)
		r = c.node->kind == FS_LIVE ? 0 : -EROFS;
	else
		r = may_change_name(c.fs, c.node, name);
	if (r < 0)
		fs_reply_status(req, r);
	else
		fs_change_submit(&c);
}

void op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
	fi->flags |= O_TMPFILE;
	op_create(req, parent, "", mode, fi);
}

/* ---- link ---- */

static int run_link(struct fs_change *c)
{
	CLEANUP(place_fd_put) struct place_fd at = PLACE_FD_NONE;
	CLEANUP(fs_fd_put) struct fs_fd f = FS_FD_NONE;
	struct cow_inode *ci;
	struct fs_node *node;
	struct stat st;
	int r;

	r = fs_cow_of(c->fs, c->node, &ci);
	if (r == 0)
		r = fs_locate(c->fs, c->node, &f);
	if (r == 0)
		r = place_fd_get(c->fs, c->other, &at);
	if (r == 0)
		r = cow_link(c->fs->store, ci, f.fd, at.dir, c->name);
	if (r < 0)
		return r;
	if (fstatat(f.fd, "", &st, AT_EMPTY_PATH) < 0)
		return -errno;
	node = fs_nodes_enter_live(c->fs->nodes, st.st_dev, st.st_ino, st.st_mode, c->other,
				   c->name);
	if (!node)
		return -ENOMEM;
	fill_entry(c->fs, node, &st, &c->entry);
	return 0;
}

static const struct fs_change_kind kind_link = { .run = run_link, .answer = answer_entry };

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct fs_change c = FS_CHANGE(&kind_link, req, fs_node_of(fs_of(req), ino));
	int r;

	c.other = fs_node_of(c.fs, newparent);
	c.name = newname;
	r = may_change_name(c.fs, c.other, newname); /* first: in a snapshot it is EROFS (C-14) */
	if (r == 0 && c.node->kind != FS_LIVE)
		r = -EXDEV;
	if (r < 0)
		fs_reply_status(req, r);
	else
		fs_change_submit(&c);
}

/* ---- unlink, rmdir, rename ---- */

static int run_remove(struct fs_change *c)
{
	CLEANUP(place_fd_put) struct place_fd at = PLACE_FD_NONE;
	struct fs_loss victim = FS_LOSS_NONE;
	struct fs *fs = c->fs;
	int r;

	r = place_fd_get(fs, c->node, &at);
	if (r < 0)
		return r;
	r = fs_loss_begin(fs, c->node, at.dir.fd, c->name, false, &victim);
	if (r < 0)
		return r;
	fs_tree_read(fs);
	if (c->mode == S_IFDIR)
		r = cow_rmdir(fs->store, at.dir, c->name);
	else
		r = cow_unlink(fs->store, at.dir, c->name);
	if (r == 0)
		fs_loss_publish(fs, &victim, c->node, c->name);
	fs_tree_done(fs);
	fs_loss_put(fs, &victim);
	return r;
}

static const struct fs_change_kind kind_remove = { .run = run_remove, .answer = answer_status };

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t type)
{
	struct fs_change c = FS_CHANGE(&kind_remove, req, fs_node_of(fs_of(req), parent));
	int r = may_change_name(c.fs, c.node, name);

	c.name = name;
	c.mode = type;
	if (r < 0)
		fs_reply_status(req, r);
	else
		fs_change_submit(&c);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, 0);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, S_IFDIR);
}

/* The node's new name in place of the old one; `place` was prepared before the change. */
static void move_publish(struct fs *fs, struct fs_node *node, struct fs_node *olddir,
			 const char *oldname, struct fs_node *newdir, struct fs_place **place)
{
	if (!node)
		return;
	fs_nodes_install_place(fs->nodes, node, newdir, TAKE(*place));
	fs_nodes_drop_place(fs->nodes, node, olddir, oldname);
}

static int apply_rename(struct fs_change *c, struct place_fd *from, struct place_fd *to,
			struct fs_loss *moved, struct fs_loss *victim)
{
	CLEANUP(free_p) struct fs_place *there = NULL;
	CLEANUP(free_p) struct fs_place *back = NULL;
	struct fs *fs = c->fs;
	int r;

	r = fs_nodes_prepare_place(c->name2, &there);
	if (r == 0)
		r = fs_nodes_prepare_place(c->name, &back);
	if (r < 0)
		return r;
	fs_tree_read(fs);
	r = cow_rename(fs->store, from->dir, c->name, to->dir, c->name2, (unsigned)c->flags);
	if (r == 0) {
		if (c->flags & RENAME_EXCHANGE)
			move_publish(fs, victim->node, c->other, c->name2, c->node, &back);
		else
			fs_loss_publish(fs, victim, c->other, c->name2);
		move_publish(fs, moved->node, c->node, c->name, c->other, &there);
	}
	fs_tree_done(fs);
	return r;
}

static int run_rename(struct fs_change *c)
{
	CLEANUP(place_fd_put) struct place_fd from = PLACE_FD_NONE;
	CLEANUP(place_fd_put) struct place_fd to = PLACE_FD_NONE;
	struct fs_loss moved = FS_LOSS_NONE, victim = FS_LOSS_NONE;
	bool exchange = c->flags & RENAME_EXCHANGE;
	struct fs *fs = c->fs;
	int r;

	r = place_fd_get(fs, c->node, &from);
	if (r == 0)
		r = place_fd_get(fs, c->other, &to);
	if (r == 0)
		r = fs_loss_begin(fs, c->node, from.dir.fd, c->name, true, &moved);
	if (r == 0) {
		r = fs_loss_begin(fs, c->other, to.dir.fd, c->name2, exchange, &victim);
		if (r == -ENOENT && !exchange)
			r = 0;
	}
	if (r == 0)
		r = apply_rename(c, &from, &to, &moved, &victim);
	fs_loss_put(fs, &moved);
	fs_loss_put(fs, &victim);
	return r;
}

static const struct fs_change_kind kind_rename = { .run = run_rename, .answer = answer_status };

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
	       const char *newname, unsigned flags)
{
	struct fs_change c = FS_CHANGE(&kind_rename, req, fs_node_of(fs_of(req), parent));
	int r;

	c.other = fs_node_of(c.fs, newparent);
	c.name = name;
	c.name2 = newname;
	c.flags = (int)flags;
	r = flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE) ? -EINVAL : 0;
	if (r == 0)
		r = may_change_name(c.fs, c.node, name);
	if (r == 0)
		r = may_change_name(c.fs, c.other, newname);
	if (r < 0)
		fs_reply_status(req, r);
	else
		fs_change_submit(&c);
}
