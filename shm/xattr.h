/* SPDX-License-Identifier: MIT */
/*
 * xattr: extended attributes of inodes, which the caller holds.
 *
 *   call               commits by         excludes    progress
 *   xattr_get, _list   -                  nothing     lock-free
 *   xattr_set, _remove CAS on the cell    nothing     lock-free
 *
 * Names are any 1 to 255 bytes without NUL; all of one inode's take at most 64 KiB.
 */
#ifndef CXLSHM_XATTR_H
#define CXLSHM_XATTR_H

#include "inode.h"

#define XATTR_BYTES_MAX 65536u	/* of one inode's, names and headers included */
#define XATTR_NAME_BYTES_MAX 255u

/* As the system calls; -EINVAL: no inode, -ERANGE: size is too small or the name too long or empty. */
int64_t xattr_get(struct client *c, uint64_t inode, const char *name, void *value, size_t size);
int64_t xattr_list(struct client *c, uint64_t inode, char *list, size_t size);

/* flags: XATTR_CREATE, XATTR_REPLACE; -EEXIST, -ENODATA, -E2BIG (the value alone), -ENOSPC. */
int xattr_set(struct client *c, uint64_t inode, const char *name, const void *value, size_t size, int flags);
int xattr_remove(struct client *c, uint64_t inode, const char *name);

#endif
