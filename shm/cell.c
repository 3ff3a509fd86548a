/* SPDX-License-Identifier: MIT */
/*
 * Cells and counters; see cell.h.
 */
#include "cell.h"

int cell_take(struct client *c, const struct cell_seen *seen, uint64_t off, struct root_fmt *row)
{
	struct stamped old, again;

	if (__builtin_expect(!off_is_object(c->pool, off), 0)) {
		/* Followed through something removed meanwhile, or a damaged pool: the cell tells. */
		again = a128_load_acquire(&seen->cell->word);
		return again.value == seen->word.value && again.stamp == seen->word.stamp ? -EUCLEAN : -EAGAIN;
	}
	old = a128_load_halves(&off_object(c->pool, off)->word);
	CRASH_POINT(c, cell, load_read);
	/*
	 * Rule 5.  The cell's stamp is unique, so if it is the same now, the cell held its reference throughout, and the
	 * header was that of a live object when it was read; if the CAS below finds the header unchanged, it still is.
	 */
	again = a128_load_acquire(&seen->cell->word);
	if (again.value != seen->word.value || again.stamp != seen->word.stamp)
		return -EAGAIN;
	if (__builtin_expect(!ref_header_attachable(old.value), 0))
		return ref_header_live(old.value) ? -EOVERFLOW : -EUCLEAN;
	return ref_attach_seen(c, off, old, row);
}

int cell_load(struct client *c, struct cell_fmt *cell, struct root_fmt *row)
{
	int rc;

	client_read_begin(c);
	do {
		struct cell_seen seen = {.cell = cell, .word = a128_load_acquire(&cell->word)};

		rc = 0;
		if (seen.word.value)
			rc = cell_take(c, &seen, seen.word.value, row);
	} while (rc == -EAGAIN);
	client_read_end(c);
	return rc;
}

void cell_apply_exchange(struct client *c, const struct redo_fmt *r)
{
	struct root_fmt *row = off_ptr(c->pool, r->loc);

	a64_store_release(&row->object, r->object);
	persist(c->pool, row, sizeof(*row));
	CRASH_POINT(c, cell, exchange_rooted);
	redo_apply_todo(c, r);
	CRASH_POINT(c, cell, exchange_todo);
}

int cell_exchange(struct client *c, struct cell_fmt *cell, struct stamped seen, struct root_fmt *row,
		  const struct todo_fmt *todo)
{
	uint64_t mine = a64_load_relaxed(&row->object);
	struct redo_fmt *r;

	if (mine)
		ref_expose(c, mine);
	r = redo_begin(c, REDO_EXCHANGE);
	r->word = off_of(c->pool, &cell->word);
	r->loc = off_of(c->pool, &row->object);
	r->object = seen.value == EDGE_FROZEN ? 0 : seen.value;
	if (todo) {
		r->todo = *todo;
		r->has_todo = 1;
	}
	redo_seal(c, r);
	/*
	 * Pairs: cell_load() and every other exchange (acquire).
	 * Crash before: the row still holds ours, the cell its own.  After: the record puts the cell's into the row.
	 */
	if (!era_cas(c, &cell->word, seen, mine)) {
		era_bump(c);
		return -EAGAIN;
	}
	CRASH_POINT(c, cell, exchange_swapped);
	cell_apply_exchange(c, r);
	era_bump(c);
	return 0;
}

void counter_apply(struct client *c, const struct redo_fmt *r)
{
	redo_apply_todo(c, r);
	CRASH_POINT(c, cell, count_todo);
}

int counter_set(struct client *c, struct a128 *counter, struct stamped seen, uint64_t value,
		const struct todo_fmt *todo)
{
	struct redo_fmt *r = redo_begin(c, REDO_COUNT);

	r->word = off_of(c->pool, counter);
	if (todo) {
		r->todo = *todo;
		r->has_todo = 1;
	}
	redo_seal(c, r);
	/* Pairs: every other change of the word (acquire).  Crash before: nothing.  After: the record notes the debt. */
	if (!era_cas(c, counter, seen, value)) {
		era_bump(c);
		return -EAGAIN;
	}
	CRASH_POINT(c, cell, count_swapped);
	counter_apply(c, r);
	era_bump(c);
	return 0;
}
