/* SPDX-License-Identifier: MIT */
/*
 * page_runs: what page.c, page_sweep.c and page_adopt.c share: the bins' lists, the masks of free pages, the client's segments.
 *
 * Entry 0 of a segment's page table describes the header page, so its field `free` serves as the owner's mask of free
 * pages (bit p: page p is in no run), its field `flags` says PAGE_ADOPTED, and `used` is how many of its runs count: those
 * that are in use, as far as is known (RUN_EMPTIED), and pages of rows.  Like the lists all three are built anew by an
 * adopter.
 */
#ifndef CXLSHM_PAGE_RUNS_H
#define CXLSHM_PAGE_RUNS_H

#include "page.h"

#define ALL_PAGES (~1ull)
#define USED_KEPT (1u << 30)	/* page_fmt.used of a run in a damaged table: it never counts as empty */

static inline uint64_t *free_mask(const struct client *c, uint32_t segment)
{
	return &segment_pages(c->pool, segment)->free;
}

/* ---- the bins' lists ---- */

static inline void list_push(struct client *c, struct page_fmt *run)
{
	struct page_fmt *head;

	if (run->bin >= BINS)
		return;
	head = c->bin[run->bin];
	run->prev = 0;
	run->next = head ? page_id(c, head) : 0;
	if (head)
		head->prev = page_id(c, run);
	c->bin[run->bin] = run;
	run->used &= ~PAGE_UNLISTED;
}

/* Behind the first: the run in use stays in use. */
static inline void list_push_second(struct client *c, struct page_fmt *run)
{
	struct page_fmt *head = c->bin[run->bin];

	if (!head) {
		list_push(c, run);
		return;
	}
	run->prev = page_id(c, head);
	run->next = head->next;
	if (head->next)
		page_by_id(c, head->next)->prev = page_id(c, run);
	head->next = page_id(c, run);
	run->used &= ~PAGE_UNLISTED;
}

/* ---- runs and segments ---- */

static inline uint64_t mask_of(uint32_t page, uint32_t n)
{
	return (n >= 64 ? ~0ull : (1ull << n) - 1) << page;
}

/* One more of the segment's runs counts; of a damaged one, all do. */
static inline void segment_hold(struct client *c, struct page_fmt *entry)
{
	if (!entry->used++)
		c->idle -= c->idle > 0;
}

static inline void segment_drop(struct client *c, struct page_fmt *entry)
{
	if (entry->used && !--entry->used)
		c->idle++;
}

static inline struct page_fmt *run_segment(const struct client *c, const struct page_fmt *run)
{
	return segment_pages(c->pool, off_segment(c->pool, off_of(c->pool, run)));
}

/* Empty: it does not count again until it is full or looked at, for allocating in it does not look. */
static inline void run_emptied(struct client *c, struct page_fmt *run)
{
	run->flags |= RUN_EMPTIED;
	c->pages_empty += run->pages;
	segment_drop(c, run_segment(c, run));
}

/* 1 if it was thought to be empty. */
static inline int run_not_empty(struct client *c, struct page_fmt *run)
{
	if (!(run->flags & RUN_EMPTIED))
		return 0;
	run->flags &= ~RUN_EMPTIED;
	c->pages_empty -= run->pages < c->pages_empty ? run->pages : c->pages_empty;
	return 1;
}

static inline void run_unempty(struct client *c, struct page_fmt *run)
{
	if (run_not_empty(c, run))
		segment_hold(c, run_segment(c, run));
}

/*
 * Close an empty run.  Crash before: an empty run, which an adopter closes.  After: its pages are free.
 */
static inline void run_close(struct client *c, struct page_fmt *run)
{
	uint32_t id = page_id(c, run);
	uint32_t segment = id / PAGES_PER_SEGMENT;

	if (!(run->flags & RUN_EMPTIED))
		run_emptied(c, run);
	run_not_empty(c, run);	/* but does not count again */
	page_unlist(c, run);
	a32_store_release(&run->kind, PAGE_FREE);
	persist(c->pool, run, sizeof(*run));
	CRASH_POINT(c, page, run_closed);
	*free_mask(c, segment) |= mask_of(id % PAGES_PER_SEGMENT, run->pages);
	c->segment_cursor = segment;
}

/* The next segment of the client's list, or SEGMENT_NONE; checked, for it was read from the pool. */
static inline uint32_t owned_next(const struct client *c, uint32_t segment)
{
	uint64_t next = segment == SEGMENT_NONE ? a64_load_relaxed(&c->slot->segments_head)
						: a64_load_relaxed(&c->pool->segment_table[segment].next);

	return next >= c->pool->first_segment && next < c->pool->segments ? (uint32_t)next : SEGMENT_NONE;
}

/* Is this a span of segments whose block is free? */
static inline int span_empty(struct client *c, uint32_t segment)
{
	return segment_span_of(c->pool, segment) > 1 && !page_used(&segment_pages(c->pool, segment)[1]);
}

/* Does the run of entry p of so many segments say what can be?  Its table is from the pool, and was another's. */
static inline int run_sane(const struct client *c, uint32_t segments, uint32_t p, const struct page_fmt *run)
{
	uint64_t pages = (uint64_t)segments * PAGES_PER_SEGMENT - p;

	return run->pages && run->pages <= pages && run->block_bytes >= 32 && !(run->block_bytes & 15) &&
	       !(run->first & 15) && run->first < (uint64_t)run->pages << c->pool->page_shift &&
	       run->block_bytes <= ((uint64_t)run->pages << c->pool->page_shift) - run->first &&
	       run->capacity <= (((uint64_t)run->pages << c->pool->page_shift) - run->first) / run->block_bytes &&
	       (run->bin == BIN_NONE ? run->capacity == 1
				     : run->bin < BINS && page_bin_units(run->bin) << 4 == run->block_bytes);
}

#endif
