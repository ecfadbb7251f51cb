/* tests/support/coord_writer_fake.h - writers for the coordinator's core, as coord_fake.h has providers.
 * Job:     a fake answers each event as the test asked for, and does what the client library does by
 *          itself: Abort when Freeze or Thaw failed, when the window ended, when the connection ended
 *          while armed (A-2, A-8, W-9). What it saw is a line of words in its log.
 * Use:     writer_join, calls of session.h, writers_pump; writers_done before world_done. */
#ifndef UMBRA_TESTS_SUPPORT_COORD_WRITER_FAKE_H
#define UMBRA_TESTS_SUPPORT_COORD_WRITER_FAKE_H

#include "tests/support/coord_fake.h"

#include "coordinator/client/document.h"
#include "coordinator/party.h"

#define WRITERS 8
#define WRITER_QUEUE 64
#define WRITER_TRACE 4096

enum writer_way {
	WRITER_WELL,
	WRITER_FAIL,   /* `fail` with code retryable */
	WRITER_CODED,  /* `ok` with code out-of-resources */
	WRITER_SILENT, /* never answers */
	WRITER_DIES,
};

struct writer_question {
	enum coord_writer_event event;
	uint64_t serial;
	bool answered;
};

struct writer_fake {
	struct world *world;
	char *trace; /* of all writers together: "0:Freeze 1:Freeze ..." */
	unsigned number;
	struct coord_writer *w; /* NULL: not connected */
	enum writer_way way[WRITER_EVENTS];
	struct writer_question queue[WRITER_QUEUE];
	size_t n;
	char log[4096];	   /* "PrepareBackup P Freeze Thaw ..." */
	char set_ids[256]; /* the set id of the last event, "-" for none */
	char origin[16];   /* of the last Abort */
	json_t *arguments; /* of the last event; owned */
	bool armed, frozen, window_over;
	struct coord_timer window;
	unsigned freezes, thaws; /* how often it stopped, how often it went on after that */
	json_t *document;	 /* for Identify; owned */
};

struct writers {
	struct world *world;
	char trace[WRITER_TRACE]; /* the newest events */
	struct writer_fake f[WRITERS];
};

static inline const char *writer_word(enum coord_writer_event e)
{
	static const char *const words[WRITER_EVENTS] = {
		[EVENT_IDENTIFY] = "Identify",
		[EVENT_PREPARE_BACKUP] = "PrepareBackup",
		[EVENT_PREPARE_FOR_SNAPSHOT] = "P",
		[EVENT_FREEZE] = "Freeze",
		[EVENT_THAW] = "Thaw",
		[EVENT_POST_SNAPSHOT] = "PostSnapshot",
		[EVENT_BACKUP_COMPLETE] = "BackupComplete",
		[EVENT_ABORT] = "Abort",
		[EVENT_BACKUP_SHUTDOWN] = "BackupShutdown",
		[EVENT_PRE_RESTORE] = "PreRestore",
		[EVENT_POST_RESTORE] = "PostRestore",
	};

	return words[e];
}

static inline void writer_note(struct writer_fake *f, const char *word)
{
	size_t at = strlen(f->log);

	cr_assert(at + strlen(word) + 2 < sizeof(f->log));
	snprintf(f->log + at, sizeof(f->log) - at, "%s%s", at ? " " : "", word);
	at = strlen(f->trace);
	if (at + 64 > WRITER_TRACE)
		at = 0;
	snprintf(f->trace + at, WRITER_TRACE - at, "%s%u:%s", at ? " " : "", f->number, word);
}

static inline void writer_go_on(struct writer_fake *f)
{
	coord_timer_disarm(&f->world->core.timers, &f->window);
	if (f->frozen)
		f->thaws++;
	f->frozen = false;
}

/* What the library does without being told. */
static inline void writer_local_abort(struct writer_fake *f)
{
	writer_note(f, "Abort");
	strcpy(f->origin, "writer");
	writer_go_on(f);
}

static inline void writer_window_over(void *data)
{
	struct writer_fake *f = data;

	f->window_over = true;
	writer_local_abort(f);
}

static inline int writer_send(void *data, const struct coord_writer_question *q)
{
	struct writer_fake *f = data;

	if (f->n == WRITER_QUEUE) { /* only the unanswered ones matter */
		size_t kept = 0;

		for (size_t i = 0; i < f->n; i++)
			if (!f->queue[i].answered)
				f->queue[kept++] = f->queue[i];
		f->n = kept;
	}
	cr_assert(f->n < WRITER_QUEUE);
	f->queue[f->n++] = (struct writer_question){ .event = q->event, .serial = q->serial };
	snprintf(f->set_ids, sizeof(f->set_ids), "%s", q->set_id ? q->set_id : "-");
	json_decref(f->arguments);
	f->arguments = json_incref(q->arguments);
	if (q->event == EVENT_ABORT)
		snprintf(f->origin, sizeof(f->origin), "%s",
			 json_string_value(json_object_get(q->arguments, "origin")));
	return 0;
}

static const struct coord_writer_transport writer_fake_transport = { .send = writer_send };

static inline struct writers *writers_new(struct world *w)
{
	struct writers *all = calloc(1, sizeof(*all));

	cr_assert(all);
	all->world = w;
	for (size_t i = 0; i < WRITERS; i++)
		all->f[i] = (struct writer_fake){ .world = w, .trace = all->trace, .number = i };
	return all;
}

