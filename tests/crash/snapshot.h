/* SPDX-License-Identifier: MIT */
/*
 * The state of a scenario at one moment: the heap, the extents' sizes, the neighbour's handle and what the stage says of it.
 * (What else the pool's handle knows does not depend on the heap: no client but the neighbour is joined through it, or is
 * being recovered by it, when a snapshot is taken or restored.)
 */
#ifndef TESTS_CRASH_SNAPSHOT_H
#define TESTS_CRASH_SNAPSHOT_H

#include "crash.h"

#define EXTENTS_MAX 64

struct snapshot {
	char *heap;
	struct stage stage;
	struct client neighbour;
	char extent[EXTENTS_MAX][24];
	off_t extent_bytes[EXTENTS_MAX];
	unsigned extents;
};

void snapshot_take(const struct stage *stage, struct snapshot *s);
void snapshot_restore(struct stage *stage, const struct snapshot *s);

#endif
