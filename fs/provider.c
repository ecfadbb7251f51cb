/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/provider.c - the connection to the coordinator; see provider.h. */
#include "fs/provider.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/client/client.h"
#include "cow/base/cleanup.h"
#include "cow/base/clock.h"
#include "cow/base/err.h"
#include "cow/base/log.h"
#include "cow/diff.h"
#include "cow/epoch.h"
#include "cow/gate.h"
#include "fs/idmap.h"
#include "fs/provider_expose.h"
#include "fs/revert.h"
#include "fs/serve.h"
#include "fs/snap.h"

#define BACKOFF_MIN_MS 100u
#define BACKOFF_MAX_MS 2000u
#define DROP_TRIES 20u /* waiting for the kernel to forget a snapshot that nobody uses any more */
#define DROP_PAUSE_US 50000u
#define EXPOSE_WAIT_MS                                                                             \
	5000u /* registration waits for exposures, but not for ever: their places may hang */
#define DETACH_WAIT_MS 2000u /* so does a drop with force */

DEFINE_CLEANUP(json_decref_p, json_t *, json_decref)

/* A command on its way to the slow thread, or a message on its way out. */
struct item {
	struct item *next;
	char call[32]; /* command, or method of the message */
	json_int_t serial;
	unsigned long session; /* of a command: the connection that it came by */
	json_t *params;	       /* owned */
	int fd;		       /* owned, or -1 */
};

struct queue {
	struct item *head, **tail;
};

struct fs_provider {
	struct ulock lock;   /* rank LEAF; guards the fields up to the blank line */
	pthread_cond_t cond; /* the slow thread waits for work */
	struct queue slow, out;
	unsigned long session; /* counts connections: an answer for a former one is thrown away */
	bool stop;

	struct fs *fs;
	struct fs_serve *serve;
	struct fs_exposures *exposures;
	struct fs_revert *revert;
	char *socket;
	int wake_fd;  /* eventfd: something is in `out`, or stop */
	int stop_fd;  /* eventfd, readable once `stop` is: no waiting for the coordinator then */
	bool holding; /* connection thread only */
	pthread_t conn_thread, slow_thread;
};

/* ---- items and queues ---- */

static struct item *item_new(const char *call, json_int_t serial, json_t *params, int fd)
{
	struct item *it = calloc(1, sizeof(*it));

	if (!it) {
		json_decref(params);
		close_p(&fd);
		return NULL;
	}
	snprintf(it->call, sizeof(it->call), "%s", call);
	it->serial = serial;
	it->params = params;
	it->fd = fd;
	return it;
}

static void item_free(struct item *it)
{
	json_decref(it->params);
	close_p(&it->fd);
	free(it);
}
DEFINE_CLEANUP(item_free_p, struct item *, item_free)

static void put_locked(struct queue *q, struct item *it)
{
	it->next = NULL;
	*q->tail = it;
	q->tail = &it->next;
}

static struct item *take_locked(struct queue *q)
{
	struct item *it = q->head;

	if (it) {
		q->head = it->next;
		if (!q->head)
			q->tail = &q->head;
	}
	return it;
}

static void clear_locked(struct queue *q)
{
	struct item *it;

	while ((it = take_locked(q)))
		item_free(it);
}

static void to_slow(struct fs_provider *p, struct item *it)
{
	if (!it)
		return;
	ulock_lock(&p->lock);
	it->session = p->session;
	put_locked(&p->slow, it);
	pthread_cond_signal(&p->cond);
	ulock_unlock(&p->lock);
}

static void poke(int event_fd)
{
	uint64_t one = 1;

	if (write(event_fd, &one, sizeof(one)) < 0)
		return; /* full means it will wake anyway */
}

/* `session` 0: whichever connection there is. */
static void to_out(struct fs_provider *p, unsigned long session, struct item *it)
{
	if (!it)
		return;
	ulock_lock(&p->lock);
	if (session == 0 || session == p->session)
		put_locked(&p->out, TAKE(it));
	ulock_unlock(&p->lock);
	if (it)
		item_free(it);
	poke(p->wake_fd);
}

/* ---- answers ---- */

