/* SPDX-License-Identifier: MIT */
/*
 * room.h: keeping a plain pool to its size.
 *
 * A pool on a tmpfs of its own is kept to its size by the kernel, and nothing here does anything.  A plain
 * pool shares its file system, so the daemon counts what files grow by through its hands: truncate,
 * fallocate, and writes that it serves.  Writes with passthrough it does not see.
 */
#ifndef CXLSHMFS_ROOM_H
#define CXLSHMFS_ROOM_H

#include "inode.h"

/* Find out what sort of pool it is.  fs->options and fs->pool are set. */
void room_start(struct fs *fs);

/*
 * May files grow by so many bytes?  0 or -ENOSPC.  Not locked.  What was granted and not used comes back
 * with the next look at the pool.
 */
int room_take(struct fs *fs, uint64_t bytes);

#endif
