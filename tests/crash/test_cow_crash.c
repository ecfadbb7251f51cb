/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Kill the process that changes a protected tree, at a random moment or before its Nth operation that leaves a trace,
 * open the store again: each snapshot that had been taken shows what it should (I-3, F-15), those that had been dropped are gone, and
 * the live files have every change that had returned. UMBRA_SEED and UMBRA_STEPS (rounds) as in test_cow_model.c. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/fault.h"
#include "tests/support/harness.h"
#include "tests/support/world.h"

#define MAX_SNAPS 64u
#define MAX_LIVE 8u
#define MAX_CHANGES 600u

static const unsigned sanitized =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	1;
#else
	0;
#endif

enum { TAKEN = 1, DROPPING, DROPPED };

/* What the child says of itself; shared memory, so a kill takes nothing of it back. */
struct report {
	atomic_uint steps;   /* changes that have returned */
	atomic_uint n_snaps; /* of this and earlier rounds */
	struct {
		uint64_t epoch;
		atomic_uint state;
	} snaps[MAX_SNAPS];
};

struct crash {
	struct harness h;
	char refs[PATH_MAX]; /* directory of the copies */
	struct report *rep;
	uint64_t seed, rng;
};

static uint64_t rnd(struct crash *c, uint64_t below)
{
	return harness_random(&c->rng) % below;
}

static void ref_path(const struct crash *c, uint64_t epoch, char path[PATH_MAX + 32])
{
	snprintf(path, PATH_MAX + 32, "%s/%llu", c->refs, (unsigned long long)epoch);
}

