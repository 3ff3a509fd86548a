/* SPDX-License-Identifier: MIT */
/*
 * What the tests of queues share: a pool with two clients and a queue between them, things to send, and a board that
 * forked children see.  Every test ends with objects(), a walk of the pool: each count is that of the references found.
 */
#ifndef QUEUE_POOL_H
#define QUEUE_POOL_H

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "check.h"
#include "client.h"
#include "queue.h"

#define SECOND 1000000000ll
#define MARKS 4096

static char dir[64];
static struct cxlshm_pool *pool;
static struct cxlshm_client *a, *b;	/* two clients of this process */
static cxlshm_ref queue;	/* a's */
static cxlshm_ref queue_b;	/* the same one, b's */

/* Shared with the children. */
static struct board {
	uint64_t token[8];	/* the queue, exported once for each child */
	uint32_t ready;
	uint32_t stop;
	uint32_t next;	/* number of the next object to be sent */
	uint32_t sent;	/* sends that returned */
	uint32_t received;
	uint32_t last[8][8];	/* highest number seen, by receiver and sender */
	uint8_t mark[MARKS];	/* times received, by number */
} *board;

struct item {	/* payload of what is sent */
	uint32_t sender;
	uint32_t number;
};

static inline uint32_t get(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static inline void set(uint32_t *p, uint32_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static inline int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * SECOND + ts.tv_nsec;
}

static inline void show(void *arg, int severity, const char *line)
{
	(void)arg;
	if (severity)
		print_message("check: %s\n", line);
}

static inline const char *queue_at_ref(struct cxlshm_client *client, cxlshm_ref ref)
{
	return queue_check((struct pool *)pool, cxlshm_id(client, ref));
}

/* Nobody is inside a call: is the pool sound?  Objects in it. */
static inline uint64_t objects(void)
{
	struct cxlshm_check_result result;

	assert_int_equal(cxlshm_recover(pool, NULL), 0);
	assert_int_equal(check_pool((struct pool *)pool, 0, show, NULL, &result), 0);
	assert_int_equal(result.problems, 0);
	return result.objects;
}

static inline int setup(void **state)
{
	struct cxlshm_pool_options options = {.size_bytes = 16 << 20, .client_slots = 24,
					      .uid = (uid_t)-1, .gid = (gid_t)-1};
	struct cxlshm_error error;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/cxlshm-test-queue-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	if (!mkdtemp(dir))
		return -1;
	if (cxlshm_pool_create(dir, &options, &error) || cxlshm_pool_open(dir, 0, &pool, &error)) {
		print_message("%s\n", error.text);
		return -1;
	}
	memset(board, 0, sizeof(*board));
	queue = queue_b = 0;
	return cxlshm_join(pool, "a", 0, &a) || cxlshm_join(pool, "b", 0, &b);
}

static inline int teardown(void **state)
{
	char command[128];

	(void)state;
	cxlshm_pool_close(pool);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

static inline void hand(struct cxlshm_client *from, cxlshm_ref ref, uint64_t *token)
{
	cxlshm_ref copy;

	assert_int_equal(cxlshm_attach(from, ref, &copy), 0);
	assert_int_equal(cxlshm_export(from, copy, token), 0);
}

/* A new queue, known to a and b. */
static inline void make(uint32_t capacity, unsigned flags)
{
	uint64_t token;

	assert_int_equal(cxlshm_queue_create(a, capacity, flags, &queue), 0);
	hand(a, queue, &token);
	assert_int_equal(cxlshm_import(b, token, &queue_b), 0);
}

static inline void drop(void)
{
	assert_int_equal(cxlshm_release(a, queue), 0);
	assert_int_equal(cxlshm_release(b, queue_b), 0);
	queue = queue_b = 0;
}

/* Another client in place of b: who drops the last object of a dead client's segment has the segment until it leaves. */
static inline void replace_b(void)
{
	assert_int_equal(cxlshm_leave(b), 0);
	assert_int_equal(cxlshm_join(pool, "b", 0, &b), 0);
}

static inline cxlshm_ref item(struct cxlshm_client *client, uint32_t sender, uint32_t number)
{
	cxlshm_ref ref;
	struct item *p;

	int rc = cxlshm_alloc(client, sizeof(*p), &ref);

	if (rc) {
		print_message("cxlshm_alloc: %d\n", rc);
		return 0;
	}
	p = cxlshm_ptr(client, ref);
	p->sender = sender;
	p->number = number;
	return ref;
}

static inline int send_number(struct cxlshm_client *client, cxlshm_ref to, uint32_t number)
{
	cxlshm_ref ref = item(client, 0, number);
	int rc = cxlshm_queue_send(client, to, ref);

	if (rc)
		cxlshm_release(client, ref);
	return rc;
}

/* The number received, or a negative errno. */
static inline int64_t receive_number(struct cxlshm_client *client, cxlshm_ref from)
{
	cxlshm_ref ref;
	int64_t number;
	int rc = cxlshm_queue_receive(client, from, &ref);

	if (rc)
		return rc;
	number = ((struct item *)cxlshm_ptr(client, ref))->number;
	rc = cxlshm_release(client, ref);
	return rc ? rc : number;
}

static inline int board_map(void)
{
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return board == MAP_FAILED ? -1 : 0;
}

#endif
