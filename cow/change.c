/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Each change is: preserve (once, and again when room had to be made), then one call below. Nothing that follows the
 * saving may fail for the store's sake, except moving a removed thing into the graveyard: where that is impossible the
 * snapshots go, not the change (I-5). */
#include "cow/change.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/base/clock.h"
#include "cow/base/log.h"
#include "cow/file.h"
#include "cow/gate.h"
#include "cow/store_private.h"

#define COPY_AT_ONCE (8u << 20) /* bytes */

/* What a snapshot that was given up for room held in the graveyard comes back a moment later, by the reclaimer: wait for that
 * before another goes. */
struct patience {
	bool may_leave;	   /* the change may be turned away with -EAGAIN (LONG) */
	bool waited;	   /* since the last one was given up */
	unsigned settled;  /* as it was before the try */
	uint64_t until_ns; /* for all of one change; 0: did not wait yet */
};

static void before_try(struct cow_store *st, struct patience *p)
{
	p->settled = atomic_load(&st->settled);
}

/* As preserve_settle(), but patient. `r`: of what was tried after before_try(). */
static int settle(struct cow_store *st, int r, struct patience *p)
{
	if (r == -ENOSPC || r == -EDQUOT) {
		if (atomic_load(&st->settled) != p->settled)
			return 1;
		if (!p->until_ns)
			p->until_ns = clock_deadline_ms(st->room_wait_ms);
		if (!p->waited && reclaim_wait(st, p->until_ns)) {
			p->waited = true;
			return p->may_leave && cow_gate_closing(st) ? -EAGAIN : 1;
		}
	}
	r = preserve_settle(st, r);
	if (r == 1)
		p->waited = false;
	return r;
}

#define PRESERVE_UNTIL(st, call, long_)                                                            \
	do {                                                                                       \
		struct patience patience_ = { .may_leave = (long_) };                              \
		int preserved_;                                                                    \
                                                                                                   \
		do {                                                                               \
			before_try((st), &patience_);                                              \
			preserved_ = settle((st), (call), &patience_);                             \
		} while (preserved_ == 1);                                                         \
		if (preserved_ < 0)                                                                \
			return preserved_;                                                         \
	} while (0)

/* Save with `call` until it is done, room is made, or nothing is left to save for; return from here what fails the change. */
#define PRESERVE(st, call) PRESERVE_UNTIL(st, call, false)
/* The same for a change that is LONG: return -EAGAIN from here. */
#define PRESERVE_LONG(st, call) PRESERVE_UNTIL(st, call, true)

static bool recording(struct cow_store *st)
{
	return epoch_newest(st) != NULL;
}

/* A change that finds the disk full below: what a snapshot holds may be why. Give one up and try once more, but only if that
 * can help: not for a quota, which is not the store's, and not for more than the oldest one would give back. Otherwise any
 * user could do away with all snapshots by asking for too much. */
static bool room_helps(struct cow_store *st, uint64_t need_bytes)
{
	struct statvfs vfs;
	uint64_t free_bytes, held;

	if (!recording(st) || fstatvfs(st->below_fd, &vfs) < 0)
		return false;
	free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	held = epoch_oldest_bytes(st);
	return need_bytes > free_bytes && held > 0 && need_bytes <= free_bytes + held &&
	       epoch_drop_oldest(st, COW_DROP_FULL);
}

#define APPLY(st, need_bytes, call)                                                                \
	__extension__({                                                                            \
		__typeof__(call) applied_ = (call);                                                \
                                                                                                   \
		if (applied_ == -ENOSPC && room_helps((st), (need_bytes)))                         \
			applied_ = (call);                                                         \
		applied_;                                                                          \
	})

/* ---- content ---- */

ssize_t cow_write(struct cow_store *st, struct cow_inode *ci, int fd, const void *buf,
		  size_t len_bytes, off_t off)
{
	PRESERVE_LONG(st, preserve_data(st, ci, fd, off, (off_t)len_bytes));
	return APPLY(st, len_bytes, cow_file_pwrite(fd, buf, len_bytes, off));
}

ssize_t cow_copy_range(struct cow_store *st, int in_fd, off_t in_off, struct cow_inode *out,
		       int out_fd, off_t out_off, size_t len_bytes)
{
	/* A copy may be short, and must be: a hold waits for it. */
	if (len_bytes > COPY_AT_ONCE)
		len_bytes = COPY_AT_ONCE;
	PRESERVE_LONG(st, preserve_data(st, out, out_fd, out_off, (off_t)len_bytes));
	return APPLY(st, len_bytes, cow_file_copy_range(in_fd, in_off, out_fd, out_off, len_bytes));
}

