/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One event from its arrival to its answer. What the library owes the coordinator and the application
 * beyond calling handlers is decided here: armed (V-2), the window, Abort by itself (A-2, W-9). */
#include "coordinator/client/writer_private.h"

#include "cow/base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

enum kind {
	IDENTIFY,
	PREPARE_BACKUP,
	PREPARE_FOR_SNAPSHOT,
	FREEZE,
	THAW,
	POST_SNAPSHOT,
	ABORT,
	BACKUP_COMPLETE,
	BACKUP_SHUTDOWN,
	PRE_RESTORE,
	POST_RESTORE,
	KINDS
};

/* wanted: the record of a session begins and ends with it, so it is registered for without a handler. */
static const struct {
	const char *name;
	bool wanted, keeps_metadata; /* M-6 */
	size_t handler;
} events[KINDS] = {
#define HANDLER(member) offsetof(struct umbra_writer_handlers, member)
	[IDENTIFY] = { "identify", false, false, HANDLER(identify) },
	[PREPARE_BACKUP] = { "prepare-backup", true, true, HANDLER(prepare_backup) },
	[PREPARE_FOR_SNAPSHOT] = { "prepare-for-snapshot", true, true,
				   HANDLER(prepare_for_snapshot) },
	[FREEZE] = { "freeze", true, true, HANDLER(freeze) },
	[THAW] = { "thaw", true, true, HANDLER(thaw) },
	[POST_SNAPSHOT] = { "post-snapshot", true, true, HANDLER(post_snapshot) },
	[ABORT] = { "abort", true, false, HANDLER(abort) },
	[BACKUP_COMPLETE] = { "backup-complete", false, true, HANDLER(backup_complete) },
	[BACKUP_SHUTDOWN] = { "backup-shutdown", true, false, HANDLER(backup_shutdown) },
	[PRE_RESTORE] = { "pre-restore", false, true, HANDLER(pre_restore) },
	[POST_RESTORE] = { "post-restore", false, true, HANDLER(post_restore) },
#undef HANDLER
};

/* An event as it came. */
struct call {
	json_int_t serial;
	enum kind kind; /* KINDS: a later version's, answered `ok` unseen (W-3) */
	const char *session_id, *set_id;
	const json_t *arguments;	 /* NULL: none */
	uint64_t read_ns, window_end_ns; /* Freeze: of the writer's clock */
};

/* What is answered to it. */
struct outcome {
	bool fail, window_over;
	enum umbra_writer_code code; /* NO_CODE: none is sent */
	const char *message;	     /* NULL: none */
	const json_t *document, *metadata, *targets;
};

static umbra_writer_fn handler_of(const struct umbra_writer_handlers *h, enum kind kind)
{
	umbra_writer_fn fn;

	memcpy(&fn, (const char *)h + events[kind].handler, sizeof(fn));
	return fn;
}

json_t *writer_event_names(const struct umbra_writer_handlers *h)
{
	json_t *names = json_array();

	for (enum kind k = 0; names && k < KINDS; k++) {
		if (!events[k].wanted && !handler_of(h, k))
			continue;
		if (json_array_append_new(names, json_string(events[k].name)) < 0) {
			json_decref(names);
			return NULL;
		}
	}
	return names;
}

/* ---- the way in ---- */

static enum kind kind_of(const char *name)
{
	enum kind k = 0;

	while (k < KINDS && strcmp(events[k].name, name) != 0)
		k++;
	return k;
}

/* T-1: the window is the writer's own, at most the coordinator's, and began when Freeze was delivered: it
 * may have waited in the socket since. A coordinator that does not say until when it runs is older; one that says a
 * time further away than the window is long has another CLOCK_MONOTONIC (time_namespaces(7)), of which we
 * know nothing. */
static uint64_t window_end_ns(const struct umbra_writer *w, const struct call *c)
{
	json_int_t ms = json_integer_value(json_object_get(c->arguments, "window_ms"));
	json_int_t end = json_integer_value(json_object_get(c->arguments, "deadline_ns"));
	uint64_t ours, late_ns = 0;

	if (ms <= 0 || ms > w->window_ms)
		ms = w->window_ms;
	ours = c->read_ns + (uint64_t)ms * CLOCK_NS_PER_MS;
	if (end <= 0 || (uint64_t)end >= ours)
		return ours;
	if ((uint64_t)end < c->read_ns)
		late_ns = c->read_ns - (uint64_t)end;
	return late_ns > (uint64_t)ms * CLOCK_NS_PER_MS ? ours : (uint64_t)end;
}

