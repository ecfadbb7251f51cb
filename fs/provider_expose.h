/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/provider_expose.h - exposed snapshots: mounts that outlive their session, the daemon and a reboot.
 * Job:     remember in the store which snapshots are exposed where, mount and serve them, and do so again whenever the
 *	    daemon starts.
 * Errors:  0 or -errno, and one clear line with the way out in `why`.
 * Threads: any. What concerns a mount point is done by threads of its own, one for each exposure that is just being made or
 *	    ended, since a mount point may lie on a file system that does not answer: no call waits for one, unless it
 *	    says so. The list's lock has rank LEAF and is held for memory alone.
 * Rules:   C-10 one exposure of a snapshot, read-only; C-13; D-12; D-14 made again at each start; F-11.
 *	    The record comes first, then the mount; for the other way round first the mount goes, then the record. So a
 *	    daemon that is killed in between leaves what is made (again) at the next start, never a mount that nobody
 *	    knows of. What cannot be made again stays recorded, with the reason. Somebody who unmounts it by hand changes
 *	    nothing in the record: a machine that is going down does that, too. */
#ifndef UMBRA_FS_PROVIDER_EXPOSE_H
#define UMBRA_FS_PROVIDER_EXPOSE_H

#include <jansson.h>

#include "fs/fs.h"
#include "fs/provider_place.h"
#include "fs/serve.h"

struct fs_exposures;

/* `fs` and `serve` are borrowed and outlive it; `socket`: the coordinator's, NULL: the usual one. The default place is
 * beside it. NULL: out of memory. */
struct fs_exposures *fs_exposures_new(struct fs *fs, struct fs_serve *serve, const char *socket);
/* Begin to unmount them all, with nothing new from here on. Their records stay. */
void fs_exposures_stop(struct fs_exposures *x);
/**
 * Unmount them all, before the sessions are ended; waits ten seconds at most for mount points that do not answer. NULL is
 * fine.
 * Returns true. false: threads are left that wait for mount points. They use nothing of anybody else, and end by themselves
 * whenever these answer; but the process has to end by _exit(2), which waits for nobody.
 */
bool fs_exposures_free(struct fs_exposures *x);

/* Read the records and begin to make each exposure again, once, at the start; failures are logged and kept with the record.
 * Nobody else uses it yet. */
void fs_exposures_restore(struct fs_exposures *x);

/* Wait until nothing is being made or ended of a snapshot, of any if `epoch` is 0: at most so long, and not while they are
 * stopped. */
void fs_exposures_settle(struct fs_exposures *x, uint64_t epoch, unsigned wait_ms);

/* What became of it: by the caller itself, or by a thread that holds no lock. `why`: if r < 0. */
typedef void fs_exposures_done(void *userdata, int r, const char *why);

/**
 * Expose a snapshot. One that is recorded without being mounted is replaced.
 * @path      where: an empty directory outside of the tree, absolute; NULL: the default place, which is made
 * @subdir    of the snapshot, as of fs_serve_start; NULL: all of it
 * @done      called once, unless they are stopped before: 0; -EEXIST it is exposed, or something is mounted there; -ENOENT
 *	      no such snapshot, mount point or sub-directory; -EINVAL; -EACCES; -EOPNOTSUPP no fusermount3; -EBUSY its
 *	      mount point has not answered yet. Nothing is left then
 * @userdata  malloc'ed; taken, and freed after that
 */
void fs_exposures_add(struct fs_exposures *x, uint64_t epoch, const char *path, const char *subdir,
		      fs_exposures_done *done, void *userdata);

/* End an exposure. force: also while in use (detached, for its users it lives on), or while its mount point does not answer:
 * then it is over at once, and what is mounted goes whenever it answers, or at the next start. done, userdata as above: 0;
 * -ENOENT it is not exposed; -EBUSY: then it still is. */
void fs_exposures_remove(struct fs_exposures *x, uint64_t epoch, bool force,
			 fs_exposures_done *done, void *userdata);

/* Begin to end those whose snapshot is gone (D-12 with force, F-11): detached. Returns how many; one whose mount point has
 * not answered yet ends when it does. */
unsigned fs_exposures_sweep(struct fs_exposures *x);

/* Is there a record for it, mounted or not? With its place in `why` if so. */
bool fs_exposures_has(struct fs_exposures *x, uint64_t epoch, char why[FS_EXPOSE_WHY_SIZE]);

/* Member "exposed" of a ProviderSnapshot, a new reference; NULL: it is not exposed, or out of memory. */
json_t *fs_exposures_json(struct fs_exposures *x, uint64_t epoch);

#endif
