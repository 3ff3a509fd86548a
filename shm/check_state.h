/* SPDX-License-Identifier: MIT */
/*
 * What the files of the checker share: its tables, and how they are asked.
 *
 * Every block below a run's frontier has an ordinal: the run's base plus its index.  What is known of a
 * block is in arrays by ordinal, about seven bytes a block; so ten million objects cost 70 MB, and an
 * offset is resolved by one table look-up and one division.  Nothing enters the tables unchecked, so that
 * whatever is found through them may be followed.
 *
 *   check.c        entries, reports, the superblock
 *   check_slots.c  slots and roots
 *   check_heap.c   segments, pages, blocks and the lists that hold them
 *   check_walk.c   references: counts, exposure, reachability
 *   check_names.c  directories, inodes, extents
 *   check_mark.c, check_repair.c  putting right what they found
 */
#ifndef CXLSHM_CHECK_STATE_H
#define CXLSHM_CHECK_STATE_H

#include "check.h"
#include "off.h"

/* ---- what is known of a block, by ordinal ---- */
#define CHECK_STATE 7u	/* enum object_state; 4 to 7: no valid state, or a header that makes no sense */
#define CHECK_BROKEN 4u
#define CHECK_EXPOSED 8u
#define CHECK_LISTED 16u	/* on a free list, dead list or remote list, as its state asks for */
#define CHECK_REACHED 32u
#define CHECK_PLACED 64u	/* NODE, ENTRY, DIRECTORY: met in its place in the tree of names */
#define CHECK_SLOTS 128u	/* has reference slots, all within its block */

#define CHECK_SEGMENT_USED 2u	/* segment_readable: and it holds a block that is not free */
#define CHECK_EXTENT_FILE 1u
#define CHECK_EXTENT_KEPT 2u
#define CHECK_EXTENT_OWNER 4u
#define CHECK_HOLDER_OTHER 0xffffu	/* others than the roots of one client refer to it */

struct check_run {	/* a run of pages with blocks of one size, geometry found sane */
	uint64_t start;	/* offset of the first block */
	uint64_t block_bytes;
	uint64_t base;	/* ordinal of the first block */
	uint32_t frontier;
	uint32_t segment;
	uint32_t page;	/* its first */
	uint32_t pages;
};

struct check_slot {
	struct slot_fmt *copy;	/* NULL: there is nothing in it */
	struct root_fmt *roots;	/* copy of the first page of roots */
	uint64_t era;
	int claimed;
	int alive;
};

struct check_map {	/* counts by offset or number, not 0 */
	uint64_t *keys;
	uint64_t *values;
	uint64_t size;	/* a power of two, or 0 */
	uint64_t used;
};

struct check {
	struct pool *pool;
	unsigned flags;
	check_report *report;
	void *arg;
	struct cxlshm_check_result *result;

	uint32_t slots_high;
	struct check_slot *slots;	/* by cid */

	uint8_t *segment_readable;	/* by segment: 1 a head whose memory is there, or CHECK_SEGMENT_USED */
	uint32_t *segment_lister;	/* by segment: cid whose list it is on */
	uint32_t *page_run;	/* by page of the heap: index of its run + 1 */
	uint8_t *page_roots;	/* by page of the heap: 1 a page of roots, 2 met on its client's chain */
	struct check_run *runs;
	uint64_t runs_count;
	uint64_t runs_room;

	uint64_t blocks;	/* ordinals */
	uint8_t *block;	/* CHECK_* */
	uint16_t *holder;	/* 0, the cid whose roots refer to it, or CHECK_HOLDER_OTHER */
	uint32_t *found;	/* references */

	struct check_map debts;	/* by offset of a counter word; made odd: to be revived */
	struct check_map names;	/* by offset of an inode, made odd: entries that name it */
	struct check_map extents;	/* by id: CHECK_EXTENT_*, _OWNER once for each object it belongs to */

	uint64_t *stack;	/* offsets still to visit */
	uint64_t stack_used;
	uint64_t stack_room;
	int unsafe;	/* found what must not be followed: recovery would */
	uint64_t expected;	/* problems that clients who died within an operation explain */
};

void check_problem(struct check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A problem, and one that code which trusts the pool could run away on. */
void check_broken(struct check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void check_note(struct check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void check_fixed(struct check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

int check_map_add(struct check_map *map, uint64_t key, uint64_t n);
uint64_t check_map_get(const struct check_map *map, uint64_t key);
void check_map_free(struct check_map *map);

int check_push(struct check *c, uint64_t off);

/* A stamp of a word in use: by nobody, or by a client in an era it has reached. */
int check_stamp(const struct check *c, uint64_t stamp);

/* check_slots.c.  Call back for each used root row of a claimed slot; a non-zero answer ends it. */
int check_each_root(struct check *c, uint32_t cid,
		    int (*visit)(struct check *c, uint32_t cid, uint64_t object, uint64_t row));

int check_slots(struct check *c);
uint32_t check_highest_slot(const struct check *c);

/* check_heap.c */
int check_segments(struct check *c);
int check_pages(struct check *c);
int check_blocks(struct check *c);
int check_lists(struct check *c);
uint32_t check_run_bin(const struct page_fmt *p);

/* check_walk.c */
int check_references(struct check *c);
int check_reach(struct check *c);

/* check_names.c */
int check_directories(struct check *c);
int check_inodes(struct check *c);
int check_extents(struct check *c);
uint64_t check_name_hash(const struct check *c, const char *name, uint32_t bytes);

/* check_mark.c: what is reached from the names, counted in c->found, with directories put right. */
int check_mark(struct check *c);
int check_inode_sound(const struct check *c, uint64_t off);

/* check_repair.c */
int check_repair(struct check *c);
int check_fix_extent(struct check *c, uint64_t off);

/* The ordinal of the block at off, in *ordinal and its run in *run (may be NULL): 1, or 0 if there is none. */
static inline int check_find(const struct check *c, uint64_t off, uint64_t *ordinal, struct check_run **run)
{
	struct check_run *r;
	uint64_t index;

	if (!off_is_object(c->pool, off) || !c->page_run[off >> c->pool->page_shift])
		return 0;
	r = &c->runs[c->page_run[off >> c->pool->page_shift] - 1];
	if (off < r->start)
		return 0;
	index = (off - r->start) / r->block_bytes;
	if (index >= r->frontier || r->start + index * r->block_bytes != off)
		return 0;
	*ordinal = r->base + index;
	if (run)
		*run = r;
	return 1;
}

static inline uint64_t check_header(const struct check *c, uint64_t off)
{
	return a128_value_relaxed(&off_object(c->pool, off)->word);
}

/* Is there a LIVE object of this kind, with sound slots, at off? */
static inline int check_is(const struct check *c, uint64_t off, enum object_kind kind, uint64_t *ordinal)
{
	return check_find(c, off, ordinal, NULL) && (c->block[*ordinal] & CHECK_STATE) == OBJECT_LIVE &&
	       object_kind(check_header(c, off)) == kind;
}

/* Does the slot, of an object with this header, hold nothing, though it is not 0? */
static inline int check_frozen(uint64_t header, uint64_t to)
{
	return to == EDGE_FROZEN && object_kind(header) == OBJECT_NODE;
}

static inline int check_is_inode(enum object_kind kind)
{
	return kind == OBJECT_FILE || kind == OBJECT_DIRECTORY || kind == OBJECT_SYMLINK ||
	       kind == OBJECT_SPECIAL || kind == OBJECT_NAMED;
}

#endif
