/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots that are there: listed, deleted, served, compared, exposed. */
#include "coordinator/calls_private.h"

#include "coordinator/client/client.h"
#include "coordinator/name.h"
#include "coordinator/revert.h"
#include "cow/base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SERVE_MS 10000
#define DIFF_MS 600000
#define EXPOSE_MS 60000

/* A snapshot this peer may see (N-4, S-12), or NULL. */
static struct coord_snapshot *find_snapshot(struct coord_peer *peer, const char *id,
					    struct coord_provider **ret)
{
	struct coord_snapshot *sn = coord_registry_snapshot(&peer->server->core.registry, id, ret);

	return sn && coord_snapshot_shown(sn) && coord_peer_sees(peer, *ret) ? sn : NULL;
}

static void refuse_snapshot(struct coord_peer *peer)
{
	coord_peer_refuse(peer, UMBRA_E_OBJECT_NOT_FOUND, "there is no such snapshot");
}

static void reply_properties(void *data)
{
	struct coord_peer *peer = data;
	struct coord_provider *p;
	struct coord_snapshot *sn =
		find_snapshot(peer, json_string_value(json_object_get(peer->params, "snapshot_id")),
			      &p);

	peer->refresh = NULL;
	if (sn)
		coord_peer_reply(peer, json_pack("{s:o}", "snapshot", coord_json_snapshot(p, sn)),
				 -1);
	else
		refuse_snapshot(peer);
}

static void get_snapshot_properties(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	const char *id = coord_param_string(&p, "snapshot_id");
	struct coord_provider *provider;

	if (coord_call_refused_params(peer, &p) ||
	    !coord_call_allowed(peer, CALL_GET_SNAPSHOT_PROPERTIES))
		return;
	if (find_snapshot(peer, id, &provider))
		coord_call_refresh_then(peer, params, ASK_LIST, provider, reply_properties);
	else
		refuse_snapshot(peer);
}

struct filter {
	const char *snapshot_id, *set_id;
	const struct coord_provider *tree; /* NULL: all */
	enum cow_context context;
};

static bool matches(const struct filter *want, const struct coord_provider *p,
		    const struct coord_snapshot *sn)
{
	if (!coord_snapshot_shown(sn) || (want->tree && want->tree != p))
		return false;
	if (want->context != COW_CTX_ALL && want->context != sn->s.context) /* C-2 */
		return false;
	if (want->snapshot_id && strcmp(want->snapshot_id, sn->s.id) != 0)
		return false;
	return !want->set_id || strcmp(want->set_id, sn->s.set_id) == 0;
}

static json_t *list_matching(const struct coord_peer *peer, const struct filter *want)
{
	const struct coord_provider *p;
	const struct coord_snapshot *sn;
	json_t *list = json_array();

	TAILQ_FOREACH(p, &peer->server->core.registry.providers, link)
		TAILQ_FOREACH(sn, &p->snapshots, link)
			if (coord_peer_sees(peer, p) && matches(want, p, sn) &&
			    json_array_append_new(list, coord_json_snapshot(p, sn)) < 0) {
				json_decref(list);
				return NULL;
			}
	return list;
}

/* Read again after the refresh: a tree may be gone by then. False: answered. */
static bool read_filter(struct coord_peer *peer, json_t *params, struct filter *ret)
{
	struct coord_params p = { .object = params };
	CLEANUP(free_p) char *tree = coord_param_path(&p, "tree", false);
	const char *rest;

	*ret = (struct filter){
		.snapshot_id = coord_param_text(&p, "snapshot_id"),
		.set_id = coord_param_text(&p, "set_id"),
		.context = peer->session->context,
	};
	if (coord_call_refused_params(peer, &p))
		return false;
	if (!tree)
		return true;
	ret->tree = coord_registry_by_path(&peer->server->core.registry, tree, &rest);
	if (ret->tree && coord_peer_sees(peer, ret->tree))
		return true;
	coord_peer_refuse(peer, UMBRA_E_OBJECT_NOT_FOUND, "the path is not in a protected tree");
	return false;
}

