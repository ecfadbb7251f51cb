/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/resource.h>

#include "cow/base/clock.h"
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

TestSuite(cow_epoch, .init = setup, .fini = teardown, .timeout = 120);

/* -- words -- */

static struct cow_snapshot snap_of(unsigned n)
{
	struct cow_snapshot s = { .context = COW_CTX_CLIENT_ACCESSIBLE, .in_set = 1 };

	snprintf(s.id, sizeof(s.id), "%08x-0000-4000-8000-000000000000", n);
	snprintf(s.set_id, sizeof(s.set_id), "%08x-0000-4000-9000-000000000000", n);
	snprintf(s.name, sizeof(s.name), "name-%u", n);
	return s;
}

static void hold(void)
{
	cr_assert_eq(cow_gate_hold(h.st, 10000, 10000), 0);
}

static void release(void)
{
	cr_assert_eq(cow_gate_release(h.st), 0);
}

/* Open only; nobody committed it. */
static uint64_t opened(unsigned n)
{
	struct cow_snapshot s = snap_of(n);
	uint64_t epoch = 0;
	int r;

	hold();
	r = cow_epoch_open(h.st, &s, &epoch);
	release();
	cr_assert_eq(r, 0, "open: %d", r);
	cr_assert_gt(epoch, 0);
	return epoch;
}

static uint64_t created(unsigned n)
{
	uint64_t epoch = opened(n);

	cr_assert_eq(cow_epoch_commit(h.st, epoch, NULL), 0);
	return epoch;
}

static int try_open(const struct cow_snapshot *s)
{
	uint64_t epoch = 4711;
	int r;

	hold();
	r = cow_epoch_open(h.st, s, &epoch);
	release();
	cr_assert(r == 0 || epoch == 4711, "written on failure");
	return r;
}

/* The list is just these, in this order; the last is 0. */
static void lists(bool all, const uint64_t *want)
{
	struct cow_snapshot *list = NULL;
	size_t n = 0, i = 0;

	cr_assert_eq(cow_epoch_list(h.st, all, &list, &n), 0);
	for (; want[i]; i++) {
		cr_assert_lt(i, n, "%zu listed", n);
		cr_assert_eq(list[i].epoch, want[i], "entry %zu is %llu", i,
			     (unsigned long long)list[i].epoch);
	}
	cr_assert_eq(n, i, "%zu listed, not %zu", n, i);
	cow_snapshots_free(list, n);
}

#define LISTS(all, ...) lists(all, (uint64_t[]){ __VA_ARGS__ __VA_OPT__(, ) 0 })

static struct cow_snapshot only(void)
{
	struct cow_snapshot *list = NULL, s;
	size_t n = 0;

	cr_assert_eq(cow_epoch_list(h.st, true, &list, &n), 0);
	cr_assert_eq(n, 1, "%zu snapshots", n);
	s = list[0];
	list[0].extra = NULL; /* the caller's now */
	cow_snapshots_free(list, n);
	return s;
}

/* -- opening -- */

Test(cow_epoch, opening_without_a_hold_is_refused_and_opens_nothing)
{
	struct cow_snapshot s = snap_of(1);
	uint64_t epoch = 4711;

	cr_assert_eq(cow_epoch_open(h.st, &s, &epoch), -EINVAL);
	cr_assert_eq(epoch, 4711);
	LISTS(true);
	gate_exclusive(h.st); /* the store's own moment is no hold */
	cr_assert_eq(cow_epoch_open(h.st, &s, &epoch), -EINVAL);
	gate_exclusive_end(h.st);
	LISTS(true);
	cr_assert_eq(try_open(&s), 0, "the refusals did no harm");
	assert_no_leaks();
}

Test(cow_epoch, opening_fails_once_the_hold_ran_out)
{
	struct cow_snapshot s = snap_of(1);
	uint64_t epoch = 4711;

	cr_assert_eq(cow_epoch_prepare(h.st), 0);
	cr_assert_eq(cow_gate_hold(h.st, 10000, 10), 0);
	pthread_mutex_lock(&h.lock);
	while (!h.gate_opened)
		pthread_cond_wait(&h.changed, &h.lock);
	pthread_mutex_unlock(&h.lock);
	cr_assert_eq(cow_epoch_open(h.st, &s, &epoch), -ETIMEDOUT);
	cr_assert_eq(epoch, 4711);
	LISTS(true);
	cr_assert_eq(cow_gate_release(h.st), -ETIMEDOUT);
	assert_no_leaks();
}

