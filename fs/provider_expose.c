/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/provider_expose.c - exposed snapshots; see provider_expose.h.
 *
 * The record is the note "exposed" of the store, JSON: {"version": 1, "exposures": [{"snapshot_id", "path"?, "subdir"?,
 * "ending"?}]}; without a path it is the default place, looked for anew each time: a runtime directory changes with its
 * user's logins. "ending": it is none any more, and what is still mounted there is to be taken away.
 *
 * Mount points lie on other people's file systems, which may never answer (provider_place.h). So each exposure that is to be
 * made or ended gets a thread for as long as that takes, and one that hangs hinders no other.
 *
 * Who owns what. The list owns the exposures. While one is `busy` its thread alone changes and frees it; others may only
 * set `ending`, which the thread looks at before it lets go. Fields that others read change under the lock.
 *
 * Home and away. A thread is at home while it uses the store, sessions or whoever is to be answered, and away while it
 * deals with a mount point: there it uses its own exposure and what never changes. At the end whoever is at home is waited
 * for, since that takes no longer than a write to the store; those away get END_WAIT_MS. After that nobody comes home any
 * more: a thread that returns later undoes its mount and ends. What it uses until then is counted, and the last one frees it.
 * A mount that could not be taken away is dead as soon as its session has ended; its record is still there, so that the next
 * start takes it away and makes it anew. */
#include "fs/provider_expose.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/client/client.h"
#include "cow/base/cleanup.h"
#include "cow/base/clock.h"
#include "cow/base/err.h"
#include "cow/base/lock.h"
#include "cow/base/log.h"
#include "cow/epoch.h"
#include "cow/note.h"

#define NOTE "exposed"
#define END_WAIT_MS 10000u

DEFINE_CLEANUP(json_decref_p, json_t *, json_decref)

struct exposure {
	struct exposure *next;
	uint64_t epoch;		   /* 0: its snapshot is gone */
	char id[COW_UUID_LEN + 1]; /* of the snapshot */
	char *asked;		   /* where, as recorded: without links; NULL: the default place */
	char *subdir;		   /* NULL: all of it */
	char *path;		   /* where it is, or would be; NULL: not known */
	char *problem;		   /* why it is not mounted; NULL: it was */
	uint64_t no;		   /* of its session; 0: none */
	bool made;		   /* we made the directory */
	bool recorded;		   /* it is in the record, or about to be */
	bool busy;		   /* a thread has it */
	bool ending;		   /* it is no exposure any more, only something to be taken away */
	bool parting;		   /* the daemon ends: it was told to unmount */
	struct exposure *replaced; /* owned; comes back if this one cannot be made */
};

struct fs_exposures {
	struct ulock
		lock; /* rank LEAF; guards the fields up to the blank line, and the exposures */
	pthread_cond_t cond; /* a thread let go of its exposure, went away, or ended */
	struct exposure *list;
	unsigned refs; /* the owner's, and one for each thread */
	unsigned home; /* threads at home */
	bool stop;     /* nothing is begun any more */
	bool gone;     /* nobody comes home any more */

	/* Set once: no lock. */
	struct fs_place_tree tree; /* owns its texts */
	struct ulock
		record_lock; /* rank SESSION; one at a time writes the record. Taken before `lock` */
	struct fs *fs;	     /* these two are for those at home */
	struct fs_serve *serve;
};

/* What a thread has to do. */
struct job {
	struct fs_exposures *x; /* counted */
	struct exposure *e;	/* busy for us; NULL: it is no more */
	int (*run)(struct job *j);
	fs_exposures_done *done; /* NULL: nobody asked */
	void *userdata;		 /* owned */
	bool force;
	bool lost; /* the daemon went on without us: we are away for good */
	char why[FS_EXPOSE_WHY_SIZE];
};

static int no_memory(char why[FS_EXPOSE_WHY_SIZE])
{
	return fs_place_fail(-ENOMEM, why, "out of memory");
}

/* ---- the list ---- */

