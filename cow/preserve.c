/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one place that decides what a change must save first (I-3), and saves it: payload into the epoch's data file, a
 * record into its log, the record into the index, and only then the caller changes anything below.
 *
 * Everything here runs inside the gate, so "the newest epoch" stands still; only a full store may take it away, and then
 * there is nothing left to preserve for. One inode is saved by one thread at a time (its lock): a second writer of the same
 * cluster finds it saved, and never saves what the first has written over it. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cow/base/bytes.h"
#include "cow/base/cleanup.h"
#include "cow/base/log.h"
#include "cow/file.h"
#include "cow/gate.h"
#include "cow/hash.h"
#include "cow/store_private.h"

#define RUN_CLUSTERS 256u /* at most 1 MiB is copied at a time */
#define RECS_PER_APPEND 256u
#define DATA_REC_SIZE 80u
#define XATTRS_MAX (COW_REC_MAX - 512)

/* A hole of 2^level clusters is one record: 4 KiB, 256 KiB, 16 MiB, 1 GiB, 64 GiB. */
const unsigned hole_levels[HOLE_LEVELS] = { 0, 6, 12, 18, 24 };

/* ---- records ---- */

/* From what a name stood for back to the name. It comes before the name: with the name alone nothing would keep the inode
 * in the graveyard, and who tries again would find it recorded. One too many keeps it longer, no more. */
static int index_back(struct cow_store *st, const struct cow_rec *r)
{
	uint8_t key[COW_KEY_MAX];
	struct cow_name n;
	int e = cow_format_get_name(r->body, r->body_len, &n);

	if (e < 0 || !n.target)
		return e;
	return cow_index_put(st->index, key,
			     cow_key_back(key, n.target, n.dir, n.name, n.name_len, r->epoch), "",
			     0);
}

int preserve_index(struct cow_store *st, const struct cow_rec *r)
{
	uint8_t key[COW_KEY_MAX], epoch[8];
	size_t len;
	int e;

	e = cow_format_key(r, key, &len);
	if (e < 0 || len == 0)
		return e;
	if (r->kind == COW_REC_BIRTH) {
		put_be64(epoch, r->epoch);
		return cow_index_put(st->index, key, len, epoch, sizeof(epoch));
	}
	e = r->kind == COW_REC_NAME ? index_back(st, r) : 0;
	return e < 0 ? e : cow_index_put(st->index, key, len, r->body, r->body_len);
}

int preserve_put(struct cow_store *st, struct epoch *e, const uint8_t *rec, size_t len)
{
	struct cow_rec view = cow_format_view(rec, len);
	int r = epochfile_append(st, e, rec, len);

	return r < 0 ? r : preserve_index(st, &view);
}

int preserve_settle(struct cow_store *st, int r)
{
	if (r >= 0 || r == -EAGAIN)
		return r < 0 ? r : 0;
	if (r == -ENOSPC || r == -EDQUOT) {
		if (epoch_drop_oldest(st, COW_DROP_FULL)) /* F-9, source-first */
			return 1;
		return revert_pinned(st) ? r : 0;
	}
	if (r == -EMFILE || r == -ENFILE || r == -ENOMEM)
		return r; /* we are short, not the store: as any call may say */
	if (revert_pinned(st))
		return r; /* what the tree is made of again must not go; no change of a user's waits for this */
	epoch_drop_all(st, COW_DROP_FAULT); /* F-14 */
	return 0;
}

/* ---- attributes ---- */

static void time_from(int64_t *sec, uint32_t *ns, const struct statx_timestamp *t)
{
	*sec = t->tv_sec;
	*ns = t->tv_nsec;
}

void attr_from_statx(struct cow_attr *a, const struct statx *sx)
{
	*a = (struct cow_attr){
		.ino = sx->stx_ino,
		.mode = sx->stx_mode,
		.uid = sx->stx_uid,
		.gid = sx->stx_gid,
		.nlink = sx->stx_nlink,
		.blksize = sx->stx_blksize,
		.rdev_major = sx->stx_rdev_major,
		.rdev_minor = sx->stx_rdev_minor,
		.size = sx->stx_size,
		.blocks = sx->stx_blocks,
		.has_btime = sx->stx_mask & STATX_BTIME,
	};
	time_from(&a->atime, &a->atime_ns, &sx->stx_atime);
	time_from(&a->mtime, &a->mtime_ns, &sx->stx_mtime);
	time_from(&a->ctime, &a->ctime_ns, &sx->stx_ctime);
	if (a->has_btime)
		time_from(&a->btime, &a->btime_ns, &sx->stx_btime);
}

