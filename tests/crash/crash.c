/* SPDX-License-Identifier: MIT */
/*
 * The crash driver: dies at every crash point that a scenario passes, recovers, dies again at every point of that
 * recovery, recovers that, and lets the checker compare every count with the references found.
 *
 *   crash [--long | --quick] [--jobs N] [--seed N] [--scenario NAME] [--replay NAME:H[:R]] [--list]
 *
 * One scenario: prepare, take a snapshot of the heap, run the action to its end and count the points it passes (N).  For
 * each h in 1..N: restore the snapshot, run the action in a child that is killed (SIGKILL) at its h-th point, check by a
 * full recovery; that recovery passes M points; for each r in 1..M: restore the state right after the first death, let a
 * recovering child be killed at its r-th point, recover once more (in this process, which has the neighbour), check.
 * The neighbour works on what the dead worked on: between a death and its recovery, and at the points of that recovery; only
 * the recovery that says which M points there are has none, for what it passes must be the same when it is replayed.  Then
 * once more with a round of the neighbour's before that recovery begins.
 * --long does all of that, at up to 16 passages of a point in one recovery.  Otherwise second deaths are tried once for
 * each distinct pair of points; --quick dies at the first two passages of each point, and a second time once at each point
 * of recovery.  CXLSHM_TEST_LENGTH (quick, long) says the same.  --seed: other hashes of names, so directories of other shapes.
 */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "crash.h"
#include "host.h"
#include "neighbour.h"
#include "snapshot.h"

#define TRACE_MAX 100000
#define JOBS_MAX 64
#define PROGRESS_SECONDS 60
#define HANG_SECONDS 120	/* for one death, some milliseconds: then something turns in a circle, and SIGALRM ends it */
#define BEHIND 1000000u	/* + r: the r-th point of a recovery that begins behind a round of the neighbour */
#define PASSAGES_MAX 16	/* of one point in one recovery: that of 270 references comes to the same steps 270 times */

struct trace {	/* shared with the children */
	volatile uint32_t hits;
	volatile uint32_t die_at;	/* 0: never */
	uint8_t point[TRACE_MAX];
};

struct at {
	pid_t pid;
	char scenario[32];
	uint32_t h, r;
};

struct totals {	/* shared by the workers */
	uint64_t seed;
	uint64_t first_deaths, second_deaths, failures, rounds;
	uint8_t reached[CRASH_POINT_COUNT];	/* died at */
	uint8_t reached_in_recovery[CRASH_POINT_COUNT];
	uint8_t succeeded[NEIGHBOUR_CALLS];	/* of the neighbour's calls that may be refused */
	struct at at[JOBS_MAX];	/* what each worker is doing, for when it dies over it */
};

struct run {
	const struct scenario *scenario;
	struct stage stage;
	char dir[64];
	struct trace *trace;
	struct totals *totals;
	struct at *at;
	struct neighbour neighbour;
	int full, quick;
};

static uint64_t random_state;

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Instead of the system's: the key of a pool's hashes decides which way operations on names go. */
ssize_t getrandom(void *buffer, size_t bytes, unsigned flags)
{
	char *to = buffer;

	(void)flags;
	for (size_t i = 0; i < bytes; i++) {
		random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
		to[i] = (char)(random_state >> 56);
	}
	return (ssize_t)bytes;
}

static void hook(void *arg, struct client *c, unsigned point)
{
	struct trace *t = arg;
	uint32_t n = t->hits;

	(void)c;
	if (n < TRACE_MAX)
		t->point[n] = (uint8_t)point;
	t->hits = n + 1;
	if (n + 1 == t->die_at)
		kill(getpid(), SIGKILL);
}

static struct pool *internal(struct cxlshm_pool *pool)
{
	return (struct pool *)pool;
}

/* ---- children ---- */

/* Run in a child that dies at its die_at-th point (0: not).  1 if it was killed, 0 if it ended well. */
static int in_child(struct run *run, int recover, uint32_t die_at)
{
	int status;
	pid_t pid;

	run->trace->hits = 0;
	run->trace->die_at = die_at;
	if (!recover)
		memset(run->stage.told, 0, STAGE_TOLD * sizeof(*run->stage.told));
	fflush(NULL);
	pid = fork();
	if (!pid) {
		struct cxlshm_pool *pool;
		struct cxlshm_error error;

		if (cxlshm_pool_open(run->dir, 0, &pool, &error)) {
			fprintf(stderr, "%s\n", error.text);
			_exit(4);
		}
		alarm(HANG_SECONDS);
		host_watch(internal(pool));
		internal(pool)->crash_hook = hook;
		internal(pool)->crash_arg = run->trace;
		if (recover)
			MUST(cxlshm_recover(pool, NULL));
		else
			run->scenario->act(&run->stage, pool);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && die_at)
		return 1;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	return -1;
}

