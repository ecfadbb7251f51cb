/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cow/hash.h - XXH3-64 checksums; the only place that knows xxHash.     Threads: any. Pure. */
#ifndef UMBRA_COW_HASH_H
#define UMBRA_COW_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t cow_hash(const void *data, size_t len, uint64_t seed);

#endif
