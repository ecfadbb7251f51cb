/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra umount: a mounted snapshot. */
#include <errno.h>
#include <getopt.h>

#include "cow/base/err.h"
#include "cow/base/fusemount.h"
#include "cow/base/mounts.h"
#include "tools/commands.h"
#include "tools/common.h"
#include "tools/path.h"
#include "tools/print.h"

static int unmount(const char *given, bool lazy)
{
	CLEANUP(mounts_done) struct mounts mounts = { 0 };
	CLEANUP(free_p) char *path = NULL;
	const struct mount *at;
	int r = path_resolve(given, true, &path);

	if (r == 0)
		r = mounts_read(&mounts);
	if (r < 0)
		return tool_error("%s: %s", LOG_QUOTE(given), err_text(r));
	at = mounts_at(&mounts, path);
	if (!at || !mount_is_umbra(at))
		return tool_error("no snapshot is mounted at %s (see: findmnt -t %s)",
				  LOG_QUOTE(given), MOUNTS_TYPE);
	if (!mount_is_snapshot(at))
		return tool_error(
			"%s is a protected directory, not a mounted snapshot (try: umbra unprotect "
			"%s)",
			LOG_QUOTE(given), LOG_QUOTE(given));
	if (mount_is_exposed(at) && !mounts_is_dead(path))
		return tool_error(
			"%s is an exposed snapshot and would be mounted again with the next protect (try: "
			"umbra unexpose %s)",
			LOG_QUOTE(given), LOG_QUOTE(given));
	r = fusemount_unmount(path, lazy);
	if (r == -EBUSY)
		return tool_error(
			"%s is in use (leave it and close its files, or: umbra umount --force %s)",
			LOG_QUOTE(given), LOG_QUOTE(given));
	if (r == -ENOPKG)
		return tool_error("unmounting %s needs fusermount3 (install fuse3, or be root)",
				  LOG_QUOTE(given));
	return r < 0 ? tool_error("%s: %s", LOG_QUOTE(given), err_text(r)) : 0;
}

enum { OPT_FORCE = TOOL_OPT_OWN };

static int run(int argc, char **argv)
{
	static const struct option options[] = { TOOL_LONG,
						 { "force", 0, NULL, OPT_FORCE },
						 { 0 } };
	bool lazy = false;
	int c, r;

	while ((c = getopt_long(argc, argv, TOOL_SHORT, options, NULL)) != -1) {
		if (c == OPT_FORCE) {
			lazy = true;
			continue;
		}
		r = tool_option(&cmd_umount, c, argv);
		if (r != TOOL_GO_ON)
			return r;
	}
	if (argc - optind != 1)
		return tool_usage(&cmd_umount, "umount needs one mount point");
	r = unmount(argv[optind], lazy);
	if (r == 0 && tool_opts.json)
		print_json(json_pack("{sb}", "unmounted", true));
	return r;
}

const struct command cmd_umount = {
	.name = "umount",
	.args = "[OPTION]... MOUNTPOINT",
	.summary = "unmount a snapshot that umbra mount mounted",
	.help = "  --force  now, even while in use: it ends when its last user leaves\n\n"
		"Example: umbra umount /mnt\n",
	.run = run,
};
