/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Nothing here sleeps: threads wait for conditions, and where time itself is tested, for the gate's own limit. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "cow/base/clock.h"
#include "cow/store_private.h"
#include "tests/support/harness.h"
#include "tests/support/leaks.h"

static struct harness h;

static void setup(void)
{
	cr_assert_eq(harness_init(&h, NULL), 0);
	cr_assert_eq(harness_open(&h), 0, "%s", h.why);
}

static void teardown(void)
{
	harness_done(&h);
}

TestSuite(cow_gate, .init = setup, .fini = teardown, .timeout = 60);

#define LONG 10000u /* ms; never waited for when all is well */

static unsigned opened(void)
{
	unsigned n;

	pthread_mutex_lock(&h.lock);
	n = h.gate_opened;
	pthread_mutex_unlock(&h.lock);
	return n;
}

static void wait_opened(unsigned more_than)
{
	pthread_mutex_lock(&h.lock);
	while (h.gate_opened <= more_than)
		pthread_cond_wait(&h.changed, &h.lock);
	pthread_mutex_unlock(&h.lock);
}

static void wait_closing(void)
{
	while (!cow_gate_closing(h.st))
		sched_yield();
}

/* A hold by another thread. */
struct holder {
	pthread_t thread;
	unsigned wait_ms, limit_ms;
	atomic_bool *left; /* must be set when it has the hold; or NULL */
	bool too_early;
	int r;
};

static void *hold(void *arg)
{
	struct holder *o = arg;

	o->r = cow_gate_hold(h.st, o->wait_ms, o->limit_ms);
	o->too_early = o->left && !atomic_load(o->left);
	return NULL;
}

static void holder_start(struct holder *o)
{
	cr_assert_eq(pthread_create(&o->thread, NULL, hold, o), 0);
}

static int holder_join(struct holder *o)
{
	pthread_join(o->thread, NULL);
	return o->r;
}

/* -- passing -- */

Test(cow_gate, many_may_be_inside_while_nobody_holds)
{
	for (unsigned i = 0; i < 100; i++)
		cr_assert(cow_gate_enter(h.st));
	cr_assert(!cow_gate_closing(h.st));
	for (unsigned i = 0; i < 100; i++)
		cow_gate_leave(h.st);
	cr_assert_eq(opened(), 0, "nothing was closed");
	assert_no_leaks();
}

Test(cow_gate, nobody_passes_while_held_and_everybody_after)
{
	cr_assert_eq(cow_gate_hold(h.st, LONG, LONG), 0);
	cr_assert(cow_gate_closing(h.st));
	for (unsigned i = 0; i < 3; i++)
		cr_assert(!cow_gate_enter(h.st));
	cr_assert_eq(opened(), 0, "reported while it was held");
	cr_assert_eq(cow_gate_release(h.st), 0);
	cr_assert_eq(opened(), 1);
	cr_assert(!cow_gate_closing(h.st));
	cr_assert(cow_gate_enter(h.st));
	cow_gate_leave(h.st);
	/* who was turned away is not counted as inside */
	cr_assert_eq(cow_gate_hold(h.st, LONG, LONG), 0);
	cr_assert_eq(cow_gate_release(h.st), 0);
	cr_assert_eq(opened(), 2);
	assert_no_leaks();
}

static void *leave(void *arg)
{
	(void)arg;
	cow_gate_leave(h.st);
	return NULL;
}

Test(cow_gate, another_thread_may_leave_for_the_one_that_entered)
{
	pthread_t t;

	cr_assert(cow_gate_enter(h.st));
	pthread_create(&t, NULL, leave, NULL);
	pthread_join(t, NULL);
	cr_assert_eq(cow_gate_hold(h.st, LONG, LONG), 0);
	cr_assert_eq(cow_gate_release(h.st), 0);
	assert_no_leaks();
}

/* -- the hold -- */

