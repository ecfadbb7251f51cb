/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/rawio.c - the raw stream of requests; see rawio.h. */
#include "fs/rawio.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "fs/ops.h"
#include "fs/snap.h"

/* ---- what older copies of linux/fuse.h lack ---- */

#define OP_TMPFILE 51u
#define OP_STATX 52u
#define NOTIFY_PRUNE 9
#define PRUNE_MINOR 45u /* protocol 7.45 */
#define KILLPRIV_V2 (1u << 28)
#define INIT_IN_MIN 16u /* up to and with `flags` */
#define WRITE_KILL_ID (1u << 2)

#define READERS_MIN 2 /* see turns.h */
#define READERS_MAX 8

struct raw_statx_in {
	uint32_t getattr_flags, reserved;
	uint64_t fh;
	uint32_t sx_flags, sx_mask;
};

struct raw_time {
	int64_t tv_sec;
	uint32_t tv_nsec;
	int32_t reserved;
};

struct raw_statx {
	uint32_t mask, blksize;
	uint64_t attributes;
	uint32_t nlink, uid, gid;
	uint16_t mode, spare0;
	uint64_t ino, size, blocks, attributes_mask;
	struct raw_time atime, btime, ctime, mtime;
	uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
	uint64_t spare2[14];
};

struct raw_statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec, flags;
	uint64_t spare[2];
	struct raw_statx stat;
};

struct raw_prune_out {
	uint32_t count, padding;
	uint64_t spare;
};

/* ---- what a thread's request says about set-id bits ---- */

static __thread bool kill_suidgid;

bool fs_rawio_kill_suidgid(void)
{
	return kill_suidgid;
}

static void note_kill_suidgid(const struct fuse_in_header *in)
{
	if (in->opcode == FUSE_WRITE)
		kill_suidgid = ((const struct fuse_write_in *)(in + 1))->write_flags &
			       WRITE_KILL_ID;
}

/* ---- STATX, answered here ---- */

static struct raw_time raw_time_of(struct statx_timestamp t)
{
	return (struct raw_time){ .tv_sec = t.tv_sec, .tv_nsec = t.tv_nsec };
}

static void fill_statx(const struct statx *sx, struct raw_statx *to)
{
	*to = (struct raw_statx){
		.mask = sx->stx_mask & (STATX_BASIC_STATS | STATX_BTIME),
		.blksize = sx->stx_blksize,
		.attributes = sx->stx_attributes,
		.attributes_mask = sx->stx_attributes_mask,
		.nlink = sx->stx_nlink,
		.uid = sx->stx_uid,
		.gid = sx->stx_gid,
		.mode = sx->stx_mode,
		.ino = sx->stx_ino,
		.size = sx->stx_size,
		.blocks = sx->stx_blocks,
		.atime = raw_time_of(sx->stx_atime),
		.btime = raw_time_of(sx->stx_btime),
		.ctime = raw_time_of(sx->stx_ctime),
		.mtime = raw_time_of(sx->stx_mtime),
		.rdev_major = sx->stx_rdev_major,
		.rdev_minor = sx->stx_rdev_minor,
	};
}

static void answer_statx(struct fs *fs, int fd, const struct fuse_in_header *in)
{
	const struct raw_statx_in *arg = (const struct raw_statx_in *)(in + 1);
	struct fs_node *node = fs_node_of(fs, in->nodeid);
	struct raw_statx_out out = { .attr_valid = (uint64_t)FS_LONG_TIMEOUT };
	struct fuse_out_header h = { .unique = in->unique };
	struct iovec iov[2] = { { &h, sizeof(h) }, { &out, sizeof(out) } };
	struct statx sx = { 0 };

	h.error = fs_statx(fs, node, arg->sx_flags, arg->sx_mask, &sx);
	if (h.error == 0)
		fill_statx(&sx, &out.stat);
	if (node->kind == FS_SNAPDIR)
		out.attr_valid = (uint64_t)fs_snap_timeout(node);
	h.len = (uint32_t)(h.error ? sizeof(h) : sizeof(h) + sizeof(out));
	fs_turns_back_soon(&fs->turns);
	if (writev(fd, iov, h.error ? 1 : 2) < 0)
		return; /* the caller is gone */
}

/* ---- between libfuse and the descriptor ---- */

/* libfuse lets itself be cancelled while it reads; we may hold locks by then. */
static void take_statx(struct fs *fs, int fd, const struct fuse_in_header *in)
{
	int was;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &was);
	answer_statx(fs, fd, in);
	pthread_setcancelstate(was, NULL);
}