Test(cow_epoch, a_list_tells_all_that_was_given_at_the_opening)
{
	struct cow_snapshot s = snap_of(7), got;
	int64_t before = (int64_t)clock_real_ns(), after;

	strcpy(s.label, "a label \xc3\xa4");
	s.extra = (char *)"{\"writers\":[1,2]}";
	s.context = COW_CTX_NAS_ROLLBACK;
	s.in_set = 5;
	cr_assert_eq(try_open(&s), 0);
	after = (int64_t)clock_real_ns();
	for (unsigned reopened = 0; reopened < 2; reopened++) {
		got = only();
		cr_assert_str_eq(got.id, s.id);
		cr_assert_str_eq(got.set_id, s.set_id);
		cr_assert_str_eq(got.label, s.label);
		cr_assert_str_eq(got.name, s.name);
		cr_assert_str_eq(got.extra, s.extra);
		cr_assert(got.context == COW_CTX_NAS_ROLLBACK && got.in_set == 5 &&
			  got.in_use == 0);
		cr_assert(got.stored_bytes == 0 && got.changed_files == 0);
		cr_assert(got.opened_ns >= before && got.opened_ns <= after);
		cr_assert_eq(got.state, reopened ? COW_SNAP_CREATED : COW_SNAP_OPENED);
		cr_assert_eq(cow_epoch_commit(h.st, got.epoch, NULL), 0);
		free(got.extra);
		deed_reopen(&h);
	}
	assert_no_leaks();
}

Test(cow_epoch, what_makes_no_snapshot_is_refused)
{
	CLEANUP(free_p) char *extra = malloc(COW_EXTRA_MAX + 2);
	struct cow_snapshot s = snap_of(1);

	s.name[0] = '\0';
	cr_assert_eq(try_open(&s), -EINVAL);
	s = snap_of(1);
	s.id[0] = '\0';
	cr_assert_eq(try_open(&s), -EINVAL);
	s = snap_of(1);
	s.context = COW_CTX_ALL;
	cr_assert_eq(try_open(&s), -EINVAL);
	s.context = 0;
	cr_assert_eq(try_open(&s), -EINVAL);
	memset(extra, 'x', COW_EXTRA_MAX + 1);
	extra[COW_EXTRA_MAX + 1] = '\0';
	s = snap_of(1);
	s.extra = extra;
	cr_assert_eq(try_open(&s), -EINVAL);
	LISTS(true);
	extra[COW_EXTRA_MAX] = '\0';
	cr_assert_eq(try_open(&s), 0, "the longest that may be");
	s = only();
	cr_assert_eq(strlen(s.extra), COW_EXTRA_MAX);
	free_p(&s.extra);
	free_p(&extra);
	s.extra = extra = NULL;
	assert_no_leaks();
}

Test(cow_epoch, an_id_or_a_name_in_use_is_refused_until_its_snapshot_is_dropped)
{
	struct cow_snapshot s = snap_of(2);
	uint64_t first = opened(1), second;

	strcpy(s.name, "name-1");
	cr_assert_eq(try_open(&s), -EEXIST, "also where the first is not shown yet");
	cr_assert_eq(cow_epoch_commit(h.st, first, NULL), 0);
	cr_assert_eq(try_open(&s), -EEXIST);
	s = snap_of(1);
	strcpy(s.name, "another");
	cr_assert_eq(try_open(&s), -EEXIST);
	LISTS(true, first);
	second = opened(2);
	LISTS(true, first, second);
	deed_drop(&h, first);
	s = snap_of(1);
	cr_assert_eq(try_open(&s), 0);
	assert_no_leaks();
}

Test(cow_epoch, an_opening_that_cannot_be_written_down_opens_nothing)
{
	struct cow_snapshot s = snap_of(1);
	uint64_t epoch = 4711;

	cr_assert_eq(cow_epoch_prepare(h.st), 0);
	hold();
	fault_fail_nth(FAULT_CHANGES, 1, -ENOSPC);
	cr_assert_eq(cow_epoch_open(h.st, &s, &epoch), -ENOSPC);
	fault_reset();
	cr_assert_eq(epoch, 4711);
	LISTS(true);
	cr_assert_eq(cow_epoch_open(h.st, &s, &epoch), 0, "what was prepared serves again");
	release();
	LISTS(true, epoch);
	assert_no_leaks();
}

