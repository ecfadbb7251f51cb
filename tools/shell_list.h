/* tools/shell_list.h - "list" of umbra shell; names and order of the lines are those that scripts for
 * vssadmin know (K-4), and --json has the objects of io.umbra.
 * Errors:  0 or an exit status, and it was said why.
 * Threads: the command has one. */
#ifndef UMBRA_TOOLS_SHELL_LIST_H
#define UMBRA_TOOLS_SHELL_LIST_H

#include <jansson.h>

/** Snapshots, grouped by set. @all borrowed. */
void shell_list_snapshots(const json_t *all);
int shell_list_trees(void);
int shell_list_providers(void);

#endif