Test(cow_gate, a_hold_waits_for_those_inside)
{
	atomic_bool left = false;
	struct holder o = { .wait_ms = LONG, .limit_ms = LONG, .left = &left };

	cr_assert(cow_gate_enter(h.st));
	cr_assert(cow_gate_enter(h.st));
	holder_start(&o);
	wait_closing();
	cr_assert(!cow_gate_enter(h.st), "somebody new came in while a hold waits");
	cow_gate_leave(h.st);
	for (unsigned i = 0; i < 100; i++)
		sched_yield(); /* time to make a mistake in */
	atomic_store(&left, true);
	cow_gate_leave(h.st);
	cr_assert_eq(holder_join(&o), 0);
	cr_assert(!o.too_early, "held while a change was inside");
	cr_assert_eq(cow_gate_release(h.st), 0);
	assert_no_leaks();
}

Test(cow_gate, a_hold_gives_up_when_a_change_does_not_leave)
{
	uint64_t start = clock_mono_ns();

	cr_assert(cow_gate_enter(h.st));
	cr_assert_eq(cow_gate_hold(h.st, 30, LONG), -ETIMEDOUT);
	cr_assert_geq(clock_mono_ns() - start, 30 * CLOCK_NS_PER_MS);
	cr_assert(!cow_gate_closing(h.st));
	cr_assert_eq(opened(), 1, "those who were turned away must hear of it");
	cr_assert(cow_gate_enter(h.st));
	cow_gate_leave(h.st);
	cr_assert_eq(cow_gate_release(h.st), -EINVAL, "there was no hold");
	cow_gate_leave(h.st);
	cr_assert_eq(cow_gate_hold(h.st, LONG, LONG), 0);
	cr_assert_eq(cow_gate_release(h.st), 0);
	assert_no_leaks();
}

Test(cow_gate, waiting_counts_towards_the_limit)
{
	cr_assert(cow_gate_enter(h.st));
	cr_assert_eq(cow_gate_hold(h.st, LONG, 30), -ETIMEDOUT);
	cr_assert_eq(opened(), 1);
	cow_gate_leave(h.st);
	assert_no_leaks();
}

Test(cow_gate, a_hold_ends_by_itself_and_its_release_is_told_so)
{
	uint64_t start = clock_mono_ns();

	cr_assert_eq(cow_gate_hold(h.st, LONG, 30), 0);
	wait_opened(0);
	cr_assert_geq(clock_mono_ns() - start, 30 * CLOCK_NS_PER_MS);
	cr_assert(!cow_gate_closing(h.st));
	cr_assert(cow_gate_enter(h.st));
	cow_gate_leave(h.st);
	cr_assert_eq(cow_gate_release(h.st), -ETIMEDOUT);
	cr_assert_eq(cow_gate_release(h.st), -EINVAL, "told once");
	cr_assert_eq(opened(), 1, "opened once");
	assert_no_leaks();
}

Test(cow_gate, a_new_hold_is_not_told_of_the_end_of_the_one_before)
{
	cr_assert_eq(cow_gate_hold(h.st, LONG, 10), 0);
	wait_opened(0);
	cr_assert_eq(cow_gate_hold(h.st, LONG, LONG), 0);
	cr_assert_eq(cow_gate_release(h.st), 0);
	cr_assert_eq(cow_gate_release(h.st), -EINVAL);
	assert_no_leaks();
}

Test(cow_gate, an_old_limit_does_not_end_a_new_hold)
{
	uint64_t end;

	/* Long enough for the release to come within it, whatever else the machine does. */
	cr_assert_eq(cow_gate_hold(h.st, LONG, 1000), 0);
	end = h.st->gate.deadline_ns;
	cr_assert_eq(cow_gate_release(h.st), 0);
	cr_assert_eq(cow_gate_hold(h.st, LONG, LONG), 0);
	while (!clock_expired(end + 10 * CLOCK_NS_PER_MS))
		sched_yield();
	cr_assert_eq(cow_gate_release(h.st), 0);
	assert_no_leaks();
}