Test(cow_epoch, an_opening_that_was_prepared_is_one_append)
{
	struct cow_snapshot s = snap_of(2);
	uint64_t epoch = 0;

	created(1);
	cr_assert_eq(cow_epoch_prepare(h.st), 0);
	hold();
	fault_fail_nth(FAULT_ALL, 0, 0);
	cr_assert_eq(cow_epoch_open(h.st, &s, &epoch), 0);
	cr_assert_eq(fault_count(), 1, "%u operations under the hold", fault_count());
	fault_reset();
	release();
	assert_no_leaks();
}

Test(cow_epoch, several_snapshots_of_one_hold_show_the_same)
{
	struct cow_snapshot a = snap_of(1), b = snap_of(2);
	uint64_t ea = 0, eb = 0;

	deed_create(&h, "f", "old");
	hold();
	cr_assert_eq(cow_epoch_open(h.st, &a, &ea), 0);
	cr_assert_eq(cow_epoch_open(h.st, &b, &eb), 0);
	release();
	cr_assert_gt(eb, ea);
	cr_assert_eq(cow_epoch_commit(h.st, ea, NULL), 0);
	cr_assert_eq(cow_epoch_commit(h.st, eb, NULL), 0);
	deed_write(&h, "f", 0, "new");
	look_is(&h, ea, "f", "old");
	look_is(&h, eb, "f", "old");
	assert_no_leaks();
}

/* -- preparing -- */

Test(cow_epoch, preparing_twice_prepares_once_and_unpreparing_leaves_nothing)
{
	cr_assert_eq(harness_store_entries(&h, "log"), 0);
	cr_assert_eq(cow_epoch_prepare(h.st), 0);
	cr_assert_eq(cow_epoch_prepare(h.st), 0);
	cr_assert_eq(harness_store_entries(&h, "log"), 1);
	cr_assert_eq(harness_store_entries(&h, "data"), 1);
	LISTS(true);
	cow_epoch_unprepare(h.st);
	cow_epoch_unprepare(h.st);
	cr_assert_eq(harness_store_entries(&h, "log"), 0);
	cr_assert_eq(harness_store_entries(&h, "data"), 0);
	assert_no_leaks();
}

Test(cow_epoch, preparing_without_room_fails_and_leaves_nothing)
{
	unsigned n = 1;
	int r;

	for (;; n++) {
		fault_fail_nth(FAULT_CHANGES, n, -ENOSPC);
		r = cow_epoch_prepare(h.st);
		if (fault_count() < n)
			break;
		fault_reset();
		cr_assert_eq(r, -ENOSPC, "operation %u: %d", n, r);
		cr_assert_eq(harness_store_entries(&h, "log"), 0, "operation %u", n);
		cr_assert_eq(harness_store_entries(&h, "data"), 0, "operation %u", n);
	}
	fault_reset();
	cr_assert_eq(r, 0);
	cr_assert_gt(n, 1, "nothing could fail");
	assert_no_leaks();
}

Test(cow_epoch, what_was_prepared_and_not_used_is_gone_after_close)
{
	cr_assert_eq(cow_epoch_prepare(h.st), 0);
	deed_reopen(&h);
	cr_assert_eq(harness_store_entries(&h, "log"), 0);
	cr_assert_eq(harness_store_entries(&h, "data"), 0);
	assert_no_leaks();
}

