/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow/base/bytes.h"
#include "cow/base/cleanup.h"
#include "cow/format.h"
#include "tests/support/harness.h"
#include "tests/support/leaks.h"

TestSuite(cow_format, .timeout = 60);

#define SEED UINT64_C(0x1122334455667788)
#define EPOCH UINT64_C(0x0102030405060708)

static uint8_t rec[COW_REC_MAX];
static uint8_t xattrs[512];

/* -- one of each kind, every field different -- */

static struct cow_attr an_attr(void)
{
	ssize_t len = cow_format_add_xattr(xattrs, 0, sizeof(xattrs), "user.a", "value", 5);

	len = cow_format_add_xattr(xattrs, (size_t)len, sizeof(xattrs), "user.empty", NULL, 0);
	len = cow_format_add_xattr(xattrs, (size_t)len, sizeof(xattrs), "user.z", "\0\1\2", 3);
	cr_assert_gt(len, 0);
	return (struct cow_attr){
		.ino = UINT64_MAX - 1,
		.mode = 0100644,
		.uid = 4000000001u,
		.gid = 4000000002u,
		.nlink = 3,
		.blksize = 4096,
		.rdev_major = 5,
		.rdev_minor = 6,
		.size = UINT64_C(7) << 40,
		.blocks = 8,
		.atime = -9,
		.mtime = INT64_MIN,
		.ctime = INT64_MAX,
		.btime = 10,
		.atime_ns = 999999999,
		.mtime_ns = 1,
		.ctime_ns = 2,
		.btime_ns = 3,
		.has_btime = true,
		.xattrs = xattrs,
		.xattrs_len = (size_t)len,
	};
}

static const struct cow_data a_block = {
	.ino = 1, .block = 3, .dat = 4, .off = 5, .len = 6, .hash = 7
};
static const struct cow_data a_hole = { .ino = 1, .level = 24, .block = 3 };

static struct cow_place a_place(void)
{
	struct cow_place p = {
		.ino = 1, .era = 2, .seq = 5, .now = { .parent = 3 }, .before = { .parent = 4 }
	};

	memset(p.now.name, 'n', COW_NAME_MAX_LEN);
	strcpy(p.before.name, "\xff\x01 old");
	return p;
}

static struct cow_control an_opening(void)
{
	struct cow_control c = { .epoch = EPOCH, .era = 11, .extra_len = 6 };

	strcpy(c.snap.id, "00112233-4455-4677-8899-aabbccddeeff");
	strcpy(c.snap.set_id, "ffeeddcc-bbaa-4988-b766-554433221100");
	strcpy(c.snap.label, "a label");
	memset(c.snap.name, 'x', COW_LABEL_MAX);
	c.snap.context = COW_CTX_CLIENT_ACCESSIBLE_WRITERS;
	c.snap.in_set = 12;
	c.snap.opened_ns = -13;
	c.snap.extra = (char *)"{\"a\":}";
	return c;
}

static struct cow_control a_session(void)
{
	struct cow_control c = { .epoch = EPOCH, .session_end = true, .time_ns = -1 };

	strcpy(c.boot_id, "00112233-4455-4677-8899-aabbccddeeff");
	return c;
}

enum { KINDS = 12 };

/* Encode the nth of them into rec. */
static size_t make(unsigned n)
{
	struct cow_attr a = an_attr(), bare = { .ino = 1 };
	struct cow_name name = {
		.dir = 1, .target = 2, .seq = 3, .type = DT_DIR, .name = "n\xffm", .name_len = 3
	};
	struct cow_place p = a_place();
	struct cow_control o = an_opening(), s = a_session(),
			   other = { .epoch = EPOCH, .heir = 77 };
	ssize_t len = 0;

	switch (n) {
	case 0:
		len = cow_format_attr(rec, SEED, EPOCH, &a);
		break;
	case 1:
		len = cow_format_attr(rec, SEED, EPOCH, &bare);
		break;
	case 2:
		len = cow_format_name(rec, SEED, EPOCH, &name);
		break;
	case 3:
		len = cow_format_data(rec, SEED, EPOCH, &a_block);
		break;
	case 4:
		len = cow_format_data(rec, SEED, EPOCH, &a_hole);
		break;
	case 5:
		len = cow_format_birth(rec, SEED, EPOCH, 99);
		break;
	case 6:
		len = cow_format_place(rec, SEED, EPOCH, &p);
		break;
	case 7:
		len = cow_format_control(rec, SEED, COW_REC_OPEN, &o);
		break;
	case 8:
		len = cow_format_control(rec, SEED, COW_REC_SESSION, &s);
		break;
	case 9:
		len = cow_format_control(rec, SEED, COW_REC_DROPPED, &other);
		break;
	case 10:
		len = cow_format_control(rec, SEED, COW_REC_COMMIT, &other);
		break;
	case 11:
		len = cow_format_control(rec, SEED, COW_REC_DROP, &other);
		break;
	default:
		cr_assert_fail();
	}
	cr_assert_gt(len, 0);
	cr_assert_eq(len % 8, 0);
	return (size_t)len;
}

