/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reverting by convergence. Newer snapshots go first; then all that differs from the snapshot is on record, and three
 * passes over the records make the live tree what they say. Each step looks at what is there and does what is missing, so
 * that running all of it again, after a crash or a failure, ends at the same:
 *
 *	clear	  for each name on record: whatever it stands for now, and should not, is taken away. What is younger than the
 *		  snapshot is removed. What the snapshot knows, directories with all that is in them too, goes into the
 *		  graveyard, where views find it by its number.
 *	put back  for each name on record: what it should stand for comes back, mostly by one rename out of the graveyard.
 *		  By now nothing is in the way, and no directory can get below itself.
 *	restore	  for each inode on record: content in the clusters on record alone, owner, xattrs, mode, times.
 *
 * A marker in the store says that a revert was begun; it goes when all is done and on disk. */
#include "cow/revert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/base/log.h"
#include "cow/epoch.h"
#include "cow/file.h"
#include "cow/gate.h"
#include "cow/revert_private.h"

#define UNLOCK_ROUNDS 64

/* ---- telling ---- */

static void set_total(struct cow_store *st, uint64_t total)
{
	ulock_lock(&st->revert_lock);
	st->revert.total = total;
	ulock_unlock(&st->revert_lock);
}

static uint64_t failures(struct cow_store *st)
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&st->revert_lock);

	(void)held;
	return st->revert.failures;
}

/* What no single path is to blame for. */
static void blame(struct cow_store *st, int r, const char *what)
{
	ulock_lock(&st->revert_lock);
	if (!st->revert.error) {
		st->revert.error = r;
		snprintf(st->revert.why, sizeof(st->revert.why), "%s: %s", what, revert_reason(r));
	}
	ulock_unlock(&st->revert_lock);
}

/* ---- all of it ---- */

/* Directories that somebody closed to their owner, who we are: what is in them could not be reached. One that lets us in may
 * show the next. */
static int unlock_dirs(struct revert_job *j)
{
	bool progress = geteuid() != 0;
	int r = 0;

	for (unsigned round = 0; progress && r >= 0 && round < UNLOCK_ROUNDS; round++) {
		progress = false;
		for (size_t i = 0; r >= 0 && i < j->t.n_inodes; i++) {
			CLEANUP(close_p) int fd = -1;
			struct statx sx;

			if (revert_born(j, j->t.inodes[i].ino))
				continue;
			fd = place_open(j->st, j->t.inodes[i].ino);
			if (fd < 0 || cow_file_statx(fd, "", &sx) < 0 || !S_ISDIR(sx.stx_mode) ||
			    (sx.stx_mode & 0700) == 0700)
				continue;
			r = revert_enter(j);
			if (r < 0)
				continue;
			progress |= revert_let_in(j, fd);
			revert_leave(j);
		}
	}
	return r;
}

static int each_name(struct revert_job *j,
		     int (*step)(struct revert_job *, const struct touched_name *))
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < j->t.n_names; i++) {
		r = step(j, &j->t.names[i]);
		revert_count_step(j->st);
	}
	return r < 0 ? r : 0;
}

static int converge(struct revert_job *j)
{
	int r = touched_read(j->st, j->epoch, 0, &j->t);

	if (r < 0)
		return r;
	set_total(j->st, 2 * j->t.n_names + j->t.n_inodes);
	j->live = malloc((size_t)REVERT_RUN_CLUSTERS * COW_CLUSTER_SIZE);
	j->want = malloc((size_t)REVERT_RUN_CLUSTERS * COW_CLUSTER_SIZE);
	if (!j->live || !j->want)
		return -ENOMEM;
	r = unlock_dirs(j);
	if (r >= 0)
		r = each_name(j, revert_clear_name);
	if (r == 0)
		r = each_name(j, revert_put_back);
	return r < 0 ? r : revert_restore_all(j);
}

/* ---- what nobody watched ---- */

static int check_dir(struct revert_job *j, int fd, unsigned depth);

