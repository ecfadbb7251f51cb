/* cow/base/fusemount.h - FUSE mounts whose server is another process.
 * Job:     mount read-only, yielding the descriptor to serve on; unmount.
 * Errors:  0 or -errno, ret_ arguments then untouched.
 * Threads: any (a helper is started and waited for).
 * Source:  mount(8) of fuse in Documentation/filesystems/fuse.rst; fusermount3(1), _FUSE_COMMFD. */
#ifndef UMBRA_COW_BASE_FUSEMOUNT_H
#define UMBRA_COW_BASE_FUSEMOUNT_H

#include <stdbool.h>

/**
 * Open /dev/fuse and mount(2) it: needs CAP_SYS_ADMIN over the mount namespace. The descriptor must be
 * opened in the user namespace that mounts, or the kernel refuses it (fuse_fill_super).
 * @source   what the mount table shows
 * @ret_fd   the connection, owned by the caller; the mount hangs until somebody serves it
 * Returns 0; -EPERM not allowed; -ENOENT, -EACCES /dev/fuse cannot be used.
 */
int fusemount_direct(const char *target, const char *source, int *ret_fd);

/** The same by fusermount3, for who may not mount. -ENOPKG when it is not installed; its own words
 *  are on standard error. */
int fusemount_helper(const char *target, const char *source, int *ret_fd);

/** Whichever of the two this process may use. */
int fusemount(const char *target, const char *source, int *ret_fd);

/**
 * Unmount a mount of Umbra's by umount2(2), by fusermount3 where that is not allowed. What the mount table has at
 * that path is unmounted, and never what the path leads to while somebody renames what is above.
 * @target  absolute, without links
 * @lazy  detach now, let go when the last user has left
 * Returns 0; -EBUSY in use; -EINVAL not mounted, or something else is over it; -EPERM; -ENOPKG.
 */
int fusemount_unmount(const char *target, bool lazy);

/** Whether this process has CAP_SYS_ADMIN in its own user namespace. */
bool fusemount_privileged(void);

#endif
