/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/set.h"

#include "coordinator/client/client.h"
#include "coordinator/extra.h"
#include "coordinator/json.h"
#include "coordinator/name.h"
#include "cow/base/cleanup.h"
#include "cow/base/clock.h"
#include "cow/base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

/* One tree of the set. */
struct member {
	struct coord_set *set;
	struct coord_provider *provider; /* borrowed; NULL once lost */
	char tree_id[COW_UUID_LEN + 1];
	char *tree_path;
	char snapshot_id[COW_UUID_LEN + 1]; /* of sn, also when that is the registry's */
	struct coord_snapshot *sn;     /* owned until the set is created; then the registry's */
	struct coord_pending *pending; /* the running step's question */
	enum coord_ask asked;	       /* what pending asks */
	bool prepare_sent, hold_sent, release_sent, open_sent;
	bool may_hold, held; /* as coord.holds and coord.held count */
};

struct coord_set {
	struct coord *core;
	const char *session_id; /* borrowed */
	char id[COW_UUID_LEN + 1];
	enum cow_context context;
	enum coord_set_state state;
	struct member *members[COW_TREES_MAX];
	size_t n;
	coord_set_fn fn;
	void *data;

	size_t step;			/* in steps[] */
	size_t waiting;			/* answers that the running step still needs */
	size_t undoing;			/* answers that undoing still needs */
	struct coord_timer hold_limit;	/* T-2 */
	struct coord_timer next_second; /* C-12 */
	uint64_t hold_began_ns, held_ns;

	struct coord_party *party; /* borrowed; NULL: no writers, as after a power cut (H-8) */
	bool strict;		   /* */
	enum coord_origin abort_origin;
	size_t releasing; /* releases that Aborts wait for */

	struct coord_failure failure; /* the first by time (E-3) */
	char **details;
	size_t ndetails;
};

static const char *const state_names[SET_STATES] = {
	[SET_STARTED] = "started",
	[SET_PREPARING] = "preparing",
	[SET_PREPARED] = "prepared",
	[SET_PRECOMMITTED] = "precommitted",
	[SET_HOLDING] = "holding",
	[SET_COMMITTED] = "committed",
	[SET_POSTCOMMITTED] = "postcommitted",
	[SET_RECOVERING] = "recovering",
	[SET_CREATED] = "created",
	[SET_ABORTED] = "aborted",
	[SET_REMOVED] = "removed",
};

/* Allowed moves of 2.3: from each state to the next one of the sequence, or to aborted. */
static const unsigned moves[SET_STATES] = {
	[SET_STARTED] = 1u << SET_PREPARING | 1u << SET_ABORTED,
	[SET_PREPARING] = 1u << SET_PREPARED | 1u << SET_ABORTED,
	[SET_PREPARED] = 1u << SET_PREPARED | 1u << SET_PRECOMMITTED | 1u << SET_ABORTED,
	[SET_PRECOMMITTED] = 1u << SET_HOLDING | 1u << SET_ABORTED,
	[SET_HOLDING] = 1u << SET_HOLDING | 1u << SET_COMMITTED | 1u << SET_ABORTED,
	[SET_COMMITTED] = 1u << SET_POSTCOMMITTED | 1u << SET_ABORTED,
	[SET_POSTCOMMITTED] = 1u << SET_RECOVERING | 1u << SET_ABORTED,
	[SET_RECOVERING] = 1u << SET_RECOVERING | 1u << SET_CREATED | 1u << SET_ABORTED,
	[SET_ABORTED] = 1u << SET_REMOVED,
};

static void move(struct coord_set *set, enum coord_set_state to)
{
	assert(moves[set->state] & 1u << to);
	set->state = to;
}

/* ---- the set and its trees ---- */

struct coord_set *coord_set_new(struct coord *core, const char *session_id,
				enum cow_context context, coord_set_fn fn, void *data)
{
	struct coord_set *set = calloc(1, sizeof(*set));

