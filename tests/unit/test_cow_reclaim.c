/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sched.h>
#include <semaphore.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

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

TestSuite(cow_reclaim, .init = setup, .fini = teardown, .timeout = 60);

#define C ((size_t)COW_CLUSTER_SIZE)

/* -- words -- */

static uint64_t used(void)
{
	struct cow_usage u;

	cow_store_usage(h.st, &u);
	return u.used_bytes;
}

/* Blocks that the data files take, in clusters. */
static uint64_t on_disk(void)
{
	uint64_t blocks = 0;
	struct stat st;
	char path[64];

	for (uint64_t id = 0; id < 64; id++) {
		snprintf(path, sizeof(path), COW_STORE_NAME "/data/%016llx.dat",
			 (unsigned long long)id);
		if (fstatat(h.fd, path, &st, 0) == 0)
			blocks += (uint64_t)st.st_blocks;
	}
	return blocks * 512 / C;
}

static int graves(void)
{
	return harness_store_entries(&h, "grave");
}

static uint64_t s[3];

/* Three snapshots; cluster i of "f" is changed after those in which bit k of `changed[i]` is set. Values: 'a' at first, then
 * the letter of the snapshot after which it was written. */
static const unsigned changed[] = { 1, 2, 4, 3, 5, 6, 7, 0 };
enum { CASES = sizeof(changed) / sizeof(*changed) };

static void three_snapshots(void)
{
	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, CASES * C, 'a');
	for (unsigned k = 0; k < 3; k++) {
		s[k] = deed_snapshot(&h);
		for (unsigned i = 0; i < CASES; i++)
			if (changed[i] & 1u << k)
				deed_fill(&h, "f", (off_t)(i * C), C, 'x' + (int)k);
	}
}

static void shows(unsigned k)
{
	for (unsigned i = 0; i < CASES; i++) {
		int value = 'a';

		for (unsigned before = 0; before < k; before++)
			if (changed[i] & 1u << before)
				value = 'x' + (int)before;
		look_filled(&h, s[k], "f", (off_t)(i * C), C, value);
	}
}

/* -- space -- */

/* I-8 */
Test(cow_reclaim, the_oldest_gives_back_all_of_its_own)
{
	three_snapshots();
	cr_assert_eq(used(), 12 * C);
	deed_drop(&h, s[0]);
	cr_assert_eq(used(), 8 * C);
	cr_assert_eq(on_disk(), 8, "%llu clusters", (unsigned long long)on_disk());
	cr_assert_eq(harness_store_entries(&h, "log"), 2);
	cr_assert_eq(harness_store_entries(&h, "data"), 2);
	shows(1);
	shows(2);
	assert_no_leaks();
}

/* I-8 */
Test(cow_reclaim, one_in_the_middle_gives_back_what_no_older_one_needs)
{
	three_snapshots();
	deed_drop(&h, s[1]);
	/* of its four, 2 and 6 are what the first one sees */
	cr_assert_eq(used(), 10 * C, "%llu", (unsigned long long)(used() / C));
	cr_assert_eq(on_disk(), 10, "%llu clusters: the others are punched out",
		     (unsigned long long)on_disk());
	cr_assert_eq(harness_store_entries(&h, "log"), 2);
	shows(0);
	shows(2);
	deed_reopen(&h);
	cr_assert_eq(used(), 10 * C);
	shows(0);
	shows(2);
	assert_no_leaks();
}

Test(cow_reclaim, the_newest_gives_back_what_no_older_one_needs)
{
	three_snapshots();
	deed_drop(&h, s[2]);
	cr_assert_eq(used(), 10 * C, "%llu", (unsigned long long)(used() / C));
	cr_assert_eq(on_disk(), 10);
	shows(0);
	shows(1);
	deed_fill(&h, "f", 0, CASES * C, 'n'); /* and preserving goes on */
	shows(0);
	shows(1);
	assert_no_leaks();
}

Test(cow_reclaim, the_heir_of_an_heir_has_all_that_it_needs)
{
	three_snapshots();
	deed_drop(&h, s[2]);
	deed_drop(&h, s[1]);
	cr_assert_eq(used(), 7 * C, "each changed cluster once");
	cr_assert_eq(on_disk(), 7);
	shows(0);
	deed_reopen(&h);
	cr_assert_eq(used(), 7 * C);
	shows(0);
	deed_drop(&h, s[0]);
	cr_assert_eq(used(), 0);
	cr_assert_eq(harness_store_entries(&h, "data"), 0, "what it had inherited goes with it");
	assert_no_leaks();
}