static struct cow_rec parsed(unsigned n, enum cow_rec_kind kind)
{
	struct cow_rec r = { 0 }, view;
	size_t len = make(n);

	cr_assert_eq(cow_format_parse(rec, len, SEED, &r), (ssize_t)len);
	cr_assert_eq(r.kind, kind);
	cr_assert_eq(r.epoch, EPOCH);
	view = cow_format_view(rec, len);
	cr_assert(view.kind == r.kind && view.epoch == r.epoch && view.body == r.body &&
		  view.body_len == r.body_len);
	return r;
}

/* -- there and back -- */

Test(cow_format, attributes_come_back_as_they_were)
{
	struct cow_attr want = an_attr(), got;
	struct cow_rec r = parsed(0, COW_REC_ATTR);

	cr_assert_eq(cow_format_get_attr(r.body, r.body_len, &got), 0);
	cr_assert_eq(want.ino, got.ino);
	cr_assert(want.mode == got.mode && want.uid == got.uid && want.gid == got.gid &&
		  want.nlink == got.nlink && want.blksize == got.blksize);
	cr_assert(want.rdev_major == got.rdev_major && want.rdev_minor == got.rdev_minor &&
		  want.size == got.size && want.blocks == got.blocks);
	cr_assert(want.atime == got.atime && want.mtime == got.mtime && want.ctime == got.ctime &&
		  want.btime == got.btime);
	cr_assert(want.atime_ns == got.atime_ns && want.mtime_ns == got.mtime_ns &&
		  want.ctime_ns == got.ctime_ns && want.btime_ns == got.btime_ns);
	cr_assert(got.has_btime);
	cr_assert_eq(got.xattrs_len, want.xattrs_len);
	cr_assert_arr_eq(got.xattrs, want.xattrs, want.xattrs_len);

	r = parsed(1, COW_REC_ATTR);
	cr_assert_eq(cow_format_get_attr(r.body, r.body_len, &got), 0);
	cr_assert(got.ino == 1 && got.xattrs_len == 0 && !got.has_btime && got.size == 0);
	assert_no_leaks();
}

Test(cow_format, xattrs_are_visited_in_order_with_any_bytes)
{
	struct cow_attr a = an_attr();
	const char *name;
	const void *value;
	size_t pos = 0, name_len, value_len;
	static const struct {
		const char *name, *value;
		size_t len;
	} want[] = { { "user.a", "value", 5 }, { "user.empty", "", 0 }, { "user.z", "\0\1\2", 3 } };

	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(cow_format_next_xattr(a.xattrs, a.xattrs_len, &pos, &name, &name_len,
						   &value, &value_len),
			     1);
		cr_assert(name_len == strlen(want[i].name) &&
			  memcmp(name, want[i].name, name_len) == 0);
		cr_assert(value_len == want[i].len && memcmp(value, want[i].value, value_len) == 0);
	}
	cr_assert_eq(cow_format_next_xattr(a.xattrs, a.xattrs_len, &pos, &name, &name_len, &value,
					   &value_len),
		     0);
	assert_no_leaks();
}

/* Visit a block of just that size. Returns how many, or -EUCLEAN. */
static int count_xattrs(const uint8_t *from, size_t len)
{
	CLEANUP(free_p) uint8_t *copy = malloc(len ? len : 1);
	const char *name;
	const void *value;
	size_t pos = 0, name_len, value_len;
	int n = 0, r;

	memcpy(copy, from, len);
	while ((r = cow_format_next_xattr(copy, len, &pos, &name, &name_len, &value, &value_len)) ==
	       1) {
		cr_assert((const uint8_t *)value + value_len <= copy + len, "leads outside");
		n++;
	}
	return r < 0 ? r : n;
}

Test(cow_format, xattrs_cut_off_or_one_byte_too_long_are_refused)
{
	struct cow_attr a = an_attr();
	const size_t first = 6 + 6 + 5, second = first + 6 + 10, third = second + 6 + 6 + 3;

	cr_assert_eq(a.xattrs_len, third);
	for (size_t cut = 0; cut <= third; cut++) {
		int want = cut == 0	   ? 0
			   : cut == first  ? 1
			   : cut == second ? 2
			   : cut == third  ? 3
					   : -EUCLEAN;

		cr_assert_eq(count_xattrs(xattrs, cut), want, "cut at %zu", cut);
	}
	for (uint32_t more = 1; more < 20; more++) {
		put_le32(xattrs + second + 2, 3 + more); /* the last value */
		cr_assert_eq(count_xattrs(xattrs, third), -EUCLEAN, "%u more", more);
	}
	put_le32(xattrs + second + 2, UINT32_MAX);
	cr_assert_eq(count_xattrs(xattrs, third), -EUCLEAN);
	assert_no_leaks();
}

