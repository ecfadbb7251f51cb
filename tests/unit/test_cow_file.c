/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/file.h"
#include "tests/support/fault.h"
#include "tests/support/leaks.h"

static char dir[] = "/tmp/test_cow_file.XXXXXX";
static int dfd;

static void make_dir(void)
{
	cr_assert(mkdtemp(dir));
	dfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert(dfd >= 0);
}

static void remove_dir(void)
{
	char cmd[100];

	fault_reset();
	close(dfd);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	cr_assert_eq(system(cmd), 0);
}

TestSuite(cow_file, .init = make_dir, .fini = remove_dir, .timeout = 120);

static int make_file(const char *name, const char *text)
{
	int fd = cow_file_openat(dfd, name, O_RDWR | O_CREAT | O_EXCL, 0600);

	cr_assert(fd >= 0);
	cr_assert_eq(cow_file_pwrite_all(fd, text, strlen(text), 0), 0);
	return fd;
}

static int open_path(const char *name)
{
	int fd = cow_file_openat(dfd, name, O_PATH | O_NOFOLLOW, 0);

	cr_assert(fd >= 0);
	return fd;
}

static struct statx stat_of(const char *name)
{
	struct statx stx;

	cr_assert_eq(cow_file_statx(dfd, name, &stx), 0);
	return stx;
}