/* D-13: every older and newer one stays intact */
Test(cow_reclaim, in_every_order_what_is_left_is_right_and_nothing_else_is_kept)
{
	static const unsigned orders[][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 },
					      { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };

	for (unsigned o = 0; o < 6; o++) {
		three_snapshots();
		for (unsigned i = 0; i < 3; i++) {
			/* both at once, or one after the other */
			cr_assert_eq(cow_epoch_drop(h.st, s[orders[o][i]], false), 0);
			if (o % 2)
				cow_epoch_settle(h.st);
			for (unsigned k = i + 1; k < 3; k++)
				shows(orders[o][k]);
		}
		cow_epoch_settle(h.st);
		cr_assert_eq(used(), 0);
		cr_assert_eq(harness_store_entries(&h, "log"), 0);
		cr_assert_eq(harness_store_entries(&h, "data"), 0);
		deed_unlink(&h, "f");
	}
	assert_no_leaks();
}

Test(cow_reclaim, holes_are_inherited_too)
{
	uint64_t a, b;

	deed_create(&h, "f", "");
	deed_truncate(&h, "f", 200 * (off_t)C);
	a = deed_snapshot(&h);
	b = deed_snapshot(&h);
	deed_fill(&h, "f", 0, 200 * C, 'x');
	cr_assert_eq(used(), 0, "holes cost nothing");
	deed_drop(&h, b);
	look_filled(&h, a, "f", 0, 200 * C, 0);
	deed_truncate(&h, "f", 0);
	look_filled(&h, a, "f", 0, 200 * C, 0);
	assert_no_leaks();
}

Test(cow_reclaim, attributes_and_names_are_inherited_too)
{
	struct statx sx;
	uint64_t a, b;

	deed_mkdir(&h, "d");
	deed_create(&h, "d/f", "text");
	a = deed_snapshot(&h);
	b = deed_snapshot(&h);
	deed_chmod(&h, "d/f", 0600);
	deed_rename(&h, "d/f", "d/g", 0);
	deed_create(&h, "d/new", "");
	deed_drop(&h, b);
	look_lists(&h, a, "d", "f ");
	cr_assert_eq(look_up(&h, a, "d/new"), -ENOENT);
	cr_assert_eq(look_stat(&h, a, "d/f", &sx), 0);
	cr_assert_eq(sx.stx_mode & 07777, 0644);
	look_is(&h, a, "d/f", "text");
	assert_no_leaks();
}

/* Where things live is written down once: in the log of a snapshot that may go first. */
Test(cow_reclaim, a_moved_file_is_found_after_the_snapshot_that_wrote_its_place_down_is_gone)
{
	uint64_t a, b;

	deed_mkdir(&h, "d");
	deed_mkdir(&h, "e");
	deed_create(&h, "d/f", "text");
	a = deed_snapshot(&h);
	deed_rename(&h, "d/f", "e/f", 0);
	b = deed_snapshot(&h);
	deed_drop(&h, a);
	deed_rename(&h, "e", "d/e", 0);
	look_is(&h, b, "e/f", "text");
	deed_reopen(&h);
	look_is(&h, b, "e/f", "text");
	assert_no_leaks();
}

Test(cow_reclaim, a_newborn_of_a_dropped_snapshot_is_still_one_for_the_older)
{
	uint64_t a, b;

	a = deed_snapshot(&h);
	b = deed_snapshot(&h);
	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 4 * C, 'a');
	deed_drop(&h, b);
	deed_fill(&h, "f", 0, 4 * C, 'b');
	cr_assert_eq(used(), 0, "nobody sees it");
	cr_assert_eq(look_up(&h, a, "f"), -ENOENT);
	assert_no_leaks();
}

/* -- the graveyard -- */