	if (!set)
		return NULL;
	set->core = core;
	set->session_id = session_id;
	set->context = context;
	set->fn = fn;
	set->data = data;
	coord_name_id(set->id);
	return set;
}

static void member_free(struct member *m)
{
	if (!m)
		return;
	coord_pending_forget(m->pending);
	coord_snapshot_free(m->sn);
	free(m->tree_path);
	free(m);
}
DEFINE_CLEANUP(member_free_p, struct member *, member_free)

void coord_set_free(struct coord_set *set)
{
	if (!set)
		return;
	assert(set->state == SET_STARTED || set->state == SET_CREATED || set->state == SET_REMOVED);
	for (size_t i = 0; i < set->n; i++)
		member_free(set->members[i]);
	for (size_t i = 0; i < set->ndetails; i++)
		free(set->details[i]);
	free(set->details);
	free(set);
}

const char *coord_set_id(const struct coord_set *set)
{
	return set->id;
}

enum coord_set_state coord_set_state(const struct coord_set *set)
{
	return set->state;
}

const char *coord_set_state_name(enum coord_set_state s)
{
	assert(s < SET_STATES);
	return state_names[s];
}

size_t coord_set_count(const struct coord_set *set)
{
	return set->n;
}

json_t *coord_set_describe(const struct coord_set *set)
{
	json_t *list = json_array();

	for (size_t i = 0; i < set->n; i++) {
		const struct member *m = set->members[i];
		json_t *one = json_pack("{s:s, s:s}", "id", m->snapshot_id, "tree_id", m->tree_id);

		if (!one || umbra_json_set_path(one, "tree_path", m->tree_path) < 0 ||
		    json_array_append_new(list, one) < 0)
			log_warn("snapshot set %s: out of memory", set->id);
	}
	return list;
}

size_t coord_set_ndetails(const struct coord_set *set)
{
	return set->ndetails;
}

const char *coord_set_detail(const struct coord_set *set, size_t i)
{
	return set->details[i];
}

uint64_t coord_set_held_ns(const struct coord_set *set)
{
	return set->held_ns;
}

/* The checks of N-2, in its order. */
static enum umbra_error check_tree(const struct coord_set *set, const struct coord_provider *p,
				   struct coord_failure *f)
{
	if (set->n >= set->core->limits.trees || set->n >= COW_TREES_MAX)
		return coord_fail(f, UMBRA_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED,
				  "a snapshot set has at most %zu trees", set->core->limits.trees);
	for (size_t i = 0; i < set->n; i++)
		if (strcmp(set->members[i]->tree_id, p->tree.id) == 0)
			return coord_fail(f, UMBRA_E_OBJECT_ALREADY_EXISTS,
					  "%s is in the set already", p->tree.path);
	if (p->tree.fault)
		return coord_fail(f, UMBRA_E_VOLUME_NOT_SUPPORTED, "%s has a fault: %s",
				  p->tree.path, p->tree.fault);
	if (p->tree.store_in_memory && cow_context_persistent(set->context)) /* C-9 */
		return coord_fail(
			f, UMBRA_E_VOLUME_NOT_SUPPORTED,
			"%s has its store in memory, which a crash loses: no snapshot of context %s "
			"there (protect it with another --store; umbra backup works as it is)",
			p->tree.path, coord_name_context(set->context));
	if (coord_revert_open(&p->tree.revert)) /* */
		return coord_fail(
			f, UMBRA_E_REVERT_IN_PROGRESS,
			"%s is being reverted, and that is not finished (see umbra status)",
			p->tree.path);
	if (coord_provider_count(p, false) >= set->core->limits.snapshots)
		return coord_fail(f, UMBRA_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED,
				  "%s has %zu snapshots, which is the most: delete some",
				  p->tree.path, coord_provider_count(p, false));
	return UMBRA_OK;
}

