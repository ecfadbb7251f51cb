/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A regular file's data at an epoch, stretch by stretch: preserved clusters and holes from the store, all else from the
 * live file - believed only if, after it was read, there still is no record for it. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/file.h"
#include "cow/hash.h"
#include "cow/view_private.h"

#define RUN_MAX 64u /* clusters read at once */
#define TRIES 64    /* times that a stretch may change its place in the store while it is read */

struct cow_vfile {
	struct cow_vnode *vn; /* counted */
	uint64_t size;	      /* at the epoch */
	atomic_int live_fd;   /* the inode below, for reading; -1 until needed */
};

/* What [c, until) is, all in one way. */
struct stretch {
	enum { LIVE, HOLE, STORED } kind;
	uint64_t until;
	uint64_t label;	      /* of the record */
	struct cow_data data; /* STORED: one cluster */
	uint64_t
		clear; /* no record of a large hole that counts for this epoch begins before: mapped for reading */
};

int cow_vfile_open(struct cow_vnode *vn, struct cow_vfile **ret)
{
	struct cow_vfile *f;
	struct statx sx;
	int r;

	if (vn->type != DT_REG)
		return -EINVAL;
	r = cow_vnode_stat(vn, &sx);
	if (r < 0)
		return r;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->size = sx.stx_size;
	atomic_init(&f->live_fd, -1);
	f->vn = cow_vnode_ref(vn);
	cow_view_use(vn->view);
	*ret = f;
	return 0;
}

int vfile_open_inode(struct cow_view *v, uint64_t ino, uint64_t size, int fd,
		     struct cow_vfile **ret)
{
	CLEANUP(close_p) int live = cow_file_reopen(fd, O_RDONLY);
	struct cow_vfile *f;
	int r;

	if (live < 0)
		return live;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	r = vnode_bare(v, ino, DT_REG, &f->vn);
	if (r < 0) {
		free(f);
		return r;
	}
	f->size = size;
	atomic_init(&f->live_fd, TAKE_FD(live));
	cow_view_use(v);
	*ret = f;
	return 0;
}

void cow_vfile_close(struct cow_vfile *f)
{
	int fd;

	if (!f)
		return;
	fd = atomic_load(&f->live_fd);
	close_p(&fd);
	cow_view_unuse(f->vn->view);
	cow_vnode_put(f->vn);
	free(f);
}

static int open_live(struct cow_vfile *f)
{
	CLEANUP(close_p) int path_fd = vnode_fd(f->vn);
	struct statx sx;
	int fd, r;

	if (path_fd < 0)
		return path_fd;
	r = cow_file_statx(path_fd, "", &sx);
	if (r == 0)
		r = vnode_check_foreign(f->vn, &sx);
	if (r < 0)
		return r;
	fd = cow_file_reopen(path_fd, O_RDONLY | O_NOATIME);
	return fd == -EPERM ? cow_file_reopen(path_fd, O_RDONLY) : fd;
}

static int live_fd(struct cow_vfile *f)
{
	int fd = atomic_load(&f->live_fd), none = -1;

	if (fd >= 0)
		return fd;
	fd = open_live(f);
	if (fd >= 0 && !atomic_compare_exchange_strong(&f->live_fd, &none, fd)) {
		close(fd);
		fd = none; /* another thread was first */
	}
	return fd;
}

/* ---- where a stretch is ---- */

/* @clear_limit  look for large holes up to there, though the stretch may end earlier; 0: not beyond it */
static int map_stretch(struct cow_vfile *f, uint64_t c, uint64_t limit, uint64_t clear_limit,
		       struct stretch *ret)
{
	CLEANUP(cow_buf_done) struct cow_buf val = { 0 };
	struct stretch s = {
		.kind = LIVE, .until = limit, .label = UINT64_MAX, .clear = clear_limit
	};
	uint64_t block, label;
	int r;

	for (unsigned i = 0; i < HOLE_LEVELS; i++) {
		unsigned level = hole_levels[i];
		uint64_t to = i > 0 && clear_limit > s.until ? clear_limit : s.until;

		r = preserve_next_block(f->vn->view->st, f->vn->ino, f->vn->view->e->id, level, c,
					to, &block, &label, &val);
		if (r == -ENOENT)
			continue;
		if (r < 0)
			return r;
		if (i > 0 && block << level < s.clear)
			s.clear = block << level;
		if (block << level > c) {
			if (block << level < s.until)
				s.until = block << level;
			continue;
		}
		if ((block + 1) << level < s.until)
			s.until = (block + 1) << level;
		if (label >= s.label)
			continue;
		s.label = label;
		r = cow_format_get_data(val.data, val.len, &s.data);
		if (r < 0)
			return r;
		s.kind = s.data.dat ? STORED : HOLE;
	}
	*ret = s;
	return 0;
}

