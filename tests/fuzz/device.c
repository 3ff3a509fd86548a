/* SPDX-License-Identifier: MIT */
/*
 * A /dev/fuse without a kernel behind it.  The descriptor is /dev/null's: it can be polled and closed.
 */
#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "damage.h"

/* As fs/passthrough.c knows them. */
struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};

#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

int __real_open(const char *path, int flags, ...);
ssize_t __real_read(int fd, void *buffer, size_t size);
ssize_t __real_write(int fd, const void *buffer, size_t size);
ssize_t __real_writev(int fd, const struct iovec *iov, int count);
int __real_ioctl(int fd, unsigned long command, ...);
int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
ssize_t __wrap_read(int fd, void *buffer, size_t size);
ssize_t __wrap_write(int fd, const void *buffer, size_t size);
ssize_t __wrap_writev(int fd, const struct iovec *iov, int count);
int __wrap_ioctl(int fd, unsigned long command, ...);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_mount(const char *what, const char *where, const char *type, unsigned long flags, const void *data);
int __wrap_umount2(const char *where, int flags);
uid_t __wrap_geteuid(void);
uid_t __real_geteuid(void);
int __wrap_fuse_session_mount(struct fuse_session *session, const char *mountpoint);
void __wrap_fuse_session_unmount(struct fuse_session *session);

static struct device the_device;
static int device_fd = -1;	/* the daemon's, for as long as it has it */

struct device *device(void)
{
	return &the_device;
}

void device_begin(enum device_kernel kernel)
{
	static char reply[DEVICE_REPLY_BYTES];	/* a sanitizer takes long over mallocs of that size */

	the_device = (struct device){.kernel = kernel, .reply = reply};
	for (unsigned i = 0; i < DEVICE_BACKING_MAX; i++)
		the_device.backing[i] = -1;
}

void device_end(void)
{
	MUST(the_device.mounted);
	MUST((int)the_device.backing_count);
	device_fd = -1;	/* closed with the session */
	the_device = (struct device){.reply = NULL};
}

void device_ask(const char *request, size_t bytes, bool gone)
{
	the_device.request = request;
	the_device.request_bytes = bytes;
	the_device.gone = gone;
	the_device.replies = 0;
	the_device.reply_bytes = 0;
}

static ssize_t give_request(void *buffer, size_t size)
{
	size_t bytes = the_device.request_bytes;

	MUST(!bytes || bytes > size);
	memcpy(buffer, the_device.request, bytes);
	the_device.request_bytes = 0;
	return (ssize_t)bytes;
}

static ssize_t take_reply(const struct iovec *iov, int count)
{
	struct fuse_out_header header;
	size_t bytes = 0;

	for (int i = 0; i < count; i++)
		bytes += iov[i].iov_len;
	MUST(bytes < sizeof(header) || bytes > DEVICE_REPLY_BYTES || iov[0].iov_len < sizeof(header));
	memcpy(&header, iov[0].iov_base, sizeof(header));
	MUST(header.len != bytes);
	if (!header.unique)	/* a notification, perhaps by another thread: prune.c */
		return (ssize_t)bytes;
	MUST(header.error > 0 || header.error <= -1000 || (header.error && bytes > sizeof(header)));
	/* libfuse answers an INTERRUPT that came too late with the next request. */
	if (header.error == -EAGAIN && header.unique & 1) {
		the_device.late++;
		return (ssize_t)bytes;
	}
	the_device.replies++;
	the_device.reply_bytes = 0;
	for (int i = 0; i < count; i++) {
		memcpy(the_device.reply + the_device.reply_bytes, iov[i].iov_base, iov[i].iov_len);
		the_device.reply_bytes += iov[i].iov_len;
	}
	if (the_device.gone) {
		errno = ENOENT;
		return -1;
	}
	return (ssize_t)bytes;
}

static int take_backing(const struct backing_map *map)
{
	if (the_device.kernel != DEVICE_PASSTHROUGH) {
		errno = EINVAL;
		return -1;
	}
	for (int i = 0; i < (int)DEVICE_BACKING_MAX; i++)
		if (the_device.backing[i] < 0) {
			/* The kernel holds the file itself, and so does the duplicate. */
			the_device.backing[i] = fcntl(map->fd, F_DUPFD_CLOEXEC, 0);
			MUST(the_device.backing[i] < 0);
			the_device.backing_count++;
			return i + 1;
		}
	errno = ENFILE;
	return -1;
}

