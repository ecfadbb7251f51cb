#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <umbra/requester.h>

#include "coordinator/client/requester_private.h"
#include "coordinator/client/texts.h"
#include "tests/support/fake_coord.h"
#include "tests/support/leaks.h"

/* Answers are written before the call that takes them, so that no second thread is needed; what was
 * called is looked at afterwards. */
struct world {
	struct fake fake;
	struct umbra_requester *r;
};

static void begin(struct world *x)
{
	fake_listen(&x->fake);
	fake_start(&x->fake, NULL);
	cr_assert_eq(umbra_requester_new(x->fake.path, &x->r), UMBRA_OK);
	fake_join(&x->fake);
}

static void end(struct world *x)
{
	umbra_requester_free(x->r);
	x->r = NULL;
	fake_done(&x->fake);
	assert_no_leaks();
}

static void answer_empty(struct world *x)
{
	fake_answer(&x->fake, json_object());
}

static void answer_operation(struct world *x, const char *status, const char *detail)
{
	fake_answer(&x->fake,
		    json_pack("{s:{s:s, s:s, s:s, s:s, s:[s*]}}", "operation", "id", "op1", "call",
			      "c", "status", status, "message", "because", "details", detail));
}

/* The next call has these parameters, "{}" for none. */
static void expect_call(struct world *x, const char *method, const char *want)
{
	json_t *params = fake_expect(&x->fake, method), *wanted = json_loads(want, 0, NULL);
	char *text = json_dumps(params, JSON_COMPACT);

	cr_assert(wanted);
	cr_expect(json_equal(params, wanted), "%s has %s, wanted %s", method, text, want);
	free(text);
	json_decref(params);
	json_decref(wanted);
}

static void expect_no_call(struct world *x)
{
	struct pollfd p = { .fd = x->fake.sock, .events = POLLIN };

	cr_expect_eq(poll(&p, 1, 0), 0);
	cr_expect_eq(umbra_wire_partial(x->fake.wire), 0);
}

/* ---- calls ---- */

Test(client_requester, connecting_where_nobody_listens_says_so)
{
	struct umbra_requester *r = (struct umbra_requester *)&r;

	cr_expect_eq(umbra_requester_new("/nonexistent/x", &r), UMBRA_E_WRITER_INFRASTRUCTURE);
	cr_expect_eq(r, (struct umbra_requester *)&r, "ret was touched");
	cr_expect(strstr(umbra_requester_message(NULL), "No such file"), "%s",
		  umbra_requester_message(NULL));
	umbra_requester_free(NULL);
}

Test(client_requester, calls_carry_what_they_were_given)
{
	struct world x;
	char id[UMBRA_ID_SIZE];

	begin(&x);
	fake_answer(&x.fake, json_pack("{s:s}", "session_id", "s-1"));
	cr_expect_eq(umbra_requester_initialize_for_backup(x.r, true), UMBRA_OK);
	expect_call(&x, "InitializeForBackup", "{\"require_writers\":true}");
	cr_expect_str_eq(umbra_requester_session_id(x.r), "s-1");
	answer_empty(&x);
	cr_expect_eq(umbra_requester_set_context(x.r, UMBRA_CONTEXT_CLIENT_ACCESSIBLE_WRITERS,
						 UMBRA_ROLLBACK_RECOVERY),
		     UMBRA_OK);
	expect_call(&x, "SetContext",
		    "{\"context\":\"client-accessible-writers\",\"no_autorecovery\":false,"
		    "\"rollback_recovery\":true}");
	answer_empty(&x);
	cr_expect_eq(umbra_requester_set_backup_state(x.r, UMBRA_BACKUP_DIFFERENTIAL,
						      UMBRA_COMPONENT_MODE | UMBRA_PARTIAL_FILES),
		     UMBRA_OK);
	expect_call(&x, "SetBackupState",
		    "{\"type\":\"differential\",\"component_mode\":true,\"bootable_state\":false,"
		    "\"partial_files\":true}");
	answer_empty(&x);
	cr_expect_eq(umbra_requester_enable_writer(x.r, "w"), UMBRA_OK);
	expect_call(&x, "EnableWriter", "{\"id\":\"w\"}");
	answer_empty(&x);
	cr_expect_eq(umbra_requester_disable_writer(x.r, "w"), UMBRA_OK);
	expect_call(&x, "DisableWriter", "{\"id\":\"w\"}");
	answer_empty(&x);
	cr_expect_eq(umbra_requester_add_component(x.r, "i", NULL, "db"), UMBRA_OK);
	expect_call(&x, "AddComponent",
		    "{\"instance_id\":\"i\",\"logical_path\":null,\"name\":\"db\"}");
	fake_answer(&x.fake, json_pack("{s:s}", "set_id", "set-1"));
	cr_expect_eq(umbra_requester_start_snapshot_set(x.r, id), UMBRA_OK);
	expect_call(&x, "StartSnapshotSet", "{}");
	cr_expect_str_eq(id, "set-1");
	fake_answer(&x.fake, json_pack("{s:s}", "snapshot_id", "n-1"));
	cr_expect_eq(umbra_requester_add_to_snapshot_set(x.r, "/gone/from/here", "l", NULL, id),
		     UMBRA_OK);
	expect_call(&x, "AddToSnapshotSet",
		    "{\"path\":\"/gone/from/here\",\"label\":\"l\",\"description\":null}");
	cr_expect_str_eq(id, "n-1");
	answer_empty(&x);
	cr_expect_eq(umbra_requester_set_backup_succeeded(x.r, true, NULL, NULL, NULL), UMBRA_OK);
	expect_call(
		&x, "SetBackupSucceeded",
		"{\"succeeded\":true,\"instance_id\":null,\"logical_path\":null,\"name\":null}");
	answer_empty(&x);
	cr_expect_eq(umbra_requester_abort_backup(x.r), UMBRA_OK);
	expect_call(&x, "AbortBackup", "{}");
	answer_empty(&x);
	cr_expect_eq(umbra_requester_release(x.r), UMBRA_OK);
	expect_call(&x, "Release", "{}");
	end(&x);
}

