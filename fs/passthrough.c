/* SPDX-License-Identifier: MIT */
/*
 * passthrough.c: the mount itself and the FUSE passthrough handshake.
 *
 * Owns the mount(2) call, the INIT exchange and the two ioctls that register backing files.
 *
 * With privilege the daemon opens /dev/fuse and calls mount(2) itself; without, libfuse mounts through
 * fusermount3, and there is no passthrough, because the kernel wants CAP_SYS_ADMIN for it.
 *
 * libfuse before 3.17 knows nothing of passthrough.  Its replies are therefore sent through our own
 * writev (fuse_session_custom_io): read_request() remembers the flags in the kernel's INIT request, and
 * write_reply() adds FUSE_INIT_EXT, FUSE_PASSTHROUGH and max_stack_depth to the answer.  The kernel acts
 * on that answer before writev(2) returns, so that a trial backing file right after it says whether
 * backing files really work here.  The kernel sends other requests from that moment on, and other threads have
 * them, and the program that waits for the mount, before the trial is over: they wait for it (passthrough_ready()).
 *
 * FUSE_HANDLE_KILLPRIV_V2 goes along with it.  Without it the kernel asks us for security.capability
 * before every write, also before writes that otherwise never come near us: 20 us instead of 1.
 *
 * Threads: INIT is the first request, and no other one is sent before it is answered; state is written
 * by the thread that answers it, which holds the mutex from before the answer until the trial is over, and read with
 * acquire by all others.
 */
#include "passthrough.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

/* Kernel interface newer than the oldest linux/fuse.h we compile with (7.38). */
#define PT_INIT_EXT (1ull << 30)
#define PT_HANDLE_KILLPRIV_V2 (1ull << 28)
#define PT_PASSTHROUGH (1ull << 37)
#define PT_FOPEN_DIRECT_IO (1u << 0)
#define PT_FOPEN_PASSTHROUGH (1u << 7)
#define PT_STACK_DEPTH 1

#define DEVICE_NUMBER makedev(10, 229)	/* of /dev/fuse: a miscellaneous device, FUSE_MINOR */

struct pt_backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};

#define PT_IOC_BACKING_OPEN _IOW(229, 1, struct pt_backing_map)
#define PT_IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)

enum pt_state { PT_UNKNOWN, PT_READY, PT_REFUSED };

struct passthrough {
	_Atomic int state;	/* enum pt_state */
	pthread_mutex_t trying;	/* held while the kernel is being asked; a lane may be locked by who waits for it */
	bool privileged;	/* W: passthrough_mount(), before the loop */
	bool mounted;	/* by us, not through libfuse; W: the same */
	dev_t mount_device;	/* of the mount; 0: not known; W: the same */
	char *mountpoint;
	char *trial;	/* a file of the pool, to try a backing file with; W: the same */
	uint64_t init_unique;	/* of the INIT request; W: the thread that read it */
	uint64_t kernel_flags;	/* it offers these; W: the same */
	const char *why;	/* W: before state is PT_REFUSED */
};

struct passthrough *passthrough_new(void)
{
	struct passthrough *pt = calloc(1, sizeof(*pt));

	if (pt) {
		pthread_mutex_init(&pt->trying, NULL);
		pt->why = "the kernel has not been asked yet";
	}
	return pt;
}

void passthrough_free(struct passthrough *pt)
{
	if (pt) {
		free(pt->mountpoint);
		free(pt->trial);
		pthread_mutex_destroy(&pt->trying);
	}
	free(pt);
}

static void refuse(struct passthrough *pt, const char *why)
{
	pt->why = why;
	atomic_store_explicit(&pt->state, PT_REFUSED, memory_order_release);
}

static int backing_open(int device, int fd)
{
	struct pt_backing_map map = {.fd = fd};
	int id = ioctl(device, PT_IOC_BACKING_OPEN, &map);

	return id > 0 ? id : id < 0 ? -errno : -EIO;
}

/* Try a file of the pool, for its file system decides, too.  device: the session's, INIT answered. */
static void try_backing(struct passthrough *pt, int device)
{
	int fd = open(pt->trial, O_RDONLY | O_CLOEXEC);
	int id = fd < 0 ? -errno : backing_open(device, fd);

	if (fd >= 0)
		close(fd);
	if (id > 0) {
		uint32_t number = (uint32_t)id;

		ioctl(device, PT_IOC_BACKING_CLOSE, &number);
		atomic_store_explicit(&pt->state, PT_READY, memory_order_release);
	} else if (id == -EPERM) {
		refuse(pt, "registering backing files needs CAP_SYS_ADMIN");
	} else if (id == -ELOOP) {
		refuse(pt, "the pool is on a file system that is stacked on others (an overlay)");
	} else {
		refuse(pt, "the kernel refused a trial backing file");
	}
}

