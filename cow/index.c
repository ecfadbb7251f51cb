/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where an entry is found, and how it moves:
 *
 *	cow_index_put --> active --(swap)--> flushing --(commit_table, one transaction)--> LMDB
 *
 * A look-up takes its view of all three at one moment: under the lock it searches the two tables and renews a
 * read transaction, which is a few stores and never waits for a writer (mdb_txn_renew of a transaction that kept
 * its slot; lmdb.h, MDB_NOTLS). So it sees an entry before, during or after its move, never in between, and a batch
 * whole or not at all. The search in LMDB then runs without the lock.
 *
 * Writing to LMDB is a role: `writing` says that somebody has it. Who has it may read `flushing` and `env` without
 * the lock, and is the only one to change these two (with the lock, for the readers). */
#include "cow/index.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/base/clock.h"
#include "cow/base/lock.h"
#include "cow/file.h"
#include "cow/index_private.h"
#include "cow/memtable.h"

#define FLUSH_ENTRIES  4096
#define FLUSH_BYTES    (4 << 20)
#define LIMIT_FACTOR   8	/* so much more may wait before cow_index_put() does */
#define FLUSH_DELAY_MS 100
#define RETRY_DELAY_MS 1000	/* after a flush that failed */
#define MAP_BYTES      (sizeof(size_t) > 4 ? (uint64_t)1 << 40 : (uint64_t)1 << 29)
#define MAP_BYTES_MIN  ((uint64_t)64 << 20)
#define MAX_READERS    1024	/* look-ups at the same moment */

/* The stamp's own key: longer than any that a caller can have, so it never meets one; it sorts last. */
static const unsigned char stamp_key[COW_INDEX_KEY_MAX + 1] = { [0 ... COW_INDEX_KEY_MAX] = 0xff };

/* A read transaction and its cursor, both reset while nobody uses them. */
struct reader {
	MDB_txn *txn;
	MDB_cursor *cursor;
	struct reader *next;
};

/* One LMDB environment. A wipe puts a new one in its place; the last who uses the old one closes it. */
struct env {
	MDB_env *mdb;
	MDB_dbi dbi;
	struct reader *idle;	/* guarded by the index's lock, as is users */
	unsigned users;
};

struct cow_index {
	struct ulock lock;		/* rank INDEX; guards the fields up to the blank line */
	pthread_cond_t work;		/* the writer thread has something to do */
	pthread_cond_t done;		/* the role is free, or a flush was tried */
	struct cow_memtable active, flushing;
	struct env *env;		/* NULL: forgotten by a wipe that could not open a new one */
	bool writing;			/* somebody has the role */
	bool kicked, stop;
	uint64_t due_ns;		/* when what waits is to be flushed */
	uint64_t attempts;		/* flushes tried */
	int attempt_error;		/* of the last one */
	uint64_t flushing_stamp, committed_stamp;

	uint64_t written_stamp;		/* the one in LMDB; of who has the role */
	atomic_uint_least64_t stamp;	/* release/acquire with swap_tables(), which says why */
	int dir_fd;
	size_t map_bytes;
	pthread_t thread;
};

/* A batch has the role and rank INDEX from begin to end, but not the lock: look-ups go on. */
struct cow_index_batch {
	struct cow_index *ix;
	MDB_txn *txn;
	MDB_cursor *cursor;
	int error;			/* the first one: LMDB gives the transaction up then */
};

/* -- LMDB's codes end here -- */

static int from_mdb(int rc)
{
	switch (rc) {
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_KEYEXIST:
		return -EEXIST;
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
	case EDQUOT:
		return -ENOSPC;
	case MDB_READERS_FULL:
		return -EMFILE;
	case MDB_BAD_VALSIZE:
		return -EINVAL;
	}
	if (rc >= 0)
		return -rc;
	return -EUCLEAN; /* MDB_CORRUPTED, PAGE_NOTFOUND, PANIC, BAD_TXN, INVALID, VERSION_MISMATCH ... */
}

static MDB_val to_val(const void *data, size_t len)
{
	return (MDB_val){ .mv_size = len, .mv_data = (void *)data };
}

static void txn_abort_p(MDB_txn **txn)
{
	if (*txn)
		mdb_txn_abort(*txn);
}

/* -- buffers -- */

void cow_buf_done(struct cow_buf *b)
{
	free(b->data);
	*b = (struct cow_buf){ 0 };
}

int cow_buf_set(struct cow_buf *b, const void *data, size_t len)
{
	if (len > b->size) {
		size_t size = len < 64 ? 64 : len;
		void *grown = realloc(b->data, size);

		if (!grown)
			return -ENOMEM;
		b->data = grown;
		b->size = size;
	}
	if (len)
		memcpy(b->data, data, len);
	b->len = len;
	return 0;
}

