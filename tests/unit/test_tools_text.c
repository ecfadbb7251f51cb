#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "cow/base/clock.h"
#include "tests/support/leaks.h"
#include "tools/text.h"

static void age_is(const char *text, uint64_t want)
{
	uint64_t got = 0;

	cr_expect_eq(text_parse_age(text, &got), 0, "'%s'", text);
	cr_expect_eq(got, want, "'%s': %llu", text, (unsigned long long)got);
}

Test(tools_text, parses_ages_and_their_sums)
{
	age_is("0", 0);
	age_is("0s", 0);
	age_is("90s", 90);
	age_is("30m", 1800);
	age_is("30min", 1800);
	age_is("12h", 43200);
	age_is("7d", 604800);
	age_is("2w", 1209600);
	age_is("3mo", 7776000);
	age_is("1y", 31536000);
	age_is("1d12h", 129600);
	age_is("1y2mo3w4d5h6m7s", 31536000 + 5184000 + 1814400 + 345600 + 18000 + 360 + 7);
	assert_no_leaks();
}

Test(tools_text, refuses_what_is_no_age)
{
	static const char *const bad[] = { "",	 "5",	"d",  "-1d", "1.5d", "1 d",
					   "1x", "1dd", "d1", "1d ", "00" };
	uint64_t got = 42;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(text_parse_age(bad[i], &got), -EINVAL, "'%s'", bad[i]);
	cr_expect_eq(text_parse_age("99999999999999999999s", &got), -ERANGE);
	cr_expect_eq(text_parse_age("999999999999999999y", &got), -ERANGE);
	cr_expect_eq(text_parse_age("9223372036854775807s1s", &got), -ERANGE);
	cr_assert_eq(got, 42);
	assert_no_leaks();
}

Test(tools_text, formats_an_age_in_its_greatest_unit)
{
	static const struct {
		uint64_t seconds;
		const char *want;
	} cases[] = {
		{ 0, "0s" },	       { 59, "59s" },
		{ 60, "1m" },	       { 3599, "59m" },
		{ 3600, "1h" },	       { 86399, "23h" },
		{ 86400, "1d" },       { 14 * 86400 - 1, "13d" },
		{ 14 * 86400, "2w" },  { 729 * 86400, "104w" },
		{ 730 * 86400, "2y" },
	};
	char buf[TEXT_AGE_SIZE];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_expect_str_eq(text_format_age(buf, cases[i].seconds), cases[i].want);
	cr_expect(text_format_age(buf, UINT64_MAX)[0] != '\0');
	assert_no_leaks();
}

Test(tools_text, formats_a_duration_as_a_clock)
{
	char buf[TEXT_AGE_SIZE];

	cr_expect_str_eq(text_format_clock(buf, 7), "0:07");
	cr_expect_str_eq(text_format_clock(buf, 754), "12:34");
	cr_expect_str_eq(text_format_clock(buf, 3723), "1:02:03");
	cr_expect_str_eq(text_format_clock(buf, UINT64_MAX), "99999:00:15");
	assert_no_leaks();
}

static void time_is(const char *text, uint64_t seconds, uint64_t ns)
{
	uint64_t got = 0;

	cr_expect_eq(text_parse_time(text, &got), 0, "'%s'", text);
	cr_expect_eq(got, seconds * CLOCK_NS_PER_SEC + ns, "'%s': %llu", text,
		     (unsigned long long)got);
}

Test(tools_text, parses_rfc_3339)
{
	time_is("1970-01-01T00:00:00Z", 0, 0);
	time_is("2025-01-31T14:05:09Z", 1738332309, 0);
	time_is("2025-01-31t14:05:09.25z", 1738332309, 250000000);
	time_is("2025-01-31 16:05:09.000000001+02:00", 1738332309, 1);
	time_is("2025-01-31T12:35:09-01:30", 1738332309, 0);
	time_is("2025-01-31T14:05:09.1234567899999Z", 1738332309, 123456789);
	assert_no_leaks();
}

Test(tools_text, refuses_what_is_no_time)
{
	static const char *const bad[] = { "",
					   "2025-01-31",
					   "2025-01-31T14:05:09",
					   "2025-13-31T14:05:09Z",
					   "2025-01-32T14:05:09Z",
					   "2025-01-31T24:05:09Z",
					   "2025-01-31T14:60:09Z",
					   "2025-01-31T14:05:09.Z",
					   "2025-01-31T14:05:09Zx",
					   "2025-01-31T14:05:09+0200",
					   "1969-12-31T23:59:59Z",
					   "2025-1-31T14:05:09Z" };
	uint64_t got = 42;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(text_parse_time(bad[i], &got), -EINVAL, "'%s'", bad[i]);
	cr_assert_eq(got, 42);
	assert_no_leaks();
}

Test(tools_text, a_time_survives_utc_text)
{
	uint64_t ns = UINT64_C(1738332309123456789), got = 0;
	char buf[TEXT_TIME_SIZE];

	cr_expect_str_eq(text_format_utc(buf, ns), "2025-01-31T14:05:09.123456789Z");
	cr_expect_eq(text_parse_time(buf, &got), 0);
	cr_expect_eq(got, ns);
	assert_no_leaks();
}

Test(tools_text, local_time_follows_the_zone)
{
	char buf[TEXT_TIME_SIZE];

	setenv("TZ", "EST5", 1);
	tzset();
	cr_expect_str_eq(text_format_local(buf, UINT64_C(1738332309) * CLOCK_NS_PER_SEC),
			 "2025-01-31 09:05:09");
}

Test(tools_text, knows_sambas_names)
{
	cr_expect(text_is_gmt_name("@GMT-2025.01.31-14.05.09"));
	cr_expect_not(text_is_gmt_name("@GMT-2025.01.31-14.05.0"));
	cr_expect_not(text_is_gmt_name("@GMT-2025.01.31-14.05.09x"));
	cr_expect_not(text_is_gmt_name("@GMT-2025.01.31-14:05:09"));
	cr_expect_not(text_is_gmt_name(""));
	assert_no_leaks();
}

Test(tools_text, contexts_have_twins_without_writers)
{
	cr_expect_str_eq(text_context("backup", true), "backup");
	cr_expect_str_eq(text_context("BACKUP", false), "file-share-backup");
	cr_expect_str_eq(text_context("APP_ROLLBACK", true), "app-rollback");
	cr_expect_str_eq(text_context("app-rollback", false), "nas-rollback");
	cr_expect_str_eq(text_context("Client_Accessible_Writers", false), "client-accessible");
	cr_expect_str_eq(text_context("client-accessible", true), "client-accessible");
	cr_expect_str_eq(text_context("volatile", true), "backup");
	cr_expect_null(text_context("all", true));
	cr_expect_null(text_context("", true));
	cr_expect(text_context_is_volatile("file-share-backup"));
	cr_expect_not(text_context_is_volatile("nas-rollback"));
	cr_expect(text_context_has_writers("app-rollback"));
	cr_expect_not(text_context_has_writers("client-accessible"));
	assert_no_leaks();
}
