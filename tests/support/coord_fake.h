/* tests/support/coord_fake.h - a coordinator's core with fake providers and a clock that tests
 *          turn.
 * Job:     struct world: no sockets, no waiting. A fake records each question; world_pump()
 *          answers them as the test asked for, one after another, until nothing moves any more.
 * Use:     world_init, fake_join, then calls of session.h; world_pump; world_done. */
#ifndef UMBRA_TESTS_SUPPORT_COORD_FAKE_H
#define UMBRA_TESTS_SUPPORT_COORD_FAKE_H

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/core.h"
#include "coordinator/name.h"
#include "coordinator/session.h"
#include "cow/base/clock.h"
#include "cow/base/log.h"

#define FAKES 4
#define FAKE_LOG 4096

/* What a fake does when asked; the default is to answer well. */
enum fake_way {
	FAKE_WELL,
	FAKE_FAIL,	/* answers FAKE_ERROR */
	FAKE_TIMEOUT,	/* answers -ETIMEDOUT, as a provider whose own limit ended */
	FAKE_SILENT,	/* never answers */
	FAKE_DIE,	/* its connection ends instead */
	FAKE_UNASKABLE, /* the transport refuses */
	FAKE_BUSY,	/* answers -EBUSY */
};
#define FAKE_ERROR UMBRA_E_INSUFFICIENT_STORAGE

struct fake_question {
	enum coord_ask ask;
	uint64_t serial, epoch;
	bool force, answered;
	char name[COW_LABEL_MAX + 1];
};

struct fake {
	struct world *world;
	struct coord_provider *p; /* NULL: not connected */
	enum fake_way way[ASK_COUNT];
	struct fake_question log[FAKE_LOG];
	size_t n;
	uint64_t epoch;		/* the last one opened */
	bool holding, prepared; /* as the provider itself knows */
	uint64_t held_at_ns;	/* when the last hold began */
	bool live[1024];	/* epochs opened and not dropped */
	size_t nlive;
};

struct world {
	struct coord core;
	uint64_t now_ns;
	int64_t real_ns;
	struct fake f[FAKES];
	unsigned order; /* counts answers */
	int done;	/* what world_note was called with */
};

static inline uint64_t world_now(void *w)
{
	return ((struct world *)w)->now_ns;
}

static inline int64_t world_real(void *w)
{
	return ((struct world *)w)->real_ns;
}

static inline struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));

	cr_assert(w);
	log_set_level(LOG_LEVEL_ERROR);
	coord_core_init(&w->core);
	w->now_ns = 1000 * CLOCK_NS_PER_SEC;
	w->real_ns = (int64_t)(1767225600 * CLOCK_NS_PER_SEC) +
		     500000000; /* 2026-01-01 00:00:00.5 */
	coord_timers_init(&w->core.timers, world_now, w);
	w->core.real_ns = world_real;
	w->core.real_clock = w;
	for (size_t i = 0; i < FAKES; i++)
		w->f[i].world = w;
	return w;
}

/* Let time pass; what is due fires at its time. */
static inline void world_wait_ms(struct world *w, uint64_t ms)
{
	uint64_t end = w->now_ns + ms * CLOCK_NS_PER_MS;

	for (;;) {
		uint64_t next = coord_timers_next(&w->core.timers);
		uint64_t step = end - w->now_ns;

		if (next < step)
			step = next;
		w->now_ns += step;
		w->real_ns += (int64_t)step;
		coord_timers_run(&w->core.timers);
		if (w->now_ns >= end && coord_timers_next(&w->core.timers) > 0)
			return;
	}
}

static inline int fake_send(void *data, const struct coord_question *q)
{
	struct fake *f = data;
	struct fake_question *log = &f->log[f->n];

	if (f->way[q->ask] == FAKE_UNASKABLE)
		return -EPIPE;
	cr_assert(f->n < FAKE_LOG);
	*log = (struct fake_question){
		.ask = q->ask, .serial = q->serial, .epoch = q->epoch, .force = q->force
	};
	if (q->ask == ASK_OPEN)
		strcpy(log->name, q->open->name);
	f->n++;
	return 0;
}

static const struct coord_transport fake_transport = { .send = fake_send };

