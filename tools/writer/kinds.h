/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tools/writer/kinds.h - the writer programs that are part of umbra itself; each is the file of its
 * name. Those that need the library of a database are programs of their own, umbra-writer-KIND. */
#ifndef UMBRA_TOOLS_WRITER_KINDS_H
#define UMBRA_TOOLS_WRITER_KINDS_H

struct writer_kind {
	const char *name;
	const char *summary;		   /* one line, small letter, no full stop */
	int (*run)(int argc, char **argv); /* argv[0] is the name; NULL: umbra-writer-NAME */
};

int writer_cgroup_run(int argc, char **argv);
int writer_container_run(int argc, char **argv);
int writer_exec_run(int argc, char **argv);
int writer_hook_run(int argc, char **argv);
int writer_systemd_run(int argc, char **argv);

/* Ended by a name of NULL. */
extern const struct writer_kind writer_kinds[];

#endif
