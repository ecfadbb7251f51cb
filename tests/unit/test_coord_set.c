/* Snapshot sets: table 2.3 of the protocol, with providers that fail at each of its steps. */
#include <criterion/criterion.h>

#include "tests/support/coord_fake.h"
#include "tests/support/leaks.h"

/* Questions of a creation that goes well, in their order. */
static const enum coord_ask sequence[] = { ASK_PREPARE, ASK_HOLD, ASK_OPEN, ASK_RELEASE,
					   ASK_COMMIT };
#define STEPS 5

static struct world *two_trees(void)
{
	struct world *w = world_new();

	fake_join(w, 0);
	fake_join(w, 1);
	return w;
}

static void answer_all(struct world *w, enum coord_ask ask)
{
	for (unsigned i = 0; i < FAKES; i++) {
		struct fake *f = &w->f[i];

		if (f->p && f->n > 0 && f->log[f->n - 1].ask == ask && !f->log[f->n - 1].answered)
			fake_answer(f, f->n - 1, FAKE_WELL);
	}
}

Test(coord_set, steps_begin_only_when_all_trees_have_confirmed_the_one_before)
{
	struct world *w = two_trees();
	struct coord_session *s = world_set(w, "backup", 2);
	struct coord_operation *op = world_do(s);

	for (unsigned step = 0; step < STEPS; step++) { /* N-3 */
		cr_assert_eq(w->f[0].n, step + 1);
		cr_assert_eq(w->f[1].n, step + 1);
		cr_assert_eq(w->f[0].log[step].ask, sequence[step]);
		cr_assert_eq(w->f[1].log[step].ask, sequence[step]);
		cr_expect_eq(world_shown(w), 0, "N-4");
		cr_expect(op->pending && w->core.slot == s, "O-12: not before the last step");
		fake_answer(&w->f[step % 2], step, FAKE_WELL);
		cr_assert_eq(w->f[0].n, step + 1, "step %u went on after one answer", step);
		fake_answer(&w->f[1 - step % 2], step, FAKE_WELL);
	}
	cr_expect_eq(s->state, SESSION_CREATED);
	cr_expect_eq(world_shown(w), 2);
	cr_expect_null(w->core.slot); /* O-12 */
	cr_expect_str_eq(coord_operation_status(op), "finished");
	world_done(w);
	assert_no_leaks();
}

static void note_hold(void *data, bool hold)
{
	*(int *)data += hold ? 1 : 10;
}

Test(coord_set, holds_are_counted_while_they_last)
{
	struct world *w = two_trees();
	struct coord_session *s = world_set(w, "backup", 2);
	int changes = 0;

	w->core.on_hold = note_hold;
	w->core.on_hold_data = &changes;

	world_do(s);
	cr_expect_eq(changes, 0);
	answer_all(w, ASK_PREPARE);
	cr_expect_eq(changes, 1,
		     "from the question on, for the answer comes later than the hold (H-2)");
	cr_expect_eq(w->core.held, 0);
	fake_answer(&w->f[0], 1, FAKE_WELL);
	cr_expect_eq(w->core.held, 1);
	cr_expect(w->f[0].p->tree.holding);
	fake_answer(&w->f[1], 1, FAKE_WELL);
	cr_expect_eq(w->core.held, 2);
	answer_all(w, ASK_OPEN);
	answer_all(w, ASK_RELEASE);
	cr_expect_eq(w->core.held, 0);
	cr_expect(!w->f[0].p->tree.holding);
	cr_expect_eq(changes, 11);
	world_pump(w);
	world_done(w);
	assert_no_leaks();
}

