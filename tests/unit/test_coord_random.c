/* Random requesters, writers and providers that fail, stall, disconnect and lie; after each event what the
 * protocol promises is checked. A seed is printed and can be given again as UMBRA_SEED. */
#include <criterion/criterion.h>

#include "tests/support/coord_writer_fake.h"
#include "tests/support/leaks.h"

#define SESSIONS 4
#define STEPS 400
#define TREES 3

/* What one writer saw of one session. */
struct seen {
	char session_id[COW_UUID_LEN + 1];
	unsigned prepared_backup, p, freeze, thaw, post, aborts, complete, shutdowns;
	unsigned origins; /* one bit per origin of an Abort that was sent */
	uint64_t frozen_at_ns;
	bool lost; /* the writer went away since */
};

#define SEEN 512

struct chaos {
	struct world *w;
	struct writers *all;
	uint64_t rng, seed;
	struct coord_session *s[SESSIONS];
	struct seen seen[WRITERS][SEEN];
	unsigned nseen[WRITERS];
	/* Members of the set that is being created, and the last epoch of each before. */
	bool prepared[TREES];
	uint64_t epoch_before[TREES];
	unsigned created, failed, persistent;
};

static struct chaos *c;

static uint32_t rnd(uint32_t n)
{
	c->rng ^= c->rng << 13;
	c->rng ^= c->rng >> 7;
	c->rng ^= c->rng << 17;
	return (uint32_t)(c->rng >> 11) % n;
}

#define HOLDS(what, rule) cr_assert(what, "seed %llu: %s broken", (unsigned long long)c->seed, rule)

static struct seen *seen_of(unsigned writer, const char *session_id)
{
	unsigned n = c->nseen[writer];

	for (unsigned i = n > SEEN ? n - SEEN : 0; i < n; i++)
		if (strcmp(c->seen[writer][i % SEEN].session_id, session_id) == 0)
			return &c->seen[writer][i % SEEN];
	c->seen[writer][n % SEEN] = (struct seen){ 0 };
	strcpy(c->seen[writer][n % SEEN].session_id, session_id);
	c->nseen[writer]++;
	return &c->seen[writer][n % SEEN];
}

/* A provider ends its hold by itself when the limit is over (H-3). */
static bool anything_held(void)
{
	bool any = false;

	for (unsigned i = 0; i < TREES; i++) {
		struct fake *f = &c->w->f[i];
		uint64_t limit_ns = c->w->core.limits.hold_ms * CLOCK_NS_PER_MS;

		if (f->holding && c->w->now_ns - f->held_at_ns >= limit_ns)
			f->holding = false;
		any |= f->holding;
	}
	return any;
}

static void check_abort(struct seen *e, const struct coord_writer_question *q)
{
	const char *origin = json_string_value(json_object_get(q->arguments, "origin"));
	const struct coord_session *slot = c->w->core.slot;
	bool other_creates = slot && strcmp(slot->id, q->session_id) != 0;
	unsigned bit = 0;

	for (enum coord_origin o = ORIGIN_REQUESTER; o <= ORIGIN_COORDINATOR; o++)
		if (strcmp(origin, coord_origin_name(o)) == 0)
			bit = 1u << o;
	HOLDS(bit && bit != 1u << ORIGIN_WRITER, "A-8");
	HOLDS(!(e->origins & bit), "A-12");
	HOLDS(e->prepared_backup == 1 && e->shutdowns == 0, "A-9, A-11");
	HOLDS(bit != 1u << ORIGIN_PROVIDER || e->p == 1, "A-10");
	if (!other_creates) /* its hold is no business of this session */
		HOLDS(!anything_held(), "A-15");
	e->origins |= bit;
	e->aborts++;
}

static struct coord_session *session_of(const char *id)
{
	struct coord_session *s;

	TAILQ_FOREACH(s, &c->w->core.sessions, link)
		if (strcmp(s->id, id) == 0)
			return s;
	return NULL;
}

/* Does a writer that takes part, of a level below (+1: above) this one, still show that state? */
static bool anyone_is(const struct coord_session *s, enum coord_writer_state state, int level,
		      int side)
{
	struct coord_participant *pt;

	for (pt = s->party ? coord_party_first(s->party) : NULL; pt;
	     pt = coord_participant_next(pt)) {
		int other = (int)coord_participant_info(pt)->level;

		if (coord_participant_takes_part(pt) && coord_participant_row(pt)->state == state &&
		    (side == 0 || (side < 0 ? other < level : other > level)))
			return true;
	}
	return false;
}

