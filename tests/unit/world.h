/* SPDX-License-Identifier: MIT */
/*
 * A small pool written by hand, with one of everything that the checker looks at, so that its tests rely on
 * the format alone and not on the allocator.  All clients' words are as the allocator leaves them.
 *
 *   segment F      owned by client 1
 *     page 1       64-byte blocks: DATA objects, a dead one, one in limbo, free ones
 *     page 2       400-byte blocks: root directory, "sub", "file", "data" (NAMED), a NODE
 *     page 3       64-byte blocks: the entries
 *     page 4       a queue of 4
 *     page 5       roots of client 1
 *   segment F+1    an orphan with one object
 *   segments F+2, F+3   a span of client 1 with one object
 */
#ifndef TESTS_WORLD_H
#define TESTS_WORLD_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alloc.h"
#include "client.h"
#include "names.h"
#include "off.h"
#include "pool.h"

#define WORLD_ERA 100u
#define WORLD_STAMP stamp_make(1, WORLD_ERA - 1)
#define WORLD_FRONTIER 10u
#define WORLD_EXTENT stamp_make(1, 7)

struct world {
	char dir[64];
	struct pool *pool;
	struct slot_fmt *slot;
	struct root_fmt *roots;
	uint32_t first;	/* segment F */
	uint64_t priv, holder, one, exported, named_data, dead, limbo, free0, free1;	/* page 1 */
	uint64_t root, sub, file, named, node;	/* page 2 */
	uint64_t entry_sub, entry_file, entry_data;	/* page 3 */
	uint64_t queue, roots_page, orphan, span;
};

static inline uint64_t world_page(const struct world *w, uint32_t segment, uint32_t page)
{
	return ((uint64_t)segment << w->pool->segment_shift) + ((uint64_t)page << w->pool->page_shift);
}

static inline struct object_fmt *world_object(const struct world *w, uint64_t off)
{
	return off_object(w->pool, off);
}

static inline uint64_t world_header(const struct world *w, uint64_t off)
{
	return a128_value_relaxed(&world_object(w, off)->word);
}

static inline void world_set_header(const struct world *w, uint64_t off, uint64_t value)
{
	a128_store_value_release(&world_object(w, off)->word, value);
}

static inline struct a64 *world_slot(const struct world *w, uint64_t off, uint32_t i)
{
	return object_slot(world_object(w, off), world_header(w, off), i);
}

static inline struct attr_fmt *world_attr(const struct world *w, uint64_t off)
{
	return object_attr(world_object(w, off), world_header(w, off));
}

static inline struct entry_fmt *world_entry(const struct world *w, uint64_t off)
{
	return (struct entry_fmt *)object_payload(world_object(w, off));
}

static inline void world_run(const struct world *w, uint32_t segment, uint32_t page, uint32_t pages,
			     uint64_t block_bytes, uint32_t frontier)
{
	struct page_fmt *p = segment_pages(w->pool, segment) + page;

	for (uint32_t i = 1; i < pages && page + i < PAGES_PER_SEGMENT; i++) {
		a32_store_relaxed(&p[i].kind, PAGE_BODY);
		p[i].head = page;
	}
	a32_store_relaxed(&p->kind, PAGE_BLOCKS);
	p->pages = pages;
	p->block_bytes = block_bytes;
	p->capacity = (uint32_t)(((uint64_t)pages << w->pool->page_shift) / block_bytes);
	a32_store_relaxed(&p->frontier, frontier);
	p->used = frontier;
	p->bin = p->capacity > 1 ? alloc_bin(block_bytes >> 4) : BIN_NONE;
}

static inline void world_make(const struct world *w, uint64_t off, enum object_kind kind, uint32_t count,
			      uint32_t slots, int cells, int exposed)
{
	uint64_t value = count | (uint64_t)OBJECT_LIVE << OBJECT_STATE_SHIFT | (uint64_t)kind << OBJECT_KIND_SHIFT |
			 (uint64_t)slots << OBJECT_SLOTS_SHIFT | (cells ? OBJECT_CELLS : 0) |
			 (exposed ? OBJECT_EXPOSED : 0);

	a128_store_value_then_stamp(&world_object(w, off)->word, value, WORLD_STAMP);
}

