/* SPDX-License-Identifier: MIT */
/*
 * Areas queue, spsc and holder: a queue of two places with one reference in it.
 *
 * Areas wait_*: calls that wait, on an empty queue or a full one.
 *
 * Areas sender_* and receiver_*: a one-to-one queue whose sender, or receiver, is gone: it left, or died in a call, and is
 * not recovered.  Actors 0 and 1 are its heirs, actor 2 has the other role.  Of who left, actor 1 has the slot.
 */
#include <errno.h>
#include <time.h>

#include "queue.h"
#include "interleave.h"

#define CAPACITY 2u
#define QUEUE ROW_QUEUE
#define FIRST (ROW_QUEUE + 1)
#define ITEMS 7u	/* references at hand for sending */
#define TAG_OBSERVER 90
#define TAG_GHOST 70	/* of what passes before the fibers run, and what is in the queue then */
#define GHOST ACTORS_MAX	/* who is gone has the handle of the first recoverer, and its number in the history: the next one */
#define GHOST_FIBER (GHOST + 1)

static void make_queue(struct world *w, unsigned flags)
{
	MUST(cxlshm_queue_create(actor(w, OBSERVER), CAPACITY, flags, &w->v.ref[OBSERVER][QUEUE]));
	w->v.history.capacity = CAPACITY;
	w->v.history.roles = flags & CXLSHM_SPSC;
	w->v.ref[OBSERVER][FIRST] = tagged(w, OBSERVER, TAG_OBSERVER, 40);
}

static void take_part(struct world *w, unsigned me)
{
	w->v.ref[me][QUEUE] = hand_over(w, OBSERVER, w->v.ref[OBSERVER][QUEUE], me);
	for (unsigned k = 0; k < ITEMS; k++)
		w->v.ref[me][FIRST + k] = tagged(w, me, (int)(10 * (me + 1) + k), 40);
}

static void prepare(struct world *w, unsigned flags)
{
	make_queue(w, flags);
	w->v.history.start[0] = 1;
	w->v.history.start[1] = 1;
	for (unsigned i = 0; i < w->actors; i++)
		take_part(w, i);
	/* Who sends first has the role: actor 0 of an SPSC queue. */
	MUST(cxlshm_queue_send(actor(w, 0), w->v.ref[0][QUEUE], tagged(w, 0, 1, 40)));
	w->v.history.start[QUEUE_ROLES] = flags & CXLSHM_SPSC ? 1 : 0;
}

static void prepare_any(struct world *w)
{
	prepare(w, 0);
}

static void prepare_one(struct world *w)
{
	prepare(w, CXLSHM_SPSC);
}

#define WAIT_NS 10000000	/* one sleep; nobody's time is over while anybody else can run */

static int64_t waited_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/*
 * Who found its time over was alone: if there was something to be had then, it should have been woken, unless somebody died
 * who would have done so.  And if there was nothing, that is how the queue was then, not just when the call began.
 */
static int judge_wait(struct world *w, uint32_t *e, int64_t from, int rc)
{
	struct history *h = &w->v.history;
	struct event again = h->event[*e];

	if (waited_ns() == from)
		return rc;
	if (!rc && !w->deaths)
		world_fail(w, "a wake-up was lost: it waited for what was there");
	if (rc != -ETIMEDOUT)
		return rc;
	/* Of a one-to-one queue it has had the role since its first try, which is an event of its own. */
	if (!h->roles) {
		h->event[*e].begin = h->clock++;
	} else if (h->count < EVENTS_MAX / 2) {
		history_end(h, *e, -EAGAIN, 0);
		*e = h->count++;
		h->event[*e] = again;
		h->event[*e].begin = h->clock++;
	}
	return -EAGAIN;
}

