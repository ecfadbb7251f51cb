/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra/writer.h - be a writer: an application that freezes before a snapshot and thaws after it.
 *
 * A writer registers with the coordinator and is called back for each event of a backup (protocol
 * 3.1). Between Freeze and Thaw it must not change its files; that lasts milliseconds as a rule and
 * never longer than its freeze window. Thaw or Abort always follows a Freeze, whatever dies (W-4):
 * when the coordinator goes away or the window ends, and when its own Freeze or Thaw handler fails,
 * the library itself calls the abort handler (W-9, A-8, A-2).
 *
 *	struct umbra_writer_options options = { .size = sizeof(options), .class_id = MY_UUID,
 *						.name = "My application" };
 *	struct umbra_writer_handlers h = { .size = sizeof(h), .prepare_for_snapshot = my_prepare,
 *					   .freeze = my_freeze, .thaw = my_thaw, .abort = my_abort };
 *	umbra_writer_new(&options, &h, data, &w);
 *	umbra_writer_run(w);               or: poll umbra_writer_fd(), call umbra_writer_dispatch()
 *	umbra_writer_free(w);
 *
 * Errors:  0 or a negative errno; umbra_writer_error() has a sentence for people.
 * Threads: one writer is used by one thread at a time, apart from umbra_writer_stop(). Handlers run
 *          in the thread that calls umbra_writer_run() or umbra_writer_dispatch(), one at a time
 *          (L-1): one that takes long keeps the library from ending a window in time. Different
 *          writers are independent. No signal is used, SIGPIPE never comes, all descriptors are
 *          close-on-exec. After fork() the child leaves the writer alone.
 * Size:    the two structs that the caller fills in begin with their own size, so that later versions can
 *          add members at their ends: a program goes on running with a library that knows more, and is
 *          refused by one that knows less than it uses.
 * C++:     fine; there it is: umbra_writer_handlers h = umbra_writer_handlers(); h.size = sizeof(h); */
#ifndef UMBRA_WRITER_H
#define UMBRA_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Freeze order: front-end first, system last; Thaw the other way round (O-3, O-9). */
enum umbra_writer_level {
	UMBRA_LEVEL_FRONT_END, /* the default: an application */
	UMBRA_LEVEL_BACK_END,  /* what applications stand on: a database server */
	UMBRA_LEVEL_SYSTEM     /* what everything stands on */
};

/* Why a handler fails (protocol section 10, E-1). */
enum umbra_writer_code {
	UMBRA_WRITER_NO_CODE,		    /* taken as non-retryable */
	UMBRA_WRITER_INCONSISTENT_SNAPSHOT, /* not all of its data is in the set (W-12) */
	UMBRA_WRITER_OUT_OF_RESOURCES,
	UMBRA_WRITER_TIMEOUT,
	UMBRA_WRITER_RETRYABLE,
	UMBRA_WRITER_NON_RETRYABLE,
	UMBRA_WRITER_RECOVERY_FAILED,
	UMBRA_WRITER_PARTIAL_FAILURE
};

struct umbra_writer;

/* What an event says. Everything is borrowed, until the handler returns. */
struct umbra_writer_event {
	const char *name;	/* "freeze" ... as in the interface file */
	const char *session_id; /* NULL: none, as in Identify of no session */
	const char *set_id;	/* NULL before StartSnapshotSet and in a restore (W-11) */
	const char *origin;	/* Abort: "requester", "writer" (this library: ),
				 * "provider", "coordinator" (also: it went away, W-9); else NULL */
	uint32_t window_ms; /* Freeze: how long from now until Thaw at the latest: what is left of
				 * the window, which began when Freeze was sent; else 0 */
	const char *arguments; /* the whole event's arguments as JSON text, never NULL */
};

/* Returns 0 for `ok`, anything else for `fail` (a veto in Freeze and Thaw, W-5). Before it returns,
 * either way, it may call umbra_writer_set_failure(). It must not free the writer, nor serve its
 * events. */
