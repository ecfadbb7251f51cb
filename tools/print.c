/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/print.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cow/base/bytes.h"
#include "cow/base/clock.h"
#include "cow/base/err.h"
#include "tools/common.h"
#include "tools/text.h"

#define PROGRESS_EVERY_NS (CLOCK_NS_PER_SEC / 5)

const char *print_colour(enum print_colour c)
{
	static const char *const codes[] = { "\033[0m",	 "\033[1m",  "\033[31m",
					     "\033[32m", "\033[33m", "\033[2m" };
	static int wanted = -1;

	if (wanted < 0) {
		const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

		wanted = isatty(STDOUT_FILENO) && !(no && *no) && term && strcmp(term, "dumb") != 0;
	}
	return wanted ? codes[c] : "";
}

void print_json(json_t *json)
{
	if (!json) {
		tool_no_memory();
		return;
	}
	json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	putchar('\n');
	json_decref(json);
}

char *print_number(char buf[24], int64_t n)
{
	snprintf(buf, 24, "%lld", (long long)n);
	return buf;
}

/* ---- columns */

struct table {
	unsigned columns, rows;
	const char *const *headings;
	char **cells; /* row after row */
};

/* Characters of UTF-8, near enough to columns. */
static unsigned width(const char *s)
{
	unsigned n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

struct table *table_new(const char *const *headings, unsigned columns)
{
	struct table *t = calloc(1, sizeof(*t));

	if (t)
		*t = (struct table){ .columns = columns, .headings = headings };
	return t;
}

void table_row(struct table *t, ...)
{
	char **grown;
	va_list ap;

	if (!t)
		return;
	grown = reallocarray(t->cells, (size_t)(t->rows + 1) * t->columns, sizeof(*grown));
	if (!grown)
		return;
	t->cells = grown;
	va_start(ap, t);
	for (unsigned i = 0; i < t->columns; i++) {
		const char *text = va_arg(ap, const char *);
		size_t size = text ? strlen(text) * 4 + 4 : 4;
		char *cell = malloc(size);

		if (cell)
			log_quote(cell, size, text ? text : "-");
		t->cells[(size_t)t->rows * t->columns + i] = cell;
	}
	va_end(ap);
	t->rows++;
}

static void print_cell(const char *text, unsigned wide, bool right, bool last)
{
	unsigned pad = wide - width(text);

	if (right)
		printf("%*s%s%s", (int)pad, "", text, last ? "" : "  ");
	else if (last)
		printf("%s", text);
	else
		printf("%s%*s", text, (int)pad + 2, "");
}

static const char *heading(const struct table *t, unsigned column)
{
	return t->headings[column] + (t->headings[column][0] == '>');
}

static const char *cell(const struct table *t, unsigned row, unsigned column)
{
	const char *text = t->cells[(size_t)row * t->columns + column];

	return text && *text ? text : "-";
}

void table_print(struct table *t)
{
	unsigned wide[32] = { 0 };

	if (!t) {
		tool_no_memory();
		return;
	}
	for (unsigned c = 0; c < t->columns; c++) {
		wide[c] = width(heading(t, c));
		for (unsigned r = 0; r < t->rows; r++)
			wide[c] = width(cell(t, r, c)) > wide[c] ? width(cell(t, r, c)) : wide[c];
	}
	printf("%s", print_colour(PRINT_BOLD));
	for (unsigned c = 0; c < t->columns; c++)
		print_cell(heading(t, c), wide[c], t->headings[c][0] == '>', c + 1 == t->columns);
	printf("%s\n", print_colour(PRINT_PLAIN));
	for (unsigned r = 0; r < t->rows; r++) {
		for (unsigned c = 0; c < t->columns; c++)
			print_cell(cell(t, r, c), wide[c], t->headings[c][0] == '>',
				   c + 1 == t->columns);
		putchar('\n');
	}
	for (size_t i = 0; i < (size_t)t->rows * t->columns; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t);
}

void print_path(const char *path)
{
	puts(isatty(STDOUT_FILENO) ? LOG_QUOTE(path) : path);
}

void print_fact(const char *key, const char *value)
{
	if (value && *value)
		printf("%-14s %s\n", key, LOG_QUOTE(value));
}

/* ---- progress */

void progress_begin(struct progress *p, const char *what, uint64_t total, bool bytes)
{
	*p = (struct progress){
		.what = what, .total = total, .bytes = bytes, .started_ns = clock_mono_ns()
	};
}

static void show(struct progress *p, uint64_t now)
{
	uint64_t ms = (now - p->started_ns) / CLOCK_NS_PER_MS + 1;
	uint64_t rate = p->done * 1000 / ms;
	char bar[21] = "....................", left[TEXT_AGE_SIZE] = "";
	unsigned full = 0;

	if (p->total) {
		full = p->done >= p->total ? 20
					   : (unsigned)((double)p->done * 20 / (double)p->total);
		memset(bar, '#', full);
		if (rate && p->done <= p->total)
			text_format_clock(left, (p->total - p->done) / rate);
	}
	if (p->bytes)
		fprintf(stderr, "\r%s [%s] %s of %s, %s/s%s%s \033[K", p->what, bar,
			PRINT_SIZE(p->done), PRINT_SIZE(p->total), PRINT_SIZE(rate),
			*left ? ", left " : "", left);
	else
		fprintf(stderr, "\r%s [%s] %llu of %llu%s%s \033[K", p->what, bar,
			(unsigned long long)p->done, (unsigned long long)p->total,
			*left ? ", left " : "", left);
	p->shown = true;
	p->shown_ns = now;
}

void progress_add(struct progress *p, uint64_t n)
{
	uint64_t now = clock_mono_ns();

	p->done += n;
	if (tool_opts.quiet || now - p->started_ns < CLOCK_NS_PER_SEC ||
	    now - p->shown_ns < PROGRESS_EVERY_NS || !isatty(STDERR_FILENO))
		return;
	show(p, now);
}

void progress_end(struct progress *p)
{
	if (p->shown)
		fputs("\r\033[K", stderr);
	p->shown = false;
}

int print_finish(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	if (errno == EPIPE) /* umbra list | head: nobody wants to read about it */
		return TOOL_FAILED;
	return tool_error("standard output: %s", err_text(-errno));
}
