/* SPDX-License-Identifier: MIT */
/*
 * Finding names, making entries, making room, and giving it back; see names.h.
 *
 * Reading.  An edge is loaded, what it leads to is read without a reference, and the edge is loaded again: if it is the
 * same, it held its reference all the time, so what was read was a live, immutable entry, or a node.  Otherwise the memory
 * may have been anything; nothing read from it has been followed, and the edge is read anew.  What an entry leads to is
 * looked at only after that check.  All reads stay within the segment of the block: its neighbour may have no memory.
 * An edge of a node is in memory that is held by the edge above only.  So before anything is made of what was loaded from
 * it, the one above is loaded again: if that is the same, the node was in its place (and so was the node of that edge,
 * which otherwise would be frozen), and the edge was what it says.  If not, one begins again from the directory.
 *
 * Making room.  An edge with an entry of another hash gets a chain of new nodes, private until the edge's CAS, down to
 * the level where the hashes part; the lowest holds a second reference to the old entry.  So the old entry is reachable
 * at every moment.
 *
 * Giving it back.  Who has removed a name takes out the nodes on its way that hold nothing: loads the edge that holds the
 * node, freezes the node's edges one by one, and exchanges the edge for nothing, if it is as loaded.  Who wants to put
 * something into a frozen edge writes the edge that holds the node first, with the same value and so a new stamp; then the
 * taking out that froze it, if it is still under way, comes to nothing, and who begins one later must freeze this edge
 * anew.  So a node is taken out only with all its edges frozen, and what was ever read of them is never true again: their
 * stamps were never 0, as in memory that is zeroed.  Death on the way leaves frozen edges, which are as good as empty ones,
 * or an empty node and those above it, until the next removal comes that way, or its directory goes.  So may two who take
 * one out at once and spoil each other's freezing, or a rename that finds its name below a node made since it looked: nobody
 * tries again, for an empty node costs its few bytes only.
 */
#include "names.h"

/* ---- SipHash-2-4 (Aumasson and Bernstein, 2012), cut to 60 bits ---- */

static inline uint64_t rotl(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] = rotl(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] = rotl(v[2], 32);
}

