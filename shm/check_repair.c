/* SPDX-License-Identifier: MIT */
/*
 * check_repair: the second half of a repair, after check_mark(): every block that was not reached becomes
 * free, every count what was counted; segments become orphans, which whoever adopts them rebuilds, or free;
 * slots become empty; extents of nobody are deleted.
 *
 * Offline and alone: dead clients were recovered before, and what recovery could not make sense of is wiped
 * here.  A second repair after a death inside this one finishes it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check_state.h"
#include "queue.h"

#define EXTENT_MAKER 0xffeu	/* no client's number: ids of extents made by repairs */

/* ---------------------------------------------------------------- slots */

/* Each slot's own era is above what anybody has seen of it. */
static void fix_eras(struct check *c)
{
	for (uint32_t i = 1; i <= c->slots_high; i++) {
		uint64_t own = a64_load_relaxed(pool_era_row(c->pool, i) + i);
		uint64_t seen = own < STAMP_ERA_MASK ? own : 0;
		int wrong = own != seen;

		for (uint32_t j = 1; j <= c->slots_high; j++) {
			struct a64 *entry = pool_era_row(c->pool, j) + i;
			uint64_t era = a64_load_relaxed(entry);

			if (j == i || era <= seen)
				continue;
			wrong = 1;
			if (era < STAMP_ERA_MASK / 2)
				seen = era;
			else
				a64_store_relaxed(entry, 0);
		}
		if (!wrong)
			continue;
		a64_store_relaxed(pool_era_row(c->pool, i) + i, seen + 1);
		c->slots[i].era = seen + 1;
		check_fixed(c, "slot %u: era set to %" PRIu64, i, seen + 1);
	}
	for (uint32_t j = 1; j <= c->slots_high; j++)
		for (uint32_t i = c->slots_high + 1; i <= c->pool->slots; i++)
			if (a64_load_relaxed(pool_era_row(c->pool, j) + i))
				a64_store_relaxed(pool_era_row(c->pool, j) + i, 0);
}

static void wipe_slot(struct check *c, uint32_t cid)
{
	struct slot_fmt *slot = pool_slot(c->pool, cid);
	uint64_t state = a64_load_relaxed(&slot->state);
	struct root_fmt *rows = (struct root_fmt *)((char *)slot + c->pool->super->roots_off);

	/* As recovery does: who died may have used its era in a stamp, which stays in what is kept (rule 4). */
	if ((state & 0xff) != SLOT_FREE && c->slots[cid].era < STAMP_ERA_MASK - 1)
		a64_store_release(pool_era_row(c->pool, cid) + cid, ++c->slots[cid].era);
	a64_store_relaxed(&slot->redo.era, 0);
	a64_store_relaxed(&slot->dead_top, 0);
	a64_store_relaxed(&slot->segments_head, 0);
	a64_store_relaxed(&slot->segments_owned, 0);
	a64_store_relaxed(&slot->roots_next, 0);
	a64_store_relaxed(&slot->moving_dir, 0);
	a64_store_relaxed(&slot->reading, 0);
	memset(&slot->todo, 0, sizeof(slot->todo));
	for (uint32_t i = 0; i < EXPORTS; i++)
		a128_store_value_then_stamp(&slot->exports[i].word, 0, 0);
	memset(rows, 0, SLOT_ROOTS_BYTES);
	a64_store_release(&slot->state, (state & ~0xffull) | SLOT_FREE);
}

static void fix_slots(struct check *c)
{
	struct shared_fmt *shared = c->pool->shared;

	if (a64_load_relaxed(&shared->slots_high) != c->slots_high) {
		a64_store_relaxed(&shared->slots_high, c->slots_high);
		check_fixed(c, "highest slot used set to %u", c->slots_high);
	}
	fix_eras(c);
	for (uint32_t cid = 1; cid <= c->slots_high; cid++) {
		if (c->slots[cid].claimed)
			check_fixed(c, "slot %u: set free", cid);
		/* A slot that was in an era has its memory. */
		if (c->slots[cid].claimed || c->slots[cid].era)
			wipe_slot(c, cid);
	}
	if (a128_value_relaxed(&shared->dir_move) || !check_stamp(c, a128_stamp_relaxed(&shared->dir_move))) {
		a128_store_value_then_stamp(&shared->dir_move, 0, 0);
		check_fixed(c, "nobody moves a directory");
	}
}

/* ---------------------------------------------------------------- blocks */

static void fix_counter(struct check *c, struct a128 *word, uint64_t value, uint64_t off)
{
	if (a128_value_relaxed(word) != value)
		check_fixed(c, "inode 0x%" PRIx64 ": names set to %" PRIu64, off, value);
	else if (check_stamp(c, a128_stamp_relaxed(word)))
		return;
	a128_store_value_then_stamp(word, value, 0);
}

