/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Giving back what a dropped epoch held, on a thread of its own.
 *
 * Let e be dropped and p its heir: the newest live epoch below it. A record of e is still needed when it is what p would
 * find, that is, when no record of the same thing has a label from p up to e. Such a record gets p's label, and p inherits
 * the right to e's data file; all others go, and their clusters are punched out of it. Without an heir all records go.
 * Last, when no epoch lives, everything is forgotten at once.
 *
 * A crash in the middle does no harm: the doomed epoch's log stays until all of it was settled, and settling a record
 * twice finds nothing to do. Nor does a power cut: that the epoch ended is on disk before anything of it is given back, and
 * what was handed on, before the log that it came from goes. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cow/base/bytes.h"
#include "cow/base/cleanup.h"
#include "cow/base/clock.h"
#include "cow/base/log.h"
#include "cow/epoch.h"
#include "cow/file.h"
#include "cow/gate.h"
#include "cow/store_private.h"

#define BATCH_RECORDS 512u
#define GATE_LOOK_MS 5

struct job {
	struct cow_store *st;
	struct epoch *e;    /* being reclaimed */
	struct epoch *heir; /* counted, or NULL */
	struct epoch
		*keeper; /* whose log keeps PLACE records: heir, or the oldest live one; counted */
	struct cow_index_batch *batch;
	unsigned n;
	uint64_t kept_bytes; /* relabelled payload */
	bool handed_on;	     /* something went into the keeper's log */
	uint64_t places[BATCH_RECORDS];
	unsigned
		n_places; /* inodes whose PLACE record goes with e's log: to be written down elsewhere */
	/* inodes whose last recorded name went with this batch: maybe to leave the graveyard */
	uint64_t targets[BATCH_RECORDS];
	unsigned n_targets;
	struct { /* payload to punch after the batch's commit */
		uint64_t dat, off, len;
	} holes[BATCH_RECORDS];
	unsigned n_holes;
};

/* ---- graveyard ---- */

/* Does any snapshot still know a name of this inode? */
bool reclaim_has_names(struct cow_store *st, uint64_t target)
{
	uint8_t key[COW_KEY_MAX];
	size_t len = cow_key_back_prefix(key, target);

	return cow_index_get_ge(st->index, key, len, len, NULL, NULL, NULL) != -ENOENT;
}

/* This moves the inode's change time: after the session's end that would pass for a change which nobody watched. The link
 * costs nothing meanwhile, and goes with the last snapshot. */
static void unlink_ours(struct cow_store *st, int dir_fd, const char *name)
{
	ulock_lock(&st->end_lock);
	if (dir_fd != st->grave_fd || !atomic_load(&st->end_ns))
		cow_file_unlinkat(dir_fd, name, 0);
	ulock_unlock(&st->end_lock);
}

/* An inode that still has live names loses our link: that shows in its ctime, so save it for newer snapshots first. */
static void bury_linked(struct cow_store *st, int dir_fd, const char *name, uint64_t ino)
{
	CLEANUP(close_p) int fd = cow_file_openat(dir_fd, name, O_PATH | O_NOFOLLOW, 0);
	struct cow_inode *ci = cow_inode_get(st, ino);
	int r = fd < 0 ? fd : ci ? 1 : -ENOMEM;

	gate_exclusive(st); /* nobody removes another name of it now and counts on our link */
	while (r == 1)
		r = preserve_settle(st, preserve_attr(st, ci, fd));
	if (r == 0 && (dir_fd != st->grave_fd || !reclaim_has_names(st, ino)))
		unlink_ours(st, dir_fd, name);
	gate_exclusive_end(st);
	cow_inode_put(st, ci);
}

static void bury(struct cow_store *st, uint64_t ino)
{
	struct statx sx;
	char name[24];

	grave_name(name, ino);
	if (cow_file_statx(st->grave_fd, name, &sx) < 0)
		return;
	if (reclaim_has_names(
		    st,
		    ino)) /* asked last: what we saw in the graveyard had its name recorded before */
		return;
	if (S_ISDIR(sx.stx_mode)) {
		place_forget_dirs(st);
		cow_file_unlinkat(st->grave_fd, name, AT_REMOVEDIR);
	} else if (sx.stx_nlink > 1) {
		bury_linked(st, st->grave_fd, name, ino);
	} else {
		cow_file_unlinkat(st->grave_fd, name, 0);
	}
}

