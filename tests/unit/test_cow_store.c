/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "cow/base/clock.h"
#include "cow/store_private.h"
#include "tests/support/deeds.h"
#include "tests/support/fault.h"
#include "tests/support/leaks.h"

static struct harness h;
static char elsewhere[PATH_MAX + 8];

static void setup(void)
{
	cr_assert_eq(harness_init(&h, NULL), 0);
	snprintf(elsewhere, sizeof(elsewhere), "%s-store", h.dir);
}

static void teardown(void)
{
	fault_reset();
	harness_done(&h);
	tree_remove(AT_FDCWD, elsewhere);
}

TestSuite(cow_store, .init = setup, .fini = teardown, .timeout = 60);

/* -- words -- */

static void open_store(void)
{
	int r = harness_open(&h);

	cr_assert_eq(r, 0, "open: %d, %s", r, h.why);
}

static void close_store(void)
{
	cr_assert_eq(harness_close(&h, false), 0);
}

/* It must not open, and say so in one line with this in it. */
static void refused(int want, const char *text)
{
	int r = harness_open(&h);

	cr_assert_eq(r, want, "open: %d (%s), not %d", r, h.why, want);
	cr_assert_null(h.st, "written on failure");
	cr_assert(strstr(h.why, text), "\"%s\" does not say \"%s\"", h.why, text);
	cr_assert_null(strchr(h.why, '\n'));
}

