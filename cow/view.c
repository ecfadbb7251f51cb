/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading at an epoch: look it up; if nothing is preserved read the live thing, then look it up again. Only if there is
 * still nothing was what we read unchanged while we read it, because a change preserves first. */
#include "cow/view.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cow/base/bytes.h"
#include "cow/base/cleanup.h"
#include "cow/file.h"
#include "cow/hash.h"
#include "cow/store_private.h"
#include "cow/view_private.h"

#define TRIES 16 /* a look-up that a rename crossed */

/* ---- the index, asked for a snapshot ---- */

int view_attr_label(struct cow_store *st, uint64_t ino, uint64_t epoch, struct cow_buf *buf,
		    struct cow_attr *ret, uint64_t *ret_label)
{
	uint8_t key[COW_KEY_MAX], at[COW_INDEX_KEY_MAX];
	size_t len = cow_key_attr(key, ino, epoch), at_len;
	int r;

	r = cow_index_get_ge(st->index, key, len, len - COW_KEY_EPOCH_LEN, at, &at_len, buf);
	if (r < 0)
		return r;
	*ret_label = cow_key_get_epoch(at, at_len);
	return cow_format_get_attr(buf->data, buf->len, ret);
}

int view_attr(struct cow_store *st, uint64_t ino, uint64_t epoch, struct cow_buf *buf,
	      struct cow_attr *ret)
{
	uint64_t label;

	return view_attr_label(st, ino, epoch, buf, ret, &label);
}

static int view_name_label(struct cow_store *st, uint64_t dir, const char *name, size_t name_len,
			   uint64_t epoch, uint64_t *ret_target, unsigned *ret_type,
			   uint64_t *ret_label)
{
	CLEANUP(cow_buf_done) struct cow_buf buf = { 0 };
	uint8_t key[COW_KEY_MAX], at[COW_INDEX_KEY_MAX];
	size_t len = cow_key_name(key, dir, name, name_len, epoch), at_len;
	struct cow_name n;
	int r;

	r = cow_index_get_ge(st->index, key, len, len - COW_KEY_EPOCH_LEN, at, &at_len, &buf);
	if (r == 0)
		r = cow_format_get_name(buf.data, buf.len, &n);
	if (r < 0)
		return r;
	*ret_target = n.target;
	*ret_type = n.type;
	*ret_label = cow_key_get_epoch(at, at_len);
	return 0;
}

int view_name(struct cow_store *st, uint64_t dir, const char *name, size_t name_len, uint64_t epoch,
	      uint64_t *ret_target, unsigned *ret_type)
{
	uint64_t label;

	return view_name_label(st, dir, name, name_len, epoch, ret_target, ret_type, &label);
}

/* ---- views and vnodes ---- */

/* The ends of its own daemon and of all later ones but this. A daemon that ran beside a snapshot has a label of its own,
 * which stays as long as anything older does; one that crashed did not say when it ended, and the next one went on with its
 * labels. epochs_lock held. */
