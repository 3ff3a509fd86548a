/* SPDX-License-Identifier: MIT */
/*
 * check_mark: the first half of a repair.  From the root directory on, put every directory right, clear
 * references that lead nowhere, and mark and count what is left: that is the pool, the rest is refuse.
 *
 * Offline and alone, so plain stores are fine.  It may be killed at any point: what it has changed is right
 * by then, and the next repair does the rest.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "check_state.h"

#define WALKED CHECK_LISTED	/* of a directory: its entries are right */

struct place {	/* an edge of a directory's trie */
	uint64_t dir;
	uint64_t prefix;
	uint32_t level;
};

static int live(const struct check *c, uint64_t off, uint64_t *ordinal)
{
	return check_find(c, off, ordinal, NULL) && (c->block[*ordinal] & CHECK_STATE) == OBJECT_LIVE;
}

/* An object of this shape, with room for so many bytes behind its slots. */
static int shaped(const struct check *c, uint64_t off, uint32_t slots, int cells, uint64_t behind)
{
	uint64_t header = check_header(c, off);
	struct check_run *run;
	uint64_t ordinal;

	return check_find(c, off, &ordinal, &run) && object_slots(header) == slots &&
	       !(header & OBJECT_CELLS) == !cells &&
	       sizeof(struct object_fmt) + slots * object_slot_bytes(header) + behind <= run->block_bytes;
}

/* A live inode in which everything is where its kind has it. */
int check_inode_sound(const struct check *c, uint64_t off)
{
	enum object_kind kind;
	uint64_t ordinal, data;

	if (!live(c, off, &ordinal))
		return 0;
	kind = object_kind(check_header(c, off));
	if (!check_is_inode(kind) ||
	    !shaped(c, off, kind == OBJECT_DIRECTORY ? DIR_CELLS : kind == OBJECT_NAMED ? NAMED_CELLS : PLAIN_CELLS, 1,
		    sizeof(struct attr_fmt)))
		return 0;
	if (kind != OBJECT_NAMED)
		return 1;
	data = a128_value_relaxed(&object_cell(off_object(c->pool, off), NAMED_DATA)->word);
	return check_is(c, data, OBJECT_DATA, &ordinal) || check_is(c, data, OBJECT_QUEUE, &ordinal);
}

static void set_cell(struct cell_fmt *cell, uint64_t to)
{
	a128_store_value_then_stamp(&cell->word, to, STAMP_REPAIRED);
}

/* ---------------------------------------------------------------- directories */

/* Why the entry cannot stay; NULL if it can. */
static const char *entry_fault(struct check *c, uint64_t off, const struct place *at)
{
	struct entry_fmt *entry = (struct entry_fmt *)object_payload(off_object(c->pool, off));
	uint64_t inode, ordinal, hash;
	struct check_run *run;

	if (!shaped(c, off, 1, 0, sizeof(*entry) - sizeof(entry->inode)) || !check_find(c, off, &ordinal, &run))
		return "is no entry";
	if (!entry->name_bytes || entry->name_bytes > CXLSHM_NAME_MAX ||
	    sizeof(struct object_fmt) + sizeof(*entry) + entry->name_bytes > run->block_bytes ||
	    memchr(entry->name, 0, entry->name_bytes) || memchr(entry->name, '/', entry->name_bytes))
		return "has no proper name";
	hash = check_name_hash(c, entry->name, entry->name_bytes);
	if (hash >> (HASH_BITS - 4 * (at->level + 1)) != at->prefix)
		return "is not where its name belongs";
	if (entry->hash != hash) {
		entry->hash = hash;
		check_fixed(c, "entry 0x%" PRIx64 ": hash set to 0x%" PRIx64, off, hash);
	}
	inode = a64_load_relaxed(&entry->inode);
	if (!check_inode_sound(c, inode))
		return "names no sound inode";
	if (object_kind(check_header(c, inode)) == OBJECT_DIRECTORY && check_find(c, inode, &ordinal, NULL) &&
	    (inode == c->pool->super->root_dir || c->block[ordinal] & CHECK_PLACED))
		return "is a second name of a directory";
	return NULL;
}

