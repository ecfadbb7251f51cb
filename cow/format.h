/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cow/format.h - log records: structs to bytes and back, and the index key of each.
 * Job:     the only place that sees raw records. Pure functions, no I/O. Little endian in records, big endian in keys
 *	    (so that keys sort by number).
 * Errors:  -EUCLEAN for bytes that are no record; never trusts a length or a count.
 * Threads: any.
 *
 * A record is: magic 4, length 4 (whole, multiple of 8), kind 2, flags 2, zero 4, epoch 8, hash 8, body. The hash is
 * XXH3-64 of the body, seeded with that of the 24 bytes before it, seeded with the store's own secret: no user's data can
 * pass for a record. The body is also the record's value in the index. */
#ifndef UMBRA_COW_FORMAT_H
#define UMBRA_COW_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "cow/provider.h"

#define COW_REC_HEADER 32u
#define COW_REC_MAX (256u * 1024)
#define COW_KEY_MAX 320u /* family 1, inode 8, name 255, NUL 1, epoch 8, and more */
#define COW_NAME_MAX_LEN 255u

enum cow_rec_kind {
	/* of an epoch's log */
	COW_REC_ATTR = 1,  /* an inode's attributes and xattrs */
	COW_REC_NAME = 2,  /* what a name stood for */
	COW_REC_DATA = 3,  /* clusters of a file: data, or a hole */
	COW_REC_BIRTH = 4, /* an inode made after the opening */
	COW_REC_PLACE = 5, /* where an inode lives now */
	/* of the control log */
	COW_REC_OPEN = 16,    /* an epoch was opened, with its snapshot */
	COW_REC_COMMIT = 17,  /* its set was created */
	COW_REC_DROP = 18,    /* it was dropped; space not yet given back */
	COW_REC_DROPPED = 19, /* its space was given back; `heir` keeps what older snapshots need */
	COW_REC_SESSION = 20, /* a daemon started or ended with this store */
};

struct cow_attr {
	uint64_t ino;
	uint32_t mode, uid, gid, nlink, blksize;
	uint64_t rdev_major, rdev_minor, size, blocks;
	int64_t atime, mtime, ctime, btime; /* seconds */
	uint32_t atime_ns, mtime_ns, ctime_ns, btime_ns;
	bool has_btime;
	/* Entries: name length 2, value length 4, name, value; borrowed. One byte more than entries, 0xff: some were not kept. */
	const uint8_t *xattrs;
	size_t xattrs_len;
};

struct cow_name {
	uint64_t dir, target; /* target 0: absent */
	uint64_t seq;	      /* rises with each name recorded, also over restarts */
	unsigned type;	      /* DT_* of the target */
	const char *name;     /* borrowed; not NUL-terminated after decoding */
	size_t name_len;
};

struct cow_data {
	uint64_t ino;
	unsigned
		level; /* this record stands for 2^level clusters, aligned; above 0 for holes only */
	uint64_t block; /* cluster number >> level */
	uint64_t dat;	/* epoch whose data file has it; 0: a hole */
	uint64_t off;	/* in that file, bytes */
	uint32_t len;	/* bytes there; zeros follow up to the cluster's end */
	uint64_t hash;	/* XXH3-64 of these bytes, seeded */
};

struct cow_spot { /* one (parent, name); parent 0: unknown */
	uint64_t parent;
	char name[COW_NAME_MAX_LEN + 1];
};

struct cow_place {
	uint64_t ino;
	uint64_t era; /* of the store when it was written; of an earlier one it means nothing */
	/* Rises with each one written. The log a record stands in does not tell which is the later: when the newest epoch is
	 * dropped, the one before it goes on. */
	uint64_t seq;
	struct cow_spot now, before; /* a rename that a crash cut off leaves it at either */
};

struct cow_birth {
	uint64_t ino;
	uint64_t epoch; /* not seen by this snapshot or an older one */
};

struct cow_control {
	uint64_t epoch;
	struct cow_snapshot snap; /* OPEN; COMMIT has its extra only; extra borrowed */
	size_t extra_len;
	uint64_t era;	/* OPEN: the era of the store from then on (PLACE) */
	uint64_t heir;	 /* DROPPED; 0: nobody */
	int64_t time_ns; /* SESSION */
	bool session_end;
	char boot_id[COW_UUID_LEN + 1];
};

/* A record being built or taken apart. */
struct cow_rec {
	enum cow_rec_kind kind;
	uint64_t epoch;
	const uint8_t *body; /* borrowed */
	size_t body_len;     /* with padding */
};

/* Encode into `buf` (room for COW_REC_MAX). Return the record's length, or -E2BIG. `seed` is the store's. */
ssize_t cow_format_attr(uint8_t *buf, uint64_t seed, uint64_t epoch, const struct cow_attr *a);
ssize_t cow_format_name(uint8_t *buf, uint64_t seed, uint64_t epoch, const struct cow_name *n);
ssize_t cow_format_data(uint8_t *buf, uint64_t seed, uint64_t epoch, const struct cow_data *d);
ssize_t cow_format_birth(uint8_t *buf, uint64_t seed, uint64_t epoch, uint64_t ino);
ssize_t cow_format_place(uint8_t *buf, uint64_t seed, uint64_t epoch, const struct cow_place *p);
ssize_t cow_format_control(uint8_t *buf, uint64_t seed, enum cow_rec_kind kind,
			   const struct cow_control *c);
