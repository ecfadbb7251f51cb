/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/serve.c - snapshots served as file systems of their own; see serve.h. */
#include "fs/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/base/log.h"
#include "cow/view.h"
#include "fs/handles.h"
#include "fs/loop.h"
#include "fs/ops.h"
#include "fs/rawio.h"

#define FUSE_DEV_MAJOR 10u
#define FUSE_DEV_MINOR 229u

struct served {
	struct served *next;
	struct fs_serve *owner;
	struct fs world;
	struct cow_view *view;
	struct fs_loop loop;
	uint64_t epoch;
	uint64_t no;
	pthread_t thread;
	bool over; /* guarded by the owner's lock: the thread can be joined */
};

struct fs_serve {
	struct ulock lock; /* rank LEAF; guards the list and the number */
	struct served *list;
	uint64_t last_no;

	struct cow_store *store;
	int below_fd;
};

struct fs_serve *fs_serve_new(struct cow_store *store, int below_fd)
{
	struct fs_serve *sv = calloc(1, sizeof(*sv));

	if (!sv)
		return NULL;
	ulock_init(&sv->lock, RANK_LEAF);
	sv->store = store;
	sv->below_fd = below_fd;
	return sv;
}

static void served_free(struct served *s)
{
	if (!s)
		return;
	if (s->world.se)
		fuse_session_destroy(s->world.se); /* closes the descriptor */
	fs_held_close_all(&s->world);
	if (s->world.nodes)
		fs_nodes_free(s->world.nodes);
	if (s->view) {
		cow_view_unuse(s->view);
		cow_view_close(s->view);
	}
	close_p(&s->world.below_fd);
	free(s);
}

static void served_free_p(struct served **s)
{
	served_free(*s);
}

/* Join and free what has ended by itself. */
static void collect(struct fs_serve *sv)
{
	for (;;) {
		struct served **p, *s;

		ulock_lock(&sv->lock);
		for (p = &sv->list; *p && !(*p)->over; p = &(*p)->next)
			;
		s = *p;
		if (s)
			*p = s->next;
		ulock_unlock(&sv->lock);
		if (!s)
			return;
		pthread_join(s->thread, NULL);
		served_free(s);
	}
}

static void *serve_thread(void *arg)
{
	struct served *s = arg;

	fs_loop_run(&s->loop);
	ulock_lock(&s->owner->lock);
	s->over = true;
	ulock_unlock(&s->owner->lock);
	return NULL;
}

void fs_serve_free(struct fs_serve *sv)
{
	if (!sv)
		return;
	for (;;) {
		struct served *s;

		ulock_lock(&sv->lock);
		s = sv->list;
		if (s)
			sv->list = s->next;
		ulock_unlock(&sv->lock);
		if (!s)
			break;
		fs_loop_stop(&s->loop);
		pthread_join(s->thread, NULL);
		served_free(s);
	}
	ulock_done(&sv->lock);
	free(sv);
}

static bool is_fuse_fd(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) &&
	       st.st_rdev == makedev(FUSE_DEV_MAJOR, FUSE_DEV_MINOR);
}

DEFINE_CLEANUP(vnode_put_p, struct cow_vnode *, cow_vnode_put)

