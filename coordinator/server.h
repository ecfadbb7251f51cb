/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/server.h - the running daemon: event loop, socket, connections.
 * Job:     what loop.c, peer.c and the calls share.
 * Errors:  0 or -errno.
 * Threads: one.
 * Rules:   H-2 while a tree is held nothing slow is begun and nothing is logged to a disk;
 *          S-12, T-13, D-9. */
#ifndef UMBRA_COORDINATOR_SERVER_H
#define UMBRA_COORDINATOR_SERVER_H

#include "coordinator/core.h"

#include <ev.h>
#include <stdbool.h>
#include <sys/types.h>

#define COORD_PEERS_MAX 1024	/* connections in all */
#define COORD_PEERS_USER_MAX 64 /* of one other user, to a system instance */

struct coord_server_options {
	const char *socket_path;	   /* absolute; borrowed for ever */
	bool system;			   /* serves other users too (S-12) */
	gid_t group;			   /* whose members are privileged there; (gid_t)-1: none */
	double idle_exit_s;		   /* 0: stays */
	const struct coord_limits *limits; /* NULL: the defaults */
	void (*ready)(void *data);	   /* called once, when the socket accepts; NULL fine */
	void *ready_data;
};

struct coord_peer;

struct coord_server {
	struct coord_server_options opt;
	struct coord core;
	int64_t started_ns;
	bool stopping; /* SIGTERM: sessions are being ended */

	struct ev_loop *loop;
	int listen_fd, lock_fd;
	dev_t socket_dev; /* of the socket's file as we made it */
	ino_t socket_ino;
	ev_io accept;
	ev_timer accept_again; /* out of descriptors: a pause */
	ev_timer limits;       /* the core's timers */
	ev_timer idle_exit;
	ev_timer stop_limit;
	ev_prepare before_wait;
	ev_idle kick; /* runs what must not run inside of callbacks */
	ev_signal term, interrupt;
	TAILQ_HEAD(coord_peer_list, coord_peer) peers;
	size_t npeers;
};

/* Take the lock and the socket, serve until told to stop. Returns 0; -EBUSY another one serves this
 * socket; -errno. */
int coord_server_run(const struct coord_server_options *opt);

/* Let peers that have something to do run after the current callbacks. */
void coord_server_kick(struct coord_server *srv);

#endif
