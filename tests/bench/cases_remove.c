/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/bench/cases_remove.c - the first change of names and attributes, over the same without a snapshot. */
#include <stdio.h>

#include "tests/bench/bench.h"
#include "tests/bench/files.h"
#include "tests/bench/report.h"
#include "tests/bench/shots.h"

#define COUNT 400u
#define IDLE_MS 150u

struct naming {
	struct spot spot;
	struct shots *shots; /* NULL: the tree without */
};

static void take(struct naming *n)
{
	if (n->shots)
		shots_turn(n->shots);
}

static void make_old(void *arg, unsigned round)
{
	struct naming *n = arg;

	files_make(&n->spot, "old");
	take(n);
}

/* As editors and package managers do: the new one is written after the snapshot. */
static void make_old_and_new(void *arg, unsigned round)
{
	struct naming *n = arg;

	make_old(arg, round);
	files_make(&n->spot, "new");
}

static unsigned unlink_old(void *arg, unsigned round)
{
	return files_unlink_set(&((struct naming *)arg)->spot, "old");
}

static unsigned rename_over(void *arg, unsigned round)
{
	return files_rename_set(&((struct naming *)arg)->spot, "new", "old");
}

static unsigned rename_away(void *arg, unsigned round)
{
	return files_rename_set(&((struct naming *)arg)->spot, "old", "elsewhere");
}

static unsigned chmod_old(void *arg, unsigned round)
{
	return files_chmod_set(&((struct naming *)arg)->spot, "old", 0640);
}

static void only_take(void *arg, unsigned round)
{
	take(arg);
}

static unsigned create(void *arg, unsigned round)
{
	struct naming *n = arg;

	files_make(&n->spot, "old");
	return n->spot.count;
}

static void tidy(void *arg, unsigned round)
{
	struct naming *n = arg;

	files_unlink_leftovers(&n->spot, "old");
	files_unlink_leftovers(&n->spot, "elsewhere");
}

static const struct kind {
	const char *id, *text;
	struct side ops;
} kinds[] = {
	{ "unlink", "unlink a file of 16 KiB", { make_old, unlink_old, tidy, NULL } },
	{ "rename-over",
	  "rename over a file of 16 KiB",
	  { make_old_and_new, rename_over, tidy, NULL } },
	{ "rename", "rename a file", { make_old, rename_away, tidy, NULL } },
	{ "chmod", "chmod a file", { make_old, chmod_old, tidy, NULL } },
	{ "create", "create a file of 16 KiB", { only_take, create, tidy, NULL } },
};

void cases_remove(const struct bench *b)
{
	struct shots shots = { .dir = bench_tree(b, TREE_B) };
	struct naming with = { files_spot(shots.dir, NULL, NULL, COUNT), &shots };
	struct naming without = { files_spot(bench_tree(b, TREE_A), NULL, NULL, COUNT), NULL };
	int watch[2] = { shots_daemon(bench_tree(b, TREE_A)), shots_daemon(bench_tree(b, TREE_B)) };

	report_group("First change of a name, over no snapshot", "with", "without", NULL);
	shots_keep(&shots, 1);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct side a = kinds[i].ops, c = kinds[i].ops;
		struct measured m;
		char id[64];

		snprintf(id, sizeof(id), "remove.%s", kinds[i].id);
		if (!bench_wants(b, id))
			continue;
		a.arg = &with;
		c.arg = &without;
		measure_pair(a, c, (struct side){ 0 }, b->rounds, IDLE_MS, watch, 2, &m);
		report_ratio(id, kinds[i].text, 0, &m);
	}
	shots_keep(&shots, 0);
}
