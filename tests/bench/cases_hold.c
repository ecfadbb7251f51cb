/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/bench/cases_hold.c - how long writers are held while snapshot sets are taken under load. Threads write 4 KiB at a
 * time and note when each write began and ended; what a set cost a writer is the longest write that overlaps it. The same
 * is read off equally long moments in which no set was taken: that is what the machine itself does to a writer. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/base/clock.h"
#include "tests/bench/bench.h"
#include "tests/bench/files.h"
#include "tests/bench/report.h"
#include "tests/bench/shots.h"

#define HELD_BUDGET_NS 2e6
#define DIRS_MAX 4
#define PAUSE_US 20000u
#define WRITES_MAX (4u << 20) /* noted for each writer */

struct noted {
	uint64_t began_ns, ended_ns;
};

struct writer {
	pthread_t thread;
	struct spot spot;
	unsigned pause_us;
	atomic_bool *stop;
	struct noted *writes;
	atomic_size_t n; /* release: what is before it is written */
};

static void *write_on(void *arg)
{
	struct writer *w = arg;
	char page[FILES_PAGE];
	unsigned at = (unsigned)(uintptr_t)w;

	memset(page, 'w', sizeof(page));
	while (!atomic_load(w->stop)) {
		size_t n = atomic_load_explicit(&w->n, memory_order_relaxed);
		struct noted *note = &w->writes[n];

		at = (at * 1664525u + 1013904223u) & (FILES_PAGES - 1);
		note->began_ns = clock_mono_ns();
		if (pwrite(w->spot.fd, page, sizeof(page), (off_t)at * FILES_PAGE) !=
		    (ssize_t)sizeof(page))
			bench_die("a write to %s failed", w->spot.dir);
		note->ended_ns = clock_mono_ns();
		if (n + 1 < WRITES_MAX)
			atomic_store_explicit(&w->n, n + 1, memory_order_release);
		if (w->pause_us)
			usleep(w->pause_us);
	}
	return NULL;
}

/* The longest write that overlaps the moment, of any writer. */
static double longest(struct writer *writers, unsigned n, struct noted moment)
{
	uint64_t most = 0;

	for (unsigned i = 0; i < n; i++) {
		const struct noted *w = writers[i].writes;
		size_t lo = 0, hi = atomic_load_explicit(&writers[i].n, memory_order_acquire),
		       end = hi;

		while (lo < hi) {
			size_t mid = (lo + hi) / 2;

			if (w[mid].ended_ns < moment.began_ns)
				lo = mid + 1;
			else
				hi = mid;
		}
		for (; lo < end && w[lo].began_ns <= moment.ended_ns; lo++)
			if (w[lo].ended_ns - w[lo].began_ns > most)
				most = w[lo].ended_ns - w[lo].began_ns;
	}
	return (double)most;
}

static void start(const struct bench *b, struct writer *w, unsigned n, unsigned dirs,
		  unsigned pause_us, atomic_bool *stop)
{
	for (unsigned i = 0; i < n; i++) {
		w[i] = (struct writer){ .pause_us = pause_us, .stop = stop };
		w[i].spot = files_spot(bench_tree(b, TREE_H1 + i % dirs), "data", NULL, 0);
		files_open(&w[i].spot, true, false);
		w[i].writes = malloc(WRITES_MAX * sizeof(*w[i].writes));
		if (!w[i].writes || pthread_create(&w[i].thread, NULL, write_on, &w[i]) != 0)
			bench_die("out of memory");
	}
}

static void stop_all(struct writer *w, unsigned n, atomic_bool *stop)
{
	atomic_store(stop, true);
	for (unsigned i = 0; i < n; i++) {
		pthread_join(w[i].thread, NULL);
		files_close(&w[i].spot);
	}
}

enum { HELD, CALL, WRITE, WITHOUT, KINDS };

