/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The log: per epoch `log/<id>.log` with its records and `data/<id>.dat` with the clusters they point at, and one
 * `control.log` that says which epochs there are. Records are small and dense, payload is aligned and apart: giving the
 * space of an epoch back reads the one and only unlinks or punches the other.
 *
 * What a returning append wrote, kill -9 cannot take back: it is in the page cache. A record whose append was cut off
 * fails its checksum and ends the log; whoever wrote it had not gone on to change anything (I-3). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/base/log.h"
#include "cow/file.h"
#include "cow/store_private.h"

#define READ_CHUNK (4 * COW_REC_MAX)

enum { PATH_SIZE = 40 };

static void log_path(char buf[PATH_SIZE], uint64_t id)
{
	snprintf(buf, PATH_SIZE, "log/%016llx.log", (unsigned long long)id);
}

static void dat_path(char buf[PATH_SIZE], uint64_t id)
{
	snprintf(buf, PATH_SIZE, "data/%016llx.dat", (unsigned long long)id);
}

static int sync_dir(struct cow_store *st, const char *name)
{
	CLEANUP(close_p) int fd = cow_file_openat(st->store_fd, name, O_RDONLY | O_DIRECTORY, 0);

	return fd < 0 ? fd : cow_file_fsync(fd);
}

/* The record of the opening may get to disk alone (btrfs, f2fs), and an epoch without its log is taken for one that was given
 * up, with all older ones: so its files are there, by name, before anything can be opened with them. */
static int sync_new(struct cow_store *st, int log_fd, int dat_fd)
{
	int r = cow_file_fsync(log_fd);

	if (r == 0)
		r = cow_file_fsync(dat_fd);
	if (r == 0)
		r = sync_dir(st, "log");
	return r < 0 ? r : sync_dir(st, "data");
}

int epochfile_create(struct cow_store *st, struct epoch *e)
{
	CLEANUP(close_p) int log_fd = -1;
	CLEANUP(close_p) int dat_fd = -1;
	char path[PATH_SIZE];
	int r;

	/* O_TRUNC: what a crash left under a number that was never used */
	dat_path(path, e->id);
	dat_fd = cow_file_openat(st->store_fd, path, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
	if (dat_fd < 0)
		return dat_fd;
	log_path(path, e->id);
	log_fd = cow_file_openat(st->store_fd, path, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
	r = log_fd < 0 ? log_fd : sync_new(st, log_fd, dat_fd);
	if (r < 0) {
		epochfile_unlink_log(st, e->id);
		epochfile_unlink_dat(st, e->id);
		return r;
	}
	e->log_fd = TAKE_FD(log_fd);
	e->dat_fd = TAKE_FD(dat_fd);
	return 0;
}

int epochfile_open(struct cow_store *st, struct epoch *e)
{
	struct statx sx;
	char path[PATH_SIZE];
	int fd, r;

	log_path(path, e->id);
	fd = cow_file_openat(st->store_fd, path, O_RDWR | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	e->log_fd = fd;
	dat_path(path, e->id);
	fd = cow_file_openat(st->store_fd, path, O_RDWR | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	e->dat_fd = fd;
	r = cow_file_statx(fd, "", &sx);
	if (r < 0)
		return r;
	/* behind everything: also behind payload whose record never came */
	atomic_store(&e->dat_end,
		     (sx.stx_size + COW_CLUSTER_SIZE - 1) / COW_CLUSTER_SIZE * COW_CLUSTER_SIZE);
	return 0;
}

int epochfile_sync(const struct epoch *e)
{
	int r = e->log_fd < 0 ? 0 : cow_file_fdatasync(e->log_fd);

	if (r == 0 && e->dat_fd >= 0)
		r = cow_file_fdatasync(e->dat_fd);
	for (size_t i = 0; r == 0 && i < e->n_heirlooms; i++)
		if (e->heirlooms[i].fd >= 0)
			r = cow_file_fdatasync(e->heirlooms[i].fd);
	return r;
}

void epochfile_close(struct epoch *e)
{
	close_p(&e->log_fd);
	close_p(&e->dat_fd);
	e->log_fd = e->dat_fd = -1;
	for (size_t i = 0; i < e->n_heirlooms; i++)
		close_p(&e->heirlooms[i].fd);
	free(e->heirlooms);
	e->heirlooms = NULL;
	e->n_heirlooms = 0;
}

int epochfile_append(struct cow_store *st, struct epoch *e, const uint8_t *recs, size_t len)
{
	int r;

	(void)st;
	ulock_lock(&e->log_lock);
	r = cow_file_pwrite_all(e->log_fd, recs, len, (off_t)e->log_end);
	if (r == 0)
		e->log_end +=
			len; /* a failed append is overwritten by the next: the log has no holes */
	ulock_unlock(&e->log_lock);
	return r;
}

int epochfile_control(struct cow_store *st, enum cow_rec_kind kind, const struct cow_control *c)
{
	CLEANUP(free_p) uint8_t *buf = malloc(COW_REC_MAX);
	ssize_t len;
	int r;

	if (!buf)
		return -ENOMEM;
	len = cow_format_control(buf, st->seed, kind, c);
	if (len < 0)
		return (int)len;
	ulock_lock(&st->control_lock);
	r = cow_file_pwrite_all(st->control_fd, buf, (size_t)len, (off_t)st->control_end);
	if (r == 0)
		st->control_end += (uint64_t)len;
	ulock_unlock(&st->control_lock);
	return r;
}

/* Visit the records of a log from `from` on; stops before the first that is cut off or damaged. */
int epochfile_each(struct cow_store *st, int fd, uint64_t from,
		   int (*each)(void *ud, const struct cow_rec *r, uint64_t at), void *ud,
		   uint64_t *ret_end)
{
	CLEANUP(free_p) uint8_t *buf = malloc(READ_CHUNK);
	struct cow_rec rec;
	size_t have, used;
	ssize_t n;
	int r;

	if (!buf)
		return -ENOMEM;
	for (;;) {
		n = cow_file_pread(fd, buf, READ_CHUNK, (off_t)from);
		if (n < 0)
			return (int)n;
		have = (size_t)n;
		used = 0;
		while ((n = cow_format_parse(buf + used, have - used, st->seed, &rec)) > 0) {
			r = each(ud, &rec, from + used);
			if (r != 0)
				return r;
			used += (size_t)n;
		}
		from += used;
		if (n < 0 || used == 0)
			break;
	}
	*ret_end = from;
	return 0;
}

int epochfile_unlink_log(struct cow_store *st, uint64_t id)
{
	char path[PATH_SIZE];

	log_path(path, id);
	return cow_file_unlinkat(st->store_fd, path, 0);
}

void epochfile_unlink_dat(struct cow_store *st, uint64_t id)
{
	char path[PATH_SIZE];

	dat_path(path, id);
	cow_file_unlinkat(st->store_fd, path, 0);
}

int epochfile_dat_fd(struct cow_store *st, struct epoch *e, uint64_t dat)
{
	int fd = -ENOENT;

	if (dat == e->id)
		return e->dat_fd >= 0 ? e->dat_fd : -ENOENT;
	ulock_lock(&st->epochs_lock);
	for (size_t i = 0; i < e->n_heirlooms; i++)
		if (e->heirlooms[i].dat == dat)
			fd = e->heirlooms[i].fd;
	ulock_unlock(&st->epochs_lock);
	return fd;
}
