/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/core.h"

#include "coordinator/drop.h"
#include "coordinator/session.h"
#include "cow/base/clock.h"
#include "cow/base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* More than can fail while one tree is away. */
#define DEAD_SETS_MAX 1024
#define LIMIT_MAX_MS (24 * 3600 * 1000)

void coord_limits_init(struct coord_limits *limits)
{
	*limits = (struct coord_limits){
		.hold_ms = COW_HOLD_MAX_MS,
		.flush_ms = 30000,
		.prepare_ms = 610000,
		.commit_ms = 10000,
		.drop_ms = 600000,
		.slot_started_ms = 180000,
		.slot_ms = 1800000,
		.identify_ms = 30000,
		.event_ms = 600000,
		.end_ms = 60000,
		.trees = COW_TREES_MAX,
		.snapshots = COW_SNAPSHOTS_MAX,
		.client_accessible = 64,
	};
}

void coord_core_init(struct coord *core)
{
	*core = (struct coord){ 0 };
	coord_limits_init(&core->limits);
	coord_timers_init(&core->timers, NULL, NULL);
	coord_registry_init(&core->registry, &core->timers);
	coord_writers_init(&core->writers, &core->timers);
	TAILQ_INIT(&core->sessions);
	TAILQ_INIT(&core->dead_sets);
}

int coord_limits_set(struct coord_limits *limits, const char *name, uint64_t ms)
{
	const struct {
		const char *name;
		uint32_t *limit_ms;
		uint64_t max_ms;
	} table[] = {
		{ "hold", &limits->hold_ms, COW_HOLD_MAX_MS }, /* T-2: not extensible */
		{ "flush", &limits->flush_ms, LIMIT_MAX_MS },
		{ "prepare", &limits->prepare_ms, LIMIT_MAX_MS },
		{ "commit", &limits->commit_ms, LIMIT_MAX_MS },
		{ "delete", &limits->drop_ms, LIMIT_MAX_MS },
		{ "slot-started", &limits->slot_started_ms, LIMIT_MAX_MS },
		{ "slot", &limits->slot_ms, LIMIT_MAX_MS },
		{ "identify", &limits->identify_ms, LIMIT_MAX_MS },
		{ "event", &limits->event_ms, LIMIT_MAX_MS },
		{ "end", &limits->end_ms, LIMIT_MAX_MS },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (strcmp(table[i].name, name) != 0)
			continue;
		if (ms == 0 || ms > table[i].max_ms)
			return -ERANGE;
		*table[i].limit_ms = (uint32_t)ms;
		return 0;
	}
	return -ENOENT;
}

void coord_core_done(struct coord *core)
{
	struct coord_dead_set *dead;

	assert(TAILQ_EMPTY(&core->sessions) && TAILQ_EMPTY(&core->registry.providers) &&
	       TAILQ_EMPTY(&core->writers.list));
	while ((dead = TAILQ_FIRST(&core->dead_sets))) {
		TAILQ_REMOVE(&core->dead_sets, dead, link);
		free(dead);
	}
}

int64_t coord_core_real_ns(const struct coord *core)
{
	return core->real_ns ? core->real_ns(core->real_clock) : (int64_t)clock_real_ns();
}

void coord_core_hold(struct coord *core, bool begin)
{
	bool before = core->holds > 0;

	assert(begin || core->holds > 0);
	core->holds = begin ? core->holds + 1 : core->holds - 1;
	if (core->on_hold && before != (core->holds > 0))
		core->on_hold(core->on_hold_data, core->holds > 0);
}

bool coord_core_idle(const struct coord *core)
{
	return TAILQ_EMPTY(&core->sessions) && core->drops == 0;
}

static bool is_dead_set(const struct coord *core, const char *set_id)
{
	const struct coord_dead_set *dead;

	TAILQ_FOREACH(dead, &core->dead_sets, link)
		if (strcmp(dead->id, set_id) == 0)
			return true;
	return false;
}

void coord_core_dead_set(struct coord *core, const char *set_id)
{
	struct coord_dead_set *dead;

	if (is_dead_set(core, set_id))
		return;
	if (core->ndead_sets == DEAD_SETS_MAX) {
		dead = TAILQ_LAST(&core->dead_sets, coord_dead_set_list);
		TAILQ_REMOVE(&core->dead_sets, dead, link);
		core->ndead_sets--;
	} else {
		dead = calloc(1, sizeof(*dead));
		if (!dead)
			return;
	}
	strcpy(dead->id, set_id);
	TAILQ_INSERT_HEAD(&core->dead_sets, dead, link);
	core->ndead_sets++;
}

