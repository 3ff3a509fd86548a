/* SPDX-License-Identifier: MIT */
/*
 * Faults in time: signals in every system call, clocks that jump.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "faults.h"

/* ---- signals ---- */

static volatile sig_atomic_t ticks;

static void tick(int number)
{
	(void)number;
	ticks++;
}

void faults_signals(const char *dir)
{
	const struct itimerval often = {{0, 1000}, {0, 1000}};
	const struct itimerval never = {{0, 0}, {0, 0}};
	struct sigaction action = {.sa_handler = tick};	/* without SA_RESTART */
	uint64_t rounds = 0, interrupted = 0;
	struct cxlshm_client *c, *d;
	struct cxlshm_pool *p, *q;
	double end = faults_now() + 4;
	cxlshm_ref queue, file, ref, big;
	uint32_t sequence = 0;
	char other[80];
	void *map;
	int rc;

	snprintf(other, sizeof(other), "%s/other", dir);
	faults_make(dir, 16 * MIB, 8);
	MUST(mkdir(other, 0700));
	MUST(cxlshm_pool_open(dir, 0, &p, NULL));
	MUST(cxlshm_join(p, NULL, 0, &c));
	MUST(cxlshm_queue_create(c, 2, 0, &queue));
	MUST(sigaction(SIGALRM, &action, NULL));
	MUST(setitimer(ITIMER_REAL, &often, NULL));
	while (faults_now() < end) {
		struct cxlshm_pool_options options = {
			.size_bytes = MIB, .uid = (uid_t)-1, .gid = (gid_t)-1, .force = 1};
		int status;
		pid_t pid;

		MUST(cxlshm_create(c, 0, "file", 3000000, 0600, &file));
		MUST(cxlshm_resize(c, file, 4000000));
		MUST(cxlshm_reserve(c, file, 0, 0, 4500000));
		MUST(cxlshm_map(c, file, 0, 65536, PROT_READ | PROT_WRITE, &map));
		MUST(cxlshm_unmap(c, map));
		rc = cxlshm_extent_open(c, file, O_RDWR);
		REQUIRE(rc >= 0);
		close(rc);
		REQUIRE(cxlshm_extent_busy(c, file) >= 0);
		MUST(cxlshm_setxattr(c, file, "user.a", "b", 1, 0));
		MUST(cxlshm_unlink(c, 0, "file"));
		MUST(cxlshm_release(c, file));
		MUST(cxlshm_alloc(c, 5000000, &big));
		MUST(cxlshm_release(c, big));
		MUST(cxlshm_pool_open(dir, 0, &q, NULL));
		MUST(cxlshm_join(q, NULL, 0, &d));
		MUST(cxlshm_leave(d));
		cxlshm_pool_close(q);
		rc = cxlshm_queue_receive_wait(c, queue, &ref, 3000000);
		REQUIRE(rc == -EINTR || rc == -ETIMEDOUT);
		interrupted += rc == -EINTR;
		rc = cxlshm_wait_clients(p, &sequence, 3000000);
		REQUIRE(!rc || rc == -EINTR || rc == -ETIMEDOUT);
		pid = fork();
		if (!pid) {
			signal(SIGALRM, SIG_IGN);
			MUST(cxlshm_pool_open(dir, 0, &q, NULL));
			MUST(cxlshm_join(q, NULL, 0, &d));
			for (int i = 0; i < 100; i++)
				MUST(cxlshm_alloc_with(d, 10000, 0, i & 7 ? 0 : CXLSHM_EXTENT, &ref));
			kill(getpid(), SIGKILL);
		}
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		REQUIRE(WIFSIGNALED(status));
		MUST(cxlshm_recover(p, NULL));
		MUST(cxlshm_pool_create(other, &options, NULL));
		MUST(cxlshm_pool_remove(other, NULL));
		rounds++;
	}
	MUST(setitimer(ITIMER_REAL, &never, NULL));
	REQUIRE(ticks > 100 && rounds && interrupted);
	printf("     %d signals in %llu rounds\n", (int)ticks, (unsigned long long)rounds);
	cxlshm_pool_close(p);
	rmdir(other);
	faults_in_order(dir);
}

/* ---- clocks ---- */

/* The wall clock as the library sees it, through this shim: it jumps by years each time. */
static int jumping;

int clock_gettime(clockid_t clock, struct timespec *t)
{
	static int (*real)(clockid_t, struct timespec *);
	static int64_t jump;

	if (!real)
		real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	if (real(clock, t))
		return -1;
	if (clock == CLOCK_REALTIME && jumping) {
		jump = jump > 0 ? -3 * 31536000ll : 5 * 31536000ll;
		t->tv_sec += jump;
	}
	return 0;
}

static int joined_far_off(void *arg, const struct cxlshm_client_info *info)
{
	struct timespec t;

	(void)arg;
	jumping = 0;
	clock_gettime(CLOCK_REALTIME, &t);
	jumping = 1;
	return llabs((int64_t)(info->joined_ns / 1000000000) - t.tv_sec) > 86400;
}

void faults_clock_jumps(const char *dir)
{
	struct cxlshm_client *c, *d;
	struct cxlshm_pool *p, *q;
	cxlshm_ref queue, ref, full;
	uint32_t sequence = 0;
	struct timespec t, u;
	double from, took;
	int rc;

	faults_make(dir, 4 * MIB, 4);
	MUST(cxlshm_pool_open(dir, 0, &p, NULL));
	jumping = 1;
	clock_gettime(CLOCK_REALTIME, &t);
	clock_gettime(CLOCK_REALTIME, &u);
	REQUIRE(llabs(t.tv_sec - u.tv_sec) > 86400);
	MUST(cxlshm_join(p, NULL, 0, &c));
	REQUIRE(cxlshm_each_client(p, joined_far_off, NULL));	/* the library sees it jump */
	MUST(cxlshm_queue_create(c, 1, 0, &queue));
	for (int i = 0; i < 5; i++) {
		from = faults_now();
		rc = cxlshm_queue_receive_wait(c, queue, &ref, 50000000);
		took = faults_now() - from;
		REQUIRE(rc == -ETIMEDOUT && took >= 0.049 && took < 10);
	}
	MUST(cxlshm_alloc(c, 10, &full));
	MUST(cxlshm_queue_send(c, queue, full));
	MUST(cxlshm_alloc(c, 10, &full));
	from = faults_now();
	rc = cxlshm_queue_send_wait(c, queue, full, 50000000);
	took = faults_now() - from;
	REQUIRE(rc == -ETIMEDOUT && took >= 0.049 && took < 10);
	(void)cxlshm_wait_clients(p, &sequence, 0);
	from = faults_now();
	rc = cxlshm_wait_clients(p, &sequence, 50000000);
	took = faults_now() - from;
	REQUIRE(rc == -ETIMEDOUT && took >= 0.049 && took < 10);
	/* Nobody is taken for dead because of the time of day. */
	MUST(cxlshm_pool_open(dir, 0, &q, NULL));
	MUST(cxlshm_join(q, NULL, 0, &d));
	MUST(cxlshm_recover(q, NULL));
	MUST(cxlshm_create(c, 0, "file", 1000, 0600, NULL));
	cxlshm_pool_close(q);
	cxlshm_pool_close(p);
	faults_in_order(dir);
}
