/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "cow/store_private.h"
#include "tests/support/deeds.h"
#include "tests/support/leaks.h"

static struct harness h;

static void setup(void)
{
	cr_assert_eq(harness_init(&h, NULL), 0);
	cr_assert_eq(harness_open(&h), 0, "%s", h.why);
}

static void teardown(void)
{
	harness_done(&h);
}

TestSuite(cow_view, .init = setup, .fini = teardown, .timeout = 60);

static void live_stat(const char *path, struct statx *ret)
{
	cr_assert_eq(statx(h.fd, path, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH,
			   STATX_BASIC_STATS | STATX_BTIME, ret),
		     0);
}

static bool same_time(struct statx_timestamp a, struct statx_timestamp b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static void same_stat(const struct statx *a, const struct statx *b)
{
	cr_assert_eq(a->stx_ino, b->stx_ino);
	cr_assert_eq(a->stx_mode, b->stx_mode);
	cr_assert_eq(a->stx_nlink, b->stx_nlink);
	cr_assert(a->stx_uid == b->stx_uid && a->stx_gid == b->stx_gid);
	cr_assert_eq(a->stx_size, b->stx_size);
	cr_assert_eq(a->stx_blocks, b->stx_blocks);
	cr_assert(a->stx_rdev_major == b->stx_rdev_major && a->stx_rdev_minor == b->stx_rdev_minor);
	cr_assert(same_time(a->stx_mtime, b->stx_mtime), "mtime");
	cr_assert(same_time(a->stx_ctime, b->stx_ctime), "ctime");
	cr_assert(!(a->stx_mask & b->stx_mask & STATX_BTIME) ||
			  same_time(a->stx_btime, b->stx_btime),
		  "btime");
}

/* -- names -- */

Test(cow_view, names_are_those_of_the_opening_whatever_came_after)
{
	uint64_t a, b;

	deed_mkdir(&h, "d");
	deed_create(&h, "d/kept", "kept");
	deed_create(&h, "d/gone", "gone");
	deed_create(&h, "d/moved", "moved");
	deed_create(&h, "d/over", "was over");
	a = deed_snapshot(&h);
	deed_create(&h, "d/new", "new");
	deed_unlink(&h, "d/gone");
	deed_rename(&h, "d/moved", "away", 0);
	deed_rename(&h, "d/new", "d/over", 0);
	b = deed_snapshot(&h);
	deed_rename(&h, "d/kept", "d/over", RENAME_EXCHANGE);
	deed_rename(&h, "d", "e", 0);

	look_lists(&h, a, "", "d ");
	look_lists(&h, a, "d", "gone kept moved over ");
	look_is(&h, a, "d/kept", "kept");
	look_is(&h, a, "d/gone", "gone");
	look_is(&h, a, "d/moved", "moved");
	look_is(&h, a, "d/over", "was over");
	cr_assert_eq(look_up(&h, a, "d/new"), -ENOENT);
	cr_assert_eq(look_up(&h, a, "away"), -ENOENT);
	cr_assert_eq(look_up(&h, a, "e"), -ENOENT);

	look_lists(&h, b, "", "away d ");
	look_lists(&h, b, "d", "kept over ");
	look_is(&h, b, "d/kept", "kept");
	look_is(&h, b, "d/over", "new");
	look_is(&h, b, "away", "moved");
	assert_no_leaks();
}

Test(cow_view, a_name_taken_away_and_made_again_is_the_old_one)
{
	uint64_t a, b, old, new;
	struct statx sx;

	deed_create(&h, "f", "first");
	old = deed_ino(&h, "f");
	a = deed_snapshot(&h);
	deed_unlink(&h, "f");
	deed_create(&h, "f", "second");
	new = deed_ino(&h, "f");
	b = deed_snapshot(&h);
	deed_unlink(&h, "f");
	deed_mkdir(&h, "f");
	cr_assert_neq(old, new, "a preserved inode keeps its number");
	look_is(&h, a, "f", "first");
	look_is(&h, b, "f", "second");
	cr_assert_eq(look_stat(&h, a, "f", &sx), 0);
	cr_assert_eq(sx.stx_ino, old);
	cr_assert_eq(look_stat(&h, b, "f", &sx), 0);
	cr_assert_eq(sx.stx_ino, new);
	assert_no_leaks();
}

/* H-7 */
Test(cow_view, a_file_that_is_open_and_has_no_name_is_in_no_snapshot)
{
	struct cow_inode *ci;
	uint64_t ino, s;
	ssize_t n;
	int fd;

	deed_create(&h, "f", "text");
	ino = deed_ino(&h, "f");
	fd = openat(h.fd, "f", O_RDWR | O_CLOEXEC);
	ci = cow_inode_get(h.st, ino);
	cr_assert(fd >= 0 && ci);
	deed_unlink(&h, "f");
	s = deed_snapshot(&h);
	cr_assert_eq(look_up(&h, s, "f"), -ENOENT);
	look_lists(&h, s, "", "");
	HARNESS_CHANGE(&h, n, cow_write(h.st, ci, fd, "TEXT", 4, 0)); /* it can still be used */
	cr_assert_eq(n, 4);
	cow_inode_put(h.st, ci);
	close(fd);
	assert_no_leaks();
}

Test(cow_view, a_removed_tree_is_read_as_it_was)
{
	uint64_t s;

	deed_mkdir(&h, "a");
	deed_mkdir(&h, "a/b");
	deed_mkdir(&h, "a/b/c");
	deed_create(&h, "a/b/c/f", "deep");
	s = deed_snapshot(&h);
	deed_unlink(&h, "a/b/c/f");
	deed_rmdir(&h, "a/b/c");
	deed_rmdir(&h, "a/b");
	deed_rmdir(&h, "a");
	look_is(&h, s, "a/b/c/f", "deep");
	look_lists(&h, s, "a/b", "c ");
	look_lists(&h, s, "a/b/c", "f ");
	assert_no_leaks();
}

Test(cow_view, the_store_is_no_part_of_a_snapshot)
{
	uint64_t s = deed_snapshot(&h);
	struct statx sx;

	look_lists(&h, s, "", "");
	cr_assert_eq(look_up(&h, s, COW_STORE_NAME), -ENOENT);
	cr_assert_eq(look_stat(&h, s, "", &sx), 0);
	cr_assert(sx.stx_nlink <= 2, "%u links", sx.stx_nlink);
	assert_no_leaks();
}

Test(cow_view, look_ups_that_cannot_be_are_refused)
{
	char name[300] = "";
	struct cow_vnode *vn = NULL;
	struct cow_vfile *f = NULL;
	struct cow_vdir *d = NULL;
	struct cow_view *v = NULL;
	uint64_t s;

	deed_create(&h, "f", "text");
	deed_mkdir(&h, "d");
	s = deed_snapshot(&h);
	cr_assert_eq(look_up(&h, s, "no"), -ENOENT);
	cr_assert_eq(look_up(&h, s, "f/no"), -ENOTDIR);
	memset(name, 'n', 256);
	cr_assert_eq(look_up(&h, s, name), -ENAMETOOLONG);
	name[255] = '\0';
	cr_assert_eq(look_up(&h, s, name), -ENOENT);
	cr_assert_eq(cow_view_open(h.st, s + 1, true, &v), -ENOENT);
	cr_assert_null(v);
	cr_assert_eq(look(&h, s, "d", &vn), 0);
	cr_assert_eq(cow_vfile_open(vn, &f), -EINVAL);
	cr_assert_eq(cow_vnode_readlink(vn, name, sizeof(name)), -EINVAL);
	cow_vnode_put(vn);
	cr_assert_eq(look(&h, s, "f", &vn), 0);
	cr_assert_eq(cow_vdir_open(vn, &d), -ENOTDIR);
	cr_assert(!f && !d);
	cow_vnode_put(vn);
	vn = NULL;
	assert_no_leaks();
}

Test(cow_view, an_offset_in_an_open_directory_stays_good)
{
	struct cow_vnode *root;
	struct cow_dirent e;
	struct cow_vdir *d;
	uint64_t s, offs[20], inos[20], off = 0;
	unsigned n = 0;

	for (unsigned i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%u", i);
		deed_create(&h, name, "");
	}
	s = deed_snapshot(&h);
	cr_assert_eq(look(&h, s, "", &root), 0);
	cr_assert_eq(cow_vdir_open(root, &d), 0);
	while (cow_vdir_read(d, off, &e) == 1) {
		cr_assert_lt(n, 20);
		offs[n] = off;
		inos[n++] = e.ino;
		off = e.next;
	}
	cr_assert_eq(n, 20);
	deed_unlink(&h, "f3");
	deed_create(&h, "new", "");
	for (unsigned i = 20; i-- > 0;) {
		cr_assert_eq(cow_vdir_read(d, offs[i], &e), 1);
		cr_assert_eq(e.ino, inos[i]);
		cr_assert_eq(e.type, DT_REG);
	}
	cow_vdir_close(d);
	cow_vnode_put(root);
	root = NULL;
	d = NULL;
	assert_no_leaks();
}

/* -- attributes, links, xattrs -- */

Test(cow_view, attributes_are_those_of_the_opening)
{
	static const char *const paths[] = { "f", "d", "l", "p" };
	struct statx want[4], got;
	uint64_t s;

	deed_create(&h, "f", "text");
	deed_mkdir(&h, "d");
	deed_symlink(&h, "l", "target");
	deed_mknod(&h, "p", S_IFIFO | 0640, 0);
	for (unsigned i = 0; i < 4; i++)
		live_stat(paths[i], &want[i]);
	s = deed_snapshot(&h);
	for (unsigned i = 0; i < 4; i++) {
		cr_assert_eq(look_stat(&h, s, paths[i], &got), 0);
		same_stat(&want[i], &got);
	}
	deed_chmod(&h, "f", 0);
	deed_write(&h, "f", 0, "longer than it was");
	deed_chmod(&h, "d", 0700);
	deed_create(&h, "d/new", "");
	deed_unlink(&h, "l");
	deed_unlink(&h, "p");
	for (unsigned i = 0; i < 4; i++) {
		cr_assert_eq(look_stat(&h, s, paths[i], &got), 0, "%s", paths[i]);
		same_stat(&want[i], &got);
	}
	assert_no_leaks();
}

Test(cow_view, link_counts_are_the_user_s_own)
{
	struct statx sx;
	uint64_t a, b;

	deed_create(&h, "one", "text");
	deed_link(&h, "one", "two");
	a = deed_snapshot(&h);
	deed_unlink(&h, "two");
	b = deed_snapshot(&h);
	cr_assert_eq(look_stat(&h, a, "one", &sx), 0);
	cr_assert_eq(sx.stx_nlink, 2);
	cr_assert_eq(look_stat(&h, a, "two", &sx), 0);
	cr_assert_eq(sx.stx_nlink, 2);
	cr_assert_eq(look_stat(&h, b, "one", &sx), 0);
	cr_assert_eq(sx.stx_nlink, 1, "%u: the graveyard's link shows", sx.stx_nlink);
	live_stat("one", &sx);
	cr_assert_eq(sx.stx_nlink - cow_inode_extra_links(h.st, sx.stx_ino), 1);
	assert_no_leaks();
}

Test(cow_view, a_link_is_read_after_it_was_replaced)
{
	struct cow_vnode *vn;
	char buf[64];
	uint64_t s;

	deed_symlink(&h, "l", "the old target");
	s = deed_snapshot(&h);
	deed_unlink(&h, "l");
	deed_symlink(&h, "l", "new");
	cr_assert_eq(look(&h, s, "l", &vn), 0);
	cr_assert_eq(cow_vnode_readlink(vn, buf, sizeof(buf)), 14);
	cr_assert_str_eq(buf, "the old target");
	cr_assert_eq(cow_vnode_readlink(vn, buf, 15), 14);
	cr_assert_eq(cow_vnode_readlink(vn, buf, 14), -ERANGE);
	cow_vnode_put(vn);
	vn = NULL;
	assert_no_leaks();
}

Test(cow_view, xattrs_are_those_of_the_opening)
{
	struct cow_vnode *vn;
	char buf[256];
	uint64_t s;
	ssize_t n;
	int r;

	deed_create(&h, "f", "text");
	r = deed_setxattr(&h, "f", "user.kept", "kept");
	if (r == -EOPNOTSUPP)
		cr_skip_test("no xattrs of users here");
	cr_assert_eq(r, 0);
	cr_assert_eq(deed_setxattr(&h, "f", "user.gone", "gone"), 0);
	cr_assert_eq(deed_setxattr(&h, "f", "user.changed", "before"), 0);
	s = deed_snapshot(&h);
	for (unsigned changed = 0; changed < 2; changed++) {
		cr_assert_eq(look(&h, s, "f", &vn), 0);
		n = cow_vnode_getxattr(vn, "user.kept", buf, sizeof(buf));
		cr_assert(n == 4 && memcmp(buf, "kept", 4) == 0);
		n = cow_vnode_getxattr(vn, "user.gone", buf, sizeof(buf));
		cr_assert(n == 4 && memcmp(buf, "gone", 4) == 0);
		n = cow_vnode_getxattr(vn, "user.changed", buf, sizeof(buf));
		cr_assert(n == 6 && memcmp(buf, "before", 6) == 0);
		cr_assert_eq(cow_vnode_getxattr(vn, "user.changed", NULL, 0), 6);
		cr_assert_eq(cow_vnode_getxattr(vn, "user.changed", buf, 5), -ERANGE);
		cr_assert_eq(cow_vnode_getxattr(vn, "user.new", buf, sizeof(buf)), -ENODATA);
		n = cow_vnode_listxattr(vn, NULL, 0);
		cr_assert_geq(n, 33);
		cr_assert_eq(cow_vnode_listxattr(vn, buf, sizeof(buf)), n);
		cr_assert(memmem(buf, (size_t)n, "user.kept", 10) &&
			  memmem(buf, (size_t)n, "user.gone", 10) &&
			  memmem(buf, (size_t)n, "user.changed", 13) &&
			  !memmem(buf, (size_t)n, "user.new", 9));
		cr_assert_eq(cow_vnode_listxattr(vn, buf, (size_t)n - 1), -ERANGE);
		cow_vnode_put(vn);
		if (!changed) {
			cr_assert_eq(deed_removexattr(&h, "f", "user.gone"), 0);
			cr_assert_eq(deed_setxattr(&h, "f", "user.changed", "after it"), 0);
			cr_assert_eq(deed_setxattr(&h, "f", "user.new", "new"), 0);
		}
	}
	vn = NULL;
	assert_no_leaks();
}

/* -- data -- */

Test(cow_view, data_are_those_of_the_opening_at_every_offset)
{
	enum { CLUSTERS = 8, SIZE = CLUSTERS * COW_CLUSTER_SIZE + 100 };
	static char want[SIZE], got[SIZE + 10];
	struct cow_vnode *vn;
	struct cow_vfile *f;
	uint64_t s;

	for (unsigned i = 0; i < SIZE; i++)
		want[i] = (char)(i * 7 + i / 4096);
	deed_create(&h, "f", "");
	deed_write_bytes(&h, "f", 0, want, SIZE);
	s = deed_snapshot(&h);
	deed_fill(&h, "f", COW_CLUSTER_SIZE + 10, 20, 'x');   /* inside a cluster */
	deed_fill(&h, "f", 3 * COW_CLUSTER_SIZE - 1, 2, 'x'); /* over a border */
	deed_fill(&h, "f", SIZE - 1, 5000, 'x');	      /* over the end */
	deed_truncate(&h, "f", 6 * COW_CLUSTER_SIZE + 1);
	cr_assert_eq(look(&h, s, "f", &vn), 0);
	cr_assert_eq(cow_vfile_open(vn, &f), 0);
	for (unsigned at = 0; at < SIZE; at += 97)
		for (size_t len = 1; len < SIZE; len = len * 5 + 1) {
			size_t expect = len < SIZE - at ? len : SIZE - at;

			memset(got, 0x55, sizeof(got));
			cr_assert_eq(cow_vfile_read(f, got, len, at), (ssize_t)expect);
			cr_assert_arr_eq(got, want + at, expect);
			cr_assert_eq(got[expect], 0x55, "written beyond");
		}
	cr_assert_eq(cow_vfile_read(f, got, 10, SIZE), 0);
	cr_assert_eq(cow_vfile_read(f, got, 10, INT64_MAX), 0);
	cr_assert_eq(cow_vfile_read(f, got, 10, -1), -EINVAL);
	cow_vfile_close(f);
	cow_vnode_put(vn);
	vn = NULL;
	f = NULL;
	assert_no_leaks();
}

Test(cow_view, holes_are_found_where_they_were)
{
	const off_t c = COW_CLUSTER_SIZE;
	struct cow_vnode *vn;
	struct cow_vfile *f;
	uint64_t s;

	deed_create(&h, "f", "");
	deed_truncate(&h, "f", 1000 * c);
	deed_fill(&h, "f", 100 * c, 10 * (size_t)c, 'd');
	s = deed_snapshot(&h);
	for (unsigned changed = 0; changed < 3; changed++) {
		cr_assert_eq(look(&h, s, "f", &vn), 0);
		cr_assert_eq(cow_vfile_open(vn, &f), 0);
		cr_assert_eq(cow_vfile_seek(f, 0, SEEK_DATA), 100 * c, "%u", changed);
		cr_assert_eq(cow_vfile_seek(f, 0, SEEK_HOLE), 0);
		cr_assert_eq(cow_vfile_seek(f, 100 * c, SEEK_HOLE), 110 * c);
		cr_assert_eq(cow_vfile_seek(f, 105 * c + 1, SEEK_DATA), 105 * c + 1);
		cr_assert_eq(cow_vfile_seek(f, 110 * c, SEEK_DATA), -ENXIO);
		cr_assert_eq(cow_vfile_seek(f, 110 * c, SEEK_HOLE), 110 * c);
		cr_assert_eq(cow_vfile_seek(f, 1000 * c, SEEK_HOLE), -ENXIO);
		cr_assert_eq(cow_vfile_seek(f, -1, SEEK_DATA), -ENXIO);
		cr_assert_eq(cow_vfile_seek(f, 0, SEEK_SET), -EINVAL);
		cow_vfile_close(f);
		cow_vnode_put(vn);
		look_filled(&h, s, "f", 0, 100 * (size_t)c, 0);
		look_filled(&h, s, "f", 100 * c, 10 * (size_t)c, 'd');
		if (changed == 0)
			deed_fill(&h, "f", 50 * c, 100 * (size_t)c, 'x');
		else
			deed_truncate(&h, "f", 0);
	}
	vn = NULL;
	f = NULL;
	assert_no_leaks();
}

Test(cow_view, each_snapshot_shows_its_own_data)
{
	uint64_t s[5];

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 4 * COW_CLUSTER_SIZE, 'a');
	for (int i = 0; i < 5; i++) {
		s[i] = deed_snapshot(&h);
		if (i % 2 == 0) /* not in each */
			deed_fill(&h, "f", COW_CLUSTER_SIZE, COW_CLUSTER_SIZE, 'b' + i);
	}
	for (unsigned i = 0; i < 5; i++) {
		static const int want[] = { 'a', 'b', 'b', 'd', 'd' };

		look_filled(&h, s[i], "f", 0, COW_CLUSTER_SIZE, 'a');
		look_filled(&h, s[i], "f", COW_CLUSTER_SIZE, COW_CLUSTER_SIZE, want[i]);
		look_filled(&h, s[i], "f", 2 * COW_CLUSTER_SIZE, 2 * COW_CLUSTER_SIZE, 'a');
	}
	assert_no_leaks();
}

