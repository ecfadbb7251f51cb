#include <criterion/criterion.h>

#include "coordinator/drop.h"
#include "coordinator/extra.h"
#include "coordinator/json.h"
#include "coordinator/refresh.h"
#include "tests/support/coord_fake.h"
#include "tests/support/leaks.h"

#define SET_A "aaaaaaaa-0000-4000-8000-000000000000"
#define SET_B "bbbbbbbb-0000-4000-8000-000000000000"

/* ---- N-7: what a provider brings along ---- */

static void bring(struct coord_snapshot_list *store, uint64_t epoch, const char *set,
		  enum cow_context c, enum cow_snapshot_state state)
{
	struct coord_snapshot *sn = fake_snapshot(epoch, set, c, state);

	TAILQ_INSERT_TAIL(store, sn, link);
}

Test(coord_core, registration_keeps_persistent_snapshots_and_drops_the_rest)
{
	struct world *w = world_new();
	struct coord_snapshot_list store = TAILQ_HEAD_INITIALIZER(store);

	bring(&store, 1, SET_A, COW_CTX_NAS_ROLLBACK, COW_SNAP_CREATED);
	bring(&store, 2, SET_B, COW_CTX_BACKUP, COW_SNAP_CREATED);
	bring(&store, 3, "cccccccc-0000-4000-8000-000000000000", COW_CTX_CLIENT_ACCESSIBLE,
	      COW_SNAP_OPENED);
	bring(&store, 4, "dddddddd-0000-4000-8000-000000000000", COW_CTX_APP_ROLLBACK,
	      COW_SNAP_CREATED);
	fake_join_with(w, 0, &store);
	cr_expect_eq(world_shown(w), 2, "at once, not only when they are dropped");
	world_pump(w);
	cr_expect(w->f[0].live[1] && !w->f[0].live[2] && !w->f[0].live[3] && w->f[0].live[4]);
	world_done(w);
	assert_no_leaks();
}

Test(coord_core, unfinished_member_takes_its_whole_set_along)
{
	struct world *w = world_new();
	struct coord_snapshot_list a = TAILQ_HEAD_INITIALIZER(a), b = TAILQ_HEAD_INITIALIZER(b),
				   c = TAILQ_HEAD_INITIALIZER(c);

	bring(&a, 1, SET_A, COW_CTX_NAS_ROLLBACK, COW_SNAP_CREATED);
	bring(&b, 1, SET_A, COW_CTX_NAS_ROLLBACK, COW_SNAP_OPENED);
	bring(&c, 1, SET_A, COW_CTX_NAS_ROLLBACK, COW_SNAP_CREATED);
	fake_join_with(w, 0, &a);
	cr_expect_eq(world_shown(w), 1);
	fake_join_with(w, 1, &b);
	cr_expect_eq(world_shown(w), 0);
	fake_join_with(w, 2, &c);
	cr_expect_eq(world_shown(w), 0);
	world_pump(w);
	for (unsigned i = 0; i < 3; i++)
		cr_expect_eq(w->f[i].nlive, 0);
	world_done(w);
	assert_no_leaks();
}

Test(coord_core, auto_release_snapshot_of_a_live_session_survives_its_providers_restart)
{
	struct world *w = world_new();
	struct coord_snapshot_list store = TAILQ_HEAD_INITIALIZER(store);
	struct coord_session *s;

	fake_join(w, 0);
	s = world_set(w, "backup", 1);
	world_do(s);
	world_pump(w);
	fake_die(&w->f[0]);
	cr_expect_eq(world_shown(w), 0);
	bring(&store, 1, s->set_id, COW_CTX_BACKUP, COW_SNAP_CREATED);
	w->f[0].nlive = 0;
	fake_join_with(w, 0, &store);
	world_pump(w);
	cr_expect_eq(world_shown(w), 1);
	coord_session_leave(s);
	world_pump(w);
	cr_expect_eq(w->f[0].nlive, 0);
	world_done(w);
	assert_no_leaks();
}