static int check_entry(struct revert_job *j, int dir_fd, const char *name, unsigned depth)
{
	CLEANUP(close_p) int fd = -1;
	struct statx sx;
	int r = cow_file_statx(dir_fd, name, &sx);

	if (r < 0 || !stat_is_ours(j->st, &sx))
		return r == -ENOENT || r == -EACCES ? 0 : r; /* as in check_dir */
	if (!revert_born(j, sx.stx_ino) && view_check_inode(j->view, sx.stx_ino, &sx) < 0)
		return revert_failed(j, dir_fd, name, -ESTALE);
	if (!S_ISDIR(sx.stx_mode))
		return 0;
	fd = cow_file_openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_DIRECTORY, 0);
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR ? 0 : fd; /* removed meanwhile */
	r = check_dir(j, fd, depth + 1);
	return r == -ENOENT ? 0 : r;
}

static int check_dir(struct revert_job *j, int fd, unsigned depth)
{
	CLEANUP(revert_names_done) struct revert_names l = { 0 };
	int r = depth > REVERT_DEPTH_MAX ? -ELOOP : revert_names_read(fd, &l);

	if (r == -EACCES)
		return 0; /* nobody who is no more than we could change it in the meantime without a trace above */
	for (size_t i = 0; r >= 0 && i < l.n; i++) {
		if (depth == 0 && strcmp(l.names[i], COW_STORE_NAME) == 0)
			continue;
		if (atomic_load(&j->st->revert_stop))
			return -ECANCELED;
		r = check_entry(j, fd, l.names[i], depth);
	}
	return r < 0 ? r : 0;
}

/* What a snapshot of an earlier daemon does not hold itself was perhaps changed before this one came, and nothing on record
 * would tell: look at everything there is. Nothing to do for one of our own. */
static int check_unseen(struct revert_job *j)
{
	struct statx sx;
	int r;

	if (!j->view->e->session_end_ns)
		return 0;
	r = cow_file_statx(j->st->below_fd, "", &sx);
	if (r == 0 && view_check_inode(j->view, sx.stx_ino, &sx) < 0)
		revert_failed(j, j->st->below_fd, "", -ESTALE);
	if (r == 0)
		r = check_dir(j, j->st->below_fd, 0);
	return r < 0 ? r : failures(j->st) ? -ESTALE : 0;
}

/* ---- begin and end ---- */

/* May it begin? The list of newer snapshots, newest first, for the caller to free. */
static int check_newer(struct cow_store *st, uint64_t epoch, bool force, bool claim,
		       bool *ret_persistent)
{
	int r = -ENOENT;

	ulock_lock(&st->epochs_lock);
	for (struct epoch *e = st->last; e; e = e->older) {
		if (e->id == epoch && !e->internal && e->snap.state == COW_SNAP_CREATED) {
			*ret_persistent = cow_context_persistent(e->snap.context);
			r = 0;
			if (claim) { /* under the same lock: nobody drops it in between */
				atomic_store(&st->revert_epoch, epoch);
				atomic_store(&st->reverting, true);
			}
			break;
		}
		if (e->id <= epoch)
			break;
		if (!e->internal && (e->snap.state == COW_SNAP_OPENED || (e->uses && !force))) {
			r = -EBUSY;
			break;
		}
	}
	ulock_unlock(&st->epochs_lock);
	return r;
}

/* From here on changes of others are turned away, and no snapshot is opened. */
static int shut(struct revert_job *j, bool force)
{
	const struct cow_revert_hooks *h = j->hooks;
	struct cow_store *st = j->st;
	bool persistent;
	int r;

	r = epoch_prepare_internal(st); /* so that begin_label() is one small append */
	if (r < 0)
		return r;
	gate_exclusive(st);
	r = h && h->may_begin ? h->may_begin(h->userdata) : 0;
	if (r == 0)
		r = check_newer(st, j->epoch, force, true, &persistent);
	gate_exclusive_end(st);
	return r;
}

/* The newest one but ours; 0: none is newer. */
static uint64_t newest_above(struct cow_store *st, uint64_t epoch, struct cow_snapshot *ret)
{
	uint64_t id = 0;

	ulock_lock(&st->epochs_lock);
	for (struct epoch *e = st->last; e && e->id > epoch && !id; e = e->older)
		if (!e->internal) {
			id = e->id;
			*ret = e->snap;
			ret->extra = NULL;
		}
	ulock_unlock(&st->epochs_lock);
	return id;
}

