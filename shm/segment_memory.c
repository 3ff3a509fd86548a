/* SPDX-License-Identifier: MIT */
/*
 * The system calls on a segment's memory, and the look at those who may be reading it.
 */
#include "segment_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>

int segment_reserve(struct client *c, uint32_t segment)
{
	uint32_t shift = c->pool->segment_shift;
	int rc;

	do
		rc = fallocate(c->pool->heap_fd, 0, (off_t)segment << shift, (off_t)1 << shift);
	while (rc < 0 && errno == EINTR);
	if (rc < 0 && errno != EOPNOTSUPP)
		return errno == EDQUOT || errno == ENOMEM || errno == EFBIG ? -ENOSPC : -errno;
	return 0;
}

int segment_punch(struct client *c, uint32_t segment)
{
	uint32_t shift = c->pool->segment_shift;
	int rc;

	do
		rc = fallocate(c->pool->heap_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)segment << shift,
			       (off_t)1 << shift);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

void segment_scrub(struct client *c, uint32_t segment)
{
	char *start = off_ptr(c->pool, (uint64_t)segment << c->pool->segment_shift);

	memset(start, 0, 1ul << c->pool->segment_shift);
	persist(c->pool, start, 1ul << c->pool->segment_shift);
}

int segment_quiet(struct client *c)
{
	struct pool *pool = c->pool;
	uint64_t high;

	if (c->reading)	/* it follows offsets itself just now */
		return 0;
	/* With failure_domain=host every reader has its own fence; otherwise others may count on this. */
	if (!pool->host && syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) != 0)
		return 0;
	fence_seq_cst();
	high = a64_load_acquire(&pool->shared->slots_high);
	for (uint32_t cid = 1; cid <= high && cid <= pool->slots; cid++) {
		struct slot_fmt *slot = pool_slot(pool, cid);
		unsigned spins = 0;

		if (cid == c->cid)
			continue;
		while (a64_load_acquire(&slot->reading)) {
			if (++spins == 2000)
				return 0;
			arch_relax();
		}
	}
	return 1;
}
