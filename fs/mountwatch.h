/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/mountwatch.h - notice that a mount is gone, though it may live on somewhere.
 * Job:     tell when the mount is no longer in the mount table of this process. A copy in another mount namespace, or an open
 *	    file after a lazy unmount, keeps its requests coming; but then everybody else has the directory below.
 * Threads: one of its own. Source: proc_pid_mountinfo(5), "poll", and proc_pid_fdinfo(5), "mnt_id". */
#ifndef UMBRA_FS_MOUNTWATCH_H
#define UMBRA_FS_MOUNTWATCH_H

struct fs_mountwatch;

/* Watch the uppermost mount at `path` (borrowed until the stop), which need not serve yet. `gone` is called once, from the thread.
 * Returns NULL when it cannot be watched. */
struct fs_mountwatch *fs_mountwatch_start(const char *path, void (*gone)(void *userdata),
					  void *userdata);
/* At return `gone` has ended, or is not called any more. NULL is fine. */
void fs_mountwatch_stop(struct fs_mountwatch *w);

#endif