static int drop_backing(uint32_t id)
{
	MUST(!id || id > DEVICE_BACKING_MAX || the_device.backing[id - 1] < 0);
	close(the_device.backing[id - 1]);
	the_device.backing[id - 1] = -1;
	the_device.backing_count--;
	return 0;
}

static int open_either(const char *path, int flags, mode_t mode)
{
	if (strcmp(path, "/dev/fuse"))
		return __real_open(path, flags, mode);
	device_fd = __real_open("/dev/null", O_RDWR | O_CLOEXEC);
	return device_fd;
}

int __wrap_open(const char *path, int flags, ...)
{
	mode_t mode = 0;

	if (flags & (O_CREAT | __O_TMPFILE)) {
		va_list arguments;

		va_start(arguments, flags);
		mode = va_arg(arguments, mode_t);
		va_end(arguments);
	}
	return open_either(path, flags, mode);
}

/* What open() is called with _FILE_OFFSET_BITS=64; the same on 64-bit machines. */
int __wrap_open64(const char *path, int flags, ...)
{
	mode_t mode = 0;

	if (flags & (O_CREAT | __O_TMPFILE)) {
		va_list arguments;

		va_start(arguments, flags);
		mode = va_arg(arguments, mode_t);
		va_end(arguments);
	}
	return open_either(path, flags, mode);
}

ssize_t __wrap_read(int fd, void *buffer, size_t size)
{
	return fd == device_fd && fd >= 0 ? give_request(buffer, size) : __real_read(fd, buffer, size);
}

ssize_t __wrap_write(int fd, const void *buffer, size_t size)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buffer, .iov_len = size};

	return fd == device_fd && fd >= 0 ? take_reply(&iov, 1) : __real_write(fd, buffer, size);
}

ssize_t __wrap_writev(int fd, const struct iovec *iov, int count)
{
	return fd == device_fd && fd >= 0 ? take_reply(iov, count) : __real_writev(fd, iov, count);
}

int __wrap_ioctl(int fd, unsigned long command, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, command);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	if (fd < 0 || fd != device_fd)
		return __real_ioctl(fd, command, argument);
	if (command == BACKING_OPEN)
		return take_backing(argument);
	if (command == BACKING_CLOSE)
		return drop_backing(*(uint32_t *)argument);
	errno = ENOTTY;
	return -1;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	int rc = __real_clock_gettime(clock, now);

	if (!rc && clock == CLOCK_MONOTONIC) {
		uint64_t ns = (uint64_t)now->tv_nsec + the_device.clock_ns % 1000000000u;

		now->tv_sec += (time_t)(the_device.clock_ns / 1000000000u + ns / 1000000000u);
		now->tv_nsec = (long)(ns % 1000000000u);
	}
	return rc;
}

int __wrap_mount(const char *what, const char *where, const char *type, unsigned long flags, const void *data)
{
	(void)what;
	(void)where;
	(void)flags;
	MUST(strcmp(type, "fuse.cxlshm") || !strstr(data, "default_permissions") || the_device.mounted);
	the_device.mounted = true;
	return 0;
}

int __wrap_umount2(const char *where, int flags)
{
	(void)where;
	(void)flags;
	MUST(!the_device.mounted);
	the_device.mounted = false;
	return 0;
}

uid_t __wrap_geteuid(void)
{
	if (!the_device.reply)
		return __real_geteuid();
	return the_device.kernel == DEVICE_UNPRIVILEGED ? 1000 : 0;
}

static ssize_t plain_read(int fd, void *buffer, size_t size, void *userdata)
{
	(void)userdata;
	return __wrap_read(fd, buffer, size);
}

static ssize_t plain_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	(void)userdata;
	return __wrap_writev(fd, iov, count);
}

/* What fusermount3 does for a user, and what libfuse does then. */
int __wrap_fuse_session_mount(struct fuse_session *session, const char *mountpoint)
{
	static const struct fuse_custom_io io = {.writev = plain_writev, .read = plain_read};

	(void)mountpoint;
	if (device_fd < 0)
		device_fd = __real_open("/dev/null", O_RDWR | O_CLOEXEC);
	the_device.mounted = true;
	return fuse_session_custom_io(session, &io, device_fd);
}

void __wrap_fuse_session_unmount(struct fuse_session *session)
{
	(void)session;
	the_device.mounted = false;
}
