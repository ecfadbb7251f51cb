/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/idmap.h - owners that have no number in this user namespace.
 * Job:     show them as our own. The kernel refuses all changes of an inode in FUSE whose owner or group it cannot
 *	    map back, although the same works below; whether they work goes on being decided there.
 * Errors:  none: what cannot be read counts as mapped.
 * Threads: any, after fs_idmap_start.
 * Source:  user_namespaces(7): "unmapped user and group IDs". */
#ifndef UMBRA_FS_IDMAP_H
#define UMBRA_FS_IDMAP_H

#include <sys/types.h>

/* Once, before the first thread: which number stands for those without one. */
void fs_idmap_start(void);
/* Replace what stat(2) below gave, where it stands for an owner without a number. */
void fs_idmap_show(uid_t *uid, gid_t *gid);

#endif
