/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/base/clock.h"
#include "cow/base/lock.h"
#include "cow/index.h"
#include "cow/index_private.h"
#include "cow/memtable.h"
#include "tests/support/fault.h"
#include "tests/support/leaks.h"

static char dir[] = "/tmp/test_cow_index.XXXXXX";
static int dfd;
static struct cow_index *ix;

static void open_index(bool fresh)
{
	cr_assert_eq(cow_index_open(dfd, fresh, &ix), 0);
}

static void close_index(void)
{
	cr_assert_eq(cow_index_close(ix), 0);
	ix = NULL;
}

static void setup(void)
{
	cr_assert(mkdtemp(dir));
	dfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert(dfd >= 0);
	open_index(true);
}

static void teardown(void)
{
	char cmd[100];

	fault_reset();
	cow_index_close(ix);
	close(dfd);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	cr_assert_eq(system(cmd), 0);
}

TestSuite(cow_index, .init = setup, .fini = teardown, .timeout = 120);

/* -- words for what the tests do, with text keys and values -- */

static void put(const char *key, const char *val)
{
	cr_assert_eq(cow_index_put(ix, key, strlen(key), val, strlen(val)), 0);
}

static void flush(void)
{
	cr_assert_eq(cow_index_flush(ix), 0);
	cr_assert_eq(cow_index_waiting(ix), 0);
}

static void expect(const char *key, const char *val) /* NULL: not there */
{
	CLEANUP(cow_buf_done) struct cow_buf b = { 0 };
	int r = cow_index_get(ix, key, strlen(key), &b);

	if (!val) {
		cr_assert_eq(r, -ENOENT, "%s is there", key);
		return;
	}
	cr_assert_eq(r, 0, "%s: %d", key, r);
	cr_assert(b.len == strlen(val) && memcmp(b.data, val, b.len) == 0, "%s: %.*s, not %s", key, (int)b.len,
		  (char *)b.data, val);
}

static void expect_ge(const char *key, size_t prefix_len, const char *found, const char *val)
{
	CLEANUP(cow_buf_done) struct cow_buf b = { 0 };
	char got[COW_INDEX_KEY_MAX] = "untouched";
	size_t len = 77;
	int r = cow_index_get_ge(ix, key, strlen(key), prefix_len, got, &len, &b);

	if (!found) {
		cr_assert_eq(r, -ENOENT, "from %s: found %.*s", key, (int)len, got);
		cr_assert(len == 77 && strcmp(got, "untouched") == 0, "outputs were written");
		return;
	}
	cr_assert_eq(r, 0, "from %s: %d", key, r);
	cr_assert(len == strlen(found) && memcmp(got, found, len) == 0, "from %s: %.*s, not %s", key, (int)len, got,
		  found);
	cr_assert(b.len == strlen(val) && memcmp(b.data, val, b.len) == 0, "from %s: wrong value", key);
}

struct words {
	char text[512];
};

static int append_word(void *userdata, const void *key, size_t key_len, const void *val, size_t val_len)
{
	struct words *w = userdata;
	size_t n = strlen(w->text);

	snprintf(w->text + n, sizeof(w->text) - n, "%.*s=%.*s ", (int)key_len, (const char *)key, (int)val_len,
		 (const char *)val);
	return 0;
}

static void expect_scan(const char *prefix, const char *from, const char *list)
{
	struct words w = { "" };

	cr_assert_eq(cow_index_scan(ix, prefix, strlen(prefix), from, from ? strlen(from) : 0, append_word, &w), 0);
	cr_assert_str_eq(w.text, list);
}

/* -- the table -- */

static int check_order(void *userdata, const struct cow_entry *e)
{
	const struct cow_entry **last = userdata;

	if (*last && cow_key_cmp((*last)->bytes, (*last)->key_len, e->bytes, e->key_len) >= 0)
		return -EINVAL;
	*last = e;
	return 0;
}

static unsigned depth(const struct cow_entry *e)
{
	unsigned l = e ? depth(e->left) : 0, r = e ? depth(e->right) : 0;

	return e ? 1 + (l > r ? l : r) : 0;
}

Test(cow_memtable, is_ordered_and_flat_whatever_the_order_of_insertion)
{
	enum { N = 32768 };

	for (int way = 0; way < 3; way++) {
		struct cow_memtable t = { 0 };
		const struct cow_entry *last = NULL;

		for (int i = 0; i < N; i++) {
			int k = way == 0 ? i : way == 1 ? N - 1 - i : (i * 7919) % N;
			unsigned char key[4] = { 0, (unsigned char)(k >> 16), (unsigned char)(k >> 8), (unsigned char)k };

			cr_assert_null(cow_memtable_put(&t, cow_entry_new(key, 4, NULL, 0)));
		}
		cr_assert_eq(t.entries, N);
		cr_assert_eq(cow_memtable_each(&t, check_order, &last), 0);
		cr_assert_lt(depth(t.root), 60);
		cow_memtable_done(&t);
		cr_assert_null(t.root);
	}
	assert_no_leaks();
}

