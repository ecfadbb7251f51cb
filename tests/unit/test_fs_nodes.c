/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of node ids: one node per inode, places, counts, who is cold. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/nodes.h"

#define DEV 7u

static unsigned released;

static void release(void *userdata, struct fs_node *node)
{
	(void)userdata;
	(void)node;
	released++;
}

static struct fs_nodes *table(void)
{
	released = 0;
	return fs_nodes_new(FS_LIVE, DEV, 2, NULL, release, NULL);
}

static struct fs_node *enter(struct fs_nodes *n, uint64_t ino, struct fs_node *parent,
			     const char *name)
{
	return fs_nodes_enter_live(n, DEV, ino, S_IFREG, parent, name);
}

Test(fs_nodes, two_names_of_one_inode_are_one_node)
{
	struct fs_nodes *n = table();
	struct fs_node *root = fs_nodes_root(n);
	struct fs_node *a = enter(n, 10, root, "a");

	cr_assert_eq(enter(n, 10, root, "b"), a);
	cr_assert_eq(fs_nodes_from_id(n, fs_nodes_id(a)), a);
	cr_assert_eq(fs_nodes_count(n), 2);
	fs_nodes_forget(n, a, 1);
	cr_assert_eq(released, 0);
	fs_nodes_forget(n, a, 1);
	cr_assert_eq(released, 1);
	cr_assert_eq(fs_nodes_count(n), 1);
	fs_nodes_free(n);
}

Test(fs_nodes, the_root_has_id_one_and_survives_forgets)
{
	struct fs_nodes *n = table();

	cr_assert_eq(fs_nodes_id(fs_nodes_root(n)), 1);
	fs_nodes_forget(n, fs_nodes_root(n), 1000);
	cr_assert_eq(fs_nodes_from_id(n, 1), fs_nodes_root(n));
	fs_nodes_free(n);
}

Test(fs_nodes, the_same_number_on_another_device_is_another_node)
{
	struct fs_nodes *n = table();
	struct fs_node *root = fs_nodes_root(n);

	cr_assert_neq(enter(n, 10, root, "a"),
		      fs_nodes_enter_live(n, DEV + 1, 10, S_IFREG, root, "b"));
	fs_nodes_free(n);
}

Test(fs_nodes, a_parent_lives_as_long_as_its_children)
{
	struct fs_nodes *n = table();
	struct fs_node *dir = fs_nodes_enter_live(n, DEV, 3, S_IFDIR, fs_nodes_root(n), "dir");
	struct fs_node *file = enter(n, 4, dir, "file");

	fs_nodes_forget(n, dir, 1);
	cr_assert_eq(released, 0);
	fs_nodes_forget(n, file, 1);
	cr_assert_eq(released, 2);
	fs_nodes_free(n);
}

Test(fs_nodes, a_tree_deeper_than_the_stack_goes_at_once)
{
	struct fs_nodes *n = table();
	struct fs_node *at = fs_nodes_root(n);

	for (uint64_t i = 0; i < 300000; i++) {
		struct fs_node *child = fs_nodes_enter_live(n, DEV, 100 + i, S_IFDIR, at, "d");

		if (at != fs_nodes_root(n))
			fs_nodes_forget(n, at, 1);
		at = child;
	}
	cr_assert_eq(fs_nodes_count(n), 300001);
	fs_nodes_forget(n, at, 1);
	cr_assert_eq(fs_nodes_count(n), 1);
	fs_nodes_free(n);
}

Test(fs_nodes, places_are_found_newest_first)
{
	struct fs_nodes *n = table();
	struct fs_node *root = fs_nodes_root(n), *parent = NULL;
	struct fs_node *a = enter(n, 10, root, "a");
	char name[FS_NODE_NAME_SIZE];
	uint64_t ino;

	enter(n, 10, root, "b");
	cr_assert_eq(fs_nodes_place(n, a, 0, &parent, name), 0);
	cr_assert_str_eq(name, "b");
	fs_nodes_unref(n, parent);
	cr_assert_eq(fs_nodes_place(n, a, 1, &parent, name), 0);
	cr_assert_str_eq(name, "a");
	fs_nodes_unref(n, parent);
	cr_assert_eq(fs_nodes_place(n, a, 2, &parent, name), -ENOENT);
	cr_assert_eq(fs_nodes_place_of(n, DEV, 10, &ino, name), 0);
	cr_assert_eq(ino, 2);
	cr_assert_str_eq(name, "b");
	cr_assert_eq(fs_nodes_place_of(n, DEV, 11, &ino, name), -ENOENT);
	fs_nodes_free(n);
}

Test(fs_nodes, the_last_place_is_known_as_such)
{
	struct fs_nodes *n = table();
	struct fs_node *root = fs_nodes_root(n);
	struct fs_node *a = enter(n, 10, root, "a");

	cr_assert(fs_nodes_last_place(n, a, root, "a"));
	cr_assert_not(fs_nodes_last_place(n, a, root, "b"));
	enter(n, 10, root, "b");
	cr_assert_not(fs_nodes_last_place(n, a, root, "a"));
	fs_nodes_drop_place(n, a, root, "b");
	fs_nodes_drop_place(n, a, root, "b");
	cr_assert(fs_nodes_last_place(n, a, root, "a"));
	fs_nodes_drop_place(n, a, root, "a");
	cr_assert(fs_nodes_last_place(n, a, root, "a"),
		  "no name at all: nothing else is left either");
	fs_nodes_free(n);
}

