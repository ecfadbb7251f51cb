/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a change must save first, and what not: counted in the records and bytes that a change leaves in the log (I-3, I-7). */
#include "cow/store_private.h"
#include "tests/support/deeds.h"
#include "tests/support/fault.h"
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

TestSuite(cow_preserve, .init = setup, .fini = teardown, .timeout = 60);

#define C ((size_t)COW_CLUSTER_SIZE)

static uint64_t log_end(void)
{
	struct epoch *e = atomic_load(&h.st->newest);

	return e ? e->log_end : 0;
}

/* Payload bytes under the newest label. */
static uint64_t stored(void)
{
	return atomic_load(&((struct epoch *)atomic_load(&h.st->newest))->stored);
}

Test(cow_preserve, without_a_snapshot_nothing_is_recorded)
{
	deed_create(&h, "f", "text");
	deed_write(&h, "f", 0, "TEXT");
	deed_chmod(&h, "f", 0600);
	deed_unlink(&h, "f");
	cr_expect_eq(log_end(), 0);
	cr_expect_eq(harness_store_entries(&h, "log"), 0);
	cr_expect_eq(harness_store_entries(&h, "grave"), 0);
	assert_no_leaks();
}

/* I-7 */
Test(cow_preserve, the_second_change_of_a_cluster_saves_nothing)
{
	uint64_t s, after_first, bytes;

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 8 * C, 'a');
	s = deed_snapshot(&h);
	deed_fill(&h, "f", (off_t)C, 10, 'b');
	after_first = log_end();
	bytes = stored();
	cr_expect_eq(bytes, C, "one cluster, not the whole file");
	deed_fill(&h, "f", (off_t)C + 100, 10, 'c');
	deed_fill(&h, "f", (off_t)C, C, 'd');
	cr_expect_eq(log_end(), after_first);
	cr_expect_eq(stored(), bytes);
	deed_fill(&h, "f", 2 * (off_t)C - 1, 2, 'e'); /* over the edge: one more */
	cr_expect_eq(stored(), 2 * C);
	look_filled(&h, s, "f", 0, 8 * C, 'a');
	assert_no_leaks();
}

/* I-7 */
Test(cow_preserve, the_old_value_is_saved_once_however_many_snapshots_live)
{
	uint64_t first, last;

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, C, 'a');
	first = deed_snapshot(&h);
	for (unsigned i = 0; i < 10; i++)
		(void)deed_snapshot(&h);
	last = deed_snapshot(&h);
	deed_fill(&h, "f", 0, C, 'b');
	cr_expect_eq(stored(), C);
	look_filled(&h, first, "f", 0, C, 'a');
	look_filled(&h, last, "f", 0, C, 'a');
	assert_no_leaks();
}

Test(cow_preserve, appending_and_what_is_born_later_cost_nothing)
{
	uint64_t s;

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, C, 'a');
	s = deed_snapshot(&h);
	deed_fill(&h, "f", (off_t)C, 4 * C, 'b');
	deed_create(&h, "new", "text");
	deed_write(&h, "new", 0, "TEXT");
	cr_expect_eq(stored(), 0);
	look_filled(&h, s, "f", 0, C, 'a');
	cr_expect_eq(look_up(&h, s, "new"), -ENOENT);
	assert_no_leaks();
}

Test(cow_preserve, a_truncation_saves_what_it_cuts_off)
{
	uint64_t s;

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 4 * C, 'a');
	s = deed_snapshot(&h);
	deed_truncate(&h, "f", (off_t)C + 10);
	cr_expect_eq(stored(), 3 * C, "the cluster that is cut counts whole");
	look_filled(&h, s, "f", 0, 4 * C, 'a');
	assert_no_leaks();
}

Test(cow_preserve, holes_are_saved_without_data)
{
	struct statx sx;
	uint64_t s;

	deed_create(&h, "f", "");
	deed_truncate(&h, "f", (off_t)1 << 30);
	s = deed_snapshot(&h);
	deed_truncate(&h, "f", 0);
	cr_expect_eq(stored(), 0);
	cr_assert_eq(look_stat(&h, s, "f", &sx), 0);
	cr_expect_eq(sx.stx_size, 1u << 30);
	look_filled(&h, s, "f", (off_t)1 << 29, C, 0);
	assert_no_leaks();
}

Test(cow_preserve, removing_a_file_moves_it_and_copies_nothing)
{
	uint64_t s;

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 100 * C, 'a');
	s = deed_snapshot(&h);
	deed_unlink(&h, "f");
	cr_expect_eq(stored(), 0);
	cr_expect_eq(harness_store_entries(&h, "grave"), 1);
	look_filled(&h, s, "f", 0, 100 * C, 'a');
	assert_no_leaks();
}

/* I-3: the change happens after the saving. I-5: when saving fails it happens all the same, and the snapshots that would be
 * wrong are gone (F-14). */
Test(cow_preserve, what_cannot_be_saved_costs_the_snapshots_and_not_the_change)
{
	char now[4] = "";
	enum cow_drop_cause cause;
	uint64_t s;
	int fd;

	deed_create(&h, "f", "old");
	s = deed_snapshot(&h);
	fault_fail_from(FAULT_OP(COW_OP_WRITE), 1, -EIO);
	deed_chmod(&h, "f", 0600);
	fault_reset();
	cr_expect(harness_dropped(&h, s, &cause) && cause == COW_DROP_FAULT);
	cr_expect_eq(look_up(&h, s, "f"), -ENOENT);
	deed_write(&h, "f", 0, "new");
	fd = openat(h.fd, "f", O_RDONLY);
	cr_assert(fd >= 0 && read(fd, now, 3) == 3);
	close(fd);
	cr_expect_str_eq(now, "new");
	assert_no_leaks();
}
