/* SPDX-License-Identifier: MIT */
/*
 * What the crash driver and its scenarios share.
 *
 * A scenario prepares a small pool with a live neighbour in it, then acts in a child process that is killed at one crash
 * point after the other.  Everything is deterministic: the n-th point of a run is the same in every run.
 */
#ifndef TESTS_CRASH_H
#define TESTS_CRASH_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/must.h"
#include "client.h"
#include "cxlshm.h"

#define STAGE_REFS 8

struct stage {
	struct cxlshm_pool *pool;	/* the parent's; the child opens its own */
	struct cxlshm_client *neighbour;	/* lives throughout, in the parent */
	cxlshm_ref held[STAGE_REFS];	/* by the neighbour */
	uint64_t token[STAGE_REFS];	/* exported by the neighbour for the child */
};

struct scenario {
	const char *name;
	uint64_t pool_bytes;
	void (*prepare)(struct stage *stage);	/* in the parent, as the neighbour; may be NULL */
	void (*act)(struct stage *stage, struct cxlshm_pool *pool);	/* in the child; joins by itself */
	void (*after)(struct stage *stage);	/* in the parent, after recovery: what the neighbour still must see */
};

/*
 * For prepare(): run body as a client of its own in a child that is killed at the point, the first time it comes there;
 * the dead client is recovered if `recover`.
 */
void die_at(struct stage *stage, unsigned point, void (*body)(struct stage *stage, struct cxlshm_client *c), int recover);

extern const struct scenario refs_scenarios[], names_scenarios[], queue_scenarios[];

#endif
