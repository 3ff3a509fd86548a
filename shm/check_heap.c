/* SPDX-License-Identifier: MIT */
/*
 * check_heap: segments, the runs of pages in them, their blocks, and the lists that hold blocks.
 *
 * Memory is touched only in segments that say they have it, and only after the kernel has mapped it: a
 * segment that claims memory but is a hole of a full file system is a finding, not a SIGBUS.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "alloc.h"
#include "check_state.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

/* ---------------------------------------------------------------- segments */

static struct stamped segment_word(const struct check *c, uint32_t segment)
{
	const struct segment_fmt *s = &c->pool->segment_table[segment];

	return (struct stamped){a128_value_relaxed(&s->word), a128_stamp_relaxed(&s->word)};
}

static enum segment_state state_of(const struct check *c, uint32_t segment)
{
	return segment_value_state(segment_word(c, segment).value);
}

static uint64_t span_of(const struct check *c, uint32_t segment)
{
	uint64_t span = a64_load_relaxed(&c->pool->segment_table[segment].span);

	return span ? span : 1;
}

/* Is its memory there?  Kernels before 5.14 cannot say, and are believed. */
static int readable(const struct check *c, uint32_t segment)
{
	uint64_t bytes = 1ull << c->pool->segment_shift;
	int rc;

	do
		rc = madvise(c->pool->base + segment * bytes, bytes, MADV_POPULATE_READ);
	while (rc && errno == EINTR);
	return !rc || errno == EINVAL;
}

/* Is the segment one of the span that head heads? */
static int heads(const struct check *c, uint32_t head, uint32_t segment)
{
	enum segment_state state;

	if (head < c->pool->first_segment || head >= segment)
		return 0;
	state = state_of(c, head);
	return (state == SEGMENT_OWNED || state == SEGMENT_ORPHAN || state == SEGMENT_CHANGING) &&
	       segment - head < span_of(c, head);
}

static void segment_head(struct check *c, uint32_t segment)
{
	uint64_t span = span_of(c, segment);

	if (span > c->pool->segments - segment) {
		check_broken(c, "segment %u heads a span of %" PRIu64 " segments, which there are not", segment,
			      span);
		return;
	}
	for (uint32_t i = 1; i < span; i++)
		if (segment_word(c, segment + i).value != segment_value(SEGMENT_BODY, 0, segment)) {
			check_problem(c, "segment %u belongs to the span of segment %u, but its word is 0x%"
				      PRIx64, segment + i, segment, segment_word(c, segment + i).value);
			return;
		}
	for (uint32_t i = 0; i < span; i++)
		if (!readable(c, segment + i)) {
			check_broken(c, "segment %u is in use, but its memory is not there", segment + i);
			return;
		}
	c->segment_readable[segment] = 1;
}

static void segment_owner(struct check *c, uint32_t segment, uint32_t owner)
{
	if (!owner || owner > c->slots_high || !c->slots[owner].claimed)
		check_problem(c, "segment %u is owned by slot %u, which is free", segment, owner);
	else if (state_of(c, segment) == SEGMENT_CHANGING && c->slots[owner].alive)
		check_problem(c, "segment %u of slot %u is being claimed or given back though no operation is "
			      "running", segment, owner);
}

static void segment_check(struct check *c, uint32_t segment)
{
	const struct segment_fmt *s = &c->pool->segment_table[segment];
	struct stamped word = segment_word(c, segment);
	enum segment_state state = segment_value_state(word.value);
	uint32_t owner = segment_value_owner(word.value);
	uint32_t head = segment_value_head(word.value);

	if (!check_stamp(c, word.stamp) || !check_stamp(c, a128_stamp_relaxed(&s->remote)))
		check_problem(c, "segment %u has a stamp from the future", segment);
	switch (state) {
	case SEGMENT_FREE:
	case SEGMENT_FREE_DIRTY:
	case SEGMENT_BODY:
		if (a128_value_relaxed(&s->remote))
			check_problem(c, "segment %u has no blocks, but a remote list at 0x%" PRIx64, segment,
				      a128_value_relaxed(&s->remote));
		if (state == SEGMENT_BODY && !heads(c, head, segment))
			check_problem(c, "segment %u says it is in the span of segment %u, which has it not",
				      segment, head);
		break;
	case SEGMENT_OWNED:
	case SEGMENT_CHANGING:
		segment_owner(c, segment, owner);
		c->result->segments++;
		if (state == SEGMENT_OWNED)
			segment_head(c, segment);
		break;
	case SEGMENT_ORPHAN:
		c->result->segments++;
		segment_head(c, segment);
		break;
	case SEGMENT_RESERVED:
	default:
		check_broken(c, "segment %u is in state %d, which it cannot be in", segment, (int)state);
	}
	if (((state == SEGMENT_OWNED || state == SEGMENT_CHANGING) ? head : owner) ||
	    (state != SEGMENT_BODY && head))
		check_problem(c, "segment %u: its word is 0x%" PRIx64 ", more than its state says", segment,
			      word.value);
}

