/* Restore sessions: section 8 of the protocol, X-1 to, D-4, M-6 and M-10, with writers that
 * fail, stall and die. */
#include <criterion/criterion.h>

#include "tests/support/coord_writer_fake.h"
#include "tests/support/leaks.h"

#include "coordinator/client/texts.h"
#include "coordinator/restore.h"
#include "coordinator/targets.h"

/* Class ids are those of writer_join(); instance ids are of the time of the backup. */
#define OLD0 "0a000000-0000-4000-8000-000000000000"
#define OLD1 "0a000000-0000-4000-8000-000000000001"
#define CLASS0 "00000000-0000-4000-9000-000000000000"
#define CLASS1 "00000000-0000-4000-9000-000000000001"

static const char *const backup =
	"{\"kind\": \"umbra-backup\", \"version\": \"1.3\", \"writers\": ["
	"{\"class_id\": \"" CLASS0 "\", \"instance_id\": \"" OLD0 "\", \"name\": \"fake\","
	" \"metadata\": {\"stamp\": 7}, \"components\": ["
	"  {\"logical_path\": \"\", \"name\": \"all\", \"type\": \"database\", \"succeeded\": true,"
	"   \"target\": \"nonsense\", \"kept\": 1},"
	"  {\"logical_path\": \"\", \"name\": \"log\", \"type\": \"file-group\"}]},"
	"{\"class_id\": \"" CLASS1 "\", \"instance_id\": \"" OLD1 "\", \"name\": \"fake\","
	" \"components\": [{\"logical_path\": \"\", \"name\": \"all\", \"type\": \"database\"}]}]}";

/* %1$s: instance id; %2$s: writer_restore */
static const char *const writer_document =
	"{\"version\": \"1.0\", \"instance_id\": \"%s\","
	" \"restore_method\": {\"method\": \"custom\", \"writer_restore\": \"%s\"},"
	" \"components\": ["
	"  {\"type\": \"database\", \"name\": \"all\", \"file_sets\": ["
	"    {\"path\": \"/d/\", \"pattern\": \"*\", \"recursive\": true}]},"
	"  {\"type\": \"file-group\", \"name\": \"log\"},"
	"  {\"type\": \"database\", \"logical_path\": \"all\", \"name\": \"one\","
	"   \"selectable_for_restore\": true, \"selectable_for_backup\": false,"
	"   \"file_sets\": [{\"path\": \"/one\", \"pattern\": \"x\"}]},"
	"  {\"type\": \"database\", \"logical_path\": \"all\", \"name\": \"two\","
	"   \"selectable_for_backup\": false}]}";

static const struct coord_restore_name all_of_0 = { OLD0, "", "all" };
static const struct coord_restore_name log_of_0 = { OLD0, "", "log" };
static const struct coord_restore_name all_of_1 = { OLD1, "", "all" };

static struct world *w;
static struct writers *all;
static struct coord_session *s;
static struct coord_operation *op;

#define SAW(i, want) cr_expect_str_eq(all->f[i].log, want)
#define STATE(i, want, wanted_code)                                                                \
	do {                                                                                       \
		const struct coord_writer_row *row_ = writer_row(s, i);                            \
		cr_assert(row_);                                                                   \
		cr_expect_eq(row_->state, want, "writer %d is %s", i,                              \
			     coord_writer_state_name(row_->state));                                \
		cr_expect_str_eq(row_->code, wanted_code);                                         \
	} while (0)

static json_t *documents(const char *wish)
{
	json_t *list = json_pack("[o, o]", json_sprintf(writer_document, OLD0, wish),
				 json_sprintf(writer_document, OLD1, "always"));

	cr_assert(list);
	return list;
}

static void begin(void)
{
	w = world_new();
	all = writers_new(w);
	writer_join(all, 0, LEVEL_FRONT_END, 60000);
	writer_join(all, 1, LEVEL_SYSTEM, 60000);
}

/* A session that has gathered. */
static void scene_with(const char *wish)
{
	json_t *texts = documents(wish);

	s = coord_session_new(&w->core, 42, 0, true);
	MUST(coord_restore_initialize(s, backup, texts, &f));
	json_decref(texts);
	cr_assert_eq(s->state, SESSION_R_READY);
	MUST(coord_session_gather_metadata(s, &op, &f));
	writers_pump(all);
}

