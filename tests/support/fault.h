/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/support/fault.h - fail or die at the Nth file operation of cow/.
 * Job:     counts the calls that pass cow/file.h and makes one of them fail or end the process.
 * Use:     for (n = 1;; n++) { fault_fail_nth(FAULT_CHANGES, n, -EIO); run(); check();
 *          if (fault_count() < n) break; }      fault_reset() when done.
 * Threads: the counters are atomic; arm and reset while nobody else calls cow/file.h. */
#ifndef UMBRA_TESTS_SUPPORT_FAULT_H
#define UMBRA_TESTS_SUPPORT_FAULT_H

#include "cow/file.h"

#define FAULT_OP(op) (1u << (op))
#define FAULT_ALL    (~0u)
/* What leaves a trace on disk: dying before a read is no different from dying before the next of these. */
#define FAULT_CHANGES                                                                              \
	(FAULT_ALL & ~(FAULT_OP(COW_OP_READ) | FAULT_OP(COW_OP_STAT) | FAULT_OP(COW_OP_SEEK)))

/* The exit status of a process that fault_crash_nth() ended. */
#define FAULT_CRASHED 86

/* The nth call (1: the next) of an operation in the mask fails with `error` (-errno), once; the
 * others go on. 0: none, only count. */
void fault_fail_nth(unsigned op_mask, unsigned n, int error);
/* The nth and every later one fail: a disk that is full, or gone. */
void fault_fail_from(unsigned op_mask, unsigned n, int error);
/* _exit(FAULT_CRASHED) instead of the nth call of FAULT_CHANGES: no handlers, no flush, as kill -9. */
void fault_crash_nth(unsigned n);
/* Calls in the mask since it was set, the failed ones too. */
unsigned fault_count(void);
/* Nothing fails, nothing is counted: the hook is taken out. */
void fault_reset(void);

#endif
