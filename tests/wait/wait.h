/* SPDX-License-Identifier: MIT */
/*
 * What the waiting proof and its scenarios share.
 */
#ifndef TESTS_WAIT_H
#define TESTS_WAIT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/must.h"
#include "client.h"
#include "cxlshm.h"

#define STAGE_REFS 6

enum { HOLDER, SHARED, QUEUE, SPSC, DIRECTORY, PLAIN };	/* of struct stage: what all work on */

struct stage {
	struct cxlshm_pool *pool;	/* the neighbour's */
	struct cxlshm_client *neighbour;
	struct cxlshm_client *reader;	/* NULL, or one that has stopped while it looks at an object */
	cxlshm_ref held[STAGE_REFS];
	uint64_t token[STAGE_REFS][2];	/* exported: for the one that is stopped, and for one that died before */
};

struct scenario {
	const char *name;
	void (*act)(struct stage *s, struct cxlshm_pool *pool);	/* in the process that is stopped */
	unsigned dead_at;	/* crash point at which victim() dies before, in a process of its own; 0: nobody does */
	void (*victim)(struct stage *s, struct cxlshm_pool *pool);
	void (*before)(struct stage *s);	/* what the neighbour does behind that, before act(); or NULL */
};

extern const struct scenario scenarios[];	/* ends with name NULL */

/* The neighbour makes what all work on. */
void stage_prepare(struct stage *s);

/* The neighbour's calls, each between timed_begin() and timed_end(). */
void stage_neighbour(struct stage *s);

/* The reader, if there is one, goes on and leaves. */
void stage_reader_end(struct stage *s);

void timed_begin(const char *call);
double timed_now(void);
void timed_end(double from_us, int rc);

#define TIMED(name, call)                                                                          \
	do {                                                                                       \
		double timed_from;                                                                 \
		timed_begin(name);                                                                 \
		timed_from = timed_now();                                                          \
		timed_end(timed_from, (int)(call));                                                \
	} while (0)

#endif
