/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/session.h"

#include "coordinator/drop.h"
#include "coordinator/name.h"
#include "coordinator/restore.h"
#include "coordinator/revert.h"
#include "coordinator/session_private.h"
#include "cow/base/clock.h"
#include "cow/base/log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(*(a)))
#define OPERATIONS_MAX 64 /* finished ones beyond are forgotten, oldest first */

static const char *const state_names[SESSION_STATES] = {
	[SESSION_NEW] = "new",
	[SESSION_READY] = "ready",
	[SESSION_SET_OPEN] = "set-open",
	[SESSION_PREPARING] = "preparing",
	[SESSION_PREPARED] = "prepared",
	[SESSION_CREATING] = "creating",
	[SESSION_CREATED] = "created",
	[SESSION_COMPLETING] = "completing",
	[SESSION_COMPLETED] = "completed",
	[SESSION_FAILED] = "failed",
	[SESSION_ABORTED] = "aborted",
	[SESSION_R_READY] = "r-ready",
	[SESSION_PRE_RESTORED] = "pre-restored",
	[SESSION_POST_RESTORED] = "post-restored",
	[SESSION_RELEASED] = "released",
};

static const char *const call_names[CALLS] = {
	[CALL_INITIALIZE_FOR_BACKUP] = "InitializeForBackup",
	[CALL_SET_CONTEXT] = "SetContext",
	[CALL_SET_BACKUP_STATE] = "SetBackupState",
	[CALL_ENABLE_WRITER] = "EnableWriter",
	[CALL_GATHER_WRITER_METADATA] = "GatherWriterMetadata",
	[CALL_ADD_COMPONENT] = "AddComponent",
	[CALL_START_SNAPSHOT_SET] = "StartSnapshotSet",
	[CALL_ADD_TO_SNAPSHOT_SET] = "AddToSnapshotSet",
	[CALL_PREPARE_FOR_BACKUP] = "PrepareForBackup",
	[CALL_DO_SNAPSHOT_SET] = "DoSnapshotSet",
	[CALL_SAVE_DOCUMENT] = "SaveDocument",
	[CALL_GET_SNAPSHOT_PROPERTIES] = "GetSnapshotProperties",
	[CALL_EXPOSE] = "Expose or Unexpose",
	[CALL_SET_BACKUP_SUCCEEDED] = "SetBackupSucceeded",
	[CALL_BACKUP_COMPLETE] = "BackupComplete",
	[CALL_GATHER_WRITER_STATUS] = "GatherWriterStatus",
	[CALL_READ_WRITERS] = "reading what writers said",
	[CALL_ABORT_BACKUP] = "AbortBackup",
	[CALL_QUERY] = "Query",
	[CALL_DELETE_SNAPSHOTS] = "DeleteSnapshots",
	[CALL_REVERT] = "Revert",
	[CALL_STORE] = "a store call",
	[CALL_USE_SNAPSHOT] = "ServeSnapshot or Diff",
	[CALL_INITIALIZE_FOR_RESTORE] = "InitializeForRestore",
	[CALL_SET_SELECTED_FOR_RESTORE] = "SetSelectedForRestore",
	[CALL_ADD_RESTORE_SUBCOMPONENT] = "AddRestoreSubcomponent",
	[CALL_SET_RESTORE_OPTIONS] = "SetRestoreOptions",
	[CALL_ADD_NEW_TARGET] = "AddNewTarget",
	[CALL_PRE_RESTORE] = "PreRestore",
	[CALL_SET_FILE_RESTORE_STATUS] = "SetFileRestoreStatus",
	[CALL_SET_ADDITIONAL_RESTORES] = "SetAdditionalRestores",
	[CALL_ADD_ALTERNATE_MAPPING] = "AddAlternateMapping",
	[CALL_GET_RESTORE_COMPONENTS] = "GetRestoreComponents",
	[CALL_POST_RESTORE] = "PostRestore",
	[CALL_RELEASE] = "Release",
};

/* ---- table 2.1, and that of section 8 ---- */

#define IN(state) (1u << SESSION_##state)
#define ANY ((1u << SESSION_STATES) - 1)
#define RESTORE (IN(R_READY) | IN(PRE_RESTORED) | IN(POST_RESTORED))

