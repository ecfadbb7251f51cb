/* A requester: makes a snapshot of a protected directory and runs a command that reads it.
 *
 *	cc requester.c -o requester $(pkg-config --cflags --libs umbra)
 *	./requester ~/data tar -cf /backup/data.tar .
 *
 * The command runs in the snapshot. When it succeeds the writers are told that their data are safe,
 * otherwise the backup is aborted. Exit status: the command's, or 1. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <umbra/requester.h>
#include <unistd.h>

static int run(char **command, const char *dir)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return 1;
	if (pid == 0) {
		if (chdir(dir) == 0)
			execvp(command[0], command);
		perror(command[0]);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* Writers' failures are never the result of a call (W-6): whoever cares must ask. */
static enum umbra_error show_failed_writers(struct umbra_requester *r)
{
	struct umbra_writers *list;
	enum umbra_error e = umbra_requester_gather_writer_status(r);

	if (e == UMBRA_OK)
		e = umbra_requester_get_writer_status(r, &list);
	if (e != UMBRA_OK)
		return e;
	for (size_t i = 0; i < umbra_writers_count(list); i++) {
		const struct umbra_writer_info *w = umbra_writers_get(list, i);

		if (umbra_writer_info_error(w))
			fprintf(stderr, "writer %s: %s (%s)\n", umbra_writer_info_name(w),
				umbra_writer_info_state(w), umbra_writer_info_error(w));
	}
	umbra_writers_free(list);
	return UMBRA_OK;
}

static enum umbra_error make_snapshot(struct umbra_requester *r, const char *dir, char *id)
{
	enum umbra_error e = umbra_requester_initialize_for_backup(r, false);

	if (e == UMBRA_OK)
		e = umbra_requester_gather_writer_metadata(r);
	if (e == UMBRA_OK)
		e = umbra_requester_start_snapshot_set(r, NULL);
	if (e == UMBRA_OK)
		e = umbra_requester_add_to_snapshot_set(r, dir, "example", NULL, id);
	if (e == UMBRA_OK)
		e = umbra_requester_prepare_for_backup(r);
	if (e == UMBRA_OK)
		e = show_failed_writers(r);
	if (e == UMBRA_OK)
		e = umbra_requester_do_snapshot_set(r);
	if (e == UMBRA_OK)
		e = show_failed_writers(r);
	return e;
}

static enum umbra_error use_snapshot(struct umbra_requester *r, const char *id, char **command,
				     int *status)
{
	struct umbra_snapshots *list;
	const char *path;
	enum umbra_error e = umbra_requester_get_snapshot(r, id, &list);

	if (e != UMBRA_OK)
		return e;
	path = umbra_snapshot_path(umbra_snapshots_get(list, 0));
	*status = path ? run(command, path) : 1;
	umbra_snapshots_free(list);
	if (*status != 0)
		return UMBRA_OK;
	e = umbra_requester_set_backup_succeeded(r, true, NULL, NULL, NULL);
	return e == UMBRA_OK ? umbra_requester_backup_complete(r) : e;
}

int main(int argc, char **argv)
{
	struct umbra_requester *r;
	char id[UMBRA_ID_SIZE];
	int status = 1;
	enum umbra_error e;

	if (argc < 3) {
		fprintf(stderr, "usage: %s DIR COMMAND [ARG...]\n", argv[0]);
		return 2;
	}
	if (umbra_requester_new(NULL, &r) != UMBRA_OK) {
		fprintf(stderr, "%s\n", umbra_requester_message(NULL));
		return 1;
	}
	e = make_snapshot(r, argv[1], id);
	if (e == UMBRA_OK)
		e = use_snapshot(r, id, argv + 2, &status);
	if (e != UMBRA_OK) {
		fprintf(stderr, "%s: %s\n", umbra_error_name(e), umbra_requester_message(r));
		status = 1;
	}
	if (status != 0)
		umbra_requester_abort_backup(r); /* whatever went wrong */
	umbra_requester_release(r);
	umbra_requester_free(r);
	return status;
}
