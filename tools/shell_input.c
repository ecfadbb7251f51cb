/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/shell_input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef HAVE_LIBEDIT
#include <editline/readline.h>
#endif

#include "tools/common.h"

#define LINE_MAX_BYTES (64 * 1024)
#define PROMPT "umbra> "

struct shell_input {
	int fd;		  /* owned unless it is standard input */
	const char *name; /* borrowed */
	bool terminal, ended;
	unsigned line;
	char *text; /* the line that was given out */
	/* What was read and not given out yet: bytes[start .. end). */
	char *bytes;
	size_t start, end;
};

/* Wait for input or a signal. Between looking for one and waiting none can be lost: they are let
 * through by ppoll(2) only. */
static int wait_readable(int fd)
{
	static const int sigs[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	sigset_t block, before;
	int r = 0;

	sigemptyset(&block);
	for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		sigaddset(&block, sigs[i]);
	pthread_sigmask(SIG_BLOCK, &block, &before);
	while (r == 0) {
		if (tool_signal())
			r = -EINTR;
		else if (ppoll(&p, 1, NULL, &before) >= 0)
			break;
		else if (errno != EINTR)
			r = -errno;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	/* One that came together with input, or with its end, is let through only now. */
	return r == 0 && tool_signal() ? -EINTR : r;
}

/* ---- plain */

/* The line that begins at start, len bytes and perhaps a newline. */
static int take_line(struct shell_input *in, size_t len)
{
	const char *from = in->bytes + in->start;

	if (memchr(from, '\0', len))
		return -EILSEQ;
	free(in->text);
	in->text = strndup(from, len);
	if (!in->text)
		return -ENOMEM;
	in->start += len;
	if (in->start < in->end)
		in->start++; /* the newline */
	return 1;
}

/* More bytes behind those that are there. 0 at the end. */
static ssize_t fill(struct shell_input *in)
{
	ssize_t n;
	int r = wait_readable(in->fd);

	if (r < 0)
		return r;
	memmove(in->bytes, in->bytes + in->start, in->end - in->start);
	in->end -= in->start;
	in->start = 0;
	n = read(in->fd, in->bytes + in->end, LINE_MAX_BYTES - in->end);
	if (n < 0)
		return errno == EAGAIN ? -EINTR : -errno;
	in->end += (size_t)n;
	return n;
}

static int next_plain(struct shell_input *in)
{
	for (;;) {
		size_t have = in->end - in->start;
		const char *newline = memchr(in->bytes + in->start, '\n', have);
		ssize_t n;

		if (newline)
			return take_line(in, (size_t)(newline - (in->bytes + in->start)));
		if (have == LINE_MAX_BYTES)
			return -EFBIG;
		n = in->ended ? 0 : fill(in);
		if (n == -EINTR && !tool_signal())
			continue;
		if (n < 0)
			return (int)n;
		if (n > 0)
			continue;
		in->ended = true;
		return in->end > in->start ? take_line(in, in->end - in->start) : 0;
	}
}

/* ---- a person */

#ifdef HAVE_LIBEDIT

/* libedit hands a line to a function without an argument. */
static struct {
	char *line;
	bool done;
} edited;

static void take_edited(char *line)
{
	rl_callback_handler_remove(); /* a command may write, and read, meanwhile */
	edited.line = line;
	edited.done = true;
}

static int next_edited(struct shell_input *in)
{
	int r = 0;

	edited.line = NULL;
	edited.done = false;
	rl_callback_handler_install(PROMPT, take_edited);
	while (r == 0 && !edited.done) {
		r = wait_readable(in->fd);
		if (r == 0)
			rl_callback_read_char();
	}
	if (!edited.done)
		rl_callback_handler_remove();
	if (r < 0 || !edited.line) {
		putchar('\n');
		return r;
	}
	free(in->text);
	in->text = edited.line;
	if (*in->text)
		add_history(in->text);
	return 1;
}

static void begin_editing(void)
{
	rl_readline_name = (char *)"umbra";
	rl_catch_signals = 0; /* they are looked for between characters */
	rl_initialize();
	using_history();
}

#else

static int next_edited(struct shell_input *in)
{
	int r;

	fputs(PROMPT, stdout);
	fflush(stdout);
	r = next_plain(in);
	if (r <= 0)
		putchar('\n');
	return r;
}

static void begin_editing(void)
{
}

#endif

/* ---- */

int shell_input_open(const char *path, struct shell_input **ret)
{
	CLEANUP(close_p) int fd = -1;
	CLEANUP(free_p) char *bytes = malloc(LINE_MAX_BYTES);
	struct shell_input *in;

	if (path)
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (path && fd < 0)
		return -errno;
	in = calloc(1, sizeof(*in));
	if (!in || !bytes) {
		free(in);
		return -ENOMEM;
	}
	in->fd = path ? TAKE_FD(fd) : STDIN_FILENO;
	in->name = path ? path : "standard input";
	in->bytes = TAKE(bytes);
	in->terminal = !path && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	if (in->terminal)
		begin_editing();
	*ret = in;
	return 0;
}

void shell_input_close(struct shell_input *in)
{
	if (!in)
		return;
	if (in->fd != STDIN_FILENO)
		close(in->fd);
	free(in->text);
	free(in->bytes);
	free(in);
}

int shell_input_next(struct shell_input *in, const char **ret)
{
	int r = in->terminal ? next_edited(in) : next_plain(in);

	if (r == 0)
		return 0;
	in->line++;
	if (r > 0)
		*ret = in->text;
	return r;
}

unsigned shell_input_line(const struct shell_input *in)
{
	return in->line;
}

const char *shell_input_name(const struct shell_input *in)
{
	return in->name;
}

bool shell_input_is_terminal(const struct shell_input *in)
{
	return in->terminal;
}
