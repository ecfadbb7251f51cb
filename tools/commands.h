/* tools/commands.h - the sub-commands; each is the file of its name. */
#ifndef UMBRA_TOOLS_COMMANDS_H
#define UMBRA_TOOLS_COMMANDS_H

#include "tools/common.h"

extern const struct command cmd_backup, cmd_create, cmd_delete, cmd_diff, cmd_expose, cmd_list,
	cmd_mount, cmd_protect, cmd_restore, cmd_revert, cmd_shell, cmd_show, cmd_status,
	cmd_umount, cmd_unexpose, cmd_unprotect, cmd_versions, cmd_writer, cmd_writers;

#endif
