/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tools/writer/hookdir.h - the executables of a hook directory.
 * Job:     list them in name order; refuse what others could change.
 * Errors:  0 or -errno; *ret_bad then says in words, malloc'ed, what is wrong with what, or is NULL.
 * Threads: any.
 * Rules:   what is run here runs with our rights: directory, programs and every directory above
 *          must be root's or ours, and writable by nobody else. A sticky directory above (as /tmp is)
 *          will do: in it others cannot replace what is ours. */
#ifndef UMBRA_TOOLS_WRITER_HOOKDIR_H
#define UMBRA_TOOLS_WRITER_HOOKDIR_H

#include <stddef.h>

struct hookdir {
	char **paths; /* absolute, in the order of their names' bytes */
	size_t count;
};

/**
 * Programs are regular files, or links to such, that may be executed. Names that begin with a dot or
 * end as editors and package managers name their leftovers (~ .bak .orig .rpmnew .rpmsave .rpmorig
 * .dpkg-*) are no programs.
 * @dir  absolute, without links
 * Returns 0; -EPERM somebody else could change something; -ENOENT, -ENOTDIR, -EACCES, -ENOMEM ...
 */
int hookdir_read(const char *dir, struct hookdir *ret, char **ret_bad);
void hookdir_done(struct hookdir *h);

#endif
