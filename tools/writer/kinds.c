/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/writer/kinds.h"

#include <stddef.h>

const struct writer_kind writer_kinds[] = {
	{ "hook", "programs in a directory, as with qemu-guest-agent", writer_hook_run },
	{ "exec", "one command that holds a lock", writer_exec_run },
	{ "cgroup", "all processes of a cgroup", writer_cgroup_run },
	{ "systemd", "all processes of a systemd unit", writer_systemd_run },
	{ "container", "a container of podman or docker", writer_container_run },
	{ "mariadb", "MariaDB and MySQL", NULL },
	{ "postgresql", "PostgreSQL", NULL },
	{ "redis", "Redis and Valkey", NULL },
	{ "sqlite", "SQLite databases", NULL },
	{ NULL, NULL, NULL },
};
