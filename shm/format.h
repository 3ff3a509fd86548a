/* SPDX-License-Identifier: MIT */
/*
 * The pool's format: every struct that lies in the heap file, and nothing else.
 *
 *   offset 0            struct super_fmt            geometry, never changes, checksummed
 *   4096                struct shared_fmt           the few words all clients share
 *   8192                struct super_fmt            the copy
 *   12288               hint bitmaps                one bit a segment: perhaps free; then again as many
 *                                                  words: perhaps an orphan (see hint_words())
 *   segment_table_off   struct segment_fmt[]        one a segment
 *   slots_off           slot areas, cid 1..N        struct slot_fmt | era row | first roots
 *   first_segment       segments, each: header page (struct page_fmt[64]), then 63 pages
 *
 * Segment i is at i << segment_shift; those below first_segment overlap the areas above and are RESERVED.
 * Page p of a segment is at segment + (p << page_shift); a segment has 64 pages, whatever its size.
 *
 * Comments on fields: W: who writes it, by what right; R: who reads it.  "Slot" is the client of the slot,
 * or who holds the slot's lock and acts as it.  All numbers are little-endian; offsets are from the start
 * of the heap file; 0 is no offset.
 */
#ifndef CXLSHM_FORMAT_H
#define CXLSHM_FORMAT_H

#include <assert.h>
#include <stddef.h>

#include "atomic.h"

#define FORMAT_MAGIC 0x006d68736c786300ull	/* "\0cxlshm\0" */
#define FORMAT_VERSION 4u
#define FORMAT_COMPAT 0ull	/* feature bits that may be ignored */
#define FORMAT_INCOMPAT 0ull	/* feature bits that must be known */

#define SUPER_OFF 0ull
#define SHARED_OFF 4096ull
#define SUPER_COPY_OFF 8192ull
#define HINTS_OFF 12288ull

#define PAGES_PER_SEGMENT 64u
#define SEGMENT_SHIFT_MIN 18u
#define SEGMENT_SHIFT_MAX 22u
#define PAGE_SHIFT_BELOW_SEGMENT 6u
#define SLOTS_MAX 4093u
#define FORMAT_ALIGN 4096ull
#define OFFSET_BITS 48u

/* ---- stamps: {cid:12, era:52} ---- */
#define STAMP_ERA_BITS 52u
#define STAMP_ERA_MASK ((1ull << STAMP_ERA_BITS) - 1)
#define STAMP_CID_NONE 0u	/* never written by a client */
#define STAMP_CID_LINK 0xfffu	/* the era is a link, an offset: matches nobody's stamp */
#define STAMP_REPAIRED 1ull	/* NONE, and unlike memory of zeros: of a cell that a repair wrote */
#define STAMP_LINK ((uint64_t)STAMP_CID_LINK << STAMP_ERA_BITS)

static inline uint64_t stamp_make(uint32_t cid, uint64_t era)
{
	return (uint64_t)cid << STAMP_ERA_BITS | era;
}

static inline uint32_t stamp_cid(uint64_t stamp)
{
	return (uint32_t)(stamp >> STAMP_ERA_BITS);
}

static inline uint64_t stamp_era(uint64_t stamp)
{
	return stamp & STAMP_ERA_MASK;
}

static inline uint64_t stamp_link(uint64_t off)
{
	return STAMP_LINK | off;
}

static inline uint64_t stamp_link_off(uint64_t stamp)
{
	return stamp & STAMP_ERA_MASK;
}

/* ---- superblock ---- */
struct super_fmt {	/* W: mkfs, before the magic; R: who opens the pool */
	uint64_t magic;
	uint32_t version;
	uint32_t super_bytes;
	uint64_t compat;
	uint64_t incompat;
	uint64_t fingerprint;	/* of the sizes and offsets of every struct here */
	uint8_t uuid[16];
	uint64_t heap_bytes;
	uint64_t pool_bytes;	/* heap and extents together */
	uint32_t segment_shift;
	uint32_t page_shift;
	uint32_t segments;	/* entries of the segment table */
	uint32_t first_segment;
	uint64_t segment_table_off;
	uint64_t slots_off;
	uint64_t slot_stride_bytes;
	uint64_t era_row_off;	/* within a slot's area */
	uint64_t roots_off;	/* within a slot's area */
	uint32_t slots;	/* cids 1 to this */
	uint32_t failure_domain;
	uint64_t root_dir;	/* object offset of the root directory */
	uint64_t hash_key[2];	/* of the directories' SipHash */
	uint64_t created_ns;
	char numa[64];
	uint8_t zero[256];	/* W: nobody; checked */
	uint64_t checksum;	/* of all above */
};
static_assert(offsetof(struct super_fmt, heap_bytes) == 56, "format");
static_assert(offsetof(struct super_fmt, slots_off) == 96, "format");
static_assert(offsetof(struct super_fmt, root_dir) == 136, "format");
static_assert(offsetof(struct super_fmt, numa) == 168, "format");
static_assert(offsetof(struct super_fmt, checksum) == 488, "format");
static_assert(sizeof(struct super_fmt) == 496, "format");

