#include <criterion/criterion.h>

#include "coordinator/timer.h"
#include "cow/base/clock.h"

static uint64_t now_ns;

static uint64_t test_now(void *clock)
{
	(void)clock;
	return now_ns;
}

static char order[16];

struct letter {
	struct coord_timer timer;
	struct coord_timers *q;
	struct coord_timer *other; /* disarmed when this fires */
	char c;
	bool again;
};

static void fire(void *data)
{
	struct letter *l = data;

	order[strlen(order)] = l->c;
	if (l->other)
		coord_timer_disarm(l->q, l->other);
	if (l->again)
		coord_timer_arm(l->q, &l->timer, 0, fire, l);
}

static void arm(struct coord_timers *q, struct letter *l, char c, uint64_t ms)
{
	l->q = q;
	l->c = c;
	coord_timer_arm(q, &l->timer, ms, fire, l);
}

Test(coord_timer, fires_in_the_order_of_deadlines_and_of_arming)
{
	struct coord_timers q;
	struct letter a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };

	now_ns = 1000;
	coord_timers_init(&q, test_now, NULL);
	cr_expect_eq(coord_timers_next(&q), CLOCK_NEVER);
	arm(&q, &a, 'a', 30);
	arm(&q, &b, 'b', 10);
	arm(&q, &c, 'c', 20);
	arm(&q, &d, 'd', 20);
	cr_expect_eq(coord_timers_next(&q), 10 * CLOCK_NS_PER_MS);
	coord_timers_run(&q);
	cr_expect_str_eq(order, "");
	now_ns += 20 * CLOCK_NS_PER_MS;
	cr_expect_eq(coord_timers_next(&q), 0);
	coord_timers_run(&q);
	cr_expect_str_eq(order, "bcd");
	now_ns += 20 * CLOCK_NS_PER_MS;
	coord_timers_run(&q);
	cr_expect_str_eq(order, "bcda");
	cr_expect(!a.timer.armed);
}

Test(coord_timer, disarmed_never_fires_though_its_time_had_come)
{
	struct coord_timers q;
	struct letter a = { 0 }, b = { 0 };

	coord_timers_init(&q, test_now, NULL);
	arm(&q, &a, 'a', 10);
	arm(&q, &b, 'b', 10);
	a.other = &b.timer; /* T-11 */
	now_ns += 50 * CLOCK_NS_PER_MS;
	coord_timers_run(&q);
	cr_expect_str_eq(order, "a");
	coord_timer_disarm(&q, &b.timer); /* again: nothing */
}

Test(coord_timer, rearming_moves_it_and_from_within_comes_next_time)
{
	struct coord_timers q;
	struct letter a = { .again = true };

	coord_timers_init(&q, test_now, NULL);
	arm(&q, &a, 'a', 10);
	arm(&q, &a, 'a', 100);
	now_ns += 50 * CLOCK_NS_PER_MS;
	coord_timers_run(&q);
	cr_expect_str_eq(order, "");
	now_ns += 50 * CLOCK_NS_PER_MS;
	coord_timers_run(&q);
	cr_expect_str_eq(order, "a", "did not come back");
	cr_expect(a.timer.armed);
}