/* 1, 0, or -errno: it cannot be told. */
static int has_link(int dir_fd, uint64_t ino)
{
	struct statx sx;
	char name[24];
	int r;

	grave_name(name, ino);
	r = dir_fd < 0 ? -ENOENT : cow_file_statx(dir_fd, name, &sx);
	return r == 0 ? sx.stx_ino == ino : r == -ENOENT ? 0 : r;
}

static int extra_links(struct cow_store *st, uint64_t ino)
{
	int grave = atomic_load(&st->grave_used) ? has_link(st->grave_fd, ino) : 0;
	int trash = atomic_load(&st->trash_used) ? has_link(st->trash_fd, ino) : 0;

	return grave < 0 ? grave : trash < 0 ? trash : grave + trash;
}

unsigned cow_inode_extra_links(struct cow_store *st, uint64_t ino)
{
	int n = extra_links(st, ino);

	return n < 0 ? 0 : (unsigned)n;
}

/* Links that are ours do not show: the graveyard's, and the store's own directory in the root. */
int statx_fix_links(struct cow_store *st, struct statx *sx)
{
	int n = 0;

	if (S_ISDIR(sx->stx_mode))
		n = sx->stx_ino == st->root_ino && sx->stx_nlink > 2;
	else if (sx->stx_nlink >= 2)
		n = extra_links(st, sx->stx_ino);
	if (n < 0)
		return n;
	sx->stx_nlink -= (unsigned)n;
	return 0;
}

static int read_xattr(int fd, const char *name, struct cow_buf *block)
{
	CLEANUP(free_p) char *value = NULL;
	ssize_t size, len;

	for (;;) {
		size = cow_file_getxattr(fd, name, NULL, 0);
		if (size < 0)
			return size == -ENODATA || size == -EACCES || size == -EPERM ? 0
										     : (int)size;
		free(value);
		value = malloc((size_t)size + 1);
		if (!value)
			return -ENOMEM;
		size = cow_file_getxattr(fd, name, value, (size_t)size);
		if (size != -ERANGE)
			break; /* else it grew meanwhile */
	}
	if (size < 0)
		return size == -ENODATA ? 0 : (int)size;
	len = cow_format_add_xattr(block->data, block->len, block->size, name, value, (size_t)size);
	if (len < 0)
		return (int)len;
	block->len = (size_t)len;
	return 0;
}

/* There are more than a record holds, which is no fault of the store, and whoever may write one file can bring it about. Keep
 * those that opening the file depends on, then what fits, and say that there were more. `names` NULL: not even these fit. */
static int read_what_fits(int fd, const char *names, const char *end, struct cow_buf *block)
{
	int r = 0;

	block->len = 0;
	block->size = XATTRS_MAX - 1;
	for (const char *const *n = cow_format_vital_xattrs; r == 0 && *n; n++) {
		r = read_xattr(fd, *n, block);
		if (r == -EOPNOTSUPP)
			r = 0;
	}
	for (const char *n = names; r == 0 && n && n < end; n += strlen(n) + 1) {
		r = cow_format_xattr_is_vital(n) ? 0 : read_xattr(fd, n, block);
		if (r == -E2BIG)
			r = 0;
	}
	if (r == 0)
		block->len = cow_format_end_xattrs(block->data, block->len);
	return r;
}

/* All xattrs as one block. Most files have none: one system call then. */
int preserve_read_xattrs(int fd, struct cow_buf *block)
{
	CLEANUP(free_p) char *names = NULL;
	ssize_t len, got;
	int r = 0;

	len = cow_file_listxattr(fd, NULL, 0);
	if (len <= 0 && len != -E2BIG)
		return len == -EOPNOTSUPP || len == -ENOSYS ? 0 : (int)len;
	names = len < 0 ? NULL : malloc((size_t)len + 1);
	block->data = malloc(XATTRS_MAX);
	if ((len > 0 && !names) || !block->data)
		return -ENOMEM;
	if (!names)
		return read_what_fits(fd, NULL, NULL, block);
	block->size = XATTRS_MAX;
	got = cow_file_listxattr(fd, names, (size_t)len);
	if (got < 0)
		return (int)got;
	names[got] = '\0';
	for (const char *n = names; r == 0 && n < names + got; n += strlen(n) + 1)
		r = read_xattr(fd, n, block);
	return r == -E2BIG ? read_what_fits(fd, names, names + got, block) : r;
}