enum {
	CONTEXT_UNSET = 1, /* S-2 */
	NOT_GATHERED = 2,
	GATHERED = 4,	 /* S-5 */
	WRITERS = 8,	 /* the context has writers */
	NO_WRITERS = 16, /* S-6 */
	NOT_ALL = 32,	 /* C-1 */
	TREES = 64,	 /* at least one */
	NOT_YET = 128,	 /* answers object-not-found: nothing is visible before the creation */
	MANAGES = 256,	 /* from then on only such calls, and release (S-1) */
	BUSY_TOO = 512,	 /* also while an operation is pending */
};

static const struct {
	enum coord_call call;
	unsigned states;
	unsigned needs;
} table[] = {
	{ CALL_INITIALIZE_FOR_BACKUP, IN(NEW), 0 },
	{ CALL_SET_CONTEXT, IN(READY), CONTEXT_UNSET | NOT_GATHERED },
	{ CALL_SET_BACKUP_STATE, IN(READY) | IN(SET_OPEN), 0 },
	{ CALL_ENABLE_WRITER, IN(READY), NOT_GATHERED },
	{ CALL_GATHER_WRITER_METADATA, IN(READY) | IN(SET_OPEN) | IN(R_READY), NOT_GATHERED },
	{ CALL_ADD_COMPONENT, IN(READY) | IN(SET_OPEN), GATHERED | WRITERS },
	{ CALL_START_SNAPSHOT_SET, IN(READY), NOT_ALL },
	{ CALL_ADD_TO_SNAPSHOT_SET, IN(SET_OPEN) | IN(PREPARED), 0 }, /* S-4 */
	{ CALL_PREPARE_FOR_BACKUP, IN(SET_OPEN), WRITERS | GATHERED },
	{ CALL_DO_SNAPSHOT_SET, IN(SET_OPEN), NO_WRITERS | TREES },
	{ CALL_DO_SNAPSHOT_SET, IN(PREPARED), WRITERS },
	{ CALL_SAVE_DOCUMENT, IN(CREATED) | IN(COMPLETED), 0 }, /* S-11 */
	{ CALL_GET_SNAPSHOT_PROPERTIES, IN(CREATED) | IN(COMPLETED), 0 },
	{ CALL_GET_SNAPSHOT_PROPERTIES, IN(SET_OPEN) | IN(PREPARING) | IN(PREPARED) | IN(CREATING),
	  NOT_YET | BUSY_TOO },
	{ CALL_EXPOSE, IN(CREATED) | IN(COMPLETED), 0 },
	{ CALL_SET_BACKUP_SUCCEEDED, IN(CREATED), 0 }, /* M-7 */
	{ CALL_BACKUP_COMPLETE, IN(CREATED), WRITERS },
	{ CALL_GATHER_WRITER_STATUS, ANY & ~(IN(NEW) | IN(RELEASED)), GATHERED | WRITERS },
	{ CALL_READ_WRITERS, ANY & ~(IN(NEW) | IN(RELEASED)), GATHERED },
	/* never an error except in new, so in completing too. */
	{ CALL_ABORT_BACKUP, ANY & ~(IN(NEW) | IN(RELEASED) | RESTORE), BUSY_TOO }, /* */
	{ CALL_QUERY, IN(CREATED) | IN(COMPLETED) | IN(FAILED) | IN(ABORTED), 0 },
	{ CALL_DELETE_SNAPSHOTS, IN(CREATED) | IN(COMPLETED) | IN(FAILED) | IN(ABORTED), 0 },
	{ CALL_USE_SNAPSHOT, IN(CREATED) | IN(COMPLETED) | IN(FAILED) | IN(ABORTED), 0 }, /* C-10 */
	{ CALL_QUERY, IN(READY), MANAGES },
	{ CALL_DELETE_SNAPSHOTS, IN(READY), MANAGES },
	{ CALL_EXPOSE, IN(READY), MANAGES },
	{ CALL_REVERT, IN(READY), MANAGES },
	{ CALL_STORE, IN(READY), MANAGES },
	{ CALL_USE_SNAPSHOT, IN(READY), MANAGES },
	/* section 8 */
	{ CALL_INITIALIZE_FOR_RESTORE, IN(NEW), 0 },
	{ CALL_SET_SELECTED_FOR_RESTORE, IN(R_READY), GATHERED },
	{ CALL_ADD_RESTORE_SUBCOMPONENT, IN(R_READY), GATHERED },
	{ CALL_SET_RESTORE_OPTIONS, IN(R_READY), GATHERED },
	{ CALL_ADD_NEW_TARGET, IN(R_READY), GATHERED },
	{ CALL_PRE_RESTORE, IN(R_READY), GATHERED },
	{ CALL_SET_FILE_RESTORE_STATUS, IN(PRE_RESTORED), 0 },
	{ CALL_SET_ADDITIONAL_RESTORES, IN(PRE_RESTORED), 0 },
	{ CALL_ADD_ALTERNATE_MAPPING, IN(PRE_RESTORED), 0 },
	{ CALL_GET_RESTORE_COMPONENTS, RESTORE, GATHERED },
	{ CALL_POST_RESTORE, IN(PRE_RESTORED), 0 },
	{ CALL_RELEASE, ANY, BUSY_TOO },
};

