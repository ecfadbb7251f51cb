/* coordinator/client/document.h: M-1 to M-5, M-10, X-6, X-8, X-9; and what the coordinator keeps with a
 * snapshot (coordinator/extra.h). */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/client/document.h"
#include "coordinator/extra.h"
#include "tests/support/leaks.h"

static const char *const good =
	"{\"version\": \"1.0\", \"restore_method\": {\"method\": \"custom\"}, \"later\": {\"x\": 1},"
	" \"components\": ["
	"  {\"type\": \"database\", \"name\": \"a\", \"file_sets\": ["
	"    {\"path\": \"/d\", \"pattern\": \"*.db\", \"recursive\": true}],"
	"   \"dependencies\": [{\"class_id\": \"c\", \"name\": \"n\"}]},"
	"  {\"type\": \"file-group\", \"logical_path\": \"a\", \"name\": \"b\"}],"
	" \"exclude_files\": [{\"path\": \"/d\", \"pattern\": \"?.tmp\"}],"
	" \"exclude_from_snapshot\": [{\"path\": \"/d\", \"pattern\": \"cache\"}],"
	" \"alternate_mappings\": [{\"path\": \"/d\", \"pattern\": \"*.db\", \"recursive\": true,"
	"   \"alternate_path\": \"/e\"}]}";

/* The good document with `from` replaced; NULL: as it is. */
static json_t *changed(const char *from, const char *to)
{
	const char *at = from ? strstr(good, from) : NULL;
	char *text = NULL;
	json_t *o;

	if (from)
		cr_assert(at, "%s", from);
	cr_assert(asprintf(&text, "%.*s%s%s", at ? (int)(at - good) : 0, good, at ? to : "",
			   at ? at + strlen(from) : good) > 0);
	o = json_loads(text, 0, NULL);
	cr_assert(o, "%s", text);
	free(text);
	return o;
}

static void is_wrong(const char *from, const char *to, const char *phrase)
{
	json_t *o = changed(from, to);
	const char *problem = umbra_document_writer_problem(o);

	cr_expect(problem && strstr(problem, phrase), "%s -> %s: %s", from, to,
		  problem ? problem : "no problem");
	json_decref(o);
}

static void is_right(const char *from, const char *to)
{
	json_t *o = changed(from, to);
	const char *problem = umbra_document_writer_problem(o);

	cr_expect_null(problem, "%s -> %s: %s", from ? from : "", to ? to : "", problem);
	json_decref(o);
}

/* ---- writer documents ---- */

/* M-1 */
Test(coord_document, a_writer_document_has_one_method_and_a_component)
{
	json_t *array = json_array();

	is_right(NULL, NULL);
	cr_expect(umbra_document_writer_problem(array));
	cr_expect(umbra_document_writer_problem(NULL));
	is_wrong("\"restore_method\": {\"method\": \"custom\"}", "\"restore_method\": null",
		 "one restore_method");
	is_wrong("\"restore_method\": {\"method\": \"custom\"}", "\"restore_method\": []",
		 "one restore_method");
	is_wrong("\"components\"", "\"nothing\"", "at least one component");
	is_wrong("\"components\": [", "\"components\": [], \"old\": [", "at least one component");
	json_decref(array);
	assert_no_leaks();
}

/* M-2 */
Test(coord_document, components_have_a_kind_and_a_name_of_their_own)
{
	is_wrong("\"type\": \"database\"", "\"type\": \"table\"", "database or file-group");
	is_wrong("\"name\": \"a\"", "\"name\": \"\"", "needs a name");
	is_wrong("\"name\": \"a\"", "\"name\": 1", "needs a name");
	is_wrong("\"name\": \"a\"", "\"name\": \"x/y\"", "slash");
	is_wrong("\"logical_path\": \"a\", \"name\": \"b\"", "\"name\": \"a\"",
		 "same path and name");
	is_right("\"logical_path\": \"a\", \"name\": \"b\"",
		 "\"logical_path\": \"a\", \"name\": \"a\"");
	is_right("\"type\": \"database\"",
		 "\"type\": \"database\", \"selectable_for_restore\": null");
	is_wrong("\"type\": \"database\"",
		 "\"type\": \"database\", \"selectable_for_restore\": \"yes\"", "wrong type");
	is_wrong("\"type\": \"database\"", "\"type\": \"database\", \"logical_path\": 3",
		 "wrong type");
	is_wrong("{\"class_id\": \"c\", ", "{", "dependency");
	is_wrong("\"dependencies\": [{\"class_id\": \"c\", \"name\": \"n\"}]",
		 "\"dependencies\": {}", "not a list");
	assert_no_leaks();
}

