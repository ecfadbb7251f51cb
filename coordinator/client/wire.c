/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/client/wire.h"

#include "coordinator/client/client.h"

#include "cow/base/cleanup.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Incoming bytes live in one buffer, messages are cut from its front. `base` counts the bytes ever
 * cut, so that the place of a descriptor in the stream stays true while the buffer moves. */
struct waiting_fd {
	uint64_t at; /* stream position of a byte of its message */
	int fd;
};

struct piece {
	struct piece *next;
	int fd; /* owned; -1 none or sent */
	size_t len, sent;
	char *bytes; /* malloc'ed; the NUL is part of len */
};

struct umbra_wire {
	size_t max;
	bool large;
	char *buf;
	size_t len, cap;
	size_t start;	/* first byte not yet cut */
	size_t scanned; /* no NUL between start and here */
	uint64_t base;	/* stream position of buf[0] */
	struct waiting_fd fds[UMBRA_WIRE_FDS];
	size_t nfds;

	struct piece *out, **out_end;
	size_t queued;
	char problem[256];
};

/* Calls that carry a list of snapshots, or the documents of a backup, may be longer than others. They must say so at their
 * beginning; this library writes the member "method" first. */
static const char *const large_calls[] = { "io.umbra.RegisterProvider\"",
					   "io.umbra.ProviderAnswer\"",
					   "io.umbra.InitializeForRestore\"" };
#define LARGE_CALL_WITHIN 128

struct umbra_wire *umbra_wire_new(size_t max_bytes)
{
	struct umbra_wire *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->max = max_bytes;
	w->out_end = &w->out;
	return w;
}

void umbra_wire_allow_large(struct umbra_wire *w)
{
	w->large = true;
}

static void piece_free(struct piece *p)
{
	close_p(&p->fd);
	free(p->bytes);
	free(p);
}
DEFINE_CLEANUP(piece_free_p, struct piece *, piece_free)

void umbra_wire_free(struct umbra_wire *w)
{
	if (!w)
		return;
	for (size_t i = 0; i < w->nfds; i++)
		close_p(&w->fds[i].fd);
	while (w->out) {
		struct piece *p = w->out;

		w->out = p->next;
		piece_free(p);
	}
	free(w->buf);
	free(w);
}

static int problem(struct umbra_wire *w, int r, const char *what)
{
	snprintf(w->problem, sizeof(w->problem), "%s", what);
	return r;
}

const char *umbra_wire_problem(const struct umbra_wire *w)
{
	return w->problem;
}

/* Room for len more bytes: first what was cut is moved out, then the buffer grows by doubling. */
static int make_room(struct umbra_wire *w, size_t len)
{
	size_t cap;
	char *buf;

	if (w->start > 0) {
		memmove(w->buf, w->buf + w->start, w->len - w->start);
		w->base += w->start;
		w->len -= w->start;
		w->scanned -= w->start;
		w->start = 0;
	}
	if (w->cap - w->len >= len)
		return 0;
	cap = w->cap ? w->cap : 4096;
	while (cap - w->len < len)
		cap *= 2;
	buf = realloc(w->buf, cap);
	if (!buf)
		return problem(w, -ENOMEM, "out of memory");
	w->buf = buf;
	w->cap = cap;
	return 0;
}

int umbra_wire_feed(struct umbra_wire *w, const void *bytes, size_t len, const int *fds,
		    size_t nfds)
{
	int r = make_room(w, len);

	if (r == 0 && w->nfds + nfds > UMBRA_WIRE_FDS)
		r = problem(w, -EPROTO, "too many file descriptors");
	if (r < 0 || len == 0) {
		for (size_t i = 0; i < nfds; i++)
			close_p(&(int){ fds[i] });
		return r;
	}
	memcpy(w->buf + w->len, bytes, len);
	w->len += len;
	for (size_t i = 0; i < nfds; i++)
		w->fds[w->nfds++] = (struct waiting_fd){ .at = w->base + w->len - 1, .fd = fds[i] };
	return 0;
}

size_t umbra_wire_partial(const struct umbra_wire *w)
{
	return w->len - w->start;
}

static bool names_large_call(const char *message, size_t len)
{
	size_t within = len < LARGE_CALL_WITHIN ? len : LARGE_CALL_WITHIN;

	for (size_t i = 0; i < sizeof(large_calls) / sizeof(*large_calls); i++)
		if (memmem(message, within, large_calls[i], strlen(large_calls[i])))
			return true;
	return false;
}

