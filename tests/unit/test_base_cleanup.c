#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>

#include "cow/base/cleanup.h"
#include "tests/support/leaks.h"

static int is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

Test(base_cleanup, a_descriptor_ends_with_its_scope_and_errno_stays)
{
	int number;

	{
		CLEANUP(close_p) int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		CLEANUP(close_p) int none = -1;

		cr_assert(fd >= 0);
		cr_assert(none < 0);
		number = fd;
		errno = EXDEV;
	}
	cr_assert_eq(errno, EXDEV);
	cr_assert(!is_open(number));
}

Test(base_cleanup, what_is_taken_outlives_the_scope)
{
	char *kept;
	int fd_kept;

	{
		CLEANUP(free_p) char *text = strdup("kept");
		CLEANUP(close_p) int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

		kept = TAKE(text);
		fd_kept = TAKE_FD(fd);
		cr_assert_null(text);
		cr_assert_eq(fd, -1);
	}
	cr_assert_str_eq(kept, "kept");
	cr_assert(is_open(fd_kept));
	close(fd_kept);
	free(kept);
	kept = NULL;
	assert_no_leaks();
}

Test(base_cleanup, memory_streams_and_directories_are_released_or_may_be_empty)
{
	{
		CLEANUP(free_p) char *a = malloc(10);
		CLEANUP(free_p) char *b = NULL;
		CLEANUP(fclose_p) FILE *f = fopen("/dev/null", "re");
		CLEANUP(fclose_p) FILE *no_f = NULL;
		CLEANUP(closedir_p) DIR *d = opendir("/");
		CLEANUP(closedir_p) DIR *no_d = NULL;

		cr_assert(a && !b && f && !no_f && d && !no_d);
	}
	assert_no_leaks();
}

static int calls;

static void count_int(int *p)
{
	calls += *p;
	errno = EIO;
}

DEFINE_CLEANUP(count_int_p, int *, count_int)

Test(base_cleanup, a_defined_destructor_skips_null_and_keeps_errno)
{
	int one = 1;

	errno = EXDEV;
	{
		CLEANUP(count_int_p) int *a = &one;
		CLEANUP(count_int_p) int *b = NULL;

		(void)a;
		(void)b;
	}
	cr_assert_eq(calls, 1);
	cr_assert_eq(errno, EXDEV);
}

#if LEAKS_CHECKED
/* assert_no_leaks() itself must be able to fail. */
Test(base_cleanup, a_leak_is_seen)
{
	char *volatile p = malloc(33);

	cr_assert(p);
	p = NULL;
	/* The pointer may linger in a register or a dead stack slot: leak a few. */
	for (int i = 0; i < 100; i++)
		p = malloc(33);
	p = NULL;
	cr_assert(__lsan_do_recoverable_leak_check() != 0);
}
#endif
