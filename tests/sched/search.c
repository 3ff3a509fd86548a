/* SPDX-License-Identifier: MIT */
/*
 * All schedules of a pair of operations, up to a number of preemptions (or any) and of deaths.
 *
 * Depth first over the *states* of the pair: what memory holds, what is left of each fiber, the history so far.  A state that
 * was met before, with no fewer preemptions left, is not gone on from again.  From a state with several ways on, the first is
 * taken; later memory is undone to it and the stacks are put back, and the next is taken.  So a schedule costs what it adds.
 *
 * Where a fiber may be left (README.md has the argument for it): before an access to a word in conflict, when it ends, when
 * it waits.  Where it may die: before an ordered access, or at its end or wait, if it has changed something since the last
 * such place; a fiber that does not run, before another one asks for its lock.
 *
 * Which words are in conflict is found out by running: if there are more of them than when the level began, it begins again.
 */
#include <time.h>

#include "interleave.h"

struct totals *totals;

#define OPTIONS_MAX 24u
#define STATES_MAX (1u << 25)
#define FINISH 254u

struct option {
	uint8_t kill, to;
};

struct frame {
	uint32_t mark, steps, moves, deaths, who_died, yielded;
	uint64_t hash, changes;
	enum fiber_state state[FIBERS];
	uint32_t line[FIBERS];
	uint64_t looked_at[FIBERS];
	uint32_t image[FIBERS], images;	/* which copy of each; how many copies lie below this frame's own */
	uint64_t fiber_hash[FIBERS];
	uint32_t from, preemptions_left, deaths_left;
	enum stop why;
	int forced;	/* leaving the fiber is no preemption */
	struct spin spin[FIBERS];
	struct option option[OPTIONS_MAX];
	uint32_t options, next;
};

struct image {
	char *bytes;
	uint32_t used, room;
};

#define NO_IMAGE UINT32_MAX

static struct {
	struct frame *frame;
	uint32_t frames, frames_room;
	struct image *image;
	uint32_t images, images_room;
	uint32_t loaded[FIBERS];	/* the copy that the fiber's stack is equal to */
	uint64_t fiber_hash[FIBERS];
	uint64_t *seen;
	uint8_t *seen_left;
	uint32_t seen_count, seen_size;
	uint64_t ends, ends_sum;
	int full;
} s;

double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
	a = (a ^ b) * 0x9e3779b97f4a7c15ull;
	a = (a ^ a >> 32) * 0xd6e8feb86659fd93ull;
	return (a ^ a >> 29) + b;
}

/* ---- states met before ---- */

static void seen_clear(void)
{
	if (!s.seen_size || s.seen_size > 1u << 16) {
		free(s.seen);
		free(s.seen_left);
		s.seen_size = 1u << 12;
		s.seen = malloc(s.seen_size * sizeof(*s.seen));
		s.seen_left = malloc(s.seen_size);
		REQUIRE(s.seen && s.seen_left);
	}
	memset(s.seen, 0, s.seen_size * sizeof(*s.seen));
	s.seen_count = 0;
	s.full = 0;
}

static uint32_t seen_place(uint64_t key)
{
	uint32_t at = (uint32_t)(key >> 20) & (s.seen_size - 1);

	while (s.seen[at] && s.seen[at] != key)
		at = (at + 1) & (s.seen_size - 1);
	return at;
}

static void seen_grow(void)
{
	uint64_t *old = s.seen;
	uint8_t *left = s.seen_left;
	uint32_t size = s.seen_size;

	s.seen_size *= 2;
	s.seen = calloc(s.seen_size, sizeof(*s.seen));
	s.seen_left = malloc(s.seen_size);
	REQUIRE(s.seen && s.seen_left);
	for (uint32_t i = 0; i < size; i++)
		if (old[i]) {
			uint32_t at = seen_place(old[i]);

			s.seen[at] = old[i];
			s.seen_left[at] = left[i];
		}
	free(old);
	free(left);
}

