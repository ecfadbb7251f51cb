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
#include "tools/copy.h"
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
	r = copy_replace(&src, AT_FDCWD, to, NULL, NULL);
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
	struct stat x, y;

	write_at("a", "x", 0);
	write_at("b", "y", 0);
	cr_assert_eq(copy_link(AT_FDCWD, "a", AT_FDCWD, "b"), 0);
	cr_assert_eq(copy_link(AT_FDCWD, "a", AT_FDCWD, "b"), 0);
	cr_assert_eq(stat("a", &x), 0);
	cr_assert_eq(stat("b", &y), 0);
	cr_expect_eq(x.st_ino, y.st_ino);
	cr_expect_eq(x.st_nlink, 2);
	cr_expect_eq(entries(), 2);
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
