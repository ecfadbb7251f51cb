/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/turns.h - which of many server threads wait for the next request.
 * Job:     let a few threads wait in the kernel and the others here, so that those that are still in the processor's
 *	    caches serve. The kernel would hand requests to all of them in turn, and each would meet the memory of
 *	    the one that was away the longest: a write of 1 MiB took a quarter longer for it.
 * Errors:  none.
 * Threads: any. A thread may be cancelled inside fs_turns_wait (libfuse does when the session is over); the counts are
 *	    wrong then, and needed by nobody.
 * Rules:   while any thread waits here, one at least reads or is about to: a handler may depend on the next request. */
#ifndef UMBRA_FS_TURNS_H
#define UMBRA_FS_TURNS_H

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fs_turns {
	_Atomic uint32_t
		state; /* both counts, so that they change together; seq_cst. See turns.c */
	unsigned max;  /* as many may read at a time; set once */
	sem_t turn;
};

/* @max  at least 1. Two is the least that lets a thread take a request without calling another. */
void fs_turns_init(struct fs_turns *t, unsigned max);
void fs_turns_done(struct fs_turns *t);

/* Wait until this thread may read a request. */
void fs_turns_wait(struct fs_turns *t);
/* It has read one, or nothing; calls another thread when nobody would be left to read. Keeps errno. */
void fs_turns_end(struct fs_turns *t);
/* It is about to answer, and will be back soon without waiting for anything: whoever takes the next request meanwhile
 * need not call another. Does nothing in a thread that takes no requests, and the second time. */
void fs_turns_back_soon(struct fs_turns *t);

#endif
