/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/server.h"

#include "coordinator/logging.h"
#include "coordinator/peer.h"
#include "cow/base/cleanup.h"
#include "cow/base/clock.h"
#include "cow/base/err.h"
#include "cow/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define ACCEPT_BATCH 16
#define STOP_S                                                                                     \
	15.0 /* SIGTERM: the longest time for ending sessions; providers end holds themselves      \
		(H-3) */

/* ---- the socket ---- */

/* Who has the lock owns the socket's name, so a file left by a killed coordinator can be removed
 * without a race. The lock file itself stays: removing it would let two coordinators lock two files
 * of one name. */
static int take_lock(const char *socket_path, int *ret_fd)
{
	CLEANUP(close_p) int fd = -1;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 8];

	snprintf(path, sizeof(path), "%s.lock", socket_path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int remove_stale(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	return unlink(path) < 0 ? -errno : 0;
}

static int open_socket(const struct coord_server_options *opt, int *ret_fd)
{
	CLEANUP(close_p) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	mode_t mask;
	int r;

	if (fd < 0)
		return -errno;
	if (strlen(opt->socket_path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, opt->socket_path);
	r = remove_stale(opt->socket_path);
	if (r < 0)
		return r;
	mask = umask(0177); /* 0600 from its first moment */
	r = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
	umask(mask);
	if (r < 0)
		return r;
	if (opt->system &&
	    chmod(opt->socket_path, 0666) < 0) /* S-12: who may do what is asked of each peer */
		return -errno;
	if (listen(fd, 128) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static void remember_own(struct coord_server *srv)
{
	struct stat st;

	if (lstat(srv->opt.socket_path, &st) < 0)
		return;
	srv->socket_dev = st.st_dev;
	srv->socket_ino = st.st_ino;
}

/* Somebody may have replaced the directory, and another coordinator listen under that name now. */
static void remove_own(const struct coord_server *srv)
{
	struct stat st;

	if (lstat(srv->opt.socket_path, &st) == 0 && st.st_dev == srv->socket_dev &&
	    st.st_ino == srv->socket_ino)
		(void)unlink(srv->opt.socket_path);
}

/* ---- connections ---- */

/* Returns 1 accepted, 0 nobody there (or not now). */
static int accept_one(struct coord_server *srv)
{
	int sock = accept4(srv->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int r;

	if (sock >= 0) {
		r = coord_peer_new(srv, sock);
		if (r < 0)
			log_warn("connection refused: %s", err_text(r));
		return 1;
	}
	if (errno == ECONNABORTED || errno == EINTR)
		return 1;
	if (errno != EAGAIN &&
	    errno != EWOULDBLOCK) { /* out of descriptors: without a pause we would spin */
		log_warn("cannot accept connections: %s", err_text(-errno));
		ev_io_stop(srv->loop, &srv->accept);
		ev_timer_again(srv->loop, &srv->accept_again);
	}
	return 0;
}

static void on_connection(struct ev_loop *loop, ev_io *w, int events)
{
	(void)loop;
	(void)events;
	for (int i = 0; i < ACCEPT_BATCH && accept_one(w->data); i++)
		;
}

static void on_accept_again(struct ev_loop *loop, ev_timer *w, int events)
{
	struct coord_server *srv = w->data;

	(void)events;
	ev_timer_stop(loop, w);
	ev_io_start(loop, &srv->accept);
}

void coord_server_kick(struct coord_server *srv)
{
	ev_idle_start(srv->loop, &srv->kick);
}

static void on_kick(struct ev_loop *loop, ev_idle *w, int events)
{
	(void)events;
	ev_idle_stop(loop, w);
	coord_peers_run(w->data);
}

/* ---- time ---- */

static void on_limits(struct ev_loop *loop, ev_timer *w, int events)
{
	struct coord_server *srv = w->data;

	(void)loop;
	(void)events;
	coord_timers_run(&srv->core.timers);
}

static void on_idle_exit(struct ev_loop *loop, ev_timer *w, int events)
{
	struct coord_server *srv = w->data;

	(void)events;
	if (accept_one(srv)) /* somebody came at the last moment */
		return;
	log_info("nothing to do: exiting");
	ev_break(loop, EVBREAK_ALL);
}

static bool requesters_left(const struct coord_server *srv)
{
	const struct coord_peer *peer;

	TAILQ_FOREACH(peer, &srv->peers, link)
		if (!peer->provider && !peer->registered)
			return true;
	return false;
}

/* T-13: no exit while anything is being released or deleted. */
static void look_at_idleness(struct coord_server *srv)
{
	bool idle = srv->npeers == 0 && coord_core_idle(&srv->core);

	if (srv->opt.idle_exit_s <= 0 || !idle) {
		ev_timer_stop(srv->loop, &srv->idle_exit);
	} else if (!ev_is_active(&srv->idle_exit)) {
		ev_now_update(srv->loop);
		ev_timer_set(&srv->idle_exit, srv->opt.idle_exit_s, 0.);
		ev_timer_start(srv->loop, &srv->idle_exit);
	}
	if (srv->stopping && !requesters_left(srv) && coord_core_idle(&srv->core))
		ev_break(srv->loop, EVBREAK_ALL);
}

static void on_before_wait(struct ev_loop *loop, ev_prepare *w, int events)
{
	struct coord_server *srv = w->data;
	uint64_t next = coord_timers_next(&srv->core.timers);

	(void)events;
	look_at_idleness(srv);
	ev_timer_stop(loop, &srv->limits);
	if (next == CLOCK_NEVER)
		return;
	ev_now_update(loop);
	ev_timer_set(&srv->limits, (double)next / (double)CLOCK_NS_PER_SEC, 0.);
	ev_timer_start(loop, &srv->limits);
}

/* H-2. */
static void on_hold(void *data, bool hold)
{
	coord_logging_defer(hold);
	if (!hold)
		coord_server_kick(data); /* those who had to wait */
}

/* ---- the end ---- */

static void on_stop_limit(struct ev_loop *loop, ev_timer *w, int events)
{
	(void)w;
	(void)events;
	log_warn("exiting before everything was released");
	ev_break(loop, EVBREAK_ALL);
}

/* An orderly end: what is under way is aborted and every session released, with the providers and
 * writers still there to undo, thaw and be told (A-3, D-8). A second signal does not wait. */
static void on_signal(struct ev_loop *loop, ev_signal *w, int events)
{
	struct coord_server *srv = w->data;
	struct coord_session *s, *next;
	struct coord_peer *peer;

	(void)events;
	if (srv->stopping) {
		ev_break(loop, EVBREAK_ALL);
		return;
	}
	log_info("told to stop");
	srv->stopping = true;
	ev_io_stop(loop, &srv->accept);
	ev_timer_stop(loop, &srv->accept_again);
	remove_own(srv);
	for (s = TAILQ_FIRST(&srv->core.sessions); s; s = next) {
		next = TAILQ_NEXT(s, link);
		coord_session_shut_down(s);
	}
	TAILQ_FOREACH(peer, &srv->peers, link)
		if (!peer->provider && !peer->registered)
			coord_peer_close(peer);
	ev_timer_start(loop, &srv->stop_limit);
}

/* ---- the whole ---- */

static void start_watchers(struct coord_server *srv)
{
	struct ev_loop *loop = srv->loop;

	ev_io_init(&srv->accept, on_connection, srv->listen_fd, EV_READ);
	ev_timer_init(&srv->accept_again, on_accept_again, 0., 0.2);
	ev_timer_init(&srv->limits, on_limits, 0., 0.);
	ev_timer_init(&srv->idle_exit, on_idle_exit, 0., 0.);
	ev_timer_init(&srv->stop_limit, on_stop_limit, STOP_S, 0.);
	ev_prepare_init(&srv->before_wait, on_before_wait);
	ev_idle_init(&srv->kick, on_kick);
	ev_set_priority(&srv->kick, EV_MAXPRI); /* once a round, not only when the loop is idle */
	ev_signal_init(&srv->term, on_signal, SIGTERM);
	ev_signal_init(&srv->interrupt, on_signal, SIGINT);
	srv->accept.data = srv->accept_again.data = srv->limits.data = srv->idle_exit.data = srv;
	srv->stop_limit.data = srv->before_wait.data = srv->kick.data = srv;
	srv->term.data = srv->interrupt.data = srv;
	ev_io_start(loop, &srv->accept);
	ev_prepare_start(loop, &srv->before_wait);
	ev_signal_start(loop, &srv->term);
	ev_signal_start(loop, &srv->interrupt);
}

int coord_server_run(const struct coord_server_options *opt)
{
	struct coord_server srv = { .opt = *opt, .listen_fd = -1, .lock_fd = -1 };
	int r;

	r = take_lock(opt->socket_path, &srv.lock_fd);
	if (r < 0)
		return r;
	r = open_socket(opt, &srv.listen_fd);
	if (r < 0) {
		close_p(&srv.lock_fd);
		return r;
	}
	srv.loop = ev_default_loop(EVFLAG_NOENV);
	if (!srv.loop) {
		close_p(&srv.listen_fd);
		close_p(&srv.lock_fd);
		return -ENOMEM;
	}
	remember_own(&srv);
	coord_core_init(&srv.core);
	if (opt->limits)
		srv.core.limits = *opt->limits;
	srv.core.on_hold = on_hold;
	srv.core.on_hold_data = &srv;
	srv.core.on_news = coord_peers_news;
	srv.core.on_news_data = &srv;
	srv.started_ns = coord_core_real_ns(&srv.core);
	TAILQ_INIT(&srv.peers);
	start_watchers(&srv);
	log_info("listening on %s", LOG_QUOTE(opt->socket_path));
	if (opt->ready)
		opt->ready(opt->ready_data);
	ev_run(srv.loop, 0);

	if (!srv.stopping)
		remove_own(&srv);
	coord_peers_done(&srv);
	coord_core_done(&srv.core);
	ev_loop_destroy(srv.loop);
	close_p(&srv.listen_fd);
	close_p(&srv.lock_fd);
	return 0;
}
