/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/reclaim.c - keep memory bounded; see reclaim.h. */
#include "fs/reclaim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cow/base/cleanup.h"
#include "cow/base/clock.h"
#include "cow/base/log.h"
#include "fs/mounted.h"
#include "fs/rawio.h"

#define BATCH 512u
#define BUSY_MS 200u
/* Far from the limit, or after a round in which the kernel gave nothing back. */
#define IDLE_MS 1000u

struct fs_reclaim {
	struct ulock lock; /* rank LEAF; guards stop */
	pthread_cond_t cond;
	bool stop;

	struct fs *fs;
	size_t max;
	pthread_t thread;

	/* The thread's own. */
	bool no_prune;		   /* the kernel has no FUSE_NOTIFY_PRUNE */
	struct fs_mounted mounted; /* as this sweep found it */
	int looked;		   /* 0; -EAGAIN: not in this sweep; else why it is not known */
	bool told;
};

/* Look once in a sweep. False: it cannot be known. */
static bool knows_mounted(struct fs_reclaim *rc)
{
	if (rc->looked == -EAGAIN) {
		fs_mounted_done(&rc->mounted);
		rc->looked = fs_mounted_read("/proc", &rc->mounted);
		if (rc->looked < 0 && !rc->told)
			log_warn("memory is not given back while mount tables cannot be read: %s",
				 strerror(-rc->looked));
		rc->told = rc->looked < 0;
	}
	return rc->looked == 0;
}

/* Older kernels: invalidate the name. That also takes away what is mounted on it, in containers too (d_invalidate in
 * the kernel's fs/dcache.c): so none that may be a mount point, and never a directory's, where most is mounted and
 * what we cannot see would be lost. */
static void invalidate_name(struct fs_reclaim *rc, struct fs_node *node)
{
	struct fs *fs = rc->fs;
	char name[FS_NODE_NAME_SIZE];
	struct fs_node *parent;

	if (node->kind != FS_LIVE || node->type == S_IFDIR >> 12 ||
	    fs_nodes_place(fs->nodes, node, 0, &parent, name) < 0)
		return;
	if (!fs_mounted_has(&rc->mounted, name))
		fuse_lowlevel_notify_inval_entry(fs->se, fs_nodes_id(parent), name, strlen(name));
	fs_nodes_unref(fs->nodes, parent);
}

/* The references are given back first where that is safe: an id is only a number to the kernel. */
static void evict(struct fs_reclaim *rc, struct fs_node **cold, size_t n)
{
	uint64_t ids[BATCH];

	if (!n)
		return;
	for (size_t i = 0; i < n; i++)
		ids[i] = fs_nodes_id(cold[i]);
	if (!rc->no_prune && fs_rawio_prune(rc->fs, ids, n) == -ENOSYS)
		rc->no_prune = true;
	for (size_t i = 0; i < n; i++) {
		if (rc->no_prune && knows_mounted(rc))
			invalidate_name(rc, cold[i]);
		fs_nodes_unref(rc->fs->nodes, cold[i]);
	}
}

/* One round: twice around the clock at most, until the kernel was asked to give up as many nodes as there are too
 * many. Returns the milliseconds until the next. */
static unsigned sweep(struct fs_reclaim *rc)
{
	size_t before = fs_nodes_count(rc->fs->nodes);
	size_t excess = before > rc->max ? before - rc->max * 7 / 8 : 0;
	size_t left = before * 2;

	rc->looked = -EAGAIN;
	while (excess && left) {
		struct fs_node *cold[BATCH];
		size_t looked;
		size_t n = fs_nodes_cold(rc->fs->nodes, excess < BATCH ? excess : BATCH, cold,
					 &looked);

		evict(rc, cold, n);
		excess -= n;
		left -= looked < left ? looked : left;
	}
	if (before <= rc->max)
		return before > rc->max / 2 ? BUSY_MS : IDLE_MS;
	return fs_nodes_count(rc->fs->nodes) < before ? BUSY_MS : IDLE_MS;
}

static void *reclaim_thread(void *arg)
{
	struct fs_reclaim *rc = arg;

	ulock_lock(&rc->lock);
	while (!rc->stop) {
		unsigned pause_ms;

		ulock_unlock(&rc->lock);
		pause_ms = sweep(rc);
		ulock_lock(&rc->lock);
		if (!rc->stop)
			ulock_wait_until(&rc->lock, &rc->cond, clock_deadline_ms(pause_ms));
	}
	ulock_unlock(&rc->lock);
	return NULL;
}

struct fs_reclaim *fs_reclaim_start(struct fs *fs, size_t nodes_max)
{
	struct fs_reclaim *rc = calloc(1, sizeof(*rc));

	if (!rc)
		return NULL;
	ulock_init(&rc->lock, RANK_LEAF);
	ulock_cond_init(&rc->cond);
	rc->fs = fs;
	rc->max = nodes_max;
	if (pthread_create(&rc->thread, NULL, reclaim_thread, rc) == 0)
		return rc;
	free(rc);
	return NULL;
}

void fs_reclaim_stop(struct fs_reclaim *rc)
{
	if (!rc)
		return;
	ulock_lock(&rc->lock);
	rc->stop = true;
	pthread_cond_signal(&rc->cond);
	ulock_unlock(&rc->lock);
	pthread_join(rc->thread, NULL);
	fs_mounted_done(&rc->mounted);
	pthread_cond_destroy(&rc->cond);
	ulock_done(&rc->lock);
	free(rc);
}