static enum umbra_error check_label(const struct coord_set *set, const struct coord_provider *p,
				    const char *label, struct coord_failure *f)
{
	const char *problem = coord_name_label_problem(label);

	if (problem)
		return coord_fail(f, UMBRA_E_INVALID_ARGUMENT, "the label cannot be used: %s",
				  problem);
	if (!cow_context_client_accessible(set->context) && coord_provider_has_name(p, label))
		return coord_fail(f, UMBRA_E_OBJECT_ALREADY_EXISTS,
				  "%s has a snapshot named %s already", p->tree.path, label);
	return UMBRA_OK;
}

/* The entry's name: the label, or the id; client-accessible ones are named when they are made
 * (begin_names). */
static void fill_snapshot(struct coord_set *set, struct cow_snapshot *s, const char *label)
{
	coord_name_id(s->id);
	strcpy(s->set_id, set->id);
	s->context = set->context;
	s->state = COW_SNAP_OPENED;
	if (label)
		strcpy(s->label, label);
	if (!cow_context_client_accessible(set->context))
		strcpy(s->name, label ? label : s->id);
}

enum umbra_error coord_set_add(struct coord_set *set, struct coord_provider *p, const char *label,
			       const char *description, const char **ret_id,
			       struct coord_failure *f)
{
	CLEANUP(member_free_p) struct member *m = NULL;
	enum umbra_error e;
	int r;

	assert(set->state == SET_STARTED);
	e = check_tree(set, p, f);
	if (e == UMBRA_OK && label)
		e = check_label(set, p, label, f);
	if (e != UMBRA_OK)
		return e;
	m = calloc(1, sizeof(*m));
	if (!m)
		return coord_no_memory(f);
	m->set = set;
	strcpy(m->tree_id, p->tree.id);
	m->tree_path = strdup(p->tree.path);
	m->sn = calloc(1, sizeof(*m->sn));
	if (!m->tree_path || !m->sn)
		return coord_no_memory(f);
	fill_snapshot(set, &m->sn->s, label);
	strcpy(m->snapshot_id, m->sn->s.id);
	r = coord_extra_print(description, &m->sn->s.extra);
	if (r == -E2BIG)
		return coord_fail(f, UMBRA_E_INVALID_ARGUMENT, "the description is too long");
	if (r < 0)
		return coord_no_memory(f);
	*ret_id = m->sn->s.id;
	set->members[set->n++] = TAKE(m);
	return UMBRA_OK;
}

/* ---- failing ---- */

static void undo(struct coord_set *set, enum coord_origin origin);

static void note_detail(struct coord_set *set, const char *text)
{
	char **details = reallocarray(set->details, set->ndetails + 1, sizeof(*details));

	if (!details)
		return; /* the log has it */
	set->details = details;
	details[set->ndetails] = strdup(text);
	if (details[set->ndetails])
		set->ndetails++;
}

/* A failure before `created` (N-1). The set may be gone when this returns. */
static void set_fail(struct coord_set *set, const struct coord_failure *why,
		     enum coord_origin origin)
{
	char line[sizeof(why->message) + 64];

	snprintf(line, sizeof(line), "%s: %s", umbra_error_name(why->error), why->message);
	note_detail(set, line);
	if (set->state == SET_ABORTED)
		return;
	set->failure = *why;
	undo(set, origin);
}

static void member_fail(struct member *m, enum umbra_error e, const char *what, const char *message)
{
	struct coord_failure f;

	coord_fail(&f, e, "%s: %s: %s", m->tree_path, what, message);
	set_fail(m->set, &f, ORIGIN_PROVIDER); /* */
}

static void hold_over(struct member *m)
{
	struct coord *core = m->set->core;

	if (m->held) {
		m->held = false;
		core->held--;
		if (m->provider)
			m->provider->tree.holding = false;
	}
	if (m->may_hold) {
		m->may_hold = false;
		coord_core_hold(core, false);
	}
}

