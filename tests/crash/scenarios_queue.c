/* SPDX-License-Identifier: MIT */
/*
 * Crash scenarios: queues.
 */
#include <errno.h>

#include "crash.h"

/* The neighbour holds queue 0 (any to any) with one reference in it, and queue 1 (one to one), empty. */
static void prepare_queues(struct stage *s)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref ref;

	MUST(cxlshm_queue_create(n, 3, 0, &s->held[0]));
	MUST(cxlshm_queue_create(n, 2, CXLSHM_SPSC, &s->held[1]));
	MUST(cxlshm_alloc(n, 32, &ref));
	MUST(cxlshm_queue_send(n, s->held[0], ref));
	for (int i = 0; i < 2; i++) {
		MUST(cxlshm_attach(n, s->held[i], &ref));
		MUST(cxlshm_export(n, ref, &s->token[i]));
	}
}

static int drain(struct cxlshm_client *c, cxlshm_ref queue)
{
	cxlshm_ref ref;
	int n = 0;

	while (!cxlshm_queue_receive(c, queue, &ref)) {
		MUST(cxlshm_release(c, ref));
		n++;
	}
	return n;
}

/* Both queues work, with whatever is left in them. */
static void after_queues(struct stage *s)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref ref, got;
	uint64_t id;

	for (int i = 0; i < 2; i++) {
		drain(n, s->held[i]);
		MUST(cxlshm_alloc(n, 32, &ref));
		id = cxlshm_id(n, ref);
		MUST(cxlshm_queue_send(n, s->held[i], ref));
		MUST(cxlshm_queue_receive(n, s->held[i], &got));
		REQUIRE(cxlshm_id(n, got) == id);
		MUST(cxlshm_queue_send(n, s->held[i], got));
	}
}

static void act_queue(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *a, *b;
	cxlshm_ref qa, ref;

	MUST(cxlshm_join(pool, "a", 0, &a));
	MUST(cxlshm_join(pool, "b", 0, &b));
	MUST(cxlshm_import(a, s->token[0], &qa));
	MUST(cxlshm_queue_receive(a, qa, &ref));
	MUST(cxlshm_queue_send(a, qa, ref));
	for (int i = 0; i < 2; i++) {
		MUST(cxlshm_alloc(a, 48, &ref));
		MUST(cxlshm_queue_send(a, qa, ref));
	}
	MUST(cxlshm_alloc(a, 48, &ref));
	REQUIRE(cxlshm_queue_send(a, qa, ref) == -EAGAIN);
	MUST(cxlshm_release(a, ref));
	MUST(cxlshm_queue_receive(a, qa, &ref));
	MUST(cxlshm_release(a, ref));
	MUST(cxlshm_leave(b));
	MUST(cxlshm_leave(a));
}

static void act_spsc(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *a, *b;
	cxlshm_ref qa, qb, copy, ref;
	uint64_t token;

	MUST(cxlshm_join(pool, "a", 0, &a));
	MUST(cxlshm_join(pool, "b", 0, &b));
	MUST(cxlshm_import(a, s->token[1], &qa));
	MUST(cxlshm_attach(a, qa, &copy));
	MUST(cxlshm_export(a, copy, &token));
	MUST(cxlshm_import(b, token, &qb));
	for (int i = 0; i < 5; i++) {
		MUST(cxlshm_alloc(a, 48, &ref));
		MUST(cxlshm_queue_send(a, qa, ref));
		if (i) {
			MUST(cxlshm_queue_receive(b, qb, &ref));
			MUST(cxlshm_release(b, ref));
		}
	}
	/* One is left in it when both go. */
	MUST(cxlshm_leave(a));
	MUST(cxlshm_leave(b));
}

/* Whatever is in the queues: go on with them. */
static void go_on(struct stage *s, struct cxlshm_pool *pool, int which)
{
	struct cxlshm_client *a;
	cxlshm_ref queue, ref;

	MUST(cxlshm_join(pool, "a", 0, &a));
	MUST(cxlshm_import(a, s->token[which], &queue));
	MUST(cxlshm_alloc(a, 48, &ref));
	MUST(cxlshm_queue_send(a, queue, ref));
	drain(a, queue);
	MUST(cxlshm_leave(a));
}

static void act_receive_first(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *a;
	cxlshm_ref queue;

	MUST(cxlshm_join(pool, "a", 0, &a));
	MUST(cxlshm_import(a, s->token[0], &queue));
	REQUIRE(drain(a, queue) == 1);
	MUST(cxlshm_leave(a));
}

static void act_queue_more(struct stage *s, struct cxlshm_pool *pool)
{
	go_on(s, pool, 0);
}

