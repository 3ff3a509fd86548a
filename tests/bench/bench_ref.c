/* SPDX-License-Identifier: MIT */
/*
 * bench_ref: references: local copies, attach and detach of an exposed object, fields, cells, hand-over;
 * alone and contended by two threads (each its own client), beside std::shared_ptr and
 * std::atomic<std::shared_ptr>, and a bare lock cmpxchg16b of one line, in the same process.
 *
 * And what failure_domain=host pays for: a bare line that is stored to and written back.
 *
 * "contended" is ns an operation of one of the two threads, not divided by two.
 *
 * Linked once more with the static library, BENCH_STATIC: only the shortest call, of which getting there is a part.
 */
#include <errno.h>
#include <stdlib.h>

#include "arch.h"
#include "bench.h"
#ifdef HAVE_CXX
#include "peer_shared_ptr.h"
#endif

struct side {	/* one client and its references to what both sides use */
	struct cxlshm_client *client;
	cxlshm_ref hub;	/* an object with two cells */
	cxlshm_ref fields;	/* an object with fields, this client's own */
	cxlshm_ref shared;	/* an exposed object both sides hold */
	cxlshm_ref own;	/* an exposed object of this side's, for swapping */
};

struct ours {
	const char *name;
	struct bench_pool pool;
	struct side side[2];
	const struct bench *b;
	int (*step)(void *side, uint64_t n);
};

/* ---- our operations: each a step for bench_pair(), and by one thread ---- */

static int attach_step(void *arg, uint64_t n)
{
	struct side *s = arg;

	for (uint64_t i = 0; i < n; i++) {
		cxlshm_ref ref;
		int rc = cxlshm_attach(s->client, s->shared, &ref);

		if (rc)
			return rc;
		rc = cxlshm_release(s->client, ref);
		if (rc)
			return rc;
	}
	return 0;
}

static int dup_step(void *arg, uint64_t n)
{
	struct side *s = arg;

	for (uint64_t i = 0; i < n; i++) {
		int rc = cxlshm_dup(s->client, s->shared);

		if (rc)
			return rc;
		cxlshm_release(s->client, s->shared);
	}
	return 0;
}

static int load_step(void *arg, uint64_t n)
{
	struct side *s = arg;

	for (uint64_t i = 0; i < n; i++) {
		cxlshm_ref ref;
		int rc = cxlshm_cell_load(s->client, s->hub, 0, &ref);

		if (rc)
			return rc;
		cxlshm_release(s->client, ref);
	}
	return 0;
}

static int swap_step(void *arg, uint64_t n)
{
	struct side *s = arg;

	for (uint64_t i = 0; i < n; i++) {
		int rc = cxlshm_cell_swap(s->client, s->hub, 1, &s->own);

		if (rc)
			return rc;
	}
	return 0;
}

static int store_step(void *arg, uint64_t n)
{
	struct side *s = arg;

	for (uint64_t i = 0; i < n; i++) {
		int rc = cxlshm_cell_store(s->client, s->hub, 1, s->shared);

		if (rc)
			return rc;
	}
	return 0;
}

static int field_load_step(void *arg, uint64_t n)
{
	struct side *s = arg;

	for (uint64_t i = 0; i < n; i++) {
		cxlshm_ref ref;
		int rc = cxlshm_field_load(s->client, s->fields, 0, &ref);

		if (rc)
			return rc;
		cxlshm_release(s->client, ref);
	}
	return 0;
}

static int field_swap_step(void *arg, uint64_t n)
{
	struct side *s = arg;

	for (uint64_t i = 0; i < n; i++) {
		int rc = cxlshm_field_swap(s->client, s->fields, 1, &s->own);

		if (rc)
			return rc;
	}
	return 0;
}

static int export_step(void *arg, uint64_t n)
{
	struct side *s = arg;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t token;
		int rc = cxlshm_export(s->client, s->own, &token);

		if (!rc)
			rc = cxlshm_import(s->client, token, &s->own);
		if (rc)
			return rc;
	}
	return 0;
}

static int ptr_step(void *arg, uint64_t n)
{
	struct side *s = arg;

	for (uint64_t i = 0; i < n; i++)
		BENCH_KEEP(cxlshm_ptr(s->client, s->shared));
	return 0;
}

static double one_measure(void *arg, uint64_t n)
{
	struct ours *o = arg;
	uint64_t t0 = bench_ns();
	int rc = o->step(&o->side[0], n);

	return rc ? rc : (double)(bench_ns() - t0) / (double)n;
}

static double two_measure(void *arg, uint64_t n)
{
	struct ours *o = arg;

	(void)n;
	return bench_pair(o->b, o->step, &o->side[0], &o->side[1]);
}