struct answer {
	json_t *result;			  /* owned */
	int fd;				  /* owned */
	const char *error;		  /* a name of protocol section 10; NULL: from r */
	char message[FS_EXPOSE_WHY_SIZE]; /* "": a general one */
	const char *text;		  /* likewise, borrowed; NULL: none */
};

static const char *error_name(int r)
{
	switch (r) {
	case -ENOSPC:
	case -EDQUOT:
		return "insufficient-storage";
	case -ENOENT:
	case -ESTALE:
		return "object-not-found";
	case -EEXIST:
		return "object-already-exists";
	case -EBUSY:
		return "volume-in-use";
	case -EUSERS:
		return "maximum-number-of-snapshots-reached";
	case -EINVAL:
	case -EBADF:
	case -ELOOP:
	case -ENAMETOOLONG:
	case -ENOTDIR:
		return "invalid-argument";
	case -EINPROGRESS:
		return "revert-in-progress"; /* */
	case -ENOMEM:
		return "out-of-memory";
	case -EACCES:
	case -EPERM:
		return "access-denied";
	case -ENOSYS:
	case -EOPNOTSUPP:
		return "not-supported";
	default:
		return "unexpected-provider-error";
	}
}

/* It may name files, whose names are any bytes. NULL: out of memory. */
static json_t *text_json(const char *text)
{
	json_t *s = json_string(text);
	char quoted[2 * LOG_QUOTE_SIZE];

	return s ? s : json_string(log_quote(quoted, sizeof(quoted), text));
}

static struct item *make_answer(struct fs_provider *p, const char *call, json_int_t serial, int r,
				struct answer *a)
{
	json_t *params = json_pack("{s:I}", "serial", serial);
	char text[256];

	if (params && r < 0) {
		snprintf(text, sizeof(text),
			 "%s on the snapshots of a protected directory failed: %s", call,
			 err_text(r));
		json_object_set_new(params, "error",
				    json_string(a->error ? a->error : error_name(r)));
		json_object_set_new(params, "errno", json_integer(r));
		json_object_set_new(params, "message",
				    text_json(a->text	    ? a->text
					      : *a->message ? a->message
							    : text));
	}
	if (params && r >= 0)
		json_object_set(params, "result", a->result);
	json_decref(a->result);
	return item_new("ProviderAnswer", serial, params, a->fd);
}

/* ---- what the coordinator is told ---- */

/* null when there is nothing to tell. */
static json_t *revert_json(struct fs_provider *p)
{
	static const char *const states[] = { "none", "running", "stopped", "lost" };
	struct cow_revert_info info;
	json_t *o;

	cow_revert_get(p->fs->store, &info);
	if (info.state == COW_REVERT_NONE)
		return json_null();
	o = json_pack("{s:s, s:s, s:I, s:I, s:I}", "state", states[info.state], "snapshot_id",
		      info.id, "done", (json_int_t)info.done, "total", (json_int_t)info.total,
		      "failures", (json_int_t)info.failures);
	if (o && *info.why)
		umbra_json_set_path(o, "why", info.why);
	return o;
}

static json_t *tree_json(struct fs_provider *p)
{
	static const char *const shown[] = { "hidden", "visible", "off" };
	struct fs *fs = p->fs;
	struct cow_usage use;
	json_t *tree;

	cow_store_usage(fs->store, &use);
	tree = json_pack("{s:s, s:i, s:s, s:I, s:I, s:I, s:b, s:n, s:[], s:o}", "id",
			 cow_store_tree_id(fs->store), "pid", (int)getpid(), "snapshots_shown",
			 shown[fs->shown], "used_bytes", (json_int_t)use.used_bytes,
			 "allocated_bytes", (json_int_t)use.allocated_bytes, "max_bytes",
			 (json_int_t)use.max_bytes, "holding", (int)p->holding, "fault", "warnings",
			 "revert", revert_json(p));
	if (!tree)
		return NULL;
	umbra_json_set_path(tree, "path", fs->path);
	json_object_set_new(tree, "store_in_memory", json_boolean(fs->store_in_memory)); /* C-9 */
	if (fs->store_dir) {
		umbra_json_set_path(tree, "store", fs->store_dir);
	} else {
		char *store = NULL;

		if (asprintf(&store, "%s/%s", fs->path, COW_STORE_NAME) > 0)
			umbra_json_set_path(tree, "store", store);
		free(store);
	}
	if (fs->shown != FS_SNAPSHOTS_OFF) {
		char *root = NULL;

		if (asprintf(&root, "%s/%s", fs->path, FS_SNAPDIR_NAME) > 0)
			umbra_json_set_path(tree, "snapshot_root", root);
		free(root);
	}
	return tree;
}