static int send_for(struct world *w, unsigned me, int wait)
{
	struct history *h = &w->v.history;
	cxlshm_ref *item = NULL;
	int64_t from;
	uint32_t e;
	int rc;

	for (unsigned k = 0; k < ITEMS && !item; k++)
		if (w->v.ref[me][FIRST + k])
			item = &w->v.ref[me][FIRST + k];
	if (!item)
		return -ENOENT;
	e = history_begin(h, me, OP_SEND);
	h->event[e].arg = tag_of(w, me, *item);
	from = waited_ns();
	rc = wait ? judge_wait(w, &e, from, cxlshm_queue_send_wait(actor(w, me), w->v.ref[me][QUEUE], *item, WAIT_NS)) :
		    cxlshm_queue_send(actor(w, me), w->v.ref[me][QUEUE], *item);
	if (rc != -EBUSY)
		expect(w, "send", rc, -EAGAIN);
	history_end(h, e, rc, 0);
	if (!rc)
		*item = 0;
	return rc;
}

static int receive_for(struct world *w, unsigned me, int wait)
{
	struct history *h = &w->v.history;
	uint32_t e = history_begin(h, me, OP_RECEIVE);
	int64_t from = waited_ns();
	cxlshm_ref ref = 0;
	int rc;

	rc = wait ? judge_wait(w, &e, from, cxlshm_queue_receive_wait(actor(w, me), w->v.ref[me][QUEUE], &ref, WAIT_NS)) :
		    cxlshm_queue_receive(actor(w, me), w->v.ref[me][QUEUE], &ref);
	if (rc != -EBUSY)
		expect(w, "receive", rc, -EAGAIN);
	history_end(h, e, rc, rc ? 0 : tag_of(w, me, ref));
	if (!rc)
		expect(w, "release", cxlshm_release(actor(w, me), ref), 0);
	return rc;
}

static int send(struct world *w, unsigned me)
{
	return send_for(w, me, 0);
}

static int receive(struct world *w, unsigned me)
{
	return receive_for(w, me, 0);
}

static void send_op(struct world *w, unsigned me)
{
	if (!gone(w, me))
		(void)send(w, me);
}

static void receive_op(struct world *w, unsigned me)
{
	if (!gone(w, me))
		(void)receive(w, me);
}

static void send_wait_op(struct world *w, unsigned me)
{
	if (!gone(w, me))
		(void)send_for(w, me, 1);
}

static void receive_wait_op(struct world *w, unsigned me)
{
	if (!gone(w, me))
		(void)receive_for(w, me, 1);
}

/* The second waits while the other one still is at waking the first. */
static void send_wait2_op(struct world *w, unsigned me)
{
	send_wait_op(w, me);
	send_wait_op(w, me);
}

static void receive_wait2_op(struct world *w, unsigned me)
{
	receive_wait_op(w, me);
	receive_wait_op(w, me);
}

/* It takes what it sends, or another's; and it makes room for itself, or another. */
static void pass_wait_op(struct world *w, unsigned me)
{
	send_op(w, me);
	receive_wait_op(w, me);
}

static void turn_wait_op(struct world *w, unsigned me)
{
	receive_op(w, me);
	send_wait_op(w, me);
}

