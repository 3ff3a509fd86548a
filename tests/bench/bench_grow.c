/* SPDX-License-Identifier: MIT */
/*
 * bench_grow: how cost grows with live objects, pool size, references held and dead clients.
 * (With the size of a directory: bench_names; with clients: bench_clients.)
 *
 *   objects      a ring of that many live 64 B objects: each step frees the oldest and allocates another
 *   pool         MiB, sparse: alloc+release, open+join, and recovery of a client that died with 250, 1000, 4000 references
 *   held         references held: attach+detach of one more
 *   dead         clients, with 100 references each: one cxlshm_recover(), for one of them
 *
 * Beside times, of the same calls: page faults by getrusage(2), and what recovery spends in fallocate(2).  Of one more
 * open+join each: its system calls, by ptrace(2).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define DEAD_MAX 64

/* ---- what is noted beside a time ---- */

struct noted {
	double values[BENCH_REPS_MAX];	/* a ring */
	unsigned count;
};

static void note(struct noted *n, double value)
{
	n->values[n->count++ % BENCH_REPS_MAX] = value;
}

static void note_report(struct bench *b, const char *name, double x, const char *variant, const char *unit,
			const struct noted *n, int reps)
{
	double last[BENCH_REPS_MAX];

	if (!bench_wanted(b, name) || n->count < (unsigned)reps)
		return;
	for (int i = 0; i < reps; i++)	/* those before were to find out how many fill a sample */
		last[i] = n->values[(n->count - 1 - (unsigned)i) % BENCH_REPS_MAX];
	bench_report(b, name, x, variant, unit, last, reps);
}

static long page_faults(void)
{
	struct rusage use;

	getrusage(RUSAGE_THREAD, &use);
	return use.ru_minflt + use.ru_majflt;
}

static uint64_t fallocate_ns;

/* Called by the library in place of libc's. */
int fallocate(int fd, int mode, off_t offset, off_t length)
{
	uint64_t t0 = bench_ns();
	long rc = syscall(SYS_fallocate, fd, mode, offset, length);

	fallocate_ns += bench_ns() - t0;
	return (int)rc;
}

/* ---- one client ---- */

struct one {
	struct bench_pool pool;
	struct cxlshm_client *client;
	cxlshm_ref object;
	cxlshm_ref *slots;
	uint64_t live, at;
	uint32_t dead;	/* clients to kill, */
	uint32_t held;	/* each with that many references */
	struct noted faults;	/* page faults of what was measured last */
	struct noted given;	/* us in fallocate(2) */
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
	long faults = 0;

	for (uint64_t i = 0; i < n; i++) {
		struct cxlshm_pool *pool;
		struct cxlshm_client *c;
		long before = page_faults();
		uint64_t t0 = bench_ns();
		int rc = cxlshm_pool_open(o->pool.path, 0, &pool, NULL);

		if (rc)
			return rc;
		rc = cxlshm_join(pool, "bench", 0, &c);
		ns += bench_ns() - t0;
		faults += page_faults() - before;
		cxlshm_pool_close(pool);
		if (rc)
			return rc;
	}
	note(&o->faults, (double)faults / (double)n);
	return (double)ns / (double)n / 1e3;
}

/* ---- its system calls ---- */

#define MARK SYS_getpgid	/* made before and behind */

static int traced_main(void *arg)
{
	struct one *o = arg;
	struct cxlshm_pool *pool;
	struct cxlshm_client *c;

	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		return 1;
	raise(SIGSTOP);
	syscall(MARK, 0);
	BENCH_OK(cxlshm_pool_open(o->pool.path, 0, &pool, NULL));
	BENCH_OK(cxlshm_join(pool, "bench", 0, &c));
	syscall(MARK, 0);
	return 0;
}

