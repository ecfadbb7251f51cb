/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/bench/cases_view.c - looking things up and reading in a snapshot, over the same in the live tree. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/files.h"
#include "tests/bench/report.h"
#include "tests/bench/shots.h"

#define BUDGET 1.2
#define LATER 99u /* snapshots taken after the one that is read, for the last cases */
#define IDLE_MS 150u

extern char **environ;

static void run(const char *const *argv)
{
	int status = 0;
	pid_t pid;
	int r = posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)argv, environ);

	if (r != 0 || waitpid(pid, &status, 0) != pid || status != 0)
		bench_die("%s %s did not work", argv[0], argv[1]);
}

static void mount_shot(const struct bench *b, const struct shot *shot)
{
	const char *argv[] = { "umbra",
			       "mount",
			       "-q",
			       "--for",
			       bench_tree(b, TREE_B),
			       shot->label,
			       bench_tree(b, MOUNT),
			       NULL };

	run(argv);
}

static void unmount_shot(const struct bench *b)
{
	const char *argv[] = { "umbra", "umount", "-q", bench_tree(b, MOUNT), NULL };

	run(argv);
}

/* ---- names ---- */

static void names(const struct bench *b, const char *id, const char *text, double budget,
		  const char *snap_dir, const char *snap_set, const char *live_set,
		  unsigned (*op)(void *, unsigned))
{
	struct spot s = files_spot(snap_dir, NULL, snap_set, 0);
	struct spot l = files_spot(bench_tree(b, TREE_B), NULL, live_set, 0);
	bool stat = op == files_stat_names;
	int pid = shots_daemon(l.dir);
	struct measured m;

	if (!bench_wants(b, id))
		return;
	measure_pair((struct side){ stat ? files_enter_names : NULL, op, files_leave_names, &s },
		     (struct side){ stat ? files_enter_names : NULL, op, files_leave_names, &l },
		     (struct side){ 0 }, b->rounds, 0, &pid, 1, &m);
	report_ratio(id, text, budget, &m);
}

/* ---- data ---- */

static void reads(const struct bench *b, const char *id, const char *text, const char *snap_dir,
		  const char *file)
{
	struct spot s = files_spot(snap_dir, file, NULL, 256),
		    l = files_spot(bench_tree(b, TREE_B), file, NULL, 256);
	int pid = shots_daemon(l.dir);
	struct measured m;

	if (!bench_wants(b, id))
		return;
	files_open(&s, false, true);
	files_open(&l, false, true);
	measure_pair((struct side){ files_forget_pages, files_read_runs, NULL, &s },
		     (struct side){ files_forget_pages, files_read_runs, NULL, &l },
		     (struct side){ 0 }, b->rounds, 0, &pid, 1, &m);
	report_ratio(id, text, BUDGET, &m);
	files_close(&s);
	files_close(&l);
}

/* While the snapshot lives all of data2 is written anew, as programs save a file; all of data3 page by page, as a database
 * might in the end; and all names of the set "gone" are removed. */
static void change_all(const struct bench *b)
{
	const char *tree = bench_tree(b, TREE_B);
	struct spot saved = files_spot(tree, "data2", NULL, 0);
	struct spot pages = files_spot(tree, "data3", NULL, FILES_PAGES);
	struct spot gone = files_spot(tree, NULL, "gone", 0);
	int pid = shots_daemon(tree);

	files_open(&saved, true, false);
	files_write_mib(&saved, 1);
	files_close(&saved);
	files_open(&pages, true, false);
	files_write_pages(&pages, 1);
	files_close(&pages);
	for (unsigned i = 0; i <= b->rounds; i++)
		files_remove_names(&gone, i);
	measure_wait_idle(&pid, 1, IDLE_MS);
}

/* LATER more snapshots, each with changes of its own to data2, which the one that is read does not see. */
static void other_changes(const struct bench *b, struct shots *shots)
{
	struct spot data = files_spot(bench_tree(b, TREE_B), "data2", NULL, 64);
	int pid = shots_daemon(bench_tree(b, TREE_B));

	files_open(&data, true, false);
	for (unsigned i = 0; i < LATER; i++) {
		shots_keep(shots, shots->n + 1);
		files_write_pages(&data, 1000 + i);
	}
	files_close(&data);
	measure_wait_idle(&pid, 1, IDLE_MS);
}

void cases_view(const struct bench *b)
{
	struct shots shots = { .dir = bench_tree(b, TREE_B) };
	char dir[PATH_MAX];

	report_group("In a snapshot, over the live tree", "snapshot", "live", NULL);
	shots_keep(&shots, 1);
	snprintf(dir, sizeof(dir), "%s", shots_path(shots.dir, &shots.list[0]));
	names(b, "view.look", "look up a name, unchanged", BUDGET, dir, "look", "look",
	      files_stat_names);
	names(b, "view.list", "list 200 names, unchanged, first time", 0, dir, "list", "list",
	      files_list);
	reads(b, "view.read", "read 128 KiB, unchanged", dir, "data");
	change_all(b);
	names(b, "view.look-gone", "look up a name, removed meanwhile", BUDGET, dir, "gone",
	      "look2", files_stat_names);
	reads(b, "view.read-saved", "read 128 KiB, of a file written anew", dir, "data2");
	reads(b, "view.read-pages", "read 128 KiB, every page changed by itself", dir, "data3");
	mount_shot(b, &shots.list[0]);
	names(b, "view.mount-look", "umbra mount: look up a name, unchanged", BUDGET,
	      bench_tree(b, MOUNT), "list2", "list2", files_stat_names);
	reads(b, "view.mount-read", "umbra mount: read 128 KiB, unchanged", bench_tree(b, MOUNT),
	      "data");
	reads(b, "view.mount-read-saved", "umbra mount: the same, file written anew",
	      bench_tree(b, MOUNT), "data2");
	unmount_shot(b);
	if (bench_wants(b, "view.old")) {
		other_changes(b, &shots);
		reads(b, "view.old-read", "oldest of 100: read 128 KiB, unchanged", dir, "data");
		reads(b, "view.old-read-saved", "oldest of 100: the same, file written anew", dir,
		      "data2");
	}
	shots_keep(&shots, 0);
}
