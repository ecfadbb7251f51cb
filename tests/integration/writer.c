/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* writer run DIR STATE: writes to files in DIR, makes, renames and removes names, until DIR stops answering; remembers in
 * STATE what must be there: every change that had returned, and the one that had not.
 * writer check DIR STATE: says whether DIR is so. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 8
#define BLOCKS 64
#define BLOCK 4096
#define NAMES 200

struct state {
	uint64_t ops, stamp;
	uint64_t block[FILES][BLOCKS]; /* last stamp written there, 0: none */
	uint64_t name[NAMES];	       /* content of n<i>, 0: there is none */
	/* The change under way, which may or may not have happened. */
	int pending; /* 0 none, 1 block, 2 create, 3 replace, 4 unlink, 5 rename */
	int a, b;
	uint64_t value;
};

static struct state st;
static int dir_fd;
static volatile sig_atomic_t stop;

static void on_term(int sig)
{
	(void)sig;
	stop = 1;
}

static void fill(uint64_t buf[BLOCK / 8], uint64_t stamp)
{
	for (int i = 0; i < BLOCK / 8; i++)
		buf[i] = stamp * 2654435761u + (uint64_t)i;
	buf[0] = stamp;
}

static int write_block(int fd, int block, uint64_t stamp)
{
	uint64_t buf[BLOCK / 8];

	fill(buf, stamp);
	return pwrite(fd, buf, BLOCK, (off_t)block * BLOCK) == BLOCK ? 0 : -1;
}

static int put_name(const char *name, uint64_t value, int flags)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | flags, 0644);
	int r;

	if (fd < 0)
		return -1;
	r = write(fd, &value, 8) == 8 ? 0 : -1;
	return close(fd) < 0 ? -1 : r;
}

static char *name_of(char *buf, int i)
{
	snprintf(buf, 16, "n%d", i);
	return buf;
}

static int change_name(int k, int b)
{
	char name[16], other[16];

	name_of(name, k);
	if (!st.name[k]) {
		st.pending = 2;
		return put_name(name, st.value, O_EXCL);
	}
	switch (st.ops % 3) {
	case 0:
		st.pending = 4;
		return unlinkat(dir_fd, name, 0);
	case 1:
		st.pending = 3;
		if (put_name("tmp", st.value, O_TRUNC) < 0)
			return -1;
		return renameat(dir_fd, "tmp", dir_fd, name);
	default:
		st.pending = 5;
		return renameat(dir_fd, name, dir_fd, name_of(other, b));
	}
}

static void returned(void)
{
	switch (st.pending) {
	case 1:
		st.block[st.a][st.b] = st.value;
		break;
	case 2:
	case 3:
		st.name[st.a] = st.value;
		break;
	case 4:
		st.name[st.a] = 0;
		break;
	case 5:
		if (st.a != st.b) {
			st.name[st.b] = st.name[st.a];
			st.name[st.a] = 0;
		}
		break;
	}
	st.pending = 0;
}