/* One part of a path, and what follows it. Returns its length, 0 at the end, or -errno. */
static int next_part(const char **path, char ret_name[NAME_MAX + 1])
{
	size_t len;

	*path += strspn(*path, "/");
	len = strcspn(*path, "/");
	if (len > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(ret_name, *path, len);
	ret_name[len] = '\0';
	*path += len;
	return strcmp(ret_name, ".") == 0 || strcmp(ret_name, "..") == 0 ? -EINVAL : (int)len;
}

/* C-10: the directory of the snapshot that is to be shown. Links are not followed: they may lead out. */
static int find_root(struct cow_view *view, const char *subdir, struct cow_vnode **ret)
{
	CLEANUP(vnode_put_p) struct cow_vnode *vn = NULL;
	struct cow_vnode *next;
	char name[NAME_MAX + 1];
	struct statx sx;
	int r;

	r = cow_vnode_root(view, &vn);
	while (r == 0 && (r = next_part(&subdir, name)) > 0) {
		r = cow_vnode_lookup(vn, name, &next);
		if (r == 0) {
			cow_vnode_put(vn);
			vn = next;
		}
	}
	if (r == 0)
		r = cow_vnode_stat(vn, &sx);
	if (r < 0)
		return r;
	if (!S_ISDIR(sx.stx_mode))
		return -ENOTDIR;
	if (cow_vnode_is_foreign(vn))
		return -EXDEV;
	*ret = TAKE(vn);
	return 0;
}

/* A world with that directory of the snapshot for a root. */
static int make_world(struct fs_serve *sv, struct served *s, const char *subdir)
{
	struct cow_vnode *root;
	uint64_t ino;
	int r;

	r = cow_view_open(sv->store, s->epoch, true, &s->view);
	if (r < 0)
		return r;
	cow_view_use(s->view);
	r = find_root(s->view, subdir ? subdir : "", &root);
	if (r < 0)
		return r;
	ino = cow_vnode_ino(root);
	s->world.store = sv->store;
	s->world.nodes = fs_nodes_new(FS_SNAP, s->epoch, ino, root, fs_release_node, &s->world);
	if (!s->world.nodes) {
		cow_vnode_put(root);
		return -ENOMEM;
	}
	return 0;
}

static int make_session(struct served *s, int fuse_fd)
{
	char *argv[] = { (char *)"umbrafs", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	char path[32];

	s->world.se = fuse_session_new(&args, &fs_ops, sizeof(fs_ops), &s->world);
	fuse_opt_free_args(&args); /* libfuse parsed them into a copy */
	if (!s->world.se)
		return -ENOMEM;
	snprintf(path, sizeof(path), "/dev/fd/%d",
		 fuse_fd); /* libfuse's form of "mounted already" */
	if (fuse_session_mount(s->world.se, path) != 0)
		return -EBADF;
	fs_rawio_attach(&s->world, s->world.se);
	s->loop.se = s->world.se;
	return 0;
}

int fs_serve_start(struct fs_serve *sv, uint64_t epoch, const char *subdir, int fuse_fd,
		   const char *mountpoint, uint64_t *ret_no)
{
	CLEANUP(close_p) int fd = fuse_fd;
	CLEANUP(served_free_p) struct served *s = NULL;
	int r;

	collect(sv);
	if (!is_fuse_fd(fd))
		return -EBADF;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->owner = sv;
	s->epoch = epoch;
	s->world.below_fd = fcntl(sv->below_fd, F_DUPFD_CLOEXEC, 0);
	r = make_world(sv, s, subdir);
	if (r == 0)
		r = make_session(s, fd);
	if (r < 0)
		return r;
	TAKE_FD(fd); /* the session's */
	ulock_lock(&sv->lock);
	r = -pthread_create(&s->thread, NULL, serve_thread, s);
	if (r == 0) {
		s->no = ++sv->last_no;
		if (ret_no)
			*ret_no = s->no;
		s->next = sv->list;
		sv->list = s;
	}
	ulock_unlock(&sv->lock);
	if (r == 0) {
		log_info("snapshot %llu is served at %s", (unsigned long long)epoch,
			 LOG_QUOTE(mountpoint));
		TAKE(s);
	}
	return r;
}

unsigned fs_serve_count(struct fs_serve *sv, uint64_t epoch)
{
	unsigned n = 0;

	collect(sv);
	ulock_lock(&sv->lock);
	for (struct served *s = sv->list; s; s = s->next)
		n += s->epoch == epoch;
	ulock_unlock(&sv->lock);
	return n;
}

bool fs_serve_lives(struct fs_serve *sv, uint64_t no)
{
	bool lives = false;

	collect(sv);
	ulock_lock(&sv->lock);
	for (struct served *s = sv->list; s; s = s->next)
		lives |= s->no == no && !s->over;
	ulock_unlock(&sv->lock);
	return lives;
}
