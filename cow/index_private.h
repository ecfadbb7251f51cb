/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cow/index_private.h - what only tests of the index need: a map so small that it fills up.	  Rules: as index.h. */
#ifndef UMBRA_COW_INDEX_PRIVATE_H
#define UMBRA_COW_INDEX_PRIVATE_H

#include "cow/index.h"

/* cow_index_open() with a map of `map_bytes` (a multiple of the page size) instead of 1 TiB. */
int cow_index_open_sized(int dir_fd, bool fresh, size_t map_bytes, struct cow_index **ret);

/* Make the map larger while no other thread looks anything up. */
int cow_index_grow(struct cow_index *ix, size_t map_bytes);

/* Entries in memory that are not yet in LMDB. */
size_t cow_index_waiting(struct cow_index *ix);

#endif
