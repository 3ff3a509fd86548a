/* SPDX-License-Identifier: MIT */
/*
 * ops.c: the operation table: decode a request, call dir, file, inode or control, reply exactly once.
 *
 * Owns nothing.  Every handler ends in one reply, and touches no inode after it: the kernel may forget
 * the inode as soon as it has the answer.  If the kernel did not want an answer any more (its caller was
 * killed), what the answer gave out is taken back.
 *
 * Permissions are the kernel's to check: every mount has default_permissions.  What the kernel does not
 * know is checked here: the .cxlshm/ tree can not be changed, not even by root.
 * Threads: the session's workers, any number at once.
 */
#include "ops.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "control.h"
#include "dir.h"
#include "file.h"
#include "reply.h"

#define ANSWER_MAX (16u << 20)	/* bytes; a kernel asks for 1 MiB at most */

static struct fs *begin(fuse_req_t req)
{
	struct fs *fs = fs_of(req);

	atomic_fetch_add_explicit(&fs->requests, 1, memory_order_relaxed);
	return fs;
}

static struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

static struct dir_owner owner_of(fuse_req_t req)
{
	const struct fuse_ctx *context = fuse_req_ctx(req);

	return (struct dir_owner){.uid = context->uid, .gid = context->gid};
}

/* The library takes paths; a request names one entry.  0 or -errno. */
static int check_name(const char *name)
{
	return *name && !strchr(name, '/') ? 0 : -EINVAL;
}

/* Whether names in this directory may be made and removed: 0 or -errno. */
static int may_change(const struct fs *fs, const struct inode *parent, const char *name)
{
	if (parent->control)
		return -EPERM;
	if (check_name(name))
		return -EINVAL;
	return control_is_name(fs, parent, name) ? -EPERM : 0;
}

static void reply_entry(struct fs *fs, fuse_req_t req, int rc, const struct fuse_entry_param *entry)
{
	if (rc)
		reply_result(req, rc);
	else if (fuse_reply_entry(req, entry) == -ENOENT)
		dir_undo(fs, entry);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fs *fs = userdata;

	passthrough_init(fs->passthrough, conn);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent_id, const char *name)
{
	struct fs *fs = begin(req);
	struct inode *parent = inode_of(fs, parent_id);
	struct fuse_entry_param entry;
	int rc = check_name(name);

	if (!rc && (parent->control || control_is_name(fs, parent, name)))
		rc = control_lookup(fs, parent, name, &entry);
	else if (!rc)
		rc = dir_lookup(fs, parent, name, &entry);
	reply_entry(fs, req, rc, &entry);
}

static void op_forget(fuse_req_t req, fuse_ino_t id, uint64_t count)
{
	struct fs *fs = begin(req);

	inode_forget(fs, inode_of(fs, id), count);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fs *fs = begin(req);

	for (size_t i = 0; i < count; i++)
		inode_forget(fs, inode_of(fs, forgets[i].ino), forgets[i].nlookup);
	fuse_reply_none(req);
}

static int get_attr(struct fs *fs, struct inode *inode, struct stat *attr)
{
	if (!inode->control)
		return inode_getattr(fs, inode, attr);
	control_attr(fs, inode, attr);
	return 0;
}

static void op_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct fs *fs = begin(req);
	struct stat attr;
	int rc = get_attr(fs, inode_of(fs, id), &attr);

	(void)fi;
	if (rc)
		reply_result(req, rc);
	else
		fuse_reply_attr(req, &attr, fs->options->attr_timeout_s);
}

static void op_setattr(fuse_req_t req, fuse_ino_t id, struct stat *attr, int to_set,
		       struct fuse_file_info *fi)
{
	struct fs *fs = begin(req);
	struct inode *inode = inode_of(fs, id);
	struct stat now;
	int rc = inode->control ? -EPERM : 0;

	(void)fi;
	if (!rc && to_set & FUSE_SET_ATTR_SIZE)
		rc = attr->st_size < 0 ? -EINVAL : file_truncate(fs, inode, (uint64_t)attr->st_size);
	if (!rc)
		rc = inode_setattr(fs, inode, attr, to_set);
	if (!rc)
		rc = inode_getattr(fs, inode, &now);
	if (rc)
		reply_result(req, rc);
	else
		fuse_reply_attr(req, &now, fs->options->attr_timeout_s);
}

static void op_readlink(fuse_req_t req, fuse_ino_t id)
{
	struct fs *fs = begin(req);
	struct inode *inode = inode_of(fs, id);
	char target[4097];
	int64_t length = inode->control ? -EINVAL : inode_target(fs, inode, target, sizeof(target));

	if (length < 0)
		reply_result(req, (int)length);
	else
		fuse_reply_readlink(req, target);
}

