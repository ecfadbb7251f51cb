/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/support/harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/base/clock.h"

struct harness_place {
	struct harness_place *next;
	uint64_t ino, parent;
	char name[256];
};

/* ---- what the store asks and tells ---- */

static struct harness_place **find_place(struct harness *h, uint64_t ino)
{
	struct harness_place **at =
		&h->places[ino * UINT64_C(0x9e3779b97f4a7c15) >> 32 & (HARNESS_PLACES - 1)];

	while (*at && (*at)->ino != ino)
		at = &(*at)->next;
	return at;
}

static int place(void *userdata, uint64_t ino, uint64_t *ret_parent, char ret_name[256])
{
	struct harness *h = userdata;
	struct harness_place *p;

	pthread_mutex_lock(&h->lock);
	p = *find_place(h, ino);
	if (p) {
		*ret_parent = p->parent;
		memcpy(ret_name, p->name, 256);
	}
	pthread_mutex_unlock(&h->lock);
	return p ? 0 : -ENOENT;
}

void harness_place_set(struct harness *h, uint64_t ino, uint64_t parent, const char *name)
{
	struct harness_place **at;

	pthread_mutex_lock(&h->lock);
	at = find_place(h, ino);
	if (!*at) {
		*at = calloc(1, sizeof(**at));
		if (!*at)
			abort();
		(*at)->ino = ino;
	}
	(*at)->parent = parent;
	snprintf((*at)->name, sizeof((*at)->name), "%s", name);
	pthread_mutex_unlock(&h->lock);
}

void harness_place_del(struct harness *h, uint64_t ino, uint64_t parent, const char *name)
{
	struct harness_place **at, *p;

	pthread_mutex_lock(&h->lock);
	at = find_place(h, ino);
	p = *at;
	if (p && (p->parent != parent || strcmp(p->name, name) != 0))
		p = NULL;
	if (p)
		*at = p->next;
	pthread_mutex_unlock(&h->lock);
	free(p);
}

static void forget_places(struct harness *h)
{
	pthread_mutex_lock(&h->lock); /* a store just opened may be asking */
	for (size_t i = 0; i < HARNESS_PLACES; i++)
		for (struct harness_place *p = h->places[i], *next; p; p = next) {
			next = p->next;
			free(p);
		}
	memset(h->places, 0, sizeof(h->places));
	pthread_mutex_unlock(&h->lock);
}

static int place_below(struct harness *h, int dir_fd, uint64_t parent)
{
	CLEANUP(closedir_p) DIR *d = NULL;
	const struct dirent *de;
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_NOATIME | O_CLOEXEC), r = 0;

	if (fd == -1 && errno == EACCES)
		return 0; /* what is below stays where it was */
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return -errno;
	while (r == 0 && (de = readdir(d))) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
		    strcmp(de->d_name, COW_STORE_NAME) == 0)
			continue;
		harness_place_set(h, de->d_ino, parent, de->d_name);
		if (de->d_type == DT_DIR) {
			CLEANUP(close_p)
			int child = openat(fd, de->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

			r = child < 0 ? -errno : place_below(h, child, de->d_ino);
		}
	}
	return r;
}

int harness_place_all(struct harness *h)
{
	struct stat st;

	if (fstat(h->fd, &st) < 0)
		return -errno;
	return place_below(h, h->fd, st.st_ino);
}

static unsigned *marks_of(struct harness *h, uint64_t ino)
{
	for (size_t i = 0; i < HARNESS_PLACES; i++) {
		size_t at = (ino + i) & (HARNESS_PLACES - 1);

		if (!h->marked[at].ino || h->marked[at].ino == ino) {
			h->marked[at].ino = ino;
			return &h->marked[at].marks;
		}
	}
	abort();
}

void harness_mark(struct harness *h, uint64_t ino, unsigned mark)
{
	pthread_mutex_lock(&h->lock);
	*marks_of(h, ino) |= mark;
	pthread_mutex_unlock(&h->lock);
}

bool harness_marked(struct harness *h, uint64_t ino, unsigned mark)
{
	unsigned marks;

	pthread_mutex_lock(&h->lock);
	marks = *marks_of(h, ino);
	pthread_mutex_unlock(&h->lock);
	return marks & mark;
}

static void on_drop(void *userdata, const struct cow_snapshot *snap, enum cow_drop_cause cause)
{
	struct harness *h = userdata;

	pthread_mutex_lock(&h->lock);
	if (h->n_drops < HARNESS_DROPS) {
		h->drops[h->n_drops].epoch = snap->epoch;
		h->drops[h->n_drops++].cause = cause;
	}
	pthread_mutex_unlock(&h->lock);
}