static void scene(void)
{
	begin();
	scene_with("always");
}

static void end(void)
{
	writers_done(all);
	world_done(w);
	assert_no_leaks();
}

static void select_for_restore(const struct coord_restore_name *c)
{
	MUST(coord_restore_select(s, c, true, &f));
}

static void pre_restore(void)
{
	MUST(coord_restore_pre(s, &op, &f));
	writers_pump(all);
	cr_expect_eq(s->state, SESSION_PRE_RESTORED);
}

static void post_restore(void)
{
	MUST(coord_restore_post(s, &op, &f));
	writers_pump(all);
	cr_expect_eq(s->state, SESSION_POST_RESTORED);
}

static void release(void)
{
	coord_session_release(s, NULL, NULL);
	writers_pump(all);
	coord_session_forget(s);
}

/* Writer i of the document as GetRestoreComponents has it: a new reference. */
static json_t *listed(size_t i)
{
	json_t *list, *row;

	MUST(coord_restore_components(s, &list, &f));
	cr_assert_eq(json_array_size(list), 2);
	row = json_incref(json_array_get(list, i));
	json_decref(list);
	return row;
}

/* A member of a component of writer 0, as text. */
static void component_has(size_t component, const char *key, const char *want)
{
	json_t *row = listed(0);
	json_t *value =
		json_object_get(json_array_get(json_object_get(row, "components"), component), key);
	char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS)
			   : strdup("absent");

	cr_expect_str_eq(text, want, "%s: %s", key, text);
	free(text);
	json_decref(row);
}

/* ---- beginning ---- */

/* M-10, X-2 */
Test(coord_restore, documents_that_are_not_ours_are_told_from_damaged_ones)
{
	static const char *const invalid[] = {
		"{}",
		"[]",
		"{\"kind\": \"umbra-backup\", \"version\": \"2.0\", \"writers\": []}",
		"{\"kind\": \"other\", \"version\": \"1.0\", \"writers\": []}",
	};
	json_t *one = json_pack("[o]", json_sprintf(writer_document, OLD0, "always"));
	json_t *bad = json_pack("[s]", "{ \"version\": "), *foreign = json_pack("[s]", "{}");

	begin();
	s = coord_session_new(&w->core, 42, 0, true);
	for (size_t i = 0; i < 4; i++)
		REFUSED(coord_restore_initialize(s, invalid[i], NULL, &f),
			UMBRA_E_INVALID_DOCUMENT);
	REFUSED(coord_restore_initialize(s, "", NULL, &f), UMBRA_E_CORRUPT_DOCUMENT);
	REFUSED(coord_restore_initialize(s, backup, bad, &f), UMBRA_E_CORRUPT_DOCUMENT);
	REFUSED(coord_restore_initialize(s, backup, foreign, &f), UMBRA_E_INVALID_DOCUMENT);
	REFUSED(coord_restore_initialize(s, backup, one, &f), UMBRA_E_INVALID_DOCUMENT); /* */
	cr_expect_eq(s->state, SESSION_NEW);
	cr_expect_null(s->restore);
	json_decref(one);
	json_decref(bad);
	json_decref(foreign);
	end();
}

/* S-12 */
Test(coord_restore, only_those_served_here_may_restore)
{
	begin();
	fake_join(w, 0); /* belongs to user 1000 */
	s = coord_session_new(&w->core, 42, 1001, false);
	REFUSED(coord_restore_initialize(s, backup, NULL, &f), UMBRA_E_ACCESS_DENIED);
	end();
}

