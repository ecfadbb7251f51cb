/* tools/session.h - one backup session from InitializeForBackup to Release (protocol 2.1, K-2).
 * Job:     the requester's calls in their order, its duties when something fails.
 * Errors:  0 or an exit status, and it was said why; then session_end() does what is left to do.
 * Threads: the command has one. */
#ifndef UMBRA_TOOLS_SESSION_H
#define UMBRA_TOOLS_SESSION_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "coordinator/client/client.h"

#define SESSION_WRITERS_MAX 64

/* Writers by name, class id or instance id, as --include and --exclude give them. */
struct session_writers {
	const char *names[SESSION_WRITERS_MAX]; /* borrowed */
	size_t count;
};

struct session_plan {
	const char *context;		 /* a result of text_context() */
	const char *label, *description; /* may be NULL */
	bool require_writers;
	struct session_writers include, exclude; /* include empty: all */
	unsigned retry_min; /* how long to wait for the creation slot (S-9) */
	char *const *trees; /* paths of protected directories, each once */
	size_t tree_count;
};

struct session {
	struct umbra_client *client;	 /* owned */
	const struct session_plan *plan; /* borrowed */
	json_t *snapshots;		 /* array of Snapshot, one per tree, once created */
	char *set_id;
	json_t *failed_writers; /* instance id: what was said of it */
	struct watch *watch;	/* -v */
	bool set_open; /* AbortBackup is due unless completed */
};

/** One more name; false: there are SESSION_WRITERS_MAX already. */
bool session_writers_add(struct session_writers *list, const char *name);

/**
 * EnableWriter or DisableWriter for each writer that goes by a name (find_is_writer()).
 * @writers  array of Writer
 * @see      the command that lists them, for the message when there is none
 */
int session_call_writers(struct umbra_client *c, const json_t *writers, const char *name,
			 const char *method, const char *see);

/** Make the snapshots. Afterwards s->snapshots is there, in the order of the plan's trees. */
int session_create(struct session *s, const struct session_plan *plan);
/** Tell the writers that the backup went well: SetBackupSucceeded, BackupComplete. */
int session_complete(struct session *s);
/** AbortBackup where it is due, Release, close. Any state, also after a failure; then empty. */
void session_end(struct session *s);
/** The exit status of a session that did all it should: TOOL_DONE or TOOL_WRITER. */
int session_status(const struct session *s);

#endif
