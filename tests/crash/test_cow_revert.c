/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reverting against copies that cannot be wrong: random changes, snapshots with a copy of the tree kept beside each,
 * a revert to any of them - undisturbed, killed before its Nth operation, or with one that fails - and again until it is
 * done. Then the live tree is the copy, that snapshot and all older ones show what they did, and newer ones are gone
 * . More changes follow, of what came back too. UMBRA_SEED and UMBRA_STEPS (reverts) as in test_cow_model.c. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow/revert.h"
#include "tests/support/fault.h"
#include "tests/support/harness.h"
#include "tests/support/leaks.h"
#include "tests/support/world.h"

#define MAX_SNAPS 8u

struct snap {
	uint64_t epoch;
	struct tree ref;
};

struct model {
	struct harness h;
	uint64_t seed, rng;
	struct snap snaps[MAX_SNAPS]; /* oldest first */
	unsigned n_snaps;
	struct world *w;
	uint64_t going; /* the inode that loses a name just now */
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

static void start(struct model *m, const char *name, const char *base,
		  const struct world_options *o)
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
	m->w = world_new(&m->h, m->seed, o);
}

static void change(struct model *m, unsigned n)
{
	while (n--) {
		int r = world_step(m->w);

		cr_assert_eq(r, 0, "seed %llu, %s: %d", (unsigned long long)m->seed,
			     world_last(m->w), r);
		cr_assert_eq(harness_drops(&m->h), 0, "seed %llu, %s: dropped",
			     (unsigned long long)m->seed, world_last(m->w));
	}
}

static void take(struct model *m)
{
	struct snap *s = &m->snaps[m->n_snaps];
	int r = harness_snapshot(&m->h, COW_CTX_APP_ROLLBACK, &s->ref, &s->epoch);

	cr_assert_eq(r, 0, "snapshot: %d", r);
	m->n_snaps++;
}

static void forget(struct model *m, unsigned i)
{
	tree_done(&m->snaps[i].ref);
	memmove(&m->snaps[i], &m->snaps[i + 1], (m->n_snaps - i - 1) * sizeof(m->snaps[0]));
	m->n_snaps--;
}

static void compare(struct model *m, unsigned i, const char *when)
{
	char why[700] = "";
	int r = harness_compare(&m->h, m->snaps[i].epoch, &m->snaps[i].ref, rnd(m, 1u << 30),
				world_names(m->w), WORLD_NAMES, why, sizeof(why));

	cr_assert_eq(r, 0, "seed %llu, %s, epoch %llu (%u of %u): %d %s",
		     (unsigned long long)m->seed, when, (unsigned long long)m->snaps[i].epoch, i,
		     m->n_snaps, r, why);
}

static void live_is(struct model *m, const struct tree *ref, const char *when)
{
	unsigned flags = TREE_REVERTED | (m->h.loose_holes ? TREE_HOLES_LOOSE : 0);
	char why[700] = "";
	struct tree live;

	cr_assert_eq(harness_live(&m->h, &live), 0);
	for (size_t i = 0; i < live.n; i++)
		live.e[i].unwritten |= harness_marked(&m->h, live.e[i].sx.stx_ino,
						      HARNESS_UNWRITTEN);
	for (size_t i = 0; i < live.n; i++)
		if (!S_ISDIR(live.e[i].sx.stx_mode))
			cr_assert_eq(live.e[i].raw_nlink -
					     cow_inode_extra_links(m->h.st, live.e[i].sx.stx_ino),
				     live.e[i].sx.stx_nlink, "seed %llu, %s: links of %s",
				     (unsigned long long)m->seed, when, live.e[i].path);
	cr_assert(tree_same(ref, &live, flags, why, sizeof(why)), "seed %llu, %s: live tree: %s",
		  (unsigned long long)m->seed, when, why);
	tree_done(&live);
}

/* ---- the side above: it knows where things live, and forgets names that go ---- */

static void name_goes(void *ud, uint64_t dir, int dir_fd, const char *name)
{
	struct model *m = ud;
	struct stat st;

	(void)dir;
	m->going = fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
}

static void name_gone(void *ud, uint64_t dir, const char *name, int r)
{
	struct model *m = ud;

	if (r == 0)
		harness_place_del(&m->h, m->going, dir, name);
}

