/* SPDX-License-Identifier: MIT */
/*
 * check_names: directories, from their edges through nodes to entries; the counters of inodes; what is in
 * queues and symlinks; and the files in x/ against the objects they belong to.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check_state.h"
#include "names.h"
#include "queue.h"

struct place {	/* an edge of a directory's trie */
	uint64_t dir;
	uint64_t prefix;	/* the nibbles that lead to it */
	uint32_t level;	/* of these, less one */
};

/* ---------------------------------------------------------------- directories */

static int is_root(const struct check *c, uint64_t off)
{
	return off == c->pool->super->root_dir;
}

/* Are these the slots that objects of its kind have, and is there room for what follows them? */
static int shape(struct check *c, uint64_t off, uint32_t slots, int cells, uint64_t behind)
{
	uint64_t header = check_header(c, off);
	struct check_run *run;
	uint64_t ordinal;

	if (!check_find(c, off, &ordinal, &run))
		return 0;
	if (object_slots(header) != slots || !(header & OBJECT_CELLS) != !cells ||
	    sizeof(struct object_fmt) + slots * object_slot_bytes(header) + behind > run->block_bytes) {
		check_problem(c, "object 0x%" PRIx64 " is of kind %d, but has %u %s in %" PRIu64 " bytes", off,
			      (int)object_kind(header), object_slots(header),
			      header & OBJECT_CELLS ? "cells" : "fields", run->block_bytes);
		return 0;
	}
	return 1;
}

static void entry_inode(struct check *c, uint64_t off, const struct entry_fmt *entry, const struct place *at)
{
	uint64_t inode = a64_load_relaxed(&entry->inode);
	enum object_kind kind;
	uint64_t ordinal;

	if (!check_find(c, inode, &ordinal, NULL) || (c->block[ordinal] & CHECK_STATE) != OBJECT_LIVE ||
	    !check_is_inode(object_kind(check_header(c, inode)))) {
		check_problem(c, "entry 0x%" PRIx64 " of directory 0x%" PRIx64 " names 0x%" PRIx64
			      ", which is no inode", off, at->dir, inode);
		return;
	}
	kind = object_kind(check_header(c, inode));
	if (entry->kind != kind)
		check_problem(c, "entry 0x%" PRIx64 " of directory 0x%" PRIx64 " says 0x%" PRIx64
			      " is of kind %u, but it is of kind %d", off, at->dir, inode, entry->kind, (int)kind);
	if (kind != OBJECT_DIRECTORY)
		return;
	if (is_root(c, inode) || c->block[ordinal] & CHECK_PLACED)
		check_problem(c, "directory 0x%" PRIx64 " is in directory 0x%" PRIx64 " and elsewhere", inode,
			      at->dir);
	c->block[ordinal] |= CHECK_PLACED;
	if (c->block[ordinal] & CHECK_SLOTS && object_slots(check_header(c, inode)) == DIR_CELLS &&
	    a128_value_relaxed(&object_cell(off_object(c->pool, inode), DIR_PARENT)->word) != at->dir)
		check_problem(c, "directory 0x%" PRIx64 " is in directory 0x%" PRIx64 ", but its parent is 0x%"
			      PRIx64, inode, at->dir,
			      a128_value_relaxed(&object_cell(off_object(c->pool, inode), DIR_PARENT)->word));
}

uint64_t check_name_hash(const struct check *c, const char *name, uint32_t bytes)
{
	const struct client as = {.pool = c->pool};

	return names_key_of(&as, name, bytes).hash;
}

static int entry_check(struct check *c, uint64_t off, const struct place *at)
{
	const struct entry_fmt *entry = (const struct entry_fmt *)object_payload(off_object(c->pool, off));
	struct check_run *run;
	uint64_t ordinal;

	if (!check_find(c, off, &ordinal, &run) ||
	    !shape(c, off, 1, 0, sizeof(*entry) - sizeof(entry->inode)))
		return 0;
	if (entry->hash >> (HASH_BITS - 4 * (at->level + 1)) != at->prefix)
		check_problem(c, "entry 0x%" PRIx64 " of directory 0x%" PRIx64 " has hash 0x%" PRIx64
			      ", but is at 0x%" PRIx64 ", level %u", off, at->dir, entry->hash, at->prefix, at->level);
	if (!entry->name_bytes || entry->name_bytes > CXLSHM_NAME_MAX ||
	    sizeof(struct object_fmt) + sizeof(*entry) + entry->name_bytes > run->block_bytes)
		check_problem(c, "entry 0x%" PRIx64 " of directory 0x%" PRIx64 " has a name of %u bytes", off, at->dir,
			      entry->name_bytes);
	else if (memchr(entry->name, 0, entry->name_bytes) || memchr(entry->name, '/', entry->name_bytes))
		check_problem(c, "entry 0x%" PRIx64 " of directory 0x%" PRIx64 " has a name that is none", off,
			      at->dir);
	else if (check_name_hash(c, entry->name, entry->name_bytes) != entry->hash)
		check_problem(c, "entry 0x%" PRIx64 " of directory 0x%" PRIx64 " has not its name's hash", off, at->dir);
	entry_inode(c, off, entry, at);
	return check_map_add(&c->names, a64_load_relaxed(&entry->inode) | 1, 1);
}

