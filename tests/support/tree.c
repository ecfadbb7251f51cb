/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/support/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/hash.h"

static void *grow(void *array, size_t n, size_t size)
{
	if (n & (n - 1))
		return array;
	return realloc(array, (n ? n * 2 : 1) * size);
}

struct tree_entry *tree_add(struct tree *t, const char *path)
{
	struct tree_entry *grown = grow(t->e, t->n, sizeof(*grown));
	char *copy = strdup(path);

	if (grown)
		t->e = grown;
	if (!grown || !copy) {
		free(copy);
		return NULL;
	}
	t->e[t->n] = (struct tree_entry){ .path = copy };
	return &t->e[t->n++];
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

int tree_add_block(struct tree_entry *e, uint64_t block, const uint8_t *bytes, size_t len)
{
	struct tree_block *grown;

	while (len && bytes[len - 1] == 0)
		len--; /* so that a short last block is the same as one filled up */
	if (all_zero(bytes, len))
		return 0;
	grown = grow(e->blocks, e->n_blocks, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	e->blocks = grown;
	e->blocks[e->n_blocks++] = (struct tree_block){ block, cow_hash(bytes, len, block) };
	return 0;
}

int tree_add_extent(struct tree_entry *e, uint64_t start, uint64_t end)
{
	struct tree_extent *grown;

	if (e->n_data && e->data[e->n_data - 1].end == start) {
		e->data[e->n_data - 1].end = end;
		return 0;
	}
	grown = grow(e->data, e->n_data, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	e->data = grown;
	e->data[e->n_data++] = (struct tree_extent){ start, end };
	return 0;
}

static int by_string(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int tree_set_xattrs(struct tree_entry *e,
		    ssize_t (*get)(void *ud, const char *name, void *buf, size_t size),
		    ssize_t (*list)(void *ud, char *buf, size_t size), void *ud)
{
	CLEANUP(free_p) char *names = malloc(XATTR_LIST_MAX + 1);
	CLEANUP(free_p) char *value = malloc(XATTR_SIZE_MAX);
	char *sorted[512];
	size_t n = 0;
	ssize_t len;

	if (!names || !value)
		return -ENOMEM;
	len = list(ud, names, XATTR_LIST_MAX);
	if (len < 0)
		return len == -EOPNOTSUPP ? 0 : (int)len;
	for (char *at = names; at < names + len; at += strlen(at) + 1) {
		if (n == sizeof(sorted) / sizeof(sorted[0]))
			return -E2BIG;
		sorted[n++] = at;
	}
	if (n)
		qsort(sorted, n, sizeof(sorted[0]), by_string);
	for (size_t i = 0; i < n; i++) {
		size_t name_len = strlen(sorted[i]) + 1;
		uint32_t size;
		uint8_t *grown;

		len = get(ud, sorted[i], value, XATTR_SIZE_MAX);
		if (len < 0)
			return (int)len;
		size = (uint32_t)len;
		grown = realloc(e->xattrs, e->xattrs_len + name_len + 4 + size);
		if (!grown)
			return -ENOMEM;
		e->xattrs = grown;
		memcpy(grown + e->xattrs_len, sorted[i], name_len);
		memcpy(grown + e->xattrs_len + name_len, &size, 4);
		memcpy(grown + e->xattrs_len + name_len + 4, value, size);
		e->xattrs_len += name_len + 4 + size;
	}
	return 0;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct tree_entry *)a)->path, ((const struct tree_entry *)b)->path);
}

void tree_sort(struct tree *t)
{
	if (t->n)
		qsort(t->e, t->n, sizeof(*t->e), by_path);
}

static int by_ino(const void *a, const void *b)
{
	const struct tree_entry *x = *(struct tree_entry *const *)a,
				*y = *(struct tree_entry *const *)b;

	return x->sx.stx_ino < y->sx.stx_ino ? -1 : x->sx.stx_ino > y->sx.stx_ino;
}

static unsigned count_subdirs(const struct tree *t, const char *path)
{
	size_t len = strlen(path);
	unsigned n = 0;

	for (size_t i = 0; i < t->n; i++) {
		const char *p = t->e[i].path;

		if (!S_ISDIR(t->e[i].sx.stx_mode) || !*p)
			continue;
		if (len == 0)
			n += !strchr(p, '/');
		else
			n += strncmp(p, path, len) == 0 && p[len] == '/' &&
			     !strchr(p + len + 1, '/');
	}
	return n;
}

void tree_count_links(struct tree *t)
{
	CLEANUP(free_p) struct tree_entry **list = malloc((t->n + 1) * sizeof(*list));

	if (!list)
		return;
	for (size_t i = 0; i < t->n; i++) {
		list[i] = &t->e[i];
		t->e[i].raw_nlink = t->e[i].sx.stx_nlink;
	}
	if (t->n)
		qsort(list, t->n, sizeof(*list), by_ino);
	for (size_t i = 0, end; i < t->n; i = end) {
		for (end = i; end < t->n && list[end]->sx.stx_ino == list[i]->sx.stx_ino; end++)
			;
		for (size_t k = i; k < end; k++)
			list[k]->sx.stx_nlink = S_ISDIR(list[k]->sx.stx_mode)
							? 2 + count_subdirs(t, list[k]->path)
							: (unsigned)(end - i);
	}
}

const struct tree_entry *tree_find(const struct tree *t, const char *path)
{
	struct tree_entry key = { .path = (char *)path };

	return t->n ? bsearch(&key, t->e, t->n, sizeof(*t->e), by_path) : NULL;
}

static void entry_done(struct tree_entry *e)
{
	free(e->path);
	free(e->link);
	free(e->xattrs);
	free(e->blocks);
	free(e->data);
}

void tree_done(struct tree *t)
{
	for (size_t i = 0; i < t->n; i++)
		entry_done(&t->e[i]);
	free(t->e);
	*t = (struct tree){ 0 };
}

/* ---- reading a live one ---- */

static ssize_t fd_get(void *ud, const char *name, void *buf, size_t size)
{
	ssize_t n = lgetxattr(ud, name, buf, size);

	return n < 0 ? -errno : n;
}

static ssize_t fd_list(void *ud, char *buf, size_t size)
{
	ssize_t n = llistxattr(ud, buf, size);

	return n < 0 ? -errno : n;
}

static bool has_unwritten(int fd)
{
	enum { EXTENTS = 256 };
	CLEANUP(free_p)
	struct fiemap *map = calloc(1, sizeof(*map) + EXTENTS * sizeof(map->fm_extents[0]));

	if (!map)
		return true;
	map->fm_length = FIEMAP_MAX_OFFSET;
	map->fm_extent_count = EXTENTS;
	if (ioctl(fd, FS_IOC_FIEMAP, map) < 0)
		return true; /* cannot tell */
	for (unsigned i = 0; i < map->fm_mapped_extents; i++)
		if (map->fm_extents[i].fe_flags & FIEMAP_EXTENT_UNWRITTEN)
			return true;
	return map->fm_mapped_extents == EXTENTS;
}

static int read_blocks(int fd, struct tree_entry *e, uint64_t start, uint64_t end)
{
	static _Thread_local uint8_t buf[64 * TREE_BLOCK];
	uint64_t at = start / TREE_BLOCK * TREE_BLOCK;
	int r = 0;

	while (r == 0 && at < end) {
		ssize_t n = pread(fd, buf, sizeof(buf), (off_t)at);

		if (n <= 0)
			return n < 0 ? -errno : 0;
		for (size_t i = 0; r == 0 && i < (size_t)n && at + i < end; i += TREE_BLOCK)
			if (!e->n_blocks ||
			    e->blocks[e->n_blocks - 1].block < (at + i) / TREE_BLOCK)
				r = tree_add_block(e, (at + i) / TREE_BLOCK, buf + i,
						   (size_t)n - i < TREE_BLOCK ? (size_t)n - i
									      : TREE_BLOCK);
		at += (uint64_t)n;
	}
	return r;
}

static int read_file(int dir_fd, const char *name, struct tree_entry *e)
{
	CLEANUP(close_p)
	int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC);
	off_t data = 0, hole;
	int r;

