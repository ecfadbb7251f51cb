/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The records labelled from a up to b name everything that may differ between the two: look only at that.
 *
 *	names recorded		what does each stand for at a, and at b?  -> removed, added
 *	new directories at b	their content has no records: walk it	  -> added
 *	removed and added	of the same inode			  -> renamed
 *	inodes recorded		of those that both sides have		  -> modified, or only their attributes
 */
#include "cow/diff.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cow/base/cleanup.h"
#include "cow/file.h"
#include "cow/store_private.h"
#include "cow/touched.h"
#include "cow/view.h"

#define DEPTH_MAX 2048

struct change {
	enum cow_diff_kind kind;
	char *path, *old_path;
	uint64_t ino;
	unsigned type;
	bool modified, paired;
};

struct diff {
	struct cow_store *st;
	uint64_t a, b;		 /* b 0: the live tree */
	struct cow_view *view_b; /* NULL for the live tree */

	struct touched t; /* what the records name */
	struct change *changes;
	size_t n_changes;
};

/* ---- one side ---- */

static int live_name(struct cow_store *st, uint64_t dir, const char *name, uint64_t *ret_ino,
		     unsigned *ret_type)
{
	CLEANUP(close_p) int fd = place_open(st, dir);
	struct statx sx;
	int r;

	if (fd < 0)
		return fd;
	if (dir == st->root_ino && strcmp(name, COW_STORE_NAME) == 0)
		return -ENOENT;
	r = cow_file_statx(fd, name, &sx);
	if (r < 0)
		return r;
	*ret_ino = sx.stx_ino;
	*ret_type = IFTODT(sx.stx_mode);
	return 0;
}

static bool born_since(struct diff *d, uint64_t ino)
{
	return touched_born(d->st, ino, d->a);
}

/* What a name stands for on one side; *ret_ino 0: nothing. */
static int name_on(struct diff *d, uint64_t epoch, uint64_t dir, const char *name,
		   uint64_t *ret_ino, unsigned *ret_type)
{
	int r = -ENOENT, again;

	*ret_ino = 0;
	*ret_type = DT_UNKNOWN;
	if (epoch && touched_born(d->st, dir, epoch))
		return 0;
	if (epoch)
		r = view_name(d->st, dir, name, strlen(name), epoch, ret_ino, ret_type);
	if (r == -ENOENT) {
		r = live_name(d->st, dir, name, ret_ino, ret_type);
		/* as view.c: the live side counts only if nothing was saved meanwhile */
		again = epoch ? view_name(d->st, dir, name, strlen(name), epoch, ret_ino, ret_type)
			      : -ENOENT;
		if (again != -ENOENT)
			r = again;
	}
	return r == -ENOENT || r == -ENOTDIR ? 0 : r;
}

static int path_on(struct diff *d, uint64_t epoch, uint64_t ino, unsigned depth, char **ret);

/* If (dir, name) stands for ino on this side: the path of it. -ENOENT if not. */
static int try_spot(struct diff *d, uint64_t epoch, uint64_t dir, const char *name, uint64_t ino,
		    unsigned depth, char **ret)
{
	CLEANUP(free_p) char *parent = NULL;
	uint64_t found;
	unsigned type;
	int r;

	r = dir ? name_on(d, epoch, dir, name, &found, &type) : -ENOENT;
	if (r == 0 && found != ino)
		r = -ENOENT;
	if (r == 0)
		r = path_on(d, epoch, dir, depth + 1, &parent);
	if (r < 0)
		return r;
	if (asprintf(ret, "%s%s%s", parent, *parent ? "/" : "", name) < 0)
		return -ENOMEM;
	return 0;
}

struct back {
	struct diff *d;
	uint64_t epoch, ino;
	unsigned depth;
	char **ret;
};

