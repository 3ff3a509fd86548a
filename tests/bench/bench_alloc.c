/* SPDX-License-Identifier: MIT */
/*
 * bench_alloc: allocating and releasing private objects, beside malloc and free of glibc, jemalloc and
 * mimalloc in the same process.
 *
 * The peers are loaded with dlopen(RTLD_LOCAL), so that they replace nobody's malloc, and are all called
 * through a pointer; we are called as any program would, through the shared library's PLT.
 *
 *   n live     allocate n, then free them first in first out, over and over; per pair.  1 live: the page
 *              empties and refills each time
 *   ring       n live all the time; each step frees the oldest and allocates another
 *   cliff      the worst mean over k = 0, 1, 2, ... of alloc+release with k others live: page borders
 *   xmalloc    one thread allocates, another one frees
 *   trim       a client in whose memory another one has freed much, which it has taken in, gives 32 segments back, which
 *              is the most for one call
 *              (and again with BENCH_SMALL_PAGES set to a tmpfs without huge pages: there are more to give back)
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"

struct heap {	/* one way to allocate: a peer, or (alloc NULL) a client of ours */
	const char *name;
	void *(*alloc)(size_t bytes);
	void (*free)(void *p);
	struct bench_pool pool;
	uint32_t domain;
	struct cxlshm_client *client, *other;
	cxlshm_ref queue, queue_other;
	size_t bytes;
	uint64_t live;
	uint64_t *slots;	/* pointers or references */
	const struct bench *b;
};

#define HEAPS 5
#define LIVE_MAX 100000u

/* ---- n live, first in first out ---- */

static double ours_live(struct heap *h, uint64_t rounds)
{
	struct cxlshm_client *c = h->client;
	uint64_t t0 = bench_ns(), live = h->live, *slots = h->slots;
	size_t bytes = h->bytes;

	for (uint64_t r = 0; r < rounds; r++) {
		for (uint64_t i = 0; i < live; i++) {
			cxlshm_ref ref;
			int rc = cxlshm_alloc(c, bytes, &ref);

			if (rc)
				return rc;
			slots[i] = ref;
		}
		for (uint64_t i = 0; i < live; i++)
			cxlshm_release(c, slots[i]);
	}
	return (double)(bench_ns() - t0) / (double)(rounds * live);
}

static double peer_live(struct heap *h, uint64_t rounds)
{
	void *(*alloc)(size_t) = h->alloc;
	void (*drop)(void *) = h->free;
	uint64_t t0 = bench_ns(), live = h->live, *slots = h->slots;
	size_t bytes = h->bytes;

	for (uint64_t r = 0; r < rounds; r++) {
		for (uint64_t i = 0; i < live; i++) {
			void *p = alloc(bytes);

			if (!p)
				return -ENOMEM;
			slots[i] = (uint64_t)p;
		}
		for (uint64_t i = 0; i < live; i++)
			drop((void *)slots[i]);
	}
	return (double)(bench_ns() - t0) / (double)(rounds * live);
}

static double live_measure(void *arg, uint64_t n)
{
	struct heap *h = arg;

	return h->alloc ? peer_live(h, n) : ours_live(h, n);
}

/* ---- a ring: n live all the time, each block written once ---- */

static double ring_measure(void *arg, uint64_t n)
{
	struct heap *h = arg;
	uint64_t t0 = 0, live = h->live, *slots = h->slots, at = 0;

	memset(slots, 0, live * sizeof *slots);
	for (uint64_t i = 0; i < live + n; i++) {
		char *p;

		if (i == live)
			t0 = bench_ns();
		if (h->alloc) {
			h->free((void *)slots[at]);
			p = h->alloc(h->bytes);
			slots[at] = (uint64_t)p;
		} else {
			int rc;

			cxlshm_release(h->client, slots[at]);
			rc = cxlshm_alloc(h->client, h->bytes, &slots[at]);
			if (rc)
				return rc;
			p = cxlshm_ptr(h->client, slots[at]);
		}
		*(uint64_t *)(void *)p = i;
		at = at + 1 == live ? 0 : at + 1;
	}
	t0 = bench_ns() - t0;
	for (uint64_t i = 0; i < live; i++) {
		if (h->alloc)
			h->free((void *)slots[i]);
		else
			cxlshm_release(h->client, slots[i]);
	}
	return (double)t0 / (double)n;
}

