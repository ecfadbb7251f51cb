/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra writer cgroup: all processes of a cgroup stand still (L-3). */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

#include "cow/base/clock.h"
#include "cow/base/err.h"
#include "tools/path.h"
#include "tools/writer/guard.h"
#include "tools/writer/kinds.h"

struct cgroup {
	struct freezer f; /* first: the handlers get it */
	const char *path;
};

/* Gone with its last process: nothing of it is left to be frozen or thawed. */
static bool is_gone(int r)
{
	return r == -ENOENT || r == -ENODEV;
}

static int open_file(const struct cgroup *c, const char *name, int flags)
{
	CLEANUP(free_p) char *path = path_join(c->path, name);
	int fd = path ? open(path, flags | O_CLOEXEC) : -1;

	return fd >= 0 ? fd : path ? -errno : -ENOMEM;
}

static int read_file(int fd, char *buf, size_t size)
{
	ssize_t n = pread(fd, buf, size - 1, 0);

	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return 0;
}

static int set_freeze(const struct cgroup *c, const char *value)
{
	CLEANUP(close_p) int fd = open_file(c, "cgroup.freeze", O_WRONLY);

	if (fd < 0)
		return fd;
	return write(fd, value, 1) < 0 ? -errno : 0;
}

/* Wait until all its processes stand still. cgroup.events wakes for each change of it
 * (Documentation/admin-guide/cgroup-v2.rst): after reading it, so read first. */
static int wait_frozen(const struct cgroup *c, uint64_t deadline_ns)
{
	CLEANUP(close_p) int fd = open_file(c, "cgroup.events", O_RDONLY);
	char buf[256];
	int r;

	if (fd < 0)
		return fd;
	while ((r = read_file(fd, buf, sizeof(buf))) == 0) {
		struct pollfd fds[] = { { .fd = fd, .events = POLLPRI },
					{ .fd = writer_signal_fd(), .events = POLLIN } };

		if (strstr(buf, "frozen 1"))
			return 0;
		if (writer_stopping())
			return -EINTR;
		if (clock_expired(deadline_ns))
			return -ETIMEDOUT;
		(void)poll(fds, 2, clock_left_ms(deadline_ns));
	}
	return r;
}

static int on_is_frozen(struct freezer *f, struct umbra_writer *w,
			const struct umbra_writer_event *e, uint64_t deadline_ns)
{
	struct cgroup *c = (struct cgroup *)f;
	CLEANUP(close_p) int fd = open_file(c, "cgroup.freeze", O_RDONLY);
	char buf[16] = "";
	int r = fd < 0 ? fd : read_file(fd, buf, sizeof(buf));

	if (r < 0 && !is_gone(r))
		return writer_fail(w, UMBRA_WRITER_NON_RETRYABLE, "%s: %s", LOG_QUOTE(c->path),
				   err_text(r));
	return buf[0] == '1';
}

static int on_freeze(struct freezer *f, struct umbra_writer *w, const struct umbra_writer_event *e,
		     uint64_t deadline_ns)
{
	struct cgroup *c = (struct cgroup *)f;
	uint64_t began_ns = clock_mono_ns();
	int r;

	r = set_freeze(c, "1");
	if (r == 0)
		r = wait_frozen(c, deadline_ns);
	if (r == 0 || is_gone(r))
		return 0;
	(void)set_freeze(c, "0"); /* Abort does it again; the sooner the better */
	if (r == -ETIMEDOUT)
		return writer_fail(w, UMBRA_WRITER_TIMEOUT,
				   "%s did not stand still within %d s: a process of it cannot be "
				   "stopped",
				   LOG_QUOTE(c->path),
				   (int)((clock_mono_ns() - began_ns) / CLOCK_NS_PER_SEC));
	return writer_fail(w, r == -EINTR ? UMBRA_WRITER_RETRYABLE : UMBRA_WRITER_NON_RETRYABLE,
			   "cannot freeze %s: %s", LOG_QUOTE(c->path), err_text(r));
}

static int on_thaw(struct freezer *f, struct umbra_writer *w, const struct umbra_writer_event *e,
		   uint64_t deadline_ns)
{
	struct cgroup *c = (struct cgroup *)f;
	int r = set_freeze(c, "0");

	if (r == 0 || is_gone(r))
		return 0;
	return writer_fail(w, UMBRA_WRITER_NON_RETRYABLE, "cannot thaw %s: %s", LOG_QUOTE(c->path),
			   err_text(r));
}

/* A provider may have been started in it since the registration. */
static int on_prepare(struct freezer *f, struct umbra_writer *w, const struct umbra_writer_event *e,
		      uint64_t deadline_ns)
{
	struct cgroup *c = (struct cgroup *)f;

	return guard_check(c->path, c->path, w);
}

static int before_register(struct writer_program *p, void *data)
{
	struct cgroup *c = data;

	return guard_check(c->path, c->path, NULL);
}

static int check_path(struct cgroup *c, char *resolved)
{
	CLEANUP(close_p) int fd = -1;
	struct statfs fs;

	if (!realpath(c->path, resolved) || statfs(resolved, &fs) < 0)
		return tool_error("%s: %s", LOG_QUOTE(c->path), err_text(-errno));
	c->path = resolved;
	if ((unsigned long)fs.f_type != CGROUP2_SUPER_MAGIC)
		return tool_error("%s is no cgroup of version 2 (see cgroups(7))",
				  LOG_QUOTE(resolved));
	fd = open_file(c, "cgroup.freeze", O_RDWR);
	if (fd == -ENOENT)
		return tool_error("%s cannot be frozen: it is the root of all cgroups",
				  LOG_QUOTE(resolved));
	if (fd < 0)
		return tool_error("%s cannot be frozen: %s", LOG_QUOTE(resolved), err_text(fd));
	return 0;
}

int writer_cgroup_run(int argc, char **argv)
{
	char resolved[PATH_MAX];
	struct cgroup c = {
		.f = {
			.p = {
				.kind = "cgroup",
				.args = "PATH",
				.summary = "stop all processes of a cgroup while a snapshot is taken",
				.help = "PATH is the directory of a cgroup (version 2). This gives what a sudden power\n"
					"cut would leave, of all those processes at one instant: enough for what\n"
					"recovers from that. Neither this program nor the coordinator nor the file\n"
					"system of a protected directory may be in it.\n\n"
					"Example: umbra writer cgroup /sys/fs/cgroup/system.slice/app.service\n",
				.before_register = before_register,
			},
			.prepare = on_prepare,
			.is_frozen = on_is_frozen,
			.freeze = on_freeze,
			.thaw = on_thaw,
		},
	};
	int r;

	if (writer_getopt(&c.f.p, argc, argv) == WRITER_EXIT)
		return c.f.p.status;
	if (argc - optind != 1)
		return writer_usage(&c.f.p, "one cgroup is needed");
	c.path = argv[optind];
	r = check_path(&c, resolved);
	if (r != 0)
		return r;
	if (!c.f.p.instance)
		c.f.p.instance = c.path;
	return freezer_run(&c.f, c.path);
}
