/* tools/trees.h - the protected directories that a command line names.
 * Errors:  0 or an exit status, and it was said why. */
#ifndef UMBRA_TOOLS_TREES_H
#define UMBRA_TOOLS_TREES_H

#include <stddef.h>

/* One DIR of the command line. */
struct named_dir {
	size_t tree;	/* index into trees.list */
	char *path;	/* the DIR itself, absolute; owned */
	char *relative; /* the same below the tree, "" for its root; owned */
};

struct tree {
	char *path; /* owned */
	char *id;
};

struct trees {
	struct tree *list; /* each once, in the order of the command line */
	size_t count;
	char **paths; /* theirs, borrowed from list, ended by NULL */
	struct named_dir *dirs;
	size_t dir_count;
};

/** Look up each of n directories; any path inside a protected one stands for it. */
int trees_find(struct trees *ret, char *const *dirs, int n);
void trees_done(struct trees *t);

#endif