/* A sound entry: what it says about its inode, and what a directory says about it. */
static int entry_keep(struct check *c, uint64_t off, uint64_t dir)
{
	struct entry_fmt *entry = (struct entry_fmt *)object_payload(off_object(c->pool, off));
	uint64_t inode = a64_load_relaxed(&entry->inode);
	enum object_kind kind = object_kind(check_header(c, inode));
	uint64_t ordinal;
	int rc;

	if (entry->kind != kind) {
		entry->kind = kind;
		check_fixed(c, "entry 0x%" PRIx64 ": kind set to %d", off, (int)kind);
	}
	rc = check_map_add(&c->names, inode | 1, 1);
	if (rc || kind != OBJECT_DIRECTORY || !check_find(c, inode, &ordinal, NULL))
		return rc;
	c->block[ordinal] |= CHECK_PLACED;
	if (a128_value_relaxed(&object_cell(off_object(c->pool, inode), DIR_PARENT)->word) != dir) {
		set_cell(object_cell(off_object(c->pool, inode), DIR_PARENT), dir);
		check_fixed(c, "directory 0x%" PRIx64 ": parent set to 0x%" PRIx64, inode, dir);
	}
	return check_push(c, inode);
}

static int fix_edges(struct check *c, struct cell_fmt *cells, struct place at, uint64_t *entries)
{
	uint64_t prefix = at.prefix;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < NODE_EDGES; i++) {
		uint64_t to = a128_value_relaxed(&cells[i].word);
		const char *fault = NULL;
		enum object_kind kind;
		uint64_t ordinal;

		if (!to || (to == EDGE_FROZEN && at.level))
			continue;
		at.prefix = prefix << 4 | i;
		kind = live(c, to, &ordinal) ? object_kind(check_header(c, to)) : OBJECT_KINDS;
		if (kind != OBJECT_ENTRY && kind != OBJECT_NODE)
			fault = "is neither entry nor node";
		else if (c->block[ordinal] & CHECK_PLACED)
			fault = "is elsewhere, too";
		else if (kind == OBJECT_ENTRY)
			fault = entry_fault(c, to, &at);
		else if (at.level + 1 >= HASH_BITS / 4 || !shaped(c, to, NODE_EDGES, 1, 0))
			fault = "is no proper node";
		if (fault) {
			set_cell(&cells[i], 0);
			check_fixed(c, "directory 0x%" PRIx64 ": dropped 0x%" PRIx64 ", which %s", at.dir, to, fault);
			continue;
		}
		c->block[ordinal] |= CHECK_PLACED;
		if (kind == OBJECT_ENTRY) {
			*entries += 1;
			rc = entry_keep(c, to, at.dir);
		} else {
			struct place below = at;

			below.level++;
			rc = fix_edges(c, object_cell(off_object(c->pool, to), 0), below, entries);
		}
	}
	return rc;
}

/* Put one directory right; those in it go on the stack. */
static int fix_directory(struct check *c, uint64_t off)
{
	struct object_fmt *object = off_object(c->pool, off);
	struct attr_fmt *attr = object_attr(object, a128_value_relaxed(&object->word));
	struct place at = {.dir = off};
	uint64_t entries = 0, ordinal, was, removed;
	int rc;

	if (!check_find(c, off, &ordinal, NULL) || c->block[ordinal] & WALKED)
		return 0;
	c->block[ordinal] |= WALKED;
	rc = fix_edges(c, object_cell(object, DIR_EDGES), at, &entries);
	if (rc)
		return rc;
	was = a128_value_relaxed(&attr->entries);
	/* What has a name or entries is not removed; what has neither, and is still held, is. */
	removed = off != c->pool->super->root_dir && !(c->block[ordinal] & CHECK_PLACED) && !entries;
	entries |= removed ? COUNTER_REMOVED : 0;
	if (was != entries) {
		a128_store_value_then_stamp(&attr->entries, entries, 0);
		check_fixed(c, "directory 0x%" PRIx64 ": entries set to %" PRIu64 "%s", off,
			    (uint64_t)(entries & COUNTER_MASK), removed ? ", removed" : "");
	}
	return 0;
}

