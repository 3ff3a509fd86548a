/* SPDX-License-Identifier: MIT */
/*
 * Fibers on stacks of their own.  Who runs next is decided on the main stack: a fiber that may be left goes there, and says
 * why; it goes on when it is resumed, or never.
 *
 * All that a suspended fiber is, is on its stack, its registers included.  So a copy of the stack from the top down to where
 * it stopped can take it back to that moment, again and again, and a hash of it tells whether two moments are alike.  What
 * lies further down is left over from calls that have returned; it is made zero, for frames that are put there later have
 * gaps, which the hash sees.
 */
#include <sys/mman.h>

#include "interleave.h"

#define STACK_BYTES (256u << 10)
#define BELOW_BYTES 3072u

struct fiber {
	char *stack;
	void *at;	/* its stack pointer, while it does not run */
};

static struct {
	struct world *w;
	struct fiber fiber[FIBERS];
	void *main_at;
	uint32_t running;	/* FIBERS: the main stack */
	enum stop stop;
	uint32_t stop_at;	/* when replaying or drawing: the step to stop before */
	int exploring;
	int switches, deaths;	/* stop where they matter */
	uint32_t solo;
} now = {.running = FIBERS};

/*
 * Save what a call must preserve on this stack, note the stack pointer in *save, go on with the stack `to`.
 */
void fiber_swap(void **save, void *to);

#if defined(__x86_64__)
__asm__(".text\n.globl fiber_swap\n.type fiber_swap, @function\nfiber_swap:\n"
	"\tpushq %rbp\n\tpushq %rbx\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n"
	"\tmovq %rsp, (%rdi)\n\tmovq %rsi, %rsp\n"
	"\tpopq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbx\n\tpopq %rbp\n\tret\n"
	".size fiber_swap, .-fiber_swap\n");
#define SAVED_WORDS 7u	/* with the address to return to, which is the last */
#define RETURN_WORD 6u
#define START_PAD 3u	/* words above it, so that the function that is returned to finds its stack as if called */
#elif defined(__aarch64__)
__asm__(".text\n.globl fiber_swap\n.type fiber_swap, %function\nfiber_swap:\n"
	"\tsub sp, sp, #160\n"
	"\tstp x19, x20, [sp, #0]\n\tstp x21, x22, [sp, #16]\n\tstp x23, x24, [sp, #32]\n\tstp x25, x26, [sp, #48]\n"
	"\tstp x27, x28, [sp, #64]\n\tstp x29, x30, [sp, #80]\n"
	"\tstp d8, d9, [sp, #96]\n\tstp d10, d11, [sp, #112]\n\tstp d12, d13, [sp, #128]\n\tstp d14, d15, [sp, #144]\n"
	"\tmov x9, sp\n\tstr x9, [x0]\n\tmov sp, x1\n"
	"\tldp x19, x20, [sp, #0]\n\tldp x21, x22, [sp, #16]\n\tldp x23, x24, [sp, #32]\n\tldp x25, x26, [sp, #48]\n"
	"\tldp x27, x28, [sp, #64]\n\tldp x29, x30, [sp, #80]\n"
	"\tldp d8, d9, [sp, #96]\n\tldp d10, d11, [sp, #112]\n\tldp d12, d13, [sp, #128]\n\tldp d14, d15, [sp, #144]\n"
	"\tadd sp, sp, #160\n\tret\n"
	".size fiber_swap, .-fiber_swap\n");
#define SAVED_WORDS 20u
#define RETURN_WORD 11u
#define START_PAD 2u
#else
#error "fiber_swap() has not been written for this processor"
#endif

uint32_t fiber_running(void)
{
	return now.running;
}

static void stop(enum stop why)
{
	now.stop = why;
	fiber_swap(&now.fiber[now.running].at, now.main_at);
}

static void fiber_main(void)
{
	for (;;) {
		world_act(now.w, now.running);
		stop(STOP_END);
	}
}

/* An access of the running fiber to shared memory is next. */
void fiber_step(int conflict, int ordered, int lock)
{
	struct world *w = now.w;

	if (!w || now.running >= FIBERS)
		return;
	w->steps++;
	if (++now.solo > SOLO_MAX) {
		world_fail(w, "fiber %u makes %u accesses without an end: it waits for another one", now.running, SOLO_MAX);
		stop(STOP_FAILED);
		abort();
	}
	if (!now.exploring) {
		if (w->steps == now.stop_at)
			stop(STOP_ACCESS);
		return;
	}
	w->may_die = now.deaths && ordered && memory_changes() != w->looked_at[now.running];
	w->may_switch = conflict && now.switches;
	w->at_lock = now.deaths && lock && conflict;
	/* Where nobody may go on instead, too: perhaps all has been like this before. */
	if (conflict || w->may_die)
		stop(STOP_ACCESS);
}

/* The running fiber waits for others. */
void fiber_yield(void)
{
	if (!now.w || now.running >= FIBERS)
		return;
	now.w->steps++;
	now.w->may_die = now.deaths && memory_changes() != now.w->looked_at[now.running];
	stop(STOP_YIELD);
}

static void start(struct fiber *f)
{
	void **top;

	if (!f->stack) {
		f->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
		REQUIRE(f->stack != MAP_FAILED);
		MUST(mprotect(f->stack, 4096, PROT_NONE));
	}
	memset(f->stack + STACK_BYTES - 16384, 0, 16384);
	top = (void **)(void *)(f->stack + STACK_BYTES) - 1 - START_PAD;
	f->at = top - SAVED_WORDS + 1;
	((void **)f->at)[RETURN_WORD] = (void *)(uintptr_t)fiber_main;
}

