#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "tests/support/leaks.h"
#include "tools/path.h"

static void joined(const char *dir, const char *name, const char *want)
{
	char *p = path_join(dir, name);

	cr_expect_str_eq(p, want);
	free(p);
}

Test(tools_path, joins_with_one_slash)
{
	joined("/a", "b", "/a/b");
	joined("/a/", "b", "/a/b");
	joined("/a//", "/b", "/a/b");
	joined("/", "b", "/b");
	joined("/a", "", "/a");
	joined("/", "", "/");
	assert_no_leaks();
}

Test(tools_path, takes_a_snapshot_path_apart)
{
	char *dir = NULL, *name = NULL;
	const char *rest = NULL;

	cr_assert_eq(path_split_snapshot("/srv/db/.snapshots/@GMT-1/a/b", &dir, &name, &rest), 0);
	cr_expect_str_eq(dir, "/srv/db");
	cr_expect_str_eq(name, "@GMT-1");
	cr_expect_str_eq(rest, "a/b");
	free(dir);
	free(name);
	cr_assert_eq(path_split_snapshot("/.snapshots/x", &dir, &name, &rest), 0);
	cr_expect_str_eq(dir, "/");
	cr_expect_str_eq(rest, "");
	free(dir);
	free(name);
	dir = name = NULL;
	cr_expect_eq(path_split_snapshot("/srv/db/.snapshots", &dir, &name, &rest), -EINVAL);
	cr_expect_eq(path_split_snapshot("/srv/db/.snapshots/", &dir, &name, &rest), -EINVAL);
	cr_expect_eq(path_split_snapshot("/srv/db", &dir, &name, &rest), -EINVAL);
	cr_assert_null(dir);
	assert_no_leaks();
}

static char here[] = "/tmp/test_tools_path.XXXXXX";

static void enter(void)
{
	cr_assert_not_null(mkdtemp(here));
	cr_assert_eq(chdir(here), 0);
	cr_assert_eq(mkdir("real", 0700), 0);
	cr_assert_eq(symlink("real", "link"), 0);
	cr_assert_eq(symlink("nowhere", "dangling"), 0);
}

static void leave(void)
{
	unlink("link");
	unlink("dangling");
	rmdir("real");
	if (chdir("/") == 0)
		rmdir(here);
}

static void resolves(const char *path, bool follow, const char *want)
{
	CLEANUP(free_p) char *full = NULL, *wanted = path_join(here, want);
	int r = path_resolve(path, follow, &full);

	cr_expect_eq(r, 0, "'%s': %d", path, r);
	if (full)
		cr_expect_str_eq(full, wanted);
}

Test(tools_path, resolves_as_far_as_there_is_something, .init = enter, .fini = leave)
{
	resolves(".", true, "");
	resolves("real", true, "real");
	resolves("link", true, "real");
	resolves("link", false, "link");
	resolves("link/", false, "link");
	resolves("link/gone", false, "real/gone");
	resolves("link/gone/deeper", true, "real/gone/deeper");
	resolves("dangling", false, "dangling");
	resolves("gone", true, "gone");
	resolves("gone/..", true, "");
	resolves("gone/./x", true, "gone/x");
	resolves("real/../gone", true, "gone");
	assert_no_leaks();
}

Test(tools_path, an_empty_path_is_none)
{
	char *p = NULL;

	cr_expect_eq(path_resolve("", true, &p), -ENOENT);
	cr_assert_null(p);
	assert_no_leaks();
}

Test(tools_path, tells_the_last_part)
{
	cr_expect_str_eq(path_last("/a/b"), "b");
	cr_expect_str_eq(path_last("b"), "b");
	cr_expect_str_eq(path_last("/"), "/");
	assert_no_leaks();
}