const char *coord_session_state_name(enum coord_session_state st)
{
	assert(st < SESSION_STATES);
	return state_names[st];
}

const char *coord_call_name(enum coord_call call)
{
	assert(call < CALLS);
	return call_names[call];
}

bool coord_session_table(enum coord_session_state st, enum coord_call call)
{
	for (size_t i = 0; i < COUNT(table); i++)
		if (table[i].call == call && (table[i].states & 1u << st))
			return true;
	return false;
}

/* NULL if the conditions of a row hold, else which does not: a phrase for people. */
static const char *unmet(const struct coord_session *s, enum coord_call call, unsigned needs)
{
	bool writers = coord_context_writers(s->context);

	if (s->operation && !(needs & BUSY_TOO))
		return "an operation is pending";
	if (s->managing && !(needs & MANAGES) && call != CALL_ABORT_BACKUP && call != CALL_RELEASE)
		return "the session is used for queries and management";
	if ((needs & CONTEXT_UNSET) && s->context_set)
		return "the context is set already";
	if ((needs & NOT_GATHERED) && s->gathered)
		return "GatherWriterMetadata was called already";
	if ((needs & GATHERED) && !s->gathered)
		return "GatherWriterMetadata was not called";
	if ((needs & WRITERS) && !writers)
		return "the context has no writers";
	if ((needs & NO_WRITERS) && writers)
		return "PrepareForBackup was not called";
	if ((needs & NOT_ALL) && s->context == COW_CTX_ALL)
		return "the context is all";
	if ((needs & TREES) && coord_set_count(s->set) == 0)
		return "no tree is in the set";
	return NULL;
}

enum umbra_error coord_session_check(struct coord_session *s, enum coord_call call,
				     struct coord_failure *f)
{
	const char *why = NULL;

	if (call != CALL_RELEASE && (s->releasing || (s->aborting && call != CALL_ABORT_BACKUP)))
		why = "it is ending";
	for (size_t i = 0; i < COUNT(table) && !why; i++) {
		if (table[i].call != call || !(table[i].states & 1u << s->state))
			continue;
		why = unmet(s, call, table[i].needs);
		if (why)
			break;
		if (table[i].needs & NOT_YET)
			return coord_fail(f, UMBRA_E_OBJECT_NOT_FOUND,
					  "the snapshot set is not created yet");
		s->managing |= (table[i].needs & MANAGES) != 0;
		return UMBRA_OK;
	}
	if (s->displaced) /* E-4: nothing was wrong with what it did */
		return coord_fail(f, UMBRA_E_SNAPSHOT_SET_IN_PROGRESS,
				  "a privileged requester took the creation slot, try again later");
	return coord_fail(f, UMBRA_E_BAD_STATE, "%s is not possible now: the session is %s%s%s",
			  coord_call_name(call), coord_session_state_name(s->state),
			  why ? ", " : "", why ? why : "");
}

/* ---- birth and death ---- */

struct coord_session *coord_session_new(struct coord *core, pid_t pid, uid_t uid, bool privileged)
{
	struct coord_session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->core = core;
	coord_name_id(s->id);
	s->pid = pid;
	s->uid = uid;
	s->privileged = privileged;
	s->since_ns = coord_core_real_ns(core);
	s->context = COW_CTX_BACKUP; /* S-2 */
	strcpy(s->backup_type, "full");
	s->attached = true;
	TAILQ_INIT(&s->operations);
	TAILQ_INSERT_TAIL(&core->sessions, s, link);
	return s;
}

static void session_free(struct coord_session *s)
{
	struct coord_operation *op;

	assert(!s->set && s->core->slot != s);
	coord_timer_disarm(&s->core->timers, &s->slot_idle);
	TAILQ_REMOVE(&s->core->sessions, s, link);
	while ((op = TAILQ_FIRST(&s->operations))) {
		TAILQ_REMOVE(&s->operations, op, link);
		coord_operation_free(op);
	}
	coord_party_free(s->party);
	coord_restore_free(s->restore);
	json_decref(s->snapshots);
	free(s->document);
	free(s);
}

