/* SPDX-License-Identifier: MIT */
/*
 * Areas ref, cell, export, memory, trim and join: counts, cells, exports, blocks and segments, slots.
 */
#include <errno.h>

#include "page.h"
#include "interleave.h"

static cxlshm_ref *mine(struct world *w, unsigned me)
{
	return w->v.ref[me];
}

static void drop(struct world *w, unsigned me, uint32_t slot)
{
	cxlshm_ref ref = mine(w, me)[slot];

	mine(w, me)[slot] = 0;
	if (ref)
		expect(w, "release", cxlshm_release(actor(w, me), ref), 0);
}

/* Has this actor left in an earlier operation of its program? */
static void op_leave(struct world *w, unsigned me)
{
	if (!gone(w, me))
		expect(w, "leave", cxlshm_leave(actor(w, me)), 0);
}

/* ---- ref: one object with a child, held by the actors alone ---- */

enum { REF_SHARED, REF_OWN, REF_OTHER };

static void ref_prepare(struct world *w)
{
	cxlshm_ref child, copy, shared;

	/* Its block is actor 0's, its child's actor 1's: whoever drops them last hands one of them back. */
	shared = 0;
	MUST(cxlshm_alloc_with(actor(w, 0), 32, 1, CXLSHM_ZERO, &shared));
	child = tagged(w, 1, 7, 40);
	copy = hand_over(w, 1, child, 0);
	MUST(cxlshm_field_store(actor(w, 0), shared, 0, copy));
	MUST(cxlshm_release(actor(w, 0), copy));
	MUST(cxlshm_release(actor(w, 1), child));
	for (unsigned i = 1; i < w->actors; i++)
		mine(w, i)[REF_SHARED] = hand_over(w, 0, shared, i);
	mine(w, 0)[REF_SHARED] = shared;
	for (unsigned i = 0; i < w->actors; i++)
		mine(w, i)[REF_OWN] = tagged(w, i, 20, 40);
}

static void ref_attach_op(struct world *w, unsigned me)
{
	cxlshm_ref copy = 0;

	if (gone(w, me) || !mine(w, me)[REF_SHARED])
		return;
	if (!expect(w, "attach", cxlshm_attach(actor(w, me), mine(w, me)[REF_SHARED], &copy), 0))
		expect(w, "release", cxlshm_release(actor(w, me), copy), 0);
}

static void ref_detach_op(struct world *w, unsigned me)
{
	if (!gone(w, me))
		drop(w, me, REF_SHARED);
}

static void ref_child_op(struct world *w, unsigned me)
{
	cxlshm_ref child = 0;

	if (gone(w, me) || !mine(w, me)[REF_SHARED])
		return;
	if (expect(w, "field_load", cxlshm_field_load(actor(w, me), mine(w, me)[REF_SHARED], 0, &child), 0))
		return;
	if (tag_of(w, me, child) != 7)
		world_fail(w, "the child is another object");
	expect(w, "release", cxlshm_release(actor(w, me), child), 0);
}

static void ref_alloc_op(struct world *w, unsigned me)
{
	if (gone(w, me))
		return;
	drop(w, me, REF_OWN);
	mine(w, me)[REF_OWN] = tagged(w, me, 21, 40);
	mine(w, me)[REF_OTHER] = tagged(w, me, 22, 32);
}

static const struct op ref_ops[] = {
	{"attach", ref_attach_op}, {"detach", ref_detach_op}, {"child", ref_child_op}, {"alloc", ref_alloc_op},
	{"leave", op_leave}, {NULL, NULL},
};

const struct area area_ref = {
	.name = "ref", .ordered = 1, .prepare = ref_prepare, .ops = ref_ops,
};

/* ---- cell: a cell holds the only reference to an object of actor 0's memory ---- */

enum { CELL_HOLDER = ROW_CELL, CELL_SPARE, CELL_SPARE2 };

