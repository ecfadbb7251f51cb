/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A writer's connection: its registration, events on its stream, its answers; and those who watch what
 * happens (io.umbra.varlink). */
#include "coordinator/peer.h"

#include "coordinator/json.h"
#include "coordinator/name.h"
#include "cow/base/cleanup.h"
#include "cow/base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A writer that misses an event would be out of step for good: what cannot be sent ends the connection, and
 * its library then goes on by itself (W-9). */
static int transport_send(void *data, const struct coord_writer_question *q)
{
	int r = coord_peer_stream(data,
				  json_pack("{s:I, s:s, s:s?, s:s?, s:O}", "serial",
					    (json_int_t)q->serial, "event",
					    coord_writer_event_name(q->event), "session_id",
					    q->session_id, "set_id", q->set_id, "arguments",
					    q->arguments),
				  -1);

	if (r < 0)
		coord_peer_close(data);
	return r;
}

static const struct coord_writer_transport transport = { .send = transport_send };

/* ---- registration ---- */

static bool read_handlers(const json_t *names, unsigned *ret)
{
	const json_t *name;
	size_t i;

	*ret = 0;
	json_array_foreach((json_t *)names, i, name) {
		int event = json_is_string(name)
				    ? coord_writer_event_from_name(json_string_value(name))
				    : -1;

		if (event < 0)
			return false;
		*ret |= 1u << event;
	}
	return json_is_array(names);
}

static bool copy(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return *to || !from;
}

/* Returns 0; -EINVAL and which member; -ENOMEM. On failure info is empty. */
static int read_info(json_t *params, struct coord_writer_info *info, const char **ret_bad)
{
	struct coord_params p = { .object = params };
	const char *class_id = coord_param_string(&p, "class_id"),
		   *name = coord_param_string(&p, "name"), *usage = coord_param_text(&p, "usage"),
		   *source = coord_param_text(&p, "source"), *level = coord_param_text(&p, "level"),
		   *instance_name = coord_param_text(&p, "instance_name");
	int64_t window_ms = coord_param_int(&p, "window_ms", COORD_WINDOW_MS);
	int at = level ? coord_writer_level_from_name(level) : LEVEL_FRONT_END;

	*info = (struct coord_writer_info){ 0 };
	*ret_bad = p.bad;
	if (!p.bad && at < 0)
		*ret_bad = "level";
	if (!*ret_bad && !read_handlers(json_object_get(params, "handlers"), &info->handlers))
		*ret_bad = "handlers";
	if (*ret_bad)
		return -EINVAL;
	info->level = (enum coord_writer_level)at;
	info->window_ms = window_ms < 0 || window_ms > UINT32_MAX ? 0 : (uint32_t)window_ms;
	if (copy(&info->class_id, class_id) && copy(&info->name, name) &&
	    copy(&info->usage, usage ? usage : "other") &&
	    copy(&info->source, source ? source : "other") &&
	    copy(&info->instance_name, instance_name))
		return 0;
	coord_writer_info_done(info);
	return -ENOMEM;
}

/* Who may stop the backups of others for a minute: whom this coordinator serves (S-12). W-1. */
static bool may_register(struct coord_peer *peer)
{
	if (!peer->privileged)
		coord_peer_refuse(peer, UMBRA_E_ACCESS_DENIED,
				  "writers here are run by those this coordinator serves alone");
	else if (peer->registered)
		coord_peer_refuse(peer, UMBRA_E_WRITER_ALREADY_SUBSCRIBED,
				  "this connection has registered a writer already");
	else if (peer->session || peer->provider)
		coord_peer_refuse(peer, UMBRA_E_BAD_STATE, "this connection is in use already");
	else
		return true;
	return false;
}

void coord_call_register_writer(struct coord_peer *peer, json_t *params)
{
	struct coord *core = &peer->server->core;
	struct coord_writer_info info;
	const char *bad, *problem;
	int r;

	if (!may_register(peer))
		return;
	r = read_info(params, &info, &bad);
	if (r == -EINVAL) {
		coord_peer_error(peer, "org.varlink.service.InvalidParameter", "parameter", bad);
		return;
	}
	problem = r == 0 ? coord_writer_info_problem(&info) : NULL;
	if (problem) {
		coord_writer_info_done(&info);
		coord_peer_refuse(peer, UMBRA_E_INVALID_ARGUMENT, problem);
		return;
	}
	if (r == 0)
		r = coord_writer_new(&core->writers, &info, peer->pid, peer->uid,
				     coord_core_real_ns(core), &transport, peer, &peer->registered);
	if (r < 0) {
		coord_peer_reply(peer, NULL, -1);
		return;
	}
	log_info("writer %s registered by process %d: %s", LOG_QUOTE(peer->registered->info.name),
		 (int)peer->pid, peer->registered->id);
	coord_peer_reply(peer, json_pack("{s:s}", "instance_id", peer->registered->id), -1);
}