static inline void world_cell(const struct world *w, uint64_t off, uint32_t i, uint64_t to)
{
	a128_store_value_then_stamp(&object_cell(world_object(w, off), i)->word, to, WORLD_STAMP);
}

static inline void world_reserve(const struct world *w, uint64_t off, uint64_t bytes)
{
	if (fallocate(w->pool->heap_fd, 0, (off_t)off, (off_t)bytes))
		abort();
}

static inline void world_own(const struct world *w, uint32_t segment, uint64_t word, uint64_t next, uint64_t span)
{
	struct segment_fmt *s = &w->pool->segment_table[segment];

	a128_store_value_then_stamp(&s->word, word, WORLD_STAMP);
	a64_store_relaxed(&s->next, next);
	a64_store_relaxed(&s->span, span);
	world_reserve(w, (uint64_t)segment << w->pool->segment_shift, 1ull << w->pool->segment_shift);
}

static inline uint64_t world_hash(const struct world *w, const char *name)
{
	const struct client as = {.pool = w->pool};

	return names_key_of(&as, name, strlen(name)).hash;
}

/* An entry whose name begins with `begin` and has a hash that begins with these nibbles. */
static inline void world_entry_make(const struct world *w, uint64_t off, uint64_t inode, uint64_t nibbles,
				    uint32_t levels, enum object_kind kind, const char *begin)
{
	struct entry_fmt *entry = world_entry(w, off);
	uint64_t hash;
	char name[16];
	int n = 0;

	do {
		snprintf(name, sizeof(name), "%s%d", begin, n++);
		hash = world_hash(w, name);
	} while (hash >> (HASH_BITS - 4 * levels) != nibbles);

	world_make(w, off, OBJECT_ENTRY, 1, 1, 0, 1);
	a64_store_relaxed(&entry->inode, inode);
	entry->hash = hash;
	entry->kind = kind;
	entry->name_bytes = (uint32_t)strlen(name);
	memcpy(entry->name, name, strlen(name));
}

static inline void world_counter(struct a128 *word, uint64_t value)
{
	a128_store_value_then_stamp(word, value, WORLD_STAMP);
}

static inline void world_data_objects(struct world *w)
{
	struct page_fmt *p = segment_pages(w->pool, w->first) + 1;
	uint64_t at = world_page(w, w->first, 1);

	world_run(w, w->first, 1, 1, 64, WORLD_FRONTIER);
	w->priv = at;
	w->holder = at + 64;
	w->one = at + 2 * 64;
	w->exported = at + 3 * 64;
	w->named_data = at + 4 * 64;
	w->dead = at + 5 * 64;
	w->limbo = at + 6 * 64;
	w->free0 = at + 7 * 64;
	w->free1 = at + 8 * 64;
	world_make(w, w->priv, OBJECT_DATA, 2, 0, 0, 0);
	world_make(w, w->holder, OBJECT_DATA, 1, 2, 0, 1);
	world_make(w, w->one, OBJECT_DATA, 1, 0, 0, 1);
	world_make(w, w->exported, OBJECT_DATA, 3, 0, 0, 1);
	world_make(w, w->named_data, OBJECT_DATA, 1, 0, 0, 1);
	a64_store_relaxed(world_slot(w, w->holder, 0), w->one);
	a64_store_relaxed(world_slot(w, w->holder, 1), w->exported);
	world_make(w, w->dead, OBJECT_DATA, 0, 1, 0, 1);
	a64_store_relaxed(world_slot(w, w->dead, 0), w->exported);
	a128_store_value_then_stamp(&world_object(w, w->dead)->word,
				    object_with_state(world_header(w, w->dead), OBJECT_DEAD), stamp_link(0));
	a64_store_relaxed(&w->slot->dead_top, w->dead);
	a128_store_value_then_stamp(&world_object(w, w->limbo)->word, (uint64_t)OBJECT_LIMBO << OBJECT_STATE_SHIFT,
				    stamp_link(0));
	a128_store_value_then_stamp(&w->pool->segment_table[w->first].remote, w->limbo, WORLD_STAMP);
	a128_store_value_then_stamp(&world_object(w, w->free0)->word, 0, stamp_link(w->free1));
	a128_store_value_then_stamp(&world_object(w, w->free1)->word, 0, stamp_link(at + 9 * 64));
	a128_store_value_then_stamp(&world_object(w, at + 9 * 64)->word, 0, stamp_link(0));
	p->free = stamp_link(w->free0);
	p->used = WORLD_FRONTIER - 3;
}

