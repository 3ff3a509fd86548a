/* SPDX-License-Identifier: MIT */
/*
 * alloc: size classes, and the two short paths that everything waits for: making and freeing a private object.
 *
 * The order of an allocation: the root points at the block; the header becomes LIVE; the bump.  A root that points at a
 * FREE block of its own client's segment is an allocation that did not happen, or a release that did.
 *
 * All calls are the owner's and wait-free, but for claiming segments.
 */
#ifndef SHM_ALLOC_H
#define SHM_ALLOC_H

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

/* A block of at least total_bytes (header included) with a private FREE header.  -ENOSPC. */
int alloc_block_slow(struct client *c, uint64_t total_bytes, int aligned, struct page_fmt **run, uint64_t *block);

/* Note in the block that the payload is shorter than it could be; the header carries OBJECT_SLACK. */
void alloc_note_slack(struct object_fmt *object, uint64_t block_bytes, uint64_t payload_bytes);

/* Payload bytes of a live object, as asked for. */
uint64_t alloc_size(const struct client *c, uint64_t off, uint64_t header);

/* Any object: a root to a LIVE private object with count 1 in *row.  -ENOSPC, -EINVAL. */
int alloc_object(struct client *c, uint64_t payload_bytes, const struct alloc_kind *kind, struct root_fmt **row);

/* Size class of a block of that many 16-byte units; units of the class. */
static inline uint32_t alloc_bin(uint64_t units)
{
	uint32_t e;

	if (units <= 32)
		return (uint32_t)units;
	units--;
	e = 63 - (uint32_t)__builtin_clzll(units);
	return 32 + (e - 5) * 8 + (uint32_t)(units >> (e - 3) & 7) + 1;
}

static inline uint64_t alloc_bin_units(uint32_t bin)
{
	uint32_t e;

	if (bin <= 32)
		return bin;
	bin -= 33;
	e = bin / 8 + 5;
	return (uint64_t)(9 + bin % 8) << (e - 3);
}

/* Total bytes of a block for that payload: a header, 16-byte units, and room for the remote list's link. */
static inline uint64_t alloc_total(uint64_t payload_bytes)
{
	uint64_t total = (payload_bytes + sizeof(struct object_fmt) + 15) & ~15ull;

	return total < 32 ? 32 : total;
}

static inline void alloc_count(struct a64 *counter)
{
	a64_store_relaxed(counter, a64_load_relaxed(counter) + 1);
}

/*
 * Root, header, bump.  value: the LIVE header.
 * Pairs: recovery of this client.  Crash behind `rooted`: the block is still FREE, recovery empties the root.
 * Behind live_value or live: an object with one reference, which recovery drops.
 */
static inline void alloc_commit(struct client *c, struct root_fmt *row, uint64_t block, uint64_t value)
{
	struct object_fmt *object = off_object(c->pool, block);

	a64_store_release(&row->object, block);
	a64_store_relaxed(&row->local, 1);
	persist(c->pool, row, sizeof(*row));
	CRASH_POINT(c, alloc, rooted);
	a128_store_value_release(&object->word, value);
	CRASH_POINT(c, alloc, live_value);
	a128_store_stamp_release(&object->word, era_stamp(c));
	persist(c->pool, object, sizeof(*object));
	CRASH_POINT(c, alloc, live);
	era_bump(c);
	alloc_count(&c->slot->allocations);
}

/* The short path: a heap object without slots. */
static inline int alloc_data(struct client *c, uint64_t payload_bytes, struct root_fmt **out)
{
	uint64_t total = alloc_total(payload_bytes);
	uint64_t value = 1 | (uint64_t)OBJECT_LIVE << OBJECT_STATE_SHIFT;
	struct root_fmt *row;
	struct page_fmt *run;
	uint64_t block;
	int rc;

	rc = root_take(c, &row);
	if (__builtin_expect(rc, 0))
		return rc;
	run = NULL;
	if (__builtin_expect(payload_bytes <= 4096, 1))
		run = c->bin[alloc_bin(total >> 4)];
	if (__builtin_expect(run && run->free, 1)) {
		block = run->free;
		run->free = stamp_link_off(a128_stamp_relaxed(&off_object(c->pool, block)->word));
		run->used++;
	} else {
		rc = alloc_block_slow(c, total, 0, &run, &block);
		if (rc) {
			root_give(c, row);
			return rc;
		}
	}
	if (run->block_bytes != payload_bytes + sizeof(struct object_fmt)) {
		value |= OBJECT_SLACK;
		alloc_note_slack(off_object(c->pool, block), run->block_bytes, payload_bytes);
	}
	alloc_commit(c, row, block, value);
	*out = row;
	return 0;
}

/*
 * The short way out: a private object without slots, its last reference, in the client's own segment.  1 if done.
 * LIVE to FREE in one header: no log, no read-modify-write.
 * Crash behind `freed`: the root points at a FREE block; recovery empties it.
 */
static inline int alloc_release_private(struct client *c, struct root_fmt *row, uint64_t block)
{
	uint64_t value = a128_value_relaxed(&off_object(c->pool, block)->word);

	if ((value & ~OBJECT_SLACK) != (1 | (uint64_t)OBJECT_LIVE << OBJECT_STATE_SHIFT) ||
	    !segment_is_mine(c, off_segment(c->pool, block)))
		return 0;
	page_free_local(c, page_of(c, block), block);
	CRASH_POINT(c, alloc, freed);
	a64_store_release(&row->object, 0);
	persist(c->pool, row, sizeof(*row));
	CRASH_POINT(c, alloc, unrooted);
	root_give(c, row);
	alloc_count(&c->slot->frees);
	page_tidy(c);
	return 1;
}

#endif
