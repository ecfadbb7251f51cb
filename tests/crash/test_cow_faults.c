/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Operations of the store fail, once or from some point on, as on a full or a broken disk: each change of the live tree
 * must be made all the same (I-5), and each snapshot must go on showing what it should, or be gone and reported (I-4, F-14).
 * Seed and rounds as in test_cow_model.c. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cow/file.h"
#include "tests/support/harness.h"
#include "tests/support/world.h"

#define SNAPS 6u
#define STEPS 45u

static const unsigned sanitized =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	1;
#else
	0;
#endif

/* ---- which operations are the store's ---- */

static struct {
	atomic_uint count;
	unsigned first, last;
	int error;
	atomic_bool armed;
	char hit[300]; /* the first that failed */
} fault;

static _Thread_local unsigned renames; /* of the running change */
static _Thread_local bool changing;

static bool in_store(int fd, const char *path)
{
	char proc[64], target[PATH_MAX];
	ssize_t n;

	if (path && strcmp(path, COW_STORE_NAME) == 0)
		return true;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	n = readlink(proc, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = '\0';
	if (strstr(target, "/" COW_STORE_NAME "/grave/"))
		return false; /* a removed file that the program still has open */
	return strstr(target, "/" COW_STORE_NAME);
}

/* On the live tree: what only serves to preserve. */
static bool preserves(enum cow_file_op op)
{
	switch (op) {
	case COW_OP_READ:
	case COW_OP_SEEK:
		return changing;
	case COW_OP_XATTR:
		return changing && world_doing() != 'x';
	case COW_OP_LINK: /* the graveyard's, if a rename makes it */
		return world_doing() == 'r';
	case COW_OP_RENAME: /* removals never rename but to bury; a replacing one does it second */
		return world_doing() == 'u' || world_doing() == 'd' ||
		       (world_doing() == 'r' && ++renames == 2);
	default:
		return false;
	}
}

static int hook(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	unsigned n;

	(void)userdata;
	(void)len;
	if (!atomic_load(&fault.armed) || !(in_store(fd, path) || preserves(op)))
		return 0;
	n = atomic_fetch_add(&fault.count, 1) + 1;
	if (n < fault.first || n > fault.last)
		return 0;
	if (n == fault.first)
		snprintf(fault.hit, sizeof(fault.hit), "operation %d on %s%s", op,
			 in_store(fd, path) ? "the store " : "the live tree ", path ? path : "");
	return fault.error;
}

static void arm(unsigned first, unsigned last, int error)
{
	cow_file_set_hook(hook, NULL);
	fault.first = first;
	fault.last = last;
	fault.error = error;
	fault.hit[0] = '\0';
	atomic_store(&fault.count, 0);
	atomic_store(&fault.armed, true);
}

static void disarm(void)
{
	atomic_store(&fault.armed, false);
	cow_file_set_hook(NULL, NULL);
}

/* ---- one run ---- */

struct run {
	struct harness h;
	struct world *w;
	uint64_t seed, rng;
	uint64_t epochs[SNAPS];
	struct tree refs[SNAPS];
	unsigned n;
};

static uint64_t rnd(struct run *r, uint64_t below)
{
	return harness_random(&r->rng) % below;
}

static void take(struct run *r, bool must)
{
	int e;

	if (r->n == SNAPS)
		return;
	e = harness_snapshot(&r->h, COW_CTX_APP_ROLLBACK, &r->refs[r->n], &r->epochs[r->n]);
	if (e == 0)
		r->n++;
	else
		cr_assert(!must, "snapshot: %d", e);
}

static void forget(struct run *r, unsigned i)
{
	tree_done(&r->refs[i]);
	memmove(&r->refs[i], &r->refs[i + 1], (r->n - i - 1) * sizeof(r->refs[0]));
	memmove(&r->epochs[i], &r->epochs[i + 1], (r->n - i - 1) * sizeof(r->epochs[0]));
	r->n--;
}

static void change(struct run *r)
{
	int e;

	renames = 0;
	changing = true;
	e = world_step(r->w);
	changing = false;
	if (getenv("UMBRA_TRACE"))
		fprintf(stderr, "%s (%u, %zu dropped)\n", world_last(r->w),
			atomic_load(&fault.count), harness_drops(&r->h));
	cr_assert_eq(e, 0, "seed %llu: %s failed with %d after %s", (unsigned long long)r->seed,
		     world_last(r->w), e, fault.hit);
}

static void check(struct run *r, const char *when)
{
	char why[700] = "";

	for (unsigned i = 0; i < r->n; i++) {
		int e = harness_compare(&r->h, r->epochs[i], &r->refs[i], r->seed, NULL, 0, why,
					sizeof(why));

		if (e == -ENOENT && harness_dropped(&r->h, r->epochs[i], NULL))
			continue;
		cr_assert_eq(e, 0, "seed %llu, error %d from %u to %u (%s): epoch %llu %s: %d %s",
			     (unsigned long long)r->seed, fault.error, fault.first, fault.last,
			     fault.hit, (unsigned long long)r->epochs[i], when, e, why);
	}
}

/* Returns the operations that were counted; fewer than `first`: the fault never came. */
static unsigned one_run(uint64_t seed, unsigned first, unsigned last, int error)
{
	struct run *r = calloc(1, sizeof(*r));
	struct world_options o = { .name = "top", .max_names = 40 };
	struct harness plain;
	struct tree got, want;
	char why[700] = "";
	unsigned counted;
	int fd;

	cr_assert(r);
	r->seed = r->rng = seed;
	cr_assert_eq(harness_init(&r->h, NULL), 0);
	cr_assert_eq(harness_open(&r->h), 0);
	r->h.loose_holes = true;
	r->w = world_new(&r->h, seed, &o);
	for (unsigned i = 0; i < STEPS; i++) {
		change(r);
		if (i % 15 == 10)
			take(r, true);
	}
	cow_epoch_settle(r->h.st);
	arm(first, last, error);
	for (unsigned i = 0; i < STEPS; i++) {
		change(r);
		if (rnd(r, 15) == 0)
			take(r, false);
		if (r->n && rnd(r, 15) == 0) {
			unsigned which = (unsigned)rnd(r, r->n);
			int e = cow_epoch_drop(r->h.st, r->epochs[which], false);

			if (e == 0 || e == -ENOENT)
				forget(r, which);
		}
	}
	cow_epoch_settle(r->h.st);
	counted = atomic_load(&fault.count);
	disarm();
	check(r, "then");
	for (unsigned i = 0; i < STEPS; i++) /* all well again */
		change(r);
	check(r, "later");
	world_close_files(r->w);
	cr_assert_eq(harness_close(&r->h, false), 0);
	cr_assert_eq(harness_open(&r->h), 0, "seed %llu, error %d from %u to %u (%s): open: %s",
		     (unsigned long long)r->seed, error, first, last, fault.hit, r->h.why);
	check(r, "opened again");

	fd = openat(r->h.fd, "top", O_PATH | O_CLOEXEC);
	cr_assert_eq(tree_read(fd, NULL, &got), 0);
	close(fd);
	world_free(r->w);
	cr_assert_eq(harness_init(&plain, NULL), 0);
	cr_assert_eq(harness_open(&plain), 0);
	r->w = world_new(&plain, seed, &o);
	for (unsigned i = 0; i < 3 * STEPS; i++)
		cr_assert_eq(world_step(r->w), 0);
	fd = openat(plain.fd, "top", O_PATH | O_CLOEXEC);
	cr_assert_eq(tree_read(fd, NULL, &want), 0);
	close(fd);
	cr_assert(tree_same(&want, &got, TREE_CONTENT_ONLY, why, sizeof(why)),
		  "seed %llu, error %d from %u to %u (%s): live files: %s",
		  (unsigned long long)seed, error, first, last, fault.hit, why);
	world_free(r->w);
	harness_done(&plain);
	tree_done(&want);
	tree_done(&got);
	while (r->n)
		forget(r, r->n - 1);
	harness_done(&r->h);
	free(r);
	return counted;
}

static void many(const char *name, int error, unsigned span)
{
	uint64_t seed = harness_seed(name), rng = seed;
	unsigned rounds = harness_steps(sanitized ? 12 : 40), missed = 0, ops = 500, counted;

	for (unsigned i = 0; i < rounds; i++) {
		unsigned first = 1 + (unsigned)(harness_random(&rng) % ops);

		if (getenv("UMBRA_FIRST")) /* that one alone */
			first = (unsigned)strtoul(getenv("UMBRA_FIRST"), NULL, 0);

		counted = one_run(seed + i, first, span ? first + span - 1 : UINT_MAX, error);
		if (counted < first) {
			missed++;
			ops = counted ? counted : 1; /* so that the next ones meet something */
		}
	}
	cr_assert_lt(missed, rounds, "no fault came");
}

TestSuite(cow_faults, .timeout = 0, .fini = disarm);

Test(cow_faults, one_operation_fails)
{
	many("one_operation_fails", -EIO, 1);
}

Test(cow_faults, one_operation_finds_no_space)
{
	many("one_operation_finds_no_space", -ENOSPC, 1);
}

Test(cow_faults, the_disk_is_full_for_a_while)
{
	many("the_disk_is_full_for_a_while", -ENOSPC, 60);
}

Test(cow_faults, the_store_is_broken_from_then_on)
{
	many("the_store_is_broken_from_then_on", -EIO, 0);
}