#ifdef CXLSHMFS_LIBFUSE_PASSTHROUGH

void passthrough_init(struct passthrough *pt, struct fuse_conn_info *conn)
{
	fuse_unset_feature_flag(conn, FUSE_CAP_HANDLE_KILLPRIV);
	if (!pt->privileged) {
		refuse(pt, "it needs root (CAP_SYS_ADMIN)");
		return;
	}
	if (!fuse_set_feature_flag(conn, FUSE_CAP_PASSTHROUGH)) {
		refuse(pt, "this kernel has no FUSE passthrough (6.9 or newer has, with "
			   "CONFIG_FUSE_PASSTHROUGH)");
		return;
	}
	conn->max_backing_stack_depth = 0;	/* libfuse adds our own layer */
#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2
	fuse_set_feature_flag(conn, FUSE_CAP_HANDLE_KILLPRIV_V2);
#endif
}

static int attach_session(struct passthrough *pt, struct fuse_session *session, int device)
{
	char path[32];

	(void)pt;
	snprintf(path, sizeof(path), "/dev/fd/%d", device);
	return fuse_session_mount(session, path) ? -EIO : 0;
}

int passthrough_reply_open(fuse_req_t req, struct fuse_file_info *fi, int backing_id)
{
	fi->backing_id = backing_id;
	return fuse_reply_open(req, fi);
}

int passthrough_reply_create(fuse_req_t req, const struct fuse_entry_param *entry,
			     struct fuse_file_info *fi, int backing_id)
{
	fi->backing_id = backing_id;
	return fuse_reply_create(req, entry, fi);
}

/* libfuse answers INIT itself, so the trial waits for the first use. */
static void settle(struct passthrough *pt, int device)
{
	try_backing(pt, device);
}

#else

/* The end of struct fuse_init_out as kernels from 6.9 on read it; 64 bytes in all. */
struct pt_init_out {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth;
	uint32_t unused[6];
};

/* struct fuse_open_out, whose last word was padding before 6.9. */
struct pt_open_out {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing_id;
};

struct pt_create_out {
	struct fuse_entry_out entry;
	struct pt_open_out open;
};

_Static_assert(sizeof(struct pt_init_out) == 64, "INIT reply");
_Static_assert(sizeof(struct pt_open_out) == 16, "OPEN reply");
_Static_assert(sizeof(struct pt_create_out) == 144, "CREATE reply");

void passthrough_init(struct passthrough *pt, struct fuse_conn_info *conn)
{
	conn->want &= ~(unsigned)FUSE_CAP_HANDLE_KILLPRIV;
	conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	if (!pt->privileged)
		refuse(pt, "it needs root (CAP_SYS_ADMIN)");
	else if (!(pt->kernel_flags & PT_PASSTHROUGH))
		refuse(pt, "this kernel has no FUSE passthrough (6.9 or newer has, with "
			   "CONFIG_FUSE_PASSTHROUGH)");
}

static struct passthrough *of_userdata(void *userdata)
{
	return *(struct passthrough **)userdata;
}

static ssize_t read_request(int fd, void *buffer, size_t size, void *userdata)
{
	ssize_t length = read(fd, buffer, size);
	struct passthrough *pt = of_userdata(userdata);
	struct {
		struct fuse_in_header header;
		struct fuse_init_in init;
	} request;

	if (length < (ssize_t)offsetof(struct fuse_in_header, nodeid) ||
	    atomic_load_explicit(&pt->state, memory_order_acquire) != PT_UNKNOWN)
		return length;
	memset(&request, 0, sizeof(request));
	memcpy(&request, buffer, (size_t)length < sizeof(request) ? (size_t)length : sizeof(request));
	if (request.header.opcode == FUSE_INIT) {
		pt->init_unique = request.header.unique;
		pt->kernel_flags = request.init.flags;
		if (request.init.flags & PT_INIT_EXT)
			pt->kernel_flags |= (uint64_t)request.init.flags2 << 32;
	}
	return length;
}

/* Send the INIT answer in iov with our additions, and see what the kernel makes of them. */
static ssize_t write_init_reply(struct passthrough *pt, int fd, struct iovec *iov)
{
	struct {
		struct fuse_out_header header;
		struct pt_init_out init;
	} reply;
	size_t body = iov[1].iov_len < sizeof(reply.init) ? iov[1].iov_len : sizeof(reply.init);
	ssize_t sent;

	memset(&reply, 0, sizeof(reply));
	memcpy(&reply.header, iov[0].iov_base, sizeof(reply.header));
	memcpy(&reply.init, iov[1].iov_base, body);
	reply.header.len = sizeof(reply);
	reply.init.flags |= (uint32_t)(PT_INIT_EXT | (pt->kernel_flags & PT_HANDLE_KILLPRIV_V2));
	reply.init.flags2 |= (uint32_t)(PT_PASSTHROUGH >> 32);
	reply.init.max_stack_depth = PT_STACK_DEPTH;
	pthread_mutex_lock(&pt->trying);
	sent = write(fd, &reply, sizeof(reply));
	if (sent >= 0)
		try_backing(pt, fd);
	pthread_mutex_unlock(&pt->trying);
	return sent < 0 ? sent : (ssize_t)(iov[0].iov_len + iov[1].iov_len);
}