/* Each client's list holds its segments, all of them, once. */
static void segment_list(struct check *c, uint32_t cid)
{
	uint64_t at = a64_load_relaxed(&c->slots[cid].copy->segments_head);

	while (at) {
		enum segment_state state;

		if (at < c->pool->first_segment || at >= c->pool->segments) {
			check_broken(c, "slot %u: its list of segments leads to segment %" PRIu64
				      ", which there is not", cid, at);
			return;
		}
		if (c->segment_lister[at]) {
			check_broken(c, "slot %u: its list of segments leads to segment %" PRIu64
				      ", which is on the list of slot %u already", cid, at,
				      c->segment_lister[at]);
			return;
		}
		c->segment_lister[at] = cid;
		state = state_of(c, (uint32_t)at);
		if ((state != SEGMENT_OWNED && state != SEGMENT_CHANGING) ||
		    segment_value_owner(segment_word(c, (uint32_t)at).value) != cid) {
			check_broken(c, "slot %u: segment %" PRIu64 " is on its list but not its own (0x%" PRIx64
				      ")", cid, at, segment_word(c, (uint32_t)at).value);
			return;
		}
		at = a64_load_relaxed(&c->pool->segment_table[at].next);
	}
}

static int hinted(const struct check *c, int orphan, uint32_t segment)
{
	const struct a64 *w = &c->pool->hints[(orphan ? hint_words(c->pool->segments) : 0) + segment / 64];

	return (int)(a64_load_relaxed(w) >> (segment & 63) & 1);
}

int check_segments(struct check *c)
{
	struct pool *pool = c->pool;

	if (madvise(pool->base, pool->super->slots_off, MADV_POPULATE_READ) && errno == EFAULT) {
		check_problem(c, "the memory of the segment table is not there");
		return -EIO;
	}
	for (uint32_t s = 0; s < pool->first_segment; s++)
		if (state_of(c, s) != SEGMENT_RESERVED)
			check_broken(c, "segment %u should be reserved, but its word is 0x%" PRIx64, s,
				      segment_word(c, s).value);
	for (uint32_t s = pool->first_segment; s < pool->segments; s++)
		segment_check(c, s);
	for (uint32_t cid = 1; cid <= c->slots_high; cid++)
		if (c->slots[cid].claimed)
			segment_list(c, cid);
	for (uint32_t s = pool->first_segment; s < pool->segments; s++) {
		enum segment_state state = state_of(c, s);

		if ((state == SEGMENT_OWNED || state == SEGMENT_CHANGING) && !c->segment_lister[s])
			check_problem(c, "segment %u is on no client's list (0x%" PRIx64 ")", s,
				      segment_word(c, s).value);
		if ((state == SEGMENT_FREE || state == SEGMENT_FREE_DIRTY) && !hinted(c, 0, s))
			check_note(c, "segment %u is free, which the hints do not say", s);
		if (state == SEGMENT_ORPHAN && !hinted(c, 1, s))
			check_note(c, "segment %u is an orphan, which the hints do not say", s);
	}
	return 0;
}

/* ---------------------------------------------------------------- pages */

static int run_add(struct check *c, uint32_t segment, uint32_t page, const struct page_fmt *p)
{
	uint64_t first_page = ((uint64_t)segment * PAGES_PER_SEGMENT) + page;
	struct check_run *run;

	if (c->runs_count == c->runs_room) {
		uint64_t room = c->runs_room ? c->runs_room * 2 : 256;
		struct check_run *runs = realloc(c->runs, room * sizeof(*runs));

		if (!runs)
			return -ENOMEM;
		c->runs = runs;
		c->runs_room = room;
	}
	run = &c->runs[c->runs_count++];
	run->start = (first_page << c->pool->page_shift) + p->first;
	run->block_bytes = p->block_bytes;
	run->base = c->blocks;
	run->frontier = a32_load_relaxed(&p->frontier);
	if (run->frontier > p->capacity)
		run->frontier = p->capacity;
	run->segment = segment;
	run->page = page;
	run->pages = p->pages;
	c->blocks += run->frontier;
	for (uint32_t i = 0; i < p->pages; i++)
		c->page_run[first_page + i] = (uint32_t)c->runs_count;
	return 0;
}

