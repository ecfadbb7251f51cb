/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/restore.h - the calls of a restore session (protocol 8).
 * Job:     what a requester restores and how, from the documents of a backup; PreRestore and
 *          PostRestore. Which call is allowed in which state is the table in session.c; no file is
 *          copied here.
 * Errors:  enum umbra_error with a coord_failure. A refused call changes nothing.
 * Threads: the coordinator's one.
 * Rules:   X-1 to X-9 (X-4: the copying in between sends nothing), A-27, D-4 (no BackupShutdown), M-4, M-6, M-10, W-11 (no set id).
 *
 *   A writer is named by its instance id in the backup document, or by that of the instance which
 *   stands for it now: the same class and instance name, the n-th of them for the n-th (X-5: from
 *   then on that instance and no later one). What is selected becomes the `components` of that
 *   participant: the backup document's, with
 *     options, subcomponents [{logical_path, name}], new_targets and alternate_mappings [{path,
 *     pattern, recursive, destination}], file_restore_status, additional_restores, target, directed */
#ifndef UMBRA_COORDINATOR_RESTORE_H
#define UMBRA_COORDINATOR_RESTORE_H

#include "coordinator/session.h"

#define COORD_RESTORE_BYTES_MAX                                                                    \
	((size_t)256 << 20) /* documents of all sessions that are longer than a user's may be */

struct coord_restore;

void coord_restore_free(struct coord_restore *r); /* NULL is fine */

/* An explicit component of the backup. Everything is borrowed for the call. */
struct coord_restore_name {
	const char *instance_id, *logical_path, *name; /* logical_path "": none */
};

/* A file set of the component as its writer document has it (M-4), and where it goes. */
struct coord_restore_move {
	const char *path, *pattern, *destination; /* path, destination: absolute */
	bool recursive;
};

/* both documents. writer_documents: array of texts, borrowed. UMBRA_E_OUT_OF_MEMORY also: other
 * sessions have COORD_RESTORE_BYTES_MAX of them. */
enum umbra_error coord_restore_initialize(struct coord_session *s, const char *document,
					  const json_t *writer_documents, struct coord_failure *f);

/* selected false: what was said of the component is forgotten, too. */
enum umbra_error coord_restore_select(struct coord_session *s, const struct coord_restore_name *c,
				      bool selected, struct coord_failure *f);
/* of the selected component c only this and others named so. */
enum umbra_error coord_restore_add_subcomponent(struct coord_session *s,
						const struct coord_restore_name *c,
						const char *logical_path, const char *name,
						struct coord_failure *f);
/* For the writer to read. */
enum umbra_error coord_restore_set_options(struct coord_session *s,
					   const struct coord_restore_name *c, const char *options,
					   struct coord_failure *f);
enum umbra_error coord_restore_add_target(struct coord_session *s,
					  const struct coord_restore_name *c,
					  const struct coord_restore_move *move,
					  struct coord_failure *f);

/* "none", "all", "failed", "undefined". */
enum umbra_error coord_restore_set_status(struct coord_session *s,
					  const struct coord_restore_name *c, const char *status,
					  struct coord_failure *f);
enum umbra_error coord_restore_set_additional(struct coord_session *s,
					      const struct coord_restore_name *c, bool additional,
					      struct coord_failure *f);
/* What was restored to an alternate location. */
enum umbra_error coord_restore_add_mapping(struct coord_session *s,
					   const struct coord_restore_name *c,
					   const struct coord_restore_move *move,
					   struct coord_failure *f);

/* *ret: []RestoreWriter of io.umbra.varlink, a new reference. */
enum umbra_error coord_restore_components(struct coord_session *s, json_t **ret,
					  struct coord_failure *f);

/* Asynchronous (S-7); a cancelled PreRestore was a PreRestore all the same: PostRestore may follow. */
enum umbra_error coord_restore_pre(struct coord_session *s, struct coord_operation **ret,
				   struct coord_failure *f);
enum umbra_error coord_restore_post(struct coord_session *s, struct coord_operation **ret,
				    struct coord_failure *f);

#endif
