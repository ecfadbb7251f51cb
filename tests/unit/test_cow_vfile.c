/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file's bytes at an epoch when many clusters are read at once: those side by side in the store come with one read, and
 * what lies between, before or over them still counts (I-4). */
#include "cow/file.h"
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

TestSuite(cow_vfile, .init = setup, .fini = teardown, .timeout = 60);

#define C ((size_t)COW_CLUSTER_SIZE)

enum { CLUSTERS = 32 };

static char buf[CLUSTERS * COW_CLUSTER_SIZE], early[sizeof(buf)];

/* -- words -- */

static void a_file(int value)
{
	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, CLUSTERS * C, value);
}

/* The same while the index has it in memory, and when all is written. */
static void read_at_once(uint64_t epoch)
{
	ssize_t n = look_read(&h, epoch, "f", early, sizeof(early), 0);

	cr_assert_eq(n, (ssize_t)sizeof(early), "%zd bytes", n);
	cr_assert_eq(cow_index_flush(h.st->index), 0);
	n = look_read(&h, epoch, "f", buf, sizeof(buf), 0);
	cr_assert_eq(n, (ssize_t)sizeof(buf), "%zd bytes", n);
	cr_assert_eq(memcmp(buf, early, sizeof(buf)), 0);
}

/* Clusters [from, to) of what was read have this value in all bytes. */
static void has(unsigned from, unsigned to, int value)
{
	for (size_t i = from * C; i < to * C; i++)
		cr_assert_eq(buf[i], (char)value, "byte %zu is %d, not %d", i, buf[i], value);
}

static atomic_uint reads;

static int count_reads(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	(void)userdata;
	(void)fd;
	(void)path;
	(void)len;
	atomic_fetch_add(&reads, op == COW_OP_READ);
	return 0;
}

/* -- runs -- */

/* Also where each cluster has records of older and of newer snapshots. */
Test(cow_vfile, clusters_side_by_side_come_with_one_read)
{
	enum { SNAPSHOTS = 3 };
	uint64_t s[SNAPSHOTS];

	a_file('a');
	for (int i = 0; i < SNAPSHOTS; i++) {
		s[i] = deed_snapshot(&h);
		deed_fill(&h, "f", 0, CLUSTERS * C, 'b' + i);
	}
	for (int i = 0; i < SNAPSHOTS; i++) {
		atomic_store(&reads, 0);
		cow_file_set_hook(count_reads, NULL);
		read_at_once(s[i]);
		cow_file_set_hook(NULL, NULL);
		cr_assert_leq(atomic_load(&reads), 4, "%u reads", atomic_load(&reads));
		has(0, CLUSTERS, 'a' + i);
	}
	assert_no_leaks();
}

/* Side by side in the store is not yet side by side in the file. */
Test(cow_vfile, a_cluster_that_was_left_alone_ends_a_run)
{
	uint64_t s;

	a_file('a');
	for (unsigned i = 0; i < CLUSTERS; i++)
		deed_fill(&h, "f", (off_t)(i * C), C, 'A' + (int)i);
	s = deed_snapshot(&h);
	for (unsigned i = 0; i < CLUSTERS; i += 2)
		deed_fill(&h, "f", (off_t)(i * C), C, 'z');
	read_at_once(s);
	for (unsigned i = 0; i < CLUSTERS; i++)
		has(i, i + 1, 'A' + (int)i);
	assert_no_leaks();
}

/* Every second one is preserved under another label, so no two belong together. */
Test(cow_vfile, clusters_of_two_epochs_are_told_apart)
{
	uint64_t s;

	a_file('a');
	s = deed_snapshot(&h);
	for (unsigned i = 0; i < CLUSTERS; i += 2)
		deed_fill(&h, "f", (off_t)(i * C), C, 'b');
	deed_snapshot(&h);
	deed_fill(&h, "f", 0, CLUSTERS * C, 'c');
	read_at_once(s);
	has(0, CLUSTERS, 'a');
	assert_no_leaks();
}

Test(cow_vfile, what_was_saved_in_another_order_is_put_right)
{
	uint64_t s;

	a_file('a');
	for (unsigned i = 0; i < CLUSTERS; i++)
		deed_fill(&h, "f", (off_t)(i * C), C, 'A' + (int)i);
	s = deed_snapshot(&h);
	for (unsigned i = CLUSTERS; i-- > 0;)
		deed_fill(&h, "f", (off_t)(i * C), C, 'z');
	read_at_once(s);
	for (unsigned i = 0; i < CLUSTERS; i++)
		has(i, i + 1, 'A' + (int)i);
	assert_no_leaks();
}

/* Each cluster under many labels, of which one counts; at the oldest, at the newest and between. */
Test(cow_vfile, each_of_many_snapshots_has_its_own)
{
	enum { SNAPSHOTS = 20 };
	uint64_t s[SNAPSHOTS];

	a_file('a');
	for (int i = 0; i < SNAPSHOTS; i++) {
		s[i] = deed_snapshot(&h);
		deed_fill(&h, "f", 0, CLUSTERS * C, 'b' + i);
	}
	for (int i = 0; i < SNAPSHOTS; i++) {
		read_at_once(s[i]);
		has(0, CLUSTERS, 'a' + i);
	}
	assert_no_leaks();
}