/* The size class of a run: of its own if it has one block, which no class is as large as, or not in that place. */
uint32_t check_run_bin(const struct page_fmt *p)
{
	uint32_t bin = p->block_bytes >> 4 <= page_bin_units(BINS - 1) ? alloc_bin(p->block_bytes >> 4) : BIN_NONE;

	if (p->capacity == 1 && p->bin == BIN_NONE)
		return BIN_NONE;
	return bin < BINS && page_bin_units(bin) == p->block_bytes >> 4 ? bin : BIN_NONE;
}

/* Does the geometry of the run at this page make sense?  One line if not. */
static int run_sane(struct check *c, uint32_t segment, uint32_t page, const struct page_fmt *p)
{
	uint64_t span = span_of(c, segment);
	uint64_t bytes = (uint64_t)p->pages << c->pool->page_shift;

	if (!p->pages || page + (uint64_t)p->pages > span * PAGES_PER_SEGMENT ||
	    (span > 1 && (page != 1 || page + (uint64_t)p->pages <= (span - 1) * PAGES_PER_SEGMENT))) {
		check_broken(c, "segment %u page %u: a run of %u pages does not fit in", segment, page, p->pages);
		return 0;
	}
	if (p->block_bytes < 2 * sizeof(struct object_fmt) || p->block_bytes & 15 || p->first & 15 ||
	    !p->capacity || p->first > bytes || p->block_bytes > bytes - p->first ||
	    p->capacity > (bytes - p->first) / p->block_bytes) {
		check_broken(c, "segment %u page %u: %u blocks of %" PRIu64 " bytes from byte %u do not fit into "
			      "%u pages", segment, page, p->capacity, p->block_bytes, p->first, p->pages);
		return 0;
	}
	if (a32_load_relaxed(&p->frontier) > p->capacity)
		check_broken(c, "segment %u page %u: the frontier is %u, behind its %u blocks", segment, page,
			      a32_load_relaxed(&p->frontier), p->capacity);
	if (p->bin != check_run_bin(p))
		check_problem(c, "segment %u page %u: blocks of %" PRIu64 " bytes are of size class %d, not %d", segment,
			      page, p->block_bytes, (int)check_run_bin(p), (int)p->bin);
	for (uint32_t i = 1; i < p->pages && page + i < PAGES_PER_SEGMENT; i++)
		if (a32_load_relaxed(&p[i].kind) != PAGE_BODY || p[i].head != page) {
			check_broken(c, "segment %u page %u should belong to the run at page %u (kind %u, head %u)",
				      segment, page + i, page, a32_load_relaxed(&p[i].kind), p[i].head);
			return 0;
		}
	return 1;
}

static int segment_runs(struct check *c, uint32_t segment)
{
	const struct page_fmt *entry = segment_pages(c->pool, segment);
	uint64_t free_pages = 0;
	uint32_t owner = segment_value_owner(segment_word(c, segment).value);
	int rc;

	for (uint32_t page = 1; page < PAGES_PER_SEGMENT; page++) {
		const struct page_fmt *p = &entry[page];
		uint32_t kind = a32_load_relaxed(&p->kind);

		switch (kind) {
		case PAGE_FREE:
		case PAGE_BODY:	/* left behind by a run that was closed, or never opened */
			free_pages |= 1ull << page;
			break;
		case PAGE_ROOTS:
			c->page_roots[(uint64_t)segment * PAGES_PER_SEGMENT + page] = 1;
			break;
		case PAGE_BLOCKS:
			if (!run_sane(c, segment, page, p))
				break;
			rc = run_add(c, segment, page, p);
			if (rc)
				return rc;
			page += p->pages - 1;
			break;
		default:
			check_broken(c, "segment %u page %u is of kind %u, which there is not", segment, page,
				      kind);
		}
	}
	if (owner && owner <= c->slots_high && c->slots[owner].alive && entry[0].free != free_pages)
		check_problem(c, "segment %u: its owner's mask of free pages is 0x%" PRIx64 " instead of 0x%" PRIx64,
			      segment, entry[0].free, free_pages);
	return 0;
}

