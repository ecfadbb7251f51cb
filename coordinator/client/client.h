/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/client/client.h - calls to the coordinator over its socket.
 * Job:     find the socket, connect, one call and its answer with descriptors; knows the
 *          message form, not the calls' meaning (io.umbra.varlink has that).
 * Errors:  0 or -errno; a call that the coordinator refused returns -EREMOTEIO and fills a
 *          umbra_failure.
 * Threads: one thread at a time for one client. */
#ifndef UMBRA_CLIENT_CLIENT_H
#define UMBRA_CLIENT_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct umbra_client;

/* What the coordinator said when it refused (protocol section 10). */
struct umbra_failure {
	char name[64]; /* "bad-state" ...; "writer-infrastructure" when it cannot be reached (K-6)
			*/
	char message[1024]; /* one line for people */
	bool again;	    /* a new try may succeed without other action: exit status 3 (E-4) */
};

/**
 * Where this caller's coordinator listens: $UMBRA_SOCKET, else /run/umbra/coordinator for a root
 * that may write /run, else $XDG_RUNTIME_DIR/umbra/coordinator, else /tmp/umbra-UID/coordinator
 * (directory 0700, ours: checked).
 * @make_dir  make the directory that holds it
 * Returns 0; -EACCES the directory is not safe to use; -ENAMETOOLONG.
 */
int umbra_socket_path(bool make_dir, char *ret_path, size_t size);

/* Connect; path NULL: umbra_socket_path. Close-on-exec (D-10). Returns 0; -ENOENT, -ECONNREFUSED
 * none runs; -EACCES. */
int umbra_connect(const char *path, struct umbra_client **ret);
/**
 * The same for who must not wait for ever: a coordinator that is stopped, or stuck, is there and does not answer.
 * From now on whatever would wait - this call, sending, umbra_next - ends, and the connection is of no more use.
 * @cancel_fd    -ECANCELED once it is readable; borrowed until umbra_close or umbra_client_unlimit; -1: none
 * @deadline_ns  -ETIMEDOUT from then on, of clock_mono_ns(); CLOCK_NEVER: none
 */
int umbra_connect_until(const char *path, int cancel_fd, uint64_t deadline_ns,
			struct umbra_client **ret);
/* Both no longer. */
void umbra_client_unlimit(struct umbra_client *c);
void umbra_close(struct umbra_client *c);	   /* NULL is fine; ends the session */
int umbra_client_fd(const struct umbra_client *c); /* borrowed, for poll */

/**
 * One call and its answer, waiting for it.
 * @method   without the interface, e.g. "DoSnapshotSet"
 * @params   taken (stolen), NULL for none
 * @send_fd  descriptor to go with the call, borrowed, or -1
 * @ret      the answer's parameters, a new reference, or NULL when not wanted
 * @ret_fd   descriptor that came with the answer (owned by the caller), -1 if none; NULL when not
 * wanted
 * @failure  filled in on -EREMOTEIO and on a broken connection; may be NULL
 * Returns 0; -EREMOTEIO refused; -ECONNRESET the coordinator went away; -EPROTO not a message of
 * ours; -ETIMEDOUT, -ECANCELED as umbra_connect_until.
 */
int umbra_call(struct umbra_client *c, const char *method, json_t *params, int send_fd,
	       json_t **ret, int *ret_fd, struct umbra_failure *failure);

/* One call without waiting for its answer, which umbra_next takes. Until then no other call may be
 * made. */
int umbra_call_begin(struct umbra_client *c, const char *method, json_t *params);

/* A one-way call: no answer comes. */
int umbra_send(struct umbra_client *c, const char *method, json_t *params, int send_fd);
/* The same without ever waiting: what the socket does not take now is kept for umbra_flush.
 * Returns 0 all sent; -EAGAIN some is left: call umbra_flush when the socket can be written. */
int umbra_post(struct umbra_client *c, const char *method, json_t *params);
int umbra_flush(struct umbra_client *c);
/* Start a call that streams answers (more=true); then take them one by one. timeout_ms -1: wait.
 * -EAGAIN: none in time. */
int umbra_subscribe(struct umbra_client *c, const char *method, json_t *params);
int umbra_next(struct umbra_client *c, int timeout_ms, json_t **ret, int *ret_fd,
	       struct umbra_failure *failure);

/* The text of a value, malloc'ed; NULL: out of memory. flags: JSON_COMPACT ...
 * Unlike json_dumps it leaves nothing out when memory is short for a moment: jansson 2.14 loses a key
 * then and says that all went well. */
char *umbra_json_text(const json_t *value, size_t flags);

/* Put path bytes into an object as the interface file has it: KEY, and KEY_base64 when they are not
 * UTF-8. */
int umbra_json_set_path(json_t *object, const char *key, const char *path);
/* The reverse: returns a malloc'ed path, or NULL when absent (errno ENOENT) or malformed (EINVAL).
 */
char *umbra_json_get_path(const json_t *object, const char *key);

#endif
