/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The store against a model that cannot be wrong: beside each snapshot a full copy is kept of what the tree was at that
 * instant, read from the live tree during the hold. Random changes of all kinds follow, snapshots come and go in any
 * order, the store is closed and opened, and each snapshot must go on showing just its copy: names, look-ups, attributes,
 * links, holes, bytes. Differences between snapshots are checked against those of the copies.
 *
 *	UMBRA_SEED=n	do just that sequence again (printed by each run)
 *	UMBRA_STEPS=n	more or fewer changes
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cow/file.h"
#include "tests/support/harness.h"
#include "tests/support/leaks.h"
#include "tests/support/world.h"

#define MAX_SNAPS 14u
#define TMPFS 0x01021994

struct snap {
	uint64_t epoch;
	struct tree ref;
};

struct model {
	struct harness h;
	uint64_t seed, rng;
	struct snap snaps[MAX_SNAPS]; /* oldest first */
	unsigned n_snaps;
	struct world *worlds[8];
	unsigned n_worlds;
};

static const unsigned sanitized =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	1;
#else
	0;
#endif

static uint64_t rnd(struct model *m, uint64_t below)
{
	return harness_random(&m->rng) % below;
}

static void start(struct model *m, const char *name, const char *base)
{
	struct rlimit lim;

	memset(m, 0, sizeof(*m));
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	m->seed = m->rng = harness_seed(name);
	cr_assert_eq(harness_init(&m->h, base), 0);
	cr_assert_eq(harness_open(&m->h), 0, "%s", m->h.why);
}

static void take(struct model *m)
{
	struct snap *s = &m->snaps[m->n_snaps];
	int r;

	r = harness_snapshot(&m->h, rnd(m, 2) ? COW_CTX_APP_ROLLBACK : COW_CTX_BACKUP, &s->ref,
			     &s->epoch);
	cr_assert_eq(r, 0, "snapshot: %d", r);
	m->n_snaps++;
}

static void forget(struct model *m, unsigned i)
{
	tree_done(&m->snaps[i].ref);
	memmove(&m->snaps[i], &m->snaps[i + 1], (m->n_snaps - i - 1) * sizeof(m->snaps[0]));
	m->n_snaps--;
}

static void drop(struct model *m, unsigned i)
{
	int r = cow_epoch_drop(m->h.st, m->snaps[i].epoch, false);

	cr_assert_eq(r, 0, "drop: %d", r);
	forget(m, i);
}

static void compare(struct model *m, unsigned i)
{
	char why[700] = "";
	struct world *w = m->n_worlds ? m->worlds[rnd(m, m->n_worlds)] : NULL;
	int r = harness_compare(&m->h, m->snaps[i].epoch, &m->snaps[i].ref, rnd(m, 1u << 30),
				w ? world_names(w) : NULL, w ? WORLD_NAMES : 0, why, sizeof(why));

	cr_assert_eq(r, 0, "seed %llu, epoch %llu (%u of %u) after %u changes, %zu dropped: %d %s",
		     (unsigned long long)m->seed, (unsigned long long)m->snaps[i].epoch, i,
		     m->n_snaps, w ? world_count(w) : 0, harness_drops(&m->h), r, why);
}

static void compare_all(struct model *m)
{
	for (unsigned i = 0; i < m->n_snaps; i++)
		compare(m, i);
}

/* The live files' link counts are the users' once ours are taken off. */
static void check_live_links(struct model *m)
{
	struct tree live;

	cow_epoch_settle(m->h.st);
	cr_assert_eq(harness_live(&m->h, &live), 0);
	for (size_t i = 0; i < live.n; i++) {
		unsigned ours = cow_inode_extra_links(m->h.st, live.e[i].sx.stx_ino);

		if (S_ISDIR(live.e[i].sx.stx_mode))
			continue;
		cr_assert_eq(live.e[i].raw_nlink - ours, live.e[i].sx.stx_nlink,
			     "seed %llu: %s has %u links, %u ours, %u names",
			     (unsigned long long)m->seed, live.e[i].path, live.e[i].raw_nlink, ours,
			     live.e[i].sx.stx_nlink);
	}
	tree_done(&live);
}

