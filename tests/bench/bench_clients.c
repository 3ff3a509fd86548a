/* SPDX-License-Identifier: MIT */
/*
 * bench_clients: how cost grows with the number of clients: 1 to 64 processes at once, each its own client.
 *
 *   for itself   alloc+release, attach+detach of an object of its own, join+leave
 *   shared       one cell that all load and drop, one that all swap; one directory in which each makes and
 *                removes names of its own; one any-to-any queue to which each sends, and then receives
 *
 * Processor time of all of them, an operation: so that a number above that of processors does not count the
 * time in which others run.  Who finds the queue empty yields, and that counts.  The processes are spread over
 * the processors.  What is shared is measured again with all of them on one processor, where no line of
 * memory has to move: the difference is what moving costs.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

#define CLIENTS_MAX 64

enum op { ALLOC, ATTACH, JOIN, LOAD, SWAP, NAME, SEND, OPS };
static const struct {
	const char *name;
	unsigned batch;	/* operations between two looks at the clock's hand */
	int shared;
} ops[OPS] = {
	{"alloc+release 64 B, clients", 64, 0},
	{"attach+detach own object, clients", 64, 0},
	{"join+leave, clients", 1, 0},
	{"load+drop of a shared cell, clients", 64, 1},
	{"swap of a shared cell, clients", 64, 1},
	{"create+unlink in a shared directory, clients", 8, 1},
	{"send+receive of a shared queue, clients", 64, 1},
};

struct shared {
	uint32_t go;	/* a number of its own for each round, times 8, + op; 0: wait; OPS: end */
	uint32_t begun;	/* workers that have seen this round: nobody sleeps through one */
	uint32_t ready;	/* and ended it */
	uint32_t processors;	/* to run on in this round */
	int32_t rc;
	double ns[CLIENTS_MAX];	/* processor time */
	double done[CLIENTS_MAX];	/* operations */
};

struct worker {
	struct shared *sh;
	const char *path;
	int index;
	struct cxlshm_pool *pool;
	struct cxlshm_client *client;
	cxlshm_ref own;	/* held by a cell, too */
	cxlshm_ref swapped, sent;	/* this client's until it swaps or sends it */
	cxlshm_ref hub, dir, queue;	/* everybody's */
	unsigned names;
};

static double cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* A new object, named, forgotten, and the name removed, as in bench_names. */
static int name_op(struct worker *w)
{
	unsigned k = w->names++ % 1000;
	char name[8] = {'n',
			(char)('0' + w->index / 10),
			(char)('0' + w->index % 10),
			(char)('0' + k / 100),
			(char)('0' + k / 10 % 10),
			(char)('0' + k % 10),
			0};
	cxlshm_ref ref;
	int rc = cxlshm_alloc(w->client, 64, &ref);

	if (!rc)
		rc = cxlshm_link(w->client, ref, w->dir, name, 0600);
	if (!rc)
		rc = cxlshm_release(w->client, ref);
	return rc ? rc : cxlshm_unlink(w->client, w->dir, name);
}

/* There is room for all, and who has sent can receive, though perhaps not at once. */
static int send_op(struct worker *w)
{
	int rc;

	while ((rc = cxlshm_queue_send(w->client, w->queue, w->sent)) == -EAGAIN)
		sched_yield();
	if (rc)
		return rc;
	while ((rc = cxlshm_queue_receive(w->client, w->queue, &w->sent)) == -EAGAIN)
		sched_yield();
	return rc;
}

static int do_op(struct worker *w, enum op op)
{
	struct cxlshm_client *c = w->client, *extra;
	cxlshm_ref ref;
	int rc = -EINVAL;

	switch (op) {
	case ALLOC:
		rc = cxlshm_alloc(c, 64, &ref);
		return rc ? rc : cxlshm_release(c, ref);
	case ATTACH:
		rc = cxlshm_attach(c, w->own, &ref);
		return rc ? rc : cxlshm_release(c, ref);
	case JOIN:
		rc = cxlshm_join(w->pool, "extra", 0, &extra);
		return rc ? rc : cxlshm_leave(extra);
	case LOAD:
		rc = cxlshm_cell_load(c, w->hub, 0, &ref);
		return rc ? rc : cxlshm_release(c, ref);
	case SWAP:
		return cxlshm_cell_swap(c, w->hub, 1, &w->swapped);
	case NAME:
		return name_op(w);
	case SEND:
		return send_op(w);
	default:
		return rc;
	}
}

static void worker_join(struct worker *w)
{
	cxlshm_ref cells;

	BENCH_OK(cxlshm_pool_open(w->path, 0, &w->pool, NULL));
	BENCH_OK(cxlshm_join(w->pool, "worker", 0, &w->client));
	BENCH_OK(cxlshm_alloc(w->client, 64, &w->own));
	BENCH_OK(cxlshm_alloc_with(w->client, 64, 1, CXLSHM_CELLS, &cells));
	BENCH_OK(cxlshm_cell_store(w->client, cells, 0, w->own));	/* exposes it */
	BENCH_OK(cxlshm_alloc(w->client, 64, &w->swapped));
	BENCH_OK(cxlshm_alloc(w->client, 64, &w->sent));
	BENCH_OK(cxlshm_lookup(w->client, 0, "hub", 0, &w->hub));
	BENCH_OK(cxlshm_lookup(w->client, 0, "dir", 0, &w->dir));
	BENCH_OK(cxlshm_lookup(w->client, 0, "queue", 0, &w->queue));
}