void coord_session_forget(struct coord_session *s)
{
	s->aborted = NULL;
	s->released = NULL;
	if (s->operation)
		coord_operation_wait(s->operation, NULL, NULL);
}

void coord_session_leave(struct coord_session *s)
{
	coord_session_forget(s);
	s->attached = false;
	if (s->state == SESSION_RELEASED)
		session_free(s);
	else
		coord_session_release(s, NULL, NULL);
}

bool coord_session_keeps(const struct coord *core, const char *set_id)
{
	const struct coord_session *s;

	TAILQ_FOREACH(s, &core->sessions, link)
		if (!s->releasing && strcmp(s->set_id, set_id) == 0)
			return true;
	return false;
}

bool coord_session_sees(const struct coord_session *s, const struct coord_provider *p)
{
	return s->privileged || p->uid == s->uid;
}

void coord_session_provider_lost(struct coord_session *s, struct coord_provider *p)
{
	if (s->set)
		coord_set_lost(s->set, p);
}

/* ---- operations ---- */

struct coord_operation *coord_session_begin_operation(struct coord_session *s, enum coord_call call,
						      struct coord_failure *f)
{
	struct coord_operation *op = coord_operation_new(coord_call_name(call)), *oldest;

	if (!op) {
		coord_no_memory(f);
		return NULL;
	}
	if (s->noperations == OPERATIONS_MAX) {
		oldest = TAILQ_FIRST(&s->operations);
		TAILQ_REMOVE(&s->operations, oldest, link);
		coord_operation_free(oldest);
		s->noperations--;
	}
	TAILQ_INSERT_TAIL(&s->operations, op, link);
	s->noperations++;
	s->operation = op;
	return op;
}

void coord_session_end_operation(struct coord_session *s, const struct coord_failure *failure)
{
	struct coord_operation *op = s->operation;

	if (!op)
		return;
	s->operation = NULL;
	coord_operation_finish(op, failure);
}

struct coord_operation *coord_session_operation(struct coord_session *s, const char *id)
{
	struct coord_operation *op;

	TAILQ_FOREACH(op, &s->operations, link)
		if (strcmp(op->id, id) == 0)
			return op;
	return NULL;
}

static void cancel_pending(struct coord_session *s, const char *why)
{
	struct coord_failure f;

	coord_fail(&f, UMBRA_E_CANCELLED, "%s", why);
	if (s->state == SESSION_CREATING) { /* A-3; ends the operation when all is undone */
		coord_set_abort(s->set, &f, s->party, ORIGIN_COORDINATOR);
		return;
	}
	if (s->state ==
	    SESSION_PREPARING) { /* the set cannot be made any more: the slot is free (V-3) */
		coord_set_abort(s->set, &f, s->party, ORIGIN_NONE);
		return;
	}
	if (s->operation && s->party)
		coord_party_stop(s->party);
	coord_session_forget_revert(s);
	coord_session_end_operation(s, &f);
}

const char *coord_session_cancel(struct coord_session *s, struct coord_operation *op)
{
	if (!op->pending)
		return op->failure.error == UMBRA_E_CANCELLED ? "cancelled" : "finished";
	if (!coord_operation_cancellable(op))
		return coord_operation_status(op); /* goes on */
	if (op->cancel_asked)
		return "cancelled";
	op->cancel_asked = true;
	if (s->aborting || s->releasing) /* it is being cancelled, and Aborts may be on their way */
		return coord_operation_status(op);
	if (s->state == SESSION_COMPLETING)
		s->state = SESSION_COMPLETED;
	cancel_pending(s, "cancelled by the requester");
	return coord_operation_status(op);
}

/* ---- the slot ---- */

/* S-10 */
static void lose_slot(struct coord_session *s, const char *why)
{
	struct coord_failure f;

	log_warn("session %s (process %d) held the creation slot and %s: its snapshot set is given "
		 "up",
		 s->id, (int)s->pid, why);
	s->aborting = true;
	s->abort_origin = ORIGIN_COORDINATOR;
	coord_fail(&f, UMBRA_E_CANCELLED, "the creation slot was taken away");
	coord_set_abort(s->set, &f, s->party, ORIGIN_NONE); /* abort_rest() sends them */
}

