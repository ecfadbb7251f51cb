/* Writers through whole sessions: the test table of section 4 of the protocol and the rules around it. */
#include <criterion/criterion.h>

#include "coordinator/drop.h"
#include "coordinator/json.h"
#include "tests/support/coord_writer_fake.h"
#include "tests/support/leaks.h"

#define F 0 /* front-end */
#define S 1 /* system */

static struct world *w;
static struct writers *all;
static struct coord_session *s;
static struct coord_operation *op;
static int ended;

static const char *log_of(unsigned i)
{
	return all->f[i].log;
}

#define SAW(i, want) cr_expect_str_eq(log_of(i), want)
#define STATE(i, want, wanted_code)                                                                \
	do {                                                                                       \
		const struct coord_writer_row *row_ = writer_row(s, i);                            \
		cr_assert(row_);                                                                   \
		cr_expect_eq(row_->state, want, "writer %d is %s", i,                              \
			     coord_writer_state_name(row_->state));                                \
		cr_expect_str_eq(row_->code, wanted_code);                                         \
	} while (0)

static void begin(void)
{
	w = world_new();
	all = writers_new(w);
	fake_join(w, 0);
	ended = 0;
	s = NULL;
}

static void end(void)
{
	for (unsigned i = 0; i < WRITERS; i++)
		cr_expect(!all->f[i].frozen, "W-4: writer %u stayed frozen: %s", i, log_of(i));
	writers_done(all);
	world_done(w);
	assert_no_leaks();
}

static void forget_logs(void)
{
	for (unsigned i = 0; i < WRITERS; i++)
		all->f[i].log[0] = 0;
	all->trace[0] = 0;
}

/* A session up to `prepared`, with what the writers saw until then forgotten. */
static void prepare(bool strict)
{
	const char *id;

	s = coord_session_new(&w->core, 42, 0, true);
	MUST(coord_session_initialize(s, strict, &f));
	MUST(coord_session_gather_metadata(s, &op, &f));
	writers_pump(all);
	MUST(coord_session_start_set(s, &f));
	MUST(coord_session_add(s, "/t0", NULL, NULL, &id, &f));
	MUST(coord_session_prepare(s, &op, &f));
	writers_pump(all);
	forget_logs();
}

/* F and S, a prepared session. */
static void scene(void)
{
	begin();
	writer_join(all, F, LEVEL_FRONT_END, 60000);
	writer_join(all, S, LEVEL_SYSTEM, 60000);
	prepare(false);
}

/* From the beginning, with S doing something else at one event. */
static void scene_with(enum coord_writer_event event, enum writer_way way)
{
	begin();
	writer_join(all, F, LEVEL_FRONT_END, 60000);
	writer_join(all, S, LEVEL_SYSTEM, 60000);
	all->f[S].way[event] = way;
	prepare(false);
}

static void create(void)
{
	MUST(coord_session_create(s, &op, &f));
	writers_pump(all);
}

static void abort_backup(void)
{
	MUST(coord_session_abort(s, world_note, &ended, &f));
	writers_pump(all);
	coord_session_forget(s);
}

static void release(void)
{
	coord_session_release(s, NULL, NULL);
	writers_pump(all);
	coord_session_forget(s);
}

static void result(const char *want)
{
	cr_expect_str_eq(coord_operation_status(op), want, "%s: %s", coord_operation_status(op),
			 op->failure.message);
}

/* ---- the test table of section 4 ---- */

/* */
Test(coord_party, S_fails_PrepareBackup_and_the_requester_aborts)
{
	scene_with(EVENT_PREPARE_BACKUP, WRITER_FAIL);
	STATE(S, WRITER_FAILED_AT_PREPARE_BACKUP, "retryable");
	abort_backup();
	SAW(F, "Abort");
	SAW(S, "Abort");
	cr_expect_str_eq(all->f[F].origin, "requester"); /* */
	cr_expect_eq(ended, 1);
	cr_expect_eq(s->state, SESSION_ABORTED);
	STATE(F, WRITER_STABLE, "");
	cr_expect(writer_row(s, F)->aborted);
	end();
}

/* */
Test(coord_party, the_provider_fails_before_PrepareForSnapshot)
{
	scene();
	w->f[0].way[ASK_PREPARE] = FAKE_FAIL;
	create();
	result("insufficient-storage");
	SAW(F, "");
	SAW(S, "");
	end();
}

/* A-4, W-8 */
Test(coord_party, S_fails_PrepareForSnapshot)
{
	scene_with(EVENT_PREPARE_FOR_SNAPSHOT, WRITER_FAIL);
	create();
	result("finished");
	SAW(F, "P Freeze Thaw PostSnapshot");
	SAW(S, "P");
	STATE(S, WRITER_FAILED_AT_PREPARE_SNAPSHOT, "retryable");
	STATE(F, WRITER_WAITING_FOR_BACKUP_COMPLETE, "");
	end();
}