Test(coord_core, snapshot_whose_release_failed_goes_when_its_provider_is_back)
{
	struct world *w = world_new();
	struct coord_snapshot_list store = TAILQ_HEAD_INITIALIZER(store);
	struct coord_session *s;
	int done = 0;

	fake_join(w, 0);
	s = world_set(w, "backup", 1);
	world_do(s);
	world_pump(w);
	w->f[0].way[ASK_DROP] = FAKE_DIE;
	coord_session_release(s, world_note, &done);
	world_pump(w);
	cr_expect_eq(done, 1, "a failure in one step does not skip the rest (D-8)");
	w->f[0].way[ASK_DROP] = FAKE_WELL;
	bring(&store, 1, s->set_id, COW_CTX_BACKUP, COW_SNAP_CREATED);
	w->f[0].nlive = 0;
	fake_join_with(w, 0, &store);
	cr_expect_eq(world_shown(w), 0);
	world_pump(w);
	cr_expect_eq(w->f[0].nlive, 0);
	world_done(w);
	assert_no_leaks();
}

Test(coord_core, tree_registered_twice_belongs_to_the_newer_connection)
{
	struct world *w = world_new();
	struct coord_provider *old;
	struct coord_session *s;

	fake_join(w, 0);
	s = world_set(w, "backup", 1);
	world_do(s);
	old = w->f[0].p;
	fake_join(w, 0);
	cr_expect_neq(w->f[0].p, NULL);
	cr_expect_eq(TAILQ_FIRST(&w->core.registry.providers), w->f[0].p);
	cr_expect_null(TAILQ_NEXT(w->f[0].p, link), "the older one is gone");
	cr_expect_eq(s->state, SESSION_FAILED);
	(void)old;
	world_done(w);
	assert_no_leaks();
}

Test(coord_core, longest_tree_holds_the_path)
{
	struct world *w = world_new();
	struct coord_snapshot_list none = TAILQ_HEAD_INITIALIZER(none);
	struct coord_provider *p, *inner;
	struct coord_tree tree;
	const char *rest;

	fake_join(w, 0);
	fake_tree(&tree, 9, "/t0/inner");
	cr_assert_eq(coord_core_join(&w->core, &tree, 0, &none, &fake_transport, &w->f[3], &inner),
		     0);
	cr_expect_eq(coord_registry_by_path(&w->core.registry, "/t0/inner/x", &rest), inner);
	cr_expect_str_eq(rest, "x");
	p = coord_registry_by_path(&w->core.registry, "/t0/innermost", &rest);
	cr_expect_eq(p, w->f[0].p);
	cr_expect_str_eq(rest, "innermost");
	cr_expect_null(coord_registry_by_path(&w->core.registry, "/", &rest));
	coord_core_leave(&w->core, inner);
	world_done(w);
	assert_no_leaks();
}

/* ---- D-11, D-12 ---- */

struct outcome {
	int called;
	size_t deleted;
	char first[COW_UUID_LEN + 1];
	enum umbra_error error;
};

static void note(void *data, const struct coord_drop_result *r)
{
	struct outcome *o = data;

	o->called++;
	o->deleted = r->deleted;
	o->error = r->failure.error;
	if (r->first_not_deleted)
		strcpy(o->first, r->first_not_deleted);
}

static struct coord_drop *drop_all(struct world *w, unsigned flags)
{
	struct coord_drop *d = coord_drop_new(&w->core, flags);
	struct coord_snapshot *sn;

	TAILQ_FOREACH(sn, &w->f[0].p->snapshots, link)
		coord_drop_add(d, sn->s.id);
	return d;
}

static struct world *with_snapshots(unsigned n)
{
	struct world *w = world_new();
	struct coord_snapshot_list store = TAILQ_HEAD_INITIALIZER(store);

	for (unsigned i = 1; i <= n; i++)
		bring(&store, i, SET_A, COW_CTX_NAS_ROLLBACK, COW_SNAP_CREATED);
	fake_join_with(w, 0, &store);
	return w;
}

