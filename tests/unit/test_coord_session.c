#include <criterion/criterion.h>

#include "tests/support/coord_fake.h"
#include "tests/support/leaks.h"

#include "coordinator/restore.h"

/* Table 2.1 of the protocol and that of section 8 once more, written independently: rows are
 * calls, columns states. */
/* clang-format off */
static const char *const want[CALLS] = {
	/* new, ready, set-open, preparing, prepared, creating, created, completing, completed, failed,
	 * aborted, r-ready, pre-restored, post-restored, released */
	[CALL_INITIALIZE_FOR_BACKUP] =      "x..............",
	[CALL_SET_CONTEXT] =                ".x.............",
	[CALL_SET_BACKUP_STATE] =           ".xx............",
	[CALL_ENABLE_WRITER] =              ".x.............",
	[CALL_GATHER_WRITER_METADATA] =     ".xx........x...",
	[CALL_ADD_COMPONENT] =              ".xx............",
	[CALL_START_SNAPSHOT_SET] =         ".x.............",
	[CALL_ADD_TO_SNAPSHOT_SET] =        "..x.x..........",
	[CALL_PREPARE_FOR_BACKUP] =         "..x............",
	[CALL_DO_SNAPSHOT_SET] =            "..x.x..........",
	[CALL_SAVE_DOCUMENT] =              "......x.x......",
	[CALL_GET_SNAPSHOT_PROPERTIES] =    "..xxxxx.x......",
	[CALL_EXPOSE] =                     ".x....x.x......",
	[CALL_SET_BACKUP_SUCCEEDED] =       "......x........",
	[CALL_BACKUP_COMPLETE] =            "......x........",
	[CALL_GATHER_WRITER_STATUS] =       ".xxxxxxxxxxxxx.",
	[CALL_READ_WRITERS] =               ".xxxxxxxxxxxxx.",
	[CALL_ABORT_BACKUP] =               ".xxxxxxxxxx....",
	[CALL_QUERY] =                      ".x....x.xxx....",
	[CALL_DELETE_SNAPSHOTS] =           ".x....x.xxx....",
	[CALL_REVERT] =                     ".x.............",
	[CALL_STORE] =                      ".x.............",
	[CALL_USE_SNAPSHOT] =               ".x....x.xxx....",
	/* section 8 */
	[CALL_INITIALIZE_FOR_RESTORE] =     "x..............",
	[CALL_SET_SELECTED_FOR_RESTORE] =   "...........x...",
	[CALL_ADD_RESTORE_SUBCOMPONENT] =   "...........x...",
	[CALL_SET_RESTORE_OPTIONS] =        "...........x...",
	[CALL_ADD_NEW_TARGET] =             "...........x...",
	[CALL_PRE_RESTORE] =                "...........x...",
	[CALL_SET_FILE_RESTORE_STATUS] =    "............x..",
	[CALL_SET_ADDITIONAL_RESTORES] =    "............x..",
	[CALL_ADD_ALTERNATE_MAPPING] =      "............x..",
	[CALL_GET_RESTORE_COMPONENTS] =     "...........xxx.",
	[CALL_POST_RESTORE] =               "............x..",
	[CALL_RELEASE] =                    "xxxxxxxxxxxxxxx",
};
/* clang-format on */

Test(coord_session, table_has_exactly_the_pairs_of_the_protocol)
{
	for (enum coord_call c = 0; c < CALLS; c++)
		for (enum coord_session_state st = 0; st < SESSION_STATES; st++)
			cr_expect_eq(coord_session_table(st, c), want[c][st] == 'x', "%s in %s",
				     coord_call_name(c), coord_session_state_name(st));
}

static bool of_restore(enum coord_session_state st)
{
	return st == SESSION_R_READY || st == SESSION_PRE_RESTORED || st == SESSION_POST_RESTORED;
}

static const char *const empty_backup =
	"{\"kind\": \"umbra-backup\", \"version\": \"1.0\", \"writers\": []}";

static void restore_state(struct coord_session *s, enum coord_session_state st)
{
	struct coord_operation *op;

	MUST(coord_restore_initialize(s, empty_backup, NULL, &f));
	MUST(coord_session_gather_metadata(s, &op, &f));
	if (st == SESSION_R_READY)
		return;
	MUST(coord_restore_pre(s, &op, &f));
	if (st == SESSION_POST_RESTORED)
		MUST(coord_restore_post(s, &op, &f));
}