static void make(fuse_req_t req, fuse_ino_t parent_id, const char *name, mode_t mode, const char *target)
{
	struct fs *fs = begin(req);
	struct inode *parent = inode_of(fs, parent_id);
	struct dir_owner owner = owner_of(req);
	struct fuse_entry_param entry;
	int rc = may_change(fs, parent, name);

	if (!rc)
		rc = dir_make(fs, parent, name, mode, target, &owner, &entry);
	reply_entry(fs, req, rc, &entry);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent_id, const char *name, mode_t mode, dev_t device)
{
	(void)device;
	make(req, parent_id, name, mode, NULL);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent_id, const char *name, mode_t mode)
{
	make(req, parent_id, name, S_IFDIR | (mode & 07777), NULL);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent_id, const char *name)
{
	make(req, parent_id, name, S_IFLNK | 0777, target);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent_id, const char *name)
{
	struct fs *fs = begin(req);
	struct inode *parent = inode_of(fs, parent_id);
	int rc = may_change(fs, parent, name);

	reply_result(req, rc ? rc : dir_unlink(fs, parent, name));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent_id, const char *name)
{
	struct fs *fs = begin(req);
	struct inode *parent = inode_of(fs, parent_id);
	int rc = may_change(fs, parent, name);

	reply_result(req, rc ? rc : dir_rmdir(fs, parent, name));
}

static void op_rename(fuse_req_t req, fuse_ino_t parent_id, const char *name, fuse_ino_t new_parent_id,
		      const char *new_name, unsigned flags)
{
	struct fs *fs = begin(req);
	struct inode *parent = inode_of(fs, parent_id), *new_parent = inode_of(fs, new_parent_id);
	int rc = may_change(fs, parent, name);

	if (!rc)
		rc = may_change(fs, new_parent, new_name);
	reply_result(req, rc ? rc : dir_rename(fs, parent, name, new_parent, new_name, flags));
}

static void op_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t parent_id, const char *name)
{
	struct fs *fs = begin(req);
	struct inode *inode = inode_of(fs, id), *parent = inode_of(fs, parent_id);
	struct fuse_entry_param entry;
	int rc = inode->control ? -EPERM : may_change(fs, parent, name);

	if (!rc)
		rc = dir_link(fs, inode, parent, name, &entry);
	reply_entry(fs, req, rc, &entry);
}

static void release(struct fs *fs, struct handle *handle)
{
	if (handle->inode->control)
		control_release(fs, handle);
	else if (handle->kind == HANDLE_FOLDER)
		dir_release(fs, handle);
	else
		file_release(fs, handle);
}

/*
 * Whether the caller keeps setuid bits when it writes (CAP_FSETID), and is told of trusted.* (CAP_SYS_ADMIN): root has
 * both.
 */
static bool is_privileged(fuse_req_t req)
{
	return fuse_req_ctx(req)->uid == 0;
}

/* A handle without passthrough: every read and write comes to us, and shared mappings are refused. */
static void fill_direct(struct fuse_file_info *fi, struct handle *handle)
{
	fi->fh = (uintptr_t)handle;
	fi->direct_io = 1;
}

static void op_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct fs *fs = begin(req);
	struct inode *inode = inode_of(fs, id);
	struct handle *handle;
	int rc;

	if (!inode->control)
		rc = file_open(fs, inode, fi->flags, is_privileged(req), fuse_req_ctx(req)->pid, &handle);
	else if ((fi->flags & O_ACCMODE) != O_RDONLY)
		rc = -EPERM;
	else
		rc = control_open(fs, inode, &handle);
	if (rc) {
		reply_result(req, rc);
		return;
	}
	fill_direct(fi, handle);
	if (handle->kind == HANDLE_PASSTHROUGH) {
		fi->direct_io = 0;
		rc = passthrough_reply_open(req, fi, inode->backing_id);
	} else {
		rc = fuse_reply_open(req, fi);
	}
	if (rc == -ENOENT)
		release(fs, handle);
}

