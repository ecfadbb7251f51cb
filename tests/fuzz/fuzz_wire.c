/* Whatever comes in whatever pieces, the messages cut out of it are the same; each goes out and comes back
 * as it was (coordinator/client/wire.h).
 * Input: one byte of options (1: long calls, 2: a client's wire, 4: one byte at a time), one byte that the
 * sizes of the pieces come from, then the stream. */
#include "coordinator/client/wire.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(what)                                                                                 \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                 \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#define MESSAGES_MAX 4096

struct seen {
	json_t *message[MESSAGES_MAX];
	size_t n;
	int end; /* what the last umbra_wire_next said */
};

static struct umbra_wire *wire_for(unsigned options)
{
	struct umbra_wire *w = umbra_wire_new(options & 2 ? UMBRA_WIRE_MAX_REPLY : UMBRA_WIRE_MAX);

	MUST(w);
	if (options & 1)
		umbra_wire_allow_large(w);
	return w;
}

static void take_all(struct umbra_wire *w, struct seen *s)
{
	json_t *message;
	int r = 0;

	while (s->n < MESSAGES_MAX && (r = umbra_wire_next(w, &message, NULL)) == 1) {
		MUST(json_is_object(message));
		s->message[s->n++] = message;
	}
	MUST(r == 1 || (r == 0) == (umbra_wire_problem(w)[0] == 0));
	s->end = r;
}

/* After an error the stream has lost its place: no more is asked for. */
static void receive(unsigned options, unsigned seed, const uint8_t *data, size_t size,
		    struct seen *s)
{
	struct umbra_wire *w = wire_for(options);

	*s = (struct seen){ 0 };
	while (size > 0 && s->end >= 0 && s->n < MESSAGES_MAX) {
		size_t n = options & 4 ? 1 : seed ? seed % 97 + 1 : size;

		if (n > size)
			n = size;
		MUST(umbra_wire_feed(w, data, n, NULL, 0) == 0);
		data += n;
		size -= n;
		seed = seed * 1103515245u + (seed ? 12345u : 0);
		take_all(w, s);
	}
	umbra_wire_free(w);
}

/* Out of one wire into another. */
static void send_all(const struct seen *s)
{
	struct umbra_wire *out = wire_for(0), *in = wire_for(2);
	json_t *back;
	const char *bytes;
	size_t len;
	int fd;

	for (size_t i = 0; i < s->n; i++) {
		MUST(umbra_wire_put(out, s->message[i], -1) == 0);
		while ((len = umbra_wire_out(out, &bytes, &fd)) > 0) {
			MUST(fd == -1 && umbra_wire_feed(in, bytes, len, NULL, 0) == 0);
			umbra_wire_sent(out, len);
		}
		MUST(umbra_wire_queued(out) == 0);
		MUST(umbra_wire_next(in, &back, NULL) == 1);
		MUST(json_equal(back, s->message[i]));
		json_decref(back);
	}
	MUST(umbra_wire_partial(in) == 0);
	umbra_wire_free(in);
	umbra_wire_free(out);
}

static void forget(struct seen *s)
{
	while (s->n > 0)
		json_decref(s->message[--s->n]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct seen whole, pieces;

	if (size < 2)
		return 0;
	receive(data[0] & 3, 0, data + 2, size - 2, &whole);
	receive(data[0], data[1], data + 2, size - 2, &pieces);
	MUST(whole.n == pieces.n);
	for (size_t i = 0; i < whole.n; i++)
		MUST(json_equal(whole.message[i], pieces.message[i]));
	MUST((whole.end < 0) == (pieces.end < 0));
	send_all(&pieces);
	forget(&whole);
	forget(&pieces);
	return 0;
}
