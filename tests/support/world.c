/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/support/world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cow/base/cleanup.h"

#define MAX_LINKS 1024u
#define MAX_HANDLES 12u
#define BIG (1200u * 1024)

struct wnode {
	mode_t type;
	uint64_t ino;
	unsigned links, handles, children;
	struct wnode *parent; /* of a directory */
	int fd;		      /* O_PATH of a directory, else -1 */
	bool keep;  /* never removed or moved: the world's own directory, the shared one */
	bool named; /* else it had no name when made and can get one */
};

struct wlink {
	struct wnode *dir, *node;
	char *name;
};

struct whandle {
	struct wnode *node;
	int fd;
	struct cow_inode *ci;
};

struct world {
	struct harness *h;
	uint64_t rng;
	struct world_options o;
	struct wnode *top, *shared;
	struct wlink links[MAX_LINKS];
	unsigned n_links;
	struct whandle handles[MAX_HANDLES];
	unsigned n_handles, n_adopted; /* the adopted ones come first */
	char *names[WORLD_NAMES];
	char last[400];
	unsigned count;
	uint8_t *buf;
};

static _Thread_local char doing;

char world_doing(void)
{
	return doing;
}

const char *world_last(const struct world *w)
{
	return w->last;
}

unsigned world_count(const struct world *w)
{
	return w->count;
}

const char *const *world_names(const struct world *w)
{
	return (const char *const *)w->names;
}

static uint64_t rnd(struct world *w, uint64_t below)
{
	return below ? harness_random(&w->rng) % below : 0;
}

static bool one_in(struct world *w, unsigned n)
{
	return rnd(w, n) == 0;
}

__attribute__((format(printf, 2, 3))) static void say(struct world *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->last, sizeof(w->last), fmt, ap);
	va_end(ap);
}

/* ---- what is there ---- */

static struct wlink *find_link(struct world *w, const struct wnode *dir, const char *name)
{
	for (unsigned i = 0; i < w->n_links; i++)
		if (w->links[i].dir == dir && strcmp(w->links[i].name, name) == 0)
			return &w->links[i];
	return NULL;
}

static void node_idle(struct wnode *n)
{
	if (n->links || n->handles)
		return;
	close_p(&n->fd);
	free(n);
}

static bool publish(struct world *w, struct wnode *n)
{
	for (unsigned i = 0; i < w->n_links; i++)
		if (w->links[i].node == n) {
			harness_place_set(w->h, n->ino, w->links[i].dir->ino, w->links[i].name);
			return true;
		}
	return false;
}

static void link_add(struct world *w, struct wnode *dir, const char *name, struct wnode *n)
{
	w->links[w->n_links++] = (struct wlink){ dir, n, strdup(name) };
	dir->children++;
	n->links++;
	n->named = true;
	if (S_ISDIR(n->type))
		n->parent = dir;
}

static struct wnode *link_del(struct world *w, struct wlink *l)
{
	struct wnode *n = l->node;

	l->dir->children--;
	n->links--;
	free(l->name);
	*l = w->links[--w->n_links];
	return n;
}

static void link_lost(struct world *w, struct wlink *l)
{
	uint64_t dir = l->dir->ino;
	char name[256];
	struct wnode *n;

	snprintf(name, sizeof(name), "%s", l->name);
	n = link_del(w, l);
	if (!publish(w, n))
		harness_place_del(w->h, n->ino, dir, name);
}

static struct wnode *node_new(mode_t type, uint64_t ino)
{
	struct wnode *n = calloc(1, sizeof(*n));

	if (!n)
		abort();
	n->type = type & S_IFMT;
	n->ino = ino;
	n->fd = -1;
	return n;
}

static struct wnode *pick_dir(struct world *w)
{
	unsigned tries = 20;

	if (w->shared && one_in(w, 5))
		return w->shared;
	if (w->n_links == 0 || one_in(w, 4))
		return w->top;
	while (tries--) {
		struct wnode *n = w->links[rnd(w, w->n_links)].node;

		if (S_ISDIR(n->type))
			return n;
	}
	return w->top;
}