static uint64_t siphash(const uint64_t key[2], const char *text, size_t bytes)
{
	uint64_t v[4] = {key[0] ^ 0x736f6d6570736575ull, key[1] ^ 0x646f72616e646f6dull, key[0] ^ 0x6c7967656e657261ull,
			 key[1] ^ 0x7465646279746573ull};
	uint64_t last = (uint64_t)bytes << 56;
	size_t i = 0;

	for (; i + 8 <= bytes; i += 8) {
		uint64_t m = 0;

		for (unsigned j = 0; j < 8; j++)
			m |= (uint64_t)(uint8_t)text[i + j] << 8 * j;
		v[3] ^= m;
		sip_round(v);
		sip_round(v);
		v[0] ^= m;
	}
	for (unsigned j = 0; i + j < bytes; j++)
		last |= (uint64_t)(uint8_t)text[i + j] << 8 * j;
	v[3] ^= last;
	sip_round(v);
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (unsigned j = 0; j < 4; j++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct names_key names_key_of(const struct client *c, const char *text, size_t bytes)
{
	return (struct names_key){
		.text = text,
		.bytes = (uint32_t)bytes,
		.hash = siphash(c->pool->super->hash_key, text, bytes) >> (64 - HASH_BITS),
	};
}

/* ---- reading without references ---- */

/* Do that many bytes from an object's header on lie in one segment? */
static int inside(const struct client *c, uint64_t off, uint64_t bytes)
{
	uint64_t segment = 1ull << c->pool->segment_shift;

	return off_is_object(c->pool, off) && (off & (segment - 1)) + bytes <= segment;
}

static uint64_t read_word(const struct client *c, uint64_t off)
{
	return a64_load_relaxed((struct a64 *)off_ptr(c->pool, off));
}

/* Does the edge still hold what it held, and so did all the time?  Pairs: cell_exchange(), thaw(). */
static int stands(const struct cell_fmt *edge, struct stamped word)
{
	struct stamped now;

	fence_acquire();
	now = a128_load_acquire(&edge->word);
	return now.value == word.value && now.stamp == word.stamp;
}

static int unchanged(const struct names_spot *s)
{
	return stands(s->edge, s->word);
}

/* Was the spot's edge in the directory when it was read? */
static int in_place(const struct names_spot *s)
{
	return !s->up || stands(s->up, s->up_word);
}

/* Copy what may be an entry.  0 if it can be none. */
static int copy_entry(const struct client *c, struct names_spot *s)
{
	uint64_t off = s->word.value;
	uint64_t at = off + sizeof(struct object_fmt);
	uint64_t word;

	if (!inside(c, off, sizeof(struct object_fmt) + sizeof(struct entry_fmt)))
		return 0;
	s->inode = read_word(c, at + offsetof(struct entry_fmt, inode));
	if (off_is_object(c->pool, s->inode))	/* a hint only: nothing is followed before the edge is read again */
		__builtin_prefetch(off_object(c->pool, s->inode));
	s->hash = read_word(c, at + offsetof(struct entry_fmt, hash));
	word = read_word(c, at + offsetof(struct entry_fmt, kind));
	s->kind = (enum object_kind)(uint32_t)word;
	s->bytes = (uint32_t)(word >> 32);
	if (!s->bytes || s->bytes > CXLSHM_NAME_MAX || !inside(c, off, sizeof(struct object_fmt) +
							       sizeof(struct entry_fmt) + ((s->bytes + 7) & ~7u)))
		return 0;
	at += offsetof(struct entry_fmt, name);
	for (uint32_t i = 0; i < s->bytes; i += 8) {
		uint32_t n = s->bytes - i < 8 ? s->bytes - i : 8;

		word = read_word(c, at + i);
		memcpy(s->name + i, &word, n);
	}
	s->name[s->bytes] = 0;
	return 1;
}

/* What the edge holds: 0: nothing, or the entry in *s; 1: a node, of which edge `nibble` will be next; -EAGAIN: it is no
 * edge of the directory any more; -EUCLEAN. */
static inline int read_edge(const struct client *c, struct names_spot *s, uint32_t nibble)
{
	for (;;) {
		uint64_t header;
		int is_entry;

		s->word = a128_load_acquire(&s->edge->word);
		s->entry = 0;
		if (!in_place(s))
			return -EAGAIN;
		if (!s->word.value || s->word.value == EDGE_FROZEN)
			return 0;
		if (!off_is_object(c->pool, s->word.value))
			return -EUCLEAN;
		/* Its header is in one line, the edge that is wanted if it is a node in another: ask for both at once. */
		__builtin_prefetch(object_cell(off_object(c->pool, s->word.value), nibble));
		header = a128_load_acquire(&off_object(c->pool, s->word.value)->word).value;
		if (object_kind(header) == OBJECT_NODE) {
			if (!unchanged(s))
				continue;
			return ref_header_live(header) && header & OBJECT_CELLS && object_slots(header) == NODE_EDGES &&
					       inside(c, s->word.value,
						      sizeof(struct object_fmt) + sizeof(struct node_fmt))
				       ? 1
				       : -EUCLEAN;
		}
		is_entry = copy_entry(c, s);
		if (!unchanged(s))
			continue;
		if (!is_entry || !ref_header_live(header) || object_kind(header) != OBJECT_ENTRY ||
		    !inode_is(s->kind) || !inside(c, s->inode, inode_attr_at(s->kind) + sizeof(struct attr_fmt)))
			return -EUCLEAN;
		s->entry = s->word.value;
		return 0;
	}
}

/* Read what a lookup wants to know of the entry's inode.  -EAGAIN: the edge has changed; -EUCLEAN. */
static int read_inode(const struct client *c, struct names_spot *s)
{
	struct object_fmt *object = off_object(c->pool, s->inode);
	uint64_t header = a128_load_acquire(&object->word).value;
	struct attr_fmt *attr = (struct attr_fmt *)((char *)object + inode_attr_at(s->kind));

	s->mode = (uint32_t)a64_load_relaxed(&attr->mode);
	s->entries = 0;
	s->data = 0;
	if (s->kind == OBJECT_DIRECTORY)
		s->entries = a128_load_acquire(&attr->entries).value;
	if (s->kind == OBJECT_NAMED)
		s->data = a128_load_acquire(&object_cell(object, NAMED_DATA)->word).value;
	if (!unchanged(s))
		return -EAGAIN;
	if (!ref_header_live(header) || object_kind(header) != s->kind)
		return -EUCLEAN;
	return s->kind == OBJECT_NAMED && !off_is_object(c->pool, s->data) ? -EUCLEAN : 0;
}

static struct cell_fmt *node_cells(const struct client *c, uint64_t node)
{
	return object_cell(off_object(c->pool, node), 0);
}

static struct cell_fmt *dir_cells(const struct client *c, uint64_t dir)
{
	return object_cell(off_object(c->pool, dir), DIR_EDGES);
}

int names_is_dir(const struct client *c, uint64_t off)
{
	enum object_kind kind;

	return inode_attr(c, off, &kind) && kind == OBJECT_DIRECTORY;
}

/* ---- finding; between client_read_begin() and _end() ---- */

static int try_seek(const struct client *c, uint64_t dir, uint64_t hash, struct names_spot *s)
{
	struct cell_fmt *cells = dir_cells(c, dir);

	s->up = NULL;
	for (s->level = 0; s->level < NAMES_LEVELS; s->level++) {
		int rc;

		s->edge = cells + names_nibble(hash, s->level);
		rc = read_edge(c, s, s->level + 1 < NAMES_LEVELS ? names_nibble(hash, s->level + 1) : 0);
		if (rc <= 0) {
			s->found = !s->entry ? NAMES_EMPTY : s->hash == hash ? NAMES_SAME : NAMES_OTHER;
			return rc;
		}
		cells = node_cells(c, s->word.value);
		s->up = s->edge;
		s->up_word = s->word;
	}
	return -EUCLEAN;
}

static int seek(const struct client *c, uint64_t dir, uint64_t hash, struct names_spot *s)
{
	int rc;

	do
		rc = try_seek(c, dir, hash, s);
	while (rc == -EAGAIN);
	return rc;
}

static int find(const struct client *c, uint64_t dir, const struct names_key *key, struct names_spot *s)
{
	int rc;

	do {
		rc = seek(c, dir, key->hash, s);
		if (rc || s->found != NAMES_SAME)
			return rc;
		if (s->bytes != key->bytes || memcmp(s->name, key->text, key->bytes)) {
			s->found = NAMES_CLASH;
			return 0;
		}
		/* What is said of other kinds' inodes, nobody asks here. */
		rc = s->kind == OBJECT_DIRECTORY || s->kind == OBJECT_NAMED ? read_inode(c, s) : 0;
	} while (rc == -EAGAIN);
	return rc;
}

/* The lowest hash that ends in or below this edge. */
static uint64_t position(const uint32_t *index, uint32_t level)
{
	uint64_t hash = 0;

	for (uint32_t i = 0; i <= level; i++)
		hash = hash << 4 | index[i];
	return hash << 4 * (NAMES_LEVELS - 1 - level);
}

/*
 * Depth first in the order of hashes.  An entry that is there throughout is on its way all the time, in an edge or, after
 * a split, below it; so each walk meets it.  -EAGAIN: a node on the way is gone; begin again, at *resume.
 */
static int try_next(const struct client *c, uint64_t dir, uint64_t *resume, struct names_spot *s)
{
	uint64_t from = *resume;
	struct cell_fmt *cells[NAMES_LEVELS] = {dir_cells(c, dir)};
	struct stamped words[NAMES_LEVELS];	/* of the edges on the way down */
	uint32_t index[NAMES_LEVELS] = {names_nibble(from, 0)};
	uint64_t nodes = c->pool->heap_bytes / sizeof(struct node_fmt);
	int on_path = 1;	/* all nibbles so far are those of `from` */

	s->level = 0;
	for (;;) {
		int rc;

		if (index[s->level] == NODE_EDGES) {
			if (!s->level)
				return -ENOENT;
			index[--s->level]++;
			on_path = 0;
			continue;
		}
		s->edge = cells[s->level] + index[s->level];
		s->up = s->level ? cells[s->level - 1] + index[s->level - 1] : NULL;
		if (s->up)
			s->up_word = words[s->level - 1];
		rc = read_edge(c, s, 0);
		if (rc == -EAGAIN && !on_path)	/* from here on; what was before has been looked at */
			*resume = position(index, s->level);
		if (rc < 0)
			return rc;
		if (rc) {
			words[s->level] = s->word;
			/* Damaged nodes may lead in circles: no more than there is room for. */
			if (++s->level == NAMES_LEVELS || !nodes--)
				return -EUCLEAN;
			cells[s->level] = node_cells(c, s->word.value);
			index[s->level] = on_path ? names_nibble(from, s->level) : 0;
			continue;
		}
		/* Each position is behind the one before, or a listing of a damaged directory would not end. */
		if (s->entry && s->hash - position(index, s->level) >= 1ull << 4 * (NAMES_LEVELS - 1 - s->level))
			return -EUCLEAN;
		if (s->entry && s->hash >= from) {
			rc = read_inode(c, s);
			if (rc == -EAGAIN)
				continue;
			if (rc)
				return rc;
			s->found = NAMES_SAME;
			if (!names_removed(s))
				return 0;
		}
		index[s->level]++;
		on_path = 0;
	}
}

static int next(const struct client *c, uint64_t dir, uint64_t from, struct names_spot *s)
{
	int rc;

	do
		rc = try_next(c, dir, &from, s);
	while (rc == -EAGAIN);
	return rc;
}

int names_seek(struct client *c, uint64_t dir, uint64_t hash, struct names_spot *s)
{
	int rc;

	client_read_begin(c);
	rc = seek(c, dir, hash, s);
	client_read_end(c);
	return rc;
}

int names_find(struct client *c, uint64_t dir, const struct names_key *key, struct names_spot *s)
{
	int rc;

	client_read_begin(c);
	rc = find(c, dir, key, s);
	client_read_end(c);
	return rc;
}

int names_next(struct client *c, uint64_t dir, uint64_t from, struct names_spot *s)
{
	int rc;

	if (from >> HASH_BITS)
		return -ENOENT;
	client_read_begin(c);
	rc = next(c, dir, from, s);
	client_read_end(c);
	return rc;
}

static int take(struct client *c, const struct names_spot *s, uint64_t object, struct root_fmt *row)
{
	const struct cell_seen seen = {.cell = s->edge, .word = s->word};

	/* Before the object is followed: is it all still there? */
	return unchanged(s) ? cell_take(c, &seen, object, row) : -EAGAIN;
}

int names_take(struct client *c, const struct names_spot *s, uint64_t object, struct root_fmt *row)
{
	int rc;

	client_read_begin(c);
	rc = take(c, s, object, row);
	client_read_end(c);
	return rc;
}

int names_lookup(struct client *c, uint64_t dir, const struct names_key *key, unsigned flags, struct root_fmt *row)
{
	struct names_spot s;
	int rc;

	client_read_begin(c);
	do {
		rc = find(c, dir, key, &s);
		if (!rc && !names_present(&s))
			rc = -ENOENT;
		if (!rc)
			rc = take(c, &s, s.kind == OBJECT_NAMED && !(flags & CXLSHM_INODE) ? s.data : s.inode, row);
	} while (rc == -EAGAIN);
	client_read_end(c);
	return rc;
}

/* ---- making entries and room ---- */

int names_entry_make(struct client *c, const struct names_key *key, uint64_t inode, uint64_t room,
		     struct root_fmt **out)
{
	const struct alloc_kind kind = {.kind = OBJECT_ENTRY, .slots = 1, .zero = 1};
	uint64_t bytes = sizeof(struct entry_fmt) + key->bytes;
	struct root_fmt *row, *held;
	struct entry_fmt *entry;
	int rc;

	if (room)
		bytes = ((bytes + 7) & ~7ull) + room;
	rc = alloc_object(c, bytes, &kind, &row);
	if (rc)
		return rc;
	entry = names_entry(c, a64_load_relaxed(&row->object));
	entry->hash = key->hash;
	entry->kind = object_kind(a128_value_relaxed(&off_object(c->pool, inode)->word));
	entry->name_bytes = key->bytes;
	memcpy(entry->name, key->text, key->bytes);
	persist(c->pool, entry, bytes);
	/* Crash: a private entry without an inode, dropped with its root. */
	CRASH_POINT(c, names, entry_filled);
	rc = root_take(c, &held);
	if (!rc) {
		rc = ref_attach(c, inode, held);
		if (!rc)
			ref_exchange_private(c, held, &entry->inode);
		root_give(c, held);
	}
	if (rc)
		ref_drop_row(c, row);
	else
		*out = row;
	return rc;
}

/*
 * A private node whose edge i refers to what the row does; the row is given back, and the node's is in *row.  Its edges have
 * stamps from the beginning, unlike free memory: see names_prune().
 */
static int node_make(struct client *c, uint32_t i, struct root_fmt **row)
{
	const struct alloc_kind kind = {.kind = OBJECT_NODE, .slots = NODE_EDGES, .cells = 1, .zero = 1};
	struct root_fmt *node;
	struct cell_fmt *cells;
	int rc;

	rc = alloc_object(c, sizeof(struct node_fmt), &kind, &node);
	if (rc)
		return rc;
	cells = node_cells(c, a64_load_relaxed(&node->object));
	for (uint32_t k = 0; k < NODE_EDGES; k++)
		a128_store_stamp_release(&cells[k].word, era_stamp(c));
	persist(c->pool, cells, sizeof(struct node_fmt));
	era_bump(c);	/* that era is used up */
	/* Crash: a private node, dropped with its root. */
	ref_exchange_private(c, *row, object_slot(off_object(c->pool, a64_load_relaxed(&node->object)), OBJECT_CELLS, i));
	root_give(c, *row);
	*row = node;
	return 0;
}

int names_split(struct client *c, const struct names_spot *s, uint64_t hash)
{
	uint32_t level = s->level + 1;
	struct root_fmt *row;
	int rc;

	while (level < NAMES_LEVELS && names_nibble(s->hash, level) == names_nibble(hash, level))
		level++;
	/* Equal as far as they go: one of them is in the wrong place. */
	if (level == NAMES_LEVELS)
		return -EUCLEAN;
	rc = root_take(c, &row);
	if (rc)
		return rc;
	rc = names_take(c, s, s->entry, row);
	for (; !rc && level > s->level; level--)
		rc = node_make(c, names_nibble(s->hash, level), &row);
	CRASH_POINT(c, names, split_built);
	/*
	 * Pairs: read_edge().  Crash before: a private chain, dropped with its root, and with it the second reference to the
	 * entry.  After: the row has the edge's old reference to the entry instead.
	 */
	if (!rc)
		rc = cell_exchange(c, s->edge, s->word, row, NULL);
	ref_drop_row(c, row);
	return rc;
}

/* ---- giving room back ---- */

/*
 * Write the edge that holds the spot's node once more, so that who began to take the node out before does not.  0: it is
 * not as seen.  An edge of the directory itself is never frozen but in a damaged pool.
 * Pairs: freeze(), which comes after the load of that edge.  Crash before and after: still frozen.
 */
static int thaw(struct client *c, const struct names_spot *s)
{
	int done = !s->up || era_cas(c, &s->up->word, s->up_word, s->up_word.value);

	CRASH_POINT(c, names, thawed);
	era_bump(c);
	return done;
}

int names_exchange(struct client *c, const struct names_spot *s, struct root_fmt *row, const struct todo_fmt *todo)
{
	if (s->word.value == EDGE_FROZEN && !thaw(c, s))
		return -EAGAIN;
	return cell_exchange(c, s->edge, s->word, row, todo);
}

/*
 * Freeze all edges of the spot's node, those that are frozen already, too: whoever froze them may have been thawed since.
 * 0: something is in it, or somebody came in between.
 * One era does for all, for each word is written once in it, and no record asks what became of it.
 * Pairs: names_exchange().  Crash: some edges are frozen, which keeps nobody out.
 */
static int freeze(struct client *c, const struct names_spot *s)
{
	struct cell_fmt *cells = node_cells(c, s->up_word.value);
	struct stamped seen[NODE_EDGES];
	uint32_t i;

	for (i = 0; i < NODE_EDGES; i++) {
		seen[i] = a128_load_acquire(&cells[i].word);
		/* Without a stamp, in a damaged pool: it could not be told from free memory. */
		if ((seen[i].value && seen[i].value != EDGE_FROZEN) || !seen[i].stamp)
			return 0;
	}
	/* Otherwise it was not the node that was read, but what is there now. */
	if (!in_place(s))
		return 0;
	for (i = 0; i < NODE_EDGES; i++) {
		if (!era_cas(c, &cells[i].word, seen[i], EDGE_FROZEN))
			break;
		CRASH_POINT(c, names, frozen);
	}
	era_bump(c);
	return i == NODE_EDGES;
}

int names_bare(const struct client *c, const struct names_spot *s)
{
	const struct cell_fmt *cells;

	if (!s->up)
		return 0;
	cells = node_cells(c, s->up_word.value);
	for (uint32_t i = 0; i < NODE_EDGES; i++)
		if (a128_value_relaxed(&cells[i].word) > EDGE_FROZEN)
			return 0;
	return 1;
}

void names_prune(struct client *c, uint64_t dir, uint64_t hash)
{
	struct root_fmt *row;
	int done = 0;

	/* From the lowest up: the one above may hold nothing then, either. */
	while (!done && !root_take(c, &row)) {
		struct names_spot s;

		client_read_begin(c);
		done = seek(c, dir, hash, &s) || s.entry || !s.up || !freeze(c, &s);
		/* Pairs: read_edge().  Crash before: a node without entries.  After: the row holds it, and it goes. */
		if (!done)
			done = cell_exchange(c, s.up, s.up_word, row, NULL) != 0;
		client_read_end(c);
		ref_drop_row(c, row);
	}
}