/* Bring a session of the context into each state by calls alone. */
static struct coord_session *in_state(struct world *w, const char *context,
				      enum coord_session_state st)
{
	struct coord_session *s = coord_session_new(&w->core, 1, 0, true);
	bool writers = coord_context_writers(coord_name_to_context(context));
	struct coord_operation *op;
	const char *id;

	if (st == SESSION_RELEASED)
		coord_session_release(s, NULL, NULL);
	if (st == SESSION_NEW || st == SESSION_RELEASED)
		return s;
	if (of_restore(st)) {
		restore_state(s, st);
		return s;
	}
	MUST(coord_session_initialize(s, false, &f));
	MUST(coord_session_set_context(s, context, false, false, &f));
	if (st == SESSION_READY)
		return s;
	if (writers)
		MUST(coord_session_gather_metadata(s, &op, &f));
	MUST(coord_session_start_set(s, &f));
	MUST(coord_session_add(s, "/t0", NULL, NULL, &id, &f));
	if (st == SESSION_ABORTED)
		MUST(coord_session_abort(s, NULL, NULL, &f));
	if (st == SESSION_SET_OPEN || st == SESSION_ABORTED)
		return s;
	if (writers)
		MUST(coord_session_prepare(s, &op, &f));
	if (st == SESSION_PREPARED)
		return s;
	if (st == SESSION_FAILED)
		w->f[0].way[ASK_PREPARE] = FAKE_FAIL;
	MUST(coord_session_create(s, &op, &f));
	if (st == SESSION_CREATING)
		return s;
	world_pump(w);
	if (st == SESSION_COMPLETED)
		MUST(coord_session_complete(s, &op, &f));
	return s;
}

/* Make the call for real and return what it answered. In `released` that is always bad-state (D-1). */
static enum umbra_error make_call(struct coord_session *s, enum coord_call c)
{
	struct coord_failure f;
	struct coord_operation *op;
	const char *id;
	int done = 0;

	switch (c) {
	case CALL_INITIALIZE_FOR_BACKUP:
		return coord_session_initialize(s, false, &f);
	case CALL_SET_CONTEXT:
		return coord_session_set_context(s, "backup", false, false, &f);
	case CALL_SET_BACKUP_STATE:
		return coord_session_set_backup_state(s, "copy", false, false, false, &f);
	case CALL_GATHER_WRITER_METADATA:
		return coord_session_gather_metadata(s, &op, &f);
	case CALL_START_SNAPSHOT_SET:
		return coord_session_start_set(s, &f);
	case CALL_ADD_TO_SNAPSHOT_SET:
		return coord_session_add(s, "/t1", NULL, NULL, &id, &f);
	case CALL_PREPARE_FOR_BACKUP:
		return coord_session_prepare(s, &op, &f);
	case CALL_DO_SNAPSHOT_SET:
		return coord_session_create(s, &op, &f);
	case CALL_SET_BACKUP_SUCCEEDED:
		return coord_session_set_succeeded(s, true, NULL, NULL, NULL, &f);
	case CALL_BACKUP_COMPLETE:
		return coord_session_complete(s, &op, &f);
	case CALL_GATHER_WRITER_STATUS:
		return coord_session_gather_status(s, &op, &f);
	case CALL_INITIALIZE_FOR_RESTORE:
		return coord_restore_initialize(s, empty_backup, NULL, &f);
	case CALL_PRE_RESTORE:
		return coord_restore_pre(s, &op, &f);
	case CALL_POST_RESTORE:
		return coord_restore_post(s, &op, &f);
	case CALL_ABORT_BACKUP:
		return coord_session_abort(s, NULL, NULL, &f);
	case CALL_RELEASE:
		coord_session_release(s, world_note, &done);
		coord_session_forget(s);
		return UMBRA_OK;
	default:
		return coord_session_check(s, c, &f);
	}
}

/* Which pairs work in a session of that context made by in_state(): conditions of the rows
 * included. */
