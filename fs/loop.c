/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/loop.c - the request loop of one session; see loop.h. */
#include "fs/loop.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#define THREADS_MAX 16u /* each keeps memory for the largest request; what is parked needs none */
#define NUDGE SIGUSR1
#define NUDGE_US 20000

static void on_nudge(int sig)
{
}

void fs_loop_start_up(void)
{
	struct sigaction sa = { .sa_handler = on_nudge }; /* no SA_RESTART: it is to interrupt */

	sigemptyset(&sa.sa_mask);
	sigaction(NUDGE, &sa, NULL);
}

int fs_loop_run(struct fs_loop *l)
{
	struct fuse_loop_config *cfg = fuse_loop_cfg_create();
	int r;

	if (!cfg) {
		atomic_store(&l->state, 2);
		return -ENOMEM;
	}
	fuse_loop_cfg_set_clone_fd(cfg, 1);
	fuse_loop_cfg_set_max_threads(cfg, THREADS_MAX);
	/* Never end one for being idle: a thread that has answered and was preempted by the caller counts as busy, so
	 * that with few idle ones allowed they are made and ended all the time, under a single writer even. */
	fuse_loop_cfg_set_idle_threads(cfg, THREADS_MAX);
	l->thread = pthread_self();
	atomic_store(&l->state, 1);
	r = atomic_load(&l->stop) ? 0 : fuse_session_loop_mt(l->se, cfg);
	atomic_store(&l->state, 2);
	fuse_loop_cfg_destroy(cfg);
	return r < 0 ? r : 0;
}

/* libfuse's main thread waits on a semaphore that a signal interrupts, and then looks whether it should end. The
 * signal may come just before the wait, so it is repeated. */
void fs_loop_stop(struct fs_loop *l)
{
	atomic_store(&l->stop, true);
	fuse_session_exit(l->se);
	while (atomic_load(&l->state) != 2) {
		if (atomic_load(&l->state) == 1)
			pthread_kill(l->thread, NUDGE);
		usleep(NUDGE_US);
	}
}
