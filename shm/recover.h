/* SPDX-License-Identifier: MIT */
/*
 * recover: what is left to do for a client that died, done as that client.
 *
 *   call             excludes                                      progress
 *   recover_dead     per slot: other recoverers (the slot's lock)  never waits: goes on to the next slot
 *   recover_retire   the client's own calls                        lock-free but for system calls
 *
 * The order: finish the record, bump, settle names, work off the dead list, drop roots and exports, give segments back or
 * leave them as orphans, free the slot.  Every step is an ordinary call, so who dies here is recovered like anybody else.
 */
#ifndef CXLSHM_RECOVER_H
#define CXLSHM_RECOVER_H

#include "names_ops.h"

/* Recover every dead client of the pool that nobody else is recovering; recovery (may be NULL) is added up. */
int recover_dead(struct pool *pool, struct cxlshm_recovery *recovery);

/* Recover one slot.  -EAGAIN: it is alive, free, or being recovered. */
int recover_one(struct pool *pool, uint32_t cid, struct cxlshm_recovery *recovery);

/* Give back everything the client holds, then its slot.  The handle is gone. */
void recover_retire(struct client *c);

#endif
