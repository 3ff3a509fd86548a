/* SPDX-License-Identifier: MIT */
/*
 * names: a directory's entries in a 16-way trie over a keyed hash of the name.
 *
 * Level k goes by nibble k of the hash's 60 bits, the highest first.  An edge is a cell: empty, or an ENTRY, or a NODE
 * with 16 more edges.  Who holds the directory follows both without references: what is read of an entry counts only if
 * its edge was the same afterwards, and what is read of an edge only if the edge that holds its node was (stamps are
 * unique, and a node is taken out of an edge only when all of its own are frozen, so that rest below an edge that
 * stands).  A spot may be used between the same client_read_begin() and _end() in which it was found, for its node's memory
 * is sure to be there only so long.
 *
 *   call               commits by                    excludes    progress
 *   find, next         -                             nothing     lock-free: starts again where an edge changed
 *   take               CAS on the object's header    nothing     one try
 *   split              CAS on an edge                nothing     one try
 *   exchange           CAS on an edge                nothing     one try: insert, replace, remove, of names_ops.c
 *   prune              CAS on an edge                nothing     lock-free
 */
#ifndef CXLSHM_NAMES_H
#define CXLSHM_NAMES_H

#include "inode.h"

#define NAMES_LEVELS (HASH_BITS / 4)

struct names_key {
	const char *text;	/* not NUL-terminated */
	uint32_t bytes;
	uint64_t hash;
};

enum names_found {
	NAMES_EMPTY,	/* the edge holds nothing, frozen or not */
	NAMES_OTHER,	/* an entry with another hash: names_split() makes room */
	NAMES_CLASH,	/* another name with the same 60 bits */
	NAMES_SAME	/* the name's entry */
};

/* Where a name hangs, or would. */
struct names_spot {
	struct cell_fmt *edge;
	struct stamped word;	/* what it held */
	struct cell_fmt *up;	/* the edge that holds the node with this edge; NULL: it is the directory's own */
	struct stamped up_word;	/* and what it held */
	uint32_t level;
	enum names_found found;

	/* of the entry there: */
	uint64_t entry;	/* offset, 0: none */
	uint64_t hash;
	uint64_t inode;
	enum object_kind kind;	/* of the inode */
	uint64_t data;	/* NAMED: the object it stands for */
	uint64_t entries;	/* DIRECTORY: its counter word */
	uint32_t mode;	/* of the inode; names_next() only */
	uint32_t bytes;	/* in the name */
	char name[CXLSHM_NAME_MAX + 1];
};

static inline uint32_t names_nibble(uint64_t hash, uint32_t level)
{
	return (uint32_t)(hash >> (HASH_BITS - 4 * (level + 1)) & (NODE_EDGES - 1));
}

/* A directory that is removed and has not lost its name yet counts as absent.  One that is about to be replaced by a
 * rename ({1 | REMOVED}) is there until it is. */
static inline int names_removed(const struct names_spot *s)
{
	return s->kind == OBJECT_DIRECTORY && s->entries == COUNTER_REMOVED;
}

/* Is the name there for everybody to see? */
static inline int names_present(const struct names_spot *s)
{
	return s->found == NAMES_SAME && !names_removed(s);
}

struct names_key names_key_of(const struct client *c, const char *text, size_t bytes);

/* Is this object, which the caller holds, a directory? */
int names_is_dir(const struct client *c, uint64_t off);

/* The edge where a hash ends, and what was there.  -EUCLEAN. */
int names_seek(struct client *c, uint64_t dir, uint64_t hash, struct names_spot *s);

/* The same for a name, with what there is to know about a directory or named object, all of one moment. */
int names_find(struct client *c, uint64_t dir, const struct names_key *key, struct names_spot *s);

/* The entry with the lowest hash from `from` on.  -ENOENT: none. */
int names_next(struct client *c, uint64_t dir, uint64_t from, struct names_spot *s);

/* Take a reference on the spot's entry, its inode or data object into the empty row.  -EAGAIN: the edge has changed. */
int names_take(struct client *c, const struct names_spot *s, uint64_t object, struct root_fmt *row);

/* What the name stands for, into the empty row; flags: CXLSHM_INODE. */
int names_lookup(struct client *c, uint64_t dir, const struct names_key *key, unsigned flags, struct root_fmt *row);

/* A private entry for this name and inode (which the caller holds) in *row; room: bytes behind the name.  -ENOSPC. */
int names_entry_make(struct client *c, const struct names_key *key, uint64_t inode, uint64_t room,
		     struct root_fmt **row);

static inline struct entry_fmt *names_entry(const struct client *c, uint64_t off)
{
	return (struct entry_fmt *)object_payload(off_object(c->pool, off));
}

/* Of an entry that was made for a rename. */
static inline struct rename_fmt *names_rename_of(struct entry_fmt *entry)
{
	return (struct rename_fmt *)((char *)entry + ((sizeof(*entry) + entry->name_bytes + 7) & ~7ull));
}

/* cell_exchange() of the spot's edge with the row; it may be frozen. */
int names_exchange(struct client *c, const struct names_spot *s, struct root_fmt *row, const struct todo_fmt *todo);

/* Does it look as if there were a node with the spot's edge and nothing in it?  A hint, in the window of the spot. */
int names_bare(const struct client *c, const struct names_spot *s);

/* Take out the nodes that a hash leads through and that hold nothing: after a name was removed. */
void names_prune(struct client *c, uint64_t dir, uint64_t hash);

/* The spot's entry is in the way of a name with another hash: put nodes between.  0 or -EAGAIN: look again. */
int names_split(struct client *c, const struct names_spot *s, uint64_t hash);

#endif