/* ---- a provider comes ---- */

/* N-7: may this snapshot, found in a store, stay? What is persistent does (D-14). */
static bool may_stay(const struct coord *core, const struct coord_snapshot *sn)
{
	if (sn->s.state != COW_SNAP_CREATED || is_dead_set(core, sn->s.set_id))
		return false;
	return !cow_context_auto_release(sn->s.context) || coord_session_keeps(core, sn->s.set_id);
}

/* Doom what may not stay, on all trees: a member that was never created makes its whole set one
 * that never was (N-1). */
static void doom(struct coord *core, struct coord_provider *joined)
{
	struct coord_provider *p;
	struct coord_snapshot *sn;

	TAILQ_FOREACH(sn, &joined->snapshots, link)
		if (sn->s.state != COW_SNAP_CREATED)
			coord_core_dead_set(core, sn->s.set_id);
	TAILQ_FOREACH(p, &core->registry.providers, link)
		TAILQ_FOREACH(sn, &p->snapshots, link)
			sn->doomed = sn->doomed || !may_stay(core, sn);
}

static void drop_doomed(struct coord *core)
{
	struct coord_drop *d = coord_drop_new(core, COORD_DROP_FORCE | COORD_DROP_ALL);
	struct coord_provider *p;
	struct coord_snapshot *sn;

	if (!d)
		return; /* they stay doomed, and unseen */
	TAILQ_FOREACH(p, &core->registry.providers, link)
		TAILQ_FOREACH(sn, &p->snapshots, link)
			if (sn->doomed && coord_drop_add(d, sn->s.id) < 0)
				break;
	if (coord_drop_count(d) > 0) {
		log_info("dropping %zu snapshots that were left unfinished or whose session ended",
			 coord_drop_count(d));
		coord_drop_start(d, NULL, NULL);
	} else {
		coord_drop_free(d);
	}
}

int coord_core_join(struct coord *core, struct coord_tree *tree, uid_t uid,
		    struct coord_snapshot_list *snapshots, const struct coord_transport *transport,
		    void *data, struct coord_provider **ret)
{
	struct coord_provider *old = coord_registry_by_id(&core->registry, tree->id);
	int r;

	if (old) {
		const struct coord_transport *old_transport = old->transport;
		void *old_data = old->transport_data;

		log_warn("tree %s registered again, its older connection is given up", tree->id);
		coord_core_leave(core, old);
		if (old_transport->replaced)
			old_transport->replaced(old_data);
	}
	r = coord_provider_new(&core->registry, tree, uid, snapshots, transport, data, ret);
	if (r < 0)
		return r;
	doom(core, *ret);
	drop_doomed(core);
	return 0;
}

void coord_core_leave(struct coord *core, struct coord_provider *p)
{
	if (core->slot)
		coord_session_provider_lost(core->slot, p);
	coord_provider_lost(p);
}

/* ---- snapshots go by themselves ---- */

void coord_core_dropped(struct coord *core, struct coord_provider *p, const char *snapshot_id,
			const char *cause)
{
	struct coord_provider *owner;
	struct coord_snapshot *sn = coord_registry_snapshot(&core->registry, snapshot_id, &owner);

	if (!sn || owner != p)
		return;
	/* F-9. F-11: this one alone, not the others of its set. */
	log_warn("snapshot %s of tree %s was dropped: %s", sn->s.id, p->tree.id, cause);
	coord_provider_remove(p, sn);
}

void coord_core_purge(struct coord *core, struct coord_provider *p)
{
	size_t n = coord_provider_count(p, true);
	struct coord_drop *d;
	struct coord_snapshot *sn;

	if (n <= core->limits.client_accessible)
		return;
	d = coord_drop_new(core, COORD_DROP_FORCE | COORD_DROP_ALL);
	if (!d)
		return; /* the next creation tries again */
	TAILQ_FOREACH(sn, &p->snapshots, link) {
		if (n <= core->limits.client_accessible)
			break;
		if (cow_context_client_accessible(sn->s.context)) {
			(void)coord_drop_add(d, sn->s.id);
			n--;
		}
	}
	coord_drop_start(d, NULL, NULL);
}
