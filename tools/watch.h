/* tools/watch.h - what the coordinator and the writers do, told as it happens (-v).
 * Job:     a second connection with Monitor, and a thread that prints what comes.
 * Errors:  none that matter: who watches gets in nobody's way. It is said once when it cannot be.
 * Threads: it has one of its own, from begin to end; everything else stays in the caller's. */
#ifndef UMBRA_TOOLS_WATCH_H
#define UMBRA_TOOLS_WATCH_H

struct watch;

/** Begin, if -v was given; else NULL. */
struct watch *watch_begin(const char *session_id);
/** Print the rest and end. NULL is fine. */
void watch_end(struct watch *w);

#endif
