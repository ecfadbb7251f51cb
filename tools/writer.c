/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra writer: finds the kind and runs it. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cow/base/err.h"
#include "tools/commands.h"
#include "tools/common.h"
#include "tools/writer/kinds.h"

static char *find_program(const char *kind)
{
	char name[64];

	snprintf(name, sizeof(name), "umbra-writer-%.32s", kind);
	return tool_find_program("tools/writer", name);
}

static void usage(FILE *out)
{
	fprintf(out,
		"usage: umbra writer KIND [ARGUMENT]...\n\n"
		"Let something take part in snapshots: freeze before, thaw after. It runs in the\n"
		"foreground until SIGTERM or SIGINT; kinds are:\n\n");
	for (const struct writer_kind *k = writer_kinds; k->name; k++) {
		CLEANUP(free_p) char *program = k->run ? NULL : find_program(k->name);

		fprintf(out, "  %-10s %s%s\n", k->name, k->summary,
			k->run || program ? "" : " (not installed)");
	}
	fprintf(out, "\numbra writer KIND --help tells more. See umbra-writer(1).\n");
}

/* Becomes the program; comes back only when it cannot. */
static int run_program(const char *kind, char **argv)
{
	CLEANUP(free_p) char *program = find_program(kind);

	if (!program)
		return tool_error("umbra-writer-%s is not installed", kind);
	argv[0] = program;
	fflush(NULL);
	execv(program, argv);
	return tool_error("cannot run %s: %s", LOG_QUOTE(program), err_text(-errno));
}

static int run(int argc, char **argv)
{
	if (argc < 2) {
		usage(stderr);
		return TOOL_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		usage(stdout);
		return TOOL_DONE;
	}
	for (const struct writer_kind *k = writer_kinds; k->name; k++) {
		if (strcmp(argv[1], k->name) == 0)
			return k->run ? k->run(argc - 1, argv + 1) : run_program(k->name, argv + 1);
	}
	return tool_usage(&cmd_writer, "there is no kind of writer %s", LOG_QUOTE(argv[1]));
}

const struct command cmd_writer = {
	.name = "writer",
	.args = "KIND [ARGUMENT]...",
	.summary = "let something take part in snapshots: freeze before, thaw after",
	.help = "umbra writer --help lists the kinds.\n",
	.run = run,
};