/* From `from` to the end of the file, whatever that is. */
static int preserve_from(struct cow_store *st, struct cow_inode *ci, int fd, off_t from)
{
	return preserve_data(st, ci, fd, from, INT64_MAX - from);
}

int cow_truncate(struct cow_store *st, struct cow_inode *ci, int fd, off_t size_bytes)
{
	if (size_bytes < 0)
		return -EINVAL;
	PRESERVE_LONG(st, preserve_from(st, ci, fd, size_bytes));
	return cow_file_truncate(fd, size_bytes);
}

int cow_fallocate(struct cow_store *st, struct cow_inode *ci, int fd, int mode, off_t off,
		  off_t len_bytes)
{
	if (off < 0 || len_bytes <= 0)
		return -EINVAL;
	if (mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE))
		PRESERVE_LONG(st, preserve_from(st, ci, fd, off));
	else if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		PRESERVE_LONG(st, preserve_data(st, ci, fd, off, len_bytes));
	else
		PRESERVE(st, preserve_attr(st, ci, fd));
	return APPLY(st, (uint64_t)len_bytes, cow_file_fallocate(fd, mode, off, len_bytes));
}

/* ---- attributes ---- */

int cow_chmod(struct cow_store *st, struct cow_inode *ci, int fd, mode_t mode)
{
	PRESERVE(st, preserve_attr(st, ci, fd));
	return cow_file_chmod(fd, mode);
}

int cow_chown(struct cow_store *st, struct cow_inode *ci, int fd, uid_t uid, gid_t gid)
{
	PRESERVE(st, preserve_attr(st, ci, fd));
	return cow_file_chown(fd, uid, gid);
}

int cow_utimens(struct cow_store *st, struct cow_inode *ci, int fd, const struct timespec tv[2])
{
	PRESERVE(st, preserve_attr(st, ci, fd));
	return cow_file_utimens(fd, tv);
}

int cow_setxattr(struct cow_store *st, struct cow_inode *ci, int fd, const char *name,
		 const void *value, size_t len_bytes, int flags)
{
	PRESERVE(st, preserve_attr(st, ci, fd));
	return cow_file_setxattr(fd, name, value, len_bytes, flags);
}

int cow_removexattr(struct cow_store *st, struct cow_inode *ci, int fd, const char *name)
{
	PRESERVE(st, preserve_attr(st, ci, fd));
	return cow_file_removexattr(fd, name);
}

int cow_ioctl(struct cow_store *st, struct cow_inode *ci, int fd, unsigned long cmd, void *arg)
{
	PRESERVE(st, preserve_attr(st, ci, fd));
	return cow_file_ioctl(fd, cmd, arg);
}

/* ---- new names ---- */

/* A number below was given to something new: no snapshot that lives sees it. */
static void born(struct cow_store *st, const struct statx *sx)
{
	struct cow_inode *ci;

	if (!recording(st) || !stat_is_ours(st, sx))
		return;
	ci = cow_inode_get(st, sx->stx_ino);
	if (!ci)
		return; /* it is preserved needlessly, no more */
	preserve_born(st, ci);
	cow_inode_put(st, ci);
}

static void born_at(struct cow_store *st, int dir_fd, const char *name)
{
	struct statx sx;

	if (recording(st) && cow_file_statx(dir_fd, name, &sx) == 0)
		born(st, &sx);
}

static int spot_set(struct cow_spot *s, struct cow_dir dir, const char *name)
{
	s->parent = dir.inode ? cow_inode_number(dir.inode) : 0;
	if (strlen(name) >= sizeof(s->name))
		return -ENAMETOOLONG;
	strcpy(s->name, name);
	return 0;
}

/* What lives below a directory is found by way of its place, and its number may have been that of another: the place of
 * that one must not be taken for its own. Without the record a snapshot may miss what is moved in here (-ESTALE). */