int vfile_map(struct cow_vfile *f, uint64_t c, uint64_t limit, enum vfile_kind *ret_kind,
	      uint64_t *ret_until)
{
	struct stretch s;
	int r = map_stretch(f, c, limit, 0, &s);

	if (r < 0)
		return r;
	*ret_kind = s.kind == LIVE ? VFILE_LIVE : s.kind == HOLE ? VFILE_HOLE : VFILE_STORED;
	*ret_until = s.until;
	return 0;
}

/* ---- reading ---- */

/* The epoch of a label, also one that is dropped but still settled. Counted. */
static struct epoch *find_label(struct cow_store *st, uint64_t label)
{
	struct epoch *e, *found = NULL;

	ulock_lock(&st->epochs_lock);
	for (e = st->last; e && !found; e = e->older)
		if (e->id == label)
			found = epoch_ref(e);
	for (e = st->doomed; e && !found; e = e->newer)
		if (e->id == label)
			found = epoch_ref(e);
	ulock_unlock(&st->epochs_lock);
	return found;
}

/* `n` clusters side by side in the store, the first of them d; `d` goes on with their records. -ENOENT: they were just given
 * another label; map again. -EIO also where they are not what was stored (I-4). */
static int read_stored(struct cow_vfile *f, uint64_t label, const struct cow_data *d, uint8_t *buf,
		       unsigned n)
{
	struct cow_store *st = f->vn->view->st;
	size_t len = n > 1 ? (size_t)n * COW_CLUSTER_SIZE : d->len;
	struct epoch *e = find_label(st, label);
	ssize_t got = -ENOENT;
	int fd;

	if (!e)
		return -ENOENT;
	fd = epochfile_dat_fd(st, e, d->dat);
	if (fd >= 0)
		got = cow_file_pread(fd, buf, len, (off_t)d->off);
	epoch_unref(e);
	if (got < 0)
		return (int)got;
	if ((size_t)got != len)
		return -EIO;
	for (unsigned i = 0; i < n; i++)
		if (cow_hash(buf + (size_t)i * COW_CLUSTER_SIZE, d[i].len, st->seed) != d[i].hash)
			return -EIO;
	return 0;
}

static int read_cluster(struct cow_vfile *f, const struct stretch *s, uint8_t *cluster)
{
	int r;

	if (s->data.len > COW_CLUSTER_SIZE)
		return -ENOENT;
	r = read_stored(f, s->label, &s->data, cluster, 1);
	if (r < 0)
		return r;
	memset(cluster + s->data.len, 0, COW_CLUSTER_SIZE - s->data.len);
	return 0;
}

/* ---- a run: whole clusters, one after another in the file, all preserved under one label ----
 *
 * They are looked up after the first, one by one where some are still in memory, and changes may come in between; yet what
 * is found is what one look at all of them would have found. For this epoch the record with the smallest label from its
 * own on counts, and of a record that exists nothing changes but the label, when one is dropped, to that of the next
 * older epoch: the order among those that count stays. What is new has the newest label, and is made only where none of
 * that label is. So a large hole that would count instead of what we find was there when `clear` was looked up. And a
 * label that has changed is noticed when the bytes are read (-ENOENT). */

struct run {
	uint64_t first, label, epoch;
	unsigned n, steps; /* clusters so far; keys looked at */
	struct cow_data data[RUN_MAX];
};

/* Whether this record, the one that counts for its cluster, goes on with the run. If not it is mapped by itself. */
static bool run_add(struct run *run, uint64_t block, uint64_t label, const void *val, size_t len)
{
	struct cow_data *d = &run->data[run->n];

	if (block != run->first + run->n || label != run->label ||
	    cow_format_get_data(val, len, d) < 0 || !d->dat || d->len != COW_CLUSTER_SIZE)
		return false;
	run->n++;
	return true;
}