static inline void world_names(struct world *w)
{
	uint64_t inodes = world_page(w, w->first, 2), entries = world_page(w, w->first, 3);
	char name[32];
	int fd;

	world_run(w, w->first, 2, 1, 400, 5);
	w->root = inodes;
	w->sub = inodes + 400;
	w->file = inodes + 800;
	w->named = inodes + 1200;
	w->node = inodes + 1600;
	world_make(w, w->root, OBJECT_DIRECTORY, 2, DIR_CELLS, 1, 1);
	world_make(w, w->sub, OBJECT_DIRECTORY, 1, DIR_CELLS, 1, 1);
	world_make(w, w->file, OBJECT_FILE, 2, PLAIN_CELLS, 1, 1);
	world_make(w, w->named, OBJECT_NAMED, 1, NAMED_CELLS, 1, 1);
	world_make(w, w->node, OBJECT_NODE, 1, NODE_EDGES, 1, 1);
	world_run(w, w->first, 3, 1, 64, 3);
	w->entry_sub = entries;
	w->entry_file = entries + 64;
	w->entry_data = entries + 128;
	world_entry_make(w, w->entry_sub, w->sub, 0x51, 2, OBJECT_DIRECTORY, "sub");
	world_entry_make(w, w->entry_file, w->file, 0x58, 2, OBJECT_FILE, "file");
	world_entry_make(w, w->entry_data, w->named, 0x8, 1, OBJECT_NAMED, "data");
	/* "sub" and "file" share the first nibble, 5. */
	world_cell(w, w->root, DIR_EDGES + 5, w->node);
	world_cell(w, w->node, 1, w->entry_sub);
	world_cell(w, w->node, 8, w->entry_file);
	world_cell(w, w->sub, DIR_EDGES + 8, w->entry_data);
	world_cell(w, w->sub, DIR_PARENT, w->root);
	world_cell(w, w->named, NAMED_DATA, w->named_data);
	world_counter(&world_attr(w, w->root)->links, 1);
	world_counter(&world_attr(w, w->root)->entries, 2);
	world_counter(&world_attr(w, w->sub)->links, 1);
	world_counter(&world_attr(w, w->sub)->entries, 1);
	world_counter(&world_attr(w, w->file)->links, 1);
	world_counter(&world_attr(w, w->named)->links, 1);
	a64_store_relaxed(&world_attr(w, w->file)->extent, WORLD_EXTENT);
	snprintf(name, sizeof(name), "%016llx", (unsigned long long)WORLD_EXTENT);
	fd = openat(w->pool->extents_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, 12345))
		abort();
	close(fd);
}

static inline void world_queue(struct world *w)
{
	struct queue_fmt *queue;

	world_run(w, w->first, 4, 1, 512, 1);
	w->queue = world_page(w, w->first, 4);
	world_make(w, w->queue, OBJECT_QUEUE, 1, 4, 1, 1);
	queue = object_queue(world_object(w, w->queue), world_header(w, w->queue));
	queue->capacity = 4;
	a64_store_relaxed(&queue->head, 5);
	a64_store_relaxed(&queue->tail, 6);
	world_cell(w, w->queue, 1, w->file);
}

static inline void world_far_segments(struct world *w)
{
	uint32_t f = w->first;

	world_own(w, f + 1, segment_value(SEGMENT_ORPHAN, 0, 0), 0, 0);
	world_run(w, f + 1, 1, 1, 128, 2);
	w->orphan = world_page(w, f + 1, 1);
	world_make(w, w->orphan, OBJECT_DATA, 1, 0, 0, 1);
	world_own(w, f + 2, segment_value(SEGMENT_OWNED, 1, 0), 0, 2);
	world_own(w, f + 3, segment_value(SEGMENT_BODY, 0, f + 2), 0, 0);
	world_run(w, f + 2, 1, 127, (127ull << w->pool->page_shift), 1);
	segment_pages(w->pool, f + 2)->free = 0;
	w->span = world_page(w, f + 2, 1);
	world_make(w, w->span, OBJECT_DATA, 1, 0, 0, 0);
}

