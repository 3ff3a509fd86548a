/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the interleaving tests share.
 *
 *   fiber.c      fibers: resumed, stopped, copied and taken back
 *   memory.c     every access to memory: what it conflicts with, how it is undone, what the contents hash to
 *   standins.c   locks, files, time, sleep: what takes their place
 *   world.c      one small pool, a handle for each fiber, deaths, the final check
 *   linear.c     is a history that of some sequential order?
 *   ops_*.c      the operations, in areas that work on the same objects
 *   search.c     all schedules of a pair or triple, by states
 *   pairs.c      which pairs and triples, to which bounds, in which order; what came of it
 *   explore.c    drawn and given schedules
 *   main.c       options, workers, the sum
 *
 * A schedule is a list of moves, each at a numbered step: switch to a fiber, or kill one.  A step is an access to shared
 * memory, an end, or a wait.  Without a move the running fiber goes on to its end, then the lowest that can run does.  The
 * same moves give the same run.
 */
#ifndef TESTS_INTERLEAVE_H
#define TESTS_INTERLEAVE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/must.h"
#include "client.h"
#include "cxlshm.h"

#define ACTORS_MAX 3u
#define RECOVERERS 2u
#define FIBERS (ACTORS_MAX + RECOVERERS)
#define SLOTS 6u
#define FILES 8u
#define SEGMENTS_MAX 64u
#define MOVES_MAX 400u
#define STEPS_MAX 4000000u	/* of a run: more is a failure */
#define SOLO_MAX 1000000u	/* accesses without a stop: the fiber waits for another one */
#define EVENTS_MAX 40u
#define REFS 19u
/* Rows of references: areas whose operations `mixed` has, too, have theirs apart. */
#define ROW_QUEUE 0u	/* and seven items */
#define ROW_DIRS 8u
#define ROW_CELL 11u
#define ROW_FILES 14u
#define ROW_MIXED 16u
#define STATE_BYTES 40u

#define NOBODY FIBERS

/* ---- schedules ---- */

struct move {
	uint32_t step;
	uint8_t kill;	/* this fiber dies; NOBODY */
	uint8_t to;	/* who goes on */
};

enum fiber_state { FIBER_OFF, FIBER_READY, FIBER_DONE, FIBER_DEAD };

struct plan {	/* who decides: moves, or priorities (probabilistic concurrency testing) */
	struct move moves[MOVES_MAX];
	uint32_t count;
	int pct;
	uint8_t priority[FIBERS];	/* the higher goes first */
	uint32_t change_at[4];	/* steps at which the running one falls below all others; UINT32_MAX: unused */
	uint32_t kill_at[2];	/* steps at which the running one dies */
};

struct world;

/* ---- fiber.c ---- */

enum stop { STOP_ACCESS, STOP_END, STOP_YIELD, STOP_FAILED };

/* All fibers at their beginnings.  exploring: they stop where a switch or a death can matter, if that is looked for. */
void fiber_begin(struct world *w, int exploring);
void fiber_look_for(int switches, int deaths);

/* Let it run until it stops, at the latest before step stop_at (unless exploring). */
enum stop fiber_resume(uint32_t fiber, uint32_t stop_at);

/* Masks: who has not ended; of those, who does not wait for a futex; or if all do, who may find its time over. */
uint32_t fiber_unfinished(const struct world *w);
uint32_t fiber_awake(const struct world *w);
uint32_t fiber_ready(const struct world *w);

/* It dies; the recoverer who can run now. */
uint32_t fiber_kill(struct world *w, uint32_t fiber);

/* Who runs: FIBERS: the main stack.  From a fiber: an access to shared memory is next; it waits. */
uint32_t fiber_running(void);
void fiber_step(int conflict, int ordered, int lock);
void fiber_yield(void);

/* A suspended fiber as bytes, back again, and a hash of it. */
uint32_t fiber_image_bytes(uint32_t fiber);
void fiber_save(uint32_t fiber, void *image);
void fiber_load(uint32_t fiber, const void *image, uint32_t bytes);
uint64_t fiber_hash(uint32_t fiber);

/* ---- memory.c ---- */

