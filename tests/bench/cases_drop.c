/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/bench/cases_drop.c - how long it takes to delete a snapshot among others, until the call returns and until the
 * daemon is done with it. */
#include <stdio.h>

#include "cow/base/cleanup.h"
#include "cow/base/clock.h"
#include "tests/bench/bench.h"
#include "tests/bench/files.h"
#include "tests/bench/report.h"
#include "tests/bench/shots.h"

#define PAGES 2048u /* changed in each snapshot's time: 8 MiB */
#define IDLE_MS 150u

static void change(struct spot *s, unsigned round)
{
	s->count = PAGES;
	files_write_pages(s, round);
}

/* One more snapshot with its changes, so that there are as many as before once one has gone. */
static void grow(struct shots *shots, struct spot *s, unsigned round)
{
	shots_keep(shots, shots->n + 1);
	change(s, round);
}

static void drop(const struct bench *b, const char *id, const char *text, struct shots *shots,
		 struct spot *s, size_t alive, bool middle)
{
	unsigned rounds = b->rounds < 11 ? b->rounds : 11;
	CLEANUP(free_p) double *took = calloc(2 * rounds, sizeof(*took));
	double *cpu = took + rounds;
	int pid = shots_daemon(shots->dir);
	char more[128], text_cpu[32], text_max[32];
	struct estimate mid;

	if (!took)
		bench_die("out of memory");
	while (shots->n + 1 < alive)
		grow(shots, s, (unsigned)shots->n);
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t began, cpu_began;

		grow(shots, s, 200 + i);
		measure_wait_idle(&pid, 1, IDLE_MS);
		cpu_began = measure_cpu_ns(&pid, 1);
		began = clock_mono_ns();
		shots_drop(shots, middle ? shots->n / 2 : 0);
		took[i] = (double)(clock_mono_ns() - began);
		measure_wait_idle(&pid, 1, IDLE_MS);
		cpu[i] = (double)(measure_cpu_ns(&pid, 1) - cpu_began);
	}
	mid = measure_median(took, rounds);
	snprintf(more, sizeof(more), "longest %s; daemon's processor time in all %s",
		 report_text(text_max, sizeof(text_max), took[rounds - 1], UNIT_NS),
		 report_text(text_cpu, sizeof(text_cpu), measure_median(cpu, rounds).mid, UNIT_NS));
	report_value(id, text, 0, mid.mid, UNIT_NS, more);
}

void cases_drop(const struct bench *b)
{
	static const struct {
		const char *id, *text;
		size_t alive;
		bool middle;
	} kinds[] = {
		{ "drop.only", "the only one, 8 MiB preserved", 1, false },
		{ "drop.oldest2", "the oldest of 2", 2, false },
		{ "drop.oldest10", "the oldest of 10", 10, false },
		{ "drop.oldest100", "the oldest of 100", 100, false },
		{ "drop.middle100", "one in the middle of 100", 100, true },
	};
	struct shots shots = { .dir = bench_tree(b, TREE_B) };
	struct spot s = files_spot(shots.dir, "data", NULL, PAGES);

	report_group("Deleting a snapshot", NULL, NULL, NULL);
	files_open(&s, true, false);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (bench_wants(b, kinds[i].id))
			drop(b, kinds[i].id, kinds[i].text, &shots, &s, kinds[i].alive,
			     kinds[i].middle);
	files_close(&s);
	shots_keep(&shots, 0);
}