static void die_hook(void *arg, struct client *c, unsigned point)
{
	(void)c;
	if (point == *(unsigned *)arg)
		kill(getpid(), SIGKILL);
}

void die_at(struct stage *stage, unsigned point, void (*body)(struct stage *stage, struct cxlshm_client *c), int recover)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid) {
		struct cxlshm_client *c;
		struct cxlshm_pool *pool;

		MUST(cxlshm_pool_open(internal(stage->pool)->path, 0, &pool, NULL));
		MUST(cxlshm_join(pool, "dying", 0, &c));
		internal(pool)->crash_hook = die_hook;
		internal(pool)->crash_arg = &point;
		body(stage, c);
		_exit(5);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	if (recover)
		MUST(cxlshm_recover(stage->pool, NULL));
}

/* ---- checking ---- */

struct findings {
	unsigned count;
	char text[4][200];
};

static void collect(void *arg, int severity, const char *line)
{
	struct findings *f = arg;

	if (severity < 1)
		return;
	if (f->count < 4)
		snprintf(f->text[f->count], sizeof(f->text[0]), "%s", line);
	f->count++;
}

static const char *point_name(uint8_t point)
{
	const char *name = crash_point_name(point);

	return name ? name : "?";
}

static void say_replay(const struct totals *totals, const char *scenario, uint32_t h, uint32_t r)
{
	printf("    replay: %s --seed %llu --replay %s:%u:%u\n", program_invocation_name, (unsigned long long)totals->seed,
	       scenario, h, r);
}

static void fail(struct run *run, uint32_t h, uint8_t hp, uint32_t r, uint8_t rp, const char *what,
		 const struct findings *f)
{
	__atomic_fetch_add(&run->totals->failures, 1, __ATOMIC_RELAXED);
	printf("FAILED %s: death %u at %s", run->scenario->name, h, point_name(hp));
	if (r)
		printf(", then %u of recovery%s at %s", r % BEHIND, r > BEHIND ? " behind the neighbour" : "", point_name(rp));
	printf(": %s\n", what);
	for (unsigned i = 0; f && i < f->count && i < 4; i++)
		printf("    %s\n", f->text[i]);
	say_replay(run->totals, run->scenario->name, h, r);
	fflush(stdout);
}

/* Recovered: is all well, and is it still after the neighbour went on with what it holds? */
static void verify(struct run *run, uint32_t h, uint8_t hp, uint32_t r, uint8_t rp)
{
	struct cxlshm_check_result result;
	struct findings f = {0};

	MUST(check_pool(internal(run->stage.pool), 0, collect, &f, &result));
	if (f.count) {
		fail(run, h, hp, r, rp, "with the neighbour there", &f);
		return;
	}
	if (!run->scenario->after)
		return;
	run->scenario->after(&run->stage);
	f.count = 0;
	MUST(check_pool(internal(run->stage.pool), 0, collect, &f, &result));
	if (f.count)
		fail(run, h, hp, r, rp, "after the neighbour went on", &f);
}

/* ---- one scenario ---- */

/* A recovery in this process, with the neighbour at its points, and if `before`, before it, too. */
static void recover_here(struct run *run, int before, uint32_t h, uint8_t hp, uint32_t r, uint8_t rp)
{
	int rc;

	alarm(HANG_SECONDS);
	neighbour_begin(&run->neighbour, &run->stage, run->scenario, h + r);
	if (before)
		neighbour_work(&run->neighbour);
	rc = neighbour_recover(&run->neighbour);
	__atomic_fetch_add(&run->totals->rounds, run->neighbour.rounds, __ATOMIC_RELAXED);
	if (rc)
		fail(run, h, hp, r, rp, "recovery beside the neighbour failed", NULL);
	else
		verify(run, h, hp, r, rp);
	alarm(0);
}

/* How many points a recovery in a child passes, and which; -1: it failed. */
static int64_t recovery_passes(struct run *run, uint8_t *passed)
{
	if (in_child(run, 1, 0))
		return -1;
	REQUIRE(run->trace->hits < TRACE_MAX);
	memcpy(passed, run->trace->point, run->trace->hits);
	return run->trace->hits;
}

