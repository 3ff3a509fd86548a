/* SPDX-License-Identifier: MIT */
/*
 * segment: who owns which segment, and when its memory is the system's.
 *
 *        claim            open                 close           release
 *   FREE ─────▶ CHANGING ─────▶ OWNED ─────────────▶ CHANGING ─────▶ FREE        (memory given back)
 *   FREE_DIRTY ──▶              │  ▲                         └─────▶ FREE_DIRTY  (a reader may still look)
 *                       orphan  ▼  │ adopt
 *                              ORPHAN
 *   FREE, FREE_DIRTY ◀────▶ BODY: joins and leaves the span of a segment that is CHANGING meanwhile, its head
 *
 * All owned segments hang on the slot's list, so that recovery finds them without looking at others.
 *
 *   call                     excludes                                  progress
 *   claim, adopt, grow       nothing: one CAS decides                  lock-free; expected O(1) CAS, but in a full file
 *                                                                      system one try for each FREE_DIRTY segment;
 *                                                                      of a span, up to 5 of a system call a segment
 *   release, orphan          other calls of the owner                  wait-free but for system calls, one a segment,
 *                                                                      and a short spin at readers
 *
 * Searching goes by two bitmaps of hints and falls back to a walk over all words before it says -ENOSPC, so a lost hint
 * costs time, not memory.
 */
#ifndef CXLSHM_SEGMENT_H
#define CXLSHM_SEGMENT_H

#include "era.h"
#include "redo.h"

#define SEGMENT_NONE 0u	/* segment 0 holds the superblock */

/* Own a segment with all-zero or scrubbed memory that is reserved, in *segment.  -ENOSPC. */
int segment_claim(struct client *c, uint32_t *segment);

/* Own an orphan that a hint leads to, its blocks as they are.  -ENOENT: none. */
int segment_adopt_any(struct client *c, uint32_t *segment);

/* The same by looking at every segment's word: before the pool is called full. */
int segment_adopt_unhinted(struct client *c, uint32_t *segment);

/* Own this segment if it is an orphan.  -EAGAIN: it is not. */
int segment_adopt(struct client *c, uint32_t segment);

/* Give an owned segment without blocks or remote list back, with the span that it heads. */
void segment_release(struct client *c, uint32_t segment);

/* Leave an owned segment to whoever wants it. */
void segment_orphan(struct client *c, uint32_t segment);

/* Own count contiguous segments as one span headed by *head: its segment_fmt.span says so.  -ENOSPC. */
int segment_span_claim(struct client *c, uint32_t count, uint32_t *head);

/* Give memory of FREE_DIRTY segments back to the system, as far as nobody may be looking; how many. */
uint32_t segment_trim(struct client *c);

/* The same for so many, if the hint says that there are such. */
void segment_trim_hinted(struct client *c, uint32_t most);

/* Is somebody just claiming a segment, or giving one back? */
int segment_any_changing(const struct client *c);

/* Finish a committed record; see redo.h. */
void segment_apply_claim(struct client *c, const struct redo_fmt *r);
void segment_apply_release(struct client *c, const struct redo_fmt *r);
void segment_apply_grow(struct client *c, const struct redo_fmt *r);
void segment_apply_shrink(struct client *c, const struct redo_fmt *r);

static inline int segment_is_mine(const struct client *c, uint32_t segment)
{
	return (uint32_t)a128_value_relaxed(&c->segment_table[segment].word) == c->segment_mine;
}

static inline enum segment_state segment_state_of(const struct pool *pool, uint32_t segment)
{
	return segment_value_state(a128_load_acquire(&pool->segment_table[segment].word).value);
}

/*
 * May the word at off be read?  Not if it is in a segment that may have been given back, or not reserved yet: reading a hole
 * of a full tmpfs is SIGBUS.  For recovery, between client_read_begin() and _end(): what is readable then stays so.
 */
static inline int segment_readable(const struct pool *pool, uint64_t off)
{
	uint32_t segment = (uint32_t)(off >> pool->segment_shift), head = segment;
	enum segment_state state;
	struct stamped body;

	if (off >= pool->heap_bytes)
		return 0;
	if (segment < pool->first_segment)
		return 1;
	body = a128_load_acquire(&pool->segment_table[segment].word);
	state = segment_value_state(body.value);
	if (state == SEGMENT_BODY) {
		/*
		 * As its head is: that is CHANGING while bodies are reserved and given back.  If this one is still the body it
		 * was, then what was read of the head was read of the head it had.
		 */
		head = segment_value_head(body.value);
		if (head < pool->first_segment || head >= segment)
			return 0;	/* a damaged pool */
		state = segment_state_of(pool, head);
		if (a128_load_acquire(&pool->segment_table[segment].word).stamp != body.stamp)
			return 0;
	}
	return state == SEGMENT_OWNED || state == SEGMENT_ORPHAN;
}

/*
 * Segments of the span that this one heads, 1 if it heads none.  Bodies join before they are counted and leave after, so
 * where the next one is none the table is damaged.
 */
static inline uint32_t segment_span_of(const struct pool *pool, uint32_t segment)
{
	uint64_t n = a64_load_relaxed(&pool->segment_table[segment].span);

	if (n < 2 || n > pool->segments - segment ||
	    a128_value_relaxed(&pool->segment_table[segment + 1].word) != segment_value(SEGMENT_BODY, 0, segment))
		return 1;
	return (uint32_t)n;
}

#endif
