/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which call is whose (io.umbra.varlink); those about the coordinator itself and about operations. */
#include "coordinator/calls_private.h"

#include "coordinator/client/client.h"
#include "coordinator/interface.h"
#include "coordinator/name.h"
#include "coordinator/revert.h"
#include "cow/base/cleanup.h"
#include "cow/base/log.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

/* A wrong or missing parameter was answered: true. */
bool coord_call_refused_params(struct coord_peer *peer, const struct coord_params *p)
{
	if (!p->bad)
		return false;
	coord_peer_error(peer, "org.varlink.service.InvalidParameter", "parameter", p->bad);
	return true;
}

/* The answer to a call that has no results. */
void coord_call_answer(struct coord_peer *peer, enum umbra_error e, const struct coord_failure *f)
{
	if (e == UMBRA_OK)
		coord_peer_reply(peer, json_object(), -1);
	else
		coord_peer_fail(peer, f);
}

void coord_call_answer_operation(struct coord_peer *peer, enum umbra_error e,
				 const struct coord_operation *op, const struct coord_failure *f)
{
	if (e == UMBRA_OK)
		coord_peer_reply(peer, json_pack("{s:s}", "operation_id", op->id), -1);
	else
		coord_peer_fail(peer, f);
}

/* One connection is one session (S-1). NULL: out of memory, answered. */
struct coord_session *coord_call_session(struct coord_peer *peer)
{
	struct coord_failure f;

	if (peer->registered) {
		coord_peer_refuse(peer, UMBRA_E_BAD_STATE, "this connection is a writer's");
		return NULL;
	}
	if (!peer->session)
		peer->session = coord_session_new(&peer->server->core, peer->pid, peer->uid,
						  peer->privileged);
	if (!peer->session) {
		coord_no_memory(&f);
		coord_peer_fail(peer, &f);
	}
	return peer->session;
}

struct coord_session *coord_call_session_for(struct coord_peer *peer, const struct coord_params *p)
{
	return coord_call_refused_params(peer, p) ? NULL : coord_call_session(peer);
}

/* The table of 2.1 decides; false: answered. */
bool coord_call_allowed(struct coord_peer *peer, enum coord_call call)
{
	struct coord_session *s = coord_call_session(peer);
	struct coord_failure f;

	if (!s)
		return false;
	if (coord_session_check(s, call, &f) == UMBRA_OK)
		return true;
	coord_peer_fail(peer, &f);
	return false;
}

/* Start an operation of the session, and answer. */
static void start_operation(struct coord_peer *peer, coord_start_fn start)
{
	struct coord_session *s = coord_call_session(peer);
	struct coord_operation *op = NULL;
	struct coord_failure f;
	enum umbra_error e;

	if (!s)
		return;
	e = start(s, &op, &f);
	coord_call_answer_operation(peer, e, op, &f);
}

static void cancel_refresh(struct coord_peer *peer)
{
	coord_refresh_cancel(peer->refresh);
	peer->refresh = NULL;
}

/* Bring numbers up to date, then call fn(peer); params stay readable as peer->params. */
void coord_call_refresh_then(struct coord_peer *peer, json_t *params, enum coord_ask ask,
			     struct coord_provider *only, void (*fn)(void *peer))
{
	peer->params = json_incref(params);
	coord_call_refresh_again(peer, ask, only, fn);
}

void coord_call_refresh_again(struct coord_peer *peer, enum coord_ask ask,
			      struct coord_provider *only, void (*fn)(void *peer))
{
	peer->refresh = coord_refresh_start(&peer->server->core.registry, ask, only, fn, peer);
	if (peer->refresh)
		peer->cancel = cancel_refresh;
	else
		fn(peer);
}

/* ---- about the coordinator ---- */

