/* SPDX-License-Identifier: MIT */
/*
 * fuse_min: the least a FUSE file system over a directory of a tmpfs can be whose files are passed through
 * (FOPEN_PASSTHROUGH): the peer of our daemon, which does the same work and counts nothing.
 *
 * One thread, one table of nodes (an O_PATH descriptor each), one backing id an inode shared by its opens;
 * time-outs 0 like ours, or SECONDS, for which the kernel then neither asks for names nor for attributes again.  libfuse 3.14 knows nothing of passthrough: so we mount /dev/fuse ourselves, patch the
 * INIT reply on its way out (FUSE_PASSTHROUGH is bit 5 of flags2, and max_stack_depth follows), and write OPEN
 * and CREATE replies by hand, with the backing id where newer headers have it.
 *
 * usage: fuse_min DIRECTORY MOUNTPOINT [SECONDS] [-d]	(root; in the foreground; ends when unmounted)
 * -d: libfuse prints each request.
 */
#define FUSE_USE_VERSION 314
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

/* ---- the kernel's side, as of 6.9 (linux/fuse.h, protocol 7.40) ---- */
struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)
#define OPEN_PASSTHROUGH (1u << 7)
#define INIT_EXT (1u << 30)
#define INIT_PASSTHROUGH_2 (1u << 5)
#define OPCODE_INIT 26u

struct out_header {
	uint32_t len;
	int32_t error;
	uint64_t unique;
};

struct init_out {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth;
	uint32_t unused[6];
};
_Static_assert(sizeof(struct init_out) == 64, "INIT reply");

struct open_out {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing_id;
};

struct entry_out {
	uint64_t nodeid, generation, entry_valid, attr_valid;
	uint32_t entry_valid_nsec, attr_valid_nsec;
	uint64_t ino, size, blocks, atime, mtime, ctime;
	uint32_t atimensec, mtimensec, ctimensec, mode, nlink, uid, gid, rdev, blksize, flags;
};
_Static_assert(sizeof(struct entry_out) == 128, "entry");

/* ---- nodes ---- */
struct node {
	struct node *next;	/* in its bucket */
	ino_t ino;
	int fd;	/* O_PATH */
	uint64_t lookups;
	int32_t backing;	/* id, 0: none */
	uint32_t opens;
};

#define BUCKETS 65536u
static struct node *buckets[BUCKETS];
static struct node root;
static int device = -1;
static uint64_t init_unique;
static double seconds;	/* names and attributes are good for */

static struct node *node_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? &root : (struct node *)(uintptr_t)ino;
}

static fuse_ino_t ino_of(struct node *n)
{
	return n == &root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)n;
}

static void proc_path(char path[64], int fd)
{
	snprintf(path, 64, "/proc/self/fd/%d", fd);
}

static int find(fuse_ino_t parent, const char *name, struct fuse_entry_param *e)
{
	struct node *n;
	int fd;

	memset(e, 0, sizeof *e);
	e->entry_timeout = e->attr_timeout = seconds;
	fd = openat(node_of(parent)->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstatat(fd, "", &e->attr, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)) {
		int error = errno;

		if (fd >= 0)
			close(fd);
		return error;
	}
	for (n = buckets[e->attr.st_ino % BUCKETS]; n; n = n->next)
		if (n->ino == e->attr.st_ino)
			break;
	if (n) {
		close(fd);
	} else {
		n = calloc(1, sizeof *n);
		if (!n) {
			close(fd);
			return ENOMEM;
		}
		n->fd = fd;
		n->ino = e->attr.st_ino;
		n->next = buckets[n->ino % BUCKETS];
		buckets[n->ino % BUCKETS] = n;
	}
	n->lookups++;
	e->ino = ino_of(n);
	return 0;
}

static void forget_node(fuse_ino_t ino, uint64_t count)
{
	struct node *n = node_of(ino), **at;

	if (n == &root || (n->lookups -= count))
		return;
	for (at = &buckets[n->ino % BUCKETS]; *at != n; at = &(*at)->next)
		;
	*at = n->next;
	close(n->fd);
	free(n);
}

