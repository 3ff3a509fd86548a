/* SPDX-License-Identifier: MIT */
/*
 * Claiming, adopting and giving back segments; see segment.h for the states.
 */
#include "segment_memory.h"

#include <errno.h>

#define SPAN_TRIES 4u	/* runs that are tried because of the memory in them */

static struct segment_fmt *table(const struct client *c, uint32_t segment)
{
	return &c->pool->segment_table[segment];
}

/* ---- hints ---- */

static struct a64 *hint_word(const struct client *c, int orphan, uint32_t segment)
{
	return &c->pool->hints[(orphan ? hint_words(c->pool->segments) : 0) + segment / 64];
}

static void hint_set(struct client *c, int orphan, uint32_t segment)
{
	a64_or_acq_rel(hint_word(c, orphan, segment), 1ull << (segment & 63));
}

static void hint_clear(struct client *c, int orphan, uint32_t segment)
{
	struct a64 *w = hint_word(c, orphan, segment);

	/* Pairs: find_by_hint().  Crash after: who owns the segment sets it again with its release; else only a walk finds it. */
	if (a64_load_relaxed(w) & 1ull << (segment & 63)) {
		a64_and_acq_rel(w, ~(1ull << (segment & 63)));
		CRASH_POINT(c, segment, hint_cleared);
	}
}

static int wanted(enum segment_state state, int orphan)
{
	return orphan ? state == SEGMENT_ORPHAN : state == SEGMENT_FREE || state == SEGMENT_FREE_DIRTY;
}

/*
 * A segment that looks free (or orphaned), by the hints from the client's own place onwards; SEGMENT_NONE if no hint leads
 * to one.  A hint that leads nowhere is cleared, then the word read once more, for its setter may have come between.
 * Crash between the two: if it is wanted by then, its hint is lost, and only a walk finds the segment.
 */
static uint32_t find_by_hint(struct client *c, int orphan)
{
	struct pool *pool = c->pool;
	uint32_t words = hint_words(pool->segments);
	uint32_t start = c->claim_cursor / 64 % words;

	for (uint32_t n = 0; n <= words; n++) {
		uint32_t w = (start + n) % words;
		uint64_t bits = a64_load_acquire(&pool->hints[(orphan ? words : 0) + w]);

		while (bits) {
			uint32_t bit = (uint32_t)__builtin_ctzll(bits);
			uint32_t segment = w * 64 + bit;

			bits &= bits - 1;
			if (segment < pool->first_segment || segment >= pool->segments)
				continue;
			if (wanted(segment_state_of(pool, segment), orphan))
				return segment;
			hint_clear(c, orphan, segment);
			if (wanted(segment_state_of(pool, segment), orphan)) {
				hint_set(c, orphan, segment);
				return segment;
			}
		}
	}
	return SEGMENT_NONE;
}

/* The same by looking at every word: before the pool is called full. */
static uint32_t find_by_walk(struct client *c, int orphan)
{
	struct pool *pool = c->pool;

	for (uint32_t segment = pool->first_segment; segment < pool->segments; segment++)
		if (wanted(segment_state_of(pool, segment), orphan)) {
			hint_set(c, orphan, segment);
			return segment;
		}
	return SEGMENT_NONE;
}

/* A run of segments that look free, and how many of them have no memory. */
struct run {
	uint32_t first, holes;
};

static int run_before(const struct run *a, const struct run *b)
{
	return a->holes < b->holes || (a->holes == b->holes && a->first < b->first);
}

/*
 * The first run of count segments that look free.  by_memory: of all of them the next behind *run by holes, then by place, for
 * in a full file system there may be memory only where it was kept; a run of nothing but holes is none of these.  Others
 * change them meanwhile, so holes may come out too high or too low: who takes the run will see.
 */
static int find_run(const struct client *c, uint32_t count, int by_memory, struct run *run)
{
	struct run best = {SEGMENT_NONE, count}, now = {.holes = 0};
	uint32_t length = 0;

	for (uint32_t segment = c->pool->first_segment; segment < c->pool->segments; segment++) {
		enum segment_state state = segment_state_of(c->pool, segment);

		if (!wanted(state, 0)) {
			length = now.holes = 0;
			continue;
		}
		now.holes += state == SEGMENT_FREE;
		if (++length > count && now.holes && segment_state_of(c->pool, segment - count) == SEGMENT_FREE)
			now.holes--;
		now.first = segment + 1 - count;
		if (length < count || (by_memory && (!run_before(run, &now) || !run_before(&now, &best))))
			continue;
		best = now;
		if (!by_memory)
			break;
	}
	*run = best;
	return best.first != SEGMENT_NONE;
}

