/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/party.h"

#include "coordinator/client/document.h"
#include "coordinator/targets.h"
#include "cow/base/cleanup.h"
#include "cow/base/clock.h"
#include "cow/base/log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* What a session remembers of a writer outlives the writer (W-9), so everything is copied. */
struct coord_participant {
	TAILQ_ENTRY(coord_participant) link;
	struct coord_writer_user user; /* in the writer's list while it lives */
	struct coord_party *party;
	struct coord_writer *writer; /* borrowed; NULL once lost */
	char id[COW_UUID_LEN + 1];
	struct coord_writer_info info;
	pid_t pid;
	uid_t uid;
	int64_t since_ns;

	struct coord_writer_record rec;
	struct coord_writer_row row, reported;
	bool has_report;
	bool identified, takes_part; /* W-2 */
	bool prepared;		     /* was told PrepareForSnapshot */
	unsigned abort_origins;	     /* bit per origin */
	json_t *document, *metadata, *components;
	json_t *backup;		 /* in a restore: what the backup document says of it */
	unsigned restore_events; /* in a restore: bit per event it is to be told */

	struct coord_told *told; /* not answered yet */
	enum coord_writer_event asked;
	bool counted;		   /* the running round waits for it */
	struct coord_timer window; /* T-1: from Freeze sent to Thaw sent */
	uint64_t frozen_at_ns;	   /* 0: not frozen */
};
TAILQ_HEAD(participant_list, coord_participant);

struct choice {
	TAILQ_ENTRY(choice) link;
	char id[COW_UUID_LEN + 1];
	bool enable;
};

struct coord_party {
	struct coord *core;
	const char *session_id, *set_id;
	bool privileged; /* S-12; others meet the writers of their own uid */
	uid_t uid;
	struct participant_list list;
	TAILQ_HEAD(choice_list, choice) choices;

	/* The running round. */
	bool running;
	enum coord_writer_event event;
	enum coord_origin origin; /* Abort */
	bool prepared_only;	  /* Abort */
	int level, step;	  /* Freeze and Thaw; step 0: all at once, in one go */
	size_t waiting;
	json_t *arguments;
	coord_party_fn fn;
	void *data;
};

static const char *const origin_names[] = {
	[ORIGIN_NONE] = "nobody",
	[ORIGIN_REQUESTER] = "requester",
	[ORIGIN_WRITER] = "writer",
	[ORIGIN_PROVIDER] = "provider",
	[ORIGIN_COORDINATOR] = "coordinator",
};

static const char *const outcome_names[WRITER_OUTCOMES] = {
	[OUTCOME_OK] = "ok",	    [OUTCOME_OK_CODE] = "ok-with-code",
	[OUTCOME_FAIL] = "refused", [OUTCOME_LATE] = "late",
	[OUTCOME_LOST] = "died",
};

const char *coord_origin_name(enum coord_origin origin)
{
	return origin_names[origin];
}

/* ---- what became of an event ---- */

static void tell_news(const struct coord_participant *pt, const char *what,
		      enum coord_writer_event event, const char *outcome)
{
	struct coord *core = pt->party->core;
	bool failed = outcome && strcmp(outcome, outcome_names[OUTCOME_OK]) != 0;

	if (!core->on_news)
		return;
	core->on_news(core->on_news_data, &(struct coord_news){
						  .session_id = pt->party->session_id,
						  .set_id = pt->party->set_id,
						  .what = what,
						  .name = coord_writer_event_name(event),
						  .writer = pt->info.name,
						  .instance_id = pt->id,
						  .outcome = outcome,
						  .code = failed ? pt->row.code : "",
						  .message = failed ? pt->row.message : "",
					  });
}

static void thawed(struct coord_participant *pt)
{
	coord_timer_disarm(&pt->party->core->timers, &pt->window);
	if (!pt->frozen_at_ns)
		return;
	pt->row.frozen_ms += (coord_timers_now(&pt->party->core->timers) - pt->frozen_at_ns) /
			     CLOCK_NS_PER_MS;
	pt->frozen_at_ns = 0;
}

static void note_failure(struct coord_participant *pt, enum coord_writer_event event,
			 enum coord_writer_outcome o, const struct coord_writer_answer *a)
{
	/* E-2: refused, timed out and died are three different words. */
	const char *code = o == OUTCOME_LATE   ? "timeout"
			   : o == OUTCOME_LOST ? "writer-not-responding"
					       : coord_writer_code(a->code);
	const char *message = a && a->message	  ? a->message
			      : o == OUTCOME_LATE ? "it did not answer in time"
			      : o == OUTCOME_LOST ? "its connection ended"
						  : "";

