/* SPDX-License-Identifier: MIT */
/*
 * Renaming; see names_ops.h.
 *
 *   1  raise what the new name needs, and owe it: the inode's names, the new directory's entries if it gets one more;
 *      a directory that is renamed counts one entry more meanwhile (a pin), so that nobody removes it under one of its
 *      names; an empty directory that is replaced becomes {1 | REMOVED}, owed to be revived
 *   2  CAS the new name's edge.  From here on the rename happens, unless the old name is gone by the time of
 *   3  CAS the old name's edge, in names_settle(): away with the old entry, or an exchange's other entry in its place.
 *      If somebody else has removed, replaced or renamed the old one: take the new one back, begin again
 *   4  pay
 *
 * So of two renames of one name one is done, and both names may show between 2 and 3, never neither.  An exchange is two
 * such steps: between them both names lead to what the old one named, and the other object shows under neither (who has
 * it open keeps it).  So that it finds a place in the new directory whatever happens to both names, an exchange raises that
 * directory's count, too, and it cannot be removed.  Death behind 2 is completed, or taken back, by recovery.
 *
 * Two clients renaming directories at once could make a loop, or leave a directory with two names.  So renames of
 * directories go one at a time, by shared_fmt.dir_move; they alone wait for one another.
 */
#include <sched.h>
#include <time.h>

#include "names_ops.h"

struct rename {
	const struct names_place *from, *to;
	unsigned flags;
	struct names_spot old, new;
	int directory;	/* what is renamed is one */
	int exchange_directory;	/* what it changes places with is one */
	int replaces;	/* there is an entry at the new name's edge */
	/* rows: */
	struct root_fmt *old_entry, *inode;
	struct root_fmt *new_inode;	/* of what is there, if it is to stay or to be marked */
	struct root_fmt *entry, *held;	/* the new entry, twice: to go into the edge, to be known by */
	struct names_rows rows;
};

static int take_row(struct client *c, uint64_t object, struct root_fmt **out)
{
	struct root_fmt *row;
	int rc = root_take(c, &row);

	if (rc)
		return rc;
	if (object)
		rc = ref_attach(c, object, row);
	if (rc)
		root_give(c, row);
	else
		*out = row;
	return rc;
}

static int take_spot(struct client *c, const struct names_spot *s, uint64_t object, struct root_fmt **out)
{
	struct root_fmt *row;
	int rc = root_take(c, &row);

	if (rc)
		return rc;
	rc = names_take(c, s, object, row);
	if (rc)
		root_give(c, row);
	else
		*out = row;
	return rc;
}

static void drop(struct client *c, struct root_fmt *row)
{
	if (row)
		ref_drop_row(c, row);
}

/* ---- looking ---- */

/* What is at both names; -EEXIST or 1: there is nothing to do; -EAGAIN: something changed meanwhile. */
static int look(struct client *c, struct rename *r)
{
	struct stamped edge;
	int rc;

	rc = names_find(c, r->from->dir, &r->from->key, &r->old);
	if (rc)
		return rc;
	if (!names_present(&r->old))
		return -ENOENT;
	for (;;) {
		rc = names_find(c, r->to->dir, &r->to->key, &r->new);
		if (!rc && r->new.found == NAMES_CLASH)
			rc = -ENOSPC;
		if (rc || r->new.found != NAMES_OTHER)
			break;
		rc = names_split(c, &r->new, r->to->key.hash);
		if (rc && rc != -EAGAIN)
			break;
	}
	if (rc)
		return rc;
	if (r->flags & CXLSHM_EXCHANGE && !names_present(&r->new))
		return -ENOENT;
	if (r->flags & CXLSHM_NOREPLACE && names_present(&r->new))
		return -EEXIST;
	/* What follows from both names together is so only if both were there at one moment: when the new one was found. */
	edge = a128_load_acquire(&r->old.edge->word);
	if (edge.value != r->old.word.value || edge.stamp != r->old.word.stamp)
		return -EAGAIN;
	r->replaces = r->new.found == NAMES_SAME;
	if (names_present(&r->new) && r->new.inode == r->old.inode)
		return 1;
	r->directory = r->old.kind == OBJECT_DIRECTORY;
	r->exchange_directory = r->flags & CXLSHM_EXCHANGE && r->new.kind == OBJECT_DIRECTORY;
	if (names_present(&r->new) && !(r->flags & CXLSHM_EXCHANGE)) {
		if (r->directory && r->new.kind != OBJECT_DIRECTORY)
			return -ENOTDIR;
		if (!r->directory && r->new.kind == OBJECT_DIRECTORY)
			return -EISDIR;
	}
	return 0;
}

