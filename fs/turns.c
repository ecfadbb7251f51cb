/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/turns.c - which threads wait for the next request; see turns.h.
 *
 *	serving --wait--> reading --end--> serving		the usual round
 *	serving --back_soon--> (counted as reading) --wait--> reading
 *	serving --wait--> waiting --called by who leaves nobody--> reading */
#include "fs/turns.h"

#include <assert.h>
#include <errno.h>

#define ONE_READING 1u
#define ONE_WAITING 0x10000u

static unsigned reading(uint32_t state)
{
	return state & (ONE_WAITING - 1);
}

/* What this thread is. A thread serves one session all its life. */
static __thread enum { STRANGER, SERVING, COUNTED } me;

void fs_turns_init(struct fs_turns *t, unsigned max)
{
	assert(max > 0);
	atomic_init(&t->state, 0);
	t->max = max;
	sem_init(&t->turn, 0, 0);
}

void fs_turns_done(struct fs_turns *t)
{
	sem_destroy(&t->turn);
}

/* Count one more reader if there is room. */
static bool take_turn(struct fs_turns *t, uint32_t otherwise)
{
	uint32_t was = atomic_load(&t->state), now;

	do
		now = was + (reading(was) < t->max ? ONE_READING : otherwise);
	while (!atomic_compare_exchange_weak(&t->state, &was, now));
	return reading(was) < t->max;
}

void fs_turns_wait(struct fs_turns *t)
{
	bool mine = me == COUNTED || take_turn(t, ONE_WAITING);

	me = SERVING;
	while (!mine && sem_wait(&t->turn) < 0)
		; /* a signal; who posts has counted us as reading */
}

void fs_turns_end(struct fs_turns *t)
{
	uint32_t was = atomic_load(&t->state), now;
	int error = errno;
	bool call;

	do {
		now = was - ONE_READING;
		call = reading(now) == 0 && now >= ONE_WAITING;
		if (call)
			now = now - ONE_WAITING + ONE_READING;
	} while (!atomic_compare_exchange_weak(&t->state, &was, now));
	if (call)
		sem_post(&t->turn);
	errno = error;
}

void fs_turns_back_soon(struct fs_turns *t)
{
	if (me == SERVING && take_turn(t, 0))
		me = COUNTED;
}
