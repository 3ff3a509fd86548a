/* SPDX-License-Identifier: MIT */
/*
 * file.c: open files, and their bytes.
 *
 * Owns the handles of open files.
 *
 * A file object opened with passthrough costs one backing file, registered with the kernel at the first
 * open and shared by all of them; the daemon then sees neither reads nor writes.  Without passthrough
 * the daemon reads and writes the extent.  A heap object with a name is read and written where it lies.
 * Each open handle holds a root reference to the object.  What follows the last close is in idle.c.
 *
 * Threads: any; the lock is the names lane's (inode.h).  Bytes are moved without it.
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <sys/mman.h>
#include <unistd.h>

#include "idle.h"
#include "room.h"
#include "shrink.h"

#define MS 1000000ull
#define COPY_MAX (16ull << 20)	/* bytes one copy_file_range moves at most */
#define LEASE_RETRIES 5000	/* ms: how long we try to open an extent that somebody is probing */

int file_mapped(struct fs *fs, struct inode *inode)
{
	if (inode->kind != CXLSHM_KIND_FILE)
		return 0;
	if (inode->backing_id && !inode->backed_opens)
		idle_backing_drop(fs, inode);	/* ours would count */
	return cxlshm_extent_busy(fs->lanes.names.client, inode->ref);
}

/* ---------------------------------------------------------------- opening */

/*
 * A descriptor of the inode's extent.  Another client's probe (a lease) may be in the way for a few
 * microseconds, or longer if that client was stopped in the middle: try again, without the lock.
 * Locked; gives the lock up in between, so the caller looks at its inode again afterwards.
 */
static int extent_open(struct fs *fs, cxlshm_ref ref, int flags)
{
	int fd = -EWOULDBLOCK;

	for (int i = 0; i < LEASE_RETRIES && fd == -EWOULDBLOCK; i++) {
		struct timespec pause = {.tv_nsec = (long)MS};

		if (i) {
			lane_unlock(&fs->lanes);
			nanosleep(&pause, NULL);
			lane_lock(&fs->lanes);
		}
		fd = cxlshm_extent_open(fs->lanes.names.client, ref, flags | O_NONBLOCK);
	}
	return fd;
}

/* Make sure the inode has a backing file.  -EOPNOTSUPP: not with this kernel or user.  Locked. */
static int backing_get(struct fs *fs, struct inode *inode, cxlshm_ref ref)
{
	int fd, id;

	if (!passthrough_ready(fs->passthrough, fs->session))
		return -EOPNOTSUPP;
	if (inode->backing_id)
		return 0;
	fd = extent_open(fs, ref, O_RDWR);
	if (fd < 0)
		return fd;
	if (inode->backing_id) {	/* somebody else did, while we waited */
		close(fd);
		return 0;
	}
	id = passthrough_backing_open(fs->passthrough, fs->session, fd);
	close(fd);	/* the kernel has its own hold on the file */
	if (id < 0)
		return id;
	inode->backing_id = id;
	fs->backing_count++;
	return 0;
}

/* How many bytes at an object's start are reference slots: they are the library's to write. */
static size_t slot_bytes(struct fs *fs, cxlshm_ref ref)
{
	struct cxlshm_client *client = fs->lanes.names.client;
	struct cxlshm_object_info info;
	cxlshm_ref target;

	if (cxlshm_object_info(fs->pool, cxlshm_id(client, ref), &info))
		return SIZE_MAX;
	if (!info.slots)
		return 0;
	if (cxlshm_field_load(client, ref, 0, &target))	/* not fields of 8 bytes, so cells of 16 */
		return 16 * (size_t)info.slots;
	cxlshm_release(client, target);
	return 8 * (size_t)info.slots;
}

/* Open a heap object by its inode.  Locked. */
static int open_memory(struct fs *fs, struct inode *inode, struct handle *handle)
{
	struct cxlshm_client *client = fs->lanes.names.client;
	int64_t size;
	int rc = cxlshm_named_object(client, inode->ref, &handle->ref);

	if (rc)
		return rc;
	handle->kind = HANDLE_MEMORY;
	handle->data = cxlshm_ptr(client, handle->ref);
	size = inode->queue ? 0 : cxlshm_size(client, handle->ref);
	if (size < 0 || (!handle->data && size)) {
		cxlshm_release(client, handle->ref);
		return size < 0 ? (int)size : -EIO;
	}
	handle->size = (size_t)size;
	handle->fixed = inode->queue;
	handle->guard = slot_bytes(fs, handle->ref);
	return 0;
}

