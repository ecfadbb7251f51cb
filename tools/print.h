/* tools/print.h - results on standard output.
 * Job:     columns, JSON, colour, progress. What to print is the command's business.
 * Errors:  none here: a failed write shows in print_finish().
 * Threads: the command has one. */
#ifndef UMBRA_TOOLS_PRINT_H
#define UMBRA_TOOLS_PRINT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum print_colour { PRINT_PLAIN, PRINT_BOLD, PRINT_RED, PRINT_GREEN, PRINT_YELLOW, PRINT_DIM };

/** Start of a colour, PRINT_PLAIN to end it; "" unless standard output is a terminal and NO_COLOR
 *  is empty or not set (no-color.org). Static. */
const char *print_colour(enum print_colour c);

/** A document and a newline. @json taken; NULL (no memory) is said. */
void print_json(json_t *json);

/** Columns. A heading that begins with '>' is of numbers: aligned right, without the '>'. */
struct table;
struct table *table_new(const char *const *headings, unsigned columns);
/** One row: as many strings as columns, copied; control bytes are escaped. */
void table_row(struct table *t, ...);
/** Print and free. */
void table_print(struct table *t);

/** A path as the result of a command: escaped on a terminal, else raw, so that $(...) gets it. */
void print_path(const char *path);

/** "KEY:  value" lines of one thing; value NULL or "": no line. */
void print_fact(const char *key, const char *value);

/** A size, and a time as text; both live until the end of the enclosing block. */
#define PRINT_SIZE(bytes) bytes_format((char[BYTES_FORMAT_SIZE]){ 0 }, (uint64_t)(bytes))
#define PRINT_LOCAL(ns) text_format_local((char[TEXT_TIME_SIZE]){ 0 }, (ns))
#define PRINT_AGE(s) text_format_age((char[TEXT_AGE_SIZE]){ 0 }, (s))
#define PRINT_NUMBER(n) print_number((char[24]){ 0 }, (n))
char *print_number(char buf[24], int64_t n);

/** Progress on standard error, for work that takes more than a second and a terminal. */
struct progress {
	uint64_t total, done; /* bytes, or whatever is counted; total 0: not known */
	uint64_t started_ns, shown_ns;
	const char *what;
	bool bytes, shown;
};
void progress_begin(struct progress *p, const char *what, uint64_t total, bool bytes);
void progress_add(struct progress *p, uint64_t n);
void progress_end(struct progress *p);

/** Flush standard output: 0, or TOOL_FAILED when anything of it was lost, which was said. */
int print_finish(void);

#endif
