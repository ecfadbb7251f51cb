/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra-writer-sqlite - SQLite database files as a writer.
 *
 * Freeze opens a write transaction on each database (BEGIN IMMEDIATE) and writes nothing in it: that is
 * SQLite's own way to say that nobody else may change it, in every journal mode. Readers go on. What
 * was committed stays as it is, a rollback journal is not hot, and the WAL does not grow until Thaw. In
 * WAL mode somebody's checkpoint may still move pages that are in the WAL into the database file; at any
 * instant the two together say the same. The locks are locks of this process on files: they go with it.
 *
 * POSIX locks of a file go when any descriptor of it is closed (fcntl(2)): nothing here may open one of
 * the databases but SQLite, and none may be in the list twice. */
#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cow/base/err.h"
#include "tools/writer/database.h"

#define RETRY_MS 2

struct one {
	const char *given; /* as on the command line */
	char *path;	   /* without symbolic links; owned, while conn is open */
	sqlite3 *conn;
	struct stat st; /* what was locked */
};

struct sqlite {
	struct database db;
	struct one *list;
	size_t count;
	int wait_result; /* why waiting for a lock was given up: of db_wait() */
};

static struct sqlite *self(struct database *db)
{
	return (struct sqlite *)db;
}

static int fail_sqlite(struct database *db, const struct one *o, const char *what)
{
	int code = o->conn ? sqlite3_errcode(o->conn) : SQLITE_NOMEM;
	bool busy = code == SQLITE_BUSY || code == SQLITE_LOCKED || code == SQLITE_PROTOCOL;

	if (busy && self(db)->wait_result == -EINTR)
		return db_fail_wait(db, -EINTR, what);
	if (busy)
		return db_fail(db, UMBRA_WRITER_RETRYABLE, "%s %s: it stayed locked by others",
			       what, LOG_QUOTE(o->given));
	return db_fail(db,
		       code == SQLITE_NOMEM ? UMBRA_WRITER_OUT_OF_RESOURCES
					    : UMBRA_WRITER_NON_RETRYABLE,
		       "%s %s: %s", what, LOG_QUOTE(o->given),
		       o->conn ? sqlite3_errmsg(o->conn) : "out of memory");
}

/* Others hold the lock: wait as long as the event may take. */
static int on_busy(void *data, int tries)
{
	struct database *db = data;
	int r = db_wait(db, -1, 0, RETRY_MS);

	self(db)->wait_result = r;
	return r >= 0;
}

static void close_one(struct one *o)
{
	/* Ends the transaction as well, and cannot fail: we leave no statement behind. */
	sqlite3_close(o->conn);
	o->conn = NULL;
	free(o->path);
	o->path = NULL;
}

static void let_go(struct database *db)
{
	struct sqlite *s = self(db);

	for (size_t i = s->count; i > 0; i--)
		close_one(&s->list[i - 1]);
}

/* A new connection each time: the file behind the path may be another one by now. */
static int open_one(struct database *db, struct one *o)
{
	o->path = realpath(o->given, NULL);
	if (!o->path || stat(o->path, &o->st) < 0) {
		int r = -errno;

		return db_fail(db, UMBRA_WRITER_NON_RETRYABLE, "%s: %s", LOG_QUOTE(o->given),
			       err_text(r));
	}
	if (sqlite3_open_v2(o->path, &o->conn, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
		return fail_sqlite(db, o, "opening");
	sqlite3_busy_handler(o->conn, on_busy, db);
	/* The WAL is as it is: ours may be the last connection, and this is not the time to move it. */
	sqlite3_db_config(o->conn, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	return 0;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct one *)a)->path, ((const struct one *)b)->path);
}

/* Two names of one file: closing the one would drop the lock of the other. */
static int check_twice(struct database *db)
{
	const struct sqlite *s = self(db);

	for (size_t i = 1; i < s->count; i++) {
		for (size_t k = 0; k < i; k++) {
			const struct one *a = &s->list[i], *b = &s->list[k];

			if (a->st.st_dev == b->st.st_dev && a->st.st_ino == b->st.st_ino)
				return db_fail(db, UMBRA_WRITER_NON_RETRYABLE,
					       "%s and %s are one file", LOG_QUOTE(a->given),
					       LOG_QUOTE(b->given));
		}
	}
	return 0;
}

static int do_connect(struct database *db)
{
	struct sqlite *s = self(db);
	int r = 0;

	let_go(db);
	for (size_t i = 0; r == 0 && i < s->count; i++)
		r = open_one(db, &s->list[i]);
	if (r != 0)
		return r;
	/* Always locked in the same order, so that two of us cannot wait for each other. */
	qsort(s->list, s->count, sizeof(*s->list), by_path);
	return check_twice(db);
}

/* A journal is always beside its database, so it is in the set where that is. */
static int find(struct database *db, struct db_files *files)
{
	const struct sqlite *s = self(db);
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->count; i++)
		r = db_add_file(db, files, "database", NULL, s->list[i].path);
	return r;
}

/* A hot journal is rolled back by the first who reads; what is in the WAL moves as far as it goes by
 * itself. Both are long work where they are needed, and stop nobody. */