/* Is there a snapshot of its set, shown or at least not yet gone? */
static bool has_any(const struct coord_session *s, bool shown)
{
	const struct coord_provider *p;
	const struct coord_snapshot *sn;

	TAILQ_FOREACH(p, &c->w->core.registry.providers, link)
		TAILQ_FOREACH(sn, &p->snapshots, link)
			if ((!shown || coord_snapshot_shown(sn)) &&
			    strcmp(sn->s.set_id, s->set_id) == 0)
				return true;
	return false;
}

/* What an event says of its set: none before StartSnapshotSet, and at the end none that was not created. */
static void check_set_id(const struct coord_session *s, const struct coord_writer_question *q)
{
	if (q->event == EVENT_BACKUP_SHUTDOWN)
		HOLDS((q->set_id != NULL) == (s->snapshots != NULL), "D-6");
	else
		HOLDS((q->set_id != NULL) == (s->set_id[0] != 0), "W-11");
	HOLDS(!q->set_id || strcmp(q->set_id, s->set_id) == 0, "W-11, D-6");
}

static bool takes_post(const struct writer_fake *f)
{
	return f->w->info.handlers & 1u << EVENT_POST_SNAPSHOT; /* W-3 */
}

/* Every event passes here before the fake sees it. */
static int chaos_send(void *data, const struct coord_writer_question *q)
{
	struct writer_fake *f = data;
	struct seen *e = seen_of(f->number, q->session_id);
	struct coord_session *s = session_of(q->session_id);
	bool quiet = e->aborts == 0 && e->shutdowns == 0;
	int level = (int)f->w->info.level;

	HOLDS(s, "D-1");
	check_set_id(s, q);
	switch (q->event) {
	case EVENT_IDENTIFY:
		HOLDS(e->prepared_backup == 0, "S-1");
		break;
	case EVENT_PREPARE_BACKUP:
		HOLDS(quiet && e->prepared_backup++ == 0, "S-1");
		break;
	case EVENT_PREPARE_FOR_SNAPSHOT:
		HOLDS(quiet && e->prepared_backup == 1 && e->p++ == 0, "O-2");
		break;
	case EVENT_FREEZE:
		HOLDS(quiet && e->p == 1 && e->freeze++ == 0, "O-3");
		HOLDS(!anything_held(), "O-5");
		HOLDS(!anyone_is(s, WRITER_WAITING_FOR_FREEZE, level, -1), "O-3");
		e->frozen_at_ns = c->w->now_ns;
		break;
	case EVENT_THAW:
		HOLDS(quiet && e->freeze == 1 && e->thaw++ == 0, "A-13");
		HOLDS(!anything_held(), "O-7");
		HOLDS(!anyone_is(s, WRITER_WAITING_FOR_THAW, level, +1), "O-9");
		HOLDS(c->w->now_ns - e->frozen_at_ns <= f->w->info.window_ms * CLOCK_NS_PER_MS,
		      "T-10, T-12");
		break;
	case EVENT_POST_SNAPSHOT:
		HOLDS(quiet && e->thaw == 1 && e->post++ == 0, "O-11");
		HOLDS(!anyone_is(s, WRITER_WAITING_FOR_THAW, 0, 0), "O-9");
		break;
	case EVENT_BACKUP_COMPLETE:
		HOLDS(quiet && e->thaw == 1 && (e->post == 1 || !takes_post(f)) &&
			      e->complete++ == 0,
		      "W-8");
		HOLDS(s->state == SESSION_COMPLETING, "A-19");
		break;
	case EVENT_ABORT:
		check_abort(e, q);
		break;
	case EVENT_BACKUP_SHUTDOWN:
		HOLDS(e->prepared_backup == 1 && e->shutdowns++ == 0, "D-4");
		HOLDS(s->releasing && !s->set && c->w->core.slot != s, "D-8");
		HOLDS(!cow_context_auto_release(s->context) || !has_any(s, false), "D-2, D-8");
		break;
	default:
		HOLDS(false, "no such event in a backup");
	}
	return writer_send(data, q);
}

static const struct coord_writer_transport chaos_transport = { .send = chaos_send };

/* ---- what the providers are asked ---- */

static bool all_members(bool (*is)(unsigned i))
{
	for (unsigned i = 0; i < TREES; i++)
		if (c->prepared[i] && c->w->f[i].p && !is(i))
			return false;
	return true;
}

