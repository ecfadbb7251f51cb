/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra writer exec: one command that holds a lock for as long as its standard input is open. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "cow/base/clock.h"
#include "cow/base/err.h"
#include "tools/path.h"
#include "tools/writer/child.h"
#include "tools/writer/freezer.h"
#include "tools/writer/kinds.h"

#define LEFTOVER_GRACE_MS 5000

struct locker {
	struct freezer f; /* first: the handlers get it */
	char *const *argv;
	const char *ready_line;
	bool early; /* started in PrepareForSnapshot */

	struct child child;
	bool running; /* child is there, ended or not */
	bool ready;
	char session[64]; /* for which it was started */
};

static void on_line(struct child *c, bool is_error, const char *text)
{
	struct locker *l = c->data;

	if (!is_error && strcmp(text, l->ready_line) == 0)
		l->ready = true;
	else if (*text)
		log_info("%s: %s", LOG_QUOTE(c->name), LOG_QUOTE(text));
}

/* Let it go on: it ends at the end of its input. Returns its exit status, or -ETIMEDOUT: it had to
 * be killed. */
static int end(struct locker *l, uint64_t deadline_ns)
{
	int r;

	child_close_input(&l->child);
	while ((r = child_step(&l->child, deadline_ns, false)) == 0)
		;
	child_done(&l->child); /* kills what is still there */
	l->running = false;
	l->session[0] = '\0';
	return r == 1 ? l->child.status : r;
}

static const char *why(const struct locker *l, int r, char *buf, size_t size)
{
	return child_why(&l->child, r, buf, size);
}

static void clear_mark(struct locker *l)
{
	int r = writer_mark_clear(l->f.mark);

	if (r < 0)
		log_warn("cannot remove the note of what was started: %s", err_text(r));
}

/* It did not get ready: nothing of it may stay. */
static int give_up(struct locker *l, struct umbra_writer *w, int r)
{
	char buf[CHILD_LINE + 64];

	child_done(&l->child);
	clear_mark(l);
	l->running = false;
	l->session[0] = '\0';
	return writer_fail(w, child_code(r), "%s did not get ready: %s", LOG_QUOTE(l->child.name),
			   why(l, r, buf, sizeof(buf)));
}

/* The number a process has, and when it began: together they name it, for the mark. */
static int identify(pid_t pid, char *buf, size_t size)
{
	char path[64], line[1024];
	CLEANUP(fclose_p) FILE *f = NULL;
	unsigned long long began;
	char *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f || !fgets(line, sizeof(line), f))
		return -ESRCH;
	p = strrchr(line, ')'); /* the name in brackets may hold anything */
	/* Field 22, starttime; the 3rd follows the bracket (proc_pid_stat(5)). */
	if (!p || sscanf(p + 1,
			 " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
			 "%*d %*d %*d %llu",
			 &began) != 1)
		return -EINVAL;
	snprintf(buf, size, "%d %llu", (int)pid, began);
	return 0;
}

/* Start it and wait until it says that it is ready. */
static int start(struct locker *l, struct umbra_writer *w, const struct umbra_writer_event *e,
		 uint64_t deadline_ns)
{
	CLEANUP(strv_free_p) char **env = child_env(w, e);
	char id[64];
	int r;

	if (!env)
		return writer_fail(w, UMBRA_WRITER_OUT_OF_RESOURCES, "out of memory");
	l->child = (struct child){
		.argv = l->argv, .env = env, .keep_open = true, .line = on_line, .data = l
	};
	l->ready = false;
	r = child_start(&l->child);
	if (r < 0)
		return writer_fail(w, child_code(r), "%s cannot be run: %s", LOG_QUOTE(l->argv[0]),
				   err_text(r));
	l->running = true;
	snprintf(l->session, sizeof(l->session), "%s", e->session_id ? e->session_id : "");
	/* Killed before this, we leave a closed pipe: it ends by that. The mark is for one that does
	 * not. */
	r = identify(l->child.pid, id, sizeof(id));
	if (r == 0)
		r = writer_mark_set(l->f.mark, id);
	if (r < 0)
		return give_up(l, w, r);
	while (!l->ready) {
		r = child_step(&l->child, deadline_ns, true);
		if (r < 0)
			return give_up(l, w, r);
		if (r == 1 && !l->ready)
			return give_up(l, w, l->child.status);
	}
	return 0;
}

static int on_prepare(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	struct locker *l = data;

	if (!l->early || l->running)
		return 0;
	return start(l, w, e, clock_deadline_ms((uint64_t)writer_limit_ms(&l->f.p, e)));
}

/* It ended without being asked: what it locked was free for some time. */
static int ended_early(struct locker *l, struct umbra_writer *w)
{
	char buf[CHILD_LINE + 64];

	(void)end(l, clock_mono_ns());
	clear_mark(l);
	return writer_fail(w, UMBRA_WRITER_INCONSISTENT_SNAPSHOT,
			   "%s ended while its lock was needed: %s", LOG_QUOTE(l->child.name),
			   why(l, l->child.status, buf, sizeof(buf)));
}

static int on_freeze(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	struct locker *l = data;

	if (!l->running)
		return start(l, w, e, clock_deadline_ms((uint64_t)writer_limit_ms(&l->f.p, e)));
	return child_ended(&l->child) ? ended_early(l, w) : 0;
}

