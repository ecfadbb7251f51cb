/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* posix DIR: what programs rely on in a directory, case by case. posix.sh runs it on a plain directory and on a
 * protected one; both must say the same. */
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "tests/support/cases.h"

#define LENGTH(a) (sizeof(a) / sizeof(*(a)))

/* ---- tools ---- */

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	CHECK(fd >= 0);
	CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
	CHECK(close(fd) == 0);
}

static void holds(const char *path, const char *text)
{
	char buf[4096];
	int fd = open(path, O_RDONLY);
	ssize_t n;

	CHECK(fd >= 0);
	n = read(fd, buf, sizeof(buf));
	CHECK_EQ(n, strlen(text));
	CHECK(memcmp(buf, text, (size_t)n) == 0);
	close(fd);
}

static struct stat st_of(const char *path)
{
	struct stat st;

	CHECK(lstat(path, &st) == 0);
	return st;
}

static bool exists(const char *path)
{
	return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int rename2(const char *a, const char *b, unsigned flags)
{
	return (int)syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, flags);
}

static bool unsupported(int err)
{
	return err == EOPNOTSUPP || err == ENOSYS || err == EINVAL || err == ENOTTY;
}

/* Run f in a child as another user. */
static void as_user(uid_t uid, gid_t gid, void (*f)(void))
{
	pid_t pid = fork();

	if (pid == 0) {
		CHECK(setgroups(0, NULL) == 0);
		CHECK(setresgid(gid, gid, gid) == 0);
		CHECK(setresuid(uid, uid, uid) == 0);
		f();
		_exit(0);
	}
	case_wait(pid);
}

static void need_root(void)
{
	if (geteuid() != 0)
		SKIP("needs root");
}

/* ---- names ---- */

static void rename_noreplace(void)
{
	put("a", "a");
	put("b", "b");
	CHECK_ERRNO(rename2("a", "b", RENAME_NOREPLACE), EEXIST);
	holds("a", "a");
	holds("b", "b");
	CHECK(rename2("a", "c", RENAME_NOREPLACE) == 0);
	CHECK(!exists("a"));
	holds("c", "a");
	CHECK(mkdir("d", 0755) == 0);
	CHECK_ERRNO(rename2("c", "d", RENAME_NOREPLACE), EEXIST);
}