/* ---- differences ---- */

struct change {
	char kind; /* of enum cow_diff_kind */
	bool modified;
	char *path, *old_path;
	uint64_t ino, old_size, new_size;
	mode_t mode;
};

struct changes {
	struct change *c;
	size_t n;
};

static struct change *change_add(struct changes *l, char kind, const char *path, uint64_t ino)
{
	l->c = realloc(l->c, (l->n + 1) * sizeof(*l->c));
	cr_assert(l->c);
	l->c[l->n] = (struct change){ .kind = kind, .path = strdup(path), .ino = ino };
	return &l->c[l->n++];
}

static void change_del(struct changes *l, size_t i)
{
	free(l->c[i].path);
	free(l->c[i].old_path);
	memmove(&l->c[i], &l->c[i + 1], (l->n - i - 1) * sizeof(*l->c));
	l->n--;
}

static void changes_done(struct changes *l)
{
	while (l->n)
		change_del(l, l->n - 1);
	free(l->c);
	*l = (struct changes){ 0 };
}

static int note_diff(void *userdata, const struct cow_diff_entry *e)
{
	struct change *c = change_add(userdata, (char)e->kind, e->path, e->ino);

	c->modified = e->modified;
	c->old_path = e->old_path ? strdup(e->old_path) : NULL;
	c->old_size = e->old_size;
	c->new_size = e->new_size;
	c->mode = e->mode;
	return 0;
}

static int by_path_kind(const void *x, const void *y)
{
	const struct change *a = x, *b = y;
	int r = strcmp(a->path, b->path);

	return r ? r : a->kind - b->kind;
}

static int by_ino_kind(const void *x, const void *y)
{
	const struct change *a = x, *b = y;

	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	return a->kind != b->kind ? a->kind - b->kind : strcmp(a->path, b->path);
}

static void sort_changes(struct changes *l, int (*cmp)(const void *, const void *))
{
	if (l->n)
		qsort(l->c, l->n, sizeof(*l->c), cmp);
}

/* The number alone may have been given to something new. */
static bool same_inode(const struct tree_entry *a, const struct tree_entry *b)
{
	return a->sx.stx_ino == b->sx.stx_ino &&
	       memcmp(&a->sx.stx_btime, &b->sx.stx_btime, sizeof(a->sx.stx_btime)) == 0;
}

static const struct tree_entry *parent_of(const struct tree *t, const struct tree_entry *e)
{
	char path[PATH_MAX];
	char *slash;

	snprintf(path, sizeof(path), "%s", e->path);
	slash = strrchr(path, '/');
	*(slash ? slash : path) = '\0';
	return tree_find(t, path);
}

static const char *base_name(const struct tree_entry *e)
{
	const char *slash = strrchr(e->path, '/');

	return slash ? slash + 1 : e->path;
}

/* Does the same directory of `other` have the same name for the same inode? */
static bool has_name(const struct tree *t, const struct tree_entry *e, const struct tree *other)
{
	const struct tree_entry *dir = parent_of(t, e);

	for (size_t i = 0; i < other->n; i++) {
		const struct tree_entry *o = &other->e[i];

		if (same_inode(o, e) && *o->path && strcmp(base_name(o), base_name(e)) == 0 &&
		    same_inode(parent_of(other, o), dir))
			return true;
	}
	return false;
}

static const struct tree_entry *find_inode(const struct tree *t, const struct tree_entry *e)
{
	for (size_t i = 0; i < t->n; i++)
		if (same_inode(&t->e[i], e))
			return &t->e[i];
	return NULL;
}

