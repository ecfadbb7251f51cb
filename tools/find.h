/* tools/find.h - which tree, which snapshot is meant.
 * Job:     names that people give -> objects of the coordinator (io.umbra.varlink).
 * Errors:  0 or an exit status, and it was said why.
 * Threads: the command has one. */
#ifndef UMBRA_TOOLS_FIND_H
#define UMBRA_TOOLS_FIND_H

#include <jansson.h>
#include <stdbool.h>

#include "coordinator/client/client.h"

/**
 * The protected directory that a path lies in.
 * @ret_tree      a Tree, new reference
 * @ret_path      its path, malloc'ed
 * @ret_relative  what of the path lies below it, malloc'ed; NULL: not wanted
 */
int find_tree(struct umbra_client *c, const char *path, json_t **ret_tree, char **ret_path,
	      char **ret_relative);
/** The same without following a link that is the last part of path. */
int find_tree_nofollow(struct umbra_client *c, const char *path, json_t **ret_tree, char **ret_path,
		       char **ret_relative);

/** All snapshots, or those of the tree that holds path; an array ordered by time, oldest first. */
int find_all(struct umbra_client *c, const char *path, json_t **ret);

/**
 * The one snapshot that is meant: its id, a unique prefix of that, its label, its path under
 * .snapshots or a path below that, its name there (@GMT-...), "latest", "latest:DIR" or "NAME:DIR".
 * @dir  the tree is the one that holds this; NULL: not said ("latest" then takes the working
 *       directory's tree, or the only one there is)
 * @ret  a Snapshot, new reference
 */
int find_snapshot(struct umbra_client *c, const char *name, const char *dir, json_t **ret);

/** The same, but the name of a set (its id or a prefix) stands for all its snapshots. An array. */
int find_snapshots(struct umbra_client *c, const char *name, const char *dir, json_t **ret);

/* One snapshot of a command line. */
struct find_operand {
	const char *name, *dir; /* dir may be NULL */
};

/**
 * Take a command line's names apart: NAME, or NAME and the DIR that it is of ("latest ~/data"). A DIR
 * is told from a further name by being a path outside .snapshots, or behind "latest" a directory.
 * @dir  what --for said, for those without a DIR of their own
 * @ret  room for n; borrows from argv
 * Returns how many.
 */
int find_operands(char **argv, int n, const char *dir, struct find_operand *ret);

/** The same where there can be one snapshot only, so that a second word is its DIR, however written. -EINVAL. */
int find_operand(char **argv, int n, const char *dir, struct find_operand *ret);

/** Whether a Writer goes by that name: its name, instance name, class id or instance id. */
bool find_is_writer(const json_t *writer, const char *name);
/** Whether a component does: its name, or its logical path and name with / between. */
bool find_is_component(const json_t *component, const char *name);

/* ---- pure parts, for tests */

/** How well a name fits a Snapshot: 0 not at all, else the higher the better. */
enum find_fit { FIND_NONE, FIND_SET_PREFIX, FIND_PREFIX, FIND_LABEL, FIND_EXACT };
enum find_fit find_fits(const char *name, const json_t *snapshot);
/** Order by time of creation, then by number in the set. */
int find_compare(const json_t *a, const json_t *b);

#endif
