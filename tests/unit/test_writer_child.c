#include <criterion/criterion.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "cow/base/clock.h"
#include "tests/support/leaks.h"
#include "tools/writer/child.h"

/* More than any pipe has in it here, and so more than one look at it may take. */
#define FAR_TOO_MUCH ((size_t)1 << 21)

static size_t taken; /* bytes of lines, with their ends */

static void count_line(struct child *c, bool is_error, const char *text)
{
	taken += strlen(text) + 1;
}

static void await_more(const struct child *c)
{
	int waiting = 0;

	while (ioctl(c->out.fd, FIONREAD, &waiting) == 0 && waiting < 8192)
		sched_yield();
}

/* Takes lines more slowly than they come, always: there is never an end of them to be seen. */
static void count_slowly(struct child *c, bool is_error, const char *text)
{
	count_line(c, is_error, text);
	cr_assert_lt(taken, FAR_TOO_MUCH, "it reads on and on, and never looks at its deadline");
	if (taken % 4096 == 0)
		await_more(c);
}

static void begin(void)
{
	struct writer_program p = { .kind = "test" };
	char *argv[] = { "test", NULL };

	/* The signals. */
	cr_assert_eq(writer_getopt(&p, 1, argv), -1);
	taken = 0;
}

static void start(struct child *c, char **argv, void (*line)(struct child *, bool, const char *))
{
	*c = (struct child){ .argv = argv, .line = line };
	cr_assert_eq(child_start(c), 0);
}

static void await_end(const struct child *c)
{
	siginfo_t info;

	cr_assert_eq(waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOWAIT), 0);
}

/* T-1: a freeze must have failed before its window is over. */
/* T-1 */
Test(writer_child, one_that_never_stops_printing_does_not_outlast_its_deadline)
{
	char *argv[] = { "yes", NULL };
	struct child c;

	begin();
	start(&c, argv, count_slowly);
	await_more(&c);
	cr_expect_eq(child_step(&c, clock_mono_ns(), false), -ETIMEDOUT);
	child_done(&c);
	cr_expect_eq(c.status, 128 + SIGKILL);
	assert_no_leaks();
}

/* T-1 */
Test(writer_child, one_that_never_stops_printing_is_killed_with_all_it_started)
{
	char *argv[] = { "sh", "-c", "yes & yes & exec yes", NULL };
	struct child c = { .argv = argv, .line = count_line };

	begin();
	/* Long enough for a shell to start something, whatever else the machine does. */
	cr_expect_eq(child_run(&c, 2000, false), -ETIMEDOUT);
	cr_expect_gt(taken, 0);
	assert_no_leaks();
}

Test(writer_child, end_is_seen_while_others_go_on_printing)
{
	char *argv[] = { "sh", "-c", "yes & exit 3", NULL };
	struct child c;

	begin();
	start(&c, argv, count_slowly);
	await_more(&c);
	await_end(&c);
	cr_expect_eq(child_step(&c, CLOCK_NEVER, false), 1);
	cr_expect_eq(c.status, 3);
	child_done(&c);
	assert_no_leaks();
}

Test(writer_child, all_that_was_printed_before_the_end_is_taken)
{
	/* As much as the pipe has room for, so that it ends before anything was read. */
	char *argv[] = { "sh", "-c", "yes | head -c 65536; echo why >&2", NULL };
	struct child c;

	begin();
	start(&c, argv, count_line);
	await_end(&c);
	cr_expect_eq(child_step(&c, CLOCK_NEVER, false), 1);
	cr_expect_eq(taken, 65536 + 4);
	cr_expect_str_eq(c.last, "why");
	child_done(&c);
	assert_no_leaks();
}
