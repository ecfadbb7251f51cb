/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/registry.h - the providers that are connected, their trees and snapshots, what they
 *          were asked.
 * Job:     who is there; one question to a provider and its answer, with a time limit. Knows no
 *          message form: a transport of the caller's sends (peer: over a socket; tests: to a
 *          fake).
 * Errors:  0 or -errno; an answer carries an enum umbra_error.
 * Threads: the coordinator's one. Callbacks run only from coord_provider_answer,
 *          coord_provider_lost and the timers, never from within a call that asks: so nobody is
 *          called back while he still walks his own lists.
 * Rules:   N-4 only `created` snapshots are found, N-7, D-13. */
#ifndef UMBRA_COORDINATOR_REGISTRY_H
#define UMBRA_COORDINATOR_REGISTRY_H

#include "coordinator/error.h"
#include "coordinator/timer.h"
#include "cow/provider.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

/* A revert of a tree that runs, or did not come to its end; plain data. */
struct coord_revert {
	char state[16]; /* "running", "stopped", "lost"; "": there is none */
	char snapshot_id[COW_UUID_LEN + 1];
	uint64_t done, total, failures;
	char why[600]; /* the first failure; "": none */
};

/* Nobody makes a snapshot of it meanwhile. */
static inline bool coord_revert_open(const struct coord_revert *r)
{
	return r->state[0] == 'r' || r->state[0] == 's';
}

/* ---- what a provider told about itself. Strings are owned by the struct. ---- */

struct coord_tree {
	char id[COW_UUID_LEN + 1];
	char *path; /* normal form (name.h) */
	pid_t pid;
	char *store;
	bool store_in_memory; /* C-9: a crash of the system loses it, and not the tree */
	char *snapshot_root;  /* NULL: switched off */
	char shown[16];	      /* "hidden", "visible", "off" */
	uint64_t used_bytes, allocated_bytes, max_bytes;
	bool holding;
	char *fault; /* NULL: healthy */
	struct coord_revert revert;
	char **warnings;
	size_t nwarnings;
};

struct coord_snapshot {
	TAILQ_ENTRY(coord_snapshot) link;
	struct cow_snapshot s;
	uint32_t in_use;
	/* C-10, C-13; owned, NULL: it is not exposed, all of it is shown, it is mounted there */
	char *exposed_path, *exposed_subdir, *exposed_problem;
	bool doomed;	   /* found unfinished or left over (N-7): shown to nobody, being dropped */
	uint64_t known_at; /* the provider's serial when it became known */
};
TAILQ_HEAD(coord_snapshot_list, coord_snapshot);

void coord_tree_done(struct coord_tree *tree);
void coord_snapshot_free(struct coord_snapshot *sn);
void coord_snapshots_done(struct coord_snapshot_list *list);

/* ---- questions ---- */

enum coord_ask {
	ASK_PREPARE,
	ASK_UNPREPARE,
	ASK_HOLD,
	ASK_OPEN,
	ASK_RELEASE,
	ASK_COMMIT,
	ASK_DROP,
	ASK_USAGE,
	ASK_LIST,
	ASK_SERVE,
	ASK_DIFF,
	ASK_EXPOSE,
	ASK_UNEXPOSE,
	ASK_REVERT,
	ASK_COUNT
};

/* The word of io.umbra.varlink, "prepare" ...; static. */
const char *coord_ask_name(enum coord_ask ask);

struct coord_question {
	enum coord_ask ask;
	uint64_t serial;		 /* filled in by coord_provider_ask */
	uint64_t epoch;			 /* commit, drop, serve, diff, expose, unexpose, revert */
	uint64_t other_epoch;		 /* diff; 0: the live tree */
	bool force;			 /* drop, unexpose (D-12), revert */
	uint32_t wait_ms, limit_ms;	 /* hold */
	const struct cow_snapshot *open; /* open; borrowed */
	const char *mountpoint;		 /* serve, expose (NULL: the default place); borrowed */
	const char *subdir;		 /* expose, NULL: all of the snapshot; borrowed */
	int fd;				 /* serve; borrowed; only read when ask is ASK_SERVE */
};

struct coord_answer {
	enum umbra_error error;
	int r;						 /* the negative errno behind it, or 0 */
	const char *message;				 /* never NULL; borrowed */
	uint64_t epoch;					 /* open; 0 if it did not say */
	int64_t opened_ns;				 /* open; 0 if it did not say */
	uint64_t used_bytes, allocated_bytes, max_bytes; /* usage */
	int64_t uid;					 /* usage: the tree's owner; -1: it did not say */
	struct coord_revert revert;			 /* usage */
	struct coord_snapshot_list *list;		 /* list; NULL if it sent none; borrowed */
	uint64_t count;					 /* diff */
	int fd; /* diff, or -1; the receiver keeps it by setting it to -1 */
};

