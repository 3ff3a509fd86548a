/* SPDX-License-Identifier: MIT */
/*
 * root: a client's table of references, and the handles made of it.
 *
 * A row is in use while root_object() says so.  Free rows are chained, privately; after a death they are
 * told by the same.  The first rows are in the slot's area, more in pages of the client's own segments.
 *
 * A handle is {cid, offset of the row}: checked in a few instructions, and of no use to another client.
 */
#ifndef CXLSHM_ROOT_H
#define CXLSHM_ROOT_H

#include <errno.h>

#include "page.h"

/* A page of further rows, or the rows of the slot's area.  -ENOSPC. */
int root_more(struct client *c);

/* Give back pages of rows of which none is in use, if they are many.  Between calls only: a row that is taken and still empty
 * would be taken for a free one.  1 if there were any. */
int root_trim(struct client *c);

static inline struct root_fmt *root_at(const struct client *c, uint64_t off)
{
	return (struct root_fmt *)(c->base + off);
}

static inline cxlshm_ref root_ref(const struct client *c, const struct root_fmt *row)
{
	return c->tag | off_of(c->pool, row);
}

/*
 * Could this be the offset of a row: in the heap, a multiple of 16, not 0, and by its upper bits this client's?  One
 * rotation and one comparison.  rows: client.rows or .short_rows.
 */
static inline int root_plausible(uint64_t off, uint64_t rows)
{
	return (off >> 4 | off << 60) - 1 < rows;
}

/* The row of a handle, NULL if it is not this client's or not in use. */
static inline struct root_fmt *root_of(const struct client *c, cxlshm_ref ref)
{
	uint64_t off = ref ^ c->tag;
	struct root_fmt *row;

	if (__builtin_expect(!root_plausible(off, c->rows), 0))
		return NULL;
	row = root_at(c, off);
	return (int64_t)a64_load_relaxed(&row->object) > 0 ? row : NULL;	/* neither ROOT_FREE nor 0 */
}

/* Take a row, empty: it is in use from the moment its object is set. */
static inline int root_take(struct client *c, struct root_fmt **out)
{
	struct root_fmt *row;

	if (__builtin_expect(!c->root_free, 0)) {
		int rc = root_more(c);

		if (rc)
			return rc;
	}
	row = root_at(c, c->root_free & ~ROOT_FREE);
	c->root_free = a64_load_relaxed(&row->object);
	a64_store_relaxed(&row->object, 0);
	*out = row;
	return 0;
}

/* Give back an empty row. */
static inline void root_give(struct client *c, struct root_fmt *row)
{
	a64_store_relaxed(&row->object, c->root_free);
	a64_store_relaxed(&row->local, 1);
	c->root_free = off_of(c->pool, row) | ROOT_FREE;
}

/*
 * Call visit for every row of the slot, in use or not; a non-zero answer ends the walk and is returned.  Reads the pool:
 * bounded and checked.
 */
int root_each(struct client *c, int (*visit)(struct client *c, struct root_fmt *row, void *arg), void *arg);

#endif