/* ---- the cliff ---- */

#define CLIFF_LIVE 2200u
#define CLIFF_PAIRS 200u

static double cliff_measure(void *arg, uint64_t n)
{
	struct heap *h = arg;
	double worst = 0;
	uint64_t k;

	(void)n;
	h->live = 1;
	for (k = 0; k < CLIFF_LIVE; k++) {
		double best = 1e9;

		for (int again = 0; again < 3; again++) {	/* the least of three: not an interrupt */
			double ns = h->alloc ? peer_live(h, CLIFF_PAIRS) : ours_live(h, CLIFF_PAIRS);

			if (ns < 0)
				return ns;
			best = ns < best ? ns : best;
		}
		worst = best > worst ? best : worst;
		/* one more live, kept behind the slot that live_measure uses */
		if (h->alloc)
			h->slots[k + 1] = (uint64_t)h->alloc(h->bytes);
		else if (cxlshm_alloc(h->client, h->bytes, &h->slots[k + 1]))
			return -ENOSPC;
	}
	while (k--) {
		if (h->alloc)
			h->free((void *)h->slots[k + 1]);
		else
			cxlshm_release(h->client, h->slots[k + 1]);
	}
	return worst;
}

/* ---- two threads, each for itself ---- */

struct thread_heap {
	struct heap *h;
	struct cxlshm_client *client;
};

static int two_step(void *arg, uint64_t n)
{
	struct thread_heap *t = arg;
	struct heap *h = t->h;

	for (uint64_t i = 0; i < n; i++) {
		if (h->alloc) {
			void *p = h->alloc(h->bytes);

			BENCH_KEEP(p);
			h->free(p);
		} else {
			cxlshm_ref ref;
			int rc = cxlshm_alloc(t->client, h->bytes, &ref);

			if (rc)
				return rc;
			cxlshm_release(t->client, ref);
		}
	}
	return 0;
}

static double two_measure(void *arg, uint64_t n)
{
	struct heap *h = arg;
	struct thread_heap t[2] = {{h, h->client}, {h, h->other}};

	(void)n;
	return bench_pair(h->b, two_step, &t[0], &t[1]);
}

/* ---- one allocates, the other frees ---- */

#define BATCH 1000u

struct xmalloc {
	struct heap *h;
	int turn;	/* 0: the allocating thread, 1: the freeing one, 2: end */
	int rc;
	uint64_t freed_ns;
	uint64_t slots[BATCH];
};

static void wait_turn(const int *turn, int mine)
{
	unsigned spins = 0;
	int now;

	while ((now = __atomic_load_n(turn, __ATOMIC_ACQUIRE)) != mine && now != 2)
		if (++spins % 4096 == 0)
			sched_yield();
		else
			bench_pause();
}

static void *xmalloc_free(void *arg)
{
	struct xmalloc *x = arg;
	struct heap *h = x->h;

	bench_pin(1);
	bench_lower();
	for (;;) {
		uint64_t t0;

		wait_turn(&x->turn, 1);
		if (__atomic_load_n(&x->turn, __ATOMIC_ACQUIRE) == 2)
			return NULL;
		if (!h->alloc)
			for (unsigned i = 0; i < BATCH; i++)
				if (cxlshm_queue_receive(h->other, h->queue_other, &x->slots[i]))
					x->rc = -EIO;
		t0 = bench_ns();
		for (unsigned i = 0; i < BATCH; i++) {
			if (h->alloc)
				h->free((void *)x->slots[i]);
			else
				cxlshm_release(h->other, x->slots[i]);
		}
		x->freed_ns += bench_ns() - t0;
		__atomic_store_n(&x->turn, 0, __ATOMIC_RELEASE);
	}
}

