/* SPDX-License-Identifier: MIT */
/*
 * bench_recover: beginnings and ends of clients.
 *
 *   start-up             open a pool of 1 MiB or 64 GiB (sparse) and join, beside open+mmap of a file that large
 *   join+leave           in an open pool
 *   recovery             of a client that was SIGKILLed with N references, by cxlshm_recover(); a reference
 *                        beside what free() of glibc, jemalloc, mimalloc takes for as many live blocks
 *   recovery, in a row   the same as a whole, one such death behind the other and nothing else between
 *   SIGKILL to gone      with BENCH_DAEMON_POOL set, on which a daemon is mounted: from kill(2) until the dead client's
 *                        slot is free, which is the last thing recovery does; and without, where somebody
 *                        else joins, until its join has returned
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

struct shared {
	uint32_t ready;	/* set by the child once it holds its references */
	uint32_t id;
	int32_t rc;
};

struct ours {
	const char *name;
	struct bench_pool pool;
	const char *path;
	struct shared *sh;
	uint64_t references;
	struct cxlshm_pool *open;
};

/* ---- the client that will be killed ---- */

static int victim(void *arg)
{
	struct ours *o = arg;
	struct cxlshm_pool *pool;
	struct cxlshm_client *c;
	int rc = cxlshm_pool_open(o->path, 0, &pool, NULL);

	if (!rc)
		rc = cxlshm_join(pool, "victim", 0, &c);
	for (uint64_t i = 0; i < o->references && !rc; i++) {
		cxlshm_ref ref;

		rc = cxlshm_alloc(c, 64, &ref);
	}
	o->sh->rc = rc;
	o->sh->id = rc ? 0 : cxlshm_client_id(c);
	__atomic_store_n(&o->sh->ready, 1, __ATOMIC_RELEASE);
	while (pause())	/* until SIGKILL */
		;
	return 0;
}

static int victim_start(struct ours *o)
{
	int pid;

	o->sh->ready = 0;
	pid = bench_fork(victim, o);
	while (!__atomic_load_n(&o->sh->ready, __ATOMIC_ACQUIRE))
		usleep(200);
	if (o->sh->rc) {
		kill(pid, SIGKILL);
		bench_wait(pid);
		return o->sh->rc;
	}
	return pid;
}

/* us */
static double recover_whole_measure(void *arg, uint64_t n)
{
	struct ours *o = arg;
	struct cxlshm_recovery r;
	uint64_t t0;
	int pid = victim_start(o), rc;

	(void)n;
	if (pid < 0)
		return pid;
	kill(pid, SIGKILL);
	bench_wait(pid);	/* its locks are gone before its parent hears of it */
	t0 = bench_ns();
	rc = cxlshm_recover(o->open, &r);
	t0 = bench_ns() - t0;
	if (rc)
		return rc;
	if (r.clients != 1 || r.references != o->references) {
		fprintf(stderr, "bench: recovered %u clients, %llu references instead of 1, %llu\n", r.clients,
			(unsigned long long)r.references, (unsigned long long)o->references);
		return -EPROTO;
	}
	return (double)t0 / 1e3;
}

/* ns a reference */
static double recover_measure(void *arg, uint64_t n)
{
	struct ours *o = arg;
	double us = recover_whole_measure(arg, n);

	return us < 0 ? us : us * 1e3 / (double)o->references;
}

static int find_client(void *arg, const struct cxlshm_client_info *info)
{
	return info->id == *(const uint32_t *)arg;
}

/* us from kill(2) until nobody has the slot; somebody else (the daemon) recovers. */
static double gone_measure(void *arg, uint64_t n)
{
	struct ours *o = arg;
	uint64_t t0;
	int pid = victim_start(o), rc;

	(void)n;
	if (pid < 0)
		return pid;
	usleep(20000);	/* the daemon has seen it join */
	t0 = bench_ns();
	kill(pid, SIGKILL);
	while ((rc = cxlshm_each_client(o->open, find_client, &o->sh->id)) == 1 && bench_ns() - t0 < 5000000000u)
		usleep(20);
	t0 = bench_ns() - t0;
	bench_wait(pid);
	if (rc)
		return rc < 0 ? rc : -ETIMEDOUT;
	return (double)t0 / 1e3;
}

/* us from kill(2) until another client that joins has joined, and so recovered it. */
static double join_after_kill_measure(void *arg, uint64_t n)
{
	struct ours *o = arg;
	struct cxlshm_client *c;
	uint64_t t0;
	int pid = victim_start(o), rc;

	(void)n;
	if (pid < 0)
		return pid;
	t0 = bench_ns();
	kill(pid, SIGKILL);
	bench_wait(pid);
	rc = cxlshm_join(o->open, "next", 0, &c);
	t0 = bench_ns() - t0;
	if (rc)
		return rc;
	rc = cxlshm_each_client(o->open, find_client, &o->sh->id);
	if (rc == 1 && cxlshm_client_id(c) == o->sh->id)	/* in its slot */
		rc = 0;
	cxlshm_leave(c);
	return rc ? -EPROTO : (double)t0 / 1e3;
}