Test(coord_core, deletion_stops_at_the_first_failure)
{
	struct world *w = with_snapshots(3);
	struct outcome o = { 0 };
	char second[COW_UUID_LEN + 1];

	strcpy(second, TAILQ_NEXT(TAILQ_FIRST(&w->f[0].p->snapshots), link)->s.id);
	coord_drop_start(drop_all(w, 0), note, &o);
	cr_expect_eq(w->f[0].n, 1, "one at a time");
	cr_expect(!w->f[0].log[0].force);
	fake_answer(&w->f[0], 0, FAKE_WELL);
	fake_answer(&w->f[0], 1, FAKE_BUSY);
	cr_expect_eq(o.called, 1);
	cr_expect_eq(o.deleted, 1);
	cr_expect_eq(o.error, UMBRA_E_VOLUME_IN_USE); /* D-12 */
	cr_expect_str_eq(o.first, second);
	cr_expect_eq(world_shown(w), 2, "deleted ones stay deleted");
	world_done(w);
	assert_no_leaks();
}

Test(coord_core, deletion_of_all_goes_on_after_failures)
{
	struct world *w = with_snapshots(3);
	struct outcome o = { 0 };

	coord_drop_start(drop_all(w, COORD_DROP_ALL | COORD_DROP_FORCE), note, &o);
	fake_answer(&w->f[0], 0, FAKE_FAIL);
	fake_answer(&w->f[0], 1, FAKE_WELL);
	fake_answer(&w->f[0], 2, FAKE_WELL);
	cr_expect_eq(o.called, 1);
	cr_expect_eq(o.deleted, 2);
	cr_expect_eq(o.error, FAKE_ERROR);
	world_done(w);
	assert_no_leaks();
}

Test(coord_core, concurrent_deletions_find_what_is_gone_gone)
{
	struct world *w = with_snapshots(1);
	struct outcome a = { 0 }, b = { 0 };

	coord_drop_start(drop_all(w, 0), note, &a);
	coord_drop_start(drop_all(w, 0), note, &b);
	world_pump(w);
	cr_expect_eq(a.deleted, 1);
	cr_expect_eq(b.deleted, 0);
	cr_expect_eq(b.error, UMBRA_E_OBJECT_NOT_FOUND); /* D-11 */
	cr_expect_eq(world_shown(w), 0);
	world_done(w);
	assert_no_leaks();
}

Test(coord_core, deletion_outlives_the_one_who_asked)
{
	struct world *w = with_snapshots(2);
	struct outcome o = { 0 };
	struct coord_drop *d = drop_all(w, 0);

	coord_drop_start(d, note, &o);
	coord_drop_forget(d);
	cr_expect(!coord_core_idle(&w->core)); /* T-13 */
	world_pump(w);
	cr_expect_eq(o.called, 0);
	cr_expect_eq(world_shown(w), 0);
	world_done(w);
	assert_no_leaks();
}

Test(coord_core, deletion_ends_when_the_provider_is_lost_or_silent)
{
	struct world *w = with_snapshots(2);
	struct outcome o = { 0 };

	coord_drop_start(drop_all(w, COORD_DROP_ALL), note, &o);
	fake_die(&w->f[0]);
	cr_expect_eq(o.called, 1);
	cr_expect_eq(o.deleted, 0);
	world_done(w);

	w = with_snapshots(1);
	o = (struct outcome){ 0 };
	coord_drop_start(drop_all(w, 0), note, &o);
	world_wait_ms(w, 600001);
	cr_expect_eq(o.called, 1);
	cr_expect_eq(o.error, UMBRA_E_UNEXPECTED_PROVIDER_ERROR);
	world_done(w);
	assert_no_leaks();
}

/* ---- refresh ---- */

Test(coord_core, refresh_waits_for_all_but_not_for_ever)
{
	struct world *w = world_new();
	struct coord_refresh *r;
	int done = 0;

	cr_expect_null(coord_refresh_start(&w->core.registry, ASK_USAGE, NULL, world_note, &done));
	fake_join(w, 0);
	fake_join(w, 1);
	cr_expect_not_null(
		coord_refresh_start(&w->core.registry, ASK_USAGE, NULL, world_note, &done));
	fake_answer(&w->f[0], 0, FAKE_WELL);
	cr_expect_eq(done, 0);
	world_wait_ms(w, 2001);
	cr_expect_eq(done, 1);
	r = coord_refresh_start(&w->core.registry, ASK_USAGE, w->f[1].p, world_note, &done);
	cr_expect_eq(w->f[0].n, 1, "one provider only");
	coord_refresh_cancel(r);
	world_pump(w);
	cr_expect_eq(done, 1);
	world_done(w);
	assert_no_leaks();
}

