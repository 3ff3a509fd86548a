/* SPDX-License-Identifier: MIT */
/*
 * pool: open a pool's directory, lock it, believe or refuse its superblock, map its heap; and what fork()
 * does to a handle.
 *
 * Opening reads the superblock with pread before anything is mapped, so a truncated file is an error
 * and not a SIGBUS.  The heap file is opened twice: heap_fd carries the locks and is never mapped, for
 * a mapping keeps its open file description, and with it the locks, alive in the children of fork().
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "pool.h"

#define HEAP "heap"
#define EXTENTS "x"
#define REPLACED_TRIES 16

int error_set(struct cxlshm_error *error, int rc, const char *format, ...)
{
	va_list args;

	if (error) {
		va_start(args, format);
		vsnprintf(error->text, sizeof(error->text), format, args);
		va_end(args);
	}
	return rc;
}

/* ---------------------------------------------------------------- fork()
 *
 * The only file-scope state: fork() tells nobody but pthread_atfork() handlers, and those get no argument.
 * A child must close its copies of heap_fd at once: an OFD lock lives as long as any copy of its
 * descriptor, so a child that outlives its parent would make the dead parent look alive.
 */
static struct {
	pthread_once_t once;
	pthread_mutex_t lock;	/* held across fork(): no child sees a descriptor that is not in the list */
	struct pool *first;
} open_pools = { .once = PTHREAD_ONCE_INIT, .lock = PTHREAD_MUTEX_INITIALIZER };

static void fork_prepare(void)
{
	pthread_mutex_lock(&open_pools.lock);
}

static void fork_parent(void)
{
	pthread_mutex_unlock(&open_pools.lock);
}

static void fork_child(void)
{
	for (struct pool *p = open_pools.first; p; p = p->next) {
		if (p->heap_fd >= 0)
			close(p->heap_fd);
		p->heap_fd = -1;
		p->forked = 1;
		if (p->fork_hook)
			p->fork_hook(p);
		/* Its holder may be a thread that the child does not have. */
		pthread_mutex_init(&p->own_lock, NULL);
	}
	pthread_mutex_unlock(&open_pools.lock);
}

static void fork_register(void)
{
	pthread_atfork(fork_prepare, fork_parent, fork_child);
}

static void list_add(struct pool *pool)
{
	pthread_mutex_lock(&open_pools.lock);
	pool->next = open_pools.first;
	if (pool->next)
		pool->next->prev = pool;
	open_pools.first = pool;
	pthread_mutex_unlock(&open_pools.lock);
}

static void list_remove(struct pool *pool)
{
	pthread_mutex_lock(&open_pools.lock);
	if (pool->prev)
		pool->prev->next = pool->next;
	else
		open_pools.first = pool->next;
	if (pool->next)
		pool->next->prev = pool->prev;
	pthread_mutex_unlock(&open_pools.lock);
}

/* ---------------------------------------------------------------- locks */

int pool_lock(int fd, short type, uint64_t byte)
{
	struct flock lock = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1,
	};

	while (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
		if (errno == EAGAIN || errno == EACCES)
			return -EBUSY;
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

int pool_has_room(int fd, uint64_t bytes)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0 || fs.f_bsize <= 0 || !fs.f_blocks)
		return 1;
	return fs.f_bfree >= bytes / (uint64_t)fs.f_bsize;
}

/* ---------------------------------------------------------------- opening */

int pool_begin(const char *path, unsigned flags, struct pool **out, struct cxlshm_error *error)
{
	struct pool *pool;
	int rc;

	if (!path || !*path)
		return error_set(error, -EINVAL, "no pool directory given");
	pthread_once(&open_pools.once, fork_register);
	pool = calloc(1, sizeof(*pool));
	if (!pool)
		return error_set(error, -ENOMEM, "%s: out of memory", path);
	pool->heap_fd = pool->extents_fd = -1;
	pool->flags = flags;
	pool->super = &pool->checked;
	pthread_mutex_init(&pool->own_lock, NULL);
	pool->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	list_add(pool);
	if (pool->dir_fd < 0) {
		rc = -errno;
		error_set(error, rc, rc == -ENOENT ? "%s: no such directory; mkfs.cxlshm makes pools" :
			  rc == -ENOTDIR ? "%s: not a directory; a pool is one that mkfs.cxlshm made" :
			  rc == -EACCES ? "%s: permission denied (a pool belongs to the user and group that "
					  "mkfs.cxlshm gave it to)" :
					  "%s: cannot open the directory", path);
		goto fail;
	}
	pool->path = realpath(path, NULL);
	if (!pool->path) {
		rc = error_set(error, -errno, "%s: %s", path, strerror(errno));
		goto fail;
	}
	*out = pool;
	return 0;
fail:
	pool_unmap(pool);
	return rc;
}

/*
 * Away from the numbers of standard input, output and error, where a program that was started without them has its
 * messages written: to the superblock, if the heap were there.
 */
