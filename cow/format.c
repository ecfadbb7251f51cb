/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cow/format.h"

#include <errno.h>
#include <string.h>

#include "cow/base/bytes.h"
#include "cow/hash.h"

#define MAGIC 0x52424d55u /* "UMBR" */

#define XATTRS_LACK_SOME 0xff

enum { OFF_LEN = 4, OFF_KIND = 8, OFF_FLAGS = 10, OFF_EPOCH = 16, OFF_HASH = 24 };

enum {
	FAMILY_ATTR = 'A',
	FAMILY_BIRTH = 'B',
	FAMILY_DATA = 'D',
	FAMILY_MARK = 'M',
	FAMILY_NAME = 'N',
	FAMILY_PLACE = 'P',
	FAMILY_BACK = 'R',
};

/* Over the whole record but the hash itself: the header chains into the body. */
static uint64_t record_hash(const uint8_t *rec, size_t len, uint64_t seed)
{
	uint64_t head = cow_hash(rec, OFF_HASH, seed);

	return cow_hash(rec + COW_REC_HEADER, len - COW_REC_HEADER, head);
}

/* -- writing -- */

struct out {
	uint8_t *buf;
	size_t len;
	bool over;
};

static uint8_t *room(struct out *o, size_t n)
{
	uint8_t *p = o->buf + o->len;

	if (n > COW_REC_MAX - o->len) {
		o->over = true;
		return NULL;
	}
	o->len += n;
	return p;
}

static void w8(struct out *o, uint8_t v)
{
	uint8_t *p = room(o, 1);

	if (p)
		*p = v;
}

static void w16(struct out *o, uint16_t v)
{
	uint8_t *p = room(o, 2);

	if (p)
		put_le16(p, v);
}

static void w32(struct out *o, uint32_t v)
{
	uint8_t *p = room(o, 4);

	if (p)
		put_le32(p, v);
}

static void w64(struct out *o, uint64_t v)
{
	uint8_t *p = room(o, 8);

	if (p)
		put_le64(p, v);
}

static void wbytes(struct out *o, const void *data, size_t len)
{
	uint8_t *p = room(o, len);

	if (p && len)
		memcpy(p, data, len);
}

static void wstr(struct out *o, const char *s, size_t len)
{
	w16(o, (uint16_t)len);
	wbytes(o, s, len);
}

static struct out begin(uint8_t *buf)
{
	memset(buf, 0, COW_REC_HEADER);
	return (struct out){ .buf = buf, .len = COW_REC_HEADER };
}

static ssize_t finish(struct out *o, uint64_t seed, uint64_t epoch, enum cow_rec_kind kind)
{
	while (o->len % 8 && !o->over)
		w8(o, 0);
	if (o->over)
		return -E2BIG;
	put_le32(o->buf, MAGIC);
	put_le32(o->buf + OFF_LEN, (uint32_t)o->len);
	put_le16(o->buf + OFF_KIND, (uint16_t)kind);
	put_le64(o->buf + OFF_EPOCH, epoch);
	put_le64(o->buf + OFF_HASH, record_hash(o->buf, o->len, seed));
	return (ssize_t)o->len;
}

ssize_t cow_format_attr(uint8_t *buf, uint64_t seed, uint64_t epoch, const struct cow_attr *a)
{
	struct out o = begin(buf);

	w64(&o, a->ino);
	w32(&o, a->mode);
	w32(&o, a->uid);
	w32(&o, a->gid);
	w32(&o, a->nlink);
	w32(&o, a->blksize);
	w32(&o, a->has_btime);
	w64(&o, a->rdev_major);
	w64(&o, a->rdev_minor);
	w64(&o, a->size);
	w64(&o, a->blocks);
	w64(&o, (uint64_t)a->atime);
	w64(&o, (uint64_t)a->mtime);
	w64(&o, (uint64_t)a->ctime);
	w64(&o, (uint64_t)a->btime);
	w32(&o, a->atime_ns);
	w32(&o, a->mtime_ns);
	w32(&o, a->ctime_ns);
	w32(&o, a->btime_ns);
	w32(&o, (uint32_t)a->xattrs_len);
	wbytes(&o, a->xattrs, a->xattrs_len);
	return finish(&o, seed, epoch, COW_REC_ATTR);
}

ssize_t cow_format_name(uint8_t *buf, uint64_t seed, uint64_t epoch, const struct cow_name *n)
{
	struct out o = begin(buf);

	w64(&o, n->dir);
	w64(&o, n->target);
	w64(&o, n->seq);
	w8(&o, (uint8_t)n->type);
	wstr(&o, n->name, n->name_len);
	return finish(&o, seed, epoch, COW_REC_NAME);
}