static void op_create(fuse_req_t req, fuse_ino_t parent_id, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct fs *fs = begin(req);
	struct inode *parent = inode_of(fs, parent_id), *inode;
	struct dir_owner owner = owner_of(req);
	struct fuse_entry_param entry;
	struct handle *handle;
	int rc = may_change(fs, parent, name);

	if (!rc)
		rc = dir_make(fs, parent, name, S_IFREG | (mode & 07777), NULL, &owner, &entry);
	/* Somebody else made it since the kernel looked: -ESTALE lets it look again, and check. */
	if (rc == -EEXIST && !(fi->flags & O_EXCL))
		rc = -ESTALE;
	if (rc) {
		reply_result(req, rc);
		return;
	}
	inode = inode_of(fs, entry.ino);
	rc = file_open(fs, inode, fi->flags & ~O_TRUNC, true, fuse_req_ctx(req)->pid, &handle);
	if (rc) {
		dir_undo(fs, &entry);
		reply_result(req, rc);
		return;
	}
	fill_direct(fi, handle);
	if (handle->kind == HANDLE_PASSTHROUGH) {
		fi->direct_io = 0;
		rc = passthrough_reply_create(req, &entry, fi, inode->backing_id);
	} else {
		rc = fuse_reply_create(req, &entry, fi);
	}
	if (rc == -ENOENT) {
		release(fs, handle);
		dir_undo(fs, &entry);
	}
}

static void op_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	(void)id;
	release(begin(req), handle_of(fi));
	reply_result(req, 0);
}

/* A buffer for an answer of up to *size bytes, which is cut to what any kernel can mean. */
static char *answer_buffer(size_t *size)
{
	*size = *size < ANSWER_MAX ? *size : ANSWER_MAX;
	return malloc(*size ? *size : 1);
}

static void op_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi)
{
	char *buffer = answer_buffer(&size);
	ssize_t length = -ENOMEM;

	(void)id;
	begin(req);
	if (buffer)
		length = file_read(handle_of(fi), buffer, size, offset);
	if (length < 0)
		reply_result(req, (int)length);
	else
		fuse_reply_buf(req, buffer, (size_t)length);
	free(buffer);
}

static void op_write(fuse_req_t req, fuse_ino_t id, const char *bytes, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	struct fs *fs = begin(req);
	ssize_t length = file_write(fs, handle_of(fi), bytes, size, offset, fi->flags & O_APPEND);

	(void)id;
	if (length < 0)
		reply_result(req, (int)length);
	else
		fuse_reply_write(req, (size_t)length);
}

static void op_fsync(fuse_req_t req, fuse_ino_t id, int data_only, struct fuse_file_info *fi)
{
	(void)id;
	(void)data_only;
	reply_result(req, file_sync(begin(req), handle_of(fi)));
}

static void op_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct fs *fs = begin(req);
	struct inode *inode = inode_of(fs, id);
	struct handle *handle;
	int rc = inode->control ? control_open(fs, inode, &handle) : dir_open(fs, inode, &handle);

	if (rc) {
		reply_result(req, rc);
		return;
	}
	fi->fh = (uintptr_t)handle;
	if (fuse_reply_open(req, fi) == -ENOENT)
		release(fs, handle);
}

static void read_folder(fuse_req_t req, size_t size, off_t offset, struct handle *handle, bool plus)
{
	struct fs *fs = begin(req);
	char *buffer = answer_buffer(&size);
	ssize_t used = -ENOMEM;

	if (buffer && offset < 0)
		used = -EINVAL;
	else if (buffer && handle->inode->control)
		used = control_read_folder(fs, req, handle, buffer, size, (uint64_t)offset, plus);
	else if (buffer)
		used = dir_read(fs, req, handle, buffer, size, (uint64_t)offset, plus);
	if (used < 0)
		reply_result(req, (int)used);
	else if (fuse_reply_buf(req, buffer, (size_t)used) == -ENOENT && plus)
		dir_undo_plus(fs, buffer, (size_t)used);
	free(buffer);
}

static void op_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)id;
	read_folder(req, size, offset, handle_of(fi), false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset,
			   struct fuse_file_info *fi)
{
	(void)id;
	read_folder(req, size, offset, handle_of(fi), true);
}

static void op_statfs(fuse_req_t req, fuse_ino_t id)
{
	struct fs *fs = begin(req);
	struct cxlshm_pool_space space;
	struct statvfs out = {0};
	int rc = cxlshm_pool_space(fs->pool, &space);

	(void)id;
	if (rc) {
		reply_result(req, rc);
		return;
	}
	out.f_bsize = out.f_frsize = space.block_bytes ? space.block_bytes : 4096;
	out.f_blocks = space.size_bytes / out.f_frsize;
	out.f_bfree = out.f_bavail = space.free_bytes / out.f_frsize;
	/* An object needs a header at least: so many could still be made. */
	out.f_ffree = out.f_favail = space.free_bytes / out.f_frsize;
	out.f_files = space.files + out.f_ffree;
	out.f_namemax = CXLSHM_NAME_MAX;
	fuse_reply_statfs(req, &out);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t id, const char *name, const char *value, size_t size,
			int flags)
{
	struct fs *fs = begin(req);
	struct inode *inode = inode_of(fs, id);

	reply_result(req, inode->control ? -EPERM : control_setxattr(fs, inode, name, value, size, flags));
}