/* What DoSnapshotSet reports for a failure of that kind at that step. */
static enum umbra_error wanted(enum coord_ask ask, enum fake_way way)
{
	switch (way) {
	case FAKE_FAIL:
		return FAKE_ERROR;
	case FAKE_SILENT:
		if (ask == ASK_HOLD) /* the other trees are held, and T-2 ends before T-3 */
			return UMBRA_E_HOLD_WRITES_TIMEOUT;
		/* fall through */
	case FAKE_TIMEOUT:
		return ask == ASK_HOLD			       ? UMBRA_E_FLUSH_WRITES_TIMEOUT
		       : ask == ASK_OPEN || ask == ASK_RELEASE ? UMBRA_E_HOLD_WRITES_TIMEOUT
							       : UMBRA_E_UNEXPECTED_PROVIDER_ERROR;
	case FAKE_BUSY:
		return UMBRA_E_VOLUME_IN_USE;
	default:
		return UMBRA_E_UNEXPECTED_PROVIDER_ERROR;
	}
}

static void fail_at(unsigned step, unsigned tree, enum fake_way way)
{
	struct world *w = world_new();
	struct coord_session *s;
	struct coord_operation *op;
	char where[64];

	snprintf(where, sizeof(where), "step %u, tree %u, way %d", step, tree, way);
	for (unsigned i = 0; i < 3; i++)
		fake_join(w, i);
	s = world_set(w, "backup", 3);
	w->f[tree].way[sequence[step]] = way;
	op = world_do(s);
	world_pump(w);
	if (way == FAKE_SILENT) {
		cr_expect_eq(s->state, SESSION_CREATING, "%s", where);
		world_wait_ms(w, 700000); /* more than every limit */
		world_pump(w);
		world_wait_ms(w, 700000);
		world_pump(w);
	}
	cr_expect_eq(s->state, SESSION_FAILED, "%s: is %s", where,
		     coord_session_state_name(s->state));
	cr_expect_eq(op->failure.error, wanted(sequence[step], way), "%s: %s", where,
		     coord_operation_status(op));
	cr_expect_geq(op->ndetails, 1);
	cr_expect_null(w->core.slot, "%s", where);
	cr_expect_eq(w->core.held, 0, "%s", where);
	cr_expect_eq(world_shown(w), 0, "%s", where); /* N-1 */
	for (unsigned i = 0; i < 3; i++) {
		if (!w->f[i].p || i == tree)
			continue;
		fake_no_trace(&w->f[i], where);
		cr_expect(!w->f[i].prepared, "%s: preparation not undone", where);
	}
	world_done(w);
}

Test(coord_set, every_failure_at_every_step_on_every_tree_undoes_all)
{
	for (unsigned step = 0; step < STEPS; step++)
		for (unsigned tree = 0; tree < 3; tree++)
			for (enum fake_way way = FAKE_FAIL; way <= FAKE_BUSY; way++)
				fail_at(step, tree, way);
	assert_no_leaks();
}

Test(coord_set, loss_of_a_provider_that_had_answered_fails_the_set)
{
	for (unsigned step = 0; step < STEPS; step++) {
		struct world *w = two_trees();
		struct coord_session *s = world_set(w, "nas-rollback", 2);
		struct coord_operation *op = world_do(s);

		for (unsigned i = 0; i < step; i++)
			answer_all(w, sequence[i]);
		fake_answer(&w->f[0], step, FAKE_WELL);
		fake_die(&w->f[0]);
		world_pump(w);
		cr_expect_eq(op->failure.error, UMBRA_E_UNEXPECTED_PROVIDER_ERROR, "step %u", step);
		cr_expect_eq(s->state, SESSION_FAILED);
		fake_no_trace(&w->f[1], "the other tree");
		world_done(w);
	}
	assert_no_leaks();
}

