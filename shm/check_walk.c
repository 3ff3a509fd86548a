/* SPDX-License-Identifier: MIT */
/*
 * check_walk: references.  Every count against the references found; who refers to what may do so; and
 * what nothing leads to, counts or not.
 */
#include <errno.h>
#include <inttypes.h>

#include "check_state.h"

/* Who refers: an object's slot, or a root, an export, the superblock. */
struct source {
	uint64_t object;	/* 0: none */
	uint64_t number;	/* slot, row or export */
	uint32_t cid;	/* 0: an object, or the superblock */
	const char *what;
};

static void describe(struct check *c, const struct source *from, uint64_t to, const char *wrong)
{
	if (from->object)
		check_problem(c, "object 0x%" PRIx64 " slot %" PRIu64 " refers to 0x%" PRIx64 ", %s", from->object,
			      from->number, to, wrong);
	else
		check_problem(c, "slot %u %s %" PRIu64 " refers to 0x%" PRIx64 ", %s", from->cid, from->what,
			      from->number, to, wrong);
}

static const char *no_object(unsigned bits)
{
	switch (bits & CHECK_STATE) {
	case OBJECT_FREE:
		return "which is a free block";
	case OBJECT_DEAD:
		return "which is dead";
	case OBJECT_LIMBO:
		return "which is a block in limbo";
	default:
		return "whose header makes no sense";
	}
}

/* Note one reference; holder: the cid whose roots it is in, or CHECK_HOLDER_OTHER. */
static void refer(struct check *c, const struct source *from, uint64_t to, uint16_t holder)
{
	uint64_t ordinal;

	if (!check_find(c, to, &ordinal, NULL)) {
		c->unsafe = 1;
		describe(c, from, to, "where there is no object");
		return;
	}
	if ((c->block[ordinal] & CHECK_STATE) != OBJECT_LIVE) {
		describe(c, from, to, no_object(c->block[ordinal]));
		return;
	}
	c->result->references++;
	if (c->found[ordinal] < UINT32_MAX)
		c->found[ordinal]++;
	if (!c->holder[ordinal])
		c->holder[ordinal] = holder;
	else if (c->holder[ordinal] != holder)
		c->holder[ordinal] = CHECK_HOLDER_OTHER;
}

static int owned_by(const struct check *c, uint64_t off, uint32_t cid)
{
	uint64_t word = a128_value_relaxed(&c->pool->segment_table[off_segment(c->pool, off)].word);

	return segment_value_state(word) == SEGMENT_OWNED && segment_value_owner(word) == cid;
}

static int root_refers(struct check *c, uint32_t cid, uint64_t object, uint64_t row)
{
	struct source from = {.cid = cid, .what = "root", .number = row};
	uint64_t ordinal;

	/* An allocation, or a release, that death cut short. */
	if (!c->slots[cid].alive && check_find(c, object, &ordinal, NULL) &&
	    (c->block[ordinal] & CHECK_STATE) == OBJECT_FREE && owned_by(c, object, cid))
		return 0;
	refer(c, &from, object, (uint16_t)cid);
	return 0;
}

static void slots_refer(struct check *c, uint64_t off)
{
	struct object_fmt *object = off_object(c->pool, off);
	uint64_t header = a128_value_relaxed(&object->word);
	struct source from = {.object = off};

	for (uint32_t i = 0; i < object_slots(header); i++) {
		uint64_t to = a64_load_relaxed(object_slot(object, header, i));

		from.number = i;
		if (to && !check_frozen(header, to))
			refer(c, &from, to, CHECK_HOLDER_OTHER);
		if (header & OBJECT_CELLS && !check_stamp(c, a128_stamp_relaxed(&object_cell(object, i)->word)))
			check_problem(c, "object 0x%" PRIx64 " slot %u has a stamp from the future, 0x%" PRIx64, off, i,
				      a128_stamp_relaxed(&object_cell(object, i)->word));
	}
}

static void counts(struct check *c, const struct check_run *run)
{
	for (uint32_t i = 0; i < run->frontier; i++) {
		uint64_t off = run->start + i * run->block_bytes;
		uint64_t ordinal = run->base + i;
		unsigned bits = c->block[ordinal];

		if ((bits & CHECK_STATE) != OBJECT_LIVE)
			continue;
		if (object_count(check_header(c, off)) != c->found[ordinal])
			check_problem(c, "object 0x%" PRIx64 " (kind %d) has count %u, but %u references were found",
				      off, (int)object_kind(check_header(c, off)), object_count(check_header(c, off)),
				      c->found[ordinal]);
		if (c->holder[ordinal] == CHECK_HOLDER_OTHER && !(bits & CHECK_EXPOSED))
			check_problem(c, "object 0x%" PRIx64 " is not exposed, yet not only one client's roots refer "
				      "to it", off);
		if (c->holder[ordinal] && c->holder[ordinal] != CHECK_HOLDER_OTHER && !(bits & CHECK_EXPOSED) &&
		    !owned_by(c, off, c->holder[ordinal]))
			check_problem(c, "object 0x%" PRIx64 " is not exposed, yet not in a segment of slot %u, its holder",
				      off, c->holder[ordinal]);
	}
}

