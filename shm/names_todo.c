/* SPDX-License-Identifier: MIT */
/*
 * Counts, debts, and names still to be removed; see names_todo.h.
 *
 * A rename puts its new entry first and removes the old one here.  If the old name is no longer the entry that the rename
 * began with (somebody removed, replaced or renamed it), then the rename was overtaken: the new entry is taken back,
 * if it is still there, and what it replaced is put back.  Both are one transaction on one edge.
 *
 * If the new entry is not there either, what a plain rename replaced stays replaced.  What an exchange displaced must not go
 * for that: it gets the old name if that is free, or its own again if that is free, or one that nobody has.  The last needs
 * no memory, so recovery can do it, too: the other entry is private yet, and has room.  A free name whose place takes a new
 * node, for another name's entry is there, recovery passes over.
 *
 * Entries are compared by offset: the client holds them, so the offset stands for no other.
 */
#include <inttypes.h>
#include <stdio.h>

#include "names_todo.h"

#define OWN_NAME_TRIES 4096u	/* hashes of names; each ends at an empty edge more often than not */

/* ---- debts ---- */

void names_debt_add(struct todo_fmt *todo, uint64_t off)
{
	for (uint32_t i = 0; i < DEBTS; i++)
		if (!todo->debt[i]) {
			todo->debt[i] = off;
			return;
		}
	assert(0 && "more debts than any operation makes");
}

void names_debt_drop(struct todo_fmt *todo, uint64_t off)
{
	for (uint32_t i = 0; i < DEBTS; i++)
		if (todo->debt[i] == off) {
			todo->debt[i] = 0;
			return;
		}
}

int names_owes(const struct client *c, uint64_t off)
{
	for (uint32_t i = 0; i < DEBTS; i++)
		if (c->slot->todo.debt[i] == off)
			return 1;
	return 0;
}

static struct a128 *counter_at(const struct client *c, uint64_t off)
{
	return off_ptr(c->pool, off & ~DEBT_REVIVE);
}

int names_raise(struct client *c, uint64_t off)
{
	struct a128 *counter = counter_at(c, off);

	for (;;) {
		struct stamped seen = a128_load_acquire(counter);
		struct todo_fmt todo = c->slot->todo;

		if (seen.value & COUNTER_REMOVED)
			return -ENOENT;
		if (seen.value >= COUNTER_MASK)
			return -EOVERFLOW;
		names_debt_add(&todo, off);
		if (!counter_set(c, counter, seen, seen.value + 1, &todo))
			return 0;
	}
}

/* A debt that leads nowhere, or to a count of zero, is a damaged pool's: forget it, fsck will say more. */
static void forget(struct client *c, uint64_t off)
{
	names_debt_drop(&c->slot->todo, off);
	persist(c->pool, &c->slot->todo, sizeof(c->slot->todo));
}

void names_lower(struct client *c, uint64_t off)
{
	uint64_t at = off & ~DEBT_REVIVE;

	if (at & 15 || !off_is_object(c->pool, at)) {
		forget(c, off);
		return;
	}
	for (;;) {
		struct a128 *counter = counter_at(c, off);
		struct stamped seen = a128_load_acquire(counter);
		struct todo_fmt todo = c->slot->todo;
		uint64_t value = seen.value - 1;

		if (off & DEBT_REVIVE ? seen.value != (COUNTER_REMOVED | 1) : !(seen.value & COUNTER_MASK)) {
			forget(c, off);
			return;
		}
		if (off & DEBT_REVIVE)
			value = 0;
		names_debt_drop(&todo, off);
		if (!counter_set(c, counter, seen, value, &todo))
			return;
	}
}

/* ---- dir_move ---- */

void names_apply_dir_move(struct client *c, const struct redo_fmt *r)
{
	a64_store_release(&c->slot->moving_dir, r->next);
	persist(c->pool, &c->slot->moving_dir, 8);
	CRASH_POINT(c, names, move_taken);
}