typedef void (*coord_answer_fn)(void *data, struct coord_answer *answer);

struct coord_provider;
struct coord_pending; /* a question that was not answered yet */

struct coord_transport {
	/* Queue a question; must not call back. A transport that is broken says so later, by
	 * coord_provider_lost. */
	int (*send)(void *data, const struct coord_question *q);
	/* Another connection registered the same tree: hang up. coord_provider_lost has been called
	 * already. */
	void (*replaced)(void *data);
};

struct coord_registry {
	TAILQ_HEAD(coord_provider_list, coord_provider) providers; /* newest first */
	struct coord_timers *timers;
};

struct coord_provider {
	TAILQ_ENTRY(coord_provider) link;
	struct coord_registry *registry;
	struct coord_tree tree;
	uid_t uid; /* owner of the tree's root directory (S-12) */
	struct coord_snapshot_list snapshots;

	const struct coord_transport *transport;
	void *transport_data;
	uint64_t serial;
	TAILQ_HEAD(coord_pending_list, coord_pending) pending;
};

void coord_registry_init(struct coord_registry *reg, struct coord_timers *timers);

/**
 * A provider connected. Its tree must not be registered (see coord_registry_by_id).
 * @tree, @snapshots  moved out of, also on failure
 * Returns 0; -ENOMEM.
 */
int coord_provider_new(struct coord_registry *reg, struct coord_tree *tree, uid_t uid,
		       struct coord_snapshot_list *snapshots,
		       const struct coord_transport *transport, void *data,
		       struct coord_provider **ret);

/* Its connection ended: every pending question is answered with unexpected-provider-error, then it
 * is freed. */
void coord_provider_lost(struct coord_provider *p);

/**
 * Ask. The answer function is called once, later: with the answer, or unexpected-provider-error
 * when the provider is lost, or `on_timeout` after limit_ms. An epoch whose opening nobody waits
 * for any more is dropped as soon as it is reported, so a late answer leaves nothing behind (N-1).
 * @ret  for coord_pending_forget, NULL when not wanted; invalid once the answer function is called
 * Returns 0; -ENOMEM or what the transport said: then nothing was asked and nobody is called.
 */
int coord_provider_ask(struct coord_provider *p, struct coord_question *q, uint64_t limit_ms,
		       enum umbra_error on_timeout, coord_answer_fn fn, void *data,
		       struct coord_pending **ret);

/* The answer function will not be called; NULL is fine. */
void coord_pending_forget(struct coord_pending *q);

/* An answer came. Unknown serials are ignored (they came too late): returns false then. */
bool coord_provider_answer(struct coord_provider *p, uint64_t serial, struct coord_answer *answer);

/* ---- looking up. All borrowed, until the provider is lost or the snapshot removed. ---- */

struct coord_provider *coord_registry_by_id(struct coord_registry *reg, const char *tree_id);
/* The tree that a path in normal form lies in, longest match; *ret_rest as coord_name_inside. NULL:
 * none. */
struct coord_provider *coord_registry_by_path(struct coord_registry *reg, const char *path,
					      const char **ret_rest);
/* Also finds doomed ones. */
struct coord_snapshot *coord_registry_snapshot(struct coord_registry *reg, const char *id,
					       struct coord_provider **ret);
/* Created and not doomed: what requesters may see (N-4). */
bool coord_snapshot_shown(const struct coord_snapshot *sn);
/* Is there an entry of that name in the tree's snapshot directory? */
bool coord_provider_has_name(const struct coord_provider *p, const char *name);
size_t coord_provider_count(const struct coord_provider *p, bool client_accessible_only);
struct coord_snapshot *coord_provider_by_epoch(struct coord_provider *p, uint64_t epoch);

/* Bring a tree's figures, its owner and its revert up to date from a `usage` answer. */
void coord_provider_usage(struct coord_provider *p, const struct coord_answer *a);
/* Another owner (S-12), for what is asked from now on; nothing if it is no uid. */
void coord_provider_owner(struct coord_provider *p, int64_t uid);
/* Take the snapshot out of the list and free it. */
void coord_provider_remove(struct coord_provider *p, struct coord_snapshot *sn);
/* Make it known; taken. Lists are in the order of epochs. */
void coord_provider_insert(struct coord_provider *p, struct coord_snapshot *sn);
/* Bring numbers and exposures up to date from a `list` answer asked with that serial, whose texts are
 * exchanged for the old ones; removes what is not in it any more. */
void coord_provider_update(struct coord_provider *p, uint64_t serial,
			   struct coord_snapshot_list *list);

#endif
