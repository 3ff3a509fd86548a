/* SPDX-License-Identifier: MIT */
/*
 * The public interface: queues.  Checks arguments, recovers the dead holder of a role, waits.
 *
 * Who waits polls for some microseconds, then sleeps in slices: a peer may die between its step and its wake-up, so no
 * sleep relies on one.  A slice that ends without a wake-up may mean a dead peer, so from time to time dead clients are
 * recovered here.
 */
#include <time.h>

#include "api.h"
#include "queue.h"

#define POLLS 500u
#define SLICE_NS 20000000ull
#define RECOVER_NS 100000000ull	/* at most so often */
#define ROLE_TRIES 3

int cxlshm_queue_create(struct cxlshm_client *client, uint32_t capacity, unsigned flags, cxlshm_ref *queue)
{
	struct client *c = api_client(client);
	struct root_fmt *row;
	int rc;

	if (!c || !queue || flags & ~CXLSHM_SPSC)
		return -EINVAL;
	rc = api_usable(c);
	if (rc)
		return rc;
	API_WITH_ROOM(c, rc, 0, queue_create(c, capacity, flags, &row));
	if (rc)
		return rc;
	*queue = root_ref(c, row);
	return 0;
}

static inline int find_queue(const struct client *c, cxlshm_ref ref, struct queue *queue)
{
	struct root_fmt *row;
	int rc = api_row(c, ref, &row);

	return rc ? rc : queue_at(c->pool, a64_load_relaxed(&row->object), queue);
}

/* The queue, and the row of what is to be sent on it. */
static inline int find_both(const struct client *c, cxlshm_ref queue_ref, cxlshm_ref ref, struct queue *queue,
			    struct root_fmt **row)
{
	int rc = find_queue(c, queue_ref, queue);

	if (!rc)
		rc = api_row(c, ref, row);
	if (__builtin_expect(rc, 0))
		return rc;
	if (__builtin_expect(a64_load_relaxed(&(*row)->local) > 1, 0))
		return -EBUSY;
	/* It would keep itself alive. */
	if (__builtin_expect(off_of(c->pool, queue->cells) == a64_load_relaxed(&(*row)->object) +
			     sizeof(struct object_fmt), 0))
		return -EINVAL;
	return 0;
}

static inline int one_try(struct client *c, const struct queue *queue, struct root_fmt *row, enum queue_side side)
{
	return side == QUEUE_SENDER ? queue_send(c, queue, row) : queue_receive(c, queue, row);
}

/* The role is a dead client's: recover it and try again. */
static int take_over(struct client *c, const struct queue *queue, struct root_fmt *row, enum queue_side side)
{
	int rc = -EOWNERDEAD;

	for (int i = 0; i < ROLE_TRIES && rc == -EOWNERDEAD; i++) {
		api_recover(c, NULL);
		rc = one_try(c, queue, row, side);
	}
	return rc;	/* -EOWNERDEAD: somebody else is at it */
}

static inline int transfer(struct client *c, const struct queue *queue, struct root_fmt *row, enum queue_side side)
{
	int rc = one_try(c, queue, row, side);

	return __builtin_expect(rc == -EOWNERDEAD, 0) ? take_over(c, queue, row, side) : rc;
}

/* The same for calls that do not wait: -EAGAIN would say that the queue is full, or empty. */
static inline int transfer_now(struct client *c, const struct queue *queue, struct root_fmt *row, enum queue_side side)
{
	int rc = transfer(c, queue, row, side);

	return __builtin_expect(rc == -EOWNERDEAD, 0) ? -EBUSY : rc;
}

