/* SPDX-License-Identifier: MIT */
/*
 * file.h: open files, and their bytes.
 *
 * All calls: without the names lane locked unless it says "Locked"; results 0 or -errno.
 */
#ifndef CXLSHMFS_FILE_H
#define CXLSHMFS_FILE_H

#include "inode.h"

/*
 * Open a regular file; flags as for open(2), of which O_TRUNC and the access mode matter.  privileged:
 * the caller may keep setuid bits when writing.  thread: who asks, 0 if not known.
 * Owns: the handle is the caller's, until file_release().
 */
int file_open(struct fs *fs, struct inode *inode, int flags, bool privileged, pid_t thread,
	      struct handle **handle);
void file_release(struct fs *fs, struct handle *handle);

/* Up to size bytes from offset into buffer; returns how many, or -errno. */
ssize_t file_read(struct handle *handle, char *buffer, size_t size, off_t offset);
ssize_t file_write(struct fs *fs, struct handle *handle, const char *bytes, size_t size, off_t offset,
		   bool append);

int file_truncate(struct fs *fs, struct inode *inode, uint64_t size_bytes);
int file_reserve(struct fs *fs, struct inode *inode, int mode, uint64_t offset, uint64_t length);
int file_sync(struct fs *fs, struct handle *handle);

/* Where the next data or hole is: lseek(2) with SEEK_DATA, SEEK_HOLE.  Returns the offset or -errno. */
off_t file_seek(struct fs *fs, struct handle *handle, off_t offset, int whence);

/* Copy inside the kernel.  Returns how much was copied, or -errno (-EOPNOTSUPP: read and write it). */
ssize_t file_copy(struct fs *fs, struct handle *from, off_t from_offset, struct handle *to,
		  off_t to_offset, size_t length);

/* 1 if a mapping or an open file holds the extent in place, 0 if not; or -errno.  Locked. */
int file_mapped(struct fs *fs, struct inode *inode);

#endif
