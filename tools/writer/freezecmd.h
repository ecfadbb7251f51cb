/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tools/writer/freezecmd.h - other people's commands that freeze and thaw (systemctl, podman).
 * Job:     run one and take its answer.
 * Errors:  as child_run().
 * Threads: one. */
#ifndef UMBRA_TOOLS_WRITER_FREEZECMD_H
#define UMBRA_TOOLS_WRITER_FREEZECMD_H

#include "tools/writer/child.h"
#include "tools/writer/common.h"

struct freezecmd {
	char answer[CHILD_LINE];    /* the first line of its standard output */
	char why[CHILD_LINE + 128]; /* what went wrong, for people */
	int result;		    /* as child_run() */
};

/** Run argv. Never cut short by a signal to stop when @thaws. Returns 0 for exit status 0; else as
 *  child_run(), and c->why has the words. */
int freezecmd_run(struct freezecmd *c, char *const *argv, uint64_t deadline_ns, bool thaws);

/** Answer an event with what went wrong with it; w may be NULL. As writer_fail(). */
int freezecmd_failed(struct umbra_writer *w, const struct freezecmd *c);

#endif