static bool works(enum coord_call c, enum coord_session_state st, bool writers)
{
	if (want[c][st] != 'x')
		return false;
	switch (c) {
	case CALL_SET_CONTEXT: /* was called (S-2) */
		return false;
	case CALL_GATHER_WRITER_METADATA: /* was called, with writers, once the set was started */
		return st == SESSION_READY || (!writers && !of_restore(st));
	case CALL_ADD_COMPONENT: /* S-6; in ready nothing was gathered yet */
		return writers && st == SESSION_SET_OPEN;
	case CALL_PREPARE_FOR_BACKUP:
	case CALL_BACKUP_COMPLETE:
		return writers; /* S-6 */
	case CALL_DO_SNAPSHOT_SET:
		return writers == (st == SESSION_PREPARED); /* S-5 */
	case CALL_GATHER_WRITER_STATUS:
	case CALL_READ_WRITERS:
		return of_restore(st) || (writers && st != SESSION_READY &&
					  st != SESSION_CREATING); /* gathered, nothing pending */
	case CALL_GET_SNAPSHOT_PROPERTIES: /* object-not-found before the creation */
		return st == SESSION_CREATED || st == SESSION_COMPLETED;
	default:
		return true;
	}
}

static bool reachable(enum coord_session_state st, bool writers)
{
	if (st == SESSION_PREPARING ||
	    st == SESSION_COMPLETING) /* passed through at once without writers */
		return false;
	if (of_restore(st)) /* no context is chosen there: once is enough */
		return writers;
	return writers || (st != SESSION_PREPARED && st != SESSION_COMPLETED);
}

static void walk_pair(const char *context, enum coord_session_state st, enum coord_call c)
{
	struct world *w = world_new();
	bool writers = coord_context_writers(coord_name_to_context(context));
	struct coord_session *s;
	enum umbra_error e;

	fake_join(w, 0);
	fake_join(w, 1);
	s = in_state(w, context, st);
	cr_assert_eq(s->state, st, "%s: is %s, wanted %s", context,
		     coord_session_state_name(s->state), coord_session_state_name(st));
	e = make_call(s, c);
	if (works(c, st, writers))
		cr_expect_eq(e, UMBRA_OK, "%s: %s in %s: %s", context, coord_call_name(c),
			     coord_session_state_name(st), umbra_error_name(e));
	else if (c == CALL_GET_SNAPSHOT_PROPERTIES && want[c][st] == 'x')
		cr_expect_eq(e, UMBRA_E_OBJECT_NOT_FOUND);
	else
		cr_expect_eq(e, UMBRA_E_BAD_STATE, "%s: %s in %s: %s", context, coord_call_name(c),
			     coord_session_state_name(st), umbra_error_name(e));
	if (e != UMBRA_OK)
		cr_expect_eq(s->state, st, "a refused call changed the state");
	world_pump(w);
	world_done(w);
}

Test(coord_session, every_state_and_call_pair_answers_as_the_table_says)
{
	static const char *const contexts[] = { "backup", "nas-rollback" };

	for (size_t i = 0; i < 2; i++)
		for (enum coord_session_state st = 0; st < SESSION_STATES; st++)
			for (enum coord_call c = 0; c < CALLS; c++)
				if (reachable(st, i == 0))
					walk_pair(contexts[i], st, c);
	assert_no_leaks();
}

Test(coord_session, set_context_only_once_and_before_gathering)
{
	struct world *w = world_new();
	struct coord_session *s = world_session(w, "backup"), *t = world_session(w, NULL);
	struct coord_operation *op;

	REFUSED(coord_session_set_context(s, "backup", false, false, &f), UMBRA_E_BAD_STATE);
	MUST(coord_session_gather_metadata(t, &op, &f));
	REFUSED(coord_session_set_context(t, "backup", false, false, &f), UMBRA_E_BAD_STATE);
	cr_expect_eq(t->context, COW_CTX_BACKUP); /* S-2 */
	REFUSED(coord_session_gather_metadata(t, &op, &f), UMBRA_E_BAD_STATE);
	world_done(w);
	assert_no_leaks();
}

