#include <criterion/criterion.h>

#include "cow/base/path.h"
#include "tests/support/leaks.h"

Test(base_path, tells_what_is_below)
{
	cr_expect_str_eq(path_below("/a", "/a"), "");
	cr_expect_str_eq(path_below("/a", "/a/b/c"), "b/c");
	cr_expect_str_eq(path_below("/a/", "/a/b"), "b");
	cr_expect_str_eq(path_below("/", "/a"), "a");
	cr_expect_null(path_below("/a", "/ab"));
	cr_expect_null(path_below("/a/b", "/a"));
	assert_no_leaks();
}