/* Entries below these edges, added to *entries.  At most 15 deep: every level uses up a nibble of the hash. */
static int edges(struct check *c, const struct cell_fmt *cells, struct place at, uint64_t *entries)
{
	uint64_t prefix = at.prefix;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < NODE_EDGES; i++) {
		uint64_t to = a128_value_relaxed(&cells[i].word);
		enum object_kind kind;
		uint64_t ordinal;

		/* What is no object has been reported with the references. */
		if (!to || !check_find(c, to, &ordinal, NULL) || (c->block[ordinal] & CHECK_STATE) != OBJECT_LIVE)
			continue;
		kind = object_kind(check_header(c, to));
		at.prefix = prefix << 4 | i;
		if (kind != OBJECT_ENTRY && kind != OBJECT_NODE) {
			check_problem(c, "directory 0x%" PRIx64 " has 0x%" PRIx64 ", of kind %d, among its nodes", at.dir,
				      to, (int)kind);
		} else if (c->block[ordinal] & CHECK_PLACED) {
			check_problem(c, "directory 0x%" PRIx64 " has 0x%" PRIx64 ", which is elsewhere, too", at.dir, to);
		} else if (kind == OBJECT_ENTRY) {
			c->block[ordinal] |= CHECK_PLACED;
			*entries += 1;
			rc = entry_check(c, to, &at);
		} else if (at.level + 1 >= HASH_BITS / 4) {
			check_problem(c, "directory 0x%" PRIx64 " has a node 0x%" PRIx64 " that is too deep", at.dir, to);
		} else if (shape(c, to, NODE_EDGES, 1, 0)) {
			struct place below = at;

			c->block[ordinal] |= CHECK_PLACED;
			below.level++;
			rc = edges(c, object_cell(off_object(c->pool, to), 0), below, entries);
		}
	}
	return rc;
}

static int directory(struct check *c, uint64_t off)
{
	struct object_fmt *object = off_object(c->pool, off);
	struct place at = {.dir = off};
	const struct attr_fmt *attr;
	uint64_t entries = 0, debts, value;
	int rc;

	if (!shape(c, off, DIR_CELLS, 1, sizeof(*attr)))
		return 0;
	rc = edges(c, object_cell(object, DIR_EDGES), at, &entries);
	if (rc)
		return rc;
	attr = object_attr(object, a128_value_relaxed(&object->word));
	value = a128_value_relaxed(&attr->entries);
	debts = check_map_get(&c->debts, off_of(c->pool, &attr->entries));
	if ((value & COUNTER_MASK) != entries + debts)
		check_problem(c, "directory 0x%" PRIx64 " counts %" PRIu64 " entries, but has %" PRIu64, off,
			      (uint64_t)(value & COUNTER_MASK), entries + debts);
	if (value & COUNTER_REMOVED && entries)
		check_problem(c, "directory 0x%" PRIx64 " is removed, but has %" PRIu64 " entries", off, entries);
	if (value & ~(COUNTER_MASK | COUNTER_REMOVED))
		check_problem(c, "directory 0x%" PRIx64 ": its entries word is 0x%" PRIx64, off, value);
	if (!check_stamp(c, a128_stamp_relaxed(&attr->entries)))
		check_problem(c, "directory 0x%" PRIx64 ": its entries have a stamp from the future", off);
	if (is_root(c, off) && a128_value_relaxed(&object_cell(object, DIR_PARENT)->word))
		check_problem(c, "the root directory has a parent, 0x%" PRIx64,
			      a128_value_relaxed(&object_cell(object, DIR_PARENT)->word));
	return 0;
}