Test(coord_set, member_committed_by_a_lost_provider_is_dropped_when_it_is_back)
{
	struct world *w = two_trees();
	struct coord_session *s = world_set(w, "nas-rollback", 2);
	struct coord_snapshot_list store = TAILQ_HEAD_INITIALIZER(store);
	struct coord_snapshot *sn;

	world_do(s);
	for (unsigned i = 0; i < 4; i++)
		answer_all(w, sequence[i]);
	fake_answer(&w->f[0], 4, FAKE_WELL); /* committed for good */
	fake_die(&w->f[0]);
	world_pump(w);
	sn = fake_snapshot(1, s->set_id, COW_CTX_NAS_ROLLBACK, COW_SNAP_CREATED);
	TAILQ_INSERT_TAIL(&store, sn, link);
	w->f[0].nlive = 0;
	fake_join_with(w, 0, &store);
	cr_expect_eq(world_shown(w), 0); /* N-1 */
	world_pump(w);
	cr_expect_eq(w->f[0].nlive, 0);
	world_done(w);
	assert_no_leaks();
}

Test(coord_set, hold_longer_than_its_limit_fails_though_every_provider_says_well)
{
	struct world *w = two_trees();
	struct coord_session *s = world_set(w, "backup", 2);
	struct coord_operation *op = world_do(s);

	answer_all(w, ASK_PREPARE);
	fake_answer(&w->f[0], 1, FAKE_WELL); /* first tree held: T-2 runs */
	world_wait_ms(w, 9999);
	cr_expect_eq(s->state, SESSION_CREATING);
	world_wait_ms(w, 2);
	world_pump(w);
	cr_expect_eq(op->failure.error, UMBRA_E_HOLD_WRITES_TIMEOUT); /* H-4 */
	cr_expect_eq(s->state, SESSION_FAILED);
	fake_no_trace(&w->f[0], "after T-2");
	world_done(w);
	assert_no_leaks();
}

Test(coord_set, hold_waits_for_the_flush_and_says_its_limits)
{
	struct world *w = two_trees();
	struct coord_session *s = world_set(w, "backup", 2);
	struct coord_operation *op = world_do(s);

	answer_all(w, ASK_PREPARE);
	world_wait_ms(w, 29999); /* nobody held yet: T-3 alone counts */
	cr_expect_eq(s->state, SESSION_CREATING);
	world_wait_ms(w, 1002);
	world_pump(w);
	cr_expect_eq(op->failure.error, UMBRA_E_FLUSH_WRITES_TIMEOUT);
	world_done(w);
	assert_no_leaks();
}

Test(coord_set, epoch_opened_after_everybody_gave_up_is_dropped)
{
	struct world *w = two_trees();
	struct coord_session *s = world_set(w, "backup", 2);

	world_do(s);
	answer_all(w, ASK_PREPARE);
	answer_all(w, ASK_HOLD);
	fake_answer(&w->f[0], 2, FAKE_WELL);
	world_wait_ms(w,
		      60000); /* tree 1 is silent: T-2, and then the undoing gives up on it too */
	cr_expect_eq(s->state, SESSION_FAILED);
	w->f[1].holding = true; /* a broken provider opens all the same */
	fake_answer(&w->f[1], 2, FAKE_WELL);
	world_pump(w);
	cr_expect_eq(w->f[1].nlive, 0);
	world_done(w);
	assert_no_leaks();
}

Test(coord_set, first_failure_by_time_is_reported_and_all_are_kept)
{
	struct world *w = two_trees();
	struct coord_session *s = world_set(w, "backup", 2);
	struct coord_operation *op = world_do(s);

	answer_all(w, ASK_PREPARE);
	answer_all(w, ASK_HOLD);
	fake_answer(&w->f[1], 2, FAKE_BUSY);
	fake_answer(&w->f[0], 2, FAKE_FAIL);
	world_pump(w);
	cr_expect_eq(op->failure.error, UMBRA_E_VOLUME_IN_USE); /* E-3 */
	cr_assert_eq(op->ndetails, 2);
	cr_expect(strstr(op->details[0], "/t1") && strstr(op->details[1], "/t0"));
	world_done(w);
	assert_no_leaks();
}

