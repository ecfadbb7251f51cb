/* tools/copy_private.h - the two halves of copy_replace(), for the tests: what others may do in between. */
#ifndef UMBRA_TOOLS_COPY_PRIVATE_H
#define UMBRA_TOOLS_COPY_PRIVATE_H

#include <stdbool.h>

#include "tools/copy.h"

#define COPY_NAME_SIZE 40

/** A name that is made, beside where the thing is to go or in a directory of our own there. */
struct copy_temp {
	int dst_dir; /* borrowed */
	int dir;     /* where it is made; dst_dir itself, or owned */
	int fd;	     /* the thing; of a regular file for writing, else O_PATH; owned */
	char place[COPY_NAME_SIZE]; /* what dir is called in dst_dir; "" when it is dst_dir */
	char name[COPY_NAME_SIZE];  /* in dir */
	bool sure;		    /* nobody else can put another thing at that name */
};

/** Make it, empty, nobody else's. -EEXIST: try again; on failure nothing is left. */
int copy_make(const struct copy_source *src, int dst_dir, struct copy_temp *ret);
/** Fill it, put it in place; ends the temporary on failure, too. ret_made may be NULL. */
int copy_finish(const struct copy_source *src, struct copy_temp *t, const char *dst_name,
		copy_progress_fn *progress, void *ctx, struct stat *ret_made);

#endif
