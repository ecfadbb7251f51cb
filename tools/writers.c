/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* umbra writers: who takes part in snapshots, and how each one's last session went. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "tools/commands.h"
#include "tools/common.h"
#include "tools/print.h"

/* The words of K-5; the numbers are those of VSS_WRITER_STATE, which scripts look at (K-4). */
static const struct {
	const char *state, *word;
	int number;
} states[] = {
	{ "stable", "Stable", 1 },
	{ "waiting-for-freeze", "Waiting for freeze", 2 },
	{ "waiting-for-thaw", "Frozen", 3 },
	{ "waiting-for-post-snapshot", "Waiting for post-snapshot", 4 },
	{ "waiting-for-backup-complete", "Waiting for completion", 5 },
	{ "failed-at-identify", "Failed", 6 },
	{ "failed-at-prepare-backup", "Failed", 7 },
	{ "failed-at-prepare-snapshot", "Failed", 8 },
	{ "failed-at-freeze", "Failed", 9 },
	{ "failed-at-thaw", "Failed", 10 },
	{ "failed-at-post-snapshot", "Failed", 11 },
	{ "failed-at-backup-complete", "Failed", 12 },
	{ "failed-at-pre-restore", "Failed", 13 },
	{ "failed-at-post-restore", "Failed", 14 },
	{ "failed-at-backup-shutdown", "Failed", 15 },
};
#define STATES (sizeof(states) / sizeof(states[0]))

static const char *state_word(const char *state, int *ret_number)
{
	for (size_t i = 0; i < STATES; i++) {
		if (strcmp(state, states[i].state) == 0) {
			*ret_number = states[i].number;
			return states[i].word;
		}
	}
	*ret_number = 0;
	return "Unknown";
}

/* K-5. What it has no word of its own for needs an operator as well (E-1). */
static const char *error_word(const char *error)
{
	static const char *const words[][2] = {
		{ "", "No error" },
		{ "inconsistent-snapshot", "Inconsistent shadow copy" },
		{ "out-of-resources", "Out of resources" },
		{ "timeout", "Timed out" },
		{ "retryable", "Retryable error" },
		{ "writer-not-responding", "Not responding" },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(error, words[i][0]) == 0)
			return words[i][1];
	}
	return "Non-retryable error";
}

/* The row of a writer's latest session, NULL before the first. Borrowed. */
static const json_t *row_of(const json_t *answer, const char *instance_id)
{
	const json_t *row;
	size_t i;

	json_array_foreach(json_object_get(answer, "status"), i, row) {
		if (strcmp(tool_str(row, "instance_id"), instance_id) == 0)
			return row;
	}
	return NULL;
}

static void print_more(const char *key, const char *value)
{
	if (*value)
		printf("   %s: %s\n", key, LOG_QUOTE(value));
}

static void print_writer(const json_t *w, const json_t *row)
{
	const char *error = tool_str(row, "error");
	enum print_colour colour = *error ? PRINT_RED : PRINT_GREEN;
	int number;
	const char *word = state_word(row ? tool_str(row, "state") : "stable", &number);

	/* Names and order as scripts for vssadmin know them; ours follow. */
	printf("Writer name: '%s%s%s'\n", print_colour(PRINT_BOLD), LOG_QUOTE(tool_str(w, "name")),
	       print_colour(PRINT_PLAIN));
	printf("   Writer Id: {%s}\n", tool_str(w, "class_id"));
	printf("   Writer Instance Id: {%s}\n", tool_str(w, "instance_id"));
	printf("   State: [%d] %s\n", number, word);
	printf("   Last error: %s%s%s\n", print_colour(colour), error_word(error),
	       print_colour(PRINT_PLAIN));
	print_more("Message", tool_str(row, "message"));
	print_more("Instance name", tool_str(w, "instance_name"));
	print_more("Session Id", tool_str(row, "session_id"));
	if (json_is_integer(json_object_get(row, "frozen_ms")))
		printf("   Frozen for: %.3f s\n", (double)tool_int(row, "frozen_ms") / 1000);
	putchar('\n');
}

/* Both objects of a writer as one; its words beside them. */
static json_t *to_json(const json_t *w, const json_t *row)
{
	json_t *o = json_deep_copy(w);
	int number;
	const char *word = state_word(row ? tool_str(row, "state") : "stable", &number);

	if (o && row)
		json_object_update_missing(o, (json_t *)row);
	json_object_set_new(o, "state_number", json_integer(number));
	json_object_set_new(o, "state_text", json_string(word));
	json_object_set_new(o, "error_text", json_string(error_word(tool_str(row, "error"))));
	return o;
}

static void print_all(const json_t *answer)
{
	const json_t *w, *writers = json_object_get(answer, "writers");
	json_t *out = json_array();
	size_t i;

	json_array_foreach(writers, i, w) {
		const json_t *row = row_of(answer, tool_str(w, "instance_id"));

		if (tool_opts.json)
			json_array_append_new(out, to_json(w, row));
		else
			print_writer(w, row);
	}
	if (tool_opts.json)
		print_json(json_pack("{sO}", "writers", out));
	else if (json_array_size(writers) == 0)
		log_info("no writer is registered (try: umbra writer --help)");
	json_decref(out);
}

static int run(int argc, char **argv)
{
	static const struct option options[] = { TOOL_LONG, { 0 } };
	CLEANUP(umbra_close_p) struct umbra_client *client = NULL;
	CLEANUP(json_decref_p) json_t *answer = NULL;
	int c, r;

	while ((c = getopt_long(argc, argv, TOOL_SHORT, options, NULL)) != -1) {
		r = tool_option(&cmd_writers, c, argv);
		if (r != TOOL_GO_ON)
			return r;
	}
	if (argc - optind > 1 || (optind < argc && strcmp(argv[optind], "list") != 0))
		return tool_usage(&cmd_writers, "the only word that may follow is list");
	r = tool_connect(&client);
	if (r == 0)
		r = tool_call(client, "ListWriters", NULL, &answer);
	if (r == 0)
		print_all(answer);
	return r;
}

const struct command cmd_writers = {
	.name = "writers",
	.args = "[OPTION]... [list]",
	.summary = "list who takes part in snapshots, and how each one's last session went",
	.help = "A writer is Stable or Waiting for completion when all is well; an error is that of the\n"
		"session whose id is shown, which may be an earlier one.\n\n"
		"Example: umbra writers\n",
	.run = run,
};