static json_t *snapshot_json(struct fs_provider *p, const struct cow_snapshot *s)
{
	json_t *exposed = fs_exposures_json(p->exposures, s->epoch);
	json_t *o = json_pack("{s:I, s:s, s:s, s:i, s:s, s:I, s:I, s:s, s:s, s:I, s:I, s:i}",
			      "epoch", (json_int_t)s->epoch, "id", s->id, "set_id", s->set_id,
			      "context", (int)s->context, "state",
			      s->state == COW_SNAP_CREATED ? "created" : "opened", "in_set",
			      (json_int_t)s->in_set, "opened_ns", (json_int_t)s->opened_ns, "label",
			      s->label, "name", s->name, "stored_bytes",
			      (json_int_t)s->stored_bytes, "changed_files",
			      (json_int_t)s->changed_files, "in_use",
			      (int)fs_serve_count(p->serve, s->epoch));

	if (o && s->extra)
		json_object_set_new(o, "extra", json_string(s->extra));
	if (o && exposed)
		json_object_set_new(o, "exposed", exposed);
	else
		json_decref(exposed);
	return o;
}

static json_t *snapshots_json(struct fs_provider *p)
{
	struct cow_snapshot *list = NULL;
	json_t *array = json_array();
	size_t n = 0;

	if (!array || cow_epoch_list(p->fs->store, true, &list, &n) < 0)
		return array;
	for (size_t i = 0; i < n; i++)
		if (list[i].state != COW_SNAP_DROPPED)
			json_array_append_new(array, snapshot_json(p, &list[i]));
	cow_snapshots_free(list, n);
	return array;
}

/* ---- quick commands ---- */

static json_int_t get_int(const json_t *args, const char *key, json_int_t absent)
{
	const json_t *v = json_object_get(args, key);

	return json_is_integer(v) ? json_integer_value(v) : absent;
}

static const char *get_string(const json_t *args, const char *key)
{
	const char *s = json_string_value(json_object_get(args, key));

	return s ? s : "";
}

static int cmd_hold(struct fs_provider *p, const json_t *args, struct answer *a)
{
	int r = cow_gate_hold(p->fs->store, (unsigned)get_int(args, "wait_ms", 2000),
			      (unsigned)get_int(args, "limit_ms", COW_HOLD_MAX_MS));

	if (r == 0) /* refused: the one before may still be in force */
		p->holding = true;
	if (r == -ETIMEDOUT)
		a->error = "flush-writes-timeout";
	return r;
}

static int cmd_release(struct fs_provider *p, struct answer *a)
{
	int r = cow_gate_release(p->fs->store);

	p->holding = false;
	if (r == -ETIMEDOUT)
		a->error = "hold-writes-timeout";
	return r;
}

static bool copy_text(char *dst, size_t size, const char *src)
{
	return (size_t)snprintf(dst, size, "%s", src) < size;
}

static int cmd_open(struct fs_provider *p, const json_t *args, struct answer *a)
{
	struct cow_snapshot snap = {
		.context = (enum cow_context)get_int(args, "context", 0),
		.in_set = (uint32_t)get_int(args, "in_set", 1),
		.extra = (char *)json_string_value(json_object_get(args, "extra")),
	};
	uint64_t epoch;
	int r;

	if (!copy_text(snap.id, sizeof(snap.id), get_string(args, "id")) ||
	    !copy_text(snap.set_id, sizeof(snap.set_id), get_string(args, "set_id")) ||
	    !copy_text(snap.label, sizeof(snap.label), get_string(args, "label")) ||
	    !copy_text(snap.name, sizeof(snap.name), get_string(args, "name")))
		return -EINVAL;
	r = cow_epoch_open(p->fs->store, &snap, &epoch);
	if (r == -ETIMEDOUT)
		a->error = "hold-writes-timeout";
	if (r == 0)
		a->result = json_pack("{s:I}", "epoch", (json_int_t)epoch);
	return r;
}

