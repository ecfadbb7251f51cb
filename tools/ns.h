/* tools/ns.h - private mount namespaces: snapshots that only one process and its children see.
 * Job:     enter one; mount snapshots in it, served from outside; open a snapshot without mounting
 *          anything that others could see.
 * Errors:  said at each function.
 * Threads: the command has one; ns_enter() is for a forked child.
 * Source:  unshare(2), user_namespaces(7), mount_namespaces(7). */
#ifndef UMBRA_TOOLS_NS_H
#define UMBRA_TOOLS_NS_H

#include <jansson.h>
#include <stdbool.h>

#include "coordinator/client/client.h"

/**
 * A mount namespace of its own, with all mounts private; where that is not allowed, in a user
 * namespace in which the caller is who it was before (files of others then show as nobody's).
 * Returns 0; -errno with *ret_what naming the step (static).
 */
int ns_enter(const char **ret_what);

/** What a child tells its parent, one packet each. A mounted connection comes with its descriptor. */
struct ns_message {
	enum { NS_MOUNTED = 1, NS_FAILED } kind;
	unsigned index; /* which snapshot */
	int error;	/* -errno of a failure */
	char what[64];	/* what failed */
};

/**
 * In the child: mount one snapshot and wait until the parent has it served.
 * @sock    to the parent, see ns_serve()
 * @over_tree  target is the path of a protected directory, and it is an error when it leads elsewhere
 * Returns 0; -errno, of which the parent knows.
 */
int ns_mount(int sock, unsigned index, const char *target, bool over_tree, const char *source);
/** In the child: tell the parent of a failure. */
void ns_fail(int sock, int error, const char *what);

/**
 * In the parent: have the child's mounts served until it closes its end (by exec, exit) or fails.
 * @snapshots  array of Snapshot objects (io.umbra.varlink); index i of the child is element i
 * @targets    where each is mounted, for listings
 * Returns 0 when the child got all it wanted; an exit status, and it was said why.
 */
int ns_serve(int sock, struct umbra_client *c, const json_t *snapshots, char *const *targets);

/**
 * The root directory of a snapshot as a descriptor (O_PATH): by its path under .snapshots where there
 * is one, else by a mount that nobody else sees and that ends with the descriptor.
 * @ret_fd  owned by the caller
 * Returns 0 or an exit status.
 */
int ns_open_snapshot(struct umbra_client *c, const json_t *snapshot, int *ret_fd);

/** The same; NULL for the snapshot: of the live tree, whose path that is. */
int ns_open_side(struct umbra_client *c, const json_t *snapshot, const char *tree, int *ret_fd);

/** What the mount table shows as source of a mounted snapshot, malloc'ed. */
char *ns_source(const json_t *snapshot);

#endif
