/* Texts in sealed memory: what is taken, and what is not, whoever made it. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "coordinator/client/texts.h"
#include "tests/support/leaks.h"

#define ALL_SEALS (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK)

/* A memory file with these bytes and seals. */
static int file_with(const void *bytes, size_t len, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, bytes, len), (ssize_t)len);
	cr_assert_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

/* What reading it says; closes it. */
static int take(int fd, size_t max)
{
	json_t *list = (json_t *)&fd;
	int r = umbra_texts_take(fd, max, &list);

	if (r == 0)
		json_decref(list);
	else
		cr_expect_eq(list, (json_t *)&fd, "ret was touched");
	close(fd);
	return r;
}

Test(client_texts, what_is_put_is_taken)
{
	json_t *list = json_pack("[s, s, s]", "one", "", "\xc3\xa4"), *back = NULL;
	int fd = -1;

	cr_assert_eq(umbra_texts_put(list, 8, &fd), 0);
	cr_expect_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	cr_expect_eq(write(fd, "x", 1), -1, "it can be changed");
	cr_expect_eq(ftruncate(fd, 0), -1, "it can be cut");
	cr_assert_eq(umbra_texts_take(fd, 8, &back), 0);
	cr_expect(json_equal(list, back));
	json_decref(back);
	lseek(fd, 3, SEEK_SET);
	cr_assert_eq(umbra_texts_take(fd, 8, &back), 0);
	cr_expect(json_equal(list, back), "the position counts");
	json_decref(back);
	json_decref(list);
	list = back = NULL;
	close(fd);
	assert_no_leaks();
}

Test(client_texts, s12_only_sealed_memory_is_read)
{
	int ends[2], fd;
	char path[128];

	cr_expect_eq(take(file_with("a", 2, ALL_SEALS), 100), 0);
	cr_expect_eq(take(file_with("a", 2, 0), 100), -EINVAL);
	cr_expect_eq(take(file_with("a", 2, F_SEAL_WRITE | F_SEAL_GROW), 100), -EINVAL);
	cr_expect_eq(take(file_with("a", 2, F_SEAL_WRITE | F_SEAL_SHRINK), 100), -EINVAL);
	cr_expect_eq(take(file_with("a", 2, F_SEAL_GROW | F_SEAL_SHRINK), 100), -EINVAL);
	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	cr_expect_eq(take(ends[0], 100), -EINVAL, "a pipe could keep us waiting");
	close(ends[1]);
	cr_expect_eq(take(open("/dev/null", O_RDONLY | O_CLOEXEC), 100), -EINVAL);
	snprintf(path, sizeof(path), "%s/texts-%d", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp",
		 getpid());
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_expect_eq(write(fd, "a", 2), 2);
	cr_expect_eq(take(fd, 100), -EINVAL, "a file could keep us waiting");
	unlink(path);
	fd = file_with("a", 2, ALL_SEALS);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	cr_expect_eq(take(open(path, O_PATH | O_CLOEXEC), 100), -EINVAL);
	close(fd);
	assert_no_leaks();
}

Test(client_texts, s12_limits_are_kept_to_the_byte)
{
	json_t *list = json_pack("[s, s]", "abc", "def");
	int fd = -7;

	cr_expect_eq(umbra_texts_put(list, 7, &fd), -EMSGSIZE);
	cr_expect_eq(fd, -7, "ret was touched");
	cr_assert_eq(umbra_texts_put(list, 8, &fd), 0);
	cr_expect_eq(take(dup(fd), 8), 0);
	cr_expect_eq(take(fd, 7), -EMSGSIZE);
	json_decref(list);
	list = NULL;
	assert_no_leaks();
}

Test(client_texts, texts_are_utf8_and_end_with_nul)
{
	cr_expect_eq(take(file_with("", 0, ALL_SEALS), 100), 0, "no text at all");
	cr_expect_eq(take(file_with("ab", 2, ALL_SEALS), 100), -EBADMSG);
	cr_expect_eq(take(file_with("a\0b", 3, ALL_SEALS), 100), -EBADMSG);
	cr_expect_eq(take(file_with("a\0\xff", 4, ALL_SEALS), 100), -EBADMSG);
	assert_no_leaks();
}

Test(client_texts, s12_there_are_not_too_many)
{
	static const char nothing[UMBRA_TEXTS_MAX + 1];
	json_t *list = json_array();
	int fd = -7;

	cr_expect_eq(take(file_with(nothing, UMBRA_TEXTS_MAX, ALL_SEALS), 1 << 20), 0);
	cr_expect_eq(take(file_with(nothing, UMBRA_TEXTS_MAX + 1, ALL_SEALS), 1 << 20), -EINVAL);
	for (int i = 0; i <= UMBRA_TEXTS_MAX; i++)
		json_array_append_new(list, json_string(""));
	cr_expect_eq(umbra_texts_put(list, 1 << 20, &fd), -EINVAL);
	json_array_set_new(list, 0, json_integer(1));
	json_array_remove(list, 1);
	cr_expect_eq(umbra_texts_put(list, 1 << 20, &fd), -EINVAL, "a number is no text");
	cr_expect_eq(umbra_texts_put(NULL, 1 << 20, &fd), -EINVAL);
	cr_expect_eq(fd, -7, "ret was touched");
	json_decref(list);
	list = NULL;
	assert_no_leaks();
}
