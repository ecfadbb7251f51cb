/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Parked requests: taken up in order once woken, put back while the gate is closed, dropped with their caller (H-5). */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "fs/park.h"

#define PATIENCE_US 10000
#define PATIENCE 6000 /* a minute: it ends what hangs */

struct req {
	struct fs_parked parked;
	int id;
	atomic_int ran, dropped, killed;
};

static atomic_int gate_open, order[64], order_n, tries;

static bool run(struct fs_parked *p)
{
	struct req *r = (struct req *)p;

	atomic_fetch_add(&tries, 1);
	if (!atomic_load(&gate_open))
		return false;
	atomic_store(&order[atomic_fetch_add(&order_n, 1)], r->id);
	atomic_store(&r->ran, 1);
	return true;
}

static bool killed(const struct fs_parked *p)
{
	return atomic_load(&((const struct req *)p)->killed);
}

static void drop(struct fs_parked *p)
{
	atomic_store(&((struct req *)p)->dropped, 1);
}

static const struct fs_park_ops ops = { .run = run, .killed = killed, .drop = drop };

/* Wait for something that another thread does. */
static bool comes(atomic_int *v)
{
	for (int i = 0; i < PATIENCE && !atomic_load(v); i++)
		usleep(PATIENCE_US);
	return atomic_load(v);
}

Test(fs_park, nothing_runs_before_it_is_woken)
{
	struct fs_park *park = fs_park_new(2, &ops);
	struct req r = { .id = 1 };

	atomic_store(&gate_open, 1);
	fs_park_add(park, &r.parked);
	usleep(5 * PATIENCE_US);
	cr_assert_not(atomic_load(&r.ran));
	fs_park_wake(park);
	cr_assert(comes(&r.ran));
	fs_park_free(park);
	cr_assert_not(atomic_load(&r.dropped));
}

Test(fs_park, one_worker_keeps_the_order)
{
	struct fs_park *park = fs_park_new(1, &ops);
	struct req r[20] = { 0 };

	atomic_store(&gate_open, 1);
	for (int i = 0; i < 20; i++) {
		r[i].id = i;
		fs_park_add(park, &r[i].parked);
	}
	fs_park_wake(park);
	cr_assert(comes(&r[19].ran));
	for (int i = 0; i < 20; i++)
		cr_assert_eq(atomic_load(&order[i]), i);
	fs_park_free(park);
}

Test(fs_park, what_finds_the_gate_closed_again_waits_for_the_next_wake)
{
	struct fs_park *park = fs_park_new(1, &ops);
	struct req a = { .id = 1 }, b = { .id = 2 };

	fs_park_add(park, &a.parked);
	fs_park_add(park, &b.parked);
	fs_park_wake(park);
	cr_assert(comes(&tries));
	usleep(5 * PATIENCE_US);
	cr_assert_eq(atomic_load(&tries), 1, "it must not spin");
	atomic_store(&gate_open, 1);
	fs_park_wake(park);
	cr_assert(comes(&b.ran));
	cr_assert_eq(atomic_load(&order[0]), 1);
	fs_park_free(park);
}

Test(fs_park, a_killed_callers_request_is_dropped_and_never_run)
{
	struct fs_park *park = fs_park_new(2, &ops);
	struct req r = { .id = 1 }, other = { .id = 2 };

	atomic_store(&gate_open, 1);
	fs_park_add(park, &r.parked);
	fs_park_add(park, &other.parked);
	atomic_store(&r.killed, 1);
	fs_park_interrupt(park, &r.parked);
	cr_assert(comes(&r.dropped));
	fs_park_wake(park);
	cr_assert(comes(&other.ran));
	cr_assert_not(atomic_load(&r.ran));
	fs_park_free(park);
}

Test(fs_park, a_signal_that_does_not_kill_changes_nothing_but_a_later_one_is_noticed)
{
	struct fs_park *park = fs_park_new(1, &ops);
	struct req r = { .id = 1 };

	fs_park_add(park, &r.parked);
	fs_park_interrupt(park, &r.parked);
	usleep(10 * PATIENCE_US);
	cr_assert_not(atomic_load(&r.dropped));
	atomic_store(&r.killed, 1);
	cr_assert(comes(&r.dropped));
	fs_park_free(park);
}

Test(fs_park, an_interrupt_before_it_is_queued_counts)
{
	struct fs_park *park = fs_park_new(1, &ops);
	struct req r = { .id = 1 };

	atomic_store(&r.killed, 1);
	fs_park_interrupt(park, &r.parked);
	cr_assert_not(atomic_load(&r.dropped));
	fs_park_add(park, &r.parked);
	cr_assert(comes(&r.dropped));
	fs_park_free(park);
}

Test(fs_park, stopping_drops_what_waits_and_what_comes_later)
{
	struct fs_park *park = fs_park_new(2, &ops);
	struct req a = { .id = 1 }, b = { .id = 2 };

	fs_park_add(park, &a.parked);
	fs_park_stop(park);
	cr_assert(atomic_load(&a.dropped));
	fs_park_add(park, &b.parked);
	cr_assert(atomic_load(&b.dropped));
	fs_park_wake(park);
	fs_park_free(park);
}
