/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/bench/shots.h - snapshots as a requester takes them, through the client library.
 * Job:     take and delete sets; keep so many alive; which process serves a tree.
 * Errors:  end the program (bench.h).
 * Threads: one. */
#ifndef UMBRA_TESTS_BENCH_SHOTS_H
#define UMBRA_TESTS_BENCH_SHOTS_H

#include <stddef.h>
#include <stdint.h>

#define SHOTS_TREES_MAX 8
#define SHOTS_ALIVE_MAX 128

struct umbra_client;

/* One set just taken. */
struct shot {
	struct umbra_client
		*client; /* of its session; NULL: it is persistent, and the session is over */
	char set_id[40];
	char ids[SHOTS_TREES_MAX][40];
	char label[32];
	uint64_t began_ns, ended_ns; /* DoSnapshotSet and the wait for it */
};

/* Persistent, without writers. */
void shots_take(const char *const *dirs, size_t n, struct shot *ret);
/* One that ends with its session: what backup programs take. */
void shots_take_volatile(const char *const *dirs, size_t n, struct shot *ret);
void shots_end(struct shot *s); /* of a volatile one */
void shots_delete(const char *id);

/* Several alive in one tree, oldest first. */
struct shots {
	const char *dir;
	size_t n;
	struct shot list[SHOTS_ALIVE_MAX];
};

void shots_keep(struct shots *s, size_t n); /* so many from now on */
void shots_turn(struct shots *s);	    /* a new one, then the oldest goes: as many as before */
void shots_drop(struct shots *s, size_t i);

/* DIR/.snapshots/LABEL, in a static buffer */
const char *shots_path(const char *dir, const struct shot *shot);
int shots_daemon(const char *dir);
/* How long the coordinator says that it held for a set, from its log; 0: it does not say. */
uint64_t shots_held_ns(const char *log, const char *set_id);

#endif
