/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/writers.h - the writers that are registered, and what each was told.
 * Job:     who is there; one event to a writer and its answer, with a time limit. What an event
 *          means to a session is party.h; the states are writer.h. Knows no message form: a
 *          transport of the caller's sends.
 * Errors:  0 or -errno.
 * Threads: the coordinator's one. Answer functions run only from coord_writer_answer,
 *          coord_writer_lost and the timers, never from within coord_writer_ask.
 * Rules:   W-1, W-3, W-7, W-9, W-11, E-1, E-2. */
#ifndef UMBRA_COORDINATOR_WRITERS_H
#define UMBRA_COORDINATOR_WRITERS_H

#include "coordinator/timer.h"
#include "coordinator/writer.h"
#include "cow/provider.h"

#include <jansson.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

enum coord_writer_level { LEVEL_FRONT_END, LEVEL_BACK_END, LEVEL_SYSTEM, WRITER_LEVELS };

#define COORD_WRITER_TEXT_MAX 256 /* bytes of a name and the like */
#define COORD_CODE_SIZE 32	  /* of a failure code's name */
#define COORD_WINDOW_MS 60000	  /* T-1 */
#define COORD_WINDOW_MAX_MS 3600000

/* What a writer said of itself (W-1). Strings are owned by the struct. */
struct coord_writer_info {
	char *class_id, *name, *usage, *source;
	char *instance_name; /* NULL: none */
	enum coord_writer_level level;
	uint32_t window_ms;
	unsigned handlers; /* bit e: takes event e; others are `ok` at once (W-3) */
};

/* How a writer fared in a session (W-7). */
struct coord_writer_row {
	char session_id[COW_UUID_LEN + 1]; /* "": in none yet */
	enum coord_writer_state state;
	bool aborted;
	char code[COORD_CODE_SIZE]; /* "": no failure */
	char message[256];
	bool was_frozen;
	uint64_t frozen_ms;
};

struct coord_writer_question {
	enum coord_writer_event event;
	uint64_t serial;		 /* filled in by coord_writer_ask */
	const char *session_id, *set_id; /* borrowed; set_id NULL: none (W-11) */
	json_t *arguments;		 /* borrowed */
};

struct coord_writer_answer {
	enum coord_writer_outcome outcome;
	const char *code, *message;  /* borrowed; NULL: none */
	bool window_over;	     /* its own timer had ended the freeze before (A-8, T-12) */
	json_t *document, *metadata; /* borrowed; NULL: none */
	json_t *targets;	     /* of PreRestore (targets.h); borrowed, NULL: none */
};

typedef void (*coord_writer_answer_fn)(void *data, const struct coord_writer_answer *answer);

struct coord_writer;
struct coord_told; /* an event that was not answered yet */

struct coord_writer_transport {
	/* Queue an event; must not call back. One that is broken says so later, by
	 * coord_writer_lost. */
	int (*send)(void *data, const struct coord_writer_question *q);
};

/* A session's share in a writer: party.c has it, so that a loss is told to all of them. */
struct coord_writer_user {
	TAILQ_ENTRY(coord_writer_user) link;
	/* The connection ended; the user is out of the list, its pending event forgotten. */
	void (*lost)(struct coord_writer_user *user);
};
TAILQ_HEAD(coord_writer_users, coord_writer_user);

struct coord_writer {
	TAILQ_ENTRY(coord_writer) link;
	struct coord_writers *registry;
	char id[COW_UUID_LEN + 1]; /* of this registration */
	struct coord_writer_info info;
	pid_t pid;
	uid_t uid;
	int64_t since_ns;
	bool ready; /* takes events; until then it is in no session, as if it registered later (W-13) */
	struct coord_writer_row row; /* of its latest session */
	struct coord_writer_users users;

	const struct coord_writer_transport *transport;
	void *transport_data;
	uint64_t serial;
	TAILQ_HEAD(coord_told_list, coord_told) told;
};

struct coord_writers {
	TAILQ_HEAD(coord_writer_list, coord_writer) list; /* in the order of registering */
	struct coord_timers *timers;
};

void coord_writers_init(struct coord_writers *reg, struct coord_timers *timers);

void coord_writer_info_done(struct coord_writer_info *info);

/* NULL if the registration makes sense, else what is wrong: a phrase for people (W-1, W-3). */
const char *coord_writer_info_problem(const struct coord_writer_info *info);

/**
 * A writer registered.
 * @info  moved out of, also on failure; without a problem
 * Returns 0; -ENOMEM.
 */
int coord_writer_new(struct coord_writers *reg, struct coord_writer_info *info, pid_t pid,
		     uid_t uid, int64_t now_ns, const struct coord_writer_transport *transport,
		     void *data, struct coord_writer **ret);

/* Its connection ended (W-9): every user is told, then it is freed. */
void coord_writer_lost(struct coord_writer *w);

/**
 * Tell it. The answer function is called once, later: with the answer, or OUTCOME_LATE after
 * limit_ms. When the writer is lost it is not called: the user is told (see above).
 * @ret  for coord_told_forget; invalid once the answer function is called or the writer lost
 * Returns 0; -ENOMEM or what the transport said: nothing was sent, nobody is called.
 */
int coord_writer_ask(struct coord_writer *w, struct coord_writer_question *q, uint64_t limit_ms,
		     coord_writer_answer_fn fn, void *data, struct coord_told **ret);

/* The answer function will not be called; NULL is fine. */
void coord_told_forget(struct coord_told *t);

/* An answer came. False: no event of that serial waits (it came too late). */
bool coord_writer_answer(struct coord_writer *w, uint64_t serial,
			 const struct coord_writer_answer *answer);

/* The writer of that instance id, or the first of that class; NULL: none. */
struct coord_writer *coord_writers_find(const struct coord_writers *reg, const char *id);

/* "front-end" ...; static. */
const char *coord_writer_level_name(enum coord_writer_level level);
/* The level of that name, or -1. */
int coord_writer_level_from_name(const char *name);
/* "prepare-for-snapshot" ...: what the interface file calls events; static. */
const char *coord_writer_event_name(enum coord_writer_event e);
/* The event of that name, or -1. */
int coord_writer_event_from_name(const char *name);
/* What is recorded for a code a writer sent (E-1): itself, or "non-retryable"; static. */
const char *coord_writer_code(const char *code);

#endif
