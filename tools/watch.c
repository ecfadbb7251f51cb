/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/watch.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "tools/common.h"

struct watch {
	struct umbra_client *client; /* the thread's, until it is joined */
	pthread_t thread;
};

/* "2026-01-31T23:59:59.123456789Z": the time of day to the millisecond, in UTC. */
static const char *time_of_day(const json_t *news, char ret[16])
{
	const char *time = tool_str(news, "time");

	ret[0] = 0;
	if (strlen(time) >= 23) {
		memcpy(ret, time + 11, 12);
		ret[12] = 0;
	}
	return ret;
}

static void tell(const json_t *news)
{
	const char *what = tool_str(news, "what"), *name = tool_str(news, "name");
	const char *writer = tool_str(news, "writer"), *code = tool_str(news, "code");
	const char *message = tool_str(news, "message");
	char time[16];

	time_of_day(news, time);
	if (strcmp(what, "step") == 0)
		log_debug("%s  %s", time, name);
	else if (strcmp(what, "event") == 0)
		log_debug("%s  %s: %s ...", time, LOG_QUOTE(writer), name);
	else
		log_debug("%s  %s: %s: %s%s%s%s%s", time, LOG_QUOTE(writer), name,
			  tool_str(news, "outcome"), *code ? ", " : "", code, *message ? ": " : "",
			  *message ? LOG_QUOTE(message) : "");
}

static void *run(void *data)
{
	struct watch *w = data;
	json_t *news;

	while (umbra_next(w->client, -1, &news, NULL, NULL) == 0) {
		tell(news);
		json_decref(news);
	}
	return NULL;
}

/* Signals are the main thread's, which looks for them. */
static int start(struct watch *w)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&w->thread, NULL, run, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

struct watch *watch_begin(const char *session_id)
{
	struct watch *w = tool_opts.verbose ? calloc(1, sizeof(*w)) : NULL;
	int r;

	if (!w)
		return NULL;
	r = umbra_connect(NULL, &w->client);
	if (r == 0)
		r = umbra_subscribe(w->client, "Monitor",
				    json_pack("{ss}", "session_id", session_id));
	if (r == 0)
		r = start(w);
	if (r == 0)
		return w;
	log_debug("what the writers do cannot be watched");
	umbra_close(w->client);
	free(w);
	return NULL;
}

void watch_end(struct watch *w)
{
	if (!w)
		return;
	/* Our side only: what was sent to us before is still read. */
	shutdown(umbra_client_fd(w->client), SHUT_WR);
	pthread_join(w->thread, NULL);
	umbra_close(w->client);
	free(w);
}