static int revert(struct model *m, uint64_t epoch)
{
	struct cow_revert_hooks hooks = { .name_goes = name_goes,
					  .name_gone = name_gone,
					  .userdata = m };

	return cow_revert(m->h.st, epoch, false, &hooks);
}

/* After the last word of it: all that promise. */
static void check(struct model *m, unsigned to, const char *when)
{
	struct cow_revert_info info;
	struct cow_view *v;

	cow_revert_get(m->h.st, &info);
	cr_assert_eq(info.state, COW_REVERT_NONE, "seed %llu, %s: state %d, %s",
		     (unsigned long long)m->seed, when, info.state, info.why);
	cr_assert_eq(cow_revert_pending(m->h.st), 0);
	cr_assert_not(cow_revert_running(m->h.st));
	live_is(m, &m->snaps[to].ref, when);
	for (unsigned i = 0; i <= to; i++)
		compare(m, i, when);
	while (m->n_snaps > to + 1) {
		cr_assert_eq(cow_view_open(m->h.st, m->snaps[m->n_snaps - 1].epoch, true, &v),
			     -ENOENT, "X-11: a newer one is still there");
		forget(m, m->n_snaps - 1);
	}
	m->h.n_drops = 0;
	cr_assert_eq(harness_place_all(&m->h), 0);
	world_rescan(m->w);
}

static void reopen(struct model *m)
{
	int r;

	world_close_files(m->w);
	if (m->h.st)
		cr_assert_eq(harness_close(&m->h, false), 0);
	r = harness_open(&m->h);
	cr_assert_eq(r, 0, "reopen: %d %s", r, m->h.why);
}

/* Changes and snapshots up to the next revert. */
static void history(struct model *m)
{
	change(m, 20 + (unsigned)rnd(m, 60));
	while (m->n_snaps == 0 || (m->n_snaps < MAX_SNAPS && rnd(m, 3))) {
		take(m);
		change(m, 20 + (unsigned)rnd(m, 150));
	}
	if (m->n_snaps > 2 && rnd(m, 3) == 0) {
		unsigned which = (unsigned)rnd(m, m->n_snaps);

		cr_assert_eq(cow_epoch_drop(m->h.st, m->snaps[which].epoch, false), 0);
		forget(m, which);
		if (rnd(m, 2))
			cow_epoch_settle(m->h.st);
	}
	if (rnd(m, 6) == 0) {
		reopen(m);
		if (rnd(m, 2))
			change(m, 1 + (unsigned)rnd(m, 60));
	}
}

static void finish(struct model *m)
{
	while (m->n_snaps) {
		unsigned which = (unsigned)rnd(m, m->n_snaps);

		cr_assert_eq(cow_epoch_drop(m->h.st, m->snaps[which].epoch, false), 0);
		forget(m, which);
	}
	cow_epoch_settle(m->h.st);
	cr_assert_eq(harness_store_entries(&m->h, "log"), 0);
	cr_assert_eq(harness_store_entries(&m->h, "data"), 0);
	cr_assert_eq(harness_store_entries(&m->h, "grave"), 0);
	world_free(m->w);
	cr_assert_eq(harness_close(&m->h, true), 0);
	harness_done(&m->h);
}

TestSuite(cow_revert, .timeout = 0);

static void run(const char *name, const char *base, unsigned rounds, struct world_options o)
{
	struct model *m = malloc(sizeof(*m));
	char when[64];

	start(m, name, base, &o);
	for (unsigned i = 0; i < rounds; i++) {
		unsigned to;
		int r;

		history(m);
		to = (unsigned)rnd(m, m->n_snaps);
		snprintf(when, sizeof(when), "revert %u", i);
		if (getenv("UMBRA_TRACE"))
			fprintf(stderr, "%s to %llu\n", when,
				(unsigned long long)m->snaps[to].epoch);
		if (rnd(m, 2))
			world_close_files(m->w);
		r = revert(m, m->snaps[to].epoch);
		if (r < 0) {
			struct cow_revert_info info;

			cow_revert_get(m->h.st, &info);
			cr_assert_fail("seed %llu, %s: %d %s", (unsigned long long)m->seed, when, r,
				       info.why);
		}
		check(m, to, when);
		change(m, (unsigned)rnd(m, 100));
		for (unsigned k = 0; k < m->n_snaps; k++)
			compare(m, k, "after it");
	}
	finish(m);
	free(m);
	m = NULL;
	assert_no_leaks();
}

