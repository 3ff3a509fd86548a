/* SPDX-License-Identifier: MIT */
/*
 * control.h: the .cxlshm/ tree at the root, and extended attributes.
 *
 * All calls: without the names lane locked; results 0, a length, or -errno.
 */
#ifndef CXLSHMFS_CONTROL_H
#define CXLSHMFS_CONTROL_H

#include "inode.h"

/* Is this the name that the tree takes at the root? */
bool control_is_name(const struct fs *fs, const struct inode *parent, const char *name);

/* Look up .cxlshm in the root, or a name inside the tree. */
int control_lookup(struct fs *fs, struct inode *parent, const char *name, struct fuse_entry_param *entry);

void control_attr(const struct fs *fs, const struct inode *inode, struct stat *out);

/* Open a file or folder of the tree.  Owns: the handle is the caller's, until control_release(). */
int control_open(struct fs *fs, struct inode *inode, struct handle **handle);
void control_release(struct fs *fs, struct handle *handle);

/* As dir_read(). */
ssize_t control_read_folder(struct fs *fs, fuse_req_t req, struct handle *handle, char *buffer, size_t size,
			    uint64_t offset, bool plus);

/* Extended attributes of what is in the pool: user.cxlshm.* of files and directories are made up here, and a change of one
 * is taken and changes nothing; the others are the object's.  Sizes as for the system calls: size 0 asks for the size. */
int64_t control_getxattr(struct fs *fs, struct inode *inode, const char *name, char *value, size_t size);
int64_t control_listxattr(struct fs *fs, struct inode *inode, bool privileged, char *list, size_t size);
int control_setxattr(struct fs *fs, struct inode *inode, const char *name, const char *value, size_t size,
		     int flags);
int control_removexattr(struct fs *fs, struct inode *inode, const char *name);

#endif