static int fill(struct cow_buf *b, const void *data, size_t len)
{
	return b ? cow_buf_set(b, data, len) : 0;
}

/* -- the environment -- */

static void env_close(struct env *env)
{
	struct reader *rd;

	while ((rd = env->idle)) {
		env->idle = rd->next;
		mdb_cursor_close(rd->cursor);
		mdb_txn_abort(rd->txn);
		free(rd);
	}
	if (env->mdb)
		mdb_env_close(env->mdb);
	free(env);
}

DEFINE_CLEANUP(env_close_p, struct env *, env_close)

/* A file shorter than its last page would kill us with SIGBUS at the first look there, and LMDB does not check. May
 * also hit a sound file (its last pages were given up before they were ever written): rare, and it is only made anew. */
static int check_length(MDB_env *mdb)
{
	struct stat st;
	MDB_envinfo info;
	MDB_stat ms;
	mdb_filehandle_t fd;
	int rc;

	if ((rc = mdb_env_info(mdb, &info)) || (rc = mdb_env_stat(mdb, &ms)) ||
	    (rc = mdb_env_get_fd(mdb, &fd)))
		return from_mdb(rc);
	if (fstat(fd, &st) < 0)
		return -errno;
	return (uint64_t)st.st_size / ms.ms_psize > info.me_last_pgno ? 0 : -EUCLEAN;
}

static int try_open(struct cow_index *ix, uint64_t map_bytes, MDB_env **ret)
{
	char path[sizeof("/proc/self/fd/") + 3 * sizeof(int)];
	MDB_env *mdb;
	int rc;

	/* By the descriptor, since the path may lead into our own mount. NORDAHEAD: look-ups are scattered. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", ix->dir_fd);
	rc = mdb_env_create(&mdb);
	if (rc)
		return from_mdb(rc);
	if ((rc = mdb_env_set_mapsize(mdb, map_bytes)) || (rc = mdb_env_set_maxreaders(mdb, MAX_READERS)) ||
	    (rc = mdb_env_open(mdb, path, MDB_NOSYNC | MDB_NOMETASYNC | MDB_NOTLS | MDB_NORDAHEAD, 0600))) {
		mdb_env_close(mdb); /* also after a failed open, lmdb.h says */
		return from_mdb(rc);
	}
	*ret = mdb;
	return 0;
}

/* The handle of the only database, and the stamp in it. */
static int read_stamp(struct env *env, uint64_t *ret)
{
	CLEANUP(txn_abort_p) MDB_txn *txn = NULL;
	MDB_val key = to_val(stamp_key, sizeof(stamp_key)), val;
	int rc;

	if ((rc = mdb_txn_begin(env->mdb, NULL, MDB_RDONLY, &txn)) || (rc = mdb_dbi_open(txn, NULL, 0, &env->dbi)))
		return from_mdb(rc);
	rc = mdb_get(txn, env->dbi, &key, &val);
	if (rc == 0 && val.mv_size != sizeof(*ret))
		return -EUCLEAN;
	if (rc && rc != MDB_NOTFOUND)
		return from_mdb(rc);
	if (rc)
		*ret = 0;
	else
		memcpy(ret, val.mv_data, sizeof(*ret)); /* native order, as all of LMDB's file */
	return from_mdb(mdb_txn_commit(TAKE(txn)));
}

static int remove_files(struct cow_index *ix)
{
	static const char *const names[] = { "data.mdb", "lock.mdb" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		int r = cow_file_unlinkat(ix->dir_fd, names[i], 0);

		if (r < 0 && r != -ENOENT)
			return r;
	}
	return 0;
}

/* Have an environment; for who has the role. */
static int open_env(struct cow_index *ix, bool fresh)
{
	CLEANUP(env_close_p) struct env *env = calloc(1, sizeof(*env));
	uint64_t stamp = 0, map_bytes = ix->map_bytes ? ix->map_bytes : MAP_BYTES;
	int r;

	if (!env)
		return -ENOMEM;
	r = fresh ? remove_files(ix) : 0;
	if (r < 0)
		return r;
	while ((r = try_open(ix, map_bytes, &env->mdb)) == -ENOMEM && map_bytes / 2 >= MAP_BYTES_MIN)
		map_bytes /= 2;
	if (r < 0)
		return r;
	r = check_length(env->mdb);
	if (r < 0)
		return r;
	r = read_stamp(env, &stamp);
	if (r < 0)
		return r;
	env->users = 1;
	ulock_lock_same(&ix->lock);
	ix->env = TAKE(env);
	ulock_unlock(&ix->lock);
	ix->written_stamp = stamp;
	return 0;
}

