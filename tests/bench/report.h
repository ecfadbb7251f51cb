/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/bench/report.h - results as a table, line by line as they come, or as JSON at the end.
 * Job:     form only.
 * Errors:  none that matter.
 * Threads: one. */
#ifndef UMBRA_TESTS_BENCH_REPORT_H
#define UMBRA_TESTS_BENCH_REPORT_H

#include "tests/bench/measure.h"

enum report_unit { UNIT_NS, UNIT_BYTES };

void report_begin(bool json);
/* A heading; `a` and `b` name the two sides of the ratios that follow. NULL: there are none. */
void report_group(const char *title, const char *a, const char *b, const char *plain);
/* budget 0: none. */
void report_ratio(const char *id, const char *text, double budget, const struct measured *m);
/* One number with a budget of its own, and more about it for people. */
void report_value(const char *id, const char *text, double budget, double value,
		  enum report_unit unit, const char *more);
/* What could not be measured is said, never left out. */
void report_skip(const char *id, const char *reason);
/* Returns how many budgets were missed. */
unsigned report_end(void);

/* "12.3 us", "4.5 MiB" */
const char *report_text(char *buf, size_t size, double value, enum report_unit unit);

#endif
