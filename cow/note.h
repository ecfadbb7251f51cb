/* cow/note.h - small texts kept in a store beside its snapshots.
 * Job:     write and read one whole text by its name; what it means is the file-system side's business.
 * Errors:  0 or -errno, ret_ arguments then untouched.
 * Threads: any; two that write the same note at once: one of the two texts is there afterwards, whole.
 * Rules:   a note is on disk at the return of its writing, and replaced in one step: after a crash it is the old text or
 *	    the new one. A store that is taken away takes its notes along. */
#ifndef UMBRA_COW_NOTE_H
#define UMBRA_COW_NOTE_H

#include "cow/cow.h"

#define COW_NOTE_MAX (4u * 1024 * 1024) /* bytes; a longer one is refused, and found damaged */

/**
 * Replace a note.
 * @name  letters only; becomes the file NAME.note of the store
 * @len   0: there is none any more
 * Returns 0; -E2BIG; -ENOSPC ... as met: the old text is still there.
 */
int cow_note_write(struct cow_store *st, const char *name, const void *bytes, size_t len);

/* The text, malloc'ed, with a NUL behind it. Returns 0; -ENOENT there is none; -EUCLEAN longer than
 * COW_NOTE_MAX; -ENOMEM; -EIO. */
int cow_note_read(struct cow_store *st, const char *name, char **ret, size_t *ret_len);

#endif