static int above_stdio(int fd)
{
	int high, saved;

	if (fd < 0 || fd > STDERR_FILENO)
		return fd;
	high = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	saved = errno;
	close(fd);
	errno = saved;
	return high;
}

/* The descriptor must be in the list before a fork() can copy it. */
static int heap_open_listed(struct pool *pool, int flags, mode_t mode)
{
	int rc = 0;

	pthread_mutex_lock(&open_pools.lock);
	pool->heap_fd = above_stdio(openat(pool->dir_fd, HEAP, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
					   mode));
	if (pool->heap_fd < 0)
		rc = -errno;
	pthread_mutex_unlock(&open_pools.lock);
	return rc;
}

static void heap_close(struct pool *pool)
{
	pthread_mutex_lock(&open_pools.lock);
	if (pool->heap_fd >= 0)
		close(pool->heap_fd);
	pool->heap_fd = -1;
	pthread_mutex_unlock(&open_pools.lock);
}

int pool_heap_open(struct pool *pool, int flags, mode_t mode, short lock, struct cxlshm_error *error)
{
	for (int i = 0; i < REPLACED_TRIES; i++) {
		struct stat st;
		int rc = heap_open_listed(pool, flags, mode);

		if (rc == -ENOENT)
			return error_set(error, rc, "%s: no pool here (no file heap); mkfs.cxlshm makes one",
					 pool->path);
		if (rc == -ELOOP || (rc == 0 && (fstat(pool->heap_fd, &st) != 0 || !S_ISREG(st.st_mode))))
			return error_set(error, -EUCLEAN, "%s/heap: not a regular file, so this is no pool",
					 pool->path);
		if (rc)
			return error_set(error, rc, "%s/heap: %s", pool->path, strerror(-rc));
		rc = pool_lock(pool->heap_fd, lock, LOCK_POOL);
		if (rc == -EBUSY)
			return error_set(error, rc, lock == F_WRLCK ?
					 "%s: the pool is in use (mounted, or open in a program)" :
					 "%s: the pool is being made, checked or removed just now",
					 pool->path);
		if (rc)
			return error_set(error, rc, "%s/heap: cannot lock it: %s", pool->path, strerror(-rc));
		/* A pool that was removed or remade between open and lock: look again. */
		if (fstat(pool->heap_fd, &st) == 0 && st.st_nlink > 0)
			return 0;
		heap_close(pool);
	}
	return error_set(error, -EBUSY, "%s: the pool is being made or removed again and again", pool->path);
}

/* Which superblock to believe goes to pool->checked. */
static int super_choose(struct pool *pool, struct cxlshm_error *error)
{
	struct super_fmt first, copy;
	struct stat st;
	int rc = pool_super_read(pool->heap_fd, &first, &copy);

	if (rc || fstat(pool->heap_fd, &st) != 0)
		return error_set(error, rc ? rc : -errno, "%s/heap: cannot read it", pool->path);
	if ((uint64_t)st.st_size < SUPER_COPY_OFF + sizeof(copy))
		return error_set(error, -EUCLEAN, "%s/heap: %" PRIu64 " bytes long: truncated, or mkfs.cxlshm did "
				 "not finish; run mkfs.cxlshm --force to make the pool anew", pool->path,
				 (uint64_t)st.st_size);
	rc = pool_super_judge(&first, pool->path, error);
	if (rc && pool_super_judge(&copy, pool->path, NULL) == 0) {
		if (!(pool->flags & POOL_USE_COPY))
			return error_set(error, -EUCLEAN, "%s: the superblock is damaged, but its copy is good; "
					 "run fsck.cxlshm --repair", pool->path);
		first = copy;
		rc = 0;
	}
	if (rc)
		return rc;
	if ((uint64_t)st.st_size != first.heap_bytes)
		return error_set(error, -EUCLEAN, "%s/heap: %" PRIu64 " bytes long instead of %" PRIu64
				 ": truncated or not whole; the objects in it are lost; run mkfs.cxlshm --force",
				 pool->path, (uint64_t)st.st_size, first.heap_bytes);
	pool->checked = first;
	if (!arch_supported())
		return error_set(error, -ENOTSUP, "%s: this processor has no 16-byte atomic loads and stores "
				 "(x86-64 with AVX, or aarch64 with LSE2)", pool->path);
	if (first.failure_domain == CXLSHM_FAILURE_HOST && !arch_can_write_back())
		return error_set(error, -ENOTSUP, "%s: made with --failure-domain=host, but this processor "
				 "cannot write cache lines back (clwb)", pool->path);
	return 0;
}

