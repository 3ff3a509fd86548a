/* SPDX-License-Identifier: MIT */
/*
 * A directory as it is left by somebody who died while he took its inner nodes out: see names_prune().
 */
#ifndef TESTS_LIB_FROZEN_H
#define TESTS_LIB_FROZEN_H

#include "names.h"

static inline int frozen_spot(struct client *c, uint64_t dir, const char *name, struct names_spot *s)
{
	return names_seek(c, dir, names_key_of(c, name, strlen(name)).hash, s);
}

/* Freeze what is empty in the node that has this name, if one has. */
static inline int frozen_make(struct client *c, uint64_t dir, const char *name)
{
	struct names_spot s;
	struct cell_fmt *cells;
	int rc = frozen_spot(c, dir, name, &s);

	if (rc || !s.up)
		return rc;
	cells = object_cell(off_object(c->pool, s.up_word.value), 0);
	for (unsigned i = 0; i < NODE_EDGES; i++) {
		struct stamped seen = a128_load_acquire(&cells[i].word);

		if (!seen.value && !era_cas(c, &cells[i].word, seen, EDGE_FROZEN))
			rc = -EAGAIN;
	}
	era_bump(c);
	return rc;
}

/* Would the name be put into a frozen edge? */
static inline int frozen_meets(struct client *c, uint64_t dir, const char *name)
{
	struct names_spot s;

	return !frozen_spot(c, dir, name, &s) && s.word.value == EDGE_FROZEN;
}

#endif