static void rename_exchange(void)
{
	ino_t a, d;

	put("a", "a");
	CHECK(mkdir("d", 0755) == 0);
	put("d/x", "x");
	a = st_of("a").st_ino;
	d = st_of("d").st_ino;
	CHECK(rename2("a", "d", RENAME_EXCHANGE) == 0);
	CHECK_EQ(st_of("d").st_ino, a);
	CHECK_EQ(st_of("a").st_ino, d);
	holds("d", "a");
	holds("a/x", "x");
	CHECK_ERRNO(rename2("a", "missing", RENAME_EXCHANGE), ENOENT);
	CHECK_ERRNO(rename2("a", "d", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
}

static void rename_rules(void)
{
	ino_t ino;

	CHECK(mkdir("d", 0755) == 0);
	CHECK(mkdir("e", 0755) == 0);
	CHECK(mkdir("d/sub", 0755) == 0);
	put("f", "f");
	put("g", "g");
	CHECK_ERRNO(rename("d", "d/sub/x"), EINVAL);
	CHECK_ERRNO(rename("f", "d"), EISDIR);
	CHECK_ERRNO(rename("d", "f"), ENOTDIR);
	CHECK_ERRNO(rename("e", "d"), ENOTEMPTY);
	ino = st_of("d").st_ino;
	CHECK(rename("d", "e") == 0);
	CHECK_EQ(st_of("e").st_ino, ino);
	CHECK(exists("e/sub") && !exists("d"));
	ino = st_of("f").st_ino;
	CHECK(rename("f", "g") == 0);
	CHECK_EQ(st_of("g").st_ino, ino);
	holds("g", "f");
	CHECK(link("g", "h") == 0);
	CHECK(rename("g", "h") == 0); /* two names of one file: nothing happens */
	CHECK(exists("g") && exists("h"));
}

static void names_long_and_strange(void)
{
	char name[256], longer[258];

	memset(name, 0xff, 255);
	name[255] = 0;
	put(name, "255");
	holds(name, "255");
	CHECK_EQ(st_of(name).st_nlink, 1);
	memset(longer, 'x', 256);
	longer[256] = 0;
	CHECK_ERRNO(open(longer, O_WRONLY | O_CREAT, 0644), ENAMETOOLONG);
	CHECK_ERRNO(mkdir(longer, 0755), ENAMETOOLONG);
	put("new\nline", "n");
	holds("new\nline", "n");
	put(" ", "blank");
	put("\x01\x02", "control");
	CHECK(mkdir("\xc3\x28", 0755) == 0);
	CHECK(rename("new\nline", "\xc3\x28/\xa0\xa1") == 0);
	holds("\xc3\x28/\xa0\xa1", "n");
	name[0] = 'a';
	CHECK(rename(" ", name) == 0);
	holds(name, "blank");
}

static void deep_paths(void)
{
	char name[] = "directory-with-a-longer-name-00";
	char cwd[8192];
	int top = open(".", O_RDONLY | O_DIRECTORY);

	CHECK(top >= 0);
	for (int i = 0; i < 100; i++) {
		CHECK(mkdir(name, 0755) == 0);
		CHECK(chdir(name) == 0);
	}
	put("bottom", "here");
	CHECK(syscall(SYS_getcwd, cwd, sizeof(cwd)) > 0);
	CHECK(strlen(cwd) > 100 * 30);
	holds("bottom", "here");
	CHECK(unlink("bottom") == 0);
	for (int i = 0; i < 100; i++) {
		CHECK(chdir("..") == 0);
		CHECK(rmdir(name) == 0);
	}
	CHECK(fchdir(top) == 0);
	CHECK(!exists(name));
}

static void getcwd_after_rename(void)
{
	char before[PATH_MAX], after[PATH_MAX];

	CHECK(mkdir("old", 0755) == 0);
	CHECK(mkdir("other", 0755) == 0);
	CHECK(chdir("old") == 0);
	CHECK(getcwd(before, sizeof(before)) != NULL);
	CHECK(rename("../old", "../other/new") == 0);
	CHECK(getcwd(after, sizeof(after)) != NULL);
	CHECK(strcmp(strrchr(after, '/'), "/new") == 0);
	put("here", "h");
	CHECK(exists("../new/here"));
	CHECK(chdir("../..") == 0);
	holds("other/new/here", "h");
	CHECK(chdir("other/new") == 0);
	CHECK(unlink("here") == 0);
	CHECK(rmdir("../new") == 0);
	CHECK(syscall(SYS_getcwd, after, sizeof(after)) < 0 && errno == ENOENT);
	CHECK_ERRNO(open("x", O_WRONLY | O_CREAT, 0644), ENOENT);
}

static void link_counts(void)
{
	struct stat st;

	put("a", "a");
	CHECK_EQ(st_of("a").st_nlink, 1);
	CHECK(link("a", "b") == 0);
	CHECK(link("b", "c") == 0);
	CHECK_EQ(st_of("a").st_nlink, 3);
	CHECK(unlink("a") == 0);
	CHECK_EQ(st_of("b").st_nlink, 2);
	put("x", "x");
	CHECK(rename("x", "b") == 0);
	CHECK_EQ(st_of("c").st_nlink, 1);
	CHECK_EQ(st_of("b").st_nlink, 1);
	CHECK_ERRNO(link("c", "b"), EEXIST);
	CHECK(mkdir("d", 0755) == 0);
	CHECK_ERRNO(link("d", "e"), EPERM);
	st = st_of("d");
	CHECK(mkdir("d/1", 0755) == 0);
	CHECK(mkdir("d/2", 0755) == 0);
	if (st.st_nlink == 2) /* some file systems count no sub-directories */
		CHECK_EQ(st_of("d").st_nlink, 4);
	CHECK(rmdir("d/1") == 0);
	if (st.st_nlink == 2)
		CHECK_EQ(st_of("d").st_nlink, 3);
	CHECK(symlink("c", "s") == 0);
	CHECK(linkat(AT_FDCWD, "s", AT_FDCWD, "s2", 0) == 0);
	CHECK_EQ(st_of("s").st_nlink, 2);
	CHECK(linkat(AT_FDCWD, "s", AT_FDCWD, "c2", AT_SYMLINK_FOLLOW) == 0);
	CHECK_EQ(st_of("c").st_nlink, 2);
}

static void special_files(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "sock" };
	int s, p, w, r;
	char c;

	CHECK(mkfifo("fifo", 0640) == 0);
	CHECK(S_ISFIFO(st_of("fifo").st_mode));
	CHECK(mknod("file", S_IFREG | 0600, 0) == 0);
	CHECK(S_ISREG(st_of("file").st_mode));
	r = open("fifo", O_RDONLY | O_NONBLOCK);
	CHECK(r >= 0);
	w = open("fifo", O_WRONLY);
	CHECK(w >= 0);
	CHECK_EQ(write(w, "x", 1), 1);
	CHECK_EQ(read(r, &c, 1), 1);
	s = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(bind(s, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	CHECK(S_ISSOCK(st_of("sock").st_mode));
	CHECK(listen(s, 1) == 0);
	p = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(connect(p, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	CHECK(rename("sock", "moved") == 0);
	CHECK(unlink("moved") == 0);
}

static void device_nodes(void)
{
	need_root();
	if (mknod("null", S_IFCHR | 0666, makedev(1, 3)) < 0)
		SKIP("mknod of a device: %s", strerror(errno));
	CHECK(S_ISCHR(st_of("null").st_mode));
	CHECK_EQ(st_of("null").st_rdev, makedev(1, 3));
	CHECK(mknod("block", S_IFBLK | 0600, makedev(300, 70000)) == 0);
	CHECK_EQ(st_of("block").st_rdev, makedev(300, 70000));
}

static void symlinks(void)
{
	char target[4096], got[4096];

	memset(target, 'y', sizeof(target));
	target[4095] = 0;
	CHECK(symlink(target, "long") == 0);
	CHECK_EQ(readlink("long", got, sizeof(got)), 4095);
	CHECK(memcmp(target, got, 4095) == 0);
	CHECK_EQ(st_of("long").st_size, 4095);
	CHECK(symlink("nowhere", "dangling") == 0);
	CHECK_ERRNO(open("dangling", O_RDONLY), ENOENT);
	CHECK_ERRNO(open("dangling", O_RDONLY | O_NOFOLLOW), ELOOP);
	CHECK(symlink("loop", "loop") == 0);
	CHECK_ERRNO(open("loop", O_RDONLY), ELOOP);
	put("f", "through");
	CHECK(symlink("f", "ok") == 0);
	holds("ok", "through");
	CHECK(lchown("dangling", getuid(), getgid()) == 0);
}

/* ---- open files without a name ---- */

static void tmpfile_link(void)
{
	char proc[64];
	struct stat st;
	int fd = open(".", O_TMPFILE | O_RDWR, 0600);

	if (fd < 0 && unsupported(errno))
		SKIP("O_TMPFILE: %s", strerror(errno));
	CHECK(fd >= 0);
	CHECK_EQ(write(fd, "tmp", 3), 3);
	CHECK(fstat(fd, &st) == 0);
	CHECK_EQ(st.st_nlink, 0);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	CHECK(linkat(AT_FDCWD, proc, AT_FDCWD, "named", AT_SYMLINK_FOLLOW) == 0);
	holds("named", "tmp");
	CHECK(fstat(fd, &st) == 0);
	CHECK_EQ(st.st_nlink, 1);
	CHECK_EQ(st_of("named").st_ino, st.st_ino);
	CHECK_EQ(pwrite(fd, "TMP", 3, 0), 3);
	holds("named", "TMP");
	close(fd);
	fd = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
	CHECK(fd >= 0);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	CHECK_ERRNO(linkat(AT_FDCWD, proc, AT_FDCWD, "never", AT_SYMLINK_FOLLOW), ENOENT);
}

static void open_unlinked(void)
{
	char buf[16];
	struct stat st;
	int fd, dir;

	put("f", "before");
	fd = open("f", O_RDWR);
	CHECK(fd >= 0);
	CHECK(unlink("f") == 0);
	CHECK(!exists("f"));
	CHECK(fstat(fd, &st) == 0);
	CHECK_EQ(st.st_nlink, 0);
	CHECK_EQ(st.st_size, 6);
	CHECK_EQ(pread(fd, buf, sizeof(buf), 0), 6);
	CHECK_EQ(pwrite(fd, "AFTER!!", 7, 0), 7);
	CHECK_EQ(pread(fd, buf, sizeof(buf), 0), 7);
	CHECK(memcmp(buf, "AFTER!!", 7) == 0);
	CHECK(ftruncate(fd, 2) == 0);
	CHECK(fchmod(fd, 0600) == 0);
	CHECK(futimens(fd, NULL) == 0);
	CHECK(fsync(fd) == 0);
	put("f", "new");
	CHECK(fstat(fd, &st) == 0);
	CHECK_EQ(st.st_size, 2);
	holds("f", "new");
	/* replaced by a rename while open */
	put("g", "g");
	CHECK(rename("g", "f") == 0);
	CHECK(close(fd) == 0);
	CHECK(mkdir("d", 0755) == 0);
	dir = open("d", O_RDONLY | O_DIRECTORY);
	CHECK(rmdir("d") == 0);
	CHECK(fstat(dir, &st) == 0);
	CHECK_ERRNO(openat(dir, "x", O_CREAT | O_WRONLY, 0600), ENOENT);
}

/* ---- data ---- */

static void direct_io(void)
{
	int fd = open("f", O_RDWR | O_CREAT | O_DIRECT, 0644);
	char *a, *b;

	if (fd < 0 && unsupported(errno))
		SKIP("O_DIRECT: %s", strerror(errno));
	CHECK(fd >= 0);
	CHECK(posix_memalign((void **)&a, 4096, 65536) == 0);
	CHECK(posix_memalign((void **)&b, 4096, 65536) == 0);
	for (int i = 0; i < 65536; i++)
		a[i] = (char)(i * 7 + i / 4096);
	CHECK_EQ(pwrite(fd, a, 65536, 0), 65536);
	CHECK_EQ(pwrite(fd, a + 4096, 4096, 8192), 4096);
	CHECK_EQ(pread(fd, b, 65536, 0), 65536);
	memcpy(a + 8192, a + 4096, 4096);
	CHECK(memcmp(a, b, 65536) == 0);
	close(fd);
	fd = open("f", O_RDONLY); /* and through the cache */
	memset(b, 0, 65536);
	CHECK_EQ(pread(fd, b, 65536, 0), 65536);
	CHECK(memcmp(a, b, 65536) == 0);
}

#define APPENDS 2000

static void append_from_two(void)
{
	char line[16];
	int next[2] = { 0 };
	pid_t pids[2];
	FILE *f;

	put("log", "");
	for (int who = 0; who < 2; who++) {
		pids[who] = fork();
		if (pids[who] == 0) {
			int fd = open("log", O_WRONLY | O_APPEND);

			CHECK(fd >= 0);
			for (int i = 0; i < APPENDS; i++) {
				int n = snprintf(line, sizeof(line), "%d %06d\n", who, i);

				CHECK_EQ(write(fd, line, (size_t)n), n);
			}
			_exit(0);
		}
	}
	case_wait(pids[0]);
	case_wait(pids[1]);
	CHECK_EQ(st_of("log").st_size, 2 * APPENDS * 9);
	f = fopen("log", "r");
	while (fgets(line, sizeof(line), f)) {
		int who, i;

		CHECK(sscanf(line, "%d %d", &who, &i) == 2 && who >= 0 && who < 2);
		CHECK_EQ(i, next[who]);
		next[who]++;
	}
	CHECK(next[0] == APPENDS && next[1] == APPENDS);
}

static void mmap_shared(void)
{
	char buf[8192];
	int fd = open("f", O_RDWR | O_CREAT, 0644);
	char *m;

	CHECK(ftruncate(fd, 8192) == 0);
	m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(m != MAP_FAILED);
	memset(m, 'm', 8192);
	CHECK(msync(m, 8192, MS_SYNC) == 0);
	CHECK_EQ(pread(fd, buf, 8192, 0), 8192);
	for (int i = 0; i < 8192; i++)
		CHECK(buf[i] == 'm');
	CHECK_EQ(pwrite(fd, "W", 1, 100), 1);
	CHECK(m[100] == 'W');
	m[4096] = 'X';
	CHECK(munmap(m, 8192) == 0);
	CHECK(close(fd) == 0);
	fd = open("f", O_RDONLY);
	CHECK_EQ(pread(fd, buf, 8192, 0), 8192);
	CHECK(buf[4096] == 'X' && buf[100] == 'W' && buf[99] == 'm');
}

static void mmap_private(void)
{
	int fd = open("f", O_RDWR | O_CREAT, 0644);
	char *m, c;

	put("f", "private");
	m = mmap(NULL, 7, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK(m != MAP_FAILED);
	CHECK(memcmp(m, "private", 7) == 0);
	m[0] = 'P';
	CHECK_EQ(pread(fd, &c, 1, 0), 1);
	CHECK(c == 'p');
	CHECK(munmap(m, 7) == 0);
	holds("f", "private");
}

static void execute(void)
{
	char from[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", from, sizeof(from) - 1);
	int in, out, status;
	struct stat st;
	pid_t pid;

	(void)n;
	in = open("/bin/true", O_RDONLY);
	out = open("prog", O_WRONLY | O_CREAT, 0755);
	CHECK(in >= 0 && out >= 0 && fstat(in, &st) == 0);
	for (off_t done = 0; done < st.st_size;) {
		char buf[65536];
		ssize_t r = read(in, buf, sizeof(buf));

		CHECK(r > 0);
		CHECK_EQ(write(out, buf, (size_t)r), r);
		done += r;
	}
	CHECK(close(out) == 0);
	pid = fork();
	if (pid == 0) {
		execl("./prog", "prog", (char *)NULL);
		_exit(99);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(WEXITSTATUS(status), 0);
}

static void truncate_sizes(void)
{
	char buf[16384];
	int fd = open("f", O_RDWR | O_CREAT, 0644);

	memset(buf, 'a', sizeof(buf));
	CHECK_EQ(write(fd, buf, 10000), 10000);
	CHECK(ftruncate(fd, 5000) == 0);
	CHECK_EQ(st_of("f").st_size, 5000);
	CHECK(ftruncate(fd, 12000) == 0);
	CHECK_EQ(pread(fd, buf, sizeof(buf), 0), 12000);
	CHECK(buf[4999] == 'a');
	for (int i = 5000; i < 12000; i++)
		CHECK(buf[i] == 0);
	CHECK(truncate("f", 0) == 0);
	CHECK_EQ(st_of("f").st_size, 0);
	CHECK(truncate("f", 1LL << 40) == 0);
	CHECK_EQ(st_of("f").st_size, 1LL << 40);
	CHECK_EQ(pwrite(fd, "end", 3, (1LL << 40) - 3), 3);
	CHECK_EQ(pread(fd, buf, 16, (1LL << 40) - 3), 3);
	CHECK_ERRNO(ftruncate(fd, -1), EINVAL);
	close(fd);
	fd = open("f", O_RDONLY);
	CHECK_ERRNO(ftruncate(fd, 0), EINVAL);
	fd = open("f", O_WRONLY | O_TRUNC);
	CHECK_EQ(st_of("f").st_size, 0);
}

static void fallocate_modes(void)
{
	char buf[65536], want[65536];
	int fd = open("f", O_RDWR | O_CREAT, 0644);

	memset(want, 'd', sizeof(want));
	CHECK_EQ(pwrite(fd, want, 65536, 0), 65536);
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 65536, 1 << 20) < 0 && unsupported(errno))
		SKIP("fallocate: %s", strerror(errno));
	CHECK_EQ(st_of("f").st_size, 65536);
	CHECK(fallocate(fd, 0, 65536, 4096) == 0);
	CHECK_EQ(st_of("f").st_size, 65536 + 4096);
	CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 5000, 20000) == 0);
	memset(want + 5000, 0, 20000);
	if (fallocate(fd, FALLOC_FL_ZERO_RANGE, 40000, 8000) == 0)
		memset(want + 40000, 0, 8000);
	else
		CHECK(unsupported(errno));
	CHECK_EQ(pread(fd, buf, 65536, 0), 65536);
	CHECK(memcmp(buf, want, 65536) == 0);
	CHECK(posix_fallocate(fd, 0, 100) == 0);
	CHECK_ERRNO(fallocate(fd, 0, 0, -5), EINVAL);
	CHECK_ERRNO(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096), EOPNOTSUPP);
}

/* Where data begin and end may be rounded to blocks; what was written must lie in data, and a big hole be seen. */
static void seek_data_hole(void)
{
	int fd = open("f", O_RDWR | O_CREAT, 0644);
	off_t data, hole;

	CHECK(ftruncate(fd, 8 << 20) == 0);
	CHECK_EQ(pwrite(fd, "data", 4, 4 << 20), 4);
	data = lseek(fd, 0, SEEK_DATA);
	CHECK(data >= 0 && data <= 4 << 20);
	hole = lseek(fd, 4 << 20, SEEK_HOLE);
	CHECK(hole > 4 << 20 && hole <= 8 << 20);
	if (data == 0)
		SKIP("this file system shows no holes");
	CHECK(data > 3 << 20 && hole < 5 << 20);
	CHECK_EQ(lseek(fd, 0, SEEK_HOLE), 0);
	CHECK_ERRNO(lseek(fd, 8 << 20, SEEK_DATA), ENXIO);
	CHECK_ERRNO(lseek(fd, 6 << 20, SEEK_DATA), ENXIO);
	CHECK(st_of("f").st_blocks < 4096);
}

static void copy_range(void)
{
	char buf[100000], got[100000];
	int a = open("a", O_RDWR | O_CREAT, 0644), b = open("b", O_RDWR | O_CREAT, 0644);
	off_t from = 0, to = 0;

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (char)(i * 31);
	CHECK_EQ(write(a, buf, sizeof(buf)), sizeof(buf));
	while (from < (off_t)sizeof(buf)) {
		ssize_t n = copy_file_range(a, &from, b, &to, sizeof(buf), 0);

		if (n < 0 && (unsupported(errno) || errno == EXDEV))
			SKIP("copy_file_range: %s", strerror(errno));
		CHECK(n > 0);
	}
	CHECK_EQ(st_of("b").st_size, sizeof(buf));
	CHECK_EQ(pread(b, got, sizeof(got), 0), sizeof(got));
	CHECK(memcmp(buf, got, sizeof(buf)) == 0);
	from = 1000;
	to = 50001;
	CHECK_EQ(copy_file_range(a, &from, b, &to, 3000, 0), 3000);
	memcpy(buf + 50001, got + 1000, 3000);
	CHECK_EQ(pread(b, got, sizeof(got), 0), sizeof(got));
	CHECK(memcmp(buf, got, sizeof(buf)) == 0);
}

static void big_writes(void)
{
	size_t size = 20 << 20;
	char *a = malloc(size), *b = malloc(size);
	int fd = open("f", O_RDWR | O_CREAT, 0644);

	CHECK(a && b && fd >= 0);
	for (size_t i = 0; i < size; i++)
		a[i] = (char)(i * 13 + i / 8191);
	CHECK_EQ(write(fd, a, size), size);
	CHECK_EQ(pwrite(fd, a, 3 << 20, 12345), 3 << 20);
	memmove(a + 12345, a, 3 << 20);
	CHECK_EQ(pread(fd, b, size, 0), size);
	CHECK(memcmp(a, b, size) == 0);
	CHECK_EQ(pread(fd, b, size, (off_t)size), 0);
}

static void syncs(void)
{
	int fd = open("f", O_RDWR | O_CREAT, 0644), dir = open(".", O_RDONLY | O_DIRECTORY);

	CHECK_EQ(write(fd, "x", 1), 1);
	CHECK(fsync(fd) == 0);
	CHECK(fdatasync(fd) == 0);
	CHECK(fsync(dir) == 0);
	CHECK(fdatasync(dir) == 0);
	CHECK(syncfs(fd) == 0);
	CHECK(sync_file_range(fd, 0, 1, SYNC_FILE_RANGE_WRITE) == 0);
	fd = open("s", O_RDWR | O_CREAT | O_SYNC, 0644);
	CHECK_EQ(write(fd, "x", 1), 1);
}

/* ---- locks ---- */

static void flock_between(void)
{
	int to[2], from[2], fd = open("f", O_RDWR | O_CREAT, 0644);
	pid_t pid;
	char c;

	CHECK(pipe(to) == 0 && pipe(from) == 0);
	CHECK(flock(fd, LOCK_EX) == 0);
	pid = fork();
	if (pid == 0) {
		int mine = open("f", O_RDWR);

		CHECK_ERRNO(flock(mine, LOCK_EX | LOCK_NB), EWOULDBLOCK);
		CHECK_ERRNO(flock(mine, LOCK_SH | LOCK_NB), EWOULDBLOCK);
		CHECK_EQ(write(from[1], "r", 1), 1);
		CHECK(flock(mine, LOCK_EX) == 0); /* waits for the parent */
		CHECK_EQ(pread(mine, &c, 1, 0), 1);
		CHECK(c == 'P');
		_exit(0);
	}
	close(from[1]);
	CHECK_EQ(read(from[0], &c, 1), 1);
	CHECK_EQ(pwrite(fd, "P", 1, 0), 1);
	CHECK(flock(fd, LOCK_UN) == 0);
	case_wait(pid);
}

static void fcntl_between(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_start = 10, .l_len = 10 };
	int from[2], fd = open("f", O_RDWR | O_CREAT, 0644);
	pid_t pid, parent = getpid();
	char c;

	CHECK(pipe(from) == 0);
	CHECK(fcntl(fd, F_SETLK, &lock) == 0);
	pid = fork();
	if (pid == 0) {
		int mine = open("f", O_RDWR);
		struct flock want = { .l_type = F_WRLCK, .l_start = 15, .l_len = 1 };

		CHECK_ERRNO(fcntl(mine, F_SETLK, &want), EAGAIN);
		CHECK(fcntl(mine, F_GETLK, &want) == 0);
		CHECK_EQ(want.l_pid, parent);
		want = (struct flock){ .l_type = F_WRLCK, .l_start = 20, .l_len = 5 };
		CHECK(fcntl(mine, F_SETLK, &want) == 0);
		CHECK_EQ(write(from[1], "r", 1), 1);
		want = (struct flock){ .l_type = F_RDLCK, .l_start = 10, .l_len = 1 };
		CHECK(fcntl(mine, F_SETLKW, &want) == 0);
		CHECK_EQ(pread(mine, &c, 1, 0), 1);
		CHECK(c == 'P');
		_exit(0);
	}
	close(from[1]);
	CHECK_EQ(read(from[0], &c, 1), 1);
	CHECK_EQ(pwrite(fd, "P", 1, 0), 1);
	lock.l_type = F_UNLCK;
	CHECK(fcntl(fd, F_SETLK, &lock) == 0);
	case_wait(pid);
	lock = (struct flock){ .l_type = F_WRLCK, .l_start = 0, .l_len = 100 };
	CHECK(fcntl(fd, F_OFD_SETLK, &lock) == 0);
}

/* ---- attributes ---- */

static void write_x(void)
{
	int fd = open("f", O_WRONLY);

	CHECK(fd >= 0);
	CHECK_EQ(write(fd, "y", 1), 1);
}

static void xattrs(void)
{
	char big[2000], buf[4096], list[256];

	put("f", "x");
	if (setxattr("f", "user.a", "1", 1, 0) < 0 && unsupported(errno))
		SKIP("user xattrs: %s", strerror(errno));
	CHECK(getxattr("f", "user.a", buf, sizeof(buf)) == 1 && buf[0] == '1');
	CHECK_ERRNO(setxattr("f", "user.a", "2", 1, XATTR_CREATE), EEXIST);
	CHECK_ERRNO(setxattr("f", "user.b", "2", 1, XATTR_REPLACE), ENODATA);
	memset(big, 0xfe, sizeof(big));
	CHECK(setxattr("f", "user.big", big, sizeof(big), 0) == 0);
	CHECK_EQ(getxattr("f", "user.big", NULL, 0), sizeof(big));
	CHECK_ERRNO(getxattr("f", "user.big", buf, 10), ERANGE);
	CHECK_EQ(getxattr("f", "user.big", buf, sizeof(buf)), sizeof(big));
	CHECK(memcmp(big, buf, sizeof(big)) == 0);
	CHECK(setxattr("f", "user.empty", "", 0, 0) == 0);
	CHECK_EQ(getxattr("f", "user.empty", buf, sizeof(buf)), 0);
	CHECK_ERRNO(getxattr("f", "user.none", buf, sizeof(buf)), ENODATA);
	CHECK(memmem(list, (size_t)listxattr("f", list, sizeof(list)), "user.big", 9) != NULL);
	CHECK(removexattr("f", "user.a") == 0);
	CHECK_ERRNO(removexattr("f", "user.a"), ENODATA);
	CHECK(mkdir("d", 0755) == 0);
	CHECK(setxattr("d", "user.dir", "d", 1, 0) == 0);
	CHECK_EQ(getxattr("d", "user.dir", buf, sizeof(buf)), 1);
	CHECK(symlink("f", "s") == 0);
	CHECK(lsetxattr("s", "user.no", "x", 1, 0) < 0 && errno == EPERM);
}

static void trusted_xattrs(void)
{
	char buf[64];

	need_root();
	put("f", "x");
	if (setxattr("f", "trusted.t", "tt", 2, 0) < 0)
		SKIP("trusted xattrs: %s", strerror(errno));
	CHECK_EQ(getxattr("f", "trusted.t", buf, sizeof(buf)), 2);
	CHECK(symlink("f", "s") == 0);
	CHECK(lsetxattr("s", "trusted.l", "l", 1, 0) == 0);
	CHECK_EQ(lgetxattr("s", "trusted.l", buf, sizeof(buf)), 1);
	CHECK_ERRNO(getxattr("f", "trusted.l", buf, sizeof(buf)), ENODATA);
	if (setxattr("f", "security.umbra_test", "s", 1, 0) == 0)
		CHECK_EQ(getxattr("f", "security.umbra_test", buf, sizeof(buf)), 1);
}

/* A server may remember that a file has none, but not longer than it is so: execution counts on them, and writing takes
 * them away (capabilities(7)). */
static void file_capabilities(void)
{
	const uint32_t net_raw[] = { 0x02000001, 1u << 13, 0, 0, 0 }; /* vfs_cap_data, revision 2 */
	const char *name = "security.capability";
	char buf[64];

	need_root();
	for (unsigned i = 0; i < 3; i++) {
		put("f", "x"); /* the kernel asks before it writes */
		CHECK_ERRNO(getxattr("f", name, buf, sizeof(buf)), ENODATA);
		CHECK_ERRNO(getxattr("f", name, buf, sizeof(buf)), ENODATA);
		if (setxattr("f", name, net_raw, sizeof(net_raw), 0) < 0 && i == 0)
			SKIP("file capabilities: %s", strerror(errno));
		CHECK_EQ(getxattr("f", name, buf, sizeof(buf)), sizeof(net_raw));
		CHECK(memcmp(buf, net_raw, sizeof(net_raw)) == 0);
		if (i == 1)
			CHECK(removexattr("f", name) == 0);
		else if (i == 2)
			CHECK(truncate("f", 0) == 0);
		else
			write_x();
		CHECK_ERRNO(getxattr("f", name, buf, sizeof(buf)), ENODATA);
	}
}

/* The kernel's form of an ACL: version, then (tag, perm, id) each. */
struct acl_entry {
	uint16_t tag, perm;
	uint32_t id;
};
struct acl {
	uint32_t version;
	struct acl_entry e[5];
};

static void acl_inheritance(void)
{
	struct acl acl = { 2,
			   { { 0x01, 7, -1u },
			     { 0x02, 7, 12345 },
			     { 0x04, 5, -1u },
			     { 0x10, 7, -1u },
			     { 0x20, 0, -1u } } },
		   got;

	CHECK(mkdir("d", 0755) == 0);
	if (setxattr("d", "system.posix_acl_default", &acl, sizeof(acl), 0) < 0 &&
	    unsupported(errno))
		SKIP("ACLs: %s", strerror(errno));
	umask(077); /* must not count where there is a default ACL */
	CHECK(close(open("d/f", O_WRONLY | O_CREAT, 0666)) == 0);
	CHECK_EQ(st_of("d/f").st_mode & 07777, 0660);
	CHECK_EQ(getxattr("d/f", "system.posix_acl_access", &got, sizeof(got)), sizeof(got));
	CHECK(got.e[1].tag == 2 && got.e[1].id == 12345 && got.e[1].perm == 7);
	CHECK_EQ(got.e[3].perm, 6); /* the mask: what the mode asked for */
	CHECK(mkdir("d/sub", 0777) == 0);
	CHECK_EQ(st_of("d/sub").st_mode & 07777, 0770);
	CHECK_EQ(getxattr("d/sub", "system.posix_acl_default", &got, sizeof(got)), sizeof(got));
	CHECK(memcmp(&got, &acl, sizeof(acl)) == 0);
	CHECK(mknod("d/fifo", S_IFIFO | 0644, 0) == 0);
	CHECK_EQ(st_of("d/fifo").st_mode & 07777, 0640);
	/* chmod changes the mask */
	CHECK(chmod("d/f", 0600) == 0);
	CHECK_EQ(getxattr("d/f", "system.posix_acl_access", &got, sizeof(got)), sizeof(got));
	CHECK_EQ(got.e[3].perm, 0);
	CHECK(setxattr("d/f", "system.posix_acl_access", &acl, sizeof(acl), 0) == 0);
	CHECK_EQ(st_of("d/f").st_mode & 07777, 0770);
	CHECK(removexattr("d", "system.posix_acl_default") == 0);
	CHECK(close(open("d/plain", O_WRONLY | O_CREAT, 0666)) == 0);
	CHECK_EQ(st_of("d/plain").st_mode & 07777, 0600);
}

static void umask_counts(void)
{
	umask(027);
	CHECK(close(open("f", O_WRONLY | O_CREAT, 0666)) == 0);
	CHECK_EQ(st_of("f").st_mode & 07777, 0640);
	CHECK(mkdir("d", 0777) == 0);
	CHECK_EQ(st_of("d").st_mode & 07777, 0750);
	CHECK(mkfifo("p", 0666) == 0);
	CHECK_EQ(st_of("p").st_mode & 07777, 0640);
	CHECK(close(open("ro", O_RDWR | O_CREAT | O_EXCL, 0444)) ==
	      0); /* writable through this descriptor */
	CHECK_EQ(st_of("ro").st_mode & 07777, 0440);
	CHECK(chmod("f", 01777) == 0);
}

static void exclusive_create(void)
{
	put("f", "x");
	CHECK_ERRNO(open("f", O_CREAT | O_EXCL | O_WRONLY, 0644), EEXIST);
	CHECK(symlink("nowhere", "s") == 0);
	CHECK_ERRNO(open("s", O_CREAT | O_EXCL | O_WRONLY, 0644), EEXIST);
	CHECK(!exists("nowhere"));
	CHECK_ERRNO(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
	CHECK_ERRNO(open(".", O_WRONLY), EISDIR);
	CHECK_ERRNO(mkdir("f", 0755), EEXIST);
	CHECK_ERRNO(rmdir("f"), ENOTDIR);
	CHECK_ERRNO(unlink("none"), ENOENT);
	CHECK(mkdir("d", 0755) == 0);
	CHECK_ERRNO(unlink("d"), EISDIR);
}

static void setgid_directory(void)
{
	struct stat st;

	need_root();
	CHECK(mkdir("d", 0755) == 0);
	CHECK(chown("d", 0, 4321) == 0);
	CHECK(chmod("d", 02775) == 0);
	put("d/f", "x");
	CHECK_EQ(st_of("d/f").st_gid, 4321);
	CHECK(mkdir("d/sub", 0755) == 0);
	st = st_of("d/sub");
	CHECK_EQ(st.st_gid, 4321);
	CHECK(st.st_mode & S_ISGID);
	CHECK(mkfifo("d/p", 0644) == 0);
	CHECK_EQ(st_of("d/p").st_gid, 4321);
	CHECK(symlink("x", "d/s") == 0);
	CHECK_EQ(st_of("d/s").st_gid, 4321);
	put("plain", "x");
	CHECK_EQ(st_of("plain").st_gid, getegid());
}

static void truncate_x(void)
{
	CHECK(truncate("f", 0) == 0);
}

static void suid_cleared(void)
{
	need_root();
	CHECK(chmod(".", 0777) == 0);
	put("f", "xyz");
	CHECK(chmod("f", 06777) == 0);
	CHECK_EQ(st_of("f").st_mode & 07777, 06777);
	as_user(1234, 1234, write_x);
	CHECK_EQ(st_of("f").st_mode & 07777, 0777);
	CHECK(chmod("f", 06777) == 0);
	as_user(1234, 1234, truncate_x);
	CHECK_EQ(st_of("f").st_mode & 07777, 0777);
	CHECK(chmod("f", 06755) == 0);
	CHECK(chown("f", 1000, 1000) == 0); /* by root, yet chown(2) clears them on executables */
	CHECK_EQ(st_of("f").st_mode & 06000, 0);
	CHECK(chmod("f", 06755) == 0);
	write_x(); /* root keeps them */
	CHECK_EQ(st_of("f").st_mode & 06000, 06000);
}

static void sticky_try(void)
{
	CHECK_ERRNO(unlink("d/a"), EPERM);
	CHECK_ERRNO(rename("d/a", "d/x"), EPERM);
	put("d/b", "b");
	CHECK_ERRNO(rename("d/b", "d/a"), EPERM);
	CHECK(unlink("d/b") == 0);
	CHECK_ERRNO(chmod("d", 0777), EPERM);
}

static void sticky_own(void)
{
	CHECK(unlink("d/a") == 0);
}

static void sticky_directory(void)
{
	need_root();
	CHECK(chmod(".", 0777) == 0);
	CHECK(mkdir("d", 0777) == 0);
	CHECK(chmod("d", 01777) == 0);
	put("d/a", "a");
	CHECK(chown("d/a", 1111, 1111) == 0);
	as_user(2222, 2222, sticky_try);
	holds("d/a", "a");
	as_user(1111, 1111, sticky_own);
	CHECK(!exists("d/a"));
}

static void denied(void)
{
	CHECK_ERRNO(open("f", O_RDONLY), EACCES);
	CHECK_ERRNO(open("f", O_WRONLY), EACCES);
	CHECK_ERRNO(open("d/x", O_RDONLY), EACCES);
	CHECK_ERRNO(open("ro/new", O_CREAT | O_WRONLY, 0644), EACCES);
	CHECK_ERRNO(unlink("ro/x"), EACCES);
	CHECK_ERRNO(chmod("f", 0666), EPERM);
	CHECK_ERRNO(chown("f", 2222, 2222), EPERM);
	CHECK_ERRNO(utimensat(AT_FDCWD, "f", (struct timespec[2]){ { 1, 0 }, { 1, 0 } }, 0), EPERM);
	CHECK_EQ(access("f", R_OK), -1);
	CHECK_ERRNO(open("group", O_WRONLY), EACCES);
	CHECK(open("group", O_RDONLY) >= 0);
}

static void permissions(void)
{
	need_root();
	CHECK(chmod(".", 0755) == 0);
	put("f", "secret");
	CHECK(chmod("f", 0600) == 0);
	CHECK(mkdir("d", 0700) == 0);
	put("d/x", "x");
	CHECK(mkdir("ro", 0755) == 0);
	put("ro/x", "x");
	put("group", "g");
	CHECK(chown("group", 0, 2222) == 0 && chmod("group", 0640) == 0);
	as_user(2222, 2222, denied);
}

static void chown_by_root(void)
{
	struct stat st;

	need_root();
	put("f", "x");
	CHECK(chown("f", 111, 222) == 0);
	st = st_of("f");
	CHECK(st.st_uid == 111 && st.st_gid == 222);
	CHECK(chown("f", -1u, 333) == 0);
	st = st_of("f");
	CHECK(st.st_uid == 111 && st.st_gid == 333);
	CHECK(symlink("f", "s") == 0);
	CHECK(lchown("s", 7, 8) == 0);
	CHECK_EQ(st_of("s").st_uid, 7);
	CHECK_EQ(st_of("f").st_uid, 111);
	CHECK(mkdir("d", 0755) == 0);
	CHECK(chown("d", 4000000000u, 4000000001u) == 0);
	CHECK_EQ(st_of("d").st_uid, 4000000000u);
}

static void times(void)
{
	struct timespec t[2] = { { 1000000000, 123456789 }, { 1500000000, 987654321 } };
	struct stat before, st;

	put("f", "x");
	CHECK(utimensat(AT_FDCWD, "f", t, 0) == 0);
	st = st_of("f");
	CHECK_EQ(st.st_atim.tv_sec, 1000000000);
	CHECK_EQ(st.st_atim.tv_nsec, 123456789);
	CHECK_EQ(st.st_mtim.tv_sec, 1500000000);
	CHECK_EQ(st.st_mtim.tv_nsec, 987654321);
	before = st;
	t[0].tv_nsec = UTIME_OMIT;
	t[1] = (struct timespec){ 1600000000, 1 };
	CHECK(utimensat(AT_FDCWD, "f", t, 0) == 0);
	st = st_of("f");
	CHECK_EQ(st.st_atim.tv_nsec, 123456789);
	CHECK_EQ(st.st_mtim.tv_sec, 1600000000);
	t[0].tv_nsec = UTIME_NOW;
	t[1].tv_nsec = UTIME_OMIT;
	CHECK(utimensat(AT_FDCWD, "f", t, 0) == 0);
	st = st_of("f");
	CHECK(st.st_atim.tv_sec > 1700000000);
	CHECK_EQ(st.st_mtim.tv_sec, 1600000000);
	CHECK(st.st_ctim.tv_sec > before.st_ctim.tv_sec ||
	      (st.st_ctim.tv_sec == before.st_ctim.tv_sec &&
	       st.st_ctim.tv_nsec >= before.st_ctim.tv_nsec));
	CHECK(symlink("f", "s") == 0);
	t[0] = t[1] = (struct timespec){ 42, 43 };
	CHECK(utimensat(AT_FDCWD, "s", t, AT_SYMLINK_NOFOLLOW) == 0);
	CHECK_EQ(st_of("s").st_mtim.tv_nsec, 43);
	CHECK_EQ(st_of("f").st_mtim.tv_sec, 1600000000);
	t[0] = t[1] = (struct timespec){ -5, 0 }; /* before 1970 */
	if (utimensat(AT_FDCWD, "f", t, 0) == 0)
		CHECK_EQ(st_of("f").st_mtim.tv_sec, -5);
}

static bool later(struct timespec a, struct timespec b)
{
	return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

/* The clock of time stamps has the grain of a tick. */
static void tick(void)
{
	struct timespec a, b;

	clock_gettime(CLOCK_REALTIME_COARSE, &a);
	do {
		usleep(1000);
		clock_gettime(CLOCK_REALTIME_COARSE, &b);
	} while (!later(b, a));
}

static void times_move(void)
{
	struct stat d, f, st;
	int fd;

	CHECK(mkdir("d", 0755) == 0);
	put("d/f", "x");
	d = st_of("d");
	f = st_of("d/f");
	tick();
	fd = open("d/f", O_WRONLY);
	CHECK_EQ(pwrite(fd, "y", 1, 0), 1);
	close(fd);
	st = st_of("d/f");
	CHECK(later(st.st_mtim, f.st_mtim) && later(st.st_ctim, f.st_ctim));
	CHECK(!later(st_of("d").st_mtim, d.st_mtim));
	f = st;
	tick();
	CHECK(chmod("d/f", 0600) == 0);
	st = st_of("d/f");
	CHECK(later(st.st_ctim, f.st_ctim) && !later(st.st_mtim, f.st_mtim));
	f = st;
	tick();
	CHECK(link("d/f", "d/g") == 0);
	CHECK(later(st_of("d/f").st_ctim, f.st_ctim));
	CHECK(later(st_of("d").st_mtim, d.st_mtim));
	d = st_of("d");
	tick();
	CHECK(unlink("d/g") == 0);
	CHECK(later(st_of("d").st_mtim, d.st_mtim));
	d = st_of("d");
	tick();
	CHECK(rename("d/f", "d/h") == 0);
	CHECK(later(st_of("d").st_mtim, d.st_mtim));
}

static void inode_flags(void)
{
	int fd = open("f", O_RDWR | O_CREAT, 0644);
	int flags;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		SKIP("flags: %s", strerror(errno));
	flags |= FS_NODUMP_FL;
	CHECK(ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0);
	flags = 0;
	CHECK(ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0);
	CHECK(flags & FS_NODUMP_FL);
}

/* Set or clear flags of chattr(1). Whoever leaves some on the file cannot remove it, so a case that fails clears them, too:
 * CHECK ends a child that does the looking. */
static int chattr(const char *path, int set, int clear)
{
	int fd = open(path, O_RDONLY), flags, r;

	CHECK(fd >= 0);
	r = ioctl(fd, FS_IOC_GETFLAGS, &flags);
	if (r == 0) {
		flags = (flags | set) & ~clear;
		r = ioctl(fd, FS_IOC_SETFLAGS, &flags);
	}
	close(fd);
	return r;
}

/* Run f while the file `path` has the flag. */
static void with_flag(const char *path, int flag, void (*f)(void))
{
	pid_t pid;

	need_root();
	if (chattr(path, flag, 0) < 0)
		SKIP("chattr: %s", strerror(errno));
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		f();
		_exit(0);
	}
	CHECK(pid > 0);
	while (waitid(P_PID, (id_t)pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT) < 0 && errno == EINTR)
		;
	CHECK(chattr(path, 0, flag) == 0);
	case_wait(pid);
}

static void opens_for_appending_only(void)
{
	int fd;

	CHECK_ERRNO(open("log", O_WRONLY), EPERM);
	CHECK_ERRNO(open("log", O_RDWR), EPERM);
	CHECK_ERRNO(open("log", O_WRONLY | O_TRUNC), EPERM);
	CHECK_ERRNO(open("log", O_WRONLY | O_APPEND | O_TRUNC), EPERM);
	CHECK_ERRNO(open("log", O_WRONLY | O_CREAT, 0644), EPERM);
	CHECK_ERRNO(truncate("log", 1), EPERM);
	fd = open("log", O_WRONLY | O_APPEND);
	CHECK(fd >= 0);
	CHECK_EQ(write(fd, "+", 1), 1);
	CHECK_ERRNO(open("log", O_WRONLY), EPERM); /* nor now that it is open for appending */
	close(fd);
	fd = open("log", O_RDONLY);
	CHECK(fd >= 0);
	close(fd);
}

static void append_only(void)
{
	int fd;

	put("log", "hello\n");
	with_flag("log", FS_APPEND_FL, opens_for_appending_only);
	holds("log", "hello\n+");
	fd = open("log", O_WRONLY);
	CHECK(fd >= 0);
	CHECK_EQ(pwrite(fd, "HE", 2, 0), 2);
	holds("log", "HEllo\n+");
}

/* A logger has had it open since before: that is no way in for others. */
static void append_only_of_an_open_file(void)
{
	int fd;

	put("log", "hello\n");
	fd = open("log", O_WRONLY);
	CHECK(fd >= 0);
	with_flag("log", FS_APPEND_FL, opens_for_appending_only);
	holds("log", "hello\n+");
	CHECK_EQ(pwrite(fd, "HE", 2, 0), 2);
	holds("log", "HEllo\n+");
}

/* Who appends may go on, and then write anywhere when the flag has gone. */
static void append_only_for_a_while(void)
{
	int log, fd;

	put("log", "hello\n");
	need_root();
	if (chattr("log", FS_APPEND_FL, 0) < 0)
		SKIP("chattr: %s", strerror(errno));
	log = open("log", O_WRONLY | O_APPEND);
	CHECK(chattr("log", 0, FS_APPEND_FL) == 0);
	CHECK(log >= 0);
	fd = open("log", O_WRONLY);
	CHECK(fd >= 0);
	CHECK_EQ(pwrite(fd, "HE", 2, 0), 2);
	CHECK_EQ(write(log, "+", 1), 1);
	holds("log", "HEllo\n+");
}

static void opens_for_reading_only(void)
{
	int fd;

	CHECK_ERRNO(open("f", O_WRONLY), EPERM);
	CHECK_ERRNO(open("f", O_RDWR), EPERM);
	CHECK_ERRNO(open("f", O_WRONLY | O_APPEND), EPERM);
	CHECK_ERRNO(open("f", O_WRONLY | O_TRUNC), EPERM);
	CHECK_ERRNO(truncate("f", 1), EPERM);
	fd = open("f", O_RDONLY);
	CHECK(fd >= 0);
	close(fd);
}

static void immutable(void)
{
	put("f", "hello");
	with_flag("f", FS_IMMUTABLE_FL, opens_for_reading_only);
	holds("f", "hello");
	put("f", "world");
}

static void immutable_of_an_open_file(void)
{
	int fd;

	put("f", "hello");
	fd = open("f", O_RDWR);
	CHECK(fd >= 0);
	with_flag("f", FS_IMMUTABLE_FL, opens_for_reading_only);
	holds("f", "hello");
	CHECK_EQ(pwrite(fd, "HE", 2, 0), 2);
	holds("f", "HEllo");
}

static void birth_time(void)
{
	struct statx a, b;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	put("f", "x");
	CHECK(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS | STATX_BTIME, &a) == 0);
	if (!(a.stx_mask & STATX_BTIME))
		SKIP("no birth times here");
	CHECK(a.stx_btime.tv_sec >= now.tv_sec - 1 && a.stx_btime.tv_sec <= now.tv_sec + 100);
	tick();
	put("f", "y");
	CHECK(rename("f", "g") == 0);
	CHECK(statx(AT_FDCWD, "g", 0, STATX_BASIC_STATS | STATX_BTIME, &b) == 0);
	CHECK_EQ(a.stx_btime.tv_sec, b.stx_btime.tv_sec);
	CHECK_EQ(a.stx_btime.tv_nsec, b.stx_btime.tv_nsec);
}

static void file_system(void)
{
	struct statfs fs;

	CHECK(statfs(".", &fs) == 0);
	CHECK(fs.f_blocks > 0 && fs.f_bsize > 0);
	CHECK_EQ(fs.f_namelen, 255);
	CHECK(pathconf(".", _PC_NAME_MAX) == 255);
}

/* ---- directories ---- */

#define ENTRIES 5000

static int entry_number(const char *name)
{
	int n;

	return sscanf(name, "entry-%d", &n) == 1 && n >= 0 && n < ENTRIES ? n : -1;
}

/* Every entry that stays is seen exactly once, however the rest changes and wherever one seeks. */
static void readdir_while_deleting(void)
{
	static unsigned char seen[ENTRIES], gone[ENTRIES];
	struct dirent *e;
	long pos = 0, middle = 0;
	char name[32];
	int n = 0;
	DIR *d;

	for (int i = 0; i < ENTRIES; i++) {
		snprintf(name, sizeof(name), "entry-%d", i);
		CHECK(close(open(name, O_WRONLY | O_CREAT, 0644)) == 0);
	}
	d = opendir(".");
	CHECK(d != NULL);
	while ((e = readdir(d))) {
		int k = entry_number(e->d_name);

		pos = telldir(d);
		if (k < 0)
			continue;
		CHECK(!seen[k]);
		seen[k] = 1;
		n++;
		if (n == ENTRIES / 2)
			middle = pos;
		if (n % 5 == 0) { /* delete what was seen already, and something else */
			int other = (k + 1234) % ENTRIES;

			CHECK(unlink(e->d_name) == 0);
			gone[k] = 1;
			snprintf(name, sizeof(name), "entry-%d", other);
			if (!gone[other]) {
				CHECK(unlink(name) == 0);
				gone[other] = 1;
			}
		}
		if (n % 7 == 0)
			seekdir(d, telldir(d));
	}
	for (int i = 0; i < ENTRIES; i++)
		CHECK(seen[i] || gone[i]);
	/* once more from the middle, and from the start */
	memset(seen, 0, sizeof(seen));
	seekdir(d, middle);
	for (n = 0; (e = readdir(d)); n++) {
		int k = entry_number(e->d_name);

		if (k >= 0) {
			CHECK(!seen[k]);
			seen[k] = 1;
		}
	}
	CHECK(n > 0);
	rewinddir(d);
	memset(seen, 0, sizeof(seen));
	while ((e = readdir(d))) {
		int k = entry_number(e->d_name);

		if (k >= 0)
			CHECK(!gone[k] && !seen[k]++);
	}
	for (int i = 0; i < ENTRIES; i++)
		CHECK(seen[i] != gone[i]);
	closedir(d);
}

#define MANY 20000

static void many_entries(void)
{
	static unsigned char seen[MANY];
	struct dirent *e;
	char name[64];
	DIR *d;

	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "a-file-with-a-somewhat-longer-name-%d", i);
		CHECK(close(open(name, O_WRONLY | O_CREAT | O_EXCL, 0644)) == 0);
	}
	d = opendir(".");
	while ((e = readdir(d))) {
		struct stat st;
		int n;

		if (e->d_name[0] == '.')
			continue;
		CHECK(sscanf(e->d_name, "a-file-with-a-somewhat-longer-name-%d", &n) == 1);
		CHECK(n >= 0 && n < MANY && !seen[n]++);
		CHECK_EQ(e->d_type, DT_REG);
		if (n % 97 == 0) {
			CHECK(fstatat(dirfd(d), e->d_name, &st, 0) == 0);
			CHECK_EQ(st.st_ino, e->d_ino);
		}
	}
	for (int i = 0; i < MANY; i++)
		CHECK(seen[i]);
	closedir(d);
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "a-file-with-a-somewhat-longer-name-%d", i);
		CHECK(unlink(name) == 0);
	}
	CHECK(rmdir("../gone") < 0 && errno == ENOENT);
}