	/* Why it failed stays: how it took the end of the session is for the log. */
	if (event != EVENT_ABORT && event != EVENT_BACKUP_SHUTDOWN) {
		snprintf(pt->row.code, sizeof(pt->row.code), "%s", code);
		snprintf(pt->row.message, sizeof(pt->row.message), "%s", message);
	}
	log_warn("session %s: writer %s (process %d): %s: %s: %s %s", pt->party->session_id,
		 LOG_QUOTE(pt->info.name), (int)pt->pid, coord_writer_event_name(event),
		 outcome_names[o], code, LOG_QUOTE(message));
}

/* W-7: the row is about the session that armed the writer last, not about one that ends later. */
static bool has_row(const struct coord_participant *pt)
{
	const struct coord_writer_row *row = &pt->writer->row;

	if (strcmp(row->session_id, pt->row.session_id) == 0)
		return true;
	return pt->row.state == WRITER_FAILED_AT_IDENTIFY &&
	       (row->state == WRITER_STABLE || coord_writer_failed(row->state));
}

/* What the session's end leaves is how the writer fared before it. */
static void update_row(struct coord_participant *pt)
{
	if (pt->rec.shown != WRITER_CLOSED)
		pt->row.state = pt->rec.shown;
	pt->row.aborted = pt->rec.aborted;
	if (pt->writer && has_row(pt))
		pt->writer->row = pt->row;
}

static void settle(struct coord_participant *pt, enum coord_writer_event event,
		   enum coord_writer_outcome o, const struct coord_writer_answer *a)
{
	bool aborts;

	if (!coord_writer_step(&pt->rec, event, o, &aborts))
		return;
	if (aborts) /* its library runs the handler by itself */
		pt->rec.aborted = true;
	if (o != OUTCOME_OK)
		note_failure(pt, event, o, a);
	if (pt->rec.state != WRITER_WAITING_FOR_THAW)
		thawed(pt);
	update_row(pt);
	tell_news(pt, "answer", event, outcome_names[o]);
}

/* ---- rounds ---- */

static void go_on(struct coord_party *party);

/* One that the round waited for is through. The party may be gone when this returns. */
static void count_off(struct coord_participant *pt)
{
	struct coord_party *party = pt->party;

	if (!pt->counted)
		return;
	pt->counted = false;
	assert(party->waiting > 0);
	if (--party->waiting == 0)
		go_on(party);
}

static void keep(json_t **where, json_t *value)
{
	if (!value)
		return;
	json_decref(*where);
	*where = json_incref(value);
}

/* W-10: only `ok` or `fail`; a document that is none is a failure of the writer. */
static enum coord_writer_outcome identified(struct coord_participant *pt,
					    struct coord_writer_answer *a)
{
	const char *problem = NULL;

	if (a->outcome != OUTCOME_OK && a->outcome != OUTCOME_OK_CODE)
		return a->outcome;
	if (a->document)
		problem = umbra_document_writer_problem(a->document);
	if (problem) {
		a->code = "non-retryable";
		a->message = problem;
		return OUTCOME_FAIL;
	}
	keep(&pt->document, a->document);
	pt->identified = true;
	return OUTCOME_OK;
}

/* where components go is the writer's to say in PreRestore; what is no target is its failure. */
static enum coord_writer_outcome targeted(struct coord_participant *pt,
					  struct coord_writer_answer *a)
{
	const char *problem;

	if ((a->outcome != OUTCOME_OK && a->outcome != OUTCOME_OK_CODE) || !a->targets)
		return a->outcome;
	problem = coord_targets_problem(pt->components, a->targets);
	if (!problem && coord_targets_apply(pt->components, a->targets) == 0)
		return a->outcome;
	a->code = problem ? "non-retryable" : "out-of-resources";
	a->message = problem ? problem : "the coordinator is out of memory";
	return OUTCOME_FAIL;
}