static int worker_main(void *arg)
{
	struct worker *w = arg;
	struct shared *sh = w->sh;
	const struct sched_param ordinary = {0};
	uint32_t processors = 0;

	(void)sched_setscheduler(0, SCHED_OTHER, &ordinary);	/* there are too many for turns of 100 ms */
	worker_join(w);
	__atomic_add_fetch(&sh->ready, 1, __ATOMIC_RELEASE);
	for (;;) {
		uint32_t go = __atomic_load_n(&sh->go, __ATOMIC_ACQUIRE);
		double t0, done = 0;
		int rc = 0;

		if (!go) {
			usleep(200);
			continue;
		}
		if (go % 8 == OPS)
			break;
		if (processors != sh->processors) {
			processors = sh->processors;
			bench_pin(w->index % (int)processors);
		}
		__atomic_add_fetch(&sh->begun, 1, __ATOMIC_RELEASE);
		t0 = cpu_ns();
		while (__atomic_load_n(&sh->go, __ATOMIC_ACQUIRE) == go && !rc) {
			unsigned batch = ops[go % 8].batch;

			for (unsigned i = 0; i < batch && !rc; i++)
				rc = do_op(w, (enum op)(go % 8));
			done += batch;
		}
		sh->ns[w->index] = cpu_ns() - t0;
		sh->done[w->index] = done;
		if (rc)
			__atomic_store_n(&sh->rc, rc, __ATOMIC_RELAXED);
		__atomic_add_fetch(&sh->ready, 1, __ATOMIC_RELEASE);
		while (__atomic_load_n(&sh->go, __ATOMIC_ACQUIRE) == go)
			usleep(200);
	}
	cxlshm_pool_close(w->pool);
	return 0;
}

static void wait_all(const uint32_t *counter, uint32_t count)
{
	while (__atomic_load_n(counter, __ATOMIC_ACQUIRE) < count)
		usleep(200);
}

/* One round of all workers: ns of processor time an operation. */
static double one_round(struct shared *sh, int count, enum op op, uint32_t processors, double sample_ns)
{
	static uint32_t round;
	double ns = 0, done = 0;

	__atomic_store_n(&sh->ready, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&sh->begun, 0, __ATOMIC_RELAXED);
	sh->processors = processors;
	__atomic_store_n(&sh->go, ++round * 8 + op, __ATOMIC_RELEASE);
	wait_all(&sh->begun, (uint32_t)count);
	usleep((useconds_t)(sample_ns / 1e3));
	__atomic_store_n(&sh->go, 0, __ATOMIC_RELEASE);
	wait_all(&sh->ready, (uint32_t)count);
	for (int i = 0; i < count; i++) {
		ns += sh->ns[i];
		done += sh->done[i];
	}
	return ns / (done > 0 ? done : 1);
}

static void measure_op(struct bench *b, struct shared *sh, int count, enum op op)
{
	uint32_t processors = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	int reps = ops[op].shared ? (b->slow_reps + 1) / 2 : b->slow_reps;
	double values[2][BENCH_REPS_MAX], sample = 10 * b->sample_ns * (count < 4 ? 1 : count / 4.0);

	if (!bench_wanted(b, ops[op].name))
		return;
	sh->rc = 0;
	for (int r = 0; r < reps && !sh->rc; r++) {
		values[0][r] = one_round(sh, count, op, processors, sample);
		if (ops[op].shared && !sh->rc)
			values[1][r] = one_round(sh, count, op, 1, sample);
	}
	if (sh->rc) {
		bench_skip(b, ops[op].name, count, "cxlshm", strerror(-sh->rc));
		return;
	}
	bench_report(b, ops[op].name, count, "cxlshm", "ns", values[0], reps);
	if (ops[op].shared)
		bench_report(b, ops[op].name, count, "cxlshm, one processor", "ns", values[1], reps);
}

/* What all share, by names in the root directory. */
static void make_shared(struct cxlshm_pool *pool)
{
	struct cxlshm_client *c;
	cxlshm_ref hub, object, queue;

	BENCH_OK(cxlshm_join(pool, "bench", 0, &c));
	BENCH_OK(cxlshm_alloc_with(c, 64, 2, CXLSHM_CELLS, &hub));
	for (uint32_t k = 0; k < 2; k++) {
		BENCH_OK(cxlshm_alloc(c, 64, &object));
		BENCH_OK(cxlshm_cell_store(c, hub, k, object));
	}
	BENCH_OK(cxlshm_link(c, hub, 0, "hub", 0600));
	BENCH_OK(cxlshm_queue_create(c, 2 * CLIENTS_MAX, 0, &queue));
	BENCH_OK(cxlshm_link(c, queue, 0, "queue", 0600));
	BENCH_OK(cxlshm_mkdir(c, 0, "dir", 0700, NULL));
	BENCH_OK(cxlshm_leave(c));
}

static void with_clients(struct bench *b, int count)
{
	struct shared *sh = bench_shared(sizeof *sh);
	struct worker w[CLIENTS_MAX];
	struct bench_pool p;
	int pids[CLIENTS_MAX];

	if (bench_pool(b, &p, 2ull << 30, 256, CXLSHM_FAILURE_PROCESS))
		return;
	make_shared(p.pool);
	for (int i = 0; i < count; i++) {
		w[i] = (struct worker){.sh = sh, .path = p.path, .index = i};
		pids[i] = bench_fork(worker_main, &w[i]);
	}
	wait_all(&sh->ready, (uint32_t)count);
	for (enum op op = 0; op < OPS; op++)
		measure_op(b, sh, count, op);
	__atomic_store_n(&sh->go, 8 + OPS, __ATOMIC_RELEASE);
	for (int i = 0; i < count; i++)
		bench_wait(pids[i]);
	bench_pool_gone(b, &p);
}

int main(int argc, char **argv)
{
	struct bench b;

	bench_start(&b, "grow", argc, argv);
	for (int count = 1; count <= CLIENTS_MAX; count *= b.quick ? 8 : 2)
		with_clients(&b, count);
	return bench_end(&b);
}
