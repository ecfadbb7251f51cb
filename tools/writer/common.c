/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/writer/common.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <uuid/uuid.h>
#ifdef HAVE_LIBSYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "coordinator/client/writer_private.h"
#include "cow/base/clock.h"
#include "cow/base/err.h"

#define WINDOW_MS 60000	  /* T-1 */
#define WINDOW_MAX_S 3600 /* the coordinator takes no longer one */
#define LIMIT_MAX_S 86400
#define LONG_MS 600000 /* T-6 */
#define SHORT_MS 60000 /* T-7 */
#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 2000

DEFINE_CLEANUP(umbra_writer_free_p, struct umbra_writer *, umbra_writer_free)

/* ---- signals */

static int signal_fd = -1;
static bool stopping;

static int catch_signals(void)
{
	sigset_t set;

	if (signal_fd >= 0)
		return 0;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return signal_fd < 0 ? -errno : 0;
}

int writer_signal_fd(void)
{
	return signal_fd;
}

bool writer_stopping(void)
{
	struct signalfd_siginfo info;

	/* SIGCHLD only wakes: who has a child asks for it by its number. */
	while (signal_fd >= 0 && read(signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo != SIGCHLD)
			stopping = true;
	}
	return stopping;
}

/* ---- options */

enum {
	OPT_NAME = TOOL_OPT_OWN,
	OPT_INSTANCE,
	OPT_CLASS,
	OPT_LEVEL,
	OPT_WINDOW,
	OPT_LIMIT,
	OPT_SOCKET,
	OPT_STATE
};

static const struct option common_options[] = {
	{ "name", 1, NULL, OPT_NAME },	   { "instance", 1, NULL, OPT_INSTANCE },
	{ "class", 1, NULL, OPT_CLASS },   { "level", 1, NULL, OPT_LEVEL },
	{ "window", 1, NULL, OPT_WINDOW }, { "limit", 1, NULL, OPT_LIMIT },
	{ "socket", 1, NULL, OPT_SOCKET }, { "state", 1, NULL, OPT_STATE },
	{ "help", 0, NULL, 'h' },	   { "quiet", 0, NULL, 'q' },
	{ "verbose", 0, NULL, 'v' },
};
#define COMMON_OPTIONS (sizeof(common_options) / sizeof(common_options[0]))
#define MAX_OWN 32

static void help(const struct writer_program *p)
{
	printf("usage: umbra writer %s [OPTION]... %s\n\n%c%s.\n\n%s\n"
	       "Options of every writer:\n"
	       "  --name NAME       what lists call it (%s)\n"
	       "  --instance NAME   which one of several\n"
	       "  --class UUID      its class, where the kind's own will not do\n"
	       "  --level LEVEL     front-end, back-end or system: the order of freezing (%s)\n"
	       "  --window SECONDS  the longest that it stays frozen (%u; at most %u)\n"
	       "  --limit SECONDS   for what is done before and after that (%u)\n"
	       "  --state DIR       where it notes that it has frozen something\n"
	       "  --socket PATH     of the coordinator\n"
	       "  -q, --quiet; -v, --verbose; -h, --help\n\n"
	       "It runs in the foreground until SIGTERM or SIGINT. See umbra-writer(1).\n",
	       p->kind, p->args, p->summary[0] - 'a' + 'A', p->summary + 1, p->help,
	       p->name ? p->name : p->kind,
	       p->level == UMBRA_LEVEL_FRONT_END  ? "front-end"
	       : p->level == UMBRA_LEVEL_BACK_END ? "back-end"
						  : "system",
	       (p->window_ms ? p->window_ms : WINDOW_MS) / 1000, WINDOW_MAX_S,
	       (p->limit_ms ? p->limit_ms : LONG_MS) / 1000);
}

static int vusage(const struct writer_program *p, const char *fmt, va_list ap)
{
	CLEANUP(free_p) char *text = NULL;

	if (vasprintf(&text, fmt, ap) < 0)
		log_error("out of memory");
	else
		log_error("%s (try: umbra writer %s --help)", text, p->kind);
	return TOOL_USAGE;
}

int writer_usage(const struct writer_program *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vusage(p, fmt, ap);
	va_end(ap);
	return TOOL_USAGE;
}

/* Wrong usage: what writer_getopt() then returns. */
static int __attribute__((format(printf, 2, 3)))
wrong(struct writer_program *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	p->status = vusage(p, fmt, ap);
	va_end(ap);
	return WRITER_EXIT;
}

static int set_level(struct writer_program *p, const char *value)
{
	static const char *const names[] = { [UMBRA_LEVEL_FRONT_END] = "front-end",
					     [UMBRA_LEVEL_BACK_END] = "back-end",
					     [UMBRA_LEVEL_SYSTEM] = "system" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(value, names[i]) == 0) {
			p->level = (enum umbra_writer_level)i;
			return 0;
		}
	}
	return wrong(p, "--level is front-end, back-end or system, not %s", LOG_QUOTE(value));
}

