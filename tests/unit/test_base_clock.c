#include <criterion/criterion.h>

#include "cow/base/clock.h"

Test(base_clock, the_monotonic_clock_rises_and_the_real_one_is_in_this_century)
{
	uint64_t a = clock_mono_ns();
	uint64_t b = clock_mono_ns();

	cr_assert(b >= a);
	cr_assert(clock_real_ns() > UINT64_C(1577836800) * CLOCK_NS_PER_SEC); /* 2020 */
}

Test(base_clock, a_deadline_expires_when_its_time_is_over)
{
	uint64_t past = clock_mono_ns();
	uint64_t future = clock_deadline_ms(60000);

	cr_assert(clock_expired(past));
	cr_assert_eq(clock_left_ns(past), 0);
	cr_assert_eq(clock_left_ms(past), 0);
	cr_assert(!clock_expired(future));
	cr_assert(clock_left_ms(future) > 50000);
	cr_assert(clock_left_ms(future) <= 60000);
}

Test(base_clock, a_little_time_left_is_not_none_for_poll)
{
	cr_assert(clock_left_ms(clock_mono_ns() + 500 * CLOCK_NS_PER_MS + 1) > 0);
	cr_assert_eq(clock_left_ms(clock_mono_ns() + UINT64_MAX / 2), INT_MAX);
}

Test(base_clock, never_never_comes_and_large_limits_do_not_wrap)
{
	cr_assert_eq(clock_deadline_ms(UINT64_MAX), CLOCK_NEVER);
	cr_assert_eq(clock_deadline_ms(UINT64_MAX / CLOCK_NS_PER_MS), CLOCK_NEVER);
	cr_assert(!clock_expired(CLOCK_NEVER));
	cr_assert_eq(clock_left_ns(CLOCK_NEVER), CLOCK_NEVER);
	cr_assert_eq(clock_left_ms(CLOCK_NEVER), -1);
}

Test(base_clock, timespecs_convert_both_ways)
{
	uint64_t ns = UINT64_C(1700000000123456789);
	struct timespec ts = clock_to_timespec(ns);

	cr_assert_eq(ts.tv_sec, 1700000000);
	cr_assert_eq(ts.tv_nsec, 123456789);
	cr_assert_eq(clock_from_timespec(&ts), ns);
}
