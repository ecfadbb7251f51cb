/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* order COUNT DIR_A DIR_B: one instant for a set (protocol N-3, I-1, I-2).
 *
 * Pairs of files get records appended, n to A and only then n to B: two files in one directory, two in two directories,
 * two written by several threads. Meanwhile COUNT snapshot sets are made over both directories. In each of them, A has
 * n or n + 1 records where B has n; and no pair has fewer than what had returned before the set was asked for, nor more
 * than what had been begun when it was there. Prints what t_cases reads. */
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/client/client.h"

#define RECORD 8 /* bytes */
#define KEEP 6	 /* snapshots alive at a time */
#define PAIRS 8

static const char *dirs[2];
static atomic_bool stop;

/* In a directory each; the first three stay in DIR_A, the others go from one to the other or back. */
static struct pair {
	int dir[2]; /* of A, of B */
	_Atomic long begun, done;
	const char *failed;
} pairs[PAIRS] = {
	{ .dir = { 0, 0 } }, { .dir = { 1, 1 } }, { .dir = { 0, 0 } }, { .dir = { 0, 1 } },
	{ .dir = { 0, 1 } }, { .dir = { 0, 1 } }, { .dir = { 1, 0 } }, { .dir = { 1, 0 } },
};

static void die(const char *what, const struct umbra_failure *f)
{
	printf("fail every snapshot is one instant: %s: %s\n", what, f ? f->message : "");
	exit(1);
}

static char *name_of(char *buf, size_t size, const char *root, int pair, int which)
{
	snprintf(buf, size, "%s/%d-%c", root, pair, "AB"[which]);
	return buf;
}

/* ---- the program that writes ---- */

static void *append(void *arg)
{
	struct pair *p = arg;
	char path[4096];
	int fd[2];

	for (int i = 0; i < 2; i++) {
		name_of(path, sizeof(path), dirs[p->dir[i]], (int)(p - pairs), i);
		fd[i] = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
		if (fd[i] < 0)
			p->failed = "open";
	}
	while (!p->failed && !atomic_load(&stop)) {
		long n = atomic_load(&p->done);
		char record[RECORD + 1];

		atomic_store(&p->begun, n + 1);
		snprintf(record, sizeof(record), "%07ld\n", n);
		for (int i = 0; i < 2; i++)
			if (write(fd[i], record, RECORD) != RECORD)
				p->failed = "write";
		atomic_store(&p->done, n + 1);
	}
	close(fd[0]);
	close(fd[1]);
	return NULL;
}

/* ---- the program that makes snapshots ---- */

static void call(struct umbra_client *c, const char *method, json_t *params, json_t **ret)
{
	struct umbra_failure f = { 0 };

	if (umbra_call(c, method, params, -1, ret, NULL, &f) < 0)
		die(method, &f);
}

static void wait_operation(struct umbra_client *c, json_t *started)
{
	json_t *answer, *op;
	const char *status;

	call(c, "WaitOperation",
	     json_pack("{s:O}", "operation_id", json_object_get(started, "operation_id")), &answer);
	op = json_object_get(answer, "operation");
	status = json_string_value(json_object_get(op, "status"));
	if (!status || strcmp(status, "finished") != 0) {
		struct umbra_failure f;
		const char *message = json_string_value(json_object_get(op, "message"));

		snprintf(f.message, sizeof(f.message), "%s, %s", status ? status : "?",
			 message ? message : "");
		die("DoSnapshotSet", &f);
	}
	json_decref(answer);
	json_decref(started);
}

static struct umbra_client *session(const char *context)
{
	struct umbra_client *c;

	if (umbra_connect(NULL, &c) < 0)
		die("connect", NULL);
	call(c, "InitializeForBackup", NULL, NULL);
	call(c, "SetContext", json_pack("{s:s}", "context", context), NULL);
	return c;
}

/* Make a set; its id and the paths of its snapshots. */
static void create(char set[40], char paths[2][4096])
{
	struct umbra_client *c = session("nas-rollback");
	json_t *answer, *ids = json_array();

	call(c, "StartSnapshotSet", NULL, &answer);
	snprintf(set, 40, "%s", json_string_value(json_object_get(answer, "set_id")));
	json_decref(answer);
	for (int i = 0; i < 2; i++) {
		call(c, "AddToSnapshotSet", json_pack("{s:s}", "path", dirs[i]), &answer);
		json_array_append(ids, json_object_get(answer, "snapshot_id"));
		json_decref(answer);
	}
	call(c, "DoSnapshotSet", NULL, &answer);
	wait_operation(c, answer);
	for (int i = 0; i < 2; i++) {
		const char *path;

		call(c, "GetSnapshotProperties",
		     json_pack("{s:O}", "snapshot_id", json_array_get(ids, i)), &answer);
		path = json_string_value(
			json_object_get(json_object_get(answer, "snapshot"), "path"));
		if (!path)
			die("a snapshot without a path", NULL);
		snprintf(paths[i], 4096, "%s", path);
		json_decref(answer);
	}
	json_decref(ids);
	call(c, "Release", NULL, NULL);
	umbra_close(c);
}

