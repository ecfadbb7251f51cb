/* A requester that restores: tells the writers of a backup, runs a command that puts their files back.
 *
 *	cc restore.c -o restore $(pkg-config --cflags --libs umbra)
 *	./restore /backup/documents tar -xf /backup/data.tar -C ~/data
 *
 * The documents are what umbra_documents_save() wrote, or "set metadata" of umbra shell. The command is run
 * between PreRestore and PostRestore. Exit status: the command's, or 1. */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <umbra/requester.h>
#include <unistd.h>

static int run(char **command)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		execvp(command[0], command);
		perror(command[0]);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return 1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* Writers' failures are never the result of a call: whoever cares must ask. */
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

/* Do it for each component of the backup, as long as it goes well. */
static enum umbra_error for_each(struct umbra_requester *r, int status,
				 enum umbra_error (*fn)(struct umbra_requester *,
							const struct umbra_restore_component *,
							int status))
{
	struct umbra_restore_components *list;
	enum umbra_error e = umbra_requester_get_restore_components(r, &list);

	if (e != UMBRA_OK)
		return e;
	for (size_t i = 0; e == UMBRA_OK && i < umbra_restore_components_count(list); i++)
		e = fn(r, umbra_restore_components_get(list, i), status);
	umbra_restore_components_free(list);
	return e;
}

/* What was backed up well, and has an application that can be told. */
static enum umbra_error select_it(struct umbra_requester *r,
				  const struct umbra_restore_component *c, int status)
{
	const char *id = umbra_restore_component_present_instance_id(c);

	(void)status;
	if (id && umbra_restore_component_succeeded(c))
		return umbra_requester_set_selected_for_restore(
			r, id, umbra_restore_component_logical_path(c),
			umbra_restore_component_name(c), true);
	fprintf(stderr, "left out: %s of %s\n", umbra_restore_component_name(c),
		umbra_restore_component_writer_name(c));
	return UMBRA_OK;
}

/* the writer has said by now where it wants its files. */
static enum umbra_error show_it(struct umbra_requester *r, const struct umbra_restore_component *c,
				int status)
{
	(void)r;
	(void)status;
	if (umbra_restore_component_selected(c))
		printf("%s of %s: to its %s place\n", umbra_restore_component_name(c),
		       umbra_restore_component_writer_name(c), umbra_restore_component_target(c));
	return UMBRA_OK;
}

static enum umbra_error report_it(struct umbra_requester *r,
				  const struct umbra_restore_component *c, int status)
{
	if (!umbra_restore_component_selected(c))
		return UMBRA_OK;
	return umbra_requester_set_file_restore_status(r, umbra_restore_component_instance_id(c),
						       umbra_restore_component_logical_path(c),
						       umbra_restore_component_name(c),
						       status == 0 ? UMBRA_RESTORE_ALL
								   : UMBRA_RESTORE_FAILED);
}

static enum umbra_error restore(struct umbra_requester *r, const struct umbra_documents *documents,
				char **command, int *status)
{
	enum umbra_error e = umbra_requester_initialize_for_restore(r, documents), last;

	if (e == UMBRA_OK)
		e = umbra_requester_gather_writer_metadata(r);
	if (e == UMBRA_OK)
		e = for_each(r, 0, select_it);
	if (e == UMBRA_OK)
		e = umbra_requester_pre_restore(r);
	if (e != UMBRA_OK)
		return e;
	e = show_failed_writers(r);
	if (e == UMBRA_OK)
		e = for_each(r, 0, show_it);
	fflush(stdout);
	if (e == UMBRA_OK)
		*status = run(command);
	if (e == UMBRA_OK)
		e = for_each(r, *status, report_it);
	last = umbra_requester_post_restore(r); /* whatever went wrong */
	if (e == UMBRA_OK)
		e = last;
	return e == UMBRA_OK ? show_failed_writers(r) : e;
}

int main(int argc, char **argv)
{
	struct umbra_documents *documents;
	struct umbra_requester *r;
	int status = 1, n;
	enum umbra_error e;

	if (argc < 3) {
		fprintf(stderr, "usage: %s DOCUMENTS COMMAND [ARG...]\n", argv[0]);
		return 2;
	}
	n = umbra_documents_load(argv[1], &documents);
	if (n < 0) {
		fprintf(stderr, "%s: %s\n", argv[1], strerror(-n));
		return 1;
	}
	if (umbra_requester_new(NULL, &r) != UMBRA_OK) {
		fprintf(stderr, "%s\n", umbra_requester_message(NULL));
		umbra_documents_free(documents);
		return 1;
	}
	e = restore(r, documents, argv + 2, &status);
	if (e != UMBRA_OK) {
		fprintf(stderr, "%s: %s\n", umbra_error_name(e), umbra_requester_message(r));
		status = 1;
	}
	umbra_requester_release(r);
	umbra_requester_free(r);
	umbra_documents_free(documents);
	return status;
}
