/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/json.h"

#include "coordinator/client/client.h"
#include "coordinator/extra.h"
#include "coordinator/name.h"
#include "cow/base/cleanup.h"
#include "cow/base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- members of parameters ---- */

static const json_t *member(const struct coord_params *p, const char *key)
{
	const json_t *value = json_object_get(p->object, key);

	return json_is_null(value) ? NULL : value;
}

static void bad(struct coord_params *p, const char *key)
{
	if (!p->bad)
		p->bad = key;
}

const char *coord_param_text(struct coord_params *p, const char *key)
{
	const json_t *value = member(p, key);

	if (value && !json_is_string(value))
		bad(p, key);
	return json_string_value(value);
}

const char *coord_param_string(struct coord_params *p, const char *key)
{
	const char *text = coord_param_text(p, key);

	if (!text)
		bad(p, key);
	return text;
}

bool coord_param_bool(struct coord_params *p, const char *key)
{
	const json_t *value = member(p, key);

	if (value && !json_is_boolean(value))
		bad(p, key);
	return json_is_true(value);
}

const json_t *coord_param_texts(struct coord_params *p, const char *key)
{
	const json_t *list = member(p, key), *text;
	size_t i;

	if (!json_is_array(list))
		bad(p, key);
	json_array_foreach((json_t *)list, i, text)
		if (!json_is_string(text))
			bad(p, key);
	return json_is_array(list) ? list : NULL;
}

int64_t coord_param_int(struct coord_params *p, const char *key, int64_t absent)
{
	const json_t *value = member(p, key);

	if (!value)
		return absent;
	if (!json_is_integer(value))
		bad(p, key);
	return json_integer_value(value);
}

char *coord_param_path(struct coord_params *p, const char *key, bool compulsory)
{
	CLEANUP(free_p) char *path = umbra_json_get_path(p->object, key);

	if (!path) {
		if (errno != ENOENT || compulsory)
			bad(p, key);
		return NULL;
	}
	if (!coord_name_normal_path(path)) {
		bad(p, key);
		return NULL;
	}
	return TAKE(path);
}

/* ---- making ---- */

/* Objects are filled in piece by piece; one failure shows in `ok`. */
static bool put(json_t *object, const char *key, json_t *value)
{
	return json_object_set_new(object, key, value) == 0;
}

json_t *coord_json_text(const char *text)
{
	json_t *string = json_string(text);
	char quoted[LOG_QUOTE_SIZE];

	return string ? string : json_string(log_quote(quoted, sizeof(quoted), text));
}

static bool put_text(json_t *object, const char *key, const char *text)
{
	return put(object, key, text ? coord_json_text(text) : json_null());
}

static bool put_path(json_t *object, const char *key, const char *path)
{
	return path ? umbra_json_set_path(object, key, path) == 0 : put(object, key, json_null());
}

static json_t *finished(json_t *object, bool ok)
{
	if (ok)
		return object;
	json_decref(object);
	return NULL;
}

static json_t *texts(char *const *list, size_t n)
{
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++)
		if (json_array_append_new(array, coord_json_text(list[i])) < 0)
			return finished(array, false);
	return array;
}

static json_t *revert(const struct coord_revert *r)
{
	if (!r->state[0])
		return json_null();
	return json_pack("{s:s, s:s?, s:I, s:I, s:I, s:o}", "state", r->state, "snapshot_id",
			 r->snapshot_id[0] ? r->snapshot_id : NULL, "done", (json_int_t)r->done,
			 "total", (json_int_t)r->total, "failures", (json_int_t)r->failures, "why",
			 r->why[0] ? coord_json_text(r->why) : json_null());
}

json_t *coord_json_tree(const struct coord_provider *p)
{
	const struct coord_tree *t = &p->tree;
	json_t *o = json_object();
	bool ok = put_text(o, "id", t->id) && put_path(o, "path", t->path) &&
		  put(o, "pid", json_integer(t->pid)) && put_path(o, "store", t->store) &&
		  put(o, "store_in_memory", json_boolean(t->store_in_memory)) &&
		  put_path(o, "snapshot_root", t->snapshot_root) &&
		  put_text(o, "snapshots_shown", t->shown) &&
		  put(o, "used_bytes", json_integer((json_int_t)t->used_bytes)) &&
		  put(o, "allocated_bytes", json_integer((json_int_t)t->allocated_bytes)) &&
		  put(o, "max_bytes", json_integer((json_int_t)t->max_bytes)) &&
		  put(o, "holding", json_boolean(t->holding)) && put_text(o, "fault", t->fault) &&
		  put(o, "revert", revert(&t->revert)) &&
		  put(o, "warnings", texts(t->warnings, t->nwarnings));

	return finished(o, ok);
}

