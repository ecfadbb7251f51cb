/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/bench/report.c - the table; see report.h. */
#include "tests/bench/report.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static struct {
	json_t *rows; /* NULL: a table for people */
	unsigned kept, missed, unsure;
} state;

const char *report_text(char *buf, size_t size, double v, enum report_unit unit)
{
	static const struct scale {
		double from;
		const char *name;
	} times[] = { { 1e9, "s" }, { 1e6, "ms" }, { 1e3, "us" }, { 0, "ns" } },
	  bytes[] = { { 1 << 20, "MiB" }, { 1 << 10, "KiB" }, { 0, "B" } };
	const struct scale *t = unit == UNIT_NS ? times : bytes;

	while (v < t->from)
		t++;
	if (t->from > 0)
		v /= t->from;
	snprintf(buf, size, v < 10 ? "%.2f %s" : v < 100 ? "%.1f %s" : "%.0f %s", v, t->name);
	return buf;
}

void report_begin(bool json)
{
	if (json)
		state.rows = json_array();
	setvbuf(stdout, NULL, _IOLBF, 0);
}

void report_group(const char *title, const char *a, const char *b, const char *plain)
{
	if (state.rows)
		return;
	if (a)
		printf("\n%-44s %6s %6s %-11s %6s %5s %9s %9s %9s\n", title, "budget", "ratio",
		       "  95 %", "", "cpu", a, b, plain ? plain : "");
	else
		printf("\n%-46s %9s %9s\n", title, "budget", "measured");
}

/* "kept", "MISSED", or "even": the interval has the budget in it, so this run cannot tell. */
static const char *verdict(double budget, double lo, double mid, double hi)
{
	if (budget == 0)
		return "";
	if (mid <= budget) {
		state.kept++;
		return "kept";
	}
	if (lo <= budget && hi >= budget) {
		state.unsure++;
		return "even";
	}
	state.missed++;
	return "MISSED";
}

static void add_json(const char *id, const char *text, double budget, const char *said, json_t *row)
{
	json_object_set_new(row, "id", json_string(id));
	json_object_set_new(row, "text", json_string(text));
	json_object_set_new(row, "budget", budget > 0 ? json_real(budget) : json_null());
	json_object_set_new(row, "verdict", *said ? json_string(said) : json_null());
	json_array_append_new(state.rows, row);
}

void report_ratio(const char *id, const char *text, double budget, const struct measured *m)
{
	const char *said = verdict(budget, m->ratio.lo, m->ratio.mid, m->ratio.hi);
	char a[32], b[32], plain[32] = "", limit[16] = "", range[32];

	if (state.rows) {
		add_json(id, text, budget, said,
			 json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "ratio",
				   m->ratio.mid, "ratio_low", m->ratio.lo, "ratio_high",
				   m->ratio.hi, "measured_ns", m->a_ns, "baseline_ns", m->b_ns,
				   "plain_ns", m->plain_ns, "cpu_ratio", m->cpu.mid,
				   "measured_cpu_ns", m->a_cpu_ns, "baseline_cpu_ns", m->b_cpu_ns));
		return;
	}
	if (budget > 0)
		snprintf(limit, sizeof(limit), "%.2f", budget);
	if (m->plain_ns > 0)
		report_text(plain, sizeof(plain), m->plain_ns, UNIT_NS);
	snprintf(range, sizeof(range), "%.2f - %.2f", m->ratio.lo, m->ratio.hi);
	printf("%-44s %6s %6.2f %-11s %6s %5.2f %9s %9s %9s\n", text, limit, m->ratio.mid, range,
	       said, m->cpu.mid, report_text(a, sizeof(a), m->a_ns, UNIT_NS),
	       report_text(b, sizeof(b), m->b_ns, UNIT_NS), plain);
}

void report_value(const char *id, const char *text, double budget, double value,
		  enum report_unit unit, const char *more)
{
	const char *said = verdict(budget, value, value, value);
	char v[32], limit[32] = "";

	if (state.rows) {
		add_json(id, text, budget, said,
			 json_pack("{s:f, s:s, s:s}", "value", value, "unit",
				   unit == UNIT_NS ? "ns" : "bytes", "more", more));
		return;
	}
	if (budget > 0)
		report_text(limit, sizeof(limit), budget, unit);
	printf("%-44s %9s %9s %-6s %s\n", text, limit, report_text(v, sizeof(v), value, unit), said,
	       more);
}

void report_skip(const char *id, const char *reason)
{
	if (state.rows)
		json_array_append_new(state.rows,
				      json_pack("{s:s, s:s}", "id", id, "skipped", reason));
	else
		printf("\n%s: not measured: %s\n", id, reason);
}

unsigned report_end(void)
{
	if (state.rows) {
		json_dumpf(state.rows, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(state.rows);
	} else {
		printf("\nBudgets: %u kept, %u missed, %u even (within the run's own noise).\n",
		       state.kept, state.missed, state.unsure);
	}
	return state.missed;
}
