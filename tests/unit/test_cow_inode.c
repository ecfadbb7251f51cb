/* SPDX-License-Identifier: LGPL-2.1-or-later */
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

TestSuite(cow_inode, .init = setup, .fini = teardown, .timeout = 60);

#define STRETCH 4096u
#define STRETCHES_MAX 4096u
#define FAR (UINT64_C(1) << 51) /* clusters of the largest file */

/* A handle that nothing below stands behind; given back by the caller. */
static struct cow_inode *handle(uint64_t ino)
{
	struct cow_inode *ci = cow_inode_get(h.st, ino);

	cr_assert(ci);
	return ci;
}

static void learn(struct cow_inode *ci)
{
	ulock_lock(&ci->lock);
	cr_assert_eq(inode_learn(h.st, ci, epoch_newest(h.st)), 0);
	ulock_unlock(&ci->lock);
}

/* -- coverage against a table of booleans -- */

struct model {
	uint64_t base; /* of the first cluster */
	bool covered[4 * STRETCH];
};

static uint64_t model_next(const struct model *m, uint64_t c, uint64_t end, bool covered)
{
	for (; c < end; c++)
		if (m->covered[c - m->base] == covered)
			return c;
	return end;
}

static void compare(const struct cow_inode *ci, const struct model *m, uint64_t c, uint64_t end)
{
	for (unsigned covered = 0; covered < 2; covered++) {
		uint64_t want = model_next(m, c, end, covered),
			 got = inode_next(ci, c, end, covered);

		cr_assert_eq(got, want, "%scovered from %llu up to %llu: %llu, not %llu",
			     covered ? "" : "un", (unsigned long long)(c - m->base),
			     (unsigned long long)(end - m->base),
			     (unsigned long long)(got - m->base),
			     (unsigned long long)(want - m->base));
	}
}

/* Where words, stretches and the ends are, mistakes are likely. */
static uint64_t some_cluster(uint64_t *rng)
{
	uint64_t n = harness_random(rng) % (4 * STRETCH);

	switch (harness_random(rng) % 4) {
	case 0:
		return n / STRETCH * STRETCH;
	case 1:
		return n / 64 * 64;
	case 2:
		return n / 64 * 64 + 63;
	default:
		return n;
	}
}

static void random_coverage(uint64_t base, uint64_t *rng)
{
	static struct model m;
	struct cow_inode *ci = handle(base + 1);

	m = (struct model){ .base = base };
	ci->coverage_whole = true;
	compare(ci, &m, base, base + 4 * STRETCH);
	for (unsigned i = 0; i < 150; i++) {
		uint64_t c = some_cluster(rng),
			 n = harness_random(rng) % (i % 10 ? 100 : 2 * STRETCH);

		if (c + n > 4 * STRETCH)
			n = 4 * STRETCH - c;
		cr_assert_eq(inode_cover(ci, base + c, n), 0);
		memset(m.covered + c, 1, n);
		for (unsigned k = 0; k < 40; k++) {
			uint64_t a = some_cluster(rng), b = some_cluster(rng);

			compare(ci, &m, base + (a < b ? a : b), base + (a < b ? b : a));
		}
		compare(ci, &m, base, base + 4 * STRETCH);
	}
	cr_assert(ci->coverage_whole, "nothing was forgotten");
	cow_inode_put(h.st, ci);
}

Test(cow_inode, what_is_covered_is_what_a_table_of_booleans_says)
{
	uint64_t rng = harness_seed("what_is_covered_is_what_a_table_of_booleans_says");

	for (unsigned i = 0; i < 10; i++) {
		random_coverage(0, &rng);
		random_coverage(FAR, &rng);
		random_coverage(harness_random(&rng) % FAR / STRETCH * STRETCH, &rng);
		harness_close(&h, false); /* forgets */
		cr_assert_eq(harness_open(&h), 0);
	}
	assert_no_leaks();
}