Test(cow_view, a_file_opened_before_a_change_reads_the_old_data_after_it)
{
	struct cow_vnode *vn;
	struct cow_vfile *f;
	char buf[16];
	uint64_t s;

	deed_create(&h, "f", "old text");
	s = deed_snapshot(&h);
	cr_assert_eq(look(&h, s, "f", &vn), 0);
	cr_assert_eq(cow_vfile_open(vn, &f), 0);
	cr_assert_eq(cow_vfile_read(f, buf, 3, 0), 3); /* it has the live file open now */
	deed_write(&h, "f", 0, "new");
	deed_unlink(&h, "f");
	cr_assert_eq(cow_vfile_read(f, buf, sizeof(buf), 0), 8);
	cr_assert_arr_eq(buf, "old text", 8);
	cow_vfile_close(f);
	cow_vnode_put(vn);
	vn = NULL;
	f = NULL;
	assert_no_leaks();
}

/* -- dropped -- */

Test(cow_view, after_the_drop_everything_open_is_stale)
{
	struct cow_vnode *root, *f, *l, *vn = NULL;
	struct cow_vfile *file;
	struct cow_vdir *dir, *no_dir = NULL;
	struct cow_dirent e;
	struct statx sx;
	char buf[64];
	uint64_t s;

	deed_create(&h, "f", "text");
	deed_symlink(&h, "l", "target");
	s = deed_snapshot(&h);
	cr_assert_eq(look(&h, s, "", &root), 0);
	cr_assert_eq(look(&h, s, "f", &f), 0);
	cr_assert_eq(look(&h, s, "l", &l), 0);
	cr_assert_eq(cow_vfile_open(f, &file), 0);
	cr_assert_eq(cow_vdir_open(root, &dir), 0);
	cr_assert_eq(cow_epoch_drop(h.st, s, true), 0);
	cr_assert_eq(cow_vnode_stat(f, &sx), -ESTALE);
	cr_assert_eq(cow_vnode_stat(root, &sx), -ESTALE);
	cr_assert_eq(cow_vnode_lookup(root, "f", &vn), -ESTALE);
	cr_assert_null(vn);
	cr_assert_eq(cow_vfile_read(file, buf, sizeof(buf), 0), -ESTALE);
	cr_assert_eq(cow_vfile_read(file, buf, sizeof(buf), 100), -ESTALE);
	cr_assert_eq(cow_vfile_seek(file, 0, SEEK_HOLE), -ESTALE);
	cr_assert_eq(cow_vnode_readlink(l, buf, sizeof(buf)), -ESTALE);
	cr_assert_eq(cow_vnode_listxattr(f, buf, sizeof(buf)), -ESTALE);
	cr_assert_eq(cow_vnode_getxattr(f, "user.x", buf, sizeof(buf)), -ESTALE);
	cr_assert_eq(cow_vdir_open(root, &no_dir), -ESTALE);
	cr_assert_eq(cow_vdir_read(dir, 0, &e), -ESTALE);
	cow_vfile_close(file);
	cow_vdir_close(dir);
	cow_vnode_put(root);
	cow_vnode_put(f);
	cow_vnode_put(l);
	root = f = l = NULL;
	file = NULL;
	dir = NULL;
	assert_no_leaks();
}