/* For the handler: rounded up, since 0 is none. */
static uint32_t window_ms(const struct call *c)
{
	uint64_t ns = c->kind == FREEZE ? c->window_end_ns - c->read_ns : 0;

	return (uint32_t)((ns + CLOCK_NS_PER_MS - 1) / CLOCK_NS_PER_MS);
}

static int read_call(const struct umbra_writer *w, const json_t *from, struct call *ret)
{
	const json_t *serial = json_object_get(from, "serial");
	const char *name = json_string_value(json_object_get(from, "event"));

	if (!json_is_integer(serial) || !name)
		return -EPROTO;
	*ret = (struct call){
		.serial = json_integer_value(serial),
		.kind = kind_of(name),
		.session_id = json_string_value(json_object_get(from, "session_id")),
		.set_id = json_string_value(json_object_get(from, "set_id")),
		.arguments = json_object_get(from, "arguments"),
	};
	if (!json_is_object(ret->arguments))
		ret->arguments = NULL;
	if (ret->kind == FREEZE) {
		ret->read_ns = writer_now_ns(w);
		ret->window_end_ns = window_end_ns(w, ret);
	}
	return 0;
}

/* ---- the way out ---- */

static int put(json_t *object, const char *key, json_t *value)
{
	return json_object_set_new(object, key, value) < 0 ? -ENOMEM : 0;
}

static json_t *answer_object(const struct call *c, const struct outcome *o)
{
	json_t *a = json_pack("{s:I, s:s}", "serial", c->serial, "status", o->fail ? "fail" : "ok");
	int r = a ? 0 : -ENOMEM;

	if (r == 0 && o->code != UMBRA_WRITER_NO_CODE)
		r = put(a, "code", json_string(umbra_writer_code_name(o->code)));
	if (r == 0 && o->message)
		r = put(a, "message", json_string(o->message));
	if (r == 0 && o->window_over)
		r = put(a, "window_over", json_true());
	if (r == 0 && o->document)
		r = put(a, "document", json_incref((json_t *)o->document));
	if (r == 0 && o->metadata)
		r = put(a, "metadata", json_incref((json_t *)o->metadata));
	if (r == 0 && o->targets)
		r = put(a, "targets", json_incref((json_t *)o->targets));
	if (r == 0)
		return a;
	json_decref(a);
	return NULL;
}

/* Returns 0 when it is on its way; otherwise the connection is lost. */
static int answer(struct umbra_writer *w, const struct call *c, const struct outcome *o)
{
	json_t *a = answer_object(c, o);
	int r = a ? umbra_post(w->client, "WriterAnswer", a) : -ENOMEM;

	return r == -EAGAIN ? 0 : r;
}

/* For what the library itself finds wrong. */
static struct outcome failure(enum umbra_writer_code code, const char *message)
{
	return (struct outcome){ .fail = true, .code = code, .message = message };
}

static struct outcome window_over(void)
{
	struct outcome o = failure(UMBRA_WRITER_TIMEOUT, "the freeze window ended before thaw");

	o.window_over = true;
	return o;
}

/* ---- handlers ---- */

static void said_done(struct writer_said *said)
{
	json_decref(said->document);
	json_decref(said->metadata);
	json_decref(said->targets);
}

/* Call one, whatever it is for; in `h` stays what it said. */
static int call_handler(struct umbra_writer *w, umbra_writer_fn fn,
			const struct umbra_writer_event *e, struct writer_handling *h)
{
	int r;

	w->handling = h;
	r = fn(w, e, w->data);
	w->handling = NULL;
	return r;
}

/* The handler of an event, and what it makes of the answer. `h` holds what the outcome borrows. */
static struct outcome handle(struct umbra_writer *w, const struct call *c, struct writer_session *s,
			     struct writer_handling *h)
{
	umbra_writer_fn fn = handler_of(&w->handlers, c->kind);
	struct umbra_writer_event e = {
		.name = events[c->kind].name,
		.session_id = c->session_id,
		.set_id = c->set_id,
		.origin = json_string_value(json_object_get(c->arguments, "origin")),
		.window_ms = window_ms(c),
	};
	struct outcome o = { .fail = false };
	char *text;