Test(cow_inode, of_nothing_covered_all_is_uncovered)
{
	struct cow_inode *ci = handle(7);

	cr_assert_eq(inode_next(ci, 5, 10, true), 10);
	cr_assert_eq(inode_next(ci, 5, 10, false), 5);
	cr_assert_eq(inode_next(ci, 5, 5, true), 5);
	cr_assert_eq(inode_next(ci, 5, 5, false), 5);
	cr_assert_eq(inode_cover(ci, 5, 0), 0);
	cr_assert_eq(inode_next(ci, 5, 10, true), 10);
	cr_assert_eq(inode_next(ci, 0, FAR, true), FAR);
	cow_inode_put(h.st, ci);
	assert_no_leaks();
}

Test(cow_inode, one_cluster_far_out_is_found_from_the_start)
{
	struct cow_inode *ci = handle(7);

	cr_assert_eq(inode_cover(ci, FAR - 1, 1), 0);
	cr_assert_eq(inode_next(ci, 0, FAR, true), FAR - 1);
	cr_assert_eq(inode_next(ci, 0, FAR - 1, true), FAR - 1);
	cr_assert_eq(inode_next(ci, FAR - 1, FAR, false), FAR);
	cr_assert_eq(inode_next(ci, FAR - 1, FAR + 1, false), FAR);
	cow_inode_put(h.st, ci);
	assert_no_leaks();
}

/* -- limits: forgetting is allowed, claiming is not -- */

Test(cow_inode, more_stretches_than_memory_is_for_are_left_to_the_index)
{
	struct cow_inode *ci = handle(7);

	ci->coverage_whole = true;
	for (uint64_t i = 0; i < STRETCHES_MAX; i++) {
		inode_cover(ci, (STRETCHES_MAX - i) * STRETCH, 1); /* each one before the others */
		cr_assert(ci->coverage_whole, "forgot at %llu", (unsigned long long)i);
	}
	cr_assert_eq(inode_next(ci, 0, FAR, true), STRETCH);
	inode_cover(ci, STRETCH + 1, 1);
	cr_assert(ci->coverage_whole, "a stretch that is there needs no room");
	cr_assert_eq(inode_cover(ci, 0, 1), 0);
	cr_assert(!ci->coverage_whole);
	cr_assert_eq(inode_next(ci, 0, FAR, true), FAR, "what was forgotten is not claimed");
	cr_assert_eq(inode_cover(ci, 9, 1), 0);
	cr_assert_eq(inode_next(ci, 0, FAR, true), 9, "and new things can be remembered");
	cr_assert(!ci->coverage_whole);
	cow_inode_put(h.st, ci);
	assert_no_leaks();
}

Test(cow_inode, a_range_beyond_what_memory_is_for_is_left_to_the_index_at_once)
{
	struct cow_inode *ci = handle(7);

	ci->coverage_whole = true;
	inode_cover(ci, 3, 1);
	cr_assert_eq(inode_cover(ci, 0, UINT64_MAX / COW_CLUSTER_SIZE), 0);
	cr_assert(!ci->coverage_whole);
	cr_assert_eq(inode_next(ci, 0, FAR, true), FAR);
	cow_inode_put(h.st, ci);
	assert_no_leaks();
}

/* -- handles -- */

Test(cow_inode, one_inode_has_one_handle_and_keeps_what_it_knows)
{
	struct cow_inode *a = handle(5), *b = handle(5), *other = handle(6);

	cr_assert_eq(a, b);
	cr_assert_neq(a, other);
	cr_assert_eq(cow_inode_number(a), 5);
	a->size = 4711;
	cow_inode_put(h.st, a);
	cow_inode_put(h.st, b);
	cow_inode_put(h.st, other);
	cow_inode_put(h.st, NULL);
	a = handle(5);
	cr_assert_eq(a->size, 4711, "kept a while after its last user");
	cow_inode_put(h.st, a);
	assert_no_leaks();
}

