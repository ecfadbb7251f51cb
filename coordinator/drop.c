/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/drop.h"

#include "cow/base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef char snapshot_id[COW_UUID_LEN + 1];

struct coord_drop {
	struct coord *core;
	unsigned flags;
	snapshot_id *ids;
	size_t n, at;
	struct coord_drop_result result;
	coord_drop_fn fn;
	void *data;
};

struct coord_drop *coord_drop_new(struct coord *core, unsigned flags)
{
	struct coord_drop *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->core = core;
	d->flags = flags;
	return d;
}

int coord_drop_add(struct coord_drop *d, const char *id)
{
	snapshot_id *ids = reallocarray(d->ids, d->n + 1, sizeof(*ids));

	if (!ids)
		return -ENOMEM;
	d->ids = ids;
	assert(strlen(id) <= COW_UUID_LEN);
	strcpy(d->ids[d->n++], id);
	return 0;
}

size_t coord_drop_count(const struct coord_drop *d)
{
	return d->n;
}

void coord_drop_free(struct coord_drop *d)
{
	if (!d)
		return;
	free(d->ids);
	free(d);
}

void coord_drop_forget(struct coord_drop *d)
{
	d->fn = NULL;
}

/* One is not deleted. True: go on with the next. */
static bool note_failure(struct coord_drop *d, enum umbra_error e, const char *message)
{
	const char *id = d->ids[d->at];

	if ((d->flags & COORD_DROP_ALL) && e == UMBRA_E_OBJECT_NOT_FOUND)
		return true;
	log_warn("snapshot %s not deleted: %s", id, message);
	if (!d->result.first_not_deleted) {
		d->result.first_not_deleted = id;
		coord_fail(&d->result.failure, e, "snapshot %s: %s", id, message);
	}
	return d->flags & COORD_DROP_ALL;
}

static void finish(struct coord_drop *d)
{
	d->core->drops--;
	if (d->fn)
		d->fn(d->data, &d->result);
	coord_drop_free(d);
}

static void run(struct coord_drop *d);

static void on_dropped(void *data, struct coord_answer *answer)
{
	struct coord_drop *d = data;
	struct coord_provider *p = NULL;
	struct coord_snapshot *sn = coord_registry_snapshot(&d->core->registry, d->ids[d->at], &p);

	if (answer->error == UMBRA_OK) {
		log_info("snapshot %s deleted", d->ids[d->at]);
		if (sn)
			coord_provider_remove(p, sn);
		d->result.deleted++;
	} else {
		if (answer->error == UMBRA_E_OBJECT_NOT_FOUND && sn)
			coord_provider_remove(p, sn); /* the provider knows best */
		if (!note_failure(d, answer->error, answer->message)) {
			finish(d);
			return;
		}
	}
	d->at++;
	run(d);
}

static int ask_drop(struct coord_drop *d, struct coord_provider *p, const struct coord_snapshot *sn)
{
	struct coord_question q = {
		.ask = ASK_DROP,
		.epoch = sn->s.epoch,
		.force = d->flags & COORD_DROP_FORCE,
	};

	return coord_provider_ask(p, &q, d->core->limits.drop_ms, UMBRA_E_UNEXPECTED_PROVIDER_ERROR,
				  on_dropped, d, NULL);
}

/* Ask for the next one; those that cannot even be asked for are passed over here, without
 * recursion. */
static void run(struct coord_drop *d)
{
	for (; d->at < d->n; d->at++) {
		struct coord_provider *p;
		struct coord_snapshot *sn = coord_registry_snapshot(&d->core->registry,
								    d->ids[d->at], &p);
		int r;

		if (!sn) {
			if (!note_failure(d, UMBRA_E_OBJECT_NOT_FOUND, "there is no such snapshot"))
				break;
			continue;
		}
		r = ask_drop(d, p, sn);
		if (r == 0)
			return;
		if (!note_failure(d, umbra_error_from_errno(r), "its umbrafs cannot be asked"))
			break;
	}
	finish(d);
}

void coord_drop_start(struct coord_drop *d, coord_drop_fn fn, void *data)
{
	d->core->drops++;
	d->fn = fn;
	d->data = data;
	run(d);
}