static void on_gate_open(void *userdata)
{
	struct harness *h = userdata;

	pthread_mutex_lock(&h->lock);
	h->gate_opened++;
	pthread_cond_broadcast(&h->changed);
	pthread_mutex_unlock(&h->lock);
}

bool harness_dropped(struct harness *h, uint64_t epoch, enum cow_drop_cause *ret_cause)
{
	bool found = false;

	pthread_mutex_lock(&h->lock);
	for (size_t i = 0; i < h->n_drops && !found; i++) {
		found = h->drops[i].epoch == epoch;
		if (found && ret_cause)
			*ret_cause = h->drops[i].cause;
	}
	pthread_mutex_unlock(&h->lock);
	return found;
}

size_t harness_drops(struct harness *h)
{
	size_t n;

	pthread_mutex_lock(&h->lock);
	n = h->n_drops;
	pthread_mutex_unlock(&h->lock);
	return n;
}

/* ---- life ---- */

int harness_init(struct harness *h, const char *base)
{
	const char *tmp = getenv("TMPDIR");
	struct statfs fs;

	memset(h, 0, sizeof(*h));
	h->fd = -1;
	if (!base)
		base = tmp && *tmp ? tmp : "/tmp";
	snprintf(h->dir, sizeof(h->dir), "%s/umbra-test.XXXXXX", base);
	if (!mkdtemp(h->dir))
		return -errno;
	h->fd = open(h->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (h->fd < 0)
		return -errno;
	h->loose_blocks = fstatfs(h->fd, &fs) < 0 || fs.f_type != 0x01021994; /* TMPFS_MAGIC */
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->changed, NULL);
	return 0;
}

int harness_open(struct harness *h)
{
	struct cow_options opt = {
		.below_fd = h->fd,
		.store_dir = h->store_dir,
		.max_bytes = h->max_bytes,
		.on_drop = on_drop,
		.on_gate_open = on_gate_open,
		.place = place,
		.userdata = h,
	};
	int r = cow_store_open(&opt, &h->st, h->why, sizeof(h->why));

	if (r < 0)
		return r;
	forget_places(h);
	return harness_place_all(h);
}

int harness_close(struct harness *h, bool remove_empty)
{
	struct cow_store *st = h->st;

	h->st = NULL;
	return cow_store_close(st, remove_empty);
}

void harness_done(struct harness *h)
{
	if (h->st)
		harness_close(h, false);
	forget_places(h);
	close_p(&h->fd);
	tree_remove(AT_FDCWD, h->dir);
	pthread_mutex_destroy(&h->lock);
	pthread_cond_destroy(&h->changed);
}

/* ---- the gate ---- */

void harness_enter(struct harness *h)
{
	struct timespec ts;
	unsigned seen;

	for (;;) {
		pthread_mutex_lock(&h->lock);
		seen = h->gate_opened;
		pthread_mutex_unlock(&h->lock);
		if (cow_gate_enter(h->st))
			return;
		/* The limit is for tests that break the callback; a minute is longer than any hold. */
		clock_gettime(CLOCK_REALTIME, &ts);
		ts.tv_sec += 60;
		pthread_mutex_lock(&h->lock);
		while (h->gate_opened == seen)
			if (pthread_cond_timedwait(&h->changed, &h->lock, &ts) == ETIMEDOUT) {
				fprintf(stderr, "the gate did not open within a minute\n");
				abort();
			}
		pthread_mutex_unlock(&h->lock);
	}
}

void harness_leave(struct harness *h)
{
	cow_gate_leave(h->st);
}

/* ---- snapshots ---- */

int harness_live(struct harness *h, struct tree *ret)
{
	return tree_read(h->fd, COW_STORE_NAME, ret);
}

static void name_snapshot(struct harness *h, struct cow_snapshot *s)
{
	unsigned n = ++h->names_given;
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	snprintf(s->id, sizeof(s->id), "%08x-0000-4000-8000-%012lx", n,
		 (unsigned long)ts.tv_nsec + ((unsigned long)getpid() << 30 & 0xfffffffffffful));
	snprintf(s->set_id, sizeof(s->set_id), "%08x-0000-4000-9000-000000000000", n);
	snprintf(s->name, sizeof(s->name), "snap-%d-%u", (int)getpid(), n);
	snprintf(s->label, sizeof(s->label), "label %u", n);
}

