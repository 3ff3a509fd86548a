/* SPDX-License-Identifier: MIT */
/*
 * Crash scenarios: objects, references, fields, cells, export, remote free, adoption, spans, extents, root pages.
 */
#include <fcntl.h>

#include "crash.h"

#define SMALL (1u << 20)

/* The neighbour holds: 0 a holder of two cells, with object 1 in the first; 1 that object; 2 a plain one. */
static void prepare_shared(struct stage *s)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref copy;

	MUST(cxlshm_alloc_with(n, 64, 2, CXLSHM_CELLS, &s->held[0]));
	MUST(cxlshm_alloc(n, 64, &s->held[1]));
	MUST(cxlshm_alloc(n, 200, &s->held[2]));
	memset(cxlshm_ptr(n, s->held[1]), 0x11, 64);
	MUST(cxlshm_cell_store(n, s->held[0], 0, s->held[1]));
	for (int i = 0; i < 3; i++) {
		MUST(cxlshm_attach(n, s->held[i], &copy));
		MUST(cxlshm_export(n, copy, &s->token[i]));
	}
}

/* What it holds is as it was, and it can go on with it. */
static void after_shared(struct stage *s)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref ref, other;
	char *bytes = cxlshm_ptr(n, s->held[1]);

	for (int i = 0; i < 64; i++)
		REQUIRE(bytes[i] == 0x11);
	MUST(cxlshm_cell_load(n, s->held[0], 0, &ref));
	MUST(cxlshm_release(n, ref));
	MUST(cxlshm_alloc(n, 64, &other));
	MUST(cxlshm_cell_swap(n, s->held[0], 1, &other));
	MUST(cxlshm_release(n, other));
	other = 0;
	MUST(cxlshm_cell_swap(n, s->held[0], 0, &other));
	MUST(cxlshm_release(n, other));
	MUST(cxlshm_release(n, s->held[2]));
}

static struct cxlshm_client *join(struct cxlshm_pool *pool)
{
	struct cxlshm_client *c;

	MUST(cxlshm_join(pool, "victim", 0, &c));
	return c;
}

static void act_private(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref a, b, d;

	(void)s;
	MUST(cxlshm_alloc(c, 40, &a));
	MUST(cxlshm_alloc(c, 100, &b));
	MUST(cxlshm_attach(c, a, &d));
	MUST(cxlshm_dup(c, a));
	MUST(cxlshm_release(c, a));
	MUST(cxlshm_release(c, a));
	MUST(cxlshm_release(c, d));
	MUST(cxlshm_release(c, b));
	MUST(cxlshm_alloc_with(c, 64, 0, CXLSHM_ZERO, &a));
	MUST(cxlshm_leave(c));
}

static void act_sizes(struct stage *s, struct cxlshm_pool *pool)
{
	static const size_t sizes[] = {0, 1, 16, 500, 3000, 4096, 9000, 60000};
	struct cxlshm_client *c = join(pool);
	cxlshm_ref ref[8], aligned;

	(void)s;
	for (int i = 0; i < 8; i++)
		MUST(cxlshm_alloc(c, sizes[i], &ref[i]));
	MUST(cxlshm_alloc_with(c, 5000, 0, CXLSHM_PAGE_ALIGNED, &aligned));
	for (int i = 0; i < 8; i++)
		MUST(cxlshm_release(c, ref[i]));
	MUST(cxlshm_release(c, aligned));
	MUST(cxlshm_leave(c));
}

static void act_fields(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref parent, child, grandchild, ref;

	(void)s;
	MUST(cxlshm_alloc_with(c, 32, 3, 0, &parent));
	MUST(cxlshm_alloc_with(c, 32, 1, 0, &child));
	MUST(cxlshm_alloc(c, 16, &grandchild));
	MUST(cxlshm_field_store(c, child, 0, grandchild));
	MUST(cxlshm_field_store(c, parent, 2, grandchild));
	MUST(cxlshm_release(c, grandchild));
	MUST(cxlshm_field_load(c, child, 0, &ref));
	MUST(cxlshm_release(c, ref));
	MUST(cxlshm_field_swap(c, parent, 0, &child));
	REQUIRE(!child);
	MUST(cxlshm_field_swap(c, parent, 0, &child));
	MUST(cxlshm_field_swap(c, parent, 1, &child));
	MUST(cxlshm_field_store(c, parent, 2, 0));
	MUST(cxlshm_release(c, parent));
	MUST(cxlshm_leave(c));
}

