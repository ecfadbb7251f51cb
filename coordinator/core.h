/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/core.h - what all sessions share.
 * Job:     the registry, the timers, the creation slot (V-3), limits, the list of sessions; a
 *          provider's coming and going. No sockets, no JSON: unit tests drive it with fake
 *          providers and a test clock.
 * Errors:  0 or -errno.
 * Threads: the coordinator's one.
 * Rules:   S-9, N-7, F-16, T-13. */
#ifndef UMBRA_COORDINATOR_CORE_H
#define UMBRA_COORDINATOR_CORE_H

#include "coordinator/registry.h"
#include "coordinator/timer.h"
#include "coordinator/writers.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/* Protocol 3.4 and N-2; the defaults are those of coord_core_init. */
struct coord_limits {
	uint32_t hold_ms;	  /* T-2 */
	uint32_t flush_ms;	  /* T-3 */
	uint32_t prepare_ms;	  /* T-8: begin and end of preparation */
	uint32_t commit_ms;	  /* T-8: post-commit; also each step of undoing */
	uint32_t drop_ms;	  /* one deletion */
	uint32_t slot_started_ms; /* T-9 after StartSnapshotSet */
	uint32_t slot_ms;	  /* T-9 after AddToSnapshotSet or PrepareForBackup */
	uint32_t identify_ms;	  /* T-5 */
	uint32_t event_ms;	  /* T-6, each of them */
	uint32_t end_ms;	  /* T-7: Abort, BackupShutdown */
	size_t trees;		  /* N-2 */
	size_t snapshots;	  /* N-2, of one tree */
	size_t client_accessible; /* F-16, of one tree */
};

struct coord_session;

/* Something happened in a session, for those who watch (Monitor). All borrowed. */
struct coord_news {
	const char *session_id, *set_id; /* set_id NULL: none yet */
	const char *what;		 /* "event", "answer", "step" */
	const char *name;
	const char *writer, *instance_id; /* NULL: of no writer */
	const char *outcome;		  /* answer; else NULL */
	const char *code, *message;	  /* "" or NULL: none */
};

/* Sets that were given up although a member may have been committed: its members go when their tree
 * registers. */
struct coord_dead_set {
	TAILQ_ENTRY(coord_dead_set) link;
	char id[COW_UUID_LEN + 1];
};

struct coord {
	struct coord_timers timers;
	struct coord_registry registry;
	struct coord_writers writers;
	struct coord_limits limits;
	int64_t (*real_ns)(void *clock); /* CLOCK_REALTIME: names and times shown (C-12, C-13) */
	void *real_clock;

	TAILQ_HEAD(coord_session_list, coord_session) sessions;
	struct coord_session *slot; /* who holds the creation slot, or NULL (V-3) */
	TAILQ_HEAD(coord_dead_set_list, coord_dead_set) dead_sets; /* newest first, bounded */
	size_t ndead_sets;
	size_t restore_bytes; /* of the long documents that restores have (S-12) */
	size_t drops;	      /* deletions under way: no idle exit meanwhile (T-13) */
	size_t holds; /* trees that were asked to hold, and may: nothing is written to disk (H-2) */
	size_t held;  /* trees that said they hold: nothing slow is begun */
	void (*on_hold)(void *data,
			bool hold); /* holds became more than 0, or 0 again; NULL fine */
	void *on_hold_data;
	void (*on_news)(void *data, const struct coord_news *news); /* NULL fine */
	void *on_news_data;
};

void coord_core_init(struct coord *core);
/* The defaults of protocol 3.4. */
void coord_limits_init(struct coord_limits *limits);
/**
 * Set a time limit by its name: "hold" (T-2), "flush" (T-3), "prepare", "commit", "delete" (T-8), "slot-started",
 * "slot" (T-9), "identify" (T-5), "event" (T-6), "end" (T-7).
 * Returns 0; -ENOENT there is none of that name; -ERANGE 0, or more than a hold may last (I-6), or than a day.
 */
int coord_limits_set(struct coord_limits *limits, const char *name, uint64_t ms);
/* Sessions and providers are gone already. */
void coord_core_done(struct coord *core);

int64_t coord_core_real_ns(const struct coord *core);

/* A tree is going to be asked to hold, or certainly holds no more. */
void coord_core_hold(struct coord *core, bool begin);

/* Nothing is being created, released or deleted: exit would interrupt nothing (T-13, D-9). */
bool coord_core_idle(const struct coord *core);

/* Remember a set that failed, so that what a lost provider kept of it is dropped when it is back
 * (N-1). */
void coord_core_dead_set(struct coord *core, const char *set_id);

/**
 * A provider connected (RegisterProvider). If the tree is registered already, the older connection
 * is given up: only one process can have the tree's store. What N-7 says is dropped. Arguments as
 * of coord_provider_new.
 */
int coord_core_join(struct coord *core, struct coord_tree *tree, uid_t uid,
		    struct coord_snapshot_list *snapshots, const struct coord_transport *transport,
		    void *data, struct coord_provider **ret);

/* Its connection ended. A creation it takes part in fails (N-1). */
void coord_core_leave(struct coord *core, struct coord_provider *p);

/* A provider reports that it dropped a snapshot by itself (F-9, F-14). */
void coord_core_dropped(struct coord *core, struct coord_provider *p, const char *snapshot_id,
			const char *cause);

/* Delete the oldest client-accessible snapshots of that tree beyond their number (F-16). */
void coord_core_purge(struct coord *core, struct coord_provider *p);

#endif
