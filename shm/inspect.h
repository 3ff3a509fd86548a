/* SPDX-License-Identifier: MIT */
/*
 * inspect: looking into a pool beside running clients.  The calls are in cxlshm.h, "looking inside".
 *
 * Nothing is locked and no reference is taken, so what is read may be gone the next moment, and its memory
 * with it.  Therefore slots and segments are read with pread(2) and never through the mapping: a hole
 * reads as zeros, not as SIGBUS; and what comes out is checked like any input.
 */
#ifndef CXLSHM_INSPECT_H
#define CXLSHM_INSPECT_H

#include "client.h"

/* Read bytes of the heap at off into to; what lies behind its end reads as zeros.  -errno. */
int inspect_read(const struct pool *pool, uint64_t off, void *to, size_t bytes);

#endif
