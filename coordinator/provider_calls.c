/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A provider's connection: its registration, our questions on its stream, its answers and events
 * (io.umbra.varlink). */
#include "coordinator/peer.h"

#include "coordinator/json.h"
#include "cow/base/cleanup.h"
#include "cow/base/err.h"
#include "cow/base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WARNINGS_MAX 16

static int transport_send(void *data, const struct coord_question *q)
{
	return coord_peer_stream(data, coord_json_question(q), q->ask == ASK_SERVE ? q->fd : -1);
}

static void transport_replaced(void *data)
{
	struct coord_peer *peer = data;

	peer->provider = NULL;
	coord_peer_close(peer);
}

static const struct coord_transport transport = {
	.send = transport_send,
	.replaced = transport_replaced,
};

static void on_usage(void *data, struct coord_answer *a)
{
	struct coord_peer *peer = data;

	if (a->error == UMBRA_OK && peer->provider)
		coord_provider_usage(peer->provider, a);
}

/* The first question tells the provider that it is registered: the stream has no other first
 * answer. */
static void ask_usage(struct coord_peer *peer)
{
	struct coord_question q = { .ask = ASK_USAGE };

	(void)coord_provider_ask(peer->provider, &q, 10000, UMBRA_E_UNEXPECTED_PROVIDER_ERROR,
				 on_usage, peer, NULL);
}

/* While a tree is held the answers of providers come before everything else. */
static void raise_priority(struct coord_peer *peer)
{
	ev_io_stop(peer->server->loop, &peer->reader);
	ev_set_priority(&peer->reader, EV_MAXPRI);
	ev_io_start(peer->server->loop, &peer->reader);
}

static void refuse_registration(struct coord_peer *peer, int r, const char *bad)
{
	log_warn("process %d: registration of a tree refused: %s %s", (int)peer->pid, err_text(r),
		 bad);
	if (r == -EINVAL)
		coord_peer_error(peer, "org.varlink.service.InvalidParameter", "parameter", bad);
	else
		coord_peer_reply(peer, NULL, -1);
}

void coord_call_register_provider(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	int64_t uid = coord_param_int(&p, "uid", -1);
	struct coord_snapshot_list snapshots;
	struct coord_tree tree;
	const char *bad = "uid";
	int r;

	if (!peer->more) {
		coord_peer_error(peer, "org.varlink.service.ExpectedMore", "method",
				 "RegisterProvider");
		return;
	}
	/* Whoever serves a tree decides what backups of it contain: not for everybody (S-12). */
	if (peer->uid != 0 && peer->uid != geteuid()) {
		coord_peer_refuse(peer, UMBRA_E_ACCESS_DENIED,
				  "trees here are served by this coordinator's user alone");
		return;
	}
	if (peer->session || peer->provider || peer->registered) {
		coord_peer_refuse(peer, UMBRA_E_BAD_STATE, "this connection is in use already");
		return;
	}
	r = uid < 0 || uid > UINT32_MAX
		    ? -EINVAL
		    : coord_json_read_tree(json_object_get(params, "tree"), &tree, &bad);
	if (r == 0) {
		r = coord_json_read_snapshots(json_object_get(params, "snapshots"), &snapshots,
					      &bad);
		if (r < 0)
			coord_tree_done(&tree);
	}
	if (r == 0)
		r = coord_core_join(&peer->server->core, &tree, (uid_t)uid, &snapshots, &transport,
				    peer, &peer->provider);
	if (r < 0) {
		refuse_registration(peer, r, bad);
		return;
	}
	log_info("tree %s: served by process %d", LOG_QUOTE(peer->provider->tree.path),
		 (int)peer->pid);
	raise_priority(peer);
	ask_usage(peer);
}

void coord_call_provider_answer(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	int64_t serial = coord_param_int(&p, "serial", 0);
	struct coord_snapshot_list list;
	struct coord_answer a;
	const char *bad = "serial";
	int r;

	if (!peer->provider) {
		coord_peer_refuse(peer, UMBRA_E_BAD_STATE, "this connection is not a provider's");
		return;
	}
	r = p.bad ? -EINVAL : coord_json_read_answer(params, &a, &list, &bad);
	if (r < 0) {
		log_warn("tree %s: its umbrafs answered nonsense (%s): disconnected",
			 peer->provider->tree.id, bad);
		coord_peer_reply(peer, json_object(), -1);
		coord_peer_close(peer);
		return;
	}
	a.fd = peer->call_fd;
	peer->call_fd = -1;
	if (!coord_provider_answer(peer->provider, (uint64_t)serial, &a))
		log_debug("tree %s: answer %ju came too late", peer->provider->tree.id,
			  (uintmax_t)serial);
	close_p(&a.fd);
	coord_snapshots_done(&list);
	coord_peer_reply(peer, json_object(), -1);
}

static void set_text(char **text, const char *to)
{
	free(*text);
	*text = to ? strdup(to) : NULL;
}

/* The newest WARNINGS_MAX are kept. */
static void add_warning(struct coord_tree *tree, const char *text)
{
	char **list = reallocarray(tree->warnings, tree->nwarnings + 1, sizeof(*list));

	if (!list)
		return;
	tree->warnings = list;
	if (tree->nwarnings == WARNINGS_MAX) {
		free(list[0]);
		memmove(list, list + 1, --tree->nwarnings * sizeof(*list));
	}
	list[tree->nwarnings] = strdup(text);
	if (list[tree->nwarnings])
		tree->nwarnings++;
}

void coord_call_provider_event(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	const char *event = coord_param_string(&p, "event"),
		   *id = coord_param_text(&p, "snapshot_id");
	const char *cause = coord_param_text(&p, "cause"),
		   *message = coord_param_text(&p, "message");
	const char *text = message ? message : cause ? cause : "no reason given";
	struct coord_tree *tree;

	if (!peer->provider || p.bad) {
		coord_peer_refuse(peer, UMBRA_E_BAD_STATE, "not a provider's event");
		return;
	}
	tree = &peer->provider->tree;
	if (strcmp(event, "dropped") == 0 && id) {
		coord_core_dropped(&peer->server->core, peer->provider, id, cause ? cause : text);
	} else if (strcmp(event, "fault") == 0) {
		log_error("tree %s: fault: %s", LOG_QUOTE(tree->path), text);
		set_text(&tree->fault, text);
	} else if (strcmp(event, "fault-cleared") == 0) {
		set_text(&tree->fault, NULL);
	} else if (strcmp(event, "owner") == 0) {
		coord_provider_owner(peer->provider, coord_param_int(&p, "uid", -1));
	} else if (strcmp(event, "revert") == 0) {
		coord_json_read_revert(params, &tree->revert);
	} else {
		log_warn("tree %s: %s: %s", LOG_QUOTE(tree->path), event, text);
		add_warning(tree, text);
	}
	coord_peer_reply(peer, json_object(), -1);
}
