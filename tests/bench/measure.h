/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/bench/measure.h - two ways of doing the same thing, timed in turn.
 * Job:     rounds, order, medians, confidence; knows nothing of what is measured.
 * Errors:  none: a benchmark that cannot measure says why and ends (bench_die in bench.h).
 * Threads: one.
 * Rules:   a machine has moods of minutes and seconds, so a ratio is taken within each round, of two runs a few
 *	    milliseconds apart, and the median of those ratios is the result; who goes first changes from round to round. */
#ifndef UMBRA_TESTS_BENCH_MEASURE_H
#define UMBRA_TESTS_BENCH_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One way. `round` counts from 0; the first one is for warming up and is not counted. */
struct side {
	void (*prepare)(void *arg, unsigned round); /* not timed; may be NULL */
	unsigned (*run)(void *arg, unsigned round); /* timed; returns how many operations it did */
	void (*clean)(void *arg, unsigned round);   /* not timed; may be NULL */
	void *arg;
};

/* A median and its 95 % confidence interval, which is that of the median and assumes no distribution. */
struct estimate {
	double mid, lo, hi;
};

struct measured {
	struct estimate ratio; /* of a over b */
	struct estimate cpu; /* likewise, of the processor time of the caller and of the daemons */
	double a_ns, b_ns;   /* medians, for one operation */
	double a_cpu_ns, b_cpu_ns;
	double plain_ns; /* 0 where there is no such side */
};

/**
 * Time `a` and `b`, and `plain` where it has a run function.
 * @rounds    how many count
 * @idle_ms   how long the daemons must have been quiet before a side is timed, and before its processor time is read;
 *	      0: do not wait
 * @watch     processes that do the work: their processor time counts
 */
void measure_pair(struct side a, struct side b, struct side plain, unsigned rounds,
		  unsigned idle_ms, const int *watch, size_t n_watch, struct measured *ret);

/**
 * Put this process and all threads of the others on one processor, or let them run on all again. A request to a FUSE
 * daemon is a call from one process into another, and its price depends more than on anything else on whether the
 * scheduler happened to put the two on one processor or on two, asleep or awake.
 */
void measure_on_one_cpu(const int *pids, size_t n, bool one);

/* Wait until the processes did next to nothing for so long; at most a few seconds. */
void measure_wait_idle(const int *watch, size_t n_watch, unsigned idle_ms);
/* All the time that processors spent on them so far. */
uint64_t measure_cpu_ns(const int *watch, size_t n_watch);

/* Sorts. */
struct estimate measure_median(double *values, size_t n);
double measure_percentile(double *values, size_t n, double percent);

#endif