Test(cow_memtable, gives_back_what_it_replaces_and_counts_it_once)
{
	struct cow_memtable t = { 0 };
	size_t bytes = 0;

	for (int round = 0; round < 3; round++)
		for (unsigned char k = 0; k < 200; k++) {
			struct cow_entry *old = cow_memtable_put(&t, cow_entry_new(&k, 1, "value", 5));

			cr_assert_eq(old != NULL, round > 0);
			if (old)
				cr_assert_eq(old->bytes[0], k);
			free(old);
			if (round == 0)
				bytes = t.bytes;
		}
	cr_assert_eq(t.entries, 200);
	cr_assert_eq(t.bytes, bytes);
	cow_memtable_done(&t);
	assert_no_leaks();
}

/* -- look-ups -- */

Test(cow_index, finds_in_order_over_memory_and_lmdb)
{
	put("b1", "disk");
	put("d1", "disk");
	flush();
	put("a1", "mem");
	put("c1", "mem");
	expect("a1", "mem");
	expect("b1", "disk");
	expect("b", NULL);
	expect_ge("a", 0, "a1", "mem");
	expect_ge("a2", 0, "b1", "disk");
	expect_ge("b1", 0, "b1", "disk");
	expect_ge("b11", 0, "c1", "mem");
	expect_ge("c2", 0, "d1", "disk");
	expect_ge("d2", 0, NULL, NULL);
	expect_ge("", 0, "a1", "mem");
	expect_scan("", NULL, "a1=mem b1=disk c1=mem d1=disk ");
	close_index();
	assert_no_leaks();
}

Test(cow_index, the_newest_wins)
{
	put("k", "1");
	put("k", "2");
	expect("k", "2");
	flush();
	expect("k", "2");
	put("k", "3");
	expect("k", "3");
	expect_ge("k", 1, "k", "3");
	expect_ge("j", 0, "k", "3"); /* of two equal keys memory's */
	flush();
	expect("k", "3");
	expect_ge("j", 0, "k", "3");
}

Test(cow_index, a_prefix_bounds)
{
	put("a/1", "x");
	put("b/2", "x");
	flush();
	put("b/4", "y");
	put("c/1", "y");
	expect_ge("b/0", 2, "b/2", "x");
	expect_ge("b/3", 2, "b/4", "y");
	expect_ge("b/5", 2, NULL, NULL);
	expect_ge("a/2", 2, NULL, NULL);
	expect_ge("a/2", 0, "b/2", "x");
	expect_ge("b/2", 3, "b/2", "x");
	expect_ge("b/1", 3, NULL, NULL);
	expect_ge("d", 1, NULL, NULL);
}

Test(cow_index, a_key_is_greater_than_its_beginning_and_bytes_are_unsigned)
{
	put("k\x7f", "7f");
	put("k\x80", "80");
	put("k", "-");
	expect_scan("k", NULL, "k=- k\x7f=7f k\x80=80 ");
	flush();
	expect_scan("k", NULL, "k=- k\x7f=7f k\x80=80 ");
	expect_ge("k\x7f\x01", 1, "k\x80", "80");
}

Test(cow_index, outputs_may_be_null_and_alias_the_key)
{
	char key[COW_INDEX_KEY_MAX] = "b";
	size_t len = 1;

	put("b1", "x");
	flush();
	put("c1", "y");
	cr_assert_eq(cow_index_get(ix, "b1", 2, NULL), 0);
	cr_assert_eq(cow_index_get(ix, "c1", 2, NULL), 0);
	cr_assert_eq(cow_index_get_ge(ix, key, len, 0, NULL, NULL, NULL), 0);
	cr_assert_eq(cow_index_get_ge(ix, key, len, 0, key, &len, NULL), 0);
	cr_assert(len == 2 && memcmp(key, "b1", 2) == 0);
}

Test(cow_index, keys_of_500_bytes)
{
	unsigned char low[COW_INDEX_KEY_MAX], high[COW_INDEX_KEY_MAX], got[COW_INDEX_KEY_MAX];
	struct words w = { "" };
	size_t len;

	memset(low, 'x', sizeof(low));
	memset(high, 0xff, sizeof(high));
	for (int on_disk = 0; on_disk < 2; on_disk++) {
		cr_assert_eq(cow_index_put(ix, low, sizeof(low), "l", 1), 0);
		cr_assert_eq(cow_index_put(ix, high, sizeof(high), "h", 1), 0);
		if (on_disk)
			flush();
		cr_assert_eq(cow_index_get(ix, low, sizeof(low), NULL), 0);
		cr_assert_eq(cow_index_get_ge(ix, "y", 1, 0, got, &len, NULL), 0);
		cr_assert(len == sizeof(high) && memcmp(got, high, len) == 0);
		w.text[0] = '\0';
		cr_assert_eq(cow_index_scan(ix, low, 490, NULL, 0, append_word, &w), 0);
		cr_assert_eq(strlen(w.text), 503);
	}
	/* after the last key comes nothing, though the index keeps its stamp there */
	w.text[0] = '\0';
	cr_assert_eq(cow_index_scan(ix, "\xff", 1, NULL, 0, append_word, &w), 0);
	cr_assert_eq(strlen(w.text), 503);
	cr_assert_eq(cow_index_wipe(ix), 0);
	put("a", "a");
	cow_index_set_stamp(ix, 5);
	flush();
	expect_ge("b", 0, NULL, NULL);
}