static int try_back(void *arg, const void *key, size_t key_len, const void *val, size_t val_len)
{
	struct back *b = arg;
	char name[COW_NAME_MAX_LEN + 1];
	const char *n;
	size_t name_len;
	uint64_t target, dir, label;
	int r;

	(void)val;
	(void)val_len;
	r = cow_key_get_back(key, key_len, &target, &dir, &n, &name_len, &label);
	if (r < 0)
		return r;
	if (label < b->epoch)
		return 0;
	memcpy(name, n, name_len);
	name[name_len] = '\0';
	r = try_spot(b->d, b->epoch, dir, name, b->ino, b->depth, b->ret);
	return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

/* One path of an inode on one side, relative to the root; -ENOENT when it has none there that we know of. */
static int path_on(struct diff *d, uint64_t epoch, uint64_t ino, unsigned depth, char **ret)
{
	CLEANUP(cow_buf_done) struct cow_buf buf = { 0 };
	struct back b = { d, epoch, ino, depth, ret };
	uint8_t key[COW_KEY_MAX];
	struct cow_place p;
	int r;

	if (depth > DEPTH_MAX)
		return -ENOENT;
	if (ino == d->st->root_ino) {
		*ret = strdup("");
		return *ret ? 0 : -ENOMEM;
	}
	r = cow_index_get(d->st->index, key, cow_key_place(key, ino), &buf);
	if (r == 0)
		r = cow_format_get_place(buf.data, buf.len, &p);
	if (r == 0)
		r = try_spot(d, epoch, p.now.parent, p.now.name, ino, depth, ret);
	if (r == -ENOENT && buf.len)
		r = try_spot(d, epoch, p.before.parent, p.before.name, ino, depth, ret);
	if (r != -ENOENT || !epoch)
		return r;
	r = cow_index_scan(d->st->index, key, cow_key_back_prefix(key, ino), NULL, 0, try_back, &b);
	return r == 1 ? 0 : r < 0 ? r : -ENOENT;
}

/* Attributes on one side; block of xattrs borrows from buf, NULL for live ones (compared by what matters: see below). */
static int attr_live(struct diff *d, uint64_t ino, struct cow_buf *buf, struct cow_attr *ret)
{
	CLEANUP(close_p) int fd = place_open(d->st, ino);
	struct statx sx;
	int r;

	if (fd < 0)
		return fd;
	r = cow_file_statx(fd, "", &sx);
	if (r < 0)
		return r;
	r = statx_fix_links(d->st, &sx);
	if (r < 0)
		return r;
	attr_from_statx(ret, &sx);
	cow_buf_done(buf); /* a new block of xattrs starts empty */
	*buf = (struct cow_buf){ 0 };
	r = preserve_read_xattrs(fd, buf);
	ret->xattrs = buf->data;
	ret->xattrs_len = buf->len;
	return r;
}

static int attr_on(struct diff *d, uint64_t epoch, uint64_t ino, struct cow_buf *buf,
		   struct cow_attr *ret)
{
	CLEANUP(cow_buf_done) struct cow_buf saved = { 0 };
	struct cow_attr attr;
	int r = epoch ? view_attr(d->st, ino, epoch, buf, ret) : -ENOENT;

	if (r != -ENOENT)
		return r;
	r = attr_live(d, ino, buf, ret);
	if (epoch && view_attr(d->st, ino, epoch, &saved, &attr) == 0)
		return view_attr(d->st, ino, epoch, buf, ret);
	return r;
}

/* ---- changes ---- */

static int add_change(struct diff *d, enum cow_diff_kind kind, char *path, uint64_t ino,
		      unsigned type)
{
	int r = path ? touched_room(&d->changes, d->n_changes, sizeof(*d->changes)) : -ENOMEM;

	if (r < 0) {
		free(path);
		return r;
	}
	d->changes[d->n_changes++] =
		(struct change){ .kind = kind, .path = path, .ino = ino, .type = type };
	return 0;
}

static int name_changed(struct diff *d, enum cow_diff_kind kind, uint64_t epoch,
			const struct touched_name *n, uint64_t ino, unsigned type)
{
	CLEANUP(free_p) char *dir = NULL;
	char *path;
	int r = path_on(d, epoch, n->dir, 0, &dir);

	if (r == -ENOENT)
		return 0; /* the whole directory is not on that side: told by its own name */
	if (r < 0)
		return r;
	if (asprintf(&path, "%s%s%s", dir, *dir ? "/" : "", n->name) < 0)
		return -ENOMEM;
	return add_change(d, kind, path, ino, type);
}

static int compare_names(struct diff *d)
{
	uint64_t ia, ib;
	unsigned ta, tb;
	int r;

	for (size_t i = 0; i < d->t.n_names; i++) {
		const struct touched_name *n = &d->t.names[i];

		r = name_on(d, d->a, n->dir, n->name, &ia, &ta);
		if (r == 0)
			r = name_on(d, d->b, n->dir, n->name, &ib, &tb);
		if (r < 0 || ia == ib) {
			if (r < 0)
				return r;
			continue;
		}
		if (ia)
			r = name_changed(d, COW_DIFF_REMOVED, d->a, n, ia, ta);
		if (r == 0 && ib)
			r = name_changed(d, COW_DIFF_ADDED, d->b, n, ib, tb);
		if (r < 0)
			return r;
	}
	return 0;
}

static int walk_live(struct diff *d, uint64_t ino, const char *path, unsigned depth)
{
	CLEANUP(closedir_p) DIR *dir = NULL;
	const struct dirent *de;
	char *child;
	int fd, r = 0;

	fd = cow_file_openat(d->st->below_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR ? 0 : fd; /* gone meanwhile */
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while (r == 0 && depth < DEPTH_MAX && (de = readdir(dir))) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
		    touched_has(&d->t, ino, de->d_name)) /* compare_names() did it */
			continue;
		if (asprintf(&child, "%s/%s", path, de->d_name) < 0)
			return -ENOMEM;
		r = add_change(d, COW_DIFF_ADDED, child, de->d_ino, de->d_type);
		if (r == 0 && de->d_type == DT_DIR && born_since(d, de->d_ino))
			r = walk_live(d, de->d_ino, child, depth + 1);
	}
	return r;
}

