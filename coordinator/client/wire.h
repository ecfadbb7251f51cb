/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/client/wire.h - Varlink messages in a byte stream.
 * Job:     cut a stream of bytes into JSON objects ended by NUL, and the reverse; keep each
 *          file descriptor with its message. Pure: no socket is seen here (stream.h has them),
 *          no meaning of a call is known.
 * Errors:  0 or -errno. After an error of umbra_wire_next the stream has lost its place: give
 *          the connection up.
 * Threads: one at a time for one wire.
 * Source:  https://varlink.org/Service; JSON_* of jansson.h; unix(7) on SCM_RIGHTS. */
#ifndef UMBRA_CLIENT_WIRE_H
#define UMBRA_CLIENT_WIRE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define UMBRA_WIRE_MAX ((size_t)1 << 20) /* bytes of one message, without its NUL */
#define UMBRA_WIRE_MAX_LARGE                                                                       \
	((size_t)16 << 20) /* of one that names a call which carries lists (see wire.c) */
#define UMBRA_WIRE_MAX_REPLY ((size_t)64 << 20) /* what a client takes from its coordinator */
#define UMBRA_WIRE_DEPTH 32			/* nested arrays and objects */
#define UMBRA_WIRE_DEPTH_REPLY                                                                     \
	48		 /* from the coordinator: it puts what others sent into larger messages */
#define UMBRA_WIRE_FDS 4 /* descriptors that wait for the rest of their message */

struct umbra_wire;

/* max_bytes: the longest incoming message; above UMBRA_WIRE_MAX it is a client's wire, which takes
 * UMBRA_WIRE_DEPTH_REPLY. NULL: out of memory. */
struct umbra_wire *umbra_wire_new(size_t max_bytes);
/* Let calls that carry lists be up to UMBRA_WIRE_MAX_LARGE bytes long. */
void umbra_wire_allow_large(struct umbra_wire *w);
void umbra_wire_free(struct umbra_wire *w); /* NULL is fine; closes descriptors nobody took */

/* ---- incoming ---- */

/**
 * Hand in bytes that came from the peer.
 * @fds  descriptors that came with them, nfds of them; taken (closed here on failure). They belong
 * to the message that the last of these bytes is part of: the kernel ends a read at the end of the
 * piece that carried them. Returns 0; -ENOMEM; -EPROTO more than UMBRA_WIRE_FDS descriptors wait.
 */
int umbra_wire_feed(struct umbra_wire *w, const void *bytes, size_t len, const int *fds,
		    size_t nfds);

/**
 * Take the next whole message.
 * @ret     the object, a new reference
 * @ret_fd  the descriptor that came with it, owned by the caller, or -1; NULL: closed. Further ones
 * are closed. Returns 1; 0 no whole message yet; -EMSGSIZE longer than allowed (said as soon as it
 * is known, without waiting for the NUL); -EPROTO not a JSON object, not UTF-8, a name twice, or
 * nested too deep.
 */
int umbra_wire_next(struct umbra_wire *w, json_t **ret, int *ret_fd);

/* Bytes of a message that has not ended: at end of file not 0 means that it was cut off. */
size_t umbra_wire_partial(const struct umbra_wire *w);

/* What was wrong, for the log and the peer; "" before any error. Borrowed, lives as long as w. */
const char *umbra_wire_problem(const struct umbra_wire *w);

/* ---- outgoing ---- */

/**
 * Queue one message.
 * @message  borrowed
 * @fd       goes with it; duplicated, so the caller keeps its own; -1: none
 * Returns 0; -EMSGSIZE longer than UMBRA_WIRE_MAX_REPLY; -ENOMEM; -EMFILE. On failure nothing is
 * queued.
 */
int umbra_wire_put(struct umbra_wire *w, const json_t *message, int fd);

/* What to send next: bytes and length (0: nothing), and the descriptor that must go with the first
 * of them, or -1. Borrowed until the next call. A piece never joins two messages if one of them
 * carries a descriptor. */
size_t umbra_wire_out(struct umbra_wire *w, const char **ret_bytes, int *ret_fd);

/* That many of them (at least 1) were sent, and the descriptor with them. */
void umbra_wire_sent(struct umbra_wire *w, size_t len);

/* Bytes that wait to be sent. */
size_t umbra_wire_queued(const struct umbra_wire *w);

#endif