/* S-3 */
Test(coord_session, the_set_is_started_and_what_it_is_for_said_before_PrepareForBackup)
{
	struct world *w = world_new();
	struct coord_session *s = world_session(w, "backup"), *t;
	struct coord_operation *op;

	MUST(coord_session_gather_metadata(s, &op, &f));
	REFUSED(coord_session_prepare(s, &op, &f), UMBRA_E_BAD_STATE);
	MUST(coord_session_check(s, CALL_ADD_COMPONENT, &f)); /* in either order */
	MUST(coord_session_start_set(s, &f));
	MUST(coord_session_check(s, CALL_ADD_COMPONENT, &f));
	MUST(coord_session_set_backup_state(s, "copy", false, false, false, &f));
	MUST(coord_session_prepare(s, &op, &f));
	REFUSED(coord_session_check(s, CALL_ADD_COMPONENT, &f), UMBRA_E_BAD_STATE);
	REFUSED(coord_session_set_backup_state(s, "full", false, false, false, &f),
		UMBRA_E_BAD_STATE);
	cr_expect_str_eq(s->backup_type, "copy");
	MUST(coord_session_abort(s, NULL, NULL, &f));
	t = world_session(w, "backup"); /* nor does a gathering that comes later help */
	MUST(coord_session_start_set(t, &f));
	REFUSED(coord_session_prepare(t, &op, &f), UMBRA_E_BAD_STATE);
	MUST(coord_session_gather_metadata(t, &op, &f));
	MUST(coord_session_prepare(t, &op, &f));
	world_done(w);
	assert_no_leaks();
}

/* S-4 */
Test(coord_session, trees_are_added_until_DoSnapshotSet_begins)
{
	struct world *w = world_new();
	struct coord_session *s;
	const char *id = "untouched";

	for (unsigned i = 0; i < 3; i++)
		fake_join(w, i);
	s = world_set(w, "backup", 1);
	cr_assert_eq(s->state, SESSION_PREPARED);
	MUST(coord_session_add(s, "/t1", NULL, NULL, &id, &f));
	world_do(s);
	id = "untouched";
	REFUSED(coord_session_add(s, "/t2", NULL, NULL, &id, &f), UMBRA_E_BAD_STATE);
	cr_expect_str_eq(id, "untouched");
	world_pump(w);
	cr_expect_eq(s->state, SESSION_CREATED);
	cr_expect(w->f[0].nlive == 1 && w->f[1].nlive == 1 && w->f[2].nlive == 0);
	REFUSED(coord_session_add(s, "/t2", NULL, NULL, &id, &f), UMBRA_E_BAD_STATE);
	world_done(w);
	assert_no_leaks();
}

/* M-8: what a writer hears of it is shown in test_coord_party.c. */
Test(coord_session, there_are_six_types_of_a_backup)
{
	static const char *const types[] = { "full", "incremental", "differential",
					     "log",  "copy",	    "other" };
	struct world *w = world_new();
	struct coord_session *s = world_session(w, "backup");

	cr_expect_str_eq(s->backup_type, "full");
	for (size_t i = 0; i < 6; i++) {
		MUST(coord_session_set_backup_state(s, types[i], i & 1, i & 2, i & 4, &f));
		cr_expect_str_eq(s->backup_type, types[i]);
		REFUSED(coord_session_set_backup_state(s, "weekly", false, false, false, &f),
			UMBRA_E_INVALID_ARGUMENT);
		cr_expect_str_eq(s->backup_type, types[i], "the refusal changed it");
		cr_expect(s->component_mode == !!(i & 1) && s->bootable_state == !!(i & 2) &&
			  s->partial_files == !!(i & 4));
	}
	world_done(w);
	assert_no_leaks();
}

/* C-6, C-7 for what may not be asked for */
Test(coord_session, contexts_have_the_attributes_of_section_6)
{
	static const struct {
		const char *name;
		bool persistent, auto_release, writers, modifiers;
	} rows[] = {
		{ "backup", false, true, true, true },
		{ "file-share-backup", false, true, false, true },
		{ "app-rollback", true, false, true, true },
		{ "nas-rollback", true, false, false, true },
		{ "client-accessible", true, false, false, false },
		{ "client-accessible-writers", true, false, true, false },
	};

	for (size_t i = 0; i < 6; i++) {
		enum cow_context c = coord_name_to_context(rows[i].name);
		struct world *w = world_new();
		struct coord_session *s;

		cr_expect_eq(cow_context_persistent(c), rows[i].persistent, "%s", rows[i].name);
		cr_expect_eq(cow_context_auto_release(c), rows[i].auto_release, "%s", rows[i].name);
		cr_expect_eq(coord_context_writers(c), rows[i].writers, "%s", rows[i].name);
		cr_expect(!(rows[i].persistent && rows[i].auto_release)); /* C-3 */
		s = world_session(w, NULL);
		REFUSED(coord_session_set_context(s, rows[i].name, true, true, &f),
			UMBRA_E_INVALID_ARGUMENT);
		if (rows[i].modifiers)
			MUST(coord_session_set_context(s, rows[i].name, true, false, &f));
		else
			REFUSED(coord_session_set_context(s, rows[i].name, true, false, &f),
				UMBRA_E_INVALID_ARGUMENT);
		world_done(w);
	}
	assert_no_leaks();
}