/* 1: met before with as many preemptions left. */
static int seen(uint64_t key, uint32_t left)
{
	uint32_t at;

	key |= !key;
	at = seen_place(key);
	if (s.seen[at]) {
		if (s.seen_left[at] >= left)
			return 1;
		s.seen_left[at] = (uint8_t)left;
		return 0;
	}
	if (s.seen_count >= STATES_MAX) {
		s.full = 1;
		return 0;
	}
	s.seen[at] = key;
	s.seen_left[at] = (uint8_t)left;
	if (++s.seen_count * 2 > s.seen_size)
		seen_grow();
	return 0;
}

/* Of each event what it is, what came of it, and which ended before it began: all that its clock is good for. */
static uint64_t history_hash(const struct history *h, int order)
{
	uint32_t id[EVENTS_MAX], seq[FIBERS] = {0};
	uint64_t sum = 0;

	for (uint32_t i = 0; i < h->count; i++) {
		const struct event *e = &h->event[i];
		uint64_t x = id[i] = e->fiber * 8u + (seq[e->fiber]++ & 7);
		uint64_t before = 0;

		for (uint32_t k = 0; order && k < i; k++)
			if (h->event[k].end < e->begin)
				before |= 1ull << id[k];
		x = mix(x, e->op | (uint64_t)e->pending << 8 | (uint64_t)e->a << 16 | (uint64_t)e->b << 24 |
				   (uint64_t)e->blind << 32 | (uint64_t)(e->end != NOT_ENDED) << 33);
		x = mix(x, (uint32_t)e->arg | (uint64_t)(uint32_t)e->expected << 32);
		x = mix(x, (uint32_t)e->ret | (uint64_t)(uint32_t)e->result << 32);
		sum += mix(x, before);
	}
	return sum;
}

static uint64_t state_key(struct world *w, uint32_t from, enum stop why, uint32_t deaths_left)
{
	uint64_t key = mix(memory_hash(), history_hash(&w->v.history, 1)), rest = 0;

	for (uint32_t f = 0; f < FIBERS; f++) {
		rest = rest << 4 | (uint64_t)w->state[f] << 2 | w->line[f];
		if (w->state[f] == FIBER_READY)
			key = mix(key, s.fiber_hash[f] + f * 4u + w->spin[f].repeats);
		if (deaths_left && (w->state[f] == FIBER_READY || f == from) && memory_changes() != w->looked_at[f])
			rest |= 1ull << (40 + f);
	}
	key = mix(key, rest << 8 | w->yielded);
	return mix(key, (uint64_t)from | (uint64_t)why << 8 | (uint64_t)deaths_left << 16 |
				(uint64_t)(w->may_switch + 2 * w->may_die + 4 * w->at_lock) << 24);
}

/* ---- ends ---- */

static void note_move(struct world *w, uint32_t kill, uint32_t to)
{
	if (w->moves_done < MOVES_MAX)
		w->done[w->moves_done++] = (struct move){w->steps, (uint8_t)kill, (uint8_t)to};
}

void report_failure(struct world *w, const char *name, const char *replay)
{
	static char line[MOVES_MAX * 12 + 1400];
	size_t used = (size_t)snprintf(line, sizeof(line), "FAILED %s: %s\n    replay: sched --replay '%s:", name,
				       w->failure, name);

	if (replay) {
		used += (size_t)snprintf(line + used, sizeof(line) - used, "%s", replay);
	} else {
		for (uint32_t i = 0; i < w->moves_done && used < sizeof(line) - 40; i++) {
			const struct move *m = &w->done[i];

			used += (size_t)snprintf(line + used, sizeof(line) - used, "%s%u", i ? "," : "", m->step);
			if (m->kill != NOBODY)
				used += (size_t)snprintf(line + used, sizeof(line) - used, "x%u", m->kill);
			used += (size_t)snprintf(line + used, sizeof(line) - used, ">%u", m->to);
		}
	}
	printf("%s'\n", line);
	if (w->area->kind != SPEC_NONE)
		linear_print(&w->v.history, stdout);
	fflush(stdout);
	__atomic_fetch_add(&totals->failures, 1, __ATOMIC_RELAXED);
}