/* Copies only, 1000 at a time; dropping them is not counted. */
static double dup_only_measure(void *arg, uint64_t n)
{
	struct ours *o = arg;
	struct side *s = &o->side[0];
	uint64_t ns = 0, done = 0;

	while (done < n) {
		uint64_t t0 = bench_ns();

		for (int i = 0; i < 1000; i++)
			cxlshm_dup(s->client, s->shared);
		ns += bench_ns() - t0;
		for (int i = 0; i < 1000; i++)
			cxlshm_release(s->client, s->shared);
		done += 1000;
	}
	return (double)ns / (double)done;
}

/* ---- peers ---- */

#ifdef __x86_64__
struct line {
	__int128 word __attribute__((aligned(64)));
	const struct bench *b;
};

static int cas16_step(void *arg, uint64_t n)
{
	struct line *l = arg;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t low = ((volatile uint64_t *)&l->word)[0], high = ((volatile uint64_t *)&l->word)[1];
		unsigned char ok;

		do
			__asm__ volatile("lock cmpxchg16b %1\n\tsetz %0"
					 : "=q"(ok), "+m"(l->word), "+a"(low), "+d"(high)
					 : "b"(low + 1), "c"(high + 1)
					 : "cc", "memory");
		while (!ok);
	}
	return 0;
}

static double cas16_measure(void *arg, uint64_t n)
{
	uint64_t t0 = bench_ns();

	cas16_step(arg, n);
	return (double)(bench_ns() - t0) / (double)n;
}

static double cas16_two_measure(void *arg, uint64_t n)
{
	struct line *l = arg;

	(void)n;
	return bench_pair(l->b, cas16_step, l, l);
}
#endif

/* A store to a line that is in the cache, written back and waited for. */
static double write_back_measure(void *arg, uint64_t n)
{
	volatile uint64_t *word = arg;
	uint64_t t0 = bench_ns();

	for (uint64_t i = 0; i < n; i++) {
		*word = i;
		arch_write_back(arg);
		arch_write_back_fence();
	}
	return (double)(bench_ns() - t0) / (double)n;
}

static void write_back_case(struct bench *b)
{
	static const char name[] = "a line stored and written back";
	static uint64_t word __attribute__((aligned(ARCH_LINE_BYTES)));
	struct variant v = {"bare", write_back_measure, &word};

	if (arch_can_write_back())
		bench_case(b, name, 0, "ns", &v, 1, 0);
	else
		bench_skip(b, name, 0, v.name, "this processor cannot");
}

#ifdef HAVE_CXX
struct sp {
	struct peer_sp *h;
	const struct bench *b;
	void (*loop)(struct peer_sp *h, uint64_t n);
};

static double sp_measure(void *arg, uint64_t n)
{
	struct sp *p = arg;
	uint64_t t0 = bench_ns();

	p->loop(p->h, n);
	return (double)(bench_ns() - t0) / (double)n;
}

static int sp_step(void *arg, uint64_t n)
{
	struct sp *p = arg;

	p->loop(p->h, n);
	return 0;
}

static double sp_two_measure(void *arg, uint64_t n)
{
	struct sp *p = arg;

	(void)n;
	return bench_pair(p->b, sp_step, p, p);
}

static double sp_copy_measure(void *arg, uint64_t n)
{
	struct sp *p = arg;
	uint64_t ns = 0, done = 0;

	for (; done < n; done += 1000)
		ns += peer_sp_copy(p->h, 1000);
	return (double)ns / (double)done;
}
#endif

/* ---- set-up ---- */

static cxlshm_ref hand_over(struct side *from, struct side *to, cxlshm_ref ref)
{
	cxlshm_ref copy, there;
	uint64_t token;

	BENCH_OK(cxlshm_attach(from->client, ref, &copy));
	BENCH_OK(cxlshm_export(from->client, copy, &token));
	BENCH_OK(cxlshm_import(to->client, token, &there));
	return there;
}

