/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A directory's listing at an epoch: the live listing with the preserved names laid over it.
 *
 * First every live name without a record, then every name that a record says was there. A name that loses its record-less
 * state in between may come twice, so names recorded after we began are checked against what we have. The list is made
 * when first read, small ones in memory, larger ones in an unnamed file of the store: offsets stay good, memory bounded. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cow/base/bytes.h"
#include "cow/base/cleanup.h"
#include "cow/file.h"
#include "cow/hash.h"
#include "cow/view_private.h"

#define IN_MEMORY (256u * 1024)

/* An entry of the list: inode 8, type 1, name length 1, name. */
#define ENTRY_HEAD 10u
#define ENTRY_MAX (ENTRY_HEAD + COW_NAME_MAX_LEN)

struct cow_vdir {
	struct cow_vnode *vn; /* counted */
	bool made;
	int fd;	      /* spill file, or -1 */
	uint8_t *mem; /* the list, or its tail not yet spilled */
	size_t mem_len, mem_size;
	uint64_t spilled;	      /* bytes in fd */
	uint8_t entry[ENTRY_MAX + 1]; /* last one read */
};

int cow_vdir_open(struct cow_vnode *dir, struct cow_vdir **ret)
{
	struct cow_vdir *d;
	int r = view_alive(dir->view);

	if (r < 0)
		return r;
	if (dir->type != DT_DIR)
		return -ENOTDIR;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->fd = -1;
	d->vn = cow_vnode_ref(dir);
	cow_view_use(dir->view);
	*ret = d;
	return 0;
}

void cow_vdir_close(struct cow_vdir *d)
{
	if (!d)
		return;
	close_p(&d->fd);
	cow_view_unuse(d->vn->view);
	cow_vnode_put(d->vn);
	free(d->mem);
	free(d);
}

/* ---- making the list ---- */

static int spill(struct cow_vdir *d)
{
	int r;

	if (d->fd < 0) {
		int fd = cow_file_openat(d->vn->view->st->store_fd, ".", O_TMPFILE | O_RDWR, 0600);

		if (fd < 0)
			return fd;
		d->fd = fd;
	}
	r = cow_file_pwrite_all(d->fd, d->mem, d->mem_len, (off_t)d->spilled);
	if (r < 0)
		return r;
	d->spilled += d->mem_len;
	d->mem_len = 0;
	return 0;
}

static int add(struct cow_vdir *d, uint64_t ino, unsigned type, const char *name, size_t name_len)
{
	size_t need = ENTRY_HEAD + name_len;
	uint8_t *p;
	int r;

	if (d->mem_len + need > IN_MEMORY) {
		r = spill(d);
		/* A full disk, or a file system without O_TMPFILE, costs memory instead. */
		if (r < 0 && r != -ENOSPC && r != -EOPNOTSUPP && r != -EDQUOT)
			return r;
	}
	if (d->mem_len + need > d->mem_size) {
		size_t size = d->mem_size ? d->mem_size * 2 : 4096;

		p = realloc(d->mem, size);
		if (!p)
			return -ENOMEM;
		d->mem = p;
		d->mem_size = size;
	}
	p = d->mem + d->mem_len;
	put_le64(p, ino);
	p[8] = (uint8_t)type;
	p[9] = (uint8_t)name_len;
	memcpy(p + ENTRY_HEAD, name, name_len);
	d->mem_len += need;
	return 0;
}

/* The live names without a record. A mount below shows with its own root's number, as a directory. */
static int add_live(struct cow_vdir *d, int dir_fd, const struct dirent *de)
{
	struct cow_view *v = d->vn->view;
	size_t len = strlen(de->d_name);
	uint64_t target;
	unsigned type;
	struct statx sx;
	int r;

	if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
	    view_is_store(d->vn, de->d_name))
		return 0;
	r = view_name(v->st, d->vn->ino, de->d_name, len, v->e->id, &target, &type);
	if (r != -ENOENT)
		return r;
	type = de->d_type;
	if (type == DT_UNKNOWN) {
		r = cow_file_statx(dir_fd, de->d_name, &sx);
		if (r < 0)
			return r == -ENOENT ? 0 : r; /* gone meanwhile: it has a record now */
		type = IFTODT(sx.stx_mode);
	}
	return add(d, de->d_ino, type, de->d_name, len);
}

