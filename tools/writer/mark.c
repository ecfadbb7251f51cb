/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/writer/mark.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <uuid/uuid.h>

#include "cow/base/err.h"

struct writer_mark {
	int dir, fd; /* fd: locked */
	char name[128];
	char text[256]; /* what the file says; "" when not set */
};

/* The directory, and those above it, where they are missing. */
static int make_dirs(const char *path)
{
	CLEANUP(free_p) char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, 0700) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(copy, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* Nobody else may put a mark there, or take one away. */
static int open_dir(const char *path)
{
	CLEANUP(close_p) int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_uid != geteuid() || (st.st_mode & 022))
		return -EPERM;
	return TAKE_FD(fd);
}

static int dir_path(const struct writer_program *p, char *buf, size_t size)
{
	char socket[PATH_MAX];
	int r;

	if (p->state_dir)
		return snprintf(buf, size, "%s", p->state_dir) >= (int)size ? -ENAMETOOLONG : 0;
	r = umbra_socket_path(true, socket, sizeof(socket));
	if (r < 0)
		return r;
	if (!strrchr(socket, '/'))
		return snprintf(buf, size, "writers") >= (int)size ? -ENAMETOOLONG : 0;
	*strrchr(socket, '/') = '\0';
	return snprintf(buf, size, "%s/writers", socket) >= (int)size ? -ENAMETOOLONG : 0;
}

/* Open and lock it; another program may remove it just then, so look again whether it is there. */
static int open_locked(int dir, const char *name)
{
	for (;;) {
		CLEANUP(close_p)
		int fd = openat(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		struct stat mine, there;

		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &mine) < 0)
			return -errno;
		if (fstatat(dir, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
		    there.st_dev == mine.st_dev && there.st_ino == mine.st_ino)
			return fsync(dir) < 0 ? -errno : TAKE_FD(fd);
	}
}

static int read_text(struct writer_mark *m)
{
	ssize_t n = pread(m->fd, m->text, sizeof(m->text) - 1, 0);

	if (n < 0)
		return -errno;
	m->text[n] = '\0';
	m->text[strcspn(m->text, "\n")] = '\0';
	/* Killed between the bytes and their end: something was about to be frozen. */
	if (n > 0 && !m->text[0])
		strcpy(m->text, "?");
	return 0;
}

static void file_name(const char *kind, const char *key, char *buf, size_t size)
{
	char class_id[UUID_STR_LEN], text[UUID_STR_LEN];
	uuid_t space, id;

	writer_class_id(kind, class_id);
	uuid_parse(class_id, space);
	uuid_generate_sha1(id, space, key, strlen(key));
	uuid_unparse_lower(id, text);
	snprintf(buf, size, "%.64s-%s", kind, text);
}

int writer_mark_open(const struct writer_program *p, const char *key, struct writer_mark **ret)
{
	CLEANUP(writer_mark_close_p) struct writer_mark *m = calloc(1, sizeof(*m));
	char path[PATH_MAX] = "";
	int r;

	if (!m)
		return tool_no_memory();
	m->dir = m->fd = -1;
	file_name(p->kind, key, m->name, sizeof(m->name));
	r = dir_path(p, path, sizeof(path));
	if (r == 0)
		r = make_dirs(path);
	if (r == 0)
		r = m->dir = open_dir(path);
	if (r == -EPERM)
		return tool_error("%s must be mine and writable by nobody else (try --state DIR)",
				  LOG_QUOTE(path));
	if (r >= 0)
		r = m->fd = open_locked(m->dir, m->name);
	if (r == -EWOULDBLOCK)
		return tool_error("another umbra writer %s for %s is running", p->kind,
				  LOG_QUOTE(key));
	if (r >= 0) {
		strcpy(m->text, "?"); /* until it was read: what cannot be read may say frozen */
		r = read_text(m);
	}
	if (r < 0)
		return tool_error("cannot keep notes in %s: %s (try --state DIR)", LOG_QUOTE(path),
				  err_text(r));
	*ret = TAKE(m);
	return 0;
}

const char *writer_mark_left(const struct writer_mark *m)
{
	return m->text[0] ? m->text : NULL;
}

int writer_mark_set(struct writer_mark *m, const char *text)
{
	char line[sizeof(m->text) + 1];
	size_t len = (size_t)snprintf(line, sizeof(line), "%.254s\n", text);
	ssize_t n = pwrite(m->fd, line, len, 0);

	/* Set at once, even when it fails now: part of it may be in the file. */
	snprintf(m->text, sizeof(m->text), "%.254s", text);
	if (n < 0)
		return -errno;
	if ((size_t)n != len)
		return -ENOSPC;
	if (ftruncate(m->fd, (off_t)len) < 0 || fsync(m->fd) < 0)
		return -errno;
	return 0;
}

int writer_mark_clear(struct writer_mark *m)
{
	if (!m->text[0])
		return 0;
	if (ftruncate(m->fd, 0) < 0 || fsync(m->fd) < 0)
		return -errno;
	m->text[0] = '\0';
	return 0;
}

void writer_mark_close(struct writer_mark *m)
{
	if (!m)
		return;
	if (m->fd >= 0 && !m->text[0])
		(void)unlinkat(m->dir, m->name, 0); /* still locked: nobody else's */
	close_p(&m->fd);
	close_p(&m->dir);
	free(m);
}
