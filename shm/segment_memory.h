/* SPDX-License-Identifier: MIT */
/*
 * segment_memory: a segment's memory, as the kernel has it, and whether anybody may be looking into it.  For segment.c, which
 * alone says when which of this may be done.
 */
#ifndef CXLSHM_SEGMENT_MEMORY_H
#define CXLSHM_SEGMENT_MEMORY_H

#include "segment.h"

/* Memory for all of the segment, so that no store to it can fail.  -ENOSPC. */
int segment_reserve(struct client *c, uint32_t segment);

/* Its memory is the system's; it reads as zero.  -errno: it is kept. */
int segment_punch(struct client *c, uint32_t segment);

/* Zero memory that was kept, page table included: a former owner's entries must not come back between a new one's. */
void segment_scrub(struct client *c, uint32_t segment);

/*
 * Has every client stopped following offsets that it read before now?  A reader sets its flag and then looks for objects; we
 * made ours unreachable and then look at the flags; membarrier(2) orders both.  Spins briefly at each reader.
 * Pairs: client_read_begin().
 */
int segment_quiet(struct client *c);

#endif