static void op_init(void *data, struct fuse_conn_info *conn)
{
	(void)data;
	conn->want &= ~(unsigned)(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
				  FUSE_CAP_SPLICE_MOVE);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e;
	int error = find(parent, name, &e);

	if (error)
		fuse_reply_err(req, error);
	else
		fuse_reply_entry(req, &e);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	forget_node(ino, count);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		forget_node(forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	(void)fi;
	if (fstatat(node_of(ino)->fd, "", &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))
		fuse_reply_err(req, errno);
	else
		fuse_reply_attr(req, &st, seconds);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int set, struct fuse_file_info *fi)
{
	struct timespec times[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
	int fd = node_of(ino)->fd, rc = 0;
	char path[64];

	proc_path(path, fd);
	if (set & FUSE_SET_ATTR_MODE)
		rc = chmod(path, attr->st_mode);
	if (!rc && set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		rc = fchownat(fd, "", set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1,
			      set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1,
			      AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
	if (!rc && set & FUSE_SET_ATTR_SIZE)
		rc = truncate(path, attr->st_size);
	if (!rc && set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)) {
		if (set & FUSE_SET_ATTR_ATIME_NOW)
			times[0].tv_nsec = UTIME_NOW;
		else if (set & FUSE_SET_ATTR_ATIME)
			times[0] = attr->st_atim;
		if (set & FUSE_SET_ATTR_MTIME_NOW)
			times[1].tv_nsec = UTIME_NOW;
		else if (set & FUSE_SET_ATTR_MTIME)
			times[1] = attr->st_mtim;
		rc = utimensat(AT_FDCWD, path, times, 0);
	}
	if (rc)
		fuse_reply_err(req, errno);
	else
		op_getattr(req, ino, fi);
}

/* ---- files: one backing id an inode, while it is open ---- */

static int open_backing(struct node *n)
{
	struct backing_map map = {0};
	char path[64];
	int id, error;

	if (n->opens++)
		return 0;
	proc_path(path, n->fd);
	map.fd = open(path, O_RDWR | O_CLOEXEC);
	if (map.fd < 0) {
		error = errno;
		n->opens--;
		return error;
	}
	id = ioctl(device, BACKING_OPEN, &map);
	error = errno;
	close(map.fd);	/* the kernel keeps the file */
	if (id < 0) {
		n->opens--;
		return error;
	}
	n->backing = id;
	return 0;
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct node *n = node_of(ino);
	struct open_out out = {0, OPEN_PASSTHROUGH, 0};
	struct iovec iov = {&out, sizeof out};
	char path[64];
	int error = open_backing(n);

	if (!error && fi->flags & O_TRUNC) {
		proc_path(path, n->fd);
		if (truncate(path, 0))
			error = errno;
	}
	if (error) {
		fuse_reply_err(req, error);
		return;
	}
	out.backing_id = n->backing;
	fuse_reply_iov(req, &iov, 1);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct node *n = node_of(ino);

	(void)fi;
	if (!--n->opens) {
		ioctl(device, BACKING_CLOSE, &n->backing);
		n->backing = 0;
	}
	fuse_reply_err(req, 0);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct {
		struct entry_out entry;
		struct open_out open;
	} out;
	struct iovec iov = {&out, sizeof out};
	struct fuse_entry_param e;
	struct stat *st = &e.attr;
	int fd, error;

	fd = openat(node_of(parent)->fd, name, (fi->flags | O_CREAT | O_CLOEXEC) & ~O_NOFOLLOW, mode);
	if (fd < 0) {
		fuse_reply_err(req, errno);
		return;
	}
	close(fd);
	error = find(parent, name, &e);
	if (!error) {
		error = open_backing(node_of(e.ino));
		if (error)
			forget_node(e.ino, 1);
	}
	if (error) {
		fuse_reply_err(req, error);
		return;
	}
	memset(&out, 0, sizeof out);
	out.entry = (struct entry_out){.nodeid = e.ino,
				       .entry_valid = (uint64_t)seconds,
				       .attr_valid = (uint64_t)seconds,
				       .ino = st->st_ino,
				       .size = (uint64_t)st->st_size,
				       .blocks = (uint64_t)st->st_blocks,
				       .atime = (uint64_t)st->st_atim.tv_sec,
				       .mtime = (uint64_t)st->st_mtim.tv_sec,
				       .ctime = (uint64_t)st->st_ctim.tv_sec,
				       .atimensec = (uint32_t)st->st_atim.tv_nsec,
				       .mtimensec = (uint32_t)st->st_mtim.tv_nsec,
				       .ctimensec = (uint32_t)st->st_ctim.tv_nsec,
				       .mode = st->st_mode,
				       .nlink = (uint32_t)st->st_nlink,
				       .uid = st->st_uid,
				       .gid = st->st_gid,
				       .blksize = (uint32_t)st->st_blksize};
	out.open = (struct open_out){0, OPEN_PASSTHROUGH, node_of(e.ino)->backing};
	fuse_reply_iov(req, &iov, 1);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
			 struct fuse_file_info *fi)
{
	char path[64];
	int fd;

	(void)fi;
	proc_path(path, node_of(ino)->fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fallocate(fd, mode, offset, length))
		fuse_reply_err(req, errno);
	else
		fuse_reply_err(req, 0);
	if (fd >= 0)
		close(fd);
}

/* ---- names ---- */

static void reply(fuse_req_t req, int rc)
{
	fuse_reply_err(req, rc ? errno : 0);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	if (mkdirat(node_of(parent)->fd, name, mode))
		reply(req, -1);
	else
		op_lookup(req, parent, name);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	if (symlinkat(target, node_of(parent)->fd, name))
		reply(req, -1);
	else
		op_lookup(req, parent, name);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	char path[64];

	proc_path(path, node_of(ino)->fd);
	if (linkat(AT_FDCWD, path, node_of(parent)->fd, name, AT_SYMLINK_FOLLOW))
		reply(req, -1);
	else
		op_lookup(req, parent, name);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	char target[4097];
	ssize_t got = readlinkat(node_of(ino)->fd, "", target, sizeof target - 1);

	if (got < 0) {
		reply(req, -1);
		return;
	}
	target[got] = 0;
	fuse_reply_readlink(req, target);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	reply(req, unlinkat(node_of(parent)->fd, name, 0));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	reply(req, unlinkat(node_of(parent)->fd, name, AT_REMOVEDIR));
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to, const char *to_name,
		      unsigned flags)
{
	reply(req, renameat2(node_of(parent)->fd, name, node_of(to)->fd, to_name, flags));
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	int fd = openat(node_of(ino)->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		reply(req, -1);
		return;
	}
	fi->fh = (uint64_t)(uintptr_t)d;
	fuse_reply_open(req, fi);
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi, int plus)
{
	DIR *d = (DIR *)(uintptr_t)fi->fh;
	char *buffer = malloc(size);
	struct dirent *entry;
	size_t used = 0;

	if (!buffer) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	if (offset != telldir(d))
		seekdir(d, offset);
	while ((entry = readdir(d))) {
		struct fuse_entry_param e = {0};
		int dots = entry->d_name[0] == '.' &&
			   (!entry->d_name[1] || (entry->d_name[1] == '.' && !entry->d_name[2]));
		size_t need;

		e.attr.st_ino = entry->d_ino;
		e.attr.st_mode = (mode_t)entry->d_type << 12;
		if (plus && !dots && find(ino, entry->d_name, &e))
			continue;
		need = plus ? fuse_add_direntry_plus(req, buffer + used, size - used, entry->d_name, &e, entry->d_off)
			    : fuse_add_direntry(req, buffer + used, size - used, entry->d_name, &e.attr,
						entry->d_off);
		if (need > size - used) {
			if (plus && !dots)
				forget_node(e.ino, 1);
			break;
		}
		used += need;
	}
	fuse_reply_buf(req, buffer, used);
	free(buffer);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	list(req, ino, size, offset, fi, 0);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	list(req, ino, size, offset, fi, 1);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	closedir((DIR *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;

	if (fstatvfs(node_of(ino)->fd, &st))
		reply(req, -1);
	else
		fuse_reply_statfs(req, &st);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino, (void)fi;
	fuse_reply_err(req, ENOSYS);	/* once; the kernel does not ask again */
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.open = op_open,
	.create = op_create,
	.release = op_release,
	.flush = op_flush,
	.fallocate = op_fallocate,
	.mkdir = op_mkdir,
	.symlink = op_symlink,
	.link = op_link,
	.readlink = op_readlink,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.rename = op_rename,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.statfs = op_statfs,
};

/* ---- the device ---- */

static ssize_t device_read(int fd, void *buffer, size_t bytes, void *data)
{
	ssize_t got = read(fd, buffer, bytes);

	(void)data;
	if (got >= 16 && ((uint32_t *)buffer)[1] == OPCODE_INIT)
		memcpy(&init_unique, (char *)buffer + 8, sizeof init_unique);
	return got;
}

static ssize_t device_writev(int fd, struct iovec *iov, int count, void *data)
{
	struct out_header *head = iov[0].iov_base;

	(void)data;
	if (init_unique && head->unique == init_unique && !head->error && count == 2) {
		struct init_out full = {0};
		struct iovec patched[2] = {iov[0], {&full, sizeof full}};

		memcpy(&full, iov[1].iov_base, iov[1].iov_len < sizeof full ? iov[1].iov_len : sizeof full);
		full.flags |= INIT_EXT;
		full.flags2 |= INIT_PASSTHROUGH_2;
		full.max_stack_depth = 1;
		head->len = (uint32_t)(sizeof *head + sizeof full);
		init_unique = 0;
		return writev(fd, patched, 2);
	}
	return writev(fd, iov, count);
}

int main(int argc, char **argv)
{
	static const struct fuse_custom_io io = {.writev = device_writev, .read = device_read};
	int debug = argc > 3 && !strcmp(argv[argc - 1], "-d");
	char *names[] = {argv[0], debug ? argv[argc - 1] : NULL, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1 + debug, names);
	struct fuse_session *session;
	char options[128];
	int rc;

	argc -= debug;
	if (argc != 3 && argc != 4) {
		fprintf(stderr, "usage: %s DIRECTORY MOUNTPOINT [SECONDS] [-d]\n", argv[0]);
		return 2;
	}
	seconds = argc == 4 ? atoi(argv[3]) : 0;
	umask(0);
	root.fd = open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
	device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	session = fuse_session_new(&args, &ops, sizeof ops, NULL);
	if (root.fd < 0 || device < 0 || !session) {
		fprintf(stderr, "fuse_min: %s, /dev/fuse: %s\n", argv[1], strerror(errno));
		return 1;
	}
	snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
		 device);
	if (mount("fuse_min", argv[2], "fuse.fuse_min", MS_NOSUID | MS_NODEV, options)) {
		fprintf(stderr, "fuse_min: %s: %s\n", argv[2], strerror(errno));
		return 1;
	}
	rc = fuse_session_custom_io(session, &io, device);
	if (!rc)
		rc = fuse_session_loop(session);
	umount2(argv[2], MNT_DETACH);
	return rc < 0;
}
