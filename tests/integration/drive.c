/* Plays the coordinator for one writer program: linked with it in place of the writer library, it takes
 * events from standard input and prints the answers.
 *
 *	EVENT [SESSION [WINDOW_MS]]    e.g. "freeze s1 5000"
 *	-> "ok", "ok CODE: MESSAGE", "fail CODE: MESSAGE"; before that "document JSON" if there is one
 *
 * The trees of the set are in $DRIVE_TREES, one per line. The end of its input is the coordinator's:
 * the abort handler runs if it is armed (W-9), and the program ends. Like the library it calls the abort
 * handler after a failed Freeze or Thaw, and says so: "abort". */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/client/umbra/writer.h"

struct umbra_writer {
	struct umbra_writer_handlers h;
	void *data;
	char *trees[16];
	enum umbra_writer_code code;
	char message[2048];
	char session[64]; /* whose creation is under way */
	bool in_set_events, armed;
};

static bool ended;

static void read_trees(struct umbra_writer *w)
{
	const char *env = getenv("DRIVE_TREES");
	char *copy = strdup(env ? env : ""), *rest = copy, *line;
	size_t n = 0;

	while (n < 15 && (line = strsep(&rest, "\n")))
		if (*line)
			w->trees[n++] = strdup(line);
	free(copy);
}

/* As in writer_private.h, which has another struct umbra_writer. */
int umbra_writer_new_until(const struct umbra_writer_options *options,
			   const struct umbra_writer_handlers *handlers, void *data, int cancel_fd,
			   struct umbra_writer **ret);

int umbra_writer_new_until(const struct umbra_writer_options *options,
			   const struct umbra_writer_handlers *handlers, void *data, int cancel_fd,
			   struct umbra_writer **ret)
{
	struct umbra_writer *w;

	if (ended)
		return -EINVAL;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	setvbuf(stdout, NULL, _IOLBF, 0);
	w->h = *handlers;
	w->data = data;
	read_trees(w);
	printf("registered %s\n", options->name);
	*ret = w;
	return 0;
}

void umbra_writer_free(struct umbra_writer *w)
{
	if (!w)
		return;
	for (size_t i = 0; w->trees[i]; i++)
		free(w->trees[i]);
	free(w);
}

static int call(struct umbra_writer *w, umbra_writer_fn fn, const char *name, const char *session,
		unsigned window_ms)
{
	struct umbra_writer_event e = { .name = name,
					.session_id = session,
					.set_id = "set",
					.origin = strcmp(name, "abort") == 0 ? "requester" : NULL,
					.window_ms = window_ms,
					.arguments = "{}" };

	w->code = UMBRA_WRITER_NO_CODE;
	w->message[0] = 0;
	return fn ? fn(w, &e, w->data) : 0;
}

static umbra_writer_fn handler(const struct umbra_writer *w, const char *name)
{
	const struct {
		const char *name;
		umbra_writer_fn fn;
	} all[] = { { "identify", w->h.identify },
		    { "prepare-backup", w->h.prepare_backup },
		    { "prepare-for-snapshot", w->h.prepare_for_snapshot },
		    { "freeze", w->h.freeze },
		    { "thaw", w->h.thaw },
		    { "post-snapshot", w->h.post_snapshot },
		    { "abort", w->h.abort },
		    { "backup-shutdown", w->h.backup_shutdown } };

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (strcmp(all[i].name, name) == 0)
			return all[i].fn;
	fprintf(stderr, "no such event: %s\n", name);
	exit(2);
}

static void answer(const struct umbra_writer *w, int r)
{
	if (w->code == UMBRA_WRITER_NO_CODE)
		puts(r == 0 ? "ok" : "fail");
	else
		printf("%s %s: %s\n", r == 0 ? "ok" : "fail", umbra_writer_code_name(w->code),
		       w->message);
}

static void event(struct umbra_writer *w, const char *name, const char *session, unsigned window_ms)
{
	int r;

	if (strcmp(name, "prepare-for-snapshot") == 0) {
		w->in_set_events = w->armed = true;
		snprintf(w->session, sizeof(w->session), "%s", session);
	}
	r = call(w, handler(w, name), name, session, window_ms);
	if ((strcmp(name, "abort") == 0 && strcmp(session, w->session) == 0) ||
	    strcmp(name, "post-snapshot") == 0)
		w->in_set_events = w->armed = false;
	answer(w, r);
	if (r != 0 && (strcmp(name, "freeze") == 0 || strcmp(name, "thaw") == 0)) {
		call(w, w->h.abort, "abort", session, 0);
		puts("abort");
	}
}

/* One byte at a time: what poll() sees must not be hidden in a buffer. */
static bool read_line(char *line, size_t size)
{
	size_t n = 0;

	while (n + 1 < size && read(0, line + n, 1) == 1) {
		if (line[n] == '\n') {
			line[n] = 0;
			return true;
		}
		n++;
	}
	return false;
}

int umbra_writer_dispatch(struct umbra_writer *w)
{
	char line[256], name[64] = "", session[64] = "s1";
	unsigned window_ms = 0;

	if (!read_line(line, sizeof(line))) {
		ended = true;
		if (w->armed)
			call(w, w->h.abort, "abort", NULL, 0);
		return -ECONNRESET;
	}
	if (sscanf(line, "%63s %63s %u", name, session, &window_ms) >= 1)
		event(w, name, session, window_ms);
	return 0;
}

int umbra_writer_run(struct umbra_writer *w)
{
	int r;

	do
		r = umbra_writer_dispatch(w);
	while (r == 0);
	return r;
}

void umbra_writer_stop(struct umbra_writer *w)
{
}

const char *umbra_writer_instance_id(const struct umbra_writer *w)
{
	return "00000000-0000-4000-8000-000000000000";
}

int umbra_writer_fd(const struct umbra_writer *w)
{
	return 0;
}

int umbra_writer_timeout_ms(const struct umbra_writer *w)
{
	return -1;
}

void umbra_writer_set_failure(struct umbra_writer *w, enum umbra_writer_code code,
			      const char *message)
{
	w->code = code;
	snprintf(w->message, sizeof(w->message), "%s", message ? message : "");
}

int umbra_writer_set_document(struct umbra_writer *w, const char *json)
{
	printf("document %s\n", json);
	return 0;
}

int umbra_writer_set_metadata(struct umbra_writer *w, const char *json)
{
	return 0;
}

int umbra_writer_path_in_set(const struct umbra_writer *w, const char *path)
{
	if (!w->in_set_events)
		return -EBADF;
	for (size_t i = 0; w->trees[i]; i++) {
		size_t n = strlen(w->trees[i]);

		if (strncmp(path, w->trees[i], n) == 0 && (path[n] == '/' || !path[n]))
			return 1;
	}
	return 0;
}

const char *umbra_writer_tree(const struct umbra_writer *w, size_t i)
{
	return w->in_set_events ? w->trees[i] : NULL;
}

bool umbra_writer_armed(const struct umbra_writer *w)
{
	return w->armed;
}

const char *umbra_writer_error(const struct umbra_writer *w)
{
	return ended ? "its input has ended" : "";
}

const char *umbra_writer_code_name(enum umbra_writer_code code)
{
	static const char *const names[] = {
		"",	     "inconsistent-snapshot", "out-of-resources", "timeout",
		"retryable", "non-retryable",	      "recovery-failed",  "partial-failure"
	};

	return names[code];
}