int check_pages(struct check *c)
{
	for (uint32_t s = c->pool->first_segment; s < c->pool->segments; s++)
		if (c->segment_readable[s]) {
			int rc = segment_runs(c, s);

			if (rc)
				return rc;
		}
	c->block = calloc(c->blocks + 1, sizeof(*c->block));
	c->holder = calloc(c->blocks + 1, sizeof(*c->holder));
	c->found = calloc(c->blocks + 1, sizeof(*c->found));
	return c->block && c->holder && c->found ? 0 : -ENOMEM;
}

/* ---------------------------------------------------------------- blocks */

/* What the header at off says, as CHECK_* bits; one line if it makes no sense. */
static unsigned header_check(struct check *c, const struct check_run *run, uint64_t off)
{
	struct object_fmt *object = off_object(c->pool, off);
	uint64_t value = a128_value_relaxed(&object->word);
	uint64_t stamp = a128_stamp_relaxed(&object->word);
	enum object_state state = object_state(value);
	unsigned bits = (unsigned)state;

	if (state == OBJECT_FREE)
		return bits;
	if (state > OBJECT_LIMBO || object_kind(value) >= OBJECT_KINDS) {
		check_broken(c, "object 0x%" PRIx64 ": its header 0x%" PRIx64 " makes no sense", off, value);
		return CHECK_BROKEN;
	}
	if (state == OBJECT_LIVE && !object_count(value))
		check_problem(c, "object 0x%" PRIx64 " is live with a count of zero", off);
	if (state != OBJECT_LIVE && object_count(value))
		check_problem(c, "object 0x%" PRIx64 " is dead with a count of %u", off, object_count(value));
	/* A private object may still have the link it had on the free list: alloc_commit(). */
	if (state == OBJECT_LIVE && !check_stamp(c, stamp) &&
	    (value & OBJECT_EXPOSED || stamp_cid(stamp) != STAMP_CID_LINK))
		check_problem(c, "object 0x%" PRIx64 " has a stamp from the future, 0x%" PRIx64, off, stamp);
	if (value & OBJECT_EXPOSED)
		bits |= CHECK_EXPOSED;
	if (object_slots(value) && state != OBJECT_LIMBO) {
		if (object_slots(value) * object_slot_bytes(value) > run->block_bytes - sizeof(*object))
			check_broken(c, "object 0x%" PRIx64 ": %u slots do not fit into its %" PRIu64 " bytes", off,
				      object_slots(value), run->block_bytes - sizeof(*object));
		else
			bits |= CHECK_SLOTS;
	}
	return bits;
}

int check_blocks(struct check *c)
{
	for (uint64_t r = 0; r < c->runs_count; r++) {
		const struct check_run *run = &c->runs[r];

		for (uint32_t i = 0; i < run->frontier; i++) {
			unsigned bits = header_check(c, run, run->start + i * run->block_bytes);

			c->block[run->base + i] = (uint8_t)bits;
			c->result->objects += (bits & CHECK_STATE) == OBJECT_LIVE;
			if (bits & CHECK_STATE)
				c->segment_readable[run->segment] = CHECK_SEGMENT_USED;
		}
	}
	for (uint32_t s = c->pool->first_segment; s < c->pool->segments; s++)
		if (state_of(c, s) == SEGMENT_ORPHAN && c->segment_readable[s] &&
		    c->segment_readable[s] != CHECK_SEGMENT_USED)
			check_problem(c, "segment %u is an orphan with nothing in it", s);
	return 0;
}

/* ---------------------------------------------------------------- lists */

/* The block at off, if it may be the next on a list of blocks in this state; marks it. */
static int list_step(struct check *c, const char *list, uint32_t number, uint64_t off, enum object_state state,
		     struct check_run **run)
{
	uint64_t ordinal;

	if (!check_find(c, off, &ordinal, run)) {
		check_broken(c, "the %s of %u leads to 0x%" PRIx64 ", where there is no block", list, number, off);
		return 0;
	}
	if ((c->block[ordinal] & CHECK_STATE) != (unsigned)state) {
		check_broken(c, "the %s of %u leads to 0x%" PRIx64 ", which is in state %u", list, number, off,
			      c->block[ordinal] & CHECK_STATE);
		return 0;
	}
	if (c->block[ordinal] & CHECK_LISTED) {
		check_broken(c, "the %s of %u leads to 0x%" PRIx64 ", which is on a list already", list, number,
			      off);
		return 0;
	}
	c->block[ordinal] |= CHECK_LISTED;
	return 1;
}