/* The tree of names first: so each directory is where its name is, and what only fields lead to comes later. */
static int fix_names(struct check *c)
{
	uint64_t root = c->pool->super->root_dir;
	int rc;

	if (a128_value_relaxed(&object_cell(off_object(c->pool, root), DIR_PARENT)->word)) {
		set_cell(object_cell(off_object(c->pool, root), DIR_PARENT), 0);
		check_fixed(c, "the root directory: parent cleared");
	}
	rc = check_push(c, root);
	while (!rc && c->stack_used)
		rc = fix_directory(c, c->stack[--c->stack_used]);
	return rc;
}

/* ---------------------------------------------------------------- marking */

static int mark(struct check *c, uint64_t off)
{
	uint64_t ordinal;

	if (!live(c, off, &ordinal))
		return -ENOENT;
	if (c->found[ordinal] < UINT32_MAX)
		c->found[ordinal]++;
	if (c->block[ordinal] & CHECK_REACHED)
		return 0;
	c->block[ordinal] |= CHECK_REACHED;
	return c->block[ordinal] & CHECK_SLOTS ? check_push(c, off) : 0;
}

static int mark_slots(struct check *c, uint64_t off)
{
	struct object_fmt *object = off_object(c->pool, off);
	uint64_t header = a128_value_relaxed(&object->word);
	int rc = 0;

	for (uint32_t i = 0; !rc && i < object_slots(header); i++) {
		struct a64 *slot = object_slot(object, header, i);
		uint64_t to = a64_load_relaxed(slot);

		if (header & OBJECT_CELLS && !check_stamp(c, a128_stamp_relaxed(&object_cell(object, i)->word))) {
			a128_store_stamp_release(&object_cell(object, i)->word, STAMP_REPAIRED);
			check_fixed(c, "object 0x%" PRIx64 " slot %u: stamp cleared", off, i);
		}
		if (!to || check_frozen(header, to))
			continue;
		rc = mark(c, to);
		if (rc == -ENOENT) {
			a64_store_release(slot, 0);
			check_fixed(c, "object 0x%" PRIx64 " slot %u: cleared, for 0x%" PRIx64 " is no object", off, i,
				    to);
			rc = 0;
		}
	}
	return rc;
}

/* An inode's attributes are of the kind that holds attributes. */
static void fix_xattrs(struct check *c, uint64_t off)
{
	struct cell_fmt *cell = object_cell(off_object(c->pool, off), INODE_XATTRS);
	uint64_t to = a128_value_relaxed(&cell->word);
	uint64_t ordinal;

	if (!live(c, to, &ordinal) || object_kind(check_header(c, to)) == OBJECT_XATTRS)
		return;
	set_cell(cell, 0);
	check_fixed(c, "inode 0x%" PRIx64 ": attributes cleared, for 0x%" PRIx64 " holds none", off, to);
}

int check_mark(struct check *c)
{
	int rc;

	for (uint64_t i = 0; i < c->blocks; i++) {
		c->block[i] &= (uint8_t)(CHECK_STATE | CHECK_EXPOSED | CHECK_SLOTS);
		c->found[i] = 0;
	}
	check_map_free(&c->names);
	c->stack_used = 0;
	rc = fix_names(c);
	if (!rc)
		rc = mark(c, c->pool->super->root_dir);
	while (!rc && c->stack_used) {
		uint64_t off = c->stack[--c->stack_used];

		if (check_inode_sound(c, off))
			fix_xattrs(c, off);
		if (check_inode_sound(c, off) && object_kind(check_header(c, off)) == OBJECT_DIRECTORY) {
			uint64_t below = c->stack_used;

			/* Reached by a field only: its own entries, and those of directories in it, before they are counted. */
			rc = fix_directory(c, off);
			while (!rc && c->stack_used > below)
				rc = fix_directory(c, c->stack[--c->stack_used]);
		}
		if (!rc)
			rc = mark_slots(c, off);
	}
	return rc;
}