Test(cow_format, an_xattr_that_does_not_fit_is_refused_and_writes_nothing)
{
	uint8_t buf[32];

	memset(buf, 0xaa, sizeof(buf));
	for (size_t size = 0; size < 14; size++)
		cr_assert_eq(cow_format_add_xattr(buf, 0, size, "user", "abcd", 4), -E2BIG,
			     "size %zu", size);
	cr_assert_eq(cow_format_add_xattr(buf, 30, 20, "user", "abcd", 4), -E2BIG);
	for (size_t i = 0; i < sizeof(buf); i++)
		cr_assert_eq(buf[i], 0xaa);
	cr_assert_eq(cow_format_add_xattr(buf, 0, 14, "user", "abcd", 4), 14);
	cr_assert_eq(buf[14], 0xaa);
	assert_no_leaks();
}

Test(cow_format, names_data_and_births_come_back_as_they_were)
{
	struct cow_rec r = parsed(2, COW_REC_NAME);
	struct cow_name n;
	struct cow_data d;
	uint64_t ino = 0;

	cr_assert_eq(cow_format_get_name(r.body, r.body_len, &n), 0);
	cr_assert(n.dir == 1 && n.target == 2 && n.seq == 3 && n.type == DT_DIR);
	cr_assert(n.name_len == 3 && memcmp(n.name, "n\xffm", 3) == 0);

	r = parsed(3, COW_REC_DATA);
	cr_assert_eq(cow_format_get_data(r.body, r.body_len, &d), 0);
	cr_assert(d.ino == 1 && d.level == 0 && d.block == 3 && d.dat == 4 && d.off == 5 &&
		  d.len == 6 && d.hash == 7);

	r = parsed(4, COW_REC_DATA);
	cr_assert_eq(cow_format_get_data(r.body, r.body_len, &d), 0);
	cr_assert(d.ino == 1 && d.level == 24 && d.block == 3 && d.dat == 0);

	r = parsed(5, COW_REC_BIRTH);
	cr_assert_eq(cow_format_get_ino(r.body, r.body_len, &ino), 0);
	cr_assert_eq(ino, 99);
	assert_no_leaks();
}

Test(cow_format, places_come_back_as_they_were)
{
	struct cow_rec r = parsed(6, COW_REC_PLACE);
	struct cow_place want = a_place(), got;
	uint64_t ino = 0;

	cr_assert_eq(cow_format_get_place(r.body, r.body_len, &got), 0);
	cr_assert(got.ino == 1 && got.era == 2 && got.seq == 5 && got.now.parent == 3 &&
		  got.before.parent == 4);
	cr_assert_str_eq(got.now.name, want.now.name);
	cr_assert_str_eq(got.before.name, want.before.name);
	cr_assert_eq(cow_format_get_ino(r.body, r.body_len, &ino), 0);
	cr_assert_eq(ino, 1);
	assert_no_leaks();
}

Test(cow_format, control_records_come_back_as_they_were)
{
	struct cow_control want = an_opening(), got;
	struct cow_rec r = parsed(7, COW_REC_OPEN);

	cr_assert_eq(cow_format_get_control(&r, &got), 0);
	cr_assert(got.epoch == EPOCH && got.snap.epoch == EPOCH && got.era == 11);
	cr_assert_str_eq(got.snap.id, want.snap.id);
	cr_assert_str_eq(got.snap.set_id, want.snap.set_id);
	cr_assert_str_eq(got.snap.label, want.snap.label);
	cr_assert_str_eq(got.snap.name, want.snap.name);
	cr_assert(got.snap.context == want.snap.context && got.snap.in_set == 12 &&
		  got.snap.opened_ns == -13);
	cr_assert(got.extra_len == 6 && memcmp(got.snap.extra, "{\"a\":}", 6) == 0);

	r = parsed(8, COW_REC_SESSION);
	cr_assert_eq(cow_format_get_control(&r, &got), 0);
	cr_assert(got.epoch == EPOCH && got.session_end && got.time_ns == -1);
	cr_assert_str_eq(got.boot_id, "00112233-4455-4677-8899-aabbccddeeff");

	r = parsed(9, COW_REC_DROPPED);
	cr_assert_eq(cow_format_get_control(&r, &got), 0);
	cr_assert(got.epoch == EPOCH && got.heir == 77);
	r = parsed(10, COW_REC_COMMIT);
	cr_assert_eq(cow_format_get_control(&r, &got), 0);
	r = parsed(11, COW_REC_DROP);
	cr_assert_eq(cow_format_get_control(&r, &got), 0);

	r = parsed(2, COW_REC_NAME);
	cr_assert_eq(cow_format_get_control(&r, &got), -EUCLEAN,
		     "a record of an epoch's log is none");
	assert_no_leaks();
}