#define SEGMENTS_DIRTY 1u
#define SEGMENTS_TRIMMING 2u

struct shared_fmt {
	struct a128 dir_move;	/* 0 | stamped {cid of the client moving a directory}; W: names, era_cas; R: same */
	uint8_t pad0[48];
	struct a64 slots_high;	/* 64 | highest cid ever claimed; W: who claims a slot, only upwards, before
				   touching it; R: publish checks and recovery, acquire */
	uint8_t pad1[56];
	struct a32 clients_sequence;	/* 128 | futex; W: join and leave, +1; R: cxlshm_wait_clients() */
	struct a32 segments_dirty;	/* 132 | a hint: segments are FREE_DIRTY; W: who has left one so, 1; who trims them,
					   cid << 8 | 2 before and, if it still is that, 0 behind; R: who leaves,
					   recovers, or calls cxlshm_trim() */
	uint8_t pad3[56];
	struct a64 gone_allocations;	/* 192 | counters of clients that are gone; W: leave and recovery, add; */
	struct a64 gone_frees;	/* R: statistics.  Not kept exact across a death in between */
	struct a64 gone_attaches;
	struct a64 clients_recovered;
	struct a64 references_recovered;
	uint8_t pad4[24];
};
static_assert(offsetof(struct shared_fmt, slots_high) == 64, "format");
static_assert(offsetof(struct shared_fmt, clients_sequence) == 128, "format");
static_assert(offsetof(struct shared_fmt, gone_allocations) == 192, "format");
static_assert(sizeof(struct shared_fmt) == 256, "format");

/* ---- redo records ---- */
#define DEBTS 5u

/*
 * What a client still owes when it is between two transactions of one operation on names.
 * Part of the slot (what is owed now) and of the record (what will be owed once it is applied).
 */
struct todo_fmt {
	uint64_t debt[DEBTS];	/* offsets of counter words to lower by one; | DEBT_REVIVE */
	uint64_t unlink_dir;	/* directory and entry (both held by roots of the client): remove the entry */
	uint64_t unlink_entry;	/* from the directory if it is still there.  unlink_dir 0: nothing to remove */
	uint64_t rename_entry;	/* of a rename: the new entry (held likewise), which says more; see rename_fmt */
};
static_assert(sizeof(struct todo_fmt) == 64, "format");

#define DEBT_REVIVE 1ull	/* the word belongs to a directory about to be replaced: make it live again */

enum redo_op {	/* names of operations a record can carry; see redo.h for the meaning of its fields */
	REDO_NONE = 0,
	REDO_ATTACH,
	REDO_DETACH,
	REDO_EXCHANGE,
	REDO_MOVE,
	REDO_PUSH,
	REDO_POP,
	REDO_COLLECT,
	REDO_SEGMENT_CLAIM,
	REDO_SEGMENT_RELEASE,
	REDO_SPAN_GROW,
	REDO_SPAN_SHRINK,
	REDO_COUNT,
	REDO_EXTENT,
	REDO_DIR_MOVE,
	REDO_OPS
};

struct redo_fmt {	/* all W: the slot; R: who recovers it */
	struct a64 era;	/* 0 | sealed if equal to the slot's own era; release, after the fields below */
	uint16_t op;	/* 8 | enum redo_op */
	uint16_t has_todo;	/* 10 | todo replaces the slot's when the record is applied */
	uint32_t phase;	/* 12 | DETACH: 1 once the count is known to have reached zero */
	uint64_t word;	/* 16 | the stamped word whose CAS commits; 0: committed by its seal */
	uint64_t loc;	/* 24 | the 8-byte word that holds the reference */
	uint64_t object;	/* 32 | */
	uint64_t next;	/* 40 | */
	uint64_t aux;	/* 48 | */
	uint64_t look;	/* 56 | of the last PUSH or SEGMENT_RELEASE to ORPHAN: the segment that page_look() is due for
			   behind it; no other record changes it; valid whether or not one is sealed */
	struct todo_fmt todo;	/* 64 | */
};
static_assert(offsetof(struct redo_fmt, phase) == 12, "format");
static_assert(offsetof(struct redo_fmt, word) == 16, "format");
static_assert(offsetof(struct redo_fmt, look) == 56, "format");
static_assert(offsetof(struct redo_fmt, todo) == 64, "format");
static_assert(sizeof(struct redo_fmt) == 128, "format");