/* ---- claiming ---- */

void segment_apply_claim(struct client *c, const struct redo_fmt *r)
{
	uint32_t segment = (uint32_t)r->object;
	struct segment_fmt *s = table(c, segment);
	uint64_t head = a64_load_relaxed(&c->slot->segments_head);

	/* Once it heads the list, nothing is left to do; before, both steps may be repeated. */
	if (head == segment)
		return;
	a64_store_release(&s->next, head);
	persist(c->pool, s, sizeof(*s));
	CRASH_POINT(c, segment, claim_next);
	a64_store_release(&c->slot->segments_head, segment);
	persist(c->pool, &c->slot->segments_head, 8);
	CRASH_POINT(c, segment, claim_linked);
	a64_store_relaxed(&c->slot->segments_owned, a64_load_relaxed(&c->slot->segments_owned) + 1);
}

/*
 * From its present word to {to, mine} in one CAS, and onto the slot's list.
 * Crash before the CAS: not claimed.  After: the record links it, and recovery gives it back with the others.
 */
static int claim_word(struct client *c, uint32_t segment, struct stamped old, enum segment_state to)
{
	struct segment_fmt *s = table(c, segment);
	struct redo_fmt *r = redo_begin(c, REDO_SEGMENT_CLAIM);

	r->word = off_of(c->pool, &s->word);
	r->object = segment;
	redo_seal(c, r);
	if (!era_cas(c, &s->word, old, segment_value(to, c->cid, 0))) {
		era_bump(c);
		return -EAGAIN;
	}
	CRASH_POINT(c, segment, claim_swapped);
	segment_apply_claim(c, r);
	era_bump(c);
	return 0;
}

/*
 * The owner alone changes its own segment's word: no record, the state says it all.
 * Pairs: whoever looks at the state (acquire).  Crash behind it: recovery finds the state, and bumps (rule 4).
 */
static void set_state(struct client *c, uint32_t segment, enum segment_state state)
{
	struct segment_fmt *s = table(c, segment);
	struct stamped old = a128_load_acquire(&s->word);

	era_store(c, &s->word, old.stamp, segment_value(state, c->cid, 0));
	CRASH_POINT(c, segment, state_set);
	era_bump(c);
}

int segment_adopt(struct client *c, uint32_t segment)
{
	struct stamped old = a128_load_acquire(&table(c, segment)->word);
	int rc;

	if (segment_value_state(old.value) != SEGMENT_ORPHAN)
		return -EAGAIN;
	rc = claim_word(c, segment, old, SEGMENT_OWNED);
	if (rc)
		return rc;
	hint_clear(c, 1, segment);
	CRASH_POINT(c, segment, adopted);
	return 0;
}

static int adopt_by(struct client *c, uint32_t (*find)(struct client *c, int orphan), uint32_t *segment)
{
	uint32_t found;

	while ((found = find(c, 1)) != SEGMENT_NONE)
		if (!segment_adopt(c, found)) {
			*segment = found;
			return 0;
		}
	return -ENOENT;
}

int segment_adopt_any(struct client *c, uint32_t *segment)
{
	return adopt_by(c, find_by_hint, segment);
}

int segment_adopt_unhinted(struct client *c, uint32_t *segment)
{
	return adopt_by(c, find_by_walk, segment);
}

/* ---- giving back ---- */

/*
 * Behind the step that left a segment FREE_DIRTY, and repeated with it by recovery.
 * Pairs: segment_trim_hinted().
 */
static void dirty_hint(struct client *c, uint64_t state)
{
	if (state != SEGMENT_FREE_DIRTY)
		return;
	a32_store_release(&c->pool->shared->segments_dirty, SEGMENTS_DIRTY);
	persist(c->pool, &c->pool->shared->segments_dirty, sizeof(struct a32));
	CRASH_POINT(c, segment, dirty_hinted);
}