Test(client_requester, paths_of_any_bytes_reach_the_coordinator)
{
	struct world x;

	begin(&x);
	fake_answer(&x.fake, json_pack("{s:s}", "snapshot_id", "n-1"));
	cr_expect_eq(umbra_requester_add_to_snapshot_set(x.r, "/gone/\xff", NULL, NULL, NULL),
		     UMBRA_OK);
	expect_call(&x, "AddToSnapshotSet",
		    "{\"path\":\"/gone/\xef\xbf\xbd\",\"path_base64\":\"L2dvbmUv/w==\","
		    "\"label\":null,\"description\":null}");
	end(&x);
}

Test(client_requester, refusal_has_its_name_words_and_whether_to_try_again)
{
	struct world x;
	char id[UMBRA_ID_SIZE] = "as before";

	begin(&x);
	fake_refuse(&x.fake, "snapshot-set-in-progress", "session 7 has it");
	cr_expect_eq(umbra_requester_start_snapshot_set(x.r, id), UMBRA_E_SNAPSHOT_SET_IN_PROGRESS);
	cr_expect_str_eq(umbra_requester_message(x.r), "session 7 has it");
	cr_expect(!umbra_requester_again(x.r), "the coordinator knows better than the table");
	cr_expect_str_eq(id, "as before");
	fake_refuse(&x.fake, "from-the-future", "?");
	cr_expect_eq(umbra_requester_start_snapshot_set(x.r, id), UMBRA_E_UNEXPECTED);
	fake_refuse(&x.fake, "finished", "a refusal is one whatever it is called");
	cr_expect_eq(umbra_requester_abort_backup(x.r), UMBRA_E_UNEXPECTED);
	answer_empty(&x);
	cr_expect_eq(umbra_requester_start_snapshot_set(x.r, id), UMBRA_E_UNEXPECTED, "no id");
	end(&x);
}

Test(client_requester, what_cannot_be_sent_is_refused_here)
{
	struct world x;

	begin(&x);
	cr_expect_eq(umbra_requester_set_context(x.r, (enum umbra_context)99, 0),
		     UMBRA_E_INVALID_ARGUMENT);
	cr_expect_eq(umbra_requester_set_context(x.r, UMBRA_CONTEXT_BACKUP, 4),
		     UMBRA_E_INVALID_ARGUMENT);
	cr_expect_eq(umbra_requester_set_backup_state(x.r, (enum umbra_backup_type)99, 0),
		     UMBRA_E_INVALID_ARGUMENT);
	cr_expect_eq(umbra_requester_add_component(x.r, "i", NULL, "\xff"),
		     UMBRA_E_INVALID_ARGUMENT);
	cr_expect_eq(umbra_requester_add_to_snapshot_set(x.r, "/", "\xff", NULL, NULL),
		     UMBRA_E_INVALID_ARGUMENT);
	expect_no_call(&x);
	end(&x);
}

/* K-6 */
Test(client_requester, lost_coordinator_is_writer_infrastructure)
{
	struct world x;

	begin(&x);
	fake_hang_up(&x.fake);
	cr_expect_eq(umbra_requester_abort_backup(x.r), UMBRA_E_WRITER_INFRASTRUCTURE);
	cr_expect(umbra_requester_again(x.r));
	cr_expect_neq(umbra_requester_message(x.r)[0], 0);
	cr_expect_eq(umbra_requester_release(x.r), UMBRA_E_WRITER_INFRASTRUCTURE);
	end(&x);
}

/* D-11 */
Test(client_requester, delete_tells_how_far_it_came)
{
	struct world x;
	size_t deleted = 77;
	char first[UMBRA_ID_SIZE];

	begin(&x);
	fake_answer(&x.fake, json_pack("{s:i, s:s, s:s, s:s}", "deleted", 2, "first_not_deleted",
				       "n-3", "error", "volume-in-use", "message", "open files"));
	cr_expect_eq(umbra_requester_delete_snapshots(x.r, "set-1", true, &deleted, first),
		     UMBRA_E_VOLUME_IN_USE);
	expect_call(&x, "DeleteSnapshots", "{\"id\":\"set-1\",\"force\":true}");
	cr_expect_eq(deleted, 2);
	cr_expect_str_eq(first, "n-3");
	cr_expect_str_eq(umbra_requester_message(x.r), "open files");
	fake_answer(&x.fake, json_pack("{s:i, s:n}", "deleted", 3, "first_not_deleted"));
	cr_expect_eq(umbra_requester_delete_snapshots(x.r, "set-1", false, &deleted, first),
		     UMBRA_OK);
	cr_expect_eq(deleted, 3);
	cr_expect_str_eq(first, "");
	end(&x);
}