static void place_newborn(struct cow_store *st, struct cow_dir dir, const char *name)
{
	struct epoch *e = epoch_newest(st);
	struct cow_spot now;
	struct statx sx;

	if (!e || cow_file_statx(dir.fd, name, &sx) < 0 || !stat_is_ours(st, &sx))
		return;
	if (spot_set(&now, dir, name) == 0 && place_moved(st, e, sx.stx_ino, &now, NULL) < 0)
		log_debug("place of inode %llu not recorded", (unsigned long long)sx.stx_ino);
}

int cow_create(struct cow_store *st, struct cow_dir dir, const char *name, int flags, mode_t mode)
{
	int fd;

	PRESERVE(st, preserve_name(st, dir.inode, dir.fd, name));
	fd = cow_file_openat(dir.fd, name, flags | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
	if (fd >= 0 && dir.inode)
		born_at(st, fd, "");
	return fd;
}

int cow_tmpfile(struct cow_store *st, struct cow_dir dir, int flags, mode_t mode)
{
	int fd = cow_file_openat(dir.fd, ".", flags | O_TMPFILE, mode);

	if (fd >= 0 && dir.inode)
		born_at(st, fd, "");
	return fd;
}

int cow_mknod(struct cow_store *st, struct cow_dir dir, const char *name, mode_t mode, dev_t rdev)
{
	int r;

	PRESERVE(st, preserve_name(st, dir.inode, dir.fd, name));
	r = cow_file_mknodat(dir.fd, name, mode, rdev);
	if (r == 0 && dir.inode)
		born_at(st, dir.fd, name);
	return r;
}

int cow_mkdir(struct cow_store *st, struct cow_dir dir, const char *name, mode_t mode)
{
	int r;

	PRESERVE(st, preserve_name(st, dir.inode, dir.fd, name));
	r = cow_file_mkdirat(dir.fd, name, mode);
	if (r == 0 && dir.inode) {
		born_at(st, dir.fd, name);
		place_newborn(st, dir, name);
	}
	return r;
}

int cow_symlink(struct cow_store *st, struct cow_dir dir, const char *name, const char *target)
{
	int r;

	PRESERVE(st, preserve_name(st, dir.inode, dir.fd, name));
	r = cow_file_symlinkat(target, dir.fd, name);
	if (r == 0 && dir.inode)
		born_at(st, dir.fd, name);
	return r;
}

int cow_link(struct cow_store *st, struct cow_inode *ci, int fd, struct cow_dir dir,
	     const char *name)
{
	PRESERVE(st, preserve_attr(st, ci, fd)); /* link count and ctime */
	PRESERVE(st, preserve_name(st, dir.inode, dir.fd, name));
	return cow_file_link_fd(fd, dir.fd, name);
}

/* ---- names that go ---- */

/* What a name stands for while it is taken away. */
struct victim {
	struct statx sx;
	struct cow_inode *ci; /* NULL: nothing there, or no part of a snapshot */
	bool seen;	      /* by a live snapshot: it must go on existing */
};

static void victim_done(struct victim *v, struct cow_store *st)
{
	cow_inode_put(st, v->ci);
	v->ci = NULL;
}

/* Save the attributes of what `name` stands for and find out whether a snapshot sees it. */
static int preserve_victim(struct cow_store *st, struct cow_dir dir, const char *name,
			   struct victim *v)
{
	CLEANUP(close_p) int fd = -1;
	bool is_born;
	int r;

	v->seen = false;
	if (!dir.inode || !recording(st))
		return 0;
	fd = cow_file_openat(dir.fd, name, O_PATH | O_NOFOLLOW, 0);
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	r = cow_file_statx(fd, "", &v->sx);
	if (r < 0 || !stat_is_ours(st, &v->sx))
		return r;
	if (!v->ci)
		v->ci = cow_inode_get(st, v->sx.stx_ino);
	if (!v->ci)
		return -ENOMEM;
	r = preserve_attr(st, v->ci, fd);
	if (r < 0)
		return r;
	r = preserve_is_born(st, v->ci, &is_born);
	v->seen = r == 0 && !is_born;
	return r;
}

/* One PRESERVE for a name that goes: itself and what it stands for. */
static int preserve_removal(struct cow_store *st, struct cow_dir dir, const char *name,
			    struct victim *v)
{
	int r = preserve_name(st, dir.inode, dir.fd, name);

	return r < 0 ? r : preserve_victim(st, dir, name, v);
}

static int is_empty(int dir_fd, const char *name)
{
	CLEANUP(closedir_p) DIR *d = NULL;
	const struct dirent *e;
	int fd = cow_file_openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

	if (fd == -EACCES)
		return -EACCES;
	if (fd < 0)
		return fd;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			return 0;
	return 1;
}

/* An owner may remove or replace a directory that he may neither read nor write, but not look into it or move it elsewhere:
 * let him, for this one call. Returns a descriptor of it, to be handed to shut_out() where it stays after all. */
static int let_in(int dir_fd, const char *name, const struct statx *sx)
{
	CLEANUP(close_p) int fd = -1;
	int r;

	fd = cow_file_openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_DIRECTORY, 0);
	r = fd < 0 ? fd : cow_file_chmod(fd, (sx->stx_mode & 07777) | 0700);
	return r < 0 ? r : TAKE_FD(fd);
}

