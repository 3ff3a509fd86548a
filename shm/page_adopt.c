/* SPDX-License-Identifier: MIT */
/*
 * Segments that change hands: what an adopter makes of one, and what a client that retires leaves.
 */
#include "page_runs.h"

#include <string.h>

/*
 * Scrub what a run has before its first block and from the frontier on: blocks of earlier runs may have been there.
 * Crash: some of it is zero, and nobody reads it; the next adopter does all of it.
 */
static void run_scrub_rest(struct client *c, const struct page_fmt *run)
{
	uint32_t frontier = a32_load_relaxed(&run->frontier);
	uint64_t bytes = (uint64_t)run->pages << c->pool->page_shift;
	uint64_t end = run->first + (frontier < run->capacity ? frontier : run->capacity) * run->block_bytes;
	char *start = off_ptr(c->pool, page_block(c, run, 0) - run->first);

	memset(start, 0, run->first);
	memset(start + end, 0, bytes - end);
	persist(c->pool, start, run->first);
	persist(c->pool, start + end, bytes - end);
	CRASH_POINT(c, page, adopt_rest_scrubbed);
}

/*
 * Rebuild one run from its headers, scrubbing what is free: what the former owner left there is not the new one's to
 * read.  Returns blocks in use.
 * Pairs: page_extend(); nobody else writes the header of a FREE block.  Crash: the run counts too few blocks as used, and
 * its list has some of the free ones.  Recovery reads neither, and the next adopter begins anew.
 */
static uint32_t run_rebuild(struct client *c, struct page_fmt *run)
{
	uint32_t frontier = a32_load_acquire(&run->frontier);

	run->free = 0;
	run->used = PAGE_UNLISTED;
	run->flags = 0;
	run->next = run->prev = 0;
	CRASH_POINT(c, page, adopt_unlisted);
	for (uint32_t i = 0; i < frontier && i < run->capacity; i++) {
		uint64_t block = page_block(c, run, i);
		struct object_fmt *object = off_object(c->pool, block);

		if (object_state(a128_value_relaxed(&object->word)) != OBJECT_FREE) {
			run->used++;
			continue;
		}
		memset(object_payload(object), 0, run->block_bytes - sizeof(*object));
		a128_store_value_then_stamp(&object->word, 0, run->free);
		persist(c->pool, object, run->block_bytes);
		/* FREE before and after; FREE with part of its bytes in between. */
		CRASH_POINT(c, page, adopt_scrubbed);
		run->free = stamp_link(block);
	}
	return page_used(run);
}

/*
 * The table from this entry on is damaged: what the former owner noted there is not believed, lists least of all, and
 * none of the runs counts as empty.
 */
static void runs_keep(struct page_fmt *entry, uint32_t p)
{
	entry->flags = 0;
	entry->used = 2 * PAGES_PER_SEGMENT;	/* more than runs can go */
	for (; p < PAGES_PER_SEGMENT; p++) {
		entry[p].free = 0;
		entry[p].used = PAGE_UNLISTED | USED_KEPT;
		entry[p].next = entry[p].prev = 0;
	}
}

/*
 * The segment is on our list already.  Crash at any step below: recovery, which goes by kinds, frontiers and headers alone,
 * gives it back if nothing is in it, or orphans it again; the next adopter does all of this anew, whatever it finds in the
 * mask, the flags, the lists and the counts.
 */
