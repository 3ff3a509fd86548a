/* SPDX-License-Identifier: MIT */
/*
 * Faults in time: signals in every system call, clocks that jump.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/ptrace.h>

#include "faults.h"

/* ---- signals ---- */

static volatile sig_atomic_t ticks;

static void tick(int number)
{
	(void)number;
	ticks++;
}

struct calls {
	struct cxlshm_client *c;
	struct cxlshm_pool *p;
	cxlshm_ref queue;
	char dir[80], other[90];
	uint32_t sequence;
	uint64_t interrupted[3];	/* waits: to receive, to send, for clients */
};

static void calls_begin(struct calls *s, const char *dir)
{
	*s = (struct calls){.sequence = 0};
	snprintf(s->dir, sizeof(s->dir), "%s/pool", dir);
	snprintf(s->other, sizeof(s->other), "%s/other", dir);
	MUST(mkdir(s->other, 0700));
	faults_make(s->dir, 16 * MIB, 8);
	MUST(cxlshm_pool_open(s->dir, 0, &s->p, NULL));
	MUST(cxlshm_join(s->p, NULL, 0, &s->c));
	MUST(cxlshm_queue_create(s->c, 2, 0, &s->queue));
}

/* What makes system calls, each once.  Only who waits may say that there was a signal. */
static void calls_round(struct calls *s)
{
	struct cxlshm_pool_options options = {.size_bytes = MIB, .uid = (uid_t)-1, .gid = (gid_t)-1, .force = 1};
	struct cxlshm_client *c = s->c, *d;
	cxlshm_ref file, ref, big, sent;
	struct cxlshm_recovery recovery = {0};
	struct cxlshm_pool *q;
	int status, rc;
	pid_t pid;
	void *map;

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
	MUST(cxlshm_pool_open(s->dir, 0, &q, NULL));
	MUST(cxlshm_join(q, NULL, 0, &d));
	MUST(cxlshm_leave(d));
	cxlshm_pool_close(q);
	rc = cxlshm_queue_receive_wait(c, s->queue, &ref, 3000000);
	REQUIRE(rc == -EINTR || rc == -ETIMEDOUT);
	s->interrupted[0] += rc == -EINTR;
	for (int i = 0; i < 3; i++) {
		MUST(cxlshm_alloc(c, 40, &sent));
		rc = i < 2 ? cxlshm_queue_send(c, s->queue, sent) : cxlshm_queue_send_wait(c, s->queue, sent, 3000000);
		REQUIRE(i < 2 ? !rc : rc == -EINTR || rc == -ETIMEDOUT);
	}
	s->interrupted[1] += rc == -EINTR;
	MUST(cxlshm_release(c, sent));
	for (int i = 0; i < 2; i++) {
		MUST(cxlshm_queue_receive(c, s->queue, &ref));
		MUST(cxlshm_release(c, ref));
	}
	/* Who has come and gone since the last round is told at once; now nobody comes. */
	MUST(cxlshm_wait_clients(s->p, &s->sequence, 3000000));
	rc = cxlshm_wait_clients(s->p, &s->sequence, 3000000);
	REQUIRE(rc == -EINTR || rc == -ETIMEDOUT);
	s->interrupted[2] += rc == -EINTR;
	pid = fork();
	if (!pid) {
		signal(SIGALRM, SIG_IGN);
		MUST(cxlshm_pool_open(s->dir, 0, &q, NULL));
		MUST(cxlshm_join(q, NULL, 0, &d));
		for (int i = 0; i < 100; i++)
			MUST(cxlshm_alloc_with(d, 10000, 0, i & 7 ? 0 : CXLSHM_EXTENT, &ref));
		kill(getpid(), SIGKILL);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	MUST(cxlshm_recover(s->p, &recovery));
	REQUIRE(recovery.clients == 1 && recovery.extents == 13);
	MUST(cxlshm_pool_create(s->other, &options, NULL));
	MUST(cxlshm_check(s->other, CXLSHM_CHECK_REPAIR, NULL, NULL, &(struct cxlshm_check_result){0}, NULL));
	MUST(cxlshm_pool_remove(s->other, NULL));
}

static void calls_end(struct calls *s)
{
	for (int i = 0; i < 3; i++)
		REQUIRE(s->interrupted[i]);
	cxlshm_pool_close(s->p);
	rmdir(s->other);
	faults_in_order(s->dir);
}

/* Without SA_RESTART. */
static void count_ticks(void)
{
	const struct sigaction action = {.sa_handler = tick};

	MUST(sigaction(SIGALRM, &action, NULL));
}

void faults_signals(const char *dir)
{
	const struct itimerval often = {{0, 1000}, {0, 1000}};
	const struct itimerval never = {{0, 0}, {0, 0}};
	double end = faults_now() + 4;
	uint64_t rounds = 0;
	struct calls calls;

	calls_begin(&calls, dir);
	count_ticks();
	MUST(setitimer(ITIMER_REAL, &often, NULL));
	while (faults_now() < end) {
		calls_round(&calls);
		rounds++;
	}
	MUST(setitimer(ITIMER_REAL, &never, NULL));
	REQUIRE(ticks > 100 && rounds);
	printf("     %d signals in %llu rounds\n", (int)ticks, (unsigned long long)rounds);
	calls_end(&calls);
}

/* ---- a signal in each call ---- */

#define NUMBERS 512

/* One round, traced: who traces it sends a signal at the beginning of system calls, so that it is pending in them. */
static void traced(const char *dir)
{
	struct calls calls;

	calls_begin(&calls, dir);
	count_ticks();
	REQUIRE(!ptrace(PTRACE_TRACEME, 0, NULL, NULL));
	raise(SIGSTOP);
	calls_round(&calls);
	signal(SIGALRM, SIG_IGN);
	REQUIRE(ticks > 100);
	calls_end(&calls);
	exit(0);
}

/*
 * All calls but one that follows one like it that had a signal: that is the same call once more, or the next of a row of them,
 * of which the other pass takes it.
 */
static void trace(pid_t pid, int second_first, int seen[NUMBERS], int had[NUMBERS])
{
	uint64_t last = NUMBERS;
	int status, pass = 0;

	REQUIRE(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
	MUST(ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)) ? errno : 0);
	for (;;) {
		struct __ptrace_syscall_info info;

		MUST(ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(long)pass) ? errno : 0);
		REQUIRE(waitpid(pid, &status, 0) == pid);
		if (!WIFSTOPPED(status))
			break;
		pass = 0;
		if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
			pass = WSTOPSIG(status);
			continue;
		}
		REQUIRE(ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof(info), &info) > 0);
		if (info.op != PTRACE_SYSCALL_INFO_ENTRY || info.entry.nr == SYS_rt_sigreturn)	/* that one is tick()'s */
			continue;
		REQUIRE(info.entry.nr < NUMBERS);
		seen[info.entry.nr]++;
		if (info.entry.nr == last || (second_first && seen[info.entry.nr] == 1)) {
			last = NUMBERS;
			continue;
		}
		last = info.entry.nr;
		had[last]++;
		MUST(kill(pid, SIGALRM));
	}
	REQUIRE(WIFEXITED(status) && !WEXITSTATUS(status));
}