static bool put_snapshot_path(json_t *o, const struct coord_tree *t, const struct cow_snapshot *s)
{
	CLEANUP(free_p) char *path = NULL;

	if (!t->snapshot_root)
		return put(o, "path", json_null());
	if (asprintf(&path, "%s/%s", t->snapshot_root, s->name) < 0) {
		path = NULL;
		return false;
	}
	return put_path(o, "path", path);
}

/* What extra.c kept; members of a later version are not shown. */
static bool put_extra(json_t *o, const struct cow_snapshot *s)
{
	json_t *extra = coord_extra_parse(s->extra);
	json_t *description = json_object_get(extra, "description"),
	       *writers = json_object_get(extra, "writers");
	bool ok = extra != NULL;

	ok = ok && put(o, "description",
		       json_is_string(description) ? json_incref(description) : json_null());
	ok = ok && put(o, "writers", json_is_array(writers) ? json_incref(writers) : json_array());
	json_decref(extra);
	return ok;
}

json_t *coord_json_snapshot(const struct coord_provider *p, const struct coord_snapshot *sn)
{
	const struct cow_snapshot *s = &sn->s;
	json_t *o = json_object();
	char created[COORD_NAME_TIME_SIZE];
	bool ok;

	coord_name_time(created, s->opened_ns);
	ok = put_text(o, "id", s->id) && put_text(o, "set_id", s->set_id) &&
	     put_text(o, "tree_id", p->tree.id) && put_path(o, "tree_path", p->tree.path) &&
	     put_text(o, "context", coord_name_context(s->context)) &&
	     put(o, "persistent", json_boolean(cow_context_persistent(s->context))) &&
	     put(o, "auto_release", json_boolean(cow_context_auto_release(s->context))) &&
	     put_text(o, "label", s->label[0] ? s->label : NULL) && put_extra(o, s) &&
	     put_text(o, "name", s->name) && put_snapshot_path(o, &p->tree, s) &&
	     put(o, "in_set", json_integer(s->in_set)) && put_text(o, "created", created) &&
	     put(o, "stored_bytes", json_integer((json_int_t)s->stored_bytes)) &&
	     put(o, "changed_files", json_integer((json_int_t)s->changed_files)) &&
	     put(o, "in_use", json_integer(sn->in_use)) &&
	     put_text(o, "state", coord_name_snapshot_state(s->state)) &&
	     put(o, "exposed_locally", json_boolean(sn->exposed_path)) && /* C-4, C-13 */
	     put_path(o, "exposed_path", sn->exposed_path) &&
	     put_path(o, "exposed_subdir", sn->exposed_subdir) &&
	     put_text(o, "exposed_problem", sn->exposed_problem);
	return finished(o, ok);
}

json_t *coord_json_operation(const struct coord_operation *op)
{
	const char *message = op->pending || op->failure.error == UMBRA_OK ? NULL
									   : op->failure.message;
	json_t *o = json_object();
	bool ok = put_text(o, "id", op->id) && put_text(o, "call", op->call) &&
		  put_text(o, "status", coord_operation_status(op)) &&
		  put_text(o, "message", message) &&
		  put(o, "details", texts(op->details, op->ndetails));

	return finished(o, ok);
}

json_t *coord_json_session(const struct coord_session *s)
{
	char since[COORD_NAME_TIME_SIZE];
	json_t *o = json_object();
	bool ok;

	coord_name_time(since, s->since_ns);
	ok = put_text(o, "id", s->id) && put(o, "pid", json_integer(s->pid)) &&
	     put(o, "uid", json_integer(s->uid)) &&
	     put_text(o, "state", coord_session_state_name(s->state)) &&
	     put_text(o, "context",
		      s->state == SESSION_NEW || s->restore ? NULL
							    : coord_name_context(s->context)) &&
	     put_text(o, "set_id", s->set_id[0] ? s->set_id : NULL) && put_text(o, "since", since);
	return finished(o, ok);
}

/* ---- writers ---- */

static json_t *handler_names(unsigned handlers)
{
	json_t *names = json_array();

	for (unsigned e = 0; e < WRITER_EVENTS; e++)
		if ((handlers & 1u << e) &&
		    json_array_append_new(names, json_string(coord_writer_event_name(e))) < 0)
			return finished(names, false);
	return names;
}