/* Everything in the queue to the front, in its order as far as that is known. */
static int fix_queue(struct check *c, uint64_t off, uint64_t header)
{
	struct object_fmt *object = off_object(c->pool, off);
	struct queue_fmt *queue = object_queue(object, header);
	uint32_t slots = object_slots(header), used = 0;
	uint64_t start = a64_load_relaxed(&queue->head) % slots;
	uint64_t *refs;

	if (!check_stamp(c, a128_stamp_relaxed(&queue->sender)))
		a128_store_value_then_stamp(&queue->sender, 0, 0);
	if (!check_stamp(c, a128_stamp_relaxed(&queue->receiver)))
		a128_store_value_then_stamp(&queue->receiver, 0, 0);
	if (!queue_check(c->pool, off))
		return 0;
	refs = calloc(slots, sizeof(*refs));
	if (!refs)
		return -ENOMEM;
	for (uint32_t i = 0; i < slots; i++) {
		uint64_t to = a128_value_relaxed(&object_cell(object, (uint32_t)((start + i) % slots))->word);

		if (to)
			refs[used++] = to;
	}
	for (uint32_t i = 0; i < slots; i++)
		a128_store_value_then_stamp(&object_cell(object, i)->word, refs[i], 0);
	free(refs);
	queue->capacity = slots;
	queue->flags &= CXLSHM_SPSC;
	a64_store_relaxed(&queue->head, 0);
	a64_store_relaxed(&queue->tail, used);
	check_fixed(c, "queue 0x%" PRIx64 ": %u references put in order", off, used);
	return 0;
}

/* A reached object: its count, and what follows from the names found. */
static int keep_object(struct check *c, uint64_t off, const struct check_run *run, uint64_t ordinal)
{
	struct object_fmt *object = off_object(c->pool, off);
	uint64_t header = a128_value_relaxed(&object->word);
	uint64_t stamp = a128_stamp_relaxed(&object->word);
	uint64_t value = (header & ~OBJECT_COUNT_MASK) | OBJECT_EXPOSED | c->found[ordinal];
	struct attr_fmt *attr;

	/* Slots that do not fit make it an object without. */
	if (object_slots(header) && !(c->block[ordinal] & CHECK_SLOTS)) {
		value = object_with_slots(value, 0);
		check_fixed(c, "object 0x%" PRIx64 ": now without slots", off);
	}
	if ((value | OBJECT_EXPOSED) != (header | OBJECT_EXPOSED))
		check_fixed(c, "object 0x%" PRIx64 ": count set to %u", off, c->found[ordinal]);
	if (value != header || !check_stamp(c, stamp))
		a128_store_value_then_stamp(&object->word, value, check_stamp(c, stamp) ? stamp : 0);
	if (object_kind(value) == OBJECT_QUEUE && c->block[ordinal] & CHECK_SLOTS && value & OBJECT_CELLS &&
	    sizeof(*object) + 16ull * object_slots(value) + sizeof(struct queue_fmt) <= run->block_bytes)
		return fix_queue(c, off, value);
	if (!check_inode_sound(c, off))
		return 0;
	attr = object_attr(object, value);
	fix_counter(c, &attr->links, off == c->pool->super->root_dir && a128_value_relaxed(&attr->links) == 1 ?
		    1 : check_map_get(&c->names, off | 1), off);
	if (object_kind(value) == OBJECT_DIRECTORY && !check_stamp(c, a128_stamp_relaxed(&attr->entries)))
		a128_store_stamp_release(&attr->entries, 0);
	if (object_kind(value) == OBJECT_SYMLINK &&
	    a64_load_relaxed(&attr->length) > run->block_bytes - sizeof(*object) - 16 - sizeof(*attr)) {
		a64_store_relaxed(&attr->length, 0);
		check_fixed(c, "symlink 0x%" PRIx64 ": target lost", off);
	}
	return object_kind(value) == OBJECT_FILE ? check_fix_extent(c, off) : 0;
}

/* Blocks of the run that are left in use, in *used. */
static int fix_run(struct check *c, const struct check_run *run, uint32_t *used, uint64_t *freed)
{
	int rc = 0;

	*used = 0;
	for (uint32_t i = 0; !rc && i < run->frontier; i++) {
		uint64_t off = run->start + i * run->block_bytes;
		unsigned bits = c->block[run->base + i];

		if (bits & CHECK_REACHED) {
			*used += 1;
			rc = keep_object(c, off, run, run->base + i);
			continue;
		}
		if ((bits & CHECK_STATE) != OBJECT_FREE)
			*freed += 1;
		a128_store_value_then_stamp(&off_object(c->pool, off)->word, 0, stamp_link(0));
	}
	return rc;
}