/* C-10, C-13 */
Test(client_requester, expose_says_where_and_unexpose_asks_for_its_end)
{
	struct world x;
	struct umbra_snapshots *list = NULL;
	const struct umbra_snapshot *s;

	begin(&x);
	fake_answer(&x.fake,
		    json_pack("{s:{s:s, s:b, s:s, s:s, s:s, s:s, s:n}}", "snapshot", "id", "n-1",
			      "exposed_locally", 1, "exposed_path", "/m?", "exposed_path_base64",
			      "L23/", "exposed_subdir", "a/b", "name", "one", "exposed_problem"));
	cr_expect_eq(umbra_requester_expose(x.r, "n-1", "/nonexistent/m", "a/b", &list), UMBRA_OK);
	expect_call(&x, "Expose",
		    "{\"path\":\"/nonexistent/m\",\"snapshot_id\":\"n-1\",\"subdir\":\"a/b\"}");
	cr_assert_eq(umbra_snapshots_count(list), 1);
	s = umbra_snapshots_get(list, 0);
	cr_expect(umbra_snapshot_exposed_locally(s));
	cr_expect_str_eq(umbra_snapshot_exposed_path(s), "/m\xff");
	cr_expect_str_eq(umbra_snapshot_exposed_subdir(s), "a/b");
	cr_expect_null(umbra_snapshot_exposed_problem(s));
	umbra_snapshots_free(list);
	fake_answer(&x.fake, json_pack("{s:{s:s}}", "snapshot", "id", "n-1"));
	cr_expect_eq(umbra_requester_expose(x.r, "n-1", NULL, NULL, &list), UMBRA_OK);
	expect_call(&x, "Expose", "{\"snapshot_id\":\"n-1\"}");
	s = umbra_snapshots_get(list, 0);
	cr_expect_not(umbra_snapshot_exposed_locally(s));
	cr_expect_null(umbra_snapshot_exposed_path(s));
	umbra_snapshots_free(list);
	list = NULL;
	fake_answer(&x.fake, json_object());
	cr_expect_eq(umbra_requester_expose(x.r, "n-1", NULL, NULL, &list), UMBRA_E_UNEXPECTED);
	expect_call(&x, "Expose", "{\"snapshot_id\":\"n-1\"}");
	cr_expect_null(list, "written on failure");
	fake_answer(&x.fake, json_object());
	cr_expect_eq(umbra_requester_unexpose(x.r, "n-1", true), UMBRA_OK);
	expect_call(&x, "Unexpose", "{\"force\":true,\"snapshot_id\":\"n-1\"}");
	end(&x);
}

/* ---- operations (S-7, S-8) ---- */

static void begin_operation(struct world *x, struct umbra_operation **ret)
{
	begin(x);
	fake_answer(&x->fake, json_pack("{s:s}", "operation_id", "op1"));
	cr_assert_eq(umbra_requester_begin(x->r, UMBRA_CALL_DO_SNAPSHOT_SET, ret), UMBRA_OK);
	expect_call(x, "DoSnapshotSet", "{}");
}

static void expect_wait(struct world *x)
{
	expect_call(x, "WaitOperation", "{\"operation_id\":\"op1\",\"timeout_ms\":100}");
}

Test(client_requester, long_call_waits_for_the_end_of_its_operation)
{
	static enum umbra_error (*const sync[])(struct umbra_requester *) = {
		umbra_requester_gather_writer_metadata, umbra_requester_prepare_for_backup,
		umbra_requester_do_snapshot_set,	umbra_requester_gather_writer_status,
		umbra_requester_backup_complete,	umbra_requester_pre_restore,
		umbra_requester_post_restore,
	};
	static const char *const names[] = { "GatherWriterMetadata", "PrepareForBackup",
					     "DoSnapshotSet",	     "GatherWriterStatus",
					     "BackupComplete",	     "PreRestore",
					     "PostRestore" };
	struct world x;

	begin(&x);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		fake_answer(&x.fake, json_pack("{s:s}", "operation_id", "op1"));
		answer_operation(&x, "pending", NULL);
		answer_operation(&x, "pending", NULL);
		answer_operation(&x, "finished", "a writer was late");
		cr_expect_eq(sync[i](x.r), UMBRA_OK);
		expect_call(&x, names[i], "{}");
		for (int n = 0; n < 3; n++)
			expect_wait(&x);
		expect_no_call(&x);
	}
	cr_expect_str_eq(umbra_requester_detail(x.r, 0), "a writer was late");
	cr_expect_null(umbra_requester_detail(x.r, 1));
	end(&x);
}

Test(client_requester, long_call_fails_with_what_its_operation_failed_with)
{
	struct world x;

	begin(&x);
	fake_answer(&x.fake, json_pack("{s:s}", "operation_id", "op1"));
	answer_operation(&x, "hold-writes-timeout", "too slow");
	cr_expect_eq(umbra_requester_do_snapshot_set(x.r), UMBRA_E_HOLD_WRITES_TIMEOUT);
	cr_expect_str_eq(umbra_requester_message(x.r), "because");
	cr_expect(umbra_requester_again(x.r));
	cr_expect_str_eq(umbra_requester_detail(x.r, 0), "too slow");
	fake_refuse(&x.fake, "bad-state", "not now");
	cr_expect_eq(umbra_requester_do_snapshot_set(x.r), UMBRA_E_BAD_STATE);
	end(&x);
}

Test(client_requester, operation_is_served_in_the_callers_loop)
{
	struct world x;
	struct umbra_operation *op;
	struct pollfd p = { .events = POLLIN };

	begin_operation(&x, &op);
	p.fd = umbra_operation_fd(op);
	expect_wait(&x);
	cr_expect_eq(umbra_operation_dispatch(op), UMBRA_STATUS_PENDING);
	expect_no_call(&x);
	answer_operation(&x, "pending", NULL);
	cr_expect_eq(poll(&p, 1, -1), 1);
	cr_expect_eq(umbra_operation_dispatch(op), UMBRA_STATUS_PENDING);
	expect_wait(&x);
	cr_expect_eq(poll(&p, 1, 0), 0);
	answer_operation(&x, "finished", NULL);
	cr_expect_eq(umbra_operation_status(op), UMBRA_STATUS_PENDING, "asks nobody");
	cr_expect_eq(umbra_operation_dispatch(op), UMBRA_STATUS_FINISHED);
	cr_expect_eq(umbra_operation_dispatch(op), UMBRA_STATUS_FINISHED);
	cr_expect_eq(umbra_operation_error(op), UMBRA_OK);
	cr_expect_eq(umbra_operation_fd(op), -1);
	expect_no_call(&x);
	umbra_operation_free(op);
	op = NULL;
	end(&x);
}

