/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The list of live epochs.
 *
 *	(prepared) --cow_epoch_open--> OPENED --cow_epoch_commit--> CREATED --drop--> DROPPED (doomed) --reclaim--> gone
 *				         |						^
 *					 +------------------- drop ---------------------+
 *
 * A label is an epoch's number. Dropping one never changes what the others show: that is settled in reclaim.c. */
#include "cow/epoch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "cow/base/cleanup.h"
#include "cow/base/clock.h"
#include "cow/base/log.h"
#include "cow/file.h"
#include "cow/gate.h"
#include "cow/store_private.h"

struct epoch *epoch_ref(struct epoch *e)
{
	atomic_fetch_add(&e->refs, 1);
	return e;
}

void epoch_unref(struct epoch *e)
{
	if (!e || atomic_fetch_sub(&e->refs, 1) != 1)
		return;
	epochfile_close(e);
	free(e->snap.extra);
	ulock_done(&e->log_lock);
	free(e);
}

static struct epoch *epoch_new(uint64_t id)
{
	struct epoch *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->id = id;
	e->snap.epoch = id;
	e->log_fd = e->dat_fd = -1;
	atomic_init(&e->refs, 1);
	ulock_init(&e->log_lock, RANK_LOG);
	return e;
}

void epoch_link(struct cow_store *st, struct epoch *e)
{
	ulock_assert_held(&st->epochs_lock);
	e->older = st->last;
	e->newer = NULL;
	if (st->last)
		st->last->newer = e;
	else
		st->oldest = e;
	st->last = e;
	if (!e->internal)
		st->n_epochs++;
}

static void epoch_unlink_locked(struct cow_store *st, struct epoch *e)
{
	if (e->older)
		e->older->newer = e->newer;
	else
		st->oldest = e->newer;
	if (e->newer)
		e->newer->older = e->older;
	else
		st->last = e->older;
	e->older = e->newer = NULL;
	if (!e->internal)
		st->n_epochs--;
}

struct epoch *epoch_newest(struct cow_store *st)
{
	return atomic_load_explicit(&st->newest, memory_order_acquire);
}

struct epoch *epoch_get(struct cow_store *st, uint64_t id)
{
	struct epoch *e;

	ulock_lock(&st->epochs_lock);
	for (e = st->last; e && e->id != id; e = e->older)
		;
	if (e)
		epoch_ref(e);
	ulock_unlock(&st->epochs_lock);
	return e;
}

/* ---- opening ---- */

/* One that was prepared, and its files. NULL is fine. */
static void throw_away(struct cow_store *st, struct epoch *e)
{
	if (!e)
		return;
	epochfile_unlink_log(st, e->id);
	epochfile_unlink_dat(st, e->id);
	epoch_unref(e);
}

static int prepare(struct cow_store *st, bool internal)
{
	struct epoch *e;
	int r;

	ulock_lock(&st->epochs_lock);
	r = st->prepared ? 1 : 0;
	if (!internal && atomic_load(&st->revert_epoch))
		r = -EINPROGRESS; /* */
	else if (r == 0 && !internal && st->n_epochs >= COW_SNAPSHOTS_MAX)
		r = -EUSERS;
	e = r == 0 ? epoch_new(st->next_epoch) : NULL;
	if (r == 0 && !e)
		r = -ENOMEM;
	if (e)
		st->next_epoch++;
	ulock_unlock(&st->epochs_lock);
	if (r != 0)
		return r < 0 ? r : 0;
	r = epochfile_create(st, e);
	if (r < 0) {
		epoch_unref(e);
		return r;
	}
	ulock_lock(&st->epochs_lock);
	if (!st->prepared) {
		st->prepared = e;
		e = NULL;
	}
	ulock_unlock(&st->epochs_lock);
	throw_away(st, e);
	return 0;
}

int cow_epoch_prepare(struct cow_store *st)
{
	return prepare(st, false);
}