static void exposure_free(struct exposure *e)
{
	if (e->replaced)
		exposure_free(e->replaced);
	free(e->asked);
	free(e->subdir);
	free(e->path);
	free(e->problem);
	free(e);
}
DEFINE_CLEANUP(exposure_free_p, struct exposure *, exposure_free)

/* For a thread that is about to begin. `asked`, `subdir` may be NULL. */
static struct exposure *exposure_new(uint64_t epoch, const char *id, const char *asked,
				     const char *subdir)
{
	CLEANUP(exposure_free_p) struct exposure *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->epoch = epoch;
	e->busy = true;
	snprintf(e->id, sizeof(e->id), "%s", id);
	e->asked = asked ? strdup(asked) : NULL;
	e->path = asked ? strdup(asked) : NULL;
	e->subdir = subdir && *subdir ? strdup(subdir) : NULL;
	e->problem = strdup("its mount point has not answered yet");
	if ((asked && (!e->asked || !e->path)) || (subdir && *subdir && !e->subdir) || !e->problem)
		return NULL;
	return TAKE(e);
}

/* The exposure of a snapshot; NULL: it has none. */
static struct exposure *find_locked(struct fs_exposures *x, uint64_t epoch)
{
	struct exposure *e = x->list;

	while (e && (e->epoch != epoch || e->ending))
		e = e->next;
	return e;
}

static void link_in_locked(struct fs_exposures *x, struct exposure *e)
{
	e->next = x->list;
	x->list = e;
}

/* The caller owns it then. */
static void link_out_locked(struct fs_exposures *x, struct exposure *e)
{
	struct exposure **at = &x->list;

	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	pthread_cond_broadcast(&x->cond);
}

static void link_out(struct fs_exposures *x, struct exposure *e)
{
	ulock_lock(&x->lock);
	link_out_locked(x, e);
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

static void exposures_destroy(struct fs_exposures *x)
{
	struct exposure *e;

	while ((e = x->list)) {
		x->list = e->next;
		exposure_free(e);
	}
	free((char *)x->tree.path);
	free((char *)x->tree.store_dir);
	free((char *)x->tree.socket);
	pthread_cond_destroy(&x->cond);
	ulock_done(&x->lock);
	ulock_done(&x->record_lock);
	free(x);
}

static void unref(struct fs_exposures *x)
{
	bool last;

	ulock_lock(&x->lock);
	last = --x->refs == 0;
	pthread_cond_broadcast(&x->cond);
	ulock_unlock(&x->lock);
	if (last)
		exposures_destroy(x);
}

struct fs_exposures *fs_exposures_new(struct fs *fs, struct fs_serve *serve, const char *socket)
{
	struct fs_exposures *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	ulock_init(&x->lock, RANK_LEAF);
	ulock_init(&x->record_lock, RANK_SESSION);
	ulock_cond_init(&x->cond);
	x->refs = 1;
	x->fs = fs;
	x->serve = serve;
	x->tree.path = strdup(fs->path);
	x->tree.store_dir = fs->store_dir ? strdup(fs->store_dir) : NULL;
	x->tree.socket = socket ? strdup(socket) : NULL;
	if (x->tree.path && (!fs->store_dir || x->tree.store_dir) && (!socket || x->tree.socket))
		return x;
	exposures_destroy(x);
	return NULL;
}

/* ---- the record ---- */

static json_t *record_of(const struct exposure *e)
{
	json_t *o = json_pack("{s:s}", "snapshot_id", e->id);
	const char *path = e->ending ? e->path : e->asked;

	if (o && e->ending)
		json_object_set_new(o, "ending", json_true());
	if (o && (!path || umbra_json_set_path(o, "path", path) == 0) &&
	    (!e->subdir || umbra_json_set_path(o, "subdir", e->subdir) == 0))
		return o;
	json_decref(o);
	return NULL;
}

/* NULL: out of memory. */
static json_t *records_locked(struct fs_exposures *x)
{
	CLEANUP(json_decref_p) json_t *list = json_array();

	for (const struct exposure *e = x->list; e; e = e->next) {
		const struct exposure *now = e->recorded || e->ending ? e : e->replaced;

		if (now && now->recorded && json_array_append_new(list, record_of(now)) < 0)
			return NULL;
	}
	return TAKE(list);
}

static int write_records(struct fs_exposures *x)
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&x->record_lock);
	CLEANUP(json_decref_p) json_t *list = NULL;
	CLEANUP(json_decref_p) json_t *whole = NULL;
	CLEANUP(free_p) char *text = NULL;

	(void)held;
	ulock_lock(&x->lock);
	list = records_locked(x);
	ulock_unlock(&x->lock);
	if (list && json_array_size(list) == 0)
		return cow_note_write(x->fs->store, NOTE, NULL, 0);
	whole = list ? json_pack("{s:i, s:O}", "version", 1, "exposures", list) : NULL;
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