static bool is_held(unsigned i)
{
	return c->w->f[i].holding;
}

static bool is_released(unsigned i)
{
	return !c->w->f[i].holding;
}

static bool was_opened(unsigned i)
{
	return c->w->f[i].epoch > c->epoch_before[i];
}

/* The steps of a set that is not being undone. */
static void check_step(const struct coord_session *s, unsigned i, enum coord_ask ask)
{
	switch (ask) {
	case ASK_PREPARE:
		c->prepared[i] = true;
		c->epoch_before[i] = c->w->f[i].epoch;
		HOLDS(!anyone_is(s, WRITER_WAITING_FOR_FREEZE, 0, 0), "O-1");
		break;
	case ASK_HOLD:
		HOLDS(c->prepared[i] && !anyone_is(s, WRITER_WAITING_FOR_FREEZE, 0, 0), "O-5");
		break;
	case ASK_OPEN:
		HOLDS(all_members(is_held), "N-3");
		break;
	case ASK_RELEASE:
		HOLDS(all_members(was_opened), "N-3");
		break;
	case ASK_COMMIT:
		HOLDS(all_members(is_released), "O-7");
		HOLDS(!anyone_is(s, WRITER_WAITING_FOR_THAW, 0, 0) &&
			      !anyone_is(s, WRITER_WAITING_FOR_POST_SNAPSHOT, 0, 0),
		      "O-12");
		break;
	default:
		break;
	}
}

static int chaos_ask(void *data, const struct coord_question *q)
{
	struct fake *f = data;
	unsigned i = (unsigned)(f - c->w->f);
	const struct coord_session *s = c->w->core.slot;

	if (q->ask <= ASK_COMMIT && q->ask != ASK_UNPREPARE && s && s->set &&
	    coord_set_state(s->set) < SET_CREATED)
		check_step(s, i, q->ask);
	return fake_transport.send(data, q);
}

static const struct coord_transport chaos_provider = { .send = chaos_ask };

/* It died; who comes to its place is another. */
static void mark_lost(unsigned i)
{
	for (unsigned k = 0; k < SEEN; k++)
		c->seen[i][k].lost = true;
}

static void join_writer(unsigned i)
{
	mark_lost(i); /* one that died in a handler */
	writer_join(c->all, i, rnd(WRITER_LEVELS), 1000 + rnd(60000));
	c->all->f[i].w->transport = &chaos_transport;
	for (enum coord_writer_event e = 0; e < WRITER_EVENTS; e++)
		c->all->f[i].way[e] = rnd(12) ? WRITER_WELL : rnd(5);
	if (rnd(4) == 0)
		c->all->f[i].w->info.handlers &= ~(1u << EVENT_POST_SNAPSHOT |
						   1u << EVENT_IDENTIFY);
}

static void mind_provider(unsigned i)
{
	struct fake *f = &c->w->f[i];

	if (!f->p) {
		fake_join(c->w, i);
		f->p->transport = &chaos_provider;
		f->epoch += 100;
	} else if (rnd(20) == 0) {
		fake_die(f);
		return;
	}
	for (size_t q = 0; q < f->n; q++)
		if (f->log[q].ask == ASK_DROP && !f->log[q].answered)
			return; /* it is on its way: a deletion fails by the provider's end alone */
	if (f->n > FAKE_LOG / 2)
		f->n = 0;
	for (size_t q = 0; q < f->n;
	     q++) /* what it was silent on it stays silent on: no late hold */
		f->log[q].answered = true;
	for (enum coord_ask a = 0; a < ASK_COUNT; a++)
		f->way[a] = rnd(15) ? FAKE_WELL : a == ASK_DROP ? FAKE_WELL : rnd(FAKE_UNASKABLE);
	f->way[ASK_UNPREPARE] = FAKE_WELL;
	if (f->way[ASK_RELEASE] == FAKE_FAIL || f->way[ASK_RELEASE] == FAKE_BUSY)
		f->way[ASK_RELEASE] = FAKE_TIMEOUT; /* the only way that it fails */
}