Test(coord_core, list_updates_numbers_and_forgets_what_is_gone)
{
	struct world *w = with_snapshots(3);
	struct coord_snapshot_list news = TAILQ_HEAD_INITIALIZER(news);
	struct coord_provider *p = w->f[0].p;

	bring(&news, 1, SET_A, COW_CTX_NAS_ROLLBACK, COW_SNAP_CREATED);
	bring(&news, 2, SET_A, COW_CTX_NAS_ROLLBACK, COW_SNAP_CREATED);
	TAILQ_FIRST(&news)->s.stored_bytes = 77;
	TAILQ_FIRST(&news)->in_use = 3;
	TAILQ_FIRST(&news)->exposed_path = strdup("/m");
	coord_provider_by_epoch(p, 2)->exposed_path = strdup("/old");
	p->serial = 5;
	coord_provider_insert(p, fake_snapshot(9, SET_B, COW_CTX_NAS_ROLLBACK, COW_SNAP_CREATED));
	coord_provider_update(p, 5, &news); /* asked before epoch 9 was known */
	cr_expect_eq(coord_provider_by_epoch(p, 1)->s.stored_bytes, 77);
	cr_expect_eq(coord_provider_by_epoch(p, 1)->in_use, 3);
	cr_expect_str_eq(coord_provider_by_epoch(p, 1)->exposed_path, "/m");
	cr_assert_not_null(coord_provider_by_epoch(p, 2));
	cr_expect_null(coord_provider_by_epoch(p, 2)->exposed_path, "unexposed since");
	cr_expect_null(coord_provider_by_epoch(p, 3));
	cr_expect_not_null(coord_provider_by_epoch(p, 9), "too new for that list");
	coord_snapshots_done(&news);
	world_done(w);
	assert_no_leaks();
}

/* ---- JSON ---- */

static json_t *tree_json(void)
{
	return json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:i, s:i, s:i, s:b, s:n, s:[s]}", "id",
			 "00000000-0000-4000-8000-000000000001", "path", "/srv//data/", "pid", 7,
			 "store", "/srv/.umbra", "snapshot_root", "/srv/data/.snapshots",
			 "snapshots_shown", "visible", "used_bytes", 1, "allocated_bytes", 2,
			 "max_bytes", 3, "holding", 0, "fault", "warnings", "careful");
}

Test(coord_core, tree_is_read_and_each_wrong_member_is_named)
{
	static const char *const members[] = { "id",	     "path",	  "pid",  "snapshots_shown",
					       "used_bytes", "max_bytes", "fault" };
	struct coord_tree tree;
	const char *bad = NULL;
	json_t *o = tree_json();

	cr_assert_eq(coord_json_read_tree(o, &tree, &bad), 0);
	cr_expect_str_eq(tree.path, "/srv/data");
	cr_expect_str_eq(tree.warnings[0], "careful");
	cr_expect_str_eq(tree.shown, "visible");
	coord_tree_done(&tree);
	json_decref(o);
	for (size_t i = 0; i < sizeof(members) / sizeof(*members); i++) {
		o = tree_json();
		json_object_set_new(o, members[i], json_object());
		cr_expect_eq(coord_json_read_tree(o, &tree, &bad), -EINVAL, "%s", members[i]);
		cr_expect_str_eq(bad, members[i]);
		json_decref(o);
	}
	o = tree_json();
	json_object_set_new(o, "used_bytes", json_integer(-1));
	cr_expect_eq(coord_json_read_tree(o, &tree, &bad), -EINVAL);
	json_object_set_new(o, "used_bytes", json_integer(1));
	json_object_set_new(o, "path", json_string("relative"));
	cr_expect_eq(coord_json_read_tree(o, &tree, &bad), -EINVAL);
	json_object_set_new(o, "path", json_string("/a/../b"));
	cr_expect_eq(coord_json_read_tree(o, &tree, &bad), -EINVAL);
	json_decref(o);
	cr_expect_eq(coord_json_read_tree(NULL, &tree, &bad), -EINVAL);
	assert_no_leaks();
}