/* ---- cells and roots ---- */
struct cell_fmt {	/* a counted reference that many clients may change */
	struct a128 word;	/* {object offset, stamp}; W: anybody, era_cas; R: anybody */
};

struct root_fmt {
	struct a64 object;	/* 0 | object offset; 0: none; ROOT_FREE | offset of the next free row: none, and free;
				   W: slot; R: recovery, check, inspection */
	struct a64 local;	/* 8 | local copies, 1 in a free row; W, R: slot; means nothing to recovery */
};
static_assert(sizeof(struct root_fmt) == 16, "format");

#define ROOT_FREE (1ull << 63)

/* The object that a row refers to, 0: none. */
static inline uint64_t root_object(const struct root_fmt *row)
{
	uint64_t object = a64_load_relaxed(&row->object);

	return object & ROOT_FREE ? 0 : object;
}

struct roots_fmt {	/* head of a page of further roots; rows fill the page behind it */
	struct a64 next;	/* 0 | next such page of this slot; W: slot, before it is linked, and to leave out one without rows
				   in use; R: recovery, inspection */
	uint64_t rows;	/* 8 | W: slot, before it is linked; R: recovery */
};
static_assert(sizeof(struct roots_fmt) == 16, "format");

/* ---- slots ---- */
#define EXPORTS 64u
#define CLIENT_NAME_BYTES 32u

enum slot_state {
	SLOT_FREE = 0,
	SLOT_CLAIMED = 1	/* in use, or to be recovered if nobody holds its lock */
};

struct slot_fmt {
	struct a64 state;	/* 0 | enum slot_state in the low 8 bits, incarnation above; W: holder of the
				   slot's lock; R: anybody */
	struct a64 pid;	/* 8 | W: slot when it joins; R: inspection, monitors */
	struct a64 joined_ns;	/* 16 | same */
	struct a64 taken_over;	/* 24 | 1: its client died, who has its lock recovers it; W: who takes over 1, who claims 0;
				   R: who must know whether its client lives */
	char name[CLIENT_NAME_BYTES];	/* 32 | same; always NUL-terminated */

	struct a64 reading;	/* 64 | 1 while the slot's client follows offsets it holds no reference for;
				   W: slot; R: who gives memory back (segment.c), after membarrier */
	uint8_t pad1[56];

	struct redo_fmt redo;	/* 128 */

	struct a64 dead_top;	/* 256 | first object of the dead list; W, R: slot */
	struct a64 segments_head;	/* 264 | index of the first owned segment; W, R: slot */
	struct a64 roots_next;	/* 272 | offset of the first page of further roots; W: slot; R: recovery */
	struct a64 moving_dir;	/* 280 | 1 if the slot holds shared_fmt.dir_move; W: slot */
	struct todo_fmt todo;	/* 288 | W, R: slot */
	uint8_t pad2[32];

	struct a64 allocations;	/* 384 | counters; W: slot; R: statistics */
	struct a64 frees;
	struct a64 attaches;
	struct a64 recoveries;
	struct a64 segments_owned;
	uint8_t pad3[24];

	uint8_t pad4[576];
	struct cell_fmt exports[EXPORTS];	/* 1024 | W: slot puts in, anybody takes out; era_cas */
	uint8_t pad5[2048];
};
static_assert(offsetof(struct slot_fmt, reading) == 64, "format");
static_assert(offsetof(struct slot_fmt, redo) == 128, "format");
static_assert(offsetof(struct slot_fmt, dead_top) == 256, "format");
static_assert(offsetof(struct slot_fmt, todo) == 288, "format");
static_assert(offsetof(struct slot_fmt, allocations) == 384, "format");
static_assert(offsetof(struct slot_fmt, exports) == 1024, "format");
static_assert(sizeof(struct slot_fmt) == 4096, "format");