typedef int (*umbra_writer_fn)(struct umbra_writer *w, const struct umbra_writer_event *e,
			       void *data);

/* NULL: `ok` at once. prepare_for_snapshot, freeze, thaw and abort are compulsory (W-3). */
struct umbra_writer_handlers {
	size_t size;			      /* sizeof(struct umbra_writer_handlers); compulsory */
	umbra_writer_fn identify;	      /* may set its document; changes no state (W-10) */
	umbra_writer_fn prepare_backup;	      /* may start long work */
	umbra_writer_fn prepare_for_snapshot; /* for heavy work: its limit is longer (O-2) */
	umbra_writer_fn freeze;		      /* stop changing files, within the window; not called
					       * when that was over before the event was read */
	umbra_writer_fn thaw;		      /* go on, within the window started anew (T-4) */
	umbra_writer_fn post_snapshot;	      /* tidy up */
	umbra_writer_fn abort;		      /* go on and free everything; may come more than once,
					       * also without a Freeze before */
	umbra_writer_fn backup_complete;
	umbra_writer_fn backup_shutdown; /* the session ended; it does not say how (D-5) */
	umbra_writer_fn pre_restore;
	umbra_writer_fn post_restore;
};

/* Zeroed members have the default. Copied by umbra_writer_new. */
struct umbra_writer_options {
	size_t size;		   /* sizeof(struct umbra_writer_options); compulsory */
	const char *class_id;	   /* a UUID, the same for all of this kind; compulsory */
	const char *name;	   /* "PostgreSQL"; compulsory */
	const char *instance_name; /* "main on port 5432"; NULL: none */
	const char *usage;	   /* "system-service", "user-data", "other" (default) */
	const char *source;	   /* "transacted-db", "nontransacted-db", "other" (default) */
	enum umbra_writer_level level;
	uint32_t window_ms; /* freeze window (T-1), 3,600,000 at most; 0: 60,000 */
	const char *socket; /* of the coordinator; NULL: where umbra(1) looks for it */
};

/**
 * Connect and register (W-1). Waits for the coordinator's answer.
 * @options   borrowed for the call, its texts as well; UTF-8
 * @handlers  copied
 * @data      handed to each handler; borrowed until umbra_writer_free
 * @ret       owned by the caller
 * Returns 0; -EINVAL a compulsory option or handler is missing, a text is not UTF-8, a size is no
 * version's, or behind what this library knows there is something that is not zero; -ENOENT,
 * -ECONNREFUSED no coordinator runs; -EACCES it serves others; -ENAMETOOLONG the socket's path;
 * -EREMOTEIO it refused; -ECONNRESET, -EPROTO it went away or makes no sense; -ENOMEM, -EMFILE,
 * -ENFILE. On failure *ret is untouched; umbra_writer_error(NULL) has the words, for this thread.
 */
int umbra_writer_new(const struct umbra_writer_options *options,
		     const struct umbra_writer_handlers *handlers, void *data,
		     struct umbra_writer **ret);

/* Ends the registration. While armed the abort handler is called first, once for each session that
 * has armed it (W-9). Not from inside of a handler. NULL is fine; errno is preserved. */
void umbra_writer_free(struct umbra_writer *w);

/* The id of this registration: new at each one. Borrowed from w. */
const char *umbra_writer_instance_id(const struct umbra_writer *w);

/**
 * Serve events until umbra_writer_stop() or the coordinator's end.
 * Returns 0 stopped: perhaps still frozen, so go on with umbra_writer_run() soon, or free; -ECONNRESET
 * the coordinator went away (the abort handler was called if need be): free, and register again when
 * it is back; -EPROTO it sent what is no event, to be treated alike; -EBUSY called inside of a
 * handler: nothing was done.
 */
int umbra_writer_run(struct umbra_writer *w);

