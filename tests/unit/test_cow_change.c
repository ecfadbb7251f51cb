/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Each kind of change: what the call below says is what its caller hears, and a change that fails changes nothing, neither live
 * nor in a snapshot (change.h). */
#include <sys/prctl.h>
#include <sys/xattr.h>

#include "cow/file.h"
#include "cow/store_private.h"
#include "tests/support/deeds.h"
#include "tests/support/leaks.h"

static struct harness h;
static uint64_t s;

/* f "file", g "other", d/ with d/in, l -> f; then a snapshot. */
static void setup(void)
{
	cr_assert_eq(harness_init(&h, NULL), 0);
	cr_assert_eq(harness_open(&h), 0, "%s", h.why);
	deed_create(&h, "f", "file");
	deed_create(&h, "g", "other");
	deed_mkdir(&h, "d");
	deed_create(&h, "d/in", "in");
	deed_symlink(&h, "l", "f");
	s = deed_snapshot(&h);
}

static void teardown(void)
{
	harness_done(&h);
}

TestSuite(cow_change, .init = setup, .fini = teardown, .timeout = 60);

static void snapshot_is_whole_with(const char *names)
{
	look_lists(&h, s, "", names);
	look_lists(&h, s, "d", "in ");
	look_is(&h, s, "f", "file");
	look_is(&h, s, "g", "other");
	look_is(&h, s, "d/in", "in");
	cr_expect_eq(harness_drops(&h), 0);
}

static void snapshot_is_whole(void)
{
	snapshot_is_whole_with("d f g l ");
}

static bool is_there(const char *path)
{
	struct stat st;

	return fstatat(h.fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

Test(cow_change, what_exists_already_is_not_made_again)
{
	int r;

	DEED_NAMED(&h, "f", r, cow_create(h.st, at.dir, at.name, O_RDWR, 0644));
	cr_expect_eq(r, -EEXIST);
	DEED_NAMED(&h, "d", r, cow_mkdir(h.st, at.dir, at.name, 0755));
	cr_expect_eq(r, -EEXIST);
	DEED_NAMED(&h, "l", r, cow_symlink(h.st, at.dir, at.name, "x"));
	cr_expect_eq(r, -EEXIST);
	DEED_NAMED(&h, "g", r, cow_mknod(h.st, at.dir, at.name, S_IFIFO | 0600, 0));
	cr_expect_eq(r, -EEXIST);
	snapshot_is_whole();
	assert_no_leaks();
}

Test(cow_change, what_is_not_there_or_of_the_wrong_kind_is_not_removed)
{
	int r;

	cr_expect_eq(deed_try_unlink(&h, "none"), -ENOENT);
	cr_expect_eq(deed_try_unlink(&h, "d"), -EISDIR);
	DEED_NAMED(&h, "d", r, cow_rmdir(h.st, at.dir, at.name));
	cr_expect_eq(r, -ENOTEMPTY);
	DEED_NAMED(&h, "f", r, cow_rmdir(h.st, at.dir, at.name));
	cr_expect_eq(r, -ENOTDIR);
	cr_expect(is_there("d/in") && is_there("f"));
	snapshot_is_whole();
	assert_no_leaks();
}

static int renamed(const char *from, const char *to, unsigned flags)
{
	struct deed_at old = deed_begin(&h, from);
	int r;

	DEED_NAMED(&h, to, r, cow_rename(h.st, old.dir, old.name, at.dir, at.name, flags));
	deed_end(&h, &old);
	return r;
}

Test(cow_change, renames_that_fail_leave_both_names)
{
	cr_expect_eq(renamed("f", "g", RENAME_NOREPLACE), -EEXIST);
	cr_expect_eq(renamed("none", "g", 0), -ENOENT);
	cr_expect_eq(renamed("f", "none", RENAME_EXCHANGE), -ENOENT);
	cr_expect_eq(renamed("f", "d", 0), -EISDIR);
	cr_expect_eq(renamed("d", "d/below", 0), -EINVAL);
	cr_expect_eq(renamed("f", "g", RENAME_WHITEOUT), -EINVAL);
	cr_expect(is_there("f") && is_there("g") && is_there("d/in"));
	snapshot_is_whole();
	assert_no_leaks();
}

Test(cow_change, renames_that_succeed_are_seen_live_alone)
{
	deed_rename(&h, "f", "d/moved", 0);
	deed_rename(&h, "d/in", "g", 0); /* replaces */
	deed_rename(&h, "d", "e", 0);
	deed_rename(&h, "e/moved", "l", RENAME_EXCHANGE);
	cr_expect(is_there("e/moved") && is_there("l") && !is_there("f") && !is_there("d"));
	snapshot_is_whole();
	assert_no_leaks();
}

Test(cow_change, attributes_and_xattrs_are_those_of_the_cut)
{
	struct statx before, now;
	struct timespec tv[2] = { { 1, 2 }, { 3, 4 } };
	int r;

	cr_assert_eq(look_stat(&h, s, "f", &before), 0);
	deed_chmod(&h, "f", 0600);
	DEED_OPENED(&h, "f", O_RDONLY, r, cow_utimens(h.st, ci, fd, tv));
	cr_expect_eq(r, 0);
	cr_expect_eq(deed_setxattr(&h, "f", "user.new", "value"), 0);
	cr_expect_eq(deed_removexattr(&h, "f", "user.none"), -ENODATA);
	cr_assert_eq(look_stat(&h, s, "f", &now), 0);
	cr_expect_eq(now.stx_mode, before.stx_mode);
	cr_expect_eq(memcmp(&now.stx_mtime, &before.stx_mtime, sizeof(now.stx_mtime)), 0);
	cr_expect_eq(memcmp(&now.stx_ctime, &before.stx_ctime, sizeof(now.stx_ctime)), 0);
	snapshot_is_whole();
	assert_no_leaks();
}

Test(cow_change, fallocate_in_its_modes_keeps_what_the_snapshot_sees)
{
	static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_ZERO_RANGE };
	int r;

	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
		DEED_OPENED(&h, "f", O_RDWR, r, cow_fallocate(h.st, ci, fd, modes[i], 0, 8192));
		cr_expect(r == 0 || r == -EOPNOTSUPP, "mode %d: %d", modes[i], r);
	}
	DEED_OPENED(&h, "f", O_RDWR, r, cow_fallocate(h.st, ci, fd, 0, -1, 10));
	cr_expect_eq(r, -EINVAL);
	snapshot_is_whole();
	assert_no_leaks();
}