static int walk_view(struct diff *d, struct cow_vnode *vn, const char *path, unsigned depth)
{
	struct cow_vdir *dir = NULL;
	struct cow_dirent e;
	uint64_t off = 0;
	int r = cow_vdir_open(vn, &dir);

	while (r == 0 && depth < DEPTH_MAX && (r = cow_vdir_read(dir, off, &e)) == 1) {
		struct cow_vnode *child_vn;
		char *child;

		off = e.next;
		r = 0;
		if (touched_has(&d->t, cow_vnode_ino(vn), e.name)) /* compare_names() did it */
			continue;
		if (asprintf(&child, "%s/%s", path, e.name) < 0) {
			r = -ENOMEM;
			break;
		}
		r = add_change(d, COW_DIFF_ADDED, child, e.ino, e.type);
		if (r < 0 || e.type != DT_DIR || !born_since(d, e.ino))
			continue;
		r = cow_vnode_lookup(vn, e.name, &child_vn);
		if (r < 0)
			break;
		r = walk_view(d, child_vn, child, depth + 1);
		cow_vnode_put(child_vn);
	}
	cow_vdir_close(dir);
	return r < 0 ? r : 0;
}

static int vnode_by_path(struct cow_view *v, const char *path, struct cow_vnode **ret)
{
	CLEANUP(free_p) char *copy = strdup(path);
	struct cow_vnode *vn, *child;
	char *save, *part;
	int r = copy ? cow_vnode_root(v, &vn) : -ENOMEM;

	for (part = r == 0 ? strtok_r(copy, "/", &save) : NULL; part && r == 0;
	     part = strtok_r(NULL, "/", &save)) {
		r = cow_vnode_lookup(vn, part, &child);
		cow_vnode_put(vn);
		vn = child;
	}
	if (r == 0)
		*ret = vn;
	return r;
}

static int walk_born(struct diff *d)
{
	size_t n = d->n_changes; /* what walking adds is walked inside */
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		CLEANUP(free_p) char *path = NULL;
		struct cow_vnode *vn;

		if (d->changes[i].kind != COW_DIFF_ADDED || d->changes[i].type != DT_DIR ||
		    !born_since(d, d->changes[i].ino))
			continue;
		path = strdup(d->changes[i].path); /* the array may move */
		if (!path)
			return -ENOMEM;
		if (!d->view_b) {
			r = walk_live(d, d->changes[i].ino, path, 0);
			continue;
		}
		r = vnode_by_path(d->view_b, path, &vn);
		if (r == 0) {
			r = walk_view(d, vn, path, 0);
			cow_vnode_put(vn);
		} else if (r == -ENOENT) {
			r = 0;
		}
	}
	return r;
}

static int by_ino_kind(const void *x, const void *y)
{
	const struct change *a = x, *b = y;

	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	return strcmp(a->path, b->path);
}

