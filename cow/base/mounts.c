/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cow/base/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cow/base/cleanup.h"
#include "cow/base/path.h"

/* The kernel writes blank, tab, newline and backslash as \ooo. */
static char *unescape(const char *field)
{
	char *p = strdup(field), *out = p;

	if (!p)
		return NULL;
	for (const char *in = field; *in; in++) {
		if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' && in[2] >= '0' && in[2] <= '7' &&
		    in[3] >= '0' && in[3] <= '7') {
			*out++ = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
			in += 3;
		} else {
			*out++ = *in;
		}
	}
	*out = '\0';
	return p;
}

static bool has_option(const char *options, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = options; p; p = strchr(p, ','), p = p ? p + 1 : NULL) {
		if (strncmp(p, word, len) == 0 && (p[len] == ',' || !p[len]))
			return true;
	}
	return false;
}

/* user_id=N among the options of a FUSE mount. */
static uid_t daemon_uid(const char *options)
{
	const char *p = strstr(options, "user_id=");

	if (!p || (p != options && p[-1] != ','))
		return (uid_t)-1;
	return (uid_t)strtoul(p + strlen("user_id="), NULL, 10);
}

static bool number(const char *field, int *ret)
{
	char *end;
	long n = strtol(field, &end, 10);

	*ret = (int)n;
	return *field && !*end && n == *ret;
}

int mount_parse(const char *line, struct mount *ret)
{
	CLEANUP(free_p) char *copy = strdup(line);
	struct mount m = { 0 };
	char *field[64], *rest, *word;
	size_t n = 0, dash;

	if (!copy)
		return -ENOMEM;
	copy[strcspn(copy, "\n")] = '\0';
	for (word = strtok_r(copy, " ", &rest); word && n < 64; word = strtok_r(NULL, " ", &rest))
		field[n++] = word;
	for (dash = 6; dash < n && strcmp(field[dash], "-") != 0; dash++)
		; /* any number of tags before it */
	if (dash + 2 >= n || !number(field[0], &m.id) || !number(field[1], &m.parent))
		return -EINVAL;
	m.uid = dash + 3 < n ? daemon_uid(field[dash + 3]) : (uid_t)-1;
	m.root = unescape(field[3]);
	m.point = unescape(field[4]);
	m.type = unescape(field[dash + 1]);
	m.source = unescape(field[dash + 2]);
	m.read_only = has_option(field[5], "ro");
	if (!m.root || !m.point || !m.type || !m.source) {
		mount_done(&m);
		return -ENOMEM;
	}
	*ret = m;
	return 0;
}

void mount_done(struct mount *m)
{
	free(m->root);
	free(m->point);
	free(m->type);
	free(m->source);
}

void mounts_done(struct mounts *m)
{
	for (size_t i = 0; i < m->count; i++)
		mount_done(&m->list[i]);
	free(m->list);
	*m = (struct mounts){ 0 };
}

int mounts_read_from(const char *path, struct mounts *ret)
{
	CLEANUP(fclose_p) FILE *f = fopen(path, "re");
	CLEANUP(mounts_done) struct mounts m = { 0 };
	CLEANUP(free_p) char *line = NULL;
	size_t size = 0;

	if (!f)
		return -errno;
	while (getline(&line, &size, f) > 0) {
		struct mount *grown = reallocarray(m.list, m.count + 1, sizeof(*grown));
		int r;

		if (!grown)
			return -ENOMEM;
		m.list = grown;
		r = mount_parse(line, &m.list[m.count]);
		if (r < 0)
			return r;
		m.count++;
	}
	*ret = m;
	m = (struct mounts){ 0 };
	return 0;
}

int mounts_read(struct mounts *ret)
{
	return mounts_read_from("/proc/self/mountinfo", ret);
}

const struct mount *mounts_of_id(const struct mounts *m, int id)
{
	for (size_t i = 0; i < m->count; i++) {
		if (m->list[i].id == id)
			return &m->list[i];
	}
	return NULL;
}

const struct mount *mounts_at(const struct mounts *m, const char *point)
{
	for (size_t i = m->count; i > 0; i--) {
		if (strcmp(m->list[i - 1].point, point) == 0)
			return &m->list[i - 1];
	}
	return NULL;
}

/* Both absolute, without a slash at the end. */
static const struct mount *deepest_above(const struct mounts *m, const char *path, bool umbra_only)
{
	const struct mount *best = NULL;

	for (size_t i = 0; i < m->count; i++) {
		const struct mount *at = &m->list[i];

		if ((!umbra_only || mount_is_umbra(at)) && path_below(at->point, path) &&
		    (!best || strlen(at->point) >= strlen(best->point)))
			best = at;
	}
	return best;
}

const struct mount *mounts_above(const struct mounts *m, const char *path)
{
	return deepest_above(m, path, false);
}

const struct mount *mounts_umbra_above(const struct mounts *m, const char *path)
{
	return deepest_above(m, path, true);
}

int mounts_id_of(int fd)
{
	CLEANUP(fclose_p) FILE *f = NULL;
	char line[128];
	int id;

	snprintf(line, sizeof(line), "/proc/self/fdinfo/%d", fd);
	f = fopen(line, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "mnt_id: %d", &id) == 1)
			return id;
	}
	return -EINVAL;
}

static int is_at(int fd, const char *path)
{
	char link[40], real[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, real, sizeof(real) - 1);
	if (n < 0)
		return -errno;
	real[n] = '\0';
	return strcmp(real, path) == 0;
}

int mounts_open(const char *path, struct mounts *ret_table, const struct mount **ret_at,
		int *ret_fd)
{
	CLEANUP(mounts_done) struct mounts m = { 0 };
	CLEANUP(close_p)
	int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	const struct mount *at;
	int r, id;

	if (fd < 0)
		return -errno;
	r = is_at(fd, path);
	if (r <= 0)
		return r < 0 ? r : -ESTALE;
	id = mounts_id_of(fd);
	if (id < 0)
		return id;
	r = mounts_read(&m); /* after the opening: what the descriptor holds is in it */
	if (r < 0)
		return r;
	at = mounts_of_id(&m, id);
	if (!at)
		return -ESTALE;
	*ret_at = at;
	*ret_fd = TAKE_FD(fd);
	*ret_table = m;
	m = (struct mounts){ 0 };
	return 0;
}

int mounts_open_tree(const char *path, int *ret_fd)
{
	CLEANUP(mounts_done) struct mounts m = { 0 };
	CLEANUP(close_p) int fd = -1;
	const struct mount *at;
	int r = mounts_open(path, &m, &at, &fd);

	if (r < 0)
		return r;
	if (!mount_is_trusted(at) || mount_is_snapshot(at) || strcmp(at->point, path) != 0)
		return -ESTALE;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

bool mounts_is_dead(const char *dir)
{
	/* The kernel may still know the attributes, so stat(2) would tell nothing. */
	CLEANUP(close_p) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 && errno == ENOTCONN;
}

bool mount_is_umbra(const struct mount *m)
{
	return strcmp(m->type, MOUNTS_TYPE) == 0;
}

bool mount_is_trusted(const struct mount *m)
{
	return mount_is_umbra(m) && (m->uid == 0 || m->uid == geteuid());
}

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

bool mount_is_exposed(const struct mount *m)
{
	return mount_is_umbra(m) && begins(m->source, MOUNTS_EXPOSED_SOURCE);
}

bool mount_is_snapshot(const struct mount *m)
{
	return mount_is_exposed(m) ||
	       (mount_is_umbra(m) && begins(m->source, MOUNTS_SNAPSHOT_SOURCE));
}