ssize_t cow_format_data(uint8_t *buf, uint64_t seed, uint64_t epoch, const struct cow_data *d)
{
	struct out o = begin(buf);

	w64(&o, d->ino);
	w64(&o, d->block);
	w64(&o, d->dat);
	w64(&o, d->off);
	w64(&o, d->hash);
	w32(&o, d->len);
	w32(&o, d->level);
	return finish(&o, seed, epoch, COW_REC_DATA);
}

ssize_t cow_format_birth(uint8_t *buf, uint64_t seed, uint64_t epoch, uint64_t ino)
{
	struct out o = begin(buf);

	w64(&o, ino);
	return finish(&o, seed, epoch, COW_REC_BIRTH);
}

static void wspot(struct out *o, const struct cow_spot *s)
{
	w64(o, s->parent);
	wstr(o, s->name, strlen(s->name));
}

ssize_t cow_format_place(uint8_t *buf, uint64_t seed, uint64_t epoch, const struct cow_place *p)
{
	struct out o = begin(buf);

	w64(&o, p->ino);
	w64(&o, p->era);
	w64(&o, p->seq);
	wspot(&o, &p->now);
	wspot(&o, &p->before);
	return finish(&o, seed, epoch, COW_REC_PLACE);
}

ssize_t cow_format_control(uint8_t *buf, uint64_t seed, enum cow_rec_kind kind,
			   const struct cow_control *c)
{
	struct out o = begin(buf);

	if (kind == COW_REC_OPEN) {
		const struct cow_snapshot *s = &c->snap;

		wbytes(&o, s->id, COW_UUID_LEN);
		wbytes(&o, s->set_id, COW_UUID_LEN);
		w32(&o, s->context);
		w32(&o, s->in_set);
		w64(&o, (uint64_t)s->opened_ns);
		w64(&o, c->era);
		wstr(&o, s->label, strlen(s->label));
		wstr(&o, s->name, strlen(s->name));
		w32(&o, (uint32_t)c->extra_len);
		wbytes(&o, s->extra, c->extra_len);
	} else if (kind == COW_REC_COMMIT) {
		w32(&o, (uint32_t)c->extra_len);
		wbytes(&o, c->snap.extra, c->extra_len);
	} else if (kind == COW_REC_DROPPED) {
		w64(&o, c->heir);
	} else if (kind == COW_REC_SESSION) {
		w32(&o, c->session_end);
		w64(&o, (uint64_t)c->time_ns);
		wbytes(&o, c->boot_id, COW_UUID_LEN);
	}
	return finish(&o, seed, c->epoch, kind);
}

ssize_t cow_format_relabel(uint8_t *buf, uint64_t seed, uint64_t epoch, enum cow_rec_kind kind,
			   const uint8_t *body, size_t body_len)
{
	struct out o = begin(buf);

	wbytes(&o, body, body_len);
	return finish(&o, seed, epoch, kind);
}

ssize_t cow_format_add_xattr(uint8_t *buf, size_t len, size_t size, const char *name,
			     const void *value, size_t value_len)
{
	size_t name_len = strlen(name), need = 6 + name_len + value_len;

	if (name_len > UINT16_MAX || value_len > UINT32_MAX || len > size || need > size - len)
		return -E2BIG;
	put_le16(buf + len, (uint16_t)name_len);
	put_le32(buf + len + 2, (uint32_t)value_len);
	memcpy(buf + len + 6, name, name_len);
	if (value_len)
		memcpy(buf + len + 6 + name_len, value, value_len);
	return (ssize_t)(len + need);
}

size_t cow_format_end_xattrs(uint8_t *buf, size_t len)
{
	buf[len] = XATTRS_LACK_SOME;
	return len + 1;
}

const char *const cow_format_vital_xattrs[] = {
	"system.posix_acl_access",
	"system.posix_acl_default",
	"security.capability",
	NULL,
};

bool cow_format_xattr_is_vital(const char *name)
{
	for (const char *const *vital = cow_format_vital_xattrs; *vital; vital++)
		if (strcmp(name, *vital) == 0)
			return true;
	return false;
}

/* -- reading -- */

struct in {
	const uint8_t *p;
	size_t left;
	bool bad;
};

static const uint8_t *take(struct in *i, size_t n)
{
	const uint8_t *p = i->p;

	if (i->bad || n > i->left) {
		i->bad = true;
		return NULL;
	}
	i->p += n;
	i->left -= n;
	return p;
}