static inline void world_client(struct world *w)
{
	struct pool *pool = w->pool;
	uint32_t f = w->first;
	struct roots_fmt *more;

	world_own(w, f, segment_value(SEGMENT_OWNED, 1, 0), f + 2, 0);
	a64_store_relaxed(&pool->shared->slots_high, 2);
	world_reserve(w, off_of(pool, pool_slot(pool, 1)), 2 * pool->super->slot_stride_bytes);
	w->slot = pool_slot(pool, 1);
	w->roots = (struct root_fmt *)((char *)w->slot + pool->super->roots_off);
	a64_store_relaxed(pool_era_row(pool, 1) + 1, WORLD_ERA);
	a64_store_relaxed(pool_era_row(pool, 2) + 2, 5);
	a64_store_relaxed(pool_era_row(pool, 2) + 1, WORLD_ERA - 1);
	a64_store_relaxed(&w->slot->segments_head, f);
	a64_store_relaxed(&w->slot->segments_owned, 2);
	a64_store_relaxed(&w->slot->pid, (uint64_t)getpid());
	strcpy(w->slot->name, "world");
	a64_store_relaxed(&w->slot->state, 1 << 8 | SLOT_CLAIMED);
	a32_store_relaxed(&segment_pages(pool, f)[5].kind, PAGE_ROOTS);
	segment_pages(pool, f)[5].pages = 1;
	segment_pages(pool, f)->free = ~0x3full;
	w->roots_page = world_page(w, f, 5);
	more = off_ptr(pool, w->roots_page);
	more->rows = (1ull << pool->page_shift) / sizeof(struct root_fmt) - 1;
	a64_store_relaxed(&w->slot->roots_next, w->roots_page);
}

static inline void world_roots(const struct world *w)
{
	struct root_fmt *more = (struct root_fmt *)((struct roots_fmt *)off_ptr(w->pool, w->roots_page) + 1);

	a64_store_relaxed(&w->roots[0].object, w->priv);
	a64_store_relaxed(&w->roots[1].object, w->priv);
	a64_store_relaxed(&w->roots[2].object, w->holder);
	a64_store_relaxed(&w->roots[9].object, w->queue);
	a64_store_relaxed(&more[0].object, w->orphan);
	a64_store_relaxed(&more[7].object, w->span);
	a128_store_value_then_stamp(&w->slot->exports[3].word, w->exported, WORLD_STAMP);
}

/* Client 1 is this process, and joined; or it died. */
static inline void world_alive(const struct world *w, int alive)
{
	w->pool->own[1] = alive ? (struct client *)(uintptr_t)w : NULL;
}

static inline int world_setup(struct world *w)
{
	struct cxlshm_pool_options options = {
		.size_bytes = 4u << 20, .client_slots = 4, .uid = (uid_t)-1, .gid = (gid_t)-1,
	};
	struct cxlshm_error error;

	memset(w, 0, sizeof(*w));
	snprintf(w->dir, sizeof(w->dir), "%s/cxlshm-world-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	if (!mkdtemp(w->dir) || pool_make(w->dir, &options, &w->pool, &error))
		return -1;
	w->first = w->pool->first_segment;
	world_client(w);
	world_data_objects(w);
	world_names(w);
	world_queue(w);
	world_far_segments(w);
	world_roots(w);
	if (pool_seal(w->pool, w->root))
		return -1;
	world_alive(w, 1);
	return 0;
}

static inline void world_teardown(struct world *w)
{
	char command[128];

	if (w->pool) {
		world_alive(w, 0);
		pool_unmap(w->pool);
	}
	snprintf(command, sizeof(command), "rm -rf '%s'", w->dir);
	(void)!system(command);
}

#endif