Test(cow_file, descriptors_close_on_exec)
{
	CLEANUP(close_p) int fd = make_file("f", "x");
	CLEANUP(close_p) int again = cow_file_reopen(fd, O_RDONLY);

	cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	cr_assert(fcntl(again, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(cow_file_openat(dfd, "none", O_RDONLY, 0), -ENOENT);
}

Test(cow_file, reopen_gives_a_fresh_description_of_any_fd)
{
	CLEANUP(close_p) int fd = make_file("f", "hello");
	CLEANUP(close_p) int path = open_path("f");
	CLEANUP(close_p) int again = -1;
	char buf[8];

	cr_assert_eq(unlinkat(dfd, "f", 0), 0); /* no name is needed */
	again = cow_file_reopen(path, O_RDWR | O_NOFOLLOW);
	cr_assert(again >= 0);
	cr_assert_eq(cow_file_pread(again, buf, sizeof(buf), 0), 5);
	cr_assert_eq(lseek(again, 3, SEEK_SET), 3);
	cr_assert_eq(lseek(fd, 0, SEEK_CUR), 0);
	cr_assert_eq(cow_file_reopen(999, O_RDONLY), -EBADF);
}

Test(cow_file, pread_is_whole_or_ends_with_the_file)
{
	CLEANUP(close_p) int fd = make_file("f", "0123456789");
	char buf[20];

	cr_assert_eq(cow_file_pread(fd, buf, 4, 2), 4);
	cr_assert(memcmp(buf, "2345", 4) == 0);
	cr_assert_eq(cow_file_pread(fd, buf, 20, 7), 3);
	cr_assert_eq(cow_file_pread(fd, buf, 20, 10), 0);
	cr_assert_eq(cow_file_pread(-1, buf, 20, 0), -EBADF);
}

Test(cow_file, writes_land_where_asked)
{
	CLEANUP(close_p) int fd = make_file("f", "aaaaaaaa");
	char buf[8];

	cr_assert_eq(cow_file_pwrite_all(fd, "bb", 2, 2), 0);
	cr_assert_eq(cow_file_pwrite(fd, "cc", 2, 6), 2);
	cr_assert_eq(cow_file_pread(fd, buf, 8, 0), 8);
	cr_assert(memcmp(buf, "aabbaacc", 8) == 0);
	cr_assert_eq(cow_file_fdatasync(fd), 0);
	cr_assert_eq(cow_file_fsync(fd), 0);
	cr_assert_eq(cow_file_pwrite_all(-1, "b", 1, 0), -EBADF);
}

Test(cow_file, space_and_holes)
{
	CLEANUP(close_p) int fd = make_file("f", "");

	cr_assert_eq(cow_file_fallocate(fd, 0, 0, 1 << 20), 0);
	cr_assert_eq(stat_of("f").stx_size, 1 << 20);
	cr_assert_eq(cow_file_truncate(fd, 3 << 20), 0);
	cr_assert_eq(cow_file_pwrite_all(fd, "x", 1, 2 << 20), 0);
	cr_assert_eq(cow_file_seek(fd, 1 << 20, SEEK_DATA), 2 << 20);
	cr_assert_eq(cow_file_seek(fd, 4 << 20, SEEK_DATA), -ENXIO);
	cr_assert_eq(cow_file_truncate(fd, -1), -EINVAL);
}

Test(cow_file, copy_range_copies_to_the_end)
{
	CLEANUP(close_p) int in = make_file("in", "0123456789");
	CLEANUP(close_p) int out = make_file("out", "");
	char buf[16];

	cr_assert_eq(cow_file_copy_range(in, 4, out, 2, 100), 6);
	cr_assert_eq(cow_file_pread(out, buf, sizeof(buf), 0), 8);
	cr_assert(memcmp(buf, "\0\0" "456789", 8) == 0);
	cr_assert_eq(cow_file_copy_range(in, 0, -1, 0, 1), -EBADF);
}

Test(cow_file, names)
{
	close(make_file("f", "x"));

	cr_assert_eq(cow_file_mkdirat(dfd, "d", 0700), 0);
	cr_assert_eq(cow_file_mkdirat(dfd, "d", 0700), -EEXIST);
	cr_assert_eq(cow_file_mknodat(dfd, "pipe", S_IFIFO | 0600, 0), 0);
	cr_assert(S_ISFIFO(stat_of("pipe").stx_mode));
	cr_assert_eq(cow_file_linkat(dfd, "f", dfd, "g", 0), 0);
	cr_assert_eq(stat_of("g").stx_nlink, 2);
	cr_assert_eq(cow_file_renameat(dfd, "g", dfd, "f2", RENAME_NOREPLACE), 0);
	cr_assert_eq(cow_file_renameat(dfd, "f2", dfd, "f", RENAME_NOREPLACE), -EEXIST);
	cr_assert_eq(cow_file_renameat(dfd, "d", dfd, "f", RENAME_EXCHANGE), 0);
	cr_assert(S_ISDIR(stat_of("f").stx_mode));
	cr_assert_eq(cow_file_unlinkat(dfd, "f", 0), -EISDIR);
	cr_assert_eq(cow_file_unlinkat(dfd, "f", AT_REMOVEDIR), 0);
}

Test(cow_file, statx_never_follows_and_takes_the_fd_itself)
{
	CLEANUP(close_p) int path = -1;
	struct statx stx;

	cr_assert_eq(cow_file_symlinkat("nowhere", dfd, "l"), 0);
	path = open_path("l");
	cr_assert(S_ISLNK(stat_of("l").stx_mode));
	cr_assert_eq(cow_file_statx(path, "", &stx), 0);
	cr_assert(S_ISLNK(stx.stx_mode));
	cr_assert_eq(stx.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
	cr_assert_eq(cow_file_statx(dfd, "none", &stx), -ENOENT);
}

Test(cow_file, readlink_ends_in_nul_or_says_that_it_does_not_fit)
{
	CLEANUP(close_p) int path = -1;
	char buf[8] = "-------";

	cr_assert_eq(cow_file_symlinkat("seven77", dfd, "l"), 0);
	path = open_path("l");
	cr_assert_eq(cow_file_readlinkat(path, "", buf, 8), 7);
	cr_assert_str_eq(buf, "seven77");
	cr_assert_eq(cow_file_readlinkat(dfd, "l", buf, 7), -ERANGE);
	cr_assert_eq(cow_file_readlinkat(dfd, "l", buf, 0), -ERANGE);
}

/* Attributes through both kinds of descriptor. */
static void check_attributes(int fd, const char *name)
{
	const struct timespec tv[2] = { { 1000, 1 }, { 2000, 999999999 } };
	struct statx stx;

	cr_assert_eq(cow_file_chmod(fd, 04751), 0);
	cr_assert_eq(cow_file_utimens(fd, tv), 0);
	stx = stat_of(name);
	cr_assert_eq(stx.stx_mode & 07777, 04751);
	cr_assert_eq(stx.stx_atime.tv_sec, 1000);
	cr_assert_eq(stx.stx_mtime.tv_sec, 2000);
	cr_assert_eq(stx.stx_mtime.tv_nsec, 999999999);
	cr_assert_eq(cow_file_chown(fd, (uid_t)-1, getgid()), 0);
	if (getuid() == 0) {
		cr_assert_eq(cow_file_chown(fd, 12, 34), 0);
		stx = stat_of(name);
		cr_assert_eq(stx.stx_uid, 12);
		cr_assert_eq(stx.stx_gid, 34);
	}
}

Test(cow_file, attributes_of_an_open_file)
{
	CLEANUP(close_p) int fd = make_file("f", "x");

	check_attributes(fd, "f");
}

Test(cow_file, attributes_of_an_o_path_file)
{
	close(make_file("f", "x"));
	CLEANUP(close_p) int path = open_path("f");

	check_attributes(path, "f");
}

Test(cow_file, attributes_of_a_symlink_are_its_own)
{
	close(make_file("target", "x"));
	CLEANUP(close_p) int path = -1;
	const struct timespec tv[2] = { { 1000, 1 }, { 2000, 2 } };

	cr_assert_eq(cow_file_symlinkat("target", dfd, "l"), 0);
	path = open_path("l");
	cr_assert_eq(cow_file_utimens(path, tv), 0);
	cr_assert_eq(stat_of("l").stx_mtime.tv_sec, 2000);
	cr_assert_neq(stat_of("target").stx_mtime.tv_sec, 2000);
	if (getuid() == 0) {
		cr_assert_eq(cow_file_chown(path, 12, 34), 0);
		cr_assert_eq(stat_of("l").stx_uid, 12);
		cr_assert_eq(stat_of("target").stx_uid, 0);
	}
	/* Linux has no modes of symlinks; what matters is that the target keeps its own. Some kernels
	 * have changed the link's and said EOPNOTSUPP none the less. */
	cow_file_chmod(path, 0777);
	cr_assert_eq(stat_of("target").stx_mode & 07777, 0600);
}

static void check_xattrs(int fd)
{
	char buf[256];
	ssize_t n;

	cr_assert_eq(cow_file_setxattr(fd, "user.k", "value", 5, 0), 0);
	cr_assert_eq(cow_file_setxattr(fd, "user.k", "value", 5, 1 /* XATTR_CREATE */), -EEXIST);
	cr_assert_eq(cow_file_getxattr(fd, "user.k", NULL, 0), 5);
	cr_assert_eq(cow_file_getxattr(fd, "user.k", buf, 4), -ERANGE);
	cr_assert_eq(cow_file_getxattr(fd, "user.k", buf, sizeof(buf)), 5);
	cr_assert(memcmp(buf, "value", 5) == 0);
	n = cow_file_listxattr(fd, buf, sizeof(buf));
	cr_assert(n > 0 && memmem(buf, (size_t)n, "user.k", 7));
	cr_assert_eq(cow_file_removexattr(fd, "user.k"), 0);
	cr_assert_eq(cow_file_getxattr(fd, "user.k", buf, sizeof(buf)), -ENODATA);
	cr_assert_eq(cow_file_removexattr(fd, "user.k"), -ENODATA);
}

Test(cow_file, xattrs_through_any_descriptor)
{
	CLEANUP(close_p) int fd = make_file("f", "x");
	CLEANUP(close_p) int path = open_path("f");
	char buf[8];

	check_xattrs(fd);
	check_xattrs(path);
	cr_assert_eq(cow_file_getxattr(999, "user.k", buf, 8), -EBADF);
	cr_assert_eq(cow_file_chmod(999, 0), -EBADF);
}

Test(cow_file, xattrs_of_a_symlink_are_its_own)
{
	CLEANUP(close_p) int fd = make_file("target", "x");
	CLEANUP(close_p) int path = -1;
	char buf[8];

	cr_assert_eq(cow_file_setxattr(fd, "user.k", "v", 1, 0), 0);
	cr_assert_eq(cow_file_symlinkat("target", dfd, "l"), 0);
	path = open_path("l");
	cr_assert_lt(cow_file_getxattr(path, "user.k", buf, sizeof(buf)), 0);
	cr_assert_eq(cow_file_listxattr(path, buf, sizeof(buf)), 0);
	if (getuid() == 0) { /* trusted.* is the one that links may have, for the privileged */
		cr_assert_eq(cow_file_setxattr(path, "trusted.k", "w", 1, 0), 0);
		cr_assert_eq(cow_file_getxattr(path, "trusted.k", buf, sizeof(buf)), 1);
		cr_assert_eq(cow_file_getxattr(fd, "trusted.k", buf, sizeof(buf)), -ENODATA);
	}
}

/* 0, or the line of what went wrong: no cr_assert, this runs in a forked child too, which would go on
 * as a second test worker. */
#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			return __LINE__;                                                           \
	} while (0)

static int check_link_fd(void)
{
	CLEANUP(close_p) int unnamed = cow_file_openat(dfd, ".", O_TMPFILE | O_RDWR, 0600);
	CLEANUP(close_p) int path = -1;
	CLEANUP(close_p) int link = -1;
	struct statx stx;

	CHECK(unnamed >= 0);
	CHECK(cow_file_link_fd(unnamed, dfd, "named") == 0);
	path = cow_file_openat(dfd, "named", O_PATH | O_NOFOLLOW, 0);
	CHECK(cow_file_link_fd(path, dfd, "twice") == 0);
	CHECK(cow_file_statx(dfd, "twice", &stx) == 0 && stx.stx_nlink == 2);
	CHECK(cow_file_link_fd(path, dfd, "twice") == -EEXIST);
	CHECK(cow_file_symlinkat("named", dfd, "l") == 0);
	link = cow_file_openat(dfd, "l", O_PATH | O_NOFOLLOW, 0);
	CHECK(cow_file_link_fd(link, dfd, "l2") == 0);
	CHECK(cow_file_statx(dfd, "l2", &stx) == 0 && S_ISLNK(stx.stx_mode)); /* not its target */
	CHECK(cow_file_link_fd(999, dfd, "x") == -EBADF);
	CHECK(cow_file_unlinkat(dfd, "named", 0) == 0);
	CHECK(cow_file_unlinkat(dfd, "twice", 0) == 0);
	CHECK(cow_file_link_fd(path, dfd, "x") == -ENOENT); /* really gone */
	return 0;
}

Test(cow_file, link_fd_names_any_inode)
{
	cr_assert_eq(check_link_fd(), 0);
}

Test(cow_file, link_fd_needs_no_privilege)
{
	int line = 0, status;
	int ends[2];
	pid_t pid;

	if (getuid() != 0)
		cr_skip_test("the test above ran without privilege already");
	cr_assert_eq(fchown(dfd, 65534, 65534), 0);
	cr_assert_eq(pipe(ends), 0);
	pid = fork();
	if (pid == 0) {
		line = setgid(65534) < 0 || setuid(65534) < 0 ? -1 : check_link_fd();
		_exit(write(ends[1], &line, sizeof(line)) != sizeof(line));
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	cr_assert_eq(read(ends[0], &line, sizeof(line)), (ssize_t)sizeof(line));
	cr_assert_eq(line, 0, "failed at line %d", line);
	close(ends[0]);
	close(ends[1]);
}

/* -- the test hook -- */

Test(cow_file, a_hook_fails_the_call_without_making_it)
{
	close(make_file("f", "x"));

	fault_fail_nth(FAULT_OP(COW_OP_UNLINK), 2, -EIO);
	cr_assert_eq(cow_file_mkdirat(dfd, "d", 0700), 0); /* not in the mask, not counted */
	cr_assert_eq(cow_file_unlinkat(dfd, "d", AT_REMOVEDIR), 0);
	cr_assert_eq(cow_file_unlinkat(dfd, "f", 0), -EIO);
	cr_assert_eq(stat_of("f").stx_size, 1);
	cr_assert_eq(cow_file_unlinkat(dfd, "f", 0), 0);
	cr_assert_eq(fault_count(), 3);
}

Test(cow_file, a_hook_can_fail_everything_from_then_on)
{
	CLEANUP(close_p) int fd = make_file("f", "x");

	fault_fail_from(FAULT_OP(COW_OP_WRITE), 2, -ENOSPC);
	cr_assert_eq(cow_file_pwrite_all(fd, "y", 1, 0), 0);
	cr_assert_eq(cow_file_pwrite_all(fd, "y", 1, 0), -ENOSPC);
	cr_assert_eq(cow_file_pwrite(fd, "y", 1, 0), -ENOSPC);
	fault_reset();
	cr_assert_eq(cow_file_pwrite(fd, "y", 1, 0), 1);
}

struct seen {
	unsigned calls, ops;
	int fd;
	size_t len;
};

static int watch(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	struct seen *s = userdata;

	(void)path;
	s->calls++;
	s->ops |= FAULT_OP(op);
	s->fd = fd;
	s->len = len;
	return 0;
}

Test(cow_file, every_function_asks_the_hook_once)
{
	CLEANUP(close_p) int fd = make_file("f", "x");
	CLEANUP(close_p) int path = open_path("f");
	CLEANUP(close_p) int again = -1;
	struct seen s = { 0 };
	struct statx stx;
	char buf[16];
	const struct timespec now[2] = { { 0, UTIME_NOW }, { 0, UTIME_NOW } };

	cow_file_set_hook(watch, &s);
	again = cow_file_openat(dfd, "f", O_RDONLY, 0);
	close(cow_file_reopen(path, O_RDONLY));
	cow_file_pread(fd, buf, 16, 0);
	cow_file_pwrite(fd, buf, 4, 0);
	cow_file_pwrite_all(fd, buf, 4, 0);
	cr_assert_eq(s.len, 4);
	cr_assert_eq(s.fd, fd);
	cow_file_fdatasync(fd);
	cow_file_fsync(fd);
	cow_file_truncate(fd, 8);
	cow_file_fallocate(fd, 0, 0, 8);
	cow_file_copy_range(again, 0, fd, 8, 4);
	cow_file_seek(fd, 0, SEEK_SET);
	cr_assert_eq(s.calls, 11);
	cow_file_mkdirat(dfd, "d", 0700);
	cow_file_renameat(dfd, "d", dfd, "e", 0);
	cow_file_unlinkat(dfd, "e", AT_REMOVEDIR);
	cow_file_linkat(dfd, "f", dfd, "g", 0);
	cow_file_link_fd(path, dfd, "h");
	cow_file_mknodat(dfd, "p", S_IFIFO | 0600, 0);
	cow_file_symlinkat("f", dfd, "l");
	cow_file_statx(dfd, "f", &stx);
	cow_file_readlinkat(dfd, "l", buf, 16);
	cr_assert_eq(s.calls, 20);
	cow_file_chmod(path, 0600);
	cow_file_chown(path, (uid_t)-1, (gid_t)-1);
	cow_file_utimens(path, now);
	cow_file_getxattr(path, "user.k", buf, 16);
	cow_file_listxattr(path, buf, 16);
	cow_file_setxattr(path, "user.k", "v", 1, 0);
	cow_file_removexattr(path, "user.k");
	cow_file_ioctl(fd, FS_IOC_GETFLAGS, buf);
	cr_assert_eq(s.calls, 28);
	cr_assert_eq(s.ops, (FAULT_OP(COW_OP_OTHER) << 1) - 1, "each kind was seen");
	cow_file_set_hook(NULL, NULL);
	cow_file_statx(dfd, "f", &stx);
	cr_assert_eq(s.calls, 28);
	assert_no_leaks();
}

Test(cow_file, a_crash_leaves_what_was_done_before)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		fault_crash_nth(3);
		cow_file_mkdirat(dfd, "one", 0700);
		cow_file_seek(dfd, 0, SEEK_SET); /* leaves no trace, not counted */
		cow_file_mkdirat(dfd, "two", 0700);
		cow_file_mkdirat(dfd, "three", 0700);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == FAULT_CRASHED);
	cr_assert(S_ISDIR(stat_of("two").stx_mode));
	cr_assert_eq(faccessat(dfd, "three", F_OK, 0), -1);
}