static void act_cells(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref cells, shared, mine, ref;

	MUST(cxlshm_import(c, s->token[0], &cells));
	MUST(cxlshm_import(c, s->token[1], &shared));
	MUST(cxlshm_cell_load(c, cells, 0, &ref));
	MUST(cxlshm_release(c, ref));
	MUST(cxlshm_cell_load(c, cells, 1, &ref));
	REQUIRE(!ref);
	MUST(cxlshm_alloc(c, 48, &mine));
	MUST(cxlshm_cell_store(c, cells, 1, mine));
	ref = mine;
	MUST(cxlshm_cell_cas(c, cells, 1, mine, &shared));
	MUST(cxlshm_release(c, shared));
	MUST(cxlshm_cell_swap(c, cells, 1, &ref));
	MUST(cxlshm_release(c, ref));
	ref = 0;
	MUST(cxlshm_cell_swap(c, cells, 1, &ref));
	MUST(cxlshm_release(c, ref));
	MUST(cxlshm_release(c, cells));
	MUST(cxlshm_leave(c));
}

static void act_export(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	uint64_t token, kept;
	cxlshm_ref ref;

	MUST(cxlshm_import(c, s->token[2], &ref));
	MUST(cxlshm_export(c, ref, &token));
	s->told[0] = token;
	MUST(cxlshm_import(c, token, &ref));
	MUST(cxlshm_release(c, ref));
	MUST(cxlshm_alloc(c, 80, &ref));
	MUST(cxlshm_export(c, ref, &kept));
	s->told[1] = kept;
	MUST(cxlshm_leave(c));
}

/* Two clients of one process: blocks freed across, collected, and a segment left behind and adopted. */
static void act_remote(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *a = join(pool), *b = join(pool);
	cxlshm_ref ref[300], held;
	uint64_t token;

	for (int i = 0; i < 6; i++) {
		MUST(cxlshm_alloc_with(a, 600, i & 1, 0, &ref[i]));
		MUST(cxlshm_export(a, ref[i], &token));
		s->told[i] = token;
		MUST(cxlshm_import(b, token, &ref[i]));
	}
	for (int i = 0; i < 4; i++)
		MUST(cxlshm_release(b, ref[i]));
	/* Enough to make the owner look at its remote list. */
	for (int i = 10; i < 17; i++)
		MUST(cxlshm_alloc(a, 600, &ref[i]));
	for (int i = 10; i < 17; i++)
		MUST(cxlshm_release(a, ref[i]));
	MUST(cxlshm_release(b, ref[4]));
	/* The owner goes; the last block of its segment is still held, and then dropped: adopted and given back. */
	MUST(cxlshm_leave(a));
	MUST(cxlshm_alloc(b, 600, &held));
	MUST(cxlshm_release(b, ref[5]));
	MUST(cxlshm_release(b, held));
	MUST(cxlshm_leave(b));
}

/* An orphan with something in it is adopted by who needs memory. */
static void act_adopt(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *a = join(pool), *b = join(pool);
	cxlshm_ref ref, more;
	uint64_t token, own;

	MUST(cxlshm_alloc(a, 600, &ref));
	MUST(cxlshm_export(a, ref, &token));
	s->told[0] = token;
	MUST(cxlshm_import(b, token, &ref));
	/* With a run of several pages that is empty, and not closed. */
	MUST(cxlshm_alloc(a, 3000, &more));
	MUST(cxlshm_release(a, more));
	MUST(cxlshm_leave(a));
	MUST(cxlshm_alloc(b, 600, &more));
	/* Hints that lead nowhere, as a death behind a claim leaves them, are cleared by who looks for memory. */
	own = a64_load_relaxed(&((struct client *)b)->slot->segments_head);
	for (uint32_t w = 0; w < 2; w++)
		a64_or_acq_rel(&((struct client *)b)->pool->hints[w], 1ull << own);
	while (a64_load_relaxed(&((struct client *)b)->slot->segments_head) == own)
		MUST(cxlshm_alloc(b, 9000, &more));
	MUST(cxlshm_release(b, ref));
	MUST(cxlshm_release(b, more));
	MUST(cxlshm_leave(b));
}

