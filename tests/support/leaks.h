/* tests/support/leaks.h - leaks fail the test that made them.
 * Job:     run the leak check inside a Criterion worker. Criterion 2.4.1 ends its workers without
 *          exit handlers, so LeakSanitizer's report at exit never comes there.
 * Use:     assert_no_leaks(); as the last line of a test body, after everything was released and
 *          every pointer to it went out of scope or was set to NULL.
 * Threads: the test's own thread, when the others have been joined.
 * Without AddressSanitizer this is a no-op. */

#ifndef UMBRA_TESTS_SUPPORT_LEAKS_H
#define UMBRA_TESTS_SUPPORT_LEAKS_H

#include <criterion/criterion.h>

#if defined(__SANITIZE_ADDRESS__)
#define LEAKS_CHECKED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LEAKS_CHECKED 1
#endif
#endif

#ifdef LEAKS_CHECKED
#include <sanitizer/lsan_interface.h>
#define assert_no_leaks()                                                                          \
	cr_assert(__lsan_do_recoverable_leak_check() == 0, "leaked memory, see the report above")
#else
#define LEAKS_CHECKED 0
#define assert_no_leaks() ((void)0)
#endif

#endif
