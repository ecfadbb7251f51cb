/* tools/walk.h - visit a directory tree by descriptors.
 * Job:     the recursion; what to do with each thing is the caller's.
 * Errors:  0, or what a callback returned when that was not 0: the walk then stops there.
 * Threads: the command has one. Never follows a symbolic link; one descriptor per level. */
#ifndef UMBRA_TOOLS_WALK_H
#define UMBRA_TOOLS_WALK_H

#include <sys/stat.h>

struct walk_item {
	int dir_fd; /* of the directory that holds it, borrowed */
	int fd;	    /* O_PATH of the thing itself; of a directory: open for reading; borrowed */
	const char *name; /* its name there */
	const char *path; /* from the start, "" for the start itself; for messages */
	struct stat st;
};

struct walk_ops {
	/* A directory, before what is in it. WALK_SKIP: not into it, and no leave. */
	int (*enter)(void *ctx, const struct walk_item *it);
	/* The same directory, afterwards. May be NULL. */
	int (*leave)(void *ctx, const struct walk_item *it);
	/* Anything else. */
	int (*other)(void *ctx, const struct walk_item *it);
	/* Something cannot be opened or read. */
	int (*failed)(void *ctx, const char *path, int error);
};

#define WALK_SKIP (-1)

/**
 * Visit dir_fd/name and everything below. The name "." visits the directory itself.
 * @path  what item.path begins with; "" fine
 */
int walk(int dir_fd, const char *name, const char *path, const struct walk_ops *ops, void *ctx);

/**
 * The directory that holds what a relative path leads to, without following a link on the way: O_PATH.
 * @path    "" or one name: base itself
 * @ret_fd  owned by the caller
 * Returns 0; -ENOTDIR for a link; errors of open(2).
 */
int walk_above(int base, const char *path, int *ret_fd);

#endif