/* Keys come in the order of clusters, then labels: the first label from the epoch on counts. */
static int run_step(void *userdata, const void *key, size_t key_len, const void *val, size_t len)
{
	struct run *run = userdata;
	uint64_t block = cow_key_get_block(key), label = cow_key_get_epoch(key, key_len);

	if (++run->steps > 4 * RUN_MAX)
		return 1; /* many snapshots: no better than one look-up for each */
	if (block < run->first + run->n || label < run->epoch)
		return 0;
	return run_add(run, block, label, val, len) ? 0 : 1;
}

static void run_one_by_one(struct cow_view *v, uint64_t ino, unsigned max, struct run *run)
{
	CLEANUP(cow_buf_done) struct cow_buf val = { 0 };
	uint64_t block, label, c;

	for (c = run->first + 1; c < run->first + max; c++)
		if (preserve_next_block(v->st, ino, v->e->id, 0, c, c + 1, &block, &label, &val) <
			    0 ||
		    !run_add(run, block, label, val.data, val.len))
			return;
}

/* The run from c on, where s begins; at most `max` clusters. */
static void map_run(struct cow_vfile *f, const struct stretch *s, uint64_t c, unsigned max,
		    struct run *ret)
{
	uint8_t from[COW_KEY_MAX], to[COW_KEY_MAX];
	struct cow_view *v = f->vn->view;
	uint64_t ino = f->vn->ino;

	ret->first = c;
	ret->label = s->label;
	ret->epoch = v->e->id;
	ret->n = 1;
	ret->steps = 0;
	ret->data[0] = s->data;
	if (cow_index_walk(v->st->index, from, cow_key_data(from, ino, 0, c + 1, 0), to,
			   cow_key_data(to, ino, 0, c + max, 0), run_step, ret) == -EAGAIN)
		run_one_by_one(v, ino, max, ret);
}

/* How many clusters from the i-th on lie side by side in the store, as those of a file overwritten in order do. */
static unsigned side_by_side(const struct run *run, unsigned i)
{
	const struct cow_data *d = &run->data[i];
	unsigned n = 1;

	while (i + n < run->n && d[n].dat == d->dat &&
	       d[n].off == d->off + (uint64_t)n * COW_CLUSTER_SIZE)
		n++;
	return n;
}

/* Bytes read of [off, off+len), 0: no run begins here; or -ENOENT as above. */
static ssize_t read_run(struct cow_vfile *f, const struct stretch *s, uint8_t *buf, size_t len,
			uint64_t off)
{
	uint64_t c = off / COW_CLUSTER_SIZE, max = len / COW_CLUSTER_SIZE;
	struct run run;
	unsigned n;
	int r;

	if (off % COW_CLUSTER_SIZE || s->data.len != COW_CLUSTER_SIZE)
		return 0;
	if (s->clear < c + max)
		max = s->clear > c ? s->clear - c : 0;
	if (max < 2)
		return 0;
	map_run(f, s, c, max < RUN_MAX ? (unsigned)max : RUN_MAX, &run);
	for (unsigned i = 0; i < run.n; i += n) {
		n = side_by_side(&run, i);
		r = read_stored(f, run.label, &run.data[i], buf + (size_t)i * COW_CLUSTER_SIZE, n);
		if (r < 0)
			return r;
	}
	return (ssize_t)run.n * COW_CLUSTER_SIZE;
}

/* Bytes believed of [off, off+len), which is all LIVE by the map; 0: map again. */
static ssize_t read_live(struct cow_vfile *f, void *buf, size_t len, uint64_t off)
{
	struct stretch again;
	uint64_t c = off / COW_CLUSTER_SIZE,
		 end = (off + len + COW_CLUSTER_SIZE - 1) / COW_CLUSTER_SIZE;
	ssize_t n;
	int fd = live_fd(f), r;

	n = fd < 0 ? fd : cow_file_pread(fd, buf, len, (off_t)off);
	r = map_stretch(f, c, end, 0, &again);
	if (r < 0)
		return r;
	if (again.kind != LIVE)
		return 0;
	if (n < 0)
		return n;
	if (again.until * COW_CLUSTER_SIZE < off + len)
		len = again.until * COW_CLUSTER_SIZE - off;
	/* The live file is shorter and nothing was saved: changed behind our back. */
	return (size_t)n < len ? -ESTALE : (ssize_t)len;
}