/* ---------------------------------------------------------------- segments */

static enum segment_state state_of(const struct check *c, uint32_t segment)
{
	return segment_value_state(a128_value_relaxed(&c->pool->segment_table[segment].word));
}

static void set_segment(struct check *c, uint32_t segment, uint64_t value)
{
	struct segment_fmt *s = &c->pool->segment_table[segment];

	if (a128_value_relaxed(&s->word) != value) {
		check_fixed(c, "segment %u: word set from 0x%" PRIx64 " to 0x%" PRIx64, segment,
			    a128_value_relaxed(&s->word), value);
		a128_store_value_then_stamp(&s->word, value, 0);
	}
	if (!check_stamp(c, a128_stamp_relaxed(&s->word)))
		a128_store_stamp_release(&s->word, 0);
	a128_store_value_then_stamp(&s->remote, 0, 0);
	a64_store_relaxed(&s->next, 0);
}

static void free_segment(struct check *c, uint32_t segment)
{
	uint64_t bytes = 1ull << c->pool->segment_shift;
	enum segment_state state = SEGMENT_FREE;

	if (state_of(c, segment) != SEGMENT_FREE &&
	    fallocate(c->pool->heap_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(segment * bytes),
		      (off_t)bytes))
		state = SEGMENT_FREE_DIRTY;
	set_segment(c, segment, segment_value(state, 0, 0));
	a64_store_relaxed(&c->pool->segment_table[segment].span, 0);
}

/*
 * Bodies that a span has lost, unless somebody else has them: 1 if any was taken back.  What is in the span was not
 * looked at then, so nothing else is repaired before it is.
 */
static int fix_spans(struct check *c)
{
	struct pool *pool = c->pool;
	int fixed = 0;

	for (uint32_t s = pool->first_segment; s < pool->segments; s++) {
		uint64_t span = a64_load_relaxed(&pool->segment_table[s].span);

		if (c->segment_readable[s] || span < 2 || span > pool->segments - s ||
		    (state_of(c, s) != SEGMENT_OWNED && state_of(c, s) != SEGMENT_ORPHAN))
			continue;
		for (uint32_t i = 1; i < span; i++) {
			enum segment_state state = state_of(c, s + i);

			if (state == SEGMENT_OWNED || state == SEGMENT_ORPHAN || state == SEGMENT_CHANGING)
				break;
			if (a128_value_relaxed(&pool->segment_table[s + i].word) == segment_value(SEGMENT_BODY, 0, s))
				continue;
			if (fallocate(pool->heap_fd, 0, (off_t)(s + i) << pool->segment_shift,
				      (off_t)1 << pool->segment_shift) && errno != EOPNOTSUPP)
				break;
			set_segment(c, s + i, segment_value(SEGMENT_BODY, 0, s));
			fixed = 1;
		}
	}
	return fixed;
}

/* The segment's page table after its runs were repaired: used[run] says what is left in each. */
static uint64_t fix_pages(struct check *c, uint32_t segment, const uint32_t *used)
{
	struct page_fmt *entry = segment_pages(c->pool, segment);
	uint64_t blocks = 0;

	for (uint32_t page = 1, pages; page < PAGES_PER_SEGMENT; page += pages) {
		uint32_t r = c->page_run[(uint64_t)segment * PAGES_PER_SEGMENT + page];
		struct page_fmt *p = &entry[page];

		pages = r ? p->pages : 1;
		if (r && used[r - 1]) {
			blocks += used[r - 1];
			p->free = 0;
			p->used = used[r - 1] | PAGE_UNLISTED;
			p->flags = 0;
			p->next = p->prev = 0;
			p->bin = check_run_bin(p);
			a32_store_relaxed(&p->frontier, c->runs[r - 1].frontier);
			continue;
		}
		for (uint32_t i = 0; i < pages && page + i < PAGES_PER_SEGMENT; i++)
			a32_store_relaxed(&p[i].kind, PAGE_FREE);
	}
	entry[0].free = 0;
	return blocks;
}

