/* SPDX-License-Identifier: MIT */
/*
 * cell: counted references that any number of clients load and change at once, and counter words.
 *
 *   call            commits by                 excludes    progress
 *   cell_load       CAS on the header          nothing     lock-free
 *   cell_exchange   CAS on the cell            nothing     one try; the caller loops
 *   counter_add     CAS on the counter word    nothing     one try; the caller loops
 *
 * The caller holds a reference to the object that the cell or counter is in.
 */
#ifndef CXLSHM_CELL_H
#define CXLSHM_CELL_H

#include "ref.h"

/*
 * A path of cells from one that cannot go away to an object: what a reader followed without taking references.
 * cell_take() makes sure that all of it still stood when the object's header was read.
 */
struct cell_seen {
	const struct cell_fmt *cell;
	struct stamped word;
};

/*
 * Take a reference on `object`, which hangs on seen->cell (directly, or by references that do not change while the cell
 * does not) into the empty row.  -EAGAIN: the cell has changed, look again.  -EOVERFLOW.
 * Call between client_read_begin() and _end(), with the cell read in between, too.
 */
int cell_take(struct client *c, const struct cell_seen *seen, uint64_t object, struct root_fmt *row);

/* Take a reference on what the cell refers to into the empty row; the row stays empty if the cell is. */
int cell_load(struct client *c, struct cell_fmt *cell, struct root_fmt *row);

/*
 * If the cell still is as seen, exchange its reference with the row's (either may be none) and, if todo is not NULL, let
 * *todo replace what the slot owes, all in one transaction.  -EAGAIN: it is not.
 */
int cell_exchange(struct client *c, struct cell_fmt *cell, struct stamped seen, struct root_fmt *row,
		  const struct todo_fmt *todo);

/*
 * If the counter word still is as seen, give it this value, and let *todo (may be NULL) replace what the slot owes, in
 * one transaction.  -EAGAIN: it is not.
 */
int counter_set(struct client *c, struct a128 *counter, struct stamped seen, uint64_t value,
		const struct todo_fmt *todo);

void cell_apply_exchange(struct client *c, const struct redo_fmt *r);
void counter_apply(struct client *c, const struct redo_fmt *r);

#endif
