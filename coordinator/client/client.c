/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/client/client.h"

#include "coordinator/client/stream.h"
#include "coordinator/client/wire.h"
#include "cow/base/cleanup.h"
#include "cow/base/clock.h"
#include "cow/base/err.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define INTERFACE "io.umbra."

#define BACKLOG_PAUSE_MS                                                                           \
	20 /* there is nothing to wait for: poll(2) says nothing of a full backlog */

struct umbra_client {
	int sock;
	int cancel_fd;	      /* borrowed; -1: none */
	uint64_t deadline_ns; /* of all waiting; CLOCK_NEVER: none */
	struct umbra_wire *wire;
	bool broken; /* no call can be matched with its answer any more */
};

/* ---- where the coordinator is ---- */

static int path_print(char *ret, size_t size, const char *dir, const char *rest)
{
	int n = snprintf(ret, size, "%s%s", dir, rest);

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* The directory must be ours alone: whoever can put a socket there can play coordinator. */
static int check_private_dir(const char *dir, bool make)
{
	struct stat st;

	if (make && mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (lstat(dir, &st) < 0)
		return errno == ENOENT && !make ? 0 : -errno;
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
		return -EACCES;
	return 0;
}

static int make_public_dir(const char *dir)
{
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

static int make_parent(const char *path)
{
	char dir[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char *slash;

	if (strlen(path) >= sizeof(dir))
		return -ENAMETOOLONG;
	strcpy(dir, path);
	slash = strrchr(dir, '/');
	if (!slash || slash == dir)
		return 0;
	*slash = 0;
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

static int private_path(const char *dir, bool make_dir, char *ret_path, size_t size)
{
	int r = check_private_dir(dir, make_dir);

	if (r < 0)
		return r;
	return path_print(ret_path, size, dir, "/coordinator");
}

int umbra_socket_path(bool make_dir, char *ret_path, size_t size)
{
	const char *given = getenv("UMBRA_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR");
	char dir[4096];
	int r;

	if (given && *given) {
		r = make_dir ? make_parent(given) : 0;
		return r < 0 ? r : path_print(ret_path, size, given, "");
	}
	/* Root of a user namespace is no root here: /run is not his to write. */
	if (geteuid() == 0 && access("/run", W_OK) == 0) {
		r = make_dir ? make_public_dir("/run/umbra") : 0;
		return r < 0 ? r : path_print(ret_path, size, "/run/umbra/coordinator", "");
	}
	if (runtime && runtime[0] == '/') {
		r = path_print(dir, sizeof(dir), runtime, "/umbra");
		return r < 0 ? r : private_path(dir, make_dir, ret_path, size);
	}
	snprintf(dir, sizeof(dir), "/tmp/umbra-%ju", (uintmax_t)geteuid());
	return private_path(dir, make_dir, ret_path, size);
}

/* ---- connection ---- */

void umbra_close(struct umbra_client *c)
{
	if (!c)
		return;
	close_p(&c->sock);
	umbra_wire_free(c->wire);
	free(c);
}
DEFINE_CLEANUP(umbra_close_p, struct umbra_client *, umbra_close)

/* Wait until the cancel descriptor, perhaps the socket, or a time. Returns 0 the socket is ready; -EAGAIN the time is
 * over; -ETIMEDOUT, -ECANCELED the client's own limits. */
static int wait_for(struct umbra_client *c, short events, uint64_t deadline_ns)
{
	struct pollfd p[] = { { .fd = events ? c->sock : -1, .events = events },
			      { .fd = c->cancel_fd, .events = POLLIN } };
	bool last = c->deadline_ns < deadline_ns;
	int n;

	do
		n = poll(p, 2, clock_left_ms(last ? c->deadline_ns : deadline_ns));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (p[1].revents)
		return -ECANCELED;
	if (n == 0)
		return last ? -ETIMEDOUT : -EAGAIN;
	return 0;
}

/* Where the coordinator takes no more connections for now, a blocking connect(2) could not be called off. */
static int connect_to(struct umbra_client *c, const struct sockaddr_un *addr)
{
	while (connect(c->sock, (const struct sockaddr *)addr, sizeof(*addr)) < 0) {
		int r = -errno;

		if (r == -EAGAIN)
			r = wait_for(c, 0, clock_deadline_ms(BACKLOG_PAUSE_MS));
		if (r != -EAGAIN && r != -EINTR)
			return r;
	}
	return 0;
}

int umbra_connect(const char *path, struct umbra_client **ret)
{
	return umbra_connect_until(path, -1, CLOCK_NEVER, ret);
}

int umbra_connect_until(const char *path, int cancel_fd, uint64_t deadline_ns,
			struct umbra_client **ret)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int r;

	if (path)
		r = path_print(addr.sun_path, sizeof(addr.sun_path), path, "");
	else
		r = umbra_socket_path(false, addr.sun_path, sizeof(addr.sun_path));
	if (r < 0)
		return r;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->sock = -1;
	c->cancel_fd = cancel_fd;
	c->deadline_ns = deadline_ns;
	c->wire = umbra_wire_new(UMBRA_WIRE_MAX_REPLY);
	if (!c->wire)
		return -ENOMEM;
	c->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->sock < 0)
		return -errno;
	r = connect_to(c, &addr);
	if (r < 0)
		return r;
	*ret = TAKE(c);
	return 0;
}

int umbra_client_fd(const struct umbra_client *c)
{
	return c->sock;
}

void umbra_client_unlimit(struct umbra_client *c)
{
	c->cancel_fd = -1;
	c->deadline_ns = CLOCK_NEVER;
}

/* ---- messages ---- */

static void fail(struct umbra_failure *f, const char *name, const char *message, bool again)
{
	if (!f)
		return;
	snprintf(f->name, sizeof(f->name), "%s", name);
	snprintf(f->message, sizeof(f->message), "%s", message);
	f->again = again;
}

static int broken(struct umbra_client *c, int r, struct umbra_failure *f)
{
	char message[160];

	c->broken = true;
	if (r == -EPIPE)
		r = -ECONNRESET;
	if (r == -EPROTO)
		snprintf(message, sizeof(message),
			 "the coordinator's answer makes no sense: %.100s",
			 umbra_wire_problem(c->wire));
	else if (r == -ETIMEDOUT || r == -ECANCELED)
		snprintf(message, sizeof(message), "the coordinator does not answer");
	else
		snprintf(message, sizeof(message), "connection to the coordinator lost: %s",
			 err_text(r));
	fail(f, "writer-infrastructure", message, true);
	return r;
}

static int send_all(struct umbra_client *c)
{
	int r;

	while ((r = umbra_stream_write(c->sock, c->wire)) == -EAGAIN) {
		r = wait_for(c, POLLOUT, CLOCK_NEVER);
		if (r < 0)
			return r;
	}
	return r;
}

/* "method" comes first: the coordinator may look at the beginning of a long message (wire.c).
 * params is taken. */
static int put_call(struct umbra_client *c, const char *method, json_t *params, int send_fd,
		    const char *flag)
{
	char full[128];
	json_t *call;
	int r;

	if (!params)
		params = json_object();
	if (c->broken) {
		json_decref(params);
		return -ECONNRESET;
	}
	snprintf(full, sizeof(full), "%s%s", strchr(method, '.') ? "" : INTERFACE, method);
	call = json_pack("{s:s, s:o}", "method", full, "parameters", params);
	if (!call)
		return -ENOMEM;
	if (flag && json_object_set_new(call, flag, json_true()) < 0)
		r = -ENOMEM;
	else
		r = umbra_wire_put(c->wire, call, send_fd);
	json_decref(call);
	return r;
}

static int send_call(struct umbra_client *c, const char *method, json_t *params, int send_fd,
		     const char *flag)
{
	int r = put_call(c, method, params, send_fd, flag);

	return r < 0 ? r : send_all(c);
}

static int receive(struct umbra_client *c, uint64_t deadline_ns, json_t **ret, int *ret_fd)
{
	int r;

	for (;;) {
		r = umbra_wire_next(c->wire, ret, ret_fd);
		if (r != 0)
			return r == -EMSGSIZE ? -EPROTO : r;
		r = wait_for(c, POLLIN, deadline_ns);
		if (r < 0)
			return r;
		r = umbra_stream_read(c->sock, c->wire);
		if (r == 0)
			return -ECONNRESET;
		if (r < 0 && r != -EAGAIN)
			return r;
	}
}

/* A refusal becomes a umbra_failure; the standard's own errors get the nearest name of ours. */
static void refused(const char *error, const json_t *params, struct umbra_failure *f)
{
	const char *name = json_string_value(json_object_get(params, "name"));
	const char *message = json_string_value(json_object_get(params, "message"));
	char text[256];

	if (strcmp(error, INTERFACE "Failed") == 0 && name) {
		fail(f, name, message ? message : name,
		     json_is_true(json_object_get(params, "again")));
		return;
	}
	name = "unexpected";
	if (strcmp(error, "org.varlink.service.InvalidParameter") == 0)
		name = "invalid-argument";
	else if (strcmp(error, "org.varlink.service.MethodNotFound") == 0 ||
		 strcmp(error, "org.varlink.service.MethodNotImplemented") == 0)
		name = "not-supported";
	snprintf(text, sizeof(text), "%.120s: %.100s", error,
		 message ? message : "the coordinator refused the call");
	fail(f, name, text, false);
}

static int answer(struct umbra_client *c, uint64_t deadline_ns, json_t **ret, int *ret_fd,
		  struct umbra_failure *f)
{
	CLEANUP(close_p) int fd = -1;
	json_t *message, *params;
	const char *error;
	int r = receive(c, deadline_ns, &message, &fd);

	if (r == -EAGAIN)
		return r;
	if (r < 0)
		return broken(c, r, f);
	error = json_string_value(json_object_get(message, "error"));
	params = json_object_get(message, "parameters");
	if (error) {
		refused(error, params, f);
		json_decref(message);
		return -EREMOTEIO;
	}
	if (ret)
		*ret = json_is_object(params) ? json_incref(params) : json_object();
	if (ret_fd)
		*ret_fd = TAKE_FD(fd);
	json_decref(message);
	return 0;
}

int umbra_call(struct umbra_client *c, const char *method, json_t *params, int send_fd,
	       json_t **ret, int *ret_fd, struct umbra_failure *failure)
{
	int r = send_call(c, method, params, send_fd, NULL);

	/* A coordinator that hung up may have said why: read that first. */
	if (r < 0 && r != -EPIPE)
		return broken(c, r, failure);
	return answer(c, CLOCK_NEVER, ret, ret_fd, failure);
}

int umbra_send(struct umbra_client *c, const char *method, json_t *params, int send_fd)
{
	int r = send_call(c, method, params, send_fd, "oneway");

	return r < 0 ? broken(c, r, NULL) : 0;
}

int umbra_flush(struct umbra_client *c)
{
	int r;

	if (c->broken)
		return -ECONNRESET;
	r = umbra_stream_write(c->sock, c->wire);
	return r < 0 && r != -EAGAIN ? broken(c, r, NULL) : r;
}

int umbra_post(struct umbra_client *c, const char *method, json_t *params)
{
	int r = put_call(c, method, params, -1, "oneway");

	return r < 0 ? broken(c, r, NULL) : umbra_flush(c);
}

int umbra_call_begin(struct umbra_client *c, const char *method, json_t *params)
{
	int r = send_call(c, method, params, -1, NULL);

	return r < 0 ? broken(c, r, NULL) : 0;
}

int umbra_subscribe(struct umbra_client *c, const char *method, json_t *params)
{
	int r = send_call(c, method, params, -1, "more");

	return r < 0 ? broken(c, r, NULL) : 0;
}

int umbra_next(struct umbra_client *c, int timeout_ms, json_t **ret, int *ret_fd,
	       struct umbra_failure *failure)
{
	uint64_t deadline_ns = timeout_ms < 0 ? CLOCK_NEVER
					      : clock_deadline_ms((uint64_t)timeout_ms);

	if (c->broken)
		return -ECONNRESET;
	return answer(c, deadline_ns, ret, ret_fd, failure);
}