/* M-3 */
Test(coord_document, file_sets_have_a_path_and_a_pattern_without_directory)
{
	is_wrong("\"pattern\": \"*.db\"", "\"pattern\": \"x/*.db\"", "directory part");
	is_wrong("\"pattern\": \"*.db\"", "\"pattern\": \"\"", "needs a pattern");
	is_wrong("\"path\": \"/d\", \"pattern\": \"*.db\"", "\"pattern\": \"*.db\"",
		 "absolute path");
	is_wrong("\"path\": \"/d\", \"pattern\": \"*.db\"",
		 "\"path\": \"d\", \"pattern\": \"*.db\"", "absolute path");
	is_wrong("\"recursive\": true", "\"recursive\": 1", "wrong type");
	is_wrong("\"pattern\": \"?.tmp\"", "\"pattern\": \"/\"", "directory part");
	is_wrong("\"pattern\": \"cache\"", "\"no\": \"cache\"", "needs a pattern");
	is_wrong("[{\"path\": \"/d\", \"pattern\": \"cache\"}]", "{}", "not a list");
	is_wrong("{\"path\": \"/d\", \"pattern\": \"cache\"}", "7", "not an object");
	/* The exact bytes count, not the name for people. */
	is_right("\"path\": \"/d\", \"pattern\": \"cache\"",
		 "\"path\": \"/\\ufffd\", \"path_base64\": \"L/8=\", \"pattern\": \"cache\"");
	is_wrong("\"path\": \"/d\", \"pattern\": \"cache\"",
		 "\"path\": \"/d\", \"path_base64\": \"L/\", \"pattern\": \"cache\"",
		 "absolute path");
	assert_no_leaks();
}

/* M-4 */
Test(coord_document, mappings_repeat_path_pattern_and_flag_of_a_file_set)
{
	static const char mapping[] =
		"\"alternate_mappings\": [{\"path\": \"/d\", \"pattern\": \"*.db\", \"recursive\": true";

	is_wrong(mapping, "\"alternate_mappings\": [{\"path\": \"/d\", \"pattern\": \"*.db\"",
		 "repeats no file set");
	is_wrong(
		mapping,
		"\"alternate_mappings\": [{\"path\": \"/d\", \"pattern\": \"*.d\", \"recursive\": true",
		"repeats no file set");
	is_wrong(
		mapping,
		"\"alternate_mappings\": [{\"path\": \"/\", \"pattern\": \"*.db\", \"recursive\": true",
		"repeats no file set");
	/* An excluded file is in no component. */
	is_wrong(mapping, "\"alternate_mappings\": [{\"path\": \"/d\", \"pattern\": \"?.tmp\"",
		 "repeats no file set");
	assert_no_leaks();
}

/* */
Test(coord_document, methods_and_callings_are_those_there_are)
{
	static const char *const methods[] = {
		"restore-if-not-there",
		"restore-if-can-replace",
		"stop-restore-start",
		"restore-stop-start",
		"to-alternate-location",
		"at-reboot",
		"custom",
		"at-reboot-if-cannot-replace",
	};
	char to[100];

	for (size_t i = 0; i < 8; i++) {
		snprintf(to, sizeof(to), "{\"method\": \"%s\"", methods[i]);
		is_right("{\"method\": \"custom\"", to);
	}
	is_wrong("{\"method\": \"custom\"", "{\"method\": \"undefined\"", "none of those");
	is_right("{\"method\": \"custom\"",
		 "{\"method\": \"custom\", \"writer_restore\": \"if-replace-fails\"");
	is_wrong("{\"method\": \"custom\"",
		 "{\"method\": \"custom\", \"writer_restore\": \"sometimes\"", "writer_restore");
	assert_no_leaks();
}

/* */
Test(coord_document, an_alternate_location_needs_a_mapping)
{
	json_t *o = changed("\"method\": \"custom\"", "\"method\": \"to-alternate-location\"");

	cr_expect_null(umbra_document_writer_problem(o));
	json_object_del(o, "alternate_mappings");
	cr_expect(umbra_document_writer_problem(o));
	json_decref(o);
	assert_no_leaks();
}

