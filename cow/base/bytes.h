/* cow/base/bytes.h - numbers in byte buffers, sizes in words.
 * Job:     unaligned get/put of fixed-width integers in either byte order; sizes as people type and
 *          read them.
 * Errors:  get and put cannot fail: the caller has checked the length. Parsers: 0 or -errno.
 * Threads: any; no state. Independent of the locale: the decimal sign is always a point. */

#ifndef UMBRA_COW_BASE_BYTES_H
#define UMBRA_COW_BASE_BYTES_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* get_le16(p), put_le16(p, v) and so on for be and 32, 64: p needs no alignment. */
#define BYTES_DEFINE_(order, bits)                                                                 \
	static inline uint##bits##_t get_##order##bits(const void *p)                              \
	{                                                                                          \
		uint##bits##_t v;                                                                  \
                                                                                                   \
		memcpy(&v, p, sizeof(v));                                                          \
		return order##bits##toh(v);                                                        \
	}                                                                                          \
	static inline void put_##order##bits(void *p, uint##bits##_t v)                            \
	{                                                                                          \
		v = hto##order##bits(v);                                                           \
		memcpy(p, &v, sizeof(v));                                                          \
	}

BYTES_DEFINE_(le, 16)
BYTES_DEFINE_(le, 32)
BYTES_DEFINE_(le, 64)
BYTES_DEFINE_(be, 16)
BYTES_DEFINE_(be, 32)
BYTES_DEFINE_(be, 64)
#undef BYTES_DEFINE_

/**
 * Parse a size: "4096", "64K", "1.5G", "2GiB", "10 MB". The units B K M G T P E are powers of 1024
 * in either case, with or without "B" or "iB". A fraction is rounded down to whole bytes.
 * @text       0-terminated, borrowed; blanks around the number and the unit are allowed
 * @ret_bytes  untouched on error
 * Returns 0; -EINVAL not a size; -ERANGE more than 2^64 - 1 bytes.
 */
int bytes_parse_size(const char *text, uint64_t *ret_bytes);

/**
 * The same, or a per cent of something: "10%", "0.5 %".
 * @whole_bytes  what 100 % is
 * Returns as above; -ERANGE also for more than 100 %.
 */
int bytes_parse_limit(const char *text, uint64_t whole_bytes, uint64_t *ret_bytes);

#define BYTES_FORMAT_SIZE 16

/**
 * A size for people: "0", "1023", "1.0K", "1.2G", "12G", "999M": one decimal below ten of a unit,
 * rounded to nearest; powers of 1024.
 * @buf  at least BYTES_FORMAT_SIZE bytes, borrowed
 * Returns buf.
 */
char *bytes_format(char buf[BYTES_FORMAT_SIZE], uint64_t bytes);

#endif
