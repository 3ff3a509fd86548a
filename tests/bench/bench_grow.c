/* SPDX-License-Identifier: MIT */
/*
 * bench_grow: how cost grows with clients, live objects, pool size, references held and dead clients.
 * (With the size of a directory: bench_names.)
 *
 *   clients      1 to 64 processes at once, each its own client; processor time an operation, so that a
 *                number above the number of processors does not count the waiting
 *   objects      a ring of that many live 64 B objects: each step frees the oldest and allocates another
 *   pool         MiB, sparse: alloc+release, and open+join
 *   held         references held: attach+detach of one more
 *   dead         clients, with 100 references each: one cxlshm_recover(), for one of them
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

#define CLIENTS_MAX 64

enum op { ALLOC, ATTACH, JOIN, OPS };
static const char *const op_names[OPS] = {"alloc+release 64 B, clients", "attach+detach own object, clients",
					   "join+leave, clients"};

struct shared {
	uint32_t go;	/* a number of its own for each round, times 8, + op; 0: wait; OPS: end */
	uint32_t begun;	/* workers that have seen this round: nobody sleeps through one */
	uint32_t ready;	/* and ended it */
	int32_t rc;
	double ns[CLIENTS_MAX];	/* processor time an operation */
	double ops[CLIENTS_MAX];
};

struct worker {
	struct shared *sh;
	const char *path;
	int index;
	double sample_ns;
};

static double cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static int do_op(struct cxlshm_pool *pool, struct cxlshm_client *c, enum op op, cxlshm_ref own)
{
	struct cxlshm_client *extra;
	cxlshm_ref ref;
	int rc = -EINVAL;

	switch (op) {
	case ALLOC:
		rc = cxlshm_alloc(c, 64, &ref);
		return rc ? rc : cxlshm_release(c, ref);
	case ATTACH:
		rc = cxlshm_attach(c, own, &ref);
		return rc ? rc : cxlshm_release(c, ref);
	case JOIN:
		rc = cxlshm_join(pool, "extra", 0, &extra);
		return rc ? rc : cxlshm_leave(extra);
	default:
		return rc;
	}
}

static int worker_main(void *arg)
{
	struct worker *w = arg;
	struct shared *sh = w->sh;
	struct cxlshm_pool *pool;
	struct cxlshm_client *c;
	const struct sched_param ordinary = {0};
	cxlshm_ref own, cells;

	(void)sched_setscheduler(0, SCHED_OTHER, &ordinary);	/* there are too many for turns of 100 ms */
	BENCH_OK(cxlshm_pool_open(w->path, 0, &pool, NULL));
	BENCH_OK(cxlshm_join(pool, "worker", 0, &c));
	BENCH_OK(cxlshm_alloc(c, 64, &own));
	BENCH_OK(cxlshm_alloc_with(c, 64, 1, CXLSHM_CELLS, &cells));
	BENCH_OK(cxlshm_cell_store(c, cells, 0, own));	/* exposes it */
	__atomic_add_fetch(&sh->ready, 1, __ATOMIC_RELEASE);
	for (;;) {
		uint32_t go = __atomic_load_n(&sh->go, __ATOMIC_ACQUIRE);
		double t0, ops = 0;
		int rc = 0;

		if (!go) {
			usleep(200);
			continue;
		}
		if (go % 8 == OPS)
			break;
		__atomic_add_fetch(&sh->begun, 1, __ATOMIC_RELEASE);
		t0 = cpu_ns();
		while (__atomic_load_n(&sh->go, __ATOMIC_ACQUIRE) == go && !rc) {
			unsigned some = go % 8 == JOIN ? 1 : 64;

			for (unsigned i = 0; i < some && !rc; i++)
				rc = do_op(pool, c, (enum op)(go % 8), own);
			ops += some;
		}
		sh->ns[w->index] = cpu_ns() - t0;
		sh->ops[w->index] = ops;
		if (rc)
			__atomic_store_n(&sh->rc, rc, __ATOMIC_RELAXED);
		__atomic_add_fetch(&sh->ready, 1, __ATOMIC_RELEASE);
		while (__atomic_load_n(&sh->go, __ATOMIC_ACQUIRE) == go)
			usleep(200);
	}
	cxlshm_pool_close(pool);
	return 0;
}

static void wait_all(const uint32_t *counter, uint32_t count)
{
	while (__atomic_load_n(counter, __ATOMIC_ACQUIRE) < count)
		usleep(200);
}

