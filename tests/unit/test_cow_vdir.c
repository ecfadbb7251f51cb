/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A directory at an epoch: the live listing with the preserved names over it, each once, however it changed since. */
#include "cow/store_private.h"
#include "tests/support/deeds.h"
#include "tests/support/leaks.h"

static struct harness h;

static void setup(void)
{
	cr_assert_eq(harness_init(&h, NULL), 0);
	cr_assert_eq(harness_open(&h), 0, "%s", h.why);
}

static void teardown(void)
{
	harness_done(&h);
}

TestSuite(cow_vdir, .init = setup, .fini = teardown, .timeout = 120);

Test(cow_vdir, removed_names_come_back_new_ones_do_not_show)
{
	uint64_t s;

	deed_create(&h, "a", "");
	deed_create(&h, "b", "");
	s = deed_snapshot(&h);
	deed_unlink(&h, "a");
	deed_create(&h, "c", "");
	look_lists(&h, s, "", "a b ");
	deed_create(&h, "a", ""); /* another one of that name */
	look_lists(&h, s, "", "a b ");
	deed_unlink(&h, "a");
	deed_unlink(&h, "b");
	look_lists(&h, s, "", "a b ");
	assert_no_leaks();
}

Test(cow_vdir, each_snapshot_lists_its_own)
{
	uint64_t s[4];

	s[0] = deed_snapshot(&h);
	deed_create(&h, "a", "");
	s[1] = deed_snapshot(&h);
	deed_rename(&h, "a", "b", 0);
	s[2] = deed_snapshot(&h);
	deed_unlink(&h, "b");
	s[3] = deed_snapshot(&h);
	deed_create(&h, "z", "");
	look_lists(&h, s[0], "", "");
	look_lists(&h, s[1], "", "a ");
	look_lists(&h, s[2], "", "b ");
	look_lists(&h, s[3], "", "");
	deed_drop(&h, s[1]);
	look_lists(&h, s[0], "", "");
	look_lists(&h, s[2], "", "b ");
	assert_no_leaks();
}

Test(cow_vdir, a_moved_and_a_removed_directory_list_what_they_had)
{
	uint64_t s;

	deed_mkdir(&h, "d");
	deed_create(&h, "d/x", "");
	deed_mkdir(&h, "d/sub");
	deed_create(&h, "d/sub/y", "");
	s = deed_snapshot(&h);
	deed_rename(&h, "d/sub", "elsewhere", 0);
	deed_create(&h, "elsewhere/new", "");
	deed_unlink(&h, "d/x");
	deed_rmdir(&h, "d");
	look_lists(&h, s, "", "d ");
	look_lists(&h, s, "d", "sub x ");
	look_lists(&h, s, "d/sub", "y ");
	assert_no_leaks();
}

/* Beyond 256 KiB the listing is kept in an unnamed file. */
enum { MANY = 3000 };

static const char *name_of(unsigned i)
{
	static char name[128];

	snprintf(name, sizeof(name), "big/%0100u", i);
	return name;
}

Test(cow_vdir, a_directory_of_thousands_is_listed_whole_and_each_name_once)
{
	static bool seen[MANY];
	struct cow_vnode *vn;
	struct cow_dirent de;
	struct cow_vdir *d;
	unsigned n = 0;
	uint64_t s;

	deed_mkdir(&h, "big");
	for (unsigned i = 0; i < MANY; i++) {
		int fd = openat(h.fd, name_of(i), O_CREAT | O_WRONLY,
				0600); /* no snapshot: as plain */

		cr_assert_geq(fd, 0);
		close(fd);
	}
	cr_assert_eq(harness_place_all(&h), 0);
	s = deed_snapshot(&h);
	for (unsigned i = 0; i < MANY; i += 300) {
		deed_unlink(&h, name_of(i));
		deed_create(&h, name_of(MANY + i), "");
	}
	cr_assert_eq(look(&h, s, "big", &vn), 0);
	cr_assert_eq(cow_vdir_open(vn, &d), 0);
	cow_vnode_put(vn);
	for (uint64_t off = 0; cow_vdir_read(d, off, &de) == 1; off = de.next, n++) {
		unsigned long i = strtoul(de.name, NULL, 10);

		cr_assert(i < MANY && !seen[i], "%s", de.name);
		seen[i] = true;
	}
	cow_vdir_close(d);
	cr_expect_eq(n, MANY);
	assert_no_leaks();
}