Test(coord_session, context_all_starts_no_set_and_is_for_owners_too)
{
	struct world *w = world_new();
	struct coord_session *s, *t;

	fake_join(w, 0);
	s = world_session(w, "all");
	REFUSED(coord_session_start_set(s, &f), UMBRA_E_BAD_STATE); /* C-1 */
	t = coord_session_new(&w->core, 1, 1000, false);	    /* owner of tree 0 */
	MUST(coord_session_initialize(t, false, &f));
	REFUSED(coord_session_set_context(t, "no such", false, false, &f),
		UMBRA_E_UNSUPPORTED_CONTEXT);
	MUST(coord_session_set_context(t, "all", false, false, &f)); /* S-12: of his trees */
	REFUSED(coord_session_start_set(t, &f), UMBRA_E_BAD_STATE);
	world_done(w);
	assert_no_leaks();
}

Test(coord_session, others_than_the_privileged_use_the_trees_they_own)
{
	struct world *w = world_new();
	struct coord_session *s = coord_session_new(&w->core, 1, 1001, false);
	const char *id;

	fake_join(w, 0);
	REFUSED(coord_session_initialize(s, false, &f), UMBRA_E_ACCESS_DENIED); /* S-12 */
	fake_join(w, 1);
	MUST(coord_session_initialize(s, false, &f));
	MUST(coord_session_start_set(s, &f));
	REFUSED(coord_session_add(s, "/t0", NULL, NULL, &id, &f), UMBRA_E_ACCESS_DENIED);
	MUST(coord_session_add(s, "/t1/deep/in/it", NULL, NULL, &id, &f));
	world_done(w);
	assert_no_leaks();
}

Test(coord_session, managing_leaves_only_managing)
{
	struct world *w = world_new();
	struct coord_session *s = world_session(w, NULL);
	struct coord_operation *op;

	MUST(coord_session_check(s, CALL_QUERY, &f));
	MUST(coord_session_check(s, CALL_DELETE_SNAPSHOTS, &f));
	MUST(coord_session_check(s, CALL_USE_SNAPSHOT, &f));
	REFUSED(coord_session_start_set(s, &f), UMBRA_E_BAD_STATE); /* S-1 */
	REFUSED(coord_session_gather_metadata(s, &op, &f), UMBRA_E_BAD_STATE);
	REFUSED(coord_session_set_context(s, "all", false, false, &f), UMBRA_E_BAD_STATE);
	MUST(coord_session_abort(s, NULL, NULL, &f)); /* */
	world_done(w);
	assert_no_leaks();
}

Test(coord_session, second_set_is_refused_at_once_and_possible_after_the_first)
{
	struct world *w = world_new();
	struct coord_session *s, *t;

	fake_join(w, 0);
	s = world_set(w, "nas-rollback", 1);
	t = world_session(w, "nas-rollback");
	REFUSED(coord_session_start_set(t, &f), UMBRA_E_SNAPSHOT_SET_IN_PROGRESS); /* S-9 */
	world_do(s);
	REFUSED(coord_session_start_set(t, &f), UMBRA_E_SNAPSHOT_SET_IN_PROGRESS);
	world_pump(w);
	cr_expect_eq(s->state, SESSION_CREATED);
	MUST(coord_session_start_set(t, &f)); /* V-3: created, */
	MUST(coord_session_abort(t, NULL, NULL, &f));
	t = world_set(w, "nas-rollback", 1); /* discarded, */
	w->f[0].way[ASK_OPEN] = FAKE_FAIL;
	world_do(t);
	world_pump(w);
	cr_expect_eq(t->state, SESSION_FAILED);
	t = world_set(w, "nas-rollback", 1); /* failed, */
	coord_session_leave(t);
	(void)world_set(w, "nas-rollback", 1); /* released: each time it was given back */
	world_done(w);
	assert_no_leaks();
}

