/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra-writer-postgresql - a PostgreSQL cluster as a writer.
 *
 * PostgreSQL recovers by itself from any state that its files had at one instant, and that is what a
 * snapshot set is, provided that all of them are in it: data directory, WAL, tablespaces. So nothing
 * stops the server. Freeze makes sure of that condition and keeps it true until Thaw (a lock on
 * pg_tablespace; it goes with our session, whatever becomes of us), and brings the commits that were
 * answered before they were written (synchronous_commit = off) into the WAL.
 *
 * Backup mode (pg_backup_start) is deliberately not used: a backup_label in the snapshot would make it
 * ask for WAL up to a pg_backup_stop that no snapshot of that instant can hold. docs/writers.md argues it. */
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cow/base/err.h"
#include "tools/writer/database.h"

#define INSUFFICIENT_PRIVILEGE "42501"
#define MAX_PARAMS 64

struct postgresql {
	struct database db;
	const char *conninfo; /* the operand, or NULL */
	bool checkpoint;

	PGconn *conn;
	bool standby;
};

DEFINE_CLEANUP(pq_clear_p, PGresult *, PQclear)
DEFINE_CLEANUP(pq_conninfo_p, PQconninfoOption *, PQconninfoFree)

static struct postgresql *self(struct database *db)
{
	return (struct postgresql *)db;
}

/* ---- talking to the server, never longer than the event may take */

static void let_go(struct database *db)
{
	struct postgresql *pg = self(db);

	/* The server rolls back as soon as it sees the end of the connection. */
	PQfinish(pg->conn);
	pg->conn = NULL;
}

/* The first line of what libpq says. Borrowed until the next message. */
static const char *first_line(const char *text)
{
	static char line[512];

	snprintf(line, sizeof(line), "%s", text ? text : "");
	line[strcspn(line, "\n")] = 0;
	return line;
}

static int fail_connection(struct database *db, const char *what)
{
	return db_fail(db, UMBRA_WRITER_RETRYABLE, "%s: %s", what,
		       first_line(PQerrorMessage(self(db)->conn)));
}

/* Wait for the whole answer of one statement; *ret is NULL when there are no more. */
static int next_result(struct database *db, const char *what, PGresult **ret)
{
	PGconn *conn = self(db)->conn;

	while (PQisBusy(conn)) {
		int r = db_wait(db, PQsocket(conn), POLLIN, -1);

		if (r < 0)
			return db_fail_wait(db, r, what);
		if (!PQconsumeInput(conn))
			return fail_connection(db, what);
	}
	*ret = PQgetResult(conn);
	return 0;
}

/* Run SQL of one or more statements without parameters: the last result, or the first error. @what for messages. */
static int run(struct database *db, const char *what, const char *sql, PGresult **ret)
{
	CLEANUP(pq_clear_p) PGresult *last = NULL;
	PGconn *conn = self(db)->conn;
	PGresult *next = NULL;
	int r;

	if (!PQsendQuery(conn, sql))
		return fail_connection(db, what);
	for (;;) {
		r = next_result(db, what, &next);
		if (r != 0)
			return r;
		if (!next)
			break;
		if (last && PQresultStatus(last) == PGRES_FATAL_ERROR) {
			PQclear(next);
			continue;
		}
		PQclear(last);
		last = next;
	}
	*ret = TAKE(last);
	return 0;
}

static bool is_error(const PGresult *result)
{
	ExecStatusType s = PQresultStatus(result);

	return s != PGRES_COMMAND_OK && s != PGRES_TUPLES_OK;
}

static bool is_denied(const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	return state && strcmp(state, INSUFFICIENT_PRIVILEGE) == 0;
}

static int fail_result(struct database *db, const char *what, const PGresult *result)
{
	return db_fail(db, is_denied(result) ? UMBRA_WRITER_NON_RETRYABLE : UMBRA_WRITER_RETRYABLE,
		       "%s: %s", what, first_line(PQresultErrorMessage(result)));
}

/* The same, an error of the server being a failure. ret NULL: the result is of no interest. */
static int query(struct database *db, const char *what, const char *sql, PGresult **ret)
{
	CLEANUP(pq_clear_p) PGresult *result = NULL;
	int r = run(db, what, sql, &result);

	if (r != 0)
		return r;
	if (is_error(result))
		return fail_result(db, what, result);
	if (ret)
		*ret = TAKE(result);
	return 0;
}

/* ---- connecting */

