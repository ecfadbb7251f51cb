/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/bench/cases_passthrough.c - a protected directory without snapshots, over the plain passthrough of libfuse. */
#include <stdio.h>

#include "tests/bench/bench.h"
#include "tests/bench/files.h"
#include "tests/bench/report.h"
#include "tests/bench/shots.h"

#define BUDGET 1.0

struct kind {
	const char *id, *text, *file, *names;
	unsigned count;
	struct side ops; /* arg is filled in */
	bool writable, random, keep_plain_pages;
};

static const struct kind kinds[] = {
	{ .id = "write4k",
	  .text = "write 4 KiB, random",
	  .file = "data",
	  .count = 4096,
	  .writable = true,
	  .ops = { .run = files_write_pages } },
	{ .id = "read4k",
	  .text = "read 4 KiB, random, uncached",
	  .file = "data",
	  .count = 2048,
	  .random = true,
	  .keep_plain_pages = true,
	  .ops = { .prepare = files_forget_pages, .run = files_read_pages } },
	{ .id = "write1m",
	  .text = "write 1 MiB, sequential",
	  .file = "data",
	  .writable = true,
	  .ops = { .run = files_write_mib } },
	{ .id = "read1m",
	  .text = "read 1 MiB, sequential, uncached",
	  .file = "data",
	  .keep_plain_pages = true,
	  .ops = { .prepare = files_forget_pages, .run = files_read_mib } },
	{ .id = "create",
	  .text = "create and unlink",
	  .count = 300,
	  .ops = { .run = files_create_unlink } },
	{ .id = "small",
	  .text = "create, write 16 KiB, close, unlink",
	  .count = 300,
	  .ops = { .run = files_small_file } },
	{ .id = "mkdir",
	  .text = "mkdir and rmdir",
	  .count = 300,
	  .ops = { .run = files_mkdir_rmdir } },
	{ .id = "rename",
	  .text = "rename",
	  .file = "data2",
	  .count = 1000,
	  .ops = { .run = files_rename } },
	{ .id = "stat",
	  .text = "stat of files not seen before",
	  .names = "look",
	  .ops = { .prepare = files_enter_names,
		   .run = files_stat_names,
		   .clean = files_remove_names } },
	{ .id = "getattr",
	  .text = "statx that asks the file system",
	  .file = "data",
	  .count = 2000,
	  .ops = { .run = files_getattr } },
	{ .id = "chmod",
	  .text = "chmod",
	  .file = "data",
	  .count = 1000,
	  .ops = { .run = files_chmod } },
	{ .id = "truncate", .text = "truncate", .count = 1000, .ops = { .run = files_truncate } },
	{ .id = "open",
	  .text = "open and close",
	  .file = "data",
	  .count = 1000,
	  .ops = { .run = files_open_close } },
	{ .id = "readdir",
	  .text = "list 200 names, first time",
	  .names = "list",
	  .ops = { .run = files_list, .clean = files_remove_names } },
	{ .id = "readdir2",
	  .text = "list 200 names, again",
	  .count = 30,
	  .ops = { .run = files_list_again } },
};

static struct side side_of(const struct kind *k, struct spot *s, const char *dir)
{
	struct side ops = k->ops;

	*s = files_spot(dir, k->file, k->names, k->count);
	if (k->file)
		files_open(s, k->writable, k->random);
	ops.arg = s;
	return ops;
}

static void compare(const struct bench *b, const struct kind *k, const char *id, const int *watch)
{
	struct spot umbra, through, plain;
	struct side a = side_of(k, &umbra, bench_tree(b, TREE_A));
	struct side t = side_of(k, &through, bench_tree(b, THROUGH));
	struct side p = side_of(k, &plain, bench_tree(b, PLAIN_DIR));
	struct measured m;

	/* Its pages are those of the disk: the others would have to read them again too, but they do not. */
	if (k->keep_plain_pages)
		p.prepare = NULL;
	measure_pair(a, t, p, b->rounds, 0, watch, 2, &m);
	report_ratio(id, k->text, BUDGET, &m);
	files_close(&umbra);
	files_close(&through);
	files_close(&plain);
}

void cases_passthrough(const struct bench *b)
{
	int watch[2] = { shots_daemon(bench_tree(b, TREE_A)), b->passthrough_pid };

	if (!b->passthrough_pid) {
		report_skip("passthrough",
			    "libfuse's example passthrough_ll is not here, or does not compile");
		return;
	}
	report_group("No snapshot, over the plain passthrough", "umbra", "through", "no FUSE");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		char id[64];

		snprintf(id, sizeof(id), "passthrough.%s", kinds[i].id);
		if (bench_wants(b, id))
			compare(b, &kinds[i], id, watch);
	}
}
