/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Places: an inode is found where it is, where it was before a rename that never came, or in the graveyard - and a
 * record that leads nowhere ends, whatever the others say (I-4: gone rather than wrong; I-6: nobody waits for ever). */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow/epoch.h"
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
	harness_done(&h);
}

TestSuite(cow_place, .init = setup, .fini = teardown, .timeout = 60);

/* -- words -- */

static uint64_t number_of(const char *path) /* "": the directory below */
{
	struct stat st;

	cr_assert_eq(fstatat(h.fd, path, &st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH), 0, "%s", path);
	return st.st_ino;
}

static struct cow_spot spot(uint64_t parent, const char *name)
{
	struct cow_spot s = { .parent = parent };

	snprintf(s.name, sizeof(s.name), "%s", name);
	return s;
}

/* Write a record as a rename does; `before` without a parent: none. */
static void record(uint64_t ino, struct cow_spot now, struct cow_spot before)
{
	int r;

	HARNESS_CHANGE(&h, r,
		       place_moved(h.st, epoch_newest(h.st), ino, &now,
				   before.parent ? &before : NULL));
	cr_assert_eq(r, 0, "place_moved: %d", r);
}

static int found(uint64_t ino)
{
	struct statx sx;
	int fd = place_open(h.st, ino), r;

	if (fd < 0)
		return fd;
	r = cow_file_statx(fd, "", &sx);
	close(fd);
	cr_assert_eq(r, 0);
	cr_assert_eq(sx.stx_ino, ino, "another inode was opened");
	return 0;
}

static const struct cow_spot nowhere;

/* -- where things are -- */

Test(cow_place, what_moved_is_found_where_it_is)
{
	uint64_t f;

	deed_mkdir(&h, "d");
	deed_create(&h, "f", "x");
	f = number_of("f");
	deed_snapshot(&h);
	deed_rename(&h, "f", "d/g", 0);
	cr_assert_eq(found(f), 0);
	deed_rename(&h, "d", "e", 0);
	cr_assert_eq(found(f), 0);
	assert_no_leaks();
}

/* The record is written first (I-3); the process may die before the rename, or the rename be refused. */
Test(cow_place, what_did_not_move_after_all_is_found_where_it_was)
{
	uint64_t f, root;

	deed_create(&h, "f", "x");
	f = number_of("f");
	root = number_of("");
	deed_snapshot(&h);
	record(f, spot(root, "elsewhere"), spot(root, "f"));
	cr_assert_eq(found(f), 0);
	assert_no_leaks();
}

Test(cow_place, a_name_that_means_something_else_by_now_misleads_nobody)
{
	uint64_t f, root;

	deed_create(&h, "f", "x");
	deed_create(&h, "other", "x");
	f = number_of("f");
	root = number_of("");
	deed_snapshot(&h);
	record(f, spot(root, "other"), nowhere);
	cr_assert_eq(found(f), -ENOENT);
	assert_no_leaks();
}

Test(cow_place, what_was_removed_is_found_in_the_graveyard)
{
	uint64_t f;

	deed_create(&h, "f", "x");
	f = number_of("f");
	deed_snapshot(&h);
	deed_unlink(&h, "f");
	cr_assert_eq(found(f), 0);
	assert_no_leaks();
}

/* -- records that lead nowhere -- */

/* Each says that it was, and is, below the other: renames on several threads, or numbers used again, leave such pairs. */
Test(cow_place, directories_that_are_said_to_be_below_each_other_end)
{
	uint64_t a = 1u << 30, b = a + 1, s;

	s = deed_snapshot(&h);
	record(a, spot(b, "x"), spot(b, "y"));
	record(b, spot(a, "x"), spot(a, "y"));
	cr_assert_eq(found(a), -ENOENT);
	cr_assert_eq(found(b), -ENOENT);
	/* and who moves something into one of them is not held up either, while it holds up the gate */
	record(a + 2, spot(a, "z"), spot(b, "z"));
	deed_drop(&h, s);
	assert_no_leaks();
}