static void on_answer(void *data, const struct coord_writer_answer *answer)
{
	struct coord_participant *pt = data;
	struct coord_writer_answer a = *answer;
	enum coord_writer_event event = pt->asked;
	enum coord_writer_outcome o = a.outcome;

	pt->told = NULL;
	if (event == EVENT_IDENTIFY)
		o = identified(pt, &a);
	else if (o != OUTCOME_LATE)
		keep(&pt->metadata, a.metadata); /* M-6 */
	if (event == EVENT_PRE_RESTORE)
		o = targeted(pt, &a);
	/* T-12: what Thaw found over was the freeze. */
	if (a.window_over && (event == EVENT_FREEZE || event == EVENT_THAW)) {
		o = OUTCOME_LATE;
		if (pt->rec.state == WRITER_WAITING_FOR_FREEZE ||
		    pt->rec.state == WRITER_WAITING_FOR_THAW)
			event = EVENT_WINDOW_OVER;
	}
	settle(pt, event, o, &a);
	count_off(pt);
}

/* T-1. T-11: sending Thaw disarms this, in one step with accepting it. */
static void on_window_over(void *data)
{
	struct coord_participant *pt = data;

	coord_told_forget(pt->told);
	pt->told = NULL;
	settle(pt, EVENT_WINDOW_OVER, OUTCOME_LATE, NULL);
	count_off(pt);
}

/* The phase a writer is in between two events (W-9). */
static enum coord_writer_event phase(const struct coord_writer_record *rec)
{
	switch (rec->state) {
	case WRITER_WAITING_FOR_FREEZE:
	case WRITER_WAITING_FOR_THAW:
		return EVENT_WINDOW_OVER; /* failed-at-freeze */
	case WRITER_WAITING_FOR_POST_SNAPSHOT:
		return EVENT_POST_SNAPSHOT;
	case WRITER_WAITING_FOR_BACKUP_COMPLETE:
		return EVENT_BACKUP_COMPLETE;
	default:
		return rec->armed ? EVENT_PREPARE_FOR_SNAPSHOT : WRITER_EVENTS; /* in none */
	}
}

static void on_lost(struct coord_writer_user *user)
{
	struct coord_participant *pt =
		(struct coord_participant *)((char *)user -
					     offsetof(struct coord_participant, user));
	enum coord_writer_event event = pt->told ? pt->asked : phase(&pt->rec);

	pt->told = NULL;
	if (event != WRITER_EVENTS)
		settle(pt, event, OUTCOME_LOST, NULL);
	pt->rec.lost = true;
	pt->writer = NULL;
	thawed(pt);
	count_off(pt);
}

static uint64_t limit_of(const struct coord_participant *pt, enum coord_writer_event event)
{
	const struct coord_limits *limits = &pt->party->core->limits;

	switch (event) {
	case EVENT_IDENTIFY:
		return limits->identify_ms;
	case EVENT_FREEZE: /* the window's own timer comes first */
		return pt->info.window_ms + 1000;
	case EVENT_THAW: /* T-4: the window, anew */
		return pt->info.window_ms;
	case EVENT_ABORT:
	case EVENT_BACKUP_SHUTDOWN:
		return limits->end_ms;
	default:
		return limits->event_ms;
	}
}

static bool is_due(const struct coord_party *party, const struct coord_participant *pt)
{
	if (party->step != 0 && (int)pt->info.level != party->level)
		return false;
	if (party->event == EVENT_ABORT &&
	    ((pt->abort_origins & 1u << party->origin) || (party->prepared_only && !pt->prepared)))
		return false;
	if ((party->event == EVENT_PRE_RESTORE || party->event == EVENT_POST_RESTORE) &&
	    !(pt->restore_events & 1u << party->event))
		return false;
	/* A-11, W-2: whoever takes no part hears nothing after Identify, and so no Abort. */
	return (pt->takes_part || party->event == EVENT_IDENTIFY) &&
	       coord_writer_takes(&pt->rec, party->event);
}

/* What is noted before it is sent: an answer cannot come before, but the end of the writer can. */
static void mark_sent(struct coord_participant *pt, enum coord_writer_event event)
{
	coord_writer_sent(&pt->rec, event);
	pt->asked = event;
	if (event == EVENT_PREPARE_BACKUP || event == EVENT_PRE_RESTORE)
		pt->writer->row = pt->row;
	pt->prepared |= event == EVENT_PREPARE_FOR_SNAPSHOT;
	if (event == EVENT_ABORT)
		pt->abort_origins |= 1u << pt->party->origin;
	if (event == EVENT_FREEZE) {
		pt->row.was_frozen = true;
		pt->frozen_at_ns = coord_timers_now(&pt->party->core->timers);
		coord_timer_arm(&pt->party->core->timers, &pt->window, pt->info.window_ms,
				on_window_over, pt);
	}
	if (event == EVENT_THAW || event == EVENT_ABORT) /* T-11 */
		coord_timer_disarm(&pt->party->core->timers, &pt->window);
}