/* Keywords and values for libpq: those of the operand, and what we want where nothing else is said. */
struct params {
	const char *keys[MAX_PARAMS], *values[MAX_PARAMS];
	size_t count;
	bool has_database;
};

static void add_param(struct params *p, const char *key, const char *value)
{
	if (p->count + 1 >= MAX_PARAMS)
		return;
	p->keys[p->count] = key;
	p->values[p->count++] = value;
	if (strcmp(key, "dbname") == 0 || strcmp(key, "service") == 0)
		p->has_database = true;
}

static void make_params(struct params *p, const PQconninfoOption *given)
{
	for (; given && given->keyword; given++) {
		if (given->val)
			add_param(p, given->keyword, given->val);
	}
	/* Every cluster has this one; libpq would look for one of the user's name. */
	if (!p->has_database && !getenv("PGDATABASE") && !getenv("PGSERVICE"))
		add_param(p, "dbname", "postgres");
	add_param(p, "fallback_application_name", "umbra-writer");
}

static int finish_connecting(struct database *db)
{
	PGconn *conn = self(db)->conn;
	PostgresPollingStatusType s = PGRES_POLLING_WRITING;
	int r;

	while (s != PGRES_POLLING_OK) {
		r = db_wait(db, PQsocket(conn), s == PGRES_POLLING_READING ? POLLIN : POLLOUT, -1);
		if (r < 0)
			return db_fail_wait(db, r, "connecting to PostgreSQL");
		s = PQconnectPoll(conn);
		if (s == PGRES_POLLING_FAILED)
			return fail_connection(db, "PostgreSQL");
	}
	return db_is_local(PQsocket(conn)) ? 0
					   : db_fail(db, UMBRA_WRITER_NON_RETRYABLE,
						     "this PostgreSQL runs on another machine");
}