	if (!fn)
		return o;
	text = c->arguments ? umbra_json_text(c->arguments, JSON_COMPACT) : strdup("{}");
	if (!text)
		return failure(UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory");
	e.arguments = text;
	*h = (struct writer_handling){ .identify = c->kind == IDENTIFY,
				       .keeps_metadata = events[c->kind].keeps_metadata,
				       .pre_restore = c->kind == PRE_RESTORE,
				       .session = s };
	o.fail = call_handler(w, fn, &e, h) != 0;
	free(text);
	if (h->said.failure) {
		o.code = h->said.code;
		o.message = h->said.message[0] ? h->said.message : NULL;
	}
	o.document = h->said.document;
	o.metadata = h->said.metadata;
	o.targets = h->said.targets;
	return o;
}

/* The abort handler without an Abort (A-2, A-8, W-9): what it says is nobody's to hear. */
static void abort_by_itself(struct umbra_writer *w, struct writer_session *s, const char *origin)
{
	struct writer_handling h = { .session = s };
	char text[64];
	struct umbra_writer_event e = {
		.name = events[ABORT].name,
		.session_id = s->id,
		.set_id = s->set_id,
		.origin = origin,
		.arguments = text,
	};

	snprintf(text, sizeof(text), "{\"origin\":\"%s\"}", origin);
	call_handler(w, w->handlers.abort, &e, &h);
	writer_session_drop_trees(s);
}

/* From the start after each: the handler may have taken so long that another window has ended. */
void writer_event_end_windows(struct umbra_writer *w)
{
	struct writer_session *s = w->sessions;

	while (s) {
		if (!writer_session_expired(w, s)) {
			s = s->next;
			continue;
		}
		writer_session_close_window(s, WRITER_OVER);
		abort_by_itself(w, s, "writer");
		s = w->sessions;
	}
}

void writer_event_give_up(struct umbra_writer *w, const char *origin)
{
	while (w->sessions) {
		writer_session_close_window(w->sessions, WRITER_RUNNING);
		abort_by_itself(w, w->sessions, origin);
		writer_session_disarm(w, w->sessions);
	}
}

/* W-4, whatever the coordinator does: nobody stays frozen when there is nobody left to thaw. */
static void end_forgotten_freeze(struct umbra_writer *w, struct writer_session *s)
{
	if (!s || s->freeze != WRITER_FROZEN)
		return;
	writer_session_close_window(s, WRITER_RUNNING);
	abort_by_itself(w, s, "coordinator");
}

/* ---- the events that are more than their handler ---- */

/* The record of the event's session, armed by it. NULL: *ret_why has to be answered. */
static struct writer_session *arm(struct umbra_writer *w, const struct call *c,
				  struct outcome *ret_why)
{
	struct writer_session *s;

	if (!c->session_id) {
		*ret_why = failure(UMBRA_WRITER_NON_RETRYABLE, "the event names no session");
		return NULL;
	}
	s = writer_session_arm(w, c->session_id);
	if (!s || writer_session_set(s, c->set_id) < 0) {
		*ret_why = failure(UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory");
		return NULL;
	}
	return s;
}

static struct outcome take_trees(struct writer_session *s, const struct call *c)
{
	int r = writer_session_take_trees(s, c->arguments);

	if (r == -ENOMEM)
		return failure(UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory");
	if (r < 0)
		return failure(UMBRA_WRITER_NON_RETRYABLE, "the event's trees make no sense");
	return (struct outcome){ .fail = false };
}

static int serve_prepare(struct umbra_writer *w, const struct call *c, struct writer_handling *h)
{
	struct outcome o;
	struct writer_session *s = arm(w, c, &o);

	if (!s)
		return answer(w, c, &o);
	o = c->kind == PREPARE_FOR_SNAPSHOT ? take_trees(s, c) : (struct outcome){ .fail = false };
	if (!o.fail)
		o = handle(w, c, s, h);
	return answer(w, c, &o);
}

/* `fail`: the others' freeze waits for this answer, so it goes before the abort handler is called.
 * When the answer cannot be sent the connection is lost, which calls that handler, too. */
static int answer_then_abort(struct umbra_writer *w, const struct call *c, const struct outcome *o,
			     struct writer_session *s)
{
	int r = answer(w, c, o);

	if (r == 0)
		abort_by_itself(w, s, "writer");
	return r;
}

/* The coordinator has given this Freeze up: what would be frozen now, nobody would wait for. The abort
 * handler is due all the same: what PrepareForSnapshot made has to be freed, and nobody else will say
 * so. An earlier Freeze's own window goes on, and ends with that handler. */
static int refuse_late_freeze(struct umbra_writer *w, const struct call *c,
			      struct writer_session *s)
{
	struct outcome o = window_over();

