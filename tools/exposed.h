/* tools/exposed.h - exposed snapshots (protocol C-10): the calls, and what people call them.
 * Errors:  0 or an exit status, and it was said why.
 * Threads: the command has one. */
#ifndef UMBRA_TOOLS_EXPOSED_H
#define UMBRA_TOOLS_EXPOSED_H

#include <jansson.h>

#include "coordinator/client/client.h"

/**
 * Expose a snapshot.
 * @path    mount point as typed; NULL: the default place
 * @subdir  directory of the snapshot, from its root on; NULL: all of it
 * @ret     the Snapshot as it is then, new reference
 */
int exposed_add(struct umbra_client *c, const json_t *snapshot, const char *path,
		const char *subdir, json_t **ret);

/** End it. @force also while in use. */
int exposed_remove(struct umbra_client *c, const json_t *snapshot, bool force);

/** The exposed snapshot that a mount point names, NULL if it names none: *ret is a new reference. */
int exposed_at(struct umbra_client *c, const char *path, json_t **ret);
/** The same, or else one that find_snapshot() knows by that name; dir as there. */
int exposed_find(struct umbra_client *c, const char *name, const char *dir, json_t **ret);

#endif
