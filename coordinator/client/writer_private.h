/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/client/writer_private.h - what the files of umbra/writer.h share, and the clock for
 * its tests.
 * Job:     the writer object; the records of the sessions that have armed it.
 * Errors:  0 or -errno.
 * Threads: as umbra/writer.h.
 * Rules:   V-2: a record exists exactly as long as its session has armed the writer. W-11: there may
 *          be several. T-11: the window's end and Thaw are told apart in one place,
 *          writer_session_thaw.
 *
 *   running --writer_session_freeze--> frozen --writer_session_thaw--> running
 *   frozen, running --Abort: writer_session_close_window--> running
 *   frozen --the window ended: writer_event_end_windows, which aborts--> over --next Freeze--> frozen
 *   running, over --Freeze was read after its window's end--> over */
#ifndef UMBRA_CLIENT_WRITER_PRIVATE_H
#define UMBRA_CLIENT_WRITER_PRIVATE_H

#include <jansson.h>

#include "coordinator/client/client.h"
#include "coordinator/client/umbra/writer.h"

enum writer_freeze {
	WRITER_RUNNING,
	WRITER_FROZEN, /* Freeze was received, Thaw and Abort were not */
	WRITER_OVER    /* the window ended; the abort handler was called for it, or Freeze was
			* read too late for its handler to be called */
};

/* One session that has armed this writer. */
struct writer_session {
	struct writer_session *next;
	char *id, *set_id; /* owned; set_id NULL: no set yet */
	enum writer_freeze freeze;
	uint64_t deadline_ns; /* of the writer's clock; CLOCK_NEVER unless frozen */
	bool has_trees;	      /* from PrepareForSnapshot until PostSnapshot or Abort (W-12) */
	char **trees;	      /* owned: ntrees paths */
	size_t ntrees;
};

/* What handlers say while they run, apart from what they return. */
struct writer_said {
	bool failure; /* umbra_writer_set_failure was called */
	enum umbra_writer_code code;
	char message[512];
	json_t *document, *metadata, *targets; /* owned; NULL: none */
};

/* A handler runs: what the functions for the inside of handlers work on. */
struct writer_handling {
	bool identify; /* the failure is ignored, a document is welcome */
	bool keeps_metadata; /* the event is one of PrepareBackup to BackupComplete, or of a restore (M-6) */
	bool pre_restore;
	struct writer_session *session; /* NULL: the event is of none that armed us */
	struct writer_said said;
};

struct umbra_writer {
	struct umbra_client *client;
	struct umbra_writer_handlers handlers;
	void *data;
	char *instance_id;
	uint32_t window_ms;
	int poll_fd, timer_fd, stop_fd; /* epoll; what it has besides the socket; eventfd */
	bool wants_out;			/* poll_fd waits for room in the socket, too */
	struct writer_session *sessions;
	struct writer_handling
		*handling; /* NULL outside of handlers; borrowed from a stack frame */
	int ended;	   /* what umbra_writer_dispatch returns from now on; 0: serving */
	uint64_t (*now_ns)(void *);
	void *now_data;
	char error[512];
};

/* As umbra_writer_new, for who is told to stop by a descriptor: -ECANCELED once it is readable, -1: none. Borrowed for the
 * call. A coordinator that is stopped is there and does not answer. */
int umbra_writer_new_until(const struct umbra_writer_options *options,
			   const struct umbra_writer_handlers *handlers, void *data, int cancel_fd,
			   struct umbra_writer **ret);

/* Tests only: time as they want it, in nanoseconds. */
void umbra_writer_set_clock(struct umbra_writer *w, uint64_t (*now_ns)(void *), void *data);

/* ---- writer_session.c ---- */

uint64_t writer_now_ns(const struct umbra_writer *w);

/* NULL: that session has not armed us. */
struct writer_session *writer_session_find(const struct umbra_writer *w, const char *id);

/* The record of that session, made if need be: armed from now on (V-2). NULL: out of memory. */
struct writer_session *writer_session_arm(struct umbra_writer *w, const char *id);

/* Disarmed: s is gone. NULL is fine. */
void writer_session_disarm(struct umbra_writer *w, struct writer_session *s);

/* Remember the set's id, NULL: none. Returns 0; -ENOMEM. */
int writer_session_set(struct writer_session *s, const char *set_id);

/* Replace the trees by those of an event's arguments; without any there they stay as they are. Returns
 * 0; -ENOMEM; -EPROTO one has no path; after a failure they are as before. */
int writer_session_take_trees(struct writer_session *s, const json_t *arguments);
void writer_session_drop_trees(struct writer_session *s);

/* Freeze was received: its window is open until then, of the writer's clock (T-1). */
void writer_session_freeze(struct writer_session *s, uint64_t window_end_ns);

/* Whether a window is open and has ended. */
bool writer_session_expired(const struct umbra_writer *w, const struct writer_session *s);

/* Thaw was received just now. True: in time, the window is closed and can end no more (T-11). False:
 * no window is open; an ended one has to be dealt with before. */
bool writer_session_thaw(const struct umbra_writer *w, struct writer_session *s);

/* The window closes for another reason. */
void writer_session_close_window(struct writer_session *s, enum writer_freeze freeze);

/* ---- writer_event.c ---- */

/* Serve one event: the parameters of one answer to WriterEvents, borrowed. Returns 0; -EPROTO it is no
 * event; or as umbra_post, the answer is under way when it says -EAGAIN. */
int writer_event_serve(struct umbra_writer *w, const json_t *parameters);

/* Call the abort handler for every window that has ended. */
void writer_event_end_windows(struct umbra_writer *w);

/* Call the abort handler for every session that has armed us, and disarm (W-9). */
void writer_event_give_up(struct umbra_writer *w, const char *origin);

/* The names of the events to register for, a new reference; NULL: out of memory. */
json_t *writer_event_names(const struct umbra_writer_handlers *h);

#endif