void segment_apply_release(struct client *c, const struct redo_fmt *r)
{
	struct a64 *link = off_ptr(c->pool, r->loc);
	uint32_t segment = (uint32_t)r->object;

	if (a64_load_relaxed(link) == segment) {
		a64_store_release(link, r->next);
		persist(c->pool, link, 8);
		CRASH_POINT(c, segment, release_unlinked);
		a64_store_relaxed(&c->slot->segments_owned, a64_load_relaxed(&c->slot->segments_owned) - 1);
	}
	/*
	 * Pairs: find_by_hint().  Within the transaction: only who finds no other memory, or trims, looks for an orphan that no
	 * hint leads to.  Crash before: recovery comes here again.  Somebody may have it by now: then it is a hint too many.
	 */
	hint_set(c, segment_state_of(c->pool, segment) == SEGMENT_ORPHAN, segment);
	CRASH_POINT(c, segment, release_hinted);
	dirty_hint(c, r->aux);
}

/*
 * From OWNED or CHANGING to state, and off the slot's list.  The record knows the link and what follows, for from the CAS
 * on the segment's own next field may be another client's.
 */
static void let_go(struct client *c, uint32_t segment, enum segment_state state)
{
	struct segment_fmt *s = table(c, segment);
	struct a64 *link = &c->slot->segments_head;
	uint32_t left = c->pool->segments;
	struct redo_fmt *r;

	while (a64_load_relaxed(link) != segment) {
		uint64_t next = a64_load_relaxed(link);

		if (next < c->pool->first_segment || next >= c->pool->segments || !left--)
			return;	/* not on the list: a damaged pool; leave it to fsck */
		link = &table(c, (uint32_t)next)->next;
	}
	r = redo_begin(c, REDO_SEGMENT_RELEASE);
	r->word = off_of(c->pool, &s->word);
	r->loc = off_of(c->pool, link);
	r->object = segment;
	r->next = a64_load_relaxed(&s->next);
	r->aux = state;
	if (state == SEGMENT_ORPHAN)
		r->look = segment;
	redo_seal(c, r);
	while (!era_cas(c, &s->word, a128_load_acquire(&s->word), segment_value(state, 0, 0)))
		;	/* nobody else writes an owned segment's word: the first one succeeds */
	CRASH_POINT(c, segment, release_swapped);
	segment_apply_release(c, r);
	era_bump(c);
}

void segment_apply_shrink(struct client *c, const struct redo_fmt *r)
{
	uint32_t head = (uint32_t)r->object;
	uint32_t segment = head + (uint32_t)r->next;
	struct segment_fmt *s = table(c, segment);
	struct stamped old = a128_load_acquire(&s->word);

	a64_store_release(&table(c, head)->span, r->next);
	persist(c->pool, table(c, head), sizeof(struct segment_fmt));
	CRASH_POINT(c, segment, shrink_counted);
	/* Repeated after a crash: once it is no longer this span's, it may be anybody's. */
	if (old.value == segment_value(SEGMENT_BODY, 0, head)) {
		era_store(c, &s->word, old.stamp, segment_value((enum segment_state)r->aux, 0, 0));
		CRASH_POINT(c, segment, shrink_swapped);
	}
	dirty_hint(c, r->aux);
	/* Pairs and Crash: as in segment_apply_release(). */
	hint_set(c, 0, segment);
	CRASH_POINT(c, segment, shrink_hinted);
}

/* Give all of a span back but its head, which is CHANGING.  looked: as in give_back(). */
static void span_shrink(struct client *c, uint32_t head, uint32_t looked)
{
	for (uint32_t count = segment_span_of(c->pool, head); count > 1; count--) {
		uint64_t value = a128_value_relaxed(&table(c, head + count - 1)->word);
		int given = count > looked && value == segment_value(SEGMENT_BODY, 0, head) &&
			    !segment_punch(c, head + count - 1);
		struct redo_fmt *r;

		CRASH_POINT(c, segment, shrink_punched);
		r = redo_begin(c, REDO_SPAN_SHRINK);
		r->word = 0;
		r->object = head;
		r->next = count - 1;
		r->aux = given ? SEGMENT_FREE : SEGMENT_FREE_DIRTY;
		redo_seal(c, r);
		segment_apply_shrink(c, r);
		era_bump(c);
	}
}

/* From CHANGING: to the system, but for the first so many segments of the span into which somebody may still look. */
static void give_back(struct client *c, uint32_t segment, uint32_t looked)
{
	enum segment_state state = SEGMENT_FREE_DIRTY;

	if (segment_span_of(c->pool, segment) > 1)
		span_shrink(c, segment, looked);
	if (!looked && !segment_punch(c, segment))
		state = SEGMENT_FREE;
	CRASH_POINT(c, segment, punched);
	let_go(c, segment, state);
}