static int start_connecting(struct database *db)
{
	CLEANUP(pq_conninfo_p) PQconninfoOption *given = NULL;
	struct postgresql *pg = self(db);
	struct params p = { 0 };

	if (pg->conninfo)
		given = PQconninfoParse(pg->conninfo, NULL);
	make_params(&p, given);
	pg->conn = PQconnectStartParams(p.keys, p.values, 0);
	if (!pg->conn)
		return db_fail(db, UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory");
	if (PQstatus(pg->conn) == CONNECTION_BAD)
		return fail_connection(db, "PostgreSQL");
	return finish_connecting(db);
}

static void ignore_notice(void *arg, const PGresult *result)
{
	log_debug("%s", first_line(PQresultErrorMessage(result)));
}

/* Whatever the role's defaults are: nobody's functions in place of the server's, no limits but ours. */
static int set_up(struct database *db)
{
	CLEANUP(pq_clear_p) PGresult *result = NULL;
	int r;

	PQsetNoticeReceiver(self(db)->conn, ignore_notice, NULL);
	r = query(db, "PostgreSQL",
		  "SET search_path = pg_catalog; SET statement_timeout = 0; SET lock_timeout = 0;"
		  "SET idle_in_transaction_session_timeout = 0; SELECT pg_is_in_recovery()",
		  &result);
	if (r != 0)
		return r;
	self(db)->standby = strcmp(PQgetvalue(result, 0, 0), "t") == 0;
	return 0;
}

static int do_connect(struct database *db)
{
	struct postgresql *pg = self(db);
	int r;

	if (pg->conn && PQstatus(pg->conn) == CONNECTION_OK)
		return 0;
	let_go(db);
	r = start_connecting(db);
	return r != 0 ? r : set_up(db);
}

/* ---- where the data lie */

/* The first eight bytes of pg_control say which cluster it is (pg_control.h): what we see at that path
 * must be what the server sees there, and not another cluster, or the same path in another container. */
static int check_identity(struct database *db, const char *data, const char *wanted)
{
	CLEANUP(free_p) char *path = NULL;
	CLEANUP(close_p) int fd = -1;
	char text[24];
	uint64_t id = 0;

	if (asprintf(&path, "%s/global/pg_control", data) < 0) {
		path = NULL;
		return db_fail(db, UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory");
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, &id, sizeof(id)) != (ssize_t)sizeof(id))
		return db_fail(db, UMBRA_WRITER_NON_RETRYABLE,
			       "cannot read %s: %s (run this as the user that the server runs as)",
			       LOG_QUOTE(path), err_text(fd < 0 ? -errno : -EIO));
	snprintf(text, sizeof(text), "%llu", (unsigned long long)id);
	return strcmp(text, wanted) == 0
		       ? 0
		       : db_fail(db, UMBRA_WRITER_NON_RETRYABLE,
				 "%s is not the cluster that the server serves", LOG_QUOTE(data));
}

static int find_data(struct database *db, struct db_files *files, const char *data)
{
	CLEANUP(free_p) char *tablespaces = NULL;
	int r = db_add_file(db, files, "data directory", NULL, data);

	if (r == 0) /* pg_wal and whatever else was moved: the server follows any link */
		r = db_add_links(db, files, "part of the data", data, false, false);
	if (r != 0)
		return r;
	if (asprintf(&tablespaces, "%s/pg_tblspc", data) < 0) {
		tablespaces = NULL;
		return db_fail(db, UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory");
	}
	return db_add_links(db, files, "tablespace", tablespaces, false, false);
}

static int find(struct database *db, struct db_files *files)
{
	CLEANUP(pq_clear_p) PGresult *result = NULL;
	const char *data;
	int r = query(db, "where the data lie",
		      "SELECT 0 AS n, current_setting('data_directory') AS path,"
		      " (SELECT system_identifier FROM pg_control_system()) AS id"
		      " UNION ALL SELECT 1, pg_tablespace_location(oid), 0 FROM pg_tablespace"
		      " WHERE pg_tablespace_location(oid) <> '' ORDER BY n, path",
		      &result);

	if (r != 0)
		return r;
	data = PQgetvalue(result, 0, 1);
	r = check_identity(db, data, PQgetvalue(result, 0, 2));
	if (r == 0)
		r = find_data(db, files, data);
	for (int i = 1; r == 0 && i < PQntuples(result); i++)
		r = db_add_file(db, files, "tablespace", data, PQgetvalue(result, i, 1));
	return r;
}

static int server_fd(struct database *db)
{
	return PQsocket(self(db)->conn);
}

/* ---- the events */

/* What is in a checkpoint needs no recovery, and the cut then finds little left to be written. */
static int prepare(struct database *db)
{
	CLEANUP(pq_clear_p) PGresult *result = NULL;
	int r;

	if (!self(db)->checkpoint)
		return 0;
	r = run(db, "CHECKPOINT", "CHECKPOINT", &result);
	if (r != 0)
		return r;
	if (is_error(result) && is_denied(result)) {
		log_info("this role may make no checkpoint (pg_checkpoint): recovery takes longer");
		return 0;
	}
	return is_error(result) ? fail_result(db, "CHECKPOINT", result) : 0;
}

/* A commit waits for the WAL up to itself, and so for all that came before it. `local`: not for standbys. */
static int flush_commits(struct database *db)
{
	char sql[256];

	snprintf(sql, sizeof(sql),
		 "BEGIN; SET LOCAL statement_timeout = %d; SET LOCAL synchronous_commit = local;"
		 "SELECT pg_logical_emit_message(true, 'umbra', 'freeze'); COMMIT",
		 db_left_ms(db));
	return query(db, "flushing commits", sql, NULL);
}

/* Open the transaction that lasts until Thaw. Should we be stopped, the server ends it with the window. */
static int begin(struct database *db, bool locked, PGresult **ret)
{
	char sql[320];

	snprintf(sql, sizeof(sql),
		 "BEGIN; SET LOCAL lock_timeout = %d; SET LOCAL statement_timeout = %d;"
		 "SET LOCAL idle_in_transaction_session_timeout = %u; %s",
		 db_left_ms(db), db_left_ms(db),
		 db->event->window_ms ? db->event->window_ms : 60000,
		 locked ? "LOCK TABLE pg_tablespace IN SHARE MODE" : "SELECT 1");
	return run(db, "locking pg_tablespace", sql, ret);
}

static int freeze_transaction(struct database *db)
{
	CLEANUP(pq_clear_p) PGresult *first = NULL;
	CLEANUP(pq_clear_p) PGresult *second = NULL;
	int r = begin(db, !self(db)->standby, &first);

	if (r != 0 || !is_error(first))
		return r;
	if (!is_denied(first))
		return fail_result(db, "locking pg_tablespace", first);
	/* Only a superuser may: then the look at Thaw has to do. */
	r = query(db, "ROLLBACK", "ROLLBACK", NULL);
	if (r == 0)
		r = begin(db, false, &second);
	if (r != 0)
		return r;
	return is_error(second) ? fail_result(db, "BEGIN", second) : 0;
}

static int freeze(struct database *db)
{
	int r = self(db)->standby ? 0 : flush_commits(db);

	if (r == 0)
		r = freeze_transaction(db);
	return r != 0 ? r : db_still_in_set(db);
}

static int thaw(struct database *db)
{
	if (PQtransactionStatus(self(db)->conn) != PQTRANS_INTRANS)
		return db_fail(db, UMBRA_WRITER_RETRYABLE,
			       "PostgreSQL ended our session while it was frozen");
	/* In the same transaction: the answer proves that it lasted. */
	if (db_still_in_set(db) != 0)
		return 1;
	return query(db, "ROLLBACK", "ROLLBACK", NULL);
}

static int describe(struct database *db, const struct db_files *files, json_t *document)
{
	CLEANUP(pq_clear_p) PGresult *result = NULL;
	char caption[256];
	int r = query(db, "names",
		      "SELECT current_setting('cluster_name'),"
		      " current_setting('server_version'), current_setting('port'),"
		      " current_setting('data_directory')",
		      &result);

	if (r != 0)
		return r;
	snprintf(caption, sizeof(caption), "PostgreSQL %s on port %s%s%s", PQgetvalue(result, 0, 1),
		 PQgetvalue(result, 0, 2), *PQgetvalue(result, 0, 0) ? ", " : "",
		 PQgetvalue(result, 0, 0));
	if (db_add_component(document, "", "cluster", caption, files) < 0 ||
	    db_add_file_set(document, "exclude_files", PQgetvalue(result, 0, 3), "postmaster.pid",
			    false) < 0 ||
	    db_add_file_set(document, "exclude_files", PQgetvalue(result, 0, 3), "postmaster.opts",
			    false) < 0)
		return db_fail(db, UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory");
	return 0;
}

/* ---- the program */

enum { OPT_NO_CHECKPOINT = DB_OPT_OWN };

/* Passwords on a command line are everybody's; a wrong string is better said now. */
static int check_conninfo(struct postgresql *pg)
{
	CLEANUP(pq_conninfo_p) PQconninfoOption *given = NULL;
	char *error = NULL;
	int r = 0;

	if (!pg->conninfo)
		return 0;
	given = PQconninfoParse(pg->conninfo, &error);
	if (!given)
		r = writer_usage(&pg->db.program, "%s",
				 first_line(error ? error : "out of memory"));
	PQfreemem(error);
	for (PQconninfoOption *o = given; o && o->keyword; o++) {
		if (strcmp(o->keyword, "password") == 0 && o->val)
			r = writer_usage(
				&pg->db.program,
				"no password on the command line: use ~/.pgpass, PGPASSFILE "
				"or PGPASSWORD");
	}
	return r;
}

static int run_program(struct postgresql *pg, int argc, char **argv)
{
	int c, r;

	while ((c = db_getopt(&pg->db, argc, argv)) >= DB_OPT_OWN) {
		if (c == OPT_NO_CHECKPOINT)
			pg->checkpoint = false;
	}
	if (c == WRITER_EXIT)
		return pg->db.program.status;
	if (argc - optind > 1)
		return writer_usage(&pg->db.program, "one CONNINFO only (quote it)");
	pg->conninfo = argv[optind];
	r = check_conninfo(pg);
	return r != 0 ? r : db_serve(&pg->db);
}

int main(int argc, char **argv)
{
	static const struct option own[] = {
		DB_OPTIONS, { "no-checkpoint", no_argument, NULL, OPT_NO_CHECKPOINT }, { 0 }
	};
	static const struct db_ops ops = {
		.connect = do_connect,
		.find = find,
		.server_fd = server_fd,
		.prepare = prepare,
		.freeze = freeze,
		.thaw = thaw,
		.let_go = let_go,
		.describe = describe,
	};
	struct postgresql pg = { .checkpoint = true };

	pg.db.program.kind = "postgresql";
	pg.db.program.args = "[CONNINFO]";
	pg.db.program.summary = "take part in snapshots for a PostgreSQL cluster";
	pg.db.program.help =
		"CONNINFO is a libpq connection string; without it PGHOST, PGPORT, PGUSER ... count.\n"
		"Passwords come from ~/.pgpass, PGPASSFILE or PGPASSWORD.\n\n"
		"  --no-checkpoint      no CHECKPOINT before the snapshot\n" DB_HELP_LOCK_WAIT
		"\nExample: umbra writer postgresql \"host=/run/postgresql user=postgres\"\n";
	pg.db.program.options = own;
	db_init(&pg.db, &ops, "PostgreSQL");
	return run_program(&pg, argc, argv);
}
