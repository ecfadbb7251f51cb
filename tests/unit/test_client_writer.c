#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "coordinator/client/writer_private.h"
#include "cow/base/clock.h"
#include "tests/support/fake_coord.h"
#include "tests/support/leaks.h"

/* A writer whose handlers note that they ran and do as the test says. Time moves only when the test, or
 * a handler, moves it. */
struct world {
	struct fake fake;
	struct umbra_writer *w;
	uint64_t now_ns, tick_ns; /* tick: passes at each look at the clock */
	char log[2048];		  /* "freeze(s1) abort(s1,writer) " */
	json_int_t serial;

	/* What handlers do, by the event's name; empty: `ok`. */
	const char *fails;   /* return 1 */
	const char *codes;   /* call umbra_writer_set_failure */
	const char *slow;    /* let the window pass */
	const char *stops;   /* call umbra_writer_stop */
	const char *message; /* for codes */
	enum umbra_writer_code code;
	uint64_t slow_ms;
	void (*inside)(struct world *, const struct umbra_writer_event *);
};

static uint64_t world_now(void *data)
{
	struct world *x = data;

	x->now_ns += x->tick_ns;
	return x->now_ns;
}

static void pass_ms(struct world *x, uint64_t ms)
{
	x->now_ns += ms * CLOCK_NS_PER_MS;
}

static bool is(const char *list, const char *name)
{
	const char *at = list ? strstr(list, name) : NULL;
	size_t len = strlen(name);

	return at && (at[len] == 0 || at[len] == ' ') && (at == list || at[-1] == ' ');
}

static int on_event(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	struct world *x = data;
	size_t at = strlen(x->log);

	cr_assert_eq(x->w ? x->w : w, w);
	snprintf(x->log + at, sizeof(x->log) - at, "%s(%s%s%s) ", e->name,
		 e->session_id ? e->session_id : "-", e->origin ? "," : "",
		 e->origin ? e->origin : "");
	if (is(x->slow, e->name))
		pass_ms(x, x->slow_ms);
	if (is(x->codes, e->name))
		umbra_writer_set_failure(w, x->code, x->message);
	if (is(x->stops, e->name))
		umbra_writer_stop(w);
	if (x->inside)
		x->inside(x, e);
	return is(x->fails, e->name);
}

static const struct umbra_writer_handlers all = {
	.size = sizeof(all),
	.identify = on_event,
	.prepare_backup = on_event,
	.prepare_for_snapshot = on_event,
	.freeze = on_event,
	.thaw = on_event,
	.post_snapshot = on_event,
	.abort = on_event,
	.backup_complete = on_event,
	.backup_shutdown = on_event,
	.pre_restore = on_event,
	.post_restore = on_event,
};

static void greet(struct fake *f)
{
	f->seen = fake_expect(f, "RegisterWriter");
	fake_answer(f, json_pack("{s:s}", "instance_id", "i1"));
	json_decref(fake_expect(f, "WriterEvents"));
}

static void begin_with(struct world *x, const struct umbra_writer_handlers *h)
{
	struct umbra_writer_options o = {
		.size = sizeof(o), .class_id = "c1", .name = "test", .window_ms = 1000
	};

	*x = (struct world){ .now_ns = 1000 * CLOCK_NS_PER_MS };
	fake_listen(&x->fake);
	o.socket = x->fake.path;
	fake_start(&x->fake, greet);
	cr_assert_eq(umbra_writer_new(&o, h, x, &x->w), 0, "%s", umbra_writer_error(NULL));
	fake_join(&x->fake);
	umbra_writer_set_clock(x->w, world_now, x);
}

static void begin(struct world *x)
{
	begin_with(x, &all);
}

static void end(struct world *x)
{
	umbra_writer_free(x->w);
	fake_done(&x->fake);
	x->fake.seen = NULL;
	assert_no_leaks();
}

/* Send an event; arguments are taken, NULL: none. */
static void event_args(struct world *x, const char *name, const char *session, json_t *arguments)
{
	fake_answer(&x->fake,
		    json_pack("{s:I, s:s, s:s?, s:s?, s:o}", "serial", ++x->serial, "event", name,
			      "session_id", session, "set_id", session ? "set-1" : NULL,
			      "arguments", arguments ? arguments : json_object()));
}

/* The answer to the newest event. */
static json_t *answered(struct world *x)
{
	json_t *a = fake_expect(&x->fake, "WriterAnswer");

	cr_assert_eq(json_integer_value(json_object_get(a, "serial")), x->serial);
	return a;
}

/* "ok", "fail", "fail timeout window-over" ... */
static void expect_answer(struct world *x, const char *want)
{
	json_t *a = answered(x);
	const char *code = json_string_value(json_object_get(a, "code"));
	char is_it[128];

	snprintf(is_it, sizeof(is_it), "%s%s%s%s", json_string_value(json_object_get(a, "status")),
		 code ? " " : "", code ? code : "",
		 json_is_true(json_object_get(a, "window_over")) ? " window-over" : "");
	cr_expect_str_eq(is_it, want);
	json_decref(a);
}

static void serve_args(struct world *x, const char *name, const char *session, json_t *arguments,
		       const char *want)
{
	event_args(x, name, session, arguments);
	cr_assert_eq(umbra_writer_dispatch(x->w), 0, "%s", umbra_writer_error(x->w));
	expect_answer(x, want);
}

static void serve(struct world *x, const char *name, const char *session, const char *want)
{
	serve_args(x, name, session, NULL, want);
}

static json_t *trees(const char *path)
{
	return json_pack("{s:s, s:[{s:s, s:s, s:s}]}", "context", "backup", "trees", "id", "n1",
			 "tree_id", "t1", "tree_path", path);
}

static void prepare(struct world *x, const char *session)
{
	serve(x, "prepare-backup", session, "ok");
	serve_args(x, "prepare-for-snapshot", session, trees("/"), "ok");
}

static void freeze(struct world *x, const char *session)
{
	prepare(x, session);
	serve(x, "freeze", session, "ok");
	x->log[0] = 0;
}

static void expect_log(struct world *x, const char *want)
{
	cr_expect_str_eq(x->log, want);
	x->log[0] = 0;
}

/* ---- registration ---- */

Test(client_writer, registration_names_what_it_has)
{
	struct world x;
	json_t *names;
	char text[512] = "";
	size_t i;
	json_t *name;
	const struct umbra_writer_handlers few = { .size = sizeof(few),
						   .prepare_for_snapshot = on_event,
						   .freeze = on_event,
						   .thaw = on_event,
						   .abort = on_event };

	begin_with(&x, &few);
	cr_expect_str_eq(umbra_writer_instance_id(x.w), "i1");
	cr_expect_str_eq(json_string_value(json_object_get(x.fake.seen, "class_id")), "c1");
	cr_expect_str_eq(json_string_value(json_object_get(x.fake.seen, "level")), "front-end");
	cr_expect_eq(json_integer_value(json_object_get(x.fake.seen, "window_ms")), 1000);
	cr_expect(!json_object_get(x.fake.seen, "usage"));
	names = json_object_get(x.fake.seen, "handlers");
	json_array_foreach(names, i, name)
		strcat(strcat(text, json_string_value(name)), " ");
	/* What the library must see itself to know when it is armed is there without a handler. */
	cr_expect_str_eq(text,
			 "prepare-backup prepare-for-snapshot freeze thaw post-snapshot abort "
			 "backup-shutdown ");
	names = NULL;
	name = NULL;
	end(&x);
}

