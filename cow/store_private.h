/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cow/store_private.h - what the rooms of cow/ share: the store, its live epochs, inode states.
 * Job:     the structs and the few calls between rooms; nobody outside cow/ and its tests includes it. */
#ifndef UMBRA_COW_STORE_PRIVATE_H
#define UMBRA_COW_STORE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "cow/base/lock.h"
#include "cow/cow.h"
#include "cow/format.h"
#include "cow/index.h"
#include "cow/revert.h"

/* ---- gate ---- */

enum gate_state { GATE_OPEN, GATE_CLOSING, GATE_HELD };

#define GATE_STRIPES 16

struct gate {
	struct {
		_Alignas(64) atomic_long n; /* entries less exits; only the sum means anything */
	} inside[GATE_STRIPES];
	_Alignas(64)
		atomic_bool closed; /* seq_cst against inside[]: who enters sees it, or is seen */

	pthread_mutex_t lock; /* below every ranked lock: held for a few instructions, and over the
						 * one append of an epoch's opening */
	pthread_cond_t left;  /* somebody left while closed */
	pthread_cond_t changed; /* state or deadline changed; the timer thread waits on it */
	enum gate_state state;
	bool expired;	      /* the last hold ended by itself, and nobody was told yet */
	bool internal;	      /* held by ourselves, for a moment */
	uint64_t deadline_ns; /* monotonic */
	bool stop;
	pthread_t timer;
};

/* ---- epochs ---- */

struct epoch {
	uint64_t id;
	struct epoch *older, *newer; /* guarded by epochs_lock; live ones only */
	struct cow_snapshot snap;    /* set once; its state and extra guarded by epochs_lock */
	atomic_bool dead;	     /* dropped: views answer -ESTALE */
	bool unsettled;		     /* its space could not be given back; epochs_lock */
	bool unrecorded;	     /* its drop could not be written down; epochs_lock */
	bool internal;		     /* no snapshot: keeps two sessions of the daemon apart */
	unsigned uses;		     /* open files and mounts (D-12); epochs_lock */
	atomic_uint refs;	     /* the list, views, the reclaimer */
	int64_t session_end_ns; /* when the daemon that opened it ended; 0: it runs, or crashed */
	uint64_t next_session;	/* first label of the next daemon, if session_end_ns */

	struct ulock log_lock;	  /* rank LOG: the end of the log */
	int log_fd, dat_fd;	  /* -1 when gone */
	uint64_t log_end;	  /* bytes; log_lock */
	_Atomic uint64_t dat_end; /* bytes; next free place */
	_Atomic uint64_t stored;  /* payload bytes under this label, inherited ones included */
	_Atomic uint64_t changed; /* ATTR records */

	/* Data files of dropped epochs that some records of this one point into; epochs_lock. */
	struct heirloom {
		uint64_t dat;
		int fd;
	} * heirlooms;
	size_t n_heirlooms;
};

/* ---- inodes ---- */

struct coverage; /* clusters known to be preserved in the newest epoch */

struct cow_inode {
	struct cow_inode *next; /* hash chain; shard lock */
	unsigned refs;		/* shard lock */
	uint64_t ino;

	struct ulock lock;   /* rank INODE; guards the rest */
	uint64_t epoch;	     /* the epoch that the rest speaks of; 0: nothing known */
	unsigned generation; /* of the store when it was learnt */
	bool born;	     /* made since the epoch opened: nothing to preserve */
	bool attr_saved;
	uint64_t size;	     /* bytes at the opening, if attr_saved */
	bool coverage_whole; /* what is not in `coverage` is not preserved; else ask the index */
	struct coverage *coverage;
	uint64_t
		placed_in; /* the era in which it got a PLACE record, with its ancestors; 0: not yet */
};

#define INODE_SHARDS 64

struct inode_shard {
	struct ulock lock; /* rank NODES: nothing of ours is taken inside */
	struct cow_inode **buckets;
	size_t n_buckets, n_inodes, n_idle;
};