static void pair_renames(const struct tree *a, const struct tree *b, struct changes *l)
{
	sort_changes(l, by_ino_kind);
	for (size_t i = 0; i < l->n; i++) {
		size_t removed = i;

		if (l->c[i].kind != COW_DIFF_ADDED)
			continue;
		while (removed < l->n && (l->c[removed].ino == l->c[i].ino) &&
		       l->c[removed].kind != COW_DIFF_REMOVED)
			removed++;
		if (removed == l->n || l->c[removed].ino != l->c[i].ino ||
		    !same_inode(tree_find(a, l->c[removed].path), tree_find(b, l->c[i].path)))
			continue;
		l->c[i].kind = COW_DIFF_RENAMED;
		l->c[i].old_path = strdup(l->c[removed].path);
		change_del(l, removed);
	}
}

static void pair_replaced(const struct tree *a, const struct tree *b, struct changes *l)
{
	sort_changes(l, by_path_kind);
	for (size_t i = 0; i + 1 < l->n; i++) {
		struct change *x = &l->c[i], *y = x + 1;

		if (strcmp(x->path, y->path) != 0 || x->kind != COW_DIFF_ADDED ||
		    y->kind != COW_DIFF_REMOVED)
			continue;
		x->kind = (tree_find(a, x->path)->sx.stx_mode & S_IFMT) ==
					  (tree_find(b, x->path)->sx.stx_mode & S_IFMT)
				  ? COW_DIFF_MODIFIED
				  : COW_DIFF_TYPE;
		change_del(l, i + 1);
	}
}

/* 0, COW_DIFF_META or COW_DIFF_MODIFIED for an inode on both sides. */
static char compare_inode(const struct tree_entry *x, const struct tree_entry *y)
{
	const struct statx *a = &x->sx, *b = &y->sx;

	if (S_ISREG(a->stx_mode) &&
	    (a->stx_size != b->stx_size || x->n_blocks != y->n_blocks ||
	     (x->n_blocks && memcmp(x->blocks, y->blocks, x->n_blocks * sizeof(*x->blocks)) != 0)))
		return COW_DIFF_MODIFIED;
	if (a->stx_mode != b->stx_mode || a->stx_uid != b->stx_uid || a->stx_gid != b->stx_gid ||
	    x->xattrs_len != y->xattrs_len ||
	    (x->xattrs_len && memcmp(x->xattrs, y->xattrs, x->xattrs_len) != 0))
		return COW_DIFF_META;
	if (!S_ISDIR(a->stx_mode) && (a->stx_mtime.tv_sec != b->stx_mtime.tv_sec ||
				      a->stx_mtime.tv_nsec != b->stx_mtime.tv_nsec))
		return COW_DIFF_META;
	return 0;
}

/* What the two copies say. */
static void brute_diff(const struct tree *a, const struct tree *b, struct changes *l)
{
	for (size_t i = 0; i < a->n; i++)
		if (*a->e[i].path && !has_name(a, &a->e[i], b))
			change_add(l, COW_DIFF_REMOVED, a->e[i].path, a->e[i].sx.stx_ino);
	for (size_t i = 0; i < b->n; i++)
		if (*b->e[i].path && !has_name(b, &b->e[i], a))
			change_add(l, COW_DIFF_ADDED, b->e[i].path, b->e[i].sx.stx_ino);
	pair_renames(a, b, l);
	pair_replaced(a, b, l);
	for (size_t i = 0; i < b->n; i++) {
		const struct tree_entry *old = find_inode(a, &b->e[i]);
		char kind = old ? compare_inode(old, &b->e[i]) : 0;
		bool told = !kind || find_inode(b, &b->e[i]) != &b->e[i];

		for (size_t k = 0; k < l->n; k++)
			if (kind && l->c[k].kind == COW_DIFF_RENAMED &&
			    l->c[k].ino == b->e[i].sx.stx_ino) {
				l->c[k].modified |= kind == COW_DIFF_MODIFIED;
				told = true;
			}
		if (!told)
			change_add(l, kind, b->e[i].path, b->e[i].sx.stx_ino);
	}
	sort_changes(l, by_path_kind);
}

static bool is_content(char kind)
{
	return kind == COW_DIFF_MODIFIED || kind == COW_DIFF_META;
}

/* The same change: a change of content is told at any of the file's names, and may be told where bytes were written
 * that are the same as before. */
