/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The session's calls, apart from long ones (requester_operation.c) and lists (requester_lists.c). */
#include "coordinator/client/requester_private.h"

#include "cow/base/cleanup.h"
#include "cow/base/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

/* What a failed umbra_requester_new says: there is no object then to keep it. */
static __thread char new_message[1024];

/* ---- failures ---- */

enum umbra_error requester_fail(struct umbra_requester *r, enum umbra_error e, const char *message)
{
	r->error = e;
	r->again = umbra_error_again(e);
	snprintf(r->message, sizeof(r->message), "%s", message);
	return e;
}

/* A refusal is one whatever it is called: "finished" is no error's name. */
static enum umbra_error refusal(const char *name)
{
	enum umbra_error e = umbra_error_parse(name);

	return e == UMBRA_OK ? UMBRA_E_UNEXPECTED : e;
}

enum umbra_error requester_failed(struct umbra_requester *q, int r, const struct umbra_failure *f)
{
	if (r == -ENOMEM)
		return requester_fail(q, UMBRA_E_OUT_OF_MEMORY, "out of memory");
	if (r != -EREMOTEIO)
		return requester_fail(q, UMBRA_E_WRITER_INFRASTRUCTURE, f->message);
	requester_fail(q, refusal(f->name), f->message);
	q->again = f->again;
	return q->error;
}

const char *umbra_requester_message(const struct umbra_requester *r)
{
	return r ? r->message : new_message;
}

bool umbra_requester_again(const struct umbra_requester *r)
{
	return r->again;
}

const char *umbra_requester_detail(const struct umbra_requester *r, size_t i)
{
	return json_string_value(json_array_get(r->details, i));
}

/* ---- calls ---- */

enum umbra_error requester_call_fd(struct umbra_requester *r, const char *method, json_t *params,
				   int send_fd, json_t **ret, int *ret_fd)
{
	struct umbra_failure f = { .message = "connection to the coordinator lost" };
	int e;

	if (!params)
		return requester_fail(r, UMBRA_E_INVALID_ARGUMENT, "an argument is not UTF-8");
	requester_settle(r);
	e = umbra_call(r->client, method, params, send_fd, ret, ret_fd, &f);
	/* Refused or not: whoever polls for the pending operation must be woken again. When the
	 * connection is lost, this ends it. The call's own words are the last. */
	requester_resume(r);
	return e < 0 ? requester_failed(r, e, &f) : UMBRA_OK;
}

enum umbra_error requester_call(struct umbra_requester *r, const char *method, json_t *params,
				json_t **ret)
{
	return requester_call_fd(r, method, params, -1, ret, NULL);
}

static enum umbra_error call(struct umbra_requester *r, const char *method, json_t *params)
{
	return requester_call(r, method, params, NULL);
}

enum umbra_error requester_id(struct umbra_requester *r, const json_t *answer, const char *key,
			      char ret[UMBRA_ID_SIZE])
{
	const char *id = json_string_value(json_object_get(answer, key));

	if (!id || strlen(id) >= UMBRA_ID_SIZE)
		return requester_fail(r, UMBRA_E_UNEXPECTED,
				      "the coordinator's answer lacks an id");
	strcpy(ret, id);
	return UMBRA_OK;
}

bool requester_put_path(json_t *params, const char *key, const char *path)
{
	CLEANUP(free_p) char *real = realpath(path, NULL);

	/* The coordinator knows paths; what cannot be looked at here may still be one of its. */
	return umbra_json_set_path(params, key, real ? real : path) == 0;
}

/* ---- beginning and end ---- */

enum umbra_error umbra_requester_new(const char *socket, struct umbra_requester **ret)
{
	struct umbra_requester *q = calloc(1, sizeof(*q));
	int r = q ? umbra_connect(socket, &q->client) : -ENOMEM;

	if (r == 0) {
		*ret = q;
		return UMBRA_OK;
	}
	free(q);
	snprintf(new_message, sizeof(new_message), "cannot reach the coordinator: %s", err_text(r));
	return r == -ENOMEM   ? UMBRA_E_OUT_OF_MEMORY
	       : r == -EACCES ? UMBRA_E_ACCESS_DENIED
			      : UMBRA_E_WRITER_INFRASTRUCTURE;
}

void umbra_requester_free(struct umbra_requester *r)
{
	int saved = errno;

	if (!r)
		return;
	requester_forget_operation(r);
	umbra_close(r->client);
	json_decref(r->details);
	free(r);
	errno = saved;
}

enum umbra_error umbra_requester_initialize_for_backup(struct umbra_requester *r,
						       bool require_writers)
{
	json_t *answer = NULL;
	enum umbra_error e = requester_call(r, "InitializeForBackup",
					    json_pack("{s:b}", "require_writers", require_writers),
					    &answer);

	if (e == UMBRA_OK)
		e = requester_id(r, answer, "session_id", r->session_id);
	json_decref(answer);
	return e;
}

const char *umbra_requester_session_id(const struct umbra_requester *r)
{
	return r->session_id;
}

enum umbra_error umbra_requester_abort_backup(struct umbra_requester *r)
{
	return call(r, "AbortBackup", json_object());
}

enum umbra_error umbra_requester_release(struct umbra_requester *r)
{
	return call(r, "Release", json_object());
}

/* ---- what the session is for ---- */