static int each_live(struct check *c, int (*visit)(struct check *c, uint64_t off, uint64_t ordinal))
{
	int rc = 0;

	for (uint64_t r = 0; !rc && r < c->runs_count; r++) {
		const struct check_run *run = &c->runs[r];

		for (uint32_t i = 0; !rc && i < run->frontier; i++)
			if ((c->block[run->base + i] & CHECK_STATE) == OBJECT_LIVE)
				rc = visit(c, run->start + i * run->block_bytes, run->base + i);
	}
	return rc;
}

static int if_directory(struct check *c, uint64_t off, uint64_t ordinal)
{
	(void)ordinal;
	return object_kind(check_header(c, off)) == OBJECT_DIRECTORY ? directory(c, off) : 0;
}

int check_directories(struct check *c)
{
	return each_live(c, if_directory);
}

/* ---------------------------------------------------------------- inodes and queues */

/* Held by nothing but a dead client that may have been at making it. */
static int in_the_making(const struct check *c, uint64_t ordinal)
{
	uint16_t cid = c->holder[ordinal];

	return cid && cid != CHECK_HOLDER_OTHER && !c->slots[cid].alive;
}

static void check_queue(struct check *c, uint64_t off)
{
	struct object_fmt *object = off_object(c->pool, off);
	uint64_t header = a128_value_relaxed(&object->word);
	const struct queue_fmt *queue;
	const char *wrong;

	if (!shape(c, off, object_slots(header), 1, sizeof(*queue)))
		return;
	queue = object_queue(object, header);
	wrong = queue_check(c->pool, off);
	if (wrong)
		check_problem(c, "queue 0x%" PRIx64 ": %s", off, wrong);
	if (!check_stamp(c, a128_stamp_relaxed(&queue->sender)) ||
	    !check_stamp(c, a128_stamp_relaxed(&queue->receiver)))
		check_problem(c, "queue 0x%" PRIx64 " has a stamp from the future", off);
}

static void cells_check(struct check *c, uint64_t off, enum object_kind kind)
{
	struct object_fmt *object = off_object(c->pool, off);
	uint64_t xattrs = a128_value_relaxed(&object_cell(object, INODE_XATTRS)->word);
	uint64_t ordinal;

	if (xattrs && check_find(c, xattrs, &ordinal, NULL) &&
	    (c->block[ordinal] & CHECK_STATE) == OBJECT_LIVE &&
	    object_kind(check_header(c, xattrs)) != OBJECT_XATTRS)
		check_problem(c, "inode 0x%" PRIx64 " has 0x%" PRIx64 ", of kind %d, for its attributes", off, xattrs,
			      (int)object_kind(check_header(c, xattrs)));
	if (kind == OBJECT_NAMED) {
		uint64_t data = a128_value_relaxed(&object_cell(object, NAMED_DATA)->word);

		if (!check_is(c, data, OBJECT_DATA, &ordinal) && !check_is(c, data, OBJECT_QUEUE, &ordinal))
			check_problem(c, "inode 0x%" PRIx64 " stands for 0x%" PRIx64 ", which is no data object", off,
				      data);
	}
}

static int inode_check(struct check *c, uint64_t off, uint64_t ordinal)
{
	struct object_fmt *object = off_object(c->pool, off);
	uint64_t header = a128_value_relaxed(&object->word);
	enum object_kind kind = object_kind(header);
	uint64_t links, names, debts;
	struct attr_fmt *attr;
	struct check_run *run;

	if (kind == OBJECT_QUEUE)
		check_queue(c, off);
	if (!check_is_inode(kind))
		return 0;
	if (kind == OBJECT_DIRECTORY ? !(c->block[ordinal] & CHECK_SLOTS) || object_slots(header) != DIR_CELLS :
	    !shape(c, off, kind == OBJECT_NAMED ? NAMED_CELLS : PLAIN_CELLS, 1, sizeof(*attr)))
		return 0;
	cells_check(c, off, kind);
	attr = object_attr(object, header);
	links = a128_value_relaxed(&attr->links);
	names = check_map_get(&c->names, off | 1);
	debts = check_map_get(&c->debts, off_of(c->pool, &attr->links));
	if (links != names + debts && !(is_root(c, off) && links == 1))
		check_problem(c, "inode 0x%" PRIx64 " counts %" PRIu64 " names, but has %" PRIu64, off, links,
			      names + debts);
	if (!check_stamp(c, a128_stamp_relaxed(&attr->links)))
		check_problem(c, "inode 0x%" PRIx64 ": its names have a stamp from the future", off);
	if (kind == OBJECT_DIRECTORY && !names && !is_root(c, off) && !in_the_making(c, ordinal) &&
	    !(a128_value_relaxed(&attr->entries) & COUNTER_REMOVED))
		check_problem(c, "directory 0x%" PRIx64 " has no name, but is not removed", off);
	if (kind == OBJECT_DIRECTORY && names && a128_value_relaxed(&attr->entries) & COUNTER_REMOVED &&
	    !check_map_get(&c->debts, off_of(c->pool, &attr->entries) | DEBT_REVIVE))
		check_problem(c, "directory 0x%" PRIx64 " has a name, but is removed", off);
	if (kind == OBJECT_SYMLINK && check_find(c, off, &ordinal, &run) &&
	    a64_load_relaxed(&attr->length) > run->block_bytes - sizeof(*object) - 16 - sizeof(*attr))
		check_problem(c, "symlink 0x%" PRIx64 " has a target of %" PRIu64 " bytes", off,
			      a64_load_relaxed(&attr->length));
	return 0;
}

