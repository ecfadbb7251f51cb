/* cow/base/lock.h - mutexes with ranks: taken in one order only, so they cannot deadlock.
 * Job:     the order of all locks of a process, and wrappers that check it.
 * Errors:  none. A broken rule is a bug: builds without NDEBUG say which and abort.
 * Threads: any. What a thread holds is remembered per thread: whoever takes, gives back.
 * Rules:   a thread takes a lock only if its rank is greater than that of every lock it holds.
 *          Hold none over fuse_reply_*, fuse_lowlevel_notify_* or a wait for a socket; only the gate
 *          may be held while waiting for somebody else, since it ends by itself (I-6). */

#ifndef UMBRA_COW_BASE_LOCK_H
#define UMBRA_COW_BASE_LOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/** Outermost first. Add ranks where they belong; only the order counts, no number is stored. */
enum lock_rank {
	RANK_NONE,	 /* not a rank: an ulock that nobody initialised */
	RANK_SESSION,	 /* one connection, one snapshot set */
	RANK_GATE,	/* the gate, held shared or exclusively (see rank_enter) */
	RANK_TREE,	/* the shape of the live tree: rename against look-up */
	RANK_INODE,	/* one inode: its data, attributes, preserved state */
	RANK_LOC,	/* where moved inodes live */
	RANK_NODES,	/* the table of node ids */
	RANK_HANDLES,	/* the table of open files */
	RANK_EPOCHS,	/* the list of live epochs */
	RANK_INDEX,	/* an LMDB write transaction is a lock (see rank_enter) */
	RANK_LOG,	 /* the end of the data log */
	RANK_SPACE,	 /* sums of used and free bytes */
	RANK_CACHE,	 /* caches that call nobody */
	RANK_GATE_INNER, /* the gate's own queue and counters: never held while calling out */
	RANK_LEAF,	 /* anything that calls nobody while held */
	RANK_COUNT
};

struct ulock {
	pthread_mutex_t mutex;
	enum lock_rank rank;
	atomic_uintptr_t holder; /* relaxed: orders nothing; for ulock_assert_held() alone */
};

#define ULOCK_INIT(r)                                                                              \
	{                                                                                          \
		.mutex = PTHREAD_MUTEX_INITIALIZER, .rank = (r)                                    \
	}

void ulock_init(struct ulock *l, enum lock_rank rank);
void ulock_done(struct ulock *l);

/** Wait for the lock. Aborts when this thread holds a lock of the same or a greater rank. */
void ulock_lock(struct ulock *l);

/** The same, but equal ranks are allowed: two inodes of one rename. The caller orders them, for
 *  instance by inode number. */
void ulock_lock_same(struct ulock *l);

/** Take the lock if nobody has it; true if taken. Does not wait, so any order is allowed. */
bool ulock_trylock(struct ulock *l);
void ulock_unlock(struct ulock *l);

/** Abort unless this thread holds l (no check with NDEBUG). */
void ulock_assert_held(const struct ulock *l);

/** A condition whose time limits are of CLOCK_MONOTONIC, as clock_mono_ns() counts. */
void ulock_cond_init(pthread_cond_t *cond);

/** Wait with l held; it must be the only lock of its rank or a greater one that is held. */
void ulock_wait(struct ulock *l, pthread_cond_t *cond);

/** The same until deadline_ns of clock_mono_ns(), UINT64_MAX for ever: 0 or -ETIMEDOUT; may wake
 *  for no reason. l is held again in either case. */
int ulock_wait_until(struct ulock *l, pthread_cond_t *cond, uint64_t deadline_ns);

/** By scope: CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&st->lock); */
static inline struct ulock *ulock_hold(struct ulock *l)
{
	ulock_lock(l);
	return l;
}

static inline void ulock_unlock_p(struct ulock **l)
{
	if (*l)
		ulock_unlock(*l);
}

/** For what is a lock without being a mutex (the gate, an LMDB write transaction): check the order
 *  before waiting for it, and remember it; rank_leave() when it is given back. rank_enter_same()
 *  allows an equal rank. */
void rank_enter(enum lock_rank rank);
void rank_enter_same(enum lock_rank rank);
void rank_leave(enum lock_rank rank);

/** Whether this thread holds anything of that rank. Always true with NDEBUG: only to be asserted. */
bool rank_held(enum lock_rank rank);

/** Abort if this thread holds any lock of rank or a greater one: before replies and long waits
 *  (rank_assert_free(RANK_NONE + 1) means none at all). */
void rank_assert_free(enum lock_rank rank);

#endif
