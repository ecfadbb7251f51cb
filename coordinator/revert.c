/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/revert.h"

#include "coordinator/session_private.h"
#include "cow/base/log.h"

#include <string.h>

/* It ends by itself, or with the provider: no time is too long. In ms: ten years. */
#define REVERT_MS (UINT64_C(10) * 365 * 86400 * 1000)

static void on_reverted(void *data, struct coord_answer *a)
{
	struct coord_session *s = data;
	struct coord_failure f;
	bool lost = !coord_registry_by_id(&s->core->registry, s->reverting_tree);

	s->reverting = NULL;
	if (a->error == UMBRA_OK) {
		coord_session_end_operation(s, NULL);
		return;
	}
	if (lost)
		coord_fail(&f, UMBRA_E_REVERT_VOLUME_LOST,
			   "%s: the revert goes on when the tree is protected again", a->message);
	else
		coord_fail(&f, a->error, "%s", a->message);
	if (s->operation)
		coord_operation_detail(s->operation, f.message);
	log_warn("tree %s: revert: %s", s->reverting_tree, f.message);
	coord_session_end_operation(s, &f);
}

enum umbra_error coord_session_revert(struct coord_session *s, const char *snapshot_id, bool force,
				      struct coord_operation **ret, struct coord_failure *f)
{
	enum umbra_error e = coord_session_check(s, CALL_REVERT, f);
	struct coord_question q = { .ask = ASK_REVERT, .force = force };
	struct coord_provider *p = NULL;
	const struct coord_snapshot *sn;
	struct coord_operation *op;
	int r;

	if (e != UMBRA_OK)
		return e;
	sn = coord_registry_snapshot(&s->core->registry, snapshot_id, &p);
	if (!sn || !coord_snapshot_shown(sn) || !coord_session_sees(s, p)) /* N-4, S-12 */
		return coord_fail(f, UMBRA_E_OBJECT_NOT_FOUND, "there is no such snapshot");
	if (!cow_context_persistent(sn->s.context)) /* C-8: any of these */
		return coord_fail(f, UMBRA_E_UNSUPPORTED_CONTEXT,
				  "the snapshot is not persistent: only a persistent one can be "
				  "reverted to");
	op = coord_session_begin_operation(s, CALL_REVERT, f);
	if (!op)
		return f->error;
	strcpy(s->reverting_tree, p->tree.id);
	q.epoch = sn->s.epoch;
	r = coord_provider_ask(p, &q, REVERT_MS, UMBRA_E_UNEXPECTED_PROVIDER_ERROR, on_reverted, s,
			       &s->reverting);
	if (r < 0) {
		e = coord_fail(f, UMBRA_E_UNEXPECTED_PROVIDER_ERROR,
			       "the tree's umbrafs cannot be asked");
		coord_session_end_operation(s, f);
		return e;
	}
	log_info("tree %s: process %d reverts it to snapshot %s", p->tree.id, (int)s->pid,
		 sn->s.id);
	*ret = op;
	return UMBRA_OK;
}

void coord_session_forget_revert(struct coord_session *s)
{
	coord_pending_forget(s->reverting);
	s->reverting = NULL;
}

bool coord_operation_cancellable(const struct coord_operation *op)
{
	return strcmp(op->call, coord_call_name(CALL_REVERT)) != 0;
}