/* The death alone: us from kill(2) until the parent has heard of it, which the kernel takes to give back what was mapped. */
static double death_measure(void *arg, uint64_t n)
{
	struct ours *o = arg;
	struct cxlshm_recovery r;
	uint64_t t0;
	int pid = victim_start(o), rc;

	(void)n;
	if (pid < 0)
		return pid;
	t0 = bench_ns();
	kill(pid, SIGKILL);
	bench_wait(pid);
	t0 = bench_ns() - t0;
	rc = cxlshm_recover(o->open, &r);
	return rc ? rc : (double)t0 / 1e3;
}

static double join_measure(void *arg, uint64_t n)
{
	struct ours *o = arg;
	uint64_t t0 = bench_ns();

	for (uint64_t i = 0; i < n; i++) {
		struct cxlshm_client *c;
		int rc = cxlshm_join(o->open, "bench", 0, &c);

		if (!rc)
			rc = cxlshm_leave(c);
		if (rc)
			return rc;
	}
	return (double)(bench_ns() - t0) / (double)n / 1e3;
}

static double start_measure(void *arg, uint64_t n)
{
	struct ours *o = arg;
	uint64_t ns = 0;

	for (uint64_t i = 0; i < n; i++) {
		struct cxlshm_pool *pool;
		struct cxlshm_client *c;
		uint64_t t0 = bench_ns();
		int rc = cxlshm_pool_open(o->path, 0, &pool, NULL);

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

/* ---- peers ---- */

struct file {
	char path[256];
	uint64_t bytes;
};

static double mmap_measure(void *arg, uint64_t n)
{
	struct file *f = arg;
	uint64_t ns = 0;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t t0 = bench_ns();
		int fd = open(f->path, O_RDWR | O_CLOEXEC);
		void *p = fd < 0 ? MAP_FAILED
				 : mmap(NULL, f->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);

		if (p == MAP_FAILED)
			return -errno;
		*(volatile char *)p = 1;
		ns += bench_ns() - t0;
		munmap(p, f->bytes);
		close(fd);
	}
	return (double)ns / (double)n / 1e3;
}

struct peer {
	void *(*alloc)(size_t);
	void (*free)(void *);
	uint64_t n;
	void **slots;
};

/* ns a block, of freeing n that live. */
static double free_measure(void *arg, uint64_t n)
{
	struct peer *p = arg;
	uint64_t t0;

	(void)n;
	for (uint64_t i = 0; i < p->n; i++)
		p->slots[i] = p->alloc(64);
	t0 = bench_ns();
	for (uint64_t i = 0; i < p->n; i++)
		p->free(p->slots[i]);
	return (double)(bench_ns() - t0) / (double)p->n;
}

static int peer_open(struct peer *p, const char *library, const char *alloc, const char *drop)
{
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);

	if (!handle)
		return 0;
	p->alloc = (void *(*)(size_t))dlsym(handle, alloc);
	p->free = (void (*)(void *))dlsym(handle, drop);
	return p->alloc && p->free;
}

/* ---- */

static int ours_open(struct bench *b, struct ours *o, const char *name, uint64_t bytes, uint32_t domain)
{
	o->name = name;
	if (bench_pool(b, &o->pool, bytes, 0, domain))
		return 0;
	o->path = o->pool.path;
	o->open = o->pool.pool;
	o->sh = bench_shared(sizeof *o->sh);
	return 1;
}

static void start_up(struct bench *b, uint64_t bytes, const char *name)
{
	struct ours o = {0};
	struct file f = {.bytes = bytes};
	struct variant v[2];
	char dir[256];
	int n = 0, fd;

	if (!bench_wanted(b, name))
		return;
	if (ours_open(b, &o, "cxlshm", bytes, CXLSHM_FAILURE_PROCESS)) {
		cxlshm_pool_close(o.pool.pool);	/* or its own mapping is left to fork and to join */
		o.pool.pool = NULL;
		v[n++] = (struct variant){"cxlshm", start_measure, &o};
	}
	BENCH_OK(bench_dir(b, dir));
	snprintf(f.path, sizeof f.path, "%.240s/file", dir);
	fd = open(f.path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)bytes))
		bench_die(f.path, -errno);
	close(fd);
	v[n++] = (struct variant){"open+mmap", mmap_measure, &f};
	bench_case(b, name, 0, "us", v, n, 0);
	bench_pool_gone(b, &o.pool);
}