static void finish_undo(struct coord_set *set)
{
	for (size_t i = 0; i < set->n; i++) {
		struct member *m = set->members[i];

		hold_over(m);
		coord_pending_forget(m->pending);
		m->pending = NULL;
		if (m->open_sent)
			coord_core_dead_set(set->core, set->id);
	}
	/* Only now: nothing is held any more, so the log may be written (H-2). */
	log_warn("snapshot set %s not created: %s: %s", set->id,
		 umbra_error_name(set->failure.error), set->failure.message);
	move(set, SET_REMOVED);
	set->fn(set->data, &set->failure);
}

static void undo_answered(struct coord_set *set)
{
	assert(set->undoing > 0);
	if (--set->undoing == 0)
		finish_undo(set);
}

static void on_aborted(void *data)
{
	undo_answered(data);
}

/* Nobody is held any more. A-3 reaches those that were told PrepareForSnapshot, A-1 all
 * that are armed. */
static void begin_aborts(struct coord_set *set)
{
	bool prepared_only = set->abort_origin != ORIGIN_REQUESTER;

	if (!set->party) /* */
		return;
	coord_party_stop(set->party);
	if (set->abort_origin != ORIGIN_NONE &&
	    coord_party_abort(set->party, set->abort_origin, prepared_only, on_aborted, set))
		set->undoing++;
}

static void on_undone(void *data, struct coord_answer *answer)
{
	struct member *m = data;

	if (answer->error != UMBRA_OK)
		log_debug("tree %s: undoing: %s", m->tree_id, answer->message);
	undo_answered(m->set);
}

static void released_for_undo(struct member *m)
{
	hold_over(m);
	assert(m->set->releasing > 0);
	if (--m->set->releasing == 0)
		begin_aborts(m->set);
}

static void on_undo_release(void *data, struct coord_answer *answer)
{
	released_for_undo(data);
	on_undone(data, answer);
}

/* Ask a step of undoing. What cannot be asked is left to N-7 and to the provider's own limit (H-3).
 */
static void ask_undo(struct member *m, enum coord_ask ask)
{
	struct coord_question q = { .ask = ask, .epoch = m->sn->s.epoch, .force = true };
	int r;

	if (!m->provider)
		return;
	r = coord_provider_ask(m->provider, &q, m->set->core->limits.commit_ms,
			       UMBRA_E_UNEXPECTED_PROVIDER_ERROR,
			       ask == ASK_RELEASE ? on_undo_release : on_undone, m, NULL);
	if (r == 0) {
		m->set->undoing++;
		m->set->releasing += ask == ASK_RELEASE;
	} else if (ask == ASK_RELEASE) {
		hold_over(m);
	}
}

/* Undo everything: holds first and on all trees, then Abort to the writers, then epochs, then
 * preparations. A provider takes these at any moment, in any order and repeatedly (N-6). An open that
 * is not answered yet is waited for, since only its answer tells which epoch to drop; and a release,
 * since only then nothing is held. */
static void undo(struct coord_set *set, enum coord_origin origin)
{
	move(set, SET_ABORTED);
	set->abort_origin = origin;
	if (set->party)
		coord_party_stop(set->party);
	coord_timer_disarm(&set->core->timers, &set->hold_limit);
	coord_timer_disarm(&set->core->timers, &set->next_second);
	set->undoing = 1; /* this function's own, so that no answer ends it half-way */
	for (size_t i = 0; i < set->n; i++)
		if (set->members[i]->hold_sent && !set->members[i]->release_sent) {
			set->members[i]->release_sent = true;
			ask_undo(set->members[i], ASK_RELEASE);
		} else if (set->members[i]->pending && set->members[i]->asked == ASK_RELEASE) {
			set->releasing++;
			set->undoing++;
		}
	if (set->releasing == 0)
		begin_aborts(set);
	for (size_t i = 0; i < set->n; i++) {
		struct member *m = set->members[i];

		if (m->pending && m->asked == ASK_OPEN)
			set->undoing++;
		if (m->sn->s.epoch)
			ask_undo(m, ASK_DROP);
		if (m->prepare_sent)
			ask_undo(m, ASK_UNPREPARE);
	}
	undo_answered(set);
}

