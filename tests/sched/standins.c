/* SPDX-License-Identifier: MIT */
/*
 * What takes the place of system calls and of the allocator here.  All state is in static tables that are written by code
 * whose accesses are followed, so steps on them are undone, hashed and seen to conflict like those on shared memory.
 *
 *   locks        the lock of each slot: the descriptor that holds it; death drops them
 *   files        the extents: which there are, and their sizes.  world.c makes them true for the checker
 *   heap         giving memory back is writing zeros, and noting that it is a hole until it is reserved: touching it would be
 *                SIGBUS on a full tmpfs, and fails the run (memory.c)
 *   reading      pread(2) of the heap is one step a segment, and nothing but zeros of a hole
 *   sleeping     the others go on
 *   time         stands still, but for who waited in vain: a clock for each fiber
 *   futex        who waits does not run until it is woken or, when nobody else can run, until its time is over
 *   membarrier   nothing: the run is sequentially consistent
 *   allocation   a fiber's handles come from an arena of its own, in order; the last one can be freed
 *
 * A call is one step.  A name in parentheses is the C library's own function.
 */
#include <errno.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <sys/syscall.h>

#include "segment.h"
#include "interleave.h"

#define FILE_FD 1000000
#define ARENA_BYTES (512u << 10)

static struct world *world;

static struct {
	uint64_t lock[SLOTS + 1];	/* 0: free; descriptor + 1 */
	uint64_t file[FILES];	/* id, 0: none */
	uint64_t bytes[FILES];
	uint64_t hole[SEGMENTS_MAX];	/* of the heap: 1, a segment without memory */
	uint64_t sleeper[FIBERS + 1];	/* the futex word's place in the heap; TIME_OVER; 0: it does not wait */
	uint64_t clock[FIBERS + 1];	/* nanoseconds that it has waited in vain */
} outside;

static uint64_t arena_used[FIBERS + 1], arena_last[FIBERS + 1];
static char arena[FIBERS + 1][ARENA_BYTES] __attribute__((aligned(64)));

void standins_for(struct world *w)
{
	world = w;
	for (unsigned i = 0; i <= SLOTS; i++)
		outside.lock[i] = 0;
	for (unsigned i = 0; i < FILES; i++)
		outside.file[i] = 0;
	for (unsigned i = 0; i <= FIBERS; i++)
		outside.sleeper[i] = outside.clock[i] = 0;
	for (unsigned i = 0; i < SEGMENTS_MAX; i++)
		outside.hole[i] = w && i < w->pool[0]->segments &&
				  segment_state_of(w->pool[0], i) == SEGMENT_FREE && i >= w->pool[0]->first_segment;
}

void *standins_outside(size_t *bytes)
{
	*bytes = sizeof(outside);
	return &outside;
}

const uint64_t *standins_holes(void)
{
	return outside.hole;
}

const uint64_t *standins_sleepers(void)
{
	return outside.sleeper;
}

void standins_time_over(uint32_t fiber)
{
	outside.sleeper[fiber] = TIME_OVER;
}

void standins_drop_locks(int fd)
{
	for (unsigned i = 1; i <= SLOTS; i++)
		if (outside.lock[i] == (uint64_t)fd + 1)
			outside.lock[i] = 0;
}

/* Is the word so far into `outside` a lock? */
int standins_is_lock(uint64_t offset)
{
	return offset < sizeof(outside.lock);
}

/* ---- locks ---- */

int standin_fcntl(int fd, int command, void *arg)
{
	struct flock *fl = arg;
	uint64_t slot, holder;
	int rc = 0;

	if (!world || (command != F_OFD_SETLK && command != F_OFD_GETLK) || fl->l_start < (off_t)LOCK_SLOT(1) ||
	    fl->l_start > (off_t)LOCK_SLOT(SLOTS))
		return (fcntl)(fd, command, arg);
	slot = (uint64_t)fl->l_start - LOCK_BASE;
	memory_as_one(&outside.lock[slot], sizeof(outside.lock[slot]));
	holder = outside.lock[slot];
	if (command == F_OFD_GETLK) {
		if (!holder || holder == (uint64_t)fd + 1)
			fl->l_type = F_UNLCK;
	} else if (holder && holder != (uint64_t)fd + 1) {
		rc = -1;
		errno = EAGAIN;
	} else {
		outside.lock[slot] = fl->l_type == F_UNLCK ? 0 : (uint64_t)fd + 1;
	}
	memory_apart();
	return rc;
}

/* ---- extents ---- */

static int is_extents(int fd)
{
	for (unsigned f = 0; world && f <= FIBERS; f++)
		if (world->pool[f] && world->pool[f]->extents_fd == fd)
			return 1;
	return 0;
}