/* A curve with the references held; its points not in turn, so that each death finds the caches as the one before left them. */
static void deaths_in_a_row(struct bench *b, struct ours *o)
{
	struct variant v = {o->name, recover_whole_measure, o};

	for (uint64_t count = 1; count <= 10000; count *= count == 1 ? 1000 : 10) {
		o->references = count;
		bench_case(b, "recovery, in a row, references", (double)count, "us", &v, 1, 1);
	}
}

static void after_kill(struct bench *b, const char *name, struct ours *o, int ours,
		       double (*measure)(void *, uint64_t))
{
	struct variant v[3];
	int reps = b->slow_reps, n;

	for (uint64_t count = 1000; count <= (b->quick ? 100000 : 1000000); count *= count == 1000 ? 100 : 10) {
		b->slow_reps = count > 100000 ? 5 : reps;
		for (n = 0; n < ours; n++) {
			o[n].references = count;
			v[n] = (struct variant){o[n].name, measure, &o[n]};
		}
		if (measure == join_after_kill_measure)
			v[n++] = (struct variant){"cxlshm, the death alone", death_measure, &o[0]};
		bench_case(b, name, (double)count, "us", v, n, 1);
	}
	b->slow_reps = reps;
}

int main(int argc, char **argv)
{
	static struct ours o[2], with_daemon;
	static struct peer peers[3];
	static const char *const peer_names[] = {"mimalloc", "jemalloc", "glibc"};
	struct bench b;
	struct variant v[8];
	int ours = 0, n, have[3], reps;
	const char *daemon_pool = getenv("BENCH_DAEMON_POOL");

	if (!getenv("GLIBC_TUNABLES")) {	/* as in bench_alloc */
		setenv("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=65536", 1);
		execv("/proc/self/exe", argv);
	}
	bench_start(&b, "recover", argc, argv);
	if (daemon_pool) {	/* only what needs a daemon, which run.sh has started */
		with_daemon.name = "cxlshm";
		with_daemon.path = daemon_pool;
		with_daemon.sh = bench_shared(sizeof *with_daemon.sh);
		BENCH_OK(cxlshm_pool_open(daemon_pool, 0, &with_daemon.open, NULL));
		after_kill(&b, "SIGKILL to last reference gone, daemon, references", &with_daemon, 1, gone_measure);
		cxlshm_pool_close(with_daemon.open);
		return bench_end(&b);
	}
	have[0] = peer_open(&peers[0], "libmimalloc.so.2.0", "mi_malloc", "mi_free");
	have[1] = peer_open(&peers[1], "libjemalloc.so.2", "malloc", "free");
	if (!have[0])
		bench_skip(&b, "recovery, a reference", 0, "mimalloc", "libmimalloc.so.2.0 is not installed (libmimalloc2.0)");
	if (!have[1])
		bench_skip(&b, "recovery, a reference", 0, "jemalloc", "libjemalloc.so.2 is not installed (libjemalloc2)");
	peers[2] = (struct peer){.alloc = malloc, .free = free};
	have[2] = 1;
	ours += ours_open(&b, &o[ours], "cxlshm", 2ull << 30, CXLSHM_FAILURE_PROCESS);
	if (!b.summary)
		ours += ours_open(&b, &o[ours], "cxlshm host", 2ull << 30, CXLSHM_FAILURE_HOST);

	reps = b.slow_reps;
	for (uint64_t count = b.summary ? 100000 : 1000; count <= (b.summary ? 100000 : 1000000);
	     count *= count == 1000 ? 100 : 10) {
		if (b.quick && count > 100000)
			break;
		b.slow_reps = count > 100000 ? 5 : reps;
		for (n = 0; n < ours; n++) {
			o[n].references = count;
			v[n] = (struct variant){o[n].name, recover_measure, &o[n]};
		}
		for (int i = 0; i < 3; i++) {
			if (!have[i])
				continue;
			peers[i].n = count;
			peers[i].slots = bench_shared(count * sizeof(void *));
			v[n++] = (struct variant){peer_names[i], free_measure, &peers[i]};
		}
		bench_case(&b, "recovery, a reference, references", (double)count, "ns", v, n, 1);
	}
	b.slow_reps = reps;
	if (!b.summary && ours) {
		deaths_in_a_row(&b, &o[0]);
		after_kill(&b, "SIGKILL to joined in its stead, references", o, ours, join_after_kill_measure);
		for (n = 0; n < ours; n++)
			v[n] = (struct variant){o[n].name, join_measure, &o[n]};
		bench_case(&b, "join+leave", 0, "us", v, n, 0);
	}
	for (n = 0; n < ours; n++)
		bench_pool_gone(&b, &o[n].pool);
	if (!b.summary) {
		start_up(&b, 1ull << 20, "start-up, 1 MiB pool");
		start_up(&b, 64ull << 30, "start-up, 64 GiB sparse pool");
	}
	return bench_end(&b);
}
