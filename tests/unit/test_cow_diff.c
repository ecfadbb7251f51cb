/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/support/deeds.h"
#include "tests/support/leaks.h"

static struct harness h;

static void setup(void)
{
	cr_assert_eq(harness_init(&h, NULL), 0);
	cr_assert_eq(harness_open(&h), 0, "%s", h.why);
}

static void teardown(void)
{
	harness_done(&h);
}

TestSuite(cow_diff, .init = setup, .fini = teardown, .timeout = 60);

/* -- words: a difference is "KIND path", "R old>new" or "R* old>new", each followed by a space -- */

struct words {
	char text[8192];
	unsigned stop_at, n;
};

static int say(void *userdata, const struct cow_diff_entry *e)
{
	struct words *w = userdata;
	size_t n = strlen(w->text);

	if (e->kind == COW_DIFF_RENAMED)
		snprintf(w->text + n, sizeof(w->text) - n, "R%s %s>%s ", e->modified ? "*" : "",
			 e->old_path, e->path);
	else
		snprintf(w->text + n, sizeof(w->text) - n, "%c %s ", e->kind, e->path);
	return ++w->n == w->stop_at ? 77 : 0;
}

static void differ(uint64_t a, uint64_t b, const char *want)
{
	struct words w = { 0 };
	int r = cow_diff(h.st, a, b, say, &w);

	cr_assert_eq(r, 0, "%d", r);
	cr_assert_str_eq(w.text, want, "\"%s\", not \"%s\"", w.text, want);
}

/* What differs now, seen live, from a snapshot of now, and after both were left behind. */
static void differs(uint64_t a, const char *want)
{
	uint64_t b;

	differ(a, 0, want);
	b = deed_snapshot(&h);
	differ(a, b, want);
	differ(b, 0, "");
}

/* -- each kind -- */

Test(cow_diff, without_a_change_there_is_no_difference)
{
	uint64_t a;

	deed_mkdir(&h, "d");
	deed_create(&h, "d/f", "text");
	a = deed_snapshot(&h);
	differs(a, "");
	assert_no_leaks();
}

Test(cow_diff, each_kind_of_difference_is_told_sorted_by_path)
{
	uint64_t a, b;

	deed_create(&h, "meta", "text");
	deed_create(&h, "content", "text");
	deed_create(&h, "gone", "text");
	deed_create(&h, "moved", "text");
	deed_create(&h, "moved2", "text");
	deed_create(&h, "type", "text");
	deed_symlink(&h, "link", "a");
	deed_create(&h, "same", "text");
	a = deed_snapshot(&h);
	deed_create(&h, "added", "text");
	deed_chmod(&h, "meta", 0600);
	deed_write(&h, "content", 0, "TEXT");
	deed_unlink(&h, "gone");
	deed_rename(&h, "moved", "named", 0);
	deed_rename(&h, "moved2", "named2", 0);
	deed_write(&h, "named2", 0, "TEXT");
	deed_unlink(&h, "type");
	deed_mkdir(&h, "type");
	deed_unlink(&h, "link");
	deed_symlink(&h, "link", "b");
	differ(a, 0,
	       "A added M content D gone M link m meta R moved>named R* moved2>named2 T type ");
	b = deed_snapshot(&h);
	deed_unlink(&h, "same"); /* after it */
	deed_rename(&h, "named", "elsewhere", 0);
	differ(a, b,
	       "A added M content D gone M link m meta R moved>named R* moved2>named2 T type ");
	differ(b, 0, "R named>elsewhere D same ");
	assert_no_leaks();
}

Test(cow_diff, what_came_and_went_between_is_no_difference)
{
	uint64_t a, b;

	deed_mkdir(&h, "d");
	deed_create(&h, "d/f", "text");
	a = deed_snapshot(&h);
	deed_create(&h, "d/short", "text");
	deed_snapshot(&h);
	deed_unlink(&h, "d/short");
	deed_rename(&h, "d/f", "d/g", 0);
	deed_rename(&h, "d/g", "d/f", 0);
	b = deed_snapshot(&h);
	differ(a, b, ""); /* the times of a directory are none */
	assert_no_leaks();
}

/* That would take reading both. */
Test(cow_diff, what_was_written_counts_as_changed_even_if_it_is_the_same)
{
	uint64_t a;

	deed_create(&h, "f", "text");
	a = deed_snapshot(&h);
	deed_write(&h, "f", 0, "text");
	differs(a, "M f ");
	assert_no_leaks();
}

Test(cow_diff, content_is_told_between_any_two)
{
	uint64_t a, b, c;

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 10 * COW_CLUSTER_SIZE, 'a');
	a = deed_snapshot(&h);
	deed_fill(&h, "f", 9 * COW_CLUSTER_SIZE + 5, 1, 'b');
	b = deed_snapshot(&h);
	deed_fill(&h, "f", 9 * COW_CLUSTER_SIZE + 5, 1, 'a');
	c = deed_snapshot(&h);
	deed_write(&h, "f", 10 * COW_CLUSTER_SIZE, "appended");
	differ(a, b, "M f ");
	differ(b, c, "M f ");
	differ(a, c, "M f ");
	differ(c, 0, "M f ");
	differ(a, 0, "M f ");
	assert_no_leaks();
}

/* -- directories -- */

Test(cow_diff, a_new_directory_is_told_with_all_that_is_in_it)
{
	uint64_t a;

	deed_create(&h, "old", "text");
	a = deed_snapshot(&h);
	deed_mkdir(&h, "new");
	deed_mkdir(&h, "new/deep");
	deed_create(&h, "new/deep/f", "text");
	deed_rename(&h, "old", "new/old", 0);
	differs(a, "A new A new/deep A new/deep/f R old>new/old ");
	assert_no_leaks();
}