Test(cow_view, after_the_drop_a_thing_that_was_preserved_is_stale_too)
{
	struct cow_vnode *f;
	struct cow_vfile *file;
	struct statx sx;
	char buf[64];
	uint64_t s, other, newer;

	deed_create(&h, "f", "text");
	other = deed_snapshot(&h);
	s = deed_snapshot(&h);
	cr_assert_eq(look(&h, s, "f", &f), 0);
	cr_assert_eq(cow_vfile_open(f, &file), 0);
	deed_write(&h, "f", 0, "TEXT");
	(void)deed_setxattr(&h, "f", "user.x", "x");
	newer = deed_snapshot(&h);
	deed_truncate(&h, "f", 0); /* the newer one has records that would answer */
	cr_assert_eq(cow_vnode_stat(f, &sx), 0);
	cr_assert_eq(cow_epoch_drop(h.st, s, true), 0);
	for (unsigned settled = 0; settled < 2; settled++) {
		cr_assert_eq(cow_vnode_stat(f, &sx), -ESTALE);
		cr_assert_eq(cow_vnode_listxattr(f, buf, sizeof(buf)), -ESTALE);
		cr_assert_eq(cow_vnode_getxattr(f, "user.x", buf, sizeof(buf)), -ESTALE);
		cr_assert_eq(cow_vfile_read(file, buf, sizeof(buf), 0), -ESTALE);
		cr_assert_eq(cow_vfile_seek(file, 0, SEEK_DATA), -ESTALE);
		cow_epoch_settle(h.st);
	}
	cow_vfile_close(file);
	cow_vnode_put(f);
	f = NULL;
	file = NULL;
	look_is(&h, other, "f", "text");
	look_is(&h, newer, "f", "TEXT");
	assert_no_leaks();
}

