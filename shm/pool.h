/* SPDX-License-Identifier: MIT */
/*
 * pool: a directory with the file heap and the folder x/, mapped whole.
 *
 * Threads: everything in struct pool but `own` is written before the handle is given out.
 */
#ifndef SHM_POOL_H
#define SHM_POOL_H

#include <pthread.h>
#include <stdint.h>

#include "cxlshm.h"
#include "format.h"

struct client;

struct pool {
	char *base;	/* the heap, mapped shared */
	uint64_t heap_bytes;
	int heap_fd;	/* its open file description carries the locks: see client.h */
	int extents_fd;	/* folder x/ */
	int dir_fd;
	char *path;	/* as given, absolute: for messages */
	unsigned flags;	/* CXLSHM_READONLY, CXLSHM_SPARSE */
	int forked;	/* this is the copy in a child of fork(): closed, every call answers -EOWNERDEAD */
	int host;	/* failure_domain=host: write back before the next step */

	/* geometry, checked when opened */
	const struct super_fmt *super;
	struct shared_fmt *shared;
	struct a64 *hints;
	struct segment_fmt *segment_table;
	uint32_t segment_shift;
	uint32_t page_shift;
	uint32_t segments;
	uint32_t first_segment;
	uint32_t slots;

	/* clients of this handle: own[cid], for a lock does not show against itself.  Under own_lock. */
	pthread_mutex_t own_lock;
	struct client **own;
	pthread_key_t thread_key;	/* CXLSHM_JOIN_THREAD */

	/* all open pools of the process, for fork(): see pool.c */
	struct pool *prev, *next;
};

/* cxlshm_pool_create(), _remove(), _open(), _info(), _space() are in pool.c; _close() is in cxlshm.c, which
 * leaves with the clients first and then calls this. */
void pool_unmap(struct pool *pool);

/* Lock bytes of the heap file, far behind its end. */
#define LOCK_BASE (1ull << 62)
#define LOCK_POOL LOCK_BASE	/* read: the pool is open; write: it is being made, removed or checked */
#define LOCK_SLOT(cid) (LOCK_BASE + (cid))

/* Open the pool with LOCK_POOL held for writing: nobody else has it open.  -EBUSY.  Otherwise as
 * cxlshm_pool_open().  For cxlshm_check(). */
int pool_open_exclusive(const char *path, unsigned flags, struct pool **pool, struct cxlshm_error *error);

/* Write a sentence into error, if there is one; returns rc, to be returned. */
int error_set(struct cxlshm_error *error, int rc, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

struct slot_fmt *pool_slot(const struct pool *pool, uint32_t cid);
struct a64 *pool_era_row(const struct pool *pool, uint32_t cid);

/* Apply the pool's NUMA policy to a range of the heap (addr != NULL) or an extent's descriptor (mapped for
 * the purpose).  0 without a policy. */
int numa_apply(const struct pool *pool, void *addr, uint64_t bytes);

/* Write back the lines of [p, p + bytes) and wait: what others rely on next is in memory.  Nothing with
 * failure_domain=process. */
static inline void persist(const struct pool *pool, const volatile void *p, uint64_t bytes)
{
	if (__builtin_expect(pool->host, 0)) {
		uintptr_t line = (uintptr_t)p & ~(uintptr_t)(ARCH_LINE_BYTES - 1);

		for (; line < (uintptr_t)p + bytes; line += ARCH_LINE_BYTES)
			arch_write_back((const void *)line);
		arch_write_back_fence();
	}
}

#endif