Test(cow_epoch, no_more_than_512_snapshots_are_opened)
{
	struct rlimit files;
	struct cow_snapshot s = snap_of(COW_SNAPSHOTS_MAX + 1);
	struct cow_snapshot *list;
	uint64_t first = 0, last = 0, epoch = 0;
	size_t n;

	getrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_max < 2 * COW_SNAPSHOTS_MAX + 100)
		cr_skip_test("%d open files are not enough", (int)files.rlim_max);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	hold();
	for (unsigned i = 1; i <= COW_SNAPSHOTS_MAX; i++) {
		s = snap_of(i);
		cr_assert_eq(cow_epoch_open(h.st, &s, &epoch), 0, "number %u", i);
		cr_assert_gt(epoch, last);
		last = epoch;
		if (!first)
			first = epoch;
	}
	s = snap_of(COW_SNAPSHOTS_MAX + 1);
	cr_assert_eq(cow_epoch_open(h.st, &s, &epoch), -EUSERS);
	release();
	cr_assert_eq(cow_epoch_prepare(h.st), -EUSERS);
	cr_assert_eq(cow_epoch_list(h.st, true, &list, &n), 0);
	cr_assert_eq(n, COW_SNAPSHOTS_MAX);
	cow_snapshots_free(list, n);
	list = NULL;
	deed_drop(&h, first);
	cr_assert_eq(cow_epoch_prepare(h.st), 0, "there is room for one again");
	cr_assert_eq(try_open(&s), 0);
	cr_assert_eq(cow_epoch_prepare(h.st), -EUSERS);
	assert_no_leaks();
}

/* -- showing -- */

Test(cow_epoch, what_is_not_committed_is_shown_to_nobody)
{
	uint64_t epoch = opened(1), found = 4711;
	struct cow_view *v = NULL;

	LISTS(false);
	LISTS(true, epoch);
	cr_assert_eq(cow_epoch_find(h.st, "name-1", &found), -ENOENT);
	cr_assert_eq(found, 4711);
	cr_assert_eq(cow_view_open(h.st, epoch, false, &v), -ENOENT);
	cr_assert_eq(cow_view_open(h.st, epoch, true, &v), 0, "but may be read by who made it");
	cow_view_close(v);
	v = NULL;
	cr_assert_eq(cow_epoch_commit(h.st, epoch, NULL), 0);
	LISTS(false, epoch);
	cr_assert_eq(cow_epoch_find(h.st, "name-1", &found), 0);
	cr_assert_eq(found, epoch);
	cr_assert_eq(cow_view_open(h.st, epoch, false, &v), 0);
	cow_view_close(v);
	v = NULL;
	assert_no_leaks();
}

Test(cow_epoch, it_preserves_before_it_is_committed)
{
	uint64_t epoch;

	deed_create(&h, "f", "old");
	epoch = opened(1);
	deed_write(&h, "f", 0, "new");
	cr_assert_eq(cow_epoch_commit(h.st, epoch, NULL), 0);
	look_is(&h, epoch, "f", "old");
	assert_no_leaks();
}

/* F-12: older ones make room for it; where that does not help, its creation fails for want of room. */
Test(cow_epoch, one_being_created_is_the_last_to_make_room_and_says_why_it_could_not_stay)
{
	enum cow_drop_cause cause;
	uint64_t older, unfinished;

	cr_assert_eq(harness_close(&h, true), 0);
	h.max_bytes = 4 * COW_CLUSTER_SIZE;
	cr_assert_eq(harness_open(&h), 0);
	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 8 * COW_CLUSTER_SIZE, 'a');
	older = created(1);
	deed_fill(&h, "f", 0, 2 * COW_CLUSTER_SIZE, 'b');
	unfinished = opened(2);
	deed_fill(&h, "f", 0, 4 * COW_CLUSTER_SIZE, 'c');
	cr_assert(harness_dropped(&h, older, &cause) && cause == COW_DROP_FULL);
	cr_assert_not(harness_dropped(&h, unfinished, &cause), "it was the victim");
	cow_epoch_settle(h.st);
	cr_assert_eq(cow_epoch_commit(h.st, unfinished, NULL), 0);
	look_filled(&h, unfinished, "f", 0, 2 * COW_CLUSTER_SIZE, 'b');

	deed_drop(&h, unfinished);
	unfinished = opened(3);
	deed_fill(&h, "f", 0, 8 * COW_CLUSTER_SIZE, 'd');
	cr_assert(harness_dropped(&h, unfinished, &cause) && cause == COW_DROP_FULL);
	cr_assert_eq(cow_epoch_commit(h.st, unfinished, NULL), -ENOSPC);
	cow_epoch_settle(h.st);
	cr_assert_eq(cow_epoch_commit(h.st, unfinished, NULL), -ENOSPC);
	cr_assert_eq(cow_epoch_commit(h.st, unfinished + 1, NULL), -ENOENT);
	LISTS(true);
	assert_no_leaks();
}

