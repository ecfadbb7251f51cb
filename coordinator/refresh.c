/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/refresh.h"

#include <assert.h>
#include <stdlib.h>

#define REFRESH_MS 2000 /* a listing with old numbers is better than a listing that hangs */

struct asked {
	struct coord_refresh *refresh;
	struct coord_provider *provider;
	struct coord_pending *pending; /* NULL: answered */
	uint64_t serial;
};

struct coord_refresh {
	enum coord_ask ask;
	void (*fn)(void *data);
	void *data;
	size_t waiting;
	size_t n;
	struct asked asked[];
};

static void on_answer(void *data, struct coord_answer *answer)
{
	struct asked *a = data;
	struct coord_refresh *r = a->refresh;

	a->pending = NULL;
	if (answer->error == UMBRA_OK && r->ask == ASK_LIST && answer->list) {
		coord_provider_update(a->provider, a->serial, answer->list);
	} else if (answer->error == UMBRA_OK && r->ask == ASK_USAGE) {
		coord_provider_usage(a->provider, answer);
	}
	if (--r->waiting == 0) {
		void (*fn)(void *fn_data) = r->fn;
		void *fn_data = r->data;

		free(r);
		fn(fn_data);
	}
}

static void ask_one(struct coord_refresh *r, struct coord_provider *p)
{
	struct coord_question q = { .ask = r->ask };
	struct asked *a = &r->asked[r->n];

	a->refresh = r;
	a->provider = p;
	if (coord_provider_ask(p, &q, REFRESH_MS, UMBRA_E_UNEXPECTED_PROVIDER_ERROR, on_answer, a,
			       &a->pending) < 0)
		return;
	a->serial = q.serial;
	r->n++;
	r->waiting++;
}

struct coord_refresh *coord_refresh_start(struct coord_registry *reg, enum coord_ask ask,
					  struct coord_provider *only, void (*fn)(void *data),
					  void *data)
{
	struct coord_provider *p;
	struct coord_refresh *r;
	size_t n = 0;

	assert(ask == ASK_LIST || ask == ASK_USAGE);
	TAILQ_FOREACH(p, &reg->providers, link)
		n++;
	r = calloc(1, sizeof(*r) + n * sizeof(r->asked[0]));
	if (!r)
		return NULL;
	r->ask = ask;
	r->fn = fn;
	r->data = data;
	TAILQ_FOREACH(p, &reg->providers, link)
		if (!only || p == only)
			ask_one(r, p);
	if (r->waiting > 0)
		return r;
	free(r);
	return NULL;
}

void coord_refresh_cancel(struct coord_refresh *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->n; i++)
		coord_pending_forget(r->asked[i].pending);
	free(r);
}