Test(cow_revert, the_live_tree_becomes_the_snapshot)
{
	run("the_live_tree_becomes_the_snapshot", NULL, harness_steps(sanitized ? 15 : 40),
	    (struct world_options){ .max_names = 120 });
}

Test(cow_revert, large_holes_come_back)
{
	run("large_holes_come_back", NULL, harness_steps(sanitized ? 8 : 20),
	    (struct world_options){ .max_names = 8, .max_file = 3u << 20, .sparse = true });
}

/* ---- killed in the middle (X-10) ---- */

static bool looks_like(struct model *m, const struct tree *t)
{
	char why[700] = "";
	struct tree live;
	bool same;

	cr_assert_eq(harness_live(&m->h, &live), 0);
	for (size_t i = 0; i < live.n; i++)
		live.e[i].unwritten |= harness_marked(&m->h, live.e[i].sx.stx_ino,
						      HARNESS_UNWRITTEN);
	same = tree_same(t, &live, TREE_REVERTED, why, sizeof(why));
	tree_done(&live);
	return same;
}

/* Somebody goes on with the tree as he finds it. That costs no snapshot (I-3), and none shows it. */
static void use(struct model *m, unsigned to, const char *when)
{
	m->h.n_drops = 0;
	cr_assert_eq(harness_place_all(&m->h), 0);
	world_rescan(m->w);
	change(m, 60);
	for (unsigned k = 0; k <= to; k++)
		compare(m, k, when);
	world_close_files(m->w);
}

static void die_in_it(struct model *m, uint64_t epoch, unsigned nth)
{
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	r = harness_open(&m->h);
	if (r < 0)
		_exit(2);
	fault_crash_nth(nth);
	r = revert(m, epoch);
	_exit(r < 0 ? 3 : 0);
}

Test(cow_revert, killed_before_any_operation_it_is_continued)
{
	struct model *m = malloc(sizeof(*m));
	unsigned rounds = harness_steps(sanitized ? 10 : 25), killed = 0;
	struct world_options o = { .max_names = 60 };
	char when[64];

	start(m, "killed_before_any_operation_it_is_continued", NULL, &o);
	for (unsigned i = 0; i < rounds; i++) {
		unsigned to, tries = 0;
		struct tree before;
		int status = 0;

		history(m);
		to = (unsigned)rnd(m, m->n_snaps);
		snprintf(when, sizeof(when), "killed %u", i);
		world_close_files(m->w);
		cr_assert_eq(harness_live(&m->h, &before), 0);
		cr_assert_eq(harness_close(&m->h, false), 0);
		for (; tries < 4; tries++) {
			unsigned nth = 1 + (unsigned)rnd(m, tries == 0 && i % 3 == 0 ? 30 : 600);
			pid_t pid = fork();

			cr_assert_geq(pid, 0);
			if (pid == 0)
				die_in_it(m, m->snaps[to].epoch, nth);
			cr_assert_eq(waitpid(pid, &status, 0), pid);
			cr_assert(WIFEXITED(status) && (WEXITSTATUS(status) == 0 ||
							WEXITSTATUS(status) == FAULT_CRASHED),
				  "seed %llu, %s: status %x", (unsigned long long)m->seed, when,
				  status);
			killed += WEXITSTATUS(status) == FAULT_CRASHED;
			if (WEXITSTATUS(status) == 0)
				break;
		}
		reopen(m);
		m->h.n_drops = 0;
		/* the snapshot is exact, though half of the tree was put back (I-3) */
		for (unsigned k = 0; k <= to; k++)
			compare(m, k, when);
		if (cow_revert_pending(m->h.st))
			cr_assert_eq(cow_revert_pending(m->h.st), m->snaps[to].epoch);
		else
			cr_assert(looks_like(m, &before) || looks_like(m, &m->snaps[to].ref),
				  "seed %llu, %s: half done, and nobody knows",
				  (unsigned long long)m->seed, when);
		tree_done(&before);
		if (rnd(m, 2)) /* not gone on with, since something was in its way */
			use(m, to, when);
		cr_assert_eq(revert(m, m->snaps[to].epoch), 0, "seed %llu, %s",
			     (unsigned long long)m->seed, when);
		check(m, to, when);
	}
	cr_assert_gt(killed, rounds / 2);
	finish(m);
	free(m);
	m = NULL;
	assert_no_leaks();
}

