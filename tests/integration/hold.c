/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hold UMBRAFS WORK: what a hold does to those who write and to those who read (protocol 3.3, I-6).
 *
 * We play coordinator to a umbrafs: so a hold begins exactly when we say so, and may then be forgotten, as by a
 * coordinator that was stopped or died. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <time.h>

#include "tests/support/cases.h"

#define LENGTH(a) (sizeof(a) / sizeof(*(a)))
#define WRITERS 40 /* more than a FUSE server has threads to wait in */
#define LIMIT_MS 10000

static const char *umbrafs;

/* ---- the coordinator's part ---- */

struct link {
	int listener, sock, serial;
	char in[1 << 16];
	size_t len;
};

static struct link link_;
static char dir[512];
static pid_t daemon_pid;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The next message, ended by NUL, or NULL after so many seconds. */
static char *next_message(struct link *l, double seconds)
{
	static char message[sizeof(l->in)];
	double end = now() + seconds;

	for (;;) {
		char *nul = memchr(l->in, 0, l->len);
		struct pollfd p = { .fd = l->sock, .events = POLLIN };
		ssize_t n;

		if (nul) {
			size_t m = (size_t)(nul - l->in) + 1;

			memcpy(message, l->in, m);
			memmove(l->in, l->in + m, l->len - m);
			l->len -= m;
			return message;
		}
		if (now() > end)
			return NULL;
		if (poll(&p, 1, 50) <= 0)
			continue;
		CHECK(l->len < sizeof(l->in));
		n = read(l->sock, l->in + l->len, sizeof(l->in) - l->len);
		if (n <= 0)
			FAIL("umbrafs hung up");
		l->len += (size_t)n;
	}
}

/* Send a command; returns its serial. */
static int command(struct link *l, const char *call, const char *arguments)
{
	char text[512];
	int n = snprintf(
		text, sizeof(text),
		"{\"parameters\":{\"serial\":%d,\"call\":\"%s\",\"arguments\":%s},\"continues\":true}",
		++l->serial, call, arguments);

	CHECK_EQ(write(l->sock, text, (size_t)n + 1), n + 1);
	return l->serial;
}

/* The answer to a command; true unless it holds an error. */
static bool answered(struct link *l, int serial)
{
	char want[32], *m;

	snprintf(want, sizeof(want), "\"serial\":%d", serial);
	while ((m = next_message(l, 60))) {
		char *at, squeezed[sizeof(l->in)], *to = squeezed;

		for (at = m; *at; at++) /* without the blanks between */
			if (*at != ' ')
				*to++ = *at;
		*to = 0;
		at = strstr(squeezed, want);
		if (at && strchr(",}", at[strlen(want)]))
			return !strstr(squeezed, "\"error\":\"");
	}
	FAIL("no answer to a command");
}

static bool hold(void)
{
	return answered(&link_, command(&link_, "hold", "{\"wait_ms\":10000,\"limit_ms\":10000}"));
}

static bool release(void)
{
	return answered(&link_, command(&link_, "release", "{}"));
}

static void accept_umbrafs(struct link *l)
{
	l->sock = accept4(l->listener, NULL, NULL, SOCK_CLOEXEC);
	l->len = 0;
	CHECK(l->sock >= 0);
	CHECK(strstr(next_message(l, 60), "RegisterProvider") != NULL);
	CHECK(answered(l, command(l, "usage", "{}")));
}

/* ---- the stage ---- */

