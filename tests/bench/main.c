/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/bench/main.c - umbra-bench: arguments, the list of groups. tools/bench runs it. */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/bench.h"
#include "tests/bench/report.h"
#include "tests/bench/shots.h"

static const char *const tree_names[TREES] = {
	"plain", "below", "through", "a", "b", "h1", "h2", "h3", "h4", "many", "mnt",
};

void bench_die(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("umbra-bench: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

long bench_check(long r, const char *what, const char *name)
{
	if (r < 0)
		bench_die("%s %s: %s", what, name, strerror(errno));
	return r;
}

const char *bench_tree(const struct bench *b, enum bench_tree tree)
{
	static char *paths[TREES];

	if (!paths[tree] && asprintf(&paths[tree], "%s/%s", b->dir, tree_names[tree]) < 0)
		bench_die("out of memory");
	return paths[tree];
}

/* Does --only name this, a group that this belongs to, or something in this group? */
bool bench_wants(const struct bench *b, const char *id)
{
	size_t n = b->only ? strlen(b->only) : 0, m = strlen(id);

	return strncmp(id, b->only ? b->only : "", n < m ? n : m) == 0 &&
	       (n <= m || b->only[m] == '.');
}

static void usage(FILE *to)
{
	fputs("usage: umbra-bench [OPTION]... DIR     run by tools/bench, which sets DIR up\n"
	      "       umbra-bench --fill [--rounds N] DIR\n"
	      "       umbra-bench --fill-many N DIR\n"
	      "  --only NAME               one group, or one case of it\n"
	      "  --rounds N                how often each comparison is made\n"
	      "  --sets N                  how many snapshot sets are taken under load\n"
	      "  --passthrough PID         process of the passthrough; 0: there is none\n"
	      "  --coordinator-log FILE    where the coordinator writes how long it held\n"
	      "  --spread                  let the scheduler choose processors\n"
	      "  --json                    no table\n",
	      to);
}

static unsigned number(const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end || end == text || n > 100000000)
		bench_die("%s is no number", text);
	return (unsigned)n;
}

static void run(const struct bench *b)
{
	static const struct {
		const char *name;
		void (*run)(const struct bench *b);
		bool one_cpu;
	} groups[] = {
		{ "passthrough", cases_passthrough, true },
		{ "change", cases_change, true },
		{ "view", cases_view, true },
		{ "remove", cases_remove, true },
		{ "drop", cases_drop, false },
		{ "hold", cases_hold, false },
		{ "memory", cases_memory, false },
	};
	int pids[3] = { shots_daemon(bench_tree(b, TREE_A)), shots_daemon(bench_tree(b, TREE_B)),
			b->passthrough_pid };
	unsigned ran = 0;

	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		if (bench_wants(b, groups[i].name)) {
			measure_on_one_cpu(pids, b->passthrough_pid ? 3 : 2,
					   groups[i].one_cpu && !b->spread);
			groups[i].run(b);
			ran++;
		}
	}
	if (!ran)
		bench_die("there is no group of cases named %s", b->only);
}

int main(int argc, char **argv)
{
	enum {
		FILL = 256,
		VIEWS,
		FILL_MANY,
		ONLY,
		ROUNDS,
		SETS,
		PASSTHROUGH,
		LOG,
		SPREAD,
		JSON,
		HELP
	};
	static const struct option options[] = {
		{ "views", 0, NULL, VIEWS },
		{ "fill", 0, NULL, FILL },
		{ "fill-many", 1, NULL, FILL_MANY },
		{ "only", 1, NULL, ONLY },
		{ "rounds", 1, NULL, ROUNDS },
		{ "sets", 1, NULL, SETS },
		{ "passthrough", 1, NULL, PASSTHROUGH },
		{ "coordinator-log", 1, NULL, LOG },
		{ "json", 0, NULL, JSON },
		{ "spread", 0, NULL, SPREAD },
		{ "help", 0, NULL, HELP },
		{ 0 },
	};
	struct bench b = { .rounds = 21, .sets = 300 };
	unsigned fill_files = 0;
	bool fill = false, for_views = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case FILL:
			fill = true;
			break;
		case VIEWS:
			for_views = true;
			break;
		case FILL_MANY:
			fill_files = number(optarg);
			break;
		case ONLY:
			b.only = optarg;
			break;
		case ROUNDS:
			b.rounds = number(optarg);
			break;
		case SETS:
			b.sets = number(optarg);
			break;
		case PASSTHROUGH:
			b.passthrough_pid = (int)number(optarg);
			break;
		case LOG:
			b.coordinator_log = optarg;
			break;
		case SPREAD:
			b.spread = true;
			break;
		case JSON:
			b.json = true;
			break;
		case HELP:
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (optind != argc - 1 || (b.rounds < 1 && !fill)) {
		usage(stderr);
		return 2;
	}
	b.dir = argv[optind];
	if (fill)
		fill_tree(b.dir, b.rounds, for_views);
	else if (fill_files)
		fill_many(b.dir, fill_files);
	if (fill || fill_files)
		return 0;
	report_begin(b.json);
	run(&b);
	report_end();
	return 0;
}
