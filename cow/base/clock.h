/* cow/base/clock.h - the time, and how much of it is left.
 * Job:     two clocks in nanoseconds, deadlines, conversions.
 * Errors:  none: these clocks always exist (clock_gettime(2)).
 * Threads: any; no state.
 * Rules:   limits and durations use clock_mono_ns(); what people or files see uses clock_real_ns(). */

#ifndef UMBRA_COW_BASE_CLOCK_H
#define UMBRA_COW_BASE_CLOCK_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define CLOCK_NS_PER_SEC UINT64_C(1000000000)
#define CLOCK_NS_PER_MS UINT64_C(1000000)

/** A deadline that never comes. */
#define CLOCK_NEVER UINT64_MAX

static inline uint64_t clock_from_timespec(const struct timespec *ts)
{
	return (uint64_t)ts->tv_sec * CLOCK_NS_PER_SEC + (uint64_t)ts->tv_nsec;
}

static inline struct timespec clock_to_timespec(uint64_t ns)
{
	return (struct timespec){
		.tv_sec = (time_t)(ns / CLOCK_NS_PER_SEC),
		.tv_nsec = (long)(ns % CLOCK_NS_PER_SEC),
	};
}

/** Nanoseconds since some fixed moment; never goes back, stands still in suspend. */
static inline uint64_t clock_mono_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return clock_from_timespec(&ts);
}

/** Nanoseconds since 1970, UTC; may jump. */
static inline uint64_t clock_real_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return clock_from_timespec(&ts);
}

/** The moment of clock_mono_ns() that is so many milliseconds from now; CLOCK_NEVER if too far. */
static inline uint64_t clock_deadline_ms(uint64_t timeout_ms)
{
	uint64_t ns;

	if (__builtin_mul_overflow(timeout_ms, CLOCK_NS_PER_MS, &ns) ||
	    __builtin_add_overflow(ns, clock_mono_ns(), &ns))
		return CLOCK_NEVER;
	return ns;
}

static inline bool clock_expired(uint64_t deadline_ns)
{
	return deadline_ns != CLOCK_NEVER && clock_mono_ns() >= deadline_ns;
}

/** Nanoseconds until then; 0 when it has passed; CLOCK_NEVER for CLOCK_NEVER. */
static inline uint64_t clock_left_ns(uint64_t deadline_ns)
{
	uint64_t now;

	if (deadline_ns == CLOCK_NEVER)
		return CLOCK_NEVER;
	now = clock_mono_ns();
	return now >= deadline_ns ? 0 : deadline_ns - now;
}

/** The same for poll(2): milliseconds rounded up, at most INT_MAX, -1 for CLOCK_NEVER. */
static inline int clock_left_ms(uint64_t deadline_ns)
{
	uint64_t ms;

	if (deadline_ns == CLOCK_NEVER)
		return -1;
	ms = (clock_left_ns(deadline_ns) + CLOCK_NS_PER_MS - 1) / CLOCK_NS_PER_MS;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

#endif