static void on_slot_idle(void *data)
{
	lose_slot(data, "created nothing in time");
}

/* Whoever is not privileged must not keep it from all others by talking: for him T-9 has an end that no word moves. */
static uint64_t idle_ms(const struct coord_session *s)
{
	uint64_t now = coord_timers_now(&s->core->timers), left = 0;

	if (s->privileged)
		return s->slot_idle_ms;
	if (s->slot_end_ns > now)
		left = (s->slot_end_ns - now) / CLOCK_NS_PER_MS;
	return left < s->slot_idle_ms ? left : s->slot_idle_ms;
}

void coord_session_touch(struct coord_session *s)
{
	if (s->core->slot == s && !s->operation && !s->aborting && !s->releasing)
		coord_timer_arm(&s->core->timers, &s->slot_idle, idle_ms(s), on_slot_idle, s);
}

/* The limit alone would not do: he could take it anew at once. So while he creates nothing, root gets it. */
static void displace(struct coord_session *holder)
{
	if (holder->privileged || holder->operation || holder->aborting || holder->releasing)
		return;
	holder->displaced = true;
	lose_slot(holder, "a privileged requester wants it");
}

static void give_slot_back(struct coord_session *s)
{
	coord_timer_disarm(&s->core->timers, &s->slot_idle);
	if (s->core->slot == s)
		s->core->slot = NULL;
}

/* ---- calls that only set something ---- */

enum umbra_error coord_session_may_begin(struct coord_session *s, enum coord_call call,
					 struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, call, f);
	const struct coord_provider *p;
	bool owner = s->privileged;

	if (e != UMBRA_OK)
		return e;
	TAILQ_FOREACH(p, &s->core->registry.providers, link)
		owner = owner || coord_session_sees(s, p);
	if (!owner) /* S-12 */
		return coord_fail(f, UMBRA_E_ACCESS_DENIED, "user %u owns no protected tree here",
				  (unsigned)s->uid);
	return UMBRA_OK;
}

enum umbra_error coord_session_initialize(struct coord_session *s, bool require_writers,
					  struct coord_failure *f)
{
	enum umbra_error e = coord_session_may_begin(s, CALL_INITIALIZE_FOR_BACKUP, f);

	if (e != UMBRA_OK)
		return e;
	s->require_writers = require_writers;
	s->state = SESSION_READY;
	return UMBRA_OK;
}

enum umbra_error coord_session_set_context(struct coord_session *s, const char *context,
					   bool no_autorecovery, bool rollback_recovery,
					   struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, CALL_SET_CONTEXT, f);
	enum cow_context c;

	if (e != UMBRA_OK)
		return e;
	c = coord_name_to_context(context);
	if (!c)
		return coord_fail(f, UMBRA_E_UNSUPPORTED_CONTEXT,
				  "there is no context of that name");
	if (no_autorecovery && rollback_recovery) /* C-6 */
		return coord_fail(f, UMBRA_E_INVALID_ARGUMENT,
				  "no-autorecovery excludes rollback-recovery");
	/* C-1: whoever has a session is privileged by S-12, for what he sees at least. */
	if ((no_autorecovery || rollback_recovery) &&
	    (cow_context_client_accessible(c) || c == COW_CTX_ALL)) /* C-7 */
		return coord_fail(f, UMBRA_E_INVALID_ARGUMENT, "context %s takes no attributes",
				  context);
	s->context = c;
	s->context_set = true;
	s->no_autorecovery = no_autorecovery;
	s->rollback_recovery = rollback_recovery;
	return UMBRA_OK;
}

static bool is_backup_type(const char *type)
{
	static const char *const types[] = { "full", "incremental", "differential",
					     "log",  "copy",	    "other" }; /* M-8 */

	for (size_t i = 0; i < COUNT(types); i++)
		if (strcmp(types[i], type) == 0)
			return true;
	return false;
}

enum umbra_error coord_session_set_backup_state(struct coord_session *s, const char *type,
						bool component_mode, bool bootable_state,
						bool partial_files, struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, CALL_SET_BACKUP_STATE, f);

	if (e != UMBRA_OK)
		return e;
	if (!is_backup_type(type))
		return coord_fail(f, UMBRA_E_INVALID_ARGUMENT,
				  "there is no backup type of that name");
	strcpy(s->backup_type, type);
	s->component_mode = component_mode;
	s->bootable_state = bootable_state;
	s->partial_files = partial_files;
	return UMBRA_OK;
}

