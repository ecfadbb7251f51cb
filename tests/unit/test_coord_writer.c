#include <criterion/criterion.h>

#include "coordinator/writer.h"

/* Table 2.2 row by row: state, armed, event, outcome -> state, armed, Abort. */
struct row {
	enum coord_writer_state from;
	bool armed;
	enum coord_writer_event event;
	enum coord_writer_outcome outcome;
	enum coord_writer_state to;
	bool armed_after, abort;
};

#define FAIL3(from, armed, event, to, after, ab)                                                   \
	{ from, armed, event, OUTCOME_FAIL, to, after, ab },                                       \
		{ from, armed, event, OUTCOME_LATE, to, after, ab },                               \
	{                                                                                          \
		from, armed, event, OUTCOME_LOST, to, after, false                                 \
	}
#define GOOD(from, armed, event, to, after)                                                        \
	{                                                                                          \
		from, armed, event, OUTCOME_OK, to, after, false                                   \
	}

static const struct row rows[] = {
	GOOD(WRITER_STABLE, false, EVENT_IDENTIFY, WRITER_STABLE, false),
	FAIL3(WRITER_STABLE, false, EVENT_IDENTIFY, WRITER_FAILED_AT_IDENTIFY, false,
	      false), /* */
	GOOD(WRITER_STABLE, true, EVENT_PREPARE_BACKUP, WRITER_STABLE, true),
	FAIL3(WRITER_STABLE, true, EVENT_PREPARE_BACKUP, WRITER_FAILED_AT_PREPARE_BACKUP, true,
	      false), /* */
	GOOD(WRITER_STABLE, true, EVENT_PREPARE_FOR_SNAPSHOT, WRITER_WAITING_FOR_FREEZE, true),
	FAIL3(WRITER_STABLE, true, EVENT_PREPARE_FOR_SNAPSHOT, WRITER_FAILED_AT_PREPARE_SNAPSHOT,
	      true, false), /* */
	GOOD(WRITER_WAITING_FOR_FREEZE, true, EVENT_FREEZE, WRITER_WAITING_FOR_THAW, true),
	FAIL3(WRITER_WAITING_FOR_FREEZE, true, EVENT_FREEZE, WRITER_FAILED_AT_FREEZE, true,
	      true), /* */
	{ WRITER_WAITING_FOR_FREEZE, true, EVENT_WINDOW_OVER, OUTCOME_LATE, WRITER_FAILED_AT_FREEZE,
	  true, true },
	{ WRITER_WAITING_FOR_THAW, true, EVENT_WINDOW_OVER, OUTCOME_LATE, WRITER_FAILED_AT_FREEZE,
	  true, true }, /* T-12 */
	GOOD(WRITER_WAITING_FOR_THAW, true, EVENT_THAW, WRITER_WAITING_FOR_POST_SNAPSHOT, true),
	FAIL3(WRITER_WAITING_FOR_THAW, true, EVENT_THAW, WRITER_FAILED_AT_THAW, true,
	      true), /* */
	GOOD(WRITER_WAITING_FOR_POST_SNAPSHOT, true, EVENT_POST_SNAPSHOT,
	     WRITER_WAITING_FOR_BACKUP_COMPLETE, false),
	FAIL3(WRITER_WAITING_FOR_POST_SNAPSHOT, true, EVENT_POST_SNAPSHOT,
	      WRITER_FAILED_AT_POST_SNAPSHOT, false, false), /* */
	GOOD(WRITER_WAITING_FOR_BACKUP_COMPLETE, false, EVENT_BACKUP_COMPLETE, WRITER_STABLE,
	     false),
	FAIL3(WRITER_WAITING_FOR_BACKUP_COMPLETE, false, EVENT_BACKUP_COMPLETE,
	      WRITER_FAILED_AT_BACKUP_COMPLETE, false, false),
	GOOD(WRITER_STABLE, false, EVENT_PRE_RESTORE, WRITER_STABLE, false),
	FAIL3(WRITER_STABLE, false, EVENT_PRE_RESTORE, WRITER_FAILED_AT_PRE_RESTORE, false,
	      false), /* */
	GOOD(WRITER_STABLE, false, EVENT_POST_RESTORE, WRITER_STABLE, false),
	FAIL3(WRITER_STABLE, false, EVENT_POST_RESTORE, WRITER_FAILED_AT_POST_RESTORE, false,
	      false),
};
#define ROWS (sizeof(rows) / sizeof(*rows))