static void reply_query(void *data)
{
	struct coord_peer *peer = data;
	struct filter want;

	peer->refresh = NULL;
	if (read_filter(peer, peer->params, &want))
		coord_peer_reply(peer, json_pack("{s:o}", "snapshots", list_matching(peer, &want)),
				 -1);
}

static void query(struct coord_peer *peer, json_t *params)
{
	struct filter want;

	if (coord_call_allowed(peer, CALL_QUERY) && read_filter(peer, params, &want))
		coord_call_refresh_then(peer, params, ASK_LIST, (struct coord_provider *)want.tree,
					reply_query);
}

static void cancel_drop(struct coord_peer *peer)
{
	coord_drop_forget(peer->drop);
	peer->drop = NULL;
}

/* D-11. What was deleted stays deleted, so a later failure is part of the answer, not instead of
 * it. */
static void on_drop_done(void *data, const struct coord_drop_result *result)
{
	struct coord_peer *peer = data;
	const struct coord_failure *f = &result->failure;

	peer->drop = NULL;
	if (result->deleted == 0 && result->first_not_deleted) {
		coord_peer_fail(peer, f);
		return;
	}
	coord_peer_reply(peer,
			 json_pack("{s:I, s:s?, s:s?, s:s?}", "deleted",
				   (json_int_t)result->deleted, "first_not_deleted",
				   result->first_not_deleted, "error",
				   result->first_not_deleted ? umbra_error_name(f->error) : NULL,
				   "message", result->first_not_deleted ? f->message : NULL),
			 -1);
}

static int add_drops(struct coord_peer *peer, struct coord_drop *d, const char *id)
{
	struct coord_provider *p;
	const struct coord_snapshot *sn;

	TAILQ_FOREACH(p, &peer->server->core.registry.providers, link)
		TAILQ_FOREACH(sn, &p->snapshots, link) {
			if (!coord_snapshot_shown(sn) || !coord_peer_sees(peer, p))
				continue;
			if (strcmp(sn->s.id, id) != 0 && strcmp(sn->s.set_id, id) != 0)
				continue;
			if (coord_drop_add(d, sn->s.id) < 0)
				return -ENOMEM;
		}
	return 0;
}

static void delete_snapshots(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	const char *id = coord_param_string(&p, "id");
	bool force = coord_param_bool(&p, "force");
	struct coord_drop *d;

	if (coord_call_refused_params(peer, &p) || !coord_call_allowed(peer, CALL_DELETE_SNAPSHOTS))
		return;
	d = coord_drop_new(&peer->server->core, force ? COORD_DROP_FORCE : 0);
	if (!d || add_drops(peer, d, id) < 0) {
		coord_drop_free(d);
		coord_peer_reply(peer, NULL, -1);
		return;
	}
	if (coord_drop_count(d) == 0) {
		coord_drop_free(d);
		coord_peer_refuse(peer, UMBRA_E_OBJECT_NOT_FOUND,
				  "there is no such snapshot or snapshot set");
		return;
	}
	peer->drop = d;
	peer->cancel = cancel_drop;
	coord_drop_start(d, on_drop_done, peer);
}

/* ---- using a snapshot ---- */

static void cancel_pending(struct coord_peer *peer)
{
	coord_pending_forget(peer->pending);
	peer->pending = NULL;
}

static void refuse_answer(struct coord_peer *peer, const struct coord_answer *a)
{
	coord_peer_refuse(peer, a->error, a->message);
}

static void on_served(void *data, struct coord_answer *a)
{
	struct coord_peer *peer = data;

	peer->pending = NULL;
	if (a->error == UMBRA_OK)
		coord_peer_reply(peer, json_object(), -1);
	else
		refuse_answer(peer, a);
}

static void on_diff(void *data, struct coord_answer *a)
{
	struct coord_peer *peer = data;

	peer->pending = NULL;
	if (a->error != UMBRA_OK)
		refuse_answer(peer, a);
	else if (a->fd < 0)
		coord_peer_refuse(peer, UMBRA_E_UNEXPECTED_PROVIDER_ERROR,
				  "umbrafs sent no file of differences");
	else
		coord_peer_reply(peer, json_pack("{s:I}", "count", (json_int_t)a->count), a->fd);
}