static void act_span(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref small, big;

	(void)s;
	MUST(cxlshm_alloc(c, 64, &small));
	MUST(cxlshm_alloc(c, 600000, &big));
	MUST(cxlshm_release(c, big));
	MUST(cxlshm_alloc(c, 700000, &big));
	MUST(cxlshm_release(c, big));
	/* No room for this one beside the span kept: it is given back first. */
	MUST(cxlshm_alloc(c, 1200000, &big));
	MUST(cxlshm_leave(c));
}

/* More references than a slot has rows for: a page of them is made, and given back.  Of equal steps only some are died at. */
static void act_roots(struct stage *s, struct cxlshm_pool *pool)
{
	void (*hook)(void *arg, struct client *c, unsigned point) = ((struct pool *)pool)->crash_hook;
	struct cxlshm_client *c = join(pool);
	cxlshm_ref one, ref[270];

	(void)s;
	MUST(cxlshm_alloc(c, 64, &one));
	for (int i = 0; i < 270; i++) {
		((struct pool *)pool)->crash_hook = i < 250 ? NULL : hook;
		MUST(cxlshm_attach(c, one, &ref[i]));
	}
	for (int i = 0; i < 270; i += 2) {
		((struct pool *)pool)->crash_hook = i < 240 ? NULL : hook;
		MUST(cxlshm_release(c, ref[i]));
	}
	((struct pool *)pool)->crash_hook = NULL;
	for (int i = 251; i < 270; i += 2)
		MUST(cxlshm_release(c, ref[i]));
	((struct pool *)pool)->crash_hook = hook;
	MUST(cxlshm_trim(c));
	MUST(cxlshm_leave(c));
}

static void act_extent(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref a, b;
	void *address;

	(void)s;
	MUST(cxlshm_alloc_with(c, 8192, 0, CXLSHM_EXTENT, &a));
	MUST(cxlshm_resize(c, a, 16384));
	MUST(cxlshm_map(c, a, 0, 4096, 3, &address));
	memset(address, 5, 4096);
	MUST(cxlshm_unmap(c, address));
	MUST(cxlshm_reserve(c, a, 0, 16384, 40960));
	MUST(cxlshm_map(c, a, 0, 40960, 3, &address));
	memset((char *)address + 12288, 5, 20000);
	MUST(cxlshm_unmap(c, address));
	/* Two stretches of data, one of them too long for one write. */
	MUST(cxlshm_reserve(c, a, FALLOC_FL_ZERO_RANGE, 1000, 60000));
	MUST(cxlshm_resize(c, a, 5000));
	MUST(cxlshm_alloc_with(c, 0, 0, CXLSHM_EXTENT, &b));
	MUST(cxlshm_release(c, a));
	MUST(cxlshm_leave(c));
}

/* A list, a tree of three levels and a wide object, dropped at once. */
static void act_graphs(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref head = 0, node, wide;

	(void)s;
	MUST(cxlshm_alloc_with(c, 128, 5, CXLSHM_CELLS, &wide));
	for (int i = 0; i < 4; i++) {
		MUST(cxlshm_alloc_with(c, 16, 1, 0, &node));
		MUST(cxlshm_field_swap(c, node, 0, &head));
		head = node;
	}
	MUST(cxlshm_cell_store(c, wide, 1, head));
	MUST(cxlshm_cell_swap(c, wide, 3, &head));
	MUST(cxlshm_release(c, wide));
	MUST(cxlshm_leave(c));
}

/* Runs empty and close: more pages of different sizes than the pool keeps. */
static void act_sweep(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref ref[40];

	(void)s;
	for (int i = 0; i < 40; i++)
		MUST(cxlshm_alloc(c, 2000 + 300 * (size_t)i, &ref[i]));
	for (int i = 0; i < 40; i++)
		MUST(cxlshm_release(c, ref[i]));
	for (int i = 0; i < 6; i++)
		MUST(cxlshm_alloc(c, 100000, &ref[i]));
	MUST(cxlshm_leave(c));
}

/* The neighbour has stopped in the middle of looking at an object, so memory given back is kept for it: FREE_DIRTY. */
static void prepare_reader(struct stage *s)
{
	prepare_shared(s);
	a64_store_release(&((struct client *)s->neighbour)->slot->reading, 1);
}