/* ---- many at once ---- */

#define THREADS 8

static void *churn(void *arg)
{
	char name[32], other[32], buf[64];
	long who = (long)arg;

	for (int i = 0; i < 300; i++) {
		int fd, n = snprintf(buf, sizeof(buf), "%ld-%d", who, i);

		snprintf(name, sizeof(name), "t%ld-%d", who, i);
		snprintf(other, sizeof(other), "o%ld", who);
		fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0644);
		if (fd < 0 || write(fd, buf, (size_t)n) != n || rename(name, other) < 0)
			return "create, write or rename";
		if (pread(fd, name, sizeof(name), 0) != n || memcmp(name, buf, (size_t)n) != 0)
			return "read back";
		close(fd);
		if (link(other, "shared") < 0 && errno != EEXIST)
			return "link";
		if (unlink("shared") < 0 && errno != ENOENT)
			return "unlink";
		if (i % 10 == 9 && unlink(other) < 0)
			return "unlink own";
	}
	return NULL;
}

static void threads_churn(void)
{
	pthread_t t[THREADS];

	for (long i = 0; i < THREADS; i++)
		CHECK(pthread_create(&t[i], NULL, churn, (void *)i) == 0);
	for (int i = 0; i < THREADS; i++) {
		void *what;

		pthread_join(t[i], &what);
		if (what)
			FAIL("thread %d: %s", i, (char *)what);
	}
}

