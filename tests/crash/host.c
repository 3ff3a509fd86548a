/* SPDX-License-Identifier: MIT */
/*
 * The memory behind the caches: a copy of the heap that gets a line when the library writes it back.  At a death the lines
 * of the heap that differ from it are lost, all of them or some, for a cache may have written back any line by itself.
 * Memory given back is gone in both.
 */
#define WRITEBACK_ITSELF
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../lib/must.h"
#include "host.h"
#include "writeback.h"

static struct {
	char *copy;	/* shared with the children */
	uint64_t bytes;
	const char *base;	/* of the heap, in this child */
	int fd;
} memory;

void host_begin(const struct pool *pool)
{
	if (memory.bytes != pool->heap_bytes) {
		if (memory.copy)
			munmap(memory.copy, memory.bytes);
		memory.bytes = pool->heap_bytes;
		memory.copy = mmap(NULL, memory.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		REQUIRE(memory.copy != MAP_FAILED);
	}
	memcpy(memory.copy, pool->base, memory.bytes);
}

void host_watch(const struct pool *pool)
{
	memory.base = pool->base;
	memory.fd = pool->heap_fd;
}

void writeback_line(const void *p)
{
	uint64_t off = (uint64_t)((const char *)p - memory.base) & ~(uint64_t)(ARCH_LINE_BYTES - 1);

	if (memory.base && off < memory.bytes)
		memcpy(memory.copy + off, memory.base + off, ARCH_LINE_BYTES);
}

int writeback_fallocate(int fd, int mode, off_t offset, off_t length)
{
	int rc = fallocate(fd, mode, offset, length);

	if (!rc && memory.base && fd == memory.fd && mode & FALLOC_FL_PUNCH_HOLE)
		memset(memory.copy + offset, 0, (size_t)length);
	return rc;
}

void host_lose(const struct pool *pool, unsigned loss, uint64_t seed)
{
	uint64_t random = (seed + 1) * 0x9e3779b97f4a7c15ull;

	for (uint64_t off = 0; off < memory.bytes; off += ARCH_LINE_BYTES) {
		if (!memcmp(pool->base + off, memory.copy + off, ARCH_LINE_BYTES))
			continue;
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		if (!loss || (random >> 32 & 1) == (loss & 1))
			memcpy(pool->base + off, memory.copy + off, ARCH_LINE_BYTES);
	}
}
