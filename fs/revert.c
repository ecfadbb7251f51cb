/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/revert.c - reverting under a mount; see revert.h.
 *
 * What cow_revert does below, the kernel and the table of nodes have to learn. A name that goes is taken out of the table
 * together with it, as an unlink does; the kernel is told afterwards, with the directory's lock of its own, so that a look-up
 * under way ends before and what it found is thrown away. */
#include "fs/revert.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/base/err.h"
#include "cow/base/log.h"
#include "cow/base/mounts.h"
#include "cow/base/path.h"
#include "cow/epoch.h"
#include "fs/handles.h"
#include "fs/locate.h"
#include "fs/loss.h"

#define OPEN_TRIES 20u /* the kernel releases what was closed a moment later */
#define OPEN_PAUSE_US 50000u

struct fs_revert {
	struct ulock lock; /* rank LEAF; guards the fields up to the blank line */
	pthread_cond_t cond;
	bool running; /* there is a thread that has more to do than to tell its result */
	bool joinable;
	bool begun;
	bool stop;

	struct fs *fs;
	struct fs_revert_hooks hooks;
	pthread_t thread;
	uint64_t epoch; /* these are the thread's */
	bool force;
	char busy[COW_REVERT_WHY_MAX]; /* why -EBUSY; "": the store's own reason */
	void (*done)(void *userdata, int r, const struct cow_revert_info *info);
	void *userdata;
	struct fs_node *parent; /* of the name that goes just now */
	bool stays;		/* it did not go */
	struct fs_loss loss;
};

static int files_open(struct fs_revert *rv)
{
	snprintf(rv->busy, sizeof(rv->busy),
		 "files or directories of the tree are open (close them, or use force)");
	return -EBUSY;
}

/* ---- what the store tells ---- */

/* X-10, volume-in-use, once more: an open is no change, so that the gate does not keep it out; one that was answered before it
 * closed is counted now. Whoever opens later finds a tree that is being reverted. */
static int on_may_begin(void *userdata)
{
	struct fs_revert *rv = userdata;

	return !rv->force && fs_handles_live(rv->fs) ? files_open(rv) : 0;
}

static void on_begun(void *userdata)
{
	struct fs_revert *rv = userdata;

	ulock_lock(&rv->lock);
	rv->begun = true;
	pthread_cond_broadcast(&rv->cond);
	ulock_unlock(&rv->lock);
	if (rv->hooks.changed)
		rv->hooks.changed(rv->hooks.userdata);
}

static struct fs_node *live_node(struct fs *fs, uint64_t ino)
{
	struct fs_node *root = fs_nodes_root(fs->nodes);

	if (ino == root->ino)
		return fs_nodes_ref(fs->nodes, root);
	return fs_nodes_find(fs->nodes, FS_LIVE, fs->below_dev, ino);
}

static void on_name_goes(void *userdata, uint64_t dir, int dir_fd, const char *name)
{
	struct fs_revert *rv = userdata;

	rv->loss = (struct fs_loss)FS_LOSS_NONE;
	rv->parent = live_node(rv->fs, dir);
	if (rv->parent)
		fs_loss_begin(rv->fs, rv->parent, dir_fd, name, false, &rv->loss);
	fs_tree_read(rv->fs);
}

static void on_name_gone(void *userdata, uint64_t dir, const char *name, int r)
{
	struct fs_revert *rv = userdata;

	(void)dir;
	rv->stays = r < 0;
	if (r == 0 && rv->parent)
		fs_loss_publish(rv->fs, &rv->loss, rv->parent, name);
	fs_tree_done(rv->fs);
}

