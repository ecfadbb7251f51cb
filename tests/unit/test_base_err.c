#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>

#include "cow/base/err.h"

Test(base_err, names_codes_of_either_sign)
{
	cr_assert_str_eq(err_name(-ENOENT), "ENOENT");
	cr_assert_str_eq(err_name(ENOENT), "ENOENT");
	cr_assert_str_eq(err_name(-EUCLEAN), "EUCLEAN");
	cr_assert_str_eq(err_name(0), "OK");
	cr_assert_str_eq(err_text(-ENOENT), "No such file or directory");
	cr_assert_str_eq(err_text(0), "Success");
}

Test(base_err, unknown_codes_have_a_name_too)
{
	cr_assert_str_eq(err_name(-99999), "EUNKNOWN");
	cr_assert_str_eq(err_name(INT_MIN), "EUNKNOWN");
	cr_assert_str_eq(err_text(-99999), "Unknown error");
}
