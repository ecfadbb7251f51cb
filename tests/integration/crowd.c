/* Many writers, and many sessions one after the other, on the client library.
 *
 *	crowd writers N              registers N writers in this process, prints "ready", serves until SIGTERM; prints
 *	                             "freezes N thaws N" at its end
 *	crowd sessions N DIR...      N backups of a set over all DIRs, one after the other; prints "sessions N
 *	                             median_us N p99_us N" of the time from StartSnapshotSet to the end of DoSnapshotSet */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/client/umbra/requester.h"
#include "coordinator/client/umbra/writer.h"
#include "cow/base/clock.h"

#define CROWD_MAX 1000

static volatile sig_atomic_t stopped;
static unsigned long freezes, thaws;

static void on_signal(int sig)
{
	(void)sig;
	stopped = 1;
}

static int on_prepare(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	(void)e;
	(void)data;
	return umbra_writer_tree(w, 0) ? 0 : -1;
}

static int on_freeze(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	(void)w;
	(void)e;
	++*(unsigned *)data;
	freezes++;
	return 0;
}

/* Thaw and Abort: once for each freeze. */
static int on_thaw(struct umbra_writer *w, const struct umbra_writer_event *e, void *data)
{
	(void)w;
	(void)e;
	thaws += *(unsigned *)data;
	*(unsigned *)data = 0;
	return 0;
}

static int serve(struct umbra_writer **w, size_t n)
{
	static struct pollfd fds[CROWD_MAX];

	for (size_t i = 0; i < n; i++)
		fds[i] = (struct pollfd){ .fd = umbra_writer_fd(w[i]), .events = POLLIN };
	while (!stopped) {
		if (poll(fds, n, 200) < 0 && errno != EINTR)
			return 1;
		for (size_t i = 0; i < n; i++)
			if (fds[i].revents && umbra_writer_dispatch(w[i]) < 0)
				return 1;
	}
	return 0;
}

static int writers(size_t n)
{
	static const struct umbra_writer_handlers handlers = {
		.size = sizeof(handlers),
		.prepare_for_snapshot = on_prepare,
		.freeze = on_freeze,
		.thaw = on_thaw,
		.abort = on_thaw,
	};
	static struct umbra_writer *w[CROWD_MAX];
	static unsigned frozen[CROWD_MAX];
	struct umbra_writer_options options = {
		.size = sizeof(options), .class_id = "7d3c1f58-30a5-4b0f-8f0d-0f3f6c9f2b11"
	};
	char name[32];
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		snprintf(name, sizeof(name), "writer %zu", i);
		options.name = name;
		options.level = (enum umbra_writer_level)(i % 3);
		r = umbra_writer_new(&options, &handlers, &frozen[i], &w[i]);
	}
	if (r < 0) {
		fprintf(stderr, "crowd: %s\n", umbra_writer_error(NULL));
		return 1;
	}
	puts("ready");
	fflush(stdout);
	r = serve(w, n);
	for (size_t i = 0; i < n; i++)
		umbra_writer_free(w[i]);
	printf("freezes %lu thaws %lu\n", freezes, thaws);
	return r;
}

/* One backup; *ret_ns: how long the creation took. */
static enum umbra_error session(struct umbra_requester *r, char **dirs, int n, uint64_t *ret_ns)
{
	enum umbra_error e = umbra_requester_initialize_for_backup(r, true);
	uint64_t began_ns;

	if (e == UMBRA_OK)
		e = umbra_requester_gather_writer_metadata(r);
	began_ns = clock_mono_ns();
	if (e == UMBRA_OK)
		e = umbra_requester_start_snapshot_set(r, NULL);
	for (int i = 0; i < n && e == UMBRA_OK; i++)
		e = umbra_requester_add_to_snapshot_set(r, dirs[i], NULL, NULL, NULL);
	if (e == UMBRA_OK)
		e = umbra_requester_prepare_for_backup(r);
	if (e == UMBRA_OK)
		e = umbra_requester_do_snapshot_set(r);
	*ret_ns = clock_mono_ns() - began_ns;
	if (e == UMBRA_OK)
		e = umbra_requester_backup_complete(r);
	if (e == UMBRA_OK)
		e = umbra_requester_release(r);
	return e;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int sessions(size_t n, char **dirs, int ndirs)
{
	uint64_t *took = calloc(n + 1, sizeof(*took));

	for (size_t i = 0; took && i < n; i++) {
		struct umbra_requester *r = NULL;
		enum umbra_error e = umbra_requester_new(NULL, &r);

		if (e == UMBRA_OK)
			e = session(r, dirs, ndirs, &took[i]);
		if (e != UMBRA_OK) {
			fprintf(stderr, "crowd: session %zu: %s: %s\n", i, umbra_error_name(e),
				umbra_requester_message(r));
			umbra_requester_free(r);
			free(took);
			return 1;
		}
		umbra_requester_free(r);
	}
	if (!took)
		return 1;
	qsort(took, n, sizeof(*took), compare);
	printf("sessions %zu median_us %llu p99_us %llu\n", n,
	       (unsigned long long)(took[n / 2] / 1000),
	       (unsigned long long)(took[n * 99 / 100] / 1000));
	free(took);
	return 0;
}

int main(int argc, char **argv)
{
	size_t n = argc > 2 ? (size_t)atol(argv[2]) : 0;

	signal(SIGTERM, on_signal);
	if (argc == 3 && strcmp(argv[1], "writers") == 0 && n > 0 && n <= CROWD_MAX)
		return writers(n);
	if (argc > 3 && strcmp(argv[1], "sessions") == 0 && n > 0)
		return sessions(n, argv + 3, argc - 3);
	fprintf(stderr, "usage: crowd writers N | crowd sessions N DIR...\n");
	return 2;
}