	if (s->freeze == WRITER_FROZEN)
		return answer(w, c, &o);
	writer_session_close_window(s, WRITER_OVER);
	return answer_then_abort(w, c, &o, s);
}

static int serve_freeze(struct umbra_writer *w, const struct call *c, struct writer_handling *h)
{
	struct outcome o;
	struct writer_session *s = arm(w, c, &o);

	if (!s)
		return answer(w, c, &o);
	if (c->window_end_ns <= c->read_ns)
		return refuse_late_freeze(w, c, s);
	writer_session_freeze(s, c->window_end_ns);
	o = handle(w, c, s, h);
	if (writer_session_expired(w, s)) {
		writer_event_end_windows(w);
		o = window_over();
	}
	if (!o.fail || o.window_over)
		return answer(w, c, &o);
	writer_session_close_window(s, WRITER_RUNNING);
	return answer_then_abort(w, c, &o, s);
}

/* T-4: Thaw has the window anew, from its receipt. It cannot be interrupted, so its lateness shows
 * when it returns; then the coordinator has given it up, and the abort handler is due. */
static int serve_thaw(struct umbra_writer *w, const struct call *c, struct writer_handling *h)
{
	struct writer_session *s = writer_session_find(w, c->session_id);
	uint64_t deadline_ns = writer_now_ns(w) + w->window_ms * CLOCK_NS_PER_MS;
	struct outcome o;

	if (!s || !writer_session_thaw(w, s)) {
		writer_event_end_windows(w);	  /* between its last call and this event */
		o = s && s->freeze == WRITER_OVER /* T-12 */
			    ? window_over()
			    : failure(UMBRA_WRITER_NON_RETRYABLE, "there was no freeze to end");
		return answer(w, c, &o);
	}
	o = handle(w, c, s, h);
	if (writer_now_ns(w) >= deadline_ns)
		o = failure(UMBRA_WRITER_TIMEOUT, "thaw took longer than the freeze window");
	return o.fail ? answer_then_abort(w, c, &o, s) : answer(w, c, &o);
}

static int serve_post_snapshot(struct umbra_writer *w, const struct call *c,
			       struct writer_handling *h)
{
	struct writer_session *s = writer_session_find(w, c->session_id);
	struct outcome o = { .fail = false };
	int r;

	end_forgotten_freeze(w, s);
	if (s) /* they were there until now: Thaw ends nothing that is needed here (O-13) */
		o = take_trees(s, c);
	if (!o.fail)
		o = handle(w, c, s, h);
	r = answer(w, c, &o);
	if (r == 0) /* V-2: disarmed by the answer, good or bad */
		writer_session_disarm(w, s);
	return r;
}

static int serve_abort(struct umbra_writer *w, const struct call *c, struct writer_handling *h)
{
	struct writer_session *s = writer_session_find(w, c->session_id);
	struct outcome o;

	if (s)
		writer_session_close_window(s, WRITER_RUNNING);
	o = handle(w, c, s, h);
	if (s)
		writer_session_drop_trees(s);
	return answer(w, c, &o);
}

static int serve_backup_shutdown(struct umbra_writer *w, const struct call *c,
				 struct writer_handling *h)
{
	struct writer_session *s = writer_session_find(w, c->session_id);
	struct outcome o;

	end_forgotten_freeze(w, s);
	o = handle(w, c, s, h);
	writer_session_disarm(w, s);
	return answer(w, c, &o);
}

static int serve_other(struct umbra_writer *w, const struct call *c, struct writer_handling *h)
{
	struct outcome o = { .fail = false };

	if (c->kind < KINDS)
		o = handle(w, c, writer_session_find(w, c->session_id), h);
	return answer(w, c, &o);
}

int writer_event_serve(struct umbra_writer *w, const json_t *parameters)
{
	static int (*const serve[KINDS + 1])(struct umbra_writer *, const struct call *,
					     struct writer_handling *) = {
		[PREPARE_BACKUP] = serve_prepare,
		[PREPARE_FOR_SNAPSHOT] = serve_prepare,
		[FREEZE] = serve_freeze,
		[THAW] = serve_thaw,
		[POST_SNAPSHOT] = serve_post_snapshot,
		[ABORT] = serve_abort,
		[BACKUP_SHUTDOWN] = serve_backup_shutdown,
	};
	struct writer_handling h = { .session = NULL };
	struct call c;
	int r = read_call(w, parameters, &c);

	if (r < 0)
		return r;
	r = serve[c.kind] ? serve[c.kind](w, &c, &h) : serve_other(w, &c, &h);
	said_done(&h.said);
	return r;
}