static void act_reader(struct stage *s, struct cxlshm_pool *pool)
{
	act_span(s, pool);
	a64_store_release(&((struct client *)s->neighbour)->slot->reading, 0);
	MUST(cxlshm_leave(join(pool)));
}

/* It goes on, and the next client that leaves gives that memory back. */
static void after_reader(struct stage *s)
{
	struct client *n = (struct client *)s->neighbour;

	a64_store_release(&n->slot->reading, 0);
	MUST(cxlshm_leave(join(s->pool)));
	for (uint32_t i = n->pool->first_segment; i < n->pool->segments; i++)
		REQUIRE(segment_value_state(a128_load_acquire(&n->pool->segment_table[i].word).value) != SEGMENT_FREE_DIRTY);
	after_shared(s);
}

static void swap_one_in(struct stage *s, struct cxlshm_client *c)
{
	struct pool *pool = ((struct client *)c)->pool;
	void (*hook)(void *arg, struct client *c, unsigned point) = pool->crash_hook;
	cxlshm_ref cells, shared;

	pool->crash_hook = NULL;	/* an import passes the same point */
	MUST(cxlshm_import(c, s->token[0], &cells));
	MUST(cxlshm_import(c, s->token[1], &shared));	/* the neighbour's, too: a count too low will show */
	pool->crash_hook = hook;
	MUST(cxlshm_cell_swap(c, cells, 1, &shared));
}

/* Somebody died right behind a swap, and is not recovered: its stamp in the cell says that the swap took place. */
static void prepare_evidence(struct stage *s)
{
	cxlshm_ref copy;

	prepare_shared(s);
	die_at(s, CRASH_cell_exchange_swapped, swap_one_in, 0);
	MUST(cxlshm_attach(s->neighbour, s->held[0], &copy));
	MUST(cxlshm_export(s->neighbour, copy, &s->token[0]));
}

/* It is overwritten by one that joined before: then only that one's row of eras says so. */
static void act_evidence(struct stage *s, struct cxlshm_pool *pool)
{
	struct client *late;
	struct cxlshm_client *c;
	cxlshm_ref cells, mine;

	MUST(client_claim((struct pool *)pool, "victim", &late));	/* who joins recovers the dead */
	c = (struct cxlshm_client *)late;
	MUST(cxlshm_import(c, s->token[0], &cells));
	MUST(cxlshm_alloc(c, 48, &mine));
	MUST(cxlshm_cell_swap(c, cells, 1, &mine));
	MUST(cxlshm_release(c, mine));
	MUST(cxlshm_leave(c));
	MUST(cxlshm_recover(pool, NULL));
}

const struct scenario refs_scenarios[] = {
	{"private", SMALL, prepare_shared, act_private, after_shared, meanwhile_private},
	{"sizes", SMALL * 2, prepare_shared, act_sizes, after_shared, meanwhile_sizes},
	{"fields", SMALL, prepare_shared, act_fields, after_shared, meanwhile_graphs},
	{"cells", SMALL, prepare_shared, act_cells, after_shared, meanwhile_private},
	{"evidence", SMALL * 2, prepare_evidence, act_evidence, after_shared, meanwhile_private},
	{"export", SMALL, prepare_shared, act_export, after_shared, meanwhile_remote},
	{"remote", SMALL * 2, prepare_shared, act_remote, after_shared, meanwhile_remote},
	{"adopt", SMALL * 2, prepare_shared, act_adopt, after_shared, meanwhile_remote},
	{"span", SMALL * 3, prepare_shared, act_span, after_shared, meanwhile_span},
	{"roots", SMALL, prepare_shared, act_roots, after_shared, meanwhile_roots},
	{"extent", SMALL, prepare_shared, act_extent, after_shared, meanwhile_extent},
	{"graphs", SMALL, prepare_shared, act_graphs, after_shared, meanwhile_graphs},
	{"sweep", SMALL * 2, prepare_shared, act_sweep, after_shared, meanwhile_sizes},
	{"reader", SMALL * 3, prepare_reader, act_reader, after_reader, meanwhile_reader},
	{NULL, 0, NULL, NULL, NULL, NULL},
};
