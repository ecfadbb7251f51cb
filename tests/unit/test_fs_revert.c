/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reverting as it is asked for under a mount, with a world that has no session: whom the table of nodes and the kernel hear of
 * what is in tests/integration/revert.sh. */
#include <semaphore.h>

#include "cow/file.h"
#include "cow/revert.h"
#include "cow/view.h"
#include "fs/handles.h"
#include "fs/nodes.h"
#include "fs/revert.h"
#include "tests/support/deeds.h"
#include "tests/support/leaks.h"

static struct harness h;
static struct fs fs;
static struct fs_revert *rv;
static uint64_t back, newer; /* two snapshots */

static uint64_t in_use; /* a snapshot, as far as the side above knows */

static sem_t over;
static int result;

/* That of ops.c has all of FUSE behind it. Only a file without read permission needs one here. */
int fs_cow_of(struct fs *world, struct fs_node *node, struct cow_inode **ret)
{
	(void)world;
	(void)node;
	(void)ret;
	return -ENOMEM;
}

static void released(void *userdata, struct fs_node *node)
{
	(void)userdata;
	(void)node;
}

static bool is_in_use(void *userdata, uint64_t epoch)
{
	(void)userdata;
	return epoch == in_use;
}

static void setup(void)
{
	const struct fs_revert_hooks hooks = { .in_use = is_in_use };
	struct stat st;

	cr_assert_eq(harness_init(&h, NULL), 0);
	cr_assert_eq(harness_open(&h), 0, "%s", h.why);
	cr_assert_eq(fstat(h.fd, &st), 0);
	fs = (struct fs){ .store = h.st, .path = h.dir, .below_fd = h.fd };
	fs.below_dev = st.st_dev;
	fs.nodes = fs_nodes_new(FS_LIVE, st.st_dev, st.st_ino, NULL, released, NULL);
	cr_assert(fs.nodes);
	rv = fs_revert_new(&fs, &hooks);
	cr_assert(rv);
	sem_init(&over, 0, 0);
	deed_create(&h, "file", "before");
	cr_assert_eq(harness_snapshot(&h, COW_CTX_APP_ROLLBACK, NULL, &back), 0);
	deed_write(&h, "file", 0, "after!");
	cr_assert_eq(harness_snapshot(&h, COW_CTX_APP_ROLLBACK, NULL, &newer), 0);
}

static void teardown(void)
{
	cow_file_set_hook(NULL, NULL);
	fs_revert_free(rv);
	fs_nodes_free(fs.nodes);
	harness_done(&h);
}

TestSuite(fs_revert, .init = setup, .fini = teardown, .timeout = 120);

static struct cow_revert_info why;

static void on_done(void *userdata, int r, const struct cow_revert_info *info)
{
	(void)userdata;
	why = *info;
	result = r;
	sem_post(&over);
}

static int revert(bool force)
{
	cr_assert_eq(fs_revert_start(rv, back, force, on_done, NULL), 0);
	while (sem_wait(&over) < 0)
		;
	return result;
}

static bool live_is(const char *text)
{
	char buf[16] = "";
	int fd = openat(h.fd, "file", O_RDONLY | O_CLOEXEC);

	cr_assert_geq(read(fd, buf, sizeof(buf) - 1), 0);
	close(fd);
	return strcmp(buf, text) == 0;
}

/* ---- what only the side above knows ---- */

/* X-10, D-12: recorded as exposed, for one. */
Test(fs_revert, a_newer_snapshot_that_the_side_above_has_in_use_refuses_it)
{
	struct cow_view *v;

	in_use = newer;
	cr_assert_eq(revert(false), -EBUSY);
	cr_expect(strstr(why.why, "a newer snapshot is in use"), "%s", why.why);
	cr_expect(!strstr(why.why, "are open"), "%s", why.why);
	cr_assert(live_is("after!"));
	cr_assert_eq(cow_view_open(h.st, newer, false, &v), 0, "nothing was dropped");
	cow_view_close(v);
	cr_assert_eq(revert(true), 0);
	cr_assert(live_is("before"));
	assert_no_leaks();
}

Test(fs_revert, the_snapshot_itself_may_be_in_use)
{
	in_use = back;
	cr_assert_eq(revert(false), 0);
	cr_assert(live_is("before"));
	assert_no_leaks();
}

/* ---- somebody opens a directory when the revert has looked for open ones and found none ---- */

static struct fs_dir *opened;

static int open_one(void *userdata, enum cow_file_op op, int fd, const char *path, size_t len)
{
	(void)userdata;
	(void)fd;
	(void)len;
	/* it prepares a label: the gate is still open */
	if (op == COW_OP_OPEN && path && strncmp(path, "log/", 4) == 0 && !opened) {
		opened = fs_dir_new(&fs);
		opened->live = true;
	}
	return 0;
}

/* volume-in-use. */
Test(fs_revert, what_is_opened_before_changes_are_turned_away_refuses_it)
{
	struct cow_revert_info info;
	struct cow_view *v;

	cow_file_set_hook(open_one, NULL);
	cr_assert_eq(revert(false), -EBUSY);
	cr_expect(strstr(why.why, "are open"), "%s", why.why);
	cr_expect(!strstr(why.why, "newer snapshot"), "%s", why.why);
	cow_file_set_hook(NULL, NULL);
	cr_assert(opened);
	cr_assert(live_is("after!"));
	cr_assert_eq(cow_revert_pending(h.st), 0);
	cr_assert_not(cow_revert_running(h.st));
	cow_revert_get(h.st, &info);
	cr_assert_eq(info.state, COW_REVERT_NONE);
	cr_assert_eq(cow_epoch_prepare(h.st), 0, "snapshots are made as before");
	cow_epoch_unprepare(h.st);
	cr_assert_eq(cow_view_open(h.st, newer, false, &v), 0, "nothing was dropped");
	cow_view_close(v);

	fs_dir_free(opened);
	cr_assert_eq(revert(false), 0);
	cr_assert(live_is("before"));
	assert_no_leaks();
}

Test(fs_revert, with_force_it_does_not)
{
	cow_file_set_hook(open_one, NULL);
	cr_assert_eq(revert(true), 0);
	cow_file_set_hook(NULL, NULL);
	cr_assert(opened);
	cr_assert(live_is("before"));
	fs_dir_free(opened);
	assert_no_leaks();
}