/* From the snapshot: who recovers dies at its r-th point, and is recovered in turn. */
static void die_again(struct run *run, const struct snapshot *from, uint32_t h, uint8_t hp, uint32_t r, uint8_t rp,
		      unsigned loss)
{
	run->at->r = r;
	snapshot_restore(&run->stage, from);
	host_begin(internal(run->stage.pool));
	if (in_child(run, 1, r % BEHIND) != 1) {
		fail(run, h, hp, r, rp, "was not reached again", NULL);
		return;
	}
	host_lose(internal(run->stage.pool), loss, h + r);
	run->totals->reached_in_recovery[rp] = 1;
	__atomic_fetch_add(&run->totals->second_deaths, 1, __ATOMIC_RELAXED);
	/* Here, beside the neighbour, as any client that joins does it: a child more for each would take twice as long. */
	recover_here(run, (h + r) & 1, h, hp, r, rp);
}

static void second_deaths(struct run *run, struct snapshot *dead, uint32_t h, uint8_t hp, uint32_t only,
			  uint8_t (*tried)[CRASH_POINT_COUNT], unsigned loss)
{
	static uint8_t passed[TRACE_MAX];
	uint32_t passages[CRASH_POINT_COUNT] = {0};
	int64_t count;

	snapshot_take(&run->stage, dead);
	count = recovery_passes(run, passed);
	if (count < 0) {
		fail(run, h, hp, 0, 0, "recovery failed", NULL);
		return;
	}
	verify(run, h, hp, 0, 0);
	/* Before it as well, the neighbour may recover the dead itself, and then there is no point left to work at. */
	for (int before = 0; run->scenario->meanwhile && before < 2; before++) {
		snapshot_restore(&run->stage, dead);
		recover_here(run, before, h, hp, 0, 0);
	}
	for (uint32_t r = 1; r <= count; r++) {
		uint8_t rp = passed[r - 1];
		uint8_t *done = &tried[run->quick ? 0 : hp][rp];

		passages[rp]++;
		if (only ? r != only : run->full ? passages[rp] > PASSAGES_MAX : *done)
			continue;
		*done = 1;
		die_again(run, dead, h, hp, r, rp, loss);
	}
}

/*
 * The neighbour works on what the dead left, and only then somebody begins to recover them, and dies over it: once for each
 * pair of points.  That recovery may pass other points than one without the neighbour, so they are counted anew.
 */
static void second_deaths_behind(struct run *run, const struct snapshot *dead, struct snapshot *worked, uint32_t h, uint8_t hp,
				 uint32_t only, uint8_t (*tried)[CRASH_POINT_COUNT], unsigned loss)
{
	static uint8_t passed[TRACE_MAX];
	int64_t count;

	if (!run->scenario->meanwhile || (only && only < BEHIND))
		return;
	snapshot_restore(&run->stage, dead);
	neighbour_begin(&run->neighbour, &run->stage, run->scenario, h);
	neighbour_work(&run->neighbour);
	snapshot_take(&run->stage, worked);
	host_begin(internal(run->stage.pool));
	count = recovery_passes(run, passed);
	if (count < 0) {
		fail(run, h, hp, 0, 0, "recovery behind the neighbour failed", NULL);
		return;
	}
	for (uint32_t r = 1; r <= count; r++) {
		uint8_t rp = passed[r - 1];
		uint8_t *done = &tried[run->quick ? 0 : hp][rp];

		if (only ? BEHIND + r != only : *done)
			continue;
		*done = 1;
		die_again(run, worked, h, hp, BEHIND + r, rp, loss);
	}
}