/* W-3 */
Test(client_writer, compulsory_handlers_are_demanded)
{
	struct umbra_writer_options o = {
		.size = sizeof(o), .class_id = "c", .name = "n", .socket = "/nonexistent"
	};
	struct umbra_writer *w = (struct umbra_writer *)&o;
	struct umbra_writer_handlers h;

	for (int missing = 0; missing < 4; missing++) {
		h = all;
		*(missing == 0	 ? &h.prepare_for_snapshot
		  : missing == 1 ? &h.freeze
		  : missing == 2 ? &h.thaw
				 : &h.abort) = NULL;
		cr_expect_eq(umbra_writer_new(&o, &h, NULL, &w), -EINVAL);
	}
	o.name = NULL;
	cr_expect_eq(umbra_writer_new(&o, &all, NULL, &w), -EINVAL);
	o.name = "n";
	cr_expect_eq(umbra_writer_new(&o, &all, NULL, &w), -ENOENT);
	cr_expect_eq(w, (struct umbra_writer *)&o, "ret was touched");
	cr_expect_neq(umbra_writer_error(NULL)[0], 0);
	assert_no_leaks();
}

/* A program built for a later version: the structs have more at their ends. */
struct later_handlers {
	struct umbra_writer_handlers h;
	umbra_writer_fn eclipse;
};

struct later_options {
	struct umbra_writer_options o;
	const char *colour;
};

Test(client_writer, structs_of_another_size_are_taken_as_far_as_they_are_known)
{
	struct later_handlers h = { .h = all };
	struct later_options o = {
		.o = { .size = sizeof(o), .class_id = "c1", .name = "test", .window_ms = 1000 }
	};
	struct fake f;
	struct umbra_writer *w = NULL;

	h.h.size = sizeof(h);
	fake_listen(&f);
	o.o.socket = f.path;
	fake_start(&f, greet);
	cr_expect_eq(umbra_writer_new(&o.o, &h.h, NULL, &w), 0, "%s", umbra_writer_error(NULL));
	fake_join(&f);
	umbra_writer_free(w);
	w = NULL;
	h.eclipse = on_event;
	cr_expect_eq(umbra_writer_new(&o.o, &h.h, NULL, &w), -EINVAL);
	cr_expect_str_eq(umbra_writer_error(NULL),
			 "this library is too old for some of the writer's handlers");
	h.eclipse = NULL;
	o.colour = "green";
	cr_expect_eq(umbra_writer_new(&o.o, &h.h, NULL, &w), -EINVAL);
	cr_expect_str_eq(umbra_writer_error(NULL),
			 "this library is too old for some of the writer's options");
	cr_expect_null(w);
	fake_done(&f);
	f.seen = NULL;
	assert_no_leaks();
}

Test(client_writer, structs_whose_size_is_not_set_are_refused)
{
	static const size_t wrong[] = { 0, 1, sizeof(size_t), 1000000, SIZE_MAX };
	struct umbra_writer *w = NULL;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		struct umbra_writer_options o = {
			.size = sizeof(o), .class_id = "c", .name = "n", .socket = "/nonexistent"
		};
		struct umbra_writer_handlers h = all;

		h.size = wrong[i];
		cr_expect_eq(umbra_writer_new(&o, &h, NULL, &w), -EINVAL, "%zu", wrong[i]);
		cr_expect_str_eq(umbra_writer_error(NULL),
				 "the size of the writer's handlers is not set");
		h.size = sizeof(h);
		o.size = wrong[i];
		cr_expect_eq(umbra_writer_new(&o, &h, NULL, &w), -EINVAL, "%zu", wrong[i]);
		cr_expect_str_eq(umbra_writer_error(NULL),
				 "the size of the writer's options is not set");
	}
	cr_expect_null(w);
	assert_no_leaks();
}

static void greet_refusing(struct fake *f)
{
	json_decref(fake_expect(f, "RegisterWriter"));
	fake_refuse(f, "access-denied", "not yours");
}

Test(client_writer, refusal_is_told_with_the_coordinators_words)
{
	struct fake f;
	struct umbra_writer_options o = { .size = sizeof(o), .class_id = "c", .name = "n" };
	struct umbra_writer *w = NULL;

	fake_listen(&f);
	o.socket = f.path;
	fake_start(&f, greet_refusing);
	cr_expect_eq(umbra_writer_new(&o, &all, NULL, &w), -EACCES);
	cr_expect_null(w);
	cr_expect_str_eq(umbra_writer_error(NULL), "not yours");
	fake_join(&f);
	o.name = "\xff";
	fake_hang_up(&f);
	fake_start(&f, NULL);
	cr_expect_eq(umbra_writer_new(&o, &all, NULL, &w), -EINVAL, "not UTF-8");
	fake_join(&f);
	fake_done(&f);
	assert_no_leaks();
}

/* D-10 */
Test(client_writer, no_descriptor_is_inherited)
{
	struct world x;

	begin(&x);
	for (int fd = 3; fd < 64; fd++) {
		int flags = fcntl(fd, F_GETFD);
		char link[64], target[128] = "";

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		if (flags < 0 || readlink(link, target, sizeof(target) - 1) < 0)
			continue;
		if (fd == umbra_client_fd(x.w->client) || fd == x.w->stop_fd ||
		    fd == x.w->timer_fd || fd == x.w->poll_fd)
			cr_expect(flags & FD_CLOEXEC, "%d is %s", fd, target);
	}
	end(&x);
}

/* ---- the regular course ---- */

Test(client_writer, events_reach_their_handlers_in_order)
{
	struct world x;

	begin(&x);
	serve(&x, "identify", "s1", "ok");
	cr_expect(!umbra_writer_armed(x.w));
	serve(&x, "prepare-backup", "s1", "ok");
	cr_expect(umbra_writer_armed(x.w), "V-2");
	serve_args(&x, "prepare-for-snapshot", "s1", trees("/srv"), "ok");
	serve(&x, "freeze", "s1", "ok");
	serve(&x, "thaw", "s1", "ok");
	cr_expect(umbra_writer_armed(x.w), "V-2");
	serve_args(&x, "post-snapshot", "s1", trees("/srv"), "ok");
	cr_expect(!umbra_writer_armed(x.w), "V-2: PostSnapshot was answered");
	serve(&x, "backup-complete", "s1", "ok");
	serve(&x, "backup-shutdown", "s1", "ok");
	serve(&x, "pre-restore", "s2", "ok");
	serve(&x, "post-restore", "s2", "ok");
	expect_log(&x, "identify(s1) prepare-backup(s1) prepare-for-snapshot(s1) freeze(s1) "
		       "thaw(s1) post-snapshot(s1) backup-complete(s1) backup-shutdown(s1) "
		       "pre-restore(s2) post-restore(s2) ");
	end(&x);
}

