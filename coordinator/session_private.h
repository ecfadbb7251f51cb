/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/session_private.h - what session.c shares with restore.c, and nobody else.
 * Job:     access, operations and the party of a session.
 * Threads: the coordinator's one. */
#ifndef UMBRA_COORDINATOR_SESSION_PRIVATE_H
#define UMBRA_COORDINATOR_SESSION_PRIVATE_H

#include "coordinator/session.h"

/* The table, and whether this caller is served at all (S-12). */
enum umbra_error coord_session_may_begin(struct coord_session *s, enum coord_call call,
					 struct coord_failure *f);

/* The pending operation from now on; owned by the session. NULL: out of memory, said in f. */
struct coord_operation *coord_session_begin_operation(struct coord_session *s, enum coord_call call,
						      struct coord_failure *f);
/* NULL: it went well. Without a pending one nothing happens. */
void coord_session_end_operation(struct coord_session *s, const struct coord_failure *failure);

/* Made when first needed; owned by the session. NULL: out of memory, said in f. */
struct coord_party *coord_session_party(struct coord_session *s, struct coord_failure *f);

/* The member of a list of components with that path and name, borrowed; NULL: none. Each member has
 * both as strings. */
json_t *coord_session_component(const json_t *components, const char *logical_path,
				const char *name);

/* M-5: have those been added that nothing above them brings in? */
enum umbra_error coord_session_check_components(const struct coord_session *s,
						struct coord_failure *f);
/* The backup document as it is now, malloc'ed; NULL: out of memory. */
char *coord_session_document(const struct coord_session *s);

#endif
