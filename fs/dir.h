/* SPDX-License-Identifier: MIT */
/*
 * dir.h: entries: looking them up, making, removing, renaming and listing them.
 *
 * All calls: without the names lane locked; results 0 or -errno; a fuse_entry_param filled in counts one
 * lookup, which dir_undo() takes back if the kernel did not get the reply.
 */
#ifndef CXLSHMFS_DIR_H
#define CXLSHMFS_DIR_H

#include "inode.h"

int dir_lookup(struct fs *fs, struct inode *parent, const char *name, struct fuse_entry_param *entry);
void dir_undo(struct fs *fs, const struct fuse_entry_param *entry);

/* Who asks, and whose the new object is to be. */
struct dir_owner {
	uid_t uid;
	gid_t gid;
};

/*
 * A new object under a name: a file, directory, fifo or socket by mode, or with target a symbolic link.
 * A directory with the setgid bit hands its group down.
 */
int dir_make(struct fs *fs, struct inode *parent, const char *name, mode_t mode, const char *target,
	     const struct dir_owner *owner, struct fuse_entry_param *entry);

int dir_link(struct fs *fs, struct inode *inode, struct inode *parent, const char *name,
	     struct fuse_entry_param *entry);
int dir_unlink(struct fs *fs, struct inode *parent, const char *name);
int dir_rmdir(struct fs *fs, struct inode *parent, const char *name);

/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE. */
int dir_rename(struct fs *fs, struct inode *old_parent, const char *old_name, struct inode *new_parent,
	       const char *new_name, unsigned flags);

int dir_open(struct fs *fs, struct inode *inode, struct handle **handle);
void dir_release(struct fs *fs, struct handle *handle);

/*
 * Fill buffer with entries behind offset, each with its attributes if plus is set.  Offsets 1, 2 and 3
 * are behind ".", ".." and the root's ".cxlshm"; the library's positions follow.
 * Returns bytes used (0: the end) or -errno.
 */
ssize_t dir_read(struct fs *fs, fuse_req_t req, struct handle *handle, char *buffer, size_t size,
		 uint64_t offset, bool plus);

/* dir_undo() for each entry that dir_read() put into the buffer with attributes. */
void dir_undo_plus(struct fs *fs, const char *buffer, size_t used);

#endif
