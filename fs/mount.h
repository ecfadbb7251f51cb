/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/mount.h - from a directory to a mounted overlay, and back.
 * Job:     open the directory below, check that it can be protected, open the store, mount, and undo all that.
 * Errors:  -errno and one clear line with the way out in `why`.
 * Threads: the main thread, before and after the loop.
 * Rules:   the directory below is opened before the mount, and everything goes through that descriptor. No
 *	    auto_unmount: after a crash a dead mount that says ENOTCONN is safer than an empty directory. */
#ifndef UMBRA_FS_MOUNT_H
#define UMBRA_FS_MOUNT_H

#include "cow/cow.h"
#include "fs/fs.h"

#define FS_WHY_SIZE 1024

struct fs_options {
	const char *dir;
	const char *store_dir; /* NULL: below */
	const char *max_store; /* size, per cent, or NULL: unlimited */
	enum fs_shown shown;
	bool allow_other;
	bool foreground;
	const char *coordinator; /* socket; NULL: the usual one */
	const char *log_file;	 /* NULL: syslog in the background, stderr in the foreground */
	int ready_fd;		 /* -1: none */
};

/* Open everything but the mount. `fs` is zeroed memory of the caller; fds_max is the limit of descriptors.
 * On failure nothing is left open. */
int fs_world_open(struct fs *fs, const struct fs_options *opt, size_t fds_max, char *why,
		  size_t why_len);
/* Mount over the directory. Requests wait in the kernel until the loop runs. */
int fs_world_mount(struct fs *fs, const struct fs_options *opt, char *why, size_t why_len);
/* Take the mount away (lazily when it is busy) and end the session. */
void fs_world_unmount(struct fs *fs);
/* Close the store and all the rest. */
int fs_world_close(struct fs *fs);

/* Told of a snapshot that went away unasked, from any thread; set before fs_world_open and never again. */
extern void (*fs_on_drop)(void *userdata, const struct cow_snapshot *snap,
			  enum cow_drop_cause cause);

#endif