void fiber_begin(struct world *w, int exploring)
{
	now.w = w;
	now.exploring = exploring;
	now.switches = now.deaths = 0;
	for (uint32_t i = 0; i < FIBERS; i++) {
		start(&now.fiber[i]);
		w->state[i] = i < w->actors ? FIBER_READY : FIBER_OFF;
		w->looked_at[i] = 0;
		w->spin[i] = (struct spin){0, 0, 0};
		w->line[i] = i < ACTORS_MAX ? i : 0;
	}
	w->deaths = w->steps = w->moves_done = w->who_died = w->yielded = 0;
	w->failure[0] = 0;
	now.running = FIBERS;
}

void fiber_look_for(int switches, int deaths)
{
	now.switches = switches;
	now.deaths = deaths;
}

uint32_t fiber_unfinished(const struct world *w)
{
	uint32_t mask = 0;

	for (uint32_t i = 0; i < FIBERS; i++)
		if (w->state[i] == FIBER_READY)
			mask |= 1u << i;
	return mask;
}

uint32_t fiber_awake(const struct world *w)
{
	const uint64_t *sleeper = standins_sleepers();
	uint32_t mask = fiber_unfinished(w);

	for (uint32_t i = 0; i < FIBERS; i++)
		if (sleeper[i] > TIME_OVER)
			mask &= ~(1u << i);
	return mask;
}

uint32_t fiber_ready(const struct world *w)
{
	uint32_t awake = fiber_awake(w);

	return awake ? awake : fiber_unfinished(w);
}

enum stop fiber_resume(uint32_t fiber, uint32_t stop_at)
{
	struct fiber *f = &now.fiber[fiber];
	uint64_t changes = memory_changes();
	struct world *w = now.w;

	if (standins_sleepers()[fiber] > TIME_OVER) {
		memory_line(w->line[fiber]);
		standins_time_over(fiber);
		memory_line(NOBODY);
	}
	now.stop_at = stop_at;
	now.solo = 0;
	now.running = fiber;
	memory_running(fiber, f->stack, STACK_BYTES);
	fiber_swap(&now.main_at, f->at);
	now.running = FIBERS;
	memory_main();
	/* What was left to look at before this fiber wrote. */
	for (uint32_t i = 0; i < FIBERS; i++)
		if (i != fiber)
			w->looked_at[i] += memory_changes() - changes;
	if (memory_changes() != changes)
		w->yielded = 0;
	if (now.stop == STOP_END) {
		w->steps++;
		w->state[fiber] = FIBER_DONE;
		w->may_die = now.deaths && memory_changes() != w->looked_at[fiber];
	}
	if (now.stop == STOP_YIELD && fiber_awake(w) & 1u << fiber)
		w->yielded |= 1u << fiber;
	memset((char *)f->at - BELOW_BYTES, 0, BELOW_BYTES);
	return now.stop;
}

uint32_t fiber_kill(struct world *w, uint32_t fiber)
{
	uint32_t recoverer = ACTORS_MAX + w->deaths;

	REQUIRE(w->deaths < RECOVERERS);
	memory_line(w->line[fiber]);
	world_kill(w, fiber);
	memory_line(NOBODY);
	w->state[fiber] = FIBER_DEAD;
	start(&now.fiber[recoverer]);
	w->state[recoverer] = FIBER_READY;
	w->line[recoverer] = w->line[fiber];
	w->looked_at[recoverer] = memory_changes();
	w->spin[recoverer] = (struct spin){0, 0, 0};
	w->deaths++;
	return recoverer;
}

/* ---- images ---- */

uint32_t fiber_image_bytes(uint32_t fiber)
{
	return (uint32_t)(now.fiber[fiber].stack + STACK_BYTES - (char *)now.fiber[fiber].at);
}

void fiber_save(uint32_t fiber, void *image)
{
	memcpy(image, now.fiber[fiber].at, fiber_image_bytes(fiber));
}

void fiber_load(uint32_t fiber, const void *image, uint32_t bytes)
{
	struct fiber *f = &now.fiber[fiber];

	f->at = f->stack + STACK_BYTES - bytes;
	memcpy(f->at, image, bytes);
	memset((char *)f->at - BELOW_BYTES, 0, BELOW_BYTES);
}

uint64_t fiber_hash(uint32_t fiber)
{
	const uint64_t *word = now.fiber[fiber].at;
	uint32_t words = fiber_image_bytes(fiber) / 8;
	uint64_t lane[4] = {words, fiber, 2, 3}, sum = 0;

	for (uint32_t i = 0; i + 4 <= words; i += 4)
		for (uint32_t k = 0; k < 4; k++) {
			lane[k] = (lane[k] ^ word[i + k]) * 0x9e3779b97f4a7c15ull;
			lane[k] ^= lane[k] >> 32;
		}
	for (uint32_t i = words & ~3u; i < words; i++)
		lane[i & 3] = (lane[i & 3] ^ word[i]) * 0xd6e8feb86659fd93ull;
	for (uint32_t k = 0; k < 4; k++) {
		sum = (sum ^ lane[k]) * 0xd6e8feb86659fd93ull;
		sum ^= sum >> 29;
	}
	return sum;
}
