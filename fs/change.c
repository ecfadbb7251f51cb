/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/change.c - changing requests and the gate; see change.h. */
#include "fs/change.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cow/base/cleanup.h"
#include "cow/gate.h"
#include "cow/revert.h"
#include "fs/reply.h"

#define PARK_THREADS 4u
#define SIGKILL_BIT (UINT64_C(1) << 8)

bool fs_change_in_group(const struct fs_change *c, gid_t gid)
{
	gid_t groups[256];
	int n;

	if (c->ctx.uid == 0 || c->ctx.gid == gid)
		return true;
	n = fuse_req_getgroups(c->req, 256, groups);
	for (int i = 0; i < n && i < 256; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

/* ---- a copy that outlives the handler ---- */

static size_t text_size(const char *s)
{
	return s ? strlen(s) + 1 : 0;
}

static const void *put_bytes(char **at, const void *src, size_t size)
{
	void *dst = *at;

	if (!src)
		return NULL;
	memcpy(dst, src, size);
	*at += size;
	return dst;
}

/* One piece of memory with everything behind the struct. The nodes are referenced: should the connection be cut,
 * the kernel's references are no longer ours to rely on. */
static struct fs_change *change_copy(const struct fs_change *c)
{
	size_t n1 = text_size(c->name), n2 = text_size(c->name2);
	struct fs_change *copy = malloc(sizeof(*copy) + n1 + n2 + (c->data ? c->len : 0));
	char *at = (char *)(copy + 1);

	if (!copy)
		return NULL;
	*copy = *c;
	copy->name = put_bytes(&at, c->name, n1);
	copy->name2 = put_bytes(&at, c->name2, n2);
	copy->data = put_bytes(&at, c->data, c->len);
	fs_nodes_ref(c->fs->nodes, c->node);
	if (c->other)
		fs_nodes_ref(c->fs->nodes, c->other);
	return copy;
}

static void change_free(struct fs_change *c)
{
	fs_nodes_unref(c->fs->nodes, c->node);
	fs_nodes_unref(c->fs->nodes, c->other);
	free(c);
}

/* ---- run ---- */

/* True when it ran: *ret_r is its result. False: a hold is in force. */
static bool try_run(struct fs_change *c, int *ret_r)
{
	struct cow_store *st = c->fs->store;
	int tries = 3;

	do {
		if (!cow_gate_enter(st))
			return false;
		/* nobody else changes a tree that is being reverted. */
		*ret_r = cow_revert_running(st) ? -EBUSY : c->kind->run(c);
		cow_gate_leave(st);
		if (*ret_r != -EAGAIN)
			return true;
		if (cow_gate_closing(st))
			return false;
		/* Turned away by a hold that is over already, or the file system below says so itself. */
	} while (--tries);
	return true;
}

static void on_interrupt(fuse_req_t req, void *data)
{
	struct fs_change *c = data;

	fs_park_interrupt(c->fs->park, &c->parked);
}

void fs_change_submit(struct fs_change *c)
{
	struct fs_change *copy;
	struct fs *fs = c->fs;
	int r;

	if (try_run(c, &r)) {
		c->kind->answer(c, r);
		return;
	}
	copy = change_copy(c);
	if (!copy) {
		c->kind->answer(c, -ENOMEM);
		return;
	}
	fuse_req_interrupt_func(copy->req, on_interrupt, copy);
	fs_park_add(fs->park, &copy->parked);
	if (!cow_gate_closing(fs->store)) /* it opened before we were in the queue */
		fs_park_wake(fs->park);
}

/* ---- callbacks of the park ---- */

static bool parked_run(struct fs_parked *p)
{
	struct fs_change *c = (struct fs_change *)p;
	int r;

	fuse_req_interrupt_func(c->req, NULL, NULL); /* waits for one that is running */
	if (!try_run(c, &r)) {
		fuse_req_interrupt_func(c->req, on_interrupt, c);
		return false;
	}
	c->kind->answer(c, r);
	change_free(c);
	return true;
}

static bool status_line(const char *line, const char *key, uint64_t *ret)
{
	size_t n = strlen(key);

	if (strncmp(line, key, n) != 0)
		return false;
	*ret = strtoull(line + n, NULL, 16);
	return true;
}

/* Interrupts come for any signal; only one that kills may take a change back, since programs do not expect EINTR
 * from rename(2) on a disk. A deadly signal shows as a pending SIGKILL (kernel/signal.c, complete_signal). */
static bool parked_killed(const struct fs_parked *p)
{
	const struct fs_change *c = (const struct fs_change *)p;
	CLEANUP(fclose_p) FILE *f = NULL;
	char path[64], line[256];
	uint64_t set;

	if (c->ctx.pid <= 0) /* of another namespace: it cannot be told */
		return false;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)c->ctx.pid);
	f = fopen(path, "re");
	if (!f) /* there may be no /proc, or it may hide what is not ours */
		return (errno == ENOENT || errno == ESRCH) && kill(c->ctx.pid, 0) < 0 &&
		       errno == ESRCH;
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, "State:\tZ", 8) == 0 || strncmp(line, "State:\tX", 8) == 0)
			return true;
		if ((status_line(line, "SigPnd:", &set) || status_line(line, "ShdPnd:", &set)) &&
		    (set & SIGKILL_BIT))
			return true;
	}
	return false;
}

static void parked_drop(struct fs_parked *p)
{
	struct fs_change *c = (struct fs_change *)p;

	fuse_req_interrupt_func(c->req, NULL, NULL);
	c->kind->answer(c, -EINTR);
	change_free(c);
}

struct fs_park *fs_change_park_new(void)
{
	static const struct fs_park_ops ops = {
		.run = parked_run,
		.killed = parked_killed,
		.drop = parked_drop,
	};

	return fs_park_new(PARK_THREADS, &ops);
}