static ssize_t write_reply(int fd, struct iovec *iov, int count, void *userdata)
{
	struct passthrough *pt = of_userdata(userdata);

	if (atomic_load_explicit(&pt->state, memory_order_acquire) == PT_UNKNOWN && count == 2 &&
	    iov[0].iov_len == sizeof(struct fuse_out_header)) {
		struct fuse_out_header header;

		memcpy(&header, iov[0].iov_base, sizeof(header));
		if (header.unique == pt->init_unique && !header.error)
			return write_init_reply(pt, fd, iov);
	}
	return writev(fd, iov, count);
}

static int attach_session(struct passthrough *pt, struct fuse_session *session, int device)
{
	static const struct fuse_custom_io io = {.writev = write_reply, .read = read_request};
	int rc = fuse_session_custom_io(session, &io, device);

	(void)pt;
	return rc < 0 ? -EIO : 0;
}

static void fill_open(struct pt_open_out *out, const struct fuse_file_info *fi, int backing_id)
{
	*out = (struct pt_open_out){
		.fh = fi->fh,
		.open_flags = PT_FOPEN_PASSTHROUGH,
		.backing_id = backing_id,
	};
}

int passthrough_reply_open(fuse_req_t req, struct fuse_file_info *fi, int backing_id)
{
	struct pt_open_out out;
	struct iovec iov = {.iov_base = &out, .iov_len = sizeof(out)};

	fill_open(&out, fi, backing_id);
	return fuse_reply_iov(req, &iov, 1);
}

static void fill_timeout(double seconds, uint64_t *whole_s, uint32_t *rest_ns)
{
	*whole_s = (uint64_t)seconds;
	*rest_ns = (uint32_t)((seconds - (double)*whole_s) * 1e9);
}

int passthrough_reply_create(fuse_req_t req, const struct fuse_entry_param *entry,
			     struct fuse_file_info *fi, int backing_id)
{
	struct pt_create_out out;
	struct iovec iov = {.iov_base = &out, .iov_len = sizeof(out)};
	const struct stat *attr = &entry->attr;

	memset(&out, 0, sizeof(out));
	out.entry.nodeid = entry->ino;
	out.entry.generation = entry->generation;
	fill_timeout(entry->entry_timeout, &out.entry.entry_valid, &out.entry.entry_valid_nsec);
	fill_timeout(entry->attr_timeout, &out.entry.attr_valid, &out.entry.attr_valid_nsec);
	out.entry.attr = (struct fuse_attr){
		.ino = attr->st_ino,
		.size = (uint64_t)attr->st_size,
		.blocks = (uint64_t)attr->st_blocks,
		.atime = (uint64_t)attr->st_atim.tv_sec,
		.mtime = (uint64_t)attr->st_mtim.tv_sec,
		.ctime = (uint64_t)attr->st_ctim.tv_sec,
		.atimensec = (uint32_t)attr->st_atim.tv_nsec,
		.mtimensec = (uint32_t)attr->st_mtim.tv_nsec,
		.ctimensec = (uint32_t)attr->st_ctim.tv_nsec,
		.mode = attr->st_mode,
		.nlink = (uint32_t)attr->st_nlink,
		.uid = attr->st_uid,
		.gid = attr->st_gid,
		.blksize = (uint32_t)attr->st_blksize,
	};
	fill_open(&out.open, fi, backing_id);
	return fuse_reply_iov(req, &iov, 1);
}

static void settle(struct passthrough *pt, int device)
{
	(void)device;
	refuse(pt, "the kernel's INIT request was not seen");
}

#endif

/* The mount failed with rc (-errno): what is wrong with /dev/fuse, and what to do about it; NULL: it is not that. */
static const char *device_fault(int rc)
{
	struct stat st;

	if (stat("/dev/fuse", &st))
		return errno == ENOENT ? "there is no /dev/fuse: modprobe fuse, or in a container let it have the device "
					 "(docker run --device /dev/fuse), or mknod /dev/fuse c 10 229" :
		       NULL;
	if (!S_ISCHR(st.st_mode) || st.st_rdev != DEVICE_NUMBER)
		return "/dev/fuse is not the FUSE device: put it back with rm /dev/fuse (umount it, if something is bound "
		       "over it), modprobe fuse, mknod /dev/fuse c 10 229";
	return rc == -ENXIO || rc == -ENODEV ? "the kernel has no FUSE: modprobe fuse" : NULL;
}