/* After a wipe that could not: what it left on disk is forgotten and must not come back. */
static int need_env(struct cow_index *ix)
{
	return ix->env ? 0 : open_env(ix, true);
}

/* Call with the lock; true: nobody uses it any more, close it without the lock. */
static bool env_put_locked(struct env *env)
{
	return --env->users == 0;
}

/* -- look-ups -- */

static int reader_new(struct env *env, struct reader **ret)
{
	CLEANUP(txn_abort_p) MDB_txn *txn = NULL;
	CLEANUP(free_p) struct reader *rd = calloc(1, sizeof(*rd));
	int rc;

	if (!rd)
		return -ENOMEM;
	if ((rc = mdb_txn_begin(env->mdb, NULL, MDB_RDONLY, &txn)) ||
	    (rc = mdb_cursor_open(txn, env->dbi, &rd->cursor)))
		return from_mdb(rc);
	mdb_txn_reset(txn);
	rd->txn = TAKE(txn);
	*ret = TAKE(rd);
	return 0;
}

/* Take the lock with an idle reader at hand, if there is an environment. On failure the lock is not held. */
static int lock_with_reader(struct cow_index *ix)
{
	ulock_lock_same(&ix->lock);
	while (ix->env && !ix->env->idle) {
		struct env *env = ix->env;
		struct reader *rd = NULL;
		bool last;
		int r;

		env->users++;
		ulock_unlock(&ix->lock);
		r = reader_new(env, &rd); /* not under the lock: it waits for LMDB's own, and allocates */
		ulock_lock_same(&ix->lock);
		if (rd) {
			rd->next = env->idle;
			env->idle = rd;
		}
		last = env_put_locked(env);
		if (last || r < 0)
			ulock_unlock(&ix->lock);
		if (last)
			env_close(env);
		if (r < 0)
			return r;
		if (last)
			ulock_lock_same(&ix->lock);
	}
	return 0;
}

/* What a look-up holds of LMDB between reader_begin_locked() and reader_end(). */
struct view {
	struct env *env;
	struct reader *rd;
};

/* From here on `v` sees LMDB as it is now. -ENOENT: there is none. */
static int reader_begin_locked(struct cow_index *ix, struct view *v)
{
	int rc;

	v->env = ix->env;
	if (!v->env)
		return -ENOENT;
	v->rd = v->env->idle;
	rc = mdb_txn_renew(v->rd->txn);
	if (rc)
		return from_mdb(rc);
	v->env->idle = v->rd->next;
	v->env->users++;
	return 0;
}

static void reader_end(struct cow_index *ix, struct view *v)
{
	bool last;

	mdb_txn_reset(v->rd->txn);
	ulock_lock_same(&ix->lock);
	v->rd->next = v->env->idle;
	v->env->idle = v->rd;
	last = env_put_locked(v->env);
	ulock_unlock(&ix->lock);
	if (last)
		env_close(v->env);
}

static const struct cow_entry *table_get(const struct cow_memtable *t, const void *key, size_t key_len)
{
	const struct cow_entry *e = cow_memtable_ge(t, key, key_len);

	return e && cow_key_cmp(e->bytes, e->key_len, key, key_len) == 0 ? e : NULL;
}

static int txn_get(MDB_txn *txn, MDB_dbi dbi, const void *key, size_t key_len, struct cow_buf *val)
{
	MDB_val k = to_val(key, key_len), v;
	int rc = mdb_get(txn, dbi, &k, &v);

	return rc ? from_mdb(rc) : fill(val, v.mv_data, v.mv_size);
}

int cow_index_get(struct cow_index *ix, const void *key, size_t key_len, struct cow_buf *val)
{
	const struct cow_entry *e;
	struct view v;
	int r;

	assert(key_len > 0 && key_len <= COW_INDEX_KEY_MAX);
	r = lock_with_reader(ix);
	if (r < 0)
		return r;
	e = table_get(&ix->active, key, key_len);
	if (!e)
		e = table_get(&ix->flushing, key, key_len);
	if (e)
		r = fill(val, cow_entry_val(e), e->val_len);
	else
		r = reader_begin_locked(ix, &v);
	ulock_unlock(&ix->lock);
	if (e || r < 0)
		return r;
	r = txn_get(v.rd->txn, v.env->dbi, key, key_len, val);
	reader_end(ix, &v);
	return r;
}

static bool starts_with(const void *key, size_t key_len, const void *prefix, size_t prefix_len)
{
	return key_len >= prefix_len && (!prefix_len || memcmp(key, prefix, prefix_len) == 0);
}