/* Long documents of all sessions are counted; those that anybody may have are not. */
Test(coord_restore, S12_documents_of_all_sessions_have_a_limit)
{
	json_t *texts = documents("always"), *longer = documents("always");
	char *filler = calloc(1, UMBRA_DOCUMENTS_MAX_USER + 1);

	memset(filler, ' ', UMBRA_DOCUMENTS_MAX_USER);
	json_array_set_new(longer, 0,
			   json_sprintf("%s%s", filler,
					json_string_value(json_array_get(texts, 0))));
	begin();
	s = coord_session_new(&w->core, 42, 0, true);
	w->core.restore_bytes = COORD_RESTORE_BYTES_MAX - UMBRA_DOCUMENTS_MAX_USER;
	REFUSED(coord_restore_initialize(s, backup, longer, &f), UMBRA_E_OUT_OF_MEMORY);
	cr_expect_eq(s->state, SESSION_NEW);
	cr_expect_eq(w->core.restore_bytes, COORD_RESTORE_BYTES_MAX - UMBRA_DOCUMENTS_MAX_USER);
	MUST(coord_restore_initialize(s, backup, texts, &f));
	cr_expect_eq(w->core.restore_bytes, COORD_RESTORE_BYTES_MAX - UMBRA_DOCUMENTS_MAX_USER);
	coord_session_leave(s);
	w->core.restore_bytes = 0;
	s = coord_session_new(&w->core, 42, 0, true);
	REFUSED(coord_restore_initialize(s, "{", longer, &f), UMBRA_E_CORRUPT_DOCUMENT);
	cr_expect_eq(w->core.restore_bytes, 0, "what was refused is counted");
	MUST(coord_restore_initialize(s, backup, longer, &f));
	cr_expect_gt(w->core.restore_bytes, UMBRA_DOCUMENTS_MAX_USER);
	coord_session_leave(s);
	cr_expect_eq(w->core.restore_bytes, 0, "what has ended is counted");
	json_decref(texts);
	json_decref(longer);
	free(filler);
	end();
}

Test(coord_restore, what_needs_writers_needs_GatherWriterMetadata)
{
	json_t *texts = documents("always"), *list;

	begin();
	s = coord_session_new(&w->core, 42, 0, true);
	MUST(coord_restore_initialize(s, backup, texts, &f));
	REFUSED(coord_restore_select(s, &all_of_0, true, &f), UMBRA_E_BAD_STATE);
	REFUSED(coord_restore_pre(s, &op, &f), UMBRA_E_BAD_STATE);
	REFUSED(coord_restore_components(s, &list, &f), UMBRA_E_BAD_STATE);
	cr_expect_eq(s->state, SESSION_R_READY);
	json_decref(texts);
	end();
}

/* ---- what is selected ---- */

/* */
Test(coord_restore, only_writers_with_selected_components_hear_of_it)
{
	scene();
	select_for_restore(&all_of_1);
	pre_restore();
	SAW(0, "Identify");
	SAW(1, "Identify PreRestore");
	cr_expect_str_eq(all->f[1].set_ids, "-"); /* W-11 */
	post_restore();
	SAW(0, "Identify");
	SAW(1, "Identify PreRestore PostRestore");
	release();
	SAW(1, "Identify PreRestore PostRestore"); /* D-4: no BackupShutdown */
	end();
}

/* */
Test(coord_restore, explicit_components_are_selected_and_selectable_parts_named)
{
	static const struct coord_restore_name part = { OLD0, "all", "one" };
	static const struct coord_restore_name nobody = { "no such id", "", "all" };

	scene();
	REFUSED(coord_restore_select(s, &part, true, &f), UMBRA_E_OBJECT_NOT_FOUND);
	REFUSED(coord_restore_select(s, &nobody, true, &f), UMBRA_E_OBJECT_NOT_FOUND);
	REFUSED(coord_restore_add_subcomponent(s, &all_of_0, "all", "one", &f),
		UMBRA_E_OBJECT_NOT_FOUND); /* not selected yet */
	select_for_restore(&all_of_0);
	select_for_restore(&all_of_0); /* twice is once */
	REFUSED(coord_restore_add_subcomponent(s, &all_of_0, "all", "two", &f),
		UMBRA_E_INVALID_ARGUMENT); /* not selectable for restore */
	REFUSED(coord_restore_add_subcomponent(s, &all_of_0, "", "log", &f),
		UMBRA_E_OBJECT_NOT_FOUND); /* not a part of it */
	REFUSED(coord_restore_add_subcomponent(s, &all_of_0, "all", "three", &f),
		UMBRA_E_OBJECT_NOT_FOUND);
	MUST(coord_restore_add_subcomponent(s, &all_of_0, "all", "one", &f));
	REFUSED(coord_restore_add_subcomponent(s, &all_of_0, "all", "one", &f),
		UMBRA_E_OBJECT_ALREADY_EXISTS);
	component_has(0, "subcomponents", "[{\"logical_path\":\"all\",\"name\":\"one\"}]");
	component_has(0, "selected", "true");
	component_has(0, "kept", "1"); /* M-10 */
	component_has(1, "selected", "false");
	end();
}