/* S-12: whose tree it is, not who serves it. */
static json_int_t owner(const struct fs_provider *p)
{
	struct stat st = { .st_uid = geteuid() };

	if (fstat(p->fs->below_fd, &st) < 0)
		log_debug("fstat: %s", err_text(-errno));
	fs_idmap_show(&st.st_uid, &st.st_gid);
	return st.st_uid;
}

static int cmd_usage(struct fs_provider *p, struct answer *a)
{
	struct cow_usage use;

	cow_store_usage(p->fs->store, &use);
	a->result = json_pack("{s:I, s:I, s:I, s:I, s:o}", "used_bytes", (json_int_t)use.used_bytes,
			      "allocated_bytes", (json_int_t)use.allocated_bytes, "max_bytes",
			      (json_int_t)use.max_bytes, "uid", owner(p), "revert", revert_json(p));
	return 0;
}

static int run_quick(struct fs_provider *p, const char *call, const json_t *args, struct answer *a)
{
	struct cow_store *st = p->fs->store;

	if (strcmp(call, "prepare") == 0)
		return cow_epoch_prepare(st);
	if (strcmp(call, "unprepare") == 0)
		return cow_epoch_unprepare(st), 0;
	if (strcmp(call, "hold") == 0)
		return cmd_hold(p, args, a);
	if (strcmp(call, "release") == 0)
		return cmd_release(p, a);
	if (strcmp(call, "open") == 0)
		return cmd_open(p, args, a);
	if (strcmp(call, "commit") == 0)
		return cow_epoch_commit(st, (uint64_t)get_int(args, "epoch", 0),
					get_string(args, "extra"));
	if (strcmp(call, "usage") == 0)
		return cmd_usage(p, a);
	if (strcmp(call, "list") == 0)
		return a->result = json_pack("{s:o}", "snapshots", snapshots_json(p)), 0;
	return -ENOSYS;
}

/* ---- slow commands ---- */

