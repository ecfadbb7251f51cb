/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the steps of a revert share: telling how it goes, one pass of the gate, finding inodes, reading directories. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/base/log.h"
#include "cow/epoch.h"
#include "cow/file.h"
#include "cow/gate.h"
#include "cow/revert_private.h"

/* ---- telling ---- */

void revert_set_state(struct cow_store *st, enum cow_revert_state state, const struct epoch *e)
{
	ulock_lock(&st->revert_lock);
	st->revert.state = state;
	if (e) {
		st->revert.epoch = e->id;
		memcpy(st->revert.id, e->snap.id, sizeof(st->revert.id));
	}
	ulock_unlock(&st->revert_lock);
}

void revert_count_step(struct cow_store *st)
{
	ulock_lock(&st->revert_lock);
	st->revert.done++;
	ulock_unlock(&st->revert_lock);
}

void revert_path_of(struct cow_store *st, int fd, const char *name, char *buf, size_t size)
{
	char link[32], root[PATH_MAX], path[PATH_MAX];
	const char *p = path;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", st->below_fd);
	n = cow_file_readlinkat(AT_FDCWD, link, root, sizeof(root));
	if (n < 0)
		root[0] = '\0';
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (cow_file_readlinkat(AT_FDCWD, link, path, sizeof(path)) < 0)
		path[0] = '\0';
	n = (ssize_t)strlen(root);
	if (n > 1 && strncmp(path, root, (size_t)n) == 0 && (path[n] == '/' || !path[n]))
		p += path[n] ? n + 1 : n;
	snprintf(buf, size, "%s%s%s", p, *p && *name ? "/" : "", name);
	if (!*buf)
		snprintf(buf, size, "the top directory");
}

const char *revert_reason(int r)
{
	return r == -ESTALE ? "changed while it was not protected" : strerror(-r);
}

int revert_failed(struct revert_job *j, int fd, const char *name, int r)
{
	char path[COW_REVERT_WHY_MAX - 100];
	struct cow_store *st = j->st;

	if (r == -ECANCELED)
		return r;
	revert_path_of(st, fd, name, path, sizeof(path));
	log_debug("revert: %s: %s", LOG_QUOTE(path), strerror(-r));
	ulock_lock(&st->revert_lock);
	if (st->revert.failures++ == 0) {
		st->revert.error = r;
		snprintf(st->revert.why, sizeof(st->revert.why), "%s: %s", path, revert_reason(r));
	}
	ulock_unlock(&st->revert_lock);
	return 1;
}

/* ---- one pass of the gate ---- */

int revert_enter(struct revert_job *j)
{
	if (atomic_load(&j->st->revert_stop))
		return -ECANCELED;
	gate_enter_wait(j->st);
	return 0;
}

void revert_leave(struct revert_job *j)
{
	cow_gate_leave(j->st);
}

bool revert_made_room(struct revert_job *j, int r)
{
	return (r == -ENOSPC || r == -EDQUOT) && epoch_drop_oldest(j->st, COW_DROP_FULL);
}

int revert_save(struct revert_job *j, uint64_t ino, int fd)
{
	struct cow_inode *ci = cow_inode_get(j->st, ino);
	int r = ci ? preserve_attr(j->st, ci, fd) : -ENOMEM;

	cow_inode_put(j->st, ci);
	return r;
}

bool revert_born(struct revert_job *j, uint64_t ino)
{
	return touched_born(j->st, ino, j->epoch);
}

bool revert_let_in(struct revert_job *j, int fd)
{
	struct statx sx;

	if (cow_file_statx(fd, "", &sx) < 0 || sx.stx_uid != geteuid() ||
	    (sx.stx_mode & 0700) == 0700 || S_ISLNK(sx.stx_mode))
		return false;
	if (revert_save(j, sx.stx_ino, fd) < 0 ||
	    touched_room(&j->opened, j->n_opened, sizeof(*j->opened)) < 0 ||
	    cow_file_chmod(fd, (sx.stx_mode & 07777) | 0700) < 0)
		return false;
	j->opened[j->n_opened++] = sx.stx_ino;
	return true;
}

/* ---- where an inode is ---- */

struct seek {
	struct revert_job *j;
	uint64_t ino;
	int fd;
};

static int try_name(void *arg, const void *key, size_t key_len, const void *val, size_t val_len)
{
	CLEANUP(close_p) int dir_fd = -1;
	CLEANUP(close_p) int fd = -1;
	struct seek *s = arg;
	char name[COW_NAME_MAX_LEN + 1];
	const char *n;
	size_t name_len;
	uint64_t target, dir, label;
	struct statx sx;
	int r;

	(void)val;
	(void)val_len;
	r = cow_key_get_back(key, key_len, &target, &dir, &n, &name_len, &label);
	if (r < 0)
		return r;
	if (label < s->j->epoch)
		return 0;
	memcpy(name, n, name_len);
	name[name_len] = '\0';
	dir_fd = place_open(s->j->st, dir);
	fd = dir_fd < 0 ? dir_fd : cow_file_openat(dir_fd, name, O_PATH | O_NOFOLLOW, 0);
	if (fd < 0 || cow_file_statx(fd, "", &sx) < 0 || sx.stx_ino != s->ino ||
	    !stat_is_ours(s->j->st, &sx))
		return 0;
	s->fd = TAKE_FD(fd);
	return 1;
}

int revert_open_inode(struct revert_job *j, uint64_t ino)
{
	struct seek s = { .j = j, .ino = ino, .fd = -1 };
	uint8_t key[COW_KEY_MAX];
	int fd = place_open(j->st, ino), r;

	if (fd != -ENOENT)
		return fd;
	r = cow_index_scan(j->st->index, key, cow_key_back_prefix(key, ino), NULL, 0, try_name, &s);
	return r == 1 ? s.fd : r < 0 ? r : -ENOENT;
}

/* ---- what is in a directory ---- */

void revert_names_done(struct revert_names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->names[i]);
	free(l->names);
}

int revert_names_read(int dir_fd, struct revert_names *ret)
{
	CLEANUP(closedir_p) DIR *d = NULL;
	const struct dirent *e;
	int fd = cow_file_reopen(dir_fd, O_RDONLY | O_DIRECTORY | O_NOATIME), r;

	if (fd == -EPERM)
		fd = cow_file_reopen(dir_fd, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	while (errno = 0, (e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		r = touched_room(&ret->names, ret->n, sizeof(*ret->names));
		if (r < 0)
			return r;
		ret->names[ret->n] = strdup(e->d_name);
		if (!ret->names[ret->n++])
			return -ENOMEM;
	}
	return -errno;
}

/* Only of one that lets us see what its names stand for, too. */
static int names_read_all(int fd, struct revert_names *ret)
{
	struct statx sx;
	int r = cow_file_statx(fd, ".", &sx);

	return r < 0 ? r : revert_names_read(fd, ret);
}

int revert_names_read_own(struct revert_job *j, int fd, struct revert_names *ret)
{
	int r = names_read_all(fd, ret), e;

	if (r != -EACCES)
		return r;
	e = revert_enter(j);
	if (e < 0)
		return e;
	e = revert_let_in(j, fd);
	revert_leave(j);
	return e ? names_read_all(fd, ret) : r;
}
