/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file system that stops answering: empty directories a to f, whose names nobody remembers. While DIR/hang is there it
 * leaves the first request that it reads unanswered, and whatever comes then unread.
 *
 *	hang MOUNTPOINT DIR
 *
 * DIR/waiting is there as long as somebody waits for an answer. Ends when it is unmounted. */
#define FUSE_USE_VERSION 312
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char names[] = "abcdef";
static char hang[PATH_MAX], waiting[PATH_MAX];

/* One thread serves: who waits here keeps all others waiting in the kernel. */
static void answer_or_hang(void)
{
	if (access(hang, F_OK) < 0)
		return;
	close(open(waiting, O_WRONLY | O_CREAT, 0644));
	while (access(hang, F_OK) == 0)
		usleep(10000);
	unlink(waiting);
}

static int hang_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	answer_or_hang();
	if (strcmp(path, "/") != 0 && (strlen(path) != 2 || !strchr(names, path[1])))
		return -ENOENT;
	memset(st, 0, sizeof(*st));
	st->st_mode = S_IFDIR | 0755;
	st->st_nlink = 2;
	st->st_uid = geteuid();
	st->st_gid = getegid();
	return 0;
}

static int hang_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t off,
			struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
	char name[2] = "";

	answer_or_hang();
	fill(buf, ".", NULL, 0, 0);
	fill(buf, "..", NULL, 0, 0);
	for (size_t i = 0; strcmp(path, "/") == 0 && names[i]; i++) {
		name[0] = names[i];
		fill(buf, name, NULL, 0, 0);
	}
	return 0;
}

static const struct fuse_operations ops = { .getattr = hang_getattr, .readdir = hang_readdir };

int main(int argc, char **argv)
{
	char options[128];
	char *args[] = { argv[0], (char *)"-f", (char *)"-s", (char *)"-o", options, argv[1] };

	if (argc != 3) {
		fprintf(stderr, "usage: hang MOUNTPOINT DIR\n");
		return 2;
	}
	snprintf(hang, sizeof(hang), "%s/hang", argv[2]);
	snprintf(waiting, sizeof(waiting), "%s/waiting", argv[2]);
	snprintf(options, sizeof(options), "attr_timeout=0,entry_timeout=0,negative_timeout=0%s",
		 geteuid() == 0 ? ",allow_other" : "");
	return fuse_main(6, args, &ops, NULL);
}