static void extra_is(const char *want)
{
	struct cow_snapshot *list;
	size_t n;

	cr_assert_eq(cow_epoch_list(h.st, true, &list, &n), 0);
	cr_assert_eq(n, 1);
	cr_assert_str_eq(list[0].extra ? list[0].extra : "(none)", want);
	cow_snapshots_free(list, n);
}

Test(cow_epoch, what_is_said_at_the_commit_replaces_what_the_opening_said)
{
	uint64_t epoch = opened(1);

	cr_assert_eq(cow_epoch_commit(h.st, epoch, "{\"writers\":[1]}"), 0);
	extra_is("{\"writers\":[1]}");
	cr_assert_eq(cow_epoch_commit(h.st, epoch, NULL), 0);
	extra_is("{\"writers\":[1]}");
	cr_assert_eq(harness_close(&h, true), 0);
	cr_assert_eq(harness_open(&h), 0);
	extra_is("{\"writers\":[1]}");
	assert_no_leaks();
}

Test(cow_epoch, committing_what_is_not_there_is_refused)
{
	uint64_t epoch = opened(1);

	cr_assert_eq(cow_epoch_commit(h.st, epoch + 1, NULL), -ENOENT);
	deed_drop(&h, epoch);
	cr_assert_eq(cow_epoch_commit(h.st, epoch, NULL), -ENOENT);
	assert_no_leaks();
}

Test(cow_epoch, a_commit_that_cannot_be_written_down_shows_nothing)
{
	uint64_t epoch = opened(1);

	fault_fail_nth(FAULT_CHANGES, 1, -EIO);
	cr_assert_eq(cow_epoch_commit(h.st, epoch, NULL), -EIO);
	fault_reset();
	LISTS(false);
	cr_assert_eq(cow_epoch_commit(h.st, epoch, NULL), 0);
	LISTS(false, epoch);
	assert_no_leaks();
}

Test(cow_epoch, lists_are_in_the_order_of_opening_whatever_was_committed_first)
{
	uint64_t a = opened(3), b = opened(1), c = opened(2);

	cr_assert_eq(cow_epoch_commit(h.st, c, NULL), 0);
	LISTS(false, c);
	cr_assert_eq(cow_epoch_commit(h.st, a, NULL), 0);
	LISTS(false, a, c);
	LISTS(true, a, b, c);
	deed_drop(&h, a);
	LISTS(true, b, c);
	assert_no_leaks();
}

/* -- dropping -- */

/* D-13 */
Test(cow_epoch, a_dropped_snapshot_is_found_by_nobody)
{
	uint64_t a = created(1), b = created(2), c = created(3), found;
	struct cow_view *v;

	cr_assert_eq(cow_epoch_drop(h.st, b, false), 0);
	LISTS(true, a, c);
	cr_assert_eq(cow_epoch_find(h.st, "name-2", &found), -ENOENT);
	cr_assert_eq(cow_view_open(h.st, b, true, &v), -ENOENT);
	cr_assert_eq(cow_epoch_drop(h.st, b, false), -ENOENT, "repeating it is harmless");
	cr_assert_eq(cow_epoch_drop(h.st, b, true), -ENOENT);
	cr_assert_eq(cow_epoch_drop(h.st, c + 100, true), -ENOENT);
	LISTS(true, a, c);
	cr_assert_eq(harness_drops(&h), 0, "nobody is told of what was asked for");
	assert_no_leaks();
}

Test(cow_epoch, a_snapshot_in_use_is_dropped_by_force_only)
{
	uint64_t a = created(1), b = created(2);
	struct cow_vnode *root;
	struct cow_view *v;
	struct statx sx;

	cr_assert_eq(cow_view_open(h.st, a, false, &v), 0);
	cr_assert_eq(cow_vnode_root(v, &root), 0);
	cow_view_use(v);
	cr_assert_eq(cow_epoch_drop(h.st, a, false), -EBUSY);
	LISTS(true, a, b);
	cr_assert_eq(cow_vnode_stat(root, &sx), 0, "the refusal left it as it was");
	cow_view_unuse(v);
	cow_view_use(v);
	cr_assert_eq(cow_epoch_drop(h.st, a, true), 0);
	LISTS(true, b);
	cr_assert_eq(cow_vnode_stat(root, &sx), -ESTALE);
	cow_view_unuse(v);
	cow_vnode_put(root);
	cow_view_close(v);
	root = NULL;
	v = NULL;
	assert_no_leaks();
}

