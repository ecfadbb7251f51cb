/* A writer for scripts, on the client library.
 *
 *	actor NAME LEVEL WINDOW_MS DIR [HANDLER=WAY]...
 *
 * WAY is what it does in that handler: fail, coded (ok with a code), stall (until DIR/NAME.go is written to), die.
 * In DIR: NAME.log has one line for each event, "freeze", "abort provider", and "stalls EVENT" when it stands still;
 * of pre-restore and post-restore also their components, "post-restore db=all". NAME.document, if it is there, is its
 * writer document, NAME.targets what it answers to pre-restore with. NAME.frozen exists between freeze and thaw or abort: the application's data must not change meanwhile. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/client/umbra/writer.h"

static const char *name, *dir;
static char **ways;
static int n_ways;
static struct umbra_writer *writer;

static void path_of(char path[PATH_MAX], const char *what)
{
	snprintf(path, PATH_MAX, "%s/%s.%s", dir, name, what);
}

/* One write(2) for each line, so that readers never see half of one. */
static void note(const char *a, const char *b)
{
	char path[PATH_MAX], line[256];
	int len = snprintf(line, sizeof(line), "%s%s%s\n", a, b ? " " : "", b ? b : "");
	int fd;

	path_of(path, "log");
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, line, (size_t)len) != len)
		exit(9);
	close(fd);
}

static void mark(bool frozen)
{
	char path[PATH_MAX];

	path_of(path, "frozen");
	if (frozen)
		close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	else
		unlink(path);
}

static const char *way_of(const char *event)
{
	size_t len = strlen(event);

	for (int i = 0; i < n_ways; i++)
		if (strncmp(ways[i], event, len) == 0 && ways[i][len] == '=')
			return ways[i] + len + 1;
	return "well";
}

/* A FIFO, so that nothing is polled. */
static void stall(const char *event)
{
	char path[PATH_MAX], byte;
	int fd;

	path_of(path, "go");
	note("stalls", event);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, &byte, 1) < 0)
		exit(9);
	close(fd);
}

/* A file of ours, malloc'ed; NULL: it is not there. */
static char *content_of(const char *what)
{
	char path[PATH_MAX], *text = NULL;
	size_t size = 0;
	FILE *f;

	path_of(path, what);
	f = fopen(path, "re");
	if (!f)
		return NULL;
	if (getdelim(&text, &size, 0, f) < 0)
		exit(9);
	fclose(f);
	return text;
}

static int on_identify(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	char *text = content_of("document");
	int r = text ? umbra_writer_set_document(w, text) : 0;

	(void)e;
	(void)data;
	free(text);
	return r;
}

/* "NAME=STATUS ..." of a restore's components, malloc'ed. */
static char *components_of(const struct umbra_writer_event *e)
{
	json_t *arguments = json_loads(e->arguments, 0, NULL), *one;
	char *text = strdup(""), *more;
	size_t i;

	json_array_foreach(json_object_get(arguments, "components"), i, one) {
		if (asprintf(&more, "%s%s%s=%s", text, *text ? " " : "",
			     json_string_value(json_object_get(one, "name")),
			     json_string_value(json_object_get(one, "file_restore_status"))) < 0)
			exit(9);
		free(text);
		text = more;
	}
	json_decref(arguments);
	return text;
}

static int on_restore(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	const char *way = way_of(e->name);
	char *components = components_of(e), *targets = NULL;

	(void)data;
	if (strcmp(e->name, "pre-restore") == 0)
		targets = content_of("targets");
	if (strcmp(way, "stall") == 0)
		stall(e->name);
	note(e->name, components);
	if (targets)
		umbra_writer_set_targets(w, targets);
	if (strcmp(way, "fail") == 0)
		umbra_writer_set_failure(w, UMBRA_WRITER_RETRYABLE, "as the test wants it");
	free(components);
	free(targets);
	return strcmp(way, "fail") == 0 ? -1 : 0;
}

static int on_event(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	const char *way = way_of(e->name);

	(void)data;
	if (strcmp(e->name, "freeze") == 0)
		mark(true);
	if (strcmp(way, "stall") == 0)
		stall(e->name);
	if (strcmp(way, "die") == 0) {
		note("dies", e->name);
		_exit(3);
	}
	note(e->name, e->origin);
	if (strcmp(e->name, "thaw") == 0 || strcmp(e->name, "abort") == 0)
		mark(false);
	if (strcmp(way, "fail") == 0)
		umbra_writer_set_failure(w, UMBRA_WRITER_RETRYABLE, "as the test wants it");
	if (strcmp(way, "coded") == 0)
		umbra_writer_set_failure(w, UMBRA_WRITER_OUT_OF_RESOURCES, "as the test wants it");
	return strcmp(way, "fail") == 0 ? -1 : 0;
}

static void on_signal(int sig)
{
	(void)sig;
	if (writer)
		umbra_writer_stop(writer);
}

int main(int argc, char **argv)
{
	static const struct umbra_writer_handlers handlers = {
		.size = sizeof(handlers),
		.identify = on_identify,
		.prepare_backup = on_event,
		.prepare_for_snapshot = on_event,
		.freeze = on_event,
		.thaw = on_event,
		.post_snapshot = on_event,
		.abort = on_event,
		.backup_complete = on_event,
		.backup_shutdown = on_event,
		.pre_restore = on_restore,
		.post_restore = on_restore,
	};
	struct umbra_writer_options options = {
		.size = sizeof(options), .class_id = "4c9f31d2-68b8-4e9b-9a52-5f8f5f6c7a01"
	};
	char path[PATH_MAX];
	int r;

	if (argc < 5) {
		fprintf(stderr, "usage: actor NAME LEVEL WINDOW_MS DIR [HANDLER=WAY]...\n");
		return 2;
	}
	name = options.name = argv[1];
	options.level = strcmp(argv[2], "system") == 0	   ? UMBRA_LEVEL_SYSTEM
			: strcmp(argv[2], "back-end") == 0 ? UMBRA_LEVEL_BACK_END
							   : UMBRA_LEVEL_FRONT_END;
	options.window_ms = (uint32_t)atoi(argv[3]);
	dir = argv[4];
	ways = argv + 5;
	n_ways = argc - 5;
	path_of(path, "go");
	if (mkfifo(path, 0600) < 0 && errno != EEXIST)
		return 1;
	signal(SIGTERM, on_signal);
	r = umbra_writer_new(&options, &handlers, NULL, &writer);
	if (r < 0) {
		fprintf(stderr, "actor: %s\n", umbra_writer_error(NULL));
		return 1;
	}
	note("registered", umbra_writer_instance_id(writer));
	r = umbra_writer_run(writer);
	umbra_writer_free(writer);
	note("ended", NULL);
	return r < 0 ? 1 : 0;
}
