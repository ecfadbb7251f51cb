/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/session.h - one requester's session (protocol 2.1; the calls of a restore are restore.h).
 * Job:     which call is allowed in which state, and what it does to the state; owns the
 *          session's set, its operations and its hold on the creation slot; release.
 * Errors:  enum umbra_error with a coord_failure. A refused call changes nothing.
 * Threads: the coordinator's one.
 * Rules:   S-1 to S-10, A-1, A-17 to, C-1 to C-7, D-1, D-2, D-8, D-9, T-9.
 *
 *   new --initialize--> ready --start_set--> set-open --prepare--> preparing --> prepared
 *   set-open, prepared --create--> creating --> created --complete--> completing --> completed
 *   creating, preparing --failure--> failed;  set-open to failed --abort--> aborted
 *   new --initialize for restore--> r-ready --> pre-restored --> post-restored     (restore.h)
 *   any --release--> released                                 (conditions: the table in session.c) */
#ifndef UMBRA_COORDINATOR_SESSION_H
#define UMBRA_COORDINATOR_SESSION_H

#include "coordinator/core.h"
#include "coordinator/operation.h"
#include "coordinator/party.h"
#include "coordinator/set.h"

#include <sys/types.h>

enum coord_session_state {
	SESSION_NEW,
	SESSION_READY,
	SESSION_SET_OPEN,
	SESSION_PREPARING,
	SESSION_PREPARED,
	SESSION_CREATING,
	SESSION_CREATED,
	SESSION_COMPLETING,
	SESSION_COMPLETED,
	SESSION_FAILED,
	SESSION_ABORTED,
	SESSION_R_READY, /* of a restore (section 8), like the next two */
	SESSION_PRE_RESTORED,
	SESSION_POST_RESTORED,
	SESSION_RELEASED,
	SESSION_STATES
};

/* The calls of table 2.1 and of section 8; those that are not carried out here yet have their rows all the same. */
enum coord_call {
	CALL_INITIALIZE_FOR_BACKUP,
	CALL_SET_CONTEXT,
	CALL_SET_BACKUP_STATE,
	CALL_ENABLE_WRITER,
	CALL_GATHER_WRITER_METADATA,
	CALL_ADD_COMPONENT,
	CALL_START_SNAPSHOT_SET,
	CALL_ADD_TO_SNAPSHOT_SET,
	CALL_PREPARE_FOR_BACKUP,
	CALL_DO_SNAPSHOT_SET,
	CALL_SAVE_DOCUMENT,
	CALL_GET_SNAPSHOT_PROPERTIES,
	CALL_EXPOSE,
	CALL_SET_BACKUP_SUCCEEDED,
	CALL_BACKUP_COMPLETE,
	CALL_GATHER_WRITER_STATUS,
	CALL_READ_WRITERS, /* GetWriterMetadata, GetWriterStatus: what was gathered */
	CALL_ABORT_BACKUP,
	CALL_QUERY,
	CALL_DELETE_SNAPSHOTS,
	CALL_REVERT,
	CALL_STORE,	   /* associations, limits, faults */
	CALL_USE_SNAPSHOT, /* ServeSnapshot, Diff (C-10) */
	CALL_INITIALIZE_FOR_RESTORE,
	CALL_SET_SELECTED_FOR_RESTORE,
	CALL_ADD_RESTORE_SUBCOMPONENT,
	CALL_SET_RESTORE_OPTIONS,
	CALL_ADD_NEW_TARGET,
	CALL_PRE_RESTORE,
	CALL_SET_FILE_RESTORE_STATUS,
	CALL_SET_ADDITIONAL_RESTORES,
	CALL_ADD_ALTERNATE_MAPPING,
	CALL_GET_RESTORE_COMPONENTS,
	CALL_POST_RESTORE,
	CALL_RELEASE,
	CALLS
};

struct coord_session {
	TAILQ_ENTRY(coord_session) link;
	struct coord *core;
	char id[COW_UUID_LEN + 1];
	pid_t pid;
	uid_t uid;
	bool privileged; /* S-12; others see the trees of their own uid */
	int64_t since_ns;

	enum coord_session_state state;
	enum cow_context context;
	bool context_set, gathered, managing, releasing;
	bool require_writers;			 /* V-4 */
	bool no_autorecovery, rollback_recovery; /* C-5, C-6 */
	bool hardware; /* plex or transportable were asked for: no tree can (C-5) */
	char backup_type[16];
	bool component_mode, bootable_state, partial_files;
	char set_id[COW_UUID_LEN + 1]; /* "" before StartSnapshotSet; kept for ever after (D-6) */

	struct coord_party *party;     /* owned; NULL before a call that needs writers */
	char *document;		       /* read-only from BackupComplete on (S-11); else NULL */
	struct coord_restore *restore; /* owned; NULL: not a restore session */
	json_t *snapshots;	       /* of the created set, for the document; NULL before */
	struct coord_set *set; /* owned; NULL before the start, and after `created` or removal */
	struct coord_timer slot_idle; /* T-9 */
	uint32_t slot_idle_ms;
	uint64_t slot_end_ns; /* of one who is not privileged: the slot is his no longer (S-10) */
	bool displaced;	      /* a privileged requester took it */
	TAILQ_HEAD(coord_operation_list, coord_operation) operations; /* oldest first */
	size_t noperations;
	struct coord_operation *operation; /* the pending one, or NULL */
	struct coord_pending *reverting;   /* the question behind a pending Revert, or NULL */
	char reverting_tree[COW_UUID_LEN + 1];

