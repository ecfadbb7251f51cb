/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/provider_expose.c - exposed snapshots; see provider_expose.h.
 *
 * The record is the note "exposed" of the store, JSON: {"version": 1, "exposures": [{"snapshot_id", "path"?, "subdir"?}]};
 * without a path it is the default place, looked for anew each time: a runtime directory changes with its user's logins. */
#include "fs/provider_expose.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/client/client.h"
#include "cow/base/cleanup.h"
#include "cow/base/err.h"
#include "cow/base/fusemount.h"
#include "cow/base/log.h"
#include "cow/base/mounts.h"
#include "cow/base/path.h"
#include "cow/epoch.h"
#include "cow/note.h"

#define NOTE "exposed"
#define PLACE_NAME "exposed" /* directory of default places, beside the coordinator's socket */
#define SHORT_ID 8

DEFINE_CLEANUP(json_decref_p, json_t *, json_decref)

struct exposure {
	struct exposure *next;
	uint64_t epoch;
	char id[COW_UUID_LEN + 1]; /* of the snapshot */
	char *asked;		   /* where, as recorded: without links; NULL: the default place */
	char *subdir;		   /* NULL: all of it */
	char *path;		   /* where it is, or would be; NULL: not known */
	char *problem;		   /* why it is not mounted; NULL: it was */
	uint64_t no;		   /* of its session; 0: none */
	bool made;		   /* we made the directory */
};

struct fs_exposures {
	struct ulock lock; /* rank LEAF; guards the list and what is in it */
	struct exposure *list;

	struct fs *fs;
	struct fs_serve *serve;
	char *socket; /* or NULL */
};

static int __attribute__((format(printf, 3, 4)))
fail(int r, char why[FS_EXPOSE_WHY_SIZE], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, FS_EXPOSE_WHY_SIZE, fmt, ap);
	va_end(ap);
	return r;
}

static int no_memory(char why[FS_EXPOSE_WHY_SIZE])
{
	return fail(-ENOMEM, why, "out of memory");
}

/* ---- the list ---- */

static void exposure_free(struct exposure *e)
{
	free(e->asked);
	free(e->subdir);
	free(e->path);
	free(e->problem);
	free(e);
}
DEFINE_CLEANUP(exposure_free_p, struct exposure *, exposure_free)

/* `asked`, `subdir` may be NULL. */
static struct exposure *exposure_new(uint64_t epoch, const char *id, const char *asked,
				     const char *subdir)
{
	struct exposure *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->epoch = epoch;
	snprintf(e->id, sizeof(e->id), "%s", id);
	e->asked = asked ? strdup(asked) : NULL;
	e->path = asked ? strdup(asked) : NULL;
	e->subdir = subdir && *subdir ? strdup(subdir) : NULL;
	if ((asked && (!e->asked || !e->path)) || (subdir && *subdir && !e->subdir)) {
		exposure_free(e);
		return NULL;
	}
	return e;
}

struct fs_exposures *fs_exposures_new(struct fs *fs, struct fs_serve *serve, const char *socket)
{
	struct fs_exposures *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->socket = socket ? strdup(socket) : NULL;
	if (socket && !x->socket) {
		free(x);
		return NULL;
	}
	ulock_init(&x->lock, RANK_LEAF);
	x->fs = fs;
	x->serve = serve;
	return x;
}

/* Only the thread that changes the list keeps what it finds. */
static struct exposure *find(struct fs_exposures *x, uint64_t epoch)
{
	struct exposure *e;

	ulock_lock(&x->lock);
	for (e = x->list; e && e->epoch != epoch; e = e->next)
		;
	ulock_unlock(&x->lock);
	return e;
}

static void link_in(struct fs_exposures *x, struct exposure *e)
{
	ulock_lock(&x->lock);
	e->next = x->list;
	x->list = e;
	ulock_unlock(&x->lock);
}