Test(cow_epoch, the_newest_in_use_is_not_dropped_either)
{
	uint64_t a = created(1), b = created(2);
	struct cow_view *v;

	cr_assert_eq(cow_view_open(h.st, b, false, &v), 0);
	cow_view_use(v);
	cr_assert_eq(cow_epoch_drop(h.st, b, false), -EBUSY);
	LISTS(true, a, b);
	cow_view_unuse(v);
	cr_assert_eq(cow_epoch_drop(h.st, b, false), 0, "an open view alone is no use");
	cow_view_close(v);
	v = NULL;
	assert_no_leaks();
}

Test(cow_epoch, an_open_file_and_an_open_directory_are_uses)
{
	struct cow_vnode *root, *f;
	struct cow_vfile *file;
	struct cow_vdir *dir;
	struct cow_snapshot s;
	uint64_t a;

	deed_create(&h, "f", "text");
	a = created(1);
	cr_assert_eq(look(&h, a, "", &root), 0);
	cr_assert_eq(look(&h, a, "f", &f), 0);
	cr_assert_eq(cow_vfile_open(f, &file), 0);
	cr_assert_eq(cow_vdir_open(root, &dir), 0);
	s = only();
	cr_assert_eq(s.in_use, 2);
	cow_vfile_close(file);
	cr_assert_eq(cow_epoch_drop(h.st, a, false), -EBUSY);
	cow_vdir_close(dir);
	cr_assert_eq(cow_epoch_drop(h.st, a, false), 0);
	cow_vnode_put(root);
	cow_vnode_put(f);
	root = f = NULL;
	file = NULL;
	dir = NULL;
	assert_no_leaks();
}

/* Also in the moment between, nothing that an older one needs is lost. */
Test(cow_epoch, after_dropping_the_newest_the_one_before_preserves_on)
{
	uint64_t a, b;

	deed_create(&h, "f", "one");
	deed_create(&h, "g", "one");
	a = created(1);
	deed_write(&h, "f", 0, "two");
	b = created(2);
	deed_write(&h, "f", 0, "333");
	deed_write(&h, "g", 0, "222");
	deed_drop(&h, b);
	deed_write(&h, "f", 0, "444");
	deed_write(&h, "g", 0, "444");
	look_is(&h, a, "f", "one");
	look_is(&h, a, "g", "one");
	assert_no_leaks();
}

Test(cow_epoch, a_drop_that_cannot_be_written_down_drops_nothing)
{
	uint64_t a = created(1), b = created(2);

	deed_create(&h, "f", "text");
	fault_fail_from(FAULT_CHANGES, 1, -EIO);
	cr_assert_lt(cow_epoch_drop(h.st, a, false), 0);
	fault_reset();
	LISTS(true, a, b);
	cr_assert_eq(cow_epoch_drop(h.st, a, false), 0);
	LISTS(true, b);
	assert_no_leaks();
}

Test(cow_epoch, snapshots_are_dropped_in_any_order_until_none_is_left)
{
	static const unsigned orders[][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 },
					      { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };

	deed_create(&h, "f", "zero");
	for (unsigned o = 0; o < 6; o++) {
		uint64_t e[3];

		for (unsigned i = 0; i < 3; i++) {
			char text[2] = { (char)('a' + i), 0 };

			deed_write(&h, "f", 0, text);
			e[i] = created(o * 3 + i);
		}
		deed_write(&h, "f", 0, "-");
		for (unsigned i = 0; i < 3; i++) {
			deed_drop(&h, e[orders[o][i]]);
			for (unsigned k = i + 1; k < 3; k++) {
				char text[] = { (char)('a' + orders[o][k]), 'e', 'r', 'o', 0 };

				look_is(&h, e[orders[o][k]], "f", text);
			}
		}
		LISTS(true);
		cr_assert_eq(harness_store_entries(&h, "log"), 0);
		cr_assert_eq(harness_store_entries(&h, "data"), 0);
	}
	assert_no_leaks();
}

/* -- over a restart -- */