/* ---- the store ---- */

#define VIEW_DIRS 128 /* directories below kept open for views */

struct cow_store {
	struct cow_options opt; /* callbacks; set once */
	int below_fd, store_fd, grave_fd, lock_fd, control_fd;
	int grave_parent_fd; /* directory that holds "grave": below's .umbra */
	bool elsewhere;	     /* store_dir was given */
	uint32_t dev_major,
		dev_minor; /* of the directory below; other devices are no part of a snapshot */
	uint64_t
		mnt_id; /* of it; another mount of the same file system is no part either. 0: unknown */
	uint64_t root_ino;
	uint64_t seed;
	bool copied; /* the format file is that of another directory: this one and its store are a copy */
	char tree_id[COW_UUID_LEN + 1];
	char boot_id[COW_UUID_LEN + 1];
	struct ulock end_lock;	/* rank LEAF; held to end the session, and for changes of ours that must come before */
	_Atomic int64_t end_ns; /* when it ended; 0: not yet */

	struct gate gate;
	_Atomic(struct epoch *)
		newest;		/* changed with the gate closed, or to NULL: read inside the gate */
	atomic_uint generation; /* bumped when "newest" went back or everything was wiped */
	int trash_fd; /* a graveyard that a wipe moved aside, if trash_used; the reclaimer's */
	atomic_bool trash_used; /* it may still hold links of live files */
	atomic_bool grave_used; /* something may wait in the graveyard */

	struct ulock epochs_lock;      /* rank EPOCHS */
	pthread_cond_t epochs_changed; /* reclaimer has work, or is done */
	struct epoch *oldest;	       /* live list, oldest first */
	struct epoch *last;
	uint64_t
		crowded_out; /* the last one that was dropped unfinished, because nothing fits (F-12) */
	size_t n_epochs;     /* live, internal ones not counted */
	_Atomic uint64_t stored_total; /* payload bytes of all epochs, doomed ones included */
	uint64_t next_epoch;
	_Atomic uint64_t name_seq; /* of the last NAME record; starts at the time of day */
	_Atomic uint64_t era; /* first epoch since there was none: before it nothing was recorded */
	struct epoch *prepared; /* files laid out, no number used yet besides its id */
	struct epoch *doomed;	/* dropped, space not yet given back; by `newer` */
	bool reclaiming, stop;
	unsigned room_wait_ms; /* how long one change waits for what it dropped; set once */
	atomic_uint settled; /* dropped ones given back so far: read beside the lock to see that one more was */
	pthread_t reclaimer;
	struct ulock control_lock; /* rank LOG */
	uint64_t control_end;

	struct ulock loc_lock; /* rank LOC: PLACE records are looked up and put in a row */
	uint64_t place_seq;    /* of the last PLACE record written; loc_lock */
	struct cow_index *index;
	struct inode_shard inodes[INODE_SHARDS];

	struct ulock dirs_lock; /* rank CACHE */
	struct {
		uint64_t ino, used;
		int fd;
		unsigned users;
	} dirs[VIEW_DIRS];
	uint64_t dirs_clock;

	/* A revert. The two atomics are changed by its thread alone or while there is none, `reverting` with the gate
	 * closed (seq_cst: whoever passes the gate after that sees it); who reads them elsewhere decides nothing by both. */
	_Atomic uint64_t
		revert_epoch;	/* begun and not finished: a marker is in the store; 0: none */
	bool revert_cut_off;	/* the one found at the opening had not ended by itself */
	_Atomic bool reverting; /* at work: its snapshot is not dropped, changes are turned away */
	_Atomic bool revert_stop; /* asked to stop */
	struct ulock revert_lock; /* rank LEAF; guards the rest */
	bool revert_busy;	  /* somebody is in cow_revert */
	struct cow_revert_info revert;
};

