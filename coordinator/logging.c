/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/logging.h"

#include "cow/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* The one log of the process (style: no globals but log level and options). */
static struct {
	int fd;
	bool to_syslog;
	int kept[2]; /* a pipe that never blocks: messages of a hold */
} logging = { .fd = STDERR_FILENO, .kept = { -1, -1 } };

static void to_destination(void)
{
	if (logging.to_syslog)
		log_to_syslog();
	else
		log_to_fd(logging.fd);
}

int coord_logging_start(const char *path)
{
	if (pipe2(logging.kept, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	if (path) {
		logging.fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW,
				  0600);
		if (logging.fd < 0)
			return -errno;
	}
	to_destination();
	return 0;
}

void coord_logging_to_syslog(void)
{
	if (logging.fd != STDERR_FILENO)
		return;
	logging.to_syslog = true;
	to_destination();
}

/* The prefix is put in front again. */
static void relay_line(const char *line)
{
	const char *text = strstr(line, ": ");

	log_info("%s", text ? text + 2 : line);
}

static void relay(char *text, size_t len)
{
	if (!logging.to_syslog) {
		while (write(logging.fd, text, len) < 0 && errno == EINTR)
			;
		return;
	}
	text[len] = 0;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		relay_line(line);
}

void coord_logging_defer(bool defer)
{
	char text[4096];
	ssize_t n;

	if (logging.kept[1] < 0)
		return;
	if (defer) {
		log_to_fd(logging.kept[1]);
		return;
	}
	to_destination();
	while ((n = read(logging.kept[0], text, sizeof(text) - 1)) > 0)
		relay(text, (size_t)n);
}