Test(cow_epoch, snapshots_and_their_order_are_there_after_a_restart)
{
	uint64_t a = created(1), b = created(2), c = created(3), found = 0;

	cr_assert_eq(cow_epoch_drop(h.st, b, false), 0);
	for (unsigned i = 0; i < 3; i++) {
		deed_reopen(&h);
		LISTS(true, a, c);
		LISTS(false, a, c);
		cr_assert_eq(cow_epoch_find(h.st, "name-3", &found), 0);
		cr_assert_eq(found, c);
	}
	assert_no_leaks();
}

/* The store's own epochs, which keep daemons apart, are the business of nobody. */
Test(cow_epoch, labels_of_the_store_itself_are_not_shown_not_read_and_not_dropped)
{
	uint64_t a = created(1), next;
	struct cow_view *v;

	deed_reopen(&h);
	LISTS(true, a);
	next = h.st->next_epoch;
	cr_assert_gt(next, a + 1, "there is one");
	for (uint64_t e = a + 1; e < next; e++) {
		cr_assert_eq(cow_epoch_drop(h.st, e, true), -ENOENT);
		cr_assert_eq(cow_view_open(h.st, e, true, &v), -ENOENT);
	}
	cr_assert_eq(cow_epoch_find(h.st, "", &next), -ENOENT);
	deed_drop(&h, a);
	LISTS(true);
	cr_assert_null(h.st->oldest, "it serves nobody now");
	assert_no_leaks();
}

/* D-13 */
Test(cow_epoch, no_number_is_used_twice_also_after_a_restart)
{
	uint64_t last = 0, e;
	unsigned n = 0;

	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < 3; i++) {
			e = i % 2 ? opened(n++) : created(n++);
			cr_assert_gt(e, last);
			last = e;
			if (i != 1 || round % 2)
				deed_drop(&h, e);
		}
		cr_assert_eq(cow_epoch_prepare(h.st), 0);
		if (round % 2) /* all gone: the control log starts anew */
			for (struct cow_snapshot *list = NULL; !list;) {
				size_t k;

				cr_assert_eq(cow_epoch_list(h.st, true, &list, &k), 0);
				for (size_t i = 0; i < k; i++)
					deed_drop(&h, list[i].epoch);
				cow_snapshots_free(list, k);
			}
		deed_reopen(&h);
		deed_reopen(&h);
	}
	assert_no_leaks();
}

/* -- counts -- */

Test(cow_epoch, a_list_counts_what_was_preserved)
{
	struct cow_snapshot s;

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 10 * COW_CLUSTER_SIZE, 'a');
	deed_create(&h, "g", "text");
	created(1);
	s = only();
	cr_assert(s.stored_bytes == 0 && s.changed_files == 0);
	deed_fill(&h, "f", 0, 3 * COW_CLUSTER_SIZE, 'b');
	s = only();
	cr_assert(s.stored_bytes == 3 * COW_CLUSTER_SIZE && s.changed_files == 1);
	deed_fill(&h, "f", 0, 3 * COW_CLUSTER_SIZE, 'c');
	deed_chmod(&h, "g", 0600);
	s = only();
	cr_assert(s.stored_bytes == 3 * COW_CLUSTER_SIZE, "the second time costs nothing");
	cr_assert_eq(s.changed_files, 2);
	deed_reopen(&h);
	s = only();
	cr_assert(s.stored_bytes == 3 * COW_CLUSTER_SIZE && s.changed_files == 2, "%llu, %llu",
		  (unsigned long long)s.stored_bytes, (unsigned long long)s.changed_files);
	assert_no_leaks();
}

/* ---- room for a change that cannot wait ---- */

static struct {
	int full_fd; /* writes to it find no space, once */
	int freed_fd, control_fd;
	bool synced, freed, early;
	pthread_t changer;
	pthread_mutex_t away; /* the reclaimer, which syncs as well */
} room = { .away = PTHREAD_MUTEX_INITIALIZER };

static int run_out(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	(void)userdata, (void)path, (void)len;
	if (!pthread_equal(pthread_self(), room.changer)) {
		pthread_mutex_lock(&room.away);
		pthread_mutex_unlock(&room.away);
		return 0;
	}
	if (op == COW_OP_SYNC && fd == room.control_fd)
		room.synced = true;
	if (op == COW_OP_TRUNCATE && fd == room.freed_fd) {
		room.freed = true;
		room.early = room.early || !room.synced;
	}
	if (op != COW_OP_WRITE || fd != room.full_fd)
		return 0;
	room.full_fd = -1;
	return -ENOSPC;
}