static int record_failed(int r, char why[FS_EXPOSE_WHY_SIZE])
{
	return fs_place_fail(r, why, "the record of exposed snapshots cannot be written: %s",
			     err_text(r));
}

/* Id and name of a snapshot; either may be NULL. */
static int ask_store(struct fs_exposures *x, uint64_t epoch, char id[COW_UUID_LEN + 1],
		     char name[COW_LABEL_MAX + 1])
{
	struct cow_snapshot *list = NULL;
	size_t n = 0;
	int r = cow_epoch_list(x->fs->store, false, &list, &n);

	if (r < 0)
		return r;
	r = -ENOENT;
	for (size_t i = 0; i < n; i++) {
		if (list[i].epoch != epoch)
			continue;
		if (id)
			memcpy(id, list[i].id, COW_UUID_LEN + 1);
		if (name)
			memcpy(name, list[i].name, COW_LABEL_MAX + 1);
		r = 0;
	}
	cow_snapshots_free(list, n);
	return r;
}

/* ---- home and away ---- */

static void go_away(struct job *j)
{
	ulock_lock(&j->x->lock);
	j->x->home--;
	pthread_cond_broadcast(&j->x->cond);
	ulock_unlock(&j->x->lock);
}

/* false: there is no home any more. */
static bool come_home(struct job *j)
{
	ulock_lock(&j->x->lock);
	j->lost = j->x->gone;
	if (!j->lost)
		j->x->home++;
	ulock_unlock(&j->x->lock);
	return !j->lost;
}

/* ---- making and ending one: at home before, and after unless the job is lost ---- */

static int serve_failed(int r, const struct exposure *e, char why[FS_EXPOSE_WHY_SIZE])
{
	switch (r) {
	case -ENOTDIR:
	case -EXDEV:
	case -EINVAL:
	case -ENAMETOOLONG:
		return fs_place_fail(
			-EINVAL, why,
			"%s is no directory of the snapshot (links are not followed, and "
			"what is mounted in the tree is no part of it)",
			LOG_QUOTE(e->subdir));
	case -ENOENT:
	case -ESTALE:
		return fs_place_fail(-ENOENT, why,
				     e->subdir ? "the snapshot has no directory %s"
					       : "there is no such snapshot%s",
				     e->subdir ? LOG_QUOTE(e->subdir) : "");
	default:
		return fs_place_fail(r, why, "the snapshot cannot be served: %s", err_text(r));
	}
}

static int unmount_away(struct job *j, const char *path, bool made, bool force,
			char why[FS_EXPOSE_WHY_SIZE])
{
	int r;

	go_away(j);
	r = fs_place_unmount(j->e->id, path, made, force, why);
	return come_home(j) ? r : -ESHUTDOWN;
}

