/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/json.h - our structs as the types of io.umbra.varlink, and back.
 * Job:     one function per type and direction; no states, no sockets.
 * Errors:  makers return NULL for lack of memory; readers -EINVAL (and which member), -ENOMEM,
 *          and then leave nothing.
 * Threads: any; pure. */
#ifndef UMBRA_COORDINATOR_JSON_H
#define UMBRA_COORDINATOR_JSON_H

#include "coordinator/registry.h"
#include "coordinator/session.h"

#include <jansson.h>

/* A reader's view of one call's parameters; `bad` names the first member that is missing or of a
 * wrong type. */
struct coord_params {
	const json_t *object; /* borrowed */
	const char *bad;
};

const char *coord_param_string(struct coord_params *p,
			       const char *key); /* compulsory; NULL and bad */
const char *coord_param_text(struct coord_params *p, const char *key); /* optional; NULL: absent */
bool coord_param_bool(struct coord_params *p, const char *key);	       /* optional, false */
/* A compulsory array of strings, borrowed; NULL and bad. */
const json_t *coord_param_texts(struct coord_params *p, const char *key);
int64_t coord_param_int(struct coord_params *p, const char *key, int64_t absent);
/* A path in normal form, malloc'ed; NULL: absent (only bad if compulsory), or not such a path. */
char *coord_param_path(struct coord_params *p, const char *key, bool compulsory);

json_t *coord_json_tree(const struct coord_provider *p);
json_t *coord_json_snapshot(const struct coord_provider *p, const struct coord_snapshot *sn);
json_t *coord_json_operation(const struct coord_operation *op);
json_t *coord_json_session(const struct coord_session *s);
/* A JSON string of any bytes: those that are no UTF-8, as a path may have them or a text that was cut
 * within a character, are quoted. NULL: out of memory. */
json_t *coord_json_text(const char *text);

/* Writer: of one that is registered, or that a session knew. */
json_t *coord_json_writer(const struct coord_writer *w);
json_t *coord_json_participant(const struct coord_participant *pt);
/* WriterStatus. */
json_t *coord_json_row(const char *instance_id, const struct coord_writer_info *info,
		       const struct coord_writer_row *row);
/* []WriterStatus of those that take part, as it is now; failed ones first. */
json_t *coord_json_results(const struct coord_party *party);
/* {serial, call, arguments} */
json_t *coord_json_question(const struct coord_question *q);

/* The member `revert` of an object; null, absent or nonsense: there is none. */
void coord_json_read_revert(const json_t *object, struct coord_revert *ret);

/* Tree and []ProviderSnapshot of RegisterProvider. Filled in on success only; 0 or -errno, *ret_bad
 * as above. */
int coord_json_read_tree(const json_t *object, struct coord_tree *ret, const char **ret_bad);
int coord_json_read_snapshots(const json_t *array, struct coord_snapshot_list *ret,
			      const char **ret_bad);
/* ProviderAnswer without its serial. ret borrows its message from params; ret->list is malloc'ed
 * content of ret_list. */
int coord_json_read_answer(const json_t *params, struct coord_answer *ret,
			   struct coord_snapshot_list *ret_list, const char **ret_bad);

#endif
