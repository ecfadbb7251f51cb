/* tools/shell_restore.h - the restore session of umbra shell (protocol 8, 11; K-3).
 * Job:     what of a backup can be restored, and telling the writers before and after. The files are copied
 *          by what exec runs in between.
 * Errors:  0 or an exit status, and it was said why.
 * Threads: the command has one. */
#ifndef UMBRA_TOOLS_SHELL_RESTORE_H
#define UMBRA_TOOLS_SHELL_RESTORE_H

#include "tools/shell_session.h"

/** "load metadata": keep the documents in s. Only in SHELL_OPEN. */
int shell_restore_load(struct shell_session *s, const char *path);

/** "list metadata": the writers and components of the documents, and who stands for them. */
int shell_restore_list(struct shell_session *s);

/**
 * "simulate restore": whether the writers are there, in a session that is thrown away; none gets an event
 * but Identify. A writer that is not there counts as one that failed; one that "writer verify" named makes
 * it fail.
 */
int shell_restore_simulate(struct shell_session *s);

/**
 * "begin restore": all components whose backup succeeded and whose writer is there are selected; PreRestore.
 * Afterwards SHELL_RESTORING. On failure SHELL_FAILED, and whoever got PreRestore got PostRestore, too.
 */
int shell_restore_begin(struct shell_session *s);

/** "end restore": with that status of all components, PostRestore. Only in SHELL_RESTORING. */
int shell_restore_end(struct shell_session *s, const char *status);

/** When it will not be ended: PostRestore all the same, with status failed. Any state. */
void shell_restore_give_up(struct shell_session *s);

#endif
