/* coordinator/writers.h: registrations, questions and their answers: W-1, W-3, W-9, E-1. */
#include <criterion/criterion.h>

#include "tests/support/coord_writer_fake.h"
#include "tests/support/leaks.h"

static struct world *w;
static struct writers *all;

static void begin(void)
{
	w = world_new();
	all = writers_new(w);
}

static void end(void)
{
	writers_done(all);
	world_done(w);
	assert_no_leaks();
}

static const unsigned compulsory = 1u << EVENT_PREPARE_FOR_SNAPSHOT | 1u << EVENT_FREEZE |
				   1u << EVENT_THAW | 1u << EVENT_ABORT;

static const char *problem_of(const char *class_id, const char *name, uint32_t window_ms,
			      unsigned handlers)
{
	struct coord_writer_info info = {
		.class_id = (char *)class_id,
		.name = (char *)name,
		.usage = (char *)"other",
		.source = (char *)"other",
		.window_ms = window_ms,
		.handlers = handlers,
	};

	return coord_writer_info_problem(&info);
}

/* W-1, W-3 */
Test(coord_writers, a_registration_that_makes_no_sense_is_told_so)
{
	static const char id[] = "00000000-0000-4000-9000-000000000001";
	char long_name[COORD_WRITER_TEXT_MAX + 2] = "";

	memset(long_name, 'x', COORD_WRITER_TEXT_MAX + 1);
	cr_expect_null(problem_of(id, "x", 1, compulsory));
	cr_expect_null(problem_of(id, long_name + 1, COORD_WINDOW_MAX_MS, compulsory));
	cr_expect(problem_of("x", "x", 1, compulsory));
	cr_expect(problem_of("00000000-0000-4000-9000-00000000000A", "x", 1, compulsory)); /* V-1 */
	cr_expect(problem_of(id, "", 1, compulsory));
	cr_expect(problem_of(id, long_name, 1, compulsory));
	cr_expect(problem_of(id, "x", 0, compulsory));
	cr_expect(problem_of(id, "x", COORD_WINDOW_MAX_MS + 1, compulsory));
	for (unsigned e = 0; e < WRITER_EVENTS; e++)
		if (compulsory & 1u << e)
			cr_expect(problem_of(id, "x", 1, compulsory & ~(1u << e)), "%s",
				  coord_writer_event_name(e)); /* W-3 */
	assert_no_leaks();
}

/* V-1 */
Test(coord_writers, the_instance_is_new_at_each_registration_and_the_class_stays)
{
	char id[COW_UUID_LEN + 1], class_id[COW_UUID_LEN + 1];

	begin();
	writer_join(all, 0, LEVEL_BACK_END, 1000);
	writer_join(all, 1, LEVEL_BACK_END, 1000);
	strcpy(id, all->f[0].w->id);
	strcpy(class_id, all->f[0].w->info.class_id);
	cr_expect(coord_writers_find(&w->core.writers, id) == all->f[0].w);
	cr_expect(coord_writers_find(&w->core.writers, class_id) == all->f[0].w);
	writer_die(&all->f[0]);
	cr_expect_null(coord_writers_find(&w->core.writers, id));
	cr_expect_null(coord_writers_find(&w->core.writers, class_id));
	writer_join(all, 0, LEVEL_BACK_END, 1000);
	cr_expect_str_neq(all->f[0].w->id, id);
	cr_expect_null(coord_writers_find(&w->core.writers, id));
	cr_expect(coord_writers_find(&w->core.writers, class_id) == all->f[0].w);
	end();
}

struct heard {
	int answers;
	enum coord_writer_outcome outcome;
};

static void on_answer(void *data, const struct coord_writer_answer *a)
{
	struct heard *h = data;

	h->answers++;
	h->outcome = a->outcome;
}

static uint64_t ask(struct heard *h, struct coord_told **ret)
{
	struct coord_writer_question q = { .event = EVENT_FREEZE, .session_id = "s" };

	cr_assert_eq(coord_writer_ask(all->f[0].w, &q, 1000, on_answer, h, ret), 0);
	return q.serial;
}

