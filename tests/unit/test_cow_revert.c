/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Single cases of a revert; what it makes of any tree is in tests/crash/test_cow_revert.c. */
#include <dirent.h>

#include "cow/file.h"
#include "cow/revert.h"
#include "cow/store_private.h"
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
	cow_file_set_hook(NULL, NULL);
	harness_done(&h);
}

TestSuite(cow_revert, .init = setup, .fini = teardown, .timeout = 120);

/* ---- words ---- */

static int revert(uint64_t epoch)
{
	return cow_revert(h.st, epoch, false, NULL);
}

static struct cow_revert_info told(void)
{
	struct cow_revert_info info;

	cow_revert_get(h.st, &info);
	return info;
}

static bool live_is(const char *path, const char *text)
{
	char buf[64] = "";
	int fd = openat(h.fd, path, O_RDONLY | O_CLOEXEC);

	cr_assert_geq(fd, 0, "%s: %s", path, strerror(errno));
	cr_assert_geq(read(fd, buf, sizeof(buf) - 1), 0);
	close(fd);
	return strcmp(buf, text) == 0;
}

static bool is_over(void)
{
	return told().state == COW_REVERT_NONE && !cow_revert_pending(h.st);
}

/* ---- is an inode the one that was recorded? ---- */

/* What the snapshot has of a file's attributes becomes those of an inode that had its number before. */
static void record_other(const char *path, uint64_t epoch, mode_t mode, int64_t older_s)
{
	struct epoch *e = epoch_get(h.st, epoch);
	struct cow_attr a;
	struct statx sx;
	uint8_t buf[1024];
	ssize_t len;

	cr_assert_eq(cow_file_statx(h.fd, path, &sx), 0);
	attr_from_statx(&a, &sx);
	if (!a.has_btime)
		cr_skip_test("no birth times on this file system");
	a.mode = mode;
	a.btime -= older_s;
	a.size = 1;
	len = cow_format_attr(buf, h.st->seed, epoch, &a);
	cr_assert_gt(len, 0);
	cr_assert_eq(preserve_put(h.st, e, buf, (size_t)len), 0);
	epoch_unref(e);
}

static void stays_what_it_is(mode_t mode, int64_t older_s)
{
	uint64_t s;

	deed_create(&h, "file", "whole");
	deed_chmod(&h, "file", 0640);
	s = deed_snapshot(&h);
	deed_chmod(&h, "file", 0600); /* its place is on record */
	record_other("file", s, mode, older_s);
	cr_assert_eq(revert(s), -ESTALE);
	cr_assert_eq(told().state, COW_REVERT_STOPPED);
	cr_assert(strstr(told().why, "file"), "%s", told().why);
	cr_assert(live_is("file", "whole"));
	assert_no_leaks();
}

/* I-4: a number alone is given to others when its inode is gone, and a crash hides that it went while nobody watched. */
Test(cow_revert, an_inode_that_was_born_at_another_time_is_left_alone)
{
	stays_what_it_is(S_IFREG | 0640, 1);
}

Test(cow_revert, an_inode_of_another_type_is_left_alone)
{
	stays_what_it_is(S_IFSOCK | 0640, 0);
}

/* Of the same time and type it is not: the two above see nothing else. */
Test(cow_revert, an_inode_that_is_the_one_gets_what_was_recorded)
{
	uint64_t s;

	deed_create(&h, "file", "whole");
	s = deed_snapshot(&h);
	deed_chmod(&h, "file", 0600);
	record_other("file", s, S_IFREG | 0640, 0);
	cr_assert_eq(revert(s), 0, "%s", told().why);
	cr_assert(live_is("file", "w"));
	assert_no_leaks();
}

/* ---- names ---- */

static int swap(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	bool *done = userdata;

	(void)fd;
	(void)len;
	if (op == COW_OP_OPEN && path && strcmp(path, "young") == 0 && !*done) {
		*done = true;
		cr_assert_eq(renameat(h.fd, "other", h.fd, "young"), 0);
	}
	return 0;
}