void cow_epoch_unprepare(struct cow_store *st)
{
	struct epoch *e;

	ulock_lock(&st->epochs_lock);
	e = st->prepared;
	st->prepared = NULL;
	pthread_cond_broadcast(&st->epochs_changed);
	ulock_unlock(&st->epochs_lock);
	throw_away(st, e);
}

static bool name_taken(const struct cow_store *st, const struct cow_snapshot *snap)
{
	for (const struct epoch *e = st->oldest; e; e = e->newer)
		if (!e->internal &&
		    (strcmp(e->snap.id, snap->id) == 0 || strcmp(e->snap.name, snap->name) == 0))
			return true;
	return false;
}

static int copy_snapshot(struct epoch *e, const struct cow_snapshot *snap)
{
	char *extra = snap->extra ? strdup(snap->extra) : NULL;

	if (snap->extra && !extra)
		return -ENOMEM;
	free(e->snap.extra); /* of an opening that failed */
	e->snap = *snap;
	e->snap.extra = extra;
	e->snap.epoch = e->id;
	e->snap.state = COW_SNAP_OPENED;
	return 0;
}

/* The opening itself: one append, one number. Everything that could be slow was prepared. */
static int open_prepared(struct cow_store *st, struct epoch *e)
{
	struct cow_control c = { .epoch = e->id, .snap = e->snap };
	int r;

	e->snap.opened_ns = c.snap.opened_ns = (int64_t)clock_real_ns();
	c.extra_len = e->snap.extra ? strlen(e->snap.extra) : 0;
	ulock_lock(&st->epochs_lock);
	c.era = st->oldest ? atomic_load(&st->era)
			   : e->id; /* no change happens until the hold ends */
	ulock_unlock(&st->epochs_lock);
	r = epochfile_control(st, COW_REC_OPEN, &c);
	if (r < 0)
		return r;
	ulock_lock(&st->epochs_lock);
	atomic_store(&st->era, c.era);
	epoch_link(st, e);
	ulock_unlock(&st->epochs_lock);
	atomic_store_explicit(&st->newest, e, memory_order_release);
	return 0;
}

static struct epoch *take_prepared(struct cow_store *st, const struct cow_snapshot *snap, int *ret)
{
	struct epoch *e = NULL;

	ulock_lock(&st->epochs_lock);
	if (name_taken(st, snap))
		*ret = -EEXIST;
	else if (!st->prepared)
		*ret = -EINVAL;
	else
		e = TAKE(st->prepared);
	ulock_unlock(&st->epochs_lock);
	return e;
}

static void give_prepared_back(struct cow_store *st, struct epoch *e)
{
	ulock_lock(&st->epochs_lock);
	if (!st->prepared) {
		st->prepared = e;
		e = NULL;
	}
	ulock_unlock(&st->epochs_lock);
	throw_away(st, e); /* somebody prepared another meanwhile */
}

int cow_epoch_open(struct cow_store *st, const struct cow_snapshot *snap, uint64_t *ret_epoch)
{
	struct epoch *e;
	int r;

	if (!snap->name[0] || !snap->id[0] || snap->context < COW_CTX_BACKUP ||
	    snap->context >= COW_CTX_ALL || (snap->extra && strlen(snap->extra) > COW_EXTRA_MAX))
		return -EINVAL;
	r = cow_epoch_prepare(st); /* a no-op where the caller was careful */
	if (r < 0)
		return r;
	e = take_prepared(st, snap, &r);
	if (!e)
		return r;
	r = copy_snapshot(e, snap);
	if (r == 0) {
		/* Under the gate's own lock, so that the hold cannot run out between the check and the record. */
		pthread_mutex_lock(&st->gate.lock);
		if (gate_is_held(st))
			r = open_prepared(st, e);
		else
			r = st->gate.expired ? -ETIMEDOUT : -EINVAL;
		pthread_mutex_unlock(&st->gate.lock);
	}
	if (r < 0) {
		give_prepared_back(st, e);
		return r;
	}
	*ret_epoch = e->id;
	return 0;
}

