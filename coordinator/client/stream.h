/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/client/stream.h - a wire on a Unix stream socket.
 * Job:     move bytes and descriptors between a socket and a wire, never waiting.
 * Errors:  0 or positive, or -errno of recvmsg(2), sendmsg(2).
 * Threads: one at a time for one socket.
 * Rules:   D-9 no SIGPIPE; D-10 received descriptors are close-on-exec. */
#ifndef UMBRA_CLIENT_STREAM_H
#define UMBRA_CLIENT_STREAM_H

#include "coordinator/client/wire.h"

/* Read once. Returns 1 something came; 0 end of file; -EAGAIN nothing there; -EPROTO, -ENOMEM as
 * umbra_wire_feed. */
int umbra_stream_read(int sock, struct umbra_wire *w);

/* Send what is queued, as far as the socket takes it. Returns 0 all sent; -EAGAIN some is left. */
int umbra_stream_write(int sock, struct umbra_wire *w);

#endif
