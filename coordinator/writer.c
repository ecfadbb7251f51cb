/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/writer.h"

#include <assert.h>
#include <stddef.h>

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

static const char *const state_names[WRITER_STATES] = {
	[WRITER_STABLE] = "stable",
	[WRITER_WAITING_FOR_FREEZE] = "waiting-for-freeze",
	[WRITER_WAITING_FOR_THAW] = "waiting-for-thaw",
	[WRITER_WAITING_FOR_POST_SNAPSHOT] = "waiting-for-post-snapshot",
	[WRITER_WAITING_FOR_BACKUP_COMPLETE] = "waiting-for-backup-complete",
	[WRITER_FAILED_AT_IDENTIFY] = "failed-at-identify",
	[WRITER_FAILED_AT_PREPARE_BACKUP] = "failed-at-prepare-backup",
	[WRITER_FAILED_AT_PREPARE_SNAPSHOT] = "failed-at-prepare-snapshot",
	[WRITER_FAILED_AT_FREEZE] = "failed-at-freeze",
	[WRITER_FAILED_AT_THAW] = "failed-at-thaw",
	[WRITER_FAILED_AT_POST_SNAPSHOT] = "failed-at-post-snapshot",
	[WRITER_FAILED_AT_BACKUP_COMPLETE] = "failed-at-backup-complete",
	[WRITER_FAILED_AT_BACKUP_SHUTDOWN] = "failed-at-backup-shutdown",
	[WRITER_FAILED_AT_PRE_RESTORE] = "failed-at-pre-restore",
	[WRITER_FAILED_AT_POST_RESTORE] = "failed-at-post-restore",
	[WRITER_CLOSED] = "closed",
};

enum { DISARMED, ARMED, EITHER };

/* The table of 2.2, one row per event and state it may come in. `ok` leads to `good`; `fail`, late
 * and lost to `bad`. */
struct row {
	enum coord_writer_event event;
	enum coord_writer_state from;
	int needs; /* DISARMED, ARMED, EITHER */
	enum coord_writer_state good, bad;
	bool bad_aborts; /* Freeze and Thaw alone */
	bool disarms;	 /* answered or not (V-2) */
};

static const struct row table[] = {
	/* event, from, needs, good, bad, bad_aborts, disarms */
	/* */
	{ EVENT_IDENTIFY, WRITER_STABLE, DISARMED, WRITER_STABLE, WRITER_FAILED_AT_IDENTIFY, false,
	  false },
	{ EVENT_PREPARE_BACKUP, WRITER_STABLE, EITHER, WRITER_STABLE,
	  WRITER_FAILED_AT_PREPARE_BACKUP, false, false },
	/* */
	{ EVENT_PREPARE_FOR_SNAPSHOT, WRITER_STABLE, ARMED, WRITER_WAITING_FOR_FREEZE,
	  WRITER_FAILED_AT_PREPARE_SNAPSHOT, false, false },
	/* */
	{ EVENT_FREEZE, WRITER_WAITING_FOR_FREEZE, ARMED, WRITER_WAITING_FOR_THAW,
	  WRITER_FAILED_AT_FREEZE, true, false },
	{ EVENT_WINDOW_OVER, WRITER_WAITING_FOR_FREEZE, ARMED, WRITER_FAILED_AT_FREEZE,
	  WRITER_FAILED_AT_FREEZE, true, false },
	{ EVENT_WINDOW_OVER, WRITER_WAITING_FOR_THAW, ARMED, WRITER_FAILED_AT_FREEZE,
	  WRITER_FAILED_AT_FREEZE, true, false },
	{ EVENT_THAW, WRITER_WAITING_FOR_THAW, ARMED, WRITER_WAITING_FOR_POST_SNAPSHOT,
	  WRITER_FAILED_AT_THAW, true, false },
	/* */
	{ EVENT_POST_SNAPSHOT, WRITER_WAITING_FOR_POST_SNAPSHOT, ARMED,
	  WRITER_WAITING_FOR_BACKUP_COMPLETE, WRITER_FAILED_AT_POST_SNAPSHOT, false, true },
	{ EVENT_BACKUP_COMPLETE, WRITER_WAITING_FOR_BACKUP_COMPLETE, DISARMED, WRITER_STABLE,
	  WRITER_FAILED_AT_BACKUP_COMPLETE, false, false },
	{ EVENT_PRE_RESTORE, WRITER_STABLE, DISARMED, WRITER_STABLE, WRITER_FAILED_AT_PRE_RESTORE,
	  false, false },
	{ EVENT_POST_RESTORE, WRITER_STABLE, DISARMED, WRITER_STABLE, WRITER_FAILED_AT_POST_RESTORE,
	  false, false },
};