void coord_set_abort(struct coord_set *set, const struct coord_failure *why,
		     struct coord_party *party, enum coord_origin origin)
{
	if (set->state >= SET_CREATED)
		return;
	set->party = party;
	set_fail(set, why, origin);
}

void coord_set_lost(struct coord_set *set, struct coord_provider *p)
{
	for (size_t i = 0; i < set->n; i++) {
		struct member *m = set->members[i];

		if (m->provider != p)
			continue;
		hold_over(m);
		m->provider = NULL;
		if (set->state > SET_STARTED && set->state < SET_CREATED)
			member_fail(m, UMBRA_E_UNEXPECTED_PROVIDER_ERROR,
				    coord_set_state_name(set->state),
				    "the connection to the tree's umbrafs ended");
		return; /* a tree is in a set once; and the set may be gone */
	}
}

/* ---- the sequence ---- */

enum progress {
	STEP_DONE,   /* go on with the next */
	STEP_WAIT,   /* answers or a timer go on */
	STEP_FAILED, /* set_fail() was called: the set may be gone */
};

static void run(struct coord_set *set);
static void step_done(struct coord_set *set);

/* What an answer's failure is called: the time limits have names of their own (T-2, T-3, H-4). */
static enum umbra_error failure_of(enum coord_ask ask, const struct coord_answer *answer)
{
	if (answer->r == -ETIMEDOUT && ask == ASK_HOLD)
		return UMBRA_E_FLUSH_WRITES_TIMEOUT;
	if (answer->r == -ETIMEDOUT && (ask == ASK_OPEN || ask == ASK_RELEASE))
		return UMBRA_E_HOLD_WRITES_TIMEOUT;
	return answer->error;
}

static void on_hold_limit(void *data)
{
	struct coord_failure f;

	coord_fail(&f, UMBRA_E_HOLD_WRITES_TIMEOUT,
		   "the trees were held for %u ms and the snapshots not done",
		   ((struct coord_set *)data)->core->limits.hold_ms);
	set_fail(data, &f, ORIGIN_PROVIDER); /* H-4: it did not commit in time */
}

static void note_held(struct member *m)
{
	struct coord_set *set = m->set;

	m->held = true;
	m->provider->tree.holding = true;
	set->core->held++;
	if (!set->hold_limit.armed)
		coord_timer_arm(&set->core->timers, &set->hold_limit, set->core->limits.hold_ms,
				on_hold_limit, set);
}

static void note_opened(struct member *m, const struct coord_answer *answer)
{
	m->sn->s.epoch = answer->epoch;
	if (answer->opened_ns)
		m->sn->s.opened_ns = answer->opened_ns;
}

/* An answer that came after the failure: remember what has to be undone, and what else failed
 * (E-3). */
static void answered_while_undoing(struct member *m, struct coord_answer *answer)
{
	if (answer->error != UMBRA_OK && m->provider)
		member_fail(m, failure_of(m->asked, answer), coord_ask_name(m->asked),
			    answer->message);
	if (m->asked == ASK_RELEASE) {
		released_for_undo(m);
		undo_answered(m->set);
		return;
	}
	if (m->asked != ASK_OPEN)
		return;
	if (answer->error == UMBRA_OK) {
		note_opened(m, answer);
		ask_undo(m, ASK_DROP);
	}
	undo_answered(m->set);
}

static void on_answer(void *data, struct coord_answer *answer)
{
	struct member *m = data;
	struct coord_set *set = m->set;

	m->pending = NULL;
	if (set->state == SET_ABORTED) {
		answered_while_undoing(m, answer);
		return;
	}
	if (answer->error == UMBRA_OK && m->asked == ASK_OPEN && answer->epoch == 0) {
		member_fail(m, UMBRA_E_UNEXPECTED_PROVIDER_ERROR, "open",
			    "the answer names no epoch");
		return;
	}
	if (m->asked == ASK_RELEASE)
		hold_over(m);
	if (answer->error != UMBRA_OK) {
		member_fail(m, failure_of(m->asked, answer), coord_ask_name(m->asked),
			    answer->message);
		return;
	}
	if (m->asked == ASK_HOLD)
		note_held(m);
	else if (m->asked == ASK_OPEN)
		note_opened(m, answer);
	assert(set->waiting > 0);
	if (--set->waiting == 0) {
		step_done(set);
		run(set);
	}
}

