/* SPDX-License-Identifier: MIT */
/*
 * Areas queue and spsc: a queue of two places with one reference in it.
 */
#include <errno.h>

#include "interleave.h"

#define CAPACITY 2u
#define QUEUE 0u
#define FIRST 1u
#define ITEMS 5u	/* references at hand for sending */

static void prepare(struct world *w, unsigned flags)
{
	cxlshm_ref *seen = &w->v.ref[OBSERVER][QUEUE];

	MUST(cxlshm_queue_create(actor(w, OBSERVER), CAPACITY, flags, seen));
	w->v.history.capacity = CAPACITY;
	w->v.history.start[0] = 1;
	w->v.history.start[1] = 1;
	for (unsigned i = 0; i < w->actors; i++) {
		w->v.ref[i][QUEUE] = hand_over(w, OBSERVER, *seen, i);
		for (unsigned k = 0; k < ITEMS; k++)
			w->v.ref[i][FIRST + k] = tagged(w, i, (int)(10 * (i + 1) + k), 40);
	}
	/* Who sends first has the role: actor 0 of an SPSC queue. */
	MUST(cxlshm_queue_send(actor(w, 0), w->v.ref[0][QUEUE], tagged(w, 0, 1, 40)));
}

static void prepare_any(struct world *w)
{
	prepare(w, 0);
}

static void prepare_one(struct world *w)
{
	prepare(w, CXLSHM_SPSC);
}

static int gone(struct world *w, unsigned me)
{
	return w->pool[me]->own[w->cid[me]] != w->client[me];
}

static void send_op(struct world *w, unsigned me)
{
	struct history *h = &w->v.history;
	cxlshm_ref *item = NULL;
	uint32_t e;
	int rc;

	for (unsigned k = 0; k < ITEMS && !item; k++)
		if (w->v.ref[me][FIRST + k])
			item = &w->v.ref[me][FIRST + k];
	if (gone(w, me) || !item)
		return;
	e = history_begin(h, me, OP_SEND);
	h->event[e].arg = tag_of(w, me, *item);
	rc = cxlshm_queue_send(actor(w, me), w->v.ref[me][QUEUE], *item);
	if (rc != -EBUSY)
		expect(w, "send", rc, -EAGAIN);
	history_end(h, e, rc, 0);
	if (!rc)
		*item = 0;
}

static int receive(struct world *w, unsigned me)
{
	struct history *h = &w->v.history;
	uint32_t e = history_begin(h, me, OP_RECEIVE);
	cxlshm_ref ref = 0;
	int rc;

	rc = cxlshm_queue_receive(actor(w, me), w->v.ref[me][QUEUE], &ref);
	if (rc != -EBUSY)
		expect(w, "receive", rc, -EAGAIN);
	history_end(h, e, rc, rc ? 0 : tag_of(w, me, ref));
	if (!rc)
		expect(w, "release", cxlshm_release(actor(w, me), ref), 0);
	return rc;
}

static void receive_op(struct world *w, unsigned me)
{
	if (!gone(w, me))
		(void)receive(w, me);
}

static void send2_op(struct world *w, unsigned me)
{
	send_op(w, me);
	send_op(w, me);
}

static void receive2_op(struct world *w, unsigned me)
{
	receive_op(w, me);
	receive_op(w, me);
}

static void pass_op(struct world *w, unsigned me)
{
	send_op(w, me);
	receive_op(w, me);
}

static void leave_op(struct world *w, unsigned me)
{
	if (!gone(w, me))
		expect(w, "leave", cxlshm_leave(actor(w, me)), 0);
}

/* Drain it. */
static void observe(struct world *w)
{
	for (uint32_t i = 0; i <= CAPACITY; i++)
		if (receive(w, OBSERVER))
			return;
	world_fail(w, "the queue gives more than fits into it");
}

static const struct op ops[] = {
	{"send", send_op}, {"receive", receive_op}, {"send2", send2_op}, {"receive2", receive2_op},
	{"pass", pass_op}, {"leave", leave_op}, {NULL, NULL},
};

const struct area area_queue = {
	.name = "queue", .kind = SPEC_QUEUE, .prepare = prepare_any, .observe = observe, .ops = ops,
};

const struct area area_spsc = {
	.name = "spsc", .kind = SPEC_QUEUE, .ordered = 1, .prepare = prepare_one, .observe = observe, .ops = ops,
};