static int prepare(struct database *db)
{
	struct sqlite *s = self(db);

	for (size_t i = 0; i < s->count; i++) {
		struct one *o = &s->list[i];

		s->wait_result = 0;
		if (sqlite3_exec(o->conn, "SELECT count(*) FROM sqlite_master", NULL, NULL, NULL) !=
		    SQLITE_OK)
			return fail_sqlite(db, o, "reading");
		/* Not in WAL mode: does nothing. Somebody else at it: just as well. */
		(void)sqlite3_wal_checkpoint_v2(o->conn, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL,
						NULL);
	}
	return 0;
}

static int freeze(struct database *db)
{
	struct sqlite *s = self(db);

	for (size_t i = 0; i < s->count; i++) {
		struct one *o = &s->list[i];

		s->wait_result = 0;
		if (sqlite3_exec(o->conn, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
			return fail_sqlite(db, o, "locking");
	}
	return db_still_in_set(db);
}

/* What we had locked must still be what the path names: a file moved into its place was not. */
static int check_same(struct database *db, const struct one *o)
{
	struct stat st;

	if (sqlite3_get_autocommit(o->conn))
		return db_fail(db, UMBRA_WRITER_INCONSISTENT_SNAPSHOT, "%s: the lock was lost",
			       LOG_QUOTE(o->given));
	if (stat(o->path, &st) < 0 || st.st_dev != o->st.st_dev || st.st_ino != o->st.st_ino)
		return db_fail(db, UMBRA_WRITER_INCONSISTENT_SNAPSHOT,
			       "%s was replaced by another file while it was locked",
			       LOG_QUOTE(o->given));
	return 0;
}

static int thaw(struct database *db)
{
	struct sqlite *s = self(db);
	int r = 0;

	for (size_t i = s->count; r == 0 && i > 0; i--)
		r = check_same(db, &s->list[i - 1]);
	for (size_t i = s->count; r == 0 && i > 0; i--) {
		if (sqlite3_exec(s->list[i - 1].conn, "ROLLBACK", NULL, NULL, NULL) != SQLITE_OK)
			r = fail_sqlite(db, &s->list[i - 1], "unlocking");
	}
	return r;
}

/* ---- the writer document: each database can be restored by itself */

static int describe_one(struct database *db, const struct one *o, json_t *document)
{
	struct db_file file = { "database", o->path };
	const struct db_files files = { &file, 1 };
	CLEANUP(free_p) char *dir = strdup(o->path);
	CLEANUP(free_p) char *beside = NULL;
	json_t *c;
	char *name;
	int r;

	if (!dir || asprintf(&beside, "%s-*", strrchr(o->path, '/') + 1) < 0)
		return -ENOMEM;
	name = strrchr(dir, '/');
	*name++ = 0;
	/* Names in JSON are UTF-8; the file sets have the exact bytes. */
	r = db_add_component(document, LOG_QUOTE(*dir ? dir : "/"), LOG_QUOTE(name),
			     "SQLite database", &files);
	if (r < 0)
		return r;
	c = json_object_get(document, "components");
	c = json_array_get(c, json_array_size(c) - 1);
	/* Its -wal or -journal belong to it; the -shm is made anew. */
	return db_add_file_set(c, "file_sets", *dir ? dir : "/", beside, false);
}

static int describe(struct database *db, const struct db_files *files, json_t *document)
{
	const struct sqlite *s = self(db);
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->count; i++)
		r = describe_one(db, &s->list[i], document);
	return r < 0 ? db_fail(db, UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory") : 0;
}

/* ---- the program */

static int run_program(struct sqlite *s, int argc, char **argv)
{
	int c = db_getopt(&s->db, argc, argv);
	int r;

	if (c == WRITER_EXIT)
		return s->db.program.status;
	if (optind >= argc)
		return writer_usage(&s->db.program, "which database files?");
	s->count = (size_t)(argc - optind);
	s->list = calloc(s->count, sizeof(*s->list));
	if (!s->list)
		return tool_no_memory();
	for (size_t i = 0; i < s->count; i++)
		s->list[i].given = argv[optind + (int)i];
	r = db_serve(&s->db);
	let_go(&s->db);
	free(s->list);
	return r;
}

int main(int argc, char **argv)
{
	static const struct option own[] = { DB_OPTIONS, { 0 } };
	static const struct db_ops ops = {
		.connect = do_connect,
		.find = find,
		.prepare = prepare,
		.freeze = freeze,
		.thaw = thaw,
		.let_go = let_go,
		.describe = describe,
	};
	struct sqlite s = { 0 };

	s.db.program.kind = "sqlite";
	s.db.program.args = "FILE...";
	s.db.program.summary = "take part in snapshots for SQLite databases";
	s.db.program.help =
		"FILEs are the databases; all of them are locked at once. Give databases that have\n"
		"nothing to do with each other to writers of their own.\n\n" DB_HELP_LOCK_WAIT
		"\nExample: umbra writer sqlite ~/app/data.db ~/app/queue.db\n";
	s.db.program.options = own;
	db_init(&s.db, &ops, "SQLite");
	s.db.program.usage = "user-data";
	return run_program(&s, argc, argv);
}
