/* tools/shell_components.h - which components the document of a shell's backup names (M-5, M-6).
 * Job:     all that can be named: a restore tells the writers of these. Those whose files are not in
 *          the set are left out, as diskshadow does: the backup has not got them.
 * Errors:  0 or an exit status, and it was said why.
 * Threads: the command has one. */
#ifndef UMBRA_TOOLS_SHELL_COMPONENTS_H
#define UMBRA_TOOLS_SHELL_COMPONENTS_H

#include <jansson.h>
#include <stdbool.h>

#include "coordinator/client/client.h"

/**
 * AddComponent for them.
 * @rows   "writers" of GetWriterMetadata
 * @trees  array of {path}: the protected directories of the set
 */
int shell_components_add(struct umbra_client *c, const json_t *rows, const json_t *trees);

/* ---- pure parts, for tests */

/** Whether all file sets of a component, and of those below it, lie in these trees. */
bool shell_components_covered(const json_t *document, const json_t *component, const json_t *trees);

/** The first component that has to be named if any of its writer is (M-5) and is not covered; NULL: none.
 *  Borrowed. */
const json_t *shell_components_missing(const json_t *document, const json_t *trees);

#endif