static int set_seconds(struct writer_program *p, const char *option, const char *value,
		       unsigned long max, uint32_t *ret_ms)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(value, &end, 10);
	if (errno || end == value || *end || *value == '-' || n == 0 || n > max)
		return wrong(p, "%s is a number of seconds from 1 to %lu, not %s", option, max,
			     LOG_QUOTE(value));
	*ret_ms = (uint32_t)n * 1000;
	return 0;
}

static int set_class(struct writer_program *p, const char *value)
{
	uuid_t id;

	if (uuid_parse(value, id) < 0)
		return wrong(p, "--class is a UUID, not %s", LOG_QUOTE(value));
	p->class_id = value;
	return 0;
}

static int set_socket(struct writer_program *p, const char *value)
{
	if (!*value || setenv("UMBRA_SOCKET", value, 1) < 0)
		return wrong(p, "--socket needs a path");
	p->socket = value;
	return 0;
}

/* One of the common options: 0 or WRITER_EXIT. */
static int common_option(struct writer_program *p, int c, char **argv)
{
	switch (c) {
	case OPT_NAME:
		p->name = optarg;
		return *optarg ? 0 : wrong(p, "--name needs a name");
	case OPT_INSTANCE:
		p->instance = optarg;
		return 0;
	case OPT_CLASS:
		return set_class(p, optarg);
	case OPT_LEVEL:
		return set_level(p, optarg);
	case OPT_WINDOW:
		return set_seconds(p, "--window", optarg, WINDOW_MAX_S, &p->window_ms);
	case OPT_LIMIT:
		return set_seconds(p, "--limit", optarg, LIMIT_MAX_S, &p->limit_ms);
	case OPT_SOCKET:
		return set_socket(p, optarg);
	case OPT_STATE:
		p->state_dir = optarg;
		return *optarg ? 0 : wrong(p, "--state needs a directory");
	case 'h':
		help(p);
		p->status = TOOL_DONE;
		return WRITER_EXIT;
	case 'q':
		log_set_level(LOG_LEVEL_WARN);
		return 0;
	case 'v':
		log_set_level(LOG_LEVEL_DEBUG);
		return 0;
	case ':':
		return wrong(p, "option %s needs a value", LOG_QUOTE(argv[optind - 1]));
	}
	if (optopt > 0 && optopt < 0x80)
		return wrong(p, "unknown option -%c", optopt);
	return wrong(p, "unknown or ambiguous option %s", LOG_QUOTE(argv[optind - 1]));
}

int writer_getopt(struct writer_program *p, int argc, char **argv)
{
	static char prefix[64]; /* the log borrows it for ever */
	struct option all[COMMON_OPTIONS + MAX_OWN + 1] = { 0 };
	size_t n = 0;
	int c, r;

	memcpy(all, common_options, sizeof(common_options));
	for (; p->options && p->options[n].name && n < MAX_OWN; n++)
		all[COMMON_OPTIONS + n] = p->options[n];
	snprintf(prefix, sizeof(prefix), "umbra writer %s", p->kind);
	log_set_prefix(prefix);
	signal(SIGPIPE, SIG_IGN);
	r = catch_signals();
	if (r < 0) {
		p->status = tool_error("signals: %s", err_text(r));
		return WRITER_EXIT;
	}
	do {
		c = getopt_long(argc, argv, p->has_command ? "+:hqv" : ":hqv", all, NULL);
		if (c == -1 || c >= WRITER_OPT_OWN)
			return c;
	} while (common_option(p, c, argv) == 0);
	return WRITER_EXIT;
}

void writer_class_id(const char *kind, char *ret)
{
	/* Of this project, drawn once; never to be changed: class ids are kept in documents. */
	static const char space[] = "609781cc-e67d-4ec6-9171-283e0e9825fe";
	uuid_t ns, id;

	uuid_parse(space, ns);
	uuid_generate_sha1(id, ns, kind, strlen(kind));
	uuid_unparse_lower(id, ret);
}

/* ---- for handlers */

int writer_limit_ms(const struct writer_program *p, const struct umbra_writer_event *e)
{
	uint32_t window = p->window_ms ? p->window_ms : WINDOW_MS;

	if (strcmp(e->name, "freeze") == 0) {
		/* It must have failed, and its abort begun, before the window is over. */
		window = e->window_ms ? e->window_ms : window;
		return (int)(window - (window < 20000 ? window / 10 : 2000));
	}
	if (strcmp(e->name, "thaw") == 0)
		return (int)window;
	if (strcmp(e->name, "abort") == 0 || strcmp(e->name, "backup-shutdown") == 0)
		return SHORT_MS;
	return (int)(p->limit_ms ? p->limit_ms : LONG_MS);
}

