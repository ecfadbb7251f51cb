/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/main.c - umbrafs: arguments, daemon, signals. `umbra protect` runs it. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/base/err.h"
#include "cow/base/log.h"
#include "cow/base/path.h"
#include "fs/creds.h"
#include "fs/idmap.h"
#include "fs/loop.h"
#include "fs/mount.h"
#include "fs/mountwatch.h"
#include "fs/provider.h"
#include "fs/reclaim.h"

#define NODES_MAX 100000u
#define EXIT_USAGE 2

static const char help[] =
	"Usage: umbrafs [OPTION...] DIR\n"
	"Protect a directory: mount the overlay over DIR that makes snapshots of it possible.\n"
	"Normally run by 'umbra protect', which has the same options.\n"
	"\n"
	"  -f                     stay in the foreground\n"
	"  --store DIR            keep preserved data there (default: DIR/.umbra)\n"
	"  --max-store SIZE|PCT   most preserved data, e.g. 10G or 10% (default: no limit)\n"
	"  --snapshots HOW        hidden: DIR/.snapshots can be entered but is not listed (default);\n"
	"                         visible: it is listed too; off: there is no such name\n"
	"  --allow-other          let other users in (root always does)\n"
	"  --coordinator SOCKET   where the coordinator listens\n"
	"  --log FILE             write messages there (default: syslog, or standard error with -f)\n"
	"  --ready-fd N           write 'ok' or 'error: ...' to descriptor N once that is known\n"
	"  --help                 this text\n"
	"\n"
	"The name .umbra in DIR is the store's: it is not shown and cannot be made. Reading does not update\n"
	"access times. SIGTERM unmounts; live files stay as they are.\n"
	"\n"
	"Example: umbrafs --max-store 20% /srv/db\n";

/* ---- arguments ---- */

static int usage_error(const char *what, const char *arg)
{
	fprintf(stderr, "umbrafs: %s%s (try: umbrafs --help)\n", what, arg);
	return -EINVAL;
}

static int parse_shown(const char *text, enum fs_shown *ret)
{
	static const char *const words[] = { "hidden", "visible", "off" };

	for (unsigned i = 0; i < 3; i++)
		if (strcmp(text, words[i]) == 0) {
			*ret = (enum fs_shown)i;
			return 0;
		}
	return usage_error("--snapshots is hidden, visible or off, not ", text);
}

static int parse_fd(const char *text, int *ret)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (*end || end == text || n < 0 || n > 1 << 20 || fcntl((int)n, F_GETFD) < 0)
		return usage_error("--ready-fd is no open descriptor: ", text);
	*ret = (int)n;
	return 0;
}

/* 0, -EINVAL after a message, or 1 when all is done (--help). */
static int parse_args(int argc, char **argv, struct fs_options *opt)
{
	enum { STORE = 256, MAX_STORE, SNAPSHOTS, ALLOW_OTHER, COORDINATOR, LOG, READY_FD, HELP };
	static const struct option longs[] = {
		{ "store", required_argument, NULL, STORE },
		{ "max-store", required_argument, NULL, MAX_STORE },
		{ "snapshots", required_argument, NULL, SNAPSHOTS },
		{ "allow-other", no_argument, NULL, ALLOW_OTHER },
		{ "coordinator", required_argument, NULL, COORDINATOR },
		{ "log", required_argument, NULL, LOG },
		{ "ready-fd", required_argument, NULL, READY_FD },
		{ "help", no_argument, NULL, HELP },
		{ 0 },
	};
	int c, r = 0;

	while (r == 0 && (c = getopt_long(argc, argv, "fh", longs, NULL)) != -1) {
		switch (c) {
		case 'f':
			opt->foreground = true;
			break;
		case STORE:
			opt->store_dir = optarg;
			break;
		case MAX_STORE:
			opt->max_store = optarg;
			break;
		case SNAPSHOTS:
			r = parse_shown(optarg, &opt->shown);
			break;
		case ALLOW_OTHER:
			opt->allow_other = true;
			break;
		case COORDINATOR:
			opt->coordinator = optarg;
			break;
		case LOG:
			opt->log_file = optarg;
			break;
		case READY_FD:
			r = parse_fd(optarg, &opt->ready_fd);
			break;
		case 'h':
		case HELP:
			fputs(help, stdout);
			return 1;
		default:
			return -EINVAL;
		}
	}
	if (r == 0 && optind != argc - 1)
		return usage_error(optind < argc ? "one directory at a time" : "which directory?",
				   "");
	opt->dir = argv[optind];
	return r;
}

