/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/op_dir.c - handlers of open directories. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/epoch.h"
#include "cow/view.h"
#include "fs/locate.h"
#include "fs/ops.h"
#include "fs/reply.h"
#include "fs/snap.h"

#define DIR_BUF_SIZE (32 * 1024)
/* After .snapshots in the root; no file system has such an offset of its own. */
#define SNAPDIR_OFF INT64_C(0x7FFFFFFFFFFFFFFE)
#define DOTS_OFF 2 /* "." and ".." of listings that have none below */

/* The kernel's struct linux_dirent64 (getdents(2)). */
struct raw_dirent {
	uint64_t d_ino;
	int64_t d_off;
	uint16_t d_reclen;
	uint8_t d_type;
	char d_name[];
};

/* One entry to hand out, wherever it comes from. */
struct entry {
	const char *name;
	uint64_t ino;
	unsigned type; /* DT_* */
	off_t next;
};

/* ---- handles ---- */

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_dir *d = fs_dir_new(fs_of(req));

	if (!d) {
		fs_reply_status(req, -ENOMEM);
		return;
	}
	d->live = fs_node_of(fs_of(req), ino)->kind == FS_LIVE;
	fi->fh = (uintptr_t)d;
	if (fuse_reply_open(req, fi) == -ENOENT)
		fs_dir_free(d);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fs_dir_free(fs_dir_from(fi));
	fs_reply_status(req, 0);
}

static int dir_fd_locked(struct fs *fs, struct fs_node *node, struct fs_dir *d)
{
	int r;

	if (d->fd >= 0)
		return d->fd;
	r = fs_locate_open(fs, node, O_RDONLY | O_DIRECTORY);
	if (r >= 0)
		d->fd = r;
	return r;
}

static void unlock_p(pthread_mutex_t **m)
{
	pthread_mutex_unlock(*m);
}

static pthread_mutex_t *dir_hold(struct fs_dir *d)
{
	pthread_mutex_lock(&d->lock);
	return &d->lock;
}

int fs_dir_fd(struct fs *fs, struct fs_node *node, struct fs_dir *d)
{
	CLEANUP(unlock_p) pthread_mutex_t *held = dir_hold(d);

	(void)held;
	return dir_fd_locked(fs, node, d);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct fs_node *node = fs_node_of(fs, ino);
	int r = 0;

	if (node->kind == FS_LIVE) {
		r = fs_dir_fd(fs, node, fs_dir_from(fi));
		if (r >= 0)
			r = fsync(r) < 0 ? -errno : 0;
	}
	fs_reply_status(req, r);
}

/* ---- where entries come from: 1 an entry, 0 the end, or -errno ---- */

static int live_fill(struct fs *fs, struct fs_node *node, struct fs_dir *d, off_t off)
{
	long n;
	int r = dir_fd_locked(fs, node, d);

	if (r < 0)
		return r;
	if (!d->buf) {
		d->buf = malloc(DIR_BUF_SIZE);
		if (!d->buf)
			return -ENOMEM;
	}
	/* At offset 0 always seek: rewinddir(3) promises to see what is new. */
	if ((d->pos != off || off == 0) && lseek(d->fd, off, SEEK_SET) < 0)
		return -errno;
	n = syscall(SYS_getdents64, d->fd, d->buf, DIR_BUF_SIZE);
	d->buf_used = 0;
	d->buf_len = n > 0 ? (size_t)n : 0;
	d->pos = off;
	return n < 0 ? -errno : (int)d->buf_len;
}

static int live_at_end(struct fs *fs, struct fs_node *node, struct entry *e)
{
	if (!node->root || !fs->live || fs->shown != FS_SNAPSHOTS_VISIBLE)
		return 0;
	*e = (struct entry){
		.name = FS_SNAPDIR_NAME, .ino = FS_SNAPDIR_INO, .type = DT_DIR, .next = SNAPDIR_OFF
	};
	return 1;
}

static int live_next(struct fs *fs, struct fs_node *node, struct fs_dir *d, off_t off,
		     struct entry *e)
{
	for (;;) {
		struct raw_dirent *raw;

		if (off == SNAPDIR_OFF)
			return 0;
		if (off != d->pos || d->buf_used >= d->buf_len || off == 0) {
			int r = live_fill(fs, node, d, off);

			if (r < 0)
				return r;
			if (r == 0)
				return live_at_end(fs, node, e);
		}
		raw = (struct raw_dirent *)(d->buf + d->buf_used);
		d->buf_used += raw->d_reclen;
		d->pos = off = raw->d_off;
		if (fs_reserved_name(fs, node, raw->d_name))
			continue;
		*e = (struct entry){
			.name = raw->d_name, .ino = raw->d_ino, .type = raw->d_type, .next = off
		};
		return 1;
	}
}

/* "." and ".." at offsets 0 and 1 of what has none of its own. */
static int dots_next(uint64_t self, uint64_t parent, off_t off, struct entry *e)
{
	*e = (struct entry){
		.name = off ? ".." : ".",
		.ino = off ? parent : self,
		.type = DT_DIR,
		.next = off + 1,
	};
	return 1;
}

