/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/bench/files.h - what programs do with files, many times over, in the form that measure.h times.
 * Job:     one operation per function; `arg` is a struct spot.
 * Errors:  end the program (bench.h).
 * Threads: one at a time for one spot. */
#ifndef UMBRA_TESTS_BENCH_FILES_H
#define UMBRA_TESTS_BENCH_FILES_H

#include <limits.h>

#include "tests/bench/measure.h"

#define FILES_PAGE 4096u
#define FILES_MIB (1024u * 1024u)
#define FILES_DATA (32u * FILES_MIB)	      /* size of each large file */
#define FILES_PAGES (FILES_DATA / FILES_PAGE) /* a power of two */
#define FILES_READ (128u * 1024u)
#define FILES_NAMES 200u /* in each directory of names */

/* Where something is done. */
struct spot {
	char dir[PATH_MAX];
	const char *file;  /* large file to read or write, in dir */
	const char *names; /* directory with one directory of names for each round, in dir */
	unsigned count;	   /* operations in one round */
	int fd;		   /* files_open's; -1 */
	int dir_fd;	   /* of the round's directory of names; -1 */
};

struct spot files_spot(const char *dir, const char *file, const char *names, unsigned count);
/* Open spot->file; random: reads come one by one, as they are asked for. */
void files_open(struct spot *s, bool writable, bool random);
void files_close(struct spot *s);

/* prepare: the kernel forgets the file's pages, so that reads reach the daemon. */
void files_forget_pages(void *spot, unsigned round);

/* run: distinct pages in an order without sense, the same for the same round. */
unsigned files_write_pages(void *spot, unsigned round);
unsigned files_read_pages(void *spot, unsigned round);
/* run: 128 KiB, likewise. */
unsigned files_read_runs(void *spot, unsigned round);
/* run: 1 MiB after another, from the beginning. */
unsigned files_write_mib(void *spot, unsigned round);
unsigned files_read_mib(void *spot, unsigned round);

/* prepare: enter the round's directory of names, which nobody has looked into yet. */
void files_enter_names(void *spot, unsigned round);
unsigned files_stat_names(void *spot, unsigned round);
unsigned files_list(void *spot, unsigned round);     /* one listing of that directory */
void files_remove_names(void *spot, unsigned round); /* clean */
void files_leave_names(void *spot, unsigned round);  /* clean, without removing */

/* run, on dir/file or in dir/"work" */
unsigned files_open_close(void *spot, unsigned round);
unsigned files_getattr(void *spot, unsigned round);
unsigned files_chmod(void *spot, unsigned round);
unsigned files_truncate(void *spot, unsigned round);
unsigned files_create_unlink(void *spot, unsigned round);
unsigned files_small_file(void *spot, unsigned round); /* create, write 16 KiB, close, unlink */
unsigned files_mkdir_rmdir(void *spot, unsigned round);
unsigned files_rename(void *spot, unsigned round);
unsigned files_list_again(void *spot, unsigned round);

/* Names "SET-0" ... in dir/"work", 16 KiB each. */
void files_make(const struct spot *s, const char *set);
unsigned files_unlink_set(const struct spot *s, const char *set);
unsigned files_rename_set(const struct spot *s, const char *from, const char *to);
unsigned files_chmod_set(const struct spot *s, const char *set, unsigned mode);
void files_unlink_leftovers(const struct spot *s, const char *set);

#endif
