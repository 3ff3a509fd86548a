/* SPDX-License-Identifier: MIT */
/*
 * page: runs of pages that hold blocks of one size, their free lists, and blocks that others free.
 *
 * A run's free list is the owner's private matter: it is linked through the stamps of FREE headers, its head is in the
 * run's page_fmt, and whoever adopts the segment builds it anew from the headers: it is exactly the FREE blocks below
 * the frontier.  A client that acts for a dead one keeps no lists at all; for it a block is free when its header says so.
 *
 * A block of another client's segment goes onto that segment's remote list: DEAD → LIMBO → (pushed) → FREE, the last by
 * the owner, who takes the whole list at once.
 *
 *   call                  excludes                       progress
 *   push_remote           nothing                        lock-free
 *   collect               other calls of the owner       lock-free
 *   all others            other calls of the owner       wait-free
 */
#ifndef CXLSHM_PAGE_H
#define CXLSHM_PAGE_H

#include "segment.h"

#define PAGE_UNLISTED (1u << 31)	/* page_fmt.used: not on its bin's list, so that freeing in it takes the slow way */
#define PAGE_ADOPTED 1u	/* page_fmt.flags of entry 0: the segment was another's, and is not kept for re-use once it is empty */
#define RUN_EMPTIED 1u	/* page_fmt.flags of other entries: the run has been empty since it was opened, or full last */
#define BIN_NONE 0xffffffffu	/* a run with one block of its own size */

static inline uint32_t page_used(const struct page_fmt *run)
{
	return run->used & ~PAGE_UNLISTED;
}

/* The run that holds the block at off; base is the client's, at hand in a register. */
static inline struct page_fmt *page_at(const struct client *c, char *base, uint64_t off)
{
	struct page_fmt *pages = (struct page_fmt *)(base + (off & c->segment_mask));
	struct page_fmt *page = pages + (off >> c->page_shift & (PAGES_PER_SEGMENT - 1));

	if (__builtin_expect(a32_load_relaxed(&page->kind) == PAGE_BODY, 0))
		page = pages + (page->head & (PAGES_PER_SEGMENT - 1));
	return page;
}

static inline struct page_fmt *page_of(const struct client *c, uint64_t off)
{
	return page_at(c, c->base, off);
}

/*
 * Bytes of the block at off, header included, as far as a damaged page table may be believed: no further than its run and
 * its segments; at least 32.
 */
static inline uint64_t page_block_room(const struct client *c, uint64_t off)
{
	const struct page_fmt *run = page_of(c, off);
	uint32_t segment = off_segment(c->pool, off);
	uint64_t start = (uint64_t)segment << c->segment_shift;
	uint64_t page = (uint64_t)(run - segment_pages(c->pool, segment));
	uint64_t most = start + ((page + run->pages) << c->page_shift);
	uint64_t end = start + ((uint64_t)segment_span_of(c->pool, segment) << c->segment_shift);

	if (most > end)
		most = end;
	most = most > off ? most - off : 0;
	if (most > run->block_bytes)
		most = run->block_bytes;
	return most < 32 ? 32 : most;
}

/* 16-byte units of a block of that size class. */
static inline uint64_t page_bin_units(uint32_t bin)
{
	uint32_t e;

	if (bin <= 32)
		return bin;
	bin -= 33;
	e = bin / 8 + 5;
	return (uint64_t)(9 + bin % 8) << (e - 3);
}

/* A new run of pages in the client's own segments, claiming or adopting none.  first: bytes to the first block.
 * -ENOSPC: no such run is free. */
int page_run_new(struct client *c, uint32_t pages, uint64_t block_bytes, uint32_t first, uint32_t bin,
		 struct page_fmt **run);

/* A new run that is a whole span of segments with one block. */
int page_span_new(struct client *c, uint64_t block_bytes, uint32_t first, struct page_fmt **run);

/* A run of one page for root rows, zeroed: its offset. */
int page_roots_new(struct client *c, uint64_t *off);

/* The page of rows at off, which nothing leads to any more, is free. */
void page_roots_free(struct client *c, uint64_t off);

/* Put blocks beyond the frontier on the run's free list.  0 if there are none. */
int page_extend(struct client *c, struct page_fmt *run);

/* One more segment for the client: an orphan, or a fresh one; or else what others freed in its own.  -ENOSPC: none of it. */
int page_more(struct client *c);

/*
 * The run has just got a block back and was on no bin's list (it was full, or has one block of its own size), or is empty
 * now.  Starts no transaction, for one may be open; what is to be given back waits for page_tidy().
 */
void page_put_slow(struct client *c, struct page_fmt *run) __attribute__((cold, noinline));

