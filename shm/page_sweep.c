/* SPDX-License-Identifier: MIT */
/*
 * Memory of a client in which nothing is in use any more: when it is looked for, and what of it is given back.
 */
#include "page_runs.h"

/*
 * Is an eighth gone of the pages that were in use at the last sweep, or since, and are there more segments than a few beyond
 * those that the rest would fill?  Then a client of which nothing stays gives back to the end, in sweeps whose number is
 * logarithmic, and few objects that come and go never call the system.  What was adopted is to go back as it empties, for it
 * is another's.  A sweep looks at every segment: it waits for as many runs as make that cheap.
 */
static int sweep_due(const struct client *c)
{
	uint64_t owned = a64_load_relaxed(&c->slot->segments_owned);
	uint64_t filled = (c->pages_used + c->roots_pages) / (PAGES_PER_SEGMENT - 1) + 1 + c->spans;

	if (8ull * c->emptied < owned)
		return 0;
	return c->adopted > 1 || (owned > filled + c->spare_max && c->pages_peak - c->pages_used >= c->pages_peak / 8);
}

/*
 * One empty span stays: allocating and freeing in turn need not call the system.  Not a large one: its client may never
 * allocate again.  Nor an adopted one, for what is in it is another's.
 */
static int span_stays(const struct client *c, uint32_t segment)
{
	return !(segment_pages(c->pool, segment)->flags & PAGE_ADOPTED) && segment_span_of(c->pool, segment) <= c->span_max &&
	       (c->span_kept == SEGMENT_NONE || c->span_kept == segment);
}

static void span_emptied(struct client *c, uint32_t segment)
{
	if (span_stays(c, segment))
		c->span_kept = segment;
	else
		c->tidy = 1;
}

void page_put_slow(struct client *c, struct page_fmt *run)
{
	if (run->used & PAGE_UNLISTED) {
		uint32_t id = page_id(c, run);

		if (!run_sane(c, segment_span_of(c->pool, id / PAGES_PER_SEGMENT), id % PAGES_PER_SEGMENT, run))
			return;	/* a damaged table has kept the run from the lists: page_adopted() */
		if (run->bin != BIN_NONE)
			list_push_second(c, run);
		else if (run->pages < PAGES_PER_SEGMENT)
			run_close(c, run);
		else
			span_emptied(c, id / PAGES_PER_SEGMENT);
	}
	if (page_used(run) || run->flags & RUN_EMPTIED)
		return;
	if (run->bin != BIN_NONE)
		run_emptied(c, run);
	c->emptied++;
	if (sweep_due(c))
		c->tidy = 1;
}

/* Nothing in the segment but empty runs? */
static int segment_idle(struct client *c, uint32_t segment)
{
	struct page_fmt *entry = segment_pages(c->pool, segment);

	if (a128_value_relaxed(&c->pool->segment_table[segment].remote))
		return 0;
	for (uint32_t p = 1; p < PAGES_PER_SEGMENT; p++) {
		uint32_t kind = a32_load_relaxed(&entry[p].kind);

		if (kind == PAGE_ROOTS || (kind == PAGE_BLOCKS && page_used(&entry[p])))
			return 0;
	}
	return 1;
}

static void segment_close(struct client *c, uint32_t segment)
{
	struct page_fmt *entry = segment_pages(c->pool, segment);

	for (uint32_t p = 1; p < PAGES_PER_SEGMENT; p++)
		if (a32_load_relaxed(&entry[p].kind) == PAGE_BLOCKS)
			run_close(c, &entry[p]);
	segment_release(c, segment);
	c->segment_cursor = SEGMENT_NONE;
	if (c->roots_segment == segment)
		c->roots_segment = SEGMENT_NONE;
}

void page_close_empty(struct client *c, uint32_t keep)
{
	uint32_t kept = 0;

	if (c->pages_empty <= keep)
		return;
	/* Half of it, that the next walk over all runs with room is not soon. */
	for (uint32_t b = 0; b < BINS; b++) {
		struct page_fmt *run = c->bin[b];

		while (run) {
			struct page_fmt *after = run->next ? page_by_id(c, run->next) : NULL;

			if (page_used(run)) {
				run_unempty(c, run);
			} else if ((kept += run->pages) > keep / 2) {
				kept -= run->pages;
				run_close(c, run);
			}
			run = after;
		}
	}
}

uint32_t page_sweep_some(struct client *c, uint32_t keep, uint32_t most)
{
	uint32_t given = 0, idle_max = keep ? keep / (PAGES_PER_SEGMENT - 1) + 1 : 0, idle = 0;
	uint32_t next;

	c->tidy = 0;
	c->emptied = 0;
	c->adopted = c->spans = 0;
	c->span_kept = SEGMENT_NONE;
	for (uint32_t s = owned_next(c, SEGMENT_NONE); s != SEGMENT_NONE; s = next) {
		uint32_t adopted, length;

		next = owned_next(c, s);
		if (!segment_is_mine(c, s))
			continue;
		adopted = segment_pages(c->pool, s)->flags & PAGE_ADOPTED;
		length = segment_span_of(c->pool, s);
		/* A few empty segments stay, too. */
		if (given < most && length > 1 && span_empty(c, s) && (!keep || !span_stays(c, s))) {
			segment_release(c, s);
			given += length;
		} else if (given < most && length == 1 && segment_idle(c, s) && (adopted || ++idle > idle_max)) {
			segment_close(c, s);
			given++;
		} else if (length > 1) {
			c->spans++;
			if (span_empty(c, s))
				c->span_kept = s;
		} else {
			c->adopted += adopted;
		}
	}
	page_close_empty(c, keep);
	c->segment_cursor = owned_next(c, SEGMENT_NONE);
	c->pages_peak = c->pages_used;
	return given;
}

void page_sweep(struct client *c, uint32_t keep)
{
	(void)page_sweep_some(c, keep, UINT32_MAX);
}
