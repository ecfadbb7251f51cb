/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/handles.c - open files and directories; see handles.h. */
#include "fs/handles.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/change.h"
#include "cow/epoch.h"
#include "cow/view.h"
#include "fs/locate.h"

/* One lock for all: it is held for a few instructions. */
static struct ulock handles_lock = ULOCK_INIT(RANK_HANDLES);

static struct fs_file *file_new(struct fs *fs, struct fs_node *node)
{
	struct fs_file *file = malloc(sizeof(*file));

	if (!file)
		return NULL;
	file->refs = 1;
	atomic_init(&file->fd_ro, -1);
	atomic_init(&file->fd_rw, -1);
	atomic_init(&file->blind, false);
	atomic_init(&file->append, false);
	atomic_fetch_add(&fs->open_files, 1);
	file->node = fs_nodes_ref(fs->nodes, node);
	return file;
}

static void file_free(struct fs *fs, struct fs_file *file)
{
	int ro = atomic_load(&file->fd_ro);
	int rw = atomic_load(&file->fd_rw);

	if (ro >= 0)
		close(ro);
	if (rw >= 0)
		close(rw);
	atomic_fetch_sub(&fs->files, (size_t)(ro >= 0) + (size_t)(rw >= 0));
	atomic_fetch_sub(&fs->open_files, 1);
	fs_nodes_unref(fs->nodes, file->node);
	free(file);
}

struct fs_file *fs_file_of(struct fs *fs, struct fs_node *node)
{
	CLEANUP(ulock_unlock_p) struct ulock *held = ulock_hold(&handles_lock);

	(void)held;
	if (node->file)
		node->file->refs++;
	return node->file;
}

void fs_file_put(struct fs *fs, struct fs_file *file)
{
	bool last;

	if (!file)
		return;
	ulock_lock(&handles_lock);
	last = --file->refs == 0;
	if (last)
		file->node->file = NULL;
	ulock_unlock(&handles_lock);
	if (last)
		file_free(fs, file);
}

/* The node's file, a new one if it had none. */
static int file_get_or_new(struct fs *fs, struct fs_node *node, struct fs_file **ret)
{
	struct fs_file *file = fs_file_of(fs, node);
	struct fs_file *fresh;

	if (!file) {
		fresh = file_new(fs, node);
		if (!fresh)
			return -ENOMEM;
		ulock_lock(&handles_lock);
		if (!node->file)
			node->file = TAKE(fresh);
		else
			node->file->refs++;
		file = node->file;
		ulock_unlock(&handles_lock);
		if (fresh)
			file_free(fs, fresh);
	}
	*ret = file;
	return 0;
}

/* The first one in stays; a second descriptor of two opens at once is closed. */
static void install(struct fs *fs, _Atomic int *slot, int fd)
{
	int none = -1;

	if (atomic_compare_exchange_strong_explicit(slot, &none, fd, memory_order_acq_rel,
						    memory_order_acquire))
		atomic_fetch_add(&fs->files, 1);
	else
		close(fd);
}

/* Open files must not take the last descriptors, or nothing could be listed or looked up any more. Two at once may
 * both take the last one; there is a reserve. */
int fs_files_room(const struct fs *fs)
{
	return atomic_load_explicit(&fs->files, memory_order_relaxed) < fs->files_max ? 0 : -ENFILE;
}

int fs_file_fd(struct fs_file *file)
{
	int fd = atomic_load_explicit(&file->fd_ro, memory_order_acquire);

	/* fd_rw may be write-only, so the one for reading goes first where there is one. */
	return fd >= 0 ? fd : atomic_load_explicit(&file->fd_rw, memory_order_acquire);
}

int fs_file_wfd(struct fs_file *file)
{
	return atomic_load_explicit(&file->fd_rw, memory_order_acquire);
}

/* An owner without read permission for his own file: give it for a moment, through a descriptor that needs none.
 * Somebody looking in that moment sees the mode with u+r; the ctime moves. Only write-only files of an ordinary
 * user come here, and without it their old data could not be preserved. A change like any other: inside the gate. */
static int open_unreadable(struct fs *fs, struct fs_node *node, bool in_gate)
{
	CLEANUP(fs_fd_put) struct fs_fd f = FS_FD_NONE;
	struct cow_inode *ci;
	struct stat st;
	int fd, r;

	r = fs_locate(fs, node, &f);
	if (r == 0)
		r = fs_cow_of(fs, node, &ci);
	if (r < 0)
		return r;
	if (fstatat(f.fd, "", &st, AT_EMPTY_PATH) < 0)
		return -errno;
	if (st.st_uid != geteuid() || (st.st_mode & S_IRUSR))
		return -EACCES;
	if (!in_gate)
		return -EAGAIN;
	if (cow_chmod(fs->store, ci, f.fd, (st.st_mode & 07777) | S_IRUSR) < 0)
		return -EACCES;
	fd = open(fs_proc_path(f.fd).text, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	r = fd < 0 ? -errno : fd;
	cow_chmod(fs->store, ci, f.fd, st.st_mode & 07777);
	return r;
}

static int open_writable(struct fs *fs, struct fs_node *node, struct fs_file *file, unsigned how)
{
	int append = 0;
	int fd = fs_locate_open(fs, node, O_RDWR);

	if (fd == -EPERM && (how & FS_OPEN_APPEND)) { /* chattr +a; or +i, which says so again */
		append = O_APPEND;
		fd = fs_locate_open(fs, node, O_RDWR | O_APPEND);
	}
	if (fd == -EACCES && !append)
		fd = open_unreadable(fs, node, how & FS_OPEN_IN_GATE);
	if (fd == -EACCES) {
		fd = fs_locate_open(fs, node, O_WRONLY | append);
		if (fd >= 0)
			atomic_store(&file->blind, true);
	}
	if (fd >= 0 && append)
		atomic_store(&file->append, true);
	return fd;
}

/* A write at an offset must not go to the end once the file is append-only no longer (fcntl(2) refuses as long). */
static void no_append(struct fs_file *file)
{
	int fd = fs_file_wfd(file);

	if (atomic_load(&file->append) && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_APPEND) == 0)
		atomic_store(&file->append, false);
}