/* The first with the prefix at or after the key, in memory; of two the newer. */
static const struct cow_entry *memory_ge(const struct cow_index *ix, const void *key, size_t key_len,
					 size_t prefix_len)
{
	const struct cow_entry *a = cow_memtable_ge(&ix->active, key, key_len);
	const struct cow_entry *f = cow_memtable_ge(&ix->flushing, key, key_len);

	if (!a || (f && cow_key_cmp(f->bytes, f->key_len, a->bytes, a->key_len) < 0))
		a = f;
	return a && starts_with(a->bytes, a->key_len, key, prefix_len) ? a : NULL;
}

/* The same in LMDB: 0 and both values (borrowed from the transaction), or -ENOENT. */
static int cursor_ge(MDB_cursor *cursor, const void *key, size_t key_len, size_t prefix_len, MDB_val *ret_key,
		     MDB_val *ret_val)
{
	int rc;

	*ret_key = to_val(key, key_len);
	/* LMDB has no empty keys and refuses to look for one */
	rc = mdb_cursor_get(cursor, ret_key, ret_val, key_len ? MDB_SET_RANGE : MDB_FIRST);
	if (rc)
		return from_mdb(rc);
	if (ret_key->mv_size > COW_INDEX_KEY_MAX)
		return -ENOENT; /* the stamp: the end */
	return starts_with(ret_key->mv_data, ret_key->mv_size, key, prefix_len) ? 0 : -ENOENT;
}

/* The best candidate so far. */
struct found {
	unsigned char key[COW_INDEX_KEY_MAX];
	size_t key_len;		/* 0: none yet */
};

static int take(struct found *f, struct cow_buf *val, const void *key, size_t key_len, const void *data, size_t len)
{
	memcpy(f->key, key, key_len);
	f->key_len = key_len;
	return fill(val, data, len);
}

static int give(const struct found *f, void *ret_key, size_t *ret_key_len)
{
	if (!f->key_len)
		return -ENOENT;
	if (ret_key)
		memcpy(ret_key, f->key, f->key_len);
	if (ret_key_len)
		*ret_key_len = f->key_len;
	return 0;
}

/* LMDB's candidate wins if it is smaller; of the same key memory's is newer, or the same. */
static int look_below(struct view *v, const void *key, size_t key_len, size_t prefix_len, struct found *f,
		      struct cow_buf *val)
{
	MDB_val k, d;
	int r = from_mdb(mdb_cursor_renew(v->rd->txn, v->rd->cursor));

	if (r < 0)
		return r;
	r = cursor_ge(v->rd->cursor, key, key_len, prefix_len, &k, &d);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (f->key_len && cow_key_cmp(f->key, f->key_len, k.mv_data, k.mv_size) <= 0)
		return 0;
	return take(f, val, k.mv_data, k.mv_size, d.mv_data, d.mv_size);
}

int cow_index_get_ge(struct cow_index *ix, const void *key, size_t key_len, size_t prefix_len, void *ret_key,
		     size_t *ret_key_len, struct cow_buf *val)
{
	const struct cow_entry *e;
	struct found f;
	struct view v;
	bool exact = false;
	int r;

	assert(key_len <= COW_INDEX_KEY_MAX && prefix_len <= key_len);
	f.key_len = 0;
	r = lock_with_reader(ix);
	if (r < 0)
		return r;
	e = memory_ge(ix, key, key_len, prefix_len);
	if (e) {
		exact = cow_key_cmp(e->bytes, e->key_len, key, key_len) == 0;
		r = take(&f, val, e->bytes, e->key_len, cow_entry_val(e), e->val_len);
	}
	if (r == 0 && !exact)
		r = reader_begin_locked(ix, &v);
	ulock_unlock(&ix->lock);
	if (exact || r == -ENOENT) /* nothing can be smaller; there is nothing below */
		return r < 0 && r != -ENOENT ? r : give(&f, ret_key, ret_key_len);
	if (r < 0)
		return r;
	r = look_below(&v, key, key_len, prefix_len, &f, val);
	reader_end(ix, &v);
	return r < 0 ? r : give(&f, ret_key, ret_key_len);
}

/* The smallest key that is greater: one zero more, or at full length the next number. False: there is none. */
static bool successor(unsigned char *key, size_t *len)
{
	if (*len < COW_INDEX_KEY_MAX) {
		key[(*len)++] = 0;
		return true;
	}
	while (*len && key[*len - 1] == 0xff)
		(*len)--;
	if (*len)
		key[*len - 1]++;
	return *len > 0;
}