static json_t *writer(const char *id, const struct coord_writer_info *info, pid_t pid, uid_t uid,
		      int64_t since_ns)
{
	char since[COORD_NAME_TIME_SIZE];
	json_t *o = json_object();
	bool ok;

	coord_name_time(since, since_ns);
	ok = put_text(o, "class_id", info->class_id) && put_text(o, "instance_id", id) &&
	     put_text(o, "name", info->name) && put_text(o, "instance_name", info->instance_name) &&
	     put_text(o, "usage", info->usage) && put_text(o, "source", info->source) &&
	     put_text(o, "level", coord_writer_level_name(info->level)) &&
	     put(o, "window_ms", json_integer(info->window_ms)) &&
	     put(o, "handlers", handler_names(info->handlers)) &&
	     put(o, "pid", json_integer(pid)) && put(o, "uid", json_integer(uid)) &&
	     put_text(o, "since", since);
	return finished(o, ok);
}

json_t *coord_json_writer(const struct coord_writer *w)
{
	return writer(w->id, &w->info, w->pid, w->uid, w->since_ns);
}

json_t *coord_json_participant(const struct coord_participant *pt)
{
	return writer(coord_participant_id(pt), coord_participant_info(pt),
		      coord_participant_pid(pt), coord_participant_uid(pt),
		      coord_participant_since_ns(pt));
}

json_t *coord_json_row(const char *instance_id, const struct coord_writer_info *info,
		       const struct coord_writer_row *row)
{
	json_t *o = json_object();
	bool ok = put_text(o, "instance_id", instance_id) &&
		  put_text(o, "class_id", info->class_id) && put_text(o, "name", info->name) &&
		  put_text(o, "instance_name", info->instance_name) &&
		  put_text(o, "session_id", row->session_id[0] ? row->session_id : NULL) &&
		  put_text(o, "state", coord_writer_state_name(row->state)) &&
		  put(o, "aborted", json_boolean(row->aborted)) &&
		  put_text(o, "error", row->code[0] ? row->code : NULL) &&
		  put_text(o, "message", row->message[0] ? row->message : NULL) &&
		  put(o, "frozen_ms",
		      row->was_frozen ? json_integer((json_int_t)row->frozen_ms) : json_null());

	return finished(o, ok);
}

json_t *coord_json_results(const struct coord_party *party)
{
	const struct coord_participant *pt;
	json_t *list = json_array();
	size_t failed = 0;

	for (pt = coord_party_first(party); pt; pt = coord_participant_next(pt)) {
		const struct coord_writer_row *row = coord_participant_row(pt);
		size_t at = json_array_size(list);

		if (!coord_participant_takes_part(pt))
			continue;
		if (row->code[0])
			at = failed++;
		if (json_array_insert_new(list, at,
					  coord_json_row(coord_participant_id(pt),
							 coord_participant_info(pt), row)) < 0)
			return finished(list, false);
	}
	return list;
}

static json_t *question_arguments(const struct coord_question *q)
{
	const struct cow_snapshot *s = q->open;
	json_t *o;

	switch (q->ask) {
	case ASK_HOLD:
		return json_pack("{s:I, s:I}", "wait_ms", (json_int_t)q->wait_ms, "limit_ms",
				 (json_int_t)q->limit_ms);
	case ASK_OPEN:
		return json_pack("{s:s, s:s, s:i, s:I, s:s, s:s, s:s?}", "id", s->id, "set_id",
				 s->set_id, "context", (int)s->context, "in_set",
				 (json_int_t)s->in_set, "label", s->label, "name", s->name, "extra",
				 s->extra);
	case ASK_COMMIT:
		return json_pack("{s:I, s:s?}", "epoch", (json_int_t)q->epoch, "extra",
				 s ? s->extra : NULL);
	case ASK_DROP:
	case ASK_REVERT:
		return json_pack("{s:I, s:b}", "epoch", (json_int_t)q->epoch, "force", q->force);
	case ASK_SERVE:
		o = json_pack("{s:I}", "epoch", (json_int_t)q->epoch);
		return finished(o, put_path(o, "mountpoint", q->mountpoint));
	case ASK_EXPOSE:
		o = json_pack("{s:I}", "epoch", (json_int_t)q->epoch);
		return finished(o, put_path(o, "path", q->mountpoint) &&
					   put_path(o, "subdir", q->subdir));
	case ASK_UNEXPOSE:
		return json_pack("{s:I, s:b}", "epoch", (json_int_t)q->epoch, "force", q->force);
	case ASK_DIFF:
		return json_pack("{s:I, s:I}", "epoch_a", (json_int_t)q->epoch, "epoch_b",
				 (json_int_t)q->other_epoch);
	default:
		return json_object();
	}
}