/* A hole of 64 clusters is one record of its own kind. That it came first must show, although each of its clusters was
 * written, and preserved with those around it, in the next epoch. */
Test(cow_vfile, an_older_large_hole_counts_before_what_was_written_into_it)
{
	enum {
		LARGE = 64,
		SIZE = 3 * LARGE,
		FROM = LARGE / 2
	}; /* a run may go no further than 64 */
	uint64_t holes, filled;
	static char all[SIZE * COW_CLUSTER_SIZE];

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, LARGE * C, 'a');
	deed_truncate(&h, "f", SIZE * (off_t)C);
	deed_fill(&h, "f", 2 * LARGE * (off_t)C, LARGE * C, 'c');
	holes = deed_snapshot(&h);
	deed_fill(&h, "f", LARGE * (off_t)C, LARGE * C, 'x');
	filled = deed_snapshot(&h);
	deed_fill(&h, "f", 0, SIZE * C, 'y');
	cr_assert_eq(cow_index_flush(h.st->index), 0);
	cr_assert_eq(look_read(&h, holes, "f", all + FROM * C, sizeof(all) - FROM * C, FROM * C),
		     (ssize_t)(sizeof(all) - FROM * C));
	for (size_t i = FROM * C; i < sizeof(all); i++)
		cr_assert_eq(all[i],
			     i < LARGE * C	 ? 'a'
			     : i < 2 * LARGE * C ? 0
						 : 'c',
			     "byte %zu is %d", i, all[i]);
	cr_assert_eq(look_read(&h, filled, "f", all, sizeof(all), 0), (ssize_t)sizeof(all));
	for (size_t i = LARGE * C; i < 2 * LARGE * C; i++)
		cr_assert_eq(all[i], 'x', "byte %zu is %d", i, all[i]);
	assert_no_leaks();
}

/* The end of the file in the middle of a cluster, and a start in the middle of one. */
Test(cow_vfile, pieces_of_clusters_at_both_ends)
{
	uint64_t s;
	size_t size = 7 * C + 123;

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, size, 'a');
	s = deed_snapshot(&h);
	deed_fill(&h, "f", 0, CLUSTERS * C, 'b');
	for (size_t from = 0; from < 3 * C; from += 1000) {
		memset(buf, 0, sizeof(buf));
		cr_assert_eq(look_read(&h, s, "f", buf, sizeof(buf), (off_t)from),
			     (ssize_t)(size - from));
		for (size_t i = 0; i < size - from; i++)
			cr_assert_eq(buf[i], 'a');
		cr_assert_eq(buf[size - from], 0, "more was written than is there");
	}
	assert_no_leaks();
}

/* -- overtaken (I-1, I-4): a change comes between the look at the store and the read of the live file -- */

static bool overtaken;

static int write_first(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	(void)userdata;
	(void)fd;
	(void)path;
	(void)len;
	if (op == COW_OP_READ && !overtaken) {
		overtaken = true;
		deed_fill(&h, "f", 0, CLUSTERS * C, 'b');
	}
	return 0;
}

static int cut_first(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	(void)userdata;
	(void)fd;
	(void)path;
	(void)len;
	if (op == COW_OP_READ && !overtaken) {
		overtaken = true;
		deed_truncate(&h, "f", 5 * (off_t)C + 1);
	}
	return 0;
}

static void read_overtaken_by(cow_file_hook hook)
{
	uint64_t s;

	a_file('a');
	s = deed_snapshot(&h);
	cow_file_set_hook(hook, NULL);
	read_at_once(s);
	cow_file_set_hook(NULL, NULL);
	cr_assert(overtaken);
	has(0, CLUSTERS, 'a');
	assert_no_leaks();
}

Test(cow_vfile, a_write_that_overtakes_a_read_is_not_seen)
{
	read_overtaken_by(write_first);
}

Test(cow_vfile, a_truncation_that_overtakes_a_read_is_not_seen)
{
	read_overtaken_by(cut_first);
}

/* -- damage (I-4) -- */

Test(cow_vfile, a_damaged_cluster_in_the_middle_is_an_error)
{
	char path[96], byte;
	uint64_t s;
	int fd;

	a_file('a');
	s = deed_snapshot(&h);
	deed_fill(&h, "f", 0, CLUSTERS * C, 'b');
	snprintf(path, sizeof(path), COW_STORE_NAME "/data/%016llx.dat", (unsigned long long)s);
	fd = openat(h.fd, path, O_RDWR | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(pread(fd, &byte, 1, 20 * COW_CLUSTER_SIZE + 77), 1);
	byte ^= 1;
	cr_assert_eq(pwrite(fd, &byte, 1, 20 * COW_CLUSTER_SIZE + 77), 1);
	close(fd);
	cr_assert_eq(look_read(&h, s, "f", buf, sizeof(buf), 0), -EIO);
	look_filled(&h, s, "f", 0, 20 * C, 'a');
	look_filled(&h, s, "f", 21 * COW_CLUSTER_SIZE, (CLUSTERS - 21) * C, 'a');
	assert_no_leaks();
}