Test(cow_view, a_child_keeps_its_parents_and_its_view)
{
	struct cow_vnode *f, *parent;
	uint64_t s;

	deed_mkdir(&h, "d");
	deed_create(&h, "d/f", "text");
	s = deed_snapshot(&h);
	cr_assert_eq(look(&h, s, "d/f", &f), 0); /* has put everything else back */
	parent = cow_vnode_parent(f);
	cr_assert_eq(cow_vnode_ino(parent), deed_ino(&h, "d"));
	cr_assert_eq(cow_vnode_ino(cow_vnode_parent(parent)), deed_ino(&h, ""));
	cr_assert_null(cow_vnode_parent(cow_vnode_parent(parent)));
	cr_assert_eq(cow_vnode_ref(f), f);
	cow_vnode_put(f);
	cow_vnode_put(f);
	cow_vnode_put(NULL);
	f = parent = NULL;
	assert_no_leaks();
}

/* -- changed while nobody watched -- */

static int store_fd(void)
{
	int fd = openat(h.fd, COW_STORE_NAME, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	cr_assert_geq(fd, 0);
	return fd;
}

static uint64_t watched; /* the snapshot before */

/* Close, change below, open. */
#define UNWATCHED(change)                                                                          \
	do {                                                                                       \
		cr_assert_eq(harness_close(&h, false), 0);                                         \
		cr_assert_geq((change), 0, "%s", strerror(errno));                                 \
		cr_assert_eq(harness_open(&h), 0, "%s", h.why);                                    \
	} while (0)

static int overwrite_at(const char *path, const char *text, off_t off)
{
	int fd = openat(h.fd, path, O_WRONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : pwrite(fd, text, strlen(text), off);

	close(fd);
	return n < 0 ? -1 : 0;
}

static int overwrite(const char *path, const char *text)
{
	return overwrite_at(path, text, 0);
}

static int look_xattrs(const char *path)
{
	struct cow_vnode *vn;
	char buf[256];
	ssize_t n;

	cr_assert_eq(look(&h, watched, path, &vn), 0);
	n = cow_vnode_listxattr(vn, buf, sizeof(buf));
	cow_vnode_put(vn);
	return n < 0 ? (int)n : 0;
}

static int look_link(const char *path)
{
	struct cow_vnode *vn;
	char buf[256];
	ssize_t n;

	cr_assert_eq(look(&h, watched, path, &vn), 0);
	n = cow_vnode_readlink(vn, buf, sizeof(buf));
	cow_vnode_put(vn);
	return n < 0 ? (int)n : 0;
}

static void some_files(void)
{
	deed_mkdir(&h, "d");
	deed_create(&h, "d/f", "text of f");
	deed_create(&h, "d/g", "text of g");
	deed_symlink(&h, "d/l", "target");
	watched = deed_snapshot(&h);
}

Test(cow_view, what_nobody_changed_is_good_after_a_restart)
{
	struct statx sx;

	some_files();
	UNWATCHED(0);
	look_is(&h, watched, "d/f", "text of f");
	look_lists(&h, watched, "d", "f g l ");
	cr_assert_eq(look_stat(&h, watched, "d/f", &sx), 0);
	cr_assert_eq(look_xattrs("d/f"), 0);
	cr_assert_eq(look_link("d/l"), 0);
	deed_write(&h, "d/f", 0, "TEXT");
	deed_unlink(&h, "d/g");
	deed_reopen(&h);
	look_is(&h, watched, "d/f", "text of f");
	look_is(&h, watched, "d/g", "text of g");
	look_lists(&h, watched, "d", "f g l ");
	assert_no_leaks();
}

Test(cow_view, data_changed_while_nobody_watched_are_stale)
{
	struct statx sx;
	char buf[64];

	some_files();
	UNWATCHED(overwrite("d/f", "NEW"));
	cr_assert_eq(look_read(&h, watched, "d/f", buf, sizeof(buf), 0), -ESTALE);
	cr_assert_eq(look_stat(&h, watched, "d/f", &sx), -ESTALE);
	cr_assert_eq(look_xattrs("d/f"), -ESTALE);
	look_is(&h, watched, "d/g", "text of g"); /* and only those */
	look_lists(&h, watched, "d", "f g l ");
	assert_no_leaks();
}

Test(cow_view, what_a_later_daemon_saves_of_them_is_stale_too)
{
	struct statx sx;
	char buf[64];
	uint64_t later;

	some_files();
	UNWATCHED(overwrite("d/f", "NEW"));
	later = deed_snapshot(&h);
	deed_write(&h, "d/f", 0, "NEWER"); /* saves "NEWt of f": right for the later one only */
	look_is(&h, later, "d/f", "NEWt of f");
	cr_assert_eq(look_read(&h, watched, "d/f", buf, sizeof(buf), 0), -ESTALE);
	cr_assert_eq(look_stat(&h, watched, "d/f", &sx), -ESTALE);
	cr_assert_eq(look_xattrs("d/f"), -ESTALE);
	assert_no_leaks();
}

Test(cow_view, what_a_snapshot_has_itself_is_good_whatever_happened_later)
{
	some_files();
	deed_write(&h, "d/f", 0, "TEXT OF F"); /* all of it is preserved */
	UNWATCHED(overwrite("d/f", "NEW"));
	look_is(&h, watched, "d/f", "text of f");
	cr_assert_eq(look_xattrs("d/f"), 0);
	assert_no_leaks();
}

Test(cow_view, a_cluster_that_was_not_preserved_is_stale_beside_one_that_was)
{
	char buf[16];
	uint64_t s;

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 3 * COW_CLUSTER_SIZE, 'a');
	s = deed_snapshot(&h);
	deed_fill(&h, "f", COW_CLUSTER_SIZE, COW_CLUSTER_SIZE, 'b');
	UNWATCHED(overwrite("f", "NEW"));
	look_filled(&h, s, "f", COW_CLUSTER_SIZE, COW_CLUSTER_SIZE, 'a');
	cr_assert_eq(look_read(&h, s, "f", buf, sizeof(buf), 0), -ESTALE);
	cr_assert_eq(look_read(&h, s, "f", buf, sizeof(buf), 2 * COW_CLUSTER_SIZE), -ESTALE);
	assert_no_leaks();
}

Test(cow_view, attributes_changed_while_nobody_watched_are_stale)
{
	struct statx sx;

	some_files();
	UNWATCHED(fchmodat(h.fd, "d/f", 0600, 0));
	cr_assert_eq(look_stat(&h, watched, "d/f", &sx), -ESTALE);
	cr_assert_eq(look_stat(&h, watched, "d/g", &sx), 0);
	assert_no_leaks();
}

Test(cow_view, names_changed_while_nobody_watched_are_stale)
{
	char names[256];
	struct statx sx;

	some_files();
	UNWATCHED(mkdirat(h.fd, "d/new", 0755));
	cr_assert_eq(look_list(&h, watched, "d", names, sizeof(names)), -ESTALE);
	cr_assert_eq(look_up(&h, watched, "d/new"), -ESTALE);
	cr_assert_eq(look_up(&h, watched, "d/f"), -ESTALE);
	cr_assert_eq(look_stat(&h, watched, "d", &sx), -ESTALE);
	look_lists(&h, watched, "", "d ");
	assert_no_leaks();
}

Test(cow_view, a_name_that_a_snapshot_has_itself_is_good)
{
	some_files();
	deed_rename(&h, "d/f", "f", 0);
	UNWATCHED(mkdirat(h.fd, "d/new", 0755));
	cr_assert_eq(look_up(&h, watched, "d/f"), 0);
	cr_assert_eq(look_up(&h, watched, "d/g"), -ESTALE);
	assert_no_leaks();
}

Test(cow_view, xattrs_changed_while_nobody_watched_are_stale)
{
	char path[PATH_MAX + 8];

	some_files();
	snprintf(path, sizeof(path), "%s/d/f", h.dir);
	if (setxattr(path, "user.x", "", 0, 0) < 0)
		cr_skip_test("no xattrs of users here");
	watched = deed_snapshot(&h);
	UNWATCHED(setxattr(path, "user.x", "new", 3, 0));
	cr_assert_eq(look_xattrs("d/f"), -ESTALE);
	cr_assert_eq(look_xattrs("d/g"), 0);
	assert_no_leaks();
}

Test(cow_view, a_link_changed_while_nobody_watched_is_stale)
{
	some_files();
	UNWATCHED(fchownat(h.fd, "d/l", geteuid(), getegid(), AT_SYMLINK_NOFOLLOW));
	cr_assert_eq(look_link("d/l"), -ESTALE);
	assert_no_leaks();
}

Test(cow_view, a_file_replaced_while_nobody_watched_is_not_taken_for_the_old_one)
{
	char buf[64];

	some_files();
	UNWATCHED(unlinkat(h.fd, "d/f", 0));
	cr_assert_eq(look_read(&h, watched, "d/f", buf, sizeof(buf), 0), -ESTALE);
	UNWATCHED(symlinkat("x", h.fd, "d/f"));
	cr_assert_eq(look_up(&h, watched, "d/f"), -ESTALE);
	assert_no_leaks();
}

/* One file and one directory; both are changed in the session after the snapshot's, by the rules. */
static uint64_t changed_in_the_next_session(void)
{
	uint64_t s;

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 3 * COW_CLUSTER_SIZE, 'a');
	deed_mkdir(&h, "d");
	deed_create(&h, "d/g", "text of g");
	s = deed_snapshot(&h);
	deed_reopen(&h);
	deed_fill(&h, "f", 0, COW_CLUSTER_SIZE, 'b');
	deed_create(&h, "d/new", "");
	return s;
}

