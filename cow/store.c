/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening a store: lock it, check that we understand it, read the control log, put what the index missed into it, and
 * settle what a dead daemon left half done. Layout:
 *
 *	format		text: version, features, the tree's id, the seed of all checksums
 *	lock		flock'ed by the daemon that has it open
 *	control.log	which epochs there are
 *	log/ data/	one file each per epoch (epochfile.c)
 *	index/		LMDB, derived from the logs
 *	grave/		removed inodes that a snapshot still sees, by number; always in the directory below
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "cow/base/bytes.h"
#include "cow/base/cleanup.h"
#include "cow/base/clock.h"
#include "cow/base/log.h"
#include "cow/epoch.h"
#include "cow/file.h"
#include "cow/store_private.h"

#define FORMAT_VERSION 1
#define FORMAT_FIRST "umbra-store"

struct why {
	char *text;
	size_t size;
};

__attribute__((format(printf, 3, 4))) static int say(const struct why *w, int r, const char *fmt,
						     ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->text, w->size, fmt, ap);
	va_end(ap);
	return r;
}

/* ---- directories ---- */

/* Whoever can write into the store can make us write elsewhere: it must be ours alone. Takes fd; returns it or -errno. */
static int check_dir(int fd)
{
	struct statx sx;
	int r;

	if (fd < 0)
		return fd;
	r = cow_file_statx(fd, "", &sx);
	if (r == 0 && (sx.stx_uid != geteuid() || sx.stx_mode & 022))
		r = -EPERM;
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

static int make_dir(int dir_fd, const char *name)
{
	int r = cow_file_mkdirat(dir_fd, name, 0700);

	if (r < 0 && r != -EEXIST)
		return r;
	return check_dir(cow_file_openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0));
}

/* Our own coming and going is no change of the user's directory: keep its modification time where we may. */
static void keep_mtime(struct cow_store *st, const struct statx *before)
{
	struct timespec tv[2] = {
		{ .tv_nsec = UTIME_OMIT },
		{ .tv_sec = before->stx_mtime.tv_sec, .tv_nsec = before->stx_mtime.tv_nsec },
	};

	cow_file_utimens(st->below_fd, tv);
}

/* A name is a string of bytes here: where a file has many, what is recorded of one says nothing of the others (I-4), and
 * nothing hides the store from who spells it otherwise (F-3). Directories further down cannot all be asked. */
static bool ignores_case(const struct cow_store *st)
{
	struct statx own, other;

	return cow_file_statx(st->grave_parent_fd, "", &own) == 0 &&
	       cow_file_statx(st->below_fd, ".UMBRA", &other) == 0 &&
	       own.stx_ino == other.stx_ino && own.stx_dev_major == other.stx_dev_major &&
	       own.stx_dev_minor == other.stx_dev_minor;
}

