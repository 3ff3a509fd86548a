/* SPDX-License-Identifier: MIT */
/*
 * Does anybody wait?  A client is stopped (SIGSTOP) at each crash point in turn; a neighbour then works on the same
 * objects, cells, queues and directories, and every call of his must come back, and with the answer that is right: one that
 * refuses for as long as the other is stopped makes him wait, too.  What may be refused, and why, is the list REASONS of
 * wait.h; each kind of call must have done its work once beside each stopped client.  The slowest is reported, never
 * judged: only a watchdog fails the test.
 *
 *   wait [--long] [--replay NAME[:H]] [--list]
 *
 * For each scenario: a fresh pool with a neighbour; the action runs in a child that stops itself at its h-th point; then
 * the neighbour's calls, each timed; then the child is killed and recovered, and the checker must find nothing.
 * --long stops at every point that is passed; otherwise at the first pass of each point in each scenario.  A listed
 * point at which nobody was stopped fails the run, and with --long a reason that nobody was ever given.  --replay takes
 * one scenario, or one passage of it again; of passage 0 the action alone.
 *
 * The documented exception: renames of directories wait for one another, so beside a client that renames one the neighbour
 * makes none.
 *
 * Whatever ends the run early (a check that fails, a signal, the watchdog) leaves neither child nor pool behind, and says
 * how to get there again.
 */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "wait.h"

#define WATCHDOG_S 10
#define PROGRESS_SECONDS 60
#define PASSES_MAX 20000u

struct passes {	/* shared with the child */
	volatile uint32_t hits;
	volatile uint32_t stop_at;	/* 0: never */
	uint8_t point[PASSES_MAX];
};

#define KIND_NAME(name) #name,
static const char *const kinds[] = {KINDS(KIND_NAME)};

#define REASON_ROW(name, code, or_fine, scenarios, promise) {code, or_fine, scenarios, promise},
static const struct {
	int code, or_fine;
	const char *scenarios;	/* NULL: all */
	const char *promise;
} reasons[] = {REASONS(REASON_ROW)};

static struct {
	const char *program;
	pid_t owner;	/* of the pool and the child: not a child of its own */
	struct passes *passes;
	const char *scenario, *point;
	uint32_t h;
	char dir[64];	/* "": no pool just now */
	pid_t child;
	uint64_t points, failures;
	uint8_t stopped_at[CRASH_POINT_COUNT];
	enum kind kind;
	char call[80];
	double began_us;
	uint8_t done[KIND_COUNT];	/* in this round */
	uint8_t met[REASON_COUNT];
	double slowest_us;
	char slowest[200];
} now;

static double microseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void kill_child(void)
{
	if (now.child <= 0)
		return;
	kill(now.child, SIGKILL);	/* a stopped one, too */
	while (waitpid(now.child, NULL, 0) < 0 && errno == EINTR)
		;
	now.child = 0;
}

static void clean(void)
{
	char command[128];

	kill_child();
	snprintf(command, sizeof(command), "rm -rf '%s'", now.dir);
	if (now.dir[0] && system(command))
		fprintf(stderr, "cannot remove %s\n", now.dir);
	now.dir[0] = 0;
}

static void say_failed(const char *what)
{
	printf("FAILED %s: stopped at %s, %s: %s\n    replay: %s --replay %s:%u\n"
	       "    if that is gone: meson setup B --buildtype=release && ninja -C B tests/wait/wait, then B/tests/wait/wait\n",
	       now.scenario, now.point, now.call, what, now.program, now.scenario, now.h);
	fflush(stdout);
	now.failures++;
}

static void doing(const char *what)
{
	snprintf(now.call, sizeof(now.call), "%s", what);
}

/* MUST() or REQUIRE() has ended the process; a child's end is its parent's to tell. */
static void at_exit(void)
{
	if (getpid() != now.owner || !now.dir[0])
		return;
	say_failed("ends the run");
	clean();
}

/* The neighbour waits, or dies.  Nothing but an end of the process gets him out of there. */
static void ended_by(int sig)
{
	signal(sig, SIG_DFL);
	if (getpid() == now.owner && now.dir[0]) {
		say_failed(sig == SIGALRM ? "does not come back" : strsignal(sig));
		clean();
	}
	if (sig == SIGALRM)
		_exit(1);
	raise(sig);
}

static void look_out(void)
{
	static const int signals[] = {SIGALRM, SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGINT, SIGTERM, SIGHUP};

	now.owner = getpid();
	atexit(at_exit);
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		signal(signals[i], ended_by);
}

/* A child ends with its parent, however that ends. */
static pid_t fork_bound(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	REQUIRE(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != now.owner)
			_exit(0);
	}
	return pid;
}

/* ---- the neighbour's calls ---- */

void round_begin(void)
{
	memset(now.done, 0, sizeof(now.done));
}