int harness_snapshot(struct harness *h, enum cow_context context, struct tree *ref,
		     uint64_t *ret_epoch)
{
	struct cow_snapshot s = { .context = context, .in_set = 1, .extra = (char *)"{}" };
	uint64_t epoch = 0;
	int r, released;

	name_snapshot(h, &s);
	r = cow_epoch_prepare(h->st);
	if (r < 0)
		return r;
	while ((r = cow_gate_hold(h->st, 10000, COW_HOLD_MAX_MS)) == -EBUSY ||
	       (r == -ETIMEDOUT && ref))
		usleep(1000);
	if (r < 0)
		return r;
	r = ref ? harness_live(h, ref) : 0;
	if (r == 0)
		r = cow_epoch_open(h->st, &s, &epoch);
	released = cow_gate_release(h->st);
	if (r == 0)
		r = released;
	if (r == 0)
		r = cow_epoch_commit(h->st, epoch, NULL);
	if (r < 0 && ref)
		tree_done(ref);
	if (r == 0)
		*ret_epoch = epoch;
	return r;
}

/* ---- a snapshot as a tree ---- */

uint64_t harness_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static ssize_t vnode_get(void *ud, const char *name, void *buf, size_t size)
{
	return cow_vnode_getxattr(ud, name, buf, size);
}

static ssize_t vnode_list(void *ud, char *buf, size_t size)
{
	return cow_vnode_listxattr(ud, buf, size);
}

struct walk {
	struct tree *t;
	uint64_t rng;
	int r;
};

/* All of [start, end), in pieces of odd sizes; blocks are added whole. */
static int view_blocks(struct cow_vfile *f, struct tree_entry *e, uint64_t start, uint64_t end,
		       uint64_t *rng)
{
	static _Thread_local uint8_t buf[64 * TREE_BLOCK];
	uint64_t at = start / TREE_BLOCK * TREE_BLOCK;
	int r = 0;

	while (r == 0 && at < end) {
		size_t want = sizeof(buf), have = 0;

		if (want > end - at)
			want = (end - at + TREE_BLOCK - 1) / TREE_BLOCK * TREE_BLOCK;
		while (have < want) {
			size_t piece = want - have;
			ssize_t n;

			if (harness_random(rng) % 2)
				piece = harness_random(rng) % piece + 1;
			n = cow_vfile_read(f, buf + have, piece, (off_t)(at + have));
			if (n < 0)
				return (int)n;
			if (n == 0)
				break;
			if ((size_t)n < piece && at + have + (uint64_t)n != e->sx.stx_size)
				return -EBADMSG; /* short, and not at the end */
			have += (size_t)n;
		}
		if (have == 0)
			return 0;
		for (size_t i = 0; r == 0 && i < have && at + i < end; i += TREE_BLOCK)
			if (!e->n_blocks ||
			    e->blocks[e->n_blocks - 1].block < (at + i) / TREE_BLOCK)
				r = tree_add_block(e, (at + i) / TREE_BLOCK, buf + i,
						   have - i < TREE_BLOCK ? have - i : TREE_BLOCK);
		at += have;
	}
	return r;
}

static int view_file(struct cow_vnode *vn, struct tree_entry *e, uint64_t *rng)
{
	struct cow_vfile *f;
	uint8_t probe[512];
	off_t data = 0, hole;
	int r = cow_vfile_open(vn, &f);

	if (r < 0)
		return r;
	for (;;) {
		data = cow_vfile_seek(f, data, SEEK_DATA);
		if (data < 0)
			break;
		hole = cow_vfile_seek(f, data, SEEK_HOLE);
		if (hole <= data) {
			r = hole < 0 ? (int)hole : -EBADMSG;
			break;
		}
		r = tree_add_extent(e, (uint64_t)data, (uint64_t)hole);
		if (r < 0)
			break;
		data = hole;
	}
	if (r == 0 && data != -ENXIO)
		r = (int)data;
	if (r == 0 && e->sx.stx_size <= 512 * 1024)
		r = view_blocks(f, e, 0, e->sx.stx_size, rng); /* holes as well */
	else
		for (size_t i = 0; r == 0 && i < e->n_data; i++)
			r = view_blocks(f, e, e->data[i].start, e->data[i].end, rng);
	/* outside of what it calls data there must be zeros */
	for (int i = 0; r == 0 && i < 8 && e->sx.stx_size; i++) {
		uint64_t at = harness_random(rng) % e->sx.stx_size;
		ssize_t n = cow_vfile_read(f, probe, sizeof(probe), (off_t)at);

		if (n < 0)
			r = (int)n;
		for (size_t k = 0; r == 0 && k < e->n_data; k++)
			if (at < e->data[k].end && at + (uint64_t)n > e->data[k].start)
				n = 0;
		for (ssize_t k = 0; r == 0 && k < n; k++)
			if (probe[k])
				r = -EBADMSG;
	}
	if (r == 0 && cow_vfile_read(f, probe, sizeof(probe), (off_t)e->sx.stx_size) != 0)
		r = -EBADMSG;
	cow_vfile_close(f);
	return r;
}

