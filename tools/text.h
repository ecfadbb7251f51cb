/* tools/text.h - times, ages and words as people type and read them.
 * Job:     pure conversions between numbers and text; sizes are cow/base/bytes.h.
 * Errors:  0 or -errno, ret_ arguments then untouched.
 * Threads: any, but local time reads TZ (tzset(3)). Times are nanoseconds since 1970, UTC. */
#ifndef UMBRA_TOOLS_TEXT_H
#define UMBRA_TOOLS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * Parse an age: "90s", "30m", "12h", "7d", "2w", "3mo", "1y", and sums of them: "1d12h". A month is
 * 30 days, a year 365. A number needs its unit, except 0.
 * Returns 0; -EINVAL not an age; -ERANGE more seconds than 2^63.
 */
int text_parse_age(const char *text, uint64_t *ret_seconds);

#define TEXT_AGE_SIZE 16

/** An age in its greatest unit, rounded down: "12s", "5m", "3h", "2d", "6w", "2y". Returns buf. */
char *text_format_age(char buf[TEXT_AGE_SIZE], uint64_t seconds);

/** A duration as a clock shows it: "0:07", "12:34", "1:02:03". Returns buf. */
char *text_format_clock(char buf[TEXT_AGE_SIZE], uint64_t seconds);

/**
 * Parse RFC 3339: "2025-01-31T14:05:09.25Z", "...+02:00"; up to nine digits of a fraction count.
 * Returns 0; -EINVAL not such a time, or one before 1970.
 */
int text_parse_time(const char *text, uint64_t *ret_ns);

#define TEXT_TIME_SIZE 40

/** "2025-01-31 14:05:09", local time. Returns buf. */
char *text_format_local(char buf[TEXT_TIME_SIZE], uint64_t ns);
/** "2025-01-31T14:05:09.250000000Z". Returns buf. */
char *text_format_utc(char buf[TEXT_TIME_SIZE], uint64_t ns);

/** Whether it is a name "@GMT-YYYY.MM.DD-HH.MM.SS", as client-accessible snapshots have. */
bool text_is_gmt_name(const char *name);

/**
 * The protocol's word for a snapshot context: "backup" from "BACKUP", "app-rollback" from
 * "app_rollback"; also what diskshadow says: "volatile", "persistent", "clientaccessible".
 * @with_writers  false: its twin that does not call writers ("backup" becomes "file-share-backup")
 * Returns a static string, NULL for a word that is none.
 */
const char *text_context(const char *word, bool with_writers);
/** Whether snapshots of this context (a result of text_context) end with their session. */
bool text_context_is_volatile(const char *context);
#define TEXT_OUTCOME_SIZE 64

/**
 * What became of a writer, for people: refused, timed out and died are three different words.
 * @error  the code of its row; NULL or "": none. Returns buf.
 */
char *text_writer_outcome(char buf[TEXT_OUTCOME_SIZE], const char *error);
/** "failed-at-freeze" is "Freeze", as the protocol calls the event; another state stays. */
const char *text_writer_event(const char *state);

/** Whether a session of this context calls writers. */
bool text_context_has_writers(const char *context);

#endif