static json_t *snapshot_json(void)
{
	return json_pack("{s:i, s:s, s:s, s:i, s:s, s:i, s:I, s:s, s:s, s:s, s:i, s:i, s:i}",
			 "epoch", 3, "id", "00000000-0000-4000-8000-000000000003", "set_id", SET_A,
			 "context", 4, "state", "created", "in_set", 1, "opened_ns",
			 (json_int_t)1767225600123456789, "label", "l", "name", "l", "extra",
			 "{\"description\":\"d\"}", "stored_bytes", 5, "changed_files", 6, "in_use",
			 0);
}

Test(coord_core, snapshots_survive_the_way_through_json)
{
	static const char *const members[] = { "epoch", "id",	     "set_id", "context",
					       "state", "opened_ns", "name" };
	struct world *w = world_new();
	struct coord_snapshot_list list;
	json_t *array = json_pack("[o]", snapshot_json()), *o;
	const char *bad = NULL;

	cr_assert_eq(coord_json_read_snapshots(array, &list, &bad), 0);
	json_decref(array);
	fake_join_with(w, 0, &list);
	o = coord_json_snapshot(w->f[0].p, TAILQ_FIRST(&w->f[0].p->snapshots));
	cr_expect_str_eq(json_string_value(json_object_get(o, "created")),
			 "2026-01-01T00:00:00.123456789Z");
	cr_expect_str_eq(json_string_value(json_object_get(o, "description")), "d");
	cr_expect_str_eq(json_string_value(json_object_get(o, "context")), "nas-rollback");
	cr_expect_str_eq(json_string_value(json_object_get(o, "path")), "/x/l");
	cr_expect(json_is_array(json_object_get(o, "writers")));
	json_decref(o);
	for (size_t i = 0; i < sizeof(members) / sizeof(*members); i++) {
		o = snapshot_json();
		json_object_set_new(o, members[i], json_array());
		array = json_pack("[o, o]", snapshot_json(), o);
		cr_expect_eq(coord_json_read_snapshots(array, &list, &bad), -EINVAL, "%s",
			     members[i]);
		cr_expect_str_eq(bad, members[i]);
		json_decref(array);
	}
	world_done(w);
	assert_no_leaks();
}

/* C-4, C-13 */
Test(coord_core, exposures_survive_the_way_through_json)
{
	static const char *const wrong[] = { "[]", "{}", "{\"path\": 7}",
					     "{\"path\": \"/m\", \"problem\": 1}", "true" };
	struct world *w = world_new();
	struct coord_snapshot_list list;
	const char *bad = NULL;
	json_t *array, *o = snapshot_json();

	json_object_set_new(o, "exposed",
			    json_pack("{s:s, s:s, s:s, s:s}", "path", "/m?", "path_base64", "L23/",
				      "subdir", "a/b", "problem", "gone"));
	array = json_pack("[o]", o);
	cr_assert_eq(coord_json_read_snapshots(array, &list, &bad), 0);
	json_decref(array);
	fake_join_with(w, 0, &list);
	o = coord_json_snapshot(w->f[0].p, TAILQ_FIRST(&w->f[0].p->snapshots));
	cr_expect(json_is_true(json_object_get(o, "exposed_locally")));
	cr_expect_str_eq(json_string_value(json_object_get(o, "exposed_path_base64")), "L23/");
	cr_expect_str_eq(json_string_value(json_object_get(o, "exposed_subdir")), "a/b");
	cr_expect_str_eq(json_string_value(json_object_get(o, "exposed_problem")), "gone");
	json_decref(o);
	array = json_pack("[o]", snapshot_json());
	cr_assert_eq(coord_json_read_snapshots(array, &list, &bad), 0);
	json_decref(array);
	o = coord_json_snapshot(w->f[0].p, TAILQ_FIRST(&list));
	cr_expect(json_is_false(json_object_get(o, "exposed_locally")));
	cr_expect(json_is_null(json_object_get(o, "exposed_path")));
	json_decref(o);
	coord_snapshots_done(&list);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		o = snapshot_json();
		json_object_set_new(o, "exposed", json_loads(wrong[i], JSON_DECODE_ANY, NULL));
		array = json_pack("[o]", o);
		cr_expect_eq(coord_json_read_snapshots(array, &list, &bad), -EINVAL, "%s",
			     wrong[i]);
		cr_expect_str_eq(bad, "exposed");
		json_decref(array);
	}
	world_done(w);
	assert_no_leaks();
}