static int mount_away(struct job *j, const struct fs_place_want *want, char **ret_path,
		      bool *ret_made, int *ret_fd)
{
	CLEANUP(free_p) char *path = NULL;
	CLEANUP(close_p) int fd = -1;
	bool made = false;
	int r;

	go_away(j);
	r = fs_place_mount(&j->x->tree, want, &path, &made, &fd, j->why);
	if (!come_home(j)) {
		close_p(&fd);
		fd = -1;
		if (r == 0)
			fs_place_unmount(want->id, path, made, true, j->why);
		return -ESHUTDOWN;
	}
	if (r < 0)
		return r;
	*ret_path = TAKE(path);
	*ret_made = made;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int mount_and_serve(struct job *j, const struct fs_place_want *want, char **ret_path,
			   bool *ret_made, uint64_t *ret_no)
{
	char ignored[FS_EXPOSE_WHY_SIZE];
	struct exposure *e = j->e;
	int fd = -1;
	int r = mount_away(j, want, ret_path, ret_made, &fd);

	if (r < 0)
		return r;
	r = fs_serve_start(j->x->serve, e->epoch, e->subdir, fd, *ret_path, ret_no);
	if (r == 0)
		return 0;
	r = serve_failed(r, e, j->why);
	unmount_away(j, *ret_path, *ret_made, true, ignored);
	return j->lost ? -ESHUTDOWN : r;
}

/* Make what is recorded so. On failure it is a record with a problem. */
static int make(struct job *j)
{
	CLEANUP(free_p) char *path = NULL;
	struct exposure *e = j->e;
	char name[COW_LABEL_MAX + 1] = "";
	const struct fs_place_want want = { .id = e->id, .path = e->asked, .name = name };
	bool made = false;
	uint64_t no = 0;
	int r = ask_store(j->x, e->epoch, NULL, name);

	if (r < 0)
		r = fs_place_fail(r, j->why, "there is no such snapshot");
	else
		r = mount_and_serve(j, &want, &path, &made, &no);
	if (j->lost)
		return r;
	e->made = made && r == 0;
	set_state(j->x, e, no, TAKE(path), r < 0 ? strdup(j->why) : NULL);
	return r;
}

/* Take the mount away, or what a daemon before us left of it. */
static int unmake(struct job *j, bool force, char why[FS_EXPOSE_WHY_SIZE])
{
	struct exposure *e = j->e;
	int r = 0;

	if (is_mounted(j->x, e)) {
		r = unmount_away(j, e->path, e->made, force, why);
	} else if (e->path) {
		go_away(j);
		fs_place_clear(e->id, e->path, e->made);
		come_home(j);
	}
	if (!j->lost && r == 0)
		set_state(j->x, e, 0, NULL, NULL);
	return j->lost ? -ESHUTDOWN : r;
}

/* ---- the jobs ---- */

static void set_recorded(struct job *j, bool recorded)
{
	ulock_lock(&j->x->lock);
	j->e->recorded = recorded;
	ulock_unlock(&j->x->lock);
}

/* It is no more, in the record first: whoever waits for the list finds both done. */
static int forget(struct job *j, char why[FS_EXPOSE_WHY_SIZE])
{
	int r = 0;

	if (j->e->recorded) {
		set_recorded(j, false);
		r = write_records(j->x);
	}
	if (r < 0) {
		set_recorded(j, true);
		return record_failed(r, why);
	}
	link_out(j->x, j->e);
	exposure_free(TAKE(j->e));
	return 0;
}

static bool is_ending(struct job *j)
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&j->x->lock);

	(void)held;
	return j->e->ending;
}

/* Detached at once, for its snapshot is gone, somebody forced it, or the daemon ends. */
static int run_end(struct job *j)
{
	char why[FS_EXPOSE_WHY_SIZE];
	int r = unmake(j, true, why);

	if (r < 0 && !j->lost)
		log_warn("snapshot %s: its mount stays for now: %s", j->e->id, why);
	if (j->lost || !is_ending(j))
		return r;
	if (forget(j, why) < 0) { /* the next start finds the record, and nothing to do */
		struct exposure *e = TAKE(j->e);

		log_debug("an exposure that is over stays recorded");
		link_out(j->x, e);
		exposure_free(e);
	}
	return r;
}

static int run_remove(struct job *j)
{
	char id[COW_UUID_LEN + 1];
	int r = unmake(j, j->force, j->why);

	if (r < 0)
		return r;
	memcpy(id, j->e->id, sizeof(id));
	r = forget(j, j->why);
	if (r < 0)
		set_state(j->x, j->e, 0, NULL, strdup("it was unmounted, but is still recorded"));
	else
		log_info("snapshot %s is not exposed any more", id);
	return r;
}