static void name_of(struct cow_store *st, uint64_t epoch, char name[COW_LABEL_MAX + 1])
{
	struct cow_snapshot *list = NULL;
	size_t n = 0;

	name[0] = '\0';
	if (cow_epoch_list(st, true, &list, &n) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		if (list[i].epoch == epoch)
			memcpy(name, list[i].name, COW_LABEL_MAX + 1);
	cow_snapshots_free(list, n);
}

/* The kernel's memory of names under .snapshots counts as use: make it forget first, which takes it a moment. */
static int cmd_drop(struct fs_provider *p, const json_t *args, struct answer *a)
{
	uint64_t epoch = (uint64_t)get_int(args, "epoch", 0);
	bool force = json_is_true(json_object_get(args, "force"));
	char name[COW_LABEL_MAX + 1];
	int r = -EBUSY;

	if (!force && fs_exposures_has(p->exposures, epoch, a->message)) /* D-12 */
		return r;
	a->message[0] = '\0';
	name_of(p->fs->store, epoch, name);
	for (unsigned i = 0; i < DROP_TRIES && r == -EBUSY; i++) {
		if (i)
			usleep(DROP_PAUSE_US);
		if (*name)
			fs_snap_dropped(p->fs, name);
		if (!force && fs_serve_count(p->serve, epoch))
			continue; /* its mount may just be ending */
		r = cow_epoch_drop(p->fs->store, epoch, force);
	}
	if (r == 0 && *name)
		fs_snap_dropped(p->fs, name);
	if (r == 0 && fs_exposures_sweep(p->exposures) > 0)
		fs_exposures_settle(p->exposures, epoch, DETACH_WAIT_MS);
	return r;
}

static void on_revert_changed(void *userdata)
{
	struct fs_provider *p = userdata;

	to_out(p, 0,
	       item_new("ProviderEvent", 0,
			json_pack("{s:s, s:o}", "event", "revert", "revert", revert_json(p)), -1));
	fs_provider_owner_changed(p); /* perhaps it brought the former one back */
}

static bool is_exposed(void *userdata, uint64_t epoch)
{
	struct fs_provider *p = userdata;
	char why[FS_EXPOSE_WHY_SIZE];

	return fs_exposures_has(p->exposures, epoch, why);
}

/* A revert is answered when it is over, from its own thread: nothing else waits for it. */
struct reverting {
	struct fs_provider *p;
	json_int_t serial;
	unsigned long session;
};

static const char *revert_error(int r, const struct cow_revert_info *info)
{
	if (r == -EOPNOTSUPP)
		return "unsupported-context"; /* X-10, C-8 */
	if (r == -ESTALE)
		return "volume-not-supported"; /* nothing will change that */
	if (r == -ENOENT && info->state == COW_REVERT_STOPPED)
		return "unexpected-provider-error"; /* not the snapshot is missing */
	return NULL;
}

static void revert_text(int r, const struct cow_revert_info *info, char *text, size_t size)
{
	*text = '\0';
	if (info->state == COW_REVERT_STOPPED)
		snprintf(text, size,
			 "the revert is not finished, %llu of it failed: %s (remove the cause and "
			 "call it again)",
			 (unsigned long long)info->failures, info->why);
	else if (r == -ESTALE)
		snprintf(text, size,
			 "%s, so the tree cannot become what it was (umbra restore brings single "
			 "files back)",
			 info->why);
	else if (r == -EOPNOTSUPP)
		snprintf(text, size,
			 "the snapshot is not persistent: only a tree's persistent "
			 "snapshots can be reverted to");
	else if (r == -EBUSY)
		snprintf(text, size, "%s", info->why);
	else if (r == -EINPROGRESS)
		snprintf(text, size, "another revert of the tree is not finished");
}

static void on_reverted(void *userdata, int r, const struct cow_revert_info *info)
{
	struct reverting *rv = userdata;
	char text[COW_REVERT_WHY_MAX + 256];
	struct answer a = { .fd = -1, .error = revert_error(r, info) };

	revert_text(r, info, text, sizeof(text));
	a.text = *text ? text : NULL;
	to_out(rv->p, rv->session, make_answer(rv->p, "revert", rv->serial, r, &a));
	free(rv);
}

static void cmd_revert(struct fs_provider *p, const struct item *it)
{
	struct reverting *rv = calloc(1, sizeof(*rv));
	struct cow_revert_info none = { 0 };
	int r = rv ? 0 : -ENOMEM;

	if (rv) {
		*rv = (struct reverting){ p, it->serial, it->session };
		r = fs_revert_start(p->revert, (uint64_t)get_int(it->params, "epoch", 0),
				    json_is_true(json_object_get(it->params, "force")), on_reverted,
				    rv);
		if (r < 0)
			on_reverted(rv, r, &none);
	} else {
		struct answer a = { .fd = -1 };

		to_out(p, it->session, make_answer(p, "revert", it->serial, r, &a));
	}
}

static int cmd_serve(struct fs_provider *p, const json_t *args, int *fd)
{
	char *mountpoint = umbra_json_get_path(args, "mountpoint");
	int r = *fd < 0 ? -EBADF : 0;

	if (r == 0)
		r = fs_serve_start(p->serve, (uint64_t)get_int(args, "epoch", 0), NULL,
				   TAKE_FD(*fd), mountpoint ? mountpoint : "?", NULL);
	free(mountpoint);
	return r;
}

/* An exposure is answered when it is made or ended, from a thread of its own: its mount point may hang. */
struct exposing {
	struct fs_provider *p;
	json_int_t serial;
	unsigned long session;
	char call[32]; /* as of an item */
};

static void on_exposed(void *userdata, int r, const char *why)
{
	struct exposing *ex = userdata;
	struct answer a = { .fd = -1, .text = r < 0 && *why ? why : NULL };

	to_out(ex->p, ex->session, make_answer(ex->p, ex->call, ex->serial, r, &a));
}

/* C-10 */
static void cmd_expose(struct fs_provider *p, const struct item *it)
{
	CLEANUP(free_p) char *path = umbra_json_get_path(it->params, "path");
	CLEANUP(free_p) char *subdir = umbra_json_get_path(it->params, "subdir");
	uint64_t epoch = (uint64_t)get_int(it->params, "epoch", 0);
	struct exposing *ex = calloc(1, sizeof(*ex));

	if (!ex) {
		struct answer a = { .fd = -1 };

		to_out(p, it->session, make_answer(p, it->call, it->serial, -ENOMEM, &a));
		return;
	}
	*ex = (struct exposing){ .p = p, .serial = it->serial, .session = it->session };
	snprintf(ex->call, sizeof(ex->call), "%s", it->call);
	if (strcmp(it->call, "expose") == 0)
		fs_exposures_add(p->exposures, epoch, path, subdir, on_exposed, ex);
	else
		fs_exposures_remove(p->exposures, epoch,
				    json_is_true(json_object_get(it->params, "force")), on_exposed,
				    ex);
}

struct diff_out {
	FILE *f;
	json_int_t count;
};

static int write_diff(void *userdata, const struct cow_diff_entry *e)
{
	struct diff_out *out = userdata;
	char kind[2] = { (char)e->kind, '\0' };
	CLEANUP(json_decref_p)
	json_t *o = json_pack("{s:s, s:b, s:I, s:I, s:I, s:I}", "kind", kind, "modified",
			      (int)e->modified, "mode", (json_int_t)e->mode, "ino",
			      (json_int_t)e->ino, "old_size", (json_int_t)e->old_size, "new_size",
			      (json_int_t)e->new_size);

	if (!o || umbra_json_set_path(o, "path", e->path) < 0)
		return -ENOMEM;
	if (e->old_path && umbra_json_set_path(o, "old_path", e->old_path) < 0)
		return -ENOMEM;
	out->count++;
	if (json_dumpf(o, out->f, JSON_COMPACT) < 0 || fputc('\n', out->f) == EOF)
		return -EIO;
	return 0;
}

/* Into memory, not into a file: any file system might be one that is held (H-2). */
static int cmd_diff(struct fs_provider *p, const json_t *args, struct answer *a)
{
	CLEANUP(close_p) int fd = memfd_create("umbra-diff", MFD_CLOEXEC);
	struct diff_out out = { 0 };
	int r;

	if (fd < 0)
		return -errno;
	out.f = fdopen(dup(fd), "w");
	if (!out.f)
		return -errno;
	r = cow_diff(p->fs->store, (uint64_t)get_int(args, "epoch_a", 0),
		     (uint64_t)get_int(args, "epoch_b", 0), write_diff, &out);
	if (fclose(out.f) != 0 && r == 0)
		r = -EIO;
	if (r < 0)
		return r;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	a->fd = TAKE_FD(fd);
	a->result = json_pack("{s:I}", "count", out.count);
	return 0;
}

static bool is_slow(const char *call)
{
	static const char *const slow[] = {
		"drop", "diff", "serve", "expose", "unexpose", "revert"
	};

	for (size_t i = 0; i < sizeof(slow) / sizeof(slow[0]); i++)
		if (strcmp(call, slow[i]) == 0)
			return true;
	return false;
}

static void run_slow(struct fs_provider *p, struct item *it)
{
	struct answer a = { .fd = -1 };
	int r;

	if (strcmp(it->call, "!forget") == 0) {
		fs_snap_dropped(p->fs, json_string_value(it->params));
		fs_exposures_sweep(p->exposures); /* F-11 */
		return;
	}
	if (strcmp(it->call, "revert") == 0) {
		cmd_revert(p, it);
		return;
	}
	if (strcmp(it->call, "expose") == 0 || strcmp(it->call, "unexpose") == 0) {
		cmd_expose(p, it);
		return;
	}
	if (strcmp(it->call, "drop") == 0)
		r = cmd_drop(p, it->params, &a);
	else if (strcmp(it->call, "diff") == 0)
		r = cmd_diff(p, it->params, &a);
	else
		r = cmd_serve(p, it->params, &it->fd);
	to_out(p, it->session, make_answer(p, it->call, it->serial, r, &a));
}

static void *slow_thread(void *arg)
{
	struct fs_provider *p = arg;

	ulock_lock(&p->lock);
	while (!p->stop) {
		CLEANUP(item_free_p) struct item *it = take_locked(&p->slow);

		if (!it) {
			ulock_wait(&p->lock, &p->cond);
			continue;
		}
		ulock_unlock(&p->lock);
		run_slow(p, it);
		ulock_lock(&p->lock);
	}
	ulock_unlock(&p->lock);
	return NULL;
}

/* ---- the connection ---- */

static bool stopping(struct fs_provider *p)
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&p->lock);

	(void)held;
	return p->stop;
}