static void start(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char ready[16] = "";
	int fds[2];

	CHECK(getcwd(dir, sizeof(dir) - 8) != NULL);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%.90s/sock", dir);
	strcat(dir, "/live");
	CHECK(mkdir(dir, 0755) == 0);
	link_.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(bind(link_.listener, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	CHECK(listen(link_.listener, 4) == 0);
	CHECK(pipe(fds) == 0);
	daemon_pid = fork();
	if (daemon_pid == 0) {
		char number[16];

		close(fds[0]);
		snprintf(number, sizeof(number), "%d", fds[1]);
		execl(umbrafs, "umbrafs", "-f", "--coordinator", addr.sun_path, "--ready-fd",
		      number, dir, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	CHECK(read(fds[0], ready, sizeof(ready) - 1) > 0);
	close(fds[0]);
	CHECK(strncmp(ready, "ok", 2) == 0);
	accept_umbrafs(&link_);
	CHECK(chdir(dir) == 0);
}

static void finish(void)
{
	int status;

	CHECK(chdir("/") == 0);
	kill(daemon_pid, SIGTERM);
	CHECK(waitpid(daemon_pid, &status, 0) == daemon_pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- writers that get parked ---- */

struct writer {
	pid_t pid;
	int done; /* end of a pipe: readable when the write has returned */
};

static void put(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT, 0644);

	CHECK(fd >= 0);
	CHECK_EQ(write(fd, "old", 3), 3);
	close(fd);
}

/* A process that says it is about to, then writes "new" into the file. */
static struct writer write_new(const char *name)
{
	struct writer w;
	int fds[2], ready[2];
	char c;

	CHECK(pipe(fds) == 0 && pipe(ready) == 0);
	w.pid = fork();
	if (w.pid == 0) {
		int fd = open(name, O_WRONLY);

		close(link_.sock); /* a copy would keep the connection open */
		if (fd < 0 || write(ready[1], "r", 1) != 1 || pwrite(fd, "new", 3, 0) != 3 ||
		    write(fds[1], "d", 1) != 1)
			_exit(1);
		_exit(0);
	}
	close(fds[1]);
	close(ready[1]);
	CHECK_EQ(read(ready[0], &c, 1), 1);
	close(ready[0]);
	w.done = fds[0];
	return w;
}

static bool is_done(const struct writer *w)
{
	struct pollfd p = { .fd = w->done, .events = POLLIN };
	char c;

	return poll(&p, 1, 0) > 0 && read(w->done, &c, 1) == 1;
}

/* It sleeps in the kernel until a FUSE request of its is answered. */
static bool waits(pid_t pid)
{
	char path[64], text[64] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)pid);
	fd = open(path, O_RDONLY);
	if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0) {
		close(fd);
		return strncmp(text, "18 ", 3) == 0; /* pwrite64 on x86-64 */
	}
	if (fd >= 0)
		close(fd);
	return false;
}

static void until_it_waits(const struct writer *w)
{
	double end = now() + 5;

	/* Where the kernel does not say, the state of the process has to do. */
	while (!waits(w->pid) && now() < end)
		usleep(2000);
	CHECK(!is_done(w));
}

static bool holds(const char *name, const char *text)
{
	char buf[8] = "";
	int fd = open(name, O_RDONLY);
	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	close(fd);
	return n == (ssize_t)strlen(text) && strcmp(buf, text) == 0;
}

/* Fork, and give what does not come back five seconds; only a hang fails, not slowness. */
static void reads_go_on(void)
{
	struct dirent *e;
	struct stat st;
	DIR *d = opendir(".");
	int n = 0, fd;

	CHECK(d != NULL);
	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	closedir(d);
	CHECK(n > 0);
	CHECK(stat("f0", &st) == 0);
	CHECK_ERRNO(stat("no such name", &st), ENOENT);
	CHECK(holds("f0", "old"));
	fd = open("f0", O_RDWR | O_CLOEXEC); /* H-1: opening is no change, nor is closing */
	CHECK(fd >= 0);
	CHECK(close(fd) == 0);
}

/* The directory below the mount, by the descriptor that umbrafs has of it. While a change of names waits, the kernel
 * itself lets nobody look up or list in that directory (it holds its lock), so that is no place to look from. */
static int open_below(void)
{
	struct stat above, st;
	struct dirent *e;
	char path[300];
	DIR *d;

	CHECK(stat(dir, &above) == 0);
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)daemon_pid);
	d = opendir(path);
	CHECK(d != NULL);
	while ((e = readdir(d))) {
		char target[sizeof(dir)] = "";
		int fd;

		if (readlinkat(dirfd(d), e->d_name, target, sizeof(target) - 1) < 0 ||
		    strcmp(target, dir) != 0)
			continue;
		fd = openat(dirfd(d), e->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0 && fstat(fd, &st) == 0 && st.st_dev != above.st_dev) {
			closedir(d);
			return fd;
		}
	}
	FAIL("umbrafs has no descriptor of the directory below");
}