static int run_restore(struct job *j)
{
	int r = make(j);

	if (r == 0)
		log_info("snapshot %s is exposed again at %s", j->e->id, LOG_QUOTE(j->e->path));
	else if (!j->lost)
		log_warn("snapshot %s cannot be exposed again: %s", j->e->id, j->why);
	return r;
}

/* Does somebody else deal with that place just now? Two that find it empty would mount there, the one over the other. */
static bool is_taken_locked(const struct fs_exposures *x, const struct exposure *but,
			    const char *path)
{
	for (const struct exposure *e = x->list; e; e = e->next)
		if (e != but && e->busy && e->path && strcmp(e->path, path) == 0)
			return true;
	return false;
}

/* From here on it is `real` for good. Takes it. */
static int take_place(struct job *j, char *real)
{
	CLEANUP(free_p) char *asked = real;
	CLEANUP(free_p) char *path = strdup(real);
	struct exposure *e = j->e;
	bool taken;

	if (!path)
		return no_memory(j->why);
	ulock_lock(&j->x->lock);
	taken = is_taken_locked(j->x, e, real);
	if (!taken) {
		char *old_asked = e->asked, *old_path = e->path;

		e->asked = TAKE(asked);
		e->path = TAKE(path);
		asked = old_asked; /* these go */
		path = old_path;
	}
	ulock_unlock(&j->x->lock);
	return taken ? fs_place_fail(-EBUSY, j->why,
				     "something is just being mounted or unmounted at %s",
				     LOG_QUOTE(asked))
		     : 0;
}

static int settle_place(struct job *j)
{
	char *real = NULL;
	int r;

	if (!j->e->asked)
		return 0;
	go_away(j);
	r = fs_place_settle(j->e->id, j->e->asked, &real, j->why);
	if (!come_home(j)) {
		free(real);
		return -ESHUTDOWN;
	}
	return r < 0 ? r : take_place(j, real);
}

/* The record comes first. */
static int record(struct job *j)
{
	int r;

	ulock_lock(&j->x->lock);
	r = j->e->ending || j->x->stop ? -ECANCELED : 0;
	j->e->recorded = r == 0;
	ulock_unlock(&j->x->lock);
	if (r < 0)
		return fs_place_fail(r, j->why, "it was unexposed meanwhile");
	r = write_records(j->x);
	return r < 0 ? record_failed(r, j->why) : 0;
}

/* As if it had never been asked for: what it replaced is back. */
static void take_back(struct job *j)
{
	struct exposure *e = TAKE(j->e);
	bool changed = e->recorded || e->replaced;

	ulock_lock(&j->x->lock);
	link_out_locked(j->x, e);
	if (e->replaced && !e->ending)
		link_in_locked(j->x, TAKE(e->replaced));
	ulock_unlock(&j->x->lock);
	if (changed && write_records(j->x) < 0)
		log_warn("snapshot %s: the record of its exposure, which failed, stays", e->id);
	exposure_free(e);
}

static int run_add(struct job *j)
{
	struct exposure *old;
	int r = settle_place(j);

	if (r == 0)
		r = record(j);
	if (r == 0)
		r = make(j);
	if (j->lost)
		return r;
	if (r < 0) {
		take_back(j);
		return r;
	}
	log_info("snapshot %s is exposed at %s", j->e->id, LOG_QUOTE(j->e->path));
	ulock_lock(&j->x->lock);
	old = TAKE(j->e->replaced);
	ulock_unlock(&j->x->lock);
	if (old)
		exposure_free(old);
	return 0;
}

/* ---- the threads ---- */

static void answer(fs_exposures_done *done, void *userdata, int r, const char *why)
{
	if (done)
		done(userdata, r, why);
	free(userdata);
}

static void job_free(struct job *j)
{
	struct fs_exposures *x = j->x;

	free(j->userdata);
	free(j);
	unref(x);
}

