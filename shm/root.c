/* SPDX-License-Identifier: MIT */
/*
 * Growing and walking the table of references.
 */
#include "root.h"

static void give_rows(struct client *c, uint64_t first, uint32_t count)
{
	/* The lowest comes out first: neighbours in time are neighbours in memory. */
	for (uint32_t i = count; i-- > 0;)
		root_give(c, root_at(c, first + i * sizeof(struct root_fmt)));
}

int root_more(struct client *c)
{
	uint64_t page_bytes = 1ull << c->pool->page_shift;
	struct roots_fmt *head;
	uint64_t off;
	int rc;

	/* Who acts for a dead client chained its empty rows already, and keeps no account of its pages. */
	if (c->acting)
		return -ENOSPC;
	if (pool_slot_lost(c->pool, c->cid, c->slot))
		return -ESTALE;
	if (!c->roots_given) {
		c->roots_given = 1;
		give_rows(c, off_of(c->pool, c->slot) + c->pool->super->roots_off,
			  SLOT_ROOTS_BYTES / sizeof(struct root_fmt));
		return 0;
	}
	rc = page_roots_new(c, &off);
	if (rc == -ENOSPC) {
		page_close_empty(c);
		rc = page_roots_new(c, &off);
	}
	while (rc == -ENOSPC && !(rc = page_more(c)))	/* an orphan that it adopted may have no free page */
		rc = page_roots_new(c, &off);
	if (rc)
		return rc;
	head = off_ptr(c->pool, off);
	head->rows = page_bytes / sizeof(struct root_fmt) - 1;
	a64_store_release(&head->next, a64_load_relaxed(&c->slot->roots_next));
	persist(c->pool, head, sizeof(*head));
	CRASH_POINT(c, root, page_filled);
	/*
	 * Pairs: root_each() in recovery.  Crash before: a page of rows that nobody knows and nothing is in; it goes back
	 * with the segment.  After: its rows are walked.
	 */
	a64_store_release(&c->slot->roots_next, off);
	persist(c->pool, &c->slot->roots_next, 8);
	CRASH_POINT(c, root, page_linked);
	give_rows(c, off + sizeof(*head), (uint32_t)head->rows);
	return 0;
}

static int page_unused(const struct client *c, uint64_t off)
{
	const struct roots_fmt *head = off_ptr(c->pool, off);

	for (uint64_t i = 1; i <= head->rows; i++)
		if (root_object(root_at(c, off + i * sizeof(struct root_fmt))))
			return 0;
	return 1;
}

/* Is this a page of rows, of this client? */
static int page_sane(const struct client *c, uint64_t off)
{
	uint64_t page_bytes = 1ull << c->pool->page_shift;

	return !(off & (page_bytes - 1)) && off_is_object(c->pool, off) && segment_is_mine(c, off_segment(c->pool, off)) &&
	       a32_load_relaxed(&page_of(c, off)->kind) == PAGE_ROOTS &&
	       ((struct roots_fmt *)off_ptr(c->pool, off))->rows == page_bytes / sizeof(struct root_fmt) - 1;
}

static int chain_row(struct client *c, struct root_fmt *row, void *arg)
{
	(void)arg;
	if (!root_object(row))
		root_give(c, row);
	return 0;
}

int root_trim(struct client *c)
{
	uint64_t left = c->pool->heap_bytes >> c->pool->page_shift;	/* no list is longer, but for one in a circle */
	struct a64 *link = &c->slot->roots_next;
	uint64_t pages = 0, unused = 0;
	uint64_t off;

	for (off = a64_load_relaxed(link); off; off = a64_load_relaxed(&((struct roots_fmt *)off_ptr(c->pool, off))->next)) {
		if (!page_sane(c, off) || !left--)
			return 0;
		pages++;
		unused += (uint64_t)page_unused(c, off);
	}
	/* All rows that are left are chained anew. */
	if (!unused || unused < pages / 4)
		return 0;
	while ((off = a64_load_relaxed(link))) {
		struct roots_fmt *head = off_ptr(c->pool, off);

		if (!page_unused(c, off)) {
			link = &head->next;
			continue;
		}
		/* Pairs: root_each() in recovery.  Crash after: as in root_more(). */
		a64_store_release(link, a64_load_relaxed(&head->next));
		persist(c->pool, link, 8);
		CRASH_POINT(c, root, page_unlinked);
		page_roots_free(c, off);
	}
	c->root_free = 0;
	root_each(c, chain_row, NULL);
	return 1;
}

int root_each(struct client *c, int (*visit)(struct client *c, struct root_fmt *row, void *arg), void *arg)
{
	uint64_t off = off_of(c->pool, c->slot) + c->pool->super->roots_off;
	uint64_t rows = SLOT_ROOTS_BYTES / sizeof(struct root_fmt);
	uint64_t next = a64_load_acquire(&c->slot->roots_next);
	uint64_t page_bytes = 1ull << c->pool->page_shift;
	uint64_t pages = c->pool->heap_bytes / page_bytes;

	for (;;) {
		for (uint64_t i = 0; i < rows; i++) {
			int rc = visit(c, root_at(c, off + i * sizeof(struct root_fmt)), arg);

			if (rc)
				return rc;
		}
		if (!next)
			return 0;
		if (next & (page_bytes - 1) || !off_is_object(c->pool, next) || !pages--)
			return -EUCLEAN;
		rows = ((struct roots_fmt *)off_ptr(c->pool, next))->rows;
		off = next + sizeof(struct roots_fmt);
		if (rows > page_bytes / sizeof(struct root_fmt) - 1)
			return -EUCLEAN;
		next = a64_load_acquire(&((struct roots_fmt *)off_ptr(c->pool, next))->next);
	}
}