static void report(const char *id, const char *what, const char *dirs, double budget, double *v,
		   unsigned n)
{
	double p50 = measure_percentile(v, n, 50), p99 = measure_percentile(v, n, 99);
	char full[64], text[64], more[96], a[32], c[32];

	snprintf(full, sizeof(full), "hold.%s", id);
	snprintf(text, sizeof(text), "%s%s, p99", what, dirs);
	if (v[n - 1] == 0) {
		report_skip(full, "the coordinator did not log it");
		return;
	}
	snprintf(more, sizeof(more), "median %s, longest %s of %u",
		 report_text(a, sizeof(a), p50, UNIT_NS),
		 report_text(c, sizeof(c), v[n - 1], UNIT_NS), n);
	report_value(full, text, budget, p99, UNIT_NS, more);
}

/* One set after another; in between, as long a moment without one. */
static void take_sets(const char *const *dirs, unsigned n_dirs, unsigned sets, struct shot *shots,
		      struct noted *without)
{
	for (unsigned i = 0; i < sets; i++) {
		usleep(PAUSE_US);
		shots_take_volatile(dirs, n_dirs, &shots[i]);
		shots_end(&shots[i]);
		usleep(PAUSE_US);
		without[i].began_ns = clock_mono_ns();
		usleep((unsigned)((shots[i].ended_ns - shots[i].began_ns) / 1000));
		without[i].ended_ns = clock_mono_ns();
	}
}

static void hold(const struct bench *b, const char *id, unsigned n_dirs, unsigned n_writers,
		 unsigned pause_us, const char *text)
{
	CLEANUP(free_p) struct shot *shots = calloc(b->sets, sizeof(*shots));
	CLEANUP(free_p) struct noted *without = calloc(b->sets, sizeof(*without));
	CLEANUP(free_p) double *v = calloc((size_t)KINDS * b->sets, sizeof(*v));
	struct writer writers[DIRS_MAX];
	const char *dirs[DIRS_MAX];
	atomic_bool stop = false;
	double *kinds[KINDS];
	char name[64];

	if (!bench_wants(b, id))
		return;
	if (!shots || !without || !v)
		bench_die("out of memory");
	for (unsigned i = 0; i < n_dirs; i++)
		dirs[i] = bench_tree(b, TREE_H1 + i);
	start(b, writers, n_writers, n_dirs, pause_us, &stop);
	take_sets(dirs, n_dirs, b->sets, shots, without);
	stop_all(writers, n_writers, &stop);
	for (int k = 0; k < KINDS; k++)
		kinds[k] = v + (size_t)k * b->sets;
	for (unsigned i = 0; i < b->sets; i++) {
		struct noted during = { shots[i].began_ns, shots[i].ended_ns };

		kinds[HELD][i] = (double)shots_held_ns(b->coordinator_log, shots[i].set_id);
		kinds[CALL][i] = (double)(during.ended_ns - during.began_ns);
		kinds[WRITE][i] = longest(writers, n_writers, during);
		kinds[WITHOUT][i] = longest(writers, n_writers, without[i]);
	}
	for (unsigned i = 0; i < n_writers; i++)
		free(writers[i].writes);
	id += strlen("hold.");
	snprintf(name, sizeof(name), "%s.held", id);
	report(name, text, ": held", HELD_BUDGET_NS, kinds[HELD], b->sets);
	snprintf(name, sizeof(name), "%s.write", id);
	report(name, "", "  longest write during a set", 0, kinds[WRITE], b->sets);
	snprintf(name, sizeof(name), "%s.without", id);
	report(name, "", "  longest write without one, as long", 0, kinds[WITHOUT], b->sets);
	snprintf(name, sizeof(name), "%s.call", id);
	report(name, "", "  DoSnapshotSet", 0, kinds[CALL], b->sets);
}

void cases_hold(const struct bench *b)
{
	report_group("Hold under load", NULL, NULL, NULL);
	hold(b, "hold.1", 1, 2, 0, "1 tree, 2 writers without pause");
	hold(b, "hold.4", 4, 4, 0, "4 trees, 4 writers without pause");
	hold(b, "hold.1-paced", 1, 2, 200, "1 tree, 2 writers with pauses");
	hold(b, "hold.4-paced", 4, 4, 200, "4 trees, 4 writers with pauses");
}
