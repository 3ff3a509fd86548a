/* SPDX-License-Identifier: MIT */
/*
 * monitor.h: noticing clients that died and mappings that went.
 */
#ifndef CXLSHMFS_MONITOR_H
#define CXLSHMFS_MONITOR_H

#include "inode.h"
#include "prune.h"

struct monitor;

/* Start the monitor's threads.  Owns: the caller stops it with monitor_stop().  Returns 0 or -errno. */
int monitor_start(struct fs *fs, struct prune *prune, struct monitor **monitor);

/*
 * Stop, in two steps around lane_stop(): our own clients' leaving is what wakes the thread that
 * waits for clients.  After monitor_end() no thread of the monitor touches fs or the lanes' clients.
 */
void monitor_end(struct monitor *monitor);
void monitor_stop(struct monitor *monitor);

#endif
