/* SPDX-License-Identifier: MIT */
/*
 * queue: a bounded first-in-first-out queue of references.
 *
 *   call                         excludes                               progress
 *   queue_send                   nothing                                lock-free
 *     of a CXLSHM_SPSC queue     other senders: -EBUSY, by the role     wait-free
 *   queue_receive                nothing                                lock-free
 *     of a CXLSHM_SPSC queue     other receivers: -EBUSY, by the role   wait-free
 *   queue_length, queue_check    nothing                                wait-free
 *   queue_announce, _sleep       nothing                                sleeps, for a bounded time
 *
 * The caller holds a reference to the queue throughout.
 */
#ifndef CXLSHM_QUEUE_H
#define CXLSHM_QUEUE_H

#include "cell.h"

#define QUEUE_CAPACITY_MAX (1u << 20)

/* Where the parts of a queue are in this process. */
struct queue {
	struct cell_fmt *cells;
	struct queue_fmt *q;
	uint32_t capacity;
};

enum queue_side { QUEUE_SENDER, QUEUE_RECEIVER };

/* A queue, private, and a root to it in *row.  -ENOSPC; -EINVAL. */
int queue_create(struct client *c, uint32_t capacity, unsigned flags, struct root_fmt **row);

/* The parts of the queue at off.  -EINVAL: it is no queue; -EUCLEAN. */
static inline int queue_at(const struct pool *pool, uint64_t off, struct queue *out)
{
	struct object_fmt *object = off_object(pool, off);
	uint64_t header = a128_value_relaxed(&object->word);
	uint64_t bytes = 16ull * object_slots(header) + sizeof(*object) + sizeof(*out->q);

	if (__builtin_expect(object_kind(header) != OBJECT_QUEUE, 0))
		return -EINVAL;
	if (__builtin_expect(!object_slots(header) || !off_in_heap(pool, off, bytes), 0))
		return -EUCLEAN;
	out->cells = object_cell(object, 0);
	out->q = object_queue(object, header);
	out->capacity = object_slots(header);
	return __builtin_expect(out->q->capacity != out->capacity, 0) ? -EUCLEAN : 0;
}

/*
 * Move the row's reference into the queue; the row is empty afterwards and still the caller's.  Or move the first
 * reference of the queue into the row, which is empty.
 * -EAGAIN: full; empty.  -EBUSY: another living client has the role.  -EOWNERDEAD: its holder died and must be
 * recovered first.  -EUCLEAN.
 */
int queue_send(struct client *c, const struct queue *queue, struct root_fmt *row);
int queue_receive(struct client *c, const struct queue *queue, struct root_fmt *row);

/* References in it: exact when nobody is inside a call, and no dead client of an SPSC queue was. */
uint64_t queue_length(const struct queue *queue);

/*
 * To wait: announce, try once more, sleep with what announcing gave.  queue_sleep(): 0 when woken or late,
 * -ETIMEDOUT, -EINTR.  Who dies between its step and the wake-up leaves sleepers to their time-out, so keep it short.
 */
uint32_t queue_announce(struct client *c, const struct queue *queue, enum queue_side side);
int queue_sleep(const struct queue *queue, enum queue_side side, uint32_t announced, uint64_t timeout_ns);

/* What is wrong with the queue at off, in which no call is running (dead clients may have been in one), or NULL. */
const char *queue_check(const struct pool *pool, uint64_t off);

#endif
