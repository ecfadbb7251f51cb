/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What we know of an inode with respect to the newest epoch, so that a change that needs no preserving finds that out
 * without asking the index. States are kept a while after their last user, most of all those of directories. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow/base/bytes.h"
#include "cow/base/cleanup.h"
#include "cow/store_private.h"

#define IDLE_PER_SHARD 128 /* states kept without a user: 8,192 in all */
#define BUCKETS_AT_FIRST 64

/* Bits of one stretch of 4,096 clusters (16 MiB of a file), in a small sorted array by stretch. */
#define STRETCH_CLUSTERS 4096u
#define STRETCHES_MAX 4096u /* 2 MiB for one file; beyond it the index is asked */

struct stretch {
	uint64_t first; /* cluster / STRETCH_CLUSTERS */
	uint64_t *bits;
};

struct coverage {
	size_t n, size;
	struct stretch *stretches;
};

static void coverage_free(struct coverage *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->n; i++)
		free(c->stretches[i].bits);
	free(c->stretches);
	free(c);
}

/* Index of the stretch, or where it belongs. */
static size_t find_stretch(const struct coverage *c, uint64_t first)
{
	size_t lo = 0, hi = c->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (c->stretches[mid].first < first)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* The first cluster from c on that is covered, or that is not; `end` when there is none before it. */
uint64_t inode_next(const struct cow_inode *ci, uint64_t c, uint64_t end, bool covered)
{
	const struct coverage *cov = ci->coverage;
	size_t i = cov ? find_stretch(cov, c / STRETCH_CLUSTERS) : 0;

	while (c < end) {
		uint64_t first = c / STRETCH_CLUSTERS, bit = c % STRETCH_CLUSTERS, word;

		if (!cov || i >= cov->n || cov->stretches[i].first != first) {
			if (!covered)
				return c;
			if (!cov || i >= cov->n)
				return end;
			c = cov->stretches[i].first * STRETCH_CLUSTERS;
			continue;
		}
		word = cov->stretches[i].bits[bit / 64];
		if (!covered)
			word = ~word;
		word >>= bit % 64;
		if (word) {
			c += (uint64_t)__builtin_ctzll(word);
			return c < end ? c : end;
		}
		c += 64 - bit % 64;
		if (c % STRETCH_CLUSTERS == 0)
			i++;
	}
	return end;
}

static struct stretch *get_stretch(struct coverage *c, uint64_t first)
{
	size_t i = find_stretch(c, first);
	struct stretch *grown;
	uint64_t *bits;

	if (i < c->n && c->stretches[i].first == first)
		return &c->stretches[i];
	if (c->n >= STRETCHES_MAX)
		return NULL;
	if (c->n == c->size) {
		size_t size = c->size ? c->size * 2 : 1;

		grown = realloc(c->stretches, size * sizeof(*grown));
		if (!grown)
			return NULL;
		c->stretches = grown;
		c->size = size;
	}
	bits = calloc(STRETCH_CLUSTERS / 64, sizeof(*bits));
	if (!bits)
		return NULL;
	memmove(&c->stretches[i + 1], &c->stretches[i], (c->n - i) * sizeof(*c->stretches));
	c->stretches[i] = (struct stretch){ first, bits };
	c->n++;
	return &c->stretches[i];
}

/* Remember that clusters are preserved. Where memory is short, forget all instead and rely on the index. */
int inode_cover(struct cow_inode *ci, uint64_t cluster, uint64_t count)
{
	struct stretch *s = NULL;

	if (!ci->coverage)
		ci->coverage = calloc(1, sizeof(*ci->coverage));
	if (count > (uint64_t)STRETCH_CLUSTERS * STRETCHES_MAX)
		goto too_much;
	for (uint64_t end = cluster + count; ci->coverage && cluster < end; cluster++) {
		uint64_t bit = cluster % STRETCH_CLUSTERS;

		if (!s || bit == 0)
			s = get_stretch(ci->coverage, cluster / STRETCH_CLUSTERS);
		if (!s)
			goto too_much;
		s->bits[bit / 64] |= UINT64_C(1) << (bit % 64);
	}
	if (ci->coverage)
		return 0;
too_much:
	coverage_free(ci->coverage);
	ci->coverage = NULL;
	ci->coverage_whole = false;
	return 0;
}

static void forget(struct cow_inode *ci)
{
	coverage_free(ci->coverage);
	ci->coverage = NULL;
	ci->born = ci->attr_saved = ci->coverage_whole = false;
}

/* Ask the index what is preserved of ci in the newest epoch already. */
static int ask_index(struct cow_store *st, struct cow_inode *ci, const struct epoch *e)
{
	CLEANUP(cow_buf_done) struct cow_buf buf = { 0 };
	uint8_t key[COW_KEY_MAX];
	struct cow_attr attr;
	size_t len;
	int r;

	r = cow_index_get(st->index, key, cow_key_birth(key, ci->ino), &buf);
	if (r == 0 && buf.len >= 8 && get_be64(buf.data) >= e->id) {
		ci->born = true;
		return 0;
	}
	if (r < 0 && r != -ENOENT)
		return r;
	len = cow_key_attr(key, ci->ino, e->id);
	r = cow_index_get_ge(st->index, key, len, len - COW_KEY_EPOCH_LEN, NULL, NULL, &buf);
	if (r == -ENOENT) {
		ci->coverage_whole = true; /* attributes always come first: nothing is preserved */
		return 0;
	}
	if (r == 0)
		r = cow_format_get_attr(buf.data, buf.len, &attr);
	if (r < 0)
		return r;
	ci->attr_saved = true;
	ci->size = attr.size;
	return 0;
}

int inode_learn(struct cow_store *st, struct cow_inode *ci, const struct epoch *e)
{
	unsigned generation = atomic_load(&st->generation);
	bool followed = ci->epoch != 0 && ci->generation == generation;
	int r;

	ulock_assert_held(&ci->lock);
	if (followed && ci->epoch == e->id)
		return 0;
	forget(ci);
	if (ci->generation != generation)
		ci->placed_in = 0;
	if (followed && ci->epoch < e->id) {
		ci->coverage_whole =
			true; /* we watched since before it opened: nothing happened yet */
	} else {
		r = ask_index(st, ci, e);
		if (r < 0) {
			ci->epoch = 0;
			return r;
		}
	}
	ci->epoch = e->id;
	ci->generation = generation;
	return 0;
}

void inode_set_born(struct cow_store *st, struct cow_inode *ci, const struct epoch *e)
{
	ulock_lock(&ci->lock);
	forget(ci);
	ci->born = true;
	ci->placed_in = 0;
	ci->epoch = e->id;
	ci->generation = atomic_load(&st->generation);
	ulock_unlock(&ci->lock);
}

/* ---- the table ---- */

static struct inode_shard *shard_of(struct cow_store *st, uint64_t ino)
{
	return &st->inodes[(ino * UINT64_C(0x9e3779b97f4a7c15)) >> 58];
}

static size_t bucket_of(const struct inode_shard *s, uint64_t ino)
{
	return (ino * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (s->n_buckets - 1);
}

static void inode_free(struct cow_inode *ci)
{
	coverage_free(ci->coverage);
	ulock_done(&ci->lock);
	free(ci);
}

static void grow(struct inode_shard *s)
{
	struct inode_shard bigger = { .n_buckets = s->n_buckets * 2 };

	bigger.buckets = calloc(bigger.n_buckets, sizeof(*bigger.buckets));
	if (!bigger.buckets)
		return; /* slower, not wrong */
	for (size_t i = 0; i < s->n_buckets; i++) {
		struct cow_inode *ci, *next;

		for (ci = s->buckets[i]; ci; ci = next) {
			size_t b = bucket_of(&bigger, ci->ino);

			next = ci->next;
			ci->next = bigger.buckets[b];
			bigger.buckets[b] = ci;
		}
	}
	free(s->buckets);
	s->buckets = bigger.buckets;
	s->n_buckets = bigger.n_buckets;
}

struct cow_inode *cow_inode_get(struct cow_store *st, uint64_t ino)
{
	struct inode_shard *s = shard_of(st, ino);
	struct cow_inode *ci;
	size_t b;

	ulock_lock(&s->lock);
	b = bucket_of(s, ino);
	for (ci = s->buckets[b]; ci && ci->ino != ino; ci = ci->next)
		;
	if (ci) {
		if (ci->refs++ == 0)
			s->n_idle--;
		ulock_unlock(&s->lock);
		return ci;
	}
	ci = calloc(1, sizeof(*ci));
	if (ci) {
		ci->ino = ino;
		ci->refs = 1;
		ulock_init(&ci->lock, RANK_INODE);
		ci->next = s->buckets[b];
		s->buckets[b] = ci;
		if (++s->n_inodes > 2 * s->n_buckets)
			grow(s);
	}
	ulock_unlock(&s->lock);
	return ci;
}

/* Throw half of the idle states out, whichever come first. */
static void thin_out(struct inode_shard *s)
{
	for (size_t i = 0; i < s->n_buckets && s->n_idle > IDLE_PER_SHARD / 2; i++) {
		struct cow_inode **at = &s->buckets[i];

		while (*at) {
			struct cow_inode *ci = *at;

			if (ci->refs) {
				at = &ci->next;
				continue;
			}
			*at = ci->next;
			s->n_idle--;
			s->n_inodes--;
			inode_free(ci);
		}
	}
}

void cow_inode_put(struct cow_store *st, struct cow_inode *ci)
{
	struct inode_shard *s;

	if (!ci)
		return;
	s = shard_of(st, ci->ino);
	ulock_lock(&s->lock);
	if (--ci->refs == 0 && ++s->n_idle > IDLE_PER_SHARD)
		thin_out(s);
	ulock_unlock(&s->lock);
}

uint64_t cow_inode_number(const struct cow_inode *ci)
{
	return ci->ino;
}

int inodes_init(struct cow_store *st)
{
	for (unsigned i = 0; i < INODE_SHARDS; i++) {
		struct inode_shard *s = &st->inodes[i];

		ulock_init(&s->lock, RANK_NODES);
		s->n_buckets = BUCKETS_AT_FIRST;
		s->buckets = calloc(s->n_buckets, sizeof(*s->buckets));
		if (!s->buckets)
			return -ENOMEM;
	}
	return 0;
}

void inodes_done(struct cow_store *st)
{
	for (unsigned i = 0; i < INODE_SHARDS; i++) {
		struct inode_shard *s = &st->inodes[i];

		for (size_t b = 0; s->buckets && b < s->n_buckets; b++) {
			struct cow_inode *ci, *next;

			for (ci = s->buckets[b]; ci; ci = next) {
				next = ci->next;
				inode_free(ci);
			}
		}
		free(s->buckets);
		s->buckets = NULL;
	}
}