/* One try to change dir_move, with slot->moving_dir in the same transaction. */
static int move_set(struct client *c, struct stamped seen, uint64_t value)
{
	struct a128 *word = &c->pool->shared->dir_move;
	struct redo_fmt *r = redo_begin(c, REDO_DIR_MOVE);

	r->word = off_of(c->pool, word);
	r->next = value != 0;
	redo_seal(c, r);
	/* Pairs: every other client's names_move_take().  Crash before: nothing.  After: the record notes it in the slot. */
	if (!era_cas(c, word, seen, value)) {
		era_bump(c);
		return -EAGAIN;
	}
	CRASH_POINT(c, names, move_swapped);
	names_apply_dir_move(c, r);
	era_bump(c);
	return 0;
}

/*
 * Does the living client that the word names know of it?  From the CAS that took it to the one that gives it back, its
 * record is sealed or, once that is applied, its slot says so; in this order, both are read while the word stands.
 */
static int holds_move(const struct client *c, struct stamped seen)
{
	uint32_t cid = (uint32_t)seen.value;
	const struct slot_fmt *slot = pool_slot(c->pool, cid);

	return a64_load_acquire(&slot->redo.era) == a64_load_acquire(pool_era_row(c->pool, cid) + cid) ||
	       a64_load_acquire(&slot->moving_dir) ||
	       a128_load_acquire(&c->pool->shared->dir_move).stamp != seen.stamp;
}

int names_move_take(struct client *c)
{
	struct stamped seen = a128_load_acquire(&c->pool->shared->dir_move);

	if (!seen.value)
		return move_set(c, seen, c->cid);
	if (seen.value > c->pool->slots)
		return -EUCLEAN;
	if (client_alive(c->pool, (uint32_t)seen.value))
		return holds_move(c, seen) ? -EAGAIN : -EUCLEAN;
	/* It may just have given it back, and left. */
	return a128_load_acquire(&c->pool->shared->dir_move).stamp == seen.stamp ? -EOWNERDEAD : -EAGAIN;
}

static void move_give(struct client *c)
{
	struct stamped seen;

	do {
		seen = a128_load_acquire(&c->pool->shared->dir_move);
		if (seen.value != c->cid) {	/* a damaged pool */
			a64_store_release(&c->slot->moving_dir, 0);
			return;
		}
	} while (move_set(c, seen, 0));
}

/* ---- rows ---- */

struct row_search {
	uint64_t object;
	struct root_fmt *row;
};

static int row_is(struct client *c, struct root_fmt *row, void *arg)
{
	struct row_search *search = arg;

	(void)c;
	if (a64_load_relaxed(&row->object) != search->object)
		return 0;
	search->row = row;
	return 1;
}

/* A row of the dead client that refers to object. */
static struct root_fmt *row_find(struct client *c, uint64_t object)
{
	struct row_search search = {.object = object};

	root_each(c, row_is, &search);
	return search.row;
}

/*
 * An empty row.  An operation has one at hand whenever it has something to remove, so a dead client's table has one, too.
 */
static struct root_fmt *row_spare(struct client *c, const struct names_rows *rows)
{
	struct root_fmt *row;

	if (rows)
		return rows->spare;
	if (!c->root_free)	/* acting for a dead client, no more rows can be had */
		return NULL;
	return root_take(c, &row) ? NULL : row;
}

/* ---- removing a name ---- */

/* Forget the name to be removed.  unlink_dir first: without it the others mean nothing. */
static void clear_unlink(struct client *c)
{
	uint64_t *word[] = {&c->slot->todo.unlink_dir, &c->slot->todo.unlink_entry, &c->slot->todo.rename_entry};

	for (uint32_t i = 0; i < 3; i++) {
		*(volatile uint64_t *)word[i] = 0;
		fence_release();
		persist(c->pool, word[i], sizeof(*word[i]));
		CRASH_POINT(c, names, todo_cleared);
	}
}

