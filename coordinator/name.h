/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/name.h - what identifiers, labels and snapshot directories are called.
 * Job:     make and check names; pure but for the random bytes of an id.
 * Errors:  said at each.
 * Threads: any.
 * Rules:   V-1, C-12; names of contexts and states as io.umbra.varlink. */
#ifndef UMBRA_COORDINATOR_NAME_H
#define UMBRA_COORDINATOR_NAME_H

#include "cow/provider.h"

#include <stdbool.h>
#include <stdint.h>

/* A new id (V-1): lower case, never used before. */
void coord_name_id(char ret[COW_UUID_LEN + 1]);
/* Is it an id in the form of V-1? */
bool coord_name_is_id(const char *text);

/* NULL if the label may be used, else what is wrong with it: a phrase for people. */
const char *coord_name_label_problem(const char *label);

#define COORD_NAME_GMT_SIZE 32
/* "@GMT-2026.01.31-23.59.59" for that second of UTC (C-12). */
void coord_name_gmt(char ret[COORD_NAME_GMT_SIZE], int64_t real_ns);

/* "2026-01-31T23:59:59.123456789Z" (RFC 3339). */
#define COORD_NAME_TIME_SIZE 40
void coord_name_time(char ret[COORD_NAME_TIME_SIZE], int64_t real_ns);

/* "backup" ...; NULL for a number that is no context. */
const char *coord_name_context(enum cow_context c);
/* 0 for a name that is none. */
enum cow_context coord_name_to_context(const char *name);
/* "opened", "created", "dropped"; NULL and 0 as above. */
const char *coord_name_snapshot_state(enum cow_snapshot_state s);
enum cow_snapshot_state coord_name_to_snapshot_state(const char *name);

/* Does a session of this context send events to writers (section 6)? */
bool coord_context_writers(enum cow_context c);

/**
 * Is path inside of tree, or the tree itself? Both absolute, as coord_name_normal_path leaves them.
 * Returns the rest of path without a slash in front ("" for the tree itself), a pointer into path,
 * or NULL.
 */
const char *coord_name_inside(const char *tree, const char *path);

/* Drop doubled and trailing slashes and "." in place. False: not absolute, or ".." in it (the
 * caller resolves those: only he sees his mounts). */
bool coord_name_normal_path(char *path);

#endif