void round_end(void)
{
	for (unsigned k = 0; k < KIND_COUNT; k++)
		if (!now.done[k]) {
			doing(kinds[k]);
			say_failed("has never done its work beside the stopped client");
		}
	doing("(afterwards)");
}

void call_begin(enum kind kind, const char *what)
{
	now.kind = kind;
	snprintf(now.call, sizeof(now.call), "%s%s%s", kinds[kind], *what ? " of " : "", what);
	alarm(WATCHDOG_S);
	now.began_us = microseconds();
}

/* Is the scenario one of these, which are set apart by spaces? */
static int is_among(const char *list)
{
	size_t bytes = strlen(now.scenario);

	for (const char *at = list; (at = strstr(at, now.scenario)); at += bytes)
		if ((at == list || at[-1] == ' ') && (!at[bytes] || at[bytes] == ' '))
			return 1;
	return 0;
}

int64_t call_end(int64_t rc, enum reason reason)
{
	double took = microseconds() - now.began_us;
	int code = rc < 0 ? (int)rc : 0;
	char text[300];

	alarm(0);
	if (took > now.slowest_us && code != -ETIMEDOUT) {	/* that one was asked to wait */
		now.slowest_us = took;
		snprintf(now.slowest, sizeof(now.slowest), "%s at %s of %s", now.call, now.point, now.scenario);
	}
	if (!code)
		now.done[now.kind] = 1;
	if (code ? code == reasons[reason].code && (!reasons[reason].scenarios || is_among(reasons[reason].scenarios))
		 : reasons[reason].or_fine) {
		if (code == reasons[reason].code)
			now.met[reason] = 1;
		return rc;
	}
	snprintf(text, sizeof(text), "says %d, %s, where there is to say: %s%s%s", code, code ? strerror(-code) : "done",
		 reasons[reason].promise, reasons[reason].scenarios ? ", and that only in " : "",
		 reasons[reason].scenarios ? reasons[reason].scenarios : "");
	say_failed(text);
	return rc;
}

/* ---- one stop ---- */

static void hook(void *arg, struct client *c, unsigned point)
{
	struct passes *p = arg;
	uint32_t n = p->hits;

	(void)c;
	if (n < PASSES_MAX)
		p->point[n] = (uint8_t)point;
	p->hits = n + 1;
	if (n + 1 == p->stop_at)
		raise(SIGSTOP);
}

/* The directories' hash key is random; with a fixed one every run passes the same points. */
static void fix_key(struct cxlshm_pool *pool)
{
	struct super_fmt *super = (struct super_fmt *)(uintptr_t)((struct pool *)pool)->super;

	super->hash_key[0] = super->hash_key[1] = 1;
}

static struct cxlshm_pool *open_hooked(const char *dir, void (*with)(void *, struct client *, unsigned), void *arg)
{
	struct cxlshm_pool *pool;

	MUST(cxlshm_pool_open(dir, 0, &pool, NULL));
	fix_key(pool);
	((struct pool *)pool)->crash_hook = with;
	((struct pool *)pool)->crash_arg = arg;
	return pool;
}

static void die_at(void *arg, struct client *c, unsigned point)
{
	(void)c;
	if (point == *(unsigned *)arg)
		kill(getpid(), SIGKILL);
}

