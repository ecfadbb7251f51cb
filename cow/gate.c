/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The gate is a count that many enter and leave without meeting, and a flag that one may raise:
 *
 *	OPEN --hold--> CLOSING --all left--> HELD --release--> OPEN
 *			  |			|
 *			  +--not in time--> OPEN  +--deadline--> OPEN, expired: the release is told so
 *
 * The counter is striped, so that two cores do not pass one cache line to and fro. A leaver need not hit the stripe that
 * it entered by: while the flag is up nobody new stays inside, so the sum only falls. */
#include "cow/gate.h"

#include <errno.h>

#include "cow/base/clock.h"
#include "cow/base/log.h"
#include "cow/store_private.h"

static unsigned my_stripe(void)
{
	static atomic_uint next; /* relaxed: any spread will do */
	static _Thread_local unsigned mine;

	if (!mine)
		mine = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed) % GATE_STRIPES + 1;
	return mine - 1;
}

static long count_inside(const struct gate *g)
{
	long sum = 0;

	for (unsigned i = 0; i < GATE_STRIPES; i++)
		sum += atomic_load(&g->inside[i].n);
	return sum;
}

static void count_out(struct gate *g)
{
	atomic_fetch_sub(&g->inside[my_stripe()].n, 1);
	if (!atomic_load(&g->closed))
		return;
	pthread_mutex_lock(&g->lock);
	pthread_cond_broadcast(&g->left);
	pthread_mutex_unlock(&g->lock);
}

bool cow_gate_enter(struct cow_store *st)
{
	struct gate *g = &st->gate;

	atomic_fetch_add(&g->inside[my_stripe()].n, 1);
	if (!atomic_load(&g->closed))
		return true;
	count_out(g);
	return false;
}

void cow_gate_leave(struct cow_store *st)
{
	count_out(&st->gate);
}

bool cow_gate_closing(const struct cow_store *st)
{
	return atomic_load_explicit(&st->gate.closed, memory_order_relaxed);
}

/* Close and wait for everybody inside; lock held. */
static int close_locked(struct gate *g, uint64_t wait_until_ns)
{
	struct timespec ts = clock_to_timespec(wait_until_ns);

	g->state = GATE_CLOSING;
	atomic_store(&g->closed, true);
	while (count_inside(g) > 0) {
		if (pthread_cond_timedwait(&g->left, &g->lock, &ts) == ETIMEDOUT &&
		    count_inside(g) > 0)
			return -ETIMEDOUT;
	}
	return 0;
}

/* lock held on entry, not on return: the callback must be free to take locks. */
static void reopen_unlock(struct cow_store *st, enum gate_state to)
{
	struct gate *g = &st->gate;

	g->state = to;
	g->internal = false;
	atomic_store(&g->closed, false);
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
	if (st->opt.on_gate_open)
		st->opt.on_gate_open(st->opt.userdata);
}

int cow_gate_hold(struct cow_store *st, unsigned wait_ms, unsigned limit_ms)
{
	struct gate *g = &st->gate;
	uint64_t now, limit, patience = clock_deadline_ms(wait_ms);
	struct timespec ts = clock_to_timespec(patience);
	int r;

	if (limit_ms > COW_HOLD_MAX_MS)
		limit_ms = COW_HOLD_MAX_MS; /* T-2 */
	pthread_mutex_lock(&g->lock);
	while (g->internal) { /* our own moment: it ends by itself */
		if (pthread_cond_timedwait(&g->changed, &g->lock, &ts) == ETIMEDOUT && g->internal) {
			pthread_mutex_unlock(&g->lock);
			return -ETIMEDOUT;
		}
	}
	now = clock_mono_ns();
	limit = now + limit_ms * CLOCK_NS_PER_MS;
	if (g->state == GATE_CLOSING || g->state == GATE_HELD) {
		pthread_mutex_unlock(&g->lock);
		return -EBUSY;
	}
	g->deadline_ns = limit;
	g->expired = false;
	r = close_locked(g, patience < limit ? patience : limit);
	if (r < 0) {
		reopen_unlock(st, GATE_OPEN);
		return r;
	}
	g->state = GATE_HELD;
	pthread_cond_broadcast(&g->changed); /* the timer takes over */
	pthread_mutex_unlock(&g->lock);
	return 0;
}