/* Offsets of the store's listing are its own affair: 0 is its beginning, which ours is at DOTS_OFF. */
static int snap_next(struct fs *fs, struct fs_node *node, struct fs_dir *d, off_t off,
		     struct entry *e)
{
	struct cow_vnode *up = cow_vnode_parent(node->vnode);
	struct cow_dirent de;
	int r;

	if (off < DOTS_OFF)
		return dots_next(fs_snap_node_ino(fs, node),
				 fs_snap_ino(fs, node->space, up ? cow_vnode_ino(up) : node->ino),
				 off, e);
	if (!d->vdir) {
		r = cow_vdir_open(node->vnode, &d->vdir);
		if (r < 0)
			return r;
	}
	r = cow_vdir_read(d->vdir, (uint64_t)(off - DOTS_OFF), &de);
	if (r == 1)
		*e = (struct entry){
			.name = de.name,
			.ino = fs_snap_ino(fs, node->space, de.ino),
			.type = de.type,
			.next = (off_t)de.next + DOTS_OFF,
		};
	return r;
}

static int snapdir_next(struct fs *fs, struct fs_node *node, struct fs_dir *d, off_t off,
			struct entry *e)
{
	size_t i = (size_t)off - DOTS_OFF;

	if (off < DOTS_OFF) {
		if (off == 0 && d->list) { /* rewinddir(3): look again */
			cow_snapshots_free(d->list, d->list_n);
			d->list = NULL;
		}
		return dots_next(FS_SNAPDIR_INO, fs->below_ino, off, e);
	}
	if (!d->list) {
		int r = cow_epoch_list(fs->store, false, &d->list, &d->list_n);

		if (r < 0)
			return r;
	}
	if (!d->list || i >= d->list_n)
		return 0;
	*e = (struct entry){
		.name = d->list[i].name,
		.ino = fs_snap_ino(fs, d->list[i].epoch, fs->below_ino),
		.type = DT_DIR,
		.next = off + 1,
	};
	return 1;
}

static int next_entry(struct fs *fs, struct fs_node *node, struct fs_dir *d, off_t off,
		      struct entry *e)
{
	switch (node->kind) {
	case FS_LIVE:
		return live_next(fs, node, d, off, e);
	case FS_SNAP:
		return snap_next(fs, node, d, off, e);
	default:
		return snapdir_next(fs, node, d, off, e);
	}
}

/* ---- readdir ---- */

static size_t add_plain(fuse_req_t req, char *buf, size_t room, const struct entry *e)
{
	struct stat st = { .st_ino = e->ino, .st_mode = e->type << 12 };

	return fuse_add_direntry(req, buf, room, e->name, &st, e->next);
}

static bool is_dots(const char *name)
{
	return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

/* With attributes, counting a look-up; without, when they cannot be had: the kernel then asks by name. */
static size_t add_plus(fuse_req_t req, struct fs_node *dir, char *buf, size_t room,
		       const struct entry *e)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param ep = { 0 };
	size_t size = fuse_add_direntry_plus(req, NULL, 0, e->name, NULL, 0);

	if (size > room)
		return size;
	if (is_dots(e->name) || fs_entry_lookup(fs, dir, e->name, &ep) < 0 || !ep.ino)
		ep = (struct fuse_entry_param){ .attr = { .st_ino = e->ino,
							  .st_mode = e->type << 12 } };
	return fuse_add_direntry_plus(req, buf, room, e->name, &ep, e->next);
}

static int list(fuse_req_t req, struct fs_node *node, size_t size, off_t off, struct fs_dir *d,
		bool plus, char *buf, size_t *ret_used)
{
	CLEANUP(unlock_p) pthread_mutex_t *held = dir_hold(d);
	struct fs *fs = fs_of(req);
	size_t used = 0;
	struct entry e;
	int r;

	(void)held;
	while ((r = next_entry(fs, node, d, off, &e)) == 1) {
		size_t n = plus ? add_plus(req, node, buf + used, size - used, &e)
				: add_plain(req, buf + used, size - used, &e);

		if (n > size - used) {
			/* This entry comes again: seek, as the descriptor stands at the end of the buffer. */
			d->pos = -1;
			break;
		}
		used += n;
		off = e.next;
	}
	*ret_used = used;
	return r < 0 && !used ? r : 0;
}

static void do_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi, bool plus)
{
	struct fs_node *node = fs_node_of(fs_of(req), ino);
	char *buf = fs_scratch(size);
	size_t used = 0;
	int r;

	r = buf ? list(req, node, size, off, fs_dir_from(fi), plus, buf, &used) : -ENOMEM;
	if (r < 0)
		fs_reply_status(req, r);
	else
		fuse_reply_buf(req, buf, used);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	do_readdir(req, ino, size, off, fi, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	do_readdir(req, ino, size, off, fi, true);
}
