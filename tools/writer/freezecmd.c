/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/writer/freezecmd.h"

#include <stdio.h>
#include <string.h>

#include "cow/base/clock.h"
#include "cow/base/log.h"

static void on_line(struct child *child, bool is_error, const char *text)
{
	struct freezecmd *c = child->data;

	if (!is_error && !c->answer[0])
		snprintf(c->answer, sizeof(c->answer), "%s", text);
	log_debug("%s: %s", LOG_QUOTE(child->name), LOG_QUOTE(text));
}

int freezecmd_run(struct freezecmd *c, char *const *argv, uint64_t deadline_ns, bool thaws)
{
	struct child child = { .argv = argv, .line = on_line, .data = c };
	char why[sizeof(c->why) - 80];

	c->answer[0] = c->why[0] = '\0';
	c->result = child_run(&child, clock_left_ms(deadline_ns), !thaws);
	if (c->result != 0)
		snprintf(c->why, sizeof(c->why), "%.40s %.30s: %s", child.name,
			 argv[1] ? argv[1] : "", child_why(&child, c->result, why, sizeof(why)));
	return c->result;
}

int freezecmd_failed(struct umbra_writer *w, const struct freezecmd *c)
{
	return writer_fail(w, child_code(c->result), "%s", LOG_QUOTE(c->why));
}