int epoch_prepare_internal(struct cow_store *st)
{
	return prepare(st, true);
}

/* A label of ours, seen by nobody: between two sessions of the daemon, and after a revert. */
int epoch_open_internal(struct cow_store *st)
{
	struct epoch *e;
	int r;

	r = prepare(st, true);
	if (r < 0)
		return r;
	ulock_lock(&st->epochs_lock);
	e = TAKE(st->prepared);
	ulock_unlock(&st->epochs_lock);
	if (!e)
		return -EAGAIN; /* a coordinator gave it back meanwhile, as if it were its own */
	e->internal = true;
	free(e->snap.extra); /* of an opening that failed, as all the rest */
	e->snap = (struct cow_snapshot){ .epoch = e->id,
					 .context = COW_CTX_BACKUP,
					 .state = COW_SNAP_CREATED };
	r = open_prepared(st, e);
	if (r < 0)
		throw_away(st, e);
	return r;
}

/* F-12: a creation that ended because nothing fits any more says so. */
static int why_gone(struct cow_store *st, uint64_t epoch)
{
	int r;

	ulock_lock(&st->epochs_lock);
	r = st->crowded_out == epoch ? -ENOSPC : -ENOENT;
	ulock_unlock(&st->epochs_lock);
	return r;
}

int cow_epoch_commit(struct cow_store *st, uint64_t epoch, const char *extra)
{
	struct cow_control c = { .epoch = epoch, .extra_len = extra ? strlen(extra) : 0 };
	CLEANUP(free_p) char *copy = NULL; /* after the swap: the old one */
	struct epoch *e;
	int r;

	if (c.extra_len > COW_EXTRA_MAX)
		return -EINVAL;
	copy = c.extra_len ? strdup(extra) : NULL;
	if (c.extra_len && !copy)
		return -ENOMEM;
	e = epoch_get(st, epoch);
	if (!e)
		return why_gone(st, epoch);
	c.snap.extra = copy;
	r = epochfile_control(st, COW_REC_COMMIT, &c);
	ulock_lock(&st->epochs_lock);
	if (r == 0 && atomic_load(&e->dead))
		r = st->crowded_out == epoch ? -ENOSPC : -ENOENT;
	if (r == 0) {
		e->snap.state = COW_SNAP_CREATED;
		if (copy) {
			c.snap.extra = e->snap.extra;
			e->snap.extra = copy;
			copy = c.snap.extra;
		}
	}
	ulock_unlock(&st->epochs_lock);
	epoch_unref(e);
	return r;
}

/* ---- dropping ---- */

/* From the live list to the reclaimer's; the list's reference goes along. epochs_lock held. */
void epoch_doom_locked(struct cow_store *st, struct epoch *e)
{
	struct epoch **at = &st->doomed;

	ulock_assert_held(&st->epochs_lock);
	atomic_store(&e->dead, true);
	e->snap.state = COW_SNAP_DROPPED;
	epoch_unlink_locked(st, e);
	/* By number: an older one is settled first, so that between e and its heir no label is left (reclaim.c). */
	while (*at && (*at)->id < e->id)
		at = &(*at)->newer;
	e->newer = *at;
	*at = e;
	for (e = st->doomed; e; e = e->newer)
		e->unsettled = false; /* perhaps it can be done now */
	pthread_cond_broadcast(&st->epochs_changed);
}

/* It is dead after a crash too: by a record, or, where there is no room for one, for want of its log. */
int epoch_record_drop_locked(struct cow_store *st, struct epoch *e)
{
	struct cow_control c = { .epoch = e->id };
	int r = epochfile_control(st, COW_REC_DROP, &c);

	/* an older one may need what the log has */
	if (r < 0 && (!e->older || (r != -ENOSPC && r != -EDQUOT)))
		r = epochfile_unlink_log(st, e->id);
	if (r < 0)
		log_error("the end of epoch %llu cannot be recorded: %s", (unsigned long long)e->id,
			  strerror(-r));
	e->unrecorded = r < 0;
	return r;
}