/* ---- the set ---- */

static void release_snapshots(struct coord_session *s);

static void copy_details(struct coord_session *s)
{
	for (size_t i = 0; s->operation && i < coord_set_ndetails(s->set); i++)
		coord_operation_detail(s->operation, coord_set_detail(s->set, i));
}

static void abort_end(void *data)
{
	struct coord_session *s = data;
	void (*aborted)(void *data) = s->aborted;

	s->state = SESSION_ABORTED;
	s->aborting = false;
	s->aborted = NULL;
	if (aborted)
		aborted(s->aborted_data);
	if (s->releasing)
		release_snapshots(s);
}

/* Nothing is held or created any more: A-1, to all that are armed and had none from there. */
static void abort_rest(struct coord_session *s)
{
	if (s->party && coord_party_abort(s->party, s->abort_origin, false, abort_end, s))
		return;
	abort_end(s);
}

/* The set is created, or removed for whatever reason. */
static void on_set_done(void *data, const struct coord_failure *failure)
{
	struct coord_session *s = data;
	struct coord_failure why = { 0 };

	if (failure)
		why = *failure;
	else
		s->snapshots = coord_set_describe(s->set);
	copy_details(s);
	coord_set_free(s->set);
	s->set = NULL;
	give_slot_back(s);
	s->state = failure ? SESSION_FAILED : SESSION_CREATED;
	coord_session_end_operation(s, failure ? &why : NULL);
	if (s->aborting)
		abort_rest(s);
	else if (s->releasing)
		release_snapshots(s);
}

enum umbra_error coord_session_start_set(struct coord_session *s, struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, CALL_START_SNAPSHOT_SET, f);

	if (e != UMBRA_OK)
		return e;
	if (s->core->slot && s->privileged)
		displace(s->core->slot);
	if (s->core->slot) /* S-9: at once, no queue */
		return coord_fail(f, UMBRA_E_SNAPSHOT_SET_IN_PROGRESS,
				  "process %d is creating a snapshot set, try again later",
				  (int)s->core->slot->pid);
	s->set = coord_set_new(s->core, s->id, s->context, on_set_done, s);
	if (!s->set)
		return coord_no_memory(f);
	strcpy(s->set_id, coord_set_id(s->set));
	if (s->party)
		coord_party_set_id(s->party, s->set_id); /* W-11 */
	s->core->slot = s;
	s->slot_idle_ms = s->core->limits.slot_started_ms;
	s->slot_end_ns = coord_timers_now(&s->core->timers) +
			 s->core->limits.slot_ms * CLOCK_NS_PER_MS;
	s->state = SESSION_SET_OPEN;
	coord_session_touch(s);
	return UMBRA_OK;
}

enum umbra_error coord_session_add(struct coord_session *s, const char *path, const char *label,
				   const char *description, const char **ret_id,
				   struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, CALL_ADD_TO_SNAPSHOT_SET, f);
	struct coord_provider *p;
	const char *rest;

	if (e != UMBRA_OK)
		return e;
	p = coord_registry_by_path(&s->core->registry, path, &rest);
	if (!p)
		return coord_fail(f, UMBRA_E_OBJECT_NOT_FOUND, "%s is not in a protected tree",
				  path);
	if (!coord_session_sees(s, p)) /* S-12 */
		return coord_fail(f, UMBRA_E_ACCESS_DENIED, "%s belongs to another user",
				  p->tree.path);
	if (s->hardware) /* C-5 */
		return coord_fail(f, UMBRA_E_VOLUME_NOT_SUPPORTED,
				  "%s can be neither plex nor transportable", p->tree.path);
	e = coord_set_add(s->set, p, label, description, ret_id, f);
	if (e != UMBRA_OK)
		return e;
	s->slot_idle_ms = s->core->limits.slot_ms;
	coord_session_touch(s);
	return UMBRA_OK;
}

/* ---- asynchronous calls: the events to writers come between begin_operation and end_operation
 * ---- */

static void on_gathered(void *data)
{
	struct coord_session *s = data;

	coord_session_end_operation(s, NULL);
	coord_session_touch(s);
}