static int open_dirs(struct cow_store *st, const struct why *w)
{
	struct statx root, own;
	bool made;
	int r;

	r = cow_file_statx(st->below_fd, "", &root);
	if (r < 0)
		return say(w, r, "cannot read the directory: %s", strerror(-r));
	st->dev_major = root.stx_dev_major;
	st->dev_minor = root.stx_dev_minor;
	st->root_ino = root.stx_ino;
	st->mnt_id = root.stx_mask & STATX_MNT_ID ? root.stx_mnt_id : 0;
	made = cow_file_statx(st->below_fd, COW_STORE_NAME, &own) == -ENOENT;
	r = make_dir(st->below_fd, COW_STORE_NAME);
	if (r < 0)
		return r == -EPERM
			       ? say(w, r,
				     "its %s belongs to somebody else or others may write into it (remove it if it is not Umbra's)",
				     COW_STORE_NAME)
			       : say(w, r, "cannot make %s in it: %s", COW_STORE_NAME,
				     strerror(-r));
	st->grave_parent_fd = r;
	if (ignores_case(st)) {
		if (made)
			cow_file_unlinkat(st->below_fd, COW_STORE_NAME, AT_REMOVEDIR);
		return say(
			w, -EOPNOTSUPP,
			"it takes names in upper and lower case for the same, which snapshots cannot");
	}
	if (made) /* else the root's change time would tell snapshots of a change that nobody made */
		keep_mtime(st, &root);
	r = cow_file_openat(st->grave_parent_fd, "trash", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (r < 0) /* a wipe was cut off between its two renames, or there was none */
		r = cow_file_openat(st->grave_parent_fd, "grave.new",
				    O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	st->trash_fd = r < 0 ? -1 : r;
	atomic_store(&st->trash_used, r >= 0);
	r = make_dir(st->grave_parent_fd, "grave");
	if (r < 0)
		return say(w, r, "cannot make %s/grave in it: %s", COW_STORE_NAME, strerror(-r));
	st->grave_fd = r;
	if (st->trash_fd < 0) { /* one number for good, so that nobody finds it closed */
		st->trash_fd = fcntl(r, F_DUPFD_CLOEXEC, 3);
		if (st->trash_fd < 0)
			return -errno;
	}
	if (!st->opt.store_dir) {
		r = fcntl(st->grave_parent_fd, F_DUPFD_CLOEXEC, 3);
		st->store_fd = r;
		return r < 0 ? -errno : 0;
	}
	st->elsewhere = true;
	r = make_dir(AT_FDCWD, st->opt.store_dir);
	if (r < 0)
		return say(w, r, "cannot use the store directory %s: %s",
			   LOG_QUOTE(st->opt.store_dir), strerror(-r));
	st->store_fd = r;
	return 0;
}

static int lock_store(struct cow_store *st, const struct why *w)
{
	int fd = cow_file_openat(st->store_fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);

	if (fd < 0)
		return say(w, fd, "cannot lock the store: %s", strerror(-fd));
	st->lock_fd = fd;
	/* The graveyard's directory as well: two stores elsewhere must not share it. */
	if (flock(fd, LOCK_EX | LOCK_NB) < 0 || flock(st->grave_parent_fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK
			       ? say(w, -EBUSY, "its store is in use by another umbrafs")
			       : say(w, -errno, "cannot lock the store: %s", strerror(errno));
	return 0;
}

/* ---- format file ---- */

/* A directory that was copied with its store has other inodes than the records in it name. */
struct root_id {
	unsigned long long ino;
	long long btime; /* 0: not known */
	unsigned btime_ns;
};

static int read_root(struct cow_store *st, struct root_id *ret)
{
	struct statx sx;
	int r = cow_file_statx(st->below_fd, "", &sx);

	if (r < 0)
		return r;
	*ret = (struct root_id){ .ino = sx.stx_ino };
	if (sx.stx_mask & STATX_BTIME) {
		ret->btime = sx.stx_btime.tv_sec;
		ret->btime_ns = sx.stx_btime.tv_nsec;
	}
	return 0;
}

static bool same_root(const struct root_id *a, const struct root_id *b)
{
	return a->ino == b->ino &&
	       (!a->btime || !b->btime || (a->btime == b->btime && a->btime_ns == b->btime_ns));
}

static int write_format(struct cow_store *st)
{
	struct root_id root;
	char text[256];
	uuid_t id;
	int fd, len, r;

	r = read_root(st, &root);
	if (r < 0)
		return r;
	uuid_generate_random(id);
	uuid_unparse_lower(id, st->tree_id);
	if (getrandom(&st->seed, sizeof(st->seed), 0) != sizeof(st->seed))
		return -EIO;
	len = snprintf(text, sizeof(text),
		       FORMAT_FIRST
		       " %d\nfeatures:\ntree: %s\nseed: %016llx\nroot: %llu %lld.%09u\n",
		       FORMAT_VERSION, st->tree_id, (unsigned long long)st->seed, root.ino,
		       root.btime, root.btime_ns);
	fd = cow_file_openat(st->store_fd, "format.new", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW,
			     0600);
	if (fd < 0)
		return fd;
	r = cow_file_pwrite_all(fd, text, (size_t)len, 0);
	if (r == 0)
		r = cow_file_fsync(fd);
	close(fd);
	return r < 0 ? r : cow_file_renameat(st->store_fd, "format.new", st->store_fd, "format", 0);
}

static int check_root(struct cow_store *st, const char *text, const struct why *w)
{
	const char *line = strstr(text, "\nroot: ");
	struct root_id root, noted;
	int at = 0, r;

	if (!line ||
	    sscanf(line, "\nroot: %llu %lld.%u%n", &noted.ino, &noted.btime, &noted.btime_ns, &at) <
		    3 ||
	    line[at] != '\n')
		return say(w, -EUCLEAN, "its store's format file is damaged");
	r = read_root(st, &root);
	if (r == 0)
		st->copied = !same_root(&root, &noted);
	return r;
}

static int check_format(struct cow_store *st, char *text, const struct why *w)
{
	unsigned long long seed;
	unsigned version;
	char features[64] = "";
	int at = 0;

	if (sscanf(text, FORMAT_FIRST " %u\n", &version) != 1)
		return say(w, -EUCLEAN,
			   "its store has no readable format file: it is damaged or not ours");
	if (version > FORMAT_VERSION)
		return say(
			w, -EPROTONOSUPPORT,
			"its store has format %u, made by a newer Umbra; this one knows up to %d (use the newer one)",
			version, FORMAT_VERSION);
	if (sscanf(text, FORMAT_FIRST " %*u\nfeatures:%63[^\n]", features) == 1 &&
	    features[strspn(features, " ")])
		return say(w, -EPROTONOSUPPORT,
			   "its store uses features that this Umbra does not know:%s", features);
	if (sscanf(text, FORMAT_FIRST " %*u\nfeatures:%*[^\n]\ntree: %36s\nseed: %llx\n%n",
		   st->tree_id, &seed, &at) < 2 &&
	    sscanf(text, FORMAT_FIRST " %*u\nfeatures:\ntree: %36s\nseed: %llx\n%n", st->tree_id,
		   &seed, &at) < 2)
		return say(w, -EUCLEAN, "its store's format file is damaged");
	st->seed = seed;
	return check_root(st, text, w);
}

static int read_format(struct cow_store *st, const struct why *w)
{
	char text[512];
	ssize_t n;
	int fd, r;

	fd = cow_file_openat(st->store_fd, "format", O_RDONLY | O_NOFOLLOW, 0);
	if (fd == -ENOENT) {
		r = write_format(st);
		return r < 0 ? say(w, r, "cannot write its store: %s", strerror(-r)) : 0;
	}
	if (fd < 0)
		return say(w, fd, "cannot read its store: %s", strerror(-fd));
	n = cow_file_pread(fd, text, sizeof(text) - 1, 0);
	close(fd);
	if (n < 0)
		return say(w, (int)n, "cannot read its store: %s", strerror((int)-n));
	text[n] = '\0';
	return check_format(st, text, w);
}

/* ---- whose graveyard ---- */

static bool dir_in_use(int parent_fd, const char *name)
{
	CLEANUP(closedir_p) DIR *d = NULL;
	const struct dirent *de;
	int fd = cow_file_openat(parent_fd, name, O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0)
		return false;
	d = fdopendir(fd);
	while (d && (de = readdir(d)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			return true;
	return !d;
}

/* Removed files wait for the store that removed them; another one would take them for rubbish. */
static int claim_grave(struct cow_store *st, const struct why *w)
{
	CLEANUP(close_p) int fd = -1;
	char owner[COW_UUID_LEN + 1] = "";
	int r;

	fd = cow_file_openat(st->grave_parent_fd, "owner", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
	if (fd < 0)
		return say(w, fd, "cannot write its graveyard's owner: %s", strerror(-fd));
	cow_file_pread(fd, owner, COW_UUID_LEN, 0);
	if (strcmp(owner, st->tree_id) == 0)
		return 0;
	if (owner[0] && dir_in_use(st->grave_parent_fd, "grave"))
		return say(
			w, -EBUSY,
			"files removed from it wait for snapshots in another store, %s (protect it with that --store)",
			owner);
	r = cow_file_pwrite_all(fd, st->tree_id, COW_UUID_LEN, 0);
	return r < 0 ? say(w, r, "cannot write its graveyard's owner: %s", strerror(-r)) : 0;
}

/* ---- control log ---- */

struct history {
	struct cow_store *st;
	bool clean;			/* the last session ended as it should */
	char boot_id[COW_UUID_LEN + 1]; /* of that session */
	int64_t end_ns;
};

static struct epoch *find(struct epoch *list, uint64_t id)
{
	while (list && list->id != id)
		list = list->newer;
	return list;
}

static int hear_open(struct history *h, const struct cow_control *c)
{
	struct epoch *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	e->id = c->epoch;
	e->log_fd = e->dat_fd = -1;
	atomic_init(&e->refs, 1);
	ulock_init(&e->log_lock, RANK_LOG);
	e->snap = c->snap;
	e->snap.state = COW_SNAP_OPENED;
	e->snap.extra = c->extra_len ? strndup(c->snap.extra, c->extra_len) : NULL;
	e->internal = !e->snap.name[0];
	if (e->internal)
		e->snap.state = COW_SNAP_CREATED;
	ulock_lock(&h->st->epochs_lock);
	atomic_store(&h->st->era, c->era);
	epoch_link(h->st, e);
	ulock_unlock(&h->st->epochs_lock);
	if (e->id >= h->st->next_epoch)
		h->st->next_epoch = e->id + 1;
	return 0;
}

static int inherit_one(struct epoch *heir, uint64_t dat)
{
	struct heirloom *grown;

	for (size_t i = 0; i < heir->n_heirlooms; i++)
		if (heir->heirlooms[i].dat == dat)
			return 0;
	grown = realloc(heir->heirlooms, (heir->n_heirlooms + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	heir->heirlooms = grown;
	grown[heir->n_heirlooms++] = (struct heirloom){ dat, -1 };
	return 0;
}

static int inherit(struct epoch *heir, const struct epoch *e)
{
	int r = inherit_one(heir, e->id);

	for (size_t i = 0; r == 0 && i < e->n_heirlooms; i++)
		r = inherit_one(heir, e->heirlooms[i].dat);
	return r;
}

/* In the order in which it happened: also an internal one that nothing older needed any more went without a record. */
static void hear_drop(struct history *h, struct epoch *e)
{
	ulock_lock(&h->st->epochs_lock);
	if (e)
		epoch_doom_locked(h->st, e);
	while (h->st->oldest && h->st->oldest->internal)
		epoch_doom_locked(h->st, h->st->oldest);
	ulock_unlock(&h->st->epochs_lock);
}

static int hear_dropped(struct history *h, const struct cow_control *c)
{
	struct epoch **at = &h->st->doomed, *e, *heir = find(h->st->oldest, c->heir);
	int r = 0;

	if (!heir)
		heir = find(h->st->doomed, c->heir); /* dropped while it inherited */
	e = find(h->st->oldest, c->epoch);
	if (e)
		hear_drop(h, e); /* it went without room for a record */
	while (*at && (*at)->id != c->epoch)
		at = &(*at)->newer;
	e = *at;
	if (!e)
		return 0;
	if (heir)
		r = inherit(heir, e);
	*at = e->newer;
	epoch_unref(e);
	return r;
}

static void hear_session(struct history *h, const struct cow_control *c)
{
	if (c->epoch > h->st->next_epoch)
		h->st->next_epoch = c->epoch;
	h->clean = c->session_end;
	memcpy(h->boot_id, c->boot_id, sizeof(h->boot_id));
	h->end_ns = c->session_end ? c->time_ns : 0;
	if (!c->session_end)
		return;
	for (struct epoch *e = h->st->oldest; e; e = e->newer)
		if (!e->session_end_ns && !e->next_session) {
			e->session_end_ns = c->time_ns;
			e->next_session = h->st->next_epoch;
		}
}

static int hear_commit(struct epoch *e, const struct cow_control *c)
{
	char *extra = c->extra_len ? strndup(c->snap.extra, c->extra_len) : NULL;

	if (c->extra_len && !extra)
		return -ENOMEM;
	if (extra) {
		free(e->snap.extra);
		e->snap.extra = extra;
	}
	e->snap.state = COW_SNAP_CREATED;
	return 0;
}

static int hear(void *arg, const struct cow_rec *r, uint64_t at)
{
	struct history *h = arg;
	struct cow_control c;
	struct epoch *e;
	int err = cow_format_get_control(r, &c);

	(void)at;
	if (err < 0)
		return err;
	e = find(h->st->oldest, c.epoch);
	switch (r->kind) {
	case COW_REC_OPEN:
		return e ? -EUCLEAN : hear_open(h, &c);
	case COW_REC_COMMIT:
		return e ? hear_commit(e, &c) : 0;
	case COW_REC_DROP:
		hear_drop(h, e);
		return 0;
	case COW_REC_DROPPED:
		return hear_dropped(h, &c);
	case COW_REC_SESSION:
		hear_session(h, &c);
		return 0;
	default:
		return 0;
	}
}

/* Room for what must be written when the disk is full: that snapshots ended. Where that is impossible their logs go. */
static void reserve_control(struct cow_store *st)
{
	cow_file_fallocate(st->control_fd, FALLOC_FL_KEEP_SIZE, (off_t)st->control_end, 256 * 1024);
}

static int read_control(struct cow_store *st, struct history *h, const struct why *w)
{
	int fd, r;

	fd = cow_file_openat(st->store_fd, "control.log", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
	if (fd < 0)
		return say(w, fd, "cannot open its store's control log: %s", strerror(-fd));
	st->control_fd = fd;
	reserve_control(st);
	r = epochfile_each(st, fd, 0, hear, h, &st->control_end);
	if (r < 0)
		return say(w, r, "its store's control log is damaged");
	/* A session that did not end cleanly leaves its epochs without an end; give them none later either. */
	if (!h->clean)
		for (struct epoch *e = st->oldest; e; e = e->newer)
			if (!e->session_end_ns)
				e->next_session = UINT64_MAX;
	return 0;
}

/* ---- epochs found ---- */

static void read_boot_id(char ret[COW_UUID_LEN + 1])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, ret, COW_UUID_LEN);

	if (n < 0)
		n = 0;
	ret[n] = '\0';
	close_p(&fd);
}

static void doom_found(struct cow_store *st, struct epoch *e, enum cow_drop_cause cause)
{
	struct cow_control c = { .epoch = e->id };
	struct cow_snapshot snap = e->snap;

	snap.extra = NULL;
	if (epochfile_control(st, COW_REC_DROP, &c) < 0)
		epochfile_unlink_log(st, e->id);
	ulock_lock(&st->epochs_lock);
	epoch_doom_locked(st, e);
	ulock_unlock(&st->epochs_lock);
	if (st->opt.on_drop && !e->internal)
		st->opt.on_drop(st->opt.userdata, &snap, cause);
}

static int open_heirlooms(struct cow_store *st, struct epoch *e)
{
	for (size_t i = 0; i < e->n_heirlooms; i++) {
		char path[40];
		int fd;

		if (e->heirlooms[i].fd >= 0)
			continue;
		snprintf(path, sizeof(path), "data/%016llx.dat",
			 (unsigned long long)e->heirlooms[i].dat);
		fd = cow_file_openat(st->store_fd, path, O_RDWR | O_NOFOLLOW, 0);
		if (fd < 0 && fd != -ENOENT)
			return fd;
		e->heirlooms[i].fd = fd < 0 ? -1 : fd;
	}
	return 0;
}

/* The newest epoch below e, that is, who takes over what is left of it; be it dropped as well. */
static struct epoch *next_below(struct cow_store *st, const struct epoch *e)
{
	struct epoch *below = NULL, *lists[] = { st->oldest, st->doomed };

	for (unsigned i = 0; i < 2; i++)
		for (struct epoch *o = lists[i]; o; o = o->newer)
			if (o->id < e->id && (!below || o->id > below->id))
				below = o;
	return below;
}

/* A crash may have cut off the settling of a dropped epoch: what was settled already points into its data file. */
static int open_doomed(struct cow_store *st)
{
	struct epoch **at = &st->doomed, *e, *heir;
	int r = 0;

	while (r == 0 && (e = *at)) {
		if (e->log_fd < 0)
			r = epochfile_open(st, e);
		if (r == -ENOENT) { /* settled, or nothing is left to settle it with */
			*at = e->newer;
			e->newer = NULL;
			epoch_unref(e);
			r = 0;
			continue;
		}
		if (r == 0)
			r = open_heirlooms(st, e);
		heir = next_below(st, e);
		if (r == 0 && heir) {
			r = inherit(heir, e);
			if (r == 0)
				r = open_heirlooms(st, heir);
		}
		at = &e->newer;
	}
	return r;
}

static int open_found(struct cow_store *st, const struct history *h, const struct why *w)
{
	bool rebooted = strcmp(h->boot_id, st->boot_id) != 0;
	struct epoch *e, *next;
	int r;

	for (e = st->oldest; e; e = next) {
		next = e->newer;
		r = epochfile_open(st, e);
		if (r == 0)
			r = open_heirlooms(st, e);
		if (r ==
		    -ENOENT) { /* killed to make room: its log is gone, and with it what older ones need */
			while (st->oldest != e)
				doom_found(st, st->oldest, COW_DROP_FULL);
			doom_found(st, e, COW_DROP_FULL);
		} else if (r < 0)
			return say(w, r, "cannot open the logs of its store: %s", strerror(-r));
		else if (!e->internal && e->snap.state != COW_SNAP_CREATED)
			doom_found(st, e, COW_DROP_UNFINISHED); /* N-7 */
		else if (rebooted && !h->clean && !e->internal &&
			 !cow_context_persistent(e->snap.context))
			doom_found(st, e, COW_DROP_BOOT);
	}
	while (st->oldest && st->oldest->internal) /* nothing older needs them */
		doom_found(st, st->oldest, COW_DROP_REQUEST);
	return open_doomed(st);
}

/* ---- replay ---- */

struct replay {
	struct cow_store *st;
	struct epoch *e;
};

/* Is it of an earlier time than what the index has of that inode? Returns 1, 0 or -errno. */
static int is_older_place(struct cow_store *st, const struct cow_rec *r)
{
	CLEANUP(cow_buf_done) struct cow_buf buf = { 0 };
	struct cow_place p, known;
	uint8_t key[COW_KEY_MAX];
	int e = cow_format_get_place(r->body, r->body_len, &p);

	if (e < 0)
		return e;
	e = cow_index_get(st->index, key, cow_key_place(key, p.ino), &buf);
	if (e == 0)
		e = cow_format_get_place(buf.data, buf.len, &known);
	if (e < 0)
		return e == -ENOENT ? 0 : e;
	return known.era > p.era || (known.era == p.era && known.seq > p.seq);
}

static int replay_record(void *arg, const struct cow_rec *r, uint64_t at)
{
	struct replay *p = arg;
	int e = 0;

	(void)at;
	if (r->epoch != p->e->id)
		return -EUCLEAN;
	if (r->kind == COW_REC_PLACE)
		e = is_older_place(p->st, r);
	if (e != 0)
		return e < 0 ? e : 0;
	return preserve_index(p->st, r);
}

/* What an epoch's records say of its size, and how far PLACE records were counted. */
static int count_record(void *arg, const struct cow_rec *r, uint64_t at)
{
	struct replay *p = arg;
	struct cow_place place;
	struct cow_data d;

	(void)at;
	if (r->kind == COW_REC_PLACE && cow_format_get_place(r->body, r->body_len, &place) == 0 &&
	    place.seq > p->st->place_seq)
		p->st->place_seq = place.seq;
	if (r->kind == COW_REC_ATTR)
		atomic_fetch_add(&p->e->changed, 1);
	if (r->kind == COW_REC_DATA && cow_format_get_data(r->body, r->body_len, &d) == 0 && d.dat)
		atomic_fetch_add(&p->e->stored, COW_CLUSTER_SIZE);
	return 0;
}

static int replay_epoch(struct cow_store *st, struct epoch *e)
{
	CLEANUP(cow_buf_done) struct cow_buf mark = { 0 };
	struct replay p = { st, e };
	uint8_t key[COW_KEY_MAX];
	uint64_t from = 0, end;
	int r;

	if (e->log_fd < 0)
		return 0;
	r = cow_index_get(st->index, key, cow_key_mark(key, e->id), &mark);
	if (r == 0 && mark.len == 8)
		from = get_be64(mark.data);
	else if (r < 0 && r != -ENOENT)
		return r;
	r = epochfile_each(st, e->log_fd, from, replay_record, &p, &e->log_end);
	if (r == 0)
		r = epochfile_each(st, e->log_fd, 0, count_record, &p, &end);
	atomic_fetch_add(&st->stored_total, atomic_load(&e->stored));
	return r;
}

static int replay_all(struct cow_store *st)
{
	struct epoch *e, *doomed = st->doomed;
	int r = 0;

	/* In the order of their numbers, doomed ones in between. */
	for (e = st->oldest; r == 0 && (e || doomed);) {
		if (doomed && (!e || doomed->id < e->id)) {
			r = replay_epoch(st, doomed);
			doomed = doomed->newer;
		} else {
			r = replay_epoch(st, e);
			e = e->newer;
		}
	}
	return r;
}

static int open_index(struct cow_store *st, bool fresh, const struct why *w)
{
	int r;

	r = cow_index_open(st->store_fd, fresh, &st->index);
	if (r == -EUCLEAN && !fresh)
		r = cow_index_open(st->store_fd, true, &st->index);
	if (r < 0)
		return say(w, r, "cannot open the index of its store: %s", strerror(-r));
	r = replay_all(st);
	if (r == -EUCLEAN && !fresh) { /* derived: make it anew from the logs */
		log_warn("the store's index was damaged; making it anew from the log");
		cow_index_close(st->index);
		st->index = NULL;
		atomic_store(&st->stored_total, 0);
		for (struct epoch *e = st->oldest; e; e = e->newer) {
			atomic_store(&e->stored, 0);
			atomic_store(&e->changed, 0);
		}
		return open_index(st, true, w);
	}
	return r < 0 ? say(w, r, "cannot read the logs of its store: %s", strerror(-r)) : 0;
}

/* ---- files that no epoch owns ---- */

static bool owned(const struct cow_store *st, uint64_t id, bool dat)
{
	const struct epoch *lists[] = { st->oldest, st->doomed };

	for (unsigned i = 0; i < 2; i++)
		for (const struct epoch *e = lists[i]; e; e = e->newer) {
			if (e->id == id)
				return true;
			for (size_t h = 0; dat && h < e->n_heirlooms; h++)
				if (e->heirlooms[h].dat == id)
					return true;
		}
	return false;
}

static int sweep(struct cow_store *st, const char *dir, bool dat)
{
	CLEANUP(closedir_p) DIR *d = NULL;
	const struct dirent *de;
	int fd = make_dir(st->store_fd, dir);

	if (fd < 0)
		return fd;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	while ((de = readdir(d)))
		if (de->d_name[0] != '.' && !owned(st, strtoull(de->d_name, NULL, 16), dat))
			cow_file_unlinkat(fd, de->d_name, 0);
	return 0;
}

/* Start with a clean slate where no epoch is left. */
static int start_empty(struct cow_store *st)
{
	struct epoch *e;
	int r;

	while ((e = st->doomed)) {
		st->doomed = e->newer;
		epoch_unref(e);
	}
	reclaim_trash(st, true);
	r = reclaim_wipe(st);
	reclaim_trash(st, true);
	if (r == 0)
		r = sweep(st, "log", false);
	if (r == 0)
		r = sweep(st, "data", true);
	if (r == 0)
		r = cow_file_truncate(st->control_fd, 0);
	st->control_end = 0;
	reserve_control(st);
	atomic_store(&st->stored_total, 0);
	return r;
}

/* Without snapshots it becomes a store of its own. */
static int adopt_copy(struct cow_store *st, const struct why *w)
{
	int r;

	if (st->oldest && st->elsewhere)
		return say(w, -EUCLEAN,
			   "the store %s belongs to another directory (give this one its own)",
			   LOG_QUOTE(st->opt.store_dir));
	if (st->oldest)
		return say(w, -EUCLEAN,
			   "it is a copy of another directory, and the snapshots in its %s are not "
			   "its own (remove that from the copy)",
			   COW_STORE_NAME);
	r = start_empty(st);
	if (r == 0)
		r = write_format(st);
	return r < 0 ? r : claim_grave(st, w);
}

/* ---- open, close ---- */

/* File times come from the coarse clock, or since Linux 6.13 from the fine one when somebody looked. So no change so far
 * is younger than the fine clock says; wait until none to come can be older. */
static int64_t time_between_changes(void)
{
	uint64_t now = clock_real_ns(), coarse;
	struct timespec ts, tick = { .tv_nsec = 1000000 };

	for (unsigned i = 0; i < 100; i++) {
		clock_gettime(CLOCK_REALTIME_COARSE, &ts);
		coarse = clock_from_timespec(&ts);
		if (coarse > now || coarse + CLOCK_NS_PER_SEC < now) /* or it was set back */
			break;
		nanosleep(&tick, NULL);
	}
	return (int64_t)now;
}

void cow_store_unwatched(struct cow_store *st)
{
	ulock_lock(&st->end_lock);
	if (!atomic_load(&st->end_ns))
		atomic_store(&st->end_ns, time_between_changes());
	ulock_unlock(&st->end_lock);
}

static int session_record(struct cow_store *st, bool end)
{
	struct cow_control c = { .epoch = st->next_epoch, .session_end = end };

	c.time_ns = end ? atomic_load(&st->end_ns) : (int64_t)clock_real_ns();
	memcpy(c.boot_id, st->boot_id, sizeof(c.boot_id));
	return epochfile_control(st, COW_REC_SESSION, &c);
}

/* Keeps this session's labels from those of one that ended, or of a revert that was cut off. Asked of the newest label, not
 * of what happened last: a start that came to nothing may lie between. Without room for it the oldest snapshots go (I-5), but for
 * the sake of an unfinished revert. */
static int open_own_label(struct cow_store *st)
{
	bool reverting = revert_marked(st);
	int r;

	do {
		if (!st->last)
			return 0;
		if (!st->last->session_end_ns && !(st->last->internal && reverting))
			return 0;
		r = epoch_open_internal(st);
	} while ((r == -ENOSPC || r == -EDQUOT) && !reverting &&
		 epoch_drop_oldest(st, COW_DROP_FULL));
	return r;
}

static void store_free(struct cow_store *st)
{
	struct epoch *e, *next;
	int *fds[] = { &st->trash_fd,	     &st->below_fd,   &st->store_fd, &st->grave_fd,
		       &st->grave_parent_fd, &st->control_fd, &st->lock_fd };

	place_forget_dirs(st);
	inodes_done(st);
	for (e = st->oldest; e; e = next) {
		next = e->newer;
		epoch_unref(e);
	}
	for (e = st->doomed; e; e = next) {
		next = e->newer;
		epoch_unref(e);
	}
	if (st->index)
		cow_index_close(st->index);
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		close_p(fds[i]); /* the lock last */
	ulock_done(&st->epochs_lock);
	ulock_done(&st->control_lock);
	ulock_done(&st->loc_lock);
	ulock_done(&st->dirs_lock);
	ulock_done(&st->revert_lock);
	ulock_done(&st->end_lock);
	pthread_cond_destroy(&st->epochs_changed);
	free(st);
}

static struct cow_store *store_new(const struct cow_options *opt)
{
	struct cow_store *st = aligned_alloc(64, (sizeof(*st) + 63) / 64 * 64);

	if (!st)
		return NULL;
	memset(st, 0, sizeof(*st));
	st->opt = *opt;
	st->trash_fd = st->store_fd = st->grave_fd = st->grave_parent_fd = st->control_fd =
		st->lock_fd = -1;
	st->next_epoch = 1;
	st->room_wait_ms = 1000; /* a hold would wait for it, too */
	atomic_init(&st->name_seq, clock_real_ns());
	atomic_init(&st->generation, 1);
	ulock_init(&st->epochs_lock, RANK_EPOCHS);
	ulock_cond_init(&st->epochs_changed);
	ulock_init(&st->control_lock, RANK_LOG);
	ulock_init(&st->loc_lock, RANK_LOC);
	ulock_init(&st->dirs_lock, RANK_CACHE);
	ulock_init(&st->revert_lock, RANK_LEAF);
	ulock_init(&st->end_lock, RANK_LEAF);
	for (unsigned i = 0; i < VIEW_DIRS; i++)
		st->dirs[i].fd = -1;
	st->below_fd = fcntl(opt->below_fd, F_DUPFD_CLOEXEC, 3);
	return st;
}

/* Everything up to running threads. */
static int open_all(struct cow_store *st, const struct why *w)
{
	struct history h = { .st = st };
	bool rebooted;
	int r;

	r = inodes_init(st);
	if (r == 0)
		r = st->below_fd < 0 ? -EBADF : open_dirs(st, w);
	if (r == 0)
		r = lock_store(st, w);
	if (r == 0)
		r = read_format(st, w);
	if (r == 0)
		r = claim_grave(st, w);
	if (r == 0)
		r = read_control(st, &h, w);
	if (r < 0)
		return r;
	read_boot_id(st->boot_id);
	rebooted = strcmp(st->boot_id, h.boot_id) != 0;
	r = open_found(st, &h, w);
	if (r == 0)
		r = open_index(st, rebooted, w);
	if (r < 0)
		return r;
	r = st->copied ? adopt_copy(st, w) : 0;
	if (r < 0)
		return r;
	if (!st->oldest && !st->copied)
		r = start_empty(st);
	else
		atomic_store(&st->grave_used, dir_in_use(st->grave_parent_fd, "grave"));
	if (r == 0)
		r = sweep(st, "log", false);
	if (r == 0)
		r = sweep(st, "data", true);
	atomic_store(&st->newest, st->last);
	if (r == 0)
		r = session_record(st, false);
	if (r == 0)
		r = open_own_label(st);
	if (r == 0)
		r = revert_load(st); /* after that: it would refuse any opening */
	return r < 0 ? say(w, r, "cannot start its store: %s", strerror(-r)) : 0;
}

int cow_store_open(const struct cow_options *opt, struct cow_store **ret_st, char *ret_why,
		   size_t why_len)
{
	struct why w = { ret_why, why_len };
	struct cow_store *st = store_new(opt);
	int r;

	if (why_len)
		ret_why[0] = '\0';
	if (!st)
		return say(&w, -ENOMEM, "out of memory");
	r = open_all(st, &w);
	if (r == 0)
		r = gate_init(st);
	if (r < 0) {
		if (why_len && !ret_why[0])
			say(&w, r, "%s", strerror(-r));
		store_free(st);
		return r;
	}
	r = reclaim_start(st);
	if (r < 0) {
		gate_done(st);
		store_free(st);
		return say(&w, r, "cannot start a thread: %s", strerror(-r));
	}
	*ret_st = st;
	return 0;
}

/* `r` < 0: not all is on disk. Then it is one that ended - from its end on nobody watched - and one more that began and
 * crashed, so that the next boot keeps what it keeps after a crash. */
static int end_session(struct cow_store *st, int r)
{
	int e = session_record(st, true);

	if (r == 0 && e == 0)
		r = cow_file_fdatasync(st->control_fd);
	if (r < 0 && e == 0) {
		e = session_record(st, false);
		if (e == 0)
			e = cow_file_fdatasync(st->control_fd);
	}
	return r < 0 ? r : e;
}

/* The logs are on disk, and the index knows that it has all of them. */
static int seal(struct cow_store *st)
{
	uint8_t key[COW_KEY_MAX], val[8];
	int r = 0, e;

	for (struct epoch *i = st->oldest; i; i = i->newer) {
		put_be64(val, i->log_end);
		e = cow_index_put(st->index, key, cow_key_mark(key, i->id), val, sizeof(val));
		if (e == 0)
			e = epochfile_sync(i);
		if (e < 0 && r == 0)
			r = e;
	}
	e = cow_index_flush(st->index);
	if (r == 0)
		r = e;
	return end_session(st, r);
}

static void remove_tree(int parent_fd, const char *name)
{
	CLEANUP(closedir_p) DIR *d = NULL;
	const struct dirent *de;
	int fd = cow_file_openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

	if (fd < 0)
		return;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return;
	}
	while ((de = readdir(d))) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		if (cow_file_unlinkat(fd, de->d_name, 0) < 0)
			remove_tree(fd, de->d_name);
	}
	cow_file_unlinkat(parent_fd, name, AT_REMOVEDIR);
}

int cow_store_close(struct cow_store *st, bool remove_empty)
{
	struct statx root;
	bool remove;
	int r;

	cow_store_unwatched(st);
	cow_epoch_unprepare(st);
	cow_epoch_settle(st);
	reclaim_stop(st);
	gate_done(st);
	remove = remove_empty && !st->oldest;
	r = seal(st);
	if (remove && cow_file_statx(st->below_fd, "", &root) == 0) {
		/* The lock goes with it: nobody can have opened a store that we had locked. */
		remove_tree(st->below_fd, COW_STORE_NAME);
		keep_mtime(st, &root);
	}
	store_free(st);
	return r;
}

const char *cow_store_tree_id(const struct cow_store *st)
{
	return st->tree_id;
}

void cow_store_usage(struct cow_store *st, struct cow_usage *ret)
{
	struct statx sx;

	*ret = (struct cow_usage){ .used_bytes = atomic_load(&st->stored_total),
				   .max_bytes = st->opt.max_bytes };
	ret->allocated_bytes = cow_index_bytes(st->index);
	ulock_lock(&st->epochs_lock);
	for (struct epoch *e = st->oldest; e; e = e->newer) {
		if (e->dat_fd >= 0 && cow_file_statx(e->dat_fd, "", &sx) == 0)
			ret->allocated_bytes += sx.stx_blocks * 512;
		if (e->log_fd >= 0 && cow_file_statx(e->log_fd, "", &sx) == 0)
			ret->allocated_bytes += sx.stx_blocks * 512;
		for (size_t i = 0; i < e->n_heirlooms; i++)
			if (e->heirlooms[i].fd >= 0 &&
			    cow_file_statx(e->heirlooms[i].fd, "", &sx) == 0)
				ret->allocated_bytes += sx.stx_blocks * 512;
	}
	ulock_unlock(&st->epochs_lock);
	if (ret->allocated_bytes < ret->used_bytes)
		ret->allocated_bytes = ret->used_bytes; /* F-8 */
}