/* */
Test(coord_party, S_fails_Freeze)
{
	scene_with(EVENT_FREEZE, WRITER_FAIL);
	create();
	result("finished");
	SAW(F, "P Freeze Thaw PostSnapshot");
	SAW(S, "P Freeze Abort");
	cr_expect_str_eq(all->f[S].origin, "writer"); /* by itself, not from the coordinator */
	STATE(S, WRITER_FAILED_AT_FREEZE, "retryable");
	end();
}

/* T-10 */
Test(coord_party, S_is_late_in_Freeze_and_the_window_of_F_ends_first)
{
	begin();
	writer_join(all, F, LEVEL_FRONT_END, 10000);
	writer_join(all, S, LEVEL_SYSTEM, 20000);
	all->f[S].way[EVENT_FREEZE] = WRITER_SILENT;
	prepare(false);
	create();
	writers_wait_ms(all, 30000);
	result("finished");
	SAW(F, "P Freeze Abort");
	SAW(S, "P Freeze Abort");
	STATE(F, WRITER_FAILED_AT_FREEZE, "timeout"); /* T-12 */
	STATE(S, WRITER_FAILED_AT_FREEZE, "timeout");
	end();
}

/* A-3, H-4 */
Test(coord_party, the_hold_exceeds_its_limit_and_the_requester_aborts)
{
	scene();
	w->f[0].way[ASK_OPEN] = FAKE_SILENT;
	create();
	writers_wait_ms(all, 30000);
	result("hold-writes-timeout");
	SAW(F, "P Freeze Abort");
	SAW(S, "P Freeze Abort");
	cr_expect_str_eq(all->f[S].origin, "provider");
	abort_backup(); /* */
	SAW(F, "P Freeze Abort Abort");
	SAW(S, "P Freeze Abort Abort");
	cr_expect_str_eq(all->f[S].origin, "requester");
	abort_backup(); /* succeeds, and nothing is sent */
	SAW(F, "P Freeze Abort Abort");
	end();
}

/* */
Test(coord_party, S_fails_Thaw)
{
	scene_with(EVENT_THAW, WRITER_FAIL);
	create();
	result("finished");
	SAW(F, "P Freeze Thaw PostSnapshot");
	SAW(S, "P Freeze Thaw Abort");
	STATE(S, WRITER_FAILED_AT_THAW, "retryable");
	end();
}

/* */
Test(coord_party, S_fails_PostSnapshot_and_the_requester_aborts)
{
	scene_with(EVENT_POST_SNAPSHOT, WRITER_FAIL);
	create();
	result("finished");
	abort_backup();
	SAW(F, "P Freeze Thaw PostSnapshot");
	SAW(S, "P Freeze Thaw PostSnapshot");
	STATE(S, WRITER_FAILED_AT_POST_SNAPSHOT, "retryable");
	cr_expect_eq(world_shown(w), 1); /* O-14, A-18: the created set stays */
	end();
}

/* */
Test(coord_party, the_requester_is_killed_in_prepared)
{
	scene();
	coord_session_leave(s);
	writers_pump(all);
	SAW(F, "BackupShutdown");
	SAW(S, "BackupShutdown");
	cr_expect_str_eq(all->f[F].set_ids, "-"); /* D-6: no set was created */
	end();
}

/* */
Test(coord_party, the_requester_is_killed_while_writers_are_frozen)
{
	scene();
	w->f[0].way[ASK_HOLD] = FAKE_SILENT;
	create();
	SAW(F, "P Freeze");
	coord_session_leave(s);
	writers_wait_ms(all, 60000);
	SAW(F, "P Freeze Abort BackupShutdown");
	SAW(S, "P Freeze Abort BackupShutdown");
	cr_expect_eq(w->core.slot, NULL);
	end();
}

/* ---- who hears what, when ---- */

/* O-3, O-9 */
Test(coord_party, levels_freeze_from_the_front_and_thaw_from_the_back)
{
	begin();
	writer_join(all, 0, LEVEL_SYSTEM, 60000);
	writer_join(all, 1, LEVEL_FRONT_END, 60000);
	writer_join(all, 2, LEVEL_BACK_END, 60000);
	prepare(false);
	create();
	cr_expect(strstr(all->trace, "1:Freeze 2:Freeze 0:Freeze 0:Thaw 2:Thaw 1:Thaw"), "%s",
		  all->trace);
	SAW(0, "P Freeze Thaw PostSnapshot");
	end();
}

/* O-3 */
Test(coord_party, a_level_waits_for_every_writer_of_the_one_before)
{
	begin();
	writer_join(all, 0, LEVEL_FRONT_END, 60000);
	writer_join(all, 1, LEVEL_FRONT_END, 5000);
	writer_join(all, 2, LEVEL_BACK_END, 60000);
	all->f[1].way[EVENT_FREEZE] = WRITER_SILENT;
	prepare(false);
	create();
	cr_expect_str_eq(all->trace, "0:P 1:P 2:P 0:Freeze 1:Freeze");
	writers_wait_ms(all, 6000);
	SAW(2, "P Freeze Thaw PostSnapshot");
	STATE(1, WRITER_FAILED_AT_FREEZE, "timeout");
	end();
}

