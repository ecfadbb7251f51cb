/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tools/writer/freezer.h - a writer that freezes one thing and thaws it.
 * Job:     the rules that are the same for all of those: the mark before the freeze (L-4), whose freeze
 *          an Abort may end, what somebody else froze is left alone, thawing at the start and the end.
 * Errors:  handlers return as umbra_writer_fn; freezer_run() an exit status.
 * Threads: one.
 * Rules:   W-4, W-11: a writer may be part of several sessions, and the Abort of one must not thaw what is
 *          frozen for another. A-14: Thaw and Abort may come without a Freeze. */
#ifndef UMBRA_TOOLS_WRITER_FREEZER_H
#define UMBRA_TOOLS_WRITER_FREEZER_H

#include "tools/writer/common.h"
#include "tools/writer/mark.h"

struct freezer;

/* w and e are NULL when a leftover is thawed at the start. Returns 0, or not, and it was said: with
 * writer_fail(). */
typedef int (*freezer_fn)(struct freezer *f, struct umbra_writer *w,
			  const struct umbra_writer_event *e, uint64_t deadline_ns);

struct freezer {
	/* Filled in by the kind; it may embed this as its first member. */
	struct writer_program p;
	struct umbra_writer_handlers handlers; /* what it wants beside the four compulsory ones */
	freezer_fn prepare;		       /* PrepareForSnapshot; NULL: nothing */
	/* Whether somebody froze it already, so that it is not ours to thaw: 1, 0, or -1 after
	 * writer_fail(). NULL: never. */
	freezer_fn is_frozen;
	freezer_fn freeze;
	freezer_fn thaw; /* also without a freeze, and again after a failure */

	struct writer_mark *mark;
	char session[64]; /* whose freeze it is; "" while not frozen */
};

/** Take the mark for this key, thaw a leftover, serve. Returns the exit status. */
int freezer_run(struct freezer *f, const char *key);

/* The handlers that it puts in place where f->handlers has none; data is the struct freezer. */
int freezer_on_prepare(struct umbra_writer *w, const struct umbra_writer_event *e, void *data);
int freezer_on_freeze(struct umbra_writer *w, const struct umbra_writer_event *e, void *data);
int freezer_on_thaw(struct umbra_writer *w, const struct umbra_writer_event *e, void *data);
int freezer_on_abort(struct umbra_writer *w, const struct umbra_writer_event *e, void *data);

#endif