static void length_op(struct world *w, unsigned me)
{
	int64_t length;
	uint32_t e;

	if (gone(w, me))
		return;
	e = history_begin(&w->v.history, me, OP_LENGTH);
	length = cxlshm_queue_length(actor(w, me), w->v.ref[me][QUEUE]);
	history_end(&w->v.history, e, length < 0 ? (int32_t)length : 0, (int32_t)length);
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

/* One after the other: at no time are there more than before. */
static void turn_op(struct world *w, unsigned me)
{
	receive_op(w, me);
	send_op(w, me);
}

static void leave_op(struct world *w, unsigned me)
{
	uint32_t e = 0;

	if (gone(w, me))
		return;
	if (w->v.history.roles)
		e = history_begin(&w->v.history, me, OP_LEAVE);
	expect(w, "leave", cxlshm_leave(actor(w, me)), 0);
	if (w->v.history.roles)
		history_end(&w->v.history, e, 0, 0);
}

static void send_leave_op(struct world *w, unsigned me)
{
	send_op(w, me);
	leave_op(w, me);
}

static void receive_leave_op(struct world *w, unsigned me)
{
	receive_op(w, me);
	leave_op(w, me);
}

/* One of those who live can go on with it: the observer, unless one of the others has the role. */
static unsigned goes_on(struct world *w, int (*step)(struct world *w, unsigned me), int *rc)
{
	unsigned who = OBSERVER;

	*rc = step(w, who);
	for (unsigned i = 0; *rc == -EBUSY && i < w->actors; i++)
		if (!(w->who_died & 1u << i) && !gone(w, i))
			*rc = step(w, who = i);
	if (*rc == -EBUSY)
		world_fail(w, "a role has no heir");
	return who;
}

/* While nobody dies, of those who want a role that nobody living has one gets it. */
static void somebody_took(struct world *w, enum event_op op)
{
	const struct history *h = &w->v.history;
	uint8_t had = h->start[QUEUE_ROLES + (op == OP_RECEIVE)];
	int tried = 0, took = 0;

	for (uint32_t i = 0; i < h->count; i++)
		if (h->event[i].op == op) {
			tried = 1;
			took |= h->event[i].ret != -EBUSY;
		}
	if (!w->deaths && tried && !took && (!had || had > ACTORS_MAX))
		world_fail(w, "nobody took a role that was free");
}

/* Drain it; and something more must go through it. */
static void observe(struct world *w)
{
	unsigned receiver;
	int rc;

	if (w->v.history.roles) {
		somebody_took(w, OP_SEND);
		somebody_took(w, OP_RECEIVE);
	}
	receiver = goes_on(w, receive, &rc);
	for (uint32_t i = 0; !rc; i++) {
		if (i == CAPACITY) {
			world_fail(w, "the queue gives more than fits into it");
			return;
		}
		rc = receive(w, receiver);
	}
	(void)goes_on(w, send, &rc);
	if (rc && rc != -ENOENT)
		world_fail(w, "nothing can be sent on the empty queue: %s", strerror(-rc));
	else if (!rc && receive(w, receiver))
		world_fail(w, "what was sent last does not arrive");
}

static const struct op ops[] = {
	{"send", send_op}, {"receive", receive_op}, {"send2", send2_op}, {"receive2", receive2_op},
	{"pass", pass_op}, {"turn", turn_op}, {"length", length_op}, {"leave", leave_op}, {NULL, NULL},
};

static const struct op role_ops[] = {
	{"send", send_op}, {"receive", receive_op}, {"send2", send2_op}, {"receive2", receive2_op},
	{"pass", pass_op}, {"leave", leave_op}, {"send_leave", send_leave_op}, {"receive_leave", receive_leave_op}, {NULL, NULL},
};

const struct area area_queue = {
	.name = "queue", .kind = SPEC_QUEUE, .prepare = prepare_any, .observe = observe, .ops = ops,
};

const struct area area_spsc = {
	.name = "spsc", .kind = SPEC_QUEUE, .ordered = 1, .prepare = prepare_one, .observe = observe, .ops = ops,
};

/* ---- waiting: actor 0 has the sender's role, actor 1 the receiver's, if there are any ---- */

static void prepare_wait(struct world *w, unsigned flags, uint32_t full)
{
	uint8_t *start = w->v.history.start;
	cxlshm_ref ref;

	make_queue(w, flags);
	for (unsigned i = 0; i < w->actors; i++)
		take_part(w, i);
	MUST(cxlshm_queue_send(actor(w, 0), w->v.ref[0][QUEUE], tagged(w, 0, 1, 40)));
	MUST(cxlshm_queue_receive(actor(w, 1), w->v.ref[1][QUEUE], &ref));
	MUST(cxlshm_release(actor(w, 1), ref));
	for (uint32_t k = 1; full && k <= CAPACITY; k++) {
		MUST(cxlshm_queue_send(actor(w, 0), w->v.ref[0][QUEUE], tagged(w, 0, (int)k, 40)));
		start[0] = start[k] = (uint8_t)k;
	}
	start[QUEUE_ROLES] = flags & CXLSHM_SPSC ? 1 : 0;
	start[QUEUE_ROLES + 1] = flags & CXLSHM_SPSC ? 2 : 0;
}

static const struct op wait_ops[] = {
	{"send_wait", send_wait_op}, {"receive_wait", receive_wait_op}, {"send_wait2", send_wait2_op},
	{"receive_wait2", receive_wait2_op}, {"pass_wait", pass_wait_op}, {"turn_wait", turn_wait_op},
	{"send", send_op}, {"receive", receive_op}, {"send2", send2_op}, {"receive2", receive2_op}, {"leave", leave_op}, {NULL, NULL},
};

#define WAIT(how, flags, full)                                                                     \
	static void prepare_wait_##how(struct world *w)                                            \
	{                                                                                          \
		prepare_wait(w, flags, full);                                                      \
	}                                                                                          \
	const struct area area_wait_##how = {                                                      \
		.name = "wait_" #how, .kind = SPEC_QUEUE, .leading = 4, .ordered = (flags) != 0,   \
		.prepare = prepare_wait_##how, .observe = observe, .ops = wait_ops,                \
	};

