/* SPDX-License-Identifier: MIT */
/*
 * names_todo: what an operation on names still owes between its transactions, and paying it.
 *
 * An inode counts its names, a directory its entries; each count is a stamped word.  It is raised before the edge that
 * needs it changes and lowered after, so it is never too low, and a directory with count 0 has no entries.  Whatever
 * is raised and not used, or used no more, is a debt in slot->todo, put there and taken out by the very transactions that
 * change the words and edges.  So is a name still to be removed (of a directory marked REMOVED, or the old one of a
 * rename).  names_settle() pays: the second half of each operation, and all of it that recovery needs.
 *
 * The pool-wide word dir_move names the one client that is renaming a directory just now; slot->moving_dir says that it is
 * this one.  names_settle() gives it back.
 *
 *   call               commits by                      excludes                          progress
 *   raise, settle      CAS on counters and edges       the client's own calls            lock-free
 *   move_take          CAS on dir_move                 other clients renaming            waits for a living one
 *                                                      directories
 */
#ifndef CXLSHM_NAMES_TODO_H
#define CXLSHM_NAMES_TODO_H

#include "names.h"

/* Rows that an operation has at hand for names_settle_with(); recovery finds them by what is in them. */
struct names_rows {
	struct root_fmt *spare;	/* empty: for the entry removed */
	struct root_fmt *replaced;	/* rename: the entry that was replaced */
	struct root_fmt *put;	/* exchange: the entry to put in place of the old one */
	struct root_fmt *parent[2];	/* moving a directory: both directories */
};

void names_debt_add(struct todo_fmt *todo, uint64_t off);
void names_debt_drop(struct todo_fmt *todo, uint64_t off);

/* Does the client owe this? */
int names_owes(const struct client *c, uint64_t off);

/* Raise a count by one and owe it.  -ENOENT: it is a removed directory's. */
int names_raise(struct client *c, uint64_t counter);

/* Lower a count that is owed. */
void names_lower(struct client *c, uint64_t counter);

/* Offset of the count of entries of a directory. */
static inline uint64_t names_entries_off(uint64_t dir)
{
	return dir + inode_attr_at(OBJECT_DIRECTORY) + offsetof(struct attr_fmt, entries);
}

#define OWN_NAME_MORE 24u	/* "." + offset + "." + number, in hexadecimal */

/* Room in an exchange's other entry for a name made of the new one, see names_todo.c. */
static inline uint64_t names_own_room(const struct names_key *new)
{
	return new->bytes + OWN_NAME_MORE;
}

/* Become the client that renames directories.  -EAGAIN: another living one is; -EOWNERDEAD: a dead one is. */
int names_move_take(struct client *c);

/*
 * Do and pay what the client owes, and give dir_move back.  May be repeated, also by whoever recovers the client, with
 * its roots as they are.  1: a rename was overtaken, and its new name has been taken back; 0; or -EUCLEAN.
 */
int names_settle(struct client *c);
int names_settle_with(struct client *c, const struct names_rows *rows);

void names_apply_dir_move(struct client *c, const struct redo_fmt *r);

#endif
