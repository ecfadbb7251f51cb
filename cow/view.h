/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cow/view.h - reading a snapshot: look-up, listing, attributes, links, xattrs, data, as at its epoch.
 * Job:     merge what was preserved with what is unchanged below, and prove that it did not change meanwhile.
 * Errors:  right bytes or an error (I-4): -ESTALE the snapshot was dropped, or the thing was changed behind our
 *	    back; -EIO preserved data do not match their checksum; -EACCES when we may not read below.
 * Threads: any. Needs no gate and is never held (H-1). Objects are counted; a child keeps its parents.
 * Rules:   architecture: reading a snapshot; C-14: nothing here changes an access time where we may avoid it. */
#ifndef UMBRA_COW_VIEW_H
#define UMBRA_COW_VIEW_H

#include <sys/stat.h>

#include "cow/cow.h"

struct cow_view;  /* one snapshot, open */
struct cow_vnode; /* one inode of it, with one way to it from the root */
struct cow_vdir;  /* an open directory */
struct cow_vfile; /* an open regular file */

/* Open a snapshot for reading; `created` ones, or any with `any_state`. Returns 0 or -ENOENT. */
int cow_view_open(struct cow_store *st, uint64_t epoch, bool any_state, struct cow_view **ret);
void cow_view_close(struct cow_view *v); /* counted by its vnodes too */
uint64_t cow_view_epoch(const struct cow_view *v);
/* In use: without force such a snapshot is not dropped (D-12). Open files and directories count by themselves; who only
 * remembers vnodes, as a cache does, does not. For what is mounted: use once, and unuse when it is gone. */
void cow_view_use(struct cow_view *v);
void cow_view_unuse(struct cow_view *v);

/* The root. Returns a counted vnode in *ret. */
int cow_vnode_root(struct cow_view *v, struct cow_vnode **ret);
/* One name of a directory, never "." or "..". Returns 0 and a counted vnode; -ENOENT, -ENOTDIR. */
int cow_vnode_lookup(struct cow_vnode *dir, const char *name, struct cow_vnode **ret);
struct cow_vnode *cow_vnode_ref(struct cow_vnode *vn);
void cow_vnode_put(struct cow_vnode *vn); /* may be NULL */
uint64_t cow_vnode_ino(const struct cow_vnode *vn);
/* Of another file system, mounted in the tree: its number says nothing among ours. */
bool cow_vnode_is_foreign(const struct cow_vnode *vn);
struct cow_vnode *cow_vnode_parent(struct cow_vnode *vn); /* borrowed from vn; NULL for the root */

/* All attributes with birth time, as struct statx with STATX_BASIC_STATS|STATX_BTIME where known. */
int cow_vnode_stat(struct cow_vnode *vn, struct statx *ret);
/* Target, NUL-terminated. Returns its length; -EINVAL no symlink; -ERANGE buffer too small. */
ssize_t cow_vnode_readlink(struct cow_vnode *vn, char *ret_buf, size_t size);
/* As getxattr(2) and listxattr(2): size 0 asks for the length. -ENODATA, -ERANGE. */
ssize_t cow_vnode_getxattr(struct cow_vnode *vn, const char *name, void *ret_buf, size_t size);
ssize_t cow_vnode_listxattr(struct cow_vnode *vn, char *ret_buf, size_t size);

struct cow_dirent {
	const char *name; /* borrowed until the next call on the same vdir */
	uint64_t ino;
	unsigned type; /* DT_* */
	uint64_t next; /* offset to ask for next */
};
int cow_vdir_open(struct cow_vnode *dir, struct cow_vdir **ret);
void cow_vdir_close(struct cow_vdir *d);
/* The entry at `off` (0 the first, else a `next`). No "." nor "..". Returns 1, 0 at the end, or -errno.
 * Stable: an offset stays good as long as d is open. One thread at a time for one d. */
int cow_vdir_read(struct cow_vdir *d, uint64_t off, struct cow_dirent *ret);

int cow_vfile_open(struct cow_vnode *vn, struct cow_vfile **ret);
void cow_vfile_close(struct cow_vfile *f);
/* As pread(2) up to the size at the epoch; short only at the end. */
ssize_t cow_vfile_read(struct cow_vfile *f, void *buf, size_t len_bytes, off_t off);
/* lseek(2) with SEEK_DATA or SEEK_HOLE. Returns the offset or -ENXIO. */
off_t cow_vfile_seek(struct cow_vfile *f, off_t off, int whence);

#endif
