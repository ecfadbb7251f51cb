/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/dirfds.h - a bounded cache of directory descriptors.
 * Job:     directory -> O_PATH descriptor, least recently used out first. Pure: it closes, but opens nothing.
 * Errors:  NULL: not there, or out of memory.
 * Threads: any. Rank CACHE.
 * Rules:   the kernel may know a million directories; we hold descriptors of a few hundred. A descriptor stays
 *	    good over renames of the directory, so only fs_dirfds_drop takes one out. */
#ifndef UMBRA_FS_DIRFDS_H
#define UMBRA_FS_DIRFDS_H

#include <stddef.h>
#include <stdint.h>

struct fs_dirfds;

struct fs_dirfd {
	int fd;	       /* constant; open while the entry is held */
	uintptr_t key; /* the node */
	unsigned refs;
	struct fs_dirfd *hash_next, *prev, *next;
};

/* A cache of at most `max` descriptors, not counting those held at the moment. NULL: out of memory. */
struct fs_dirfds *fs_dirfds_new(size_t max);
void fs_dirfds_free(struct fs_dirfds *c);

/* The entry of `key`, held until fs_dirfds_put, or NULL. */
struct fs_dirfd *fs_dirfds_get(struct fs_dirfds *c, uintptr_t key);
/* Put `fd` in under `key` and hold it; takes fd. When another thread was faster, returns that one's entry.
 * NULL: out of memory, fd is closed. */
struct fs_dirfd *fs_dirfds_add(struct fs_dirfds *c, uintptr_t key, int fd);
void fs_dirfds_put(struct fs_dirfds *c, struct fs_dirfd *d); /* NULL is fine */
/* Forget `key`: its descriptor is closed as soon as nobody holds it. */
void fs_dirfds_drop(struct fs_dirfds *c, uintptr_t key);

#endif
