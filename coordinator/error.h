/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/error.h - the errors of protocol section 10.
 * Job:     what a provider's answer becomes, and a failure with its words. The names, and whether a
 *          new try may help, are umbra/error.h: requesters need them too.
 * Errors:  the functions of coordinator/ that carry out calls return enum umbra_error where
 *          others return -errno: the protocol's names say more than errno can, and they are
 *          what the requester is told.
 * Threads: any; no state. */
#ifndef UMBRA_COORDINATOR_ERROR_H
#define UMBRA_COORDINATOR_ERROR_H

#include <stdbool.h>

#include "coordinator/client/umbra/error.h"

/* Why something was not done: the name, and one line for people with the thing, the reason, the way
 * out. */
struct coord_failure {
	enum umbra_error error;
	bool final; /* no new try will help, whatever the error's name promises */
	char message[512];
};

/* The error that a provider named; UMBRA_E_UNEXPECTED_PROVIDER_ERROR for a name that section 10 does
 * not have. */
enum umbra_error umbra_error_from_name(const char *name);

/* What a provider's negative errno means to a requester. */
enum umbra_error umbra_error_from_errno(int r);

/* Fill in a failure and return its error. */
enum umbra_error coord_fail(struct coord_failure *f, enum umbra_error e, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The same for lack of memory. */
enum umbra_error coord_no_memory(struct coord_failure *f);

#endif