int check_inodes(struct check *c)
{
	return each_live(c, inode_check);
}

/* ---------------------------------------------------------------- extents */

/* The number in an extent's name, 0 if it is none. */
static uint64_t extent_id(const char *name)
{
	uint64_t id = 0;

	for (int i = 0; i < 16; i++) {
		const char *digits = "0123456789abcdef";
		const char *digit = name[i] ? strchr(digits, name[i]) : NULL;

		if (!digit)
			return 0;
		id = id << 4 | (uint64_t)(digit - digits);
	}
	return name[16] ? 0 : id;
}

static int extents_list(struct check *c)
{
	int fd = openat(c->pool->extents_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int rc = 0;

	if (!dir) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
		return rc;
	}
	while (!rc && (entry = readdir(dir))) {
		uint64_t id = extent_id(entry->d_name);

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (!id || (entry->d_type != DT_REG && entry->d_type != DT_UNKNOWN)) {
			check_problem(c, "x/%.64s is not the bytes of an object; it is left there, delete it if nobody wants it", entry->d_name);
			continue;
		}
		c->result->extents++;
		rc = check_map_add(&c->extents, id, CHECK_EXTENT_FILE);
	}
	closedir(dir);
	return rc;
}

static int extent_of(struct check *c, uint64_t off, uint64_t ordinal)
{
	struct object_fmt *object = off_object(c->pool, off);
	uint64_t header = a128_value_relaxed(&object->word);
	int live = object_state(header) == OBJECT_LIVE;
	struct check_run *run;
	uint64_t id, known;

	/* A dead one whose slots are cut down has lost its extent already. */
	if (object_kind(header) != OBJECT_FILE || object_slots(header) != PLAIN_CELLS || !(header & OBJECT_CELLS) ||
	    !check_find(c, off, &ordinal, &run) ||
	    run->block_bytes < sizeof(*object) + sizeof(struct cell_fmt) + sizeof(struct attr_fmt))
		return 0;
	id = a64_load_relaxed(&object_attr(object, header)->extent);
	if (!id) {
		if (live && !in_the_making(c, ordinal))
			check_problem(c, "file 0x%" PRIx64 " has no extent", off);
		return 0;
	}
	known = check_map_get(&c->extents, id);
	if (live && !(known & CHECK_EXTENT_FILE) && !in_the_making(c, ordinal))
		check_problem(c, "file 0x%" PRIx64 ": its bytes, x/%016" PRIx64 ", are not there", off, id);
	if (known >= CHECK_EXTENT_OWNER)
		check_problem(c, "file 0x%" PRIx64 ": its bytes, x/%016" PRIx64 ", are another object's, too", off, id);
	return check_map_add(&c->extents, id, CHECK_EXTENT_OWNER);
}

int check_extents(struct check *c)
{
	int rc = extents_list(c);

	for (uint64_t r = 0; !rc && r < c->runs_count; r++)
		for (uint32_t i = 0; !rc && i < c->runs[r].frontier; i++) {
			unsigned state = c->block[c->runs[r].base + i] & CHECK_STATE;

			if (state == OBJECT_LIVE || state == OBJECT_DEAD)
				rc = extent_of(c, c->runs[r].start + i * c->runs[r].block_bytes, c->runs[r].base + i);
		}
	for (uint64_t i = 0; !rc && i < c->extents.size; i++)
		if (c->extents.keys[i] && c->extents.values[i] == CHECK_EXTENT_FILE)
			check_problem(c, "x/%016" PRIx64 " is the bytes of no object", c->extents.keys[i]);
	return rc;
}
