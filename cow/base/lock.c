#include "cow/base/lock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifndef NDEBUG

static _Thread_local unsigned held[RANK_COUNT]; /* how many of each rank; its address names us */

static void broken(const char *what, enum lock_rank rank, int other)
{
	fprintf(stderr, "lock order: %s: rank %d", what, (int)rank);
	if (other >= 0)
		fprintf(stderr, " while holding rank %d", other);
	fputc('\n', stderr);
	abort();
}

static void check_rises(enum lock_rank rank, bool same_allowed)
{
	if (rank <= RANK_NONE || rank >= RANK_COUNT)
		broken("not a rank (lock not initialised?)", rank, -1);
	for (int r = RANK_COUNT - 1; r >= (int)rank + (same_allowed ? 1 : 0); r--)
		if (held[r])
			broken("taken out of order", rank, r);
}

static void note_taken(enum lock_rank rank)
{
	held[rank]++;
}

static void note_given(enum lock_rank rank)
{
	if (!held[rank])
		broken("given back by a thread that does not hold it", rank, -1);
	held[rank]--;
}

static uintptr_t self(void)
{
	return (uintptr_t)held;
}

bool rank_held(enum lock_rank rank)
{
	return held[rank] > 0;
}

void rank_assert_free(enum lock_rank rank)
{
	for (int r = rank; r < RANK_COUNT; r++)
		if (held[r])
			broken("must hold nothing here", rank, r);
}

void ulock_assert_held(const struct ulock *l)
{
	if (atomic_load_explicit(&l->holder, memory_order_relaxed) != self())
		broken("lock not held", l->rank, -1);
}

#else

static void check_rises(enum lock_rank rank, bool same_allowed)
{
	(void)rank;
	(void)same_allowed;
}

static void note_taken(enum lock_rank rank)
{
	(void)rank;
}

static void note_given(enum lock_rank rank)
{
	(void)rank;
}

static uintptr_t self(void)
{
	return 1;
}

bool rank_held(enum lock_rank rank)
{
	(void)rank;
	return true;
}

void rank_assert_free(enum lock_rank rank)
{
	(void)rank;
}

void ulock_assert_held(const struct ulock *l)
{
	(void)l;
}

#endif

/* pthread calls here fail only for a destroyed or foreign mutex: a bug that must not go on. */
static void must(int error)
{
	if (error) {
		fprintf(stderr, "lock: pthread error %d\n", error);
		abort();
	}
}

static void set_holder(struct ulock *l, uintptr_t who)
{
	atomic_store_explicit(&l->holder, who, memory_order_relaxed);
}

void ulock_init(struct ulock *l, enum lock_rank rank)
{
	must(pthread_mutex_init(&l->mutex, NULL));
	l->rank = rank;
	set_holder(l, 0);
}

void ulock_done(struct ulock *l)
{
	must(pthread_mutex_destroy(&l->mutex));
	l->rank = RANK_NONE;
}

static void lock(struct ulock *l, bool same_allowed)
{
	check_rises(l->rank, same_allowed);
	must(pthread_mutex_lock(&l->mutex));
	note_taken(l->rank);
	set_holder(l, self());
}

void ulock_lock(struct ulock *l)
{
	lock(l, false);
}

void ulock_lock_same(struct ulock *l)
{
	lock(l, true);
}

bool ulock_trylock(struct ulock *l)
{
	int error = pthread_mutex_trylock(&l->mutex);

	if (error == EBUSY)
		return false;
	must(error);
	note_taken(l->rank);
	set_holder(l, self());
	return true;
}

void ulock_unlock(struct ulock *l)
{
	ulock_assert_held(l);
	note_given(l->rank);
	set_holder(l, 0);
	must(pthread_mutex_unlock(&l->mutex));
}

void ulock_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	must(pthread_condattr_init(&attr));
	must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
	must(pthread_cond_init(cond, &attr));
	must(pthread_condattr_destroy(&attr));
}

/* Waiting takes the lock anew, so the order is checked as if it were taken now. */
static void before_wait(struct ulock *l)
{
	ulock_assert_held(l);
	note_given(l->rank);
	check_rises(l->rank, false);
	set_holder(l, 0);
}

static void after_wait(struct ulock *l)
{
	note_taken(l->rank);
	set_holder(l, self());
}

void ulock_wait(struct ulock *l, pthread_cond_t *cond)
{
	before_wait(l);
	must(pthread_cond_wait(cond, &l->mutex));
	after_wait(l);
}

int ulock_wait_until(struct ulock *l, pthread_cond_t *cond, uint64_t deadline_ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(deadline_ns / 1000000000),
		.tv_nsec = (long)(deadline_ns % 1000000000),
	};
	int error;

	if (deadline_ns == UINT64_MAX) {
		ulock_wait(l, cond);
		return 0;
	}
	before_wait(l);
	error = pthread_cond_timedwait(cond, &l->mutex, &ts);
	after_wait(l);
	if (error == ETIMEDOUT)
		return -ETIMEDOUT;
	must(error);
	return 0;
}

void rank_enter(enum lock_rank rank)
{
	check_rises(rank, false);
	note_taken(rank);
}

void rank_enter_same(enum lock_rank rank)
{
	check_rises(rank, true);
	note_taken(rank);
}

void rank_leave(enum lock_rank rank)
{
	note_given(rank);
}