static int view_dir(struct walk *w, struct cow_vnode *dir, const char *path);

static int view_entry(struct walk *w, struct cow_vnode *vn, const char *path)
{
	struct tree_entry *e = tree_add(w->t, path);
	char target[PATH_MAX];
	ssize_t n;
	int r;

	if (!e)
		return -ENOMEM;
	r = cow_vnode_stat(vn, &e->sx);
	if (r < 0)
		return r;
	if (e->sx.stx_ino != cow_vnode_ino(vn))
		return -EBADMSG;
	if (S_ISREG(e->sx.stx_mode)) {
		r = view_file(vn, e, &w->rng);
	} else if (S_ISLNK(e->sx.stx_mode)) {
		n = cow_vnode_readlink(vn, target, sizeof(target));
		if (n < 0)
			return (int)n;
		e->link = strdup(target);
		if (!e->link)
			return -ENOMEM;
	}
	if (r == 0)
		r = tree_set_xattrs(e, vnode_get, vnode_list, vn);
	e->raw_nlink = e->sx.stx_nlink;
	if (r == 0 && S_ISDIR(e->sx.stx_mode))
		r = view_dir(w, vn, path);
	return r;
}

static int view_dir(struct walk *w, struct cow_vnode *dir, const char *path)
{
	struct cow_vdir *d;
	struct cow_dirent de;
	uint64_t off = 0;
	int opened = cow_vdir_open(dir, &d), r = opened;

	while (r == 0 && (r = cow_vdir_read(d, off, &de)) == 1) {
		CLEANUP(free_p) char *child = NULL;
		CLEANUP(free_p) char *name = strdup(de.name);
		struct cow_vnode *vn;
		struct statx sx;
		uint64_t ino = de.ino;
		unsigned type = de.type;

		off = de.next;
		if (!name || asprintf(&child, "%s%s%s", path, *path ? "/" : "", name) < 0) {
			r = -ENOMEM;
			break;
		}
		r = cow_vnode_lookup(dir, name, &vn);
		if (r < 0) {
			if (r == -ENOENT)
				r = -EBADMSG; /* listed, but not found */
			fprintf(stderr, "# look-up of %s: %d\n", child, r);
			break;
		}
		if (cow_vnode_ino(vn) != ino ||
		    (cow_vnode_stat(vn, &sx) == 0 && (unsigned)IFTODT(sx.stx_mode) != type)) {
			fprintf(stderr, "# %s listed as inode %llu, found as %llu\n", child,
				(unsigned long long)ino, (unsigned long long)cow_vnode_ino(vn));
			r = -EBADMSG;
		} else {
			r = view_entry(w, vn, child);
			if (r < 0 && w->r == 0) {
				w->r = r;
				fprintf(stderr, "# reading %s (inode %llu): %d\n", child,
					(unsigned long long)ino, r);
			}
		}
		cow_vnode_put(vn);
	}
	if (opened == 0)
		cow_vdir_close(d);
	return r;
}

int harness_view_tree(struct harness *h, uint64_t epoch, uint64_t seed, struct tree *ret)
{
	struct tree t = { 0 };
	struct walk w = { .t = &t, .rng = seed };
	struct cow_vnode *root;
	struct cow_view *v;
	int r = cow_view_open(h->st, epoch, false, &v);

	if (r < 0)
		return r;
	r = cow_vnode_root(v, &root);
	if (r == 0) {
		r = view_entry(&w, root, "");
		cow_vnode_put(root);
	}
	cow_view_close(v);
	if (r < 0) {
		tree_done(&t);
		return r;
	}
	tree_sort(&t);
	*ret = t;
	return 0;
}

static int vnode_at(struct cow_view *v, const char *path, struct cow_vnode **ret)
{
	CLEANUP(free_p) char *copy = strdup(path);
	struct cow_vnode *vn, *child;
	char *save = NULL;
	int r = cow_vnode_root(v, &vn);

	for (char *p = strtok_r(copy, "/", &save); r == 0 && p; p = strtok_r(NULL, "/", &save)) {
		r = cow_vnode_lookup(vn, p, &child);
		cow_vnode_put(vn);
		vn = child;
	}
	if (r == 0)
		*ret = vn;
	return r;
}

