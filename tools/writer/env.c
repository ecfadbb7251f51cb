/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The environment of a program that is run for an event. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tools/writer/child.h"

extern char **environ;

void strv_free(char **v)
{
	for (size_t i = 0; v && v[i]; i++)
		free(v[i]);
	free(v);
}

struct strv {
	char **v;
	size_t n;
	bool failed;
};

static void __attribute__((format(printf, 2, 3))) add(struct strv *s, const char *fmt, ...)
{
	char **bigger = s->failed ? NULL : realloc(s->v, (s->n + 2) * sizeof(*bigger));
	va_list ap;

	if (!bigger) {
		s->failed = true;
		return;
	}
	s->v = bigger;
	va_start(ap, fmt);
	if (vasprintf(&s->v[s->n], fmt, ap) < 0)
		s->failed = true;
	else
		s->n++;
	va_end(ap);
	s->v[s->n] = NULL; /* also what a failed vasprintf() left there */
}

/* Ours, and what no hook should take for its own. */
static bool handed_on(const char *variable)
{
	static const char *const not [] = { "NOTIFY_SOCKET=", "WATCHDOG_PID=",	"WATCHDOG_USEC=",
					    "UMBRA_EVENT=",   "UMBRA_SESSION=", "UMBRA_SET=",
					    "UMBRA_TREE",     "UMBRA_SNAPSHOT" };

	for (size_t i = 0; i < sizeof(not ) / sizeof(not [0]); i++) {
		if (strncmp(variable, not [i], strlen(not [i])) == 0)
			return false;
	}
	return true;
}

static void add_snapshots(struct strv *s, const char *arguments)
{
	CLEANUP(json_decref_p) json_t *args = json_loads(arguments, 0, NULL);
	const json_t *tree;
	size_t i;

	json_array_foreach(json_object_get(args, "trees"), i, tree) {
		if (*tool_str(tree, "id"))
			add(s, "UMBRA_SNAPSHOT_ID_%zu=%s", i + 1, tool_str(tree, "id"));
	}
}

char **child_env(struct umbra_writer *w, const struct umbra_writer_event *e)
{
	struct strv s = { 0 };
	const char *tree;
	size_t i;

	for (char **v = environ; *v; v++) {
		if (handed_on(*v))
			add(&s, "%s", *v);
	}
	add(&s, "UMBRA_EVENT=%s", e->name);
	if (e->session_id)
		add(&s, "UMBRA_SESSION=%s", e->session_id);
	if (e->set_id)
		add(&s, "UMBRA_SET=%s", e->set_id);
	for (i = 0; w && (tree = umbra_writer_tree(w, i)); i++)
		add(&s, "UMBRA_TREE_%zu=%s", i + 1, tree);
	if (i > 0)
		add(&s, "UMBRA_TREES=%zu", i);
	add_snapshots(&s, e->arguments);
	if (!s.failed)
		return s.v;
	strv_free(s.v);
	return NULL;
}