static void run_scenario(struct run *run, uint32_t only_h, uint32_t only_r)
{
	static uint8_t tried[HOST_LOSSES][CRASH_POINT_COUNT][CRASH_POINT_COUNT];
	static uint8_t tried_behind[HOST_LOSSES][CRASH_POINT_COUNT][CRASH_POINT_COUNT];
	uint32_t passages[CRASH_POINT_COUNT] = {0};
	const struct scenario *scenario = run->scenario;
	struct cxlshm_pool_options options = {
		.size_bytes = scenario->pool_bytes, .client_slots = 8, .failure_domain = HOST_DOMAIN,
		.uid = (uid_t)-1, .gid = (gid_t)-1};
	struct snapshot start, dead, worked;
	struct cxlshm_error error;
	double said = seconds();
	uint8_t *passed;
	uint32_t count;

	memset(tried, 0, sizeof(tried));
	memset(tried_behind, 0, sizeof(tried_behind));
	snprintf(run->dir, sizeof(run->dir), "/dev/shm/cxlshm-crash-%d-%s", (int)getpid(), scenario->name);
	MUST(mkdir(run->dir, 0700));
	if (cxlshm_pool_create(run->dir, &options, &error)) {
		fprintf(stderr, "%s\n", error.text);
		exit(3);
	}
	MUST(cxlshm_pool_open(run->dir, 0, &run->stage.pool, &error));
	MUST(cxlshm_join(run->stage.pool, "neighbour", 0, &run->stage.neighbour));
	run->stage.told = mmap(NULL, STAGE_TOLD * sizeof(*run->stage.told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			       -1, 0);
	REQUIRE(run->stage.told != MAP_FAILED);
	if (scenario->prepare)
		scenario->prepare(&run->stage);
	start.heap = malloc(internal(run->stage.pool)->heap_bytes);
	dead.heap = malloc(internal(run->stage.pool)->heap_bytes);
	worked.heap = malloc(internal(run->stage.pool)->heap_bytes);
	passed = malloc(TRACE_MAX);
	REQUIRE(start.heap && dead.heap && worked.heap && passed);
	snapshot_take(&run->stage, &start);
	host_begin(internal(run->stage.pool));

	if (in_child(run, 0, 0)) {
		fail(run, 0, 0, 0, 0, "the action itself failed", NULL);
		goto out;
	}
	count = run->trace->hits;
	REQUIRE(count < TRACE_MAX);
	memcpy(passed, run->trace->point, count);
	verify(run, 0, 0, 0, 0);
	for (uint32_t h = 1; h <= count; h++) {
		uint8_t hp = passed[h - 1];

		if (only_h ? h != only_h : run->quick && passages[hp]++ >= 2)
			continue;
		run->at->h = h;
		run->at->r = 0;
		if (seconds() - said >= PROGRESS_SECONDS) {
			said = seconds();
			printf("progress: %s, death %u of %u\n", scenario->name, h, count);
		}
		for (unsigned loss = 0; loss < HOST_LOSSES; loss++) {
			snapshot_restore(&run->stage, &start);
			host_begin(internal(run->stage.pool));
			if (in_child(run, 0, h) != 1) {
				fail(run, h, hp, 0, 0, "was not reached again", NULL);
				continue;
			}
			run->totals->reached[hp] = 1;
			__atomic_fetch_add(&run->totals->first_deaths, 1, __ATOMIC_RELAXED);
			host_lose(internal(run->stage.pool), loss, h);
			second_deaths(run, &dead, h, hp, only_r, tried[loss], loss);
			second_deaths_behind(run, &dead, &worked, h, hp, only_r, tried_behind[loss], loss);
		}
	}
	snapshot_restore(&run->stage, &start);
out:
	free(start.heap);
	free(dead.heap);
	free(worked.heap);
	free(passed);
	munmap(run->stage.told, STAGE_TOLD * sizeof(*run->stage.told));
	cxlshm_pool_close(run->stage.pool);
	cxlshm_pool_remove(run->dir, NULL);
	rmdir(run->dir);
}

/* ---- all of them ---- */

/* With failure_domain=host no row becomes a free one at once: it is cleared, and written back, first (ref.c). */
static int is_passed(unsigned point)
{
	return HOST_LOSSES == 1 || point != CRASH_ref_row_freed;
}

static const struct scenario *const sets[] = {refs_scenarios, names_scenarios, queue_scenarios};

static const struct scenario *scenario_at(unsigned index)
{
	for (size_t s = 0; s < sizeof(sets) / sizeof(*sets); s++)
		for (const struct scenario *one = sets[s]; one->name; one++)
			if (!index--)
				return one;
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned jobs = 2, listed = 0, missing = 0, missing_recovery = 0, refused;
	const char *only = NULL;
	uint32_t only_h = 0, only_r = 0;
	uint64_t seed = 0;
	struct totals *totals;
	double start = seconds();
	volatile unsigned *next;
	pid_t ended;
	const char *length = getenv("CXLSHM_TEST_LENGTH");
	/* With losses the long form is hours: by --long only. */
	int full = length && !strcmp(length, "long") && HOST_LOSSES == 1, quick = length && !strcmp(length, "quick"), status;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--long")) {
			full = 1, quick = 0;
		} else if (!strcmp(argv[i], "--quick")) {
			quick = 1, full = 0;
		} else if (!strcmp(argv[i], "--jobs") && i + 1 < argc) {
			jobs = (unsigned)atoi(argv[++i]);
			if (!jobs || jobs > JOBS_MAX)
				return 2;
		} else if (!strcmp(argv[i], "--seed") && i + 1 < argc) {
			seed = strtoull(argv[++i], NULL, 0);
		} else if (!strcmp(argv[i], "--scenario") && i + 1 < argc) {
			only = argv[++i];
		} else if (!strcmp(argv[i], "--replay") && i + 1 < argc) {
			char *colon = strchr(argv[++i], ':');

			if (!colon || sscanf(colon + 1, "%u:%u", &only_h, &only_r) < 1)
				return 2;
			*colon = 0;
			only = argv[i];
		} else if (!strcmp(argv[i], "--list")) {
			for (unsigned s = 0; scenario_at(s); s++)
				puts(scenario_at(s)->name);
			return 0;
		} else {
			fprintf(stderr,
				"usage: %s [--long | --quick] [--jobs N] [--seed N] [--scenario NAME] [--replay NAME:H[:R]] "
				"[--list]\n", argv[0]);
			return 2;
		}
	}
	totals = mmap(NULL, sizeof(*totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	next = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(totals != MAP_FAILED && next != MAP_FAILED);
	totals->seed = seed;
	for (unsigned j = 0; j < jobs; j++) {
		fflush(NULL);
		pid_t pid = fork();

		if (pid) {
			totals->at[j].pid = pid;
			continue;
		}
		for (;;) {
			unsigned index = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED);
			const struct scenario *scenario = scenario_at(index);
			struct run run = {.scenario = scenario, .totals = totals, .at = &totals->at[j],
					  .full = full, .quick = quick};
			double from = seconds();
			uint64_t before;

			if (!scenario)
				_exit(0);
			if (only && strcmp(only, scenario->name))
				continue;
			snprintf(run.at->scenario, sizeof(run.at->scenario), "%s", scenario->name);
			run.trace = mmap(NULL, sizeof(*run.trace), PROT_READ | PROT_WRITE,
					 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
			REQUIRE(run.trace != MAP_FAILED);
			before = totals->failures;
			random_state = seed;
			run_scenario(&run, only_h, only_r);
			printf("%-24s %s  %.1f s\n", scenario->name, totals->failures == before ? "ok" : "FAILED",
			       seconds() - from);
			neighbour_note(totals->succeeded);
			munmap(run.trace, sizeof(*run.trace));
		}
	}
	while ((ended = wait(&status)) > 0) {
		if (WIFEXITED(status) && !WEXITSTATUS(status))
			continue;
		totals->failures++;
		printf("FAILED: a worker ended with status 0x%x\n", (unsigned)status);
		for (unsigned j = 0; j < jobs; j++)
			if (totals->at[j].pid == ended)
				say_replay(totals, totals->at[j].scenario, totals->at[j].h, totals->at[j].r);
	}
	for (unsigned p = 0; p < CRASH_POINT_COUNT; p++) {
		if (!is_passed(p))
			continue;
		listed++;
		if (!totals->reached[p] && !totals->reached_in_recovery[p]) {
			missing++;
			if (!only)
				printf("never reached: %s\n", crash_point_name(p));
		}
		missing_recovery += !totals->reached_in_recovery[p];
	}
	refused = only || quick ? 0 : neighbour_say_refused(totals->succeeded);
	printf("crash: %u points listed, %u reached, %u of them inside recovery, %llu deaths, %llu second deaths, "
	       "%llu failures, %.0f s, %llu rounds of the neighbour\n",
	       listed, listed - missing, listed - missing_recovery, (unsigned long long)totals->first_deaths,
	       (unsigned long long)totals->second_deaths, (unsigned long long)totals->failures, seconds() - start,
	       (unsigned long long)totals->rounds);
	/* What was asked for by name must have been done. */
	if (only && (!totals->first_deaths || (only_r && !totals->second_deaths))) {
		printf("FAILED: %s has no such death, or is no scenario (--list)\n", only);
		return 1;
	}
	return totals->failures || (!only && missing) || refused ? 1 : 0;
}