/* A node that came back gets its name, so that it does not pass for removed (fs_correct_stat). */
static void find_name(struct fs *fs, struct fs_node *parent, const char *name)
{
	CLEANUP(fs_fd_put) struct fs_fd dir = FS_FD_NONE;
	struct fs_node *node;
	struct stat st;

	if (fs_locate_dir(fs, parent, &dir) < 0 ||
	    fstatat(dir.fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	node = fs_nodes_find(fs->nodes, FS_LIVE, st.st_dev, st.st_ino);
	if (!node)
		return;
	if (fs_nodes_add_place(fs->nodes, node, parent, name) < 0)
		log_debug("a name that came back is found when it is looked up");
	fs_nodes_unref(fs->nodes, node);
}

static void forget_attr(struct fs *fs, struct fs_node *node)
{
	if (fs->se)
		fuse_lowlevel_notify_inval_inode(fs->se, fs_nodes_id(node), -1, 0);
}

static void on_name_changed(void *userdata, uint64_t dir, const char *name)
{
	struct fs_revert *rv = userdata;
	struct fs *fs = rv->fs;
	struct fs_node *parent = live_node(fs, dir);

	rank_assert_free(RANK_NONE + 1);
	if (parent && !rv->stays) {
		find_name(fs, parent, name);
		if (fs->se)
			fuse_lowlevel_notify_inval_entry(fs->se, fs_nodes_id(parent), name,
							 strlen(name));
		forget_attr(fs, parent);
	}
	if (parent)
		fs_nodes_unref(fs->nodes, parent);
	rv->stays = false;
	if (rv->loss.node)
		forget_attr(fs, rv->loss.node);
	fs_loss_put(fs, &rv->loss);
	rv->loss = (struct fs_loss)FS_LOSS_NONE;
	if (rv->parent)
		fs_nodes_unref(fs->nodes, rv->parent);
	rv->parent = NULL;
}

static void on_inode_changed(void *userdata, uint64_t ino)
{
	struct fs_revert *rv = userdata;
	struct fs *fs = rv->fs;
	struct fs_node *node = live_node(fs, ino);

	rank_assert_free(RANK_NONE + 1);
	if (!node)
		return;
	atomic_store_explicit(&node->no_caps_at, 0, memory_order_relaxed);
	if (fs->se) /* pages and attributes */
		fuse_lowlevel_notify_inval_inode(fs->se, fs_nodes_id(node), 0, 0);
	fs_nodes_unref(fs->nodes, node);
}

/* ---- the thread ---- */

static bool stopping(struct fs_revert *rv)
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&rv->lock);

	(void)held;
	return rv->stop;
}

/* X-10, volume-in-use. A process that only has its working directory here cannot be seen. */
static int wait_for_closed(struct fs_revert *rv)
{
	for (unsigned i = 0; !rv->force && fs_handles_live(rv->fs); i++) {
		if (i == OPEN_TRIES)
			return files_open(rv);
		if (stopping(rv))
			return -ECANCELED;
		usleep(OPEN_PAUSE_US);
	}
	return 0;
}

/* Whoever forgets a directory's name detaches what is mounted on it, and what lies below would seem to be empty: a mount in
 * the tree is no part of the snapshot and none of ours to end. */
static int check_mounts(struct fs_revert *rv)
{
	CLEANUP(mounts_done) struct mounts mounts = { 0 };
	int r = mounts_read(&mounts);

	for (size_t i = 0; r == 0 && i < mounts.count; i++) {
		const char *below = path_below(rv->fs->path, mounts.list[i].point);

		if (!below || !*below)
			continue;
		snprintf(rv->busy, sizeof(rv->busy),
			 "something is mounted in the tree at %s (unmount it first)", below);
		r = -EBUSY;
	}
	return r;
}

/* D-12: whatever is newer and in use, though nothing of it may be open. What is open the store sees by itself. */
static int check_newer(struct fs_revert *rv)
{
	struct cow_snapshot *list = NULL;
	size_t n = 0;
	int r = 0;

	if (rv->force || !rv->hooks.in_use)
		return 0;
	r = cow_epoch_list(rv->fs->store, true, &list, &n);
	for (size_t i = 0; r == 0 && i < n; i++)
		if (list[i].epoch > rv->epoch &&
		    rv->hooks.in_use(rv->hooks.userdata, list[i].epoch))
			r = -EBUSY;
	cow_snapshots_free(list, n);
	return r;
}

static void say_done(const struct cow_revert_info *info, uint64_t epoch)
{
	log_info("the tree was reverted to snapshot epoch %llu", (unsigned long long)epoch);
	if (info->left_out)
		log_warn(
			"%llu changed files were not found and stay as they are; they may lie where "
			"umbrafs may not look: %s",
			(unsigned long long)info->left_out, LOG_QUOTE(info->why));
}

static void say(const struct cow_revert_info *info, uint64_t epoch, int r)
{
	if (r == 0)
		say_done(info, epoch);
	else if (info->state == COW_REVERT_STOPPED)
		log_error("the revert to snapshot %s is not finished (%llu of it failed): %s",
			  info->id, (unsigned long long)info->failures, LOG_QUOTE(info->why));
	else
		log_info("no revert to snapshot epoch %llu: %s", (unsigned long long)epoch,
			 err_text(r));
}

