/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/park.c - parked requests; see park.h. */
#include "fs/park.h"

#include <stdlib.h>

#include "cow/base/clock.h"
#include "cow/base/lock.h"

/* How soon a second, deadly signal is noticed; the kernel reports only the first. */
#define RECHECK_MS 50u
#define THREADS_MAX 16u

struct fs_park {
	struct ulock lock; /* rank LEAF; guards the fields up to the blank line */
	pthread_cond_t cond;
	struct fs_parked *head, **tail;
	unsigned long wakes; /* counted, so that a wake during run is not missed */
	unsigned suspects;   /* interrupted ones in the queue */
	bool open, stop;

	struct fs_park_ops ops;
	unsigned n_threads;
	pthread_t threads[THREADS_MAX];
};

static struct fs_parked *pop_locked(struct fs_park *park)
{
	struct fs_parked *p = park->head;

	park->head = p->next;
	if (!park->head)
		park->tail = &park->head;
	p->next = NULL;
	park->suspects -= p->interrupted;
	return p;
}

static void push_front_locked(struct fs_park *park, struct fs_parked *p)
{
	p->next = park->head;
	if (!park->head)
		park->tail = &p->next;
	park->head = p;
	park->suspects += p->interrupted;
}

/* Take the dead out of the queue. */
static struct fs_parked *collect_killed_locked(struct fs_park *park)
{
	struct fs_parked **pp = &park->head;
	struct fs_parked *dead = NULL;

	while (*pp) {
		struct fs_parked *p = *pp;

		if (p->interrupted && park->ops.killed(p)) {
			*pp = p->next;
			park->suspects--;
			p->next = dead;
			dead = p;
		} else {
			pp = &p->next;
		}
	}
	park->tail = pp;
	return dead;
}

static void drop_all(struct fs_park *park, struct fs_parked *dead)
{
	while (dead) {
		struct fs_parked *next = dead->next;

		park->ops.drop(dead);
		dead = next;
	}
}

/* One from the queue, with the lock held at entry and exit, not between. */
static void run_one_locked(struct fs_park *park)
{
	struct fs_parked *p = pop_locked(park);
	unsigned long wakes = park->wakes;
	bool killed = p->interrupted && park->ops.killed(p);
	bool done = true;

	ulock_unlock(&park->lock);
	if (killed)
		park->ops.drop(p);
	else
		done = park->ops.run(p);
	ulock_lock(&park->lock);
	if (done)
		return;
	push_front_locked(park, p);
	if (wakes == park->wakes)
		park->open = false;
}

static void *worker(void *arg)
{
	struct fs_park *park = arg;

	ulock_lock(&park->lock);
	while (!park->stop) {
		struct fs_parked *dead = park->suspects ? collect_killed_locked(park) : NULL;

		if (dead) {
			ulock_unlock(&park->lock);
			drop_all(park, dead);
			ulock_lock(&park->lock);
		} else if (park->open && park->head) {
			run_one_locked(park);
		} else {
			ulock_wait_until(&park->lock, &park->cond,
					 park->suspects ? clock_deadline_ms(RECHECK_MS)
							: CLOCK_NEVER);
		}
	}
	ulock_unlock(&park->lock);
	return NULL;
}

struct fs_park *fs_park_new(unsigned threads, const struct fs_park_ops *ops)
{
	struct fs_park *park = calloc(1, sizeof(*park));

	if (!park)
		return NULL;
	ulock_init(&park->lock, RANK_LEAF);
	ulock_cond_init(&park->cond);
	park->tail = &park->head;
	park->ops = *ops;
	for (; park->n_threads < threads && park->n_threads < THREADS_MAX; park->n_threads++)
		if (pthread_create(&park->threads[park->n_threads], NULL, worker, park) != 0)
			break;
	if (park->n_threads)
		return park;
	fs_park_free(park);
	return NULL;
}

void fs_park_stop(struct fs_park *park)
{
	struct fs_parked *left;

	ulock_lock(&park->lock);
	park->stop = true;
	pthread_cond_broadcast(&park->cond);
	ulock_unlock(&park->lock);
	for (unsigned i = 0; i < park->n_threads; i++)
		pthread_join(park->threads[i], NULL);
	park->n_threads = 0;
	ulock_lock(&park->lock);
	left = park->head;
	park->head = NULL;
	park->tail = &park->head;
	park->suspects = 0;
	ulock_unlock(&park->lock);
	drop_all(park, left);
}

void fs_park_free(struct fs_park *park)
{
	if (!park)
		return;
	fs_park_stop(park);
	pthread_cond_destroy(&park->cond);
	ulock_done(&park->lock);
	free(park);
}

void fs_park_add(struct fs_park *park, struct fs_parked *p)
{
	bool stopped;

	ulock_lock(&park->lock);
	p->next = NULL;
	stopped = park->stop;
	if (!stopped) {
		*park->tail = p;
		park->tail = &p->next;
		park->suspects += p->interrupted;
		if (park->open || p->interrupted)
			pthread_cond_signal(&park->cond);
	}
	ulock_unlock(&park->lock);
	if (stopped)
		park->ops.drop(p);
}

void fs_park_wake(struct fs_park *park)
{
	ulock_lock(&park->lock);
	park->open = true;
	park->wakes++;
	if (park->head)
		pthread_cond_broadcast(&park->cond);
	ulock_unlock(&park->lock);
}

static bool queued_locked(const struct fs_park *park, const struct fs_parked *p)
{
	const struct fs_parked *q = park->head;

	while (q && q != p)
		q = q->next;
	return q;
}

void fs_park_interrupt(struct fs_park *park, struct fs_parked *p)
{
	ulock_lock(&park->lock);
	if (!p->interrupted) {
		p->interrupted = true;
		if (queued_locked(park, p)) {
			park->suspects++;
			pthread_cond_signal(&park->cond);
		}
	}
	ulock_unlock(&park->lock);
}
