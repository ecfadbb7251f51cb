/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cow/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Set by tests before their threads start or while these run: release pairs with the acquire in
 * hooked(), so whoever sees the hook sees its userdata. */
static _Atomic(cow_file_hook) test_hook;
static void *_Atomic test_userdata;

void cow_file_set_hook(cow_file_hook hook, void *userdata)
{
	atomic_store_explicit(&test_userdata, userdata, memory_order_relaxed);
	atomic_store_explicit(&test_hook, hook, memory_order_release);
}

static __attribute__((noinline, cold)) int ask_hook(cow_file_hook hook, enum cow_file_op op, int fd,
						    const char *path, size_t len)
{
	return hook(atomic_load_explicit(&test_userdata, memory_order_relaxed), op, fd, path, len);
}

/* 0 go on; negative: fail with it. Asked once for each function here, however many system calls a
 * short transfer needs: so the counts of a test do not depend on the kernel. */
static inline int hooked(enum cow_file_op op, int fd, const char *path, size_t len)
{
	cow_file_hook hook = atomic_load_explicit(&test_hook, memory_order_acquire);

	return __builtin_expect(hook != NULL, 0) ? ask_hook(hook, op, fd, path, len) : 0;
}

#define HOOK(op, fd, path, len)                                                                    \
	do {                                                                                       \
		int hooked_ = hooked((op), (fd), (path), (len));                                   \
                                                                                                   \
		if (hooked_ < 0)                                                                   \
			return hooked_;                                                            \
	} while (0)

/* The call's value, or -errno; again after EINTR. */
#define CALL(expr)                                                                                 \
	__extension__({                                                                            \
		__typeof__(expr) call_;                                                            \
                                                                                                   \
		do                                                                                 \
			call_ = (expr);                                                            \
		while (call_ < 0 && errno == EINTR);                                               \
		call_ < 0 ? -(__typeof__(call_))errno : call_;                                     \
	})

/* The magic link of a descriptor leads to its inode itself, also when that is a symbolic link: the
 * kernel jumps there and does not go on following (proc(5), /proc/pid/fd). That is how calls that
 * refuse O_PATH descriptors reach them. */
struct fd_path {
	char text[sizeof("/proc/self/fd/") + 3 * sizeof(int)];
};

static struct fd_path fd_path(int fd)
{
	struct fd_path p;

	snprintf(p.text, sizeof(p.text), "/proc/self/fd/%d", fd);
	return p;
}

/* A descriptor that is not open has no link: say what the direct call would have said. Without /proc
 * every link is missing, hence the question. */
static ssize_t by_link(int fd, ssize_t r)
{
	return r == -ENOENT && fcntl(fd, F_GETFD) < 0 ? -EBADF : r;
}

int cow_file_openat(int dir_fd, const char *path, int flags, mode_t mode)
{
	HOOK(COW_OP_OPEN, dir_fd, path, 0);
	return CALL(openat(dir_fd, path, flags | O_CLOEXEC, mode));
}

int cow_file_reopen(int fd, int flags)
{
	HOOK(COW_OP_OPEN, fd, NULL, 0);
	/* O_NOFOLLOW would refuse the magic link itself */
	return (int)by_link(fd, CALL(open(fd_path(fd).text, (flags & ~O_NOFOLLOW) | O_CLOEXEC)));
}