static void shut_out(int fd, const struct statx *sx)
{
	cow_file_chmod(fd, sx->stx_mode & 07777);
}

/* The same for a directory that may not be read; -EACCES: not even by its owner, or it is another's. */
static int is_empty_dir(int dir_fd, const char *name, const struct statx *sx)
{
	CLEANUP(close_p) int fd = -1;
	int r = is_empty(dir_fd, name);

	if (r != -EACCES)
		return r;
	fd = let_in(dir_fd, name, sx);
	if (fd < 0)
		return -EACCES;
	r = is_empty(dir_fd, name);
	shut_out(fd, sx);
	return r;
}

static int move_to_grave(struct cow_store *st, int dir_fd, const char *name, uint64_t ino)
{
	char grave[24];

	grave_name(grave, ino);
	atomic_store(&st->grave_used, true); /* first: a view must not miss it */
	return cow_file_renameat(dir_fd, name, st->grave_fd, grave, RENAME_NOREPLACE);
}

static int move_dir_to_grave(struct cow_store *st, int dir_fd, const char *name,
			     const struct statx *sx)
{
	CLEANUP(close_p) int fd = -1;
	int r = move_to_grave(st, dir_fd, name, sx->stx_ino);

	if (r != -EACCES && r != -EPERM)
		return r;
	fd = let_in(dir_fd, name, sx);
	if (fd < 0)
		return r;
	r = move_to_grave(st, dir_fd, name, sx->stx_ino);
	if (r < 0)
		shut_out(fd, sx);
	return r;
}

/* Immutable or append-only: the removal itself will be refused, which is no fault of the store. */
static bool is_guarded(int dir_fd, const struct statx *victim)
{
	const uint64_t guards = STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND;
	struct statx dir;

	return victim->stx_attributes & guards ||
	       (cow_file_statx(dir_fd, "", &dir) == 0 && dir.stx_attributes & guards);
}

/* The store cannot keep what is being removed. Returns what is to be done: 1 all of it again (room was made), 0 the removal
 * alone (no snapshot is left that it matters to), or -errno: the change fails, since the snapshots stay. */
static int grave_refused(struct cow_store *st, int r, struct patience *p)
{
	return settle(st, r, p);
}

int cow_unlink(struct cow_store *st, struct cow_dir dir, const char *name)
{
	struct patience patience = { 0 };
	struct victim v = { 0 };
	int r;

	do {
		before_try(st, &patience);
		r = settle(st, preserve_removal(st, dir, name, &v), &patience);
		if (r != 0)
			continue; /* room was made: save it now */
		r = 1;
		if (v.ci && v.seen && recording(st) && !S_ISDIR(v.sx.stx_mode))
			r = move_to_grave(st, dir.fd, name, v.sx.stx_ino);
		if (r == 1 ||
		    r == -EEXIST) { /* -EEXIST: another of its names waits there already */
			r = cow_file_unlinkat(dir.fd, name, 0);
		} else if (r == -EBUSY || r == -EISDIR || r == -ENOENT || r == -EROFS ||
			   ((r == -EPERM || r == -EACCES) && is_guarded(dir.fd, &v.sx))) {
			break;
		} else if (r < 0) {
			r = grave_refused(st, r, &patience);
			if (r == 0)
				r = cow_file_unlinkat(dir.fd, name, 0);
		}
	} while (r == 1);
	victim_done(&v, st);
	return r;
}

