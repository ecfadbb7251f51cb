#include <criterion/criterion.h>

#include "tests/support/leaks.h"
#include "tools/find.h"
#include "tools/snapshot.h"

static json_t *make(const char *id, const char *label, const char *created, int bytes)
{
	return json_pack("{ss ss ss ss ss ss si si}", "id", id, "set_id", "5e70aaaa-1", "tree_id",
			 "t", "name", "@GMT-2025.01.31-14.05.09", "label", label, "created",
			 created, "in_set", 1, "stored_bytes", bytes);
}

Test(tools_find, a_name_fits_in_degrees)
{
	json_t *s = make("ab12cdef-9", "daily", "2025-01-31T14:05:09Z", 0);

	cr_expect_eq(find_fits("ab12cdef-9", s), FIND_EXACT);
	cr_expect_eq(find_fits("AB12CDEF-9", s), FIND_EXACT);
	cr_expect_eq(find_fits("@GMT-2025.01.31-14.05.09", s), FIND_EXACT);
	cr_expect_eq(find_fits("daily", s), FIND_LABEL);
	cr_expect_eq(find_fits("Daily", s), FIND_NONE);
	cr_expect_eq(find_fits("ab12", s), FIND_PREFIX);
	cr_expect_eq(find_fits("a", s), FIND_NONE);
	cr_expect_eq(find_fits("5e70", s), FIND_SET_PREFIX);
	cr_expect_eq(find_fits("", s), FIND_NONE);
	json_decref(s);
	assert_no_leaks();
}

Test(tools_find, an_absent_label_fits_nothing)
{
	json_t *s = json_pack("{ss ss sn}", "id", "ab12", "set_id", "cd34", "label");

	cr_expect_eq(find_fits("", s), FIND_NONE);
	cr_expect_eq(find_fits("x", s), FIND_NONE);
	json_decref(s);
	assert_no_leaks();
}

Test(tools_find, orders_by_time)
{
	json_t *a = make("a", "", "2025-01-31T14:05:09.000000001Z", 10);
	json_t *b = make("b", "", "2025-01-31T15:05:09.000000002+01:00", 20);
	json_t *list = json_pack("[OO]", a, b);

	cr_expect_lt(find_compare(a, b), 0);
	cr_expect_gt(find_compare(b, a), 0);
	cr_expect_eq(find_compare(a, a), 0);
	cr_expect_eq(snapshot_total_bytes(a, list), 30);
	cr_expect_eq(snapshot_total_bytes(b, list), 20);
	json_decref(a);
	json_decref(b);
	json_decref(list);
	assert_no_leaks();
}