static void with_clients(struct bench *b, int count, int reps)
{
	struct shared *sh = bench_shared(sizeof *sh);
	struct worker w[CLIENTS_MAX];
	uint32_t round = 0;
	struct bench_pool p;
	int pids[CLIENTS_MAX];

	if (bench_pool(b, &p, 2ull << 30, 256, CXLSHM_FAILURE_PROCESS))
		return;
	for (int i = 0; i < count; i++) {
		w[i] = (struct worker){sh, p.path, i, b->sample_ns};
		pids[i] = bench_fork(worker_main, &w[i]);
	}
	wait_all(&sh->ready, (uint32_t)count);
	for (enum op op = 0; op < OPS; op++) {
		double values[BENCH_REPS_MAX];

		for (int r = 0; r < reps && !sh->rc; r++) {
			double ns = 0, ops = 0, sample = 10 * b->sample_ns * (count < 4 ? 1 : count / 4.0);

			__atomic_store_n(&sh->ready, 0, __ATOMIC_RELAXED);
			__atomic_store_n(&sh->begun, 0, __ATOMIC_RELAXED);
			__atomic_store_n(&sh->go, ++round * 8 + op, __ATOMIC_RELEASE);
			wait_all(&sh->begun, (uint32_t)count);
			usleep((useconds_t)(sample / 1e3));
			__atomic_store_n(&sh->go, 0, __ATOMIC_RELEASE);
			wait_all(&sh->ready, (uint32_t)count);
			for (int i = 0; i < count; i++) {
				ns += sh->ns[i];
				ops += sh->ops[i];
			}
			values[r] = ns / (ops > 0 ? ops : 1);
		}
		if (sh->rc)
			bench_skip(b, op_names[op], count, "cxlshm", strerror(-sh->rc));
		else
			bench_report(b, op_names[op], count, "cxlshm", "ns", values, reps);
		sh->rc = 0;
	}
	__atomic_store_n(&sh->go, 8 + OPS, __ATOMIC_RELEASE);
	for (int i = 0; i < count; i++)
		bench_wait(pids[i]);
	bench_pool_gone(b, &p);
}

/* ---- one client ---- */

struct one {
	struct bench_pool pool;
	struct cxlshm_client *client;
	cxlshm_ref object;
	cxlshm_ref *slots;
	uint64_t live, at;
	uint32_t dead;
};

static double ring_measure(void *arg, uint64_t n)
{
	struct one *o = arg;
	uint64_t t0 = bench_ns(), at = o->at;

	for (uint64_t i = 0; i < n; i++) {
		int rc;

		cxlshm_release(o->client, o->slots[at]);
		rc = cxlshm_alloc(o->client, 64, &o->slots[at]);
		if (rc)
			return rc;
		at = at + 1 == o->live ? 0 : at + 1;
	}
	o->at = at;
	return (double)(bench_ns() - t0) / (double)n;
}

static double alloc_measure(void *arg, uint64_t n)
{
	struct one *o = arg;
	uint64_t t0 = bench_ns();

	for (uint64_t i = 0; i < n; i++) {
		cxlshm_ref ref;
		int rc = cxlshm_alloc(o->client, 64, &ref);

		if (rc)
			return rc;
		cxlshm_release(o->client, ref);
	}
	return (double)(bench_ns() - t0) / (double)n;
}

static double attach_measure(void *arg, uint64_t n)
{
	struct one *o = arg;
	uint64_t t0 = bench_ns();

	for (uint64_t i = 0; i < n; i++) {
		cxlshm_ref ref;
		int rc = cxlshm_attach(o->client, o->object, &ref);

		if (rc)
			return rc;
		cxlshm_release(o->client, ref);
	}
	return (double)(bench_ns() - t0) / (double)n;
}

static double open_measure(void *arg, uint64_t n)
{
	struct one *o = arg;
	uint64_t ns = 0;

	for (uint64_t i = 0; i < n; i++) {
		struct cxlshm_pool *pool;
		struct cxlshm_client *c;
		uint64_t t0 = bench_ns();
		int rc = cxlshm_pool_open(o->pool.path, 0, &pool, NULL);

		if (rc)
			return rc;
		rc = cxlshm_join(pool, "bench", 0, &c);
		ns += bench_ns() - t0;
		cxlshm_pool_close(pool);
		if (rc)
			return rc;
	}
	return (double)ns / (double)n / 1e3;
}

static int one_open(struct bench *b, struct one *o, uint64_t bytes)
{
	cxlshm_ref cells;

	memset(o, 0, sizeof *o);
	if (bench_pool(b, &o->pool, bytes, 0, CXLSHM_FAILURE_PROCESS))
		return -1;
	BENCH_OK(cxlshm_join(o->pool.pool, "bench", 0, &o->client));
	BENCH_OK(cxlshm_alloc(o->client, 64, &o->object));
	BENCH_OK(cxlshm_alloc_with(o->client, 64, 1, CXLSHM_CELLS, &cells));
	BENCH_OK(cxlshm_cell_store(o->client, cells, 0, o->object));
	return 0;
}

#define POINTS 8