static const struct test_case cases[] = {
	{ "rename without replacing", rename_noreplace, 0 },
	{ "rename that exchanges", rename_exchange, 0 },
	{ "rename of directories, over files, of links to one file", rename_rules, 0 },
	{ "names of 255 bytes, not UTF-8, with newlines", names_long_and_strange, 0 },
	{ "a path of 100 levels", deep_paths, 0 },
	{ "getcwd in a renamed and in a removed directory", getcwd_after_rename, 0 },
	{ "link counts", link_counts, 0 },
	{ "FIFO and socket", special_files, 0 },
	{ "device nodes", device_nodes, 0 },
	{ "symbolic links: long, dangling, looping", symlinks, 0 },
	{ "O_TMPFILE and linkat", tmpfile_link, 0 },
	{ "files and directories removed while open", open_unlinked, 0 },
	{ "O_DIRECT", direct_io, 0 },
	{ "O_APPEND from two processes", append_from_two, 0 },
	{ "shared mapping and msync", mmap_shared, 0 },
	{ "private mapping", mmap_private, 0 },
	{ "a program is executed", execute, 0 },
	{ "truncate and sizes", truncate_sizes, 0 },
	{ "fallocate: allocate, punch, zero", fallocate_modes, 0 },
	{ "SEEK_DATA and SEEK_HOLE", seek_data_hole, 0 },
	{ "copy_file_range", copy_range, 0 },
	{ "writes of megabytes", big_writes, 0 },
	{ "fsync, fdatasync, syncfs, of directories too", syncs, 0 },
	{ "flock between processes", flock_between, 0 },
	{ "fcntl locks between processes", fcntl_between, 0 },
	{ "user xattrs", xattrs, 0 },
	{ "trusted and security xattrs", trusted_xattrs, 0 },
	{ "file capabilities come, and go with a write", file_capabilities, 0 },
	{ "ACLs are inherited, umask does not count then", acl_inheritance, 0 },
	{ "umask counts", umask_counts, 0 },
	{ "exclusive creation and the usual refusals", exclusive_create, 0 },
	{ "setgid directories hand on their group", setgid_directory, 0 },
	{ "suid and sgid are cleared by writing, truncating, chown", suid_cleared, 0 },
	{ "sticky directories", sticky_directory, 0 },
	{ "permissions count for other users", permissions, 0 },
	{ "chown", chown_by_root, 0 },
	{ "times to the nanosecond, UTIME_NOW and UTIME_OMIT", times, 0 },
	{ "times move when they should", times_move, 0 },
	{ "inode flags by ioctl", inode_flags, 0 },
	{ "append-only files", append_only, 0 },
	{ "append-only of an open file", append_only_of_an_open_file, 0 },
	{ "append-only for a while", append_only_for_a_while, 0 },
	{ "immutable files", immutable, 0 },
	{ "immutable of an open file", immutable_of_an_open_file, 0 },
	{ "birth times", birth_time, 0 },
	{ "statfs", file_system, 0 },
	{ "readdir with seekdir while files are deleted", readdir_while_deleting, 300 },
	{ "20,000 files in one directory", many_entries, 300 },
	{ "eight threads create, rename, link, unlink", threads_churn, 300 },
};

int main(int argc, char **argv)
{
	umask(022);
	if (argc != 2)
		return 2;
	return cases_run(cases, LENGTH(cases), argv[1]);
}
