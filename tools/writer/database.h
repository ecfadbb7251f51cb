/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tools/writer/database.h - what the writers of databases have in common.
 * Job:     the events, as a database sees them: is its data in the set at all (W-12), prepare, freeze,
 *          thaw, let go; waiting that keeps within the event's limit; the writer document.
 * Errors:  operations of a kind return 0, or 1 after db_fail() said why. Others as said.
 * Threads: one.
 * Rules:   W-10 Identify while frozen changes nothing, W-11 events of another session do not thaw ours,
 *          W-12 all of the data in the set or none of it, A-14 letting go is possible at any time.
 *
 *   idle --PrepareForSnapshot--> elsewhere (no file of ours in the set: only looks on)
 *                            \-> prepared --Freeze--> frozen --Thaw--> idle
 *   any --Abort of that session, failure--> idle                                (db_let_go) */
#ifndef UMBRA_TOOLS_WRITER_DATABASE_H
#define UMBRA_TOOLS_WRITER_DATABASE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/writer/common.h"

/* Where a database lies: files and directories, without symbolic links. */
struct db_file {
	const char *what; /* "data directory", static */
	char *path;
};

struct db_files {
	struct db_file *list;
	size_t count;
};

struct database;

/* What a kind of database does. Each may wait until db->deadline_ns with db_wait(). */
struct db_ops {
	/* Open the session that freezes later; must stand being open already. */
	int (*connect)(struct database *db);
	/* Where the data lie now, all of it; the server's own directory first. */
	int (*find)(struct database *db, struct db_files *ret);
	/* The connected socket, for db_ops.find()'s first to be compared with what the server has. NULL:
	 * there is no server. */
	int (*server_fd)(struct database *db);
	/* Everything slow. NULL: nothing. */
	int (*prepare)(struct database *db);
	/* Stop changes; what had been committed before is in files when it returns. */
	int (*freeze)(struct database *db);
	/* Fail unless it was frozen all the time, then let changes go on. Called once per freeze. */
	int (*thaw)(struct database *db);
	/* Let changes go on and end the session: at any time, as often as you like. */
	void (*let_go)(struct database *db);
	/* Fill in components and so on (protocol 9, coordinator/client/document.h); connected. */
	int (*describe)(struct database *db, const struct db_files *files, json_t *document);
};

enum db_phase { DB_IDLE, DB_ELSEWHERE, DB_PREPARED, DB_FROZEN };

/* The first member of each kind's own struct. */
struct database {
	struct writer_program program;
	const struct db_ops *ops;
	const char *label;     /* "PostgreSQL", for messages */
	uint32_t lock_wait_ms; /* --lock-wait: how long Freeze waits for the others to finish */

	enum db_phase phase;
	char session_id[64]; /* whose creation phase is about; "" none */
	json_t *document;    /* the last one, for an Identify while we are busy; owned */

	/* During an event: */
	struct umbra_writer *w;
	const struct umbra_writer_event *event;
	uint64_t deadline_ns;
	bool failed;	/* db_fail() was called in it */
	bool stoppable; /* a signal to stop ends waiting; never while thawing */
};

/* ---- the program */

/* Options of every kind of database, for its table. */
#define DB_OPTIONS                                                                                 \
	{                                                                                          \
		"lock-wait", required_argument, NULL, DB_OPT_LOCK_WAIT                             \
	}
enum { DB_OPT_LOCK_WAIT = WRITER_OPT_OWN, DB_OPT_OWN };
#define DB_HELP_LOCK_WAIT                                                                          \
	"  --lock-wait SECONDS  how long to wait in Freeze for running changes to end (10)\n"

/** Before the options are read: defaults. */
void db_init(struct database *db, const struct db_ops *ops, const char *label);
/** writer_getopt() without the options of DB_OPTIONS. */
int db_getopt(struct database *db, int argc, char **argv);
/** Register and serve; returns the exit status. */
int db_serve(struct database *db);

/* ---- for operations */

/** writer_fail() for the event under way. Returns 1. */
int db_fail(struct database *db, enum umbra_writer_code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/**
 * Wait for a descriptor within the event's limit.
 * @fd, @events  as poll(2); -1: only time passes
 * @most_ms      no longer than this; -1: no limit of its own
 * Returns 1 it is ready; 0 most_ms passed; -ETIMEDOUT the limit of the event; -EINTR told to stop.
 */
int db_wait(struct database *db, int fd, short events, int most_ms);
/** Say that db_wait() returned r, waiting for @what. Returns 1. */
int db_fail_wait(struct database *db, int r, const char *what);
/** Milliseconds left for the event, at least 1. */
int db_left_ms(const struct database *db);

/** Whether a connected socket leads to this machine: files are looked at here. */
bool db_is_local(int fd);

/** Add a path, relative ones as seen from @base (may be NULL for absolute ones). What cannot be looked
 *  at is a failure that is said: nobody could tell whether it is in the set. */
int db_add_file(struct database *db, struct db_files *files, const char *what, const char *base,
		const char *path);
/** Add every directory in a directory that a symbolic link or a mount leads to, and with @files_too
 *  every file that a symbolic link leads to; @deep: also those one level below. */
int db_add_links(struct database *db, struct db_files *files, const char *what, const char *dir,
		 bool files_too, bool deep);
/** Fail unless all of it still is in the set: for freeze and thaw. */
int db_still_in_set(struct database *db);
void db_files_done(struct db_files *files);

/** {"type": "database", ...} with file sets for all files, appended to document's components (M-2). */
int db_add_component(json_t *document, const char *logical_path, const char *name,
		     const char *caption, const struct db_files *files);
/** {"path", "pattern", "recursive"} appended to an array member of object (M-3). */
int db_add_file_set(json_t *object, const char *member, const char *dir, const char *pattern,
		    bool recursive);

#endif