static uint64_t header_link(const struct check *c, uint64_t off)
{
	uint64_t stamp = a128_stamp_relaxed(&off_object(c->pool, off)->word);

	return !stamp ? 0 : stamp_cid(stamp) == STAMP_CID_LINK ? stamp_link_off(stamp) : 1;
}

/* Did the slot's client die with a record of this operation? */
static int sealed(const struct check *c, uint32_t cid, enum redo_op op)
{
	const struct check_slot *s = &c->slots[cid];

	return !s->alive && a64_load_relaxed(&s->copy->redo.era) == s->era && s->copy->redo.op == (uint32_t)op;
}

static void dead_list(struct check *c, uint32_t cid)
{
	uint64_t at = a64_load_relaxed(&c->slots[cid].copy->dead_top);
	uint64_t ordinal;

	/* Who died giving its top block back left it free, or in limbo. */
	if (!c->slots[cid].alive && check_find(c, at, &ordinal, NULL)) {
		unsigned state = c->block[ordinal] & CHECK_STATE;

		if (state == OBJECT_FREE && sealed(c, cid, REDO_POP) && c->slots[cid].copy->redo.object == at)
			at = c->slots[cid].copy->redo.next;
		else if (state == OBJECT_LIMBO && list_step(c, "dead list of slot", cid, at, OBJECT_LIMBO, NULL))
			at = header_link(c, at);
	}
	for (; at && list_step(c, "dead list of slot", cid, at, OBJECT_DEAD, NULL); at = header_link(c, at))
		;
}

/* Will the recovery of a dead client look at the segment? */
static int looks_again(const struct check *c, uint32_t segment)
{
	for (uint32_t cid = 1; cid <= c->slots_high; cid++)
		if (c->slots[cid].claimed && !c->slots[cid].alive && c->slots[cid].copy &&
		    c->slots[cid].copy->redo.look == segment)
			return 1;
	return 0;
}

static void remote_list(struct check *c, uint32_t segment)
{
	uint64_t at = a128_value_relaxed(&c->pool->segment_table[segment].remote);
	struct check_run *run;

	if (at && state_of(c, segment) == SEGMENT_ORPHAN && !looks_again(c, segment))
		check_problem(c, "segment %u is an orphan, and nobody will look at its remote list", segment);
	while (at && list_step(c, "remote list of segment", segment, at, OBJECT_LIMBO, &run)) {
		if (run->segment != segment)
			check_broken(c, "object 0x%" PRIx64 " of segment %u is on the remote list of segment %u", at,
				      run->segment, segment);
		at = a64_load_relaxed((struct a64 *)object_payload(off_object(c->pool, at)));
	}
}

/* The remote list that a dead client had taken, and was making free: its first blocks are free again. */
static void collected_list(struct check *c, uint32_t cid)
{
	uint64_t at = sealed(c, cid, REDO_COLLECT) ? c->slots[cid].copy->redo.object : 0;
	uint64_t ordinal;

	while (at && check_find(c, at, &ordinal, NULL) && !(c->block[ordinal] & CHECK_LISTED) &&
	       ((c->block[ordinal] & CHECK_STATE) == OBJECT_LIMBO ||
		(c->block[ordinal] & CHECK_STATE) == OBJECT_FREE)) {
		c->block[ordinal] |= CHECK_LISTED;
		at = a64_load_relaxed((struct a64 *)object_payload(off_object(c->pool, at)));
	}
	/* Not taken after all: it is on the segment's list, and was met there. */
	if (at && at != c->slots[cid].copy->redo.object)
		check_broken(c, "slot %u: the list that it was collecting leads to 0x%" PRIx64, cid, at);
}