void page_adopted(struct client *c, uint32_t segment, int keep_empty)
{
	struct page_fmt *entry = segment_pages(c->pool, segment);

	if (c->acting)
		return;
	/* Collect by headers alone: the lists are built below. */
	c->acting = 1;
	page_collect(c, segment);
	c->acting = 0;
	*free_mask(c, segment) = 0;
	entry->flags = PAGE_ADOPTED;
	CRASH_POINT(c, page, adopt_masked);
	entry->used = 0;
	for (uint32_t p = 1, pages; p < PAGES_PER_SEGMENT; p += pages) {
		struct page_fmt *run = entry + p;
		void *memory;

		pages = 1;
		if (a32_load_acquire(&run->kind) == PAGE_BLOCKS) {
			if (!run_sane(c, segment_span_of(c->pool, segment), p, run)) {
				/* A damaged pool: nothing behind it is touched.  fsck will say more. */
				runs_keep(entry, p);
				break;
			}
			pages = run->pages;
			if (run_rebuild(c, run)) {
				run_scrub_rest(c, run);
				entry->used += segment_span_of(c->pool, segment) == 1;
				if (run->bin < BINS && (run->free || a32_load_relaxed(&run->frontier) < run->capacity))
					list_push(c, run);
				continue;
			}
			/* Crash in it: CHANGING, and recovery gives the rest back. */
			if (segment_span_of(c->pool, segment) > 1) {
				segment_release(c, segment);
				return;
			}
		}
		/*
		 * Pairs: page_of(); no reference leads here.  Crash before: an empty run.  After: its pages but the first may say
		 * BODY, which the next adopter takes for free ones, and all are scrubbed then.
		 */
		a32_store_release(&run->kind, PAGE_FREE);
		persist(c->pool, run, sizeof(*run));
		CRASH_POINT(c, page, adopt_freed);
		memory = off_ptr(c->pool, ((uint64_t)segment << c->pool->segment_shift) + ((uint64_t)p << c->pool->page_shift));
		memset(memory, 0, (size_t)pages << c->pool->page_shift);
		persist(c->pool, memory, (uint64_t)pages << c->pool->page_shift);
		CRASH_POINT(c, page, adopt_zeroed);
		*free_mask(c, segment) |= mask_of(p, pages);
	}
	if (!keep_empty && *free_mask(c, segment) == ALL_PAGES) {
		segment_release(c, segment);
		return;
	}
	c->segment_cursor = segment;
	if (segment_span_of(c->pool, segment) == 1 && !entry->used) {
		c->idle++;
		page_idle(c, entry);
	}
}

int page_segment_used(struct client *c, uint32_t segment)
{
	struct page_fmt *entry = segment_pages(c->pool, segment);

	for (uint32_t p = 1, pages; p < PAGES_PER_SEGMENT; p += pages) {
		struct page_fmt *run = entry + p;
		uint32_t frontier;

		pages = 1;
		if (a32_load_acquire(&run->kind) != PAGE_BLOCKS)
			continue;
		if (!run_sane(c, segment_span_of(c->pool, segment), p, run))
			return 1;	/* damaged: who knows */
		pages = run->pages;
		frontier = a32_load_acquire(&run->frontier);
		for (uint32_t i = 0; i < frontier && i < run->capacity; i++)
			if (object_state(a128_value_relaxed(&off_object(c->pool, page_block(c, run, i))->word)) !=
			    OBJECT_FREE)
				return 1;
	}
	return 0;
}

/*
 * Rows of a client that holds nothing any more are in nobody's way.
 * Pairs: page_of(), page_segment_used() and adopters.  Crash before: recovery comes here again.  After: a free page, whose
 * bytes the next adopter zeroes.
 */
static void close_roots(struct client *c, uint32_t segment)
{
	struct page_fmt *entry = segment_pages(c->pool, segment);

	for (uint32_t p = 1; p < PAGES_PER_SEGMENT; p++)
		if (a32_load_acquire(&entry[p].kind) == PAGE_ROOTS) {
			a32_store_release(&entry[p].kind, PAGE_FREE);
			persist(c->pool, &entry[p], sizeof(entry[p]));
			CRASH_POINT(c, page, roots_closed);
		}
}

void page_retire(struct client *c)
{
	uint32_t s;

	/* From here on headers say all: the lists would only be thrown away. */
	c->acting = 1;
	while ((s = owned_next(c, SEGMENT_NONE)) != SEGMENT_NONE) {
		if (segment_value_owner(a128_value_relaxed(&c->pool->segment_table[s].word)) != c->cid) {
			/* A damaged list, which leads astray, or in a circle.  Crash after: as if it had owned none. */
			a64_store_release(&c->slot->segments_head, 0);
			break;
		}
		c->done.segments++;
		if (segment_state_of(c->pool, s) == SEGMENT_CHANGING) {
			segment_release(c, s);
			continue;
		}
		page_collect(c, s);
		close_roots(c, s);
		if (!page_segment_used(c, s)) {
			segment_release(c, s);
			continue;
		}
		segment_orphan(c, s);
		page_look(c, s);	/* adopted again, it is back on the list */
	}
}