/* What opening it below would say now: the descriptor at hand may be older than the flag. */
static int check_flags(struct fs_file *file, bool append)
{
	struct statx sx;

	if (statx(fs_file_wfd(file), "", AT_EMPTY_PATH, 0, &sx) < 0)
		return -errno;
	if ((sx.stx_attributes & STATX_ATTR_IMMUTABLE) ||
	    ((sx.stx_attributes & STATX_ATTR_APPEND) && !append))
		return -EPERM;
	return 0;
}

/* Does an open for this purpose need a descriptor that is not there yet? */
static bool lacks_fd(struct fs_file *file, bool write)
{
	if (write)
		return fs_file_wfd(file) < 0;
	return atomic_load_explicit(&file->fd_ro, memory_order_acquire) < 0 &&
	       (fs_file_wfd(file) < 0 || atomic_load(&file->blind));
}

/* Open what is lacking. */
static int file_fill(struct fs *fs, struct fs_node *node, struct fs_file *file, unsigned how)
{
	bool write = how & FS_OPEN_WRITE;
	int r;

	if (lacks_fd(file, write)) {
		r = fs_files_room(fs);
		if (r == 0)
			r = write ? open_writable(fs, node, file, how)
				  : fs_locate_open(fs, node, O_RDONLY);
		if (r < 0)
			return r;
		install(fs, write ? &file->fd_rw : &file->fd_ro, r);
	} else if (write) {
		r = check_flags(file, how & FS_OPEN_APPEND);
		if (r < 0)
			return r;
		no_append(file);
	}
	return 0;
}

int fs_file_open(struct fs *fs, struct fs_node *node, unsigned how, struct fs_file **ret)
{
	struct fs_file *file;
	int r = file_get_or_new(fs, node, &file);

	if (r < 0)
		return r;
	r = file_fill(fs, node, file, how);
	if (r < 0)
		fs_file_put(fs, file);
	else
		*ret = file;
	return r;
}

int fs_file_adopt(struct fs *fs, struct fs_node *node, int fd, struct fs_file **ret)
{
	int r = file_get_or_new(fs, node, ret);

	if (r < 0)
		close(fd);
	else
		install(fs, &(*ret)->fd_rw, fd);
	return r;
}

/* ---- directories, and files of snapshots ---- */

static void held_add(struct fs *fs, struct fs_held *h)
{
	ulock_lock(&handles_lock);
	h->prev = &fs->held;
	h->next = fs->held;
	if (h->next)
		h->next->prev = &h->next;
	fs->held = h;
	ulock_unlock(&handles_lock);
}

static void held_remove(struct fs_held *h)
{
	ulock_lock(&handles_lock);
	*h->prev = h->next;
	if (h->next)
		h->next->prev = h->prev;
	ulock_unlock(&handles_lock);
}

struct fs_dir *fs_dir_new(struct fs *fs)
{
	struct fs_dir *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	pthread_mutex_init(&d->lock, NULL);
	d->fd = -1;
	d->held.dir = d;
	held_add(fs, &d->held);
	return d;
}

void fs_dir_free(struct fs_dir *d)
{
	held_remove(&d->held);
	if (d->fd >= 0)
		close(d->fd);
	if (d->vdir)
		cow_vdir_close(d->vdir);
	if (d->list)
		cow_snapshots_free(d->list, d->list_n);
	free(d->buf);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

struct fs_held *fs_snapfile_new(struct fs *fs, struct cow_vfile *vf)
{
	struct fs_held *h = calloc(1, sizeof(*h));

	if (!h) {
		cow_vfile_close(vf);
		return NULL;
	}
	h->vfile = vf;
	held_add(fs, h);
	return h;
}

void fs_snapfile_free(struct fs_held *h)
{
	held_remove(h);
	cow_vfile_close(h->vfile);
	free(h);
}

size_t fs_handles_live(struct fs *fs)
{
	size_t n = atomic_load(&fs->open_files);

	ulock_lock(&handles_lock);
	for (const struct fs_held *h = fs->held; h; h = h->next)
		n += h->dir && h->dir->live;
	ulock_unlock(&handles_lock);
	return n;
}

void fs_held_close_all(struct fs *fs)
{
	while (fs->held) {
		if (fs->held->dir)
			fs_dir_free(fs->held->dir);
		else
			fs_snapfile_free(fs->held);
	}
}
