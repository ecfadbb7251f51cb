/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/client/writer_private.h"

#include "cow/base/cleanup.h"
#include "cow/base/clock.h"
#include "cow/base/err.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define DEFAULT_WINDOW_MS 60000 /* T-1 */

/* The structs of the caller, as they were in the first version: never smaller. They grow without padding
 * at their ends, which might not be zero: the next version would take it for members. */
#define END_OF(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))
#define OPTIONS_MIN END_OF(struct umbra_writer_options, socket)
#define HANDLERS_MIN END_OF(struct umbra_writer_handlers, post_restore)
#define STRUCT_MAX 4096 /* more is no size, but a member that was not set */

/* The words of a failed umbra_writer_new: there is no object then to keep them. */
static __thread char new_error[512];

static int say(char *where, size_t size, int r, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static int say(char *where, size_t size, int r, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(where, size, fmt, args);
	va_end(args);
	return r;
}

#define NEW_FAILED(r, ...) say(new_error, sizeof(new_error), (r), __VA_ARGS__)

const char *umbra_writer_error(const struct umbra_writer *w)
{
	return w ? w->error : new_error;
}

/* ---- registration ---- */

/* Take a struct of the caller's, whose version's is shorter or longer than ours, into ours: what it does
 * not have is zero; what we do not know must be so, or it would be forgotten silently. */
static int take_struct(void *to, size_t known, size_t min, const void *from, const char *what)
{
	size_t size;

	memcpy(&size, from, sizeof(size));
	if (size < min || size > STRUCT_MAX)
		return NEW_FAILED(-EINVAL, "the size of the writer's %s is not set", what);
	for (size_t i = known; i < size; i++)
		if (((const char *)from)[i] != 0)
			return NEW_FAILED(-EINVAL,
					  "this library is too old for some of the writer's %s",
					  what);
	memset(to, 0, known);
	memcpy(to, from, size < known ? size : known);
	return 0;
}

static int take_structs(const struct umbra_writer_options *options,
			const struct umbra_writer_handlers *handlers,
			struct umbra_writer_options *ret_options,
			struct umbra_writer_handlers *ret_handlers)
{
	int r = take_struct(ret_options, sizeof(*ret_options), OPTIONS_MIN, options, "options");

	return r < 0 ? r
		     : take_struct(ret_handlers, sizeof(*ret_handlers), HANDLERS_MIN, handlers,
				   "handlers");
}

static int check(const struct umbra_writer_options *o, const struct umbra_writer_handlers *h)
{
	if (!o->class_id || !o->name)
		return NEW_FAILED(-EINVAL, "a writer needs a class id and a name");
	if (!h->prepare_for_snapshot || !h->freeze || !h->thaw || !h->abort)
		return NEW_FAILED(-EINVAL,
				  "a writer needs handlers for PrepareForSnapshot, Freeze, Thaw "
				  "and Abort (W-3)");
	return 0;
}

static const char *level_name(enum umbra_writer_level level)
{
	static const char *const names[] = {
		[UMBRA_LEVEL_FRONT_END] = "front-end",
		[UMBRA_LEVEL_BACK_END] = "back-end",
		[UMBRA_LEVEL_SYSTEM] = "system",
	};

	return (unsigned)level < sizeof(names) / sizeof(*names) ? names[level] : NULL;
}

/* Optional members of text stay away. NULL: out of memory, or not UTF-8. */
static json_t *registration(const struct umbra_writer_options *o,
			    const struct umbra_writer_handlers *h, uint32_t window_ms)
{
	const char *level = level_name(o->level);

	if (!level)
		return NULL;
	return json_pack("{s:s, s:s, s:s*, s:s*, s:s, s:I, s:s*, s:o}", "class_id", o->class_id,
			 "name", o->name, "usage", o->usage, "source", o->source, "level", level,
			 "window_ms", (json_int_t)window_ms, "instance_name", o->instance_name,
			 "handlers", writer_event_names(h));
}

/* What the coordinator said becomes ours: words, and a code that says whether another user would do. */
static int refused(int r, const struct umbra_failure *f)
{
	if (r == -EREMOTEIO && strcmp(f->name, "access-denied") == 0)
		r = -EACCES;
	return NEW_FAILED(r, "%s", f->message);
}

static int register_writer(struct umbra_writer *w, const struct umbra_writer_options *o)
{
	struct umbra_failure f = { .name = "" };
	json_t *params = registration(o, &w->handlers, w->window_ms), *answer = NULL;
	const char *id;
	int r;

	if (!params)
		return NEW_FAILED(-EINVAL, "an option of the writer is not UTF-8, or unknown");
	r = umbra_call(w->client, "RegisterWriter", params, -1, &answer, NULL, &f);
	if (r < 0)
		return refused(r, &f);
	id = json_string_value(json_object_get(answer, "instance_id"));
	w->instance_id = strdup(id ? id : "");
	json_decref(answer);
	if (!w->instance_id)
		return NEW_FAILED(-ENOMEM, "out of memory");
	r = umbra_subscribe(w->client, "WriterEvents", NULL);
	return r < 0 ? NEW_FAILED(r, "connection to the coordinator lost: %s", err_text(r)) : 0;
}

static int open_wakeups(struct umbra_writer *w)
{
	struct epoll_event in = { .events = EPOLLIN };

	w->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	w->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (w->stop_fd < 0 || w->timer_fd < 0 || w->poll_fd < 0 ||
	    epoll_ctl(w->poll_fd, EPOLL_CTL_ADD, w->timer_fd, &in) < 0 ||
	    epoll_ctl(w->poll_fd, EPOLL_CTL_ADD, umbra_client_fd(w->client), &in) < 0)
		return NEW_FAILED(-errno, "cannot wait for events: %s", err_text(-errno));
	return 0;
}

static void writer_free(struct umbra_writer *w)
{
	umbra_close(w->client);
	close_p(&w->poll_fd);
	close_p(&w->timer_fd);
	close_p(&w->stop_fd);
	free(w->instance_id);
	free(w);
}
DEFINE_CLEANUP(writer_free_p, struct umbra_writer *, writer_free)

int umbra_writer_new(const struct umbra_writer_options *options,
		     const struct umbra_writer_handlers *handlers, void *data,
		     struct umbra_writer **ret)
{
	return umbra_writer_new_until(options, handlers, data, -1, ret);
}

int umbra_writer_new_until(const struct umbra_writer_options *options,
			   const struct umbra_writer_handlers *handlers, void *data, int cancel_fd,
			   struct umbra_writer **ret)
{
	CLEANUP(writer_free_p) struct umbra_writer *w = NULL;
	struct umbra_writer_options o;
	struct umbra_writer_handlers h;
	int r = take_structs(options, handlers, &o, &h);

	if (r == 0)
		r = check(&o, &h);
	if (r < 0)
		return r;
	w = calloc(1, sizeof(*w));
	if (!w)
		return NEW_FAILED(-ENOMEM, "out of memory");
	w->handlers = h;
	w->data = data;
	w->window_ms = o.window_ms ? o.window_ms : DEFAULT_WINDOW_MS;
	w->poll_fd = w->timer_fd = w->stop_fd = -1;
	r = umbra_connect_until(o.socket, cancel_fd, CLOCK_NEVER, &w->client);
	if (r < 0)
		return NEW_FAILED(r, "cannot reach the coordinator: %s", err_text(r));
	r = open_wakeups(w);
	if (r == 0)
		r = register_writer(w, &o);
	if (r < 0)
		return r;
	umbra_client_unlimit(w->client);
	*ret = TAKE(w);
	return 0;
}

void umbra_writer_free(struct umbra_writer *w)
{
	int saved = errno;

	if (!w)
		return;
	writer_event_give_up(w, "writer");
	writer_free(w);
	errno = saved;
}

const char *umbra_writer_instance_id(const struct umbra_writer *w)
{
	return w->instance_id;
}

bool umbra_writer_armed(const struct umbra_writer *w)
{
	return w->sessions != NULL;
}

/* ---- waiting ---- */

int umbra_writer_fd(const struct umbra_writer *w)
{
	return w->poll_fd;
}

/* Until the first window ends; CLOCK_NEVER: none is open. */
static uint64_t left_ns(const struct umbra_writer *w)
{
	uint64_t first = CLOCK_NEVER, now;

	for (const struct writer_session *s = w->sessions; s; s = s->next)
		if (s->deadline_ns < first)
			first = s->deadline_ns;
	if (first == CLOCK_NEVER)
		return CLOCK_NEVER;
	now = writer_now_ns(w);
	return first > now ? first - now : 0;
}

int umbra_writer_timeout_ms(const struct umbra_writer *w)
{
	uint64_t ns = left_ns(w), ms;

	if (ns == CLOCK_NEVER)
		return -1;
	ms = (ns + CLOCK_NS_PER_MS - 1) / CLOCK_NS_PER_MS;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

/* poll_fd has to become readable for all that umbra_writer_dispatch() does: events, room for answers,
 * the end of a window. The timer only wakes; what the time is, is asked elsewhere. */
static void set_wakeups(struct umbra_writer *w, bool wants_out)
{
	uint64_t ns = left_ns(w);
	struct itimerspec when = { .it_value = { 0 } };
	struct epoll_event socket = { .events = EPOLLIN | (wants_out ? EPOLLOUT : 0) };

	if (ns != CLOCK_NEVER)
		when.it_value = clock_to_timespec(ns ? ns : 1); /* 0 would stop it */
	timerfd_settime(w->timer_fd, 0, &when, NULL);
	if (wants_out == w->wants_out)
		return;
	if (epoll_ctl(w->poll_fd, EPOLL_CTL_MOD, umbra_client_fd(w->client), &socket) == 0)
		w->wants_out = wants_out;
}

/* ---- serving ---- */

/* Nothing more will come: whoever froze must not stay so (W-9). */
static int lost(struct umbra_writer *w, int r, const char *why)
{
	w->ended = r == -EPROTO ? r : -ECONNRESET;
	shutdown(umbra_client_fd(w->client), SHUT_RDWR); /* it must not wait for our answers */
	say(w->error, sizeof(w->error), 0, "%s", why);
	writer_event_give_up(w, "coordinator");
	set_wakeups(w, false);
	return w->ended;
}

/* The next event that is there. Returns 1 served; 0 there is none; else w has ended. */
static int serve_next(struct umbra_writer *w)
{
	struct umbra_failure f = { .message = "connection to the coordinator lost" };
	json_t *event = NULL;
	int r = umbra_next(w->client, 0, &event, NULL, &f);

	if (r == -EAGAIN)
		return 0;
	if (r < 0)
		return lost(w, r, f.message);
	r = writer_event_serve(w, event);
	json_decref(event);
	if (r == -EPROTO)
		return lost(w, r, "the coordinator sent what is no event");
	return r < 0 ? lost(w, r, f.message) : 1;
}

int umbra_writer_dispatch(struct umbra_writer *w)
{
	int r, unsent;

	if (w->handling)
		return -EBUSY;
	if (w->ended)
		return w->ended;
	do {
		writer_event_end_windows(w);
		r = serve_next(w);
	} while (r > 0);
	if (r < 0)
		return r;
	unsent = umbra_flush(w->client);
	if (unsent < 0 && unsent != -EAGAIN)
		return lost(w, unsent, "connection to the coordinator lost");
	set_wakeups(w, unsent == -EAGAIN);
	return 0;
}

void umbra_writer_stop(struct umbra_writer *w)
{
	int saved = errno;
	uint64_t one = 1;

	/* It fails only when it is full of stops already. */
	while (write(w->stop_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	errno = saved;
}

static bool take_stop(struct umbra_writer *w)
{
	uint64_t stops;

	return read(w->stop_fd, &stops, sizeof(stops)) == sizeof(stops);
}

int umbra_writer_run(struct umbra_writer *w)
{
	struct pollfd p[] = { { .fd = w->stop_fd, .events = POLLIN },
			      { .fd = w->poll_fd, .events = POLLIN } };
	int r;

	if (w->handling)
		return -EBUSY;
	if (w->ended)
		return w->ended;
	do {
		if (poll(p, 2, umbra_writer_timeout_ms(w)) < 0 && errno != EINTR)
			return -errno;
		if (take_stop(w))
			return 0;
		r = umbra_writer_dispatch(w);
	} while (r == 0);
	return r;
}