/* What was looked at is what goes: another file that somebody puts there below stays. */
Test(cow_revert, a_name_that_stands_for_something_else_meanwhile_stays)
{
	bool done = false;
	uint64_t s;

	deed_create(&h, "other", "mine");
	s = deed_snapshot(&h);
	deed_create(&h, "young", "");
	cow_file_set_hook(swap, &done);
	cr_assert_eq(revert(s), -ESTALE);
	cow_file_set_hook(NULL, NULL);
	cr_assert(done);
	cr_assert(live_is("young", "mine"));
	assert_no_leaks();
}

/* A link that was made since goes, and with it all that its going took: nothing waits in the graveyard for a snapshot that
 * knows the inode by a name which never changed. */
Test(cow_revert, a_younger_link_leaves_nothing_in_the_graveyard)
{
	uint64_t s;

	deed_create(&h, "old", "text");
	s = deed_snapshot(&h);
	deed_link(&h, "old", "young");
	deed_link(&h, "old", "younger");
	cr_assert_eq(revert(s), 0, "%s", told().why);
	cr_assert_eq(faccessat(h.fd, "young", F_OK, 0), -1);
	cr_assert(live_is("old", "text"));
	cr_assert_eq(deed_snapshot(&h) > s, 1);
	deed_drop(&h, s);
	cr_assert_eq(harness_store_entries(&h, "grave"), 0);
	assert_no_leaks();
}

/* ---- refused ---- */

static int say_busy(void *userdata)
{
	(void)userdata;
	return -EBUSY;
}

static int fail_attr(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	(void)userdata;
	(void)fd;
	(void)path;
	(void)len;
	return op == COW_OP_ATTR ? -EIO : 0;
}

static const struct cow_revert_hooks refuses = { .may_begin = say_busy };

static bool same(struct cow_revert_info a, struct cow_revert_info b)
{
	return a.state == b.state && a.epoch == b.epoch && strcmp(a.id, b.id) == 0 &&
	       a.done == b.done && a.total == b.total && a.failures == b.failures &&
	       a.left_out == b.left_out && a.error == b.error && strcmp(a.why, b.why) == 0;
}

/* a refusal touches nothing, nor what is said of a revert that stopped. */
Test(cow_revert, a_refusal_leaves_what_was_said)
{
	struct cow_revert_info before, after;
	uint64_t s;

	deed_create(&h, "file", "old");
	s = deed_snapshot(&h);
	deed_write(&h, "file", 0, "new");

	cr_assert_eq(cow_revert(h.st, s, false, &refuses), -EBUSY);
	after = told();
	cr_assert(same((struct cow_revert_info){ 0 }, after), "of one that never was: %s",
		  after.id);

	cow_file_set_hook(fail_attr, NULL);
	cr_assert_eq(revert(s), -EIO);
	cow_file_set_hook(NULL, NULL);
	before = told();
	cr_assert_eq(before.state, COW_REVERT_STOPPED);
	cr_assert_gt(before.failures, 0);
	cr_assert_neq(before.why[0], '\0');
	cr_assert_eq(cow_revert(h.st, s, false, &refuses), -EBUSY);
	after = told();
	cr_assert(same(before, after), "%s", after.why);
	cr_assert_eq(cow_revert_pending(h.st), s);

	cr_assert_eq(revert(s), 0);
	cr_assert(live_is("file", "old"));
	cr_assert(is_over());
	assert_no_leaks();
}

/* ---- the marker ---- */

static int fail_last_sync(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	bool *gone = userdata;

	(void)fd;
	(void)len;
	if (op == COW_OP_UNLINK && path && strcmp(path, "revert") == 0)
		*gone = true;
	return *gone && op == COW_OP_SYNC ? -EIO : 0;
}