static int dispatch(struct fs_provider *p, struct umbra_client *c, json_t *msg, int fd)
{
	CLEANUP(close_p) int passed = fd;
	const char *call = get_string(msg, "call");
	json_int_t serial = get_int(msg, "serial", -1);
	json_t *args = json_object_get(msg, "arguments");
	struct answer a = { .fd = -1 };
	struct item *it;
	int r;

	if (is_slow(call)) {
		/* A copy: two threads must not share a message's parts. */
		to_slow(p, item_new(call, serial, json_deep_copy(args), TAKE_FD(passed)));
		return 0;
	}
	r = run_quick(p, call, args, &a);
	it = make_answer(p, call, serial, r, &a);
	if (!it)
		return -ENOMEM;
	r = umbra_send(c, it->call, json_incref(it->params), it->fd);
	item_free(it);
	return r;
}

static int receive(struct fs_provider *p, struct umbra_client *c)
{
	for (;;) {
		CLEANUP(json_decref_p) json_t *msg = NULL;
		int fd = -1;
		int r = umbra_next(c, 0, &msg, &fd, NULL);

		if (r == -EAGAIN || r == -ETIMEDOUT)
			return 0;
		if (r == 0)
			r = dispatch(p, c, msg, fd);
		if (r < 0)
			return r;
	}
}

