/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/creds.h - as whom a server thread acts below.
 * Job:     created things belong to the caller, with his umask; set-id bits go when he may not keep them.
 * Errors:  none: where switching is impossible (ordinary user, namespace of one id) it is skipped, and then there
 *	    is only one user to be.
 * Threads: credentials are the calling thread's own (raw system calls, not glibc's process-wide ones).
 * Source:  setfsuid(2), capabilities(7), user_namespaces(7). The kernel has checked the caller's permissions
 *	    already (default_permissions), so file-system capabilities are raised again after the switch. */
#ifndef UMBRA_FS_CREDS_H
#define UMBRA_FS_CREDS_H

#include <sys/stat.h>

#include "fs/fs.h"

/* Once, before the first thread: what this process can do; raises RLIMIT_NOFILE to the hard limit and gives up
 * CAP_SYS_RESOURCE, so that quotas and reserved blocks count. Returns the limit of descriptors. */
size_t fs_creds_start(void);

enum fs_creds_want {
	FS_CREDS_OWN = 1,     /* make things as the caller */
	FS_CREDS_KEEP_ID = 2, /* the mode is legitimate: keep the set-id bits it has */
	FS_CREDS_GROUP = 4,   /* be in the caller's group */
};

/* For making a thing with this mode, or giving it: only the set-gid bit is in question (capabilities(7)), and two
 * system calls are saved without. */
static inline unsigned fs_creds_keep_mode(mode_t mode)
{
	return mode & S_ISGID ? FS_CREDS_KEEP_ID : 0;
}

struct fs_creds {
	bool ids, group, caps; /* what is to be set back */
};

/* Act for `ctx` until fs_creds_end. */
struct fs_creds fs_creds_begin(const struct fuse_ctx *ctx, unsigned want);
void fs_creds_end(struct fs_creds *c); /* for CLEANUP() */

#endif