json_t *coord_json_question(const struct coord_question *q)
{
	return json_pack("{s:I, s:s, s:o}", "serial", (json_int_t)q->serial, "call",
			 coord_ask_name(q->ask), "arguments", question_arguments(q));
}

/* ---- reading ---- */

static uint64_t read_count(struct coord_params *p, const char *key)
{
	int64_t n = coord_param_int(p, key, 0);

	if (n < 0)
		bad(p, key);
	return n < 0 ? 0 : (uint64_t)n;
}

/* An id, a name ...: what fits, without being cut. */
static void read_fixed(struct coord_params *p, const char *key, const char *text, char *ret,
		       size_t size)
{
	if (!text)
		return;
	if (strlen(text) >= size)
		bad(p, key);
	else
		strcpy(ret, text);
}

static void read_id(struct coord_params *p, const char *key, char ret[COW_UUID_LEN + 1])
{
	const char *text = coord_param_string(p, key);

	if (!text)
		return;
	if (coord_name_is_id(text))
		strcpy(ret, text);
	else
		bad(p, key);
}

static void read_warnings(struct coord_params *p, struct coord_tree *t)
{
	const json_t *array = member(p, "warnings"), *text;
	size_t i;

	if (!array)
		return;
	t->warnings = calloc(json_array_size(array) + 1, sizeof(*t->warnings));
	json_array_foreach((json_t *)array, i, text) {
		char *copy = t->warnings && json_is_string(text) ? strdup(json_string_value(text))
								 : NULL;

		if (copy)
			t->warnings[t->nwarnings++] = copy;
	}
}

void coord_json_read_revert(const json_t *object, struct coord_revert *ret)
{
	const json_t *o = json_object_get(object, "revert");
	struct coord_params p = { .object = o };
	struct coord_revert r = { 0 };

	if (json_is_object(o)) {
		read_fixed(&p, "state", coord_param_string(&p, "state"), r.state, sizeof(r.state));
		read_fixed(&p, "snapshot_id", coord_param_text(&p, "snapshot_id"), r.snapshot_id,
			   sizeof(r.snapshot_id));
		r.done = read_count(&p, "done");
		r.total = read_count(&p, "total");
		r.failures = read_count(&p, "failures");
		snprintf(r.why, sizeof(r.why), "%s",
			 coord_param_text(&p, "why") ? coord_param_text(&p, "why") : "");
		if (p.bad)
			r = (struct coord_revert){ 0 };
	}
	*ret = r;
}

int coord_json_read_tree(const json_t *object, struct coord_tree *ret, const char **ret_bad)
{
	struct coord_params p = { .object = object };
	struct coord_tree t = { 0 };
	const char *fault = coord_param_text(&p, "fault");

	if (!json_is_object(object))
		bad(&p, "tree");
	read_id(&p, "id", t.id);
	t.path = coord_param_path(&p, "path", true);
	t.pid = (pid_t)coord_param_int(&p, "pid", 0);
	t.store = umbra_json_get_path(object, "store");
	t.store_in_memory = coord_param_bool(&p, "store_in_memory");
	t.snapshot_root = coord_param_path(&p, "snapshot_root", false);
	strcpy(t.shown, "hidden");
	read_fixed(&p, "snapshots_shown", coord_param_text(&p, "snapshots_shown"), t.shown,
		   sizeof(t.shown));
	t.used_bytes = read_count(&p, "used_bytes");
	t.allocated_bytes = read_count(&p, "allocated_bytes");
	t.max_bytes = read_count(&p, "max_bytes");
	t.fault = fault ? strdup(fault) : NULL;
	read_warnings(&p, &t);
	coord_json_read_revert(object, &t.revert);
	if (p.bad) {
		*ret_bad = p.bad;
		coord_tree_done(&t);
		return -EINVAL;
	}
	*ret = t;
	return 0;
}

static void snapshot_free_p(struct coord_snapshot **sn)
{
	coord_snapshot_free(*sn);
}

