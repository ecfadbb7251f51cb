#include <criterion/criterion.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include <jansson.h>

#include "tests/support/leaks.h"
#include "tools/shell_components.h"
#include "tools/shell_line.h"

static const char *lookup(const char *name, void *data)
{
	static const char *const aliases[][2] = {
		{ "SHADOW_1", "7f-1" },
		{ "A", "two words 'and' %A% \"quotes\" # \\" },
		{ "EMPTY", "" },
		{ "_x9", "x" },
	};

	cr_expect_str_eq(data, "data");
	for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++)
		if (strcmp(aliases[i][0], name) == 0)
			return aliases[i][1];
	return NULL;
}

/* The words that must come out, ended by NULL. */
static void splits(const char *line, ...)
{
	char problem[SHELL_PROBLEM_SIZE] = "";
	struct shell_words words = { 0 };
	const char *want;
	size_t n = 0;
	va_list ap;

	cr_assert_eq(shell_line_split(line, lookup, (char *)"data", &words, problem), 0, "%s: %s",
		     line, problem);
	va_start(ap, line);
	while ((want = va_arg(ap, const char *)) != NULL) {
		cr_assert_lt(n, words.count, "%s: only %zu words", line, words.count);
		cr_expect_str_eq(words.list[n], want, "%s: word %zu is '%s'", line, n,
				 words.list[n]);
		n++;
	}
	va_end(ap);
	cr_expect_eq(n, words.count, "%s: %zu words", line, words.count);
	if (words.list)
		cr_expect_null(words.list[words.count]);
	shell_words_done(&words);
	cr_expect_null(words.list);
}

static void refuses(const char *line, int code, const char *says)
{
	char problem[SHELL_PROBLEM_SIZE] = "";
	struct shell_words words = { .list = (char **)&code, .count = 42 };

	cr_expect_eq(shell_line_split(line, lookup, (char *)"data", &words, problem), code, "%s",
		     line);
	cr_expect(strstr(problem, says), "%s: %s", line, problem);
	cr_expect_eq(words.list, (char **)&code);
	cr_expect_eq(words.count, 42);
}

Test(tools_shell, splits_at_blanks)
{
	splits("", NULL);
	splits(" \t ", NULL);
	splits("create", "create", NULL);
	splits("  set\tcontext   volatile nowriters\r", "set", "context", "volatile", "nowriters",
	       NULL);
	assert_no_leaks();
}

Test(tools_shell, skips_comments)
{
	splits("# set context", NULL);
	splits("   #x", NULL);
	splits("create # now", "create", NULL);
	splits("exec echo a#b '#c' \\#d", "exec", "echo", "a#b", "#c", "#d", NULL);
	splits("REM it's %NOTHING% \"", NULL);
	splits("  rem", NULL);
	splits("remark x", "remark", "x", NULL);
	splits("exec rem x", "exec", "rem", "x", NULL);
	assert_no_leaks();
}

Test(tools_shell, keeps_what_is_quoted_together)
{
	splits("add tree \"/srv/my files\"", "add", "tree", "/srv/my files", NULL);
	splits("add tree '/srv/my files'", "add", "tree", "/srv/my files", NULL);
	splits("add tree /srv/my\\ files", "add", "tree", "/srv/my files", NULL);
	splits("a\"b c\"'d e'f", "ab cd ef", NULL);
	splits("'a\\b' \"a\\\\b\\\"c\" a\\\\b", "a\\b", "a\\b\"c", "a\\b", NULL);
	splits("'' \"\" x", "", "", "x", NULL);
	splits("'it is \"so\"' \"it's\"", "it is \"so\"", "it's", NULL);
	assert_no_leaks();
}

Test(tools_shell, puts_in_aliases_once)
{
	splits("delete id %SHADOW_1%", "delete", "id", "7f-1", NULL);
	splits("x%SHADOW_1%y%_x9%", "x7f-1yx", NULL);
	splits("\"<%SHADOW_1%>\" '%SHADOW_1%' \\%SHADOW_1\\%", "<7f-1>", "%SHADOW_1%", "%SHADOW_1%",
	       NULL);
	splits("%A% x", "two words 'and' %A% \"quotes\" # \\", "x", NULL);
	assert_no_leaks();
}

