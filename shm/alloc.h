/* SPDX-License-Identifier: MIT */
/*
 * alloc: size classes, and the two short paths that everything waits for: making and freeing a private object.
 *
 * The order of an allocation: the root points at the block; the header becomes LIVE.  A root that points at a
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
 * Root, then header.  value: the LIVE header; its stamp stays the free list's link, for nobody compares it before
 * ref_expose() or ref_attach() writes one.  host: write back.
 * Pairs: recovery of this client.  Crash behind `rooted`: the block is still FREE, recovery empties the root.
 * Behind `live`: an object with one reference, which recovery drops.
 */
static inline void alloc_commit(struct client *c, struct root_fmt *row, struct object_fmt *object, uint64_t block,
				uint64_t value, int host)
{
	a64_store_release(&row->object, block);
	persist_if(host, row, sizeof(*row));
	CRASH_POINT(c, alloc, rooted);
	a128_store_value_release(&object->word, value);
	persist_if(host, object, sizeof(*object));
	CRASH_POINT(c, alloc, live);
	a64_count(&c->slot->allocations);
}

/*
 * The shortest path: a heap object of 1 to short_bytes bytes without slots, where a row and a block are at hand.
 * 1 if done.
 */
static inline int alloc_short(struct client *c, uint64_t payload_bytes, cxlshm_ref *ref)
{
	uint64_t slack = -payload_bytes & 15;
	uint64_t value = 1 | (uint64_t)OBJECT_LIVE << OBJECT_STATE_SHIFT;
	uint64_t free_row = c->root_free;
	struct object_fmt *object;
	struct page_fmt *run;
	struct root_fmt *row;
	uint64_t link;

	if (__builtin_expect(payload_bytes - 1 >= c->short_bytes || !free_row, 0))
		return 0;
	run = c->bin[(payload_bytes + sizeof(*object) + 15) >> 4];
	if (__builtin_expect(!run, 0))
		return 0;
	link = run->free;
	if (__builtin_expect(!link, 0))
		return 0;
	object = (struct object_fmt *)(c->link_base + link);
	run->free = a128_stamp_relaxed(&object->word);
	run->used++;
	row = (struct root_fmt *)(c->free_base + free_row);
	c->root_free = a64_load_relaxed(&row->object);
	if (slack) {
		value |= OBJECT_SLACK;
		((char *)object)[sizeof(*object) + payload_bytes + slack - 1] = (char)slack;
	}
	alloc_commit(c, row, object, stamp_link_off(link), value, 0);
	*ref = free_row ^ c->tag_free;
	return 1;
}

/* The way for all others: any size without slots, any pool. */
int alloc_data(struct client *c, uint64_t payload_bytes, struct root_fmt **row) __attribute__((cold));

/* Behind the block's FREE header: the row becomes a free one.  Crash before: recovery empties the root. */
static inline void alloc_unroot(struct client *c, struct root_fmt *row, uint64_t row_off, int host)
{
	CRASH_POINT(c, alloc, freed);
	a64_store_release(&row->object, c->root_free);
	c->root_free = row_off | ROOT_FREE;
	persist_if(host, row, sizeof(*row));
	CRASH_POINT(c, alloc, unrooted);
	a64_count(&c->slot->frees);
}

/* A private object without slots, and this its last reference? */
static inline int alloc_is_simple(uint64_t header)
{
	return (header & ~OBJECT_SLACK) == (1 | (uint64_t)OBJECT_LIVE << OBJECT_STATE_SHIFT);
}

/* The rest of alloc_release_short(), where its run is listed again or empty.  0. */
int alloc_release_rest(struct client *c, struct root_fmt *row, uint64_t row_off, struct page_fmt *run)
	__attribute__((cold, noinline));

/*
 * The short way out: a private object without slots, its last reference, in the client's own segment.  If it is not
 * that, what otherwise() returns for the row's offset; else 0.  For a pool that is neither host nor forked, and a client
 * that does not act for another.
 * LIVE to FREE in one header: no log, no read-modify-write.
 * Crash behind `freed`: the root points at a FREE block; recovery empties it.
 */
static inline int alloc_release_short(struct client *c, struct root_fmt *row, uint64_t row_off,
				      int (*otherwise)(struct client *c, uint64_t row_off))
{
	char *base = c->base;
	uint64_t block = a64_load_relaxed(&row->object);
	struct object_fmt *object;
	struct page_fmt *run;

	if ((int64_t)block < 0)	/* a free row */
		return otherwise(c, row_off);
	object = (struct object_fmt *)(base + block);
	/*
	 * An empty row leads to the superblock's magic, which is no such header.  A private object is
	 * in a segment of its only holder: alloc.c takes it from there, and who hands a reference on exposes the object.
	 */
	if (!alloc_is_simple(a128_value_relaxed(&object->word)))
		return otherwise(c, row_off);
	run = page_at(c, base, block);
	if (__builtin_expect(page_put(run, object, block), 0))
		return alloc_release_rest(c, row, row_off, run);
	alloc_unroot(c, row, row_off, 0);
	return 0;
}

/* The same for any pool and any client. */
int alloc_release_private(struct client *c, struct root_fmt *row, uint64_t row_off);

#endif
