/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cow/gate.h - flush-and-hold: every change passes the gate, and the gate can be closed for a moment.
 * Job:     keep changes and the opening of an epoch apart (I-1, I-2); free itself in time (I-6).
 * Threads: any. Rank GATE, the first of all locks: enter with no lock of ours held.  Rules: H-1 to H-5, H-7 (in place of FIFREEZE), T-2. */
#ifndef UMBRA_COW_GATE_H
#define UMBRA_COW_GATE_H

#include <stdbool.h>

#include "cow/cow.h"

/**
 * Pass the gate, shared, for one change; stay inside until the change is applied *and published* (names and
 * attributes that the caller keeps in memory). Never waits.
 * Returns false while a hold is in force: park the request and try again after on_gate_open.
 */
bool cow_gate_enter(struct cow_store *st);
void cow_gate_leave(struct cow_store *st);

/* Is a hold wanted or in force? Long changes look now and then, leave, and come again (-EAGAIN). */
bool cow_gate_closing(const struct cow_store *st);

/**
 * Close the gate and wait for the changes inside to leave.
 * Ends by itself `limit_ms` after the call (at most COW_HOLD_MAX_MS), by a timer of its own (H-3).
 * @wait_ms  how long to wait for running changes
 * Returns 0 with the hold in force; -ETIMEDOUT when changes did not leave in time, -EBUSY when a hold is in
 * force already: no hold by this call then.
 */
int cow_gate_hold(struct cow_store *st, unsigned wait_ms, unsigned limit_ms);

/**
 * Open the gate again and report it (on_gate_open).
 * Returns 0 when the hold had been in force without a break; -ETIMEDOUT when it had ended by itself before
 * (H-4: what was committed under it is void), -EINVAL when there was none.
 */
int cow_gate_release(struct cow_store *st);

#endif