static uint64_t links_of(const struct client *c, uint64_t entry)
{
	const struct entry_fmt *e = names_entry(c, entry);

	return inode_links_off(a64_load_relaxed(&e->inode), (enum object_kind)e->kind);
}

static struct todo_fmt without_unlink(const struct client *c)
{
	struct todo_fmt todo = c->slot->todo;

	todo.unlink_dir = todo.unlink_entry = todo.rename_entry = 0;
	return todo;
}

/* Is this an entry whose kind and name make sense, and does it lead to an inode? */
static int entry_sane(const struct client *c, uint64_t off)
{
	const struct entry_fmt *e;
	uint64_t header;

	if (!off_is_object(c->pool, off))
		return 0;
	header = a128_value_relaxed(&off_object(c->pool, off)->word);
	e = names_entry(c, off);
	return ref_header_live(header) && object_kind(header) == OBJECT_ENTRY && object_slots(header) == 1 &&
	       e->name_bytes <= CXLSHM_NAME_MAX && inode_is((enum object_kind)e->kind) &&
	       inode_attr(c, a64_load_relaxed(&e->inode), NULL);
}

/* The directory behind the entry (if it is one) is in `dir` now. */
static int set_parent(struct client *c, uint64_t entry, uint64_t dir, const struct names_rows *rows)
{
	struct root_fmt *row = NULL;
	struct cell_fmt *cell;

	if (names_entry(c, entry)->kind != OBJECT_DIRECTORY)
		return 0;
	cell = object_cell(off_object(c->pool, a64_load_relaxed(&names_entry(c, entry)->inode)), DIR_PARENT);
	for (;;) {
		struct stamped seen = a128_load_acquire(&cell->word);

		/* Only the holder of dir_move changes it. */
		if (seen.value == dir)
			return 0;
		for (uint32_t i = 0; rows && i < 2; i++)
			if (rows->parent[i] && a64_load_relaxed(&rows->parent[i]->object) == dir)
				row = rows->parent[i];
		if (!rows)
			row = row_find(c, dir);
		if (!row)
			return -EUCLEAN;
		if (!cell_exchange(c, cell, seen, row, NULL))
			return 0;
	}
}

/* ---- what an exchange displaced ---- */

/*
 * Put one of its entries where its name is free.  -EEXIST: something is in the way; -ENOENT: the directory is removed.
 * What is raised for nothing is owed.
 */
static int put_back(struct client *c, uint64_t dir, uint64_t entry, struct root_fmt *row, int may_split)
{
	uint64_t hash = names_entry(c, entry)->hash;
	uint64_t entries = names_entries_off(dir);
	int rc = 0;

	if (!row)
		return -EUCLEAN;
	if (!names_owes(c, entries))
		rc = names_raise(c, entries);
	while (!rc) {
		struct todo_fmt todo = without_unlink(c);
		struct names_spot s;

		rc = names_seek(c, dir, hash, &s);
		if (rc)
			break;
		if (s.found == NAMES_OTHER && may_split) {
			rc = names_split(c, &s, hash);
			if (rc == -EAGAIN)
				rc = 0;
			continue;
		}
		if (s.found != NAMES_EMPTY)
			return -EEXIST;
		names_debt_drop(&todo, entries);
		names_debt_drop(&todo, links_of(c, entry));
		/* Pairs: read_edge().  Crash before: tried again.  After: it has its name, and nothing is left to remove. */
		rc = names_exchange(c, &s, row, &todo);
		if (!rc)
			return 0;
		if (rc == -EAGAIN)
			rc = 0;
	}
	return rc;
}