/* Allocation here plus release there, in batches; the hand-over between is not counted. */
static double xmalloc_measure(void *arg, uint64_t n)
{
	struct xmalloc x = {.h = arg};
	struct heap *h = arg;
	uint64_t batches = n / BATCH + 1, ns = 0;
	pthread_t thread;

	if (pthread_create(&thread, NULL, xmalloc_free, &x))
		return -EAGAIN;
	bench_pin(0);
	for (uint64_t k = 0; k < batches && !x.rc; k++) {
		uint64_t t0 = bench_ns();

		for (unsigned i = 0; i < BATCH; i++) {
			if (h->alloc)
				x.slots[i] = (uint64_t)h->alloc(h->bytes);
			else if ((x.rc = cxlshm_alloc(h->client, h->bytes, &x.slots[i])))
				break;
		}
		ns += bench_ns() - t0;
		if (!h->alloc)
			for (unsigned i = 0; i < BATCH && !x.rc; i++)
				x.rc = cxlshm_queue_send(h->client, h->queue, x.slots[i]);
		if (x.rc)
			break;
		__atomic_store_n(&x.turn, 1, __ATOMIC_RELEASE);
		wait_turn(&x.turn, 0);
	}
	__atomic_store_n(&x.turn, 2, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	return x.rc ? x.rc : (double)(ns + x.freed_ns) / (double)(batches * BATCH);
}

/* ---- memory ---- */

static uint64_t resident_bytes(void)
{
	unsigned long long size = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f && fscanf(f, "%llu %llu", &size, &resident) != 2)
		resident = 0;
	if (f)
		fclose(f);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t heap_used(const struct heap *h)
{
	char path[300];
	struct stat st;

	if (h->alloc)
		return resident_bytes();
	snprintf(path, sizeof path, "%s/heap", h->pool.path);
	return stat(path, &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

struct memory {
	struct heap *h;
	uint64_t n;
	double *each;	/* shared with the child */
};

/* Bytes of memory that n more objects take, each, with everything kept about them. */
static int memory_measure(void *arg)
{
	struct memory *m = arg;
	struct heap *h = m->h;
	uint64_t *slots = bench_shared(m->n * sizeof *slots), before;

	memset(slots, 1, m->n * sizeof *slots);	/* resident before we look */
	before = heap_used(h);
	for (uint64_t k = 0; k < m->n; k++) {
		if (h->alloc) {
			slots[k] = (uint64_t)h->alloc(h->bytes);
			memset((void *)slots[k], 1, h->bytes);
		} else {
			BENCH_OK(cxlshm_alloc(h->client, h->bytes, &slots[k]));
		}
	}
	*m->each = (double)(heap_used(h) - before) / (double)m->n;
	if (!h->alloc)
		for (uint64_t k = 0; k < m->n; k++)
			cxlshm_release(h->client, slots[k]);
	return 0;
}

/* Peers in a child that has nothing to re-use yet: so this comes before all other cases. */
static void memory_case(struct bench *b, struct heap **heaps, int count, uint64_t n, size_t bytes)
{
	double *each = bench_shared(sizeof *each);
	char name[64];

	snprintf(name, sizeof name, "memory of a %zu B object", bytes);
	if (!bench_wanted(b, name))
		return;
	for (int i = 0; i < count; i++) {
		struct memory m = {heaps[i], n, each};

		heaps[i]->bytes = bytes;
		*each = -1;
		if (heaps[i]->alloc) {
			bench_wait(bench_fork(memory_measure, &m));
		} else {
			struct heap fresh = *heaps[i];

			BENCH_OK(bench_pool(b, &fresh.pool, 2ull << 30, 0, fresh.domain));
			BENCH_OK(cxlshm_join(fresh.pool.pool, "bench", 0, &fresh.client));
			m.h = &fresh;
			memory_measure(&m);
			bench_pool_gone(b, &fresh.pool);
		}
		if (*each >= 0)
			bench_report(b, name, 0, heaps[i]->name, "bytes", each, 1);
	}
}

/* ---- giving back ---- */

#define TRIM_SEGMENTS 32u	/* the most that one cxlshm_trim() gives back */
#define TRIM_OBJECT 4096u	/* with its header: so each page of memory has been written to */

/* ms for one cxlshm_trim() that gives TRIM_SEGMENTS back. */
static double trim_measure(void *arg, uint64_t n)
{
	struct heap *h = arg;
	struct cxlshm_counters before, after;
	uint64_t live = 3 * TRIM_SEGMENTS * (4u << 20) / TRIM_OBJECT, token, t0;
	cxlshm_ref ref;
	int rc = 0;

	(void)n;
	for (uint64_t i = 0; i < live && !rc; i++) {
		rc = cxlshm_alloc(h->client, TRIM_OBJECT - 16, &ref);
		if (!rc)
			rc = cxlshm_export(h->client, ref, &token);
		if (!rc)
			rc = cxlshm_import(h->other, token, &h->slots[i]);
	}
	while (live && !rc)
		rc = cxlshm_release(h->other, h->slots[--live]);
	if (!rc)
		rc = cxlshm_trim(h->client);	/* takes it all in */
	if (!rc)
		rc = cxlshm_counters(h->pool.pool, &before);
	if (rc)
		return rc;
	t0 = bench_ns();
	rc = cxlshm_trim(h->client);
	t0 = bench_ns() - t0;
	if (!rc)
		rc = cxlshm_counters(h->pool.pool, &after);
	if (!rc && after.segments_free - before.segments_free != TRIM_SEGMENTS) {
		fprintf(stderr, "bench: trim: free segments %u, then %u\n", before.segments_free, after.segments_free);
		rc = -EPROTO;
	}
	return rc ? rc : (double)t0 / 1e6;
}

/* ---- set-up ---- */

static int peer_open(struct heap *h, const char *name, const char *library, const char *alloc, const char *drop)
{
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);

	h->name = name;
	if (!handle)
		return -1;
	h->alloc = (void *(*)(size_t))dlsym(handle, alloc);
	h->free = (void (*)(void *))dlsym(handle, drop);
	return h->alloc && h->free ? 0 : -1;
}

static int ours_open(struct bench *b, struct heap *h, const char *name, uint32_t domain)
{
	uint64_t token;

	h->name = name;
	h->domain = domain;
	if (bench_pool(b, &h->pool, 1ull << 30, 0, domain))
		return -1;
	BENCH_OK(cxlshm_join(h->pool.pool, "bench", 0, &h->client));
	BENCH_OK(cxlshm_join(h->pool.pool, "bench", 0, &h->other));
	BENCH_OK(cxlshm_queue_create(h->client, 2 * BATCH, CXLSHM_SPSC, &h->queue));
	BENCH_OK(cxlshm_attach(h->client, h->queue, &h->queue_other));
	BENCH_OK(cxlshm_export(h->client, h->queue_other, &token));
	BENCH_OK(cxlshm_import(h->other, token, &h->queue_other));
	return 0;
}

/* base: NULL, or another tmpfs than that of all other cases. */
static void trim_case(struct bench *b, struct heap *h, const char *name, const char *base)
{
	struct heap fresh = *h;
	struct variant v = {h->name, trim_measure, &fresh};
	const char *usual = b->base;

	if (!bench_wanted(b, name))
		return;
	b->base = base ? base : usual;
	BENCH_OK(bench_pool(b, &fresh.pool, 2ull << 30, 0, fresh.domain));
	b->base = usual;
	BENCH_OK(cxlshm_join(fresh.pool.pool, "bench", 0, &fresh.client));
	BENCH_OK(cxlshm_join(fresh.pool.pool, "bench", 0, &fresh.other));
	bench_case(b, name, 0, "ms", &v, 1, 1);
	bench_pool_gone(b, &fresh.pool);
}

static void alloc_case(struct bench *b, struct heap **heaps, int count, const char *name, size_t bytes,
		       uint64_t live, double (*measure)(void *, uint64_t), uint64_t n)
{
	struct variant v[HEAPS];

	for (int i = 0; i < count; i++) {
		heaps[i]->bytes = bytes;
		heaps[i]->live = live;
		v[i] = (struct variant){heaps[i]->name, measure, heaps[i]};
	}
	bench_case(b, name, 0, "ns", v, count, n);
}

int main(int argc, char **argv)
{
	static struct heap all[HEAPS];
	struct heap *heaps[HEAPS];
	struct bench b;
	int n = 0;

	if (!getenv("GLIBC_TUNABLES")) {	/* jemalloc keeps more in TLS than dlopen() sets aside */
		setenv("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=65536", 1);
		execv("/proc/self/exe", argv);
	}
	bench_start(&b, "alloc", argc, argv);
	if (!ours_open(&b, &all[0], "cxlshm", CXLSHM_FAILURE_PROCESS))
		heaps[n++] = &all[0];
	if (!b.summary && !ours_open(&b, &all[1], "cxlshm host", CXLSHM_FAILURE_HOST))
		heaps[n++] = &all[1];
	if (!peer_open(&all[2], "mimalloc", "libmimalloc.so.2.0", "mi_malloc", "mi_free"))
		heaps[n++] = &all[2];
	else
		bench_skip(&b, "all", 0, "mimalloc", "libmimalloc.so.2.0 is not installed (libmimalloc2.0)");
	if (!peer_open(&all[3], "jemalloc", "libjemalloc.so.2", "malloc", "free"))
		heaps[n++] = &all[3];
	else
		bench_skip(&b, "all", 0, "jemalloc", "libjemalloc.so.2 is not installed (libjemalloc2)");
	all[4] = (struct heap){.name = "glibc", .alloc = malloc, .free = free};
	heaps[n++] = &all[4];
	for (int i = 0; i < n; i++) {
		heaps[i]->b = &b;
		heaps[i]->slots = bench_shared((LIVE_MAX + CLIFF_LIVE) * sizeof(uint64_t));
	}

	if (!b.summary) {
		memory_case(&b, heaps, n, b.quick ? 100000 : 1000000, 64);
		memory_case(&b, heaps, n, b.quick ? 10000 : 100000, 1024);
	}
	alloc_case(&b, heaps, n, "alloc+release 64 B, 1 live", 64, 1, live_measure, 0);
	if (!b.summary) {
		alloc_case(&b, heaps, n, "alloc+release 64 B, 1000 live", 64, 1000, live_measure, 0);
		alloc_case(&b, heaps, n, "alloc+release 64 B, 100000 live", 64, 100000, live_measure, 0);
		alloc_case(&b, heaps, n, "alloc+write+release 64 B, ring of 1000", 64, 1000, ring_measure, 0);
		alloc_case(&b, heaps, n, "alloc+release 64 B, worst number live", 64, 1, cliff_measure, 1);
		alloc_case(&b, heaps, n, "alloc+release 16 B, 1 live", 16, 1, live_measure, 0);
		alloc_case(&b, heaps, n, "alloc+release 1 KiB, 1 live", 1024, 1, live_measure, 0);
		alloc_case(&b, heaps, n, "alloc+release 64 KiB, 1 live", 65536, 1, live_measure, 0);
		alloc_case(&b, heaps, n, "alloc+release 4 MiB, 1 live", 4 << 20, 1, live_measure, 0);
	}
	alloc_case(&b, heaps, n, "alloc+release 64 B, two threads", 64, 1, two_measure, BENCH_PAIR);
	if (!b.summary)
		alloc_case(&b, heaps, n, "alloc here, release there, 64 B", 64, 1, xmalloc_measure, 0);
	if (!b.summary && heaps[0] == &all[0]) {
		trim_case(&b, heaps[0], "trim of 32 segments", NULL);
		if (getenv("BENCH_SMALL_PAGES"))
			trim_case(&b, heaps[0], "trim of 32 segments, 4 KiB pages", getenv("BENCH_SMALL_PAGES"));
	}
	return bench_end(&b);
}
