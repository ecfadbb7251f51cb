/* tools/operation.h - the calls of a requester that take time, waited for (S-7), and what writers made of them.
 * Job:     one call from its start to its end, also by a signal; who failed, told once.
 * Errors:  0 or an exit status, and it was said why.
 * Threads: the command has one. */
#ifndef UMBRA_TOOLS_OPERATION_H
#define UMBRA_TOOLS_OPERATION_H

#include <jansson.h>

#include "coordinator/client/client.h"

/** Make the call and wait for its end; a signal ends the waiting, not the operation. */
int operation_run(struct umbra_client *c, const char *method);
/** The same with parameters; taken. */
int operation_run_with(struct umbra_client *c, const char *method, json_t *params);

/**
 * GatherWriterStatus, where W-6 has it due (K-2).
 * @failed  object, instance id to failure code: who is in it was told of; who failed since is added
 */
int operation_look_at_writers(struct umbra_client *c, json_t *failed);

#endif
