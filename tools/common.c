/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/common.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow/base/clock.h"
#include "cow/base/err.h"
#include "tools/path.h"

/* A daemon that replays a long log after a crash is not ready at once. */
#define READY_TIMEOUT_MS (10 * 60 * 1000)

struct tool_options tool_opts;

/* ---- options and messages */

void tool_help(const struct command *cmd)
{
	printf("usage: umbra %s %s\n\n%c%s.\n\n%s\n"
	       "Common options: --json, -q/--quiet, -v/--verbose, -h/--help. See umbra-%s(1).\n",
	       cmd->name, cmd->args, cmd->summary[0] - 'a' + 'A', cmd->summary + 1, cmd->help,
	       cmd->name);
}

int tool_option(const struct command *cmd, int c, char **argv)
{
	switch (c) {
	case 'h':
		tool_help(cmd);
		return TOOL_DONE;
	case 'q':
		tool_opts.quiet = true;
		log_set_level(LOG_LEVEL_WARN);
		return TOOL_GO_ON;
	case 'v':
		tool_opts.verbose = true;
		log_set_level(LOG_LEVEL_DEBUG);
		return TOOL_GO_ON;
	case TOOL_OPT_JSON:
		tool_opts.json = true;
		return TOOL_GO_ON;
	case ':':
		return tool_usage(cmd, "option %s needs a value", LOG_QUOTE(argv[optind - 1]));
	}
	if (optopt > 0 && optopt < 0x80)
		return tool_usage(cmd, "unknown option -%c", optopt);
	return tool_usage(cmd, "unknown or ambiguous option %s", LOG_QUOTE(argv[optind - 1]));
}

static void vsay(const char *suffix, const char *fmt, va_list ap)
{
	CLEANUP(free_p) char *text = NULL;

	if (vasprintf(&text, fmt, ap) < 0)
		log_error("out of memory");
	else
		log_error("%s%s", text, suffix);
}

int tool_usage(const struct command *cmd, const char *fmt, ...)
{
	char suffix[80];
	va_list ap;

	snprintf(suffix, sizeof(suffix), " (try: umbra %s --help)", cmd->name);
	va_start(ap, fmt);
	vsay(suffix, fmt, ap);
	va_end(ap);
	return TOOL_USAGE;
}

int tool_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsay("", fmt, ap);
	va_end(ap);
	return TOOL_FAILED;
}

int tool_no_memory(void)
{
	return tool_error("out of memory");
}

int tool_worse(int a, int b)
{
	static const int rank[] = { [TOOL_DONE] = 0,
				    [TOOL_WRITER] = 1,
				    [TOOL_AGAIN] = 2,
				    [TOOL_FAILED] = 3,
				    [TOOL_USAGE] = 4 };

	return rank[a] >= rank[b] ? a : b;
}

/* ---- the coordinator */

int tool_connect(struct umbra_client **ret)
{
	char path[PATH_MAX];
	int r;

	r = umbra_socket_path(false, path, sizeof(path));
	if (r == 0)
		r = umbra_connect(NULL, ret);
	switch (r) {
	case 0:
		return 0;
	case -ENOENT:
	case -ECONNREFUSED:
		log_error(
			"the coordinator does not run (start it: umbra-coordinator; umbra protect DIR "
			"does it too)");
		return TOOL_AGAIN; /* writer-infrastructure (K-6) */
	default:
		return tool_error("cannot reach the coordinator at %s: %s", LOG_QUOTE(path),
				  err_text(r));
	}
}

int tool_refused(int r, const char *method, const struct umbra_failure *f)
{
	switch (r) {
	case -EREMOTEIO:
		log_error("%s%s%s%s", f->message[0] ? f->message : method,
			  f->message[0] ? "" : ": ", f->message[0] ? "" : f->name,
			  f->again ? " (try again later)" : "");
		return f->again ? TOOL_AGAIN : TOOL_FAILED;
	case -ECONNRESET:
	case -EPIPE:
		log_error("the coordinator went away during %s (see its log; umbra status)",
			  method);
		return TOOL_AGAIN;
	default:
		return tool_error("%s: %s", method, err_text(r));
	}
}

int tool_call_fd(struct umbra_client *c, const char *method, json_t *params, int send_fd,
		 json_t **ret, int *ret_fd)
{
	struct umbra_failure f = { 0 };
	int r;

	log_debug("call %s", method);
	r = umbra_call(c, method, params, send_fd, ret, ret_fd, &f);
	return r < 0 ? tool_refused(r, method, &f) : 0;
}

int tool_call(struct umbra_client *c, const char *method, json_t *params, json_t **ret)
{
	return tool_call_fd(c, method, params, -1, ret, NULL);
}

int tool_connect_manager(struct umbra_client **ret)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	int r;

	r = tool_connect(&c);
	if (r == 0)
		r = tool_call(c, "InitializeForBackup", NULL, NULL);
	if (r == 0)
		r = tool_call(c, "SetContext", json_pack("{ss}", "context", "all"), NULL);
	if (r == 0)
		*ret = TAKE(c);
	return r;
}

