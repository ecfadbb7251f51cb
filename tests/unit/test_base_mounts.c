#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/leaks.h"
#include "cow/base/mounts.h"

Test(base_mounts, parses_a_line_with_any_number_of_tags)
{
	struct mount m;

	cr_assert_eq(
		mount_parse(
			"36 35 98:0 / /srv/db rw,noatime master:1 shared:7 - fuse.umbra umbra rw\n",
			&m),
		0);
	cr_expect_eq(m.id, 36);
	cr_expect_eq(m.parent, 35);
	cr_expect_str_eq(m.root, "/");
	cr_expect_str_eq(m.point, "/srv/db");
	cr_expect_str_eq(m.type, "fuse.umbra");
	cr_expect(mount_is_umbra(&m));
	cr_expect_not(mount_is_snapshot(&m));
	cr_expect_not(m.read_only);
	cr_expect_eq(m.id, 36);
	cr_expect_eq(m.uid, (uid_t)-1);
	cr_expect_not(mount_is_trusted(&m));
	mount_done(&m);
	cr_assert_eq(mount_parse("36 35 98:0 / / ro - ext4 /dev/root rw", &m), 0);
	cr_expect(m.read_only);
	cr_expect_not(mount_is_umbra(&m));
	mount_done(&m);
	assert_no_leaks();
}

Test(base_mounts, undoes_the_kernels_escapes)
{
	struct mount m;

	cr_assert_eq(
		mount_parse(
			"1 2 0:3 /x\\011y /a\\040b\\134c\\012d ro - fuse.umbra umbra-snapshot:x ro",
			&m),
		0);
	cr_expect_str_eq(m.point, "/a b\\c\nd");
	cr_expect_str_eq(m.root, "/x\ty");
	cr_expect(mount_is_snapshot(&m));
	cr_expect_not(mount_is_exposed(&m));
	mount_done(&m);
	cr_assert_eq(mount_parse("1 2 0:3 / /a ro - fuse.umbra umbra-exposed:x ro", &m), 0);
	cr_expect(mount_is_snapshot(&m));
	cr_expect(mount_is_exposed(&m));
	mount_done(&m);
	assert_no_leaks();
}

Test(base_mounts, refuses_broken_lines)
{
	struct mount m = { 0 };

	cr_expect_eq(mount_parse("", &m), -EINVAL);
	cr_expect_eq(mount_parse("1 2 0:3 / /a ro", &m), -EINVAL);
	cr_expect_eq(mount_parse("1 2 0:3 / /a ro - fuse", &m), -EINVAL);
	cr_expect_eq(mount_parse("x 2 0:3 / /a ro - fuse x ro", &m), -EINVAL);
	cr_expect_eq(mount_parse("1 2y 0:3 / /a ro - fuse x ro", &m), -EINVAL);
	cr_assert_null(m.point);
	assert_no_leaks();
}

Test(base_mounts, finds_the_deepest_and_the_uppermost)
{
	static char type[] = "fuse.umbra", other[] = "ext4", source[] = "umbra";
	static char root[] = "/", a[] = "/a", ab[] = "/a/b";
	struct mount list[] = {
		{ .point = root, .type = other, .source = source },
		{ .point = a, .type = type, .source = source },
		{ .point = ab, .type = type, .source = source },
		{ .point = a, .type = other, .source = source },
	};
	struct mounts m = { .list = list, .count = 4 };

	cr_expect_eq(mounts_at(&m, "/a"), &list[3]);
	cr_expect_null(mounts_at(&m, "/a/c"));
	cr_expect_eq(mounts_umbra_above(&m, "/a/b/c"), &list[2]);
	cr_expect_eq(mounts_umbra_above(&m, "/a/c"), &list[1]);
	cr_expect_null(mounts_umbra_above(&m, "/ab"));
	cr_expect_eq(mounts_above(&m, "/a/c"), &list[3]);
	cr_expect_eq(mounts_above(&m, "/a/b"), &list[2]);
	cr_expect_eq(mounts_above(&m, "/ab"), &list[0]);
	assert_no_leaks();
}

static bool trusted(const char *type, unsigned uid)
{
	char line[200];
	struct mount m;
	bool r;

	snprintf(line, sizeof(line),
		 "36 35 0:9 / /a rw - %s umbra rw,user_id=%u,group_id=7,allow_other", type, uid);
	cr_assert_eq(mount_parse(line, &m), 0);
	cr_expect_eq(m.uid, uid);
	r = mount_is_trusted(&m);
	mount_done(&m);
	return r;
}

Test(base_mounts, trusts_root_and_the_user_himself)
{
	cr_expect(trusted("fuse.umbra", 0));
	cr_expect(trusted("fuse.umbra", geteuid()));
	cr_expect_not(trusted("fuse.umbra", geteuid() + 1));
	cr_expect_not(trusted("fuse.other", 0));
	assert_no_leaks();
}

Test(base_mounts, opens_what_is_at_a_path_itself)
{
	char dir[] = "/tmp/test_base_mounts.XXXXXX", link[60], real[60];
	struct mounts m = { 0 };
	const struct mount *at = NULL;
	int fd = -1;

	cr_assert_eq(mounts_open("/proc", &m, &at, &fd), 0);
	cr_expect_str_eq(at->point, "/proc");
	cr_expect_eq(mounts_id_of(fd), at->id);
	mounts_done(&m);
	close(fd);
	cr_expect_eq(mounts_open_tree("/proc", &fd), -ESTALE);
	cr_assert_not_null(mkdtemp(dir));
	snprintf(real, sizeof(real), "%s/real", dir);
	snprintf(link, sizeof(link), "%s/link", dir);
	cr_assert_eq(mkdir(real, 0700), 0);
	cr_assert_eq(symlink("/", link), 0);
	cr_expect_eq(mounts_open(link, &m, &at, &fd), -ENOTDIR);
	strcat(link, "/proc");
	cr_expect_eq(mounts_open(link, &m, &at, &fd), -ESTALE);
	link[strlen(link) - strlen("/proc")] = '\0';
	unlink(link);
	rmdir(real);
	rmdir(dir);
	assert_no_leaks();
}

Test(base_mounts, reads_the_real_table)
{
	struct mounts m = { 0 };

	cr_assert_eq(mounts_read(&m), 0);
	cr_expect_gt(m.count, 0);
	cr_expect_not_null(mounts_at(&m, "/proc"));
	for (size_t i = 0; i < m.count; i++)
		cr_expect_eq(mounts_of_id(&m, m.list[i].id), &m.list[i]);
	cr_expect_null(mounts_of_id(&m, -1));
	mounts_done(&m);
	assert_no_leaks();
}