/* Everybody has ended.  Memory and history are left as they are found.  1: something is wrong. */
static int end_of_run(struct world *w, const char *name)
{
	uint64_t key = mix(mix(memory_hash(), history_hash(&w->v.history, 1)), w->who_died + 77), hash, changes;
	static struct history before;
	uint32_t mark;
	int failed;

	__atomic_fetch_add(&totals->schedules, 1, __ATOMIC_RELAXED);
	if (w->deaths)
		__atomic_fetch_add(&totals->crashes, 1, __ATOMIC_RELAXED);
	if (w->steps > totals->longest_run)
		totals->longest_run = w->steps;
	if (seen(key, UNBOUNDED))
		return 0;
	key = mix(mix(memory_hash(), history_hash(&w->v.history, 0)), w->who_died + 78);
	if (!seen(key, UNBOUNDED)) {
		s.ends++;
		s.ends_sum += key;
	}
	mark = memory_mark();
	hash = memory_hash();
	changes = memory_changes();
	before = w->v.history;
	world_verify(w);
	failed = w->failure[0] != 0;
	if (failed)
		report_failure(w, name, NULL);
	w->failure[0] = 0;
	memory_back_to(mark, hash, changes);
	w->v.history = before;
	return failed;
}

/* ---- ways on ---- */

static void add(struct frame *f, uint32_t kill, uint32_t to)
{
	REQUIRE(f->options < OPTIONS_MAX);
	f->option[f->options++] = (struct option){(uint8_t)kill, (uint8_t)to};
}

static void ways_on(struct world *w, struct frame *f, enum stop why)
{
	uint32_t mask = fiber_ready(w), others = mask & ~(1u << f->from), alive = others & fiber_awake(w), awake;

	/* Of those who all wait, the time of any may be over first. */
	if (why == STOP_YIELD && !alive)
		others = mask;
	awake = others & ~w->yielded;
	f->options = f->next = 0;
	f->why = why;
	f->forced = why != STOP_ACCESS || f->from == NOBODY;
	if (f->from == NOBODY) {
		awake = mask;
	} else if (why == STOP_ACCESS) {
		add(f, NOBODY, f->from);
		if (!w->may_switch || !f->preemptions_left)
			awake = 0;
	} else {
		if (!awake)
			awake = others ? others : mask;
		if (!awake)
			add(f, NOBODY, FINISH);
	}
	if (f->from != NOBODY && w->may_die && f->deaths_left && w->deaths < RECOVERERS) {
		for (uint32_t to = 0; to < FIBERS; to++)
			if (alive & 1u << to || to == ACTORS_MAX + w->deaths)
				add(f, f->from, to);
		w->looked_at[f->from] = memory_changes();
	}
	if (why == STOP_ACCESS && w->at_lock && f->deaths_left && w->deaths < RECOVERERS)
		for (uint32_t i = 0; i < FIBERS; i++)
			if (i != f->from && (w->state[i] == FIBER_READY || (i < ACTORS_MAX && w->state[i] == FIBER_DONE)))
				add(f, i, f->from);
	for (uint32_t to = 0; to < FIBERS; to++)
		if (awake & 1u << to)
			add(f, NOBODY, to);
}

/* ---- frames ---- */

static struct image *new_image(void)
{
	if (s.images == s.images_room) {
		uint32_t was = s.images_room;

		s.images_room = was ? 2 * was : 64;
		s.image = realloc(s.image, s.images_room * sizeof(*s.image));
		REQUIRE(s.image);
		memset(s.image + was, 0, (s.images_room - was) * sizeof(*s.image));
	}
	return &s.image[s.images++];
}

