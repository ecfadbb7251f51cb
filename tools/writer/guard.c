/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/writer/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "cow/base/clock.h"
#include "cow/base/err.h"

struct member {
	pid_t pid;
	char what[64];
};

struct members {
	struct member *list;
	size_t count;
};

static void members_done(struct members *m)
{
	free(m->list);
}

static int add(struct members *m, pid_t pid, const char *what)
{
	struct member *bigger = realloc(m->list, (m->count + 1) * sizeof(*bigger));

	if (!bigger)
		return -ENOMEM;
	m->list = bigger;
	m->list[m->count].pid = pid;
	snprintf(m->list[m->count].what, sizeof(m->list->what), "%s", what);
	m->count++;
	return 0;
}

/* A coordinator that is stopped must not keep a writer from stopping. What woke before is no reason. */
static int reach_coordinator(struct umbra_client **ret)
{
	if (writer_stopping())
		return -ECANCELED;
	return umbra_connect_until(NULL, writer_signal_fd(), CLOCK_NEVER, ret);
}

/* Who has to go on while everything else is frozen. */
static int who(struct members *m)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	CLEANUP(json_decref_p) json_t *info = NULL, *answer = NULL;
	const json_t *tree;
	size_t i;
	int r;

	r = add(m, getpid(), "this writer program");
	if (r == 0)
		r = reach_coordinator(&c);
	if (r == 0)
		r = umbra_call(c, "GetInfo", NULL, -1, &info, NULL, NULL);
	if (r == 0)
		r = add(m, (pid_t)tool_int(info, "pid"), "the coordinator");
	if (r == 0)
		r = umbra_call(c, "ListTrees", NULL, -1, &answer, NULL, NULL);
	json_array_foreach(json_object_get(answer, "trees"), i, tree) {
		CLEANUP(free_p) char *path = tool_path(tree, "path");
		char what[64];

		snprintf(what, sizeof(what), "the file system of %.40s", path ? path : "?");
		if (r == 0)
			r = add(m, (pid_t)tool_int(tree, "pid"), what);
	}
	return r;
}

static const struct member *find(const struct members *m, pid_t pid)
{
	for (size_t i = 0; i < m->count; i++) {
		if (m->list[i].pid == pid)
			return &m->list[i];
	}
	return NULL;
}

/* The processes of one cgroup, not of those below: 1 and *ret_member, 0, -errno. In a threaded one
 * only its threads can be read; the first of a process has its number. */
static int look_in(int dir, const struct members *m, const struct member **ret_member)
{
	static const char *const files[] = { "cgroup.procs", "cgroup.threads" };

	for (size_t i = 0; i < 2; i++) {
		CLEANUP(fclose_p) FILE *f = NULL;
		int fd = openat(dir, files[i], O_RDONLY | O_CLOEXEC), pid;

		if (fd < 0)
			return errno == ENOENT || errno == ENODEV ? 0 : -errno;
		f = fdopen(fd, "r");
		if (!f) {
			close(fd);
			return -ENOMEM;
		}
		errno = 0;
		while (fscanf(f, "%d", &pid) == 1) {
			*ret_member = find(m, pid);
			if (*ret_member)
				return 1;
		}
		if (!ferror(f) || errno == ENODEV)
			return 0;
		if (errno != EOPNOTSUPP)
			return -errno;
	}
	return -EOPNOTSUPP;
}

/* The same in all of it. Takes dir. */
static int look_below(int dir, const struct members *m, const struct member **ret_member)
{
	CLEANUP(closedir_p) DIR *d = fdopendir(dir);
	struct dirent *e;
	int r;

	if (!d) {
		close(dir);
		return -ENOMEM;
	}
	r = look_in(dirfd(d), m, ret_member);
	while (r == 0 && (e = readdir(d))) {
		int below;

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		below = openat(dirfd(d), e->d_name,
			       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (below >= 0)
			r = look_below(below, m, ret_member);
		else if (errno != ENOENT && errno != ENODEV)
			r = -errno;
	}
	return r;
}

int guard_check(const char *dir, const char *name, struct umbra_writer *w)
{
	CLEANUP(members_done) struct members m = { 0 };
	const struct member *found;
	int fd, r;

	r = who(&m);
	if (r == -ENOENT || r == -ECONNREFUSED || r == -ECONNRESET || r == -ECANCELED)
		return TOOL_AGAIN;
	if (r == 0) {
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 && errno == ENOENT)
			return 0;
		r = fd < 0 ? -errno : look_below(fd, &m, &found);
	}
	if (r < 0)
		writer_fail(w, UMBRA_WRITER_NON_RETRYABLE, "cannot look who is in %s: %s",
			    LOG_QUOTE(name), err_text(r));
	else if (r > 0)
		writer_fail(w, UMBRA_WRITER_NON_RETRYABLE,
			    "%s (process %d) is in %s: it could not be thawed (invalid-argument)",
			    LOG_QUOTE(found->what), (int)found->pid, LOG_QUOTE(name));
	return r != 0 ? TOOL_FAILED : 0;
}

/* ---- where cgroups are */

char *guard_cgroup_dir(const char *cgroup)
{
	static const char *const roots[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
	struct statfs fs;
	char *path;

	for (size_t i = 0; i < 2; i++) {
		if (statfs(roots[i], &fs) == 0 && (unsigned long)fs.f_type == CGROUP2_SUPER_MAGIC)
			return asprintf(&path, "%s%s", roots[i], cgroup) < 0 ? NULL : path;
	}
	return NULL;
}

char *guard_cgroup_of(pid_t pid)
{
	CLEANUP(fclose_p) FILE *f = NULL;
	CLEANUP(free_p) char *line = NULL;
	char path[64];
	size_t size = 0;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	f = fopen(path, "re");
	while (f && getline(&line, &size, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "0::", 3) == 0)
			return strdup(line + 3);
	}
	return NULL;
}