Test(coord_session, silent_requester_loses_the_slot)
{
	struct world *w = world_new();
	struct coord_session *s, *t;
	const char *id;

	fake_join(w, 0);
	s = world_session(w, "nas-rollback");
	t = world_session(w, "nas-rollback");
	MUST(coord_session_start_set(s, &f));
	world_wait_ms(w, 179000);
	coord_session_touch(s); /* T-9 starts anew with every word */
	world_wait_ms(w, 179000);
	cr_expect_eq(s->state, SESSION_SET_OPEN);
	MUST(coord_session_add(s, "/t0", NULL, NULL, &id, &f));
	world_wait_ms(w, 1799000);
	cr_expect_eq(s->state, SESSION_SET_OPEN);
	world_wait_ms(w, 2000);
	cr_expect_eq(s->state, SESSION_ABORTED); /* S-10 */
	MUST(coord_session_start_set(t, &f));
	world_wait_ms(w, 180001);
	cr_expect_eq(t->state, SESSION_ABORTED);
	cr_expect_null(w->core.slot);
	world_done(w);
	assert_no_leaks();
}

/* A session of the owner of tree 0, who is nobody else (S-12). */
static struct coord_session *owner_session(struct world *w, uid_t uid)
{
	struct coord_session *s = coord_session_new(&w->core, 43, uid, false);

	cr_assert(s);
	w->f[0].p->uid = uid;
	MUST(coord_session_initialize(s, false, &f));
	MUST(coord_session_set_context(s, "nas-rollback", false, false, &f));
	return s;
}

