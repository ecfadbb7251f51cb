/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra-writer-redis - a Redis or Valkey server as a writer.
 *
 * Freeze stops all changes with CLIENT PAUSE ... WRITE (reads go on) and waits until what had been
 * answered is in files: with an append-only file until Redis has written its buffer, otherwise by a
 * BGSAVE if anything changed since the one of PrepareForSnapshot. Thaw makes sure that nothing was
 * changed meanwhile, and ends the pause.
 *
 * A pause, unlike a lock, does not end with our connection. It has a time limit of its own, the freeze
 * window; and so that nobody waits for that when we are killed, a small process (guard) holds a second
 * connection and ends the pause as soon as it sees us gone. */
#include <errno.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "cow/base/clock.h"
#include "cow/base/err.h"
#include "tools/writer/database.h"

#define POLL_MS 5
#define PORT 6379
#define GUARD_WAIT_MS 5000

struct redis {
	struct database db;
	const char *host, *unix_socket, *user; /* --host, --server-socket, --user */
	int port;
	bool recent_dump; /* --recent-dump */

	redisContext *conn;
	pid_t guard;
	int guard_fd; /* its end says that we are gone; a byte that we thawed */
	bool paused;  /* as far as we know */
	bool aof;
	/* At Freeze, to see at Thaw that nothing had changed (see unchanged()). */
	long long dirty, saved_at, aof_size, aof_base;
};

DEFINE_CLEANUP(redis_free_p, redisContext *, redisFree)

static void reply_free_p(redisReply **r)
{
	if (*r)
		freeReplyObject(*r);
}

static struct redis *self(struct database *db)
{
	return (struct redis *)db;
}

/* ---- talking to the server, never longer than the event may take */

static int fail_conn(struct database *db, const redisContext *c)
{
	return db_fail(db, UMBRA_WRITER_RETRYABLE, "Redis: %s", c->errstr);
}

static int send_all(struct database *db, redisContext *c)
{
	int done = 0, r;

	for (;;) {
		if (redisBufferWrite(c, &done) != REDIS_OK)
			return fail_conn(db, c);
		if (done)
			return 0;
		r = db_wait(db, c->fd, POLLOUT, -1);
		if (r < 0)
			return db_fail_wait(db, r, "Redis");
	}
}

static int receive(struct database *db, redisContext *c, redisReply **ret)
{
	void *reply = NULL;

	for (;;) {
		int r;

		if (redisGetReplyFromReader(c, &reply) != REDIS_OK)
			return fail_conn(db, c);
		if (reply)
			break;
		r = db_wait(db, c->fd, POLLIN, -1);
		if (r < 0)
			return db_fail_wait(db, r, "Redis");
		if (redisBufferRead(c) != REDIS_OK)
			return fail_conn(db, c);
	}
	*ret = reply;
	return 0;
}

/* One command and its answer; an error of the server is a failure. @argv ended by NULL. */
static int command_on(struct database *db, redisContext *c, const char **argv, redisReply **ret)
{
	CLEANUP(reply_free_p) redisReply *reply = NULL;
	int argc = 0, r;

	while (argv[argc])
		argc++;
	if (redisAppendCommandArgv(c, argc, argv, NULL) != REDIS_OK)
		return fail_conn(db, c);
	r = send_all(db, c);
	if (r == 0)
		r = receive(db, c, &reply);
	if (r != 0) {
		c->err = REDIS_ERR_IO; /* the answer may still come: the next one would get it */
		return r;
	}
	if (reply->type == REDIS_REPLY_ERROR)
		return db_fail(db,
			       strncmp(reply->str, "BUSY", 4) == 0 ||
					       strncmp(reply->str, "LOADING", 7) == 0
				       ? UMBRA_WRITER_RETRYABLE
				       : UMBRA_WRITER_NON_RETRYABLE,
			       "Redis: %s: %s", argv[0], reply->str);
	if (ret)
		*ret = TAKE(reply);
	return 0;
}

