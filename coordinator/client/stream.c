/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/client/stream.h"

#include "cow/base/cleanup.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define READ_BYTES 65536

/* More room than the wire takes, so that too many are seen and refused instead of cut off by the
 * kernel. */
union fd_room {
	char bytes[CMSG_SPACE(sizeof(int) * (UMBRA_WIRE_FDS + 1))];
	struct cmsghdr align;
};

static size_t received_fds(struct msghdr *msg, int *ret_fds)
{
	size_t n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t here;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		here = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		if (here > UMBRA_WIRE_FDS + 1 - n)
			here = UMBRA_WIRE_FDS + 1 - n;
		memcpy(ret_fds + n, CMSG_DATA(c), here * sizeof(int));
		n += here;
	}
	return n;
}

int umbra_stream_read(int sock, struct umbra_wire *w)
{
	char bytes[READ_BYTES];
	union fd_room room;
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = room.bytes,
		.msg_controllen = sizeof(room.bytes),
	};
	int fds[UMBRA_WIRE_FDS + 1];
	size_t nfds;
	ssize_t n;
	int r;

	do
		n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	nfds = received_fds(&msg, fds);
	r = umbra_wire_feed(w, bytes, (size_t)n, fds, nfds);
	if (r < 0)
		return r;
	return n > 0;
}

static ssize_t send_piece(int sock, const char *bytes, size_t len, int fd)
{
	union fd_room room = { .bytes = { 0 } };
	struct iovec iov = { .iov_base = (void *)bytes, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (fd >= 0) {
		struct cmsghdr *c;

		msg.msg_control = room.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	do
		n = sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

int umbra_stream_write(int sock, struct umbra_wire *w)
{
	const char *bytes;
	size_t len;
	int fd;

	while ((len = umbra_wire_out(w, &bytes, &fd)) > 0) {
		ssize_t n = send_piece(sock, bytes, len, fd);

		if (n == -EWOULDBLOCK)
			return -EAGAIN;
		if (n < 0)
			return (int)n;
		umbra_wire_sent(w, (size_t)n);
	}
	return 0;
}