static void start(struct crash *c, const char *name)
{
	memset(c, 0, sizeof(*c));
	c->seed = c->rng = harness_seed(name);
	cr_assert_eq(harness_init(&c->h, NULL), 0);
	c->h.loose_holes = true; /* the child knows them */
	snprintf(c->refs, sizeof(c->refs), "%s/umbra-refs.XXXXXX",
		 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	cr_assert(mkdtemp(c->refs));
	c->rep = mmap(NULL, sizeof(*c->rep), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	cr_assert_neq(c->rep, MAP_FAILED);
}

static void finish(struct crash *c)
{
	tree_remove(AT_FDCWD, c->refs);
	munmap(c->rep, sizeof(*c->rep));
	harness_done(&c->h);
}

/* ---- in the child: no Criterion here ---- */

static void take(struct crash *c)
{
	unsigned n = atomic_load(&c->rep->n_snaps);
	char path[PATH_MAX + 32];
	struct tree ref;
	uint64_t epoch;
	FILE *f;
	int r;

	if (n == MAX_SNAPS)
		return;
	r = harness_snapshot(&c->h, n % 2 ? COW_CTX_APP_ROLLBACK : COW_CTX_BACKUP, &ref, &epoch);
	if (r < 0) {
		fprintf(stderr, "# snapshot: %d\n", r);
		_exit(3);
	}
	ref_path(c, epoch, path);
	f = fopen(path, "w");
	if (!f || tree_save(&ref, f) < 0 || fclose(f) != 0)
		_exit(4);
	tree_done(&ref);
	c->rep->snaps[n].epoch = epoch;
	atomic_store(&c->rep->snaps[n].state, TAKEN);
	atomic_store(&c->rep->n_snaps, n + 1);
}

static void drop_one(struct crash *c)
{
	unsigned n = atomic_load(&c->rep->n_snaps), live = 0, which;

	for (unsigned i = 0; i < n; i++)
		live += atomic_load(&c->rep->snaps[i].state) == TAKEN;
	if (!live)
		return;
	which = (unsigned)rnd(c, live);
	for (unsigned i = 0; i < n; i++) {
		int r;

		if (atomic_load(&c->rep->snaps[i].state) != TAKEN || which--)
			continue;
		atomic_store(&c->rep->snaps[i].state, DROPPING);
		r = cow_epoch_drop(c->h.st, c->rep->snaps[i].epoch, true);
		if (r < 0) {
			fprintf(stderr, "# drop: %d\n", r);
			_exit(5);
		}
		atomic_store(&c->rep->snaps[i].state, DROPPED);
		return;
	}
}

static unsigned count_live(const struct crash *c)
{
	unsigned live = 0;

	for (unsigned i = 0; i < atomic_load(&c->rep->n_snaps); i++)
		live += atomic_load(&c->rep->snaps[i].state) == TAKEN;
	return live;
}

static void round_options(unsigned round, char name[16], struct world_options *o)
{
	snprintf(name, 16, "round%u.", round);
	*o = (struct world_options){ .name = name, .max_names = 60 };
}

/* The child's life: ends by a signal, by the hook, or clean when it is through. */
static void live(struct crash *c, unsigned round, unsigned crash_at)
{
	struct world_options o;
	struct world *w;
	char name[16];
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (crash_at)
		fault_crash_nth(crash_at);
	r = harness_open(&c->h);
	if (r < 0) {
		fprintf(stderr, "# open: %d %s\n", r, c->h.why);
		_exit(2);
	}
	round_options(round, name, &o);
	w = world_new(&c->h, c->seed + round, &o);
	for (unsigned i = 0; i < MAX_CHANGES; i++) {
		if (rnd(c, 25) == 0 && count_live(c) < MAX_LIVE)
			take(c);
		if (rnd(c, 40) == 0)
			drop_one(c);
		r = world_step(w);
		if (r < 0) {
			fprintf(stderr, "# change %u, %s: %d\n", i, world_last(w), r);
			_exit(6);
		}
		atomic_fetch_add(&c->rep->steps, 1);
	}
	world_free(w);
	_exit(harness_close(&c->h, false) < 0 ? 7 : 0);
}

/* ---- what must be there afterwards ---- */

/* The same changes without any snapshot, on another directory. */
static bool live_is_right(struct crash *c, unsigned round, char *why, size_t len)
{
	struct harness plain;
	struct world_options o;
	struct world *w;
	struct tree got, want;
	char name[16];
	unsigned steps = atomic_load(&c->rep->steps);
	bool same = false, torn = false;
	int fd;

	round_options(round, name, &o);
	fd = openat(c->h.fd, name, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return steps == 0;
	cr_assert_eq(tree_read(fd, NULL, &got), 0);
	close(fd);
	cr_assert_eq(harness_init(&plain, NULL), 0);
	cr_assert_eq(harness_open(&plain), 0);
	w = world_new(&plain, c->seed + round, &o);
	for (unsigned i = 0; i < steps; i++)
		cr_assert_eq(world_step(w), 0);
	for (unsigned more = 0; more < 2 && !same; more++) {
		if (more &&
		    steps < MAX_CHANGES) { /* the one that was under way may be done as well */
			world_step(w);
			torn = strncmp(world_last(w), "write", 5) == 0 ||
			       strncmp(world_last(w), "copy", 4) == 0;
			torn |= strncmp(world_last(w), "rename", 6) == 0;
		}
		fd = openat(plain.fd, name, O_PATH | O_CLOEXEC);
		cr_assert_eq(tree_read(fd, NULL, &want), 0);
		close(fd);
		same = tree_same(&want, &got, TREE_CONTENT_ONLY, why, len);
		tree_done(&want);
	}
	world_free(w);
	tree_done(&got);
	harness_done(&plain);
	/* A write cut off by the signal, or by the end that the reclaiming thread came to; a directory that replaces another is
	 * exchanged with it first. */
	return same || torn;
}

static void check_snapshots(struct crash *c, unsigned round)
{
	char path[PATH_MAX + 32], why[700] = "";
	struct tree ref;
	FILE *f;
	int r;

	for (unsigned i = 0; i < atomic_load(&c->rep->n_snaps); i++) {
		unsigned state = atomic_load(&c->rep->snaps[i].state);
		uint64_t epoch = c->rep->snaps[i].epoch;

		if (state != TAKEN) {
			struct cow_view *v;

			r = cow_view_open(c->h.st, epoch, true, &v);
			if (r == 0)
				cow_view_close(v);
			cr_assert(state == DROPPING || r == -ENOENT,
				  "seed %llu: dropped %llu is back", (unsigned long long)c->seed,
				  (unsigned long long)epoch);
			atomic_store(&c->rep->snaps[i].state, r == 0 ? TAKEN : DROPPED);
			if (r < 0)
				continue;
		}
		ref_path(c, epoch, path);
		f = fopen(path, "r");
		cr_assert(f && tree_load(f, &ref) == 0);
		fclose(f);
		r = harness_compare(&c->h, epoch, &ref, c->seed + i, NULL, 0, why, sizeof(why));
		cr_assert_eq(r, 0, "seed %llu, round %u, epoch %llu: %d %s",
			     (unsigned long long)c->seed, round, (unsigned long long)epoch, r, why);
		tree_done(&ref);
	}
}

static void only_unfinished(struct crash *c)
{
	for (size_t i = 0; i < c->h.n_drops; i++)
		cr_assert_eq(c->h.drops[i].cause, COW_DROP_UNFINISHED, "seed %llu: cause %d",
			     (unsigned long long)c->seed, c->h.drops[i].cause);
	c->h.n_drops = 0;
}

static void one_round(struct crash *c, unsigned round, bool by_signal)
{
	unsigned crash_at = by_signal ? 0 : 1 + (unsigned)rnd(c, round % 4 == 0 ? 100 : 4000),
		 delay_us = (unsigned)rnd(c, (sanitized ? 8 : 1) * 400000);
	char why[700] = "";
	int status, r;
	pid_t pid;

	atomic_store(&c->rep->steps, 0);
	c->h.names_given += 1000;
	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0)
		live(c, round, crash_at);
	harness_random(&c->rng); /* apart from the child's */
	if (by_signal) {
		usleep(delay_us);
		kill(pid, SIGKILL);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status))
		cr_assert(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == FAULT_CRASHED,
			  "seed %llu, round %u: the child ended with %d",
			  (unsigned long long)c->seed, round, WEXITSTATUS(status));
	else
		cr_assert_eq(WTERMSIG(status), SIGKILL, "seed %llu, round %u: signal %d",
			     (unsigned long long)c->seed, round, WTERMSIG(status));
	r = harness_open(&c->h);
	cr_assert_eq(r, 0, "seed %llu, round %u: %d %s", (unsigned long long)c->seed, round, r,
		     c->h.why);
	only_unfinished(c);
	check_snapshots(c, round);
	cr_assert(live_is_right(c, round, why, sizeof(why)),
		  "seed %llu, round %u, after %u changes: live files: %s",
		  (unsigned long long)c->seed, round, atomic_load(&c->rep->steps), why);
	if (round % 2)
		cow_epoch_settle(c->h.st);
	check_snapshots(c, round);
	cr_assert_eq(harness_close(&c->h, false), 0);
}

TestSuite(cow_crash, .timeout = 0);

Test(cow_crash, killed_before_an_operation)
{
	struct crash *c = malloc(sizeof(*c));

	start(c, "killed_before_an_operation");
	for (unsigned i = 0; i < harness_steps(sanitized ? 8 : 20); i++)
		one_round(c, i, false);
	finish(c);
	free(c);
}

Test(cow_crash, killed_by_a_signal)
{
	struct crash *c = malloc(sizeof(*c));

	start(c, "killed_by_a_signal");
	for (unsigned i = 0; i < harness_steps(sanitized ? 8 : 20); i++)
		one_round(c, i, true);
	finish(c);
	free(c);
}