/* From the moment on when the mark is taken away, or says that it stopped; that is what ends a revert. */
static struct {
	unsigned die_at;  /* the operation, 1: the first */
	unsigned fail_at; /* one of its renames and the like fails; 0: none */
	bool ends;
} end;

static int at_the_end(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	unsigned fails = FAULT_OP(COW_OP_RENAME) | FAULT_OP(COW_OP_LINK) | FAULT_OP(COW_OP_ATTR);

	(void)userdata;
	(void)fd;
	(void)len;
	if (path && strcmp(path, "revert") == 0 && (op == COW_OP_UNLINK || op == COW_OP_OPEN))
		end.ends = true;
	if (end.ends && FAULT_CHANGES & FAULT_OP(op) && --end.die_at == 0)
		_exit(FAULT_CRASHED);
	return fails & FAULT_OP(op) && end.fail_at && --end.fail_at == 0 ? -EIO : 0;
}

static void die_at_its_end(struct model *m, uint64_t epoch, unsigned nth, unsigned fail_at)
{
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	r = harness_open(&m->h);
	if (r < 0)
		_exit(2);
	cow_epoch_settle(m->h.st); /* its thread must not meet the hook */
	end.die_at = nth;
	end.fail_at = fail_at;
	cow_file_set_hook(at_the_end, NULL);
	r = revert(m, epoch);
	_exit(r < 0 ? 3 : 0);
}

/* What the revert did has another label than what comes after it, whenever the daemon dies. */
Test(cow_revert, killed_at_its_end_it_costs_no_snapshot)
{
	struct model *m = malloc(sizeof(*m));
	unsigned rounds = harness_steps(sanitized ? 24 : 60), killed = 0, stopped = 0;
	struct world_options o = { .max_names = 60 };
	char when[64];

	start(m, "killed_at_its_end_it_costs_no_snapshot", NULL, &o);
	for (unsigned i = 0; i < rounds; i++) {
		unsigned to;
		int status;
		pid_t pid;

		history(m);
		to = (unsigned)rnd(m, m->n_snaps);
		snprintf(when, sizeof(when), "end %u", i);
		world_close_files(m->w);
		cr_assert_eq(harness_close(&m->h, false), 0);
		pid = fork();
		cr_assert_geq(pid, 0);
		if (pid == 0)
			die_at_its_end(m, m->snaps[to].epoch, 1 + i / 2 % 6,
				       i % 2 ? 4 + (unsigned)rnd(m, 20) : 0);
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_assert(WIFEXITED(status) && WEXITSTATUS(status) != 2, "seed %llu, %s: status %x",
			  (unsigned long long)m->seed, when, status);
		killed += WEXITSTATUS(status) == FAULT_CRASHED;
		reopen(m);
		stopped += cow_revert_pending(m->h.st) && !cow_revert_cut_off(m->h.st);
		while (m->n_snaps > to + 1)
			forget(m, m->n_snaps - 1);
		for (unsigned k = 0; k <= to; k++)
			compare(m, k, when);
		use(m, to, when);
		cr_assert_eq(revert(m, m->snaps[to].epoch), 0, "seed %llu, %s",
			     (unsigned long long)m->seed, when);
		check(m, to, when);
	}
	cr_assert_gt(killed, rounds / 4);
	cr_assert_gt(stopped, rounds / 8);
	finish(m);
	free(m);
	m = NULL;
	assert_no_leaks();
}

/* ---- an operation that fails ---- */