static int put_attr(struct cow_store *st, struct epoch *e, const struct cow_attr *a)
{
	uint8_t small[1024];
	CLEANUP(free_p) uint8_t *large = NULL;
	uint8_t *buf = small;
	ssize_t len;

	if (a->xattrs_len > sizeof(small) - 256) {
		buf = large = malloc(a->xattrs_len + 512);
		if (!large)
			return -ENOMEM;
	}
	len = cow_format_attr(buf, st->seed, e->id, a);
	return len < 0 ? (int)len : preserve_put(st, e, buf, (size_t)len);
}

static int save_attr_locked(struct cow_store *st, struct epoch *e, struct cow_inode *ci, int fd)
{
	CLEANUP(cow_buf_done) struct cow_buf xattrs = { 0 };
	struct cow_attr attr;
	struct statx sx;
	int r;

	r = inode_learn(st, ci, e);
	if (r < 0 || ci->born || ci->attr_saved)
		return r;
	r = cow_file_statx(fd, "", &sx);
	if (r < 0)
		return r;
	r = preserve_read_xattrs(fd, &xattrs);
	if (r < 0)
		return r;
	/* Not the generation: this may be a change that was under way when the last snapshot was dropped, and the next
	 * one opens in a new era, in which the record we write now counts for nothing. */
	if (ci->placed_in != atomic_load(&st->era)) {
		r = place_ensure(st, e, ci->ino);
		if (r < 0)
			return r;
		ci->placed_in = atomic_load(&st->era);
	}
	r = statx_fix_links(st, &sx);
	if (r < 0)
		return r;
	attr_from_statx(&attr, &sx);
	attr.xattrs = xattrs.data;
	attr.xattrs_len = xattrs.len;
	r = put_attr(st, e, &attr);
	if (r < 0)
		return r;
	ci->attr_saved = true;
	ci->size = attr.size;
	atomic_fetch_add(&e->changed, 1);
	return 0;
}

int preserve_attr_in(struct cow_store *st, struct epoch *e, struct cow_inode *ci, int fd)
{
	int r;

	ulock_lock(&ci->lock);
	r = save_attr_locked(st, e, ci, fd);
	ulock_unlock(&ci->lock);
	return r;
}

int preserve_attr(struct cow_store *st, struct cow_inode *ci, int fd)
{
	struct epoch *e = epoch_newest(st);

	return e && ci ? preserve_attr_in(st, e, ci, fd) : 0;
}

int preserve_is_born(struct cow_store *st, struct cow_inode *ci, bool *ret)
{
	struct epoch *e = epoch_newest(st);
	int r = 0;

	*ret = true;
	if (!e || !ci)
		return 0;
	ulock_lock(&ci->lock);
	r = inode_learn(st, ci, e);
	*ret = ci->born;
	ulock_unlock(&ci->lock);
	return r;
}

/* A newborn: whatever happens to it no live snapshot sees. Losing this record costs needless preserving, no more. */
void preserve_born(struct cow_store *st, struct cow_inode *ci)
{
	struct epoch *e = epoch_newest(st);
	uint8_t buf[64];
	ssize_t len;

	if (!e)
		return;
	inode_set_born(st, ci, e);
	len = cow_format_birth(buf, st->seed, e->id, ci->ino);
	if (len > 0 && preserve_put(st, e, buf, (size_t)len) < 0)
		log_debug("birth of inode %llu not recorded", (unsigned long long)ci->ino);
}

/* ---- data ---- */

struct saver {
	struct cow_store *st;
	struct epoch *e;
	struct cow_inode *ci;
	int fd;
	uint8_t *recs; /* RECS_PER_APPEND of DATA_REC_SIZE */
	size_t n_recs;
	uint8_t *payload; /* RUN_CLUSTERS of COW_CLUSTER_SIZE */
};

