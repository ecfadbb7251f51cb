/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/peer.h - one connection: a requester's session, a provider, or somebody who only
 *          asks; or a writer.
 * Job:     messages in and answers out, in order; who the peer is and what he may see; his end.
 *          What the calls do is in calls.c (requesters) and provider_calls.c.
 * Errors:  a peer that breaks the rules of messages gets one error reply and is disconnected;
 *          others are not affected.
 * Threads: one.
 * Rules:   D-9, D-10, S-12. A call that takes time leaves the peer busy; the next message is
 *          looked at after its answer, and never from within a callback of the core. */
#ifndef UMBRA_COORDINATOR_PEER_H
#define UMBRA_COORDINATOR_PEER_H

#include "coordinator/client/wire.h"
#include "coordinator/drop.h"
#include "coordinator/refresh.h"
#include "coordinator/server.h"
#include "coordinator/session.h"

#include <jansson.h>

struct coord_peer {
	TAILQ_ENTRY(coord_peer) link;
	struct coord_server *server;
	int sock;
	pid_t pid;
	uid_t uid;
	bool privileged; /* S-12 */
	ev_io reader, writer;
	struct umbra_wire *wire;

	struct coord_session *session;	 /* from the first call that needs one */
	struct coord_provider *provider; /* after RegisterProvider */
	struct coord_writer *registered; /* after RegisterWriter */
	bool events;			 /* after WriterEvents: the stream is open */
	char *watched;			 /* after Monitor: a session's id, or "" for all; owned */

	/* The call being carried out. */
	bool busy, oneway, more;
	int call_fd;				 /* came with it; owned until somebody takes it */
	void (*cancel)(struct coord_peer *peer); /* busy and waiting: forget the callbacks. NULL:
						    nothing to do */
	json_t *params;				 /* kept by calls that wait */
	struct coord_operation *operation;	 /* WaitOperation */
	struct coord_timer wait_limit;
	struct coord_refresh *refresh;
	struct coord_drop *drop;
	struct coord_pending *pending;

	bool closing; /* no more messages; freed when the output is sent or the limit over */
	bool dead;    /* nothing can be sent or received; freed in the next round */
	struct coord_timer close_limit;
};

/* Take over a connected socket (closed on failure too). Returns 0 or -errno. */
int coord_peer_new(struct coord_server *srv, int sock);

/* Go on with waiting messages; frees dead peers. From the loop only, never from callbacks of the
 * core. */
void coord_peers_run(struct coord_server *srv);

/* Disconnect; safe anywhere. The session is released, a provider is lost. */
void coord_peer_close(struct coord_peer *peer);

/* End all connections and free all peers: at exit. */
void coord_peers_done(struct coord_server *srv);

/* May the peer see that tree? */
bool coord_peer_sees(const struct coord_peer *peer, const struct coord_provider *p);

/* ---- answers: exactly one for each call (none is sent for one-way calls) ---- */

/* params: taken; NULL means that memory is lacking. fd: borrowed, or -1. */
void coord_peer_reply(struct coord_peer *peer, json_t *params, int fd);
/* One more of a stream (more=true); the call stays open. Returns 0 or -errno: nothing sent. */
int coord_peer_stream(struct coord_peer *peer, json_t *params, int fd);
void coord_peer_fail(struct coord_peer *peer, const struct coord_failure *f);
void coord_peer_refuse(struct coord_peer *peer, enum umbra_error e, const char *message);
/* An error of the standard interface: "org.varlink.service.InvalidParameter", "parameter", "tree".
 */
void coord_peer_error(struct coord_peer *peer, const char *error, const char *key,
		      const char *value);

/* ---- calls.c, provider_calls.c ---- */

/* Carry out a call; answers now or later. params: borrowed. */
void coord_call(struct coord_peer *peer, const char *method, json_t *params);

void coord_call_register_provider(struct coord_peer *peer, json_t *params);
void coord_call_provider_answer(struct coord_peer *peer, json_t *params);
void coord_call_provider_event(struct coord_peer *peer, json_t *params);

/* ---- writer_calls.c ---- */

void coord_call_register_writer(struct coord_peer *peer, json_t *params);
void coord_call_writer_events(struct coord_peer *peer, json_t *params);
void coord_call_writer_answer(struct coord_peer *peer, json_t *params);
void coord_call_list_writers(struct coord_peer *peer, json_t *params);
void coord_call_monitor(struct coord_peer *peer, json_t *params);
/* coord.on_news of a server: tell those who watch. */
void coord_peers_news(void *server, const struct coord_news *news);

#endif
