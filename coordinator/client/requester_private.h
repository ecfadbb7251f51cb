/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/client/requester_private.h - what the files of umbra/requester.h share.
 * Job:     the session and its operation. Calls on one connection are answered one after the other, and
 *          the coordinator keeps a WaitOperation until its time is over: so an operation is waited for
 *          in slices, between which other calls get through.
 * Errors:  as umbra/requester.h.
 * Threads: as umbra/requester.h. */
#ifndef UMBRA_CLIENT_REQUESTER_PRIVATE_H
#define UMBRA_CLIENT_REQUESTER_PRIVATE_H

#include <jansson.h>

#include "coordinator/client/client.h"
#include "coordinator/client/umbra/requester.h"

struct umbra_requester {
	struct umbra_client *client;
	char session_id[UMBRA_ID_SIZE];
	struct umbra_operation *op; /* the pending one, borrowed; NULL: none */
	bool waiting;	 /* a WaitOperation is not answered yet; perhaps of a forgotten one */
	json_t *details; /* of the last long call that ended; NULL: none yet */
	enum umbra_error error; /* the last failure */
	bool again;
	char message[1024];
};

struct umbra_operation {
	struct umbra_requester *r; /* NULL: not pending */
	char id[UMBRA_ID_SIZE];
	enum umbra_status status;
	enum umbra_error error;
};

/* One call and its answer. params is taken; NULL: something in it was not UTF-8. ret may be NULL. */
enum umbra_error requester_call(struct umbra_requester *r, const char *method, json_t *params,
				json_t **ret);

/* The same with descriptors, as umbra_call(). */
enum umbra_error requester_call_fd(struct umbra_requester *r, const char *method, json_t *params,
				   int send_fd, json_t **ret, int *ret_fd);

/* A long call from its begin to its end. */
enum umbra_error requester_run(struct umbra_requester *r, enum umbra_call call);

/* Remember a failure and return its error. r: what a function of client.h returned with f. */
enum umbra_error requester_failed(struct umbra_requester *q, int r, const struct umbra_failure *f);

/* The same for what we find ourselves. */
enum umbra_error requester_fail(struct umbra_requester *r, enum umbra_error e, const char *message);

/* Copy the id that an answer has under that name. Returns UMBRA_OK; UMBRA_E_UNEXPECTED it has none. */
enum umbra_error requester_id(struct umbra_requester *r, const json_t *answer, const char *key,
			      char ret[UMBRA_ID_SIZE]);

/* Put a path into params: absolute, links followed as far as they can be. Returns false: no memory. */
bool requester_put_path(json_t *params, const char *key, const char *path);

/* Before and after a call: take the answer of a wait under way, and wait again. */
void requester_settle(struct umbra_requester *r);
void requester_resume(struct umbra_requester *r);

/* The connection goes: the pending operation hears of it. */
void requester_forget_operation(struct umbra_requester *r);

#endif