Test(cow_format, a_record_beyond_the_maximum_is_refused)
{
	CLEANUP(free_p) uint8_t *much = calloc(1, COW_REC_MAX);
	struct cow_attr a = { .xattrs = much, .xattrs_len = COW_REC_MAX };

	cr_assert_eq(cow_format_attr(rec, SEED, EPOCH, &a), -E2BIG);
	a.xattrs_len = COW_REC_MAX - COW_REC_HEADER - 124;
	for (unsigned i = 0; i < 124 && cow_format_attr(rec, SEED, EPOCH, &a) > 0; i++)
		a.xattrs_len++; /* never a byte beyond, which ASan sees */
	cr_assert_eq(cow_format_relabel(rec, SEED, EPOCH, COW_REC_ATTR, much,
					COW_REC_MAX - COW_REC_HEADER + 1),
		     -E2BIG);
	cr_assert_eq(cow_format_relabel(rec, SEED, EPOCH, COW_REC_ATTR, much,
					COW_REC_MAX - COW_REC_HEADER),
		     COW_REC_MAX);
	free_p(&much);
	much = NULL;
	assert_no_leaks();
}

/* -- nothing is believed -- */

/* In a block of just that size, so that reading beyond it is an error that ASan finds. */
static ssize_t parse_exact(const uint8_t *from, size_t len, struct cow_rec *r)
{
	CLEANUP(free_p) uint8_t *copy = malloc(len ? len : 1);
	ssize_t n;

	memcpy(copy, from, len);
	n = cow_format_parse(copy, len, SEED, r);
	r->body = NULL;
	return n;
}

Test(cow_format, a_record_cut_off_at_any_byte_is_not_all_there)
{
	struct cow_rec r;

	for (unsigned n = 0; n < KINDS; n++) {
		size_t len = make(n);

		for (size_t cut = 0; cut < len; cut++)
			cr_assert_eq(parse_exact(rec, cut, &r), 0, "kind %u cut at %zu", n, cut);
		cr_assert_eq(parse_exact(rec, len, &r), (ssize_t)len);
	}
	assert_no_leaks();
}

Test(cow_format, one_changed_bit_anywhere_makes_it_no_record)
{
	struct cow_rec r;

	for (unsigned n = 0; n < KINDS; n++) {
		size_t len = make(n);

		for (size_t at = 0; at < len; at++)
			for (unsigned bit = 0; bit < 8; bit++) {
				ssize_t got;

				rec[at] ^= (uint8_t)(1u << bit);
				got = parse_exact(rec, len, &r);
				rec[at] ^= (uint8_t)(1u << bit);
				/* a length that grew asks for more, once */
				cr_assert(got == -EUCLEAN || (got == 0 && at >= 4 && at < 8),
					  "kind %u, byte %zu, bit %u: %zd", n, at, bit, got);
			}
	}
	assert_no_leaks();
}

Test(cow_format, any_length_in_the_header_is_refused_or_asks_for_more)
{
	static const uint32_t lies[] = { 0,
					 1,
					 7,
					 8,
					 24,
					 31,
					 33,
					 39,
					 COW_REC_MAX - 8,
					 COW_REC_MAX,
					 COW_REC_MAX + 8,
					 0x7fffffff,
					 0x80000000,
					 0xfffffff8,
					 0xffffffff };
	struct cow_rec r;
	size_t len = make(0);

	for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		ssize_t got;

		put_le32(rec + 4, lies[i]);
		got = parse_exact(rec, len, &r);
		cr_assert(got == -EUCLEAN || (got == 0 && lies[i] > len && lies[i] <= COW_REC_MAX &&
					      lies[i] % 8 == 0),
			  "length %u: %zd", lies[i], got);
	}
	assert_no_leaks();
}

Test(cow_format, a_record_with_another_seed_is_refused)
{
	for (unsigned n = 0; n < KINDS; n++) {
		struct cow_rec r = { .epoch = 5 };
		size_t len = make(n);

		cr_assert_eq(cow_format_parse(rec, len, SEED ^ 1, &r), -EUCLEAN);
		cr_assert_eq(cow_format_parse(rec, len, 0, &r), -EUCLEAN);
		cr_assert_eq(r.epoch, 5, "written on failure");
		cr_assert_eq(cow_format_parse(rec, len, SEED, &r), (ssize_t)len);
	}
	assert_no_leaks();
}

Test(cow_format, only_the_first_of_several_records_is_taken)
{
	CLEANUP(free_p) uint8_t *two = malloc(2 * 4096);
	struct cow_rec r;
	size_t a = make(0), b;

	memcpy(two, rec, a);
	b = make(5);
	memcpy(two + a, rec, b);
	cr_assert_eq(cow_format_parse(two, a + b, SEED, &r), (ssize_t)a);
	cr_assert_eq(r.kind, COW_REC_ATTR);
	cr_assert_eq(cow_format_parse(two + a, b, SEED, &r), (ssize_t)b);
	cr_assert_eq(r.kind, COW_REC_BIRTH);
	free_p(&two);
	two = NULL;
	assert_no_leaks();
}

