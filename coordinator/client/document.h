/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/client/document.h - the writer document and the backup document (protocol 9).
 * Job:     check and read them; what may be added explicitly. Pure: no files, no sockets.
 * Errors:  a static phrase for people, or as said.
 * Threads: any.
 * Form:    JSON; paths as the interface file has them (KEY and KEY_base64). Unknown members are
 *          kept and ignored (M-10).
 *
 * A writer has at most 1,000 components.
 *
 *   writer document: { "version": "1.0",
 *     "restore_method": { "method": "restore-if-can-replace", "writer_restore": "always" (X-9; the
 *       default), "never", "if-replace-fails" },
 *     "components": [ { "type": "database" | "file-group", "logical_path": "", "name": ..,
 *         "selectable_for_backup": true, "selectable_for_restore": false,
 *         "dependencies": [ { "class_id", "logical_path", "name" } ],
 *         "file_sets": [ { "path", "pattern", "recursive", "backup_types", "alternate_path" } ] } ],
 *     "exclude_files": [ file set ], "exclude_from_snapshot": [ file set ],
 *     "alternate_mappings": [ file set with "alternate_path" ] }
 *   backup document: { "version": "1.0", "kind": "umbra-backup", "session_id", "set_id", "context",
 *     "backup_type", "component_mode", .., "snapshots": [ { "id", "tree_id", "tree_path" } ],
 *     "writers": [ { "class_id", "instance_id", "name", "metadata", "components": [ .. ] } ] } */
#ifndef UMBRA_CLIENT_DOCUMENT_H
#define UMBRA_CLIENT_DOCUMENT_H

#include <jansson.h>
#include <stdbool.h>

#define UMBRA_DOCUMENT_VERSION "1.0"
#define UMBRA_BACKUP_DOCUMENT "umbra-backup"

/* NULL if M-1 to M-4 hold, else which does not. */
const char *umbra_document_writer_problem(const json_t *document);

/* The component of that path and name, borrowed; NULL: none. logical_path "": none. */
json_t *umbra_document_component(const json_t *document, const char *logical_path,
				 const char *name);

/* Is a component selectable for backup (M-2)? */
bool umbra_document_selectable(const json_t *component);

/* M-5: may this component be added by itself? False: a selectable one above it brings it in, or there is
 * no such component. */
bool umbra_document_may_add(const json_t *document, const char *logical_path, const char *name);

/* Is a component at that logical path a part of this one? component: of either document. */
bool umbra_document_is_below(const json_t *component, const char *logical_path);

/* may it be restored by itself, though it was added only through one above it? */
bool umbra_document_selectable_for_restore(const json_t *component);

/**
 * Read a backup document. Its writers have class and instance, their components name and path.
 * @ret          a new reference
 * @ret_problem  on failure: a static phrase
 * Returns 0; -EBADMSG damaged (corrupt-document); -EINVAL not ours, or of a newer major version
 * (invalid-document).
 */
int umbra_document_read_backup(const char *text, json_t **ret, const char **ret_problem);

/* The same for a writer document as SaveDocument gives it: with the members class_id, instance_id, name,
 * instance_name, usage and source of the writer (M-1). */
int umbra_document_read_writer(const char *text, json_t **ret, const char **ret_problem);

#endif