Test(cow_reclaim, a_removed_file_waits_as_long_as_a_snapshot_knows_it)
{
	uint64_t a, b;

	deed_create(&h, "f", "text");
	a = deed_snapshot(&h);
	b = deed_snapshot(&h);
	deed_unlink(&h, "f");
	cr_assert_eq(graves(), 1);
	deed_drop(&h, b);
	cr_assert_eq(graves(), 1, "the older one needs it");
	look_is(&h, a, "f", "text");
	b = deed_snapshot(&h);
	deed_drop(&h, a);
	cr_assert_eq(graves(), 0, "the newer one does not");
	cr_assert_eq(look_up(&h, b, "f"), -ENOENT);
	assert_no_leaks();
}

Test(cow_reclaim, the_graveyard_is_empty_after_the_last_drop)
{
	deed_mkdir(&h, "d");
	deed_create(&h, "d/f", "text");
	deed_create(&h, "linked", "text");
	deed_link(&h, "linked", "d/other");
	deed_symlink(&h, "d/l", "target");
	s[0] = deed_snapshot(&h);
	deed_unlink(&h, "d/l");
	deed_unlink(&h, "d/f");
	deed_unlink(&h, "d/other");
	deed_rmdir(&h, "d");
	cr_assert_eq(graves(), 4);
	look_is(&h, s[0], "d/other", "text");
	deed_drop(&h, s[0]);
	cr_assert_eq(graves(), 0);
	cr_assert_eq(cow_inode_extra_links(h.st, deed_ino(&h, "linked")), 0);
	deed_reopen(&h);
	cr_assert_eq(graves(), 0);
	assert_no_leaks();
}

Test(cow_reclaim, a_file_replaced_waits_as_one_removed_does)
{
	uint64_t a;

	deed_create(&h, "f", "old");
	deed_create(&h, "g", "new");
	a = deed_snapshot(&h);
	deed_rename(&h, "g", "f", 0);
	cr_assert_eq(graves(), 1);
	look_is(&h, a, "f", "old");
	look_is(&h, a, "g", "new");
	s[1] = deed_snapshot(&h);
	deed_drop(&h, a);
	cr_assert_eq(graves(), 0);
	look_is(&h, s[1], "f", "new");
	assert_no_leaks();
}

/* The graveyard's link of a file that lives on goes: that moves its change time, which newer snapshots must not see. */
Test(cow_reclaim, a_link_that_leaves_the_graveyard_changes_nothing_in_newer_snapshots)
{
	struct statx before, after, live;
	uint64_t a, b;

	deed_create(&h, "one", "text");
	deed_link(&h, "one", "two");
	a = deed_snapshot(&h);
	deed_unlink(&h, "two");
	cr_assert_eq(graves(), 1);
	b = deed_snapshot(&h);
	cr_assert_eq(look_stat(&h, b, "one", &before), 0);
	cr_assert_eq(before.stx_nlink, 1);
	deed_drop(&h, a);
	cr_assert_eq(graves(), 0);
	cr_assert_eq(look_stat(&h, b, "one", &after), 0);
	cr_assert_eq(after.stx_nlink, 1);
	cr_assert(before.stx_ctime.tv_sec == after.stx_ctime.tv_sec &&
		  before.stx_ctime.tv_nsec == after.stx_ctime.tv_nsec);
	cr_assert_eq(statx(h.fd, "one", 0, STATX_BASIC_STATS, &live), 0);
	cr_assert_eq(live.stx_nlink, 1);
	look_is(&h, b, "one", "text");
	cr_assert_eq(look_up(&h, b, "two"), -ENOENT);
	assert_no_leaks();
}

Test(cow_reclaim, a_file_in_the_graveyard_with_two_names_stays_for_the_one_still_known)
{
	uint64_t a, b;

	deed_create(&h, "one", "text");
	a = deed_snapshot(&h);
	deed_link(&h, "one", "two");
	b = deed_snapshot(&h);
	deed_unlink(&h, "one");
	deed_unlink(&h, "two");
	cr_assert_eq(graves(), 1);
	deed_drop(&h, a);
	cr_assert_eq(graves(), 1);
	look_is(&h, b, "one", "text");
	look_is(&h, b, "two", "text");
	deed_drop(&h, b);
	cr_assert_eq(graves(), 0);
	assert_no_leaks();
}

/* -- failures -- */