/* Open a file object.  Locked. */
static int open_extent(struct fs *fs, struct inode *inode, int flags, pid_t thread, struct handle *handle)
{
	struct cxlshm_client *client = fs->lanes.names.client;
	int rc = cxlshm_attach(client, inode->ref, &handle->ref);

	if (rc)
		return rc;
	rc = backing_get(fs, inode, handle->ref);
	if (!rc) {
		handle->kind = HANDLE_PASSTHROUGH;
		inode->backed_opens++;
		idle_opened(inode, thread);
		atomic_fetch_add_explicit(&fs->opens_passthrough, 1, memory_order_relaxed);
		idle_cancel(fs, inode);
		return 0;
	}
	if (rc == -EOPNOTSUPP) {
		handle->kind = HANDLE_EXTENT;
		handle->fd = extent_open(fs, handle->ref,
					 (flags & O_ACCMODE) == O_RDONLY ? O_RDONLY : O_RDWR);
		rc = handle->fd < 0 ? handle->fd : 0;
	}
	if (rc)
		cxlshm_release(client, handle->ref);
	return rc;
}

int file_open(struct fs *fs, struct inode *inode, int flags, bool privileged, pid_t thread, struct handle **out)
{
	struct handle *handle = calloc(1, sizeof(*handle));
	bool writes = (flags & O_ACCMODE) != O_RDONLY;
	int rc = 0;

	if (!handle)
		return -ENOMEM;
	handle->inode = inode;
	handle->fd = -1;
	/* For a heap object O_TRUNC means nothing: its size is fixed, like a device's. */
	if (flags & O_TRUNC && inode->kind == CXLSHM_KIND_FILE)
		rc = file_truncate(fs, inode, 0);
	lane_lock(&fs->lanes);
	if (!rc)
		rc = inode->kind == CXLSHM_KIND_NAMED ? open_memory(fs, inode, handle) :
		     inode->kind == CXLSHM_KIND_FILE ? open_extent(fs, inode, flags, thread, handle) : -EINVAL;
	if (!rc) {
		inode->handles++;
		fs->handle_count++;
		/* The kernel asks nobody before a write that passes us by, so this is the moment (passthrough.h). */
		if (writes && !privileged && inode->kind == CXLSHM_KIND_FILE)
			inode_kill_privileges(fs, inode);
		/* File capabilities the kernel takes away only before a write that passes us by. */
		if (writes && handle->kind == HANDLE_EXTENT)
			cxlshm_removexattr(fs->lanes.names.client, inode->ref, "security.capability");
	}
	lane_unlock(&fs->lanes);
	if (rc) {
		free(handle);
		return rc;
	}
	atomic_fetch_add_explicit(&fs->opens, 1, memory_order_relaxed);
	*out = handle;
	return 0;
}

void file_release(struct fs *fs, struct handle *handle)
{
	struct cxlshm_client *client = lane_lock(&fs->lanes);
	struct inode *inode = handle->inode;
	uint64_t token = 0;

	inode->handles--;
	fs->handle_count--;
	if (handle->kind == HANDLE_PASSTHROUGH && --inode->backed_opens == 0) {
		token = idle_begin(fs, inode, handle->ref);
	} else {
		cxlshm_release(client, handle->ref);
		token = inode_unref(fs, inode);
	}
	lane_unlock(&fs->lanes);
	if (token)
		lane_side_drop(&fs->lanes, token);
	if (handle->fd >= 0)
		close(handle->fd);
	free(handle);
}

/* ---------------------------------------------------------------- bytes */

ssize_t file_read(struct handle *handle, char *buffer, size_t size, off_t offset)
{
	ssize_t length;

	if (handle->kind == HANDLE_MEMORY || handle->kind == HANDLE_TEXT) {
		size_t left = (uint64_t)offset < handle->size ? handle->size - (size_t)offset : 0;

		size = size < left ? size : left;
		if (size)
			memcpy(buffer, handle->data + offset, size);
		return (ssize_t)size;
	}
	if (handle->fd < 0)
		return -EIO;
	length = pread(handle->fd, buffer, size, offset);
	return length < 0 ? -errno : length;
}

