/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cow/base/path.h - paths as text.
 * Job:     say whether one lies in another, take one apart. Nothing is looked up.
 * Threads: any. */
#ifndef UMBRA_COW_BASE_PATH_H
#define UMBRA_COW_BASE_PATH_H

/** What follows dir in path, without a slash at its start: "" when they are the same, NULL when path
 *  is not below dir. Both absolute and without "." and "..". Borrowed from path. */
const char *path_below(const char *dir, const char *path);
/** The last part, as basename(3) has it but leaving path as it is. Borrowed; "/" for the root. */
const char *path_last(const char *path);

#endif