/* {path, subdir?, problem?}; absent: it is not exposed. */
static void read_exposed(struct coord_params *p, struct coord_snapshot *sn)
{
	struct coord_params e = { .object = member(p, "exposed") };
	const char *problem;

	if (!e.object)
		return;
	problem = coord_param_text(&e, "problem");
	sn->exposed_path = umbra_json_get_path(e.object, "path");
	sn->exposed_subdir = umbra_json_get_path(e.object, "subdir");
	sn->exposed_problem = problem ? strdup(problem) : NULL;
	if (!sn->exposed_path || e.bad)
		bad(p, "exposed");
}

static int read_snapshot(const json_t *object, struct coord_snapshot **ret, const char **ret_bad)
{
	CLEANUP(snapshot_free_p) struct coord_snapshot *sn = calloc(1, sizeof(*sn));
	struct coord_params p = { .object = object };
	struct cow_snapshot *s;
	const char *state, *extra;

	if (!sn)
		return -ENOMEM;
	s = &sn->s;
	s->epoch = read_count(&p, "epoch");
	if (s->epoch == 0)
		bad(&p, "epoch");
	read_id(&p, "id", s->id);
	read_id(&p, "set_id", s->set_id);
	s->context = (enum cow_context)coord_param_int(&p, "context", 0);
	if (s->context == COW_CTX_ALL || !coord_name_context(s->context))
		bad(&p, "context");
	state = coord_param_string(&p, "state");
	s->state = state ? coord_name_to_snapshot_state(state) : 0;
	if (!s->state)
		bad(&p, "state");
	s->in_set = (uint32_t)read_count(&p, "in_set");
	s->opened_ns = coord_param_int(&p, "opened_ns", 0);
	read_fixed(&p, "label", coord_param_text(&p, "label"), s->label, sizeof(s->label));
	read_fixed(&p, "name", coord_param_string(&p, "name"), s->name, sizeof(s->name));
	extra = coord_param_text(&p, "extra");
	s->extra = extra ? strdup(extra) : NULL;
	s->stored_bytes = read_count(&p, "stored_bytes");
	s->changed_files = read_count(&p, "changed_files");
	sn->in_use = (uint32_t)read_count(&p, "in_use");
	read_exposed(&p, sn);
	if (p.bad) {
		*ret_bad = p.bad;
		return -EINVAL;
	}
	*ret = TAKE(sn);
	return 0;
}

int coord_json_read_snapshots(const json_t *array, struct coord_snapshot_list *ret,
			      const char **ret_bad)
{
	struct coord_snapshot *sn;
	const json_t *one;
	size_t i;
	int r = 0;

	TAILQ_INIT(ret);
	if (!json_is_array(array)) {
		*ret_bad = "snapshots";
		return -EINVAL;
	}
	json_array_foreach((json_t *)array, i, one) {
		r = read_snapshot(one, &sn, ret_bad);
		if (r < 0) {
			coord_snapshots_done(ret);
			return r;
		}
		TAILQ_INSERT_TAIL(ret, sn, link);
	}
	return 0;
}

int coord_json_read_answer(const json_t *params, struct coord_answer *ret,
			   struct coord_snapshot_list *ret_list, const char **ret_bad)
{
	struct coord_params p = { .object = params };
	struct coord_params result = { .object = json_object_get(params, "result") };
	const char *error = coord_param_text(&p, "error"),
		   *message = coord_param_text(&p, "message");
	int64_t r = coord_param_int(&p, "errno", 0);
	const json_t *list = member(&result, "snapshots");

	TAILQ_INIT(ret_list);
	*ret = (struct coord_answer){ .fd = -1 };
	ret->r = r > 0 || r < -4095 ? 0 : (int)r;
	if (error)
		ret->error = umbra_error_from_name(error);
	else if (r != 0)
		ret->error = umbra_error_from_errno((int)r);
	ret->message = message ? message : error ? error : "no reason given";
	ret->epoch = read_count(&result, "epoch");
	ret->opened_ns = coord_param_int(&result, "opened_ns", 0);
	ret->used_bytes = read_count(&result, "used_bytes");
	ret->allocated_bytes = read_count(&result, "allocated_bytes");
	ret->max_bytes = read_count(&result, "max_bytes");
	ret->count = read_count(&result, "count");
	ret->uid = coord_param_int(&result, "uid", -1);
	coord_json_read_revert(result.object, &ret->revert);
	if (p.bad || result.bad) {
		*ret_bad = p.bad ? p.bad : result.bad;
		return -EINVAL;
	}
	if (!list)
		return 0;
	ret->list = ret_list;
	return coord_json_read_snapshots(list, ret_list, ret_bad);
}