static void cell_prepare(struct world *w)
{
	cxlshm_ref first;

	MUST(cxlshm_alloc_with(actor(w, OBSERVER), 64, 2, CXLSHM_CELLS | CXLSHM_ZERO, &mine(w, OBSERVER)[CELL_HOLDER]));
	for (unsigned i = 0; i < w->actors; i++) {
		mine(w, i)[CELL_HOLDER] = hand_over(w, OBSERVER, mine(w, OBSERVER)[CELL_HOLDER], i);
		mine(w, i)[CELL_SPARE] = tagged(w, i, (int)(10 + i), 40);
		mine(w, i)[CELL_SPARE2] = tagged(w, i, (int)(20 + i), 40);
	}
	first = tagged(w, 0, 1, 40);
	MUST(cxlshm_cell_swap(actor(w, 0), mine(w, 0)[CELL_HOLDER], 0, &first));
	w->v.history.start[0] = 1;
}

static cxlshm_ref cell_load_as(struct world *w, unsigned me)
{
	cxlshm_ref ref = 0;
	uint32_t e = history_begin(&w->v.history, me, OP_LOAD);
	int rc = expect(w, "cell_load", cxlshm_cell_load(actor(w, me), mine(w, me)[CELL_HOLDER], 0, &ref), 0);

	history_end(&w->v.history, e, rc, tag_of(w, me, ref));
	return ref;
}

static void cell_load_op(struct world *w, unsigned me)
{
	if (!gone(w, me))
		expect(w, "release", cxlshm_release(actor(w, me), cell_load_as(w, me)), 0);
}

/* Swap in `ref` (0: nothing), drop what comes out. */
static void cell_swap_with(struct world *w, unsigned me, cxlshm_ref ref)
{
	uint32_t e = history_begin(&w->v.history, me, OP_SWAP);
	int rc, tag = tag_of(w, me, ref);

	w->v.history.event[e].arg = tag;
	rc = expect(w, "cell_swap", cxlshm_cell_swap(actor(w, me), mine(w, me)[CELL_HOLDER], 0, &ref), 0);
	history_end(&w->v.history, e, rc, tag_of(w, me, ref));
	expect(w, "release", cxlshm_release(actor(w, me), ref), 0);
}

static cxlshm_ref spare(struct world *w, unsigned me)
{
	cxlshm_ref *slot = mine(w, me)[CELL_SPARE] ? &mine(w, me)[CELL_SPARE] : &mine(w, me)[CELL_SPARE2];
	cxlshm_ref ref = *slot;

	*slot = 0;
	return ref;
}

static void cell_swap_op(struct world *w, unsigned me)
{
	if (!gone(w, me))
		cell_swap_with(w, me, spare(w, me));
}

static void cell_clear_op(struct world *w, unsigned me)
{
	if (!gone(w, me))
		cell_swap_with(w, me, 0);
}

/* A counted copy goes in; what is in hand stays. */
static void cell_store_op(struct world *w, unsigned me)
{
	cxlshm_ref ref = mine(w, me)[CELL_SPARE];
	uint32_t e;
	int rc;

	if (gone(w, me) || !ref)
		return;
	e = history_begin(&w->v.history, me, OP_SWAP);
	w->v.history.event[e].arg = tag_of(w, me, ref);
	w->v.history.event[e].blind = 1;
	rc = expect(w, "cell_store", cxlshm_cell_store(actor(w, me), mine(w, me)[CELL_HOLDER], 0, ref), 0);
	history_end(&w->v.history, e, rc, 0);
}

/* Two swaps: the same object, out of the cell and back into it. */
static void cell_back_op(struct world *w, unsigned me)
{
	cxlshm_ref ref = 0;
	uint32_t e;
	int tag;

	if (gone(w, me))
		return;
	e = history_begin(&w->v.history, me, OP_SWAP);
	expect(w, "cell_swap", cxlshm_cell_swap(actor(w, me), mine(w, me)[CELL_HOLDER], 0, &ref), 0);
	tag = tag_of(w, me, ref);
	history_end(&w->v.history, e, 0, tag);
	cell_swap_with(w, me, ref);
}