static int is_newer(void *arg, const void *key, size_t key_len, const void *val, size_t val_len)
{
	(void)val;
	(void)val_len;
	return cow_key_get_epoch(key, key_len) > *(const uint64_t *)arg;
}

/* The same before the index has let go of what nobody looks for any more: labels up to `epoch`. One that still has live names is
 * left for later, since losing our link is a change to be preserved, which takes room. */
static void bury_early(struct cow_store *st, uint64_t ino, uint64_t epoch)
{
	uint8_t key[COW_KEY_MAX];
	struct statx sx;
	char name[24];

	grave_name(name, ino);
	if (cow_file_statx(st->grave_fd, name, &sx) < 0 ||
	    (!S_ISDIR(sx.stx_mode) && sx.stx_nlink > 1))
		return;
	if (cow_index_scan(st->index, key, cow_key_back_prefix(key, ino), NULL, 0, is_newer,
			   &epoch) != 0)
		return;
	if (S_ISDIR(sx.stx_mode))
		place_forget_dirs(st);
	cow_file_unlinkat(st->grave_fd, name, S_ISDIR(sx.stx_mode) ? AT_REMOVEDIR : 0);
}

/* ---- one record ---- */

/* Copy a record into another epoch's log; its index entry is written by the caller. */
static int relog(struct job *j, struct epoch *to, enum cow_rec_kind kind, const void *body,
		 size_t body_len)
{
	CLEANUP(free_p) uint8_t *buf = malloc(COW_REC_HEADER + body_len + 8);
	ssize_t len;

	if (!buf)
		return -ENOMEM;
	j->handed_on = true;
	len = cow_format_relabel(buf, j->st->seed, to->id, kind, body, body_len);
	return len < 0 ? (int)len : epochfile_append(j->st, to, buf, (size_t)len);
}

/* Where something lives matters as long as any snapshot does: what the index knows now goes into a log that stays. Under
 * the lock that renames take, so that an older place never comes after a newer one. */
static int keep_places(struct job *j)
{
	CLEANUP(cow_buf_done) struct cow_buf val = { 0 };
	uint8_t key[COW_KEY_MAX];
	int r = 0;

	for (unsigned i = 0; i < j->n_places && j->keeper && r == 0; i++) {
		ulock_lock(&j->st->loc_lock);
		r = cow_index_get(j->st->index, key, cow_key_place(key, j->places[i]), &val);
		if (r == 0)
			r = relog(j, j->keeper, COW_REC_PLACE, val.data, val.len);
		else if (r == -ENOENT)
			r = 0;
		ulock_unlock(&j->st->loc_lock);
	}
	j->n_places = 0;
	return r;
}

static int batch_commit(struct job *j)
{
	struct cow_store *st = j->st;
	int r = 0;

	if (j->batch)
		r = cow_index_batch_commit(TAKE(j->batch));
	j->n = 0;
	if (r < 0)
		return r;
	for (unsigned i = 0; i < j->n_holes; i++) {
		int fd = epochfile_dat_fd(st, j->e, j->holes[i].dat);

		if (fd >= 0)
			cow_file_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					   (off_t)j->holes[i].off, (off_t)j->holes[i].len);
	}
	j->n_holes = 0;
	for (unsigned i = 0; i < j->n_targets; i++)
		bury(st, j->targets[i]);
	j->n_targets = 0;
	return keep_places(j);
}

static int batch_ready(struct job *j)
{
	int r = 0;

	if (j->n_holes == BATCH_RECORDS || j->n_targets == BATCH_RECORDS ||
	    j->n_places == BATCH_RECORDS || j->n >= BATCH_RECORDS)
		r = batch_commit(j);
	if (r == 0 && !j->batch)
		r = cow_index_batch_begin(j->st->index, &j->batch);
	j->n++;
	return r;
}

static void add_hole(struct job *j, const struct cow_data *d)
{
	typeof(&j->holes[0]) last = j->n_holes ? &j->holes[j->n_holes - 1] : NULL;

	if (!j->heir || !d->dat)
		return; /* nobody else reads the file: it goes as a whole */
	if (last && last->dat == d->dat && last->off + last->len == d->off) {
		last->len += COW_CLUSTER_SIZE;
		return;
	}
	j->holes[j->n_holes].dat = d->dat;
	j->holes[j->n_holes].off = d->off;
	j->holes[j->n_holes++].len = COW_CLUSTER_SIZE;
}

