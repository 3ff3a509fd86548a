/* SPDX-License-Identifier: MIT */
/*
 * Fibers on stacks of their own, and who goes on at each access to shared memory.
 *
 * shm/atomic.h calls sched_point() before each access.  Outside a run, and for the main stack, it returns at once.
 * An access from the same place in the code as the last two of this fiber is no new step: loops over hints, slots and
 * flags would only make schedules longer.
 *
 * A fiber is entered with makecontext() and from then on left and entered with _setjmp() and _longjmp(), which make no
 * system call.  A killed fiber is simply never entered again.
 *
 * sched_point() has no argument, so who runs is file-scope state.
 */
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "interleave.h"

#define STACK_BYTES (512u << 10)
#define SAME_PLACE_MAX 2u

struct fiber {
	jmp_buf where;
	ucontext_t entry;
	char *stack;
	int started;
	const void *place;
	uint32_t repeats;
};

static struct {
	struct world *w;	/* NULL: no run */
	const struct plan *plan;
	struct fiber fiber[FIBERS];
	jmp_buf end;
	uint32_t running;	/* FIBERS: the main stack */
	uint32_t next_move;
	uint32_t solo;
	uint8_t priority[FIBERS];
	uint8_t lowest;
} now = {.running = FIBERS};

static uint32_t enabled_mask(const struct world *w)
{
	uint32_t mask = 0;

	for (uint32_t i = 0; i < FIBERS; i++)
		if (w->state[i] == FIBER_READY)
			mask |= 1u << i;
	return mask;
}

static void fiber_main(void)
{
	struct world *w = now.w;
	uint32_t me = now.running;

	world_act(w, me);
	now.w->state[me] = FIBER_DONE;
	now.running = FIBERS;
	sched_point();	/* who is next? */
	abort();
}

static __attribute__((noreturn)) void enter(uint32_t to)
{
	struct fiber *f = &now.fiber[to];

	now.running = to;
	now.solo = 0;
	if (f->started)
		_longjmp(f->where, 1);
	f->started = 1;
	getcontext(&f->entry);
	f->entry.uc_stack.ss_sp = f->stack;
	f->entry.uc_stack.ss_size = STACK_BYTES;
	f->entry.uc_link = NULL;
	makecontext(&f->entry, fiber_main, 0);
	setcontext(&f->entry);
	abort();
}

static __attribute__((noinline)) void leave_for(uint32_t from, uint32_t to)
{
	if (from >= FIBERS || !_setjmp(now.fiber[from].where))
		enter(to);
}

static uint32_t first_of(uint32_t mask)
{
	return (uint32_t)__builtin_ctz(mask);
}

static uint32_t highest(uint32_t mask)
{
	uint32_t best = first_of(mask);

	for (uint32_t i = 0; i < FIBERS; i++)
		if (mask & 1u << i && now.priority[i] > now.priority[best])
			best = i;
	return best;
}

/* The decision by priorities: kill in *kill, and who goes on (given that the running one may be gone). */
static int pct_kill(const struct world *w, uint32_t step)
{
	const struct plan *p = now.plan;

	return now.running < FIBERS && w->deaths < RECOVERERS && (step == p->kill_at[0] || step == p->kill_at[1]);
}

static void pct_change(uint32_t step)
{
	for (uint32_t i = 0; i < 4; i++)
		if (now.plan->change_at[i] == step && now.running < FIBERS && now.lowest)
			now.priority[now.running] = --now.lowest;
}

static void note_move(struct world *w, uint32_t step, int kill, uint32_t to)
{
	if (w->moves_done < sizeof(w->done) / sizeof(*w->done))
		w->done[w->moves_done++] = (struct move){step, (uint8_t)kill, (uint8_t)to};
}

static void kill_running(struct world *w)
{
	world_kill(w, now.running);
	w->state[now.running] = FIBER_DEAD;
	if (w->deaths < RECOVERERS)
		w->state[ACTORS_MAX + w->deaths] = FIBER_READY;
	w->deaths++;
	now.running = FIBERS;
}

static __attribute__((noreturn)) void stop(void)
{
	now.running = FIBERS;
	_longjmp(now.end, 1);
}

void sched_point(void)
{
	struct world *w = now.w;
	uint32_t from = now.running, to = from, step, mask;
	int kill = 0;

	if (!w)
		return;
	if (from < FIBERS) {
		struct fiber *f = &now.fiber[from];
		const void *place = __builtin_return_address(0);

		if (++now.solo > SOLO_MAX) {
			world_fail(w, "fiber %u makes %u accesses without an end: it waits for another one", from,
				   SOLO_MAX);
			stop();
		}
		f->repeats = place == f->place ? f->repeats + 1 : 0;
		f->place = place;
		if (f->repeats > SAME_PLACE_MAX) {
			/* A loop in which others may have to act: let them, in turn, after a while. */
			if (f->repeats % 4000 || !w->area->may_wait)
				return;
			f->repeats = 0;
		}
	}
	mask = enabled_mask(w);
	if (!mask)
		stop();
	step = w->steps++;
	if (step >= STEPS_MAX) {
		world_fail(w, "no end after %u steps", step);
		stop();
	}
	w->step[step] = (struct step){(uint8_t)from, (uint8_t)mask};
	if (now.plan->pct) {
		kill = pct_kill(w, step);
		if (kill) {
			kill_running(w);
			mask = enabled_mask(w);
		} else {
			pct_change(step);
		}
		to = highest(mask);
		if (to != from || kill)
			note_move(w, step, kill, to);
	} else {
		const struct move *m = now.next_move < now.plan->count ? &now.plan->moves[now.next_move] : NULL;

		if (from >= FIBERS)
			to = first_of(mask);
		else if (now.solo > 8000 && w->area->may_wait && mask & ~(1u << from))
			to = first_of(mask & ~(1u << from));
		if (m && m->step == step) {
			now.next_move++;
			kill = m->kill && from < FIBERS;
			if (kill)
				kill_running(w);
			mask = enabled_mask(w);
			to = mask & 1u << m->to ? m->to : first_of(mask);
			note_move(w, step, kill, to);
		}
	}
	if (!mask)
		stop();
	if (to != from || kill)
		leave_for(kill ? FIBERS : from, to);
}

void fiber_run(struct world *w, const struct plan *plan)
{
	for (uint32_t i = 0; i < FIBERS; i++) {
		if (!now.fiber[i].stack) {
			now.fiber[i].stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
						  MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
			REQUIRE(now.fiber[i].stack != MAP_FAILED);
			MUST(mprotect(now.fiber[i].stack, 4096, PROT_NONE));
		}
		now.fiber[i].started = 0;
		now.fiber[i].place = NULL;
		now.fiber[i].repeats = 0;
		w->state[i] = i < w->actors ? FIBER_READY : FIBER_OFF;
	}
	w->deaths = w->steps = w->moves_done = w->who_died = 0;
	w->failure[0] = 0;
	now.plan = plan;
	now.next_move = 0;
	now.solo = 0;
	now.lowest = 10;
	memcpy(now.priority, plan->priority, sizeof(now.priority));
	now.running = FIBERS;
	now.w = w;
	if (!_setjmp(now.end))
		sched_point();
	now.w = NULL;
}

/* Let the others go on, if there are any. */
void fiber_yield(void)
{
	struct world *w = now.w;
	uint32_t from = now.running, mask, above;

	if (!w || from >= FIBERS)
		return;
	mask = enabled_mask(w) & ~(1u << from);
	above = mask >> (from + 1) << (from + 1);
	if (mask)
		leave_for(from, first_of(above ? above : mask));
}
