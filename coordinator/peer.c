/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/peer.h"

#include "coordinator/client/stream.h"
#include "coordinator/json.h"
#include "cow/base/cleanup.h"
#include "cow/base/err.h"
#include "cow/base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REPLIES_MAX ((size_t)1 << 20)	/* unsent bytes beyond which no further call is looked at */
#define COMMANDS_MAX ((size_t)16 << 20) /* unsent bytes beyond which a provider is given up */
#define INPUT_MAX ((size_t)2 << 20)	/* unread bytes of a busy peer beyond which reading stops */
#define CLOSE_MS 10000			/* for the last words to a peer that does not read */
#define CREDENTIAL_GROUPS 64

/* ---- who it is ---- */

/* The kernel's list of the peer's groups: no look-up that could wait for a network (SO_PEERGROUPS,
 * Linux 4.13). */
static bool in_group(int sock, gid_t own, gid_t group)
{
	gid_t groups[CREDENTIAL_GROUPS];
	socklen_t len = sizeof(groups);

	if (group == (gid_t)-1)
		return false;
	if (own == group)
		return true;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
		return false;
	for (size_t i = 0; i < len / sizeof(*groups); i++)
		if (groups[i] == group)
			return true;
	return false;
}

/* S-12. Returns 0, or -EACCES: not served at all. */
static int identify(struct coord_peer *peer)
{
	const struct coord_server_options *opt = &peer->server->opt;
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(peer->sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	peer->pid = cred.pid;
	peer->uid = cred.uid;
	peer->privileged = cred.uid == 0 || cred.uid == geteuid() ||
			   (opt->system && in_group(peer->sock, cred.gid, opt->group));
	return peer->privileged || opt->system ? 0 : -EACCES;
}

static size_t peers_of(const struct coord_server *srv, uid_t uid)
{
	const struct coord_peer *peer;
	size_t n = 0;

	TAILQ_FOREACH(peer, &srv->peers, link)
		n += peer->uid == uid;
	return n;
}

bool coord_peer_sees(const struct coord_peer *peer, const struct coord_provider *p)
{
	return peer->privileged || p->uid == peer->uid;
}

/* ---- output ---- */

static void flush(struct coord_peer *peer)
{
	int r;

	if (peer->dead)
		return;
	r = umbra_stream_write(peer->sock, peer->wire);
	if (r == -EAGAIN) {
		ev_io_start(peer->server->loop, &peer->writer);
		return;
	}
	ev_io_stop(peer->server->loop, &peer->writer);
	if (r < 0) {
		coord_peer_close(peer);
		return;
	}
	coord_server_kick(peer->server); /* room for the next call's answer, or time to close */
}

static int send_message(struct coord_peer *peer, json_t *message, int fd)
{
	int r;

	if (!message)
		return -ENOMEM;
	r = peer->dead ? -EPIPE : umbra_wire_put(peer->wire, message, fd);
	json_decref(message);
	if (r == 0)
		flush(peer);
	return r;
}

static void call_over(struct coord_peer *peer)
{
	peer->busy = false;
	peer->cancel = NULL;
	json_decref(peer->params);
	peer->params = NULL;
	coord_server_kick(peer->server);
}

/* Without memory for an answer there is no honest way to go on: the peer would take the next one
 * for it. */
static void answered(struct coord_peer *peer, int r)
{
	call_over(peer);
	if (r < 0 && !peer->dead) {
		log_warn("process %d: no answer could be sent: %s", (int)peer->pid, err_text(r));
		coord_peer_close(peer);
	}
}

void coord_peer_reply(struct coord_peer *peer, json_t *params, int fd)
{
	struct coord_failure f;
	int r;

	assert(peer->busy);
	peer->cancel = NULL; /* sending may find the peer gone: nothing is waited for any more */
	if (!params) {
		coord_no_memory(&f);
		coord_peer_fail(peer, &f);
		return;
	}
	if (peer->oneway) {
		json_decref(params);
		call_over(peer);
		return;
	}
	r = send_message(peer, json_pack("{s:o}", "parameters", params), fd);
	if (r == -EMSGSIZE)
		coord_peer_refuse(peer, UMBRA_E_OUT_OF_MEMORY,
				  "the answer is too long; ask for less");
	else
		answered(peer, r);
}

int coord_peer_stream(struct coord_peer *peer, json_t *params, int fd)
{
	if (!params)
		return -ENOMEM;
	if (umbra_wire_queued(peer->wire) > COMMANDS_MAX) {
		log_warn("process %d does not read what it is sent: disconnected", (int)peer->pid);
		json_decref(params);
		coord_peer_close(peer);
		return -EPIPE;
	}
	return send_message(peer, json_pack("{s:o, s:b}", "parameters", params, "continues", 1),
			    fd);
}

static json_t *failure_message(const struct coord_failure *f)
{
	return json_pack("{s:s, s:{s:s, s:o, s:b}}", "error", "io.umbra.Failed", "parameters",
			 "name", umbra_error_name(f->error), "message", coord_json_text(f->message),
			 "again", umbra_error_again(f->error) && !f->final);
}

void coord_peer_fail(struct coord_peer *peer, const struct coord_failure *f)
{
	assert(peer->busy);
	peer->cancel = NULL;
	log_debug("process %d: %s: %s", (int)peer->pid, umbra_error_name(f->error), f->message);
	answered(peer, peer->oneway ? 0 : send_message(peer, failure_message(f), -1));
}

void coord_peer_refuse(struct coord_peer *peer, enum umbra_error e, const char *message)
{
	struct coord_failure f;

	coord_fail(&f, e, "%s", message);
	coord_peer_fail(peer, &f);
}

void coord_peer_error(struct coord_peer *peer, const char *error, const char *key,
		      const char *value)
{
	assert(peer->busy);
	peer->cancel = NULL;
	if (peer->oneway)
		answered(peer, 0);
	else
		answered(peer, send_message(peer,
					    json_pack("{s:s, s:{s:s}}", "error", error,
						      "parameters", key, value),
					    -1));
}

/* ---- the end ---- */

static void on_close_limit(void *data)
{
	coord_peer_close(data);
}

void coord_peer_close(struct coord_peer *peer)
{
	struct coord_server *srv = peer->server;

	if (peer->dead)
		return;
	peer->dead = true;
	ev_io_stop(srv->loop, &peer->reader);
	ev_io_stop(srv->loop, &peer->writer);
	coord_timer_disarm(&srv->core.timers, &peer->close_limit);
	if (peer->cancel)
		peer->cancel(peer);
	peer->cancel = NULL;
	/* Provider and session are given up in coord_peers_run: we may be inside of a question to
	 * this provider. */
	coord_server_kick(srv);
}

/* No more messages from this one, but what was answered is still sent. */
static void close_after_output(struct coord_peer *peer)
{
	peer->closing = true;
	ev_io_stop(peer->server->loop, &peer->reader);
	coord_timer_arm(&peer->server->core.timers, &peer->close_limit, CLOSE_MS, on_close_limit,
			peer);
	flush(peer);
}

static void peer_free(struct coord_peer *peer)
{
	struct coord_server *srv = peer->server;

	if (peer->provider) {
		log_info("tree %s: its umbrafs disconnected", LOG_QUOTE(peer->provider->tree.path));
		coord_core_leave(&srv->core, peer->provider);
	}
	if (peer->registered) {
		log_info("writer %s: process %d disconnected",
			 LOG_QUOTE(peer->registered->info.name), (int)peer->pid);
		coord_writer_lost(peer->registered);
	}
	if (peer->session)
		coord_session_leave(peer->session);
	free(peer->watched);
	coord_timer_disarm(&srv->core.timers, &peer->wait_limit);
	TAILQ_REMOVE(&srv->peers, peer, link);
	srv->npeers--;
	json_decref(peer->params);
	close_p(&peer->call_fd);
	close_p(&peer->sock);
	umbra_wire_free(peer->wire);
	free(peer);
}

/* ---- input ---- */

/* One clear word, then the end. */
static void garbage(struct coord_peer *peer, const char *what)
{
	log_warn("process %d (user %u): %s: disconnected", (int)peer->pid, (unsigned)peer->uid,
		 what);
	if (peer->provider || peer->events) { /* its stream must not carry errors of other calls */
		coord_peer_close(peer);
		return;
	}
	if (peer->busy && peer->cancel)
		peer->cancel(peer);
	peer->busy = true;
	peer->oneway = false;
	coord_peer_refuse(peer, UMBRA_E_INVALID_ARGUMENT, what);
	close_after_output(peer);
}

/* A provider's one stream stays open for ever: any other call of its must be one-way. */
static void on_message(struct coord_peer *peer, json_t *message)
{
	const char *method = json_string_value(json_object_get(message, "method"));
	json_t *params = json_object_get(message, "parameters");
	bool oneway = json_is_true(json_object_get(message, "oneway"));

	if (!method || (params && !json_is_object(params) && !json_is_null(params))) {
		garbage(peer, "not a call: it needs a method and an object of parameters");
		return;
	}
	if ((peer->provider || peer->events) && !oneway) {
		garbage(peer,
			"calls of a provider, and of a writer that takes events, are one-way");
		return;
	}
	params = json_is_object(params) ? json_incref(params) : json_object();
	peer->busy = true;
	peer->oneway = oneway;
	peer->more = json_is_true(json_object_get(message, "more"));
	if (peer->session)
		coord_session_touch(peer->session);
	if (params)
		coord_call(peer, method, params);
	else
		coord_peer_reply(peer, NULL, -1);
	json_decref(params);
}

/* While a tree is held only those go on that end the hold: its provider and its requester (H-2). */
static bool may_run(const struct coord_peer *peer)
{
	const struct coord *core = &peer->server->core;

	if (peer->dead || peer->closing || (peer->busy && !peer->provider && !peer->events))
		return false;
	if (umbra_wire_queued(peer->wire) > REPLIES_MAX && !peer->provider)
		return false;
	return core->held == 0 || peer->provider || (peer->session && peer->session == core->slot);
}

static void run(struct coord_peer *peer)
{
	while (may_run(peer)) {
		json_t *message;
		int r = umbra_wire_next(peer->wire, &message, &peer->call_fd);

		if (r == 0)
			break;
		if (r < 0) {
			garbage(peer, umbra_wire_problem(peer->wire));
			break;
		}
		on_message(peer, message);
		json_decref(message);
		close_p(&peer->call_fd);
		peer->call_fd = -1;
	}
	if (!peer->dead && !peer->closing && umbra_wire_partial(peer->wire) < INPUT_MAX)
		ev_io_start(peer->server->loop, &peer->reader);
}

static void on_end(struct coord_peer *peer)
{
	run(peer);
	if (peer->dead || peer->closing)
		return;
	if (umbra_wire_partial(peer->wire) > 0 && !peer->busy && peer->server->core.held == 0)
		log_warn("process %d (user %u): the connection ended inside a message",
			 (int)peer->pid, (unsigned)peer->uid);
	if (peer->busy)
		coord_peer_close(peer);
	else
		close_after_output(peer);
}

static void on_readable(struct ev_loop *loop, ev_io *w, int events)
{
	struct coord_peer *peer = w->data;
	int r = umbra_stream_read(peer->sock, peer->wire);

	(void)loop;
	(void)events;
	if (r == -EAGAIN)
		return;
	if (r == 0) {
		on_end(peer);
		return;
	}
	if (r < 0) {
		if (r == -EPROTO || r == -ENOMEM)
			garbage(peer, umbra_wire_problem(peer->wire));
		else
			coord_peer_close(peer);
		return;
	}
	run(peer);
	/* A busy peer that goes on sending is left alone until it has its answer. */
	if (!peer->dead && umbra_wire_partial(peer->wire) >= INPUT_MAX && peer->busy &&
	    !peer->provider)
		ev_io_stop(loop, &peer->reader);
}

static void on_writable(struct ev_loop *loop, ev_io *w, int events)
{
	(void)loop;
	(void)events;
	flush(w->data);
}

void coord_peers_run(struct coord_server *srv)
{
	struct coord_peer *peer = TAILQ_FIRST(&srv->peers);

	while (peer) {
		struct coord_peer *next;

		run(peer);
		if (peer->closing && !peer->dead && umbra_wire_queued(peer->wire) == 0)
			coord_peer_close(peer);
		next = TAILQ_NEXT(peer, link);
		if (peer->dead)
			peer_free(peer);
		peer = next;
	}
}

void coord_peers_done(struct coord_server *srv)
{
	struct coord_peer *peer;

	TAILQ_FOREACH(peer, &srv->peers, link)
		coord_peer_close(peer);
	while ((peer = TAILQ_FIRST(&srv->peers)))
		peer_free(peer);
}

/* ---- the beginning ---- */

static void refuse_connection(struct coord_peer *peer, enum umbra_error e, const char *message)
{
	log_warn("process %d (user %u): refused: %s", (int)peer->pid, (unsigned)peer->uid, message);
	peer->busy = true;
	coord_peer_refuse(peer, e, message);
	if (!peer->dead)
		close_after_output(peer);
}

int coord_peer_new(struct coord_server *srv, int sock)
{
	struct coord_peer *peer = calloc(1, sizeof(*peer));
	int r;

	if (!peer) {
		close(sock);
		return -ENOMEM;
	}
	peer->server = srv;
	peer->sock = sock;
	peer->call_fd = -1;
	peer->wire = umbra_wire_new(UMBRA_WIRE_MAX);
	r = peer->wire ? identify(peer) : -ENOMEM;
	if (r == 0 && (peer->privileged || peer->uid == 0 || peer->uid == geteuid()))
		umbra_wire_allow_large(peer->wire);
	if (r < 0 && r != -EACCES) {
		umbra_wire_free(peer->wire);
		close(sock);
		free(peer);
		return r;
	}
	ev_io_init(&peer->reader, on_readable, sock, EV_READ);
	ev_io_init(&peer->writer, on_writable, sock, EV_WRITE);
	peer->reader.data = peer->writer.data = peer;
	TAILQ_INSERT_TAIL(&srv->peers, peer, link);
	srv->npeers++;
	if (r == -EACCES)
		refuse_connection(peer, UMBRA_E_ACCESS_DENIED,
				  "this coordinator serves another user");
	else if (srv->npeers > COORD_PEERS_MAX ||
		 (!peer->privileged && peers_of(srv, peer->uid) > COORD_PEERS_USER_MAX))
		refuse_connection(peer, UMBRA_E_OUT_OF_MEMORY, "too many connections");
	else
		ev_io_start(srv->loop, &peer->reader);
	return 0;
}