/* Is this what the heir would find? Also tells where the record stands that it finds instead. */
static int heir_needs(struct job *j, const uint8_t *key, size_t len, bool *ret,
		      struct cow_buf *found)
{
	uint8_t from[COW_KEY_MAX], at[COW_INDEX_KEY_MAX];
	size_t at_len;
	int r;

	*ret = false;
	if (!j->heir)
		return 0;
	memcpy(from, key, len);
	put_be64(from + len - COW_KEY_EPOCH_LEN, j->heir->id);
	r = cow_index_batch_get_ge(j->batch, from, len, len - COW_KEY_EPOCH_LEN, at, &at_len,
				   found);
	if (r == 0)
		*ret = cow_key_get_epoch(at, at_len) == j->e->id;
	return r == -ENOENT ? 0 : r;
}

/* A larger hole with a smaller label stands for the cluster already. (A smaller one inside ours wins by itself, since of
 * two records with one label the lower level is believed: vfile.c.) */
static int heir_has_hole(struct job *j, const struct cow_data *d, bool *ret)
{
	uint8_t key[COW_KEY_MAX], at[COW_INDEX_KEY_MAX];
	uint64_t cluster = d->block << d->level;
	size_t len, at_len;
	int r;

	*ret = false;
	for (unsigned i = 0; i < HOLE_LEVELS; i++) {
		if (hole_levels[i] <= d->level)
			continue;
		len = cow_key_data(key, d->ino, hole_levels[i], cluster >> hole_levels[i],
				   j->heir->id);
		r = cow_index_batch_get_ge(j->batch, key, len, len - COW_KEY_EPOCH_LEN, at, &at_len,
					   NULL);
		if (r == 0 && cow_key_get_epoch(at, at_len) < j->e->id)
			*ret = true;
		if (r < 0 && r != -ENOENT)
			return r;
	}
	return 0;
}

static int move_key(struct job *j, uint8_t *key, size_t len, const struct cow_rec *r, bool keep)
{
	int e = cow_index_batch_del(j->batch, key, len);

	if (e < 0 || !keep)
		return e;
	put_be64(key + len - COW_KEY_EPOCH_LEN, j->heir->id);
	return cow_index_batch_put(j->batch, key, len, r->body, r->body_len);
}

static int settle_name(struct job *j, const struct cow_rec *r, bool keep)
{
	uint8_t key[COW_KEY_MAX];
	struct cow_name n;
	size_t len;
	int e;

	e = cow_format_get_name(r->body, r->body_len, &n);
	if (e < 0 || !n.target)
		return e;
	len = cow_key_back(key, n.target, n.dir, n.name, n.name_len, j->e->id);
	e = cow_index_batch_del(j->batch, key, len);
	if (e == 0 && keep) {
		put_be64(key + len - COW_KEY_EPOCH_LEN, j->heir->id);
		e = cow_index_batch_put(j->batch, key, len, "", 0);
	} else if (e == 0) {
		j->targets[j->n_targets++] = n.target;
	}
	return e;
}

static int settle_data(struct job *j, const struct cow_rec *r, bool keep,
		       const struct cow_buf *found)
{
	struct cow_data d, other;
	int e = cow_format_get_data(r->body, r->body_len, &d);

	if (e < 0)
		return e;
	if (keep)
		j->kept_bytes += d.dat ? COW_CLUSTER_SIZE : 0;
	/* After a rebuilt index the heir's copy of this very record may be there already: its payload stays. */
	else if (!found->len || cow_format_get_data(found->data, found->len, &other) < 0 ||
		 other.dat != d.dat || other.off != d.off)
		add_hole(j, &d);
	return 0;
}

static int settle_birth(struct job *j, uint8_t *key, size_t len, const struct cow_rec *r)
{
	CLEANUP(cow_buf_done) struct cow_buf val = { 0 };
	uint8_t epoch[8];
	int e;

	e = cow_index_batch_get(j->batch, key, len, &val);
	if (e == -ENOENT || (e == 0 && (val.len < 8 || get_be64(val.data) != j->e->id)))
		return 0; /* the number was given to another newborn since */
	if (e < 0)
		return e;
	if (!j->heir)
		return cow_index_batch_del(j->batch, key, len);
	e = relog(j, j->heir, r->kind, r->body, r->body_len);
	put_be64(epoch, j->heir->id);
	return e < 0 ? e : cow_index_batch_put(j->batch, key, len, epoch, sizeof(epoch));
}

