/* cow/base/log.h - messages for people: what happened, once, on one line.
 * Job:     levels, prefix, destination, quoting. Not the store's data log.
 * Errors:  none: a message that cannot be written is dropped. errno is preserved.
 * Threads: log_*() any thread, no lock: each message is one write(2). log_to_*(), log_set_*() are for
 *          start-up, before the second thread; log_set_level() at any time.
 * Rules:   never log into a tree that may be held: the writer would wait for its own gate. Names
 *          from disk or from a peer go through log_quote(). */

#ifndef UMBRA_COW_BASE_LOG_H
#define UMBRA_COW_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level {
	LOG_LEVEL_ERROR, /* something asked for was not done */
	LOG_LEVEL_WARN,	 /* done, but somebody should look */
	LOG_LEVEL_INFO,	 /* the default: starts, stops, snapshots */
	LOG_LEVEL_DEBUG,
};

/** The longest message in bytes with prefix and newline; the rest is cut and ends in "...". */
#define LOG_LINE_SIZE 2048

/** "umbrafs" makes lines "umbrafs: text". Borrowed for ever; NULL: none (also the initial state). */
void log_set_prefix(const char *program);
void log_set_level(enum log_level level);

/** Whether a message of this level would be written: guards costly arguments. */
bool log_enabled(enum log_level level);

/** Write to a descriptor from now on (initially 2). Borrowed; open log files with O_APPEND. */
void log_to_fd(int fd);

/** Write to syslog(3), facility daemon, from now on. Uses the prefix, so set that first. */
void log_to_syslog(void);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/** One message, no newline at its end. Control bytes in it are escaped, so it stays one line. */
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/**
 * Make bytes fit for a message: control bytes, backslash and what is not UTF-8 become \n, \t, \\,
 * \xNN; C1 controls (U+0080 to U+009F) too, since terminals obey them. What does not fit is cut
 * between characters and replaced by "...".
 * @buf   at least 4 bytes; the result is always 0-terminated
 * @name  any bytes up to the first 0, borrowed; NULL gives "(null)"
 * Returns buf.
 */
char *log_quote(char *buf, size_t size, const char *name);

/** The same for len bytes that may contain 0 (shown as \x00). */
char *log_quote_n(char *buf, size_t size, const void *bytes, size_t len);

/** log_quote() into a buffer that lives until the end of the enclosing block. */
#define LOG_QUOTE_SIZE 1040 /* a name of 255 bytes, all escaped, and more */
#define LOG_QUOTE(name) log_quote((char[LOG_QUOTE_SIZE]){ 0 }, LOG_QUOTE_SIZE, (name))

#endif