/* The same body under another epoch: what a middle snapshot's heir takes over. */
ssize_t cow_format_relabel(uint8_t *buf, uint64_t seed, uint64_t epoch, enum cow_rec_kind kind,
			   const uint8_t *body, size_t body_len);

/**
 * Take the record at the start of `buf` apart.
 * Returns its whole length; 0 when `len` does not hold all of it (read more, or the end); -EUCLEAN.
 */
ssize_t cow_format_parse(const uint8_t *buf, size_t len, uint64_t seed, struct cow_rec *ret);

/* The same for a record that we just encoded: nothing is checked. */
struct cow_rec cow_format_view(const uint8_t *buf, size_t len);

int cow_format_get_attr(const uint8_t *body, size_t len, struct cow_attr *ret);
int cow_format_get_name(const uint8_t *body, size_t len, struct cow_name *ret);
int cow_format_get_data(const uint8_t *body, size_t len, struct cow_data *ret);
int cow_format_get_place(const uint8_t *body, size_t len, struct cow_place *ret);
int cow_format_get_ino(const uint8_t *body, size_t len, uint64_t *ret); /* BIRTH, PLACE */
int cow_format_get_control(const struct cow_rec *r, struct cow_control *ret);

/* One xattr of a block of them. Start with *pos 0. Returns 1, 0 at the end, -EIO at the end of one that lacks some, -EUCLEAN. */
int cow_format_next_xattr(const uint8_t *xattrs, size_t len, size_t *pos, const char **ret_name,
			  size_t *ret_name_len, const void **ret_value, size_t *ret_value_len);
/* Room for one more, appended at buf[len]. Returns the new length or -E2BIG. */
ssize_t cow_format_add_xattr(uint8_t *buf, size_t len, size_t size, const char *name,
			     const void *value, size_t value_len);

/* Say that the block lacks some, but for those that are vital: room for a byte at buf[len]. Returns the new length. Who does
 * not know of this finds an entry that is cut off, -EUCLEAN, behind those that were kept. */
size_t cow_format_end_xattrs(uint8_t *buf, size_t len);
/* The names of those that are kept whatever else is not, and fit a record together (64 KiB each, xattr(7)): the kernel asks
 * for them before it lets anybody open or run a file. NULL behind the last. */
extern const char *const cow_format_vital_xattrs[];
bool cow_format_xattr_is_vital(const char *name);

/* Index keys. The epoch comes last, so that "smallest key >= (thing, s)" answers for snapshot s. Return the length. */
size_t cow_key_attr(uint8_t *key, uint64_t ino, uint64_t epoch);
size_t cow_key_name(uint8_t *key, uint64_t dir, const char *name, size_t name_len, uint64_t epoch);
size_t cow_key_data(uint8_t *key, uint64_t ino, unsigned level, uint64_t block, uint64_t epoch);
size_t cow_key_birth(uint8_t *key, uint64_t ino); /* value: the epoch, 8 bytes */
size_t cow_key_place(uint8_t *key, uint64_t ino);
/* Names that stood for an inode: (target, dir, name, epoch), empty value. Keeps the graveyard's file. */
size_t cow_key_back(uint8_t *key, uint64_t target, uint64_t dir, const char *name, size_t name_len,
		    uint64_t epoch);
size_t cow_key_mark(uint8_t *key,
		    uint64_t epoch); /* how far an epoch's log is in the index, 8 bytes */
/* The prefix without the epoch, for look-ups: the length of the same key less 8. */
#define COW_KEY_EPOCH_LEN 8u
uint64_t cow_key_get_epoch(const uint8_t *key, size_t len);
uint64_t cow_key_get_block(const uint8_t *key); /* of a data key */
/* Prefixes for scans. */
size_t cow_key_dir_prefix(uint8_t *key, uint64_t dir);
size_t cow_key_back_prefix(uint8_t *key, uint64_t target);
size_t cow_key_level_prefix(uint8_t *key, uint64_t ino, unsigned level);
/* Take a name key or a back key apart. Borrowed from key. Return 0 or -EUCLEAN. */
int cow_key_get_name(const uint8_t *key, size_t len, uint64_t *ret_dir, const char **ret_name,
		     size_t *ret_name_len, uint64_t *ret_epoch);
int cow_key_get_back(const uint8_t *key, size_t len, uint64_t *ret_target, uint64_t *ret_dir,
		     const char **ret_name, size_t *ret_name_len, uint64_t *ret_epoch);

/* The key under which a record of an epoch's log is found; *ret_len 0 for kinds without one. Returns 0 or -EUCLEAN. */
int cow_format_key(const struct cow_rec *r, uint8_t *key, size_t *ret_len);

#endif