Test(cow_change, an_inode_of_another_file_system_is_changed_and_never_saved)
{
	struct epoch *e = atomic_load(&h.st->newest);
	uint64_t before = e->log_end;
	int fd = openat(h.fd, "f", O_RDWR);
	ssize_t n;
	int r;

	cr_assert_geq(fd, 0);
	HARNESS_CHANGE(&h, n, cow_write(h.st, NULL, fd, "FILE", 4, 0));
	cr_expect_eq(n, 4);
	HARNESS_CHANGE(&h, r, cow_chmod(h.st, NULL, fd, 0640));
	cr_expect_eq(r, 0);
	close(fd);
	cr_expect_eq(e->log_end, before);
	assert_no_leaks();
}

/* ---- short of memory while something goes into the graveyard ---- */

#define NO_OP ((enum cow_file_op)(COW_OP_OTHER + 1))

/* The nth call of one kind fails with -ENOMEM, those of another all with -EPERM. */
static struct {
	enum cow_file_op short_op, never_op;
	unsigned left;
	bool met;
} shortage;

static int run_short(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	(void)userdata, (void)fd, (void)path, (void)len;
	if (op == shortage.never_op)
		return -EPERM;
	if (op != shortage.short_op || --shortage.left)
		return 0;
	shortage.met = true;
	return -ENOMEM;
}

static void short_at(enum cow_file_op op, unsigned nth, enum cow_file_op never)
{
	shortage.short_op = op;
	shortage.never_op = never;
	shortage.left = nth;
	shortage.met = false;
	cow_file_set_hook(run_short, NULL);
}

/* The change fails, and all is as it was; it can be done later, and the snapshot still has what went. I-4: were it removed for
 * good, its number could come again for something else. */
static void nothing_was_lost(int r)
{
	cow_file_set_hook(NULL, NULL);
	cr_expect_eq(r, -ENOMEM, "%d", r);
	cr_expect(shortage.met);
	cr_expect(is_there("f") && is_there("g") && is_there("empty") && is_there("d/in"));
	snapshot_is_whole_with("d empty f g l ");
}

Test(cow_change, memory_that_is_short_when_a_file_is_removed_fails_that)
{
	deed_mkdir(&h, "empty");
	s = deed_snapshot(&h);
	short_at(COW_OP_RENAME, 1, NO_OP);
	nothing_was_lost(deed_try_unlink(&h, "f"));
	deed_unlink(&h, "f");
	snapshot_is_whole_with("d empty f g l ");
	assert_no_leaks();
}

Test(cow_change, memory_that_is_short_when_a_directory_is_removed_fails_that)
{
	int r;

	deed_mkdir(&h, "empty");
	s = deed_snapshot(&h);
	short_at(COW_OP_RENAME, 1, NO_OP);
	DEED_NAMED(&h, "empty", r, cow_rmdir(h.st, at.dir, at.name));
	nothing_was_lost(r);
	deed_rmdir(&h, "empty");
	snapshot_is_whole_with("d empty f g l ");
	assert_no_leaks();
}

Test(cow_change, memory_that_is_short_when_something_is_replaced_fails_that)
{
	deed_mkdir(&h, "empty");
	s = deed_snapshot(&h);
	short_at(COW_OP_LINK, 1, NO_OP);
	nothing_was_lost(renamed("g", "f", 0));
	short_at(COW_OP_RENAME, 1, COW_OP_LINK); /* the exchange, where there are no hard links */
	nothing_was_lost(renamed("g", "f", 0));
	short_at(COW_OP_RENAME, 2, COW_OP_LINK); /* the burying after it */
	nothing_was_lost(renamed("g", "f", 0));
	short_at(COW_OP_RENAME, 2, NO_OP);
	nothing_was_lost(renamed("d", "empty", 0));
	deed_rename(&h, "g", "f", 0);
	deed_rename(&h, "d", "empty", 0);
	snapshot_is_whole_with("d empty f g l ");
	assert_no_leaks();
}

