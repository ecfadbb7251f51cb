/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/provider_place.h - mount points of exposed snapshots.
 * Job:     find out whether a snapshot may be mounted at a place, mount it there, take it away again.
 * Errors:  0 or -errno, and one clear line with the way out in `why`.
 * Threads: any. Every call may take for ever: a place may lie on a file system that does not answer, which no time limit
 *	    and no signal but a deadly one helps against. So nothing here touches the store, a session or a lock: only its
 *	    arguments, which nobody frees before the return.
 * Rules:   C-10. As mount(8) and fusermount3 have it, and never over what would be hidden. */
#ifndef UMBRA_FS_PROVIDER_PLACE_H
#define UMBRA_FS_PROVIDER_PLACE_H

#include <stdbool.h>

#define FS_EXPOSE_WHY_SIZE 1024

/* Puts the text together; returns r. */
int fs_place_fail(int r, char why[FS_EXPOSE_WHY_SIZE], const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Whose snapshots they are. Borrowed texts. */
struct fs_place_tree {
	const char *path;
	const char *store_dir; /* or NULL: in the tree */
	const char *socket; /* the coordinator's, NULL: the usual one: default places are there */
};

struct fs_place_want {
	const char *id;	  /* of the snapshot */
	const char *path; /* without links; NULL: the default place */
	const char *name; /* of the snapshot, for the default place */
};

/* The path that is recorded: links are followed now and never again. *ret is malloc'ed. */
int fs_place_settle(const char *id, const char *path, char **ret, char why[FS_EXPOSE_WHY_SIZE]);

/**
 * Check the place, make it if it is a default one, and mount. A dead mount of this snapshot is taken away first.
 * @ret_path  where it is, malloc'ed
 * @ret_made  we made the directory
 * @ret_fd    to be served on
 * On failure nothing is mounted, and ret_ arguments are untouched.
 */
int fs_place_mount(const struct fs_place_tree *tree, const struct fs_place_want *want,
		   char **ret_path, bool *ret_made, int *ret_fd, char why[FS_EXPOSE_WHY_SIZE]);

/* Take the snapshot's mount away if it is uppermost at `path`, then the directory if it was `made`. force: also while in
 * use. -EBUSY: nothing was done. */
int fs_place_unmount(const char *id, const char *path, bool made, bool force,
		     char why[FS_EXPOSE_WHY_SIZE]);

/* Take away what a daemon that died left of this snapshot, then the directory if it was `made`. */
void fs_place_clear(const char *id, const char *path, bool made);

#endif