/* An internal epoch that no older snapshot needs any more serves nothing. */
static void doom_idle_internals(struct cow_store *st)
{
	while (st->oldest && st->oldest->internal) {
		if (atomic_load(&st->newest) == st->oldest) {
			if (st->oldest != st->last)
				break;
			atomic_store(&st->newest, NULL);
			atomic_fetch_add(&st->generation, 1);
		}
		epoch_record_drop_locked(st, st->oldest);
		epoch_doom_locked(st, st->oldest);
	}
}

static int drop_checked(struct cow_store *st, uint64_t id, bool force, bool gate_closed,
			bool *ret_need_gate)
{
	struct epoch *e;
	int r;

	*ret_need_gate = false;
	ulock_lock(&st->epochs_lock);
	for (e = st->last; e && (e->id != id || e->internal); e = e->older)
		;
	r = !e ? -ENOENT : (!force && e->uses) || revert_pinned(st) == id ? -EBUSY : 0;
	if (r == 0 && !force && atomic_load(&st->revert_epoch) == id)
		r = -EBUSY; /* D-12; with force an unfinished revert is given up */
	if (r == 0 && e == st->last && e->older && !gate_closed) {
		*ret_need_gate = true; /* changes inside still label with it */
	} else if (r == 0) {
		r = epoch_record_drop_locked(st, e);
		if (r == 0) {
			if (e == st->last) {
				atomic_store(&st->newest, e->older);
				atomic_fetch_add(&st->generation, 1);
			}
			epoch_doom_locked(st, e);
			doom_idle_internals(st);
		}
	}
	ulock_unlock(&st->epochs_lock);
	return r;
}

int cow_epoch_drop(struct cow_store *st, uint64_t epoch, bool force)
{
	bool need_gate;
	int r;

	r = drop_checked(st, epoch, force, false, &need_gate);
	if (r == 0 && need_gate) {
		gate_exclusive(st);
		r = drop_checked(st, epoch, force, true, &need_gate);
		gate_exclusive_end(st);
	}
	if (r == 0)
		revert_dropped(st, epoch);
	return r;
}

/* A descriptor of our own: the list may grow, and so move, while the reclaimer makes it the heir of another. */
static int dup_heirloom(struct cow_store *st, const struct epoch *e, size_t i)
{
	int fd;

	ulock_lock(&st->epochs_lock);
	fd = i >= e->n_heirlooms ? -ENOENT : fcntl(e->heirlooms[i].fd, F_DUPFD_CLOEXEC, 3);
	ulock_unlock(&st->epochs_lock);
	return fd;
}

/* Nobody else reads what it holds: give the bulk of it back at once. The rest follows in reclaim.c. That it ended must be on
 * disk first, if it would outlive a power cut: else it would be there again with nothing in it. */
static void give_back_now(struct cow_store *st, struct epoch *e)
{
	if (cow_context_persistent(e->snap.context) && cow_file_fdatasync(st->control_fd) < 0)
		return;
	if (e->dat_fd >= 0)
		cow_file_truncate(e->dat_fd, 0);
	for (size_t i = 0;; i++) {
		CLEANUP(close_p) int fd = dup_heirloom(st, e, i);

		if (fd == -ENOENT)
			break;
		if (fd >= 0)
			cow_file_truncate(fd, 0);
	}
	atomic_fetch_sub(&st->stored_total, atomic_exchange(&e->stored, 0));
}

