/* SPDX-License-Identifier: MIT */
/*
 * Memory of a client in which nothing is in use any more: when it is looked for, and what of it is given back.
 */
#include "page_runs.h"

/* Objects that this client has made and nobody has freed, as far as it knows. */
static uint64_t objects(const struct client *c)
{
	uint64_t made = a64_load_relaxed(&c->slot->allocations) + c->pushed;
	uint64_t freed = a64_load_relaxed(&c->slot->frees) + c->collected;

	return made > freed ? made - freed : 0;
}

void page_grown(struct client *c, uint32_t large)
{
	uint64_t now = objects(c);

	c->large += large;
	if (c->large_peak < c->large)
		c->large_peak = c->large;
	if (c->live_peak < now)
		c->live_peak = now;
}

/*
 * Is more than a quarter gone of the objects, or of the pages of large ones, that there were at the last sweep, or when a run
 * was opened since?  So a client of which nothing stays gives back to the end, in sweeps whose number is logarithmic; but not
 * for a few objects, or two that come and go would call the system each time.  One that is just going may count still.
 */
static int thinned(const struct client *c)
{
	uint64_t now = objects(c);

	now -= now > 0;
	return (c->live_peak >= 4 && now < c->live_peak - c->live_peak / 4) ||
	       c->large + 4 * PAGES_PER_SEGMENT < c->large_peak - c->large_peak / 4;
}

void page_put_slow(struct client *c, struct page_fmt *run)
{
	if (run->used & PAGE_UNLISTED) {
		uint32_t id = page_id(c, run);

		if (!run_sane(c, segment_span_of(c->pool, id / PAGES_PER_SEGMENT), id % PAGES_PER_SEGMENT, run))
			return;	/* a damaged table has kept the run from the lists: page_adopted() */
		/* One block of its own size.  An empty span of segments stays for the next like it, until the sweep. */
		if (run->bin != BIN_NONE)
			list_push_second(c, run);
		else if (run->pages < PAGES_PER_SEGMENT) {
			run_close(c, run);
			c->large -= run->pages < c->large ? run->pages : c->large;
		} else {
			c->tidy = 1;
		}
	}
	if (page_used(run))
		return;
	if (c->may_give && thinned(c))
		c->tidy = 1;
	c->emptied += segment_pages(c->pool, off_segment(c->pool, off_of(c->pool, run)))->flags & PAGE_ADOPTED ? run->pages : 1;
	if (c->emptied >= c->sweep_at)
		c->tidy = 1;
}

enum holds {
	NOTHING,	/* but empty runs */
	ROWS,	/* and nothing else */
	BLOCKS
};

static enum holds segment_holds(struct client *c, uint32_t segment)
{
	struct page_fmt *entry = segment_pages(c->pool, segment);
	enum holds holds = NOTHING;

	if (!segment_is_mine(c, segment) || segment_span_of(c->pool, segment) > 1 ||
	    a128_value_relaxed(&c->pool->segment_table[segment].remote))
		return BLOCKS;
	for (uint32_t p = 1; p < PAGES_PER_SEGMENT; p++) {
		uint32_t kind = a32_load_relaxed(&entry[p].kind);

		if (kind == PAGE_BLOCKS && page_used(&entry[p]))
			return BLOCKS;
		if (kind == PAGE_ROOTS)
			holds = ROWS;
	}
	return holds;
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

uint32_t page_sweep_some(struct client *c, uint32_t keep, uint32_t most)
{
	uint32_t given = 0, kept = 0, spans = 0, idle_max = keep ? keep / (PAGES_PER_SEGMENT - 1) + 1 : 0, idle = 0;
	uint32_t next, segments = 0, rows_only = 0, adopted = 0, given_back = 0;

	c->emptied = 0;
	c->tidy = 0;
	for (uint32_t s = owned_next(c, SEGMENT_NONE); s != SEGMENT_NONE; s = next) {
		enum holds holds;

		next = owned_next(c, s);
		/*
		 * One empty span and a few empty segments stay: allocating and freeing in turn need not call the system.  Not a
		 * large one: its client may never allocate again.  Nor an adopted one, for what is in it is another's.
		 */
		if (segment_is_mine(c, s) && span_empty(c, s)) {
			uint32_t length = segment_span_of(c->pool, s);

			if (given < most && (!keep || segment_pages(c->pool, s)->flags & PAGE_ADOPTED ||
					     length > c->pool->segments / 64 || spans++)) {
				segment_release(c, s);
				given += length;
			}
			continue;
		}
		holds = segment_holds(c, s);
		if (segment_is_mine(c, s) && segment_pages(c->pool, s)->flags & PAGE_ADOPTED) {
			if (given < most && holds == NOTHING) {
				segment_close(c, s);
				given_back = 1;
				given++;
				continue;
			}
			adopted++;
		} else if (given < most && holds == NOTHING && ++idle > idle_max) {
			segment_close(c, s);
			given++;
			continue;
		}
		segments++;
		rows_only += holds == ROWS;
	}
	/*
	 * A sweep looks at every segment: the more there are, the rarer it comes.  What was adopted is to go back as it
	 * empties, but for one segment: soon again while sweeps find some, rarer as they do not, but before a quarter of it
	 * has emptied.
	 */
	if (adopted <= 1)
		c->sweep_at = 256 + 64 * segments;
	else if (given_back)
		c->sweep_at = 1 + segments / 4;
	else
		c->sweep_at = 2 * c->sweep_at < 64 + 16 * segments ? 2 * c->sweep_at : 64 + 16 * segments;
	c->live_peak = objects(c);
	c->large_peak = c->large;
	c->may_give = segments - rows_only > c->pages_empty_max / (PAGES_PER_SEGMENT - 1) + 1;
	for (uint32_t b = 0; b < BINS; b++) {
		struct page_fmt *run = c->bin[b];

		while (run) {
			struct page_fmt *after = run->next ? page_by_id(c, run->next) : NULL;

			if (!page_used(run) && (kept += run->pages) > keep) {
				kept -= run->pages;
				run_close(c, run);
			}
			run = after;
		}
	}
	c->segment_cursor = owned_next(c, SEGMENT_NONE);
	return given;
}

void page_sweep(struct client *c, uint32_t keep)
{
	(void)page_sweep_some(c, keep, UINT32_MAX);
}