/* ---- being a daemon ---- */

/* What the parent waits for. */
struct readiness {
	int fd;	       /* --ready-fd, or -1 */
	int parent_fd; /* pipe to the parent: one byte, its exit status; -1 in the foreground */
};

static void say(int fd, const char *text)
{
	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		return; /* nobody listens any more */
}

/* `why` NULL: ready. */
static void report(struct readiness *rd, const char *why)
{
	char line[FS_WHY_SIZE + 16];
	char status = why ? 1 : 0;

	if (why)
		snprintf(line, sizeof(line), "error: %s\n", why);
	say(rd->fd, why ? line : "ok\n");
	if (why && rd->fd < 0)
		fprintf(stderr, "umbrafs: %s\n", why);
	if (rd->parent_fd >= 0 && write(rd->parent_fd, &status, 1) < 0)
		log_debug("the starting process is gone");
	close_p(&rd->fd);
	close_p(&rd->parent_fd);
	rd->fd = rd->parent_fd = -1;
}

/* In the parent, until the child is ready or gone. */
static int wait_for_child(int fd, pid_t pid)
{
	char status = 1;

	if (read(fd, &status, 1) != 1) {
		fprintf(stderr, "umbrafs: the daemon died while starting (see its log)\n");
		waitpid(pid, NULL, WNOHANG);
	}
	return status;
}

/* Returns in the child; the parent leaves with the child's verdict. */
static int daemonize(struct readiness *rd)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid > 0) {
		close(fds[1]);
		_exit(wait_for_child(fds[0], pid));
	}
	close(fds[0]);
	setsid();
	rd->parent_fd = fds[1];
	return 0;
}

static void detach_stdio(void)
{
	int fd = open("/dev/null", O_RDWR);

	if (fd < 0)
		return;
	dup2(fd, 0);
	dup2(fd, 1);
	dup2(fd, 2);
	if (fd > 2)
		close(fd);
}

/* H-2: never into the tree itself, whichever name leads there. */
static bool lies_in(const struct fs *fs, const char *file)
{
	CLEANUP(free_p) char *copy = strdup(file);
	CLEANUP(free_p) char *dir = copy ? realpath(dirname(copy), NULL) : NULL;

	return dir && path_below(fs->path, dir);
}

static int open_log(const struct fs *fs, const struct fs_options *opt, char *why, size_t why_len)
{
	int fd;

	if (!opt->log_file) {
		if (!opt->foreground)
			log_to_syslog();
		return 0;
	}
	if (lies_in(fs, opt->log_file)) {
		snprintf(why, why_len,
			 "--log %s lies in the protected directory (name a file outside)",
			 opt->log_file);
		return -EINVAL;
	}
	fd = open(opt->log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0) {
		snprintf(why, why_len, "--log %s cannot be written: %s", opt->log_file,
			 err_text(errno));
		return -EIO;
	}
	log_to_fd(fd);
	return 0;
}

/* ---- signals ---- */

static void block_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* ---- the daemon's life ---- */

struct service {
	struct fs_loop loop;
	struct fs_reclaim *reclaim;
	bool threads_left; /* of the provider's, which wait for mount points of others; set while ending */
};

/* Drops are reported by any thread, also before the provider is there and while it ends. */
static pthread_rwlock_t provider_lock = PTHREAD_RWLOCK_INITIALIZER; /* guards the_provider */
static struct fs_provider *the_provider;

static void on_drop(void *userdata, const struct cow_snapshot *snap, enum cow_drop_cause cause)
{
	pthread_rwlock_rdlock(&provider_lock);
	if (the_provider)
		fs_provider_dropped(the_provider, snap, cause);
	pthread_rwlock_unlock(&provider_lock);
}

static void on_owner_changed(void)
{
	pthread_rwlock_rdlock(&provider_lock);
	if (the_provider)
		fs_provider_owner_changed(the_provider);
	pthread_rwlock_unlock(&provider_lock);
}

/* Returns the one before. */
static struct fs_provider *set_provider(struct fs_provider *p)
{
	struct fs_provider *was;

	pthread_rwlock_wrlock(&provider_lock);
	was = the_provider;
	the_provider = p;
	pthread_rwlock_unlock(&provider_lock);
	return was;
}

/* By hand, by umbra unprotect --force, or where another mount namespace has a copy: then the loop would serve on, while
 * everybody else changes what is below (I-4). */