void coord_call_writer_events(struct coord_peer *peer, json_t *params)
{
	(void)params;
	if (!peer->registered)
		coord_peer_refuse(peer, UMBRA_E_BAD_STATE, "RegisterWriter comes first");
	else if (!peer->more)
		coord_peer_error(peer, "org.varlink.service.ExpectedMore", "method",
				 "WriterEvents");
	else
		peer->events = peer->registered->ready = true; /* the call stays open */
}

void coord_call_writer_answer(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	int64_t serial = coord_param_int(&p, "serial", 0);
	const char *status = coord_param_string(&p, "status");
	struct coord_writer_answer a = {
		.code = coord_param_text(&p, "code"),
		.message = coord_param_text(&p, "message"),
		.window_over = coord_param_bool(&p, "window_over"),
		.document = json_object_get(params, "document"),
		.metadata = json_object_get(params, "metadata"),
		.targets = json_object_get(params, "targets"),
	};

	if (!peer->registered) {
		coord_peer_refuse(peer, UMBRA_E_BAD_STATE, "this connection is not a writer's");
		return;
	}
	if (p.bad || (strcmp(status, "ok") != 0 && strcmp(status, "fail") != 0)) {
		log_warn("writer %s answered nonsense (%s): disconnected",
			 LOG_QUOTE(peer->registered->info.name), p.bad ? p.bad : "status");
		coord_peer_reply(peer, json_object(), -1);
		coord_peer_close(peer);
		return;
	}
	if (json_is_null(a.document))
		a.document = NULL;
	if (json_is_null(a.targets))
		a.targets = NULL;
	if (!json_is_object(a.metadata))
		a.metadata = NULL;
	a.outcome = strcmp(status, "fail") == 0 ? OUTCOME_FAIL
		    : a.code			? OUTCOME_OK_CODE
						: OUTCOME_OK;
	if (!coord_writer_answer(peer->registered, (uint64_t)serial, &a))
		log_debug("writer %s: answer %ju came too late", peer->registered->id,
			  (uintmax_t)serial);
	coord_peer_reply(peer, json_object(), -1);
}

/* ---- listing ---- */

void coord_call_list_writers(struct coord_peer *peer, json_t *params)
{
	const struct coord_writer *w;
	json_t *writers = json_array(), *status = json_array();
	int r = 0;

	(void)params;
	if (!peer->privileged) {
		json_decref(writers);
		json_decref(status);
		coord_peer_refuse(peer, UMBRA_E_ACCESS_DENIED,
				  "writers are shown to those this coordinator serves alone");
		return;
	}
	TAILQ_FOREACH(w, &peer->server->core.writers.list, link) {
		r |= json_array_append_new(writers, coord_json_writer(w));
		r |= json_array_append_new(status, coord_json_row(w->id, &w->info, &w->row));
	}
	if (r == 0) {
		coord_peer_reply(peer,
				 json_pack("{s:o, s:o}", "writers", writers, "status", status), -1);
		return;
	}
	json_decref(writers);
	json_decref(status);
	coord_peer_reply(peer, NULL, -1);
}

/* ---- watching ---- */

void coord_call_monitor(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	const char *session_id = coord_param_text(&p, "session_id");

	if (p.bad) {
		coord_peer_error(peer, "org.varlink.service.InvalidParameter", "parameter", p.bad);
		return;
	}
	if (!peer->more) {
		coord_peer_error(peer, "org.varlink.service.ExpectedMore", "method", "Monitor");
		return;
	}
	if (peer->events || peer->provider || peer->watched) {
		coord_peer_refuse(peer, UMBRA_E_BAD_STATE, "this connection has a stream already");
		return;
	}
	peer->watched = strdup(session_id ? session_id : "");
	if (!peer->watched)
		coord_peer_reply(peer, NULL, -1);
}

static bool watches(const struct coord_peer *peer, const struct coord_news *news)
{
	const struct coord_session *s;

	if (!peer->watched || peer->dead || peer->closing ||
	    (peer->watched[0] && strcmp(peer->watched, news->session_id) != 0))
		return false;
	if (peer->privileged)
		return true;
	TAILQ_FOREACH(s, &peer->server->core.sessions, link)
		if (strcmp(s->id, news->session_id) == 0)
			return s->uid == peer->uid;
	return false;
}

void coord_peers_news(void *server, const struct coord_news *news)
{
	struct coord_server *srv = server;
	char time[COORD_NAME_TIME_SIZE];
	struct coord_peer *peer;

	coord_name_time(time, coord_core_real_ns(&srv->core));
	TAILQ_FOREACH(peer, &srv->peers, link) {
		if (!watches(peer, news))
			continue;
		(void)coord_peer_stream(
			peer,
			json_pack("{s:s, s:s, s:s?, s:s, s:s, s:s?, s:s?, s:s?, s:s?, s:o?}",
				  "time", time, "session_id", news->session_id, "set_id",
				  news->set_id, "what", news->what, "name", news->name, "writer",
				  news->writer, "instance_id", news->instance_id, "outcome",
				  news->outcome, "code",
				  news->code && news->code[0] ? news->code : NULL, "message",
				  news->message && news->message[0] ? coord_json_text(news->message)
								    : NULL),
			-1);
	}
}
