#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cow/base/cleanup.h"
#include "cow/base/log.h"
#include "tests/support/leaks.h"

static void quoted(const char *name, const char *want)
{
	char buf[100];

	cr_expect_str_eq(log_quote(buf, sizeof(buf), name), want, "got %s", buf);
}

Test(base_log, quote_leaves_text_and_utf8_alone)
{
	quoted("", "");
	quoted("plain name.txt", "plain name.txt");
	quoted("Gr\xc3\xb6\xc3\x9f"
	       "e \xe2\x82\xac \xf0\x9f\x98\x80",
	       "Gr\xc3\xb6\xc3\x9f"
	       "e \xe2\x82\xac \xf0\x9f\x98\x80");
	quoted(NULL, "(null)");
}

Test(base_log, quote_escapes_what_could_fake_a_line_or_move_a_terminal)
{
	quoted("a\nb\tc\rd", "a\\nb\\tc\\rd");
	quoted("\x1b[31m", "\\x1b[31m");
	quoted("\x7f", "\\x7f");
	quoted("back\\slash", "back\\\\slash");
	quoted("\xc2\x9b", "\\xc2\\x9b"); /* C1: CSI */
	quoted("\xff\xfe", "\\xff\\xfe");
	quoted("\xc0\xaf", "\\xc0\\xaf");	  /* overlong */
	quoted("\xed\xa0\x80", "\\xed\\xa0\\x80"); /* surrogate */
	quoted("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80");
	quoted("\xe2\x82", "\\xe2\\x82"); /* cut */
}

Test(base_log, quote_shows_zero_bytes_when_it_knows_the_length)
{
	char buf[32];

	cr_assert_str_eq(log_quote_n(buf, sizeof(buf), "a\0b", 3), "a\\x00b");
}

Test(base_log, quote_cuts_between_characters_and_never_overruns)
{
	const char *name = "\xe2\x82\xac\n\xff tail";
	char full[100];

	log_quote(full, sizeof(full), name);
	for (size_t size = 4; size < sizeof(full); size++) {
		char *exact = malloc(size); /* so that a sanitizer sees one byte too many */
		size_t len;

		log_quote(exact, size, name);
		len = strlen(exact);
		cr_assert(len < size);
		if (size > strlen(full)) {
			cr_assert_str_eq(exact, full);
		} else {
			cr_assert_str_eq(exact + len - 3, "...");
			cr_assert_eq(strncmp(exact, full, len - 3), 0);
			cr_assert(len - 3 == 0 || len - 3 == 3 || len - 3 == 5 || len - 3 >= 9);
		}
		free(exact);
	}
	assert_no_leaks();
}

static int capture(void)
{
	int fd = memfd_create("log", MFD_CLOEXEC);

	cr_assert(fd >= 0);
	log_to_fd(fd);
	return fd;
}

static char *text_of(int fd, char *buf, size_t size)
{
	ssize_t n = pread(fd, buf, size - 1, 0);

	cr_assert(n >= 0);
	buf[n] = '\0';
	return buf;
}

Test(base_log, a_message_is_one_line_with_the_prefix)
{
	CLEANUP(close_p) int fd = capture();
	char buf[1000];

	log_set_prefix("umbrafs");
	log_warn("%s and %d\nfaked: line", LOG_QUOTE("na\nme"), 7);
	cr_assert_str_eq(text_of(fd, buf, sizeof(buf)),
			 "umbrafs: na\\nme and 7\\nfaked: line\n");
}

Test(base_log, levels_are_obeyed_and_errno_stays)
{
	CLEANUP(close_p) int fd = capture();
	char buf[1000];

	errno = EXDEV;
	log_debug("no");
	log_set_level(LOG_LEVEL_WARN);
	log_info("no");
	log_error("yes");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("too");
	cr_assert_eq(errno, EXDEV);
	cr_assert_str_eq(text_of(fd, buf, sizeof(buf)), "yes\ntoo\n");
	cr_assert(log_enabled(LOG_LEVEL_DEBUG));
}

Test(base_log, a_message_that_is_too_long_is_cut_and_still_one_line)
{
	CLEANUP(close_p) int fd = capture();
	char buf[3 * LOG_LINE_SIZE];
	char text[LOG_LINE_SIZE + 500];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_set_prefix("p");
	log_error("%s", text);
	text_of(fd, buf, sizeof(buf));
	cr_assert(strlen(buf) <= LOG_LINE_SIZE);
	cr_assert_eq(strchr(buf, '\n'), buf + strlen(buf) - 1);
	cr_assert_str_eq(buf + strlen(buf) - 4, "...\n");
}

static void *write_many(void *arg)
{
	for (int i = 0; i < 200; i++)
		log_error("%s", (const char *)arg);
	return NULL;
}

Test(base_log, threads_do_not_mix_their_lines)
{
	CLEANUP(fclose_p) FILE *f = tmpfile();
	const char *texts[] = { "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb" };
	pthread_t threads[2];
	char line[100];
	int lines = 0;

	cr_assert(f);
	log_to_fd(fileno(f));
	for (int i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, write_many, (void *)texts[i]), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	rewind(f);
	for (; fgets(line, sizeof(line), f); lines++) {
		line[strcspn(line, "\n")] = '\0';
		cr_assert(!strcmp(line, texts[0]) || !strcmp(line, texts[1]), "%s", line);
	}
	cr_assert_eq(lines, 400);
}

Test(base_log, a_closed_destination_is_survived)
{
	log_to_fd(-1);
	errno = 0;
	log_error("nobody reads this");
	cr_assert_eq(errno, 0);
}
