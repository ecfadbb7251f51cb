/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a change must save first, and what not: counted in the records and bytes that a change leaves in the log (I-3, I-7). */
#include <sys/xattr.h>

#include "cow/index_private.h"
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

TestSuite(cow_preserve, .init = setup, .fini = teardown, .timeout = 60);

#define C ((size_t)COW_CLUSTER_SIZE)

static uint64_t log_end(void)
{
	struct epoch *e = atomic_load(&h.st->newest);

	return e ? e->log_end : 0;
}

/* Payload bytes under the newest label. */
static uint64_t stored(void)
{
	return atomic_load(&((struct epoch *)atomic_load(&h.st->newest))->stored);
}

Test(cow_preserve, without_a_snapshot_nothing_is_recorded)
{
	deed_create(&h, "f", "text");
	deed_write(&h, "f", 0, "TEXT");
	deed_chmod(&h, "f", 0600);
	deed_unlink(&h, "f");
	cr_expect_eq(log_end(), 0);
	cr_expect_eq(harness_store_entries(&h, "log"), 0);
	cr_expect_eq(harness_store_entries(&h, "grave"), 0);
	assert_no_leaks();
}

/* I-7 */
Test(cow_preserve, the_second_change_of_a_cluster_saves_nothing)
{
	uint64_t s, after_first, bytes;

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 8 * C, 'a');
	s = deed_snapshot(&h);
	deed_fill(&h, "f", (off_t)C, 10, 'b');
	after_first = log_end();
	bytes = stored();
	cr_expect_eq(bytes, C, "one cluster, not the whole file");
	deed_fill(&h, "f", (off_t)C + 100, 10, 'c');
	deed_fill(&h, "f", (off_t)C, C, 'd');
	cr_expect_eq(log_end(), after_first);
	cr_expect_eq(stored(), bytes);
	deed_fill(&h, "f", 2 * (off_t)C - 1, 2, 'e'); /* over the edge: one more */
	cr_expect_eq(stored(), 2 * C);
	look_filled(&h, s, "f", 0, 8 * C, 'a');
	assert_no_leaks();
}

/* I-7 */
Test(cow_preserve, the_old_value_is_saved_once_however_many_snapshots_live)
{
	uint64_t first, last;

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, C, 'a');
	first = deed_snapshot(&h);
	for (unsigned i = 0; i < 10; i++)
		(void)deed_snapshot(&h);
	last = deed_snapshot(&h);
	deed_fill(&h, "f", 0, C, 'b');
	cr_expect_eq(stored(), C);
	look_filled(&h, first, "f", 0, C, 'a');
	look_filled(&h, last, "f", 0, C, 'a');
	assert_no_leaks();
}

Test(cow_preserve, appending_and_what_is_born_later_cost_nothing)
{
	uint64_t s;

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, C, 'a');
	s = deed_snapshot(&h);
	deed_fill(&h, "f", (off_t)C, 4 * C, 'b');
	deed_create(&h, "new", "text");
	deed_write(&h, "new", 0, "TEXT");
	cr_expect_eq(stored(), 0);
	look_filled(&h, s, "f", 0, C, 'a');
	cr_expect_eq(look_up(&h, s, "new"), -ENOENT);
	assert_no_leaks();
}

Test(cow_preserve, a_truncation_saves_what_it_cuts_off)
{
	uint64_t s;

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 4 * C, 'a');
	s = deed_snapshot(&h);
	deed_truncate(&h, "f", (off_t)C + 10);
	cr_expect_eq(stored(), 3 * C, "the cluster that is cut counts whole");
	look_filled(&h, s, "f", 0, 4 * C, 'a');
	assert_no_leaks();
}

Test(cow_preserve, holes_are_saved_without_data)
{
	struct statx sx;
	uint64_t s;

	deed_create(&h, "f", "");
	deed_truncate(&h, "f", (off_t)1 << 30);
	s = deed_snapshot(&h);
	deed_truncate(&h, "f", 0);
	cr_expect_eq(stored(), 0);
	cr_assert_eq(look_stat(&h, s, "f", &sx), 0);
	cr_expect_eq(sx.stx_size, 1u << 30);
	look_filled(&h, s, "f", (off_t)1 << 29, C, 0);
	assert_no_leaks();
}

Test(cow_preserve, removing_a_file_moves_it_and_copies_nothing)
{
	uint64_t s;

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 100 * C, 'a');
	s = deed_snapshot(&h);
	deed_unlink(&h, "f");
	cr_expect_eq(stored(), 0);
	cr_expect_eq(harness_store_entries(&h, "grave"), 1);
	look_filled(&h, s, "f", 0, 100 * C, 'a');
	assert_no_leaks();
}

/* I-3: the change happens after the saving. I-5: when saving fails it happens all the same, and the snapshots that would be
 * wrong are gone (F-14). */
Test(cow_preserve, what_cannot_be_saved_costs_the_snapshots_and_not_the_change)
{
	char now[4] = "";
	enum cow_drop_cause cause;
	uint64_t s;
	int fd;

	deed_create(&h, "f", "old");
	s = deed_snapshot(&h);
	fault_fail_from(FAULT_OP(COW_OP_WRITE), 1, -EIO);
	deed_chmod(&h, "f", 0600);
	fault_reset();
	cr_expect(harness_dropped(&h, s, &cause) && cause == COW_DROP_FAULT);
	cr_expect_eq(look_up(&h, s, "f"), -ENOENT);
	deed_write(&h, "f", 0, "new");
	fd = openat(h.fd, "f", O_RDONLY);
	cr_assert(fd >= 0 && read(fd, now, 3) == 3);
	close(fd);
	cr_expect_str_eq(now, "new");
	assert_no_leaks();
}

