/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra mount: one snapshot as a file system of its own. */
#include <errno.h>
#include <getopt.h>
#include <sys/stat.h>

#include "cow/base/err.h"
#include "cow/base/fusemount.h"
#include "cow/base/mounts.h"
#include "tools/commands.h"
#include "tools/common.h"
#include "tools/find.h"
#include "tools/ns.h"
#include "tools/path.h"
#include "tools/print.h"

/* Whether a snapshot can be mounted there. */
static int check_mountpoint(const char *given, const char *path)
{
	CLEANUP(mounts_done) struct mounts mounts = { 0 };
	const struct mount *at;
	struct stat st;
	int r = mounts_read(&mounts);

	if (r < 0)
		return tool_error("the mount table: %s", err_text(r));
	at = mounts_at(&mounts, path);
	if (at && mount_is_snapshot(at))
		return tool_error("%s has a snapshot mounted already (try: umbra %s %s)",
				  LOG_QUOTE(given), mount_is_exposed(at) ? "unexpose" : "umount",
				  LOG_QUOTE(given));
	if (at && mount_is_umbra(at))
		return tool_error(
			"%s is a protected directory (give another place, such as a new directory "
			"in /tmp)",
			LOG_QUOTE(given));
	if (stat(path, &st) < 0)
		return tool_error("%s: %s (make the directory first)", LOG_QUOTE(given),
				  err_text(-errno));
	if (!S_ISDIR(st.st_mode))
		return tool_error("%s is not a directory, so nothing can be mounted there",
				  LOG_QUOTE(given));
	return 0;
}

static int serve(struct umbra_client *c, const json_t *snapshot, const char *path, int fd)
{
	json_t *params = json_pack("{ss}", "snapshot_id", tool_str(snapshot, "id"));

	if (!params || umbra_json_set_path(params, "mountpoint", path) < 0) {
		json_decref(params);
		return tool_no_memory();
	}
	return tool_call_fd(c, "ServeSnapshot", params, fd, NULL, NULL);
}

static int mount_snapshot(struct umbra_client *c, const json_t *snapshot, const char *path)
{
	CLEANUP(free_p) char *source = ns_source(snapshot);
	CLEANUP(close_p) int fd = -1;
	int r;

	if (!source)
		return tool_no_memory();
	r = fusemount(path, source, &fd);
	if (r == -ENOPKG)
		return tool_error("mounting at %s needs fusermount3 (install fuse3, or be root)",
				  LOG_QUOTE(path));
	if (r < 0)
		return tool_error("mounting at %s: %s (is it yours, and is /dev/fuse there?)",
				  LOG_QUOTE(path), err_text(r));
	r = serve(c, snapshot, path, fd);
	if (r != 0)
		(void)fusemount_unmount(path, true); /* the refusal was said; nobody serves it */
	return r;
}

enum { OPT_FOR = TOOL_OPT_OWN };

static int run(int argc, char **argv)
{
	static const struct option options[] = { TOOL_LONG, { "for", 1, NULL, OPT_FOR }, { 0 } };
	CLEANUP(umbra_close_p) struct umbra_client *client = NULL;
	CLEANUP(json_decref_p) json_t *snapshot = NULL;
	CLEANUP(free_p) char *path = NULL;
	struct find_operand what;
	const char *dir = NULL, *point;
	int c, r;

	while ((c = getopt_long(argc, argv, TOOL_SHORT, options, NULL)) != -1) {
		if (c == OPT_FOR) {
			dir = optarg;
			continue;
		}
		r = tool_option(&cmd_mount, c, argv);
		if (r != TOOL_GO_ON)
			return r;
	}
	if (find_operand(argv + optind, argc - optind - 1, dir, &what) < 0)
		return tool_usage(&cmd_mount, "mount needs a snapshot and a mount point");
	point = argv[argc - 1];
	r = path_resolve(point, true, &path);
	if (r < 0)
		return tool_error("%s: %s", LOG_QUOTE(point), err_text(r));
	r = check_mountpoint(point, path);
	if (r == 0)
		r = tool_connect_manager(&client);
	if (r == 0)
		r = find_snapshot(client, what.name, what.dir, &snapshot);
	if (r == 0)
		r = mount_snapshot(client, snapshot, path);
	if (r == 0 && tool_opts.json)
		print_json(json_pack("{sO}", "snapshot", snapshot));
	return r;
}

const struct command cmd_mount = {
	.name = "mount",
	.args = "[OPTION]... SNAPSHOT [DIR] MOUNTPOINT",
	.summary = "mount a snapshot, read-only, with the original inode numbers",
	.help = "  --for DIR  the snapshot is one of DIR\n\n"
		"Until it is unmounted, the snapshot is in use. The mount ends with the protection of\n"
		"its directory; one that comes back with it: umbra expose.\n\n"
		"Example: umbra mount latest /srv/db /mnt && ls /mnt && umbra umount /mnt\n",
	.run = run,
};
