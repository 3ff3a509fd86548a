/* SPDX-License-Identifier: MIT */
/*
 * redo: the one record a client keeps of the transaction it is in.
 *
 * fill, seal, commit (the CAS on record.word; where word is 0 the seal itself commits), apply, bump.  The record counts
 * only while record.era equals the client's own era.  Recovery asks whether it committed and, if so, applies it again
 * with the same function the living client uses: <module>_apply().  Every apply may be repeated.
 *
 *   op               word              loc          object         next            aux
 *   ATTACH           object header     row          -              -               -
 *   DETACH           object header     slot or row  -              -               -
 *   EXCHANGE         cell              row          goes into row  -               -
 *   MOVE             0                 row          goes into row  goes into aux   field
 *   PUSH             segment.remote    -            block          next dead       -
 *   POP              0                 -            block          next dead       -
 *   COLLECT          segment.remote    -            first block    -               segment
 *   SEGMENT_CLAIM    segment.word      -            segment        -               -
 *   SEGMENT_RELEASE  segment.word      link to it   segment        its next        new state
 *   SPAN_GROW        segment.word      -            head segment   new span        -
 *   SPAN_SHRINK      0                 -            head segment   new span        state of what is cut off
 *   COUNT            counter word      -            -              -               -
 *   EXTENT           0                 attr.extent  -              -               extent id
 *   DIR_MOVE         shared.dir_move   -            -              new moving_dir  -
 * An object's offset is that of its header.  has_todo: when applied, todo replaces the slot's.  look: the segment that
 * page_look() is due for behind a PUSH, or a RELEASE that leaves an orphan; it outlives the record.
 */
#ifndef CXLSHM_REDO_H
#define CXLSHM_REDO_H

#include "client.h"

/*
 * Start a record.  If this era's record is sealed already (an earlier round of a CAS loop), unseal it before its fields
 * change, so that no mixture of two records is ever sealed.
 */
static inline struct redo_fmt *redo_begin(struct client *c, enum redo_op op)
{
	struct redo_fmt *r = &c->slot->redo;

	if (__builtin_expect(a64_load_relaxed(&r->era) == client_era(c), 0)) {
		a64_store_relaxed(&r->era, 0);
		fence_release();
		persist(c->pool, &r->era, sizeof(r->era));
	}
	r->op = (uint16_t)op;	/* one store for the three */
	r->has_todo = 0;
	r->phase = 0;
	return r;
}

/*
 * Pairs: recovery, after it took the slot's lock.
 * Crash before: no record, nothing happened.  Crash after: recovery finds out whether the commit landed.
 */
static inline void redo_seal_if(struct client *c, struct redo_fmt *r, int host)
{
	CRASH_POINT(c, redo, filled);
	persist_if(host, r, sizeof(*r));
	a64_store_release(&r->era, client_era(c));
	persist_if(host, &r->era, sizeof(r->era));
	CRASH_POINT(c, redo, sealed);
}

static inline void redo_seal(struct client *c, struct redo_fmt *r)
{
	redo_seal_if(c, r, c->pool->host);
}

/* Is there a sealed record of the present era? */
static inline int redo_sealed(const struct client *c)
{
	return a64_load_acquire(&c->slot->redo.era) == client_era(c);
}

/* Replace what the slot owes by what the record says, if it says anything. */
static inline void redo_apply_todo(struct client *c, const struct redo_fmt *r)
{
	if (r->has_todo) {
		c->slot->todo = r->todo;
		persist(c->pool, &c->slot->todo, sizeof(c->slot->todo));
	}
}

#endif
