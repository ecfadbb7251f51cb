/* cow/base/mounts.h - the mount table of this process, or of another.
 * Job:     read /proc/PID/mountinfo and find mounts in it. Source: proc_pid_mountinfo(5).
 * Errors:  0 or -errno, ret_ arguments then untouched.
 * Threads: any; no state but the caller's table. */
#ifndef UMBRA_COW_BASE_MOUNTS_H
#define UMBRA_COW_BASE_MOUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/** What Umbra's mounts are of: type, and what stands, with the snapshot's id behind it, as source of a
 *  snapshot that somebody mounted, and of one that umbrafs exposes. */
#define MOUNTS_TYPE "fuse.umbra"
#define MOUNTS_SNAPSHOT_SOURCE "umbra-snapshot:"
#define MOUNTS_EXPOSED_SOURCE "umbra-exposed:"

struct mount {
	int id;	    /* while it lasts; then another may get it */
	int parent; /* its id; not in the table where it cannot be reached from the root */
	uid_t uid; /* who runs its daemon, as this user namespace has him; of no FUSE mount: (uid_t)-1 */
	char *root;		     /* what of its file system is mounted; owned, as are: */
	char *point, *type, *source; /* all without the kernel's escapes */
	bool read_only;
};

struct mounts {
	struct mount *list; /* in the order of the kernel: a later one lies over an earlier one */
	size_t count;
};

/** One line of the file. -EINVAL when it is none. mount_done() frees what *ret holds. */
int mount_parse(const char *line, struct mount *ret);
void mount_done(struct mount *m);

int mounts_read(struct mounts *ret);
/** The table of another process: the path of its mountinfo. */
int mounts_read_from(const char *path, struct mounts *ret);
void mounts_done(struct mounts *m);

/** The mount of that number, NULL if there is none. Borrowed. */
const struct mount *mounts_of_id(const struct mounts *m, int id);
/** The uppermost mount at exactly this point, NULL if there is none. Borrowed. */
const struct mount *mounts_at(const struct mounts *m, const char *point);
/** The deepest mount that path lies in; of several at one point the uppermost. NULL if there is none. Borrowed. */
const struct mount *mounts_above(const struct mounts *m, const char *path);
/** The deepest mount of Umbra that path lies in, dead ones too; NULL if there is none. Borrowed. */
const struct mount *mounts_umbra_above(const struct mounts *m, const char *path);
/** The id of the mount that an open thing is in; asks no daemon. -EINVAL where the kernel does not tell. */
int mounts_id_of(int fd);
/**
 * A directory by its absolute path, which must have no links: O_PATH, and the mount that it is in. Who owns a directory above
 * may lead a path elsewhere at any time, the descriptor stays where it is. Asks no daemon when it is the root of a mount.
 * @ret_table  mounts_done() it
 * @ret_at     borrowed from ret_table
 * Returns 0; -ESTALE the path leads elsewhere; errors of open(2).
 */
int mounts_open(const char *path, struct mounts *ret_table, const struct mount **ret_at,
		int *ret_fd);
/** The root of a protected directory (its mount's point is path) that a daemon of this user's or of root's serves; O_PATH.
 *  Returns 0; -ESTALE the path leads elsewhere, or it is not protected; errors of open(2). */
int mounts_open_tree(const char *path, int *ret_fd);
/** Whether it is one of Umbra's, of this user or of root: nobody else decides what is in it. */
bool mount_is_trusted(const struct mount *m);
/** Whether the FUSE mount that a directory lies in has lost its daemon. */
bool mounts_is_dead(const char *dir);
bool mount_is_umbra(const struct mount *m);
/** A mounted snapshot, exposed or not, and no protected directory. */
bool mount_is_snapshot(const struct mount *m);
bool mount_is_exposed(const struct mount *m);

#endif
