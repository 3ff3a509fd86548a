/* SPDX-License-Identifier: MIT */
/*
 * Queues of references.  Position p of a queue of n is in cell p % n; tail is the next position to send to, head the
 * next one to receive from; both are 64-bit counters, and 0 <= tail - head <= n at any time.
 *
 * Any to any.  The cells are the truth, head and tail follow them, and anybody may push them on.  A sender fills the
 * empty cell at tail, then raises tail; a receiver empties the full cell at head, then raises head.  Whoever dies or
 * dawdles in between is helped.  That the helper never pushes a counter past a cell too early rests on three rules:
 *   - tail is raised over p only once p is filled; a position is emptied only after tail was raised over it; head is
 *     raised over p only once p is emptied; p is filled only after head was raised over p - n.
 *   - each side reads its own counter, the other's, the cell, and its own again, in this order.  So at tail == t with
 *     t - head < n, seen before the cell, a full cell is filled for t, and an empty one waits for t; and at head == h
 *     with tail > h, seen before the cell, an empty cell has been emptied.  (Read the other counter after the cell, and
 *     a slow helper steps over a position that was filled or emptied meanwhile.)
 *   - stamps are unique, so an exchange succeeds only if the cell has not changed since it was judged.
 * Full is said only if head stood still around the look at a full cell, empty only if tail did around an empty one.
 * Every round that fails does so because another client's step succeeded.  tests/model/queue.pml checks this.
 *
 * One to one (CXLSHM_SPSC).  Each role belongs to one client, named with its incarnation in a stamped word.  The sender
 * looks at nothing but the cell at tail (empty: room) and the receiver at the cell at head (full: a reference), so the
 * cells' lines are all that travels between their processors, and each cell is written by one side at a time: plain
 * 16-byte stores.  Here the counters say what was begun: the sender raises tail *before* it fills the cell, the receiver
 * raises head before it empties it.  So after a death, once recovery has finished the record, its successor can tell
 * whether the position begun last was done (settle_sender(), settle_receiver()), whatever the other side does meanwhile.
 *
 * Both kinds use the record of cell_exchange(); recovery needs nothing else.
 *
 * Waiting.  A sleeper sets `waiting` and looks again; who made a step looks at `waiting` afterwards.  The fence between
 * store and load is the sleeper's alone, by membarrier(2), so a step without sleepers costs no fence.
 */
#include "queue.h"

#include <limits.h>
#include <time.h>
#include <unistd.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>

static inline struct cell_fmt *cell_at(const struct queue *queue, uint64_t position)
{
	uint32_t n = queue->capacity;

	return queue->cells + (n & (n - 1) ? position % n : position & (n - 1));
}

int queue_create(struct client *c, uint32_t capacity, unsigned flags, struct root_fmt **row)
{
	const struct alloc_kind kind = {.kind = OBJECT_QUEUE, .slots = capacity, .cells = 1, .zero = 1};
	struct queue_fmt *q;
	uint64_t off;
	int rc;

	if (!capacity || capacity > QUEUE_CAPACITY_MAX)
		return -EINVAL;
	rc = alloc_object(c, 16ull * capacity + sizeof(*q), &kind, row);
	if (rc)
		return rc;
	/* Private so far.  Crash: an object without references in it, held by nobody but the dead client. */
	off = a64_load_relaxed(&(*row)->object);
	q = object_queue(off_object(c->pool, off), a128_value_relaxed(&off_object(c->pool, off)->word));
	q->capacity = capacity;
	q->flags = flags;
	persist(c->pool, q, sizeof(*q));
	return 0;
}

/* ---- waiting ---- */