/* Write to a heap object; its size and its reference slots are fixed. */
static ssize_t write_memory(struct fs *fs, struct handle *handle, const char *bytes, size_t size,
			    off_t offset)
{
	struct cxlshm_stat st = {0};

	if (handle->fixed || (uint64_t)offset < handle->guard)
		return -EPERM;
	if ((uint64_t)offset >= handle->size)
		return -ENOSPC;
	if (size > handle->size - (size_t)offset)
		size = handle->size - (size_t)offset;
	memcpy(handle->data + offset, bytes, size);
	clock_gettime(CLOCK_REALTIME, &st.mtime);
	cxlshm_setattr(lane_lock(&fs->lanes), handle->inode->ref, &st, CXLSHM_SET_MTIME);
	lane_unlock(&fs->lanes);
	return (ssize_t)size;
}

/* Room for what a write adds to the extent: what lies behind its end. */
static int write_room(struct fs *fs, int fd, size_t size, off_t offset, bool append)
{
	struct stat st;

	if (!fs->room_counted || offset < 0 || fstat(fd, &st) ||
	    (!append && offset < st.st_size && size <= (size_t)(st.st_size - offset)))
		return 0;
	return room_take(fs, append || offset >= st.st_size ? size : size - (size_t)(st.st_size - offset));
}

ssize_t file_write(struct fs *fs, struct handle *handle, const char *bytes, size_t size, off_t offset,
		   bool append)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
	ssize_t length;
	int rc;

	if (handle->kind == HANDLE_MEMORY)
		return write_memory(fs, handle, bytes, size, offset);
	if (handle->fd < 0)
		return handle->kind == HANDLE_TEXT ? -EPERM : -EIO;
	rc = write_room(fs, handle->fd, size, offset, append);
	if (rc)
		return rc;
	length = pwritev2(handle->fd, &iov, 1, offset, append ? RWF_APPEND : 0);
	return length < 0 ? -errno : length;
}

/*
 * A descriptor of the inode's extent, to be held while its size or what is reserved changes: the library opens it, too, and
 * would wait with a lane locked for a client that was stopped in a probe.  While this one is open there is no probe.
 */
static int keep_open(struct fs *fs, struct inode *inode)
{
	int fd;

	lane_lock(&fs->lanes);
	fd = extent_open(fs, inode->ref, O_RDWR);
	lane_unlock(&fs->lanes);
	return fd;
}

/* Set a file object's size, on a side lane if that may take long. */
static int resize(struct fs *fs, struct inode *inode, uint64_t size_bytes, uint64_t change)
{
	int fd = keep_open(fs, inode), rc;
	struct lane *lane;
	cxlshm_ref ref;

	if (fd < 0)
		return fd;
	if (change > LANE_LONG_BYTES && !lane_side_begin(&fs->lanes, inode->ref, 0, &lane, &ref, NULL)) {
		rc = cxlshm_resize(lane->client, ref, size_bytes);
		lane_side_end(lane, ref, 0);
	} else {
		rc = cxlshm_resize(lane_lock(&fs->lanes), inode->ref, size_bytes);
		lane_unlock(&fs->lanes);
	}
	close(fd);
	return rc;
}

int file_truncate(struct fs *fs, struct inode *inode, uint64_t size_bytes)
{
	struct cxlshm_stat st;
	int rc = cxlshm_stat(lane_lock(&fs->lanes), inode->ref, &st);

	if (!rc && inode->kind == CXLSHM_KIND_FILE)
		inode_kill_privileges(fs, inode);
	lane_unlock(&fs->lanes);
	if (rc)
		return rc;
	if (inode->kind != CXLSHM_KIND_FILE)
		return st.size_bytes == size_bytes ? 0 : -EPERM;
	if (size_bytes <= st.size_bytes)
		return resize(fs, inode, size_bytes, st.size_bytes - size_bytes);
	rc = room_take(fs, size_bytes - st.size_bytes);
	return rc ? rc : resize(fs, inode, size_bytes, size_bytes - st.size_bytes);
}

int file_reserve(struct fs *fs, struct inode *inode, int mode, uint64_t offset, uint64_t length)
{
	struct lane *lane;
	cxlshm_ref ref;
	int fd, rc;

	if (inode->kind != CXLSHM_KIND_FILE)
		return -EOPNOTSUPP;
	if (!(mode & FALLOC_FL_PUNCH_HOLE)) {
		rc = room_take(fs, length);
		if (rc)
			return rc;
	}
	fd = keep_open(fs, inode);
	if (fd < 0)
		return fd;
	if (length > LANE_LONG_BYTES && !lane_side_begin(&fs->lanes, inode->ref, 0, &lane, &ref, NULL)) {
		rc = cxlshm_reserve(lane->client, ref, mode, offset, length);
		lane_side_end(lane, ref, 0);
	} else {
		rc = cxlshm_reserve(lane_lock(&fs->lanes), inode->ref, mode, offset, length);
		lane_unlock(&fs->lanes);
	}
	close(fd);
	return rc;
}

