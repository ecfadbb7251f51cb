/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The call Revert: who may, what it ends with, what goes on without anybody. */
#include <criterion/criterion.h>

#include "coordinator/revert.h"
#include "tests/support/coord_fake.h"
#include "tests/support/leaks.h"

static struct coord_snapshot *persistent, *volatile_one;

static struct world *tree_with_snapshots(void)
{
	struct coord_snapshot_list list = TAILQ_HEAD_INITIALIZER(list);
	struct world *w = world_new();

	persistent = fake_snapshot(3, "00000000-0000-4000-8000-00000000aaaa", COW_CTX_NAS_ROLLBACK,
				   COW_SNAP_CREATED);
	volatile_one = fake_snapshot(4, "00000000-0000-4000-8000-00000000bbbb",
				     COW_CTX_FILE_SHARE_BACKUP, COW_SNAP_CREATED);
	TAILQ_INSERT_TAIL(&list, persistent, link);
	TAILQ_INSERT_TAIL(&list, volatile_one, link);
	fake_join_with(w, 0, &list);
	return w;
}

static struct coord_operation *begin(struct coord_session *s, const char *id, bool force)
{
	struct coord_operation *op = NULL;

	MUST(coord_session_revert(s, id, force, &op, &f));
	cr_assert(op);
	return op;
}

/* Of this session's question, since joining may ask as well. */
static size_t question(struct fake *f)
{
	for (size_t i = f->n; i-- > 0;)
		if (f->log[i].ask == ASK_REVERT)
			return i;
	cr_assert_fail("the provider was not asked");
	return 0;
}

static void answer_with(struct fake *f, enum umbra_error e, const char *message)
{
	size_t i = question(f);
	struct coord_answer a = { .error = e, .message = message, .fd = -1 };

	f->log[i].answered = true;
	cr_assert(coord_provider_answer(f->p, f->log[i].serial, &a));
}

Test(coord_revert, asks_the_provider_and_ends_with_its_answer)
{
	struct world *w = tree_with_snapshots();
	struct coord_session *s = world_session(w, "all");
	struct coord_operation *op = begin(s, persistent->s.id, true), *other;

	cr_expect(op->pending);
	cr_expect_eq(w->f[0].log[question(&w->f[0])].epoch, 3);
	cr_expect(w->f[0].log[question(&w->f[0])].force);
	REFUSED(coord_session_revert(s, persistent->s.id, false, &other, &f), UMBRA_E_BAD_STATE);
	fake_answer(&w->f[0], question(&w->f[0]), FAKE_WELL);
	cr_expect_not(op->pending);
	cr_expect_eq(op->failure.error, UMBRA_OK);
	cr_expect_null(s->reverting);
	world_done(w);
	assert_no_leaks();
}

Test(coord_revert, takes_as_long_as_it_takes)
{
	struct world *w = tree_with_snapshots();
	struct coord_session *s = world_session(w, "all");
	struct coord_operation *op = begin(s, persistent->s.id, false);

	world_wait_ms(w, UINT64_C(3) * 86400 * 1000);
	cr_expect(op->pending, "X-10: until done");
	answer_with(&w->f[0], UMBRA_OK, "");
	cr_expect_not(op->pending);
	world_done(w);
	assert_no_leaks();
}

Test(coord_revert, refuses_what_cannot_be_reverted_to)
{
	struct world *w = tree_with_snapshots();
	struct coord_session *s = world_session(w, "all"), *stranger;
	struct coord_operation *op = NULL;

	volatile_one->doomed = false; /* as if its session were there (N-7) */
	REFUSED(coord_session_revert(s, volatile_one->s.id, true, &op, &f),
		UMBRA_E_UNSUPPORTED_CONTEXT); /* X-10, C-8 */
	REFUSED(coord_session_revert(s, "nonsense", true, &op, &f), UMBRA_E_OBJECT_NOT_FOUND);
	stranger = coord_session_new(&w->core, 1, 4711, false);
	REFUSED(coord_session_revert(stranger, persistent->s.id, true, &op, &f), UMBRA_E_BAD_STATE);
	stranger->state = SESSION_READY;
	REFUSED(coord_session_revert(stranger, persistent->s.id, true, &op, &f),
		UMBRA_E_OBJECT_NOT_FOUND); /* S-12 */
	persistent->s.state = COW_SNAP_OPENED;
	REFUSED(coord_session_revert(s, persistent->s.id, true, &op, &f),
		UMBRA_E_OBJECT_NOT_FOUND); /* N-4 */
	persistent->s.state = COW_SNAP_CREATED;
	cr_expect_eq(fake_asked(&w->f[0], ASK_REVERT), 0);
	cr_expect_null(op);
	world_done(w);
	assert_no_leaks();
}