static void mark_sent(struct member *m, enum coord_ask ask)
{
	m->asked = ask;
	m->prepare_sent |= ask == ASK_PREPARE;
	m->hold_sent |= ask == ASK_HOLD;
	m->open_sent |= ask == ASK_OPEN;
	m->release_sent |= ask == ASK_RELEASE;
}

/* The same question to all trees at once; the step is done when all have answered well. That makes the set one
 * instant (N-3): nobody opens before all are held, nobody is released before all have opened. */
static enum progress ask_all(struct coord_set *set, struct coord_question *q, uint64_t limit_ms,
			     enum umbra_error on_timeout)
{
	for (size_t i = 0; i < set->n; i++) {
		struct member *m = set->members[i];
		int r;

		q->epoch = m->sn->s.epoch;
		q->open = &m->sn->s;
		r = coord_provider_ask(m->provider, q, limit_ms, on_timeout, on_answer, m,
				       &m->pending);
		if (r < 0) {
			member_fail(m, umbra_error_from_errno(r), coord_ask_name(q->ask),
				    "umbrafs cannot be asked");
			return STEP_FAILED;
		}
		mark_sent(m, q->ask);
		set->waiting++;
	}
	return set->n > 0 ? STEP_WAIT : STEP_DONE;
}

static enum progress begin_prepare(struct coord_set *set)
{
	struct coord_question q = { .ask = ASK_PREPARE };

	return ask_all(set, &q, set->core->limits.prepare_ms, UMBRA_E_UNEXPECTED_PROVIDER_ERROR);
}

/* ---- the writers ---- */

/* up to and including Thaw. True: the set failed, and may be gone. */
static bool strict_failure(struct coord_set *set)
{
	bool strict = set->strict && set->party && set->state < SET_RECOVERING;
	const char *name = strict ? coord_party_failed(set->party) : NULL;
	struct coord_failure f;

	if (!name)
		return false;
	coord_fail(&f, UMBRA_E_UNEXPECTED_WRITER_ERROR, "writer %s failed", name);
	set_fail(set, &f, ORIGIN_COORDINATOR);
	return true;
}

/* A writer's failure is in its row and fails nothing else (W-6). */
static void on_writers_done(void *data)
{
	struct coord_set *set = data;

	if (strict_failure(set))
		return;
	step_done(set);
	run(set);
}

static enum progress tell_writers(struct coord_set *set, enum coord_writer_event event,
				  json_t *arguments)
{
	if (!set->party) {
		json_decref(arguments);
		return STEP_DONE;
	}
	if (coord_party_send(set->party, event, arguments, on_writers_done, set))
		return STEP_WAIT;
	return strict_failure(set) ? STEP_FAILED : STEP_DONE;
}

/* So that a writer can tell whether its files lie in the set (W-12). */
static json_t *describe_trees(const struct coord_set *set)
{
	return json_pack("{s:s, s:o}", "context", coord_name_context(set->context), "trees",
			 coord_set_describe(set));
}

static enum progress begin_prepare_writers(struct coord_set *set)
{
	return tell_writers(set, EVENT_PREPARE_FOR_SNAPSHOT,
			    set->party ? describe_trees(set) : NULL);
}

static enum progress begin_freeze(struct coord_set *set)
{
	return tell_writers(set, EVENT_FREEZE, NULL);
}

static enum progress begin_thaw(struct coord_set *set)
{
	return tell_writers(set, EVENT_THAW, NULL);
}

static enum progress begin_post_snapshot(struct coord_set *set)
{
	return tell_writers(set, EVENT_POST_SNAPSHOT, set->party ? describe_trees(set) : NULL);
}