/* The owner's free list holds exactly the FREE blocks below the frontier. */
static void free_list(struct check *c, const struct check_run *run)
{
	const struct page_fmt *p = segment_pages(c->pool, run->segment) + run->page;
	uint32_t free_blocks = 0, listed = 0;
	struct check_run *in;

	for (uint32_t i = 0; i < run->frontier; i++)
		free_blocks += (c->block[run->base + i] & CHECK_STATE) == OBJECT_FREE;
	for (uint64_t at = stamp_link_off(p->free); at; at = header_link(c, at), listed++) {
		if (!list_step(c, "free list in segment", run->segment, at, OBJECT_FREE, &in))
			break;
		if (in != run) {
			check_problem(c, "segment %u page %u: its free list leads to 0x%" PRIx64
				      " in another run", run->segment, run->page, at);
			break;
		}
	}
	if (listed != free_blocks)
		check_problem(c, "segment %u page %u: %u blocks are free, %u on the free list", run->segment,
			      run->page, free_blocks, listed);
	if (page_used(p) != run->frontier - free_blocks)
		check_problem(c, "segment %u page %u: %u blocks are in use, not %u", run->segment, run->page,
			      run->frontier - free_blocks, page_used(p));
}

static void roots_chain(struct check *c, uint32_t cid)
{
	uint64_t page_bytes = 1ull << c->pool->page_shift;
	uint64_t at = a64_load_relaxed(&c->slots[cid].copy->roots_next);

	while (at) {
		const struct roots_fmt *head;

		if (at >= c->pool->heap_bytes || at % page_bytes || !c->page_roots[at / page_bytes]) {
			check_broken(c, "slot %u: its chain of roots leads to 0x%" PRIx64
				      ", where there is no page of roots", cid, at);
			return;
		}
		if (c->page_roots[at / page_bytes] == 2) {
			check_broken(c, "slot %u: its chain of roots leads to 0x%" PRIx64
				      ", which is on a chain already", cid, at);
			return;
		}
		c->page_roots[at / page_bytes] = 2;
		if (segment_value_owner(segment_word(c, off_segment(c->pool, at)).value) != cid)
			check_broken(c, "slot %u: its page of roots at 0x%" PRIx64
				      " is in a segment that is not its own", cid, at);
		head = off_ptr(c->pool, at);
		if (head->rows > page_bytes / sizeof(struct root_fmt) - 1)
			check_broken(c, "slot %u: its page of roots at 0x%" PRIx64 " has %" PRIu64 " rows", cid, at,
				      head->rows);
		at = a64_load_relaxed(&head->next);
	}
}

/* Blocks that are in a state in which some list must hold them. */
static void unlisted(struct check *c)
{
	for (uint64_t r = 0; r < c->runs_count; r++)
		for (uint32_t i = 0; i < c->runs[r].frontier; i++) {
			unsigned bits = c->block[c->runs[r].base + i];

			if (bits & CHECK_LISTED)
				continue;
			if ((bits & CHECK_STATE) == OBJECT_DEAD)
				check_problem(c, "object 0x%" PRIx64 " is dead and on no client's dead list",
					      c->runs[r].start + i * c->runs[r].block_bytes);
			if ((bits & CHECK_STATE) == OBJECT_LIMBO)
				check_problem(c, "block 0x%" PRIx64 " is in limbo and not on the remote list of "
					      "segment %u", c->runs[r].start + i * c->runs[r].block_bytes,
					      c->runs[r].segment);
		}
}

int check_lists(struct check *c)
{
	uint64_t pages = (uint64_t)c->pool->segments * PAGES_PER_SEGMENT;

	for (uint32_t cid = 1; cid <= c->slots_high; cid++)
		if (c->slots[cid].claimed) {
			dead_list(c, cid);
			roots_chain(c, cid);
		}
	for (uint32_t s = c->pool->first_segment; s < c->pool->segments; s++)
		if (c->segment_readable[s])
			remote_list(c, s);
	for (uint32_t cid = 1; cid <= c->slots_high; cid++)
		if (c->slots[cid].claimed)
			collected_list(c, cid);
	for (uint64_t r = 0; r < c->runs_count; r++) {
		uint32_t owner = segment_value_owner(segment_word(c, c->runs[r].segment).value);

		/* The lists of who is dead mean nothing: headers do. */
		if (owner && owner <= c->slots_high && c->slots[owner].alive)
			free_list(c, &c->runs[r]);
	}
	for (uint64_t p = 0; p < pages; p++)
		if (c->page_roots[p] == 1)
			check_problem(c, "segment %" PRIu64 " page %" PRIu64 " holds roots of nobody",
				      p / PAGES_PER_SEGMENT, p % PAGES_PER_SEGMENT);
	unlisted(c);
	return 0;
}
