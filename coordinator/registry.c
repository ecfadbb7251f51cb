/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/registry.h"

#include "coordinator/name.h"
#include "cow/base/cleanup.h"
#include "cow/base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct coord_pending {
	TAILQ_ENTRY(coord_pending) link;
	struct coord_provider *provider;
	uint64_t serial;
	enum coord_ask ask;
	enum umbra_error on_timeout;
	struct coord_timer limit;
	coord_answer_fn fn; /* NULL: nobody waits; kept for ASK_OPEN only */
	void *data;
};

static const char *const ask_names[ASK_COUNT] = {
	[ASK_PREPARE] = "prepare",   [ASK_UNPREPARE] = "unprepare", [ASK_HOLD] = "hold",
	[ASK_OPEN] = "open",	     [ASK_RELEASE] = "release",	    [ASK_COMMIT] = "commit",
	[ASK_DROP] = "drop",	     [ASK_USAGE] = "usage",	    [ASK_LIST] = "list",
	[ASK_SERVE] = "serve",	     [ASK_DIFF] = "diff",	    [ASK_EXPOSE] = "expose",
	[ASK_UNEXPOSE] = "unexpose", [ASK_REVERT] = "revert",
};

const char *coord_ask_name(enum coord_ask ask)
{
	assert(ask < ASK_COUNT);
	return ask_names[ask];
}

void coord_tree_done(struct coord_tree *tree)
{
	free(tree->path);
	free(tree->store);
	free(tree->snapshot_root);
	free(tree->fault);
	for (size_t i = 0; i < tree->nwarnings; i++)
		free(tree->warnings[i]);
	free(tree->warnings);
	*tree = (struct coord_tree){ 0 };
}

void coord_snapshot_free(struct coord_snapshot *sn)
{
	if (!sn)
		return;
	free(sn->s.extra);
	free(sn->exposed_path);
	free(sn->exposed_subdir);
	free(sn->exposed_problem);
	free(sn);
}

void coord_snapshots_done(struct coord_snapshot_list *list)
{
	struct coord_snapshot *sn;

	while ((sn = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, sn, link);
		coord_snapshot_free(sn);
	}
}

void coord_registry_init(struct coord_registry *reg, struct coord_timers *timers)
{
	TAILQ_INIT(&reg->providers);
	reg->timers = timers;
}

int coord_provider_new(struct coord_registry *reg, struct coord_tree *tree, uid_t uid,
		       struct coord_snapshot_list *snapshots,
		       const struct coord_transport *transport, void *data,
		       struct coord_provider **ret)
{
	struct coord_provider *p = calloc(1, sizeof(*p));
	struct coord_snapshot *sn;

	if (!p) {
		coord_tree_done(tree);
		coord_snapshots_done(snapshots);
		return -ENOMEM;
	}
	assert(!coord_registry_by_id(reg, tree->id));
	p->registry = reg;
	p->tree = *tree;
	*tree = (struct coord_tree){ 0 };
	p->uid = uid;
	p->transport = transport;
	p->transport_data = data;
	TAILQ_INIT(&p->pending);
	TAILQ_INIT(&p->snapshots);
	while ((sn = TAILQ_FIRST(snapshots))) {
		TAILQ_REMOVE(snapshots, sn, link);
		coord_provider_insert(p, sn);
	}
	TAILQ_INSERT_HEAD(&reg->providers, p, link);
	*ret = p;
	return 0;
}

static void pending_free(struct coord_pending *q)
{
	coord_timer_disarm(q->provider->registry->timers, &q->limit);
	TAILQ_REMOVE(&q->provider->pending, q, link);
	free(q);
}

static struct coord_answer failed_answer(enum umbra_error e, const char *message)
{
	return (struct coord_answer){ .error = e, .message = message, .fd = -1 };
}

