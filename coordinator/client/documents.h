/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/client/documents.h - what umbra/requester.h does not say of saved documents: how they travel.
 * Job:     struct umbra_documents from the answer to SaveDocument, and into the descriptor that
 *          InitializeForRestore takes. It is a JSON object with the members document and
 *          writer_documents; nobody else knows.
 * Errors:  0 or -errno, ret_ arguments then untouched.
 * Threads: any. */
#ifndef UMBRA_CLIENT_DOCUMENTS_H
#define UMBRA_CLIENT_DOCUMENTS_H

#include <jansson.h>

#include "coordinator/client/umbra/requester.h"

/**
 * @answer  parameters of the answer to SaveDocument, borrowed
 * @fd      that came with it, borrowed; -1: none, so the texts are in the answer
 * @ret     owned by the caller
 * Returns 0; -EPROTO the coordinator sent something else; -ENOMEM.
 */
int umbra_documents_from_answer(const json_t *answer, int fd, struct umbra_documents **ret);

/* For InitializeForRestore: *ret_fd is the caller's. Returns 0; -EMSGSIZE longer than
 * UMBRA_DOCUMENTS_MAX; -EINVAL more than UMBRA_TEXTS_MAX; -ENOMEM, -EMFILE ... */
int umbra_documents_to_fd(const struct umbra_documents *d, int *ret_fd);

#endif
