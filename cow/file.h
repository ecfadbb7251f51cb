/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cow/file.h - the one thin layer through which cow/ touches files: so that a test can fail or stop at the Nth call.
 * Job:     each function is the system call of its name, EINTR retried, short transfers completed, -errno returned.
 * Threads: any.     Nothing else in cow/ changes, reads or names a file except through here (LMDB aside). */
#ifndef UMBRA_COW_FILE_H
#define UMBRA_COW_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

enum cow_file_op {
	COW_OP_OPEN, COW_OP_READ, COW_OP_WRITE, COW_OP_SYNC, COW_OP_TRUNCATE, COW_OP_FALLOCATE, COW_OP_UNLINK,
	COW_OP_RENAME, COW_OP_LINK, COW_OP_MKDIR, COW_OP_MKNOD, COW_OP_SYMLINK, COW_OP_STAT, COW_OP_ATTR, COW_OP_XATTR,
	COW_OP_COPY, COW_OP_SEEK, COW_OP_OTHER,
};

/* Test hook, consulted before each call: 0 go on, -errno fail with it without calling. NULL in production (one
 * predictable branch). A hook that never returns (_exit) is a crash at that point. `path` may be NULL. */
typedef int (*cow_file_hook)(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len);
void cow_file_set_hook(cow_file_hook hook, void *userdata);

int cow_file_openat(int dir_fd, const char *path, int flags, mode_t mode);	/* O_CLOEXEC added; fd or -errno */
int cow_file_reopen(int fd, int flags);		/* by /proc/self/fd: a fresh description of any fd, also O_PATH */
ssize_t cow_file_pread(int fd, void *buf, size_t len, off_t off);	/* whole, or less at the end of the file */
int cow_file_pwrite_all(int fd, const void *buf, size_t len, off_t off);	/* whole or -errno */
ssize_t cow_file_pwrite(int fd, const void *buf, size_t len, off_t off);	/* one call, as far as it gets */
int cow_file_fdatasync(int fd);
int cow_file_fsync(int fd);
int cow_file_syncfs(int fd);				/* not O_PATH */
int cow_file_truncate(int fd, off_t size);
int cow_file_fallocate(int fd, int mode, off_t off, off_t len);
ssize_t cow_file_copy_range(int in_fd, off_t in_off, int out_fd, off_t out_off, size_t len);
off_t cow_file_seek(int fd, off_t off, int whence);
int cow_file_unlinkat(int dir_fd, const char *name, int flags);
int cow_file_renameat(int olddir_fd, const char *oldname, int newdir_fd, const char *newname, unsigned flags);
int cow_file_linkat(int olddir_fd, const char *oldname, int newdir_fd, const char *newname, int flags);
int cow_file_link_fd(int fd, int newdir_fd, const char *newname);	/* names the inode behind any fd */
int cow_file_mkdirat(int dir_fd, const char *name, mode_t mode);
int cow_file_mknodat(int dir_fd, const char *name, mode_t mode, dev_t rdev);
int cow_file_symlinkat(const char *target, int dir_fd, const char *name);
int cow_file_statx(int dir_fd, const char *name, struct statx *ret);	/* "" : dir_fd itself; never follows */
ssize_t cow_file_readlinkat(int dir_fd, const char *name, char *buf, size_t size);	/* NUL-terminated; -ERANGE */
int cow_file_chmod(int fd, mode_t mode);		/* any fd */
int cow_file_chown(int fd, uid_t uid, gid_t gid);
int cow_file_utimens(int fd, const struct timespec tv[2]);
ssize_t cow_file_getxattr(int fd, const char *name, void *buf, size_t size);	/* any fd, symlinks too */
ssize_t cow_file_listxattr(int fd, char *buf, size_t size);
int cow_file_setxattr(int fd, const char *name, const void *val, size_t len, int flags);
int cow_file_removexattr(int fd, const char *name);
int cow_file_ioctl(int fd, unsigned long cmd, void *arg);

#endif
