/* SPDX-License-Identifier: MIT */
/*
 * Runs of pages and their free lists; see page.h.  Freeing across clients is in page_remote.c, giving back in page_sweep.c,
 * taking over in page_adopt.c.
 */
#include "page_runs.h"

#include <errno.h>
#include <string.h>

/* ---- the bins' lists ---- */

void page_unlist(struct client *c, struct page_fmt *run)
{
	if (run->used & PAGE_UNLISTED)
		return;
	if (run->next)
		page_by_id(c, run->next)->prev = run->prev;
	if (run->prev)
		page_by_id(c, run->prev)->next = run->next;
	else
		c->bin[run->bin] = run->next ? page_by_id(c, run->next) : NULL;
	run->next = run->prev = 0;
	run->used |= PAGE_UNLISTED;
	run_unempty(c, run);
}

/* ---- runs ---- */

/* Lowest page of n free neighbours, 0: none. */
static uint32_t mask_find(uint64_t mask, uint32_t n)
{
	uint32_t have = 1;

	while (mask && have < n) {
		uint32_t step = have < n - have ? have : n - have;

		mask &= mask >> step;
		have += step;
	}
	return mask ? (uint32_t)__builtin_ctzll(mask) : 0;
}

/*
 * Open a run at page p.  Bodies first, then the geometry, and `kind` last.
 * Crash before: the entries are of a FREE page, whatever else they say.  After: a run without blocks yet (frontier 0).
 */
static struct page_fmt *run_open(struct client *c, uint32_t segment, uint32_t p, uint32_t pages, uint64_t block_bytes,
				 uint32_t first, uint32_t capacity, uint32_t bin, enum page_kind kind)
{
	struct page_fmt *entry = segment_pages(c->pool, segment);
	struct page_fmt *run = entry + p;

	for (uint32_t i = 1; i < pages && p + i < PAGES_PER_SEGMENT; i++) {
		entry[p + i].head = p;
		a32_store_release(&entry[p + i].kind, PAGE_BODY);
	}
	CRASH_POINT(c, page, run_bodies);
	run->pages = pages;
	run->head = 0;
	run->first = first;
	run->block_bytes = block_bytes;
	run->capacity = capacity;
	run->free = 0;
	run->used = PAGE_UNLISTED;
	run->flags = 0;
	run->next = run->prev = 0;
	run->bin = bin;
	a32_store_relaxed(&run->frontier, 0);
	persist(c->pool, run, sizeof(*run) * (pages < PAGES_PER_SEGMENT - p ? pages : PAGES_PER_SEGMENT - p));
	/* Pairs: page_of() by whoever holds a reference to a block, adopters. */
	a32_store_release(&run->kind, kind);
	persist(c->pool, run, sizeof(*run));
	CRASH_POINT(c, page, run_opened);
	*free_mask(c, segment) &= ~mask_of(p, pages);
	return run;
}

/* A segment just claimed. */
static void segment_begin(struct client *c, uint32_t segment)
{
	*free_mask(c, segment) = ALL_PAGES;
	segment_pages(c->pool, segment)->used = 0;
	c->idle++;
}

#define ROOTS_SCATTERED 2u	/* pages of rows that a client has where there is room */
#define ROOTS_SEGMENTS 16u	/* of a pool with fewer, a whole one is too much for rows */

static int find_pages(struct client *c, uint32_t pages, uint32_t *segment, uint32_t *page)
{
	uint32_t s = c->segment_cursor;

	if (s != SEGMENT_NONE && s != c->roots_segment && segment_is_mine(c, s) &&
	    (*page = mask_find(*free_mask(c, s), pages))) {
		*segment = s;
		return 0;
	}
	for (s = owned_next(c, SEGMENT_NONE); s != SEGMENT_NONE; s = owned_next(c, s)) {
		if (s == c->roots_segment || !segment_is_mine(c, s) || !(*page = mask_find(*free_mask(c, s), pages)))
			continue;
		c->segment_cursor = s;
		*segment = s;
		return 0;
	}
	c->segment_cursor = SEGMENT_NONE;
	return -ENOSPC;
}

/*
 * Pages of rows go back only with cxlshm_trim(), and blocks that share a segment with them do not make it one that can go back:
 * who has many has them in segments of their own, as long as there are any.
 */
static int find_rows(struct client *c, uint32_t *segment, uint32_t *page)
{
	int rc;

	*segment = c->roots_segment;
	if (*segment != SEGMENT_NONE && segment_is_mine(c, *segment) && (*page = mask_find(*free_mask(c, *segment), 1)))
		return 0;
	if (c->roots_pages < ROOTS_SCATTERED || c->pool->segments < ROOTS_SEGMENTS)
		return find_pages(c, 1, segment, page);
	rc = segment_claim(c, segment);
	if (rc)
		return rc == -ENOSPC ? find_pages(c, 1, segment, page) : rc;
	segment_begin(c, *segment);
	c->roots_segment = *segment;
	*page = 1;
	return 0;
}

int page_run_new(struct client *c, uint32_t pages, uint64_t block_bytes, uint32_t first, uint32_t bin,
		 struct page_fmt **out)
{
	uint64_t room = ((uint64_t)pages << c->pool->page_shift) - first;
	struct page_fmt *run;
	uint32_t segment, page;
	int rc;

	rc = find_pages(c, pages, &segment, &page);
	if (rc)
		return rc;
	run = run_open(c, segment, page, pages, block_bytes, first, (uint32_t)(room / block_bytes), bin, PAGE_BLOCKS);
	segment_hold(c, run_segment(c, run));
	list_push(c, run);
	*out = run;
	return 0;
}