static bool same_change(const struct change *want, const struct change *got)
{
	if (is_content(want->kind))
		return want->ino == got->ino &&
		       (got->kind == want->kind || got->kind == COW_DIFF_MODIFIED);
	return want->kind == got->kind && strcmp(want->path, got->path) == 0 &&
	       (want->modified <= got->modified) &&
	       (!want->old_path || strcmp(want->old_path, got->old_path) == 0);
}

static bool right_details(const struct tree *a, const struct tree *b, const struct change *got)
{
	const struct tree_entry *x = tree_find(a, got->old_path ? got->old_path : got->path),
				*y = tree_find(b, got->path);
	mode_t mode = got->kind == COW_DIFF_REMOVED ? x->sx.stx_mode : y ? y->sx.stx_mode : 0;

	if (got->kind != COW_DIFF_REMOVED && (!y || y->sx.stx_ino != got->ino))
		return false;
	if (got->mode != mode)
		return false;
	if (got->kind != COW_DIFF_REMOVED && got->new_size != y->sx.stx_size)
		return false;
	if (got->kind == COW_DIFF_META) /* its path was another's if directories were renamed */
		x = find_inode(a, y);
	if (got->kind == COW_DIFF_REMOVED || got->kind == COW_DIFF_RENAMED ||
	    got->kind == COW_DIFF_META)
		return !x || got->old_size == x->sx.stx_size;
	return true;
}

static void check_diff(struct model *m, unsigned from, unsigned to)
{
	struct changes want = { 0 }, got = { 0 };
	struct tree live = { 0 };
	const struct tree *a = &m->snaps[from].ref, *b = &live;
	uint64_t epoch_b = 0;
	int r;

	if (to < m->n_snaps) {
		b = &m->snaps[to].ref;
		epoch_b = m->snaps[to].epoch;
	} else {
		cr_assert_eq(harness_live(&m->h, &live), 0);
	}
	brute_diff(a, b, &want);
	r = cow_diff(m->h.st, m->snaps[from].epoch, epoch_b, note_diff, &got);
	cr_assert_eq(r, 0, "seed %llu: diff %d", (unsigned long long)m->seed, r);
	if (getenv("UMBRA_TRACE"))
		for (size_t i = 0; i < want.n || i < got.n; i++) {
			if (i < want.n)
				fprintf(stderr, "want %c %s <- %s (%llu)\n", want.c[i].kind,
					want.c[i].path, want.c[i].old_path,
					(unsigned long long)want.c[i].ino);
			if (i < got.n)
				fprintf(stderr, "got %c %s <- %s (%llu)\n", got.c[i].kind,
					got.c[i].path, got.c[i].old_path,
					(unsigned long long)got.c[i].ino);
		}
	for (size_t i = 0; i < got.n; i++) {
		size_t k = 0;

		cr_assert(right_details(a, b, &got.c[i]),
			  "seed %llu, diff of %llu and %llu: %c %s: mode %o, sizes %llu %llu",
			  (unsigned long long)m->seed, (unsigned long long)m->snaps[from].epoch,
			  (unsigned long long)epoch_b, got.c[i].kind, got.c[i].path, got.c[i].mode,
			  (unsigned long long)got.c[i].old_size,
			  (unsigned long long)got.c[i].new_size);
		if (i)
			cr_assert_leq(strcmp(got.c[i - 1].path, got.c[i].path), 0, "not sorted");
		while (k < want.n && !same_change(&want.c[k], &got.c[i]))
			k++;
		if (k < want.n)
			change_del(&want, k);
		else if (got.c[i].kind != COW_DIFF_MODIFIED) /* the same bytes written again */
			cr_assert_fail(
				"seed %llu, diff of %llu and %llu: %c %s (%s), inode %llu, is none",
				(unsigned long long)m->seed,
				(unsigned long long)m->snaps[from].epoch,
				(unsigned long long)epoch_b, got.c[i].kind, got.c[i].path,
				got.c[i].old_path ? got.c[i].old_path : "",
				(unsigned long long)got.c[i].ino);
	}
	/* Where a hard link is known by a name that came or went, its change may go untold. */
	for (size_t i = want.n; i-- > 0;)
		if (is_content(want.c[i].kind) &&
		    harness_marked(&m->h, want.c[i].ino, HARNESS_LINKED))
			change_del(&want, i);
	cr_assert_eq(want.n, 0, "seed %llu, diff of %llu and %llu: %c %s (%s) is missing",
		     (unsigned long long)m->seed, (unsigned long long)m->snaps[from].epoch,
		     (unsigned long long)epoch_b, want.c[0].kind, want.c[0].path,
		     want.c[0].old_path ? want.c[0].old_path : "");
	changes_done(&want);
	changes_done(&got);
	tree_done(&live);
}