static struct coord_writer_record record(enum coord_writer_state s, bool armed)
{
	return (struct coord_writer_record){ .state = s, .shown = s, .armed = armed };
}

Test(coord_writer, every_row_of_the_table_does_what_it_says)
{
	for (size_t i = 0; i < ROWS; i++) {
		const struct row *r = &rows[i];
		struct coord_writer_record w = record(r->from, r->armed);
		bool abort;

		cr_assert(coord_writer_takes(&w, r->event), "row %zu", i);
		cr_assert(coord_writer_step(&w, r->event, r->outcome, &abort), "row %zu", i);
		cr_expect_eq(w.state, r->to, "row %zu: %s", i, coord_writer_state_name(w.state));
		cr_expect_eq(w.shown, r->to, "row %zu", i);
		cr_expect_eq(w.armed, r->armed_after, "row %zu", i);
		cr_expect_eq(abort, r->abort, "row %zu", i);
		cr_expect_eq(w.lost, r->outcome == OUTCOME_LOST);
	}
}

static bool in_table(enum coord_writer_state s, bool armed, enum coord_writer_event e)
{
	if (e == EVENT_BACKUP_SHUTDOWN)
		return s != WRITER_CLOSED;
	if (e == EVENT_ABORT)
		return armed && s != WRITER_CLOSED;
	if (e == EVENT_PREPARE_BACKUP)
		return s == WRITER_STABLE; /* it is what arms */
	for (size_t i = 0; i < ROWS; i++)
		if (rows[i].from == s && rows[i].armed == armed && rows[i].event == e)
			return true;
	return false;
}

Test(coord_writer, every_other_pair_is_refused_and_changes_nothing)
{
	for (enum coord_writer_state s = 0; s < WRITER_STATES; s++)
		for (int armed = 0; armed < 2; armed++)
			for (enum coord_writer_event e = 0; e < WRITER_EVENTS; e++) {
				struct coord_writer_record w = record(s, armed);
				bool abort, took = coord_writer_step(&w, e, OUTCOME_OK, &abort);

				cr_expect_eq(took, in_table(s, armed, e), "%s, armed %d, event %d",
					     coord_writer_state_name(s), armed, (int)e);
				if (!took)
					cr_expect(w.state == s && w.armed == armed && !abort);
			}
}

Test(coord_writer, code_with_ok_shows_in_the_status_only)
{
	static const struct {
		enum coord_writer_event event;
		enum coord_writer_state from, to, shown;
	} coded[] = {
		{ EVENT_PREPARE_BACKUP, WRITER_STABLE, WRITER_STABLE,
		  WRITER_FAILED_AT_PREPARE_BACKUP },
		{ EVENT_PREPARE_FOR_SNAPSHOT, WRITER_STABLE, WRITER_WAITING_FOR_FREEZE,
		  WRITER_FAILED_AT_PREPARE_SNAPSHOT },
		{ EVENT_FREEZE, WRITER_WAITING_FOR_FREEZE, WRITER_WAITING_FOR_THAW,
		  WRITER_FAILED_AT_FREEZE },
		{ EVENT_THAW, WRITER_WAITING_FOR_THAW, WRITER_WAITING_FOR_POST_SNAPSHOT,
		  WRITER_FAILED_AT_THAW },
		{ EVENT_POST_SNAPSHOT, WRITER_WAITING_FOR_POST_SNAPSHOT,
		  WRITER_WAITING_FOR_BACKUP_COMPLETE, WRITER_FAILED_AT_POST_SNAPSHOT },
	};

	for (size_t i = 0; i < 5; i++) {
		struct coord_writer_record w = record(coded[i].from, true);
		bool abort;

		cr_assert(coord_writer_step(&w, coded[i].event, OUTCOME_OK_CODE, &abort));
		cr_expect_eq(w.state,
			     coded[i].to); /* W-4: a frozen writer is thawed all the same */
		cr_expect_eq(w.shown, coded[i].shown);
		cr_expect(!abort); /* W-5 */
	}
}