/* One look-up for each step, from the top: slower than a cursor that stays (0.35 us was measured), but it needs no
 * flush, sees what is in memory, and `each` may delete whatever it likes. */
int cow_index_scan(struct cow_index *ix, const void *prefix, size_t prefix_len, const void *from, size_t from_len,
		   int (*each)(void *userdata, const void *key, size_t key_len, const void *val, size_t val_len),
		   void *userdata)
{
	CLEANUP(cow_buf_done) struct cow_buf val = { 0 };
	unsigned char key[COW_INDEX_KEY_MAX], seen[COW_INDEX_KEY_MAX];
	size_t key_len, seen_len;
	int r;

	assert(prefix_len <= COW_INDEX_KEY_MAX && from_len <= COW_INDEX_KEY_MAX);
	if (!from || cow_key_cmp(from, from_len, prefix, prefix_len) < 0) {
		from = prefix;
		from_len = prefix_len;
	}
	if (from_len)
		memcpy(key, from, from_len);
	key_len = from_len;
	do {
		if (!starts_with(key, key_len, prefix, prefix_len))
			return 0;
		r = cow_index_get_ge(ix, key, key_len, prefix_len, seen, &seen_len, &val);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
		memcpy(key, seen, seen_len);
		key_len = seen_len;
		r = each(userdata, seen, seen_len, val.data, val.len);
	} while (r == 0 && successor(key, &key_len));
	return r;
}

static int walk_below(struct view *v, const void *from, size_t from_len, const void *to, size_t to_len,
		      int (*each)(void *, const void *, size_t, const void *, size_t), void *userdata)
{
	MDB_val k, d;
	int r = from_mdb(mdb_cursor_renew(v->rd->txn, v->rd->cursor));

	if (r == 0)
		r = cursor_ge(v->rd->cursor, from, from_len, 0, &k, &d);
	while (r == 0 && cow_key_cmp(k.mv_data, k.mv_size, to, to_len) < 0) {
		r = each(userdata, k.mv_data, k.mv_size, d.mv_data, d.mv_size);
		if (r == 0)
			r = from_mdb(mdb_cursor_get(v->rd->cursor, &k, &d, MDB_NEXT));
	}
	return r == -ENOENT ? 0 : r;
}

int cow_index_walk(struct cow_index *ix, const void *from, size_t from_len, const void *to, size_t to_len,
		   int (*each)(void *userdata, const void *key, size_t key_len, const void *val, size_t val_len),
		   void *userdata)
{
	const struct cow_entry *e;
	struct view v;
	int r;

	assert(from_len > 0 && from_len <= COW_INDEX_KEY_MAX && to_len <= COW_INDEX_KEY_MAX);
	r = lock_with_reader(ix);
	if (r < 0)
		return r;
	e = memory_ge(ix, from, from_len, 0);
	if (e && cow_key_cmp(e->bytes, e->key_len, to, to_len) < 0)
		r = -EAGAIN;
	else
		r = reader_begin_locked(ix, &v);
	ulock_unlock(&ix->lock);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = walk_below(&v, from, from_len, to, to_len, each, userdata);
	reader_end(ix, &v);
	return r;
}

/* -- the role of the writer -- */

static void take_role_locked(struct cow_index *ix)
{
	while (ix->writing)
		ulock_wait(&ix->lock, &ix->done); /* a thread that began a batch aborts here: it would wait for itself */
	ix->writing = true;
}

static void take_role(struct cow_index *ix)
{
	ulock_lock_same(&ix->lock);
	take_role_locked(ix);
	ulock_unlock(&ix->lock);
}

static void give_role(struct cow_index *ix)
{
	ulock_lock_same(&ix->lock);
	ix->writing = false;
	pthread_cond_broadcast(&ix->done);
	ulock_unlock(&ix->lock);
}

struct target {
	MDB_txn *txn;
	MDB_dbi dbi;
};

static int write_entry(void *userdata, const struct cow_entry *e)
{
	struct target *t = userdata;
	MDB_val k = to_val(e->bytes, e->key_len), v = to_val(cow_entry_val(e), e->val_len);

	return from_mdb(mdb_put(t->txn, t->dbi, &k, &v, 0));
}

static int write_table(struct cow_index *ix)
{
	CLEANUP(txn_abort_p) MDB_txn *txn = NULL;
	MDB_val k = to_val(stamp_key, sizeof(stamp_key));
	MDB_val v = to_val(&ix->flushing_stamp, sizeof(ix->flushing_stamp));
	int r = from_mdb(mdb_txn_begin(ix->env->mdb, NULL, 0, &txn));

	if (r < 0)
		return r;
	r = cow_memtable_each(&ix->flushing, write_entry, &(struct target){ txn, ix->env->dbi });
	if (r < 0)
		return r;
	r = from_mdb(mdb_put(txn, ix->env->dbi, &k, &v, 0));
	return r < 0 ? r : from_mdb(mdb_txn_commit(TAKE(txn)));
}