static void ask_provider(struct coord_peer *peer, struct coord_provider *p,
			 struct coord_question *q, uint64_t limit_ms, coord_answer_fn fn)
{
	int r = coord_provider_ask(p, q, limit_ms, UMBRA_E_UNEXPECTED_PROVIDER_ERROR, fn, peer,
				   &peer->pending);

	if (r < 0)
		coord_peer_refuse(peer, UMBRA_E_UNEXPECTED_PROVIDER_ERROR,
				  "the tree's umbrafs cannot be asked");
	else
		peer->cancel = cancel_pending;
}

/* umbrafs mounts with its own rights at a place that the caller names, as mount(8) does for root, and brings back owners,
 * modes and files that only root may give; and whoever hands in a /dev/fuse to be served may keep it, take requests
 * before umbrafs does and answer as he likes. So only root and the user whose daemons these are may have it do so. A
 * member of the group or a tree's owner would get another's rights (S-12 lets them see and delete); they have
 * .snapshots and `umbra restore`. */
static bool has_its_rights(const struct coord_peer *peer)
{
	return peer->uid == 0 || peer->uid == geteuid();
}

static void serve_snapshot(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	const char *id = coord_param_string(&p, "snapshot_id");
	CLEANUP(free_p) char *mountpoint = coord_param_path(&p, "mountpoint", true);
	struct coord_question q = { .ask = ASK_SERVE,
				    .mountpoint = mountpoint,
				    .fd = peer->call_fd };
	struct coord_provider *provider;
	const struct coord_snapshot *sn;

	if (coord_call_refused_params(peer, &p) || !coord_call_allowed(peer, CALL_USE_SNAPSHOT))
		return;
	sn = find_snapshot(peer, id, &provider);
	if (!sn) {
		refuse_snapshot(peer);
		return;
	}
	if (!has_its_rights(peer)) {
		coord_peer_refuse(peer, UMBRA_E_ACCESS_DENIED,
				  "snapshots here are served to root alone (try: .snapshots in the "
				  "directory, umbra backup --in-place)");
		return;
	}
	if (peer->call_fd < 0) {
		coord_peer_refuse(peer, UMBRA_E_INVALID_ARGUMENT, "the open /dev/fuse is missing");
		return;
	}
	q.epoch = sn->s.epoch;
	ask_provider(peer, provider, &q, SERVE_MS, on_served);
}

static void diff(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	const char *id = coord_param_string(&p, "snapshot_id"),
		   *other = coord_param_text(&p, "other");
	struct coord_question q = { .ask = ASK_DIFF };
	struct coord_provider *provider, *other_provider = NULL;
	const struct coord_snapshot *a, *b = NULL;

	if (coord_call_refused_params(peer, &p) || !coord_call_allowed(peer, CALL_USE_SNAPSHOT))
		return;
	a = find_snapshot(peer, id, &provider);
	if (other)
		b = find_snapshot(peer, other, &other_provider);
	if (!a || (other && !b)) {
		refuse_snapshot(peer);
		return;
	}
	if (other && other_provider != provider) {
		coord_peer_refuse(peer, UMBRA_E_INVALID_ARGUMENT,
				  "the snapshots are of different trees");
		return;
	}
	q.epoch = a->s.epoch;
	q.other_epoch = b ? b->s.epoch : 0;
	ask_provider(peer, provider, &q, DIFF_MS, on_diff);
}

/* ---- exposing (C-10) ---- */

/* The snapshot that a call is about; NULL: answered. */
static struct coord_snapshot *find_exposable(struct coord_peer *peer, const char *id,
					     struct coord_provider **ret)
{
	struct coord_snapshot *sn = find_snapshot(peer, id, ret);

	if (!sn)
		refuse_snapshot(peer);
	else if (!has_its_rights(peer))
		coord_peer_refuse(
			peer, UMBRA_E_ACCESS_DENIED,
			"snapshots here are exposed by root alone (try: .snapshots in the directory)");
	else
		return sn;
	return NULL;
}