static int absent_names(struct harness *h, uint64_t epoch, const struct tree *ref,
			const char *const *names, size_t n_names, char *why, size_t why_len)
{
	struct cow_vnode *dir = NULL, *vn;
	struct cow_view *v = NULL;
	char path[PATH_MAX + NAME_MAX + 2];
	int r = cow_view_open(h->st, epoch, false, &v);

	for (size_t i = 0; r == 0 && i < ref->n; i++) {
		if (!S_ISDIR(ref->e[i].sx.stx_mode))
			continue;
		r = vnode_at(v, ref->e[i].path, &dir);
		if (r < 0)
			break;
		for (size_t k = 0; r == 0 && k < n_names; k++) {
			snprintf(path, sizeof(path), "%s%s%s", ref->e[i].path,
				 *ref->e[i].path ? "/" : "", names[k]);
			if (tree_find(ref, path))
				continue;
			r = cow_vnode_lookup(dir, names[k], &vn);
			if (r == 0) {
				cow_vnode_put(vn);
				snprintf(why, why_len, "%s is found and should not be there", path);
				r = 1;
			} else if (r == -ENOENT) {
				r = 0;
			}
		}
		cow_vnode_put(dir);
	}
	if (v)
		cow_view_close(v);
	return r;
}

int harness_compare(struct harness *h, uint64_t epoch, const struct tree *ref, uint64_t seed,
		    const char *const *names, size_t n_names, char *why, size_t why_len)
{
	struct tree got;
	int r = harness_view_tree(h, epoch, seed, &got);

	if (r < 0)
		return r;
	for (size_t i = 0; i < got.n; i++)
		got.e[i].unwritten = harness_marked(h, got.e[i].sx.stx_ino, HARNESS_UNWRITTEN);
	if (!tree_same(ref, &got,
		       (h->loose_blocks ? TREE_BLOCKS_LOOSE : 0) |
			       (h->loose_holes ? TREE_HOLES_LOOSE : 0),
		       why, why_len))
		r = 1;
	tree_done(&got);
	if (r == 0 && n_names)
		r = absent_names(h, epoch, ref, names, n_names, why, why_len);
	return r;
}

/* ---- small things ---- */

int harness_store_entries(struct harness *h, const char *name)
{
	CLEANUP(closedir_p) DIR *d = NULL;
	const struct dirent *de;
	char path[PATH_MAX + 32];
	int n = 0;

	snprintf(path, sizeof(path), "%s/" COW_STORE_NAME "/%s", h->dir, name);
	d = opendir(path);
	if (!d)
		return -errno;
	while ((de = readdir(d)))
		n += strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0;
	return n;
}

int harness_put(struct harness *h, const char *name, const void *bytes, size_t len)
{
	struct stat st;
	struct cow_dir dir = { .fd = h->fd };
	struct cow_inode *ci;
	ssize_t n;
	int fd;

	if (fstat(h->fd, &st) < 0)
		return -errno;
	dir.inode = cow_inode_get(h->st, st.st_ino);
	harness_enter(h);
	fd = cow_create(h->st, dir, name, O_RDWR, 0644);
	if (fd >= 0) {
		struct stat fst;

		if (fstat(fd, &fst) == 0)
			harness_place_set(h, fst.st_ino, st.st_ino, name);
	}
	harness_leave(h);
	cow_inode_put(h->st, dir.inode);
	if (fd == -EEXIST)
		fd = openat(h->fd, name, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	ci = cow_inode_get(h->st, st.st_ino);
	HARNESS_CHANGE(h, n, cow_write(h->st, ci, fd, bytes, len, 0));
	cow_inode_put(h->st, ci);
	close(fd);
	return n < 0 ? (int)n : n == (ssize_t)len ? 0 : -EIO;
}

uint64_t harness_seed(const char *test)
{
	const char *text = getenv("UMBRA_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : clock_real_ns() & 0xffffffffff;

	fprintf(stderr, "%s: UMBRA_SEED=%llu\n", test, (unsigned long long)seed);
	return seed;
}

unsigned harness_steps(unsigned by_default)
{
	const char *text = getenv("UMBRA_STEPS");

	return text ? (unsigned)strtoul(text, NULL, 0) : by_default;
}
