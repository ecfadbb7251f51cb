/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/provider_expose.h - exposed snapshots: mounts that outlive their session, the daemon and a reboot.
 * Job:     remember in the store which snapshots are exposed where, mount and serve them, and do so again whenever the
 *	    daemon starts.
 * Errors:  0 or -errno, and one clear line with the way out in `why`.
 * Threads: add, remove, sweep and restore by one thread at a time (they wait for mount helpers and for other file
 *	    systems); the rest by any. The list's lock has rank LEAF and is held for memory alone.
 * Rules:   C-10 one exposure of a snapshot, read-only; C-13; D-12; D-14 made again at each start; F-11.
 *	    The record comes first, then the mount; for the other way round first the mount goes, then the record. So a
 *	    daemon that is killed in between leaves what is made (again) at the next start, never a mount that nobody
 *	    knows of. What cannot be made again stays recorded, with the reason. Somebody who unmounts it by hand changes
 *	    nothing in the record: a machine that is going down does that, too. */
#ifndef UMBRA_FS_PROVIDER_EXPOSE_H
#define UMBRA_FS_PROVIDER_EXPOSE_H

#include <jansson.h>

#include "fs/fs.h"
#include "fs/serve.h"

#define FS_EXPOSE_WHY_SIZE 1024

struct fs_exposures;

/* `fs` and `serve` are borrowed and outlive it; `socket`: the coordinator's, NULL: the usual one. The default place is
 * beside it. NULL: out of memory. */
struct fs_exposures *fs_exposures_new(struct fs *fs, struct fs_serve *serve, const char *socket);
/* Unmount them all; their records stay. Before the sessions are ended. NULL is fine. */
void fs_exposures_free(struct fs_exposures *x);

/* Read the records and make each exposure again, once, at the start; failures are logged and kept with the record. */
void fs_exposures_restore(struct fs_exposures *x);

/**
 * Expose a snapshot. One that is recorded without being mounted is replaced.
 * @path    where: an empty directory outside of the tree, absolute; NULL: the default place, which is made
 * @subdir  of the snapshot, as of fs_serve_start; NULL: all of it
 * Returns 0; -EEXIST it is exposed, or something is mounted there; -ENOENT no such snapshot, mount point or
 * sub-directory; -EINVAL; -EACCES; -EOPNOTSUPP no fusermount3. Nothing is left then.
 */
int fs_exposures_add(struct fs_exposures *x, uint64_t epoch, const char *path, const char *subdir,
		     char why[FS_EXPOSE_WHY_SIZE]);

/* End an exposure. force: also while in use (detached, for its users it lives on). Returns 0; -ENOENT it is not
 * exposed; -EBUSY: then it still is. */
int fs_exposures_remove(struct fs_exposures *x, uint64_t epoch, bool force,
			char why[FS_EXPOSE_WHY_SIZE]);

/* End those whose snapshot is gone (D-12 with force, F-11): detached at once. */
void fs_exposures_sweep(struct fs_exposures *x);

/* Is there a record for it, mounted or not? With its place in `why` if so. */
bool fs_exposures_has(struct fs_exposures *x, uint64_t epoch, char why[FS_EXPOSE_WHY_SIZE]);

/* Member "exposed" of a ProviderSnapshot, a new reference; NULL: it is not exposed, or out of memory. */
json_t *fs_exposures_json(struct fs_exposures *x, uint64_t epoch);

#endif
