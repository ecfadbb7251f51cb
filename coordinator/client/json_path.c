/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Paths as members of JSON objects (umbra_json_set_path and umbra_json_get_path of client.h). JSON
 * has UTF-8 only, Linux names have any bytes but 0 and '/': see the head of io.umbra.varlink. */
#include "coordinator/client/client.h"

#include "cow/base/cleanup.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static char *base64_encode(const char *bytes, size_t len)
{
	const unsigned char *in = (const unsigned char *)bytes;
	char *text = malloc((len + 2) / 3 * 4 + 1), *out = text;

	if (!text)
		return NULL;
	for (size_t i = 0; i < len; i += 3) {
		uint32_t v = (uint32_t)in[i] << 16;

		if (i + 1 < len)
			v |= (uint32_t)in[i + 1] << 8;
		if (i + 2 < len)
			v |= in[i + 2];
		*out++ = digits[v >> 18];
		*out++ = digits[v >> 12 & 63];
		*out++ = i + 1 < len ? digits[v >> 6 & 63] : '=';
		*out++ = i + 2 < len ? digits[v & 63] : '=';
	}
	*out = 0;
	return text;
}

static int digit_value(char c)
{
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* Strict: whole groups of four, '=' only at the end, unused bits 0. NULL with EINVAL or ENOMEM. */
static char *base64_decode(const char *text, size_t *ret_len)
{
	size_t len = strlen(text), pad = 0, n = 0;
	CLEANUP(free_p) char *out = malloc(len / 4 * 3 + 1);

	if (!out)
		return NULL;
	errno = EINVAL;
	if (len % 4)
		return NULL;
	while (pad < 2 && pad < len && text[len - 1 - pad] == '=')
		pad++;
	for (size_t i = 0; i < len; i += 4) {
		size_t here = i + 4 == len ? 4 - pad : 4;
		uint32_t v = 0;

		for (size_t j = 0; j < 4; j++) {
			int d = j < here ? digit_value(text[i + j]) : 0;

			if (d < 0)
				return NULL;
			v = v << 6 | (uint32_t)d;
		}
		if ((here == 3 && (v & 0xff)) || (here == 2 && (v & 0xffff)))
			return NULL;
		out[n++] = (char)(v >> 16);
		if (here > 2)
			out[n++] = (char)(v >> 8);
		if (here > 3)
			out[n++] = (char)v;
	}
	out[n] = 0;
	*ret_len = n;
	return TAKE(out);
}

/* Bytes of the UTF-8 character at s, 0 if there is none: no surrogates, nothing overlong (RFC
 * 3629). */
static size_t utf8_length(const unsigned char *s)
{
	size_t n;
	uint32_t c;

	if (s[0] < 0x80)
		return s[0] != 0;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	c = s[0] & (0x7f >> n);
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if ((n == 3 && c < 0x800) || (n == 4 && c < 0x10000) || c > 0x10ffff ||
	    (c >= 0xd800 && c < 0xe000))
		return 0;
	return n;
}

/* A copy in which each byte that is not UTF-8 is U+FFFD; *ret_changed says whether there was one.
 */
static char *utf8_repair(const char *path, bool *ret_changed)
{
	char *text = malloc(strlen(path) * 3 + 1), *out = text;

	*ret_changed = false;
	if (!text)
		return NULL;
	while (*path) {
		size_t n = utf8_length((const unsigned char *)path);

		if (n == 0) {
			memcpy(out, "\xef\xbf\xbd", 3);
			out += 3;
			path++;
			*ret_changed = true;
			continue;
		}
		memcpy(out, path, n);
		out += n;
		path += n;
	}
	*out = 0;
	return text;
}

#define KEY_SIZE 80

static int base64_key(const char *key, char ret[KEY_SIZE])
{
	return snprintf(ret, KEY_SIZE, "%s_base64", key) < KEY_SIZE ? 0 : -EINVAL;
}

int umbra_json_set_path(json_t *object, const char *key, const char *path)
{
	CLEANUP(free_p) char *text = NULL;
	CLEANUP(free_p) char *coded = NULL;
	char key64[KEY_SIZE];
	bool changed;
	int r = base64_key(key, key64);

	if (r < 0)
		return r;
	text = utf8_repair(path, &changed);
	if (!text || json_object_set_new(object, key, json_string(text)) < 0)
		return -ENOMEM;
	json_object_del(object, key64);
	if (!changed)
		return 0;
	coded = base64_encode(path, strlen(path));
	if (!coded || json_object_set_new(object, key64, json_string(coded)) < 0)
		return -ENOMEM;
	return 0;
}

char *umbra_json_get_path(const json_t *object, const char *key)
{
	CLEANUP(free_p) char *path = NULL;
	char key64[KEY_SIZE];
	const json_t *plain = json_object_get(object, key), *coded;
	size_t len;

	if (base64_key(key, key64) < 0) {
		errno = EINVAL;
		return NULL;
	}
	coded = json_object_get(object, key64);
	if (coded && !json_is_null(coded)) {
		if (!json_is_string(coded)) {
			errno = EINVAL;
			return NULL;
		}
		path = base64_decode(json_string_value(coded), &len);
		if (!path)
			return NULL;
		if (strlen(path) != len) { /* a path cannot hold a 0 */
			errno = EINVAL;
			return NULL;
		}
		return TAKE(path);
	}
	if (!plain || json_is_null(plain)) {
		errno = ENOENT;
		return NULL;
	}
	if (!json_is_string(plain)) {
		errno = EINVAL;
		return NULL;
	}
	return strdup(json_string_value(plain));
}