/* Two ways for each of many: all of them together would be 2^60. */
Test(cow_place, many_directories_that_were_renamed_in_place_end)
{
	enum { DEEP = 60 };
	uint64_t first = 1u << 30;

	deed_snapshot(&h);
	for (uint64_t i = 0; i < DEEP; i++)
		record(first + i, spot(first + i + 1, "now"), spot(first + i + 1, "before"));
	cr_assert_eq(found(first), -ENOENT);
	assert_no_leaks();
}

/* A circle on one way does not hide the other. */
Test(cow_place, the_way_that_is_no_circle_is_taken)
{
	uint64_t d, root, a = 1u << 30;

	deed_mkdir(&h, "d");
	d = number_of("d");
	root = number_of("");
	deed_snapshot(&h);
	record(a, spot(d, "x"), nowhere);
	record(d, spot(a, "x"), spot(root, "d"));
	cr_assert_eq(found(d), 0);
	assert_no_leaks();
}

/* -- eras: a time without snapshots, when nobody writes moves down, ends what was known before -- */

/* The last snapshot goes while a change of it is under way, and the next one comes before the store was emptied. */
Test(cow_place, what_was_saved_for_a_dropped_snapshot_is_placed_anew_for_the_next)
{
	struct cow_inode *ci;
	struct epoch *e;
	uint64_t f, s;
	int fd;

	deed_create(&h, "f", "x");
	f = number_of("f");
	s = deed_snapshot(&h);
	reclaim_stop(h.st); /* who would empty it is late */
	ci = cow_inode_get(h.st, f);
	fd = openat(h.fd, "f", O_PATH | O_CLOEXEC);
	cr_assert(ci && fd >= 0);
	harness_enter(&h);
	e = epoch_ref(epoch_newest(h.st));
	cr_assert_eq(cow_epoch_drop(h.st, s, false), 0);
	cr_assert_eq(preserve_attr_in(h.st, e, ci, fd), 0);
	harness_leave(&h);
	epoch_unref(e);
	deed_snapshot(&h);
	deed_chmod(&h, "f", 0640);
	cr_assert_eq(found(f), 0, "its place is of another era");
	close(fd);
	cow_inode_put(h.st, ci);
	h.st->stop = false;
	cr_assert_eq(reclaim_start(h.st), 0);
	assert_no_leaks();
}

/* -- after a crash -- */

static pthread_t main_thread;

/* The reclaiming thread gets nowhere, as if the end came before it began. */
static int fail_elsewhere(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	(void)userdata;
	(void)op;
	(void)fd;
	(void)path;
	(void)len;
	return pthread_equal(pthread_self(), main_thread) ? 0 : -EIO;
}

/* b to c is written in the log of the second snapshot; when that is dropped the first one's log goes on, and has c to d. The
 * numbers of the logs do not tell which of the two is the later. */
Test(cow_place, a_crash_after_a_drop_does_not_bring_an_older_place_back)
{
	uint64_t *first = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			       0);
	uint64_t second;
	int status;
	pid_t pid;

	cr_assert(first != MAP_FAILED);
	deed_mkdir(&h, "a");
	deed_create(&h, "a/f", "text");
	cr_assert_eq(harness_close(&h, false), 0);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0) {
		if (harness_open(&h) < 0 || harness_place_all(&h) < 0)
			_exit(1);
		*first = deed_snapshot(&h);
		deed_rename(&h, "a", "b", 0);
		second = deed_snapshot(&h);
		deed_rename(&h, "b", "c", 0);
		main_thread = pthread_self();
		cow_file_set_hook(fail_elsewhere, NULL);
		if (cow_epoch_drop(h.st, second, true) < 0)
			_exit(2);
		deed_rename(&h, "c", "d", 0);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %x", status);
	cr_assert_eq(harness_open(&h), 0, "%s", h.why);
	look_is(&h, *first, "a/f", "text");
	cow_epoch_settle(h.st);
	look_is(&h, *first, "a/f", "text");
	munmap(first, 4096);
	assert_no_leaks();
}