/* The new name, cut to fit, and the inode's offset; from the second try on a number, too. */
static void name_own(struct client *c, const struct entry_fmt *named, struct entry_fmt *e, uint32_t try)
{
	char text[CXLSHM_NAME_MAX + 1], more[OWN_NAME_MORE + 8];
	uint64_t inode = a64_load_relaxed(&e->inode);
	uint32_t bytes, keep;

	bytes = (uint32_t)(try ? snprintf(more, sizeof(more), ".%" PRIx64 ".%" PRIx32, inode, try)
			       : snprintf(more, sizeof(more), ".%" PRIx64, inode));
	keep = named->name_bytes < CXLSHM_NAME_MAX - bytes ? named->name_bytes : CXLSHM_NAME_MAX - bytes;
	memcpy(text, named->name, keep);
	memcpy(text + keep, more, bytes);
	e->hash = names_key_of(c, text, keep + bytes).hash;
	CRASH_POINT(c, names, own_named);
	e->name_bytes = keep + bytes;
	memcpy(e->name, text, keep + bytes);
	persist(c->pool, e, sizeof(*e) + e->name_bytes);
}

/*
 * Put it under a name of its own beside the new one.  Where something else is in the way there is no room to be made if
 * this is recovery, but another name ends elsewhere.
 */
static int put_elsewhere(struct client *c, uint64_t renamed, struct rename_fmt *plan, const struct names_rows *rows)
{
	struct root_fmt *row = rows ? rows->put : row_find(c, plan->put);
	uint64_t header = a128_value_relaxed(&off_object(c->pool, plan->put)->word);
	const struct entry_fmt *named = names_entry(c, renamed);
	struct entry_fmt *e = names_entry(c, plan->put);
	int rc = -EEXIST;

	/* In a damaged pool it may be anybody's. */
	if (!row || alloc_size(c, plan->put, header) < sizeof(*e) + named->name_bytes + OWN_NAME_MORE)
		return -EUCLEAN;
	/*
	 * Pairs: finish_unlink(), in recovery.  Crash before: all of it is tried again.  After: only this, for from here on the
	 * other entry's name is no more the old one.
	 */
	*(volatile uint64_t *)&plan->replaced = 0;
	fence_release();
	persist(c->pool, &plan->replaced, sizeof(plan->replaced));
	CRASH_POINT(c, names, displaced);
	for (uint32_t try = 0; rc == -EEXIST && try < OWN_NAME_TRIES; try++) {
		name_own(c, named, e, try);
		rc = put_back(c, plan->to_dir, plan->put, row, rows != NULL);
	}
	return rc;
}

/* Neither name is what the exchange made it.  0: it is done, as the old name was free; 1: taken back, in some way. */
static int put_displaced(struct client *c, uint64_t renamed, struct rename_fmt *plan, const struct names_rows *rows)
{
	uint64_t dir = c->slot->todo.unlink_dir;
	int rc;

	if (plan->replaced) {
		rc = set_parent(c, plan->put, dir, rows);
		if (!rc)
			rc = put_back(c, dir, plan->put, rows ? rows->put : row_find(c, plan->put), rows != NULL);
		if (!rc)
			return 0;
		rc = set_parent(c, plan->put, plan->to_dir, rows);
		if (!rc)
			rc = put_back(c, plan->to_dir, plan->replaced, rows ? rows->replaced : row_find(c, plan->replaced),
				      rows != NULL);
		if (!rc)
			return 1;
	}
	rc = set_parent(c, plan->put, plan->to_dir, rows);
	if (!rc)
		rc = put_elsewhere(c, renamed, plan, rows);
	if (!rc)
		return 1;
	clear_unlink(c);
	return rc;
}

/* ---- removing a name, or taking a new one back ---- */

