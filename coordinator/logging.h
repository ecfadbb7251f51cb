/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/logging.h - where the daemon's messages go, and that they wait while a tree is held.
 * Job:     destination; deferral.
 * Errors:  0 or -errno at the start; later messages are lost rather than waited for.
 * Threads: one.
 * Rules:   H-2: the log may lie in the very tree that is held, and writing it would wait for
 *          our own hold. */
#ifndef UMBRA_COORDINATOR_LOGGING_H
#define UMBRA_COORDINATOR_LOGGING_H

#include <stdbool.h>

/* path NULL: descriptor 2. */
int coord_logging_start(const char *path);

/* Descriptor 2 is going away; nothing changes if there is a log file. */
void coord_logging_to_syslog(void);

/* true: keep messages in memory (64 KiB, more are dropped); false: write out what was kept. */
void coord_logging_defer(bool defer);

#endif
