/* SPDX-License-Identifier: MIT */
/*
 * Memory of a client in which nothing is in use any more: when it is looked for, and what of it is given back.
 */
#include "page_runs.h"

/*
 * One empty span stays: allocating and freeing in turn need not call the system.  Not a large one: its client may never
 * allocate again.  Nor an adopted one, for what is in it is another's.
 */
static int span_stays(const struct client *c, uint32_t segment)
{
	return !(segment_pages(c->pool, segment)->flags & PAGE_ADOPTED) && segment_span_of(c->pool, segment) <= c->span_max &&
	       (c->span_kept == SEGMENT_NONE || c->span_kept == segment);
}

void page_idle(struct client *c, const struct page_fmt *entry)
{
	if (entry->flags & PAGE_ADOPTED || c->idle > c->idle_max + a64_load_relaxed(&c->slot->segments_owned) / 16)
		c->tidy = 1;
}

void page_put_slow(struct client *c, struct page_fmt *run)
{
	struct page_fmt *entry = run_segment(c, run);
	uint32_t p = (uint32_t)(run - entry), segment = off_segment(c->pool, off_of(c->pool, run));

	if (page_used(run) > run->capacity)
		return;	/* runs_keep() */
	if (run->used & PAGE_UNLISTED) {
		if (!run_sane(c, segment_span_of(c->pool, segment), p, run))
			return;	/* a damaged table has kept the run from the lists: page_adopted() */
		if (run->bin != BIN_NONE) {
			list_push_second(c, run);
		} else if (run->pages >= PAGES_PER_SEGMENT) {
			if (span_stays(c, segment))
				c->span_kept = segment;
			else
				c->tidy = 1;
			return;
		} else {
			run_close(c, run);
		}
	}
	if (page_used(run) || run->flags & RUN_EMPTIED)
		return;
	if (run->bin != BIN_NONE)
		run_emptied(c, run);
	if (!entry->used)
		page_idle(c, entry);
}

void page_close_empty(struct client *c)
{
	if (!c->pages_empty)
		return;
	for (uint32_t b = 0; b < BINS; b++) {
		struct page_fmt *run = c->bin[b];

		while (run) {
			struct page_fmt *after = run->next ? page_by_id(c, run->next) : NULL;

			if (page_used(run))
				run_unempty(c, run);
			else
				run_close(c, run);
			run = after;
		}
	}
}

/* No run of it counts: is there nothing in it, then?  If there is, that counts from now on. */
static int segment_idle(struct client *c, struct page_fmt *entry)
{
	uint32_t count = 0;

	for (uint32_t p = 1; p < PAGES_PER_SEGMENT; p++) {
		uint32_t kind = a32_load_relaxed(&entry[p].kind);

		if (kind == PAGE_BLOCKS && page_used(&entry[p])) {
			count++;
			run_not_empty(c, &entry[p]);
		} else if (kind == PAGE_ROOTS) {
			count++;
		}
	}
	if (!count)
		return 1;
	entry->used = count;
	c->idle -= c->idle > 0;
	return 0;
}

static void segment_close(struct client *c, uint32_t segment)
{
	struct page_fmt *entry = segment_pages(c->pool, segment);

	for (uint32_t p = 1; p < PAGES_PER_SEGMENT; p++)
		if (a32_load_relaxed(&entry[p].kind) == PAGE_BLOCKS)
			run_close(c, &entry[p]);
	c->idle -= c->idle > 0;
	segment_release(c, segment);
	c->segment_cursor = SEGMENT_NONE;
	if (c->roots_segment == segment)
		c->roots_segment = SEGMENT_NONE;
}

#define DUE_MOST 8u	/* segments that one call gives back when it has something else to do: a quarter of a trim */

/* Give back, of what is empty, all but so many segments, and but for a span that may stay; until so many have gone. */
static uint32_t sweep(struct client *c, uint32_t idle_keep, int span_keep, uint32_t most)
{
	uint32_t given = 0, next;

	c->tidy = 0;
	c->span_kept = SEGMENT_NONE;
	for (uint32_t s = owned_next(c, SEGMENT_NONE); s != SEGMENT_NONE && given < most; s = next) {
		struct page_fmt *entry = segment_pages(c->pool, s);
		uint32_t length;

		next = owned_next(c, s);
		if (!segment_is_mine(c, s))
			continue;
		length = segment_span_of(c->pool, s);
		if (length == 1) {
			if (!entry->used && (entry->flags & PAGE_ADOPTED || c->idle > idle_keep) && segment_idle(c, entry) &&
			    !a128_value_relaxed(&c->pool->segment_table[s].remote)) {
				segment_close(c, s);
				given++;
			}
		} else if (span_empty(c, s)) {
			if (span_keep && span_stays(c, s)) {
				c->span_kept = s;
			} else {
				segment_release(c, s);
				given += length;
			}
		}
	}
	c->segment_cursor = owned_next(c, SEGMENT_NONE);
	return given;
}

void page_sweep_all(struct client *c)
{
	(void)sweep(c, 0, 0, UINT32_MAX);
}

void page_sweep_due(struct client *c)
{
	if (sweep(c, c->idle_max, 1, DUE_MOST) >= DUE_MOST)
		c->tidy = 1;	/* the next one goes on */
}

void page_sweep_trim(struct client *c, uint32_t most)
{
	c->trim_more = sweep(c, c->trim_max, 0, most) >= most;
}