	if (fd < 0 && errno == EPERM)
		fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	e->unwritten = has_unwritten(fd);
	while ((data = lseek(fd, data, SEEK_DATA)) >=
	       0) { /* the whole map first: reading may change it */
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		r = tree_add_extent(e, (uint64_t)data, (uint64_t)hole);
		if (r < 0)
			return r;
		data = hole;
	}
	if (errno != ENXIO)
		return -errno;
	r = 0;
	for (size_t i = 0; r == 0 && i < e->n_data; i++)
		r = read_blocks(fd, e, e->data[i].start, e->data[i].end);
	return r;
}

static int read_link(int dir_fd, const char *name, struct tree_entry *e)
{
	char buf[PATH_MAX];
	ssize_t n = readlinkat(dir_fd, name, buf, sizeof(buf) - 1);

	if (n < 0)
		return -errno;
	buf[n] = '\0';
	e->link = strdup(buf);
	return e->link ? 0 : -ENOMEM;
}

static int read_dir(struct tree *t, int dir_fd, const char *path, const char *skip);

static int read_entry(struct tree *t, int dir_fd, const char *name, const char *path)
{
	char proc[64 + NAME_MAX];
	struct tree_entry *e = tree_add(t, path);
	struct statx sx;
	int r = 0;

	if (!e)
		return -ENOMEM;
	if (statx(dir_fd, name, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH,
		  STATX_BASIC_STATS | STATX_BTIME, &sx) < 0)
		return -errno;
	e->sx = sx;
	if (S_ISREG(sx.stx_mode))
		r = read_file(dir_fd, name, e);
	else if (S_ISLNK(sx.stx_mode))
		r = read_link(dir_fd, name, e);
	if (r < 0)
		return r;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d/%s", dir_fd, *name ? name : ".");
	r = tree_set_xattrs(e, fd_get, fd_list, proc);
	if (r == 0 && S_ISDIR(sx.stx_mode) && *name) {
		CLEANUP(close_p)
		int fd = openat(dir_fd, name,
				O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC);

		r = fd < 0 ? -errno : read_dir(t, fd, path, NULL);
	}
	return r;
}

