/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra/requester.h - be a requester: a backup program that asks for snapshots.
 *
 * The calls are those of IVssBackupComponents, in its order (protocol 2.1). One requester is one
 * session: it does one thing once (S-1), after a failure it is only good for status, AbortBackup,
 * DeleteSnapshots and release.
 *
 *	umbra_requester_new(NULL, &r);
 *	umbra_requester_initialize_for_backup(r, false);
 *	umbra_requester_gather_writer_metadata(r);
 *	umbra_requester_start_snapshot_set(r, NULL);
 *	umbra_requester_add_to_snapshot_set(r, "/srv/data", NULL, NULL, id);
 *	umbra_requester_prepare_for_backup(r);
 *	umbra_requester_do_snapshot_set(r);
 *	umbra_requester_get_snapshot(r, id, &list);     copy from umbra_snapshot_path()
 *	umbra_requester_set_backup_succeeded(r, true, NULL, NULL, NULL);
 *	umbra_requester_backup_complete(r);
 *	umbra_requester_release(r);
 *	umbra_requester_free(r);
 *
 * A restore is a session of its own (protocol 8), with what umbra_requester_save_document() gave:
 *
 *	umbra_documents_load("/backup/documents", &documents);
 *	umbra_requester_new(NULL, &r);
 *	umbra_requester_initialize_for_restore(r, documents);
 *	umbra_requester_gather_writer_metadata(r);
 *	umbra_requester_get_restore_components(r, &list);
 *	umbra_requester_set_selected_for_restore(r, instance_id, logical_path, name, true);
 *	umbra_requester_pre_restore(r);
 *	umbra_requester_get_restore_components(r, &list);    copy to umbra_restore_component_target()
 *	umbra_requester_set_file_restore_status(r, instance_id, logical_path, name, UMBRA_RESTORE_ALL);
 *	umbra_requester_post_restore(r);
 *	umbra_requester_release(r);
 *
 * Whoever stops after umbra_requester_prepare_for_backup() and before the end of
 * umbra_requester_backup_complete(), for whatever reason, must call umbra_requester_abort_backup()
 * and await its return. There is no abort in a restore: whoever stops after
 * umbra_requester_pre_restore() calls umbra_requester_post_restore() all the same.
 *
 * Errors:  most calls return enum umbra_error: UMBRA_OK, or what the coordinator refused with. Any may
 *          return UMBRA_E_WRITER_INFRASTRUCTURE (the coordinator cannot be reached, or went away:
 *          then the session is over), UMBRA_E_OUT_OF_MEMORY (the session is over, too, when it is
 *          ours) and UMBRA_E_INVALID_ARGUMENT (also: a text is not UTF-8; nothing was sent).
 *          ret_ arguments are untouched on failure. umbra_requester_message() has the words.
 * Threads: one requester, with its operation and lists, is used by one thread at a time. Different
 *          requesters are independent. Every call waits for the coordinator's answer; those of the
 *          seven long calls (S-7) for the end of what they start, unless they are begun as an
 *          operation. SIGPIPE never comes, the descriptor is close-on-exec (D-10).
 * Texts:   borrowed ones are UTF-8, apart from paths, which are bytes.
 * C++:     fine. */
#ifndef UMBRA_REQUESTER_H
#define UMBRA_REQUESTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <umbra/error.h>

