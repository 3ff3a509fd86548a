/* SPDX-License-Identifier: MIT */
/*
 * bench_grow: how cost grows with live objects, pool size, references held and dead clients.
 * (With the size of a directory: bench_names; with clients: bench_clients.)
 *
 *   objects      a ring of that many live 64 B objects: each step frees the oldest and allocates another
 *   pool         MiB, sparse: alloc+release, open+join, and recovery of a client that died with 1000 references
 *   held         references held: attach+detach of one more
 *   dead         clients, with 100 references each: one cxlshm_recover(), for one of them
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

#define DEAD_MAX 64

/* ---- one client ---- */

struct one {
	struct bench_pool pool;
	struct cxlshm_client *client;
	cxlshm_ref object;
	cxlshm_ref *slots;
	uint64_t live, at;
	uint32_t dead;	/* clients to kill, */
	uint32_t held;	/* each with that many references */
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
	for (uint32_t i = 0; i < v->o->held; i++) {
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
	int pids[DEAD_MAX], rc;
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

static void with_pool_size(struct bench *b)
{
	struct one o[POINTS];
	struct point points[POINTS];
	int count = 0;

	for (uint64_t mib = 16; mib <= 65536; mib *= 4) {
		if (one_open(b, &o[count], mib << 20))
			continue;
		o[count].dead = 1;
		o[count].held = 1000;
		points[count] = (struct point){(double)mib, &o[count]};
		count++;
	}
	bench_curve(b, "alloc+release 64 B, MiB of pool", "ns", "cxlshm", alloc_measure, points, count, 0);
	bench_curve(b, "open+join, MiB of pool", "us", "cxlshm", open_measure, points, count, 0);
	bench_curve(b, "recovery, 1000 references, MiB of pool", "us", "cxlshm", dead_measure, points, count, 1);
	/* Without our client the dead one's objects are beside the root directory: its segment stays. */
	for (int i = 0; i < count; i++)
		BENCH_OK(cxlshm_leave(o[i].client));
	bench_curve(b, "recovery, 1000 references, MiB of pool", "us", "cxlshm, its segment stays", dead_measure, points,
		    count, 1);
	for (int i = 0; i < count; i++)
		bench_pool_gone(b, &o[i].pool);
}

static void with_dead(struct bench *b)
{
	struct one pool, o[POINTS];
	struct point points[POINTS];
	int count = 0;

	if (one_open(b, &pool, 1ull << 30))
		return;
	for (uint32_t dead = 1; dead <= DEAD_MAX; dead *= b->quick ? 8 : 4) {
		o[count] = pool;
		o[count].dead = dead;
		o[count].held = 100;
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
	if (bench_wanted(&b, "objects"))
		with_objects(&b, b.quick ? 1000000 : 10000000);
	if (bench_wanted(&b, "pool"))
		with_pool_size(&b);
	if (bench_wanted(&b, "dead"))
		with_dead(&b);
	return bench_end(&b);
}
