/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tools/writer/common.h - what every writer program (umbra writer KIND) is made of.
 * Job:     the options all kinds have, registering and registering again, the loop with its signals.
 *          Programs that are run: child.h; what must be undone after a kill -9: mark.h.
 * Errors:  0 or one of enum tool_exit (tools/common.h), and it was said why; others as said.
 * Threads: the program has one: handlers, signals and children are all served by it.
 * Rules:   while a handler runs nothing else is read, so each one keeps within writer_limit_ms().
 *          Signals are blocked and read in the loop; what waits inside of a handler polls
 *          writer_signal_fd() too, unless it thaws: thawing is never cut short.
 *
 *	static const struct option own[] = { { "early", 0, NULL, WRITER_OPT_OWN }, { 0 } };
 *	struct writer_program p = { .kind = "hook", .args = "DIR", .options = own, ... };
 *	while ((c = writer_getopt(&p, argc, argv)) >= WRITER_OPT_OWN) ...
 *	if (c == WRITER_EXIT) return p.status;
 *	r = writer_mark_open(&p, key, &mark); thaw if writer_mark_left(mark) (L-4);
 *	return writer_serve(&p, &handlers, &data); */
#ifndef UMBRA_TOOLS_WRITER_COMMON_H
#define UMBRA_TOOLS_WRITER_COMMON_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

#include "coordinator/client/umbra/writer.h"
#include "tools/common.h"

struct writer_program {
	/* Filled in by the kind. Strings are borrowed for ever. */
	const char *kind;	      /* "hook" */
	const char *args;	      /* behind the options in "usage:" */
	const char *summary;	      /* one line, small letter, no full stop */
	const char *help;	      /* own options and an example; whole lines */
	const struct option *options; /* own long options, ended by zeros, val from WRITER_OPT_OWN
					 up; NULL: none */
	bool has_command;	      /* what follows the operands' first is not ours: CMD ARG... */
	const char *usage, *source;   /* as in struct umbra_writer_options */
	/* Called before each registration; 0, TOOL_AGAIN when no coordinator is there (silently, it is
	 * asked again), else the exit status to end with. NULL: nothing. */
	int (*before_register)(struct writer_program *p, void *data);

	/* Set before writer_getopt() as the kind's defaults, then by the options. */
	const char *name;      /* --name; NULL: kind */
	const char *instance;  /* --instance; NULL: none */
	const char *class_id;  /* --class; NULL: writer_class_id(kind) */
	const char *state_dir; /* --state; NULL: beside the coordinator's socket */
	const char *socket;    /* --socket; NULL: where umbra(1) looks. $UMBRA_SOCKET follows it */
	enum umbra_writer_level level; /* --level */
	uint32_t window_ms;	       /* --window SECONDS, 3,600 at most; 0: 60 s (T-1) */
	uint32_t limit_ms;	       /* --limit SECONDS: the long events; 0: 600 s (T-6) */

	int status; /* what writer_getopt() wants to end with */
};

enum { WRITER_OPT_OWN = TOOL_OPT_OWN + 0x100, WRITER_EXIT = -2 };

/**
 * Next option of the kind's own (a value from WRITER_OPT_OWN up, optarg as with getopt_long()); -1
 * at their end, argv[optind] is then the first operand; WRITER_EXIT: end with p->status.
 */
int writer_getopt(struct writer_program *p, int argc, char **argv);
/** "TEXT (try: umbra writer KIND --help)"; returns TOOL_USAGE. */
int writer_usage(const struct writer_program *p, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/**
 * Register and serve events until SIGTERM, SIGINT or SIGHUP. While no coordinator runs, and when it
 * goes away, it is looked for again and again; the library thaws first (W-9). Tells systemd when
 * ready. @handlers and @data as with umbra_writer_new().
 * Returns the exit status: TOOL_DONE when it was told to stop.
 */
int writer_serve(struct writer_program *p, const struct umbra_writer_handlers *handlers,
		 void *data);

/* ---- for handlers */

/** Milliseconds that the handler of this event may take: Freeze leaves the library a part of its
 *  window to abort in, Thaw has a window of its own (T-4), then T-7 and T-6. */
int writer_limit_ms(const struct writer_program *p, const struct umbra_writer_event *e);
/** Say why, and hand it to the coordinator; w NULL: only say it. Returns -1, so that a handler can
 *  `return writer_fail(...)`. */
int writer_fail(struct umbra_writer *w, enum umbra_writer_code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/** Whether SIGTERM, SIGINT or SIGHUP came; reads the descriptor below. */
bool writer_stopping(void);
/** Readable when a signal came, SIGCHLD among them. Borrowed; there from writer_getopt() on. */
int writer_signal_fd(void);

/** The class of a kind: the same UUID always and everywhere. ret: 37 bytes. */
void writer_class_id(const char *kind, char *ret);

#endif