static int commit_table(struct cow_index *ix)
{
	int r;

	if (!ix->flushing.entries && ix->flushing_stamp == ix->written_stamp)
		return 0;
	r = need_env(ix);
	if (r < 0)
		return r;
	r = write_table(ix);
	if (r == -EIO) /* LMDB's word for a short write too; a full disk says so at the next */
		r = write_table(ix);
	if (r == 0)
		ix->written_stamp = ix->flushing_stamp;
	return r;
}

/* Every put that came before cow_index_set_stamp(s) had the lock before that, so if we, having the lock, see s,
 * we have its entry in the table. */
static void swap_tables_locked(struct cow_index *ix)
{
	ix->flushing = ix->active;
	ix->active = (struct cow_memtable){ .seed = ix->flushing.seed };
	ix->flushing_stamp = atomic_load_explicit(&ix->stamp, memory_order_acquire);
	ix->kicked = false;
}

/* Write out everything; for who has the role. What an earlier attempt left goes first, since it is older. */
static int flush_as_writer(struct cow_index *ix)
{
	struct cow_memtable written;
	bool newest;
	int r;

	do {
		ulock_lock_same(&ix->lock);
		newest = !ix->flushing.entries;
		if (newest)
			swap_tables_locked(ix);
		ulock_unlock(&ix->lock);
		r = commit_table(ix);
		written = (struct cow_memtable){ 0 };
		ulock_lock_same(&ix->lock);
		if (r == 0) {
			written = ix->flushing;
			ix->flushing = (struct cow_memtable){ 0 };
			ix->committed_stamp = ix->flushing_stamp;
		} else {
			ix->kicked = false;
			ix->due_ns = clock_deadline_ms(RETRY_DELAY_MS);
		}
		ix->attempts++;
		ix->attempt_error = r;
		pthread_cond_broadcast(&ix->done);
		ulock_unlock(&ix->lock);
		cow_memtable_done(&written);
	} while (r == 0 && !newest);
	return r;
}

int cow_index_flush(struct cow_index *ix)
{
	int r;

	take_role(ix);
	r = flush_as_writer(ix);
	give_role(ix);
	return r;
}

static bool is_due_locked(const struct cow_index *ix)
{
	bool waiting = ix->active.entries || ix->flushing.entries;

	return ix->kicked || (waiting && clock_expired(ix->due_ns));
}

static void *writer_main(void *arg)
{
	struct cow_index *ix = arg;

	ulock_lock(&ix->lock);
	while (!ix->stop) {
		if (is_due_locked(ix)) {
			ulock_unlock(&ix->lock);
			cow_index_flush(ix); /* a failure is told to who waits: wait_for_room_locked() */
			ulock_lock(&ix->lock);
		} else if (ix->active.entries || ix->flushing.entries) {
			ulock_wait_until(&ix->lock, &ix->work, ix->due_ns);
		} else {
			ulock_wait(&ix->lock, &ix->work);
		}
	}
	ulock_unlock(&ix->lock);
	return NULL;
}

/* -- changes -- */

static bool beyond_locked(const struct cow_index *ix, size_t factor)
{
	return ix->active.entries + ix->flushing.entries >= factor * FLUSH_ENTRIES ||
	       ix->active.bytes + ix->flushing.bytes >= factor * FLUSH_BYTES;
}

static void kick_locked(struct cow_index *ix)
{
	ix->kicked = true;
	pthread_cond_signal(&ix->work);
}

static int wait_for_room_locked(struct cow_index *ix)
{
	while (beyond_locked(ix, LIMIT_FACTOR)) {
		uint64_t seen = ix->attempts;

		kick_locked(ix);
		while (ix->attempts == seen && beyond_locked(ix, LIMIT_FACTOR))
			ulock_wait(&ix->lock, &ix->done);
		if (ix->attempts != seen && ix->attempt_error < 0)
			return ix->attempt_error;
	}
	return 0;
}