Test(coord_restore, what_is_no_longer_selected_is_forgotten)
{
	scene();
	select_for_restore(&all_of_0);
	MUST(coord_restore_set_options(s, &all_of_0, "fast", &f));
	component_has(0, "options", "\"fast\"");
	MUST(coord_restore_select(s, &all_of_0, false, &f));
	MUST(coord_restore_select(s, &log_of_0, false, &f)); /* it never was */
	component_has(0, "selected", "false");
	REFUSED(coord_restore_set_options(s, &all_of_0, "fast", &f), UMBRA_E_OBJECT_NOT_FOUND);
	select_for_restore(&all_of_0);
	component_has(0, "options", "absent");
	component_has(0, "target", "absent"); /* the document's own is not one */
	MUST(coord_restore_select(s, &all_of_0, false, &f));
	pre_restore();
	SAW(0, "Identify");
	end();
}

/* M-4 */
Test(coord_restore, new_targets_and_mappings_name_a_file_set)
{
	struct coord_restore_move move = { "/d", "*", "/elsewhere", true };
	struct coord_restore_move part = { "/one", "x", "/y", false };

	scene();
	select_for_restore(&all_of_0);
	select_for_restore(&log_of_0);
	MUST(coord_restore_add_target(s, &all_of_0, &move, &f));
	MUST(coord_restore_add_target(s, &all_of_0, &part, &f)); /* of a component below it */
	REFUSED(coord_restore_add_target(s, &log_of_0, &move, &f), UMBRA_E_OBJECT_NOT_FOUND);
	move.recursive = false;
	REFUSED(coord_restore_add_target(s, &all_of_0, &move, &f), UMBRA_E_OBJECT_NOT_FOUND);
	move.recursive = true;
	move.pattern = "*.db";
	REFUSED(coord_restore_add_target(s, &all_of_0, &move, &f), UMBRA_E_OBJECT_NOT_FOUND);
	component_has(
		0, "new_targets",
		"[{\"destination\":\"/elsewhere\",\"path\":\"/d\",\"pattern\":\"*\",\"recursive\":"
		"true},{\"destination\":\"/y\",\"path\":\"/one\",\"pattern\":\"x\",\"recursive\":"
		"false}]");
	move.pattern = "*";
	REFUSED(coord_restore_add_mapping(s, &all_of_0, &move, &f), UMBRA_E_BAD_STATE);
	pre_restore();
	REFUSED(coord_restore_add_target(s, &all_of_0, &move, &f), UMBRA_E_BAD_STATE);
	MUST(coord_restore_add_mapping(s, &all_of_0, &move, &f));
	component_has(
		0, "alternate_mappings",
		"[{\"destination\":\"/elsewhere\",\"path\":\"/d\",\"pattern\":\"*\",\"recursive\":"
		"true}]");
	end();
}

Test(coord_restore, a_writer_may_be_named_by_its_present_instance)
{
	struct coord_restore_name present;

	scene();
	present = (struct coord_restore_name){ all->f[1].w->id, "", "all" };
	select_for_restore(&present);
	pre_restore();
	SAW(0, "Identify");
	SAW(1, "Identify PreRestore");
	end();
}

Test(coord_restore, a_writer_that_is_not_there_cannot_be_selected)
{
	json_t *row;

	begin();
	writer_die(&all->f[0]);
	scene_with("always");
	REFUSED(coord_restore_select(s, &all_of_0, true, &f), UMBRA_E_OBJECT_NOT_FOUND);
	row = listed(0);
	cr_expect(json_is_null(json_object_get(row, "present_instance_id")));
	json_decref(row);
	writer_die(&all->f[1]); /* it was there when gathering */
	REFUSED(coord_restore_select(s, &all_of_1, true, &f), UMBRA_E_OBJECT_NOT_FOUND);
	end();
}

