/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/interface.h"

/* Each line of the file as a string literal: made by meson. */
const char coord_interface[] =
#include "coordinator/io.umbra.varlink.inc"
	;