/* ---- the steps of the provider ---- */

static void retry_names(void *data)
{
	run(data); /* begins the same step again */
}

static bool gmt_name_free(const struct coord_set *set, const char *name)
{
	for (size_t i = 0; i < set->n; i++)
		if (coord_provider_has_name(set->members[i]->provider, name))
			return false;
	return true;
}

static void name_all(struct coord_set *set, const char *name)
{
	for (size_t i = 0; i < set->n; i++)
		strcpy(set->members[i]->sn->s.name, name);
}

/* Names are settled before the hold; begin_open() only moves a client-accessible one to its true
 * second. Nobody else can take a name meanwhile, since we have the slot (S-9). */
static enum progress begin_names(struct coord_set *set)
{
	char name[COORD_NAME_GMT_SIZE];
	int64_t now = coord_core_real_ns(set->core);

	if (cow_context_client_accessible(set->context)) {
		coord_name_gmt(name, now);
		if (!gmt_name_free(set, name)) { /* C-12: the later one waits for the next second */
			uint64_t left_ns = CLOCK_NS_PER_SEC - (uint64_t)now % CLOCK_NS_PER_SEC;

			coord_timer_arm(&set->core->timers, &set->next_second,
					left_ns / CLOCK_NS_PER_MS + 1, retry_names, set);
			return STEP_WAIT;
		}
		name_all(set, name);
		return STEP_DONE;
	}
	for (size_t i = 0; i < set->n; i++) {
		struct member *m = set->members[i];

		if (coord_provider_has_name(m->provider, m->sn->s.name)) {
			member_fail(m, UMBRA_E_OBJECT_ALREADY_EXISTS, m->sn->s.name,
				    "there is such a snapshot already");
			return STEP_FAILED;
		}
	}
	return STEP_DONE;
}

static enum progress begin_hold(struct coord_set *set)
{
	struct coord_question q = {
		.ask = ASK_HOLD,
		.wait_ms = set->core->limits.flush_ms,
		.limit_ms = set->core->limits.hold_ms,
	};

	for (size_t i = 0; i < set->n; i++) {
		set->members[i]->may_hold = true;
		coord_core_hold(set->core, true);
	}
	set->hold_began_ns = coord_timers_now(&set->core->timers);
	/* The provider watches T-3 itself; a second more, so that its own answer comes first. */
	return ask_all(set, &q, q.wait_ms + 1000, UMBRA_E_FLUSH_WRITES_TIMEOUT);
}

static enum progress begin_open(struct coord_set *set)
{
	struct coord_question q = { .ask = ASK_OPEN };
	char name[COORD_NAME_GMT_SIZE];
	int64_t now = coord_core_real_ns(set->core);

	if (cow_context_client_accessible(set->context)) {
		coord_name_gmt(name, now);
		if (gmt_name_free(set,
				  name)) /* else the clock went back: the settled name is free */
			name_all(set, name);
	}
	for (size_t i = 0; i < set->n; i++) {
		set->members[i]->sn->s.in_set = (uint32_t)set->n;
		set->members[i]->sn->s.opened_ns = now;
	}
	return ask_all(set, &q, set->core->limits.hold_ms, UMBRA_E_HOLD_WRITES_TIMEOUT);
}

static enum progress begin_release(struct coord_set *set)
{
	struct coord_question q = { .ask = ASK_RELEASE };

	return ask_all(set, &q, set->core->limits.hold_ms, UMBRA_E_HOLD_WRITES_TIMEOUT);
}

static enum progress begin_post_commit(struct coord_set *set)
{
	coord_timer_disarm(&set->core->timers, &set->hold_limit);
	set->held_ns = coord_timers_now(&set->core->timers) - set->hold_began_ns;
	return STEP_DONE;
}