static int flush_recs(struct saver *s)
{
	int r = 0;

	if (!s->n_recs)
		return 0;
	r = epochfile_append(s->st, s->e, s->recs, s->n_recs * DATA_REC_SIZE);
	for (size_t i = 0; r == 0 && i < s->n_recs; i++) {
		struct cow_rec rec = cow_format_view(s->recs + i * DATA_REC_SIZE, DATA_REC_SIZE);

		r = preserve_index(s->st, &rec);
	}
	s->n_recs = 0;
	return r;
}

static int add_rec(struct saver *s, const struct cow_data *d)
{
	ssize_t len = cow_format_data(s->recs + s->n_recs * DATA_REC_SIZE, s->st->seed, s->e->id,
				      d);

	if (len != DATA_REC_SIZE)
		return -EINVAL;
	return ++s->n_recs == RECS_PER_APPEND ? flush_recs(s) : 0;
}

int preserve_next_block(struct cow_store *st, uint64_t ino, uint64_t epoch, unsigned level,
			uint64_t c, uint64_t limit, uint64_t *ret_block, uint64_t *ret_label,
			struct cow_buf *val)
{
	uint8_t key[COW_KEY_MAX], at[COW_INDEX_KEY_MAX];
	size_t len, at_len, prefix = cow_key_level_prefix(key, ino, level);
	uint64_t block = c >> level;
	int r;

	for (;;) {
		len = cow_key_data(key, ino, level, block, epoch);
		r = cow_index_get_ge(st->index, key, len, prefix, at, &at_len, val);
		if (r < 0)
			return r;
		*ret_block = cow_key_get_block(at);
		*ret_label = cow_key_get_epoch(at, at_len);
		if (*ret_block << level >= limit)
			return -ENOENT;
		if (*ret_label >= epoch)
			return 0;
		block = *ret_block; /* has older records at least: ask for ours */
	}
}

/* The first cluster from c on that is saved already, and where that ends; both `end` when all needs saving. */
static int next_saved(struct saver *s, uint64_t c, uint64_t end, uint64_t *ret_from,
		      uint64_t *ret_to)
{
	uint64_t from = inode_next(s->ci, c, end, true), block, label;
	uint64_t to = from < end ? inode_next(s->ci, from, end, false) : end;
	int r;

	for (unsigned i = 0; !s->ci->coverage_whole && i < HOLE_LEVELS; i++) {
		unsigned level = hole_levels[i];

		r = preserve_next_block(s->st, s->ci->ino, s->e->id, level, c, from, &block, &label,
					NULL);
		if (r == -ENOENT)
			continue;
		if (r < 0)
			return r;
		from = block << level > c ? block << level : c;
		to = (block + 1) << level < end ? (block + 1) << level : end;
	}
	*ret_from = from;
	*ret_to = to;
	return 0;
}

static int save_hole(struct saver *s, uint64_t c, uint64_t end)
{
	uint64_t first = c;
	int r = 0;

	while (r == 0 && c < end) {
		unsigned i = HOLE_LEVELS - 1;

		while (i > 0 && (c & ((UINT64_C(1) << hole_levels[i]) - 1) ||
				 c + (UINT64_C(1) << hole_levels[i]) > end))
			i--;
		r = add_rec(s, &(struct cow_data){ .ino = s->ci->ino,
						   .level = hole_levels[i],
						   .block = c >> hole_levels[i] });
		c += UINT64_C(1) << hole_levels[i];
	}
	if (r == 0)
		r = flush_recs(s);
	return r < 0 ? r : inode_cover(s->ci, first, end - first);
}

static int take_space(struct saver *s, uint64_t len, uint64_t *ret_off)
{
	uint64_t total = atomic_fetch_add(&s->st->stored_total, len) + len;

	if (s->st->opt.max_bytes && total > s->st->opt.max_bytes) {
		atomic_fetch_sub(&s->st->stored_total, len);
		return -ENOSPC;
	}
	*ret_off = atomic_fetch_add(&s->e->dat_end, len);
	atomic_fetch_add(&s->e->stored, len);
	return 0;
}