static int list_live(struct cow_vdir *d)
{
	CLEANUP(closedir_p) DIR *dir = NULL;
	CLEANUP(close_p) int path_fd = vnode_dir_fd(d->vn);
	const struct dirent *de;
	struct statx sx;
	int fd, r;

	if (path_fd < 0)
		return path_fd;
	r = cow_file_statx(path_fd, "", &sx);
	if (r == 0)
		r = vnode_check_foreign(d->vn, &sx);
	if (r < 0)
		return r;
	fd = cow_file_openat(path_fd, ".", O_RDONLY | O_DIRECTORY | O_NOATIME, 0);
	if (fd == -EPERM)
		fd = cow_file_openat(path_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	for (;;) {
		errno = 0;
		de = readdir(dir);
		if (!de)
			return -errno;
		r = add_live(d, fd, de);
		if (r < 0)
			return r;
	}
}

/* ---- the records ---- */

struct listed {
	uint64_t hash, off;
};

struct overlay {
	struct cow_vdir *d;
	uint64_t began;	       /* NAME records up to this one were in the index before we listed */
	struct listed *listed; /* the live names, by hash; made when first needed */
	size_t n_listed;
	char name[COW_NAME_MAX_LEN]; /* being decided */
	size_t name_len;
	bool decided;
};

static int by_hash(const void *a, const void *b)
{
	const struct listed *x = a, *y = b;

	return x->hash < y->hash ? -1 : x->hash > y->hash;
}

static int hash_listed(struct overlay *o)
{
	struct listed *grown;
	struct cow_dirent e;
	uint64_t off;
	int r;

	for (off = 0; (r = cow_vdir_read(o->d, off, &e)) > 0; off = e.next) {
		if ((o->n_listed & (o->n_listed - 1)) == 0) { /* grow at powers of two */
			grown = realloc(o->listed,
					(o->n_listed ? o->n_listed * 2 : 1) * sizeof(*grown));
			if (!grown)
				return -ENOMEM;
			o->listed = grown;
		}
		o->listed[o->n_listed++] = (struct listed){ cow_hash(e.name, strlen(e.name), 0),
							    off };
	}
	if (r == 0 && o->n_listed)
		qsort(o->listed, o->n_listed, sizeof(*o->listed), by_hash);
	return r;
}

/* Was this name listed as live already? Only asked for names that got their record while we listed. 1, 0 or -errno. */
static int was_listed(struct overlay *o, const char *name, size_t len)
{
	uint64_t hash = cow_hash(name, len, 0);
	size_t lo = 0, hi;
	struct cow_dirent e;
	int r;

	if (!o->listed) {
		r = hash_listed(o);
		if (r < 0)
			return r;
	}
	hi = o->n_listed;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (o->listed[mid].hash < hash)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < o->n_listed && o->listed[lo].hash == hash; lo++) {
		r = cow_vdir_read(o->d, o->listed[lo].off, &e);
		if (r < 0)
			return r;
		if (r == 1 && strlen(e.name) == len && memcmp(e.name, name, len) == 0)
			return 1;
	}
	return 0;
}

static int add_recorded(void *arg, const void *key, size_t key_len, const void *val, size_t val_len)
{
	struct overlay *o = arg;
	struct cow_view *v = o->d->vn->view;
	const char *name;
	size_t name_len;
	uint64_t dir, epoch;
	struct cow_name n;
	int r;

	r = cow_key_get_name(key, key_len, &dir, &name, &name_len, &epoch);
	if (r == 0)
		r = cow_format_get_name(val, val_len, &n);
	if (r < 0)
		return r;
	if (o->name_len != name_len || memcmp(o->name, name, name_len) != 0) {
		memcpy(o->name, name, name_len);
		o->name_len = name_len;
		o->decided = false;
	}
	if (o->decided || epoch < v->e->id)
		return 0;
	o->decided = true; /* the first label from ours on is the answer */
	if (!n.target)
		return 0;
	if (n.seq > o->began) {
		r = was_listed(o, name, name_len);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return add(o->d, n.target, n.type, name, name_len);
}

/* The number of the last NAME record of this directory that is in the index for sure: they are made under its lock. */
static int last_name(struct cow_vdir *d, uint64_t *ret)
{
	struct cow_store *st = d->vn->view->st;
	struct cow_inode *ci = cow_inode_get(st, d->vn->ino);

	if (!ci)
		return -ENOMEM;
	ulock_lock(&ci->lock);
	*ret = atomic_load(&st->name_seq);
	ulock_unlock(&ci->lock);
	cow_inode_put(st, ci);
	return 0;
}

static int make_list(struct cow_vdir *d)
{
	struct cow_store *st = d->vn->view->st;
	uint8_t prefix[COW_KEY_MAX];
	struct overlay o = { .d = d };
	int r;

	if (d->vn->foreign)
		return 0;
	r = last_name(d, &o.began);
	if (r == 0)
		r = list_live(d);
	if (r == 0)
		r = cow_index_scan(st->index, prefix, cow_key_dir_prefix(prefix, d->vn->ino), NULL,
				   0, add_recorded, &o);
	free(o.listed);
	return r < 0 ? r : view_alive(d->vn->view);
}

/* ---- reading it ---- */

int cow_vdir_read(struct cow_vdir *d, uint64_t off, struct cow_dirent *ret)
{
	ssize_t n;
	int r;

	if (!d->made) {
		d->made = true; /* making it reads what there is so far */
		r = make_list(d);
		if (r < 0) {
			d->made = false;
			d->mem_len = 0;
			d->spilled = 0;
			return r;
		}
	}
	if (off >= d->spilled + d->mem_len)
		return 0;
	if (off >= d->spilled) {
		size_t left = d->mem_len - (size_t)(off - d->spilled);

		n = (ssize_t)(left < ENTRY_MAX ? left : ENTRY_MAX);
		memcpy(d->entry, d->mem + (off - d->spilled), (size_t)n);
	} else {
		n = cow_file_pread(d->fd, d->entry, ENTRY_MAX, (off_t)off);
		if (n >= 0 && (uint64_t)n > d->spilled - off)
			n = (ssize_t)(d->spilled - off);
	}
	if (n < (ssize_t)ENTRY_HEAD || n < (ssize_t)(ENTRY_HEAD + d->entry[9]))
		return n < 0 ? (int)n : -EINVAL;
	d->entry[ENTRY_HEAD + d->entry[9]] = '\0';
	*ret = (struct cow_dirent){ .name = (const char *)d->entry + ENTRY_HEAD,
				    .ino = get_le64(d->entry),
				    .type = d->entry[8],
				    .next = off + ENTRY_HEAD + d->entry[9] };
	return 1;
}