/* How each writer fared is kept with the snapshot. Lack of memory loses that, not the snapshot. */
static void keep_results(struct coord_set *set)
{
	json_t *rows = coord_json_results(set->party);

	for (size_t i = 0; rows && i < set->n; i++) {
		struct cow_snapshot *s = &set->members[i]->sn->s;
		char *extra;

		if (coord_extra_add_writers(s->extra, rows, &extra) < 0)
			continue;
		free(s->extra);
		s->extra = extra;
	}
	json_decref(rows);
}

static enum progress begin_commit(struct coord_set *set)
{
	struct coord_question q = { .ask = ASK_COMMIT };

	if (set->party)
		keep_results(set);

	return ask_all(set, &q, set->core->limits.commit_ms, UMBRA_E_UNEXPECTED_PROVIDER_ERROR);
}

/* The order of events (3.2). The state is reached when the step is done. */
static const struct {
	const char *rule, *name;
	enum progress (*begin)(struct coord_set *set);
	enum coord_set_state reached;
} steps[] = {
	{ "O-1", "prepare the providers", begin_prepare, SET_PREPARED },
	{ "O-2", "PrepareForSnapshot", begin_prepare_writers, SET_PREPARED },
	{ "C-12", "names", begin_names, SET_PREPARED },
	{ "O-3", "Freeze, front-end to system", begin_freeze, SET_PRECOMMITTED },
	{ "O-5", "flush and hold", begin_hold, SET_HOLDING },
	{ "O-6", "open the epochs", begin_open, SET_HOLDING },
	{ "O-7", "release the hold", begin_release, SET_COMMITTED },
	{ "O-8", "post-commit", begin_post_commit, SET_POSTCOMMITTED },
	{ "O-9", "Thaw, system to front-end", begin_thaw, SET_RECOVERING },
	{ "O-11", "PostSnapshot", begin_post_snapshot, SET_RECOVERING },
	{ "O-12", "commit for good", begin_commit, SET_CREATED },
};

static void created(struct coord_set *set)
{
	struct coord_provider *providers[COW_TREES_MAX];

	for (size_t i = 0; i < set->n; i++) {
		struct member *m = set->members[i];

		m->sn->s.state = COW_SNAP_CREATED;
		providers[i] = m->provider;
		coord_provider_insert(m->provider, TAKE(m->sn));
	}
	log_info("snapshot set %s created: %zu trees, held for %ju us", set->id, set->n,
		 (uintmax_t)(set->held_ns / 1000));
	for (size_t i = 0; i < set->n; i++)
		if (cow_context_client_accessible(set->context))
			coord_core_purge(set->core, providers[i]);
	set->fn(set->data, NULL);
}

/* For those who watch (Monitor). */
static void tell_step(const struct coord_set *set)
{
	struct coord *core = set->core;

	if (core->on_news)
		core->on_news(core->on_news_data, &(struct coord_news){
							  .session_id = set->session_id,
							  .set_id = set->id,
							  .what = "step",
							  .name = steps[set->step].name,
						  });
}

static void step_done(struct coord_set *set)
{
	tell_step(set);
	move(set, steps[set->step].reached);
	set->step++;
}

/* Begin steps until one has to wait. */
static void run(struct coord_set *set)
{
	while (set->step < COUNT(steps)) {
		if (steps[set->step].begin(set) != STEP_DONE)
			return;
		step_done(set);
	}
	created(set);
}

void coord_set_create(struct coord_set *set, struct coord_party *party, bool strict)
{
	assert(set->state == SET_STARTED);
	set->party = party;
	set->strict = strict;
	move(set, SET_PREPARING);
	for (size_t i = 0; i < set->n; i++) {
		struct member *m = set->members[i];

		m->provider = coord_registry_by_id(&set->core->registry, m->tree_id);
		if (!m->provider) {
			member_fail(m, UMBRA_E_OBJECT_NOT_FOUND, "not protected any more",
				    "its umbrafs is gone");
			return;
		}
	}
	if (strict_failure(set)) /* PrepareBackup (A-7: nobody hears Abort for it) */
		return;
	run(set);
}