static int is_heap(int fd)
{
	for (unsigned f = 0; world && f <= FIBERS; f++)
		if (world->pool[f] && world->pool[f]->heap_fd == fd)
			return 1;
	return 0;
}

static void files_as_one(void)
{
	memory_as_one(outside.file, sizeof(outside.file));
}

static int file_at(uint64_t id)
{
	for (int i = 0; i < (int)FILES; i++)
		if (outside.file[i] == id)
			return i;
	return -1;
}

int standin_openat(int dir, const char *name, int flags, ...)
{
	uint64_t id;
	va_list args;
	mode_t mode;
	int at;

	if (!is_extents(dir) || *name == '.') {
		va_start(args, flags);
		mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
		va_end(args);
		return (openat)(dir, name, flags, mode);
	}
	id = strtoull(name, NULL, 16);
	files_as_one();
	at = file_at(id);
	if (at < 0 && flags & O_CREAT) {
		at = file_at(0);
		REQUIRE(at >= 0);
		outside.bytes[at] = 0;
		outside.file[at] = id;
	}
	memory_apart();
	if (at < 0)
		errno = ENOENT;
	return at < 0 ? -1 : FILE_FD + at;
}

int standin_close(int fd)
{
	return fd >= FILE_FD ? 0 : (close)(fd);
}

int standin_fstat(int fd, struct stat *st)
{
	if (fd < FILE_FD)
		return (fstat)(fd, st);
	*st = (struct stat){.st_mode = S_IFREG | 0600, .st_size = (off_t)outside.bytes[fd - FILE_FD]};
	return 0;
}

int standin_fstatat(int dir, const char *name, struct stat *st, int flags)
{
	int fd;

	if (!is_extents(dir))
		return (fstatat)(dir, name, st, flags);
	fd = standin_openat(dir, name, 0);
	return fd < 0 ? -1 : standin_fstat(fd, st);
}

int standin_ftruncate(int fd, off_t bytes)
{
	if (fd < FILE_FD)
		return (ftruncate)(fd, bytes);
	outside.bytes[fd - FILE_FD] = (uint64_t)bytes;
	return 0;
}

int standin_fchmod(int fd, mode_t mode)
{
	return fd < FILE_FD ? (fchmod)(fd, mode) : 0;
}

int standin_unlinkat(int dir, const char *name, int flags)
{
	int at;

	if (!is_extents(dir))
		return (unlinkat)(dir, name, flags);
	files_as_one();
	at = file_at(strtoull(name, NULL, 16));
	if (at < 0)
		errno = ENOENT;
	else
		outside.file[at] = 0;
	memory_apart();
	return at < 0 ? -1 : 0;
}

void standins_file(unsigned i, uint64_t *id, uint64_t *bytes)
{
	*id = outside.file[i];
	*bytes = outside.bytes[i];
}

/* ---- memory ---- */

int standin_fallocate(int fd, int mode, off_t offset, off_t length)
{
	if (fd >= FILE_FD) {
		uint64_t *bytes = &outside.bytes[fd - FILE_FD];

		memory_as_one(bytes, sizeof(*bytes));
		if (!(mode & FALLOC_FL_KEEP_SIZE) && (uint64_t)(offset + length) > *bytes)
			*bytes = (uint64_t)(offset + length);
		memory_apart();
		return 0;
	}
	if (!is_heap(fd))
		return (fallocate)(fd, mode, offset, length);
	for (off_t at = offset; at < offset + length; at += (off_t)1 << world->pool[0]->segment_shift) {
		uint64_t *hole = &outside.hole[at >> world->pool[0]->segment_shift];

		if (!(mode & FALLOC_FL_PUNCH_HOLE) == !*hole)
			continue;
		if (!*hole)
			standin_memset(world->pool[0]->base + at, 0, (size_t)1 << world->pool[0]->segment_shift);
		*hole = !*hole;
	}
	return 0;
}

ssize_t standin_pread(int fd, void *to, size_t bytes, off_t offset)
{
	uint64_t segment_bytes, at, n;

	if (!memory_followed() || !is_heap(fd))
		return (pread)(fd, to, bytes, offset);
	segment_bytes = 1ull << world->pool[0]->segment_shift;
	for (size_t done = 0; done < bytes; done += n) {
		at = (uint64_t)offset + done;
		n = segment_bytes - (at & (segment_bytes - 1));
		if (n > bytes - done)
			n = bytes - done;
		if (at >= world->pool[0]->heap_bytes)
			return (ssize_t)done;
		/* A place to switch, whatever is read. */
		fiber_step(1, 1, 0);
		memory_as_one(&outside.hole[at / segment_bytes], sizeof(uint64_t));
		if (outside.hole[at / segment_bytes])
			memset((char *)to + done, 0, n);
		else
			memcpy((char *)to + done, world->pool[0]->base + at, n);
		memory_apart();
	}
	return (ssize_t)bytes;
}