/* The caller owns it then. */
static void link_out(struct fs_exposures *x, struct exposure *e)
{
	struct exposure **at;

	ulock_lock(&x->lock);
	for (at = &x->list; *at != e; at = &(*at)->next)
		;
	*at = e->next;
	ulock_unlock(&x->lock);
}

/* `path` NULL: it stays. Takes both. */
static void set_state(struct fs_exposures *x, struct exposure *e, uint64_t no, char *path,
		      char *problem)
{
	char *old_path = NULL, *old_problem;

	ulock_lock(&x->lock);
	e->no = no;
	if (path) {
		old_path = e->path;
		e->path = path;
	}
	old_problem = e->problem;
	e->problem = problem;
	ulock_unlock(&x->lock);
	free(old_path);
	free(old_problem);
}

static bool is_mounted(struct fs_exposures *x, const struct exposure *e)
{
	return e->no && fs_serve_lives(x->serve, e->no);
}

/* ---- the record ---- */

static json_t *record_of(const struct exposure *e)
{
	json_t *o = json_pack("{s:s}", "snapshot_id", e->id);

	if (o && (!e->asked || umbra_json_set_path(o, "path", e->asked) == 0) &&
	    (!e->subdir || umbra_json_set_path(o, "subdir", e->subdir) == 0))
		return o;
	json_decref(o);
	return NULL;
}

/* Nobody else changes the list meanwhile: no lock over the writing. */
static int write_records(struct fs_exposures *x)
{
	CLEANUP(json_decref_p) json_t *list = json_array();
	CLEANUP(json_decref_p) json_t *whole = NULL;
	CLEANUP(free_p) char *text = NULL;

	for (const struct exposure *e = x->list; e; e = e->next)
		if (json_array_append_new(list, record_of(e)) < 0)
			return -ENOMEM;
	if (!x->list)
		return cow_note_write(x->fs->store, NOTE, NULL, 0);
	whole = json_pack("{s:i, s:O}", "version", 1, "exposures", list);
	text = whole ? umbra_json_text(whole, JSON_INDENT(1)) : NULL;
	return text ? cow_note_write(x->fs->store, NOTE, text, strlen(text)) : -ENOMEM;
}

/* NULL: there is none that can be read; it was said. */
static json_t *read_records(struct fs_exposures *x)
{
	CLEANUP(free_p) char *text = NULL;
	json_error_t error;
	json_t *whole;
	size_t len;
	int r = cow_note_read(x->fs->store, NOTE, &text, &len);

	if (r == -ENOENT)
		return NULL;
	whole = r == 0 ? json_loadb(text, len, 0, &error) : NULL;
	if (json_is_array(json_object_get(whole, "exposures")) &&
	    json_integer_value(json_object_get(whole, "version")) == 1)
		return whole;
	json_decref(whole);
	log_error("%s: the record of its exposed snapshots cannot be read: %s: none is exposed",
		  LOG_QUOTE(x->fs->path), r < 0 ? err_text(r) : "damaged, or of a newer version");
	return NULL;
}

/* ---- the mount point ---- */

static char *source_of(const struct exposure *e)
{
	char *source;

	return asprintf(&source, "%s%s", MOUNTS_EXPOSED_SOURCE, e->id) < 0 ? NULL : source;
}

/* What lies uppermost at a path: 0 nothing of Umbra's, 1 this snapshot, -EEXIST another one or a tree. */
static int what_is_at(const struct exposure *e, const char *path)
{
	CLEANUP(mounts_done) struct mounts mounts = { 0 };
	CLEANUP(free_p) char *source = source_of(e);
	const struct mount *at;
	int r = source ? mounts_read(&mounts) : -ENOMEM;

	if (r < 0)
		return r;
	at = mounts_at(&mounts, path);
	if (!at || !mount_is_umbra(at))
		return 0;
	return strcmp(at->source, source) == 0 ? 1 : -EEXIST;
}