/* A client that died in the middle of something. */
static void leave_a_dead_one(struct stage *s, const struct scenario *scenario)
{
	unsigned point = scenario->dead_at;
	int status;
	pid_t pid;

	now.child = pid = fork_bound();
	if (!pid) {
		scenario->victim(s, open_hooked(now.dir, die_at, &point));
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	now.child = 0;
	REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void report(void *arg, int severity, const char *line)
{
	if (severity < 1)
		return;
	(*(unsigned *)arg)++;
	printf("    %s\n", line);
}

/* Stop at the h-th point (0: run through, to count them).  The points passed. */
static uint32_t run(const struct scenario *scenario, uint32_t h)
{
	struct cxlshm_pool_options options = {
		.size_bytes = 4u << 20, .client_slots = 8, .uid = (uid_t)-1, .gid = (gid_t)-1};
	struct cxlshm_check_result result;
	struct stage s = {.scenario = scenario};
	unsigned problems = 0;
	uint32_t hits;
	int status;

	now.scenario = scenario->name;
	now.h = h;
	now.point = "no point";
	doing("(preparing)");
	alarm(WATCHDOG_S);
	snprintf(now.dir, sizeof(now.dir), "/dev/shm/cxlshm-wait-%d", (int)getpid());
	MUST(mkdir(now.dir, 0700));
	MUST(cxlshm_pool_create(now.dir, &options, NULL));
	MUST(cxlshm_pool_open(now.dir, 0, &s.pool, NULL));
	fix_key(s.pool);
	MUST(cxlshm_join(s.pool, "neighbour", 0, &s.neighbour));
	stage_prepare(&s);
	now.passes->hits = 0;
	now.passes->stop_at = h;
	if (scenario->dead_at)
		leave_a_dead_one(&s, scenario);
	if (scenario->before)
		scenario->before(&s);
	doing("(the action)");
	now.child = fork_bound();
	if (!now.child) {
		scenario->act(&s, open_hooked(now.dir, hook, now.passes));
		_exit(0);
	}
	/* Ended, or stopped: then now.point says where. */
	while (waitpid(now.child, &status, WUNTRACED) < 0 && errno == EINTR)
		;
	hits = now.passes->hits;
	if (h) {
		uint8_t point = h <= PASSES_MAX ? now.passes->point[h - 1] : 0;

		now.point = crash_point_name(point);
		doing("(stopping)");
		if (WIFSTOPPED(status)) {
			now.points++;
			now.stopped_at[point] = 1;
			stage_neighbour(&s);
			alarm(WATCHDOG_S);
			kill_child();
		} else {
			say_failed("the point was not reached again");
		}
		MUST(cxlshm_recover(s.pool, NULL));
		stage_reader_end(&s);
		MUST(check_pool((struct pool *)s.pool, 0, report, &problems, &result));
		if (problems)
			say_failed("the checker finds damage");
	} else if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		say_failed("failed by itself");
	}
	now.child = 0;
	cxlshm_pool_close(s.pool);
	MUST(cxlshm_pool_remove(now.dir, NULL));
	MUST(rmdir(now.dir));
	now.dir[0] = 0;
	alarm(0);
	return hits;
}

/* only: its number; -1: all of them that are to be tried. */
static void run_scenario(const struct scenario *scenario, int full, int64_t only)
{
	uint8_t tried[CRASH_POINT_COUNT] = {0};
	static uint8_t point[PASSES_MAX];
	uint32_t hits = run(scenario, 0);
	time_t said = time(NULL);

	if (hits > PASSES_MAX)
		hits = PASSES_MAX;
	memcpy(point, now.passes->point, hits);
	for (uint32_t h = 1; h <= hits; h++) {
		if (only >= 0 ? h != only : !full && tried[point[h - 1]]++)
			continue;
		run(scenario, h);
		if (time(NULL) - said >= PROGRESS_SECONDS) {
			said = time(NULL);
			printf("progress: %s, passage %u of %u, %llu points so far\n", scenario->name, h, hits,
			       (unsigned long long)now.points);
		}
	}
}

int main(int argc, char **argv)
{
	const char *only = NULL;
	uint32_t only_h = 0, distinct = 0;
	int found = 0, one = 0;
	const char *length = getenv("CXLSHM_TEST_LENGTH");
	int full = length && !strcmp(length, "long");

	setvbuf(stdout, NULL, _IOLBF, 0);
	now.program = argv[0];
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--long")) {
			full = 1;
		} else if (!strcmp(argv[i], "--replay") && i + 1 < argc) {
			char *colon = strchr(argv[++i], ':');

			if (colon && sscanf(colon + 1, "%u", &only_h) != 1)
				return 2;
			if (colon)
				*colon = 0;
			one = colon != NULL;
			only = argv[i];
		} else if (!strcmp(argv[i], "--list")) {
			for (const struct scenario *s = scenarios; s->name; s++)
				puts(s->name);
			return 0;
		} else {
			fprintf(stderr, "usage: %s [--long] [--replay NAME[:H]] [--list]\n", argv[0]);
			return 2;
		}
	}
	now.passes = mmap(NULL, sizeof(*now.passes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(now.passes != MAP_FAILED);
	look_out();
	for (const struct scenario *s = scenarios; s->name; s++)
		if (!only || !strcmp(only, s->name)) {
			run_scenario(s, full, one ? (int64_t)only_h : -1);
			found = 1;
		}
	for (unsigned p = 0; p < CRASH_POINT_COUNT; p++)
		distinct += now.stopped_at[p];
	if (!only) {
		for (unsigned p = 0; p < CRASH_POINT_COUNT; p++)
			if (!now.stopped_at[p]) {
				printf("FAILED: nobody was stopped at %s\n", crash_point_name(p));
				now.failures++;
			}
		/* What is excused and never met excuses what nobody has thought of.  The short form stops at too little for all. */
		for (unsigned r = 0; full && r < REASON_COUNT; r++)
			if (!now.met[r]) {
				printf("FAILED: nobody was ever told %s for this reason: %s\n", strerror(-reasons[r].code),
				       reasons[r].promise);
				now.failures++;
			}
		printf("wait: stopped at %u of %u crash points\n", distinct, (unsigned)CRASH_POINT_COUNT);
	}
	printf("wait: %llu points, slowest survivor %.0f us (%s), %llu failures\n", (unsigned long long)now.points,
	       now.slowest_us, now.slowest, (unsigned long long)now.failures);
	if (only && (!found || (only_h && !now.points))) {
		printf("FAILED: %s has no such passage of a point, or is no scenario (--list)\n", only);
		return 1;
	}
	return now.failures ? 1 : 0;
}