/* D-1 */
Test(coord_party, a_whole_backup_as_its_writers_see_it)
{
	begin();
	writer_join(all, F, LEVEL_FRONT_END, 60000);
	s = coord_session_new(&w->core, 42, 0, true);
	MUST(coord_session_initialize(s, false, &f));
	MUST(coord_session_gather_metadata(s, &op, &f));
	writers_pump(all);
	cr_expect_str_eq(all->f[F].set_ids, "-"); /* W-11 */
	forget_logs();
	coord_session_leave(s);
	writers_pump(all);
	SAW(F, ""); /* D-4: metadata only, no participants */
	prepare(false);
	create();
	MUST(coord_session_complete(s, &op, &f));
	writers_pump(all);
	cr_expect_eq(s->state, SESSION_COMPLETED);
	MUST(coord_session_gather_status(s, &op, &f));
	MUST(coord_session_check(s, CALL_SAVE_DOCUMENT, &f));
	release();
	for (enum coord_call c = 0; c < CALL_RELEASE; c++) /* release is the last (D-1) */
		REFUSED(coord_session_check(s, c, &f), UMBRA_E_BAD_STATE);
	SAW(F, "P Freeze Thaw PostSnapshot BackupComplete BackupShutdown");
	cr_expect_str_eq(all->f[F].set_ids, s->set_id); /* D-6 */
	cr_expect_eq(world_shown(w), 0);		/* D-2 */
	end();
}

/* A-11, S-6 */
Test(coord_party, a_context_without_writers_tells_them_nothing)
{
	begin();
	writer_join(all, F, LEVEL_FRONT_END, 60000);
	s = world_set(w, "nas-rollback", 1);
	create();
	result("finished");
	release();
	SAW(F, "");
	end();
}

/* */
Test(coord_party, after_an_Abort_come_only_Aborts_and_one_BackupShutdown)
{
	scene();
	w->f[0].way[ASK_RELEASE] = FAKE_FAIL;
	create();
	result("insufficient-storage");
	abort_backup();
	release();
	SAW(F, "P Freeze Abort Abort BackupShutdown");
	end();
}

/* */
Test(coord_party, an_Abort_of_the_coordinator_reaches_only_whom_PrepareForSnapshot_reached)
{
	scene_with(EVENT_PREPARE_BACKUP, WRITER_FAIL);
	w->f[0].way[ASK_OPEN] = FAKE_FAIL;
	create();
	SAW(F, "P Freeze Abort");
	SAW(S, ""); /* W-8: failed before, so it was told nothing since */
	abort_backup();
	SAW(S, "Abort"); /* armed all the same */
	end();
}

/* */
Test(coord_party, AbortBackup_returns_when_every_writer_has_answered_or_is_late)
{
	scene_with(EVENT_ABORT, WRITER_SILENT);
	abort_backup();
	cr_expect_eq(ended, 0);
	MUST(coord_session_abort(s, world_note, &ended, &f));
	writers_wait_ms(all, 59000);
	cr_expect_eq(ended, 0);
	writers_wait_ms(all, 2000); /* T-7 */
	cr_expect_eq(ended, 1);
	SAW(F, "Abort");
	SAW(S, "Abort");
	end();
}

/* */
Test(coord_party, AbortBackup_while_creating_cancels_it_and_sends_one_Abort)
{
	scene();
	w->f[0].way[ASK_HOLD] = FAKE_SILENT;
	create();
	abort_backup();
	writers_wait_ms(all, 20000);
	result("cancelled");
	SAW(F, "P Freeze Abort");
	cr_expect_str_eq(all->f[F].origin, "requester");
	cr_expect_eq(s->state, SESSION_ABORTED);
	end();
}

/* S-8 */
Test(coord_party, cancelling_DoSnapshotSet_is_a_failure_of_the_coordinator)
{
	scene();
	w->f[0].way[ASK_HOLD] = FAKE_SILENT;
	create();
	(void)coord_session_cancel(s, op);
	writers_wait_ms(all, 20000);
	result("cancelled");
	SAW(F, "P Freeze Abort");
	cr_expect_str_eq(all->f[F].origin, "coordinator");
	cr_expect_eq(s->state, SESSION_FAILED);
	end();
}

/* S-10 */
Test(coord_party, a_silent_requester_loses_the_slot_and_everybody_armed_hears_Abort)
{
	scene();
	writers_wait_ms(all, 1801000);
	SAW(F, "Abort");
	SAW(S, "Abort");
	cr_expect_str_eq(all->f[F].origin, "coordinator");
	cr_expect_eq(s->state, SESSION_ABORTED);
	cr_expect_eq(w->core.slot, NULL);
	end();
}