void coord_provider_lost(struct coord_provider *p)
{
	struct coord_pending *q;

	/* Out of the list first: whoever is told now must not find it any more. */
	TAILQ_REMOVE(&p->registry->providers, p, link);
	while ((q = TAILQ_FIRST(&p->pending))) {
		struct coord_answer a = failed_answer(UMBRA_E_UNEXPECTED_PROVIDER_ERROR,
						      "the connection to the tree's umbrafs ended");
		coord_answer_fn fn = q->fn;
		void *data = q->data;

		pending_free(q);
		if (fn)
			fn(data, &a);
	}
	coord_snapshots_done(&p->snapshots);
	coord_tree_done(&p->tree);
	free(p);
}

static void on_limit(void *data)
{
	struct coord_pending *q = data;
	struct coord_answer a = failed_answer(q->on_timeout,
					      "the tree's umbrafs did not answer in time");
	coord_answer_fn fn = q->fn;
	void *fn_data = q->data;

	log_warn("tree %s: no answer to %s in time", q->provider->tree.id, coord_ask_name(q->ask));
	coord_pending_forget(q);
	if (fn)
		fn(fn_data, &a);
}

void coord_pending_forget(struct coord_pending *q)
{
	if (!q)
		return;
	q->fn = NULL;
	coord_timer_disarm(q->provider->registry->timers, &q->limit);
	if (q->ask != ASK_OPEN)
		pending_free(q);
}

int coord_provider_ask(struct coord_provider *p, struct coord_question *question, uint64_t limit_ms,
		       enum umbra_error on_timeout, coord_answer_fn fn, void *data,
		       struct coord_pending **ret)
{
	CLEANUP(free_p) struct coord_pending *q = calloc(1, sizeof(*q));
	int r;

	if (!q)
		return -ENOMEM;
	question->serial = ++p->serial;
	r = p->transport->send(p->transport_data, question);
	if (r < 0)
		return r;
	q->provider = p;
	q->serial = question->serial;
	q->ask = question->ask;
	q->on_timeout = on_timeout;
	q->fn = fn;
	q->data = data;
	coord_timer_arm(p->registry->timers, &q->limit, limit_ms, on_limit, q);
	TAILQ_INSERT_TAIL(&p->pending, q, link);
	if (ret)
		*ret = q;
	(void)TAKE(q);
	return 0;
}

static void drop_unwanted(struct coord_provider *p, uint64_t epoch)
{
	struct coord_question drop = { .ask = ASK_DROP, .epoch = epoch, .force = true };

	log_warn("tree %s: epoch %ju was opened too late, dropping it", p->tree.id,
		 (uintmax_t)epoch);
	/* If even this cannot be asked the epoch stays `opened`, and is dropped when the tree
	 * registers again (N-7). */
	(void)coord_provider_ask(p, &drop, 600000, UMBRA_E_UNEXPECTED_PROVIDER_ERROR, NULL, NULL,
				 NULL);
}

bool coord_provider_answer(struct coord_provider *p, uint64_t serial, struct coord_answer *answer)
{
	struct coord_pending *q;
	coord_answer_fn fn;
	enum coord_ask ask;
	void *data;

	TAILQ_FOREACH(q, &p->pending, link)
		if (q->serial == serial)
			break;
	if (!q)
		return false;
	fn = q->fn;
	data = q->data;
	ask = q->ask;
	pending_free(q);
	if (fn)
		fn(data, answer);
	else if (ask == ASK_OPEN && answer->error == UMBRA_OK)
		drop_unwanted(p, answer->epoch);
	return true;
}

struct coord_provider *coord_registry_by_id(struct coord_registry *reg, const char *tree_id)
{
	struct coord_provider *p;

	TAILQ_FOREACH(p, &reg->providers, link)
		if (strcmp(p->tree.id, tree_id) == 0)
			return p;
	return NULL;
}

struct coord_provider *coord_registry_by_path(struct coord_registry *reg, const char *path,
					      const char **ret_rest)
{
	struct coord_provider *p, *best = NULL;
	size_t best_len = 0;

	TAILQ_FOREACH(p, &reg->providers, link) {
		const char *rest = coord_name_inside(p->tree.path, path);
		size_t len = strlen(p->tree.path);

		if (rest && (!best || len > best_len)) {
			best = p;
			best_len = len;
			*ret_rest = rest;
		}
	}
	return best;
}