enum umbra_error umbra_requester_set_context(struct umbra_requester *r, enum umbra_context context,
					     unsigned flags)
{
	static const char *const names[] = {
		[UMBRA_CONTEXT_BACKUP] = "backup",
		[UMBRA_CONTEXT_FILE_SHARE_BACKUP] = "file-share-backup",
		[UMBRA_CONTEXT_APP_ROLLBACK] = "app-rollback",
		[UMBRA_CONTEXT_NAS_ROLLBACK] = "nas-rollback",
		[UMBRA_CONTEXT_CLIENT_ACCESSIBLE] = "client-accessible",
		[UMBRA_CONTEXT_CLIENT_ACCESSIBLE_WRITERS] = "client-accessible-writers",
		[UMBRA_CONTEXT_ALL] = "all",
	};

	if ((unsigned)context >= COUNT(names) ||
	    flags & ~(unsigned)(UMBRA_NO_AUTORECOVERY | UMBRA_ROLLBACK_RECOVERY))
		return requester_fail(r, UMBRA_E_INVALID_ARGUMENT, "no such context, or flag");
	return call(r, "SetContext",
		    json_pack("{s:s, s:b, s:b}", "context", names[context], "no_autorecovery",
			      !!(flags & UMBRA_NO_AUTORECOVERY), "rollback_recovery",
			      !!(flags & UMBRA_ROLLBACK_RECOVERY)));
}

enum umbra_error umbra_requester_set_backup_state(struct umbra_requester *r,
						  enum umbra_backup_type type, unsigned flags)
{
	static const char *const names[] = {
		[UMBRA_BACKUP_FULL] = "full",
		[UMBRA_BACKUP_INCREMENTAL] = "incremental",
		[UMBRA_BACKUP_DIFFERENTIAL] = "differential",
		[UMBRA_BACKUP_LOG] = "log",
		[UMBRA_BACKUP_COPY] = "copy",
		[UMBRA_BACKUP_OTHER] = "other",
	};
	const unsigned all = UMBRA_COMPONENT_MODE | UMBRA_BOOTABLE_STATE | UMBRA_PARTIAL_FILES;

	if ((unsigned)type >= COUNT(names) || flags & ~all)
		return requester_fail(r, UMBRA_E_INVALID_ARGUMENT, "no such type, or flag");
	return call(r, "SetBackupState",
		    json_pack("{s:s, s:b, s:b, s:b}", "type", names[type], "component_mode",
			      !!(flags & UMBRA_COMPONENT_MODE), "bootable_state",
			      !!(flags & UMBRA_BOOTABLE_STATE), "partial_files",
			      !!(flags & UMBRA_PARTIAL_FILES)));
}

enum umbra_error umbra_requester_enable_writer(struct umbra_requester *r, const char *id)
{
	return call(r, "EnableWriter", json_pack("{s:s}", "id", id));
}

enum umbra_error umbra_requester_disable_writer(struct umbra_requester *r, const char *id)
{
	return call(r, "DisableWriter", json_pack("{s:s}", "id", id));
}

enum umbra_error umbra_requester_add_component(struct umbra_requester *r, const char *instance_id,
					       const char *logical_path, const char *name)
{
	return call(r, "AddComponent",
		    json_pack("{s:s, s:s?, s:s}", "instance_id", instance_id, "logical_path",
			      logical_path, "name", name));
}

enum umbra_error umbra_requester_set_backup_succeeded(struct umbra_requester *r, bool succeeded,
						      const char *instance_id,
						      const char *logical_path, const char *name)
{
	return call(r, "SetBackupSucceeded",
		    json_pack("{s:b, s:s?, s:s?, s:s?}", "succeeded", succeeded, "instance_id",
			      instance_id, "logical_path", logical_path, "name", name));
}

/* ---- the set ---- */

enum umbra_error umbra_requester_start_snapshot_set(struct umbra_requester *r,
						    char ret_set_id[UMBRA_ID_SIZE])
{
	char id[UMBRA_ID_SIZE];
	json_t *answer = NULL;
	enum umbra_error e = requester_call(r, "StartSnapshotSet", json_object(), &answer);

	if (e == UMBRA_OK)
		e = requester_id(r, answer, "set_id", ret_set_id ? ret_set_id : id);
	json_decref(answer);
	return e;
}

enum umbra_error umbra_requester_add_to_snapshot_set(struct umbra_requester *r, const char *path,
						     const char *label, const char *description,
						     char ret_snapshot_id[UMBRA_ID_SIZE])
{
	json_t *params = json_pack("{s:s?, s:s?}", "label", label, "description", description);
	char id[UMBRA_ID_SIZE];
	json_t *answer = NULL;
	enum umbra_error e;

	if (params && !requester_put_path(params, "path", path)) {
		json_decref(params);
		return requester_fail(r, UMBRA_E_OUT_OF_MEMORY, "out of memory");
	}
	e = requester_call(r, "AddToSnapshotSet", params, &answer);
	if (e == UMBRA_OK)
		e = requester_id(r, answer, "snapshot_id", ret_snapshot_id ? ret_snapshot_id : id);
	json_decref(answer);
	return e;
}

enum umbra_error umbra_requester_delete_snapshots(struct umbra_requester *r, const char *id,
						  bool force, size_t *ret_deleted,
						  char ret_first_not_deleted[UMBRA_ID_SIZE])
{
	json_t *answer = NULL;
	enum umbra_error e = requester_call(r, "DeleteSnapshots",
					    json_pack("{s:s, s:b}", "id", id, "force", force),
					    &answer);
	const char *first = json_string_value(json_object_get(answer, "first_not_deleted"));
	const char *error = json_string_value(json_object_get(answer, "error"));
	const char *message = json_string_value(json_object_get(answer, "message"));

	if (ret_deleted)
		*ret_deleted = (size_t)json_integer_value(json_object_get(answer, "deleted"));
	if (ret_first_not_deleted) /* nothing was deleted when the call itself failed */
		snprintf(ret_first_not_deleted, UMBRA_ID_SIZE, "%s", first ? first : "");
	if (e == UMBRA_OK && error)
		e = requester_fail(r, refusal(error), message ? message : error);
	json_decref(answer);
	return e;
}
