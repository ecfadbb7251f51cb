/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/bench/cases_change.c - what the first and each later change cost while snapshots live, over the same write in a
 * tree that has none. */
#include <stdio.h>

#include "tests/bench/bench.h"
#include "tests/bench/files.h"
#include "tests/bench/report.h"
#include "tests/bench/shots.h"

#define FIRST_BUDGET 1.5
#define LATER_BUDGET 1.02
#define FEW 2048u    /* pages: 8 MiB are preserved in each round */
#define IDLE_MS 150u /* the store writes its index 100 ms behind (cow/index.c) */

struct changing {
	struct spot spot;
	struct shots *shots; /* NULL: the tree without */
	bool later;	     /* what is timed is not the first change */
	unsigned (*write)(void *spot, unsigned round);
};

static void prepare(void *arg, unsigned round)
{
	struct changing *c = arg;

	if (c->shots)
		shots_turn(c->shots);
	if (c->later)
		c->write(&c->spot, round);
}

static unsigned write_again(void *arg, unsigned round)
{
	struct changing *c = arg;

	return c->write(&c->spot, round);
}

struct kind {
	const char *id, *text;
	double budget;
	unsigned alive, count;
	bool later;
	unsigned (*write)(void *spot, unsigned round);
};

static const struct kind kinds[] = {
	{ "control", "control: no snapshot in either", 0, 0, FEW, true, files_write_pages },
	{ "first.1", "first change of 4 KiB, 1 snapshot", FIRST_BUDGET, 1, FEW, false,
	  files_write_pages },
	{ "first.10", "first change of 4 KiB, 10 snapshots", FIRST_BUDGET, 10, FEW, false,
	  files_write_pages },
	{ "first.100", "first change of 4 KiB, 100 snapshots", FIRST_BUDGET, 100, FEW, false,
	  files_write_pages },
	{ "stretch", "first change of 4 KiB, 32 MiB at a stretch", FIRST_BUDGET, 1, FILES_PAGES,
	  false, files_write_pages },
	{ "first1m", "first change, 1 MiB at a time", 0, 1, 0, false, files_write_mib },
	{ "later.1", "later change of 4 KiB, 1 snapshot", LATER_BUDGET, 1, FEW, true,
	  files_write_pages },
	{ "later.10", "later change of 4 KiB, 10 snapshots", LATER_BUDGET, 10, FEW, true,
	  files_write_pages },
	{ "later.100", "later change of 4 KiB, 100 snapshots", LATER_BUDGET, 100, FEW, true,
	  files_write_pages },
};

static struct changing changing_in(const char *dir, const struct kind *k, struct shots *shots)
{
	struct changing c = {
		.spot = files_spot(dir, "data", NULL, k->count),
		.shots = k->alive ? shots : NULL,
		.later = k->later,
		.write = k->write,
	};

	files_open(&c.spot, true, false);
	return c;
}

static void compare(const struct bench *b, const struct kind *k, const char *id,
		    struct shots *shots, const int *watch)
{
	struct changing with = changing_in(bench_tree(b, TREE_B), k, shots);
	struct changing without = changing_in(bench_tree(b, TREE_A), k, NULL);
	struct measured m;

	shots_keep(shots, k->alive);
	measure_pair((struct side){ prepare, write_again, NULL, &with },
		     (struct side){ prepare, write_again, NULL, &without }, (struct side){ 0 },
		     b->rounds, IDLE_MS, watch, 2, &m);
	report_ratio(id, k->text, k->budget, &m);
	files_close(&with.spot);
	files_close(&without.spot);
}

void cases_change(const struct bench *b)
{
	int watch[2] = { shots_daemon(bench_tree(b, TREE_A)), shots_daemon(bench_tree(b, TREE_B)) };
	struct shots shots = { .dir = bench_tree(b, TREE_B) };

	report_group("With snapshots, over the same without one", "with", "without", NULL);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		char id[64];

		snprintf(id, sizeof(id), "change.%s", kinds[i].id);
		if (bench_wants(b, id))
			compare(b, &kinds[i], id, &shots, watch);
	}
	shots_keep(&shots, 0);
}