enum umbra_error coord_session_gather_metadata(struct coord_session *s,
					       struct coord_operation **ret,
					       struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, CALL_GATHER_WRITER_METADATA, f);

	if (e != UMBRA_OK)
		return e;
	if (!coord_session_party(s, f))
		return f->error;
	*ret = coord_session_begin_operation(s, CALL_GATHER_WRITER_METADATA, f);
	if (!*ret)
		return f->error;
	s->gathered = true;
	if (s->set_id[0])
		coord_party_set_id(s->party, s->set_id);
	if (!coord_party_gather(s->party, on_gathered, s))
		on_gathered(s);
	return UMBRA_OK;
}

enum umbra_error coord_session_gather_status(struct coord_session *s, struct coord_operation **ret,
					     struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, CALL_GATHER_WRITER_STATUS, f);

	if (e != UMBRA_OK)
		return e;
	*ret = coord_session_begin_operation(s, CALL_GATHER_WRITER_STATUS, f);
	if (!*ret)
		return f->error;
	coord_party_report(s->party);
	coord_session_end_operation(s, NULL);
	coord_session_touch(s);
	return UMBRA_OK;
}

static void on_prepared(void *data)
{
	struct coord_session *s = data;

	s->state = SESSION_PREPARED; /* even when writers failed (W-6) */
	coord_session_end_operation(s, NULL);
	coord_session_touch(s);
}

enum umbra_error coord_session_prepare(struct coord_session *s, struct coord_operation **ret,
				       struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, CALL_PREPARE_FOR_BACKUP, f);
	json_t *arguments;

	if (e == UMBRA_OK)
		e = coord_session_check_components(s, f);
	if (e != UMBRA_OK)
		return e;
	arguments = json_pack("{s:s, s:b, s:b, s:b}", "backup_type", s->backup_type,
			      "component_mode", s->component_mode, "bootable_state",
			      s->bootable_state, "partial_files", s->partial_files);
	if (!arguments)
		return coord_no_memory(f);
	*ret = coord_session_begin_operation(s, CALL_PREPARE_FOR_BACKUP, f);
	if (!*ret) {
		json_decref(arguments);
		return f->error;
	}
	s->state = SESSION_PREPARING;
	coord_timer_disarm(&s->core->timers, &s->slot_idle);
	s->slot_idle_ms = s->core->limits.slot_ms;
	if (!coord_party_prepare(s->party, s->component_mode, arguments, on_prepared, s))
		on_prepared(s);
	return UMBRA_OK;
}

enum umbra_error coord_session_create(struct coord_session *s, struct coord_operation **ret,
				      struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, CALL_DO_SNAPSHOT_SET, f);

	if (e != UMBRA_OK)
		return e;
	*ret = coord_session_begin_operation(s, CALL_DO_SNAPSHOT_SET, f);
	if (!*ret)
		return f->error;
	s->state = SESSION_CREATING;
	coord_timer_disarm(&s->core->timers, &s->slot_idle);
	/* S-6: in a context without writers they hear nothing, though Identify may have been sent. */
	coord_set_create(s->set, coord_context_writers(s->context) ? s->party : NULL,
			 s->require_writers);
	return UMBRA_OK;
}

static void on_completed(void *data)
{
	struct coord_session *s = data;

	s->document = coord_session_document(s); /* S-11; NULL: made anew at each SaveDocument */
	s->state = SESSION_COMPLETED;
	coord_session_end_operation(s, NULL);
}

enum umbra_error coord_session_complete(struct coord_session *s, struct coord_operation **ret,
					struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, CALL_BACKUP_COMPLETE, f);

	if (e != UMBRA_OK)
		return e;
	*ret = coord_session_begin_operation(s, CALL_BACKUP_COMPLETE, f);
	if (!*ret)
		return f->error;
	s->state = SESSION_COMPLETING;
	if (!coord_party_send(s->party, EVENT_BACKUP_COMPLETE, NULL, on_completed, s))
		on_completed(s);
	return UMBRA_OK;
}

/* ---- ends ---- */

/* Stop what is under way, remove an unfinished set, then Abort to everybody that is armed (A-17,
 * */
static void begin_abort(struct coord_session *s, enum coord_origin origin, const char *why)
{
	struct coord_failure f;

	s->aborting = true;
	s->abort_origin = origin;
	coord_timer_disarm(&s->core->timers, &s->slot_idle);
	coord_fail(&f, UMBRA_E_CANCELLED, "%s", why);
	if (s->set) { /* on_set_done goes on */
		coord_set_abort(s->set, &f, s->party,
				origin == ORIGIN_REQUESTER ? origin : ORIGIN_NONE);
		return;
	}
	cancel_pending(s, why);
	abort_rest(s);
}

