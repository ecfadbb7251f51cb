/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/writer/database.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "cow/base/clock.h"
#include "cow/base/err.h"
#include "cow/base/path.h"

#define LOCK_WAIT_MS 10000

/* ---- failing and waiting */

int db_fail(struct database *db, enum umbra_writer_code code, const char *fmt, ...)
{
	CLEANUP(free_p) char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		text = NULL;
	/* The first failure is the reason, what comes of it is for the log. */
	if (!db->failed) {
		db->failed = true;
		return writer_fail(db->w, code, "%s", text ? text : "out of memory");
	}
	log_error("%s", text ? text : "out of memory");
	return 1;
}

static int no_memory(struct database *db)
{
	return db_fail(db, UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory");
}

int db_left_ms(const struct database *db)
{
	int left = clock_left_ms(db->deadline_ns);

	return left > 0 ? left : 1;
}

/* Which of the two limits is nearer; *ret_own: it is most_ms. */
static int wait_ms(const struct database *db, uint64_t own_ns, bool *ret_own)
{
	*ret_own = own_ns < db->deadline_ns;
	return clock_left_ms(*ret_own ? own_ns : db->deadline_ns);
}

int db_wait(struct database *db, int fd, short events, int most_ms)
{
	uint64_t own_ns = most_ms < 0 ? CLOCK_NEVER : clock_deadline_ms((uint64_t)most_ms);

	for (;;) {
		struct pollfd fds[] = { { .fd = fd, .events = events },
					{ .fd = db->stoppable ? writer_signal_fd() : -1,
					  .events = POLLIN } };
		bool own;
		int ms = wait_ms(db, own_ns, &own), n = poll(fds, 2, ms);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && fds[0].revents)
			return 1;
		if (n > 0 && fds[1].revents && writer_stopping())
			return -EINTR;
		if (clock_expired(db->deadline_ns))
			return -ETIMEDOUT;
		if (clock_expired(own_ns))
			return 0;
	}
}

int db_fail_wait(struct database *db, int r, const char *what)
{
	if (r == -ETIMEDOUT)
		return db_fail(db, UMBRA_WRITER_TIMEOUT, "%s took too long", what);
	if (r == -EINTR)
		return db_fail(db, UMBRA_WRITER_RETRYABLE, "told to stop during %s", what);
	return db_fail(db, UMBRA_WRITER_RETRYABLE, "%s: %s", what, err_text(r));
}

bool db_is_local(int fd)
{
	struct sockaddr_storage a = { 0 }, b = { 0 };
	socklen_t a_len = sizeof(a), b_len = sizeof(b);

	if (getsockname(fd, (struct sockaddr *)&a, &a_len) < 0 ||
	    getpeername(fd, (struct sockaddr *)&b, &b_len) < 0 || a.ss_family != b.ss_family)
		return false;
	switch (a.ss_family) {
	case AF_UNIX:
		return true;
	case AF_INET: /* who talks to himself has one address at both ends */
		return ((struct sockaddr_in *)&a)->sin_addr.s_addr ==
		       ((struct sockaddr_in *)&b)->sin_addr.s_addr;
	case AF_INET6:
		return IN6_ARE_ADDR_EQUAL(&((struct sockaddr_in6 *)&a)->sin6_addr,
					  &((struct sockaddr_in6 *)&b)->sin6_addr);
	}
	return false;
}

/* ---- where the data lie */

void db_files_done(struct db_files *files)
{
	for (size_t i = 0; i < files->count; i++)
		free(files->list[i].path);
	free(files->list);
	*files = (struct db_files){ 0 };
}

static int append_file(struct database *db, struct db_files *files, const char *what, char *path)
{
	struct db_file *list;

	for (size_t i = 0; i < files->count; i++) {
		if (strcmp(files->list[i].path, path) == 0) {
			free(path);
			return 0;
		}
	}
	list = reallocarray(files->list, files->count + 1, sizeof(*list));
	if (!list) {
		free(path);
		return no_memory(db);
	}
	files->list = list;
	files->list[files->count++] = (struct db_file){ what, path };
	return 0;
}

int db_add_file(struct database *db, struct db_files *files, const char *what, const char *base,
		const char *path)
{
	CLEANUP(free_p) char *joined = NULL;
	char *real;

	if (asprintf(&joined, "%s%s%s", *path == '/' || !base ? "" : base,
		     *path == '/' || !base ? "" : "/", path) < 0) {
		joined = NULL;
		return no_memory(db);
	}
	real = realpath(joined, NULL);
	if (!real && errno == ENOMEM)
		return no_memory(db);
	if (!real) {
		int r = -errno;

		return db_fail(db, UMBRA_WRITER_NON_RETRYABLE, "the %s %s: %s%s", what,
			       LOG_QUOTE(joined), err_text(r),
			       r == -EACCES ? " (run this as the user that the server runs as)"
					    : "");
	}
	return append_file(db, files, what, real);
}

