/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/party.h - the writers of one session.
 * Job:     who takes part, one round of an event over all of them, freeze windows, Aborts, and what
 *          became of each. When which event is due is the session's and the set's business.
 * Errors:  a writer's failure is never an error here (W-6): it is in its row.
 * Threads: the coordinator's one. A round's done function is called from an answer, a loss or a
 *          timer, never from within the call that began the round.
 * Rules:   V-2, W-2 to W-13, O-3, O-9, T-1, T-4 to T-7, T-10 to T-12, A-2, A-8 to A-15, D-4, D-6. */
#ifndef UMBRA_COORDINATOR_PARTY_H
#define UMBRA_COORDINATOR_PARTY_H

#include "coordinator/core.h"
#include "coordinator/error.h"

#include <jansson.h>

/* */
enum coord_origin {
	ORIGIN_NONE,
	ORIGIN_REQUESTER,
	ORIGIN_WRITER,
	ORIGIN_PROVIDER,
	ORIGIN_COORDINATOR,
};

struct coord_party;
typedef void (*coord_party_fn)(void *data);

/* session_id: borrowed, as long as the party lives. A session that is not privileged has no business
 * with the writers of other users than its own (S-12). NULL: out of memory. */
struct coord_party *coord_party_new(struct coord *core, const char *session_id, bool privileged,
				    uid_t uid);
/* Any round is forgotten; nobody is told anything. NULL is fine. */
void coord_party_free(struct coord_party *party);

/* From StartSnapshotSet on events carry this id (W-11, D-6). Borrowed. */
void coord_party_set_id(struct coord_party *party, const char *set_id);

/* Enable or disable a class or an instance (W-13). Returns UMBRA_E_OBJECT_NOT_FOUND: no writer is
 * registered under it. */
enum umbra_error coord_party_select(struct coord_party *party, const char *id, bool enable,
				    struct coord_failure *f);

/* ---- rounds: at most one at a time. All return whether they wait: then fn is called when every
 * answer is there or late; else there was nothing to wait for, and fn is not called. ---- */

/* Identify, to every registered writer that is not disabled. */
bool coord_party_gather(struct coord_party *party, coord_party_fn fn, void *data);

/* PrepareBackup to those that take part (W-2); they are armed from now on.
 * @arguments  of the event, taken; each writer's components are added. NULL: out of memory before */
bool coord_party_prepare(struct coord_party *party, bool component_mode, json_t *arguments,
			 coord_party_fn fn, void *data);

/* Any of PrepareForSnapshot to BackupComplete, to those whose state takes it (W-8); Freeze and Thaw
 * go level by level (O-3, O-9). arguments: taken, NULL: none. */
bool coord_party_send(struct coord_party *party, enum coord_writer_event event, json_t *arguments,
		      coord_party_fn fn, void *data);

/* Abort, to all armed ones at once; prepared_only: that were told PrepareForSnapshot. A
 * second one of that origin is not sent. A running round is stopped first. */
bool coord_party_abort(struct coord_party *party, enum coord_origin origin, bool prepared_only,
		       coord_party_fn fn, void *data);

/* BackupShutdown to everybody that was told PrepareBackup (D-4). A running round is stopped first. */
bool coord_party_shutdown(struct coord_party *party, coord_party_fn fn, void *data);

/* PreRestore, to those with selected components that coord_participant_restore named; then
 * PostRestore, to the same instances as far as they live. */
bool coord_party_restore(struct coord_party *party, enum coord_writer_event event,
			 coord_party_fn fn, void *data);

/* Answers of the running round are ignored from now on; fn is not called. */
void coord_party_stop(struct coord_party *party);

/* The name of a writer that failed fatally so far, or NULL: none. Borrowed. */
const char *coord_party_failed(const struct coord_party *party);

/* ---- what is known of each ---- */

struct coord_participant;

/* All that were told Identify, in the order of registering; NULL at the end. */
struct coord_participant *coord_party_first(const struct coord_party *party);
struct coord_participant *coord_participant_next(const struct coord_participant *pt);

/* The participant of that instance id that answered Identify, or NULL. */
struct coord_participant *coord_party_find(const struct coord_party *party,
					   const char *instance_id);

const char *coord_participant_id(const struct coord_participant *pt);
const struct coord_writer_info *coord_participant_info(const struct coord_participant *pt);
pid_t coord_participant_pid(const struct coord_participant *pt);
uid_t coord_participant_uid(const struct coord_participant *pt);
int64_t coord_participant_since_ns(const struct coord_participant *pt);
bool coord_participant_identified(const struct coord_participant *pt);
bool coord_participant_alive(const struct coord_participant *pt); /* W-9: not lost */
/* PrepareBackup was sent, or in a restore PreRestore. */
bool coord_participant_takes_part(const struct coord_participant *pt);
/* In a restore: what the backup document says of it, shared; and bits 1u <<
 * EVENT_PRE_RESTORE, 1u << EVENT_POST_RESTORE: what it wants to be told. */
void coord_participant_restore(struct coord_participant *pt, json_t *backup, unsigned events);
/* Borrowed; NULL: none. */
json_t *coord_participant_document(const struct coord_participant *pt);
json_t *coord_participant_metadata(const struct coord_participant *pt);
/* [{logical_path, name, succeeded?, ...}], borrowed and changeable by the session: never NULL. In a
 * restore the selected ones. */
json_t *coord_participant_components(struct coord_participant *pt);
const struct coord_writer_row *coord_participant_row(const struct coord_participant *pt);

/* What GatherWriterStatus says from now on is what is so now (W-6). */
void coord_party_report(struct coord_party *party);
/* NULL: it was not there at the last report. */
const struct coord_writer_row *coord_participant_reported(const struct coord_participant *pt);

/* "requester" ...; static. */
const char *coord_origin_name(enum coord_origin origin);

#endif