Test(cow_index, values_from_empty_to_large)
{
	CLEANUP(cow_buf_done) struct cow_buf b = { 0 };
	char *large = malloc(COW_INDEX_VALUE_MAX);

	cr_assert(large);
	for (size_t i = 0; i < COW_INDEX_VALUE_MAX; i++)
		large[i] = (char)(i * 31 + i / 256);
	cr_assert_eq(cow_index_put(ix, "empty", 5, NULL, 0), 0);
	cr_assert_eq(cow_index_put(ix, "large", 5, large, COW_INDEX_VALUE_MAX), 0);
	for (int on_disk = 0; on_disk < 2; on_disk++) {
		cr_assert_eq(cow_index_get(ix, "large", 5, &b), 0);
		cr_assert(b.len == COW_INDEX_VALUE_MAX && memcmp(b.data, large, b.len) == 0);
		cr_assert_eq(cow_index_get(ix, "empty", 5, &b), 0);
		cr_assert_eq(b.len, 0); /* not what the buffer held before */
		flush();
	}
	free(large);
	cow_buf_done(&b);
	close_index();
	assert_no_leaks();
}

/* -- scans -- */

Test(cow_index, a_scan_starts_where_asked_and_stays_in_its_prefix)
{
	put("a1", "1");
	put("b1", "1");
	put("b3", "3");
	flush();
	put("b2", "2");
	put("b3", "three");
	put("c1", "1");
	expect_scan("b", NULL, "b1=1 b2=2 b3=three ");
	expect_scan("b", "b2", "b2=2 b3=three ");
	expect_scan("b", "b21", "b3=three ");
	expect_scan("b", "a", "b1=1 b2=2 b3=three ");
	expect_scan("b", "c", "");
	expect_scan("b", "b9", "");
	expect_scan("x", NULL, "");
}

static int walk(const char *from, const char *to, int (*each)(void *, const void *, size_t, const void *, size_t),
		void *userdata)
{
	return cow_index_walk(ix, from, strlen(from), to, strlen(to), each, userdata);
}

static int never(void *userdata, const void *key, size_t key_len, const void *val, size_t val_len)
{
	cr_assert_fail("visited");
	return 0;
}

Test(cow_index, a_walk_visits_what_is_written_from_one_key_to_before_another)
{
	struct words seen = { "" };

	put("a", "0");
	put("b1", "1");
	put("b2", "2");
	put("b3", "3");
	flush();
	put("b0", "");
	put("b3", "three");
	cr_assert_eq(walk("b1", "b3", append_word, &seen), 0);
	cr_assert_str_eq(seen.text, "b1=1 b2=2 ");
	cr_assert_eq(walk("b11", "b2", never, NULL), 0);
	cr_assert_eq(walk("b1", "b3\1", never, NULL), -EAGAIN, "b3 is newer in memory");
	cr_assert_eq(walk("b", "b1", never, NULL), -EAGAIN);
	flush();
	seen.text[0] = '\0';
	cr_assert_eq(walk("b", "zzz", append_word, &seen), 0, "the stamp is no entry");
	cr_assert_str_eq(seen.text, "b0= b1=1 b2=2 b3=three ");
	cr_assert_eq(cow_index_wipe(ix), 0);
	cr_assert_eq(walk("b", "zzz", never, NULL), 0);
}

static int stop_at_two(void *userdata, const void *key, size_t key_len, const void *val, size_t val_len)
{
	return ++*(int *)userdata == 2 ? -ECANCELED : 0;
}

Test(cow_index, a_scan_ends_when_told)
{
	int calls = 0;

	put("1", "");
	put("2", "");
	put("3", "");
	cr_assert_eq(cow_index_scan(ix, "", 0, NULL, 0, stop_at_two, &calls), -ECANCELED);
	cr_assert_eq(calls, 2);
	flush();
	calls = 0;
	cr_assert_eq(walk("1", "9", stop_at_two, &calls), -ECANCELED);
	cr_assert_eq(calls, 2);
}

struct deleter {
	unsigned calls;
	bool also_next;
};

static int delete_it(void *userdata, const void *key, size_t key_len, const void *val, size_t val_len)
{
	struct deleter *d = userdata;
	struct cow_index_batch *b;
	char next[16], k[16];

	memcpy(k, key, key_len);
	k[key_len] = '\0';
	d->calls++;
	cr_assert_eq(cow_index_batch_begin(ix, &b), 0);
	cr_assert_eq(cow_index_batch_del(b, key, key_len), 0);
	if (d->also_next) {
		snprintf(next, sizeof(next), "k%05d", atoi(k + 1) + 1);
		cr_assert_eq(cow_index_batch_del(b, next, strlen(next)), 0);
	}
	cr_assert_eq(cow_index_batch_commit(b), 0);
	return 0;
}

Test(cow_index, a_scan_may_delete_what_it_visits_and_what_comes_next)
{
	for (int also_next = 0; also_next < 2; also_next++) {
		struct deleter d = { .also_next = also_next };

		for (int i = 0; i < 600; i++) {
			char key[16];

			snprintf(key, sizeof(key), "k%05d", i);
			put(key, "v");
			if (i == 300)
				flush();
		}
		put("l", "stays");
		cr_assert_eq(cow_index_scan(ix, "k", 1, NULL, 0, delete_it, &d), 0);
		cr_assert_eq(d.calls, also_next ? 300 : 600);
		expect_ge("k", 0, "l", "stays");
	}
}