static inline void writer_join(struct writers *all, unsigned i, enum coord_writer_level level,
			       uint32_t window_ms)
{
	struct writer_fake *f = &all->f[i];
	struct coord_writer_info info = {
		.name = strdup("fake"),
		.usage = strdup("other"),
		.source = strdup("other"),
		.level = level,
		.window_ms = window_ms,
		.handlers = (1u << WRITER_EVENTS) - 1,
	};

	cr_assert(asprintf(&info.class_id, "00000000-0000-4000-9000-%012u", i) > 0);
	cr_assert_null(coord_writer_info_problem(&info));
	f->n = 0;
	cr_assert_eq(coord_writer_new(&all->world->core.writers, &info, 77, 0, 0,
				      &writer_fake_transport, f, &f->w),
		     0);
	f->w->ready = true;
}

static inline void writer_die(struct writer_fake *f)
{
	struct coord_writer *w = f->w;

	f->w = NULL;
	f->n = 0;
	if (f->armed || f->frozen) /* W-9: the library sees the end of its connection */
		writer_local_abort(f);
	f->armed = false;
	coord_writer_lost(w);
}

/* What the application does for the event; false: its window was over before. */
static inline bool writer_act(struct writer_fake *f, enum coord_writer_event event, bool well)
{
	writer_note(f, writer_word(event));
	switch (event) {
	case EVENT_PREPARE_BACKUP:
		f->armed = true;
		break;
	case EVENT_FREEZE:
		f->window_over = false;
		if (well) {
			f->frozen = true;
			f->freezes++;
		}
		coord_timer_arm(&f->world->core.timers, &f->window, f->w->info.window_ms,
				writer_window_over, f);
		break;
	case EVENT_THAW:
		if (f->window_over)
			return false;
		writer_go_on(f);
		break;
	case EVENT_ABORT:
		writer_go_on(f);
		break;
	case EVENT_POST_SNAPSHOT:
	case EVENT_BACKUP_SHUTDOWN:
		f->armed = false;
		break;
	default:
		break;
	}
	return true;
}

static inline void writer_answer_one(struct writer_fake *f, struct writer_question *q)
{
	struct coord_writer_answer a = { .outcome = OUTCOME_OK };
	enum writer_way way = f->way[q->event];
	enum coord_writer_event event = q->event;
	uint64_t serial = q->serial;

	q->answered = true;
	if (way == WRITER_DIES) {
		writer_note(f, writer_word(event));
		writer_die(f);
		return;
	}
	a.window_over = !writer_act(f, event, way == WRITER_WELL || way == WRITER_CODED);
	if (way == WRITER_SILENT)
		return;
	if (way == WRITER_FAIL || a.window_over) {
		a.outcome = OUTCOME_FAIL;
		a.code = a.window_over ? "timeout" : "retryable";
		a.message = "as the test wants it";
		if (!a.window_over && (event == EVENT_FREEZE || event == EVENT_THAW))
			writer_local_abort(f); /* */
	} else if (way == WRITER_CODED) {
		a.outcome = OUTCOME_OK_CODE;
		a.code = "out-of-resources";
	}
	if (event == EVENT_IDENTIFY)
		a.document = f->document;
	coord_writer_answer(f->w, serial, &a);
}

static inline bool writer_pump_one(struct writer_fake *f)
{
	for (size_t i = 0; f->w && i < f->n; i++)
		if (!f->queue[i].answered) {
			writer_answer_one(f, &f->queue[i]);
			return true;
		}
	return false;
}

/* Providers and writers, until nothing moves any more but the silent. */
static inline void writers_pump(struct writers *all)
{
	bool moved;

	do {
		moved = false;
		world_pump(all->world);
		for (size_t i = 0; i < WRITERS; i++)
			moved |= writer_pump_one(&all->f[i]);
	} while (moved);
}

/* Time passes in steps, and everybody goes on meanwhile. */
static inline void writers_wait_ms(struct writers *all, uint64_t ms)
{
	uint64_t end = all->world->now_ns + ms * CLOCK_NS_PER_MS;

	writers_pump(all);
	while (all->world->now_ns < end) {
		uint64_t left = (end - all->world->now_ns) / CLOCK_NS_PER_MS;
		uint64_t next = coord_timers_next(&all->world->core.timers) / CLOCK_NS_PER_MS + 1;

		world_wait_ms(all->world, next < left ? next : left ? left : 1);
		writers_pump(all);
	}
}

static inline void writers_done(struct writers *all)
{
	for (size_t i = 0; i < WRITERS; i++) {
		if (all->f[i].w)
			writer_die(&all->f[i]);
		coord_timer_disarm(&all->world->core.timers, &all->f[i].window);
		json_decref(all->f[i].document);
		json_decref(all->f[i].arguments);
	}
	free(all);
}

/* The row of writer i in a session, as it is now. */
static inline const struct coord_writer_row *writer_row(struct coord_session *s, unsigned i)
{
	char class_id[COW_UUID_LEN + 1];
	struct coord_participant *pt;

	snprintf(class_id, sizeof(class_id), "00000000-0000-4000-9000-%012u", i);
	for (pt = s->party ? coord_party_first(s->party) : NULL; pt;
	     pt = coord_participant_next(pt))
		if (strcmp(coord_participant_info(pt)->class_id, class_id) == 0)
			return coord_participant_row(pt);
	return NULL;
}

#endif
