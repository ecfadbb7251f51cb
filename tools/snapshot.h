/* tools/snapshot.h - facts about a Snapshot object (io.umbra.varlink) that several commands show.
 * Errors:  none: what is missing is shown as such.
 * Threads: the command has one. */
#ifndef UMBRA_TOOLS_SNAPSHOT_H
#define UMBRA_TOOLS_SNAPSHOT_H

#include <jansson.h>
#include <stdint.h>

/** When it was taken, nanoseconds since 1970; 0 when that is not known. */
uint64_t snapshot_created_ns(const json_t *snapshot);
uint64_t snapshot_age_s(const json_t *snapshot);

/** Preserved data that this snapshot needs: its own and what newer ones of its tree preserved, which
 *  it shares with them. @all is an array that holds at least its tree's snapshots. */
uint64_t snapshot_total_bytes(const json_t *snapshot, const json_t *all);

/** A copy for --json with what is computed here added: age_s, total_bytes. New reference. */
json_t *snapshot_to_json(const json_t *snapshot, const json_t *all);

/** Where it is exposed, "(not mounted)" behind it if it is not; malloc'ed, NULL: it is not exposed. */
char *snapshot_exposed(const json_t *snapshot);

/** How a person would name it: label, else the first part of the id. Borrowed. */
const char *snapshot_title(const json_t *snapshot);

#define SNAPSHOT_SHORT_ID 8

#endif