static ssize_t raw_read(int fd, void *buf, size_t size, void *userdata)
{
	struct fuse_in_header *in = buf;
	struct fs *fs = userdata;
	ssize_t n;

	for (;;) {
		fs_turns_wait(&fs->turns);
		n = read(fd, buf, size);
		fs_turns_end(&fs->turns);
		if (n < (ssize_t)sizeof(*in))
			return n;
		if (in->opcode != OP_STATX)
			break;
		take_statx(fs, fd, in);
	}
	/* Same arguments; op_create sees O_TMPFILE in the flags. */
	if (in->opcode == OP_TMPFILE)
		in->opcode = FUSE_CREATE;
	if (in->opcode == FUSE_INIT && n >= (ssize_t)(sizeof(*in) + INIT_IN_MIN)) {
		const struct fuse_init_in *init = (const struct fuse_init_in *)(in + 1);

		fs->init_unique = in->unique;
		fs->init_flags = init->flags;
	}
	note_kill_suidgid(in);
	return n;
}

/* libfuse does not know the flag, so it is added to its answer. */
static void patch_init(struct fs *fs, const struct iovec *iov, int count)
{
	const struct fuse_out_header *h = iov[0].iov_base;
	struct fuse_init_out *out;

	if (count < 2 || h->unique != fs->init_unique || h->error ||
	    !(fs->init_flags & KILLPRIV_V2) || !fs->live)
		return;
	out = iov[1].iov_base;
	out->flags |= KILLPRIV_V2;
	atomic_store(&fs->killpriv_v2, true);
}

static ssize_t raw_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	const struct fuse_out_header *h = iov[0].iov_base;
	struct fs *fs = userdata;

	if (fs->init_unique && !fs->init_done) {
		fs->init_done = true; /* INIT comes before all others, and alone */
		patch_init(fs, iov, count);
	}
	if (h->unique) /* an answer; a notice may wait for other requests */
		fs_turns_back_soon(&fs->turns);
	return writev(fd, iov, count);
}

/* Answers with file data are spliced; requests are not, since we look at them. */
static ssize_t raw_splice_send(int fdin, off_t *offin, int fdout, off_t *offout, size_t len,
			       unsigned flags, void *userdata)
{
	struct fs *fs = userdata;

	fs_turns_back_soon(&fs->turns);
	return splice(fdin, offin, fdout, offout, len, flags);
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
static int raw_clone_fd(int master_fd)
{
	uint32_t master = (uint32_t)master_fd;
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0 && ioctl(fd, FUSE_DEV_IOC_CLONE, &master) == 0)
		return fd;
	close_p(&fd);
	return -1;
}
#endif

/* So many can take a request at the same moment; a thread more saves nobody a wait. */
static unsigned readers(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return cpus < READERS_MIN ? READERS_MIN : cpus > READERS_MAX ? READERS_MAX : (unsigned)cpus;
}

int fs_rawio_attach(struct fs *fs, struct fuse_session *se)
{
	static const struct fuse_custom_io io = {
		.writev = raw_writev,
		.read = raw_read,
		.splice_send = raw_splice_send,
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
		.clone_fd = raw_clone_fd,
#endif
	};

	/* From 3.18 on the library knows all that we add, and may take requests from a ring instead. */
	if (FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18) || getenv("UMBRA_NO_RAWIO"))
		return -ENOSYS;
	fs_turns_init(&fs->turns, readers());
	fs->raw = fuse_session_custom_io(se, &io, fuse_session_fd(se)) == 0;
	return fs->raw ? 0 : -ENOSYS;
}

int fs_rawio_prune(struct fs *fs, const uint64_t *ids, size_t n)
{
	struct raw_prune_out out = { .count = (uint32_t)n };
	struct fuse_out_header h = { .error = NOTIFY_PRUNE };
	struct iovec iov[3] = { { &h, sizeof(h) },
				{ &out, sizeof(out) },
				{ (void *)ids, n * sizeof(*ids) } };

	if (fs->proto_minor < PRUNE_MINOR)
		return fs->proto_minor ? -ENOSYS : -EAGAIN;
	h.len = (uint32_t)(sizeof(h) + sizeof(out) + n * sizeof(*ids));
	if (writev(fuse_session_fd(fs->se), iov, 3) < 0)
		return errno == EINVAL ? -ENOSYS : -errno;
	return 0;
}