int cow_index_put(struct cow_index *ix, const void *key, size_t key_len, const void *val, size_t val_len)
{
	struct cow_entry *e, *unused;
	int r;

	assert(key_len > 0 && key_len <= COW_INDEX_KEY_MAX && val_len <= COW_INDEX_VALUE_MAX);
	e = cow_entry_new(key, key_len, val, val_len);
	if (!e)
		return -ENOMEM;
	ulock_lock_same(&ix->lock);
	r = wait_for_room_locked(ix);
	if (r < 0) {
		unused = e;
	} else {
		if (!ix->active.entries) { /* the writer waits for ever so far */
			ix->due_ns = clock_deadline_ms(FLUSH_DELAY_MS);
			pthread_cond_signal(&ix->work);
		}
		unused = cow_memtable_put(&ix->active, e);
		if (!ix->kicked && (ix->active.entries >= FLUSH_ENTRIES || ix->active.bytes >= FLUSH_BYTES))
			kick_locked(ix);
	}
	ulock_unlock(&ix->lock);
	free(unused);
	return r;
}

static void batch_end(struct cow_index_batch *b)
{
	rank_leave(RANK_INDEX);
	give_role(b->ix);
	free(b);
}

int cow_index_batch_begin(struct cow_index *ix, struct cow_index_batch **ret)
{
	CLEANUP(free_p) struct cow_index_batch *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	b->ix = ix;
	take_role(ix);
	r = flush_as_writer(ix);
	if (r == 0)
		r = need_env(ix);
	if (r == 0)
		r = from_mdb(mdb_txn_begin(ix->env->mdb, NULL, 0, &b->txn));
	if (r == 0) {
		r = from_mdb(mdb_cursor_open(b->txn, ix->env->dbi, &b->cursor));
		if (r < 0)
			mdb_txn_abort(b->txn);
	}
	if (r < 0) {
		give_role(ix);
		return r;
	}
	rank_enter(RANK_INDEX);
	*ret = TAKE(b);
	return 0;
}

static int note_error(struct cow_index_batch *b, int rc)
{
	b->error = from_mdb(rc);
	return b->error;
}

int cow_index_batch_put(struct cow_index_batch *b, const void *key, size_t key_len, const void *val, size_t val_len)
{
	MDB_val k = to_val(key, key_len), v = to_val(val_len ? val : "", val_len);

	assert(key_len > 0 && key_len <= COW_INDEX_KEY_MAX && val_len <= COW_INDEX_VALUE_MAX);
	return b->error ? b->error : note_error(b, mdb_put(b->txn, b->ix->env->dbi, &k, &v, 0));
}

int cow_index_batch_del(struct cow_index_batch *b, const void *key, size_t key_len)
{
	MDB_val k = to_val(key, key_len);
	int rc;

	assert(key_len > 0 && key_len <= COW_INDEX_KEY_MAX);
	if (b->error)
		return b->error;
	rc = mdb_del(b->txn, b->ix->env->dbi, &k, NULL);
	return note_error(b, rc == MDB_NOTFOUND ? 0 : rc);
}

int cow_index_batch_get(struct cow_index_batch *b, const void *key, size_t key_len, struct cow_buf *val)
{
	assert(key_len > 0 && key_len <= COW_INDEX_KEY_MAX);
	return b->error ? b->error : txn_get(b->txn, b->ix->env->dbi, key, key_len, val);
}

int cow_index_batch_get_ge(struct cow_index_batch *b, const void *key, size_t key_len, size_t prefix_len,
			   void *ret_key, size_t *ret_key_len, struct cow_buf *val)
{
	struct found f;
	MDB_val k, v;
	int r;

	assert(key_len <= COW_INDEX_KEY_MAX && prefix_len <= key_len);
	if (b->error)
		return b->error;
	r = cursor_ge(b->cursor, key, key_len, prefix_len, &k, &v);
	if (r < 0)
		return r;
	r = take(&f, val, k.mv_data, k.mv_size, v.mv_data, v.mv_size);
	return r < 0 ? r : give(&f, ret_key, ret_key_len);
}

int cow_index_batch_commit(struct cow_index_batch *b)
{
	int r = b->error;

	mdb_cursor_close(b->cursor);
	if (r < 0)
		mdb_txn_abort(b->txn);
	else
		r = from_mdb(mdb_txn_commit(b->txn));
	batch_end(b);
	return r;
}

void cow_index_batch_abort(struct cow_index_batch *b)
{
	if (!b)
		return;
	mdb_cursor_close(b->cursor);
	mdb_txn_abort(b->txn);
	batch_end(b);
}