static void check_some_diff(struct model *m)
{
	unsigned from = (unsigned)rnd(m, m->n_snaps);

	check_diff(m, from, from + 1 + (unsigned)rnd(m, m->n_snaps - from));
}

/* ---- the end ---- */

static void finish(struct model *m)
{
	struct cow_usage usage;
	struct tree live, after;
	char why[700] = "";

	while (m->n_snaps)
		drop(m, (unsigned)rnd(m, m->n_snaps));
	cow_epoch_settle(m->h.st);
	cr_assert_eq(harness_drops(&m->h), 0);
	cr_assert_eq(harness_store_entries(&m->h, "log"), 0);
	cr_assert_eq(harness_store_entries(&m->h, "data"), 0);
	cr_assert_eq(harness_store_entries(&m->h, "grave"), 0);
	cow_store_usage(m->h.st, &usage);
	cr_assert_eq(usage.used_bytes, 0, "%llu bytes left", (unsigned long long)usage.used_bytes);
	cr_assert_lt(usage.allocated_bytes, 256u * 1024, "%llu bytes left",
		     (unsigned long long)usage.allocated_bytes);
	check_live_links(m);
	cr_assert_eq(harness_live(&m->h, &live), 0);
	for (unsigned i = 0; i < m->n_worlds; i++)
		world_free(m->worlds[i]);
	cr_assert_eq(harness_close(&m->h, true), 0);
	cr_assert_eq(tree_read(m->h.fd, NULL, &after), 0); /* nothing of ours is left */
	cr_assert(tree_same(&live, &after,
			    TREE_NO_ROOT_TIMES | (m->h.loose_blocks ? TREE_BLOCKS_LOOSE : 0), why,
			    sizeof(why)),
		  "%s", why);
	tree_done(&live);
	tree_done(&after);
	harness_done(&m->h);
}

static void reopen(struct model *m)
{
	int r;

	for (unsigned i = 0; i < m->n_worlds; i++)
		world_close_files(m->worlds[i]);
	cr_assert_eq(harness_close(&m->h, false), 0);
	r = harness_open(&m->h);
	cr_assert_eq(r, 0, "reopen: %d %s", r, m->h.why);
	cr_assert_eq(harness_drops(&m->h), 0);
	compare_all(m);
}

/* ---- one thread ---- */

