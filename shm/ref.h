/* SPDX-License-Identifier: MIT */
/*
 * ref: attach, detach, move and reclaim: where era, redo and alloc meet.
 *
 *   call               word that commits                    excludes                      progress
 *   attach             CAS on the header (exposed)          nothing                       lock-free
 *                      store of the header (private)        the client's own calls        wait-free
 *   detach             the same                             the same                      the same
 *   exchange_private   the record's seal                    other users of both words     wait-free
 *   undertake          one detach, pop or push a step       the client's own calls        lock-free
 *
 * A slot of a reference is an 8-byte word in the pool: a root's object, a field, the value half of a cell in a dead
 * object.  What it points at is counted.
 */
#ifndef CXLSHM_REF_H
#define CXLSHM_REF_H

#include "alloc.h"

/* Take one more reference on the live object into the empty row.  -EOVERFLOW; -EUCLEAN if it is not live. */
int ref_attach(struct client *c, uint64_t object, struct root_fmt *row);

/* The same into a row of its own: a new handle in *ref.  -ENOSPC, too. */
int ref_attach_new(struct client *c, uint64_t object, cxlshm_ref *ref);

/* The same as ref_attach() for an exposed object, if its header, attachable, still is as seen.  -EAGAIN: it is not. */
int ref_attach_seen(struct client *c, uint64_t object, struct stamped seen, struct root_fmt *row);

/*
 * Drop the reference in a slot that only this client may change now, and clear the slot.  An object that goes lands on
 * the dead list; call ref_undertake() before returning to the application.
 */
void ref_detach(struct client *c, struct a64 *slot, uint64_t object);

/* Work the dead list off. */
void ref_undertake_all(struct client *c);

static inline void ref_undertake(struct client *c)
{
	if (a64_load_relaxed(&c->slot->dead_top))
		ref_undertake_all(c);
}

/* Drop what is in the row, and give the row back. */
void ref_drop_row(struct client *c, struct root_fmt *row);

/* The same for a row that refers to something and is not copied. */
void ref_drop_held(struct client *c, struct root_fmt *row);

/* Other clients may find the object from now on, for good; before its reference is stored anywhere but in a root. */
void ref_expose(struct client *c, uint64_t object);

/* Exchange a root's content with a slot that only this client may change now: counts do not change. */
void ref_exchange_private(struct client *c, struct root_fmt *row, struct a64 *slot);

/* Is the header that of an object one may hold? */
static inline int ref_header_live(uint64_t value)
{
	return object_state(value) == OBJECT_LIVE && object_count(value) > 0;
}

/* ... and one more reference be taken? */
static inline int ref_header_attachable(uint64_t value)
{
	/* 1 to OBJECT_COUNT_MAX - 1 */
	return object_state(value) == OBJECT_LIVE && object_count(value) + 1u > 1u;
}

void ref_apply_attach(struct client *c, const struct redo_fmt *r);
void ref_apply_detach(struct client *c, struct redo_fmt *r);
void ref_apply_move(struct client *c, const struct redo_fmt *r);

#endif
