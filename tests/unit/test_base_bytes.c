#include <criterion/criterion.h>
#include <errno.h>

#include "cow/base/bytes.h"
#include "tests/support/leaks.h"

Test(base_bytes, puts_and_gets_each_order_at_any_alignment)
{
	unsigned char b[16];

	for (unsigned at = 0; at < 8; at++) {
		put_le32(b + at, 0x01020304);
		cr_assert_eq(b[at], 4);
		cr_assert_eq(b[at + 3], 1);
		cr_assert_eq(get_le32(b + at), 0x01020304);
		cr_assert_eq(get_be32(b + at), 0x04030201);
		put_be64(b + at, UINT64_C(0x0102030405060708));
		cr_assert_eq(b[at], 1);
		cr_assert_eq(b[at + 7], 8);
		cr_assert_eq(get_le64(b + at), UINT64_C(0x0807060504030201));
		put_le64(b + at, UINT64_MAX - 1);
		cr_assert_eq(get_le64(b + at), UINT64_MAX - 1);
		put_be16(b + at, 0xa1b2);
		cr_assert_eq(b[at], 0xa1);
		cr_assert_eq(get_be16(b + at), 0xa1b2);
		put_le16(b + at, 0xa1b2);
		cr_assert_eq(b[at], 0xb2);
		cr_assert_eq(get_le16(b + at), 0xa1b2);
		put_be32(b + at, 0x01020304);
		cr_assert_eq(b[at], 1);
	}
	assert_no_leaks();
}

static void size_is(const char *text, uint64_t want)
{
	uint64_t got = 0;
	int r = bytes_parse_size(text, &got);

	cr_expect_eq(r, 0, "'%s': %d", text, r);
	cr_expect_eq(got, want, "'%s': %llu", text, (unsigned long long)got);
}

static void size_fails(const char *text, int want)
{
	uint64_t got = 77;
	int r = bytes_parse_size(text, &got);

	cr_expect_eq(r, want, "'%s': %d", text, r);
	cr_expect_eq(got, 77, "'%s': result was written", text);
}

Test(base_bytes, parses_sizes_as_people_type_them)
{
	size_is("0", 0);
	size_is("4096", 4096);
	size_is("17B", 17);
	size_is("64K", 64 << 10);
	size_is("64k", 64 << 10);
	size_is(" 10 MB ", 10 << 20);
	size_is("2GiB", UINT64_C(2) << 30);
	size_is("1.5G", UINT64_C(3) << 29);
	size_is(".5K", 512);
	size_is("1.K", 1024);
	size_is("1T", UINT64_C(1) << 40);
	size_is("3p", UINT64_C(3) << 50);
	size_is("15E", UINT64_C(15) << 60);
	size_is("0.1", 0);
	size_is("18446744073709551615", UINT64_MAX);
	size_is("1.0000000000000000000000000000000000K", 1024);
}

Test(base_bytes, refuses_what_is_no_size_and_writes_nothing)
{
	size_fails("", -EINVAL);
	size_fails(" ", -EINVAL);
	size_fails(".", -EINVAL);
	size_fails("G", -EINVAL);
	size_fails("-1", -EINVAL);
	size_fails("+1", -EINVAL);
	size_fails("1,5G", -EINVAL);
	size_fails("1.5.5", -EINVAL);
	size_fails("1Q", -EINVAL);
	size_fails("1KK", -EINVAL);
	size_fails("1Ki", -EINVAL);
	size_fails("1 G x", -EINVAL);
	size_fails("10%", -EINVAL);
	size_fails("0x10", -EINVAL);
	size_fails("16E", -ERANGE);
	size_fails("18446744073709551616", -ERANGE);
	size_fails("99999999999999999999999", -ERANGE);
	size_fails("18446744073709551615E", -ERANGE);
}

Test(base_bytes, parses_per_cent_of_a_whole_and_plain_sizes)
{
	uint64_t got = 0;

	cr_assert_eq(bytes_parse_limit("10%", 1000, &got), 0);
	cr_assert_eq(got, 100);
	cr_assert_eq(bytes_parse_limit("0.5 %", 1000, &got), 0);
	cr_assert_eq(got, 5);
	cr_assert_eq(bytes_parse_limit("100%", UINT64_MAX, &got), 0);
	cr_assert_eq(got, UINT64_MAX);
	cr_assert_eq(bytes_parse_limit("50%", 0, &got), 0);
	cr_assert_eq(got, 0);
	cr_assert_eq(bytes_parse_limit("1.5K", 1, &got), 0);
	cr_assert_eq(got, 1536);
	got = 77;
	cr_assert_eq(bytes_parse_limit("100.1%", 1000, &got), -ERANGE);
	cr_assert_eq(bytes_parse_limit("101%", 1000, &got), -ERANGE);
	cr_assert_eq(bytes_parse_limit("10%%", 1000, &got), -EINVAL);
	cr_assert_eq(bytes_parse_limit("%", 1000, &got), -EINVAL);
	cr_assert_eq(got, 77);
}

static void shows(uint64_t bytes, const char *want)
{
	char buf[BYTES_FORMAT_SIZE];

	cr_expect_str_eq(bytes_format(buf, bytes), want, "%llu: %s", (unsigned long long)bytes,
			 buf);
}

Test(base_bytes, formats_sizes_for_people)
{
	shows(0, "0");
	shows(1023, "1023");
	shows(1024, "1.0K");
	shows(1536, "1.5K");
	shows(UINT64_C(1288490189), "1.2G");
	shows(10188, "9.9K");
	shows(10240, "10K");
	shows(UINT64_C(1) << 20, "1.0M");
	shows((UINT64_C(1) << 20) - 1, "1.0M"); /* not 1024K */
	shows(UINT64_C(999) << 20, "999M");
	shows(UINT64_C(12) << 30, "12G");
	shows(UINT64_MAX, "16E");
}