Test(coord_set, holds_end_on_all_trees_before_anything_is_dropped)
{
	struct world *w = two_trees();
	struct coord_session *s = world_set(w, "backup", 2);

	world_do(s);
	answer_all(w, ASK_PREPARE);
	answer_all(w, ASK_HOLD);
	fake_answer(&w->f[0], 2, FAKE_WELL);
	fake_answer(&w->f[1], 2, FAKE_FAIL);
	cr_expect_eq(w->f[0].log[3].ask, ASK_RELEASE);
	cr_expect_eq(w->f[1].log[3].ask, ASK_RELEASE);
	cr_expect_eq(w->f[0].log[4].ask, ASK_DROP);
	cr_expect(w->f[0].log[4].force);
	world_pump(w);
	world_done(w);
	assert_no_leaks();
}

Test(coord_set, tree_that_left_and_came_back_before_the_creation_is_used)
{
	struct world *w = two_trees();
	struct coord_session *s = world_set(w, "backup", 2);

	fake_die(&w->f[0]);
	fake_join(w, 0);
	world_do(s);
	world_pump(w);
	cr_expect_eq(s->state, SESSION_CREATED);
	world_done(w);

	w = two_trees();
	s = world_set(w, "backup", 2);
	fake_die(&w->f[0]);
	REFUSED(world_do(s)->failure.error, UMBRA_E_OBJECT_NOT_FOUND);
	cr_expect_eq(s->state, SESSION_FAILED);
	world_done(w);
	assert_no_leaks();
}

/* N-6: at any moment, also twice; and what is created stays. */
Test(coord_set, an_abort_after_every_answer_leaves_nothing_and_a_second_changes_nothing)
{
	for (unsigned answers = 0; answers <= 2 * STEPS; answers++) {
		struct world *w = two_trees();
		struct coord_session *s = world_set(w, "nas-rollback", 2);
		int done = 0;

		world_do(s);
		for (unsigned i = 0; i < answers; i++)
			fake_answer(&w->f[i % 2], i / 2, FAKE_WELL);
		for (unsigned twice = 0; twice < 2; twice++) {
			MUST(coord_session_abort(s, world_note, &done, &f));
			world_pump(w);
		}
		cr_expect_eq(done, 2, "after %u answers", answers);
		cr_expect_eq(world_shown(w), answers == 2 * STEPS ? 2 : 0, "after %u answers",
			     answers);
		for (unsigned i = 0; i < 2 && answers < 2 * STEPS; i++) {
			fake_no_trace(&w->f[i], "after the abort");
			cr_expect(!w->f[i].prepared, "after %u answers", answers);
		}
		world_done(w);
	}
	assert_no_leaks();
}

/* ---- N-2 ---- */

Test(coord_set, add_checks_the_tree)
{
	struct world *w = two_trees();
	struct coord_session *s = world_session(w, "nas-rollback");
	const char *id = "untouched";

	MUST(coord_session_start_set(s, &f));
	REFUSED(coord_session_add(s, "/elsewhere", NULL, NULL, &id, &f), UMBRA_E_OBJECT_NOT_FOUND);
	REFUSED(coord_session_add(s, "/t00", NULL, NULL, &id, &f), UMBRA_E_OBJECT_NOT_FOUND);
	cr_expect_str_eq(id, "untouched");
	MUST(coord_session_add(s, "/t0", NULL, NULL, &id, &f));
	cr_expect(coord_name_is_id(id));
	REFUSED(coord_session_add(s, "/t0/x", NULL, NULL, &id, &f), UMBRA_E_OBJECT_ALREADY_EXISTS);
	w->f[1].p->tree.store_in_memory = true; /* C-9: the context is a persistent one */
	REFUSED(coord_session_add(s, "/t1", NULL, NULL, &id, &f), UMBRA_E_VOLUME_NOT_SUPPORTED);
	w->f[1].p->tree.store_in_memory = false;
	w->f[1].p->tree.fault = strdup("I/O failure");
	REFUSED(coord_session_add(s, "/t1", NULL, NULL, &id, &f), UMBRA_E_VOLUME_NOT_SUPPORTED);
	world_done(w);
	assert_no_leaks();
}

