#include <criterion/criterion.h>
#include <stdlib.h>

#include "coordinator/name.h"

static void normal(const char *path, const char *want)
{
	char *copy = strdup(path);
	bool ok = coord_name_normal_path(copy);

	cr_expect_eq(ok, want != NULL, "%s", path);
	if (want)
		cr_expect_str_eq(copy, want, "%s became %s", path, copy);
	free(copy);
}

Test(coord_name, paths_get_one_form)
{
	normal("/", "/");
	normal("//", "/");
	normal("/.", "/");
	normal("/a", "/a");
	normal("/a/", "/a");
	normal("//a//b/./c/.", "/a/b/c");
	normal("/a/...", "/a/...");
	normal("/a/.b", "/a/.b");
	normal("/\xff/\xfe/", "/\xff/\xfe");
	normal("", NULL);
	normal("a", NULL);
	normal("./a", NULL);
	normal("/..", NULL);
	normal("/a/../b", NULL);
	normal("/a/..b", "/a/..b");
}

Test(coord_name, inside_goes_by_whole_names)
{
	cr_expect_str_eq(coord_name_inside("/a", "/a"), "");
	cr_expect_str_eq(coord_name_inside("/a", "/a/b/c"), "b/c");
	cr_expect_null(coord_name_inside("/a", "/ab"));
	cr_expect_null(coord_name_inside("/a/b", "/a"));
	cr_expect_str_eq(coord_name_inside("/", "/x"), "x");
	cr_expect_str_eq(coord_name_inside("/", "/"), "");
}

Test(coord_name, labels_are_fit_for_a_directory_entry)
{
	char max[COW_LABEL_MAX + 2];
	static const char *const good[] = { "a",	  "before upgrade", "Gr\xc3\xbc\xc3\x9f",
					    "a.b",	  "@GMT",	    "-x",
					    "caf\xc3\xa9" };
	static const char *const wrong[] = { "",	  ".",	    "..",	".hidden",
					     "a/b",	  "@GMT-x", "a\nb",	"a\x7f",
					     "\xc2\x9bx", "\xff",   "\xc0\xaf", "\xed\xa0\x80" };

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		cr_expect_null(coord_name_label_problem(good[i]), "%s", good[i]);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		cr_expect_not_null(coord_name_label_problem(wrong[i]), "number %zu", i);
	memset(max, 'x', sizeof(max));
	max[COW_LABEL_MAX + 1] = 0;
	cr_expect_not_null(coord_name_label_problem(max));
	max[COW_LABEL_MAX] = 0;
	cr_expect_null(coord_name_label_problem(max));
}

Test(coord_name, times_are_utc)
{
	char gmt[COORD_NAME_GMT_SIZE], text[COORD_NAME_TIME_SIZE];

	setenv("TZ", "America/New_York", 1);
	coord_name_gmt(gmt, INT64_C(1767225599999999999));
	cr_expect_str_eq(gmt, "@GMT-2025.12.31-23.59.59");
	coord_name_time(text, INT64_C(1767225599999999999));
	cr_expect_str_eq(text, "2025-12-31T23:59:59.999999999Z");
	coord_name_time(text, INT64_MIN);
	cr_expect_str_eq(text, "1970-01-01T00:00:00.000000000Z");
	coord_name_gmt(gmt, INT64_MAX);
	cr_expect_str_eq(gmt, "@GMT-2262.04.11-23.47.16");
}

Test(coord_name, ids_are_lower_case_and_never_the_same)
{
	char a[COW_UUID_LEN + 1], b[COW_UUID_LEN + 1];

	coord_name_id(a);
	coord_name_id(b);
	cr_expect(coord_name_is_id(a) && coord_name_is_id(b));
	cr_expect_str_neq(a, b);
	cr_expect(!coord_name_is_id(""));
	cr_expect(!coord_name_is_id("00000000-0000-4000-8000-00000000000"));
	cr_expect(!coord_name_is_id("00000000-0000-4000-8000-00000000000A"));
	cr_expect(!coord_name_is_id("00000000x0000-4000-8000-000000000000"));
	cr_expect(!coord_name_is_id("00000000-0000-4000-8000-000000000000-"));
}

Test(coord_name, contexts_and_states_go_both_ways)
{
	for (enum cow_context c = COW_CTX_BACKUP; c <= COW_CTX_ALL; c++)
		cr_expect_eq(coord_name_to_context(coord_name_context(c)), c);
	cr_expect_null(coord_name_context(0));
	cr_expect_null(coord_name_context(99));
	cr_expect_eq(coord_name_to_context("Backup"), 0);
	cr_expect_eq(coord_name_to_snapshot_state("created"), COW_SNAP_CREATED);
	cr_expect_eq(coord_name_to_snapshot_state("x"), 0);
}