static void cell_cas_op(struct world *w, unsigned me)
{
	cxlshm_ref seen, desired;
	uint32_t e;
	int rc;

	if (gone(w, me))
		return;
	seen = cell_load_as(w, me);
	desired = spare(w, me);
	e = history_begin(&w->v.history, me, OP_CAS);
	w->v.history.event[e].expected = tag_of(w, me, seen);
	w->v.history.event[e].arg = tag_of(w, me, desired);
	rc = cxlshm_cell_cas(actor(w, me), mine(w, me)[CELL_HOLDER], 0, seen, &desired);
	expect(w, "cell_cas", rc, -EAGAIN);
	history_end(&w->v.history, e, rc, 0);
	expect(w, "release", cxlshm_release(actor(w, me), desired), 0);
	expect(w, "release", cxlshm_release(actor(w, me), seen), 0);
}

static void cell_observe(struct world *w)
{
	cxlshm_ref ref = cell_load_as(w, OBSERVER);

	expect(w, "release", cxlshm_release(actor(w, OBSERVER), ref), 0);
}

static const struct op cell_ops[] = {
	{"load", cell_load_op}, {"store", cell_store_op}, {"swap", cell_swap_op}, {"clear", cell_clear_op}, {"back", cell_back_op},
	{"cas", cell_cas_op}, {"leave", op_leave}, {NULL, NULL},
};

const struct area area_cell = {
	.name = "cell", .kind = SPEC_CELL, .prepare = cell_prepare, .observe = cell_observe,
	.ops = cell_ops,
};

/* ---- export: actor 0's export waits, for anybody ---- */

static void export_prepare(struct world *w)
{
	for (unsigned i = 0; i < w->actors; i++) {
		cxlshm_ref child = tagged(w, i, 7, 40);

		MUST(cxlshm_alloc_with(actor(w, i), 16, 1, CXLSHM_ZERO, &mine(w, i)[2]));
		MUST(cxlshm_field_swap(actor(w, i), mine(w, i)[2], 0, &child));
		mine(w, i)[0] = tagged(w, i, (int)(10 + i), 40);
		mine(w, i)[1] = tagged(w, i, (int)(20 + i), 40);
	}
	MUST(cxlshm_export(actor(w, 0), tagged(w, 0, 1, 40), &w->v.token[0]));
	MUST(cxlshm_export(actor(w, 1), tagged(w, 1, 2, 40), &w->v.token[1]));
}

static void import(struct world *w, unsigned me, unsigned token)
{
	cxlshm_ref ref = 0;

	if (gone(w, me))
		return;
	if (!expect(w, "import", cxlshm_import(actor(w, me), w->v.token[token], &ref), -ENOENT)) {
		w->v.made[token]++;
		if (tag_of(w, me, ref) != (int)token + 1)
			world_fail(w, "the import gave another object");
		if (w->v.made[token] > 1)
			world_fail(w, "an export was imported twice");
		expect(w, "release", cxlshm_release(actor(w, me), ref), 0);
	}
}

static void import_first(struct world *w, unsigned me)
{
	import(w, me, 0);
}

static void import_second(struct world *w, unsigned me)
{
	import(w, me, 1);
}

static void export_op(struct world *w, unsigned me)
{
	uint64_t token;

	if (gone(w, me) || !mine(w, me)[0])
		return;
	if (!expect(w, "export", cxlshm_export(actor(w, me), mine(w, me)[0], &token), 0))
		w->v.token[2 + me] = token;
	mine(w, me)[0] = 0;
}