Test(cow_inode, of_many_handles_those_in_use_are_kept_and_idle_ones_bounded)
{
	enum { MANY = 60000, USED = 100 };
	static struct cow_inode *used[USED];
	size_t n = 0, idle = 0;

	for (uint64_t i = 0; i < USED; i++) {
		used[i] = handle(i * 1000 + 1);
		used[i]->size = i;
	}
	for (uint64_t i = 1; i < MANY; i++)
		cow_inode_put(h.st, handle(UINT64_C(1) << 40 | i));
	for (unsigned i = 0; i < INODE_SHARDS; i++) {
		n += h.st->inodes[i].n_inodes;
		idle += h.st->inodes[i].n_idle;
	}
	cr_assert_leq(idle, 8192);
	cr_assert_eq(n, idle + USED);
	for (uint64_t i = 0; i < USED; i++) {
		struct cow_inode *again = handle(i * 1000 + 1);

		cr_assert(again == used[i] && again->size == i);
		cow_inode_put(h.st, again);
		cow_inode_put(h.st, used[i]);
		used[i] = NULL;
	}
	assert_no_leaks();
}

Test(cow_inode, a_table_that_grows_loses_nobody)
{
	enum { MANY = 30000 };
	static struct cow_inode *all[MANY];

	for (uint64_t i = 0; i < MANY; i++)
		all[i] = handle(i + 1);
	for (uint64_t i = 0; i < MANY; i++) {
		struct cow_inode *again = handle(i + 1);

		cr_assert(again == all[i] && cow_inode_number(again) == i + 1);
		cow_inode_put(h.st, again);
	}
	for (uint64_t i = 0; i < MANY; i++) {
		cow_inode_put(h.st, all[i]);
		all[i] = NULL;
	}
	assert_no_leaks();
}

/* -- learning -- */

Test(cow_inode, of_an_inode_that_nobody_changed_it_learns_that_nothing_is_preserved)
{
	struct cow_inode *ci;

	deed_create(&h, "f", "text");
	deed_snapshot(&h);
	ci = handle(deed_ino(&h, "f"));
	learn(ci);
	cr_assert(!ci->born && !ci->attr_saved && ci->coverage_whole);
	cr_assert_eq(ci->epoch, epoch_newest(h.st)->id);
	cow_inode_put(h.st, ci);
	assert_no_leaks();
}

Test(cow_inode, what_was_saved_is_learnt_from_the_index_when_memory_has_forgotten)
{
	struct cow_inode *ci;
	uint64_t ino;

	deed_create(&h, "f", "text");
	deed_snapshot(&h);
	deed_write(&h, "f", 4, " and more");
	ino = deed_ino(&h, "f");
	ci = handle(ino);
	cr_assert(ci->attr_saved && ci->size == 4);
	ulock_lock(&ci->lock);
	ci->epoch = 0; /* as a handle that is new */
	ci->attr_saved = false;
	ulock_unlock(&ci->lock);
	learn(ci);
	cr_assert(ci->attr_saved && !ci->born);
	cr_assert_eq(ci->size, 4, "as at the opening");
	cr_assert(!ci->coverage_whole, "of data it must ask");
	cow_inode_put(h.st, ci);
	assert_no_leaks();
}

Test(cow_inode, who_is_watched_since_before_an_opening_knows_without_asking)
{
	struct cow_inode *ci;

	deed_create(&h, "f", "text");
	deed_snapshot(&h);
	ci = handle(deed_ino(&h, "f"));
	deed_write(&h, "f", 0, "TEXT");
	cr_assert(ci->attr_saved);
	cr_assert_eq(inode_next(ci, 0, 1, true), 0);
	deed_snapshot(&h);
	ulock_lock(&ci->lock);
	cr_assert_eq(inode_learn(h.st, ci, epoch_newest(h.st)), 0);
	ulock_unlock(&ci->lock);
	cr_assert(!ci->attr_saved && ci->coverage_whole && !ci->born,
		  "all of that was of the last one");
	cr_assert_eq(inode_next(ci, 0, 1, true), 1);
	cow_inode_put(h.st, ci);
	assert_no_leaks();
}

/* When the newest is dropped, what it had saved counts for the one before it only by the index. */
Test(cow_inode, after_the_newest_was_dropped_it_asks_again)
{
	struct cow_inode *ci;
	uint64_t a, b;

	deed_create(&h, "f", "text");
	a = deed_snapshot(&h);
	b = deed_snapshot(&h);
	ci = handle(deed_ino(&h, "f"));
	deed_write(&h, "f", 0, "TEXT");
	cr_assert(ci->epoch == b && ci->attr_saved);
	deed_drop(&h, b);
	learn(ci);
	cr_assert_eq(ci->epoch, a);
	cr_assert(ci->attr_saved, "it was given to the one before");
	cr_assert(!ci->coverage_whole);
	deed_write(&h, "f", 0, "tExT");
	look_is(&h, a, "f", "text");
	cow_inode_put(h.st, ci);
	assert_no_leaks();
}

