/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Turns: few of the threads read at a time, but never none while any could. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "fs/turns.h"

#define THREADS 16u

static struct fs_turns turns;
static int requests[2]; /* a pipe in place of /dev/fuse */
static atomic_uint served, inside;
static sem_t go;

static unsigned readers(void)
{
	return atomic_load(&turns.state) & 0xffff;
}

static unsigned waiters(void)
{
	return atomic_load(&turns.state) >> 16;
}

static void send_requests(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		cr_assert_eq(write(requests[1], "r", 1), 1);
}

/* A server thread whose handler waits until somebody lets it go. */
static void *serve(void *arg)
{
	char c;

	(void)arg;
	for (;;) {
		ssize_t n;

		fs_turns_wait(&turns);
		n = read(requests[0], &c, 1);
		fs_turns_end(&turns);
		if (n <= 0)
			return NULL;
		if (c == 'w') {
			atomic_fetch_add(&inside, 1);
			sem_wait(&go);
		}
		fs_turns_back_soon(&turns);
		atomic_fetch_add(&served, 1);
	}
}

static void start(unsigned max, pthread_t threads[THREADS])
{
	fs_turns_init(&turns, max);
	sem_init(&go, 0, 0);
	cr_assert_eq(pipe(requests), 0);
	for (unsigned i = 0; i < THREADS; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, serve, NULL), 0);
}

static void finish(pthread_t threads[THREADS])
{
	close(requests[1]);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	close(requests[0]);
	fs_turns_done(&turns);
}

static bool comes(atomic_uint *v, unsigned n)
{
	for (unsigned i = 0; i < 100000 && atomic_load(v) != n; i++)
		usleep(1000);
	return atomic_load(v) == n;
}

Test(fs_turns, no_more_read_than_may)
{
	pthread_t threads[THREADS];

	start(2, threads);
	for (unsigned i = 0; i < 100000 && (readers() != 2 || waiters() != THREADS - 2); i++)
		usleep(1000);
	cr_assert_eq(readers(), 2);
	cr_assert_eq(waiters(), THREADS - 2);
	finish(threads);
}

/* A handler may depend on the next request: each that arrives is taken as long as there is a thread. */
Test(fs_turns, every_thread_serves_when_all_others_are_busy)
{
	pthread_t threads[THREADS];

	for (unsigned max = 1; max <= 3; max++) {
		atomic_store(&served, 0);
		atomic_store(&inside, 0);
		start(max, threads);
		for (unsigned i = 0; i < THREADS; i++)
			cr_assert_eq(write(requests[1], "w", 1), 1);
		cr_assert(comes(&inside, THREADS), "%u of %u are served", atomic_load(&inside),
			  THREADS);
		for (unsigned i = 0; i < THREADS; i++)
			sem_post(&go);
		cr_assert(comes(&served, THREADS));
		finish(threads);
	}
}

Test(fs_turns, nothing_is_left_lying_under_many_requests)
{
	pthread_t threads[THREADS];

	start(2, threads);
	send_requests(50000);
	cr_assert(comes(&served, 50000), "%u of 50000 are served", atomic_load(&served));
	cr_assert_leq(readers(), 2);
	finish(threads);
}

/* The usual case, one caller: it is served by two threads, and nobody else is woken for it. */
Test(fs_turns, who_answers_is_counted_as_back)
{
	fs_turns_init(&turns, 2);
	atomic_store(&turns.state, 1u + (1u << 16)); /* another one reads, a third waits */
	fs_turns_wait(&turns);
	cr_assert_eq(readers(), 2);
	fs_turns_end(&turns);
	cr_assert_eq(readers(), 1);
	fs_turns_back_soon(&turns);
	fs_turns_back_soon(&turns);
	cr_assert_eq(readers(), 2, "counted once");
	fs_turns_wait(&turns); /* does not count again, nor wait */
	cr_assert_eq(readers(), 2);
	errno = EINTR;
	fs_turns_end(&turns);
	cr_assert_eq(errno, EINTR);
	cr_assert_eq(waiters(), 1, "nobody was called");
	fs_turns_done(&turns);
}

static void *stranger(void *arg)
{
	(void)arg;
	fs_turns_back_soon(&turns);
	return NULL;
}

/* A request that was parked is answered by a thread that takes none. */
Test(fs_turns, a_thread_that_takes_no_requests_is_not_counted)
{
	pthread_t t;

	fs_turns_init(&turns, 2);
	pthread_create(&t, NULL, stranger, NULL);
	pthread_join(t, NULL);
	cr_assert_eq(readers(), 0);
	fs_turns_done(&turns);
}