int cow_rmdir(struct cow_store *st, struct cow_dir dir, const char *name)
{
	struct patience patience = { 0 };
	struct victim v = { 0 };
	int r;

	do {
		before_try(st, &patience);
		r = settle(st, preserve_removal(st, dir, name, &v), &patience);
		if (r != 0)
			continue;
		if (!v.ci || !v.seen || !recording(st) || !S_ISDIR(v.sx.stx_mode)) {
			r = cow_file_unlinkat(dir.fd, name, AT_REMOVEDIR);
			continue;
		}
		r = is_empty_dir(dir.fd, name, &v.sx);
		if (r == 0) {
			r = -ENOTEMPTY;
		} else if (r == 1) {
			r = move_dir_to_grave(st, dir.fd, name, &v.sx);
			if (r < 0 && r != -EBUSY && r != -EROFS && !is_guarded(dir.fd, &v.sx)) {
				r = grave_refused(st, r, &patience);
				if (r == 0)
					r = cow_file_unlinkat(dir.fd, name, AT_REMOVEDIR);
			}
		} else if (r == -EACCES) {
			/* Another's: whether it is empty only rmdir can tell; nobody may look into it anyway. */
			epoch_drop_all(st, COW_DROP_FAULT);
			r = cow_file_unlinkat(dir.fd, name, AT_REMOVEDIR);
		}
	} while (r == 1);
	victim_done(&v, st);
	return r;
}

/* ---- rename ---- */

struct move {
	struct cow_dir from, to;
	const char *oldname, *newname;
	unsigned flags;
	struct victim moved, target;
	bool store_failed; /* what went wrong is not the rename's own */
};

static int preserve_place(struct cow_store *st, const struct victim *v, struct cow_dir from,
			  const char *oldname, struct cow_dir to, const char *newname)
{
	struct epoch *e = epoch_newest(st);
	struct cow_spot now, before;
	int r;

	if (!e || !v->ci || !to.inode)
		return 0;
	r = spot_set(&now, to, newname);
	if (r == 0)
		r = spot_set(&before, from, oldname);
	return r < 0 ? 0 : place_moved(st, e, v->ci->ino, &now, &before);
}

static int preserve_move(struct cow_store *st, struct move *m)
{
	int r;

	r = preserve_removal(st, m->from, m->oldname, &m->moved);
	if (r == 0)
		r = preserve_removal(st, m->to, m->newname, &m->target);
	if (r == 0)
		r = preserve_place(st, &m->moved, m->from, m->oldname, m->to, m->newname);
	if (r == 0 && m->flags & RENAME_EXCHANGE)
		r = preserve_place(st, &m->target, m->to, m->newname, m->from, m->oldname);
	return r;
}

/* Unlike one that is replaced, a directory that is exchanged must be written: its ".." changes. `at`, `name`: where the target
 * is before. */
static int exchange(struct move *m, struct cow_dir at, const char *name)
{
	CLEANUP(close_p) int fd = -1;
	int r = cow_file_renameat(m->from.fd, m->oldname, m->to.fd, m->newname, RENAME_EXCHANGE);

	if ((r != -EACCES && r != -EPERM) || !S_ISDIR(m->target.sx.stx_mode))
		return r;
	fd = let_in(at.fd, name, &m->target.sx);
	if (fd < 0)
		return r;
	r = cow_file_renameat(m->from.fd, m->oldname, m->to.fd, m->newname, RENAME_EXCHANGE);
	shut_out(fd, &m->target.sx);
	return r;
}

/* Is the directory `fd` below inode `ino`, or that itself? Also when it cannot be told. */
static bool is_below(int dir_fd, uint64_t ino)
{
	CLEANUP(close_p) int fd = cow_file_reopen(dir_fd, O_PATH);
	struct statx sx;
	uint64_t below = 0;

	while (fd >= 0 && cow_file_statx(fd, "", &sx) == 0 && sx.stx_ino != ino) {
		int up = cow_file_openat(fd, "..", O_PATH | O_DIRECTORY, 0);

		if (sx.stx_ino == below)
			return false; /* the root is its own parent */
		below = sx.stx_ino;
		close_p(&fd);
		fd = up;
	}
	return true;
}

/* NFS, CIFS and others have no RENAME_EXCHANGE. -EINVAL says so, but also that a directory would come into itself. */
static bool lacks_exchange(const struct move *m, int r)
{
	return r == -ENOSYS || r == -EOPNOTSUPP ||
	       (r == -EINVAL &&
		!(S_ISDIR(m->moved.sx.stx_mode) && is_below(m->to.fd, m->moved.sx.stx_ino)));
}

