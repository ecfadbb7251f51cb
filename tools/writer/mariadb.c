/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra-writer-mariadb - a MariaDB or MySQL server as a writer.
 *
 * InnoDB recovers by itself from what its files were at one instant; Aria, MyISAM and the binary log do
 * not stand that as well. So Freeze has the server stop commits and flush: with MariaDB's BACKUP STAGE
 * (10.4 and later, made for snapshots), elsewhere with FLUSH TABLES WITH READ LOCK. Either belongs to our
 * session and ends with it, whatever becomes of us; and the server ends the session with the window, should
 * we stand still (wait_timeout). Then it makes sure that what was answered is in files, whatever
 * innodb_flush_log_at_trx_commit says (flush_logs). */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <mysql.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cow/base/err.h"
#include "tools/writer/database.h"

#define LOCK_WAIT_TIMEOUT 1205 /* ER_LOCK_WAIT_TIMEOUT */
#define STATEMENT_TIMEOUT 1969 /* ER_STATEMENT_TIMEOUT */
#define POLL_MS 10
#define FIRST_STAGE_VERSION 100400

enum method { METHOD_AUTO, METHOD_STAGES, METHOD_READ_LOCK };

struct mariadb {
	struct database db;
	const char *defaults_file, *host, *server_socket, *user;
	unsigned port;
	enum method wanted;

	MYSQL *conn;
	bool mariadb; /* it is, and not MySQL */
	enum method method;
};

DEFINE_CLEANUP(result_free_p, MYSQL_RES *, mysql_free_result)

static struct mariadb *self(struct database *db)
{
	return (struct mariadb *)db;
}

/* ---- talking to the server, never longer than the event may take */

static void let_go(struct database *db)
{
	struct mariadb *m = self(db);

	/* Locks and stages end with the session. */
	if (m->conn)
		mysql_close(m->conn);
	m->conn = NULL;
}

static bool is_transient(unsigned code)
{
	return code == LOCK_WAIT_TIMEOUT || code == STATEMENT_TIMEOUT || code >= 2000; /* CR_... */
}

static int fail_server(struct database *db, const char *what)
{
	MYSQL *conn = self(db)->conn;
	unsigned code = mysql_errno(conn);

	return db_fail(db, is_transient(code) ? UMBRA_WRITER_RETRYABLE : UMBRA_WRITER_NON_RETRYABLE,
		       "%s: %s (%u)", what, mysql_error(conn), code);
}

/* Wait for what a call of the library waits for; *status then is what came. */
static int wait_for(struct database *db, const char *what, int *status)
{
	MYSQL *conn = self(db)->conn;
	short events = (short)((*status & MYSQL_WAIT_READ ? POLLIN : 0) |
			       (*status & MYSQL_WAIT_WRITE ? POLLOUT : 0) |
			       (*status & MYSQL_WAIT_EXCEPT ? POLLPRI : 0));
	int most_ms = -1, r;

	if (*status & MYSQL_WAIT_TIMEOUT) {
		unsigned ms = mysql_get_timeout_value_ms(conn);

		most_ms = ms > INT_MAX ? INT_MAX : (int)ms;
	}
	r = db_wait(db, mysql_get_socket(conn), events, most_ms);
	if (r < 0)
		return db_fail_wait(db, r, what);
	/* One of them is enough for the library to go on. */
	*status = r == 0 ? MYSQL_WAIT_TIMEOUT
			 : *status & (MYSQL_WAIT_READ | MYSQL_WAIT_WRITE | MYSQL_WAIT_EXCEPT);
	return 0;
}

static int send_query(struct database *db, const char *sql)
{
	MYSQL *conn = self(db)->conn;
	int error = 0, status = mysql_real_query_start(&error, conn, sql, strlen(sql));

	while (status) {
		int r = wait_for(db, sql, &status);

		if (r != 0)
			return r;
		status = mysql_real_query_cont(&error, conn, status);
	}
	return error ? fail_server(db, sql) : 0;
}