static int note_gaps(struct cow_view *v)
{
	const struct epoch *e = v->e;
	struct view_gap *grown;
	uint64_t next;

	while (e && e->session_end_ns) {
		grown = realloc(v->gaps, (v->n_gaps + 1) * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		next = e->next_session;
		v->gaps = grown;
		grown[v->n_gaps++] = (struct view_gap){ e->session_end_ns, next };
		while (e && e->id < next)
			e = e->newer;
	}
	return 0;
}

int cow_view_open(struct cow_store *st, uint64_t epoch, bool any_state, struct cow_view **ret)
{
	struct cow_view *v = calloc(1, sizeof(*v));
	int r = 0;

	if (!v)
		return -ENOMEM;
	v->st = st;
	atomic_init(&v->refs, 1);
	ulock_lock(&st->epochs_lock);
	for (struct epoch *e = st->last; e && !v->e; e = e->older)
		if (e->id == epoch && !e->internal &&
		    (any_state || e->snap.state == COW_SNAP_CREATED)) {
			v->e = epoch_ref(e);
			r = note_gaps(v);
		}
	ulock_unlock(&st->epochs_lock);
	if (!v->e || r < 0) {
		cow_view_close(v);
		return r < 0 ? r : -ENOENT;
	}
	*ret = v;
	return 0;
}

void cow_view_close(struct cow_view *v)
{
	if (!v || atomic_fetch_sub(&v->refs, 1) != 1)
		return;
	epoch_unref(v->e);
	free(v->gaps);
	free(v);
}

void cow_view_use(struct cow_view *v)
{
	ulock_lock(&v->st->epochs_lock);
	v->e->uses++;
	ulock_unlock(&v->st->epochs_lock);
}

void cow_view_unuse(struct cow_view *v)
{
	ulock_lock(&v->st->epochs_lock);
	v->e->uses--;
	ulock_unlock(&v->st->epochs_lock);
}

uint64_t cow_view_epoch(const struct cow_view *v)
{
	return v->e->id;
}

int view_alive(const struct cow_view *v)
{
	return atomic_load(&v->e->dead) ? -ESTALE : 0;
}

static int vnode_new(struct cow_view *v, struct cow_vnode *parent, uint64_t ino, unsigned type,
		     const char *name, struct cow_vnode **ret)
{
	size_t len = strlen(name);
	struct cow_vnode *vn = malloc(sizeof(*vn) + len + 1);

	if (!vn)
		return -ENOMEM;
	atomic_fetch_add(&v->refs, 1);
	*vn = (struct cow_vnode){
		.view = v, .parent = parent ? cow_vnode_ref(parent) : NULL, .ino = ino, .type = type
	};
	atomic_init(&vn->refs, 1);
	memcpy(vn->name, name, len + 1);
	*ret = vn;
	return 0;
}

int vnode_bare(struct cow_view *v, uint64_t ino, unsigned type, struct cow_vnode **ret)
{
	return vnode_new(v, NULL, ino, type, "", ret);
}

struct cow_vnode *cow_vnode_ref(struct cow_vnode *vn)
{
	atomic_fetch_add(&vn->refs, 1);
	return vn;
}

void cow_vnode_put(struct cow_vnode *vn)
{
	while (vn && atomic_fetch_sub(&vn->refs, 1) == 1) {
		struct cow_vnode *parent = vn->parent;

		cow_view_close(vn->view);
		free(vn);
		vn = parent;
	}
}

bool cow_vnode_is_foreign(const struct cow_vnode *vn)
{
	return vn->foreign;
}

uint64_t cow_vnode_ino(const struct cow_vnode *vn)
{
	return vn->ino;
}

struct cow_vnode *cow_vnode_parent(struct cow_vnode *vn)
{
	return vn->parent;
}

int cow_vnode_root(struct cow_view *v, struct cow_vnode **ret)
{
	int r = view_alive(v);

	return r < 0 ? r : vnode_new(v, NULL, v->st->root_ino, DT_DIR, "", ret);
}

/* ---- where a vnode's inode is now ---- */

static int open_in_parent(struct cow_vnode *vn)
{
	CLEANUP(close_p) int dir = -1;
	CLEANUP(close_p) int fd = -1;
	struct cow_store *st = vn->view->st;
	struct statx sx;
	int r;

	if (!vn->parent)
		return cow_file_reopen(st->below_fd, O_PATH);
	dir = vnode_dir_fd(vn->parent);
	if (dir < 0)
		return dir;
	fd = cow_file_openat(dir, vn->name, O_PATH | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	r = cow_file_statx(fd, "", &sx);
	if (r < 0)
		return r;
	return sx.stx_ino == vn->ino && stat_is_ours(st, &sx) ? TAKE_FD(fd) : -ENOENT;
}

int vnode_fd(struct cow_vnode *vn)
{
	struct cow_store *st = vn->view->st;
	int fd = -ESTALE;

	if (vn->foreign)
		return -ENOENT;
	for (unsigned i = 0; i < TRIES; i++) {
		fd = open_in_parent(vn);
		if (fd >= 0 || (fd != -ENOENT && fd != -ENOTDIR))
			return fd;
		fd = place_open(st, vn->ino);
		if (fd >= 0 || (fd != -ENOENT && fd != -ENOTDIR))
			return fd;
		if (view_alive(vn->view) < 0)
			return -ESTALE;
	}
	return -ESTALE;
}

int vnode_dir_fd(struct cow_vnode *vn)
{
	struct cow_store *st = vn->view->st;
	int fd = place_dir_cached(st, vn->ino);

	if (fd >= 0)
		return fd;
	fd = vnode_fd(vn);
	if (fd >= 0)
		place_dir_cache(st, vn->ino, fd);
	return fd;
}

/* ---- changed while nobody watched ----
 *
 * What a later daemon saved, or the live side shows, says nothing of a snapshot of an earlier one if the inode was changed
 * between two daemons. Each saves the attributes before it first changes anything: so those that were saved after a gap, or
 * else the live ones, must not be younger than the end of the daemon before it; and that for each gap that lies between the
 * snapshot and what is asked. */

static int check_ctime(const struct view_gap *gap, int64_t sec, uint32_t ns)
{
	return sec * 1000000000LL + ns > gap->end_ns ? -ESTALE : 0;
}

/* For what was saved under `label`; `live` NULL: only what was saved is asked, somebody did save. */
static int check_gaps(const struct cow_view *v, uint64_t ino, uint64_t label,
		      const struct statx *live)
{
	CLEANUP(cow_buf_done) struct cow_buf buf = { 0 };
	uint64_t found;
	struct cow_attr attr;
	int r;

	for (size_t i = 0; i < v->n_gaps && v->gaps[i].next <= label;) {
		r = view_attr_label(v->st, ino, v->gaps[i].next, &buf, &attr, &found);
		if (r == -ENOENT && live)
			return check_ctime(&v->gaps[i], live->stx_ctime.tv_sec,
					   live->stx_ctime.tv_nsec);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
		r = check_ctime(&v->gaps[i], attr.ctime, attr.ctime_ns);
		if (r < 0)
			return r;
		/* Nothing changed it between these gaps, so the first of them speaks for all. */
		while (i < v->n_gaps && v->gaps[i].next <= found)
			i++;
	}
	return 0;
}

int view_check_inode(const struct cow_view *v, uint64_t ino, const struct statx *live)
{
	return check_gaps(v, ino, UINT64_MAX, live);
}

int vnode_check_foreign(struct cow_vnode *vn, const struct statx *live)
{
	return view_check_inode(vn->view, vn->ino, live);
}

int vnode_check_label(struct cow_vnode *vn, uint64_t label)
{
	return check_gaps(vn->view, vn->ino, label, NULL);
}

/* ---- look-up ---- */

static int lookup_live(struct cow_vnode *dir, const char *name, uint64_t *ret_ino,
		       unsigned *ret_type, bool *ret_foreign)
{
	CLEANUP(close_p) int fd = vnode_dir_fd(dir);
	struct cow_store *st = dir->view->st;
	struct statx sx;
	int r = 0;

	if (fd < 0)
		return fd;
	if (dir->view->n_gaps) {
		r = cow_file_statx(fd, "", &sx);
		if (r == 0)
			r = vnode_check_foreign(dir, &sx);
	}
	if (r == 0)
		r = cow_file_statx(fd, name, &sx);
	if (r < 0)
		return r;
	*ret_ino = sx.stx_ino;
	*ret_type = IFTODT(sx.stx_mode);
	*ret_foreign = !stat_is_ours(st, &sx);
	return 0;
}

int view_is_store(const struct cow_vnode *dir, const char *name)
{
	return !dir->parent && strcmp(name, COW_STORE_NAME) == 0;
}

int cow_vnode_lookup(struct cow_vnode *dir, const char *name, struct cow_vnode **ret)
{
	struct cow_view *v = dir->view;
	size_t len = strlen(name);
	unsigned type = 0;
	uint64_t ino = 0, label = 0;
	bool foreign = false;
	int r, live;

	if (dir->type != DT_DIR)
		return -ENOTDIR;
	if (len > COW_NAME_MAX_LEN)
		return -ENAMETOOLONG;
	if (dir->foreign || view_is_store(dir, name))
		return -ENOENT;
	r = view_name_label(v->st, dir->ino, name, len, v->e->id, &ino, &type, &label);
	if (r == -ENOENT) {
		live = lookup_live(dir, name, &ino, &type, &foreign);
		r = live == -ENOENT || live == 0 ? view_name_label(v->st, dir->ino, name, len,
								   v->e->id, &ino, &type, &label)
						 : live;
		if (r == -ENOENT)
			r = live == 0 ? 1 : live;
	}
	if (view_alive(v) < 0)
		return -ESTALE;
	if (r < 0)
		return r;
	if (r == 0)
		r = vnode_check_label(dir, label);
	if (r == 0 && !ino)
		r = -ENOENT;
	if (r < 0)
		return r;
	if (r == 1 && foreign && type != DT_DIR)
		return -EIO; /* a file mounted over another: what was there cannot be seen */
	r = vnode_new(v, dir, ino, foreign && r == 1 ? DT_DIR : type, name, ret);
	if (r == 0)
		(*ret)->foreign = foreign;
	return r;
}

/* ---- attributes ---- */

static struct statx_timestamp time_to(int64_t sec, uint32_t ns)
{
	return (struct statx_timestamp){ .tv_sec = sec, .tv_nsec = ns };
}

static void attr_to_statx(const struct cow_attr *a, struct statx *sx)
{
	memset(sx, 0, sizeof(*sx));
	sx->stx_mask = STATX_BASIC_STATS | (a->has_btime ? STATX_BTIME : 0);
	sx->stx_ino = a->ino;
	sx->stx_mode = (uint16_t)a->mode;
	sx->stx_uid = a->uid;
	sx->stx_gid = a->gid;
	sx->stx_nlink = a->nlink;
	sx->stx_blksize = a->blksize;
	sx->stx_rdev_major = (uint32_t)a->rdev_major;
	sx->stx_rdev_minor = (uint32_t)a->rdev_minor;
	sx->stx_size = a->size;
	sx->stx_blocks = a->blocks;
	sx->stx_atime = time_to(a->atime, a->atime_ns);
	sx->stx_mtime = time_to(a->mtime, a->mtime_ns);
	sx->stx_ctime = time_to(a->ctime, a->ctime_ns);
	sx->stx_btime = time_to(a->btime, a->btime_ns);
}

/* A mount below shows as a plain, empty directory (N-5). */
static void foreign_stat(const struct cow_vnode *vn, struct statx *sx)
{
	memset(sx, 0, sizeof(*sx));
	sx->stx_mask = STATX_BASIC_STATS;
	sx->stx_ino = vn->ino;
	sx->stx_mode = S_IFDIR | 0555;
	sx->stx_nlink = 2;
	sx->stx_blksize = COW_CLUSTER_SIZE;
	sx->stx_mtime.tv_sec = sx->stx_ctime.tv_sec = sx->stx_atime.tv_sec =
		vn->view->e->snap.opened_ns / 1000000000;
}

/* The live attributes, wherever it is now: most often where it was, and then no descriptor is needed. */
static int statx_live(struct cow_vnode *vn, struct statx *ret)
{
	CLEANUP(close_p) int dir = vn->parent ? vnode_dir_fd(vn->parent) : -1;
	CLEANUP(close_p) int fd = -1;

	if (dir >= 0 && cow_file_statx(dir, vn->name, ret) == 0 && ret->stx_ino == vn->ino &&
	    stat_is_ours(vn->view->st, ret))
		return 0;
	fd = vnode_fd(vn);
	return fd < 0 ? fd : cow_file_statx(fd, "", ret);
}

/* The attributes at the epoch, from the record (then *ret_attr borrows from buf, and 1 is returned) or live (0). */
static int stat_at(struct cow_vnode *vn, struct statx *sx, struct cow_buf *buf,
		   struct cow_attr *attr)
{
	struct cow_view *v = vn->view;
	uint64_t label = 0;
	int r;

	r = view_attr_label(v->st, vn->ino, v->e->id, buf, attr, &label);
	if (r == -ENOENT) {
		r = statx_live(vn, sx);
		if (r == 0)
			r = statx_fix_links(v->st, sx);
		if (r == 0 || r == -ESTALE) {
			int again = view_attr_label(v->st, vn->ino, v->e->id, buf, attr, &label);

			if (again == 0)
				r = 1;
			else if (again != -ENOENT)
				r = again;
		}
		if (r == 0)
			r = vnode_check_foreign(vn, sx);
	} else if (r == 0) {
		r = 1;
	}
	if (r == 1 && vnode_check_label(vn, label) < 0)
		r = -ESTALE;
	if (r == 1)
		attr_to_statx(attr, sx);
	return view_alive(v) < 0 ? -ESTALE : r;
}

int cow_vnode_stat(struct cow_vnode *vn, struct statx *ret)
{
	CLEANUP(cow_buf_done) struct cow_buf buf = { 0 };
	struct cow_attr attr;
	struct statx sx;
	int r;

	if (vn->foreign) {
		foreign_stat(vn, ret);
		return view_alive(vn->view);
	}
	r = stat_at(vn, &sx, &buf, &attr);
	if (r < 0)
		return r;
	*ret = sx;
	return 0;
}

ssize_t cow_vnode_readlink(struct cow_vnode *vn, char *ret_buf, size_t size)
{
	CLEANUP(close_p) int fd = -1;
	struct statx sx;
	ssize_t len;
	int r;

	if (vn->type != DT_LNK)
		return -EINVAL;
	fd = vnode_fd(vn); /* a link's target never changes, only the link goes */
	if (fd < 0)
		return fd;
	r = cow_file_statx(fd, "", &sx);
	if (r == 0)
		r = vnode_check_foreign(vn, &sx);
	if (r < 0)
		return r;
	len = cow_file_readlinkat(fd, "", ret_buf, size);
	return view_alive(vn->view) < 0 ? -ESTALE : len;
}

/* ---- xattrs ---- */

static ssize_t give(const void *data, size_t len, void *buf, size_t size)
{
	if (size == 0)
		return (ssize_t)len;
	if (len > size)
		return -ERANGE;
	if (len)
		memcpy(buf, data, len);
	return (ssize_t)len;
}

static ssize_t find_xattr(const struct cow_attr *a, const char *name, void *buf, size_t size)
{
	size_t pos = 0, name_len, value_len;
	const void *value;
	const char *n;
	int r;

	while ((r = cow_format_next_xattr(a->xattrs, a->xattrs_len, &pos, &n, &name_len, &value,
					  &value_len)) > 0)
		if (name_len == strlen(name) && memcmp(n, name, name_len) == 0)
			return give(value, value_len, buf, size);
	if (r == -EIO && cow_format_xattr_is_vital(name))
		r = 0; /* it would have been kept */
	return r < 0 ? r : -ENODATA;
}

static ssize_t list_xattrs(const struct cow_attr *a, char *buf, size_t size)
{
	size_t pos = 0, name_len, value_len, total = 0;
	const void *value;
	const char *n;
	int r;

	while ((r = cow_format_next_xattr(a->xattrs, a->xattrs_len, &pos, &n, &name_len, &value,
					  &value_len)) > 0) {
		if (size && (total + name_len + 1 > size))
			return -ERANGE;
		if (size) {
			memcpy(buf + total, n, name_len);
			buf[total + name_len] = '\0';
		}
		total += name_len + 1;
	}
	return r < 0 ? r : (ssize_t)total;
}

/* `name` NULL: the list. */
static ssize_t xattr_at(struct cow_vnode *vn, const char *name, char *buf, size_t size)
{
	CLEANUP(cow_buf_done) struct cow_buf rec = { 0 };
	CLEANUP(close_p) int fd = -1;
	struct cow_view *v = vn->view;
	struct cow_attr attr;
	struct statx sx;
	uint64_t label = 0;
	ssize_t len = -ENODATA;
	int r;

	if (vn->foreign)
		return name ? -ENODATA : 0;
	r = view_attr_label(v->st, vn->ino, v->e->id, &rec, &attr, &label);
	if (r == -ENOENT) {
		fd = vnode_fd(vn);
		if (fd < 0)
			return fd;
		r = cow_file_statx(fd, "", &sx);
		if (r == 0)
			r = vnode_check_foreign(vn, &sx);
		if (r < 0)
			return r;
		len = name ? cow_file_getxattr(fd, name, buf, size)
			   : cow_file_listxattr(fd, buf, size);
		r = view_attr_label(v->st, vn->ino, v->e->id, &rec, &attr, &label);
		if (r == -ENOENT)
			return view_alive(v) < 0 ? -ESTALE : len;
	}
	if (r == 0)
		r = vnode_check_label(vn, label);
	if (view_alive(v) < 0)
		return -ESTALE; /* a record found may be one of a newer snapshot */
	if (r < 0)
		return r;
	return name ? find_xattr(&attr, name, buf, size) : list_xattrs(&attr, buf, size);
}

ssize_t cow_vnode_getxattr(struct cow_vnode *vn, const char *name, void *ret_buf, size_t size)
{
	return xattr_at(vn, name, ret_buf, size);
}

ssize_t cow_vnode_listxattr(struct cow_vnode *vn, char *ret_buf, size_t size)
{
	return xattr_at(vn, NULL, ret_buf, size);
}