Test(fs_nodes, a_file_with_many_names_costs_bounded_memory)
{
	struct fs_nodes *n = table();
	struct fs_node *root = fs_nodes_root(n), *parent = NULL, *a = NULL;
	char name[FS_NODE_NAME_SIZE];

	for (unsigned i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "link%u", i);
		a = enter(n, 10, root, name);
	}
	cr_assert_eq(fs_nodes_place(n, a, FS_NODE_PLACES_MAX - 1, &parent, name), 0);
	fs_nodes_unref(n, parent);
	cr_assert_eq(fs_nodes_place(n, a, FS_NODE_PLACES_MAX, &parent, name), -ENOENT);
	fs_nodes_free(n);
}

Test(fs_nodes, an_unhashed_number_may_come_again)
{
	struct fs_nodes *n = table();
	struct fs_node *root = fs_nodes_root(n);
	struct fs_node *old = enter(n, 10, root, "a");

	fs_nodes_drop_place(n, old, root, "a");
	fs_nodes_unhash(n, old);
	cr_assert_neq(enter(n, 10, root, "a"), old);
	fs_nodes_forget(n, old, 1);
	cr_assert_eq(released, 1);
	fs_nodes_free(n);
}

Test(fs_nodes, only_one_orphan_descriptor_is_kept)
{
	struct fs_nodes *n = table();
	struct fs_node *a = enter(n, 10, fs_nodes_root(n), "a");

	cr_assert(fs_nodes_set_orphan(n, a, 100));
	cr_assert_not(fs_nodes_set_orphan(n, a, 101));
	cr_assert_eq(a->orphan_fd, 100);
	fs_nodes_free(n);
}

Test(fs_nodes, a_number_that_came_again_as_another_type_is_another_node)
{
	struct fs_nodes *n = table();
	struct fs_node *root = fs_nodes_root(n);
	struct fs_node *gone = enter(n, 10, NULL, NULL);
	struct fs_node *dir = fs_nodes_enter_live(n, DEV, 10, S_IFDIR, root, "dir");

	cr_assert_neq(dir, gone);
	cr_assert_eq(dir->type, S_IFDIR >> 12);
	cr_assert_eq(fs_nodes_find(n, FS_LIVE, DEV, 10), dir);
	fs_nodes_unref(n, dir);
	fs_nodes_forget(n, gone, 1);
	cr_assert_eq(released, 1);
	cr_assert_eq(fs_nodes_find(n, FS_LIVE, DEV, 10), dir);
	fs_nodes_unref(n, dir);
	fs_nodes_free(n);
}

Test(fs_nodes, snapshots_of_an_inode_are_nodes_of_their_own)
{
	struct fs_nodes *n = table();
	int vnode[3];
	struct fs_node *a = fs_nodes_enter_snap(n, 1, 10, S_IFREG, (struct cow_vnode *)&vnode[0], false);
	struct fs_node *b = fs_nodes_enter_snap(n, 2, 10, S_IFREG, (struct cow_vnode *)&vnode[1], false);

	cr_assert_neq(a, b);
	cr_assert_eq(fs_nodes_enter_snap(n, 1, 10, S_IFREG, (struct cow_vnode *)&vnode[2], false), a);
	cr_assert_eq(a->vnode, (struct cow_vnode *)&vnode[0]);
	cr_assert_eq(released, 1, "the second vnode of the same inode is given back");
	fs_nodes_free(n);
	cr_assert_eq(released, 4);
}

Test(fs_nodes, a_mount_in_a_snapshot_is_found_by_no_number)
{
	struct fs_nodes *n = table();
	int vnode[3];
	struct fs_node *a =
		fs_nodes_enter_snap(n, 1, 10, S_IFDIR, (struct cow_vnode *)&vnode[0], true);

	cr_assert_neq(
		fs_nodes_enter_snap(n, 1, 10, S_IFDIR, (struct cow_vnode *)&vnode[1], true), a);
	cr_assert_neq(
		fs_nodes_enter_snap(n, 1, 10, S_IFREG, (struct cow_vnode *)&vnode[2], false), a);
	cr_assert_eq(released, 0);
	fs_nodes_free(n);
	cr_assert_eq(released, 4);
}

Test(fs_nodes, cold_are_those_nobody_used_since_the_last_look)
{
	struct fs_nodes *n = table();
	struct fs_node *root = fs_nodes_root(n);
	struct fs_node *dir = fs_nodes_enter_live(n, DEV, 3, S_IFDIR, root, "dir");
	struct fs_node *a = enter(n, 10, dir, "a"), *b = enter(n, 11, dir, "b");
	struct fs_node *cold[8];
	size_t looked;

	cr_assert_eq(fs_nodes_cold(n, 8, cold, &looked), 0, "all were just made");
	cr_assert_eq(looked, 4);
	fs_nodes_from_id(n, fs_nodes_id(a));
	cr_assert_eq(fs_nodes_cold(n, 8, cold, &looked), 1, "a was used, dir has children");
	cr_assert_eq(cold[0], b);
	fs_nodes_unref(n, b);
	fs_nodes_free(n);
}