/* What another actor has put up meanwhile. */
static void import_any(struct world *w, unsigned me)
{
	cxlshm_ref ref = 0;

	for (unsigned i = 0; i < ACTORS_MAX && !gone(w, me); i++)
		if (i != me && w->v.token[2 + i] &&
		    !expect(w, "import", cxlshm_import(actor(w, me), w->v.token[2 + i], &ref), -ENOENT)) {
			if (tag_of(w, me, ref) != (int)(10 + i))
				world_fail(w, "the import gave another object");
			expect(w, "release", cxlshm_release(actor(w, me), ref), 0);
		}
}

/* An exchange given up, if somebody else is faster, and right behind it a move, which its seal alone commits. */
static void import_and_move(struct world *w, unsigned me)
{
	cxlshm_ref ref = 0;

	import(w, me, 0);
	if (gone(w, me))
		return;
	expect(w, "field_swap", cxlshm_field_swap(actor(w, me), mine(w, me)[2], 0, &ref), 0);
	if (ref && tag_of(w, me, ref) != 7)
		world_fail(w, "the field gave another object");
	mine(w, me)[3] = ref;
}

static const struct op export_ops[] = {
	{"import0", import_first}, {"import1", import_second}, {"export", export_op}, {"any", import_any},
	{"move", import_and_move}, {"leave", op_leave}, {NULL, NULL},
};

const struct area area_export = {
	.name = "export", .ordered = 1, .prepare = export_prepare, .ops = export_ops,
};

/* ---- memory: blocks of actor 0's that the others hold ---- */

static void memory_prepare(struct world *w)
{
	for (uint32_t k = 0; k < 6; k++) {
		cxlshm_ref ref = tagged(w, 0, (int)k + 1, 40);
		unsigned to = 1 + k % (w->actors - 1);

		mine(w, to)[k / 2] = hand_over(w, 0, ref, to);
		if (k < 4)
			MUST(cxlshm_release(actor(w, 0), ref));
		else
			mine(w, 0)[k - 4] = ref;
	}
	/* One of actor 1's, too, that actor 0 can free. */
	mine(w, 0)[3] = hand_over(w, 1, tagged(w, 1, 9, 40), 0);
}

static void memory_free(struct world *w, unsigned me)
{
	for (uint32_t k = 0; k < 4; k++)
		if (!gone(w, me) && mine(w, me)[k]) {
			drop(w, me, k);
			return;
		}
}

static void memory_free_all(struct world *w, unsigned me)
{
	for (uint32_t k = 0; k < 4 && !gone(w, me); k++)
		drop(w, me, k);
}

static void memory_collect(struct world *w, unsigned me)
{
	if (!gone(w, me))
		(void)page_collect_some(w->client[me], 8);
}

static void memory_more(struct world *w, unsigned me)
{
	if (!gone(w, me))
		(void)expect(w, "page_more", page_more(w->client[me]), -ENOSPC);
}

static void memory_sweep(struct world *w, unsigned me)
{
	if (!gone(w, me))
		page_sweep_all(w->client[me]);
}

static void memory_alloc(struct world *w, unsigned me)
{
	if (gone(w, me))
		return;
	mine(w, me)[8] = tagged(w, me, 30, 40);
	mine(w, me)[9] = tagged(w, me, 31, 3000);
}

static void memory_span(struct world *w, unsigned me)
{
	if (gone(w, me))
		return;
	if (!expect(w, "alloc of a span", cxlshm_alloc(actor(w, me), 300000, &mine(w, me)[10]), -ENOSPC))
		drop(w, me, 10);
	page_sweep_all(w->client[me]);
}

static void memory_trim(struct world *w, unsigned me)
{
	if (!gone(w, me))
		(void)segment_trim(w->client[me]);
}

static const struct op memory_ops[] = {
	{"free", memory_free}, {"free_all", memory_free_all}, {"collect", memory_collect}, {"more", memory_more},
	{"sweep", memory_sweep}, {"alloc", memory_alloc}, {"span", memory_span}, {"trim", memory_trim},
	{"leave", op_leave}, {NULL, NULL},
};

const struct area area_memory = {
	.name = "memory", .ordered = 1, .prepare = memory_prepare, .ops = memory_ops,
};