Test(tools_shell, leaves_other_percent_signs)
{
	splits("100% %% %%A%% %1% %Y-%m-%d", "100%", "%", "%A%", "%1%", "%Y-%m-%d", NULL);
	splits("exec date +%%H%%M", "exec", "date", "+%H%M", NULL);
	splits("%", "%", NULL);
	splits("%A", "%A", NULL);
	assert_no_leaks();
}

Test(tools_shell, keeps_an_empty_alias_as_a_word)
{
	splits("a %EMPTY% b", "a", "", "b", NULL);
	splits("a \"%EMPTY%\" b", "a", "", "b", NULL);
	assert_no_leaks();
}

Test(tools_shell, refuses_what_it_cannot_read)
{
	refuses("add tree '/srv", -EINVAL, "' is not closed");
	refuses("add tree \"/srv", -EINVAL, "\" is not closed");
	refuses("add tree \"/srv\\\"", -EINVAL, "\" is not closed");
	refuses("add tree /srv\\", -EINVAL, "backslash");
	refuses("a b %NOBODY% c", -ENOENT, "no alias NOBODY");
	refuses("\"%NOBODY%\"", -ENOENT, "no alias NOBODY");
	assert_no_leaks();
}

Test(tools_shell, knows_what_can_be_a_name)
{
	cr_expect(shell_line_is_name("A"));
	cr_expect(shell_line_is_name("_a9"));
	cr_expect_not(shell_line_is_name(""));
	cr_expect_not(shell_line_is_name("9a"));
	cr_expect_not(shell_line_is_name("a-b"));
	cr_expect_not(shell_line_is_name("a=b"));
	cr_expect_not(shell_line_is_name("\xc3\xa4"));
	assert_no_leaks();
}

/* ---- which components a backup of the shell names */

/* Two components on their own, "must" not selectable for backup, and one below "top". */
static json_t *document(const char *must, const char *top, const char *below)
{
	json_t *d =
		json_pack("{s:[{s:s, s:b, s:[{s:s}]}, {s:s, s:[{s:s}]}, {s:s, s:s, s:[{s:s}]}]}",
			  "components", "name", "must", "selectable_for_backup", 0, "file_sets",
			  "path", must, "name", "top", "file_sets", "path", top, "logical_path",
			  "top", "name", "below", "file_sets", "path", below);

	cr_assert(d);
	return d;
}

static void covers(const json_t *d, size_t component, bool want)
{
	json_t *trees = json_pack("[{s:s}, {s:s}]", "path", "/a", "path", "/b/c");

	cr_expect_eq(shell_components_covered(
			     d, json_array_get(json_object_get(d, "components"), component), trees),
		     want, "component %zu", component);
	json_decref(trees);
}

Test(tools_shell, m5_a_component_is_in_a_set_with_all_below_it)
{
	json_t *d = document("/a", "/a/x", "/b/c/d");

	covers(d, 0, true);
	covers(d, 1, true);
	json_decref(d);
	d = document("/ab", "/a", "/b/cd");
	covers(d, 0, false); /* /a is no directory of it */
	covers(d, 1, false); /* what is below it stands for itself, and is not there */
	json_decref(d);
	d = json_pack("{s:[{s:s}]}", "components", "name", "no files at all");
	covers(d, 0, true);
	json_decref(d);
	d = NULL;
	assert_no_leaks();
}

Test(tools_shell, m5_a_writer_without_one_it_must_name_names_none)
{
	json_t *trees = json_pack("[{s:s}]", "path", "/a"), *d = document("/else", "/a", "/a");
	const json_t *missing = shell_components_missing(d, trees);

	cr_expect_str_eq(json_string_value(json_object_get(missing, "name")), "must");
	json_decref(d);
	d = document("/a", "/else", "/else"); /* that one need not be */
	cr_expect_null(shell_components_missing(d, trees));
	cr_expect_null(shell_components_missing(NULL, trees));
	json_decref(d);
	json_decref(trees);
	d = trees = NULL;
	assert_no_leaks();
}
