/* SPDX-License-Identifier: MIT */
/*
 * ops.h: the FUSE operations of the daemon.
 */
#ifndef CXLSHMFS_OPS_H
#define CXLSHMFS_OPS_H

#include "inode.h"

/* Fill in the table for a session whose userdata is fs. */
void ops_fill(struct fuse_lowlevel_ops *ops, const struct fs *fs);

#endif
