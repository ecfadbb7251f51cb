/* tools/shell_input.h - where umbra shell has its lines from: a script, a pipe, a person.
 * Job:     one line after another, with editing at a terminal; a signal ends the waiting.
 * Errors:  0 or positive for an answer, -errno, ret_ arguments then untouched.
 * Threads: the command has one; signals that tool_catch_signals() notes are its business. */
#ifndef UMBRA_TOOLS_SHELL_INPUT_H
#define UMBRA_TOOLS_SHELL_INPUT_H

#include <stdbool.h>

struct shell_input;

/**
 * Begin to read. At a terminal there is a prompt, and editing where libedit was built in.
 * @path  a script; NULL: standard input
 * Returns 0; -errno of open(2); -ENOMEM.
 */
int shell_input_open(const char *path, struct shell_input **ret);
void shell_input_close(struct shell_input *in); /* gives the terminal back as it was */

/**
 * The next line, without its newline.
 * @ret  borrowed until the next call
 * Returns 1; 0 at the end; -EINTR a signal was noted (tool_signal()); -EFBIG, -EILSEQ the line is longer
 * than 64 KiB or has a NUL in it; -errno of read(2); -ENOMEM.
 */
int shell_input_next(struct shell_input *in, const char **ret);

/** Its number, the first is 1. */
unsigned shell_input_line(const struct shell_input *in);
/** What to call it: the script's path, "standard input". Borrowed. */
const char *shell_input_name(const struct shell_input *in);
/** A person types: an error is told and the next line awaited. */
bool shell_input_is_terminal(const struct shell_input *in);

#endif