int page_span_new(struct client *c, uint64_t block_bytes, uint32_t first, struct page_fmt **run)
{
	uint64_t bytes = block_bytes + first + (1ull << c->pool->page_shift);
	uint32_t count = (uint32_t)((bytes + (1ull << c->pool->segment_shift) - 1) >> c->pool->segment_shift);
	uint32_t head;
	int rc;

	for (uint32_t s = owned_next(c, SEGMENT_NONE); s != SEGMENT_NONE; s = owned_next(c, s)) {
		struct page_fmt *kept = segment_pages(c->pool, s) + 1;

		/* An adopted one has somebody else's bytes in it; it waits for a sweep. */
		if (!segment_is_mine(c, s) || !span_empty(c, s) || kept[-1].flags & PAGE_ADOPTED || segment_span_of(c->pool, s) < count ||
		    segment_span_of(c->pool, s) / 2 > count || kept->first != first ||
		    kept->block_bytes < block_bytes)
			continue;
		if (c->span_kept == s)
			c->span_kept = SEGMENT_NONE;
		*run = kept;
		return 0;
	}
	rc = segment_span_claim(c, count, &head);
	if (rc)
		return rc;
	*free_mask(c, head) = ALL_PAGES;
	*run = run_open(c, head, 1, count * PAGES_PER_SEGMENT - 1, block_bytes, first, 1, BIN_NONE, PAGE_BLOCKS);
	return 0;
}

int page_roots_new(struct client *c, uint64_t *out)
{
	uint32_t segment, page;
	uint64_t off;
	int rc;

	rc = find_rows(c, &segment, &page);
	if (rc)
		return rc;
	c->roots_pages++;
	off = ((uint64_t)segment << c->pool->segment_shift) + ((uint64_t)page << c->pool->page_shift);
	memset(off_ptr(c->pool, off), 0, 1ul << c->pool->page_shift);
	persist(c->pool, off_ptr(c->pool, off), 1ul << c->pool->page_shift);
	segment_hold(c, segment_pages(c->pool, segment));
	run_open(c, segment, page, 1, 1ul << c->pool->page_shift, 0, 0, BIN_NONE, PAGE_ROOTS);
	*out = off;
	return 0;
}

void page_roots_free(struct client *c, uint64_t off)
{
	uint32_t segment = off_segment(c->pool, off);
	uint32_t page = (uint32_t)(off >> c->pool->page_shift) & (PAGES_PER_SEGMENT - 1);
	struct page_fmt *entry = segment_pages(c->pool, segment) + page;

	/*
	 * Pairs: page_of(), close_roots() and adopters.  Crash before: a page of rows that nobody knows; it goes back with
	 * the segment.
	 */
	a32_store_release(&entry->kind, PAGE_FREE);
	persist(c->pool, entry, sizeof(*entry));
	CRASH_POINT(c, page, roots_freed);
	segment_drop(c, segment_pages(c->pool, segment));
	if (!segment_pages(c->pool, segment)->used)
		page_idle(c, segment_pages(c->pool, segment));
	c->roots_pages -= c->roots_pages > 0;
	*free_mask(c, segment) |= mask_of(page, 1);
	c->segment_cursor = segment;
}

int page_more(struct client *c)
{
	uint32_t segment;
	int rc;

	if (pool_slot_lost(c->pool, c->cid, c->slot))
		return -ESTALE;
	if (!segment_adopt_any(c, &segment)) {
		page_adopted(c, segment, 1);
		return 0;
	}
	rc = segment_claim(c, &segment);
	if (rc == -ENOSPC && !segment_adopt_unhinted(c, &segment)) {
		page_adopted(c, segment, 1);
		return 0;
	}
	if (rc == -ENOSPC && page_collect_all(c)) {
		page_close_empty(c);
		return 0;
	}
	if (rc == -ENOSPC && c->span_kept != SEGMENT_NONE) {
		page_sweep_all(c);
		return 0;
	}
	if (rc == -ENOSPC && c->roots_segment != SEGMENT_NONE) {
		c->roots_segment = SEGMENT_NONE;	/* its free pages are for blocks, too */
		return 0;
	}
	if (rc)
		return rc;
	segment_begin(c, segment);
	c->segment_cursor = segment;
	return 0;
}

int page_extend(struct client *c, struct page_fmt *run)
{
	uint32_t from = a32_load_relaxed(&run->frontier);
	uint32_t count = run->capacity - from;
	uint64_t chunk = 8192 / run->block_bytes;
	uint64_t block;

	if (from >= run->capacity)
		return 0;
	if (count > (chunk ? chunk : 1))
		count = (uint32_t)(chunk ? chunk : 1);
	block = page_block(c, run, from);
	for (uint32_t i = 0; i < count; i++) {
		struct object_fmt *object = off_object(c->pool, block + i * run->block_bytes);
		uint64_t next = i + 1 < count ? stamp_link(block + (i + 1) * run->block_bytes) : run->free;

		a128_store_value_then_stamp(&object->word, 0, next);
		persist(c->pool, object, sizeof(*object));
	}
	CRASH_POINT(c, page, frontier_headers);
	/* Pairs: adopters and check read headers below the frontier only.  Crash before: the headers do not count yet. */
	a32_store_release(&run->frontier, from + count);
	persist(c->pool, &run->frontier, sizeof(run->frontier));
	CRASH_POINT(c, page, frontier_raised);
	run->free = stamp_link(block);
	return 1;
}
