/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/writer.h - the states of one writer in one session (protocol 2.2).
 * Job:     what an event's outcome does to the record: next state, armed or not, whether an
 *          Abort comes of it. Sends nothing.
 * Errors:  none; a pair that the protocol does not have is refused.
 * Threads: the coordinator's one.
 * Rules:   2.2, V-2, W-5, W-9, A-2 to, T-12.
 *
 *   stable --PrepareBackup--> stable, armed --PrepareForSnapshot--> waiting-for-freeze
 *          --Freeze--> waiting-for-thaw --Thaw--> waiting-for-post-snapshot
 *          --PostSnapshot--> waiting-for-backup-complete --BackupComplete--> stable
 *   fail or late at any of them: failed-at-(that event)
 *   Abort while armed: stable again, marked aborted                  (coord_writer_step) */
#ifndef UMBRA_COORDINATOR_WRITER_H
#define UMBRA_COORDINATOR_WRITER_H

#include <stdbool.h>

enum coord_writer_state {
	WRITER_STABLE,
	WRITER_WAITING_FOR_FREEZE,
	WRITER_WAITING_FOR_THAW,
	WRITER_WAITING_FOR_POST_SNAPSHOT,
	WRITER_WAITING_FOR_BACKUP_COMPLETE,
	WRITER_FAILED_AT_IDENTIFY,
	WRITER_FAILED_AT_PREPARE_BACKUP,
	WRITER_FAILED_AT_PREPARE_SNAPSHOT,
	WRITER_FAILED_AT_FREEZE,
	WRITER_FAILED_AT_THAW,
	WRITER_FAILED_AT_POST_SNAPSHOT,
	WRITER_FAILED_AT_BACKUP_COMPLETE,
	WRITER_FAILED_AT_BACKUP_SHUTDOWN,
	WRITER_FAILED_AT_PRE_RESTORE,
	WRITER_FAILED_AT_POST_RESTORE,
	WRITER_CLOSED,
	WRITER_STATES
};

enum coord_writer_event {
	EVENT_IDENTIFY,
	EVENT_PREPARE_BACKUP,
	EVENT_PREPARE_FOR_SNAPSHOT,
	EVENT_FREEZE,
	EVENT_WINDOW_OVER, /* the freeze window ended before Thaw was delivered */
	EVENT_THAW,
	EVENT_POST_SNAPSHOT,
	EVENT_BACKUP_COMPLETE,
	EVENT_ABORT,
	EVENT_BACKUP_SHUTDOWN,
	EVENT_PRE_RESTORE,
	EVENT_POST_RESTORE,
	WRITER_EVENTS
};

enum coord_writer_outcome {
	OUTCOME_OK,
	OUTCOME_OK_CODE, /* `ok` plus a failure code: status only (W-5) */
	OUTCOME_FAIL,
	OUTCOME_LATE, /* no answer within the limit, or the window over */
	OUTCOME_LOST, /* the connection ended (W-9) */
	WRITER_OUTCOMES
};

struct coord_writer_record {
	enum coord_writer_state state; /* where it is in the sequence of events */
	enum coord_writer_state
		shown; /* what GatherWriterStatus says: differs from state after OUTCOME_OK_CODE */
	bool armed;    /* V-2 */
	bool aborted;  /* had an Abort: no further events but Abort and BackupShutdown */
	bool lost;     /* W-9: nothing can be delivered any more */
};

/* "stable", "failed-at-freeze" ...; static. */
const char *coord_writer_state_name(enum coord_writer_state s);

/* Is it one of failed-at-...? */
bool coord_writer_failed(enum coord_writer_state s);

/* May this event be sent to that writer now (W-8, A-9, A-13)? */
bool coord_writer_takes(const struct coord_writer_record *w, enum coord_writer_event e);

/* PrepareBackup was sent: the writer is armed from now on, whatever it answers (V-2). */
void coord_writer_sent(struct coord_writer_record *w, enum coord_writer_event e);

/**
 * Note an event's outcome.
 * @ret_abort  whether an Abort to this writer alone comes of it; the writer's library runs it
 * Returns true; false: 2.2 has no such event in that state, nothing changed.
 */
bool coord_writer_step(struct coord_writer_record *w, enum coord_writer_event e,
		       enum coord_writer_outcome o, bool *ret_abort);

#endif