static bool inside(const void *p, size_t n, const uint8_t *body, size_t len)
{
	return !n || ((const uint8_t *)p >= body && (const uint8_t *)p + n <= body + len);
}

/* Take a body apart by what its kind says; whatever is given must lie inside of it. Returns 0 or -EUCLEAN. */
static int take_apart(enum cow_rec_kind kind, const uint8_t *from, size_t len)
{
	CLEANUP(free_p) uint8_t *body = malloc(len ? len : 1);
	uint8_t key[COW_KEY_MAX];
	struct cow_rec r = { .kind = kind, .epoch = 1, .body = body, .body_len = len };
	struct cow_control c;
	struct cow_attr a;
	struct cow_name n;
	struct cow_data d;
	struct cow_place p;
	size_t pos = 0, name_len, value_len, key_len = 0;
	const void *value;
	const char *name;
	int e, x;

	memcpy(body, from, len);
	x = cow_format_key(&r, key, &key_len);
	cr_assert(x == 0 || x == -EUCLEAN);
	cr_assert_leq(key_len, COW_KEY_MAX);
	switch (kind) {
	case COW_REC_ATTR:
		e = cow_format_get_attr(body, len, &a);
		if (e)
			break;
		cr_assert(inside(a.xattrs, a.xattrs_len, body, len));
		while ((x = cow_format_next_xattr(a.xattrs, a.xattrs_len, &pos, &name, &name_len,
						  &value, &value_len)) == 1)
			cr_assert(inside(name, name_len, body, len) &&
				  inside(value, value_len, body, len));
		cr_assert(x == 0 || x == -EUCLEAN);
		break;
	case COW_REC_NAME:
		e = cow_format_get_name(body, len, &n);
		cr_assert(e || (n.name_len && n.name_len <= COW_NAME_MAX_LEN &&
				inside(n.name, n.name_len, body, len)));
		break;
	case COW_REC_DATA:
		e = cow_format_get_data(body, len, &d);
		cr_assert(e || (d.level < 64 && !(d.dat && d.level)));
		break;
	case COW_REC_BIRTH:
		e = x;
		break;
	case COW_REC_PLACE:
		e = cow_format_get_place(body, len, &p);
		cr_assert(e || (strlen(p.now.name) <= COW_NAME_MAX_LEN &&
				strlen(p.before.name) <= COW_NAME_MAX_LEN));
		break;
	default:
		e = cow_format_get_control(&r, &c);
		if (e)
			break;
		cr_assert(strlen(c.snap.name) <= COW_LABEL_MAX &&
			  strlen(c.snap.label) <= COW_LABEL_MAX);
		cr_assert(c.extra_len <= COW_EXTRA_MAX &&
			  inside(c.snap.extra, c.extra_len, body, len));
		cr_assert(kind != COW_REC_OPEN ||
			  (c.snap.context >= COW_CTX_BACKUP && c.snap.context < COW_CTX_ALL));
		break;
	}
	cr_assert(e == 0 || e == -EUCLEAN);
	return e;
}

/* Bytes before padding, by kind as numbered in make(). */
static size_t body_used(unsigned n, size_t body_len)
{
	while (n < 10 && body_len &&
	       take_apart(cow_format_view(rec, COW_REC_HEADER).kind, rec + COW_REC_HEADER,
			  body_len - 1) == 0)
		body_len--;
	return body_len;
}

Test(cow_format, a_body_cut_off_anywhere_is_refused)
{
	for (unsigned n = 0; n < 10; n++) {
		size_t len = make(n) - COW_REC_HEADER, used = body_used(n, len);
		enum cow_rec_kind kind = cow_format_view(rec, COW_REC_HEADER).kind;

		cr_assert(len - used < 8, "kind %u: only padding may be missing, not %zu bytes", n,
			  len - used);
		for (size_t cut = 0; cut < used; cut++)
			cr_assert_eq(take_apart(kind, rec + COW_REC_HEADER, cut), -EUCLEAN,
				     "kind %u cut at %zu", n, cut);
	}
	assert_no_leaks();
}

Test(cow_format, more_than_padding_after_a_body_is_refused)
{
	static const unsigned with_end[] = { 0, 2, 3, 6, 7, 8, 9, 10, 11 };

	for (unsigned i = 0; i < sizeof(with_end) / sizeof(*with_end); i++) {
		size_t len = make(with_end[i]) - COW_REC_HEADER;

		memset(rec + COW_REC_HEADER + len, 0, 8);
		cr_assert_eq(take_apart(cow_format_view(rec, COW_REC_HEADER).kind,
					rec + COW_REC_HEADER, len + 8),
			     -EUCLEAN, "kind %u", with_end[i]);
	}
	assert_no_leaks();
}