#define SLOT_ROOTS_BYTES 4096u	/* the first roots: rows 0..255 */

/* The era row of cid i is struct a64[slots + 1] at slot area + era_row_off: entry j is the highest era of
 * cid j that i has seen, entry i its own.  W: slot; R: recovery, acquire. */

/* ---- segments ---- */
enum segment_state {
	SEGMENT_FREE = 0,	/* memory given back, reads as zero once reserved again */
	SEGMENT_FREE_DIRTY = 1,	/* memory kept and not zero; seldom a hole */
	SEGMENT_OWNED = 2,
	SEGMENT_ORPHAN = 3,	/* its owner is gone, some of its blocks are not */
	SEGMENT_BODY = 4,	/* part of the span that a lower segment heads */
	SEGMENT_RESERVED = 5,	/* superblock, slots and so on */
	SEGMENT_CHANGING = 6	/* owned, and its memory, or its span's, may be missing: being reserved or given back */
};

/* 64-bit words in each of the two hint bitmaps.  A bit may be missing or too many: segment.c looks at the
 * word itself, and walks all of them before it says that the pool is full. */
static inline uint32_t hint_words(uint32_t segments)
{
	return (segments + 63) / 64;
}

/* value of segment_fmt.word: state:8, owner cid:16 (OWNED, CHANGING), head segment:32 (BODY) */
static inline uint64_t segment_value(enum segment_state state, uint32_t owner, uint32_t head)
{
	return (uint64_t)state | (uint64_t)owner << 8 | (uint64_t)head << 32;
}

static inline enum segment_state segment_value_state(uint64_t value)
{
	return (enum segment_state)(value & 0xff);
}

static inline uint32_t segment_value_owner(uint64_t value)
{
	return (uint32_t)(value >> 8 & 0xffff);
}

static inline uint32_t segment_value_head(uint64_t value)
{
	return (uint32_t)(value >> 32);
}

struct segment_fmt {
	struct a128 word;	/* 0 | W: claimers and the owner, era_cas; R: anybody */
	struct a64 next;	/* 16 | next segment of the same owner, index; W: owner; R: owner */
	struct a64 span;	/* 24 | segments in the span this one heads, 0 or 1: itself only; W: owner; R: owner, recovery, check */
	struct a128 remote;	/* 32 | {first block of the remote list, stamp}; W: who frees a block of another's
				   segment (push), the owner (collect), era_cas; R: same */
	uint8_t pad[16];
};
static_assert(offsetof(struct segment_fmt, remote) == 32, "format");
static_assert(sizeof(struct segment_fmt) == 64, "format");

enum page_kind {
	PAGE_FREE = 0,
	PAGE_BLOCKS = 1,	/* first page of a run that holds blocks of one size */
	PAGE_BODY = 2,	/* further page of such a run */
	PAGE_ROOTS = 3	/* root rows of the owner */
};

/*
 * All but `kind` and the geometry is the owner's own bookkeeping: an adopter rebuilds it from the headers of
 * the blocks.  Entry 0 describes the header page itself and is not used.
 */
struct page_fmt {
	struct a32 kind;	/* 0 | enum page_kind; W: owner, release, after the geometry; R: anybody who holds a
				   reference to a block in it, check */
	uint32_t pages;	/* 4 | in the run (first page), in all segments of a span it may exceed 64 */
	uint32_t head;	/* 8 | BODY: index of the first page of the run */
	uint32_t first;	/* 12 | bytes from the page's start to its first block */
	uint64_t block_bytes;	/* 16 | header included */
	uint32_t capacity;	/* 24 | blocks that fit */
	struct a32 frontier;	/* 28 | blocks whose headers are valid; W: owner, release, after them; R: adopter, check */
	uint64_t free;	/* 32 | the owner's free list: stamp_link() of its first block, 0: empty; the headers' stamps go on */
	uint32_t used;	/* 40 | blocks not on it, below the frontier; PAGE_UNLISTED above; of entry 0: runs that count */
	uint32_t flags;	/* 44 | of entry 0: PAGE_ADOPTED; of others: RUN_EMPTIED; both the owner's alone */
	uint32_t next;	/* 48 | run's neighbours in the owner's list of runs with room: segment << 6 | page */
	uint32_t prev;	/* 52 | */
	uint32_t bin;	/* 56 | size class, or BIN_NONE */
	uint32_t pad;
};
static_assert(offsetof(struct page_fmt, block_bytes) == 16, "format");
static_assert(offsetof(struct page_fmt, free) == 32, "format");
static_assert(sizeof(struct page_fmt) == 64, "format");