static void on_mount_gone(void *userdata)
{
	struct fs *fs = userdata;

	cow_store_unwatched(fs->store);
	kill(getpid(), SIGTERM); /* nobody takes it where the loop has ended, too */
}

/* While the loop still serves, unless the mount is gone: their notices may wait in the kernel for a directory that a
 * look-up holds, and that is waiting for us. */
static void stop_helpers(struct service *sv)
{
	sv->threads_left = !fs_provider_stop(set_provider(NULL));
	fs_reclaim_stop(sv->reclaim);
}

/* Ends everything on a signal; the main thread sends SIGHUP after a loop that ended by itself. */
static void *signal_thread(void *arg)
{
	struct service *sv = arg;
	sigset_t set;
	int sig;

	block_signals(&set);
	while (sigwait(&set, &sig) != 0 || (sig == SIGHUP && atomic_load(&sv->loop.state) != 2))
		;
	stop_helpers(sv);
	if (atomic_load(&sv->loop.state) != 2)
		fs_loop_stop(&sv->loop);
	return NULL;
}

static int serve(struct fs *fs, const struct fs_options *opt, struct readiness *rd,
		 bool *ret_threads_left)
{
	struct service sv = { .loop.se = fs->se };
	struct fs_provider *provider = fs_provider_start(fs, opt->coordinator);
	struct fs_mountwatch *watch;
	pthread_t signals;
	int r;

	sv.reclaim = fs_reclaim_start(fs, NODES_MAX);
	set_provider(provider);
	fs->owner_changed = on_owner_changed;
	if (!sv.reclaim || !provider || pthread_create(&signals, NULL, signal_thread, &sv) != 0) {
		report(rd, "out of memory");
		stop_helpers(&sv);
		*ret_threads_left = sv.threads_left;
		return -ENOMEM;
	}
	watch = fs_mountwatch_start(fs->path, on_mount_gone, fs);
	if (!watch)
		log_debug("the mount table cannot be watched");
	report(rd, NULL);
	if (!opt->foreground)
		detach_stdio();
	log_info("%s is protected", LOG_QUOTE(fs->path));
	r = fs_loop_run(&sv.loop);
	cow_store_unwatched(fs->store);
	fs_mountwatch_stop(watch);
	pthread_kill(signals, SIGHUP);
	pthread_join(signals, NULL);
	*ret_threads_left = sv.threads_left;
	return r;
}

static int run(const struct fs_options *opt, struct readiness *rd)
{
	char why[FS_WHY_SIZE] = "";
	size_t fds_max = fs_creds_start();
	struct fs fs = { 0 };
	bool threads_left = false;
	int r, closed;

	fs_idmap_start();
	fs_on_drop = on_drop;
	r = fs_world_open(&fs, opt, fds_max, why, sizeof(why));
	if (r < 0) {
		report(rd, why);
		return r;
	}
	r = open_log(&fs, opt, why, sizeof(why));
	if (chdir("/") < 0)
		log_debug("chdir: %s", err_text(-errno));
	if (r == 0)
		r = fs_world_mount(&fs, opt, why, sizeof(why));
	if (r < 0)
		report(rd, why);
	else
		r = serve(&fs, opt, rd, &threads_left);
	fs_world_unmount(&fs);
	closed = fs_world_close(&fs);
	if (closed < 0)
		log_error("the store was not closed cleanly: %s", err_text(closed));
	else
		log_info("unmounted");
	if (threads_left)
		_exit(r < 0 ||
		      closed < 0); /* exit(3) might wait for them; all that is ours is closed */
	return r < 0 ? r : closed;
}

int main(int argc, char **argv)
{
	struct fs_options opt = { .ready_fd = -1 };
	struct readiness rd = { .fd = -1, .parent_fd = -1 };
	sigset_t set;
	int r;

	log_set_prefix("umbrafs");
	r = parse_args(argc, argv, &opt);
	if (r != 0)
		return r < 0 ? EXIT_USAGE : 0;
	rd.fd = opt.ready_fd;
	if (rd.fd >= 0)
		fcntl(rd.fd, F_SETFD, FD_CLOEXEC);
	if (!opt.foreground && (r = daemonize(&rd)) < 0) {
		fprintf(stderr, "umbrafs: cannot start: %s\n", err_text(r));
		return 1;
	}
	mallopt(M_ARENA_MAX, 4); /* many server threads, little memory */
	block_signals(&set);
	fs_loop_start_up();
	return run(&opt, &rd) < 0 ? 1 : 0;
}