/* */
Test(client_requester, other_calls_get_through_while_one_is_pending)
{
	struct world x;
	struct umbra_operation *op, *other = (struct umbra_operation *)&x;

	begin_operation(&x, &op);
	expect_wait(&x);
	answer_operation(&x, "pending", NULL); /* the slice ends */
	cr_expect_eq(umbra_requester_begin(x.r, UMBRA_CALL_BACKUP_COMPLETE, &other),
		     UMBRA_E_BAD_STATE);
	cr_expect_eq(other, (struct umbra_operation *)&x, "ret was touched");
	expect_wait(&x);
	answer_operation(&x, "pending", NULL);
	answer_empty(&x);
	cr_expect_eq(umbra_requester_abort_backup(x.r), UMBRA_OK);
	expect_call(&x, "AbortBackup", "{}");
	expect_wait(&x); /* the caller that polls is woken again */
	answer_operation(&x, "cancelled", NULL);
	cr_expect_eq(umbra_operation_wait(op, -1), UMBRA_STATUS_CANCELLED);
	cr_expect_eq(umbra_operation_error(op), UMBRA_E_CANCELLED);
	umbra_operation_free(op);
	op = NULL;
	end(&x);
}

/* */
Test(client_requester, refused_call_does_not_silence_the_pending_operation)
{
	struct world x;
	struct umbra_operation *op;

	begin_operation(&x, &op);
	expect_wait(&x);
	answer_operation(&x, "pending", NULL);
	fake_refuse(&x.fake, "bad-state", "not now");
	cr_expect_eq(umbra_requester_start_snapshot_set(x.r, NULL), UMBRA_E_BAD_STATE);
	cr_expect_str_eq(umbra_requester_message(x.r), "not now");
	expect_call(&x, "StartSnapshotSet", "{}");
	expect_wait(&x); /* the caller that polls is woken again */
	answer_operation(&x, "finished", NULL);
	cr_expect_eq(umbra_operation_wait(op, -1), UMBRA_STATUS_FINISHED);
	umbra_operation_free(op);
	op = NULL;
	end(&x);
}

/* K-6 */
Test(client_requester, call_that_finds_the_coordinator_gone_ends_the_pending_operation)
{
	struct world x;
	struct umbra_operation *op;

	begin_operation(&x, &op);
	expect_wait(&x);
	answer_operation(&x, "pending", NULL);
	fake_hang_up(&x.fake);
	cr_expect_eq(umbra_requester_abort_backup(x.r), UMBRA_E_WRITER_INFRASTRUCTURE);
	cr_expect_eq(umbra_operation_status(op), UMBRA_STATUS_FAILED);
	cr_expect_eq(umbra_operation_fd(op), -1);
	cr_expect_neq(umbra_requester_message(x.r)[0], 0);
	umbra_operation_free(op);
	op = NULL;
	end(&x);
}

Test(client_requester, call_may_learn_of_the_end_of_an_operation)
{
	struct world x;
	struct umbra_operation *op;

	begin_operation(&x, &op);
	answer_operation(&x, "finished", NULL);
	fake_answer(&x.fake, json_pack("{s:s}", "operation_id", "op2"));
	answer_operation(&x, "finished", NULL);
	cr_expect_eq(umbra_requester_backup_complete(x.r), UMBRA_OK);
	cr_expect_eq(umbra_operation_status(op), UMBRA_STATUS_FINISHED);
	umbra_operation_free(op);
	op = NULL;
	end(&x);
}

/* S-8 */
Test(client_requester, cancel_is_over_when_the_operation_says_so)
{
	struct world x;
	struct umbra_operation *op;

	begin_operation(&x, &op);
	expect_wait(&x);
	answer_operation(&x, "pending", NULL);
	fake_answer(&x.fake, json_pack("{s:s}", "status", "pending"));
	cr_expect_eq(umbra_operation_cancel(op), UMBRA_STATUS_PENDING);
	expect_call(&x, "CancelOperation", "{\"operation_id\":\"op1\"}");
	expect_wait(&x);
	answer_operation(&x, "cancelled", NULL);
	cr_expect_eq(umbra_operation_wait(op, -1), UMBRA_STATUS_CANCELLED);
	cr_expect_eq(umbra_operation_cancel(op), UMBRA_STATUS_CANCELLED);
	expect_no_call(&x);
	umbra_operation_free(op);
	op = NULL;
	end(&x);
}

Test(client_requester, forgotten_operation_does_not_confuse_the_next_call)
{
	struct world x;
	struct umbra_operation *op;

	begin_operation(&x, &op);
	umbra_operation_free(op);
	op = NULL;
	answer_operation(&x, "finished", NULL);
	fake_answer(&x.fake, json_pack("{s:s}", "set_id", "set-9"));
	{
		char id[UMBRA_ID_SIZE];

		cr_expect_eq(umbra_requester_start_snapshot_set(x.r, id), UMBRA_OK);
		cr_expect_str_eq(id, "set-9");
	}
	end(&x);
}

Test(client_requester, operation_outlives_its_requester)
{
	struct world x;
	struct umbra_operation *op;

	begin_operation(&x, &op);
	umbra_requester_free(x.r);
	x.r = NULL;
	cr_expect_eq(umbra_operation_wait(op, -1), UMBRA_STATUS_FAILED);
	cr_expect_eq(umbra_operation_error(op), UMBRA_E_WRITER_INFRASTRUCTURE);
	cr_expect_eq(umbra_operation_cancel(op), UMBRA_STATUS_FAILED);
	umbra_operation_free(op);
	op = NULL;
	end(&x);
}

