/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A procfs made of plain files: what is mounted on a name of a tree is found in whatever namespace it is. */
#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/mounted.h"
#include "tests/support/leaks.h"

#define HOST "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
#define OURS "30 20 0:55 / /srv/tree rw - fuse.umbra umbra rw\n"

static char proc[PATH_MAX];

static void setup(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(proc, sizeof(proc), "%s/umbra-proc.XXXXXX", tmp ? tmp : "/tmp");
	cr_assert(mkdtemp(proc));
}

static const char *in(const char *pid, const char *name)
{
	static char path[2 * PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s%s%s", proc, pid, *name ? "/" : "", name);
	return path;
}

/* mountinfo NULL: cannot be read */
static void process(const char *pid, const char *ns, const char *root, const char *mountinfo)
{
	FILE *f;

	cr_assert_eq(mkdir(in(pid, ""), 0700), 0);
	cr_assert_eq(mkdir(in(pid, "ns"), 0700), 0);
	cr_assert_eq(symlink(ns, in(pid, "ns/mnt")), 0);
	cr_assert_eq(symlink(root, in(pid, "root")), 0);
	if (!mountinfo)
		return;
	f = fopen(in(pid, "mountinfo"), "we");
	cr_assert(f);
	cr_assert_geq(fputs(mountinfo, f), 0);
	cr_assert_eq(fclose(f), 0);
}

static void teardown(void)
{
	static const char *const pids[] = { "self", "1", "2", "3", "4" };
	static const char *const names[] = { "ns/mnt", "root", "mountinfo" };

	for (unsigned i = 0; i < 5; i++) {
		for (unsigned j = 0; j < 3; j++)
			unlink(in(pids[i], names[j]));
		rmdir(in(pids[i], "ns"));
		rmdir(in(pids[i], ""));
	}
	cr_expect_eq(rmdir(proc), 0);
}

TestSuite(fs_mounted, .init = setup, .fini = teardown);

Test(fs_mounted, what_lies_on_a_name_in_a_tree_and_nothing_else)
{
	struct fs_mounted m = { 0 };

	process("self", "mnt:[1]", "/",
		HOST OURS "40 30 8:1 /x /srv/tree/etc/hosts rw shared:1 - ext4 /dev/sda1 rw\n"
			  "41 30 0:7 / /srv/tree/a\\040b rw - tmpfs tmpfs rw\n"
			  "42 40 0:8 / /srv/tree/etc/hosts/over rw - tmpfs tmpfs rw\n"
			  "43 20 0:9 / /srv/other rw - tmpfs tmpfs rw\n"
			  "44 20 0:55 /conf /etc/bound rw - fuse.umbra umbra rw\n");
	cr_assert_eq(fs_mounted_read(proc, &m), 0);
	cr_expect(fs_mounted_has(&m, "hosts"));
	cr_expect(fs_mounted_has(&m, "a b"));
	cr_expect_not(fs_mounted_has(&m, "over"), "it lies on a mount that is none of ours");
	cr_expect_not(fs_mounted_has(&m, "other"));
	cr_expect_not(fs_mounted_has(&m, "tree"), "our own mount is not in a tree");
	cr_expect_not(fs_mounted_has(&m, "bound"), "nothing is mounted on it");
	cr_expect_not(fs_mounted_has(&m, "host"));
	cr_expect_not(fs_mounted_has(&m, ""));
	fs_mounted_done(&m);
	assert_no_leaks();
}

Test(fs_mounted, in_every_namespace_and_from_every_root_once)
{
	struct fs_mounted m = { 0 };

	process("self", "mnt:[1]", "/", HOST OURS);
	process("1", "mnt:[1]", "/", HOST OURS "40 30 0:7 / /srv/tree/one rw - tmpfs x rw\n");
	process("2", "mnt:[2]", "/", HOST OURS "40 30 0:7 / /srv/tree/two rw - tmpfs x rw\n");
	process("3", "mnt:[1]", "/jail", OURS "40 30 0:7 / /srv/tree/three rw - tmpfs x rw\n");
	cr_assert_eq(fs_mounted_read(proc, &m), 0);
	cr_expect_not(fs_mounted_has(&m, "one"), "read twice");
	cr_expect(fs_mounted_has(&m, "two"));
	cr_expect(fs_mounted_has(&m, "three"));
	fs_mounted_done(&m);
	assert_no_leaks();
}

/* A process whose root is a directory of a tree: the tree's mount is not in its table. */
Test(fs_mounted, what_lies_on_something_unseen_may_lie_on_ours)
{
	struct fs_mounted m = { 0 };

	process("self", "mnt:[1]", "/", HOST OURS);
	process("1", "mnt:[1]", "/srv/tree/jail", "40 30 0:7 / /etc/hosts rw - tmpfs x rw\n");
	process("2", "mnt:[2]", "/",
		"41 39 0:55 /c / rw - fuse.umbra umbra rw\n"
		"42 41 0:7 / /etc/resolv.conf rw - tmpfs x rw\n");
	cr_assert_eq(fs_mounted_read(proc, &m), 0);
	cr_expect(fs_mounted_has(&m, "hosts"));
	cr_expect(fs_mounted_has(&m, "resolv.conf"));
	fs_mounted_done(&m);
	assert_no_leaks();
}

Test(fs_mounted, a_file_that_is_bound_elsewhere_is_called_by_its_own_name)
{
	struct fs_mounted m = { 0 };

	process("self", "mnt:[1]", "/",
		HOST OURS "40 20 0:55 /d/own /etc/other rw - fuse.umbra umbra rw\n"
			  "41 40 0:7 /x /etc/other rw - tmpfs x rw\n");
	cr_assert_eq(fs_mounted_read(proc, &m), 0);
	cr_expect(fs_mounted_has(&m, "own"));
	fs_mounted_done(&m);
	assert_no_leaks();
}

Test(fs_mounted, others_that_cannot_be_read_are_passed_by_but_not_ourselves)
{
	struct fs_mounted m = { .count = 77 };

	process("1", "mnt:[1]", "/", NULL);
	process("2", "mnt:[1]", "/", HOST OURS "40 30 0:7 / /srv/tree/two rw - tmpfs x rw\n");
	process("3", "mnt:[3]", "/", "no table at all\n");
	cr_assert_eq(mkdir(in("4", ""), 0700), 0);
	cr_expect_eq(fs_mounted_read(proc, &m), -ENOENT);
	cr_expect_eq(m.count, 77);
	process("self", "mnt:[9]", "/", HOST OURS);
	cr_assert_eq(fs_mounted_read(proc, &m), 0);
	cr_expect(fs_mounted_has(&m, "two"), "another process of the namespace could not be read");
	cr_expect_eq(m.count, 1);
	fs_mounted_done(&m);
	assert_no_leaks();
}

Test(fs_mounted, the_real_ones_can_be_read)
{
	struct fs_mounted m = { 0 };

	cr_assert_eq(fs_mounted_read("/proc", &m), 0);
	cr_expect_not(fs_mounted_has(&m, "no such name"));
	fs_mounted_done(&m);
	assert_no_leaks();
}