struct coord_snapshot *coord_registry_snapshot(struct coord_registry *reg, const char *id,
					       struct coord_provider **ret)
{
	struct coord_provider *p;
	struct coord_snapshot *sn;

	TAILQ_FOREACH(p, &reg->providers, link)
		TAILQ_FOREACH(sn, &p->snapshots, link)
			if (strcmp(sn->s.id, id) == 0) {
				if (ret)
					*ret = p;
				return sn;
			}
	return NULL;
}

bool coord_snapshot_shown(const struct coord_snapshot *sn)
{
	return sn->s.state == COW_SNAP_CREATED && !sn->doomed;
}

bool coord_provider_has_name(const struct coord_provider *p, const char *name)
{
	const struct coord_snapshot *sn;

	TAILQ_FOREACH(sn, &p->snapshots, link)
		if (strcmp(sn->s.name, name) == 0)
			return true;
	return false;
}

size_t coord_provider_count(const struct coord_provider *p, bool client_accessible_only)
{
	const struct coord_snapshot *sn;
	size_t n = 0;

	TAILQ_FOREACH(sn, &p->snapshots, link)
		n += !client_accessible_only || cow_context_client_accessible(sn->s.context);
	return n;
}

struct coord_snapshot *coord_provider_by_epoch(struct coord_provider *p, uint64_t epoch)
{
	struct coord_snapshot *sn;

	TAILQ_FOREACH(sn, &p->snapshots, link)
		if (sn->s.epoch == epoch)
			return sn;
	return NULL;
}

void coord_provider_remove(struct coord_provider *p, struct coord_snapshot *sn)
{
	TAILQ_REMOVE(&p->snapshots, sn, link);
	coord_snapshot_free(sn);
}

void coord_provider_insert(struct coord_provider *p, struct coord_snapshot *sn)
{
	struct coord_snapshot *before;

	sn->known_at = p->serial;
	TAILQ_FOREACH_REVERSE(before, &p->snapshots, coord_snapshot_list, link)
		if (before->s.epoch <= sn->s.epoch)
			break;
	if (before)
		TAILQ_INSERT_AFTER(&p->snapshots, before, sn, link);
	else
		TAILQ_INSERT_HEAD(&p->snapshots, sn, link);
}

static struct coord_snapshot *in_list(const struct coord_snapshot_list *list, uint64_t epoch)
{
	struct coord_snapshot *sn;

	TAILQ_FOREACH(sn, list, link)
		if (sn->s.epoch == epoch)
			return sn;
	return NULL;
}

static void exchange(char **a, char **b)
{
	char *was = *a;

	*a = *b;
	*b = was;
}

void coord_provider_owner(struct coord_provider *p, int64_t uid)
{
	if (uid < 0 || uid >= UINT32_MAX || p->uid == (uid_t)uid)
		return;
	log_info("tree %s: belongs to user %u now", LOG_QUOTE(p->tree.path), (unsigned)uid);
	p->uid = (uid_t)uid;
}

void coord_provider_usage(struct coord_provider *p, const struct coord_answer *a)
{
	p->tree.used_bytes = a->used_bytes;
	p->tree.allocated_bytes = a->allocated_bytes;
	p->tree.max_bytes = a->max_bytes;
	p->tree.revert = a->revert;
	coord_provider_owner(p, a->uid);
}

void coord_provider_update(struct coord_provider *p, uint64_t serial,
			   struct coord_snapshot_list *list)
{
	struct coord_snapshot *sn = TAILQ_FIRST(&p->snapshots);

	while (sn) {
		struct coord_snapshot *after = TAILQ_NEXT(sn, link);
		struct coord_snapshot *news = in_list(list, sn->s.epoch);

		if (news) {
			sn->s.stored_bytes = news->s.stored_bytes;
			sn->s.changed_files = news->s.changed_files;
			sn->in_use = news->in_use;
			exchange(&sn->exposed_path, &news->exposed_path);
			exchange(&sn->exposed_subdir, &news->exposed_subdir);
			exchange(&sn->exposed_problem, &news->exposed_problem);
		} else if (serial > sn->known_at) {
			coord_provider_remove(p, sn); /* the list was made after it became known */
		}
		sn = after;
	}
}