int writer_fail(struct umbra_writer *w, enum umbra_writer_code code, const char *fmt, ...)
{
	CLEANUP(free_p) char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		text = NULL;
	log_error("%s", text ? text : "out of memory");
	if (w)
		umbra_writer_set_failure(w, code, text);
	return -1;
}

/* ---- registering and the loop */

static void __attribute__((format(printf, 1, 2))) notify(const char *fmt, ...)
{
#ifdef HAVE_LIBSYSTEMD
	CLEANUP(free_p) char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n >= 0)
		(void)sd_notify(0, text);
	else
		text = NULL;
#endif
}

/* Wait without a writer; true when told to stop. */
static bool pause_ms(int ms)
{
	uint64_t deadline = clock_deadline_ms((uint64_t)ms);

	while (!writer_stopping() && !clock_expired(deadline)) {
		struct pollfd fd = { .fd = signal_fd, .events = POLLIN };

		(void)poll(&fd, 1, clock_left_ms(deadline));
	}
	return writer_stopping();
}

static int register_once(struct writer_program *p, const struct umbra_writer_handlers *handlers,
			 void *data, struct umbra_writer **ret)
{
	char class_id[UUID_STR_LEN], name[LOG_QUOTE_SIZE], instance[LOG_QUOTE_SIZE];
	/* Both may come from paths, which are any bytes. */
	struct umbra_writer_options o = {
		.size = sizeof(o),
		.class_id = p->class_id ? p->class_id : class_id,
		.name = log_quote(name, sizeof(name), p->name ? p->name : p->kind),
		.instance_name = p->instance ? log_quote(instance, sizeof(instance), p->instance)
					     : NULL,
		.usage = p->usage,
		.source = p->source,
		.level = p->level,
		.window_ms = p->window_ms,
		.socket = p->socket,
	};

	writer_class_id(p->kind, class_id);
	return umbra_writer_new_until(&o, handlers, data, signal_fd, ret);
}

static bool worth_another_try(int r)
{
	return r == -ENOENT || r == -ECONNREFUSED || r == -ECONNRESET || r == -EPIPE ||
	       r == -EAGAIN || r == -ECANCELED; /* a signal, which need not mean stop */
}

/* Wait for a coordinator and register: *ret, or NULL when told to stop; else an exit status. */
static int register_with(struct writer_program *p, const struct umbra_writer_handlers *handlers,
			 void *data, struct umbra_writer **ret)
{
	int wait_ms = RETRY_MIN_MS, r;
	bool said = false;

	while (!writer_stopping()) {
		/* Asks the coordinator, so that there has to be one. */
		r = p->before_register ? p->before_register(p, data) : 0;
		if (r != 0 && r != TOOL_AGAIN)
			return r;
		if (writer_stopping()) /* and what its children left in signal_fd is read */
			break;
		if (r == 0) {
			r = register_once(p, handlers, data, ret);
			if (r == 0)
				return 0;
			if (!worth_another_try(r))
				return tool_error("cannot register: %s", umbra_writer_error(NULL));
		}
		if (!said) {
			log_info("waiting for the coordinator");
			notify("STATUS=Waiting for the coordinator");
		}
		said = true;
		pause_ms(wait_ms);
		wait_ms = wait_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : wait_ms * 2;
	}
	return 0;
}

/* Serve one registration until told to stop (0) or its end (-errno). */
static int serve_one(struct umbra_writer *w)
{
	int r = 0;

	while (r == 0 && !writer_stopping()) {
		struct pollfd fds[] = { { .fd = umbra_writer_fd(w), .events = POLLIN },
					{ .fd = signal_fd, .events = POLLIN } };

		if (poll(fds, 2, umbra_writer_timeout_ms(w)) < 0 && errno != EINTR)
			return -errno;
		if (!writer_stopping())
			r = umbra_writer_dispatch(w);
	}
	return r;
}

int writer_serve(struct writer_program *p, const struct umbra_writer_handlers *handlers, void *data)
{
	notify("READY=1");
	while (!writer_stopping()) {
		/* Freed at the end of each round at the latest, which thaws if need be (W-9). */
		CLEANUP(umbra_writer_free_p) struct umbra_writer *w = NULL;
		int r = register_with(p, handlers, data, &w);

		if (r != 0)
			return r;
		if (!w)
			break;
		log_info("registered as %s%s%s%s (%s)", LOG_QUOTE(p->name ? p->name : p->kind),
			 p->instance ? " (" : "", p->instance ? LOG_QUOTE(p->instance) : "",
			 p->instance ? ")" : "", umbra_writer_instance_id(w));
		notify("STATUS=Registered with the coordinator");
		r = serve_one(w);
		if (r < 0) {
			log_warn("%s", r == -ECONNRESET ? "the coordinator went away"
							: umbra_writer_error(w));
			umbra_writer_free(TAKE(w));
			pause_ms(RETRY_MIN_MS); /* not round and round, whatever it does */
		}
	}
	notify("STOPPING=1");
	log_info("stopped");
	return TOOL_DONE;
}
