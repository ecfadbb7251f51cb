/* tools/shell_metadata.h - "set metadata FILE": both kinds of documents in one file.
 * Errors:  0 or an exit status, and it was said why.
 * Form:    one JSON object: "version" "1.0", "kind" "umbra-metadata", "document" the backup document,
 *          "writer_documents" an array of the writers', all as SaveDocument of io.umbra gives them. */
#ifndef UMBRA_TOOLS_SHELL_METADATA_H
#define UMBRA_TOOLS_SHELL_METADATA_H

#include "coordinator/client/client.h"

/** SaveDocument into path, which is replaced in one step; on failure what was there stays. */
int shell_metadata_save(struct umbra_client *c, const char *path);

#endif
