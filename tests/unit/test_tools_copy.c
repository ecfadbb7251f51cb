#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "tests/support/leaks.h"
#include "tools/copy_private.h"
#include "tools/walk.h"

static char here[] = "/var/tmp/test_tools_copy.XXXXXX";

static void enter(void)
{
	cr_assert_not_null(mkdtemp(here));
	cr_assert_eq(chdir(here), 0);
}

static void leave(void)
{
	char command[100];

	if (chdir("/") < 0)
		return;
	snprintf(command, sizeof(command), "rm -rf %s", here);
	if (system(command) != 0)
		fprintf(stderr, "left behind: %s\n", here);
}

static void write_at(const char *name, const char *text, off_t at)
{
	CLEANUP(close_p) int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	cr_assert_eq(pwrite(fd, text, strlen(text), at), (ssize_t)strlen(text));
}

static void copies(const char *from, const char *to, int want)
{
	CLEANUP(close_p) int fd = open(from, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	struct copy_source src = { .dir_fd = AT_FDCWD, .name = from, .fd = fd, .st = &st };
	int r;

	cr_assert_eq(fstatat(fd, "", &st, AT_EMPTY_PATH), 0);
	r = copy_replace(&src, AT_FDCWD, to, NULL, NULL, NULL);
	cr_assert_eq(r, want, "%s -> %s: %d", from, to, r);
}

static void same_stat(const char *a, const char *b)
{
	struct stat x, y;

	cr_assert_eq(lstat(a, &x), 0);
	cr_assert_eq(lstat(b, &y), 0);
	cr_expect_eq(x.st_mode, y.st_mode);
	cr_expect_eq(x.st_uid, y.st_uid);
	cr_expect_eq(x.st_gid, y.st_gid);
	cr_expect_eq(x.st_rdev, y.st_rdev);
	if (!S_ISDIR(x.st_mode))
		cr_expect_eq(x.st_size, y.st_size);
	cr_expect_eq(x.st_mtim.tv_sec, y.st_mtim.tv_sec);
	cr_expect_eq(x.st_mtim.tv_nsec, y.st_mtim.tv_nsec);
}

/* Only the names that the test made: nothing temporary stays. */
static unsigned entries(void)
{
	CLEANUP(closedir_p) DIR *d = opendir(".");
	unsigned n = 0;

	while (readdir(d))
		n++;
	return n - 2;
}

Test(tools_copy, replaces_a_file_with_all_that_belongs_to_it, .init = enter, .fini = leave)
{
	struct timespec times[2] = { { .tv_sec = 1000, .tv_nsec = 7 },
				     { .tv_sec = 2000, .tv_nsec = 123456789 } };
	char value[8] = "";

	write_at("a", "start", 0);
	write_at("a", "end", 8 << 20);
	write_at("b", "what was there before, and longer", 0);
	cr_assert_eq(chmod("a", 04751), 0);
	if (setxattr("a", "user.x", "value", 5, 0) == 0)
		cr_assert_eq(setxattr("b", "user.old", "1", 1, 0), 0);
	cr_assert_eq(utimensat(AT_FDCWD, "a", times, 0), 0);
	copies("a", "b", 0);
	same_stat("a", "b");
	cr_expect_eq(system("cmp a b"), 0);
	if (getxattr("a", "user.x", value, sizeof(value)) == 5)
		cr_expect_eq(getxattr("b", "user.x", value, sizeof(value)), 5);
	cr_expect_lt(getxattr("b", "user.old", value, sizeof(value)), 0);
	cr_expect_eq(entries(), 2);
	assert_no_leaks();
}

Test(tools_copy, keeps_holes, .init = enter, .fini = leave)
{
	struct stat st;

	write_at("a", "x", 64 << 20);
	copies("a", "b", 0);
	cr_assert_eq(stat("b", &st), 0);
	cr_expect_eq(st.st_size, (64 << 20) + 1);
	cr_expect_lt(st.st_blocks, 2048, "%ld blocks", (long)st.st_blocks);
	assert_no_leaks();
}

Test(tools_copy, copies_what_is_no_file, .init = enter, .fini = leave)
{
	cr_assert_eq(symlink("nowhere", "link"), 0);
	cr_assert_eq(mkfifo("fifo", 0620), 0);
	copies("link", "link2", 0);
	copies("fifo", "fifo2", 0);
	same_stat("link", "link2");
	same_stat("fifo", "fifo2");
	cr_expect_eq(entries(), 4);
	assert_no_leaks();
}

Test(tools_copy, a_directory_stays_and_nothing_is_left, .init = enter, .fini = leave)
{
	write_at("a", "x", 0);
	cr_assert_eq(mkdir("d", 0700), 0);
	copies("a", "d", -EISDIR);
	cr_expect_eq(entries(), 2);
	assert_no_leaks();
}

Test(tools_copy, links_over_another_name_of_the_same_file, .init = enter, .fini = leave)
{
	CLEANUP(close_p) int fd = -1;
	struct stat x, y;

	write_at("a", "x", 0);
	write_at("b", "y", 0);
	fd = open("a", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	cr_assert_eq(copy_link(fd, AT_FDCWD, "b"), 0);
	cr_assert_eq(copy_link(fd, AT_FDCWD, "b"), 0);
	cr_assert_eq(stat("a", &x), 0);
	cr_assert_eq(stat("b", &y), 0);
	cr_expect_eq(x.st_ino, y.st_ino);
	cr_expect_eq(x.st_nlink, 2);
	cr_expect_eq(entries(), 2);
	assert_no_leaks();
}

Test(tools_copy, links_what_is_open_and_not_what_has_its_name, .init = enter, .fini = leave)
{
	CLEANUP(close_p) int fd = -1;
	struct stat x, y;

	cr_assert_eq(symlink("nowhere", "a"), 0);
	fd = open("a", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	cr_assert_eq(rename("a", "moved"), 0);
	write_at("a", "another", 0);
	cr_assert_eq(copy_link(fd, AT_FDCWD, "b"), 0);
	cr_assert_eq(lstat("moved", &x), 0);
	cr_assert_eq(lstat("b", &y), 0);
	cr_expect_eq(x.st_ino, y.st_ino);
	assert_no_leaks();
}

static void directory_is(const char *in, const char *name, int want)
{
	CLEANUP(close_p) int dir = open(in, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(close_p) int fd = -1;
	struct stat st, there;
	int r = copy_directory(dir, name, &fd);

	cr_assert_eq(r, want, "%s in %s: %d", name, in, r);
	if (r < 0)
		return;
	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq(fstatat(dir, name, &there, AT_SYMLINK_NOFOLLOW), 0);
	cr_expect_eq(st.st_ino, there.st_ino);
	cr_expect_eq(st.st_mode & 07777, r == 1 ? 0700 : 0750);
}

Test(tools_copy, makes_a_directory_or_takes_the_one_that_is_there, .init = enter, .fini = leave)
{
	static const char *const dirs[] = { "own", "shared" };

	for (size_t i = 0; i < 2; i++) {
		cr_assert_eq(mkdir(dirs[i], 0700), 0);
		if (i == 1)
			cr_assert_eq(chmod(dirs[i], 0777), 0);
		directory_is(dirs[i], "new", 1);
		cr_assert_eq(chdir(dirs[i]), 0);
		cr_assert_eq(chmod("new", 0750), 0);
		write_at("file", "x", 0);
		cr_assert_eq(symlink("new", "link"), 0);
		cr_assert_eq(chdir(".."), 0);
		directory_is(dirs[i], "new", 0);
		directory_is(dirs[i], "file", -ENOTDIR);
		directory_is(dirs[i], "link", -ENOTDIR);
		cr_assert_eq(chdir(dirs[i]), 0);
		cr_expect_eq(entries(), 3, "something is left in %s", dirs[i]);
		cr_assert_eq(chdir(".."), 0);
	}
	assert_no_leaks();
}

/* ---- in a directory that another user owns */

#define STRANGER 65534

/* What somebody who may change names puts in the place of a thing just made. */
enum swap { SWAP_SYMLINK, SWAP_LINK, SWAP_RENAME };

static void swap_for(const struct copy_temp *t, const char *other, enum swap how)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", here, other);
	cr_assert_eq(unlinkat(t->dir, t->name, 0), 0);
	switch (how) {
	case SWAP_SYMLINK:
		cr_assert_eq(symlinkat(path, t->dir, t->name), 0);
		break;
	case SWAP_LINK:
		cr_assert_eq(linkat(AT_FDCWD, path, t->dir, t->name, 0), 0);
		break;
	case SWAP_RENAME:
		cr_assert_eq(renameat(AT_FDCWD, path, t->dir, t->name), 0);
		break;
	}
}

/* The source is `from`; `victim` must stay as it is, wherever it is then. */
static void is_not_led_astray(const char *from, const char *dst, const char *victim, enum swap how)
{
	CLEANUP(close_p) int fd = open(from, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	CLEANUP(close_p) int dir = open(dst, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(close_p) int other = open(victim, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st, before, after;
	struct copy_source src = { .dir_fd = AT_FDCWD, .name = from, .fd = fd, .st = &st };
	struct copy_temp t;

	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq(fstat(other, &before), 0);
	cr_assert_eq(copy_make(&src, dir, &t), 0);
	swap_for(&t, victim, how);
	cr_expect_eq(copy_finish(&src, &t, "new", NULL, NULL, NULL), 0);
	cr_assert_eq(fstat(other, &after), 0);
	cr_expect_eq(after.st_mode, before.st_mode, "%s for %s: mode %o", victim, from,
		     after.st_mode);
	cr_expect_eq(after.st_uid, before.st_uid, "%s for %s: owner", victim, from);
	cr_expect_eq(after.st_mtim.tv_sec, before.st_mtim.tv_sec, "%s for %s: time", victim, from);
}

static void make_sources(void)
{
	const struct timespec times[2] = { { .tv_sec = 1000 }, { .tv_sec = 2000 } };
	static const char *const names[] = { "link", "fifo", "file" };

	cr_assert_eq(symlink("nowhere", "link"), 0);
	cr_assert_eq(mkfifo("fifo", 0600), 0);
	write_at("file", "x", 0);
	cr_assert_eq(chmod("fifo", 04777), 0);
	cr_assert_eq(chmod("file", 04777), 0);
	for (size_t i = 0; i < 3; i++) {
		if (geteuid() == 0)
			cr_assert_eq(lchown(names[i], STRANGER, STRANGER), 0);
		cr_assert_eq(utimensat(AT_FDCWD, names[i], times, AT_SYMLINK_NOFOLLOW), 0);
	}
	cr_assert_eq(chmod("fifo", 04777), 0); /* lchown() cleared it */
	cr_assert_eq(chmod("file", 04777), 0);
	cr_assert_eq(mkdir("shared", 0777), 0);
	cr_assert_eq(chmod("shared", 0777), 0);
	cr_assert_eq(mkdir("own", 0700), 0);
}

static void none_is_led_astray(enum swap how)
{
	static const char *const sources[] = { "link", "fifo", "file" };
	static const char *const dirs[] = { "shared", "own" };

	make_sources();
	for (size_t i = 0; i < 6; i++) {
		const char *from = sources[i / 2];

		write_at("victim", "secret", 0);
		is_not_led_astray(from, dirs[i % 2], "victim", how);
		unlink("victim");
		cr_assert_eq(mkfifo("victim", 0600), 0);
		is_not_led_astray(from, dirs[i % 2], "victim", how);
		unlink("victim");
		cr_assert_eq(symlink("elsewhere", "victim"), 0);
		is_not_led_astray(from, dirs[i % 2], "victim", how);
		unlink("victim");
	}
	assert_no_leaks();
}

Test(tools_copy, follows_no_link_put_in_the_place_of_a_copy, .init = enter, .fini = leave)
{
	none_is_led_astray(SWAP_SYMLINK);
}

Test(tools_copy, changes_no_other_file_linked_there, .init = enter, .fini = leave)
{
	none_is_led_astray(SWAP_LINK);
}

Test(tools_copy, changes_no_other_file_moved_there, .init = enter, .fini = leave)
{
	none_is_led_astray(SWAP_RENAME);
}

/* What the descriptor cannot tell - is this what we made? - the directory it was made in does. */
Test(tools_copy, nobody_else_reaches_a_copy_before_it_is_finished, .init = enter, .fini = leave)
{
	static const char *const sources[] = { "link", "fifo", "file" };
	CLEANUP(close_p) int dir = -1;

	if (geteuid() != 0)
		cr_skip_test("needs another user");
	make_sources();
	cr_assert_eq(chmod(here, 0755), 0);
	cr_assert_eq(chown("shared", STRANGER, STRANGER), 0);
	cr_assert_eq(chmod("shared", 0755), 0);
	dir = open("shared", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < 3; i++) {
		CLEANUP(close_p) int fd = open(sources[i], O_PATH | O_NOFOLLOW | O_CLOEXEC);
		struct stat st, made, now;
		struct copy_source src = {
			.dir_fd = AT_FDCWD, .name = sources[i], .fd = fd, .st = &st
		};
		struct copy_temp t;
		char path[200];

		cr_assert_eq(fstat(fd, &st), 0);
		cr_assert_eq(copy_make(&src, dir, &t), 0);
		cr_expect(t.sure);
		snprintf(path, sizeof(path), "%s/%s", t.place, t.name);
		cr_assert_eq(faccessat(dir, path, F_OK, AT_SYMLINK_NOFOLLOW), 0, "%s", path);
		cr_assert_eq(seteuid(STRANGER), 0);
		cr_expect_lt(unlinkat(dir, path, 0), 0, "%s can be removed", sources[i]);
		cr_expect_lt(openat(dir, path, O_PATH | O_NOFOLLOW | O_CLOEXEC), 0,
			     "%s can be opened", sources[i]);
		cr_assert_eq(seteuid(0), 0);
		cr_expect_eq(copy_finish(&src, &t, "new", NULL, NULL, &made), 0);
		cr_assert_eq(fstatat(dir, "new", &now, AT_SYMLINK_NOFOLLOW), 0);
		cr_expect_eq(now.st_ino, made.st_ino);
		same_stat(sources[i], "shared/new");
		cr_assert_eq(unlinkat(dir, "new", 0), 0);
	}
	cr_expect_eq(rmdir("shared"), 0, "something is left there");
	assert_no_leaks();
}

struct seen {
	unsigned dirs, others, left, failed;
	bool skip;
};

static int see_dir(void *ctx, const struct walk_item *it)
{
	struct seen *s = ctx;

	s->dirs++;
	return s->skip && *it->path ? WALK_SKIP : 0;
}

static int see_end(void *ctx, const struct walk_item *it)
{
	((struct seen *)ctx)->left++;
	return 0;
}

static int see_other(void *ctx, const struct walk_item *it)
{
	((struct seen *)ctx)->others++;
	return strcmp(it->name, "stop") == 0 ? 7 : 0;
}

static int see_failure(void *ctx, const char *path, int error)
{
	((struct seen *)ctx)->failed++;
	return 0;
}

static const struct walk_ops ops = {
	.enter = see_dir, .leave = see_end, .other = see_other, .failed = see_failure
};

Test(tools_walk, visits_everything_once_and_follows_no_link, .init = enter, .fini = leave)
{
	struct seen s = { 0 };

	cr_assert_eq(system("mkdir -p d/e d/f && touch d/a d/e/b && ln -s . d/loop"), 0);
	cr_assert_eq(walk(AT_FDCWD, "d", "", &ops, &s), 0);
	cr_expect_eq(s.dirs, 3);
	cr_expect_eq(s.left, 3);
	cr_expect_eq(s.others, 3);
	s = (struct seen){ .skip = true };
	cr_assert_eq(walk(AT_FDCWD, "d", "", &ops, &s), 0);
	cr_expect_eq(s.dirs, 3);
	cr_expect_eq(s.left, 1);
	cr_expect_eq(s.others, 2);
	assert_no_leaks();
}

Test(tools_walk, stops_when_told_and_reports_what_is_missing, .init = enter, .fini = leave)
{
	struct seen s = { 0 };

	cr_assert_eq(system("mkdir d && touch d/stop"), 0);
	cr_expect_eq(walk(AT_FDCWD, "d", "", &ops, &s), 7);
	cr_expect_eq(walk(AT_FDCWD, "gone", "", &ops, &s), 0);
	cr_expect_eq(s.failed, 1);
	assert_no_leaks();
}

Test(tools_walk, goes_down_a_path_and_follows_no_link, .init = enter, .fini = leave)
{
	int fd = -1;
	struct stat a, b;

	cr_assert_eq(system("mkdir -p d/e && ln -s d link && ln -s e d/loop"), 0);
	cr_assert_eq(walk_above(AT_FDCWD, "d/e/last", &fd), 0);
	cr_assert_eq(fstat(fd, &a), 0);
	cr_assert_eq(stat("d/e", &b), 0);
	cr_expect_eq(a.st_ino, b.st_ino);
	close(fd);
	cr_assert_eq(walk_above(AT_FDCWD, "", &fd), 0);
	close(fd);
	fd = -1;
	cr_expect_eq(walk_above(AT_FDCWD, "link/e/last", &fd), -ENOTDIR);
	cr_expect_eq(walk_above(AT_FDCWD, "d/loop/last", &fd), -ENOTDIR);
	cr_expect_eq(walk_above(AT_FDCWD, "none/last", &fd), -ENOENT);
	cr_expect_eq(fd, -1);
	assert_no_leaks();
}