/* From the snapshot's root on, with or without a slash at the start; as "a/b", and "" for its root. */
static char *subdir_param(struct coord_params *p)
{
	CLEANUP(free_p) char *given = umbra_json_get_path(p->object, "subdir");
	CLEANUP(free_p) char *path = NULL;

	if (!given) {
		if (errno != ENOENT && !p->bad)
			p->bad = "subdir";
		return NULL;
	}
	if (asprintf(&path, "/%s", given) < 0) {
		path = NULL;
		return NULL;
	}
	if (!coord_name_normal_path(path)) {
		p->bad = p->bad ? p->bad : "subdir";
		return NULL;
	}
	memmove(path, path + 1, strlen(path));
	return TAKE(path);
}

/* The answer shows where it is. */
static void on_exposed(void *data, struct coord_answer *a)
{
	struct coord_peer *peer = data;
	const char *id = json_string_value(json_object_get(peer->params, "snapshot_id"));
	struct coord_provider *provider;

	peer->pending = NULL;
	if (a->error != UMBRA_OK)
		refuse_answer(peer, a);
	else if (!find_snapshot(peer, id, &provider))
		refuse_snapshot(peer);
	else
		coord_call_refresh_again(peer, ASK_LIST, provider, reply_properties);
}

static void expose(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	const char *id = coord_param_string(&p, "snapshot_id");
	CLEANUP(free_p) char *path = coord_param_path(&p, "path", false);
	CLEANUP(free_p) char *subdir = subdir_param(&p);
	struct coord_question q = { .ask = ASK_EXPOSE, .mountpoint = path, .subdir = subdir };
	struct coord_provider *provider;
	const struct coord_snapshot *sn;

	if (coord_call_refused_params(peer, &p) || !coord_call_allowed(peer, CALL_EXPOSE))
		return;
	sn = find_exposable(peer, id, &provider);
	if (!sn)
		return;
	if (!cow_context_persistent(sn->s.context) || /* C-7 */
	    cow_context_client_accessible(sn->s.context)) {
		coord_peer_refuse(
			peer, UMBRA_E_UNSUPPORTED_CONTEXT,
			"only snapshots of the contexts app-rollback and nas-rollback can be "
			"exposed (try: umbra mount)");
		return;
	}
	q.epoch = sn->s.epoch;
	peer->params = json_incref(params);
	ask_provider(peer, provider, &q, EXPOSE_MS, on_exposed);
}

static void unexpose(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	const char *id = coord_param_string(&p, "snapshot_id");
	struct coord_question q = { .ask = ASK_UNEXPOSE, .force = coord_param_bool(&p, "force") };
	struct coord_provider *provider;
	const struct coord_snapshot *sn;

	if (coord_call_refused_params(peer, &p) || !coord_call_allowed(peer, CALL_EXPOSE))
		return;
	sn = find_exposable(peer, id, &provider);
	if (!sn)
		return;
	q.epoch = sn->s.epoch;
	ask_provider(peer, provider, &q, EXPOSE_MS, on_served);
}

/* ---- reverting (X-10) ---- */

static void revert(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	const char *id = coord_param_string(&p, "snapshot_id");
	bool force = coord_param_bool(&p, "force");
	struct coord_operation *op = NULL;
	struct coord_session *s;
	struct coord_failure f;
	enum umbra_error e;

	if (coord_call_refused_params(peer, &p))
		return;
	s = coord_call_session(peer);
	if (!s)
		return;
	if (!has_its_rights(peer)) {
		coord_peer_refuse(peer, UMBRA_E_ACCESS_DENIED,
				  "trees here are reverted by root alone (try: umbra restore)");
		return;
	}
	e = coord_session_revert(s, id, force, &op, &f);
	coord_call_answer_operation(peer, e, op, &f);
}

const struct coord_method coord_snapshot_methods[] = {
	{ .name = "io.umbra.GetSnapshotProperties", .call = get_snapshot_properties },
	{ .name = "io.umbra.Query", .call = query },
	{ .name = "io.umbra.DeleteSnapshots", .call = delete_snapshots },
	{ .name = "io.umbra.ServeSnapshot", .call = serve_snapshot },
	{ .name = "io.umbra.Diff", .call = diff },
	{ .name = "io.umbra.Expose", .call = expose },
	{ .name = "io.umbra.Unexpose", .call = unexpose },
	{ .name = "io.umbra.Revert", .call = revert },
	{ 0 },
};
