/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <criterion/criterion.h>
#include <string.h>

#include "cow/hash.h"

/* Checksums are on disk: these are XXH3_64bits of the published algorithm and must never change. */
Test(cow_hash, is_the_xxh3_of_the_specification)
{
	cr_assert_eq(cow_hash("", 0, 0), UINT64_C(0x2d06800538d394c2));
	cr_assert_eq(cow_hash("abc", 3, 0), UINT64_C(0x78af5f94892f3950));
}

Test(cow_hash, differs_by_seed_length_and_bit)
{
	unsigned char data[4096] = { 0 };
	uint64_t whole = cow_hash(data, sizeof(data), 1);

	cr_assert_neq(whole, cow_hash(data, sizeof(data), 2));
	cr_assert_neq(whole, cow_hash(data, sizeof(data) - 1, 1));
	data[4095] ^= 1;
	cr_assert_neq(whole, cow_hash(data, sizeof(data), 1));
}

Test(cow_hash, takes_any_alignment)
{
	char buf[300];
	uint64_t first;

	memset(buf, 'x', sizeof(buf));
	first = cow_hash(buf, 257, 7);
	for (int i = 1; i < 16; i++)
		cr_assert_eq(cow_hash(buf + i, 257, 7), first);
}
