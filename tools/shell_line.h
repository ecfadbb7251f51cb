/* tools/shell_line.h - one line of umbra shell, taken apart into words.
 * Job:     quotes, comments, aliases; what the words mean is shell.c's business. Pure.
 * Errors:  0 or -errno, ret_ arguments then untouched.
 * Threads: any. */
#ifndef UMBRA_TOOLS_SHELL_LINE_H
#define UMBRA_TOOLS_SHELL_LINE_H

#include <stdbool.h>
#include <stddef.h>

struct shell_words {
	char **list; /* ended by NULL; owned */
	size_t count;
};

/** The value of an alias, borrowed until the next call; NULL: there is none of that name. */
typedef const char *shell_lookup_fn(const char *name, void *data);

#define SHELL_PROBLEM_SIZE 320

/**
 * Take a line apart. Blanks separate words. '...' is taken as it stands; in "..." and outside quotes a
 * backslash takes the next character as it stands, %NAME% is the value of that alias (one word,
 * whatever is in it), and %% is a percent sign; a percent sign that begins no name stays one.
 * A word that begins with #, and a line whose first word is REM, are a comment.
 * @line         without its newline
 * @ret          to be released with shell_words_done(); count 0: nothing to do
 * @ret_problem  what is wrong, for people; filled in on -EINVAL and -ENOENT
 * Returns 0; -EINVAL a quote is not closed, or a backslash ends the line; -ENOENT no such alias;
 * -ENOMEM.
 */
int shell_line_split(const char *line, shell_lookup_fn *lookup, void *data, struct shell_words *ret,
		     char ret_problem[SHELL_PROBLEM_SIZE]);

/** Free; empty is fine. */
void shell_words_done(struct shell_words *w);

/** Whether it can be an alias's name: a letter or '_', then letters, digits and '_'. */
bool shell_line_is_name(const char *text);

#endif
