/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/support/world.h - random changes of a directory tree through cow/change.h, the same ones for the same seed.
 * Job:     know what is there (names, inodes, open files) and make one change after the other; what is decided
 *	    depends on the seed and on earlier results only, never on inode numbers or time.
 * Threads: one world each; several may work in one harness, each below a directory of its own, and together in `shared`. */
#ifndef UMBRA_TESTS_SUPPORT_WORLD_H
#define UMBRA_TESTS_SUPPORT_WORLD_H

#include "tests/support/harness.h"

struct world;

struct world_options {
	const char *name;   /* of its directory; NULL: the root itself */
	const char *shared; /* a directory of all worlds, or NULL */
	unsigned max_names; /* about so many live names */
	unsigned max_file;  /* bytes that an ordinary file reaches; 0: 256 KiB */
	bool sparse;	    /* writes, punches and cuts all over a file of max_file bytes */
	bool no_tmpfile;    /* the file system below has none */
};

/* A new world in the harness; its directory is made. NULL: out of memory. */
struct world *world_new(struct harness *h, uint64_t seed, const struct world_options *o);
void world_free(struct world *w);

/* One random change. Returns 0 also where the change was refused as it should be; else the result that cannot be:
 * `w` says which change it was. */
int world_step(struct world *w);
const char *world_last(const struct world *w); /* the last change, in words */
unsigned world_count(const struct world *w);   /* changes so far */
/* Kind of the running change, for fault hooks: 'u'nlink, 'r'ename, 'd' rmdir, 'x'attr, 0 others. Of this thread. */
char world_doing(void);

/* A file of all worlds: changed by this one too, always open. The descriptor is taken. */
void world_adopt(struct world *w, int fd);

/* Open files are closed: after that only what has a name is left. */
void world_close_files(struct world *w);

/* The tree was changed by somebody else: learn anew what is there. Open files are closed. */
void world_rescan(struct world *w);

/* All the names that can occur in its directories. */
#define WORLD_NAMES 30u
const char *const *world_names(const struct world *w);

#endif
