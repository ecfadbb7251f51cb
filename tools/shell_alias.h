/* tools/shell_alias.h - the aliases of umbra shell: %NAME% in a line, $NAME in what exec runs.
 * Errors:  0 or an exit status, and it was said why.
 * Threads: the command has one. */
#ifndef UMBRA_TOOLS_SHELL_ALIAS_H
#define UMBRA_TOOLS_SHELL_ALIAS_H

#include <stddef.h>

struct shell_alias {
	char *name, *value;
};

struct shell_aliases {
	struct shell_alias *list; /* in the order of their first setting; owned */
	size_t count;
};

/** Set, or set anew. Both are copied; the value may be any bytes. */
int shell_alias_set(struct shell_aliases *a, const char *name, const char *value);
/** Borrowed until it is set again; NULL: none. */
const char *shell_alias_get(const struct shell_aliases *a, const char *name);
/** Put all of them into this process's environment. 0 or -errno. */
int shell_alias_export(const struct shell_aliases *a);
void shell_alias_done(struct shell_aliases *a);

#endif
