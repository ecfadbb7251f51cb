/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/bench/bench.h - what the benchmark's parts share.
 * Job:     where everything is, how long to measure, how to end.
 * Errors:  whatever goes wrong ends the program with a message; tools/bench then takes everything down.
 * Threads: one, but for the writers of cases_hold.c.
 *
 * The stage, set up by tools/bench in one directory:
 *	plain		a directory, for orientation
 *	below, through	a directory, and libfuse's passthrough_ll over it: the baseline
 *	a		protected, never a snapshot
 *	b		protected, with snapshots
 *	h1 ... h4	protected, for sets
 *	many		protected, full of files; only where memory is measured
 *	mnt		where snapshots are mounted */
#ifndef UMBRA_TESTS_BENCH_BENCH_H
#define UMBRA_TESTS_BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>

#include "tests/bench/measure.h"

enum bench_tree {
	PLAIN_DIR,
	BELOW,
	THROUGH,
	TREE_A,
	TREE_B,
	TREE_H1,
	TREE_H2,
	TREE_H3,
	TREE_H4,
	TREE_MANY,
	MOUNT,
	TREES
};

struct bench {
	const char *dir;
	const char *only;	     /* group or case, or its beginning; NULL: all */
	const char *coordinator_log; /* NULL: none */
	int passthrough_pid;	     /* 0: there is no passthrough */
	unsigned rounds;
	unsigned sets; /* snapshot sets to take under load */
	bool spread;   /* do not put what is timed on one processor */
	bool json;
};

void __attribute__((noreturn, format(printf, 1, 2))) bench_die(const char *fmt, ...);
/* "what: the error", unless r is what a call that went well returns. */
long bench_check(long r, const char *what, const char *name);

/* Path of a tree of the stage; lives as long as the program. */
const char *bench_tree(const struct bench *b, enum bench_tree tree);
bool bench_wants(const struct bench *b, const char *id);

/* Make what the cases find in a tree; before anything is mounted over it. */
void fill_tree(const char *dir, unsigned rounds,
	       bool for_views); /* rounds 0: no directories of names */
void fill_many(const char *dir, unsigned files);

/* The groups. */
void cases_passthrough(const struct bench *b);
void cases_change(const struct bench *b);
void cases_view(const struct bench *b);
void cases_remove(const struct bench *b);
void cases_drop(const struct bench *b);
void cases_hold(const struct bench *b);
void cases_memory(const struct bench *b);

#endif
