/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cow/change.h - every change that the live tree can undergo: preserve first, then apply (I-3, F-15).
 * Job:     one function for each kind of change. Each saves what live snapshots can see and then makes the one
 *	    system call below. With no snapshot alive it is only that call.
 * Gate:    the caller has entered it (gate.h) and leaves it after publishing the result in its own tables.
 * Errors:  -errno of the call below, the tree then as it was. A failing store never fails a change: the
 *	    snapshots that it makes untrue are dropped and reported instead (I-5). Functions that may have much
 *	    to copy (marked LONG) return -EAGAIN when a hold is wanted meanwhile: nothing is applied, leave the
 *	    gate, park and call again; what was saved stays saved.
 * Inodes:  `ci` NULL stands for an inode on another file system (a mount below): applied, never preserved.
 *	    Descriptors are borrowed. "any fd" may be O_PATH.
 * Threads: any. The caller keeps two changes of the same name apart, as the kernel does; the rest is done here. */
#ifndef UMBRA_COW_CHANGE_H
#define UMBRA_COW_CHANGE_H

#include <sys/stat.h>
#include <time.h>

#include "cow/cow.h"

/* A directory below. */
struct cow_dir {
	int fd;			 /* any fd of it */
	struct cow_inode *inode; /* or NULL */
};

/* -- content; `fd` open for reading and writing (write-only serves when no snapshot lives) -- */

/* Write; LONG. Returns bytes written as pwrite(2) does. */
ssize_t cow_write(struct cow_store *st, struct cow_inode *ci, int fd, const void *buf,
		  size_t len_bytes, off_t off);
/* copy_file_range(2) into `out`; LONG. Returns bytes copied. `in_fd` open for reading. */
ssize_t cow_copy_range(struct cow_store *st, int in_fd, off_t in_off, struct cow_inode *out,
		       int out_fd, off_t out_off, size_t len_bytes);
/* ftruncate(2); LONG. */
int cow_truncate(struct cow_store *st, struct cow_inode *ci, int fd, off_t size_bytes);
/* fallocate(2), every mode the file system below has; LONG. */
int cow_fallocate(struct cow_store *st, struct cow_inode *ci, int fd, int mode, off_t off,
		  off_t len_bytes);

/* -- attributes; any fd -- */

int cow_chmod(struct cow_store *st, struct cow_inode *ci, int fd, mode_t mode);
int cow_chown(struct cow_store *st, struct cow_inode *ci, int fd, uid_t uid,
	      gid_t gid); /* -1: leave */
int cow_utimens(struct cow_store *st, struct cow_inode *ci, int fd, const struct timespec tv[2]);
int cow_setxattr(struct cow_store *st, struct cow_inode *ci, int fd, const char *name,
		 const void *value, size_t len_bytes, int flags);
int cow_removexattr(struct cow_store *st, struct cow_inode *ci, int fd, const char *name);
/* FS_IOC_SETFLAGS / FS_IOC_FSSETXATTR on an opened fd; `arg` as for ioctl(2). */
int cow_ioctl(struct cow_store *st, struct cow_inode *ci, int fd, unsigned long cmd, void *arg);

/* -- names; the new thing is made with the calling thread's fs credentials and umask -- */

/* open(O_CREAT|O_EXCL|flags): returns the descriptor, >= 0. */
int cow_create(struct cow_store *st, struct cow_dir dir, const char *name, int flags, mode_t mode);
/* open(O_TMPFILE|flags): returns the descriptor. */
int cow_tmpfile(struct cow_store *st, struct cow_dir dir, int flags, mode_t mode);
int cow_mknod(struct cow_store *st, struct cow_dir dir, const char *name, mode_t mode, dev_t rdev);
int cow_mkdir(struct cow_store *st, struct cow_dir dir, const char *name, mode_t mode);
int cow_symlink(struct cow_store *st, struct cow_dir dir, const char *name, const char *target);
/* New name for the inode `ci` behind `fd` (any fd, also an unnamed O_TMPFILE). */
int cow_link(struct cow_store *st, struct cow_inode *ci, int fd, struct cow_dir dir,
	     const char *name);
int cow_unlink(struct cow_store *st, struct cow_dir dir, const char *name);
int cow_rmdir(struct cow_store *st, struct cow_dir dir, const char *name);
/* renameat2(2) with RENAME_NOREPLACE and RENAME_EXCHANGE (WHITEOUT: -EINVAL). */
int cow_rename(struct cow_store *st, struct cow_dir olddir, const char *oldname,
	       struct cow_dir newdir, const char *newname, unsigned flags);

#endif
