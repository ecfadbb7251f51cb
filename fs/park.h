/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/park.h - requests that wait for the gate without occupying a server thread.
 * Job:     a queue, threads that take it up in order once woken, and the end of those whose caller died (H-5).
 *	    Knows neither FUSE nor the gate: three callbacks do.
 * Threads: any. One lock, rank LEAF, never held over run and drop. */
#ifndef UMBRA_FS_PARK_H
#define UMBRA_FS_PARK_H

#include <stdbool.h>

struct fs_park;

/* Embedded in what is parked; zero it before the first use. */
struct fs_parked {
	struct fs_parked *next;
	bool interrupted; /* guarded by the park's lock */
};

struct fs_park_ops {
	/* Do it and be done with it (true), or find the gate closed again (false: it is put back in front). */
	bool (*run)(struct fs_parked *p);
	/* Is the caller of this interrupted request being killed? Called with the park's lock held: must only look. */
	bool (*killed)(const struct fs_parked *p);
	/* End it unexecuted. */
	void (*drop)(struct fs_parked *p);
};

/* `threads` workers are started. NULL: out of memory or threads. */
struct fs_park *fs_park_new(unsigned threads, const struct fs_park_ops *ops);
/* End the threads and drop what is parked; later additions are dropped at once. Waking stays harmless. */
void fs_park_stop(struct fs_park *park);
void fs_park_free(struct fs_park *park);

/* Queue it; from here on it belongs to the park until run or drop got it. */
void fs_park_add(struct fs_park *park, struct fs_parked *p);
/* The gate opened: take the queue up. Does not wait. */
void fs_park_wake(struct fs_park *park);
/* A signal came for the caller: if it kills him, the request is dropped, at once or as soon as that shows.
 * `p` may be queued or not yet, but must be alive. */
void fs_park_interrupt(struct fs_park *park, struct fs_parked *p);

#endif