static void run_alone(struct model *m, unsigned steps, struct world_options o)
{
	bool trace = getenv("UMBRA_TRACE");
	int r;

	m->worlds[m->n_worlds++] = world_new(&m->h, m->seed, &o);
	for (unsigned i = 0; i < steps; i++) {
		r = world_step(m->worlds[0]);
		if (trace)
			fprintf(stderr, "%u: %s: %d\n", i, world_last(m->worlds[0]), r);
		cr_assert_eq(r, 0, "seed %llu, change %u, %s: %d", (unsigned long long)m->seed, i,
			     world_last(m->worlds[0]), r);
		cr_assert_eq(harness_drops(&m->h), 0, "seed %llu, change %u, %s: snapshots dropped",
			     (unsigned long long)m->seed, i, world_last(m->worlds[0]));
		if (rnd(m, 30) == 0 && m->n_snaps < MAX_SNAPS) {
			take(m);
			if (trace)
				fprintf(stderr, "epoch %llu\n",
					(unsigned long long)m->snaps[m->n_snaps - 1].epoch);
		}
		if (m->n_snaps && rnd(m, 40) == 0) {
			unsigned which = rnd(m, 3) == 0	  ? 0
					 : rnd(m, 2) == 0 ? m->n_snaps - 1
							  : (unsigned)rnd(m, m->n_snaps);

			if (trace)
				fprintf(stderr, "drop %llu\n",
					(unsigned long long)m->snaps[which].epoch);
			drop(m, which);
			if (rnd(m, 2))
				cow_epoch_settle(m->h.st);
		}
		if (m->n_snaps && rnd(m, 400) == 0)
			while (m->n_snaps)
				drop(m, (unsigned)rnd(m, m->n_snaps));
		if (m->n_snaps && rnd(m, 12) == 0)
			compare(m, (unsigned)rnd(m, m->n_snaps));
		if (rnd(m, 300) == 0) {
			compare_all(m);
			check_live_links(m);
		}
		if (m->n_snaps && rnd(m, 60) == 0)
			check_some_diff(m);
		if (rnd(m, 500) == 0)
			reopen(m);
	}
	compare_all(m);
}

TestSuite(cow_model, .timeout = 0);

Test(cow_model, snapshots_stay_what_they_were)
{
	struct model *m = malloc(sizeof(*m));

	start(m, "snapshots_stay_what_they_were", NULL);
	run_alone(m, harness_steps(sanitized ? 1500 : 4000),
		  (struct world_options){ .max_names = 120 });
	finish(m);
	free(m);
	m = NULL;
	assert_no_leaks();
}

/* No inode number is given twice there, and other things are refused than on a disk. */
Test(cow_model, on_tmpfs)
{
	struct model *m;
	struct statfs fs;

	if (statfs("/dev/shm", &fs) < 0 || fs.f_type != TMPFS || access("/dev/shm", W_OK) < 0)
		cr_skip_test("no tmpfs at /dev/shm to write to");
	m = malloc(sizeof(*m));
	start(m, "on_tmpfs", "/dev/shm");
	run_alone(m, harness_steps(sanitized ? 1000 : 2500),
		  (struct world_options){ .max_names = 120 });
	finish(m);
	free(m);
	m = NULL;
	assert_no_leaks();
}

/* Few files with large holes that come and go: they are on record in pieces of different sizes. */
Test(cow_model, large_holes)
{
	struct model *m = malloc(sizeof(*m));

	start(m, "large_holes", NULL);
	run_alone(m, harness_steps(sanitized ? 800 : 2500),
		  (struct world_options){ .max_names = 8, .max_file = 3u << 20, .sparse = true });
	finish(m);
	free(m);
	m = NULL;
	assert_no_leaks();
}

/* ---- a reader overtaken ---- */

static struct {
	struct model *m;
	bool reading, inside;
	uint64_t rng;
	unsigned steps;
	int r;
} overtake;

/* Before any operation of the reader something may change. The reader holds no lock then, so it is as good as another
 * thread, but the same every time. */
static int overtaking_hook(void *userdata, enum cow_file_op op, int fd, const char *path,
			   size_t len)
{
	(void)userdata;
	(void)op;
	(void)fd;
	(void)path;
	(void)len;
	if (!overtake.reading || overtake.inside || overtake.r < 0 ||
	    harness_random(&overtake.rng) % 6)
		return 0;
	overtake.inside = true;
	overtake.r = world_step(overtake.m->worlds[0]);
	overtake.inside = false;
	overtake.steps++;
	return 0;
}

