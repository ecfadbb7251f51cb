/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/client/umbra/error.h"

#include <string.h>

static const struct {
	const char *name;
	bool again;
} errors[UMBRA_E_COUNT] = {
	[UMBRA_OK] = { "finished", false },
	[UMBRA_E_BAD_STATE] = { "bad-state", false },
	[UMBRA_E_UNEXPECTED] = { "unexpected", true },
	[UMBRA_E_ACCESS_DENIED] = { "access-denied", false },
	[UMBRA_E_INVALID_ARGUMENT] = { "invalid-argument", false },
	[UMBRA_E_OUT_OF_MEMORY] = { "out-of-memory", true },
	[UMBRA_E_PROVIDER_VETO] = { "provider-veto", true },
	[UMBRA_E_OBJECT_NOT_FOUND] = { "object-not-found", false },
	[UMBRA_E_VOLUME_NOT_SUPPORTED] = { "volume-not-supported", false },
	[UMBRA_E_OBJECT_ALREADY_EXISTS] = { "object-already-exists", false },
	[UMBRA_E_UNEXPECTED_PROVIDER_ERROR] = { "unexpected-provider-error", true },
	[UMBRA_E_CORRUPT_DOCUMENT] = { "corrupt-document", false },
	[UMBRA_E_INVALID_DOCUMENT] = { "invalid-document", false },
	[UMBRA_E_FLUSH_WRITES_TIMEOUT] = { "flush-writes-timeout", true },
	[UMBRA_E_HOLD_WRITES_TIMEOUT] = { "hold-writes-timeout", true },
	[UMBRA_E_UNEXPECTED_WRITER_ERROR] = { "unexpected-writer-error", true },
	[UMBRA_E_SNAPSHOT_SET_IN_PROGRESS] = { "snapshot-set-in-progress", true },
	[UMBRA_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED] = { "maximum-number-of-volumes-reached",
							false },
	[UMBRA_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED] = { "maximum-number-of-snapshots-reached",
							  false },
	[UMBRA_E_WRITER_INFRASTRUCTURE] = { "writer-infrastructure", true },
	[UMBRA_E_WRITER_NOT_RESPONDING] = { "writer-not-responding", true },
	[UMBRA_E_WRITER_ALREADY_SUBSCRIBED] = { "writer-already-subscribed", false },
	[UMBRA_E_UNSUPPORTED_CONTEXT] = { "unsupported-context", false },
	[UMBRA_E_VOLUME_IN_USE] = { "volume-in-use", true },
	[UMBRA_E_MAXIMUM_DIFFAREA_ASSOCIATIONS_REACHED] = { "maximum-diffarea-associations-reached",
							    false },
	[UMBRA_E_INSUFFICIENT_STORAGE] = { "insufficient-storage", false },
	[UMBRA_E_REVERT_IN_PROGRESS] = { "revert-in-progress", true },
	[UMBRA_E_REVERT_VOLUME_LOST] = { "revert-volume-lost", false },
	[UMBRA_E_SNAPSHOT_NOT_IN_SET] = { "snapshot-not-in-set", false },
	[UMBRA_E_NOT_SUPPORTED] = { "not-supported", false },
	[UMBRA_E_AUTORECOVERY_FAILED] = { "autorecovery-failed", true },
	[UMBRA_E_WRITER_STATUS_NOT_AVAILABLE] = { "writer-status-not-available", true },
	[UMBRA_E_CANCELLED] = { "cancelled", false },
};

static bool known(enum umbra_error e)
{
	return (unsigned)e < UMBRA_E_COUNT;
}

const char *umbra_error_name(enum umbra_error e)
{
	return errors[known(e) ? e : UMBRA_E_UNEXPECTED].name;
}

bool umbra_error_again(enum umbra_error e)
{
	return errors[known(e) ? e : UMBRA_E_UNEXPECTED].again;
}

enum umbra_error umbra_error_parse(const char *name)
{
	for (enum umbra_error e = UMBRA_OK; name && e < UMBRA_E_COUNT; e++)
		if (strcmp(errors[e].name, name) == 0)
			return e;
	return UMBRA_E_UNEXPECTED;
}