/* Read n clusters at c, or as much of them as the file had at the opening; -EIO when it is shorter now. */
static ssize_t read_payload(struct saver *s, uint64_t c, uint64_t n)
{
	uint64_t bytes = n * COW_CLUSTER_SIZE, start = c * COW_CLUSTER_SIZE;
	ssize_t got;

	if (start + bytes > s->ci->size)
		bytes = s->ci->size - start;
	got = cow_file_pread(s->fd, s->payload, bytes, (off_t)start);
	if (got >= 0 && (uint64_t)got != bytes)
		return -EIO; /* what was cut off is saved already, so the rest must be there */
	return got;
}

/* Store what was read of n clusters at c. */
static int store_payload(struct saver *s, uint64_t c, uint64_t n, uint64_t bytes)
{
	struct cow_data d = { .ino = s->ci->ino, .dat = s->e->id };
	uint64_t off = 0;
	int r;

	r = take_space(s, n * COW_CLUSTER_SIZE, &off);
	if (r < 0)
		return r;
	r = cow_file_pwrite_all(s->e->dat_fd, s->payload, bytes, (off_t)off);
	for (uint64_t i = 0; r == 0 && i < n; i++) {
		uint64_t at = i * COW_CLUSTER_SIZE;

		d.block = c + i;
		d.off = off + at;
		d.len = bytes - at < COW_CLUSTER_SIZE ? (uint32_t)(bytes - at) : COW_CLUSTER_SIZE;
		d.hash = cow_hash(s->payload + at, d.len, s->st->seed);
		r = add_rec(s, &d);
	}
	if (r == 0)
		r = flush_recs(s);
	if (r < 0) {
		atomic_fetch_sub(&s->st->stored_total, n * COW_CLUSTER_SIZE);
		atomic_fetch_sub(&s->e->stored, n * COW_CLUSTER_SIZE);
	}
	return r < 0 ? r : inode_cover(s->ci, c, n);
}