static void with_objects(struct bench *b, uint64_t most)
{
	struct one o[POINTS];
	struct point points[POINTS];
	int count = 0;

	for (uint64_t live = 1000; live <= most; live *= 10) {
		struct one *at = &o[count];
		int rc = 0;

		if (one_open(b, at, (64ull << 20) + live * 128))
			break;
		at->slots = bench_shared(live * sizeof *at->slots);
		while (!rc && at->live < live)
			if (!(rc = cxlshm_alloc(at->client, 64, &at->slots[at->live])))
				at->live++;
		if (rc) {
			bench_skip(b, "alloc+release 64 B, objects", (double)live, "cxlshm", strerror(-rc));
			bench_pool_gone(b, &at->pool);
			break;
		}
		points[count++] = (struct point){(double)live, at};
	}
	bench_curve(b, "alloc+release 64 B, objects", "ns", "cxlshm", ring_measure, points, count, 0);
	bench_curve(b, "attach+detach, references held", "ns", "cxlshm", attach_measure, points, count, 0);
	for (int i = 0; i < count; i++)
		bench_pool_gone(b, &o[i].pool);
}

static void with_pool_size(struct bench *b)
{
	struct one o[POINTS];
	struct point points[POINTS];
	int count = 0;

	for (uint64_t mib = 16; mib <= 65536; mib *= 4) {
		if (one_open(b, &o[count], mib << 20)) {
			bench_skip(b, "alloc+release 64 B, MiB of pool", (double)mib, "cxlshm", "no such pool");
			continue;
		}
		points[count] = (struct point){(double)mib, &o[count]};
		count++;
	}
	bench_curve(b, "alloc+release 64 B, MiB of pool", "ns", "cxlshm", alloc_measure, points, count, 0);
	bench_curve(b, "open+join, MiB of pool", "us", "cxlshm", open_measure, points, count, 0);
	for (int i = 0; i < count; i++)
		bench_pool_gone(b, &o[i].pool);
}

/* ---- dead clients ---- */

struct victim {
	struct one *o;
	uint32_t *ready;
};

static int victim_main(void *arg)
{
	struct victim *v = arg;
	struct cxlshm_pool *pool;
	struct cxlshm_client *c;

	BENCH_OK(cxlshm_pool_open(v->o->pool.path, 0, &pool, NULL));
	BENCH_OK(cxlshm_join(pool, "victim", 0, &c));
	for (int i = 0; i < 100; i++) {
		cxlshm_ref ref;

		BENCH_OK(cxlshm_alloc(c, 64, &ref));
	}
	__atomic_add_fetch(v->ready, 1, __ATOMIC_RELEASE);
	while (pause())	/* until SIGKILL */
		;
	return 0;
}

/* us for each dead client, all recovered by one call */
static double dead_measure(void *arg, uint64_t n)
{
	struct one *o = arg;
	struct victim v = {o, bench_shared(4096)};
	struct cxlshm_recovery r;
	int pids[CLIENTS_MAX], rc;
	uint64_t t0;

	(void)n;
	for (uint32_t i = 0; i < o->dead; i++)
		pids[i] = bench_fork(victim_main, &v);
	while (__atomic_load_n(v.ready, __ATOMIC_ACQUIRE) < o->dead)
		usleep(200);
	for (uint32_t i = 0; i < o->dead; i++)
		kill(pids[i], SIGKILL);
	for (uint32_t i = 0; i < o->dead; i++)
		bench_wait(pids[i]);
	t0 = bench_ns();
	rc = cxlshm_recover(o->pool.pool, &r);
	t0 = bench_ns() - t0;
	if (!rc && r.clients != o->dead)
		rc = -EPROTO;
	return rc ? rc : (double)t0 / 1e3 / o->dead;
}

static void with_dead(struct bench *b)
{
	struct one pool, o[POINTS];
	struct point points[POINTS];
	int count = 0;

	if (one_open(b, &pool, 1ull << 30))
		return;
	for (uint32_t dead = 1; dead <= CLIENTS_MAX; dead *= b->quick ? 8 : 4) {
		o[count] = pool;
		o[count].dead = dead;
		points[count] = (struct point){dead, &o[count]};
		count++;
	}
	bench_curve(b, "recovery, a client, dead clients", "us", "cxlshm", dead_measure, points, count, 1);
	bench_pool_gone(b, &pool.pool);
}

int main(int argc, char **argv)
{
	struct bench b;

	bench_start(&b, "grow", argc, argv);
	if (bench_wanted(&b, "clients"))
		for (int count = 1; count <= CLIENTS_MAX; count *= b.quick ? 8 : 2)
			with_clients(&b, count, b.slow_reps);
	if (bench_wanted(&b, "objects"))
		with_objects(&b, b.quick ? 1000000 : 10000000);
	if (bench_wanted(&b, "pool"))
		with_pool_size(&b);
	if (bench_wanted(&b, "dead"))
		with_dead(&b);
	return bench_end(&b);
}
