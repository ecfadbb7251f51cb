/* tools/shell_metadata.h - "set metadata FILE" and "load metadata FILE": both kinds of documents in one
 * file, in the form of umbra_documents_save().
 * Errors:  0 or an exit status, and it was said why.
 * Form:    one JSON object: "version" "1.0", "kind" "umbra-metadata", "document" the backup document,
 *          "writer_documents" an array of the writers', all as SaveDocument of io.umbra gives them. */
#ifndef UMBRA_TOOLS_SHELL_METADATA_H
#define UMBRA_TOOLS_SHELL_METADATA_H

#include "coordinator/client/client.h"
#include "coordinator/client/umbra/requester.h"

/** SaveDocument into path, which is replaced in one step; on failure what was there stays. */
int shell_metadata_save(struct umbra_client *c, const char *path);

/** Read such a file; what the documents say is the coordinator's to judge. */
int shell_metadata_load(const char *path, struct umbra_documents **ret);

/** InitializeForRestore with them. @ret  the answer */
int shell_metadata_restore(struct umbra_client *c, const struct umbra_documents *d, json_t **ret);

#endif
