/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra-coordinator: options, going to the background, and then the loop. */
#include "coordinator/client/client.h"
#include "coordinator/logging.h"
#include "coordinator/server.h"
#include "cow/base/cleanup.h"
#include "cow/base/err.h"
#include "cow/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct options {
	bool foreground, system;
	const char *socket, *log, *group;
	int ready_fd;
	double idle_exit_s; /* negative: not given */
	struct coord_limits limits;
};

/* What announces that the socket accepts. */
struct ready {
	int user_fd;   /* --ready-fd, or -1 */
	int parent_fd; /* of the program's own start in the background, or -1 */
};

static void usage(FILE *out)
{
	fputs("usage: umbra-coordinator [-f] [--socket PATH] [--ready-fd N] [--idle-exit SECONDS] [--log FILE]\n"
	      "                         [--system] [--group NAME] [-v]\n"
	      "  -f, --foreground      stay in the foreground, log to standard error\n"
	      "  --socket PATH         listen here (default: $UMBRA_SOCKET, /run/umbra/coordinator for root,\n"
	      "                        else $XDG_RUNTIME_DIR/umbra/coordinator)\n"
	      "  --ready-fd N          write the line ok to descriptor N when connections are accepted\n"
	      "  --idle-exit SECONDS   exit when nothing was connected for so long; 0: never\n"
	      "                        (default: 60, with -f 0)\n"
	      "  --log FILE            log here (default: syslog, with -f standard error)\n"
	      "  --system              serve other users too, each for the trees he owns\n"
	      "                        (default for root on /run/umbra/coordinator)\n"
	      "  --group NAME          with --system: members of this group may do all that root may\n"
	      "  --limit NAME=SECONDS  another time limit than the protocol's: hold, flush, prepare, commit,\n"
	      "                        delete, slot-started, slot, identify, event, end; may be repeated\n"
	      "  -v, --verbose         log more\n",
	      out);
}

enum {
	OPT_SOCKET = 256,
	OPT_READY_FD,
	OPT_IDLE_EXIT,
	OPT_LOG,
	OPT_SYSTEM,
	OPT_GROUP,
	OPT_LIMIT,
	OPT_HELP,
	OPT_VERSION
};

static const struct option long_options[] = {
	{ "foreground", no_argument, NULL, 'f' },
	{ "verbose", no_argument, NULL, 'v' },
	{ "socket", required_argument, NULL, OPT_SOCKET },
	{ "ready-fd", required_argument, NULL, OPT_READY_FD },
	{ "idle-exit", required_argument, NULL, OPT_IDLE_EXIT },
	{ "log", required_argument, NULL, OPT_LOG },
	{ "system", no_argument, NULL, OPT_SYSTEM },
	{ "group", required_argument, NULL, OPT_GROUP },
	{ "limit", required_argument, NULL, OPT_LIMIT },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ 0 },
};

static int parse_number(const char *text, double max, double *ret)
{
	char *end;

	errno = 0;
	*ret = strtod(text, &end);
	return errno || end == text || *end || !isfinite(*ret) || *ret < 0 || *ret > max ? -EINVAL
											 : 0;
}

/* "event=2.5" */
static int parse_limit(struct coord_limits *limits, const char *text)
{
	const char *equals = strchr(text, '=');
	char name[32];
	double seconds;
	int r;

	if (!equals || (size_t)(equals - text) >= sizeof(name) ||
	    parse_number(equals + 1, 1e6, &seconds) < 0) {
		log_error("--limit: %s is not NAME=SECONDS", LOG_QUOTE(text));
		return 2;
	}
	memcpy(name, text, (size_t)(equals - text));
	name[equals - text] = 0;
	r = coord_limits_set(limits, name, (uint64_t)(seconds * 1000));
	if (r == 0)
		return -1;
	log_error(r == -ENOENT ? "--limit: there is no limit %s"
			       : "--limit: %s is too short or too long (a hold: at most 10)",
		  LOG_QUOTE(text));
	return 2;
}