static void act_spsc_receive(struct stage *s, struct cxlshm_pool *pool)
{
	go_on(s, pool, 1);
}

static void send_one(struct stage *s, struct cxlshm_client *c)
{
	cxlshm_ref queue, ref;

	MUST(cxlshm_import(c, s->token[7], &queue));
	MUST(cxlshm_alloc(c, 48, &ref));
	MUST(cxlshm_queue_send(c, queue, ref));
}

static void receive_one(struct stage *s, struct cxlshm_client *c)
{
	cxlshm_ref queue, ref;

	MUST(cxlshm_import(c, s->token[7], &queue));
	MUST(cxlshm_queue_receive(c, queue, &ref));
}

/* For the one that is to die. */
static void offer(struct stage *s, int queue)
{
	cxlshm_ref copy;

	MUST(cxlshm_attach(s->neighbour, s->held[queue], &copy));
	MUST(cxlshm_export(s->neighbour, copy, &s->token[7]));
}

/* Somebody died with the only reference sent and the tail not moved. */
static void prepare_lagging(struct stage *s)
{
	prepare_queues(s);
	drain(s->neighbour, s->held[0]);
	offer(s, 0);
	die_at(s, CRASH_queue_send_swapped, send_one, 1);
}

/* Somebody died with one received of a full queue and the head not moved. */
static void prepare_lagging_head(struct stage *s)
{
	cxlshm_ref ref;

	prepare_queues(s);
	for (int i = 0; i < 2; i++) {
		MUST(cxlshm_alloc(s->neighbour, 32, &ref));
		MUST(cxlshm_queue_send(s->neighbour, s->held[0], ref));
	}
	offer(s, 0);
	die_at(s, CRASH_queue_receive_swapped, receive_one, 1);
}

/* The only sender died in the middle of sending, the only receiver in the middle of receiving. */
static void prepare_sender_lost(struct stage *s)
{
	prepare_queues(s);
	offer(s, 1);
	die_at(s, CRASH_queue_send_begun, send_one, 1);
}

static void prepare_receiver_lost(struct stage *s)
{
	prepare_queues(s);
	offer(s, 1);
	die_at(s, CRASH_queue_send_stored, send_one, 1);
	offer(s, 1);
	die_at(s, CRASH_queue_receive_begun, receive_one, 1);
}

/* Somebody waited for a reference, so who sends wakes. */
static void act_wake(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *a;
	cxlshm_ref queue, ref;

	MUST(cxlshm_join(pool, "a", 0, &a));
	MUST(cxlshm_import(a, s->token[0], &queue));
	MUST(cxlshm_queue_receive(a, queue, &ref));
	MUST(cxlshm_release(a, ref));
	REQUIRE(cxlshm_queue_receive_wait(a, queue, &ref, 1000000) == -ETIMEDOUT);
	MUST(cxlshm_alloc(a, 48, &ref));
	MUST(cxlshm_queue_send(a, queue, ref));
	MUST(cxlshm_leave(a));
}

/* A queue of one's own goes with what is in it. */
static void act_drop(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c;
	cxlshm_ref queue, ref;

	(void)s;
	MUST(cxlshm_join(pool, "c", 0, &c));
	MUST(cxlshm_queue_create(c, 4, 0, &queue));
	for (int i = 0; i < 3; i++) {
		MUST(cxlshm_alloc(c, 48, &ref));
		MUST(cxlshm_queue_send(c, queue, ref));
	}
	MUST(cxlshm_release(c, queue));
	MUST(cxlshm_leave(c));
}

const struct scenario queue_scenarios[] = {
	{"queue", 1u << 20, prepare_queues, act_queue, after_queues, meanwhile_queues},
	{"queue-spsc", 1u << 20, prepare_queues, act_spsc, after_queues, meanwhile_queues},
	{"queue-lagging-tail", 1u << 20, prepare_lagging, act_receive_first, after_queues, meanwhile_queues},
	{"queue-lagging-head", 1u << 20, prepare_lagging_head, act_queue_more, after_queues, meanwhile_queues},
	{"queue-sender-lost", 1u << 20, prepare_sender_lost, act_spsc, after_queues, meanwhile_queues},
	{"queue-receiver-lost", 1u << 20, prepare_receiver_lost, act_spsc_receive, after_queues, meanwhile_queues},
	{"queue-wake", 1u << 20, prepare_queues, act_wake, after_queues, meanwhile_queues},
	{"queue-drop", 1u << 20, prepare_queues, act_drop, after_queues, meanwhile_queues},
	{NULL, 0, NULL, NULL, NULL, NULL},
};
