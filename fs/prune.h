/* SPDX-License-Identifier: MIT */
/*
 * prune.h: letting go of objects that others deleted while the kernel still remembers them.
 */
#ifndef CXLSHMFS_PRUNE_H
#define CXLSHMFS_PRUNE_H

#include "inode.h"

struct prune;

/* Start the thread.  Owns: the caller ends it with prune_stop(), before the session goes.  0 or -errno. */
int prune_start(struct fs *fs, struct prune **prune);
void prune_stop(struct prune *prune);

/* Look soon: something was just deleted, or its holder died.  Any thread. */
void prune_kick(struct prune *prune);

#endif
