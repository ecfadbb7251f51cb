/* tools/common.h - what every sub-command of umbra is made of.
 * Job:     exit statuses, common options, messages, the connection to the coordinator, programs of
 *          ours that have to be started.
 * Errors:  functions of tools/ that talk to people return 0 or one of enum tool_exit, and have then
 *          already said why; those that do not return 0 or -errno. Each says which.
 * Threads: the command has one. */
#ifndef UMBRA_TOOLS_COMMON_H
#define UMBRA_TOOLS_COMMON_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coordinator/client/client.h"
#include "cow/base/cleanup.h"
#include "cow/base/log.h"

/* Protocol rule E-4. */
enum tool_exit {
	TOOL_DONE = 0,
	TOOL_FAILED = 1,
	TOOL_USAGE = 2,
	TOOL_AGAIN = 3,	 /* try again later */
	TOOL_WRITER = 4, /* done, but a writer failed */
};

struct command {
	const char *name;
	const char *args;		   /* the line behind the name in "usage:" */
	const char *summary;		   /* one line, small letter, no full stop */
	const char *help;		   /* options and an example; whole lines */
	int (*run)(int argc, char **argv); /* argv[0] is the name; returns an exit status */
};

/* What -q, -v and --json say; set by tool_option(). */
struct tool_options {
	bool json, quiet, verbose;
};
extern struct tool_options tool_opts;

/** The options that all sub-commands have; begin the short ones of getopt_long() with TOOL_SHORT. */
#define TOOL_SHORT ":hqv"
enum { TOOL_OPT_JSON = 0x1000, TOOL_OPT_OWN };
#define TOOL_LONG                                                                                  \
	{ "help", 0, NULL, 'h' }, { "quiet", 0, NULL, 'q' }, { "verbose", 0, NULL, 'v' },          \
	{                                                                                          \
		"json", 0, NULL, TOOL_OPT_JSON                                                     \
	}
#define TOOL_GO_ON (-1)

/** What getopt_long() returned, when it is none of the command's own options. TOOL_GO_ON when it
 *  was a common one; else the exit status: --help was shown, or the option is wrong, which was said. */
int tool_option(const struct command *cmd, int c, char **argv);
void tool_help(const struct command *cmd);
/** "umbra: TEXT (try: umbra NAME --help)"; returns TOOL_USAGE. */
int tool_usage(const struct command *cmd, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/** "umbra: TEXT" on one line; names in it go through LOG_QUOTE(). Returns TOOL_FAILED. */
int tool_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int tool_no_memory(void);

/* ---- the coordinator */

/** Connect, or say how to start the coordinator (K-6): 0 or an exit status. */
int tool_connect(struct umbra_client **ret);
/** Connect and become a session that only asks and manages: context ALL, no set (protocol 2.1). */
int tool_connect_manager(struct umbra_client **ret);
/** One call; a refusal is said. @params taken; @ret NULL when the answer holds nothing of interest. */
int tool_call(struct umbra_client *c, const char *method, json_t *params, json_t **ret);
/** The same with descriptors, as umbra_call(). */
int tool_call_fd(struct umbra_client *c, const char *method, json_t *params, int send_fd,
		 json_t **ret, int *ret_fd);
/** Say why umbra_call() failed: r and the failure it filled. Returns the exit status. */
int tool_refused(int r, const char *method, const struct umbra_failure *f);
/** The greater of two exit statuses in the order done, writer failed, again, failed, usage. */
int tool_worse(int a, int b);

DEFINE_CLEANUP(umbra_close_p, struct umbra_client *, umbra_close)
DEFINE_CLEANUP(json_decref_p, json_t *, json_decref)

/** Members of an answer; what is absent or of another type is "", 0, false. Borrowed. */
const char *tool_str(const json_t *object, const char *key);
int64_t tool_int(const json_t *object, const char *key);
bool tool_bool(const json_t *object, const char *key);
/** A path member as bytes, malloc'ed; NULL when absent or without memory. */
char *tool_path(const json_t *object, const char *key);

/* ---- programs and signals */

/**
 * Find a program of ours: beside this binary in the build tree (../fs/umbrafs), in
 * PREFIX/libexec/umbra, sbin and bin, in PATH.
 * @build_dir  its folder in the build tree
 * Returns its path, malloc'ed, or NULL.
 */
char *tool_find_program(const char *build_dir, const char *name);

/**
 * Start a daemon of ours and wait until it is ready: it writes "ok", "ready" or "error: TEXT" to the
 * descriptor that "--ready-fd N" names.
 * @argv     the program and its arguments, ended by NULL, with room for two more before that
 *           (argv[argc] and argv[argc + 1] are overwritten)
 * @ret_pid  the process that was started, still to be waited for; NULL: wait here, it daemonizes
 * Returns 0 or an exit status.
 */
int tool_start_daemon(char **argv, int argc, pid_t *ret_pid);

/** Let INT, TERM, HUP and QUIT only be noted, so that a session can end properly. */
void tool_catch_signals(void);
/** The signal that came, 0 for none. */
int tool_signal(void);

#endif