/* C-9 */
Test(coord_set, a_store_in_memory_keeps_what_need_not_persist)
{
	struct world *w = two_trees();
	struct coord_session *s;

	w->f[0].p->tree.store_in_memory = true;
	s = world_set(w, "backup", 1);
	world_do(s);
	world_pump(w);
	cr_expect_eq(s->state, SESSION_CREATED);
	world_done(w);
	assert_no_leaks();
}

Test(coord_set, numbers_of_trees_and_snapshots_are_limited)
{
	struct world *w = two_trees();
	struct coord_session *s = world_session(w, "nas-rollback");
	const char *id;

	w->core.limits.trees = 1;
	w->core.limits.snapshots = 2;
	coord_provider_insert(w->f[1].p,
			      fake_snapshot(1, "s", COW_CTX_NAS_ROLLBACK, COW_SNAP_CREATED));
	coord_provider_insert(w->f[1].p,
			      fake_snapshot(2, "s", COW_CTX_NAS_ROLLBACK, COW_SNAP_CREATED));
	MUST(coord_session_start_set(s, &f));
	REFUSED(coord_session_add(s, "/t1", NULL, NULL, &id, &f),
		UMBRA_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED);
	MUST(coord_session_add(s, "/t0", NULL, NULL, &id, &f));
	REFUSED(coord_session_add(s, "/t1", NULL, NULL, &id, &f),
		UMBRA_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED);
	world_done(w);
	assert_no_leaks();
}

/* ---- C-12 ---- */

static const char *opened_name(const struct fake *f)
{
	for (size_t i = f->n; i-- > 0;)
		if (f->log[i].ask == ASK_OPEN)
			return f->log[i].name;
	return NULL;
}

static void create_one(struct world *w, const char *context)
{
	struct coord_session *s = world_set(w, context, 1);

	world_do(s);
	world_pump(w);
	if (s->state == SESSION_CREATED)
		coord_session_release(s, NULL, NULL);
}

Test(coord_set, client_accessible_snapshots_are_named_after_their_second)
{
	struct world *w = world_new();

	fake_join(w, 0);
	create_one(w, "client-accessible");
	cr_expect_str_eq(opened_name(&w->f[0]), "@GMT-2026.01.01-00.00.00");
	create_one(w, "client-accessible"); /* the same second: waits */
	cr_expect_eq(world_shown(w), 1);
	cr_expect_eq(fake_asked(&w->f[0], ASK_HOLD), 1, "nothing is held while waiting for a name");
	world_wait_ms(w, 499);
	world_pump(w);
	cr_expect_eq(world_shown(w), 1);
	world_wait_ms(w, 2);
	world_pump(w);
	cr_expect_str_eq(opened_name(&w->f[0]), "@GMT-2026.01.01-00.00.01");
	world_done(w);
	assert_no_leaks();
}

Test(coord_set, second_made_between_naming_and_opening_moves_the_name)
{
	struct world *w = world_new();
	struct coord_session *s;

	fake_join(w, 0);
	s = world_set(w, "client-accessible", 1);
	world_do(s);
	answer_all(w, ASK_PREPARE);
	world_wait_ms(w, 3000);
	answer_all(w, ASK_HOLD);
	cr_expect_str_eq(opened_name(&w->f[0]), "@GMT-2026.01.01-00.00.03");
	world_pump(w);
	world_done(w);
	assert_no_leaks();
}

