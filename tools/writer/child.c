/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/writer/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "cow/base/clock.h"
#include "cow/base/err.h"
#include "tools/path.h"

extern char **environ;

/* ---- starting */

/* What the child's side of the descriptors is; closed by us after the fork. */
struct ends {
	int in, out, err, failed;
};

static void close_ends(struct ends *e)
{
	close_p(&e->in);
	close_p(&e->out);
	close_p(&e->err);
	close_p(&e->failed);
}

/* A file in memory: any amount of input without anybody to feed it. */
static int input_file(const char *text)
{
	CLEANUP(close_p) int fd = -1;
	size_t len = text ? strlen(text) : 0;

	if (len == 0) {
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		return fd < 0 ? -errno : TAKE_FD(fd);
	}
	fd = memfd_create("input", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (size_t done = 0; done < len;) {
		ssize_t n = write(fd, text + done, len - done);

		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return lseek(fd, 0, SEEK_SET) < 0 ? -errno : TAKE_FD(fd);
}

static int make_pipe(int *ret_read, int *ret_write)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	*ret_read = fds[0];
	*ret_write = fds[1];
	return 0;
}

static int make_ends(struct child *c, struct ends *e, int *ret_failed)
{
	int r;

	r = make_pipe(&c->out.fd, &e->out);
	if (r == 0)
		r = make_pipe(&c->err.fd, &e->err);
	if (r == 0)
		r = make_pipe(ret_failed, &e->failed);
	if (r == 0 && c->keep_open)
		r = make_pipe(&e->in, &c->in);
	else if (r == 0)
		r = e->in = input_file(c->input);
	return r < 0 ? r : 0;
}

/* In the child. */
static void __attribute__((noreturn)) become(const struct child *c, const struct ends *e)
{
	sigset_t none;
	int r;

	setpgid(0, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (dup2(e->in, 0) >= 0 && dup2(e->out, 1) >= 0 && dup2(e->err, 2) >= 0)
		execvpe(c->argv[0], c->argv, c->env ? c->env : environ);
	r = errno;
	(void)!write(e->failed, &r, sizeof(r));
	_exit(127);
}

/* Whether exec worked: the pipe closes then without a word. */
static int exec_result(int fd)
{
	int error = 0;
	ssize_t n;

	do
		n = read(fd, &error, sizeof(error));
	while (n < 0 && errno == EINTR);
	return n == sizeof(error) ? -error : 0;
}

int child_start(struct child *c)
{
	CLEANUP(close_ends) struct ends e = { -1, -1, -1, -1 };
	CLEANUP(close_p) int failed = -1;
	int r;

	c->in = c->out.fd = c->err.fd = -1;
	c->pid = 0;
	c->ended = false;
	c->out.used = c->err.used = 0;
	c->last[0] = '\0';
	snprintf(c->name, sizeof(c->name), "%s", path_last(c->argv[0]));
	r = make_ends(c, &e, &failed);
	if (r == 0) {
		c->pid = fork();
		if (c->pid == 0)
			become(c, &e);
		if (c->pid < 0)
			r = -errno;
	}
	if (r < 0) {
		c->pid = 0;
		child_done(c);
		return r;
	}
	setpgid(c->pid, c->pid); /* here too, so that it is done before we kill the group */
	close_ends(&e);
	e = (struct ends){ -1, -1, -1, -1 };
	fcntl(c->out.fd, F_SETFL, O_NONBLOCK);
	fcntl(c->err.fd, F_SETFL, O_NONBLOCK);
	r = exec_result(failed);
	if (r < 0)
		child_done(c);
	return r;
}

/* ---- output */

static void take_line(struct child *c, struct child_lines *l)
{
	bool is_error = l == &c->err;

	l->text[l->used] = '\0';
	l->used = 0;
	if (is_error && l->text[0])
		snprintf(c->last, sizeof(c->last), "%s", l->text);
	if (c->line)
		c->line(c, is_error, l->text);
	else if (l->text[0])
		log_info("%s: %s", LOG_QUOTE(c->name), LOG_QUOTE(l->text));
}

static void finish_line(struct child *c, struct child_lines *l)
{
	if (l->used > 0)
		take_line(c, l);
}

/* What may be in the pipe at this moment. */
static size_t in_pipe(int fd)
{
	int size = fcntl(fd, F_GETPIPE_SZ);

	return size > 0 ? (size_t)size : 65536;
}

/* Read what is there; at its end the descriptor is closed. Whether there was anything. No more than the
 * pipe had in it: whoever writes as fast as we read would keep us here, past any deadline. */
static bool drain(struct child *c, struct child_lines *l)
{
	char buf[4096];
	size_t left, used = 0;
	ssize_t n;

	if (l->fd < 0)
		return false;
	left = in_pipe(l->fd);
	while (used < left) {
		n = read(l->fd, buf, left - used < sizeof(buf) ? left - used : sizeof(buf));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return used > 0; /* EAGAIN: no more now */
		if (n == 0)
			break;
		used += (size_t)n;
		for (ssize_t i = 0; i < n; i++) {
			if (buf[i] == '\n')
				take_line(c, l);
			else if (l->used + 1 < sizeof(l->text))
				l->text[l->used++] = buf[i];
		}
	}
	if (used >= left)
		return true;
	finish_line(c, l);
	close_p(&l->fd);
	l->fd = -1;
	return true;
}

/* ---- waiting */

bool child_ended(struct child *c)
{
	int status;
	pid_t pid;

	if (c->ended || c->pid <= 0)
		return true;
	do
		pid = waitpid(c->pid, &status, WNOHANG);
	while (pid < 0 && errno == EINTR);
	if (pid == 0)
		return false;
	c->ended = true;
	c->status = pid < 0		? 127
		    : WIFEXITED(status) ? WEXITSTATUS(status)
					: 128 + WTERMSIG(status);
	return true;
}

int child_step(struct child *c, uint64_t deadline_ns, bool stoppable)
{
	struct pollfd fds[] = { { .fd = writer_signal_fd(), .events = POLLIN },
				{ .fd = c->out.fd, .events = POLLIN },
				{ .fd = c->err.fd, .events = POLLIN } };
	bool ended, any;

	/* First the end, then the output: what it wrote before it ended is not lost. */
	ended = child_ended(c);
	any = drain(c, &c->out);
	any = drain(c, &c->err) || any;
	if (ended) {
		finish_line(c, &c->out);
		finish_line(c, &c->err);
		return 1;
	}
	if (writer_stopping() && stoppable)
		return -EINTR;
	if (clock_expired(deadline_ns))
		return -ETIMEDOUT;
	/* Its caller may have waited for just that line. And SIGCHLD that came since the look is still
	 * in the signal descriptor, unless it was read just above: then look again. */
	if (any || child_ended(c))
		return 0;
	(void)poll(fds, 3, clock_left_ms(deadline_ns));
	return 0;
}

void child_close_input(struct child *c)
{
	close_p(&c->in);
	c->in = -1;
}

void child_done(struct child *c)
{
	if (c->pid > 0 && !child_ended(c)) {
		kill(-c->pid, SIGKILL);
		kill(c->pid, SIGKILL); /* should it have left its group */
		while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
			;
		c->ended = true;
		c->status = 128 + SIGKILL;
	}
	c->pid = 0;
	close_p(&c->in);
	close_p(&c->out.fd);
	close_p(&c->err.fd);
	c->in = c->out.fd = c->err.fd = -1;
}

int child_run(struct child *c, int limit_ms, bool stoppable)
{
	uint64_t deadline = clock_deadline_ms((uint64_t)limit_ms);
	int r = child_start(c);

	if (r < 0)
		return r;
	while ((r = child_step(c, deadline, stoppable)) == 0)
		;
	child_done(c);
	return r == 1 ? c->status : r;
}

/* ---- what came of it */

const char *child_why(const struct child *c, int r, char *buf, size_t size)
{
	const char *sep = c->last[0] ? ": " : "";

	if (r == -ETIMEDOUT)
		snprintf(buf, size, "took too long and was killed%s%s", sep, c->last);
	else if (r == -EINTR)
		snprintf(buf, size, "was killed, since this writer was told to stop");
	else if (r < 0)
		snprintf(buf, size, "cannot be run: %s", err_text(r));
	else if (r > 128)
		snprintf(buf, size, "signal %d%s%s", r - 128, sep, c->last);
	else
		snprintf(buf, size, "exit status %d%s%s", r, sep, c->last);
	return buf;
}

enum umbra_writer_code child_code(int r)
{
	switch (r) {
	case -ETIMEDOUT:
		return UMBRA_WRITER_TIMEOUT;
	case -ENOMEM:
	case -EAGAIN:
	case -EMFILE:
	case -ENFILE:
		return UMBRA_WRITER_OUT_OF_RESOURCES;
	case -EINTR:
	case 75: /* EX_TEMPFAIL of sysexits.h */
		return UMBRA_WRITER_RETRYABLE;
	default:
		return UMBRA_WRITER_NON_RETRYABLE;
	}
}
