/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/targets.h - where a writer wants its components restored (protocol ).
 * Job:     check and apply what a writer answers to PreRestore.
 * Errors:  a static phrase for people; 0 or -ENOMEM.
 * Threads: any; pure.
 * Form:    [{"logical_path", "name", "target": "original" | "alternate" | "directed",
 *          "directed": [object]}], as in io.umbra.varlink. */
#ifndef UMBRA_COORDINATOR_TARGETS_H
#define UMBRA_COORDINATOR_TARGETS_H

#include <jansson.h>

/* NULL if it makes sense for those selected components, else what does not. */
const char *coord_targets_problem(const json_t *components, const json_t *targets);

/* Set `target`, and `directed` of directed ones, in the components. targets: without a problem.
 * Returns 0; -ENOMEM: some are set. */
int coord_targets_apply(json_t *components, const json_t *targets);

#endif