/* At every byte of every body: where a length or a count stands, that is a lie. */
Test(cow_format, no_number_in_a_body_leads_outside_of_it)
{
	static const uint8_t bytes[] = { 0, 1, 2, 7, 8, 0x7f, 0x80, 0xfe, 0xff };
	uint8_t save[8];

	for (unsigned n = 0; n < KINDS; n++) {
		size_t len = make(n) - COW_REC_HEADER;
		enum cow_rec_kind kind = cow_format_view(rec, COW_REC_HEADER).kind;
		uint8_t *body = rec + COW_REC_HEADER;

		for (size_t width = 1; width <= 8; width *= 2)
			for (size_t at = 0; at + width <= len; at++)
				for (size_t b = 0; b < sizeof(bytes); b++) {
					memcpy(save, body + at, width);
					memset(body + at, bytes[b], width);
					take_apart(kind, body, len);
					memcpy(body + at, save, width);
				}
	}
	assert_no_leaks();
}

/* Offsets of the lengths in a body, and what the record says there. */
Test(cow_format, every_length_that_says_too_much_is_refused)
{
	static const struct {
		unsigned kind, at, width;
	} lengths[] = {
		{ 0, 112, 4 }, /* xattrs */
		{ 2, 25, 2 },  /* name */
		{ 6, 32, 2 },  /* now */
		{ 7, 96, 2 },  /* label */
	};

	for (unsigned i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		size_t len = make(lengths[i].kind) - COW_REC_HEADER;
		enum cow_rec_kind kind = cow_format_view(rec, COW_REC_HEADER).kind;
		uint8_t *body = rec + COW_REC_HEADER;
		uint32_t right = lengths[i].width == 2 ? get_le16(body + lengths[i].at)
						       : get_le32(body + lengths[i].at);

		cr_assert_lt(right, len, "a length stands there");
		cr_assert_eq(take_apart(kind, body, len), 0);
		for (uint32_t lie = (uint32_t)len; lie <= 0xffff; lie += 13) {
			if (lengths[i].width == 2)
				put_le16(body + lengths[i].at, (uint16_t)lie);
			else
				put_le32(body + lengths[i].at, lie);
			cr_assert_eq(take_apart(kind, body, len), -EUCLEAN, "kind %u, %u",
				     lengths[i].kind, lie);
		}
		if (lengths[i].width == 4)
			for (uint32_t lie = 0xffffffff; lie > 0xffffff00; lie--) {
				put_le32(body + lengths[i].at, lie);
				cr_assert_eq(take_apart(kind, body, len), -EUCLEAN);
			}
	}
	assert_no_leaks();
}

Test(cow_format, what_no_record_may_say_is_refused)
{
	struct cow_name no_name = { .dir = 1, .name = "", .name_len = 0 };
	struct cow_data deep = { .ino = 1, .level = 64 },
			large = { .ino = 1, .level = 6, .dat = 3 };
	struct cow_control c = an_opening();
	struct cow_place p = a_place();
	char name[300];
	struct cow_name long_name = { .dir = 1, .name = name, .name_len = 256 };
	ssize_t len;

	memset(name, 'n', sizeof(name));
	len = cow_format_name(rec, SEED, 1, &no_name);
	cr_assert_eq(take_apart(COW_REC_NAME, rec + COW_REC_HEADER, (size_t)len - COW_REC_HEADER),
		     -EUCLEAN);
	len = cow_format_name(rec, SEED, 1, &long_name);
	cr_assert_eq(take_apart(COW_REC_NAME, rec + COW_REC_HEADER, (size_t)len - COW_REC_HEADER),
		     -EUCLEAN);
	len = cow_format_data(rec, SEED, 1, &deep);
	cr_assert_eq(take_apart(COW_REC_DATA, rec + COW_REC_HEADER, (size_t)len - COW_REC_HEADER),
		     -EUCLEAN);
	len = cow_format_data(rec, SEED, 1, &large);
	cr_assert_eq(take_apart(COW_REC_DATA, rec + COW_REC_HEADER, (size_t)len - COW_REC_HEADER),
		     -EUCLEAN);
	len = cow_format_place(rec, SEED, 1, &p);
	rec[COW_REC_HEADER + 34] = '\0'; /* inside a name */
	cr_assert_eq(take_apart(COW_REC_PLACE, rec + COW_REC_HEADER, (size_t)len - COW_REC_HEADER),
		     -EUCLEAN);
	c.snap.context = COW_CTX_ALL;
	len = cow_format_control(rec, SEED, COW_REC_OPEN, &c);
	cr_assert_eq(take_apart(COW_REC_OPEN, rec + COW_REC_HEADER, (size_t)len - COW_REC_HEADER),
		     -EUCLEAN);
	c.snap.context = 0;
	len = cow_format_control(rec, SEED, COW_REC_OPEN, &c);
	cr_assert_eq(take_apart(COW_REC_OPEN, rec + COW_REC_HEADER, (size_t)len - COW_REC_HEADER),
		     -EUCLEAN);
	assert_no_leaks();
}

/* -- relabel -- */

