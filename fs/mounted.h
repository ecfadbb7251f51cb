/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/mounted.h - what something is mounted on in a tree of Umbra's, anywhere.
 * Job:     look into each mount namespace that can be seen, and tell which names are no mount points.
 * Errors:  0 or -errno, ret_ arguments then untouched.
 * Threads: any; no state but the caller's list.
 * Rules:   names alone are compared, whatever directory and tree they are in: rather one too many than one too few.
 *	    Unseen remain the namespaces of processes that we may not look at (of other users, outside of our pid
 *	    namespace), those that no process is in, and what is mounted later. */
#ifndef UMBRA_FS_MOUNTED_H
#define UMBRA_FS_MOUNTED_H

#include <stdbool.h>
#include <stddef.h>

struct fs_mounted {
	char **names; /* owned, sorted */
	size_t count;
};

/**
 * Read the mount tables of all processes; of those with the same namespace and the same root only one's.
 * @proc  where procfs is; "self" in it must be readable, other processes are passed by where they are not
 */
int fs_mounted_read(const char *proc, struct fs_mounted *ret);
void fs_mounted_done(struct fs_mounted *m);

/* May something be mounted on an entry of that name? */
bool fs_mounted_has(const struct fs_mounted *m, const char *name);

#endif