/* Let go of the exposure, unless it is to end: then that is ours, too. */
static bool let_go(struct job *j, bool *ret_ending)
{
	struct fs_exposures *x = j->x;
	struct exposure *e = j->e;
	bool more;

	if (!e)
		return true;
	ulock_lock(&x->lock);
	*ret_ending = e->ending;
	more = e->ending || (x->stop && e->no && !e->parting);
	e->parting |= more;
	e->busy = more;
	pthread_cond_broadcast(&x->cond);
	ulock_unlock(&x->lock);
	return !more;
}

static void *job_thread(void *arg)
{
	struct job *j = arg;
	bool ending = false;
	int r;

	if (come_home(j)) {
		r = j->run(j);
		while (!j->lost && !let_go(j, &ending))
			run_end(j);
		if (ending && r == 0 && j->run == run_add)
			r = fs_place_fail(-ECANCELED, j->why, "it was unexposed meanwhile");
		if (!j->lost) {
			answer(j->done, TAKE(j->userdata), r, j->why);
			go_away(j);
		}
	}
	job_free(j);
	return NULL;
}

static int start_thread(struct job *j)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r = pthread_attr_init(&attr);

	if (r != 0)
		return -r;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED); /* counted instead */
	r = pthread_create(&thread, &attr, job_thread, j);
	pthread_attr_destroy(&attr);
	return -r;
}

/* `e` is busy: for the thread that begins, or still for the caller if none does. Takes `userdata` if it succeeds. */
static int start(struct fs_exposures *x, struct exposure *e, int (*run)(struct job *j), bool force,
		 fs_exposures_done *done, void *userdata)
{
	struct job *j = calloc(1, sizeof(*j));
	int r = -ENOMEM;

	if (j) {
		*j = (struct job){ .x = x, .e = e, .run = run, .force = force, .done = done };
		j->userdata = userdata;
		ulock_lock(&x->lock);
		x->refs++;
		ulock_unlock(&x->lock);
		r = start_thread(j);
	}
	if (r == 0)
		return 0;
	ulock_lock(&x->lock);
	x->refs -= j != NULL;
	ulock_unlock(&x->lock);
	free(j);
	return r;
}

/* There is no thread for it. */
static void not_busy(struct fs_exposures *x, struct exposure *e)
{
	ulock_lock(&x->lock);
	e->busy = false;
	pthread_cond_broadcast(&x->cond);
	ulock_unlock(&x->lock);
}

/* ---- the calls ---- */

static int hangs(const struct exposure *e, char why[FS_EXPOSE_WHY_SIZE])
{
	return fs_place_fail(-EBUSY, why,
			     "%s, where it is exposed, has not answered yet (wait, or unexpose it "
			     "with force)",
			     e->path ? LOG_QUOTE(e->path) : "the default place");
}

/* In the place of one that is not mounted. */
static int put_in_list(struct fs_exposures *x, struct exposure *e, char why[FS_EXPOSE_WHY_SIZE])
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&x->lock);
	struct exposure *old = find_locked(x, e->epoch);

	(void)held;
	if (x->stop)
		return fs_place_fail(-ESHUTDOWN, why, "the tree's umbrafs ends");
	if (old && old->busy)
		return hangs(old, why);
	if (old) {
		link_out_locked(x, old);
		e->replaced = old;
	}
	link_in_locked(x, e);
	return 0;
}

static int check_not_mounted(struct fs_exposures *x, uint64_t epoch, char why[FS_EXPOSE_WHY_SIZE])
{
	CLEANUP(free_p) char *path = NULL;
	struct exposure *e;
	uint64_t no = 0;

	ulock_lock(&x->lock);
	e = find_locked(x, epoch);
	if (e && !e->busy && e->no) {
		no = e->no;
		path = e->path ? strdup(e->path) : NULL;
	}
	ulock_unlock(&x->lock);
	if (!no || !fs_serve_lives(x->serve, no))
		return 0;
	return fs_place_fail(-EEXIST, why, "it is exposed at %s already",
			     path ? LOG_QUOTE(path) : "its place");
}