/* -- batches -- */

Test(cow_index, a_batch_sees_itself_and_nobody_else_does_before_its_end)
{
	CLEANUP(cow_buf_done) struct cow_buf v = { 0 };
	struct cow_index_batch *b;
	char key[COW_INDEX_KEY_MAX];
	size_t len;

	put("a", "old");
	put("b", "old");
	cr_assert_eq(cow_index_batch_begin(ix, &b), 0);
	cr_assert_eq(cow_index_batch_get(b, "a", 1, &v), 0); /* flushed before */
	cr_assert_eq(cow_index_batch_put(b, "a", 1, "new", 3), 0);
	cr_assert_eq(cow_index_batch_put(b, "empty", 5, NULL, 0), 0);
	cr_assert_eq(cow_index_batch_del(b, "b", 1), 0);
	cr_assert_eq(cow_index_batch_del(b, "never was", 9), 0);
	cr_assert_eq(cow_index_batch_get(b, "b", 1, &v), -ENOENT);
	cr_assert_eq(cow_index_batch_get_ge(b, "a", 1, 1, key, &len, &v), 0);
	cr_assert(v.len == 3 && memcmp(v.data, "new", 3) == 0);
	cr_assert_eq(cow_index_batch_get_ge(b, "b", 1, 1, key, &len, &v), -ENOENT);
	cr_assert_eq(cow_index_batch_get_ge(b, "b", 1, 0, key, &len, &v), 0);
	cr_assert(len == 5 && v.len == 0);
	expect("a", "old");
	expect("b", "old");
	cr_assert_eq(cow_index_batch_commit(b), 0);
	expect("a", "new");
	expect("b", NULL);
	cow_buf_done(&v);
	close_index();
	assert_no_leaks();
}

Test(cow_index, an_aborted_batch_changes_nothing)
{
	struct cow_index_batch *b;

	put("a", "old");
	cr_assert_eq(cow_index_batch_begin(ix, &b), 0);
	cr_assert_eq(cow_index_batch_put(b, "a", 1, "new", 3), 0);
	cow_index_batch_abort(b);
	cow_index_batch_abort(NULL);
	expect("a", "old");
	put("a", "2");
	flush(); /* the role was given back */
}

Test(cow_index, a_put_during_a_batch_is_newer_than_the_batch)
{
	struct cow_index_batch *b;

	put("a", "old");
	cr_assert_eq(cow_index_batch_begin(ix, &b), 0);
	put("a", "put");
	cr_assert_eq(cow_index_batch_del(b, "a", 1), 0);
	cr_assert_eq(cow_index_batch_commit(b), 0);
	expect("a", "put");
	flush();
	expect("a", "put");
}

#ifndef NDEBUG
Test(cow_index, a_flush_by_the_thread_of_a_batch_aborts_rather_than_waits_for_ever, .signal = SIGABRT)
{
	struct cow_index_batch *b;

	close(STDERR_FILENO);
	cr_assert_eq(cow_index_batch_begin(ix, &b), 0);
	cow_index_flush(ix);
}

Test(cow_index, a_batch_is_a_lock_in_the_order_of_ranks, .signal = SIGABRT)
{
	struct ulock inode = ULOCK_INIT(RANK_INODE);
	struct cow_index_batch *b;

	close(STDERR_FILENO);
	cr_assert_eq(cow_index_batch_begin(ix, &b), 0);
	ulock_lock(&inode);
}
#endif

static atomic_bool over;

/* Exactly one key with the prefix exists at any time, here or there: whoever finds none saw half a batch. */
static void *watch_the_mover(void *arg)
{
	char key[COW_INDEX_KEY_MAX];
	unsigned long *misses = arg;
	size_t len;

	while (!atomic_load(&over))
		if (cow_index_get_ge(ix, "m", 1, 1, key, &len, NULL) != 0)
			++*misses;
	return NULL;
}

Test(cow_index, a_batch_is_seen_whole_or_not_at_all)
{
	unsigned long misses[2] = { 0 };
	pthread_t threads[2];

	put("m0500", "");
	for (int i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, watch_the_mover, &misses[i]), 0);
	srandom(1);
	for (int at = 500, i = 0; i < 5000; i++) {
		struct cow_index_batch *b;
		char from[16], to[16];
		int next = (int)(random() % 1000);

		snprintf(from, sizeof(from), "m%04d", at);
		snprintf(to, sizeof(to), "m%04d", next);
		if (i % 3 == 0)
			put(to, ""); /* by way of memory: there twice for a moment */
		cr_assert_eq(cow_index_batch_begin(ix, &b), 0);
		if (next != at) {
			cr_assert_eq(cow_index_batch_del(b, from, strlen(from)), 0);
			cr_assert_eq(cow_index_batch_put(b, to, strlen(to), "", 0), 0);
		}
		cr_assert_eq(cow_index_batch_commit(b), 0);
		at = next;
	}
	atomic_store(&over, true);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(misses[0] + misses[1], 0);
	close_index();
	assert_no_leaks();
}