Test(cow_gate, no_limit_is_beyond_ten_seconds)
{
	uint64_t before = clock_mono_ns(), after;

	cr_assert_eq(cow_gate_hold(h.st, LONG, UINT32_MAX), 0);
	after = clock_mono_ns();
	cr_assert_geq(h.st->gate.deadline_ns, before + 10 * CLOCK_NS_PER_SEC);
	cr_assert_leq(h.st->gate.deadline_ns, after + 10 * CLOCK_NS_PER_SEC);
	cr_assert_eq(cow_gate_release(h.st), 0);
	assert_no_leaks();
}

Test(cow_gate, a_second_hold_is_refused_and_harms_not_the_first)
{
	cr_assert_eq(cow_gate_hold(h.st, LONG, LONG), 0);
	cr_assert_eq(cow_gate_hold(h.st, LONG, 1), -EBUSY);
	cr_assert(!cow_gate_enter(h.st));
	cr_assert_eq(cow_gate_release(h.st), 0);
	cr_assert_eq(opened(), 1);
	assert_no_leaks();
}

Test(cow_gate, a_hold_is_refused_while_another_waits)
{
	struct holder o = { .wait_ms = LONG, .limit_ms = LONG };

	cr_assert(cow_gate_enter(h.st));
	holder_start(&o);
	wait_closing();
	cr_assert_eq(cow_gate_hold(h.st, LONG, LONG), -EBUSY);
	cr_assert_eq(cow_gate_release(h.st), -EINVAL, "not held yet");
	cow_gate_leave(h.st);
	cr_assert_eq(holder_join(&o), 0);
	cr_assert_eq(cow_gate_release(h.st), 0);
	assert_no_leaks();
}

Test(cow_gate, release_without_a_hold_is_refused)
{
	cr_assert_eq(cow_gate_release(h.st), -EINVAL);
	cr_assert_eq(opened(), 0);
	assert_no_leaks();
}

/* -- the store's own moment -- */

Test(cow_gate, a_moment_of_the_store_is_no_hold_and_a_hold_waits_for_it)
{
	atomic_bool left = false;
	struct holder o = { .wait_ms = LONG, .limit_ms = LONG, .left = &left };

	gate_exclusive(h.st);
	cr_assert(!cow_gate_enter(h.st));
	cr_assert(!gate_is_held(h.st));
	cr_assert_eq(cow_gate_release(h.st), -EINVAL);
	cr_assert_eq(cow_gate_hold(h.st, 20, LONG), -ETIMEDOUT);
	cr_assert(!cow_gate_enter(h.st), "the hold that gave up opened the gate of another");
	holder_start(&o);
	atomic_store(&left, true);
	gate_exclusive_end(h.st);
	cr_assert_eq(holder_join(&o), 0);
	cr_assert(!o.too_early);
	cr_assert(gate_is_held(h.st));
	cr_assert_eq(cow_gate_release(h.st), 0);
	cr_assert_eq(opened(), 2);
	assert_no_leaks();
}

static atomic_bool released;

static void *exclusive(void *arg)
{
	bool *too_early = arg;

	gate_exclusive(h.st);
	*too_early = !atomic_load(&released);
	gate_exclusive_end(h.st);
	return NULL;
}

Test(cow_gate, a_moment_of_the_store_waits_for_the_end_of_a_hold)
{
	bool too_early = false;
	pthread_t t;

	cr_assert_eq(cow_gate_hold(h.st, LONG, LONG), 0);
	pthread_create(&t, NULL, exclusive, &too_early);
	for (unsigned i = 0; i < 100; i++)
		sched_yield();
	atomic_store(&released, true);
	cr_assert_eq(cow_gate_release(h.st), 0);
	pthread_join(t, NULL);
	cr_assert(!too_early);
	cr_assert(cow_gate_enter(h.st));
	cow_gate_leave(h.st);
	assert_no_leaks();
}