static int read_dir(struct tree *t, int dir_fd, const char *path, const char *skip)
{
	CLEANUP(closedir_p) DIR *d = NULL;
	const struct dirent *de;
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_NOATIME | O_CLOEXEC), r = 0;

	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	while (r == 0 && (de = readdir(d))) {
		CLEANUP(free_p) char *child = NULL;

		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
		    (skip && strcmp(de->d_name, skip) == 0))
			continue;
		if (asprintf(&child, "%s%s%s", path, *path ? "/" : "", de->d_name) < 0)
			return -ENOMEM;
		r = read_entry(t, fd, de->d_name, child);
	}
	return r;
}

int tree_read(int dir_fd, const char *skip, struct tree *ret)
{
	struct tree t = { 0 };
	int r = read_entry(&t, dir_fd, "", "");

	if (r == 0)
		r = read_dir(&t, dir_fd, "", skip);
	if (r < 0) {
		tree_done(&t);
		return r;
	}
	tree_sort(&t);
	tree_count_links(&t);
	*ret = t;
	return 0;
}

/* ---- comparing ---- */

/* For a message: what cannot be printed, and what is too long, is left out. Two at a time. */
static const char *show(const char *path)
{
	static _Thread_local char text[2][128];
	static _Thread_local unsigned which;
	char *to = text[which ^= 1];
	size_t n = 0;

	for (; *path && n < sizeof(text[0]) - 4; path++) {
		if (path[0] == 'x' && path[1] == 'x')
			continue;
		to[n++] = *path > ' ' && *path <= '~' ? *path : '?';
	}
	strcpy(to + n, *path ? "..." : "");
	return to;
}

#define DIFFER(...)                                                                                \
	do {                                                                                       \
		snprintf(why, why_len, __VA_ARGS__);                                               \
		return false;                                                                      \
	} while (0)