/* what was told is what the next start finds, also when the last thing of all failed: it stopped. */
Test(cow_revert, a_marker_whose_removal_did_not_get_to_disk_is_there_again)
{
	bool gone = false;
	uint64_t s;

	deed_create(&h, "file", "old");
	s = deed_snapshot(&h);
	deed_write(&h, "file", 0, "new");
	cow_file_set_hook(fail_last_sync, &gone);
	cr_assert_eq(revert(s), -EIO);
	cow_file_set_hook(NULL, NULL);
	cr_assert(gone);
	cr_assert_eq(told().state, COW_REVERT_STOPPED);
	deed_reopen(&h);
	cr_assert_eq(cow_revert_pending(h.st), s);
	cr_assert_eq(cow_revert_cut_off(h.st), 0);
	cr_assert_eq(revert(s), 0, "%s", told().why);
	cr_assert(live_is("file", "old"));
	assert_no_leaks();
}

/* ---- what may not be read ---- */

static uint64_t closed; /* a directory */

static int keep_out(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	struct stat st;

	(void)userdata;
	(void)len;
	return op == COW_OP_OPEN && !path && fstat(fd, &st) == 0 && st.st_ino == closed ? -EACCES
											: 0;
}

static const char *first, *last; /* as who reads their directory meets them */

static void two_dirs(void)
{
	CLEANUP(closedir_p) DIR *d = NULL;
	const struct dirent *e;

	deed_mkdir(&h, "one");
	deed_mkdir(&h, "two");
	first = last = NULL;
	d = opendir(h.dir);
	cr_assert(d);
	while ((e = readdir(d))) {
		const char *name = strcmp(e->d_name, "one") == 0 ? "one" : "two";

		if (strcmp(e->d_name, name) != 0)
			continue;
		first = first ? first : name;
		last = name;
	}
	closed = deed_ino(&h, first);
}

/* A file with one name left, to which no record leads: the one that was on record went, with its snapshot. */
static uint64_t lose(const char *left)
{
	const char *gone = "gone";
	uint64_t older, s;

	deed_create(&h, left, "old");
	deed_link(&h, left, gone);
	older = deed_snapshot(&h);
	harness_place_set(&h, deed_ino(&h, gone), deed_ino(&h, "."), gone);
	deed_write(&h, gone, 0, "mid");
	deed_unlink(&h, gone);
	s = deed_snapshot(&h);
	deed_drop(&h, older);
	cr_assert_eq(harness_store_entries(&h, "grave"), 0);
	deed_write(&h, left, 0, "new");
	return s;
}

/* who looks for it in all the tree passes by what he may not read. */
Test(cow_revert, a_directory_that_may_not_be_read_is_passed_by)
{
	char left[64];
	uint64_t s;

	two_dirs();
	snprintf(left, sizeof(left), "%s/left", last);
	s = lose(left);
	cow_file_set_hook(keep_out, NULL);
	cr_assert_eq(revert(s), 0, "%s", told().why);
	cow_file_set_hook(NULL, NULL);
	cr_assert(is_over());
	cr_assert_eq(told().left_out, 0);
	cr_assert(live_is(left, "mid"));
	assert_no_leaks();
}

/* and what may be in it is left out; that is said, and the revert is over. */
Test(cow_revert, what_may_be_where_nobody_may_look_is_left_out)
{
	char left[64];
	uint64_t s;

	two_dirs();
	snprintf(left, sizeof(left), "%s/left", first);
	s = lose(left);
	cow_file_set_hook(keep_out, NULL);
	cr_assert_eq(revert(s), 0, "%s", told().why);
	cow_file_set_hook(NULL, NULL);
	cr_assert(is_over());
	cr_assert_eq(told().left_out, 1);
	cr_assert(strstr(told().why, first), "%s", told().why);
	cr_assert(live_is(left, "new"));
	look_is(&h, s, left, "mid");
	cr_assert_gt(deed_snapshot(&h), s);
	assert_no_leaks();
}