/* One call that need not be allowed now: the table refuses it then. */
static void call(unsigned i)
{
	static const char *const contexts[] = { "backup", "backup", "app-rollback",
						"file-share-backup" };
	struct coord_session *s = c->s[i];
	struct coord_operation *op;
	struct coord_failure f;
	const char *id;
	char path[16];
	int n = 0;

	snprintf(path, sizeof(path), "/t%u", rnd(TREES));
	switch (rnd(14)) {
	case 0:
		(void)coord_session_initialize(s, rnd(3) == 0, &f); /* strict, or not */
		return;
	case 1:
		(void)coord_session_set_context(s, contexts[rnd(4)], false, false, &f);
		return;
	case 2:
	case 3:
		(void)coord_session_gather_metadata(s, &op, &f);
		return;
	case 4:
		(void)coord_session_start_set(s, &f);
		return;
	case 5:
	case 6:
		(void)coord_session_add(s, path, NULL, NULL, &id, &f);
		return;
	case 7:
		(void)coord_session_prepare(s, &op, &f);
		return;
	case 8:
	case 9:
		(void)coord_session_create(s, &op, &f);
		return;
	case 10:
		(void)coord_session_complete(s, &op, &f);
		return;
	case 11:
		if (rnd(4) == 0 && coord_session_abort(s, world_note, &n, &f) == UMBRA_OK)
			coord_session_forget(s);
		return;
	case 12:
		if (s->operation && rnd(3) == 0)
			(void)coord_session_cancel(s, s->operation);
		return;
	default:
		(void)coord_session_gather_status(s, &op, &f);
	}
}

/* The way that a requester means it, so that many sets are made. */
static void whole_call(unsigned i)
{
	struct coord_session *s = c->s[i];
	struct coord_operation *op;
	struct coord_failure f;
	const char *id;

	switch (s->state) {
	case SESSION_NEW:
		(void)coord_session_initialize(s, false, &f);
		if (rnd(3) == 0)
			(void)coord_session_set_context(s, "app-rollback", false, false, &f);
		return;
	case SESSION_READY:
		if (!s->gathered)
			(void)coord_session_gather_metadata(s, &op, &f);
		else
			(void)coord_session_start_set(s, &f);
		return;
	case SESSION_SET_OPEN:
		(void)coord_session_add(s, "/t0", NULL, NULL, &id, &f);
		(void)coord_session_add(s, "/t1", NULL, NULL, &id, &f);
		if (coord_session_prepare(s, &op, &f) != UMBRA_OK)
			(void)coord_session_create(s, &op, &f);
		return;
	case SESSION_PREPARED:
		(void)coord_session_create(s, &op, &f);
		return;
	case SESSION_CREATED:
		(void)coord_session_complete(s, &op, &f);
		return;
	default:
		return;
	}
}

static void mind_session(unsigned i)
{
	if (!c->s[i]) {
		c->s[i] = coord_session_new(&c->w->core, (pid_t)i, 0, true);
		return;
	}
	if (rnd(60) == 0 || c->s[i]->state >= SESSION_COMPLETED) {
		c->created += c->s[i]->state == SESSION_COMPLETED;
		c->failed += c->s[i]->state == SESSION_FAILED;
		coord_session_leave(c->s[i]);
		c->s[i] = NULL;
		return;
	}
	if (rnd(3) == 0)
		call(i);
	else
		whole_call(i);
}

/* V-4, A-16: a strict session has no set that was made though a writer failed up to Thaw. What only set a code
 * (W-5) says so. */
static void check_strict(const struct coord_session *s)
{
	const struct coord_writer_row *row;
	struct coord_participant *pt;

	for (pt = s->party ? coord_party_first(s->party) : NULL; pt;
	     pt = coord_participant_next(pt)) {
		row = coord_participant_row(pt);
		HOLDS(!coord_participant_takes_part(pt) ||
			      row->state < WRITER_FAILED_AT_PREPARE_BACKUP ||
			      row->state > WRITER_FAILED_AT_THAW ||
			      strcmp(row->code, "out-of-resources") == 0,
		      "A-16");
	}
}

static void check_session(const struct coord_session *s)
{
	bool slot = c->w->core.slot == s;

	HOLDS(slot == (s->set != NULL), "V-3");
	HOLDS(s->state != SESSION_ABORTED || (!s->set && !s->aborting), "A-17");
	HOLDS(s->state >= SESSION_CREATED || !s->set_id[0] || !has_any(s, true), "N-1, N-4");
	HOLDS(s->state != SESSION_FAILED || !has_any(s, true), "N-1");
	HOLDS(s->state != SESSION_CREATING || s->operation, "S-7");
	if (s->state == SESSION_CREATED && s->require_writers)
		check_strict(s);
}

