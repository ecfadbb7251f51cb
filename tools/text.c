/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/text.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cow/base/clock.h"

static const struct unit {
	const char *name;
	uint64_t seconds;
} units[] = {
	{ "s", 1 },    { "mo", 30 * 86400 }, { "min", 60 },	 { "m", 60 },
	{ "h", 3600 }, { "d", 86400 },	     { "w", 7 * 86400 }, { "y", 365 * 86400 },
};

/* The unit that text starts with, up to the next digit or the end. */
static const struct unit *find_unit(const char *text, size_t *ret_len)
{
	size_t len = strcspn(text, "0123456789");

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strlen(units[i].name) == len && strncmp(units[i].name, text, len) == 0) {
			*ret_len = len;
			return &units[i];
		}
	}
	return NULL;
}

static int parse_number(const char **text, uint64_t *ret)
{
	uint64_t n = 0;

	if (!isdigit((unsigned char)**text))
		return -EINVAL;
	for (; isdigit((unsigned char)**text); (*text)++) {
		if (__builtin_mul_overflow(n, UINT64_C(10), &n) ||
		    __builtin_add_overflow(n, (uint64_t)(**text - '0'), &n))
			return -ERANGE;
	}
	*ret = n;
	return 0;
}

int text_parse_age(const char *text, uint64_t *ret_seconds)
{
	uint64_t sum = 0, n;
	int r;

	if (strcmp(text, "0") == 0) {
		*ret_seconds = 0;
		return 0;
	}
	do {
		const struct unit *u;
		size_t len;

		r = parse_number(&text, &n);
		if (r < 0)
			return r;
		u = find_unit(text, &len);
		if (!u)
			return -EINVAL;
		if (__builtin_mul_overflow(n, u->seconds, &n) ||
		    __builtin_add_overflow(sum, n, &sum) || sum > INT64_MAX)
			return -ERANGE;
		text += len;
	} while (*text);
	*ret_seconds = sum;
	return 0;
}

char *text_format_age(char buf[TEXT_AGE_SIZE], uint64_t seconds)
{
	static const struct {
		uint64_t below, unit;
		char name;
	} steps[] = {
		{ 60, 1, 's' },
		{ 3600, 60, 'm' },
		{ 86400, 3600, 'h' },
		{ 14 * 86400, 86400, 'd' },
		{ 2 * 365 * 86400, 7 * 86400, 'w' },
		{ UINT64_MAX, 365 * 86400, 'y' },
	};
	size_t i = 0;

	while (seconds >= steps[i].below && i + 1 < sizeof(steps) / sizeof(steps[0]))
		i++;
	snprintf(buf, TEXT_AGE_SIZE, "%llu%c", (unsigned long long)(seconds / steps[i].unit),
		 steps[i].name);
	return buf;
}

char *text_format_clock(char buf[TEXT_AGE_SIZE], uint64_t seconds)
{
	unsigned h, m = (unsigned)(seconds / 60 % 60), s = (unsigned)(seconds % 60);

	if (seconds / 3600 > 99999)
		seconds = UINT64_C(99999) * 3600;
	h = (unsigned)(seconds / 3600);
	if (h)
		snprintf(buf, TEXT_AGE_SIZE, "%u:%02u:%02u", h, m, s);
	else
		snprintf(buf, TEXT_AGE_SIZE, "%u:%02u", m, s);
	return buf;
}

/* Exactly n digits. */
static int parse_digits(const char **p, int n, int *ret)
{
	int v = 0;

	for (int i = 0; i < n; i++) {
		if (!isdigit((unsigned char)**p))
			return -EINVAL;
		v = v * 10 + (*(*p)++ - '0');
	}
	*ret = v;
	return 0;
}

/* One number of n digits and the sign after it ('\0': none). */
static int parse_field(const char **p, int n, char sign, int *ret)
{
	int r = parse_digits(p, n, ret);

	if (r < 0)
		return r;
	if (!sign)
		return 0;
	if (sign == 'T' && (**p == 't' || **p == ' ')) { /* RFC 3339 section 5.6 allows both */
		(*p)++;
		return 0;
	}
	if (**p != sign)
		return -EINVAL;
	(*p)++;
	return 0;
}

static int parse_fraction(const char **p, uint64_t *ret_ns)
{
	uint64_t unit = CLOCK_NS_PER_SEC;

	*ret_ns = 0;
	if (**p != '.')
		return 0;
	(*p)++;
	if (!isdigit((unsigned char)**p))
		return -EINVAL;
	for (; isdigit((unsigned char)**p); (*p)++) {
		unit /= 10; /* 0 after nine digits: the rest does not count */
		*ret_ns += unit * (uint64_t)(**p - '0');
	}
	return 0;
}

static int parse_offset(const char *p, int *ret_seconds)
{
	int sign, h, m, r;

	if ((*p == 'Z' || *p == 'z') && !p[1]) {
		*ret_seconds = 0;
		return 0;
	}
	if (*p != '+' && *p != '-')
		return -EINVAL;
	sign = *p++ == '-' ? -1 : 1;
	r = parse_field(&p, 2, ':', &h);
	if (r == 0)
		r = parse_digits(&p, 2, &m);
	if (r < 0 || *p || h > 23 || m > 59)
		return -EINVAL;
	*ret_seconds = sign * (h * 3600 + m * 60);
	return 0;
}

