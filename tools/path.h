/* tools/path.h - paths as text, and what they stand for.
 * Job:     join and resolve paths; take a path below .snapshots apart.
 * Errors:  0 or -errno, ret_ arguments then untouched. Results are malloc'ed, owned by the caller.
 * Threads: any. */
#ifndef UMBRA_TOOLS_PATH_H
#define UMBRA_TOOLS_PATH_H

#include <stdbool.h>

#include "cow/base/path.h"

/** DIR/NAME with exactly one slash between; NAME may be empty. NULL only without memory. */
char *path_join(const char *dir, const char *name);

/**
 * The path as the kernel would see it, absolute and without links. What does not exist, or cannot
 * be looked at (a dead mount), is kept as written behind the part that does.
 * @follow  resolve the last part too when it is a symbolic link
 * Returns 0; -ENOENT for "" or a working directory that is gone; -ENAMETOOLONG, -ENOMEM, -ELOOP.
 */
int path_resolve(const char *path, bool follow, char **ret);

/**
 * Take DIR/.snapshots/NAME/REST apart. Purely textual.
 * @ret_rest  borrowed from path; "" when nothing follows
 * Returns 0; -EINVAL no such path; -ENOMEM.
 */
int path_split_snapshot(const char *path, char **ret_dir, char **ret_name, const char **ret_rest);

#endif