/* */
Test(coord_party, after_BackupComplete_plain_release_suffices)
{
	scene();
	create();
	MUST(coord_session_complete(s, &op, &f));
	writers_pump(all);
	forget_logs();
	abort_backup(); /* no error, and nothing under way */
	release();
	SAW(F, "BackupShutdown");
	end();
}

/* */
Test(coord_party, an_orderly_shutdown_of_the_coordinator_aborts_and_releases)
{
	scene();
	w->f[0].way[ASK_HOLD] = FAKE_SILENT;
	create();
	coord_session_shut_down(s);
	coord_session_leave(s);
	writers_wait_ms(all, 20000);
	SAW(F, "P Freeze Abort BackupShutdown");
	cr_expect_str_eq(all->f[F].origin, "coordinator");
	end();
}

/* D-3: of the end of a snapshot writers hear nothing, not while their session lives either. */
Test(coord_party, deleting_a_snapshot_is_no_event)
{
	struct coord_snapshot *sn;
	struct coord_drop *d;

	begin();
	writer_join(all, F, LEVEL_FRONT_END, 60000);
	s = world_session(w, "app-rollback");
	MUST(coord_session_gather_metadata(s, &op, &f));
	writers_pump(all);
	MUST(coord_session_start_set(s, &f));
	{
		const char *id;

		MUST(coord_session_add(s, "/t0", NULL, NULL, &id, &f));
	}
	MUST(coord_session_prepare(s, &op, &f));
	writers_pump(all);
	create();
	result("finished");
	forget_logs();
	d = coord_drop_new(&w->core, COORD_DROP_FORCE);
	cr_assert(d);
	sn = TAILQ_FIRST(&w->f[0].p->snapshots);
	cr_assert(sn);
	coord_drop_add(d, sn->s.id);
	coord_drop_start(d, NULL, NULL);
	writers_pump(all);
	cr_expect_eq(world_shown(w), 0);
	SAW(F, "");
	release();
	SAW(F, "BackupShutdown");
	end();
}

/* D-7: BackupShutdown comes to all that live, BackupComplete to those that came so far. */
Test(coord_party, BackupShutdown_comes_also_to_whom_BackupComplete_did_not)
{
	scene_with(EVENT_THAW, WRITER_FAIL);
	writer_join(all, 2, LEVEL_BACK_END, 60000); /* too late for this session */
	create();
	MUST(coord_session_complete(s, &op, &f));
	writers_pump(all);
	release();
	SAW(F, "P Freeze Thaw PostSnapshot BackupComplete BackupShutdown");
	SAW(S, "P Freeze Thaw Abort BackupShutdown");
	SAW(2, "");
	end();
}

/* M-8 */
Test(coord_party, PrepareBackup_says_what_kind_of_backup_it_is)
{
	const json_t *said;

	begin();
	writer_join(all, F, LEVEL_FRONT_END, 60000);
	s = world_session(w, "backup");
	MUST(coord_session_set_backup_state(s, "incremental", false, true, true, &f));
	MUST(coord_session_gather_metadata(s, &op, &f));
	writers_pump(all);
	MUST(coord_session_start_set(s, &f));
	MUST(coord_session_prepare(s, &op, &f));
	said = all->f[F].arguments;
	cr_expect_str_eq(json_string_value(json_object_get(said, "backup_type")), "incremental");
	cr_expect(json_is_false(json_object_get(said, "component_mode")));
	cr_expect(json_is_true(json_object_get(said, "bootable_state")));
	cr_expect(json_is_true(json_object_get(said, "partial_files")));
	writers_pump(all);
	end();
}

/* ---- strict ---- */

/* V-4 */
Test(coord_party, nobody_is_strict_who_did_not_ask_for_it)
{
	begin();
	writer_join(all, F, LEVEL_FRONT_END, 60000);
	all->f[F].way[EVENT_FREEZE] = WRITER_FAIL;
	prepare(false);
	cr_expect(!s->require_writers);
	create();
	result("finished");
	cr_expect_eq(world_shown(w), 1);
	end();
}

static void strict_scene(enum coord_writer_event event, enum writer_way way)
{
	begin();
	writer_join(all, F, LEVEL_FRONT_END, 60000);
	writer_join(all, S, LEVEL_SYSTEM, 60000);
	all->f[S].way[event] = way;
	prepare(true);
	create();
}

/* */
Test(coord_party, strict_a_failure_up_to_Thaw_fails_the_set)
{
	static const struct {
		enum coord_writer_event event;
		const char *f, *s;
	} rows[] = {
		{ EVENT_PREPARE_BACKUP, "", "" },
		{ EVENT_PREPARE_FOR_SNAPSHOT, "P Abort", "P Abort" },
		{ EVENT_FREEZE, "P Freeze Abort", "P Freeze Abort Abort" },
		{ EVENT_THAW, "P Freeze Thaw Abort", "P Freeze Thaw Abort Abort" },
	};

	for (size_t i = 0; i < 4; i++) {
		strict_scene(rows[i].event, WRITER_FAIL);
		result("unexpected-writer-error");
		SAW(F, rows[i].f);
		SAW(S, rows[i].s);
		cr_expect_eq(world_shown(w), 0);
		fake_no_trace(&w->f[0], "strict");
		end();
	}
}