Test(cow_reclaim, what_fails_is_tried_again_and_meanwhile_nothing_is_wrong)
{
	unsigned n;

	for (n = 1; n < 200; n++) {
		unsigned count;

		three_snapshots();
		fault_fail_nth(FAULT_CHANGES, n, -EIO);
		if (cow_epoch_drop(h.st, s[1], false) == 0)
			cow_epoch_settle(h.st);
		count = fault_count();
		fault_reset();
		shows(0);
		shows(2);
		deed_reopen(&h); /* the last try is at close, then at the next start */
		cow_epoch_settle(h.st);
		shows(0);
		shows(2);
		for (unsigned k = 0; k < 3; k++)
			cow_epoch_drop(h.st, s[k], false);
		cow_epoch_settle(h.st);
		cr_assert_eq(used(), 0, "operation %u: %llu", n, (unsigned long long)used());
		cr_assert_eq(harness_store_entries(&h, "log"), 0, "operation %u", n);
		deed_unlink(&h, "f");
		deed_reopen(&h); /* what nobody owns is swept away */
		cr_assert_eq(harness_store_entries(&h, "data"), 0, "operation %u", n);
		if (count < n)
			break;
	}
	cr_assert(n > 3 && n < 200, "%u operations", n);
	assert_no_leaks();
}

/* -- a power cut -- */

static struct {
	bool control, heir; /* written to, and not synced since */
	char heir_log[32];
	unsigned given_back_early, unlinked_early, unlinked;
} disk;

static const char *file_of(int fd, char buf[PATH_MAX])
{
	char link[40];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, buf, PATH_MAX - 1);
	buf[len < 0 ? 0 : len] = '\0';
	return strrchr(buf, '/') ? strrchr(buf, '/') + 1 : buf;
}

static int watch_disk(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	char buf[PATH_MAX];
	const char *name = op == COW_OP_WRITE || op == COW_OP_SYNC ? file_of(fd, buf) : "";

	(void)userdata;
	(void)len;
	if (strcmp(name, "control.log") == 0)
		disk.control = op == COW_OP_WRITE;
	if (strcmp(name, disk.heir_log) == 0)
		disk.heir = op == COW_OP_WRITE;
	if (op == COW_OP_FALLOCATE && disk.control)
		disk.given_back_early++; /* punched */
	if (op == COW_OP_UNLINK && path && strncmp(path, "log/", 4) == 0) {
		disk.unlinked++;
		disk.unlinked_early += disk.control || disk.heir;
	}
	return 0;
}

/* I-4, I-8: all that a log had is elsewhere on disk, and its end recorded there, before it goes. */
Test(cow_reclaim, what_is_handed_on_is_on_disk_before_its_source_goes)
{
	three_snapshots();
	memset(&disk, 0, sizeof(disk));
	snprintf(disk.heir_log, sizeof(disk.heir_log), "%016llx.log", (unsigned long long)s[0]);
	cow_file_set_hook(watch_disk, NULL);
	deed_drop(&h, s[1]);
	cow_file_set_hook(NULL, NULL);
	cr_assert_eq(disk.unlinked, 1);
	cr_assert_eq(disk.unlinked_early, 0);
	cr_assert_eq(disk.given_back_early, 0);
	shows(0);
	shows(2);
	assert_no_leaks();
}

Test(cow_reclaim, a_thousand_records_are_settled_in_several_batches)
{
	enum { FILES = 40, CLUSTERS = 40 };
	char name[16];
	uint64_t a, b;

	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		deed_create(&h, name, "");
		deed_fill(&h, name, 0, CLUSTERS * C, 'a');
	}
	a = deed_snapshot(&h);
	b = deed_snapshot(&h);
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		for (unsigned c = 0; c < CLUSTERS; c += 1 + i % 2)
			deed_fill(&h, name, (off_t)(c * C), C, 'b');
		if (i % 4 == 0)
			deed_unlink(&h, name);
	}
	deed_drop(&h, b);
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		look_filled(&h, a, name, 0, CLUSTERS * C, 'a');
	}
	cr_assert_eq(used(), (FILES / 2 * CLUSTERS + FILES / 2 * CLUSTERS / 2) * C);
	deed_drop(&h, a);
	cr_assert_eq(used(), 0);
	cr_assert_eq(graves(), 0);
	assert_no_leaks();
}

static int die_at_the_grave(void *userdata, enum cow_file_op op, int fd, const char *path,
			    size_t len)
{
	(void)userdata, (void)path, (void)len;
	if (op == COW_OP_UNLINK && fd == h.st->grave_fd)
		_exit(FAULT_CRASHED);
	return 0;
}

