/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/support/fake_coord.h - the coordinator's end of a connection, played by the test.
 * Job:     a socket that the library connects to, and the messages over it, one by one. The test
 *          says what is answered; nothing is done by itself after fake_start.
 * Errors:  none: what goes wrong fails the test.
 * Threads: fake_start answers the calls that connecting makes from a thread, which has ended when
 *          fake_join returns; all else is for the test's own. */
#ifndef UMBRA_TESTS_SUPPORT_FAKE_COORD_H
#define UMBRA_TESTS_SUPPORT_FAKE_COORD_H

#include <criterion/criterion.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "coordinator/client/stream.h"
#include "coordinator/client/wire.h"

struct fake {
	char path[108];
	int listener, sock;
	struct umbra_wire *wire;
	int fd; /* that came with the message read last; -1: none */
	pthread_t thread;
	void (*greet)(struct fake *); /* in the thread, after accept */
	json_t *seen;		      /* for greet: what it wants to keep */
};

static inline void fake_listen(struct fake *f)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	const char *dir = getenv("TMPDIR");
	static int count;

	*f = (struct fake){ .sock = -1, .fd = -1 };
	snprintf(f->path, sizeof(f->path), "%s/fake-%d-%d", dir ? dir : "/tmp", getpid(), count++);
	strcpy(a.sun_path, f->path);
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_geq(f->listener, 0);
	cr_assert_eq(bind(f->listener, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(f->listener, 1), 0);
	f->wire = umbra_wire_new(UMBRA_WIRE_MAX);
	cr_assert(f->wire);
}

static inline void fake_close_fd(struct fake *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

/* The next message, waiting for it. NULL: end of file. */
static inline json_t *fake_read(struct fake *f)
{
	json_t *m = NULL;
	int r;

	fake_close_fd(f);
	while ((r = umbra_wire_next(f->wire, &m, &f->fd)) == 0) {
		struct pollfd p = { .fd = f->sock, .events = POLLIN };

		cr_assert_eq(poll(&p, 1, -1), 1);
		r = umbra_stream_read(f->sock, f->wire);
		if (r == 0 || r == -ECONNRESET)
			return NULL;
		cr_assert(r > 0 || r == -EAGAIN, "%d", r);
	}
	cr_assert_eq(r, 1, "%s", umbra_wire_problem(f->wire));
	return m;
}

static inline void fake_write_fd(struct fake *f, const json_t *m, int fd)
{
	cr_assert_eq(umbra_wire_put(f->wire, m, fd), 0);
	cr_assert_eq(umbra_stream_write(f->sock, f->wire), 0);
}

static inline void fake_write(struct fake *f, const json_t *m)
{
	fake_write_fd(f, m, -1);
}

/* An answer with these parameters, taken. */
static inline void fake_answer(struct fake *f, json_t *parameters)
{
	json_t *m = json_pack("{s:o}", "parameters", parameters);

	cr_assert(m);
	fake_write(f, m);
	json_decref(m);
}

/* An answer without parameters, with a descriptor, borrowed. */
static inline void fake_answer_fd(struct fake *f, int fd)
{
	json_t *m = json_pack("{s:{}}", "parameters");

	cr_assert(m);
	fake_write_fd(f, m, fd);
	json_decref(m);
}

/* A refusal, as io.umbra.Failed. */
static inline void fake_refuse(struct fake *f, const char *name, const char *message)
{
	json_t *m = json_pack("{s:s, s:{s:s, s:s, s:b}}", "error", "io.umbra.Failed", "parameters",
			      "name", name, "message", message, "again", 0);

	cr_assert(m);
	fake_write(f, m);
	json_decref(m);
}

/* The next message must be this call; its parameters, a new reference. */
static inline json_t *fake_expect(struct fake *f, const char *method)
{
	json_t *m = fake_read(f), *parameters;
	char full[128];

	cr_assert(m, "the connection ended, %s was expected", method);
	snprintf(full, sizeof(full), "io.umbra.%s", method);
	cr_assert_str_eq(json_string_value(json_object_get(m, "method")), full);
	parameters = json_incref(json_object_get(m, "parameters"));
	json_decref(m);
	return parameters;
}

static inline void *fake_main(void *data)
{
	struct fake *f = data;

	f->sock = accept(f->listener, NULL, NULL);
	cr_assert_geq(f->sock, 0);
	if (f->greet)
		f->greet(f);
	return NULL;
}

/* Accept one connection, and greet it, while the test's own thread connects. */
static inline void fake_start(struct fake *f, void (*greet)(struct fake *))
{
	f->greet = greet;
	cr_assert_eq(pthread_create(&f->thread, NULL, fake_main, f), 0);
}

static inline void fake_join(struct fake *f)
{
	cr_assert_eq(pthread_join(f->thread, NULL), 0);
}

/* ---- lack of memory: between on and off the nth allocation of jansson fails, alone or with all after
 * it. */

static struct {
	bool on, alone, failed;
	int left;
} fake_memory;

static inline void *fake_malloc(size_t size)
{
	if (fake_memory.on && --fake_memory.left < 0 &&
	    !(fake_memory.alone && fake_memory.failed)) {
		fake_memory.failed = true;
		return NULL;
	}
	return malloc(size);
}

/* n: how many do well before the first that does not. */
static inline void fake_memory_set(int n, bool alone)
{
	json_set_alloc_funcs(fake_malloc, free);
	fake_memory.on = fake_memory.failed = false;
	fake_memory.alone = alone;
	fake_memory.left = n;
}

/* As if the coordinator had been killed. */
static inline void fake_hang_up(struct fake *f)
{
	close(f->sock);
	f->sock = -1;
}

static inline void fake_done(struct fake *f)
{
	fake_close_fd(f);
	if (f->sock >= 0)
		close(f->sock);
	close(f->listener);
	unlink(f->path);
	umbra_wire_free(f->wire);
	json_decref(f->seen);
}

#endif
