/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra unexpose: end what umbra expose began. */
#include <getopt.h>

#include "tools/commands.h"
#include "tools/common.h"
#include "tools/exposed.h"
#include "tools/print.h"

enum { OPT_FOR = TOOL_OPT_OWN, OPT_FORCE };

static int run(int argc, char **argv)
{
	static const struct option options[] = {
		TOOL_LONG,
		{ "for", 1, NULL, OPT_FOR },
		{ "force", 0, NULL, OPT_FORCE },
		{ 0 },
	};
	CLEANUP(umbra_close_p) struct umbra_client *client = NULL;
	CLEANUP(json_decref_p) json_t *snapshot = NULL;
	const char *dir = NULL;
	bool force = false;
	int c, r;

	while ((c = getopt_long(argc, argv, TOOL_SHORT, options, NULL)) != -1) {
		if (c == OPT_FOR) {
			dir = optarg;
			continue;
		}
		if (c == OPT_FORCE) {
			force = true;
			continue;
		}
		r = tool_option(&cmd_unexpose, c, argv);
		if (r != TOOL_GO_ON)
			return r;
	}
	if (argc - optind != 1)
		return tool_usage(&cmd_unexpose, "unexpose needs one snapshot or mount point");
	r = tool_connect_manager(&client);
	if (r == 0)
		r = exposed_find(client, argv[optind], dir, &snapshot);
	if (r == 0)
		r = exposed_remove(client, snapshot, force);
	if (r == 0 && tool_opts.json)
		print_json(json_pack("{sbsO}", "unexposed", 1, "snapshot", snapshot));
	return r;
}

const struct command cmd_unexpose = {
	.name = "unexpose",
	.args = "[OPTION]... MOUNTPOINT|SNAPSHOT",
	.summary = "end what umbra expose began; the snapshot stays",
	.help = "  --for DIR  the snapshot is one of DIR\n"
		"  --force    now, even while in use: who has it open keeps it until closing\n\n"
		"Example: umbra unexpose /srv/before\n",
	.run = run,
};
