/* SPDX-License-Identifier: MIT */
/*
 * The live neighbour at work while others are dead, or are being recovered in this very process.
 */
#ifndef TESTS_CRASH_NEIGHBOUR_H
#define TESTS_CRASH_NEIGHBOUR_H

#include "crash.h"

#define NEIGHBOUR_CALLS 512	/* more than may be refused (meanwhile.h) */
#define NEIGHBOUR_PASSAGES 2	/* of one point in one recovery at which it works */

struct neighbour {
	struct stage *stage;
	void (*meanwhile)(struct stage *stage);
	int working;
	uint64_t rounds;	/* since neighbour_begin() */
	uint8_t passed[CRASH_POINT_COUNT];
};

/* Its first round will be its turn-th. */
void neighbour_begin(struct neighbour *n, struct stage *stage, const struct scenario *scenario, uint32_t turn);

/* A round.  Ends the program if anything is wrong. */
void neighbour_work(struct neighbour *n);

/* cxlshm_recover(), held up at the first passages of each of its points by a round. */
int neighbour_recover(struct neighbour *n);

/* Note which of its calls that may be refused have succeeded in this process; then, of all processes', say those that never did. */
void neighbour_note(uint8_t *succeeded);
unsigned neighbour_say_refused(const uint8_t *succeeded);

#endif