/* What a batch says is settled is not found in the index any more, but may not be buried yet. */
Test(cow_reclaim, killed_between_settling_and_burying_it_is_buried_at_the_next_start)
{
	uint64_t older, newer;
	int status;
	pid_t pid;

	deed_create(&h, "f", "text");
	deed_create(&h, "kept", "kept");
	older = deed_snapshot_of(&h, COW_CTX_NAS_ROLLBACK);
	deed_unlink(&h, "f");
	newer = deed_snapshot_of(&h, COW_CTX_NAS_ROLLBACK);
	deed_unlink(&h, "kept");
	cr_assert_eq(graves(), 2);
	cr_assert_eq(harness_close(&h, false), 0);
	pid = fork();
	if (pid == 0) {
		if (harness_open(&h) == 0) {
			cow_file_set_hook(die_at_the_grave, NULL);
			cow_epoch_drop(h.st, older, true);
			cow_epoch_settle(h.st);
		}
		_exit(1);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == FAULT_CRASHED, "%d", status);
	cr_assert_eq(harness_open(&h), 0);
	cow_epoch_settle(h.st);
	cr_expect_eq(graves(), 1);
	look_is(&h, newer, "kept", "kept");
	assert_no_leaks();
}
/* ---- a full disk ---- */

#define BIG ((size_t)2 << 20)