/* A second's worth of an open gate; more than a minute's of one that is opened for an instant now and then, where a
 * waiting thread gets at most its slice of the processor. */
#define PASSES 10000000u

Test(cow_gate, a_moment_of_the_store_lets_others_through_while_a_change_takes_long)
{
	bool too_early = false;
	unsigned turned_away = 0;
	pthread_t t;

	cr_assert(cow_gate_enter(h.st)); /* the one that takes long */
	pthread_create(&t, NULL, exclusive, &too_early);
	wait_closing();
	for (unsigned n = 0; n < PASSES;) {
		unsigned seen = opened();

		if (cow_gate_enter(h.st)) {
			cow_gate_leave(h.st);
			n++;
		} else {
			turned_away++;
			wait_opened(seen);
		}
	}
	cr_expect_gt(turned_away, 0, "it was closed when we began");
	atomic_store(&released, true);
	cow_gate_leave(h.st);
	pthread_join(t, NULL);
	cr_assert(!too_early, "not alone inside");
	cr_assert(cow_gate_enter(h.st));
	cow_gate_leave(h.st);
	assert_no_leaks();
}

/* -- many -- */

#define WORKERS 8

/* A change is two steps; who holds must never see one without the other, nor any meanwhile. */
struct worker {
	pthread_t thread;
	atomic_uint first, second; /* relaxed: the gate orders them for who holds */
	atomic_uint turned_away;
};

static struct worker workers[WORKERS];
static atomic_bool stop;

static void *work(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&stop)) {
		unsigned seen = opened();

		if (!cow_gate_enter(h.st)) {
			atomic_fetch_add(&w->turned_away, 1);
			wait_opened(seen); /* hangs if an opening is not reported */
			continue;
		}
		atomic_fetch_add_explicit(&w->first, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&w->second, 1, memory_order_relaxed);
		cow_gate_leave(h.st);
	}
	return NULL;
}

static uint64_t sum_changes(void)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < WORKERS; i++) {
		unsigned a = atomic_load_explicit(&workers[i].first, memory_order_relaxed);

		cr_assert_eq(a, atomic_load_explicit(&workers[i].second, memory_order_relaxed),
			     "half a change is seen");
		sum += a;
	}
	return sum;
}

Test(cow_gate, whole_changes_only_are_seen_in_each_of_many_holds)
{
	uint64_t before = 0;

	for (unsigned i = 0; i < WORKERS; i++)
		cr_assert_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	for (unsigned i = 0; i < 200; i++) {
		uint64_t sum;

		cr_assert_eq(cow_gate_hold(h.st, LONG, LONG), 0);
		sum = sum_changes();
		sched_yield();
		cr_assert_eq(sum_changes(), sum, "something changed under the hold");
		cr_assert_geq(sum, before);
		before = sum;
		cr_assert_eq(cow_gate_release(h.st), 0);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(workers[i].thread, NULL);
	cr_assert_gt(sum_changes(), 0);
	cr_assert_eq(opened(), 200);
	assert_no_leaks();
}

static atomic_uint n_held, holding;

static void *hold_often(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 200; i++) {
		int r = cow_gate_hold(h.st, LONG, LONG);

		if (r < 0) {
			cr_assert_eq(r, -EBUSY, "%d", r);
			sched_yield();
			continue;
		}
		cr_assert_eq(atomic_fetch_add(&holding, 1), 0, "two holds at once");
		atomic_fetch_add(&n_held, 1);
		atomic_fetch_sub(&holding, 1);
		cr_assert_eq(cow_gate_release(h.st), 0);
	}
	return NULL;
}

Test(cow_gate, of_many_that_hold_at_once_one_at_a_time_succeeds)
{
	pthread_t t[4];

	for (unsigned i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, hold_often, NULL);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	cr_assert_gt(n_held, 0);
	cr_assert_eq(opened(), n_held);
	cr_assert(cow_gate_enter(h.st));
	cow_gate_leave(h.st);
	assert_no_leaks();
}