Test(coord_core, extra_that_makes_no_sense_costs_the_description_only)
{
	static const char *const texts[] = { "", "[]", "{\"description\": 7, \"writers\": {}}",
					     "{\"version\"", "null" };
	struct world *w = with_snapshots(1);
	struct coord_snapshot *sn = TAILQ_FIRST(&w->f[0].p->snapshots);

	for (size_t i = 0; i < 5; i++) {
		json_t *o;

		free(sn->s.extra);
		sn->s.extra = strdup(texts[i]);
		o = coord_json_snapshot(w->f[0].p, sn);
		cr_expect(json_is_null(json_object_get(o, "description")));
		cr_expect_eq(json_array_size(json_object_get(o, "writers")), 0);
		json_decref(o);
	}
	world_done(w);
	assert_no_leaks();
}

Test(coord_core, extra_is_bounded_and_read_back)
{
	char *text = NULL, big[COORD_EXTRA_MAX + 1];
	json_t *o;

	cr_assert_eq(coord_extra_print("a \"quoted\" thing", &text), 0);
	o = coord_extra_parse(text);
	cr_expect_str_eq(json_string_value(json_object_get(o, "description")),
			 "a \"quoted\" thing");
	json_decref(o);
	free(text);
	text = NULL;
	cr_assert_eq(coord_extra_print(NULL, &text), 0);
	free(text);
	memset(big, 'x', COORD_EXTRA_MAX);
	big[COORD_EXTRA_MAX] = 0;
	text = NULL;
	cr_expect_eq(coord_extra_print(big, &text), -E2BIG);
	cr_expect_null(text);
	assert_no_leaks();
}

Test(coord_core, errors_have_the_names_of_section_10)
{
	for (enum umbra_error e = UMBRA_OK + 1; e < UMBRA_E_COUNT; e++) {
		cr_assert_not_null(umbra_error_name(e));
		cr_expect_eq(umbra_error_from_name(umbra_error_name(e)), e);
	}
	cr_expect_eq(umbra_error_from_name("no such"), UMBRA_E_UNEXPECTED_PROVIDER_ERROR);
	cr_expect_eq(umbra_error_from_name("finished"), UMBRA_E_UNEXPECTED_PROVIDER_ERROR);
	cr_expect_eq(umbra_error_parse("no such"), UMBRA_E_UNEXPECTED);
	cr_expect_eq(umbra_error_parse(NULL), UMBRA_E_UNEXPECTED);
	cr_expect_str_eq(umbra_error_name((enum umbra_error)4711), "unexpected");
	cr_expect(umbra_error_again(UMBRA_E_HOLD_WRITES_TIMEOUT)); /* E-0 */
	cr_expect(umbra_error_again(UMBRA_E_FLUSH_WRITES_TIMEOUT));
	cr_expect(umbra_error_again(UMBRA_E_PROVIDER_VETO));
	cr_expect(!umbra_error_again(UMBRA_E_BAD_STATE));
	cr_expect_eq(umbra_error_from_errno(-ENOSPC), UMBRA_E_INSUFFICIENT_STORAGE);
	cr_expect_eq(umbra_error_from_errno(-EBUSY), UMBRA_E_VOLUME_IN_USE);
}

/* ---- time limits ---- */

/* T-2 */
Test(coord_core, a_hold_cannot_be_made_longer_the_other_limits_can)
{
	struct coord_limits limits;

	coord_limits_init(&limits);
	cr_expect_eq(limits.hold_ms, 10000);
	cr_expect_eq(coord_limits_set(&limits, "hold", 10001), -ERANGE);
	cr_expect_eq(coord_limits_set(&limits, "event", 0), -ERANGE);
	cr_expect_eq(coord_limits_set(&limits, "window", 1000), -ENOENT);
	cr_expect_eq(limits.hold_ms, 10000);
	cr_expect_eq(coord_limits_set(&limits, "hold", 2000), 0);
	cr_expect_eq(coord_limits_set(&limits, "end", 100000), 0);
	cr_expect(limits.hold_ms == 2000 && limits.end_ms == 100000);
	assert_no_leaks();
}
