/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/client/texts.h - texts that are too long for a message, in memory that a descriptor hands over.
 * Job:     the saved documents of a backup: a list of texts, each ended by NUL, in a memory file
 *          that is sealed. Sealed (F_SEAL_WRITE, _GROW, _SHRINK; fcntl(2)) it can neither change nor
 *          end early while it is read, and memory answers at once: no pipe, no file of a tree that is
 *          held, no file system of somebody else can keep the reader waiting.
 * Errors:  0 or -errno, ret_ arguments then untouched.
 * Threads: any. */
#ifndef UMBRA_CLIENT_TEXTS_H
#define UMBRA_CLIENT_TEXTS_H

#include <jansson.h>

/* Bytes of all documents of a backup with their NULs: of a privileged caller, and of another (S-12). He
 * meets no writers on a system's coordinator, so his are what up to 64 snapshots say. */
#define UMBRA_DOCUMENTS_MAX ((size_t)64 << 20)
#define UMBRA_DOCUMENTS_MAX_USER ((size_t)2 << 20)

#define UMBRA_TEXTS_MAX 4096 /* texts in one file */

/**
 * Make such a file.
 * @texts   array of strings, borrowed
 * @max     bytes of all, with their NULs
 * @ret_fd  close-on-exec, owned by the caller
 * Returns 0; -EMSGSIZE longer than max; -EINVAL no array of strings, or more than UMBRA_TEXTS_MAX;
 * -ENOMEM; -EMFILE, -ENFILE; what memfd_create(2) says.
 */
int umbra_texts_put(const json_t *texts, size_t max, int *ret_fd);

/**
 * Read one, whoever made it.
 * @fd   borrowed; its position does not matter
 * @ret  array of strings, a new reference
 * Returns 0; -EINVAL no memory file, not sealed, not readable, or more than UMBRA_TEXTS_MAX texts;
 * -EMSGSIZE longer than max: nothing was read; -EBADMSG a text is not UTF-8, or has no NUL at its end;
 * -ENOMEM.
 */
int umbra_texts_take(int fd, size_t max, json_t **ret);

#endif