#define COMMAND(db, ret, ...)                                                                      \
	command_on((db), self(db)->conn, (const char *[]){ __VA_ARGS__, NULL }, (ret))

static int wait_connected(struct database *db, redisContext *c)
{
	int error = 0, r = db_wait(db, c->fd, POLLOUT, -1);
	socklen_t len = sizeof(error);

	if (r < 0)
		return db_fail_wait(db, r, "connecting to Redis");
	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error)
		return db_fail(db, UMBRA_WRITER_RETRYABLE, "Redis: %s",
			       err_text(error ? -error : -EIO));
	return db_is_local(c->fd) ? 0
				  : db_fail(db, UMBRA_WRITER_NON_RETRYABLE,
					    "this Redis runs on another machine");
}

static int log_in(struct database *db, redisContext *c)
{
	const char *user = self(db)->user, *password = getenv("REDISCLI_AUTH");

	if (!password)
		return 0;
	return user ? command_on(db, c, (const char *[]){ "AUTH", user, password, NULL }, NULL)
		    : command_on(db, c, (const char *[]){ "AUTH", password, NULL }, NULL);
}

static int new_connection(struct database *db, redisContext **ret)
{
	CLEANUP(redis_free_p) redisContext *c = NULL;
	const struct redis *s = self(db);
	int r;

	c = s->unix_socket ? redisConnectUnixNonBlock(s->unix_socket)
			   : redisConnectNonBlock(s->host, s->port);
	if (!c)
		return db_fail(db, UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory");
	if (c->err)
		return fail_conn(db, c);
	r = wait_connected(db, c);
	if (r == 0)
		r = log_in(db, c);
	if (r == 0)
		*ret = TAKE(c);
	return r;
}

static int do_connect(struct database *db)
{
	struct redis *s = self(db);

	if (s->conn && !s->conn->err)
		return 0;
	if (s->conn)
		redisFree(s->conn);
	s->conn = NULL;
	return new_connection(db, &s->conn);
}

/* ---- INFO and CONFIG */

/* The number behind "name:"; -1: there is none. */
static long long info_number(const redisReply *info, const char *name)
{
	size_t n = strlen(name);
	const char *p = info->str;

	while (p) {
		if (strncmp(p, name, n) == 0 && p[n] == ':')
			return strtoll(p + n + 1, NULL, 10);
		p = strchr(p, '\n');
		p = p ? p + 1 : NULL;
	}
	return -1;
}

static bool info_says(const redisReply *info, const char *line)
{
	const char *p = strstr(info->str, line);

	return p && (p == info->str || p[-1] == '\n') &&
	       (p[strlen(line)] == '\r' || p[strlen(line)] == '\n');
}

static int get_info(struct database *db, redisReply **ret)
{
	CLEANUP(reply_free_p) redisReply *info = NULL;
	int r = COMMAND(db, &info, "INFO", "persistence");

	if (r != 0)
		return r;
	if ((info->type != REDIS_REPLY_STRING && info->type != REDIS_REPLY_STATUS) || !info->str)
		return db_fail(db, UMBRA_WRITER_NON_RETRYABLE, "Redis: INFO gave no text");
	*ret = TAKE(info);
	return 0;
}

/* malloc'ed; "" when this version has no such setting. */
static int get_config(struct database *db, const char *name, char **ret)
{
	CLEANUP(reply_free_p) redisReply *reply = NULL;
	int r = COMMAND(db, &reply, "CONFIG", "GET", name);
	const char *value = "";

	if (r != 0)
		return r;
	if (reply->type == REDIS_REPLY_ARRAY && reply->elements >= 2 && reply->element[1]->str)
		value = reply->element[1]->str;
	*ret = strdup(value);
	return *ret ? 0 : db_fail(db, UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory");
}

/* Names in the data directory of what Redis keeps there. */
struct names {
	char *dir, *dump, *aof, *aof_dir;
};

static void names_done(struct names *n)
{
	free(n->dir);
	free(n->dump);
	free(n->aof);
	free(n->aof_dir);
}

static int get_names(struct database *db, struct names *ret)
{
	int r = get_config(db, "dir", &ret->dir);

	if (r == 0)
		r = get_config(db, "dbfilename", &ret->dump);
	if (r == 0)
		r = get_config(db, "appendfilename", &ret->aof);
	if (r == 0)
		r = get_config(db, "appenddirname", &ret->aof_dir); /* since 7.0 */
	return r;
}

/* What is there under that name; nothing is fine. */
static int find_name(struct database *db, struct db_files *files, const char *dir, const char *name)
{
	CLEANUP(free_p) char *path = NULL;
	struct stat st;
	int r;

	if (!*name)
		return 0;
	if (asprintf(&path, "%s/%s", dir, name) < 0) {
		path = NULL;
		return db_fail(db, UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory");
	}
	if (stat(path, &st) < 0)
		return 0;
	r = db_add_file(db, files, "file of the data", NULL, path);
	return r == 0 && S_ISDIR(st.st_mode)
		       ? db_add_links(db, files, "append-only file", path, true, false)
		       : r;
}

static int find(struct database *db, struct db_files *files)
{
	CLEANUP(names_done) struct names n = { 0 };
	int r = get_names(db, &n);

	if (r == 0)
		r = db_add_file(db, files, "data directory", NULL, n.dir);
	if (r == 0)
		r = find_name(db, files, n.dir, n.dump);
	if (r == 0)
		r = find_name(db, files, n.dir, n.aof);
	if (r == 0)
		r = find_name(db, files, n.dir, n.aof_dir);
	return r;
}

/* ---- saving */

/* Wait until a background job is over; *ret is what INFO said then. */
static int wait_job(struct database *db, const char *running, const char *scheduled,
		    redisReply **ret)
{
	for (;;) {
		CLEANUP(reply_free_p) redisReply *info = NULL;
		int r = get_info(db, &info);

		if (r != 0)
			return r;
		if (info_number(info, running) <= 0 &&
		    (!scheduled || info_number(info, scheduled) <= 0)) {
			*ret = TAKE(info);
			return 0;
		}
		r = db_wait(db, -1, 0, POLL_MS);
		if (r < 0)
			return db_fail_wait(db, r, "waiting for Redis to save");
	}
}

/* Only one child runs at a time: wait for those that do, then BGSAVE, and look how it went. */
static int save(struct database *db)
{
	CLEANUP(reply_free_p) redisReply *before = NULL;
	CLEANUP(reply_free_p) redisReply *rewrite = NULL;
	CLEANUP(reply_free_p) redisReply *after = NULL;
	int r = wait_job(db, "rdb_bgsave_in_progress", NULL, &before);

	if (r == 0)
		r = wait_job(db, "aof_rewrite_in_progress", "aof_rewrite_scheduled", &rewrite);
	if (r == 0)
		r = COMMAND(db, NULL, "BGSAVE");
	if (r == 0)
		r = wait_job(db, "rdb_bgsave_in_progress", NULL, &after);
	if (r != 0)
		return r;
	return info_says(after, "rdb_last_bgsave_status:ok")
		       ? 0
		       : db_fail(db, UMBRA_WRITER_RETRYABLE, "Redis could not save: see its log");
}

/* ---- the guard */

static void guard_ends_pause(redisContext *c)
{
	uint64_t deadline = clock_deadline_ms(GUARD_WAIT_MS);
	void *reply = NULL;
	int done = 0;

	if (redisAppendCommand(c, "CLIENT UNPAUSE") != REDIS_OK)
		return;
	while (!clock_expired(deadline)) {
		struct pollfd fd = { .fd = c->fd, .events = done ? POLLIN : POLLOUT };

		(void)poll(&fd, 1, clock_left_ms(deadline));
		if (!done && redisBufferWrite(c, &done) != REDIS_OK)
			return;
		if (!done || !(fd.revents & POLLIN))
			continue;
		if (redisBufferRead(c) != REDIS_OK ||
		    redisGetReplyFromReader(c, &reply) != REDIS_OK || reply)
			return;
	}
}

/* In the child: keeps nothing of ours open but its two ends, above all not the coordinator's socket,
 * whose end is how our death is seen (W-9). */
static void guard_main(redisContext *c, int pipe_fd)
{
	int low = c->fd < pipe_fd ? c->fd : pipe_fd, high = c->fd < pipe_fd ? pipe_fd : c->fd;
	char byte;
	ssize_t n;

	if (low > 3)
		close_range(3, (unsigned)low - 1, 0);
	if (high > low + 1)
		close_range((unsigned)low + 1, (unsigned)high - 1, 0);
	close_range((unsigned)high + 1, ~0U, 0);
	do
		n = read(pipe_fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n != 1)
		guard_ends_pause(c);
	_exit(0);
}

static int start_guard(struct database *db)
{
	CLEANUP(redis_free_p) redisContext *second = NULL;
	struct redis *s = self(db);
	int fds[2], r;

	r = new_connection(db, &second);
	if (r != 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return db_fail(db, UMBRA_WRITER_OUT_OF_RESOURCES, "socketpair: %s",
			       err_text(-errno));
	s->guard = fork();
	if (s->guard == 0)
		guard_main(second, fds[1]);
	close(fds[1]);
	if (s->guard < 0) {
		s->guard = 0;
		r = -errno;
		close(fds[0]);
		return db_fail(db, UMBRA_WRITER_OUT_OF_RESOURCES, "fork: %s", err_text(r));
	}
	s->guard_fd = fds[0];
	return 0;
}

/* thawed: there is nothing left to be done; else it ends the pause, now. */
static void stop_guard(struct redis *s, bool thawed)
{
	if (s->guard <= 0)
		return;
	if (thawed)
		(void)send(s->guard_fd, "", 1, MSG_NOSIGNAL);
	close(s->guard_fd);
	s->guard_fd = -1;
	/* At most GUARD_WAIT_MS: it has a limit of its own. */
	while (waitpid(s->guard, NULL, 0) < 0 && errno == EINTR)
		;
	s->guard = 0;
}

/* On our connection, or if that was lost on a new one: the pause is the server's, not the session's. */
static bool end_pause(struct database *db)
{
	struct redis *s = self(db);

	if (s->conn && !s->conn->err && COMMAND(db, NULL, "CLIENT", "UNPAUSE") == 0)
		return true;
	return do_connect(db) == 0 && COMMAND(db, NULL, "CLIENT", "UNPAUSE") == 0;
}

static void let_go(struct database *db)
{
	struct redis *s = self(db);

	stop_guard(s, !s->paused || end_pause(db));
	s->paused = false;
	if (s->conn)
		redisFree(s->conn);
	s->conn = NULL;
}

static int server_fd(struct database *db)
{
	return self(db)->conn->fd;
}

/* ---- the events */

static int prepare(struct database *db)
{
	CLEANUP(reply_free_p) redisReply *info = NULL;
	CLEANUP(free_p) char *points = NULL;
	struct redis *s = self(db);
	int r = get_info(db, &info);

	if (r == 0)
		r = get_config(db, "save", &points);
	if (r != 0)
		return r;
	s->aof = info_number(info, "aof_enabled") == 1;
	if (!s->aof && !*points)
		return db_fail(db, UMBRA_WRITER_NON_RETRYABLE,
			       "this Redis keeps nothing on disk (appendonly no, save \"\")");
	if (!s->aof)
		return save(db);
	/* Just switched on: the file is whole only after its first rewrite. */
	reply_free_p(&info);
	info = NULL;
	return wait_job(db, "aof_rewrite_in_progress", "aof_rewrite_scheduled", &info);
}

/* All that was answered has to be written: Redis puts that off by up to two seconds while an fsync of
 * the append-only file runs (appendfsync everysec). */
static int wait_written(struct database *db)
{
	for (;;) {
		CLEANUP(reply_free_p) redisReply *info = NULL;
		int r = get_info(db, &info);

		if (r != 0)
			return r;
		if (!info_says(info, "aof_last_write_status:ok"))
			return db_fail(db, UMBRA_WRITER_RETRYABLE,
				       "Redis cannot write its append-only file: see its log");
		if (info_number(info, "aof_buffer_length") == 0)
			return 0;
		r = db_wait(db, -1, 0, POLL_MS);
		if (r < 0)
			return db_fail_wait(db, r, "waiting for the append-only file");
	}
}

static int save_changes(struct database *db)
{
	CLEANUP(reply_free_p) redisReply *info = NULL;
	int r = get_info(db, &info);

	if (r != 0)
		return r;
	if (info_number(info, "rdb_changes_since_last_save") == 0 &&
	    info_number(info, "rdb_bgsave_in_progress") == 0)
		return 0;
	return save(db);
}

static int note_state(struct database *db)
{
	CLEANUP(reply_free_p) redisReply *info = NULL;
	struct redis *s = self(db);
	int r = get_info(db, &info);

	if (r != 0)
		return r;
	s->dirty = info_number(info, "rdb_changes_since_last_save");
	s->saved_at = info_number(info, "rdb_last_save_time");
	s->aof_size = info_number(info, "aof_current_size");
	s->aof_base = info_number(info, "aof_base_size");
	return 0;
}

static int pause_writes(struct database *db)
{
	struct redis *s = self(db);
	char ms[24];
	int r = start_guard(db);

	if (r != 0)
		return r;
	/* From now until the window's end, counted from a little later than the window itself is. */
	snprintf(ms, sizeof(ms), "%u", db->event->window_ms ? db->event->window_ms : 60000);
	s->paused = true; /* also if the answer does not come */
	return COMMAND(db, NULL, "CLIENT", "PAUSE", ms, "WRITE");
}

static int freeze(struct database *db)
{
	struct redis *s = self(db);
	int r;

	/* The dump of PrepareForSnapshot is what is wanted: it is whole, and nothing has to wait. */
	if (!s->aof && s->recent_dump)
		return db_still_in_set(db);
	r = pause_writes(db);
	if (r == 0)
		r = s->aof ? wait_written(db) : save_changes(db);
	if (r == 0)
		r = note_state(db);
	return r != 0 ? r : db_still_in_set(db);
}

/* The number of changes says that there was none, unless a save that began before has ended since; then
 * the append-only file's size does. Somebody else could have ended the pause. */
static int unchanged(struct database *db)
{
	CLEANUP(reply_free_p) redisReply *info = NULL;
	const struct redis *s = self(db);
	int r = get_info(db, &info);
	bool saved, grown;

	if (r != 0)
		return r;
	saved = info_number(info, "rdb_last_save_time") != s->saved_at ||
		info_number(info, "rdb_changes_since_last_save") < s->dirty;
	grown = s->aof && info_number(info, "aof_base_size") == s->aof_base &&
		info_number(info, "aof_current_size") != s->aof_size;
	if (grown || (!saved && info_number(info, "rdb_changes_since_last_save") != s->dirty))
		return db_fail(db, UMBRA_WRITER_INCONSISTENT_SNAPSHOT,
			       "Redis changed data although it was paused: was the pause ended by "
			       "somebody else?");
	return 0;
}

static int thaw(struct database *db)
{
	struct redis *s = self(db);
	int r;

	if (!s->paused)
		return 0;
	r = unchanged(db);
	if (r != 0)
		return r;
	r = COMMAND(db, NULL, "CLIENT", "UNPAUSE");
	if (r == 0)
		s->paused = false;
	return r;
}

static int add_pattern(json_t *component, const char *dir, const char *name)
{
	char pattern[300];

	snprintf(pattern, sizeof(pattern), "%.290s*", name);
	return db_add_file_set(component, "file_sets", dir, pattern, false);
}

/* Not the whole directory: it may be anything, somebody's home too. */
static int describe(struct database *db, const struct db_files *files, json_t *document)
{
	CLEANUP(names_done) struct names n = { 0 };
	CLEANUP(free_p) char *below = NULL;
	const struct db_files none = { 0 };
	char name[32];
	json_t *c;
	int r = get_names(db, &n);

	if (r != 0)
		return r;
	snprintf(name, sizeof(name), "%d", self(db)->port);
	if (asprintf(&below, "%s/%s", n.dir, n.aof_dir) < 0) {
		below = NULL;
		return db_fail(db, UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory");
	}
	r = db_add_component(document, "", self(db)->unix_socket ? "redis" : name, "Redis data set",
			     &none);
	c = json_array_get(json_object_get(document, "components"), 0);
	/* Patterns, for a file named without one must be there (M-3). */
	if (r == 0)
		r = add_pattern(c, n.dir, n.dump);
	if (r == 0 && *n.aof_dir)
		r = db_add_file_set(c, "file_sets", below, "*", true);
	else if (r == 0)
		r = add_pattern(c, n.dir, n.aof);
	return r < 0 ? db_fail(db, UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory") : 0;
}

/* ---- the program */

enum { OPT_HOST = DB_OPT_OWN, OPT_PORT, OPT_SERVER_SOCKET, OPT_USER, OPT_RECENT_DUMP };

static int set_port(struct redis *s, const char *value)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (end == value || *end || n < 1 || n > 65535)
		return writer_usage(&s->db.program, "--port is a number from 1 to 65535");
	s->port = (int)n;
	return 0;
}

static int set_option(struct redis *s, int c)
{
	switch (c) {
	case OPT_HOST:
		s->host = optarg;
		break;
	case OPT_PORT:
		return set_port(s, optarg);
	case OPT_SERVER_SOCKET:
		s->unix_socket = optarg;
		break;
	case OPT_USER:
		s->user = optarg;
		break;
	case OPT_RECENT_DUMP:
		s->recent_dump = true;
		break;
	}
	return 0;
}

static int run_program(struct redis *s, int argc, char **argv)
{
	int c, r = 0;

	while (r == 0 && (c = db_getopt(&s->db, argc, argv)) >= DB_OPT_OWN)
		r = set_option(s, c);
	if (r != 0)
		return r;
	if (c == WRITER_EXIT)
		return s->db.program.status;
	if (optind < argc)
		return writer_usage(&s->db.program, "what is %s?", LOG_QUOTE(argv[optind]));
	return db_serve(&s->db);
}

int main(int argc, char **argv)
{
	static const struct option own[] = {
		DB_OPTIONS,
		{ "host", required_argument, NULL, OPT_HOST },
		{ "port", required_argument, NULL, OPT_PORT },
		{ "server-socket", required_argument, NULL, OPT_SERVER_SOCKET },
		{ "user", required_argument, NULL, OPT_USER },
		{ "recent-dump", no_argument, NULL, OPT_RECENT_DUMP },
		{ 0 },
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
	struct redis s = { .host = "127.0.0.1", .port = PORT, .guard_fd = -1 };

	s.db.program.kind = "redis";
	s.db.program.args = "";
	s.db.program.summary = "take part in snapshots for a Redis or Valkey server";
	s.db.program.help =
		"The password, if there is one, is in REDISCLI_AUTH.\n\n"
		"  --host ADDRESS       of this machine (127.0.0.1)\n"
		"  --port PORT          (6379)\n"
		"  --server-socket PATH its Unix socket instead\n"
		"  --user NAME          to log in with\n"
		"  --recent-dump        without an append-only file: be content with the dump made just\n"
		"                       before, stop nothing\n" DB_HELP_LOCK_WAIT
		"\nExample: umbra writer redis --server-socket /run/redis/redis.sock\n";
	s.db.program.options = own;
	db_init(&s.db, &ops, "Redis");
	return run_program(&s, argc, argv);
}