static uint8_t r8(struct in *i)
{
	const uint8_t *p = take(i, 1);

	return p ? *p : 0;
}

static uint16_t r16(struct in *i)
{
	const uint8_t *p = take(i, 2);

	return p ? get_le16(p) : 0;
}

static uint32_t r32(struct in *i)
{
	const uint8_t *p = take(i, 4);

	return p ? get_le32(p) : 0;
}

static uint64_t r64(struct in *i)
{
	const uint8_t *p = take(i, 8);

	return p ? get_le64(p) : 0;
}

/* A counted string into a buffer of `size`, NUL-terminated. */
static void rstr(struct in *i, char *ret, size_t size)
{
	size_t len = r16(i);
	const uint8_t *p = take(i, len);

	ret[0] = '\0';
	if (!p || len >= size || memchr(p, '\0', len)) {
		i->bad = true;
		return;
	}
	memcpy(ret, p, len);
	ret[len] = '\0';
}

static void ruuid(struct in *i, char ret[COW_UUID_LEN + 1])
{
	const uint8_t *p = take(i, COW_UUID_LEN);

	memset(ret, 0, COW_UUID_LEN + 1);
	if (p)
		memcpy(ret, p, COW_UUID_LEN);
}

static int end(const struct in *i)
{
	return i->bad || i->left > 7 ? -EUCLEAN : 0; /* at most padding may be left */
}

ssize_t cow_format_parse(const uint8_t *buf, size_t len, uint64_t seed, struct cow_rec *ret)
{
	uint32_t whole;

	if (len < COW_REC_HEADER)
		return 0;
	whole = get_le32(buf + OFF_LEN);
	if (get_le32(buf) != MAGIC || whole < COW_REC_HEADER || whole > COW_REC_MAX || whole % 8)
		return -EUCLEAN;
	if (whole > len)
		return 0;
	if (record_hash(buf, whole, seed) != get_le64(buf + OFF_HASH))
		return -EUCLEAN;
	ret->kind = get_le16(buf + OFF_KIND);
	ret->epoch = get_le64(buf + OFF_EPOCH);
	ret->body = buf + COW_REC_HEADER;
	ret->body_len = whole - COW_REC_HEADER;
	return (ssize_t)whole;
}

struct cow_rec cow_format_view(const uint8_t *buf, size_t len)
{
	return (struct cow_rec){
		.kind = get_le16(buf + OFF_KIND),
		.epoch = get_le64(buf + OFF_EPOCH),
		.body = buf + COW_REC_HEADER,
		.body_len = len - COW_REC_HEADER,
	};
}

int cow_format_get_attr(const uint8_t *body, size_t len, struct cow_attr *ret)
{
	struct in i = { body, len, false };
	struct cow_attr a = { 0 };

	a.ino = r64(&i);
	a.mode = r32(&i);
	a.uid = r32(&i);
	a.gid = r32(&i);
	a.nlink = r32(&i);
	a.blksize = r32(&i);
	a.has_btime = r32(&i);
	a.rdev_major = r64(&i);
	a.rdev_minor = r64(&i);
	a.size = r64(&i);
	a.blocks = r64(&i);
	a.atime = (int64_t)r64(&i);
	a.mtime = (int64_t)r64(&i);
	a.ctime = (int64_t)r64(&i);
	a.btime = (int64_t)r64(&i);
	a.atime_ns = r32(&i);
	a.mtime_ns = r32(&i);
	a.ctime_ns = r32(&i);
	a.btime_ns = r32(&i);
	a.xattrs_len = r32(&i);
	a.xattrs = take(&i, a.xattrs_len);
	if (end(&i) < 0)
		return -EUCLEAN;
	*ret = a;
	return 0;
}

int cow_format_get_name(const uint8_t *body, size_t len, struct cow_name *ret)
{
	struct in i = { body, len, false };
	struct cow_name n = { 0 };

	n.dir = r64(&i);
	n.target = r64(&i);
	n.seq = r64(&i);
	n.type = r8(&i);
	n.name_len = r16(&i);
	n.name = (const char *)take(&i, n.name_len);
	if (end(&i) < 0 || n.name_len == 0 || n.name_len > COW_NAME_MAX_LEN)
		return -EUCLEAN;
	*ret = n;
	return 0;
}

