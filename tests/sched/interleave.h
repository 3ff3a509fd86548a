/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the interleaving tests share.
 *
 *   fiber.c    fibers, and the decision at each access to shared memory who goes on
 *   world.c    one small pool, a handle for each fiber, snapshots, deaths, the final check
 *   standins.c what sleeping, and giving memory back, mean here
 *   linear.c   is a history that of some sequential order?
 *   ops_*.c    the operations, in areas that work on the same objects
 *   explore.c  enumerating and drawing schedules
 *   main.c     options, workers, the sum
 *
 * A schedule is a list of moves, each at a numbered step: switch to a fiber, or kill the running one.  Without a move the
 * running fiber goes on to its end, then the lowest that can run does.  The same moves give the same run.
 */
#ifndef TESTS_INTERLEAVE_H
#define TESTS_INTERLEAVE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "cxlshm.h"

#define ACTORS_MAX 3u
#define RECOVERERS 2u
#define FIBERS (ACTORS_MAX + RECOVERERS)
#define MOVES_MAX 12u
#define STEPS_MAX 12000u	/* of a run: more is a failure */
#define SOLO_MAX 60000u	/* accesses without a switch: the fiber waits for another one */
#define EVENTS_MAX 24u
#define REFS 12u
#define STATE_BYTES 40u

#define MUST(call)                                                                                 \
	do {                                                                                       \
		int must_rc = (int)(call);                                                         \
		if (must_rc) {                                                                     \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call,              \
				strerror(must_rc < 0 ? -must_rc : 0));                             \
			exit(3);                                                                   \
		}                                                                                  \
	} while (0)

#define REQUIRE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
			exit(3);                                                                   \
		}                                                                                  \
	} while (0)

/* ---- schedules; fiber.c ---- */

struct move {
	uint32_t step;
	uint8_t kill;	/* the running fiber dies */
	uint8_t to;	/* who goes on */
};

struct step {	/* what could have been done otherwise */
	uint8_t running;	/* FIBERS: none, at the start or after an end */
	uint8_t enabled;	/* mask */
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

/* Run the actors (and recoverers, once somebody died) to their ends.  The trace is in world->step. */
void fiber_run(struct world *w, const struct plan *plan);

/* The running fiber lets the others go on. */
void fiber_yield(void);

/* Sleeping and the memory of this world's heap go their own ways from now on (NULL: no longer); standins.c. */
void standins_for(struct world *w);

/* ---- histories; linear.c ---- */

enum spec_kind { SPEC_NONE, SPEC_CELL, SPEC_QUEUE, SPEC_NAMES };

enum event_op {
	OP_LOAD, OP_SWAP, OP_CAS,
	OP_SEND, OP_RECEIVE,
	OP_CREATE, OP_UNLINK, OP_RMDIR, OP_LOOKUP, OP_RENAME, OP_EXCHANGE
};

#define NOT_ENDED UINT32_MAX

struct event {
	uint8_t fiber, op;
	uint8_t pending;	/* its caller died: it took effect or not */
	uint8_t blind;	/* it does not say what it found */
	uint8_t a, b;	/* names */
	int32_t arg, expected;	/* tags */
	int32_t ret, result;	/* error, tag */
	uint32_t begin, end;
};

struct history {
	enum spec_kind kind;
	uint32_t clock, count;
	uint32_t capacity;	/* of the queue */
	struct event event[EVENTS_MAX];
	uint8_t start[STATE_BYTES];
};

/* 1 if some order of the operations, each within its call, gives these results. */
int linear_check(const struct history *h);
void linear_print(const struct history *h, FILE *to);

/* Index of a new event; its end. */
uint32_t history_begin(struct history *h, unsigned fiber, enum event_op op);
void history_end(struct history *h, uint32_t event, int32_t ret, int32_t result);

/* Tags of names in the state of SPEC_NAMES: see linear.c. */
enum name_id { NAME_A, NAME_B, NAME_C, NAME_D, NAME_X, NAMES_MAX };
#define TAG_DIR 50	/* of the directory d that everybody holds; x is in it */
#define TAG_NEW_DIR 60	/* + fiber */

/* ---- the world; world.c ---- */

struct vars {	/* what is put back with the heap */
	cxlshm_ref ref[ACTORS_MAX + 1][REFS];	/* of each actor, and of the observer */
	uint64_t token[REFS];
	struct history history;
	uint32_t made[FIBERS];
};

#define OBSERVER ACTORS_MAX

struct area;
struct op;

struct world {
	char dir[64];
	struct pool *pool[FIBERS + 1];	/* a handle each; the last is the observer's */
	struct client *client[ACTORS_MAX + 1];
	struct client saved[ACTORS_MAX + 1];
	char *heap;	/* the snapshot */
	uint64_t area_bytes;	/* of superblock and slots in use */
	int extents;	/* the area makes files */
	struct vars v, vars_saved;

	const struct area *area;
	uint32_t actors;
	const struct op *program[ACTORS_MAX][4];
	uint32_t program_count[ACTORS_MAX];

	/* of the run */
	enum fiber_state state[FIBERS];
	uint32_t deaths, steps, moves_done;
	struct move done[MOVES_MAX + 64];	/* the switches and deaths that happened, for replay */
	struct step step[STEPS_MAX];
	uint32_t who_died;	/* mask of actors */
	char failure[600];
};

struct op {
	const char *name;
	void (*act)(struct world *w, unsigned me);
};

struct area {
	const char *name;
	enum spec_kind kind;
	int ordered;	/* the actors are not alike: pairs both ways round */
	int extents;
	int may_wait;	/* renames of directories: the documented exception */
	void (*prepare)(struct world *w);
	void (*observe)(struct world *w);	/* end of the history, by the observer; may be NULL */
	const struct op *ops;	/* ends with name NULL */
};

extern const struct area area_ref, area_cell, area_export, area_memory, area_queue, area_spsc, area_names,
	area_files;

/* With that many actors. */
struct world *world_new(const struct area *area, uint32_t actors);
void world_delete(struct world *w);
void world_restore(struct world *w);

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

/* ---- explore.c ---- */

struct totals {	/* shared by the workers */
	uint64_t schedules, crashes, histories, failures, pairs, pairs_complete;
	uint64_t longest_run, solo_most;
};

struct limits {
	uint32_t preemptions, crashes, preemptions_with_crash;
	double seconds;	/* for this pair; 0: none */
	uint64_t first_failures;	/* stop after so many */
};

extern struct totals *totals;

/* Enumerate the schedules of one pair; 1 if all within the limits were run. */
int explore_pair(struct world *w, const struct limits *limits, const char *name);

/* One random run: programs, schedule and deaths follow from the seed. */
void explore_random(struct world *w, uint64_t seed);

/* One given schedule. */
void explore_replay(struct world *w, const char *moves, const char *name);

double seconds_now(void);

#endif