WAIT(empty, 0, 0)
WAIT(full, 0, 1)
WAIT(empty_one, CXLSHM_SPSC, 0)
WAIT(full_one, CXLSHM_SPSC, 1)

/* ---- succession: actor 0 has the sender's role, and goes or dies ---- */

static const char *const holder_triples[] = {
	"leave+send+send", "leave+send+pass", "leave+pass+pass", "send_leave+send+pass", "send+send+send", "send+send+receive",
	"send+pass+pass", NULL,
};

const struct area area_holder = {
	.name = "holder", .kind = SPEC_QUEUE, .ordered = 1, .triples = holder_triples, .prepare = prepare_one, .observe = observe,
	.ops = role_ops,
};

/* ---- succession: who had the role is gone before they run ---- */

enum went { LEFT, BEGUN, STORED };

/* As it is left by somebody who died in queue_send() or _receive(): the position begun, or the cell written, too. */
static void die_in_call(struct world *w, struct client *c, cxlshm_ref queue_ref, struct root_fmt *row, enum queue_side side,
			enum went went)
{
	uint64_t position, mine = a64_load_relaxed(&row->object);
	struct cell_fmt *cell;
	struct stamped seen;
	struct queue queue;
	struct redo_fmt *r;
	struct a64 *begun;

	MUST(queue_at(c->pool, cxlshm_id((struct cxlshm_client *)c, queue_ref), &queue));
	begun = side == QUEUE_SENDER ? &queue.q->tail : &queue.q->head;
	position = a64_load_relaxed(begun);
	cell = queue.cells + position % CAPACITY;
	seen = a128_load_acquire(&cell->word);
	if (mine)
		ref_expose(c, mine);
	r = redo_begin(c, REDO_EXCHANGE);
	r->word = off_of(c->pool, &cell->word);
	r->loc = off_of(c->pool, &row->object);
	r->object = seen.value;
	redo_seal(c, r);
	a64_store_release(begun, position + 1);
	if (went == STORED)
		era_store(c, &cell->word, seen.stamp, mine);
	standins_drop_locks(w->pool[GHOST]->heap_fd);
	w->pool[GHOST]->own[c->cid] = NULL;
	w->pool[GHOST]->claimed[c->cid] = 0;
	free(c);
}

static cxlshm_ref ghost_gets(struct world *w, struct cxlshm_client *ghost, cxlshm_ref ref)
{
	cxlshm_ref copy = 0, out = 0;
	uint64_t token;

	MUST(cxlshm_attach(actor(w, OBSERVER), ref, &copy));
	MUST(cxlshm_export(actor(w, OBSERVER), copy, &token));
	MUST(cxlshm_import(ghost, token, &out));
	return out;
}

static cxlshm_ref ghost_item(struct world *w, struct cxlshm_client *ghost, int tag)
{
	cxlshm_ref ref = tagged(w, OBSERVER, tag, 40), out = ghost_gets(w, ghost, ref);

	MUST(cxlshm_release(actor(w, OBSERVER), ref));
	return out;
}

static void transfer(struct cxlshm_client *from, cxlshm_ref from_queue, cxlshm_ref item, struct cxlshm_client *to, cxlshm_ref to_queue)
{
	cxlshm_ref ref;

	MUST(cxlshm_queue_send(from, from_queue, item));
	MUST(cxlshm_queue_receive(to, to_queue, &ref));
	MUST(cxlshm_release(to, ref));
}

