/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/mountwatch.c - notice that a mount is gone; see mountwatch.h. */
#include "fs/mountwatch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cow/base/cleanup.h"

struct fs_mountwatch {
	FILE *table;
	const char *path; /* borrowed */
	int stop_fd;
	int id; /* both may be given again, but not to one mount while this one lives on somewhere */
	unsigned major, minor;
	void (*gone)(void *userdata);
	void *userdata;
	pthread_t thread;
};

/* Of the mount that a path leads to; opening its root with O_PATH asks its daemon nothing. */
static int mount_id(const char *path)
{
	CLEANUP(close_p) int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	CLEANUP(fclose_p) FILE *f = NULL;
	char text[64], line[128];
	int id = -1;

	if (fd < 0)
		return -errno;
	snprintf(text, sizeof(text), "/proc/self/fdinfo/%d", fd);
	f = fopen(text, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "mnt_id: %d", &id) == 1)
			return id;
	return -ENOENT;
}

/* 1 it is there; then its device, too. 0 not; -errno. */
static int look_for(FILE *table, int id, unsigned *ret_major, unsigned *ret_minor)
{
	CLEANUP(free_p) char *line = NULL;
	size_t size = 0;
	int at;

	rewind(table);
	while (getline(&line, &size, table) >= 0)
		if (sscanf(line, "%d %*d %u:%u", &at, ret_major, ret_minor) == 3 && at == id)
			return 1;
	return ferror(table) ? -EIO : 0;
}

/* To take a mount for gone that is there would end a protection: before Linux 5.8 a table that changes while it is read can
 * lack a line, and memory may be short. So the path is asked, too; what lies there may be another mount, the table not. */
static bool is_gone(struct fs_mountwatch *w)
{
	unsigned major, minor;

	for (unsigned i = 0; i < 3; i++) {
		int r = look_for(w->table, w->id, &major, &minor);

		if (r != 0)
			return r > 0 && (major != w->major || minor != w->minor);
	}
	return mount_id(w->path) != w->id;
}

static void *watch(void *arg)
{
	struct fs_mountwatch *w = arg;
	struct pollfd p[2] = { { .fd = fileno(w->table), .events = POLLPRI },
			       { .fd = w->stop_fd, .events = POLLIN } };

	for (;;) {
		/* Each poll tells of what came since the one before, the first since the table was opened. */
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return NULL;
		if (p[1].revents)
			return NULL;
		if (is_gone(w))
			break;
	}
	w->gone(w->userdata);
	return NULL;
}

static void mountwatch_free(struct fs_mountwatch *w)
{
	if (w->table)
		fclose(w->table);
	close_p(&w->stop_fd);
	free(w);
}

struct fs_mountwatch *fs_mountwatch_start(const char *path, void (*gone)(void *userdata),
					  void *userdata)
{
	struct fs_mountwatch *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->path = path;
	w->gone = gone;
	w->userdata = userdata;
	w->stop_fd = eventfd(0, EFD_CLOEXEC);
	w->table = fopen("/proc/self/mountinfo", "re");
	w->id = mount_id(path);
	if (w->stop_fd < 0 || !w->table || w->id < 0 ||
	    look_for(w->table, w->id, &w->major, &w->minor) != 1 ||
	    pthread_create(&w->thread, NULL, watch, w) != 0) {
		mountwatch_free(w);
		return NULL;
	}
	return w;
}

void fs_mountwatch_stop(struct fs_mountwatch *w)
{
	if (!w)
		return;
	eventfd_write(w->stop_fd, 1);
	pthread_join(w->thread, NULL);
	mountwatch_free(w);
}
