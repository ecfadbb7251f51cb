/* tools/shell_exec.h - "exec" of umbra shell: runs a program and waits for it.
 * Errors:  0 or an exit status, and it was said why.
 * Threads: the command has one that takes signals. */
#ifndef UMBRA_TOOLS_SHELL_EXEC_H
#define UMBRA_TOOLS_SHELL_EXEC_H

#include <stdbool.h>

#include "tools/shell_alias.h"

/**
 * Run argv[0] as execvp(3) finds it, with the aliases in its environment. A signal that somebody sends to us
 * meanwhile is handed on, and noted for tool_signal() once the program ended.
 * @no_input  its standard input is /dev/null: ours holds the script
 * Returns 0 when it exited with 0, else TOOL_FAILED.
 */
int shell_exec(char **argv, const struct shell_aliases *aliases, bool no_input);

#endif
