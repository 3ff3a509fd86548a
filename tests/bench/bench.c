/* SPDX-License-Identifier: MIT */
/* bench: see bench.h. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

/* Directories to remove when we end, however we end. */
#define DIRS_MAX 64
static char dirs[DIRS_MAX][256];
static pid_t owner;

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path) && errno != ENOENT ? -1 : 0;
}

void bench_remove_tree(const char *path)
{
	nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static void remove_all(void)
{
	if (getpid() != owner)
		return;
	for (int i = 0; i < DIRS_MAX; i++) {
		if (dirs[i][0])
			bench_remove_tree(dirs[i]);
		dirs[i][0] = 0;
	}
}

static void on_signal(int sig)
{
	remove_all();	/* not async-signal-safe, but the alternative is to leave gigabytes behind */
	_exit(128 + sig);
}

static void *idle(void *arg)
{
	for (;;)
		pause();
	return arg;
}

void bench_die(const char *what, int rc)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(-rc));
	if (getpid() == owner)
		exit(1);
	_exit(1);
}

void bench_start(struct bench *b, const char *group, int argc, char **argv)
{
	pthread_t thread;
	int c;

	memset(b, 0, sizeof *b);
	b->group = group;
	b->base = getenv("BENCH_DIR") ? getenv("BENCH_DIR") : "/dev/shm";
	while ((c = getopt(argc, argv, "qsmd:o:")) != -1) {
		switch (c) {
		case 'q':
			b->quick = 1;
			break;
		case 's':
			b->summary = 1;
			break;
		case 'm':
			b->machine = 1;
			break;
		case 'd':
			b->base = optarg;
			break;
		case 'o':
			b->only = optarg;
			break;
		default:
			fprintf(stderr, "usage: %s [-q] [-s] [-m] [-d DIR] [-o CASE] ...\n", argv[0]);
			exit(2);
		}
	}
	b->argc = argc - optind;
	b->argv = argv + optind;
	b->reps = b->quick ? 25 : 63;
	b->slow_reps = b->quick ? 5 : 11;
	b->sample_ns = b->quick ? 1.5e6 : 2.5e6;
	setvbuf(stdout, NULL, _IOLBF, 0);
	owner = getpid();
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGHUP, on_signal);
	signal(SIGPIPE, SIG_IGN);
	atexit(remove_all);
	if (pthread_create(&thread, NULL, idle, NULL))
		bench_die("pthread_create", -EAGAIN);
}

int bench_end(struct bench *b)
{
	(void)b;
	fflush(stdout);
	remove_all();
	return 0;
}

/* ---- results ---- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double quantile(const double *sorted, int count, double q)
{
	double at = q * (count - 1);
	int low = (int)at;

	return low + 1 < count ? sorted[low] + (at - low) * (sorted[low + 1] - sorted[low]) : sorted[low];
}

void bench_report(struct bench *b, const char *name, double x, const char *variant, const char *unit,
		  double *values, int count)
{
	double median, q1, q3;
	char label[128];

	qsort(values, (size_t)count, sizeof *values, compare);
	median = quantile(values, count, 0.5);
	q1 = quantile(values, count, 0.25);
	q3 = quantile(values, count, 0.75);
	if (b->machine) {
		printf("R\t%s\t%s\t%.15g\t%s\t%s\t%.6g\t%.6g\t%.6g\t%d\n", b->group, name, x, variant, unit,
		       median, q1, q3, count);
		return;
	}
	if (x != 0)
		snprintf(label, sizeof label, "%s %.15g", name, x);
	else
		snprintf(label, sizeof label, "%s", name);
	printf("%-48s %-16s %12.2f %-8s (%.2f to %.2f)\n", label, variant, median, unit, q1, q3);
}

void bench_skip(struct bench *b, const char *name, double x, const char *variant, const char *reason)
{
	if (b->machine)
		printf("S\t%s\t%s\t%.15g\t%s\t%s\n", b->group, name, x, variant, reason);
	else
		printf("%-48s %-16s skipped: %s\n", name, variant, reason);
}

int bench_wanted(const struct bench *b, const char *name)
{
	return !b->only || strstr(name, b->only);
}

#define VARIANTS_MAX 8

/* How many operations fill a sample; 0 when the variant cannot run (*error is its answer). */
static uint64_t calibrate(const struct bench *b, const struct variant *v, double *error)
{
	uint64_t n = 1;

	for (;;) {
		uint64_t t0 = bench_ns(), t;
		double value = v->measure(v->arg, n);

		t = bench_ns() - t0;
		if (value < 0) {
			*error = value;
			return 0;
		}
		if ((double)t >= b->sample_ns / 4) {
			double want = (double)n * b->sample_ns / (double)(t ? t : 1);

			return want < 1 ? 1 : (uint64_t)want;
		}
		n *= (double)t < b->sample_ns / 64 ? 8 : 2;
	}
}

