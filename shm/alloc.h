/* SPDX-License-Identifier: MIT */
/*
 * alloc: size classes, and the two short paths that everything waits for: making and freeing a private object.
 *
 * The order of an allocation: the root points at the block; the header becomes LIVE; the bump.  A root that points at a
 * FREE block of its own client's segment is an allocation that did not happen, or a release that did.
 *
 * All calls are the owner's and wait-free, but for claiming segments.
 */
#ifndef CXLSHM_ALLOC_H
#define CXLSHM_ALLOC_H

#include <string.h>

#include "root.h"

#define ALLOC_BYTES_MAX (1ull << 46)
#define ALLOC_ALIGNED_FIRST (4096u - (uint32_t)sizeof(struct object_fmt))

struct alloc_kind {
	enum object_kind kind;
	uint32_t slots;
	int cells;
	int zero;	/* all of the payload, not only the slots */
	int aligned;
};

/* Payload bytes of a live object, as asked for. */
uint64_t alloc_size(const struct client *c, uint64_t off, uint64_t header);

/* Any object: a root to a LIVE private object with count 1 in *row.  -ENOSPC, -EINVAL. */
int alloc_object(struct client *c, uint64_t payload_bytes, const struct alloc_kind *kind, struct root_fmt **row);

/* Size class of a block of that many 16-byte units; page_bin_units() is the way back. */
static inline uint32_t alloc_bin(uint64_t units)
{
	uint32_t e;

	if (units <= 32)
		return (uint32_t)units;
	units--;
	e = 63 - (uint32_t)__builtin_clzll(units);
	return 32 + (e - 5) * 8 + (uint32_t)(units >> (e - 3) & 7) + 1;
}

/* Total bytes of a block for that payload: a header, 16-byte units, and room for the remote list's link. */
static inline uint64_t alloc_total(uint64_t payload_bytes)
{
	uint64_t total = (payload_bytes + sizeof(struct object_fmt) + 15) & ~15ull;

	return total < 32 ? 32 : total;
}

/*
 * Root, header, bump.  value: the LIVE header; host: write back.
 * Pairs: recovery of this client.  Crash behind `rooted`: the block is still FREE, recovery empties the root.
 * Behind live_value or live: an object with one reference, which recovery drops.
 */
static inline void alloc_commit(struct client *c, struct root_fmt *row, struct object_fmt *object, uint64_t block,
				uint64_t value, int host)
{
	a64_store_release(&row->object, block);
	a64_store_relaxed(&row->local, 1);
	persist_if(host, row, sizeof(*row));
	CRASH_POINT(c, alloc, rooted);
	a128_store_value_release(&object->word, value);
	CRASH_POINT(c, alloc, live_value);
	a128_store_stamp_release(&object->word, era_stamp(c));
	persist_if(host, object, sizeof(*object));
	CRASH_POINT(c, alloc, live);
	era_bump_if(c, host);
	a64_count(&c->slot->allocations);
}

/*
 * The shortest path: a heap object of 1 to ALLOC_SHORT_BYTES bytes without slots, where a row and a block are at hand.
 * 1 if done.
 */
#define ALLOC_SHORT_BYTES 496u

static inline int alloc_short(struct client *c, uint64_t payload_bytes, uint64_t *row_off)
{
	uint64_t total = (payload_bytes + sizeof(struct object_fmt) + 15) & ~15ull;
	uint64_t value = 1 | (uint64_t)OBJECT_LIVE << OBJECT_STATE_SHIFT;
	uint64_t off = c->root_free;
	char *base = c->base;
	struct object_fmt *object;
	struct page_fmt *run;
	struct root_fmt *row;
	uint64_t block;

	if (__builtin_expect(payload_bytes - 1 >= ALLOC_SHORT_BYTES || c->pool->special || !off, 0))
		return 0;
	run = c->bin[total >> 4];
	if (__builtin_expect(!run || !run->free, 0))
		return 0;
	block = run->free;
	object = (struct object_fmt *)(base + block);
	run->free = stamp_link_off(a128_stamp_relaxed(&object->word));
	run->used++;
	row = (struct root_fmt *)(base + off);
	c->root_free = a64_load_relaxed(&row->local);
	if (total != payload_bytes + sizeof(*object)) {
		value |= OBJECT_SLACK;
		((char *)object)[total - 1] = (char)(total - sizeof(*object) - payload_bytes);
	}
	alloc_commit(c, row, object, block, value, 0);
	*row_off = off;
	return 1;
}

/* The way for all others: any size without slots, any pool. */
int alloc_data(struct client *c, uint64_t payload_bytes, struct root_fmt **row) __attribute__((cold));

/*
 * The short way out: a private object without slots, its last reference, in the client's own segment.  1 if done.
 * plain: the pool is not special and the client does not act for another.
 * LIVE to FREE in one header: no log, no read-modify-write.
 * Crash behind `freed`: the root points at a FREE block; recovery empties it.
 */
static inline int alloc_release_private(struct client *c, struct root_fmt *row, uint64_t row_off, int plain)
{
	int host = plain ? 0 : c->pool->host;
	char *base = c->base;
	uint64_t block = a64_load_relaxed(&row->object);
	uint64_t value = a128_value_relaxed(&((struct object_fmt *)(base + block))->word);

	/* An empty row leads to the superblock's magic, which is no such header. */
	if ((value & ~OBJECT_SLACK) != (1 | (uint64_t)OBJECT_LIVE << OBJECT_STATE_SHIFT) ||
	    !segment_is_mine(c, (uint32_t)(block >> c->segment_shift)))
		return 0;
	if (plain)
		page_put(c, base, page_at(c, base, block), block, 0);
	else
		page_free_local(c, page_at(c, base, block), block);
	CRASH_POINT(c, alloc, freed);
	a64_store_release(&row->object, 0);
	persist_if(host, row, sizeof(*row));
	CRASH_POINT(c, alloc, unrooted);
	a64_store_relaxed(&row->local, c->root_free);
	c->root_free = row_off;
	a64_count(&c->slot->frees);
	page_tidy(c);
	return 1;
}

#endif