/* */
Test(coord_party, strict_what_fails_nothing)
{
	strict_scene(EVENT_POST_SNAPSHOT, WRITER_FAIL); /* up to and including Thaw */
	result("finished");
	end();
	strict_scene(EVENT_FREEZE, WRITER_CODED); /* W-5: status only */
	result("finished");
	STATE(S, WRITER_FAILED_AT_FREEZE, "out-of-resources");
	end();
}

/* ---- answers, limits, losses ---- */

/* W-5 */
Test(coord_party, ok_with_a_code_sets_the_status_and_nothing_else)
{
	scene_with(EVENT_FREEZE, WRITER_CODED);
	create();
	SAW(S, "P Freeze Thaw PostSnapshot");
	STATE(S, WRITER_FAILED_AT_FREEZE, "out-of-resources");
	end();
}

/* T-6 */
Test(coord_party, a_writer_that_does_not_answer_is_late_and_the_others_go_on)
{
	static const enum coord_writer_event events[] = { EVENT_PREPARE_BACKUP,
							  EVENT_PREPARE_FOR_SNAPSHOT,
							  EVENT_POST_SNAPSHOT };

	for (size_t i = 0; i < 3; i++) {
		begin();
		writer_join(all, F, LEVEL_FRONT_END, 60000);
		writer_join(all, S, LEVEL_SYSTEM, 60000);
		all->f[S].way[events[i]] = WRITER_SILENT;
		prepare(false);
		if (events[i] == EVENT_PREPARE_BACKUP) {
			cr_expect_eq(s->state, SESSION_PREPARING);
			writers_wait_ms(all, 601000);
		}
		cr_expect_eq(s->state, SESSION_PREPARED);
		create();
		writers_wait_ms(all, 601000);
		result("finished");
		SAW(F, "P Freeze Thaw PostSnapshot");
		cr_expect(coord_writer_failed(writer_row(s, S)->state));
		cr_expect_str_eq(writer_row(s, S)->code, "timeout"); /* E-2 */
		end();
	}
}

/* T-5, W-13 */
Test(coord_party, who_does_not_answer_Identify_or_is_disabled_is_absent)
{
	begin();
	for (unsigned i = 0; i < 4; i++)
		writer_join(all, i, LEVEL_FRONT_END, 60000);
	all->f[0].way[EVENT_IDENTIFY] = WRITER_SILENT;
	all->f[1].way[EVENT_IDENTIFY] = WRITER_FAIL;
	s = coord_session_new(&w->core, 42, 0, true);
	MUST(coord_session_initialize(s, false, &f));
	MUST(coord_session_enable_writer(s, all->f[2].w->id, false, &f));
	REFUSED(coord_session_enable_writer(s, "nobody", true, &f), UMBRA_E_OBJECT_NOT_FOUND);
	MUST(coord_session_gather_metadata(s, &op, &f));
	writers_wait_ms(all, 31000);
	result("finished");
	writer_join(all, 4, LEVEL_FRONT_END, 60000); /* after GatherWriterMetadata */
	MUST(coord_session_start_set(s, &f));
	MUST(coord_session_prepare(s, &op, &f));
	writers_pump(all);
	SAW(0, "Identify");
	SAW(1, "Identify");
	SAW(2, "");
	SAW(3, "Identify PrepareBackup");
	SAW(4, "");
	STATE(0, WRITER_FAILED_AT_IDENTIFY, "timeout");
	end();
}

/* W-13 */
Test(coord_party, a_writer_that_does_not_take_events_yet_is_in_no_session)
{
	begin();
	writer_join(all, F, LEVEL_FRONT_END, 60000);
	all->f[F].w->ready = false;
	prepare(false);
	cr_expect_null(writer_row(s, F));
	create();
	result("finished");
	SAW(F, "");
	end();
}

/* T-4, T-12 */
Test(coord_party, Thaw_has_a_window_of_its_own)
{
	begin();
	writer_join(all, F, LEVEL_FRONT_END, 120000);
	writer_join(all, S, LEVEL_SYSTEM, 60000);
	all->f[S].way[EVENT_THAW] = WRITER_SILENT;
	prepare(false);
	w->f[0].way[ASK_RELEASE] = FAKE_SILENT;
	create();
	writers_wait_ms(all, 5000); /* of the first window */
	w->f[0].way[ASK_RELEASE] = FAKE_WELL;
	writers_pump(all);
	writers_wait_ms(all, 58000);
	result("pending");
	writers_wait_ms(all, 3000);
	result("finished");
	SAW(F, "P Freeze Thaw PostSnapshot");
	STATE(S, WRITER_FAILED_AT_THAW, "timeout");
	end();
}