Test(client_requester, operation_of_a_lost_coordinator_fails)
{
	struct world x;
	struct umbra_operation *op;

	begin_operation(&x, &op);
	fake_hang_up(&x.fake);
	cr_expect_eq(umbra_operation_wait(op, -1), UMBRA_STATUS_FAILED);
	cr_expect_eq(umbra_operation_error(op), UMBRA_E_WRITER_INFRASTRUCTURE);
	cr_expect_neq(umbra_requester_message(x.r)[0], 0);
	umbra_operation_free(op);
	op = NULL;
	end(&x);
}

/* ---- lists ---- */

Test(client_requester, snapshots_are_read_through_their_accessors)
{
	struct world x;
	struct umbra_snapshots *list = NULL;
	const struct umbra_snapshot *s;

	begin(&x);
	fake_answer(&x.fake,
		    json_pack("{s:[{s:s, s:s, s:s, s:s, s:s, s:s, s:n, s:b, s:i, s:I, s:s}, {}]}",
			      "snapshots", "id", "n-1", "set_id", "set-1", "tree_path",
			      "/t\xef\xbf\xbd", "tree_path_base64", "L3T/", "name", "@GMT", "label",
			      "l", "path", "persistent", 1, "in_set", 2, "stored_bytes",
			      (json_int_t)1 << 40, "created", "2026-11-21T03:00:00.000000001Z"));
	cr_expect_eq(umbra_requester_query(x.r, "/gone/t", NULL, "set-1", &list), UMBRA_OK);
	expect_call(&x, "Query",
		    "{\"tree\":\"/gone/t\",\"snapshot_id\":null,\"set_id\":\"set-1\"}");
	cr_assert_eq(umbra_snapshots_count(list), 2);
	s = umbra_snapshots_get(list, 0);
	cr_expect_str_eq(umbra_snapshot_id(s), "n-1");
	cr_expect_str_eq(umbra_snapshot_tree_path(s), "/t\xff", "the exact bytes");
	cr_expect_str_eq(umbra_snapshot_label(s), "l");
	cr_expect_null(umbra_snapshot_path(s));
	cr_expect_null(umbra_snapshot_description(s));
	cr_expect(umbra_snapshot_persistent(s));
	cr_expect(!umbra_snapshot_auto_release(s));
	cr_expect_eq(umbra_snapshot_in_set(s), 2);
	cr_expect_eq(umbra_snapshot_stored_bytes(s), (uint64_t)1 << 40);
	cr_expect_str_eq(umbra_snapshot_created(s), "2026-11-21T03:00:00.000000001Z");
	cr_expect_str_eq(umbra_snapshot_id(umbra_snapshots_get(list, 1)), "", "forgotten members");
	cr_expect_null(umbra_snapshots_get(list, 2));
	umbra_snapshots_free(list);
	fake_answer(&x.fake, json_pack("{s:{s:s, s:s}}", "snapshot", "id", "n-7", "path", "/p"));
	cr_expect_eq(umbra_requester_get_snapshot(x.r, "n-7", &list), UMBRA_OK);
	cr_assert_eq(umbra_snapshots_count(list), 1);
	cr_expect_str_eq(umbra_snapshot_path(umbra_snapshots_get(list, 0)), "/p");
	umbra_snapshots_free(list);
	list = NULL;
	s = NULL;
	answer_empty(&x);
	cr_expect_eq(umbra_requester_get_snapshot(x.r, "n-7", &list), UMBRA_E_UNEXPECTED);
	cr_expect_null(list);
	end(&x);
}

Test(client_requester, writers_are_read_through_their_accessors)
{
	struct world x;
	struct umbra_writers *list = NULL;
	const struct umbra_writer_info *w;

	begin(&x);
	fake_answer(&x.fake,
		    json_pack("{s:[{s:{s:s, s:s, s:s}, s:{s:i}}, {s:{s:s}, s:n}]}", "writers",
			      "writer", "name", "db", "level", "back-end", "class_id", "c1",
			      "document", "a", 1, "writer", "name", "x", "document"));
	cr_expect_eq(umbra_requester_get_writer_metadata(x.r, &list), UMBRA_OK);
	cr_assert_eq(umbra_writers_count(list), 2);
	w = umbra_writers_get(list, 0);
	cr_expect_str_eq(umbra_writer_info_name(w), "db");
	cr_expect_str_eq(umbra_writer_info_level(w), "back-end");
	cr_expect_str_eq(umbra_writer_info_document(w), "{\n  \"a\": 1\n}");
	cr_expect_null(umbra_writer_info_state(w));
	cr_expect_eq(umbra_writer_info_frozen_ms(w), -1);
	cr_expect_null(umbra_writer_info_document(umbra_writers_get(list, 1)));
	umbra_writers_free(list);
	fake_answer(&x.fake, json_pack("{s:[{s:s, s:s, s:s, s:b, s:i}]}", "writers", "name", "db",
				       "state", "failed-at-freeze", "error", "timeout", "aborted",
				       1, "frozen_ms", 0));
	cr_expect_eq(umbra_requester_get_writer_status(x.r, &list), UMBRA_OK);
	w = umbra_writers_get(list, 0);
	cr_expect_str_eq(umbra_writer_info_state(w), "failed-at-freeze");
	cr_expect_str_eq(umbra_writer_info_error(w), "timeout");
	cr_expect(umbra_writer_info_aborted(w));
	cr_expect_eq(umbra_writer_info_frozen_ms(w), 0);
	umbra_writers_free(list);
	list = NULL;
	w = NULL;
	end(&x);
}