/* M-10 */
Test(coord_document, versions_and_unknown_members)
{
	is_right("\"version\": \"1.0\"", "\"version\": \"1.77\"");
	is_right("\"version\": \"1.0\"", "\"version\": \"1\"");
	is_wrong("\"version\": \"1.0\"", "\"version\": \"2.0\"", "version");
	is_wrong("\"version\": \"1.0\"", "\"version\": \"10\"", "version");
	is_wrong("\"version\": \"1.0\"", "\"version\": \"1x\"", "version");
	is_wrong("\"version\": \"1.0\"", "\"version\": 1", "version");
	is_wrong("\"version\": \"1.0\"", "\"versio\": \"1.0\"", "version");
	assert_no_leaks();
}

/* M-5: a tree of five, two of them not selectable. */
/* M-5 */
Test(coord_document, what_may_be_added_by_itself)
{
	static const struct {
		const char *path, *name;
		bool selectable, may;
	} rows[] = {
		{ "", "top", true, true },
		{ "top", "in", false, false },	   /* the selectable one above brings it in */
		{ "top/in", "deep", true, false }, /* selectable or not */
		{ "top/in", "deep2", false, false },
		{ "", "lone", false, true }, /* no selectable ancestor: must be explicit */
		{ "lone", "child", false, true },
		{ "topper", "x", false, true }, /* `top` is no ancestor of topper */
	};
	json_t *o = json_pack("{s:[]}", "components");

	for (size_t i = 0; i < 7; i++)
		json_array_append_new(json_object_get(o, "components"),
				      json_pack("{s:s, s:s, s:b}", "logical_path", rows[i].path,
						"name", rows[i].name, "selectable_for_backup",
						rows[i].selectable));
	for (size_t i = 0; i < 7; i++)
		cr_expect_eq(umbra_document_may_add(o, rows[i].path, rows[i].name), rows[i].may,
			     "%s / %s", rows[i].path, rows[i].name);
	cr_expect(!umbra_document_may_add(o, "", "none"));
	cr_expect_null(umbra_document_component(o, "", "in"));
	cr_expect(umbra_document_is_below(umbra_document_component(o, "", "top"), "top/in"));
	cr_expect(!umbra_document_is_below(umbra_document_component(o, "", "top"), "topper"));
	cr_expect(!umbra_document_is_below(umbra_document_component(o, "", "top"), ""));
	cr_expect(!umbra_document_selectable_for_restore(
		umbra_document_component(o, "", "top"))); /* M-2: default no */
	json_decref(o);
	assert_no_leaks();
}

/* ---- saved documents ---- */

static void reading(const char *text, int want)
{
	json_t *untouched = (json_t *)&good, *o = untouched;
	const char *problem = NULL;
	int r = umbra_document_read_backup(text, &o, &problem);

	cr_expect_eq(r, want, "%.60s: %d %s", text, r, problem ? problem : "");
	if (r == 0)
		json_decref(o);
	else
		cr_expect(o == untouched && problem, "%.60s", text);
}

#define BACKUP(writers)                                                                            \
	"{\"kind\": \"umbra-backup\", \"version\": \"1.0\", \"writers\": " writers "}"
#define WRITER(id, components)                                                                     \
	"{\"class_id\": \"c\", \"instance_id\": \"" id "\", \"components\": " components "}"

/* M-10 */
Test(coord_document, damaged_is_told_from_not_ours)
{
	char deep[400] = BACKUP("[]"), *at = strchr(deep, '[');

	reading(BACKUP("[]"), 0);
	reading(BACKUP("[" WRITER("i", "[]") ", " WRITER("j", "[]") "]"), 0);
	reading("", -EBADMSG);
	reading(BACKUP("[]") "x", -EBADMSG);
	reading("{\"a\": \"\xff\"}", -EBADMSG);
	reading("{\"a\": 1, \"a\": 2}", -EBADMSG);
	reading("{}", -EINVAL);
	reading("[]", -EINVAL);
	reading(BACKUP("{}"), -EINVAL);
	reading(BACKUP("[1]"), -EINVAL);
	reading(BACKUP("[" WRITER("", "[]") "]"), -EINVAL);
	reading(BACKUP("[" WRITER("i", "{}") "]"), -EINVAL);
	reading(BACKUP("[" WRITER("i", "[{\"name\": \"x\"}]") "]"), -EINVAL);
	reading(BACKUP("[" WRITER("i", "[{\"logical_path\": \"\", \"name\": \"\"}]") "]"), -EINVAL);
	reading(BACKUP("[" WRITER("i", "[{\"logical_path\": \"\", \"name\": \"x\"}]") "]"), 0);
	reading(BACKUP("[" WRITER("i", "[{\"logical_path\": \"\", \"name\": \"x\"}, "
				       "{\"logical_path\": \"\", \"name\": \"x\"}]") "]"),
		-EINVAL);
	reading(BACKUP("[" WRITER("i", "[]") ", " WRITER("i", "[]") "]"), -EINVAL);
	strcpy(at, "[], \"x\": ");
	memset(deep + strlen(deep), '[', 45);
	memset(deep + strlen(deep), ']', 45);
	strcat(deep, "}");
	reading(deep, -EINVAL); /* no message could carry it */
	assert_no_leaks();
}