Test(coord_writer, code_stays_shown_to_the_end)
{
	struct coord_writer_record w = record(WRITER_WAITING_FOR_FREEZE, true);
	bool abort;

	coord_writer_step(&w, EVENT_FREEZE, OUTCOME_OK_CODE, &abort);
	coord_writer_step(&w, EVENT_THAW, OUTCOME_OK, &abort);
	coord_writer_step(&w, EVENT_POST_SNAPSHOT, OUTCOME_OK, &abort);
	cr_expect_eq(w.shown, WRITER_FAILED_AT_FREEZE);
	cr_expect_eq(w.state, WRITER_WAITING_FOR_BACKUP_COMPLETE);
}

Test(coord_writer, code_in_identify_is_not_allowed)
{
	struct coord_writer_record w = record(WRITER_STABLE, false);
	bool abort;

	cr_expect(!coord_writer_step(&w, EVENT_IDENTIFY, OUTCOME_OK_CODE, &abort)); /* W-10 */
}

Test(coord_writer, abort_repeats_and_nothing_but_shutdown_follows)
{
	struct coord_writer_record w = record(WRITER_STABLE, false);
	bool abort;

	coord_writer_sent(&w, EVENT_PREPARE_BACKUP); /* V-2: armed by the sending */
	cr_expect(w.armed);
	coord_writer_step(&w, EVENT_PREPARE_BACKUP, OUTCOME_OK, &abort);
	coord_writer_step(&w, EVENT_PREPARE_FOR_SNAPSHOT, OUTCOME_OK, &abort);
	coord_writer_step(&w, EVENT_FREEZE, OUTCOME_OK, &abort);
	cr_assert(coord_writer_step(&w, EVENT_ABORT, OUTCOME_OK, &abort));
	cr_expect_eq(w.state, WRITER_STABLE);
	cr_expect(w.aborted && w.armed);
	cr_expect(coord_writer_takes(&w, EVENT_ABORT)); /* */
	for (enum coord_writer_event e = 0; e < WRITER_EVENTS; e++)
		if (e != EVENT_ABORT && e != EVENT_BACKUP_SHUTDOWN)
			cr_expect(!coord_writer_takes(&w, e), "event %d after Abort (A-13)",
				  (int)e);
	cr_assert(coord_writer_step(&w, EVENT_ABORT, OUTCOME_FAIL, &abort));
	cr_assert(coord_writer_step(&w, EVENT_BACKUP_SHUTDOWN, OUTCOME_LATE, &abort));
	cr_expect_eq(w.state, WRITER_CLOSED);
	cr_expect_eq(w.shown, WRITER_FAILED_AT_BACKUP_SHUTDOWN);
	cr_expect(!coord_writer_takes(&w, EVENT_BACKUP_SHUTDOWN), "exactly one (D-4)");
}

Test(coord_writer, failed_writer_gets_abort_and_shutdown_only)
{
	struct coord_writer_record w = record(WRITER_WAITING_FOR_FREEZE, true);
	bool abort;

	coord_writer_step(&w, EVENT_FREEZE, OUTCOME_FAIL, &abort);
	for (enum coord_writer_event e = 0; e < WRITER_EVENTS; e++)
		cr_expect_eq(coord_writer_takes(&w, e),
			     e == EVENT_ABORT || e == EVENT_BACKUP_SHUTDOWN, "W-8, A-9: %d",
			     (int)e);
	coord_writer_step(&w, EVENT_ABORT, OUTCOME_OK, &abort);
	cr_expect_eq(w.state, WRITER_FAILED_AT_FREEZE, "failed stays failed");
}

Test(coord_writer, lost_writer_takes_nothing)
{
	struct coord_writer_record w = record(WRITER_WAITING_FOR_THAW, true);
	bool abort;

	coord_writer_step(&w, EVENT_THAW, OUTCOME_LOST, &abort);
	for (enum coord_writer_event e = 0; e < WRITER_EVENTS; e++)
		cr_expect(!coord_writer_takes(&w, e));
}