/* The n-th of a kind stands for the n-th; a lost one keeps its place. */
Test(coord_restore, writers_of_a_kind_stand_for_each_other_in_their_order)
{
	struct coord_restore_name lost;
	char *text, *at;
	json_t *texts = documents("always");

	begin();
	strcpy(all->f[1].w->info.class_id, CLASS0);
	text = strdup(backup);
	at = strstr(text, CLASS1);
	memcpy(at, CLASS0, strlen(CLASS0));
	s = coord_session_new(&w->core, 42, 0, true);
	MUST(coord_restore_initialize(s, text, texts, &f));
	MUST(coord_session_gather_metadata(s, &op, &f));
	writers_pump(all);
	lost = all_of_0;
	writer_die(&all->f[0]);
	REFUSED(coord_restore_select(s, &lost, true, &f), UMBRA_E_OBJECT_NOT_FOUND);
	select_for_restore(&all_of_1);
	pre_restore();
	SAW(1, "Identify PreRestore");
	free(text);
	json_decref(texts);
	end();
}

/* ---- events ---- */

/* */
Test(coord_restore, failures_show_in_the_status_only)
{
	static const struct {
		enum writer_way way;
		const char *code;
	} rows[] = {
		{ WRITER_FAIL, "retryable" },
		{ WRITER_SILENT, "timeout" },
		{ WRITER_DIES, "writer-not-responding" },
	};

	for (size_t i = 0; i < 3; i++) {
		scene();
		all->f[0].way[EVENT_PRE_RESTORE] = rows[i].way;
		select_for_restore(&all_of_0);
		select_for_restore(&all_of_1);
		pre_restore();
		writers_wait_ms(all, 601000); /* T-6 */
		cr_expect_str_eq(coord_operation_status(op), "finished");
		STATE(0, WRITER_FAILED_AT_PRE_RESTORE, rows[i].code);
		STATE(1, WRITER_STABLE, "");
		all->f[1].way[EVENT_POST_RESTORE] = rows[i].way;
		post_restore();
		writers_wait_ms(all, 601000);
		cr_expect_str_eq(coord_operation_status(op), "finished");
		SAW(0, "Identify PreRestore"); /* 2.2: PostRestore comes in stable alone */
		STATE(1, WRITER_FAILED_AT_POST_RESTORE, rows[i].code);
		MUST(coord_session_gather_status(s, &op, &f));
		release();
		SAW(1, "Identify PreRestore PostRestore"); /* no Abort ever, no shutdown */
		end();
	}
}

/* */
Test(coord_restore, a_new_instance_gets_no_PostRestore)
{
	json_t *row;

	scene();
	select_for_restore(&all_of_0);
	select_for_restore(&all_of_1);
	pre_restore();
	writer_die(&all->f[0]);
	writer_join(all, 0, LEVEL_FRONT_END, 60000);
	MUST(coord_restore_set_status(s, &all_of_0, "all", &f)); /* the result stays known */
	post_restore();
	SAW(0, "Identify PreRestore");
	SAW(1, "Identify PreRestore PostRestore");
	row = listed(0);
	cr_expect(json_is_null(json_object_get(row, "present_instance_id")));
	json_decref(row);
	component_has(0, "file_restore_status", "\"all\"");
	end();
}

/* */
Test(coord_restore, nothing_is_sent_between_PreRestore_and_PostRestore)
{
	scene();
	select_for_restore(&all_of_0);
	pre_restore();
	MUST(coord_restore_set_status(s, &all_of_0, "failed", &f));
	MUST(coord_restore_set_additional(s, &all_of_0, true, &f));
	MUST(coord_session_gather_status(s, &op, &f));
	writers_pump(all);
	SAW(0, "Identify PreRestore");
	component_has(0, "additional_restores", "true");
	end();
}

/* */
Test(coord_restore, status_is_one_of_four_words_and_undefined_at_first)
{
	static const char *const words[] = { "none", "all", "failed", "undefined" };

	scene();
	select_for_restore(&all_of_0);
	REFUSED(coord_restore_set_status(s, &all_of_0, "all", &f), UMBRA_E_BAD_STATE);
	pre_restore();
	component_has(0, "file_restore_status", "\"undefined\"");
	for (size_t i = 0; i < 4; i++)
		MUST(coord_restore_set_status(s, &all_of_0, words[i], &f));
	REFUSED(coord_restore_set_status(s, &all_of_0, "some", &f), UMBRA_E_INVALID_ARGUMENT);
	REFUSED(coord_restore_set_status(s, &all_of_1, "all", &f), UMBRA_E_OBJECT_NOT_FOUND);
	end();
}