/* gate.c */
int gate_init(struct cow_store *st);
void gate_done(struct cow_store *st);
void gate_exclusive(
	struct cow_store *st); /* wait for the gate, whoever has it; then hold it for us */
void gate_exclusive_end(struct cow_store *st);
bool gate_is_held(struct cow_store *st); /* by the coordinator's hold; gate.lock held */

void gate_enter_wait(struct cow_store *st); /* cow_gate_enter, however long a hold lasts */

/* revert_marker.c */
int revert_load(struct cow_store *st);	  /* find the marker of an unfinished one */
bool revert_marked(struct cow_store *st); /* there is one, whatever it says */
/* The snapshot that may not be dropped now, 0: none. */
uint64_t revert_pinned(struct cow_store *st);
void revert_dropped(struct cow_store *st, uint64_t epoch); /* that snapshot went; no lock held */

/* epochfile.c: an epoch's log and data files, and the control log */
int epochfile_create(struct cow_store *st, struct epoch *e);
int epochfile_open(struct cow_store *st, struct epoch *e); /* -ENOENT: it was killed */
int epochfile_append(struct cow_store *st, struct epoch *e, const uint8_t *recs, size_t len);
int epochfile_control(struct cow_store *st, enum cow_rec_kind kind, const struct cow_control *c);
int epochfile_each(struct cow_store *st, int fd, uint64_t from,
		   int (*each)(void *ud, const struct cow_rec *r, uint64_t at), void *ud,
		   uint64_t *ret_end);
int epochfile_unlink_log(struct cow_store *st, uint64_t id);
void epochfile_unlink_dat(struct cow_store *st, uint64_t id);
int epochfile_dat_fd(struct cow_store *st, struct epoch *e, uint64_t dat); /* borrowed; -ENOENT */
/* What of e is on record is on disk, whichever file it is in; nothing is added or taken away meanwhile. */
int epochfile_sync(const struct epoch *e);
void epochfile_close(struct epoch *e);

/* epoch.c */
struct epoch *epoch_ref(struct epoch *e);
void epoch_unref(struct epoch *e);
void epoch_link(struct cow_store *st, struct epoch *e); /* as the newest; epochs_lock held */
struct epoch *epoch_newest(struct cow_store *st); /* inside the gate; NULL: nothing to preserve */
int epoch_prepare_internal(struct cow_store *st);
int epoch_open_internal(struct cow_store *st);
/* Make room by dropping the oldest snapshot; inside the gate, no lock held. Returns 1, or 0 when there is none. */
int epoch_drop_oldest(struct cow_store *st, enum cow_drop_cause cause);
uint64_t epoch_oldest_bytes(
	struct cow_store *st); /* payload that dropping the oldest gives back at once */
void epoch_drop_all(struct cow_store *st, enum cow_drop_cause cause);
struct epoch *epoch_get(struct cow_store *st, uint64_t id); /* live, counted, or NULL */
void epoch_doom_locked(struct cow_store *st, struct epoch *e);
int epoch_record_drop_locked(struct cow_store *st, struct epoch *e);

/* reclaim.c */
int reclaim_start(struct cow_store *st);
struct epoch *reclaim_next_locked(struct cow_store *st); /* to be settled next, or NULL */
void reclaim_stop(struct cow_store *st);
/* Wait until what was dropped so far is given back, but not beyond `until_ns` (monotonic), nor once somebody wants to close the
 * gate. No lock held. Was there anything to wait for? */
bool reclaim_wait(struct cow_store *st, uint64_t until_ns);
void reclaim_trash(struct cow_store *st, bool alone);
int reclaim_wipe(struct cow_store *st); /* no epoch lives: forget everything */
/* Does any snapshot know a name of this inode that it has lost since, so that it must wait in the graveyard? */
bool reclaim_has_names(struct cow_store *st, uint64_t ino);

#define HOLE_LEVELS 5
extern const unsigned hole_levels[HOLE_LEVELS]; /* preserve.c: 0 first */