static void *revert_thread(void *arg)
{
	struct fs_revert *rv = arg;
	const struct cow_revert_hooks hooks = {
		.may_begin = on_may_begin,
		.begun = on_begun,
		.name_goes = on_name_goes,
		.name_gone = on_name_gone,
		.name_changed = on_name_changed,
		.inode_changed = on_inode_changed,
		.userdata = rv,
	};
	struct cow_revert_info info;
	int r;

	rv->busy[0] = '\0';
	r = check_mounts(rv);
	if (r == 0)
		r = wait_for_closed(rv);
	if (r == 0)
		r = check_newer(rv);
	if (r == 0)
		r = cow_revert(rv->fs->store, rv->epoch, rv->force, &hooks);
	cow_revert_get(rv->fs->store, &info);
	if (r == -EBUSY && info.state != COW_REVERT_STOPPED)
		snprintf(info.why, sizeof(info.why), "%s",
			 *rv->busy ? rv->busy
				   : "a newer snapshot is in use, or being made (umount or "
				     "unexpose it, or use force)");
	say(&info, rv->epoch, r);
	if (rv->begun && rv->hooks.changed) /* ours alone to set */
		rv->hooks.changed(rv->hooks.userdata);
	ulock_lock(&rv->lock);
	rv->running = false; /* first: whoever is told may begin another one, which joins us */
	pthread_cond_broadcast(&rv->cond);
	ulock_unlock(&rv->lock);
	if (rv->done)
		rv->done(rv->userdata, r, &info);
	return NULL;
}

/* Is it ours to start one? The thread before has ended then. */
static bool claim(struct fs_revert *rv)
{
	bool join;

	ulock_lock(&rv->lock);
	if (rv->running || rv->stop) {
		ulock_unlock(&rv->lock);
		return false;
	}
	rv->running = true;
	rv->begun = false;
	join = rv->joinable;
	rv->joinable = false;
	ulock_unlock(&rv->lock);
	if (join)
		pthread_join(rv->thread, NULL);
	return true;
}

int fs_revert_start(struct fs_revert *rv, uint64_t epoch, bool force,
		    void (*done)(void *userdata, int r, const struct cow_revert_info *info),
		    void *userdata)
{
	int r;

	if (!claim(rv))
		return -EINPROGRESS;
	rv->epoch = epoch;
	rv->force = force;
	rv->done = done;
	rv->userdata = userdata;
	r = -pthread_create(&rv->thread, NULL, revert_thread, rv);
	ulock_lock(&rv->lock);
	rv->joinable = r == 0;
	if (r < 0)
		rv->running = false;
	ulock_unlock(&rv->lock);
	return r;
}

void fs_revert_resume(struct fs_revert *rv)
{
	uint64_t epoch = cow_revert_cut_off(rv->fs->store);
	int r;

	if (!epoch && cow_revert_pending(rv->fs->store))
		log_warn("%s is reverted in part: the revert stopped, and goes on when it is "
			 "called again",
			 LOG_QUOTE(rv->fs->path));
	if (!epoch)
		return;
	log_info("a revert to snapshot epoch %llu was cut off and goes on",
		 (unsigned long long)epoch);
	r = fs_revert_start(rv, epoch, true, NULL, NULL);
	if (r < 0) {
		log_error("an unfinished revert cannot go on: %s", err_text(r));
		return;
	}
	ulock_lock(&rv->lock);
	while (rv->running && !rv->begun)
		ulock_wait(&rv->lock, &rv->cond);
	ulock_unlock(&rv->lock);
}

struct fs_revert *fs_revert_new(struct fs *fs, const struct fs_revert_hooks *hooks)
{
	struct fs_revert *rv = calloc(1, sizeof(*rv));

	if (!rv)
		return NULL;
	ulock_init(&rv->lock, RANK_LEAF);
	ulock_cond_init(&rv->cond);
	rv->loss = (struct fs_loss)FS_LOSS_NONE;
	rv->fs = fs;
	rv->hooks = *hooks;
	return rv;
}

void fs_revert_free(struct fs_revert *rv)
{
	bool join;

	if (!rv)
		return;
	ulock_lock(&rv->lock);
	rv->stop = true;
	join = rv->joinable;
	ulock_unlock(&rv->lock);
	cow_revert_stop(rv->fs->store);
	if (join)
		pthread_join(rv->thread, NULL);
	pthread_cond_destroy(&rv->cond);
	ulock_done(&rv->lock);
	free(rv);
}