ssize_t cow_file_pread(int fd, void *buf, size_t len, off_t off)
{
	size_t done = 0;

	HOOK(COW_OP_READ, fd, NULL, len);
	while (done < len) {
		ssize_t n = CALL(pread(fd, (char *)buf + done, len - done, off + (off_t)done));

		if (n < 0)
			return n;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int cow_file_pwrite_all(int fd, const void *buf, size_t len, off_t off)
{
	size_t done = 0;

	HOOK(COW_OP_WRITE, fd, NULL, len);
	while (done < len) {
		ssize_t n = CALL(pwrite(fd, (const char *)buf + done, len - done,
					off + (off_t)done));

		if (n < 0)
			return (int)n;
		if (n == 0)
			return -EIO; /* not for regular files; would go round for ever */
		done += (size_t)n;
	}
	return 0;
}

ssize_t cow_file_pwrite(int fd, const void *buf, size_t len, off_t off)
{
	HOOK(COW_OP_WRITE, fd, NULL, len);
	return CALL(pwrite(fd, buf, len, off));
}

int cow_file_fdatasync(int fd)
{
	HOOK(COW_OP_SYNC, fd, NULL, 0);
	return CALL(fdatasync(fd));
}

int cow_file_fsync(int fd)
{
	HOOK(COW_OP_SYNC, fd, NULL, 0);
	return CALL(fsync(fd));
}

int cow_file_syncfs(int fd)
{
	HOOK(COW_OP_SYNC, fd, NULL, 0);
	return CALL(syncfs(fd));
}

int cow_file_truncate(int fd, off_t size)
{
	HOOK(COW_OP_TRUNCATE, fd, NULL, 0);
	return CALL(ftruncate(fd, size));
}

int cow_file_fallocate(int fd, int mode, off_t off, off_t len)
{
	HOOK(COW_OP_FALLOCATE, fd, NULL, (size_t)len);
	return CALL(fallocate(fd, mode, off, len));
}

ssize_t cow_file_copy_range(int in_fd, off_t in_off, int out_fd, off_t out_off, size_t len)
{
	size_t done = 0;

	HOOK(COW_OP_COPY, out_fd, NULL, len);
	while (done < len) {
		ssize_t n = CALL(copy_file_range(in_fd, &in_off, out_fd, &out_off, len - done, 0));

		if (n < 0)
			return done ? (ssize_t)done : n; /* what was copied cannot be taken back */
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

off_t cow_file_seek(int fd, off_t off, int whence)
{
	HOOK(COW_OP_SEEK, fd, NULL, 0);
	return CALL(lseek(fd, off, whence));
}

int cow_file_unlinkat(int dir_fd, const char *name, int flags)
{
	HOOK(COW_OP_UNLINK, dir_fd, name, 0);
	return CALL(unlinkat(dir_fd, name, flags));
}

int cow_file_renameat(int olddir_fd, const char *oldname, int newdir_fd, const char *newname,
		      unsigned flags)
{
	HOOK(COW_OP_RENAME, olddir_fd, oldname, 0);
	return CALL(renameat2(olddir_fd, oldname, newdir_fd, newname, flags));
}

int cow_file_linkat(int olddir_fd, const char *oldname, int newdir_fd, const char *newname,
		    int flags)
{
	HOOK(COW_OP_LINK, olddir_fd, oldname, 0);
	return CALL(linkat(olddir_fd, oldname, newdir_fd, newname, flags));
}

int cow_file_link_fd(int fd, int newdir_fd, const char *newname)
{
	int r;

	HOOK(COW_OP_LINK, fd, newname, 0);
	r = CALL(linkat(fd, "", newdir_fd, newname, AT_EMPTY_PATH));
	if (r != -ENOENT)
		return r;
	/* Without CAP_DAC_READ_SEARCH that says ENOENT (open(2), O_TMPFILE). */
	r = CALL(linkat(AT_FDCWD, fd_path(fd).text, newdir_fd, newname, AT_SYMLINK_FOLLOW));
	return (int)by_link(fd, r);
}

int cow_file_mkdirat(int dir_fd, const char *name, mode_t mode)
{
	HOOK(COW_OP_MKDIR, dir_fd, name, 0);
	return CALL(mkdirat(dir_fd, name, mode));
}

int cow_file_mknodat(int dir_fd, const char *name, mode_t mode, dev_t rdev)
{
	HOOK(COW_OP_MKNOD, dir_fd, name, 0);
	return CALL(mknodat(dir_fd, name, mode, rdev));
}

int cow_file_symlinkat(const char *target, int dir_fd, const char *name)
{
	HOOK(COW_OP_SYMLINK, dir_fd, name, 0);
	return CALL(symlinkat(target, dir_fd, name));
}

int cow_file_statx(int dir_fd, const char *name, struct statx *ret)
{
	HOOK(COW_OP_STAT, dir_fd, name, 0);
	return CALL(statx(dir_fd, name, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH,
			  STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, ret));
}

ssize_t cow_file_readlinkat(int dir_fd, const char *name, char *buf, size_t size)
{
	ssize_t n;

	HOOK(COW_OP_OTHER, dir_fd, name, size);
	if (size == 0)
		return -ERANGE;
	n = CALL(readlinkat(dir_fd, name, buf, size));
	if (n < 0)
		return n;
	if ((size_t)n == size)
		return -ERANGE; /* perhaps cut: the system call does not tell */
	buf[n] = '\0';
	return n;
}

int cow_file_chmod(int fd, mode_t mode)
{
	int r;

	HOOK(COW_OP_ATTR, fd, NULL, 0);
	r = CALL(fchmod(fd, mode));
	if (r != -EBADF)
		return r;
	return (int)by_link(fd, CALL(fchmodat(AT_FDCWD, fd_path(fd).text, mode, 0)));
}

int cow_file_chown(int fd, uid_t uid, gid_t gid)
{
	HOOK(COW_OP_ATTR, fd, NULL, 0);
	return CALL(fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
}

int cow_file_utimens(int fd, const struct timespec tv[2])
{
	int r;

	HOOK(COW_OP_ATTR, fd, NULL, 0);
	r = CALL(utimensat(fd, "", tv, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
	if (r != -EINVAL)
		return r;
	/* Before Linux 5.8 the empty path was refused. */
	return (int)by_link(fd, CALL(utimensat(AT_FDCWD, fd_path(fd).text, tv, 0)));
}

ssize_t cow_file_getxattr(int fd, const char *name, void *buf, size_t size)
{
	ssize_t n;

	HOOK(COW_OP_XATTR, fd, name, size);
	n = CALL(fgetxattr(fd, name, buf, size));
	if (n != -EBADF)
		return n;
	return by_link(fd, CALL(getxattr(fd_path(fd).text, name, buf, size)));
}

ssize_t cow_file_listxattr(int fd, char *buf, size_t size)
{
	ssize_t n;

	HOOK(COW_OP_XATTR, fd, NULL, size);
	n = CALL(flistxattr(fd, buf, size));
	if (n != -EBADF)
		return n;
	return by_link(fd, CALL(listxattr(fd_path(fd).text, buf, size)));
}

int cow_file_setxattr(int fd, const char *name, const void *val, size_t len, int flags)
{
	int r;

	HOOK(COW_OP_XATTR, fd, name, len);
	r = CALL(fsetxattr(fd, name, val, len, flags));
	if (r != -EBADF)
		return r;
	return (int)by_link(fd, CALL(setxattr(fd_path(fd).text, name, val, len, flags)));
}

int cow_file_removexattr(int fd, const char *name)
{
	int r;

	HOOK(COW_OP_XATTR, fd, name, 0);
	r = CALL(fremovexattr(fd, name));
	if (r != -EBADF)
		return r;
	return (int)by_link(fd, CALL(removexattr(fd_path(fd).text, name)));
}

int cow_file_ioctl(int fd, unsigned long cmd, void *arg)
{
	HOOK(COW_OP_OTHER, fd, NULL, 0);
	return CALL(ioctl(fd, cmd, arg));
}