static void root_dir(struct check *c)
{
	uint64_t off = c->pool->super->root_dir;
	uint64_t ordinal;

	if (!check_is(c, off, OBJECT_DIRECTORY, &ordinal)) {
		check_problem(c, "the root directory, 0x%" PRIx64 ", is no directory", off);
		return;
	}
	c->result->references++;
	c->found[ordinal]++;
	c->holder[ordinal] = CHECK_HOLDER_OTHER;
}

int check_references(struct check *c)
{
	root_dir(c);
	for (uint32_t cid = 1; cid <= c->slots_high; cid++) {
		struct source from = {.cid = cid, .what = "export"};
		int rc;

		if (!c->slots[cid].claimed)
			continue;
		rc = check_each_root(c, cid, root_refers);
		if (rc)
			return rc;
		for (uint32_t i = 0; i < EXPORTS; i++) {
			uint64_t to = a128_value_relaxed(&c->slots[cid].copy->exports[i].word);

			from.number = i;
			if (to)
				refer(c, &from, to, CHECK_HOLDER_OTHER);
		}
	}
	for (uint64_t r = 0; r < c->runs_count; r++)
		for (uint32_t i = 0; i < c->runs[r].frontier; i++)
			if (c->block[c->runs[r].base + i] & CHECK_SLOTS)
				slots_refer(c, c->runs[r].start + i * c->runs[r].block_bytes);
	for (uint64_t r = 0; r < c->runs_count; r++)
		counts(c, &c->runs[r]);
	return 0;
}

/* ---------------------------------------------------------------- reachability */

static int reach(struct check *c, uint64_t off)
{
	uint64_t ordinal;

	if (!check_find(c, off, &ordinal, NULL) || (c->block[ordinal] & CHECK_STATE) != OBJECT_LIVE ||
	    c->block[ordinal] & CHECK_REACHED)
		return 0;
	c->block[ordinal] |= CHECK_REACHED;
	return c->block[ordinal] & CHECK_SLOTS ? check_push(c, off) : 0;
}

static int reach_slots(struct check *c, uint64_t off)
{
	struct object_fmt *object = off_object(c->pool, off);
	uint64_t header = a128_value_relaxed(&object->word);
	int rc = 0;

	for (uint32_t i = 0; !rc && i < object_slots(header); i++)
		rc = reach(c, a64_load_relaxed(object_slot(object, header, i)));
	return rc;
}

static int follow(struct check *c)
{
	int rc = 0;

	while (!rc && c->stack_used)
		rc = reach_slots(c, c->stack[--c->stack_used]);
	return rc;
}

static int root_reaches(struct check *c, uint32_t cid, uint64_t object, uint64_t row)
{
	(void)cid;
	(void)row;
	return reach(c, object);
}

/* What is known to be wrong already, dead or miscounted, keeps what it refers to: one finding is enough. */
static int reach_from_findings(struct check *c, const struct check_run *run)
{
	int rc = 0;

	for (uint32_t i = 0; !rc && i < run->frontier; i++) {
		uint64_t off = run->start + i * run->block_bytes;
		unsigned bits = c->block[run->base + i];

		if ((bits & CHECK_STATE) == OBJECT_LIVE && object_count(check_header(c, off)) != c->found[run->base + i])
			rc = reach(c, off);
		else if ((bits & CHECK_STATE) == OBJECT_DEAD && bits & CHECK_SLOTS)
			rc = reach_slots(c, off);
		if (!rc)
			rc = follow(c);
	}
	return rc;
}

int check_reach(struct check *c)
{
	int rc = reach(c, c->pool->super->root_dir);

	for (uint32_t cid = 1; !rc && cid <= c->slots_high; cid++) {
		if (!c->slots[cid].claimed)
			continue;
		rc = check_each_root(c, cid, root_reaches);
		for (uint32_t i = 0; !rc && i < EXPORTS; i++)
			rc = reach(c, a128_value_relaxed(&c->slots[cid].copy->exports[i].word));
	}
	if (!rc)
		rc = follow(c);
	for (uint64_t r = 0; !rc && r < c->runs_count; r++)
		rc = reach_from_findings(c, &c->runs[r]);
	for (uint64_t r = 0; !rc && r < c->runs_count; r++)
		for (uint32_t i = 0; i < c->runs[r].frontier; i++)
			if ((c->block[c->runs[r].base + i] & (CHECK_STATE | CHECK_REACHED)) == OBJECT_LIVE)
				check_problem(c, "object 0x%" PRIx64 " is leaked: only a cycle of objects refers to it",
					      c->runs[r].start + i * c->runs[r].block_bytes);
	return rc;
}