int pool_map(struct pool *pool, struct cxlshm_error *error)
{
	const struct super_fmt *super = pool->super;
	int readonly = (pool->flags & CXLSHM_READONLY) != 0;
	struct stat locked, mapped;
	int fd, rc = 0;
	void *base;

	/* Another open file description than heap_fd's: see the top. */
	fd = openat(pool->dir_fd, HEAP, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return error_set(error, -errno, "%s/heap: %s", pool->path, strerror(errno));
	if (fstat(fd, &mapped) != 0 || fstat(pool->heap_fd, &locked) != 0)
		rc = -errno;
	else if (mapped.st_ino != locked.st_ino || mapped.st_dev != locked.st_dev)
		rc = -EBUSY;
	if (rc) {
		close(fd);
		return error_set(error, rc, "%s/heap: replaced while it was being opened", pool->path);
	}
	base = mmap(NULL, super->heap_bytes, PROT_READ | (readonly ? 0 : PROT_WRITE), MAP_SHARED | MAP_NORESERVE,
		    fd, 0);
	rc = base == MAP_FAILED ? -errno : 0;
	close(fd);
	if (rc == -ENOMEM)
		return error_set(error, rc, "%s: the heap of %" PRIu64 " bytes does not fit into this process's "
				 "address space (ulimit -v?)", pool->path, super->heap_bytes);
	if (rc)
		return error_set(error, rc, "%s/heap: cannot map it: %s", pool->path, strerror(-rc));
	pool->base = base;
	pool->heap_bytes = super->heap_bytes;
	pool->host = super->failure_domain == CXLSHM_FAILURE_HOST;
	pool->shared = (struct shared_fmt *)(pool->base + SHARED_OFF);
	pool->hints = (struct a64 *)(pool->base + HINTS_OFF);
	pool->segment_table = (struct segment_fmt *)(pool->base + super->segment_table_off);
	pool->segment_shift = super->segment_shift;
	pool->page_shift = super->page_shift;
	pool->segments = super->segments;
	pool->first_segment = super->first_segment;
	pool->slots = super->slots;
	pool->objects_off = (uint64_t)super->first_segment << super->segment_shift;
	pool->objects_bytes = super->heap_bytes - sizeof(struct object_fmt) - pool->objects_off;
	pool->segment_low = (1ull << super->segment_shift) - 1;
	pool->page_bytes = 1ull << super->page_shift;
	pool->own = calloc(pool->slots + 1ull, sizeof(struct client *));
	pool->claimed = calloc(pool->slots + 1ull, sizeof(*pool->claimed));
	return pool->own && pool->claimed ? 0 : error_set(error, -ENOMEM, "%s: out of memory", pool->path);
}

static int open_locked(const char *path, unsigned flags, short lock, struct pool **out,
		       struct cxlshm_error *error)
{
	int readonly = (flags & CXLSHM_READONLY) != 0 && lock != F_WRLCK;
	struct pool *pool;
	int rc;

	if (error)
		error->text[0] = 0;
	if (flags & ~(CXLSHM_READONLY | CXLSHM_SPARSE | (lock == F_WRLCK ? POOL_USE_COPY : 0)))
		return error_set(error, -EINVAL, "%s: unknown flags 0x%x", path ? path : "", flags);
	rc = pool_begin(path, flags, &pool, error);
	if (rc)
		return rc;
	rc = pool_heap_open(pool, readonly ? O_RDONLY : O_RDWR, 0, lock, error);
	if (rc)
		goto fail;
	rc = super_choose(pool, error);
	if (rc)
		goto fail;
	pool->extents_fd = openat(pool->dir_fd, EXTENTS, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (pool->extents_fd < 0) {
		rc = errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? -EUCLEAN : -errno;
		error_set(error, rc, "%s/x: %s: the folder of the pool's files cannot be opened", pool->path,
			  strerror(errno));
		goto fail;
	}
	rc = pool_map(pool, error);
	if (rc)
		goto fail;
	*out = pool;
	return 0;
fail:
	pool_unmap(pool);
	return rc;
}

int pool_open(const char *path, unsigned flags, struct pool **pool, struct cxlshm_error *error)
{
	return open_locked(path, flags, F_RDLCK, pool, error);
}

int pool_open_exclusive(const char *path, unsigned flags, struct pool **pool, struct cxlshm_error *error)
{
	return open_locked(path, flags, F_WRLCK, pool, error);
}

void pool_unmap(struct pool *pool)
{
	if (!pool)
		return;
	heap_close(pool);
	list_remove(pool);
	if (pool->base)
		munmap(pool->base, pool->heap_bytes);
	if (pool->extents_fd >= 0)
		close(pool->extents_fd);
	if (pool->dir_fd >= 0)
		close(pool->dir_fd);
	pthread_mutex_destroy(&pool->own_lock);
	free(pool->own);
	free(pool->claimed);
	free(pool->path);
	free(pool);
}

/* ---------------------------------------------------------------- places */

struct slot_fmt *pool_slot(const struct pool *pool, uint32_t cid)
{
	return (struct slot_fmt *)(pool->base + pool->super->slots_off +
				   (cid - 1ull) * pool->super->slot_stride_bytes);
}

struct a64 *pool_era_row(const struct pool *pool, uint32_t cid)
{
	return (struct a64 *)((char *)pool_slot(pool, cid) + pool->super->era_row_off);
}