/* Wait until this client is the one that renames directories. */
static int begin_move(struct client *c)
{
	const struct timespec pause = {.tv_nsec = 20000};
	int rc;

	for (uint32_t i = 0; (rc = names_move_take(c)) == -EAGAIN; i++) {
		if (i < 16)
			sched_yield();
		else
			nanosleep(&pause, NULL);
	}
	return rc;
}

/* Is `dir` the directory `below`, or above it?  1 or 0, or a negative errno.  dir_move is ours, so nothing moves. */
static int is_above(struct client *c, uint64_t dir, uint64_t below)
{
	uint64_t steps = c->pool->heap_bytes / 512;	/* more directories than there is room for: a loop */
	struct root_fmt *at = NULL;
	int rc = 0;

	while (!rc && below != dir) {
		struct root_fmt *up;

		rc = root_take(c, &up);
		if (rc)
			break;
		rc = cell_load(c, object_cell(off_object(c->pool, below), DIR_PARENT), up);
		drop(c, at);
		at = up;
		below = a64_load_relaxed(&up->object);
		if (!rc && below && (!names_is_dir(c, below) || !steps--))
			rc = -EUCLEAN;
		if (!rc && !below) {	/* the root directory has no parent */
			drop(c, at);
			return 0;
		}
	}
	drop(c, at);
	return rc ? rc : 1;
}

static int check_loops(struct client *c, struct rename *r)
{
	int rc = 0;

	if (r->from->dir == r->to->dir)
		return 0;
	if (r->directory)
		rc = is_above(c, r->old.inode, r->to->dir);
	if (!rc && r->exchange_directory)
		rc = is_above(c, r->new.inode, r->from->dir);
	return rc == 1 ? -EINVAL : rc;
}

/* ---- preparing ---- */

/* The directory to be replaced: from empty to {1 | REMOVED}, to be revived if it comes to nothing. */
static int mark_replaced(struct client *c, struct rename *r)
{
	uint64_t off = names_entries_off(r->new.inode);
	struct a128 *counter = off_ptr(c->pool, off);
	struct todo_fmt todo = c->slot->todo;
	struct stamped seen = a128_load_acquire(counter);
	struct stamped edge = a128_load_acquire(&r->new.edge->word);

	/* As in try_rmdir(): while the count is as loaded, and the name was right after that, it is right. */
	if (edge.value != r->new.word.value || edge.stamp != r->new.word.stamp || seen.value & COUNTER_REMOVED)
		return -EAGAIN;
	if (seen.value)
		return names_has_entries(c, r->new.inode) ? -ENOTEMPTY : -EBUSY;
	names_debt_add(&todo, off | DEBT_REVIVE);
	/* Pairs: names_raise().  Crash before: nothing.  After: nobody can add to it, and recovery revives it. */
	return counter_set(c, counter, seen, COUNTER_REMOVED | 1, &todo);
}

/* Take hold of everything, and raise all counts. */
static int prepare(struct client *c, struct rename *r)
{
	int stays = r->flags & CXLSHM_EXCHANGE || (r->directory && names_present(&r->new));
	int rc;

	rc = take_spot(c, &r->old, r->old.inode, &r->inode);
	if (!rc)
		rc = take_spot(c, &r->old, r->old.entry, &r->old_entry);
	if (!rc && stays)
		rc = take_spot(c, &r->new, r->new.inode, &r->new_inode);
	if (!rc && (r->directory || r->exchange_directory))
		rc = check_loops(c, r);
	if (!rc && (r->directory || r->exchange_directory))
		rc = take_row(c, r->to->dir, &r->rows.parent[0]);
	if (!rc && r->exchange_directory)
		rc = take_row(c, r->from->dir, &r->rows.parent[1]);
	if (!rc)
		rc = take_row(c, 0, &r->rows.spare);
	if (!rc)
		rc = names_entry_make(c, &r->to->key, r->old.inode, sizeof(struct rename_fmt), &r->entry);
	if (!rc)
		rc = take_row(c, a64_load_relaxed(&r->entry->object), &r->held);
	if (!rc && r->flags & CXLSHM_EXCHANGE)
		rc = names_entry_make(c, &r->from->key, r->new.inode, names_own_room(&r->to->key), &r->rows.put);
	if (!rc)
		rc = names_raise(c, inode_links_off(r->old.inode, r->old.kind));
	if (!rc && r->directory)
		rc = names_raise(c, names_entries_off(r->old.inode));
	if (!rc && r->exchange_directory)
		rc = names_raise(c, names_entries_off(r->new.inode));
	if (!rc && (!r->replaces || r->flags & CXLSHM_EXCHANGE))
		rc = names_raise(c, names_entries_off(r->to->dir));
	if (!rc && r->directory && names_present(&r->new) && !(r->flags & CXLSHM_EXCHANGE))
		rc = mark_replaced(c, r);
	return rc;
}

