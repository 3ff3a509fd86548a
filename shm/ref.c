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

/* ---- attach ---- */

void ref_apply_attach(struct client *c, const struct redo_fmt *r)
{
	struct root_fmt *row = off_ptr(c->pool, r->loc);

	a64_store_release(&row->object, r->object);
	persist(c->pool, row, sizeof(*row));
	CRASH_POINT(c, ref, attach_rooted);
}

int ref_attach(struct client *c, uint64_t off, struct root_fmt *row)
{
	struct object_fmt *object = off_object(c->pool, off);
	struct redo_fmt *r;

	if (__builtin_expect(!off_is_object(c->pool, off), 0))
		return -EUCLEAN;
	r = redo_begin(c, REDO_ATTACH);
	r->word = off_of(c->pool, &object->word);
	r->loc = off_of(c->pool, &row->object);
	r->object = off;
	redo_seal(c, r);
	for (;;) {
		struct stamped old = a128_load_halves(&object->word);

		if (__builtin_expect(!ref_header_live(old.value) || object_count(old.value) == OBJECT_COUNT_MAX, 0)) {
			era_bump(c);	/* given up: rule 3 */
			return ref_header_live(old.value) ? -EOVERFLOW : -EUCLEAN;
		}
		/*
		 * Pairs: every other reader of the header (acquire).
		 * Crash before: not counted.  After: counted, and the record puts the reference into the row.
		 */
		if (!(old.value & OBJECT_EXPOSED))
			era_store(c, &object->word, old.stamp, old.value + 1);
		else if (!era_cas(c, &object->word, old, old.value + 1))
			continue;
		CRASH_POINT(c, ref, attach_counted);
		a64_store_relaxed(&row->local, 1);
		ref_apply_attach(c, r);
		era_bump(c);
		a64_count(&c->slot->attaches);
		return 0;
	}
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

static void clear_slot(struct client *c, struct a64 *slot)
{
	a64_store_release(slot, 0);
	persist(c->pool, slot, sizeof(*slot));
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
	clear_slot(c, slot);
	CRASH_POINT(c, ref, bury_cleared);
}

/* Behind the commit: bury the object if its count reached zero, or clear the slot. */
static void finish_detach(struct client *c, struct redo_fmt *r, int zero)
{
	struct a64 *slot = off_ptr(c->pool, r->loc);

	if (!zero) {
		clear_slot(c, slot);
		CRASH_POINT(c, ref, detach_cleared);
		return;
	}
	/* From here on the record itself says so, for the link will overwrite the header's stamp. */
	r->phase = 1;
	persist(c->pool, r, sizeof(*r));
	CRASH_POINT(c, ref, detach_phase);
	bury(c, r->object, slot);
}

void ref_apply_detach(struct client *c, struct redo_fmt *r)
{
	struct stamped now = {0, 0};

	/* Late: if others dropped the object meanwhile, its memory may be gone. */
	if (segment_readable(c->pool, r->object))
		now = a128_load_acquire(&off_object(c->pool, r->object)->word);
	/* Zero is overwritten by nobody but us, so until the link is written the header still tells. */
	finish_detach(c, r, r->phase || (now.stamp == era_stamp(c) && !object_count(now.value)));
}

void ref_detach(struct client *c, struct a64 *slot, uint64_t off)
{
	struct object_fmt *object = off_object(c->pool, off);
	struct redo_fmt *r;

	if (__builtin_expect(!off_is_object(c->pool, off), 0)) {
		clear_slot(c, slot);	/* a damaged pool */
		return;
	}
	r = redo_begin(c, REDO_DETACH);
	r->word = off_of(c->pool, &object->word);
	r->loc = off_of(c->pool, slot);
	r->object = off;
	redo_seal(c, r);
	for (;;) {
		struct stamped old = a128_load_halves(&object->word);
		uint64_t value = old.value - 1;

		if (__builtin_expect(!ref_header_live(old.value), 0)) {
			/* A damaged pool: there is nothing to count down.  fsck will say more. */
			era_bump(c);
			clear_slot(c, slot);
			return;
		}
		if (!object_count(value))
			value = object_with_state(value, OBJECT_DEAD);
		/*
		 * Pairs: every other reader of the header (acquire).
		 * Crash before: still counted, the slot still refers to it.  After: the record clears the slot, and buries the
		 * object if this was the last reference.
		 */
		if (!(old.value & OBJECT_EXPOSED))
			era_store(c, &object->word, old.stamp, value);
		else if (!era_cas(c, &object->word, old, value))
			continue;
		CRASH_POINT(c, ref, detach_counted);
		finish_detach(c, r, !object_count(value));
		era_bump(c);
		return;
	}
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

void ref_undertake(struct client *c)
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
			clear_slot(c, &c->slot->dead_top);
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
					clear_slot(c, slot);
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