/* Follow all accesses to this world's memory from now on; this moment is mark 0 with hash 0. */
void memory_follow(struct world *w);
int memory_followed(void);
void memory_running(uint32_t fiber, const void *stack, size_t stack_bytes);
void memory_main(void);

/* What follows is one step, as a system call is: the fiber may be left before it, if anything in these bytes is in conflict,
 * and not again until memory_apart(). */
void memory_as_one(const void *p, size_t bytes);
void memory_apart(void);

/* What the main stack does now counts as done by this line; NOBODY: by none. */
void memory_line(uint32_t line);

/* This moment; the sum over its contents; how many words of the pool have changed so far; back to an earlier moment. */
uint32_t memory_mark(void);
uint64_t memory_hash(void);
uint64_t memory_changes(void);
void memory_back_to(uint32_t mark, uint64_t hash, uint64_t changes);
void memory_back_to_first(void);

/* Words in conflict: how many; were there new ones?  Everything counts as in conflict.  Forget who used what. */
uint32_t memory_conflicts(void);
int memory_grown(int reset);
void memory_everything(int on);
void memory_forget_lines(void);

/* ---- standins.c ---- */

void standins_for(struct world *w);
void *standins_outside(size_t *bytes);
const uint64_t *standins_holes(void);

/* Of each fiber, more than TIME_OVER while it waits for a futex.  It waits no more, though nobody woke it. */
#define TIME_OVER 1u
const uint64_t *standins_sleepers(void);
void standins_time_over(uint32_t fiber);

void standins_drop_locks(int fd);
int standins_is_lock(uint64_t offset);
void standins_file(unsigned i, uint64_t *id, uint64_t *bytes);

/* ---- histories; linear.c ---- */

enum spec_kind { SPEC_NONE, SPEC_CELL, SPEC_QUEUE, SPEC_NAMES, SPEC_MIXED };	/* the last: one of each other */

enum event_op {
	OP_LOAD, OP_SWAP, OP_CAS,
	OP_SEND, OP_RECEIVE, OP_LENGTH,
	OP_CREATE, OP_UNLINK, OP_RMDIR, OP_LOOKUP, OP_RENAME, OP_EXCHANGE,
	OP_LEAVE, OP_DEATH	/* of who has a role */
};

static inline enum spec_kind spec_of(enum event_op op)
{
	return op <= OP_CAS ? SPEC_CELL : op <= OP_LENGTH || op >= OP_LEAVE ? SPEC_QUEUE : SPEC_NAMES;
}

#define NOT_ENDED UINT32_MAX

struct event {
	uint8_t fiber, op;
	uint8_t pending;	/* its caller died: it took effect or not */
	uint8_t blind;	/* it does not say what it found */
	uint8_t a, b;	/* names */
	int32_t arg, expected;	/* tags; of a rename, 1: not to replace anything */
	int32_t ret, result;	/* error, tag */
	uint32_t begin, end;
};

struct history {
	enum spec_kind kind;
	uint32_t clock, count;
	uint32_t capacity;	/* of the queue */
	uint32_t roles;	/* it is one to one */
	struct event event[EVENTS_MAX];
	uint8_t start[STATE_BYTES];
	uint8_t part[SPEC_MIXED][STATE_BYTES];	/* of SPEC_MIXED: the start of each */
};

/*
 * Of a history of SPEC_MIXED, what concerns the one that is of this kind.  If each of these has an order, so has the whole
 * (Herlihy and Wing, 1990), and if one has none, nor has the whole.
 */
void history_part(const struct history *h, enum spec_kind kind, struct history *out);

/* 1 if some order of the operations, each within its call, gives these results. */
int linear_check(const struct history *h);
void linear_print(const struct history *h, FILE *to);

/* Index of a new event; its end. */
uint32_t history_begin(struct history *h, unsigned fiber, enum event_op op);
void history_end(struct history *h, uint32_t event, int32_t ret, int32_t result);
void history_died(struct history *h, unsigned fiber);