static inline void fake_tree(struct coord_tree *tree, unsigned number, const char *path)
{
	*tree = (struct coord_tree){ .path = strdup(path),
				     .store = strdup("/store"),
				     .snapshot_root = strdup("/x") };
	snprintf(tree->id, sizeof(tree->id), "00000000-0000-4000-8000-%012u", number);
	strcpy(tree->shown, "hidden");
}

static inline struct coord_snapshot *fake_snapshot(uint64_t epoch, const char *set_id,
						   enum cow_context context,
						   enum cow_snapshot_state state)
{
	struct coord_snapshot *sn = calloc(1, sizeof(*sn));

	cr_assert(sn);
	sn->s.epoch = epoch;
	coord_name_id(sn->s.id);
	strcpy(sn->s.set_id, set_id);
	sn->s.context = context;
	sn->s.state = state;
	sn->s.in_set = 1;
	snprintf(sn->s.name, sizeof(sn->s.name), "snapshot-%u", (unsigned)epoch);
	return sn;
}

/* Connect fake i as the tree "/tI", with these snapshots in its store (NULL: none). */
static inline void fake_join_with(struct world *w, unsigned i,
				  struct coord_snapshot_list *snapshots)
{
	struct coord_snapshot_list none = TAILQ_HEAD_INITIALIZER(none);
	struct coord_snapshot *sn;
	struct coord_tree tree;
	char path[16];

	snprintf(path, sizeof(path), "/t%u", i);
	fake_tree(&tree, i, path);
	if (snapshots)
		TAILQ_FOREACH(sn, snapshots, link)
		{
			w->f[i].live[sn->s.epoch] = true;
			w->f[i].nlive++;
			if (sn->s.epoch > w->f[i].epoch)
				w->f[i].epoch = sn->s.epoch;
		}
	w->f[i].n = 0;
	cr_assert_eq(coord_core_join(&w->core, &tree, 1000 + i, snapshots ? snapshots : &none,
				     &fake_transport, &w->f[i], &w->f[i].p),
		     0);
}

static inline void fake_join(struct world *w, unsigned i)
{
	fake_join_with(w, i, NULL);
}

/* The connection ends; the provider ends its hold by itself (H-3). */
static inline void fake_die(struct fake *f)
{
	struct coord_provider *p = f->p;

	f->p = NULL;
	f->holding = false;
	for (size_t i = 0; i < f->n; i++)
		f->log[i].answered = true;
	coord_core_leave(&f->world->core, p);
}

static inline void fake_act(struct fake *f, struct fake_question *q, struct coord_answer *a)
{
	switch (q->ask) {
	case ASK_PREPARE:
		f->prepared = true;
		break;
	case ASK_UNPREPARE:
		f->prepared = false;
		break;
	case ASK_HOLD:
		f->holding = true;
		f->held_at_ns = f->world->now_ns;
		break;
	case ASK_OPEN:
		cr_assert(f->holding, "open outside of a hold");
		a->epoch = ++f->epoch;
		f->live[f->epoch] = true;
		f->nlive++;
		break;
	case ASK_RELEASE:
		f->holding = false;
		break;
	case ASK_DROP:
		if (!f->live[q->epoch]) {
			a->error = UMBRA_E_OBJECT_NOT_FOUND;
			break;
		}
		f->live[q->epoch] = false;
		f->nlive--;
		break;
	default:
		break;
	}
}

/* Answer question i in the given way. */
static inline void fake_answer(struct fake *f, size_t i, enum fake_way way)
{
	struct fake_question *q = &f->log[i];
	struct coord_answer a = { .message = "as the test wants it", .fd = -1 };

	q->answered = true;
	f->world->order++;
	switch (way) {
	case FAKE_WELL:
		fake_act(f, q, &a);
		break;
	case FAKE_TIMEOUT:
		f->holding = false;
		a.error = UMBRA_E_UNEXPECTED_PROVIDER_ERROR;
		a.r = -ETIMEDOUT;
		break;
	case FAKE_BUSY:
		a.error = UMBRA_E_VOLUME_IN_USE;
		a.r = -EBUSY;
		break;
	case FAKE_DIE:
		fake_die(f);
		return;
	default:
		a.error = FAKE_ERROR;
		break;
	}
	coord_provider_answer(f->p, q->serial, &a);
}