/* Mount with mount(2).  Returns the device's descriptor or -errno. */
static int mount_kernel(const struct options *options)
{
	char data[160];
	int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (device < 0)
		return -errno;
	snprintf(data, sizeof(data), "fd=%d,rootmode=40000,user_id=%u,group_id=%u,default_permissions%s",
		 device, (unsigned)geteuid(), (unsigned)getegid(),
		 options->allow_other ? ",allow_other" : "");
	if (mount(options->pool, options->mountpoint, "fuse.cxlshm", options->mount_flags, data)) {
		int rc = -errno;

		close(device);
		return rc;
	}
	return device;
}

/* The device number of what is mounted at path, without a request to who serves it; 0: not known. */
static dev_t device_at(const char *path)
{
	struct statx st;

	return statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0, &st) ? 0 :
	       makedev(st.stx_dev_major, st.stx_dev_minor);
}

int passthrough_mount(struct passthrough *pt, struct fuse_session *session, const struct options *options)
{
	int device = -EPERM, rc;
	const char *fault;

	pt->mountpoint = strdup(options->mountpoint);
	if (!pt->mountpoint || asprintf(&pt->trial, "%s/heap", options->pool) < 0) {
		pt->trial = NULL;
		return -ENOMEM;
	}
	if (geteuid() == 0) {
		device = mount_kernel(options);
		if (device < 0 && device != -EPERM && device != -EACCES) {
			fault = device_fault(device);
			fprintf(stderr, "cxlshmfs: %s: cannot mount: %s\n", options->mountpoint,
				fault ? fault : strerror(-device));
			return device;
		}
	}
	if (device < 0) {	/* fusermount3 says on stderr what is wrong */
		rc = fuse_session_mount(session, options->mountpoint) ? -EPERM : 0;
		fault = rc ? device_fault(rc) : NULL;
		if (rc)
			fprintf(stderr, "cxlshmfs: %s: fusermount3 could not mount%s%s\n", options->mountpoint,
				fault ? ": " : "", fault ? fault : "");
		else
			pt->mount_device = device_at(pt->mountpoint);
		return rc;
	}
	pt->mount_device = device_at(pt->mountpoint);
	pt->privileged = true;
	pt->mounted = true;
	rc = attach_session(pt, session, device);
	if (rc) {
		fprintf(stderr, "cxlshmfs: %s: libfuse did not take the mount\n", options->mountpoint);
		umount2(options->mountpoint, MNT_DETACH);
		pt->mounted = false;
		close(device);
	}
	return rc;
}

void passthrough_unmount(struct passthrough *pt, struct fuse_session *session)
{
	struct pollfd device = {.fd = fuse_session_fd(session)};

	/*
	 * The kernel says POLLERR once it is unmounted.  After a umount -l it does not while anybody uses the old mount; another
	 * one may be there by then.  Both have their own device number, for ours is not given back before.
	 */
	if (poll(&device, 1, 0) == 1 && (device.revents & POLLERR))
		return;
	if (pt->mount_device && device_at(pt->mountpoint) != pt->mount_device)
		return;
	if (!pt->mounted) {
		fuse_session_unmount(session);
		return;
	}
	umount2(pt->mountpoint, MNT_DETACH);
	pt->mounted = false;
}

bool passthrough_ready(struct passthrough *pt, struct fuse_session *session)
{
	if (atomic_load_explicit(&pt->state, memory_order_acquire) == PT_UNKNOWN) {
		pthread_mutex_lock(&pt->trying);
		if (atomic_load_explicit(&pt->state, memory_order_acquire) == PT_UNKNOWN)
			settle(pt, fuse_session_fd(session));
		pthread_mutex_unlock(&pt->trying);
	}
	return atomic_load_explicit(&pt->state, memory_order_acquire) == PT_READY;
}

const char *passthrough_why(struct passthrough *pt)
{
	return pt->why;
}

int passthrough_backing_open(struct passthrough *pt, struct fuse_session *session, int fd)
{
	if (!passthrough_ready(pt, session))
		return -EOPNOTSUPP;
	return backing_open(fuse_session_fd(session), fd);
}

void passthrough_backing_close(struct passthrough *pt, struct fuse_session *session, int backing_id)
{
	uint32_t number = (uint32_t)backing_id;

	(void)pt;
	ioctl(fuse_session_fd(session), PT_IOC_BACKING_CLOSE, &number);
}
