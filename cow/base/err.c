#include "cow/base/err.h"

#include <limits.h>
#include <string.h>

static int positive(int r)
{
	if (r == INT_MIN) /* cannot be negated */
		return INT_MAX;
	return r < 0 ? -r : r;
}

const char *err_name(int r)
{
	const char *name;

	if (r == 0)
		return "OK";
	name = strerrorname_np(positive(r));
	return name ? name : "EUNKNOWN";
}

const char *err_text(int r)
{
	const char *text = strerrordesc_np(positive(r));

	return text ? text : "Unknown error";
}