Test(coord_writers, each_question_is_answered_once)
{
	struct coord_writer_answer ok = { .outcome = OUTCOME_OK };
	struct heard first = { 0 }, second = { 0 };
	struct coord_told *t;
	uint64_t a, b;

	begin();
	writer_join(all, 0, LEVEL_FRONT_END, 1000);
	a = ask(&first, &t);
	b = ask(&second, &t);
	cr_expect_neq(a, b);
	cr_expect(!coord_writer_answer(all->f[0].w, b + 1, &ok)); /* nobody asked that */
	cr_expect(coord_writer_answer(all->f[0].w, b, &ok));
	cr_expect(!coord_writer_answer(all->f[0].w, b, &ok));
	cr_expect_eq(first.answers, 0);
	cr_expect_eq(second.answers, 1);
	world_wait_ms(w, 999);
	cr_expect_eq(first.answers, 0);
	world_wait_ms(w, 2);
	cr_expect_eq(first.answers, 1);
	cr_expect_eq(first.outcome, OUTCOME_LATE); /* E-2 */
	cr_expect(!coord_writer_answer(all->f[0].w, a, &ok), "too late");
	cr_expect_eq(first.answers, 1);
	end();
}

Test(coord_writers, what_is_forgotten_is_not_heard_of)
{
	struct coord_writer_answer ok = { .outcome = OUTCOME_OK };
	struct heard h = { 0 };
	struct coord_told *t;
	uint64_t serial;

	begin();
	writer_join(all, 0, LEVEL_FRONT_END, 1000);
	serial = ask(&h, &t);
	coord_told_forget(t);
	coord_told_forget(NULL);
	cr_expect(!coord_writer_answer(all->f[0].w, serial, &ok));
	world_wait_ms(w, 2000);
	cr_expect_eq(h.answers, 0);
	end();
}

static int unreachable(void *data, const struct coord_writer_question *q)
{
	(void)data;
	(void)q;
	return -EPIPE;
}

Test(coord_writers, who_cannot_be_told_is_not_waited_for)
{
	static const struct coord_writer_transport broken = { .send = unreachable };
	struct coord_writer_question q = { .event = EVENT_FREEZE, .session_id = "s" };
	struct coord_told *t = NULL;
	struct heard h = { 0 };

	begin();
	writer_join(all, 0, LEVEL_FRONT_END, 1000);
	all->f[0].w->transport = &broken;
	cr_expect_eq(coord_writer_ask(all->f[0].w, &q, 1000, on_answer, &h, &t), -EPIPE);
	cr_expect_null(t);
	world_wait_ms(w, 2000);
	cr_expect_eq(h.answers, 0);
	end();
}

struct lost_user {
	struct coord_writer_user user;
	int lost;
};

static void on_lost(struct coord_writer_user *user)
{
	((struct lost_user *)user)->lost++;
}

/* W-9 */
Test(coord_writers, a_loss_is_told_to_every_user_and_no_question_answered)
{
	struct lost_user users[2] = { { .user.lost = on_lost }, { .user.lost = on_lost } };
	struct heard h = { 0 };
	struct coord_told *t;

	begin();
	writer_join(all, 0, LEVEL_FRONT_END, 1000);
	for (int i = 0; i < 2; i++)
		TAILQ_INSERT_TAIL(&all->f[0].w->users, &users[i].user, link);
	ask(&h, &t);
	writer_die(&all->f[0]);
	cr_expect_eq(users[0].lost, 1);
	cr_expect_eq(users[1].lost, 1);
	world_wait_ms(w, 2000);
	cr_expect_eq(h.answers, 0);
	end();
}

/* E-1 */
Test(coord_writers, only_codes_of_the_list_are_recorded)
{
	static const char *const codes[] = {
		"inconsistent-snapshot", "out-of-resources", "timeout",		"retryable",
		"non-retryable",	 "recovery-failed",  "partial-failure",
	};

	for (size_t i = 0; i < 7; i++)
		cr_expect_str_eq(coord_writer_code(codes[i]), codes[i]);
	cr_expect_str_eq(coord_writer_code("writer-not-responding"), "non-retryable");
	cr_expect_str_eq(coord_writer_code(""), "non-retryable");
	cr_expect_str_eq(coord_writer_code(NULL), "non-retryable");
	assert_no_leaks();
}

Test(coord_writers, names_lead_back_to_what_they_name)
{
	for (int e = 0; e < WRITER_EVENTS; e++) /* the window's end is no event that is sent */
		cr_expect_eq(coord_writer_event_from_name(coord_writer_event_name(e)),
			     e == EVENT_WINDOW_OVER ? -1 : e);
	for (int l = 0; l < WRITER_LEVELS; l++)
		cr_expect_eq(coord_writer_level_from_name(coord_writer_level_name(l)), l);
	cr_expect_eq(coord_writer_event_from_name("unfreeze"), -1);
	cr_expect_eq(coord_writer_level_from_name(""), -1);
	assert_no_leaks();
}
