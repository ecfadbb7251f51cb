/* A writer: an application that keeps two files in step, and so that every snapshot shows them in step.
 *
 *	cc writer.c -o writer $(pkg-config --cflags --libs umbra)
 *	./writer ~/data
 *
 * It appends a number to DIR/a and then to DIR/b, over and over. A snapshot in between the two would
 * have a number more in a than in b; the freeze handler sees to it that there is none. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <umbra/writer.h>

struct app {
	const char *dir;
	FILE *a, *b;
	bool frozen;
};

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

/* Not all of our data in the set: such a snapshot would be of no use to us (W-12). */
static int prepare(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	struct app *app = data;

	(void)e;
	if (umbra_writer_path_in_set(w, app->dir) == 1)
		return 0;
	umbra_writer_set_failure(w, UMBRA_WRITER_INCONSISTENT_SNAPSHOT, app->dir);
	return 1;
}

/* What is in our own buffers must be in the files before they are frozen. */
static int freeze(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	struct app *app = data;

	(void)e;
	if (fflush(app->a) != 0 || fflush(app->b) != 0) {
		umbra_writer_set_failure(w, UMBRA_WRITER_RETRYABLE, "cannot write");
		return 1;
	}
	app->frozen = true;
	return 0;
}

/* Thaw and Abort alike; it may be called more than once, also without a freeze before. */
static int go_on(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	struct app *app = data;

	(void)w;
	(void)e;
	app->frozen = false;
	return 0;
}

static FILE *open_in(const char *dir, const char *name)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return fopen(path, "a");
}

/* Between the two there is a moment in which the files are not in step. */
static bool step(struct app *app, unsigned long i)
{
	const struct timespec moment = { .tv_nsec = 5000000 };

	if (fprintf(app->a, "%lu\n", i) < 0 || fflush(app->a) != 0)
		return false;
	nanosleep(&moment, NULL);
	return fprintf(app->b, "%lu\n", i) > 0;
}

static int work(struct app *app, struct umbra_writer *w)
{
	struct pollfd p = { .fd = umbra_writer_fd(w), .events = POLLIN };
	int r = 0;

	for (unsigned long i = 0; !stop && r == 0; i++) {
		while (app->frozen && !stop && r == 0)
			if (poll(&p, 1, -1) >= 0 || errno == EINTR)
				r = umbra_writer_dispatch(w);
		if (stop || r < 0)
			break;
		if (!step(app, i))
			return 1;
		if (poll(&p, 1, 0) > 0) /* between two steps, never in one */
			r = umbra_writer_dispatch(w);
	}
	if (r < 0)
		fprintf(stderr, "%s\n", umbra_writer_error(w));
	return r < 0;
}

int main(int argc, char **argv)
{
	const struct umbra_writer_options options = {
		.size = sizeof(options),
		.class_id = "5d0f8f9e-6c1c-4d4c-9d5e-3b6f0c1a7e21", /* uuidgen made it, once */
		.name = "Example",
		.usage = "user-data",
		.window_ms = 10000,
	};
	const struct umbra_writer_handlers handlers = {
		.size = sizeof(handlers),
		.prepare_for_snapshot = prepare,
		.freeze = freeze,
		.thaw = go_on,
		.abort = go_on,
	};
	struct app app = { .dir = argc == 2 ? argv[1] : NULL };
	struct umbra_writer *w;
	int status;

	if (!app.dir || !(app.a = open_in(app.dir, "a")) || !(app.b = open_in(app.dir, "b"))) {
		fprintf(stderr, "usage: %s DIR\n", argv[0]);
		return 2;
	}
	if (umbra_writer_new(&options, &handlers, &app, &w) < 0) {
		fprintf(stderr, "%s\n", umbra_writer_error(NULL));
		return 1;
	}
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	printf("writer %s\n", umbra_writer_instance_id(w));
	fflush(stdout);
	status = work(&app, w);
	umbra_writer_free(w);
	return fclose(app.a) != 0 || fclose(app.b) != 0 || status;
}