static int open_dir(struct database *db, int dir_fd, const char *name, DIR **ret)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd >= 0) {
		*ret = fdopendir(fd);
		if (*ret)
			return 0;
	}
	r = -errno;
	if (fd >= 0)
		close(fd);
	if (r == -ENOENT && dir_fd != AT_FDCWD)
		return 0; /* dropped since it was listed */
	return db_fail(db, UMBRA_WRITER_NON_RETRYABLE, "cannot look into %s: %s%s", LOG_QUOTE(name),
		       err_text(r),
		       r == -EACCES ? " (run this as the user that the server runs as)" : "");
}

static int add_links(struct database *db, struct db_files *files, const char *what, DIR *dir,
		     const char *path, bool files_too, bool deep);

/* One entry: a link that leads somewhere, a directory on another device, or nothing of interest. */
static int add_link(struct database *db, struct db_files *files, const char *what, DIR *dir,
		    const char *path, const char *name, bool files_too, bool deep)
{
	CLEANUP(closedir_p) DIR *sub = NULL;
	CLEANUP(free_p) char *below = NULL;
	struct stat here, own, target;
	bool elsewhere;
	int r;

	if (fstat(dirfd(dir), &here) < 0 ||
	    fstatat(dirfd(dir), name, &own, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fstatat(dirfd(dir), name, &target, 0) < 0)
		return 0; /* gone, or a link to nowhere: nothing lies there */
	elsewhere = S_ISLNK(own.st_mode) || own.st_dev != here.st_dev;
	if (elsewhere && (files_too || S_ISDIR(target.st_mode))) {
		r = db_add_file(db, files, what, path, name);
		if (r != 0)
			return r;
	}
	if (!deep || !S_ISDIR(target.st_mode))
		return 0;
	if (asprintf(&below, "%s/%s", path, name) < 0) {
		below = NULL;
		return no_memory(db);
	}
	r = open_dir(db, dirfd(dir), name, &sub);
	return r != 0 || !sub ? r : add_links(db, files, what, sub, below, true, false);
}

static int add_links(struct database *db, struct db_files *files, const char *what, DIR *dir,
		     const char *path, bool files_too, bool deep)
{
	struct dirent *e;

	while ((e = readdir(dir))) {
		bool plain = e->d_type != DT_LNK && e->d_type != DT_DIR && e->d_type != DT_UNKNOWN;
		int r;

		/* Most are plain files: a look at each would take long in a big database. */
		if (plain || strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		r = add_link(db, files, what, dir, path, e->d_name, files_too, deep);
		if (r != 0)
			return r;
	}
	return 0;
}

int db_add_links(struct database *db, struct db_files *files, const char *what, const char *dir,
		 bool files_too, bool deep)
{
	CLEANUP(closedir_p) DIR *d = NULL;
	int r = open_dir(db, AT_FDCWD, dir, &d);

	return r != 0 ? r : add_links(db, files, what, d, dir, files_too, deep);
}

/* ---- is it in the set? */

/* The innermost tree of the set that a path lies in; NULL: none is known by that name. */
static const char *tree_of(const struct umbra_writer *w, const char *path)
{
	const char *best = NULL, *t;

	for (size_t i = 0; (t = umbra_writer_tree(w, i)); i++) {
		if (path_below(t, path) && (!best || strlen(t) > strlen(best)))
			best = t;
	}
	return best;
}

/* W-12, and N-5: what is mounted inside of a tree is no part of it. */
static bool in_set(const struct umbra_writer *w, const char *path)
{
	const char *tree = tree_of(w, path);
	struct stat a, b;

	if (umbra_writer_path_in_set(w, path) != 1)
		return false;
	return !tree || (stat(tree, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev);
}

/* How many of them lie in the set; *ret_missing: one that does not. */
static size_t count_in_set(const struct umbra_writer *w, const struct db_files *files,
			   const struct db_file **ret_missing)
{
	size_t n = 0;

	for (size_t i = 0; i < files->count; i++) {
		if (in_set(w, files->list[i].path))
			n++;
		else
			*ret_missing = &files->list[i];
	}
	return n;
}

static int fail_partly(struct database *db, const struct db_file *missing)
{
	return db_fail(db, UMBRA_WRITER_INCONSISTENT_SNAPSHOT,
		       "%s: the %s %s is not in the snapshot set (W-12)", db->label, missing->what,
		       LOG_QUOTE(missing->path));
}

int db_still_in_set(struct database *db)
{
	CLEANUP(db_files_done) struct db_files files = { 0 };
	const struct db_file *missing = NULL;
	int r = db->ops->find(db, &files);

	if (r != 0)
		return r;
	return count_in_set(db->w, &files, &missing) == files.count ? 0 : fail_partly(db, missing);
}

/* A server that was running when Umbra was mounted over its directory goes on below the mount, past any
 * snapshot; and one in a container may have another directory by that name. All of these servers work in
 * their data directory. What cannot be seen (another user, TCP) is left to the manual. */
static int check_server(struct database *db, int fd, const char *dir)
{
	struct ucred cred = { 0 };
	socklen_t len = sizeof(cred);
	char cwd[32];
	struct stat a, b;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || cred.pid <= 0)
		return 0;
	snprintf(cwd, sizeof(cwd), "/proc/%d/cwd", (int)cred.pid);
	if (stat(cwd, &a) < 0 || stat(dir, &b) < 0) {
		log_debug("cannot see where the server works: %s", err_text(-errno));
		return 0;
	}
	if (a.st_dev == b.st_dev && a.st_ino == b.st_ino)
		return 0;
	return db_fail(
		db, UMBRA_WRITER_INCONSISTENT_SNAPSHOT,
		"the server (process %d) does not work in the %s that is in the snapshot set: "
		"it was started before umbra protect, so start it again",
		(int)cred.pid, LOG_QUOTE(dir));
}

/* ---- the writer document */

int db_add_file_set(json_t *object, const char *member, const char *dir, const char *pattern,
		    bool recursive)
{
	json_t *sets = json_object_get(object, member);
	json_t *set = json_pack("{s:s, s:b}", "pattern", pattern, "recursive", recursive);

	if (!sets) {
		sets = json_array();
		if (json_object_set_new(object, member, sets) < 0) {
			json_decref(set);
			return -ENOMEM;
		}
	}
	if (!set || umbra_json_set_path(set, "path", dir) < 0) {
		json_decref(set);
		return -ENOMEM;
	}
	return json_array_append_new(sets, set) < 0 ? -ENOMEM : 0;
}

static int add_path_set(json_t *component, const char *path)
{
	CLEANUP(free_p) char *copy = NULL;
	struct stat st;
	char *slash;

	if (stat(path, &st) < 0 || S_ISDIR(st.st_mode))
		return db_add_file_set(component, "file_sets", path, "*", true);
	copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	slash = strrchr(copy, '/');
	*slash = 0;
	return db_add_file_set(component, "file_sets", slash == copy ? "/" : copy, slash + 1,
			       false);
}

int db_add_component(json_t *document, const char *logical_path, const char *name,
		     const char *caption, const struct db_files *files)
{
	json_t *c = json_pack("{s:s, s:s, s:s, s:s, s:b, s:b}", "type", "database", "logical_path",
			      logical_path, "name", name, "caption", caption,
			      "selectable_for_backup", 1, "selectable_for_restore", 1);
	int r = c ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < files->count; i++)
		r = add_path_set(c, files->list[i].path);
	if (r == 0)
		return json_array_append_new(json_object_get(document, "components"), c) < 0
			       ? -ENOMEM
			       : 0;
	json_decref(c);
	return r;
}

/* ---- the events */

static void set_limit(struct database *db, int ms)
{
	db->deadline_ns = clock_deadline_ms((uint64_t)ms);
}

static void begin(struct database *db, struct umbra_writer *w, const struct umbra_writer_event *e,
		  bool stoppable)
{
	db->w = w;
	db->event = e;
	db->stoppable = stoppable;
	db->failed = false;
	set_limit(db, writer_limit_ms(&db->program, e));
}

/* W-11: whether an event is about what we are in the middle of. */
static bool is_ours(const struct database *db, const struct umbra_writer_event *e)
{
	return !e->session_id || !db->session_id[0] || strcmp(db->session_id, e->session_id) == 0;
}

static void let_go(struct database *db)
{
	db->ops->let_go(db);
	db->phase = DB_IDLE;
	db->session_id[0] = 0;
}

static json_t *new_document(struct database *db, const struct db_files *files)
{
	json_t *d = json_pack("{s:s, s:{s:s, s:s}, s:[]}", "version", "1.0", "restore_method",
			      "method", "stop-restore-start", "writer_restore", "never",
			      "components");

	if (!d || db->ops->describe(db, files, d) != 0) {
		json_decref(d);
		return NULL;
	}
	return d;
}

/* Connects, asks, and lets go again. */
static int make_document(struct database *db)
{
	CLEANUP(db_files_done) struct db_files files = { 0 };
	json_t *d = NULL;

	if (db->ops->connect(db) == 0 && db->ops->find(db, &files) == 0)
		d = new_document(db, &files);
	db->ops->let_go(db);
	if (!d)
		return 1;
	json_decref(db->document);
	db->document = d;
	return 0;
}

static int on_identify(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	struct database *db = data;
	CLEANUP(free_p) char *text = NULL;

	begin(db, w, e, true);
	/* While something is under way its session is not touched (W-10). */
	if (db->phase != DB_PREPARED && db->phase != DB_FROZEN && make_document(db) != 0)
		return 1;
	if (!db->document)
		return 1;
	text = json_dumps(db->document, JSON_COMPACT);
	return text && umbra_writer_set_document(w, text) == 0 ? 0 : 1;
}

static int prepare(struct database *db)
{
	CLEANUP(db_files_done) struct db_files files = { 0 };
	const struct db_file *missing = NULL;
	size_t n;

	if (db->ops->connect(db) != 0 || db->ops->find(db, &files) != 0)
		return 1;
	n = count_in_set(db->w, &files, &missing);
	if (n == 0) {
		log_debug("nothing of ours is in this set");
		db->ops->let_go(db);
		db->phase = DB_ELSEWHERE;
		return 0;
	}
	if (n < files.count)
		return fail_partly(db, missing);
	if (db->ops->server_fd && check_server(db, db->ops->server_fd(db), files.list[0].path) != 0)
		return 1;
	if (db->ops->prepare && db->ops->prepare(db) != 0)
		return 1;
	db->phase = DB_PREPARED;
	return 0;
}

static int on_prepare(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	struct database *db = data;

	begin(db, w, e, true);
	let_go(db);
	snprintf(db->session_id, sizeof(db->session_id), "%s", e->session_id ? e->session_id : "");
	if (prepare(db) == 0)
		return 0;
	let_go(db);
	return 1;
}

static int on_freeze(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	struct database *db = data;
	int limit_ms = writer_limit_ms(&db->program, e);

	if (db->phase == DB_ELSEWHERE)
		return 0;
	begin(db, w, e, true);
	if ((int64_t)db->lock_wait_ms < limit_ms)
		set_limit(db, (int)db->lock_wait_ms);
	if (db->phase != DB_PREPARED)
		return db_fail(db, UMBRA_WRITER_RETRYABLE,
			       "Freeze came without PrepareForSnapshot");
	if (db->ops->connect(db) == 0 && db->ops->freeze(db) == 0) {
		db->phase = DB_FROZEN;
		return 0;
	}
	let_go(db);
	return 1;
}

static int on_thaw(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	struct database *db = data;
	int r = 0;

	/* Not frozen: the abort handler may call this, and so may who has nothing in the set. */
	begin(db, w, e, false);
	if (db->phase == DB_FROZEN)
		r = db->ops->thaw(db);
	let_go(db);
	return r;
}

static int on_abort(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	struct database *db = data;

	begin(db, w, e, false);
	if (db->phase != DB_IDLE && is_ours(db, e)) {
		log_info("aborted%s%s", e->origin ? " by the " : "", e->origin ? e->origin : "");
		let_go(db);
	}
	return 0;
}

/* ---- the program */

void db_init(struct database *db, const struct db_ops *ops, const char *label)
{
	db->ops = ops;
	db->label = label;
	db->lock_wait_ms = LOCK_WAIT_MS;
	db->program.name = label;
	db->program.usage = "system-service";
	db->program.source = "transacted-db";
	db->program.level = UMBRA_LEVEL_BACK_END;
}

int db_getopt(struct database *db, int argc, char **argv)
{
	char *end;
	unsigned long n;
	int c = writer_getopt(&db->program, argc, argv);

	while (c == DB_OPT_LOCK_WAIT) {
		n = strtoul(optarg, &end, 10);
		if (end == optarg || *end || *optarg == '-' || n < 1 || n > 3600) {
			db->program.status =
				writer_usage(&db->program,
					     "--lock-wait is a number of seconds from 1 to 3600");
			return WRITER_EXIT;
		}
		db->lock_wait_ms = (uint32_t)n * 1000;
		c = writer_getopt(&db->program, argc, argv);
	}
	return c;
}

int db_serve(struct database *db)
{
	static const struct umbra_writer_handlers handlers = {
		.size = sizeof(handlers),
		.identify = on_identify,
		.prepare_for_snapshot = on_prepare,
		.freeze = on_freeze,
		.thaw = on_thaw,
		.abort = on_abort,
	};
	int r = writer_serve(&db->program, &handlers, db);

	json_decref(db->document);
	db->document = NULL;
	return r;
}