static int send_out(struct fs_provider *p, struct umbra_client *c)
{
	for (;;) {
		CLEANUP(item_free_p) struct item *it = NULL;
		int r;

		ulock_lock(&p->lock);
		it = take_locked(&p->out);
		ulock_unlock(&p->lock);
		if (!it)
			return 0;
		r = umbra_send(c, it->call, json_incref(it->params), it->fd);
		if (r < 0)
			return r;
	}
}

static void drain(int event_fd)
{
	uint64_t n;

	if (read(event_fd, &n, sizeof(n)) < 0)
		return;
}

/* Until the connection ends. */
static void serve_connection(struct fs_provider *p, struct umbra_client *c)
{
	struct pollfd fds[2] = {
		{ .fd = umbra_client_fd(c), .events = POLLIN },
		{ .fd = p->wake_fd, .events = POLLIN },
	};

	while (!stopping(p)) {
		if (receive(p, c) < 0 || send_out(p, c) < 0)
			return;
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return;
		if (fds[1].revents & POLLIN)
			drain(p->wake_fd);
	}
}

static int register_tree(struct fs_provider *p, struct umbra_client *c)
{
	json_t *params = json_pack("{s:o, s:I, s:o}", "tree", tree_json(p), "uid", owner(p),
				   "snapshots", snapshots_json(p));

	return params ? umbra_subscribe(c, "RegisterProvider", params) : -ENOMEM;
}

/* H-3: the hold first. What was opened and not committed stays, and is reported as such at the next registration: only
 * the coordinator can drop the other trees' members of its set, too (N-7). */
static void connection_lost(struct fs_provider *p)
{
	if (p->holding)
		cow_gate_release(p->fs->store);
	p->holding = false;
	ulock_lock(&p->lock);
	p->session++;
	clear_locked(&p->out);
	ulock_unlock(&p->lock);
	cow_epoch_unprepare(p->fs->store);
}

static void pause_ms(struct fs_provider *p, unsigned ms)
{
	struct pollfd fd = { .fd = p->wake_fd, .events = POLLIN };

	if (poll(&fd, 1, (int)ms) > 0)
		drain(p->wake_fd);
}