int epoch_drop_oldest(struct cow_store *st, enum cow_drop_cause cause)
{
	struct cow_snapshot snap;
	struct epoch *e;
	bool alone, none_left, recorded;

	ulock_lock(&st->epochs_lock);
	for (e = st->oldest; e && (e->internal || (e->snap.state == COW_SNAP_OPENED && e->newer));
	     e = e->newer)
		; /* one that is being created is the last to go (F-12) */
	if (!e || revert_pinned(st) == e->id) {
		ulock_unlock(&st->epochs_lock);
		return 0;
	}
	alone = !e->older;
	none_left = e == st->last;
	if (none_left) {
		/* Changes inside may still label with it. It is the only one, or those older go with it: nobody is
		 * left whom that could harm. */
		atomic_store(&st->newest, NULL);
		atomic_fetch_add(&st->generation, 1);
	}
	if (cause == COW_DROP_FULL && e->snap.state == COW_SNAP_OPENED)
		st->crowded_out = e->id;
	snap = e->snap;
	snap.extra = NULL;
	epoch_ref(e);
	recorded = epoch_record_drop_locked(st, e) == 0;
	epoch_doom_locked(st, e);
	doom_idle_internals(st);
	ulock_unlock(&st->epochs_lock);
	if (alone && recorded)
		give_back_now(st, e);
	epoch_unref(e);
	revert_dropped(st, snap.epoch);
	if (st->opt.on_drop)
		st->opt.on_drop(st->opt.userdata, &snap, cause);
	while (none_left && epoch_drop_oldest(st, cause))
		;
	return 1;
}

uint64_t epoch_oldest_bytes(struct cow_store *st)
{
	uint64_t bytes = 0;

	ulock_lock(&st->epochs_lock);
	for (struct epoch *e = st->oldest; e; e = e->newer)
		if (!e->internal) {
			bytes = e->older ? 0 : atomic_load(&e->stored);
			break;
		}
	ulock_unlock(&st->epochs_lock);
	return bytes;
}

void epoch_drop_all(struct cow_store *st, enum cow_drop_cause cause)
{
	while (epoch_drop_oldest(st, cause))
		;
}

void cow_epoch_settle(struct cow_store *st)
{
	ulock_lock(&st->epochs_lock);
	while (reclaim_next_locked(st) || st->reclaiming)
		ulock_wait(&st->epochs_lock, &st->epochs_changed);
	ulock_unlock(&st->epochs_lock);
}

/* ---- listing ---- */

static int copy_out(const struct epoch *e, struct cow_snapshot *ret)
{
	*ret = e->snap;
	ret->stored_bytes = atomic_load(&e->stored);
	ret->changed_files = atomic_load(&e->changed);
	ret->in_use = e->uses;
	ret->extra = NULL;
	if (e->snap.extra) {
		ret->extra = strdup(e->snap.extra);
		if (!ret->extra)
			return -ENOMEM;
	}
	return 0;
}

void cow_snapshots_free(struct cow_snapshot *list, size_t n)
{
	for (size_t i = 0; list && i < n; i++)
		free(list[i].extra);
	free(list);
}

int cow_epoch_list(struct cow_store *st, bool all, struct cow_snapshot **ret_list, size_t *ret_n)
{
	struct cow_snapshot *list;
	size_t n = 0;
	int r = 0;

	ulock_lock(&st->epochs_lock);
	list = calloc(st->n_epochs + 1, sizeof(*list));
	if (!list)
		r = -ENOMEM;
	for (struct epoch *e = st->oldest; e && r == 0; e = e->newer)
		if (!e->internal && (all || e->snap.state == COW_SNAP_CREATED))
			r = copy_out(e, &list[n++]);
	ulock_unlock(&st->epochs_lock);
	if (r < 0) {
		cow_snapshots_free(list, n);
		return r;
	}
	*ret_list = list;
	*ret_n = n;
	return 0;
}

int cow_epoch_find(struct cow_store *st, const char *name, uint64_t *ret_epoch)
{
	int r = -ENOENT;

	ulock_lock(&st->epochs_lock);
	for (struct epoch *e = st->oldest; e; e = e->newer)
		if (!e->internal && e->snap.state == COW_SNAP_CREATED &&
		    strcmp(e->snap.name, name) == 0) {
			*ret_epoch = e->id;
			r = 0;
		}
	ulock_unlock(&st->epochs_lock);
	return r;
}