/* ---- objects ---- */
enum object_state {
	OBJECT_FREE = 0,	/* on the owner's free list; an all-zero header is free */
	OBJECT_LIVE = 1,
	OBJECT_DEAD = 2,	/* count zero, on its last holder's dead list */
	OBJECT_LIMBO = 3	/* on, or on its way to, its segment's remote list; next is in the payload */
};

enum object_kind {
	OBJECT_DATA = 0,	/* slots, then the application's bytes */
	OBJECT_FILE = 1,	/* inode; bytes are an extent */
	OBJECT_DIRECTORY = 2,
	OBJECT_SYMLINK = 3,
	OBJECT_SPECIAL = 4,
	OBJECT_NAMED = 5,	/* inode of a DATA or QUEUE object */
	OBJECT_NODE = 6,	/* inner node of a directory */
	OBJECT_ENTRY = 7,	/* directory entry */
	OBJECT_XATTRS = 8,
	OBJECT_QUEUE = 9,
	OBJECT_KINDS
};

/*
 * The header in front of each payload.
 * word.value: count:32, state:3, exposed:1, kind:4, cells:1, slack:1, slots:22
 *   exposed  another client may hold or find it; set before its reference is stored anywhere but in a root
 *   cells    the slots are cells, otherwise 8-byte fields
 *   slack    the payload is shorter than the block: see object_size() in alloc.c
 * word.stamp: of the last write, or a link (STAMP_CID_LINK) while FREE, DEAD or LIMBO.
 * W: LIVE and exposed: any holder, era_cas; otherwise its only holder, reclaimer or owner; R: anybody.
 */
struct object_fmt {
	struct a128 word;
};
static_assert(sizeof(struct object_fmt) == 16, "format");

#define OBJECT_COUNT_MAX 0xffffffffull
#define OBJECT_COUNT_MASK 0xffffffffull
#define OBJECT_STATE_SHIFT 32u
#define OBJECT_STATE_MASK (7ull << OBJECT_STATE_SHIFT)
#define OBJECT_EXPOSED (1ull << 35)
#define OBJECT_KIND_SHIFT 36u
#define OBJECT_CELLS (1ull << 40)
#define OBJECT_SLACK (1ull << 41)
#define OBJECT_SLOTS_SHIFT 42u
#define OBJECT_SLOTS_MAX ((1u << 22) - 1)

static inline uint32_t object_count(uint64_t value)
{
	return (uint32_t)value;
}

static inline enum object_state object_state(uint64_t value)
{
	return (enum object_state)(value >> OBJECT_STATE_SHIFT & 7);
}

static inline uint64_t object_with_state(uint64_t value, enum object_state state)
{
	return (value & ~OBJECT_STATE_MASK) | (uint64_t)state << OBJECT_STATE_SHIFT;
}

static inline enum object_kind object_kind(uint64_t value)
{
	return (enum object_kind)(value >> OBJECT_KIND_SHIFT & 15);
}

static inline uint32_t object_slots(uint64_t value)
{
	return (uint32_t)(value >> OBJECT_SLOTS_SHIFT);
}

static inline uint64_t object_with_slots(uint64_t value, uint32_t slots)
{
	return (value & ((1ull << OBJECT_SLOTS_SHIFT) - 1)) | (uint64_t)slots << OBJECT_SLOTS_SHIFT;
}

/* Bytes between two slots of this object. */
static inline uint64_t object_slot_bytes(uint64_t value)
{
	return value & OBJECT_CELLS ? 16 : 8;
}

/* ---- inodes: FILE, DIRECTORY, SYMLINK, SPECIAL, NAMED.  Payload: cells, then struct attr_fmt ---- */
#define INODE_XATTRS 0u	/* cell: an XATTRS object */
#define DIR_PARENT 1u	/* cell: the directory it is in; empty in the root directory */
#define DIR_EDGES 2u	/* 16 cells: the trie's root node */
#define NODE_EDGES 16u
#define DIR_CELLS (DIR_EDGES + NODE_EDGES)
#define NAMED_DATA 1u	/* cell: the object; never changes */
#define NAMED_CELLS 2u
#define PLAIN_CELLS 1u

/* value of a counter word: count:48, state:16 */
#define COUNTER_MASK ((1ull << 48) - 1)
#define COUNTER_REMOVED (1ull << 48)	/* of attr_fmt.entries: the directory is removed */