/* A disk of 16 MiB that is this process's alone and ends with it. */
static void on_a_small_disk(void)
{
	const char *tmp = getenv("TMPDIR");
	char dir[PATH_MAX];

	harness_done(&h);
	snprintf(dir, sizeof(dir), "%s/small", tmp ? tmp : "/tmp");
	cr_assert(mkdir(dir, 0700) == 0 || errno == EEXIST);
	if (unshare(geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("small", dir, "tmpfs", 0, "size=16m,mode=0700") < 0) {
		cr_assert_eq(harness_init(&h, NULL), 0);
		cr_skip_test("no tmpfs can be mounted");
	}
	cr_assert_eq(harness_init(&h, dir), 0);
	cr_assert_eq(harness_open(&h), 0, "%s", h.why);
	h.st->room_wait_ms = 60000;
}

static uint64_t free_bytes(void)
{
	struct statvfs vfs;

	cr_assert_eq(fstatvfs(h.st->below_fd, &vfs), 0);
	return (uint64_t)vfs.f_bavail * vfs.f_frsize;
}

/* Three snapshots, with one removed file each, and no byte left. */
static void fill_disk(uint64_t epochs[3])
{
	CLEANUP(close_p) int fd = -1;
	char name[8], block[4096] = "";

	deed_create(&h, "db", "");
	deed_fill(&h, "db", 0, C, 'd');
	for (unsigned i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		deed_create(&h, name, "");
		deed_fill(&h, name, 0, BIG, 'a' + (int)i);
	}
	for (unsigned i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		epochs[i] = deed_snapshot_of(&h, COW_CTX_NAS_ROLLBACK);
		deed_unlink(&h, name);
	}
	cr_assert_eq(cow_index_flush(h.st->index), 0);
	fd = openat(h.fd, "filler", O_CREAT | O_WRONLY, 0600);
	while (write(fd, block, sizeof(block)) > 0)
		;
	while (write(fd, block, 1) > 0)
		;
	cr_assert_eq(errno, ENOSPC);
	cr_assert_eq(free_bytes(), 0);
}

/* Settling itself needs room: what the snapshot held must come first. */
Test(cow_reclaim, on_a_full_disk_a_dropped_snapshot_gives_back_what_it_held)
{
	uint64_t e[3];

	on_a_small_disk();
	fill_disk(e);
	deed_drop(&h, e[0]);
	cr_expect_geq(free_bytes(), BIG / 2);
	cr_expect_eq(graves(), 2);
	look_filled(&h, e[1], "f1", 0, BIG, 'b');
	look_filled(&h, e[2], "f2", 0, BIG, 'c');
	deed_reopen(&h);
	look_filled(&h, e[1], "f1", 0, BIG, 'b');
	look_filled(&h, e[2], "f2", 0, BIG, 'c');
	assert_no_leaks();
}

/* F-9: one after the other, and none that need not. */
Test(cow_reclaim, on_a_full_disk_a_change_costs_no_more_snapshots_than_make_room_for_it)
{
	uint64_t e[3];

	on_a_small_disk();
	fill_disk(e);
	deed_fill(&h, "db", 0, C, 'D');
	cr_expect_eq(harness_drops(&h), 1);
	look_filled(&h, e[1], "db", 0, C, 'd');
	look_filled(&h, e[1], "f1", 0, BIG, 'b');
	look_filled(&h, e[2], "f2", 0, BIG, 'c');
	assert_no_leaks();
}

static struct {
	int full_fd; /* writes to it find no space, twice */
	unsigned left;
	pthread_t changer;
	sem_t may_go;	     /* the reclaimer waits for it */
	atomic_bool waiting; /* it does */
	int hold;
} crowded;

static int keep_reclaimer_away(void *userdata, enum cow_file_op op, int fd, const char *path,
			       size_t len)
{
	(void)userdata, (void)path, (void)len;
	if (op == COW_OP_SYNC && !pthread_equal(pthread_self(), crowded.changer)) {
		atomic_store(&crowded.waiting, true);
		sem_wait(&crowded.may_go);
		sem_post(&crowded.may_go);
	}
	if (op != COW_OP_WRITE || fd != crowded.full_fd || !crowded.left)
		return 0;
	crowded.left--;
	return -ENOSPC;
}

static void *hold_meanwhile(void *arg)
{
	(void)arg;
	while (!atomic_load(&crowded.waiting))
		sched_yield();
	crowded.hold = cow_gate_hold(h.st, 10000, 10000);
	cow_gate_release(h.st);
	sem_post(&crowded.may_go);
	return NULL;
}

/* T-3: who waits for room inside the gate leaves when somebody wants to close it. */
Test(cow_reclaim, a_change_that_waits_for_room_does_not_hold_up_a_hold)
{
	pthread_t holder;
	struct epoch *e;

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, C, 'a');
	s[0] = deed_snapshot(&h);
	s[1] = deed_snapshot(&h);
	e = epoch_get(h.st, s[1]);
	crowded.full_fd = e->dat_fd;
	epoch_unref(e);
	crowded.left = 2;
	crowded.changer = pthread_self();
	h.st->room_wait_ms = 60000;
	cr_assert_eq(sem_init(&crowded.may_go, 0, 0), 0);
	cow_file_set_hook(keep_reclaimer_away, NULL);
	cr_assert_eq(pthread_create(&holder, NULL, hold_meanwhile, NULL), 0);
	deed_fill(&h, "f", 0, C, 'b');
	pthread_join(holder, NULL);
	cow_file_set_hook(NULL, NULL);
	cr_expect_eq(crowded.hold, 0, "%d", crowded.hold);
	cr_expect_eq(harness_drops(&h), 1);
	look_filled(&h, s[1], "f", 0, C, 'a');
	assert_no_leaks();
}

static int fail_in_trash(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	bool *failed = userdata;

	(void)path, (void)len;
	if (op != COW_OP_UNLINK || fd != h.st->trash_fd || *failed)
		return 0;
	*failed = true;
	return -EIO;
}

/* I-10: a link that is ours does not show, also one that could not be taken away yet. */
Test(cow_reclaim, what_stays_in_the_trash_is_no_link_of_the_user_s)
{
	bool failed = false;
	uint64_t last, ino;
	struct stat st;

	deed_create(&h, "f", "text");
	deed_link(&h, "f", "g");
	ino = deed_ino(&h, "g");
	last = deed_snapshot(&h);
	deed_unlink(&h, "f");
	cow_file_set_hook(fail_in_trash, &failed);
	deed_drop(&h, last);
	cow_file_set_hook(NULL, NULL);
	cr_assert(failed);
	cr_assert_eq(fstatat(h.fd, "g", &st, 0), 0);
	cr_expect_eq(st.st_nlink, 2);
	cr_expect_eq(cow_inode_extra_links(h.st, ino), 1);
	deed_drop(&h, deed_snapshot(&h));
	cr_assert_eq(fstatat(h.fd, "g", &st, 0), 0);
	cr_expect_eq(st.st_nlink, 1);
	cr_expect_eq(cow_inode_extra_links(h.st, ino), 0);
	assert_no_leaks();
}
