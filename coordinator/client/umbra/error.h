/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra/error.h - the errors of the protocol (section 10).
 * Job:     their names, and whether a new try may help. Each is what Volume Shadow Copy calls VSS_E_
 *          with the same words, apart from access-denied, invalid-argument and out-of-memory.
 * Errors:  none.
 * Threads: any; no state.
 * C++:     fine. */
#ifndef UMBRA_ERROR_H
#define UMBRA_ERROR_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The numbers stay as they are; new ones are added before UMBRA_E_COUNT. */
enum umbra_error {
	UMBRA_OK = 0,
	UMBRA_E_BAD_STATE,
	UMBRA_E_UNEXPECTED,
	UMBRA_E_ACCESS_DENIED,
	UMBRA_E_INVALID_ARGUMENT,
	UMBRA_E_OUT_OF_MEMORY,
	UMBRA_E_PROVIDER_VETO,
	UMBRA_E_OBJECT_NOT_FOUND,
	UMBRA_E_VOLUME_NOT_SUPPORTED,
	UMBRA_E_OBJECT_ALREADY_EXISTS,
	UMBRA_E_UNEXPECTED_PROVIDER_ERROR,
	UMBRA_E_CORRUPT_DOCUMENT,
	UMBRA_E_INVALID_DOCUMENT,
	UMBRA_E_FLUSH_WRITES_TIMEOUT,
	UMBRA_E_HOLD_WRITES_TIMEOUT,
	UMBRA_E_UNEXPECTED_WRITER_ERROR,
	UMBRA_E_SNAPSHOT_SET_IN_PROGRESS,
	UMBRA_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED,
	UMBRA_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED,
	UMBRA_E_WRITER_INFRASTRUCTURE,
	UMBRA_E_WRITER_NOT_RESPONDING,
	UMBRA_E_WRITER_ALREADY_SUBSCRIBED,
	UMBRA_E_UNSUPPORTED_CONTEXT,
	UMBRA_E_VOLUME_IN_USE,
	UMBRA_E_MAXIMUM_DIFFAREA_ASSOCIATIONS_REACHED,
	UMBRA_E_INSUFFICIENT_STORAGE,
	UMBRA_E_REVERT_IN_PROGRESS,
	UMBRA_E_REVERT_VOLUME_LOST,
	UMBRA_E_SNAPSHOT_NOT_IN_SET,
	UMBRA_E_NOT_SUPPORTED,
	UMBRA_E_AUTORECOVERY_FAILED,
	UMBRA_E_WRITER_STATUS_NOT_AVAILABLE,
	UMBRA_E_CANCELLED, /* an operation's end rather than an error, but it ends calls as errors do */
	UMBRA_E_COUNT	   /* how many this version knows: later ones know more */
};

/* "bad-state"; static. UMBRA_OK is "finished"; a number that this version does not know is
 * "unexpected". */
const char *umbra_error_name(enum umbra_error e);

/* Whether a new session may succeed later without other action (section 10, "Again"). */
bool umbra_error_again(enum umbra_error e);

/* The error of that name; UMBRA_E_UNEXPECTED for one that this version does not know, and for NULL. */
enum umbra_error umbra_error_parse(const char *name);

#ifdef __cplusplus
}
#endif

#endif
