/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table in memory that the index looks into beside LMDB: it must order and find as LMDB does. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cow/memtable.h"
#include "tests/support/leaks.h"

static struct cow_memtable t;

static void put(const char *key, const char *val)
{
	struct cow_entry *e = cow_entry_new(key, strlen(key), val, strlen(val));

	cr_assert(e);
	free(cow_memtable_put(&t, e));
}

/* The key found at or after another, "" for none. */
static const char *ge(const char *key)
{
	static char found[64];
	const struct cow_entry *e = cow_memtable_ge(&t, key, strlen(key));

	snprintf(found, sizeof(found), "%.*s", e ? (int)e->key_len : 0,
		 e ? (const char *)e->bytes : "");
	return found;
}

static int append(void *userdata, const struct cow_entry *e)
{
	strncat(userdata, (const char *)e->bytes, e->key_len);
	return strlen(userdata) >= 60 ? 7 : 0;
}

Test(cow_memtable, keys_are_compared_as_bytes_and_the_shorter_comes_first)
{
	cr_expect_lt(cow_key_cmp("a", 1, "b", 1), 0);
	cr_expect_lt(cow_key_cmp("a", 1, "ab", 2), 0);
	cr_expect_gt(cow_key_cmp("\xff", 1, "a", 1), 0, "bytes are not signed");
	cr_expect_eq(cow_key_cmp("a\0b", 3, "a\0b", 3), 0);
	cr_expect_lt(cow_key_cmp("a\0b", 3, "a\0c", 3), 0, "a key does not end at a NUL");
	cr_expect_lt(cow_key_cmp("", 0, "a", 1), 0);
}

Test(cow_memtable, the_first_at_or_after_a_key_is_found)
{
	cr_expect_str_eq(ge(""), "");
	put("m", "1");
	put("c", "2");
	put("x", "3");
	cr_expect_str_eq(ge(""), "c");
	cr_expect_str_eq(ge("c"), "c");
	cr_expect_str_eq(ge("ca"), "m");
	cr_expect_str_eq(ge("m"), "m");
	cr_expect_str_eq(ge("xx"), "");
	cow_memtable_done(&t);
	assert_no_leaks();
}

Test(cow_memtable, the_same_key_again_replaces_and_hands_the_old_one_back)
{
	struct cow_entry *old;
	const struct cow_entry *e;

	put("k", "old");
	old = cow_memtable_put(&t, cow_entry_new("k", 1, "newer", 5));
	cr_assert(old);
	cr_expect_eq(memcmp(cow_entry_val(old), "old", 3), 0);
	free(old);
	e = cow_memtable_ge(&t, "k", 1);
	cr_expect(e && e->val_len == 5 && memcmp(cow_entry_val(e), "newer", 5) == 0);
	cr_expect_eq(t.entries, 1);
	cow_memtable_done(&t);
	cr_expect(t.entries == 0 && t.bytes == 0 && !t.root);
	assert_no_leaks();
}

Test(cow_memtable, a_thousand_keys_in_any_order_come_back_in_theirs)
{
	char key[16], all[64] = "";
	const struct cow_entry *e;
	unsigned n = 0;

	for (unsigned i = 0; i < 1000; i++) {
		snprintf(key, sizeof(key), "%04u", i * 619 % 1000);
		put(key, "v");
	}
	cr_expect_eq(t.entries, 1000);
	for (e = cow_memtable_ge(&t, "", 0); e; n++) {
		snprintf(key, sizeof(key), "%04u", n);
		cr_assert_eq(memcmp(e->bytes, key, 4), 0, "%.4s, not %s", e->bytes, key);
		snprintf(key, sizeof(key), "%04u+", n);
		e = cow_memtable_ge(&t, key, 5);
	}
	cr_expect_eq(n, 1000);
	cr_expect_eq(cow_memtable_each(&t, append, all), 7, "what the visitor says ends it");
	cr_expect_str_eq(all, "000000010002000300040005000600070008000900100011001200130014");
	cow_memtable_done(&t);
	assert_no_leaks();
}