static ssize_t read_stretch(struct cow_vfile *f, const struct stretch *s, uint8_t *buf, size_t len,
			    uint64_t off)
{
	uint8_t cluster[COW_CLUSTER_SIZE];
	uint64_t left = s->until * COW_CLUSTER_SIZE - off;
	size_t wanted = len;
	ssize_t n;
	int r;

	if (len > left)
		len = left;
	switch (s->kind) {
	case LIVE:
		return read_live(f, buf, len, off);
	case HOLE:
		r = vnode_check_label(f->vn, s->label);
		if (r < 0)
			return r;
		memset(buf, 0, len);
		return (ssize_t)len;
	default:
		r = vnode_check_label(f->vn, s->label);
		if (r < 0)
			return r;
		n = read_run(f, s, buf, wanted, off);
		if (n != 0)
			return n == -ENOENT ? 0 : n;
		r = read_cluster(f, s, cluster);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
		memcpy(buf, cluster + off % COW_CLUSTER_SIZE, len);
		return (ssize_t)len;
	}
}

ssize_t cow_vfile_read(struct cow_vfile *f, void *buf, size_t len_bytes, off_t off)
{
	uint64_t at = (uint64_t)off, end, limit;
	struct stretch s;
	unsigned tries = 0;
	ssize_t n;
	int r;

	if (off < 0)
		return -EINVAL;
	if (at >= f->size)
		return view_alive(f->vn->view);
	end = len_bytes > f->size - at ? f->size : at + len_bytes;
	limit = (end + COW_CLUSTER_SIZE - 1) / COW_CLUSTER_SIZE;
	while (at < end) {
		r = map_stretch(f, at / COW_CLUSTER_SIZE, limit, limit, &s);
		if (r < 0)
			return r;
		n = read_stretch(f, &s, (uint8_t *)buf + (at - (uint64_t)off), end - at, at);
		if (view_alive(f->vn->view) < 0)
			return -ESTALE;
		if (n < 0)
			return n;
		if (n == 0 && ++tries > TRIES)
			return -EIO;
		at += (uint64_t)n;
	}
	return (ssize_t)(end - (uint64_t)off);
}

/* ---- holes ---- */

/* From `at`, inside a LIVE stretch that ends at `end` bytes: where data (or a hole) starts, or `end`. */
static off_t seek_live(struct cow_vfile *f, uint64_t at, uint64_t end, int whence)
{
	int fd = live_fd(f);
	off_t r = fd < 0 ? fd : cow_file_seek(fd, (off_t)at, whence);

	if (r == -ENXIO)
		return (off_t)end;
	if (r == -EINVAL) /* no notion of holes below: all data */
		return whence == SEEK_DATA ? (off_t)at : (off_t)end;
	return r > (off_t)end ? (off_t)end : r;
}

static off_t seek_at(struct cow_vfile *f, off_t off, int whence)
{
	uint64_t at = (uint64_t)off, limit = (f->size + COW_CLUSTER_SIZE - 1) / COW_CLUSTER_SIZE,
		 end;
	struct stretch s, again;
	off_t pos;
	int r;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	if (off < 0 || at >= f->size)
		return -ENXIO;
	while (at < f->size) {
		r = map_stretch(f, at / COW_CLUSTER_SIZE, limit, 0, &s);
		if (r < 0)
			return r;
		end = s.until * COW_CLUSTER_SIZE < f->size ? s.until * COW_CLUSTER_SIZE : f->size;
		if (s.kind == LIVE) {
			pos = seek_live(f, at, end, whence);
			r = map_stretch(f, at / COW_CLUSTER_SIZE, limit, 0, &again);
			if (r < 0)
				return r;
			if (again.kind != LIVE || again.until != s.until)
				continue; /* it changed meanwhile */
			if (pos < 0)
				return pos;
			if ((uint64_t)pos < end)
				return pos;
		} else if ((s.kind == HOLE) == (whence == SEEK_HOLE)) {
			return (off_t)at;
		}
		at = end;
	}
	return whence == SEEK_HOLE ? (off_t)f->size : -ENXIO;
}

off_t cow_vfile_seek(struct cow_vfile *f, off_t off, int whence)
{
	off_t pos = seek_at(f, off, whence);

	/* what was dropped meanwhile may have been mapped by the records of a newer snapshot */
	return pos != -EINVAL && view_alive(f->vn->view) < 0 ? -ESTALE : pos;
}