Test(cow_revert, what_failed_is_done_by_the_next_one)
{
	struct model *m = malloc(sizeof(*m));
	unsigned rounds = harness_steps(sanitized ? 12 : 40), stopped = 0;
	struct world_options o = { .max_names = 60 };
	char when[64];

	start(m, "what_failed_is_done_by_the_next_one", NULL, &o);
	for (unsigned i = 0; i < rounds; i++) {
		struct cow_revert_info info;
		unsigned to;
		int r, error = i % 3 == 0 ? -ENOSPC : i % 3 == 1 ? -EIO : -EPERM;

		history(m);
		if (i % 3 == 0) /* older ones are given up for room, which is another story */
			while (m->n_snaps > 1) {
				cr_assert_eq(cow_epoch_drop(m->h.st, m->snaps[0].epoch, false), 0);
				forget(m, 0);
			}
		to = (unsigned)rnd(m, m->n_snaps);
		snprintf(when, sizeof(when), "failure %u", i);
		cow_epoch_settle(m->h.st); /* its thread must not meet the fault */
		if (i % 2)
			fault_fail_nth(FAULT_CHANGES & ~FAULT_OP(COW_OP_SYNC),
				       1 + (unsigned)rnd(m, 300), error);
		else
			fault_fail_from(FAULT_OP(COW_OP_RENAME) | FAULT_OP(COW_OP_LINK) |
						FAULT_OP(COW_OP_ATTR),
					1 + (unsigned)rnd(m, 100), error);
		r = revert(m, m->snaps[to].epoch);
		fault_reset();
		if (r < 0) {
			cow_revert_get(m->h.st, &info);
			if (getenv("UMBRA_TRACE"))
				fprintf(stderr, "%s: %d, state %d, %llu failures: %s\n", when, r,
					info.state, (unsigned long long)info.failures, info.why);
			cr_assert_not(cow_revert_running(m->h.st));
			if (info.state == COW_REVERT_STOPPED) {
				stopped++;
				cr_assert_neq(info.error, 0);
				cr_assert_neq(info.why[0], '\0', "a failure without a word");
				cr_assert_eq(cow_revert_pending(m->h.st), m->snaps[to].epoch);
				cr_assert_eq(cow_epoch_prepare(m->h.st), -EINPROGRESS);
				cr_assert_eq(cow_epoch_drop(m->h.st, m->snaps[to].epoch, false),
					     -EBUSY);
			}
			compare(m, to, when);
			r = revert(m, m->snaps[to].epoch);
			cow_revert_get(m->h.st, &info);
			cr_assert_eq(r, 0, "seed %llu, %s: %d %s", (unsigned long long)m->seed,
				     when, r, info.why);
		}
		check(m, to, when);
	}
	cr_assert_gt(stopped, rounds / 5);
	finish(m);
	free(m);
	m = NULL;
	assert_no_leaks();
}

/* ---- what a start goes on with by itself ---- */

/* Whatever fails: who was told that nothing was touched finds nothing to be gone on with at the next start, and who was told
 * that it stopped finds it, but not as something to go on with unasked. */
Test(cow_revert, a_start_goes_on_only_with_what_was_cut_off)
{
	struct model *m = malloc(sizeof(*m));
	struct world_options o = { .max_names = 40 };
	unsigned refused = 0, stopped = 0;
	int r = -1;

	start(m, "a_start_goes_on_only_with_what_was_cut_off", NULL, &o);
	history(m);
	for (unsigned n = 1; r < 0; n += 1 + n / 3) {
		uint64_t epoch = m->snaps[m->n_snaps - 1].epoch;
		struct cow_revert_info info;

		change(m, 5);
		cow_epoch_settle(m->h.st); /* its thread syncs, too */
		fault_fail_nth(FAULT_OP(COW_OP_SYNC) | FAULT_OP(COW_OP_RENAME), n, -EIO);
		r = revert(m, epoch);
		fault_reset();
		cow_revert_get(m->h.st, &info);
		reopen(m);
		cr_assert_eq(cow_revert_cut_off(m->h.st), 0, "seed %llu, operation %u",
			     (unsigned long long)m->seed, n);
		if (r == 0 || info.state != COW_REVERT_STOPPED) {
			refused += r < 0;
			cr_assert_eq(cow_revert_pending(m->h.st), 0, "seed %llu, operation %u: %d",
				     (unsigned long long)m->seed, n, r);
		} else {
			stopped++;
			cr_assert_eq(cow_revert_pending(m->h.st), epoch);
			cr_assert_eq(revert(m, epoch), 0);
			check(m, m->n_snaps - 1, "after it stopped");
		}
	}
	cr_assert_gt(refused, 0);
	cr_assert_gt(stopped, 0);
	check(m, m->n_snaps - 1, "at the end");
	finish(m);
	free(m);
	m = NULL;
	assert_no_leaks();
}
