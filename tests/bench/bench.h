/* SPDX-License-Identifier: MIT */
/*
 * bench: what the benchmark programs share: a timer, interleaved repetitions, medians, pools that are
 * removed at the end, and one line of output a result.
 *
 * A case is measured for several variants (cxlshm, and peers) in the same run: repetition 1 of each, then
 * repetition 2 of each, starting with another one each time, so that whatever else the machine does hits
 * all of them alike.  Reported are the median and the quartiles.
 *
 * Output, with -m (tab-separated):
 *   R group case x variant unit median q1 q3 repetitions      x: of a curve, else 0
 *   S group case x variant reason                             not measured, and why
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "cxlshm.h"

#define BENCH_REPS_MAX 64
#define BENCH_PAIR UINT64_MAX	/* n of a case that uses bench_pair() */

struct bench {
	const char *group;
	int quick;	/* fewer repetitions, smaller sizes */
	int summary;	/* only what issue 2 lists */
	int machine;	/* tab-separated output */
	int reps;	/* of cases with a sample's worth of operations: many short ones, so that most are not
			   interrupted, and the median is not either */
	int slow_reps;	/* of cases with a given number */
	double sample_ns;	/* how long one repetition should last */
	const char *base;	/* where pools and files go: a tmpfs */
	const char *only;	/* substring of the cases wanted, or NULL */
	int argc;	/* arguments left */
	char **argv;
};

/* Read options (-q quick, -s summary, -m machine, -d DIR, -o CASE); starts an idle thread, so that
 * nothing here profits from being single-threaded.  Exits on a wrong option. */
void bench_start(struct bench *b, const char *group, int argc, char **argv);
/* Remove what is left; returns the exit status. */
int bench_end(struct bench *b);

static inline uint64_t bench_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Make the compiler believe that p is used, and that memory changed. */
#define BENCH_KEEP(p) __asm__ volatile("" : : "r"(p) : "memory")

static inline void bench_pause(void)
{
#if defined(__x86_64__)
	__asm__ volatile("pause" ::: "memory");
#else
	__asm__ volatile("" ::: "memory");
#endif
}

static inline uint64_t bench_random(uint64_t *state)	/* xorshift64 */
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *state = x;
}

/*
 * measure() does n operations and returns the value in the case's unit (mostly: ns for one of them), or a
 * negative errno: then the variant is skipped, with a line.
 */
struct variant {
	const char *name;
	double (*measure)(void *arg, uint64_t n);
	void *arg;
};

/* One point of a curve: what is measured at x. */
struct point {
	double x;
	void *arg;
};

/* Measure one case.  n 0: as many operations as fill a sample; BENCH_PAIR: measure is a bench_pair(). */
void bench_case(struct bench *b, const char *name, double x, const char *unit, const struct variant *v,
		int variants, uint64_t n);

/* Measure a curve of one variant, its points (at most 8) in turn, so that a slow moment of the machine is not one point's. */
void bench_curve(struct bench *b, const char *name, const char *unit, const char *variant,
		 double (*measure)(void *arg, uint64_t n), const struct point *points, int count, uint64_t n);
/* Is this case wanted?  Saves an expensive set-up. */
int bench_wanted(const struct bench *b, const char *name);
/* A result measured some other way. */
void bench_report(struct bench *b, const char *name, double x, const char *variant, const char *unit,
		  double *values, int count);
void bench_skip(struct bench *b, const char *name, double x, const char *variant, const char *reason);

/*
 * Two threads on two cores for one sample, each calling step(arg, 64) again and again; returns ns a step of
 * one thread (not divided by two).  A negative answer of step ends it and is returned.
 */
double bench_pair(const struct bench *b, int (*step)(void *arg, uint64_t n), void *arg0, void *arg1);

/* ---- pools ---- */
struct bench_pool {
	char path[256];
	struct cxlshm_pool *pool;
};

/* Make and open a pool in a new directory below b->base; 0 or -errno, with a bench_skip(). */
int bench_pool(struct bench *b, struct bench_pool *p, uint64_t size_bytes, uint32_t slots, uint32_t domain);
void bench_pool_gone(struct bench *b, struct bench_pool *p);
/* A new empty directory below b->base, removed at the end. */
int bench_dir(struct bench *b, char path[256]);
void bench_remove_tree(const char *path);

/* Fork; the child runs body(arg), exits with its answer, and dies with us.  Returns its pid. */
int bench_fork(int (*body)(void *arg), void *arg);
/* Wait for it: its exit status, or 128 + signal. */
int bench_wait(int pid);
void bench_pin(int cpu);
/* Run by SCHED_RR (see run.sh): at its lowest priority, so that who only waits for us is above. */
void bench_lower(void);
/* Zeroed memory that forked children share. */
void *bench_shared(size_t bytes);

/* Print what failed and exit(1). */
void bench_die(const char *what, int rc) __attribute__((noreturn));
#define BENCH_OK(call)                                                                                         \
	do {                                                                                                   \
		long rc_ = (long)(call);                                                                       \
		if (rc_ < 0)                                                                                   \
			bench_die(#call, (int)rc_);                                                            \
	} while (0)

#endif
