/* SPDX-License-Identifier: MIT */
/*
 * Extent files; see extent.h.
 *
 * Life: the record names id and owner, then the owner's word says the id, then the file is made.  So from before it is
 * there the file goes with its object: reclaiming a dead file object deletes its extent first (again after a crash, which
 * is harmless, for ids do not come back).  Recovery relies on nothing else: a file that its maker died making may be one
 * that who recovers may delete, but not open.
 */
#include "extent.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define ZEROS_BYTES 16384

struct extent_name {
	char text[20];
};

static struct extent_name name_of(uint64_t id)
{
	struct extent_name n;

	snprintf(n.text, sizeof(n.text), "%016" PRIx64, id);
	return n;
}

int extent_open(const struct pool *pool, uint64_t id, int flags)
{
	struct extent_name n = name_of(id);
	int fd;

	do
		fd = openat(pool->extents_fd, n.text, (flags & ~(O_CREAT | O_EXCL)) | O_CLOEXEC | O_NOFOLLOW);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

int extent_apply_make(struct client *c, const struct redo_fmt *r)
{
	struct a64 *owner = off_ptr(c->pool, r->loc);
	struct extent_name n = name_of(r->aux);
	struct stat st;
	int fd;

	/* Pairs: ref_undertake().  Crash before: no file yet.  After: the object, private still, takes it along, made or not. */
	a64_store_release(owner, r->aux);
	persist(c->pool, owner, sizeof(*owner));
	CRASH_POINT(c, extent, owned);
	do
		fd = openat(c->pool->extents_fd, n.text, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	while (fd < 0 && errno == EINTR);
	if (fd < 0)
		return errno == EDQUOT ? -ENOSPC : -errno;
	CRASH_POINT(c, extent, created);
	/* Who may open the heap may open the extents: the same mode, whatever the umask says. */
	if (!fstat(c->pool->heap_fd, &st))
		(void)!fchmod(fd, st.st_mode & 0777);
	close(fd);
	return 0;
}

int extent_make(struct client *c, struct a64 *owner)
{
	struct redo_fmt *r = redo_begin(c, REDO_EXTENT);
	uint64_t id = era_stamp(c);
	int rc;

	r->word = 0;
	r->loc = off_of(c->pool, owner);
	r->aux = id;
	redo_seal(c, r);
	rc = extent_apply_make(c, r);
	era_bump(c);
	/*
	 * A file without its policy is better than none.  Where a process may not set it (a container's filter of system calls,
	 * a cpuset without those nodes), mkfs's own tmpfs gives it by a mount option, and elsewhere its bytes are slower to reach
	 * and right.
	 */
	if (!rc && c->pool->super->numa[0]) {
		int fd = extent_open(c->pool, id, O_RDWR);

		if (fd >= 0) {
			numa_apply_fd(c->pool, fd);
			close(fd);
		}
	}
	return rc;
}

void extent_reclaim(struct client *c, uint64_t id)
{
	struct extent_name n = name_of(id);

	if (!unlinkat(c->pool->extents_fd, n.text, 0))
		c->done.extents++;
	CRASH_POINT(c, extent, deleted);
}

/* fallocate(2) that goes on after signals. */
static int allocate(int fd, int mode, uint64_t offset, uint64_t length)
{
	int rc;

	do
		rc = fallocate(fd, mode, (off_t)offset, (off_t)length);
	while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return errno == EDQUOT ? -ENOSPC : -errno;
	return 0;
}

/*
 * More bytes in one file than the pool has are refused before they are tried: in a plain directory the file system may well
 * have them.  What the pool's files have together is not looked at, for that takes a look at each.
 */
static int outgrows(const struct pool *pool, const struct stat *st, uint64_t end, uint64_t bytes)
{
	uint64_t had = (uint64_t)st->st_size;

	return bytes > pool->super->pool_bytes ||
	       (end > had && end > pool->super->pool_bytes && (uint64_t)st->st_blocks * 512 >= had);
}

int extent_resize(struct client *c, uint64_t id, uint64_t bytes)
{
	int fd = extent_open(c->pool, id, O_RDWR);
	struct stat st;
	int rc = 0;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		rc = -errno;
	if (!rc && bytes > (uint64_t)st.st_size && !(c->pool->flags & CXLSHM_SPARSE)) {
		/* Reserve from the last whole page on: a tail page cut off before may be a hole. */
		uint64_t from = (uint64_t)st.st_size & ~4095ull;

		rc = outgrows(c->pool, &st, bytes, bytes - from) ? -ENOSPC
								 : allocate(fd, FALLOC_FL_KEEP_SIZE, from, bytes - from);
		/*
		 * Crash before: the old size.  After: the same, with memory behind it that nobody reads; it goes with the next
		 * cut, or with the file.
		 */
		CRASH_POINT(c, extent, reserved);
		if (rc == -EOPNOTSUPP)
			rc = 0;
	}
	/*
	 * A reservation that fails is undone by tmpfs; on other file systems some of it may stay, behind the file's end.  It
	 * is not cut off at the old size: that would take what others have written there meanwhile.
	 *
	 * Pairs: extent_stat(), the kernel's own order.  Crash before: the old size, after: the new one.
	 */
	if (!rc && ftruncate(fd, (off_t)bytes) < 0)
		rc = -errno;
	CRASH_POINT(c, extent, resized);
	close(fd);
	return rc;
}

/* Zeros over [from, to), which is allocated.  Crash: some of them are written, the bytes behind are as they were. */
static int write_zeros(struct client *c, int fd, off_t from, off_t to)
{
	static const char zeros[ZEROS_BYTES];

	while (from < to) {
		size_t bytes = to - from < ZEROS_BYTES ? (size_t)(to - from) : ZEROS_BYTES;
		ssize_t n = pwrite(fd, zeros, bytes, from);

		if (n < 0 && errno != EINTR)
			return errno == EDQUOT ? -ENOSPC : -errno;
		if (n > 0)
			from += n;
		CRASH_POINT(c, extent, zeroed);
	}
	return 0;
}

/*
 * FALLOC_FL_ZERO_RANGE for file systems that have none, like tmpfs.  All of it is allocated first: tmpfs does that, or undoes
 * it, so that for lack of room nothing has happened.  Then whatever reads as something is overwritten where it is, for memory
 * that were punched might be gone before it could be had again.  What has just been allocated is no data, and is passed over.
 * Behind the file's end nothing is written, so with KEEP_SIZE a size stays, unless others cut the file meanwhile.
 * Crash before the allocation: nothing.  After: the size is what it will be, and no byte has changed yet.
 */
static int zero_range(struct client *c, int fd, int keep_size, uint64_t offset, uint64_t length)
{
	off_t at = (off_t)offset, end = (off_t)(offset + length);
	struct stat st;
	int rc;

	rc = allocate(fd, keep_size, offset, length);
	CRASH_POINT(c, extent, zero_reserved);
	if (rc)
		return rc;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (end > st.st_size)
		end = st.st_size;
	while (at < end) {
		off_t data = lseek(fd, at, SEEK_DATA), hole;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;	/* ENXIO: none up to the file's end */
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			return errno == ENXIO ? 0 : -errno;	/* cut off meanwhile */
		at = hole;
		rc = write_zeros(c, fd, data, hole < end ? hole : end);
		if (rc)
			return rc;
	}
	return 0;
}

int extent_reserve(struct client *c, uint64_t id, int mode, uint64_t offset, uint64_t length)
{
	int fd = extent_open(c->pool, id, O_RDWR);
	struct stat st;
	int rc;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		rc = -errno;
	else if (!(mode & FALLOC_FL_PUNCH_HOLE) && outgrows(c->pool, &st, offset + length, length))
		rc = -ENOSPC;
	else
		rc = allocate(fd, mode, offset, length);
	/* Crash before: nothing.  After: all of it, for the kernel does it at once. */
	CRASH_POINT(c, extent, allocated);
	if (rc == -EOPNOTSUPP && (mode & ~FALLOC_FL_KEEP_SIZE) == FALLOC_FL_ZERO_RANGE)
		rc = zero_range(c, fd, mode & FALLOC_FL_KEEP_SIZE, offset, length);
	close(fd);
	return rc;
}

int extent_stat(const struct pool *pool, uint64_t id, struct stat *st)
{
	struct extent_name n = name_of(id);

	return fstatat(pool->extents_fd, n.text, st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int extent_set_times(struct client *c, uint64_t id, const struct timespec times[2])
{
	struct extent_name n = name_of(id);
	int rc = utimensat(c->pool->extents_fd, n.text, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;

	/* Pairs: extent_stat(), the kernel's own order.  Crash before: the old times, after: the new ones. */
	CRASH_POINT(c, extent, times_set);
	return rc;
}

/*
 * A write lease is granted only while nobody else has the file open or mapped (fcntl(2), F_SETLEASE).  It is given back
 * at once; an open that meets it in between waits that long, and sends SIGIO, which must not kill: the signal is aimed at
 * nobody by F_SETSIG to one that is ignored by default.  Ours does not wait: who looks may have been stopped meanwhile.
 */
int extent_busy(const struct pool *pool, uint64_t id)
{
	int fd = extent_open(pool, id, O_RDONLY | O_NONBLOCK);
	int rc = 0;

	if (fd < 0)
		return fd == -EWOULDBLOCK ? 1 : fd;
	(void)!fcntl(fd, F_SETSIG, SIGURG);
	if (fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
		rc = errno == EAGAIN || errno == EBUSY ? 1 : -errno;
	else
		(void)!fcntl(fd, F_SETLEASE, F_UNLCK);
	close(fd);
	return rc;
}
