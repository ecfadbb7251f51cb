/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/timer.h - time limits.
 * Job:     which limit ends next, and what is called then. The clock is handed in, so tests own
 *          it and never wait.
 * Errors:  none: arming needs no memory.
 * Threads: the coordinator's one.
 * Rules:   T-13 the clock is not changed by setting the time. T-11 a timer that was disarmed
 *          never fires, also when its time had come already. */
#ifndef UMBRA_COORDINATOR_TIMER_H
#define UMBRA_COORDINATOR_TIMER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/* Part of its owner's struct; zeroed it is disarmed. The owner disarms it before going away. */
struct coord_timer {
	TAILQ_ENTRY(coord_timer) link;
	uint64_t deadline_ns;
	void (*fire)(void *data);
	void *data;
	bool armed;
};

struct coord_timers {
	TAILQ_HEAD(coord_timer_list, coord_timer)
	queue; /* by deadline; equal ones in the order of arming */
	uint64_t (*now_ns)(void *clock);
	void *clock;
};

/* now_ns NULL: clock_mono_ns(). */
void coord_timers_init(struct coord_timers *q, uint64_t (*now_ns)(void *clock), void *clock);
uint64_t coord_timers_now(const struct coord_timers *q);

/* (Re)start: fire(data) is called once, after_ms from now, from coord_timers_run; the timer is
 * disarmed by then. */
void coord_timer_arm(struct coord_timers *q, struct coord_timer *t, uint64_t after_ms,
		     void (*fire)(void *data), void *data);
void coord_timer_disarm(struct coord_timers *q, struct coord_timer *t);

/* Nanoseconds until the next one is due: 0 due now, CLOCK_NEVER none armed. */
uint64_t coord_timers_next(const struct coord_timers *q);

/* Fire all that are due, earliest first. They may arm and disarm others. */
void coord_timers_run(struct coord_timers *q);

#endif
