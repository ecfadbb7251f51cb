/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/handles.h - open files and directories.
 * Job:     one counted fs_file per open live inode, with the descriptors that everybody who has it open shares;
 *	    one fs_dir per opendir.
 * Errors:  -errno of the open below.
 * Threads: any. Rank HANDLES guards node->file and the counts; descriptors once set stay until the last put.
 * Rules:   the file below is opened without O_APPEND (but for append-only ones), O_DIRECT and O_TRUNC: offsets come
 *	    from the kernel, and an unaligned write-back of mapped pages would fail. A file to be written is opened for reading too, because
 *	    old data must be preserved. */
#ifndef UMBRA_FS_HANDLES_H
#define UMBRA_FS_HANDLES_H

#include <dirent.h>

#include "fs/fs.h"

struct cow_vdir;
struct cow_vfile;

struct fs_file {
	struct fs_node *node; /* counted */
	unsigned refs;	      /* guarded by the handles' lock */
	_Atomic int fd_ro;    /* -1: none. Set with release order once, read with acquire: */
	_Atomic int fd_rw;    /* a descriptor that is seen is usable */
	_Atomic bool blind;   /* fd_rw cannot be read from; set before fd_rw */
	_Atomic bool append;  /* fd_rw has O_APPEND; set before fd_rw, a hint */
};

struct fs_dir;

/* One of a session's open handles that hold on to a snapshot: the kernel does not release them when a mount is gone. */
struct fs_held {
	struct fs_held **prev, *next; /* guarded by the handles' lock */
	struct cow_vfile *vfile;      /* a file, */
	struct fs_dir *dir;	      /* or the directory that this is part of */
};

/* What fi->fh of a directory points to. */
struct fs_dir {
	struct fs_held held;
	bool live;	      /* of the live tree; set once */
	pthread_mutex_t lock; /* one reader at a time; leaf but for the store's own locks */
	int fd;		      /* live: opened by the first read, -1 before */
	off_t pos;	      /* live: where fd stands */
	char *buf;	      /* live: entries read and not yet given out */
	size_t buf_used, buf_len;
	struct cow_vdir *vdir;	   /* snapshot */
	struct cow_snapshot *list; /* .snapshots */
	size_t list_n;
};

/* 0: for reading. */
enum fs_open_how {
	FS_OPEN_WRITE = 1,   /* and reading, unless permissions below leave no way */
	FS_OPEN_APPEND = 2,  /* with it: the caller only appends */
	FS_OPEN_IN_GATE = 4, /* he has entered the gate */
};

/**
 * The node's open file, opened when needed.
 * @how  of enum fs_open_how
 * Returns 0 and a reference for fs_file_put; -EACCES, -EROFS, -ETXTBSY, -ENFILE ...; -EPERM to write to an immutable
 * file, or to an append-only one without FS_OPEN_APPEND (FS_IOC_SETFLAGS(2const)), also where the descriptor is
 * there; -EAGAIN it takes a change of the mode for a moment: enter the gate and say so.
 */
int fs_file_open(struct fs *fs, struct fs_node *node, unsigned how, struct fs_file **ret);
/* Install `fd` (O_RDWR), just created; takes fd, also on failure. Returns 0 and a reference, or -ENOMEM. */
int fs_file_adopt(struct fs *fs, struct fs_node *node, int fd, struct fs_file **ret);
/* 0, or -ENFILE when open files have all the descriptors that are theirs: ask before creating one. */
int fs_files_room(const struct fs *fs);
/* The node's open file with a reference, or NULL. */
struct fs_file *fs_file_of(struct fs *fs, struct fs_node *node);
void fs_file_put(struct fs *fs, struct fs_file *file);

/* A descriptor to read from; one to write to, or -1. */
int fs_file_fd(struct fs_file *file);
int fs_file_wfd(struct fs_file *file);

struct fs_dir *fs_dir_new(struct fs *fs);
void fs_dir_free(struct fs_dir *d);

/* A snapshot's open file as a handle; takes vf, also on failure. NULL: out of memory. */
struct fs_held *fs_snapfile_new(struct fs *fs, struct cow_vfile *vf);
void fs_snapfile_free(struct fs_held *h);

/* How many files and directories of the live tree are open. Each file counts once, however often it is open; what the
 * kernel is only about to release counts as well. */
size_t fs_handles_live(struct fs *fs);

/* Close what is left of both: once, when the session's loop has ended. */
void fs_held_close_all(struct fs *fs);

#endif
