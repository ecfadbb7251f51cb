/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/shell_line.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cow/base/cleanup.h"

/* The word that is being put together. */
struct word {
	char *text;
	size_t len, size;
};

struct split {
	const char *p; /* what is left of the line */
	shell_lookup_fn *lookup;
	void *data;
	char *problem;
};

static void word_done(struct word *w)
{
	free(w->text);
}

static int append(struct word *w, const char *bytes, size_t len)
{
	if (w->size - w->len <= len) { /* one more for the 0 */
		size_t size = (w->len + len + 1) * 2;
		char *bigger = realloc(w->text, size);

		if (!bigger)
			return -ENOMEM;
		w->text = bigger;
		w->size = size;
	}
	memcpy(w->text + w->len, bytes, len);
	w->len += len;
	w->text[w->len] = '\0';
	return 0;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

static bool begins_name(char c)
{
	return isalpha((unsigned char)c) || c == '_';
}

/* How many characters of a name are there. */
static size_t name_length(const char *text)
{
	size_t len = 0;

	if (begins_name(text[0]))
		while (begins_name(text[len]) || isdigit((unsigned char)text[len]))
			len++;
	return len;
}

bool shell_line_is_name(const char *text)
{
	size_t len = name_length(text);

	return len > 0 && !text[len];
}

/* At a percent sign. */
static int take_percent(struct split *s, struct word *w)
{
	size_t len = name_length(s->p + 1);
	CLEANUP(free_p) char *name = NULL;
	const char *value;

	if (s->p[1] == '%') {
		s->p += 2;
		return append(w, "%", 1);
	}
	if (len == 0 || s->p[1 + len] != '%') {
		s->p++;
		return append(w, "%", 1);
	}
	name = strndup(s->p + 1, len);
	if (!name)
		return -ENOMEM;
	value = s->lookup(name, s->data);
	if (!value) {
		snprintf(s->problem, SHELL_PROBLEM_SIZE,
			 "there is no alias %.200s (a percent sign itself is written %%%%)", name);
		return -ENOENT;
	}
	s->p += len + 2;
	return append(w, value, strlen(value));
}

static int take_backslash(struct split *s, struct word *w)
{
	if (!s->p[1]) {
		snprintf(s->problem, SHELL_PROBLEM_SIZE, "the line ends with a backslash");
		return -EINVAL;
	}
	s->p += 2;
	return append(w, s->p - 1, 1);
}

/* At a quote, up to behind its fellow. */
static int take_quoted(struct split *s, struct word *w)
{
	char quote = *s->p++;
	int r = append(w, "", 0); /* '' is a word */

	while (r == 0 && *s->p != quote) {
		if (!*s->p) {
			snprintf(s->problem, SHELL_PROBLEM_SIZE, "a %c is not closed", quote);
			return -EINVAL;
		}
		if (quote == '"' && *s->p == '%')
			r = take_percent(s, w);
		else if (quote == '"' && *s->p == '\\')
			r = take_backslash(s, w);
		else
			r = append(w, s->p++, 1);
	}
	s->p++;
	return r;
}

static int take_word(struct split *s, struct word *w)
{
	int r = 0;

	while (r == 0 && *s->p && !is_blank(*s->p)) {
		switch (*s->p) {
		case '\'':
		case '"':
			r = take_quoted(s, w);
			break;
		case '\\':
			r = take_backslash(s, w);
			break;
		case '%':
			r = take_percent(s, w);
			break;
		default:
			r = append(w, s->p++, 1);
		}
	}
	return r;
}

static int add_word(struct shell_words *words, char *text)
{
	char **list = realloc(words->list, (words->count + 2) * sizeof(*list));

	if (!list) {
		free(text);
		return -ENOMEM;
	}
	words->list = list;
	list[words->count++] = text;
	list[words->count] = NULL;
	return 0;
}

/* Looked at before anything else: an apostrophe in a remark opens no quote. */
static bool is_remark(const char *line)
{
	while (is_blank(*line))
		line++;
	return strncasecmp(line, "rem", 3) == 0 && (!line[3] || is_blank(line[3]));
}

static int split_words(struct split *s, struct shell_words *words)
{
	int r = 0;

	while (r == 0) {
		CLEANUP(word_done) struct word w = { 0 };

		while (is_blank(*s->p))
			s->p++;
		if (!*s->p || *s->p == '#')
			break;
		r = take_word(s, &w);
		if (r == 0)
			r = add_word(words, TAKE(w.text));
	}
	return r;
}

int shell_line_split(const char *line, shell_lookup_fn *lookup, void *data, struct shell_words *ret,
		     char ret_problem[SHELL_PROBLEM_SIZE])
{
	CLEANUP(shell_words_done) struct shell_words words = { 0 };
	struct split s = { .p = line, .lookup = lookup, .data = data, .problem = ret_problem };
	int r = is_remark(line) ? 0 : split_words(&s, &words);

	if (r < 0)
		return r;
	*ret = words;
	words = (struct shell_words){ 0 };
	return 0;
}

void shell_words_done(struct shell_words *w)
{
	for (size_t i = 0; i < w->count; i++)
		free(w->list[i]);
	free(w->list);
	*w = (struct shell_words){ 0 };
}
