/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra shell: sessions by hand or by script, as diskshadow has them. */
#include "tools/shell.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>

#include "cow/base/err.h"
#include "tools/commands.h"
#include "tools/common.h"
#include "tools/shell_input.h"
#include "tools/shell_line.h"

/* An alias, else the environment, in which aliases are for those that exec runs. */
static const char *look_up(const char *name, void *data)
{
	const struct shell *sh = data;
	const char *value = shell_alias_get(&sh->aliases, name);

	return value ? value : getenv(name);
}

static int run_line(struct shell *sh, const char *line)
{
	CLEANUP(shell_words_done) struct shell_words words = { 0 };
	char problem[SHELL_PROBLEM_SIZE];
	int r = shell_line_split(line, look_up, sh, &words, problem);

	if (r == -ENOMEM)
		return tool_no_memory();
	if (r < 0) {
		log_error("%s", problem);
		return TOOL_USAGE;
	}
	if (words.count == 0)
		return 0;
	r = shell_command(sh, (int)words.count, words.list);
	fflush(stdout);
	sh->writer_failed |= shell_session_has_failed_writers(&sh->session);
	return r;
}

/* K-3: the end of the input, an error and a signal all lead to the end of the session. */
static int finish(struct shell *sh)
{
	if (sh->session.state == SHELL_CREATED && sh->session.begun)
		log_warn("there was no end backup, so the backup does not count");
	if (sh->session.state == SHELL_RESTORING)
		log_warn("there was no end restore: the writers are told that it failed");
	shell_session_end(&sh->session);
	shell_alias_done(&sh->aliases);
	return sh->writer_failed ? TOOL_WRITER : TOOL_DONE;
}

static int cannot_read(const struct shell_input *in, int r)
{
	switch (r) {
	case -EINTR:
		return tool_error("interrupted");
	case -EFBIG:
		return tool_error("a line is longer than 64 KiB");
	case -EILSEQ:
		return tool_error("a line has a NUL byte in it");
	}
	return tool_error("%s: %s", LOG_QUOTE(shell_input_name(in)), err_text(r));
}

static int run_all(struct shell *sh, struct shell_input *in)
{
	bool person = shell_input_is_terminal(in);
	const char *line;
	int r, status = 0;

	while (!sh->leave && status == 0) {
		r = shell_input_next(in, &line);
		if (r == 0)
			break;
		status = r < 0 ? cannot_read(in, r) : run_line(sh, line);
		if (tool_signal()) {
			if (status == 0)
				status = tool_error("interrupted");
			break;
		}
		if (status != 0 && person && r > 0)
			status = 0; /* it was told: they may go on */
	}
	if (status != 0 && !person)
		log_error("%s ends with an error in line %u", LOG_QUOTE(shell_input_name(in)),
			  shell_input_line(in));
	return status;
}

static int shell(const char *path)
{
	struct shell sh = { 0 };
	struct shell_input *in = NULL;
	int r, status;

	r = shell_input_open(path, &in);
	if (r < 0)
		return tool_error("%s: %s", path ? LOG_QUOTE(path) : "standard input", err_text(r));
	sh.script_is_stdin = !path && !shell_input_is_terminal(in);
	tool_catch_signals();
	status = shell_session_init(&sh.session);
	if (status == 0)
		status = run_all(&sh, in);
	shell_input_close(in);
	r = finish(&sh);
	return tool_worse(status, r);
}

static int run(int argc, char **argv)
{
	static const struct option options[] = { TOOL_LONG, { "script", 1, NULL, 's' }, { 0 } };
	const char *path = NULL;
	int c, r;

	while ((c = getopt_long(argc, argv, TOOL_SHORT "s:", options, NULL)) != -1) {
		if (c == 's') {
			path = optarg;
			continue;
		}
		r = tool_option(&cmd_shell, c, argv);
		if (r != TOOL_GO_ON)
			return r;
	}
	if (optind < argc)
		return tool_usage(&cmd_shell,
				  "shell takes no argument (a script is given with -s)");
	return shell(path);
}

const struct command cmd_shell = {
	.name = "shell",
	.args = "[OPTION]... [-s FILE]",
	.summary = "run backup and restore sessions step by step, by hand or by script (diskshadow's words)",
	.help = "  -s, --script FILE  commands from FILE; without it from standard input\n\n"
		"In a script the first error ends it. Whatever ends the shell, the session is ended\n"
		"properly: a backup that was begun is aborted, volatile snapshots go, the writers of a\n"
		"restore are told. The command help\n"
		"tells which commands there are.\n\n"
		"Example: printf 'add tree /srv/db\\ncreate\\nexec ls %%UMBRA_SNAPSHOT_1%%\\n' | umbra "
		"shell\n",
	.run = run,
};