int cow_gate_release(struct cow_store *st)
{
	struct gate *g = &st->gate;
	int r = 0;

	pthread_mutex_lock(&g->lock);
	if (g->state == GATE_HELD && !g->internal) {
		reopen_unlock(st, GATE_OPEN);
		return 0;
	}
	r = g->expired ? -ETIMEDOUT : -EINVAL;
	g->expired = false;
	pthread_mutex_unlock(&g->lock);
	return r;
}

bool gate_is_held(struct cow_store *st)
{
	return st->gate.state == GATE_HELD && !st->gate.internal;
}

void gate_enter_wait(struct cow_store *st)
{
	struct gate *g = &st->gate;

	while (!cow_gate_enter(st)) {
		pthread_mutex_lock(&g->lock);
		while (atomic_load(&g->closed))
			pthread_cond_wait(&g->changed, &g->lock);
		pthread_mutex_unlock(&g->lock);
	}
}

/* Try first for so long, then for twice that, up to the last: where every change takes its time - a disk that can do no
 * more, a slow network - short moments would never find the gate empty. */
#define CLOSED_MS 20u
#define CLOSED_MAX_MS 1000u
/* After that stay open for so many times as long: others lose that part of their time and no more (I-6). */
#define OPEN_TIMES 5u
#define LONG_MS 10000u

/* Let others pass, lock held. Nothing to wake up for: nobody tells when the long change leaves an open gate. */
static void stay_open_locked(struct gate *g, unsigned ms)
{
	uint64_t until = clock_deadline_ms(ms);
	struct timespec ts = clock_to_timespec(until);

	while (!clock_expired(until))
		pthread_cond_timedwait(&g->changed, &g->lock, &ts);
}

/* Only preserving looks at cow_gate_closing and leaves. One system call below is waited for, and it may take minutes:
 * fallocate or ftruncate of much, unlinking a file of many pieces, a write to a disk that hangs. So the gate is closed
 * for moments with longer ones in between, and who wants it exclusively waits for as long as it takes. */
void gate_exclusive(struct cow_store *st)
{
	struct gate *g = &st->gate;
	uint64_t long_ns = clock_deadline_ms(LONG_MS);
	unsigned ms = CLOSED_MS;

	pthread_mutex_lock(&g->lock);
	for (;;) {
		while (g->internal || g->state == GATE_CLOSING || g->state == GATE_HELD)
			pthread_cond_wait(&g->changed, &g->lock);
		g->internal = true;
		if (close_locked(g, clock_deadline_ms(ms)) == 0)
			break;
		reopen_unlock(st, GATE_OPEN);
		if (clock_expired(long_ns)) {
			log_warn("a change takes long; dropping and reverting wait for it");
			long_ns = CLOCK_NEVER;
		}
		pthread_mutex_lock(&g->lock);
		stay_open_locked(g, ms * OPEN_TIMES);
		ms = ms * 2 < CLOSED_MAX_MS ? ms * 2 : CLOSED_MAX_MS;
	}
	g->state = GATE_HELD;
	pthread_mutex_unlock(&g->lock);
}

void gate_exclusive_end(struct cow_store *st)
{
	pthread_mutex_lock(&st->gate.lock);
	reopen_unlock(st, GATE_OPEN);
}

/* The hold ends by itself (H-3), on a thread that does nothing else. */
static void *gate_timer(void *arg)
{
	struct cow_store *st = arg;
	struct gate *g = &st->gate;
	struct timespec ts;

	pthread_mutex_lock(&g->lock);
	while (!g->stop) {
		if (g->state != GATE_HELD || g->internal) {
			pthread_cond_wait(&g->changed, &g->lock);
			continue;
		}
		if (!clock_expired(g->deadline_ns)) {
			ts = clock_to_timespec(g->deadline_ns);
			pthread_cond_timedwait(&g->changed, &g->lock, &ts);
			continue;
		}
		g->expired = true;
		reopen_unlock(st, GATE_OPEN);
		pthread_mutex_lock(&g->lock);
	}
	pthread_mutex_unlock(&g->lock);
	return NULL;
}

int gate_init(struct cow_store *st)
{
	struct gate *g = &st->gate;

	pthread_mutex_init(&g->lock, NULL);
	ulock_cond_init(&g->left);
	ulock_cond_init(&g->changed);
	return -pthread_create(&g->timer, NULL, gate_timer, st);
}

void gate_done(struct cow_store *st)
{
	struct gate *g = &st->gate;

	pthread_mutex_lock(&g->lock);
	g->stop = true;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
	pthread_join(g->timer, NULL);
	pthread_cond_destroy(&g->left);
	pthread_cond_destroy(&g->changed);
	pthread_mutex_destroy(&g->lock);
}