/* Take the run off its bin's list: it is full, or about to be closed. */
void page_unlist(struct client *c, struct page_fmt *run);

/* Close runs that are empty, so that their pages may be had for others.  Gives no segment back. */
void page_close_empty(struct client *c);

/* Give back segments that hold nothing, all of them. */
void page_sweep_all(struct client *c);

/* What has just become due: adopted ones, and others but for those that may stay for re-use. */
void page_sweep_due(struct client *c);

/* More of them, until so many have been given back; a span goes whole.  trim_more says whether there may be others. */
void page_sweep_trim(struct client *c, uint32_t most);

/* No run of the segment of that entry 0 counts any more: an adopted one goes at once, others when they are too many to stay,
 * or to look for each. */
void page_idle(struct client *c, const struct page_fmt *entry);

/* Sweep if it is due; called between transactions, when nothing of the client points at blocks it freed. */
static inline void page_tidy(struct client *c)
{
	/* In a window what is given back would only be kept for its readers. */
	if (__builtin_expect(c->tidy, 0) && !c->reading)
		page_sweep_due(c);
}

/* The top of the dead list has no slots left: give its block back.  Its own segment: a POP; otherwise a PUSH. */
void page_bury(struct client *c, uint64_t block, uint64_t next_dead);

/* Take what others freed in this owned segment.  1 if there was anything. */
int page_collect(struct client *c, uint32_t segment);

/* Take what others freed in up to `most` of the client's segments, in turn.  1 if there was anything: page_tidy(), or a sweep,
 * is due. */
int page_collect_some(struct client *c, uint32_t most);

/* The same in all of them: before the pool is called full. */
int page_collect_all(struct client *c);

/* Collect in a segment just adopted, build its lists and counts, and scrub its free memory; release it if it is empty and
 * keep_empty is 0. */
void page_adopted(struct client *c, uint32_t segment, int keep_empty);

/* Behind a push onto the segment's remote list, or its being orphaned: if it is an orphan with pushed blocks, adopt it. */
void page_look(struct client *c, uint32_t segment);

/* Does any block of this owned segment hold something? */
int page_segment_used(struct client *c, uint32_t segment);

/* Collect, then release the client's segments or leave them as orphans; for a client that holds nothing any more. */
void page_retire(struct client *c);

void page_apply_push(struct client *c, const struct redo_fmt *r);
void page_apply_pop(struct client *c, const struct redo_fmt *r);
void page_apply_collect(struct client *c, const struct redo_fmt *r);

static inline struct page_fmt *page_by_id(const struct client *c, uint32_t id)
{
	return segment_pages(c->pool, id / PAGES_PER_SEGMENT) + id % PAGES_PER_SEGMENT;
}

static inline uint32_t page_id(const struct client *c, const struct page_fmt *page)
{
	uint64_t off = off_of(c->pool, page);
	uint32_t segment = off_segment(c->pool, off);

	return segment * PAGES_PER_SEGMENT + (uint32_t)(page - segment_pages(c->pool, segment));
}

/* Offset of the run's block i. */
static inline uint64_t page_block(const struct client *c, const struct page_fmt *run, uint32_t i)
{
	uint64_t off = off_of(c->pool, run);
	uint32_t segment = off_segment(c->pool, off);
	uint64_t start = (uint64_t)segment << c->pool->segment_shift;

	return start + ((off - start) / sizeof(*run) << c->pool->page_shift) + run->first + i * run->block_bytes;
}

/*
 * Put a block of the client's own run, whose header may be overwritten, on the free list: FREE, in one header.
 * 1: page_put_slow() has to follow.
 * Pairs: whoever adopts the segment.  Crash between value and stamp: FREE with an old stamp, which the adopter
 * overwrites.
 */
static inline int page_put(struct page_fmt *run, struct object_fmt *object, uint64_t block)
{
	a128_store_value_then_stamp(&object->word, 0, run->free);
	run->free = stamp_link(block);
	return (int32_t)--run->used <= 0;	/* empty, or negative by PAGE_UNLISTED */
}

/* The same for any client: one that acts for a dead one keeps no lists. */
static inline void page_free_local(struct client *c, struct page_fmt *run, uint64_t block)
{
	struct object_fmt *object = off_object(c->pool, block);

	if (!c->acting) {
		int slow = page_put(run, object, block);

		persist(c->pool, object, sizeof(*object));
		if (slow)
			page_put_slow(c, run);
		return;
	}
	a128_store_value_then_stamp(&object->word, 0, stamp_link(0));
	persist(c->pool, object, sizeof(*object));
}

#endif