/* ---- trim: memory to give back: a dirty segment, a page of rows that nothing is in, blocks freed by others; a cell
 * holds an object that fills a segment ---- */

#define TRIM_HOLDER 7u

static void trim_prepare(struct world *w)
{
	struct client *c = w->client[0];
	cxlshm_ref rows[SLOT_ROOTS_BYTES / sizeof(struct root_fmt) + 1], one, child;
	uint32_t n = 0;

	memory_prepare(w);
	MUST(cxlshm_alloc_with(actor(w, OBSERVER), 64, 2, CXLSHM_CELLS | CXLSHM_ZERO, &mine(w, OBSERVER)[TRIM_HOLDER]));
	for (unsigned i = 0; i < w->actors; i++)
		mine(w, i)[TRIM_HOLDER] = hand_over(w, OBSERVER, mine(w, OBSERVER)[TRIM_HOLDER], i);
	child = tagged(w, 0, 8, 300000);
	MUST(cxlshm_cell_swap(actor(w, 0), mine(w, 0)[TRIM_HOLDER], 0, &child));
	one = tagged(w, 0, 33, 40);
	do
		MUST(cxlshm_attach(actor(w, 0), one, &rows[n]));
	while (++n < sizeof(rows) / sizeof(*rows) && !a64_load_relaxed(&c->slot->roots_next));
	while (n)
		MUST(cxlshm_release(actor(w, 0), rows[--n]));
	MUST(cxlshm_release(actor(w, 0), one));
	/* Somebody reads while a segment is let go, so its memory is kept. */
	client_read_begin(w->client[OBSERVER]);
	memory_span(w, 1);
	client_read_end(w->client[OBSERVER]);
	REQUIRE(a64_load_relaxed(&c->slot->roots_next) && a32_load_relaxed(&c->pool->shared->segments_dirty));
}

static void trim_op(struct world *w, unsigned me)
{
	if (!gone(w, me))
		expect(w, "trim", cxlshm_trim(actor(w, me)), 0);
}

/* And after it rows are at hand as before. */
static void trim_take_op(struct world *w, unsigned me)
{
	cxlshm_ref out[3] = {0};

	trim_op(w, me);
	for (uint32_t k = 0; k < 3 && !gone(w, me); k++)
		expect(w, "attach", cxlshm_attach(actor(w, me), mine(w, me)[TRIM_HOLDER], &out[k]), 0);
	for (uint32_t k = 0; k < 3 && !gone(w, me); k++)
		expect(w, "release", cxlshm_release(actor(w, me), out[k]), 0);
}

/* A whole segment goes, while others may be about to look into it. */
static void trim_clear_op(struct world *w, unsigned me)
{
	cxlshm_ref ref = 0;

	if (gone(w, me) || expect(w, "cell_swap", cxlshm_cell_swap(actor(w, me), mine(w, me)[TRIM_HOLDER], 0, &ref), 0))
		return;
	expect(w, "release", cxlshm_release(actor(w, me), ref), 0);
	trim_op(w, me);
}

/* Who reads a cell, and what it leads to, has announced that. */
static void trim_read_op(struct world *w, unsigned me)
{
	cxlshm_ref ref = 0;

	if (gone(w, me) || expect(w, "cell_load", cxlshm_cell_load(actor(w, me), mine(w, me)[TRIM_HOLDER], 0, &ref), 0))
		return;
	if (ref && tag_of(w, me, ref) != 8)
		world_fail(w, "the cell gave another object");
	expect(w, "release", cxlshm_release(actor(w, me), ref), 0);
}

static const struct op trim_ops[] = {
	{"trim", trim_op}, {"trim_take", trim_take_op}, {"clear", trim_clear_op}, {"free_all", memory_free_all},
	{"span", memory_span}, {"read", trim_read_op}, {"leave", op_leave}, {"free", memory_free}, {"collect", memory_collect}, {"more", memory_more},
	{"sweep", memory_sweep}, {"alloc", memory_alloc}, {"segments", memory_trim}, {NULL, NULL},
};