static int by_path(const void *x, const void *y)
{
	const struct change *a = x, *b = y;
	int r = strcmp(a->path, b->path);

	return r ? r : (int)a->kind - (int)b->kind;
}

static void drop_taken(struct diff *d)
{
	size_t to = 0;

	for (size_t i = 0; i < d->n_changes; i++)
		if (d->changes[i].path)
			d->changes[to++] = d->changes[i];
	d->n_changes = to;
}

/* Removed here and added there, the same inode: renamed. One with one; what is left over are links. */
static void pair_renames(struct diff *d)
{
	if (!d->n_changes)
		return;
	qsort(d->changes, d->n_changes, sizeof(*d->changes),
	      by_ino_kind); /* ADDED sorts before REMOVED */
	for (size_t first = 0, end; first < d->n_changes; first = end) {
		size_t removed = first;

		for (end = first;
		     end < d->n_changes && d->changes[end].ino == d->changes[first].ino; end++)
			if (d->changes[end].kind == COW_DIFF_ADDED)
				removed = end + 1;
		for (size_t added = first;
		     removed < end && d->changes[added].kind == COW_DIFF_ADDED;
		     added++, removed++) {
			struct change *a = &d->changes[added], *r = &d->changes[removed];

			if (born_since(d, a->ino))
				break; /* the number was given to something new */
			a->kind = COW_DIFF_RENAMED;
			a->old_path = TAKE(r->path);
		}
	}
	drop_taken(d);
}

/* A name that stands for something new: the same path removed and added. */
static void pair_replaced(struct diff *d)
{
	if (!d->n_changes)
		return;
	qsort(d->changes, d->n_changes, sizeof(*d->changes), by_path);
	for (size_t i = 0; i + 1 < d->n_changes; i++) {
		struct change *a = &d->changes[i], *b = &d->changes[i + 1];

		if (!a->path || strcmp(a->path, b->path) != 0 || a->kind != COW_DIFF_ADDED ||
		    b->kind != COW_DIFF_REMOVED)
			continue;
		b->kind = a->type == b->type ? COW_DIFF_MODIFIED : COW_DIFF_TYPE;
		b->ino = a->ino;
		b->type = a->type;
		free(a->path);
		a->path = NULL;
	}
	drop_taken(d);
}

/* Where some were not kept nobody can tell. */
static bool same_xattrs(const struct cow_attr *a, const struct cow_attr *b)
{
	size_t pos = 0, name_len, len;
	const void *value;
	const char *name;
	int r;

	while ((r = cow_format_next_xattr(a->xattrs, a->xattrs_len, &pos, &name, &name_len, &value,
					  &len)) > 0)
		;
	return r == 0 && a->xattrs_len == b->xattrs_len &&
	       (!a->xattrs_len || memcmp(a->xattrs, b->xattrs, a->xattrs_len) == 0);
}

/* 0 the same, or the kind of difference between the inode's two sides. */
static int compare_inode(struct diff *d, const struct touched_inode *t)
{
	CLEANUP(cow_buf_done) struct cow_buf buf_a = { 0 };
	CLEANUP(cow_buf_done) struct cow_buf buf_b = { 0 };
	struct cow_attr a, b;
	int r;

	r = attr_on(d, d->a, t->ino, &buf_a, &a);
	if (r == 0)
		r = attr_on(d, d->b, t->ino, &buf_b, &b);
	if (r < 0)
		return r == -ENOENT || r == -ESTALE ? 0 : r;
	if (S_ISREG(a.mode) && (t->data || a.size != b.size))
		return COW_DIFF_MODIFIED;
	if (a.mode != b.mode || a.uid != b.uid || a.gid != b.gid || !same_xattrs(&a, &b))
		return COW_DIFF_META;
	if (!S_ISDIR(a.mode) && (a.mtime != b.mtime || a.mtime_ns != b.mtime_ns))
		return COW_DIFF_META;
	return 0;
}

/* Say of the renames of an inode among the first n changes, which pair_renames() left in the order of their inodes, whether
 * its content changed as well. Several of its names may have been renamed. */