#ifdef __cplusplus
extern "C" {
#endif

#define UMBRA_ID_SIZE 37 /* bytes of a UUID as text, with its 0 */

struct umbra_requester;
struct umbra_operation;

/* What a snapshot is for (section 6); it decides whether it is persistent and whether writers take
 * part. */
enum umbra_context {
	UMBRA_CONTEXT_BACKUP,		 /* the default: one backup run; gone at release */
	UMBRA_CONTEXT_FILE_SHARE_BACKUP, /* the same without writers */
	UMBRA_CONTEXT_APP_ROLLBACK,	 /* persistent, with writers */
	UMBRA_CONTEXT_NAS_ROLLBACK,	 /* persistent, without writers */
	UMBRA_CONTEXT_CLIENT_ACCESSIBLE, /* "previous versions", persistent, without writers */
	UMBRA_CONTEXT_CLIENT_ACCESSIBLE_WRITERS, /* the same with writers */
	UMBRA_CONTEXT_ALL /* only for umbra_requester_query and _delete_snapshots (C-1) */
};

enum umbra_context_flags {
	UMBRA_NO_AUTORECOVERY = 1,  /* read-only from the commit on (C-6) */
	UMBRA_ROLLBACK_RECOVERY = 2 /* writers recover for going back; not with the former */
};

enum umbra_backup_type {
	UMBRA_BACKUP_FULL, /* the default */
	UMBRA_BACKUP_INCREMENTAL,
	UMBRA_BACKUP_DIFFERENTIAL,
	UMBRA_BACKUP_LOG,
	UMBRA_BACKUP_COPY, /* leaves the backup history alone */
	UMBRA_BACKUP_OTHER
};

enum umbra_backup_flags {
	UMBRA_COMPONENT_MODE = 1, /* only writers with a component added take part (W-2) */
	UMBRA_BOOTABLE_STATE = 2,
	UMBRA_PARTIAL_FILES = 4
};

/* The long calls (S-7). */
enum umbra_call {
	UMBRA_CALL_GATHER_WRITER_METADATA,
	UMBRA_CALL_PREPARE_FOR_BACKUP,
	UMBRA_CALL_DO_SNAPSHOT_SET,
	UMBRA_CALL_GATHER_WRITER_STATUS,
	UMBRA_CALL_BACKUP_COMPLETE,
	UMBRA_CALL_PRE_RESTORE,
	UMBRA_CALL_POST_RESTORE
};

/* ---- the session ---- */

/**
 * Connect to the coordinator.
 * @socket  its path, borrowed for the call; NULL: where umbra(1) looks for it
 * @ret     owned by the caller
 * Returns UMBRA_OK; UMBRA_E_WRITER_INFRASTRUCTURE none runs; UMBRA_E_ACCESS_DENIED it is another
 * user's; UMBRA_E_OUT_OF_MEMORY. umbra_requester_message(NULL) has the words then, for this thread.
 */
enum umbra_error umbra_requester_new(const char *socket, struct umbra_requester **ret);

/* End the connection, which releases the session (D-8) without waiting for that; an operation still
 * pending ends as if the coordinator had gone. Lists and operations stay the caller's. NULL is fine. */
void umbra_requester_free(struct umbra_requester *r);

/* What the last call that failed said, one line; "" before. NULL: of a failed umbra_requester_new in
 * this thread. Never NULL, borrowed until the next call. */
const char *umbra_requester_message(const struct umbra_requester *r);

/* Whether a new session may succeed later without other action, for that failure. Better than
 * umbra_error_again(): the coordinator knows the case. */
bool umbra_requester_again(const struct umbra_requester *r);

/* All that failed in the last long call that ended, also of one that succeeded, oldest first (E-3):
 * the i-th, borrowed until the next long call; NULL beyond the last. */
const char *umbra_requester_detail(const struct umbra_requester *r, size_t i);

/**
 * Begin a backup session; the first call.
 * @require_writers  strict: a writer that fails, fails DoSnapshotSet
 * Returns UMBRA_OK; UMBRA_E_BAD_STATE not the first; UMBRA_E_ACCESS_DENIED (S-12).
 */
enum umbra_error umbra_requester_initialize_for_backup(struct umbra_requester *r,
						       bool require_writers);

/* The session's id; "" before umbra_requester_initialize_for_backup() or _restore(). Borrowed from r. */
const char *umbra_requester_session_id(const struct umbra_requester *r);

/* At most once, right after the former (S-2). flags: UMBRA_NO_AUTORECOVERY ... Returns UMBRA_OK;
 * UMBRA_E_BAD_STATE; UMBRA_E_UNSUPPORTED_CONTEXT; UMBRA_E_INVALID_ARGUMENT flags that do not go with the
 * context or one another (C-6, C-7); UMBRA_E_ACCESS_DENIED (C-1). */
enum umbra_error umbra_requester_set_context(struct umbra_requester *r, enum umbra_context context,
					     unsigned flags);

/* Before umbra_requester_prepare_for_backup() (S-3). flags: UMBRA_COMPONENT_MODE ... Returns UMBRA_OK;
 * UMBRA_E_BAD_STATE. */
enum umbra_error umbra_requester_set_backup_state(struct umbra_requester *r,
						  enum umbra_backup_type type, unsigned flags);

/* Before umbra_requester_gather_writer_metadata(). id: of a class or an instance; with any enabled all
 * others are disabled (W-13). Returns UMBRA_OK; UMBRA_E_BAD_STATE; UMBRA_E_OBJECT_NOT_FOUND. */
enum umbra_error umbra_requester_enable_writer(struct umbra_requester *r, const char *id);
enum umbra_error umbra_requester_disable_writer(struct umbra_requester *r, const char *id);

/* Ask all writers who they are (Identify). Once in a session; compulsory before DoSnapshotSet in a
 * context with writers (S-5). Returns as umbra_operation_error(). */
enum umbra_error umbra_requester_gather_writer_metadata(struct umbra_requester *r);

/* Back up a component explicitly: that of a writer's document with this logical path (NULL: none) and
 * name (M-5). Between gathering and preparing. Returns UMBRA_OK; UMBRA_E_OBJECT_NOT_FOUND;
 * UMBRA_E_OBJECT_ALREADY_EXISTS; UMBRA_E_BAD_STATE; UMBRA_E_INVALID_ARGUMENT it comes in with one above
 * it. */
enum umbra_error umbra_requester_add_component(struct umbra_requester *r, const char *instance_id,
					       const char *logical_path, const char *name);

/* Take the creation slot, of which there is one for all sessions. ret_set_id may be NULL. Returns
 * UMBRA_OK; UMBRA_E_SNAPSHOT_SET_IN_PROGRESS another session has it: try again (S-9);
 * UMBRA_E_BAD_STATE. */
enum umbra_error umbra_requester_start_snapshot_set(struct umbra_requester *r,
						    char ret_set_id[UMBRA_ID_SIZE]);

/**
 * Add a protected directory to the set.
 * @path             any path inside of it; symbolic links are followed; borrowed
 * @label            for people; NULL: none
 * @description      the same, longer
 * @ret_snapshot_id  may be NULL
 * Returns UMBRA_OK; as N-2: UMBRA_E_OBJECT_NOT_FOUND not protected, UMBRA_E_OBJECT_ALREADY_EXISTS in the
 * set already, UMBRA_E_VOLUME_NOT_SUPPORTED, UMBRA_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED,
 * UMBRA_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED; UMBRA_E_BAD_STATE. The set is as before then.
 */
enum umbra_error umbra_requester_add_to_snapshot_set(struct umbra_requester *r, const char *path,
						     const char *label, const char *description,
						     char ret_snapshot_id[UMBRA_ID_SIZE]);

/* Tell the writers that a backup begins (PrepareBackup). A writer's failure is no failure of the call
 * (W-6): ask umbra_requester_gather_writer_status(). In contexts with writers only. */
enum umbra_error umbra_requester_prepare_for_backup(struct umbra_requester *r);

/* Make the snapshots: freeze, hold, commit, thaw (3.2). After UMBRA_E_FLUSH_WRITES_TIMEOUT,
 * UMBRA_E_HOLD_WRITES_TIMEOUT and UMBRA_E_PROVIDER_VETO: abort, wait ten minutes and try again, three
 * times at most (E-0). */
enum umbra_error umbra_requester_do_snapshot_set(struct umbra_requester *r);

/* How the writers are; due after PrepareForBackup, DoSnapshotSet and BackupComplete (W-6). The rows are
 * read with umbra_requester_get_writer_status(). */
enum umbra_error umbra_requester_gather_writer_status(struct umbra_requester *r);

/* Note that a component was backed up, or was not; one that nobody spoke of counts as failed (M-7).
 * instance_id NULL: all explicit components. Returns UMBRA_OK; UMBRA_E_OBJECT_NOT_FOUND;
 * UMBRA_E_BAD_STATE: only between DoSnapshotSet and BackupComplete. */
enum umbra_error umbra_requester_set_backup_succeeded(struct umbra_requester *r, bool succeeded,
						      const char *instance_id,
						      const char *logical_path, const char *name);

/* Tell the writers that the data are safe. Once; afterwards no AbortBackup is due. In contexts with
 * writers only. */
enum umbra_error umbra_requester_backup_complete(struct umbra_requester *r);

/* End a backup that will not be completed (section 4): returns when all writers were told, the set, if
 * it was not created, is gone, and the slot is free. Never an error where it need not be called, apart
 * from UMBRA_E_BAD_STATE before umbra_requester_initialize_for_backup(). A pending operation is
 * cancelled. Created snapshots stay until release, persistent ones beyond. */
enum umbra_error umbra_requester_abort_backup(struct umbra_requester *r);

/* End the session: unfinished and auto-release snapshots go, writers are told. Returns when that is
 * done (D-9). Only umbra_requester_free() is left to be called. */
enum umbra_error umbra_requester_release(struct umbra_requester *r);

/* ---- operations: the long calls without waiting ---- */

enum umbra_status {
	UMBRA_STATUS_PENDING,
	UMBRA_STATUS_FINISHED,
	UMBRA_STATUS_CANCELLED,
	UMBRA_STATUS_FAILED /* umbra_operation_error() says with what */
};

/**
 * Start one of the long calls. While it is pending other calls of r may be made; they may have to
 * wait for up to a tenth of a second more. One operation at a time.
 * @ret  owned by the caller; r must outlive it while it is pending
 * Returns UMBRA_OK it is under way; UMBRA_E_BAD_STATE not now, or another one is pending.
 */
enum umbra_error umbra_requester_begin(struct umbra_requester *r, enum umbra_call call,
				       struct umbra_operation **ret);

/* Wait for its end, timeout_ms milliseconds at most, -1: without limit, 0: only look. Returns its
 * status: UMBRA_STATUS_PENDING the time is over. */
enum umbra_status umbra_operation_wait(struct umbra_operation *op, int timeout_ms);

/* For the caller's own loop: poll this for reading and call umbra_operation_dispatch() when it is
 * readable. -1: it is not pending any more. Borrowed; closed by umbra_requester_free(). */
int umbra_operation_fd(const struct umbra_operation *op);

/* Take what has come, without waiting. Returns its status. */
enum umbra_status umbra_operation_dispatch(struct umbra_operation *op);

/* Its status as far as it is known here; asks nobody. */
enum umbra_status umbra_operation_status(const struct umbra_operation *op);

/* What the call ended with: UMBRA_OK when it is finished, or still pending; UMBRA_E_CANCELLED. */
enum umbra_error umbra_operation_error(const struct umbra_operation *op);

/* Ask for its end (S-8). It goes on being pending until it has ended, so wait for that. Returns
 * UMBRA_STATUS_PENDING asked; UMBRA_STATUS_CANCELLED, _FINISHED, _FAILED: it was over already. A
 * cancelled call does not replace AbortBackup. */
enum umbra_status umbra_operation_cancel(struct umbra_operation *op);

/* Forgets it; it goes on by itself. NULL is fine. */
void umbra_operation_free(struct umbra_operation *op);

/* ---- snapshots ---- */

struct umbra_snapshots; /* a list */
struct umbra_snapshot;	/* one of it, borrowed from the list, as are all texts */

/* Of this session, once created, or any other that may be seen. *ret: a list of one, owned by the
 * caller. Returns UMBRA_OK; UMBRA_E_OBJECT_NOT_FOUND also: not created yet (N-4). */
enum umbra_error umbra_requester_get_snapshot(struct umbra_requester *r, const char *snapshot_id,
					      struct umbra_snapshots **ret);

/* What there is, in the session's context, or every one in UMBRA_CONTEXT_ALL (C-2). tree: any path in
 * it; each may be NULL. *ret: owned by the caller, perhaps empty. Returns UMBRA_OK; UMBRA_E_BAD_STATE;
 * UMBRA_E_OBJECT_NOT_FOUND tree is not protected. */
enum umbra_error umbra_requester_query(struct umbra_requester *r, const char *tree,
				       const char *snapshot_id, const char *set_id,
				       struct umbra_snapshots **ret);

/**
 * Delete a snapshot, or all of a set, one after the other (D-11).
 * @id                     of the snapshot or the set
 * @force                  also what is in use (D-12)
 * @ret_deleted            how many are gone; may be NULL. Filled in on failure, too.
 * @ret_first_not_deleted  "" when all are; may be NULL. Filled in on failure, too.
 * Returns UMBRA_OK; UMBRA_E_OBJECT_NOT_FOUND; UMBRA_E_VOLUME_IN_USE; UMBRA_E_BAD_STATE; what failed first
 * in other ways. What was deleted stays so.
 */
enum umbra_error umbra_requester_delete_snapshots(struct umbra_requester *r, const char *id,
						  bool force, size_t *ret_deleted,
						  char ret_first_not_deleted[UMBRA_ID_SIZE]);

/**
 * Mount a snapshot read-only for good (C-10): the session's end, a crash and a reboot change nothing, it
 * is mounted again whenever its tree is protected, until it is unexposed or deleted. Of the contexts
 * APP_ROLLBACK and NAS_ROLLBACK only; in a session that has created its set, or that only asks and manages.
 * @path    an empty directory outside of the tree; symbolic links are followed; NULL: a place is made in
 *	    the runtime directory
 * @subdir  show only this directory of the snapshot, a path from its root on; NULL: all of it
 * @ret     a list of one that says where, umbra_snapshot_exposed_path(); owned by the caller; may be NULL
 * Returns UMBRA_OK; UMBRA_E_OBJECT_NOT_FOUND no such snapshot, mount point or directory in it;
 * UMBRA_E_UNSUPPORTED_CONTEXT; UMBRA_E_OBJECT_ALREADY_EXISTS it is exposed, or something of Umbra's is
 * mounted there; UMBRA_E_INVALID_ARGUMENT the mount point is not empty, or in the tree;
 * UMBRA_E_ACCESS_DENIED not your mount point, or not root at root's coordinator;
 * UMBRA_E_NOT_SUPPORTED fusermount3 is missing; UMBRA_E_BAD_STATE. Nothing is left then.
 */
enum umbra_error umbra_requester_expose(struct umbra_requester *r, const char *snapshot_id,
					const char *path, const char *subdir,
					struct umbra_snapshots **ret);

/* End that. force: also while in use, for its users it lives on until they leave. Returns UMBRA_OK;
 * UMBRA_E_OBJECT_NOT_FOUND no such snapshot, or it is not exposed; UMBRA_E_VOLUME_IN_USE it stays exposed;
 * UMBRA_E_ACCESS_DENIED; UMBRA_E_BAD_STATE. */
enum umbra_error umbra_requester_unexpose(struct umbra_requester *r, const char *snapshot_id,
					  bool force);

/**
 * The whole tree of a persistent snapshot becomes the snapshot again: newer snapshots of the tree are deleted,
 * other programs' changes fail with EBUSY meanwhile. Not undoable, cannot be cancelled, and goes on without us. Waits.
 * @snapshot_id  "persistent" is what umbra_snapshot_persistent() says
 * @force        also while files of the tree are open, or newer snapshots in use
 * Returns UMBRA_OK; UMBRA_E_OBJECT_NOT_FOUND; UMBRA_E_UNSUPPORTED_CONTEXT it is not persistent;
 * UMBRA_E_REVERT_IN_PROGRESS; UMBRA_E_VOLUME_IN_USE; UMBRA_E_VOLUME_NOT_SUPPORTED something was changed while
 * nobody watched, so that what it was is not known; UMBRA_E_REVERT_VOLUME_LOST its umbrafs ended, the next one
 * goes on. Any other failure: partly done, the message says what stopped it; call it again.
 */
enum umbra_error umbra_requester_revert(struct umbra_requester *r, const char *snapshot_id,
					bool force);

/* The same without waiting, as umbra_requester_begin(). umbra_operation_cancel() changes nothing. */
enum umbra_error umbra_requester_begin_revert(struct umbra_requester *r, const char *snapshot_id,
					      bool force, struct umbra_operation **ret);

size_t umbra_snapshots_count(const struct umbra_snapshots *list);
/* NULL beyond the last. */
const struct umbra_snapshot *umbra_snapshots_get(const struct umbra_snapshots *list, size_t i);
void umbra_snapshots_free(struct umbra_snapshots *list); /* NULL is fine */

const char *umbra_snapshot_id(const struct umbra_snapshot *s);
const char *umbra_snapshot_set_id(const struct umbra_snapshot *s);
const char *umbra_snapshot_tree_id(const struct umbra_snapshot *s);
const char *umbra_snapshot_tree_path(const struct umbra_snapshot *s);
const char *umbra_snapshot_context(const struct umbra_snapshot *s);	/* "backup" ... */
const char *umbra_snapshot_label(const struct umbra_snapshot *s);	/* NULL: none */
const char *umbra_snapshot_description(const struct umbra_snapshot *s); /* NULL: none */
const char *umbra_snapshot_name(const struct umbra_snapshot *s);	/* below .snapshots */
const char *umbra_snapshot_path(const struct umbra_snapshot *s);    /* NULL: switched off there */
const char *umbra_snapshot_created(const struct umbra_snapshot *s); /* RFC 3339, UTC, nanoseconds */
bool umbra_snapshot_persistent(const struct umbra_snapshot *s);
bool umbra_snapshot_auto_release(const struct umbra_snapshot *s);
unsigned umbra_snapshot_in_set(const struct umbra_snapshot *s); /* how many its set had (N-4) */
uint64_t umbra_snapshot_stored_bytes(const struct umbra_snapshot *s);
uint64_t umbra_snapshot_changed_files(const struct umbra_snapshot *s);
unsigned umbra_snapshot_in_use(const struct umbra_snapshot *s);	     /* mounts and open files */
bool umbra_snapshot_exposed_locally(const struct umbra_snapshot *s); /* C-10, mounted now or not */
const char *umbra_snapshot_exposed_path(
	const struct umbra_snapshot *s); /* where; NULL: not exposed */
const char *umbra_snapshot_exposed_subdir(const struct umbra_snapshot *s);  /* NULL: all of it */
const char *umbra_snapshot_exposed_problem(const struct umbra_snapshot *s); /* why it is not mounted
									     * now; NULL: it is */

/* ---- writers ---- */

struct umbra_writers;	  /* a list */
struct umbra_writer_info; /* one of it, borrowed from the list, as are all texts */

/* Who answered Identify. *ret: owned by the caller. Returns UMBRA_OK; UMBRA_E_BAD_STATE not gathered. */
enum umbra_error umbra_requester_get_writer_metadata(struct umbra_requester *r,
						     struct umbra_writers **ret);

/* As of the last umbra_requester_gather_writer_status(). Returns alike. */
enum umbra_error umbra_requester_get_writer_status(struct umbra_requester *r,
						   struct umbra_writers **ret);

size_t umbra_writers_count(const struct umbra_writers *list);
const struct umbra_writer_info *umbra_writers_get(const struct umbra_writers *list, size_t i);
void umbra_writers_free(struct umbra_writers *list); /* NULL is fine */

/* In both lists. */
const char *umbra_writer_info_class_id(const struct umbra_writer_info *w);
const char *umbra_writer_info_instance_id(const struct umbra_writer_info *w);
const char *umbra_writer_info_name(const struct umbra_writer_info *w);
const char *umbra_writer_info_instance_name(const struct umbra_writer_info *w); /* NULL: none */

/* Metadata only, else NULL. */
const char *umbra_writer_info_usage(const struct umbra_writer_info *w);	   /* "user-data" ... */
const char *umbra_writer_info_source(const struct umbra_writer_info *w);   /* "transacted-db" ... */
const char *umbra_writer_info_level(const struct umbra_writer_info *w);	   /* "front-end" ... */
const char *umbra_writer_info_document(const struct umbra_writer_info *w); /* JSON; NULL: none */

/* Status only, else NULL, false, -1. */
const char *umbra_writer_info_session_id(
	const struct umbra_writer_info *w);				/* W-7; NULL: none yet */
const char *umbra_writer_info_state(const struct umbra_writer_info *w); /* "failed-at-freeze" ... */
const char *umbra_writer_info_error(
	const struct umbra_writer_info *w); /* "timeout" ...; NULL: none */
const char *umbra_writer_info_message(const struct umbra_writer_info *w); /* NULL: none */
bool umbra_writer_info_aborted(const struct umbra_writer_info *w);
int64_t umbra_writer_info_frozen_ms(const struct umbra_writer_info *w); /* -1: it was not */

/* ---- the documents ---- */

struct umbra_documents;

/* What a restore needs: the backup document and each writer's, all as text, to be kept with the
 * backup. *ret: owned by the caller. Returns UMBRA_OK; UMBRA_E_BAD_STATE before DoSnapshotSet succeeded
 * (S-11); UMBRA_E_OUT_OF_MEMORY also: longer than 64 MiB, which is as much as a restore takes. */
enum umbra_error umbra_requester_save_document(struct umbra_requester *r,
					       struct umbra_documents **ret);

const char *umbra_documents_backup(const struct umbra_documents *d);
/* The i-th writer's; NULL beyond the last. */
const char *umbra_documents_writer(const struct umbra_documents *d, size_t i);
void umbra_documents_free(struct umbra_documents *d); /* NULL is fine */

/* From texts that were kept in some way of the caller's own; copied. Returns UMBRA_OK;
 * UMBRA_E_INVALID_ARGUMENT one is not UTF-8; UMBRA_E_OUT_OF_MEMORY. */
enum umbra_error umbra_documents_new(const char *backup, const char *const *writers, size_t count,
				     struct umbra_documents **ret);

/* To a file, which is replaced in one step when all of it is on disk, mode 0600; on failure what was there
 * stays. It is what "set metadata" of umbra-shell(1) writes. Returns 0; -errno of writing; -ENOMEM. */
int umbra_documents_save(const struct umbra_documents *d, const char *path);

/* From such a file. *ret: owned by the caller. Returns 0; -errno of reading; -EBADMSG it is damaged;
 * -EINVAL it is another kind of file, or of a later version; -EFBIG longer than any; -ENOMEM. What the
 * documents say is not looked at: umbra_requester_initialize_for_restore() does. */
int umbra_documents_load(const char *path, struct umbra_documents **ret);

/* ---- a restore (section 8) ----
 *
 * A component is named by its writer, logical path (NULL: none) and name. The writer by instance_id: that in
 * the backup document, or that of the instance which stands for it now, the same class and instance name
 * (W-1). What is copied where, and when, is the requester's business, between PreRestore and PostRestore. */

/* How much of a component was restored. */
enum umbra_restore_status {
	UMBRA_RESTORE_UNDEFINED, /* not reported: so it is before umbra_requester_set_file_restore_status */
	UMBRA_RESTORE_NONE, /* it failed, and nothing was touched */
	UMBRA_RESTORE_ALL,
	UMBRA_RESTORE_FAILED /* partly overwritten: the data are unusable */
};

/**
 * Begin a restore session; the first call, instead of umbra_requester_initialize_for_backup().
 * @documents  borrowed for the call
 * Returns UMBRA_OK; UMBRA_E_CORRUPT_DOCUMENT unreadable; UMBRA_E_INVALID_DOCUMENT not ours, of a later
 * version, or a writer's document is missing (X-2, M-10); UMBRA_E_INVALID_ARGUMENT longer than 64 MiB, or for
 * a caller who is not privileged 2 MiB; UMBRA_E_OUT_OF_MEMORY also: other restores have too many documents
 * there now; UMBRA_E_BAD_STATE not the first; UMBRA_E_ACCESS_DENIED (S-12). After a failure it may be tried
 * again.
 */
enum umbra_error umbra_requester_initialize_for_restore(struct umbra_requester *r,
							const struct umbra_documents *documents);

/* umbra_requester_gather_writer_metadata(), and after each step umbra_requester_gather_writer_status(),
 * as in a backup. The first is due before all that follows (S-5). */

/* Restore an explicit component of the backup; false: do not, and forget what was said of it. Before
 * PreRestore. Returns UMBRA_OK; UMBRA_E_OBJECT_NOT_FOUND the backup has none of that name, or nobody
 * stands for its writer; UMBRA_E_BAD_STATE. */
enum umbra_error umbra_requester_set_selected_for_restore(struct umbra_requester *r,
							  const char *instance_id,
							  const char *logical_path,
							  const char *name, bool selected);

/* Of a selected component only this part, and others named so. Before PreRestore. Returns UMBRA_OK;
 * UMBRA_E_OBJECT_NOT_FOUND not selected, or it has no such part; UMBRA_E_INVALID_ARGUMENT that cannot be
 * restored by itself; UMBRA_E_OBJECT_ALREADY_EXISTS; UMBRA_E_BAD_STATE. */
enum umbra_error umbra_requester_add_restore_subcomponent(
	struct umbra_requester *r, const char *instance_id, const char *logical_path,
	const char *name, const char *sub_logical_path, const char *sub_name);

/* A text for the writer of a selected component to read. Before PreRestore. Returns UMBRA_OK;
 * UMBRA_E_OBJECT_NOT_FOUND not selected; UMBRA_E_BAD_STATE. */
enum umbra_error umbra_requester_set_restore_options(struct umbra_requester *r,
						     const char *instance_id,
						     const char *logical_path, const char *name,
						     const char *options);

/**
 * Say that files of a selected component will be restored elsewhere. Before PreRestore.
 * @path, @pattern, @recursive  of a file set of the component or of a part of it (M-4)
 * @destination                 a directory; absolute, as path; bytes
 * Returns UMBRA_OK; UMBRA_E_OBJECT_NOT_FOUND not selected, or no such file set;
 * UMBRA_E_INVALID_ARGUMENT not absolute, or the ten-thousandth and more; UMBRA_E_BAD_STATE.
 */
enum umbra_error umbra_requester_add_new_target(struct umbra_requester *r, const char *instance_id,
						const char *logical_path, const char *name,
						const char *path, const char *pattern,
						bool recursive, const char *destination);

/* Tell the writers of the selected components that a restore begins; those that want to be told. Each
 * may say where its components are to go: read umbra_restore_component_target() after it. A
 * writer's failure is no failure of the call. Returns as umbra_operation_error(). */
enum umbra_error umbra_requester_pre_restore(struct umbra_requester *r);

/* Between PreRestore and PostRestore: what became of a selected component. Returns UMBRA_OK;
 * UMBRA_E_OBJECT_NOT_FOUND not selected; UMBRA_E_BAD_STATE. */
enum umbra_error umbra_requester_set_file_restore_status(struct umbra_requester *r,
							 const char *instance_id,
							 const char *logical_path, const char *name,
							 enum umbra_restore_status status);

/* Whether further restores of it are to follow, so that the writer does not start work on it yet. At the
 * same time, returns alike. */
enum umbra_error umbra_requester_set_additional_restores(struct umbra_requester *r,
							 const char *instance_id,
							 const char *logical_path, const char *name,
							 bool additional);

/* What was restored to an alternate location. At the same time; arguments and results as of
 * umbra_requester_add_new_target(). */
enum umbra_error umbra_requester_add_alternate_mapping(struct umbra_requester *r,
						       const char *instance_id,
						       const char *logical_path, const char *name,
						       const char *path, const char *pattern,
						       bool recursive, const char *destination);

/* Tell the writers that the files are there, also when they are not. Once. Returns as
 * umbra_operation_error(). */
enum umbra_error umbra_requester_post_restore(struct umbra_requester *r);

struct umbra_restore_components; /* a list: the explicit components of the backup */
struct umbra_restore_component;	 /* one of it, borrowed from the list, as are all texts */

/* At any time after gathering. *ret: owned by the caller, perhaps empty. Returns UMBRA_OK;
 * UMBRA_E_BAD_STATE. */
enum umbra_error umbra_requester_get_restore_components(struct umbra_requester *r,
							struct umbra_restore_components **ret);

size_t umbra_restore_components_count(const struct umbra_restore_components *list);
/* NULL beyond the last. */
const struct umbra_restore_component *umbra_restore_components_get(
	const struct umbra_restore_components *list, size_t i);
void umbra_restore_components_free(struct umbra_restore_components *list); /* NULL is fine */

/* Its writer: as it was, and who stands for it now; NULL: nobody, so it cannot be selected. */
const char *umbra_restore_component_instance_id(const struct umbra_restore_component *c);
const char *umbra_restore_component_present_instance_id(const struct umbra_restore_component *c);
const char *umbra_restore_component_class_id(const struct umbra_restore_component *c);
const char *umbra_restore_component_writer_name(const struct umbra_restore_component *c);
const char *umbra_restore_component_writer_instance_name(
	const struct umbra_restore_component *c); /* NULL: none */
const char *umbra_restore_component_metadata(
	const struct umbra_restore_component *c); /* of the writer (M-6), JSON; NULL: none */

/* Of the backup. */
const char *umbra_restore_component_logical_path(const struct umbra_restore_component *c);
const char *umbra_restore_component_name(const struct umbra_restore_component *c);
const char *umbra_restore_component_type(
	const struct umbra_restore_component *c); /* "database", "file-group" */
bool umbra_restore_component_succeeded(const struct umbra_restore_component *c); /* M-7 */

/* Of the restore; where it is not selected false, NULL, "original", UMBRA_RESTORE_UNDEFINED. */
bool umbra_restore_component_selected(const struct umbra_restore_component *c);
const char *umbra_restore_component_options(const struct umbra_restore_component *c);
/* Where it is to go: "original", "alternate": as the writer's document maps it, "directed": as the
 * objects of the writer's own form say, which are a JSON array; NULL: none. */
const char *umbra_restore_component_target(const struct umbra_restore_component *c);
const char *umbra_restore_component_directed(const struct umbra_restore_component *c);
enum umbra_restore_status umbra_restore_component_status(const struct umbra_restore_component *c);
bool umbra_restore_component_additional_restores(const struct umbra_restore_component *c);

#ifdef __cplusplus
}
#endif

#endif
