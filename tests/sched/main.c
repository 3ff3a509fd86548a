/* SPDX-License-Identifier: MIT */
/*
 * Interleavings of clients over one pool: every schedule with few preemptions and a death anywhere, for each pair of
 * operations that can touch the same word, and for some triples; then random ones for three clients.
 *
 *   sched [--long] [--seconds N] [--jobs N] [--area NAME] [--pair AREA.A+B[+C]] [--random] [--stop] [--seed N]
 *         [--verbose] [--every-access] [--no-states] [--compare] [--list]
 *   sched --replay 'AREA.A+B[+C]:MOVES' | 'AREA:seed=N'
 *
 * After each schedule everything is finished and recovered; the checker must find nothing, no object may be left over,
 * and the history must be that of some sequential order.  Workers are processes, so that a fault ends one run and not the
 * test.  A run of which too little came to its end fails, too: see pairs_enough().  --random: no pairs.  --stop: end at the
 * first failure.  CXLSHM_TEST_LENGTH=long is --long.
 */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "interleave.h"

const struct area *const areas[] = {&area_ref, &area_cell, &area_export, &area_memory, &area_trim, &area_queue, &area_spsc,
					   &area_wait_empty, &area_wait_full, &area_wait_empty_one, &area_wait_full_one,
					   &area_holder, &area_sender_left, &area_sender_begun, &area_sender_filled,
					   &area_receiver_left, &area_receiver_begun, &area_receiver_emptied, &area_join,
					   &area_names, &area_across, &area_nodes, &area_frozen, &area_files, &area_attr, &area_look,
					   &area_mixed,
					   NULL};

static struct shared *shared;

/* ---- faults: say which run, and end this worker ---- */

struct at *working;

static void fault(int sig)
{
	static char line[MOVES_MAX * 12 + 1000];
	int used;

	if (sig == SIGALRM && working->states != totals->states + totals->schedules) {
		working->states = totals->states + totals->schedules;
		return;
	}
	used = snprintf(line, sizeof(line), "FAILED %s: %s\n    replay: sched --replay '%s:", working->name,
			sig == SIGALRM ? "a loop without an end" : sig == SIGABRT ? "an assertion" : "a fault", working->name);
	if (working->seed)
		used += snprintf(line + used, sizeof(line) - (size_t)used, "seed=%llu", (unsigned long long)working->seed);
	for (uint32_t i = 0; !working->seed && working->w && i < working->w->moves_done && used < (int)sizeof(line) - 50; i++)
		used += snprintf(line + used, sizeof(line) - (size_t)used,
				 working->w->done[i].kill == NOBODY ? "%s%u%.0u>%u" : "%s%ux%u>%u", i ? "," : "",
				 working->w->done[i].step, working->w->done[i].kill == NOBODY ? 0 : working->w->done[i].kill,
				 working->w->done[i].to);
	used += snprintf(line + used, sizeof(line) - (size_t)used, "'\n");
	if (write(1, line, (size_t)used) < 0)
		_exit(11);
	totals->failures++;
	_exit(10);
}

static void catch_faults(void)
{
	struct sigaction action = {.sa_handler = fault, .sa_flags = SA_ONSTACK};
	static char stack[65536];
	stack_t alternative = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct itimerval every = {{20, 0}, {20, 0}};

	sigaltstack(&alternative, NULL);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGABRT, &action, NULL);
	action.sa_flags |= SA_RESTART;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
}

/* ---- workers ---- */

struct world *world_for(struct world *w, const struct area *area, uint32_t actors)
{
	if (w && w->area == area && w->actors == actors)
		return w;
	if (w)
		world_delete(w);
	working->w = NULL;
	w = world_new(area, actors);
	working->w = w;
	return w;
}

/* Areas in turn, a second or so each. */
static void work_random(const struct options *o, double deadline)
{
	struct world *w = NULL;
	uint32_t n = 0;

	while (areas[n])
		n++;
	while (seconds_now() < deadline && !shared->stop) {
		uint32_t index = __atomic_fetch_add(&shared->next_area, 1, __ATOMIC_RELAXED) % n;
		double slice = o->full ? 5 : 0.5, until = seconds_now() + slice;
		uint64_t failures = totals->failures;

		if (o->area && strcmp(o->area, areas[index]->name))
			continue;
		w = world_for(w, areas[index], 3);
		snprintf(working->name, sizeof(working->name), "%s", w->area->name);
		while (seconds_now() < until && seconds_now() < deadline && totals->failures < failures + 3 &&
		       !shared->stop) {
			for (int i = 0; i < 16; i++) {
				working->seed = o->seed + __atomic_fetch_add(&shared->next_seed, 1, __ATOMIC_RELAXED);
				explore_random(w, working->seed);
			}
			if (o->stop && totals->failures)
				shared->stop = 1;
		}
	}
	if (w)
		world_delete(w);
}