Test(coord_revert, the_errors_of_the_protocol_come_through)
{
	static const enum umbra_error errors[] = { UMBRA_E_VOLUME_IN_USE,
						   UMBRA_E_REVERT_IN_PROGRESS,
						   UMBRA_E_VOLUME_NOT_SUPPORTED,
						   UMBRA_E_INSUFFICIENT_STORAGE };
	struct world *w = tree_with_snapshots();
	struct coord_session *s = world_session(w, "all");

	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
		struct coord_operation *op = begin(s, persistent->s.id, false);

		answer_with(&w->f[0], errors[i], "the words");
		cr_expect_eq(op->failure.error, errors[i]);
		cr_expect(strstr(op->failure.message, "the words"));
		cr_expect_eq(op->ndetails, 1, "E-3");
	}
	world_done(w);
	assert_no_leaks();
}

Test(coord_revert, a_tree_lost_meanwhile_is_a_volume_lost)
{
	struct world *w = tree_with_snapshots();
	struct coord_session *s = world_session(w, "all");
	struct coord_operation *op = begin(s, persistent->s.id, false);

	fake_die(&w->f[0]);
	cr_expect_not(op->pending);
	cr_expect_eq(op->failure.error, UMBRA_E_REVERT_VOLUME_LOST); /* */
	world_done(w);
	assert_no_leaks();
}

Test(coord_revert, cannot_be_cancelled)
{
	struct world *w = tree_with_snapshots();
	struct coord_session *s = world_session(w, "all");
	struct coord_operation *op = begin(s, persistent->s.id, false);

	cr_expect_not(coord_operation_cancellable(op));
	cr_expect_str_eq(coord_session_cancel(s, op), "pending"); /* S-8 */
	cr_expect(op->pending);
	answer_with(&w->f[0], UMBRA_OK, "");
	cr_expect_eq(op->failure.error, UMBRA_OK);
	cr_expect_str_eq(coord_session_cancel(s, op), "finished");
	world_done(w);
	assert_no_leaks();
}

Test(coord_revert, goes_on_when_the_session_ends)
{
	struct world *w = tree_with_snapshots();
	struct coord_session *s = world_session(w, "all");
	struct coord_answer a = { .error = UMBRA_OK, .message = "", .fd = -1 };
	size_t at;

	begin(s, persistent->s.id, false);
	at = question(&w->f[0]);
	coord_session_leave(s);
	/* nobody is asked to stop, and nobody waits for the answer */
	cr_expect_eq(w->f[0].n, at + 1);
	cr_expect_not(coord_provider_answer(w->f[0].p, w->f[0].log[at].serial, &a));
	world_done(w);
	assert_no_leaks();
}

Test(coord_revert, no_snapshot_is_made_of_the_tree_meanwhile)
{
	struct world *w = tree_with_snapshots();
	struct coord_session *s = world_session(w, "nas-rollback");
	const char *id = NULL;

	MUST(coord_session_start_set(s, &f));
	for (unsigned i = 0; i < 3; i++) {
		static const char *const states[] = { "running", "stopped", "lost" };

		strcpy(w->f[0].p->tree.revert.state, states[i]);
		if (i < 2)
			REFUSED(coord_session_add(s, "/t0", NULL, NULL, &id, &f),
				UMBRA_E_REVERT_IN_PROGRESS); /* */
		else
			MUST(coord_session_add(s, "/t0", NULL, NULL, &id, &f));
	}
	world_done(w);
	assert_no_leaks();
}