/* The two are exchanged; now bury what has the old name. Where that is impossible undo the exchange, so that whoever tries
 * again finds the names as they were; where even that is impossible the rename is done, and the snapshots go. */
static int bury_exchanged(struct cow_store *st, struct move *m)
{
	bool dir = S_ISDIR(m->target.sx.stx_mode);
	int r = dir ? move_dir_to_grave(st, m->from.fd, m->oldname, &m->target.sx)
		    : move_to_grave(st, m->from.fd, m->oldname, m->target.sx.stx_ino);

	if (r == 0 || exchange(m, m->from, m->oldname) == 0)
		return r;
	epoch_drop_all(st, COW_DROP_FAULT);
	cow_file_unlinkat(m->from.fd, m->oldname, dir ? AT_REMOVEDIR : 0);
	return 0;
}

/* For a moment what is replaced has the name of what replaces it: a snapshot must find it there, too. */
static int exchange_and_bury(struct cow_store *st, struct move *m)
{
	int r = preserve_place(st, &m->target, m->to, m->newname, m->from, m->oldname);

	m->store_failed = r < 0;
	if (r < 0)
		return r;
	r = exchange(m, m->to, m->newname);
	m->store_failed = lacks_exchange(m, r);
	if (r < 0)
		return r;
	r = bury_exchanged(st, m);
	m->store_failed = r < 0;
	return r;
}

/* A second link in the graveyard keeps the replaced file; then one atomic rename replaces it, as the program expects. */
static int replace_file(struct cow_store *st, struct move *m)
{
	char grave[24];
	int r;

	grave_name(grave, m->target.sx.stx_ino);
	atomic_store(&st->grave_used, true);
	r = cow_file_linkat(m->to.fd, m->newname, st->grave_fd, grave, 0);
	if (r == 0) {
		r = cow_file_renameat(m->from.fd, m->oldname, m->to.fd, m->newname, m->flags);
		if (r < 0)
			cow_file_unlinkat(st->grave_fd, grave, 0);
		return r;
	}
	if (r == -EEXIST)
		return cow_file_renameat(m->from.fd, m->oldname, m->to.fd, m->newname, m->flags);
	if (r != -EPERM && r != -EMLINK && r != -EOPNOTSUPP) {
		m->store_failed = r != -ENOENT && r != -EROFS;
		return r;
	}
	/* No second link to be had: exchange the two, which is atomic too, and bury what now has the old name. */
	return exchange_and_bury(st, m);
}

static int replace_dir(struct cow_store *st, struct move *m)
{
	int r;

	if (!S_ISDIR(m->moved.sx.stx_mode))
		return -EISDIR;
	r = is_empty_dir(m->to.fd, m->newname, &m->target.sx);
	if (r <= 0)
		return r < 0 ? r : -ENOTEMPTY;
	return exchange_and_bury(st, m);
}

static int apply_move(struct cow_store *st, struct move *m)
{
	bool replaces = m->target.ci && m->target.seen && recording(st) &&
			m->moved.ci != m->target.ci &&
			!(m->flags & (RENAME_EXCHANGE | RENAME_NOREPLACE));

	m->store_failed = false;
	if (!replaces)
		return cow_file_renameat(m->from.fd, m->oldname, m->to.fd, m->newname, m->flags);
	if (S_ISDIR(m->target.sx.stx_mode))
		return replace_dir(st, m);
	return S_ISDIR(m->moved.sx.stx_mode) ? -ENOTDIR : replace_file(st, m);
}

int cow_rename(struct cow_store *st, struct cow_dir olddir, const char *oldname,
	       struct cow_dir newdir, const char *newname, unsigned flags)
{
	struct move m = {
		.from = olddir, .to = newdir, .oldname = oldname, .newname = newname, .flags = flags
	};
	struct patience patience = { 0 };
	int r;

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	do {
		before_try(st, &patience);
		r = settle(st, preserve_move(st, &m), &patience);
		if (r != 0)
			continue;
		r = apply_move(st, &m);
		if (r < 0 && m.store_failed) {
			r = grave_refused(st, r, &patience);
			if (r == 0)
				r = cow_file_renameat(olddir.fd, oldname, newdir.fd, newname,
						      flags);
		}
	} while (r == 1);
	victim_done(&m.moved, st);
	victim_done(&m.target, st);
	return r;
}