/* The first question without answer, or f->n. */
static inline size_t fake_open_question(const struct fake *f)
{
	size_t i = 0;

	while (f->p && i < f->n && (f->log[i].answered || f->way[f->log[i].ask] == FAKE_SILENT))
		i++;
	return f->p ? i : f->n;
}

/* Answer all questions, tree by tree in turn, until none is left but those of the silent. */
static inline void world_pump(struct world *w)
{
	bool moved;

	do {
		moved = false;
		for (size_t i = 0; i < FAKES; i++) {
			struct fake *f = &w->f[i];
			size_t at = fake_open_question(f);

			if (!f->p || at == f->n)
				continue;
			fake_answer(f, at, f->way[f->log[at].ask]);
			moved = true;
		}
	} while (moved);
}

/* How often it was asked so. */
static inline size_t fake_asked(const struct fake *f, enum coord_ask ask)
{
	size_t n = 0;

	for (size_t i = 0; i < f->n; i++)
		n += f->log[i].ask == ask;
	return n;
}

static inline void fake_no_trace(const struct fake *f, const char *where)
{
	cr_expect(!f->holding, "%s: still held", where);
	cr_expect_eq(f->nlive, 0, "%s: %zu epochs left", where, f->nlive);
}

static inline void world_done(struct world *w)
{
	struct coord_session *s, *next;

	for (s = TAILQ_FIRST(&w->core.sessions); s; s = next) {
		next = TAILQ_NEXT(s, link);
		if (s->attached)
			coord_session_leave(s);
	}
	for (size_t i = 0; i < FAKES; i++)
		if (w->f[i].p)
			fake_die(&w->f[i]);
	cr_expect(TAILQ_EMPTY(&w->core.timers.queue), "a timer is still armed");
	cr_expect_eq(w->core.held, 0);
	cr_expect_eq(w->core.holds, 0);
	cr_expect(coord_core_idle(&w->core));
	coord_core_done(&w->core);
	free(w);
}

/* ---- sessions ---- */

#define MUST(call)                                                                                 \
	do {                                                                                       \
		struct coord_failure f = { 0 };                                                    \
		enum umbra_error must_e_ = (call);                                                 \
		cr_assert_eq(must_e_, UMBRA_OK, "%s: %s: %s", #call, umbra_error_name(must_e_),    \
			     f.message);                                                           \
	} while (0)

#define REFUSED(call, want)                                                                        \
	do {                                                                                       \
		struct coord_failure f = { 0 };                                                    \
		enum umbra_error refused_e_ = (call);                                              \
		cr_expect_eq(refused_e_, (want), "%s: got %s, want %s", #call,                     \
			     umbra_error_name(refused_e_), umbra_error_name(want));                \
	} while (0)

static inline struct coord_session *world_session(struct world *w, const char *context)
{
	struct coord_session *s = coord_session_new(&w->core, 42, 0, true);

	cr_assert(s);
	MUST(coord_session_initialize(s, false, &f));
	if (context)
		MUST(coord_session_set_context(s, context, false, false, &f));
	return s;
}

/* A session with a set of trees 0 to n-1, up to before DoSnapshotSet. */
static inline struct coord_session *world_set(struct world *w, const char *context, unsigned n)
{
	struct coord_session *s = world_session(w, context);
	struct coord_operation *op;
	const char *id;
	char path[16];

	if (coord_context_writers(s->context))
		MUST(coord_session_gather_metadata(s, &op, &f));
	MUST(coord_session_start_set(s, &f));
	for (unsigned i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "/t%u", i);
		MUST(coord_session_add(s, path, NULL, NULL, &id, &f));
	}
	if (coord_context_writers(s->context))
		MUST(coord_session_prepare(s, &op, &f));
	return s;
}

static inline struct coord_operation *world_do(struct coord_session *s)
{
	struct coord_operation *op;

	MUST(coord_session_create(s, &op, &f));
	return op;
}

/* Snapshots that anybody can see. */
static inline size_t world_shown(struct world *w)
{
	const struct coord_provider *p;
	const struct coord_snapshot *sn;
	size_t n = 0;

	TAILQ_FOREACH(p, &w->core.registry.providers, link)
	TAILQ_FOREACH(sn, &p->snapshots, link)
	n += coord_snapshot_shown(sn);
	return n;
}

static inline void world_note(void *done)
{
	++*(int *)done;
}

#endif
