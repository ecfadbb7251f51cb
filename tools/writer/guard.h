/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tools/writer/guard.h - nobody may freeze those who have to thaw it (L-3).
 * Job:     whether this program, the coordinator or a provider is in what is to be frozen.
 * Errors:  see the functions.
 * Threads: one. */
#ifndef UMBRA_TOOLS_WRITER_GUARD_H
#define UMBRA_TOOLS_WRITER_GUARD_H

#include "tools/writer/freezer.h"

/**
 * Look for them in a cgroup of version 2 and all below it.
 * @dir   the cgroup's directory; one that is gone holds nobody
 * @name  what is to be frozen, for the message
 * @w     to hand the failure to, or NULL
 * Returns 0; TOOL_FAILED, said: one is inside (invalid-argument), or it cannot be known; TOOL_AGAIN, not
 * said: no coordinator runs, or a signal came before it answered.
 */
int guard_check(const char *dir, const char *name, struct umbra_writer *w);

/** The directory of a cgroup given as in /proc/PID/cgroup ("/system.slice/x.service"), malloc'ed;
 *  NULL when no cgroup file system of version 2 is mounted. */
char *guard_cgroup_dir(const char *cgroup);
/** The cgroup of a process as there, malloc'ed; NULL when it is gone. */
char *guard_cgroup_of(pid_t pid);

#endif