/* What `ok` with a failure code shows (the row "any" of 2.2): the creation events only. */
static const struct {
	enum coord_writer_event event;
	enum coord_writer_state shown;
} coded[] = {
	{ EVENT_PREPARE_BACKUP, WRITER_FAILED_AT_PREPARE_BACKUP },
	{ EVENT_PREPARE_FOR_SNAPSHOT, WRITER_FAILED_AT_PREPARE_SNAPSHOT },
	{ EVENT_FREEZE, WRITER_FAILED_AT_FREEZE },
	{ EVENT_THAW, WRITER_FAILED_AT_THAW },
	{ EVENT_POST_SNAPSHOT, WRITER_FAILED_AT_POST_SNAPSHOT },
};

const char *coord_writer_state_name(enum coord_writer_state s)
{
	assert(s < WRITER_STATES);
	return state_names[s];
}

bool coord_writer_failed(enum coord_writer_state s)
{
	return s >= WRITER_FAILED_AT_IDENTIFY && s <= WRITER_FAILED_AT_POST_RESTORE;
}

static const struct row *find_row(const struct coord_writer_record *w, enum coord_writer_event e)
{
	for (size_t i = 0; i < COUNT(table); i++) {
		const struct row *row = &table[i];

		if (row->event == e && row->from == w->state &&
		    (row->needs == EITHER || row->needs == w->armed))
			return row;
	}
	return NULL;
}

bool coord_writer_takes(const struct coord_writer_record *w, enum coord_writer_event e)
{
	if (w->lost || w->state == WRITER_CLOSED)
		return false;
	if (e == EVENT_ABORT)
		return w->armed;
	if (e == EVENT_BACKUP_SHUTDOWN)
		return true;
	return !w->aborted && find_row(w, e);
}

void coord_writer_sent(struct coord_writer_record *w, enum coord_writer_event e)
{
	if (e == EVENT_PREPARE_BACKUP)
		w->armed = true;
}

/* Any answer will do (2.2): what failed keeps showing that it failed. */
static void abort_answered(struct coord_writer_record *w, enum coord_writer_outcome o)
{
	w->aborted = true;
	if (!coord_writer_failed(w->state))
		w->state = WRITER_STABLE;
	if (!coord_writer_failed(w->shown))
		w->shown = WRITER_STABLE;
	if (o == OUTCOME_LOST)
		w->lost = true;
}

static void shutdown_answered(struct coord_writer_record *w, enum coord_writer_outcome o)
{
	w->state = WRITER_CLOSED;
	w->shown = o == OUTCOME_OK || o == OUTCOME_OK_CODE ? WRITER_CLOSED
							   : WRITER_FAILED_AT_BACKUP_SHUTDOWN;
	w->armed = false;
}

static enum coord_writer_state shown_for_code(enum coord_writer_event e,
					      enum coord_writer_state otherwise)
{
	for (size_t i = 0; i < COUNT(coded); i++)
		if (coded[i].event == e)
			return coded[i].shown;
	return otherwise;
}

bool coord_writer_step(struct coord_writer_record *w, enum coord_writer_event e,
		       enum coord_writer_outcome o, bool *ret_abort)
{
	const struct row *row;
	bool code_before = w->shown != w->state;

	*ret_abort = false;
	if (w->lost || w->state == WRITER_CLOSED || (e == EVENT_ABORT && !w->armed))
		return false;
	if (e == EVENT_ABORT) {
		abort_answered(w, o);
		return true;
	}
	if (e == EVENT_BACKUP_SHUTDOWN) {
		shutdown_answered(w, o);
		return true;
	}
	row = w->aborted ? NULL : find_row(w, e);
	if (!row || (e == EVENT_IDENTIFY && o == OUTCOME_OK_CODE)) /* W-10 */
		return false;
	w->state = o == OUTCOME_OK || o == OUTCOME_OK_CODE ? row->good : row->bad;
	if (o == OUTCOME_OK_CODE)
		w->shown = shown_for_code(e, w->state);
	else if (!code_before ||
		 coord_writer_failed(w->state)) /* a code, once set, stays in the status */
		w->shown = w->state;
	*ret_abort = row->bad_aborts && w->state == row->bad &&
		     o != OUTCOME_LOST; /* W-9: cannot be delivered */
	if (row->disarms)
		w->armed = false;
	w->lost = o == OUTCOME_LOST;
	return true;
}
