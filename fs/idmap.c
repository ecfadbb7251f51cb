/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/idmap.c - owners without a number; see idmap.h. */
#include "fs/idmap.h"

#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "cow/base/cleanup.h"

/* Written by fs_idmap_start alone. */
static struct {
	bool uid_on, gid_on;
	uid_t uid;
	gid_t gid;
} strange;

static bool is_mapped(const char *map, unsigned id)
{
	CLEANUP(fclose_p) FILE *f = fopen(map, "re");
	unsigned inside, outside, count;

	if (!f)
		return true;
	while (fscanf(f, "%u %u %u", &inside, &outside, &count) == 3)
		if (id >= inside && id - inside < count)
			return true;
	return false;
}

/* True when the kernel shows others as *ret, and *ret is nobody's own number. */
static bool stands_for_others(const char *overflow, const char *map, unsigned *ret)
{
	CLEANUP(fclose_p) FILE *f = fopen(overflow, "re");

	return f && fscanf(f, "%u", ret) == 1 && !is_mapped(map, *ret);
}

void fs_idmap_start(void)
{
	strange.uid_on = stands_for_others("/proc/sys/kernel/overflowuid", "/proc/self/uid_map",
					   &strange.uid);
	strange.gid_on = stands_for_others("/proc/sys/kernel/overflowgid", "/proc/self/gid_map",
					   &strange.gid);
}

void fs_idmap_show(uid_t *uid, gid_t *gid)
{
	if (strange.uid_on && *uid == strange.uid)
		*uid = geteuid();
	if (strange.gid_on && *gid == strange.gid)
		*gid = getegid();
}