/* And for those that do: once it is recovered, there may be room, or a reference. */
static inline int transfer_later(struct client *c, const struct queue *queue, struct root_fmt *row, enum queue_side side)
{
	int rc = transfer(c, queue, row, side);

	return __builtin_expect(rc == -EOWNERDEAD, 0) ? -EAGAIN : rc;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	/* Not set by anybody, so a change of the time of day moves no deadline. */
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int wait_for(struct client *c, const struct queue *queue, struct root_fmt *row, enum queue_side side,
		    int64_t timeout_ns)
{
	uint64_t now, deadline, recovered;
	int rc = -EAGAIN;

	for (unsigned i = 0; i < POLLS && rc == -EAGAIN; i++) {
		if (i)
			arch_relax();
		rc = transfer_later(c, queue, row, side);
		if (!timeout_ns)
			break;
	}
	if (rc != -EAGAIN)
		return rc;
	now = recovered = now_ns();
	deadline = timeout_ns < 0 ? UINT64_MAX : now + (uint64_t)timeout_ns;
	while (now < deadline) {
		uint32_t announced = queue_announce(c, queue, side);

		rc = api_usable(c);
		if (rc)
			return rc;
		rc = transfer_later(c, queue, row, side);
		if (rc != -EAGAIN)
			return rc;
		rc = queue_sleep(queue, side, announced, deadline - now < SLICE_NS ? deadline - now : SLICE_NS);
		if (rc == -EINTR)
			return rc;
		now = now_ns();
		if (rc && now - recovered >= RECOVER_NS) {
			api_recover(c, NULL);
			recovered = now;
		}
	}
	rc = transfer_later(c, queue, row, side);
	return rc == -EAGAIN ? -ETIMEDOUT : rc;
}

int cxlshm_queue_send(struct cxlshm_client *client, cxlshm_ref queue_ref, cxlshm_ref ref)
{
	struct client *c = api_client(client);
	struct root_fmt *row;
	struct queue queue;
	int rc = find_both(c, queue_ref, ref, &queue, &row);

	if (!rc)
		rc = transfer_now(c, &queue, row, QUEUE_SENDER);
	if (!rc)
		root_give(c, row);
	return rc;
}

int cxlshm_queue_send_wait(struct cxlshm_client *client, cxlshm_ref queue_ref, cxlshm_ref ref, int64_t timeout_ns)
{
	struct client *c = api_client(client);
	struct root_fmt *row;
	struct queue queue;
	int rc = c ? find_both(c, queue_ref, ref, &queue, &row) : -EINVAL;

	if (!rc)
		rc = wait_for(c, &queue, row, QUEUE_SENDER, timeout_ns);
	if (!rc)
		root_give(c, row);
	return rc;
}

static inline int received(struct client *c, int rc, struct root_fmt *row, cxlshm_ref *ref)
{
	if (rc)
		root_give(c, row);
	else
		*ref = root_ref(c, row);
	return rc;
}

int cxlshm_queue_receive(struct cxlshm_client *client, cxlshm_ref queue_ref, cxlshm_ref *ref)
{
	struct client *c = api_client(client);
	struct root_fmt *row;
	struct queue queue;
	int rc = find_queue(c, queue_ref, &queue);

	if (!rc)
		rc = api_take_row(c, &row);
	if (__builtin_expect(rc, 0))
		return rc;
	return received(c, transfer_now(c, &queue, row, QUEUE_RECEIVER), row, ref);
}

int cxlshm_queue_receive_wait(struct cxlshm_client *client, cxlshm_ref queue_ref, cxlshm_ref *ref, int64_t timeout_ns)
{
	struct client *c = api_client(client);
	struct root_fmt *row;
	struct queue queue;
	int rc = c && ref ? find_queue(c, queue_ref, &queue) : -EINVAL;

	if (!rc)
		rc = api_take_row(c, &row);
	if (rc)
		return rc;
	return received(c, wait_for(c, &queue, row, QUEUE_RECEIVER, timeout_ns), row, ref);
}

int64_t cxlshm_queue_length(struct cxlshm_client *client, cxlshm_ref queue_ref)
{
	struct queue queue;
	int rc = client ? find_queue(api_client(client), queue_ref, &queue) : -EINVAL;

	return rc ? rc : (int64_t)queue_length(&queue);
}
