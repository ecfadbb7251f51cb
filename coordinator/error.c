/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum umbra_error umbra_error_from_name(const char *name)
{
	enum umbra_error e = umbra_error_parse(name);

	if (e == UMBRA_OK || (e == UMBRA_E_UNEXPECTED && strcmp(name, umbra_error_name(e)) != 0))
		return UMBRA_E_UNEXPECTED_PROVIDER_ERROR;
	return e;
}

enum umbra_error umbra_error_from_errno(int r)
{
	switch (-r) {
	case EACCES:
	case EPERM:
		return UMBRA_E_ACCESS_DENIED;
	case EINVAL:
		return UMBRA_E_INVALID_ARGUMENT;
	case ENOMEM:
		return UMBRA_E_OUT_OF_MEMORY;
	case ENOENT:
		return UMBRA_E_OBJECT_NOT_FOUND;
	case EEXIST:
		return UMBRA_E_OBJECT_ALREADY_EXISTS;
	case EBUSY:
		return UMBRA_E_VOLUME_IN_USE;
	case ENOSPC:
	case EDQUOT:
		return UMBRA_E_INSUFFICIENT_STORAGE;
	case EOPNOTSUPP:
		return UMBRA_E_NOT_SUPPORTED;
	default:
		return UMBRA_E_UNEXPECTED_PROVIDER_ERROR;
	}
}

enum umbra_error coord_fail(struct coord_failure *f, enum umbra_error e, const char *fmt, ...)
{
	va_list args;

	f->error = e;
	f->final = false;
	va_start(args, fmt);
	vsnprintf(f->message, sizeof(f->message), fmt, args);
	va_end(args);
	return e;
}

enum umbra_error coord_no_memory(struct coord_failure *f)
{
	return coord_fail(f, UMBRA_E_OUT_OF_MEMORY, "the coordinator is out of memory");
}
