/* SPDX-License-Identifier: MIT */
/*
 * Deaths of a machine: what it had in its caches and had not written back is gone.  With CRASH_HOST (crash-host) the library
 * is compiled with writeback.h, so that host.c knows what is in memory; else there is nothing to lose.
 */
#ifndef TESTS_CRASH_HOST_H
#define TESTS_CRASH_HOST_H

#include "pool.h"

#ifdef CRASH_HOST
#define HOST_LOSSES 3u	/* ways to lose: everything, and one half or the other of the lines */
#define HOST_DOMAIN CXLSHM_FAILURE_HOST
void host_begin(const struct pool *pool);	/* all that is in the heap is in memory */
void host_watch(const struct pool *pool);	/* in a child: its mapping */
void host_lose(const struct pool *pool, unsigned loss, uint64_t seed);	/* the child died */
#else
#define HOST_LOSSES 1u
#define HOST_DOMAIN CXLSHM_FAILURE_PROCESS
static inline void host_begin(const struct pool *pool)
{
	(void)pool;
}
static inline void host_watch(const struct pool *pool)
{
	(void)pool;
}
static inline void host_lose(const struct pool *pool, unsigned loss, uint64_t seed)
{
	(void)pool;
	(void)loss;
	(void)seed;
}
#endif

#endif
