/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/rawio.h - requests that this libfuse does not know, taken from the raw stream.
 * Job:     O_TMPFILE, STATX with birth times and HANDLE_KILLPRIV_V2 for a libfuse before 3.18, which lacks some of
 *	    them; and a notice that none can send. All but the notice may be missing (UMBRA_NO_RAWIO in the
 *	    environment): then the plain library serves, and programs fall back.
 * Threads: any.
 * Source:  include/uapi/linux/fuse.h of Linux 6.18; fuse_session_custom_io in fuse_lowlevel.h. */
#ifndef UMBRA_FS_RAWIO_H
#define UMBRA_FS_RAWIO_H

#include "fs/fs.h"

/* Put ourselves between `se` (already mounted) and its descriptor. 0, or -errno: the plain library serves. */
int fs_rawio_attach(struct fs *fs, struct fuse_session *se);

/* Does the write that this thread took last tell to clear set-id bits? */
bool fs_rawio_kill_suidgid(void);

/* Ask the kernel to forget unused nodes (FUSE_NOTIFY_PRUNE, Linux 6.18). -ENOSYS when it does not know how. */
int fs_rawio_prune(struct fs *fs, const uint64_t *ids, size_t n);

#endif
