/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/revert.h - a tree becomes a snapshot again (protocol ).
 * Job:     the call Revert of a session: check, ask the provider, end the operation with what it says. The provider does
 *	    the work, and goes on with it whether or not anybody waits.
 * Errors:  those of X-10, and what the provider says.
 * Threads: the coordinator's one. */
#ifndef UMBRA_COORDINATOR_REVERT_H
#define UMBRA_COORDINATOR_REVERT_H

#include "coordinator/session.h"

/**
 * Begin (S-7). Not cancellable (S-8), not undoable.
 * @force  also while files of the tree are open or newer snapshots in use
 * @ret    owned by the session; ends with unsupported-context, revert-in-progress, volume-in-use, revert-volume-lost when
 *	   the tree's umbrafs went meanwhile, or another failure, in which case the tree may be partly done
 * Returns UMBRA_OK; bad-state, object-not-found, unsupported-context.
 */
enum umbra_error coord_session_revert(struct coord_session *s, const char *snapshot_id, bool force,
				      struct coord_operation **ret, struct coord_failure *f);

/* Nobody waits for it any more; it goes on. Nothing when none is pending. */
void coord_session_forget_revert(struct coord_session *s);

/* May this operation be cancelled (S-8)? */
bool coord_operation_cancellable(const struct coord_operation *op);

#endif
