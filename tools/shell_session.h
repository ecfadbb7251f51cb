/* tools/shell_session.h - the session of umbra shell, and how it backs up (protocol 2.1, 11; K-2, K-3); how it
 *          restores is shell_restore.h.
 * Job:     remembers what the session shall be, makes it in one go, ends it as it has to be ended.
 *          The creation slot is held during shell_session_create() only, however slowly somebody types.
 * Errors:  0 or an exit status, and it was said why.
 * Threads: the command has one. */
#ifndef UMBRA_TOOLS_SHELL_SESSION_H
#define UMBRA_TOOLS_SHELL_SESSION_H

#include <jansson.h>
#include <stdbool.h>

#include "coordinator/client/client.h"
#include "coordinator/client/umbra/requester.h"

/* Where a session is; "set" and "add" are for the first only, "reset" leads back to it. */
enum shell_state {
	SHELL_OPEN,	 /* being described */
	SHELL_CREATED,	 /* the set is there; after "begin backup" the writers wait for its end */
	SHELL_COMPLETED, /* BackupComplete was sent, or nobody had to be told */
	SHELL_RESTORING, /* PreRestore was sent: PostRestore is due */
	SHELL_RESTORED,
	SHELL_FAILED, /* S-1: nothing resumes */
};

/* SetContext's and the like. */
struct shell_options {
	bool no_autorecovery, rollback_recovery, differential, plex, transportable;
	bool require_writers;
};

struct shell_session {
	enum shell_state state;
	const char *context; /* a result of text_context() */
	struct shell_options options;
	char *metadata;			   /* where the documents go, owned; NULL: nowhere */
	json_t *trees;			   /* array of {path, alias?} */
	json_t *verify, *exclude;	   /* arrays of names */
	bool begun;			   /* "begin backup": a full backup, until "end backup" */
	struct umbra_documents *documents; /* of "load metadata", owned; NULL: none */

	struct umbra_client *client; /* once created, or restoring; owned */
	struct watch *watch;
	bool abort_due; /* */
	char *set_id;
	json_t *snapshots;	/* array of Snapshot, in the order of trees */
	json_t *must;		/* instance id: the name that "writer verify" gave */
	json_t *failed_writers; /* instance id: what was said of it */
};

/** A session with nothing said of it yet. To be ended with shell_session_end() in any case. */
int shell_session_init(struct shell_session *s);

/**
 * From InitializeForBackup to DoSnapshotSet, with a look at the writers after each step (W-6). What
 * "writer verify" named must be there and not fail, else nothing is made. Without "begin backup" the writers are
 * told at once that this copy is complete. On failure all is undone and the state SHELL_FAILED.
 * Only in SHELL_OPEN with a tree.
 */
int shell_session_create(struct shell_session *s);

/** "end backup": SetBackupSucceeded, BackupComplete, status. Only in SHELL_CREATED. */
int shell_session_complete(struct shell_session *s);

/** AbortBackup where it is due (A-22, K-3), Release (D-9), and forget everything. Any state; then empty. */
void shell_session_end(struct shell_session *s);

/** What "writer verify" named must not be among those that failed: TOOL_AGAIN. */
int shell_session_must_not_fail(const struct shell_session *s);

/** Release and close; the state stays. Only with a client. */
void shell_session_release(struct shell_session *s);

/** Whether a writer failed in it: exit status 4 (E-4). */
bool shell_session_has_failed_writers(const struct shell_session *s);

#endif