/* Then what they held is settled below ours: what differs from ours is on record under its label or a later one. */
static int drop_newer(struct cow_store *st, uint64_t epoch)
{
	struct cow_snapshot snap;
	uint64_t id;
	int r = 0;

	while (r == 0 && (id = newest_above(st, epoch, &snap))) {
		if (atomic_load(&st->revert_stop))
			return -ECANCELED;
		r = cow_epoch_drop(st, id, true);
		if (r == -ENOENT)
			r = 0;
		else if (r == 0 && st->opt.on_drop)
			st->opt.on_drop(st->opt.userdata, &snap, COW_DROP_REQUEST);
	}
	if (r == 0)
		cow_epoch_settle(st);
	return r;
}

/* What the tree will be made of must not be lost with the power once the tree is changed. */
static int sync_records(struct cow_store *st, uint64_t epoch)
{
	struct epoch **list = NULL;
	size_t n = 0;
	int r = 0;

	r = cow_file_fdatasync(st->control_fd); /* which snapshots there are, ours among them */
	ulock_lock(&st->epochs_lock);
	for (unsigned i = 0; i < 2; i++)
		for (struct epoch *e = i ? st->doomed : st->oldest; e && r == 0; e = e->newer) {
			if (e->id < epoch)
				continue;
			r = touched_room(&list, n, sizeof(struct epoch *));
			if (r == 0)
				list[n++] = epoch_ref(e);
		}
	ulock_unlock(&st->epochs_lock);
	for (size_t i = 0; i < n; i++) {
		if (r == 0)
			r = epochfile_sync(list[i]);
		epoch_unref(list[i]);
	}
	free(list);
	return r;
}

/* On disk first: after that nobody goes on with it. */
static int finish(struct cow_store *st)
{
	int r = cow_file_syncfs(st->grave_fd);

	if (r == 0 && st->elsewhere)
		r = cow_file_syncfs(st->store_fd);
	return r < 0 ? r : revert_remove_marker(st);
}

/* What we changed is on record for the snapshots there are. A label newer than theirs, which began with this daemon, has the
 * attributes of some of it and not what else there was: for later changes another one begins. That comes before the marker
 * goes, and whoever finds a marker at the start does it again (cow_store_open): no kill leaves changes to the old label. */
static int begin_label(struct cow_store *st)
{
	struct epoch *e;
	int r;

	gate_exclusive(st);
	e = epoch_newest(st);
	r = e && e->internal ? epoch_open_internal(st) : 0;
	if (r < 0)
		r = epoch_open_internal(st);
	gate_exclusive_end(st);
	return r;
}

static void reopen_gate(struct cow_store *st, bool done)
{
	gate_exclusive(st);
	if (done)
		atomic_store(&st->revert_epoch, 0);
	atomic_store(&st->reverting, false);
	gate_exclusive_end(st);
}

static void job_done(struct revert_job *j)
{
	touched_done(&j->t);
	free(j->opened);
	free(j->locked);
	free(j->lost);
	free(j->live);
	free(j->want);
	cow_view_close(j->view);
}

/* With changes turned away. */
static int run(struct revert_job *j, bool again)
{
	struct cow_store *st = j->st;
	int r = 0;

	if (again)
		r = check_unseen(j);
	if (r == 0)
		r = drop_newer(st, j->epoch);
	if (r == 0)
		r = view_alive(j->view);
	if (r == 0)
		r = sync_records(st, j->epoch);
	if (r == 0)
		r = converge(j);
	if (r == 0 && failures(st)) {
		ulock_lock(&st->revert_lock);
		r = st->revert.error;
		ulock_unlock(&st->revert_lock);
	}
	return r;
}

/* The last of it, whatever came out. Without a label of their own later changes might find the one there is wanting, and cost
 * the snapshots that could not be kept true: then it is not over. */