/* k4 is in LMDB when k5 comes to memory; then one batch replaces both by k7. So k5 is never the smallest, except for a
 * look-up that takes its views of memory and LMDB at different moments. */
static void *watch_for_the_second(void *arg)
{
	char key[COW_INDEX_KEY_MAX];
	unsigned long *wrong = arg;
	size_t len;

	while (!atomic_load(&over))
		if (cow_index_get_ge(ix, "k", 1, 1, key, &len, NULL) != 0 || key[1] == '5')
			++*wrong;
	return NULL;
}

Test(cow_index, memory_and_lmdb_are_seen_at_one_moment)
{
	unsigned long wrong[2] = { 0 };
	pthread_t threads[2];

	put("k7", "");
	for (int i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, watch_for_the_second, &wrong[i]), 0);
	for (int i = 0; i < 20000; i++) {
		struct cow_index_batch *b;

		put("k4", "");
		flush();
		put("k5", "");
		cr_assert_eq(cow_index_batch_begin(ix, &b), 0);
		cr_assert_eq(cow_index_batch_del(b, "k4", 2), 0);
		cr_assert_eq(cow_index_batch_del(b, "k5", 2), 0);
		cr_assert_eq(cow_index_batch_put(b, "k7", 2, "", 0), 0);
		cr_assert_eq(cow_index_batch_commit(b), 0);
	}
	atomic_store(&over, true);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(wrong[0] + wrong[1], 0);
	close_index();
	assert_no_leaks();
}

/* -- flushing -- */

Test(cow_index, what_waits_is_written_by_itself_soon)
{
	uint64_t deadline = clock_deadline_ms(60000);
	struct cow_index_batch *b;

	cr_assert_eq(cow_index_batch_begin(ix, &b), 0); /* until its end nobody else writes */
	put("a", "1");
	cr_assert_eq(cow_index_waiting(ix), 1);
	cow_index_batch_abort(b);
	while (cow_index_waiting(ix) && !clock_expired(deadline))
		usleep(1000);
	cr_assert_eq(cow_index_waiting(ix), 0);
	expect("a", "1");
}

Test(cow_index, much_that_waits_is_written_at_once_and_memory_is_bounded)
{
	char val[512] = { 0 };
	size_t most = 0;

	for (int i = 0; i < 100000; i++) {
		size_t waiting;

		cr_assert_eq(cow_index_put(ix, &i, sizeof(i), val, sizeof(val)), 0);
		waiting = cow_index_waiting(ix);
		most = waiting > most ? waiting : most;
	}
	cr_assert_leq(most, 8 * 4096);
	for (int i = 0; i < 100000; i++)
		cr_assert_eq(cow_index_get(ix, &i, sizeof(i), NULL), 0);
}

Test(cow_index, values_are_bounded_by_their_bytes_too)
{
	char *val = calloc(1, COW_INDEX_VALUE_MAX);
	size_t most = 0;

	for (int i = 0; i < 400; i++) {
		size_t waiting;

		cr_assert_eq(cow_index_put(ix, &i, sizeof(i), val, COW_INDEX_VALUE_MAX), 0);
		waiting = cow_index_waiting(ix);
		most = waiting > most ? waiting : most;
	}
	cr_assert_leq(most, 8 * 16 + 1);
	free(val);
}

static void open_small(void)
{
	close_index();
	cr_assert_eq(cow_index_open_sized(dfd, true, 128 * 1024, &ix), 0);
}

Test(cow_index, a_failed_flush_keeps_the_entries_and_a_later_one_writes_them)
{
	char val[1000], key[16];
	struct cow_index_batch *nobody_writes;

	open_small();
	put("k0000", "before"); /* on disk, replaced in memory below */
	flush();
	memset(val, 'v', sizeof(val));
	cr_assert_eq(cow_index_batch_begin(ix, &nobody_writes), 0); /* a part of them would have room */
	for (int i = 0; i < 300; i++) {
		snprintf(key, sizeof(key), "k%04d", i);
		cr_assert_eq(cow_index_put(ix, key, 5, val, sizeof(val)), 0);
	}
	cow_index_set_stamp(ix, 7);
	cow_index_batch_abort(nobody_writes);
	cr_assert_eq(cow_index_flush(ix), -ENOSPC);
	cr_assert_eq(cow_index_committed_stamp(ix), 0);
	put("k0001", "newer"); /* in the table after the failed one */
	put("zzz", "new");
	cr_assert_eq(cow_index_flush(ix), -ENOSPC);
	cr_assert_eq(cow_index_waiting(ix), 302);
	expect("k0001", "newer");
	expect("zzz", "new");
	for (int i = 0; i < 300; i++) {
		CLEANUP(cow_buf_done) struct cow_buf b = { 0 };

		snprintf(key, sizeof(key), "k%04d", i);
		cr_assert_eq(cow_index_get(ix, key, 5, &b), 0);
		cr_assert_eq(b.len, i == 1 ? 5 : sizeof(val));
	}
	expect_ge("k9", 0, "zzz", "new");
	cr_assert_eq(cow_index_grow(ix, 16 << 20), 0);
	flush();
	cr_assert_eq(cow_index_committed_stamp(ix), 7);
	expect("k0001", "newer");
	expect("zzz", "new");
	close_index();
	open_index(false);
	expect("k0001", "newer");
	cr_assert_eq(cow_index_get(ix, "k0299", 5, NULL), 0);
	close_index();
	assert_no_leaks();
}