/* The variants in turn; x has one value for each. */
static void run_all(struct bench *b, const char *name, const double *x, const char *unit, const struct variant *v,
		    int variants, uint64_t n)
{
	double values[VARIANTS_MAX][BENCH_REPS_MAX], error = 0;
	uint64_t times[VARIANTS_MAX];
	int reps = !n || n == BENCH_PAIR ? b->reps : b->slow_reps;

	if (!bench_wanted(b, name))
		return;
	for (int i = 0; i < variants; i++) {
		times[i] = n == BENCH_PAIR ? 1 : n ? n : calibrate(b, &v[i], &error);
		if (!times[i])
			bench_skip(b, name, x[i], v[i].name, strerror((int)-error));
	}
	for (int r = 0; r < reps; r++) {
		for (int k = 0; k < variants; k++) {
			int i = (k + r) % variants;
			double value;

			if (!times[i])
				continue;
			value = v[i].measure(v[i].arg, times[i]);
			if (value < 0) {
				bench_skip(b, name, x[i], v[i].name, strerror((int)-value));
				times[i] = 0;
				continue;
			}
			values[i][r] = value;
		}
	}
	for (int i = 0; i < variants; i++)
		if (times[i])
			bench_report(b, name, x[i], v[i].name, unit, values[i], reps);
}

void bench_case(struct bench *b, const char *name, double x, const char *unit, const struct variant *v,
		int variants, uint64_t n)
{
	double same[VARIANTS_MAX];

	for (int i = 0; i < variants; i++)
		same[i] = x;
	run_all(b, name, same, unit, v, variants, n);
}

void bench_curve(struct bench *b, const char *name, const char *unit, const char *variant,
		 double (*measure)(void *arg, uint64_t n), const struct point *points, int count, uint64_t n)
{
	struct variant v[VARIANTS_MAX];
	double x[VARIANTS_MAX];

	for (int i = 0; i < count; i++) {
		v[i] = (struct variant){variant, measure, points[i].arg};
		x[i] = points[i].x;
	}
	run_all(b, name, x, unit, v, count, n);
}

/* ---- two threads ---- */

struct pair {
	int (*step)(void *arg, uint64_t n);
	int *go;	/* 0 wait, 1 run, 2 stop */
	void *arg;
	int cpu, rc;
	uint64_t ops;
};

void bench_lower(void)
{
	const struct sched_param lowest = {.sched_priority = sched_get_priority_min(SCHED_RR)};

	if (sched_getscheduler(0) == SCHED_RR)
		(void)sched_setscheduler(0, SCHED_RR, &lowest);
}

static void *pair_thread(void *arg)
{
	struct pair *p = arg;

	bench_pin(p->cpu);
	bench_lower();
	while (!__atomic_load_n(p->go, __ATOMIC_ACQUIRE))
		bench_pause();
	while (__atomic_load_n(p->go, __ATOMIC_ACQUIRE) == 1 && !p->rc) {
		p->rc = p->step(p->arg, 64);
		p->ops += 64;
	}
	return NULL;
}