static int run(const char *state)
{
	int fd[FILES], r = 0, out;

	for (int i = 0; i < FILES; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", i);
		fd[i] = openat(dir_fd, name, O_RDWR | O_CREAT, 0644);
		if (fd[i] < 0)
			return 1;
	}
	printf("running\n");
	fflush(stdout);
	srand(getpid());
	while (!stop && r == 0) {
		st.ops++;
		st.value = ++st.stamp;
		if (rand() % 3) {
			st.a = rand() % FILES;
			st.b = rand() % BLOCKS;
			st.pending = 1;
			r = write_block(fd[st.a], st.b, st.value);
		} else {
			st.a = rand() % NAMES;
			st.b = rand() % NAMES;
			r = change_name(st.a, st.b);
		}
		if (r == 0)
			returned();
	}
	printf("%s after %llu changes: %s\n", r ? "stopped" : "ended", (unsigned long long)st.ops,
	       strerror(errno));
	out = open(state, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (out < 0 || write(out, &st, sizeof(st)) != sizeof(st))
		return 1;
	return 0;
}

static int bad(const char *what, int i, int k, uint64_t got, uint64_t want)
{
	printf("%s %d %d: has %llu, should have %llu\n", what, i, k, (unsigned long long)got,
	       (unsigned long long)want);
	return 1;
}

static int check_blocks(void)
{
	uint64_t buf[BLOCK / 8], want[BLOCK / 8];
	int errors = 0;

	for (int i = 0; i < FILES; i++) {
		char name[16];
		int fd;

		snprintf(name, sizeof(name), "f%d", i);
		fd = openat(dir_fd, name, O_RDONLY);
		if (fd < 0)
			return bad("no file", i, 0, 0, 0);
		for (int k = 0; k < BLOCKS; k++) {
			int pending = st.pending == 1 && st.a == i && st.b == k;
			ssize_t n = pread(fd, buf, BLOCK, (off_t)k * BLOCK);

			if (n < BLOCK)
				memset((char *)buf + (n > 0 ? n : 0), 0,
				       BLOCK - (size_t)(n > 0 ? n : 0));
			if (st.block[i][k])
				fill(want, st.block[i][k]);
			else
				memset(want, 0, BLOCK);
			if (memcmp(buf, want, BLOCK) == 0)
				continue;
			fill(want, st.value);
			/* a write that did not return may have been done in part */
			if (!pending)
				errors += bad("block", i, k, buf[0], st.block[i][k]);
		}
		close(fd);
	}
	return errors;
}

static uint64_t value_of(const char *name)
{
	uint64_t v = 0;
	int fd = openat(dir_fd, name, O_RDONLY);

	if (fd < 0)
		return 0;
	if (read(fd, &v, 8) != 8)
		v = 1; /* stamps of names never are that small after the first */
	close(fd);
	return v;
}

static int check_names(void)
{
	int errors = 0;

	for (int i = 0; i < NAMES; i++) {
		char name[16];
		uint64_t v = value_of(name_of(name, i));

		if (v == st.name[i] ||
		    (st.pending >= 2 && (st.a == i || (st.pending == 5 && st.b == i))))
			continue;
		errors += bad("name", i, 0, v, st.name[i]);
	}
	if (st.pending == 5 && st.a != st.b) { /* a rename happened or not, nothing between */
		char name[16];
		uint64_t a = value_of(name_of(name, st.a)), b = value_of(name_of(name, st.b));

		if (!(a == st.name[st.a] && b == st.name[st.b]) && !(a == 0 && b == st.name[st.a]))
			errors += bad("half a rename", st.a, st.b, a, b);
	}
	return errors;
}

static int check(const char *state)
{
	int fd = open(state, O_RDONLY);

	if (fd < 0 || read(fd, &st, sizeof(st)) != sizeof(st)) {
		printf("no state\n");
		return 1;
	}
	return check_blocks() + check_names() != 0;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	signal(SIGTERM, on_term);
	dir_fd = open(argv[2], O_RDONLY | O_DIRECTORY);
	if (dir_fd < 0)
		return 1;
	if (strcmp(argv[1], "check") == 0)
		return check(argv[3]);
	/* Goes on from what the last round left. */
	int fd = open(argv[3], O_RDONLY);

	if (fd >= 0) {
		if (read(fd, &st, sizeof(st)) != sizeof(st))
			return 1;
		close(fd);
		/* What was under way may have happened: take what is there. */
		if (st.pending == 1)
			st.block[st.a][st.b] = 0;
		if (st.pending >= 2) {
			char name[16];

			st.name[st.a] = value_of(name_of(name, st.a));
			if (st.pending == 5)
				st.name[st.b] = value_of(name_of(name, st.b));
		}
		if (st.pending == 1) {
			char name[16];
			int f;

			snprintf(name, sizeof(name), "f%d", st.a);
			f = openat(dir_fd, name, O_RDWR);
			st.block[st.a][st.b] = ++st.stamp;
			if (f < 0 || write_block(f, st.b, st.stamp) < 0)
				return 1;
			close(f);
		}
		st.pending = 0;
	}
	return run(argv[3]);
}