/* V-2 */
Test(client_writer, session_end_disarms)
{
	struct world x;

	begin(&x);
	serve(&x, "prepare-backup", "s1", "ok");
	serve(&x, "backup-shutdown", "s1", "ok");
	cr_expect(!umbra_writer_armed(x.w));
	x.log[0] = 0;
	umbra_writer_free(x.w);
	x.w = NULL;
	expect_log(&x, "");
	end(&x);
}

Test(client_writer, event_of_a_later_version_is_answered_ok)
{
	struct world x;

	begin(&x);
	serve(&x, "eclipse", "s1", "ok");
	expect_log(&x, "");
	end(&x);
}

static void answer_in_pieces(struct world *x, const json_t *event)
{
	char *text = json_dumps(event, JSON_COMPACT);

	for (size_t i = 0; i <= strlen(text); i++) { /* the NUL, too */
		cr_expect_eq(x->log[0], 0);
		cr_assert_eq(send(x->fake.sock, text + i, 1, 0), 1);
		cr_assert_eq(umbra_writer_dispatch(x->w), 0);
	}
	free(text);
}

Test(client_writer, event_that_comes_in_pieces_is_one_event)
{
	struct world x;
	json_t *event;

	begin(&x);
	x.serial = 7;
	event = json_pack("{s:{s:i, s:s, s:s}}", "parameters", "serial", 7, "event", "identify",
			  "session_id", "s1");
	answer_in_pieces(&x, event);
	json_decref(event);
	event = NULL;
	expect_answer(&x, "ok");
	expect_log(&x, "identify(s1) ");
	end(&x);
}

/* ---- what a handler says ---- */

/* W-5 */
Test(client_writer, two_strengths_of_failure)
{
	struct world x;

	begin(&x);
	x.codes = "prepare-backup prepare-for-snapshot";
	x.code = UMBRA_WRITER_RETRYABLE;
	serve(&x, "prepare-backup", "s1", "ok retryable");
	x.fails = "prepare-for-snapshot";
	x.code = UMBRA_WRITER_INCONSISTENT_SNAPSHOT;
	serve(&x, "prepare-for-snapshot", "s1", "fail inconsistent-snapshot");
	/* Of no event before: what was said is forgotten with its event. */
	serve(&x, "identify", "s1", "ok");
	end(&x);
}

/* W-10 */
Test(client_writer, failure_code_in_identify_is_ignored)
{
	struct world x;

	begin(&x);
	x.codes = x.fails = "identify";
	x.code = UMBRA_WRITER_RETRYABLE;
	serve(&x, "identify", "s1", "fail");
	end(&x);
}

/* E-1 */
Test(client_writer, failure_without_a_code_is_none_or_non_retryable)
{
	struct world x;

	begin(&x);
	x.codes = "prepare-backup";
	serve(&x, "prepare-backup", "s1", "ok non-retryable");
	x.codes = NULL;
	x.fails = "prepare-backup";
	serve(&x, "prepare-backup", "s2", "fail");
	x.codes = "prepare-backup";
	x.code = (enum umbra_writer_code)99;
	serve(&x, "prepare-backup", "s3", "fail non-retryable");
	end(&x);
}

