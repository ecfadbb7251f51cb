/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/support/tree.h - a directory tree written down whole, to be compared with another or with itself later.
 * Job:     read a live directory into a list; keep it in a file; compare two lists exactly; copy a tree.
 * Content: the hash of every 4 KiB that are not all zero, so that a large sparse file costs little, and where
 *	    holes are. Attributes: all that a backup program keeps, but the access time.
 * Errors:  0 or -errno.
 * Threads: none of its own; the directory must stand still while it is read. */
#ifndef UMBRA_TESTS_SUPPORT_TREE_H
#define UMBRA_TESTS_SUPPORT_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>

#define TREE_BLOCK 4096u

struct tree_block {
	uint64_t block, hash;
};

struct tree_extent {
	uint64_t start, end;
};

struct tree_entry {
	char *path; /* relative to the root, which is "" */
	struct statx
		sx; /* stx_nlink: as many names as were found here, not what the file system says */
	unsigned raw_nlink; /* what it says */
	char *link;	    /* target of a symbolic link, or NULL */
	uint8_t *xattrs;    /* sorted: name, NUL, 4 bytes of length, value */
	size_t xattrs_len;
	struct tree_block *blocks; /* not all zero, in order */
	size_t n_blocks;
	struct tree_extent *data; /* SEEK_DATA to SEEK_HOLE */
	size_t n_data;
	bool unwritten; /* has, or had, preallocated space: it shows as data or as a hole */
};

struct tree {
	struct tree_entry *e; /* by path, as strcmp sorts */
	size_t n;
};

#define TREE_BLOCKS_LOOSE 1u /* block counts may differ a little: the file system's own metadata */
#define TREE_CONTENT_ONLY                                                                          \
	2u /* another copy of the tree: no inode numbers, times, block counts, holes */
#define TREE_HOLES_LOOSE 8u   /* what is a hole is not compared */
#define TREE_NO_ROOT_TIMES 4u /* the root's own times and size are not compared */
#define TREE_REVERTED                                                                              \
	16u /* what nobody can set is not compared: change times, block counts, sizes of directories */

/* Read the tree at dir_fd (any fd). `skip`: an entry of the root that is not read, or NULL. */
int tree_read(int dir_fd, const char *skip, struct tree *ret);
void tree_done(struct tree *t);

/* Building one entry by entry. */
struct tree_entry *tree_add(struct tree *t, const char *path); /* NULL: out of memory */
int tree_add_block(struct tree_entry *e, uint64_t block, const uint8_t *bytes, size_t len);
int tree_add_extent(struct tree_entry *e, uint64_t start, uint64_t end);
/* `get` answers as getxattr(2), `list` as listxattr(2). */
int tree_set_xattrs(struct tree_entry *e,
		    ssize_t (*get)(void *ud, const char *name, void *buf, size_t size),
		    ssize_t (*list)(void *ud, char *buf, size_t size), void *ud);
void tree_sort(struct tree *t);	       /* after the last was added */
void tree_count_links(struct tree *t); /* set stx_nlink from the names found */

const struct tree_entry *tree_find(const struct tree *t, const char *path); /* NULL: not there */

/* Are both the same? If not, `why` is one line on the first difference. */
bool tree_same(const struct tree *want, const struct tree *got, unsigned flags, char *why,
	       size_t why_len);

/* Keep it in a file, and read it back. */
int tree_save(const struct tree *t, FILE *f);
int tree_load(FILE *f, struct tree *ret);

/* Copy a whole tree with links, holes and attributes, and remove one. */
int tree_copy(int from_fd, int to_fd);
int tree_remove(int parent_fd, const char *name);

#endif
