#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/leaks.h"
#include "tools/writer/mark.h"

struct world {
	char dir[200];
	struct writer_program p;
	struct writer_mark *m;
};

static void begin(struct world *x)
{
	*x = (struct world){ .p = { .kind = "test" } };
	snprintf(x->dir, sizeof(x->dir), "%s/marks-XXXXXX", getenv("TMPDIR"));
	cr_assert(mkdtemp(x->dir));
	x->p.state_dir = x->dir;
	cr_assert_eq(writer_mark_open(&x->p, "key", &x->m), 0);
}

/* The path of the one note there; false: there is none. */
static bool note(const struct world *x, char *ret, size_t size)
{
	DIR *d = opendir(x->dir);
	struct dirent *e;
	bool any = false;

	cr_assert(d);
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		cr_expect(!any, "a second one");
		snprintf(ret, size, "%s/%s", x->dir, e->d_name);
		any = true;
	}
	closedir(d);
	return any;
}

static void end(struct world *x)
{
	char path[600];

	writer_mark_close(x->m);
	if (note(x, path, sizeof(path)))
		unlink(path);
	rmdir(x->dir);
	assert_no_leaks();
}

/* L-4 */
Test(writer_mark, what_was_set_is_found_by_the_next)
{
	struct world x;
	char path[600];

	begin(&x);
	cr_expect_null(writer_mark_left(x.m));
	cr_expect_eq(writer_mark_set(x.m, "session 1"), 0);
	writer_mark_close(x.m);
	cr_assert_eq(writer_mark_open(&x.p, "key", &x.m), 0);
	cr_expect_str_eq(writer_mark_left(x.m), "session 1");
	cr_expect_eq(writer_mark_clear(x.m), 0);
	writer_mark_close(x.m);
	x.m = NULL;
	cr_expect(!note(&x, path, sizeof(path)), "nothing is left of one that is not set");
	end(&x);
}

/* L-4: what cannot be read may say that something is frozen, and then nobody else would say it. A FIFO
 * can be opened and locked but, for pread(2), not read. */
/* L-4 */
Test(writer_mark, note_that_cannot_be_read_stays)
{
	struct world x;
	struct writer_mark *none = NULL;
	char path[600];

	begin(&x);
	cr_expect_eq(writer_mark_set(x.m, "session 1"), 0);
	writer_mark_close(x.m);
	x.m = NULL;
	cr_assert(note(&x, path, sizeof(path)));
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(mkfifo(path, 0600), 0);
	cr_expect_neq(writer_mark_open(&x.p, "key", &none), 0);
	cr_expect_null(none);
	cr_expect_eq(access(path, F_OK), 0, "it was removed");
	end(&x);
}