/* T-11, T-12 */
Test(coord_party, a_window_that_ended_in_the_writer_first_is_a_failed_freeze)
{
	scene();
	w->f[0].way[ASK_RELEASE] = FAKE_SILENT;
	create();
	writer_window_over(&all->f[S]); /* its clock runs ahead of ours */
	coord_timer_disarm(&w->core.timers, &all->f[S].window);
	w->f[0].way[ASK_RELEASE] = FAKE_WELL;
	writers_pump(all);
	result("finished");
	SAW(S, "P Freeze Abort Thaw");
	STATE(S, WRITER_FAILED_AT_FREEZE, "timeout");
	end();
}

/* W-9 */
Test(coord_party, a_writer_that_dies_fails_in_the_phase_it_was_in)
{
	static const struct {
		enum coord_writer_event event;
		enum coord_writer_state state;
		const char *log;
	} rows[] = {
		{ EVENT_PREPARE_FOR_SNAPSHOT, WRITER_FAILED_AT_PREPARE_SNAPSHOT, "P Abort" },
		{ EVENT_FREEZE, WRITER_FAILED_AT_FREEZE, "P Freeze Abort" },
		{ EVENT_THAW, WRITER_FAILED_AT_THAW, "P Freeze Thaw Abort" },
		{ EVENT_POST_SNAPSHOT, WRITER_FAILED_AT_POST_SNAPSHOT,
		  "P Freeze Thaw PostSnapshot Abort" },
	};

	for (size_t i = 0; i < 4; i++) {
		scene_with(rows[i].event, WRITER_DIES);
		create();
		result("finished");
		SAW(F, "P Freeze Thaw PostSnapshot");
		SAW(S, rows[i].log);
		STATE(S, rows[i].state, "writer-not-responding");
		abort_backup();
		release();
		SAW(S, rows[i].log);
		end();
	}
}

/* W-9 */
Test(coord_party, a_writer_that_dies_between_events)
{
	scene();
	w->f[0].way[ASK_HOLD] = FAKE_SILENT;
	create();
	writer_die(&all->f[S]);
	SAW(S, "P Freeze Abort");
	STATE(S, WRITER_FAILED_AT_FREEZE, "writer-not-responding");
	w->f[0].way[ASK_HOLD] = FAKE_WELL;
	writers_pump(all);
	result("finished");
	SAW(F, "P Freeze Thaw PostSnapshot");
	end();
}

/* W-10, W-11 */
Test(coord_party, Identify_of_another_session_between_Freeze_and_Thaw)
{
	struct coord_session *other;
	struct coord_operation *op2;

	scene();
	w->f[0].way[ASK_HOLD] = FAKE_SILENT;
	create();
	other = world_session(w, "backup");
	MUST(coord_session_gather_metadata(other, &op2, &f));
	writers_pump(all);
	cr_expect_str_eq(coord_operation_status(op2), "finished");
	SAW(F, "P Freeze Identify");
	STATE(F, WRITER_WAITING_FOR_THAW, "");
	REFUSED(coord_session_start_set(other, &f), UMBRA_E_SNAPSHOT_SET_IN_PROGRESS); /* S-9 */
	w->f[0].way[ASK_HOLD] = FAKE_WELL;
	writers_pump(all);
	SAW(F, "P Freeze Identify Thaw PostSnapshot");
	end();
}

/* W-3 */
Test(coord_party, an_event_without_handler_is_ok_at_once)
{
	begin();
	writer_join(all, F, LEVEL_FRONT_END, 60000);
	all->f[F].w->info.handlers = 1u << EVENT_PREPARE_FOR_SNAPSHOT | 1u << EVENT_FREEZE |
				     1u << EVENT_THAW | 1u << EVENT_ABORT;
	prepare(false);
	create();
	MUST(coord_session_complete(s, &op, &f));
	release();
	SAW(F, "P Freeze Thaw");
	STATE(F, WRITER_STABLE, "");
	end();
}

/* W-7 */
Test(coord_party, the_row_of_a_writer_says_which_session_it_is_about)
{
	scene_with(EVENT_FREEZE, WRITER_FAIL);
	create();
	release();
	cr_expect_str_eq(all->f[S].w->row.session_id, s->id);
	cr_expect_eq(all->f[S].w->row.state, WRITER_FAILED_AT_FREEZE);
	cr_expect_eq(all->f[F].w->row.state, WRITER_WAITING_FOR_BACKUP_COMPLETE);
	end();
}

Test(coord_party, frozen_time_is_kept)
{
	scene();
	w->f[0].way[ASK_HOLD] = FAKE_SILENT;
	create();
	writers_wait_ms(all, 1500);
	w->f[0].way[ASK_HOLD] = FAKE_WELL;
	writers_pump(all);
	cr_expect(writer_row(s, F)->was_frozen);
	cr_expect_geq(writer_row(s, F)->frozen_ms, 1500);
	cr_expect_leq(writer_row(s, F)->frozen_ms, 1600);
	end();
}