/* Returns -1 go on, or the exit status. */
static int parse(int argc, char **argv, struct options *opt)
{
	double number;
	int c;

	while ((c = getopt_long(argc, argv, "fv", long_options, NULL)) != -1) {
		switch (c) {
		case 'f':
			opt->foreground = true;
			break;
		case 'v':
			log_set_level(LOG_LEVEL_DEBUG);
			break;
		case OPT_SOCKET:
			opt->socket = optarg;
			break;
		case OPT_READY_FD:
			if (parse_number(optarg, 1e6, &number) < 0 ||
			    fcntl((int)number, F_GETFD) < 0) {
				log_error("--ready-fd: %s is not an open descriptor",
					  LOG_QUOTE(optarg));
				return 2;
			}
			opt->ready_fd = (int)number;
			break;
		case OPT_IDLE_EXIT:
			if (parse_number(optarg, 1e9, &opt->idle_exit_s) < 0) {
				log_error("--idle-exit: %s is not a number of seconds",
					  LOG_QUOTE(optarg));
				return 2;
			}
			break;
		case OPT_LOG:
			opt->log = optarg;
			break;
		case OPT_SYSTEM:
			opt->system = true;
			break;
		case OPT_GROUP:
			opt->group = optarg;
			break;
		case OPT_LIMIT:
			if (parse_limit(&opt->limits, optarg) >= 0)
				return 2;
			break;
		case OPT_HELP:
			usage(stdout);
			return 0;
		case OPT_VERSION:
			puts("umbra-coordinator " UMBRA_VERSION);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (optind < argc) {
		log_error("%s is one argument too many", LOG_QUOTE(argv[optind]));
		return 2;
	}
	return -1;
}

/* Absolute, since we leave the directory we were started in: it may be in a tree. */
static int absolute_path(const char *path, char *ret, size_t size)
{
	char cwd[PATH_MAX];
	int n;

	if (path[0] == '/')
		n = snprintf(ret, size, "%s", path);
	else if (getcwd(cwd, sizeof(cwd)))
		n = snprintf(ret, size, "%s/%s", cwd, path);
	else
		return -errno;
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

static int socket_path(const struct options *opt, char *ret, size_t size)
{
	char path[PATH_MAX];
	int r;

	if (opt->socket)
		return absolute_path(opt->socket, ret, size);
	r = umbra_socket_path(true, path, sizeof(path));
	return r < 0 ? r : absolute_path(path, ret, size);
}

/* Descriptors 0 to 2 must not be a socket of ours by accident, nor keep the caller's terminal. */
static void detach(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	for (int i = 0; i <= 2; i++)
		(void)dup2(fd, i);
	if (fd > 2)
		close(fd);
}

static void announce(int *fd)
{
	if (*fd < 0)
		return;
	while (write(*fd, "ok\n", 3) < 0 && errno == EINTR)
		;
	close_p(fd);
	*fd = -1;
}

static void on_ready(void *data)
{
	struct ready *ready = data;

	if (ready->parent_fd >= 0) {
		coord_logging_to_syslog();
		detach();
	}
	announce(&ready->user_fd);
	announce(&ready->parent_fd);
}

/* In the child: 0 and the descriptor to announce on. The parent waits for that and exits. */
static int to_background(int *ret_fd)
{
	int ends[2];
	char word;
	ssize_t n;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		close(ends[0]);
		*ret_fd = ends[1];
		(void)setsid();
		return 0;
	}
	close(ends[1]);
	do
		n = read(ends[0], &word, 1);
	while (n < 0 && errno == EINTR);
	_exit(n == 1 ? 0 : 1); /* the child has said why */
}

static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int find_group(const char *name, gid_t *ret)
{
	const struct group *group;

	*ret = (gid_t)-1;
	if (!name)
		return 0;
	group = getgrnam(name);
	if (!group)
		return -ENOENT;
	*ret = group->gr_gid;
	return 0;
}

static int fail(const char *what, int r)
{
	log_error("%s: %s", what, err_text(r));
	return 1;
}

static int serve(const struct options *opt, const char *path, struct ready *ready)
{
	struct coord_server_options server = {
		.socket_path = path,
		.system = opt->system ||
			  (geteuid() == 0 && strcmp(path, "/run/umbra/coordinator") == 0),
		.idle_exit_s = opt->idle_exit_s >= 0 ? opt->idle_exit_s
			       : opt->foreground     ? 0
						     : 60,
		.limits = &opt->limits,
		.ready = on_ready,
		.ready_data = ready,
	};
	int r = find_group(opt->group, &server.group);

	if (r < 0)
		return fail("--group", r);
	if (chdir("/") < 0)
		return fail("/", -errno);
	signal(SIGPIPE, SIG_IGN); /* D-9 */
	signal(SIGHUP, SIG_IGN);
	raise_file_limit();
	r = coord_server_run(&server);
	if (r == -EBUSY) {
		log_error("another coordinator serves %s already", LOG_QUOTE(path));
		return 1;
	}
	return r < 0 ? fail(path, r) : 0;
}

int main(int argc, char **argv)
{
	struct options opt = { .ready_fd = -1, .idle_exit_s = -1 };
	struct ready ready = { .user_fd = -1, .parent_fd = -1 };
	char path[PATH_MAX], log_path[PATH_MAX];
	int r;

	log_set_prefix("umbra-coordinator");
	coord_limits_init(&opt.limits);
	r = parse(argc, argv, &opt);
	if (r >= 0)
		return r;
	r = socket_path(&opt, path, sizeof(path));
	if (r < 0)
		return fail("no place for the socket", r);
	r = opt.log ? absolute_path(opt.log, log_path, sizeof(log_path)) : 0;
	if (r < 0)
		return fail(opt.log, r);
	ready.user_fd = opt.ready_fd;
	if (ready.user_fd >= 0)
		(void)fcntl(ready.user_fd, F_SETFD, FD_CLOEXEC);
	if (!opt.foreground) {
		r = to_background(&ready.parent_fd);
		if (r < 0)
			return fail("cannot go to the background", r);
	}
	r = coord_logging_start(opt.log ? log_path : NULL);
	if (r < 0)
		return fail(opt.log ? log_path : "log", r);
	return serve(&opt, path, &ready);
}
