/* SPDX-License-Identifier: MIT */
/*
 * client: a slot of the pool and the process-private state of who uses it.
 *
 * Exclusion: a slot is used by who holds the OFD write lock on its byte of the heap file (fcntl(2), Linux), through
 * the open file description of one pool handle, and within that handle by the one client in pool->own[cid].  So
 * at most one client acts as a slot at a time (rule 8), and the kernel drops the lock with the process.
 *
 *   call             excludes                                     progress
 *   client_claim     per slot: itself, recovery (the lock)        never waits: goes on to the next slot
 *   client_unclaim   as above                                     wait-free
 *   read_begin/end   nothing                                      wait-free
 */
#ifndef CXLSHM_CLIENT_H
#define CXLSHM_CLIENT_H

#include "crash.h"
#include "off.h"
#include "pool.h"

#define BINS 97u	/* size classes of alloc.c */
#define CLIENT_SHORT_BYTES 496u	/* largest payload for alloc_short() */

struct mapping;

struct client {
	/* what the shortest paths of alloc.h touch */
	char *base;
	struct pool *pool;
	uint64_t tag;	/* cid << OFFSET_BITS: upper bits of this client's handles */
	struct a64 *era_word;
	uint64_t root_free;	/* ROOT_FREE | offset of the first free row, 0: none */
	struct slot_fmt *slot;
	struct segment_fmt *segment_table;
	uint64_t rows;	/* heap_bytes / 16 - 1: see root_plausible() */
	uint64_t short_rows;	/* the same, and 0 where the shortest paths do not apply: the pool is host, or forked */
	uint64_t short_bytes;	/* CLIENT_SHORT_BYTES, or 0 likewise */
	uintptr_t link_base;	/* base - STAMP_LINK: to this a link is added as it is */
	uintptr_t free_base;	/* base - ROOT_FREE: to this root_free */
	uint64_t tag_free;	/* makes a handle of root_free, and back, by exclusive or */
	uint64_t segment_mask;	/* offset of a segment: what is left of an offset in it */
	uint32_t segment_mine;	/* low half of the word of a segment this client owns */
	uint32_t segment_shift;
	uint32_t page_shift;
	uint32_t cid;
	uint32_t slots;	/* of the pool */
	uint32_t tidy;	/* a sweep is due; page_tidy() */
	uint32_t idle;	/* owned segments, spans apart, in which no run counts */
	uint32_t pages_empty;	/* pages of RUN_EMPTIED runs */
	struct page_fmt *bin[BINS];	/* first run with room of each size class, or NULL */

	struct a64 *row;	/* era row */
	int acting;	/* recovering a dead client: free lists are not kept, headers say all */
	int fenced;	/* no membarrier(2) here: order read_begin() by a fence */

	uint32_t reading;	/* client_read_begin() without its end yet, how often */
	uint32_t roots_given;	/* the rows of the slot's own area are on the free list or in use */
	uint32_t segment_cursor;	/* owned segment that had free pages last */
	uint32_t collect_cursor;	/* owned segment whose remote list is looked at next */
	uint32_t claim_cursor;	/* where to look for claimable segments */
	uint32_t roots_segment;	/* owned segment that pages of rows come from, or SEGMENT_NONE */
	uint32_t roots_pages;	/* pages of rows that the client has, there and elsewhere */
	uint32_t idle_max;	/* idle segments that may stay for re-use */
	uint32_t trim_max;	/* and beyond cxlshm_trim() */
	uint32_t trim_more;	/* the last one has not come to the end */
	uint32_t span_max;	/* segments of an empty span that may stay */
	uint32_t span_kept;	/* the empty one that has stayed, or SEGMENT_NONE */

	struct mapping *mappings;	/* of cxlshm_map(); extent.c */
	struct client *thread_next;	/* the next one that leaves when its thread exits: CXLSHM_JOIN_THREAD */

	struct cxlshm_recovery done;	/* counted while retiring */
};

/* The client's own era: nobody else writes it while the client lives. */
static inline uint64_t client_era(const struct client *c)
{
	return a64_load_relaxed(c->era_word);
}

/*
 * Take a free slot and its lock.  name may be NULL.
 * Errors: -EUSERS, -ENOSPC, -EROFS, -EOWNERDEAD, -ENOMEM.
 */
int client_claim(struct pool *pool, const char *name, struct client **out);

/* Take over the slot of a dead client, to recover it: its lock and a handle that acts as it.
 * -EAGAIN: it lives, is free, or is being recovered by somebody else. */
int client_take_over(struct pool *pool, uint32_t cid, struct client **out);

/* The slot is empty: mark it free, unlock it, free the handle. */
void client_unclaim(struct client *c);

/* Free the handle and drop the lock, leaving the slot as it is: what death does.  For tests, and for a client
 * that was inherited through fork(). */
void client_abandon(struct client *c);

/* 1 if the slot is claimed and its client's lock is held. */
int client_alive(struct pool *pool, uint32_t cid);

/* 1 if the client that claimed the slot in this incarnation died and is not yet recovered, though perhaps just being. */
int client_dead(struct pool *pool, uint32_t cid, uint64_t incarnation);

/* 1 if the slot is claimed. */
int client_claimed(const struct pool *pool, uint32_t cid);

uint64_t client_incarnation(const struct pool *pool, uint32_t cid);

/*
 * Between these, offsets may be followed for which no reference is held, as long as what they lead to was reachable
 * when they were read: no segment is given back to the system meanwhile.  Pairs: segment_quiet(), which orders its look
 * at the flag by membarrier(2).  May be nested.  Crash: recovery clears the flag; until then memory is kept, not lost.
 *
 * What was followed may meanwhile be in use as something else, an application's bytes even, written with plain stores: what
 * was read counts only once the cell, read again, is the same (DESIGN.md, rule 5).  ThreadSanitizer, which knows of no second
 * look, is told to overlook accesses in here.
 */
static inline void client_read_begin(struct client *c)
{
	if (c->reading++)
		return;
	tsan_overlook_begin();
	a64_store_relaxed(&c->slot->reading, 1);
	if (c->fenced)
		fence_seq_cst();
	else
		fence_compiler();
}

static inline void client_read_end(struct client *c)
{
	if (--c->reading)
		return;
	a64_store_release(&c->slot->reading, 0);
	tsan_overlook_end();
}

#endif
