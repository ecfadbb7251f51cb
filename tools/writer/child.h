/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tools/writer/child.h - a program that is run for an event.
 * Job:     start it in a process group of its own, read what it says line by line, wait no longer than
 *          the limit, kill the whole group then.
 * Errors:  0 or -errno.
 * Threads: one; needs the signals of common.h (writer_getopt() was called).
 * Rules:   what the program leaves running in the background is not waited for; its descriptors must
 *          then be redirected, since ours are closed when the program itself has ended. */
#ifndef UMBRA_TOOLS_WRITER_CHILD_H
#define UMBRA_TOOLS_WRITER_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tools/writer/common.h"

#define CHILD_LINE 512

struct child_lines {
	int fd;
	size_t used;
	char text[CHILD_LINE]; /* longer lines are cut */
};

struct child {
	/* Filled in by the caller; the rest zero. Borrowed until child_start() returns, but line. */
	char *const *argv; /* argv[0] is looked for in PATH when it has no slash */
	char *const *env;  /* NULL: ours */
	const char *input; /* its standard input, then end of file; NULL: empty */
	bool keep_open;	   /* its standard input is a pipe that stays open: child_close_input() */
	/* Each line it prints, without the newline. NULL: it is logged with the program's name. */
	void (*line)(struct child *c, bool is_error, const char *text);
	void *data;

	pid_t pid; /* also its process group; 0: none */
	int in;	   /* the pipe of keep_open, or -1 */
	struct child_lines out, err;
	char name[64];
	bool ended;
	int status;	       /* once ended: 0 to 255, or 128 + the signal */
	char last[CHILD_LINE]; /* the last line that it wrote to standard error, "" for none */
};

/** Returns 0; -ENOENT, -EACCES ...: it could not be run. Then there is nothing to be released. */
int child_start(struct child *c);
/** Serve it once: wait for output or its end. With @stoppable also for a signal to stop.
 *  Returns 1 ended, 0 go on, -ETIMEDOUT, -EINTR told to stop. */
int child_step(struct child *c, uint64_t deadline_ns, bool stoppable);
/** Whether it has ended; does not wait. */
bool child_ended(struct child *c);
void child_close_input(struct child *c);
/** Kill the process group if it still runs, wait for the program, release everything. Any state. */
void child_done(struct child *c);

/**
 * All of it: start, wait, release.
 * @limit_ms   then it is killed
 * @stoppable  a signal to stop kills it, too
 * Returns its exit status, 128 + n after signal n; -ETIMEDOUT, -EINTR killed; -errno not started.
 * c->last and c->status stay readable.
 */
int child_run(struct child *c, int limit_ms, bool stoppable);

/** "exit status 3: MESSAGE", "killed after 54 s" ...: what child_run() returned, for people. */
const char *child_why(const struct child *c, int r, char *buf, size_t size);
/** The same as a failure code: 75 (EX_TEMPFAIL) is retryable, a limit is timeout. */
enum umbra_writer_code child_code(int r);

/**
 * The environment of a program run for an event: ours, UMBRA_EVENT, UMBRA_SESSION, UMBRA_SET, and
 * UMBRA_TREE_1 ... (UMBRA_TREES says how many) with UMBRA_SNAPSHOT_ID_1 ... in prepare-for-snapshot
 * and post-snapshot; what is not known is absent. Without NOTIFY_SOCKET. NULL without memory; strv_free() it.
 */
char **child_env(struct umbra_writer *w, const struct umbra_writer_event *e);
void strv_free(char **v);
DEFINE_CLEANUP(strv_free_p, char **, strv_free)

#endif