/* Take the rename's new entry back, if it is still there. */
static int undo(struct client *c, uint64_t entry, struct rename_fmt *plan, const struct names_rows *rows)
{
	struct names_spot s;
	int rc;

	if (plan->put)
		rc = set_parent(c, plan->put, plan->to_dir, rows);
	else
		rc = 0;
	while (!rc) {
		struct todo_fmt todo = without_unlink(c);
		struct root_fmt *row;

		rc = names_seek(c, plan->to_dir, names_entry(c, entry)->hash, &s);
		if (!rc && s.entry != entry && plan->put)
			return put_displaced(c, entry, plan, rows);
		if (rc || s.entry != entry)
			break;
		names_debt_add(&todo, links_of(c, entry));
		if (plan->replaced) {
			row = rows ? rows->replaced : row_find(c, plan->replaced);
			names_debt_drop(&todo, links_of(c, plan->replaced));
		} else {
			row = row_spare(c, rows);
			names_debt_add(&todo, names_entries_off(plan->to_dir));
		}
		if (!row)
			return -EUCLEAN;
		/* Pairs: read_edge().  Crash before: tried again.  After: what is owed for it is noted with it. */
		rc = cell_exchange(c, s.edge, s.word, row, &todo);
		if (!rc)
			return 1;
		if (!rows && !plan->replaced)
			root_give(c, row);
		if (rc == -EAGAIN)
			rc = 0;
	}
	clear_unlink(c);
	return rc ? rc : 1;
}

/* The name of a removed directory, or the old one of a rename, goes if it still is what it was. */
static int finish_unlink(struct client *c, const struct names_rows *rows)
{
	uint64_t dir = c->slot->todo.unlink_dir;
	uint64_t old = c->slot->todo.unlink_entry;
	uint64_t renamed = c->slot->todo.rename_entry;
	struct rename_fmt *plan = NULL;
	struct names_spot s;
	int rc = 0;

	if (!off_is_object(c->pool, dir) || !names_is_dir(c, dir) || !entry_sane(c, old) ||
	    (renamed && !entry_sane(c, renamed))) {
		clear_unlink(c);
		return -EUCLEAN;
	}
	if (renamed) {
		plan = names_rename_of(names_entry(c, renamed));
		if (!off_is_object(c->pool, plan->to_dir) || !names_is_dir(c, plan->to_dir) ||
		    (plan->replaced && !entry_sane(c, plan->replaced)) || (plan->put && !entry_sane(c, plan->put))) {
			clear_unlink(c);
			return -EUCLEAN;
		}
		if (plan->put && !plan->replaced)	/* its maker died in put_elsewhere() */
			return put_displaced(c, renamed, plan, rows);
		rc = set_parent(c, renamed, plan->to_dir, rows);
		if (!rc && plan->put)
			rc = set_parent(c, plan->put, dir, rows);
	}
	while (!rc) {
		struct todo_fmt todo = without_unlink(c);
		struct root_fmt *row;

		rc = names_seek(c, dir, names_entry(c, old)->hash, &s);
		if (rc)
			break;
		if (s.entry != old) {
			if (plan)
				return undo(c, renamed, plan, rows);
			break;	/* the name of a removed directory has been replaced */
		}
		names_debt_add(&todo, links_of(c, old));
		if (plan && plan->put) {
			row = rows ? rows->put : row_find(c, plan->put);
			names_debt_drop(&todo, links_of(c, plan->put));
		} else {
			row = row_spare(c, rows);
			names_debt_add(&todo, names_entries_off(dir));
		}
		if (!row)
			return -EUCLEAN;
		/* Pairs: read_edge().  Crash before: tried again.  After: what is owed for it is noted with it. */
		rc = cell_exchange(c, s.edge, s.word, row, &todo);
		if (!rc)
			return 0;
		if (!rows && !(plan && plan->put))
			root_give(c, row);
		if (rc == -EAGAIN)
			rc = 0;
	}
	clear_unlink(c);
	return rc;
}

int names_settle_with(struct client *c, const struct names_rows *rows)
{
	int rc = 0;

	client_read_begin(c);
	if (c->slot->todo.unlink_dir)
		rc = finish_unlink(c, rows);
	else if (c->slot->todo.unlink_entry || c->slot->todo.rename_entry)
		clear_unlink(c);	/* death came in between */
	client_read_end(c);
	for (uint32_t i = 0; i < DEBTS; i++)
		while (c->slot->todo.debt[i])
			names_lower(c, c->slot->todo.debt[i]);
	if (a64_load_relaxed(&c->slot->moving_dir))
		move_give(c);
	return rc;
}

int names_settle(struct client *c)
{
	return names_settle_with(c, NULL);
}