/* The kernel lets go of what was read in its own time: try for a while. */
static void drop(const char *set)
{
	struct umbra_client *c = session("all");

	for (int i = 0;; i++) {
		struct umbra_failure f = { 0 };
		json_t *answer = NULL;
		int r = umbra_call(c, "DeleteSnapshots", json_pack("{s:s}", "id", set), -1, &answer,
				   NULL, &f);
		bool all = r == 0 && !json_is_string(json_object_get(answer, "first_not_deleted"));

		json_decref(answer);
		if (all)
			break;
		if ((r < 0 && strcmp(f.name, "volume-in-use") != 0 &&
		     strcmp(f.name, "object-not-found") != 0) ||
		    i > 4800) /* two minutes: it ends what hangs */
			die("DeleteSnapshots", &f);
		if (r < 0 && strcmp(f.name, "object-not-found") == 0)
			break;
		usleep(25000);
	}
	umbra_close(c);
}

/* ---- the check ---- */

static long records_of(const char *root, int pair, int which)
{
	char path[4200], record[RECORD + 1] = "";
	int fd = open(name_of(path, sizeof(path), root, pair, which), O_RDONLY);
	struct stat st;
	long n;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0 || st.st_size % RECORD != 0) {
		printf("note %s has %lld bytes\n", path, (long long)st.st_size);
		close(fd);
		return -2;
	}
	n = st.st_size / RECORD;
	/* the last record is there, and nothing behind it */
	if (n > 0 &&
	    (pread(fd, record, RECORD, (n - 1) * RECORD) != RECORD || atol(record) != n - 1)) {
		printf("note %s: record %ld reads '%.7s'\n", path, n - 1, record);
		n = -3;
	}
	if (n >= 0 && pread(fd, record, RECORD, st.st_size) != 0)
		n = -4;
	close(fd);
	return n;
}

static int check(char paths[2][4096], const long *before, const long *after, int number)
{
	int bad = 0;

	for (int i = 0; i < PAIRS; i++) {
		long a = records_of(paths[pairs[i].dir[0]], i, 0),
		     b = records_of(paths[pairs[i].dir[1]], i, 1);

		if (a >= 0 && b >= 0 && (a == b || a == b + 1) && b >= before[i] && a <= after[i])
			continue;
		bad++;
		printf("note set %d, pair %d: A has %ld, B has %ld, returned before %ld, begun after %ld\n",
		       number, i, a, b, before[i], after[i]);
	}
	return bad;
}

int main(int argc, char **argv)
{
	pthread_t threads[PAIRS];
	char sets[KEEP][40] = { 0 }, paths[2][4096];
	long before[PAIRS], after[PAIRS], sum = 0;
	int count, bad = 0, moved = 0;

	if (argc != 4)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	count = atoi(argv[1]);
	dirs[0] = argv[2];
	dirs[1] = argv[3];
	for (int i = 0; i < PAIRS; i++)
		pthread_create(&threads[i], NULL, append, &pairs[i]);
	for (int i = 0; i < PAIRS; i++)
		while (atomic_load(&pairs[i].done) == 0 && !pairs[i].failed)
			usleep(1000);
	for (int n = 0; n < count; n++) {
		long old = sum;

		for (int i = 0; i < PAIRS; i++)
			before[i] = atomic_load(&pairs[i].done);
		create(sets[n % KEEP], paths);
		sum = 0;
		for (int i = 0; i < PAIRS; i++)
			sum += after[i] = atomic_load(&pairs[i].begun);
		moved += sum > old;
		bad += check(paths, before, after, n) > 0;
		if (sets[(n + 1) % KEEP][0])
			drop(sets[(n + 1) % KEEP]);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < PAIRS; i++) {
		pthread_join(threads[i], NULL);
		if (pairs[i].failed)
			bad++, printf("note pair %d: %s failed\n", i, pairs[i].failed);
		if (records_of(dirs[pairs[i].dir[0]], i, 0) != pairs[i].done ||
		    records_of(dirs[pairs[i].dir[1]], i, 1) != pairs[i].done)
			bad++, printf("note pair %d: the live files are not what was written\n", i);
	}
	printf("note %d sets, %ld records written to each side meanwhile\n", count, sum);
	if (bad)
		printf("fail every snapshot is one instant: %d of %d sets are not\n", bad, count);
	else
		printf("pass every snapshot is one instant\n");
	if (moved > count / 2)
		printf("pass the writers ran meanwhile\n");
	else
		printf("fail the writers ran meanwhile: only between %d of %d sets\n", moved,
		       count);
	puts("done");
	return bad != 0;
}