static int end(struct revert_job *j, int r)
{
	struct cow_store *st = j->st;
	int e = begin_label(st);

	if (e < 0)
		log_warn("after a revert: %s", strerror(-e));
	if (r == 0)
		r = e < 0 ? e : finish(st);
	if (r < 0)
		blame(st, r, r == -ECANCELED ? "interrupted" : "the revert");
	if (r < 0 && r != -ECANCELED)
		revert_mark_stopped(st, j->view->e);
	revert_set_state(st, r < 0 ? COW_REVERT_STOPPED : COW_REVERT_NONE, NULL);
	reopen_gate(st, r == 0);
	return r;
}

/* What was said before holds on; but of what was changed unseen the first is told. */
static void refuse(struct cow_store *st, const struct cow_revert_info *before, int r)
{
	struct cow_revert_info now;

	ulock_lock(&st->revert_lock);
	now = st->revert;
	st->revert = *before;
	if (r == -ESTALE) {
		st->revert.error = now.error;
		memcpy(st->revert.why, now.why, sizeof(now.why));
	}
	ulock_unlock(&st->revert_lock);
}

/* 0, and the state is RUNNING; or nothing was touched. */
static int begin(struct revert_job *j, bool force, bool again)
{
	struct cow_store *st = j->st;
	struct cow_revert_info before;
	bool persistent = true;
	int r;

	r = check_newer(st, j->epoch, force, false, &persistent);
	if (r == 0 && !persistent)
		r = -EOPNOTSUPP;
	if (r == 0)
		r = cow_view_open(st, j->epoch, false, &j->view);
	if (r < 0)
		return r;
	ulock_lock(&st->revert_lock);
	before = st->revert;
	st->revert = (struct cow_revert_info){ .state = before.state };
	ulock_unlock(&st->revert_lock);
	if (!again)
		r = check_unseen(j);
	if (r == 0) {
		j->shut = true;
		r = shut(j, force);
	}
	if (r == 0) {
		r = revert_write_marker(st, j->view->e, again);
		if (r < 0)
			reopen_gate(st, !again);
	}
	if (r < 0) {
		refuse(st, &before, r);
		return r;
	}
	revert_set_state(st, COW_REVERT_RUNNING, j->view->e);
	if (j->hooks && j->hooks->begun)
		j->hooks->begun(j->hooks->userdata);
	return 0;
}

static bool claim(struct cow_store *st, uint64_t epoch, bool *ret_again)
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&st->revert_lock);
	uint64_t pending = atomic_load(&st->revert_epoch);

	(void)held;
	if (st->revert_busy || (pending && pending != epoch))
		return false;
	*ret_again = pending == epoch;
	st->revert_busy = true;
	return true;
}

int cow_revert(struct cow_store *st, uint64_t epoch, bool force,
	       const struct cow_revert_hooks *hooks)
{
	struct revert_job j = { .st = st, .epoch = epoch, .hooks = hooks };
	bool again, begun;
	int r;

	if (!claim(st, epoch, &again))
		return -EINPROGRESS;
	r = begin(&j, force, again);
	begun = r == 0;
	if (begun)
		r = end(&j, run(&j, again));
	if (j.shut)
		cow_epoch_unprepare(st);
	job_done(&j);
	ulock_lock(&st->revert_lock);
	if (begun && r == 0) {
		struct cow_revert_info none = { .left_out = st->revert.left_out };

		if (none.left_out) {
			none.error = st->revert.error;
			memcpy(none.why, st->revert.why, sizeof(none.why));
		}
		st->revert = none;
	}
	st->revert_busy = false;
	ulock_unlock(&st->revert_lock);
	return r;
}

bool cow_revert_running(struct cow_store *st)
{
	return atomic_load(&st->reverting);
}

uint64_t cow_revert_pending(struct cow_store *st)
{
	return atomic_load(&st->revert_epoch);
}

uint64_t cow_revert_cut_off(struct cow_store *st)
{
	return st->revert_cut_off ? cow_revert_pending(st) : 0;
}

void cow_revert_stop(struct cow_store *st)
{
	atomic_store(&st->revert_stop, true);
}

void cow_revert_get(struct cow_store *st, struct cow_revert_info *ret)
{
	ulock_lock(&st->revert_lock);
	*ret = st->revert;
	ulock_unlock(&st->revert_lock);
}