static int ours_open(struct bench *b, struct ours *o, const char *name, uint32_t domain)
{
	struct side *s = o->side;

	o->name = name;
	o->b = b;
	if (bench_pool(b, &o->pool, 256u << 20, 0, domain))
		return -1;
	for (int i = 0; i < 2; i++) {
		BENCH_OK(cxlshm_join(o->pool.pool, "bench", 0, &s[i].client));
		BENCH_OK(cxlshm_alloc_with(s[i].client, 64, 2, 0, &s[i].fields));
		BENCH_OK(cxlshm_alloc(s[i].client, 64, &s[i].own));
	}
	BENCH_OK(cxlshm_alloc_with(s[0].client, 64, 2, CXLSHM_CELLS, &s[0].hub));
	s[1].hub = hand_over(&s[0], &s[1], s[0].hub);
	BENCH_OK(cxlshm_alloc(s[0].client, 64, &s[0].shared));
	s[1].shared = hand_over(&s[0], &s[1], s[0].shared);
	BENCH_OK(cxlshm_cell_store(s[0].client, s[0].hub, 0, s[0].shared));
	BENCH_OK(cxlshm_cell_store(s[0].client, s[0].hub, 1, s[0].shared));
	for (int i = 0; i < 2; i++)
		for (uint32_t k = 0; k < 2; k++)
			BENCH_OK(cxlshm_field_store(s[i].client, s[i].fields, k, s[i].shared));
	return 0;
}

struct peer_sp;

struct ref_case {
	const char *name;
	int (*step)(void *side, uint64_t n);
	int two;	/* contended by two threads */
	int in_summary;
	void (*peer)(struct peer_sp *h, uint64_t n);
	int bare;	/* compare with a bare CAS */
};

int main(int argc, char **argv)
{
	static struct ours pools[2];
	struct bench b;
	struct variant v[8];
	int n, ours = 0;
#ifdef HAVE_CXX
	struct sp sp = {NULL, &b, NULL};
#define PEER(f) f
#else
#define PEER(f) NULL
#endif
	const struct ref_case cases[] = {
		{"local copy+drop", dup_step, 0, 0, PEER(peer_sp_copy_drop), 0},
		{"attach+detach exposed", attach_step, 0, 1, PEER(peer_sp_copy_drop), 1},
		{"attach+detach exposed, contended", attach_step, 1, 1, PEER(peer_sp_copy_drop), 1},
		{"cell load+drop", load_step, 0, 1, PEER(peer_sp_load), 0},
		{"cell load+drop, contended", load_step, 1, 0, PEER(peer_sp_load), 0},
		{"cell swap", swap_step, 0, 0, PEER(peer_sp_exchange), 1},
		{"cell swap, contended", swap_step, 1, 0, PEER(peer_sp_exchange), 1},
		{"cell store", store_step, 0, 0, NULL, 0},
		{"field load+drop", field_load_step, 0, 0, NULL, 0},
		{"field swap", field_swap_step, 0, 0, NULL, 0},
		{"export+import", export_step, 0, 0, NULL, 0},
		{"address of a reference", ptr_step, 0, 0, NULL, 0},
	};

	bench_start(&b, "ref", argc, argv);
	if (!ours_open(&b, &pools[0], "cxlshm", CXLSHM_FAILURE_PROCESS))
		ours = 1;
	if (ours && !b.summary && !ours_open(&b, &pools[1], "cxlshm host", CXLSHM_FAILURE_HOST))
		ours = 2;
#ifdef HAVE_CXX
	sp.h = peer_sp_make();
#else
	bench_skip(&b, "all", 0, "shared_ptr", "built without a C++20 compiler");
#endif
#ifdef __x86_64__
	static struct line line;
	line.b = &b;
#else
	bench_skip(&b, "all", 0, "cmpxchg16b", "not an x86-64");
#endif
	for (n = 0; n < ours; n++)
		v[n] = (struct variant){pools[n].name, dup_only_measure, &pools[n]};
#ifdef HAVE_CXX
	v[n++] = (struct variant){"shared_ptr", sp_copy_measure, &sp};
#endif
#ifdef BENCH_STATIC
	bench_case(&b, "local copy, static library", 0, "ns", v, n, 0);
	return bench_end(&b);
#endif
	if (!b.summary)
		bench_case(&b, "local copy", 0, "ns", v, n, 0);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const struct ref_case *c = &cases[i];

		if (b.summary && !c->in_summary)
			continue;
		for (n = 0; n < ours; n++) {
			pools[n].step = c->step;
			v[n] = (struct variant){pools[n].name, c->two ? two_measure : one_measure, &pools[n]};
		}
#ifdef HAVE_CXX
		sp.loop = c->peer;
		if (c->peer)
			v[n++] = (struct variant){"shared_ptr", c->two ? sp_two_measure : sp_measure, &sp};
#endif
#ifdef __x86_64__
		if (c->bare)
			v[n++] = (struct variant){"cmpxchg16b", c->two ? cas16_two_measure : cas16_measure,
						  &line};
#endif
		bench_case(&b, c->name, 0, "ns", v, n, c->two ? BENCH_PAIR : 0);
	}
	if (!b.summary)
		write_back_case(&b);
	return bench_end(&b);
}