static bool mark_renames(struct diff *d, size_t n, uint64_t ino, bool modified)
{
	size_t lo = 0, hi = n;
	bool found = false;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (d->changes[mid].ino < ino)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < n && d->changes[lo].ino == ino; lo++)
		if (d->changes[lo].kind == COW_DIFF_RENAMED) {
			d->changes[lo].modified = modified;
			found = true;
		}
	return found;
}

static int compare_inodes(struct diff *d)
{
	size_t n_renames = d->n_changes;
	char *path, *path_a;
	int kind, r;

	for (size_t i = 0; i < d->t.n_inodes; i++) {
		const struct touched_inode *t = &d->t.inodes[i];

		kind = compare_inode(d, t);
		if (kind <= 0) {
			if (kind < 0)
				return kind;
			continue;
		}
		if (mark_renames(d, n_renames, t->ino, kind == COW_DIFF_MODIFIED))
			continue;
		r = path_on(d, d->a, t->ino, 0, &path_a);
		if (r == 0) {
			free(path_a);
			r = path_on(d, d->b, t->ino, 0, &path);
		}
		if (r == 0)
			r = add_change(d, (enum cow_diff_kind)kind, path, t->ino, DT_UNKNOWN);
		if (r < 0 && r != -ENOENT)
			return r;
	}
	return 0;
}

/* ---- telling ---- */

/* The newer side's attributes by path: a newborn has no record that says where it is. */
static int stat_b(struct diff *d, const char *path, struct cow_diff_entry *e)
{
	struct cow_vnode *vn;
	struct statx sx;
	int r;

	if (d->view_b) {
		r = vnode_by_path(d->view_b, path, &vn);
		if (r < 0)
			return r;
		r = cow_vnode_stat(vn, &sx);
		cow_vnode_put(vn);
	} else {
		r = cow_file_statx(d->st->below_fd, path, &sx);
	}
	if (r < 0)
		return r;
	e->new_size = sx.stx_size;
	e->mode = sx.stx_mode;
	return 0;
}

static int tell(struct diff *d, int (*each)(void *, const struct cow_diff_entry *), void *userdata)
{
	int r = 0;

	if (d->n_changes)
		qsort(d->changes, d->n_changes, sizeof(*d->changes), by_path);
	for (size_t i = 0; i < d->n_changes && r == 0; i++) {
		CLEANUP(cow_buf_done) struct cow_buf buf = { 0 };
		const struct change *c = &d->changes[i];
		struct cow_diff_entry e = { .kind = c->kind,
					    .modified = c->modified,
					    .path = c->path,
					    .old_path = c->old_path,
					    .ino = c->ino };
		struct cow_attr a;

		if (c->kind != COW_DIFF_ADDED && attr_on(d, d->a, c->ino, &buf, &a) == 0) {
			e.old_size = a.size;
			e.mode = a.mode;
		}
		if (c->kind != COW_DIFF_REMOVED)
			stat_b(d, c->path, &e);
		if (!e.mode)
			e.mode = DTTOIF(c->type);
		r = each(userdata, &e);
	}
	return r;
}

static void diff_done(struct diff *d)
{
	touched_done(&d->t);
	for (size_t i = 0; i < d->n_changes; i++) {
		free(d->changes[i].path);
		free(d->changes[i].old_path);
	}
	free(d->changes);
	cow_view_close(d->view_b);
}

int cow_diff(struct cow_store *st, uint64_t epoch_a, uint64_t epoch_b,
	     int (*each)(void *userdata, const struct cow_diff_entry *e), void *userdata)
{
	struct diff d = { .st = st, .a = epoch_a, .b = epoch_b };
	struct cow_view *view_a;
	int r;

	if (epoch_b && epoch_b <= epoch_a)
		return -EINVAL;
	r = cow_view_open(st, epoch_a, false, &view_a);
	if (r < 0)
		return r;
	if (epoch_b)
		r = cow_view_open(st, epoch_b, false, &d.view_b);
	if (r == 0)
		r = touched_read(st, epoch_a, epoch_b, &d.t);
	if (r == 0)
		r = compare_names(&d);
	if (r == 0)
		r = walk_born(&d);
	if (r == 0) {
		pair_renames(&d);
		r = compare_inodes(&d);
	}
	if (r == 0) {
		pair_replaced(&d);
		r = tell(&d, each, userdata);
	}
	diff_done(&d);
	cow_view_close(view_a);
	return r;
}