Test(cow_index, a_full_map_fails_puts_once_memory_is_full_and_a_wipe_helps)
{
	char val[200] = { 0 };
	int r = 0, i;

	open_small();
	for (i = 0; i < 50000 && r == 0; i++)
		r = cow_index_put(ix, &i, sizeof(i), val, sizeof(val));
	cr_assert_eq(r, -ENOSPC);
	cr_assert_leq(cow_index_waiting(ix), 8 * 4096);
	for (int j = 0; j < i - 1; j += 99)
		cr_assert_eq(cow_index_get(ix, &j, sizeof(j), NULL), 0);
	i--;
	cr_assert_eq(cow_index_get(ix, &i, sizeof(i), NULL), -ENOENT); /* the one that failed */
	cr_assert_eq(cow_index_wipe(ix), 0);
	put("a", "1");
	flush();
	expect_scan("", NULL, "a=1 ");
	close_index();
	assert_no_leaks();
}

Test(cow_index, a_batch_that_fails_changes_nothing_and_says_why_at_its_end_too)
{
	char val[4000] = { 0 };
	struct cow_index_batch *b;
	int r = 0;

	open_small();
	put("a", "old");
	cr_assert_eq(cow_index_batch_begin(ix, &b), 0);
	cr_assert_eq(cow_index_batch_put(b, "a", 1, "new", 3), 0);
	for (int i = 0; i < 1000 && r == 0; i++)
		r = cow_index_batch_put(b, &i, sizeof(i), val, sizeof(val));
	cr_assert_eq(r, -ENOSPC);
	cr_assert_eq(cow_index_batch_get(b, "a", 1, NULL), -ENOSPC);
	cr_assert_eq(cow_index_batch_commit(b), -ENOSPC);
	expect("a", "old");
	expect_scan("", NULL, "a=old ");
	close_index();
	assert_no_leaks();
}

/* -- opening, closing, wiping -- */

Test(cow_index, survives_closing_and_opening)
{
	struct stat st;

	put("a", "1");
	flush();
	put("b", "2"); /* written by the close */
	close_index();
	cr_assert_eq(fstatat(dfd, "index", &st, 0), 0);
	cr_assert_eq(st.st_mode & 07777, 0700);
	open_index(false);
	expect_scan("", NULL, "a=1 b=2 ");
	close_index();
	open_index(true);
	expect_scan("", NULL, "");
	cr_assert_eq(cow_index_close(NULL), 0);
}

Test(cow_index, damage_is_reported_and_fresh_heals_it)
{
	struct cow_index *other = (void *)1;
	char junk[8192];
	char key[16];
	int fd;

	for (int i = 0; i < 2000; i++) {
		snprintf(key, sizeof(key), "%d", i);
		put(key, "some value of some length");
	}
	close_index();
	fd = openat(dfd, "index/data.mdb", O_RDWR);
	cr_assert_eq(ftruncate(fd, 16384), 0); /* LMDB would open it, and die of SIGBUS */
	cr_assert_eq(cow_index_open(dfd, false, &other), -EUCLEAN);
	memset(junk, 'j', sizeof(junk));
	cr_assert_eq(pwrite(fd, junk, sizeof(junk), 0), (ssize_t)sizeof(junk));
	close(fd);
	cr_assert_eq(cow_index_open(dfd, false, &other), -EUCLEAN);
	cr_assert_eq(other, (void *)1);
	open_index(true);
	expect("1", NULL);
	close_index();
	assert_no_leaks();
}

Test(cow_index, a_wipe_forgets_all_and_gives_space_back)
{
	char val[1000] = { 0 };

	for (int i = 0; i < 20000; i++)
		cr_assert_eq(cow_index_put(ix, &i, sizeof(i), val, sizeof(val)), 0);
	cow_index_set_stamp(ix, 9);
	flush();
	put("mem", "x");
	cr_assert_gt(cow_index_bytes(ix), 20000000);
	cr_assert_eq(cow_index_wipe(ix), 0);
	cr_assert_lt(cow_index_bytes(ix), 100000);
	cr_assert_eq(cow_index_committed_stamp(ix), 0);
	expect_scan("", NULL, "");
	put("a", "1");
	flush();
	close_index();
	open_index(false);
	expect_scan("", NULL, "a=1 ");
	cr_assert_eq(cow_index_committed_stamp(ix), 0);
	close_index();
	assert_no_leaks();
}

/* It cannot remove the files at first: the index is empty all the same, works from memory, and what is left on disk
 * does not come back. */
Test(cow_index, a_wipe_that_fails_has_forgotten_all_the_same)
{
	put("old", "1");
	flush();
	fault_fail_from(FAULT_OP(COW_OP_UNLINK), 1, -EIO);
	cr_assert_eq(cow_index_wipe(ix), -EIO);
	expect("old", NULL);
	expect_ge("", 0, NULL, NULL);
	put("new", "2");
	expect_ge("", 0, "new", "2");
	cr_assert_eq(cow_index_flush(ix), -EIO);
	cr_assert_eq(cow_index_bytes(ix), 0);
	expect_scan("", NULL, "new=2 ");
	fault_reset();
	flush();
	expect_scan("", NULL, "new=2 ");
	close_index();
	open_index(false);
	expect_scan("", NULL, "new=2 ");
	close_index();
	assert_no_leaks();
}

