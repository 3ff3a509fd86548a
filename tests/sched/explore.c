/* SPDX-License-Identifier: MIT */
/*
 * Which schedules are run.
 *
 * Enumeration (iterative context bounding, Musuvathi and Qadeer 2007): first all schedules without preemption, then all
 * with one, and so on; the same with one death, then two.  A schedule is a list of moves; its children add one move behind
 * its last.  Who goes on after an end or a death is free and costs nothing.
 *
 * Random (probabilistic concurrency testing, Burckhardt et al. 2010): random programs, random priorities, d - 1 steps at
 * which the running fiber falls behind all others, and perhaps a death or two.
 */
#include <setjmp.h>
#include <time.h>

#include "interleave.h"

struct totals *totals;

struct level {
	struct world *w;
	const char *name;
	double deadline;
	uint64_t first_failures, failures, runs;
	int late;
};

double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void report(struct world *w, const char *name, const char *replay)
{
	char line[1200];
	size_t used = (size_t)snprintf(line, sizeof(line), "FAILED %s: %s\n    replay: sched --replay '%s:", name,
				       w->failure, name);

	if (replay) {
		used += (size_t)snprintf(line + used, sizeof(line) - used, "%s", replay);
	} else {
		for (uint32_t i = 0; i < w->moves_done && used < sizeof(line) - 24; i++)
			used += (size_t)snprintf(line + used, sizeof(line) - used, "%s%u%c%u", i ? "," : "",
						 w->done[i].step, w->done[i].kill ? 'x' : '>', w->done[i].to);
	}
	printf("%s'\n", line);
	if (w->area->kind != SPEC_NONE)
		linear_print(&w->v.history, stdout);
	fflush(stdout);
	totals->failures++;
}

static void run(struct world *w, const struct plan *plan, int verify)
{
	world_restore(w);
	fiber_run(w, plan);
	if (verify)
		world_verify(w);
	if (w->steps > totals->longest_run)
		totals->longest_run = w->steps;
}

/* ---- enumeration ---- */

static int late(struct level *l)
{
	if (l->late)
		return 1;
	if (l->first_failures && l->failures >= l->first_failures)
		l->late = 1;
	else if (l->deadline > 0 && !(l->runs & 15) && seconds_now() > l->deadline)
		l->late = 1;
	return l->late;
}

static uint32_t gcd(uint32_t a, uint32_t b)
{
	return b ? gcd(b, a % b) : a;
}

static void below(struct level *l, const struct plan *plan, uint32_t preemptions, uint32_t crashes)
{
	uint32_t last = plan->count ? plan->moves[plan->count - 1].step + 1 : 0;
	int leaf = !preemptions && !crashes;
	struct world *w = l->w;
	struct step *trace;
	uint32_t steps, stride;

	if (late(l))
		return;
	l->runs++;
	run(w, plan, leaf);
	if (leaf) {
		totals->schedules++;
		totals->crashes += w->deaths;
	}
	if (w->failure[0]) {
		if (leaf) {
			report(w, l->name, NULL);
			l->failures++;
		}
		return;
	}
	if (plan->count == MOVES_MAX)
		return;
	steps = w->steps;
	if (last >= steps)
		return;
	trace = malloc((steps + 1) * sizeof(*trace));
	REQUIRE(trace);
	memcpy(trace, w->step, steps * sizeof(*trace));
	/* Spread over the run, so that a time limit leaves gaps everywhere instead of a missing end. */
	steps -= last;
	for (stride = steps * 5 / 8; stride > 1 && gcd(steps, stride) > 1; stride--)
		;
	for (uint32_t i = 0, at = 0; i < steps; i++, at = (at + stride) % steps) {
		uint32_t step = last + at;
		struct plan child = *plan;
		uint8_t running = trace[step].running, enabled = trace[step].enabled;
		struct move *m = &child.moves[child.count++];

		if (running >= FIBERS) {
			uint32_t first = (uint32_t)__builtin_ctz(enabled | 1u << FIBERS);

			for (uint8_t to = 0; to < FIBERS; to++)
				if (enabled & 1u << to && to != first) {
					*m = (struct move){step, 0, to};
					below(l, &child, preemptions, crashes);
				}
			continue;
		}
		for (uint8_t to = 0; to < FIBERS && preemptions; to++)
			if (enabled & 1u << to && to != running) {
				*m = (struct move){step, 0, to};
				below(l, &child, preemptions - 1, crashes);
			}
		if (crashes) {
			uint32_t deaths = 0;
			uint8_t after = (uint8_t)(enabled & ~(1u << running));

			for (uint32_t k = 0; k < plan->count; k++)
				deaths += plan->moves[k].kill;
			if (deaths < RECOVERERS)
				after |= (uint8_t)(1u << (ACTORS_MAX + deaths));
			for (uint8_t to = 0; to < FIBERS; to++)
				if (after & 1u << to) {
					*m = (struct move){step, 1, to};
					below(l, &child, preemptions, crashes - 1);
				}
		}
	}
	free(trace);
}

