/* SPDX-License-Identifier: MIT */
/*
 * holders.h: processes that may hold mappings, and their deaths.
 *
 * All calls: one thread, the monitor's idler, but for holders_new() and holders_free().
 */
#ifndef CXLSHMFS_HOLDERS_H
#define CXLSHMFS_HOLDERS_H

#include <stdbool.h>
#include <sys/types.h>

struct holders;

/* wake_fd: an eventfd that ends holders_wait(), too; the caller's.  Owns: the caller frees it.  Returns 0 or -errno. */
int holders_new(int wake_fd, struct holders **holders);
void holders_free(struct holders *holders);

/* Watch the process that this thread is of, unless it is watched already, is gone, or is not ours to see. */
void holders_watch(struct holders *holders, pid_t thread);

/* Watch nobody any more. */
void holders_forget(struct holders *holders);

/*
 * Wait until a watched process has died, wake_fd is readable, or so long (-1: for ever).  Returns how many threads are in dead,
 * at most `most`: those that were given to holders_watch(), and are watched no longer.  The process has let go of all it
 * had open or mapped.
 */
unsigned holders_wait(struct holders *holders, int timeout_ms, pid_t *dead, unsigned most);

#endif
