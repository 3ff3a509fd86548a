/* SPDX-License-Identifier: MIT */
/*
 * Counting references, and reclaiming objects whose count reached zero; see ref.h.
 *
 * Reclaiming.  The last holder's detach leaves {count 0, DEAD} and puts the object on the client's dead list: the head is
 * in the slot, the links are in the stamps of the DEAD headers, on which no CAS can succeed.  ref_undertake() looks at the
 * top: while it has a slot that refers to something, that reference is detached, and its object may land on top; when
 * there is none left, the block is freed and popped.  So any graph goes with constant stack, and everything still to do
 * hangs on the slot.  The number of slots in the DEAD header shrinks as they are cleared: a wide object is walked once.
 */
#include "ref.h"

#include "extent.h"

#define HOT static inline __attribute__((always_inline))	/* with `host` a constant, see era.h */

/* ---- attach ---- */

HOT void apply_attach(struct client *c, const struct redo_fmt *r, int host)
{
	struct root_fmt *row = off_ptr(c->pool, r->loc);

	a64_store_release(&row->object, r->word);
	persist_if(host, row, sizeof(*row));
	CRASH_POINT(c, ref, attach_rooted);
}

void ref_apply_attach(struct client *c, const struct redo_fmt *r)
{
	apply_attach(c, r, c->pool->host);
}

HOT struct redo_fmt *seal_attach(struct client *c, uint64_t off, const struct root_fmt *row, int host)
{
	struct redo_fmt *r = redo_begin(c, REDO_ATTACH);

	r->word = off;
	r->loc = off_of(c->pool, &row->object);
	redo_seal_if(c, r, host);
	return r;
}

/* Behind the commit. */
HOT void finish_attach(struct client *c, const struct redo_fmt *r, int host)
{
	CRASH_POINT(c, ref, attach_counted);
	apply_attach(c, r, host);
	era_bump_if(c, host);
	a64_count(&c->slot->attaches);
}

/* No reference can be had: given up (rule 3). */
static int __attribute__((cold, noinline)) attach_refused(struct client *c, uint64_t header)
{
	era_bump(c);
	return ref_header_live(header) ? -EOVERFLOW : -EUCLEAN;
}

HOT int attach(struct client *c, uint64_t off, struct root_fmt *row, int host)
{
	struct object_fmt *object = off_object(c->pool, off);
	struct redo_fmt *r = seal_attach(c, off, row, host);

	for (;;) {
		struct stamped old = a128_load_halves(&object->word);

		if (__builtin_expect(!ref_header_attachable(old.value), 0))
			return attach_refused(c, old.value);
		/*
		 * Pairs: every other reader of the header (acquire).
		 * Crash before: not counted.  After: counted, and the record puts the reference into the row.
		 */
		if (!(old.value & OBJECT_EXPOSED))
			era_store_if(c, &object->word, old.stamp, old.value + 1, host);
		else if (!era_cas_if(c, &object->word, old, old.value + 1, host))
			continue;
		finish_attach(c, r, host);
		return 0;
	}
}

static int __attribute__((noinline)) attach_host(struct client *c, uint64_t off, struct root_fmt *row)
{
	return attach(c, off, row, 1);
}

int ref_attach(struct client *c, uint64_t off, struct root_fmt *row)
{
	if (__builtin_expect(!off_is_object(c->pool, off), 0))
		return -EUCLEAN;
	return __builtin_expect(c->pool->host, 0) ? attach_host(c, off, row) : attach(c, off, row, 0);
}

int ref_attach_new(struct client *c, uint64_t off, cxlshm_ref *ref)
{
	struct root_fmt *row;
	int rc = root_take(c, &row);

	if (__builtin_expect(rc, 0))
		return rc;
	if (__builtin_expect(c->pool->host || !off_is_object(c->pool, off), 0))
		rc = ref_attach(c, off, row);
	else
		rc = attach(c, off, row, 0);
	if (__builtin_expect(rc, 0))
		root_give(c, row);
	else
		*ref = root_ref(c, row);
	return rc;
}

HOT int attach_seen(struct client *c, uint64_t off, struct stamped old, struct root_fmt *row, int host)
{
	struct redo_fmt *r = seal_attach(c, off, row, host);

	/* Pairs and Crash: as in attach(). */
	if (!era_cas_if(c, &off_object(c->pool, off)->word, old, old.value + 1, host)) {
		era_bump_if(c, host);	/* given up: rule 3 */
		return -EAGAIN;
	}
	finish_attach(c, r, host);
	return 0;
}

static int __attribute__((noinline)) attach_seen_host(struct client *c, uint64_t off, struct stamped old,
						      struct root_fmt *row)
{
	return attach_seen(c, off, old, row, 1);
}

int ref_attach_seen(struct client *c, uint64_t off, struct stamped old, struct root_fmt *row)
{
	return __builtin_expect(c->pool->host, 0) ? attach_seen_host(c, off, old, row) : attach_seen(c, off, old, row, 0);
}