static bool is_there(int below, const char *name)
{
	return faccessat(below, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static struct stat below_stat(int below, const char *name)
{
	struct stat st;

	CHECK(fstatat(below, name, &st, AT_SYMLINK_NOFOLLOW) == 0);
	return st;
}

/* ---- cases ---- */

/* Does a file below have these three bytes? */
static bool is_below(int below, const char *name, const char *bytes)
{
	int fd = openat(below, name, O_RDONLY | O_CLOEXEC);
	char buf[3];
	bool same = pread(fd, buf, 3, 0) == 3 && memcmp(buf, bytes, 3) == 0;

	close(fd);
	return same;
}

static void reads_and_writes(void)
{
	struct writer w;
	char buf[3];
	int below, fd;

	start();
	put("f0");
	put("f1");
	CHECK(hold());
	reads_go_on();
	w = write_new("f1");
	until_it_waits(&w);
	reads_go_on();
	CHECK(!is_done(&w));
	below = open_below();
	fd = openat(below, "f1", O_RDONLY);
	CHECK_EQ(pread(fd, buf, 3, 0), 3);
	CHECK(memcmp(buf, "old", 3) == 0);
	CHECK(release());
	case_wait(w.pid);
	CHECK(holds("f1", "new"));
	CHECK_EQ(pread(fd, buf, 3, 0), 3);
	CHECK(memcmp(buf, "new", 3) == 0);
	close(fd);
	close(below);
	finish();
}

static const char *const ops[] = {
	"create",	   "mkdir",
	"unlink",	   "rmdir",
	"rename",	   "link",
	"symlink",	   "chmod",
	"truncate",	   "xattr",
	"utimens",	   "fallocate",
	"mknod",	   "open with truncation",
	"chown",	   "removexattr",
	"copy_file_range", "write",
};

static int one_op(unsigned i)
{
	switch (i) {
	case 0:
		return open("created", O_WRONLY | O_CREAT, 0644) < 0;
	case 1:
		return mkdir("dir", 0755);
	case 2:
		return unlink("unlinked");
	case 3:
		return rmdir("removed");
	case 4:
		return rename("old name", "new name");
	case 5:
		return link("f0", "linked");
	case 6:
		return symlink("x", "sym");
	case 7:
		return chmod("f1", 0600);
	case 8:
		return truncate("f2", 1);
	case 9:
		return setxattr("f3", "user.x", "x", 1, 0) < 0 && errno != EOPNOTSUPP;
	case 10:
		return utimensat(AT_FDCWD, "f4", NULL, 0);
	case 11:
		return posix_fallocate(open("f5", O_RDWR), 0, 9000);
	case 12:
		return mkfifo("fifo", 0644);
	case 13:
		return open("f6", O_WRONLY | O_TRUNC) < 0;
	case 14:
		return chown("f7", (uid_t)-1, getegid());
	case 15:
		return removexattr("f3", "user.old") < 0 && errno != EOPNOTSUPP && errno != ENODATA;
	case 16:
		return copy_file_range(open("f0", O_RDONLY), NULL, open("f8", O_WRONLY), NULL, 3,
				       0) != 3;
	default:
		return write(open("f9", O_WRONLY), "new", 3) != 3;
	}
}

/* H-1: what is held; what is not is in reads_go_on(). */
static void every_change_is_held(void)
{
	pid_t pids[LENGTH(ops)];
	struct stat st;
	double end;
	int below;

	start();
	below = open_below();
	CHECK(mkdir("calm", 0755) == 0);
	put("calm/f0");
	for (int i = 0; i < 10; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		put(name);
	}
	(void)setxattr("f3", "user.old", "x", 1, 0); /* where there are such */
	put("unlinked");
	put("old name");
	CHECK(mkdir("removed", 0755) == 0);
	CHECK(hold());
	for (unsigned i = 0; i < LENGTH(ops); i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			_exit(one_op(i) ? 1 : 0);
	}
	/* None of them may come back within a part of the hold. */
	end = now() + 2;
	while (now() < end) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		CHECK(pid >= 0);
		for (unsigned i = 0; i < LENGTH(ops); i++)
			if (pid > 0 && pids[i] == pid)
				FAIL("%s returned during the hold", ops[i]);
		if (pid == daemon_pid)
			FAIL("umbrafs ended");
		usleep(20000);
	}
	CHECK(!is_there(below, "created") && !is_there(below, "dir") && !is_there(below, "linked"));
	CHECK(!is_there(below, "new name") && !is_there(below, "sym") && !is_there(below, "fifo"));
	CHECK(is_there(below, "unlinked") && is_there(below, "removed") &&
	      is_there(below, "old name"));
	CHECK_EQ(below_stat(below, "f1").st_mode & 0777, 0644);
	CHECK_EQ(below_stat(below, "f2").st_size, 3);
	CHECK_EQ(below_stat(below, "f5").st_size, 3);
	CHECK_EQ(below_stat(below, "f6").st_size, 3);
	CHECK(is_below(below, "f8", "old") && is_below(below, "f9", "old"));
	CHECK(chdir("calm") == 0);
	reads_go_on();
	CHECK(chdir("..") == 0);
	CHECK(release());
	for (unsigned i = 0; i < LENGTH(ops); i++) {
		int status;

		CHECK(waitpid(pids[i], &status, 0) == pids[i]);
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
			FAIL("%s failed after the hold", ops[i]);
	}
	close(below);
	CHECK(stat("created", &st) == 0 && stat("dir", &st) == 0 && stat("new name", &st) == 0);
	CHECK(stat("unlinked", &st) < 0 && stat("removed", &st) < 0);
	finish();
}

static void killed_writer(void)
{
	struct writer killed, alive;
	int status;

	start();
	put("f0");
	put("f1");
	put("f2");
	CHECK(hold());
	killed = write_new("f1");
	alive = write_new("f2");
	until_it_waits(&killed);
	until_it_waits(&alive);
	CHECK(kill(killed.pid, SIGKILL) == 0);
	CHECK(waitpid(killed.pid, &status, 0) == killed.pid); /* it ends now, not with the hold */
	CHECK(WIFSIGNALED(status));
	CHECK(!is_done(&alive));
	reads_go_on();
	CHECK(release());
	case_wait(alive.pid);
	CHECK(holds("f2", "new"));
	CHECK(holds("f1", "old")); /* H-5 */
	finish();
	CHECK(chdir(dir) == 0);
	CHECK(holds("f1", "old"));
}

static void many_writers(void)
{
	struct writer w[WRITERS];
	char name[16];

	start();
	for (int i = 0; i < WRITERS; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		put(name);
	}
	CHECK(hold());
	for (int i = 1; i < WRITERS; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		w[i] = write_new(name);
	}
	until_it_waits(&w[WRITERS - 1]);
	reads_go_on();
	for (int i = 1; i < WRITERS; i++)
		CHECK(!is_done(&w[i]));
	CHECK(release());
	for (int i = 1; i < WRITERS; i++) {
		case_wait(w[i].pid);
		snprintf(name, sizeof(name), "f%d", i);
		CHECK(holds(name, "new"));
	}
	finish();
}

/* A coordinator that says no more: the hold ends by itself, and what was parked is done. */
static void forgotten(void)
{
	struct writer w;
	double began;

	start();
	put("f0");
	put("f1");
	began = now();
	CHECK(hold());
	w = write_new("f1");
	until_it_waits(&w);
	reads_go_on();
	case_wait(w.pid); /* within the limit, or the case hangs and fails */
	CHECK(holds("f1", "new"));
	if (now() - began < LIMIT_MS / 1000 - 1)
		FAIL("the hold ended after %.1f s though nobody released it", now() - began);
	CHECK(!release()); /* H-4: it was lost, and that is said */
	put("free");	   /* no hold remains */
	CHECK(hold());
	CHECK(release());
	put("free2");
	finish();
}

/* A coordinator that dies: its connection ends, and so does the hold, at once. */
static void deserted(void)
{
	struct writer w;
	double began;

	start();
	put("f0");
	put("f1");
	CHECK(hold());
	began = now();
	w = write_new("f1");
	until_it_waits(&w);
	close(link_.sock);
	case_wait(w.pid);
	if (now() - began > LIMIT_MS / 1000 - 1)
		FAIL("the hold went on for %.1f s", now() - began);
	CHECK(holds("f1", "new"));
	accept_umbrafs(&link_); /* it comes back */
	CHECK(hold());
	CHECK(release());
	put("free");
	finish();
}

/* H-7: the kernel's way to hold a file system is none for a mount like ours, nor is anything held by trying. */
static void no_fifreeze(void)
{
	int fd;

	if (geteuid() != 0)
		SKIP("needs root");
	start();
	put("f0");
	fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_ERRNO(ioctl(fd, FIFREEZE, 0), EOPNOTSUPP);
	close(fd);
	put("f1");
	CHECK(hold());
	CHECK(release());
	put("f2");
	finish();
}

static const struct test_case cases[] = {
	{ "reads go on, a write waits and is done afterwards", reads_and_writes, 60 },
	{ "every kind of change waits", every_change_is_held, 60 },
	{ "a parked writer that is killed disappears at once, its write never happens",
	  killed_writer, 60 },
	{ "more parked writers than threads do not block readers", many_writers, 60 },
	{ "a hold that nobody releases ends by itself", forgotten, 60 },
	{ "a hold ends with the coordinator's connection", deserted, 60 },
	{ "FIFREEZE is refused, and our hold replaces it", no_fifreeze, 60 },
};

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	umbrafs = argv[1];
	return cases_run(cases, LENGTH(cases), argv[2]);
}