/* inode.c */
int inodes_init(struct cow_store *st);
void inodes_done(struct cow_store *st);
/* Bring ci up to date with the newest epoch; ci->lock held. */
int inode_learn(struct cow_store *st, struct cow_inode *ci, const struct epoch *e);
uint64_t inode_next(const struct cow_inode *ci, uint64_t c, uint64_t end, bool covered);
int inode_cover(struct cow_inode *ci, uint64_t cluster, uint64_t count);
void inode_set_born(struct cow_store *st, struct cow_inode *ci, const struct epoch *e);

/* preserve.c: what a change must save first. All inside the gate; 0, -EAGAIN (a hold is wanted; preserve_data only) or
 * an error for preserve_settle. */
/* The first block of one level from cluster c's on that has a record for `epoch` or a later label; -ENOENT: none that begins
 * before cluster `limit`. `val` may be NULL. */
int preserve_next_block(struct cow_store *st, uint64_t ino, uint64_t epoch, unsigned level,
			uint64_t c, uint64_t limit, uint64_t *ret_block, uint64_t *ret_label,
			struct cow_buf *val);
int preserve_put(struct cow_store *st, struct epoch *e, const uint8_t *rec, size_t len);
int preserve_index(struct cow_store *st, const struct cow_rec *r);
int preserve_attr(struct cow_store *st, struct cow_inode *ci, int fd);
/* The same for one epoch, which was the newest when the caller looked; it may be dropped meanwhile. */
int preserve_attr_in(struct cow_store *st, struct epoch *e, struct cow_inode *ci, int fd);
int preserve_data(struct cow_store *st, struct cow_inode *ci, int fd, off_t off, off_t len_bytes);
int preserve_name(struct cow_store *st, struct cow_inode *dir, int dir_fd, const char *name);
/* Tell an inode apart: has a live snapshot never seen it? */
int preserve_is_born(struct cow_store *st, struct cow_inode *ci, bool *ret);
void preserve_born(struct cow_store *st, struct cow_inode *ci);
/* What I-5 makes of a failure to save: 1 try again (room was made), 0 go on unpreserved, -EAGAIN. */
int preserve_settle(struct cow_store *st, int r);
int preserve_read_xattrs(
	int fd, struct cow_buf *block); /* as ATTR records have them; block starts as {0} */
void attr_from_statx(struct cow_attr *a, const struct statx *sx);
int statx_fix_links(struct cow_store *st, struct statx *sx);

/* place.c: from an inode number to a path that works now */
int place_ensure(struct cow_store *st, struct epoch *e, uint64_t ino);
int place_moved(struct cow_store *st, struct epoch *e, uint64_t ino, const struct cow_spot *now,
		const struct cow_spot *before);
void grave_name(char buf[24], uint64_t ino);
/* An O_PATH descriptor of inode `ino`, by graveyard or PLACE record; -ENOENT. Owned by the caller. */
int place_open(struct cow_store *st, uint64_t ino);
/* Cached descriptor of a directory; give back with place_dir_put. */
int place_dir_cached(struct cow_store *st, uint64_t ino);
void place_dir_cache(struct cow_store *st, uint64_t ino, int fd); /* duplicates fd */
void place_forget_dirs(struct cow_store *st);
bool stat_is_ours(const struct cow_store *st, const struct statx *sx);

/* view.c, also for diff.c */
int view_attr(struct cow_store *st, uint64_t ino, uint64_t epoch, struct cow_buf *buf,
	      struct cow_attr *ret);
/* The same, and under which label it was found. */
int view_attr_label(struct cow_store *st, uint64_t ino, uint64_t epoch, struct cow_buf *buf,
		    struct cow_attr *ret, uint64_t *ret_label);
int view_name(struct cow_store *st, uint64_t dir, const char *name, size_t name_len, uint64_t epoch,
	      uint64_t *ret_target, unsigned *ret_type);

#endif