void segment_release(struct client *c, uint32_t segment)
{
	/*
	 * CHANGING before any of the memory goes, so that recovery does not look into it.  Nobody can come upon the segment's
	 * objects from here on; who did before may still look at them, and then the memory is kept for the next owner.
	 * Pairs: segment_readable(), of the span's bodies, too.
	 */
	set_state(c, segment, SEGMENT_CHANGING);
	CRASH_POINT(c, segment, closing);
	give_back(c, segment, segment_quiet(c) ? 0 : UINT32_MAX);
}

void segment_orphan(struct client *c, uint32_t segment)
{
	let_go(c, segment, SEGMENT_ORPHAN);
}

static uint32_t trim(struct client *c, uint32_t most)
{
	struct pool *pool = c->pool;
	uint32_t done = 0;

	for (uint32_t segment = pool->first_segment; segment < pool->segments && done < most; segment++) {
		struct stamped old = a128_load_acquire(&table(c, segment)->word);

		if (segment_value_state(old.value) != SEGMENT_FREE_DIRTY ||
		    claim_word(c, segment, old, SEGMENT_CHANGING))
			continue;
		segment_release(c, segment);
		done += segment_state_of(pool, segment) != SEGMENT_FREE_DIRTY;
	}
	return done;
}

uint32_t segment_trim(struct client *c)
{
	/* What is dirty is unreachable already: while somebody looks, claiming it would be in vain. */
	return segment_quiet(c) ? trim(c, UINT32_MAX) : 0;
}

int segment_any_changing(const struct client *c)
{
	for (uint32_t segment = c->pool->first_segment; segment < c->pool->segments; segment++)
		if (segment_state_of(c->pool, segment) == SEGMENT_CHANGING)
			return 1;
	return 0;
}

void segment_trim_hinted(struct client *c, uint32_t most)
{
	struct a32 *hint = &c->pool->shared->segments_dirty;
	uint32_t mine = c->cid << 8 | SEGMENTS_TRIMMING;
	uint32_t seen;

	/* As in segment_trim(); and before the hint is ours, for nobody would set it again. */
	if (!a32_load_acquire(hint) || !segment_quiet(c))
		return;
	do {
		seen = a32_load_acquire(hint);
		if (!seen)
			return;
	} while (!a32_cas_acq_rel(hint, seen, mine));
	/*
	 * Crash behind it: the hint still is one, for nobody else takes ours back.  Who leaves a segment dirty meanwhile, as we
	 * may, sets it anew.
	 */
	CRASH_POINT(c, segment, trimming);
	a32_cas_acq_rel(hint, mine, trim(c, most) == most ? SEGMENTS_DIRTY : 0);
	CRASH_POINT(c, segment, trimmed);
}

/* ---- claiming one to fill ---- */

/*
 * Memory for a segment just taken, all of it zero.  Crash behind it: it is CHANGING, or body of one that is, and goes back with
 * what was reserved.
 */
static int furnish(struct client *c, uint32_t segment, enum segment_state was)
{
	int rc = segment_reserve(c, segment);

	CRASH_POINT(c, segment, reserved);
	if (rc)
		return rc;
	if (was == SEGMENT_FREE_DIRTY)
		segment_scrub(c, segment);
	return 0;
}

/*
 * A segment or the beginning of a span, CHANGING, for which there is not enough memory.  Into what was FREE nobody looks, for
 * since it was given back nothing in it could be come upon; as FREE_DIRTY it would be tried in vain before what has memory.
 * dirty: segments up to the last that was FREE_DIRTY.
 */
static void claim_failed(struct client *c, uint32_t head, uint32_t dirty)
{
	give_back(c, head, dirty && !segment_quiet(c) ? dirty : 0);
}

int segment_claim(struct client *c, uint32_t *segment)
{
	struct run kept = {SEGMENT_NONE, 0};
	int no_room = 0;

	for (;;) {
		uint32_t found = no_room ? SEGMENT_NONE : find_by_hint(c, 0);
		enum segment_state was;
		struct stamped old;
		int rc;

		/* Every time: who uses the slot now has used our eras, and no CAS of ours may ever succeed. */
		if (pool_slot_lost(c->pool, c->cid, c->slot))
			return -ESTALE;
		if (no_room && find_run(c, 1, 1, &kept))
			found = kept.first;
		else if (found == SEGMENT_NONE && !no_room)
			found = find_by_walk(c, 0);
		if (found == SEGMENT_NONE)
			return -ENOSPC;
		old = a128_load_acquire(&table(c, found)->word);
		was = segment_value_state(old.value);
		if (!wanted(was, 0) || claim_word(c, found, old, SEGMENT_CHANGING))
			continue;
		c->claim_cursor = found;
		hint_clear(c, 0, found);
		a64_store_relaxed(&table(c, found)->span, 0);
		rc = furnish(c, found, was);
		if (rc) {
			claim_failed(c, found, was == SEGMENT_FREE_DIRTY);
			if (rc != -ENOSPC)
				return rc;
			no_room = 1;
			continue;
		}
		set_state(c, found, SEGMENT_OWNED);
		CRASH_POINT(c, segment, opened);
		*segment = found;
		return 0;
	}
}