void faults_signal_in_each_call(const char *dir)
{
	int seen[NUMBERS] = {0}, had[NUMBERS] = {0}, numbers = 0, calls = 0, signals = 0;

	for (int second_first = 0; second_first < 2; second_first++) {
		int now[NUMBERS] = {0};
		char path[72];
		pid_t pid;

		snprintf(path, sizeof(path), "%s/%d", dir, second_first);
		MUST(mkdir(path, 0700));
		fflush(NULL);
		pid = fork();
		REQUIRE(pid >= 0);
		if (!pid)
			traced(path);
		trace(pid, second_first, now, had);
		for (int i = 0; i < NUMBERS; i++)
			seen[i] += now[i];
	}
	for (int i = 0; i < NUMBERS; i++) {
		if (seen[i] && !had[i] && i != SYS_exit_group)
			printf("     call %d never had a signal\n", i);
		REQUIRE(!seen[i] || had[i] || i == SYS_exit_group);
		numbers += seen[i] > 0;
		calls += seen[i];
		signals += had[i];
	}
	REQUIRE(had[SYS_fallocate] && had[SYS_futex] && had[SYS_fcntl] && had[SYS_membarrier] && had[SYS_ftruncate]);
	printf("     %d signals in %d calls of %d kinds\n", signals, calls, numbers);
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
	struct cxlshm_recovery recovery = {0};
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
	MUST(cxlshm_recover(q, &recovery));
	REQUIRE(!recovery.clients);
	MUST(cxlshm_create(c, 0, "file", 1000, 0600, NULL));
	cxlshm_pool_close(q);
	cxlshm_pool_close(p);
	faults_in_order(dir);
}