static json_t *info(const struct coord_server *srv)
{
	char started[COORD_NAME_TIME_SIZE];
	json_t *o;

	coord_name_time(started, srv->started_ns);
	o = json_pack("{s:s, s:i, s:I, s:s}", "version", UMBRA_VERSION, "pid", (int)getpid(), "uid",
		      (json_int_t)geteuid(), "started", started);
	if (o && umbra_json_set_path(o, "socket", srv->opt.socket_path) < 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static void get_info(struct coord_peer *peer, json_t *params)
{
	(void)params;
	coord_peer_reply(peer, info(peer->server), -1);
}

static json_t *trees(const struct coord_peer *peer)
{
	const struct coord_provider *p;
	json_t *list = json_array();

	TAILQ_FOREACH(p, &peer->server->core.registry.providers, link)
		if (coord_peer_sees(peer, p) &&
		    json_array_append_new(list, coord_json_tree(p)) < 0) {
			json_decref(list);
			return NULL;
		}
	return list;
}

static json_t *sessions(const struct coord_peer *peer)
{
	const struct coord_session *s;
	json_t *list = json_array();

	TAILQ_FOREACH(s, &peer->server->core.sessions, link)
		if ((peer->privileged || s->uid == peer->uid) &&
		    json_array_append_new(list, coord_json_session(s)) < 0) {
			json_decref(list);
			return NULL;
		}
	return list;
}

static int add_warning(json_t *list, const struct coord_provider *p, const char *what)
{
	char where[LOG_QUOTE_SIZE];

	return json_array_append_new(
		list, json_sprintf("%s: %s", log_quote(where, sizeof(where), p->tree.path), what));
}

/* D-14: exposures that could not be made again. */
static int add_exposed_warnings(json_t *list, const struct coord_provider *p)
{
	const struct coord_snapshot *sn;
	int r = 0;

	TAILQ_FOREACH(sn, &p->snapshots, link) {
		CLEANUP(free_p) char *text = NULL;

		if (!coord_snapshot_shown(sn) || !sn->exposed_problem)
			continue;
		if (asprintf(&text, "snapshot %s is exposed, but not mounted: %s", sn->s.id,
			     sn->exposed_problem) < 0) {
			text = NULL;
			return -1;
		}
		r |= add_warning(list, p, text);
	}
	return r;
}

static json_t *warnings(const struct coord_peer *peer)
{
	const struct coord_provider *p;
	json_t *list = json_array();
	int r = list ? 0 : -1;

	TAILQ_FOREACH(p, &peer->server->core.registry.providers, link) {
		if (!coord_peer_sees(peer, p))
			continue;
		if (p->tree.fault)
			r |= add_warning(list, p, p->tree.fault);
		for (size_t i = 0; i < p->tree.nwarnings; i++)
			r |= add_warning(list, p, p->tree.warnings[i]);
		r |= add_exposed_warnings(list, p);
	}
	if (r == 0)
		return list;
	json_decref(list);
	return NULL;
}

static size_t count_snapshots(const struct coord_peer *peer)
{
	const struct coord_provider *p;
	const struct coord_snapshot *sn;
	size_t n = 0;

	TAILQ_FOREACH(p, &peer->server->core.registry.providers, link)
		TAILQ_FOREACH(sn, &p->snapshots, link)
			n += coord_peer_sees(peer, p) && coord_snapshot_shown(sn);
	return n;
}

static json_t *exposed(const struct coord_peer *peer)
{
	const struct coord_provider *p;
	const struct coord_snapshot *sn;
	json_t *list = json_array();
	int r = list ? 0 : -1;

	TAILQ_FOREACH(p, &peer->server->core.registry.providers, link)
		TAILQ_FOREACH(sn, &p->snapshots, link)
			if (coord_peer_sees(peer, p) && coord_snapshot_shown(sn) &&
			    sn->exposed_path)
				r |= json_array_append_new(list, coord_json_snapshot(p, sn));
	if (r == 0)
		return list;
	json_decref(list);
	return NULL;
}

static void reply_status(void *data)
{
	struct coord_peer *peer = data;

	peer->refresh = NULL;
	coord_peer_reply(peer,
			 json_pack("{s:o, s:o, s:o, s:I, s:o, s:o}", "info", info(peer->server),
				   "trees", trees(peer), "sessions", sessions(peer), "snapshots",
				   (json_int_t)count_snapshots(peer), "warnings", warnings(peer),
				   "exposed", exposed(peer)),
			 -1);
}

/* Sizes, then what is exposed: somebody may have unmounted it. */
static void status_list(void *data)
{
	coord_call_refresh_again(data, ASK_LIST, NULL, reply_status);
}

static void get_status(struct coord_peer *peer, json_t *params)
{
	coord_call_refresh_then(peer, params, ASK_USAGE, NULL, status_list);
}

static void reply_trees(void *data)
{
	struct coord_peer *peer = data;

	peer->refresh = NULL;
	coord_peer_reply(peer, json_pack("{s:o}", "trees", trees(peer)), -1);
}

static void list_trees(struct coord_peer *peer, json_t *params)
{
	coord_call_refresh_then(peer, params, ASK_USAGE, NULL, reply_trees);
}

static void find_tree(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	CLEANUP(free_p) char *path = coord_param_path(&p, "path", true);
	struct coord_provider *provider;
	const char *rest;
	json_t *o;

	if (coord_call_refused_params(peer, &p))
		return;
	provider = coord_registry_by_path(&peer->server->core.registry, path, &rest);
	if (!provider || !coord_peer_sees(peer, provider)) {
		coord_peer_refuse(peer, UMBRA_E_OBJECT_NOT_FOUND,
				  "the path is not in a protected tree");
		return;
	}
	o = json_pack("{s:o}", "tree", coord_json_tree(provider));
	if (o && umbra_json_set_path(o, "relative", rest) < 0) {
		json_decref(o);
		o = NULL;
	}
	coord_peer_reply(peer, o, -1);
}

/* ---- operations ---- */

/* The operation a call names; NULL: answered. */
static struct coord_operation *operation_of(struct coord_peer *peer, json_t *params,
					    int64_t *ret_timeout_ms)
{
	struct coord_params p = { .object = params };
	const char *id = coord_param_string(&p, "operation_id");
	int64_t timeout_ms = coord_param_int(&p, "timeout_ms", -1);
	struct coord_operation *op;

	if (coord_call_refused_params(peer, &p))
		return NULL;
	op = peer->session ? coord_session_operation(peer->session, id) : NULL;
	if (!op)
		coord_peer_refuse(peer, UMBRA_E_OBJECT_NOT_FOUND,
				  "this session has no such operation");
	if (ret_timeout_ms)
		*ret_timeout_ms = timeout_ms;
	return op;
}

static void reply_operation(struct coord_peer *peer, const struct coord_operation *op)
{
	coord_peer_reply(peer, json_pack("{s:o}", "operation", coord_json_operation(op)), -1);
}

static void query_operation(struct coord_peer *peer, json_t *params)
{
	struct coord_operation *op = operation_of(peer, params, NULL);

	if (op)
		reply_operation(peer, op);
}

static void cancel_wait(struct coord_peer *peer)
{
	coord_timer_disarm(&peer->server->core.timers, &peer->wait_limit);
	if (peer->operation->pending)
		coord_operation_wait(peer->operation, NULL, NULL);
	peer->operation = NULL;
}

static void on_operation_done(void *data, struct coord_operation *op)
{
	struct coord_peer *peer = data;

	coord_timer_disarm(&peer->server->core.timers, &peer->wait_limit);
	peer->operation = NULL;
	reply_operation(peer, op);
}

static void on_wait_limit(void *data)
{
	struct coord_peer *peer = data;
	struct coord_operation *op = peer->operation;

	cancel_wait(peer);
	reply_operation(peer, op);
}

static void wait_operation(struct coord_peer *peer, json_t *params)
{
	int64_t timeout_ms = -1;
	struct coord_operation *op = operation_of(peer, params, &timeout_ms);

	if (!op)
		return;
	if (!op->pending || timeout_ms == 0) {
		reply_operation(peer, op);
		return;
	}
	peer->operation = op;
	peer->cancel = cancel_wait;
	coord_operation_wait(op, on_operation_done, peer);
	if (timeout_ms > 0 && timeout_ms < INT32_MAX)
		coord_timer_arm(&peer->server->core.timers, &peer->wait_limit, (uint64_t)timeout_ms,
				on_wait_limit, peer);
}

static void cancel_operation(struct coord_peer *peer, json_t *params)
{
	struct coord_operation *op = operation_of(peer, params, NULL);

	if (op && op->pending && !coord_operation_cancellable(op))
		coord_peer_refuse(peer, UMBRA_E_BAD_STATE,
				  "a revert cannot be cancelled"); /* S-8 */
	else if (op)
		coord_peer_reply(peer,
				 json_pack("{s:s}", "status",
					   coord_session_cancel(peer->session, op)),
				 -1);
}

/* ---- what belongs to hardware providers (C-11) ---- */

static void break_snapshot_set(struct coord_peer *peer, json_t *params)
{
	struct coord_failure f;

	(void)params;
	coord_fail(&f, UMBRA_E_PROVIDER_VETO,
		   "snapshots here cannot be made independent of their tree");
	f.final = true; /* section 10 */
	coord_peer_fail(peer, &f);
}

static void not_supported(struct coord_peer *peer, json_t *params)
{
	(void)params;
	coord_peer_refuse(peer, UMBRA_E_NOT_SUPPORTED,
			  "this belongs to hardware providers, of which there are none");
}

/* ---- the standard interface ---- */

static void service_get_info(struct coord_peer *peer, json_t *params)
{
	(void)params;
	coord_peer_reply(peer,
			 json_pack("{s:s, s:s, s:s, s:s, s:[s,s]}", "vendor", "Umbra", "product",
				   "Umbra snapshot coordinator", "version", UMBRA_VERSION, "url",
				   "", "interfaces", "org.varlink.service", "io.umbra"),
			 -1);
}

static const char service_description[] =
	"interface org.varlink.service\n"
	"method GetInfo() -> (vendor: string, product: string, version: string, url: string, interfaces: []string)\n"
	"method GetInterfaceDescription(interface: string) -> (description: string)\n"
	"error InterfaceNotFound (interface: string)\n"
	"error MethodNotFound (method: string)\n"
	"error MethodNotImplemented (method: string)\n"
	"error InvalidParameter (parameter: string)\n"
	"error PermissionDenied ()\n"
	"error ExpectedMore ()\n";

static void service_get_description(struct coord_peer *peer, json_t *params)
{
	struct coord_params p = { .object = params };
	const char *name = coord_param_string(&p, "interface");

	if (coord_call_refused_params(peer, &p))
		return;
	if (strcmp(name, "io.umbra") == 0)
		coord_peer_reply(peer, json_pack("{s:s}", "description", coord_interface), -1);
	else if (strcmp(name, "org.varlink.service") == 0)
		coord_peer_reply(peer, json_pack("{s:s}", "description", service_description), -1);
	else
		coord_peer_error(peer, "org.varlink.service.InterfaceNotFound", "interface", name);
}

static const struct coord_method own_methods[] = {
	{ .name = "io.umbra.GetInfo", .call = get_info },
	{ .name = "io.umbra.GetStatus", .call = get_status },
	{ .name = "io.umbra.ListTrees", .call = list_trees },
	{ .name = "io.umbra.FindTree", .call = find_tree },
	{ .name = "io.umbra.QueryOperation", .call = query_operation },
	{ .name = "io.umbra.WaitOperation", .call = wait_operation },
	{ .name = "io.umbra.CancelOperation", .call = cancel_operation },
	{ .name = "io.umbra.BreakSnapshotSet", .call = break_snapshot_set },
	{ .name = "io.umbra.ImportSnapshots", .call = not_supported },
	{ .name = "io.umbra.MaskSnapshots", .call = not_supported },
	{ .name = "io.umbra.RegisterProvider", .call = coord_call_register_provider },
	{ .name = "io.umbra.ProviderAnswer", .call = coord_call_provider_answer },
	{ .name = "io.umbra.ProviderEvent", .call = coord_call_provider_event },
	{ .name = "io.umbra.RegisterWriter", .call = coord_call_register_writer },
	{ .name = "io.umbra.WriterEvents", .call = coord_call_writer_events },
	{ .name = "io.umbra.WriterAnswer", .call = coord_call_writer_answer },
	{ .name = "io.umbra.ListWriters", .call = coord_call_list_writers },
	{ .name = "io.umbra.Monitor", .call = coord_call_monitor },
	{ .name = "org.varlink.service.GetInfo", .call = service_get_info },
	{ .name = "org.varlink.service.GetInterfaceDescription", .call = service_get_description },
	{ 0 },
};

static const struct coord_method *const methods[] = {
	own_methods,
	coord_session_methods,
	coord_restore_methods,
	coord_snapshot_methods,
};

static bool is_interface(const char *method, const char *interface)
{
	const char *dot = strrchr(method, '.');
	size_t len = strlen(interface);

	return dot && (size_t)(dot - method) == len && strncmp(method, interface, len) == 0;
}

void coord_call(struct coord_peer *peer, const char *method, json_t *params)
{
	CLEANUP(free_p) char *interface = NULL;
	char *dot;

	for (size_t i = 0; i < COUNT(methods); i++)
		for (const struct coord_method *m = methods[i]; m->name; m++)
			if (strcmp(m->name, method) == 0) {
				if (m->call)
					m->call(peer, params);
				else
					start_operation(peer, m->start);
				return;
			}
	if (is_interface(method, "io.umbra") || is_interface(method, "org.varlink.service")) {
		coord_peer_error(peer, "org.varlink.service.MethodNotFound", "method", method);
		return;
	}
	interface = strdup(method);
	dot = interface ? strrchr(interface, '.') : NULL;
	if (dot)
		*dot = 0;
	coord_peer_error(peer, "org.varlink.service.InterfaceNotFound", "interface",
			 interface ? interface : "");
}