static void with_wish(const char *wish, const char *status, const char *want)
{
	begin();
	scene_with(wish);
	select_for_restore(&all_of_0);
	select_for_restore(&log_of_0);
	pre_restore();
	MUST(coord_restore_set_status(s, &all_of_0, "all", &f));
	MUST(coord_restore_set_status(s, &log_of_0, status, &f));
	post_restore();
	SAW(0, want);
	end();
}

/* */
Test(coord_restore, a_writer_is_called_as_its_document_wishes)
{
	with_wish("never", "failed", "Identify");
	with_wish("always", "all", "Identify PreRestore PostRestore");
	with_wish("if-replace-fails", "all", "Identify PreRestore");
	with_wish("if-replace-fails", "undefined", "Identify PreRestore");
	with_wish("if-replace-fails", "failed", "Identify PreRestore PostRestore");
	with_wish("if-replace-fails", "none", "Identify PreRestore PostRestore");
}

/* Answer PreRestore of writer 0 by hand: its question is the last one. */
static void answer_pre_restore(const char *targets)
{
	struct writer_fake *fake = &all->f[0];
	struct writer_question *q = &fake->queue[fake->n - 1];
	json_t *metadata = json_pack("{s:i}", "stamp", 8);
	struct coord_writer_answer a = { .outcome = OUTCOME_OK, .metadata = metadata };

	cr_assert_eq(q->event, EVENT_PRE_RESTORE);
	a.targets = json_loads(targets, 0, NULL);
	cr_assert(a.targets);
	q->answered = true;
	cr_assert(coord_writer_answer(fake->w, q->serial, &a));
	json_decref(a.targets);
	json_decref(metadata);
}

/* */
Test(coord_restore, PreRestore_sets_targets)
{
	scene();
	select_for_restore(&all_of_0);
	select_for_restore(&log_of_0);
	MUST(coord_restore_pre(s, &op, &f));
	answer_pre_restore(
		"[{\"name\": \"all\", \"target\": \"directed\", \"directed\": [{\"to\": 1}]},"
		" {\"name\": \"log\", \"target\": \"alternate\"}]");
	cr_expect_str_eq(coord_operation_status(op), "finished");
	component_has(0, "target", "\"directed\"");
	component_has(0, "directed", "[{\"to\":1}]");
	component_has(1, "target", "\"alternate\"");
	component_has(1, "directed", "absent");
	STATE(0, WRITER_STABLE, "");
	end();
}

/* M-6 */
Test(coord_restore, metadata_is_the_writers_to_change_in_a_restore)
{
	json_t *row;

	scene();
	select_for_restore(&all_of_0);
	row = listed(0);
	cr_expect_eq(json_integer_value(json_object_get(json_object_get(row, "metadata"), "stamp")),
		     7);
	json_decref(row);
	MUST(coord_restore_pre(s, &op, &f));
	answer_pre_restore("[]");
	row = listed(0);
	cr_expect_eq(json_integer_value(json_object_get(json_object_get(row, "metadata"), "stamp")),
		     8);
	json_decref(row);
	end();
}

/* */
Test(coord_restore, targets_that_make_no_sense_are_a_failure_of_the_writer)
{
	static const char *const bad[] = {
		"{}",
		"[1]",
		"[{\"name\": \"all\", \"target\": \"somewhere\"}]",
		"[{\"name\": \"all\"}]",
		"[{\"name\": \"log\", \"target\": \"original\"}]", /* not selected */
		"[{\"name\": \"all\", \"target\": \"directed\"}]",
		"[{\"name\": \"all\", \"target\": \"directed\", \"directed\": [3]}]",
	};

	for (size_t i = 0; i < 7; i++) {
		scene();
		select_for_restore(&all_of_0);
		MUST(coord_restore_pre(s, &op, &f));
		answer_pre_restore(bad[i]);
		STATE(0, WRITER_FAILED_AT_PRE_RESTORE, "non-retryable");
		component_has(0, "target", "absent");
		end();
	}
}

