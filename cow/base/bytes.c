#include "cow/base/bytes.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>

static const char units[] = "KMGTPE";

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static const char *skip_blanks(const char *p)
{
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

/* A decimal number as parts: whole + frac / frac_scale. Not a double: 2^64 - 1 must stay exact. */
struct number {
	uint64_t whole;
	uint64_t frac;
	uint64_t frac_scale;
};

static int parse_number(const char **p, struct number *ret)
{
	struct number n = { .frac_scale = 1 };
	const char *s = skip_blanks(*p);
	bool any = false;

	for (; is_digit(*s); s++, any = true) {
		if (__builtin_mul_overflow(n.whole, 10, &n.whole) ||
		    __builtin_add_overflow(n.whole, (uint64_t)(*s - '0'), &n.whole))
			return -ERANGE;
	}
	if (*s == '.') {
		s++;
		for (; is_digit(*s); s++, any = true) {
			if (n.frac_scale >= 1000000000) /* further digits change no byte we show */
				continue;
			n.frac = n.frac * 10 + (uint64_t)(*s - '0');
			n.frac_scale *= 10;
		}
	}
	if (!any)
		return -EINVAL;
	*p = skip_blanks(s);
	*ret = n;
	return 0;
}

/* Multiply by factor / divisor, rounding down; 128 bits, so only the result can be too large. */
static int scale(const struct number *n, uint64_t factor, unsigned divisor, uint64_t *ret)
{
	unsigned __int128 v = (unsigned __int128)n->whole * n->frac_scale + n->frac;
	unsigned __int128 limit = (unsigned __int128)UINT64_MAX;

	/* Past 128 bits the quotient (divisors stay below 2^37) is past 64 bits as well. */
	if (v > (~(unsigned __int128)0) / (factor ? factor : 1))
		return -ERANGE;
	v = v * factor / n->frac_scale / divisor;
	if (v > limit)
		return -ERANGE;
	*ret = (uint64_t)v;
	return 0;
}

static char upper(char c)
{
	return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

/* The unit at p up to the end of the text: its power of two, or -EINVAL. */
static int parse_unit(const char *p)
{
	const char *unit = *p ? strchr(units, upper(*p)) : NULL;
	int shift = 0;

	if (unit) {
		shift = 10 * (int)(unit - units + 1);
		p++;
		if (upper(p[0]) == 'I' && upper(p[1]) == 'B')
			p++; /* now at the B */
	}
	if (upper(*p) == 'B')
		p++;
	return *skip_blanks(p) ? -EINVAL : shift;
}

int bytes_parse_size(const char *text, uint64_t *ret_bytes)
{
	struct number n;
	int r, shift;

	r = parse_number(&text, &n);
	if (r < 0)
		return r;
	shift = parse_unit(text);
	if (shift < 0)
		return shift;
	return scale(&n, (uint64_t)1 << shift, 1, ret_bytes);
}

int bytes_parse_limit(const char *text, uint64_t whole_bytes, uint64_t *ret_bytes)
{
	const char *p = text;
	struct number n;
	int r;

	r = parse_number(&p, &n);
	if (r < 0)
		return r;
	if (*p != '%')
		return bytes_parse_size(text, ret_bytes);
	if (*skip_blanks(p + 1))
		return -EINVAL;
	if (n.whole > 100 || (n.whole == 100 && n.frac))
		return -ERANGE;
	return scale(&n, whole_bytes, 100, ret_bytes);
}

char *bytes_format(char buf[BYTES_FORMAT_SIZE], uint64_t bytes)
{
	unsigned shift = 10, unit = 0;
	uint64_t tenths, whole;

	if (bytes < 1024) {
		snprintf(buf, BYTES_FORMAT_SIZE, "%u", (unsigned)bytes);
		return buf;
	}
	for (;; shift += 10, unit++) {
		uint64_t half = (uint64_t)1 << (shift - 1);

		tenths = (uint64_t)(((unsigned __int128)bytes * 10 + half) >> shift);
		whole = (uint64_t)(((unsigned __int128)bytes + half) >> shift);
		if (whole < 1024 || !units[unit + 1])
			break;
	}
	if (tenths < 100)
		snprintf(buf, BYTES_FORMAT_SIZE, "%u.%u%c", (unsigned)(tenths / 10),
			 (unsigned)(tenths % 10), units[unit]);
	else
		snprintf(buf, BYTES_FORMAT_SIZE, "%u%c", (unsigned)whole, units[unit]);
	return buf;
}