/* It is in the index no more, but a kill may have come between that and the burying, which finds out by itself. */
static int settled_before(struct job *j, const struct cow_rec *r)
{
	struct cow_name n;
	int e = r->kind == COW_REC_NAME ? cow_format_get_name(r->body, r->body_len, &n) : 0;

	if (e == 0 && r->kind == COW_REC_NAME && n.target)
		j->targets[j->n_targets++] = n.target;
	return e;
}

static int settle_place(struct job *j, const struct cow_rec *r)
{
	return cow_format_get_ino(r->body, r->body_len, &j->places[j->n_places++]);
}

static int settle(void *arg, const struct cow_rec *r, uint64_t at)
{
	CLEANUP(cow_buf_done) struct cow_buf found = { 0 };
	struct job *j = arg;
	uint8_t key[COW_KEY_MAX];
	struct cow_data d;
	size_t len;
	bool keep;
	int e;

	(void)at;
	e = cow_format_key(r, key, &len);
	if (e < 0 || len == 0)
		return e;
	e = batch_ready(j);
	if (e < 0)
		return e;
	if (r->kind == COW_REC_BIRTH)
		return settle_birth(j, key, len, r);
	if (r->kind == COW_REC_PLACE)
		return settle_place(j, r);
	e = cow_index_batch_get(j->batch, key, len, NULL);
	if (e < 0)
		return e == -ENOENT ? settled_before(j, r) : e;
	e = heir_needs(j, key, len, &keep, &found);
	if (e == 0 && keep && r->kind == COW_REC_DATA) {
		bool hole;

		e = cow_format_get_data(r->body, r->body_len, &d);
		if (e == 0)
			e = heir_has_hole(j, &d, &hole);
		keep = e == 0 && !hole;
		if (!keep)
			found.len = 0; /* nobody has this payload then */
	}
	if (e == 0 && keep)
		e = relog(j, j->heir, r->kind, r->body, r->body_len);
	if (e == 0 && r->kind == COW_REC_NAME)
		e = settle_name(j, r, keep);
	if (e == 0 && r->kind == COW_REC_DATA)
		e = settle_data(j, r, keep, &found);
	return e < 0 ? e : move_key(j, key, len, r, keep);
}

/* ---- one epoch ---- */