Test(cow_format, a_relabelled_record_says_the_same_under_the_other_number)
{
	CLEANUP(free_p) uint8_t *body = malloc(4096);

	for (unsigned n = 0; n < 7; n++) {
		size_t len = make(n);
		enum cow_rec_kind kind = cow_format_view(rec, len).kind;
		struct cow_rec r;

		memcpy(body, rec + COW_REC_HEADER, len - COW_REC_HEADER);
		memset(rec, 0xee, len + 8);
		cr_assert_eq(cow_format_relabel(rec, SEED, 42, kind, body, len - COW_REC_HEADER),
			     (ssize_t)len);
		cr_assert_eq(cow_format_parse(rec, len, SEED, &r), (ssize_t)len);
		cr_assert(r.epoch == 42 && r.kind == kind && r.body_len == len - COW_REC_HEADER);
		cr_assert_arr_eq(r.body, body, r.body_len);
		cr_assert_eq(take_apart(kind, r.body, r.body_len), 0);
	}
	free_p(&body);
	body = NULL;
	assert_no_leaks();
}

/* -- keys -- */

static int key_cmp(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
	int c = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return c ? c : a_len < b_len ? -1 : a_len > b_len;
}

static int sign(int n)
{
	return (n > 0) - (n < 0);
}

static int num_cmp(const uint64_t *a, const uint64_t *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (a[i] != b[i])
			return a[i] < b[i] ? -1 : 1;
	return 0;
}

/* Few values, so that the first parts are often the same; every byte of a number takes part. */
static uint64_t a_number(uint64_t *rng)
{
	static const uint64_t some[] = { 0,
					 1,
					 2,
					 127,
					 128,
					 255,
					 256,
					 65535,
					 65536,
					 UINT32_MAX,
					 UINT64_C(1) << 32,
					 INT64_MAX,
					 UINT64_C(1) << 63,
					 UINT64_MAX };
	uint64_t n = harness_random(rng);

	return n % 4 ? some[n / 4 % (sizeof(some) / sizeof(*some))] : harness_random(rng);
}

Test(cow_format, keys_sort_as_their_numbers_do)
{
	uint64_t rng = harness_seed("keys_sort_as_their_numbers_do"), a[4], b[4];
	uint8_t ka[COW_KEY_MAX], kb[COW_KEY_MAX];
	size_t la, lb;

	for (unsigned i = 0; i < 50000; i++) {
		for (unsigned k = 0; k < 4; k++) {
			a[k] = a_number(&rng);
			b[k] = harness_random(&rng) % 2 ? a[k] : a_number(&rng);
		}
		la = cow_key_attr(ka, a[0], a[1]);
		lb = cow_key_attr(kb, b[0], b[1]);
		cr_assert_eq(sign(key_cmp(ka, la, kb, lb)), num_cmp(a, b, 2));
		cr_assert_eq(cow_key_get_epoch(ka, la), a[1]);
		a[1] %= 64;
		b[1] %= 64;
		la = cow_key_data(ka, a[0], (unsigned)a[1], a[2], a[3]);
		lb = cow_key_data(kb, b[0], (unsigned)b[1], b[2], b[3]);
		cr_assert_eq(sign(key_cmp(ka, la, kb, lb)), num_cmp(a, b, 4));
		cr_assert(cow_key_get_epoch(ka, la) == a[3] && cow_key_get_block(ka) == a[2]);
		la = cow_key_birth(ka, a[0]);
		lb = cow_key_birth(kb, b[0]);
		cr_assert_eq(sign(key_cmp(ka, la, kb, lb)), num_cmp(a, b, 1));
		la = cow_key_place(ka, a[0]);
		lb = cow_key_place(kb, b[0]);
		cr_assert_eq(sign(key_cmp(ka, la, kb, lb)), num_cmp(a, b, 1));
		la = cow_key_mark(ka, a[0]);
		lb = cow_key_mark(kb, b[0]);
		cr_assert_eq(sign(key_cmp(ka, la, kb, lb)), num_cmp(a, b, 1));
	}
	assert_no_leaks();
}

Test(cow_format, keys_of_names_sort_by_directory_name_and_epoch)
{
	static const char *const names[] = { "\x01", "a",    "ab",   "abc",  "abd",
					     "b",    "\x7f", "\x80", "\xff", "\xff\xff" };
	enum { N = sizeof(names) / sizeof(*names) };
	static const uint64_t numbers[] = { 0, 1, 255, 256, UINT64_MAX };
	uint8_t last[COW_KEY_MAX], key[COW_KEY_MAX];
	size_t last_len = 0, len;

	for (unsigned d = 0; d < 5; d++)
		for (unsigned n = 0; n < N; n++)
			for (unsigned e = 0; e < 5; e++) {
				len = cow_key_name(key, numbers[d], names[n], strlen(names[n]),
						   numbers[e]);
				if (last_len)
					cr_assert_lt(key_cmp(last, last_len, key, len), 0,
						     "%u %u %u", d, n, e);
				memcpy(last, key, len);
				last_len = len;
			}
	assert_no_leaks();
}