/* ---- spans ---- */

void segment_apply_grow(struct client *c, const struct redo_fmt *r)
{
	struct segment_fmt *s = table(c, (uint32_t)r->object);

	a64_store_release(&s->span, r->next);
	persist(c->pool, s, sizeof(*s));
	CRASH_POINT(c, segment, grow_counted);
}

/*
 * Take the segment behind the span into it, and what it was.  The record knows the new length; the body's word names the head.
 * From then on it goes back with the span, reserved or not.
 */
static int span_grow(struct client *c, uint32_t head, uint32_t count, enum segment_state *was)
{
	uint32_t segment = head + count;
	struct stamped old = a128_load_acquire(&table(c, segment)->word);
	struct redo_fmt *r;

	*was = segment_value_state(old.value);
	if (!wanted(*was, 0))
		return -EAGAIN;
	r = redo_begin(c, REDO_SPAN_GROW);
	r->word = off_of(c->pool, &table(c, segment)->word);
	r->object = head;
	r->next = count + 1;
	redo_seal(c, r);
	if (!era_cas(c, &table(c, segment)->word, old, segment_value(SEGMENT_BODY, 0, head))) {
		era_bump(c);
		return -EAGAIN;
	}
	CRASH_POINT(c, segment, grow_swapped);
	segment_apply_grow(c, r);
	era_bump(c);
	hint_clear(c, 0, segment);
	return furnish(c, segment, *was);
}

/* The free segments from first on as one span.  -EAGAIN: somebody else was faster somewhere in it. */
static int span_take(struct client *c, uint32_t first, uint32_t count)
{
	struct stamped old = a128_load_acquire(&table(c, first)->word);
	enum segment_state was = segment_value_state(old.value);
	uint32_t dirty;
	int rc;

	if (!wanted(was, 0) || claim_word(c, first, old, SEGMENT_CHANGING))
		return -EAGAIN;
	hint_clear(c, 0, first);
	a64_store_relaxed(&table(c, first)->span, 0);
	dirty = was == SEGMENT_FREE_DIRTY;
	rc = furnish(c, first, was);
	for (uint32_t have = 1; !rc && have < count; have++) {
		rc = span_grow(c, first, have, &was);
		if (was == SEGMENT_FREE_DIRTY)
			dirty = have + 1;
	}
	if (rc) {
		claim_failed(c, first, dirty);
		return rc;
	}
	set_state(c, first, SEGMENT_OWNED);
	CRASH_POINT(c, segment, span_opened);
	return 0;
}

/*
 * Who was slower looks from the start again, for what is left beside the other may be long enough.  Lock-free: of those who
 * grow towards each other the last one in the pool is stopped only by who claimed something behind it, and that one has it.
 */
int segment_span_claim(struct client *c, uint32_t count, uint32_t *head)
{
	struct run run = {SEGMENT_NONE, 0};
	unsigned tries = 0;

	while (tries <= SPAN_TRIES) {
		int fits, rc;

		if (pool_slot_lost(c->pool, c->cid, c->slot))
			return -ESTALE;
		if (!find_run(c, count, tries > 0, &run))
			return -ENOSPC;
		/* Begun in vain it would take all there is for a while, and others would find the file system full. */
		fits = pool_has_room(c->pool->heap_fd, (uint64_t)run.holes << c->pool->segment_shift);
		rc = fits ? span_take(c, run.first, count) : -ENOSPC;
		if (rc != -ENOSPC && rc != -EAGAIN) {
			if (!rc)
				*head = run.first;
			return rc;
		}
		if (tries && !fits)
			return rc;	/* the others want as much, or more */
		if (rc == -EAGAIN || !tries)
			run = (struct run){SEGMENT_NONE, 0};
		/* Another may do where memory that was kept is a hole, or the file system has not what it says. */
		tries += rc == -ENOSPC;
	}
	return -ENOSPC;
}
