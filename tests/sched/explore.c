/* SPDX-License-Identifier: MIT */
/*
 * Single runs: drawn ones and given ones.
 *
 * Random (probabilistic concurrency testing, Burckhardt et al. 2010): random programs, random priorities, d - 1 steps at
 * which the running fiber falls behind all others, and perhaps a death or two.
 */
#include "interleave.h"

static uint32_t highest(const uint32_t *priority, uint32_t mask)
{
	uint32_t best = (uint32_t)__builtin_ctz(mask);

	for (uint32_t i = 0; i < FIBERS; i++)
		if (mask & 1u << i && priority[i] > priority[best])
			best = i;
	return best;
}

/* It falls behind all others, however often: of three who wait for one another, somebody must come to run. */
static void fall_behind(uint32_t *priority, uint32_t *lowest, uint32_t who)
{
	if (*lowest == 1) {
		for (uint32_t i = 0; i < FIBERS; i++)
			priority[i] += 1000;
		*lowest += 1000;
	}
	priority[who] = --*lowest;
}

/* The first step behind `steps` at which the plan has something to do. */
static uint32_t next_stop(const struct plan *p, uint32_t next_move, uint32_t steps)
{
	uint32_t at = UINT32_MAX;

	if (!p->pct)
		return next_move < p->count ? p->moves[next_move].step : UINT32_MAX;
	for (uint32_t i = 0; i < 4; i++)
		if (p->change_at[i] > steps && p->change_at[i] < at)
			at = p->change_at[i];
	for (uint32_t i = 0; i < 2; i++)
		if (p->kill_at[i] > steps && p->kill_at[i] < at)
			at = p->kill_at[i];
	return at;
}

static void run(struct world *w, const struct plan *p)
{
	uint32_t from = NOBODY, next = 0, priority[FIBERS], lowest = 10;
	enum stop why = STOP_END;

	memory_back_to(0, 0, 0);
	fiber_begin(w, 0);
	for (uint32_t i = 0; i < FIBERS; i++)
		priority[i] = p->priority[i];
	memcpy(w->done, p->moves, sizeof(w->done));
	w->moves_done = p->count;
	while (!w->failure[0] && (fiber_ready(w) || (!p->pct && next < p->count && p->moves[next].step == w->steps))) {
		uint32_t mask = fiber_ready(w), to = from, kill = NOBODY;

		if (w->steps > STEPS_MAX) {
			world_fail(w, "no end after %u steps", w->steps);
			break;
		}
		if (p->pct) {
			if (why == STOP_YIELD)
				fall_behind(priority, &lowest, from);
			for (uint32_t i = 0; i < 4; i++)
				if (why == STOP_ACCESS && p->change_at[i] == w->steps)
					fall_behind(priority, &lowest, from);
			if (why == STOP_ACCESS && w->deaths < RECOVERERS &&
			    (p->kill_at[0] == w->steps || p->kill_at[1] == w->steps))
				kill = from;
		} else if (next < p->count && p->moves[next].step == w->steps) {
			kill = p->moves[next].kill;
			to = p->moves[next++].to;
		} else if (why == STOP_YIELD) {
			uint32_t others = mask & ~(1u << from), above = others >> (from + 1) << (from + 1);

			to = others ? (uint32_t)__builtin_ctz(above ? above : others) : from;
		} else if (why != STOP_ACCESS) {
			to = NOBODY;
		}
		if (kill != NOBODY && w->deaths < RECOVERERS && w->state[kill] != FIBER_OFF)
			fiber_kill(w, kill);
		mask = fiber_ready(w);
		if (p->pct)
			to = highest(priority, mask);
		else if (to >= FIBERS || !(mask & 1u << to))
			to = (uint32_t)__builtin_ctz(mask);
		from = to;
		why = fiber_resume(to, next_stop(p, next, w->steps));
	}
	world_verify(w);
	__atomic_fetch_add(&totals->schedules, 1, __ATOMIC_RELAXED);
	if (w->deaths)
		__atomic_fetch_add(&totals->crashes, 1, __ATOMIC_RELAXED);
	if (w->steps > totals->longest_run)
		totals->longest_run = w->steps;
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
	length = 100u << next_random(&s) % 5;
	for (uint32_t i = 0; i < 1 + next_random(&s) % 4; i++)
		plan.change_at[i] = (uint32_t)(next_random(&s) % length);
	dice = (uint32_t)(next_random(&s) % 10);
	if (dice < 6)
		plan.kill_at[0] = (uint32_t)(next_random(&s) % length);
	if (dice < 2)
		plan.kill_at[1] = plan.kill_at[0] + 1 + (uint32_t)(next_random(&s) % 400);
	run(w, &plan);
	if (!w->failure[0])
		return;
	snprintf(replay, sizeof(replay), "seed=%llu", (unsigned long long)seed);
	snprintf(name, sizeof(name), "%s", w->area->name);
	report_failure(w, name, replay);
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
	static struct plan plan;

	while (*moves && plan.count < MOVES_MAX) {
		unsigned step, to, kill = NOBODY;
		int used = 0;

		if (sscanf(moves, "%u>%u%n", &step, &to, &used) != 2 || !used) {
			if (sscanf(moves, "%ux%u>%u%n", &step, &kill, &to, &used) != 3 || !used) {
				fprintf(stderr, "not a schedule: %s\n", moves);
				exit(2);
			}
		}
		plan.moves[plan.count++] = (struct move){step, (uint8_t)kill, (uint8_t)to};
		moves += used;
		if (*moves == ',')
			moves++;
	}
	run(w, &plan);
	if (w->failure[0])
		report_failure(w, name, NULL);
	else if (w->area->kind != SPEC_NONE)
		linear_print(&w->v.history, stdout);
}
