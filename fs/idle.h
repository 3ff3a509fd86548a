/* SPDX-License-Identifier: MIT */
/*
 * idle.h: inodes of file objects after their last close, and mappings that hold them on.
 *
 * All calls: locked, but for idle_work().
 */
#ifndef CXLSHMFS_IDLE_H
#define CXLSHMFS_IDLE_H

#include "holders.h"
#include "inode.h"

/* This thread opens the inode's file: it may map it. */
void idle_opened(struct inode *inode, pid_t thread);

/* The last handle was closed; ref is what it held, and is ours now.  Returns a token as inode_unref(). */
uint64_t idle_begin(struct fs *fs, struct inode *inode, cxlshm_ref ref);

/* It is open again, if it was idle. */
void idle_cancel(struct fs *fs, struct inode *inode);

/* A name of this object was removed: if it is idle, do not wait any longer.  Returns a token as inode_unref(). */
uint64_t idle_settle(struct fs *fs, struct inode *inode);

/* Take the inode's backing file from the kernel, if it has one. */
void idle_backing_drop(struct fs *fs, struct inode *inode);

/*
 * Work on inodes that were closed: drop their references, or see whether a mapping still holds them; those first that one of
 * the dead threads' processes (holders_wait()) may have held.  Returns when to call again (CLOCK_MONOTONIC ns), UINT64_MAX
 * for never.  holders may be NULL: nobody is watched.  For the monitor only, without the lock.
 */
uint64_t idle_work(struct fs *fs, struct holders *holders, const pid_t *dead, unsigned dead_count);

#endif