/* M-1 */
Test(coord_document, a_saved_writer_document_says_whose_it_is)
{
	const char *problem = NULL;
	json_t *o, *read = NULL;
	char *text;

	cr_expect_eq(umbra_document_read_writer(good, &read, &problem), -EINVAL);
	cr_expect(!read && problem);
	o = changed(NULL, NULL);
	json_object_set_new(o, "instance_id", json_string("i"));
	text = json_dumps(o, 0);
	cr_expect_eq(umbra_document_read_writer(text, &read, &problem), 0);
	cr_expect(json_equal(o, read)); /* M-10: unknown members are kept */
	json_decref(read);
	json_decref(o);
	free(text);
	assert_no_leaks();
}

/* ---- what is kept with a snapshot ---- */

static json_t *rows(size_t n, size_t len)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++) {
		char *text = calloc(1, len + 1);

		memset(text, 'x', len);
		json_array_append_new(list, json_pack("{s:i, s:s}", "n", (int)i, "name", text));
		free(text);
	}
	return list;
}

static void fits(size_t n, size_t len, bool all)
{
	json_t *list = rows(n, len), *o;
	size_t kept, left_out;
	char *before = NULL, *text = NULL;

	cr_assert_eq(coord_extra_print("why", &before), 0);
	cr_assert_eq(coord_extra_add_writers(before, list, &text), 0);
	cr_expect_leq(strlen(text), COORD_EXTRA_MAX);
	o = coord_extra_parse(text);
	kept = json_array_size(json_object_get(o, "writers"));
	left_out = (size_t)json_integer_value(json_object_get(o, "writers_left_out"));
	cr_expect_eq(kept + left_out, n, "%zu + %zu of %zu", kept, left_out, n);
	cr_expect_eq(left_out == 0, all, "%zu of %zu left out", left_out, n);
	/* The first ones are kept: failed writers come first. */
	for (size_t i = 0; i < kept; i++)
		cr_expect_eq(json_integer_value(json_object_get(
				     json_array_get(json_object_get(o, "writers"), i), "n")),
			     (json_int_t)i);
	cr_expect_str_eq(json_string_value(json_object_get(o, "description")), "why");
	cr_expect_eq(json_array_size(list), n, "the caller's rows are his");
	json_decref(o);
	json_decref(list);
	free(before);
	free(text);
}

Test(coord_extra, rows_that_find_no_room_are_left_out_and_counted)
{
	fits(0, 0, true);
	fits(1, 10, true);
	fits(20, 100, true);
	fits(200, 100, false);
	fits(2, 5000, false);
	fits(1, 9000, false);
	fits(3000, 1, false);
	assert_no_leaks();
}

/* M-10 */
Test(coord_extra, unknown_members_stay_and_nonsense_reads_as_nothing)
{
	json_t *list = rows(1, 1), *o;
	char *text = NULL;

	cr_assert_eq(coord_extra_add_writers("{\"later\": [1]}", list, &text), 0);
	o = coord_extra_parse(text);
	cr_expect_eq(json_array_size(json_object_get(o, "later")), 1);
	json_decref(o);
	free(text);
	cr_assert_eq(coord_extra_add_writers(NULL, list, &text), 0);
	free(text);
	cr_assert_eq(coord_extra_add_writers("[1", list, &text), 0);
	free(text);
	o = coord_extra_parse("7");
	cr_expect(json_is_object(o) && json_object_size(o) == 0);
	json_decref(o);
	json_decref(list);
	assert_no_leaks();
}

Test(coord_extra, description_that_is_too_long_is_refused)
{
	char *long_text = calloc(1, COORD_EXTRA_MAX + 1), *text = NULL;

	memset(long_text, 'x', COORD_EXTRA_MAX);
	cr_expect_eq(coord_extra_print(long_text, &text), -E2BIG);
	cr_expect_null(text);
	free(long_text);
	assert_no_leaks();
}