/* A descriptor to use for an open file, to be closed if *owned. */
static int borrow_fd(struct fs *fs, struct handle *handle, int flags, bool *owned)
{
	int fd;

	*owned = handle->fd < 0;
	if (!*owned)
		return handle->fd;
	if (handle->kind != HANDLE_PASSTHROUGH)
		return -EOPNOTSUPP;
	lane_lock(&fs->lanes);
	fd = extent_open(fs, handle->ref, flags);
	lane_unlock(&fs->lanes);
	return fd;
}

/* Write back what the caches hold of the file from at to end. */
static int write_back(struct fs *fs, int fd, off_t at, off_t end)
{
	const off_t chunk = 64 << 20;

	for (at -= at % (off_t)sysconf(_SC_PAGESIZE); at < end; at += chunk) {
		size_t bytes = (size_t)(end - at < chunk ? end - at : chunk);
		void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, at);

		if (map == MAP_FAILED)
			return -errno;
		/* Another mount, or a native client, may cut the file off under us. */
		shrink_begin(map, bytes);
		cxlshm_write_back(fs->pool, map, bytes);
		shrink_end();
		munmap(map, bytes);
	}
	return 0;
}

/*
 * Only with failure_domain=host: the file's lines are written back from the caches of this machine.  Others' machines write
 * back theirs.  Holes are left out: there may be exabytes of them, and touching one makes it memory.
 */
int file_sync(struct fs *fs, struct handle *handle)
{
	bool owned;
	int fd = borrow_fd(fs, handle, O_RDWR, &owned), rc;
	off_t at = 0, end;

	if (fd < 0)
		return fd == -EOPNOTSUPP ? 0 : fd;
	rc = fsync(fd) ? -errno : 0;
	while (!rc && (at = lseek(fd, at, SEEK_DATA)) >= 0) {
		end = lseek(fd, at, SEEK_HOLE);
		if (end < 0)
			break;	/* cut off meanwhile */
		rc = write_back(fs, fd, at, end);
		at = end;
	}
	if (owned)
		close(fd);
	return rc;
}

off_t file_seek(struct fs *fs, struct handle *handle, off_t offset, int whence)
{
	bool owned;
	off_t found;
	int fd;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	if (handle->kind == HANDLE_MEMORY || handle->kind == HANDLE_TEXT) {
		if (offset < 0 || (uint64_t)offset >= handle->size)
			return -ENXIO;
		return whence == SEEK_DATA ? offset : (off_t)handle->size;
	}
	fd = borrow_fd(fs, handle, O_RDONLY, &owned);
	if (fd < 0)
		return fd;
	found = lseek(fd, offset, whence);
	if (found < 0)
		found = -errno;
	if (owned)
		close(fd);
	return found;
}

ssize_t file_copy(struct fs *fs, struct handle *from, off_t from_offset, struct handle *to,
		  off_t to_offset, size_t length)
{
	bool from_owned, to_owned;
	ssize_t copied = 0;
	struct stat st;
	int from_fd = borrow_fd(fs, from, O_RDONLY, &from_owned), to_fd;

	if (from_fd < 0)
		return from_fd;
	to_fd = borrow_fd(fs, to, O_RDWR, &to_owned);
	if (to_fd < 0) {
		copied = to_fd;
		goto close_from;
	}
	length = length < COPY_MAX ? length : COPY_MAX;
	if (fs->room_counted && from_offset >= 0 && !fstat(from_fd, &st)) {
		off_t left = from_offset < st.st_size ? st.st_size - from_offset : 0;

		length = (off_t)length < left ? length : (size_t)left;
		copied = write_room(fs, to_fd, length, to_offset, false);
	}
	if (!copied) {
		copied = copy_file_range(from_fd, &from_offset, to_fd, &to_offset, length, 0);
		if (copied < 0)
			copied = errno == EXDEV || errno == EINVAL ? -EOPNOTSUPP : -errno;
	}
	if (to_owned)
		close(to_fd);
close_from:
	if (from_owned)
		close(from_fd);
	return copied;
}