Test(cow_view, what_changes_in_each_session_by_the_rules_is_good)
{
	uint64_t s = changed_in_the_next_session();

	for (int i = 0; i < 3; i++) {
		deed_reopen(&h);
		look_filled(&h, s, "f", 0, 3 * COW_CLUSTER_SIZE, 'a');
		look_lists(&h, s, "d", "g ");
		look_is(&h, s, "d/g", "text of g");
		deed_fill(&h, "f", i * COW_CLUSTER_SIZE, COW_CLUSTER_SIZE, 'c' + i);
		deed_write(&h, "d/g", 0, "TEXT");
		deed_rename(&h, i % 2 ? "d/newer" : "d/new", i % 2 ? "d/new" : "d/newer", 0);
		look_filled(&h, s, "f", 0, 3 * COW_CLUSTER_SIZE, 'a');
		look_lists(&h, s, "d", "g ");
		look_is(&h, s, "d/g", "text of g");
	}
	assert_no_leaks();
}

Test(cow_view, data_changed_between_two_later_sessions_are_stale)
{
	uint64_t s = changed_in_the_next_session();
	struct statx sx;
	char buf[16];

	UNWATCHED(overwrite_at("f", "OFFLINE", 2 * COW_CLUSTER_SIZE));
	cr_assert_eq(look_read(&h, s, "f", buf, sizeof(buf), 2 * COW_CLUSTER_SIZE), -ESTALE);
	look_filled(&h, s, "f", 0, COW_CLUSTER_SIZE, 'a'); /* saved before that */
	cr_assert_eq(look_stat(&h, s, "f", &sx), 0);
	deed_fill(&h, "f", 2 * COW_CLUSTER_SIZE, COW_CLUSTER_SIZE, 'c'); /* saves "OFFLINE" */
	cr_assert_eq(look_read(&h, s, "f", buf, sizeof(buf), 2 * COW_CLUSTER_SIZE), -ESTALE);
	deed_reopen(&h);
	cr_assert_eq(look_read(&h, s, "f", buf, sizeof(buf), 2 * COW_CLUSTER_SIZE), -ESTALE);
	cr_assert_eq(look_read(&h, s, "f", buf, sizeof(buf), COW_CLUSTER_SIZE), -ESTALE);
	look_filled(&h, s, "f", 0, COW_CLUSTER_SIZE, 'a');
	assert_no_leaks();
}

