/* SPDX-License-Identifier: MIT */
/*
 * Area look: who lists objects, holders and counters, beside who changes them.  The observer holds `kept`, which is in a cell
 * of `holder`, too; that must be found whatever goes on.  Of the rest: nothing twice, and nothing that cannot be.
 */
#include <errno.h>

#include "interleave.h"

enum { REF_KEPT, REF_HOLDER, REF_OWN, REF_OTHERS };
#define KEPT_BYTES 48u
#define TOKEN_KEPT 0u	/* rows of v.token: ids */
#define TOKEN_HOLDER 1u
#define TOKEN_OWN 2u	/* of each actor's own */

static void prepare(struct world *w)
{
	cxlshm_ref *mine = w->v.ref[OBSERVER];

	mine[REF_KEPT] = tagged(w, OBSERVER, 1, KEPT_BYTES);
	MUST(cxlshm_alloc_with(actor(w, OBSERVER), 64, 2, CXLSHM_CELLS | CXLSHM_ZERO, &mine[REF_HOLDER]));
	MUST(cxlshm_cell_store(actor(w, OBSERVER), mine[REF_HOLDER], 0, mine[REF_KEPT]));
	w->v.token[TOKEN_KEPT] = cxlshm_id(actor(w, OBSERVER), mine[REF_KEPT]);
	w->v.token[TOKEN_HOLDER] = cxlshm_id(actor(w, OBSERVER), mine[REF_HOLDER]);
	for (unsigned i = 0; i < w->actors; i++) {
		w->v.ref[i][REF_KEPT] = hand_over(w, OBSERVER, mine[REF_KEPT], i);
		w->v.ref[i][REF_HOLDER] = hand_over(w, OBSERVER, mine[REF_HOLDER], i);
		w->v.ref[i][REF_OWN] = tagged(w, i, 2, 40);
		w->v.token[TOKEN_OWN + i] = cxlshm_id(actor(w, i), w->v.ref[i][REF_OWN]);
	}
	for (unsigned i = 0; i < w->actors; i++)
		w->v.ref[i][REF_OTHERS] = hand_over(w, (i + 1) % w->actors, w->v.ref[(i + 1) % w->actors][REF_OWN], i);
}

/* ---- who looks ---- */

struct looking {
	struct world *w;
	uint64_t last, kept, holder;
};

static void check_info(struct world *w, const struct cxlshm_object_info *info)
{
	if (info->kind != CXLSHM_KIND_HEAP && info->id == w->v.token[TOKEN_KEPT])
		world_fail(w, "the object is of kind %u", info->kind);
	if (info->id == w->v.token[TOKEN_KEPT] && (info->size_bytes != KEPT_BYTES || info->slots || !info->refs))
		world_fail(w, "the object has %llu bytes, %u slots, %u references", (unsigned long long)info->size_bytes,
			   info->slots, info->refs);
}

static int visit_object(void *arg, const struct cxlshm_object_info *info)
{
	struct looking *l = arg;

	if (info->id <= l->last || !info->refs)
		world_fail(l->w, "object %llx behind %llx, with %u references", (unsigned long long)info->id,
			   (unsigned long long)l->last, info->refs);
	l->last = info->id;
	l->kept += info->id == l->w->v.token[TOKEN_KEPT];
	l->holder += info->id == l->w->v.token[TOKEN_HOLDER];
	check_info(l->w, info);
	return 0;
}

static void objects(struct world *w, unsigned me)
{
	struct looking l = {.w = w};

	expect(w, "each_object", cxlshm_each_object((struct cxlshm_pool *)w->pool[me], visit_object, &l), 0);
	if (l.kept != 1 || l.holder != 1)
		world_fail(w, "objects that are kept are listed %llu and %llu times", (unsigned long long)l.kept,
			   (unsigned long long)l.holder);
}

static int visit_holder(void *arg, const struct cxlshm_holder *holder)
{
	struct looking *l = arg;

	if (holder->client == l->w->cid[OBSERVER])
		l->kept += holder->references;
	else if (holder->client == UINT32_MAX && holder->object == l->w->v.token[TOKEN_HOLDER])
		l->holder += holder->references;
	else if (holder->client == UINT32_MAX || holder->references > 2)
		world_fail(l->w, "client %u, object %llx have %llu references", holder->client,
			   (unsigned long long)holder->object, (unsigned long long)holder->references);
	return 0;
}

