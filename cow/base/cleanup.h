/* cow/base/cleanup.h - release by scope.
 * Job:     the attribute, the hand-over, and destructors for what libc gives us.
 * Errors:  none; destructors accept "empty" (-1, NULL) and preserve errno.
 * Threads: any.
 * Rules:   initialise at the declaration; never goto over a cleanup variable; a failed close() or
 *          fclose() of data we wrote is lost here, so check those by hand first (TAKE_FD, TAKE).
 * Source:  gcc manual, "Common Variable Attributes", cleanup. */

#ifndef UMBRA_COW_BASE_CLEANUP_H
#define UMBRA_COW_BASE_CLEANUP_H

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/** CLEANUP(close_p) int fd = -1; calls close_p(&fd) when fd goes out of scope. */
#define CLEANUP(fn) __attribute__((__cleanup__(fn)))

/** The pointer's value; the variable is NULL afterwards: ownership leaves this scope. */
#define TAKE(ptr)                                                                                  \
	__extension__({                                                                            \
		__typeof__(ptr) *take_from_ = &(ptr);                                              \
		__typeof__(ptr) taken_ = *take_from_;                                              \
		*take_from_ = NULL;                                                                \
		taken_;                                                                            \
	})

/** The descriptor's value; the variable is -1 afterwards. */
#define TAKE_FD(fd)                                                                                \
	__extension__({                                                                            \
		int *take_from_ = &(fd);                                                           \
		int taken_ = *take_from_;                                                          \
		*take_from_ = -1;                                                                  \
		taken_;                                                                            \
	})

/** Define name_p(type *) from free_fn(type): DEFINE_CLEANUP(cow_store_close_p, struct cow_store *,
 *  cow_store_close). NULL is not handed on; errno is preserved. */
#define DEFINE_CLEANUP(name_p, type, free_fn)                                                      \
	static inline void name_p(type *p)                                                         \
	{                                                                                          \
		int saved_errno_ = errno;                                                          \
                                                                                                   \
		if (*p)                                                                            \
			free_fn(*p);                                                               \
		errno = saved_errno_;                                                              \
	}

/** Close *fd unless it is negative. AT_FDCWD is negative too, so it is safe to hand in. */
static inline void close_p(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

/** Free the memory that the variable points at; takes the address of any object pointer. */
static inline void free_p(void *ptr_to_ptr)
{
	int saved = errno;

	free(*(void **)ptr_to_ptr);
	errno = saved;
}

static inline void fclose_p(FILE **f)
{
	int saved = errno;

	if (*f)
		fclose(*f);
	errno = saved;
}

static inline void closedir_p(DIR **d)
{
	int saved = errno;

	if (*d)
		closedir(*d);
	errno = saved;
}

#endif
