/* SPDX-License-Identifier: MIT */
/*
 * bench_writeback: cache lines written back, an operation: all of them, and how many different ones they are.  No time is
 * taken: the library is that of crash-host (see tests/crash/writeback.h), which tells of each line instead of writing it
 * back, so it needs no clwb either.
 *
 * The operations are those of bench_alloc, bench_ref and bench_queue with these names.
 */
#define WRITEBACK_ITSELF
#include "writeback.h"

#include "bench.h"

#define SEEN_MAX 1024u

static uint64_t lines, distinct;
static uintptr_t seen[SEEN_MAX];	/* by this operation */
static size_t seen_count;

/* Called by the library. */
void writeback_line(const void *p)
{
	uintptr_t line = (uintptr_t)p / ARCH_LINE_BYTES;

	lines++;
	for (size_t i = 0; i < seen_count; i++)
		if (seen[i] == line)
			return;
	distinct++;
	if (seen_count < SEEN_MAX)
		seen[seen_count++] = line;
}

int writeback_fallocate(int fd, int mode, off_t offset, off_t length)
{
	return fallocate(fd, mode, offset, length);
}

struct ours {
	struct cxlshm_client *client;
	cxlshm_ref hub;	/* with a cell */
	cxlshm_ref exposed, own, queue;
	int (*step)(struct ours *o);
	const uint64_t *counted;	/* lines or distinct */
};

static int alloc_step(struct ours *o)
{
	cxlshm_ref ref;
	int rc = cxlshm_alloc(o->client, 64, &ref);

	return rc ? rc : cxlshm_release(o->client, ref);
}

static int attach_step(struct ours *o)
{
	cxlshm_ref ref;
	int rc = cxlshm_attach(o->client, o->exposed, &ref);

	return rc ? rc : cxlshm_release(o->client, ref);
}

static int load_step(struct ours *o)
{
	cxlshm_ref ref;
	int rc = cxlshm_cell_load(o->client, o->hub, 0, &ref);

	return rc ? rc : cxlshm_release(o->client, ref);
}

static int swap_step(struct ours *o)
{
	return cxlshm_cell_swap(o->client, o->hub, 1, &o->own);
}

static int queue_step(struct ours *o)
{
	int rc = cxlshm_queue_send(o->client, o->queue, o->own);

	return rc ? rc : cxlshm_queue_receive(o->client, o->queue, &o->own);
}

/* The mean of n: now and then one needs more (a new page of references, a sweep). */
static double lines_measure(void *arg, uint64_t n)
{
	struct ours *o = arg;
	int rc = 0;

	lines = distinct = 0;
	for (uint64_t i = 0; i < n && !rc; i++) {
		seen_count = 0;
		rc = o->step(o);
	}
	return rc ? rc : (double)*o->counted / (double)n;
}

static void ours_open(struct ours *o, struct cxlshm_pool *pool)
{
	BENCH_OK(cxlshm_join(pool, "bench", 0, &o->client));
	BENCH_OK(cxlshm_alloc_with(o->client, 64, 2, CXLSHM_CELLS, &o->hub));
	BENCH_OK(cxlshm_alloc(o->client, 64, &o->exposed));
	BENCH_OK(cxlshm_alloc(o->client, 64, &o->own));
	for (uint32_t k = 0; k < 2; k++)
		BENCH_OK(cxlshm_cell_store(o->client, o->hub, k, o->exposed));
	BENCH_OK(cxlshm_queue_create(o->client, 1024, CXLSHM_SPSC, &o->queue));
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*step)(struct ours *o);
	} cases[] = {
		{"alloc+release 64 B", alloc_step},
		{"attach+detach exposed", attach_step},
		{"cell load+drop", load_step},
		{"cell swap", swap_step},
		{"queue send+receive", queue_step},
	};
	static const struct {
		const char *name;
		uint32_t domain;
	} domains[] = {{"cxlshm", CXLSHM_FAILURE_PROCESS}, {"cxlshm host", CXLSHM_FAILURE_HOST}};
	struct bench_pool pools[2];
	struct ours o[2];
	struct variant v[2];
	static const struct {
		const char *name;
		const uint64_t *counted;
	} kinds[] = {{"lines written back", &lines}, {"different lines written back", &distinct}};
	struct bench b;
	int n = 0;

	bench_start(&b, "ref", argc, argv);
	for (int i = 0; i < 2; i++) {
		if (bench_pool(&b, &pools[n], 256u << 20, 0, domains[i].domain))
			continue;
		ours_open(&o[n], pools[n].pool);
		v[n] = (struct variant){domains[i].name, lines_measure, &o[n]};
		n++;
	}
	for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
		for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
			char name[64];

			for (int i = 0; i < n; i++) {
				o[i].step = cases[c].step;
				o[i].counted = kinds[k].counted;
			}
			snprintf(name, sizeof name, "%s, %s", kinds[k].name, cases[c].name);
			bench_case(&b, name, 0, "lines", v, n, 10000);
		}
	for (int i = 0; i < n; i++)
		bench_pool_gone(&b, &pools[i]);
	return bench_end(&b);
}
