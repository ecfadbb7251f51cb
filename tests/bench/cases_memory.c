/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/bench/cases_memory.c - what one umbrafs has in memory. */
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cow/base/cleanup.h"
#include "tests/bench/bench.h"
#include "tests/bench/files.h"
#include "tests/bench/report.h"
#include "tests/bench/shots.h"

#define BUDGET (64.0 * 1024 * 1024)
#define SNAPSHOTS 100u
#define CHANGES 400u /* files changed in each snapshot's time */
#define IDLE_MS 300u

/* In bytes; a line of /proc/PID/status (proc(5)) is in KiB. */
static double status_of(int pid, const char *key)
{
	char path[64], line[256];
	CLEANUP(fclose_p) FILE *f = NULL;
	double kib = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	if (!f)
		bench_die("%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, key, strlen(key)) == 0 &&
		    sscanf(line + strlen(key), ": %lf", &kib) == 1)
			return kib * 1024;
	bench_die("%s has no %s", path, key);
}

static void report(const char *id, const char *text, int pid)
{
	char more[160], anon[32], peak[32];

	measure_wait_idle(&pid, 1, IDLE_MS);
	snprintf(more, sizeof(more), "of it %s its own (RssAnon), the rest files; most so far %s",
		 report_text(anon, sizeof(anon), status_of(pid, "RssAnon"), UNIT_BYTES),
		 report_text(peak, sizeof(peak), status_of(pid, "VmHWM"), UNIT_BYTES));
	report_value(id, text, BUDGET, status_of(pid, "VmRSS"), UNIT_BYTES, more);
}

static unsigned long seen;

static int see(const char *path, const struct stat *st, int type, struct FTW *at)
{
	if (type == FTW_F)
		seen++;
	return 0;
}

static void walk(const char *dir)
{
	seen = 0;
	bench_check(nftw(dir, see, 20, FTW_PHYS), "walk", dir);
}

/* Files d0/I ..., of those that fill_many made. */
static void change(const char *dir, unsigned from)
{
	char path[PATH_MAX];

	for (unsigned i = from; i < from + CHANGES; i++) {
		snprintf(path, sizeof(path), "%s/d%u/%u", dir, i / 500, i % 500);
		bench_check(chmod(path, 0600 | (i & 077)), "chmod", path);
	}
}

void cases_memory(const struct bench *b)
{
	const char *dir = bench_tree(b, TREE_MANY);
	int pid = shots_daemon(dir);
	struct shots shots = { .dir = dir };
	char text[64];

	report_group("Memory of umbrafs", NULL, NULL, NULL);
	report("memory.start", "at the start", pid);
	walk(dir);
	snprintf(text, sizeof(text), "after a walk of %lu files", seen);
	report("memory.walk", text, pid);
	walk(dir);
	report("memory.walk2", "after a second walk", pid);
	for (unsigned i = 0; i < SNAPSHOTS; i++) {
		shots_keep(&shots, i + 1);
		change(dir, i * CHANGES % 40000);
	}
	report("memory.snapshots", "after 100 snapshots, 400 changes each", pid);
	walk(shots_path(dir, &shots.list[0]));
	report("memory.view", "after a walk of the oldest snapshot", pid);
	shots_keep(&shots, 0);
	report("memory.end", "after all are deleted", pid);
}