Test(cow_inode, an_index_that_cannot_be_read_teaches_nothing)
{
	uint8_t key[COW_KEY_MAX];
	struct cow_inode *ci;
	uint64_t ino;

	deed_create(&h, "f", "text");
	deed_snapshot(&h);
	ino = deed_ino(&h, "f");
	cr_assert_eq(cow_index_put(h.st->index, key, cow_key_attr(key, ino, epoch_newest(h.st)->id),
				   "bad", 3),
		     0);
	ci = handle(ino);
	ulock_lock(&ci->lock);
	ci->epoch = 0;
	cr_assert_eq(inode_learn(h.st, ci, epoch_newest(h.st)), -EUCLEAN);
	cr_assert_eq(ci->epoch, 0, "it does not know");
	ulock_unlock(&ci->lock);
	cow_inode_put(h.st, ci);
	assert_no_leaks();
}

/* -- newborns -- */

static bool is_born(uint64_t ino)
{
	struct cow_inode *ci = handle(ino);
	bool born = false;

	harness_enter(&h);
	cr_assert_eq(preserve_is_born(h.st, ci, &born), 0);
	harness_leave(&h);
	cow_inode_put(h.st, ci);
	return born;
}

static void forget(uint64_t ino)
{
	struct cow_inode *ci = handle(ino);

	ulock_lock(&ci->lock);
	ci->epoch = 0;
	ci->born = false;
	ulock_unlock(&ci->lock);
	cow_inode_put(h.st, ci);
}

Test(cow_inode, what_is_made_after_an_opening_is_newborn_until_the_next)
{
	uint64_t old, new;

	deed_create(&h, "old", "");
	deed_snapshot(&h);
	deed_create(&h, "new", "");
	old = deed_ino(&h, "old");
	new = deed_ino(&h, "new");
	cr_assert(!is_born(old));
	cr_assert(is_born(new));
	forget(new);
	cr_assert(is_born(new), "the index knows it too");
	deed_snapshot(&h);
	cr_assert(!is_born(new), "the newest one sees it");
	forget(new);
	cr_assert(!is_born(new));
	assert_no_leaks();
}

Test(cow_inode, newborns_of_each_kind_are_known_to_the_index_too)
{
	static const char *const names[] = { "file", "dir", "link", "fifo" };

	deed_snapshot(&h);
	deed_create(&h, "file", "text");
	deed_mkdir(&h, "dir");
	deed_symlink(&h, "link", "target");
	deed_mknod(&h, "fifo", S_IFIFO | 0600, 0);
	deed_create(&h, "dir/below", "text");
	for (unsigned i = 0; i < 4; i++)
		cr_assert(is_born(deed_ino(&h, names[i])), "%s", names[i]);
	cr_assert(is_born(deed_ino(&h, "dir/below")));
	for (unsigned i = 0; i < 4; i++) {
		forget(deed_ino(&h, names[i]));
		cr_assert(is_born(deed_ino(&h, names[i])), "%s", names[i]);
	}
	assert_no_leaks();
}

Test(cow_inode, nothing_of_a_newborn_is_preserved)
{
	struct cow_snapshot *list = NULL;
	uint64_t s = deed_snapshot(&h);
	size_t n;

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 64 * COW_CLUSTER_SIZE, 'a');
	deed_fill(&h, "f", 0, 64 * COW_CLUSTER_SIZE, 'b');
	deed_truncate(&h, "f", 0);
	deed_unlink(&h, "f");
	cr_assert_eq(harness_store_entries(&h, "grave"), 0);
	cr_assert_eq(cow_epoch_list(h.st, true, &list, &n), 0);
	cr_assert_eq(list[0].stored_bytes, 0);
	cow_snapshots_free(list, n);
	list = NULL;
	cr_assert_eq(look_up(&h, s, "f"), -ENOENT);
	assert_no_leaks();
}
