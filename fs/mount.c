/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/mount.c - from a directory to a mounted overlay; see mount.h. */
#include "fs/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "cow/base/bytes.h"
#include "cow/base/cleanup.h"
#include "cow/base/clock.h"
#include "cow/base/err.h"
#include "cow/base/log.h"
#include "cow/base/mounts.h"
#include "cow/base/path.h"
#include "fs/change.h"
#include "fs/handles.h"
#include "fs/locate.h"
#include "fs/ops.h"
#include "fs/rawio.h"
#include "fs/snap.h"

#define DIRFDS_MAX 512u
#define FDS_RESERVE 128u /* our threads' pipes, the store's files, directories being read */
#define STORE_WAIT_MS 5000u
#define STORE_RETRY_US 20000u

static int __attribute__((format(printf, 4, 5)))
fail(int r, char *why, size_t why_len, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, why_len, fmt, ap);
	va_end(ap);
	return r;
}

/* ---- is it protected already? ---- */

/* Also where something else lies over it. */
static bool is_mount_of_ours(const char *path)
{
	CLEANUP(mounts_done) struct mounts m = { 0 };

	if (mounts_read(&m) < 0)
		return false;
	for (size_t i = 0; i < m.count; i++)
		if (mount_is_umbra(&m.list[i]) && strcmp(m.list[i].point, path) == 0)
			return true;
	return false;
}

/* A protected directory, or a snapshot. */
static bool lies_in_mount_of_ours(const char *path)
{
	CLEANUP(mounts_done) struct mounts m = { 0 };
	const struct mount *above = mounts_read(&m) < 0 ? NULL : mounts_above(&m, path);

	return above && mount_is_umbra(above);
}

/* ---- the directory below ---- */

static int cannot_open(const struct fs_options *opt, int r, char *why, size_t why_len)
{
	if (r == -ENOTCONN)
		return fail(
			r, why, why_len,
			"%s has a dead mount on it, left by a daemon that died (try: umount %s, or "
			"fusermount3 -u %s)",
			opt->dir, opt->dir, opt->dir);
	return fail(r, why, why_len, "%s cannot be protected: %s", opt->dir, err_text(r));
}

