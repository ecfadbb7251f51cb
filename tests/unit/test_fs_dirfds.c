/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The cache of directory descriptors: bounded, least recently used out first, held ones stay open. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

#include "fs/dirfds.h"

static int some_fd(void)
{
	int fd = open("/", O_PATH | O_CLOEXEC);

	cr_assert_geq(fd, 0);
	return fd;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static int add(struct fs_dirfds *c, uintptr_t key)
{
	struct fs_dirfd *d = fs_dirfds_add(c, key, some_fd());
	int fd = d->fd;

	fs_dirfds_put(c, d);
	return fd;
}

static bool has(struct fs_dirfds *c, uintptr_t key)
{
	struct fs_dirfd *d = fs_dirfds_get(c, key);

	fs_dirfds_put(c, d);
	return d;
}

Test(fs_dirfds, the_least_recently_used_goes_first)
{
	struct fs_dirfds *c = fs_dirfds_new(2);
	int one = add(c, 1), two = add(c, 2);

	cr_assert(has(c, 1));
	add(c, 3);
	cr_assert_not(has(c, 2));
	cr_assert_not(is_open(two));
	cr_assert(has(c, 1));
	cr_assert(is_open(one));
	fs_dirfds_free(c);
	cr_assert_not(is_open(one));
}

Test(fs_dirfds, a_held_descriptor_stays_open_until_it_is_put)
{
	struct fs_dirfds *c = fs_dirfds_new(1);
	struct fs_dirfd *d = fs_dirfds_add(c, 1, some_fd());
	int fd = d->fd;

	add(c, 2);
	cr_assert(is_open(fd));
	fs_dirfds_drop(c, 1);
	cr_assert(is_open(fd));
	fs_dirfds_put(c, d);
	cr_assert_not(is_open(fd));
	fs_dirfds_free(c);
}

Test(fs_dirfds, the_first_of_two_for_one_key_stays)
{
	struct fs_dirfds *c = fs_dirfds_new(4);
	int first = add(c, 1), second = some_fd();
	struct fs_dirfd *d = fs_dirfds_add(c, 1, second);

	cr_assert_eq(d->fd, first);
	cr_assert_not(is_open(second));
	fs_dirfds_put(c, d);
	fs_dirfds_free(c);
}

Test(fs_dirfds, dropping_what_is_not_there_is_harmless)
{
	struct fs_dirfds *c = fs_dirfds_new(4);

	fs_dirfds_drop(c, 1);
	fs_dirfds_put(c, NULL);
	cr_assert_null(fs_dirfds_get(c, 1));
	fs_dirfds_free(c);
}

Test(fs_dirfds, many_keys_share_a_bucket_and_are_told_apart)
{
	struct fs_dirfds *c = fs_dirfds_new(100);

	for (uintptr_t k = 0; k < 3000; k++)
		add(c, k * 4096);
	for (uintptr_t k = 0; k < 3000; k++)
		cr_assert_eq(has(c, k * 4096), k >= 2900);
	fs_dirfds_free(c);
}
