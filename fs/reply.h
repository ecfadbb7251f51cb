/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/reply.h - where -errno meets fuse_reply_*.
 * Job:     one reply per request; takes back what a reply promised when it could not be sent.
 * Threads: any; no lock may be held: a forget may follow at once. */
#ifndef UMBRA_FS_REPLY_H
#define UMBRA_FS_REPLY_H

#include "fs/fs.h"

/* r: 0 or -errno. */
void fs_reply_status(fuse_req_t req, int r);
/* An entry whose look-up was counted: uncounted again when the caller is gone. */
void fs_reply_entry(fuse_req_t req, int r, const struct fuse_entry_param *e);
void fs_reply_attr(fuse_req_t req, int r, const struct stat *st, double timeout);
/* The answer of getxattr and listxattr: `size` 0 asked for the length alone. */
void fs_reply_xattr(fuse_req_t req, ssize_t r, const void *buf, size_t size);

/* Bytes that live as long as the thread, at least `size` of them, or NULL. For the answers of one request. */
void *fs_scratch(size_t size);

#endif
