/* cow/base/fdpass.h - hand a descriptor and a few words through a socket. Source: unix(7), SCM_RIGHTS.
 * Errors:  0 or -errno, ret_ arguments then untouched.
 * Threads: any. */
#ifndef UMBRA_COW_BASE_FDPASS_H
#define UMBRA_COW_BASE_FDPASS_H

#include <stddef.h>

/** A connected pair of sequenced-packet sockets, close-on-exec. */
int fdpass_pair(int ret_fds[2]);
/** The same as streams, which is what fusermount3 speaks. */
int fdpass_stream_pair(int ret_fds[2]);
/** Send bytes (one packet) and a descriptor, borrowed; fd -1: none. Never raises SIGPIPE. */
int fdpass_send(int sock, const void *bytes, size_t len, int fd);
/** Take one packet and the descriptor that came with it (owned by the caller, close-on-exec), -1
 *  for none. Returns the number of bytes; 0 at the end. Waits; goes on after EINTR. */
int fdpass_receive(int sock, void *bytes, size_t size, int *ret_fd);

#endif
