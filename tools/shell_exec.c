/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/shell_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow/base/err.h"
#include "tools/common.h"

/* Does not return; what went wrong goes into the pipe, which a successful exec closes. */
static void child(char **argv, const struct shell_aliases *aliases, bool no_input, int report,
		  const sigset_t *mask)
{
	int r = shell_alias_export(aliases), in;

	if (r == 0 && no_input) {
		in = open("/dev/null", O_RDONLY | O_CLOEXEC);
		if (in < 0 || dup2(in, STDIN_FILENO) < 0)
			r = -errno;
	}
	if (r == 0) {
		signal(SIGPIPE, SIG_DFL);
		sigprocmask(SIG_SETMASK, mask, NULL);
		execvp(argv[0], argv);
		r = -errno;
	}
	if (write(report, &r, sizeof(r)) < 0)
		_exit(126);
	_exit(127);
}

/* Its wait status. Signals of the terminal reach it without our help. *ret_signal: one that came. */
static int wait_for(pid_t pid, const sigset_t *signals, int *ret_signal)
{
	int status = 0;

	for (;;) {
		siginfo_t info;
		int sig = sigwaitinfo(signals, &info);

		if (sig < 0)
			continue; /* EINTR: another signal, which ends or stops us by itself */
		if (sig != SIGCHLD) {
			*ret_signal = sig;
			if (info.si_code <= 0) /* SI_USER, SI_QUEUE ...: by a process */
				kill(pid, sig);
		} else if (waitpid(pid, &status, WNOHANG) == pid) {
			return status;
		}
	}
}

static int say_not_run(const char *name, int error)
{
	char here[LOG_QUOTE_SIZE];

	if (error == -ENOENT && !strchr(name, '/') &&
	    snprintf(here, sizeof(here), "./%s", name) < (int)sizeof(here) &&
	    access(here, F_OK) == 0)
		return tool_error("%s is not found; one in the working directory needs its path "
				  "(try: exec %s)",
				  LOG_QUOTE(name), LOG_QUOTE(here));
	return tool_error("%s cannot be run: %s", LOG_QUOTE(name), err_text(error));
}

static int say_how_it_ended(const char *name, int status)
{
	if (WIFSIGNALED(status))
		return tool_error("%s was ended by signal %d (%s)", LOG_QUOTE(name),
				  WTERMSIG(status), strsignal(WTERMSIG(status)));
	if (WEXITSTATUS(status) != 0)
		return tool_error("%s ended with exit status %d", LOG_QUOTE(name),
				  WEXITSTATUS(status));
	return 0;
}

/* With the signals blocked. */
static int run(char **argv, const struct shell_aliases *aliases, bool no_input,
	       const sigset_t *signals, const sigset_t *before, int *ret_signal)
{
	CLEANUP(close_p) int in = -1;
	CLEANUP(close_p) int out = -1;
	int fds[2], status, error = 0;
	ssize_t n;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return tool_error("pipe: %s", err_text(-errno));
	in = fds[0];
	out = fds[1];
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return tool_error("fork: %s", err_text(-errno));
	if (pid == 0)
		child(argv, aliases, no_input, out, before);
	close(TAKE_FD(out));
	n = read(in, &error, sizeof(error)); /* all are blocked, so there is no EINTR */
	status = wait_for(pid, signals, ret_signal);
	if (n == (ssize_t)sizeof(error))
		return say_not_run(argv[0], error);
	return say_how_it_ended(argv[0], status);
}

int shell_exec(char **argv, const struct shell_aliases *aliases, bool no_input)
{
	static const int sigs[] = { SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	sigset_t signals, before;
	int sig = 0, r;

	sigemptyset(&signals);
	for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		sigaddset(&signals, sigs[i]);
	signal(SIGCHLD, SIG_DFL); /* ignored by our parent, it would never come */
	sigprocmask(SIG_BLOCK, &signals, &before);
	r = run(argv, aliases, no_input, &signals, &before, &sig);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (sig)
		raise(sig); /* now to the handler, which notes it */
	return r;
}
