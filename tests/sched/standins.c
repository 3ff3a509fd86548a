/* SPDX-License-Identifier: MIT */
/*
 * System calls that the library makes in the middle of operations, and what takes their place here.
 *
 * Sleeping (a rename of a directory waits for another one; -EBUSY of a directory whose last entry is on its way): the
 * other fibers go on.
 *
 * Memory of the heap: giving back is writing zeros, reserving is nothing; all of it is there.  So a run costs no page
 * faults.  What a read of memory given back would do on a full tmpfs is tests/unit's business.
 */
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "interleave.h"

static struct world *world;

void standins_for(struct world *w)
{
	world = w;
}

int sched_yield(void)
{
	fiber_yield();
	return 0;
}

int nanosleep(const struct timespec *time, struct timespec *left)
{
	(void)time;
	(void)left;
	fiber_yield();
	return 0;
}

static int is_heap(int fd)
{
	for (unsigned f = 0; world && f <= FIBERS; f++)
		if (world->pool[f] && world->pool[f]->heap_fd == fd)
			return 1;
	return 0;
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
	if (!is_heap(fd))
		return (int)syscall(SYS_fallocate, fd, mode, offset, length);
	if (mode & FALLOC_FL_PUNCH_HOLE)
		memset(world->pool[0]->base + offset, 0, (size_t)length);
	return 0;
}

int madvise(void *address, size_t length, int advice)
{
	if (world)
		return 0;
	return (int)syscall(SYS_madvise, address, length, advice);
}