static size_t longest(const struct umbra_wire *w, const char *message, size_t len)
{
	if (w->large && names_large_call(message, len))
		return UMBRA_WIRE_MAX_LARGE;
	return w->max;
}

/* jansson recurses once per level, so the depth is measured before it sees the text. Wrong JSON may
 * be measured wrong, but never as less deep than a parser would go: brackets outside strings are
 * all counted. */
static bool too_deep(const struct umbra_wire *w, const char *text, size_t len)
{
	size_t depth = 0,
	       most = w->max > UMBRA_WIRE_MAX ? UMBRA_WIRE_DEPTH_REPLY : UMBRA_WIRE_DEPTH;
	bool in_string = false;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			if (++depth > most)
				return true;
		} else if ((c == '}' || c == ']') && depth > 0) {
			depth--;
		}
	}
	return false;
}

static int parse(struct umbra_wire *w, const char *text, size_t len, json_t **ret)
{
	json_error_t error;
	json_t *object;
	char what[sizeof(w->problem)];

	if (too_deep(w, text, len))
		return problem(w, -EPROTO, "message nested too deep");
	object = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	if (!object) {
		snprintf(what, sizeof(what), "not a message: %.160s (byte %d)", error.text,
			 error.position);
		return problem(w, -EPROTO, what);
	}
	if (!json_is_object(object)) {
		json_decref(object);
		return problem(w, -EPROTO, "not a message: a JSON object is expected");
	}
	*ret = object;
	return 1;
}

/* The first descriptor of the message that ends at `end` (exclusive); others of it are closed. */
static int take_fd(struct umbra_wire *w, uint64_t end)
{
	int fd = -1;
	size_t kept = 0;

	for (size_t i = 0; i < w->nfds; i++) {
		if (w->fds[i].at >= end)
			w->fds[kept++] = w->fds[i];
		else if (fd < 0)
			fd = w->fds[i].fd;
		else
			close_p(&w->fds[i].fd);
	}
	w->nfds = kept;
	return fd;
}

int umbra_wire_next(struct umbra_wire *w, json_t **ret, int *ret_fd)
{
	const char *text = w->buf + w->start;
	size_t have = w->len - w->start, len, limit;
	const char *end;
	json_t *object = NULL;
	int fd, r;

	if (have == 0)
		return 0;
	limit = longest(w, text, have);
	end = memchr(w->buf + w->scanned, 0, w->len - w->scanned);
	len = end ? (size_t)(end - text) : have;
	if (len > limit)
		return problem(w, -EMSGSIZE, "message too long");
	if (!end) {
		w->scanned = w->len;
		return 0;
	}
	r = parse(w, text, len, &object);
	if (r < 0)
		return r;
	w->start += len + 1;
	w->scanned = w->start;
	fd = take_fd(w, w->base + w->start);
	*ret = object;
	if (ret_fd)
		*ret_fd = fd;
	else
		close_p(&fd);
	return 1;
}

int umbra_wire_put(struct umbra_wire *w, const json_t *message, int fd)
{
	CLEANUP(piece_free_p) struct piece *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->fd = -1;
	p->bytes = umbra_json_text(message, JSON_COMPACT);
	if (!p->bytes)
		return -ENOMEM;
	p->len = strlen(p->bytes) + 1;
	if (p->len - 1 > UMBRA_WIRE_MAX_REPLY)
		return -EMSGSIZE;
	if (fd >= 0) {
		p->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (p->fd < 0)
			return -errno;
	}
	w->queued += p->len;
	*w->out_end = p;
	w->out_end = &p->next;
	(void)TAKE(p);
	return 0;
}

size_t umbra_wire_out(struct umbra_wire *w, const char **ret_bytes, int *ret_fd)
{
	struct piece *p = w->out;

	if (!p)
		return 0;
	*ret_bytes = p->bytes + p->sent;
	*ret_fd = p->fd;
	return p->len - p->sent;
}

void umbra_wire_sent(struct umbra_wire *w, size_t len)
{
	struct piece *p = w->out;

	assert(p && len > 0 && len <= p->len - p->sent);
	p->sent += len;
	w->queued -= len;
	if (p->fd >= 0) {
		close_p(&p->fd);
		p->fd = -1;
	}
	if (p->sent < p->len)
		return;
	w->out = p->next;
	if (!w->out)
		w->out_end = &w->out;
	piece_free(p);
}

size_t umbra_wire_queued(const struct umbra_wire *w)
{
	return w->queued;
}