Test(cow_format, a_key_of_a_name_is_taken_apart_again)
{
	char name[COW_NAME_MAX_LEN];
	uint8_t key[COW_KEY_MAX], prefix[COW_KEY_MAX];
	uint64_t dir, target, epoch;
	const char *got;
	size_t len, n;

	memset(name, 'n', sizeof(name));
	for (size_t name_len = 1; name_len <= sizeof(name); name_len++) {
		len = cow_key_name(key, 5, name, name_len, 6);
		cr_assert_leq(len, COW_KEY_MAX);
		cr_assert_eq(cow_key_get_name(key, len, &dir, &got, &n, &epoch), 0);
		cr_assert(dir == 5 && epoch == 6 && n == name_len && memcmp(got, name, n) == 0);
		cr_assert_arr_eq(key, prefix, cow_key_dir_prefix(prefix, 5));
		len = cow_key_back(key, 4, 5, name, name_len, 6);
		cr_assert_leq(len, COW_KEY_MAX);
		cr_assert_eq(cow_key_get_back(key, len, &target, &dir, &got, &n, &epoch), 0);
		cr_assert(target == 4 && dir == 5 && epoch == 6 && n == name_len &&
			  memcmp(got, name, n) == 0);
		cr_assert_arr_eq(key, prefix, cow_key_back_prefix(prefix, 4));
	}
	assert_no_leaks();
}

Test(cow_format, what_is_no_key_of_a_name_is_refused)
{
	uint8_t key[COW_KEY_MAX + 64] = { 0 };
	uint64_t dir = 7, target = 7, epoch = 7;
	const char *got = NULL;
	size_t len, n = 7;

	len = cow_key_attr(key, 1, 2);
	cr_assert_eq(cow_key_get_name(key, len, &dir, &got, &n, &epoch), -EUCLEAN);
	cr_assert_eq(cow_key_get_back(key, len, &target, &dir, &got, &n, &epoch), -EUCLEAN);
	len = cow_key_name(key, 1, "n", 1, 2);
	for (size_t cut = 0; cut < len; cut++)
		cr_assert_eq(cow_key_get_name(key, cut, &dir, &got, &n, &epoch), -EUCLEAN,
			     "cut at %zu", cut);
	len = cow_key_back(key, 1, 2, "n", 1, 2);
	for (size_t cut = 0; cut < len; cut++)
		cr_assert_eq(cow_key_get_back(key, cut, &target, &dir, &got, &n, &epoch), -EUCLEAN,
			     "cut at %zu", cut);
	key[0] = 'N';
	cr_assert_eq(cow_key_get_name(key, 9 + 256 + 1 + 8, &dir, &got, &n, &epoch), -EUCLEAN);
	assert_no_leaks();
}

Test(cow_format, each_record_of_a_log_is_found_under_its_own_key)
{
	static const char families[] = "AANDDBP";
	uint8_t key[COW_KEY_MAX], want[COW_KEY_MAX];
	size_t len = 0;

	for (unsigned n = 0; n < 7; n++) {
		struct cow_rec r = cow_format_view(rec, make(n));

		cr_assert_eq(cow_format_key(&r, key, &len), 0);
		cr_assert_eq(key[0], (uint8_t)families[n]);
		if (n == 2)
			cr_assert(len == cow_key_name(want, 1, "n\xffm", 3, EPOCH) &&
				  memcmp(key, want, len) == 0);
		if (n == 4)
			cr_assert(len == cow_key_data(want, 1, 24, 3, EPOCH) &&
				  memcmp(key, want, len) == 0);
	}
	for (unsigned n = 7; n < KINDS; n++) {
		struct cow_rec r = cow_format_view(rec, make(n));

		len = 1;
		cr_assert_eq(cow_format_key(&r, key, &len), 0);
		cr_assert_eq(len, 0, "control records are in no index");
	}
	assert_no_leaks();
}

/* What an older reader says of it is an error as well. */
Test(cow_format, xattrs_that_were_not_kept_are_an_error_behind_those_that_were)
{
	uint8_t block[64];
	size_t len = 0, pos = 0, name_len, value_len;
	const void *value;
	const char *name;

	len = (size_t)cow_format_add_xattr(block, 0, sizeof(block), "user.a", "1", 1);
	len = cow_format_end_xattrs(block, len);
	cr_expect_eq(cow_format_next_xattr(block, len, &pos, &name, &name_len, &value, &value_len),
		     1);
	cr_expect(name_len == 6 && memcmp(name, "user.a", 6) == 0);
	for (unsigned i = 0; i < 2; i++)
		cr_expect_eq(cow_format_next_xattr(block, len, &pos, &name, &name_len, &value,
						   &value_len),
			     -EIO);
	block[len - 1] = 0;
	cr_expect_eq(cow_format_next_xattr(block, len, &pos, &name, &name_len, &value, &value_len),
		     -EUCLEAN);
	assert_no_leaks();
}