/* What the backup document says of a writer, with what the writer has changed since (M-6). */
static json_t *document_for(const struct coord_participant *pt)
{
	json_t *document = pt->backup ? json_copy(pt->backup) : NULL;

	if (document && pt->metadata)
		json_object_set(document, "metadata", pt->metadata);
	return document ? document : json_null();
}

/* The event's arguments, with what is this writer's own. NULL: out of memory. */
static json_t *arguments_for(const struct coord_party *party, struct coord_participant *pt)
{
	json_t *own = party->arguments ? json_copy(party->arguments) : json_object();

	if (!own)
		return NULL;
	switch (party->event) {
	case EVENT_FREEZE:
		json_object_set_new(own, "window_ms", json_integer(pt->info.window_ms));
		json_object_set_new(own, "deadline_ns",
				    json_integer((json_int_t)pt->window.deadline_ns));
		break;
	case EVENT_ABORT:
		json_object_set_new(own, "origin", json_string(origin_names[party->origin]));
		break;
	case EVENT_PREPARE_BACKUP:
	case EVENT_BACKUP_COMPLETE:
		json_object_set(own, "components", pt->components);
		break;
	case EVENT_PRE_RESTORE:
	case EVENT_POST_RESTORE:
		json_object_set(own, "components", pt->components);
		json_object_set_new(own, "document", document_for(pt));
		break;
	default:
		break;
	}
	return own;
}

static void send_to(struct coord_party *party, struct coord_participant *pt)
{
	struct coord_writer_question q = {
		.event = party->event,
		.session_id = party->session_id,
		.set_id = party->set_id,
	};
	int r = -1;

	mark_sent(pt, party->event);
	if (!(pt->info.handlers & 1u << party->event)) { /* W-3 */
		pt->identified |= party->event == EVENT_IDENTIFY;
		settle(pt, party->event, OUTCOME_OK, NULL);
		return;
	}
	tell_news(pt, "event", party->event, NULL);
	q.arguments = arguments_for(party, pt);
	if (q.arguments)
		r = coord_writer_ask(pt->writer, &q, limit_of(pt, party->event), on_answer, pt,
				     &pt->told);
	json_decref(q.arguments);
	if (r < 0) { /* W-9: what cannot be told counts as lost; its connection is closed too */
		settle(pt, party->event, OUTCOME_LOST, NULL);
		return;
	}
	pt->counted = true;
	party->waiting++;
}

/* One level, or all at once. True: answers are waited for. */
static bool send_level(struct coord_party *party)
{
	struct coord_participant *pt;

	TAILQ_FOREACH(pt, &party->list, link)
		if (is_due(party, pt))
			send_to(party, pt);
	return party->waiting > 0;
}

static bool next_level(struct coord_party *party)
{
	party->level += party->step;
	return party->step != 0 && party->level >= 0 && party->level < WRITER_LEVELS;
}

static void end_round(struct coord_party *party)
{
	party->running = false;
	json_decref(party->arguments);
	party->arguments = NULL;
}

/* All answers of a level are there. */
static void go_on(struct coord_party *party)
{
	while (next_level(party))
		if (send_level(party))
			return;
	end_round(party);
	party->fn(party->data);
}

static bool begin_round(struct coord_party *party, enum coord_writer_event event, json_t *arguments,
			coord_party_fn fn, void *data)
{
	assert(!party->running);
	party->running = true;
	party->event = event;
	party->arguments = arguments;
	party->fn = fn;
	party->data = data;
	party->step = event == EVENT_FREEZE ? 1 : event == EVENT_THAW ? -1 : 0;
	party->level = event == EVENT_THAW ? LEVEL_SYSTEM : LEVEL_FRONT_END;
	do {
		if (send_level(party))
			return true;
	} while (next_level(party));
	end_round(party);
	return false;
}

void coord_party_stop(struct coord_party *party)
{
	struct coord_participant *pt;

	if (!party->running)
		return;
	TAILQ_FOREACH(pt, &party->list, link) {
		coord_told_forget(pt->told);
		pt->told = NULL;
		pt->counted = false;
	}
	party->waiting = 0;
	end_round(party);
}

/* ---- the rounds ---- */

static bool may_meet(const struct coord_party *party, const struct coord_writer *w)
{
	return party->privileged || party->uid == w->uid; /* S-12 */
}

