/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The log of an epoch as it is read after a crash: whole records in their order, and an end at the first that is not whole. */
#include "cow/store_private.h"
#include "tests/support/deeds.h"
#include "tests/support/fault.h"
#include "tests/support/leaks.h"

static struct harness h;
static struct epoch *e;

/* Some records in the log of one epoch. */
static void setup(void)
{
	cr_assert_eq(harness_init(&h, NULL), 0);
	cr_assert_eq(harness_open(&h), 0, "%s", h.why);
	for (unsigned i = 0; i < 8; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%u", i);
		deed_create(&h, name, "text");
	}
	(void)deed_snapshot(&h);
	e = atomic_load(&h.st->newest);
	for (unsigned i = 0; i < 8; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%u", i);
		deed_chmod(&h, name, 0600);
	}
}

static void teardown(void)
{
	fault_reset();
	harness_done(&h);
}

TestSuite(cow_epochfile, .init = setup, .fini = teardown, .timeout = 60);

struct seen {
	unsigned n;
	uint64_t last_at;
	bool ordered;
};

static int count(void *ud, const struct cow_rec *r, uint64_t at)
{
	struct seen *s = ud;

	s->ordered &= s->n == 0 || at > s->last_at;
	s->last_at = at;
	s->n += r->epoch == e->id;
	return 0;
}

static unsigned records(uint64_t *ret_end)
{
	struct seen s = { .ordered = true };

	cr_assert_eq(epochfile_each(h.st, e->log_fd, 0, count, &s, ret_end), 0);
	cr_expect(s.ordered);
	return s.n;
}

Test(cow_epochfile, each_record_comes_once_and_in_order)
{
	uint64_t end;

	cr_expect_geq(records(&end), 8);
	cr_expect_eq(end, e->log_end);
	assert_no_leaks();
}

Test(cow_epochfile, a_record_that_is_cut_off_ends_the_log)
{
	uint64_t end;
	unsigned all = records(&end);

	cr_assert_eq(ftruncate(e->log_fd, (off_t)e->log_end - 1), 0);
	cr_expect_eq(records(&end), all - 1);
	cr_expect_lt(end, e->log_end);
	assert_no_leaks();
}

Test(cow_epochfile, a_damaged_record_ends_the_log)
{
	uint64_t end;
	unsigned all = records(&end), left;
	unsigned char byte;
	off_t at = (off_t)e->log_end / 2;

	cr_assert_eq(pread(e->log_fd, &byte, 1, at), 1);
	byte ^= 0x40;
	cr_assert_eq(pwrite(e->log_fd, &byte, 1, at), 1);
	left = records(&end);
	cr_expect(left > 0 && left < all, "%u of %u", left, all);
	cr_expect_leq(end, (uint64_t)at);
	assert_no_leaks();
}

Test(cow_epochfile, an_append_that_failed_leaves_no_hole)
{
	static const uint8_t junk[64];
	uint64_t before = e->log_end, end;
	unsigned all = records(&end);

	fault_fail_nth(FAULT_OP(COW_OP_WRITE), 1, -EIO);
	cr_expect_eq(epochfile_append(h.st, e, junk, sizeof(junk)), -EIO);
	fault_reset();
	cr_expect_eq(e->log_end, before);
	deed_create(&h, "new", "");
	cr_expect_gt(records(&end), all);
	cr_expect_eq(end, e->log_end);
	assert_no_leaks();
}
