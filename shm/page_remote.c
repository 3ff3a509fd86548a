/* SPDX-License-Identifier: MIT */
/*
 * Blocks that a client frees: at the top of its dead list, with no slots left.  In its own segment a POP makes them
 * FREE, zeroed if the segment was another's; in another client's a PUSH hands them to the owner over the segment's remote
 * list, from which the owner's COLLECT makes them FREE.  In an orphan's: adopt it first, so that memory whose last user
 * frees it is given back.
 */
#include "page_runs.h"

#include <string.h>

/* ---- a block of one's own ---- */

void page_apply_pop(struct client *c, const struct redo_fmt *r)
{
	struct object_fmt *object = off_object(c->pool, r->object);

	if (object_state(a128_value_relaxed(&object->word)) == OBJECT_DEAD)
		page_free_local(c, page_of(c, r->object), r->object);
	CRASH_POINT(c, page, pop_freed);
	a64_store_release(&c->slot->dead_top, r->next);
	persist(c->pool, &c->slot->dead_top, 8);
	CRASH_POINT(c, page, popped);
}

/*
 * A block in an adopted segment is one that another client wrote: zeroed before it is on our free lists.  All its slots are
 * empty by now, so a DEAD block may be zeroed again.  Not for who acts for a dead client, nor a span of segments: the former
 * allocates nothing and who adopts from it zeroes, the latter goes back by a sweep, and is not used again before (page_span_new()).
 * Crash: the block is still on top of the dead list, and recovery comes here again.
 */
static void scrub_adopted(struct client *c, uint32_t segment, uint64_t block)
{
	struct object_fmt *object = off_object(c->pool, block);
	uint64_t bytes;

	if (c->acting || !(segment_pages(c->pool, segment)->flags & PAGE_ADOPTED) || segment_span_of(c->pool, segment) > 1)
		return;
	bytes = page_block_room(c, block) - sizeof(*object);
	memset(object_payload(object), 0, bytes);
	persist(c->pool, object_payload(object), bytes);
	CRASH_POINT(c, page, pop_scrubbed);
}

/*
 * Committed by its seal.  Crash at any point behind it: recovery frees the block if it is still DEAD, and pops; nobody
 * else touches a DEAD block, and who acts for the dead client allocates nothing.
 */
static void pop(struct client *c, uint64_t block, uint64_t next_dead)
{
	struct redo_fmt *r = redo_begin(c, REDO_POP);

	r->word = 0;
	r->object = block;
	r->next = next_dead;
	redo_seal(c, r);
	page_apply_pop(c, r);
	era_bump(c);
	page_tidy(c);
}

/* ---- a block of another's ---- */

void page_apply_push(struct client *c, const struct redo_fmt *r)
{
	a64_store_release(&c->slot->dead_top, r->next);
	persist(c->pool, &c->slot->dead_top, 8);
	CRASH_POINT(c, page, push_unlisted);
}

static void push_remote(struct client *c, uint32_t segment, uint64_t block, uint64_t next_dead)
{
	struct a128 *remote = &c->pool->segment_table[segment].remote;
	struct object_fmt *object = off_object(c->pool, block);
	uint64_t value = a128_value_relaxed(&object->word);
	struct a64 *next = (struct a64 *)object_payload(object);

	/*
	 * LIMBO: no longer to be found by who rebuilds free lists or recovers our dead list.  The stamp stays the dead
	 * list's link.  Crash: the block is still on top of our dead list, and recovery comes here again.
	 */
	if (object_state(value) == OBJECT_DEAD) {
		uint64_t bytes = page_block_room(c, block);

		memset(next, 0, bytes - sizeof(*object));
		a128_store_value_release(&object->word, object_with_state(value, OBJECT_LIMBO));
		persist(c->pool, object, bytes);
		CRASH_POINT(c, page, push_limbo);
	}
	for (;;) {
		struct stamped old = a128_load_acquire(remote);
		struct redo_fmt *r;

		a64_store_release(next, old.value);
		persist(c->pool, next, 8);
		CRASH_POINT(c, page, push_next);
		r = redo_begin(c, REDO_PUSH);
		r->word = off_of(c->pool, remote);
		r->object = block;
		r->next = next_dead;
		r->look = segment;
		redo_seal(c, r);
		/* Pairs: page_collect().  Crash after: on the list; the record pops it from ours. */
		if (!era_cas(c, remote, old, block))
			continue;
		CRASH_POINT(c, page, push_swapped);
		page_apply_push(c, r);
		era_bump(c);
		return;
	}
}

/*
 * Pairs: who else looks at the segment: either who pushed sees that nobody owns it, or who orphaned it sees the block.  Crash
 * before, or until it is adopted: the record still says that it is to be looked at, and recovery does.
 */
void page_look(struct client *c, uint32_t segment)
{
	fence_seq_cst();
	if (segment_state_of(c->pool, segment) == SEGMENT_ORPHAN &&
	    a128_load_acquire(&c->pool->segment_table[segment].remote).value && !segment_adopt(c, segment))
		page_adopted(c, segment, 0);
}

void page_bury(struct client *c, uint64_t block, uint64_t next_dead)
{
	uint32_t segment = off_segment(c->pool, block);
	uint64_t value = a128_value_relaxed(&off_object(c->pool, block)->word);

	if (object_state(value) == OBJECT_DEAD) {
		if (!segment_is_mine(c, segment) && !segment_adopt(c, segment))
			page_adopted(c, segment, 1);
		if (segment_is_mine(c, segment)) {
			scrub_adopted(c, segment, block);
			pop(c, block, next_dead);
			return;
		}
	}
	/* LIMBO: a push that a crash cut short, even if the segment is ours by now. */
	push_remote(c, segment, block, next_dead);
	page_look(c, segment);
}

/* ---- taking what others freed ---- */

void page_apply_collect(struct client *c, const struct redo_fmt *r)
{
	uint64_t left = c->pool->heap_bytes / 32;	/* no chain is longer, but for one in a circle */
	uint64_t block = r->object;

	/* The chain is linked through the payloads, which stay as they are until the record ends. */
	while (off_is_object(c->pool, block) && left--) {
		struct object_fmt *object = off_object(c->pool, block);

		if (object_state(a128_value_relaxed(&object->word)) == OBJECT_LIMBO &&
		    a32_load_relaxed(&page_of(c, block)->kind) == PAGE_BLOCKS &&
		    (c->acting || segment_is_mine(c, off_segment(c->pool, block))))
			page_free_local(c, page_of(c, block), block);
		CRASH_POINT(c, page, collect_block);
		block = a64_load_acquire((struct a64 *)object_payload(object));
	}
}

int page_collect(struct client *c, uint32_t segment)
{
	struct a128 *remote = &c->pool->segment_table[segment].remote;

	for (;;) {
		struct stamped old = a128_load_acquire(remote);
		struct redo_fmt *r;

		if (!old.value)
			return 0;
		r = redo_begin(c, REDO_COLLECT);
		r->word = off_of(c->pool, remote);
		r->object = old.value;
		r->aux = segment;
		redo_seal(c, r);
		/*
		 * Pairs: push_remote().  Crash before: nothing happened.  After: the record names the chain, and recovery makes
		 * the rest of it FREE.
		 */
		if (!era_cas(c, remote, old, 0))
			continue;
		CRASH_POINT(c, page, collect_swapped);
		page_apply_collect(c, r);
		era_bump(c);
		return 1;
	}
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