static int add(struct fs_exposures *x, uint64_t epoch, const char *path, const char *subdir,
	       fs_exposures_done *done, void *userdata, char why[FS_EXPOSE_WHY_SIZE])
{
	CLEANUP(exposure_free_p) struct exposure *e = NULL;
	char id[COW_UUID_LEN + 1];
	int r = check_not_mounted(x, epoch, why);

	if (r < 0)
		return r;
	r = ask_store(x, epoch, id, NULL);
	if (r < 0)
		return fs_place_fail(r, why, "there is no such snapshot");
	e = exposure_new(epoch, id, path, subdir);
	if (!e)
		return no_memory(why);
	r = put_in_list(x, e, why);
	if (r < 0)
		return r;
	r = start(x, e, run_add, false, done, userdata);
	if (r == 0) {
		TAKE(e);
		return 0;
	}
	ulock_lock(&x->lock);
	link_out_locked(x, e);
	if (e->replaced)
		link_in_locked(x, TAKE(e->replaced));
	ulock_unlock(&x->lock);
	return no_memory(why);
}

void fs_exposures_add(struct fs_exposures *x, uint64_t epoch, const char *path, const char *subdir,
		      fs_exposures_done *done, void *userdata)
{
	char why[FS_EXPOSE_WHY_SIZE];
	int r = add(x, epoch, path, subdir, done, userdata, why);

	if (r < 0)
		answer(done, userdata, r, why);
}

/* 1: it waits for a mount point, and ends by itself whenever that answers. */
static int claim_to_end(struct fs_exposures *x, uint64_t epoch, bool force, struct exposure **ret,
			char why[FS_EXPOSE_WHY_SIZE])
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&x->lock);
	struct exposure *e = find_locked(x, epoch);

	(void)held;
	if (!e)
		return fs_place_fail(-ENOENT, why, "the snapshot is not exposed");
	if (x->stop)
		return fs_place_fail(-ESHUTDOWN, why, "the tree's umbrafs ends");
	if (e->busy && !force)
		return hangs(e, why);
	if (e->busy) {
		e->ending = true;
		return 1;
	}
	e->busy = true;
	*ret = e;
	return 0;
}

void fs_exposures_remove(struct fs_exposures *x, uint64_t epoch, bool force,
			 fs_exposures_done *done, void *userdata)
{
	char why[FS_EXPOSE_WHY_SIZE] = "";
	struct exposure *e = NULL;
	int r = claim_to_end(x, epoch, force, &e, why);

	if (r == 0) {
		r = start(x, e, run_remove, force, done, userdata);
		if (r == 0)
			return;
		not_busy(x, e);
		no_memory(why);
	} else if (r == 1) {
		r = write_records(x);
		if (r < 0) /* it ends all the same, unless we do before */
			log_warn("an exposure that is over stays recorded: %s", err_text(r));
		log_info("an exposure is over, and is taken away when its mount point answers");
		r = 0;
	}
	answer(done, userdata, r, why);
}

/* Mark those whose snapshot is gone. */
static void mark_gone_locked(struct fs_exposures *x, const struct cow_snapshot *list, size_t n)
{
	for (struct exposure *e = x->list; e; e = e->next) {
		size_t i = 0;

		while (i < n && list[i].epoch != e->epoch)
			i++;
		e->ending |= i == n;
	}
}

/* The next one that nobody works on and that has to go; the caller's then. */
static struct exposure *claim_next(struct fs_exposures *x)
{
	struct exposure *e;

	ulock_lock(&x->lock);
	for (e = x->list; e; e = e->next)
		if (!e->busy && !e->parting && (e->ending || (x->stop && e->no)))
			break;
	if (e)
		e->busy = e->parting = true;
	ulock_unlock(&x->lock);
	return e;
}

static unsigned end_all(struct fs_exposures *x)
{
	struct exposure *e;
	unsigned n = 0;

	while ((e = claim_next(x))) {
		if (start(x, e, run_end, true, NULL, NULL) == 0) {
			n++;
			continue;
		}
		log_warn("snapshot %s: no thread to unmount it", e->id);
		not_busy(x, e);
	}
	return n;
}