/* A name in the index without the way back to it would let go of the inode while the snapshot still shows it (I-4). */
Test(cow_preserve, a_name_is_in_the_index_only_after_the_way_back_to_it)
{
	struct cow_name n = {
		.dir = 5, .target = 7, .seq = 1, .type = DT_REG, .name = "f", .name_len = 1
	};
	struct cow_index *own = h.st->index, *small;
	size_t room = 8 * 4096, big = 128 * 1024;
	uint8_t key[COW_KEY_MAX], buf[512];
	CLEANUP(free_p) char *value = calloc(1, big);
	struct cow_rec rec;
	ssize_t len;

	/* A first entry that its map cannot take: all others wait in memory, until that is full. One more fits. */
	cr_assert_eq(cow_index_open_sized(h.fd, true, 16 * 4096, &small), 0);
	cr_assert_eq(cow_index_put(small, "big", 3, value, big), 0);
	for (uint32_t i = 1; i + 1 < room; i++)
		cr_assert_eq(cow_index_put(small, &i, sizeof(i), "", 0), 0, "%u", i);
	h.st->index = small;
	len = cow_format_name(buf, h.st->seed, 3, &n);
	cr_assert_gt(len, 0);
	rec = cow_format_view(buf, (size_t)len);
	cr_expect_eq(preserve_index(h.st, &rec), -ENOSPC);
	cr_expect_eq(cow_index_get(small, key, cow_key_name(key, 5, "f", 1, 3), NULL), -ENOENT);
	cr_expect(reclaim_has_names(h.st, 7));
	h.st->index = own;
	cow_index_close(small);
	assert_no_leaks();
}

/* ---- more xattrs than a record holds: tmpfs, XFS and btrfs take any number ---- */

#define XATTR_BYTES ((size_t)60000)

static void on_a_file_system_of_many_xattrs(void)
{
	CLEANUP(free_p) char *value = calloc(1, XATTR_BYTES);
	char name[32];
	int fd;

	harness_done(&h);
	if (harness_init(&h, "/dev/shm") < 0) {
		cr_assert_eq(harness_init(&h, NULL), 0);
		cr_skip_test("no /dev/shm");
	}
	cr_assert_eq(harness_open(&h), 0, "%s", h.why);
	deed_create(&h, "f", "text");
	fd = openat(h.fd, "f", O_RDONLY);
	cr_assert_geq(fd, 0);
	cr_expect_eq(fsetxattr(fd, "user.small", "s", 1, 0), 0);
	for (unsigned i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "user.large%u", i);
		if (fsetxattr(fd, name, value, XATTR_BYTES, 0) < 0)
			cr_skip_test("the file system takes no large xattrs");
	}
	close(fd);
}

static ssize_t look_xattr(uint64_t epoch, const char *name)
{
	struct cow_vnode *vn;
	char buf[64];
	ssize_t n;

	cr_assert_eq(look(&h, epoch, "f", &vn), 0);
	n = name ? cow_vnode_getxattr(vn, name, buf, sizeof(buf))
		 : cow_vnode_listxattr(vn, buf, sizeof(buf));
	cow_vnode_put(vn);
	return n;
}

/* How many of the large ones are an error; the others are there. */
static unsigned look_lost(uint64_t epoch)
{
	unsigned lost = 0;
	char name[32];

	for (unsigned i = 0; i < 6; i++) {
		ssize_t n;

		snprintf(name, sizeof(name), "user.large%u", i);
		n = look_xattr(epoch, name);
		cr_expect(n == -EIO || n == -ERANGE, "%s: %zd", name, n);
		lost += n == -EIO;
	}
	return lost;
}

/* Whoever may write one file must not be able to do away with all snapshots by it (I-5); what was not kept is an error, never
 * missing (I-4), and the rest of the file is right. */
Test(cow_preserve, more_xattrs_than_fit_cost_themselves_alone)
{
	struct statx before, then;
	struct stat live;
	uint64_t s[2];
	int fd;

	on_a_file_system_of_many_xattrs();
	s[0] = deed_snapshot(&h);
	s[1] = deed_snapshot(&h);
	cr_assert_eq(look_stat(&h, s[0], "f", &before), 0);
	deed_chmod(&h, "f", 0600);
	deed_write(&h, "f", 0, "TEXT");
	cr_expect_eq(harness_drops(&h), 0);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 2; i++) {
			look_is(&h, s[i], "f", "text");
			cr_assert_eq(look_stat(&h, s[i], "f", &then), 0);
			cr_expect_eq(then.stx_mode, before.stx_mode);
			cr_expect_eq(look_lost(s[i]), 2, "four fit, in whatever order they come");
			cr_expect_eq(look_xattr(s[i], "user.none"), -EIO);
			cr_expect_eq(look_xattr(s[i], NULL), -EIO);
			cr_expect_eq(look_xattr(s[i], "system.posix_acl_access"), -ENODATA,
				     "the kernel asks for it before it opens the file");
		}
		deed_reopen(&h);
	}
	/* A revert does what can be done, and says that it is not all. */
	cr_assert_eq(fstatat(h.fd, "f", &live, 0), 0);
	cr_expect_eq(live.st_mode & 07777, 0600);
	cr_expect_eq(cow_revert(h.st, s[1], false, NULL), -EIO);
	cr_assert_eq(fstatat(h.fd, "f", &live, 0), 0);
	cr_expect_eq(live.st_mode, before.stx_mode);
	fd = openat(h.fd, "f", O_RDONLY);
	cr_expect_eq(flistxattr(fd, NULL, 0), sizeof("user.small") + 6 * sizeof("user.large0"));
	close(fd);
	assert_no_leaks();
}