static int on_thaw(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	struct locker *l = data;
	char buf[CHILD_LINE + 64];
	int r;

	if (!l->running)
		return 0;
	/* Before its input is closed: afterwards its end is what is wanted. */
	if (child_ended(&l->child))
		return ended_early(l, w);
	r = end(l, clock_deadline_ms((uint64_t)writer_limit_ms(&l->f.p, e)));
	clear_mark(l);
	if (r == 0)
		return 0;
	/* Many a client only notices at the end that its lock was lost long before. */
	return writer_fail(w,
			   r == -ETIMEDOUT ? UMBRA_WRITER_TIMEOUT
					   : UMBRA_WRITER_INCONSISTENT_SNAPSHOT,
			   "%s at the end of its lock: %s", LOG_QUOTE(l->child.name),
			   why(l, r, buf, sizeof(buf)));
}

/* Abort, and the end of a session whose Freeze never came. */
static int on_abort(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	struct locker *l = data;

	if (l->running && e->session_id && strcmp(e->session_id, l->session) != 0)
		return 0; /* another session's (W-11) */
	if (l->running)
		(void)end(l, clock_deadline_ms((uint64_t)writer_limit_ms(&l->f.p, e)));
	clear_mark(l);
	return 0;
}

/* Whether any process of this group still runs: it may be that one which has the lock. */
static bool group_lives(pid_t group)
{
	CLEANUP(closedir_p) DIR *proc = NULL;
	const struct dirent *e;

	if (kill(-group, 0) < 0)
		return false;
	proc = opendir("/proc");
	while (proc && (e = readdir(proc))) {
		char path[300], line[1024], state, *p;
		CLEANUP(fclose_p) FILE *f = NULL;
		int of = 0;

		if (e->d_name[0] < '1' || e->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/stat", e->d_name);
		f = fopen(path, "re");
		if (!f || !fgets(line, sizeof(line), f))
			continue;
		p = strrchr(line, ')');
		if (p && sscanf(p + 1, " %c %*d %d", &state, &of) == 2 && of == group &&
		    state != 'Z' && state != 'X')
			return true;
	}
	return false;
}

static bool group_ends_by(pid_t group, uint64_t deadline_ns)
{
	while (group_lives(group)) {
		if (clock_expired(deadline_ns))
			return false;
		(void)poll(NULL, 0, 10); /* nobody tells of the end of a whole group */
	}
	return true;
}

/* What an earlier run started: its input is closed, and still it runs. */
static int kill_leftover(struct freezer *f, struct umbra_writer *w,
			 const struct umbra_writer_event *e, uint64_t deadline_ns)
{
	const char *left = writer_mark_left(f->mark);
	char now[64] = "";
	int pid = 0;

	if (sscanf(left, "%d", &pid) != 1 || pid <= 1 || identify(pid, now, sizeof(now)) < 0 ||
	    strcmp(now, left) != 0)
		return 0; /* gone, or another by now */
	for (int i = 0; i < 2; i++) {
		kill(-pid, i ? SIGKILL : SIGTERM);
		if (group_ends_by(pid, clock_deadline_ms(LEFTOVER_GRACE_MS)))
			return 0;
	}
	return writer_fail(w, UMBRA_WRITER_NON_RETRYABLE, "process %d cannot be ended", pid);
}

/* The whole command, to tell one from another that runs the same program. */
static char *join(char *const *argv)
{
	size_t size = 1;
	char *text, *p;

	for (char *const *a = argv; *a; a++)
		size += strlen(*a) + 1;
	text = p = malloc(size);
	for (char *const *a = argv; text && *a; a++)
		p += sprintf(p, a == argv ? "%s" : " %s", *a);
	return text;
}

enum { OPT_EARLY = WRITER_OPT_OWN, OPT_READY };

int writer_exec_run(int argc, char **argv)
{
	static const struct option options[] = { { "early", 0, NULL, OPT_EARLY },
						 { "ready", 1, NULL, OPT_READY },
						 { 0 } };
	struct locker l = {
		.f = {
			.p = {
				.kind = "exec",
				.args = "-- COMMAND [ARGUMENT]...",
				.summary = "run a command that holds a lock while a snapshot is taken",
				.help = "  --early           start it before anything freezes, where it may take longer\n"
					"  --ready LINE      what it prints when it has its lock (ready)\n\n"
					"COMMAND takes its lock, prints the line \"ready\" and keeps the lock until its\n"
					"standard input ends; then it lets go and exits with status 0. Should it end before\n"
					"that, the snapshot is reported as inconsistent.\n\n"
					"Example: umbra writer exec -- flock /srv/app/lock sh -c 'echo ready; cat'\n",
				.options = options,
				.has_command = true,
			},
			.handlers = {
				.prepare_for_snapshot = on_prepare,
				.freeze = on_freeze,
				.thaw = on_thaw,
				.abort = on_abort,
				.backup_shutdown = on_abort,
			},
			.thaw = kill_leftover,
		},
		.ready_line = "ready",
	};
	CLEANUP(free_p) char *key = NULL;
	int c;

	while ((c = writer_getopt(&l.f.p, argc, argv)) >= WRITER_OPT_OWN) {
		if (c == OPT_EARLY)
			l.early = true;
		else
			l.ready_line = optarg;
	}
	if (c == WRITER_EXIT)
		return l.f.p.status;
	if (argc == optind)
		return writer_usage(&l.f.p, "a command is needed");
	if (!*l.ready_line)
		return writer_usage(&l.f.p, "--ready needs a line");
	l.argv = argv + optind;
	if (!l.f.p.instance)
		l.f.p.instance = path_last(l.argv[0]);
	key = join(l.argv);
	if (!key)
		return tool_no_memory();
	return freezer_run(&l.f, key);
}
