#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/base/fusemount.h"
#include "cow/base/mounts.h"
#include "tests/support/leaks.h"

static char here[] = "/tmp/test_base_fusemount.XXXXXX";

/* Mounts of a namespace of this process, which end with it. */
static void enter(void)
{
	cr_assert_not_null(mkdtemp(here));
	cr_assert_eq(chdir(here), 0);
	cr_assert_eq(mkdir("a", 0700), 0);
	cr_assert_eq(mkdir("a/m", 0700), 0);
	cr_assert_eq(symlink("a", "link"), 0);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		cr_skip_test("needs root, to mount");
}

static void leave(void)
{
	rmdir("a/m");
	rmdir("a");
	unlink("link");
	if (chdir("/") == 0)
		rmdir(here);
}

static const char *at(const char *name)
{
	static char path[100];

	snprintf(path, sizeof(path), "%s/%s", here, name);
	return path;
}

/* How many mounts are at a/m. */
static unsigned mounted(void)
{
	CLEANUP(mounts_done) struct mounts m = { 0 };
	unsigned n = 0;

	cr_assert_eq(mounts_read(&m), 0);
	for (size_t i = 0; i < m.count; i++)
		n += strcmp(m.list[i].point, at("a/m")) == 0;
	return n;
}

static int mount_umbra(void)
{
	int fd = -1, r = fusemount_direct(at("a/m"), "umbra", &fd);

	if (r < 0)
		cr_skip_test("/dev/fuse cannot be used");
	return fd;
}

Test(base_fusemount, unmounts_what_the_table_has_at_the_path, .init = enter, .fini = leave)
{
	CLEANUP(close_p) int fd = mount_umbra();

	cr_expect_eq(fusemount_unmount(at("a/m"), false), 0);
	cr_expect_eq(mounted(), 0);
	cr_expect_eq(fusemount_unmount(at("a/m"), false), -EINVAL);
	cr_expect_eq(fusemount_unmount(at("a/none"), false), -ENOENT);
	assert_no_leaks();
}

Test(base_fusemount, unmounts_one_that_is_in_use_when_told_so, .init = enter, .fini = leave)
{
	CLEANUP(close_p) int fd = mount_umbra();
	CLEANUP(close_p) int user = open(at("a/m"), O_PATH | O_CLOEXEC);

	cr_expect_eq(fusemount_unmount(at("a/m"), false), -EBUSY);
	cr_expect_eq(mounted(), 1);
	cr_expect_eq(fusemount_unmount(at("a/m"), true), 0);
	cr_expect_eq(mounted(), 0);
	assert_no_leaks();
}

/* As when a directory above is exchanged for a link between a look at the table and the unmounting. */
Test(base_fusemount, unmounts_nothing_that_a_path_is_led_to, .init = enter, .fini = leave)
{
	CLEANUP(close_p) int fd = mount_umbra();

	cr_expect_eq(fusemount_unmount(at("link/m"), false), -EINVAL);
	cr_expect_eq(fusemount_unmount(at("link/m"), true), -EINVAL);
	cr_expect_eq(mounted(), 1);
	cr_expect_eq(fusemount_unmount(at("a/m"), false), 0);
	assert_no_leaks();
}

Test(base_fusemount, unmounts_nothing_of_others, .init = enter, .fini = leave)
{
	CLEANUP(close_p) int fd = mount_umbra();

	cr_assert_eq(mount("none", at("a/m"), "tmpfs", 0, "size=64k"), 0);
	cr_expect_eq(fusemount_unmount(at("a/m"), true), -EINVAL);
	cr_expect_eq(mounted(), 2);
	cr_assert_eq(umount2(at("a/m"), 0), 0);
	cr_expect_eq(fusemount_unmount(at("a/m"), false), 0);
	cr_expect_eq(mounted(), 0);
	assert_no_leaks();
}