static void holders(struct world *w, unsigned me)
{
	struct looking all = {.w = w}, clients = {.w = w};
	struct cxlshm_pool *pool = (struct cxlshm_pool *)w->pool[me];

	expect(w, "each_holder", cxlshm_each_holder(pool, w->v.token[TOKEN_KEPT], visit_holder, &all), 0);
	expect(w, "each_client_holder",
	       cxlshm_each_client_holder(pool, w->v.token[TOKEN_KEPT], visit_holder, &clients), 0);
	if (all.kept != 1 || clients.kept != 1 || all.holder != 1 || clients.holder)
		world_fail(w, "the observer has %llu and %llu references, the cell %llu", (unsigned long long)all.kept,
			   (unsigned long long)clients.kept, (unsigned long long)all.holder);
}

static void info(struct world *w, unsigned me)
{
	struct cxlshm_object_info kept = {0}, own = {0};
	struct cxlshm_pool *pool = (struct cxlshm_pool *)w->pool[me];

	for (unsigned i = 0; i < w->actors; i++)
		if (!expect(w, "object_info", cxlshm_object_info(pool, w->v.token[TOKEN_OWN + i], &own), -ENOENT) &&
		    own.id != w->v.token[TOKEN_OWN + i])
			world_fail(w, "object_info() is of another object");
	if (!expect(w, "object_info", cxlshm_object_info(pool, w->v.token[TOKEN_KEPT], &kept), 0))
		check_info(w, &kept);
}

static void counters(struct world *w, unsigned me)
{
	const struct pool *pool = w->pool[me];
	struct cxlshm_counters n;

	if (expect(w, "counters", cxlshm_counters((struct cxlshm_pool *)w->pool[me], &n), 0))
		return;
	if (n.segments_free + n.segments_owned + n.segments_orphaned + n.segments_span != pool->segments - pool->first_segment ||
	    n.clients < 1 || n.clients > w->actors + 1)
		world_fail(w, "%u clients; segments: %u free, %u owned, %u orphans, %u in spans", n.clients, n.segments_free,
			   n.segments_owned, n.segments_orphaned, n.segments_span);
}

/* ---- who changes something ---- */

/* The others' object goes, if they have dropped it, and their own, if the others have. */
static void free_op(struct world *w, unsigned me)
{
	drop_row(w, me, REF_OTHERS);
	drop_row(w, me, REF_OWN);
}

static void attach_op(struct world *w, unsigned me)
{
	cxlshm_ref copy = 0;

	if (gone(w, me) || expect(w, "attach", cxlshm_attach(actor(w, me), w->v.ref[me][REF_KEPT], &copy), 0))
		return;
	expect(w, "release", cxlshm_release(actor(w, me), copy), 0);
}

static void cell_op(struct world *w, unsigned me)
{
	if (gone(w, me))
		return;
	expect(w, "store", cxlshm_cell_store(actor(w, me), w->v.ref[me][REF_HOLDER], 1, w->v.ref[me][REF_OWN]), 0);
	expect(w, "store", cxlshm_cell_store(actor(w, me), w->v.ref[me][REF_HOLDER], 1, 0), 0);
}

static void alloc_op(struct world *w, unsigned me)
{
	cxlshm_ref ref = 0;

	if (!gone(w, me) && !expect(w, "alloc", cxlshm_alloc(actor(w, me), 3000, &ref), 0))
		expect(w, "release", cxlshm_release(actor(w, me), ref), 0);
}

static void span_op(struct world *w, unsigned me)
{
	cxlshm_ref ref = 0;

	if (gone(w, me) || expect(w, "alloc", cxlshm_alloc(actor(w, me), 300000, &ref), -ENOSPC))
		return;
	expect(w, "release", cxlshm_release(actor(w, me), ref), 0);
	expect(w, "trim", cxlshm_trim(actor(w, me)), 0);
}

static void leave_op(struct world *w, unsigned me)
{
	if (!gone(w, me))
		expect(w, "leave", cxlshm_leave(actor(w, me)), 0);
}

static const struct op ops[] = {
	{"objects", objects}, {"holders", holders}, {"info", info}, {"counters", counters}, {"free", free_op},
	{"attach", attach_op}, {"cell", cell_op}, {"alloc", alloc_op}, {"span", span_op}, {"leave", leave_op}, {NULL, NULL},
};

const struct area area_look = {
	.name = "look", .leading = 4, .prepare = prepare, .ops = ops,
};
