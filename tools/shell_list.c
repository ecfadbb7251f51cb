/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tools/shell_list.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/common.h"
#include "tools/print.h"
#include "tools/snapshot.h"
#include "tools/text.h"

static const char *type_of(const char *context)
{
	static const char *const types[][2] = {
		{ "backup", "Backup" },
		{ "file-share-backup", "FileShareBackup" },
		{ "app-rollback", "ApplicationRollback" },
		{ "nas-rollback", "NasRollback" },
		{ "client-accessible", "ClientAccessible" },
		{ "client-accessible-writers", "ClientAccessibleWriters" },
	};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(context, types[i][0]) == 0)
			return types[i][1];
	return context;
}

static void print_attributes(const json_t *s)
{
	const char *context = tool_str(s, "context");

	printf("         Attributes: %s%s%s%sDifferential\n",
	       tool_bool(s, "persistent") ? "Persistent, " : "",
	       strncmp(context, "client-accessible", 17) == 0 ? "Client-accessible, " : "",
	       tool_bool(s, "auto_release") ? "" : "No auto release, ",
	       text_context_has_writers(context) ? "" : "No writers, ");
}

static void print_snapshot(const json_t *s, const char *host)
{
	CLEANUP(free_p) char *tree = tool_path(s, "tree_path"), *path = tool_path(s, "path");

	printf("      Shadow Copy ID: {%s}\n", tool_str(s, "id"));
	printf("         Original Volume: %s\n", tree ? LOG_QUOTE(tree) : "");
	printf("         Shadow Copy Volume: %s\n", path ? LOG_QUOTE(path) : "");
	printf("         Originating Machine: %s\n", host);
	printf("         Service Machine: %s\n", host);
	printf("         Provider: 'Umbra'\n");
	printf("         Type: %s\n", type_of(tool_str(s, "context")));
	print_attributes(s);
}

static bool is_first_of_set(const json_t *all, size_t at)
{
	const char *set = tool_str(json_array_get(all, at), "set_id");

	for (size_t i = 0; i < at; i++)
		if (strcmp(tool_str(json_array_get(all, i), "set_id"), set) == 0)
			return false;
	return true;
}

static void print_set(const json_t *all, size_t first, const char *host)
{
	const json_t *head = json_array_get(all, first), *s;
	const char *set = tool_str(head, "set_id");
	size_t i;

	printf("Contents of shadow copy set ID: {%s}\n", set);
	printf("   Contained %lld shadow copies at creation time: %s\n",
	       (long long)tool_int(head, "in_set"), PRINT_LOCAL(snapshot_created_ns(head)));
	json_array_foreach(all, i, s) {
		if (i >= first && strcmp(tool_str(s, "set_id"), set) == 0)
			print_snapshot(s, host);
	}
	putchar('\n');
}

static void print_as_json(const json_t *all)
{
	json_t *out = json_array();
	const json_t *s;
	size_t i;

	json_array_foreach(all, i, s)
		json_array_append_new(out, snapshot_to_json(s, all));
	print_json(json_pack("{so}", "snapshots", out));
}

void shell_list_snapshots(const json_t *all)
{
	char host[HOST_NAME_MAX + 1] = "";

	if (tool_opts.json) {
		print_as_json(all);
		return;
	}
	if (json_array_size(all) == 0)
		log_info("there is no such snapshot");
	(void)gethostname(host, sizeof(host) - 1);
	for (size_t i = 0; i < json_array_size(all); i++)
		if (is_first_of_set(all, i))
			print_set(all, i, host);
}

static void print_tree(const json_t *tree)
{
	CLEANUP(free_p) char *path = tool_path(tree, "path");

	printf("Volume path: %s\n", path ? LOG_QUOTE(path) : "");
	printf("    Volume name: {%s}\n", tool_str(tree, "id"));
}

int shell_list_trees(void)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	CLEANUP(json_decref_p) json_t *answer = NULL;
	const json_t *tree;
	size_t i;
	int r = tool_connect(&c);

	if (r == 0)
		r = tool_call(c, "ListTrees", NULL, &answer);
	if (r != 0)
		return r;
	if (tool_opts.json) {
		print_json(TAKE(answer));
		return 0;
	}
	if (json_array_size(json_object_get(answer, "trees")) == 0)
		log_info("no directory is protected (try: umbra protect DIR)");
	json_array_foreach(json_object_get(answer, "trees"), i, tree)
		print_tree(tree);
	return 0;
}

/* Each protected directory is served by a provider of its own, whose id is the tree's. */
static void print_provider(const json_t *tree, const char *version)
{
	CLEANUP(free_p) char *path = tool_path(tree, "path");

	printf("Provider name: 'Umbra'\n");
	printf("   Provider type: System\n");
	printf("   Provider Id: {%s}\n", tool_str(tree, "id"));
	printf("   Version: %s\n", version);
	printf("   Volume path: %s\n", path ? LOG_QUOTE(path) : "");
	printf("   Process Id: %lld\n\n", (long long)tool_int(tree, "pid"));
}

static json_t *provider_json(const json_t *tree, const char *version)
{
	json_t *o = json_pack("{ssssssss}", "name", "Umbra", "type", "system", "id",
			      tool_str(tree, "id"), "version", version);

	json_object_set(o, "pid", json_object_get(tree, "pid"));
	json_object_set(o, "path", json_object_get(tree, "path"));
	if (json_object_get(tree, "path_base64"))
		json_object_set(o, "path_base64", json_object_get(tree, "path_base64"));
	return o;
}

int shell_list_providers(void)
{
	CLEANUP(umbra_close_p) struct umbra_client *c = NULL;
	CLEANUP(json_decref_p) json_t *answer = NULL, *out = json_array();
	const char *version;
	const json_t *tree;
	size_t i;
	int r = tool_connect(&c);

	if (r == 0)
		r = tool_call(c, "GetStatus", NULL, &answer);
	if (r != 0)
		return r;
	version = tool_str(json_object_get(answer, "info"), "version");
	json_array_foreach(json_object_get(answer, "trees"), i, tree) {
		if (tool_opts.json)
			json_array_append_new(out, provider_json(tree, version));
		else
			print_provider(tree, version);
	}
	if (tool_opts.json)
		print_json(json_pack("{sO}", "providers", out));
	return 0;
}
