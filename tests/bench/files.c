/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/bench/files.c - operations on files; see files.h. */
#include "tests/bench/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/bench/bench.h"

#define SMALL_FILE (16u * 1024u)

static char buffer[FILES_MIB];

struct spot files_spot(const char *dir, const char *file, const char *names, unsigned count)
{
	struct spot s = { .file = file, .names = names, .count = count, .fd = -1, .dir_fd = -1 };

	if (snprintf(s.dir, sizeof(s.dir), "%s", dir) >= (int)sizeof(s.dir))
		bench_die("%s: too long", dir);
	return s;
}

static const char *path_in(const struct spot *s, const char *name)
{
	static char path[2 * PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", s->dir, name);
	return path;
}

/* ---- one large file ---- */

void files_open(struct spot *s, bool writable, bool random)
{
	const char *path = path_in(s, s->file);

	s->fd = (int)bench_check(open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC), "open",
				 path);
	posix_fadvise(s->fd, 0, 0, random ? POSIX_FADV_RANDOM : POSIX_FADV_SEQUENTIAL);
}

void files_close(struct spot *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

void files_forget_pages(void *arg, unsigned round)
{
	struct spot *s = arg;

	posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* The i-th piece of a round: a sequence that meets each of the pieces (a power of two) once (Knuth 3.2.1.2, theorem A). */
static off_t piece(unsigned *at, unsigned pieces, size_t size)
{
	*at = (*at * 1664525u + 1013904223u) & (pieces - 1);
	return (off_t)*at * (off_t)size;
}

enum direction { READING, WRITING };

static unsigned pieces(struct spot *s, unsigned round, size_t size, enum direction dir)
{
	unsigned at = round * 2654435761u;

	for (unsigned i = 0; i < s->count; i++) {
		off_t off = piece(&at, FILES_DATA / (unsigned)size, size);
		ssize_t n;

		/* Never the same bytes twice, or a clever store would have less to do. */
		if (dir == WRITING)
			memcpy(buffer, &(struct {
				       unsigned a, b;
				       off_t c;
			       }){ round, i, off },
			       16);
		n = dir == WRITING ? pwrite(s->fd, buffer, size, off)
				   : pread(s->fd, buffer, size, off);
		if (n != (ssize_t)size)
			bench_die("%s/%s at %jd: %s", s->dir, s->file, (intmax_t)off,
				  n < 0 ? strerror(errno) : "short");
	}
	return s->count;
}

unsigned files_write_pages(void *arg, unsigned round)
{
	return pieces(arg, round, FILES_PAGE, WRITING);
}

unsigned files_read_pages(void *arg, unsigned round)
{
	return pieces(arg, round, FILES_PAGE, READING);
}

unsigned files_read_runs(void *arg, unsigned round)
{
	return pieces(arg, round, FILES_READ, READING);
}

static unsigned in_order(struct spot *s, enum direction dir)
{
	for (off_t off = 0; off < FILES_DATA; off += FILES_MIB) {
		ssize_t n = dir == WRITING ? pwrite(s->fd, buffer, FILES_MIB, off)
					   : pread(s->fd, buffer, FILES_MIB, off);

		if (n != FILES_MIB)
			bench_die("%s/%s: %s", s->dir, s->file, n < 0 ? strerror(errno) : "short");
	}
	return FILES_DATA / FILES_MIB;
}

unsigned files_write_mib(void *arg, unsigned round)
{
	return in_order(arg, WRITING);
}

unsigned files_read_mib(void *arg, unsigned round)
{
	return in_order(arg, READING);
}

/* ---- directories of names, a fresh one each round ---- */

static const char *names_path(const struct spot *s, unsigned round)
{
	char name[64];

	snprintf(name, sizeof(name), "names/%s/%u", s->names, round);
	return path_in(s, name);
}

void files_enter_names(void *arg, unsigned round)
{
	struct spot *s = arg;
	const char *path = names_path(s, round);

	s->dir_fd = (int)bench_check(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open", path);
}

unsigned files_stat_names(void *arg, unsigned round)
{
	struct spot *s = arg;
	struct stat st;
	char name[16];

	for (unsigned i = 0; i < FILES_NAMES; i++) {
		snprintf(name, sizeof(name), "%u", i);
		bench_check(fstatat(s->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW), "stat", name);
	}
	return FILES_NAMES;
}

static unsigned list(const char *path)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	if (!d)
		bench_die("opendir %s: %s", path, strerror(errno));
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

unsigned files_list(void *arg, unsigned round)
{
	const char *path = names_path(arg, round);

	if (list(path) != FILES_NAMES + 2)
		bench_die("%s does not have its %u names", path, FILES_NAMES);
	return 1;
}

void files_leave_names(void *arg, unsigned round)
{
	struct spot *s = arg;

	if (s->dir_fd >= 0)
		close(s->dir_fd);
	s->dir_fd = -1;
}

/* What has no name the kernel forgets, and tells the daemon: so all rounds are alike. */
void files_remove_names(void *arg, unsigned round)
{
	struct spot *s = arg;
	char name[16];

	if (s->dir_fd < 0)
		files_enter_names(s, round);
	for (unsigned i = 0; i < FILES_NAMES; i++) {
		snprintf(name, sizeof(name), "%u", i);
		bench_check(unlinkat(s->dir_fd, name, 0), "unlink", name);
	}
	files_leave_names(s, round);
}

/* ---- one file, one directory, again and again ---- */

unsigned files_open_close(void *arg, unsigned round)
{
	struct spot *s = arg;
	const char *path = path_in(s, s->file);

	for (unsigned i = 0; i < s->count; i++)
		close((int)bench_check(open(path, O_RDONLY | O_CLOEXEC), "open", path));
	return s->count;
}

unsigned files_getattr(void *arg, unsigned round)
{
	struct spot *s = arg;
	const char *path = path_in(s, s->file);
	struct statx sx;

	/* Asks the file system even where the kernel remembers (statx(2)). */
	for (unsigned i = 0; i < s->count; i++)
		bench_check(statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &sx),
			    "statx", path);
	return s->count;
}

unsigned files_chmod(void *arg, unsigned round)
{
	struct spot *s = arg;
	const char *path = path_in(s, s->file);

	for (unsigned i = 0; i < s->count; i++)
		bench_check(chmod(path, i % 2 ? 0600 : 0640), "chmod", path);
	return s->count;
}

unsigned files_truncate(void *arg, unsigned round)
{
	struct spot *s = arg;
	const char *path = path_in(s, "work/cut");
	int fd = (int)bench_check(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), "open", path);

	for (unsigned i = 0; i < s->count; i++)
		bench_check(ftruncate(fd, i % 2 ? 100 : 50), "truncate", path);
	close(fd);
	return s->count;
}

unsigned files_create_unlink(void *arg, unsigned round)
{
	struct spot *s = arg;
	char name[32];

	for (unsigned i = 0; i < s->count; i++) {
		const char *path;

		snprintf(name, sizeof(name), "work/new-%u", i);
		path = path_in(s, name);
		close((int)bench_check(open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600),
				       "create", path));
		bench_check(unlink(path), "unlink", path);
	}
	return s->count;
}

