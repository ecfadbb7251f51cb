/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra: finds the sub-command and runs it. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tools/commands.h"
#include "tools/common.h"
#include "tools/print.h"

static const struct command *const commands[] = {
	&cmd_protect, &cmd_unprotect, &cmd_create,   &cmd_list,	   &cmd_show,
	&cmd_delete,  &cmd_mount,     &cmd_umount,   &cmd_expose,  &cmd_unexpose,
	&cmd_backup,  &cmd_diff,      &cmd_versions, &cmd_restore, &cmd_revert,
	&cmd_shell,   &cmd_status,    &cmd_writer,   &cmd_writers,
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *out)
{
	fprintf(out, "usage: umbra COMMAND [ARGUMENT]...\n\n"
		     "Shadow copies of any directory.\n\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
	fprintf(out, "\numbra COMMAND --help tells more. Example:\n\n"
		     "  umbra protect /srv/db\n"
		     "  umbra create /srv/db\n"
		     "  umbra backup /srv/db -- restic backup /srv/db\n"
		     "  umbra unprotect /srv/db\n");
}

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	}
	return NULL;
}

static int help(const char *name)
{
	const struct command *cmd = name ? find(name) : NULL;

	if (cmd)
		tool_help(cmd);
	else
		usage(stdout);
	return TOOL_DONE;
}

static int dispatch(int argc, char **argv)
{
	const struct command *cmd;

	if (argc < 2) {
		usage(stderr);
		return TOOL_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0)
		return help(argc > 2 ? argv[2] : NULL);
	if (strcmp(argv[1], "--version") == 0) {
		puts("umbra " UMBRA_VERSION);
		return TOOL_DONE;
	}
	cmd = find(argv[1]);
	if (!cmd) {
		log_error("there is no command %s (try: umbra --help)", LOG_QUOTE(argv[1]));
		return TOOL_USAGE;
	}
	return cmd->run(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
	int status, r;

	log_set_prefix("umbra");
	/* umbra list | head is no failure, but a peer that goes away must not kill a session. */
	signal(SIGPIPE, SIG_IGN);
	status = dispatch(argc, argv);
	r = print_finish();
	return status ? status : r;
}
