/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cow/provider.h - what a provider of snapshots is asked for, and what it knows of a snapshot.
 * Job:     the vocabulary that coordinator/, fs/ and cow/ share: contexts, states, one snapshot's
 *          properties. No functions: the coordinator reaches a provider over a socket.
 * Rules:   protocol sections 6 (contexts), 2.3 (set states), C-13 (properties). */
#ifndef UMBRA_COW_PROVIDER_H
#define UMBRA_COW_PROVIDER_H

#include <stdbool.h>
#include <stdint.h>

#define COW_UUID_LEN 36		  /* text form, lower case, without the NUL (V-1) */
#define COW_LABEL_MAX 127	  /* bytes, without the NUL */
#define COW_EXTRA_MAX (64 * 1024) /* bytes of opaque text kept with a snapshot */
#define COW_HOLD_MAX_MS 10000	  /* T-2 and I-6: no hold lasts longer, whatever happens */
#define COW_TREES_MAX 64	  /* trees in one set (N-2) */
#define COW_SNAPSHOTS_MAX 512	  /* snapshots of one tree (N-2) */

/* Contexts of protocol section 6; the numbers are on disk. */
enum cow_context {
	COW_CTX_BACKUP = 1,
	COW_CTX_FILE_SHARE_BACKUP = 2,
	COW_CTX_APP_ROLLBACK = 3,
	COW_CTX_NAS_ROLLBACK = 4,
	COW_CTX_CLIENT_ACCESSIBLE = 5,
	COW_CTX_CLIENT_ACCESSIBLE_WRITERS = 6,
	COW_CTX_ALL = 7, /* of a session only, never of a snapshot (C-1) */
};

/* Is a snapshot of this context kept over release, restart and reboot (section 6, "Persistent")? */
static inline bool cow_context_persistent(enum cow_context c)
{
	return c >= COW_CTX_APP_ROLLBACK && c <= COW_CTX_CLIENT_ACCESSIBLE_WRITERS;
}

/* Does release of the session delete it (section 6, "Auto-release")? */
static inline bool cow_context_auto_release(enum cow_context c)
{
	return c == COW_CTX_BACKUP || c == COW_CTX_FILE_SHARE_BACKUP;
}

static inline bool cow_context_client_accessible(enum cow_context c)
{
	return c == COW_CTX_CLIENT_ACCESSIBLE || c == COW_CTX_CLIENT_ACCESSIBLE_WRITERS;
}

/* Life of one snapshot in its store; the numbers are on disk. */
enum cow_snapshot_state {
	COW_SNAP_OPENED = 1,  /* epoch open, set not yet `created`: shown to nobody (N-4) */
	COW_SNAP_CREATED = 2, /* shown, readable */
	COW_SNAP_DROPPED = 3, /* gone; its space is being given back */
};

/* Why a snapshot went away without anybody asking (I-5, F-9, F-14). */
enum cow_drop_cause {
	COW_DROP_REQUEST = 0,	 /* asked for */
	COW_DROP_FULL = 1,	 /* store at its maximum or disk full */
	COW_DROP_FAULT = 2,	 /* an old value could not be preserved, or the store is damaged */
	COW_DROP_UNFINISHED = 3, /* found not `created` at start (N-7) */
	COW_DROP_BOOT = 4,	 /* not persistent, and the machine went down uncleanly */
};

/* One snapshot of one tree. Plain data; strings are NUL-terminated UTF-8. */
struct cow_snapshot {
	uint64_t epoch; /* 0 until opened; never used twice in a store */
	char id[COW_UUID_LEN + 1];
	char set_id[COW_UUID_LEN + 1];
	enum cow_context context;
	enum cow_snapshot_state state;
	uint32_t in_set;	       /* snapshots in the set at creation (N-4) */
	int64_t opened_ns;	       /* CLOCK_REALTIME of the epoch's opening, ns since 1970 */
	char label[COW_LABEL_MAX + 1]; /* "" when none */
	char name[COW_LABEL_MAX + 1];  /* entry under .snapshots (C-12); unique in the tree */
	char *extra; /* opaque text of the coordinator's, or NULL; owned by the struct */

	/* Filled in by lists, ignored on opening. */
	uint64_t stored_bytes;	/* preserved data held under this epoch's label */
	uint64_t changed_files; /* inodes whose old attributes it holds */
	unsigned in_use;	/* open files and mounts of it */
};

#endif