Test(cow_model, changes_between_any_two_steps_of_a_reader)
{
	struct model *m = malloc(sizeof(*m));
	struct world_options o = { .max_names = 40 };

	start(m, "changes_between_any_two_steps_of_a_reader", NULL);
	m->worlds[m->n_worlds++] = world_new(&m->h, m->seed, &o);
	memset(&overtake, 0, sizeof(overtake));
	overtake.m = m;
	overtake.rng = m->seed;
	for (unsigned i = 0; i < 100; i++)
		cr_assert_eq(world_step(m->worlds[0]), 0);
	cow_file_set_hook(overtaking_hook, NULL);
	for (unsigned i = 0; i < harness_steps(sanitized ? 40 : 120); i++) {
		if (m->n_snaps == 4)
			drop(m, (unsigned)rnd(m, m->n_snaps));
		cow_epoch_settle(m->h.st); /* its thread must not meet the hook */
		take(m);
		overtake.reading = true;
		compare(m, (unsigned)rnd(m, m->n_snaps));
		overtake.reading = false;
		cr_assert_eq(overtake.r, 0, "seed %llu: %s: %d", (unsigned long long)m->seed,
			     world_last(m->worlds[0]), overtake.r);
	}
	cow_file_set_hook(NULL, NULL);
	cr_assert_gt(overtake.steps, 100);
	compare_all(m);
	finish(m);
	free(m);
	m = NULL;
	assert_no_leaks();
}

/* ---- several threads ---- */

#define WRITERS 3u

struct writer {
	struct world *w;
	atomic_bool *stop;
	atomic_uint *steps;
	int r;
	pthread_t thread;
};

static void *write_on(void *arg)
{
	struct writer *me = arg;

	while (me->r == 0 && !atomic_load(me->stop)) {
		me->r = world_step(me->w);
		atomic_fetch_add(me->steps, 1);
	}
	return NULL;
}

static void make_shared(struct model *m)
{
	struct world_options o = { .name = "shared" };
	struct world *w = world_new(&m->h, 1, &o);
	char name[32];

	world_free(w);
	for (unsigned i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "common%u", i);
		cr_assert_eq(harness_put(&m->h, name, name, strlen(name)), 0);
	}
}

Test(cow_model, several_threads)
{
	struct model *m = malloc(sizeof(*m));
	struct writer writers[WRITERS];
	atomic_bool stop = false;
	atomic_uint steps = 0;
	unsigned rounds = harness_steps(sanitized ? 150 : 500);
	char name[32];

	start(m, "several_threads", NULL);
	make_shared(m);
	for (unsigned i = 0; i < WRITERS; i++) {
		struct world_options o = { .name = name, .shared = "shared", .max_names = 40 };

		snprintf(name, sizeof(name), "writer%u", i);
		m->worlds[m->n_worlds] = world_new(&m->h, m->seed + i, &o);
		for (unsigned k = 0; k < 3; k++) {
			int fd;

			snprintf(name, sizeof(name), "common%u", k);
			fd = openat(m->h.fd, name, O_RDWR | O_CLOEXEC);
			cr_assert_geq(fd, 0);
			world_adopt(m->worlds[m->n_worlds], fd);
		}
		writers[i] = (struct writer){ m->worlds[m->n_worlds++], &stop, &steps, 0, 0 };
	}
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_create(&writers[i].thread, NULL, write_on, &writers[i]);
	for (unsigned i = 0; i < rounds; i++) {
		if (m->n_snaps < 6 && rnd(m, 4) == 0)
			take(m);
		else if (m->n_snaps && rnd(m, 5) == 0)
			drop(m, (unsigned)rnd(m, m->n_snaps));
		else if (m->n_snaps && rnd(m, 60) == 0)
			while (m->n_snaps)
				drop(m, (unsigned)rnd(m, m->n_snaps));
		else if (m->n_snaps) /* while they write */
			compare(m, (unsigned)rnd(m, m->n_snaps));
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < WRITERS; i++) {
		pthread_join(writers[i].thread, NULL);
		cr_assert_eq(writers[i].r, 0, "seed %llu: %s: %d", (unsigned long long)m->seed,
			     world_last(writers[i].w), writers[i].r);
	}
	fprintf(stderr, "several_threads: %u changes\n", atomic_load(&steps));
	compare_all(m);
	reopen(m);
	finish(m);
	free(m);
	m = NULL;
	assert_no_leaks();
}
