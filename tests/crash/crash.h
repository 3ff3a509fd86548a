/* SPDX-License-Identifier: MIT */
/*
 * What the crash driver and its scenarios share.
 *
 * A scenario prepares a small pool with a live neighbour in it, then acts in a child process that is killed at one crash
 * point after the other.  Between a death and its recovery, and at the points of the recovery, the neighbour works on the same
 * objects.  Everything is deterministic: the n-th point of a run is the same in every run.
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
#define STAGE_TOLD 16

struct stage {
	struct cxlshm_pool *pool;	/* the parent's; the child opens its own */
	struct cxlshm_client *neighbour;	/* lives throughout, in the parent */
	cxlshm_ref held[STAGE_REFS];	/* by the neighbour */
	uint64_t token[STAGE_REFS];	/* exported by the neighbour for the child */
	uint64_t *told;	/* STAGE_TOLD words, shared: by act() in the child, for the neighbour; 0: died before */

	/* the neighbour's own while it works */
	uint32_t turn;	/* counts rounds: each does another part */
	uint64_t sent[2], received[2];	/* into and out of either queue: the last one's number */
};

struct scenario {
	const char *name;
	uint64_t pool_bytes;
	void (*prepare)(struct stage *stage);	/* in the parent, as the neighbour; may be NULL */
	void (*act)(struct stage *stage, struct cxlshm_pool *pool);	/* in the child; joins by itself */
	void (*after)(struct stage *stage);	/* in the parent, after recovery: what the neighbour still must see */
	/*
	 * In the parent, while others are dead or being recovered: a round of the neighbour's work, any number of times.  It
	 * takes every answer that this explains, and no other.  NULL: it stands still.
	 */
	void (*meanwhile)(struct stage *stage);
};

/*
 * For prepare(): run body as a client of its own in a child that is killed at the point, the first time it comes there;
 * the dead client is recovered if `recover`.
 */
void die_at(struct stage *stage, unsigned point, void (*body)(struct stage *stage, struct cxlshm_client *c), int recover);

/* meanwhile.c, meanwhile_names.c */
void meanwhile_private(struct stage *s);
void meanwhile_sizes(struct stage *s);
void meanwhile_remote(struct stage *s);
void meanwhile_span(struct stage *s);
void meanwhile_roots(struct stage *s);
void meanwhile_extent(struct stage *s);
void meanwhile_graphs(struct stage *s);
void meanwhile_reader(struct stage *s);
void meanwhile_queues(struct stage *s);
void meanwhile_create(struct stage *s);
void meanwhile_rename(struct stage *s);
void meanwhile_directories(struct stage *s);
void meanwhile_xattrs(struct stage *s);
void meanwhile_many(struct stage *s);
void meanwhile_nodes(struct stage *s);
void meanwhile_overtaken(struct stage *s);
void meanwhile_beside(struct stage *s);
void meanwhile_contest(struct stage *s);

/* How many names in the directory lead to the inode with this id. */
unsigned listed(struct stage *s, cxlshm_ref dir, uint64_t id);

/* In names-directories, where others move d: its path, NULL: it has none. */
const char *where_d_is(struct stage *s);

extern const struct scenario refs_scenarios[], names_scenarios[], queue_scenarios[];

#endif