static void *conn_thread(void *arg)
{
	struct fs_provider *p = arg;
	unsigned backoff = BACKOFF_MIN_MS;

	/* Whoever protected a directory finds everything exposed as before: the tree is known only then. */
	fs_exposures_settle(p->exposures, 0, EXPOSE_WAIT_MS);
	while (!stopping(p)) {
		struct umbra_client *c = NULL;

		if (umbra_connect_until(p->socket, p->stop_fd, CLOCK_NEVER, &c) == 0) {
			if (register_tree(p, c) == 0) {
				uint64_t since = clock_mono_ns();

				serve_connection(p, c);
				if (clock_mono_ns() - since > CLOCK_NS_PER_SEC)
					backoff = BACKOFF_MIN_MS;
			}
			umbra_close(c);
			connection_lost(p);
		}
		if (!stopping(p))
			pause_ms(p, backoff);
		backoff = backoff * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : backoff * 2;
	}
	return NULL;
}

/* ---- start, stop, events ---- */

static const char *cause_name(enum cow_drop_cause cause)
{
	switch (cause) {
	case COW_DROP_FULL:
		return "full";
	case COW_DROP_UNFINISHED:
		return "unfinished";
	case COW_DROP_BOOT:
		return "boot";
	case COW_DROP_REQUEST:
		return "request";
	default:
		return "fault";
	}
}

void fs_provider_dropped(struct fs_provider *p, const struct cow_snapshot *snap,
			 enum cow_drop_cause cause)
{
	json_t *params = json_pack("{s:s, s:s, s:s}", "event", "dropped", "snapshot_id", snap->id,
				   "cause", cause_name(cause));

	to_slow(p, item_new("!forget", 0, json_string(snap->name), -1));
	to_out(p, 0, item_new("ProviderEvent", 0, params, -1));
}

void fs_provider_owner_changed(struct fs_provider *p)
{
	to_out(p, 0,
	       item_new("ProviderEvent", 0,
			json_pack("{s:s, s:I}", "event", "owner", "uid", owner(p)), -1));
}

struct fs_provider *fs_provider_start(struct fs *fs, const char *socket)
{
	struct fs_provider *p = calloc(1, sizeof(*p));
	const struct fs_revert_hooks hooks = {
		.changed = on_revert_changed,
		.in_use = is_exposed,
		.userdata = p,
	};

	if (!p)
		return NULL;
	ulock_init(&p->lock, RANK_LEAF);
	ulock_cond_init(&p->cond);
	p->slow.tail = &p->slow.head;
	p->out.tail = &p->out.head;
	p->session = 1;
	p->fs = fs;
	p->socket = socket ? strdup(socket) : NULL;
	p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->serve = fs_serve_new(fs->store, fs->below_fd);
	p->exposures = p->serve ? fs_exposures_new(fs, p->serve, socket) : NULL;
	p->revert = fs_revert_new(fs, &hooks);
	if (p->revert)
		fs_revert_resume(p->revert);
	if (p->wake_fd < 0 || p->stop_fd < 0 || !p->exposures || !p->revert ||
	    (socket && !p->socket) || pthread_create(&p->slow_thread, NULL, slow_thread, p) != 0) {
		close_p(&p->wake_fd);
		close_p(&p->stop_fd);
		fs_revert_free(p->revert);
		fs_exposures_free(p->exposures);
		fs_serve_free(p->serve);
		free(p->socket);
		free(p);
		return NULL;
	}
	fs_exposures_restore(p->exposures); /* D-14; before the connection waits for it */
	if (pthread_create(&p->conn_thread, NULL, conn_thread, p) != 0)
		abort(); /* one thread could be had a moment ago: nothing sensible is left */
	return p;
}

bool fs_provider_stop(struct fs_provider *p)
{
	bool all;

	if (!p)
		return true;
	ulock_lock(&p->lock);
	p->stop = true;
	pthread_cond_signal(&p->cond);
	ulock_unlock(&p->lock);
	poke(p->stop_fd);
	poke(p->wake_fd);
	fs_exposures_stop(p->exposures);
	pthread_join(p->conn_thread, NULL);
	pthread_join(p->slow_thread, NULL);
	fs_revert_free(p->revert);
	all = fs_exposures_free(p->exposures);
	fs_serve_free(p->serve);
	clear_locked(&p->slow);
	clear_locked(&p->out);
	close(p->wake_fd);
	close(p->stop_fd);
	pthread_cond_destroy(&p->cond);
	ulock_done(&p->lock);
	free(p->socket);
	free(p);
	return all;
}
