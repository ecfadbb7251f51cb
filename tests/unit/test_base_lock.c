#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "cow/base/clock.h"
#include "cow/base/lock.h"
#include "tests/support/leaks.h"

static struct ulock gate, inode, other_inode, log_end;

static void make_locks(void)
{
	ulock_init(&gate, RANK_GATE);
	ulock_init(&inode, RANK_INODE);
	ulock_init(&other_inode, RANK_INODE);
	ulock_init(&log_end, RANK_LOG);
	close(STDERR_FILENO); /* the tests that abort would only confuse a reader of the log */
}

TestSuite(base_lock, .init = make_locks, .timeout = 120);

Test(base_lock, rising_ranks_are_fine_and_any_order_of_giving_back)
{
	ulock_lock(&gate);
	ulock_lock(&inode);
	ulock_lock(&log_end);
	ulock_assert_held(&inode);
	ulock_unlock(&gate);
	ulock_unlock(&log_end);
	ulock_unlock(&inode);
	ulock_lock(&gate);
	ulock_unlock(&gate);
	rank_assert_free(RANK_NONE + 1);
	ulock_done(&gate);
	assert_no_leaks();
}

Test(base_lock, two_of_one_rank_need_the_special_call)
{
	ulock_lock(&inode);
	ulock_lock_same(&other_inode);
	ulock_unlock(&inode);
	ulock_unlock(&other_inode);
}

Test(base_lock, trylock_takes_what_is_free_in_any_order)
{
	ulock_lock(&log_end);
	cr_assert(ulock_trylock(&gate));
	ulock_unlock(&gate);
	ulock_unlock(&log_end);
}

Test(base_lock, scope_gives_back)
{
	{
		__attribute__((cleanup(ulock_unlock_p))) struct ulock *held = ulock_hold(&gate);

		ulock_assert_held(held);
	}
	cr_assert(ulock_trylock(&gate));
	ulock_unlock(&gate);
}

Test(base_lock, waiting_ends_at_the_deadline_with_the_lock_held)
{
	pthread_cond_t cond;
	uint64_t before = clock_mono_ns();

	ulock_cond_init(&cond);
	ulock_lock(&inode);
	while (ulock_wait_until(&inode, &cond, before + 20 * CLOCK_NS_PER_MS) == 0)
		;
	ulock_assert_held(&inode);
	cr_assert(clock_mono_ns() - before >= 20 * CLOCK_NS_PER_MS);
	ulock_unlock(&inode);
	pthread_cond_destroy(&cond);
}

struct turn {
	pthread_cond_t cond;
	bool go;
};

static void *wake(void *arg)
{
	struct turn *t = arg;

	ulock_lock(&inode);
	t->go = true;
	pthread_cond_signal(&t->cond);
	ulock_unlock(&inode);
	return NULL;
}

Test(base_lock, a_waiter_is_woken)
{
	struct turn t = { .go = false };
	pthread_t thread;

	ulock_cond_init(&t.cond);
	ulock_lock(&inode);
	cr_assert_eq(pthread_create(&thread, NULL, wake, &t), 0);
	while (!t.go)
		ulock_wait(&inode, &t.cond);
	ulock_unlock(&inode);
	pthread_join(thread, NULL);
	pthread_cond_destroy(&t.cond);
}

#ifndef NDEBUG

static void *take_gate(void *arg)
{
	(void)arg;
	ulock_lock(&gate);
	ulock_unlock(&gate);
	return NULL;
}

Test(base_lock, ranks_are_of_each_thread)
{
	pthread_t thread;

	ulock_lock(&log_end);
	cr_assert_eq(pthread_create(&thread, NULL, take_gate, NULL), 0);
	pthread_join(thread, NULL);
	ulock_unlock(&log_end);
}

Test(base_lock, a_falling_rank_aborts, .signal = SIGABRT)
{
	ulock_lock(&log_end);
	ulock_lock(&gate);
}

Test(base_lock, an_equal_rank_aborts, .signal = SIGABRT)
{
	ulock_lock(&inode);
	ulock_lock(&other_inode);
}

Test(base_lock, an_equal_rank_below_a_greater_one_aborts, .signal = SIGABRT)
{
	ulock_lock(&inode);
	ulock_lock(&log_end);
	ulock_lock_same(&other_inode);
}

Test(base_lock, an_entered_rank_counts_as_a_lock, .signal = SIGABRT)
{
	rank_enter(RANK_INDEX);
	cr_assert(rank_held(RANK_INDEX));
	ulock_lock(&inode);
}

Test(base_lock, a_left_rank_no_longer_counts)
{
	rank_enter(RANK_INDEX);
	rank_enter_same(RANK_INDEX);
	rank_leave(RANK_INDEX);
	rank_leave(RANK_INDEX);
	cr_assert(!rank_held(RANK_INDEX));
	ulock_lock(&inode);
	ulock_unlock(&inode);
}

Test(base_lock, giving_back_what_one_does_not_hold_aborts, .signal = SIGABRT)
{
	ulock_unlock(&gate);
}

Test(base_lock, a_lock_without_rank_aborts, .signal = SIGABRT)
{
	struct ulock l = ULOCK_INIT(RANK_NONE);

	ulock_lock(&l);
}

Test(base_lock, waiting_below_a_greater_lock_aborts, .signal = SIGABRT)
{
	pthread_cond_t cond;

	ulock_cond_init(&cond);
	ulock_lock(&inode);
	ulock_lock(&log_end);
	ulock_wait_until(&inode, &cond, clock_deadline_ms(1000));
}

Test(base_lock, holding_where_nothing_may_be_held_aborts, .signal = SIGABRT)
{
	ulock_lock(&inode);
	rank_assert_free(RANK_TREE);
}

#endif
