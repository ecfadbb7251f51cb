#include "cow/base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

static atomic_int log_level = LOG_LEVEL_INFO; /* relaxed: orders nothing, may be seen late */
static const char *log_prefix;
static int log_fd = STDERR_FILENO;
static bool log_syslog;

void log_set_prefix(const char *program)
{
	log_prefix = program;
}

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

void log_to_fd(int fd)
{
	log_fd = fd;
	log_syslog = false;
}

void log_to_syslog(void)
{
	openlog(log_prefix, LOG_PID, LOG_DAEMON);
	log_syslog = true;
}

/* Length of the UTF-8 character at p (RFC 3629: no overlong forms, no surrogates), or 0. */
static size_t utf8_len(const unsigned char *p, size_t left)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n = 0;
	uint32_t c;

	if (p[0] < 0x80)
		n = 1;
	else if (p[0] >= 0xc2 && p[0] < 0xf5)
		n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;

	if (n > left)
		return 0;
	if (n <= 1)
		return n;
	c = p[0] & (0x7fU >> n);
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	return n;
}

/* The form of one character in out (at most 5 bytes); returns its length, sets *used. */
static size_t quote_one(char out[5], const unsigned char *p, size_t left, bool backslash,
			size_t *used)
{
	size_t n = utf8_len(p, left);
	bool c1 = n == 2 && p[0] == 0xc2 && p[1] < 0xa0;
	char letter = p[0] == '\n' ? 'n' : p[0] == '\t' ? 't' : p[0] == '\r' ? 'r' : 0;

	if (p[0] == '\\' && backslash)
		letter = '\\';
	if (letter) {
		*used = 1;
		out[0] = '\\';
		out[1] = letter;
		return 2;
	}
	if (n == 0 || c1 || p[0] < 0x20 || p[0] == 0x7f) {
		*used = 1; /* of a C1 character the second byte follows, then as invalid */
		return (size_t)snprintf(out, 5, "\\x%02x", p[0]);
	}
	*used = n;
	memcpy(out, p, n);
	return n;
}

static char *quote(char *buf, size_t size, const unsigned char *p, size_t len, bool backslash)
{
	size_t at = 0, dots_at = 0, used;
	char one[5];

	assert(size >= 4);
	for (size_t i = 0; i < len; i += used) {
		size_t n = quote_one(one, p + i, len - i, backslash, &used);

		if (at + n + 1 > size) {
			strcpy(buf + dots_at, "...");
			return buf;
		}
		memcpy(buf + at, one, n);
		at += n;
		if (at + 4 <= size)
			dots_at = at; /* the last place where the dots still fit */
	}
	buf[at] = '\0';
	return buf;
}

char *log_quote_n(char *buf, size_t size, const void *bytes, size_t len)
{
	return quote(buf, size, bytes, len, true);
}

char *log_quote(char *buf, size_t size, const char *name)
{
	if (!name)
		name = "(null)";
	return log_quote_n(buf, size, name, strlen(name));
}

static int syslog_priority(enum log_level level)
{
	static const int map[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

	return map[level];
}

/* One write, so that lines of several threads and processes do not mix. */
static void write_line(const char *text)
{
	char line[LOG_LINE_SIZE];
	size_t done = 0;
	int len;

	len = log_prefix ? snprintf(line, sizeof(line), "%s: %s\n", log_prefix, text)
			 : snprintf(line, sizeof(line), "%s\n", text);
	if (len < 0)
		return;
	if ((size_t)len >= sizeof(line)) {
		len = sizeof(line);
		memcpy(line + len - 4, "...\n", 4);
	}
	while (done < (size_t)len) {
		ssize_t n = write(log_fd, line + done, (size_t)len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		done += (size_t)n;
	}
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char raw[LOG_LINE_SIZE];
	char text[LOG_LINE_SIZE];
	int saved = errno;
	size_t len;
	va_list ap;
	int n;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	n = vsnprintf(raw, sizeof(raw), fmt, ap);
	va_end(ap);
	if (n < 0)
		goto out; /* an unprintable wide string: nothing to say */
	len = (size_t)n < sizeof(raw) ? (size_t)n : sizeof(raw) - 1;
	if ((size_t)n >= sizeof(raw))
		memcpy(raw + sizeof(raw) - 4, "...", 3);
	/* Backslashes stay: names in the message have been quoted already. */
	quote(text, sizeof(text), (const unsigned char *)raw, len, false);
	if (log_syslog)
		syslog(syslog_priority(level), "%s", text);
	else
		write_line(text);
out:
	errno = saved;
}