const char *tool_str(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

int64_t tool_int(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

bool tool_bool(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

char *tool_path(const json_t *object, const char *key)
{
	return umbra_json_get_path(object, key);
}

/* ---- programs */

static char *if_executable(char *path)
{
	if (path && access(path, X_OK) == 0)
		return path;
	free(path);
	return NULL;
}

static char *search_path(const char *name)
{
	const char *path = getenv("PATH");

	for (const char *p = path; p && *p; p += strspn(p, ":")) {
		size_t len = strcspn(p, ":");
		CLEANUP(free_p) char *dir = strndup(p, len);
		char *found = dir ? if_executable(path_join(dir, name)) : NULL;

		if (found)
			return found;
		p += len;
	}
	return NULL;
}

char *tool_find_program(const char *build_dir, const char *name)
{
	const char *const places[] = { build_dir, "libexec/umbra", "sbin", "bin" };
	char self[PATH_MAX], *found = NULL, *p;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n > 0) {
		self[n] = '\0';
		*strrchr(self, '/') = '\0'; /* absolute, so there is one */
	}
	for (size_t i = 0; n > 0 && !found && i < sizeof(places) / sizeof(places[0]); i++) {
		if (asprintf(&p, "%s/../%s/%s", self, places[i], name) >= 0)
			found = if_executable(p);
	}
	return found ? found : search_path(name);
}

/* Read one line, or until the end of file or time. Returns its length without the newline. */
static ssize_t read_line(int fd, char *buf, size_t size, uint64_t deadline_ns)
{
	size_t len = 0;

	while (len + 1 < size) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int r = poll(&p, 1, clock_left_ms(deadline_ns));
		ssize_t n;

		if (r < 0 && errno == EINTR && !tool_signal())
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -ETIMEDOUT;
		n = read(fd, buf + len, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0 || buf[len] == '\n')
			break;
		len++;
	}
	buf[len] = '\0';
	return (ssize_t)len;
}

/* In the child: nothing of ours but the standard descriptors and the pipe. */
static void exec_daemon(char **argv, int ready_fd, int err_fd)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (err_fd >= 0)
		(void)dup2(err_fd, STDERR_FILENO);
	if (fcntl(ready_fd, F_SETFD, 0) == 0)
		execv(argv[0], argv);
	dprintf(ready_fd, "error: cannot run it: %s\n", err_text(-errno));
	_exit(127);
}

static bool is_ready(const char *line)
{
	return strcmp(line, "ok") == 0 || strcmp(line, "ready") == 0;
}

/* What it wrote to standard error before it ended; false for nothing. */
static bool show_output(int err_fd)
{
	CLEANUP(fclose_p) FILE *f = err_fd >= 0 ? fdopen(dup(err_fd), "r") : NULL;
	CLEANUP(free_p) char *line = NULL;
	size_t size = 0;
	bool any = false;

	if (!f || fseek(f, 0, SEEK_SET) < 0)
		return false;
	while (getline(&line, &size, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		log_error("%s", line);
		any = true;
	}
	return any;
}

static int say_why_not_ready(const char *program, const char *line, ssize_t n, int status,
			     int err_fd)
{
	if (n < 0)
		return tool_error("%s was not ready in time and was stopped: %s", program,
				  err_text((int)n));
	if (strncmp(line, "error: ", 7) == 0)
		return tool_error("%s", line + 7); /* it names the thing itself */
	if (show_output(err_fd))
		return TOOL_FAILED;
	return tool_error("%s ended without a word (%s %d; run it with -f to see more)", program,
			  WIFSIGNALED(status) ? "signal" : "exit status",
			  WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

int tool_start_daemon(char **argv, int argc, pid_t *ret_pid)
{
	/* What a daemon says while it starts is of interest only when it fails. */
	CLEANUP(close_p) int err = ret_pid ? -1 : memfd_create("stderr", MFD_CLOEXEC);
	CLEANUP(close_p) int in = -1;
	CLEANUP(close_p) int out = -1;
	char line[1024] = "", number[16];
	int fds[2], status = 0;
	ssize_t n;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return tool_error("pipe: %s", err_text(-errno));
	in = fds[0];
	out = fds[1];
	snprintf(number, sizeof(number), "%d", out);
	argv[argc] = (char *)"--ready-fd";
	argv[argc + 1] = number;
	argv[argc + 2] = NULL;
	log_debug("starting %s", argv[0]);
	pid = fork();
	if (pid < 0)
		return tool_error("fork: %s", err_text(-errno));
	if (pid == 0)
		exec_daemon(argv, out, err);
	close(TAKE_FD(out));
	n = read_line(in, line, sizeof(line), clock_deadline_ms(READY_TIMEOUT_MS));
	if (ret_pid && n >= 0 && is_ready(line)) {
		*ret_pid = pid;
		return 0;
	}
	if (n < 0)
		kill(pid, SIGTERM);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return n >= 0 && is_ready(line)
		       ? 0
		       : say_why_not_ready(path_last(argv[0]), line, n, status, err);
}

/* ---- signals */

static volatile sig_atomic_t caught;

static void note(int sig)
{
	caught = sig;
}

void tool_catch_signals(void)
{
	static const int sigs[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	struct sigaction sa = { .sa_handler = note };

	for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++) {
		struct sigaction old;

		/* What the caller ignores (nohup) stays ignored. */
		if (sigaction(sigs[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(sigs[i], &sa, NULL);
	}
}

int tool_signal(void)
{
	return caught;
}