/* The heir may need data out of e's file and out of those that e itself inherited. */
static int bequeath_one(struct epoch *heir, uint64_t dat, int dat_fd)
{
	struct heirloom *grown;
	int fd;

	for (size_t i = 0; i < heir->n_heirlooms; i++)
		if (heir->heirlooms[i].dat == dat)
			return 0; /* found so when the store was opened */
	grown = realloc(heir->heirlooms, (heir->n_heirlooms + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	heir->heirlooms = grown;
	fd = dat_fd < 0 ? -1 : fcntl(dat_fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0 && dat_fd >= 0)
		return -errno;
	grown[heir->n_heirlooms++] = (struct heirloom){ dat, fd };
	return 0;
}

static int bequeath(struct job *j)
{
	struct epoch *e = j->e, *h = j->heir;
	int r = bequeath_one(h, e->id, e->dat_fd);

	for (size_t i = 0; r == 0 && i < e->n_heirlooms; i++)
		r = bequeath_one(h, e->heirlooms[i].dat, e->heirlooms[i].fd);
	return r;
}

static int settle_log(struct job *j)
{
	uint64_t end;
	int r;

	r = cow_index_flush(j->st->index);
	if (r == 0 && j->heir) {
		ulock_lock(&j->st->epochs_lock);
		r = bequeath(j);
		ulock_unlock(&j->st->epochs_lock);
	}
	if (r == 0)
		r = epochfile_each(j->st, j->e->log_fd, 0, settle, j, &end);
	if (r == 0)
		r = batch_commit(j);
	cow_index_batch_abort(TAKE(j->batch));
	return r;
}

static int bury_target(void *arg, const struct cow_rec *r, uint64_t at)
{
	struct job *j = arg;
	struct cow_name n;

	(void)at;
	if (r->kind == COW_REC_NAME && cow_format_get_name(r->body, r->body_len, &n) == 0 &&
	    n.target)
		bury_early(j->st, n.target, j->e->id);
	return 0;
}

/* Settling needs room before it gives any back: the index copies what it changes. With no heir nobody reads what e held, so
 * that can go first. That it was dropped is on disk by now. */
static int make_room(struct job *j)
{
	struct epoch *e = j->e;
	uint64_t end;

	cow_file_truncate(e->dat_fd, 0);
	for (size_t i = 0; i < e->n_heirlooms; i++)
		if (e->heirlooms[i].fd >= 0)
			cow_file_truncate(e->heirlooms[i].fd, 0);
	atomic_fetch_sub(&j->st->stored_total, atomic_exchange(&e->stored, 0));
	return epochfile_each(j->st, e->log_fd, 0, bury_target, j, &end);
}

/* Settle again from the start: what was settled is passed by. */
static int settle_in_new_room(struct job *j)
{
	int r = make_room(j);

	j->n = j->n_targets = j->n_holes = j->n_places = 0;
	return r < 0 ? r : settle_log(j);
}

static void count_out_stored(struct job *j)
{
	uint64_t all = atomic_exchange(&j->e->stored, 0);
	uint64_t kept = j->kept_bytes < all ? j->kept_bytes : all;

	atomic_fetch_sub(&j->st->stored_total, all - kept);
	if (j->heir)
		atomic_fetch_add(&j->heir->stored, kept);
}

/* The heir must have all of it, and be known to have it, before the log goes. */
static int record_dropped(struct job *j)
{
	struct cow_control c = { .epoch = j->e->id, .heir = j->heir ? j->heir->id : 0 };
	int r = j->handed_on ? cow_file_fdatasync(j->keeper->log_fd) : 0;

	if (r == 0)
		r = epochfile_control(j->st, COW_REC_DROPPED, &c);
	return r < 0 || !j->heir ? r : cow_file_fdatasync(j->st->control_fd);
}

static void unlink_files(struct job *j)
{
	if (record_dropped(j) < 0)
		return; /* no room: the next start does it again */
	if (!j->heir) {
		epochfile_unlink_dat(j->st, j->e->id);
		for (size_t i = 0; i < j->e->n_heirlooms; i++)
			epochfile_unlink_dat(j->st, j->e->heirlooms[i].dat);
	}
	epochfile_unlink_log(j->st, j->e->id);
}

/* Who takes over what is left of a dropped epoch. epochs_lock held. */
static void find_heirs_locked(struct job *j)
{
	struct cow_store *st = j->st;

	for (struct epoch *i = st->last; i && !j->heir; i = i->older)
		if (i->id < j->e->id)
			j->heir = epoch_ref(i);
	j->keeper = j->heir ? epoch_ref(j->heir) : st->oldest ? epoch_ref(st->oldest) : NULL;
}

static int record_late(struct cow_store *st, struct epoch *e)
{
	int r = 0;

	ulock_lock(&st->epochs_lock);
	if (e->unrecorded)
		r = epoch_record_drop_locked(st, e);
	ulock_unlock(&st->epochs_lock);
	return r;
}

/* Returns 0, or -errno: older snapshots still find some of it by its old label. */
static int reclaim_epoch(struct cow_store *st, struct job *j)
{
	struct epoch *e = j->e;
	uint8_t key[COW_KEY_MAX];
	struct cow_index_batch *b;
	size_t len;
	int r;

	r = record_late(st, e);
	if (r == 0)
		r = cow_file_fdatasync(st->control_fd);
	if (r == 0)
		r = settle_log(j);
	if (r == -ENOSPC && !j->heir)
		r = settle_in_new_room(j);
	if (r < 0) {
		log_error("space of a dropped snapshot (epoch %llu) was not given back: %s",
			  (unsigned long long)e->id, strerror(-r));
	} else {
		count_out_stored(j);
		unlink_files(j);
		len = cow_key_mark(key, e->id);
		if (cow_index_batch_begin(st->index, &b) == 0) {
			cow_index_batch_del(b, key, len);
			cow_index_batch_commit(b); /* a mark left behind is never asked for again */
		}
	}
	epoch_unref(j->heir);
	epoch_unref(j->keeper);
	return r;
}

/* ---- everything ---- */

/* An empty graveyard takes the old one's place in one step; the old one becomes the trash. */
static int replace_grave(struct cow_store *st)
{
	CLEANUP(close_p) int fd = -1;
	int dir = st->grave_parent_fd, r;

	r = cow_file_mkdirat(dir, "grave.new", 0700);
	if (r < 0 && r != -EEXIST)
		return r;
	fd = cow_file_openat(dir, "grave.new", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	r = cow_file_renameat(dir, "grave.new", dir, "grave", RENAME_EXCHANGE);
	if (r < 0)
		return r;
	dup3(st->grave_fd, st->trash_fd,
	     O_CLOEXEC); /* whoever looks into it just now is not disturbed */
	atomic_store(&st->trash_used, true);
	dup3(fd, st->grave_fd, O_CLOEXEC);
	return cow_file_renameat(dir, "grave.new", dir, "trash", 0);
}

static void empty_trash(struct cow_store *st, bool alone)
{
	CLEANUP(closedir_p) DIR *d = NULL;
	const struct dirent *e;
	struct statx sx;
	int fd = cow_file_openat(st->trash_fd, ".", O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0)
		return;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return;
	}
	while ((e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
		    cow_file_statx(fd, e->d_name, &sx) < 0)
			continue;
		if (!alone && !S_ISDIR(sx.stx_mode) && sx.stx_nlink > 1)
			bury_linked(st, st->trash_fd, e->d_name, sx.stx_ino);
		else
			cow_file_unlinkat(fd, e->d_name, S_ISDIR(sx.stx_mode) ? AT_REMOVEDIR : 0);
	}
}

/* What a wipe moved aside. `alone`: nobody changes anything yet. Otherwise the gate is not held: it may take long. */
void reclaim_trash(struct cow_store *st, bool alone)
{
	int trash, fresh;

	if (!atomic_load(&st->trash_used))
		return;
	empty_trash(st, alone);
	trash = cow_file_unlinkat(st->grave_parent_fd, "trash", AT_REMOVEDIR);
	fresh = cow_file_unlinkat(st->grave_parent_fd, "grave.new", AT_REMOVEDIR);
	/* Else links of ours are left, which must not show; the next one that empties it tries again. */
	if ((trash == 0 || trash == -ENOENT) && (fresh == 0 || fresh == -ENOENT))
		atomic_store(&st->trash_used, false);
}

int reclaim_wipe(struct cow_store *st)
{
	int r;

	place_forget_dirs(st);
	r = cow_index_wipe(st->index);
	if (r == 0)
		r = replace_grave(st);
	if (r < 0)
		return r;
	atomic_store(&st->grave_used, false);
	atomic_fetch_add(&st->generation, 1);
	return 0;
}

/* Back into the chain, to be tried again at the next drop or at the end. epochs_lock held. */
static void link_doomed_locked(struct cow_store *st, struct epoch *e)
{
	struct epoch **at = &st->doomed;

	while (*at && (*at)->id < e->id)
		at = &(*at)->newer;
	e->newer = *at;
	e->unsettled = true;
	*at = e;
}

/* Files of the epochs in a chain. Without its log an epoch is dead, whatever the control log says; one that can neither
 * lose its log nor be written down as dropped stays for another try, or it would come back. */
static void unlink_chain(struct cow_store *st, struct epoch *chain)
{
	struct epoch *next;

	for (; chain; chain = next) {
		struct cow_control c = { .epoch = chain->id };
		int written = epochfile_control(st, COW_REC_DROPPED, &c);

		next = chain->newer;
		if (epochfile_unlink_log(st, chain->id) < 0 && written < 0) {
			ulock_lock(&st->epochs_lock);
			link_doomed_locked(st, chain);
			ulock_unlock(&st->epochs_lock);
			continue;
		}
		epochfile_unlink_dat(st, chain->id);
		for (size_t i = 0; i < chain->n_heirlooms; i++)
			epochfile_unlink_dat(st, chain->heirlooms[i].dat);
		atomic_fetch_sub(&st->stored_total, atomic_exchange(&chain->stored, 0));
		epoch_unref(chain);
	}
}

/* Nothing lives. Once nobody is inside the gate any more, nobody labels with a dead epoch either. */
static void wipe_all(struct cow_store *st)
{
	struct epoch *chain = NULL;
	int r = cow_file_fdatasync(st->control_fd);

	if (r <
	    0) /* go on: there is nothing left that a power cut could harm, but they might be listed again */
		log_error("the end of snapshots may not be on disk: %s", strerror(-r));
	r = 0;
	reclaim_trash(st, false); /* left over: another takes its place now */
	gate_exclusive(st);
	ulock_lock(&st->epochs_lock);
	if (!st->oldest) /* else a hold came first, and opened one */
		chain = TAKE(st->doomed);
	ulock_unlock(&st->epochs_lock);
	if (chain)
		r = reclaim_wipe(st);
	gate_exclusive_end(st);
	if (r < 0)
		log_error("the empty store could not be cleared: %s", strerror(-r));
	unlink_chain(st, chain);
	reclaim_trash(st, false);
}

/* Out of the chain: others, of smaller numbers, may have come before it meanwhile. epochs_lock held. */
static void unlink_doomed_locked(struct cow_store *st, struct epoch *e)
{
	struct epoch **at = &st->doomed;

	while (*at && *at != e)
		at = &(*at)->newer;
	if (*at)
		*at = e->newer;
	e->newer = NULL;
}

static uint64_t newest_below(const struct cow_store *st, const struct epoch *e)
{
	for (const struct epoch *i = st->last; i; i = i->older)
		if (i->id < e->id)
			return i->id;
	return 0;
}

/* Not one that failed, and none whose heir is older than one that failed: labels between the two would be passed over. */
struct epoch *reclaim_next_locked(struct cow_store *st)
{
	uint64_t failed = 0;

	for (struct epoch *e = st->doomed; e; e = e->newer) {
		if (!e->unsettled && (!st->oldest || !failed || newest_below(st, e) > failed))
			return e;
		failed = e->id;
	}
	return NULL;
}

static void *reclaimer(void *arg)
{
	struct cow_store *st = arg;
	struct epoch *e;
	struct job *j;
	bool last;
	int r;

	reclaim_trash(st, false); /* of a daemon that died */
	ulock_lock(&st->epochs_lock);
	for (;;) {
		while (!(e = reclaim_next_locked(st)) && !st->stop)
			ulock_wait(&st->epochs_lock, &st->epochs_changed);
		if (!e)
			break;
		st->reclaiming = true;
		last = !st->oldest;
		j = last ? NULL : calloc(1, sizeof(*j));
		if (j) {
			j->st = st;
			j->e = e;
			find_heirs_locked(j);
		}
		ulock_unlock(&st->epochs_lock);
		r = last || j ? 0 : -ENOMEM;
		if (last)
			wipe_all(st);
		else if (j)
			r = reclaim_epoch(st, j);
		free(j);
		ulock_lock(&st->epochs_lock);
		if (r < 0) {
			e->unsettled = true;
		} else if (!last) {
			unlink_doomed_locked(st, e);
			ulock_unlock(&st->epochs_lock);
			epoch_unref(e);
			ulock_lock(&st->epochs_lock);
		}
		st->reclaiming = false;
		if (r == 0)
			atomic_fetch_add(&st->settled, 1);
		pthread_cond_broadcast(&st->epochs_changed);
	}
	ulock_unlock(&st->epochs_lock);
	return NULL;
}

/* A hold waits for us if we are inside the gate, as the reclaimer itself does at times: so look at it often. */
bool reclaim_wait(struct cow_store *st, uint64_t until_ns)
{
	bool any = false;

	ulock_lock(&st->epochs_lock);
	while ((reclaim_next_locked(st) || st->reclaiming) && !clock_expired(until_ns)) {
		any = true;
		if (cow_gate_closing(st))
			break;
		ulock_wait_until(&st->epochs_lock, &st->epochs_changed,
				 clock_deadline_ms(GATE_LOOK_MS));
	}
	ulock_unlock(&st->epochs_lock);
	return any;
}

int reclaim_start(struct cow_store *st)
{
	return -pthread_create(&st->reclaimer, NULL, reclaimer, st);
}

void reclaim_stop(struct cow_store *st)
{
	ulock_lock(&st->epochs_lock);
	st->stop = true;
	for (struct epoch *e = st->doomed; e; e = e->newer)
		e->unsettled = false; /* the last try */
	pthread_cond_broadcast(&st->epochs_changed);
	ulock_unlock(&st->epochs_lock);
	pthread_join(st->reclaimer, NULL);
}
