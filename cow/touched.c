/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cow/touched.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow/base/cleanup.h"
#include "cow/store_private.h"

int touched_room(void *array_p, size_t n, size_t size)
{
	void **array = array_p, *grown;

	if (n & (n - 1))
		return 0;
	grown = realloc(*array, (n ? n * 2 : 1) * size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	return 0;
}

static int note_name(struct touched *d, const struct cow_name *n)
{
	char *name = strndup(n->name, n->name_len);
	int r = name ? touched_room(&d->names, d->n_names, sizeof(*d->names)) : -ENOMEM;

	if (r < 0) {
		free(name);
		return r;
	}
	d->names[d->n_names++] = (struct touched_name){ n->dir, name };
	return 0;
}

static int note_inode(struct touched *d, uint64_t ino, bool data)
{
	int r;

	if (d->n_inodes &&
	    d->inodes[d->n_inodes - 1].ino == ino) { /* runs of one file's clusters */
		d->inodes[d->n_inodes - 1].data |= data;
		return 0;
	}
	r = touched_room(&d->inodes, d->n_inodes, sizeof(*d->inodes));
	if (r == 0)
		d->inodes[d->n_inodes++] = (struct touched_inode){ ino, data };
	return r;
}

static int note(void *arg, const struct cow_rec *r, uint64_t at)
{
	struct touched *d = arg;
	struct cow_name n;
	uint64_t ino;
	int e;

	(void)at;
	switch (r->kind) {
	case COW_REC_NAME:
		e = cow_format_get_name(r->body, r->body_len, &n);
		return e < 0 ? e : note_name(d, &n);
	case COW_REC_ATTR:
	case COW_REC_DATA:
		e = cow_format_get_ino(r->body, r->body_len, &ino);
		return e < 0 ? e : note_inode(d, ino, r->kind == COW_REC_DATA);
	default:
		return 0;
	}
}

static int by_name(const void *x, const void *y)
{
	const struct touched_name *a = x, *b = y;

	return a->dir != b->dir ? (a->dir < b->dir ? -1 : 1) : strcmp(a->name, b->name);
}

static int by_inode(const void *x, const void *y)
{
	const struct touched_inode *a = x, *b = y;

	return a->ino < b->ino ? -1 : a->ino > b->ino;
}

static void sort_notes(struct touched *d)
{
	size_t to = 0;

	if (d->n_names)
		qsort(d->names, d->n_names, sizeof(*d->names), by_name);
	for (size_t i = 0; i < d->n_names; i++) {
		if (to && by_name(&d->names[to - 1], &d->names[i]) == 0)
			free(d->names[i].name);
		else
			d->names[to++] = d->names[i];
	}
	d->n_names = to;
	to = 0;
	if (d->n_inodes)
		qsort(d->inodes, d->n_inodes, sizeof(*d->inodes), by_inode);
	for (size_t i = 0; i < d->n_inodes; i++) {
		if (to && d->inodes[to - 1].ino == d->inodes[i].ino)
			d->inodes[to - 1].data |= d->inodes[i].data;
		else
			d->inodes[to++] = d->inodes[i];
	}
	d->n_inodes = to;
}

/* The logs of all epochs from a up to b, dropped ones that are not settled yet among them. */
int touched_read(struct cow_store *st, uint64_t a, uint64_t b, struct touched *d)
{
	struct epoch **list = NULL;
	size_t n = 0;
	uint64_t end;
	int r = 0;

	ulock_lock(&st->epochs_lock);
	for (unsigned i = 0; i < 2; i++)
		for (struct epoch *e = i ? st->doomed : st->oldest; e && r == 0; e = e->newer) {
			if (e->id < a || (b && e->id >= b) || e->log_fd < 0)
				continue;
			r = touched_room(&list, n, sizeof(struct epoch *));
			if (r == 0)
				list[n++] = epoch_ref(e);
		}
	ulock_unlock(&st->epochs_lock);
	for (size_t i = 0; i < n; i++) {
		if (r == 0)
			r = epochfile_each(st, list[i]->log_fd, 0, note, d, &end);
		epoch_unref(list[i]);
	}
	free(list);
	if (r == 0)
		sort_notes(d);
	return r;
}

bool touched_has(const struct touched *d, uint64_t dir, const char *name)
{
	struct touched_name key = { dir, (char *)name };

	return d->n_names && bsearch(&key, d->names, d->n_names, sizeof(*d->names), by_name);
}

void touched_done(struct touched *d)
{
	for (size_t i = 0; i < d->n_names; i++)
		free(d->names[i].name);
	free(d->names);
	free(d->inodes);
	*d = (struct touched){ 0 };
}

bool touched_born(struct cow_store *st, uint64_t ino, uint64_t epoch)
{
	CLEANUP(cow_buf_done) struct cow_buf buf = { 0 };
	uint8_t key[COW_KEY_MAX];

	return cow_index_get(st->index, key, cow_key_birth(key, ino), &buf) == 0 && buf.len == 8 &&
	       cow_key_get_epoch(buf.data, buf.len) >= epoch;
}