int cow_format_get_data(const uint8_t *body, size_t len, struct cow_data *ret)
{
	struct in i = { body, len, false };
	struct cow_data d = { 0 };

	d.ino = r64(&i);
	d.block = r64(&i);
	d.dat = r64(&i);
	d.off = r64(&i);
	d.hash = r64(&i);
	d.len = r32(&i);
	d.level = r32(&i);
	if (end(&i) < 0 || d.level > 63 || (d.dat && d.level))
		return -EUCLEAN;
	*ret = d;
	return 0;
}

static void rspot(struct in *i, struct cow_spot *s)
{
	s->parent = r64(i);
	rstr(i, s->name, sizeof(s->name));
}

int cow_format_get_place(const uint8_t *body, size_t len, struct cow_place *ret)
{
	struct in i = { body, len, false };

	ret->ino = r64(&i);
	ret->era = r64(&i);
	ret->seq = r64(&i);
	rspot(&i, &ret->now);
	rspot(&i, &ret->before);
	return end(&i);
}

int cow_format_get_ino(const uint8_t *body, size_t len, uint64_t *ret)
{
	if (len < 8)
		return -EUCLEAN;
	*ret = get_le64(body);
	return 0;
}

static void get_extra(struct in *i, struct cow_control *c)
{
	c->extra_len = r32(i);
	c->snap.extra = (char *)(uintptr_t)take(i, c->extra_len);
	if (c->extra_len > COW_EXTRA_MAX)
		i->bad = true;
}

static void get_open(struct in *i, struct cow_control *c)
{
	struct cow_snapshot *s = &c->snap;

	ruuid(i, s->id);
	ruuid(i, s->set_id);
	s->context = r32(i);
	s->in_set = r32(i);
	s->opened_ns = (int64_t)r64(i);
	c->era = r64(i);
	rstr(i, s->label, sizeof(s->label));
	rstr(i, s->name, sizeof(s->name));
	get_extra(i, c);
	if (s->context < COW_CTX_BACKUP || s->context >= COW_CTX_ALL)
		i->bad = true;
}

int cow_format_get_control(const struct cow_rec *r, struct cow_control *ret)
{
	struct in i = { r->body, r->body_len, false };

	memset(ret, 0, sizeof(*ret));
	ret->epoch = r->epoch;
	ret->snap.epoch = r->epoch;
	switch (r->kind) {
	case COW_REC_OPEN:
		get_open(&i, ret);
		break;
	case COW_REC_DROPPED:
		ret->heir = r64(&i);
		break;
	case COW_REC_SESSION:
		ret->session_end = r32(&i);
		ret->time_ns = (int64_t)r64(&i);
		ruuid(&i, ret->boot_id);
		break;
	case COW_REC_COMMIT:
		get_extra(&i, ret);
		break;
	case COW_REC_DROP:
		break;
	default:
		return -EUCLEAN;
	}
	return end(&i);
}

int cow_format_next_xattr(const uint8_t *xattrs, size_t len, size_t *pos, const char **ret_name,
			  size_t *ret_name_len, const void **ret_value, size_t *ret_value_len)
{
	struct in i = { xattrs + *pos, len - *pos, false };

	if (*pos >= len)
		return 0;
	if (i.left == 1 && *i.p == XATTRS_LACK_SOME)
		return -EIO;
	*ret_name_len = r16(&i);
	*ret_value_len = r32(&i);
	*ret_name = (const char *)take(&i, *ret_name_len);
	*ret_value = take(&i, *ret_value_len);
	if (i.bad)
		return -EUCLEAN;
	*pos = len - i.left;
	return 1;
}

/* -- keys -- */

static size_t k64(uint8_t *key, size_t at, uint64_t v)
{
	put_be64(key + at, v);
	return at + 8;
}

size_t cow_key_attr(uint8_t *key, uint64_t ino, uint64_t epoch)
{
	key[0] = FAMILY_ATTR;
	return k64(key, k64(key, 1, ino), epoch);
}

static size_t key_named(uint8_t *key, size_t at, const char *name, size_t name_len, uint64_t epoch)
{
	memcpy(key + at, name, name_len);
	at += name_len;
	key[at++] = '\0'; /* no name has one: "ab" never is a prefix of "abc" */
	return k64(key, at, epoch);
}

size_t cow_key_name(uint8_t *key, uint64_t dir, const char *name, size_t name_len, uint64_t epoch)
{
	key[0] = FAMILY_NAME;
	return key_named(key, k64(key, 1, dir), name, name_len, epoch);
}

size_t cow_key_data(uint8_t *key, uint64_t ino, unsigned level, uint64_t block, uint64_t epoch)
{
	return k64(key, k64(key, cow_key_level_prefix(key, ino, level), block), epoch);
}