int standin_madvise(void *address, size_t length, int advice)
{
	return world ? 0 : (madvise)(address, length, advice);
}

void *standin_aligned_alloc(size_t alignment, size_t bytes)
{
	uint32_t who = fiber_running();
	void *p;

	if (!memory_followed())
		return (aligned_alloc)(alignment, bytes);
	REQUIRE(alignment <= 64 && arena_used[who] + bytes + 64 <= ARENA_BYTES);
	p = arena[who] + arena_used[who];
	*(uint64_t *)p = arena_last[who];
	arena_last[who] = arena_used[who];
	arena_used[who] += 64 + ((bytes + 63) & ~63ul);
	return (char *)p + 64;
}

void *standin_malloc(size_t bytes)
{
	return memory_followed() ? standin_aligned_alloc(64, bytes) : (malloc)(bytes);
}

void standin_free(void *p)
{
	uint32_t who = fiber_running();
	uint64_t at = (uint64_t)((char *)p - arena[who]) - 64;

	if (!memory_followed())
		(free)(p);
	else if (p && arena_used[who] && at == arena_last[who]) {
		arena_used[who] = at;
		arena_last[who] = *(uint64_t *)(void *)(arena[who] + at);
	}
}

/* ---- time ---- */

int standin_clock_gettime(clockid_t clock, struct timespec *now)
{
	if (!world)
		return (clock_gettime)(clock, now);
	*now = (struct timespec){.tv_sec = 1000000000};
	if (clock == CLOCK_MONOTONIC) {
		now->tv_sec += (time_t)(outside.clock[fiber_running()] / 1000000000);
		now->tv_nsec = (long)(outside.clock[fiber_running()] % 1000000000);
	}
	return 0;
}

int standin_nanosleep(const struct timespec *time, struct timespec *left)
{
	(void)time;
	(void)left;
	fiber_yield();
	return 0;
}

int standin_sched_yield(void)
{
	fiber_yield();
	return 0;
}

/* ---- futex ---- */

/* Looking at the word and going to sleep is one step. */
static long futex_wait(uint32_t *word, uint64_t place, uint32_t expected, const struct timespec *timeout)
{
	uint32_t me = fiber_running();
	int over;

	fiber_step(1, 1, 0);
	memory_as_one(&outside.sleeper[me], sizeof(outside.sleeper[me]));
	if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != expected) {
		memory_apart();
		errno = EAGAIN;
		return -1;
	}
	outside.sleeper[me] = place;
	memory_apart();
	fiber_yield();
	over = outside.sleeper[me] == TIME_OVER;
	if (!over)
		return 0;
	if (!timeout)
		world_fail(world, "fiber %u waits for ever", me);
	outside.sleeper[me] = 0;
	outside.clock[me] += timeout ? (uint64_t)timeout->tv_sec * 1000000000 + (uint64_t)timeout->tv_nsec : 0;
	errno = ETIMEDOUT;
	return -1;
}

static long futex_wake(uint64_t place)
{
	long woken = 0;

	memory_as_one(outside.sleeper, sizeof(outside.sleeper));
	for (uint32_t f = 0; f < FIBERS; f++)
		if (outside.sleeper[f] == place) {
			outside.sleeper[f] = 0;
			woken++;
		}
	memory_apart();
	return woken;
}

/* membarrier(2) has nothing to order here. */
long standin_syscall(long number, ...)
{
	const struct timespec *timeout;
	uint32_t *word, value;
	uint64_t place;
	va_list args;
	int op;

	REQUIRE(number == SYS_futex || number == SYS_membarrier);
	/* On the main stack nobody else is there to be woken, and nobody waits. */
	if (number == SYS_membarrier || !world || fiber_running() == FIBERS)
		return 0;
	va_start(args, number);
	word = va_arg(args, uint32_t *);
	op = va_arg(args, int);
	value = va_arg(args, uint32_t);
	timeout = va_arg(args, const struct timespec *);
	va_end(args);
	place = (uint64_t)((char *)word - (char *)world->pool[fiber_running()]->base);
	REQUIRE(place > TIME_OVER && place < world->pool[0]->heap_bytes && (op == FUTEX_WAIT || op == FUTEX_WAKE));
	return op == FUTEX_WAIT ? futex_wait(word, place, value, timeout) : futex_wake(place);
}