Test(client_requester, documents_are_texts)
{
	struct world x;
	struct umbra_documents *d = NULL;

	begin(&x);
	fake_answer(&x.fake,
		    json_pack("{s:s, s:[s,s]}", "document", "D", "writer_documents", "W0", "W1"));
	cr_expect_eq(umbra_requester_save_document(x.r, &d), UMBRA_OK);
	cr_expect_str_eq(umbra_documents_backup(d), "D");
	cr_expect_str_eq(umbra_documents_writer(d, 1), "W1");
	cr_expect_null(umbra_documents_writer(d, 2));
	umbra_documents_free(d);
	umbra_documents_free(NULL);
	d = NULL;
	end(&x);
}

/* ---- a restore */

/* The texts of a JSON array in a sealed file. */
static int sealed(const char *texts)
{
	json_t *list = json_loads(texts, 0, NULL);
	int fd = -1;

	cr_assert_eq(umbra_texts_put(list, UMBRA_DOCUMENTS_MAX, &fd), 0);
	json_decref(list);
	return fd;
}

Test(client_requester, x2_documents_come_and_go_by_descriptor)
{
	struct world x;
	struct umbra_documents *d = NULL;
	json_t *texts = NULL, *want = json_pack("[s, s, s]", "D", "W0", "W1");
	int fd = sealed("[\"D\", \"W0\", \"W1\"]");

	begin(&x);
	fake_answer_fd(&x.fake, fd);
	cr_expect_eq(umbra_requester_save_document(x.r, &d), UMBRA_OK);
	expect_call(&x, "SaveDocument", "{\"descriptor\":true}");
	cr_expect_str_eq(umbra_documents_backup(d), "D");
	cr_expect_str_eq(umbra_documents_writer(d, 1), "W1");
	cr_expect_null(umbra_documents_writer(d, 2));
	fake_answer(&x.fake, json_pack("{s:s}", "session_id", "s-9"));
	cr_expect_eq(umbra_requester_initialize_for_restore(x.r, d), UMBRA_OK);
	expect_call(&x, "InitializeForRestore", "{}");
	cr_expect_str_eq(umbra_requester_session_id(x.r), "s-9");
	cr_assert_eq(umbra_texts_take(x.fake.fd, 100, &texts), 0);
	cr_expect(json_equal(texts, want));
	umbra_documents_free(d);
	d = (struct umbra_documents *)&x;
	fake_answer(&x.fake, json_pack("{s:i, s:[]}", "document", 1, "writer_documents"));
	cr_expect_eq(umbra_requester_save_document(x.r, &d), UMBRA_E_UNEXPECTED);
	cr_expect_eq(d, (struct umbra_documents *)&x, "ret was touched");
	close(fd);
	fd = sealed("[]");
	fake_answer_fd(&x.fake, fd);
	cr_expect_eq(umbra_requester_save_document(x.r, &d), UMBRA_E_UNEXPECTED);
	close(fd);
	json_decref(texts);
	json_decref(want);
	texts = want = NULL;
	end(&x);
}

Test(client_requester, more_documents_than_a_restore_takes_are_refused_here)
{
	struct world x;
	struct umbra_documents *d = NULL;
	char *longer = calloc(1, UMBRA_DOCUMENTS_MAX + 1);

	begin(&x);
	memset(longer, ' ', UMBRA_DOCUMENTS_MAX);
	cr_assert_eq(umbra_documents_new(longer, NULL, 0, &d), UMBRA_OK);
	cr_expect_eq(umbra_requester_initialize_for_restore(x.r, d), UMBRA_E_INVALID_ARGUMENT);
	cr_expect(strstr(umbra_requester_message(x.r), "64 MiB"), "%s",
		  umbra_requester_message(x.r));
	expect_no_call(&x);
	umbra_documents_free(d);
	free(longer);
	d = NULL;
	longer = NULL;
	end(&x);
}

Test(client_requester, documents_are_kept_in_a_file)
{
	static const char *const writers[] = { "W \"0\"", "W1" };
	static const struct {
		const char *text;
		int r;
	} wrong[] = {
		{ "{", -EBADMSG },
		{ "[]", -EINVAL },
		{ "{\"kind\": \"umbra-metadata\", \"version\": \"2.0\", \"document\": \"D\","
		  " \"writer_documents\": []}",
		  -EINVAL },
		{ "{\"kind\": \"other\", \"version\": \"1.0\", \"document\": \"D\","
		  " \"writer_documents\": []}",
		  -EINVAL },
		{ "{\"kind\": \"umbra-metadata\", \"version\": \"1.0\", \"document\": \"D\"}",
		  -EBADMSG },
		{ "{\"kind\": \"umbra-metadata\", \"version\": \"1.0\", \"document\": \"D\","
		  " \"writer_documents\": [1]}",
		  -EBADMSG },
		{ "{\"kind\": \"umbra-metadata\", \"version\": \"1.7\", \"document\": \"D\","
		  " \"writer_documents\": [], \"more\": 1}",
		  0 },
	};
	struct umbra_documents *d = NULL, *back = NULL;
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/documents-%d",
		 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", getpid());
	cr_expect_eq(umbra_documents_load(path, &back), -ENOENT);
	cr_expect_eq(umbra_documents_load("/", &back), -EISDIR);
	cr_expect_eq(umbra_documents_new("\xff", NULL, 0, &d), UMBRA_E_INVALID_ARGUMENT);
	cr_assert_eq(umbra_documents_new("D", writers, 2, &d), UMBRA_OK);
	cr_expect_eq(umbra_documents_save(d, "/nonexistent/x"), -ENOENT);
	cr_assert_eq(umbra_documents_save(d, path), 0);
	cr_assert_eq(umbra_documents_load(path, &back), 0);
	cr_expect_str_eq(umbra_documents_backup(back), "D");
	cr_expect_str_eq(umbra_documents_writer(back, 0), "W \"0\"");
	cr_expect_null(umbra_documents_writer(back, 2));
	umbra_documents_free(back);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		back = (struct umbra_documents *)path;
		f = fopen(path, "w");
		fputs(wrong[i].text, f);
		fclose(f);
		cr_expect_eq(umbra_documents_load(path, &back), wrong[i].r, "%s", wrong[i].text);
		if (wrong[i].r == 0)
			umbra_documents_free(back);
		else
			cr_expect_eq(back, (struct umbra_documents *)path, "ret was touched");
	}
	unlink(path);
	umbra_documents_free(d);
	d = back = NULL;
	assert_no_leaks();
}

