/* SPDX-License-Identifier: MIT */
/*
 * live_blocks: preloaded into a daemon, it counts the blocks of malloc(3) that are not freed, and their bytes.  What the
 * process keeps from the system does not tell: malloc(3) gives little of it back, and takes more as threads come together.
 *
 * LIVE_BLOCKS names a file of 16 bytes, for two numbers of 64 bits.  All processes with it add to them: a difference is the
 * daemon's when it alone is left.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct live {
	_Atomic int64_t blocks, bytes;
};

static struct live before;	/* until the file is mapped */
static struct live *live = &before;

/* The C library's own, under the names that it has for who replaces the others. */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *block);

__attribute__((constructor)) static void map_file(void)
{
	const char *path = getenv("LIVE_BLOCKS");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	struct live *map;

	if (fd < 0)
		return;
	map = mmap(NULL, sizeof(*map), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED)
		return;
	map->blocks += before.blocks;
	map->bytes += before.bytes;
	live = map;
}

static void *came(void *block)
{
	if (block) {
		live->blocks++;
		live->bytes += (int64_t)malloc_usable_size(block);
	}
	return block;
}

void *malloc(size_t bytes)
{
	return came(__libc_malloc(bytes));
}

void *calloc(size_t count, size_t bytes)
{
	return came(__libc_calloc(count, bytes));
}

void free(void *block)
{
	if (block) {
		live->blocks--;
		live->bytes -= (int64_t)malloc_usable_size(block);
	}
	__libc_free(block);
}

void *realloc(void *old, size_t bytes)
{
	int64_t had = old ? (int64_t)malloc_usable_size(old) : 0;
	void *block = __libc_realloc(old, bytes);

	if (old && (block || !bytes)) {
		live->blocks--;
		live->bytes -= had;
	}
	return came(block);
}

void *memalign(size_t alignment, size_t bytes)
{
	return came(__libc_memalign(alignment, bytes));
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
	return came(__libc_memalign(alignment, bytes));
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
	void *block = came(__libc_memalign(alignment, bytes));

	if (!block)
		return ENOMEM;
	*out = block;
	return 0;
}