static void make_small(const char *path)
{
	int fd = (int)bench_check(open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600),
				  "create", path);

	bench_check(write(fd, buffer, SMALL_FILE) == SMALL_FILE ? 0 : -1, "write", path);
	close(fd);
}

unsigned files_small_file(void *arg, unsigned round)
{
	struct spot *s = arg;
	char name[32];

	for (unsigned i = 0; i < s->count; i++) {
		snprintf(name, sizeof(name), "work/small-%u", i);
		make_small(path_in(s, name));
		bench_check(unlink(path_in(s, name)), "unlink", name);
	}
	return s->count;
}

unsigned files_mkdir_rmdir(void *arg, unsigned round)
{
	struct spot *s = arg;
	const char *path = path_in(s, "work/dir");

	for (unsigned i = 0; i < s->count; i++) {
		bench_check(mkdir(path, 0700), "mkdir", path);
		bench_check(rmdir(path), "rmdir", path);
	}
	return s->count;
}

unsigned files_rename(void *arg, unsigned round)
{
	struct spot *s = arg;
	char there[2 * PATH_MAX], back[2 * PATH_MAX];

	snprintf(there, sizeof(there), "%s", path_in(s, s->file));
	snprintf(back, sizeof(back), "%s", path_in(s, "work/moved"));
	for (unsigned i = 0; i < s->count; i++)
		bench_check(i % 2 ? rename(back, there) : rename(there, back), "rename", there);
	return s->count;
}