/* In the state of SPEC_QUEUE: the fiber that has the sender's role, + 1, and then the receiver's; 0: nobody does. */
#define QUEUE_ROLES 30u
#define QUEUE_LOOKS 32u	/* and of each fiber that asks for the length: see linear.c */

/* Tags of names in the state of SPEC_NAMES: see linear.c. */
enum name_id { NAME_A, NAME_B, NAME_C, NAME_D, NAME_X, NAME_E, NAME_F, NAME_Y, NAME_Z, NAMES_MAX };
#define DIRS 3u
#define TAG_DIR 50	/* of the directories d, e and f, which everybody holds; x, y and z are in them */
#define TAG_NEW_DIR 60	/* + fiber */

/* Which of them the name is in; DIRS: the root. */
static inline uint32_t name_dir(unsigned name)
{
	return name == NAME_X ? 0 : name == NAME_Y ? 1 : name == NAME_Z ? 2 : DIRS;
}

/* ---- the world; world.c ---- */

struct vars {	/* what is put back with the heap */
	cxlshm_ref ref[ACTORS_MAX + 1][REFS];	/* of each actor, and of the observer */
	uint64_t token[REFS];
	uint64_t made[FIBERS];
	struct history history;	/* on 8 bytes */
};

#define OBSERVER ACTORS_MAX

struct area;
struct op;

struct spin {	/* the word a fiber has read last, and how often in a row, with nothing changed */
	uint64_t word, hash;
	uint32_t repeats;
};

struct world {
	char dir[64];
	struct pool *pool[FIBERS + 1];	/* a handle each; the last is the observer's */
	struct client *client[ACTORS_MAX + 1];
	uint32_t cid[ACTORS_MAX + 1];
	struct vars v;

	const struct area *area;
	uint32_t actors;
	uint64_t file_made[FILES];	/* the extents that there are, for the checker */
	const struct op *program[ACTORS_MAX][4];
	uint32_t program_count[ACTORS_MAX];

	/* of the run */
	enum fiber_state state[FIBERS];
	uint32_t line[FIBERS];	/* who recovers is of the line of who died */
	uint64_t looked_at[FIBERS];	/* memory_changes() when its death was last considered; what others do added */
	struct spin spin[FIBERS];
	uint32_t deaths, steps, moves_done;
	struct move done[MOVES_MAX];	/* the switches and deaths that happened, for replay */
	uint32_t who_died;	/* mask of actors */
	uint32_t yielded;	/* mask: they wait, and nothing has changed since */
	int may_switch, may_die, at_lock;	/* of the stop: the access conflicts; the fiber has changed something; a lock */
	char failure[600];
};

struct op {
	const char *name;
	void (*act)(struct world *w, unsigned me);
};

struct area {
	const char *name;
	enum spec_kind kind;
	uint32_t leading;	/* pairs have one of the first so many operations; 0: any */
	int ordered;	/* the actors are not alike: pairs both ways round */
	const char *const *triples;	/* "a+b+c", of actors 0, 1 and 2, then NULL: these instead of pairs; NULL: all pairs */
	int extents;
	int may_wait;	/* renames of directories: the documented exception */
	void (*prepare)(struct world *w);
	void (*observe)(struct world *w);	/* what is found at the end, by the observer; may be NULL */
	const struct op *ops;	/* ends with name NULL */
};

extern const struct area area_ref, area_cell, area_export, area_memory, area_trim, area_queue, area_spsc,
	area_wait_empty, area_wait_full, area_wait_empty_one, area_wait_full_one, area_holder,
	area_sender_left, area_sender_begun, area_sender_filled, area_receiver_left, area_receiver_begun,
	area_receiver_emptied, area_join, area_names, area_across, area_nodes, area_frozen, area_files, area_attr, area_look,
	area_mixed;

/* With that many actors. */
struct world *world_new(const struct area *area, uint32_t actors);
void world_delete(struct world *w);

/* The body of a fiber. */
void world_act(struct world *w, unsigned fiber);

/* The fiber dies where it is. */
void world_kill(struct world *w, unsigned fiber);

/* All have ended: recover, check, and judge the history. */
void world_verify(struct world *w);