static void save(struct world *w, struct frame *f)
{
	f->images = s.images;
	for (uint32_t i = 0; i < FIBERS; i++) {
		struct image *image;
		uint32_t bytes;

		if (w->state[i] != FIBER_READY || s.loaded[i] != NO_IMAGE)
			continue;
		s.loaded[i] = s.images;
		image = new_image();
		bytes = fiber_image_bytes(i);
		if (image->room < bytes) {
			free(image->bytes);
			image->room = bytes + 1024;
			image->bytes = malloc(image->room);
			REQUIRE(image->bytes);
		}
		image->used = bytes;
		fiber_save(i, image->bytes);
	}
	memcpy(f->image, s.loaded, sizeof(f->image));
	memcpy(f->fiber_hash, s.fiber_hash, sizeof(f->fiber_hash));
	memcpy(f->state, w->state, sizeof(f->state));
	memcpy(f->line, w->line, sizeof(f->line));
	memcpy(f->looked_at, w->looked_at, sizeof(f->looked_at));
	memcpy(f->spin, w->spin, sizeof(f->spin));
	f->mark = memory_mark();
	f->hash = memory_hash();
	f->changes = memory_changes();
	f->steps = w->steps;
	f->moves = w->moves_done;
	f->deaths = w->deaths;
	f->who_died = w->who_died;
	f->yielded = w->yielded;
}

static void restore(struct world *w, const struct frame *f)
{
	memory_back_to(f->mark, f->hash, f->changes);
	memcpy(s.fiber_hash, f->fiber_hash, sizeof(f->fiber_hash));
	memcpy(w->state, f->state, sizeof(f->state));
	memcpy(w->line, f->line, sizeof(f->line));
	memcpy(w->looked_at, f->looked_at, sizeof(f->looked_at));
	memcpy(w->spin, f->spin, sizeof(f->spin));
	w->steps = f->steps;
	w->moves_done = f->moves;
	w->deaths = f->deaths;
	w->who_died = f->who_died;
	w->yielded = f->yielded;
	for (uint32_t i = 0; i < FIBERS; i++)
		if (w->state[i] == FIBER_READY && s.loaded[i] != f->image[i]) {
			fiber_load(i, s.image[f->image[i]].bytes, s.image[f->image[i]].used);
			s.loaded[i] = f->image[i];
		}
}

static struct frame *push(void)
{
	if (s.frames == s.frames_room) {
		s.frames_room = s.frames_room ? 2 * s.frames_room : 256;
		s.frame = realloc(s.frame, s.frames_room * sizeof(*s.frame));
		REQUIRE(s.frame);
	}
	return &s.frame[s.frames++];
}

/* A copy that is given up must not be taken for a fiber's. */
static void drop_images(uint32_t down_to)
{
	s.images = down_to;
	for (uint32_t i = 0; i < FIBERS; i++)
		if (s.loaded[i] != NO_IMAGE && s.loaded[i] >= down_to)
			s.loaded[i] = NO_IMAGE;
}

/* ---- the search ---- */

struct now {
	uint32_t from, preemptions_left, deaths_left;
	enum stop why;
};

/* Do what the option says, and run until something is to be decided; 0: that was the end. */
static int go(struct world *w, struct now *n, const struct frame *f, struct option o)
{
	uint32_t usual = NOBODY;

	if (o.to == FINISH)
		return 0;
	n->preemptions_left = f->preemptions_left;
	n->deaths_left = f->deaths_left;
	if (o.kill != NOBODY) {
		uint32_t recoverer = fiber_kill(w, o.kill);

		s.loaded[recoverer] = NO_IMAGE;
		s.fiber_hash[recoverer] = fiber_hash(recoverer);
		n->deaths_left--;
	} else if (!f->forced && o.to != f->from && n->preemptions_left != UNBOUNDED) {
		n->preemptions_left--;
	}
	if (f->why == STOP_ACCESS && f->from != NOBODY)
		usual = f->from;
	else if (f->why != STOP_YIELD)
		usual = (uint32_t)__builtin_ctz(fiber_ready(w));
	if (o.kill != NOBODY || o.to != usual)
		note_move(w, o.kill, o.to);
	fiber_look_for(n->preemptions_left && fiber_unfinished(w) & ~(1u << o.to), n->deaths_left && w->deaths < RECOVERERS);
	s.loaded[o.to] = NO_IMAGE;
	n->from = o.to;
	n->why = fiber_resume(o.to, 0);
	s.fiber_hash[o.to] = fiber_hash(o.to);
	return 1;
}