static bool is_enabled(const struct coord_party *party, const struct coord_writer *w)
{
	const struct choice *c;
	bool any_enabled = false, enabled = false;

	TAILQ_FOREACH(c, &party->choices, link) {
		bool same = strcmp(c->id, w->id) == 0 || strcmp(c->id, w->info.class_id) == 0;

		if (same && !c->enable)
			return false;
		any_enabled |= c->enable;
		enabled |= same && c->enable;
	}
	return enabled || !any_enabled;
}

static bool copy_text(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return *to || !from;
}

static void participant_free(struct coord_participant *pt)
{
	coord_timer_disarm(&pt->party->core->timers, &pt->window);
	coord_told_forget(pt->told);
	if (pt->writer)
		TAILQ_REMOVE(&pt->writer->users, &pt->user, link);
	coord_writer_info_done(&pt->info);
	json_decref(pt->document);
	json_decref(pt->metadata);
	json_decref(pt->components);
	json_decref(pt->backup);
	free(pt);
}

/* Out of memory: that writer is absent, as one whose Identify failed. */
static void admit(struct coord_party *party, struct coord_writer *w)
{
	struct coord_participant *pt = calloc(1, sizeof(*pt));

	if (!pt)
		return;
	pt->party = party;
	pt->components = json_array();
	strcpy(pt->id, w->id);
	pt->info = (struct coord_writer_info){
		.level = w->info.level,
		.window_ms = w->info.window_ms,
		.handlers = w->info.handlers,
	};
	pt->pid = w->pid;
	pt->uid = w->uid;
	pt->since_ns = w->since_ns;
	snprintf(pt->row.session_id, sizeof(pt->row.session_id), "%s", party->session_id);
	if (!copy_text(&pt->info.class_id, w->info.class_id) ||
	    !copy_text(&pt->info.name, w->info.name) ||
	    !copy_text(&pt->info.usage, w->info.usage) ||
	    !copy_text(&pt->info.source, w->info.source) ||
	    !copy_text(&pt->info.instance_name, w->info.instance_name) || !pt->components) {
		log_warn("session %s: writer %s is left out: out of memory", party->session_id,
			 w->id);
		participant_free(pt);
		return;
	}
	pt->writer = w;
	pt->user.lost = on_lost;
	TAILQ_INSERT_TAIL(&w->users, &pt->user, link);
	TAILQ_INSERT_TAIL(&party->list, pt, link);
}

bool coord_party_gather(struct coord_party *party, coord_party_fn fn, void *data)
{
	struct coord_writer *w;

	TAILQ_FOREACH(w, &party->core->writers.list, link)
		if (w->ready && may_meet(party, w) && is_enabled(party, w))
			admit(party, w);
	return begin_round(party, EVENT_IDENTIFY, NULL, fn, data);
}

bool coord_party_prepare(struct coord_party *party, bool component_mode, json_t *arguments,
			 coord_party_fn fn, void *data)
{
	struct coord_participant *pt;

	TAILQ_FOREACH(pt, &party->list, link)
		pt->takes_part = pt->identified && pt->writer &&
				 (!component_mode || json_array_size(pt->components) > 0); /* W-2 */
	return begin_round(party, EVENT_PREPARE_BACKUP, arguments, fn, data);
}

bool coord_party_send(struct coord_party *party, enum coord_writer_event event, json_t *arguments,
		      coord_party_fn fn, void *data)
{
	return begin_round(party, event, arguments, fn, data);
}

bool coord_party_abort(struct coord_party *party, enum coord_origin origin, bool prepared_only,
		       coord_party_fn fn, void *data)
{
	coord_party_stop(party);
	party->origin = origin;
	party->prepared_only = prepared_only;
	return begin_round(party, EVENT_ABORT, NULL, fn, data);
}

bool coord_party_shutdown(struct coord_party *party, coord_party_fn fn, void *data)
{
	coord_party_stop(party);
	return begin_round(party, EVENT_BACKUP_SHUTDOWN, NULL, fn, data);
}

void coord_participant_restore(struct coord_participant *pt, json_t *backup, unsigned events)
{
	json_incref(backup);
	json_decref(pt->backup);
	pt->backup = backup;
	pt->restore_events = events;
}

bool coord_party_restore(struct coord_party *party, enum coord_writer_event event,
			 coord_party_fn fn, void *data)
{
	struct coord_participant *pt;

	TAILQ_FOREACH(pt, &party->list, link)
		if (event == EVENT_PRE_RESTORE)
			pt->takes_part = pt->identified && pt->writer &&
					 json_array_size(pt->components) > 0;
	return begin_round(party, event, NULL, fn, data);
}

