/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/extra.h - what the coordinator keeps with a snapshot in its store.
 * Job:     properties of a snapshot to and from the `extra` text that the provider stores
 *          without reading it.
 * Errors:  0 or -errno.
 * Threads: any; pure.
 * Form:    one JSON object {"version": 1, "description": ..., "writers": [...]}; unknown
 *          members are kept by never being rewritten (M-10). A text that makes no sense reads
 *          as one without members: the snapshot stays usable. */
#ifndef UMBRA_COORDINATOR_EXTRA_H
#define UMBRA_COORDINATOR_EXTRA_H

#include <jansson.h>

/* A registration carries the texts of up to 512 snapshots, quoted once more, in 16 MiB. */
#define COORD_EXTRA_MAX 8192

/* @description NULL: none.  @ret  malloc'ed, at most COORD_EXTRA_MAX bytes. Returns 0; -ENOMEM;
 * -E2BIG. */
int coord_extra_print(const char *description, char **ret);

/**
 * The same text with how the writers fared.
 * @extra  NULL: there was none
 * @rows   array, borrowed; those that find no room are left out, and counted in "writers_left_out"
 * Returns 0, ret as above; -ENOMEM.
 */
int coord_extra_add_writers(const char *extra, json_t *rows, char **ret);

/* A new reference to an object, perhaps an empty one; extra may be NULL. NULL: out of memory. */
json_t *coord_extra_parse(const char *extra);

#endif