/* ---- workers ---- */

static void clean_after(pid_t pid)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf /dev/shm/cxlshm-sched-%d-*", (int)pid);
	if (system(command))
		fprintf(stderr, "cannot clean up after %d\n", (int)pid);
}

/* Killed, perhaps for want of memory: it could not say so itself. */
static void say_where(const struct at *at, int status)
{
	printf("FAILED %s: the worker ended with status 0x%x\n", at->name[0] ? at->name : "before its first run", (unsigned)status);
	if (at->seed)
		printf("    replay: sched --replay '%s:seed=%llu'\n", at->name, (unsigned long long)at->seed);
	else if (at->name[0])
		printf("    again: sched --long --jobs 1 --pair %s\n", at->name);
}

static struct at *at_of(pid_t pid)
{
	for (unsigned j = 0; j < JOBS_MAX; j++)
		if (shared->at[j].pid == pid)
			return &shared->at[j];
	return NULL;
}

static pid_t start(const struct options *o, double pairs_until, double until)
{
	struct at *at = at_of(0);
	pid_t pid;

	fflush(NULL);
	REQUIRE(at);
	memset(at, 0, sizeof(*at));
	pid = fork();
	if (pid) {
		if (pid > 0)
			at->pid = pid;
		return pid;
	}
	working = at;
	catch_faults();
	if (!o->random)
		pairs_work(shared, o, pairs_until);
	if (!o->pair)
		work_random(o, until);
	_exit(0);
}

static int run_all(const struct options *o)
{
	double from = seconds_now(), until = from + o->seconds, said = from;
	double pairs_until = from + o->seconds * (o->pair ? 1 : o->full ? 0.9 : 0.8);
	unsigned running = 0;

	for (unsigned j = 0; j < o->jobs; j++)
		running += start(o, pairs_until, until) > 0;
	while (running) {
		struct at *at;
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (!pid) {
			usleep(50000);
			if (o->full && seconds_now() - said >= 30) {
				said = seconds_now();
				printf("  %4.0f s: %s, %llu states, %llu schedules, %llu failures\n", said - from,
				       pairs_where(shared), (unsigned long long)totals->states,
				       (unsigned long long)totals->schedules, (unsigned long long)totals->failures);
			}
			continue;
		}
		if (pid < 0)
			break;
		running--;
		clean_after(pid);
		at = at_of(pid);
		if (at)
			at->pid = 0;
		if (WIFEXITED(status) && !WEXITSTATUS(status))
			continue;
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 10) {
			totals->failures++;
			if (at)
				say_where(at, status);
			continue;
		}
		/* Another one goes on behind it. */
		if (!o->stop && totals->failures < 50 && seconds_now() < until)
			running += start(o, pairs_until, until) > 0;
	}
	return 0;
}

static int replay(struct options *o, char *text)
{
	char *colon = strchr(text, ':'), *dot = strchr(text, '.');
	struct pair pair;
	struct world *w;

	if (!colon)
		return 2;
	*colon = 0;
	catch_faults();
	snprintf(working->name, sizeof(working->name), "%s", text);
	if (!strncmp(colon + 1, "seed=", 5)) {
		o->area = text;
		if (dot || !pair_at(o, 0, &pair))
			return 2;
		w = world_for(NULL, pair.area, 3);
		working->seed = strtoull(colon + 6, NULL, 0);
		explore_random(w, working->seed);
	} else {
		o->pair = text;
		if (!pair_at(o, 0, &pair))
			return 2;
		w = world_for(NULL, pair.area, pair.actors);
		pair_set(w, &pair);
		explore_replay(w, colon + 1, text);
	}
	world_delete(w);
	return totals->failures != 0;
}

