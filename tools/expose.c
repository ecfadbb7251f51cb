/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra expose: one snapshot mounted for good. */
#include <getopt.h>
#include <stdio.h>

#include "tools/commands.h"
#include "tools/common.h"
#include "tools/exposed.h"
#include "tools/find.h"
#include "tools/print.h"

enum { OPT_FOR = TOOL_OPT_OWN, OPT_SUBDIR };

static int run(int argc, char **argv)
{
	static const struct option options[] = {
		TOOL_LONG,
		{ "for", 1, NULL, OPT_FOR },
		{ "subdir", 1, NULL, OPT_SUBDIR },
		{ 0 },
	};
	CLEANUP(umbra_close_p) struct umbra_client *client = NULL;
	CLEANUP(json_decref_p) json_t *snapshot = NULL, *exposed = NULL;
	CLEANUP(free_p) char *path = NULL;
	const char *dir = NULL, *subdir = NULL;
	int c, r;

	while ((c = getopt_long(argc, argv, TOOL_SHORT, options, NULL)) != -1) {
		if (c == OPT_FOR) {
			dir = optarg;
			continue;
		}
		if (c == OPT_SUBDIR) {
			subdir = optarg;
			continue;
		}
		r = tool_option(&cmd_expose, c, argv);
		if (r != TOOL_GO_ON)
			return r;
	}
	if (argc - optind < 1 || argc - optind > 2)
		return tool_usage(&cmd_expose,
				  "expose needs a snapshot, and perhaps a mount point");
	r = tool_connect_manager(&client);
	if (r == 0)
		r = find_snapshot(client, argv[optind], dir, &snapshot);
	if (r == 0)
		r = exposed_add(client, snapshot, argv[optind + 1], subdir, &exposed);
	if (r != 0)
		return r;
	path = tool_path(exposed, "exposed_path");
	if (tool_opts.json)
		print_json(json_pack("{sO}", "snapshot", exposed));
	else if (path)
		puts(path);
	return 0;
}

const struct command cmd_expose = {
	.name = "expose",
	.args = "[OPTION]... SNAPSHOT [MOUNTPOINT]",
	.summary = "mount a snapshot for good: again whenever its directory is protected",
	.help = "  --for DIR     the snapshot is one of DIR\n"
		"  --subdir DIR  show only this directory of it\n\n"
		"Prints where it is. MOUNTPOINT is an empty directory; without one it is a place in\n"
		"the runtime directory. Of the contexts app-rollback and nas-rollback only. Ends with\n"
		"umbra unexpose, or with the snapshot.\n\n"
		"Example: umbra expose before-upgrade /srv/before\n",
	.run = run,
};
