/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/writer/freezer.h"

#include <stdio.h>
#include <string.h>

#include "cow/base/clock.h"
#include "cow/base/err.h"

#define LEFTOVER_LIMIT_MS 60000

static uint64_t deadline_of(const struct freezer *f, const struct umbra_writer_event *e)
{
	return clock_deadline_ms((uint64_t)writer_limit_ms(&f->p, e));
}

int freezer_on_prepare(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	struct freezer *f = data;

	return f->prepare ? f->prepare(f, w, e, deadline_of(f, e)) : 0;
}

int freezer_on_freeze(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	struct freezer *f = data;
	uint64_t deadline_ns = deadline_of(f, e);
	int r;

	/* Frozen, and not by us: then it is not ours to thaw. What we failed to thaw before is. */
	r = f->is_frozen && !writer_mark_left(f->mark) ? f->is_frozen(f, w, e, deadline_ns) : 0;
	if (r < 0)
		return r;
	if (r > 0) {
		log_info("was frozen by somebody else, and stays so");
		return 0;
	}
	/* From here on Abort thaws, whatever part of the freeze was done. */
	snprintf(f->session, sizeof(f->session), "%s", e->session_id ? e->session_id : "?");
	r = writer_mark_set(f->mark, f->session);
	if (r < 0)
		return writer_fail(w, UMBRA_WRITER_OUT_OF_RESOURCES,
				   "cannot note that it is frozen, so it is not: %s", err_text(r));
	return f->freeze(f, w, e, deadline_ns);
}

/* Thaw, if it is frozen. On failure it counts as frozen still. */
static int thaw(struct freezer *f, struct umbra_writer *w, const struct umbra_writer_event *e,
		uint64_t deadline_ns)
{
	int r;

	if (!writer_mark_left(f->mark))
		return 0;
	r = f->thaw(f, w, e, deadline_ns);
	if (r != 0)
		return r;
	f->session[0] = '\0';
	r = writer_mark_clear(f->mark);
	if (r < 0) /* the next start thaws once more, which does no harm */
		log_warn("cannot remove the note that it is frozen: %s", err_text(r));
	return 0;
}

int freezer_on_thaw(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	struct freezer *f = data;

	return thaw(f, w, e, deadline_of(f, e));
}

int freezer_on_abort(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	struct freezer *f = data;

	/* Another session's: it is armed, but what is frozen is not its (W-11). */
	if (e->session_id && f->session[0] && strcmp(e->session_id, f->session) != 0)
		return 0;
	return thaw(f, w, e, deadline_of(f, e));
}

static int undo_leftover(struct freezer *f)
{
	if (!writer_mark_left(f->mark))
		return 0;
	log_warn("found it frozen by an earlier run that was killed: thawing (session %s)",
		 LOG_QUOTE(writer_mark_left(f->mark)));
	return thaw(f, NULL, NULL, clock_deadline_ms(LEFTOVER_LIMIT_MS)) ? TOOL_FAILED : 0;
}

static void complete(struct umbra_writer_handlers *h)
{
	h->size = sizeof(*h);
	h->prepare_for_snapshot = h->prepare_for_snapshot ? h->prepare_for_snapshot
							  : freezer_on_prepare;
	h->freeze = h->freeze ? h->freeze : freezer_on_freeze;
	h->thaw = h->thaw ? h->thaw : freezer_on_thaw;
	h->abort = h->abort ? h->abort : freezer_on_abort;
}

int freezer_run(struct freezer *f, const char *key)
{
	CLEANUP(writer_mark_close_p) struct writer_mark *mark = NULL;
	int r;

	r = writer_mark_open(&f->p, key, &mark);
	if (r != 0)
		return r;
	f->mark = mark;
	complete(&f->handlers);
	r = undo_leftover(f);
	if (r == 0)
		r = writer_serve(&f->p, &f->handlers, f);
	/* The library thawed when its writer was freed (W-9), unless that failed. */
	if (writer_mark_left(mark) &&
	    thaw(f, NULL, NULL, clock_deadline_ms(LEFTOVER_LIMIT_MS)) != 0)
		r = tool_error("it is still frozen; start this writer again to thaw it");
	return r;
}