static unsigned depth(const struct wnode *n)
{
	unsigned d = 0;

	for (; n->parent; n = n->parent)
		d++;
	return d;
}

static bool is_below(const struct wnode *n, const struct wnode *top)
{
	for (; n; n = n->parent)
		if (n == top)
			return true;
	return false;
}

static const char *pick_name(struct world *w)
{
	return w->names[rnd(w, WORLD_NAMES)];
}

static struct wlink *pick_link(struct world *w, mode_t type)
{
	for (unsigned tries = 30; w->n_links && tries--;) {
		struct wlink *l = &w->links[rnd(w, w->n_links)];

		if ((!type || l->node->type == type) && !l->node->keep)
			return l;
	}
	return NULL;
}

/* A directory as a change wants it. */
static struct cow_dir dir_get(struct world *w, struct wnode *d)
{
	return (struct cow_dir){ .fd = d->fd, .inode = cow_inode_get(w->h->st, d->ino) };
}

static void dir_put(struct world *w, struct cow_dir d)
{
	cow_inode_put(w->h->st, d.inode);
}

static void lock_shared(struct world *w, const struct wnode *a, const struct wnode *b);
static void unlock_shared(struct world *w, const struct wnode *a, const struct wnode *b);

/* ---- new things ---- */

static int made(struct world *w, struct wnode *dir, const char *name, int fd)
{
	struct stat st;
	struct wnode *n;

	if (fstatat(fd >= 0 ? fd : dir->fd, fd >= 0 ? "" : name, &st,
		    AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) < 0)
		return -errno;
	n = node_new(st.st_mode, st.st_ino);
	link_add(w, dir, name, n);
	publish(w, n);
	if (S_ISDIR(n->type)) {
		n->fd = openat(dir->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (n->fd < 0)
			return -errno;
	}
	return 0;
}

static void open_handle(struct world *w, struct wnode *n, int fd)
{
	struct whandle *hd;

	if (w->n_handles == MAX_HANDLES) {
		close(fd);
		return;
	}
	hd = &w->handles[w->n_handles++];
	*hd = (struct whandle){ n, fd, cow_inode_get(w->h->st, n->ino) };
	n->handles++;
}

static int close_handle(struct world *w, unsigned i)
{
	struct whandle hd = w->handles[i];

	w->handles[i] = w->handles[--w->n_handles];
	close(hd.fd);
	cow_inode_put(w->h->st, hd.ci);
	hd.node->handles--;
	node_idle(hd.node);
	return 0;
}

enum kind { MAKE_FILE, MAKE_DIR, MAKE_LINK, MAKE_FIFO, MAKE_SOCK, MAKE_DEV };

static int make(struct world *w, enum kind kind)
{
	static const char *const what[] = {
		"create", "mkdir", "symlink", "fifo", "socket", "device"
	};
	struct wnode *d = pick_dir(w);
	const char *name = pick_name(w);
	bool there = find_link(w, d, name), stay_open = one_in(w, 3);
	mode_t mode = (mode_t)(0600 | rnd(w, 0100));
	char target[300];
	struct cow_dir dir;
	int r = 0, fd = -1;

	if (w->n_links >= w->o.max_names || (kind == MAKE_DIR && depth(d) > 6))
		return 0;
	memset(target, 't', sizeof(target));
	target[1 + rnd(w, one_in(w, 4) ? sizeof(target) - 2 : 40)] = '\0';
	say(w, "%s %s in inode %llu", what[kind], name, (unsigned long long)d->ino);
	dir = dir_get(w, d);
	lock_shared(w, d, d);
	harness_enter(w->h);
	switch (kind) {
	case MAKE_FILE:
		r = fd = cow_create(w->h->st, dir, name, O_RDWR, mode);
		break;
	case MAKE_DIR:
		r = cow_mkdir(w->h->st, dir, name, mode | 0700);
		break;
	case MAKE_LINK:
		r = cow_symlink(w->h->st, dir, name, target);
		break;
	default:
		r = cow_mknod(w->h->st, dir, name,
			      (kind == MAKE_FIFO   ? S_IFIFO
			       : kind == MAKE_SOCK ? S_IFSOCK
						   : S_IFCHR) |
				      mode,
			      kind == MAKE_DEV ? makedev(1, 3 + rnd(w, 4)) : 0);
	}
	if (r >= 0 && !there)
		r = made(w, d, name, fd);
	harness_leave(w->h);
	unlock_shared(w, d, d);
	dir_put(w, dir);
	if (there)
		return r == -EEXIST ? 0 : r < 0 ? r : -EINVAL;
	if (r == 0 && fd >= 0) {
		if (stay_open)
			open_handle(w, w->links[w->n_links - 1].node, fd);
		else
			close(fd);
	}
	return r;
}

static int step_tmpfile(struct world *w)
{
	struct wnode *d = pick_dir(w), *n;
	struct cow_dir dir = dir_get(w, d);
	struct stat st;
	int fd;

	say(w, "tmpfile in inode %llu", (unsigned long long)d->ino);
	if (w->o.no_tmpfile || w->n_handles == MAX_HANDLES) {
		dir_put(w, dir);
		return 0;
	}
	harness_enter(w->h);
	fd = cow_tmpfile(w->h->st, dir, O_RDWR, 0640);
	harness_leave(w->h);
	dir_put(w, dir);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	n = node_new(S_IFREG, st.st_ino);
	open_handle(w, n, fd);
	return 0;
}

/* ---- content ---- */

struct target {
	struct wnode *node;
	int fd;
	struct cow_inode *ci;
	bool own; /* to be released */
};

static int target_get(struct world *w, struct target *t)
{
	struct wlink *l;

	*t = (struct target){ .fd = -1 };
	if (w->n_handles && one_in(w, 3)) {
		struct whandle *hd = &w->handles[rnd(w, w->n_handles)];

		*t = (struct target){ hd->node, hd->fd, hd->ci, false };
		return 1;
	}
	l = pick_link(w, S_IFREG);
	if (!l)
		return 0;
	t->fd = openat(l->dir->fd, l->name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (t->fd < 0)
		return -errno;
	t->node = l->node;
	t->ci = cow_inode_get(w->h->st, l->node->ino);
	t->own = true;
	return 1;
}

static void target_put(struct world *w, struct target *t)
{
	if (!t->own)
		return;
	cow_inode_put(w->h->st, t->ci);
	close_p(&t->fd);
}

static uint64_t pick_offset(struct world *w, uint64_t size)
{
	uint64_t off = rnd(w, w->o.sparse ? w->o.max_file : size + 20000);

	if (one_in(w, w->o.sparse ? 20 : 4))
		off = size; /* append */
	if (one_in(w, 3))
		off &= ~UINT64_C(4095);
	if (one_in(w, 25))
		off = rnd(w, 48u << 20); /* far out: large holes */
	return off;
}

static size_t pick_len(struct world *w)
{
	switch (rnd(w, 8)) {
	case 0:
	case 1:
		return 1 + rnd(w, 100);
	case 2:
	case 3:
		return 4096 * (1 + rnd(w, 6));
	case 4:
		return one_in(w, 8) ? BIG - rnd(w, 9000) : 1 + rnd(w, 100000);
	default:
		return 1 + rnd(w, 12000);
	}
}

static uint64_t size_of(const struct target *t)
{
	struct stat st;

	return fstat(t->fd, &st) < 0 ? 0 : (uint64_t)st.st_size;
}

static void fill(struct world *w, size_t len)
{
	uint64_t x = harness_random(&w->rng);

	if (one_in(w, 12)) {
		memset(w->buf, 0, len); /* zeros that are data */
		return;
	}
	for (size_t i = 0; i < len; i += 8) {
		x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
		memcpy(w->buf + i, &x, len - i < 8 ? len - i : 8);
	}
}

static int step_write(struct world *w)
{
	size_t len = pick_len(w), done = 0;
	struct target t;
	uint64_t off;
	ssize_t n = 0;
	int r = target_get(w, &t);

	if (r <= 0)
		return r;
	off = pick_offset(w, size_of(&t));
	if (w->o.max_file && off + len > w->o.max_file && !one_in(w, 50))
		off = rnd(w, w->o.max_file);
	fill(w, len);
	say(w, "write inode %llu at %llu length %zu", (unsigned long long)t.node->ino,
	    (unsigned long long)off, len);
	while (done < len) {
		HARNESS_CHANGE(w->h, n,
			       cow_write(w->h->st, t.ci, t.fd, w->buf + done, len - done,
					 (off_t)(off + done)));
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	target_put(w, &t);
	return n < 0 ? (int)n : done == len ? 0 : -EIO;
}

static int step_truncate(struct world *w)
{
	struct target t;
	uint64_t size, to;
	int r = target_get(w, &t);

	if (r <= 0)
		return r;
	size = size_of(&t);
	switch (rnd(w, 5)) {
	case 0:
		to = 0;
		break;
	case 1:
		to = size + rnd(w, 100000);
		break;
	case 2:
		to = one_in(w, 10) ? (uint64_t)5 << 30 : rnd(w, size + 1);
		break;
	default:
		to = rnd(w, size + 1);
	}
	if (w->o.max_file && to > w->o.max_file && !one_in(w, 20))
		to = rnd(w, w->o.max_file);
	if (one_in(w, 3))
		to &= ~UINT64_C(4095);
	say(w, "truncate inode %llu from %llu to %llu", (unsigned long long)t.node->ino,
	    (unsigned long long)size, (unsigned long long)to);
	HARNESS_CHANGE(w->h, r, cow_truncate(w->h->st, t.ci, t.fd, (off_t)to));
	target_put(w, &t);
	return r;
}

static int step_fallocate(struct world *w)
{
	static const int modes[] = {
		0,
		FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_COLLAPSE_RANGE,
		FALLOC_FL_INSERT_RANGE,
	};
	struct target t;
	uint64_t size, off, len;
	int r = target_get(w, &t), mode = modes[rnd(w, 8)];

	if (r <= 0)
		return r;
	size = size_of(&t);
	off = rnd(w, size + 8192);
	len = 1 + rnd(w, w->o.sparse ? w->o.max_file / 2 : 60000);
	if (mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE) || one_in(w, 2)) {
		off &= ~UINT64_C(4095);
		len = (len + 4095) & ~UINT64_C(4095);
	}
	say(w, "fallocate inode %llu size %llu mode %d at %llu length %llu",
	    (unsigned long long)t.node->ino, (unsigned long long)size, mode,
	    (unsigned long long)off, (unsigned long long)len);
	if (!(mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_COLLAPSE_RANGE)))
		harness_mark(w->h, t.node->ino, HARNESS_UNWRITTEN);
	HARNESS_CHANGE(w->h, r, cow_fallocate(w->h->st, t.ci, t.fd, mode, (off_t)off, (off_t)len));
	target_put(w, &t);
	/* beyond the end; not on this file system; on ext4 for a while, if pages are locked */
	return r == -EINVAL || r == -EOPNOTSUPP || r == -EFBIG ? 0 : r;
}

static int step_copy(struct world *w)
{
	struct target in, out;
	uint64_t in_off, out_off, len = pick_len(w), done = 0;
	ssize_t n = 0;
	int r = target_get(w, &in);

	if (r <= 0)
		return r;
	r = target_get(w, &out);
	if (r <= 0) {
		target_put(w, &in);
		return r;
	}
	in_off = rnd(w, size_of(&in) + 1);
	out_off = pick_offset(w, size_of(&out));
	if (w->o.max_file && out_off + len > w->o.max_file)
		out_off = rnd(w, w->o.max_file);
	say(w, "copy inode %llu at %llu to inode %llu at %llu length %llu",
	    (unsigned long long)in.node->ino, (unsigned long long)in_off,
	    (unsigned long long)out.node->ino, (unsigned long long)out_off,
	    (unsigned long long)len);
	while (done < len && (in.node != out.node)) {
		HARNESS_CHANGE(w->h, n,
			       cow_copy_range(w->h->st, in.fd, (off_t)(in_off + done), out.ci,
					      out.fd, (off_t)(out_off + done), len - done));
		if (n <= 0)
			break;
		done += (uint64_t)n;
	}
	target_put(w, &in);
	target_put(w, &out);
	return n < 0 ? (int)n : 0;
}

static int step_handle(struct world *w)
{
	struct target t;
	int r;

	say(w, "open or close");
	if (w->n_handles > w->n_adopted && (w->n_handles == MAX_HANDLES || one_in(w, 2)))
		return close_handle(w,
				    w->n_adopted + (unsigned)rnd(w, w->n_handles - w->n_adopted));
	r = target_get(w, &t);
	if (r > 0 && t.own) {
		open_handle(w, t.node, TAKE_FD(t.fd));
		cow_inode_put(w->h->st, t.ci);
	}
	return r < 0 ? r : 0;
}

/* ---- attributes ---- */

static const char *const xattr_names[] = { "user.a", "user.b",
					   "user.some long name of an attribute", "security.umbra",
					   "trusted.umbra" };

static int step_attr(struct world *w)
{
	struct wlink *l = pick_link(w, 0);
	bool on_top = one_in(w, 15), root = geteuid() == 0;
	struct wnode *n = on_top || !l ? w->top : l->node;
	CLEANUP(close_p) int fd = -1;
	struct cow_inode *ci;
	struct timespec tv[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_NOW } };
	unsigned which = (unsigned)rnd(w, 6);
	const char *name = xattr_names[rnd(w, root ? 5 : 3)];
	size_t len = one_in(w, 10) ? rnd(w, 3000) : rnd(w, 60);
	mode_t mode = (mode_t)(0600 | rnd(w, 0200) | (S_ISDIR(n->type) ? 0700 : 0));
	uid_t uid = (uid_t)rnd(w, 5);
	gid_t gid = (gid_t)rnd(w, 5);
	int r;

	if (one_in(w, 3))
		tv[1] = (struct timespec){ (time_t)rnd(w, 2000000000), (long)rnd(w, 1000000000) };
	fill(w, len);
	fd = n == w->top ? openat(n->fd, ".", O_PATH | O_CLOEXEC)
			 : openat(l->dir->fd, l->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ci = cow_inode_get(w->h->st, n->ino);
	say(w, "attribute change %u (%s) of inode %llu", which, name, (unsigned long long)n->ino);
	doing = which >= 4 ? 'x' : 0;
	switch (which) {
	case 0:
		if (S_ISLNK(n->type)) {
			r = 0;
			break;
		}
		HARNESS_CHANGE(w->h, r, cow_chmod(w->h->st, ci, fd, mode));
		break;
	case 1:
		if (!root)
			uid = (uid_t)-1, gid = getegid();
		HARNESS_CHANGE(w->h, r, cow_chown(w->h->st, ci, fd, uid, gid));
		break;
	case 2:
	case 3:
		HARNESS_CHANGE(w->h, r, cow_utimens(w->h->st, ci, fd, tv));
		break;
	case 4:
		HARNESS_CHANGE(w->h, r, cow_setxattr(w->h->st, ci, fd, name, w->buf, len, 0));
		break;
	default:
		HARNESS_CHANGE(w->h, r, cow_removexattr(w->h->st, ci, fd, name));
	}
	doing = 0;
	cow_inode_put(w->h->st, ci);
	/* user.* is for files and directories only; there may be no room beside the inode */
	if (which >= 4 && (r == -EPERM || r == -ENODATA || r == -EOPNOTSUPP || r == -ENOSPC))
		r = 0;
	return r;
}

/* ---- names ---- */

static int step_link(struct world *w)
{
	struct wnode *d = pick_dir(w), *n;
	const char *name = pick_name(w);
	bool there = find_link(w, d, name);
	struct wlink *l = pick_link(w, 0);
	CLEANUP(close_p) int own = -1;
	struct cow_inode *ci;
	struct cow_dir dir;
	int fd, r;

	if (w->n_handles > w->n_adopted && one_in(w, 2)) { /* perhaps one that never had a name */
		struct whandle *hd =
			&w->handles[w->n_adopted + rnd(w, w->n_handles - w->n_adopted)];

		n = hd->node;
		fd = hd->fd;
	} else {
		if (!l || S_ISDIR(l->node->type))
			return 0;
		n = l->node;
		fd = own = openat(l->dir->fd, l->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return -errno;
	}
	/* The kernel links nothing that has lost its last name, but the graveyard's name would allow it here. */
	if (w->n_links >= w->o.max_names || (n->named && !n->links))
		return 0;
	say(w, "link inode %llu as %s in inode %llu", (unsigned long long)n->ino, name,
	    (unsigned long long)d->ino);
	dir = dir_get(w, d);
	ci = cow_inode_get(w->h->st, n->ino);
	lock_shared(w, d, d);
	harness_enter(w->h);
	r = cow_link(w->h->st, ci, fd, dir, name);
	harness_mark(w->h, n->ino, HARNESS_LINKED);
	if (r == 0 && !there) {
		link_add(w, d, name, n);
		publish(w, n);
	}
	harness_leave(w->h);
	unlock_shared(w, d, d);
	cow_inode_put(w->h->st, ci);
	dir_put(w, dir);
	if (there)
		return r == -EEXIST || r == -ENOENT ? 0 : r < 0 ? r : -EINVAL;
	/* An unlinked file cannot be linked again; one from O_TMPFILE can, once. */
	return r == -ENOENT && n->links == 0 ? 0 : r;
}

static int step_unlink(struct world *w)
{
	struct wlink *l = pick_link(w, 0);
	struct cow_dir dir;
	struct wnode *d, *n;
	int r;

	if (!l || w->n_links < w->o.max_names / 4)
		return 0;
	d = l->dir;
	n = l->node;
	say(w, "remove %s (inode %llu) from inode %llu", l->name, (unsigned long long)n->ino,
	    (unsigned long long)d->ino);
	dir = dir_get(w, d);
	lock_shared(w, d, d);
	harness_enter(w->h);
	doing = S_ISDIR(n->type) ? 'd' : 'u';
	r = S_ISDIR(n->type) ? cow_rmdir(w->h->st, dir, l->name)
			     : cow_unlink(w->h->st, dir, l->name);
	doing = 0;
	if (r == 0)
		link_lost(w, l);
	harness_leave(w->h);
	unlock_shared(w, d, d);
	dir_put(w, dir);
	if (S_ISDIR(n->type) && n->children)
		return r == -ENOTEMPTY || r == -EEXIST ? 0 : r < 0 ? r : -EINVAL;
	if (r == 0)
		node_idle(n);
	return r;
}

/* What rename(2) is to answer here. */
static int expect_rename(const struct wlink *from, const struct wnode *to_dir,
			 const struct wlink *to, unsigned flags)
{
	bool dir = S_ISDIR(from->node->type);

	if (flags & RENAME_NOREPLACE)
		return to ? -EEXIST : 0;
	if (flags & RENAME_EXCHANGE)
		return to ? 0 : -ENOENT;
	(void)to_dir;
	if (!to || to->node == from->node)
		return 0;
	if (S_ISDIR(to->node->type))
		return dir ? (to->node->children ? -ENOTEMPTY : 0) : -EISDIR;
	return dir ? -ENOTDIR : 0;
}

static void renamed(struct world *w, unsigned from, struct wnode *to_dir, const char *name,
		    unsigned flags)
{
	struct wlink *f = &w->links[from], *t = find_link(w, to_dir, name);
	struct wnode *n = f->node, *victim = t ? t->node : NULL;

	if (victim == n)
		return; /* two names of one inode: nothing happens */
	if (flags & RENAME_EXCHANGE) {
		t->node = n;
		f->node = victim;
		if (S_ISDIR(n->type))
			n->parent = t->dir;
		if (S_ISDIR(victim->type))
			victim->parent = f->dir;
		publish(w, n);
		publish(w, victim);
		return;
	}
	f->dir->children--;
	to_dir->children++;
	f->dir = to_dir;
	free(f->name);
	f->name = strdup(name);
	if (S_ISDIR(n->type))
		n->parent = to_dir;
	publish(w, n);
	if (t) {
		/* find it again: it stands beside the one that has just taken its name */
		for (unsigned i = 0; i < w->n_links; i++)
			if (&w->links[i] != f && w->links[i].dir == to_dir &&
			    strcmp(w->links[i].name, name) == 0) {
				link_lost(w, &w->links[i]);
				break;
			}
	}
}

static int step_rename(struct world *w)
{
	struct wlink *l = pick_link(w, 0), *t;
	struct wnode *to = pick_dir(w), *d, *victim;
	const char *name = pick_name(w);
	unsigned flags = one_in(w, 6) ? RENAME_EXCHANGE : one_in(w, 8) ? RENAME_NOREPLACE : 0;
	struct cow_dir from_dir, to_dir;
	int r, want;

	if (!l)
		return 0;
	d = l->dir;
	if (one_in(w, 2)) { /* over something that is there */
		t = pick_link(w, one_in(w, 2) ? l->node->type : 0);
		if (t) {
			to = t->dir;
			name = t->name;
		}
	} else if (one_in(w, 2)) {
		to = d;
	}
	t = find_link(w, to, name);
	victim = t ? t->node : NULL;
	/* not into itself, and nothing above into what is below it */
	if ((S_ISDIR(l->node->type) && is_below(to, l->node)) ||
	    (victim && S_ISDIR(victim->type) && is_below(d, victim)) || (victim && victim->keep) ||
	    depth(to) > 6)
		return 0;
	want = expect_rename(l, to, t, flags);
	say(w, "rename %s (inode %llu) in inode %llu to %s in inode %llu flags %u victim %llu",
	    l->name, (unsigned long long)l->node->ino, (unsigned long long)d->ino, name,
	    (unsigned long long)to->ino, flags, victim ? (unsigned long long)victim->ino : 0);
	from_dir = dir_get(w, d);
	to_dir = dir_get(w, to);
	lock_shared(w, d, to);
	harness_enter(w->h);
	doing = 'r';
	r = cow_rename(w->h->st, from_dir, l->name, to_dir, name, flags);
	doing = 0;
	if (r == 0 && want == 0)
		renamed(w, (unsigned)(l - w->links), to, name, flags);
	harness_leave(w->h);
	unlock_shared(w, d, to);
	dir_put(w, from_dir);
	dir_put(w, to_dir);
	if (r == 0 && want == 0 && victim)
		node_idle(victim);
	if (r != want && !(want == -ENOTEMPTY && r == -EEXIST)) {
		fprintf(stderr, "# rename answered %d, should be %d\n", r, want);
		return r ? r : -EINVAL;
	}
	return 0;
}

/* ---- together ---- */

static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;

/* The kernel keeps two changes of one directory apart; only the shared one is anybody else's. */
static void lock_shared(struct world *w, const struct wnode *a, const struct wnode *b)
{
	if (w->shared && (a == w->shared || b == w->shared))
		pthread_mutex_lock(&shared_lock);
}

static void unlock_shared(struct world *w, const struct wnode *a, const struct wnode *b)
{
	if (w->shared && (a == w->shared || b == w->shared))
		pthread_mutex_unlock(&shared_lock);
}

int world_step(struct world *w)
{
	unsigned which = (unsigned)rnd(w, 100);

	w->count++;
	if (which < 26)
		return step_write(w);
	if (which < 32)
		return step_truncate(w);
	if (which < 36)
		return step_fallocate(w);
	if (which < 39)
		return step_copy(w);
	if (which < 45)
		return step_handle(w);
	if (which < 53)
		return step_attr(w);
	if (which < 62)
		return make(w, MAKE_FILE);
	if (which < 66)
		return make(w, MAKE_DIR);
	if (which < 68)
		return make(w, MAKE_LINK);
	if (which < 69)
		return make(w, MAKE_FIFO);
	if (which < 70)
		return make(w, one_in(w, 2) || geteuid() ? MAKE_SOCK : MAKE_DEV);
	if (which < 71)
		return step_tmpfile(w);
	if (which < 75)
		return step_link(w);
	if (which < 86)
		return step_unlink(w);
	return step_rename(w);
}

static struct wnode *own_dir(struct world *w, const char *name)
{
	struct wnode *n;
	struct stat st;
	struct cow_dir dir = { .fd = w->h->fd };
	int r;

	if (fstat(w->h->fd, &st) < 0)
		abort();
	if (name) {
		uint64_t root = st.st_ino;

		dir.inode = cow_inode_get(w->h->st, root);
		harness_enter(w->h);
		r = cow_mkdir(w->h->st, dir, name, 0755);
		if ((r < 0 && r != -EEXIST) ||
		    fstatat(w->h->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			abort();
		harness_place_set(w->h, st.st_ino, root, name);
		harness_leave(w->h);
		cow_inode_put(w->h->st, dir.inode);
	}
	n = node_new(S_IFDIR, st.st_ino);
	n->keep = true;
	n->links = 1;
	n->fd = openat(w->h->fd, name ? name : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (n->fd < 0)
		abort();
	return n;
}

struct world *world_new(struct harness *h, uint64_t seed, const struct world_options *o)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->h = h;
	w->rng = seed;
	w->o = *o;
	if (!w->o.max_names || w->o.max_names > MAX_LINKS)
		w->o.max_names = 150;
	if (!w->o.max_file)
		w->o.max_file = 256 * 1024;
	w->buf = malloc(BIG);
	if (!w->buf)
		abort();
	for (unsigned i = 0; i < WORLD_NAMES; i++) {
		char name[256];

		snprintf(name, sizeof(name), "%s%s%02u", o->name ? o->name : "",
			 i % 7 == 3 ? " \r\xff" : "", i);
		if (i == 5) { /* as long as can be */
			size_t len = strlen(name);

			memset(name + len, 'x', 255 - len);
			name[255] = '\0';
		}
		w->names[i] = strdup(name);
	}
	w->top = own_dir(w, o->name);
	if (o->shared)
		w->shared = own_dir(w, o->shared);
	return w;
}

void world_adopt(struct world *w, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		abort();
	open_handle(w, node_new(S_IFREG, st.st_ino), fd);
	w->n_adopted++;
}

void world_close_files(struct world *w)
{
	while (w->n_handles)
		close_handle(w, w->n_handles - 1);
	w->n_adopted = 0;
}

static void forget_links(struct world *w)
{
	for (unsigned i = 0; w->n_links;
	     i = i ? i - 1 : w->n_links - 1) /* directories when empty */
		if (i < w->n_links && !w->links[i].node->children)
			node_idle(link_del(w, &w->links[i]));
}

static struct wnode *known(struct world *w, uint64_t ino)
{
	for (unsigned i = 0; i < w->n_links; i++)
		if (w->links[i].node->ino == ino)
			return w->links[i].node;
	return NULL;
}

static void scan(struct world *w, struct wnode *dir)
{
	struct dirent **list = NULL;
	int n = scandirat(dir->fd, ".", &list, NULL, alphasort);

	for (int i = 0; i < n; i++) {
		const char *name = list[i]->d_name;
		struct wnode *node;

		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
		    strcmp(name, COW_STORE_NAME) == 0 || w->n_links == MAX_LINKS) {
			free(list[i]);
			continue;
		}
		node = known(w, list[i]->d_ino);
		if (node) {
			link_add(w, dir, name, node);
			publish(w, node);
		} else if (made(w, dir, name, -1) < 0) {
			abort();
		} else {
			node = known(w, list[i]->d_ino);
			if (S_ISDIR(node->type))
				scan(w, node);
		}
		free(list[i]);
	}
	free(list);
}

void world_rescan(struct world *w)
{
	world_close_files(w);
	forget_links(w);
	scan(w, w->top);
}

void world_free(struct world *w)
{
	if (!w)
		return;
	world_close_files(w);
	forget_links(w);
	w->top->links = 0;
	node_idle(w->top);
	if (w->shared) {
		w->shared->links = 0;
		node_idle(w->shared);
	}
	for (unsigned i = 0; i < WORLD_NAMES; i++)
		free(w->names[i]);
	free(w->buf);
	free(w);
}