static void check_world(void)
{
	const struct coord_session *slot = c->w->core.slot;
	unsigned under_way = 0;

	for (unsigned i = 0; i < TREES; i++)
		c->prepared[i] = c->prepared[i] && slot && slot->state == SESSION_CREATING;
	for (unsigned i = 0; i < SESSIONS; i++)
		if (c->s[i])
			check_session(c->s[i]);

	for (unsigned i = 0; i < SESSIONS; i++)
		under_way += c->s[i] && c->s[i]->state >= SESSION_SET_OPEN &&
			     c->s[i]->state <= SESSION_CREATING;
	HOLDS(under_way <= 1, "S-9");
	HOLDS(under_way == 0 || c->w->core.slot, "S-9");
	HOLDS(c->w->core.held <= c->w->core.holds, "H-2");
}

static void step(void)
{
	unsigned i = rnd(WRITERS);

	switch (rnd(10)) {
	case 0:
		if (!c->all->f[i].w)
			join_writer(i);
		else if (rnd(6) == 0)
			writer_die(&c->all->f[i]);
		if (!c->all->f[i].w)
			mark_lost(i);
		break;
	case 1:
		mind_provider(rnd(TREES));
		break;
	case 2:
		if (rnd(10) == 0)
			writers_wait_ms(c->all, rnd(100000));
		else
			writers_wait_ms(c->all, rnd(100));
		break;
	case 3:
	case 4:
		writers_pump(c->all);
		break;
	default:
		mind_session(rnd(SESSIONS));
	}
	check_world();
}

/* What is left when all have gone: what persists, and every writer that lives knows that its sessions ended. */
static void check_ends(void)
{
	const struct coord_provider *p;
	const struct coord_snapshot *sn;

	TAILQ_FOREACH(p, &c->w->core.registry.providers, link)
		TAILQ_FOREACH(sn, &p->snapshots, link) {
			HOLDS(!coord_snapshot_shown(sn) || !cow_context_auto_release(sn->s.context),
			      "D-2");
			c->persistent += coord_snapshot_shown(sn); /* A-18, D-14 */
		}
	for (unsigned i = 0; i < WRITERS; i++)
		for (unsigned k = 0; k < SEEN && c->all->f[i].w; k++)
			HOLDS(c->seen[i][k].lost || c->seen[i][k].prepared_backup == 0 ||
				      c->seen[i][k].shutdowns == 1,
			      "D-7");
}

/* Everybody is let go; within the limits all is at rest again (I-6). */
static void end_all(void)
{
	for (unsigned i = 0; i < SESSIONS; i++)
		if (c->s[i])
			coord_session_leave(c->s[i]);
	for (unsigned i = 0; i < 40; i++)
		writers_wait_ms(c->all, 100000);
	HOLDS(TAILQ_EMPTY(&c->w->core.sessions), "D-9");
	HOLDS(!c->w->core.slot && c->w->core.held == 0 && c->w->core.holds == 0, "I-6");
	check_ends();
	for (unsigned i = 0; i < WRITERS; i++)
		HOLDS(!c->all->f[i].frozen && c->all->f[i].freezes == c->all->f[i].thaws, "W-4");
}

static void one_life(uint64_t seed)
{
	c = calloc(1, sizeof(*c));
	cr_assert(c);
	c->seed = seed;
	c->rng = seed * 0x9e3779b97f4a7c15u + 1;
	c->w = world_new();
	c->all = writers_new(c->w);
	for (unsigned i = 0; i < TREES; i++)
		mind_provider(i);
	for (unsigned i = 0; i < STEPS; i++)
		step();
	end_all();
	writers_done(c->all);
	for (unsigned i = 0; i < TREES; i++)
		c->w->f[i].holding = false;
	world_done(c->w);
}

Test(coord_random, thousands_of_sessions_keep_what_the_protocol_promises, .timeout = 0)
{
	const char *given = getenv("UMBRA_SEED");
	uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)clock_real_ns() % 1000000000u;
	unsigned created = 0, failed = 0, persistent = 0;

	printf("# UMBRA_SEED=%llu\n", (unsigned long long)seed);
	for (unsigned life = 0; life < (given ? 1 : 1500); life++) {
		one_life(seed + life);
		created += c->created;
		failed += c->failed;
		persistent += c->persistent;
		free(c);
	}
	printf("# %u backups completed, %u creations failed, %u snapshots stayed\n", created,
	       failed, persistent);
	cr_expect(given || (created > 1000 && failed > 1000 && persistent > 100),
		  "too little happened: %u completed, %u failed, %u stayed", created, failed,
		  persistent);
	assert_no_leaks();
}