void ref_expose(struct client *c, uint64_t off)
{
	struct object_fmt *object = off_object(c->pool, off);
	struct stamped old = a128_load_acquire(&object->word);

	if (old.value & OBJECT_EXPOSED)
		return;
	/*
	 * Nobody else can reach it, so a store will do; with a stamp of its own, for from here on others compare it.
	 * Crash: exposed or not, with the same count.
	 */
	era_store(c, &object->word, old.stamp, old.value | OBJECT_EXPOSED);
	CRASH_POINT(c, ref, exposed);
	era_bump(c);
}

/* ---- detach ---- */

HOT void clear_slot(struct a64 *slot, int host)
{
	a64_store_release(slot, 0);
	persist_if(host, slot, sizeof(*slot));
}

/*
 * Put a DEAD object on the dead list and clear the slot that held its last reference.  May be repeated: linking again
 * writes the same link until the head is set, and the head is set before the slot is cleared.
 */
static void bury(struct client *c, uint64_t off, struct a64 *slot)
{
	uint64_t top = a64_load_relaxed(&c->slot->dead_top);

	if (top != off) {
		a128_store_stamp_release(&off_object(c->pool, off)->word, stamp_link(top));
		persist(c->pool, off_object(c->pool, off), sizeof(struct object_fmt));
		CRASH_POINT(c, ref, bury_linked);
		a64_store_release(&c->slot->dead_top, off);
		persist(c->pool, &c->slot->dead_top, 8);
		CRASH_POINT(c, ref, bury_topped);
	}
	clear_slot(slot, c->pool->host);
	CRASH_POINT(c, ref, bury_cleared);
}

/* Behind the commit of a detach that brought the count to zero. */
static void __attribute__((noinline)) finish_last(struct client *c, struct redo_fmt *r)
{
	/* From here on the record itself says so, for the link will overwrite the header's stamp. */
	r->phase = 1;
	persist(c->pool, r, sizeof(*r));
	CRASH_POINT(c, ref, detach_phase);
	bury(c, r->word, off_ptr(c->pool, r->loc));
}

/* Behind the commit of any other. */
HOT void finish_detach(struct client *c, const struct redo_fmt *r, int host)
{
	clear_slot(off_ptr(c->pool, r->loc), host);
	CRASH_POINT(c, ref, detach_cleared);
}

void ref_apply_detach(struct client *c, struct redo_fmt *r)
{
	struct stamped now = {0, 0};

	/* Late: if others dropped the object meanwhile, its memory may be gone. */
	if (segment_readable(c->pool, r->word))
		now = a128_load_acquire(&off_object(c->pool, r->word)->word);
	/* Zero is overwritten by nobody but us, so until the link is written the header still tells. */
	if (r->phase || (now.stamp == era_stamp(c) && !object_count(now.value)))
		finish_last(c, r);
	else
		finish_detach(c, r, c->pool->host);
}

/* A damaged pool: there is nothing to count down.  fsck will say more. */
static void __attribute__((cold, noinline)) detach_refused(struct client *c, struct a64 *slot)
{
	era_bump(c);
	clear_slot(slot, c->pool->host);
}

/* The same for a row that nothing more is wanted of: it becomes a free one at once.  Recovery makes it an empty one, and
 * chains it again. */
HOT void free_row(struct client *c, struct root_fmt *row)
{
	root_give(c, row);
	CRASH_POINT(c, ref, row_freed);
}

/* 1 if the slot was a row and is a free one now (row is NULL in host mode, which writes back what it clears). */
HOT int detach(struct client *c, struct a64 *slot, uint64_t off, struct root_fmt *row, int host)
{
	struct object_fmt *object = off_object(c->pool, off);
	struct redo_fmt *r = redo_begin(c, REDO_DETACH);

	r->word = off;
	r->loc = off_of(c->pool, slot);
	redo_seal_if(c, r, host);
	for (;;) {
		struct stamped old = a128_load_halves(&object->word);
		uint64_t value = old.value - 1;

		if (__builtin_expect(!ref_header_live(old.value), 0)) {
			detach_refused(c, slot);
			return 0;
		}
		if (!object_count(value))
			value = object_with_state(value, OBJECT_DEAD);
		/*
		 * Pairs: every other reader of the header (acquire).
		 * Crash before: still counted, the slot still refers to it.  After: the record clears the slot, and buries the
		 * object if this was the last reference.
		 */
		if (!(old.value & OBJECT_EXPOSED))
			era_store_if(c, &object->word, old.stamp, value, host);
		else if (!era_cas_if(c, &object->word, old, value, host))
			continue;
		CRASH_POINT(c, ref, detach_counted);
		if (!object_count(value))
			finish_last(c, r);
		else if (row)
			free_row(c, row);
		else
			finish_detach(c, r, host);
		era_bump_if(c, host);
		return row && object_count(value);
	}
}

static void __attribute__((noinline)) detach_host(struct client *c, struct a64 *slot, uint64_t off)
{
	(void)detach(c, slot, off, NULL, 1);
}