unsigned files_list_again(void *arg, unsigned round)
{
	struct spot *s = arg;

	for (unsigned i = 0; i < s->count; i++)
		list(path_in(s, "listed"));
	return s->count;
}

/* ---- sets of small files ---- */

static const char *set_path(const struct spot *s, const char *set, unsigned i)
{
	char name[64];

	snprintf(name, sizeof(name), "work/%s-%u", set, i);
	return path_in(s, name);
}

void files_make(const struct spot *s, const char *set)
{
	for (unsigned i = 0; i < s->count; i++)
		make_small(set_path(s, set, i));
}

unsigned files_unlink_set(const struct spot *s, const char *set)
{
	for (unsigned i = 0; i < s->count; i++) {
		const char *path = set_path(s, set, i);

		bench_check(unlink(path), "unlink", path);
	}
	return s->count;
}

unsigned files_rename_set(const struct spot *s, const char *from, const char *to)
{
	char old[2 * PATH_MAX];

	for (unsigned i = 0; i < s->count; i++) {
		snprintf(old, sizeof(old), "%s", set_path(s, from, i));
		bench_check(rename(old, set_path(s, to, i)), "rename", old);
	}
	return s->count;
}

unsigned files_chmod_set(const struct spot *s, const char *set, unsigned mode)
{
	for (unsigned i = 0; i < s->count; i++) {
		const char *path = set_path(s, set, i);

		bench_check(chmod(path, mode), "chmod", path);
	}
	return s->count;
}

void files_unlink_leftovers(const struct spot *s, const char *set)
{
	for (unsigned i = 0; i < s->count; i++)
		unlink(set_path(s, set, i));
}

/* ---- filling ---- */

static void fill_file(const char *dir, const char *name)
{
	struct spot s = files_spot(dir, name, NULL, 0);
	const char *path = path_in(&s, name);

	s.fd = (int)bench_check(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640), "create", path);
	in_order(&s, WRITING);
	bench_check(fsync(s.fd), "fsync", path);
	close(s.fd);
}

static void fill_empty(const char *dir, unsigned n)
{
	struct spot s = files_spot(dir, NULL, NULL, 0);
	char name[16];

	for (unsigned i = 0; i < n; i++) {
		const char *path;

		snprintf(name, sizeof(name), "%u", i);
		path = path_in(&s, name);
		close((int)bench_check(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640), "create",
				       path));
	}
}

static const char *make_dir(const char *dir, const char *name)
{
	struct spot s = files_spot(dir, NULL, NULL, 0);
	const char *path = path_in(&s, name);

	bench_check(mkdir(path, 0755), "mkdir", path);
	return path;
}

/* Directories 0 ... rounds, the first one for warming up. */
static void fill_names(const char *dir, const char *set, unsigned rounds)
{
	char name[64];

	snprintf(name, sizeof(name), "names/%s", set);
	make_dir(dir, name);
	for (unsigned i = 0; i <= rounds; i++) {
		char path[2 * PATH_MAX];

		snprintf(name, sizeof(name), "names/%s/%u", set, i);
		snprintf(path, sizeof(path), "%s", make_dir(dir, name));
		fill_empty(path, FILES_NAMES);
	}
}

void fill_tree(const char *dir, unsigned rounds, bool for_views)
{
	static const char *const sets[] = { "look", "list", "look2", "list2", "gone" };
	size_t n = rounds == 0 ? 0 : for_views ? 5 : 2;
	char path[2 * PATH_MAX];

	memset(buffer, 'u', sizeof(buffer));
	fill_file(dir, "data");
	fill_file(dir, "data2");
	if (for_views)
		fill_file(dir, "data3");
	make_dir(dir, "work");
	snprintf(path, sizeof(path), "%s", make_dir(dir, "listed"));
	fill_empty(path, FILES_NAMES);
	make_dir(dir, "names");
	for (size_t i = 0; i < n; i++)
		fill_names(dir, sets[i], rounds);
}

void fill_many(const char *dir, unsigned files)
{
	enum { IN_DIR = 500 };
	char name[32], path[2 * PATH_MAX];

	for (unsigned i = 0; i * IN_DIR < files; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		snprintf(path, sizeof(path), "%s", make_dir(dir, name));
		fill_empty(path, files - i * IN_DIR < IN_DIR ? files - i * IN_DIR : IN_DIR);
	}
}