/* Make umbra_writer_run return, the present call or else the next, when the handlers that are due have
 * returned. From any thread, and from signal handlers: async-signal-safe, preserves errno. The writer
 * must not be freed meanwhile. */
void umbra_writer_stop(struct umbra_writer *w);

/* ---- in the caller's own loop ---- */

/* To be polled for reading: readable whenever umbra_writer_dispatch() has something to do, the end of
 * a window as well. Borrowed; never read from it. */
int umbra_writer_fd(const struct umbra_writer *w);

/* Milliseconds until a window ends, when umbra_writer_dispatch() has something to do; -1: none is open.
 * For loops that keep their own timers; the descriptor says it, too. */
int umbra_writer_timeout_ms(const struct umbra_writer *w);

/* Take what has come and call the handlers for it; does not wait for more. Returns 0: go on;
 * otherwise as umbra_writer_run, and again the same at each further call. */
int umbra_writer_dispatch(struct umbra_writer *w);

/* ---- inside of handlers ---- */

/* Why it failed, or, with a handler that returns 0, what went wrong all the same (W-5: status only).
 * message: made one line of at most 511 bytes, copied, NULL: none. The last call counts. Ignored
 * outside of handlers and in Identify (W-10), and when the library calls the abort handler by itself. */
void umbra_writer_set_failure(struct umbra_writer *w, enum umbra_writer_code code,
			      const char *message);

/* Identify: the writer document (protocol 9) as JSON text; copied. The last call counts. Returns 0;
 * -EINVAL not a JSON object, or nested deeper than 30; -EMSGSIZE longer than 1,040,384 bytes (1 MiB
 * less 8 KiB) when written without blanks; -EBADF not in Identify; after a failure what was set
 * before still counts. */
int umbra_writer_set_document(struct umbra_writer *w, const char *json);

/* PrepareBackup to BackupComplete: what the writer wants to find again at the restore, as JSON text;
 * kept in the backup document (M-6). PreRestore and PostRestore: the same, for the rest of that
 * restore. Not in Abort. Returns as umbra_writer_set_document. */
int umbra_writer_set_metadata(struct umbra_writer *w, const char *json);

/* PreRestore: where components are to be restored, as the JSON text of an array [{"logical_path",
 * "name", "target": "original", "alternate" or "directed", "directed": [objects of your own form: what
 * goes where]}]; what is not named goes to its original place. One of a component that is not being
 * restored makes the event fail. The event's arguments have the components. The last call counts.
 * Returns as umbra_writer_set_document; -EINVAL also for anything but an array; -EBADF not in
 * PreRestore. */
int umbra_writer_set_targets(struct umbra_writer *w, const char *json);

/* From PrepareForSnapshot to PostSnapshot: do an absolute path's data lie in a tree of the set (W-12)?
 * Symbolic links are followed, the path need not exist, and what is mounted inside of a tree does not
 * lie in it (N-5). In a handler it is about its session; between handlers about the one in creation.
 * Returns 1, 0; -EBADF at any other time, also after Abort; -EINVAL not absolute; -EACCES, -ELOOP and
 * others of realpath(3): who knows; -ENOMEM. */
int umbra_writer_path_in_set(const struct umbra_writer *w, const char *path);

/* The trees of the set, at the same times: the i-th path, borrowed until the next event; NULL beyond
 * the last, and at any other time. */
const char *umbra_writer_tree(const struct umbra_writer *w, size_t i);

/* Between PrepareBackup received and PostSnapshot answered or the session's end, so that an Abort may
 * come (V-2)? */
bool umbra_writer_armed(const struct umbra_writer *w);

/* The last error in words, one line; w NULL: of a failed umbra_writer_new in this thread. Never NULL,
 * borrowed until the next call. */
const char *umbra_writer_error(const struct umbra_writer *w);

/* "inconsistent-snapshot" ...; static. */
const char *umbra_writer_code_name(enum umbra_writer_code code);

#ifdef __cplusplus
}
#endif

#endif
