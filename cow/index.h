/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cow/index.h - the ordered index over the log: which record answers for (thing, epoch).
 * Job:     byte-string keys in order; new entries in memory first, written to LMDB in batches behind the change's
 *	    back; one ordered look-up over both. Derived from the log: may be thrown away and made anew.
 *	    Knows nothing of what keys mean (keys.h does).
 * Errors:  0 or -errno; -ENOENT not found, -ENOSPC map or disk full, -EUCLEAN damage. LMDB's codes end here.
 * Threads: any. Takes rank INDEX inside. No look-up waits for a disk write by another thread.	 Rules: I-3, I-7. */
#ifndef UMBRA_COW_INDEX_H
#define UMBRA_COW_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COW_INDEX_KEY_MAX   500		/* bytes; LMDB's default limit is 511 */
#define COW_INDEX_VALUE_MAX (256 * 1024)

struct cow_index;

/* Open the LMDB environment in `dir_fd`/"index" (made, mode 0700). `fresh`: throw away what is there first.
 * MDB_NOSYNC (after an unclean boot the caller says fresh), MDB_NOTLS, map size 1 TiB, less where the address space
 * does not allow it. -EUCLEAN: damaged, or shorter than it should be; say fresh. Starts the writer thread. */
int cow_index_open(int dir_fd, bool fresh, struct cow_index **ret);
/* Write out what is in memory, make it durable (so that a mark of a clean end is true), close. Consumes ix, also on
 * failure; no other call may be running. NULL is fine. */
int cow_index_close(struct cow_index *ix);

/* Put or replace. Memory only; once returned, every look-up finds it. Wakes the writer thread when much is waiting
 * (4,096 entries or 4 MiB) or, at the latest, 100 ms later; waits for it beyond 8 times that, so that memory is bounded:
 * when that flush fails too, its error is returned and nothing was put. -ENOMEM, else no error. */
int cow_index_put(struct cow_index *ix, const void *key, size_t key_len, const void *val, size_t val_len);

/* A buffer that look-ups copy a value into: grown as needed, freed by cow_buf_done. Start with {0}. */
struct cow_buf {
	void *data;
	size_t len, size;
};
void cow_buf_done(struct cow_buf *b);
int cow_buf_set(struct cow_buf *b, const void *data, size_t len);

/* Exact look-up. `val` may be NULL; on an error other than -ENOENT what it holds is undefined. */
int cow_index_get(struct cow_index *ix, const void *key, size_t key_len, struct cow_buf *val);

/* The smallest key >= `key` that starts with the first `prefix_len` bytes of `key`. All outputs may be NULL; ret_key has
 * room for COW_INDEX_KEY_MAX bytes and may be `key` itself. */
int cow_index_get_ge(struct cow_index *ix, const void *key, size_t key_len, size_t prefix_len, void *ret_key,
		     size_t *ret_key_len, struct cow_buf *val);

/* Everything put before is in LMDB when this returns (not synced to disk). On failure the entries stay in memory,
 * still found; a later flush tries again. */
int cow_index_flush(struct cow_index *ix);

/* Visit keys with prefix `prefix`, in order, from `from` on (NULL: the first), those in memory too: needs no flush. Entries
 * put during the scan are seen if they come after its place. One look-up for each step: nothing is kept while `each`
 * runs, so it may call any function here, also delete. Key and value are borrowed until `each` returns. Non-zero from
 * `each` ends the scan with that value. */
int cow_index_scan(struct cow_index *ix, const void *prefix, size_t prefix_len, const void *from, size_t from_len,
		   int (*each)(void *userdata, const void *key, size_t key_len, const void *val, size_t val_len),
		   void *userdata);

/* Visit what is in LMDB from `from` on and before `to`, in order, as of one moment: one look-up for all of it. -EAGAIN, and
 * nothing is visited, when memory has an entry there: ask key by key then. Key and value are borrowed until `each`
 * returns; it must not call anything here. Non-zero from `each` ends it with that value. */
int cow_index_walk(struct cow_index *ix, const void *from, size_t from_len, const void *to, size_t to_len,
		   int (*each)(void *userdata, const void *key, size_t key_len, const void *val, size_t val_len),
		   void *userdata);

/* One atomic change of many keys, after a flush: readers see all of it or nothing. Other writers wait meanwhile (only the
 * writer thread is one: puts go to memory, where they are newer than the batch, and wait for it when memory is full). From
 * begin to end the thread holds rank INDEX and stays the same (LMDB); it may look up, but not put, flush or wipe. The
 * batch's own look-ups see the batch and LMDB, not what was put since it began. After a failure every call says that
 * error again and nothing is changed. */
struct cow_index_batch;
int cow_index_batch_begin(struct cow_index *ix, struct cow_index_batch **ret);
int cow_index_batch_put(struct cow_index_batch *b, const void *key, size_t key_len, const void *val, size_t val_len);
int cow_index_batch_del(struct cow_index_batch *b, const void *key, size_t key_len);	/* absent is fine */
int cow_index_batch_get(struct cow_index_batch *b, const void *key, size_t key_len, struct cow_buf *val);
int cow_index_batch_get_ge(struct cow_index_batch *b, const void *key, size_t key_len, size_t prefix_len,
			   void *ret_key, size_t *ret_key_len, struct cow_buf *val);
int cow_index_batch_commit(struct cow_index_batch *b);	/* consumes b, also on failure */
void cow_index_batch_abort(struct cow_index_batch *b);	/* NULL is fine */

/* Forget everything, memory, LMDB and stamp, and give the space back (the last snapshot is gone). All is forgotten also
 * on failure: the index then works from memory, and a later flush tries again to make the files. */
int cow_index_wipe(struct cow_index *ix);
/* Bytes of the environment on disk. */
uint64_t cow_index_bytes(struct cow_index *ix);

/* A number of the caller's that tells how far the log is in the index: what was put before set_stamp(n) is in LMDB once
 * committed_stamp() is n. Written in the same transaction as the entries, so after opening it is the one of what was found
 * there; 0 at first. No lock, no disk: set it after every put if you like. */
void cow_index_set_stamp(struct cow_index *ix, uint64_t stamp);
uint64_t cow_index_committed_stamp(struct cow_index *ix);

#endif