int text_parse_time(const char *text, uint64_t *ret_ns)
{
	struct tm tm = { 0 };
	const char *p = text;
	uint64_t fraction_ns = 0;
	int offset_s = 0, r;
	int64_t t;

	r = parse_field(&p, 4, '-', &tm.tm_year);
	if (r == 0)
		r = parse_field(&p, 2, '-', &tm.tm_mon);
	if (r == 0)
		r = parse_field(&p, 2, 'T', &tm.tm_mday);
	if (r == 0)
		r = parse_field(&p, 2, ':', &tm.tm_hour);
	if (r == 0)
		r = parse_field(&p, 2, ':', &tm.tm_min);
	if (r == 0)
		r = parse_field(&p, 2, '\0', &tm.tm_sec);
	if (r == 0)
		r = parse_fraction(&p, &fraction_ns);
	if (r == 0)
		r = parse_offset(p, &offset_s);
	if (r < 0)
		return r;
	if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 ||
	    tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
		return -EINVAL;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	t = (int64_t)timegm(&tm) - offset_s;
	if (t < 0 || (uint64_t)t > UINT64_MAX / CLOCK_NS_PER_SEC - 1)
		return -EINVAL;
	*ret_ns = (uint64_t)t * CLOCK_NS_PER_SEC + fraction_ns;
	return 0;
}

char *text_format_local(char buf[TEXT_TIME_SIZE], uint64_t ns)
{
	struct timespec ts = clock_to_timespec(ns);
	struct tm tm;

	if (!localtime_r(&ts.tv_sec, &tm) ||
	    !strftime(buf, TEXT_TIME_SIZE, "%Y-%m-%d %H:%M:%S", &tm))
		snprintf(buf, TEXT_TIME_SIZE, "?");
	return buf;
}

char *text_format_utc(char buf[TEXT_TIME_SIZE], uint64_t ns)
{
	struct timespec ts = clock_to_timespec(ns);
	struct tm tm;
	size_t len = 0;

	if (gmtime_r(&ts.tv_sec, &tm))
		len = strftime(buf, TEXT_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf + len, TEXT_TIME_SIZE - len, ".%09ldZ", ts.tv_nsec);
	return buf;
}

bool text_is_gmt_name(const char *name)
{
	static const char pattern[] = "@GMT-dddd.dd.dd-dd.dd.dd";

	for (size_t i = 0; i < sizeof(pattern); i++) {
		if (pattern[i] == 'd' ? !isdigit((unsigned char)name[i]) : name[i] != pattern[i])
			return false;
	}
	return true;
}

static const struct {
	const char *word, *with, *without;
} contexts[] = {
	{ "backup", "backup", "file-share-backup" },
	{ "file-share-backup", "file-share-backup", "file-share-backup" },
	{ "app-rollback", "app-rollback", "nas-rollback" },
	{ "nas-rollback", "nas-rollback", "nas-rollback" },
	{ "client-accessible", "client-accessible", "client-accessible" },
	{ "client-accessible-writers", "client-accessible-writers", "client-accessible" },
	{ "volatile", "backup", "file-share-backup" },
	{ "persistent", "app-rollback", "nas-rollback" },
	{ "clientaccessible", "client-accessible-writers", "client-accessible" },
};

/* As strcasecmp(), with '_' and '-' the same. */
static bool same_word(const char *a, const char *b)
{
	for (; *a || *b; a++, b++) {
		int x = *a == '_' ? '-' : tolower((unsigned char)*a);
		int y = *b == '_' ? '-' : tolower((unsigned char)*b);

		if (x != y)
			return false;
	}
	return true;
}

const char *text_context(const char *word, bool with_writers)
{
	for (size_t i = 0; i < sizeof(contexts) / sizeof(contexts[0]); i++) {
		if (same_word(word, contexts[i].word))
			return with_writers ? contexts[i].with : contexts[i].without;
	}
	return NULL;
}

bool text_context_is_volatile(const char *context)
{
	return strcmp(context, "backup") == 0 || strcmp(context, "file-share-backup") == 0;
}

bool text_context_has_writers(const char *context)
{
	return strcmp(context, "backup") == 0 || strcmp(context, "app-rollback") == 0 ||
	       strcmp(context, "client-accessible-writers") == 0;
}

char *text_writer_outcome(char buf[TEXT_OUTCOME_SIZE], const char *error)
{
	if (!error || !*error)
		snprintf(buf, TEXT_OUTCOME_SIZE, "no error");
	else if (strcmp(error, "timeout") == 0)
		snprintf(buf, TEXT_OUTCOME_SIZE, "timed out");
	else if (strcmp(error, "writer-not-responding") == 0)
		snprintf(buf, TEXT_OUTCOME_SIZE, "died");
	else
		snprintf(buf, TEXT_OUTCOME_SIZE, "refused (%s)", error);
	return buf;
}

const char *text_writer_event(const char *state)
{
	static const struct {
		const char *state, *event;
	} events[] = {
		{ "failed-at-identify", "Identify" },
		{ "failed-at-prepare-backup", "PrepareBackup" },
		{ "failed-at-prepare-snapshot", "PrepareForSnapshot" },
		{ "failed-at-freeze", "Freeze" },
		{ "failed-at-thaw", "Thaw" },
		{ "failed-at-post-snapshot", "PostSnapshot" },
		{ "failed-at-backup-complete", "BackupComplete" },
		{ "failed-at-backup-shutdown", "BackupShutdown" },
		{ "failed-at-pre-restore", "PreRestore" },
		{ "failed-at-post-restore", "PostRestore" },
	};

	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		if (strcmp(events[i].state, state) == 0)
			return events[i].event;
	return state;
}
