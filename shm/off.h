/* SPDX-License-Identifier: MIT */
/*
 * Offsets in the pool to pointers in this process, checked before they are followed; but for those in a client's own rows,
 * which the shortest calls (release, attach) follow as they are.
 */
#ifndef CXLSHM_OFF_H
#define CXLSHM_OFF_H

#include "pool.h"

static inline void *off_ptr(const struct pool *pool, uint64_t off)
{
	return pool->base + off;
}

static inline uint64_t off_of(const struct pool *pool, const volatile void *p)
{
	return (uint64_t)((const volatile char *)p - pool->base);
}

static inline uint32_t off_segment(const struct pool *pool, uint64_t off)
{
	return (uint32_t)(off >> pool->segment_shift);
}

/* Can an object be at off, the smallest there is?  In a claimable segment, behind its header page, aligned. */
static inline int off_is_object(const struct pool *pool, uint64_t off)
{
	return !(off & 15) && off - pool->objects_off < pool->objects_bytes && (off & pool->segment_low) >= pool->page_bytes;
}

/* Do bytes from off lie in the heap? */
static inline int off_in_heap(const struct pool *pool, uint64_t off, uint64_t bytes)
{
	return off && off < pool->heap_bytes && bytes <= pool->heap_bytes - off;
}

static inline struct object_fmt *off_object(const struct pool *pool, uint64_t off)
{
	return (struct object_fmt *)(pool->base + off);
}

static inline char *object_payload(struct object_fmt *object)
{
	return (char *)(object + 1);
}

/* The 8-byte word that holds slot i: a field, or the value half of a cell. */
static inline struct a64 *object_slot(struct object_fmt *object, uint64_t header, uint32_t i)
{
	return (struct a64 *)(object_payload(object) + i * object_slot_bytes(header));
}

static inline struct cell_fmt *object_cell(struct object_fmt *object, uint32_t i)
{
	return (struct cell_fmt *)object_payload(object) + i;
}

static inline struct attr_fmt *object_attr(struct object_fmt *object, uint64_t header)
{
	return (struct attr_fmt *)(object_payload(object) + 16ull * object_slots(header));
}

static inline struct queue_fmt *object_queue(struct object_fmt *object, uint64_t header)
{
	return (struct queue_fmt *)(object_payload(object) + 16ull * object_slots(header));
}

static inline struct page_fmt *segment_pages(const struct pool *pool, uint32_t segment)
{
	return (struct page_fmt *)(pool->base + ((uint64_t)segment << pool->segment_shift));
}

#endif