/* Else a power cut would bring back a snapshot that nothing is left of. */
Test(cow_epoch, what_is_given_up_for_room_is_emptied_when_its_end_is_on_disk)
{
	struct epoch *e;
	uint64_t s[2];

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 8192, 'a');
	s[0] = deed_snapshot_of(&h, COW_CTX_NAS_ROLLBACK);
	deed_fill(&h, "f", 0, 8192, 'b');
	s[1] = deed_snapshot_of(&h, COW_CTX_NAS_ROLLBACK);
	e = epoch_get(h.st, s[0]);
	room.freed_fd = e->dat_fd;
	epoch_unref(e);
	e = epoch_get(h.st, s[1]);
	room.full_fd = e->dat_fd;
	epoch_unref(e);
	room.control_fd = h.st->control_fd;
	room.synced = room.freed = room.early = false;
	room.changer = pthread_self();
	pthread_mutex_lock(&room.away);
	cow_file_set_hook(run_out, NULL);
	deed_fill(&h, "f", 0, 8192, 'c');
	cow_file_set_hook(NULL, NULL);
	pthread_mutex_unlock(&room.away);
	cr_expect(room.freed && !room.early);
	cr_expect_eq(harness_drops(&h), 1);
	look_filled(&h, s[1], "f", 0, 8192, 'b');
	assert_no_leaks();
}

/* ---- what was prepared ---- */

/* What another opening failed with is not what this one is about: the next start would take it for an unfinished snapshot. */
Test(cow_epoch, an_internal_epoch_is_nobody_s_snapshot_after_an_opening_that_failed)
{
	struct cow_snapshot snap = snap_of(7);
	uint64_t s = deed_snapshot(&h), none = 0;

	cr_assert_eq(cow_epoch_open(h.st, &snap, &none), -EINVAL, "nobody holds");
	gate_exclusive(h.st);
	cr_assert_eq(epoch_open_internal(h.st), 0);
	gate_exclusive_end(h.st);
	deed_reopen(&h);
	cr_expect_eq(harness_drops(&h), 0);
	cr_expect_eq(look_up(&h, s, "none"), -ENOENT);
	assert_no_leaks();
}

static struct {
	unsigned synced; /* a bit for the log, the data, and the directory of each */
} laid;

static ino_t ino_in_store(const char *name)
{
	struct stat st;

	return fstatat(h.st->store_fd, name, &st, 0) == 0 ? st.st_ino : 0;
}

static int see_syncs(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	struct stat st;

	(void)userdata, (void)path, (void)len;
	if (op != COW_OP_SYNC || fstat(fd, &st) < 0)
		return 0;
	laid.synced |= (st.st_ino == ino_in_store("log/0000000000000001.log") ? 1 : 0) |
		       (st.st_ino == ino_in_store("data/0000000000000001.dat") ? 2 : 0) |
		       (st.st_ino == ino_in_store("log") ? 4 : 0) |
		       (st.st_ino == ino_in_store("data") ? 8 : 0);
	return 0;
}

/* A power cut after the record of its opening must find its files: where they are missing it, and all older, are given up. */
Test(cow_epoch, what_is_prepared_is_on_disk_by_name)
{
	cr_assert_eq(h.st->next_epoch, 1);
	cow_file_set_hook(see_syncs, NULL);
	cr_expect_eq(cow_epoch_prepare(h.st), 0);
	cow_file_set_hook(NULL, NULL);
	cr_expect_eq(laid.synced, 15, "%u", laid.synced);
	assert_no_leaks();
}

Test(cow_epoch, what_cannot_be_laid_out_on_disk_is_not_prepared)
{
	for (unsigned n = 1; n <= 4; n++) {
		fault_fail_nth(FAULT_OP(COW_OP_SYNC), n, -EIO);
		cr_expect_eq(cow_epoch_prepare(h.st), -EIO, "%u", n);
		fault_reset();
		cr_expect_eq(harness_store_entries(&h, "log"), 0);
		cr_expect_eq(harness_store_entries(&h, "data"), 0);
	}
	deed_create(&h, "f", "text");
	look_is(&h, deed_snapshot(&h), "f", "text");
	assert_no_leaks();
}
