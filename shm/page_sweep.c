/* SPDX-License-Identifier: MIT */
/*
 * Memory of a client in which nothing is in use any more: when it is looked for, and what of it is given back.
 */
#include "page_runs.h"

void page_put_slow(struct client *c, struct page_fmt *run)
{
	if (run->used & PAGE_UNLISTED) {
		uint32_t id = page_id(c, run);

		if (!run_sane(c, segment_span_of(c->pool, id / PAGES_PER_SEGMENT), id % PAGES_PER_SEGMENT, run))
			return;	/* a damaged table has kept the run from the lists: page_adopted() */
		/* One block of its own size.  An empty span of segments stays for the next like it, until the sweep. */
		if (run->bin != BIN_NONE)
			list_push_second(c, run);
		else if (run->pages < PAGES_PER_SEGMENT)
			run_close(c, run);
		else
			c->tidy = 1;
	}
	/* One whose only block comes and goes counts once. */
	if (page_used(run) || run == c->emptied_run)
		return;
	c->emptied_run = run;
	c->emptied += run->pages;
	if (c->emptied >= c->sweep_at)
		c->tidy = 1;
}

/* Pages of an owned segment with blocks in use, and with rows. */
static uint32_t pages_in_use(struct client *c, uint32_t segment, uint32_t *roots)
{
	struct page_fmt *entry = segment_pages(c->pool, segment);
	uint32_t used = 0;

	*roots = 0;
	for (uint32_t p = 1; p < PAGES_PER_SEGMENT; p++) {
		uint32_t kind = a32_load_relaxed(&entry[p].kind);

		if (kind == PAGE_ROOTS)
			(*roots)++;
		else if (kind == PAGE_BLOCKS && page_used(&entry[p]))
			used += entry[p].pages;
	}
	return used;
}

static void segment_close(struct client *c, uint32_t segment)
{
	struct page_fmt *entry = segment_pages(c->pool, segment);

	for (uint32_t p = 1; p < PAGES_PER_SEGMENT; p++)
		if (a32_load_relaxed(&entry[p].kind) == PAGE_BLOCKS)
			run_close(c, &entry[p]);
	segment_release(c, segment);
	c->segment_cursor = SEGMENT_NONE;
}

/* What a sweep has seen. */
struct swept {
	uint32_t segments;	/* that stay, but for those with nothing but rows in them */
	uint32_t adopted;	/* of them */
	uint32_t used;	/* pages with blocks in use */
	uint32_t rooted;	/* segments with nothing but rows in them */
	int given, adopted_given;
};

/*
 * When the next sweep is due: how many pages have to lose their last block.  A sweep looks at every page, so the rarer they
 * find something, the rarer they come; but one comes before half of the pages in use have emptied, unless it could find only
 * what is kept for re-use.  What was adopted is to go back as it empties, but for one segment.
 */
static uint32_t sweep_next(const struct client *c, const struct swept *swept)
{
	uint32_t often = 64 + 16 * swept->segments, at = 2 * c->sweep_at, most = swept->used - swept->used / 2;

	if (swept->adopted <= 1 && swept->segments <= c->pages_empty_max / (PAGES_PER_SEGMENT - 1) + 1)
		return 64 + 64 * swept->segments;
	if (swept->adopted > 1)
		at = swept->adopted_given ? 1 + swept->segments / 4 : at < often ? at : often;
	else if (swept->given)
		at = often;
	if (at > most)
		at = most;
	return at ? at : 1;
}

uint32_t page_sweep_some(struct client *c, uint32_t keep, uint32_t most)
{
	uint32_t given = 0, kept = 0, spans = 0, idle_max = keep ? keep / (PAGES_PER_SEGMENT - 1) + 1 : 0, idle = 0;
	struct swept swept = {0};
	uint32_t next;

	c->emptied = 0;
	c->emptied_run = NULL;
	c->tidy = 0;
	for (uint32_t s = owned_next(c, SEGMENT_NONE); s != SEGMENT_NONE; s = next) {
		uint32_t here, roots;
		int others;

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
		if (!segment_is_mine(c, s) || segment_span_of(c->pool, s) > 1)
			continue;
		here = pages_in_use(c, s, &roots);
		others = segment_pages(c->pool, s)->flags & PAGE_ADOPTED;
		if (!here && !roots && !a128_value_relaxed(&c->pool->segment_table[s].remote) && given < most &&
		    (others || ++idle > idle_max)) {
			segment_close(c, s);
			swept.adopted_given |= others;
			given++;
			continue;
		}
		swept.rooted += !here && roots;
		swept.segments += here || !roots;
		swept.adopted += others && (here || !roots);
		swept.used += here;
	}
	swept.given = given > 0;
	c->roots_due = swept.rooted && swept.rooted + idle > idle_max;
	c->sweep_at = sweep_next(c, &swept);
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