static void wake_slow(struct client *c, struct a32 *waiting, struct a32 *futex)
{
	/*
	 * Pairs: queue_announce(), which reads the futex word before it sets `waiting`.  In this order, who sets it after
	 * our 0 stays announced, and who set it before finds the word changed, or is asleep and woken.
	 * Crash: sleepers wake up by their time-out.
	 */
	a32_store_release(waiting, 0);
	CRASH_POINT(c, queue, wake_cleared);
	a32_add_acq_rel(futex, 1);
	CRASH_POINT(c, queue, wake_counted);
	syscall(SYS_futex, a32_address(futex), FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Pairs: queue_announce(): either we see `waiting`, or its second try sees our step. */
static inline void wake(struct client *c, struct a32 *waiting, struct a32 *futex)
{
	if (__builtin_expect(c->fenced, 0))
		fence_seq_cst();
	else
		fence_compiler();
	if (__builtin_expect(a32_load_acquire(waiting), 0))
		wake_slow(c, waiting, futex);
}

uint32_t queue_announce(struct client *c, const struct queue *queue, enum queue_side side)
{
	struct queue_fmt *q = queue->q;
	uint32_t announced = a32_load_acquire(side == QUEUE_SENDER ? &q->send_futex : &q->receive_futex);

	/* Crash: the next step of the other side wakes nobody, in vain. */
	a32_store_release(side == QUEUE_SENDER ? &q->send_waiting : &q->receive_waiting, 1);
	CRASH_POINT(c, queue, announced);
	/*
	 * Pairs: wake().  Where membarrier is missing all clients are `fenced`; if it is taken from one process alone, a wake-up
	 * of that one may be lost, which costs it a slice of its sleep.
	 */
	if (!c->fenced)
		(void)syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0);
	fence_seq_cst();
	return announced;
}

int queue_sleep(const struct queue *queue, enum queue_side side, uint32_t announced, uint64_t timeout_ns)
{
	struct a32 *futex = side == QUEUE_SENDER ? &queue->q->send_futex : &queue->q->receive_futex;
	struct timespec timeout = {(time_t)(timeout_ns / 1000000000), (long)(timeout_ns % 1000000000)};

	if (!syscall(SYS_futex, a32_address(futex), FUTEX_WAIT, announced, &timeout, NULL, 0) || errno == EAGAIN)
		return 0;
	return errno == EINTR ? -EINTR : -ETIMEDOUT;
}

/* ---- any to any ---- */

static int send_any(struct client *c, const struct queue *queue, struct root_fmt *row)
{
	struct queue_fmt *q = queue->q;

	for (;;) {
		uint64_t tail = a64_load_acquire(&q->tail);
		uint64_t head = a64_load_acquire(&q->head);
		struct cell_fmt *cell = cell_at(queue, tail);
		struct stamped seen = a128_load_acquire(&cell->word);

		if (a64_load_acquire(&q->tail) != tail)
			continue;
		if (tail - head >= queue->capacity) {
			if (__builtin_expect(tail - head > queue->capacity, 0))
				return -EUCLEAN;
			/* Full if position tail - n is still in the cell, which head tells. */
			if (seen.value && a64_load_acquire(&q->head) == head)
				return -EAGAIN;
			/* Emptied, and head was left behind.  Pairs and Crash: as below, in receive_any(). */
			if (!seen.value && a64_cas_acq_rel(&q->head, head, head + 1)) {
				persist(c->pool, &q->head, sizeof(q->head));
				CRASH_POINT(c, queue, send_helped);
			}
			continue;
		}
		if (!seen.value) {
			/*
			 * The commit point.  Pairs: receive_any() reads the cell (acquire).
			 * Crash before: the record did not land, the row keeps its reference.  After: recovery empties the row.
			 */
			if (cell_exchange(c, cell, seen, row, NULL))
				continue;
			CRASH_POINT(c, queue, send_swapped);
		}
		/*
		 * Ours, or that of a sender we help.  Pairs: receive_any() reads tail (acquire), then the cell.
		 * Crash before: the next sender or receiver that sees the full cell at tail does it.
		 */
		a64_cas_acq_rel(&q->tail, tail, tail + 1);
		persist(c->pool, &q->tail, sizeof(q->tail));
		CRASH_POINT(c, queue, send_moved);
		if (!seen.value)
			return 0;
	}
}

static int receive_any(struct client *c, const struct queue *queue, struct root_fmt *row)
{
	struct queue_fmt *q = queue->q;

	for (;;) {
		uint64_t head = a64_load_acquire(&q->head);
		uint64_t tail = a64_load_acquire(&q->tail);
		struct cell_fmt *cell = cell_at(queue, head);
		struct stamped seen = a128_load_acquire(&cell->word);

		if (a64_load_acquire(&q->head) != head)
			continue;
		if (__builtin_expect(tail - head > queue->capacity, 0))
			return -EUCLEAN;
		if (!seen.value && tail == head) {
			if (a64_load_acquire(&q->tail) == tail)
				return -EAGAIN;
			continue;
		}
		if (seen.value) {
			if (__builtin_expect(!off_is_object(c->pool, seen.value), 0))
				return -EUCLEAN;
			/* A sender has filled it and not come further: a position is emptied only after tail went over it. */
			if (tail == head && a64_cas_acq_rel(&q->tail, tail, tail + 1)) {
				persist(c->pool, &q->tail, sizeof(q->tail));
				CRASH_POINT(c, queue, receive_helped);
			}
			/*
			 * The commit point.  Pairs: send_any() reads the cell (acquire).
			 * Crash before: the reference stays in the queue.  After: recovery puts it into the row, and drops it there.
			 */
			if (cell_exchange(c, cell, seen, row, NULL))
				continue;
			CRASH_POINT(c, queue, receive_swapped);
		}
		/*
		 * Ours, or that of a receiver we help.  Pairs: send_any() reads head (acquire), then the cell.
		 * Crash before: the next receiver that sees the empty cell at head below tail does it, or a sender without room.
		 */
		a64_cas_acq_rel(&q->head, head, head + 1);
		persist(c->pool, &q->head, sizeof(q->head));
		CRASH_POINT(c, queue, receive_moved);
		if (seen.value)
			return 0;
	}
}

/* ---- one to one: roles ---- */

static inline uint64_t role_of(const struct client *c)
{
	return c->cid | a64_load_relaxed(&c->slot->state) >> 8 << 12;
}

/*
 * Did the sender before us fill the position it began last?  If it is full, it did, for it began it when it was empty.  If it
 * is empty, then it was filled and emptied exactly if the receiver began it, and head says so: read after the cell, for
 * head is raised before the cell is emptied.  May be repeated.
 */
static void settle_sender(struct client *c, const struct queue *queue)
{
	uint64_t tail = a64_load_acquire(&queue->q->tail);

	if (!tail || a128_load_acquire(&cell_at(queue, tail - 1)->word).value ||
	    a64_load_acquire(&queue->q->head) >= tail)
		return;
	a64_store_release(&queue->q->tail, tail - 1);
	persist(c->pool, &queue->q->tail, sizeof(queue->q->tail));
	CRASH_POINT(c, queue, sender_settled);
}

/*
 * Did the receiver before us empty the position it began last?  If it is empty, it did.  If it is full, then it is full
 * again exactly if the sender began the position n further on, which tail says: read after the cell.
 */
static void settle_receiver(struct client *c, const struct queue *queue)
{
	uint64_t head = a64_load_acquire(&queue->q->head);

	if (!head || !a128_load_acquire(&cell_at(queue, head - 1)->word).value ||
	    a64_load_acquire(&queue->q->tail) >= head + queue->capacity)
		return;
	a64_store_release(&queue->q->head, head - 1);
	persist(c->pool, &queue->q->head, sizeof(queue->q->head));
	CRASH_POINT(c, queue, receiver_settled);
}

/* Is the client of this role, in the incarnation that took it, still in its slot? */
static int role_held(const struct client *c, uint64_t value)
{
	uint32_t cid = (uint32_t)(value & 0xfff);

	return cid && cid <= c->pool->slots && client_claimed(c->pool, cid) &&
	       client_incarnation(c->pool, cid) == value >> 12;
}

static int role_take(struct client *c, const struct queue *queue, enum queue_side side)
{
	struct a128 *role = side == QUEUE_SENDER ? &queue->q->sender : &queue->q->receiver;
	uint64_t mine = role_of(c);
	struct stamped old;
	int taken = 0;

	do {
		old = a128_load_acquire(role);
		/* One that left, or was recovered, has finished its record; one that is just being recovered has perhaps not. */
		if (role_held(c, old.value)) {
			if (client_dead(c->pool, (uint32_t)(old.value & 0xfff), old.value >> 12))
				return -EOWNERDEAD;
			if (role_held(c, old.value))
				return -EBUSY;
			continue;
		}
		/*
		 * Pairs: who takes it after us (acquire).
		 * Crash: the role is a dead client's; who comes next recovers it, takes it, and settles as we would have.
		 */
		taken = era_cas(c, role, old, mine);
		CRASH_POINT(c, queue, role_taken);
	} while (!taken);
	era_bump(c);
	if (side == QUEUE_SENDER)
		settle_sender(c, queue);
	else
		settle_receiver(c, queue);
	return 0;
}

static inline int role(struct client *c, const struct queue *queue, enum queue_side side)
{
	struct a128 *word = side == QUEUE_SENDER ? &queue->q->sender : &queue->q->receiver;

	if (__builtin_expect(a128_value_relaxed(word) == role_of(c), 1))
		return 0;
	return role_take(c, queue, side);
}

/* ---- one to one: sending and receiving ---- */

static inline struct redo_fmt *exchange_record(struct client *c, struct cell_fmt *cell, struct root_fmt *row,
					       uint64_t goes_into_row)
{
	struct redo_fmt *r = redo_begin(c, REDO_EXCHANGE);

	r->word = off_of(c->pool, &cell->word);
	r->loc = off_of(c->pool, &row->object);
	r->object = goes_into_row;
	redo_seal(c, r);
	return r;
}

static int send_one(struct client *c, const struct queue *queue, struct root_fmt *row)
{
	uint64_t mine = a64_load_relaxed(&row->object);
	struct queue_fmt *q = queue->q;
	struct cell_fmt *cell;
	struct stamped seen;
	struct redo_fmt *r;
	uint64_t tail;
	int rc;

	rc = role(c, queue, QUEUE_SENDER);
	if (__builtin_expect(rc, 0))
		return rc;
	tail = a64_load_relaxed(&q->tail);
	cell = cell_at(queue, tail);
	seen = a128_load_acquire(&cell->word);
	if (seen.value)
		return -EAGAIN;
	ref_expose(c, mine);
	r = exchange_record(c, cell, row, 0);
	/* Pairs: settle_receiver().  Crash behind: settle_sender() takes it back. */
	a64_store_release(&q->tail, tail + 1);
	persist(c->pool, &q->tail, sizeof(q->tail));
	CRASH_POINT(c, queue, send_begun);
	/*
	 * The commit point.  Pairs: receive_one() reads the cell (acquire).
	 * Crash before: the row keeps its reference.  After: recovery empties the row.
	 */
	era_store(c, &cell->word, seen.stamp, mine);
	CRASH_POINT(c, queue, send_stored);
	cell_apply_exchange(c, r);
	era_bump(c);
	return 0;
}

static int receive_one(struct client *c, const struct queue *queue, struct root_fmt *row)
{
	struct queue_fmt *q = queue->q;
	struct cell_fmt *cell;
	struct stamped seen;
	struct redo_fmt *r;
	uint64_t head;
	int rc;

	rc = role(c, queue, QUEUE_RECEIVER);
	if (__builtin_expect(rc, 0))
		return rc;
	head = a64_load_relaxed(&q->head);
	cell = cell_at(queue, head);
	seen = a128_load_acquire(&cell->word);
	if (!seen.value)
		return -EAGAIN;
	if (__builtin_expect(!off_is_object(c->pool, seen.value), 0))
		return -EUCLEAN;
	r = exchange_record(c, cell, row, seen.value);
	/* Pairs: settle_sender().  Crash behind: settle_receiver() takes it back. */
	a64_store_release(&q->head, head + 1);
	persist(c->pool, &q->head, sizeof(q->head));
	CRASH_POINT(c, queue, receive_begun);
	/*
	 * The commit point.  Pairs: send_one() reads the cell (acquire).
	 * Crash before: the reference stays in the queue.  After: recovery puts it into the row, and drops it there.
	 */
	era_store(c, &cell->word, seen.stamp, 0);
	CRASH_POINT(c, queue, receive_stored);
	cell_apply_exchange(c, r);
	era_bump(c);
	return 0;
}

/* ---- */

int queue_send(struct client *c, const struct queue *queue, struct root_fmt *row)
{
	int rc = queue->q->flags & CXLSHM_SPSC ? send_one(c, queue, row) : send_any(c, queue, row);

	if (!rc)
		wake(c, &queue->q->receive_waiting, &queue->q->receive_futex);
	return rc;
}

int queue_receive(struct client *c, const struct queue *queue, struct root_fmt *row)
{
	int rc = queue->q->flags & CXLSHM_SPSC ? receive_one(c, queue, row) : receive_any(c, queue, row);

	if (!rc)
		wake(c, &queue->q->send_waiting, &queue->q->send_futex);
	return rc;
}

uint64_t queue_length(const struct queue *queue)
{
	/* head first: it may only grow towards tail. */
	uint64_t head = a64_load_acquire(&queue->q->head);
	uint64_t length = a64_load_acquire(&queue->q->tail) - head;

	/* tail was taken back, or a whole round passed, in between. */
	if ((int64_t)length < 0)
		return 0;
	return length < queue->capacity ? length : queue->capacity;
}

const char *queue_check(const struct pool *pool, uint64_t off)
{
	uint64_t head, tail, first, last;
	struct queue queue;
	int one;

	if (queue_at(pool, off, &queue))
		return "its capacity contradicts its cells";
	head = a64_load_acquire(&queue.q->head);
	tail = a64_load_acquire(&queue.q->tail);
	one = queue.q->flags & CXLSHM_SPSC;
	if (queue.q->flags & ~CXLSHM_SPSC)
		return "it has an unknown flag";
	if (head > tail || tail - head > queue.capacity)
		return "its head and tail contradict each other";
	/*
	 * Who died may have left, any to any: position head emptied, position tail filled; one to one: position tail - 1 not
	 * yet filled, head - 1 not yet emptied.
	 */
	first = one ? head : head + 1;
	last = one && tail > head ? tail - 1 : tail;
	for (uint64_t p = first; p < last; p++)
		if (!a128_value_relaxed(&cell_at(&queue, p)->word))
			return "a reference within it is missing";
	first = one ? tail : tail + 1;
	last = one && head ? head - 1 + queue.capacity : head + queue.capacity;
	for (uint64_t p = first; p < last; p++)
		if (a128_value_relaxed(&cell_at(&queue, p)->word))
			return "there is a reference outside of it";
	return NULL;
}