/* ---- components and documents ---- */

static const char *const document =
	"{\"version\": \"1.0\", \"restore_method\": {\"method\": \"custom\"}, \"components\": ["
	"{\"type\": \"database\", \"name\": \"all\"},"
	"{\"type\": \"database\", \"logical_path\": \"all\", \"name\": \"one\","
	" \"selectable_for_backup\": false}]}";

/* W-2, M-5 */
Test(coord_party, component_mode_tells_only_writers_with_a_component)
{
	begin();
	writer_join(all, F, LEVEL_FRONT_END, 60000);
	writer_join(all, S, LEVEL_SYSTEM, 60000);
	all->f[S].document = json_loads(document, 0, NULL);
	s = coord_session_new(&w->core, 42, 0, true);
	MUST(coord_session_initialize(s, false, &f));
	MUST(coord_session_set_backup_state(s, "full", true, false, false, &f));
	MUST(coord_session_gather_metadata(s, &op, &f));
	writers_pump(all);
	REFUSED(coord_session_add_component(s, all->f[F].w->id, "", "all", &f),
		UMBRA_E_OBJECT_NOT_FOUND);
	REFUSED(coord_session_add_component(s, all->f[S].w->id, "", "none", &f),
		UMBRA_E_OBJECT_NOT_FOUND);
	REFUSED(coord_session_add_component(s, all->f[S].w->id, "all", "one", &f),
		UMBRA_E_INVALID_ARGUMENT);
	MUST(coord_session_add_component(s, all->f[S].w->id, "", "all", &f));
	REFUSED(coord_session_add_component(s, all->f[S].w->id, "", "all", &f),
		UMBRA_E_OBJECT_ALREADY_EXISTS);
	MUST(coord_session_start_set(s, &f));
	MUST(coord_session_prepare(s, &op, &f));
	writers_pump(all);
	SAW(F, "Identify");
	SAW(S, "Identify PrepareBackup");
	end();
}

/* S-11, M-7 */
Test(coord_party, the_document_names_components_and_their_success)
{
	json_t *text, *writers, *read;
	const char *problem;

	begin();
	writer_join(all, F, LEVEL_FRONT_END, 60000);
	all->f[F].document = json_loads(document, 0, NULL);
	s = coord_session_new(&w->core, 42, 0, true);
	MUST(coord_session_initialize(s, false, &f));
	MUST(coord_session_gather_metadata(s, &op, &f));
	writers_pump(all);
	MUST(coord_session_add_component(s, all->f[F].w->id, "", "all", &f));
	REFUSED(coord_session_save_document(s, &text, &writers, &f), UMBRA_E_BAD_STATE);
	MUST(coord_session_start_set(s, &f));
	MUST(coord_session_prepare(s, &op, &f));
	writers_pump(all);
	create();
	MUST(coord_session_set_succeeded(s, true, all->f[F].w->id, "", "all", &f));
	REFUSED(coord_session_set_succeeded(s, true, all->f[F].w->id, "", "none", &f),
		UMBRA_E_OBJECT_NOT_FOUND);
	MUST(coord_session_complete(s, &op, &f));
	writers_pump(all);
	MUST(coord_session_save_document(s, &text, &writers, &f));
	cr_assert_eq(umbra_document_read_backup(json_string_value(text), &read, &problem), 0);
	cr_expect(json_is_true(json_object_get(
		json_array_get(json_object_get(json_array_get(json_object_get(read, "writers"), 0),
					       "components"),
			       0),
		"succeeded")));
	cr_expect_eq(json_array_size(writers), 1);
	json_decref(text);
	json_decref(writers);
	json_decref(read);
	end();
}

/* M-1 */
Test(coord_party, a_writer_whose_document_is_none_is_absent)
{
	begin();
	writer_join(all, F, LEVEL_FRONT_END, 60000);
	all->f[F].document = json_loads("{\"version\": \"1.0\"}", 0, NULL);
	prepare(false);
	STATE(F, WRITER_FAILED_AT_IDENTIFY, "non-retryable");
	create();
	SAW(F, "");
	end();
}

/* ---- who may, and what must not stick ---- */

/* S-12 */
Test(coord_party, who_is_not_privileged_meets_only_writers_of_his_own)
{
	begin();
	writer_join(all, F, LEVEL_FRONT_END, 60000);
	writer_join(all, S, LEVEL_SYSTEM, 60000);
	all->f[S].w->uid = 1000; /* who owns the tree of the fake provider 0 */
	s = coord_session_new(&w->core, 42, 1000, false);
	MUST(coord_session_initialize(s, false, &f));
	REFUSED(coord_session_enable_writer(s, all->f[F].w->id, true, &f),
		UMBRA_E_OBJECT_NOT_FOUND);
	MUST(coord_session_gather_metadata(s, &op, &f));
	writers_pump(all);
	MUST(coord_session_start_set(s, &f));
	MUST(coord_session_prepare(s, &op, &f));
	writers_pump(all);
	SAW(F, "");
	SAW(S, "Identify PrepareBackup");
	end();
}