void ref_detach(struct client *c, struct a64 *slot, uint64_t off)
{
	if (__builtin_expect(!off_is_object(c->pool, off), 0))
		clear_slot(slot, c->pool->host);	/* a damaged pool */
	else if (__builtin_expect(c->pool->host, 0))
		detach_host(c, slot, off);
	else
		(void)detach(c, slot, off, NULL, 0);
}

/* ---- reclaim ---- */

/* The last non-empty slot of a dead object, its number of slots cut down to it; NULL if none is left. */
static struct a64 *last_slot(struct client *c, struct object_fmt *object, uint64_t value)
{
	uint64_t room = page_block_room(c, off_of(c->pool, object)) - sizeof(*object);
	uint32_t slots = object_slots(value);
	uint32_t left = slots;

	if (__builtin_expect(left * object_slot_bytes(value) > room, 0))	/* a damaged pool */
		left = (uint32_t)(room / object_slot_bytes(value));
	while (left && !a64_load_relaxed(object_slot(object, value, left - 1)))
		left--;
	if (left != slots) {
		/* Crash: the same slots are looked at once more. */
		a128_store_value_release(&object->word, object_with_slots(value, left));
		persist(c->pool, object, sizeof(*object));
		CRASH_POINT(c, ref, undertake_slots);
	}
	return left ? object_slot(object, value, left - 1) : NULL;
}

void ref_undertake_all(struct client *c)
{
	int limbo = c->acting;	/* one push may have been cut short by a death */
	uint64_t off;

	while ((off = a64_load_relaxed(&c->slot->dead_top))) {
		struct object_fmt *object = off_object(c->pool, off);
		enum object_state state = OBJECT_FREE;
		struct a64 *slot;
		uint64_t value;

		if (off_is_object(c->pool, off))
			state = object_state(a128_value_relaxed(&object->word));
		if (state != OBJECT_DEAD && !(state == OBJECT_LIMBO && limbo--)) {
			/* A damaged pool: the list leads astray, or in a circle.  fsck will say more. */
			clear_slot(&c->slot->dead_top, c->pool->host);
			return;
		}
		value = a128_value_relaxed(&object->word);
		if (object_state(value) == OBJECT_DEAD) {
			if (object_kind(value) == OBJECT_FILE) {
				struct attr_fmt *attr = object_attr(object, value);
				uint64_t id = object_slots(value) == PLAIN_CELLS ? a64_load_relaxed(&attr->extent) : 0;

				/* Before its slots are cut down, for they say where the attributes are.  Repeated: gone already. */
				if (id && page_block_room(c, off) >= sizeof(*object) + 16 * PLAIN_CELLS + sizeof(*attr))
					extent_reclaim(c, id);
			}
			slot = last_slot(c, object, value);
			if (slot) {
				uint64_t child = a64_load_relaxed(slot);

				if (off_is_object(c->pool, child))
					ref_detach(c, slot, child);
				else
					clear_slot(slot, c->pool->host);
				continue;
			}
		}
		c->done.objects++;
		a64_count(&c->slot->frees);
		page_bury(c, off, stamp_link_off(a128_stamp_relaxed(&object->word)));
	}
}

void ref_drop_row(struct client *c, struct root_fmt *row)
{
	uint64_t off = a64_load_relaxed(&row->object);

	if (off) {
		ref_detach(c, &row->object, off);
		ref_undertake(c);
	}
	root_give(c, row);
}

void ref_drop_held(struct client *c, struct root_fmt *row)
{
	uint64_t off = a64_load_relaxed(&row->object);

	if (__builtin_expect(c->pool->host || !off_is_object(c->pool, off), 0)) {
		ref_drop_row(c, row);
	} else if (!detach(c, &row->object, off, row, 0)) {
		ref_undertake(c);
		root_give(c, row);
	}
}

/* ---- move ---- */

void ref_apply_move(struct client *c, const struct redo_fmt *r)
{
	struct a64 *slot = off_ptr(c->pool, r->aux);
	struct root_fmt *row = off_ptr(c->pool, r->loc);

	a64_store_release(slot, r->next);
	persist(c->pool, slot, 8);
	CRASH_POINT(c, ref, move_first);
	a64_store_release(&row->object, r->object);
	persist(c->pool, row, sizeof(*row));
	CRASH_POINT(c, ref, move_second);
}

void ref_exchange_private(struct client *c, struct root_fmt *row, struct a64 *slot)
{
	uint64_t mine = a64_load_relaxed(&row->object);
	struct redo_fmt *r;

	if (mine)
		ref_expose(c, mine);
	r = redo_begin(c, REDO_MOVE);
	r->word = 0;
	r->loc = off_of(c->pool, &row->object);
	r->object = a64_load_acquire(slot);
	r->next = mine;
	r->aux = off_of(c->pool, slot);
	/* Committed by its seal.  Crash behind it: recovery writes both words again. */
	redo_seal(c, r);
	ref_apply_move(c, r);
	era_bump(c);
}