/* One has passed, so no position is the first one.  Then the receiver's queue is filled, or the sender's is empty. */
static void prepare_gone(struct world *w, enum queue_side side, enum went went)
{
	struct cxlshm_client *ghost = actor(w, 1), *peer = actor(w, 2);
	uint8_t *start = w->v.history.start;
	cxlshm_ref queue, peers_queue;
	struct root_fmt *row;

	REQUIRE(w->actors == ACTORS_MAX);
	make_queue(w, CXLSHM_SPSC);
	take_part(w, 0);
	take_part(w, 2);
	peers_queue = w->v.ref[2][QUEUE];
	if (went != LEFT)
		MUST(cxlshm_join((struct cxlshm_pool *)w->pool[GHOST], "ghost", 0, &ghost));
	queue = ghost_gets(w, ghost, w->v.ref[OBSERVER][QUEUE]);
	start[QUEUE_ROLES + (side == QUEUE_SENDER ? QUEUE_RECEIVER : QUEUE_SENDER)] = 3;
	if (went != LEFT) {
		start[QUEUE_ROLES + side] = GHOST_FIBER + 1;
		history_died(&w->v.history, GHOST_FIBER);
	}
	if (side == QUEUE_SENDER) {
		transfer(ghost, queue, ghost_item(w, ghost, TAG_GHOST), peer, peers_queue);
		row = root_of((struct client *)ghost, ghost_item(w, ghost, TAG_GHOST + 1));
	} else {
		transfer(peer, peers_queue, tagged(w, 2, TAG_GHOST, 40), ghost, queue);
		for (int k = 1; k <= 2; k++) {
			MUST(cxlshm_queue_send(peer, peers_queue, tagged(w, 2, TAG_GHOST + k, 40)));
			start[k] = (uint8_t)(TAG_GHOST + k);
		}
		start[0] = 2;
		MUST(root_take((struct client *)ghost, &row));
	}
	if (went == LEFT) {
		struct cxlshm_client *heir;

		MUST(cxlshm_leave(ghost));
		MUST(cxlshm_join((struct cxlshm_pool *)w->pool[1], "actor", 0, &heir));
		w->client[1] = (struct client *)heir;
		REQUIRE(w->cid[1] == w->client[1]->cid);
	} else {
		die_in_call(w, (struct client *)ghost, queue, row, side, went);
	}
	if (went == STORED && side == QUEUE_SENDER) {
		start[1] = TAG_GHOST + 1;
		start[0] = 1;
	} else if (went == STORED) {
		start[1] = start[2];
		start[0] = 1;
	}
	take_part(w, 1);
}

static const char *const sender_triples[] = {
	"send+send+receive", "send+send+receive2", "send+send2+receive", "send2+send+receive", "send_leave+send+receive",
	"send+leave+receive", NULL,
};

static const char *const receiver_triples[] = {
	"receive+receive+send", "receive+receive+send2", "receive+receive2+send", "receive2+receive+send",
	"receive_leave+receive+send", "receive+leave+send", NULL,
};

#define AREA(side, enumerator, how, went)                                                          \
	static void prepare_##side##_##how(struct world *w)                                        \
	{                                                                                          \
		prepare_gone(w, enumerator, went);                                                 \
	}                                                                                          \
	const struct area area_##side##_##how = {                                                  \
		.name = #side "_" #how, .kind = SPEC_QUEUE, .ordered = 1, .triples = side##_triples, \
		.prepare = prepare_##side##_##how, .observe = observe, .ops = role_ops,            \
	};

AREA(sender, QUEUE_SENDER, left, LEFT)
AREA(sender, QUEUE_SENDER, begun, BEGUN)
AREA(sender, QUEUE_SENDER, filled, STORED)
AREA(receiver, QUEUE_RECEIVER, left, LEFT)
AREA(receiver, QUEUE_RECEIVER, begun, BEGUN)
AREA(receiver, QUEUE_RECEIVER, emptied, STORED)
