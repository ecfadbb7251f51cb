/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/refresh.h - numbers that change by themselves, asked anew from all providers.
 * Job:     ask every provider one harmless question at once and say when all have answered.
 * Errors:  a provider that is silent or fails keeps the numbers it had.
 * Threads: the coordinator's one. */
#ifndef UMBRA_COORDINATOR_REFRESH_H
#define UMBRA_COORDINATOR_REFRESH_H

#include "coordinator/registry.h"

struct coord_refresh;

/**
 * Ask.
 * @ask   ASK_LIST (snapshots: sizes, in use) or ASK_USAGE (trees: bytes)
 * @only  one provider, or NULL for all
 * @fn    called once, later
 * Returns NULL when there is nothing to wait for: no provider, or no memory; fn is not called then.
 */
struct coord_refresh *coord_refresh_start(struct coord_registry *reg, enum coord_ask ask,
					  struct coord_provider *only, void (*fn)(void *data),
					  void *data);
/* fn is not called; frees. Before fn was called only; NULL is fine. */
void coord_refresh_cancel(struct coord_refresh *r);

#endif