Test(cow_diff, a_removed_directory_is_told_with_all_that_was_in_it)
{
	uint64_t a;

	deed_mkdir(&h, "d");
	deed_mkdir(&h, "d/deep");
	deed_create(&h, "d/deep/f", "text");
	a = deed_snapshot(&h);
	deed_unlink(&h, "d/deep/f");
	deed_rmdir(&h, "d/deep");
	deed_rmdir(&h, "d");
	differs(a, "D d D d/deep D d/deep/f ");
	assert_no_leaks();
}

Test(cow_diff, a_change_of_a_file_with_two_names_is_told_once)
{
	struct words w = { 0 };
	uint64_t a;

	deed_create(&h, "one", "text");
	deed_link(&h, "one", "two");
	a = deed_snapshot(&h);
	deed_write(&h, "one", 0, "TEXT");
	cr_assert_eq(cow_diff(h.st, a, 0, say, &w), 0);
	cr_assert(strcmp(w.text, "M one ") == 0 || strcmp(w.text, "M two ") == 0, "%s", w.text);
	assert_no_leaks();
}

Test(cow_diff, a_new_name_of_an_old_file_is_added_and_a_removed_one_is_gone)
{
	uint64_t a, b;

	deed_create(&h, "one", "text");
	a = deed_snapshot(&h);
	deed_link(&h, "one", "two");
	b = deed_snapshot(&h);
	deed_unlink(&h, "one");
	differ(a, b, "A two ");
	differ(b, 0, "D one ");
	differ(a, 0, "R one>two ");
	assert_no_leaks();
}

/* -- the call -- */

Test(cow_diff, numbers_that_cannot_be_compared_are_refused)
{
	struct words w = { 0 };
	uint64_t a = deed_snapshot(&h), b = deed_snapshot(&h);

	deed_create(&h, "f", "text");
	cr_assert_eq(cow_diff(h.st, b, a, say, &w), -EINVAL);
	cr_assert_eq(cow_diff(h.st, a, a, say, &w), -EINVAL);
	cr_assert_eq(cow_diff(h.st, a, b + 1, say, &w), -ENOENT);
	cr_assert_eq(cow_diff(h.st, b + 1, 0, say, &w), -ENOENT);
	deed_drop(&h, a);
	cr_assert_eq(cow_diff(h.st, a, b, say, &w), -ENOENT);
	cr_assert_eq(w.n, 0);
	assert_no_leaks();
}

Test(cow_diff, who_listens_may_end_it)
{
	struct words w = { .stop_at = 2 };
	uint64_t a = deed_snapshot(&h);

	deed_create(&h, "a", "text");
	deed_create(&h, "b", "text");
	deed_create(&h, "c", "text");
	cr_assert_eq(cow_diff(h.st, a, 0, say, &w), 77);
	cr_assert_str_eq(w.text, "A a A b ");
	assert_no_leaks();
}

struct sizes {
	uint64_t old_size, new_size, ino;
	mode_t mode;
	unsigned n;
};

static int take_sizes(void *userdata, const struct cow_diff_entry *e)
{
	struct sizes *s = userdata;

	if (!*e->path) /* the root */
		return 0;
	*s = (struct sizes){ e->old_size, e->new_size, e->ino, e->mode, s->n + 1 };
	return 0;
}

Test(cow_diff, sizes_mode_and_inode_are_those_of_each_side)
{
	struct sizes s = { 0 };
	uint64_t a, b, c, ino;

	a = deed_snapshot(&h);
	deed_create(&h, "f", "12345");
	ino = deed_ino(&h, "f");
	b = deed_snapshot(&h);
	deed_truncate(&h, "f", 3);
	deed_chmod(&h, "f", 0600);
	c = deed_snapshot(&h);
	deed_unlink(&h, "f");
	cr_assert_eq(cow_diff(h.st, a, b, take_sizes, &s), 0);
	cr_assert(s.n == 1 && s.old_size == 0 && s.new_size == 5 && s.mode == (S_IFREG | 0644) &&
		  s.ino == ino);
	cr_assert_eq(cow_diff(h.st, b, c, take_sizes, &s), 0);
	cr_assert(s.n == 2 && s.old_size == 5 && s.new_size == 3 && s.mode == (S_IFREG | 0600) &&
		  s.ino == ino);
	cr_assert_eq(cow_diff(h.st, c, 0, take_sizes, &s), 0);
	cr_assert(s.n == 3 && s.old_size == 3 && s.new_size == 0 && s.mode == (S_IFREG | 0600) &&
		  s.ino == ino);
	assert_no_leaks();
}

Test(cow_diff, differences_are_the_same_when_those_between_are_dropped)
{
	uint64_t a, m, b;

	deed_create(&h, "f", "text");
	deed_create(&h, "g", "text");
	a = deed_snapshot(&h);
	deed_write(&h, "f", 0, "TEXT");
	m = deed_snapshot(&h);
	deed_rename(&h, "g", "G", 0);
	deed_create(&h, "n", "");
	b = deed_snapshot(&h);
	deed_write(&h, "f", 0, "later");
	differ(a, b, "R g>G M f A n ");
	deed_drop(&h, m);
	differ(a, b, "R g>G M f A n ");
	deed_reopen(&h);
	differ(a, b, "R g>G M f A n ");
	assert_no_leaks();
}
