/* SPDX-License-Identifier: MIT */
/*
 * What the operations of all areas use.  Their accesses to memory are followed, like the library's.
 */
#include "interleave.h"

cxlshm_ref tagged(struct world *w, unsigned who, int tag, size_t bytes)
{
	cxlshm_ref ref = 0;

	if (expect(w, "alloc", cxlshm_alloc(actor(w, who), bytes, &ref), 0))
		return 0;
	*(volatile char *)cxlshm_ptr(actor(w, who), ref) = (char)tag;
	return ref;
}

int tag_of(struct world *w, unsigned who, cxlshm_ref ref)
{
	char *bytes;

	if (!ref)
		return 0;
	bytes = cxlshm_ptr(actor(w, who), ref);
	if (!bytes) {
		world_fail(w, "a reference that was given leads to no object");
		return -1;
	}
	return *(volatile char *)bytes;
}

int gone(struct world *w, unsigned me)
{
	return me != OBSERVER && w->pool[me]->own[w->cid[me]] != w->client[me];
}

void drop_row(struct world *w, unsigned me, uint32_t row)
{
	cxlshm_ref ref = w->v.ref[me][row];

	w->v.ref[me][row] = 0;
	if (!gone(w, me) && ref)
		expect(w, "release", cxlshm_release(actor(w, me), ref), 0);
}

cxlshm_ref hand_over(struct world *w, unsigned from, cxlshm_ref ref, unsigned to)
{
	cxlshm_ref copy = 0, out = 0;
	uint64_t token;

	MUST(cxlshm_attach(actor(w, from), ref, &copy));
	MUST(cxlshm_export(actor(w, from), copy, &token));
	MUST(cxlshm_import(actor(w, to), token, &out));
	return out;
}

/* ---- histories ---- */

uint32_t history_begin(struct history *h, unsigned fiber, enum event_op op)
{
	struct event *e;

	REQUIRE(h->count < EVENTS_MAX);
	/* What the fiber has done since its last event may come before others' events, this one may not. */
	fiber_step(1, 0, 0);
	e = &h->event[h->count];
	*e = (struct event){.fiber = (uint8_t)fiber, .op = (uint8_t)op, .begin = h->clock++, .end = NOT_ENDED};
	return h->count++;
}

void history_end(struct history *h, uint32_t event, int32_t ret, int32_t result)
{
	h->event[event].ret = ret;
	h->event[event].result = result;
	h->event[event].end = h->clock++;
}

void history_died(struct history *h, unsigned fiber)
{
	uint32_t e;

	for (uint32_t i = 0; i < h->count; i++)
		if (h->event[i].fiber == fiber && h->event[i].end == NOT_ENDED) {
			h->event[i].pending = 1;
			/* Of cells and queues it took effect before now, or never; names are completed by recovery. */
			if (spec_of(h->event[i].op) != SPEC_NAMES)
				h->event[i].end = h->clock++;
		}
	if (!h->roles)
		return;
	/* It has its roles until it is recovered, at some time before the end. */
	REQUIRE(h->count < EVENTS_MAX);
	e = h->count++;
	h->event[e] = (struct event){.fiber = (uint8_t)fiber, .op = OP_DEATH, .begin = h->clock++, .end = NOT_ENDED};
}