	bool aborting; /* until the set is removed and every Abort answered */
	enum coord_origin abort_origin;
	void (*aborted)(void *data);
	void *aborted_data;
	void (*released)(void *data);
	void *released_data;
	bool attached; /* somebody holds a pointer: see coord_session_leave */
};

/* NULL: out of memory. The caller has it until coord_session_leave. */
struct coord_session *coord_session_new(struct coord *core, pid_t pid, uid_t uid, bool privileged);

/* The caller's connection ended (D-9): no function of his is called any more, the session releases
 * itself if it was not released, and frees itself. */
void coord_session_leave(struct coord_session *s);

const char *coord_session_state_name(enum coord_session_state st);
const char *coord_call_name(enum coord_call call);

/* The table of 2.1: may this call be made now? For calls carried out elsewhere (Query ...) this is
 * all; it notes that a session in `ready` manages snapshots from now on. */
enum umbra_error coord_session_check(struct coord_session *s, enum coord_call call,
				     struct coord_failure *f);

/* The requester said something: T-9 starts anew, but for one who is not privileged only within `slot` from
 * StartSnapshotSet on. */
void coord_session_touch(struct coord_session *s);

/* Does a live session have this set, so that its auto-release snapshots stay (N-7)? */
bool coord_session_keeps(const struct coord *core, const char *set_id);

/* May this session see and use that tree (S-12)? */
bool coord_session_sees(const struct coord_session *s, const struct coord_provider *p);

/* The coordinator is told to stop: as AbortBackup, with the coordinator as origin, then
 * release. */
void coord_session_shut_down(struct coord_session *s);

/* A provider is going: the set fails if it is being created from it. */
void coord_session_provider_lost(struct coord_session *s, struct coord_provider *p);

/* ---- the calls ---- */

enum umbra_error coord_session_initialize(struct coord_session *s, bool require_writers,
					  struct coord_failure *f);
/* context: a name of io.umbra.varlink */
enum umbra_error coord_session_set_context(struct coord_session *s, const char *context,
					   bool no_autorecovery, bool rollback_recovery,
					   struct coord_failure *f);
enum umbra_error coord_session_set_backup_state(struct coord_session *s, const char *type,
						bool component_mode, bool bootable_state,
						bool partial_files, struct coord_failure *f);
enum umbra_error coord_session_start_set(struct coord_session *s, struct coord_failure *f);
/* path: normal form, anywhere in the tree; as coord_set_add otherwise */
enum umbra_error coord_session_add(struct coord_session *s, const char *path, const char *label,
				   const char *description, const char **ret_id,
				   struct coord_failure *f);
/* Of one explicit component, or (instance_id NULL) of all (M-7). */
enum umbra_error coord_session_set_succeeded(struct coord_session *s, bool succeeded,
					     const char *instance_id, const char *logical_path,
					     const char *name, struct coord_failure *f);
/* id: a class or an instance (W-13) */
enum umbra_error coord_session_enable_writer(struct coord_session *s, const char *id, bool enable,
					     struct coord_failure *f);
/* M-5, W-2. Whether all that must come along was added too, is looked at in coord_session_prepare. */
enum umbra_error coord_session_add_component(struct coord_session *s, const char *instance_id,
					     const char *logical_path, const char *name,
					     struct coord_failure *f);
/* S-11: *ret_document the backup document, *ret_writers those of the writers; new references. */
enum umbra_error coord_session_save_document(struct coord_session *s, json_t **ret_document,
					     json_t **ret_writers, struct coord_failure *f);

/* Asynchronous (S-7): *ret is owned by the session and lives as long as it. */
enum umbra_error coord_session_gather_metadata(struct coord_session *s,
					       struct coord_operation **ret,
					       struct coord_failure *f);
enum umbra_error coord_session_gather_status(struct coord_session *s, struct coord_operation **ret,
					     struct coord_failure *f);
enum umbra_error coord_session_prepare(struct coord_session *s, struct coord_operation **ret,
				       struct coord_failure *f);
enum umbra_error coord_session_create(struct coord_session *s, struct coord_operation **ret,
				      struct coord_failure *f);
enum umbra_error coord_session_complete(struct coord_session *s, struct coord_operation **ret,
					struct coord_failure *f);

/* NULL: none of this session has that id. */
struct coord_operation *coord_session_operation(struct coord_session *s, const char *id);
/* S-8. Returns "pending" (asked to end), "cancelled" or its final status; static. */
const char *coord_session_cancel(struct coord_session *s, struct coord_operation *op);

/* AbortBackup: done is called when all is undone, perhaps from within; not when this is refused. */
enum umbra_error coord_session_abort(struct coord_session *s, void (*done)(void *data), void *data,
				     struct coord_failure *f);

/* D-8: done is called when all of it ended, perhaps from within; NULL fine. Released already: at
 * once. */
void coord_session_release(struct coord_session *s, void (*done)(void *data), void *data);

/* Nobody waits for abort or release any more. */
void coord_session_forget(struct coord_session *s);

/* For tests: does the table have this pair, whatever the further conditions? */
bool coord_session_table(enum coord_session_state st, enum coord_call call);

#endif
