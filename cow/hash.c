/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cow/hash.h"

#include <xxhash.h>

uint64_t cow_hash(const void *data, size_t len, uint64_t seed)
{
	return XXH3_64bits_withSeed(data, len, seed);
}
