/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow/note.h"
#include "tests/support/fault.h"
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
	fault_reset();
	harness_done(&h);
}

TestSuite(cow_note, .init = setup, .fini = teardown, .timeout = 60);

static void put(const char *text)
{
	cr_assert_eq(cow_note_write(h.st, "x", text, strlen(text)), 0);
}

static void is(const char *want)
{
	char *text = NULL;
	size_t len = 0;

	cr_assert_eq(cow_note_read(h.st, "x", &text, &len), 0);
	cr_assert_str_eq(text, want);
	cr_assert_eq(len, strlen(want));
	free(text);
}

static void is_none(void)
{
	char *text = (char *)&h;
	size_t len = 7;

	cr_assert_eq(cow_note_read(h.st, "x", &text, &len), -ENOENT);
	cr_assert(text == (char *)&h && len == 7, "written on failure");
}

static void reopen(void)
{
	cr_assert_eq(harness_close(&h, false), 0);
	cr_assert_eq(harness_open(&h), 0, "%s", h.why);
}

Test(cow_note, is_there_until_it_is_replaced_or_taken_away)
{
	is_none();
	put("one");
	is("one");
	put("the second, longer one");
	is("the second, longer one");
	put("3");
	is("3");
	reopen();
	is("3");
	put("");
	is_none();
	put("");
	is_none();
	reopen();
	is_none();
	assert_no_leaks();
}

Test(cow_note, goes_with_an_empty_store)
{
	struct stat st;

	put("one");
	cr_assert_eq(harness_close(&h, true), 0);
	cr_assert_eq(fstatat(h.fd, COW_STORE_NAME, &st, 0), -1);
	cr_assert_eq(errno, ENOENT);
	assert_no_leaks();
}

Test(cow_note, too_long_a_one_is_refused_and_never_read)
{
	char *big = calloc(1, COW_NOTE_MAX + 1), *text = NULL;
	size_t len = 0;
	int fd;

	cr_assert(big);
	put("one");
	cr_assert_eq(cow_note_write(h.st, "x", big, COW_NOTE_MAX + 1), -E2BIG);
	is("one");
	free(big);
	fd = openat(h.fd, COW_STORE_NAME "/x.note", O_WRONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(ftruncate(fd, COW_NOTE_MAX + 1), 0);
	close(fd);
	cr_assert_eq(cow_note_read(h.st, "x", &text, &len), -EUCLEAN);
	cr_assert_null(text);
	assert_no_leaks();
}

/* The old text or the new one, whichever operation fails. */
Test(cow_note, a_failed_writing_leaves_the_old_text_or_has_the_new_one_on_disk)
{
	bool over = false;

	for (unsigned n = 1; !over; n++) {
		char *text = NULL;
		size_t len;
		int r;

		put("old");
		fault_fail_nth(FAULT_CHANGES, n, -ENOSPC);
		r = cow_note_write(h.st, "x", "new", 3);
		over = fault_count() < n;
		fault_reset();
		cr_assert_eq(cow_note_read(h.st, "x", &text, &len), 0);
		cr_assert(strcmp(text, "old") == 0 || strcmp(text, "new") == 0, "%s", text);
		cr_assert(r < 0 || strcmp(text, "new") == 0, "success, but not there (%u)", n);
		cr_assert(over ? r == 0 : r == -ENOSPC, "%d at %u", r, n);
		free(text);
	}
	assert_no_leaks();
}

Test(cow_note, killed_at_any_point_it_is_the_old_text_or_the_new_one)
{
	bool over = false;

	for (unsigned n = 1; !over; n++) {
		char *text = NULL;
		size_t len;
		int status;
		pid_t pid;

		put("old");
		pid = fork();
		cr_assert_geq(pid, 0);
		if (pid == 0) {
			fault_crash_nth(n);
			_exit(cow_note_write(h.st, "x", "new", 3) < 0);
		}
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_assert(WIFEXITED(status));
		over = WEXITSTATUS(status) != FAULT_CRASHED;
		cr_assert(!over || WEXITSTATUS(status) == 0);
		cr_assert_eq(cow_note_read(h.st, "x", &text, &len), 0);
		cr_assert(strcmp(text, "old") == 0 || strcmp(text, "new") == 0, "%s at %u", text,
			  n);
		cr_assert(!over || strcmp(text, "new") == 0);
		free(text);
		put("another");
		is("another"); /* what the crash left is in nobody's way */
	}
}