/* A daemon that was killed left its mounts. Nobody but us serves this snapshot, so a dead one is ours. */
static void clear_dead(const struct exposure *e, const char *path)
{
	if (what_is_at(e, path) == 1 && mounts_is_dead(path) && fusemount_unmount(path, true) == 0)
		log_info("took away what a daemon that died left at %s", LOG_QUOTE(path));
}

/* 1: it is, 0: something is in it, -errno. */
static int is_empty(const char *path)
{
	CLEANUP(closedir_p) DIR *d = opendir(path);
	const struct dirent *de;

	if (!d)
		return -errno;
	while ((de = readdir(d)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			return 0;
	return 1;
}

/* Its path without links; the text of it may lead anywhere. */
static int resolve(const char *path, char **ret, char why[FS_EXPOSE_WHY_SIZE])
{
	int r;

	*ret = realpath(path, NULL);
	if (*ret)
		return 0;
	r = -errno;
	if (r == -ENOENT)
		return fail(r, why, "%s: there is no such directory (make it first)",
			    LOG_QUOTE(path));
	if (r == -ENOTCONN)
		return fail(
			-EEXIST, why,
			"%s has a dead mount over it, its daemon is gone (try: umbra umount %s)",
			LOG_QUOTE(path), LOG_QUOTE(path));
	return fail(r, why, "%s cannot be used as a mount point: %s", LOG_QUOTE(path), err_text(r));
}

/* Whether a snapshot may be mounted there: as mount(8) and fusermount3 have it, and never over what would be hidden. */
static int check_point(struct fs_exposures *x, const struct exposure *e, const char *path,
		       char why[FS_EXPOSE_WHY_SIZE])
{
	struct stat st;
	int r;

	if (path_below(x->fs->path, path) ||
	    (x->fs->store_dir && path_below(x->fs->store_dir, path)))
		return fail(
			-EINVAL, why,
			"%s lies in the protected directory itself, or in its store (give a place outside)",
			LOG_QUOTE(path));
	r = what_is_at(e, path);
	if (r == 1 || r == -EEXIST)
		return fail(-EEXIST, why, "%s has a snapshot or an overlay mounted already",
			    LOG_QUOTE(path));
	if (r < 0)
		return fail(r, why, "the mount table: %s", err_text(r));
	if (lstat(path, &st) < 0)
		return fail(-errno, why, "%s: %s", LOG_QUOTE(path), err_text(errno));
	if (!S_ISDIR(st.st_mode))
		return fail(-EINVAL, why, "%s is not a directory, so nothing can be mounted there",
			    LOG_QUOTE(path));
	if (geteuid() != 0 &&
	    (access(path, W_OK) < 0 || ((st.st_mode & S_ISVTX) && st.st_uid != geteuid())))
		return fail(-EACCES, why,
			    "%s is not yours to mount at (give a directory of your own)",
			    LOG_QUOTE(path));
	r = is_empty(path);
	if (r < 0)
		return fail(r, why, "%s: %s", LOG_QUOTE(path), err_text(r));
	if (r == 0)
		return fail(
			-EINVAL, why,
			"%s is not empty; what is in it would be hidden (give an empty directory)",
			LOG_QUOTE(path));
	return 0;
}

/* ---- the default place ---- */

/* The directory of default places: ours, and nobody else's to look into (what an upper directory keeps from others
 * must not be seen here). Whoever wants others to see a snapshot names a place. */
static int make_base(struct fs_exposures *x, char **ret, char why[FS_EXPOSE_WHY_SIZE])
{
	CLEANUP(free_p) char *base = NULL;
	char socket[PATH_MAX];
	struct stat st;
	int r = 0;

	if (x->socket)
		snprintf(socket, sizeof(socket), "%s", x->socket);
	else
		r = umbra_socket_path(false, socket, sizeof(socket));
	if (r < 0)
		return fail(r, why, "the default place for exposed snapshots: %s", err_text(r));
	if (asprintf(&base, "%s/" PLACE_NAME, dirname(socket)) < 0) {
		base = NULL;
		return no_memory(why);
	}
	if (mkdir(base, 0700) < 0 && errno != EEXIST)
		return fail(-errno, why, "%s cannot be made: %s (give a mount point)",
			    LOG_QUOTE(base), err_text(errno));
	if (lstat(base, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
	    (st.st_mode & 022))
		return fail(-EACCES, why,
			    "%s is not safe to use: somebody else may write there (give a mount "
			    "point)",
			    LOG_QUOTE(base));
	*ret = TAKE(base);
	return 0;
}

/* The snapshot's name under .snapshots, of which there may be another one in another tree. */
static int name_of(struct fs_exposures *x, const struct exposure *e, char name[COW_LABEL_MAX + 1])
{
	struct cow_snapshot *list = NULL;
	size_t n = 0;
	int r = cow_epoch_list(x->fs->store, false, &list, &n);

	if (r < 0)
		return r;
	r = -ENOENT;
	for (size_t i = 0; i < n; i++)
		if (list[i].epoch == e->epoch) {
			memcpy(name, list[i].name, COW_LABEL_MAX + 1);
			r = 0;
		}
	cow_snapshots_free(list, n);
	return r;
}

static int try_place(struct fs_exposures *x, const struct exposure *e, const char *path,
		     char **ret_real, bool *ret_made, char why[FS_EXPOSE_WHY_SIZE])
{
	CLEANUP(free_p) char *real = NULL;
	bool made;
	int r;

	clear_dead(e, path);
	made = mkdir(path, 0700) == 0;
	if (!made && errno != EEXIST)
		return fail(-errno, why, "%s cannot be made: %s (give a mount point)",
			    LOG_QUOTE(path), err_text(errno));
	r = resolve(path, &real, why);
	if (r == 0)
		r = check_point(x, e, real, why);
	if (r < 0) {
		if (made)
			rmdir(path);
		return r;
	}
	*ret_real = TAKE(real);
	*ret_made = true; /* in a directory of ours: by us, now or before a crash */
	return 0;
}

static int make_place(struct fs_exposures *x, const struct exposure *e, char **ret_real,
		      bool *ret_made, char why[FS_EXPOSE_WHY_SIZE])
{
	CLEANUP(free_p) char *base = NULL, *path = NULL, *other = NULL;
	char name[COW_LABEL_MAX + 1];
	int r = name_of(x, e, name);

	if (r < 0)
		return fail(r, why, "there is no such snapshot");
	r = make_base(x, &base, why);
	if (r < 0)
		return r;
	if (asprintf(&path, "%s/%s", base, name) < 0 ||
	    asprintf(&other, "%s/%s-%.*s", base, name, SHORT_ID, e->id) < 0)
		return no_memory(why);
	r = try_place(x, e, path, ret_real, ret_made, why);
	return r < 0 ? try_place(x, e, other, ret_real, ret_made, why) : r;
}

/* ---- making and ending one ---- */

static int mount_failed(int r, const char *path, char why[FS_EXPOSE_WHY_SIZE])
{
	if (r == -ENOPKG)
		return fail(-EOPNOTSUPP, why,
			    "mounting at %s needs fusermount3 (install fuse3, or be root)",
			    LOG_QUOTE(path));
	return fail(r == -EPERM ? -EACCES : r, why,
		    "mounting at %s: %s (is it yours, and is /dev/fuse there?)", LOG_QUOTE(path),
		    err_text(r));
}

static int serve_failed(int r, const struct exposure *e, char why[FS_EXPOSE_WHY_SIZE])
{
	switch (r) {
	case -ENOTDIR:
	case -EXDEV:
	case -EINVAL:
	case -ENAMETOOLONG:
		return fail(-EINVAL, why,
			    "%s is no directory of the snapshot (links are not followed, and "
			    "what is mounted in the tree is no part of it)",
			    LOG_QUOTE(e->subdir));
	case -ENOENT:
	case -ESTALE:
		return fail(-ENOENT, why,
			    e->subdir ? "the snapshot has no directory %s"
				      : "there is no such snapshot%s",
			    e->subdir ? LOG_QUOTE(e->subdir) : "");
	default:
		return fail(r, why, "the snapshot cannot be served: %s", err_text(r));
	}
}

static void unmake_place(const char *path, bool made)
{
	if (made && path)
		rmdir(path); /* another one keeps it from going, or its user */
}

/* What was checked is what is mounted on: by its descriptor, since the path may lead elsewhere a moment later. Whoever needs
 * fusermount3 has it check with his own rights. */
static int mount_at(const char *path, const char *source, int *ret_fd)
{
	CLEANUP(close_p) int at = -1;
	char link[40], real[PATH_MAX];
	ssize_t n;
	int r;

	if (!fusemount_privileged())
		return fusemount(path, source, ret_fd);
	at = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (at < 0)
		return -errno;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", at);
	n = readlink(link, real, sizeof(real) - 1);
	if (n < 0)
		return -errno;
	real[n] = '\0';
	r = strcmp(real, path) == 0 ? is_empty(link) : -ESTALE;
	if (r <= 0)
		return r < 0 ? r : -ENOTEMPTY;
	return fusemount_direct(link, source, ret_fd);
}

static int mount_and_serve(struct fs_exposures *x, struct exposure *e, const char *path,
			   uint64_t *ret_no, char why[FS_EXPOSE_WHY_SIZE])
{
	CLEANUP(free_p) char *source = source_of(e);
	int fd = -1, r;

	if (!source)
		return no_memory(why);
	r = mount_at(path, source, &fd);
	if (r < 0)
		return mount_failed(r, path, why);
	r = fs_serve_start(x->serve, e->epoch, e->subdir, fd, path, ret_no);
	if (r == 0)
		return 0;
	(void)fusemount_unmount(path, true);
	return serve_failed(r, e, why);
}

/* Make what is recorded so. On failure it is a record with a problem. */
static int make(struct fs_exposures *x, struct exposure *e, char why[FS_EXPOSE_WHY_SIZE])
{
	CLEANUP(free_p) char *real = NULL;
	uint64_t no = 0;
	bool made = false;
	int r;

	if (e->asked) {
		clear_dead(e, e->asked);
		r = resolve(e->asked, &real, why);
		if (r == 0 &&
		    strcmp(real, e->asked) != 0) /* its owner must not send root elsewhere */
			r = fail(-EINVAL, why, "%s was a directory and leads to %s now",
				 LOG_QUOTE(e->asked), LOG_QUOTE(real));
		if (r == 0)
			r = check_point(x, e, real, why);
	} else {
		r = make_place(x, e, &real, &made, why);
	}
	if (r == 0) {
		r = mount_and_serve(x, e, real, &no, why);
		if (r < 0)
			unmake_place(real, made);
	}
	e->made = made && r == 0;
	set_state(x, e, no, TAKE(real), r < 0 ? strdup(why) : NULL);
	return r;
}

/* Take the mount away if it is there and ours. */
static int unmake(struct fs_exposures *x, struct exposure *e, bool force,
		  char why[FS_EXPOSE_WHY_SIZE])
{
	int r = 0;

	if (is_mounted(x, e) && what_is_at(e, e->path) == 1) {
		r = fusemount_unmount(e->path, force);
		if (r == -EINVAL || r == -ENOENT)
			r = 0; /* somebody was faster */
	}
	if (r == -EBUSY)
		return fail(r, why, "%s is in use (leave it and close its files, or use force)",
			    LOG_QUOTE(e->path));
	if (r < 0)
		return fail(r, why, "unmounting %s: %s", LOG_QUOTE(e->path), err_text(r));
	unmake_place(e->path, e->made);
	set_state(x, e, 0, NULL, NULL);
	return 0;
}

/* ---- the calls ---- */

static int snapshot_id(struct fs_exposures *x, uint64_t epoch, char id[COW_UUID_LEN + 1])
{
	struct cow_snapshot *list = NULL;
	size_t n = 0;
	int r = cow_epoch_list(x->fs->store, false, &list, &n);

	if (r < 0)
		return r;
	r = -ENOENT;
	for (size_t i = 0; i < n; i++)
		if (list[i].epoch == epoch) {
			memcpy(id, list[i].id, COW_UUID_LEN + 1);
			r = 0;
		}
	cow_snapshots_free(list, n);
	return r;
}

static int record_failed(int r, char why[FS_EXPOSE_WHY_SIZE])
{
	return fail(r, why, "the record of exposed snapshots cannot be written: %s", err_text(r));
}

/* Where it will be each time: links are followed now and never again. */
static int settle_path(struct exposure *e, char why[FS_EXPOSE_WHY_SIZE])
{
	CLEANUP(free_p) char *real = NULL;
	char *path;
	int r;

	clear_dead(e, e->asked);
	r = resolve(e->asked, &real, why);
	if (r < 0)
		return r;
	path = strdup(real);
	if (!path)
		return no_memory(why);
	free(e->asked);
	free(e->path);
	e->asked = TAKE(real);
	e->path = path;
	return 0;
}

int fs_exposures_add(struct fs_exposures *x, uint64_t epoch, const char *path, const char *subdir,
		     char why[FS_EXPOSE_WHY_SIZE])
{
	CLEANUP(exposure_free_p) struct exposure *e = NULL;
	struct exposure *old = find(x, epoch);
	char id[COW_UUID_LEN + 1];
	int r;

	if (old && is_mounted(x, old))
		return fail(-EEXIST, why, "it is exposed at %s already", LOG_QUOTE(old->path));
	r = snapshot_id(x, epoch, id);
	if (r < 0)
		return fail(r, why, "there is no such snapshot");
	e = exposure_new(epoch, id, path, subdir);
	if (!e)
		return no_memory(why);
	r = e->asked ? settle_path(e, why) : 0;
	if (r < 0)
		return r;
	if (old)
		link_out(x, old);
	link_in(x, e);
	r = write_records(x);
	if (r < 0)
		record_failed(r, why);
	else
		r = make(x, e, why);
	if (r == 0) {
		log_info("snapshot %s is exposed at %s", e->id, LOG_QUOTE(e->path));
		TAKE(e);
		if (old)
			exposure_free(old);
		return 0;
	}
	link_out(x, e);
	if (old)
		link_in(x, old);
	if (write_records(x) < 0)
		log_warn("snapshot %s: the record of its exposure, which failed, stays", id);
	return r;
}

int fs_exposures_remove(struct fs_exposures *x, uint64_t epoch, bool force,
			char why[FS_EXPOSE_WHY_SIZE])
{
	CLEANUP(exposure_free_p) struct exposure *e = NULL;
	struct exposure *found = find(x, epoch);
	int r;

	if (!found)
		return fail(-ENOENT, why, "the snapshot is not exposed");
	r = unmake(x, found, force, why);
	if (r < 0)
		return r;
	link_out(x, found);
	r = write_records(x);
	if (r < 0) {
		link_in(x, found);
		set_state(x, found, 0, NULL, strdup("it was unmounted, but is still recorded"));
		return record_failed(r, why);
	}
	e = found;
	log_info("snapshot %s is not exposed any more", e->id);
	return 0;
}

void fs_exposures_sweep(struct fs_exposures *x)
{
	char why[FS_EXPOSE_WHY_SIZE], id[COW_UUID_LEN + 1];
	struct exposure *e, *next;
	bool any = false;

	for (e = x->list; e; e = next) {
		next = e->next;
		if (snapshot_id(x, e->epoch, id) != -ENOENT)
			continue;
		if (unmake(x, e, true, why) < 0)
			log_warn("snapshot %s is gone, its mount is not: %s", e->id, why);
		link_out(x, e);
		exposure_free(e);
		any = true;
	}
	/* If it fails, the next start finds a record without a snapshot: ids are never used again (D-13). */
	if (any && write_records(x) < 0)
		log_debug("exposures of dropped snapshots stay recorded");
}

/* One record; false: its snapshot is gone, or it makes no sense. */
static bool restore_one(struct fs_exposures *x, const json_t *record,
			const struct cow_snapshot *list, size_t n)
{
	CLEANUP(free_p) char *path = umbra_json_get_path(record, "path");
	CLEANUP(free_p) char *subdir = umbra_json_get_path(record, "subdir");
	const char *id = json_string_value(json_object_get(record, "snapshot_id"));
	char why[FS_EXPOSE_WHY_SIZE];
	struct exposure *e;
	size_t i = 0;

	while (i < n && (!id || strcmp(list[i].id, id) != 0))
		i++;
	if (i == n || find(x, list[i].epoch))
		return false;
	e = exposure_new(list[i].epoch, id, path, subdir);
	if (!e)
		return true;
	link_in(x, e);
	if (make(x, e, why) < 0)
		log_warn("snapshot %s cannot be exposed again: %s", e->id, why);
	else
		log_info("snapshot %s is exposed again at %s", e->id, LOG_QUOTE(e->path));
	return true;
}

void fs_exposures_restore(struct fs_exposures *x)
{
	CLEANUP(json_decref_p) json_t *whole = read_records(x);
	struct cow_snapshot *list = NULL;
	const json_t *record;
	bool all = true;
	size_t n = 0, i;

	if (!whole || cow_epoch_list(x->fs->store, false, &list, &n) < 0)
		return;
	json_array_foreach(json_object_get(whole, "exposures"), i, record)
		all &= restore_one(x, record, list, n);
	cow_snapshots_free(list, n);
	if (!all && write_records(x) < 0)
		log_debug("exposures of snapshots that are gone stay recorded");
}

void fs_exposures_free(struct fs_exposures *x)
{
	char why[FS_EXPOSE_WHY_SIZE];
	struct exposure *e;

	if (!x)
		return;
	while ((e = x->list)) {
		if (unmake(x, e, true, why) < 0)
			log_warn("snapshot %s: %s", e->id, why);
		x->list = e->next;
		exposure_free(e);
	}
	ulock_done(&x->lock);
	free(x->socket);
	free(x);
}

/* ---- what is told ---- */

bool fs_exposures_has(struct fs_exposures *x, uint64_t epoch, char why[FS_EXPOSE_WHY_SIZE])
{
	struct exposure *e;

	ulock_lock(&x->lock);
	for (e = x->list; e && e->epoch != epoch; e = e->next)
		;
	if (e)
		fail(0, why, "it is exposed at %s (unexpose it, or delete it with force)",
		     e->path ? LOG_QUOTE(e->path) : "its default place");
	ulock_unlock(&x->lock);
	return e;
}

json_t *fs_exposures_json(struct fs_exposures *x, uint64_t epoch)
{
	CLEANUP(free_p) char *path = NULL, *subdir = NULL, *problem = NULL;
	struct exposure *e;
	uint64_t no = 0;
	json_t *o;

	ulock_lock(&x->lock);
	for (e = x->list; e && e->epoch != epoch; e = e->next)
		;
	if (e) {
		path = strdup(e->path ? e->path : "");
		subdir = e->subdir ? strdup(e->subdir) : NULL;
		problem = e->problem ? strdup(e->problem) : NULL;
		no = e->no;
	}
	ulock_unlock(&x->lock);
	if (!path)
		return NULL;
	if (!problem && !(no && fs_serve_lives(x->serve, no)))
		problem = strdup("it was unmounted by somebody else");
	o = json_pack("{s:s?}", "problem", problem);
	if (o && umbra_json_set_path(o, "path", path) == 0 &&
	    (!subdir || umbra_json_set_path(o, "subdir", subdir) == 0))
		return o;
	json_decref(o);
	return NULL;
}
