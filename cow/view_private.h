/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cow/view_private.h - what view.c, vdir.c and vfile.c share. */
#ifndef UMBRA_COW_VIEW_PRIVATE_H
#define UMBRA_COW_VIEW_PRIVATE_H

#include <stdatomic.h>

#include "cow/store_private.h"
#include "cow/view.h"

/* A time since the snapshot when nobody watched. */
struct view_gap {
	int64_t end_ns; /* of the daemon before */
	uint64_t next;	/* first label of the one after */
};

struct cow_view {
	struct cow_store *st;
	struct epoch *e;       /* counted */
	atomic_uint refs;      /* the opener and every vnode */
	struct view_gap *gaps; /* owned; oldest first; set once */
	size_t n_gaps;
};

struct cow_vnode {
	struct cow_view *view;	  /* counted */
	struct cow_vnode *parent; /* counted; NULL for the root */
	atomic_uint refs;
	uint64_t ino;
	unsigned type; /* DT_* */
	bool foreign;  /* a mount below: an empty directory */
	char name[];   /* in the parent, at the epoch */
};

int view_alive(const struct cow_view *v); /* 0 or -ESTALE */
int vnode_fd(struct cow_vnode *vn);	  /* O_PATH, owned by the caller */
int vnode_dir_fd(struct cow_vnode *vn);	  /* the same, by way of the cache */
/* 0, or -ESTALE: it was changed while nobody watched. With its live attributes at hand; or for a record of that label. */
int vnode_check_foreign(struct cow_vnode *vn, const struct statx *live);
int vnode_check_label(struct cow_vnode *vn, uint64_t label);
/* The same for any inode: 0 or -ESTALE. */
int view_check_inode(const struct cow_view *v, uint64_t ino, const struct statx *live);
/* A vnode known by its number alone: good for what vfile_* below and the records say of it. */
int vnode_bare(struct cow_view *v, uint64_t ino, unsigned type, struct cow_vnode **ret);
int view_is_store(const struct cow_vnode *dir, const char *name);

/* vfile.c, for revert_restore.c: a file by its number, the size at the epoch, and its live inode (any fd). */
int vfile_open_inode(struct cow_view *v, uint64_t ino, uint64_t size, int fd,
		     struct cow_vfile **ret);
enum vfile_kind { VFILE_LIVE, VFILE_HOLE, VFILE_STORED };
/* What [c, *ret_until) is, all in one way, *ret_until <= limit; clusters. */
int vfile_map(struct cow_vfile *f, uint64_t c, uint64_t limit, enum vfile_kind *ret_kind,
	      uint64_t *ret_until);

#endif
