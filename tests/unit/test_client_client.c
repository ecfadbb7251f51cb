/* Waiting for a coordinator that does not answer, and giving it up. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "coordinator/client/client.h"
#include "cow/base/clock.h"
#include "tests/support/fake_coord.h"
#include "tests/support/leaks.h"

/* One that is there and does nothing: what is connected and sent stays in the kernel. */
static struct fake silent(void)
{
	struct fake f;

	fake_listen(&f);
	return f;
}

/* More than a socket takes. */
static json_t *long_params(void)
{
	size_t len = 4 * 1024 * 1024;
	char *text = malloc(len);
	json_t *p;

	cr_assert(text);
	memset(text, 'x', len);
	p = json_pack("{s:s#}", "text", text, len);
	cr_assert(p);
	free(text);
	return p;
}

static int cancel_fd(bool now)
{
	int fd = eventfd(now, EFD_CLOEXEC);

	cr_assert_geq(fd, 0);
	return fd;
}

Test(client_client, a_call_without_an_answer_ends_at_the_deadline)
{
	struct fake f = silent();
	struct umbra_client *c = NULL;
	struct umbra_failure why = { .name = "" };
	json_t *answer = (json_t *)&f;

	cr_assert_eq(umbra_connect_until(f.path, -1, clock_deadline_ms(50), &c), 0);
	cr_expect_eq(umbra_call(c, "GetInfo", NULL, -1, &answer, NULL, &why), -ETIMEDOUT);
	cr_expect_eq(answer, (json_t *)&f, "ret was touched");
	cr_expect_str_eq(why.name, "writer-infrastructure");
	cr_expect_str_eq(why.message, "the coordinator does not answer");
	/* The answer of the first could come as that of the second. */
	cr_expect_eq(umbra_call(c, "GetInfo", NULL, -1, NULL, NULL, NULL), -ECONNRESET);
	umbra_close(c);
	fake_done(&f);
	assert_no_leaks();
}

Test(client_client, whatever_waits_ends_when_it_is_called_off)
{
	struct fake f = silent();
	struct umbra_client *c = NULL;
	int fd = cancel_fd(true);

	cr_assert_eq(umbra_connect_until(f.path, fd, CLOCK_NEVER, &c), 0);
	cr_expect_eq(umbra_call(c, "GetInfo", NULL, -1, NULL, NULL, NULL), -ECANCELED);
	umbra_close(c);
	c = NULL;
	cr_assert_eq(umbra_connect_until(f.path, fd, CLOCK_NEVER, &c), 0);
	cr_expect_eq(umbra_send(c, "GetInfo", long_params(), -1), -ECANCELED);
	umbra_close(c);
	close(fd);
	fake_done(&f);
	assert_no_leaks();
}

/* A stopped coordinator accepts nobody, and there is only so much room for who waits. */
Test(client_client, connecting_where_nobody_is_accepted_ends)
{
	struct fake f = silent();
	struct umbra_client *c[64] = { NULL }, *late = (struct umbra_client *)&f;
	int fd = cancel_fd(true), r = 0;
	size_t n = 0;

	while (n < 64 && (r = umbra_connect_until(f.path, -1, clock_deadline_ms(50), &c[n])) == 0)
		n++;
	cr_assert_eq(r, -ETIMEDOUT, "%d after %zu", r, n);
	cr_expect_eq(umbra_connect_until(f.path, fd, CLOCK_NEVER, &late), -ECANCELED);
	cr_expect_eq(late, (struct umbra_client *)&f, "ret was touched");
	while (n)
		umbra_close(c[--n]);
	close(fd);
	fake_done(&f);
	assert_no_leaks();
}

Test(client_client, limits_that_are_lifted_end_nothing)
{
	struct fake f = silent();
	struct umbra_client *c = NULL;
	json_t *m = NULL;
	int fd = cancel_fd(true);

	cr_assert_eq(umbra_connect_until(f.path, fd, clock_deadline_ms(0), &c), 0);
	umbra_client_unlimit(c);
	fake_start(&f, NULL);
	fake_join(&f);
	cr_assert_eq(umbra_call_begin(c, "GetInfo", NULL), 0);
	cr_expect_eq(umbra_next(c, 0, &m, NULL, NULL), -EAGAIN);
	json_decref(fake_expect(&f, "GetInfo"));
	fake_answer(&f, json_object());
	cr_expect_eq(umbra_next(c, -1, &m, NULL, NULL), 0);
	json_decref(m);
	umbra_close(c);
	close(fd);
	fake_done(&f);
	assert_no_leaks();
}