Test(client_requester, x3_to_x7_calls_of_a_restore_carry_what_they_were_given)
{
	struct world x;

	begin(&x);
	answer_empty(&x);
	cr_expect_eq(umbra_requester_set_selected_for_restore(x.r, "i", NULL, "db", true),
		     UMBRA_OK);
	expect_call(
		&x, "SetSelectedForRestore",
		"{\"instance_id\":\"i\",\"logical_path\":null,\"name\":\"db\",\"selected\":true}");
	answer_empty(&x);
	cr_expect_eq(umbra_requester_add_restore_subcomponent(x.r, "i", "p", "db", "p/db", "one"),
		     UMBRA_OK);
	expect_call(&x, "AddRestoreSubcomponent",
		    "{\"instance_id\":\"i\",\"logical_path\":\"p\",\"name\":\"db\","
		    "\"sub_logical_path\":\"p/db\",\"sub_name\":\"one\"}");
	answer_empty(&x);
	cr_expect_eq(umbra_requester_set_restore_options(x.r, "i", NULL, "db", "gently"), UMBRA_OK);
	expect_call(&x, "SetRestoreOptions",
		    "{\"instance_id\":\"i\",\"logical_path\":null,\"name\":\"db\","
		    "\"options\":\"gently\"}");
	answer_empty(&x);
	cr_expect_eq(umbra_requester_add_new_target(x.r, "i", NULL, "db", "/a\xff", "*", true,
						    "/b"),
		     UMBRA_OK);
	expect_call(&x, "AddNewTarget",
		    "{\"instance_id\":\"i\",\"logical_path\":null,\"name\":\"db\","
		    "\"path\":\"/a\xef\xbf\xbd\",\"path_base64\":\"L2H/\",\"destination\":\"/b\","
		    "\"recursive\":true,\"pattern\":\"*\"}");
	answer_empty(&x);
	cr_expect_eq(umbra_requester_set_file_restore_status(x.r, "i", NULL, "db",
							     UMBRA_RESTORE_FAILED),
		     UMBRA_OK);
	expect_call(&x, "SetFileRestoreStatus",
		    "{\"instance_id\":\"i\",\"logical_path\":null,\"name\":\"db\","
		    "\"status\":\"failed\"}");
	answer_empty(&x);
	cr_expect_eq(umbra_requester_set_additional_restores(x.r, "i", NULL, "db", true), UMBRA_OK);
	expect_call(&x, "SetAdditionalRestores",
		    "{\"instance_id\":\"i\",\"logical_path\":null,\"name\":\"db\","
		    "\"additional\":true}");
	answer_empty(&x);
	cr_expect_eq(umbra_requester_add_alternate_mapping(x.r, "i", NULL, "db", "/a", "x", false,
							   "/c"),
		     UMBRA_OK);
	expect_call(&x, "AddAlternateMapping",
		    "{\"instance_id\":\"i\",\"logical_path\":null,\"name\":\"db\",\"path\":\"/a\","
		    "\"destination\":\"/c\",\"recursive\":false,\"pattern\":\"x\"}");
	cr_expect_eq(umbra_requester_set_file_restore_status(x.r, "i", NULL, "db",
							     (enum umbra_restore_status)9),
		     UMBRA_E_INVALID_ARGUMENT);
	cr_expect_eq(umbra_requester_set_restore_options(x.r, "i", NULL, "db", "\xff"),
		     UMBRA_E_INVALID_ARGUMENT);
	cr_expect_eq(umbra_requester_add_new_target(x.r, "\xff", NULL, "db", "/", "*", true, "/"),
		     UMBRA_E_INVALID_ARGUMENT);
	expect_no_call(&x);
	end(&x);
}