Test(cow_index, opening_fails_cleanly)
{
	struct cow_index *other = (void *)1;

	close_index();
	for (unsigned n = 1;; n++) {
		int r;

		fault_fail_nth(FAULT_ALL, n, -EIO);
		r = cow_index_open(dfd, true, &other);
		if (fault_count() < n) {
			cr_assert_eq(r, 0);
			cr_assert_gt(n, 3);
			break;
		}
		cr_assert_eq(r, -EIO);
		cr_assert_eq(other, (void *)1);
	}
	fault_reset();
	cr_assert_eq(cow_index_close(other), 0);
	other = NULL;
	cr_assert_eq(cow_index_open(-1, true, &other), -EBADF);
	assert_no_leaks();
}

Test(cow_index, stamps_say_what_is_in_lmdb)
{
	struct cow_index_batch *b; /* while there is one nobody else writes */

	cr_assert_eq(cow_index_committed_stamp(ix), 0);
	cr_assert_eq(cow_index_batch_begin(ix, &b), 0);
	put("a", "1");
	cow_index_set_stamp(ix, 10);
	put("b", "1");
	cr_assert_eq(cow_index_committed_stamp(ix), 0);
	cow_index_batch_abort(b);
	flush();
	cr_assert_eq(cow_index_committed_stamp(ix), 10);
	cr_assert_eq(cow_index_batch_begin(ix, &b), 0);
	cow_index_set_stamp(ix, 20);
	cr_assert_eq(cow_index_committed_stamp(ix), 20); /* nothing waits: what came before is there */
	put("c", "1");
	cow_index_set_stamp(ix, 30);
	cr_assert_eq(cow_index_committed_stamp(ix), 10); /* the last that was written with entries */
	cow_index_batch_abort(b);
	close_index();
	open_index(false);
	cr_assert_eq(cow_index_committed_stamp(ix), 30);
}

/* The promise, under load: a key whose stamp is committed is still there if memory is lost now. */
static void *put_numbers(void *arg)
{
	for (uint64_t i = 1; i <= 200000; i++) {
		uint64_t key = __builtin_bswap64(i);

		if (cow_index_put(ix, &key, sizeof(key), "v", 1) < 0)
			abort();
		cow_index_set_stamp(ix, i);
	}
	atomic_store(&over, true);
	return arg;
}

Test(cow_index, a_committed_stamp_never_promises_too_much)
{
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, put_numbers, NULL), 0);
	while (!atomic_load(&over)) {
		uint64_t stamp = cow_index_committed_stamp(ix), key = __builtin_bswap64(stamp);
		struct cow_index_batch *b;

		if (!stamp)
			continue;
		cr_assert_eq(cow_index_batch_begin(ix, &b), 0); /* looks in LMDB alone */
		cr_assert_eq(cow_index_batch_get(b, &key, sizeof(key), NULL), 0);
		cow_index_batch_abort(b);
		usleep(200);
	}
	pthread_join(thread, NULL);
}

/* -- many threads against a model -- */

#define KEYS 512 /* of each thread, below a prefix of its own, so that its model is exact */

struct worker {
	unsigned id, seed;
	uint32_t model[KEYS]; /* 0: absent */
	char failure[200];
};

static size_t make_key(unsigned char *key, unsigned id, unsigned k)
{
	key[0] = (unsigned char)id;
	key[1] = (unsigned char)(k >> 8);
	key[2] = (unsigned char)k;
	memset(key + 3, 'p', k % 61); /* of many lengths */
	return 3 + k % 61;
}

#define FAIL(...)                                                                                                      \
	do {                                                                                                           \
		snprintf(w->failure, sizeof(w->failure), __VA_ARGS__);                                                 \
		return;                                                                                                \
	} while (0)

static void check_get(struct worker *w, unsigned k)
{
	CLEANUP(cow_buf_done) struct cow_buf b = { 0 };
	unsigned char key[80];
	uint32_t got = 0;
	int r = cow_index_get(ix, key, make_key(key, w->id, k), &b);

	if (r == 0)
		memcpy(&got, b.data, sizeof(got));
	if (r != (w->model[k] ? 0 : -ENOENT) || got != w->model[k])
		FAIL("get %u: %d, %u instead of %u", k, r, got, w->model[k]);
}

static void check_ge(struct worker *w, unsigned k)
{
	CLEANUP(cow_buf_done) struct cow_buf b = { 0 };
	unsigned char key[80], got[COW_INDEX_KEY_MAX];
	unsigned want = k;
	uint32_t val = 0;
	size_t len = make_key(key, w->id, k), got_len;
	int r = cow_index_get_ge(ix, key, len, 1, got, &got_len, &b);

	while (want < KEYS && !w->model[want])
		want++;
	if (r == 0)
		memcpy(&val, b.data, sizeof(val));
	len = want < KEYS ? make_key(key, w->id, want) : 0;
	if (r != (want < KEYS ? 0 : -ENOENT))
		FAIL("ge %u: %d, expected %u", k, r, want);
	if (r == 0 && (got_len != len || memcmp(got, key, len) || val != w->model[want]))
		FAIL("ge %u: %u, %u instead of %u, %u", k, got[1] << 8 | got[2], val, want, w->model[want]);
}

