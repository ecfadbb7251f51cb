/* tools/copy.h - copy one file with all that belongs to it, atomically.
 * Job:     contents with holes, by reflink where possible; owner, mode, ACL, xattrs, times.
 * Errors:  0 or -errno; on failure nothing is left behind and the old file stays.
 * Threads: the command has one.
 * Rules:   nothing else is changed, whatever others do in the directory meanwhile: where they can rename and
 *          remove, a copy is made in a directory of its own there, mode 0700, and moved when it is
 *          finished; attributes go by descriptor. */
#ifndef UMBRA_TOOLS_COPY_H
#define UMBRA_TOOLS_COPY_H

#include <stdint.h>
#include <sys/stat.h>

/** Told of each part copied. */
typedef void copy_progress_fn(void *ctx, uint64_t bytes);

struct copy_source {
	int dir_fd; /* borrowed */
	const char *name;
	int fd; /* O_PATH of it, borrowed */
	const struct stat *st;
};

/**
 * Copy a file, link, FIFO, device or socket to dst_dir/dst_name, over whatever is there (but no
 * directory: -EISDIR): under a temporary name in the same directory, fsync, rename.
 * @progress  may be NULL
 * @ret_made  what it is at its new place; may be NULL
 * Returns -EPERM where no directory can be closed to others (vfat, for one), of what is no regular file;
 * -ESTALE when somebody interfered.
 */
int copy_replace(const struct copy_source *src, int dst_dir, const char *dst_name,
		 copy_progress_fn *progress, void *ctx, struct stat *ret_made);

/** The same for a further name of what was already copied and is open (O_PATH). */
int copy_link(int fd, int dst_dir, const char *dst_name);

/**
 * A directory for copies: the one that is there, or a new one of mode 0700.
 * @ret_fd  open for reading, owned by the caller
 * Returns 1 made here, certainly; 0 there already, or perhaps exchanged by others; -errno.
 */
int copy_directory(int dst_dir, const char *name, int *ret_fd);

/** Owner, mode, xattrs, ACLs and times of an open thing; what the destination has and the source has
 *  not goes. Owner and trusted or security attributes only as far as the caller may. */
int copy_attributes(int src_fd, const struct stat *st, int dst_fd);

#endif
