/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/reply.c - where -errno meets fuse_reply_*; see reply.h. */
#include "fs/reply.h"

#include <errno.h>
#include <stdlib.h>

void fs_reply_status(fuse_req_t req, int r)
{
	rank_assert_free(RANK_NONE + 1);
	fuse_reply_err(req, r < 0 ? -r : 0);
}

void fs_reply_entry(fuse_req_t req, int r, const struct fuse_entry_param *e)
{
	struct fs *fs = fs_of(req);
	fuse_ino_t ino = e->ino;

	rank_assert_free(RANK_NONE + 1);
	if (r < 0)
		fuse_reply_err(req, -r);
	else if (fuse_reply_entry(req, e) == -ENOENT && ino)
		fs_nodes_forget(fs->nodes, fs_node_of(fs, ino), 1);
}

void fs_reply_attr(fuse_req_t req, int r, const struct stat *st, double timeout)
{
	rank_assert_free(RANK_NONE + 1);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_attr(req, st, timeout);
}

void fs_reply_xattr(fuse_req_t req, ssize_t r, const void *buf, size_t size)
{
	if (r < 0)
		fs_reply_status(req, (int)r);
	else if (size == 0)
		fuse_reply_xattr(req, (size_t)r);
	else
		fuse_reply_buf(req, buf, (size_t)r);
}

struct scratch {
	void *mem;
	size_t size;
};

static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;

static void scratch_free(void *value)
{
	struct scratch *s = value;

	free(s->mem);
	free(s);
}

static void scratch_init(void)
{
	pthread_key_create(&scratch_key, scratch_free);
}

void *fs_scratch(size_t size)
{
	struct scratch *s;

	pthread_once(&scratch_once, scratch_init);
	s = pthread_getspecific(scratch_key);
	if (!s) {
		s = calloc(1, sizeof(*s));
		if (!s || pthread_setspecific(scratch_key, s) != 0) {
			free(s);
			return NULL;
		}
	}
	if (s->size < size) {
		void *mem = malloc(size);

		if (!mem)
			return NULL;
		free(s->mem);
		s->mem = mem;
		s->size = size;
	}
	return s->mem;
}
