/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/loop.h - the request loop of one session, and ending it from outside.
 * Job:     run the server threads of libfuse until the mount is gone or somebody says stop.
 * Threads: run by one thread, stop by another. */
#ifndef UMBRA_FS_LOOP_H
#define UMBRA_FS_LOOP_H

#include "fs/fs.h"

struct fs_loop {
	struct fuse_session *se;
	pthread_t thread;  /* that runs it */
	_Atomic int state; /* 0 not yet, 1 running, 2 over */
	_Atomic bool stop;
};

/* Once, before threads: the signal that interrupts a loop's wait. */
void fs_loop_start_up(void);
/* Serve until unmounted or stopped. Returns 0 or -errno. */
int fs_loop_run(struct fs_loop *l);
/* Make a running loop end, and wait until it has. Requests under way are finished. */
void fs_loop_stop(struct fs_loop *l);

#endif