/* ---- an ordinary user's own directories ---- */

/* From here on this process is nobody's in particular, and so is its store. */
static void as_ordinary_user(void)
{
	harness_done(&h);
	if (geteuid() == 0) {
		cr_assert_eq(setresgid(65534, 65534, 65534), 0);
		cr_assert_eq(setresuid(65534, 65534, 65534), 0);
		prctl(PR_SET_DUMPABLE, 1); /* else /proc/self is root's */
	}
	cr_assert_eq(harness_init(&h, "/tmp"), 0);
	cr_assert_eq(harness_open(&h), 0, "%s", h.why);
	deed_mkdir(&h, "a");
	deed_create(&h, "a/in", "in");
	deed_mkdir(&h, "P");
}

static void mode_of(const char *path, mode_t mode)
{
	cr_assert_eq(fchmodat(h.fd, path, mode, 0), 0);
}

static mode_t look_mode(const char *path)
{
	struct statx sx = { 0 };

	cr_expect_eq(look_stat(&h, s, path, &sx), 0);
	return sx.stx_mode & 07777;
}

/* I-5: below it works, so it works with snapshots; and they stay. */
Test(cow_change, a_directory_replaces_an_empty_one_that_may_not_be_written)
{
	static const mode_t modes[] = { 0500, 0300, 0000 };

	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
		as_ordinary_user();
		deed_mkdir(&h, "P/b");
		deed_mkdir(&h, "full");
		deed_create(&h, "full/in", "in");
		mode_of("P/b", modes[i]);
		mode_of("full", modes[i]);
		s = deed_snapshot(&h);
		cr_expect_eq(renamed("a", "full", 0), -ENOTEMPTY);
		/* the burying, after one exchange or two */
		short_at(COW_OP_RENAME, modes[i] & 0200 ? 2 : 3, NO_OP);
		cr_expect_eq(renamed("a", "P/b", 0), -ENOMEM);
		cow_file_set_hook(NULL, NULL);
		cr_expect(shortage.met && is_there("a/in") && is_there("P/b"));
		cr_expect_eq(renamed("a", "P/b", 0), 0, "mode %o", modes[i]);
		cr_expect(is_there("P/b/in") && !is_there("a"));
		cr_expect_eq(harness_drops(&h), 0);
		look_is(&h, s, "a/in", "in");
		cr_expect_eq(look_mode("P/b"), modes[i]);
		cr_expect_eq(look_mode("full"), modes[i]);
		mode_of("full", 0700);
		cr_expect(is_there("full/in"));
	}
	assert_no_leaks();
}

Test(cow_change, a_directory_of_one_s_own_that_may_not_be_read_is_removed)
{
	struct stat st;
	int r;

	as_ordinary_user();
	deed_mkdir(&h, "P/b");
	mode_of("P/b", 0);
	mode_of("a", 0);
	s = deed_snapshot(&h);
	DEED_NAMED(&h, "a", r, cow_rmdir(h.st, at.dir, at.name));
	cr_expect_eq(r, -ENOTEMPTY);
	cr_assert_eq(fstatat(h.fd, "a", &st, 0), 0);
	cr_expect_eq(st.st_mode & 07777, 0);
	DEED_NAMED(&h, "P/b", r, cow_rmdir(h.st, at.dir, at.name));
	cr_expect_eq(r, 0);
	cr_expect(!is_there("P/b"));
	cr_expect_eq(harness_drops(&h), 0);
	look_lists(&h, s, "P", "b ");
	cr_expect_eq(look_mode("P/b"), 0);
	mode_of("a", 0700);
	cr_expect(is_there("a/in"));
	assert_no_leaks();
}

/* ---- file systems without RENAME_EXCHANGE ---- */

static int no_exchange(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	unsigned *left = userdata;

	(void)fd, (void)path, (void)len;
	return op == COW_OP_RENAME && *left && --*left == 0 ? -EINVAL : 0;
}

/* I-5, F-14 */
Test(cow_change, where_names_cannot_be_exchanged_the_snapshot_goes_and_not_the_rename)
{
	unsigned left = 1;

	deed_mkdir(&h, "empty");
	s = deed_snapshot(&h);
	cow_file_set_hook(no_exchange, &left);
	cr_expect_eq(renamed("d", "empty", 0), 0);
	cow_file_set_hook(NULL, NULL);
	cr_expect(is_there("empty/in") && !is_there("d"));
	cr_expect(harness_dropped(&h, s, NULL));
	assert_no_leaks();
}

Test(cow_change, a_directory_that_would_come_into_itself_costs_no_snapshot)
{
	deed_mkdir(&h, "d/below");
	deed_mkdir(&h, "d/below/empty");
	s = deed_snapshot(&h);
	cr_expect_eq(renamed("d", "d/below/empty", 0), -EINVAL);
	cr_expect_eq(harness_drops(&h), 0);
	look_lists(&h, s, "d/below", "empty ");
	assert_no_leaks();
}
