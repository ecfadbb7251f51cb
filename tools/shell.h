/* tools/shell.h - inside umbra shell: what its commands share.
 * Job:     shell.c reads and runs lines; shell_commands.c has the commands, each looked up by its words.
 * Errors:  0 or an exit status, and it was said why.
 * Threads: the command has one. */
#ifndef UMBRA_TOOLS_SHELL_H
#define UMBRA_TOOLS_SHELL_H

#include <stdbool.h>
#include <stdio.h>

#include "tools/shell_alias.h"
#include "tools/shell_session.h"

struct shell {
	struct shell_session session;
	struct shell_aliases aliases;
	bool script_is_stdin; /* what exec runs must not read it */
	bool leave;	      /* "exit" */
	bool writer_failed;   /* in some session: exit status 4 */
};

/** Run one command. @argv  its words, at least one, ended by NULL */
int shell_command(struct shell *sh, int argc, char **argv);

/** What commands there are, or what some of them take. @word  the first word; NULL: all */
int shell_command_help(const char *word);

/** End the session as it is due, and forget settings and aliases; begin a new one. */
int shell_reset(struct shell *sh);

#endif