static int open_below(struct fs *fs, const struct fs_options *opt, char *why, size_t why_len)
{
	struct stat st;

	fs->below_fd = open(opt->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* The path of what was opened: opt->dir may lead elsewhere by now. */
	if (fs->below_fd < 0 || fstat(fs->below_fd, &st) < 0 ||
	    !(fs->path = realpath(fs_proc_path(fs->below_fd).text, NULL)))
		return cannot_open(opt, -errno, why, why_len);
	fs->below_dev = st.st_dev;
	fs->below_ino = st.st_ino;
	if (is_mount_of_ours(fs->path))
		return fail(-EEXIST, why, why_len, "%s is protected already (see: umbra status)",
			    opt->dir);
	if (strcmp(fs->path, "/") == 0)
		return fail(
			-EINVAL, why, why_len,
			"the root directory itself cannot be protected, only directories in it");
	return 0;
}

static int check_snapdir_free(struct fs *fs, const struct fs_options *opt, char *why,
			      size_t why_len)
{
	struct stat st;

	if (fs->shown == FS_SNAPSHOTS_OFF ||
	    fstatat(fs->below_fd, FS_SNAPDIR_NAME, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return fail(-EEXIST, why, why_len,
		    "%s has an entry named %s of its own (try: --snapshots off)", opt->dir,
		    FS_SNAPDIR_NAME);
}

static int parse_max(struct fs *fs, const struct fs_options *opt, char *why, size_t why_len)
{
	struct statvfs sv;
	int r;

	if (!opt->max_store)
		return 0;
	if ((fs->store_dir ? statvfs(fs->store_dir, &sv) : fstatvfs(fs->below_fd, &sv)) < 0)
		return fail(-errno, why, why_len, "%s: its size cannot be found: %s", opt->dir,
			    err_text(-errno));
	r = bytes_parse_limit(opt->max_store, (uint64_t)sv.f_blocks * sv.f_frsize, &fs->max_bytes);
	if (r < 0)
		return fail(r, why, why_len, "--max-store %s is no size (try: 10G, or 10%%)",
			    opt->max_store);
	if (fs->max_bytes < COW_STORE_MIN_BYTES) /* F-4 */
		return fail(-EINVAL, why, why_len,
			    "--max-store %s is %ju bytes, and a store needs 1M at least",
			    opt->max_store, (uintmax_t)fs->max_bytes);
	return 0;
}

/* F-3, H-2: what the store writes must wait for no hold, of its own tree or of another in one set with it. */
static int check_store_place(const struct fs *fs, const struct fs_options *opt, char *why,
			     size_t why_len)
{
	if (path_below(fs->path, fs->store_dir))
		return fail(
			-EINVAL, why, why_len,
			"--store %s lies in the protected directory itself (leave --store out, or "
			"name a directory outside)",
			opt->store_dir);
	if (lies_in_mount_of_ours(fs->store_dir))
		return fail(
			-EINVAL, why, why_len,
			"--store %s lies in another protected directory, or in a snapshot (name a "
			"directory outside of all of them)",
			opt->store_dir);
	return 0;
}

static bool in_memory(int r, const struct statfs *sf)
{
	return r == 0 && (sf->f_type == TMPFS_MAGIC || sf->f_type == RAMFS_MAGIC);
}

static void find_store_kind(struct fs *fs)
{
	struct statfs store, below;

	fs->store_in_memory = in_memory(statfs(fs->store_dir, &store), &store) &&
			      !in_memory(fstatfs(fs->below_fd, &below), &below);
}

static int make_store_dir(struct fs *fs, const struct fs_options *opt, char *why, size_t why_len)
{
	bool made;
	int r;

	if (!opt->store_dir)
		return 0;
	made = mkdir(opt->store_dir, 0700) == 0;
	if (!made && errno != EEXIST)
		return fail(-errno, why, why_len, "--store %s cannot be made: %s", opt->store_dir,
			    err_text(-errno));
	fs->store_dir = realpath(opt->store_dir, NULL);
	if (!fs->store_dir)
		return fail(-errno, why, why_len, "--store %s cannot be used: %s", opt->store_dir,
			    err_text(-errno));
	r = check_store_place(fs, opt, why, why_len);
	if (r < 0 && made)
		rmdir(opt->store_dir);
	find_store_kind(fs);
	return r;
}

/* ---- callbacks of the store ---- */

void (*fs_on_drop)(void *userdata, const struct cow_snapshot *snap, enum cow_drop_cause cause);

static void on_drop(void *userdata, const struct cow_snapshot *snap, enum cow_drop_cause cause)
{
	if (fs_on_drop)
		fs_on_drop(userdata, snap, cause);
}

static void on_gate_open(void *userdata)
{
	struct fs *fs = userdata;

	if (fs->park)
		fs_park_wake(fs->park);
}

static int place(void *userdata, uint64_t ino, uint64_t *ret_parent, char ret_name[256])
{
	struct fs *fs = userdata;

	return fs_nodes_place_of(fs->nodes, fs->below_dev, ino, ret_parent, ret_name);
}

static int open_store(struct fs *fs, const struct fs_options *opt, char *why, size_t why_len)
{
	struct cow_options co = {
		.below_fd = fs->below_fd,
		.store_dir = fs->store_dir,
		.max_bytes = fs->max_bytes,
		.on_drop = on_drop,
		.on_gate_open = on_gate_open,
		.place = place,
		.userdata = fs,
	};
	char detail[512] = "";
	uint64_t deadline = clock_deadline_ms(STORE_WAIT_MS);
	int r;

	/* A daemon whose mount is gone may still be closing its store. */
	while ((r = cow_store_open(&co, &fs->store, detail, sizeof(detail))) == -EBUSY &&
	       !clock_expired(deadline))
		usleep(STORE_RETRY_US);
	if (r == -EBUSY)
		return fail(r, why, why_len,
			    "%s: its store is in use by another umbrafs (see: umbra status)",
			    opt->dir);
	if (r < 0)
		return fail(r, why, why_len, "%s: its store cannot be opened: %s", opt->dir,
			    *detail ? detail : err_text(r));
	return 0;
}

/* ---- the world ---- */

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static int make_tables(struct fs *fs, size_t fds_max, char *why, size_t why_len)
{
	size_t dirs_max = min_size(DIRFDS_MAX, fds_max / 8);

	fs->orphans_max = fds_max / 4;
	fs->files_max = fds_max - min_size(dirs_max + FDS_RESERVE, fds_max / 2);
	fs->dirfds = fs_dirfds_new(dirs_max);
	fs->nodes = fs_nodes_new(FS_LIVE, fs->below_dev, fs->below_ino, NULL, fs_release_node, fs);
	fs->park = fs_change_park_new();
	if (!fs->dirfds || !fs->nodes || !fs->park)
		return fail(-ENOMEM, why, why_len, "out of memory");
	return 0;
}

int fs_world_open(struct fs *fs, const struct fs_options *opt, size_t fds_max, char *why,
		  size_t why_len)
{
	int r;

	fs->below_fd = -1;
	fs->mount_fd = -1;
	fs->mount_id = -1;
	fs->live = true;
	fs->shown = opt->shown;
	fs->started = time(NULL);
	pthread_rwlock_init(&fs->tree, NULL);
	r = open_below(fs, opt, why, why_len);
	if (r == 0)
		r = check_snapdir_free(fs, opt, why, why_len);
	if (r == 0)
		r = make_store_dir(fs, opt, why, why_len);
	if (r == 0)
		r = parse_max(fs, opt, why, why_len);
	if (r == 0)
		r = make_tables(fs, fds_max, why, why_len);
	if (r == 0)
		r = open_store(fs, opt, why, why_len);
	if (r < 0)
		fs_world_close(fs);
	return r;
}

int fs_world_close(struct fs *fs)
{
	int r = 0;

	fs_held_close_all(fs);
	if (fs->nodes)
		fs_nodes_free(fs->nodes);
	fs_dirfds_free(fs->dirfds);
	if (fs->store)
		r = cow_store_close(fs->store, true);
	if (fs->below_fd >= 0)
		close(fs->below_fd);
	fs_park_free(fs->park);
	free(fs->path);
	free(fs->store_dir);
	pthread_rwlock_destroy(&fs->tree);
	fs->store = NULL;
	return r;
}

/* ---- the mount ---- */

/* Does /etc/fuse.conf allow what --allow-other asks for? fusermount3 says no without a reason for us to show. */
static bool conf_allows_others(void)
{
	CLEANUP(fclose_p) FILE *f = fopen("/etc/fuse.conf", "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		char *s = line + strspn(line, " \t");

		if (strncmp(s, "user_allow_other", 16) == 0 && strchr(" \t\n#", s[16]))
			return true;
	}
	return false;
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
#define URING ",io_uring" /* where kernel and library have it; falls back by itself */
#else
#define URING ""
#endif

/* The mount is to allow what the one below allows, not more. fusermount3 adds nosuid and nodev for users. Option texts
 * hold no path: those may have commas. */
static void mount_options(struct fs *fs, bool root, bool others, char *text, size_t size)
{
	struct statvfs sv;

	if (fstatvfs(fs->below_fd, &sv) < 0)
		sv.f_flag = ST_NOSUID | ST_NODEV;
	snprintf(text, size, "fsname=umbra,subtype=umbra,default_permissions" URING "%s%s%s%s%s",
		 others ? ",allow_other" : "", root && !(sv.f_flag & ST_NOSUID) ? ",suid" : "",
		 root && !(sv.f_flag & ST_NODEV) ? ",dev" : "",
		 sv.f_flag & ST_NOEXEC ? ",noexec" : "", sv.f_flag & ST_RDONLY ? ",ro" : "");
}

static struct fuse_session *new_session(struct fs *fs, bool root, bool others)
{
	char text[256];
	char *argv[] = { (char *)"umbrafs", (char *)"-o", text, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	struct fuse_session *se;

	mount_options(fs, root, others, text, sizeof(text));
	se = fuse_session_new(&args, &fs_ops, sizeof(fs_ops), fs);
	fuse_opt_free_args(&args);
	return se;
}

/* Is the directory that we opened still the one at its path? */
static bool is_in_place(const struct fs *fs)
{
	struct stat st;

	return stat(fs->path, &st) == 0 && st.st_dev == fs->below_dev && st.st_ino == fs->below_ino;
}

/* What is mounted over the directory, wherever that is by now: what is above it may be renamed. Opening a mount's root with
 * O_PATH asks its daemon nothing. */
static int open_mount(const struct fs *fs)
{
	CLEANUP(close_p)
	int above = openat(fs->below_fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (above < 0)
		return -1;
	return openat(above, path_last(fs->path), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Root mounts by way of the descriptor, so that nobody can put another directory into the path meanwhile; of this
 * process by number, as fusermount3 may have to do it. fusermount3 itself makes sure for its user, who needs no
 * privilege (I-9). */
static int mount_session(struct fs *fs, bool root)
{
	CLEANUP(close_p) int fd = -1;
	char by_fd[64];

	if (!is_in_place(fs))
		return -ESTALE;
	if (!root)
		return fuse_session_mount(fs->se, fs->path) == 0 ? 0 : -EIO;
	fs->mount_fd = fcntl(fs->below_fd, F_DUPFD_CLOEXEC, 0);
	if (fs->mount_fd < 0)
		return -errno;
	snprintf(by_fd, sizeof(by_fd), "/proc/%d/fd/%d", (int)getpid(), fs->mount_fd);
	if (fuse_session_mount(fs->se, by_fd) != 0)
		return -EIO;
	fd = open_mount(fs);
	fs->mount_id = fd < 0 ? -1 : mounts_id_of(fd);
	return 0;
}

static void close_mount_fd(struct fs *fs)
{
	close_p(&fs->mount_fd);
	fs->mount_fd = -1;
}

int fs_world_mount(struct fs *fs, const struct fs_options *opt, char *why, size_t why_len)
{
	bool root = geteuid() == 0;
	int r;

	if (opt->allow_other && !root && !conf_allows_others())
		return fail(
			-EPERM, why, why_len,
			"--allow-other is not permitted to users here (add the line user_allow_other to "
			"/etc/fuse.conf, or leave it out)");
	fs->se = new_session(fs, root, root || opt->allow_other);
	if (!fs->se)
		return fail(-ENOMEM, why, why_len, "libfuse could not make a session");
	r = mount_session(fs, root);
	if (r < 0) {
		fuse_session_destroy(fs->se);
		fs->se = NULL;
		close_mount_fd(fs);
		if (r == -ESTALE)
			return fail(r, why, why_len, "%s was moved or replaced meanwhile",
				    opt->dir);
		return fail(r, why, why_len, "%s could not be mounted over: %s (try: umbra doctor)",
			    opt->dir,
			    access("/dev/fuse", R_OK | W_OK) < 0 ? "/dev/fuse cannot be opened"
								 : "mount was refused");
	}
	if (fs_rawio_attach(fs, fs->se) < 0)
		log_debug("no raw requests: O_TMPFILE and birth times are not served");
	return 0;
}

/* The descriptor that the mount was made by stands for what is below it, which may be a mount itself; libfuse unmounts by
 * its path. So it is made to stand for our mount, or, where another lies over that, for nothing that is mounted. While our
 * mount is open it is busy, so not before. */
static void aim_at_mount(struct fs *fs)
{
	CLEANUP(close_p) int fd = -1;

	if (fs->mount_fd < 0)
		return;
	fd = open_mount(fs);
	if (fd < 0 || fs->mount_id < 0 || mounts_id_of(fd) != fs->mount_id) {
		close_p(&fd); /* gone from here, but perhaps alive elsewhere */
		fd = eventfd(0, EFD_CLOEXEC);
	}
	if (fd >= 0)
		dup3(fd, fs->mount_fd, O_CLOEXEC);
}

void fs_world_unmount(struct fs *fs)
{
	if (!fs->se)
		return;
	aim_at_mount(fs);
	fuse_session_unmount(fs->se);
	fs_park_stop(fs->park); /* answers what is parked: needs the session */
	fuse_session_destroy(fs->se);
	fs->se = NULL;
	close_mount_fd(fs);
}
