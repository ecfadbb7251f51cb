/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/bench/measure.c - rounds and medians; see measure.h. */
#include "tests/bench/measure.h"

#include <dirent.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/base/clock.h"
#include "tests/bench/bench.h"

#define IDLE_STEP_US 5000u
#define IDLE_CPU_NS (50u * 1000) /* in one step: timers of a sleeping process */
#define IDLE_LIMIT_MS 5000u

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Order statistics: the ranks n/2 -+ 1.96 * sqrt(n)/2 enclose the true median with 95 %. */
struct estimate measure_median(double *v, size_t n)
{
	double reach = 0.98 * sqrt((double)n);
	long lo = (long)floor((double)n / 2 - reach), hi = (long)ceil((double)n / 2 + reach);

	if (n == 0)
		return (struct estimate){ 0 };
	qsort(v, n, sizeof(*v), by_value);
	if (lo < 0)
		lo = 0;
	if (hi > (long)n - 1)
		hi = (long)n - 1;
	return (struct estimate){
		.mid = n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2,
		.lo = v[lo],
		.hi = v[hi],
	};
}

double measure_percentile(double *v, size_t n, double percent)
{
	size_t i = (size_t)ceil((double)n * percent / 100);

	if (n == 0)
		return 0;
	qsort(v, n, sizeof(*v), by_value);
	return v[i == 0 ? 0 : i > n ? n - 1 : i - 1];
}

static void pin_threads(int pid, const cpu_set_t *set)
{
	CLEANUP(closedir_p) DIR *d = NULL;
	const struct dirent *e;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	while (d && (e = readdir(d)))
		if (atoi(e->d_name) > 0)
			sched_setaffinity(atoi(e->d_name), sizeof(*set), set);
}

void measure_on_one_cpu(const int *pids, size_t n, bool one)
{
	static cpu_set_t all;
	static bool known;
	cpu_set_t set;
	int cpu = CPU_SETSIZE - 1;

	if (!known && sched_getaffinity(0, sizeof(all), &all) < 0)
		bench_die("which processors there are cannot be found");
	known = true;
	while (cpu > 0 && !CPU_ISSET(cpu, &all))
		cpu--; /* the last one: interrupts prefer the first */
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	pin_threads(getpid(), one ? &set : &all);
	for (size_t i = 0; i < n; i++)
		pin_threads(pids[i], one ? &set : &all);
}

uint64_t measure_cpu_ns(const int *watch, size_t n)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		struct timespec ts;
		clockid_t id;

		if (clock_getcpuclockid(watch[i], &id) == 0 && clock_gettime(id, &ts) == 0)
			sum += clock_from_timespec(&ts);
	}
	return sum;
}

void measure_wait_idle(const int *watch, size_t n, unsigned idle_ms)
{
	uint64_t until = clock_deadline_ms(IDLE_LIMIT_MS), quiet_since = clock_mono_ns();
	uint64_t before = measure_cpu_ns(watch, n), now;

	while (!clock_expired(until) && clock_mono_ns() - quiet_since < idle_ms * CLOCK_NS_PER_MS) {
		usleep(IDLE_STEP_US);
		now = measure_cpu_ns(watch, n);
		if (now - before > IDLE_CPU_NS)
			quiet_since = clock_mono_ns();
		before = now;
	}
}

struct sample {
	double ns, cpu_ns;
};

struct watch {
	const int *pids;
	size_t n;
	unsigned idle_ms;
};

/* Including our own: the system calls that ask are half of the cost. */
static uint64_t cpu_ns(const struct watch *w)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return clock_from_timespec(&ts) + measure_cpu_ns(w->pids, w->n);
}

static struct sample once(const struct side *s, unsigned round, const struct watch *w)
{
	uint64_t began, took, cpu;
	unsigned ops;

	if (s->prepare)
		s->prepare(s->arg, round);
	if (w->idle_ms)
		measure_wait_idle(w->pids, w->n, w->idle_ms);
	cpu = cpu_ns(w);
	began = clock_mono_ns();
	ops = s->run(s->arg, round);
	took = clock_mono_ns() - began;
	if (w->idle_ms)
		measure_wait_idle(w->pids, w->n, w->idle_ms);
	cpu = cpu_ns(w) - cpu;
	if (s->clean)
		s->clean(s->arg, round);
	return (struct sample){ (double)took / ops, (double)cpu / ops };
}

enum { A, B, A_CPU, B_CPU, PLAIN, RATIO, CPU, KINDS };

void measure_pair(struct side a, struct side b, struct side plain, unsigned rounds,
		  unsigned idle_ms, const int *pids, size_t n_pids, struct measured *ret)
{
	struct watch watch = { pids, n_pids, idle_ms };
	CLEANUP(free_p) double *all = calloc((size_t)KINDS * rounds, sizeof(*all));
	struct estimate e[KINDS];
	double *v[KINDS];

	if (!all)
		bench_die("out of memory");
	for (int k = 0; k < KINDS; k++)
		v[k] = all + (size_t)k * rounds;
	for (unsigned i = 0; i <= rounds; i++) {
		struct sample sa, sb, sp = { 0 };

		if (i % 2 == 0)
			sa = once(&a, i, &watch);
		sb = once(&b, i, &watch);
		if (i % 2 == 1)
			sa = once(&a, i, &watch);
		if (plain.run)
			sp = once(&plain, i, &watch);
		if (i == 0)
			continue;
		v[A][i - 1] = sa.ns;
		v[B][i - 1] = sb.ns;
		v[A_CPU][i - 1] = sa.cpu_ns;
		v[B_CPU][i - 1] = sb.cpu_ns;
		v[PLAIN][i - 1] = sp.ns;
		v[RATIO][i - 1] = sa.ns / sb.ns;
		v[CPU][i - 1] = sa.cpu_ns / sb.cpu_ns;
	}
	for (int k = 0; k < KINDS; k++)
		e[k] = measure_median(v[k], rounds);
	*ret = (struct measured){
		.ratio = e[RATIO],
		.cpu = e[CPU],
		.a_ns = e[A].mid,
		.b_ns = e[B].mid,
		.a_cpu_ns = e[A_CPU].mid,
		.b_cpu_ns = e[B_CPU].mid,
		.plain_ns = e[PLAIN].mid,
	};
}