/* ---- doing ---- */

static int put(struct client *c, struct rename *r)
{
	struct entry_fmt *entry = names_entry(c, a64_load_relaxed(&r->entry->object));
	uint64_t marked = names_entries_off(r->new.inode) | DEBT_REVIVE;
	struct rename_fmt *plan = names_rename_of(entry);
	struct todo_fmt todo = c->slot->todo;
	int rc;

	plan->to_dir = r->to->dir;
	/* The entry of a directory that somebody removed is not to come back. */
	plan->replaced = names_present(&r->new) ? r->new.entry : 0;
	plan->put = r->rows.put ? a64_load_relaxed(&r->rows.put->object) : 0;
	persist(c->pool, plan, sizeof(*plan));
	todo.unlink_dir = r->from->dir;
	todo.unlink_entry = r->old.entry;
	todo.rename_entry = a64_load_relaxed(&r->held->object);
	names_debt_drop(&todo, inode_links_off(r->old.inode, r->old.kind));
	if (r->replaces)
		names_debt_add(&todo, inode_links_off(r->new.inode, r->new.kind));
	else
		names_debt_drop(&todo, names_entries_off(r->to->dir));
	for (uint32_t i = 0; i < DEBTS; i++)
		if (r->replaces && todo.debt[i] == marked)
			todo.debt[i] = marked & ~DEBT_REVIVE;	/* from {1 | REMOVED} to REMOVED */
	/*
	 * Pairs: read_edge().  Crash before: nothing but debts.  After: the new name is there, and recovery goes on with the
	 * old one.
	 */
	rc = names_exchange(c, &r->new, r->entry, &todo);
	if (rc)
		return rc;
	CRASH_POINT(c, names, renamed);
	r->rows.replaced = r->entry;
	return 0;
}

static void touch(struct client *c, const struct rename *r)
{
	inode_touch(c, r->old.inode, INODE_CTIME);
	if (r->replaces)	/* the row of the new entry holds the old one, and that its inode */
		inode_touch(c, r->new.inode, INODE_CTIME);
	inode_touch(c, r->from->dir, INODE_MTIME | INODE_CTIME);
	inode_touch(c, r->to->dir, INODE_MTIME | INODE_CTIME);
}

/* One try.  -EAGAIN: something changed meanwhile. */
static int try_rename(struct client *c, struct rename *r)
{
	int settled, bare, rc;

	client_read_begin(c);
	rc = look(c, r);
	if (!rc && (r->directory || r->exchange_directory)) {
		client_read_end(c);	/* not while it waits */
		rc = begin_move(c);
		client_read_begin(c);
		if (!rc)
			rc = look(c, r);
	}
	if (!rc && (r->directory || r->exchange_directory) && !a64_load_relaxed(&c->slot->moving_dir))
		rc = -EAGAIN;
	if (!rc)
		rc = prepare(c, r);
	if (!rc)
		rc = put(c, r);
	settled = names_settle_with(c, &r->rows);
	if (!rc && settled)
		rc = settled == 1 ? -EAGAIN : settled;
	bare = !rc && names_bare(c, &r->old);
	client_read_end(c);
	if (!rc)
		touch(c, r);
	drop(c, r->rows.put);
	drop(c, r->rows.spare);
	drop(c, r->rows.parent[1]);
	drop(c, r->rows.parent[0]);
	drop(c, r->held);
	drop(c, r->entry);
	drop(c, r->new_inode);
	drop(c, r->old_entry);
	drop(c, r->inode);
	if (bare)
		names_prune(c, r->from->dir, r->from->key.hash);
	if (settled == 1)	/* the new name was taken back */
		names_prune(c, r->to->dir, r->to->key.hash);
	return rc;
}

int names_rename(struct client *c, const struct names_place *from, const struct names_place *to, unsigned flags)
{
	int rc;

	if (!from->key.bytes || !to->key.bytes)
		return -EBUSY;
	do {
		struct rename r = {.from = from, .to = to, .flags = flags};

		rc = try_rename(c, &r);
	} while (rc == -EAGAIN);
	return rc == 1 ? 0 : rc;
}