static int save_payload(struct saver *s, uint64_t c, uint64_t n)
{
	ssize_t got = read_payload(s, c, n);

	return got < 0 ? (int)got : store_payload(s, c, n, (uint64_t)got);
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* One cluster, the most frequent change: where it has a byte that is not zero it is no hole, which saves asking for one.
 * Returns 1 when it was saved, 0 when it may be a hole. */
static int save_one(struct saver *s, uint64_t c)
{
	ssize_t got = read_payload(s, c, 1);
	int r;

	if (got < 0)
		return (int)got;
	if (all_zero(s->payload, (size_t)got))
		return 0;
	r = store_payload(s, c, 1, (uint64_t)got);
	return r < 0 ? r : 1;
}

/* Save some of [c, end), none of it saved; *ret_n says how many clusters. */
static int save_some(struct saver *s, uint64_t c, uint64_t end, uint64_t *ret_n)
{
	off_t start = (off_t)(c * COW_CLUSTER_SIZE), data, hole;
	uint64_t to = end;
	int r;

	*ret_n = 1;
	r = end - c == 1 ? save_one(s, c) : 0;
	if (r != 0)
		return r < 0 ? r : 0;
	data = cow_file_seek(s->fd, start, SEEK_DATA);
	if (data == -ENXIO)
		data = (off_t)(end * COW_CLUSTER_SIZE); /* a hole up to the end of the file */
	if (data >= 0 && (uint64_t)data / COW_CLUSTER_SIZE > c) {
		if ((uint64_t)data / COW_CLUSTER_SIZE < end)
			to = (uint64_t)data / COW_CLUSTER_SIZE;
		*ret_n = to - c;
		return save_hole(s, c, to);
	}
	if (end - c > RUN_CLUSTERS)
		to = end = c + RUN_CLUSTERS;
	if (data >= 0 && end - c > 1) {
		hole = cow_file_seek(s->fd, data, SEEK_HOLE);
		if (hole > data && ((uint64_t)hole + COW_CLUSTER_SIZE - 1) / COW_CLUSTER_SIZE < end)
			to = ((uint64_t)hole + COW_CLUSTER_SIZE - 1) / COW_CLUSTER_SIZE;
	}
	*ret_n = to - c;
	return save_payload(s, c, to - c);
}

static int save_range(struct saver *s, uint64_t c, uint64_t end)
{
	uint64_t from, to, n;
	unsigned steps = 0;
	int r;

	while (c < end) {
		r = next_saved(s, c, end, &from, &to);
		if (r < 0)
			return r;
		while (c < from) {
			if (steps++ && cow_gate_closing(s->st))
				return -EAGAIN; /* a hold must not wait for a long copy (LONG in change.h) */
			r = save_some(s, c, from, &n);
			if (r < 0)
				return r;
			c += n;
		}
		c = to;
		if (steps++ > 1024 && cow_gate_closing(s->st))
			return -EAGAIN;
	}
	return 0;
}

/* The common case, a write of a cluster or few, needs no memory but the stack. */
static int save_data_locked(struct saver *s, uint64_t c, uint64_t end)
{
	enum { FEW = 4 };
	uint8_t recs[FEW * DATA_REC_SIZE], payload[FEW * COW_CLUSTER_SIZE];
	CLEANUP(free_p) uint8_t *heap = NULL;

	if (end - c <= FEW) {
		s->recs = recs;
		s->payload = payload;
	} else {
		heap = malloc(RECS_PER_APPEND * DATA_REC_SIZE +
			      (size_t)RUN_CLUSTERS * COW_CLUSTER_SIZE);
		if (!heap)
			return -ENOMEM;
		s->recs = heap;
		s->payload = heap + RECS_PER_APPEND * DATA_REC_SIZE;
	}
	return save_range(s, c, end);
}

int preserve_data(struct cow_store *st, struct cow_inode *ci, int fd, off_t off, off_t len_bytes)
{
	struct saver s = { .st = st, .e = epoch_newest(st), .ci = ci, .fd = fd };
	uint64_t end;
	int r;

	if (!s.e || !ci || len_bytes <= 0)
		return 0;
	ulock_lock(&ci->lock);
	r = save_attr_locked(st, s.e, ci, fd);
	if (r == 0 && !ci->born && (uint64_t)off < ci->size) {
		end = (uint64_t)len_bytes > ci->size - (uint64_t)off
			      ? ci->size
			      : (uint64_t)off + (uint64_t)len_bytes;
		r = save_data_locked(&s, (uint64_t)off / COW_CLUSTER_SIZE,
				     (end + COW_CLUSTER_SIZE - 1) / COW_CLUSTER_SIZE);
	}
	ulock_unlock(&ci->lock);
	return r;
}

/* ---- names ---- */

static int save_name_locked(struct cow_store *st, struct epoch *e, struct cow_inode *dir,
			    int dir_fd, const char *name)
{
	struct cow_name n = { .dir = dir->ino, .name = name, .name_len = strlen(name) };
	uint8_t key[COW_KEY_MAX], buf[512];
	struct statx sx;
	ssize_t len;
	int r;

	if (n.name_len > COW_NAME_MAX_LEN)
		return 0; /* nothing can be made of it: ENAMETOOLONG below */
	r = inode_learn(st, dir, e);
	if (r < 0 || dir->born)
		return r;
	len = (ssize_t)cow_key_name(key, dir->ino, name, n.name_len, e->id);
	r = cow_index_get_ge(st->index, key, (size_t)len, (size_t)len - COW_KEY_EPOCH_LEN, NULL,
			     NULL, NULL);
	if (r != -ENOENT)
		return r;
	r = cow_file_statx(dir_fd, name, &sx);
	if (r == 0 && stat_is_ours(st, &sx)) {
		n.target = sx.stx_ino;
		n.type = IFTODT(sx.stx_mode);
	} else if (r < 0 && r != -ENOENT) {
		return r;
	}
	if (r == 0 && !n.target)
		return 0; /* a mount below: the change will be refused (EBUSY) */
	n.seq = atomic_fetch_add(&st->name_seq, 1) + 1;
	len = cow_format_name(buf, st->seed, e->id, &n);
	return len < 0 ? (int)len : preserve_put(st, e, buf, (size_t)len);
}

int preserve_name(struct cow_store *st, struct cow_inode *dir, int dir_fd, const char *name)
{
	struct epoch *e = epoch_newest(st);
	int r;

	if (!e || !dir)
		return 0;
	ulock_lock(&dir->lock);
	r = save_attr_locked(st, e, dir, dir_fd);
	if (r == 0)
		r = save_name_locked(st, e, dir, dir_fd, name);
	ulock_unlock(&dir->lock);
	return r;
}