static enum search_end search(struct world *w, const struct level *level, const struct limits *limits, const char *name,
			      double deadline)
{
	struct now n = {NOBODY, level->preemptions, level->deaths, STOP_ACCESS};
	uint64_t failures = 0, stops = 0, grown_at = 0;

	s.frames = s.images = 0;
	s.ends = s.ends_sum = 0;
	seen_clear();
	memory_grown(1);
	memory_back_to(0, 0, 0);
	fiber_begin(w, 1);
	w->may_switch = w->may_die = w->at_lock = 0;
	for (uint32_t i = 0; i < FIBERS; i++) {
		s.loaded[i] = NO_IMAGE;
		s.fiber_hash[i] = fiber_hash(i);
	}
	for (;;) {
		struct frame *f;
		int pruned = 0;

		if (!(++stops & 63)) {
			__atomic_fetch_add(&totals->states, 64, __ATOMIC_RELAXED);
			if (deadline > 0 && !(stops & 1023) && seconds_now() > deadline)
				return SEARCH_LATE;
		}
		if (w->steps > STEPS_MAX)
			world_fail(w, "no end after %u steps", w->steps);
		if (w->failure[0]) {
			report_failure(w, name, NULL);
			w->failure[0] = 0;
			failures++;
			pruned = 1;
		} else if (!limits->no_states) {
			pruned = seen(state_key(w, n.from, n.why, n.deaths_left), n.preemptions_left);
		}
		if (!pruned && n.why == STOP_ACCESS && n.from != NOBODY && !w->may_switch && !w->may_die && !w->at_lock) {
			s.loaded[n.from] = NO_IMAGE;
			n.why = fiber_resume(n.from, 0);
			s.fiber_hash[n.from] = fiber_hash(n.from);
			continue;
		}
		f = push();
		f->from = n.from;
		f->preemptions_left = n.preemptions_left;
		f->deaths_left = n.deaths_left;
		if (pruned)
			f->options = f->next = 0;
		else
			ways_on(w, f, n.why);
		f->images = s.images;
		if (f->options > 1)
			save(w, f);
		/* The next way on; back to where there is one. */
		for (;;) {
			struct option o;

			if (limits->first_failures && failures >= limits->first_failures)
				return SEARCH_FAILED;
			if (f->next == f->options) {
				drop_images(f->images);
				if (!--s.frames)
					return s.full ? SEARCH_LATE : failures ? SEARCH_FAILED : SEARCH_WHOLE;
				f = &s.frame[s.frames - 1];
				if (f->next < f->options)
					restore(w, f);
				continue;
			}
			o = f->option[f->next++];
			if (go(w, &n, f, o))
				break;
			failures += (uint64_t)end_of_run(w, name);
			/* An end may have other ways on: deaths.  Nothing was changed. */
		}
		if (!grown_at && memory_grown(0))
			grown_at = stops;
		if (grown_at && stops > 2 * grown_at + 2000)
			return SEARCH_WHOLE;
	}
}

enum search_end search_level(struct world *w, const struct level *level, const struct limits *limits, const char *name)
{
	double deadline = limits->seconds > 0 ? seconds_now() + limits->seconds : 0;
	enum search_end end;

	memory_everything(limits->everything);
	do
		end = search(w, level, limits, name, deadline);
	while (end == SEARCH_WHOLE && memory_grown(1));
	memory_everything(0);
	memory_back_to_first();
	return end;
}

uint64_t search_ends(uint64_t *sum)
{
	*sum = s.ends_sum;
	return s.ends;
}