static void change_batch(struct worker *w)
{
	struct cow_index_batch *b;
	unsigned char key[80];
	uint32_t after[KEYS];
	int r;

	memcpy(after, w->model, sizeof(after));
	r = cow_index_batch_begin(ix, &b);
	if (r < 0)
		FAIL("batch_begin: %d", r);
	for (int i = 0; i < 20 && r == 0; i++) {
		unsigned k = (unsigned)rand_r(&w->seed) % KEYS;
		size_t len = make_key(key, w->id, k);

		if (rand_r(&w->seed) % 4) {
			after[k] = 0;
			r = cow_index_batch_del(b, key, len);
		} else {
			after[k] = (uint32_t)rand_r(&w->seed) | 1;
			r = cow_index_batch_put(b, key, len, &after[k], sizeof(*after));
		}
	}
	if (r < 0)
		FAIL("batch: %d", r);
	if (rand_r(&w->seed) % 4 == 0) {
		cow_index_batch_abort(b);
		return;
	}
	r = cow_index_batch_commit(b);
	if (r < 0)
		FAIL("commit: %d", r);
	memcpy(w->model, after, sizeof(after));
}

struct counter {
	struct worker *w;
	unsigned next;
};

static int check_visit(void *userdata, const void *key, size_t key_len, const void *val, size_t val_len)
{
	struct counter *c = userdata;
	const unsigned char *k = key;

	while (c->next < KEYS && !c->w->model[c->next])
		c->next++;
	if (c->next != (unsigned)(k[1] << 8 | k[2]) || memcmp(val, &c->w->model[c->next], 4))
		return -EBADMSG;
	c->next++;
	return 0;
}

static void check_scan(struct worker *w)
{
	unsigned char prefix = (unsigned char)w->id;
	struct counter c = { w, 0 };
	int r = cow_index_scan(ix, &prefix, 1, NULL, 0, check_visit, &c);

	while (c.next < KEYS && !w->model[c.next])
		c.next++;
	if (r < 0 || c.next != KEYS)
		FAIL("scan: %d at %u", r, c.next);
}

static void step(struct worker *w)
{
	unsigned what = (unsigned)rand_r(&w->seed) % 1000, k = (unsigned)rand_r(&w->seed) % KEYS;
	unsigned char key[80];
	int r = 0;

	if (what < 400) {
		w->model[k] = (uint32_t)rand_r(&w->seed) | 1;
		r = cow_index_put(ix, key, make_key(key, w->id, k), &w->model[k], sizeof(*w->model));
	} else if (what < 650) {
		check_get(w, k);
	} else if (what < 985) {
		check_ge(w, k);
	} else if (what < 990) {
		check_scan(w);
	} else if (what < 995) {
		r = cow_index_flush(ix);
	} else {
		change_batch(w);
	}
	if (r < 0)
		FAIL("step %u: %d", what, r);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < 20000 && !w->failure[0]; i++)
		step(w);
	return NULL;
}

Test(cow_index, many_threads_agree_with_a_model)
{
	const char *env = getenv("UMBRA_TEST_SEED");
	unsigned seed = env ? (unsigned)strtoul(env, NULL, 0) : (unsigned)clock_real_ns();
	static struct worker workers[4];
	pthread_t threads[4];

	fprintf(stderr, "UMBRA_TEST_SEED=%u\n", seed);
	for (unsigned i = 0; i < 4; i++) {
		workers[i] = (struct worker){ .id = i + 1, .seed = seed + i };
		cr_assert_eq(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(workers[i].failure[0], '\0', "seed %u, thread %u: %s", seed, i, workers[i].failure);
	close_index();
	open_index(false);
	for (unsigned i = 0; i < 4; i++) {
		check_scan(&workers[i]);
		cr_assert_eq(workers[i].failure[0], '\0', "seed %u, reopened: %s", seed, workers[i].failure);
	}
	close_index();
	assert_no_leaks();
}

static void *look_while_wiped(void *arg)
{
	char key[COW_INDEX_KEY_MAX];
	size_t len;

	while (!atomic_load(&over)) {
		int r = cow_index_get_ge(ix, "a", 1, 0, key, &len, NULL);

		if (r < 0 && r != -ENOENT)
			abort();
		r = cow_index_get(ix, "k1", 2, NULL);
		if (r < 0 && r != -ENOENT)
			abort();
	}
	return arg;
}

Test(cow_index, look_ups_during_a_wipe_find_the_old_or_nothing)
{
	pthread_t threads[3];

	for (int i = 0; i < 3; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, look_while_wiped, NULL), 0);
	for (int i = 0; i < 100; i++) {
		put("k1", "v");
		if (i % 2)
			flush();
		cr_assert_eq(cow_index_wipe(ix), 0);
		expect("k1", NULL);
	}
	atomic_store(&over, true);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	close_index();
	assert_no_leaks();
}