int explore_pair(struct world *w, const struct limits *limits, const char *name)
{
	struct level l = {.w = w, .name = name, .first_failures = limits->first_failures};
	struct plan none = {.count = 0};

	if (limits->seconds > 0)
		l.deadline = seconds_now() + limits->seconds;
	for (uint32_t sum = 0; sum <= limits->preemptions + limits->crashes; sum++)
		for (uint32_t crashes = 0; crashes <= sum && crashes <= limits->crashes; crashes++) {
			uint32_t preemptions = sum - crashes;

			if (preemptions > (crashes ? limits->preemptions_with_crash : limits->preemptions))
				continue;
			below(&l, &none, preemptions, crashes);
		}
	return !l.late;
}

/* ---- random ---- */

static uint64_t next_random(uint64_t *s)
{
	uint64_t z = *s += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

void explore_random(struct world *w, uint64_t seed)
{
	struct plan plan = {.pct = 1, .change_at = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX},
			    .kill_at = {UINT32_MAX, UINT32_MAX}};
	uint64_t s = seed * 2654435761u + 1;
	uint32_t ops = 0, length, dice;
	char replay[40], name[80];

	while (w->area->ops[ops].name)
		ops++;
	for (uint32_t i = 0; i < w->actors; i++) {
		w->program_count[i] = 1 + (uint32_t)(next_random(&s) % 3);
		for (uint32_t k = 0; k < w->program_count[i]; k++)
			w->program[i][k] = &w->area->ops[next_random(&s) % ops];
	}
	for (uint32_t i = 0; i < FIBERS; i++)
		plan.priority[i] = (uint8_t)(20 + next_random(&s) % 200);
	length = 40u << next_random(&s) % 5;
	for (uint32_t i = 0; i < 1 + next_random(&s) % 4; i++)
		plan.change_at[i] = (uint32_t)(next_random(&s) % length);
	dice = (uint32_t)(next_random(&s) % 10);
	if (dice < 6)
		plan.kill_at[0] = (uint32_t)(next_random(&s) % length);
	if (dice < 2)
		plan.kill_at[1] = plan.kill_at[0] + 1 + (uint32_t)(next_random(&s) % 120);
	run(w, &plan, 1);
	totals->schedules++;
	totals->crashes += w->deaths;
	if (!w->failure[0])
		return;
	snprintf(replay, sizeof(replay), "seed=%llu", (unsigned long long)seed);
	snprintf(name, sizeof(name), "%s", w->area->name);
	report(w, name, replay);
	for (uint32_t i = 0; i < w->actors; i++) {
		printf("      fiber %u runs", i);
		for (uint32_t k = 0; k < w->program_count[i]; k++)
			printf(" %s", w->program[i][k]->name);
		printf("\n");
	}
}

/* ---- replay ---- */

void explore_replay(struct world *w, const char *moves, const char *name)
{
	struct plan plan = {.count = 0};

	while (*moves && plan.count < MOVES_MAX) {
		unsigned step, to;
		char kind;
		int used;

		if (sscanf(moves, "%u%c%u%n", &step, &kind, &to, &used) != 3 || (kind != '>' && kind != 'x')) {
			fprintf(stderr, "not a schedule: %s\n", moves);
			exit(2);
		}
		plan.moves[plan.count++] = (struct move){step, kind == 'x', (uint8_t)to};
		moves += used;
		if (*moves == ',')
			moves++;
	}
	run(w, &plan, 1);
	totals->schedules++;
	totals->crashes += w->deaths;
	if (w->failure[0])
		report(w, name, NULL);
	else if (w->area->kind != SPEC_NONE)
		linear_print(&w->v.history, stdout);
}