Test(client_writer, message_of_any_bytes_is_sent_as_one_line)
{
	struct world x;
	json_t *a;
	char longer[2000];

	begin(&x);
	x.codes = "prepare-backup";
	x.message = "one\ntwo \xff";
	event_args(&x, "prepare-backup", "s1", NULL);
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	a = answered(&x);
	cr_expect_str_eq(json_string_value(json_object_get(a, "message")), "one\\ntwo \\xff");
	json_decref(a);
	memset(longer, '"', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	x.message = longer;
	event_args(&x, "prepare-backup", "s1", NULL);
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	a = answered(&x);
	cr_expect_eq(strlen(json_string_value(json_object_get(a, "message"))), 511);
	json_decref(a);
	a = NULL;
	end(&x);
}

static void set_documents(struct world *x, const struct umbra_writer_event *e)
{
	int want = strcmp(e->name, "identify") == 0 ? 0 : -EBADF;
	int want_meta = strcmp(e->name, "abort") == 0 || want == 0 ? -EBADF : 0;
	char *big = malloc((1 << 20) + 100);
	char deep[200] = "";

	cr_expect_eq(umbra_writer_set_document(x->w, "{\"a\":1}"), want, "%s", e->name);
	cr_expect_eq(umbra_writer_set_metadata(x->w, "{\"b\":[2]}"), want_meta, "%s", e->name);
	sprintf(big, "{\"a\":\"%0*d\"}", (1 << 20) - 8192, 0);
	for (int i = 0; i < 31; i++)
		strcat(deep, "{\"a\":");
	strcat(deep, "1");
	for (int i = 0; i < 31; i++)
		strcat(deep, "}");
	if (want == 0) {
		cr_expect_eq(umbra_writer_set_document(x->w, "[1]"), -EINVAL);
		cr_expect_eq(umbra_writer_set_document(x->w, "{"), -EINVAL);
		cr_expect_eq(umbra_writer_set_document(x->w, "{\"a\":1,\"a\":2}"), -EINVAL);
		cr_expect_eq(umbra_writer_set_document(x->w, deep), -EINVAL);
		cr_expect_eq(umbra_writer_set_document(x->w, big), -EMSGSIZE);
	}
	free(big);
}

Test(client_writer, documents_travel_with_their_events_only)
{
	struct world x;
	json_t *a;

	begin(&x);
	x.inside = set_documents;
	event_args(&x, "identify", "s1", NULL);
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	a = answered(&x);
	cr_expect_eq(json_integer_value(json_object_get(json_object_get(a, "document"), "a")), 1,
		     "what was set first still counts after refusals");
	cr_expect(!json_object_get(a, "metadata"));
	json_decref(a);
	event_args(&x, "prepare-backup", "s1", NULL);
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	a = answered(&x);
	cr_expect(json_is_object(json_object_get(a, "metadata")));
	cr_expect(!json_object_get(a, "document"));
	json_decref(a);
	a = NULL;
	serve(&x, "abort", "s1", "ok");
	x.inside = NULL;
	cr_expect_eq(umbra_writer_set_document(x.w, "{}"), -EBADF);
	end(&x);
}

static void set_targets(struct world *x, const struct umbra_writer_event *e)
{
	int want = strcmp(e->name, "pre-restore") == 0 ? 0 : -EBADF;

	cr_expect_eq(umbra_writer_set_targets(x->w, "[{\"name\":\"a\"}]"), want, "%s", e->name);
	if (want == 0)
		cr_expect_eq(umbra_writer_set_targets(x->w, "{}"), -EINVAL);
	if (e->session_id && strcmp(e->session_id, "s2") == 0) /* M-6: in a restore as well */
		cr_expect_eq(umbra_writer_set_metadata(x->w, "{\"m\":1}"), 0, "%s", e->name);
}

/* */
Test(client_writer, targets_travel_with_pre_restore_only)
{
	struct world x;
	json_t *a;

	begin(&x);
	x.inside = set_targets;
	serve(&x, "prepare-backup", "s1", "ok");
	event_args(&x, "pre-restore", "s2", NULL);
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	a = answered(&x);
	cr_expect_eq(json_array_size(json_object_get(a, "targets")), 1);
	cr_expect(json_is_object(json_object_get(a, "metadata")));
	json_decref(a);
	event_args(&x, "post-restore", "s2", NULL);
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	a = answered(&x);
	cr_expect(!json_object_get(a, "targets"));
	cr_expect(json_is_object(json_object_get(a, "metadata")));
	json_decref(a);
	a = NULL;
	x.inside = NULL;
	cr_expect_eq(umbra_writer_set_targets(x.w, "[]"), -EBADF);
	end(&x);
}

static void meddle(struct world *x, const struct umbra_writer_event *e)
{
	cr_expect_eq(umbra_writer_dispatch(x->w), -EBUSY, "%s", e->name);
	cr_expect_eq(umbra_writer_run(x->w), -EBUSY);
}

/* L-1: so handlers never run one within another */
Test(client_writer, handlers_cannot_serve_events)
{
	struct world x;

	begin(&x);
	x.inside = meddle;
	serve(&x, "identify", "s1", "ok");
	x.inside = NULL;
	end(&x);
}

/* L-1 */
Test(client_writer, a_failure_that_is_told_outside_of_a_handler_counts_for_no_event)
{
	struct world x;

	begin(&x);
	umbra_writer_set_failure(x.w, UMBRA_WRITER_RETRYABLE, "before any");
	serve(&x, "prepare-backup", "s1", "ok");
	umbra_writer_set_failure(x.w, UMBRA_WRITER_NON_RETRYABLE, "between two");
	serve(&x, "prepare-for-snapshot", "s1", "ok");
	x.fails = "freeze";
	umbra_writer_set_failure(x.w, UMBRA_WRITER_OUT_OF_RESOURCES, "of nobody");
	serve(&x, "freeze", "s1", "fail");
	end(&x);
}

/* ---- Freeze and Thaw ---- */

static void expect_window(struct world *x, const struct umbra_writer_event *e)
{
	if (strcmp(e->name, "freeze") == 0)
		cr_expect_eq(e->window_ms, strcmp(e->session_id, "s1") == 0 ? 1000 : 400);
	else
		cr_expect_eq(e->window_ms, 0);
}

/* T-1 */
Test(client_writer, window_runs_from_freeze_to_thaw)
{
	struct world x;

	begin(&x);
	cr_expect_eq(umbra_writer_timeout_ms(x.w), -1);
	x.inside = expect_window;
	prepare(&x, "s1");
	serve_args(&x, "freeze", "s1", json_pack("{s:i}", "window_ms", 5000), "ok");
	cr_expect_eq(umbra_writer_timeout_ms(x.w), 1000, "the writer's own window is the limit");
	pass_ms(&x, 999);
	cr_expect_eq(umbra_writer_timeout_ms(x.w), 1);
	serve(&x, "thaw", "s1", "ok");
	cr_expect_eq(umbra_writer_timeout_ms(x.w), -1);
	serve(&x, "post-snapshot", "s1", "ok");
	prepare(&x, "s2");
	serve_args(&x, "freeze", "s2", json_pack("{s:i}", "window_ms", 400), "ok");
	cr_expect_eq(umbra_writer_timeout_ms(x.w), 400);
	x.inside = NULL;
	end(&x);
}

static json_t *window(json_int_t window_ms, uint64_t deadline_ns)
{
	return json_pack("{s:I, s:I}", "window_ms", window_ms, "deadline_ns",
			 (json_int_t)deadline_ns);
}

/* T-1 */
Test(client_writer, freeze_that_waited_in_the_socket_past_its_window_freezes_nothing)
{
	struct world x;
	uint64_t end_ns;

	begin(&x);
	prepare(&x, "s1");
	x.log[0] = 0;
	end_ns = x.now_ns + 1000 * CLOCK_NS_PER_MS;
	event_args(&x, "freeze", "s1", window(1000, end_ns));
	pass_ms(&x, 1000); /* the program was busy, or stopped */
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	expect_answer(&x, "fail timeout window-over");
	expect_log(&x, "abort(s1,writer) "); /* what was prepared is freed */
	cr_expect_eq(umbra_writer_timeout_ms(x.w), -1);
	cr_expect(umbra_writer_armed(x.w), "V-2: an Abort may still come");
	serve(&x, "thaw", "s1", "fail timeout window-over");
	expect_log(&x, "");
	serve(&x, "freeze", "s1", "ok"); /* an older coordinator's */
	expect_log(&x, "freeze(s1) ");
	serve(&x, "thaw", "s1", "ok");
	end(&x);
}

/* T-1: a writer in a time namespace has another CLOCK_MONOTONIC than the coordinator, whose word then says nothing. */
Test(client_writer, the_end_of_a_window_on_another_clock_is_not_believed)
{
	static const struct {
		json_int_t end_ms; /* of the window, from now on; it is 1000 ms for both */
		const char *answer;
		int left_ms;
	} rows[] = {
		{ -3600000, "ok", 1000 },
		{ -1001, "ok", 1000 },
		{ -1000, "fail timeout window-over", -1 },
		{ -1, "fail timeout window-over", -1 },
		{ 1, "ok", 1 },
		{ 1000, "ok", 1000 },
		{ 1001, "ok", 1000 },
		{ 3600000, "ok", 1000 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct world x;

		begin(&x);
		pass_ms(&x, 7200000);
		prepare(&x, "s1");
		serve_args(&x, "freeze", "s1",
			   window(1000, x.now_ns + (uint64_t)rows[i].end_ms * CLOCK_NS_PER_MS),
			   rows[i].answer);
		cr_expect_eq(umbra_writer_timeout_ms(x.w), rows[i].left_ms, "row %zu", i);
		end(&x);
	}
}

static void expect_rest(struct world *x, const struct umbra_writer_event *e)
{
	if (strcmp(e->name, "freeze") == 0)
		cr_expect_eq(e->window_ms, 300);
}

/* T-1 */
Test(client_writer, freeze_that_waited_in_the_socket_has_the_rest_of_its_window)
{
	struct world x;

	begin(&x);
	prepare(&x, "s1");
	x.inside = expect_rest;
	event_args(&x, "freeze", "s1", window(1000, x.now_ns + 1000 * CLOCK_NS_PER_MS));
	pass_ms(&x, 700);
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	expect_answer(&x, "ok");
	cr_expect_eq(umbra_writer_timeout_ms(x.w), 300);
	x.log[0] = 0;
	pass_ms(&x, 300);
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	expect_log(&x, "abort(s1,writer) ");
	x.inside = NULL;
	end(&x);
}

/* T-1 */
Test(client_writer, window_is_never_longer_than_either_says)
{
	struct world x;

	begin(&x);
	prepare(&x, "s1");
	serve_args(&x, "freeze", "s1", window(5000, x.now_ns + 5000 * CLOCK_NS_PER_MS), "ok");
	cr_expect_eq(umbra_writer_timeout_ms(x.w), 1000, "the writer's own");
	serve(&x, "thaw", "s1", "ok");
	serve_args(&x, "freeze", "s1", window(400, x.now_ns + 5000 * CLOCK_NS_PER_MS), "ok");
	cr_expect_eq(umbra_writer_timeout_ms(x.w), 400);
	serve(&x, "thaw", "s1", "ok");
	serve_args(&x, "freeze", "s1", window(400, x.now_ns + 1), "ok");
	cr_expect_eq(umbra_writer_timeout_ms(x.w), 1);
	serve(&x, "thaw", "s1", "ok");
	end(&x);
}

/* W-4 */
Test(client_writer, late_second_freeze_leaves_the_first_ones_window_as_it_is)
{
	struct world x;

	begin(&x);
	freeze(&x, "s1");
	pass_ms(&x, 900);
	serve_args(&x, "freeze", "s1", window(1000, x.now_ns), "fail timeout window-over");
	cr_expect_eq(umbra_writer_timeout_ms(x.w), 100);
	pass_ms(&x, 100);
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	expect_log(&x, "abort(s1,writer) ");
	end(&x);
}

/* A-8, T-12 */
Test(client_writer, window_end_calls_the_abort_handler_and_a_later_thaw_fails)
{
	struct world x;

	begin(&x);
	freeze(&x, "s1");
	pass_ms(&x, 1000);
	cr_expect_eq(umbra_writer_timeout_ms(x.w), 0);
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	expect_log(&x, "abort(s1,writer) ");
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	expect_log(&x, "");
	cr_expect_eq(umbra_writer_timeout_ms(x.w), -1);
	cr_expect(umbra_writer_armed(x.w), "V-2: an Abort may still come");
	serve(&x, "thaw", "s1", "fail timeout window-over");
	expect_log(&x, "");
	serve_args(&x, "abort", "s1", json_pack("{s:s}", "origin", "coordinator"), "ok");
	expect_log(&x, "abort(s1,coordinator) ");
	serve(&x, "backup-shutdown", "s1", "ok");
	end(&x);
}

/* T-11 */
Test(client_writer, thaw_that_waits_in_the_socket_when_the_window_ends_comes_too_late)
{
	struct world x;

	begin(&x);
	freeze(&x, "s1");
	event_args(&x, "thaw", "s1", NULL);
	pass_ms(&x, 1000);
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	expect_answer(&x, "fail timeout window-over");
	expect_log(&x, "abort(s1,writer) ");
	end(&x);
}

/* T-11 */
Test(client_writer, window_that_ends_as_thaw_is_taken_up_is_over)
{
	struct world x;

	begin(&x);
	freeze(&x, "s1");
	pass_ms(&x, 998);
	x.tick_ns = CLOCK_NS_PER_MS; /* not over before the event is read, but after */
	event_args(&x, "thaw", "s1", NULL);
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	x.tick_ns = 0;
	expect_answer(&x, "fail timeout window-over");
	expect_log(&x, "abort(s1,writer) ");
	end(&x);
}

/* T-11 */
Test(client_writer, timer_never_fires_after_thaw_was_accepted)
{
	struct world x;

	begin(&x);
	freeze(&x, "s1");
	pass_ms(&x, 999);
	x.slow = "thaw";
	x.slow_ms = 999; /* the first window ends meanwhile; T-4: its own has not */
	serve(&x, "thaw", "s1", "ok");
	pass_ms(&x, 5000);
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	expect_log(&x, "thaw(s1) ");
	end(&x);
}

/* */
Test(client_writer, freeze_that_fails_is_followed_by_the_abort_handler)
{
	struct world x;

	begin(&x);
	prepare(&x, "s1");
	x.log[0] = 0;
	x.fails = x.codes = "freeze abort";
	x.code = UMBRA_WRITER_OUT_OF_RESOURCES;
	serve(&x, "freeze", "s1", "fail out-of-resources");
	expect_log(&x, "freeze(s1) abort(s1,writer) ");
	cr_expect_eq(umbra_writer_timeout_ms(x.w), -1, "the window is closed");
	cr_expect(umbra_writer_armed(x.w));
	serve(&x, "thaw", "s1", "fail non-retryable");
	x.fails = x.codes = NULL;
	serve(&x, "backup-shutdown", "s1", "ok");
	end(&x);
}

/* */
Test(client_writer, late_freeze_is_aborted_before_its_answer)
{
	struct world x;

	begin(&x);
	prepare(&x, "s1");
	x.log[0] = 0;
	x.slow = "freeze";
	x.slow_ms = 1000;
	serve(&x, "freeze", "s1", "fail timeout window-over");
	expect_log(&x, "freeze(s1) abort(s1,writer) ");
	serve(&x, "thaw", "s1", "fail timeout window-over");
	expect_log(&x, "");
	end(&x);
}

/* W-5 */
Test(client_writer, freeze_with_a_code_stays_frozen)
{
	struct world x;

	begin(&x);
	prepare(&x, "s1");
	x.codes = "freeze";
	x.code = UMBRA_WRITER_PARTIAL_FAILURE;
	serve(&x, "freeze", "s1", "ok partial-failure");
	cr_expect_eq(umbra_writer_timeout_ms(x.w), 1000);
	serve(&x, "thaw", "s1", "ok");
	end(&x);
}

/* */
Test(client_writer, thaw_that_fails_is_followed_by_the_abort_handler)
{
	struct world x;

	begin(&x);
	freeze(&x, "s1");
	x.fails = "thaw";
	serve(&x, "thaw", "s1", "fail");
	expect_log(&x, "thaw(s1) abort(s1,writer) ");
	end(&x);
}

/* T-4 */
Test(client_writer, late_thaw_is_followed_by_the_abort_handler)
{
	struct world x;

	begin(&x);
	freeze(&x, "s1");
	x.slow = "thaw";
	x.slow_ms = 1000;
	serve(&x, "thaw", "s1", "fail timeout");
	expect_log(&x, "thaw(s1) abort(s1,writer) ");
	end(&x);
}

Test(client_writer, thaw_without_a_freeze_fails_and_calls_nobody)
{
	struct world x;

	begin(&x);
	serve(&x, "thaw", "s9", "fail non-retryable");
	serve(&x, "prepare-backup", "s1", "ok");
	x.log[0] = 0;
	serve(&x, "thaw", "s1", "fail non-retryable");
	expect_log(&x, "");
	end(&x);
}

Test(client_writer, abort_of_the_coordinator_closes_the_window)
{
	struct world x;

	begin(&x);
	freeze(&x, "s1");
	serve_args(&x, "abort", "s1", json_pack("{s:s}", "origin", "requester"), "ok");
	expect_log(&x, "abort(s1,requester) ");
	pass_ms(&x, 5000);
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	expect_log(&x, "");
	cr_expect(umbra_writer_armed(x.w), "A-12: more may come");
	serve(&x, "abort", "s1", "ok");
	serve(&x, "abort", "unheard-of", "ok");
	end(&x);
}

/* W-4 */
Test(client_writer, session_that_ends_without_thaw_leaves_nobody_frozen)
{
	struct world x;

	begin(&x);
	freeze(&x, "s1");
	serve(&x, "backup-shutdown", "s1", "ok");
	expect_log(&x, "abort(s1,coordinator) backup-shutdown(s1) ");
	freeze(&x, "s2");
	serve(&x, "post-snapshot", "s2", "ok");
	expect_log(&x, "abort(s2,coordinator) post-snapshot(s2) ");
	end(&x);
}

/* ---- several sessions (W-11) ---- */

/* W-11 */
Test(client_writer, sessions_do_not_meddle_with_one_another)
{
	struct world x;

	begin(&x);
	serve(&x, "prepare-backup", "s1", "ok");
	freeze(&x, "s2");
	serve(&x, "prepare-backup", "s3", "ok");
	serve(&x, "identify", "s4", "ok");
	serve(&x, "abort", "s1", "ok");
	serve(&x, "backup-shutdown", "s1", "ok");
	cr_expect_eq(umbra_writer_timeout_ms(x.w), 1000, "s2 is frozen still");
	serve(&x, "thaw", "s3", "fail non-retryable");
	x.log[0] = 0;
	pass_ms(&x, 1000);
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	expect_log(&x, "abort(s2,writer) ");
	serve(&x, "post-snapshot", "s3", "ok");
	cr_expect(umbra_writer_armed(x.w), "by s2");
	serve(&x, "backup-shutdown", "s2", "ok");
	cr_expect(!umbra_writer_armed(x.w));
	end(&x);
}

/* */
Test(client_writer, slow_handler_of_another_session_ends_the_window)
{
	struct world x;

	begin(&x);
	freeze(&x, "s1");
	x.slow = "identify";
	x.slow_ms = 2000;
	serve(&x, "identify", "s2", "ok");
	expect_log(&x, "identify(s2) abort(s1,writer) ");
	end(&x);
}

/* ---- the coordinator's end (W-9) ---- */

/* W-9 */
Test(client_writer, lost_connection_calls_the_abort_handler_once_per_armed_session)
{
	struct world x;

	begin(&x);
	serve(&x, "prepare-backup", "s2", "ok");
	freeze(&x, "s1");
	fake_hang_up(&x.fake);
	cr_expect_eq(umbra_writer_dispatch(x.w), -ECONNRESET);
	expect_log(&x, "abort(s1,coordinator) abort(s2,coordinator) ");
	cr_expect_eq(umbra_writer_dispatch(x.w), -ECONNRESET);
	cr_expect_eq(umbra_writer_run(x.w), -ECONNRESET);
	cr_expect_neq(umbra_writer_error(x.w)[0], 0);
	umbra_writer_free(x.w);
	x.w = NULL;
	expect_log(&x, "");
	end(&x);
}

/* W-9 */
Test(client_writer, lost_connection_of_one_that_is_not_armed_calls_nobody)
{
	struct world x;

	begin(&x);
	prepare(&x, "s1");
	serve(&x, "post-snapshot", "s1", "ok");
	x.log[0] = 0;
	fake_hang_up(&x.fake);
	cr_expect_eq(umbra_writer_dispatch(x.w), -ECONNRESET);
	expect_log(&x, "");
	end(&x);
}

static void hang_up_inside(struct world *x, const struct umbra_writer_event *e)
{
	if (strcmp(e->name, "abort") != 0 && x->fake.sock >= 0)
		fake_hang_up(&x->fake);
}

/* W-9 */
Test(client_writer, connection_lost_while_a_handler_runs)
{
	struct world x;

	begin(&x);
	prepare(&x, "s1");
	x.log[0] = 0;
	x.inside = hang_up_inside;
	event_args(&x, "freeze", "s1", NULL);
	cr_expect_eq(umbra_writer_dispatch(x.w), -ECONNRESET);
	expect_log(&x, "freeze(s1) abort(s1,coordinator) ");
	x.inside = NULL;
	end(&x);
}

/* W-9 */
Test(client_writer, failed_freeze_whose_answer_is_lost_is_aborted_once)
{
	struct world x;

	begin(&x);
	prepare(&x, "s1");
	x.log[0] = 0;
	x.inside = hang_up_inside;
	x.fails = "freeze";
	event_args(&x, "freeze", "s1", NULL);
	cr_expect_eq(umbra_writer_dispatch(x.w), -ECONNRESET);
	expect_log(&x, "freeze(s1) abort(s1,coordinator) ");
	x.inside = NULL;
	end(&x);
}

/* W-9 */
Test(client_writer, free_while_armed_calls_the_abort_handler)
{
	struct world x;

	begin(&x);
	freeze(&x, "s1");
	umbra_writer_free(x.w);
	x.w = NULL;
	expect_log(&x, "abort(s1,writer) ");
	cr_expect_null(fake_read(&x.fake), "the connection has ended");
	end(&x);
}

static void breach(const char *text, size_t len, int want)
{
	struct world x;

	begin(&x);
	freeze(&x, "s1");
	cr_assert_eq(send(x.fake.sock, text, len, 0), (ssize_t)len);
	cr_expect_eq(umbra_writer_dispatch(x.w), want, "%s", text);
	expect_log(&x, "abort(s1,coordinator) ");
	cr_expect_eq(umbra_writer_run(x.w), want);
	cr_expect_null(fake_read(&x.fake), "it must not wait for our answers");
	umbra_writer_free(x.w);
	fake_done(&x.fake);
}

/* W-9 */
Test(client_writer, nonsense_counts_as_a_lost_connection)
{
	static const char
		a[] = "nonsense",
		b[] = "{\"parameters\":{\"event\":\"thaw\"}}",
		c[] = "{\"parameters\":{\"serial\":1}}",
		d[] = "{\"parameters\":{\"serial\":\"1\",\"event\":\"thaw\"}}",
		e[] = "{\"error\":\"io.umbra.Failed\",\"parameters\":{\"name\":\"unexpected\"}}";

	breach(a, sizeof(a), -EPROTO);
	breach(b, sizeof(b), -EPROTO);
	breach(c, sizeof(c), -EPROTO);
	breach(d, sizeof(d), -EPROTO);
	breach(e, sizeof(e), -ECONNRESET);
	assert_no_leaks();
}

Test(client_writer, event_of_no_session_that_needs_one_is_refused)
{
	struct world x;

	begin(&x);
	serve(&x, "freeze", NULL, "fail non-retryable");
	serve(&x, "prepare-backup", NULL, "fail non-retryable");
	serve(&x, "identify", NULL, "ok");
	expect_log(&x, "identify(-) ");
	cr_expect(!umbra_writer_armed(x.w));
	end(&x);
}

/* A coordinator that is stopped reads nothing. The writer must not wait for it: its window would never
 * end. */
static void big_document(struct world *x, const struct umbra_writer_event *e)
{
	char *big;

	if (strcmp(e->name, "identify") != 0)
		return;
	big = malloc(1 << 20);
	sprintf(big, "{\"a\":\"%0*d\"}", 1000000, 0);
	cr_expect_eq(umbra_writer_set_document(x->w, big), 0);
	free(big);
}

/* */
Test(client_writer, window_ends_although_the_coordinator_takes_no_answers)
{
	struct world x;
	struct pollfd p;
	json_t *a;

	begin(&x);
	freeze(&x, "s1");
	x.inside = big_document;
	event_args(&x, "identify", "s2", NULL);
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	p = (struct pollfd){ .fd = umbra_writer_fd(x.w), .events = POLLIN };
	pass_ms(&x, 1000);
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	expect_log(&x, "identify(s2) abort(s1,writer) ");
	cr_expect_eq(poll(&p, 1, 0), 0, "nothing to do: no room in the socket");
	for (size_t got = 0; got < 1000000;) { /* it reads again: the rest follows */
		int n = umbra_stream_read(x.fake.sock, x.fake.wire);

		if (n == -EAGAIN) {
			cr_assert_eq(poll(&p, 1, 0), 1, "the descriptor says that there is room");
			cr_assert_eq(umbra_writer_dispatch(x.w), 0);
		}
		got = umbra_wire_partial(x.fake.wire);
	}
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	a = answered(&x);
	cr_expect(json_object_get(a, "document"));
	json_decref(a);
	a = NULL;
	cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	cr_expect_eq(poll(&p, 1, 0), 0);
	x.inside = NULL;
	end(&x);
}

/* ---- trees (W-12) ---- */

static void look_at_trees(struct world *x, const struct umbra_writer_event *e)
{
	bool there = strncmp(e->name, "prepare-for", 11) == 0 || strcmp(e->name, "freeze") == 0 ||
		     strcmp(e->name, "thaw") == 0 || strcmp(e->name, "post-snapshot") == 0;
	char path[200];

	snprintf(path, sizeof(path), "%s/a", getenv("TMPDIR"));
	if (strcmp(e->session_id, "s1") != 0)
		there = false;
	cr_expect_eq(umbra_writer_path_in_set(x->w, path), there ? 1 : -EBADF, "%s", e->name);
	cr_expect_eq(umbra_writer_tree(x->w, 0) != NULL, there, "%s", e->name);
	cr_expect_null(umbra_writer_tree(x->w, 1));
}

/* W-12, O-13: they outlive Thaw */
Test(client_writer, trees_are_known_from_prepare_for_snapshot_to_post_snapshot)
{
	struct world x;
	const char *tmp = getenv("TMPDIR");

	begin(&x);
	x.inside = look_at_trees;
	serve(&x, "prepare-backup", "s1", "ok");
	serve_args(&x, "prepare-for-snapshot", "s1", trees(tmp), "ok");
	serve(&x, "freeze", "s1", "ok");
	serve(&x, "identify", "s2", "ok");
	serve(&x, "prepare-backup", "s2", "ok");
	cr_expect_str_eq(umbra_writer_tree(x.w, 0), tmp,
			 "between handlers: of the one in creation");
	serve(&x, "thaw", "s1", "ok");
	serve_args(&x, "post-snapshot", "s1", trees(tmp), "ok");
	cr_expect_null(umbra_writer_tree(x.w, 0));
	cr_expect_eq(umbra_writer_path_in_set(x.w, "/"), -EBADF);
	serve(&x, "backup-complete", "s1", "ok");
	x.inside = NULL;
	end(&x);
}

static int in_set(struct world *x, const char *dir, const char *rest)
{
	char path[300];

	snprintf(path, sizeof(path), "%s%s", dir, rest);
	return umbra_writer_path_in_set(x->w, path);
}

/* W-12 */
Test(client_writer, path_in_set_follows_the_data)
{
	struct world x;
	char dir[] = "/tmp/umbra-inset-XXXXXX", tree[64], path[128];

	cr_assert(mkdtemp(dir));
	begin(&x);
	snprintf(tree, sizeof(tree), "%s/t", dir);
	cr_assert_eq(mkdir(tree, 0700), 0);
	snprintf(path, sizeof(path), "%s/to-tree", dir);
	cr_assert_eq(symlink("t", path), 0);
	snprintf(path, sizeof(path), "%s/t/out", dir);
	cr_assert_eq(symlink("/", path), 0);
	serve(&x, "prepare-backup", "s1", "ok");
	serve_args(&x, "prepare-for-snapshot", "s1", trees(tree), "ok");
	cr_expect_eq(in_set(&x, dir, "/t"), 1);
	cr_expect_eq(in_set(&x, dir, "/t/"), 1);
	cr_expect_eq(in_set(&x, dir, "//t/./x//y"), 1);
	cr_expect_eq(in_set(&x, dir, "/t/not/there/yet"), 1);
	cr_expect_eq(in_set(&x, dir, "/to-tree/x"), 1, "a link into the tree");
	cr_expect_eq(in_set(&x, dir, "/t/out/etc"), 0, "a link out of the tree");
	cr_expect_eq(in_set(&x, dir, "/t/../x"), 0);
	cr_expect_eq(in_set(&x, dir, "/tt"), 0, "a name that only begins alike");
	cr_expect_eq(in_set(&x, dir, ""), 0);
	cr_expect_eq(umbra_writer_path_in_set(x.w, "/"), 0);
	cr_expect_eq(umbra_writer_path_in_set(x.w, "relative"), -EINVAL);
	cr_expect_eq(umbra_writer_path_in_set(x.w, ""), -EINVAL);
	serve_args(&x, "prepare-for-snapshot", "s1", trees("/gone/from/here"), "ok");
	cr_expect_eq(umbra_writer_path_in_set(x.w, "/gone/from/here/x"), 1);
	serve_args(&x, "prepare-for-snapshot", "s1", trees("/"), "ok");
	cr_expect_eq(in_set(&x, dir, "/t"), 1, "the root is a tree like others");
	cr_expect_eq(umbra_writer_path_in_set(x.w, "/proc/self"), 0, "N-5: mounted inside of it");
	serve_args(&x, "prepare-for-snapshot", "s1", json_pack("{s:[{}]}", "trees"),
		   "fail non-retryable");
	snprintf(path, sizeof(path), "%s/to-tree", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/t/out", dir);
	unlink(path);
	rmdir(tree);
	rmdir(dir);
	end(&x);
}

/* ---- run and stop ---- */

Test(client_writer, stop_before_run_makes_it_return)
{
	struct world x;

	begin(&x);
	errno = 77;
	umbra_writer_stop(x.w);
	umbra_writer_stop(x.w);
	cr_expect_eq(errno, 77);
	cr_expect_eq(umbra_writer_run(x.w), 0);
	end(&x);
}

Test(client_writer, stop_in_a_handler_ends_run_after_the_answer)
{
	struct world x;

	begin(&x);
	x.stops = "identify";
	event_args(&x, "identify", "s1", NULL);
	cr_expect_eq(umbra_writer_run(x.w), 0);
	expect_answer(&x, "ok");
	expect_log(&x, "identify(s1) ");
	end(&x);
}

static struct umbra_writer *to_stop;

static void on_signal(int sig)
{
	umbra_writer_stop(to_stop);
}

Test(client_writer, stop_works_from_a_signal_handler)
{
	struct world x;

	begin(&x);
	to_stop = x.w;
	signal(SIGUSR1, on_signal);
	if (fork() == 0) {
		kill(getppid(), SIGUSR1);
		_exit(0);
	}
	cr_expect_eq(umbra_writer_run(x.w), 0);
	while (wait(NULL) < 0 && errno == EINTR)
		;
	to_stop = NULL;
	end(&x);
}

Test(client_writer, run_returns_when_the_coordinator_is_gone)
{
	struct world x;

	begin(&x);
	freeze(&x, "s1");
	fake_hang_up(&x.fake);
	cr_expect_eq(umbra_writer_run(x.w), -ECONNRESET);
	expect_log(&x, "abort(s1,coordinator) ");
	end(&x);
}

/* With the real clock: the descriptor alone says that the window has ended. It is long enough for Freeze to be answered
 * within it, whatever else the machine does. */
Test(client_writer, descriptor_is_readable_when_the_window_ends)
{
	struct world x;
	struct pollfd p;

	begin(&x);
	umbra_writer_set_clock(x.w, NULL, NULL);
	prepare(&x, "s1");
	p = (struct pollfd){ .fd = umbra_writer_fd(x.w), .events = POLLIN };
	cr_expect_eq(poll(&p, 1, 0), 0);
	serve_args(&x, "freeze", "s1", json_pack("{s:i}", "window_ms", 1000), "ok");
	cr_expect_eq(poll(&p, 1, -1), 1);
	x.log[0] = 0;
	while (!x.log[0]) /* the timer is of the same clock, but rounded */
		cr_assert_eq(umbra_writer_dispatch(x.w), 0);
	expect_log(&x, "abort(s1,writer) ");
	cr_expect_eq(poll(&p, 1, 0), 0);
	end(&x);
}

/* ---- lack of memory */

static void note_frozen(struct world *x, const struct umbra_writer_event *e)
{
	if (strcmp(e->name, "freeze") == 0)
		x->now_ns |= 1; /* the clock stands still here: its last bit is free */
	if (strcmp(e->name, "thaw") == 0 || strcmp(e->name, "abort") == 0)
		x->now_ns &= ~(uint64_t)1;
	if (strcmp(e->name, "identify") == 0)
		umbra_writer_set_document(x->w, "{\"a\":[1,{\"b\":2}]}");
	if (strcmp(e->name, "prepare-backup") == 0)
		umbra_writer_set_metadata(x->w, "{\"a\":[1,{\"b\":2}]}");
}

/* All events of a backup, while memory is short in the library. */
static void backup_without_memory(struct world *x)
{
	static const char *const names[] = {
		"identify", "prepare-backup", "prepare-for-snapshot", "freeze",
		"thaw",	    "post-snapshot",  "backup-complete",      "backup-shutdown"
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		int r;

		event_args(x, names[i], "s1", trees("/"));
		fake_memory.on = true;
		r = umbra_writer_dispatch(x->w);
		fake_memory.on = false;
		if (r < 0)
			return;
		json_decref(answered(x));
	}
}

/* W-4 */
Test(client_writer, nobody_stays_frozen_when_memory_runs_out)
{
	bool enough = false;
	int n;

	for (n = 0; !enough; n++) {
		struct world x;

		begin(&x);
		x.inside = note_frozen;
		fake_memory_set(n, false);
		backup_without_memory(&x);
		enough = !fake_memory.failed;
		cr_expect_eq(x.now_ns & 1, 0, "frozen after failure %d", n);
		umbra_writer_free(x.w);
		fake_done(&x.fake);
	}
	cr_expect_gt(n, 50, "memory never ran out");
	assert_no_leaks();
}

/* ---- any order of events, with handlers that fail and are late */

#define SESSIONS 3

static struct {
	unsigned seed;
	bool frozen
		[SESSIONS]; /* Freeze was called, and neither Thaw with success nor Abort since */
	bool armed[SESSIONS];
} model;

static int of_session(const struct umbra_writer_event *e)
{
	return e->session_id[1] - '0';
}

static void follow(struct world *x, const struct umbra_writer_event *e)
{
	int s = of_session(e);

	if (strcmp(e->name, "freeze") == 0)
		model.frozen[s] = true; /* also when it fails: half of it may have been done */
	if (strcmp(e->name, "thaw") == 0) {
		cr_expect(model.frozen[s], "thaw without a freeze, seed %u", model.seed);
		model.frozen[s] = is(x->fails, "thaw") && model.frozen[s];
	}
	if (strcmp(e->name, "abort") == 0)
		model.frozen[s] = false;
}

static void step(struct world *x)
{
	static const char *const names[] = {
		"identify",
		"prepare-backup",
		"prepare-for-snapshot",
		"freeze",
		"thaw",
		"post-snapshot",
		"abort",
		"backup-complete",
		"backup-shutdown",
	};
	size_t e = (size_t)rand() % (sizeof(names) / sizeof(*names));
	char session[] = "s0";
	int s = rand() % SESSIONS;

	session[1] = (char)('0' + s);
	x->fails = rand() % 4 == 0 ? names[e] : NULL;
	x->slow = rand() % 4 == 0 ? names[e] : NULL;
	x->slow_ms = (uint64_t)rand() % 1200;
	event_args(x, names[e], session, trees("/"));
	pass_ms(x, (uint64_t)rand() % 400);
	cr_assert_eq(umbra_writer_dispatch(x->w), 0);
	json_decref(answered(x));
	if (e >= 1 && e <= 3)
		model.armed[s] = true; /* V-2 */
	if (e == 5 || e == 8)
		model.armed[s] = false;
	x->log[0] = 0;
}

static void check(struct world *x)
{
	for (int s = 0; s < SESSIONS; s++) {
		char id[] = { 's', (char)('0' + s), 0 };
		const struct writer_session *record = writer_session_find(x->w, id);

		cr_expect_eq(record != NULL, model.armed[s], "V-2, seed %u", model.seed);
		if (model.frozen[s])
			cr_expect(record && record->freeze == WRITER_FROZEN &&
					  x->now_ns < record->deadline_ns,
				  "W-4: nobody will thaw %s, seed %u", id, model.seed);
	}
}

/* W-4 */
Test(client_writer, nobody_stays_frozen_whatever_comes)
{
	const char *given = getenv("UMBRA_TEST_SEED");
	unsigned first = given ? (unsigned)atoi(given) : (unsigned)clock_mono_ns();

	for (unsigned round = 0; round < (given ? 1 : 200); round++) {
		struct world x;

		memset(&model, 0, sizeof(model));
		model.seed = first + round;
		srand(model.seed);
		begin(&x);
		x.inside = follow;
		for (int i = 0; i < 40; i++) {
			step(&x);
			check(&x);
		}
		x.fails = x.slow = NULL;
		if (rand() % 2) {
			fake_hang_up(&x.fake);
			cr_expect_eq(umbra_writer_dispatch(x.w), -ECONNRESET);
		} else {
			umbra_writer_free(x.w);
			x.w = NULL;
		}
		for (int s = 0; s < SESSIONS; s++)
			cr_expect(!model.frozen[s], "W-9, seed %u", model.seed);
		umbra_writer_free(x.w);
		fake_done(&x.fake);
	}
	assert_no_leaks();
}