Test(cow_view, names_changed_between_two_later_sessions_are_stale)
{
	uint64_t s = changed_in_the_next_session();
	char names[256];

	UNWATCHED(mkdirat(h.fd, "d/offline", 0755));
	cr_assert_eq(look_list(&h, s, "d", names, sizeof(names)), -ESTALE);
	cr_assert_eq(look_up(&h, s, "d/offline"), -ESTALE);
	cr_assert_eq(look_up(&h, s, "d/new"), -ENOENT); /* saved before that */
	deed_unlink(&h, "d/g");				/* saves the name */
	cr_assert_eq(look_up(&h, s, "d/g"), -ESTALE);
	look_lists(&h, s, "", "d f ");
	assert_no_leaks();
}

/* -- damage -- */

static void damage_dat(uint64_t epoch, off_t off)
{
	CLEANUP(close_p) int dir = store_fd();
	CLEANUP(close_p) int fd = -1;
	char path[64], byte;

	snprintf(path, sizeof(path), "data/%016llx.dat", (unsigned long long)epoch);
	fd = openat(dir, path, O_RDWR | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(pread(fd, &byte, 1, off), 1);
	byte = (char)(byte ^ 1);
	cr_assert_eq(pwrite(fd, &byte, 1, off), 1);
}

Test(cow_view, a_damaged_cluster_is_an_error_and_its_neighbours_are_not)
{
	char buf[16];
	uint64_t s;

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 3 * COW_CLUSTER_SIZE, 'a');
	s = deed_snapshot(&h);
	deed_fill(&h, "f", 0, 3 * COW_CLUSTER_SIZE, 'b');
	damage_dat(s, COW_CLUSTER_SIZE + 4000);
	look_filled(&h, s, "f", 0, COW_CLUSTER_SIZE, 'a');
	look_filled(&h, s, "f", 2 * COW_CLUSTER_SIZE, COW_CLUSTER_SIZE, 'a');
	cr_assert_eq(look_read(&h, s, "f", buf, sizeof(buf), COW_CLUSTER_SIZE), -EIO,
		     "also far from the bad byte");
	assert_no_leaks();
}

Test(cow_view, a_data_file_that_was_cut_off_is_an_error)
{
	char path[PATH_MAX + 64], buf[16];
	uint64_t s;

	deed_create(&h, "f", "");
	deed_fill(&h, "f", 0, 2 * COW_CLUSTER_SIZE, 'a');
	s = deed_snapshot(&h);
	deed_fill(&h, "f", 0, 2 * COW_CLUSTER_SIZE, 'b');
	snprintf(path, sizeof(path), "%s/" COW_STORE_NAME "/data/%016llx.dat", h.dir,
		 (unsigned long long)s);
	cr_assert_eq(truncate(path, COW_CLUSTER_SIZE + 1), 0);
	look_filled(&h, s, "f", 0, COW_CLUSTER_SIZE, 'a');
	cr_assert_eq(look_read(&h, s, "f", buf, sizeof(buf), COW_CLUSTER_SIZE), -EIO);
	assert_no_leaks();
}
