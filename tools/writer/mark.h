/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tools/writer/mark.h - the note "this is frozen by me", for whoever comes after a kill -9 (L-4).
 * Job:     one small file per kind and thing frozen, locked for as long as its writer program runs: a
 *          second program for the same thing would thaw what the first one froze.
 * Errors:  0 or -errno, ret_ arguments then untouched; writer_mark_open() talks to people.
 * Threads: one.
 * Rules:   set before anything is frozen, cleared only after it was thawed for sure. The file lies in
 *          --state DIR, else in writers/ beside the coordinator's socket. That is a directory which
 *          does not survive a reboot, as what is frozen does not; where it does, --state names one on
 *          disk, outside of what is protected. */
#ifndef UMBRA_TOOLS_WRITER_MARK_H
#define UMBRA_TOOLS_WRITER_MARK_H

#include "tools/writer/common.h"

struct writer_mark;

/**
 * Take the mark of this kind and key (a path, a name ...). Makes directories as needed, 0700.
 * @ret  owned by the caller: writer_mark_close()
 * Returns 0 or an exit status: another program has it, or the directory is not safe to use.
 */
int writer_mark_open(const struct writer_program *p, const char *key, struct writer_mark **ret);
/** What writer_mark_set() left behind, or what it said last; NULL when not set. Borrowed. */
const char *writer_mark_left(const struct writer_mark *m);
/** Before freezing; text, one line, is what writer_mark_left() gives after a crash. On failure do not
 *  freeze: nobody could undo it. */
int writer_mark_set(struct writer_mark *m, const char *text);
/** After thawing. */
int writer_mark_clear(struct writer_mark *m);
/** Lets go; the file stays only when it is set. NULL is fine. */
void writer_mark_close(struct writer_mark *m);

DEFINE_CLEANUP(writer_mark_close_p, struct writer_mark *, writer_mark_close)

#endif