static void fix_segments(struct check *c, const uint32_t *used)
{
	struct pool *pool = c->pool;
	uint64_t keep_until = 0;	/* bodies below it belong to a segment that is kept */
	uint32_t keep_head = 0;

	for (uint32_t s = 0; s < pool->first_segment; s++)
		set_segment(c, s, segment_value(SEGMENT_RESERVED, 0, 0));
	for (uint32_t s = pool->first_segment; s < pool->segments; s++) {
		uint64_t span = a64_load_relaxed(&pool->segment_table[s].span);

		if (s < keep_until) {
			set_segment(c, s, segment_value(SEGMENT_BODY, 0, keep_head));
		} else if (c->segment_readable[s] && fix_pages(c, s, used)) {
			set_segment(c, s, segment_value(SEGMENT_ORPHAN, 0, 0));
			keep_head = s;
			keep_until = s + (span ? span : 1);
		} else if (state_of(c, s) == SEGMENT_FREE_DIRTY) {
			set_segment(c, s, segment_value(SEGMENT_FREE_DIRTY, 0, 0));
		} else {
			free_segment(c, s);
		}
	}
	for (uint32_t w = 0; w < 2 * hint_words(pool->segments); w++)
		a64_store_relaxed(&pool->hints[w], 0);
	for (uint32_t s = pool->first_segment; s < pool->segments; s++) {
		int orphan = state_of(c, s) == SEGMENT_ORPHAN;

		if (orphan || state_of(c, s) == SEGMENT_FREE || state_of(c, s) == SEGMENT_FREE_DIRTY)
			a64_or_acq_rel(&pool->hints[(orphan ? hint_words(pool->segments) : 0) + s / 64],
				       1ull << (s & 63));
	}
}

/* ---------------------------------------------------------------- extents */

static int extent_name(char name[20], uint64_t id)
{
	return snprintf(name, 20, "%016" PRIx64, id);
}

static int make_extent(struct check *c, uint64_t id)
{
	struct stat st;
	char name[20];
	int fd;

	extent_name(name, id);
	fd = openat(c->pool->extents_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (!fstat(c->pool->heap_fd, &st))
		(void)!fchmod(fd, st.st_mode & 0777);
	close(fd);
	return check_map_add(&c->extents, id, CHECK_EXTENT_FILE);
}

/* A file that is kept: its extent is there, and its alone. */
int check_fix_extent(struct check *c, uint64_t off)
{
	struct object_fmt *object = off_object(c->pool, off);
	struct a64 *word = &object_attr(object, a128_value_relaxed(&object->word))->extent;
	uint64_t id = a64_load_relaxed(word), era = 1;
	int rc = 0;

	if (!id || check_map_get(&c->extents, id) & CHECK_EXTENT_KEPT) {
		while (check_map_get(&c->extents, stamp_make(EXTENT_MAKER, era)))
			era++;
		id = stamp_make(EXTENT_MAKER, era);
	}
	if (!(check_map_get(&c->extents, id) & CHECK_EXTENT_FILE)) {
		rc = make_extent(c, id);
		if (rc)
			return rc;
		a64_store_release(word, id);
		check_fixed(c, "file 0x%" PRIx64 ": now empty, in x/%016" PRIx64, off, id);
	}
	return check_map_add(&c->extents, id, CHECK_EXTENT_KEPT);
}

static void delete_extents(struct check *c)
{
	for (uint64_t i = 0; i < c->extents.size; i++) {
		char name[20];

		if (!c->extents.keys[i] || !(c->extents.values[i] & CHECK_EXTENT_FILE) ||
		    c->extents.values[i] & CHECK_EXTENT_KEPT)
			continue;
		extent_name(name, c->extents.keys[i]);
		if (!unlinkat(c->pool->extents_fd, name, 0))
			check_fixed(c, "x/%s: deleted, the bytes of no object", name);
	}
}

/* ---------------------------------------------------------------- all of it */

int check_repair(struct check *c)
{
	uint64_t freed = 0;
	uint32_t *used;
	int rc;

	if (fix_spans(c))
		return 0;
	/* Without the root directory nothing would be reached: rather leave what there is to whoever looks. */
	if (!check_inode_sound(c, c->pool->super->root_dir) ||
	    object_kind(check_header(c, c->pool->super->root_dir)) != OBJECT_DIRECTORY) {
		check_problem(c, "nothing can be repaired without the root directory");
		return 0;
	}
	used = calloc(c->runs_count + 1, sizeof(*used));
	if (!used)
		return -ENOMEM;
	fix_slots(c);
	for (uint64_t i = 0; i < c->extents.size; i++)
		c->extents.values[i] &= CHECK_EXTENT_FILE;
	rc = check_mark(c);
	for (uint64_t r = 0; !rc && r < c->runs_count; r++)
		rc = fix_run(c, &c->runs[r], &used[r], &freed);
	if (!rc) {
		if (freed)
			check_fixed(c, "freed %" PRIu64 " blocks that nothing led to", freed);
		fix_segments(c, used);
		delete_extents(c);
	}
	free(used);
	return rc;
}