struct attr_fmt {
	struct a128 links;	/* 0 | {names, stamp}; W: era_cas; R: stat */
	struct a128 entries;	/* 16 | DIRECTORY: {entries | COUNTER_REMOVED, stamp}; W: era_cas; R: rmdir, stat */
	struct a64 mode;	/* 32 | st_mode; W: any holder, each word by itself; R: stat.  The same down to btime */
	struct a64 owner;	/* 40 | uid in the low half, gid above */
	struct a64 atime_ns;	/* 48 | signed, since 1970; of a FILE the extent's own times count */
	struct a64 mtime_ns;
	struct a64 ctime_ns;
	struct a64 btime_ns;
	struct a64 extent;	/* 80 | FILE: the extent's id, 0: none yet; W: its maker; R: anybody */
	struct a64 length;	/* 88 | SYMLINK: bytes of the target, which follows; W: its maker */
};
static_assert(offsetof(struct attr_fmt, mode) == 32, "format");
static_assert(offsetof(struct attr_fmt, extent) == 80, "format");
static_assert(sizeof(struct attr_fmt) == 96, "format");

/* ---- directories ---- */
#define HASH_BITS 60u	/* 15 levels of 4 bits, the highest first */

struct entry_fmt {	/* payload of an ENTRY: one field, then this without change until it dies */
	struct a64 inode;	/* 0 | field 0; W: its maker; R: lookups */
	uint64_t hash;	/* 8 | */
	uint32_t kind;	/* 16 | enum object_kind of the inode */
	uint32_t name_bytes;	/* 20 | */
	char name[];	/* 24 | no NUL */
};
static_assert(offsetof(struct entry_fmt, name) == 24, "format");

struct rename_fmt {	/* behind the name, on 8 bytes, of an entry that a rename makes; W, R: the slot that renames, */
	uint64_t to_dir;	/* as long as its todo names the entry.  0 | directory that the entry is put into */
	uint64_t replaced;	/* 8 | the entry it replaces there, 0: none to be put back (or, if there is a put, no more:
				   what was replaced is to get a name of its own) */
	uint64_t put;	/* 16 | the entry to put in place of the old one, 0: none */
};
static_assert(sizeof(struct rename_fmt) == 24, "format");

/*
 * In an edge of a node: it is empty, and the node is being taken out, or was to be.  What is put here waits for a write of
 * the edge that holds the node: names_exchange().  No object's offset.
 */
#define EDGE_FROZEN 1ull

struct node_fmt {	/* payload of a NODE; no edge's stamp is ever 0: names_prune() */
	struct cell_fmt edges[NODE_EDGES];
};

/* ---- queues: payload is capacity cells, then this ---- */
/*
 * Blocks start on 16 bytes only, so what is written in every call is kept apart by distance: 128 bytes, which is two
 * lines, between the words for all, the sender's and the receiver's, and 64 after the last cell.
 */
struct queue_fmt {
	uint8_t pad0[64];
	uint32_t capacity;	/* 64 | W: its maker */
	uint32_t flags;	/* CXLSHM_SPSC; W: its maker */
	struct a32 send_futex;	/* 72 | +1 when room appears while somebody waits; W: receivers */
	struct a32 send_waiting;	/* 76 | 1: perhaps somebody waits for room; W: senders 1, receivers 0 */
	struct a32 receive_futex;	/* 80 | the same, of those who wait for a reference */
	struct a32 receive_waiting;	/* 84 | W: receivers 1, senders 0 */
	uint8_t pad1[8];
	struct a128 sender;	/* 96 | SPSC: {cid:12, incarnation above, stamp}; W: era_cas; R: senders */
	struct a128 receiver;	/* 112 | the same */
	uint8_t pad2[112];
	struct a64 tail;	/* 240 | next position to send to; W: see queue.c; R: both */
	uint8_t pad3[120];
	struct a64 head;	/* 368 | next position to receive from; W: see queue.c; R: both */
	uint8_t pad4[56];
};
static_assert(offsetof(struct queue_fmt, capacity) == 64, "format");
static_assert(offsetof(struct queue_fmt, sender) == 96, "format");
static_assert(offsetof(struct queue_fmt, tail) == 240, "format");
static_assert(offsetof(struct queue_fmt, head) == 368, "format");
static_assert(sizeof(struct queue_fmt) == 432, "format");

#endif
