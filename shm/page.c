/* SPDX-License-Identifier: MIT */
/*
 * Runs of pages and their free lists; see page.h.  Freeing across clients is in page_remote.c.
 *
 * Entry 0 of a segment's page table describes the header page, so its field `free` serves as the owner's mask of free
 * pages (bit p: page p is in no run), its field `flags` says PAGE_ADOPTED; like the lists both are built anew by an adopter.
 */
#include "page.h"

#include <errno.h>
#include <string.h>

#define ALL_PAGES (~1ull)
#define USED_KEPT (1u << 30)	/* page_fmt.used of a run in a damaged table: it never counts as empty */

static uint64_t *free_mask(const struct client *c, uint32_t segment)
{
	return &segment_pages(c->pool, segment)->free;
}

/* ---- the bins' lists ---- */

static void list_push(struct client *c, struct page_fmt *run)
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
static void list_push_second(struct client *c, struct page_fmt *run)
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

static uint64_t mask_of(uint32_t page, uint32_t n)
{
	return (n >= 64 ? ~0ull : (1ull << n) - 1) << page;
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

/*
 * Close an empty run.  Crash before: an empty run, which an adopter closes.  After: its pages are free.
 */
static void run_close(struct client *c, struct page_fmt *run)
{
	uint32_t id = page_id(c, run);
	uint32_t segment = id / PAGES_PER_SEGMENT;

	page_unlist(c, run);
	a32_store_release(&run->kind, PAGE_FREE);
	persist(c->pool, run, sizeof(*run));
	CRASH_POINT(c, page, run_closed);
	*free_mask(c, segment) |= mask_of(id % PAGES_PER_SEGMENT, run->pages);
	c->segment_cursor = segment;
}

/* The next segment of the client's list, or SEGMENT_NONE; checked, for it was read from the pool. */
static uint32_t owned_next(const struct client *c, uint32_t segment)
{
	uint64_t next = segment == SEGMENT_NONE ? a64_load_relaxed(&c->slot->segments_head)
						: a64_load_relaxed(&c->pool->segment_table[segment].next);

	return next >= c->pool->first_segment && next < c->pool->segments ? (uint32_t)next : SEGMENT_NONE;
}

static int find_pages(struct client *c, uint32_t pages, uint32_t *segment, uint32_t *page)
{
	uint32_t s = c->segment_cursor;

	if (s != SEGMENT_NONE && segment_is_mine(c, s) && (*page = mask_find(*free_mask(c, s), pages))) {
		*segment = s;
		return 0;
	}
	for (s = owned_next(c, SEGMENT_NONE); s != SEGMENT_NONE; s = owned_next(c, s)) {
		if (!segment_is_mine(c, s) || !(*page = mask_find(*free_mask(c, s), pages)))
			continue;
		c->segment_cursor = s;
		*segment = s;
		return 0;
	}
	c->segment_cursor = SEGMENT_NONE;
	return -ENOSPC;
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
	list_push(c, run);
	*out = run;
	return 0;
}

/* Is this a span of segments whose block is free? */
static int span_empty(struct client *c, uint32_t segment)
{
	return segment_span_of(c->pool, segment) > 1 && !page_used(&segment_pages(c->pool, segment)[1]);
}

int page_span_new(struct client *c, uint64_t block_bytes, uint32_t first, struct page_fmt **run)
{
	uint64_t bytes = block_bytes + first + (1ull << c->pool->page_shift);
	uint32_t count = (uint32_t)((bytes + (1ull << c->pool->segment_shift) - 1) >> c->pool->segment_shift);
	uint32_t head;
	int rc;

	for (uint32_t s = owned_next(c, SEGMENT_NONE); s != SEGMENT_NONE; s = owned_next(c, s)) {
		struct page_fmt *kept = segment_pages(c->pool, s) + 1;

		if (!segment_is_mine(c, s) || !span_empty(c, s) || segment_span_of(c->pool, s) < count ||
		    segment_span_of(c->pool, s) / 2 > count || kept->first != first ||
		    kept->block_bytes < block_bytes)
			continue;
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

	rc = find_pages(c, 1, &segment, &page);
	if (rc)
		return rc;
	off = ((uint64_t)segment << c->pool->segment_shift) + ((uint64_t)page << c->pool->page_shift);
	memset(off_ptr(c->pool, off), 0, 1ul << c->pool->page_shift);
	persist(c->pool, off_ptr(c->pool, off), 1ul << c->pool->page_shift);
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
		page_sweep(c, 0);
		return 0;
	}
	if (rc)
		return rc;
	*free_mask(c, segment) = ALL_PAGES;
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

/* Does the run of entry p of so many segments say what can be?  Its table is from the pool, and was another's. */
static int run_sane(const struct client *c, uint32_t segments, uint32_t p, const struct page_fmt *run)
{
	uint64_t pages = (uint64_t)segments * PAGES_PER_SEGMENT - p;

	return run->pages && run->pages <= pages && run->block_bytes >= 32 && !(run->block_bytes & 15) &&
	       !(run->first & 15) && run->first < (uint64_t)run->pages << c->pool->page_shift &&
	       run->block_bytes <= ((uint64_t)run->pages << c->pool->page_shift) - run->first &&
	       run->capacity <= (((uint64_t)run->pages << c->pool->page_shift) - run->first) / run->block_bytes &&
	       (run->bin == BIN_NONE ? run->capacity == 1
				     : run->bin < BINS && page_bin_units(run->bin) << 4 == run->block_bytes);
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
		else if (run->pages < PAGES_PER_SEGMENT)
			run_close(c, run);
		else
			c->tidy = 1;
	}
	if (page_used(run))
		return;
	c->emptied += segment_pages(c->pool, off_segment(c->pool, off_of(c->pool, run)))->flags & PAGE_ADOPTED ? run->pages : 1;
	if (c->emptied >= c->sweep_at)
		c->tidy = 1;
}

/* Does an owned segment hold nothing but empty runs? */
static int segment_idle(struct client *c, uint32_t segment)
{
	struct page_fmt *entry = segment_pages(c->pool, segment);

	if (!segment_is_mine(c, segment) || segment_span_of(c->pool, segment) > 1 ||
	    a128_value_relaxed(&c->pool->segment_table[segment].remote))
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
}

uint32_t page_sweep_some(struct client *c, uint32_t keep, uint32_t most)
{
	uint32_t given = 0, kept = 0, spans = 0, idle_max = keep ? keep / (PAGES_PER_SEGMENT - 1) + 1 : 0, idle = 0;
	uint32_t next, segments = 0, adopted = 0, given_back = 0;

	c->emptied = 0;
	c->tidy = 0;
	for (uint32_t s = owned_next(c, SEGMENT_NONE); s != SEGMENT_NONE; s = next) {
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
		if (segment_is_mine(c, s) && segment_pages(c->pool, s)->flags & PAGE_ADOPTED) {
			if (given < most && segment_idle(c, s)) {
				segment_close(c, s);
				given_back = 1;
				given++;
				continue;
			}
			adopted++;
		} else if (given < most && segment_idle(c, s) && ++idle > idle_max) {
			segment_close(c, s);
			given++;
			continue;
		}
		segments++;
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

/* ---- adopting and retiring ---- */

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
	c->sweep_at = 1;
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
	if (!keep_empty && *free_mask(c, segment) == ALL_PAGES)
		segment_release(c, segment);
	else
		c->segment_cursor = segment;
}

int page_collect_some(struct client *c, uint32_t most)
{
	uint32_t s = c->collect_cursor;
	int any = 0;

	if (s == SEGMENT_NONE || !segment_is_mine(c, s))
		s = owned_next(c, SEGMENT_NONE);
	for (; s != SEGMENT_NONE && most; most--, s = owned_next(c, s))
		if (segment_is_mine(c, s) && a128_value_relaxed(&c->pool->segment_table[s].remote))
			any |= page_collect(c, s);
	c->collect_cursor = s;
	return any;
}

int page_collect_all(struct client *c)
{
	/* From the list's head, or those before the cursor would be left out. */
	c->collect_cursor = SEGMENT_NONE;
	return page_collect_some(c, UINT32_MAX);
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