enum umbra_error coord_session_abort(struct coord_session *s, void (*done)(void *data), void *data,
				     struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, CALL_ABORT_BACKUP, f);

	if (e != UMBRA_OK)
		return e;
	switch (s->state) {
	case SESSION_SET_OPEN:
	case SESSION_PREPARING:
	case SESSION_PREPARED:
	case SESSION_CREATING:
	case SESSION_CREATED: /* the set stays */
	case SESSION_COMPLETING:
	case SESSION_FAILED:
		s->aborted = done;
		s->aborted_data = data;
		if (!s->aborting)
			begin_abort(s, ORIGIN_REQUESTER, "AbortBackup was called");
		return UMBRA_OK;
	default: /* nothing is under way, but perhaps Identify */
		cancel_pending(s, "AbortBackup was called");
		if (done)
			done(data);
		return UMBRA_OK;
	}
}

static void release_end(struct coord_session *s)
{
	void (*released)(void *data) = s->released;

	s->state = SESSION_RELEASED;
	s->released = NULL;
	if (released)
		released(s->released_data);
	if (!s->attached)
		session_free(s);
}

static void on_shut_down(void *data)
{
	release_end(data);
}

/* D-4, and the last step of D-8. It comes however the session ended, to whom BackupComplete did not come, too (D-7). */
static void tell_shutdown(struct coord_session *s)
{
	if (s->party && !s->restore) { /* D-4: a restore sends none */
		coord_party_set_id(s->party, s->snapshots ? s->set_id : NULL); /* D-6 */
		if (coord_party_shutdown(s->party, on_shut_down, s))
			return;
	}
	release_end(s);
}

static void on_snapshots_released(void *data, const struct coord_drop_result *result)
{
	struct coord_session *s = data;

	if (result->first_not_deleted)
		log_warn("session %s: not all of its snapshots could be released: %s", s->id,
			 result->failure.message);
	tell_shutdown(s);
}

static bool of_session(const struct coord_session *s, const struct coord_snapshot *sn)
{
	return cow_context_auto_release(sn->s.context) && strcmp(sn->s.set_id, s->set_id) == 0;
}

/* D-2. They are doomed first: from now on nobody sees them, also if one cannot be deleted just now.
 */
static void release_snapshots(struct coord_session *s)
{
	struct coord_drop *d = coord_drop_new(s->core, COORD_DROP_FORCE | COORD_DROP_ALL);
	struct coord_provider *p;
	struct coord_snapshot *sn;

	TAILQ_FOREACH(p, &s->core->registry.providers, link)
		TAILQ_FOREACH(sn, &p->snapshots, link)
			if (of_session(s, sn)) {
				sn->doomed = true;
				if (d)
					(void)coord_drop_add(d, sn->s.id);
			}
	if (d)
		coord_drop_start(d, on_snapshots_released, s);
	else
		tell_shutdown(s);
}

void coord_session_release(struct coord_session *s, void (*done)(void *data), void *data)
{
	struct coord_failure why;

	if (s->state == SESSION_RELEASED) {
		if (done)
			done(data);
		return;
	}
	s->released = done;
	s->released_data = data;
	if (s->releasing)
		return;
	s->releasing = true;
	coord_timer_disarm(&s->core->timers, &s->slot_idle);
	if (s->aborting) /* abort_end goes on */
		return;
	/* Abort goes out where writers may be frozen alone. A-24: everywhere else plain release does, and those
	 * that were told PrepareBackup see BackupShutdown. A-25; on_set_done goes on. */
	if (s->set) {
		coord_fail(&why, UMBRA_E_CANCELLED, "the requester released the session");
		coord_set_abort(s->set, &why, s->party,
				s->state == SESSION_CREATING ? ORIGIN_COORDINATOR : ORIGIN_NONE);
		return;
	}
	cancel_pending(s, "the requester released the session");
	release_snapshots(s);
}

void coord_session_shut_down(struct coord_session *s)
{
	struct coord_failure f;

	if (s->releasing || s->aborting ||
	    coord_session_check(s, CALL_ABORT_BACKUP, &f) != UMBRA_OK)
		return;
	if (s->state >= SESSION_SET_OPEN && s->state <= SESSION_FAILED &&
	    s->state != SESSION_COMPLETED)
		begin_abort(s, ORIGIN_COORDINATOR, "the coordinator was told to stop");
}