static int usage(const char *name)
{
	fprintf(stderr, "usage: %s [--long] [--seconds N] [--jobs N] [--area NAME] [--pair AREA.A+B[+C]] [--random]"
			" [--stop]\n           [--verbose] [--every-access] [--no-states] [--compare] [--list] [--seed N]\n       %s --replay 'AREA.A+B[+C]:MOVES' | 'AREA:seed=N'\n", name, name);
	return 2;
}

int main(int argc, char **argv)
{
	struct options o = {.jobs = 1, .seed = 1};
	double from = seconds_now();
	const char *length = getenv("CXLSHM_TEST_LENGTH");
	char *again = NULL;
	int enough = 1;
	struct pair pair;

	o.full = length && !strcmp(length, "long");
	o.quick = length && !strcmp(length, "quick");
	if (o.quick)
		o.seconds = 15;
	setvbuf(stdout, NULL, _IOLBF, 0);
	/* The checker's tables come and go with every run: keep their memory. */
	mallopt(M_MMAP_THRESHOLD, 64 << 20);
	mallopt(M_TRIM_THRESHOLD, 64 << 20);
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--long"))
			o.full = 1;
		else if (!strcmp(argv[i], "--stop"))
			o.stop = 1;
		else if (!strcmp(argv[i], "--random"))
			o.random = 1;
		else if (!strcmp(argv[i], "--verbose"))
			o.verbose = 1;
		else if (!strcmp(argv[i], "--every-access"))
			o.everything = 1;
		else if (!strcmp(argv[i], "--no-states"))
			o.no_states = 1;
		else if (!strcmp(argv[i], "--compare"))
			o.compare = 1;
		else if (!strcmp(argv[i], "--list"))
			o.list = 1;
		else if (!strcmp(argv[i], "--seconds") && i + 1 < argc)
			o.seconds = atof(argv[++i]);
		else if (!strcmp(argv[i], "--jobs") && i + 1 < argc)
			o.jobs = (unsigned)atoi(argv[++i]);
		else if (!strcmp(argv[i], "--area") && i + 1 < argc)
			o.area = argv[++i];
		else if (!strcmp(argv[i], "--pair") && i + 1 < argc)
			o.pair = argv[++i];
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			o.seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--replay") && i + 1 < argc)
			again = argv[++i];
		else
			return usage(argv[0]);
	}
	/* A test of nothing would pass. */
	if ((o.pair || o.area) && !pair_at(&o, 0, &pair)) {
		fprintf(stderr, "sched: no pair of operations is called that: %s%s%s; --list shows them, in the order they have\n",
			o.area ? o.area : "", o.area && o.pair ? ", " : "", o.pair ? o.pair : "");
		return 2;
	}
	if (!(o.seconds > 0))
		o.seconds = o.full ? 3600 : 120;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(shared != MAP_FAILED && o.jobs && o.jobs < JOBS_MAX);
	totals = &shared->totals;
	working = &shared->at[0];	/* of who has no other */
	if (again) {
		int status = 0;
		pid_t pid;

		fflush(NULL);
		pid = fork();
		if (!pid)
			exit(replay(&o, again));
		if (pid < 0 || waitpid(pid, &status, 0) < 0)
			return 3;
		clean_after(pid);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
			return usage(argv[0]);
	} else if (o.list) {
		for (uint32_t i = 0; pair_at(&o, i, &pair); i++)
			puts(pair.name);
		return 0;
	} else if (o.compare) {
		int status = 0;
		pid_t pid;

		fflush(NULL);
		pid = fork();
		if (!pid) {
			catch_faults();
			exit(pairs_compare(&o));
		}
		if (pid < 0 || waitpid(pid, &status, 0) < 0)
			return 3;
		clean_after(pid);
		return !WIFEXITED(status) || WEXITSTATUS(status);
	} else {
		run_all(&o);
		if (!o.random) {
			pairs_summary(shared, &o);
			enough = pairs_enough(shared, &o);
		}
		printf("sched: longest run %llu steps; %.0f s\n", (unsigned long long)totals->longest_run,
		       seconds_now() - from);
	}
	printf("sched: %llu states, %llu schedules, %llu crashes, %llu histories checked, %llu failures\n",
	       (unsigned long long)totals->states, (unsigned long long)totals->schedules, (unsigned long long)totals->crashes,
	       (unsigned long long)totals->histories, (unsigned long long)totals->failures);
	return totals->failures || !enough ? 1 : 0;
}