double bench_pair(const struct bench *b, int (*step)(void *arg, uint64_t n), void *arg0, void *arg1)
{
	int go = 0;
	struct pair p[2] = {{step, &go, arg0, 0, 0, 0}, {step, &go, arg1, 1, 0, 0}};
	pthread_t t[2];
	uint64_t t0, ns = (uint64_t)b->sample_ns;
	struct timespec nap = {0, (long)ns};

	for (int i = 0; i < 2; i++)
		if (pthread_create(&t[i], NULL, pair_thread, &p[i]))
			bench_die("pthread_create", -EAGAIN);
	nanosleep(&(struct timespec){0, 200000}, NULL);	/* both spin by now */
	t0 = bench_ns();
	__atomic_store_n(&go, 1, __ATOMIC_RELEASE);
	nanosleep(&nap, NULL);
	__atomic_store_n(&go, 2, __ATOMIC_RELEASE);
	ns = bench_ns() - t0;
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	if (p[0].rc || p[1].rc)
		return p[0].rc ? p[0].rc : p[1].rc;
	if (!(p[0].ops + p[1].ops))	/* on a busy machine neither came to run */
		return -EAGAIN;
	return 2.0 * (double)ns / (double)(p[0].ops + p[1].ops);
}

/* ---- directories, pools, processes ---- */

int bench_dir(struct bench *b, char path[256])
{
	snprintf(path, 256, "%s/cxlshm-bench-XXXXXX", b->base);
	if (!mkdtemp(path))
		return -errno;
	for (int i = 0; i < DIRS_MAX; i++)
		if (!dirs[i][0]) {
			memcpy(dirs[i], path, 256);
			return 0;
		}
	rmdir(path);
	return -EMFILE;
}

static void dir_gone(const char *path)
{
	bench_remove_tree(path);
	for (int i = 0; i < DIRS_MAX; i++)
		if (!strcmp(dirs[i], path))
			dirs[i][0] = 0;
}

/* The cases it was for can then only leave this variant out. */
static void pool_skipped(struct bench *b, uint64_t bytes, uint32_t domain, const char *reason)
{
	char name[64];

	snprintf(name, sizeof name, "what needs a pool of %llu MiB", (unsigned long long)(bytes >> 20));
	bench_skip(b, name, 0, domain == CXLSHM_FAILURE_HOST ? "cxlshm host" : "cxlshm", reason);
}

int bench_pool(struct bench *b, struct bench_pool *p, uint64_t size_bytes, uint32_t slots, uint32_t domain)
{
	struct cxlshm_pool_options o = {.size_bytes = size_bytes,
					.client_slots = slots,
					.failure_domain = domain,
					.mode = 0600,
					.uid = (uid_t)-1,
					.gid = (gid_t)-1};
	struct cxlshm_error error = {{0}};
	int rc;

	p->pool = NULL;
	rc = bench_dir(b, p->path);
	if (rc) {
		pool_skipped(b, o.size_bytes, domain, strerror(-rc));
		return rc;
	}
	rc = cxlshm_pool_create(p->path, &o, &error);
	if (!rc)
		rc = cxlshm_pool_open(p->path, 0, &p->pool, &error);
	if (rc) {
		pool_skipped(b, o.size_bytes, domain, error.text[0] ? error.text : strerror(-rc));
		dir_gone(p->path);
	}
	return rc;
}

void bench_pool_gone(struct bench *b, struct bench_pool *p)
{
	(void)b;
	if (p->pool)
		cxlshm_pool_close(p->pool);
	p->pool = NULL;
	dir_gone(p->path);
}

int bench_fork(int (*body)(void *arg), void *arg)
{
	pid_t pid;

	fflush(stdout);
	fflush(stderr);
	pid = fork();
	if (pid < 0)
		bench_die("fork", -errno);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		bench_lower();
		signal(SIGINT, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
		_exit(body(arg));
	}
	return pid;
}

int bench_wait(int pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void bench_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu, &set);
	(void)sched_setaffinity(0, sizeof set, &set);	/* one CPU only: then unpinned */
}

void *bench_shared(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		bench_die("mmap", -errno);
	return p;
}