Test(coord_set, clock_put_back_while_holding_keeps_the_settled_name)
{
	struct world *w = world_new();
	struct coord_session *s;

	fake_join(w, 0);
	create_one(w, "client-accessible");
	world_wait_ms(w, 5000);
	s = world_set(w, "client-accessible", 1);
	world_do(s);
	answer_all(w, ASK_PREPARE);
	w->real_ns -= 5000 * (int64_t)CLOCK_NS_PER_MS; /* to the first one's second */
	answer_all(w, ASK_HOLD);
	cr_expect_str_eq(opened_name(&w->f[0]), "@GMT-2026.01.01-00.00.05");
	world_pump(w);
	cr_expect_eq(s->state, SESSION_CREATED);
	world_done(w);
	assert_no_leaks();
}

Test(coord_set, waiting_for_a_name_can_be_cancelled)
{
	struct world *w = world_new();
	struct coord_session *s;

	fake_join(w, 0);
	create_one(w, "client-accessible");
	s = world_set(w, "client-accessible", 1);
	world_do(s);
	world_pump(w);
	cr_expect_eq(s->state, SESSION_CREATING);
	MUST(coord_session_abort(s, NULL, NULL, &f));
	world_pump(w);
	cr_expect_eq(s->state, SESSION_ABORTED);
	world_wait_ms(w, 5000);
	cr_expect_eq(world_shown(w), 1);
	world_done(w);
	assert_no_leaks();
}

Test(coord_set, other_snapshots_are_named_by_label_or_id)
{
	struct world *w = two_trees();
	struct coord_session *s = world_session(w, "nas-rollback"), *t;
	const char *id, *id0;
	char copy[COW_UUID_LEN + 1];

	MUST(coord_session_start_set(s, &f));
	MUST(coord_session_add(s, "/t0", "before upgrade", "text", &id0, &f));
	MUST(coord_session_add(s, "/t1", NULL, NULL, &id, &f));
	strcpy(copy, id);
	world_do(s);
	world_pump(w);
	cr_expect_str_eq(opened_name(&w->f[0]), "before upgrade");
	cr_expect_str_eq(opened_name(&w->f[1]), copy);
	t = world_session(w, "nas-rollback");
	MUST(coord_session_start_set(t, &f));
	REFUSED(coord_session_add(t, "/t0", "before upgrade", NULL, &id, &f),
		UMBRA_E_OBJECT_ALREADY_EXISTS);
	REFUSED(coord_session_add(t, "/t0", "a/b", NULL, &id, &f), UMBRA_E_INVALID_ARGUMENT);
	MUST(coord_session_add(t, "/t1", "before upgrade", NULL, &id, &f));
	world_done(w);
	assert_no_leaks();
}

Test(coord_set, oldest_client_accessible_snapshots_beyond_the_number_go)
{
	struct world *w = world_new();

	fake_join(w, 0);
	w->core.limits.client_accessible = 3;
	create_one(w, "nas-rollback");
	for (unsigned i = 0; i < 5; i++) {
		create_one(w, "client-accessible");
		world_wait_ms(w, 1001);
		world_pump(w);
	}
	cr_expect_eq(coord_provider_count(w->f[0].p, true), 3); /* F-16 */
	cr_expect_eq(coord_provider_count(w->f[0].p, false), 4, "others do not count");
	cr_expect(w->f[0].live[1] && !w->f[0].live[2] && !w->f[0].live[3] && w->f[0].live[4]);
	world_done(w);
	assert_no_leaks();
}

Test(coord_set, properties_keep_the_number_at_creation)
{
	struct world *w = two_trees();
	struct coord_session *s = world_set(w, "nas-rollback", 2);
	struct coord_snapshot *sn;

	world_do(s);
	world_pump(w);
	sn = TAILQ_FIRST(&w->f[0].p->snapshots);
	cr_expect_eq(sn->s.in_set, 2);
	coord_core_dropped(&w->core, w->f[1].p, TAILQ_FIRST(&w->f[1].p->snapshots)->s.id, "full");
	cr_expect_eq(sn->s.in_set, 2); /* N-4, F-11 */
	cr_expect_eq(world_shown(w), 1);
	world_done(w);
	assert_no_leaks();
}