static double system_calls(void *arg, uint64_t n)
{
	int pid = bench_fork(traced_main, arg), status, marks = 0, calls = 0;

	(void)n;
	if (waitpid(pid, &status, 0) < 0 || !WIFSTOPPED(status))
		return -EPERM;
	if (ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)))
		goto fail;
	for (;;) {
		struct __ptrace_syscall_info info;

		if (ptrace(PTRACE_SYSCALL, pid, NULL, NULL) || waitpid(pid, &status, 0) < 0)
			goto fail;
		if (!WIFSTOPPED(status))
			break;
		if (WSTOPSIG(status) != (SIGTRAP | 0x80))
			continue;
		if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof info, &info) <= 0)
			goto fail;
		if (info.op != PTRACE_SYSCALL_INFO_ENTRY)
			continue;
		if (info.entry.nr == MARK)
			marks++;
		else
			calls += marks == 1;
	}
	return marks == 2 ? calls : -EPROTO;
fail:
	kill(pid, SIGKILL);
	bench_wait(pid);
	return -EPERM;
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
	long faults;

	(void)n;
	for (uint32_t i = 0; i < o->dead; i++)
		pids[i] = bench_fork(victim_main, &v);
	while (__atomic_load_n(v.ready, __ATOMIC_ACQUIRE) < o->dead)
		usleep(200);
	for (uint32_t i = 0; i < o->dead; i++)
		kill(pids[i], SIGKILL);
	for (uint32_t i = 0; i < o->dead; i++)
		bench_wait(pids[i]);
	fallocate_ns = 0;
	faults = page_faults();
	t0 = bench_ns();
	rc = cxlshm_recover(o->pool.pool, &r);
	t0 = bench_ns() - t0;
	note(&o->faults, (double)(page_faults() - faults));
	note(&o->given, (double)fallocate_ns / 1e3);
	if (!rc && r.clients != o->dead)
		rc = -EPROTO;
	return rc ? rc : (double)t0 / 1e3 / o->dead;
}

/* One after the other with each number of references. */
static void deaths(struct bench *b, struct one *o, const struct point *points, int count, int stays)
{
	const char *variant = stays ? "cxlshm, its segment stays" : "cxlshm";
	static const uint32_t held[] = {250, 1000, 4000};

	for (size_t h = 0; h < sizeof held / sizeof held[0]; h++) {
		char name[64];

		for (int i = 0; i < count; i++)
			o[i].held = held[h];
		snprintf(name, sizeof name, "recovery, %u references, MiB of pool", held[h]);
		bench_curve(b, name, "us", variant, dead_measure, points, count, 1);
		for (int i = 0; i < count; i++) {
			if (!stays)
				note_report(b, name, points[i].x, "cxlshm, its fallocate(2) alone", "us", &o[i].given,
					    b->slow_reps);
			if (held[h] == 1000)
				note_report(b, "page faults of one recovery, MiB of pool", points[i].x, variant, "faults",
					    &o[i].faults, b->slow_reps);
		}
	}
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
		points[count] = (struct point){(double)mib, &o[count]};
		count++;
	}
	bench_curve(b, "alloc+release 64 B, MiB of pool", "ns", "cxlshm", alloc_measure, points, count, 0);
	bench_curve(b, "open+join, MiB of pool", "us", "cxlshm", open_measure, points, count, 0);
	for (int i = 0; i < count; i++)
		note_report(b, "page faults, open+join, MiB of pool", points[i].x, "cxlshm", "faults", &o[i].faults, b->reps);
	bench_curve(b, "system calls, open+join, MiB of pool", "calls", "cxlshm", system_calls, points, count, 1);
	deaths(b, o, points, count, 0);
	/* Without our client the dead one's objects are beside the root directory: its segment stays. */
	for (int i = 0; i < count; i++)
		BENCH_OK(cxlshm_leave(o[i].client));
	deaths(b, o, points, count, 1);
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
	for (int i = 0; i < count; i++)
		note_report(b, "page faults of one recovery, dead clients", points[i].x, "cxlshm", "faults", &o[i].faults,
			    b->slow_reps);
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