unsigned fs_exposures_sweep(struct fs_exposures *x)
{
	struct cow_snapshot *list = NULL;
	size_t n = 0;

	/* Not written down: the next start finds a record without a snapshot, ids are never used again (D-13). */
	if (cow_epoch_list(x->fs->store, false, &list, &n) < 0)
		return 0;
	ulock_lock(&x->lock);
	mark_gone_locked(x, list, n);
	ulock_unlock(&x->lock);
	cow_snapshots_free(list, n);
	return end_all(x);
}

/* One record; false: it makes no sense. */
static bool restore_one(struct fs_exposures *x, const json_t *record,
			const struct cow_snapshot *list, size_t n)
{
	CLEANUP(free_p) char *path = umbra_json_get_path(record, "path");
	CLEANUP(free_p) char *subdir = umbra_json_get_path(record, "subdir");
	const char *id = json_string_value(json_object_get(record, "snapshot_id"));
	struct exposure *e;
	bool ending;
	size_t i = 0;

	if (!id)
		return false;
	while (i < n && strcmp(list[i].id, id) != 0)
		i++;
	ending = i == n || json_is_true(json_object_get(record, "ending"));
	e = exposure_new(i < n ? list[i].epoch : 0, id, path, subdir);
	if (!e)
		return true;
	e->ending = ending;
	e->recorded = true;
	ulock_lock(&x->lock);
	if (!ending && find_locked(x, e->epoch)) {
		ulock_unlock(&x->lock);
		exposure_free(e);
		return false;
	}
	link_in_locked(x, e);
	ulock_unlock(&x->lock);
	if (start(x, e, ending ? run_end : run_restore, true, NULL, NULL) < 0) {
		set_state(x, e, 0, NULL, strdup("out of memory"));
		not_busy(x, e);
	}
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
		log_debug("exposures that make no sense stay recorded");
}

static bool is_busy_locked(const struct fs_exposures *x, uint64_t epoch)
{
	for (const struct exposure *e = x->list; e; e = e->next)
		if (e->busy && (epoch == 0 || e->epoch == epoch))
			return true;
	return false;
}

void fs_exposures_settle(struct fs_exposures *x, uint64_t epoch, unsigned wait_ms)
{
	uint64_t deadline_ns = clock_deadline_ms(wait_ms);

	ulock_lock(&x->lock);
	while (is_busy_locked(x, epoch) && !x->stop &&
	       ulock_wait_until(&x->lock, &x->cond, deadline_ns) == 0)
		;
	ulock_unlock(&x->lock);
}

void fs_exposures_stop(struct fs_exposures *x)
{
	ulock_lock(&x->lock);
	x->stop = true;
	pthread_cond_broadcast(&x->cond);
	ulock_unlock(&x->lock);
	end_all(x);
}

bool fs_exposures_free(struct fs_exposures *x)
{
	uint64_t deadline_ns;
	unsigned left;

	if (!x)
		return true;
	fs_exposures_stop(x);
	deadline_ns = clock_deadline_ms(END_WAIT_MS);
	ulock_lock(&x->lock);
	while (x->refs > 1 && ulock_wait_until(&x->lock, &x->cond, deadline_ns) == 0)
		;
	x->gone = true;
	while (x->home > 0)
		ulock_wait(&x->lock, &x->cond);
	left = x->refs - 1;
	ulock_unlock(&x->lock);
	unref(x);
	if (left > 0)
		log_warn(
			"mount points of %u exposed snapshots do not answer; what is mounted there is "
			"taken away at the next start",
			left);
	return left == 0;
}

/* ---- what is told ---- */

bool fs_exposures_has(struct fs_exposures *x, uint64_t epoch, char why[FS_EXPOSE_WHY_SIZE])
{
	struct exposure *e;

	ulock_lock(&x->lock);
	e = find_locked(x, epoch);
	if (e)
		fs_place_fail(0, why, "it is exposed at %s (unexpose it, or delete it with force)",
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
	e = find_locked(x, epoch);
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