/* ---- the party ---- */

struct coord_party *coord_party_new(struct coord *core, const char *session_id, bool privileged,
				    uid_t uid)
{
	struct coord_party *party = calloc(1, sizeof(*party));

	if (!party)
		return NULL;
	party->core = core;
	party->session_id = session_id;
	party->privileged = privileged;
	party->uid = uid;
	TAILQ_INIT(&party->list);
	TAILQ_INIT(&party->choices);
	return party;
}

void coord_party_free(struct coord_party *party)
{
	struct coord_participant *pt;
	struct choice *c;

	if (!party)
		return;
	coord_party_stop(party);
	while ((pt = TAILQ_FIRST(&party->list))) {
		TAILQ_REMOVE(&party->list, pt, link);
		participant_free(pt);
	}
	while ((c = TAILQ_FIRST(&party->choices))) {
		TAILQ_REMOVE(&party->choices, c, link);
		free(c);
	}
	free(party);
}

void coord_party_set_id(struct coord_party *party, const char *set_id)
{
	party->set_id = set_id;
}

static struct choice *find_choice(struct coord_party *party, const char *id)
{
	struct choice *c;

	TAILQ_FOREACH(c, &party->choices, link)
		if (strcmp(c->id, id) == 0)
			return c;
	return NULL;
}

enum umbra_error coord_party_select(struct coord_party *party, const char *id, bool enable,
				    struct coord_failure *f)
{
	const struct coord_writer *w = coord_writers_find(&party->core->writers, id);
	struct choice *c = find_choice(party, id);

	if (!w || !may_meet(party, w))
		return coord_fail(f, UMBRA_E_OBJECT_NOT_FOUND,
				  "no writer is registered with that class or instance id");
	if (!c) {
		c = calloc(1, sizeof(*c));
		if (!c)
			return coord_no_memory(f);
		snprintf(c->id, sizeof(c->id), "%s", id);
		TAILQ_INSERT_TAIL(&party->choices, c, link);
	}
	c->enable = enable;
	return UMBRA_OK;
}

const char *coord_party_failed(const struct coord_party *party)
{
	const struct coord_participant *pt;

	TAILQ_FOREACH(pt, &party->list, link)
		if (pt->takes_part && coord_writer_failed(pt->rec.state))
			return pt->info.name;
	return NULL;
}

/* ---- what is known of each ---- */

struct coord_participant *coord_party_first(const struct coord_party *party)
{
	return TAILQ_FIRST(&party->list);
}

struct coord_participant *coord_participant_next(const struct coord_participant *pt)
{
	return TAILQ_NEXT(pt, link);
}

struct coord_participant *coord_party_find(const struct coord_party *party, const char *instance_id)
{
	struct coord_participant *pt;

	TAILQ_FOREACH(pt, &party->list, link)
		if (pt->identified && strcmp(pt->id, instance_id) == 0)
			return pt;
	return NULL;
}

const char *coord_participant_id(const struct coord_participant *pt)
{
	return pt->id;
}

const struct coord_writer_info *coord_participant_info(const struct coord_participant *pt)
{
	return &pt->info;
}

pid_t coord_participant_pid(const struct coord_participant *pt)
{
	return pt->pid;
}

uid_t coord_participant_uid(const struct coord_participant *pt)
{
	return pt->uid;
}

int64_t coord_participant_since_ns(const struct coord_participant *pt)
{
	return pt->since_ns;
}

bool coord_participant_identified(const struct coord_participant *pt)
{
	return pt->identified;
}

bool coord_participant_alive(const struct coord_participant *pt)
{
	return pt->writer != NULL;
}

bool coord_participant_takes_part(const struct coord_participant *pt)
{
	return pt->takes_part;
}

json_t *coord_participant_document(const struct coord_participant *pt)
{
	return pt->document;
}

json_t *coord_participant_metadata(const struct coord_participant *pt)
{
	return pt->metadata;
}

json_t *coord_participant_components(struct coord_participant *pt)
{
	return pt->components;
}

const struct coord_writer_row *coord_participant_row(const struct coord_participant *pt)
{
	return &pt->row;
}

void coord_party_report(struct coord_party *party)
{
	struct coord_participant *pt;

	TAILQ_FOREACH(pt, &party->list, link) {
		pt->reported = pt->row;
		pt->has_report = true;
	}
}

const struct coord_writer_row *coord_participant_reported(const struct coord_participant *pt)
{
	return pt->has_report ? &pt->reported : NULL;
}