static bool same_time(const struct statx_timestamp *a, const struct statx_timestamp *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

#define SAME_FIELD(f, fmt)                                                                         \
	do {                                                                                       \
		if (x->f != y->f)                                                                  \
			DIFFER("%s (inode %llu): " #f " is " fmt ", should be " fmt,               \
			       show(a->path), (unsigned long long)x->stx_ino, y->f, x->f);         \
	} while (0)
#define SAME_TIME(f)                                                                               \
	do {                                                                                       \
		if (!same_time(&x->f, &y->f))                                                      \
			DIFFER("%s (inode %llu): " #f " is %lld.%09u, should be %lld.%09u",        \
			       show(a->path), (unsigned long long)x->stx_ino,                      \
			       (long long)y->f.tv_sec, y->f.tv_nsec, (long long)x->f.tv_sec,       \
			       x->f.tv_nsec);                                                      \
	} while (0)

static bool same_attrs(const struct tree_entry *a, const struct tree_entry *b, unsigned flags,
		       char *why, size_t why_len)
{
	const struct statx *x = &a->sx, *y = &b->sx;
	bool copy = flags & TREE_CONTENT_ONLY;

	if (!copy)
		SAME_FIELD(stx_ino, "%llu");
	SAME_FIELD(stx_mode, "%o");
	SAME_FIELD(stx_uid, "%u");
	SAME_FIELD(stx_gid, "%u");
	SAME_FIELD(stx_nlink, "%u");
	if (!S_ISDIR(x->stx_mode) ||
	    (!copy && !(flags & TREE_REVERTED) && (*a->path || !(flags & TREE_NO_ROOT_TIMES))))
		SAME_FIELD(stx_size, "%llu");
	SAME_FIELD(stx_rdev_major, "%u");
	SAME_FIELD(stx_rdev_minor, "%u");
	if (copy)
		return true;
	if (!(flags & TREE_NO_ROOT_TIMES) || *a->path) {
		SAME_TIME(stx_mtime);
		if (!(flags & TREE_REVERTED))
			SAME_TIME(stx_ctime);
	}
	if ((x->stx_mask ^ y->stx_mask) & (STATX_BASIC_STATS | STATX_BTIME))
		DIFFER("%s: mask is %x, should be %x", show(a->path), y->stx_mask, x->stx_mask);
	if (x->stx_mask & STATX_BTIME)
		SAME_TIME(stx_btime);
	if (flags & TREE_REVERTED)
		return true;
	if (flags & TREE_BLOCKS_LOOSE && x->stx_blocks < y->stx_blocks + 32 &&
	    y->stx_blocks < x->stx_blocks + 32)
		return true;
	SAME_FIELD(stx_blocks, "%llu");
	return true;
}

/* A last block that is not full is left out: appending may turn it from a hole into data. Empty: there are no more. */
static struct tree_extent extent_at(const struct tree_entry *e, size_t i)
{
	uint64_t full = e->sx.stx_size / TREE_BLOCK * TREE_BLOCK;
	struct tree_extent x = { 0 };

	if (i < e->n_data && e->data[i].start < full) {
		x = e->data[i];
		if (x.end > full)
			x.end = full;
	}
	return x;
}

static bool same_content(const struct tree_entry *a, const struct tree_entry *b, unsigned flags,
			 char *why, size_t why_len)
{
	unsigned long long ino = a->sx.stx_ino;

	for (size_t i = 0; i < a->n_blocks || i < b->n_blocks; i++) {
		if (i >= a->n_blocks ||
		    (i < b->n_blocks && b->blocks[i].block < a->blocks[i].block))
			DIFFER("%s (inode %llu): block %llu should be zeros", show(a->path), ino,
			       (unsigned long long)b->blocks[i].block);
		if (i >= b->n_blocks || a->blocks[i].block != b->blocks[i].block)
			DIFFER("%s (inode %llu): block %llu is zeros and should not be",
			       show(a->path), ino, (unsigned long long)a->blocks[i].block);
		if (a->blocks[i].hash != b->blocks[i].hash)
			DIFFER("%s (inode %llu): block %llu has other bytes", show(a->path), ino,
			       (unsigned long long)a->blocks[i].block);
	}
	if (flags & (TREE_CONTENT_ONLY | TREE_HOLES_LOOSE) || a->unwritten || b->unwritten)
		return true;
	for (size_t i = 0;; i++) {
		struct tree_extent x = extent_at(a, i), y = extent_at(b, i);

		if (x.start != y.start || x.end != y.end)
			DIFFER("%s (inode %llu): data %zu at %llu-%llu, should be at %llu-%llu",
			       show(a->path), ino, i, (unsigned long long)y.start,
			       (unsigned long long)y.end, (unsigned long long)x.start,
			       (unsigned long long)x.end);
		if (!x.end)
			break;
	}
	return true;
}

static bool same_entry(const struct tree_entry *a, const struct tree_entry *b, unsigned flags,
		       char *why, size_t why_len)
{
	if (!same_attrs(a, b, flags, why, why_len))
		return false;
	if ((a->link || b->link) && (!a->link || !b->link || strcmp(a->link, b->link) != 0))
		DIFFER("%s: points to %s, should point to %s", show(a->path),
		       b->link ? b->link : "-", a->link ? a->link : "-");
	if (a->xattrs_len != b->xattrs_len ||
	    (a->xattrs_len && memcmp(a->xattrs, b->xattrs, a->xattrs_len) != 0))
		DIFFER("%s (inode %llu): extended attributes differ (%zu bytes, should be %zu)",
		       show(a->path), (unsigned long long)a->sx.stx_ino, b->xattrs_len,
		       a->xattrs_len);
	return !S_ISREG(a->sx.stx_mode) || same_content(a, b, flags, why, why_len);
}

/* The first path with the same inode: what stands for a group of hard links in any copy of the tree. */
static size_t first_name(const struct tree *t, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (t->e[k].sx.stx_ino == t->e[i].sx.stx_ino)
			return k;
	return i;
}

bool tree_same(const struct tree *want, const struct tree *got, unsigned flags, char *why,
	       size_t why_len)
{
	for (size_t i = 0; i < want->n || i < got->n; i++) {
		int r = i >= want->n  ? 1
			: i >= got->n ? -1
				      : strcmp(want->e[i].path, got->e[i].path);

		if (r < 0)
			DIFFER("%s (inode %llu) is missing", show(want->e[i].path),
			       (unsigned long long)want->e[i].sx.stx_ino);
		if (r > 0)
			DIFFER("%s (inode %llu) should not be there%s", show(got->e[i].path),
			       (unsigned long long)got->e[i].sx.stx_ino,
			       i && strcmp(got->e[i - 1].path, got->e[i].path) == 0 ? " twice"
										    : "");
		if (!same_entry(&want->e[i], &got->e[i], flags, why, why_len))
			return false;
		if (want->e[i].sx.stx_nlink > 1 && !S_ISDIR(want->e[i].sx.stx_mode) &&
		    first_name(want, i) != first_name(got, i))
			DIFFER("%s: is a hard link of something else", show(want->e[i].path));
	}
	return true;
}

/* ---- in a file: lengths, then the bytes ---- */

static void put(FILE *f, const void *p, size_t len)
{
	uint64_t n = len;

	fwrite(&n, sizeof(n), 1, f);
	if (len)
		fwrite(p, 1, len, f);
}

static void *get(FILE *f, size_t *ret_len)
{
	uint64_t n;
	char *p;

	if (fread(&n, sizeof(n), 1, f) != 1 || n > 1u << 30)
		return NULL;
	p = calloc(1, n + 1);
	if (!p || fread(p, 1, n, f) != n) {
		free(p);
		return NULL;
	}
	if (ret_len)
		*ret_len = n;
	return p;
}

int tree_save(const struct tree *t, FILE *f)
{
	put(f, &t->n, sizeof(t->n));
	for (size_t i = 0; i < t->n; i++) {
		const struct tree_entry *e = &t->e[i];

		put(f, e, sizeof(*e));
		put(f, e->path, strlen(e->path));
		put(f, e->link ? e->link : "", e->link ? strlen(e->link) : 0);
		put(f, e->xattrs, e->xattrs_len);
		put(f, e->blocks, e->n_blocks * sizeof(*e->blocks));
		put(f, e->data, e->n_data * sizeof(*e->data));
	}
	return ferror(f) ? -EIO : 0;
}

static int load_entry(FILE *f, struct tree_entry *e)
{
	CLEANUP(free_p) struct tree_entry *raw = get(f, NULL);

	if (!raw)
		return -EIO;
	*e = *raw;
	e->path = get(f, NULL);
	e->link = get(f, NULL);
	e->xattrs = get(f, NULL);
	e->blocks = get(f, NULL);
	e->data = get(f, NULL);
	if (!S_ISLNK(e->sx.stx_mode)) {
		free(e->link);
		e->link = NULL;
	}
	return e->path && e->xattrs && e->blocks && e->data ? 0 : -EIO;
}

int tree_load(FILE *f, struct tree *ret)
{
	CLEANUP(free_p) size_t *n = get(f, NULL);
	struct tree t = { 0 };
	int r = n ? 0 : -EIO;

	if (r == 0)
		t.e = calloc(*n + 1, sizeof(*t.e));
	if (!t.e)
		return -EIO;
	while (r == 0 && t.n < *n)
		r = load_entry(f, &t.e[t.n++]);
	if (r < 0)
		tree_done(&t);
	else
		*ret = t;
	return r;
}

/* ---- copying and removing ---- */

struct copied {
	uint64_t ino;
	char *path;
};

struct copier {
	int from, to;
	struct copied *links;
	size_t n;
};

static int copy_data(int from, int to, const struct tree_entry *e)
{
	static _Thread_local uint8_t buf[64 * TREE_BLOCK];

	for (size_t i = 0; i < e->n_data; i++)
		for (uint64_t at = e->data[i].start; at < e->data[i].end;) {
			uint64_t left = e->data[i].end - at;
			ssize_t n = pread(from, buf, left < sizeof(buf) ? left : sizeof(buf),
					  (off_t)at);

			if (n <= 0)
				return n < 0 ? -errno : -EIO;
			if (pwrite(to, buf, (size_t)n, (off_t)at) != n)
				return -EIO;
			at += (uint64_t)n;
		}
	return ftruncate(to, (off_t)e->sx.stx_size) < 0 ? -errno : 0;
}

static int copy_made(struct copier *c, const struct tree_entry *e)
{
	mode_t type = e->sx.stx_mode & S_IFMT;

	if (type == S_IFDIR)
		return *e->path && mkdirat(c->to, e->path, 0700) < 0 ? -errno : 0;
	if (type == S_IFLNK)
		return symlinkat(e->link, c->to, e->path) < 0 ? -errno : 0;
	if (type == S_IFREG) {
		CLEANUP(close_p) int from = openat(c->from, e->path, O_RDONLY | O_NOATIME);
		CLEANUP(close_p) int to = openat(c->to, e->path, O_RDWR | O_CREAT | O_EXCL, 0600);

		return from < 0 || to < 0 ? -errno : copy_data(from, to, e);
	}
	return mknodat(c->to, e->path, type | 0600,
		       makedev(e->sx.stx_rdev_major, e->sx.stx_rdev_minor)) < 0
		       ? -errno
		       : 0;
}

static int copy_attrs(struct copier *c, const struct tree_entry *e)
{
	const char *name = *e->path ? e->path : ".";
	struct timespec tv[2] = {
		{ .tv_nsec = UTIME_OMIT },
		{ .tv_sec = e->sx.stx_mtime.tv_sec, .tv_nsec = e->sx.stx_mtime.tv_nsec },
	};
	char proc[64 + PATH_MAX];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d/%s", c->to, name);
	if (geteuid() == 0 &&
	    fchownat(c->to, name, e->sx.stx_uid, e->sx.stx_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISLNK(e->sx.stx_mode) && fchmodat(c->to, name, e->sx.stx_mode & 07777, 0) < 0)
		return -errno;
	for (size_t at = 0; at < e->xattrs_len;) {
		const char *attr = (const char *)e->xattrs + at;
		uint32_t len;

		memcpy(&len, attr + strlen(attr) + 1, 4);
		if (lsetxattr(proc, attr, attr + strlen(attr) + 5, len, 0) < 0)
			return -errno;
		at += strlen(attr) + 5 + len;
	}
	return utimensat(c->to, name, tv, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int tree_copy(int from_fd, int to_fd)
{
	struct copier c = { .from = from_fd, .to = to_fd };
	struct tree t;
	int r = tree_read(from_fd, NULL, &t);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < t.n; i++) {
		size_t first = t.e[i].sx.stx_nlink > 1 && !S_ISDIR(t.e[i].sx.stx_mode)
				       ? first_name(&t, i)
				       : i;

		if (first != i)
			r = linkat(to_fd, t.e[first].path, to_fd, t.e[i].path, 0) < 0 ? -errno : 0;
		else
			r = copy_made(&c, &t.e[i]);
	}
	for (size_t i = t.n; r == 0 && i-- > 0;) /* a directory's time after what is in it */
		r = copy_attrs(&c, &t.e[i]);
	tree_done(&t);
	return r;
}

int tree_remove(int parent_fd, const char *name)
{
	CLEANUP(closedir_p) DIR *d = NULL;
	const struct dirent *de;
	int fd, r = 0;

	if (unlinkat(parent_fd, name, 0) == 0)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	while (r == 0 && (de = readdir(d)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			r = tree_remove(fd, de->d_name);
	if (r == 0 && unlinkat(parent_fd, name, AT_REMOVEDIR) < 0)
		r = -errno;
	return r;
}