const struct area area_trim = {
	.name = "trim", .leading = 3, .ordered = 1, .prepare = trim_prepare, .ops = trim_ops,
};

/* ---- join: slots are claimed, left, and those of the dead recovered.  Two are free that nobody had yet ---- */

static void join_prepare(struct world *w)
{
	(void)w;
}

/* Each has its slot, and nobody else has it, until it leaves. */
static struct cxlshm_client *join_one(struct world *w, unsigned me)
{
	struct cxlshm_client *client = NULL;

	if (expect(w, "join", cxlshm_join((struct cxlshm_pool *)w->pool[me], "another", 0, &client), -EUSERS))
		return NULL;
	w->v.token[me] = cxlshm_client_id(client);
	for (unsigned i = 0; i < w->actors; i++)
		if (!(w->who_died & 1u << i) && (w->cid[i] == w->v.token[me] ? !gone(w, i) :
						 i != me && w->v.token[i] == w->v.token[me]))
			world_fail(w, "two living clients have slot %llu", (unsigned long long)w->v.token[me]);
	return client;
}

static void join_op(struct world *w, unsigned me)
{
	if (!gone(w, me))
		(void)join_one(w, me);
}

static void join_leave_op(struct world *w, unsigned me)
{
	struct cxlshm_client *client = gone(w, me) ? NULL : join_one(w, me);

	w->v.token[me] = 0;
	if (client)
		expect(w, "leave", cxlshm_leave(client), 0);
}

static void recover_op(struct world *w, unsigned me)
{
	if (!gone(w, me))
		expect(w, "recover", cxlshm_recover((struct cxlshm_pool *)w->pool[me], NULL), 0);
}

struct listing {
	struct world *w;
	unsigned me;
	uint32_t last, mine, observer;
};

static int visit_client(void *arg, const struct cxlshm_client_info *info)
{
	struct listing *l = arg;

	if (info->id <= l->last || info->id > SLOTS || (strcmp(info->name, "actor") && strcmp(info->name, "another")))
		world_fail(l->w, "client %u, '%s', is listed behind %u", info->id, info->name, l->last);
	l->last = info->id;
	l->mine += info->id == l->w->cid[l->me] && info->alive;
	l->observer += info->id == l->w->cid[OBSERVER] && info->alive;
	return 0;
}

/* Who is there throughout is listed. */
static void join_list_op(struct world *w, unsigned me)
{
	struct listing l = {.w = w, .me = me};

	expect(w, "each_client", cxlshm_each_client((struct cxlshm_pool *)w->pool[me], visit_client, &l), 0);
	if (l.observer != 1 || (!gone(w, me) && l.mine != 1))
		world_fail(w, "living clients are not listed as such");
}

/* Its time is over when nobody else can run: then nothing may have changed, unless who changed it died before waking it. */
static void join_wait_op(struct world *w, unsigned me)
{
	struct cxlshm_pool *pool = (struct cxlshm_pool *)w->pool[me];
	uint32_t sequence = 0, now;

	expect(w, "wait_clients", cxlshm_wait_clients(pool, &sequence, 0), 0);
	now = sequence;
	if (!expect(w, "wait_clients", cxlshm_wait_clients(pool, &now, 10000000), -ETIMEDOUT))
		return;
	now = ~sequence;
	expect(w, "wait_clients", cxlshm_wait_clients(pool, &now, 0), 0);
	if (now != sequence && !w->deaths)
		world_fail(w, "who waits for clients was not woken");
}

static const struct op join_ops[] = {
	{"join", join_op}, {"join_leave", join_leave_op}, {"recover", recover_op}, {"leave", op_leave},
	{"list", join_list_op}, {"wait", join_wait_op}, {NULL, NULL},
};

const struct area area_join = {
	.name = "join", .prepare = join_prepare, .ops = join_ops,
};