/* ---- ends ---- */

/* */
Test(coord_restore, AbortBackup_is_bad_state_and_sends_nothing)
{
	scene();
	select_for_restore(&all_of_0);
	REFUSED(coord_session_abort(s, NULL, NULL, &f), UMBRA_E_BAD_STATE);
	MUST(coord_restore_pre(s, &op, &f));
	REFUSED(coord_session_abort(s, NULL, NULL, &f), UMBRA_E_BAD_STATE); /* pending as well */
	writers_pump(all);
	REFUSED(coord_session_abort(s, NULL, NULL, &f), UMBRA_E_BAD_STATE);
	post_restore();
	REFUSED(coord_session_abort(s, NULL, NULL, &f), UMBRA_E_BAD_STATE);
	SAW(0, "Identify PreRestore PostRestore");
	end();
}

/* S-8 */
Test(coord_restore, a_cancelled_PreRestore_can_be_followed_by_PostRestore)
{
	scene();
	all->f[0].way[EVENT_PRE_RESTORE] = WRITER_SILENT;
	select_for_restore(&all_of_0);
	pre_restore();
	REFUSED(coord_restore_post(s, &op, &f), UMBRA_E_BAD_STATE); /* pending */
	cr_expect_str_eq(coord_session_cancel(s, op), "cancelled");
	cr_expect_eq(s->state, SESSION_PRE_RESTORED);
	post_restore();
	SAW(0, "Identify PreRestore PostRestore");
	end();
}

/* D-4, D-8 */
Test(coord_restore, the_end_of_the_connection_tells_nobody)
{
	scene();
	all->f[0].way[EVENT_PRE_RESTORE] = WRITER_SILENT;
	select_for_restore(&all_of_0);
	select_for_restore(&all_of_1);
	pre_restore();
	coord_session_leave(s);
	writers_pump(all);
	cr_expect(TAILQ_EMPTY(&w->core.sessions));
	SAW(0, "Identify PreRestore");
	SAW(1, "Identify PreRestore");
	end();
}

/* */
Test(coord_restore, an_orderly_shutdown_of_the_coordinator_sends_no_Abort)
{
	scene();
	select_for_restore(&all_of_0);
	pre_restore();
	coord_session_shut_down(s);
	writers_pump(all);
	SAW(0, "Identify PreRestore");
	end();
}

/* What SaveDocument gives is what InitializeForRestore takes (X-2, M-1). */
/* */
Test(coord_restore, a_saved_backup_can_be_restored)
{
	struct coord_restore_name c;
	json_t *text, *writers;
	const char *id;
	char old[COW_UUID_LEN + 1];

	begin();
	fake_join(w, 0);
	text = json_sprintf(writer_document, "no instance", "always"); /* that is replaced */
	all->f[0].document = json_loads(json_string_value(text), 0, NULL);
	json_decref(text);
	s = coord_session_new(&w->core, 42, 0, true);
	MUST(coord_session_initialize(s, false, &f));
	MUST(coord_session_gather_metadata(s, &op, &f));
	writers_pump(all);
	strcpy(old, all->f[0].w->id);
	MUST(coord_session_add_component(s, old, "", "all", &f));
	MUST(coord_session_start_set(s, &f));
	MUST(coord_session_add(s, "/t0", NULL, NULL, &id, &f));
	MUST(coord_session_prepare(s, &op, &f));
	writers_pump(all);
	MUST(coord_session_create(s, &op, &f));
	writers_pump(all);
	MUST(coord_session_save_document(s, &text, &writers, &f));
	release();
	writer_die(&all->f[0]); /* the application starts anew */
	writer_join(all, 0, LEVEL_FRONT_END, 60000);
	all->f[0].log[0] = 0;
	s = coord_session_new(&w->core, 42, 0, true);
	MUST(coord_restore_initialize(s, json_string_value(text), writers, &f));
	MUST(coord_session_gather_metadata(s, &op, &f));
	writers_pump(all);
	c = (struct coord_restore_name){ old, "", "all" };
	select_for_restore(&c);
	pre_restore();
	post_restore();
	SAW(0, "Identify PreRestore PostRestore");
	json_decref(text);
	json_decref(writers);
	end();
}