/* S-8, V-3 */
Test(coord_party, a_cancelled_PrepareForBackup_gives_the_slot_back)
{
	const char *id;

	begin();
	writer_join(all, F, LEVEL_FRONT_END, 60000);
	all->f[F].way[EVENT_PREPARE_BACKUP] = WRITER_SILENT;
	s = coord_session_new(&w->core, 42, 0, true);
	MUST(coord_session_initialize(s, false, &f));
	MUST(coord_session_gather_metadata(s, &op, &f));
	writers_pump(all);
	MUST(coord_session_start_set(s, &f));
	MUST(coord_session_add(s, "/t0", NULL, NULL, &id, &f));
	MUST(coord_session_prepare(s, &op, &f));
	(void)coord_session_cancel(s, op);
	writers_pump(all);
	result("cancelled");
	cr_expect_eq(w->core.slot, NULL);
	cr_expect_eq(s->state, SESSION_FAILED);
	forget_logs();
	abort_backup(); /* it does not replace AbortBackup (S-8) */
	SAW(F, "Abort");
	end();
}

/* */
Test(coord_party, AbortBackup_cancels_a_pending_Identify)
{
	begin();
	writer_join(all, F, LEVEL_FRONT_END, 60000);
	all->f[F].way[EVENT_IDENTIFY] = WRITER_SILENT;
	s = coord_session_new(&w->core, 42, 0, true);
	MUST(coord_session_initialize(s, false, &f));
	MUST(coord_session_gather_metadata(s, &op, &f));
	abort_backup();
	result("cancelled");
	cr_expect_eq(ended, 1);
	end();
}

Test(coord_party, how_an_Abort_was_taken_does_not_hide_why_the_writer_failed)
{
	scene_with(EVENT_FREEZE, WRITER_FAIL);
	all->f[S].way[EVENT_ABORT] = all->f[F].way[EVENT_ABORT] = WRITER_SILENT;
	w->f[0].way[ASK_OPEN] = FAKE_FAIL;
	create();
	writers_wait_ms(all, 61000);
	STATE(S, WRITER_FAILED_AT_FREEZE, "retryable");
	STATE(F, WRITER_STABLE, "");
	end();
}

/* W-7 */
Test(coord_party, the_end_of_an_older_session_leaves_the_row_of_a_newer_one)
{
	struct coord_session *older;

	scene();
	create();
	older = s;
	prepare(false);
	cr_expect_str_eq(all->f[F].w->row.session_id, s->id);
	coord_session_release(older, NULL, NULL);
	writers_pump(all);
	coord_session_forget(older);
	cr_expect_str_eq(all->f[F].w->row.session_id, s->id);
	end();
}

Test(coord_party, a_message_cut_within_a_character_can_still_be_shown)
{
	struct coord_writer_row row = { .state = WRITER_STABLE };
	struct coord_writer_info info = { .class_id = (char *)"c", .name = (char *)"n" };
	json_t *shown;

	memset(row.message, 'x', 254);
	row.message[254] = (char)0xc3; /* the first half of a letter */
	shown = coord_json_row("i", &info, &row);
	cr_assert(shown);
	cr_expect(json_is_string(json_object_get(shown, "message")));
	json_decref(shown);
	assert_no_leaks();
}

/* M-5 */
Test(coord_party, what_nothing_above_brings_in_must_be_added)
{
	static const char *const text =
		"{\"version\": \"1.0\", \"restore_method\": {\"method\": \"custom\"}, \"components\": ["
		"{\"type\": \"database\", \"name\": \"one\"},"
		"{\"type\": \"database\", \"logical_path\": \"one\", \"name\": \"part\"},"
		"{\"type\": \"database\", \"name\": \"log\", \"selectable_for_backup\": false}]}";

	begin();
	writer_join(all, F, LEVEL_FRONT_END, 60000);
	all->f[F].document = json_loads(text, 0, NULL);
	s = coord_session_new(&w->core, 42, 0, true);
	MUST(coord_session_initialize(s, false, &f));
	MUST(coord_session_gather_metadata(s, &op, &f));
	writers_pump(all);
	MUST(coord_session_start_set(s, &f));
	REFUSED(coord_session_add_component(s, all->f[F].w->id, "one", "part", &f),
		UMBRA_E_INVALID_ARGUMENT);
	MUST(coord_session_add_component(s, all->f[F].w->id, "", "one", &f));
	REFUSED(coord_session_prepare(s, &op, &f), UMBRA_E_INVALID_ARGUMENT);
	cr_expect_eq(s->state, SESSION_SET_OPEN);
	MUST(coord_session_add_component(s, all->f[F].w->id, "", "log", &f));
	MUST(coord_session_prepare(s, &op, &f));
	writers_pump(all);
	end();
}
