/* To be preloaded: fdatasync() and fsync() wait for as long as the file $SLOW_SYNC exists, as on a disk
 * that is busy. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void wait_for_disk(void)
{
	const char *path = getenv("SLOW_SYNC");
	const struct timespec moment = { .tv_nsec = 5000000 };

	while (path && access(path, F_OK) == 0)
		nanosleep(&moment, NULL);
}

int fdatasync(int fd)
{
	wait_for_disk();
	return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
	wait_for_disk();
	return (int)syscall(SYS_fsync, fd);
}