size_t cow_key_birth(uint8_t *key, uint64_t ino)
{
	key[0] = FAMILY_BIRTH;
	return k64(key, 1, ino);
}

size_t cow_key_place(uint8_t *key, uint64_t ino)
{
	key[0] = FAMILY_PLACE;
	return k64(key, 1, ino);
}

size_t cow_key_back(uint8_t *key, uint64_t target, uint64_t dir, const char *name, size_t name_len,
		    uint64_t epoch)
{
	return key_named(key, k64(key, cow_key_back_prefix(key, target), dir), name, name_len,
			 epoch);
}

size_t cow_key_mark(uint8_t *key, uint64_t epoch)
{
	key[0] = FAMILY_MARK;
	return k64(key, 1, epoch);
}

uint64_t cow_key_get_epoch(const uint8_t *key, size_t len)
{
	return get_be64(key + len - COW_KEY_EPOCH_LEN);
}

uint64_t cow_key_get_block(const uint8_t *key)
{
	return get_be64(key + 10);
}

size_t cow_key_dir_prefix(uint8_t *key, uint64_t dir)
{
	key[0] = FAMILY_NAME;
	return k64(key, 1, dir);
}

size_t cow_key_back_prefix(uint8_t *key, uint64_t target)
{
	key[0] = FAMILY_BACK;
	return k64(key, 1, target);
}

size_t cow_key_level_prefix(uint8_t *key, uint64_t ino, unsigned level)
{
	size_t at;

	key[0] = FAMILY_DATA;
	at = k64(key, 1, ino);
	key[at++] = (uint8_t)level;
	return at;
}

static int get_named(const uint8_t *key, size_t len, size_t at, const char **ret_name,
		     size_t *ret_name_len, uint64_t *ret_epoch)
{
	if (len < at + 2 + COW_KEY_EPOCH_LEN)
		return -EUCLEAN;
	*ret_name = (const char *)key + at;
	*ret_name_len = len - at - 1 - COW_KEY_EPOCH_LEN;
	*ret_epoch = cow_key_get_epoch(key, len);
	return *ret_name_len > COW_NAME_MAX_LEN ? -EUCLEAN : 0;
}

int cow_key_get_name(const uint8_t *key, size_t len, uint64_t *ret_dir, const char **ret_name,
		     size_t *ret_name_len, uint64_t *ret_epoch)
{
	if (len < 9 || key[0] != FAMILY_NAME)
		return -EUCLEAN;
	*ret_dir = get_be64(key + 1);
	return get_named(key, len, 9, ret_name, ret_name_len, ret_epoch);
}

int cow_key_get_back(const uint8_t *key, size_t len, uint64_t *ret_target, uint64_t *ret_dir,
		     const char **ret_name, size_t *ret_name_len, uint64_t *ret_epoch)
{
	if (len < 17 || key[0] != FAMILY_BACK)
		return -EUCLEAN;
	*ret_target = get_be64(key + 1);
	*ret_dir = get_be64(key + 9);
	return get_named(key, len, 17, ret_name, ret_name_len, ret_epoch);
}

int cow_format_key(const struct cow_rec *r, uint8_t *key, size_t *ret_len)
{
	struct cow_attr a;
	struct cow_name n;
	struct cow_data d;
	uint64_t ino;
	int e;

	switch (r->kind) {
	case COW_REC_ATTR:
		e = cow_format_get_attr(r->body, r->body_len, &a);
		if (!e)
			*ret_len = cow_key_attr(key, a.ino, r->epoch);
		return e;
	case COW_REC_NAME:
		e = cow_format_get_name(r->body, r->body_len, &n);
		if (!e)
			*ret_len = cow_key_name(key, n.dir, n.name, n.name_len, r->epoch);
		return e;
	case COW_REC_DATA:
		e = cow_format_get_data(r->body, r->body_len, &d);
		if (!e)
			*ret_len = cow_key_data(key, d.ino, d.level, d.block, r->epoch);
		return e;
	case COW_REC_BIRTH:
		e = cow_format_get_ino(r->body, r->body_len, &ino);
		if (!e)
			*ret_len = cow_key_birth(key, ino);
		return e;
	case COW_REC_PLACE:
		e = cow_format_get_ino(r->body, r->body_len, &ino);
		if (!e)
			*ret_len = cow_key_place(key, ino);
		return e;
	default:
		*ret_len = 0;
		return 0;
	}
}
