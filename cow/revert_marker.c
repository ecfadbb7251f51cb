/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The marker: a file of the store that says which revert is not finished, and whether it was cut off or stopped. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "cow/base/cleanup.h"
#include "cow/base/log.h"
#include "cow/file.h"
#include "cow/revert_private.h"

#define MARKER "revert"
#define MARKER_FIRST "umbra-revert 1"
#define MARKER_CUT_OFF "running" /* as long as the other, to be replaced in place */
#define MARKER_STOPPED "stopped"

static int marker_text(const struct epoch *e, const char *how, char *buf, size_t size)
{
	return snprintf(buf, size, MARKER_FIRST "\nepoch: %llu\nsnapshot: %s\nstate: %s\n",
			(unsigned long long)e->id, e->snap.id, how);
}

/* On failure there is none, unless there was one before: it would revert at the next start what was refused now. */
int revert_write_marker(struct cow_store *st, const struct epoch *e, bool again)
{
	CLEANUP(close_p) int fd = -1;
	char text[160];
	int len = marker_text(e, MARKER_CUT_OFF, text, sizeof(text)), r;

	fd = cow_file_openat(st->store_fd, MARKER ".new", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW,
			     0600);
	if (fd < 0)
		return fd;
	r = cow_file_pwrite_all(fd, text, (size_t)len, 0);
	if (r == 0)
		r = cow_file_fsync(fd);
	if (r == 0)
		r = cow_file_renameat(st->store_fd, MARKER ".new", st->store_fd, MARKER, 0);
	if (r < 0) {
		cow_file_unlinkat(st->store_fd, MARKER ".new", 0);
		return r;
	}
	r = cow_file_fsync(st->store_fd);
	if (r < 0 && !again)
		cow_file_unlinkat(st->store_fd, MARKER, 0);
	return r;
}

/* It ended with failures, and the tree is in use again: it goes on when somebody says so, not by itself at a start, which
 * would take away what was done meanwhile. In place, since a full disk may be the cause; but for one that was just removed, which
 * did not get to disk. */
void revert_mark_stopped(struct cow_store *st, const struct epoch *e)
{
	CLEANUP(close_p)
	int fd = cow_file_openat(st->store_fd, MARKER, O_WRONLY | O_CREAT | O_NOFOLLOW, 0600);
	char text[160];
	int len = marker_text(e, MARKER_STOPPED, text, sizeof(text));
	int r = fd < 0 ? fd : cow_file_pwrite_all(fd, text, (size_t)len, 0);

	if (r == 0)
		r = cow_file_fsync(fd);
	if (r < 0)
		log_error("the unfinished revert goes on at the next start, since that it "
			  "stopped cannot be written down: %s",
			  strerror(-r));
}

int revert_remove_marker(struct cow_store *st)
{
	int r = cow_file_unlinkat(st->store_fd, MARKER, 0);

	if (r < 0 && r != -ENOENT)
		return r;
	return cow_file_fsync(st->store_fd);
}

/* 0 and the epoch, -ENOENT, or -EUCLEAN. */
static int read_marker(struct cow_store *st, uint64_t *ret, bool *ret_stopped)
{
	CLEANUP(close_p) int fd = cow_file_openat(st->store_fd, MARKER, O_RDONLY | O_NOFOLLOW, 0);
	unsigned long long epoch;
	char text[160];
	ssize_t n;

	if (fd < 0)
		return fd;
	n = cow_file_pread(fd, text, sizeof(text) - 1, 0);
	if (n < 0)
		return (int)n;
	text[n] = '\0';
	if (sscanf(text, MARKER_FIRST "\nepoch: %llu\n", &epoch) != 1)
		return -EUCLEAN;
	*ret = epoch;
	*ret_stopped = strstr(text, "\nstate: " MARKER_STOPPED "\n");
	return 0;
}

bool revert_marked(struct cow_store *st)
{
	struct statx sx;

	return cow_file_statx(st->store_fd, MARKER, &sx) == 0;
}

int revert_load(struct cow_store *st)
{
	uint64_t epoch = 0;
	bool stopped = false;
	struct epoch *e;
	int r = read_marker(st, &epoch, &stopped);

	if (r == -ENOENT)
		return 0;
	if (r < 0 && r != -EUCLEAN)
		return r;
	e = r == 0 ? epoch_get(st, epoch) : NULL;
	if (!e) { /* its snapshot went, or nobody can tell which it was */
		revert_set_state(st, COW_REVERT_LOST, NULL);
		return revert_remove_marker(st);
	}
	atomic_store(&st->revert_epoch, epoch);
	st->revert_cut_off = !stopped;
	revert_set_state(st, COW_REVERT_STOPPED, e);
	epoch_unref(e);
	return 0;
}

void revert_dropped(struct cow_store *st, uint64_t epoch)
{
	int r;

	if (atomic_load(&st->reverting) || atomic_load(&st->revert_epoch) != epoch)
		return;
	atomic_store(&st->revert_epoch, 0);
	r = revert_remove_marker(st);
	if (r < 0)
		log_error("the mark of a given up revert could not be removed: %s", strerror(-r));
	revert_set_state(st, COW_REVERT_LOST, NULL);
}

uint64_t revert_pinned(struct cow_store *st)
{
	return atomic_load(&st->reverting) ? atomic_load(&st->revert_epoch) : 0;
}
