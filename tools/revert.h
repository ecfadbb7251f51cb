/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tools/revert.h - a tree becomes a snapshot again: what umbra revert and the shell's revert share.
 * Errors:  0 or an exit status, and it was said why.
 * Threads: the command has one. */
#ifndef UMBRA_TOOLS_REVERT_H
#define UMBRA_TOOLS_REVERT_H

#include <jansson.h>
#include <stdbool.h>

#include "coordinator/client/client.h"

/** Call Revert and wait for its end; a signal ends the waiting, not the revert. */
int revert_run(struct umbra_client *c, const json_t *snapshot, bool force);

#endif