Test(client_requester, x3_what_there_is_to_restore_is_read_through_its_accessors)
{
	struct world x;
	struct umbra_restore_components *list = NULL;
	const struct umbra_restore_component *c;

	begin(&x);
	fake_answer(
		&x.fake,
		json_loads(
			"{\"writers\": [{\"instance_id\": \"old\", \"present_instance_id\": \"new\","
			" \"class_id\": \"k\", \"name\": \"w\", \"instance_name\": \"main\","
			" \"metadata\": {\"a\": 1}, \"components\": [{\"logical_path\": \"p\","
			" \"name\": \"db\", \"type\": \"database\", \"succeeded\": true,"
			" \"selected\": true, \"options\": \"o\", \"file_restore_status\":"
			" \"failed\", \"additional_restores\": true, \"target\": \"directed\","
			" \"directed\": [{\"x\": 1}]}, {\"logical_path\": \"\", \"name\": \"log\"}]},"
			" {\"instance_id\": \"none\", \"components\": []}, 7]}",
			0, NULL));
	cr_assert_eq(umbra_requester_get_restore_components(x.r, &list), UMBRA_OK);
	expect_call(&x, "GetRestoreComponents", "{}");
	cr_expect_eq(umbra_restore_components_count(list), 2);
	c = umbra_restore_components_get(list, 0);
	cr_expect_str_eq(umbra_restore_component_instance_id(c), "old");
	cr_expect_str_eq(umbra_restore_component_present_instance_id(c), "new");
	cr_expect_str_eq(umbra_restore_component_class_id(c), "k");
	cr_expect_str_eq(umbra_restore_component_writer_name(c), "w");
	cr_expect_str_eq(umbra_restore_component_writer_instance_name(c), "main");
	cr_expect_str_eq(umbra_restore_component_metadata(c), "{\n  \"a\": 1\n}");
	cr_expect_str_eq(umbra_restore_component_logical_path(c), "p");
	cr_expect_str_eq(umbra_restore_component_name(c), "db");
	cr_expect_str_eq(umbra_restore_component_type(c), "database");
	cr_expect(umbra_restore_component_succeeded(c));
	cr_expect(umbra_restore_component_selected(c));
	cr_expect_str_eq(umbra_restore_component_options(c), "o");
	cr_expect_str_eq(umbra_restore_component_target(c), "directed");
	cr_expect(strstr(umbra_restore_component_directed(c), "\"x\": 1"));
	cr_expect_eq(umbra_restore_component_status(c), UMBRA_RESTORE_FAILED);
	cr_expect(umbra_restore_component_additional_restores(c));
	c = umbra_restore_components_get(list, 1);
	cr_expect_str_eq(umbra_restore_component_present_instance_id(c), "new");
	cr_expect_str_eq(umbra_restore_component_type(c), "");
	cr_expect(!umbra_restore_component_succeeded(c) && !umbra_restore_component_selected(c));
	cr_expect_null(umbra_restore_component_options(c));
	cr_expect_str_eq(umbra_restore_component_target(c), "original");
	cr_expect_null(umbra_restore_component_directed(c));
	cr_expect_eq(umbra_restore_component_status(c), UMBRA_RESTORE_UNDEFINED);
	cr_expect_null(umbra_restore_components_get(list, 2));
	umbra_restore_components_free(list);
	umbra_restore_components_free(NULL);
	list = NULL;
	end(&x);
}

/* ---- lack of memory */

static void lists_without_memory(struct world *x)
{
	struct umbra_writers *writers = NULL;
	struct umbra_snapshots *snapshots = NULL;
	struct umbra_documents *documents = NULL;
	struct umbra_restore_components *components = NULL;
	int fd = sealed("[\"D\", \"W\"]");
	enum umbra_error e;

	fake_answer(&x->fake, json_pack("{s:s}", "operation_id", "op1"));
	answer_operation(x, "pending", "detail");
	answer_operation(x, "finished", "detail");
	fake_answer(&x->fake, json_pack("{s:[{s:{s:s}, s:{s:i}}]}", "writers", "writer", "name",
					"db", "document", "a", 1));
	fake_answer(&x->fake,
		    json_pack("{s:[{s:s, s:s}]}", "snapshots", "id", "n-1", "tree_path", "/t"));
	fake_answer_fd(&x->fake, fd);
	fake_answer(&x->fake, json_pack("{s:s}", "session_id", "s"));
	fake_answer(&x->fake, json_pack("{s:[{s:{s:i}, s:[{s:s, s:[{}]}]}]}", "writers", "metadata",
					"a", 1, "components", "name", "db", "directed"));
	fake_memory.on = true;
	e = umbra_requester_do_snapshot_set(x->r);
	if (e == UMBRA_OK)
		e = umbra_requester_get_writer_metadata(x->r, &writers);
	if (e == UMBRA_OK)
		e = umbra_requester_query(x->r, "/gone/t", NULL, NULL, &snapshots);
	if (e == UMBRA_OK)
		e = umbra_requester_save_document(x->r, &documents);
	if (e == UMBRA_OK)
		e = umbra_requester_initialize_for_restore(x->r, documents);
	if (e == UMBRA_OK)
		e = umbra_requester_get_restore_components(x->r, &components);
	fake_memory.on = false;
	close(fd);
	if (e != UMBRA_OK)
		cr_expect_neq(umbra_requester_message(x->r)[0], 0);
	umbra_writers_free(writers);
	umbra_snapshots_free(snapshots);
	umbra_documents_free(documents);
	umbra_restore_components_free(components);
	cr_expect(e != UMBRA_OK || !fake_memory.failed, "a failure was hidden");
}

Test(client_requester, lack_of_memory_is_an_error_and_no_more)
{
	bool enough = false;
	int n;

	for (n = 0; !enough; n++) {
		struct world x;

		begin(&x);
		fake_memory_set(n, false);
		lists_without_memory(&x);
		enough = !fake_memory.failed;
		umbra_requester_free(x.r);
		fake_done(&x.fake);
	}
	cr_expect_gt(n, 50, "memory never ran out");
	assert_no_leaks();
}

/* In parsing jansson 2.14 does not survive a failure that is alone; in writing it must, since what it
 * leaves out would be a message all the same. */
Test(client_requester, text_is_whole_or_none_when_memory_is_short_for_a_moment)
{
	json_t *value = json_pack("{s:s, s:[i, {s:s}], s:n}", "status", "ok", "list", 1, "key",
				  "a long text that makes a buffer grow, and grow, and grow again",
				  "nothing");
	bool enough = false;
	char *want = json_dumps(value, JSON_COMPACT);

	for (int n = 0; !enough; n++) {
		char *text;

		fake_memory_set(n, true);
		fake_memory.on = true;
		text = umbra_json_text(value, JSON_COMPACT);
		fake_memory.on = false;
		enough = !fake_memory.failed;
		if (text)
			cr_expect_str_eq(text, want);
		else
			cr_expect(!enough);
		free(text);
	}
	free(want);
	json_decref(value);
	value = NULL;
	want = NULL;
	assert_no_leaks();
}