/* Reply to a question for size bytes with what length says: an error, the size, or the bytes. */
static void reply_xattr(fuse_req_t req, int64_t length, const char *buffer, size_t size)
{
	if (length < 0)
		reply_result(req, (int)length);
	else if (size)
		fuse_reply_buf(req, buffer, (size_t)length);
	else
		fuse_reply_xattr(req, (size_t)length);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size)
{
	struct fs *fs = begin(req);
	struct inode *inode = inode_of(fs, id);
	char *buffer = answer_buffer(&size);
	int64_t length = -ENOMEM;

	if (buffer)
		length = inode->control ? -ENODATA : control_getxattr(fs, inode, name, buffer, size);
	reply_xattr(req, length, buffer, size);
	free(buffer);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t id, size_t size)
{
	struct fs *fs = begin(req);
	struct inode *inode = inode_of(fs, id);
	char *buffer = answer_buffer(&size);
	int64_t length = -ENOMEM;

	if (buffer)
		length = inode->control ? 0 : control_listxattr(fs, inode, is_privileged(req), buffer, size);
	reply_xattr(req, length, buffer, size);
	free(buffer);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t id, const char *name)
{
	struct fs *fs = begin(req);
	struct inode *inode = inode_of(fs, id);

	reply_result(req, inode->control ? -EPERM : control_removexattr(fs, inode, name));
}

static void op_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t offset, off_t length,
			 struct fuse_file_info *fi)
{
	struct fs *fs = begin(req);
	struct inode *inode = inode_of(fs, id);
	int rc;

	(void)fi;
	if (inode->control)
		rc = -EPERM;
	else if (offset < 0 || length <= 0)
		rc = -EINVAL;
	else
		rc = file_reserve(fs, inode, mode, (uint64_t)offset, (uint64_t)length);
	reply_result(req, rc);
}

static void op_lseek(fuse_req_t req, fuse_ino_t id, off_t offset, int whence, struct fuse_file_info *fi)
{
	off_t found = file_seek(begin(req), handle_of(fi), offset, whence);

	(void)id;
	if (found < 0)
		reply_result(req, (int)found);
	else
		fuse_reply_lseek(req, found);
}

static void op_copy_file_range(fuse_req_t req, fuse_ino_t from_id, off_t from_offset,
			       struct fuse_file_info *from, fuse_ino_t to_id, off_t to_offset,
			       struct fuse_file_info *to, size_t length, int flags)
{
	ssize_t copied = file_copy(begin(req), handle_of(from), from_offset, handle_of(to), to_offset,
				   length);

	(void)from_id;
	(void)to_id;
	(void)flags;
	if (copied < 0)
		reply_result(req, (int)copied);
	else
		fuse_reply_write(req, (size_t)copied);
}

void ops_fill(struct fuse_lowlevel_ops *ops, const struct fs *fs)
{
	*ops = (struct fuse_lowlevel_ops){
		.init = op_init,
		.lookup = op_lookup,
		.forget = op_forget,
		.forget_multi = op_forget_multi,
		.getattr = op_getattr,
		.setattr = op_setattr,
		.readlink = op_readlink,
		.mknod = op_mknod,
		.mkdir = op_mkdir,
		.symlink = op_symlink,
		.unlink = op_unlink,
		.rmdir = op_rmdir,
		.rename = op_rename,
		.link = op_link,
		.open = op_open,
		.create = op_create,
		.release = op_release,
		.read = op_read,
		.write = op_write,
		.opendir = op_opendir,
		.readdir = op_readdir,
		.readdirplus = op_readdirplus,
		.releasedir = op_release,
		.statfs = op_statfs,
		.setxattr = op_setxattr,
		.getxattr = op_getxattr,
		.listxattr = op_listxattr,
		.removexattr = op_removexattr,
		.fallocate = op_fallocate,
		.lseek = op_lseek,
		.copy_file_range = op_copy_file_range,
	};
	/* Without a handler the kernel takes fsync for done and does not ask again: in memory it is. */
	if (fs->info.failure_domain == CXLSHM_FAILURE_HOST)
		ops->fsync = op_fsync;
}