/* S-10, T-9: words that bring nothing on do not keep the slot of others for ever. */
Test(coord_session, who_talks_on_keeps_the_slot_only_if_privileged)
{
	static const struct {
		bool privileged;
		unsigned word_s;	    /* says something so often */
		unsigned add_s;		    /* and adds a tree after so long; 0: never */
		unsigned started_s, slot_s; /* T-9 */
		unsigned lost_s;	    /* 0: not in three hours */
	} rows[] = {
		{ true, 60, 0, 180, 1800, 0 },	      { true, 60, 120, 180, 1800, 0 },
		{ true, 400, 0, 180, 1800, 180 },     { false, 60, 0, 180, 1800, 1800 },
		{ false, 60, 1740, 180, 1800, 1800 }, { false, 60, 120, 180, 1800, 1800 },
		{ false, 400, 0, 180, 1800, 180 },    { false, 60, 0, 180, 600, 600 },
		{ false, 700, 0, 900, 600, 600 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct world *w = world_new();
		struct coord_session *s;
		unsigned t = 0;
		const char *id;

		fake_join(w, 0);
		w->core.limits.slot_started_ms = rows[i].started_s * 1000;
		w->core.limits.slot_ms = rows[i].slot_s * 1000;
		s = rows[i].privileged ? world_session(w, "nas-rollback") : owner_session(w, 1000);
		MUST(coord_session_start_set(s, &f));
		while (s->state == SESSION_SET_OPEN && t < 3 * 3600) {
			world_wait_ms(w, 1000);
			t++;
			if (s->state == SESSION_SET_OPEN && t % rows[i].word_s == 0)
				coord_session_touch(s);
			if (s->state == SESSION_SET_OPEN && t == rows[i].add_s)
				MUST(coord_session_add(s, "/t0", NULL, NULL, &id, &f));
		}
		cr_expect_eq(s->state == SESSION_SET_OPEN ? 0 : t, rows[i].lost_s,
			     "row %zu: lost after %u s", i, t);
		if (rows[i].lost_s) {
			cr_expect_eq(s->state, SESSION_ABORTED, "row %zu", i);
			cr_expect_null(w->core.slot, "row %zu", i);
		}
		world_done(w);
	}
	assert_no_leaks();
}

/* S-9, S-10: a tree's owner who takes the slot again and again does not keep root from it. */
Test(coord_session, a_privileged_requester_gets_the_slot_of_an_owner_who_does_not_create)
{
	struct world *w = world_new();
	struct coord_session *owner, *other, *root, *late;

	fake_join(w, 0);
	owner = owner_session(w, 1000);
	other = owner_session(w, 1000);
	root = world_session(w, "nas-rollback");
	late = world_session(w, "nas-rollback");
	MUST(coord_session_start_set(owner, &f));
	REFUSED(coord_session_start_set(other, &f), UMBRA_E_SNAPSHOT_SET_IN_PROGRESS);
	cr_expect_eq(owner->state, SESSION_SET_OPEN);
	MUST(coord_session_start_set(root, &f));
	cr_expect_eq(w->core.slot, root);
	cr_expect_eq(owner->state, SESSION_ABORTED);
	/* It hears that a new try may succeed, not that it made a mistake (E-4). */
	REFUSED(coord_session_add(owner, "/t0", NULL, NULL, &(const char *){ NULL }, &f),
		UMBRA_E_SNAPSHOT_SET_IN_PROGRESS);
	REFUSED(coord_session_start_set(late, &f), UMBRA_E_SNAPSHOT_SET_IN_PROGRESS);
	REFUSED(coord_session_start_set(other, &f), UMBRA_E_SNAPSHOT_SET_IN_PROGRESS);
	cr_expect_eq(w->core.slot, root);
	world_done(w);
	assert_no_leaks();
}

/* S-9 */
Test(coord_session, a_set_that_an_owner_is_creating_is_finished)
{
	struct world *w = world_new();
	struct coord_session *owner, *root;
	const char *id;

	fake_join(w, 0);
	owner = owner_session(w, 1000);
	root = world_session(w, "nas-rollback");
	MUST(coord_session_start_set(owner, &f));
	MUST(coord_session_add(owner, "/t0", NULL, NULL, &id, &f));
	world_do(owner);
	REFUSED(coord_session_start_set(root, &f), UMBRA_E_SNAPSHOT_SET_IN_PROGRESS);
	world_pump(w);
	cr_expect_eq(owner->state, SESSION_CREATED);
	MUST(coord_session_start_set(root, &f));
	world_done(w);
	assert_no_leaks();
}

Test(coord_session, slot_timer_rests_while_an_operation_is_pending)
{
	struct world *w = world_new();
	struct coord_session *s;

	fake_join(w, 0);
	w->f[0].way[ASK_PREPARE] = FAKE_SILENT;
	w->core.limits.slot_ms = 1000;
	s = world_set(w, "nas-rollback", 1);
	world_do(s);
	world_wait_ms(w, 5000);
	coord_session_touch(s);
	world_wait_ms(w, 5000);
	cr_expect_eq(s->state, SESSION_CREATING);
	world_done(w);
	assert_no_leaks();
}

Test(coord_session, release_deletes_auto_release_snapshots_and_no_others)
{
	static const char *const contexts[] = {
		"backup",	"file-share-backup", "app-rollback",
		"nas-rollback", "client-accessible", "client-accessible-writers"
	};

	for (size_t i = 0; i < 6; i++) {
		struct world *w = world_new();
		struct coord_session *s;
		bool gone = cow_context_auto_release(coord_name_to_context(contexts[i]));
		int done = 0;

		fake_join(w, 0);
		fake_join(w, 1);
		s = world_set(w, contexts[i], 2);
		world_do(s);
		world_pump(w);
		cr_assert_eq(s->state, SESSION_CREATED);
		cr_expect_eq(world_shown(w), 2);
		coord_session_release(s, world_note, &done);
		cr_expect_eq(world_shown(w), gone ? 0 : 2);
		cr_expect_eq(done, gone ? 0 : 1,
			     "an explicit release returns after the deletion (D-9)");
		world_pump(w);
		cr_expect_eq(done, 1);
		cr_expect_eq(s->state, SESSION_RELEASED);
		cr_expect_eq(w->f[0].nlive, gone ? 0 : 1, "%s", contexts[i]);
		world_done(w);
	}
	assert_no_leaks();
}

Test(coord_session, end_of_file_releases_without_a_reader)
{
	struct world *w = world_new();
	struct coord_session *s;

	fake_join(w, 0);
	s = world_set(w, "backup", 1);
	world_do(s);
	world_pump(w);
	coord_session_leave(s);
	cr_expect(!coord_core_idle(&w->core), "T-13: something is being released");
	world_pump(w);
	cr_expect(coord_core_idle(&w->core));
	cr_expect_eq(w->f[0].nlive, 0);
	cr_expect(TAILQ_EMPTY(&w->core.sessions));
	world_done(w);
	assert_no_leaks();
}

Test(coord_session, end_of_file_at_every_point_of_a_creation_leaves_nothing)
{
	for (unsigned answers = 0; answers < 12; answers++) {
		struct world *w = world_new();
		struct coord_session *s;

		fake_join(w, 0);
		fake_join(w, 1);
		s = world_set(w, "backup", 2);
		world_do(s);
		for (unsigned i = 0; i < answers; i++) {
			struct fake *f = &w->f[i % 2];
			size_t at = fake_open_question(f);

			if (at < f->n)
				fake_answer(f, at, FAKE_WELL);
		}
		coord_session_leave(s); /* */
		world_pump(w);
		fake_no_trace(&w->f[0], "after the end of file");
		fake_no_trace(&w->f[1], "after the end of file");
		cr_expect_null(w->core.slot);
		cr_expect_eq(world_shown(w), 0);
		world_done(w);
	}
	assert_no_leaks();
}

Test(coord_session, abort_during_creation_cancels_it_and_returns_when_all_is_undone)
{
	struct world *w = world_new();
	struct coord_session *s;
	struct coord_operation *op;
	int done = 0;

	fake_join(w, 0);
	s = world_set(w, "backup", 1);
	op = world_do(s);
	fake_answer(&w->f[0], 0, FAKE_WELL); /* prepared */
	fake_answer(&w->f[0], 1, FAKE_WELL); /* held */
	MUST(coord_session_abort(s, world_note, &done, &f));
	cr_expect_eq(done, 0);
	REFUSED(coord_session_start_set(s, &f), UMBRA_E_BAD_STATE);
	world_pump(w);
	cr_expect_eq(done, 1); /* */
	cr_expect_eq(s->state, SESSION_ABORTED);
	cr_expect_str_eq(coord_operation_status(op), "cancelled"); /* */
	cr_expect_null(w->core.slot);
	fake_no_trace(&w->f[0], "after AbortBackup");
	MUST(coord_session_abort(s, world_note, &done, &f)); /* */
	cr_expect_eq(done, 2);
	world_done(w);
	assert_no_leaks();
}

Test(coord_session, abort_keeps_a_created_set_until_release)
{
	struct world *w = world_new();
	struct coord_session *s;
	struct coord_operation *op;

	fake_join(w, 0);
	s = world_set(w, "backup", 1);
	world_do(s);
	world_pump(w);
	MUST(coord_session_abort(s, NULL, NULL, &f)); /* */
	cr_expect_eq(world_shown(w), 1);
	REFUSED(coord_session_complete(s, &op, &f), UMBRA_E_BAD_STATE); /* */
	coord_session_release(s, NULL, NULL);
	world_pump(w);
	cr_expect_eq(w->f[0].nlive, 0);
	world_done(w);
	assert_no_leaks();
}

/* S-8 */
Test(coord_session, cancel_answers_once_for_all)
{
	struct world *w = world_new();
	struct coord_session *s;
	struct coord_operation *op;
	struct coord_operation *status;

	fake_join(w, 0);
	s = world_set(w, "backup", 1);
	op = world_do(s);
	cr_expect_str_eq(coord_operation_status(op), "pending");
	fake_answer(&w->f[0], 0, FAKE_WELL);
	cr_expect_str_eq(coord_session_cancel(s, op), "pending");
	cr_expect_str_eq(coord_session_cancel(s, op), "cancelled");
	world_pump(w);
	cr_expect_str_eq(coord_operation_status(op), "cancelled");
	cr_expect_eq(s->state, SESSION_FAILED);
	MUST(coord_session_gather_status(s, &status, &f));
	cr_expect_str_eq(coord_session_cancel(s, status), "finished");
	MUST(coord_session_abort(s, NULL, NULL,
				 &f)); /* a cancelled call does not replace AbortBackup */
	world_done(w);
	assert_no_leaks();
}

Test(coord_session, empty_set_with_writers_is_created)
{
	struct world *w = world_new();
	struct coord_session *s = world_set(w, "backup", 0);
	struct coord_operation *op = world_do(s);

	cr_expect_str_eq(coord_operation_status(op), "finished");
	cr_expect_eq(s->state, SESSION_CREATED);
	world_done(w);
	assert_no_leaks();
}

Test(coord_session, finished_operations_are_bounded)
{
	struct world *w = world_new();
	struct coord_session *s = world_session(w, "backup");
	struct coord_operation *op;

	MUST(coord_session_gather_metadata(s, &op, &f));
	for (int i = 0; i < 500; i++)
		MUST(coord_session_gather_status(s, &op, &f));
	cr_expect_leq(s->noperations, 64);
	cr_expect_eq(coord_session_operation(s, op->id), op);
	cr_expect_null(coord_session_operation(s, "no such id"));
	world_done(w);
	assert_no_leaks();
}