void world_fail(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What failed calls mean inside an operation: the run fails unless rc is 0 or `also`. */
int expect(struct world *w, const char *what, int rc, int also);

static inline struct cxlshm_client *actor(struct world *w, unsigned i)
{
	return (struct cxlshm_client *)w->client[i];
}

/* A plain object whose first byte is its tag; the tag of a reference (0: none). */
cxlshm_ref tagged(struct world *w, unsigned who, int tag, size_t bytes);
int tag_of(struct world *w, unsigned who, cxlshm_ref ref);

/* A counted reference to what `from` holds, for `to`. */
cxlshm_ref hand_over(struct world *w, unsigned from, cxlshm_ref ref, unsigned to);

/* Has this actor's client left?  And, if it has not, release what it has in a row of v.ref. */
int gone(struct world *w, unsigned me);
void drop_row(struct world *w, unsigned me, uint32_t row);

/* ---- search.c ---- */

struct totals {	/* shared by the workers */
	uint64_t schedules, states, crashes, histories, failures;
	uint64_t longest_run;
};

#define UNBOUNDED 255u

struct level {
	uint32_t preemptions, deaths;
};

struct limits {
	double seconds;	/* 0: none */
	uint64_t first_failures;	/* stop after so many */
	int everything;	/* no reduction: every access may be switched at */
	int no_states;	/* states are not remembered */
};

enum search_end { SEARCH_WHOLE, SEARCH_LATE, SEARCH_FAILED };

extern struct totals *totals;

/* All schedules of the pair or triple in w->program within this level. */
enum search_end search_level(struct world *w, const struct level *level, const struct limits *limits, const char *name);

/* How many different ends the last level had, and the sum of their hashes. */
uint64_t search_ends(uint64_t *sum);

void report_failure(struct world *w, const char *name, const char *replay);

/* ---- pairs.c ---- */

#define PAIRS_MAX 2048u
#define LEVELS_MAX 12u
#define JOBS_MAX 256u

struct options {
	int full, quick, list, stop, random, verbose, everything, no_states, compare;
	double seconds;
	unsigned jobs;
	const char *area, *pair;
	uint64_t seed;
};

struct result {	/* of a pair */
	uint8_t whole[LEVELS_MAX];
	uint8_t disjoint, failed;
	float spent;	/* seconds, the last time it was late */
};

struct at {	/* where a worker is, should it fault or be killed */
	int pid;
	struct world *w;	/* the worker's own memory */
	char name[80];
	uint64_t seed;
	uint64_t states;	/* at the last alarm */
};

struct shared {	/* by the workers */
	struct totals totals;
	struct result result[PAIRS_MAX];
	uint32_t next_task, next_area;
	uint64_t next_seed;
	int stop;
	struct at at[JOBS_MAX];	/* of the workers, for when they die over it */
};

struct pair {	/* or triple */
	const struct area *area;
	const struct op *op[ACTORS_MAX];	/* of each actor */
	uint32_t actors;
	char name[80];
};

extern struct at *working;
extern const struct area *const areas[];

/* The index-th pair within the options; 0: there is none. */
int pair_at(const struct options *o, uint32_t index, struct pair *out);
void pair_set(struct world *w, const struct pair *pair);

/* The world of the area and number of actors: this one, or a new one instead of it. */
struct world *world_for(struct world *w, const struct area *area, uint32_t actors);

/* A worker: what is left to be done, until the deadline.  How far the workers are, and at the end the sum. */
void pairs_work(struct shared *shared, const struct options *o, double deadline);
const char *pairs_where(const struct shared *shared);
void pairs_summary(const struct shared *shared, const struct options *o);

/* 1: enough was run whole for the run to mean something; 0: it has said what was not. */
int pairs_enough(const struct shared *shared, const struct options *o);

/* Small pairs with and without reduction and memory of states: the same ends?  0; 1. */
int pairs_compare(const struct options *o);

/* ---- explore.c ---- */

/* One random run: programs, schedule and deaths follow from the seed. */
void explore_random(struct world *w, uint64_t seed);

/* One given schedule. */
void explore_replay(struct world *w, const char *moves, const char *name);

double seconds_now(void);

#endif
