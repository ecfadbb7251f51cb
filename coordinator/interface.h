/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/interface.h - the text of io.umbra.varlink, embedded at build time (interface.c).
 * Source:  https://varlink.org/Service, GetInterfaceDescription. */
#ifndef UMBRA_COORDINATOR_INTERFACE_H
#define UMBRA_COORDINATOR_INTERFACE_H

extern const char coord_interface[];

#endif