/* Run one statement; its rows, if ret is given. */
static int query(struct database *db, const char *sql, MYSQL_RES **ret)
{
	MYSQL *conn = self(db)->conn;
	MYSQL_RES *result = NULL;
	int status, r = send_query(db, sql);

	if (r != 0)
		return r;
	status = mysql_store_result_start(&result, conn);
	while (status) {
		r = wait_for(db, sql, &status);
		if (r != 0)
			return r;
		status = mysql_store_result_cont(&result, conn, status);
	}
	if (!result && mysql_errno(conn))
		return fail_server(db, sql);
	if (ret)
		*ret = result;
	else
		mysql_free_result(result);
	if (ret && !result)
		return db_fail(db, UMBRA_WRITER_NON_RETRYABLE, "%s: no rows", sql);
	return 0;
}

static int __attribute__((format(printf, 2, 3))) query_f(struct database *db, const char *fmt, ...)
{
	char sql[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(sql, sizeof(sql), fmt, ap);
	va_end(ap);
	return query(db, sql, NULL);
}

/* ---- connecting */

static int new_handle(struct database *db)
{
	struct mariadb *m = self(db);
	my_bool off = 0;

	m->conn = mysql_init(NULL);
	if (!m->conn || mysql_options(m->conn, MYSQL_OPT_NONBLOCK, NULL) != 0)
		return db_fail(db, UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory");
	/* ~/.my.cnf and the like, section [client] and ours: there is the password. */
	if (m->defaults_file)
		mysql_options(m->conn, MYSQL_READ_DEFAULT_FILE, m->defaults_file);
	mysql_options(m->conn, MYSQL_READ_DEFAULT_GROUP, "umbra-writer");
	/* A new session would not have the lock: nothing may make one behind our back. */
	mysql_options(m->conn, MYSQL_OPT_RECONNECT, &off);
	mysql_options(m->conn, MYSQL_OPT_LOCAL_INFILE, &off);
	return 0;
}

static int open_connection(struct database *db)
{
	struct mariadb *m = self(db);
	MYSQL *done = NULL;
	int status = mysql_real_connect_start(&done, m->conn, m->host, m->user, NULL, NULL, m->port,
					      m->server_socket, 0);

	while (status) {
		int r = wait_for(db, "connecting to MariaDB", &status);

		if (r != 0)
			return r;
		status = mysql_real_connect_cont(&done, m->conn, status);
	}
	if (!done)
		return fail_server(db, "MariaDB");
	return db_is_local(mysql_get_socket(m->conn))
		       ? 0
		       : db_fail(db, UMBRA_WRITER_NON_RETRYABLE,
				 "this MariaDB runs on another machine");
}

/* "10.11.4-MariaDB-log" is 101104; the library leaves out the "5.5.5-" that old servers put before it. */
static void look_at_version(struct mariadb *m)
{
	m->mariadb = strstr(mysql_get_server_info(m->conn), "MariaDB") != NULL;
	m->method = m->wanted;
	if (m->method == METHOD_AUTO)
		m->method = m->mariadb && mysql_get_server_version(m->conn) >= FIRST_STAGE_VERSION
				    ? METHOD_STAGES
				    : METHOD_READ_LOCK;
}

static int do_connect(struct database *db)
{
	struct mariadb *m = self(db);
	int r;

	if (m->conn)
		return 0;
	r = new_handle(db);
	if (r == 0)
		r = open_connection(db);
	if (r != 0)
		return r;
	look_at_version(m);
	return 0;
}

/* ---- where the data lie */

static char *variable(MYSQL_RES *rows, const char *name)
{
	MYSQL_ROW row;

	mysql_data_seek(rows, 0);
	while ((row = mysql_fetch_row(rows))) {
		if (row[0] && row[1] && *row[1] && strcmp(row[0], name) == 0)
			return row[1];
	}
	return NULL;
}

static int add_dir(struct database *db, struct db_files *files, MYSQL_RES *rows, const char *name,
		   const char *what, const char *datadir)
{
	const char *value = variable(rows, name);

	return value ? db_add_file(db, files, what, datadir, value) : 0;
}

/* The directory of a log whose base name is told: /var/log/mysql/bin */
static int add_log_dir(struct database *db, struct db_files *files, MYSQL_RES *rows,
		       const char *name, const char *what, const char *datadir)
{
	char *value = variable(rows, name), *slash = value ? strrchr(value, '/') : NULL;

	if (!slash)
		return 0; /* off, or in the data directory */
	*slash = 0;
	return db_add_file(db, files, what, datadir, slash == value ? "/" : value);
}

/* innodb_data_file_path: "ibdata1:12M:autoextend" or "/a/b:1G;c:1G:autoextend". */
static int add_data_files(struct database *db, struct db_files *files, MYSQL_RES *rows,
			  const char *datadir)
{
	char *rest = variable(rows, "innodb_data_file_path"), *one;
	const char *home = variable(rows, "innodb_data_home_dir");
	int r = 0;

	while (r == 0 && rest && (one = strsep(&rest, ";"))) {
		CLEANUP(free_p) char *path = NULL;

		one[strcspn(one, ":")] = 0;
		if (!*one)
			continue;
		if (asprintf(&path, "%s%s%s", home ? home : "", home ? "/" : "", one) < 0) {
			path = NULL;
			return db_fail(db, UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory");
		}
		r = db_add_file(db, files, "InnoDB file", datadir, path);
	}
	return r;
}

/* Tables may lie anywhere (DATA DIRECTORY): InnoDB notes that in NAME.isl, the others use links. */
static int add_isl(struct database *db, struct db_files *files, const char *path)
{
	CLEANUP(fclose_p) FILE *f = fopen(path, "re");
	char line[PATH_MAX];

	if (!f || !fgets(line, sizeof(line), f))
		return 0; /* dropped meanwhile */
	line[strcspn(line, "\n")] = 0;
	return *line ? db_add_file(db, files, "table", NULL, line) : 0;
}

static int find_isl_below(struct database *db, struct db_files *files, const char *dir)
{
	CLEANUP(closedir_p) DIR *d = opendir(dir);
	struct dirent *e;
	int r = 0;

	while (r == 0 && d && (e = readdir(d))) {
		CLEANUP(free_p) char *path = NULL;
		size_t n = strlen(e->d_name);

		if (n < 4 || strcmp(e->d_name + n - 4, ".isl") != 0)
			continue;
		if (asprintf(&path, "%s/%s", dir, e->d_name) < 0) {
			path = NULL;
			return db_fail(db, UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory");
		}
		r = add_isl(db, files, path);
	}
	return r;
}

/* Each directory in the data directory is a database. */
static int find_isl(struct database *db, struct db_files *files, const char *datadir)
{
	CLEANUP(closedir_p) DIR *d = opendir(datadir);
	struct dirent *e;
	int r = 0;

	while (r == 0 && d && (e = readdir(d))) {
		CLEANUP(free_p) char *path = NULL;

		if (e->d_name[0] == '.' || e->d_type == DT_REG)
			continue;
		if (asprintf(&path, "%s/%s", datadir, e->d_name) < 0) {
			path = NULL;
			return db_fail(db, UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory");
		}
		r = find_isl_below(db, files, path);
	}
	return r;
}

static int find_variables(struct database *db, struct db_files *files, MYSQL_RES *rows)
{
	const char *datadir = variable(rows, "datadir");
	int r;

	if (!datadir)
		return db_fail(db, UMBRA_WRITER_NON_RETRYABLE, "the server has no datadir");
	r = db_add_file(db, files, "data directory", NULL, datadir);
	if (r == 0)
		r = add_dir(db, files, rows, "innodb_data_home_dir", "InnoDB directory", datadir);
	if (r == 0)
		r = add_dir(db, files, rows, "innodb_log_group_home_dir", "InnoDB log directory",
			    datadir);
	if (r == 0)
		r = add_dir(db, files, rows, "innodb_undo_directory", "InnoDB undo directory",
			    datadir);
	if (r == 0)
		r = add_dir(db, files, rows, "aria_log_dir_path", "Aria log directory", datadir);
	if (r == 0)
		r = add_data_files(db, files, rows, datadir);
	if (r == 0)
		r = add_log_dir(db, files, rows, "log_bin_basename", "binary log directory",
				datadir);
	if (r == 0)
		r = add_log_dir(db, files, rows, "relay_log_basename", "relay log directory",
				datadir);
	if (r == 0)
		r = db_add_links(db, files, "part of the data", datadir, true, true);
	return r != 0 ? r : find_isl(db, files, datadir);
}

static int find(struct database *db, struct db_files *files)
{
	CLEANUP(result_free_p) MYSQL_RES *rows = NULL;
	int r = query(db,
		      "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('datadir',"
		      " 'innodb_data_home_dir', 'innodb_data_file_path',"
		      " 'innodb_log_group_home_dir', 'innodb_undo_directory',"
		      " 'aria_log_dir_path', 'log_bin_basename', 'relay_log_basename')",
		      &rows);

	return r != 0 ? r : find_variables(db, files, rows);
}

static int server_fd(struct database *db)
{
	return mysql_get_socket(self(db)->conn);
}

/* ---- the events */

static unsigned seconds_left(const struct database *db)
{
	return (unsigned)(db_left_ms(db) + 999) / 1000;
}

/* What the server does on its own if we cannot: give up waiting, end a session that stands still. */
static int set_limits(struct database *db)
{
	const struct mariadb *m = self(db);
	unsigned window_ms = db->event->window_ms ? db->event->window_ms : 600000;
	int r = query_f(db, "SET SESSION lock_wait_timeout = %u, SESSION wait_timeout = %u",
			seconds_left(db), window_ms / 1000 + 2);

	if (r == 0 && m->mariadb)
		r = query_f(db, "SET SESSION max_statement_time = %u", seconds_left(db));
	return r;
}

/* All stages at once, and none before: already START and FLUSH, which could be had in
 * PrepareForSnapshot, make writers of non-transactional tables wait. */
/* One number of SHOW GLOBAL ..., 0 when this version has none of that name. */
static int get_number(struct database *db, const char *sql, unsigned long long *ret)
{
	CLEANUP(result_free_p) MYSQL_RES *rows = NULL;
	MYSQL_ROW row;
	int r = query(db, sql, &rows);

	if (r != 0)
		return r;
	row = mysql_fetch_row(rows);
	*ret = row && row[1] ? strtoull(row[1], NULL, 10) : 0;
	return 0;
}

/* With innodb_flush_log_at_trx_commit = 0 MariaDB's FLUSH ENGINE LOGS leaves InnoDB alone; its own
 * thread writes the log about once in a second. Wait until that has reached what is committed now. */
static int wait_for_log(struct database *db)
{
	unsigned long long mode = 1, wanted = 0, written = 0;
	int r = get_number(db, "SHOW GLOBAL VARIABLES LIKE 'innodb_flush_log_at_trx_commit'",
			   &mode);

	if (r == 0 && mode == 0)
		r = get_number(db, "SHOW GLOBAL STATUS LIKE 'Innodb_lsn_current'", &wanted);
	while (r == 0 && written < wanted) {
		r = get_number(db, "SHOW GLOBAL STATUS LIKE 'Innodb_lsn_flushed'", &written);
		if (r != 0 || written >= wanted)
			break;
		r = db_wait(db, -1, 0, POLL_MS);
		if (r < 0)
			return db_fail_wait(db, r, "waiting for the log of InnoDB");
	}
	return r;
}

static int flush_logs(struct database *db)
{
	int r = query(db, "FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS", NULL);

	return r != 0 ? r : wait_for_log(db);
}

static int freeze(struct database *db)
{
	int r = set_limits(db);

	if (r == 0 && self(db)->method == METHOD_STAGES) {
		r = query(db, "BACKUP STAGE START", NULL);
		if (r == 0)
			r = query(db, "BACKUP STAGE BLOCK_DDL", NULL);
		if (r == 0)
			r = query(db, "BACKUP STAGE BLOCK_COMMIT", NULL);
	} else if (r == 0) {
		r = query(db, "FLUSH TABLES WITH READ LOCK", NULL);
	}
	if (r == 0)
		r = flush_logs(db);
	return r != 0 ? r : db_still_in_set(db);
}

/* The lock is the session's: as long as that answers, it was never without. */
static int thaw(struct database *db)
{
	return query(db, self(db)->method == METHOD_STAGES ? "BACKUP STAGE END" : "UNLOCK TABLES",
		     NULL);
}

static int describe(struct database *db, const struct db_files *files, json_t *document)
{
	char caption[128];

	snprintf(caption, sizeof(caption), "%s %s", self(db)->mariadb ? "MariaDB" : "MySQL",
		 mysql_get_server_info(self(db)->conn));
	return db_add_component(document, "", "server", caption, files) < 0
		       ? db_fail(db, UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory")
		       : 0;
}

/* ---- the program */

enum {
	OPT_DEFAULTS_FILE = DB_OPT_OWN,
	OPT_HOST,
	OPT_PORT,
	OPT_SERVER_SOCKET,
	OPT_USER,
	OPT_METHOD
};

static int set_port(struct mariadb *m, const char *value)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (end == value || *end || n < 1 || n > 65535)
		return writer_usage(&m->db.program, "--port is a number from 1 to 65535");
	m->port = (unsigned)n;
	return 0;
}

static int set_method(struct mariadb *m, const char *value)
{
	if (strcmp(value, "auto") == 0)
		m->wanted = METHOD_AUTO;
	else if (strcmp(value, "backup-stage") == 0)
		m->wanted = METHOD_STAGES;
	else if (strcmp(value, "read-lock") == 0)
		m->wanted = METHOD_READ_LOCK;
	else
		return writer_usage(&m->db.program,
				    "--method is auto, backup-stage or read-lock, not %s",
				    LOG_QUOTE(value));
	return 0;
}

static int set_option(struct mariadb *m, int c)
{
	switch (c) {
	case OPT_DEFAULTS_FILE:
		m->defaults_file = optarg;
		break;
	case OPT_HOST:
		m->host = optarg;
		break;
	case OPT_PORT:
		return set_port(m, optarg);
	case OPT_SERVER_SOCKET:
		m->server_socket = optarg;
		break;
	case OPT_USER:
		m->user = optarg;
		break;
	case OPT_METHOD:
		return set_method(m, optarg);
	}
	return 0;
}

static int run_program(struct mariadb *m, int argc, char **argv)
{
	int c = -1, r = 0;

	while (r == 0 && (c = db_getopt(&m->db, argc, argv)) >= DB_OPT_OWN)
		r = set_option(m, c);
	if (r != 0)
		return r;
	if (c == WRITER_EXIT)
		return m->db.program.status;
	if (optind < argc)
		return writer_usage(&m->db.program, "what is %s?", LOG_QUOTE(argv[optind]));
	r = db_serve(&m->db);
	mysql_library_end();
	return r;
}

int main(int argc, char **argv)
{
	static const struct option own[] = {
		DB_OPTIONS,
		{ "defaults-file", required_argument, NULL, OPT_DEFAULTS_FILE },
		{ "host", required_argument, NULL, OPT_HOST },
		{ "port", required_argument, NULL, OPT_PORT },
		{ "server-socket", required_argument, NULL, OPT_SERVER_SOCKET },
		{ "user", required_argument, NULL, OPT_USER },
		{ "method", required_argument, NULL, OPT_METHOD },
		{ 0 },
	};
	static const struct db_ops ops = {
		.connect = do_connect,
		.find = find,
		.server_fd = server_fd,
		.freeze = freeze,
		.thaw = thaw,
		.let_go = let_go,
		.describe = describe,
	};
	struct mariadb m = { 0 };

	m.db.program.kind = "mariadb";
	m.db.program.args = "";
	m.db.program.summary = "take part in snapshots for a MariaDB or MySQL server";
	m.db.program.help =
		"Reads the client's option files, sections [client] and [umbra-writer]; put the password\n"
		"there. The user needs the privilege RELOAD.\n\n"
		"  --defaults-file FILE read this option file instead of the usual ones\n"
		"  --host ADDRESS       of this machine\n"
		"  --port PORT\n"
		"  --server-socket PATH its Unix socket\n"
		"  --user NAME          to log in as\n"
		"  --method METHOD      backup-stage, read-lock or auto: what the server can do\n" DB_HELP_LOCK_WAIT
		"\nExample: umbra writer mariadb --server-socket /run/mysqld/mysqld.sock\n";
	m.db.program.options = own;
	db_init(&m.db, &ops, "MariaDB");
	return run_program(&m, argc, argv);
}
