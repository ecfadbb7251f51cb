/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/support/fault.h"

#include <limits.h>
#include <stdatomic.h>
#include <unistd.h>

/* What is armed; count is relaxed: it only numbers the calls. */
static struct {
	unsigned mask, first, last;
	int error; /* 0: crash */
	atomic_uint count;
} fault;

static int hook(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	unsigned n;

	(void)userdata;
	(void)fd;
	(void)path;
	(void)len;
	if (!(fault.mask & FAULT_OP(op)))
		return 0;
	n = atomic_fetch_add_explicit(&fault.count, 1, memory_order_relaxed) + 1;
	if (n < fault.first || n > fault.last)
		return 0;
	if (fault.error == 0)
		_exit(FAULT_CRASHED);
	return fault.error;
}

static void arm(unsigned mask, unsigned first, unsigned last, int error)
{
	cow_file_set_hook(NULL, NULL);
	fault.mask = mask;
	fault.first = first;
	fault.last = last;
	fault.error = error;
	atomic_store_explicit(&fault.count, 0, memory_order_relaxed);
	cow_file_set_hook(hook, NULL);
}

void fault_fail_nth(unsigned op_mask, unsigned n, int error)
{
	arm(op_mask, n, n, error);
}

void fault_fail_from(unsigned op_mask, unsigned n, int error)
{
	arm(op_mask, n, UINT_MAX, error);
}

void fault_crash_nth(unsigned n)
{
	arm(FAULT_CHANGES, n, n, 0);
}

unsigned fault_count(void)
{
	return atomic_load_explicit(&fault.count, memory_order_relaxed);
}

void fault_reset(void)
{
	cow_file_set_hook(NULL, NULL);
	fault.mask = 0;
}