/* The files go first, so that a full disk cannot prevent it; the old environment keeps its own until it is closed. */
int cow_index_wipe(struct cow_index *ix)
{
	struct cow_memtable active, flushing;
	struct env *old;
	bool last;
	int r;

	take_role(ix);
	ulock_lock_same(&ix->lock);
	active = ix->active;
	flushing = ix->flushing;
	ix->active = ix->flushing = (struct cow_memtable){ 0 };
	old = ix->env;
	ix->env = NULL;
	last = old && env_put_locked(old);
	ix->kicked = false;
	ix->flushing_stamp = ix->committed_stamp = 0;
	atomic_store_explicit(&ix->stamp, 0, memory_order_relaxed);
	ulock_unlock(&ix->lock);
	ix->written_stamp = 0;
	if (last)
		env_close(old);
	cow_memtable_done(&active);
	cow_memtable_done(&flushing);
	r = need_env(ix);
	give_role(ix);
	return r;
}

/* -- open and close -- */

static void index_free(struct cow_index *ix)
{
	if (ix->env)
		env_close(ix->env);
	cow_memtable_done(&ix->active);
	cow_memtable_done(&ix->flushing);
	if (ix->dir_fd >= 0)
		close(ix->dir_fd);
	pthread_cond_destroy(&ix->work);
	pthread_cond_destroy(&ix->done);
	ulock_done(&ix->lock);
	free(ix);
}

DEFINE_CLEANUP(index_free_p, struct cow_index *, index_free)

static int start_writer(struct cow_index *ix)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the threads that expect them */
	error = pthread_create(&ix->thread, NULL, writer_main, ix);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!error)
		pthread_setname_np(ix->thread, "umbra-index");
	return -error;
}

int cow_index_open_sized(int dir_fd, bool fresh, size_t map_bytes, struct cow_index **ret)
{
	CLEANUP(index_free_p) struct cow_index *ix = calloc(1, sizeof(*ix));
	int r;

	if (!ix)
		return -ENOMEM;
	ulock_init(&ix->lock, RANK_INDEX);
	ulock_cond_init(&ix->work);
	ulock_cond_init(&ix->done);
	ix->map_bytes = map_bytes;
	ix->dir_fd = -1;
	r = cow_file_mkdirat(dir_fd, "index", 0700);
	if (r < 0 && r != -EEXIST)
		return r;
	r = ix->dir_fd = cow_file_openat(dir_fd, "index", O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	if (r < 0)
		return r;
	r = open_env(ix, fresh);
	if (r < 0)
		return r;
	ix->committed_stamp = ix->flushing_stamp = ix->written_stamp;
	atomic_init(&ix->stamp, ix->written_stamp);
	r = start_writer(ix);
	if (r < 0)
		return r;
	*ret = TAKE(ix);
	return 0;
}

int cow_index_open(int dir_fd, bool fresh, struct cow_index **ret)
{
	return cow_index_open_sized(dir_fd, fresh, 0, ret);
}

int cow_index_close(struct cow_index *ix)
{
	int r;

	if (!ix)
		return 0;
	ulock_lock(&ix->lock);
	ix->stop = true;
	pthread_cond_signal(&ix->work);
	ulock_unlock(&ix->lock);
	pthread_join(ix->thread, NULL);
	r = cow_index_flush(ix);
	if (r == 0 && ix->env)
		r = from_mdb(mdb_env_sync(ix->env->mdb, 1));
	index_free(ix);
	return r;
}

/* -- figures -- */

uint64_t cow_index_bytes(struct cow_index *ix)
{
	CLEANUP(ulock_unlock_p) struct ulock *held = NULL;
	mdb_filehandle_t fd;
	struct stat st;

	ulock_lock_same(&ix->lock);
	held = &ix->lock;
	if (!ix->env || mdb_env_get_fd(ix->env->mdb, &fd) || fstat(fd, &st) < 0)
		return 0;
	return (uint64_t)st.st_blocks * 512;
}

void cow_index_set_stamp(struct cow_index *ix, uint64_t stamp)
{
	atomic_store_explicit(&ix->stamp, stamp, memory_order_release);
}

uint64_t cow_index_committed_stamp(struct cow_index *ix)
{
	uint64_t stamp;

	ulock_lock_same(&ix->lock);
	if (ix->active.entries || ix->flushing.entries)
		stamp = ix->committed_stamp;
	else
		stamp = atomic_load_explicit(&ix->stamp, memory_order_acquire);
	ulock_unlock(&ix->lock);
	return stamp;
}

int cow_index_grow(struct cow_index *ix, size_t map_bytes)
{
	int r;

	take_role(ix);
	r = ix->env ? from_mdb(mdb_env_set_mapsize(ix->env->mdb, map_bytes)) : 0;
	give_role(ix);
	return r;
}

size_t cow_index_waiting(struct cow_index *ix)
{
	size_t n;

	ulock_lock_same(&ix->lock);
	n = ix->active.entries + ix->flushing.entries;
	ulock_unlock(&ix->lock);
	return n;
}
