/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/timer.h"

#include "cow/base/clock.h"

#include <stddef.h>

static uint64_t system_now(void *clock)
{
	(void)clock;
	return clock_mono_ns();
}

void coord_timers_init(struct coord_timers *q, uint64_t (*now_ns)(void *clock), void *clock)
{
	TAILQ_INIT(&q->queue);
	q->now_ns = now_ns ? now_ns : system_now;
	q->clock = clock;
}

uint64_t coord_timers_now(const struct coord_timers *q)
{
	return q->now_ns(q->clock);
}

void coord_timer_disarm(struct coord_timers *q, struct coord_timer *t)
{
	if (!t->armed)
		return;
	TAILQ_REMOVE(&q->queue, t, link);
	t->armed = false;
}

/* There are tens of timers at most (one creation at a time, S-9), so the queue is a plain sorted
 * list. */
void coord_timer_arm(struct coord_timers *q, struct coord_timer *t, uint64_t after_ms,
		     void (*fire)(void *data), void *data)
{
	struct coord_timer *other;

	coord_timer_disarm(q, t);
	t->deadline_ns = coord_timers_now(q) + (after_ms ? after_ms * CLOCK_NS_PER_MS : 1);
	t->fire = fire;
	t->data = data;
	t->armed = true;
	TAILQ_FOREACH_REVERSE(other, &q->queue, coord_timer_list, link)
		if (other->deadline_ns <= t->deadline_ns)
			break;
	if (other)
		TAILQ_INSERT_AFTER(&q->queue, other, t, link);
	else
		TAILQ_INSERT_HEAD(&q->queue, t, link);
}

uint64_t coord_timers_next(const struct coord_timers *q)
{
	const struct coord_timer *first = TAILQ_FIRST(&q->queue);
	uint64_t now;

	if (!first)
		return CLOCK_NEVER;
	now = coord_timers_now(q);
	return first->deadline_ns <= now ? 0 : first->deadline_ns - now;
}

void coord_timers_run(struct coord_timers *q)
{
	uint64_t now = coord_timers_now(q);
	struct coord_timer *t;

	/* `now` stands still and deadlines lie after it, so a timer that arms itself again cannot
	 * keep us here. */
	while ((t = TAILQ_FIRST(&q->queue)) && t->deadline_ns <= now) {
		coord_timer_disarm(q, t);
		t->fire(t->data);
	}
}
