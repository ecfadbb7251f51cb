/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cow/note.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "cow/base/cleanup.h"
#include "cow/file.h"
#include "cow/store_private.h"

enum { NAME_SIZE = 80 };

/* What a crash left of a writing lies under a name that the next one overwrites. */
static int write_new(struct cow_store *st, const char *path, const void *bytes, size_t len)
{
	CLEANUP(close_p)
	int fd = cow_file_openat(st->store_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW,
				 0600);
	int r;

	if (fd < 0)
		return fd;
	r = cow_file_pwrite_all(fd, bytes, len, 0);
	return r < 0 ? r : cow_file_fsync(fd);
}

static int remove_note(struct cow_store *st, const char *path)
{
	int r = cow_file_unlinkat(st->store_fd, path, 0);

	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : cow_file_fsync(st->store_fd);
}

int cow_note_write(struct cow_store *st, const char *name, const void *bytes, size_t len)
{
	char path[NAME_SIZE], fresh[NAME_SIZE];
	int r;

	if (len > COW_NOTE_MAX)
		return -E2BIG;
	snprintf(path, sizeof(path), "%.64s.note", name);
	snprintf(fresh, sizeof(fresh), "%.64s.new", name);
	if (len == 0)
		return remove_note(st, path);
	r = write_new(st, fresh, bytes, len);
	if (r == 0)
		r = cow_file_renameat(st->store_fd, fresh, st->store_fd, path, 0);
	if (r < 0) {
		cow_file_unlinkat(st->store_fd, fresh, 0);
		return r;
	}
	return cow_file_fsync(st->store_fd);
}

int cow_note_read(struct cow_store *st, const char *name, char **ret, size_t *ret_len)
{
	CLEANUP(close_p) int fd = -1;
	CLEANUP(free_p) char *text = NULL;
	char path[NAME_SIZE];
	struct statx sx;
	ssize_t n;
	int r;

	snprintf(path, sizeof(path), "%.64s.note", name);
	fd = cow_file_openat(st->store_fd, path, O_RDONLY | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	r = cow_file_statx(fd, "", &sx);
	if (r < 0)
		return r;
	if (sx.stx_size > COW_NOTE_MAX)
		return -EUCLEAN;
	text = malloc(sx.stx_size + 1);
	if (!text)
		return -ENOMEM;
	n = cow_file_pread(fd, text, sx.stx_size, 0);
	if (n < 0)
		return (int)n;
	text[n] = '\0';
	*ret = TAKE(text);
	*ret_len = (size_t)n;
	return 0;
}