static void put_text(const char *path, const char *text)
{
	int fd = openat(h.fd, path, O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC, 0600);

	cr_assert_geq(fd, 0, "%s: %s", path, strerror(errno));
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void get_text(const char *path, char *buf, size_t size)
{
	int fd = openat(h.fd, path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	cr_assert_geq(fd, 0, "%s: %s", path, strerror(errno));
	n = read(fd, buf, size - 1);
	cr_assert_geq(n, 0);
	buf[n] = '\0';
	close(fd);
}

static bool there(const char *path)
{
	struct stat st;

	return fstatat(h.fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

#define FORMAT COW_STORE_NAME "/format"

/* A store with one snapshot in it, closed. */
static uint64_t a_store(void)
{
	uint64_t s;

	open_store();
	deed_create(&h, "f", "old");
	s = deed_snapshot(&h);
	deed_write(&h, "f", 0, "new");
	close_store();
	return s;
}

/* -- format -- */

Test(cow_store, a_new_store_is_private_and_has_an_id_of_its_own)
{
	char first[COW_UUID_LEN + 1], text[512];
	struct stat st;

	open_store();
	cr_assert_eq(strlen(cow_store_tree_id(h.st)), COW_UUID_LEN);
	strcpy(first, cow_store_tree_id(h.st));
	cr_assert_eq(fstatat(h.fd, COW_STORE_NAME, &st, 0), 0);
	cr_assert_eq(st.st_mode, S_IFDIR | 0700);
	get_text(FORMAT, text, sizeof(text));
	cr_assert(strncmp(text, "umbra-store 1\nfeatures:\n", 24) == 0, "%s", text);
	deed_snapshot(&h);
	deed_reopen(&h);
	cr_assert_str_eq(cow_store_tree_id(h.st), first, "the id stays");
	cow_epoch_drop(h.st, 1, true);
	cow_epoch_settle(h.st);
	cr_assert_eq(harness_close(&h, true), 0);
	open_store();
	cr_assert_str_neq(cow_store_tree_id(h.st), first, "a new store has another");
	assert_no_leaks();
}

Test(cow_store, a_newer_version_is_refused_by_its_number)
{
	char text[512], newer[600];
	uint64_t s = a_store();

	get_text(FORMAT, text, sizeof(text));
	snprintf(newer, sizeof(newer), "umbra-store 2%s", text + strlen("umbra-store 1"));
	put_text(FORMAT, newer);
	refused(-EPROTONOSUPPORT, "format 2");
	put_text(FORMAT, "umbra-store 77\nwhat nobody knows yet\n");
	refused(-EPROTONOSUPPORT, "format 77");
	put_text(FORMAT, text);
	open_store();
	look_is(&h, s, "f", "old"); /* the refusals changed nothing */
	assert_no_leaks();
}

Test(cow_store, unknown_features_are_refused_by_name)
{
	char text[512], other[600];
	uint64_t s = a_store();

	get_text(FORMAT, text, sizeof(text));
	snprintf(other, sizeof(other), "umbra-store 1\nfeatures: sharding zstd%s",
		 text + strlen("umbra-store 1\nfeatures:"));
	put_text(FORMAT, other);
	refused(-EPROTONOSUPPORT, "sharding zstd");
	put_text(FORMAT, text);
	open_store();
	look_is(&h, s, "f", "old");
	assert_no_leaks();
}

Test(cow_store, a_damaged_format_is_refused_and_left_as_it_is)
{
	static const char *const damaged[] = {
		"",
		"\n",
		"umbra-store\n",
		"umbra-store x\n",
		"something else\n",
		"umbra-store 1\n",
		"umbra-store 1\nfeatures:\n",
		"umbra-store 1\nfeatures:\ntree: \n",
		"umbra-store 1\nfeatures:\ntree: 00112233-4455-4677-8899-aabbccddeeff\n",
		"umbra-store 1\nfeatures:\ntree: 00112233-4455-4677-8899-aabbccddeeff\nseed: zz\n",
	};
	char text[512], now[512];
	uint64_t s = a_store();

	get_text(FORMAT, text, sizeof(text));
	for (unsigned i = 0; i < sizeof(damaged) / sizeof(*damaged); i++) {
		put_text(FORMAT, damaged[i]);
		refused(-EUCLEAN, "format file");
		get_text(FORMAT, now, sizeof(now));
		cr_assert_str_eq(now, damaged[i]);
	}
	put_text(FORMAT, text);
	open_store();
	look_is(&h, s, "f", "old");
	assert_no_leaks();
}

Test(cow_store, a_format_cut_off_at_any_byte_is_refused)
{
	char text[512], cut[512];
	size_t len;

	open_store();
	close_store();
	get_text(FORMAT, text, sizeof(text));
	len = strlen(text);
	for (size_t n = 0; n < len; n++) {
		snprintf(cut, sizeof(cut), "%.*s", (int)n, text);
		put_text(FORMAT, cut);
		refused(-EUCLEAN, "format file");
	}
	assert_no_leaks();
}

Test(cow_store, with_another_seed_nothing_of_the_log_is_believed)
{
	char text[512];
	uint64_t s = a_store();
	struct cow_view *v;

	get_text(FORMAT, text, sizeof(text));
	memcpy(strstr(text, "seed: "), "seed: 0000000000000001\n", 23);
	put_text(FORMAT, text);
	open_store();
	cr_assert_eq(cow_view_open(h.st, s, true, &v), -ENOENT);
	assert_no_leaks();
}

/* -- whose it is -- */

/* As after cp -a of a directory that is not mounted: the store of this one is that of a directory of its own. */
static void move_into_copy(void)
{
	struct stat old, new;
	char to[sizeof(h.dir)];
	int fd;

	cr_assert_lt(snprintf(to, sizeof(to), "%.*s.copy", (int)sizeof(to) - 6, h.dir),
		     (int)sizeof(to));
	cr_assert_eq(mkdir(to, 0700), 0);
	fd = open(to, O_PATH | O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(renameat(h.fd, COW_STORE_NAME, fd, COW_STORE_NAME), 0);
	cr_assert_eq(fstat(h.fd, &old), 0);
	cr_assert_eq(fstat(fd, &new), 0);
	cr_assert_neq(old.st_ino, new.st_ino);
	tree_remove(AT_FDCWD, h.dir);
	close(h.fd);
	h.fd = fd;
	strcpy(h.dir, to);
}

/* I-4: its inodes are others than those that the records name. */
Test(cow_store, the_snapshots_of_a_copied_directory_are_refused)
{
	open_store();
	deed_snapshot(&h);
	close_store();
	move_into_copy();
	refused(-EUCLEAN, "copy of another directory");
	assert_no_leaks();
}

Test(cow_store, a_copied_directory_without_snapshots_is_one_of_its_own)
{
	char id[COW_UUID_LEN + 1];

	open_store();
	strcpy(id, cow_store_tree_id(h.st));
	close_store();
	open_store();
	cr_assert_str_eq(id, cow_store_tree_id(h.st));
	close_store();
	move_into_copy();
	open_store();
	cr_assert_str_neq(id, cow_store_tree_id(h.st));
	strcpy(id, cow_store_tree_id(h.st));
	deed_create(&h, "f", "old");
	deed_snapshot(&h);
	close_store();
	open_store();
	cr_assert_str_eq(id, cow_store_tree_id(h.st));
	assert_no_leaks();
}

Test(cow_store, a_store_in_use_is_refused)
{
	struct cow_options opt = { .below_fd = h.fd };
	struct cow_store *second = NULL;
	char why[128] = "";

	open_store();
	cr_assert_eq(cow_store_open(&opt, &second, why, sizeof(why)), -EBUSY);
	cr_assert_null(second);
	cr_assert(strstr(why, "in use"), "%s", why);
	opt.store_dir = elsewhere;
	cr_assert_eq(cow_store_open(&opt, &second, why, sizeof(why)), -EBUSY,
		     "its graveyard is in use as well");
	deed_create(&h, "f", "text"); /* the first goes on */
	close_store();
	open_store();
	assert_no_leaks();
}

Test(cow_store, a_store_whose_daemon_was_killed_is_free)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (harness_open(&h) < 0)
			_exit(1);
		_exit(deed_snapshot(&h) == 0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	open_store();
	cr_assert_eq(h.st->n_epochs, 1);
	assert_no_leaks();
}

Test(cow_store, a_store_that_others_may_write_into_is_refused)
{
	static const mode_t modes[] = { 0720, 0702, 0777 };

	a_store();
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(fchmodat(h.fd, COW_STORE_NAME, modes[i], 0), 0);
		refused(-EPERM, COW_STORE_NAME);
		cr_assert_eq(fchmodat(h.fd, COW_STORE_NAME, 0700, 0), 0);
		cr_assert_eq(fchmodat(h.fd, COW_STORE_NAME "/grave", modes[i], 0), 0);
		refused(-EPERM, "grave");
		cr_assert_eq(fchmodat(h.fd, COW_STORE_NAME "/grave", 0700, 0), 0);
	}
	open_store();
	assert_no_leaks();
}

Test(cow_store, a_store_of_somebody_else_is_refused)
{
	if (geteuid() != 0)
		cr_skip_test("only root can give a directory away");
	a_store();
	cr_assert_eq(fchownat(h.fd, COW_STORE_NAME, 1234, (gid_t)-1, 0), 0);
	refused(-EPERM, COW_STORE_NAME);
	cr_assert_eq(fchownat(h.fd, COW_STORE_NAME, 0, (gid_t)-1, 0), 0);
	open_store();
	assert_no_leaks();
}

Test(cow_store, what_only_has_the_name_of_a_store_is_refused)
{
	put_text(COW_STORE_NAME, "a file of the user's");
	refused(-ENOTDIR, COW_STORE_NAME);
	unlinkat(h.fd, COW_STORE_NAME, 0);
	cr_assert_eq(mkdir(elsewhere, 0700), 0);
	cr_assert_eq(symlinkat(elsewhere, h.fd, COW_STORE_NAME), 0);
	cr_assert_lt(harness_open(&h), 0, "a link leads anywhere");
	cr_assert_eq(rmdir(elsewhere), 0, "nothing was put there");
	assert_no_leaks();
}

/* -- elsewhere -- */

Test(cow_store, a_store_elsewhere_leaves_only_the_graveyard_below)
{
	uint64_t s;

	h.store_dir = elsewhere;
	open_store();
	deed_create(&h, "f", "old");
	deed_create(&h, "g", "gone");
	s = deed_snapshot(&h);
	deed_write(&h, "f", 0, "new");
	deed_unlink(&h, "g");
	deed_reopen(&h);
	look_is(&h, s, "f", "old");
	look_is(&h, s, "g", "gone");
	cr_assert(!there(FORMAT) && !there(COW_STORE_NAME "/log") &&
		  !there(COW_STORE_NAME "/data"));
	cr_assert_eq(harness_store_entries(&h, "grave"), 1);
	deed_drop(&h, s);
	cr_assert_eq(harness_close(&h, true), 0);
	cr_assert(!there(COW_STORE_NAME), "the graveyard alone goes");
	cr_assert_eq(access(elsewhere, F_OK), 0);
	open_store();
	assert_no_leaks();
}

Test(cow_store, a_graveyard_with_files_of_another_store_is_refused)
{
	char owner[COW_UUID_LEN + 1];
	uint64_t s;

	h.store_dir = elsewhere;
	open_store();
	strcpy(owner, cow_store_tree_id(h.st));
	deed_create(&h, "g", "gone");
	s = deed_snapshot(&h);
	deed_unlink(&h, "g");
	close_store();
	h.store_dir = NULL;
	refused(-EBUSY, owner);
	h.store_dir = elsewhere;
	open_store();
	look_is(&h, s, "g", "gone"); /* nobody took it for rubbish */
	deed_drop(&h, s);
	close_store();
	h.store_dir = NULL;
	open_store(); /* an empty one may change hands */
	assert_no_leaks();
}

Test(cow_store, a_store_elsewhere_that_others_may_write_into_is_refused)
{
	cr_assert_eq(mkdir(elsewhere, 0700), 0);
	cr_assert_eq(chmod(elsewhere, 0777), 0);
	h.store_dir = elsewhere;
	refused(-EPERM, "store directory");
	assert_no_leaks();
}

Test(cow_store, a_store_in_a_place_that_is_not_there_is_refused)
{
	char deep[PATH_MAX + 32];

	snprintf(deep, sizeof(deep), "%s/no/where", elsewhere);
	h.store_dir = deep;
	refused(-ENOENT, "store directory");
	assert_no_leaks();
}

/* -- coming and going -- */

Test(cow_store, an_empty_store_goes_and_the_directory_is_as_before)
{
	struct timespec tv[2] = { { .tv_sec = 1000000, .tv_nsec = 123456789 },
				  { .tv_sec = 1000001, .tv_nsec = 987654321 } };
	struct stat st;
	uint64_t s;

	put_text("f", "text");
	cr_assert_eq(futimens(openat(h.fd, ".", O_RDONLY | O_CLOEXEC), tv), 0);
	open_store();
	cr_assert_eq(fstat(h.fd, &st), 0);
	cr_assert(st.st_mtim.tv_sec == 1000001 && st.st_mtim.tv_nsec == 987654321,
		  "the store's coming shows");
	s = deed_snapshot(&h);
	deed_chmod(&h, "f", 0600);
	deed_drop(&h, s);
	cr_assert_eq(harness_close(&h, true), 0);
	cr_assert(!there(COW_STORE_NAME));
	cr_assert_eq(fstat(h.fd, &st), 0);
	cr_assert(st.st_mtim.tv_sec == 1000001 && st.st_mtim.tv_nsec == 987654321,
		  "the store's going shows");
	assert_no_leaks();
}

Test(cow_store, a_store_with_snapshots_stays_whatever_is_said)
{
	uint64_t s;

	open_store();
	deed_create(&h, "f", "old");
	s = deed_snapshot(&h);
	deed_write(&h, "f", 0, "new");
	cr_assert_eq(harness_close(&h, true), 0);
	cr_assert(there(FORMAT));
	open_store();
	look_is(&h, s, "f", "old");
	assert_no_leaks();
}

Test(cow_store, an_empty_store_stays_when_not_told_to_go)
{
	open_store();
	close_store();
	cr_assert(there(FORMAT));
	open_store();
	assert_no_leaks();
}

/* Each operation of making a store fails once: it is refused, and the next try finds nothing that hinders. */
Test(cow_store, an_opening_that_fails_anywhere_can_be_done_again)
{
	unsigned n = 1;

	for (;; n++) {
		int r;

		fault_fail_nth(FAULT_CHANGES & ~FAULT_OP(COW_OP_FALLOCATE) & ~FAULT_OP(COW_OP_ATTR),
			       n, -EIO);
		r = harness_open(&h);
		if (fault_count() < n) {
			cr_assert_eq(r, 0, "%d", r);
			break;
		}
		fault_reset();
		if (r < 0)
			cr_assert(h.why[0], "operation %u says nothing", n);
		else
			harness_close(&h, false);
		cr_assert_eq(harness_open(&h), 0, "after operation %u: %s", n, h.why);
		deed_create(&h, "f", "text");
		deed_drop(&h, deed_snapshot(&h));
		deed_unlink(&h, "f");
		cr_assert_eq(harness_close(&h, true), 0);
	}
	cr_assert_gt(n, 8, "%u operations", n);
	fault_reset();
	assert_no_leaks();
}

Test(cow_store, why_it_failed_fits_a_buffer_of_any_size)
{
	struct cow_options opt = { .below_fd = h.fd };
	struct cow_store *st = NULL;
	char why[64];

	put_text(COW_STORE_NAME, "in the way");
	for (size_t size = 0; size < sizeof(why); size++) {
		memset(why, 'x', sizeof(why));
		cr_assert_eq(cow_store_open(&opt, &st, why, size), -ENOTDIR);
		for (size_t i = size; i < sizeof(why); i++)
			cr_assert_eq(why[i], 'x', "written beyond %zu", size);
		cr_assert(!size || memchr(why, '\0', size));
	}
	assert_no_leaks();
}

/* -- what a dead daemon left -- */

static struct cow_snapshot named(const char *name)
{
	struct cow_snapshot s = { .context = COW_CTX_CLIENT_ACCESSIBLE, .in_set = 1 };

	snprintf(s.id, sizeof(s.id), "%08x-0000-4000-8000-00000000000%c", (unsigned)strlen(name),
		 name[0]);
	snprintf(s.name, sizeof(s.name), "%s", name);
	return s;
}

Test(cow_store, an_unfinished_snapshot_is_dropped_at_the_next_start_and_reported)
{
	struct cow_snapshot s = named("unfinished");
	enum cow_drop_cause cause;
	uint64_t epoch = 0, before, after;

	open_store();
	deed_create(&h, "f", "one");
	before = deed_snapshot(&h);
	deed_write(&h, "f", 0, "two");
	cr_assert_eq(cow_gate_hold(h.st, 10000, 10000), 0);
	cr_assert_eq(cow_epoch_open(h.st, &s, &epoch), 0);
	cr_assert_eq(cow_gate_release(h.st), 0);
	deed_write(&h, "f", 0, "333");
	after = deed_snapshot(&h);
	deed_write(&h, "f", 0, "444");
	deed_reopen(&h);
	cr_assert_eq(harness_drops(&h), 1);
	cr_assert(harness_dropped(&h, epoch, &cause));
	cr_assert_eq(cause, COW_DROP_UNFINISHED);
	look_is(&h, before, "f", "one");
	look_is(&h, after, "f", "333");
	cow_epoch_settle(h.st);
	look_is(&h, before, "f", "one");
	look_is(&h, after, "f", "333");
	deed_reopen(&h);
	cr_assert_eq(harness_drops(&h), 1, "reported once");
	assert_no_leaks();
}

Test(cow_store, an_epoch_without_its_log_is_dead_and_so_are_the_older_ones)
{
	enum cow_drop_cause cause;
	uint64_t a, b, c;
	char path[64];

	open_store();
	deed_create(&h, "f", "one");
	a = deed_snapshot(&h);
	b = deed_snapshot(&h);
	deed_write(&h, "f", 0, "two");
	c = deed_snapshot(&h);
	deed_write(&h, "f", 0, "333");
	close_store();
	snprintf(path, sizeof(path), COW_STORE_NAME "/log/%016llx.log", (unsigned long long)b);
	cr_assert_eq(unlinkat(h.fd, path, 0), 0);
	open_store();
	cr_assert(harness_dropped(&h, a, &cause) && cause == COW_DROP_FULL);
	cr_assert(harness_dropped(&h, b, &cause) && cause == COW_DROP_FULL);
	cr_assert_eq(harness_drops(&h), 2);
	look_is(&h, c, "f", "two");
	assert_no_leaks();
}

Test(cow_store, files_of_no_epoch_are_swept_away_at_start)
{
	uint64_t s = a_store();
	int logs, data;

	open_store();
	close_store();
	put_text(COW_STORE_NAME "/log/00000000deadbeef.log", "left by a crash");
	put_text(COW_STORE_NAME "/data/00000000deadbeef.dat", "left by a crash");
	open_store();
	logs = harness_store_entries(&h, "log");
	data = harness_store_entries(&h, "data");
	cr_assert(!there(COW_STORE_NAME "/log/00000000deadbeef.log"));
	cr_assert(!there(COW_STORE_NAME "/data/00000000deadbeef.dat"));
	cr_assert(logs >= 1 && data >= 1);
	look_is(&h, s, "f", "old");
	assert_no_leaks();
}

Test(cow_store, a_log_with_rubbish_at_its_end_is_good_up_to_there)
{
	uint64_t s = a_store();
	char path[64];
	int fd;

	snprintf(path, sizeof(path), COW_STORE_NAME "/log/%016llx.log", (unsigned long long)s);
	fd = openat(h.fd, path, O_WRONLY | O_APPEND | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, "UMBRthis is no record at all, although it starts as one", 55), 55);
	close(fd);
	fd = openat(h.fd, COW_STORE_NAME "/control.log", O_WRONLY | O_APPEND | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, "UMBR", 4), 4);
	close(fd);
	open_store();
	look_is(&h, s, "f", "old");
	deed_reopen(&h);
	look_is(&h, s, "f", "old");
	assert_no_leaks();
}

Test(cow_store, an_index_that_is_gone_is_made_anew_from_the_logs)
{
	uint64_t s = a_store();

	cr_assert_eq(tree_remove(openat(h.fd, COW_STORE_NAME, O_RDONLY | O_CLOEXEC), "index"), 0);
	open_store();
	look_is(&h, s, "f", "old");
	assert_no_leaks();
}

/* D-14, F-15 */
Test(cow_store, after_another_boot_only_the_persistent_are_kept_unless_it_ended_cleanly)
{
	enum cow_drop_cause cause;
	uint64_t kept, gone;
	pid_t pid;
	int status;

	/* a clean end: both stay, whatever the boot */
	open_store();
	kept = deed_snapshot_of(&h, COW_CTX_APP_ROLLBACK);
	gone = deed_snapshot_of(&h, COW_CTX_BACKUP);
	memset(h.st->boot_id, 'a', COW_UUID_LEN);
	close_store();
	pid = fork();
	if (pid == 0) { /* the next one dies, in yet another boot */
		struct cow_control c = { .epoch = 0 };

		if (harness_open(&h) < 0 || harness_drops(&h))
			_exit(1);
		memset(c.boot_id, 'b', COW_UUID_LEN);
		c.epoch = h.st->next_epoch;
		_exit(epochfile_control(h.st, COW_REC_SESSION, &c) < 0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	open_store();
	cr_assert_eq(harness_drops(&h), 1);
	cr_assert(harness_dropped(&h, gone, &cause) && cause == COW_DROP_BOOT);
	cr_assert_eq(look_up(&h, kept, ""), 0);
	assert_no_leaks();
}

/* Two snapshots, and a file changed between that session and the next. */
static void two_sessions(uint64_t s[2])
{
	CLEANUP(close_p) int fd = -1;

	cr_assert_eq(harness_init(&h, NULL), 0);
	open_store();
	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 2 * COW_CLUSTER_SIZE, 'a');
	s[0] = deed_snapshot_of(&h, COW_CTX_APP_ROLLBACK);
	s[1] = deed_snapshot_of(&h, COW_CTX_APP_ROLLBACK);
	close_store();
	fd = openat(h.fd, "f", O_WRONLY | O_CLOEXEC);
	cr_assert_eq(pwrite(fd, "OFFLINE", 7, 0), 7);
}

/* I-4: none of them shows what came after its session, also when this one changes it once more. */
static void never_offline(const uint64_t s[2], const char *how, unsigned n)
{
	char buf[16];
	int r;

	for (unsigned i = 0; i < 4; i++) {
		if (i == 2)
			deed_fill(&h, "f", 0, COW_CLUSTER_SIZE, 'b');
		if (harness_dropped(&h, s[i % 2], NULL))
			continue;
		r = look_read(&h, s[i % 2], "f", buf, sizeof(buf), 0);
		cr_assert_eq(r, -ESTALE, "%s at operation %u: %d", how, n, r);
	}
}

/* I-4 */
Test(cow_store, a_start_that_was_killed_does_not_mix_two_sessions)
{
	bool through = false;
	uint64_t s[2];
	int status;
	pid_t pid;

	harness_done(&h);
	for (unsigned n = 1; !through; n++) {
		two_sessions(s);
		pid = fork();
		if (pid == 0) {
			fault_crash_nth(n);
			_exit(harness_open(&h) < 0 ? 1 : 0);
		}
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		through = WIFEXITED(status) && WEXITSTATUS(status) == 0;
		cr_assert(through || WEXITSTATUS(status) == FAULT_CRASHED);
		open_store();
		never_offline(s, "killed", n);
		harness_done(&h);
	}
	cr_assert_eq(harness_init(&h, NULL), 0);
	assert_no_leaks();
}

/* I-4, I-5 */
Test(cow_store, a_start_that_finds_the_disk_full_does_not_mix_two_sessions)
{
	unsigned made_room = 0;
	bool through = false;
	uint64_t s[2];

	harness_done(&h);
	for (unsigned n = 1; !through; n++) {
		two_sessions(s);
		fault_fail_nth(FAULT_CHANGES, n, -ENOSPC);
		if (harness_open(&h) == 0 && harness_drops(&h)) {
			made_room++;
			cr_assert_eq(harness_drops(&h), 1);
			cr_assert(harness_dropped(&h, s[0], NULL), "the oldest");
		}
		through = fault_count() < n;
		fault_reset();
		if (!h.st)
			open_store();
		never_offline(s, "no space", n);
		harness_done(&h);
	}
	cr_assert_gt(made_room, 0, "the oldest snapshot makes room for a start");
	cr_assert_eq(harness_init(&h, NULL), 0);
	assert_no_leaks();
}

static struct {
	unsigned long long dat;
	bool synced;
} looked_for;

static int see_sync(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	char name[64], at[PATH_MAX] = "", wanted[64];

	(void)userdata;
	(void)path;
	(void)len;
	if (op != COW_OP_SYNC)
		return 0;
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	snprintf(wanted, sizeof(wanted), "/data/%016llx.dat", looked_for.dat);
	if (readlink(name, at, sizeof(at) - 1) > 0 && strstr(at, wanted))
		looked_for.synced = true;
	return 0;
}

Test(cow_store, a_close_puts_on_disk_what_was_taken_over_from_dropped_snapshots)
{
	uint64_t middle;

	open_store();
	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 2 * COW_CLUSTER_SIZE, 'a');
	deed_snapshot_of(&h, COW_CTX_APP_ROLLBACK);
	middle = deed_snapshot_of(&h, COW_CTX_APP_ROLLBACK);
	deed_fill(&h, "f", 0, COW_CLUSTER_SIZE, 'b');
	deed_snapshot_of(&h, COW_CTX_APP_ROLLBACK);
	deed_drop(&h, middle);
	cow_epoch_settle(h.st);
	looked_for.dat = middle;
	looked_for.synced = false;
	cow_file_set_hook(see_sync, NULL);
	close_store();
	cow_file_set_hook(NULL, NULL);
	cr_assert(looked_for.synced);
	assert_no_leaks();
}

/* F-15; and I-4 as ever */
Test(cow_store, a_close_that_could_not_put_all_on_disk_is_no_clean_end)
{
	unsigned failed = 0, closes = 0;
	enum cow_drop_cause cause;
	bool through = false;
	char buf[16];

	harness_done(&h);
	for (unsigned n = 1; !through; n++) {
		CLEANUP(close_p) int fd = -1;
		uint64_t kept, gone;
		int r;

		cr_assert_eq(harness_init(&h, NULL), 0);
		open_store();
		deed_create(&h, "f", "text");
		kept = deed_snapshot_of(&h, COW_CTX_APP_ROLLBACK);
		gone = deed_snapshot_of(&h, COW_CTX_BACKUP);
		/* this session is of an earlier boot */
		memset(h.st->boot_id, 'a', COW_UUID_LEN);
		fault_fail_nth(FAULT_OP(COW_OP_SYNC), n, -EIO);
		r = harness_close(&h, false);
		through = fault_count() < n;
		fault_reset();
		cr_assert_eq(r, through ? 0 : -EIO, "%u: %d", n, r);
		fd = openat(h.fd, "f", O_WRONLY | O_CLOEXEC);
		cr_assert_eq(pwrite(fd, "TEXT", 4, 0), 4);
		open_store();
		closes++;
		if (harness_dropped(&h, gone, &cause)) {
			cr_assert_eq(cause, COW_DROP_BOOT);
			failed++;
		}
		cr_assert_eq(look_read(&h, kept, "f", buf, sizeof(buf), 0), -ESTALE, "%u", n);
		deed_write(&h, "f", 0, "more");
		cr_assert_eq(look_read(&h, kept, "f", buf, sizeof(buf), 0), -ESTALE, "%u", n);
		harness_done(&h);
	}
	cr_assert_eq(failed, closes - 1, "%u of %u", failed, closes);
	cr_assert_geq(failed, 3);
	cr_assert_eq(harness_init(&h, NULL), 0);
	assert_no_leaks();
}

/* -- numbers -- */

static struct cow_usage usage(void)
{
	struct cow_usage u;

	cow_store_usage(h.st, &u);
	cr_assert_geq(u.allocated_bytes, u.used_bytes);
	return u;
}

/* F-8 */
Test(cow_store, usage_counts_what_is_preserved_and_what_it_takes)
{
	struct cow_usage u;
	uint64_t a, b;

	h.max_bytes = 100 << 20;
	open_store();
	u = usage();
	cr_assert(u.used_bytes == 0 && u.max_bytes == 100 << 20);
	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 100 * COW_CLUSTER_SIZE, 'a');
	cr_assert_eq(usage().used_bytes, 0, "without a snapshot nothing is preserved");
	a = deed_snapshot(&h);
	deed_fill(&h, "f", 0, 10 * COW_CLUSTER_SIZE, 'b');
	cr_assert_eq(usage().used_bytes, 10 * COW_CLUSTER_SIZE);
	deed_fill(&h, "f", 5 * COW_CLUSTER_SIZE, 10 * COW_CLUSTER_SIZE, 'c');
	cr_assert_eq(usage().used_bytes, 15 * COW_CLUSTER_SIZE, "only what was not yet");
	deed_fill(&h, "f", 100 * COW_CLUSTER_SIZE, 50 * COW_CLUSTER_SIZE, 'd');
	cr_assert_eq(usage().used_bytes, 15 * COW_CLUSTER_SIZE, "appending costs nothing");
	b = deed_snapshot(&h);
	deed_fill(&h, "f", 0, 10 * COW_CLUSTER_SIZE, 'e');
	cr_assert_eq(usage().used_bytes, 25 * COW_CLUSTER_SIZE);
	deed_reopen(&h);
	cr_assert_eq(usage().used_bytes, 25 * COW_CLUSTER_SIZE, "%llu after a restart",
		     (unsigned long long)usage().used_bytes);
	deed_drop(&h, a);
	cr_assert_eq(usage().used_bytes, 10 * COW_CLUSTER_SIZE);
	deed_drop(&h, b);
	cr_assert_eq(usage().used_bytes, 0);
	assert_no_leaks();
}

/* F-9 */
Test(cow_store, at_its_maximum_the_oldest_snapshots_go_and_are_reported)
{
	enum cow_drop_cause cause;
	uint64_t s[4];

	h.max_bytes = 25 * COW_CLUSTER_SIZE;
	open_store();
	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 10 * COW_CLUSTER_SIZE, 'a');
	for (unsigned i = 0; i < 4; i++) {
		s[i] = deed_snapshot(&h);
		deed_fill(&h, "f", 0, 10 * COW_CLUSTER_SIZE, 'b' + (int)i);
		cow_epoch_settle(h.st);
		cr_assert_leq(usage().used_bytes, h.max_bytes);
	}
	cr_assert_eq(harness_drops(&h), 2, "%zu dropped", harness_drops(&h));
	cr_assert(harness_dropped(&h, s[0], &cause) && cause == COW_DROP_FULL);
	cr_assert(harness_dropped(&h, s[1], &cause) && cause == COW_DROP_FULL);
	look_filled(&h, s[2], "f", 0, 10 * COW_CLUSTER_SIZE, 'c');
	look_filled(&h, s[3], "f", 0, 10 * COW_CLUSTER_SIZE, 'd');
	assert_no_leaks();
}

/* -- upper and lower case (F-3) -- */

/* Such a file system may not be at hand: a bind mount gives the store's directory its second spelling. */
Test(cow_store, a_directory_that_ignores_case_is_refused)
{
	char a[PATH_MAX + 16], b[PATH_MAX + 16];

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		cr_skip_test("no mounts of one's own: %s", strerror(errno));
	harness_done(&h);
	cr_assert_eq(harness_init(&h, NULL), 0);
	snprintf(a, sizeof(a), "%s/" COW_STORE_NAME, h.dir);
	snprintf(b, sizeof(b), "%s/.UMBRA", h.dir);
	cr_assert_eq(mkdir(a, 0700), 0);
	cr_assert_eq(mkdir(b, 0700), 0);
	cr_assert_eq(mount(a, b, NULL, MS_BIND, NULL), 0);
	cr_assert_eq(harness_open(&h), -EOPNOTSUPP);
	cr_assert(strstr(h.why, "upper and lower case"), "%s", h.why);
	cr_assert_eq(umount2(b, MNT_DETACH), 0);
	cr_assert_eq(harness_open(&h), 0, "two directories that only look alike: %s", h.why);
	assert_no_leaks();
}
